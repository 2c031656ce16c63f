package dev.tensorpress.structure;

import dev.tensorpress.model.onnx.EditableGraph;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.tensor.Shape;
import java.lang.foreign.Arena;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;

/**
 * Makes batch normalization, y = (x - mean) / sqrt(variance + epsilon) * scale + bias, part of the convolution or product that makes x: its weight
 * is multiplied output by output, and its bias follows.
 */
final class BatchNormalizations {
    private static final float EPSILON = 1e-5f;
    /** Before it, attributes said whether statistics were of the batch. */
    private static final long OLDEST_OPSET = 9;

    private final EditableModel model;
    private final Arena arena;

    BatchNormalizations(EditableModel model, Arena arena) {
        this.model = model;
        this.arena = arena;
    }

    /** What is done to each channel: times a factor, plus a shift. */
    private record Affine(double[] factor, double[] shift) {}

    void fold(List<String> notes) {
        Links links = new Links(model);
        if (model.opsets().getOrDefault("", 0L) < OLDEST_OPSET) {
            return;
        }
        for (EditableGraph g : model.graph().all()) {
            g.nodes().removeIf(n -> {
                String why = n.is("BatchNormalization") ? fold(links, g, n) : null;
                if (why != null && !why.isEmpty()) {
                    notes.add(n.label() + " stays: " + why);
                }
                return why != null && why.isEmpty();
            });
        }
    }

    /** @return why it cannot be; empty if it is done */
    private String fold(Links links, EditableGraph g, EditableNode n) {
        Links.Value x = links.resolve(g, n.input(0));
        Links.Value y = links.result(g, n);
        if (n.integer("training_mode", 0) != 0 || n.outputs().stream().skip(1).anyMatch(o -> !o.isEmpty())) {
            return "it is in training";
        }
        if (x == null || y == null || x.producer == null || x.graph != g || x.only() == null) {
            return "what it reads is not made for it alone";
        }
        EditableNode product = x.producer;
        boolean transposed = product.is("ConvTranspose");
        if (!product.is("Conv") && !transposed && !product.is("Gemm")) {
            return "what it reads is made by " + product.type() + ", not by Conv, ConvTranspose or Gemm";
        }
        Affine affine = affine(links, g, n);
        Optional<EditableTensor> weight = real(links, g, product.input(1));
        if (affine == null || weight.isEmpty()) {
            return "its parameters, or the weight before it, are no constants of floating-point type";
        }
        Optional<EditableTensor> bias = real(links, g, product.input(2));
        if (bias.isEmpty() && !product.input(2).isEmpty()) {
            return "the bias before it is no constant";
        }
        int outputs = affine.factor.length;
        Shape shape = weight.get().shape();
        double[] w = Numbers.all(weight.get());
        double[] b = new double[outputs];
        double beta = product.is("Gemm") ? product.real("beta", 1) : 1;
        if (bias.isPresent()) {
            double[] given = Numbers.all(bias.get());
            Shape s = bias.get().shape();
            if (given.length != 1 && (given.length != outputs || s.dim(-1) != outputs)) {
                return "the bias before it is not one number for each channel";
            }
            for (int i = 0; i < outputs; i++) {
                b[i] = beta * given[given.length == 1 ? 0 : i];
            }
        }
        long groups = product.integer("group", 1);
        if (!multiply(product, shape, w, affine.factor, groups)) {
            return "it has " + outputs + " channels, which the weight before it does not";
        }
        for (int i = 0; i < outputs; i++) {
            b[i] = b[i] * affine.factor[i] + affine.shift[i];
        }
        String newWeight = model.fresh(product.input(1));
        String newBias = model.fresh((product.input(2).isEmpty() ? product.input(1) + ".bias" : product.input(2)));
        EditableTensor scaled = Numbers.tensor(weight.get().type().orElseThrow(), shape, w, arena);
        EditableTensor shifted = Numbers.tensor(scaled.type().orElseThrow(), Shape.of(outputs), b, arena);
        if (!finite(scaled) || !finite(shifted)) {
            return "the weight or bias would not be finite";
        }
        g.initializers().put(newWeight, scaled);
        g.initializers().put(newBias, shifted);
        product.remove("beta");
        product.inputs().set(1, newWeight);
        if (product.inputs().size() < 3) {
            product.inputs().add(newBias);
        } else {
            product.inputs().set(2, newBias);
        }
        product.outputs().set(0, y.name);
        links.produce(x, y);
        return "";
    }

    private Affine affine(Links links, EditableGraph g, EditableNode n) {
        double[][] p = new double[4][];
        for (int i = 0; i < 4; i++) {
            Optional<EditableTensor> t = real(links, g, n.input(i + 1));
            if (t.isEmpty()) {
                return null;
            }
            p[i] = Numbers.all(t.get());
            if (p[i].length != p[0].length) {
                return null;
            }
        }
        double epsilon = n.real("epsilon", EPSILON);
        double[] factor = new double[p[0].length];
        double[] shift = new double[factor.length];
        for (int i = 0; i < factor.length; i++) {
            factor[i] = p[0][i] / Math.sqrt(p[3][i] + epsilon);
            shift[i] = p[1][i] - p[2][i] * factor[i];
        }
        return new Affine(factor, shift);
    }

    private static Optional<EditableTensor> real(Links links, EditableGraph g, String name) {
        Links.Value v = links.resolve(g, name);
        return v == null ? Optional.empty() : v.constant().filter(Numbers::real);
    }

    /** Multiplies what makes each output; false, and nothing is done, if there are not as many outputs as factors. */
    private static boolean multiply(EditableNode product, Shape shape, double[] w, double[] factor, long groups) {
        if (shape.rank() < 2 || groups < 1) {
            return false;
        }
        boolean byColumn = product.is("Gemm") && product.integer("transB", 0) == 0;
        if (product.is("ConvTranspose")) {
            // [inputs, outputs / groups, ...]
            long perGroup = shape.dim(1);
            if (perGroup * groups != factor.length || shape.dim(0) % groups != 0) {
                return false;
            }
            long inputsPerGroup = shape.dim(0) / groups;
            int window = shape.elements() == 0 ? 0 : (int) (shape.elements() / (shape.dim(0) * perGroup));
            for (int i = 0; i < w.length; i++) {
                long in = i / (perGroup * window);
                w[i] *= factor[(int) (in / inputsPerGroup * perGroup + i / window % perGroup)];
            }
            return true;
        }
        if (shape.dim(byColumn ? 1 : 0) != factor.length) {
            return false;
        }
        int row = w.length / Math.max(1, (int) shape.dim(0));
        for (int i = 0; i < w.length; i++) {
            w[i] *= factor[byColumn ? i % factor.length : i / row];
        }
        return true;
    }

    private static boolean finite(EditableTensor t) {
        return Arrays.stream(Numbers.all(t)).allMatch(Double::isFinite);
    }
}
