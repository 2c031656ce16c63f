package dev.tensorpress.method;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.KernelException;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Tensor;
import java.nio.file.Path;
import java.util.Optional;

/** A weight holds NaN or infinity, which no integer code can stand for. */
public final class NonFiniteWeightException extends RuntimeException {
    private static final long serialVersionUID = 1;
    /** Null if there is but one. */
    private final String model;
    private final String weight;
    private final long index;
    private final float value;

    /**
     * @param weight its name
     * @param index of the first such element, in row-major order
     */
    public NonFiniteWeightException(String weight, long index, float value) {
        this("weight " + weight + " holds " + value + " at element " + index + "; exclude it to keep it as it is", null, weight, index, value);
    }

    private NonFiniteWeightException(String message, String model, String weight, long index, float value) {
        super(message);
        this.model = model;
        this.weight = weight;
        this.index = index;
        this.value = value;
    }

    /** Of a weight of one of several models, which the message names. */
    public static NonFiniteWeightException of(Path model, String weight, long index, float value) {
        return new NonFiniteWeightException("weight " + weight + " of " + model + " holds " + value + " at element " + index, model.toString(), weight,
                index, value);
    }

    /** The same of a weight of which only the elements from {@code start} on were seen. */
    public NonFiniteWeightException from(long start) {
        return new NonFiniteWeightException(weight, start + index, value);
    }

    /** Looks for the first such element of a weight that is known to have one. */
    static NonFiniteWeightException in(Weight weight) {
        long at = first(weight);
        return new NonFiniteWeightException(weight.name(), at, Quantize.element(weight.tensor(), at));
    }

    /** What a kernel said of a weight: one of these if it is the weight that is not finite, else the same with its name. */
    static RuntimeException of(KernelException e, Weight weight) {
        // What was made of a finite weight, such as a residual, may be out of range all the same.
        return e.status() == KernelException.NONFINITE && first(weight) >= 0 ? in(weight)
                : e.in("weight " + weight.name());
    }

    private static long first(Weight weight) {
        Tensor t = weight.tensor();
        Form.Quantized whole = new Form.Quantized(8, -1, 0, true, Form.Activations.FLOAT, DType.I8, DType.F32, false,
                false);
        return Quantize.firstNonFinite(whole.spec(t.dtype(), t.shape()), t.data());
    }

    /** Of several models the path of the one with the weight. */
    public Optional<String> model() {
        return Optional.ofNullable(model);
    }

    /** Name of the weight. */
    public String weight() {
        return weight;
    }

    /** Row-major index of the first element that is not finite. */
    public long index() {
        return index;
    }
}
