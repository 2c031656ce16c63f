package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;

import dev.tensorpress.kernel.LinearAlgebra.Product;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;

/** Bases of growing block Krylov spaces: rows Q_j of the left one and Z = Q^T A, of A's type. */
final class Krylov {
    /** Limit for orthogonalising a block against the others. */
    private static final int PASSES = 8;

    private final LinearAlgebra la;
    private final Jacobi jacobi;
    private final Triplets triplets;
    final Operand a;
    final DType type;
    final long rows;
    final long cols;
    final long block;
    final long room;
    final long seed;
    final MemorySegment q;
    final MemorySegment z;
    /** Of the rows of Z; its trace is ||Q^T A||_F^2. */
    final InnerProducts gram;
    /** Of the result: ||A||_F^2 without the kept singular values' squares. */
    double left;

    Krylov(LinearAlgebra la, Jacobi jacobi, Triplets triplets, Operand a, long block, long room, long seed) {
        this.la = la;
        this.jacobi = jacobi;
        this.triplets = triplets;
        this.a = a;
        this.type = a.type();
        this.rows = a.rows();
        this.cols = a.cols();
        this.block = block;
        this.room = Math.max(room, block);
        this.seed = seed;
        q = la.buffer("krylov q", this.room * rows);
        z = la.buffer("krylov z", this.room * cols);
        gram = new InnerProducts(la, "krylov gram", this.room);
    }

    private MemorySegment row(MemorySegment x, long i, long length) {
        return x.asSlice(type.bytes(i * length));
    }

    /** One block more. */
    void step() {
        long size = gram.size;
        MemorySegment right = la.buffer("krylov right", block * cols);
        if (size == 0) {
            la.gaussian(seed, 0, block * cols, DType.F64, right);
        } else {
            la.copy(new View(type, row(z, size - block, cols), cols), block, cols, View.of(right, cols), false, 1,
                    MemorySegment.NULL, MemorySegment.NULL);
            la.orthonormalize(block, cols, right);
        }
        MemorySegment own = row(q, size, rows);
        a.forward(View.of(right, cols), own, block);
        // Again, since what is left may be little, or mere rounding: until little was taken off.
        double along = 1;
        for (int pass = 0; pass < 2 || pass < PASSES && along > 0.5; pass++) {
            along = project(own, block);
            orthonormalize(own, block);
        }
        append(block, block);
    }

    /** All of it at once, on the device. */
    void range(View matrix, long size, int powers) {
        MemorySegment basis = la.buffer("krylov product", size * rows);
        la.range(matrix, rows, cols, size, powers, seed, basis, z);
        la.copy(new View(type, basis, size), rows, size, new View(type, q, rows), true, 1, MemorySegment.NULL, MemorySegment.NULL);
        append(size, 0);
    }

    private void orthonormalize(MemorySegment y, long count) {
        MemorySegment exact = la.buffer("krylov left", count * rows);
        View own = new View(type, y, rows);
        la.copy(own, count, rows, View.of(exact, rows), false, 1, MemorySegment.NULL, MemorySegment.NULL);
        la.orthonormalize(count, rows, exact);
        la.copy(View.of(exact, rows), count, rows, own, false, 1, MemorySegment.NULL, MemorySegment.NULL);
    }

    /** Takes in the rows of Q that follow: their rows of Z, of which so many are not there yet, and inner products. */
    void append(long count, long unknown) {
        long size = gram.size;
        MemorySegment own = row(z, size, cols);
        if (unknown > 0) {
            a.backward(row(q, size, rows), own, unknown);
        }
        la.multiply(new Product(new View(type, own, cols), false, new View(type, z, cols), true,
                gram.from(size, 0), gram.stride(), count, size + count, cols, false, 1, 0));
        gram.grow(count);
    }

    /** Takes the components along the earlier rows of Q off; the largest squared length of what was taken from a row. */
    private double project(MemorySegment own, long count) {
        long size = gram.size;
        if (size == 0) {
            return 0;
        }
        MemorySegment along = la.buffer("krylov along", count * room);
        la.multiply(Gemm.Spec.of(type, Gemm.Form.ABT, count, size, rows), own, q, along);
        double most = 0;
        for (long i = 0; i < count; i++) {
            double sum = 0;
            for (long j = i * size; j < (i + 1) * size; j++) {
                double x = LinearAlgebra.get(type, along, j);
                sum += x * x;
                LinearAlgebra.set(type, along, j, -x);
            }
            most = Math.max(most, sum);
        }
        la.multiply(Gemm.Spec.of(type, Gemm.Form.AB, count, rows, size).accumulating(), along, q, own);
        return most;
    }

    /** The leading singular triplets of Q Q^T A; returns how many. */
    long decompose(long rank, double allowed, boolean byError, double total, int exponent, MemorySegment u, MemorySegment s,
            MemorySegment vt) {
        long size = gram.size;
        MemorySegment values = la.buffer("values", size);
        MemorySegment vectors = la.buffer("vectors", size * size);
        gram.eigen(values, vectors);
        long found = Math.min(rank, size);
        double kept = 0;
        for (long i = 0; i < found; i++) {
            kept += Math.max(0, values.getAtIndex(JAVA_DOUBLE, i));
            if (byError && total - kept <= allowed) {
                found = i + 1;
            }
        }
        left = total - kept;
        MemorySegment w = la.buffer("w", found * cols);
        MemorySegment lefts = la.buffer("z", found * rows);
        la.multiply(View.of(vectors, size), false, new View(type, z, cols), false, w, found, cols, size);
        la.multiply(View.of(vectors, size), false, new View(type, q, rows), false, lefts, found, rows, size);
        double threshold = type == DType.F32 ? 1e-7 : 4 * 0x1p-53 * size;
        double negligible = Math.max(0x1p-1000, threshold * threshold * Math.max(0, values.getAtIndex(JAVA_DOUBLE, 0)));
        double tolerance = type == DType.F32 ? 1e-8 : 8 * 0x1p-53 * Math.sqrt(cols);
        // Eigenvectors of a Gram matrix are accurate relative to the largest.
        if (type == DType.F64 || values.getAtIndex(JAVA_DOUBLE, found - 1) < 1e-6 * values.getAtIndex(JAVA_DOUBLE, 0)) {
            jacobi.run(found, w, cols, lefts, rows, tolerance, negligible);
        }
        triplets.finish(type, found, w, cols, lefts, rows, false, null, negligible, exponent, rows, cols, found, u, s, vt);
        return found;
    }
}
