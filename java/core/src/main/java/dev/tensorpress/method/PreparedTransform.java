package dev.tensorpress.method;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.KernelException;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.kernel.Transform;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** A {@link TransformMethod}, which looks at nothing before. */
record PreparedTransform(TransformMethod method) implements Prepared {
    /** Exponents of two between which steps are looked for, and how often what is left is halved. */
    private static final double LEAST = -126;
    private static final double MOST = 127;
    private static final int HALVINGS = 20;

    @Override
    public Form plan(Weight weight, Form current) {
        elements(weight, current, "transform");
        return NoGainException.unlessSmaller(weight, method.form());
    }

    /** Refuses what is not a weight's own elements. */
    static void elements(Weight weight, Form current, String verb) {
        DType type = weight.tensor().dtype();
        if (!current.dense() || current.decoded() || !type.compressible()) {
            throw new UnsupportedRequestException("cannot " + verb + " " + (type.compressible() ? current.describe() : new Form.Dense(type).describe()));
        }
        if (weight.tensor().shape().elements() == 0) {
            throw new UnsupportedRequestException("has no elements");
        }
    }

    /** The elements as f32, at an address that kernels take. */
    static MemorySegment floats(Tensor in, Workspace workspace) {
        if (in.dtype() == DType.F32 && in.data().address() % 4 == 0) {
            return in.data();
        }
        long n = in.shape().elements();
        MemorySegment wide = workspace.take(Workspace.Slot.MATRIX, DType.F32.bytes(n));
        Quantize.convert(in.dtype(), in.data(), n, DType.F32, wide, workspace.executor());
        return wide;
    }

    /** What a step makes of a weight. */
    private record Trial(double bits, double error) {}

    /** Coefficients, or elements if these are rounded, and the numbers that become codes. */
    private record Job(Form.Transformed form, Shape matrix, MemorySegment values, MemorySegment rounded, MemorySegment numbers, Executor executor) {
        long n() {
            return matrix.elements();
        }

        /**
         * Makes the numbers.
         *
         * @return null if they do not fit
         */
        Trial with(float step) {
            int limit = (1 << (form.type().bits() - 1)) - 1;
            try {
                double error = Transform.quantize(form.zone(step), n(), values, rounded, executor);
                if (form.basis() == Form.Basis.CDF53) {
                    Transform.wavelet(Transform.Wavelet.CDF53, matrix.dim(0), matrix.dim(1), form.dimensions(), form.levels(), false, rounded, numbers,
                            executor);
                }
                return new Trial(Transform.entropy(Transform.counts(limit, n(), numbers, executor)), error);
            } catch (KernelException e) {
                if (e.status() == KernelException.MAGNITUDE) {
                    return null;
                }
                throw e;
            }
        }
    }

    @Override
    public Encoding apply(Weight weight, Encoding current, Form planned, Workspace workspace) {
        Form.Transformed form = (Form.Transformed) planned;
        Tensor in = ((Encoding.Dense) current).tensor();
        Shape matrix = form.matrix(in.shape());
        long n = matrix.elements();
        Executor executor = workspace.executor();
        try {
            MemorySegment x = floats(in, workspace);
            MemorySegment values = coefficients(form, matrix, x, workspace);
            MemorySegment rounded = workspace.take(Workspace.Slot.NUMBERS, DType.I32.bytes(n));
            boolean lifted = form.basis() == Form.Basis.CDF53;
            MemorySegment numbers = lifted ? workspace.take(Workspace.Slot.MORE_NUMBERS, DType.I32.bytes(n)) : rounded;
            Job job = new Job(form, matrix, values, rounded, numbers, executor);
            float step = choose(job);
            MemorySegment codes = workspace.take(Workspace.Slot.CODES, form.type().bytes(n));
            Transform.narrow(form.type(), n, numbers, codes, executor);
            MemorySegment stored = workspace.take(Workspace.Slot.SCALES, DType.F32.bytes(1));
            stored.set(ValueLayout.JAVA_FLOAT, 0, step);
            return new Encoding.Transformed(form, in.shape(), new Tensor(form.type(), matrix, codes), new Tensor(DType.F32, Shape.of(1), stored));
        } catch (KernelException e) {
            throw NonFiniteWeightException.of(e, weight);
        }
    }

    private static MemorySegment coefficients(Form.Transformed form, Shape matrix, MemorySegment x, Workspace workspace) {
        if (form.basis() == Form.Basis.CDF53) {
            return x;
        }
        MemorySegment out = workspace.take(Workspace.Slot.COEFFICIENTS, DType.F32.bytes(matrix.elements()));
        if (form.basis() == Form.Basis.DCT) {
            Transform.dct(matrix.dim(0), matrix.dim(1), form.block(), form.dimensions(), false, x, out, workspace.executor());
        } else {
            Transform.wavelet(form.basis() == Form.Basis.HAAR ? Transform.Wavelet.HAAR : Transform.Wavelet.CDF97, matrix.dim(0), matrix.dim(1),
                    form.dimensions(), form.levels(), false, x, out, workspace.executor());
        }
        return out;
    }

    /** A step, of which the numbers are made: by halving, since of larger ones codes take fewer bits, and lose more. */
    private float choose(Job job) {
        double squares = 0;
        if (method.step() > 0) {
            float step = (float) Math.max(Float.MIN_NORMAL, Math.min(Float.MAX_VALUE, method.step()));
            if (job.with(step) != null) {
                return step;
            }
        } else if (method.error() > 0) {
            squares = job.with(Float.MAX_VALUE).error(); // all codes are 0 then
        }
        double least = method.step() > 0 ? log2(method.step()) : LEAST;
        double most = MOST;
        double found = Double.NaN;
        for (int i = 0; i < HALVINGS; i++) {
            double middle = (least + most) / 2;
            Trial trial = job.with(power(middle));
            if (trial == null || method.bits() > 0 && trial.bits() > method.bits()) {
                least = middle;
            } else if (method.error() > 0 && trial.error() <= method.error() * method.error() * squares) {
                found = middle;
                least = middle;
            } else {
                most = middle;
            }
        }
        float step = power(Double.isNaN(found) ? most : found);
        job.with(step);
        return step;
    }

    private static double log2(double x) {
        return Math.max(LEAST, Math.min(MOST, StrictMath.log(x) / StrictMath.log(2)));
    }

    private static float power(double exponent) {
        return (float) StrictMath.pow(2, exponent);
    }
}
