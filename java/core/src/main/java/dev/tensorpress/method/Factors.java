package dev.tensorpress.method;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.KernelException;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.kernel.Svd;
import dev.tensorpress.kernel.Svd.Certificate;
import dev.tensorpress.method.Workspace.Slot;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** What both low-rank passes do: see weights as matrices, and make factors of them. */
final class Factors {
    /** Relative error that f32 alone may cause. */
    private static final double ROUNDING = 1e-6;
    static final float LARGEST_F16 = 65504;

    private Factors() {}

    /**
     * A weight as a matrix: its first axis, and all others.
     *
     * @param transposed whether products sum over the first axis of the transposed: see {@link Form.LowRank}
     */
    record Matrix(long rows, long cols, boolean transposed) {
        long least() {
            return Math.min(rows, cols);
        }

        /** Elements of both factors. */
        long elements(long rank) {
            return Math.multiplyExact(rank, Math.addExact(rows, cols));
        }
    }

    /** @throws UnsupportedRequestException if the weight is no matrix */
    static Matrix matrix(Weight weight) {
        Tensor t = weight.tensor();
        Shape shape = t.shape();
        if (!t.dtype().compressible()) {
            throw new UnsupportedRequestException("cannot factorize " + new Form.Dense(t.dtype()).describe());
        }
        if (shape.elements() == 0) {
            throw new UnsupportedRequestException("has no elements");
        }
        boolean kernel = weight.role() == Role.CONV && shape.rank() > 2 && weight.inputAxis() == 1
                && weight.outputAxis() == 0;
        if (shape.rank() != 2 && !kernel) {
            throw new UnsupportedRequestException("is no matrix: its shape is " + shape);
        }
        return new Matrix(shape.dim(0), shape.elements() / shape.dim(0), shape.rank() == 2 && weight.inputAxis() == 1);
    }

    /** @throws UnsupportedRequestException if the matrix has no such rank */
    static void checkRank(Weight weight, long rank) {
        long least = matrix(weight).least();
        if (rank > least) {
            throw new UnsupportedRequestException("rank " + rank + " is more than the " + least + " of "
                    + weight.tensor().shape());
        }
    }

    /** The weight's elements in f32: its own, or a copy. */
    static MemorySegment f32(Weight weight, Workspace workspace) {
        Tensor t = weight.tensor();
        if (t.dtype() == DType.F32 && t.data().address() % 4 == 0) {
            return t.data();
        }
        MemorySegment copy = workspace.take(Slot.MATRIX, DType.F32.bytes(t.shape().elements()));
        if (t.dtype() == DType.F32) {
            copy.copyFrom(t.data());
        } else {
            Quantize.convert(t.dtype(), t.data(), t.shape().elements(), DType.F32, copy, workspace.executor());
        }
        return copy;
    }

    /** Decomposed once in the life of a {@link Spectra}. */
    static Spectrum spectrum(Weight weight, Workspace workspace) {
        Spectrum known = workspace.spectra().get(weight);
        if (known == null) {
            Matrix m = matrix(weight);
            View view = new View(DType.F32, f32(workspace.load(weight), workspace), m.cols);
            try {
                known = Spectrum.of(view, m.rows, m.cols, workspace.algebra());
            } catch (KernelException e) {
                throw NonFiniteWeightException.of(e, weight);
            }
            workspace.spectra().put(weight, known);
        }
        return known;
    }

    /**
     * The best factors of a matrix for its rank.
     *
     * @param x f32 [rows, cols]
     * @param form with dense factors
     * @param spectrum of {@code x}, or null if it is not known
     * @param allowed part of the energy that may be lost: if a truncated decomposition loses more, the full one is cut off
     * @param root null, or what {@code x} was multiplied by and the left factor is to be divided by
     */
    static Encoding.LowRank of(Weight weight, MemorySegment x, Matrix m, Form.LowRank form, Spectrum spectrum,
            double allowed, GramRoot root, Workspace workspace) {
        long r = form.rank();
        View view = new View(DType.F32, x, m.cols);
        MemorySegment u = workspace.take(Slot.VECTORS_LEFT, DType.F32.bytes(m.rows * r));
        MemorySegment s = workspace.take(Slot.VALUES, DType.F32.bytes(r));
        MemorySegment vt = workspace.take(Slot.VECTORS_RIGHT, DType.F32.bytes(r * m.cols));
        Certificate certificate;
        try {
            Svd svd = workspace.svd();
            certificate = svd.truncated(view, m.rows, m.cols, r, Svd.Options.DEFAULT, u, s, vt);
            double relative = certificate.relativeError();
            if (relative * relative > allowed * (1 + ROUNDING) + ROUNDING * ROUNDING) {
                cutOff(svd, view, m, r, u, s, vt);
                certificate = svd.certify(view, m.rows, m.cols, r, u, s, vt);
            }
            if (spectrum != null) {
                certificate = bounded(certificate, spectrum);
            }
        } catch (KernelException e) {
            throw NonFiniteWeightException.of(e, weight);
        }
        double[] roots = new double[Math.toIntExact(r)];
        for (int i = 0; i < roots.length; i++) {
            roots[i] = Math.sqrt(s.getAtIndex(ValueLayout.JAVA_FLOAT, i));
        }
        long in = m.transposed ? m.cols : m.rows;
        long out = m.transposed ? m.rows : m.cols;
        MemorySegment left = workspace.take(Slot.LEFT, DType.F32.bytes(in * r));
        MemorySegment right = workspace.take(Slot.RIGHT, DType.F32.bytes(r * out));
        // Of A = U S V^T: [in, rank] of U or of V, [rank, out] of the other.
        scaled(m.transposed ? vt : u, m.transposed, in, r, roots, true, left, workspace.executor());
        scaled(m.transposed ? u : vt, m.transposed, r, out, roots, false, right, workspace.executor());
        if (root != null) {
            root.divide(left, r, workspace);
        }
        Shape shape = weight.tensor().shape();
        return new Encoding.LowRank(form, shape, stored(weight, left, form.left(shape), form.left(), Slot.STORED_LEFT, workspace),
                stored(weight, right, form.right(shape), form.right(), Slot.STORED_RIGHT, workspace), certificate);
    }

    static Encoding.Dense stored(Weight weight, MemorySegment factor, Shape shape, Form form, Slot slot, Workspace workspace) {
        return new Encoding.Dense(stored(weight, "factors", new Tensor(DType.F32, shape, factor), ((Form.Dense) form).dtype(), slot, workspace));
    }

    /** By Eckart and Young the spectrum says what the least error is. */
    private static Certificate bounded(Certificate c, Spectrum spectrum) {
        double bound = Math.sqrt(Math.max(0, spectrum.lost(c.rank()) - Spectrum.ACCURACY) * spectrum.squares());
        double best = Math.min(Math.max(bound, c.bound()), c.error());
        return new Certificate(c.rank(), c.norm(), c.error(), best, best, c.left(), c.right());
    }

    private static void cutOff(Svd svd, View view, Matrix m, long r, MemorySegment u, MemorySegment s,
            MemorySegment vt) {
        long all = m.least();
        try (Arena arena = Arena.ofShared()) {
            MemorySegment fullU = arena.allocate(DType.F32.bytes(m.rows * all), 64);
            MemorySegment fullS = arena.allocate(DType.F32.bytes(all), 64);
            MemorySegment fullVt = arena.allocate(DType.F32.bytes(all * m.cols), 64);
            svd.full(view, m.rows, m.cols, fullU, fullS, fullVt);
            for (long i = 0; i < m.rows; i++) {
                MemorySegment.copy(fullU, DType.F32.bytes(i * all), u, DType.F32.bytes(i * r), DType.F32.bytes(r));
            }
            MemorySegment.copy(fullS, 0, s, 0, DType.F32.bytes(r));
            MemorySegment.copy(fullVt, 0, vt, 0, DType.F32.bytes(r * m.cols));
        }
    }

    /**
     * Multiplies vectors by the roots of their singular values.
     *
     * @param vectors [rows, cols], or the transposed of that
     * @param byColumn whether the roots belong to columns
     */
    private static void scaled(MemorySegment vectors, boolean turned, long rows, long cols, double[] roots,
            boolean byColumn, MemorySegment out, Executor executor) {
        executor.run(rows, 1, Executor.worth(cols), (begin, end, worker) -> {
            for (long i = begin; i < end; i++) {
                for (long j = 0; j < cols; j++) {
                    double x = vectors.getAtIndex(ValueLayout.JAVA_FLOAT, turned ? j * rows + i : i * cols + j);
                    double root = roots[(int) (byColumn ? j : i)];
                    out.setAtIndex(ValueLayout.JAVA_FLOAT, i * cols + j, (float) (x * root));
                }
            }
        });
    }

    /**
     * Numbers in f32 as they are stored.
     *
     * @throws UnsupportedRequestException if they pass what f16 holds
     */
    static Tensor stored(Weight weight, String what, Tensor floats, DType type, Slot slot, Workspace workspace) {
        long n = floats.shape().elements();
        if (type == DType.F32) {
            return floats;
        }
        if (type == DType.F16) {
            for (long i = 0; i < n; i++) {
                if (!(Math.abs(floats.data().getAtIndex(ValueLayout.JAVA_FLOAT, i)) <= LARGEST_F16)) {
                    throw new UnsupportedRequestException("the " + what + " of weight " + weight.name() + " leave the range of f16; f32 holds them");
                }
            }
        }
        MemorySegment narrow = workspace.take(slot, type.bytes(n));
        Quantize.convert(DType.F32, floats.data(), n, type, narrow, workspace.executor());
        return new Tensor(type, floats.shape(), narrow);
    }
}
