package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;

import dev.tensorpress.kernel.LinearAlgebra.Product;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.kernel.Svd.Certificate;
import dev.tensorpress.kernel.Svd.Options;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;
import java.util.function.DoubleUnaryOperator;

/** Measures decompositions. */
final class Certifier {
    /** Residuals below this share of ||A|| are measured in f64: those in f32 are accurate to 1e-7 ||A||, about. */
    private static final double SINGLE = 1e-3;
    /** Multiplications from which f32 is worth it. */
    private static final long LARGE = 1 << 24;

    private final LinearAlgebra la;

    Certifier(LinearAlgebra la) {
        this.la = la;
    }

    /**
     * @param known the error, from norms
     * @param bound on the least error, from the measured one
     * @param excess an estimate of how much of the error is not the rank's, or NaN
     */
    Certificate measure(View a, long rows, long cols, long rank, MemorySegment u, MemorySegment s, MemorySegment vt,
            double known, DoubleUnaryOperator bound, double excess, int exponent, double norm, Options options) {
        if (!options.certify()) {
            return new Certificate(rank, norm, known, Double.NaN, Math.max(0, known - excess), Double.NaN, Double.NaN);
        }
        Certificate c = certify(a, rows, cols, rank, u, s, vt, exponent, norm);
        double least = Math.min(bound.applyAsDouble(c.error()), c.error());
        return new Certificate(rank, c.norm(), c.error(), least, Math.max(least, c.error() - excess), c.left(), c.right());
    }

    /**
     * @param exponent entries times 2^-exponent have squares that f64 holds
     * @param norm of A, which an F32 matrix will not have measured again
     */
    Certificate certify(View a, long rows, long cols, long rank, MemorySegment u, MemorySegment s, MemorySegment vt,
            int exponent, double norm) {
        if (rows == 0 || cols == 0) {
            return new Certificate(0, 0, 0, 0, 0, 0, 0);
        }
        double error = 0;
        boolean single = a.type() == DType.F32 && rows * cols * rank >= LARGE;
        if (single) {
            error = residual(a, rows, cols, rank, u, s, vt, exponent);
        }
        if (!single || error < SINGLE * norm) {
            double[] both = accurately(a, rows, cols, rank, u, s, vt, exponent);
            norm = both[0];
            error = both[1];
        }
        return new Certificate(rank, norm, error, 0, Double.NaN, orthogonality(new View(a.type(), u, rank), true, rank, rows),
                orthogonality(new View(a.type(), vt, cols), false, rank, cols));
    }

    /** ||A - U S Vt||_F with products in f32. */
    private double residual(View a, long rows, long cols, long rank, MemorySegment u, MemorySegment s, MemorySegment vt,
            int exponent) {
        double factor = Math.scalb(1.0, -exponent);
        MemorySegment values = la.buffer("certified values", Math.max(1, rank));
        for (long i = 0; i < rank; i++) {
            values.setAtIndex(JAVA_DOUBLE, i, -factor * LinearAlgebra.get(DType.F32, s, i));
        }
        MemorySegment right = la.buffer("scaled vt", Math.max(1, rank * cols));
        la.copy(new View(DType.F32, vt, cols), rank, cols, new View(DType.F32, right, cols), false, 1, MemorySegment.NULL,
                values);
        long strip = Math.clamp((8L << 20) / 4 / cols, 1, Math.min(rows, 512));
        MemorySegment own = la.buffer("differences", strip * cols);
        MemorySegment sums = la.buffer("difference sums", rows);
        MemorySegment largest = la.buffer("difference largest", rows);
        try (Gemm gemm = new Gemm(new Gemm.Spec(DType.F32, Gemm.Form.AB, strip, cols, rank, rank, cols, cols, true), la.executor)) {
            gemm.pack(right);
            for (long first = 0; first < rows; first += strip) {
                long count = Math.min(strip, rows - first);
                View part = new View(DType.F32, own, cols);
                la.copy(new View(DType.F32, a.data().asSlice(DType.F32.bytes(first * a.stride())), a.stride()), count, cols, part,
                        false, factor, MemorySegment.NULL, MemorySegment.NULL);
                long start = System.nanoTime();
                gemm.multiply(count, u.asSlice(DType.F32.bytes(first * rank)), own);
                la.productSince(start);
                la.rowNorms(part, count, cols, LinearAlgebra.at(sums, first), LinearAlgebra.at(largest, first));
            }
        }
        return Math.scalb(Math.sqrt(LinearAlgebra.sum(sums, rows)), exponent);
    }

    /** ||A||_F and ||A - U S Vt||_F with products in f64. */
    private double[] accurately(View a, long rows, long cols, long rank, MemorySegment u, MemorySegment s, MemorySegment vt,
            int exponent) {
        DType type = a.type();
        double down = Math.scalb(1.0, -exponent / 2);
        double rest = Math.scalb(1.0, -(exponent - exponent / 2));
        // The right factor, times the singular values, both scaled.
        MemorySegment scaled = la.buffer("scaled vt", Math.max(1, rank * cols));
        MemorySegment values = la.buffer("certified values", Math.max(1, rank));
        for (long i = 0; i < rank; i++) {
            values.setAtIndex(JAVA_DOUBLE, i, LinearAlgebra.get(type, s, i) * down * rest);
        }
        la.copy(new View(type, vt, cols), rank, cols, View.of(scaled, cols), false, 1, MemorySegment.NULL, values);
        long strip = Math.max(1, Math.min(rows, Math.min(256, (8L << 20) / 8 / cols)));
        long strips = (rows + strip - 1) / strip;
        MemorySegment differences = la.buffer("differences", la.executor.threads() * strip * cols);
        MemorySegment sums = la.buffer("difference sums", rows);
        MemorySegment norms = la.buffer("row sums", rows);
        MemorySegment largest = la.buffer("difference largest", rows);
        // Rows are copied, multiplied and summed while they are in the cache.
        Native.Cost cost = new Native.Cost(type.bytes(rows * cols + rows * rank) + 8 * rank * cols, 24 * rows, 2 * rows * cols * rank);
        Native.run("tp_multiply", la.executor, strips, 1, 1, LinearAlgebra.SCRATCH, cost, (begin, end, worker) -> {
            MemorySegment own = LinearAlgebra.at(differences, worker.index() * strip * cols);
            for (long k = begin; k < end; k++) {
                long first = k * strip;
                long count = Math.min(strip, rows - first);
                View source = new View(type, a.data().asSlice(type.bytes(first * a.stride())), a.stride());
                la.copy(source, count, cols, View.of(own, cols), down * rest, worker);
                la.rowNormsOnOne(View.of(own, cols), count, cols, LinearAlgebra.at(norms, first),
                        LinearAlgebra.at(largest, first));
                if (rank > 0) {
                    la.multiply(new Product(new View(type, u.asSlice(type.bytes(first * rank)), rank), false,
                            View.of(scaled, cols), false, own, cols, count, cols, rank, false, -1, 1), worker);
                }
                la.rowNormsOnOne(View.of(own, cols), count, cols, LinearAlgebra.at(sums, first),
                        LinearAlgebra.at(largest, first));
            }
            return 0;
        });
        return new double[] {Math.scalb(Math.sqrt(LinearAlgebra.sum(norms, rows)), exponent), Math.scalb(Math.sqrt(LinearAlgebra.sum(sums, rows)), exponent)};
    }

    private double orthogonality(View x, boolean columns, long rank, long length) {
        MemorySegment g = la.buffer("gram", rank * rank);
        la.gram(x, columns, rank, length, 1, g);
        double sum = 0;
        for (long i = 0; i < rank; i++) {
            for (long j = 0; j < i; j++) {
                double v = g.getAtIndex(JAVA_DOUBLE, i * rank + j);
                sum += 2 * v * v;
            }
            double v = g.getAtIndex(JAVA_DOUBLE, i * rank + i) - 1;
            sum += v * v;
        }
        return Math.sqrt(sum);
    }
}
