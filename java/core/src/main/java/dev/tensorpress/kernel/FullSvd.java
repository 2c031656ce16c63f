package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_small;
import dev.tensorpress.kernel.LinearAlgebra.Product;
import dev.tensorpress.kernel.LinearAlgebra.Reflections;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;

/** The full decomposition, and those of many small matrices: {@link Svd} says what it does. */
final class FullSvd {
    private static final double GRADED = 1e8; // squared ratio of column norms
    private static final double SMALLER = 1e-8; // squared ratio of singular values

    private final LinearAlgebra la;
    private final Jacobi jacobi;
    private final Triplets triplets;

    FullSvd(LinearAlgebra la, Jacobi jacobi, Triplets triplets) {
        this.la = la;
        this.jacobi = jacobi;
        this.triplets = triplets;
    }

    /** Of a matrix with at least one row and one column. */
    void decompose(View a, long rows, long cols, MemorySegment u, MemorySegment s, MemorySegment vt) {
        if (Math.max(rows, cols) <= Svd.SMALL) {
            small(a, 1, 0, rows, cols, u, s, vt);
        } else {
            decompose(a, rows, cols, la.exponent(a, rows, cols), Math.min(rows, cols), u, s, vt);
        }
    }

    private void decompose(View a, long rows, long cols, int exponent, long keep, MemorySegment u, MemorySegment s,
            MemorySegment vt) {
        boolean tall = rows >= cols;
        long n = Math.min(rows, cols);
        long m = Math.max(rows, cols);
        View x = a;
        double factor = Math.scalb(1.0, -exponent);
        if (a.type() == DType.F64 && Math.abs(exponent) > 300) {
            // Squares of the entries would leave the range. In two steps, since the factor may leave it too.
            View scaled = View.of(la.buffer("scaled", rows * cols), cols);
            la.copy(a, rows, cols, scaled, false, Math.scalb(1.0, -exponent / 2), MemorySegment.NULL, MemorySegment.NULL);
            la.copy(scaled, rows, cols, scaled, false, Math.scalb(1.0, -(exponent - exponent / 2)), MemorySegment.NULL,
                    MemorySegment.NULL);
            x = scaled;
            factor = 1;
        }
        MemorySegment g = la.buffer("gram", n * n);
        la.gram(x, tall, n, m, factor * factor, g);
        double least = Double.MAX_VALUE;
        double most = 0;
        for (long i = 0; i < n; i++) {
            double norm = g.getAtIndex(JAVA_DOUBLE, i * n + i);
            most = Math.max(most, norm);
            least = norm > 0 ? Math.min(least, norm) : least;
        }
        boolean graded = most > GRADED * least;
        MemorySegment w;
        MemorySegment z;
        long wCols;
        long zCols;
        MemorySegment order = la.buffer("columns", n);
        double tolerance;
        double negligible;
        if (graded) {
            // Rows are the columns of A, largest first. L = A^T H; rows of L^T and of Q^T.
            Triplets.sortDescending(n, i -> g.getAtIndex(JAVA_DOUBLE, i * n + i), order);
            MemorySegment columns = la.buffer("w", n * m);
            MemorySegment sorted = la.buffer("z", n * m);
            la.copy(x, rows, cols, View.of(columns, m), tall, factor, MemorySegment.NULL, MemorySegment.NULL);
            la.copy(View.of(columns, m), n, m, View.of(sorted, m), false, 1, order, MemorySegment.NULL);
            Reflections q = la.reflect(n, m, sorted, "qr");
            w = la.buffer("w", n * n);
            la.copy(View.of(sorted, m), n, n, View.of(w, n), true, 1, MemorySegment.NULL, MemorySegment.NULL);
            z = sorted;
            la.orthogonalRows(q, 0, n, z);
            wCols = n;
            zCols = m;
            negligible = 0x1p-1000;
        } else {
            z = la.buffer("z", n * n);
            MemorySegment values = la.buffer("values", n);
            la.symmetricEigen(n, g, values, z);
            w = la.buffer("w", n * m);
            la.multiply(new Product(View.of(z, n), false, x, tall, w, m, n, m, n, false, factor, 0));
            wCols = m;
            zCols = n;
            double threshold = a.type() == DType.F32 ? 1e-10 : 4 * 0x1p-53 * n;
            negligible = Math.max(0x1p-1000, threshold * threshold * Math.max(0, values.getAtIndex(JAVA_DOUBLE, 0)));
            refine(n, w, wCols, z, zCols, negligible);
        }
        tolerance = a.type() == DType.F32 ? 1e-8 : 3 * 0x1p-53 * Math.sqrt(wCols);
        jacobi.run(n, w, wCols, z, zCols, tolerance, negligible);
        if (a.type() == DType.F64) {
            polish(n, z, zCols);
        }
        triplets.finish(a.type(), n, w, wCols, z, zCols, tall != graded, graded ? order : null, negligible, exponent, rows, cols,
                keep, u, s, vt);
    }

    /**
     * Rows far smaller than the largest are as orthogonal to it as the Gram matrix was accurate, but not to each other. Among
     * themselves, a Gram matrix of their own says what the first one could not.
     */
    private void refine(long n, MemorySegment w, long wCols, MemorySegment z, long zCols, double negligible) {
        MemorySegment sums = la.buffer("sums", n);
        long first = 0;
        while (true) {
            la.rowNorms(View.of(w, wCols), n, wCols, sums, la.buffer("largest", n));
            double largest = 0;
            for (long i = first; i < n; i++) {
                largest = Math.max(largest, sums.getAtIndex(JAVA_DOUBLE, i));
            }
            long next = first;
            while (next < n && sums.getAtIndex(JAVA_DOUBLE, next) > SMALLER * largest) {
                next++;
            }
            long count = n - next;
            // A few are left to Jacobi.
            if (next == first || count < Svd.SMALL || sums.getAtIndex(JAVA_DOUBLE, next) <= negligible) {
                return;
            }
            MemorySegment g = la.buffer("gram", n * n);
            MemorySegment vectors = la.buffer("refined vectors", count * count);
            MemorySegment small = LinearAlgebra.at(w, next * wCols);
            MemorySegment companions = LinearAlgebra.at(z, next * zCols);
            // Scaled, since squares of what is left may be as small as the first Gram matrix's rounding errors.
            la.gram(View.of(small, wCols), false, count, wCols, 1 / sums.getAtIndex(JAVA_DOUBLE, next), g);
            la.symmetricEigen(count, g, la.buffer("refined values", count), vectors);
            turn(count, vectors, small, wCols);
            turn(count, vectors, companions, zCols);
            first = next;
        }
    }

    /** Rows that have been through many rotations: X = (3 I - X X^T) / 2 X, which squares their distance from orthonormal ones. */
    private void polish(long n, MemorySegment x, long cols) {
        MemorySegment g = la.buffer("gram", n * n);
        la.gram(View.of(x, cols), false, n, cols, -0.5, g);
        for (long i = 0; i < n; i++) {
            g.setAtIndex(JAVA_DOUBLE, i * n + i, g.getAtIndex(JAVA_DOUBLE, i * n + i) + 1.5);
            for (long j = 0; j < i; j++) {
                g.setAtIndex(JAVA_DOUBLE, j * n + i, g.getAtIndex(JAVA_DOUBLE, i * n + j));
            }
        }
        turn(n, g, x, cols);
    }

    /** X = Q X for square Q. */
    private void turn(long n, MemorySegment q, MemorySegment x, long cols) {
        MemorySegment turned = la.buffer("turned", n * cols);
        la.multiply(View.of(q, n), false, View.of(x, cols), false, turned, n, cols, n);
        la.copy(View.of(turned, cols), n, cols, View.of(x, cols), false, 1, MemorySegment.NULL, MemorySegment.NULL);
    }

    void small(View a, long count, long step, long rows, long cols, MemorySegment u, MemorySegment s,
            MemorySegment vt) {
        MemorySegment spec = la.buffer("small", 8);
        tp_small.count(spec, count);
        tp_small.rows(spec, rows);
        tp_small.cols(spec, cols);
        tp_small.in_stride(spec, a.stride());
        tp_small.in_step(spec, step);
        tp_small.type(spec, a.id());
        tp_small.sweeps(spec, jacobi.limit);
        long least = Math.min(rows, cols);
        Native.Cost cost = new Native.Cost(a.type().bytes(count * rows * cols), a.type().bytes(count * least * (rows + 1 + cols)),
                40 * count * rows * cols * least);
        la.spread("tp_svd_small", count, 1, 20.0 * count * rows * cols * least, cost, (begin, end, worker) ->
                Kernels.tp_svd_small(spec, begin, end, a.data(), u, s, vt), (cuda, begin, end) ->
                Kernels.tp_cuda_svd_small(cuda, spec, begin, end, a.data(), u, s, vt));
    }
}
