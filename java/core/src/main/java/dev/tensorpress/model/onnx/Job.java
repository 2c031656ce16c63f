package dev.tensorpress.model.onnx;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.onnx.WeightFinder.Info;
import dev.tensorpress.tensor.Shape;

/** A weight to compress, or a matrix that is part of one. */
final class Job {
    /** The {@link #part} of a job that is no part. */
    static final int WHOLE = -1;

    final Info info;
    /** The form of the whole weight. */
    final Form asked;
    /** Which of the encodings that make up the one of a weight, and of the parts of its lowering. */
    final int part;
    final OnnxLowering lowering;
    /** The codes; null if there are none. */
    final Form.Quantized form;
    final Shape shape;
    /** What the tensor has for dimensions where it is used; other than those of the matrix if that is of a kernel. */
    final long[] dims;
    /** The axis that a product sums over. */
    final int in;
    final String name;
    /** The graph that gets the tensors, and the one the weight is in. */
    final OnnxGraph home;
    final OnnxGraph graph;
    final Rope tensors;
    final Rope inputs;
    /** What is replaced with a convolution; null of all others. */
    Tails.Tail tail;
    /** All or nothing: whoever encodes the weight is asked for it once, and the files are written one after the other. */
    final boolean external;

    /** @param data which takes the tensors if they are large */
    Job(Info info, OnnxLowering lowering, OnnxGraph home, DataLayout data) {
        this.info = info;
        this.asked = lowering.form();
        this.part = WHOLE;
        this.lowering = lowering;
        this.form = asked.quantized();
        this.shape = info.weight.tensor().shape();
        this.dims = shape.dims();
        this.in = info.weight.inputAxis();
        this.name = info.value.name;
        this.graph = info.value.graph;
        this.home = home;
        this.tensors = new Rope();
        this.inputs = new Rope();
        this.external = data.takes(form != null ? form.codeBytes(shape) : asked.bytes(shape));
    }

    /** A matrix of which {@code whole} is made; its tensors go where those of the whole go. */
    Job(Job whole, int part, Shape shape, long[] dims, int in, String name) {
        this.info = whole.info;
        this.asked = whole.asked;
        this.part = part;
        this.lowering = whole.lowering.parts().get(part);
        this.form = lowering.form().quantized();
        this.shape = shape;
        this.dims = dims;
        this.in = in;
        this.name = name;
        this.graph = whole.graph;
        this.home = whole.home;
        this.tensors = whole.tensors;
        this.inputs = whole.inputs;
        this.external = whole.external;
    }

    long groups() {
        return form.grid(shape).groups();
    }

    /** Dimensions of codes that are decoded: those of use, unless groups run along an axis that only the matrix has. */
    long[] decodedDims() {
        return form.block() == 0 && form.axis() <= 0 ? dims : shape.dims();
    }
}
