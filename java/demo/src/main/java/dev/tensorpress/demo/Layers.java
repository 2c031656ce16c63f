package dev.tensorpress.demo;

import dev.tensorpress.model.Destination;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.model.onnx.EditableValue;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;

/**
 * Makes models in ONNX of layers, one after the other, whose weights are random: normal, with variance 2 / inputs (He et al. 2015), and biases 0. The first axis
 * of all values is the batch.
 */
final class Layers {
    static final String INPUT = "image";
    static final String OUTPUT = "logits";
    private static final long OPSET = 17;

    private final EditableModel model = EditableModel.create(OPSET);
    private final Random random;
    /** Of the value that the last layer makes, but for the batch. */
    private long[] dims;
    private String value = INPUT;
    private int count;

    Layers(long seed, long... dims) {
        random = new Random(seed);
        this.dims = dims.clone();
        model.graph().inputs().put(INPUT, described(INPUT));
    }

    private EditableValue described(String name) {
        List<EditableValue.Axis> axes = new ArrayList<>(List.of(new EditableValue.Axis(-1, "batch")));
        for (long dim : dims) {
            axes.add(new EditableValue.Axis(dim, ""));
        }
        return EditableValue.of(name, DType.F32, axes);
    }

    private EditableNode node(String type, String... constants) {
        List<String> inputs = new ArrayList<>(List.of(value));
        inputs.addAll(List.of(constants));
        value = type.toLowerCase() + ++count;
        EditableNode node = new EditableNode(type, "", value, inputs, List.of(value));
        model.graph().nodes().add(node);
        return node;
    }

    private String weight(String name, long inputs, long... shape) {
        float[] elements = new float[Math.toIntExact(Shape.of(shape).elements())];
        for (int i = 0; i < elements.length; i++) {
            elements[i] = (float) (random.nextGaussian() * Math.sqrt(2.0 / inputs));
        }
        return constant(name + ".weight", elements, shape);
    }

    private String constant(String name, float[] elements, long... shape) {
        model.graph().initializers().put(name, EditableTensor.of(new Tensor(DType.F32, Shape.of(shape), Arena.ofAuto().allocateFrom(ValueLayout.JAVA_FLOAT, elements))));
        return name;
    }

    /** A convolution of images [channels, height, width] by square kernels, with as much padding on each side. */
    Layers conv(String name, int filters, int kernel, int padding) {
        return conv(name, filters, kernel, padding, 1);
    }

    /** {@link #conv(String, int, int, int)} at each {@code stride}th place. */
    Layers conv(String name, int filters, int kernel, int padding, int stride) {
        String w = weight(name, dims[0] * kernel * kernel, filters, dims[0], kernel, kernel);
        String b = constant(name + ".bias", new float[filters], filters);
        node("Conv", w, b).setAll("kernel_shape", kernel, kernel).setAll("pads", padding, padding, padding, padding).setAll("strides", stride, stride);
        dims = new long[] {filters, (dims[1] + 2L * padding - kernel) / stride + 1, (dims[2] + 2L * padding - kernel) / stride + 1};
        return this;
    }

    Layers relu() {
        node("Relu");
        return this;
    }

    /** The largest of each square of pixels; squares do not overlap. */
    Layers maxPool(int side) {
        node("MaxPool").setAll("kernel_shape", side, side).setAll("strides", side, side);
        dims = new long[] {dims[0], dims[1] / side, dims[2] / side};
        return this;
    }

    /** Makes one axis of all. */
    Layers flatten() {
        node("Flatten").set("axis", 1);
        dims = new long[] {Shape.of(dims).elements()};
        return this;
    }

    /** A fully connected layer. */
    Layers dense(String name, int units) {
        String w = weight(name, dims[0], units, dims[0]);
        String b = constant(name + ".bias", new float[units], units);
        node("Gemm", w, b).set("transB", 1);
        dims = new long[] {units};
        return this;
    }

    /** Takes those weights and biases of a model that have the names and shapes of ones here. It has to be open until this is written. */
    Layers adopt(EditableModel other) {
        model.graph().initializers().replaceAll((name, t) -> {
            EditableTensor found = other.graph().initializers().get(name);
            return found != null && found.shape().equals(t.shape()) ? found : t;
        });
        return this;
    }

    /** Writes the model, whose output is {@link #OUTPUT}, over what is there. */
    void write(Path file) throws IOException {
        model.graph().nodes().getLast().outputs().set(0, OUTPUT);
        model.graph().outputs().put(OUTPUT, described(OUTPUT));
        model.write(Destination.replacing(file));
    }
}
