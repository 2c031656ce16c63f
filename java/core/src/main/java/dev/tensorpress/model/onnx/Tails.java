package dev.tensorpress.model.onnx;

import dev.tensorpress.model.Graph;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.OnnxGraph.Value;
import dev.tensorpress.tensor.Shape;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * What stands behind convolutions and can be computed with them: scales and shifts of outputs, batch normalization being one of each, and
 * an activation function.
 */
final class Tails {
    private static final double EXACT = 1e-6;

    private final Constants constants;
    private final Map<Value, Weight> weights;

    /** @param weights of values that are constant floats */
    Tails(Constants constants, Map<Value, Weight> weights) {
        this.constants = constants;
        this.weights = weights;
    }

    /** What an activation function does. */
    enum Kind {
        /** Nothing between its bounds. */
        CLAMP,
        /** x clamp(x + 3, 0, 6) / 6. */
        HARD_SWISH
    }

    /**
     * An activation function.
     *
     * @param nodes in their order
     * @param least what lies below is as this
     */
    record Function(Kind kind, List<Node> nodes, Value value, float least, float most) {}

    /**
     * What a convolution and the nodes behind it make: its sums, times scale, plus shift.
     *
     * @param folded nodes that scale and shift
     * @param function or null
     */
    record Tail(Node node, List<Node> folded, double[] scale, double[] shift, Value result, Function function) {
        /** The convolution, and all that is behind it. */
        List<Node> nodes(boolean withFunction) {
            List<Node> all = new ArrayList<>();
            all.add(node);
            all.addAll(folded);
            if (withFunction) {
                all.addAll(function.nodes);
            }
            return all;
        }

        /** As graphs tell it. */
        Graph.Result seen() {
            float[] scales = new float[scale.length];
            for (int i = 0; i < scales.length; i++) {
                scales[i] = (float) scale[i];
            }
            return new Graph.Result(result, scales, Optional.ofNullable(function)
                    .map(f -> new Graph.Activation(f.value, f.kind == Kind.CLAMP, f.least, f.most)));
        }
    }

    /** Of a convolution with this weight; null if it has a bias that is no constant, or no result. */
    Tail of(Node conv, Weight weight) {
        int n = (int) weight.tensor().shape().dim(0);
        int rank = weight.tensor().shape().rank();
        double[] scale = new double[n];
        Arrays.fill(scale, 1);
        double[] shift = new double[n];
        Value result = conv.result();
        if (!conv.is("Conv") || result == null) {
            return null;
        }
        if (conv.operand(2) != null) {
            shift = floats(conv.operand(2), n);
            if (shift == null) {
                return null;
            }
        }
        List<Node> folded = new ArrayList<>();
        for (Node next = onlyReader(result); next != null; next = onlyReader(result)) {
            double[][] line = line(next, result, n, rank);
            if (line == null || next.result() == null) {
                break;
            }
            for (int j = 0; j < n; j++) {
                scale[j] *= line[0][j];
                shift[j] = shift[j] * line[0][j] + line[1][j];
            }
            folded.add(next);
            result = next.result();
        }
        return new Tail(conv, folded, scale, shift, result, function(result, rank));
    }

    /** Scale and shift of outputs; null of nodes that do something else. */
    private double[][] line(Node n, Value x, int outputs, int rank) {
        if (n.is("BatchNormalization")) {
            double[] scale = floats(n.operand(1), outputs);
            double[] bias = floats(n.operand(2), outputs);
            double[] mean = floats(n.operand(3), outputs);
            double[] variance = floats(n.operand(4), outputs);
            boolean fixed = n.operand(0) == x && n.integer("training_mode", 0) == 0 && n.outputs.size() == 1;
            if (!fixed || scale == null || bias == null || mean == null || variance == null) {
                return null;
            }
            for (int j = 0; j < outputs; j++) {
                scale[j] /= Math.sqrt(variance[j] + n.real("epsilon", 1e-5f));
                bias[j] -= mean[j] * scale[j];
            }
            return new double[][] {scale, bias};
        }
        boolean first = n.operand(0) == x;
        boolean either = n.is("Mul") || n.is("Add");
        if (n.inputs.size() != 2 || !either && !(first && (n.is("Sub") || n.is("Div")))) {
            return null;
        }
        double[] other = channels(n.operand(first ? 1 : 0), outputs, rank);
        if (other == null) {
            return null;
        }
        double[] one = new double[outputs];
        Arrays.fill(one, 1);
        double[] zero = new double[outputs];
        return switch (n.op) {
            case "Mul" -> new double[][] {other, zero};
            case "Div" -> new double[][] {Arrays.stream(other).map(v -> 1 / v).toArray(), zero};
            case "Add" -> new double[][] {one, other};
            default -> new double[][] {one, Arrays.stream(other).map(v -> -v).toArray()};
        };
    }

    /** @param rank of what convolutions make, which constants must not add to */
    private Function function(Value x, int rank) {
        if (x.output || x.uses.isEmpty()) {
            return null;
        }
        Node first = x.uses.getFirst().node();
        if (first.graph != x.graph) {
            return null;
        }
        if (x.uses.size() == 1) {
            float[] bounds = bounds(first, x);
            if (bounds != null) {
                return new Function(Kind.CLAMP, List.of(first), first.result(), bounds[0], bounds[1]);
            }
            return first.is("HardSwish") && first.result() != null ? hardSwish(List.of(first)) : null;
        }
        return x.uses.size() == 2 ? spelledOut(x, rank) : null;
    }

    private static Function hardSwish(List<Node> nodes) {
        return new Function(Kind.HARD_SWISH, nodes, nodes.getLast().result(), -3, Float.POSITIVE_INFINITY);
    }

    /** x (clamp(x + 3, 0, 6) / 6) or x hardSigmoid(x), in nodes of the same graph that nothing else reads. */
    private Function spelledOut(Value x, int rank) {
        for (int i = 0; i < 2; i++) {
            Node gate = x.uses.get(i).node();
            Node product = x.uses.get(1 - i).node();
            List<Node> nodes = new ArrayList<>();
            double factor = 1;
            nodes.add(gate);
            if (gate.is("Add") && is(gate.operand(1 - x.uses.get(i).input()), 3, rank)) {
                Node clip = onlyReader(gate.result());
                float[] bounds = clip == null ? null : bounds(clip, gate.result());
                if (bounds == null || bounds[0] != 0 || bounds[1] != 6) {
                    continue;
                }
                nodes.add(clip);
                factor = 6;
            } else if (!gate.is("HardSigmoid") || Math.abs(gate.real("alpha", 0.2f) - 1.0 / 6) > EXACT || gate.real("beta", 0.5f) != 0.5f) {
                continue;
            }
            Value open = nodes.getLast().result();
            Node scaled = factor == 1 ? null : onlyReader(open);
            if (scaled != null && scaled != product && divides(scaled, open, factor, rank)) {
                nodes.add(scaled);
                open = scaled.result();
                factor = 1;
            }
            if (onlyReader(open) != product || !product.is("Mul") || product.graph != x.graph || product.result() == null
                    || product.operand(0) == product.operand(1)) {
                continue;
            }
            nodes.add(product);
            if (factor != 1) {
                Node last = onlyReader(product.result());
                if (last == null || !divides(last, product.result(), factor, rank)) {
                    continue;
                }
                nodes.add(last);
            }
            return hardSwish(nodes);
        }
        return null;
    }

    /** Whether a node divides by this number. */
    private boolean divides(Node n, Value x, double by, int rank) {
        return n.result() != null && n.inputs.size() == 2 && (n.is("Div") && n.operand(0) == x && is(n.operand(1), by, rank)
                || n.is("Mul") && is(n.operand(n.operand(0) == x ? 1 : 0), 1 / by, rank));
    }

    private boolean is(Value v, double number, int rank) {
        double[] all = v == null ? null : floats(v, 1);
        if (all != null && weights.get(v).tensor().shape().rank() > rank) {
            return false;
        }
        return all != null && Math.abs(all[0] - number) <= EXACT * number;
    }

    /** Between what a node does nothing, beyond which it gives the bound; null if it does something else. */
    private float[] bounds(Node n, Value x) {
        if (n.result() == null || n.operand(0) != x) {
            return null;
        }
        if (n.is("Relu")) {
            return new float[] {0, Float.POSITIVE_INFINITY};
        }
        if (!n.is("Clip")) {
            return null;
        }
        float least = n.real("min", Float.NEGATIVE_INFINITY);
        float most = n.real("max", Float.POSITIVE_INFINITY);
        for (int i = 1; i < 3; i++) {
            if (n.operand(i) != null) {
                double[] bound = floats(n.operand(i), 1);
                if (bound == null) {
                    return null;
                }
                least = i == 1 ? (float) bound[0] : least;
                most = i == 2 ? (float) bound[0] : most;
            }
        }
        // 0 has a code, so it has to be between.
        return least <= 0 && most > 0 ? new float[] {least, most} : null;
    }

    private static Node onlyReader(Value v) {
        return v != null && v.uses.size() == 1 && !v.output && v.uses.getFirst().node().graph == v.graph ? v.uses.getFirst().node() : null;
    }

    /** One number for each output, of a constant that lies along the second of so many axes, or is a single number; null of others. */
    private double[] channels(Value v, int outputs, int rank) {
        if (v == null) {
            return null;
        }
        long[] dims = null;
        Value from = v;
        if (v.producer != null && v.producer.is("Reshape")) {
            dims = v.producer.operand(1) == null ? null : constants.integers(v.producer.operand(1));
            from = v.producer.operand(0);
        }
        Weight w = from == null ? null : weights.get(from);
        if (w == null) {
            return null;
        }
        Shape shape = w.tensor().shape();
        dims = dims == null ? shape.dims() : dims;
        if (shape.elements() == 1 && dims.length <= rank) {
            double[] all = new double[outputs];
            Arrays.fill(all, floats(from, 1)[0]);
            return all;
        }
        // Such as [n, 1, 1] or [1, n, 1, 1] of images.
        int axis = dims.length - (rank - 1);
        boolean along = (axis == 0 || axis == 1) && dims.length <= rank;
        for (int i = 0; along && i < dims.length; i++) {
            along = i == axis ? dims[i] == outputs || dims[i] == -1 : dims[i] == 1;
        }
        return along ? floats(from, outputs) : null;
    }

    /** So many numbers; null if the value is no constant of as many. */
    private double[] floats(Value v, int count) {
        Weight w = v == null || !constants.contain(v) ? null : weights.get(v);
        if (w == null || w.tensor().shape().elements() != count || !w.tensor().dtype().compressible()) {
            return null;
        }
        MemorySegment data = w.tensor().data();
        double[] all = new double[count];
        for (int i = 0; i < count; i++) {
            all[i] = switch (w.tensor().dtype()) {
                case F32 -> data.get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * i);
                case F16 -> Float.float16ToFloat(data.get(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i));
                default -> Float.intBitsToFloat(data.get(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i) << 16);
            };
        }
        return all;
    }
}
