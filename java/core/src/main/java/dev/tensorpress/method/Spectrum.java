package dev.tensorpress.method;

import dev.tensorpress.kernel.LinearAlgebra;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * How the energy of a matrix, its squared Frobenius norm, spreads over its singular values. From the eigenvalues of its
 * Gram matrix in f64: sums of squares are accurate to 1e-13 of the energy, which is what shares of it are counted in, at
 * a fraction of the cost of singular vectors.
 */
public final class Spectrum {
    /** Of shares of the energy. */
    static final double ACCURACY = 1e-13;

    private final double squares;
    /** Element r: the part of the energy beyond the r largest singular values. */
    private final double[] beyond;

    /** @param shares of the energy, descending */
    private Spectrum(double squares, double[] shares) {
        this.squares = squares;
        beyond = new double[shares.length + 1];
        for (int i = shares.length - 1; i >= 0; i--) {
            // Rounding may leave a share of nothing below 0.
            beyond[i] = beyond[i + 1] + Math.max(0, shares[i]);
        }
    }

    /** @throws dev.tensorpress.kernel.KernelException with status NONFINITE if the matrix holds NaN or infinity */
    static Spectrum of(View a, long rows, long cols, LinearAlgebra algebra) {
        int n = Math.toIntExact(Math.min(rows, cols));
        double squares = algebra.sumOfSquares(a, rows, cols);
        double[] shares = new double[n];
        if (squares > 0) {
            try (Arena arena = Arena.ofShared()) {
                MemorySegment gram = arena.allocate(DType.F64.bytes((long) n * n), 64);
                MemorySegment values = arena.allocate(DType.F64.bytes(n), 64);
                algebra.gram(a, rows >= cols, n, Math.max(rows, cols), 1 / squares, gram);
                algebra.symmetricEigenvalues(n, gram, values);
                MemorySegment.copy(values, ValueLayout.JAVA_DOUBLE, 0, shares, 0, n);
            }
        }
        return new Spectrum(squares, shares);
    }

    /** Number of singular values. */
    public int size() {
        return beyond.length - 1;
    }

    /** The energy: the sum of the squares of all elements. */
    public double squares() {
        return squares;
    }

    /** The part of the energy that the best matrix of this rank, 0 to {@link #size}, lacks. */
    public double lost(long rank) {
        return beyond[Math.toIntExact(rank)];
    }

    /** The smallest rank, at least 1, that lacks no more than this part of the energy. */
    public long rank(double lost) {
        int rank = Math.min(1, size());
        while (rank < size() && beyond[rank] > lost) {
            rank++;
        }
        return rank;
    }
}
