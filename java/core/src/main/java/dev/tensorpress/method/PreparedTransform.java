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
import java.util.Arrays;

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

    /** Coefficients, or elements if these are rounded, and the numbers that become codes. */
    private final class Job {
        private final Form.Transformed form;
        private final Shape matrix;
        private final MemorySegment values;
        private final MemorySegment rounded;
        private final MemorySegment numbers;
        private final Transform.Steps steps;
        private final Executor executor;
        /** What a group's step is to those of others: 1 if there is but one. */
        private final double[] parts;
        /** Of all values; 0 if nobody asks. */
        private final double squares;
        /** What the steps at hand lose without an offset. */
        private double lost;

        Job(Form.Transformed form, Shape shape, MemorySegment values, Workspace workspace) {
            this.form = form;
            this.matrix = form.matrix(shape);
            this.values = values;
            this.executor = workspace.executor();
            rounded = workspace.take(Workspace.Slot.NUMBERS, DType.I32.bytes(matrix.elements()));
            numbers = form.basis() != Form.Basis.CDF53 ? rounded : workspace.take(Workspace.Slot.MORE_NUMBERS, DType.I32.bytes(matrix.elements()));
            parts = new double[Math.toIntExact(form.groups(shape))];
            Arrays.fill(parts, 1);
            steps = form.steps(shape, workspace.take(Workspace.Slot.SCALES, DType.F32.bytes(parts.length)));
            double sum = 0;
            if (parts.length > 1 || method.error() > 0) {
                take(Float.MAX_VALUE);
                double[] each = quantize(0); // all codes are 0 then
                sum = Arrays.stream(each).sum();
                for (int g = 0; g < parts.length && parts.length > 1 && sum > 0; g++) {
                    long elements = Math.min(steps.group(), matrix.elements() - g * steps.group());
                    // The root of the root mean square: of groups that one code serves it loses least, as long as they are a little different.
                    parts[g] = Math.sqrt(Math.sqrt(each[g] / elements / (sum / matrix.elements())));
                }
            }
            squares = sum;
        }

        /** Steps of this mean size. */
        private void take(double step) {
            for (int g = 0; g < parts.length; g++) {
                steps.values().setAtIndex(ValueLayout.JAVA_FLOAT, g, (float) Math.max(Float.MIN_NORMAL, Math.min(Float.MAX_VALUE, step * parts[g])));
            }
        }

        private double[] quantize(float offset) {
            // Of elements any codes will do whose coefficients fit.
            int limit = form.basis() == Form.Basis.CDF53 ? 1 << 20 : limit();
            return Transform.quantize(new Transform.Zone((float) method.zone(), offset, limit), steps, matrix.elements(), values, rounded, executor);
        }

        private int limit() {
            return (1 << (form.type().bits() - 1)) - 1;
        }

        /**
         * Makes the numbers, of which the offset changes none.
         *
         * @return bits that one takes; infinite if they do not fit
         */
        double bits(double step) {
            take(step);
            try {
                lost = Arrays.stream(quantize(0)).sum();
                if (numbers != rounded) {
                    Transform.wavelet(Transform.Wavelet.CDF53, matrix.dim(0), matrix.dim(1), form.dimensions(), form.levels(), false, rounded, numbers,
                            executor);
                }
                return Transform.entropy(Transform.counts(limit(), matrix.elements(), numbers, executor));
            } catch (KernelException e) {
                if (e.status() == KernelException.MAGNITUDE) {
                    return Double.POSITIVE_INFINITY;
                }
                throw e;
            }
        }

        /** What steps that fit lose at least, and the offset of that: squares of errors are a parabola of it, of which three points are known. */
        Offset offset() {
            if (method.point() > 0) {
                float given = (float) (method.zone() - 1 + method.point());
                return new Offset(given, Arrays.stream(quantize(given)).sum());
            }
            double below = Arrays.stream(quantize(-0.25f)).sum();
            double above = Arrays.stream(quantize(0.25f)).sum();
            double bend = below + above - 2 * lost;
            double least = bend > 0 ? Math.max(method.zone() - 1, Math.min(0.5, (below - above) / (8 * bend))) : 0;
            return new Offset((float) least, lost + 2 * least * (above - below) + 8 * least * least * bend);
        }
    }

    private record Offset(float value, double error) {}

    @Override
    public Encoding apply(Weight weight, Encoding current, Form planned, Workspace workspace) {
        Form.Transformed form = (Form.Transformed) planned;
        Tensor in = ((Encoding.Dense) current).tensor();
        long n = in.shape().elements();
        Executor executor = workspace.executor();
        try {
            MemorySegment values = coefficients(form, form.matrix(in.shape()), floats(in, workspace), workspace);
            Job job = new Job(form, in.shape(), values, workspace);
            choose(job);
            float offset = job.offset().value();
            MemorySegment codes = workspace.take(Workspace.Slot.CODES, form.type().bytes(n));
            Transform.narrow(form.type(), n, job.numbers, codes, executor);
            MemorySegment stored = workspace.take(Workspace.Slot.STORED_SCALES, DType.F32.bytes(1));
            stored.set(ValueLayout.JAVA_FLOAT, 0, offset);
            return new Encoding.Transformed(form, in.shape(), new Tensor(form.type(), job.matrix, codes),
                    new Tensor(DType.F32, Shape.of(job.parts.length), job.steps.values()), new Tensor(DType.F32, Shape.of(1), stored));
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

    /** Finds steps, of which the numbers are made: by halving, since of larger ones codes take fewer bits, and lose more. */
    private void choose(Job job) {
        if (method.step() > 0 && job.bits(method.step()) < Double.POSITIVE_INFINITY) {
            return;
        }
        double least = method.step() > 0 ? log2(method.step()) : LEAST;
        double most = MOST;
        double found = Double.NaN;
        for (int i = 0; i < HALVINGS; i++) {
            double middle = (least + most) / 2;
            double bits = job.bits(power(middle));
            if (bits == Double.POSITIVE_INFINITY || method.bits() > 0 && bits > method.bits()) {
                least = middle;
            } else if (method.error() > 0 && job.offset().error() <= method.error() * method.error() * job.squares) {
                found = middle;
                least = middle;
            } else {
                most = middle;
            }
        }
        job.bits(power(Double.isNaN(found) ? most : found));
    }

    private static double log2(double x) {
        return Math.max(LEAST, Math.min(MOST, StrictMath.log(x) / StrictMath.log(2)));
    }

    private static float power(double exponent) {
        return (float) StrictMath.pow(2, exponent);
    }
}
