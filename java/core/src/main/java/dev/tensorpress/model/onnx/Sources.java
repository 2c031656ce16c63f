package dev.tensorpress.model.onnx;

import dev.tensorpress.model.Graph.Channels;
import dev.tensorpress.model.Graph.Product;
import dev.tensorpress.model.Graph.Source;
import dev.tensorpress.model.Graph.Window;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.OnnxGraph.Use;
import dev.tensorpress.model.onnx.OnnxGraph.Value;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/**
 * Finds what can be divided so that a value is. From the value back through operators that make c f(x) of c x, of each channel by itself,
 * for c > 0, and whose operand nothing else reads.
 */
final class Sources {
    /** Operators that are looked at for one value: gates have two operands, either of which can lead somewhere. */
    private static final int MOST = 32;
    /** Nodes between a weight and what uses it. */
    private static final int LONGEST_CHAIN = 16;
    /** Swaps heads and positions, which is the way there and back. */
    private static final long[] HEADS = {0, 2, 1, 3};

    private final Map<Value, Weight> weights;
    private final Normalizations normalizations;
    private final Moves moves;
    private final Constants constants;

    Sources(Map<Value, Weight> weights, Normalizations normalizations, Moves moves, Constants constants) {
        this.weights = weights;
        this.normalizations = normalizations;
        this.moves = moves;
        this.constants = constants;
    }

    /** @param matrices that the products read */
    Source of(Value value, int axis, boolean exclusive, List<Product> products, List<Value> matrices) {
        if (!exclusive) {
            return none("something else than products reads " + value.name + " too");
        }
        long channels = -1;
        for (int i = 0; i < matrices.size(); i++) {
            Weight w = products.get(i).weight();
            if (own(matrices.get(i)) != w || w.inputAxis() < 0) {
                return none(w.name() + " has other readers, or is read in parts");
            }
            long groups = products.get(i).window().map(Window::groups).orElse(1);
            long inputs = groups * w.tensor().shape().dim(w.inputAxis());
            if (channels >= 0 && inputs != channels) {
                return none("products with " + value.name + " do not agree in their inputs");
            }
            channels = inputs;
            for (Value v = (Value) products.get(i).input(); v != value; v = v.producer.operand(0)) {
                if (!scales(v.producer)) {
                    return none(value.name + " is rounded before products read it");
                }
            }
        }
        List<Channels> found = new Walk(axis, channels).from(value);
        return found == null ? none("nothing before " + value.name + " can be scaled in exchange") : new Source(found, "");
    }

    private static Source none(String why) {
        return new Source(List.of(), why);
    }

    /** The weight that a value is, moved or converted as a whole, and for this one reader; null if it is none. */
    private Weight own(Value v) {
        Value from = v;
        for (int i = 0; i < LONGEST_CHAIN && from != null && from.uses.size() == 1 && !from.output; i++) {
            Weight w = weights.get(from);
            if (w != null || from.producer == null) {
                return w;
            }
            Node n = from.producer;
            from = switch (n.op) {
                case "Identity", "Cast", "Transpose", "Squeeze", "Unsqueeze" -> n.domain.isEmpty() && scales(n) ? n.operand(0) : null;
                default -> null;
            };
        }
        return null;
    }

    /** The weight with channels along an axis of the value that it is an operand of; null if it is none. */
    private Channels own(Value v, int axis, long channels) {
        Weight w = v == null ? null : own(v);
        Shape shape = w == null ? null : w.tensor().shape();
        boolean along = shape != null && shape.elements() == channels && shape.rank() > 0 && (shape.rank() == 1 || axis == -1)
                && shape.dim(-1) == channels;
        return along ? new Channels(w, shape.rank() - 1) : null;
    }

    /** Of nodes that move or convert: not if to integers. */
    private static boolean scales(Node n) {
        DType to = n.is("Cast") ? TensorInfo.dtype((int) n.integer("to", TensorInfo.FLOAT)) : DType.F32;
        return to == DType.F64 || to != null && to.compressible();
    }

    /** Whether one node reads it, but for its shape. */
    private static boolean hasOneReader(Value v) {
        int readers = 0;
        for (Use u : v.uses) {
            readers += u.node().is("Shape") || u.node().is("Size") ? 0 : 1;
            if (readers > 1) {
                return false;
            }
        }
        return readers == 1 && !v.output;
    }

    /** The way back from one value. */
    private final class Walk {
        private final int axis;
        private final long channels;
        private int looked;

        Walk(int axis, long channels) {
            this.axis = axis;
            this.channels = channels;
        }

        /** The operand of a node that nothing else reads; null if there is nothing to be found. */
        private List<Channels> through(Value operand) {
            return operand != null && hasOneReader(operand) ? from(operand) : null;
        }

        List<Channels> from(Value v) {
            Normalizations.Found f = normalizations.of(v);
            if (f != null) {
                return f.axis() == axis ? normalization(f) : null;
            }
            Node n = v.producer;
            if (n == null || !n.domain.isEmpty() || n.result() != v || ++looked > MOST) {
                return null;
            }
            return switch (n.op) {
                case "Cast" -> scales(n) ? through(n.operand(0)) : null;
                case "Identity", "Dropout", "Relu", "LeakyRelu", "PRelu" -> through(n.operand(0));
                case "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool" -> axis == 1 ? through(n.operand(0)) : null;
                case "Transpose" -> axis == -1 && keepsLast(n) ? through(n.operand(0)) : null;
                case "Reshape" -> axis == -1 ? reshaped(n) : null;
                case "Add" -> axis == -1 ? biased(n) : null;
                case "Mul" -> multiplied(n);
                case "Div" -> isNumber(n.operand(1)) ? through(n.operand(0)) : null;
                case "Conv", "ConvTranspose" -> axis == 1 ? product(n) : null;
                case "MatMul", "Gemm" -> axis == -1 ? product(n) : null;
                default -> null;
            };
        }

        private List<Channels> normalization(Normalizations.Found f) {
            Channels scale = own(f.scale(), axis, channels);
            Channels bias = own(f.bias(), axis, channels);
            return scale == null || bias == null && f.bias() != null ? null : bias == null ? List.of(scale) : List.of(scale, bias);
        }

        private List<Channels> product(Node n) {
            Weight w = n.operand(1) == null ? null : own(n.operand(1));
            Channels bias = own(n.operand(2), axis, channels);
            if (w == null || w.inputAxis() < 0 || w.outputAxis() < 0 || w.tensor().shape().dim(w.outputAxis()) != channels
                    || bias == null && n.operand(2) != null) {
                return null;
            }
            Channels matrix = new Channels(w, w.outputAxis());
            return bias == null ? List.of(matrix) : List.of(matrix, bias);
        }

        private List<Channels> biased(Node n) {
            for (int i = 0; i < 2; i++) {
                Channels bias = own(n.operand(i), axis, channels);
                List<Channels> before = bias == null ? null : through(n.operand(1 - i));
                if (before != null) {
                    List<Channels> all = new ArrayList<>(before);
                    all.add(bias);
                    return all;
                }
            }
            return null;
        }

        /** By a number, by a scale of its own, or one by the other, as gates do it. */
        private List<Channels> multiplied(Node n) {
            for (int i = 0; i < 2; i++) {
                Channels scale = axis == -1 ? own(n.operand(i), axis, channels) : null;
                if (scale != null) {
                    return List.of(scale);
                }
                if (isNumber(n.operand(i))) {
                    return through(n.operand(1 - i));
                }
            }
            for (int i = 0; i < 2 && axis == -1; i++) {
                List<Channels> found = through(n.operand(i));
                if (found != null) {
                    return found;
                }
            }
            return null;
        }

        private boolean isNumber(Value v) {
            // Of so few axes that the other operand has no fewer.
            return v != null && v.tensor != null && v.tensor.elements == 1 && v.tensor.dims.length < 3 && constants.contain(v);
        }

        private static boolean keepsLast(Node n) {
            OnnxGraph.Attribute perm = n.attribute("perm");
            return perm != null && perm.integers != null && perm.integers.length > 0
                    && perm.integers[perm.integers.length - 1] == perm.integers.length - 1;
        }

        /** One that leaves the last axis: what is found has to have as many channels. Or one that puts heads together again. */
        private List<Channels> reshaped(Node n) {
            long[] last = moves.lastSizes(n.operand(1), 1);
            if (last.length == 0 || last[0] != channels) {
                return null;
            }
            Value values = heads(n.operand(0));
            return through(values == null ? n.operand(0) : values);
        }

        /**
         * What attention takes averages of: values [batch, positions, channels] that are cut into heads, turned, and multiplied with
         * probabilities, before the result is turned back. Null if this is nothing of the kind.
         */
        private Value heads(Value joined) {
            Value averages = turned(joined);
            Node product = averages == null || averages.producer == null || !averages.producer.is("MatMul") || !hasOneReader(averages) ? null
                    : averages.producer;
            Value values = product == null ? null : turned(product.operand(1));
            Node cut = values == null || !hasOneReader(values) || values.producer == null || !values.producer.is("Reshape") ? null : values.producer;
            long[] sizes = cut == null ? new long[0] : moves.lastSizes(cut.operand(1), 2);
            return sizes.length == 2 && sizes[0] > 0 && sizes[1] > 0 && sizes[0] * sizes[1] == channels ? cut.operand(0) : null;
        }

        /** What a value is turned from; null if it is not, or something else reads it. */
        private static Value turned(Value v) {
            Node n = v == null || !hasOneReader(v) ? null : v.producer;
            OnnxGraph.Attribute perm = n == null || !n.is("Transpose") ? null : n.attribute("perm");
            return perm != null && Arrays.equals(perm.integers, HEADS) ? n.operand(0) : null;
        }
    }
}
