package dev.tensorpress.model.onnx;

import dev.tensorpress.model.Role;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.OnnxGraph.Attribute;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.OnnxGraph.Use;
import dev.tensorpress.model.onnx.OnnxGraph.Value;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/** Makes weights of a model's constant float tensors: where their data lie, and what the operators do with them. */
final class WeightFinder {
    /** Nodes that only move or convert elements between a weight and what uses it; exporters leave up to five. */
    private static final int LONGEST_CHAIN = 16;
    /** The size of an axis behind a cut; nothing asks for it there. */
    private static final long UNKNOWN = -1;
    private static final int MOST_AXES = 8;
    private static final int OLDEST_OPSET = 7;

    private final Parser model;
    private final Wire w;
    private final DataFiles files;
    private final Arena arena;
    private final Set<String> names = new HashSet<>();
    /** Values with the name of one in a graph around or inside: what is computed may not have such a name. */
    private final Set<Value> shadows = Collections.newSetFromMap(new IdentityHashMap<>(0));
    /** Results with nothing but a bias, scores and shapes between them and an output of the model. */
    private final Set<Value> last = Collections.newSetFromMap(new IdentityHashMap<>(0));
    /** How many weights wanted a name that another one has: where to go on counting. */
    private final Map<String, Integer> wanted = new HashMap<>();
    /** What the readers of a result do with it, in its axes: asked for once, however many ways lead to it. */
    private final Map<Value, Kind> known = new IdentityHashMap<>();
    /** Whether the results of a node depend on nothing that a caller gives. */
    private final Map<Node, Boolean> constant = new IdentityHashMap<>(0);

    WeightFinder(Parser model, Wire w, DataFiles files, Arena arena) {
        this.model = model;
        this.w = w;
        this.files = files;
        this.arena = arena;
    }

    /** A weight with its place in the model. */
    static final class Info {
        final Value value;
        final TensorInfo tensor;
        final Weight weight;
        /**
         * Every reader is one that a lowering can replace by its own nodes: nothing unusual is set, and no node is between but the
         * Transpose of a matrix before products.
         */
        final boolean replaceable;
        /** Position among the weights, in file order. */
        int order;

        Info(Value value, Weight weight, boolean replaceable) {
            this.value = value;
            this.tensor = value.tensor;
            this.weight = weight;
            this.replaceable = replaceable;
        }

        boolean isInitializer() {
            return value.producer == null;
        }
    }

    /** What one reader, or all readers, do with a weight. Axes are those of the weight. */
    private record Kind(Role role, int in, int out, boolean replaceable, String obstacle) {
        static final Kind OTHER = new Kind(Role.OTHER, -1, -1, false, null);

        static Kind of(Role role, int in, int out, boolean replaceable) {
            return new Kind(role, in, out, replaceable, null);
        }

        static Kind blocked(String why) {
            return new Kind(Role.OTHER, -1, -1, false, why);
        }

        Kind and(Kind other) {
            if (obstacle != null || other.obstacle != null) {
                return obstacle != null ? this : other;
            }
            if (tied(other)) {
                return of(other.role, other.in, other.out, replaceable && other.replaceable);
            }
            if (other.tied(this)) {
                return other.and(this);
            }
            boolean products = role.isProduct() && other.role.isProduct();
            if (role != other.role && !products || in != other.in || out != other.out) {
                return blocked("its readers disagree: " + describe() + " for one, " + other.describe()
                        + " for another");
            }
            return of(role == Role.HEAD ? role : other.role, in, out, replaceable && other.replaceable);
        }

        /** A table whose rows make scores as well is the matrix of that product, which bears less than a table does. */
        private boolean tied(Kind product) {
            return role == Role.EMBEDDING && product.role.isProduct() && out == product.out;
        }

        private String describe() {
            return role.id() + (out < 0 ? "" : " with outputs along axis " + out);
        }
    }

    /** All weights, in file order. */
    List<Info> find() throws IOException {
        findShadows();
        findLast();
        List<Value> found = new ArrayList<>();
        Set<TensorInfo> sparse = new HashSet<>();
        for (OnnxGraph g : model.graphs) {
            for (TensorInfo t : g.initializers) {
                add(found, g.values.get(t.name));
            }
            for (TensorInfo t : g.sparse) {
                add(found, g.values.get(t.name));
                sparse.add(t);
            }
            for (Node n : g.nodes) {
                if (n.is("Constant") && n.outputs.size() == 1 && !n.outputs.get(0).isEmpty()) {
                    add(found, g.values.get(n.outputs.get(0)));
                }
            }
        }
        // Not a lambda: the first one of a process costs more than reading the model.
        found.sort(new Comparator<Value>() {
            @Override
            public int compare(Value a, Value b) {
                return Long.compare(a.tensor.fieldStart, b.tensor.fieldStart);
            }
        });
        List<Info> all = new ArrayList<>(found.size());
        for (Value v : found) {
            Info i = info(v, sparse.contains(v.tensor));
            i.order = all.size();
            all.add(i);
        }
        return all;
    }

    private void findShadows() {
        for (OnnxGraph g : model.graphs) {
            if (g.parent != null) {
                for (Value v : g.values.values()) {
                    Value hidden = g.parent.resolve(v.name);
                    if (hidden != null) {
                        shadows.add(v);
                        shadows.add(hidden);
                    }
                }
            }
        }
    }

    /** From the end, since nodes stand behind those they read from, and graphs behind those around them. */
    private void findLast() {
        for (OnnxGraph g : model.graphs) {
            for (Node n : g.nodes.reversed()) {
                for (String name : n.outputs) {
                    Value v = g.values.get(name);
                    if (v != null && isLast(v)) {
                        last.add(v);
                    }
                }
            }
        }
    }

    private boolean isLast(Value v) {
        if (v.output && !leaves(v)) {
            return false;
        }
        boolean leads = v.output;
        for (Use u : v.uses) {
            Node n = u.node();
            if (n.is("Shape")) {
                continue;
            }
            boolean passes = n.domain.isEmpty() && switch (n.op) {
                case "Add", "Sub", "Mul", "Div" -> {
                    Value other = n.inputs.size() == 2 ? n.graph.resolve(n.inputs.get(1 - u.input())) : null;
                    yield other != null && other.tensor != null;
                }
                case "Softmax", "LogSoftmax", "Sigmoid", "ArgMax", "TopK", "Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze",
                        "Transpose", "Slice", "Dropout" -> u.input() == 0;
                default -> false;
            };
            if (!passes || n.outputs.isEmpty() || !last.contains(n.graph.values.get(n.outputs.getFirst()))) {
                return false;
            }
            leads = true;
        }
        return leads;
    }

    /** Whether an output of its graph is one of the model, or of an If whose result is last. */
    private boolean leaves(Value v) {
        OnnxGraph g = v.graph;
        if (g.parent == null) {
            return true;
        }
        int at = g.outputs.indexOf(v.name);
        List<String> results = g.owner.outputs;
        return g.owner.is("If") && at < results.size() && last.contains(g.parent.values.get(results.get(at)));
    }

    /** The role of a matrix that a product of this node reads. */
    private Role product(Node n) {
        return !n.outputs.isEmpty() && last.contains(n.graph.values.get(n.outputs.getFirst())) ? Role.HEAD : Role.LINEAR;
    }

    private static void add(List<Value> to, Value v) {
        if (v.tensor != null && v.tensor.dtype() != null) {
            to.add(v);
        }
    }

    private Info info(Value v, boolean sparse) throws IOException {
        TensorInfo t = v.tensor;
        Tensor tensor = new Tensor(t.dtype(), Shape.of(t.dims), data(t));
        Kind kind = null;
        List<String> readers = new ArrayList<>(v.uses.size());
        for (Use u : v.uses) {
            readers.add(u.node().reader());
            Kind k = kind(u, t.dims, 0);
            kind = kind == null ? k : kind.and(k);
        }
        String obstacle = obstacle(v, sparse, kind);
        Kind k = kind == null ? Kind.OTHER : kind;
        Weight weight = new Weight(unique(v.graph.qualifier() + v.name), k.role, tensor, k.in, k.out, readers,
                Optional.ofNullable(obstacle));
        return new Info(v, weight, k.replaceable && !v.output);
    }

    private String obstacle(Value v, boolean sparse, Kind kind) {
        Long opset = model.opsets.get("");
        if (sparse) {
            return "it is sparse already";
        }
        if (!v.tensor.dtype().compressible()) {
            return "its type is " + v.tensor.dtype() + "; f32, f16 and bf16 can be compressed";
        }
        if (v.tensor.elements == 0) {
            return "it is empty";
        }
        if (v.input && (model.irVersion >= 4 || v.graph.parent != null)) {
            return "it is also an input of the graph, so a caller may replace it";
        }
        if (opset == null) {
            return "the model imports no version of the standard operators";
        }
        if (opset < OLDEST_OPSET) {
            return "the model uses operator set " + opset + "; before " + OLDEST_OPSET + " broadcasting was another";
        }
        if (model.training) {
            return "the model holds training information that refers to its weights";
        }
        if (v.uses.isEmpty() && !v.output) {
            return "no operator reads it";
        }
        if (shadows.contains(v)) {
            return "a graph inside or around has another value of its name";
        }
        return kind == null ? null : kind.obstacle;
    }

    private String unique(String name) {
        String free = name;
        while (!names.add(free)) {
            int number = wanted.getOrDefault(name, 1) + 1;
            wanted.put(name, number);
            free = name + "#" + number;
        }
        return free;
    }

    private Kind kind(Use use, long[] dims, int depth) {
        Node n = use.node();
        int rank = dims.length;
        int i = use.input();
        if (!n.domain.isEmpty()) {
            return foreign(n, i, rank);
        }
        boolean plain = !n.hasGraphs && n.outputs.size() == 1 && !n.outputs.get(0).isEmpty();
        switch (n.op) {
            case "MatMul":
                if (i == 1) {
                    return rank < 2 ? Kind.of(product(n), rank - 1, -1, false)
                            : Kind.of(product(n), rank - 2, rank - 1, plain && rank == 2 && n.inputs.size() == 2 && runs(n));
                }
                return Kind.of(product(n), rank - 1, rank < 2 ? -1 : rank - 2, false);
            case "Gemm":
                if (rank != 2 || i > 1) {
                    return i == 2 ? Kind.of(Role.BIAS, -1, -1, false) : Kind.OTHER;
                }
                boolean flipped = n.integer(i == 1 ? "transB" : "transA", 0) != 0;
                boolean inFirst = (i == 1) != flipped;
                return Kind.of(product(n), inFirst ? 0 : 1, inFirst ? 1 : 0, i == 1 && plain && n.inputs.size() <= 3
                        && runs(n) && n.integer("transA", 0) == 0 && n.real("alpha", 1) == 1
                        && (n.inputs.size() < 3 || n.inputs.get(2).isEmpty() || n.real("beta", 1) == 1));
            case "Gather":
                long axis = n.integer("axis", 0);
                return i == 0 && rank >= 2 && (axis == 0 || axis == -rank)
                        ? Kind.of(Role.EMBEDDING, -1, 0, plain && n.inputs.size() == 2) : Kind.OTHER;
            case "Conv":
                return i == 1 && rank >= 3 ? Kind.of(Role.CONV, 1, 0, false)
                        : i == 2 ? Kind.of(Role.BIAS, -1, -1, false) : Kind.OTHER;
            case "ConvTranspose":
                return i == 1 && rank >= 3 ? Kind.of(Role.CONV, 0, 1, false)
                        : i == 2 ? Kind.of(Role.BIAS, -1, -1, false) : Kind.OTHER;
            case "LSTM", "GRU", "RNN":
                return (i == 1 || i == 2) && rank == 3 ? Kind.of(Role.RECURRENT, 2, 1, false)
                        : i == 3 ? Kind.of(Role.BIAS, -1, -1, false) : Kind.OTHER;
            case "LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization",
                    "BatchNormalization":
                return i > 0 ? Kind.of(Role.NORM, -1, -1, false) : Kind.OTHER;
            case "Add", "Sub":
                return vector(dims) ? Kind.of(Role.BIAS, -1, -1, false) : Kind.OTHER;
            case "Mul", "Div":
                return vector(dims) ? Kind.of(Role.NORM, -1, -1, false) : Kind.OTHER;
            case "Identity", "Cast", "Transpose", "Slice", "Split", "Squeeze", "Unsqueeze":
                return i == 0 ? through(n, dims, depth) : Kind.OTHER;
            case "Concat":
                return through(n, dims, depth);
            case "QuantizeLinear", "DequantizeLinear", "QLinearMatMul", "QLinearConv":
                return Kind.blocked("it belongs to an operator that is quantized already (" + n.op + ")");
            case "Resize", "Upsample", "Range", "NonMaxSuppression", "RoiAlign", "BlackmanWindow", "MelWeightMatrix":
                return Kind.blocked(n.op + " takes it as a setting, which has to be exact");
            default:
                return Kind.OTHER;
        }
    }

    /** Operators that ONNX Runtime's own optimizer puts in place of standard ones. */
    private Kind foreign(Node n, int i, int rank) {
        if (n.domain.equals("com.microsoft")) {
            if (n.op.startsWith("QLinear") || n.op.contains("Quantize") || n.op.contains("NBits")
                    || n.op.contains("MatMulInteger") || n.op.startsWith("QAttention") || n.op.contains("Bnb4")) {
                return Kind.blocked("it belongs to an operator that is quantized already (" + n.op + ")");
            }
            if (i == 1 && rank == 2 && n.op.equals("Attention")) {
                return Kind.of(Role.LINEAR, 0, 1, false);
            }
            if (i == 1 && rank == 2 && (n.op.equals("FusedMatMul") || n.op.equals("FusedGemm"))) {
                boolean flipped = n.integer("transB", 0) != 0;
                return Kind.of(product(n), flipped ? 1 : 0, flipped ? 0 : 1, false);
            }
            if (i > 0 && n.op.contains("LayerNormalization") && rank == 1) {
                return Kind.of(Role.NORM, -1, -1, false);
            }
        }
        return Kind.OTHER;
    }

    /**
     * What the readers of a moved, cut or converted weight do with it, in the axes of the weight itself. The nodes between stay, and
     * move its decoded values: runtimes do that once, when they load the model, since all of it is constant.
     */
    private Kind through(Node n, long[] dims, int depth) {
        int[] from = depth == LONGEST_CHAIN ? null : sources(n, dims);
        if (from == null) {
            return Kind.OTHER;
        }
        boolean cut = n.op.equals("Slice") || n.op.equals("Split") || n.op.equals("Concat");
        long[] seen = new long[from.length];
        for (int i = 0; i < from.length; i++) {
            seen[i] = cut ? UNKNOWN : from[i] < 0 ? 1 : dims[from[i]];
        }
        Kind all = null;
        for (String name : n.outputs) {
            Value result = n.graph.values.get(name);
            if (result != null && !(result.uses.isEmpty() && !result.output)) {
                Kind k = readers(result, seen, depth + 1);
                all = all == null ? k : all.and(k);
            }
        }
        if (all == null || all.obstacle != null) {
            return all == null ? Kind.OTHER : all;
        }
        boolean turned = depth == 0 && n.op.equals("Transpose") && from.length == 2 && from[0] == 1 && !isLookedUp(n);
        return Kind.of(all.role, source(from, all.in), source(from, all.out), turned && all.role.isProduct() && all.replaceable);
    }

    /** Whether rows of a node's result are looked up, by a product's other reader: codes lie as one of them needs them. */
    private static boolean isLookedUp(Node n) {
        for (Use u : n.graph.values.get(n.outputs.getFirst()).uses) {
            if (u.node().is("Gather")) {
                return true;
            }
        }
        return false;
    }

    private Kind readers(Value result, long[] dims, int depth) {
        Kind all = known.get(result);
        if (all == null) {
            if (result.output || !constant(result, 0)) {
                all = Kind.OTHER;
            } else {
                for (Use u : result.uses) {
                    Kind k = kind(u, dims, depth);
                    all = all == null ? k : all.and(k);
                }
            }
            known.put(result, all);
        }
        return all;
    }

    /** Which axis of its input each axis of a node's results is, or -1 if it is new; null if that is not known. */
    private int[] sources(Node n, long[] dims) {
        int rank = dims.length;
        if (n.op.equals("Transpose")) {
            return permutation(n.attribute("perm"), rank);
        }
        boolean adds = n.op.equals("Unsqueeze");
        if (!adds && !n.op.equals("Squeeze")) {
            int[] same = new int[rank];
            for (int i = 0; i < rank; i++) {
                same[i] = i;
            }
            return same;
        }
        long[] axes = axes(n);
        if (axes == null) {
            return null;
        }
        // Of the two shapes the one with more axes, and which of those are only there.
        boolean[] ones = new boolean[adds ? rank + axes.length : rank];
        for (long axis : axes) {
            long at = axis < 0 ? axis + ones.length : axis;
            if (at < 0 || at >= ones.length || ones[(int) at]) {
                return null;
            }
            ones[(int) at] = true;
        }
        int[] from = new int[adds ? ones.length : rank - axes.length];
        int next = 0;
        for (int i = 0; i < ones.length; i++) {
            if (adds) {
                from[i] = ones[i] ? -1 : next++;
            } else if (!ones[i]) {
                from[next++] = i;
            }
        }
        return from;
    }

    private static int[] permutation(Attribute perm, int rank) {
        if (perm != null && (perm.integers == null || perm.integers.length != rank)) {
            return null;
        }
        int[] from = new int[rank];
        for (int i = 0; i < rank; i++) {
            long p = perm == null ? rank - 1 - i : perm.integers[i];
            if (p < 0 || p >= rank) {
                return null;
            }
            from[i] = (int) p;
        }
        return from;
    }

    /** The axis of the weight; readers that get inputs of several ranks mean an axis that this one lacks. */
    private static int source(int[] from, int axis) {
        return axis < 0 || axis >= from.length ? -1 : from[axis];
    }

    /** What the attribute or, of later operator sets, the second input says; null if that is not there or no constant. */
    private long[] axes(Node n) {
        Attribute a = n.attribute("axes");
        if (a != null) {
            return a.integers;
        }
        Value v = n.inputs.size() < 2 ? null : n.graph.resolve(n.inputs.get(1));
        if (v == null || !constant(v, 0)) {
            return null;
        }
        Attribute list = v.producer == null ? null : v.producer.attribute("value_ints");
        if (list != null) {
            return list.integers;
        }
        TensorInfo t = v.tensor;
        if (t == null || t.type != TensorInfo.INT64 || t.elements > MOST_AXES || t.external) {
            return null;
        }
        long[] all = new long[(int) t.elements];
        int count = 0;
        if (t.hasRaw && t.rawLength > 0) {
            w.seek(t.rawStart, t.rawStart + t.rawLength);
            while (count < all.length) {
                all[count++] = w.fixed(8);
            }
            return all;
        }
        w.seek(t.start, t.end);
        while (w.next()) {
            if (w.field == 7) {
                if (w.type == Wire.VARINT) {
                    count = append(all, count, w.value);
                    continue;
                }
                long outer = w.enter("TensorProto.int64_data");
                while (w.more()) {
                    count = append(all, count, w.varint());
                }
                w.leave(outer);
            }
        }
        return count == all.length ? all : null;
    }

    private static int append(long[] to, int at, long v) {
        if (at < to.length) {
            to[at] = v;
        }
        return at + 1;
    }

    /**
     * Whether a product's first operand is there only when the model runs. Products of constants runtimes compute when they load the
     * model: codes make none faster, and rounding the other operand, or a kernel that is not folded, makes them worse.
     */
    private boolean runs(Node n) {
        Value first = n.graph.resolve(n.inputs.getFirst());
        return first == null || !constant(first, 0);
    }

    /** True of constants, and of what standard operators make of constants alone. */
    private boolean constant(Value v, int depth) {
        Node n = v.producer;
        if (v.tensor != null) {
            return !v.input || model.irVersion < 4 && v.graph.parent == null;
        }
        if (n == null || depth == LONGEST_CHAIN) {
            return false;
        }
        Boolean all = constant.get(n);
        if (all == null) {
            all = n.domain.isEmpty() && !n.hasGraphs && (n.is("Constant") || !n.inputs.isEmpty());
            for (int i = 0; all && i < n.inputs.size(); i++) {
                Value in = n.graph.resolve(n.inputs.get(i));
                all = n.inputs.get(i).isEmpty() || in != null && constant(in, depth + 1);
            }
            constant.put(n, all);
        }
        return all;
    }

    /** True if everything lies along one axis, the last. */
    private static boolean vector(long[] dims) {
        if (dims.length == 0 || dims[dims.length - 1] < 2) {
            return false;
        }
        for (int i = 0; i < dims.length - 1; i++) {
            if (dims[i] != 1) {
                return false;
            }
        }
        return true;
    }

    private MemorySegment data(TensorInfo t) throws IOException {
        if (t.external) {
            return files.view(t);
        }
        if (t.hasRaw && (t.rawLength > 0 || t.typedCount == 0)) {
            return w.slice(t.rawStart, t.rawLength);
        }
        DType type = t.dtype();
        long bytes = type.bytes(t.elements);
        if (t.typedContiguous) {
            return w.slice(t.typedStart, bytes);
        }
        // As many numbers as elements were counted in the file, so this cannot outgrow it by much.
        MemorySegment decoded = arena.allocate(bytes, 8);
        decode(t, decoded);
        return decoded;
    }

    private void decode(TensorInfo t, MemorySegment to) {
        int field = t.type == TensorInfo.FLOAT ? 4 : t.type == TensorInfo.DOUBLE ? 10 : 5;
        int size = t.dtype().bits() / 8;
        long at = 0;
        w.seek(t.start, t.end);
        while (w.next()) {
            if (w.field != field) {
                continue;
            }
            if (w.type != Wire.BYTES) {
                at = put(t, to, at, size, w.value);
                continue;
            }
            long outer = w.enter("typed data");
            while (w.more()) {
                at = put(t, to, at, size, size == 2 ? w.varint() : w.fixed(size));
            }
            w.leave(outer);
        }
    }

    private long put(TensorInfo t, MemorySegment to, long at, int size, long v) {
        if (size == 2) {
            if (v >>> 16 != 0) {
                throw w.bad(w.fieldStart, "tensor '" + t.name + "': expected 16 bits in int32_data, found " + v);
            }
            to.set(ValueLayout.JAVA_SHORT_UNALIGNED, at, (short) v);
        } else if (size == 4) {
            to.set(ValueLayout.JAVA_INT_UNALIGNED, at, (int) v);
        } else {
            to.set(ValueLayout.JAVA_LONG_UNALIGNED, at, v);
        }
        return at + size;
    }
}
