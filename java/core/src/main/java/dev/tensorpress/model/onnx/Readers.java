package dev.tensorpress.model.onnx;

import dev.tensorpress.model.Role;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.OnnxGraph.Use;
import dev.tensorpress.model.onnx.OnnxGraph.Value;
import java.util.IdentityHashMap;
import java.util.Map;

/** What operators do with the weights that they read. */
final class Readers {
    /** Nodes that only move or convert elements between a weight and what uses it; exporters leave up to five. */
    private static final int LONGEST_CHAIN = 16;
    /** The size of an axis behind a cut; nothing asks for it there. */
    private static final long UNKNOWN = -1;

    private final Heads heads;
    private final Constants constants;
    private final Moves moves;
    /** What the readers of a result do with it, in its axes: asked for once, however many ways lead to it. */
    private final Map<Value, Purpose> known = new IdentityHashMap<>();

    Readers(Heads heads, Constants constants) {
        this.heads = heads;
        this.constants = constants;
        this.moves = new Moves(constants);
    }

    /** The role of a matrix that a product of this node reads. */
    private Role product(Node n) {
        return heads.contain(n) ? Role.HEAD : Role.LINEAR;
    }

    /** What one reader does with a weight of these dimensions. */
    Purpose purpose(Use use, long[] dims) {
        return purpose(use, dims, 0);
    }

    private Purpose purpose(Use use, long[] dims, int depth) {
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
                    return rank < 2 ? Purpose.of(product(n), rank - 1, -1, false)
                            : Purpose.of(product(n), rank - 2, rank - 1, plain && rank == 2 && n.inputs.size() == 2 && runs(n));
                }
                return Purpose.of(product(n), rank - 1, rank < 2 ? -1 : rank - 2, false);
            case "Gemm":
                if (rank != 2 || i > 1) {
                    return i == 2 ? Purpose.of(Role.BIAS, -1, -1, false) : Purpose.OTHER;
                }
                boolean flipped = n.integer(i == 1 ? "transB" : "transA", 0) != 0;
                boolean inFirst = (i == 1) != flipped;
                return Purpose.of(product(n), inFirst ? 0 : 1, inFirst ? 1 : 0, i == 1 && plain && n.inputs.size() <= 3
                        && runs(n) && n.integer("transA", 0) == 0 && n.real("alpha", 1) == 1
                        && (n.inputs.size() < 3 || n.inputs.get(2).isEmpty() || n.real("beta", 1) == 1));
            case "Gather":
                long axis = n.integer("axis", 0);
                return i == 0 && rank >= 2 && (axis == 0 || axis == -rank)
                        ? Purpose.of(Role.EMBEDDING, -1, 0, plain && n.inputs.size() == 2) : Purpose.OTHER;
            case "Conv":
                return i == 1 && rank >= 3 ? Purpose.of(Role.CONV, 1, 0, false)
                        : i == 2 ? Purpose.of(Role.BIAS, -1, -1, false) : Purpose.OTHER;
            case "ConvTranspose":
                return i == 1 && rank >= 3 ? Purpose.of(Role.CONV, 0, 1, false)
                        : i == 2 ? Purpose.of(Role.BIAS, -1, -1, false) : Purpose.OTHER;
            case "LSTM", "GRU", "RNN":
                return (i == 1 || i == 2) && rank == 3 ? Purpose.of(Role.RECURRENT, 2, 1, false)
                        : i == 3 ? Purpose.of(Role.BIAS, -1, -1, false) : Purpose.OTHER;
            case "LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization",
                    "BatchNormalization":
                return i > 0 ? Purpose.of(Role.NORM, -1, -1, false) : Purpose.OTHER;
            case "Add", "Sub":
                return vector(dims) ? Purpose.of(Role.BIAS, -1, -1, false) : Purpose.OTHER;
            case "Mul", "Div":
                return vector(dims) ? Purpose.of(Role.NORM, -1, -1, false) : Purpose.OTHER;
            case "Identity", "Cast", "Transpose", "Slice", "Squeeze", "Unsqueeze":
                return i == 0 && plain ? through(n, dims, depth) : Purpose.OTHER;
            case "Split":
                return i == 0 ? through(n, dims, depth) : Purpose.OTHER;
            case "Concat":
                return plain ? through(n, dims, depth) : Purpose.OTHER;
            case "QuantizeLinear", "DequantizeLinear", "QLinearMatMul", "QLinearConv":
                return Purpose.blocked("it belongs to an operator that is quantized already (" + n.op + ")");
            case "Resize", "Upsample", "Range", "NonMaxSuppression", "RoiAlign", "BlackmanWindow", "MelWeightMatrix":
                return Purpose.blocked(n.op + " takes it as a setting, which has to be exact");
            default:
                return Purpose.OTHER;
        }
    }

    /** Operators that ONNX Runtime's own optimizer puts in place of standard ones. */
    private Purpose foreign(Node n, int i, int rank) {
        if (n.domain.equals("com.microsoft")) {
            if (n.op.startsWith("QLinear") || n.op.contains("Quantize") || n.op.contains("NBits")
                    || n.op.contains("MatMulInteger") || n.op.startsWith("QAttention") || n.op.contains("Bnb4")) {
                return Purpose.blocked("it belongs to an operator that is quantized already (" + n.op + ")");
            }
            if (i == 1 && rank == 2 && n.op.equals("Attention")) {
                return Purpose.of(Role.LINEAR, 0, 1, false);
            }
            if (i == 1 && rank == 2 && (n.op.equals("FusedMatMul") || n.op.equals("FusedGemm"))) {
                boolean flipped = n.integer("transB", 0) != 0;
                return Purpose.of(product(n), flipped ? 1 : 0, flipped ? 0 : 1, false);
            }
            if (i > 0 && n.op.contains("LayerNormalization") && rank == 1) {
                return Purpose.of(Role.NORM, -1, -1, false);
            }
        }
        return Purpose.OTHER;
    }

    /**
     * What the readers of a moved, cut or converted weight do with it, in the axes of the weight itself. The nodes between stay, and
     * move its decoded values: runtimes do that once, when they load the model, since all of it is constant.
     */
    private Purpose through(Node n, long[] dims, int depth) {
        int[] from = depth == LONGEST_CHAIN ? null : moves.sources(n, dims.length);
        if (from == null) {
            return Purpose.OTHER;
        }
        boolean cut = n.op.equals("Slice") || n.op.equals("Split") || n.op.equals("Concat");
        long[] seen = new long[from.length];
        for (int i = 0; i < from.length; i++) {
            seen[i] = cut ? UNKNOWN : from[i] < 0 ? 1 : dims[from[i]];
        }
        Purpose all = null;
        for (String name : n.outputs) {
            Value result = n.graph.values.get(name);
            if (result != null && !(result.uses.isEmpty() && !result.output)) {
                Purpose one = all(result, seen, depth + 1);
                all = all == null ? one : all.and(one);
            }
        }
        if (all == null || all.obstacle() != null) {
            return all == null ? Purpose.OTHER : all;
        }
        boolean turned = depth == 0 && n.op.equals("Transpose") && from.length == 2 && from[0] == 1 && !isLookedUp(n);
        return Purpose.of(all.role(), Moves.source(from, all.in()), Moves.source(from, all.out()),
                turned && all.role().isProduct() && all.replaceable());
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

    private Purpose all(Value result, long[] dims, int depth) {
        Purpose all = known.get(result);
        if (all == null) {
            if (result.output || !constants.contain(result)) {
                all = Purpose.OTHER;
            } else {
                for (Use u : result.uses) {
                    Purpose one = purpose(u, dims, depth);
                    all = all == null ? one : all.and(one);
                }
            }
            known.put(result, all);
        }
        return all;
    }

    /**
     * Whether a product's first operand is there only when the model runs. Products of constants runtimes compute when they load the
     * model: codes make none faster, and rounding the other operand, or a kernel that is not folded, makes them worse.
     */
    private boolean runs(Node n) {
        Value first = n.graph.resolve(n.inputs.getFirst());
        return first == null || !constants.contain(first);
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
}
