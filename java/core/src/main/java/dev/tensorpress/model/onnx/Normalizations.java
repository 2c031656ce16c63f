package dev.tensorpress.model.onnx;

import dev.tensorpress.model.Graph.Normalization;
import dev.tensorpress.model.Graph.Normalization.Norm;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.OnnxGraph.Value;
import java.util.IdentityHashMap;
import java.util.Map;
import java.util.Optional;

/** Finds normalizations: operators that are one, and those of the last axis that exporters spell out. */
final class Normalizations {
    /** Conversions in a row that are seen through. */
    private static final int MOST_CONVERSIONS = 4;

    private static final int SCALE_PER_CHANNEL = 21;

    private final long opset;
    private final Map<Value, Weight> weights;
    private final Moves moves;
    private final Map<Value, Found> found = new IdentityHashMap<>();

    /**
     * @param axis of the result, from its first one, or from its end if negative
     * @param scale what the scale is read as, whatever that is; null if there is none, as the bias
     */
    record Found(Normalization normalization, int axis, Value scale, Value bias) {}

    Normalizations(Parser model, Map<Value, Weight> weights, Moves moves) {
        this.opset = model.opsets.getOrDefault("", 0L);
        this.weights = weights;
        this.moves = moves;
        for (OnnxGraph g : model.graphs) {
            for (Node n : g.nodes) {
                Value result = n.result();
                if (result != null) {
                    find(n, result);
                }
            }
        }
    }

    /** The one that a value is the result of; null if it is of none. */
    Found of(Value v) {
        return found.get(v);
    }

    private void find(Node n, Value result) {
        if (!n.domain.isEmpty() && !n.domain.equals(Nodes.MICROSOFT)) {
            return;
        }
        switch (n.op) {
            case "LayerNormalization" -> lines(n, result, Norm.LAYER, 1, 2);
            case "RMSNormalization", "SimplifiedLayerNormalization" -> lines(n, result, Norm.RMS, 1, -1);
            case "SkipLayerNormalization" -> lines(n, result, Norm.LAYER, 2, 3);
            case "SkipSimplifiedLayerNormalization" -> lines(n, result, Norm.RMS, 2, -1);
            case "EmbedLayerNormalization" -> lines(n, result, Norm.LAYER, 5, 6);
            case "BatchNormalization" -> add(n, result, Norm.BATCH, 1, 1, 2);
            case "InstanceNormalization" -> add(n, result, Norm.INSTANCE, 1, 1, 2);
            case "GroupNormalization" -> {
                // Before, each group had one scale.
                boolean each = opset >= SCALE_PER_CHANNEL;
                add(result, Norm.GROUP, 1, each ? n.operand(1) : null, each ? n.operand(2) : null);
            }
            case "Div" -> {
                if (n.domain.isEmpty()) {
                    quotient(result, n.operand(0), n.operand(1));
                }
            }
            case "Mul" -> {
                if (n.domain.isEmpty() && !reciprocal(result, n.operand(0), n.operand(1))) {
                    reciprocal(result, n.operand(1), n.operand(0));
                }
            }
            default -> { }
        }
    }

    /** Of a single axis, since that is what a vector of scales says, or the last one by default. */
    private void lines(Node n, Value result, Norm norm, int scale, int bias) {
        Weight w = vector(n.operand(scale));
        if (w != null || n.integer("axis", -1) == -1) {
            add(n, result, norm, -1, scale, bias);
        }
    }

    private void add(Node n, Value result, Norm norm, int axis, int scale, int bias) {
        add(result, norm, axis, n.operand(scale), n.operand(bias));
    }

    private void add(Value result, Norm norm, int axis, Value scale, Value bias) {
        found.put(result, new Found(new Normalization(norm, Optional.ofNullable(vector(scale)), Optional.ofNullable(vector(bias))), axis, scale, bias));
    }

    /** The weight that a value is, converted or not, if that has one axis. */
    private Weight vector(Value v) {
        Value constant = converted(v);
        Weight w = constant == null ? null : weights.get(constant);
        return w != null && w.tensor().shape().rank() == 1 ? w : null;
    }

    private boolean reciprocal(Value result, Value x, Value factor) {
        Node n = producer(factor, "Reciprocal");
        if (n != null) {
            return quotient(result, x, n.operand(0));
        }
        n = producer(factor, "Div");
        return n != null && n.operand(0) != null && n.operand(0).tensor != null && quotient(result, x, n.operand(1));
    }

    /** {@code x / sqrt(mean(x * x) + epsilon)}, where x may be what is left of something without its mean. */
    private boolean quotient(Value result, Value x, Value divisor) {
        Node root = producer(divisor, "Sqrt");
        Value square = root == null ? null : root.operand(0);
        Node sum = producer(square, "Add");
        if (sum != null) {
            Value second = sum.operand(1);
            square = second != null && second.tensor != null ? sum.operand(0) : second;
        }
        Node mean = producer(square, "ReduceMean");
        Value squared = mean == null ? null : squared(mean.operand(0));
        if (squared == null) {
            return false;
        }
        long[] axes = moves.axes(mean);
        if (axes == null || axes.length != 1 || mean.integer("keepdims", 1) != 1) {
            return false;
        }
        Node centred = producer(squared, "Sub");
        boolean layer = centred != null && isMean(centred.operand(1), centred.operand(0));
        Value own = converted(x);
        if (own != squared && !(layer && isSame(producer(own, "Sub"), centred))) {
            return false;
        }
        return scaled(result, layer ? Norm.LAYER : Norm.RMS, axes[0] == -1);
    }

    private static Value squared(Value v) {
        Node n = producer(v, "Pow");
        if (n != null) {
            return n.operand(1) != null && n.operand(1).tensor != null ? converted(n.operand(0)) : null;
        }
        n = producer(v, "Mul");
        return n != null && n.operand(0) == n.operand(1) ? converted(n.operand(0)) : null;
    }

    private static boolean isMean(Value mean, Value of) {
        Node n = producer(mean, "ReduceMean");
        return n != null && of != null && converted(n.operand(0)) == converted(of);
    }

    /** Exporters take the mean off twice. */
    private static boolean isSame(Node a, Node b) {
        return a != null && a.operand(0) == b.operand(0) && isMean(a.operand(1), b.operand(0));
    }

    /** With the scale and the bias that follow. A vector of them is along the last axis. */
    private boolean scaled(Value normalized, Norm norm, boolean last) {
        Value result = normalized;
        Node next = onlyReader(result);
        if (next != null && next.is("Cast") && next.result() != null) {
            next = onlyReader(next.result());
        }
        Value scale = next != null && next.is("Mul") ? other(next, result) : null;
        Value bias = null;
        if (scale != null) {
            result = next.result();
            next = onlyReader(result);
            bias = next != null && next.is("Add") ? other(next, result) : null;
            if (bias != null) {
                result = next.result();
            }
        } else if (!last) {
            return false;
        }
        add(result, norm, -1, scale, bias);
        return true;
    }

    /** The vector beside a value that is read through conversions; null if there is none, or no result. */
    private Value other(Node n, Value v) {
        if (n.inputs.size() != 2 || n.result() == null) {
            return null;
        }
        Value beside = n.operand(converted(n.operand(0)) == converted(v) ? 1 : 0);
        return vector(beside) == null ? null : beside;
    }

    private static Node onlyReader(Value v) {
        return v.uses.size() == 1 && !v.output ? v.uses.getFirst().node() : null;
    }

    /** What a value is converted from, or itself. */
    private static Value converted(Value v) {
        Value from = v;
        for (int i = 0; i < MOST_CONVERSIONS && from != null && from.producer != null; i++) {
            Node n = from.producer;
            if (!n.is("Cast") && !n.is("Identity")) {
                break;
            }
            from = n.operand(0);
        }
        return from;
    }

    private static Node producer(Value v, String op) {
        Value from = converted(v);
        return from != null && from.producer != null && from.producer.is(op) ? from.producer : null;
    }
}
