package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;

/**
 * A matrix of f32 rounded to int8, each row with a scale of its own, and packed for products from both sides: a quarter
 * of the bytes, and several times the speed where the processor multiplies int8.
 */
final class Rounded implements AutoCloseable {
    /** Elements that are worth it. */
    private static final long WORTH = 1 << 20;
    /** Sums that int32 holds. */
    private static final long LONGEST = 1 << 17;

    private final LinearAlgebra la;
    final long rows;
    final long cols;
    final long block;
    final MemorySegment scales;
    final Gemm forward;
    final Gemm backward;
    /** ||A - rounded A||_F^2, errors being taken as uniform within a step. */
    double squaredError;
    /** The sum of the squares of all codes. */
    double energy;

    Rounded(LinearAlgebra la, long rows, long cols, long block) {
        this.la = la;
        this.rows = rows;
        this.cols = cols;
        this.block = block;
        scales = la.buffer("rounded scales", rows);
        forward = new Gemm(Gemm.Spec.of(DType.I8, Gemm.Form.ABT, block, rows, cols), la.executor);
        backward = new Gemm(Gemm.Spec.of(DType.I8, Gemm.Form.AB, block, cols, rows), la.executor);
    }

    static boolean serves(DType type, long rows, long cols) {
        return type == DType.F32 && rows * cols >= WORTH && Math.max(rows, cols) < LONGEST;
    }

    /** @param sums of squares of A's rows */
    void pack(View a, MemorySegment sums) {
        MemorySegment codes = la.buffer("rounded codes", rows * cols / 8 + 1);
        round(a.data(), a.stride(), rows, cols, codes, scales);
        forward.pack(codes);
        backward.pack(codes);
        squaredError = 0;
        energy = 0;
        for (long i = 0; i < rows; i++) {
            double scale = scales.getAtIndex(JAVA_FLOAT, i);
            double square = sums.getAtIndex(JAVA_DOUBLE, i);
            squaredError += scale * scale / 12 * cols;
            energy += square == 0 ? 0 : square / (scale * scale);
        }
    }

    private void round(MemorySegment x, long stride, long count, long length, MemorySegment codes, MemorySegment steps) {
        Quantize.quantize(new Quantize.Spec(count, length, stride, length, 1, length, DType.F32, DType.I8, DType.F32, -127,
                127, Quantize.Range.ABSMAX, Quantize.Rounding.MULTIPLY, false, false, 1, 1), x, codes, steps,
                MemorySegment.NULL, la.executor);
    }

    /** Rows of Y^T, Y = A X, from the rows of X^T, rounded like A. */
    void forward(MemorySegment x, MemorySegment y) {
        MemorySegment codes = la.buffer("rounded operand", block * cols / 8 + 1);
        MemorySegment steps = la.buffer("rounded steps", block);
        round(x, cols, block, cols, codes, steps);
        long start = System.nanoTime();
        forward.multiplyToFloat(block, codes, y, new Gemm.Affine(MemorySegment.NULL, MemorySegment.NULL, steps, scales));
        la.productSince(start);
    }

    /** Rows of X^T, X = A^T Y, from the rows of Y^T, which are orthonormal; returns what squared error to expect. */
    double backward(MemorySegment y, MemorySegment x) {
        MemorySegment scaled = la.buffer("rounded scaled", block * rows);
        MemorySegment codes = la.buffer("rounded operand", block * rows / 8 + 1);
        MemorySegment steps = la.buffer("rounded steps", block);
        // The scales of A's rows belong to the terms of these sums.
        la.executor.run(block, 1, 8, (begin, end, worker) -> {
            for (long i = begin; i < end; i++) {
                for (long j = 0; j < rows; j++) {
                    scaled.setAtIndex(JAVA_FLOAT, i * rows + j,
                            y.getAtIndex(JAVA_FLOAT, i * rows + j) * scales.getAtIndex(JAVA_FLOAT, j));
                }
            }
        });
        round(scaled, rows, block, rows, codes, steps);
        long start = System.nanoTime();
        backward.multiplyToFloat(block, codes, x, new Gemm.Affine(MemorySegment.NULL, MemorySegment.NULL, steps,
                MemorySegment.NULL));
        la.productSince(start);
        double lost = squaredError * block / rows;
        for (long i = 0; i < block; i++) {
            double step = steps.getAtIndex(JAVA_FLOAT, i);
            lost += step * step / 12 * energy;
        }
        return lost;
    }

    @Override
    public void close() {
        forward.close();
        backward.close();
    }
}
