package dev.tensorpress.structure;

import dev.tensorpress.model.onnx.EditableGraph;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.model.onnx.EditableValue;
import dev.tensorpress.structure.Integers.Cell;
import dev.tensorpress.structure.Integers.Computed;
import dev.tensorpress.structure.Integers.One;
import dev.tensorpress.structure.Integers.Origin;
import dev.tensorpress.structure.Integers.SizeOf;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.BinaryOperator;
import java.util.stream.IntStream;

/**
 * Shapes of the values of a model's own graph, as far as they follow from its inputs and constants before it runs. An axis has a size that is known,
 * or a symbol: that of an input, or one of its own. Two axes with the same symbol are equally long; two with different ones may be. What the file
 * says of values holds where nothing else is known. In time linear in the size of the graph.
 */
public final class Shapes {
    /** More axes than any operator has. */
    private static final int MOST_AXES = 64;

    private final EditableGraph graph;
    private final long opset;
    private final Map<String, List<Quantity>> shapes = new HashMap<>();
    private final Map<String, Integers> numbers = new HashMap<>();
    private final Map<String, EditableTensor> constants = new HashMap<>();
    private final Map<List<Object>, Quantity> derived = new HashMap<>();
    private int symbols;

    private Shapes(EditableModel model) {
        this.graph = model.graph();
        this.opset = model.opsets().getOrDefault("", model.opsets().getOrDefault("ai.onnx", 1L));
    }

    /** Infers them. What is changed in the model later is not seen. */
    public static Shapes of(EditableModel model) {
        Shapes s = new Shapes(model);
        s.graph.initializers().forEach((name, t) -> {
            if (!s.graph.inputs().containsKey(name)) {
                s.constant(name, t);
            }
        });
        s.graph.inputs().forEach((name, value) -> s.shapes.put(name, s.said(value)));
        for (EditableNode n : s.graph.nodes()) {
            s.node(n);
        }
        return s;
    }

    /** The axes of a value; empty if even their number is not known. */
    public Optional<List<Quantity>> of(String value) {
        return Optional.ofNullable(shapes.get(value));
    }

    /** A constant: an initializer that no caller can replace, or what a node Constant makes. */
    Optional<EditableTensor> constant(String value) {
        return Optional.ofNullable(constants.get(value));
    }

    /** The numbers that a value holds; null if they are not followed. */
    Integers numbers(String value) {
        return numbers.get(value);
    }

    long opset() {
        return opset;
    }

    // Constants and what the file says.

    private void constant(String name, EditableTensor t) {
        List<Quantity> shape = new ArrayList<>();
        for (long d : t.shape().dims()) {
            shape.add(Quantity.of(d));
        }
        shapes.put(name, shape);
        constants.put(name, t);
        if (shape.size() < 2) {
            t.integers(Integers.MOST).ifPresent(all -> {
                List<One> ones = new ArrayList<>(all.length);
                for (int i = 0; i < all.length; i++) {
                    ones.add(new One(Quantity.of(all[i]), new Cell(name, i)));
                }
                numbers.put(name, new Integers(shape.isEmpty(), ones));
            });
        }
    }

    private List<Quantity> said(EditableValue value) {
        if (value == null || value.axes().isEmpty() || value.axes().get().size() > MOST_AXES) {
            return null;
        }
        List<Quantity> shape = new ArrayList<>();
        Set<String> seen = new HashSet<>();
        for (EditableValue.Axis a : value.axes().get()) {
            // Exporters give different axes of one value the same name.
            shape.add(a.size() >= 0 ? Quantity.of(a.size())
                    : a.symbol().isEmpty() || a.symbol().startsWith("?") || !seen.add(a.symbol()) ? unknown() : Quantity.symbol(a.symbol()));
        }
        return shape;
    }

    private List<Quantity> merge(List<Quantity> inferred, String name) {
        EditableValue value = graph.values().containsKey(name) ? graph.values().get(name) : graph.outputs().get(name);
        if (inferred == null) {
            return said(value);
        }
        if (value == null || value.axes().isEmpty() || value.axes().get().size() != inferred.size()) {
            return inferred;
        }
        List<Quantity> both = new ArrayList<>();
        for (int i = 0; i < inferred.size(); i++) {
            Quantity q = inferred.get(i);
            long size = value.axes().get().get(i).size();
            both.add(size >= 0 && q.factor() == 1 && q.symbols().size() == 1 && q.symbols().getFirst().startsWith("?") ? Quantity.of(size) : q);
        }
        return both;
    }

    private Quantity unknown() {
        return Quantity.symbol("?" + symbols++);
    }

    /** The same unknown number each time that the same is computed of the same. */
    private Quantity derived(Object... how) {
        return derived.computeIfAbsent(List.of(how), _ -> unknown());
    }

    private List<Quantity> unknown(int rank) {
        List<Quantity> all = new ArrayList<>();
        for (int i = 0; i < rank; i++) {
            all.add(unknown());
        }
        return all;
    }

    // One node.

    private void node(EditableNode n) {
        if (n.constant().isPresent() && !n.outputs().isEmpty()) {
            constant(n.outputs().getFirst(), n.constant().get());
            return;
        }
        List<List<Quantity>> made = n.graphs().isEmpty() ? made(n) : List.of();
        for (int i = 0; i < n.outputs().size(); i++) {
            String name = n.outputs().get(i);
            List<Quantity> shape = merge(i < made.size() ? made.get(i) : null, name);
            if (!name.isEmpty() && shape != null && shape.size() <= MOST_AXES && shape.stream().allMatch(q -> q.factor() >= 0)) {
                shapes.put(name, shape);
            }
        }
        Integers computed = n.graphs().isEmpty() && Operators.standard(n) && n.outputs().size() == 1 ? computed(n) : null;
        if (computed != null && computed.size() <= Integers.MOST) {
            numbers.put(n.outputs().getFirst(), computed.madeAs(n.outputs().getFirst()));
            shapes.put(n.outputs().getFirst(), computed.scalar() ? List.of() : List.of(Quantity.of(computed.size())));
        }
    }

    private static String input(EditableNode n, int i) {
        return i < n.inputs().size() ? n.inputs().get(i) : "";
    }

    private List<Quantity> in(EditableNode n, int i) {
        return shapes.get(input(n, i));
    }

    /** Of an input that is an operand: {@link Operators#operand}. */
    private List<Quantity> operand(EditableNode n, int i) {
        return in(n, Operators.operand(n, i));
    }

    private Integers numbers(EditableNode n, int i) {
        return numbers.get(input(n, i));
    }

    /** Integers that an operator has as an attribute in old versions, as an input in new ones; null if they are not known, or not given. */
    long[] integers(EditableNode n, String attribute, int i) {
        Integers given = numbers(n, i);
        return given != null ? given.known() : input(n, i).isEmpty() ? n.integers(attribute).orElse(null) : null;
    }

    /** Axes given alike: sorted, from 0 on; all if none are given; null if they are not known, or out of range. */
    int[] axes(EditableNode n, int i, int rank) {
        if (input(n, i).isEmpty() && !n.has("axes")) {
            int[] all = new int[rank];
            Arrays.setAll(all, a -> a);
            return all;
        }
        long[] given = integers(n, "axes", i);
        return given == null ? null : axes(given, rank);
    }

    private static int[] axes(long[] given, int rank) {
        for (long a : given) {
            if (a < -rank || a >= rank) {
                return null;
            }
        }
        return Arrays.stream(given).mapToInt(a -> (int) (a < 0 ? a + rank : a)).distinct().sorted().toArray();
    }

    /** An axis given by an attribute; -1 if it is out of range. */
    static int axis(EditableNode n, String attribute, long absent, int rank) {
        long a = n.integer(attribute, absent);
        return a < -rank || a >= rank ? -1 : (int) (a < 0 ? a + rank : a);
    }

    private static <T> List<T> listOf(T one) {
        return Collections.singletonList(one);
    }

    /** Shapes of what it makes; null where they are not known. */
    private List<List<Quantity>> made(EditableNode n) {
        List<Quantity> x = operand(n, 0);
        if (Operators.unary(n)) {
            return Arrays.asList(x, n.type().equals("Dropout") ? x : null);
        }
        if (Operators.elementwise(n)) {
            return listOf(broadcast(n));
        }
        if (Operators.reduction(n)) {
            return listOf(reduced(n, x));
        }
        if (Operators.softmax(n)) {
            return listOf(x);
        }
        if (Operators.pool(n)) {
            List<Quantity> pooled = pooled(n, x);
            return Arrays.asList(pooled, pooled);
        }
        if (Operators.globalPool(n)) {
            return listOf(x == null || x.size() < 2 ? null : replace(x, 2, x.size(), Collections.nCopies(x.size() - 2, Quantity.ONE)));
        }
        if (Operators.recurrent(n)) {
            return recurrent(n, x);
        }
        return switch (Operators.key(n)) {
            case "BatchNormalization", "InstanceNormalization", "GroupNormalization", "QuantizeLinear", "DequantizeLinear",
                    "LRN", "MeanVarianceNormalization", "RMSNormalization", "CumSum", "com.microsoft.BiasAdd", "ScatterND", "ScatterElements",
                    "RotaryEmbedding", "com.microsoft.RotaryEmbedding" -> listOf(x);
            case "DynamicQuantizeLinear" -> Arrays.asList(x, List.of(), List.of());
            case "LayerNormalization", "SimplifiedLayerNormalization", "com.microsoft.SimplifiedLayerNormalization" -> normalized(n, x);
            case "com.microsoft.SkipLayerNormalization", "com.microsoft.SkipSimplifiedLayerNormalization" -> Arrays.asList(x, null, null, x);
            case "MatMul", "Gemm" -> listOf(n.integer("transBatchA", 0) != 0 || n.integer("transBatchB", 0) != 0 ? null
                    : product(turned(x, n.integer("transA", 0)), turned(operand(n, 1), n.integer("transB", 0))));
            case "com.microsoft.MatMulNBits" -> listOf(x == null || x.isEmpty() || n.integer("N", 0) < 1 ? null
                    : replace(x, x.size() - 1, x.size(), List.of(Quantity.of(n.integer("N", 0)))));
            case "Conv" -> listOf(convolved(n, x, operand(n, 1)));
            case "ConvTranspose" -> listOf(x == null || in(n, 1) == null || in(n, 1).size() < 2 || x.size() < 3 ? null : replace(unknown(x.size()), 0, 2,
                    List.of(x.getFirst(), in(n, 1).get(1).times(Quantity.of(n.integer("group", 1))).orElseGet(this::unknown))));
            case "Transpose" -> listOf(transposed(n, x));
            case "Reshape" -> listOf(reshaped(n, x));
            case "Flatten" -> listOf(flat(n, x));
            case "Squeeze" -> listOf(squeezed(n, x));
            case "Unsqueeze" -> listOf(unsqueezed(n, x));
            case "Concat" -> listOf(joined(n));
            case "Split" -> split(n, x);
            case "Slice" -> listOf(sliced(n, x));
            case "Gather" -> listOf(gathered(n, x, in(n, 1)));
            case "GatherElements" -> listOf(in(n, 1));
            case "com.microsoft.GatherBlockQuantized" -> listOf(lookedUp(n, x, in(n, 1)));
            case "Expand" -> listOf(expanded(n, x));
            case "Tile" -> listOf(tiled(n, x));
            case "Pad" -> listOf(padded(n, x));
            case "Resize", "Upsample" -> listOf(resized(n, x));
            case "ConstantOfShape" -> listOf(numbers(n, 0) == null ? null : numbers(n, 0).values());
            case "Shape" -> listOf(listOf(x == null ? unknown() : Quantity.of(x.size())));
            case "Size" -> listOf(List.of());
            case "Range" -> listOf(List.of(unknown()));
            case "NonZero" -> listOf(List.of(x == null ? unknown() : Quantity.of(x.size()), unknown()));
            case "DepthToSpace" -> listOf(blocks(n, x, true));
            case "SpaceToDepth" -> listOf(blocks(n, x, false));
            case "ArgMax", "ArgMin" -> listOf(x == null ? null : chosen(n, x));
            case "OneHot" -> listOf(x == null ? null : unknown(x.size() + 1));
            case "TopK" -> topK(n, x);
            case "Einsum" -> listOf(einsum(n));
            case "com.microsoft.Attention" -> listOf(attended(n, x));
            case "com.microsoft.MultiHeadAttention" -> listOf(x == null || x.size() != 3 || in(n, 2) == null || in(n, 2).size() != 3 ? null
                    : List.of(x.get(0), x.get(1), in(n, 2).get(2)));
            case "com.microsoft.GroupQueryAttention" -> grouped(n, x);
            case "Attention" -> attended(n, x, in(n, 1), in(n, 2));
            default -> List.of();
        };
    }

    private static List<Quantity> replace(List<Quantity> shape, int from, int to, List<Quantity> by) {
        List<Quantity> all = new ArrayList<>(shape.subList(0, from));
        all.addAll(by);
        all.addAll(shape.subList(to, shape.size()));
        return all;
    }

    private List<Quantity> broadcast(EditableNode n) {
        List<Quantity> all = operand(n, 0);
        for (int i = 1; i < Operators.operands(n) && all != null; i++) {
            all = input(n, Operators.operand(n, i)).isEmpty() ? all : broadcast(all, operand(n, i));
        }
        return all;
    }

    private List<Quantity> broadcast(List<Quantity> a, List<Quantity> b) {
        if (a == null || b == null) {
            return null;
        }
        List<Quantity> all = new ArrayList<>();
        int rank = Math.max(a.size(), b.size());
        for (int i = 0; i < rank; i++) {
            Quantity p = i < rank - a.size() ? Quantity.ONE : a.get(i - rank + a.size());
            Quantity q = i < rank - b.size() ? Quantity.ONE : b.get(i - rank + b.size());
            // A size that is known and not 1 is what comes out, whatever the other turns out to be.
            all.add(p.equals(q) || q.is(1) || p.known() && !p.is(1) ? p : p.is(1) || q.known() ? q : derived("broadcast", p, q));
        }
        return all;
    }

    private List<Quantity> reduced(EditableNode n, List<Quantity> x) {
        if (x == null) {
            return null;
        }
        int[] axes = axes(n, 1, x.size());
        boolean none = axes != null && axes.length == 0 || input(n, 1).isEmpty() && !n.has("axes");
        if (none && n.integer("noop_with_empty_axes", 0) != 0) {
            return x;
        }
        boolean keep = n.integer("keepdims", 1) != 0;
        if (axes == null) {
            return keep ? unknown(x.size()) : null;
        }
        if (axes.length == 0) {
            axes = new int[x.size()];
            Arrays.setAll(axes, a -> a);
        }
        List<Quantity> all = new ArrayList<>();
        for (int i = 0; i < x.size(); i++) {
            if (Arrays.binarySearch(axes, i) < 0) {
                all.add(x.get(i));
            } else if (keep) {
                all.add(Quantity.ONE);
            }
        }
        return all;
    }

    private List<Quantity> chosen(EditableNode n, List<Quantity> x) {
        int axis = axis(n, "axis", 0, x.size());
        return axis < 0 ? null : replace(x, axis, axis + 1, n.integer("keepdims", 1) != 0 ? List.of(Quantity.ONE) : List.of());
    }

    private List<List<Quantity>> topK(EditableNode n, List<Quantity> x) {
        int axis = x == null ? -1 : axis(n, "axis", -1, x.size());
        List<Quantity> all = axis < 0 ? null : replace(x, axis, axis + 1, List.of(unknown()));
        return Arrays.asList(all, all);
    }

    private List<List<Quantity>> normalized(EditableNode n, List<Quantity> x) {
        int axis = x == null ? -1 : axis(n, "axis", -1, x.size());
        List<Quantity> mean = axis < 0 ? null : replace(x, axis, x.size(), Collections.nCopies(x.size() - axis, Quantity.ONE));
        return Arrays.asList(x, mean, mean);
    }

    static <T> List<T> turned(List<T> shape, long transposed) {
        return shape == null || shape.size() < 2 || transposed == 0 ? shape : swap(shape);
    }

    private static <T> List<T> swap(List<T> shape) {
        List<T> all = new ArrayList<>(shape);
        Collections.swap(all, all.size() - 1, all.size() - 2);
        return all;
    }

    private List<Quantity> product(List<Quantity> a, List<Quantity> b) {
        if (a == null || b == null || a.isEmpty() || b.isEmpty()) {
            return null;
        }
        List<Quantity> outer = broadcast(a.subList(0, Math.max(0, a.size() - 2)), b.subList(0, Math.max(0, b.size() - 2)));
        List<Quantity> all = new ArrayList<>(outer);
        if (a.size() > 1) {
            all.add(a.get(a.size() - 2));
        }
        if (b.size() > 1) {
            all.add(b.getLast());
        }
        return all;
    }

    private List<Quantity> convolved(EditableNode n, List<Quantity> x, List<Quantity> w) {
        if (x == null || w == null || x.size() < 3 || w.size() != x.size()) {
            return null;
        }
        return windows(n, replace(x, 1, 2, List.of(w.getFirst())), w.stream().skip(2).toList());
    }

    private List<Quantity> pooled(EditableNode n, List<Quantity> x) {
        Optional<long[]> kernel = n.integers("kernel_shape");
        return x == null || kernel.isEmpty() || x.size() != kernel.get().length + 2 ? null
                : windows(n, x, Arrays.stream(kernel.get()).mapToObj(Quantity::of).toList());
    }

    /** With the spatial axes of what a window that slides makes. */
    private List<Quantity> windows(EditableNode n, List<Quantity> x, List<Quantity> kernel) {
        List<Quantity> all = new ArrayList<>(x.subList(0, 2));
        int axes = kernel.size();
        for (int i = 0; i < axes; i++) {
            long stride = at(n, "strides", i, axes, 1);
            long dilation = at(n, "dilations", i, axes, 1);
            long begin = at(n, "pads", i, 2 * axes, 0);
            long end = at(n, "pads", i + axes, 2 * axes, 0);
            all.add(window(x.get(i + 2), kernel.get(i), stride, dilation, begin, end, n.text("auto_pad", "NOTSET"), n.integer("ceil_mode", 0)));
        }
        return all;
    }

    private static long at(EditableNode n, String attribute, int i, int length, long absent) {
        return n.integers(attribute).filter(a -> a.length == length).map(a -> a[i]).orElse(absent);
    }

    private Quantity window(Quantity size, Quantity kernel, long stride, long dilation, long begin, long end, String pad, long ceil) {
        boolean same = pad.startsWith("SAME");
        long given = pad.equals("VALID") ? 0 : begin + end;
        boolean small = kernel.known() && max(stride, dilation, begin, end, kernel.factor()) < 1 << 24 && Math.min(stride, dilation) > 0;
        if (small && stride == 1 && (same || given == (kernel.factor() - 1) * dilation)) {
            return size;
        }
        if (!small || !size.known() || size.factor() > 1L << 40) {
            return derived("window", size, kernel, stride, dilation, given, same, ceil);
        }
        if (same) {
            return Quantity.of((size.factor() + stride - 1) / stride);
        }
        long room = size.factor() + given - ((kernel.factor() - 1) * dilation + 1);
        long steps = Math.floorDiv(room + (ceil != 0 ? stride - 1 : 0), stride);
        // The last window of those rounded up has to begin in the input.
        steps = ceil != 0 && steps * stride >= size.factor() + begin ? steps - 1 : steps;
        return Quantity.of(Math.max(0, steps + 1));
    }

    private static long max(long... all) {
        return Arrays.stream(all).map(a -> a < 0 ? Long.MAX_VALUE : a).max().orElseThrow();
    }

    private List<List<Quantity>> recurrent(EditableNode n, List<Quantity> x) {
        List<Quantity> w = in(n, 1);
        List<Quantity> r = in(n, 2);
        if (x == null || x.size() != 3 || w == null || w.size() != 3 || r == null || r.size() != 3) {
            return List.of();
        }
        boolean batchFirst = n.integer("layout", 0) != 0;
        Quantity sequence = x.get(batchFirst ? 1 : 0);
        Quantity batch = x.get(batchFirst ? 0 : 1);
        Quantity directions = w.getFirst();
        Quantity hidden = r.get(2);
        List<Quantity> state = batchFirst ? List.of(batch, directions, hidden) : List.of(directions, batch, hidden);
        return List.of(batchFirst ? List.of(batch, sequence, directions, hidden) : List.of(sequence, directions, batch, hidden), state, state);
    }

    /** How Transpose orders the axes; null if that is no order of so many. */
    static int[] order(EditableNode n, int rank) {
        long[] order = n.integers("perm").orElse(null);
        int[] all = new int[rank];
        Arrays.setAll(all, i -> rank - 1 - i);
        if (order == null) {
            return all;
        }
        return order.length == rank && Arrays.stream(order).allMatch(i -> i >= 0 && i < rank) && Arrays.stream(order).distinct().count() == rank
                ? Arrays.stream(order).mapToInt(i -> (int) i).toArray() : null;
    }

    private static List<Quantity> transposed(EditableNode n, List<Quantity> x) {
        int[] order = x == null ? null : order(n, x.size());
        return order == null ? null : Arrays.stream(order).mapToObj(x::get).toList();
    }

    private Optional<Quantity> elements(List<Quantity> shape) {
        Optional<Quantity> all = Optional.of(Quantity.ONE);
        for (Quantity q : shape) {
            all = all.flatMap(a -> a.times(q));
        }
        return all;
    }

    /** The shape that Reshape is given; null if it is not known. */
    Integers wanted(EditableNode n) {
        return numbers(n, 1) != null ? numbers(n, 1)
                : input(n, 1).isEmpty() ? n.integers("shape").map(Integers::of).orElse(null) : null;
    }

    private List<Quantity> reshaped(EditableNode n, List<Quantity> x) {
        Integers wanted = wanted(n);
        if (wanted == null) {
            List<Quantity> shape = in(n, 1);
            return shape == null || shape.size() != 1 || !shape.getFirst().known() || shape.getFirst().factor() > MOST_AXES ? null
                    : unknown((int) shape.getFirst().factor());
        }
        List<Quantity> all = new ArrayList<>();
        int rest = -1;
        for (int i = 0; i < wanted.size(); i++) {
            Quantity q = wanted.value(i);
            if (q.is(0) && n.integer("allowzero", 0) == 0) {
                q = x == null || i >= x.size() ? unknown() : x.get(i);
            } else if (q.is(-1)) {
                rest = i;
            }
            all.add(q);
        }
        if (rest >= 0) {
            List<Quantity> others = new ArrayList<>(all);
            others.remove(rest);
            Optional<Quantity> known = elements(others);
            all.set(rest, x == null ? unknown() : elements(x).flatMap(e -> known.flatMap(e::dividedBy)).orElseGet(this::unknown));
        }
        return all;
    }

    private Quantity product(List<Quantity> axes) {
        return elements(axes).orElseGet(this::unknown);
    }

    private List<Quantity> flat(EditableNode n, List<Quantity> x) {
        long axis = n.integer("axis", 1);
        if (x == null || axis < -x.size() || axis > x.size()) {
            return null;
        }
        int at = (int) (axis < 0 ? axis + x.size() : axis);
        return List.of(product(x.subList(0, at)), product(x.subList(at, x.size())));
    }

    /** The axes that Squeeze takes out; null if they are not known. */
    int[] squeezes(EditableNode n, List<Quantity> x) {
        if (!input(n, 1).isEmpty() || n.has("axes")) {
            return axes(n, 1, x.size());
        }
        int[] ones = new int[x.size()];
        int count = 0;
        for (int i = 0; i < x.size(); i++) {
            if (!x.get(i).known()) {
                return null;
            }
            if (x.get(i).is(1)) {
                ones[count++] = i;
            }
        }
        return Arrays.copyOf(ones, count);
    }

    private List<Quantity> squeezed(EditableNode n, List<Quantity> x) {
        int[] out = x == null ? null : squeezes(n, x);
        if (out == null) {
            return null;
        }
        List<Quantity> all = new ArrayList<>();
        for (int i = 0; i < x.size(); i++) {
            if (Arrays.binarySearch(out, i) < 0) {
                all.add(x.get(i));
            }
        }
        return all;
    }

    /** The axes that Unsqueeze puts in; null if they are not known. */
    int[] unsqueezes(EditableNode n, int rank) {
        long[] given = integers(n, "axes", 1);
        return given == null || rank + given.length > MOST_AXES ? null : axes(given, rank + given.length);
    }

    private List<Quantity> unsqueezed(EditableNode n, List<Quantity> x) {
        int[] in = x == null ? null : unsqueezes(n, x.size());
        if (in == null) {
            return null;
        }
        List<Quantity> all = new ArrayList<>(x);
        for (int a : in) {
            all.add(Math.min(a, all.size()), Quantity.ONE);
        }
        return all;
    }

    private List<Quantity> joined(EditableNode n) {
        List<Quantity> all = null;
        long known = 0;
        boolean every = true;
        List<Object> how = new ArrayList<>(List.of("concat"));
        for (int i = 0; i < Operators.operands(n); i++) {
            List<Quantity> x = operand(n, i);
            int axis = x == null ? -1 : axis(n, "axis", 1, x.size());
            if (axis < 0 || all != null && all.size() != x.size()) {
                return null;
            }
            Quantity q = x.get(axis);
            every &= q.known();
            known += q.known() ? Math.clamp(q.factor(), 0, Long.MAX_VALUE >> 20) : 0;
            how.add(q);
            if (all == null) {
                all = new ArrayList<>(x);
            }
            for (int a = 0; a < x.size(); a++) {
                all.set(a, all.get(a).known() ? all.get(a) : x.get(a));
            }
            all.set(axis, every ? Quantity.of(known) : Quantity.ONE);
        }
        if (all != null && !every) {
            all.set(axis(n, "axis", 1, all.size()), Operators.operands(n) > 16 ? unknown() : derived(how.toArray()));
        }
        return all;
    }

    /** Sizes of the parts that Split makes; null if they are not known. */
    long[] parts(EditableNode n, Quantity size) {
        int count = n.outputs().size();
        long[] given = integers(n, "split", 1);
        if (given != null) {
            return given.length == count ? given : null;
        }
        if (!input(n, 1).isEmpty() || !size.known() || count == 0) {
            return null;
        }
        long part = Math.ceilDiv(size.factor(), count);
        long[] all = new long[count];
        Arrays.fill(all, part);
        all[count - 1] = size.factor() - part * (count - 1);
        return all[count - 1] < 0 ? null : all;
    }

    private List<List<Quantity>> split(EditableNode n, List<Quantity> x) {
        int axis = x == null ? -1 : axis(n, "axis", 0, x.size());
        if (axis < 0) {
            return List.of();
        }
        long[] parts = parts(n, x.get(axis));
        List<List<Quantity>> all = new ArrayList<>();
        for (int i = 0; i < n.outputs().size(); i++) {
            Quantity part = parts != null ? Quantity.of(parts[i]) : input(n, 1).isEmpty() ? derived("split", x.get(axis), n.outputs().size(), i) : unknown();
            all.add(replace(x, axis, axis + 1, List.of(part)));
        }
        return all;
    }

    /**
     * What Slice takes along an axis.
     *
     * @param at which of the numbers given is about this axis
     * @param from from 0 on, where the axis and the numbers are known
     * @param to behind the last one; -1 if it is not known, and for steps other than 1
     */
    record Cut(int axis, int at, long from, long to) {
        boolean known() {
            return to >= 0;
        }
    }

    /** What Slice takes, an element for each axis that it names; null if not even these are known. */
    List<Cut> cuts(EditableNode n, List<Quantity> x) {
        boolean inputs = opset >= 10;
        Integers starts = inputs ? numbers(n, 1) : n.integers("starts").map(Integers::of).orElse(null);
        Integers ends = inputs ? numbers(n, 2) : n.integers("ends").map(Integers::of).orElse(null);
        long[] given = inputs ? integers(n, "axes", 3) : n.integers("axes").orElse(null);
        long[] steps = inputs && !input(n, 4).isEmpty() ? integers(n, "steps", 4) : null;
        boolean unknownSteps = inputs && !input(n, 4).isEmpty() && steps == null;
        if (given == null && (inputs && !input(n, 3).isEmpty() || starts == null)) {
            return null;
        }
        int count = given != null ? given.length : starts.size();
        List<Cut> all = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            long axis = given == null ? i : given[i];
            if (axis < -x.size() || axis >= x.size()) {
                return null;
            }
            int a = (int) (axis < 0 ? axis + x.size() : axis);
            boolean unit = !unknownSteps && (steps == null || i < steps.length && steps[i] == 1);
            Quantity size = x.get(a);
            Quantity from = starts != null && i < starts.size() ? starts.value(i) : null;
            Quantity to = ends != null && i < ends.size() ? ends.value(i) : null;
            if (unit && size.known() && from != null && to != null && from.known() && to.known()) {
                long begin = clamp(from.factor(), size.factor());
                all.add(new Cut(a, i, begin, Math.max(begin, clamp(to.factor(), size.factor()))));
            } else {
                all.add(new Cut(a, i, 0, -1));
            }
        }
        return all;
    }

    private static long clamp(long at, long size) {
        return Math.clamp(at < 0 ? at + size : at, 0, size);
    }

    private List<Quantity> sliced(EditableNode n, List<Quantity> x) {
        List<Cut> cuts = x == null ? null : cuts(n, x);
        if (cuts == null) {
            return x == null ? null : unknown(x.size());
        }
        List<Quantity> all = new ArrayList<>(x);
        for (Cut c : cuts) {
            all.set(c.axis, c.known() ? Quantity.of(c.to - c.from) : unknown());
        }
        return all;
    }

    private static List<Quantity> gathered(EditableNode n, List<Quantity> x, List<Quantity> indices) {
        int axis = x == null || indices == null ? -1 : axis(n, "axis", 0, x.size());
        return axis < 0 ? null : replace(x, axis, axis + 1, indices);
    }

    /** Of a table in codes, of which a byte may hold several. */
    private List<Quantity> lookedUp(EditableNode n, List<Quantity> x, List<Quantity> indices) {
        EditableTensor codes = constants.get(input(n, 0));
        int axis = x == null ? -1 : axis(n, "gather_axis", 0, x.size());
        long bits = n.integer("bits", 4);
        if (codes == null || codes.type().isEmpty() || indices == null || axis < 0 || axis == x.size() - 1 || bits < 1 || bits > 8) {
            return null;
        }
        Quantity inByte = Quantity.of(codes.type().get().bits() == 8 ? 8 / bits : 1);
        List<Quantity> all = replace(x, x.size() - 1, x.size(), List.of(x.getLast().times(inByte).orElseGet(this::unknown)));
        return replace(all, axis, axis + 1, indices);
    }

    private List<Quantity> expanded(EditableNode n, List<Quantity> x) {
        return numbers(n, 1) == null ? null : broadcast(x, numbers(n, 1).values());
    }

    private List<Quantity> tiled(EditableNode n, List<Quantity> x) {
        Integers repeats = numbers(n, 1);
        if (x == null || repeats == null || repeats.size() != x.size()) {
            return x == null ? null : unknown(x.size());
        }
        List<Quantity> all = new ArrayList<>();
        for (int i = 0; i < x.size(); i++) {
            all.add(x.get(i).times(repeats.value(i)).orElseGet(this::unknown));
        }
        return all;
    }

    /** What Pad puts before each axis, then behind each; null if it is not known. */
    long[] pads(EditableNode n, int rank) {
        long[] pads = opset >= 11 ? integers(n, "", 1) : n.integers("pads").or(() -> n.integers("paddings")).orElse(null);
        if (pads == null || input(n, 3).isEmpty()) {
            return pads == null || pads.length != 2 * rank ? null : pads;
        }
        long[] given = integers(n, "", 3);
        int[] axes = given == null || pads.length != 2 * given.length ? null : axes(given, rank);
        if (axes == null || axes.length != given.length) {
            return null;
        }
        long[] all = new long[2 * rank];
        for (int i = 0; i < given.length; i++) {
            int a = (int) (given[i] < 0 ? given[i] + rank : given[i]);
            all[a] = pads[i];
            all[a + rank] = pads[i + given.length];
        }
        return all;
    }

    private List<Quantity> padded(EditableNode n, List<Quantity> x) {
        long[] pads = x == null ? null : pads(n, x.size());
        if (pads == null) {
            return x == null ? null : unknown(x.size());
        }
        List<Quantity> all = new ArrayList<>();
        for (int i = 0; i < x.size(); i++) {
            long sum = pads[i] + pads[i + x.size()];
            all.add(pads[i] == 0 && sum == 0 ? x.get(i) : x.get(i).known() ? Quantity.of(x.get(i).factor() + sum) : derived("pad", x.get(i), sum));
        }
        return all;
    }

    /** By how much Resize and Upsample scale each axis; null if that is not known. */
    double[] scales(EditableNode n) {
        if (n.type().equals("Upsample") && opset < 9) {
            float[] given = n.reals("scales").orElse(null);
            return given == null ? null : IntStream.range(0, given.length).mapToDouble(i -> given[i]).toArray();
        }
        int at = n.type().equals("Resize") && opset >= 11 ? 2 : 1;
        EditableTensor t = constants.get(input(n, at));
        return t == null || !Numbers.real(t) || t.shape().rank() != 1 || t.shape().elements() == 0 || t.shape().elements() > MOST_AXES ? null : Numbers.all(t);
    }

    private List<Quantity> resized(EditableNode n, List<Quantity> x) {
        if (x == null) {
            return null;
        }
        Integers sizes = n.type().equals("Resize") && opset >= 11 ? numbers(n, 3) : null;
        long[] only = n.integers("axes").orElse(null);
        if (only != null || n.has("keep_aspect_ratio_policy") && !n.text("keep_aspect_ratio_policy", "").equals("stretch")) {
            return unknown(x.size());
        }
        if (sizes != null && sizes.size() == x.size()) {
            return sizes.values();
        }
        double[] scales = scales(n);
        List<Quantity> all = new ArrayList<>();
        for (int i = 0; i < x.size(); i++) {
            double s = scales == null || scales.length != x.size() ? 0 : scales[i];
            all.add(s == 1 ? x.get(i) : s > 0 && s <= 1 << 20 && x.get(i).known() && x.get(i).factor() <= 1 << 30
                    ? Quantity.of((long) Math.floor((float) x.get(i).factor() * (float) s)) : unknown());
        }
        return all;
    }

    private List<Quantity> blocks(EditableNode n, List<Quantity> x, boolean toSpace) {
        if (x == null || x.size() != 4) {
            return null;
        }
        Quantity block = Quantity.of(Math.clamp(n.integer("blocksize", 1), 1, 1 << 16));
        Quantity square = Quantity.of(block.factor() * block.factor());
        List<Quantity> all = new ArrayList<>(List.of(x.getFirst()));
        all.add((toSpace ? x.get(1).dividedBy(square) : x.get(1).times(square)).orElseGet(this::unknown));
        for (int i = 2; i < 4; i++) {
            all.add((toSpace ? x.get(i).times(block) : x.get(i).dividedBy(block)).orElseGet(this::unknown));
        }
        return all;
    }

    /** Letters of the operands of an Einsum, then of what it makes; null if there is something else than letters. */
    static List<String> letters(EditableNode n) {
        String equation = n.text("equation", "").replace(" ", "");
        int arrow = equation.indexOf("->");
        if (arrow < 0 || !equation.matches("[A-Za-z,]*->[A-Za-z]*")) {
            return null;
        }
        List<String> all = new ArrayList<>(List.of(equation.substring(0, arrow).split(",", -1)));
        all.add(equation.substring(arrow + 2));
        return all.size() == n.inputs().size() + 1 ? all : null;
    }

    private List<Quantity> einsum(EditableNode n) {
        List<String> letters = letters(n);
        if (letters == null) {
            return null;
        }
        Map<Character, Quantity> sizes = new HashMap<>();
        for (int i = 0; i < n.inputs().size(); i++) {
            List<Quantity> x = in(n, i);
            if (x == null || x.size() != letters.get(i).length()) {
                return null;
            }
            for (int a = 0; a < x.size(); a++) {
                sizes.merge(letters.get(i).charAt(a), x.get(a), (p, q) -> p.is(1) ? q : p);
            }
        }
        return letters.getLast().chars().allMatch(c -> sizes.containsKey((char) c))
                ? letters.getLast().chars().mapToObj(c -> sizes.get((char) c)).toList() : null;
    }

    private List<Quantity> attended(EditableNode n, List<Quantity> x) {
        List<Quantity> w = operand(n, 1);
        return x == null || x.size() != 3 || w == null || w.size() != 2 || n.has("qkv_hidden_sizes") ? null
                : w.get(1).dividedBy(Quantity.of(3)).map(v -> List.of(x.get(0), x.get(1), v)).orElse(null);
    }

    /** Of queries, keys and values that are flat, or have an axis of heads: results, keys, values and scores. */
    private List<List<Quantity>> attended(EditableNode n, List<Quantity> q, List<Quantity> k, List<Quantity> v) {
        if (q == null || k == null || v == null || q.size() != k.size() || q.size() != v.size() || q.size() != 3 && q.size() != 4) {
            return List.of();
        }
        boolean flat = q.size() == 3;
        Quantity heads = flat ? Quantity.of(n.integer("q_num_heads", 0)) : q.get(1);
        Quantity shared = flat ? Quantity.of(n.integer("kv_num_heads", 0)) : k.get(1);
        Optional<Quantity> compared = flat ? k.get(2).dividedBy(shared) : Optional.of(k.get(3));
        Optional<Quantity> summed = flat ? v.get(2).dividedBy(shared) : Optional.of(v.get(3));
        Optional<Quantity> made = summed.flatMap(heads::times);
        if (compared.isEmpty() || made.isEmpty()) {
            return List.of();
        }
        Quantity all = input(n, 4).isEmpty() ? k.get(flat ? 1 : 2) : unknown();
        Quantity sequence = q.get(flat ? 1 : 2);
        return List.of(flat ? List.of(q.get(0), q.get(1), made.get()) : List.of(q.get(0), q.get(1), q.get(2), v.get(3)),
                List.of(q.get(0), shared, all, compared.get()), List.of(q.get(0), shared, all, summed.get()), List.of(q.get(0), heads, sequence, all));
    }

    private List<List<Quantity>> grouped(EditableNode n, List<Quantity> q) {
        Quantity heads = Quantity.of(n.integer("num_heads", 0));
        Quantity shared = Quantity.of(n.integer("kv_num_heads", 0));
        Quantity count = Quantity.of(n.integer("num_heads", 0) + (input(n, 1).isEmpty() ? 2 * n.integer("kv_num_heads", 0) : 0));
        Quantity size = q == null || q.size() != 3 ? null : q.get(2).dividedBy(count).orElse(null);
        Quantity made = size == null ? null : size.times(heads).orElse(null);
        if (made == null) {
            return List.of();
        }
        List<Quantity> kept = List.of(q.get(0), shared, unknown(), size);
        return List.of(List.of(q.get(0), q.get(1), made), kept, kept);
    }

    // Numbers.

    /** The numbers that it makes; null if they are not followed. */
    private Integers computed(EditableNode n) {
        Integers x = numbers(n, 0);
        return switch (n.type()) {
            case "Shape" -> shape(n);
            case "Size" -> size(n);
            case "Identity" -> x;
            case "Cast" -> n.integer("to", 0) == 7 || n.integer("to", 0) == 6 ? x : null;
            case "Squeeze" -> x != null && x.size() == 1 ? new Integers(true, x.all()) : null;
            case "Unsqueeze" -> x != null && x.scalar() ? new Integers(false, x.all()) : null;
            case "Reshape" -> {
                long[] to = integers(n, "shape", 1);
                yield x != null && to != null && (to.length == 0 && x.size() == 1 || to.length == 1 && (to[0] == -1 || to[0] == x.size()))
                        ? new Integers(to.length == 0, x.all()) : null;
            }
            case "Concat" -> together(n);
            case "Gather" -> picked(n, x);
            case "Slice" -> range(n, x);
            case "Add" -> combined(n, this::sum);
            case "Sub" -> combined(n, this::difference);
            case "Mul" -> combined(n, (a, b) -> a.times(b).orElseGet(this::unknown));
            case "Div" -> combined(n, (a, b) -> a.dividedBy(b).orElseGet(() -> quotient(a, b)));
            case "Mod" -> combined(n, (a, b) -> a.known() && b.known() && a.factor() >= 0 && b.factor() > 0 ? Quantity.of(a.factor() % b.factor())
                    : derived("mod", a, b));
            case "Max" -> n.inputs().size() == 2 ? combined(n, (a, b) -> larger(a, b, true)) : null;
            case "Min" -> n.inputs().size() == 2 ? combined(n, (a, b) -> larger(a, b, false)) : null;
            case "Equal" -> combined(n, this::equal);
            case "Where" -> selected(n);
            case "ConstantOfShape" -> filled(n, x);
            case "Range" -> sequence(n);
            case "Expand" -> {
                long[] to = numbers(n, 1) == null ? null : numbers(n, 1).known();
                yield x != null && x.size() == 1 && to != null && to.length == 1 && to[0] >= 0 && to[0] <= Integers.MOST
                        ? new Integers(false, Collections.nCopies((int) to[0], x.all().getFirst())) : null;
            }
            case "ReduceProd" -> {
                Computed from = x == null ? null : Computed.of(x.all());
                yield from == null || n.integer("keepdims", 1) != 0 && x.scalar() ? null
                        : new Integers(n.integer("keepdims", 1) == 0, List.of(new One(product(x.values()), from)));
            }
            default -> null;
        };
    }

    private Integers shape(EditableNode n) {
        List<Quantity> x = in(n, 0);
        if (x == null) {
            return null;
        }
        int from = (int) clamp(n.integer("start", 0), x.size());
        int to = (int) clamp(n.integer("end", x.size()), x.size());
        List<One> all = new ArrayList<>();
        for (int i = from; i < to; i++) {
            all.add(new One(x.get(i), new SizeOf(input(n, 0), i)));
        }
        return new Integers(false, all);
    }

    private Integers size(EditableNode n) {
        List<Quantity> x = in(n, 0);
        if (x == null) {
            return null;
        }
        List<One> all = new ArrayList<>();
        for (int i = 0; i < x.size(); i++) {
            all.add(new One(x.get(i), new SizeOf(input(n, 0), i)));
        }
        return new Integers(true, List.of(new One(product(x), Computed.of(all))));
    }

    private Integers together(EditableNode n) {
        List<One> all = new ArrayList<>();
        for (int i = 0; i < n.inputs().size(); i++) {
            Integers x = numbers(n, i);
            if (x == null || x.scalar() || all.size() > Integers.MOST) {
                return null;
            }
            all.addAll(x.all());
        }
        return new Integers(false, all);
    }

    private Integers picked(EditableNode n, Integers x) {
        Integers indices = numbers(n, 1);
        long[] known = indices == null ? null : indices.known();
        if (x == null || x.scalar() || known == null) {
            return null;
        }
        List<One> all = new ArrayList<>();
        for (long i : known) {
            if (i < -x.size() || i >= x.size()) {
                return null;
            }
            all.add(x.all().get((int) (i < 0 ? i + x.size() : i)));
        }
        return new Integers(indices.scalar(), all);
    }

    private Integers range(EditableNode n, Integers x) {
        List<Cut> cuts = x == null || x.scalar() ? null : cuts(n, List.of(Quantity.of(x.size())));
        return cuts == null || cuts.size() != 1 || !cuts.getFirst().known() ? null
                : new Integers(false, x.all().subList((int) cuts.getFirst().from(), (int) cuts.getFirst().to()));
    }

    private Integers combined(EditableNode n, BinaryOperator<Quantity> operator) {
        Integers a = numbers(n, 0);
        Integers b = numbers(n, 1);
        if (a == null || b == null || a.size() != b.size() && a.size() != 1 && b.size() != 1) {
            return null;
        }
        List<One> all = new ArrayList<>();
        int count = a.size() == 1 ? b.size() : a.size();
        for (int i = 0; i < count; i++) {
            One p = a.all().get(a.size() == 1 ? 0 : i);
            One q = b.all().get(b.size() == 1 ? 0 : i);
            Origin neutral = neutral(n, p, q);
            Computed from = Computed.of(List.of(p, q));
            if (from == null) {
                return null;
            }
            all.add(never(n, p, q) || never(n, q, p) ? new One(Quantity.of(0), Computed.OF_NONE)
                    : new One(operator.apply(p.value(), q.value()), neutral != null ? neutral : from));
        }
        return new Integers(a.scalar() && b.scalar(), all);
    }

    /** Whether a size is compared with what no size is. */
    private static boolean never(EditableNode n, One p, One q) {
        return n.type().equals("Equal") && p.origin() instanceof SizeOf && q.value().known() && q.value().factor() < 0;
    }

    /** Where the result comes from as it is, if one operand changes nothing; else null. */
    private static Origin neutral(EditableNode n, One p, One q) {
        boolean times = n.type().equals("Mul");
        boolean plus = n.type().equals("Add");
        if (times && q.value().is(1) || n.type().equals("Div") && q.value().is(1) || (plus || n.type().equals("Sub")) && q.value().is(0)) {
            return q.origin() instanceof SizeOf ? null : p.origin();
        }
        return (times && p.value().is(1) || plus && p.value().is(0)) && !(p.origin() instanceof SizeOf) ? q.origin() : null;
    }

    private Quantity sum(Quantity a, Quantity b) {
        return a.is(0) ? b : b.is(0) ? a : a.symbols().equals(b.symbols()) && small(a, b) ? scaled(a.factor() + b.factor(), a) : derived("sum", a, b);
    }

    private Quantity difference(Quantity a, Quantity b) {
        return b.is(0) ? a : a.symbols().equals(b.symbols()) && small(a, b) ? scaled(a.factor() - b.factor(), a) : derived("difference", a, b);
    }

    private static boolean small(Quantity a, Quantity b) {
        return Math.abs(a.factor() >> 1) < 1L << 61 && Math.abs(b.factor() >> 1) < 1L << 61;
    }

    private static Quantity scaled(long factor, Quantity of) {
        return factor == 0 ? Quantity.of(0) : new Quantity(factor, of.symbols());
    }

    private Quantity quotient(Quantity a, Quantity b) {
        return a.known() && b.known() && a.factor() >= 0 && b.factor() > 0 ? Quantity.of(a.factor() / b.factor()) : derived("quotient", a, b);
    }

    private Quantity larger(Quantity a, Quantity b, boolean larger) {
        if (a.equals(b)) {
            return a;
        }
        return a.known() && b.known() ? Quantity.of(larger ? Math.max(a.factor(), b.factor()) : Math.min(a.factor(), b.factor())) : derived("max", a, b, larger);
    }

    /** 1 or 0. */
    private Quantity equal(Quantity a, Quantity b) {
        if (a.known() && b.known() || a.equals(b)) {
            return Quantity.of(a.equals(b) ? 1 : 0);
        }
        return derived("equal", a, b);
    }

    private Integers selected(EditableNode n) {
        Integers which = numbers(n, 0);
        Integers a = numbers(n, 1);
        Integers b = numbers(n, 2);
        if (which == null || a == null || b == null) {
            return null;
        }
        int count = Math.max(which.size(), Math.max(a.size(), b.size()));
        List<One> all = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            if (oneOf(which, i) == null || oneOf(a, i) == null || oneOf(b, i) == null) {
                return null;
            }
            Quantity w = oneOf(which, i).value();
            One p = oneOf(a, i);
            One q = oneOf(b, i);
            Computed from = Computed.of(List.of(oneOf(which, i), p, q));
            if (from == null) {
                return null;
            }
            boolean fixed = Computed.of(List.of(oneOf(which, i))).sizes().isEmpty();
            Quantity value = w.known() ? w.is(0) ? q.value() : p.value() : derived("where", w, p.value(), q.value());
            all.add(w.known() && fixed ? w.is(0) ? q : p : new One(value, from));
        }
        return new Integers(which.scalar() && a.scalar() && b.scalar(), all);
    }

    private static One oneOf(Integers x, int i) {
        return x.size() == 1 ? x.all().getFirst() : i < x.size() ? x.all().get(i) : null;
    }

    private Integers filled(EditableNode n, Integers x) {
        long[] dims = x == null ? null : x.known();
        if (dims == null || dims.length > 1 || dims.length == 1 && (dims[0] < 0 || dims[0] > Integers.MOST)) {
            return null;
        }
        return n.tensor("value").flatMap(t -> t.integers(1)).filter(v -> v.length == 1)
                .map(v -> new Integers(dims.length == 0, Collections.nCopies(dims.length == 0 ? 1 : (int) dims[0],
                        new One(Quantity.of(v[0]), Computed.OF_NONE)))).orElse(null);
    }

    private Integers sequence(EditableNode n) {
        List<One> given = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            if (numbers(n, i) == null || numbers(n, i).size() != 1 || !numbers(n, i).value(0).known()) {
                return null;
            }
            given.add(numbers(n, i).all().getFirst());
        }
        long from = given.get(0).value().factor();
        long to = given.get(1).value().factor();
        long step = given.get(2).value().factor();
        Computed origin = Computed.of(given);
        if (origin == null || Math.max(Math.abs(from), Math.abs(to)) > 1 << 30 || step == 0 || Math.abs(step) > 1 << 30
                || Math.abs(to - from) / Math.abs(step) > Integers.MOST) {
            return null;
        }
        List<One> all = new ArrayList<>();
        for (long i = from; step > 0 ? i < to : i > to; i += step) {
            all.add(new One(Quantity.of(i), origin));
        }
        return new Integers(false, all);
    }
}
