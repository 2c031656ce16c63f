package dev.tensorpress.structure;

import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableGraph;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.structure.Linker.Parts;
import dev.tensorpress.structure.Linker.Size;
import dev.tensorpress.structure.Linker.Slot;
import dev.tensorpress.structure.Integers.Cell;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/** Takes indices of groups out of a model: constants get shorter, numbers that say sizes smaller. */
public final class Removal {
    private final Dependencies dependencies;
    private final EditableModel model;
    private final Arena arena;
    private final Map<IndexSet, int[]> kept = new HashMap<>();
    /** Names of constants that stand for others with fewer elements or with other numbers. */
    private final Map<List<Object>, String> made = new HashMap<>();
    private final Map<String, EditableNode> makers = new HashMap<>();
    private final Map<EditableNode, List<EditableNode>> before = new HashMap<>();
    private final Set<String> left = new HashSet<>();

    private Removal(Dependencies dependencies, Arena arena) {
        this.dependencies = dependencies;
        this.model = dependencies.model();
        this.arena = arena;
        model.graph().nodes().forEach(n -> n.outputs().forEach(o -> makers.put(o, n)));
    }

    /**
     * Removes indices. The dependencies do not hold afterwards: who goes on with the same model finds them anew.
     *
     * @param dependencies of the model that is changed
     * @param keep the indices of each group that stay, sorted, at least one
     * @param arena for the constants that are made; has to live as long as the model is used
     * @return of each value that got shorter, constants left out, what stays: of each axis the indices, sorted, or null for all
     * @throws UnsupportedRequestException if a group has an obstacle, or the model information for training; nothing is changed then
     * @throws IllegalArgumentException if indices are not sorted, not in range, or none, or if a group is not one of these; nothing is changed then
     */
    public static Map<String, int[][]> apply(Dependencies dependencies, Map<Group, int[]> keep, Arena arena) {
        if (dependencies.model().training()) {
            throw new UnsupportedRequestException("the model has information for training, which would not fit what is left of it");
        }
        if (!dependencies.groups().containsAll(keep.keySet())) {
            throw new IllegalArgumentException("groups of other dependencies");
        }
        Removal r = new Removal(dependencies, arena);
        keep.forEach((group, indices) -> r.kept.put(group.set().find(), checked(group, indices)));
        r.constants();
        r.numbers();
        r.forgetShapes();
        r.sweep();
        return r.values();
    }

    private static int[] checked(Group group, int[] indices) {
        if (group.obstacle().isPresent()) {
            throw new UnsupportedRequestException("nothing can be removed of the " + group);
        }
        if (indices.length == 0) {
            throw new IllegalArgumentException("nothing would be left of the " + group);
        }
        for (int i = 0; i < indices.length; i++) {
            if (indices[i] < 0 || indices[i] >= group.size() || i > 0 && indices[i] <= indices[i - 1]) {
                throw new IllegalArgumentException("index " + indices[i] + " of the " + group + " is out of range or not sorted");
            }
        }
        return indices.clone();
    }

    private boolean changes(IndexSet set) {
        return set.leaves().stream().anyMatch(kept::containsKey);
    }

    private long size(IndexSet set) {
        return set.left(own -> kept.containsKey(own) ? kept.get(own).length : own.size().factor());
    }

    // Constants.

    private record Use(EditableNode reader, int input) {}

    private void constants() {
        Map<String, Map<Use, int[][]>> changes = new LinkedHashMap<>();
        for (Slot s : dependencies.linker().slots()) {
            if (changes(s.set())) {
                int rank = dependencies.shapes().constant(s.constant()).orElseThrow().shape().rank();
                changes.computeIfAbsent(s.constant(), _ -> new LinkedHashMap<>())
                        .computeIfAbsent(new Use(s.reader(), s.input()), _ -> new int[rank][])[s.axis()] = s.set().kept(kept::get);
            }
        }
        changes.forEach((name, uses) -> {
            Map<List<Object>, int[][]> kinds = new LinkedHashMap<>();
            uses.values().forEach(axes -> kinds.putIfAbsent(key(name, axes), axes));
            long readers = dependencies.linker().readers(name).stream().mapToLong(n -> n.inputs().stream().filter(name::equals).count()).sum();
            if (kinds.size() == 1 && (uses.size() == readers || uses.keySet().iterator().next().reader == null)) {
                put(name, shorter(name, uses.values().iterator().next()));
                return;
            }
            uses.forEach((use, axes) -> {
                String shorter = made.computeIfAbsent(key(name, axes), _ -> add(name, shorter(name, axes)));
                use.reader.inputs().set(use.input, shorter);
            });
            left.add(name);
        });
    }

    private static List<Object> key(String name, int[][] axes) {
        List<Object> key = new ArrayList<>(List.of(name));
        for (int[] axis : axes) {
            key.add(axis == null ? List.of() : Arrays.stream(axis).boxed().toList());
        }
        return key;
    }

    /** In the place of a constant that all readers want alike. */
    private void put(String name, EditableTensor t) {
        if (model.graph().initializers().replace(name, t) == null) {
            EditableNode n = makers.get(name);
            n.attributes().forEach(n::remove);
            n.set("value", t);
        }
    }

    private String add(String name, EditableTensor t) {
        String fresh = model.fresh(name);
        model.graph().initializers().put(fresh, t);
        return fresh;
    }

    private EditableTensor shorter(String name, int[][] axes) {
        Tensor t = dependencies.shapes().constant(name).orElseThrow().tensor();
        for (int a = 0; a < axes.length; a++) {
            t = axes[a] == null ? t : shorter(t, a, axes[a]);
        }
        return EditableTensor.of(t);
    }

    private Tensor shorter(Tensor t, int axis, int[] indices) {
        long[] dims = t.shape().dims();
        long outer = 1;
        long inner = 1;
        for (int i = 0; i < dims.length; i++) {
            outer *= i < axis ? dims[i] : 1;
            inner *= i > axis ? dims[i] : 1;
        }
        long old = dims[axis];
        dims[axis] = indices.length;
        Shape shape = Shape.of(dims);
        MemorySegment to = arena.allocate(t.dtype().bytes(shape.elements()));
        int bits = t.dtype().bits();
        if (bits < 8) {
            bits(t.data(), to, outer, old, indices, inner * bits);
        } else if (bits * inner == 32) {
            words(t.data(), to, outer, Math.toIntExact(old), indices);
        } else {
            bytes(t.data(), to, outer, old, indices, inner * bits / 8);
        }
        return new Tensor(t.dtype(), shape, to);
    }

    /** Runs of indices that follow one another are copied at once. */
    private static void bytes(MemorySegment from, MemorySegment to, long outer, long old, int[] indices, long width) {
        long at = 0;
        for (long o = 0; o < outer; o++) {
            for (int i = 0; i < indices.length;) {
                int run = 1;
                while (i + run < indices.length && indices[i + run] == indices[i] + run) {
                    run++;
                }
                MemorySegment.copy(from, (o * old + indices[i]) * width, to, at, run * width);
                at += run * width;
                i += run;
            }
        }
    }

    /** Single elements of a row, by way of arrays, which are faster. */
    private static void words(MemorySegment from, MemorySegment to, long outer, int old, int[] indices) {
        int[] row = new int[old];
        int[] shorter = new int[indices.length];
        for (long o = 0; o < outer; o++) {
            MemorySegment.copy(from, ValueLayout.JAVA_INT_UNALIGNED, 4 * o * old, row, 0, old);
            for (int i = 0; i < shorter.length; i++) {
                shorter[i] = row[indices[i]];
            }
            MemorySegment.copy(shorter, 0, to, ValueLayout.JAVA_INT_UNALIGNED, 4 * o * shorter.length, shorter.length);
        }
    }

    private static void bits(MemorySegment from, MemorySegment to, long outer, long old, int[] indices, long width) {
        long at = 0;
        for (long o = 0; o < outer; o++) {
            for (int i : indices) {
                for (long b = (o * old + i) * width; b < (o * old + i + 1) * width; b++) {
                    int bit = from.get(ValueLayout.JAVA_BYTE, b >> 3) >> (b & 7) & 1;
                    byte there = to.get(ValueLayout.JAVA_BYTE, at >> 3);
                    to.set(ValueLayout.JAVA_BYTE, at >> 3, (byte) (there | bit << (at & 7)));
                    at++;
                }
            }
        }
    }

    // Numbers that say sizes.

    private void numbers() {
        Map<Use, Map<Cell, Long>> inputs = new LinkedHashMap<>();
        for (Size s : dependencies.linker().sizes()) {
            if (!changes(s.set()) && s.of().stream().noneMatch(this::changes)) {
                continue;
            }
            long size = switch (s.how()) {
                case SIZE -> size(s.set());
                case FROM_END -> -size(s.set());
                case REST -> -1;
            };
            if (s.cell() != null) {
                inputs.computeIfAbsent(new Use(s.node(), s.input()), _ -> new HashMap<>()).put(s.cell(), size);
            } else if (s.position() < 0) {
                s.node().set(s.attribute(), size);
            } else {
                long[] all = s.node().integers(s.attribute()).orElseThrow();
                all[s.position()] = size;
                s.node().setAll(s.attribute(), all);
            }
        }
        inputs.forEach((use, cells) -> use.reader.inputs().set(use.input, changed(use.reader.inputs().get(use.input), cells, use.reader)));
        for (Parts p : dependencies.linker().parts()) {
            if (p.sets().stream().anyMatch(this::changes)) {
                long[] sizes = p.sets().stream().mapToLong(this::size).toArray();
                if (dependencies.shapes().opset() < 13) {
                    p.node().setAll("split", sizes);
                } else {
                    p.node().remove("num_outputs").inputs().add(add(p.node().label() + "_split", EditableTensor.of(sizes)));
                }
            }
        }
        EditableGraph g = model.graph();
        for (int i = g.nodes().size() - 1; i >= 0; i--) {
            List<EditableNode> put = before.get(g.nodes().get(i));
            if (put != null) {
                g.nodes().addAll(i, put);
            }
        }
    }

    /** The name of a value that is computed as this one is, but of constants with other numbers. */
    private String changed(String value, Map<Cell, Long> cells, EditableNode reader) {
        if (dependencies.shapes().constant(value).isPresent()) {
            Map<Integer, Long> here = new LinkedHashMap<>();
            cells.forEach((cell, number) -> {
                if (cell.constant().equals(value)) {
                    here.put(cell.index(), number);
                }
            });
            if (here.isEmpty()) {
                return value;
            }
            left.add(value);
            return made.computeIfAbsent(List.of(value, here), _ -> add(value, numbers(value, here)));
        }
        EditableNode maker = makers.get(value);
        if (maker == null || maker.type().equals("Shape") || maker.type().equals("Size")) {
            return value;
        }
        Integers here = dependencies.shapes().numbers(value);
        if (here != null && cells.keySet().stream().anyMatch(c -> c.constant().equals(value))) {
            left.add(value);
            long[] numbers = new long[here.size()];
            for (int i = 0; i < numbers.length; i++) {
                Long other = cells.get(new Cell(value, i));
                numbers[i] = other != null ? other : here.value(i).factor();
            }
            return made.computeIfAbsent(List.of(value, Arrays.toString(numbers)), _ -> add(value, constant(here.scalar(), wide(value), numbers)));
        }
        if (here != null && here.all().stream().allMatch(o -> o.origin() instanceof Integers.Computed c && c.at() != null && c.at().constant().equals(value))) {
            return value; // of numbers that stay what they are
        }
        List<String> inputs = maker.inputs().stream().map(i -> i.isEmpty() ? i : changed(i, cells, reader)).toList();
        if (inputs.equals(maker.inputs())) {
            return value;
        }
        left.add(value);
        String known = made.get(List.of(value, inputs));
        if (known != null) {
            return known;
        }
        String fresh = model.fresh(value);
        EditableNode copy = new EditableNode(maker.type(), maker.domain(), model.fresh(maker.label()), inputs, List.of(fresh));
        maker.attributes().forEach(a -> copy.copy(a, maker));
        before.computeIfAbsent(reader, _ -> new ArrayList<>()).add(copy);
        made.put(List.of(value, inputs), fresh);
        return fresh;
    }

    /** Whether a value of integers has 64 bits for each. */
    private boolean wide(String value) {
        Optional<EditableTensor> constant = dependencies.shapes().constant(value);
        if (constant.isPresent()) {
            return constant.get().type().orElseThrow().bits() == 64;
        }
        EditableNode n = makers.get(value);
        return switch (n == null ? "" : n.type()) {
            case "", "Shape", "Size" -> true;
            case "Cast" -> n.integer("to", 0) == 7;
            case "ConstantOfShape" -> n.tensor("value").map(t -> t.type().orElseThrow().bits() == 64).orElse(true);
            case "Where" -> wide(n.input(1));
            default -> wide(n.input(0));
        };
    }

    private EditableTensor constant(boolean scalar, boolean wide, long[] numbers) {
        MemorySegment data = arena.allocate((wide ? 8L : 4L) * numbers.length, 8);
        for (int i = 0; i < numbers.length; i++) {
            if (wide) {
                data.setAtIndex(ValueLayout.JAVA_LONG, i, numbers[i]);
            } else {
                data.setAtIndex(ValueLayout.JAVA_INT, i, Math.toIntExact(numbers[i]));
            }
        }
        return EditableTensor.of(new Tensor(wide ? DType.I64 : DType.I32, scalar ? Shape.of() : Shape.of(numbers.length), data));
    }

    private EditableTensor numbers(String constant, Map<Integer, Long> changes) {
        Tensor t = dependencies.shapes().constant(constant).orElseThrow().tensor();
        MemorySegment data = arena.allocate(t.bytes()).copyFrom(t.data());
        changes.forEach((i, number) -> {
            if (t.dtype().bits() == 64) {
                data.set(ValueLayout.JAVA_LONG_UNALIGNED, 8L * i, number);
            } else {
                data.set(ValueLayout.JAVA_INT_UNALIGNED, 4L * i, Math.toIntExact(number));
            }
        });
        return EditableTensor.of(new Tensor(t.dtype(), t.shape(), data));
    }

    // What is left.

    private void forgetShapes() {
        dependencies.linker().axes().forEach((name, axes) -> {
            if (Arrays.stream(axes).map(Linker.Axis::set).anyMatch(this::changes)) {
                model.graph().values().remove(name);
            }
        });
    }

    private Map<String, int[][]> values() {
        Map<String, int[][]> all = new HashMap<>();
        dependencies.linker().axes().forEach((name, axes) -> {
            if (Arrays.stream(axes).map(Linker.Axis::set).anyMatch(this::changes)) {
                all.put(name, Arrays.stream(axes).map(a -> changes(a.set()) ? a.set().kept(kept::get) : null).toArray(int[][]::new));
            }
        });
        return all;
    }

    /** Takes out what stood where something else stands now, if nobody reads it any more. */
    private void sweep() {
        EditableGraph g = model.graph();
        Map<String, Integer> readers = new HashMap<>();
        g.outputs().keySet().forEach(o -> readers.merge(o, 1, Integer::sum));
        for (EditableGraph each : g.all()) {
            each.nodes().forEach(n -> n.inputs().forEach(i -> readers.merge(i, 1, Integer::sum)));
            if (each != g) {
                each.outputs().keySet().forEach(o -> readers.merge(o, 1, Integer::sum));
            }
        }
        for (int i = g.nodes().size() - 1; i >= 0; i--) {
            EditableNode n = g.nodes().get(i);
            if (n.outputs().size() == 1 && left.contains(n.outputs().getFirst()) && !readers.containsKey(n.outputs().getFirst())) {
                g.nodes().remove(i);
                for (String input : n.inputs()) {
                    left.add(input);
                    readers.computeIfPresent(input, (_, count) -> count == 1 ? null : count - 1);
                }
            }
        }
        left.stream().filter(name -> !readers.containsKey(name)).forEach(g.initializers()::remove);
    }
}
