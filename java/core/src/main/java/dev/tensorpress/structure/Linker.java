package dev.tensorpress.structure;

import dev.tensorpress.model.onnx.EditableGraph;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.structure.Group.Part;
import dev.tensorpress.structure.Integers.Cell;
import dev.tensorpress.structure.Integers.Computed;
import dev.tensorpress.structure.Integers.One;
import dev.tensorpress.structure.Integers.SizeOf;
import dev.tensorpress.tensor.Shape;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.IdentityHashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.IntStream;

/**
 * Says of each node which axes are the same: one pass, after which sets of indices that go together are one {@link IndexSet}. Whatever an operator does
 * not promise of each index alone blocks the set.
 */
final class Linker {
    /** An axis of a value. */
    record Axis(IndexSet set, Slot slot) {
        Axis(IndexSet set) {
            this(set, null);
        }
    }

    /** An axis of a constant, as one reader sees it, or all do. */
    static final class Slot {
        private final String constant;
        private final int axis;
        private final IndexSet set;
        private final EditableNode reader;
        private final int input;
        private Part part = Part.ALONG;
        private EditableNode product;

        Slot(String constant, int axis, IndexSet set, EditableNode reader, int input) {
            this.constant = constant;
            this.axis = axis;
            this.set = set;
            this.reader = reader;
            this.input = input;
        }

        String constant() {
            return constant;
        }

        int axis() {
            return axis;
        }

        IndexSet set() {
            return set;
        }

        /** Null if all readers see the same. */
        EditableNode reader() {
            return reader;
        }

        int input() {
            return input;
        }

        Part part() {
            return part;
        }

        /** The node that sums along it, or makes it; null if none does. */
        EditableNode product() {
            return product;
        }
    }

    /**
     * A number that says how large a set is.
     *
     * @param input of the node, where the number arrives; -1 if it is in an attribute
     * @param attribute null if it arrives at an input
     * @param position among the numbers; -1 if the attribute is one number
     * @param cell where an input's number comes from; null of attributes
     * @param how what the number is
     * @param of axes of which the number is computed while the model runs
     */
    record Size(EditableNode node, int input, String attribute, int position, Cell cell, IndexSet set, How how, List<IndexSet> of) {
        /** What a number says: the size, the size counted from the end, or -1 for what is left, since it is not known before the model runs. */
        enum How { SIZE, FROM_END, REST }

        /** In an attribute. */
        Size(EditableNode node, String attribute, int position, IndexSet set, How how) {
            this(node, -1, attribute, position, null, set, how, List.of());
        }

        String where() {
            return attribute != null ? attribute + (position < 0 ? "" : "[" + position + "]") : "input " + input + "[" + position + "]";
        }
    }

    /** Parts of a Split, whose sizes may differ afterwards where the node says nothing of them. */
    record Parts(EditableNode node, List<IndexSet> sets) {}

    /** A product, which multiplies and adds once for each combination of indices, and that times a number. */
    record Work(List<IndexSet> sets, double times) {
        /** How much less with one index less, by sets of their own. */
        Map<IndexSet, Long> perIndex() {
            List<Map<IndexSet, Long>> shares = sets.stream().map(IndexSet::shares).toList();
            double all = times;
            for (IndexSet s : sets) {
                all *= s.size().factor();
            }
            Map<IndexSet, Long> each = new HashMap<>();
            for (Map<IndexSet, Long> of : shares) {
                for (IndexSet leaf : of.keySet()) {
                    double left = times;
                    for (int i = 0; i < sets.size(); i++) {
                        left *= (double) sets.get(i).size().factor() - shares.get(i).getOrDefault(leaf, 0L);
                    }
                    each.put(leaf, Math.round(all - left));
                }
            }
            return each;
        }
    }

    private record Check(IndexSet wanted, SizeOf given, EditableNode node) {}

    private static final String AT_RUN_TIME = "its size is computed at run time, for ";

    private final Shapes shapes;
    private final EditableGraph graph;
    private final Map<String, Axis[]> axes = new HashMap<>();
    /** Axes of constants, by name; of those with one axis by reader and input. */
    private final Map<Object, Axis[]> constants = new HashMap<>();
    private final Map<EditableNode, Map<Object, Axis[]>> vectors = new IdentityHashMap<>();
    private final Map<String, List<EditableNode>> readers = new HashMap<>();
    private final List<Slot> slots = new ArrayList<>();
    /** The same by the names of their constants. */
    private final Map<String, List<Slot>> slotsOf = new HashMap<>();
    private final List<Size> sizes = new ArrayList<>();
    private final List<Parts> parts = new ArrayList<>();
    private final List<Work> works = new ArrayList<>();
    private final List<Check> checks = new ArrayList<>();
    private final Attentions attentions = new Attentions(this);

    Linker(EditableModel model, Shapes shapes) {
        this.graph = model.graph();
        this.shapes = shapes;
    }

    Shapes shapes() {
        return shapes;
    }

    List<Slot> slots() {
        return slots;
    }

    List<Size> sizes() {
        return sizes;
    }

    List<Parts> parts() {
        return parts;
    }

    List<Work> works() {
        return works;
    }

    List<EditableNode> readers(String value) {
        return readers.getOrDefault(value, List.of());
    }

    Map<String, Axis[]> axes() {
        return axes;
    }

    void link() {
        graph.inputs().keySet().forEach(name -> block(fresh(name), "an axis of input " + name));
        Map<String, String> captured = new LinkedHashMap<>();
        for (EditableNode n : graph.nodes()) {
            new HashSet<>(n.inputs()).forEach(i -> readers.computeIfAbsent(i, _ -> new ArrayList<>(1)).add(n));
            if ((n.is("Shape") || n.is("Size")) && shapes.constant(name(n, 0)).isPresent()) {
                captured.put(name(n, 0), "its size is read by " + n.type() + " " + n.label());
            }
            for (EditableGraph g : n.graphs()) {
                capture(g, "read in a graph inside " + n.type() + " " + n.label(), captured);
            }
        }
        for (EditableNode n : graph.nodes()) {
            node(n);
        }
        captured.forEach(this::blockValue);
        graph.outputs().keySet().forEach(name -> blockValue(name, "an axis of output " + name));
        for (Check c : checks) {
            Axis given = axes.get(c.given.value()) == null ? null : axes.get(c.given.value())[c.given.axis()];
            if (given == null || !given.set.asLongAs(c.wanted)) {
                c.wanted.block(AT_RUN_TIME + c.node.type() + " " + c.node.label());
                blockSize(c.given, AT_RUN_TIME + c.node.type() + " " + c.node.label());
            }
        }
        conflicts();
    }

    private static void capture(EditableGraph g, String reason, Map<String, String> captured) {
        for (EditableGraph inside : g.all()) {
            inside.outputs().keySet().forEach(name -> captured.putIfAbsent(name, reason));
            inside.nodes().forEach(n -> n.inputs().forEach(name -> captured.putIfAbsent(name, reason)));
        }
    }

    /** A number of a constant that arrives twice at one input cannot become two. */
    private void conflicts() {
        Map<List<Object>, Size> seen = new HashMap<>();
        for (Size s : sizes) {
            Size other = s.cell == null ? null : seen.putIfAbsent(List.of(s.node, s.input, s.cell), s);
            if (other != null && other.set.find() != s.set.find()) {
                s.set.block("one number is two sizes of " + s.node.label());
                other.set.block("one number is two sizes of " + s.node.label());
            }
        }
    }

    // Axes of values.

    private Axis[] fresh(String name) {
        List<Quantity> shape = shapes.of(name).orElse(null);
        if (shape == null) {
            return null;
        }
        return axes.computeIfAbsent(name, _ -> shape.stream().map(q -> new Axis(IndexSet.of(q))).toArray(Axis[]::new));
    }

    private static Axis fresh(Quantity size, String reason) {
        IndexSet s = IndexSet.of(size);
        s.block(reason);
        return new Axis(s);
    }

    /** An axis of positions, which nobody would remove. */
    static Axis plain(Quantity size, String reason) {
        Axis a = fresh(size, reason);
        a.set.mark(IndexSet.PLAIN);
        return a;
    }

    private static void block(Axis[] all, String reason) {
        if (all != null) {
            for (Axis a : all) {
                a.set.block(reason);
            }
        }
    }

    private void blockValue(String name, String reason) {
        if (shapes.constant(name).isPresent()) {
            slotsOf.getOrDefault(name, List.of()).forEach(s -> s.set.block(reason));
        }
        block(axes.get(name), reason);
        blockNumbers(shapes.numbers(name), reason);
    }

    private void blockNumbers(Integers numbers, String reason) {
        if (numbers != null) {
            Computed from = Computed.of(numbers.all());
            if (from == null) {
                numbers.all().forEach(n -> blockNumbers(n, reason));
            } else {
                from.sizes().forEach(s -> blockSize(s, reason));
            }
        }
    }

    private void blockNumbers(One number, String reason) {
        blockNumbers(new Integers(true, List.of(number)), reason);
    }

    /** The axis whose size it is; constants have those that all readers of them have. */
    private Optional<IndexSet> axis(SizeOf s) {
        Axis[] all = axes.get(s.value());
        return all != null && s.axis() < all.length ? Optional.of(all[s.axis()].set) : Optional.empty();
    }

    private void blockSize(SizeOf s, String reason) {
        axis(s).ifPresent(set -> set.block(reason));
    }

    private static String name(EditableNode n, int i) {
        return i < n.inputs().size() ? n.inputs().get(i) : "";
    }

    static boolean given(EditableNode n, int i) {
        return !name(n, i).isEmpty();
    }

    /** The axes of an input; null if it is left out, or its shape is not known. */
    Axis[] in(EditableNode n, int i) {
        String name = name(n, i);
        if (name.isEmpty()) {
            return null;
        }
        if (shapes.constant(name).isEmpty()) {
            return axes.containsKey(name) ? axes.get(name) : block(fresh(name));
        }
        Shape shape = shapes.constant(name).get().shape();
        boolean vector = Arrays.stream(shape.dims()).filter(d -> d != 1).count() <= 1;
        Map<Object, Axis[]> seen = vector ? vectors.computeIfAbsent(n, _ -> new HashMap<>()) : constants;
        Object key = vector ? i : name;
        if (seen.containsKey(key)) {
            return seen.get(key);
        }
        Axis[] all = new Axis[shape.rank()];
        for (int a = 0; a < all.length; a++) {
            IndexSet set = IndexSet.of(shape.dim(a));
            Slot slot = new Slot(name, a, set, vector ? n : null, vector ? i : -1);
            slots.add(slot);
            slotsOf.computeIfAbsent(name, _ -> new ArrayList<>()).add(slot);
            all[a] = new Axis(set, slot);
        }
        seen.put(key, all);
        return all;
    }

    /** Of an input that is an operand: {@link Operators#operand}. */
    Axis[] operand(EditableNode n, int i) {
        return in(n, Operators.operand(n, i));
    }

    /** A value that no node before has made, such as a sparse constant. */
    private static Axis[] block(Axis[] all) {
        block(all, "nothing is known of the value");
        return all;
    }

    private static boolean constant(Axis[] all) {
        return all != null && Arrays.stream(all).anyMatch(a -> a.slot != null);
    }

    void out(EditableNode n, int i, Axis... all) {
        if (i < n.outputs().size() && !n.outputs().get(i).isEmpty()) {
            axes.put(n.outputs().get(i), all);
        }
    }

    List<Quantity> shape(EditableNode n, int output) {
        return output < n.outputs().size() ? shapes.of(n.outputs().get(output)).orElse(null) : null;
    }

    private static IndexSet[] sets(Axis... all) {
        return Arrays.stream(all).map(Axis::set).toArray(IndexSet[]::new);
    }

    static void part(Axis a, Part part, EditableNode product) {
        if (a.slot != null && a.slot.part != Part.SUMMED && a.slot.part != part) {
            a.slot.part = part;
            a.slot.product = product;
        }
    }

    // Numbers.

    private void size(EditableNode n, int input, int position, One number, IndexSet set, Size.How how) {
        switch (number.origin()) {
            case Cell c -> sizes.add(new Size(n, input, null, position, c, set, how, List.of()));
            case SizeOf s -> checks.add(new Check(set, s, n));
            case Computed c -> {
                // A number that is known before the model runs can be a constant as well.
                if (c.at() != null && (number.value().known() || how == Size.How.REST)) {
                    sizes.add(new Size(n, input, null, position, c.at(), set, how, c.sizes().stream().flatMap(s -> axis(s).stream()).toList()));
                } else {
                    set.block(AT_RUN_TIME + n.type() + " " + n.label());
                    blockNumbers(number, AT_RUN_TIME + n.type() + " " + n.label());
                }
            }
        }
    }

    /** What an operator does with numbers that say a size; others are handed on, or nobody knows what becomes of them. */
    private static boolean sizesArrive(EditableNode n, int i) {
        return switch (n.type()) {
            case "Reshape", "Expand", "Tile", "Split" -> i == 1;
            case "Slice" -> i == 1 || i == 2;
            case "ConstantOfShape" -> i == 0;
            case "Resize" -> i == 3;
            default -> false;
        };
    }

    private static boolean numbersGoOn(EditableNode n, int i) {
        return switch (n.type()) {
            case "Gather", "Slice", "Expand", "Squeeze", "Unsqueeze", "Reshape" -> i == 0;
            case "ConstantOfShape", "Range" -> false;
            default -> true;
        };
    }

    private void node(EditableNode n) {
        if (n.is("Constant") && !n.outputs().isEmpty() && shapes.constant(n.outputs().getFirst()).isPresent()) {
            return;
        }
        boolean numbers = n.outputs().size() == 1 && shapes.numbers(n.outputs().getFirst()) != null;
        String reason;
        if (numbers) {
            reason = null;
            for (String o : n.outputs()) {
                out(n, 0, shapes.of(o).orElseThrow().stream().map(q -> plain(q, "part of a shape")).toArray(Axis[]::new));
            }
        } else if (!n.graphs().isEmpty()) {
            reason = "operator " + Operators.name(n) + " has graphs inside";
        } else {
            reason = linked(n);
        }
        if (reason != null) {
            for (int i = 0; i < n.inputs().size(); i++) {
                block(in(n, i), reason);
            }
            for (String o : n.outputs()) {
                block(o.isEmpty() ? null : fresh(o), reason);
            }
        }
        for (int i = 0; i < n.inputs().size(); i++) {
            if (reason != null || !(numbers ? numbersGoOn(n, i) : sizesArrive(n, i))) {
                blockNumbers(shapes.numbers(name(n, i)), "its size is read at run time by " + Operators.name(n) + " " + n.label());
            }
        }
    }

    // Operators.

    private static final String LINKED = null;

    /** Links the axes of a node: null, or the reason why that cannot be. */
    private String linked(EditableNode n) {
        String unknown = "shapes at " + Operators.name(n) + " " + n.label() + " are not known before it runs";
        Axis[] x = operand(n, 0);
        if (n.is("Shape") || n.is("Size")) {
            return x == null ? unknown : "its shape is read by " + n.label();
        }
        if (n.is("ConstantOfShape")) {
            return filled(n) ? LINKED : unknown;
        }
        if (Operators.key(n).equals("com.microsoft.EmbedLayerNormalization")) {
            return embedded(n) ? LINKED : unknown;
        }
        if (x == null) {
            boolean known = Operators.unary(n) || Operators.elementwise(n) || n.inputs().isEmpty();
            return known || shapes.of(name(n, Operators.operand(n, 0))).isEmpty() ? unknown : "operator " + Operators.name(n) + " is not known";
        }
        Optional<Boolean> done = linked(n, x);
        return done.isEmpty() ? "operator " + Operators.name(n) + " is not known" : done.get() && scales(n) ? LINKED : unknown;
    }

    /** Scales, zero points and the like of operators on codes: one number, or one for each index of what a product makes. */
    private boolean scales(EditableNode n) {
        for (int i = 0; i < n.inputs().size(); i++) {
            Operators.Numbers of = Operators.numbers(n, i);
            if (of == Operators.Numbers.OPERAND || !given(n, i)) {
                continue;
            }
            Axis[] made = axes.get(n.outputs().getFirst());
            IndexSet set = switch (of) {
                case MADE -> switch (Operators.key(n)) {
                    case "Conv" -> made[1].set;
                    case "com.microsoft.Attention" -> operand(n, 1)[1].set;
                    default -> made[made.length - 1].set;
                };
                case ROWS -> made.length < 2 ? null : made[made.length - 2].set;
                default -> null;
            };
            if (!perIndex(in(n, i), set)) {
                return false;
            }
        }
        return true;
    }

    /** Whether it is one number, or one for each index of a set. */
    private static boolean perIndex(Axis[] all, IndexSet set) {
        boolean done = all != null;
        for (int i = 0; done && i < all.length; i++) {
            if (!all[i].set.size().is(1)) {
                done = set != null && i == all.length - 1 && all[i].set.size().equals(set.size());
                if (done) {
                    set.unify(all[i].set);
                }
            }
        }
        return done;
    }

    /** Whether what is known of the operator was enough to link its axes; empty if it is not known itself. */
    private Optional<Boolean> linked(EditableNode n, Axis[] x) {
        if (Operators.unary(n)) {
            return Optional.of(unary(n, x));
        } else if (Operators.elementwise(n)) {
            return Optional.of(elementwise(n));
        } else if (Operators.reduction(n)) {
            return Optional.of(reduced(n, x));
        } else if (Operators.softmax(n)) {
            return Optional.of(softmax(n, x));
        } else if (Operators.pool(n) || Operators.globalPool(n)) {
            return Optional.of(pooled(n, x));
        } else if (Operators.recurrent(n)) {
            return Optional.of(recurrent(n, x));
        }
        return Optional.ofNullable(switch (Operators.key(n)) {
            case "BatchNormalization" -> perChannel(n, x, 1, 5, 0);
            case "InstanceNormalization" -> perChannel(n, x, 1, 3, IndexSet.STATISTICS);
            case "GroupNormalization" -> inGroups(n, x);
            case "LayerNormalization", "SimplifiedLayerNormalization", "com.microsoft.SimplifiedLayerNormalization", "RMSNormalization" -> normalized(n, x);
            case "MeanVarianceNormalization" -> averaged(n, x);
            case "com.microsoft.SkipLayerNormalization", "com.microsoft.SkipSimplifiedLayerNormalization" -> skipped(n, x);
            case "QuantizeLinear", "DequantizeLinear" -> scaled(n, x);
            case "DynamicQuantizeLinear" -> measured(n, x);
            case "MatMul", "Gemm" -> product(n, x);
            case "com.microsoft.MatMulNBits" -> inBlocks(n, x);
            case "Conv" -> convolved(n, x, operand(n, 1), false);
            case "ConvTranspose" -> convolved(n, x, in(n, 1), true);
            case "Transpose" -> transposed(n, x);
            case "Reshape" -> reshaped(n, x);
            case "Flatten" -> flat(n, x);
            case "Squeeze" -> squeezed(n, x);
            case "Unsqueeze" -> unsqueezed(n, x);
            case "Concat" -> joined(n);
            case "Split" -> split(n, x);
            case "Slice" -> sliced(n, x);
            case "Gather" -> gathered(n, x, in(n, 1));
            case "com.microsoft.GatherBlockQuantized" -> lookedUp(n, x, in(n, 1));
            case "Expand" -> expanded(n, x);
            case "Tile" -> tiled(n, x);
            case "Pad" -> padded(n, x);
            case "Resize", "Upsample" -> resized(n, x);
            case "DepthToSpace" -> blocks(n, x, true);
            case "SpaceToDepth" -> blocks(n, x, false);
            case "ArgMax", "ArgMin" -> chosen(n, x);
            case "CumSum" -> alongAll(n, x, 0, x.length);
            case "Trilu" -> alongAll(n, x, Math.max(0, x.length - 2), x.length);
            case "Einsum" -> einsum(n);
            default -> attentions.linked(n, x);
        });
    }

    private boolean unary(EditableNode n, Axis[] x) {
        out(n, 0, x);
        if (n.type().equals("Dropout")) {
            out(n, 1, x);
        }
        int bias = Operators.operand(n, 1);
        boolean biased = n.domain().equals(Operators.MICROSOFT) && given(n, bias);
        if (biased && (in(n, bias) == null || in(n, bias).length == 0 || x.length == 0)) {
            return false;
        }
        if (biased) {
            x[x.length - 1].set.unify(in(n, bias)[0].set);
            out(n, 0, Arrays.stream(x).map(a -> new Axis(a.set)).toArray(Axis[]::new));
        }
        return true;
    }

    /** Axes of operands that are made equally long, counted from the last one; null if a shape is not known. */
    private Axis[] broadcast(EditableNode n, List<Axis[]> operands) {
        int rank = 0;
        for (Axis[] o : operands) {
            if (o == null) {
                return null;
            }
            rank = Math.max(rank, o.length);
        }
        List<Quantity> shape = shape(n, 0);
        String reason = "it meets an axis of unknown size at " + n.label();
        Axis[] all = new Axis[rank];
        for (int i = 0; i < rank; i++) {
            Axis first = null;
            boolean mixed = false;
            for (Axis[] o : operands) {
                int at = i - rank + o.length;
                if (at >= 0 && (first == null || first.set.size().is(1))) {
                    first = o[at];
                } else if (at >= 0 && !o[at].set.size().is(1)) {
                    mixed |= !o[at].set.size().equals(first.set.size());
                }
            }
            all[i] = new Axis(first.set);
            for (Axis[] o : operands) {
                int at = i - rank + o.length;
                if (at >= 0 && !o[at].set.size().is(1) && mixed) {
                    o[at].set.block(reason);
                    all[i] = shape != null && i < shape.size() ? fresh(shape.get(i), reason) : o[at];
                } else if (at >= 0 && !o[at].set.size().is(1)) {
                    first.set.unify(o[at].set);
                }
            }
        }
        return all;
    }

    private boolean elementwise(EditableNode n) {
        List<Axis[]> operands = new ArrayList<>();
        int values = 0;
        for (int i = 0; i < Operators.operands(n); i++) {
            operands.add(operand(n, i));
            values += constant(operands.getLast()) || operands.getLast() == null || operands.getLast().length == 0 ? 0 : 1;
        }
        Axis[] all = broadcast(n, operands);
        if (all == null) {
            return false;
        }
        String key = Operators.key(n);
        boolean adds = key.equals("Add") || key.equals("Sub") || key.equals("Sum");
        for (Axis a : all) {
            if (adds && values > 1) {
                a.set.mark(IndexSet.RESIDUAL);
            }
        }
        out(n, 0, all);
        return true;
    }

    private boolean reduced(EditableNode n, Axis[] x) {
        int[] over = shapes.axes(n, 1, x.length);
        if (over == null) {
            return false;
        }
        if (over.length == 0) {
            over = n.integer("noop_with_empty_axes", 0) != 0 ? over : IntStream.range(0, x.length).toArray();
        } else if (!given(n, 1) && !n.has("axes") && n.integer("noop_with_empty_axes", 0) != 0) {
            over = new int[0];
        }
        boolean sums = switch (n.type()) {
            case "ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2" -> true;
            default -> false;
        };
        List<Axis> all = new ArrayList<>();
        for (int i = 0; i < x.length; i++) {
            if (Arrays.binarySearch(over, i) < 0) {
                all.add(new Axis(x[i].set));
                continue;
            }
            if (sums) {
                x[i].set.mark(IndexSet.STATISTICS);
            } else {
                x[i].set.block(n.type() + " goes over it");
            }
            if (n.integer("keepdims", 1) != 0) {
                all.add(new Axis(IndexSet.of(1)));
            }
        }
        out(n, 0, all.toArray(Axis[]::new));
        return true;
    }

    private boolean softmax(EditableNode n, Axis[] x) {
        boolean last = n.integer("opset", shapes.opset()) >= 13 || n.type().equals("LpNormalization");
        int axis = Shapes.axis(n, "axis", last ? -1 : 1, x.length);
        return axis >= 0 && alongAll(n, x, axis, last ? axis + 1 : x.length);
    }

    /** As it is, but each of these axes as a whole. */
    private boolean alongAll(EditableNode n, Axis[] x, int from, int to) {
        for (int i = from; i < to; i++) {
            x[i].set.block(n.type() + " goes over it");
        }
        out(n, 0, x);
        return true;
    }

    private boolean chosen(EditableNode n, Axis[] x) {
        int axis = Shapes.axis(n, "axis", 0, x.length);
        if (axis < 0) {
            return false;
        }
        x[axis].set.block(n.type() + " goes over it");
        List<Axis> all = new ArrayList<>(List.of(x));
        all.set(axis, new Axis(IndexSet.of(1)));
        if (n.integer("keepdims", 1) == 0) {
            all.remove(axis);
        }
        out(n, 0, all.toArray(Axis[]::new));
        return true;
    }

    /** Batch and channels as they are, the axes behind them as a window that slides makes them. */
    private boolean windows(EditableNode n, Axis[] x, Axis batch, Axis channels) {
        List<Quantity> shape = shape(n, 0);
        if (shape == null || shape.size() != x.length || x.length < 2) {
            return false;
        }
        Axis[] all = new Axis[x.length];
        all[0] = batch;
        all[1] = channels;
        for (int i = 2; i < all.length; i++) {
            String reason = n.type() + " goes along it";
            x[i].set.block(reason);
            all[i] = plain(shape.get(i), reason);
        }
        out(n, 0, all);
        return true;
    }

    private boolean pooled(EditableNode n, Axis[] x) {
        if (x.length < 2 || !windows(n, x, new Axis(x[0].set), new Axis(x[1].set))) {
            return false;
        }
        if (n.outputs().size() > 1) {
            x[1].set.block("positions of maxima count it");
            out(n, 1, axes.get(n.outputs().getFirst()));
        }
        return true;
    }

    /** Inputs from 1 to {@code inputs} hold a number for each index of an axis. */
    private boolean perChannel(EditableNode n, Axis[] x, int axis, int inputs, int marks) {
        if (x.length <= axis || n.outputs().size() > 1 && Arrays.stream(new int[] {1, 2, 3, 4}).anyMatch(i -> i < n.outputs().size() && !n.outputs().get(i).isEmpty())) {
            return false;
        }
        for (int i = 1; i < inputs; i++) {
            Axis[] p = in(n, i);
            if (p == null || p.length != 1) {
                return false;
            }
            x[axis].set.unify(p[0].set);
        }
        for (int i = 2; i < x.length && marks != 0; i++) {
            x[i].set.mark(marks);
        }
        out(n, 0, x);
        return true;
    }

    private boolean inGroups(EditableNode n, Axis[] x) {
        Axis[] scale = in(n, 1);
        Axis[] bias = in(n, 2);
        Quantity count = Quantity.of(n.integer("num_groups", 0));
        if (x.length < 2 || scale == null || bias == null || scale.length != 1 || bias.length != 1 || x[1].set.size().dividedBy(count).isEmpty()) {
            return false;
        }
        IndexSet groups = IndexSet.of(count);
        IndexSet rest = IndexSet.of(x[1].set.size().dividedBy(count).get());
        x[1].set.unify(IndexSet.product(groups, rest));
        rest.mark(IndexSet.STATISTICS);
        IndexSet of = scale[0].set.size().equals(count) ? groups : x[1].set;
        of.unify(scale[0].set);
        of.unify(bias[0].set);
        sizes.add(new Size(n, "num_groups", -1, groups, Size.How.SIZE));
        out(n, 0, x);
        return true;
    }

    private boolean normalized(EditableNode n, Axis[] x) {
        int axis = Shapes.axis(n, "axis", -1, x.length);
        if (axis < 0) {
            return false;
        }
        for (int i = 1; i < 3; i++) {
            if (given(n, i) && broadcast(n, Arrays.asList(x, in(n, i))) == null) {
                return false;
            }
        }
        Axis[] mean = x.clone();
        for (int i = axis; i < x.length; i++) {
            x[i].set.mark(IndexSet.STATISTICS);
            mean[i] = new Axis(IndexSet.of(1));
        }
        out(n, 0, x);
        out(n, 1, mean);
        out(n, 2, mean);
        return true;
    }

    private boolean averaged(EditableNode n, Axis[] x) {
        for (long a : n.integers("axes").orElse(new long[] {0, 2, 3})) {
            if (a < 0 || a >= x.length) {
                return false;
            }
            x[(int) a].set.mark(IndexSet.STATISTICS);
        }
        out(n, 0, x);
        return true;
    }

    private boolean skipped(EditableNode n, Axis[] x) {
        Axis[] all = broadcast(n, IntStream.range(0, n.inputs().size()).filter(i -> given(n, i)).mapToObj(i -> in(n, i)).toList());
        if (all == null || all.length == 0 || n.outputs().size() > 1 && !n.outputs().get(1).isEmpty() || n.outputs().size() > 2 && !n.outputs().get(2).isEmpty()) {
            return false;
        }
        all[all.length - 1].set.mark(IndexSet.STATISTICS | IndexSet.RESIDUAL);
        out(n, 0, all);
        out(n, 3, all);
        return x.length == all.length;
    }

    private boolean embedded(EditableNode n) {
        Axis[] ids = in(n, 0);
        List<Axis> widths = new ArrayList<>();
        for (int i = 2; i < 7; i++) {
            Axis[] t = in(n, i);
            if (given(n, i) && (t == null || t.length != (i < 5 ? 2 : 1))) {
                return false;
            }
            if (t != null) {
                widths.add(t[t.length - 1]);
                if (i < 5) {
                    t[0].set.block(n.type() + " " + n.label() + " looks it up by numbers");
                    t[0].set.mark(IndexSet.ROWS);
                }
            }
        }
        if (ids == null || ids.length != 2 || widths.isEmpty()) {
            return false;
        }
        widths.forEach(w -> w.set.unify(widths.getFirst().set));
        IndexSet width = widths.getFirst().set;
        width.mark(IndexSet.STATISTICS | IndexSet.RESIDUAL);
        Axis[] all = {new Axis(ids[0].set), new Axis(ids[1].set), new Axis(width)};
        out(n, 0, all);
        out(n, 1, new Axis(ids[0].set));
        out(n, 2, all);
        return true;
    }

    private boolean scaled(EditableNode n, Axis[] x) {
        if (n.integer("block_size", 0) != 0) {
            return false;
        }
        for (int i = 1; i < 3; i++) {
            Axis[] p = in(n, i);
            if (!given(n, i)) {
                continue;
            }
            int axis = x.length == 0 ? -1 : Shapes.axis(n, "axis", x.length > 1 ? 1 : 0, x.length);
            if (p == null || p.length > 1 || p.length == 1 && axis < 0) {
                return false;
            }
            if (p.length == 1 && !p[0].set.size().is(1)) {
                x[axis].set.unify(p[0].set);
            }
        }
        out(n, 0, x);
        return true;
    }

    private boolean measured(EditableNode n, Axis[] x) {
        for (Axis a : x) {
            a.set.mark(IndexSet.STATISTICS);
        }
        out(n, 0, x);
        out(n, 1);
        out(n, 2);
        return true;
    }

    private boolean product(EditableNode n, Axis[] left) {
        Axis[] right = operand(n, 1);
        if (right == null || left.length == 0 || right.length == 0 || n.integer("transBatchA", 0) != 0 || n.integer("transBatchB", 0) != 0) {
            return false;
        }
        Axis[] a = Shapes.turned(List.of(left), n.integer("transA", 0)).toArray(Axis[]::new);
        Axis[] b = Shapes.turned(List.of(right), n.integer("transB", 0)).toArray(Axis[]::new);
        Axis[] outer = broadcast(n, List.of(Arrays.copyOf(a, Math.max(0, a.length - 2)), Arrays.copyOf(b, Math.max(0, b.length - 2))));
        Axis inLeft = a[a.length - 1];
        Axis inRight = b[Math.max(0, b.length - 2)];
        inLeft.set.unify(inRight.set);
        part(inLeft, Part.SUMMED, n);
        part(inRight, Part.SUMMED, n);
        List<Axis> all = new ArrayList<>(List.of(outer));
        if (a.length > 1) {
            part(a[a.length - 2], Part.MADE, n);
            all.add(new Axis(a[a.length - 2].set));
        }
        if (b.length > 1) {
            part(b[b.length - 1], Part.MADE, n);
            all.add(new Axis(b[b.length - 1].set));
        }
        if (inLeft.slot == null && inRight.slot == null) {
            for (Axis o : outer) {
                o.set.mark(IndexSet.HEADS);
            }
            inLeft.set.mark(IndexSet.HEAD_FEATURES | IndexSet.STATISTICS);
            b[b.length - 1].set.mark(IndexSet.HEAD_FEATURES);
        }
        for (Axis each : Operators.name(n).equals("com.microsoft.DynamicQuantizeMatMul") ? left : new Axis[0]) {
            each.set.mark(IndexSet.STATISTICS);
        }
        List<IndexSet> work = new ArrayList<>(List.of(sets(all.toArray(Axis[]::new))));
        work.add(inLeft.set);
        works.add(new Work(work, 1));
        out(n, 0, all.toArray(Axis[]::new));
        int more = Operators.operand(n, 2);
        return !Operators.key(n).equals("Gemm") || !given(n, more) || broadcast(n, Arrays.asList(axes.get(n.outputs().getFirst()), in(n, more))) != null;
    }

    /** A matrix in codes, each row of which is cut into blocks: an output can go alone, inputs as whole blocks. */
    private boolean inBlocks(EditableNode n, Axis[] x) {
        Axis[] codes = in(n, 1);
        Axis[] scales = in(n, 2);
        long size = n.integer("block_size", 0);
        long inputs = n.integer("K", 0);
        if (x.length == 0 || codes == null || codes.length != 3 || scales == null || size < 1 || inputs < 1 || given(n, 4)
                || !x[x.length - 1].set.size().is(inputs) || !codes[1].set.size().is(Math.ceilDiv(inputs, size))) {
            return false;
        }
        IndexSet made = codes[0].set;
        IndexSet blocks = codes[1].set;
        IndexSet summed = x[x.length - 1].set;
        if (inputs % size == 0) {
            IndexSet each = IndexSet.of(size);
            each.block("blocks of " + n.label() + " go as a whole");
            summed.unify(IndexSet.product(blocks, each));
        } else {
            summed.block("the last block of " + n.label() + " is not full");
            blocks.block("the last block of " + n.label() + " is not full");
        }
        codes[2].set.block("codes of a block");
        codes[2].set.mark(IndexSet.PLAIN);
        part(codes[0], Part.MADE, n);
        // Without its scale a block is 0, whatever its codes say.
        for (Axis a : scales) {
            part(a, Part.SUMMED, n);
        }
        if (!perBlock(scales, made, blocks)) {
            return false;
        }
        if (given(n, 3)) {
            Axis[] zeros = in(n, 3);
            long elements = zeros == null ? -1 : Arrays.stream(zeros).mapToLong(a -> a.set.size().factor()).reduce(1, (a, b) -> a * b);
            long each = elements / Math.max(1, made.size().factor());
            IndexSet bytes = blocks;
            long together = each == 0 ? 0 : blocks.size().factor() / each;
            String reason = "blocks of " + n.label() + " whose zero points share a byte go together";
            if (together > 1 && together * each == blocks.size().factor()) {
                bytes = IndexSet.of(each);
                blocks.unify(IndexSet.product(bytes, fresh(Quantity.of(together), reason).set));
            } else if (each < blocks.size().factor()) {
                bytes = plain(Quantity.of(each), reason).set;
                blocks.block("the last byte of zero points of " + n.label() + " is not full");
            }
            if (zeros == null || !perBlock(zeros, made, bytes)) {
                return false;
            }
        }
        if (given(n, 5) && !perIndex(in(n, 5), made)) {
            return false;
        }
        sizes.add(new Size(n, "N", -1, made, Size.How.SIZE));
        sizes.add(new Size(n, "K", -1, summed, Size.How.SIZE));
        Axis[] all = x.clone();
        all[x.length - 1] = new Axis(made);
        List<IndexSet> work = new ArrayList<>(List.of(sets(all)));
        work.add(summed);
        works.add(new Work(work, 1));
        out(n, 0, all);
        return true;
    }

    /** Whether there is a number for each block, in rows or one after another. */
    private static boolean perBlock(Axis[] all, IndexSet made, IndexSet blocks) {
        IndexSet both = IndexSet.product(made, blocks);
        if (all.length == 1 && all[0].set.size().equals(both.size())) {
            all[0].set.unify(both);
        } else if (all.length == 2 && all[0].set.size().equals(made.size()) && all[1].set.size().equals(blocks.size())) {
            all[0].set.unify(made);
            all[1].set.unify(blocks);
        } else {
            return false;
        }
        return true;
    }

    private boolean convolved(EditableNode n, Axis[] x, Axis[] w, boolean transposed) {
        long groups = n.integer("group", 1);
        if (x.length < 3 || w == null || w.length != x.length || groups < 1) {
            return false;
        }
        IndexSet wide = w[0].set;
        IndexSet narrow = w[1].set;
        IndexSet outside = wide;
        if (groups > 1) {
            Quantity count = Quantity.of(groups);
            if (wide.size().dividedBy(count).isEmpty()) {
                return false;
            }
            IndexSet group = IndexSet.of(count);
            wide.unify(IndexSet.product(group, IndexSet.of(wide.size().dividedBy(count).get())));
            outside = IndexSet.product(group, narrow);
            sizes.add(new Size(n, "group", -1, group, Size.How.SIZE));
        } else {
            outside = narrow;
        }
        // Each group sums its own channels.
        IndexSet in = transposed ? wide : outside;
        IndexSet made = transposed ? outside : wide;
        x[1].set.unify(in);
        part(w[transposed ? 0 : 1], Part.SUMMED, n);
        part(w[transposed ? 1 : 0], Part.MADE, n);
        x[1].set.mark(IndexSet.CHANNELS);
        made.mark(IndexSet.CHANNELS);
        double kernel = 1;
        for (int i = 2; i < w.length; i++) {
            w[i].set.mark(IndexSet.PLAIN);
            w[i].set.block("positions of a window");
            kernel *= w[i].set.size().factor();
        }
        int bias = Operators.operand(n, 2);
        if (given(n, bias)) {
            if (in(n, bias) == null || in(n, bias).length != 1) {
                return false;
            }
            made.unify(in(n, bias)[0].set);
        }
        if (!windows(n, x, new Axis(x[0].set), new Axis(made))) {
            return false;
        }
        Axis[] out = axes.get(n.outputs().getFirst());
        List<IndexSet> work = new ArrayList<>(List.of(sets(transposed ? x : out)));
        work.add(narrow);
        works.add(new Work(work, kernel));
        return !n.type().equals("FusedConv") || !given(n, 3) || broadcast(n, Arrays.asList(out, in(n, 3))) != null;
    }

    private boolean transposed(EditableNode n, Axis[] x) {
        int[] order = Shapes.order(n, x.length);
        if (order == null) {
            return false;
        }
        out(n, 0, Arrays.stream(order).mapToObj(i -> x[i]).toArray(Axis[]::new));
        return true;
    }

    private boolean reshaped(EditableNode n, Axis[] x) {
        Integers wanted = shapes.wanted(n);
        List<Quantity> shape = shape(n, 0);
        if (wanted == null || shape == null || shape.size() != wanted.size()) {
            return false;
        }
        Axis[] all = aligned(n, x, shape);
        // One that is not known can be what is left, if no other one is that.
        boolean rest = wanted.all().stream().anyMatch(o -> o.value().is(-1));
        for (int i = 0; i < all.length; i++) {
            Quantity q = wanted.value(i);
            if (!q.known() && !rest && wanted.all().get(i).origin() instanceof Computed c && c.at() != null) {
                size(n, 1, i, wanted.all().get(i), all[i].set, Size.How.REST);
                rest = true;
            } else if (q.is(0) && n.integer("allowzero", 0) == 0) {
                if (i >= x.length || !x[i].set.asLongAs(all[i].set)) {
                    all[i].set.block("axes change their places at " + n.label());
                }
            } else if (!q.is(-1) && given(n, 1)) {
                size(n, 1, i, wanted.all().get(i), all[i].set, Size.How.SIZE);
            } else if (!q.is(-1)) {
                sizes.add(new Size(n, "shape", i, all[i].set, Size.How.SIZE));
            }
        }
        out(n, 0, all);
        return true;
    }

    private boolean flat(EditableNode n, Axis[] x) {
        long axis = n.integer("axis", 1);
        if (axis < -x.length || axis > x.length) {
            return false;
        }
        int at = (int) (axis < 0 ? axis + x.length : axis);
        out(n, 0, new Axis(IndexSet.product(sets(Arrays.copyOf(x, at)))), new Axis(IndexSet.product(sets(Arrays.copyOfRange(x, at, x.length)))));
        return true;
    }

    /** Axes of the same elements in the same order, of another shape. */
    private Axis[] aligned(EditableNode n, Axis[] from, List<Quantity> shape) {
        Axis[] all = new Axis[shape.size()];
        List<Axis> p = new ArrayList<>();
        for (Axis a : from) {
            if (!a.set.size().is(1)) {
                p.add(a);
            }
        }
        List<Integer> q = new ArrayList<>();
        for (int i = 0; i < all.length; i++) {
            all[i] = new Axis(IndexSet.of(shape.get(i)));
            if (!shape.get(i).is(1)) {
                q.add(i);
            }
        }
        while (!p.isEmpty() && !q.isEmpty() && p.getFirst().set.size().equals(shape.get(q.getFirst()))) {
            all[q.removeFirst()] = new Axis(p.removeFirst().set);
        }
        while (!p.isEmpty() && !q.isEmpty() && p.getLast().set.size().equals(shape.get(q.getLast()))) {
            all[q.removeLast()] = new Axis(p.removeLast().set);
        }
        // Axes of unknown size may stand on either side.
        blocks(p, q, all, shape, false);
        blocks(p, q, all, shape, true);
        String reason = "how Reshape " + n.label() + " orders its elements anew is not known before it runs";
        p.forEach(a -> a.set.block(reason));
        q.forEach(m -> all[m].set.block(reason));
        return all;
    }

    /** Takes axes from one end, as few at a time as have equally many elements on both sides. */
    private static void blocks(List<Axis> p, List<Integer> q, Axis[] all, List<Quantity> shape, boolean fromEnd) {
        while (!p.isEmpty() && !q.isEmpty()) {
            int i = 1;
            int k = 1;
            Quantity left = (fromEnd ? p.getLast() : p.getFirst()).set.size();
            Quantity right = shape.get(fromEnd ? q.getLast() : q.getFirst());
            while (!left.equals(right)) {
                boolean more = right.dividedBy(left).isPresent() || left.known() && right.known() && left.factor() < right.factor();
                if (more ? i == p.size() : k == q.size()) {
                    return;
                }
                Optional<Quantity> product = more ? left.times(p.get(fromEnd ? p.size() - ++i : i++).set.size())
                        : right.times(shape.get(q.get(fromEnd ? q.size() - ++k : k++)));
                if (product.isEmpty()) {
                    return;
                }
                left = more ? product.get() : left;
                right = more ? right : product.get();
            }
            if (left.is(0)) {
                return;
            }
            List<Axis> given = fromEnd ? p.subList(p.size() - i, p.size()) : p.subList(0, i);
            List<Integer> made = fromEnd ? q.subList(q.size() - k, q.size()) : q.subList(0, k);
            IndexSet set = IndexSet.product(given.stream().map(Axis::set).toArray(IndexSet[]::new));
            if (k == 1) {
                all[made.getFirst()] = new Axis(set);
            } else {
                set.unify(IndexSet.product(made.stream().map(m -> all[m].set).toArray(IndexSet[]::new)));
            }
            given.clear();
            made.clear();
        }
    }

    private boolean squeezed(EditableNode n, Axis[] x) {
        int[] out = shapes.squeezes(n, Arrays.stream(x).map(a -> a.set.size()).toList());
        if (out == null) {
            return false;
        }
        out(n, 0, IntStream.range(0, x.length).filter(i -> Arrays.binarySearch(out, i) < 0).mapToObj(i -> x[i]).toArray(Axis[]::new));
        return true;
    }

    private boolean unsqueezed(EditableNode n, Axis[] x) {
        int[] in = shapes.unsqueezes(n, x.length);
        if (in == null) {
            return false;
        }
        List<Axis> all = new ArrayList<>(List.of(x));
        for (int a : in) {
            all.add(Math.min(a, all.size()), new Axis(IndexSet.of(1)));
        }
        out(n, 0, all.toArray(Axis[]::new));
        return true;
    }

    private boolean joined(EditableNode n) {
        List<Axis[]> operands = IntStream.range(0, Operators.operands(n)).mapToObj(i -> operand(n, i)).toList();
        List<Quantity> shape = shape(n, 0);
        if (operands.contains(null) || shape == null || operands.stream().anyMatch(o -> o.length != shape.size())) {
            return false;
        }
        int axis = Shapes.axis(n, "axis", 1, shape.size());
        if (axis < 0) {
            return false;
        }
        Axis[] all = new Axis[shape.size()];
        for (int i = 0; i < all.length; i++) {
            int at = i;
            if (i == axis) {
                all[i] = new Axis(IndexSet.sum(operands.stream().map(o -> o[at].set).toList(), shape.get(axis)));
            } else {
                operands.forEach(o -> operands.getFirst()[at].set.unify(o[at].set));
                all[i] = new Axis(operands.getFirst()[i].set);
            }
        }
        out(n, 0, all);
        return true;
    }

    private boolean split(EditableNode n, Axis[] x) {
        int axis = Shapes.axis(n, "axis", 0, x.length);
        long[] cuts = axis < 0 || !x[axis].set.size().known() ? null : shapes.parts(n, x[axis].set.size());
        if (cuts == null || !x[axis].set.size().is(Arrays.stream(cuts).sum()) || Arrays.stream(cuts).anyMatch(c -> c < 0)) {
            return false;
        }
        Integers numbers = given(n, 1) ? shapes.numbers(name(n, 1)) : null;
        List<IndexSet> sets = new ArrayList<>();
        long at = 0;
        for (int i = 0; i < cuts.length; i++) {
            IndexSet part = x[axis].set.slice(at, cuts[i]);
            at += cuts[i];
            Axis[] all = x.clone();
            all[axis] = new Axis(part);
            out(n, i, all);
            sets.add(part);
            if (numbers != null) {
                size(n, 1, i, numbers.all().get(i), part, Size.How.SIZE);
            }
        }
        if (numbers == null) {
            parts.add(new Parts(n, sets));
        }
        return true;
    }

    private boolean sliced(EditableNode n, Axis[] x) {
        List<Shapes.Cut> cuts = shapes.cuts(n, Arrays.stream(x).map(a -> a.set.size()).toList());
        List<Quantity> shape = shape(n, 0);
        if (cuts == null || shape == null) {
            return false;
        }
        Axis[] all = x.clone();
        for (Shapes.Cut c : cuts) {
            IndexSet set = all[c.axis()].set;
            if (!c.known()) {
                set.block("Slice " + n.label() + " takes parts that are not known before it runs");
                all[c.axis()] = fresh(shape.get(c.axis()), "a part of an axis that is not known before it runs");
                blockNumbers(shapes.numbers(name(n, 1)), AT_RUN_TIME + n.label());
                blockNumbers(shapes.numbers(name(n, 2)), AT_RUN_TIME + n.label());
                continue;
            }
            long size = set.size().factor();
            bound(n, "starts", 1, c.at(), set, c.from(), size);
            bound(n, "ends", 2, c.at(), set, c.to(), size);
            all[c.axis()] = c.to() - c.from() == size ? all[c.axis()] : new Axis(set.slice(c.from(), c.to() - c.from()));
        }
        out(n, 0, all);
        return true;
    }

    /** A bound of a slice is as far from an end of the axis as what lies between is large. */
    private void bound(EditableNode n, String attribute, int input, int at, IndexSet set, long bound, long size) {
        boolean inputs = shapes.opset() >= 10;
        Integers numbers = inputs ? shapes.numbers(name(n, input)) : Integers.of(n.integers(attribute).orElseThrow());
        long raw = numbers.value(at).factor();
        if (raw == 0 || raw > size || raw < -size) {
            if (inputs) {
                blockNumbers(numbers.all().get(at), AT_RUN_TIME + n.label());
            }
            return;
        }
        IndexSet between = raw < 0 ? set.slice(bound, size - bound) : set.slice(0, bound);
        Size.How how = raw < 0 ? Size.How.FROM_END : Size.How.SIZE;
        if (inputs) {
            size(n, input, at, numbers.all().get(at), between, how);
        } else {
            sizes.add(new Size(n, attribute, at, between, how));
        }
    }

    private boolean gathered(EditableNode n, Axis[] x, Axis[] indices) {
        int axis = Shapes.axis(n, "axis", 0, x.length);
        if (axis < 0 || indices == null) {
            return false;
        }
        Integers which = shapes.numbers(name(n, 1));
        IndexSet set = x[axis].set;
        boolean one = which != null && which.size() == 1 && which.value(0).known() && set.size().known();
        long at = one ? which.value(0).factor() : 0;
        at = at < 0 && one ? at + set.size().factor() : at;
        if (one && at >= 0 && at < set.size().factor()) {
            set.slice(at, 1);
        }
        set.block("Gather " + n.label() + " looks it up by numbers");
        set.mark(x[axis].slot == null ? 0 : IndexSet.ROWS);
        List<Axis> all = new ArrayList<>(List.of(x));
        all.remove(axis);
        all.addAll(axis, Arrays.stream(indices).map(i -> new Axis(i.set)).toList());
        out(n, 0, all.stream().map(a -> a.slot == null ? a : new Axis(a.set)).toArray(Axis[]::new));
        return true;
    }

    /** Of a table in blocks of codes, which stays; so do the columns that come out of it. */
    private boolean lookedUp(EditableNode n, Axis[] x, Axis[] indices) {
        List<Quantity> shape = shape(n, 0);
        int axis = Shapes.axis(n, "gather_axis", 0, x.length);
        if (shape == null || indices == null || axis < 0 || shape.size() != x.length + indices.length - 1) {
            return false;
        }
        String reason = "blocks of the table of " + n.label() + " stay";
        for (int i = 0; i < n.inputs().size(); i++) {
            if (i != 1 && given(n, i)) {
                block(in(n, i), reason);
            }
        }
        Axis[] all = new Axis[shape.size()];
        for (int i = 0; i < all.length; i++) {
            all[i] = i >= axis && i < axis + indices.length ? new Axis(indices[i - axis].set) : fresh(shape.get(i), reason);
        }
        out(n, 0, all);
        return true;
    }

    /** An axis of length 1 that becomes longer, by a number in an input. */
    private Axis repeated(EditableNode n, int input, int position, One number) {
        IndexSet set = IndexSet.of(number.value());
        size(n, input, position, number, set, Size.How.SIZE);
        return new Axis(set);
    }

    private boolean expanded(EditableNode n, Axis[] x) {
        Integers to = shapes.numbers(name(n, 1));
        if (to == null || shape(n, 0) == null) {
            return false;
        }
        int rank = Math.max(x.length, to.size());
        Axis[] all = new Axis[rank];
        for (int i = 0; i < rank; i++) {
            Axis a = i < rank - x.length ? null : x[i - rank + x.length];
            int at = i - rank + to.size();
            if (at < 0 || a != null && to.value(at).is(1)) {
                all[i] = a;
                if (at >= 0) {
                    blockNumbers(to.all().get(at), "its size is read at run time by Expand " + n.label());
                }
            } else if (a == null || a.set.size().is(1)) {
                all[i] = repeated(n, 1, at, to.all().get(at));
            } else if (a.set.size().equals(to.value(at))) {
                all[i] = a;
                size(n, 1, at, to.all().get(at), a.set, Size.How.SIZE);
            } else {
                a.set.block("it meets an axis of unknown size at " + n.label());
                all[i] = fresh(shape(n, 0).get(i), "it meets an axis of unknown size at " + n.label());
            }
        }
        out(n, 0, all);
        return true;
    }

    private boolean filled(EditableNode n) {
        Integers to = shapes.numbers(name(n, 0));
        if (to == null) {
            return false;
        }
        out(n, 0, IntStream.range(0, to.size()).mapToObj(i -> repeated(n, 0, i, to.all().get(i))).toArray(Axis[]::new));
        return true;
    }

    private boolean tiled(EditableNode n, Axis[] x) {
        Integers repeats = shapes.numbers(name(n, 1));
        if (repeats == null || repeats.size() != x.length) {
            return false;
        }
        Axis[] all = new Axis[x.length];
        for (int i = 0; i < all.length; i++) {
            all[i] = repeats.value(i).is(1) ? x[i]
                    : new Axis(IndexSet.product(fresh(repeats.value(i), "it is repeated by Tile " + n.label()).set, x[i].set));
            if (!repeats.value(i).is(1)) {
                blockNumbers(repeats.all().get(i), "its size is read at run time by Tile " + n.label());
            }
        }
        out(n, 0, all);
        return true;
    }

    private boolean padded(EditableNode n, Axis[] x) {
        long[] pads = shapes.pads(n, x.length);
        List<Quantity> shape = shape(n, 0);
        if (pads == null || shape == null) {
            return false;
        }
        Axis[] all = x.clone();
        for (int i = 0; i < x.length; i++) {
            if (pads[i] != 0 || pads[i + x.length] != 0) {
                x[i].set.block("Pad " + n.label() + " makes it longer");
                all[i] = fresh(shape.get(i), "Pad " + n.label() + " makes it longer");
            }
        }
        out(n, 0, all);
        return true;
    }

    private boolean resized(EditableNode n, Axis[] x) {
        List<Quantity> shape = shape(n, 0);
        if (shape == null || shape.size() != x.length || n.has("axes")) {
            return false;
        }
        Integers sizes = n.type().equals("Resize") && shapes.opset() >= 11 ? shapes.numbers(name(n, 3)) : null;
        double[] scales = sizes == null ? shapes.scales(n) : null;
        boolean crops = n.text("coordinate_transformation_mode", "").equals("tf_crop_and_resize");
        Axis[] all = new Axis[x.length];
        for (int i = 0; i < all.length; i++) {
            if (!crops && sizes != null && sizes.value(i).equals(x[i].set.size())) {
                size(n, 3, i, sizes.all().get(i), x[i].set, Size.How.SIZE);
                all[i] = x[i];
            } else if (!crops && scales != null && scales.length == x.length && scales[i] == 1) {
                all[i] = x[i];
            } else {
                x[i].set.block(n.type() + " " + n.label() + " changes its length");
                all[i] = plain(shape.get(i), n.type() + " " + n.label() + " changes its length");
                if (sizes != null) {
                    blockNumbers(sizes.all().get(i), AT_RUN_TIME + n.label());
                }
            }
        }
        out(n, 0, all);
        return true;
    }

    private boolean blocks(EditableNode n, Axis[] x, boolean toSpace) {
        List<Quantity> shape = shape(n, 0);
        long block = n.integer("blocksize", 0);
        if (shape == null || x.length != 4 || block < 1 || block > 1 << 15) {
            return false;
        }
        Axis square = plain(Quantity.of(block * block), "positions within a block");
        IndexSet channels;
        if (toSpace) {
            Quantity left = x[1].set.size().dividedBy(square.set.size()).orElse(null);
            if (left == null) {
                return false;
            }
            channels = IndexSet.of(left);
            boolean columnsFirst = n.text("mode", "DCR").equals("CRD");
            x[1].set.unify(columnsFirst ? IndexSet.product(channels, square.set) : IndexSet.product(square.set, channels));
        } else {
            channels = IndexSet.product(square.set, x[1].set);
        }
        return windows(n, x, new Axis(x[0].set), new Axis(channels));
    }

    private boolean einsum(EditableNode n) {
        List<String> letters = Shapes.letters(n);
        if (letters == null) {
            return false;
        }
        String made = letters.getLast();
        Map<Character, IndexSet> sets = new LinkedHashMap<>();
        Map<Character, Integer> operands = new HashMap<>();
        boolean constants = false;
        for (int i = 0; i < n.inputs().size(); i++) {
            Axis[] x = in(n, i);
            if (x == null || x.length != letters.get(i).length()) {
                return false;
            }
            Set<Character> seen = new HashSet<>();
            for (int a = 0; a < x.length; a++) {
                char c = letters.get(i).charAt(a);
                sets.putIfAbsent(c, x[a].set);
                sets.get(c).unify(x[a].set);
                constants |= x[a].slot != null;
                part(x[a], made.indexOf(c) < 0 ? Part.SUMMED : Part.MADE, n);
                operands.merge(c, seen.add(c) ? 1 : 0, Integer::sum);
            }
        }
        for (Map.Entry<Character, IndexSet> e : sets.entrySet()) {
            boolean summed = made.indexOf(e.getKey()) < 0;
            boolean shared = operands.get(e.getKey()) > 1;
            if (summed && !shared) {
                e.getValue().mark(IndexSet.STATISTICS);
            }
            if (!constants && n.inputs().size() > 1) {
                e.getValue().mark(shared && !summed ? IndexSet.HEADS : shared ? IndexSet.HEAD_FEATURES | IndexSet.STATISTICS : 0);
            }
        }
        if (!made.chars().allMatch(c -> sets.containsKey((char) c))) {
            return false;
        }
        works.add(new Work(List.copyOf(sets.values()), 1));
        out(n, 0, made.chars().mapToObj(c -> new Axis(sets.get((char) c))).toArray(Axis[]::new));
        return true;
    }

    private boolean recurrent(EditableNode n, Axis[] x) {
        Axis[] w = in(n, 1);
        Axis[] r = in(n, 2);
        long gates = switch (n.type()) {
            case "LSTM" -> 4;
            case "GRU" -> 3;
            default -> 1;
        };
        if (x.length != 3 || w == null || r == null || w.length != 3 || r.length != 3) {
            return false;
        }
        IndexSet hidden = r[2].set;
        IndexSet directions = w[0].set;
        String each = "directions of " + n.label();
        directions.block(each);
        directions.mark(IndexSet.PLAIN);
        directions.unify(r[0].set);
        x[2].set.unify(w[2].set);
        w[1].set.unify(gates(gates, hidden));
        r[1].set.unify(gates(gates, hidden));
        part(w[2], Part.SUMMED, n);
        part(r[2], Part.SUMMED, n);
        part(w[1], Part.MADE, n);
        part(r[1], Part.MADE, n);
        hidden.mark(IndexSet.HIDDEN);
        boolean batchFirst = n.integer("layout", 0) != 0;
        IndexSet batch = x[batchFirst ? 0 : 1].set;
        IndexSet sequence = x[batchFirst ? 1 : 0].set;
        Axis[] state = batchFirst ? new Axis[] {new Axis(batch), new Axis(directions), new Axis(hidden)}
                : new Axis[] {new Axis(directions), new Axis(batch), new Axis(hidden)};
        for (int i = 3; i < n.inputs().size(); i++) {
            Axis[] more = in(n, i);
            if (i == 4 || !given(n, i)) {
                continue;
            }
            int rank = i == 5 || i == 6 ? 3 : 2;
            if (more == null || more.length != rank) {
                return false;
            }
            if (rank == 3) {
                for (int a = 0; a < 3; a++) {
                    if (!more[a].set.size().equals(state[a].set.size())) {
                        more[a].set.block("it meets an axis of unknown size at " + n.label());
                        state[a].set.block("it meets an axis of unknown size at " + n.label());
                    } else {
                        state[a].set.unify(more[a].set);
                    }
                }
            } else {
                directions.unify(more[0].set);
                more[1].set.unify(gates(i == 3 ? 2 * gates : 3, hidden));
            }
        }
        sizes.add(new Size(n, "hidden_size", -1, hidden, Size.How.SIZE));
        works.add(new Work(List.of(directions, sequence, batch, w[1].set, w[2].set), 1));
        works.add(new Work(List.of(directions, sequence, batch, r[1].set, r[2].set), 1));
        out(n, 0, batchFirst ? new Axis[] {state[0], new Axis(sequence), state[1], state[2]}
                : new Axis[] {new Axis(sequence), state[0], state[1], state[2]});
        out(n, 1, state);
        out(n, 2, state);
        return true;
    }

    private static IndexSet gates(long count, IndexSet hidden) {
        return IndexSet.product(plain(Quantity.of(count), "gates").set, hidden);
    }
}
