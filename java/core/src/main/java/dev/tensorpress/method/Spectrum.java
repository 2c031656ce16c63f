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

    /**
     * How many singular values of a matrix [rows, cols] stand out of noise, by empirical variational Bayes (Nakajima, Sugiyama, Babacan and
     * Tomioka 2013): the rank, 0 to {@link #size}, of the matrix that it takes for the signal, the noise being what makes the evidence
     * largest. That is found among 200 amounts in equal steps of its logarithm, and between the two next to the best one.
     */
    public long significant(long rows, long cols) {
        int n = size();
        double larger = Math.max(rows, cols);
        double alpha = Math.min(rows, cols) / larger;
        double low = 0;
        double high = 10;
        while (high - low > 1e-12) {
            double middle = (low + high) / 2;
            if (phi(middle) + phi(middle / alpha) > 0) {
                low = middle;
            } else {
                high = middle;
            }
        }
        double edge = (1 + low) * (1 + alpha / low);
        // Shares of the energy by what noise of variance 1 has on average: the variance of noise is between these two.
        int beside = (int) Math.min(n, Math.ceil(n / (1 + alpha)) - 1);
        double most = beyond[0] / (n * larger);
        double least = Math.max(share(Math.min(beside, n - 1)) / (larger * edge), beyond[Math.min(beside, n - 1)] / ((n - Math.min(beside, n - 1)) * larger));
        if (!(most > ACCURACY / (n * larger))) {
            return 0;
        }
        least = Math.min(most, Math.max(least, ACCURACY / (n * larger)));
        double best = most;
        double step = Math.log(most / least) / 200;
        for (int i = 0; i < 200; i++) {
            double noise = least * Math.exp(i * step);
            best = evidence(noise, larger, alpha, edge) < evidence(best, larger, alpha, edge) ? noise : best;
        }
        double from = Math.max(Math.log(least), Math.log(best) - step);
        double to = Math.min(Math.log(most), Math.log(best) + step);
        for (int i = 0; i < 60; i++) {
            double one = from + (to - from) / 3;
            double other = to - (to - from) / 3;
            if (evidence(Math.exp(one), larger, alpha, edge) < evidence(Math.exp(other), larger, alpha, edge)) {
                to = other;
            } else {
                from = one;
            }
        }
        long rank = 0;
        while (rank < n && share((int) rank) > larger * Math.exp(from) * edge) {
            rank++;
        }
        return rank;
    }

    private static double phi(double z) {
        return Math.log1p(z) / z - 0.5;
    }

    private double share(int i) {
        return beyond[i] - beyond[i + 1];
    }

    /** What is least where the evidence for this variance of noise is largest. */
    private double evidence(double noise, double larger, double alpha, double edge) {
        double sum = 0;
        for (int i = 0; i < size(); i++) {
            double x = Math.max(share(i), ACCURACY * ACCURACY) / (larger * noise);
            sum += x - Math.log(x);
            if (x > edge) {
                double between = x - (1 + alpha);
                double tau = (between + Math.sqrt(Math.max(0, between * between - 4 * alpha))) / 2;
                sum += Math.log1p(tau) + alpha * Math.log1p(tau / alpha) - tau;
            }
        }
        return sum;
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
