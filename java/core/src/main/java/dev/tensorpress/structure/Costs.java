package dev.tensorpress.structure;

import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.structure.Linker.Slot;
import dev.tensorpress.structure.Linker.Work;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.ToLongFunction;

/** What a model costs with fewer indices in its groups: a sum of terms, of which each depends on a few groups. */
final class Costs {
    /** @param own how many indices stay of sets of their own */
    interface Term {
        double value(ToLongFunction<IndexSet> own);
    }

    /** What a number that says a size may take, where it has to be told apart from one that others read. */
    private static final long NUMBER = 256;

    private final double rest;
    private final List<Term> all = new ArrayList<>();
    private final Map<IndexSet, List<Term>> touching = new HashMap<>();

    /** @param rest what does not depend on groups */
    Costs(double rest) {
        this.rest = rest;
    }

    /** Adds what depends on some sets. */
    void add(Set<IndexSet> leaves, Term term) {
        all.add(term);
        leaves.forEach(leaf -> touching.computeIfAbsent(leaf, _ -> new ArrayList<>()).add(term));
    }

    /** Of all. */
    double total(ToLongFunction<IndexSet> own) {
        return rest + all.stream().mapToDouble(t -> t.value(own)).sum();
    }

    /** Of all that depends on a set of its own. */
    double touching(IndexSet leaf, ToLongFunction<IndexSet> own) {
        double sum = 0;
        for (Term t : touching.getOrDefault(leaf, List.of())) {
            sum += t.value(own);
        }
        return sum;
    }

    /** A constant, of which each kind of readers needs other indices. */
    private record Constant(double bytes, long[] dims, List<IndexSet[]> kinds, boolean whole) implements Term {
        @Override
        public double value(ToLongFunction<IndexSet> own) {
            double sum = 0;
            boolean stays = whole;
            for (IndexSet[] kind : kinds) {
                double size = bytes;
                boolean shorter = false;
                for (int a = 0; a < dims.length; a++) {
                    long left = kind[a] == null ? dims[a] : kind[a].left(own);
                    size *= left;
                    shorter |= left != dims[a];
                }
                sum += shorter ? size : 0;
                stays |= !shorter;
            }
            return stays ? sum + bytes * Arrays.stream(dims).asDoubleStream().reduce(1, (a, b) -> a * b) : sum;
        }
    }

    /** Bytes of the file that is written, at most: numbers that say sizes are counted as if each became one more constant. */
    static Costs bytes(Dependencies d, Set<IndexSet> shorter) {
        Map<String, Map<List<Object>, IndexSet[]>> uses = new LinkedHashMap<>();
        for (Slot s : d.linker().slots()) {
            EditableTensor t = d.shapes().constant(s.constant()).orElseThrow();
            if (t.type().isPresent()) {
                uses.computeIfAbsent(s.constant(), _ -> new LinkedHashMap<>()).computeIfAbsent(Arrays.asList(s.reader(), s.input()),
                        _ -> new IndexSet[t.shape().rank()])[s.axis()] = s.set().find();
            }
        }
        long numbers = d.linker().sizes().stream().filter(s -> s.set().leaves().stream().anyMatch(shorter::contains)).count()
                + d.linker().parts().stream().filter(p -> p.sets().stream().anyMatch(s -> s.leaves().stream().anyMatch(shorter::contains))).count();
        List<Constant> constants = new ArrayList<>();
        uses.forEach((name, of) -> {
            EditableTensor t = d.shapes().constant(name).orElseThrow();
            Map<List<IndexSet>, IndexSet[]> kinds = new LinkedHashMap<>();
            of.values().forEach(sets -> kinds.putIfAbsent(Arrays.asList(sets), sets));
            List<EditableNode> readers = d.linker().readers(name);
            long count = readers.stream().mapToLong(n -> n.inputs().stream().filter(name::equals).count()).sum();
            boolean every = of.keySet().iterator().next().getFirst() == null || of.size() == count;
            constants.add(new Constant(t.type().orElseThrow().bits() / 8.0, t.shape().dims(), List.copyOf(kinds.values()), !every));
        });
        double counted = constants.stream().mapToDouble(c -> c.value(own -> own.size().factor())).sum();
        Costs costs = new Costs(d.model().bytes() + numbers * NUMBER - counted);
        for (Constant c : constants) {
            Set<IndexSet> leaves = new LinkedHashSet<>();
            c.kinds.forEach(kind -> Arrays.stream(kind).filter(s -> s != null).forEach(s -> leaves.addAll(s.leaves())));
            costs.add(leaves, c);
        }
        return costs;
    }

    /** Multiply-adds of products with constants, each axis of unknown size counted once. */
    static Costs multiplyAdds(Dependencies d) {
        Costs costs = new Costs(0);
        for (Work w : d.linker().works()) {
            Set<IndexSet> leaves = new LinkedHashSet<>();
            w.sets().forEach(s -> leaves.addAll(s.leaves()));
            costs.add(leaves, own -> {
                double product = w.times();
                for (IndexSet s : w.sets()) {
                    product *= s.left(own);
                }
                return product;
            });
        }
        return costs;
    }
}
