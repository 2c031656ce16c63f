package dev.tensorpress.structure;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Predicate;
import java.util.function.ToLongFunction;

/**
 * The indices of an axis, a node of a union-find: a set of its own, a product of sets (the first one outermost, as Reshape counts), or sets one after
 * another (as Concat puts them). What turns out to be the same set is {@link #unify unified}; what turns out to be made of others is bound to these.
 */
final class IndexSet {
    /** Marks of sets: what is done with them. */
    static final int CHANNELS = 1;
    static final int HEADS = 2;
    static final int HEAD_FEATURES = 4;
    static final int HIDDEN = 8;
    static final int RESIDUAL = 16;
    /** Something else than a product with a constant is computed over the indices. */
    static final int STATISTICS = 32;
    /** Positions, gates and the like: nothing that anybody would want to remove. */
    static final int PLAIN = 64;
    static final int ROWS = 128;

    /** Sets that an axis may be made of; what is finer is left alone. */
    private static final int FINEST = 256;
    private static final int DEEPEST = 256;

    private static final String TOO_FINE = "the axis is made of too many parts";

    private enum Kind { OWN, PRODUCT, SUM }

    private final Quantity size;
    private Kind kind;
    private IndexSet[] parts;
    /** Null of those that stand for themselves. */
    private IndexSet parent;
    private int marks;
    private String obstacle;
    /** Whether it was too fine: what is cut out of it is not followed. */
    private boolean givenUp;
    /** Sets of their own in it, each as often as it occurs, and how deep they lie; at most a little more than allowed. */
    private int leaves;
    private int height;
    /** Sets that it is a part of. */
    private List<IndexSet> users = new ArrayList<>(2);

    private IndexSet(Quantity size, Kind kind, IndexSet... parts) {
        this.size = size;
        this.kind = kind;
        this.parts = parts;
        measure();
    }

    private void measure() {
        leaves = kind == Kind.OWN ? 1 : 0;
        height = 0;
        for (IndexSet part : parts) {
            IndexSet p = part.find();
            leaves = Math.min(FINEST + 1, leaves + p.leaves);
            height = Math.max(height, p.height + 1);
        }
    }

    private boolean tooFine() {
        return leaves > FINEST || height > DEEPEST;
    }

    private static IndexSet givenUp(Quantity size) {
        IndexSet s = of(size);
        s.givenUp = true;
        s.block(TOO_FINE);
        return s;
    }

    private static boolean allGivenUp(List<IndexSet> parts) {
        return !parts.isEmpty() && parts.stream().allMatch(p -> p.find().givenUp);
    }

    static IndexSet of(Quantity size) {
        return new IndexSet(size, Kind.OWN);
    }

    static IndexSet of(long size) {
        return of(Quantity.of(size));
    }

    /** The product, the first one outermost. */
    static IndexSet product(IndexSet... sets) {
        List<IndexSet> all = new ArrayList<>();
        Quantity size = Quantity.ONE;
        for (IndexSet s : sets) {
            if (s.size.is(0)) {
                return blocked(0, "it is empty");
            }
            if (!s.size.is(1)) {
                all.add(s);
                size = size == null ? null : size.times(s.size).orElse(null);
            }
        }
        if (all.size() == 1) {
            return all.getFirst();
        }
        return size == null ? of(Quantity.symbol("?")).obstacle("more indices than can be counted", all) : made(size, Kind.PRODUCT, all);
    }

    /** One after another; a part is always smaller than the whole, so that no set is made of itself. */
    static IndexSet sum(List<IndexSet> sets, Quantity size) {
        List<IndexSet> all = sets.stream().filter(s -> !s.size.is(0)).toList();
        if (!all.stream().allMatch(s -> s.size.known()) || !size.is(all.stream().mapToLong(s -> s.size.factor()).sum())) {
            return of(size).obstacle("an axis of unknown size is part of the same one", all);
        }
        return all.size() == 1 ? all.getFirst() : made(size, Kind.SUM, all);
    }

    private static IndexSet made(Quantity size, Kind kind, List<IndexSet> parts) {
        if (allGivenUp(parts)) {
            return givenUp(size);
        }
        IndexSet s = parts.isEmpty() ? of(size) : new IndexSet(size, kind, parts.toArray(IndexSet[]::new));
        if (s.tooFine()) {
            return givenUp(size).obstacle(TOO_FINE, parts);
        }
        parts.forEach(p -> p.find().users.add(s));
        return s;
    }

    private IndexSet obstacle(String reason, List<IndexSet> others) {
        others.forEach(o -> o.block(reason));
        block(reason);
        return this;
    }

    /** The set that this one is by now. */
    IndexSet find() {
        IndexSet root = this;
        while (root.parent != null) {
            root = root.parent;
        }
        for (IndexSet s = this; s != root;) {
            IndexSet next = s.parent;
            s.parent = root;
            s = next;
        }
        return root;
    }

    Quantity size() {
        return size;
    }

    /** Why nothing can be removed of it; null if nothing is known against that. Of a set of its own. */
    String obstacle() {
        return find().obstacle;
    }

    int marks() {
        return find().marks;
    }

    /** Says that nothing can be removed of it; the first reason stays. */
    void block(String reason) {
        each(s -> {
            boolean first = s.obstacle == null;
            s.obstacle = first ? reason : s.obstacle;
            return first;
        });
    }

    /** Says what is done with it. */
    void mark(int more) {
        each(s -> {
            boolean first = (s.marks & more) != more;
            s.marks |= more;
            return first;
        });
    }

    /** Visits it and its parts, as long as a visit says so. */
    private void each(Predicate<IndexSet> visit) {
        ArrayDeque<IndexSet> waiting = new ArrayDeque<>(List.of(find()));
        while (!waiting.isEmpty()) {
            IndexSet s = waiting.removeLast();
            if (visit.test(s)) {
                for (IndexSet p : s.parts) {
                    waiting.add(p.find());
                }
            }
        }
    }

    private void inherit(IndexSet from) {
        if (from.obstacle != null) {
            block(from.obstacle);
        }
        mark(from.marks);
    }

    /** Both are the same set from now on, index by index. */
    void unify(IndexSet other) {
        // Not by calls within calls, of which there could be thousands.
        ArrayDeque<IndexSet[]> waiting = new ArrayDeque<>();
        waiting.add(new IndexSet[] {this, other});
        while (!waiting.isEmpty()) {
            IndexSet[] both = waiting.removeFirst();
            unify(both[0].find(), both[1].find(), waiting);
        }
    }

    /** @param waiting for pairs that have to be the same then */
    private static void unify(IndexSet a, IndexSet b, Deque<IndexSet[]> waiting) {
        if (a == b) {
            return;
        }
        if (!a.size.equals(b.size)) {
            String reason = a.obstacle != null ? a.obstacle : b.obstacle != null ? b.obstacle : "sizes " + a.size + " and " + b.size + " meet";
            a.block(reason);
            b.block(reason);
        } else if (a.kind == Kind.OWN && (b.kind != Kind.OWN || a.users.size() <= b.users.size())) {
            a.become(b);
        } else if (b.kind == Kind.OWN) {
            b.become(a);
        } else {
            // First the same, so that what meets again below ends.
            IndexSet[] parts = a.parts;
            Kind of = a.kind;
            a.become(b);
            new IndexSet(a.size, of, parts).match(b, waiting);
        }
    }

    private void become(IndexSet other) {
        parent = other;
        other.inherit(this);
        parts = new IndexSet[0];
        List<IndexSet> changed = users;
        users = List.of();
        other.users.addAll(changed);
        ArrayDeque<IndexSet> waiting = new ArrayDeque<>(changed);
        while (!waiting.isEmpty()) {
            IndexSet s = waiting.removeLast();
            if (s.parent == null && s.kind != Kind.OWN && s.grown()) {
                waiting.addAll(s.users);
            }
        }
    }

    /** Whether it has become finer or deeper with one of its parts; too fine, it is a set of its own from now on, and nothing of it is removed. */
    private boolean grown() {
        int before = leaves;
        int deep = height;
        measure();
        if (tooFine()) {
            block(TOO_FINE);
            givenUp = true;
            kind = Kind.OWN;
            parts = new IndexSet[0];
            measure();
        }
        return leaves != before || height != deep;
    }

    /** Unifies what two sets are made of, neither of them a set of its own. */
    private void match(IndexSet b, Deque<IndexSet[]> waiting) {
        if (kind == Kind.PRODUCT && b.kind == Kind.PRODUCT) {
            matchProducts(b, waiting);
        } else if (kind == Kind.PRODUCT) {
            b.matchSum(this, waiting);
        } else {
            matchSum(b, waiting);
        }
    }

    private void cross(IndexSet b) {
        String reason = "axes are cut in two ways that do not fit: " + this + " and " + b;
        block(reason);
        b.block(reason);
    }

    /** Factors from the innermost one on: indices are the same modulo what both sizes are multiples of. */
    private void matchProducts(IndexSet b, Deque<IndexSet[]> waiting) {
        List<IndexSet> p = new ArrayList<>();
        List<IndexSet> q = new ArrayList<>();
        flatten(p);
        b.flatten(q);
        while (!p.isEmpty() && !q.isEmpty()) {
            IndexSet x = p.removeLast();
            IndexSet y = q.removeLast();
            if (x.size.equals(y.size)) {
                waiting.add(new IndexSet[] {x, y});
                continue;
            }
            Quantity common = x.size.dividedBy(y.size).isPresent() ? y.size : y.size.dividedBy(x.size).isPresent() ? x.size
                    : x.size.known() && y.size.known() ? Quantity.of(gcd(x.size.factor(), y.size.factor())) : Quantity.ONE;
            if (common.is(1)) {
                cross(b);
                return;
            }
            IndexSet inner = of(common);
            x.splitInto(p, inner, waiting);
            y.splitInto(q, inner, waiting);
        }
        if (!p.isEmpty() || !q.isEmpty()) {
            cross(b);
        }
    }

    private void splitInto(List<IndexSet> factors, IndexSet inner, Deque<IndexSet[]> waiting) {
        Quantity rest = size.dividedBy(inner.size).orElseThrow();
        if (rest.is(1)) {
            waiting.add(new IndexSet[] {this, inner});
        } else {
            IndexSet outer = of(rest);
            waiting.add(new IndexSet[] {this, product(outer, inner)});
            factors.add(outer);
        }
    }

    private static long gcd(long a, long b) {
        return b == 0 ? a : gcd(b, a % b);
    }

    /** Factors, none of them a product. */
    private void flatten(List<IndexSet> factors) {
        IndexSet s = parent == null ? this : find();
        if (s.kind == Kind.PRODUCT) {
            for (IndexSet p : s.parts) {
                p.flatten(factors);
            }
        } else {
            factors.add(s);
        }
    }

    /** This is a sum; the other is one or a product. */
    private void matchSum(IndexSet b, Deque<IndexSet[]> waiting) {
        long at = 0;
        for (IndexSet p : parts) {
            waiting.add(new IndexSet[] {p, b.slice(at, p.size.factor())});
            at += p.size.factor();
        }
    }

    /** A range of its indices, as a set that is part of it. */
    IndexSet slice(long from, long length) {
        IndexSet s = find();
        if (!s.size.known()) {
            s.block("a part of an axis of unknown size is taken");
            return blocked(length, "a part of an axis of unknown size");
        }
        if (from == 0 && length == s.size.factor()) {
            return s;
        }
        if (length == 0) {
            return blocked(0, "it is empty");
        }
        return switch (s.kind) {
            case OWN -> s.givenUp ? givenUp(Quantity.of(length)) : s.cut(from, length);
            case SUM -> {
                List<IndexSet> all = new ArrayList<>();
                long at = 0;
                for (IndexSet p : s.parts) {
                    long begin = Math.max(from, at);
                    long end = Math.min(from + length, at + p.size.factor());
                    if (begin < end) {
                        all.add(p.slice(begin - at, end - begin));
                    }
                    at += p.size.factor();
                }
                yield sum(all, Quantity.of(length));
            }
            case PRODUCT -> s.sliceOfProduct(from, length);
        };
    }

    private IndexSet sliceOfProduct(long from, long length) {
        IndexSet outer = parts[0];
        IndexSet tail = product(Arrays.copyOfRange(parts, 1, parts.length));
        long inner = tail.size.factor();
        List<IndexSet> all = new ArrayList<>();
        long at = from;
        long end = from + length;
        while (at < end && all.size() < FINEST) {
            long offset = at % inner;
            if (offset == 0 && end - at >= inner) {
                long whole = (end - at) / inner;
                all.add(product(outer.slice(at / inner, whole), tail));
                at += whole * inner;
            } else {
                long part = Math.min(inner - offset, end - at);
                // One index of the outer set: what the range is of the inner ones, it is of each.
                outer.slice(at / inner, 1);
                all.add(tail.slice(offset, part));
                at += part;
            }
        }
        return sum(all, Quantity.of(length));
    }

    private static IndexSet blocked(long size, String reason) {
        IndexSet s = of(size);
        s.block(reason);
        return s;
    }

    private IndexSet cut(long from, long length) {
        IndexSet part = of(length);
        become(sum(List.of(of(from), part, of(size.factor() - from - length)), size));
        return part;
    }

    /** Sets of their own that it is made of, each once; what would be removed along two factors at once is blocked. */
    Set<IndexSet> leaves() {
        Set<IndexSet> all = new LinkedHashSet<>();
        leaves(all);
        return all;
    }

    private void leaves(Set<IndexSet> all) {
        IndexSet s = find();
        switch (s.kind) {
            case OWN -> all.add(s);
            case SUM -> {
                for (IndexSet p : s.parts) {
                    p.leaves(all);
                }
            }
            case PRODUCT -> {
                Set<IndexSet> seen = new LinkedHashSet<>();
                for (IndexSet p : s.parts) {
                    for (IndexSet leaf : p.leaves()) {
                        if (!seen.add(leaf)) {
                            leaf.block("it is multiplied by itself");
                        }
                    }
                }
                all.addAll(seen);
            }
        }
    }

    /** How many of its indices belong to one of a set of its own; 0 if that is not part of it. */
    long share(IndexSet leaf) {
        return shares().getOrDefault(leaf.find(), 0L);
    }

    /** How many of its indices belong to one of each set of its own that it is made of. */
    Map<IndexSet, Long> shares() {
        Map<IndexSet, Long> all = new HashMap<>();
        shares(1, all);
        return all;
    }

    private void shares(long times, Map<IndexSet, Long> all) {
        IndexSet s = find();
        if (s.kind == Kind.OWN) {
            all.merge(s, times, Long::sum);
        }
        for (IndexSet p : s.parts) {
            p.shares(s.kind == Kind.SUM ? times : times * (s.size.factor() / p.size.factor()), all);
        }
    }

    /** For each of its indices that of a set of its own to which it belongs, or -1. */
    int[] owners(IndexSet leaf) {
        IndexSet s = find();
        int[] all = new int[Math.toIntExact(s.size.factor())];
        Arrays.setAll(all, i -> s == leaf ? i : -1);
        int at = 0;
        int inner = all.length;
        for (IndexSet p : s.parts) {
            int size = Math.toIntExact(p.size.factor());
            inner /= s.kind == Kind.PRODUCT ? size : 1;
            if (p.share(leaf) > 0) {
                int[] part = p.owners(leaf);
                for (int i = 0; i < (s.kind == Kind.SUM ? size : all.length); i++) {
                    int owner = s.kind == Kind.SUM ? part[i] : part[i / inner % size];
                    all[at + i] = owner >= 0 ? owner : all[at + i];
                }
            }
            at += s.kind == Kind.SUM ? size : 0;
        }
        return all;
    }

    /** What removing says of sets of their own. */
    interface Kept {
        /** The indices that stay, sorted; null for all. */
        int[] of(IndexSet own);
    }

    /** The indices of this that stay, sorted; null for all. */
    int[] kept(Kept kept) {
        IndexSet s = find();
        switch (s.kind) {
            case OWN -> {
                return kept.of(s);
            }
            case SUM -> {
                int[][] each = new int[s.parts.length][];
                boolean all = true;
                int count = 0;
                for (int i = 0; i < each.length; i++) {
                    each[i] = s.parts[i].kept(kept);
                    all &= each[i] == null;
                    count += each[i] == null ? (int) s.parts[i].size.factor() : each[i].length;
                }
                if (all) {
                    return null;
                }
                int[] indices = new int[count];
                int n = 0;
                int at = 0;
                for (int i = 0; i < each.length; i++) {
                    int size = (int) s.parts[i].size.factor();
                    for (int k = 0; k < (each[i] == null ? size : each[i].length); k++) {
                        indices[n++] = at + (each[i] == null ? k : each[i][k]);
                    }
                    at += size;
                }
                return indices;
            }
            default -> {
                int[] indices = null;
                long inner = 1;
                for (int i = s.parts.length - 1; i >= 0; i--) {
                    int[] outer = s.parts[i].kept(kept);
                    Quantity size = s.parts[i].size;
                    if (outer != null || indices != null) {
                        indices = cross(outer, size, indices, inner);
                    }
                    inner *= size.factor();
                }
                return indices;
            }
        }
    }

    /** How many of its indices stay, if that is known of sets of their own; symbols count once. */
    long left(ToLongFunction<IndexSet> own) {
        IndexSet s = find();
        if (s.kind == Kind.OWN) {
            return own.applyAsLong(s);
        }
        long all = s.kind == Kind.SUM ? 0 : 1;
        for (IndexSet p : s.parts) {
            all = s.kind == Kind.SUM ? all + p.left(own) : all * p.left(own);
        }
        return all;
    }

    private static int[] cross(int[] outer, Quantity outerSize, int[] inner, long innerSize) {
        int p = outer == null ? Math.toIntExact(outerSize.factor()) : outer.length;
        int q = inner == null ? Math.toIntExact(innerSize) : inner.length;
        int[] all = new int[Math.multiplyExact(p, q)];
        int n = 0;
        for (int i = 0; i < p; i++) {
            for (int k = 0; k < q; k++) {
                all[n++] = Math.toIntExact((outer == null ? i : outer[i]) * innerSize + (inner == null ? k : inner[k]));
            }
        }
        return all;
    }

    /** Whether it and another one are equally long whatever is removed. */
    boolean asLongAs(IndexSet other) {
        if (find() == other.find()) {
            return true;
        }
        List<IndexSet> p = new ArrayList<>();
        List<IndexSet> q = new ArrayList<>();
        find().flatten(p);
        other.find().flatten(q);
        return p.size() == q.size() && q.containsAll(p) && p.containsAll(q) && p.stream().distinct().count() == p.size();
    }

    @Override
    public String toString() {
        IndexSet s = find();
        if (s.kind == Kind.OWN || s.leaves > 16) {
            return s.size.toString();
        }
        StringBuilder text = new StringBuilder("(");
        for (int i = 0; i < s.parts.length; i++) {
            text.append(i == 0 ? "" : s.kind == Kind.SUM ? " + " : " x ").append(s.parts[i]);
        }
        return text.append(')').toString();
    }
}
