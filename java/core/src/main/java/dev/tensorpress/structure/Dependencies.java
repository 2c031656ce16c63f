package dev.tensorpress.structure;

import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.structure.Group.Kind;
import dev.tensorpress.structure.Group.Member;
import dev.tensorpress.structure.Group.Part;
import dev.tensorpress.structure.Group.SizeUse;
import dev.tensorpress.structure.Linker.Size;
import dev.tensorpress.structure.Linker.Slot;
import dev.tensorpress.structure.Linker.Work;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Which slices of which constants of a model have to go together, as DepGraph finds them (Fang et al. 2023): through residual additions, Concat, Split
 * and Slice, Reshape and Transpose, grouped and depthwise convolutions, normalizations and the gates of recurrent operators. Axes are followed index
 * by index through all nodes of the model's own graph. A group that meets something that is not known is there as well, with the reason why it has to
 * stay. In time linear in the size of the graph, but for axes of thousands of parts.
 *
 * <p>Every group without an {@link Group#obstacle} keeps this promise: {@link Removal} of any of its indices but all leaves a model that runs, and
 * computes, if it is {@link Group#exact}, what the original does with the {@link Part#SUMMED} slices of these indices set to zero. Groups are
 * independent of each other: of several of them indices can be removed at once.
 */
public final class Dependencies {
    private final EditableModel model;
    private final Linker linker;
    private final List<Group> groups;

    private Dependencies(EditableModel model, Linker linker, List<Group> groups) {
        this.model = model;
        this.linker = linker;
        this.groups = groups;
    }

    /** Finds them. They hold until something else than a {@link Removal} of groups of these changes the model, or until that. */
    public static Dependencies of(EditableModel model) {
        Linker linker = new Linker(model, Shapes.of(model));
        linker.link();
        return new Dependencies(model, linker, List.copyOf(groups(linker)));
    }

    /** All groups whose indices take parts of constants away, in the order of the graph; those that have to stay with the reason. */
    public List<Group> groups() {
        return groups;
    }

    /** The shapes of the model's values. */
    public Shapes shapes() {
        return linker.shapes();
    }

    EditableModel model() {
        return model;
    }

    Linker linker() {
        return linker;
    }

    /** An axis of a constant, and how many of its indices go with one of a group. */
    private record Along(Slot slot, long share) {}

    private static List<Group> groups(Linker linker) {
        Map<IndexSet, List<Along>> slots = new LinkedHashMap<>();
        for (Slot s : linker.slots()) {
            Map<IndexSet, Long> shares = s.set().shares();
            for (IndexSet leaf : s.set().leaves()) {
                if (leaf.size().known() && leaf.size().factor() > 1 && leaf.size().factor() <= Integer.MAX_VALUE
                        && (leaf.marks() & IndexSet.PLAIN) == 0) {
                    slots.computeIfAbsent(leaf, _ -> new ArrayList<>()).add(new Along(s, shares.get(leaf)));
                }
            }
        }
        Map<IndexSet, List<SizeUse>> sizes = new HashMap<>();
        for (Size s : linker.sizes()) {
            s.set().leaves().forEach(leaf -> sizes.computeIfAbsent(leaf, _ -> new ArrayList<>()).add(new SizeUse(s.node(), s.where())));
        }
        Map<IndexSet, Long> work = new HashMap<>();
        for (Work w : linker.works()) {
            w.perIndex().forEach((leaf, less) -> work.merge(leaf, less, Long::sum));
        }
        List<Group> groups = new ArrayList<>();
        Set<String> names = new HashSet<>();
        slots.forEach((leaf, of) -> groups.add(group(linker, leaf, of, sizes.getOrDefault(leaf, List.of()), work.getOrDefault(leaf, 0L))));
        groups.stream().sorted(Comparator.comparing(g -> g.obstacle().isPresent())).forEach(g -> g.name(names));
        return groups;
    }

    private static Group group(Linker linker, IndexSet leaf, List<Along> slots, List<SizeUse> sizes, long multiplyAdds) {
        List<Member> members = new ArrayList<>();
        Map<String, Double> left = new LinkedHashMap<>();
        EditableNode made = null;
        EditableNode sums = null;
        for (Along along : slots) {
            Slot s = along.slot;
            List<EditableNode> readers = s.reader() == null ? linker.readers(s.constant()) : List.of(s.reader());
            members.add(new Member(s.constant(), s.axis(), s.part(), readers, s.set(), leaf));
            double part = (double) along.share / s.set().size().factor();
            left.merge(s.constant(), 1 - part, s.reader() == null ? (a, b) -> a * b : Math::min);
            sums = sums == null && s.part() == Part.SUMMED ? s.product() : sums;
            made = made == null && s.part() == Part.MADE ? s.product() : made;
        }
        long bytes = 0;
        for (Map.Entry<String, Double> e : left.entrySet()) {
            EditableTensor t = linker.shapes().constant(e.getKey()).orElseThrow();
            bytes += t.type().map(d -> Math.round(d.bytes(t.shape().elements()) * (1 - e.getValue()))).orElse(0L);
        }
        if (made == null && sums == null) {
            leaf.block("no product with constants reads or makes it");
        }
        String label = made != null ? made.label() : sums != null ? sums.label() : members.getFirst().readers().getFirst().label();
        return new Group(leaf, label, kind(leaf), members, sizes, bytes, multiplyAdds);
    }

    private static Kind kind(IndexSet leaf) {
        int marks = leaf.marks();
        return (marks & IndexSet.ROWS) != 0 ? Kind.ROWS : (marks & IndexSet.HIDDEN) != 0 ? Kind.HIDDEN : (marks & IndexSet.HEADS) != 0 ? Kind.HEADS
                : (marks & IndexSet.HEAD_FEATURES) != 0 ? Kind.HEAD_FEATURES : (marks & IndexSet.CHANNELS) != 0 ? Kind.CHANNELS
                : (marks & (IndexSet.RESIDUAL | IndexSet.STATISTICS)) != 0 ? Kind.WIDTH : Kind.NEURONS;
    }
}
