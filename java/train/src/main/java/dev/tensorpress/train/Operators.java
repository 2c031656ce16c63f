package dev.tensorpress.train;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDArrays;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.index.NDIndex;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.ndarray.types.SparseFormat;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableNode;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.function.BinaryOperator;
import java.util.function.Function;
import java.util.function.UnaryOperator;
import java.util.stream.IntStream;
import java.util.stream.LongStream;

/** What ONNX operators compute, in PyTorch. All that is here has gradients, where ONNX's operator has. */
final class Operators {
    private static final Map<String, Operator> ALL = new HashMap<>();
    private static final Map<String, Operator> MICROSOFT = Map.of("Gelu", one(c -> c.in(0).getNDArrayInternal().gelu()),
            "FusedMatMul", one(Operators::fusedMatMul));

    /** Computes the results of a node; those that are null are not there. */
    @FunctionalInterface
    interface Operator {
        NDArray[] run(Call call);
    }

    /** A node with its operands, of which those that are left out are null. */
    record Call(EditableNode node, NDArray[] operands, long opset, NDManager scope) {
        NDArray in(int i) {
            return operands[i];
        }

        boolean has(int i) {
            return i < operands.length && operands[i] != null;
        }

        NDArray or(int i, NDArray absent) {
            return has(i) ? operands[i] : absent;
        }

        /** An operand of integers. */
        long[] integers(int i) {
            return operands[i].toType(DataType.INT64, false).toLongArray();
        }

        /** What newer operator sets have as operand and older ones as attribute; null if neither is there. */
        long[] integers(int i, String attribute) {
            return has(i) ? integers(i) : node.integers(attribute).orElse(null);
        }

        double real(int i, double absent) {
            return has(i) ? operands[i].toType(DataType.FLOAT64, false).toDoubleArray()[0] : absent;
        }

        int axis(long absent, int rank) {
            return at(node.integer("axis", absent), rank);
        }

        static int at(long axis, int rank) {
            return Math.toIntExact(axis < 0 ? axis + rank : axis);
        }

        UnsupportedRequestException refuse(String what) {
            return new UnsupportedRequestException(node.label() + ": " + node.type() + " " + what + " cannot be trained");
        }
    }

    /** Inputs that are no parameters: by operator, each a bit. */
    private static final Map<String, Integer> FIXED = Map.ofEntries(Map.entry("BatchNormalization", 0b11000), Map.entry("Reshape", 0b10),
            Map.entry("Expand", 0b10), Map.entry("Pad", 0b110), Map.entry("Clip", 0b110), Map.entry("Dropout", 0b110), Map.entry("Pow", 0b10),
            Map.entry("Where", 0b1), Map.entry("DequantizeLinear", 0b100), Map.entry("OneHot", 0b110), Map.entry("ConstantOfShape", 0b1));

    static {
        unary("Identity", x -> x);
        put("Dropout", Operators::dropout);
        unary("Relu", x -> x.getNDArrayInternal().relu());
        unary("Erf", NDArray::erf);
        unary("Exp", NDArray::exp);
        unary("Log", NDArray::log);
        unary("Sqrt", NDArray::sqrt);
        unary("Neg", NDArray::neg);
        unary("Abs", NDArray::abs);
        unary("Floor", NDArray::floor);
        unary("Ceil", NDArray::ceil);
        unary("Round", NDArray::round);
        unary("Sign", NDArray::sign);
        unary("Sin", NDArray::sin);
        unary("Cos", NDArray::cos);
        unary("Tanh", NDArray::tanh);
        unary("Sinh", NDArray::sinh);
        unary("Cosh", NDArray::cosh);
        unary("Tan", NDArray::tan);
        unary("Atan", NDArray::atan);
        unary("Asin", NDArray::asin);
        unary("Acos", NDArray::acos);
        unary("Reciprocal", x -> x.onesLike().div(x));
        unary("Sigmoid", Operators::sigmoid);
        unary("Softplus", x -> x.getNDArrayInternal().softPlus());
        unary("Softsign", x -> x.getNDArrayInternal().softSign());
        unary("HardSwish", x -> x.mul(Scalars.over(x, 6).add(0.5).clip(0, 1)));
        unary("Mish", x -> x.mul(x.getNDArrayInternal().softPlus().tanh()));
        unary("Not", NDArray::logicalNot);
        put("LeakyRelu", c -> c.in(0).getNDArrayInternal().leakyRelu(c.node.real("alpha", 0.01f)));
        put("Elu", c -> c.in(0).getNDArrayInternal().elu(c.node.real("alpha", 1)));
        put("Selu", Operators::selu);
        put("HardSigmoid", c -> Scalars.times(c.in(0), c.node.real("alpha", 0.2f)).add(c.node.real("beta", 0.5f)).clip(0, 1));
        put("Gelu", c -> c.node.text("approximate", "none").equals("tanh") ? geluByTanh(c.in(0)) : c.in(0).getNDArrayInternal().gelu());
        put("PRelu", Operators::prelu);
        put("Clip", Operators::clip);
        put("Cast", c -> c.in(0).toType(type(c, c.node.integer("to", 0)), false));
        binary("Add", NDArray::add);
        binary("Sub", NDArray::sub);
        binary("Mul", NDArray::mul);
        binary("Div", Operators::div);
        binary("Pow", Operators::pow);
        binary("Equal", NDArray::eq);
        binary("Greater", NDArray::gt);
        binary("GreaterOrEqual", NDArray::gte);
        binary("Less", NDArray::lt);
        binary("LessOrEqual", NDArray::lte);
        binary("And", NDArray::logicalAnd);
        binary("Or", NDArray::logicalOr);
        binary("Xor", NDArray::logicalXor);
        put("Sum", c -> fold(c, NDArray::add));
        put("Max", c -> fold(c, NDArrays::maximum));
        put("Min", c -> fold(c, NDArrays::minimum));
        put("Mean", c -> Scalars.over(fold(c, NDArray::add), c.operands.length));
        put("Where", Operators::where);

        put("Shape", Operators::shape);
        put("Size", c -> c.scope.create(c.in(0).size()));
        put("Reshape", Operators::reshape);
        put("Flatten", c -> matrix(c.in(0), c.axis(1, rank(c.in(0)))));
        put("Transpose", Operators::transpose);
        put("Squeeze", Operators::squeeze);
        put("Unsqueeze", Operators::unsqueeze);
        put("Concat", c -> NDArrays.concat(new NDList(c.operands), c.axis(0, rank(c.in(0)))));
        ALL.put("Split", Operators::split);
        put("Slice", Operators::slice);
        put("Gather", Operators::gather);
        put("Expand", c -> c.in(0).broadcast(common(c.in(0).getShape(), new Shape(c.integers(1)))));
        put("Tile", c -> c.in(0).tile(c.integers(1)));
        put("Pad", Operators::padded);
        put("ConstantOfShape", Operators::constantOfShape);
        put("Range", Operators::range);

        reduction("ReduceMean", Operators::mean);
        reduction("ReduceSum", (x, axes, keep) -> x.sum(axes, keep));
        reduction("ReduceSumSquare", (x, axes, keep) -> x.square().sum(axes, keep));
        reduction("ReduceL1", (x, axes, keep) -> x.abs().sum(axes, keep));
        reduction("ReduceL2", (x, axes, keep) -> x.square().sum(axes, keep).sqrt());
        reduction("ReduceLogSumExp", (x, axes, keep) -> x.exp().sum(axes, keep).log());
        reduction("ReduceMax", Operators::max);
        reduction("ReduceMin", (x, axes, keep) -> max(x.neg(), axes, keep).neg());
        put("ArgMax", Operators::argMax);
        put("Softmax", c -> overClasses(c, (x, axis) -> x.softmax(axis)));
        put("LogSoftmax", c -> overClasses(c, (x, axis) -> x.logSoftmax(axis)));

        put("MatMul", c -> c.in(0).matMul(c.in(1)));
        put("Gemm", Operators::gemm);
        put("DequantizeLinear", Operators::dequantize);
        put("Conv", Operators::conv);
        put("ConvTranspose", Operators::convTranspose);
        put("BatchNormalization", Operators::batchNormalization);
        put("LayerNormalization", Operators::layerNormalization);
        put("InstanceNormalization", c -> groups(c, c.in(0).getShape().get(1)));
        put("GroupNormalization", c -> groups(c, c.node.integer("num_groups", 1)));
        put("MaxPool", Operators::maxPool);
        put("AveragePool", Operators::averagePool);
        put("GlobalAveragePool", c -> mean(c.in(0), IntStream.range(2, rank(c.in(0))).toArray(), true));
        put("GlobalMaxPool", c -> max(c.in(0), IntStream.range(2, rank(c.in(0))).toArray(), true));
        ALL.put("LSTM", Recurrent::run);
        ALL.put("GRU", Recurrent::run);
        ALL.put("RNN", Recurrent::run);
    }

    private Operators() {}

    /** Null if it is not known. */
    static Operator of(EditableNode n) {
        return switch (n.domain()) {
            case "", "ai.onnx" -> ALL.get(n.type());
            case "com.microsoft" -> MICROSOFT.get(n.type());
            default -> null;
        };
    }

    /** Whether a constant in this place may be a parameter. */
    static boolean trains(EditableNode n, int input) {
        return (FIXED.getOrDefault(n.type(), 0) >> input & 1) == 0;
    }

    private static Operator one(Function<Call, NDArray> f) {
        return c -> new NDArray[] {f.apply(c)};
    }

    private static void put(String type, Function<Call, NDArray> f) {
        ALL.put(type, one(f));
    }

    private static void unary(String type, UnaryOperator<NDArray> f) {
        put(type, c -> f.apply(c.in(0)));
    }

    private static void binary(String type, BinaryOperator<NDArray> f) {
        put(type, c -> {
            if (c.node.has("axis") || c.node.integer("broadcast", 0) != 0) {
                throw c.refuse("with the broadcasting of operator set 6 and before");
            }
            return f.apply(c.in(0), c.in(1));
        });
    }

    private interface Reduction {
        NDArray of(NDArray x, int[] axes, boolean keep);
    }

    private static void reduction(String type, Reduction f) {
        put(type, c -> {
            NDArray x = c.in(0);
            long[] axes = c.integers(1, "axes");
            if (axes == null || axes.length == 0) {
                if (c.node.integer("noop_with_empty_axes", 0) != 0) {
                    return x;
                }
                axes = IntStream.range(0, rank(x)).asLongStream().toArray();
            }
            int[] at = axes(axes, rank(x));
            return at.length == 0 ? f.of(x.expandDims(0), new int[] {0}, false) : f.of(x, at, c.node.integer("keepdims", 1) != 0);
        });
    }

    private static NDArray mean(NDArray x, int[] axes, boolean keep) {
        long count = Arrays.stream(axes).mapToLong(axis -> x.getShape().get(axis)).reduce(1, (a, b) -> a * b);
        return Scalars.over(x.sum(axes, keep), count);
    }

    /** PyTorch takes one axis at a time. */
    private static NDArray max(NDArray x, int[] axes, boolean keep) {
        NDArray largest = x;
        for (int i = axes.length - 1; i >= 0; i--) {
            largest = largest.max(new int[] {axes[i]}, keep);
        }
        return largest;
    }

    static int rank(NDArray x) {
        return x.getShape().dimension();
    }

    private static int[] axes(long[] axes, int rank) {
        return Arrays.stream(axes).mapToInt(axis -> Call.at(axis, rank)).sorted().toArray();
    }

    /** The shape to which both are broadcast. */
    private static Shape common(Shape a, Shape b) {
        int rank = Math.max(a.dimension(), b.dimension());
        long[] dims = new long[rank];
        for (int i = 0; i < rank; i++) {
            int ia = i - rank + a.dimension();
            int ib = i - rank + b.dimension();
            long da = ia < 0 ? 1 : a.get(ia);
            long db = ib < 0 ? 1 : b.get(ib);
            dims[i] = da == 1 ? db : da;
        }
        return new Shape(dims);
    }

    static NDArray sigmoid(NDArray x) {
        // tanh has no overflow, and its gradient no cancellation.
        return Scalars.times(Scalars.times(x, 0.5).tanh(), 0.5).add(0.5);
    }

    /** What is below 0. */
    private static NDArray negative(NDArray x) {
        return x.neg().getNDArrayInternal().relu().neg();
    }

    private static NDArray geluByTanh(NDArray x) {
        NDArray cubic = Scalars.times(x.square().mul(x), 0.044715).add(x);
        return Scalars.times(x, 0.5).mul(Scalars.times(cubic, Math.sqrt(2 / Math.PI)).tanh().add(1));
    }

    private static NDArray selu(Call c) {
        NDArray x = c.in(0);
        NDArray below = Scalars.times(negative(x).exp().sub(1), c.node.real("alpha", 1.6732632f));
        return Scalars.times(x.getNDArrayInternal().relu().add(below), c.node.real("gamma", 1.050701f));
    }

    private static NDArray clip(Call c) {
        NDArray x = c.in(0);
        double min = c.has(1) ? c.real(1, 0) : c.node.real("min", Float.NEGATIVE_INFINITY);
        double max = c.has(2) ? c.real(2, 0) : c.node.real("max", Float.POSITIVE_INFINITY);
        if (x.getDataType().isFloating()) {
            return x.clip(min, max);
        }
        return x.toType(DataType.INT64, false).clip((long) min, (long) max).toType(x.getDataType(), false);
    }

    /** A slope for all, or for each channel. */
    private static NDArray prelu(Call c) {
        NDArray x = c.in(0);
        NDArray slope = c.in(1);
        boolean channels = rank(slope) == 1 && rank(x) > 2 && slope.size() == x.getShape().get(1);
        return x.getNDArrayInternal().relu().add(negative(x).mul(channels ? perChannel(slope, rank(x)) : slope));
    }

    private static NDArray dropout(Call c) {
        if (c.has(2) && c.in(2).toBooleanArray()[0]) {
            throw c.refuse("in training mode");
        }
        return c.in(0);
    }

    private static DataType type(Call c, long code) {
        return switch ((int) code) {
            case 1, 10, 16 -> DataType.FLOAT32; // f16 and bf16 are computed in f32
            case 2 -> DataType.UINT8;
            case 3 -> DataType.INT8;
            case 4, 5, 6, 21, 22 -> DataType.INT32; // of 4 and 16 bits, too
            case 7 -> DataType.INT64;
            case 9 -> DataType.BOOLEAN;
            case 11 -> DataType.FLOAT64;
            default -> throw c.refuse("to type " + code);
        };
    }

    private static NDArray div(NDArray a, NDArray b) {
        if (a.getDataType().isFloating()) {
            return a.div(b);
        }
        return a.toType(DataType.FLOAT64, false).div(b.toType(DataType.FLOAT64, false)).trunc().toType(a.getDataType(), false);
    }

    private static NDArray pow(NDArray x, NDArray exponent) {
        if (exponent.size() != 1 || !x.getDataType().isFloating()) {
            return x.pow(exponent).toType(x.getDataType(), false);
        }
        double e = exponent.toType(DataType.FLOAT64, false).toDoubleArray()[0];
        NDArray result = e == 2 ? x.square() : e == 0.5 ? x.sqrt() : Scalars.power(x, e);
        return result.reshape(common(x.getShape(), exponent.getShape()));
    }

    private static NDArray fold(Call c, BinaryOperator<NDArray> f) {
        NDArray all = c.in(0);
        for (int i = 1; i < c.operands.length; i++) {
            all = f.apply(all, c.in(i));
        }
        return all;
    }

    private static NDArray where(Call c) {
        Shape shape = common(common(c.in(0).getShape(), c.in(1).getShape()), c.in(2).getShape());
        return NDArrays.where(c.in(0).broadcast(shape), c.in(1).broadcast(shape), c.in(2).broadcast(shape));
    }

    private static NDArray shape(Call c) {
        long[] dims = c.in(0).getShape().getShape().clone();
        int from = Math.clamp(c.node.integer("start", 0) + (c.node.integer("start", 0) < 0 ? dims.length : 0), 0, dims.length);
        long end = c.node.integer("end", dims.length);
        int to = Math.clamp(end < 0 ? end + dims.length : end, 0, dims.length);
        return c.scope.create(Arrays.copyOfRange(dims, from, Math.max(from, to)));
    }

    private static NDArray reshape(Call c) {
        NDArray x = c.in(0);
        long[] to = c.integers(1, "shape").clone();
        for (int i = 0; i < to.length; i++) {
            to[i] = to[i] == 0 && c.node.integer("allowzero", 0) == 0 ? x.getShape().get(i) : to[i];
        }
        return x.reshape(to);
    }

    private static NDArray transpose(Call c) {
        int rank = rank(c.in(0));
        long[] order = c.node.integers("perm").orElse(IntStream.range(0, rank).mapToLong(i -> rank - 1 - i).toArray());
        return rank < 2 ? c.in(0) : c.in(0).transpose(Arrays.stream(order).mapToInt(i -> (int) i).toArray());
    }

    private static NDArray squeeze(Call c) {
        long[] dims = c.in(0).getShape().getShape().clone();
        long[] axes = c.integers(1, "axes");
        int[] gone = axes == null ? IntStream.range(0, dims.length).filter(i -> dims[i] == 1).toArray() : axes(axes, dims.length);
        return c.in(0).reshape(IntStream.range(0, dims.length).filter(i -> Arrays.binarySearch(gone, i) < 0).mapToLong(i -> dims[i]).toArray());
    }

    private static NDArray unsqueeze(Call c) {
        long[] axes = c.integers(1, "axes");
        int rank = rank(c.in(0)) + axes.length;
        long[] dims = new long[rank];
        for (int axis : axes(axes, rank)) {
            dims[axis] = 1;
        }
        int next = 0;
        for (int i = 0; i < rank; i++) {
            dims[i] = dims[i] == 1 ? 1 : c.in(0).getShape().get(next++);
        }
        return c.in(0).reshape(dims);
    }

    private static NDArray[] split(Call c) {
        NDArray x = c.in(0);
        int axis = c.axis(0, rank(x));
        long[] sizes = c.integers(1, "split");
        int parts = c.node.outputs().size();
        long[] ends = new long[parts - 1];
        long each = Math.ceilDiv(x.getShape().get(axis), parts);
        for (int i = 0, end = 0; i < parts - 1; i++) {
            end += (int) (sizes == null ? each : sizes[i]);
            ends[i] = end;
        }
        return parts == 1 ? new NDArray[] {x} : x.split(ends, axis).toArray(new NDArray[0]);
    }

    private static NDArray slice(Call c) {
        NDArray x = c.in(0);
        int rank = rank(x);
        long[] starts = c.integers(1, "starts");
        long[] ends = c.integers(2, "ends");
        long[] axes = c.integers(3, "axes");
        long[] steps = c.has(4) ? c.integers(4) : null;
        for (int i = 0; i < starts.length; i++) {
            int axis = Call.at(axes == null ? i : axes[i], rank);
            long size = x.getShape().get(axis);
            long step = steps == null ? 1 : steps[i];
            long start = starts[i] < 0 ? starts[i] + size : starts[i];
            long end = ends[i] < 0 ? ends[i] + size : ends[i];
            if (step < 0) {
                x = x.flip(axis);
                start = size - 1 - Math.clamp(start, -1, size - 1);
                end = size - 1 - Math.clamp(end, -1, size - 1);
                step = -step;
            }
            x = part(x, axis, Math.clamp(start, 0, size), Math.clamp(end, 0, size), step);
        }
        return x;
    }

    private static NDArray part(NDArray x, int axis, long start, long end, long step) {
        long[] dims = x.getShape().getShape().clone();
        if (start >= end) {
            dims[axis] = 0;
            return x.getManager().create(new Shape(dims), x.getDataType());
        }
        NDIndex index = new NDIndex();
        for (int i = 0; i < dims.length; i++) {
            index = i == axis ? index.addSliceDim(start, end, step) : index.addAllDim();
        }
        return x.get(index);
    }

    private static NDArray gather(Call c) {
        NDArray x = c.in(0);
        int rank = rank(x);
        int axis = c.axis(0, rank);
        long size = x.getShape().get(axis);
        NDArray at = c.in(1).toType(DataType.INT64, false);
        at = at.add(at.lt(0).toType(DataType.INT64, false).mul(size));
        int[] front = new int[rank];
        front[0] = axis;
        for (int i = 0, next = 1; i < rank; i++) {
            if (i != axis) {
                front[next++] = i;
            }
        }
        NDArray lines = (axis == 0 ? x : x.transpose(front)).reshape(size, x.size() / Math.max(1, size));
        NDArray found = lines.getNDArrayInternal().embedding(at, lines, SparseFormat.DENSE).singletonOrThrow();
        // [indices, before the axis, behind it] to [before, indices, behind].
        int k = rank(at);
        long[] dims = new long[k + rank - 1];
        int[] order = new int[dims.length];
        for (int i = 0; i < k; i++) {
            dims[i] = at.getShape().get(i);
            order[axis + i] = i;
        }
        for (int i = 1; i < rank; i++) {
            dims[k + i - 1] = x.getShape().get(front[i]);
            order[i - 1 < axis ? i - 1 : k + i - 1] = k + i - 1;
        }
        found = found.reshape(dims);
        return axis == 0 || dims.length < 2 ? found : found.transpose(order);
    }

    private static NDArray padded(Call c) {
        if (!c.node.text("mode", "constant").equals("constant") || c.has(3)) {
            throw c.refuse("of other modes than constant, or of axes that are named,");
        }
        long[] pads = c.integers(1, c.node.has("paddings") ? "paddings" : "pads");
        return pad(c.in(0), pads, c.has(2) ? c.real(2, 0) : c.node.real("value", 0));
    }

    /** @param pads before each of the last axes, then behind each; negative ones cut off */
    private static NDArray pad(NDArray x, long[] pads, double value) {
        if (Arrays.stream(pads).allMatch(p -> p == 0)) {
            return x;
        }
        int n = pads.length / 2;
        int first = rank(x) - n;
        long[] last = new long[2 * n];
        for (int i = 0; i < n; i++) {
            long cutBefore = Math.max(0, -pads[i]);
            long cutBehind = Math.max(0, -pads[n + i]);
            if (cutBefore + cutBehind > 0) {
                x = part(x, first + i, cutBefore, x.getShape().get(first + i) - cutBehind, 1);
            }
            last[2 * (n - 1 - i)] = Math.max(0, pads[i]);
            last[2 * (n - 1 - i) + 1] = Math.max(0, pads[n + i]);
        }
        return x.pad(new Shape(last), value);
    }

    private static NDArray constantOfShape(Call c) {
        Shape shape = new Shape(c.integers(0));
        return c.node.tensor("value").map(t -> Tensors.array(c.scope, c.node.label(), t).reshape(new Shape()).broadcast(shape))
                .orElseGet(() -> c.scope.zeros(shape));
    }

    private static NDArray range(Call c) {
        DataType type = c.in(0).getDataType();
        double start = c.real(0, 0);
        double step = c.real(2, 1);
        long n = Math.max(0, (long) Math.ceil((c.real(1, 0) - start) / step));
        double[] all = new double[Math.toIntExact(n)];
        Arrays.setAll(all, i -> start + i * step);
        return c.scope.create(all).toType(type, false);
    }

    private static NDArray argMax(Call c) {
        if (c.node.integer("select_last_index", 0) != 0) {
            throw c.refuse("with select_last_index");
        }
        int axis = c.axis(0, rank(c.in(0)));
        NDArray at = c.in(0).argMax(axis);
        return c.node.integer("keepdims", 1) != 0 ? at.expandDims(axis) : at;
    }

    private interface OverAxis {
        NDArray of(NDArray x, int axis);
    }

    /** Before operator set 13 all axes from one on are classes. */
    private static NDArray overClasses(Call c, OverAxis f) {
        NDArray x = c.in(0);
        if (c.opset >= 13) {
            return f.of(x, c.axis(-1, rank(x)));
        }
        return f.of(matrix(x, c.axis(1, rank(x))), 1).reshape(x.getShape());
    }

    private static NDArray matrix(NDArray x, int axis) {
        long rows = x.getShape().slice(0, axis).size();
        return x.reshape(rows, rows == 0 ? 0 : x.size() / rows);
    }

    private static NDArray gemm(Call c) {
        NDArray a = c.node.integer("transA", 0) != 0 ? c.in(0).transpose() : c.in(0);
        NDArray b = c.node.integer("transB", 0) != 0 ? c.in(1).transpose() : c.in(1);
        NDArray product = scaled(a.matMul(b), c.node.real("alpha", 1));
        return c.has(2) ? product.add(scaled(c.in(2), c.node.real("beta", 1))) : product;
    }

    /** A scale for all, for each index of an axis, or for each block along it. */
    private static NDArray dequantize(Call c) {
        NDArray x = c.in(0).toType(c.in(1).getDataType(), false);
        NDArray scale = c.in(1);
        int axis = rank(scale) == 0 || scale.size() == 1 && rank(scale) < 2 ? -1 : c.axis(1, rank(x));
        long block = c.node.integer("block_size", 0);
        NDArray codes = c.has(2) ? x.sub(spread(c.in(2).toType(scale.getDataType(), false), x, axis, block)) : x;
        return codes.mul(spread(scale, x, axis, block));
    }

    private static NDArray spread(NDArray a, NDArray x, int axis, long block) {
        if (axis < 0) {
            return a.reshape(new Shape());
        }
        long[] dims = new long[rank(x)];
        if (block == 0) {
            Arrays.fill(dims, 1);
            dims[axis] = a.size();
            return a.reshape(dims);
        }
        NDArray each = a.expandDims(axis + 1);
        long[] wide = each.getShape().getShape().clone();
        wide[axis + 1] = block;
        long[] joined = a.getShape().getShape().clone();
        joined[axis] *= block;
        return part(each.broadcast(new Shape(wide)).reshape(joined), axis, 0, x.getShape().get(axis), 1);
    }

    private static NDArray scaled(NDArray x, float by) {
        return by == 1 ? x : Scalars.times(x, by);
    }

    private static NDArray fusedMatMul(Call c) {
        if (c.node.integer("transBatchA", 0) != 0 || c.node.integer("transBatchB", 0) != 0) {
            throw c.refuse("with transposed batches");
        }
        NDArray a = c.node.integer("transA", 0) != 0 ? c.in(0).swapAxes(rank(c.in(0)) - 2, rank(c.in(0)) - 1) : c.in(0);
        NDArray b = c.node.integer("transB", 0) != 0 ? c.in(1).swapAxes(rank(c.in(1)) - 2, rank(c.in(1)) - 1) : c.in(1);
        return scaled(a.matMul(b), c.node.real("alpha", 1));
    }

    /** Windows that slide over the last axes. */
    private record Window(long[] kernel, long[] strides, long[] dilations, long[] pads) {
        static Window of(Call c, long[] kernel) {
            int n = kernel.length;
            long[] ones = new long[n];
            Arrays.fill(ones, 1);
            long[] strides = c.node.integers("strides").orElse(ones);
            long[] dilations = c.node.integers("dilations").orElse(ones);
            long[] pads = c.node.integers("pads").orElse(new long[2 * n]);
            String auto = c.node.text("auto_pad", "NOTSET");
            if (auto.startsWith("SAME")) {
                pads = new long[2 * n];
                for (int i = 0; i < n; i++) {
                    long in = c.in(0).getShape().get(i + 2);
                    long all = Math.max(0, (Math.ceilDiv(in, strides[i]) - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - in);
                    pads[i] = auto.equals("SAME_UPPER") ? all / 2 : all - all / 2;
                    pads[n + i] = all - pads[i];
                }
            }
            return new Window(kernel, strides, dilations, auto.equals("VALID") ? new long[2 * n] : pads);
        }

        int axes() {
            return kernel.length;
        }

        boolean symmetric() {
            return Arrays.equals(pads, 0, axes(), pads, axes(), 2 * axes());
        }

        /** Of a padding that is the same on both sides. */
        Shape padding() {
            return new Shape(Arrays.copyOf(pads, axes()));
        }

        Shape none() {
            return new Shape(new long[axes()]);
        }
    }

    private static long[] kernel(NDArray weight) {
        return Arrays.copyOfRange(weight.getShape().getShape().clone(), 2, rank(weight));
    }

    private static NDArray conv(Call c) {
        Window w = Window.of(c, kernel(c.in(1)));
        NDArray x = w.symmetric() ? c.in(0) : pad(c.in(0), w.pads, 0);
        return x.getNDArrayInternal().convolution(x, c.in(1), c.or(2, null), new Shape(w.strides), w.symmetric() ? w.padding() : w.none(),
                new Shape(w.dilations), (int) c.node.integer("group", 1)).singletonOrThrow();
    }

    /** A convolution of what has zeros between: DJL has no other one with PyTorch. */
    private static NDArray convTranspose(Call c) {
        if (c.node.has("output_shape") || !c.node.text("auto_pad", "NOTSET").equals("NOTSET")) {
            throw c.refuse("with output_shape or auto_pad");
        }
        NDArray weight = c.in(1);
        Window w = Window.of(c, kernel(weight));
        int n = w.axes();
        long groups = c.node.integer("group", 1);
        long[] more = c.node.integers("output_padding").orElse(new long[n]);
        NDArray x = c.in(0);
        long[] dims = x.getShape().getShape().clone();
        long[] pads = new long[2 * n];
        for (int i = 0; i < n; i++) {
            if (w.strides[i] > 1) {
                dims[i + 2] *= w.strides[i];
                NDArray apart = x.expandDims(i + 3);
                NDList parts = new NDList(apart);
                for (long k = 1; k < w.strides[i]; k++) {
                    parts.add(apart.zerosLike());
                }
                x = NDArrays.concat(parts, i + 3).reshape(dims);
            }
            long full = (w.kernel[i] - 1) * w.dilations[i];
            pads[i] = full - w.pads[i];
            pads[n + i] = full - w.pads[n + i] + more[i] - (w.strides[i] - 1);
        }
        // [inputs, outputs of a group, ...] to [outputs, inputs of a group, ...], turned around.
        long[] of = weight.getShape().getShape().clone();
        long[] apart = LongStream.concat(LongStream.of(groups, of[0] / groups), Arrays.stream(of, 1, of.length)).toArray();
        long[] turned = LongStream.concat(LongStream.of(groups * of[1], of[0] / groups), Arrays.stream(w.kernel)).toArray();
        NDArray kernel = weight.reshape(apart).swapAxes(1, 2).reshape(turned).flip(IntStream.range(2, n + 2).toArray());
        x = pad(x, pads, 0);
        return x.getNDArrayInternal().convolution(x, kernel, c.or(2, null), new Shape(LongStream.generate(() -> 1).limit(n).toArray()), w.none(),
                new Shape(w.dilations), (int) groups).singletonOrThrow();
    }

    /** By the statistics that the model has. */
    private static NDArray batchNormalization(Call c) {
        if (c.node.integer("training_mode", 0) != 0) {
            throw c.refuse("in training mode");
        }
        NDArray x = c.in(0);
        NDArray factor = c.in(1).div(c.in(4).add(c.node.real("epsilon", 1e-5f)).sqrt());
        NDArray offset = c.in(2).sub(c.in(3).mul(factor));
        return x.mul(perChannel(factor, rank(x))).add(perChannel(offset, rank(x)));
    }

    private static NDArray perChannel(NDArray a, int rank) {
        long[] dims = new long[rank];
        Arrays.fill(dims, 1);
        dims[1] = a.size();
        return a.reshape(dims);
    }

    private static NDArray layerNormalization(Call c) {
        NDArray x = c.in(0);
        if (c.node.outputs().stream().filter(name -> !name.isEmpty()).count() > 1) {
            throw c.refuse("with mean and deviation as results");
        }
        Shape shape = x.getShape().slice(c.axis(-1, rank(x)));
        NDArray scale = c.in(1).broadcast(shape);
        NDArray bias = c.has(2) ? c.in(2).broadcast(shape) : scale.zerosLike();
        return x.getNDArrayInternal().layerNorm(x, shape, scale, bias, c.node.real("epsilon", 1e-5f)).singletonOrThrow();
    }

    /** Groups of channels, each to mean 0 and variance 1. */
    private static NDArray groups(Call c, long groups) {
        NDArray x = c.in(0);
        NDArray lines = x.reshape(x.getShape().get(0), groups, -1);
        NDArray centred = lines.sub(lines.mean(new int[] {2}, true));
        NDArray normal = centred.div(centred.square().mean(new int[] {2}, true).add(c.node.real("epsilon", 1e-5f)).sqrt());
        long channels = x.getShape().get(1);
        if (c.in(1).size() != channels) { // of operator set 18 to 20: a scale for each group
            NDArray scale = c.in(1).reshape(groups, 1).broadcast(groups, channels / groups).reshape(channels);
            NDArray bias = c.in(2).reshape(groups, 1).broadcast(groups, channels / groups).reshape(channels);
            return normal.reshape(x.getShape()).mul(perChannel(scale, rank(x))).add(perChannel(bias, rank(x)));
        }
        return normal.reshape(x.getShape()).mul(perChannel(c.in(1), rank(x))).add(perChannel(c.in(2), rank(x)));
    }

    private static Window pool(Call c) {
        Window w = Window.of(c, c.node.integers("kernel_shape").orElseThrow());
        if (Arrays.stream(w.dilations).anyMatch(d -> d != 1) || c.node.outputs().size() > 1) {
            throw c.refuse("with dilations or indices");
        }
        return w;
    }

    private static NDArray maxPool(Call c) {
        Window w = pool(c);
        NDArray x = c.in(0).getDataType().isFloating() ? c.in(0) : c.in(0).toType(DataType.FLOAT64, false);
        return pad(x, w.pads, Double.NEGATIVE_INFINITY).getNDArrayInternal().maxPool(new Shape(w.kernel), new Shape(w.strides), w.none(),
                c.node.integer("ceil_mode", 0) != 0).toType(c.in(0).getDataType(), false);
    }

    private static NDArray averagePool(Call c) {
        Window w = pool(c);
        NDArray x = c.in(0);
        NDArray all = average(c, w, x);
        boolean counted = c.node.integer("count_include_pad", 0) != 0 || Arrays.stream(w.pads).allMatch(p -> p == 0);
        return counted ? all : all.div(average(c, w, x.onesLike()));
    }

    private static NDArray average(Call c, Window w, NDArray x) {
        return pad(x, w.pads, 0).getNDArrayInternal().avgPool(new Shape(w.kernel), new Shape(w.strides), w.none(), c.node.integer("ceil_mode", 0) != 0, true);
    }
}
