package dev.tensorpress.structure;

import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.structure.Group.Part;
import dev.tensorpress.structure.Linker.Axis;
import dev.tensorpress.structure.Linker.Size;
import dev.tensorpress.structure.Linker.Work;
import java.util.List;
import java.util.stream.IntStream;

/** Links the axes of operators that compute all of attention, or of a part of it that knows heads. */
final class Attentions {
    private static final String BY_SIZE = "attention divides by the root of its size";

    private final Linker linker;

    Attentions(Linker linker) {
        this.linker = linker;
    }

    /** As {@link Linker} does: whether what is known was enough; null if the operator is not one of these. */
    Boolean linked(EditableNode n, Axis[] x) {
        return switch (Operators.key(n)) {
            case "com.microsoft.Attention" -> ofOne(n, x);
            case "com.microsoft.MultiHeadAttention" -> ofThree(n, x);
            case "com.microsoft.GroupQueryAttention" -> grouped(n, x);
            case "Attention" -> standard(n, x);
            case "RotaryEmbedding" -> rotated(n, x, 1);
            case "com.microsoft.RotaryEmbedding" -> rotated(n, x, 2);
            default -> null;
        };
    }

    private boolean given(EditableNode n, int from, int to) {
        return IntStream.range(from, Math.min(to, n.inputs().size())).anyMatch(i -> Linker.given(n, i));
    }

    private static boolean more(EditableNode n, int from) {
        return IntStream.range(from, n.outputs().size()).anyMatch(i -> !n.outputs().get(i).isEmpty());
    }

    private static Quantity attribute(EditableNode n, String name) {
        return Quantity.of(n.integer(name, 0));
    }

    /** @param heads attributes that say how many, and of what */
    private void heads(EditableNode n, IndexSet features, Size... heads) {
        features.mark(IndexSet.HEAD_FEATURES | IndexSet.STATISTICS);
        if (n.real("scale", 0) == 0) {
            features.block(BY_SIZE);
        }
        for (Size s : heads) {
            s.set().mark(IndexSet.HEADS);
            linker.sizes().add(s);
        }
    }

    private static Size count(EditableNode n, String attribute, IndexSet set) {
        return new Size(n, attribute, -1, set, Size.How.SIZE);
    }

    /** An input and the matrix of queries, keys and values. */
    private boolean ofOne(EditableNode n, Axis[] x) {
        Axis[] w = linker.operand(n, 1);
        Quantity heads = attribute(n, "num_heads");
        boolean more = IntStream.range(4, Operators.operands(n)).anyMatch(i -> Linker.given(n, Operators.operand(n, i))) || more(n, 1);
        Quantity each = w == null || w.length != 2 ? null : w[1].set().size().dividedBy(Quantity.of(3)).flatMap(v -> v.dividedBy(heads)).orElse(null);
        if (x.length != 3 || each == null || more || n.has("qkv_hidden_sizes") || n.integer("do_rotary", 0) != 0) {
            return false;
        }
        IndexSet head = IndexSet.of(heads);
        IndexSet features = IndexSet.of(each);
        x[2].set().unify(w[0].set());
        w[1].set().unify(IndexSet.product(Linker.plain(Quantity.of(3), "queries, keys and values").set(), head, features));
        int bias = Operators.operand(n, 2);
        if (Linker.given(n, bias)) {
            Axis[] b = linker.in(n, bias);
            if (b == null || b.length != 1) {
                return false;
            }
            w[1].set().unify(b[0].set());
        }
        Linker.part(w[0], Part.SUMMED, n);
        Linker.part(w[1], Part.MADE, n);
        heads(n, features, count(n, "num_heads", head));
        linker.works().add(new Work(List.of(x[0].set(), x[1].set(), w[0].set(), w[1].set()), 1));
        linker.out(n, 0, new Axis(x[0].set()), new Axis(x[1].set()), new Axis(IndexSet.product(head, features)));
        return true;
    }

    private boolean ofThree(EditableNode n, Axis[] q) {
        Axis[] k = linker.in(n, 1);
        Axis[] v = linker.in(n, 2);
        Quantity heads = attribute(n, "num_heads");
        if (k == null || v == null || q.length != 3 || k.length != 3 || v.length != 3 || given(n, 5, n.inputs().size()) || more(n, 1)) {
            return false;
        }
        Quantity compared = q[2].set().size().dividedBy(heads).orElse(null);
        Quantity summed = v[2].set().size().dividedBy(heads).orElse(null);
        if (compared == null || summed == null) {
            return false;
        }
        IndexSet head = IndexSet.of(heads);
        IndexSet features = IndexSet.of(compared);
        IndexSet values = IndexSet.of(summed);
        q[2].set().unify(IndexSet.product(head, features));
        k[2].set().unify(IndexSet.product(head, features));
        v[2].set().unify(IndexSet.product(head, values));
        values.mark(IndexSet.HEAD_FEATURES);
        heads(n, features, count(n, "num_heads", head));
        if (Linker.given(n, 3)) {
            Axis[] bias = linker.in(n, 3);
            Quantity all = q[2].set().size().known() && v[2].set().size().known()
                    ? Quantity.of(2 * q[2].set().size().factor() + v[2].set().size().factor()) : null;
            if (bias == null || bias.length != 1 || all == null) {
                return false;
            }
            bias[0].set().unify(IndexSet.sum(List.of(q[2].set(), k[2].set(), v[2].set()), all));
        }
        linker.out(n, 0, new Axis(q[0].set()), new Axis(q[1].set()), new Axis(IndexSet.product(head, values)));
        return true;
    }

    /** Heads of queries that share keys and values: each of those has equally many, one after another. */
    private record Shared(IndexSet keys, IndexSet each, IndexSet all) {
        /** Null if the one number is no multiple of the other. */
        static Shared of(Quantity heads, Quantity keys) {
            Quantity times = heads.is(0) ? null : heads.dividedBy(keys).orElse(null);
            if (times == null) {
                return null;
            }
            IndexSet shared = IndexSet.of(keys);
            IndexSet each = IndexSet.of(times);
            return new Shared(shared, each, IndexSet.product(shared, each));
        }
    }

    /** Axes of keys or values kept for later: batch, heads, positions and numbers. */
    private void kept(EditableNode n, int input, int output, Axis batch, IndexSet heads, IndexSet features) {
        Axis[] past = Linker.given(n, input) ? linker.in(n, input) : null;
        if (past != null && past.length == 4) {
            past[0].set().unify(batch.set());
            past[1].set().unify(heads);
            past[3].set().unify(features);
        }
        List<Quantity> shape = linker.shape(n, output);
        if (shape != null && shape.size() == 4) {
            linker.out(n, output, new Axis(batch.set()), new Axis(heads), Linker.plain(shape.get(2), "positions"), new Axis(features));
        }
    }

    private boolean grouped(EditableNode n, Axis[] q) {
        Axis[] k = linker.in(n, 1);
        Axis[] v = linker.in(n, 2);
        boolean packed = !Linker.given(n, 1);
        Shared heads = Shared.of(attribute(n, "num_heads"), attribute(n, "kv_num_heads"));
        boolean three = k != null && v != null && k.length == 3 && v.length == 3;
        if (q.length != 3 || heads == null || !packed && !three || given(n, 10, n.inputs().size()) || more(n, 3)) {
            return false;
        }
        long parts = n.integer("num_heads", 0) + (packed ? 2 * n.integer("kv_num_heads", 0) : 0);
        Quantity size = q[2].set().size().dividedBy(Quantity.of(parts)).orElse(null);
        if (size == null) {
            return false;
        }
        // Of values as well: what is kept of both has one size.
        IndexSet features = IndexSet.of(size);
        IndexSet queries = IndexSet.product(heads.all, features);
        IndexSet keys = IndexSet.product(heads.keys, features);
        if (packed) {
            q[2].set().unify(IndexSet.sum(List.of(queries, keys, keys), q[2].set().size()));
        } else {
            q[2].set().unify(queries);
            k[2].set().unify(keys);
            v[2].set().unify(keys);
        }
        heads.each.mark(IndexSet.HEADS);
        heads(n, features, count(n, "num_heads", heads.all), count(n, "kv_num_heads", heads.keys));
        features.block("GroupQueryAttention wants heads of sizes of its own");
        linker.out(n, 0, new Axis(q[0].set()), new Axis(q[1].set()), new Axis(queries));
        kept(n, 3, 1, q[0], heads.keys, features);
        kept(n, 4, 2, q[0], heads.keys, features);
        return true;
    }

    /** That of ONNX: flat, or with an axis of heads. */
    private boolean standard(EditableNode n, Axis[] q) {
        Axis[] k = linker.in(n, 1);
        Axis[] v = linker.in(n, 2);
        if (k == null || v == null || q.length != k.length || q.length != v.length || q.length != 3 && q.length != 4 || given(n, 6, n.inputs().size())) {
            return false;
        }
        boolean flat = q.length == 3;
        int last = q.length - 1;
        Shared heads = flat ? Shared.of(attribute(n, "q_num_heads"), attribute(n, "kv_num_heads")) : Shared.of(q[1].set().size(), k[1].set().size());
        if (heads == null) {
            return false;
        }
        Quantity compared = flat ? q[2].set().size().dividedBy(heads.all.size()).orElse(null) : q[3].set().size();
        Quantity summed = flat ? v[2].set().size().dividedBy(heads.keys.size()).orElse(null) : v[3].set().size();
        if (compared == null || summed == null) {
            return false;
        }
        IndexSet features = IndexSet.of(compared);
        IndexSet values = IndexSet.of(summed);
        if (flat) {
            q[2].set().unify(IndexSet.product(heads.all, features));
            k[2].set().unify(IndexSet.product(heads.keys, features));
            v[2].set().unify(IndexSet.product(heads.keys, values));
            heads(n, features, count(n, "q_num_heads", heads.all), count(n, "kv_num_heads", heads.keys));
        } else {
            q[1].set().unify(heads.all);
            k[1].set().unify(heads.keys);
            v[1].set().unify(heads.keys);
            q[3].set().unify(features);
            k[3].set().unify(features);
            v[3].set().unify(values);
            heads(n, features);
        }
        heads.keys.mark(IndexSet.HEADS);
        heads.each.mark(IndexSet.HEADS);
        values.mark(IndexSet.HEAD_FEATURES);
        if (!masked(n, heads.all)) {
            return false;
        }
        linker.out(n, 0, flat ? new Axis[] {new Axis(q[0].set()), new Axis(q[1].set()), new Axis(IndexSet.product(heads.all, values))}
                : new Axis[] {new Axis(q[0].set()), new Axis(heads.all), new Axis(q[2].set()), new Axis(values)});
        kept(n, 4, 1, q[0], heads.keys, features);
        kept(n, 5, 2, q[0], heads.keys, values);
        List<Quantity> scores = linker.shape(n, 3);
        if (scores != null) {
            linker.out(n, 3, new Axis(q[0].set()), new Axis(heads.all), new Axis(q[last - 1].set()), Linker.plain(scores.get(3), "positions"));
        }
        return true;
    }

    /** What is added to scores may have an axis of heads. */
    private boolean masked(EditableNode n, IndexSet heads) {
        if (!Linker.given(n, 3)) {
            return true;
        }
        Axis[] mask = linker.in(n, 3);
        if (mask == null) {
            return false;
        }
        if (mask.length > 2 && !mask[mask.length - 3].set().size().is(1)) {
            if (!mask[mask.length - 3].set().size().equals(heads.size())) {
                return false;
            }
            mask[mask.length - 3].set().unify(heads);
        }
        return true;
    }

    /**
     * Numbers of a head are turned in pairs, all heads alike.
     *
     * @param cosines input that has them: [positions, half of a head]
     */
    private boolean rotated(EditableNode n, Axis[] x, int cosines) {
        if (x.length != 3 && x.length != 4) {
            return false;
        }
        Axis[] all = x.clone();
        Quantity heads = attribute(n, "num_heads");
        IndexSet head = x.length == 4 ? x[1].set() : null;
        IndexSet features = x.length == 4 ? x[3].set() : null;
        if (x.length == 3) {
            List<Quantity> table = linker.shapes().of(n.input(cosines)).orElse(List.of());
            Quantity of = !heads.is(0) ? x[2].set().size().dividedBy(heads).orElse(null)
                    : n.integer("rotary_embedding_dim", 0) != 0 || table.isEmpty() ? null : table.getLast().times(Quantity.of(2)).orElse(null);
            Quantity count = of == null ? null : x[2].set().size().dividedBy(of).orElse(null);
            if (count == null) {
                return false;
            }
            head = IndexSet.of(count);
            features = IndexSet.of(of);
            x[2].set().unify(IndexSet.product(head, features));
            all[2] = new Axis(x[2].set());
        }
        features.block("positions turn pairs of it at " + n.label());
        if (!heads.is(0) && heads.equals(head.size())) {
            linker.sizes().add(count(n, "num_heads", head));
        }
        linker.out(n, 0, all);
        return true;
    }
}
