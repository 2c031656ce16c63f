package dev.tensorpress.structure;

import dev.tensorpress.model.onnx.EditableNode;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.Set;

/**
 * What has to go together: each of its indices stands for slices of constants that are removed with one another, or stay. Found by
 * {@link Dependencies}, removed by {@link Removal}.
 */
public final class Group {
    /** What an index is. */
    public enum Kind {
        /** Between two products with nothing but operators on single elements between. */
        NEURONS,
        /** A head of attention. */
        HEADS,
        /** A number of what each head compares, or sums up. */
        HEAD_FEATURES,
        /** Of a convolution. */
        CHANNELS,
        /** Of a residual stream. */
        WIDTH,
        /** Of the state of a recurrent operator. */
        HIDDEN,
        /** Of a table that is looked up. */
        ROWS;

        /** In lists and JSON, such as {@code head-features}. */
        public String id() {
            return name().toLowerCase(Locale.ROOT).replace('_', '-');
        }
    }

    /** What an operator does along the axis of a constant. */
    public enum Part {
        /** A product sums along it: who zeroes its slices takes the index out of what follows. */
        SUMMED,
        /** A product makes it: a row of results for each. */
        MADE,
        /** An index of it goes with one of a value, as those of biases, scales and tables do. */
        ALONG
    }

    /** An axis of a constant. A constant with one axis longer than 1 belongs to each reader alone; others are the same for all. */
    public static final class Member {
        private final String constant;
        private final int axis;
        private final Part part;
        private final List<EditableNode> readers;
        private final IndexSet set;
        private final IndexSet group;

        Member(String constant, int axis, Part part, List<EditableNode> readers, IndexSet set, IndexSet group) {
            this.constant = constant;
            this.axis = axis;
            this.part = part;
            this.readers = List.copyOf(readers);
            this.set = set;
            this.group = group;
        }

        /** The name of the value: an initializer, or the result of a node Constant. */
        public String constant() {
            return constant;
        }

        /** Counted from 0. */
        public int axis() {
            return axis;
        }

        /** What is done along it. */
        public Part part() {
            return part;
        }

        /** Nodes that read it as this. */
        public List<EditableNode> readers() {
            return readers;
        }

        /** For each index of the axis that of the group with which it goes, or -1 if it stays whatever is removed of the group. */
        public int[] owners() {
            return set.owners(group);
        }

        /** How many indices of the axis go with one of the group. */
        public long perIndex() {
            return set.share(group);
        }
    }

    /** A number in the graph that says how large something is, and changes with the group: an element of an input of a node, or an attribute. */
    public record SizeUse(EditableNode node, String where) {}

    private final IndexSet set;
    private final String label;
    private String name;
    private final Kind kind;
    private final List<Member> members;
    private final List<SizeUse> sizes;
    private final long bytes;
    private final long multiplyAdds;

    Group(IndexSet set, String label, Kind kind, List<Member> members, List<SizeUse> sizes, long bytes, long multiplyAdds) {
        this.set = set;
        this.label = label;
        this.kind = kind;
        this.members = List.copyOf(members);
        this.sizes = List.copyOf(sizes);
        this.bytes = bytes;
        this.multiplyAdds = multiplyAdds;
    }

    IndexSet set() {
        return set;
    }

    /** Takes the name that it has from now on. */
    void name(Set<String> taken) {
        name = label;
        for (int i = 1; !taken.add(name); i++) {
            name = label + ":" + kind.id() + (i == 1 ? "" : ":" + i);
        }
    }

    /**
     * The label of the node that makes it, or of the first that reads a member. No other group of the model has it: where one has taken it already, its
     * kind stands behind it, and then a number, as in {@code query:head-features}; groups that can be touched take theirs first. A model has the same
     * names whenever it is opened.
     */
    public String name() {
        return name;
    }

    /** What its indices are. */
    public Kind kind() {
        return kind;
    }

    /** How many indices it has, at least 2. */
    public int size() {
        return Math.toIntExact(set.size().factor());
    }

    /** Why nothing can be removed of it; empty if something can. */
    public Optional<String> obstacle() {
        return Optional.ofNullable(set.obstacle());
    }

    /**
     * Whether removing indices is the same as zeroing their slices of all members that are {@link Part#SUMMED}. Else something else is computed over
     * them, such as the mean of a layer normalization or a product of two values, and is another one without them.
     */
    public boolean exact() {
        return (set.marks() & IndexSet.STATISTICS) == 0;
    }

    /** Axes of constants, in the order of the graph. */
    public List<Member> members() {
        return members;
    }

    /** Numbers that change with it. */
    public List<SizeUse> sizes() {
        return sizes;
    }

    /** Bytes of constants that one index takes away; of a constant that other groups share, as if it were this one's alone. */
    public long bytes() {
        return bytes;
    }

    /** Multiply-adds that one index takes away, each axis of unknown size, such as batch or sequence, counted once. */
    public long multiplyAdds() {
        return multiplyAdds;
    }

    @Override
    public String toString() {
        return size() + " " + kind.id() + " of " + label + obstacle().map(o -> " (" + o + ")").orElse("");
    }
}
