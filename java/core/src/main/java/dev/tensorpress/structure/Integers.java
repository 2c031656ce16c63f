package dev.tensorpress.structure;

import java.util.ArrayList;
import java.util.List;

/**
 * What a small tensor of integers holds, such as a shape that nodes compute.
 *
 * @param scalar whether it has no axis, and one number
 */
record Integers(boolean scalar, List<One> all) {
    /** More of them are no shape. */
    static final int MOST = 1024;

    record One(Quantity value, Origin origin) {}

    /** Where a number comes from: who removes slices has to change it there. */
    sealed interface Origin {}

    /** An element of a constant, or of another value that is {@link Computed}, handed on as it is. */
    record Cell(String constant, int index) implements Origin {}

    /** The size of an axis of a value. */
    record SizeOf(String value, int axis) implements Origin {}

    /**
     * Computed, of these sizes among others.
     *
     * @param at where it is first found, if all that is there is known or it is there alone; null if not
     */
    record Computed(List<SizeOf> sizes, Cell at) implements Origin {
        static final Computed OF_NONE = new Computed(List.of(), null);
        /** Whoever follows more of them takes too long. */
        private static final int MOST = 64;

        /** Null if it is computed of too many. */
        static Computed of(List<One> numbers) {
            List<SizeOf> sizes = new ArrayList<>();
            for (One n : numbers) {
                switch (n.origin) {
                    case SizeOf s -> add(sizes, s);
                    case Computed c -> c.sizes.forEach(s -> add(sizes, s));
                    case Cell _ -> { }
                }
            }
            return sizes.isEmpty() ? OF_NONE : sizes.size() > MOST ? null : new Computed(List.copyOf(sizes), null);
        }

        private static void add(List<SizeOf> sizes, SizeOf one) {
            if (!sizes.contains(one)) {
                sizes.add(one);
            }
        }
    }

    static Integers of(long... values) {
        List<One> all = new ArrayList<>(values.length);
        for (long v : values) {
            all.add(new One(Quantity.of(v), Computed.OF_NONE));
        }
        return new Integers(false, all);
    }

    /** What a node has made of others: numbers that come from nowhere else come from this value. */
    Integers madeAs(String value) {
        if (size() > 1 && known() == null) {
            return this;
        }
        List<One> marked = new ArrayList<>(all.size());
        for (int i = 0; i < all.size(); i++) {
            One n = all.get(i);
            marked.add(n.origin instanceof Computed c && c.at == null ? new One(n.value, new Computed(c.sizes, new Cell(value, i))) : n);
        }
        return new Integers(scalar, marked);
    }

    int size() {
        return all.size();
    }

    Quantity value(int i) {
        return all.get(i).value;
    }

    List<Quantity> values() {
        return all.stream().map(One::value).toList();
    }

    /** The numbers; null if one is not known. */
    long[] known() {
        return all.stream().allMatch(n -> n.value.known()) ? all.stream().mapToLong(n -> n.value.factor()).toArray() : null;
    }
}
