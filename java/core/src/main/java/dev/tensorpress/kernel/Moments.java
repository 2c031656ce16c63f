package dev.tensorpress.kernel;

import java.util.Arrays;

/**
 * What random vectors say about the largest eigenvalues of a positive semidefinite matrix N of trace 1, for certain but for a
 * chance that does not depend on N.
 *
 * <p>Let X hold p independent Gaussian vectors, and F_k = tr X<sup>T</sup> N<sup>k</sup> X. Then F_k is the sum of lambda_i^k
 * g_i, lambda_i being the eigenvalues and g_i independent, distributed as chi squared with p degrees of freedom. Two facts follow.
 * The one g that belongs to the largest eigenvalue is at least c but for a small chance; then tr X<sup>T</sup> P(N)<sup>2</sup>
 * X is at least P(lambda_1)<sup>2</sup> c for every polynomial P, and with Chebyshev's that bounds lambda_1 (as in Kuczynski
 * and Wozniakowski, 1992). And F_k is not much below p t_k, t_k = tr N<sup>k</sup>, the less so the smaller the share of t_k
 * that is lambda_1's: by Chernoff's inequality, P(F_k &lt;= y p t_k) &lt;= (y e<sup>1-y</sup>)<sup>p / (2 a)</sup> if no
 * lambda_i^k exceeds a t_k. By Hoelder's inequality r eigenvalues sum up to at most r<sup>1-1/k</sup> t_k<sup>1/k</sup>.
 */
final class Moments {
    /** What rounding in f32 may add to moments, relative to them, with a margin. */
    private static final double ROUNDING = 1e-6;

    private Moments() {}

    /**
     * At most this is the sum of the {@code rank} largest eigenvalues.
     *
     * @param f F_0 .. F_2d
     * @param chance logarithm of the chance that one of the 2 d inequalities used does not hold
     */
    static double largest(double[] f, double count, long rank, double chance) {
        double[] t = sums(f, count, chance);
        return Math.min(rank * t[0], holder(t, rank));
    }

    /** At most this are the largest eigenvalue, at index 0, and t_k, at k from 2 on; arguments as above. */
    static double[] sums(double[] f, double count, double chance) {
        double[] t = new double[f.length];
        t[0] = top(f, share(count, 1, chance) * count);
        // What is known of t_k bounds the largest eigenvalue, and the other way round.
        for (int pass = 0; pass < 3; pass++) {
            for (int k = 2; k < f.length; k++) {
                double measured = f[k] / count;
                double low = measured;
                double high = measured / share(count, 1, chance);
                // t share(top^k / t) grows with t, and is at most what was measured.
                for (int i = 0; i < 60; i++) {
                    double middle = (low + high) / 2;
                    boolean possible = middle * share(count, Math.min(1, Math.pow(t[0], k) / middle), chance) <= measured;
                    low = possible ? middle : low;
                    high = possible ? high : middle;
                }
                t[k] = high * (1 + ROUNDING);
            }
            for (int k = 2; k < f.length; k++) {
                t[0] = Math.min(t[0], Math.pow(t[k], 1.0 / k));
            }
        }
        return t;
    }

    /**
     * What any approximation of rank r leaves of A, from what A - U S V<sup>T</sup> does, U, S, V being factors of that rank.
     *
     * <p>Let E = A - U U<sup>T</sup> A, D = U<sup>T</sup> A - S V<sup>T</sup>, and A' = A - U D = U S V<sup>T</sup> + E. What can be reached for A
     * and A' differs by at most ||D||. In a basis that begins with U, M = A' A'<sup>T</sup> has the blocks S<sup>2</sup> and E E<sup>T</sup>, and
     * C = S V<sup>T</sup> E<sup>T</sup> beside them. By Ky Fan the r largest eigenvalues of M sum up to at most r mu + tr (M - mu)<sub>+</sub>, for
     * any mu; and (M - mu)<sub>+</sub> has at most the trace of any Y that neither 0 nor M - mu exceeds. E E<sup>T</sup> is at most nu + (E
     * E<sup>T</sup> - nu)<sub>+</sub>, for any nu &lt; mu, and of the first part completing squares gives a Y: C costs ||c_i||<sup>2</sup> / (mu - nu) for its row i, or
     * ||c_i||<sup>2</sup> / (s_i<sup>2</sup> - mu), as one likes. As (x - nu)<sub>+</sub> is at most a multiple of x<sup>k</sup>, moments bound the second part.
     */
    static final class Parts {
        /** Of S, over s = ||A - U S V^T||_F^2, descending. */
        final double[] squares;
        /** Of rows of C: what they cost, for a mu and a nu that may turn out to be good. */
        final double[] weights;
        private final double usual;
        private final double gap;

        /** @param values S */
        Parts(double[] values, double s) {
            squares = Arrays.stream(values).map(x -> x * x / s).toArray();
            usual = 1.6 * squares[squares.length - 1];
            gap = 0.25 * usual;
            weights = Arrays.stream(squares).map(x -> 1 / Math.max(x - usual, gap)).toArray();
        }

        /**
         * At least this is what is left, in Frobenius' norm, as a share of what A - U S V<sup>T</sup> is.
         *
         * @param t of E E<sup>T</sup> / s, from {@link #sums}
         * @param coupling at least the sum of weights[i] ||c_i||<sup>2</sup> / s<sup>2</sup>
         * @param difference at least ||D||<sub>F</sub><sup>2</sup> / s
         */
        double rest(double[] t, double coupling, double difference) {
            double most = 0;
            for (double nu = t[0] * 4; nu > t[0] / 64; nu /= 1.1) {
                double beyond = Double.MAX_VALUE;
                for (int k = 2; k < t.length; k++) {
                    beyond = Math.min(beyond, t[k] / (k * Math.pow(nu * k / (k - 1), k - 1)));
                }
                for (double step = 4 * nu; step > nu / 64; step /= 1.2) {
                    double mu = nu + step;
                    double rest = 1 - difference - beyond - coupling * Math.max(1, Math.max(gap, mu + step - usual) / step);
                    for (int i = squares.length - 1; i >= 0 && squares[i] < mu && rest > most; i--) {
                        rest -= mu - squares[i];
                    }
                    most = Math.max(most, rest);
                }
            }
            return Math.max(0, Math.sqrt(most) - Math.sqrt(difference));
        }
    }

    /** The least of Hoelder's bounds if t_k is known for k from 2 on. */
    static double holder(double[] t, long rank) {
        double least = 1;
        for (int k = 2; k < t.length; k++) {
            least = Math.min(least, Math.pow(rank, 1 - 1.0 / k) * Math.pow(t[k], 1.0 / k));
        }
        return least;
    }

    /** The y for which Chernoff's inequality gives that chance. */
    static double share(double count, double largest, double chance) {
        double low = 0;
        double high = 1;
        for (int i = 0; i < 60; i++) {
            double y = (low + high) / 2;
            boolean rare = count / (2 * largest) * (Math.log(y) + 1 - y) <= chance;
            low = rare ? y : low;
            high = rare ? high : y;
        }
        return low;
    }

    /** A bound on the largest eigenvalue, of whose eigenvector X has at least {@code weight}. */
    private static double top(double[] f, double weight) {
        int degree = (f.length - 1) / 2;
        double[] t = chebyshev(degree);
        double[] square = new double[2 * degree + 1];
        double[] magnitude = new double[2 * degree + 1];
        for (int i = 0; i <= degree; i++) {
            for (int j = 0; j <= degree; j++) {
                square[i + j] += t[i] * t[j];
                magnitude[i + j] += Math.abs(t[i] * t[j]);
            }
        }
        double ratio = f[2 * degree - 1] > 0 ? f[2 * degree] / f[2 * degree - 1] : 0;
        double least = 1;
        // P = T(2 x / end - 1) for some ends at and above what power iteration gives.
        for (double end = ratio; end > 0 && end <= 2 * ratio; end *= 1.02) {
            double sum = 0;
            double scale = 1;
            for (int k = 0; k <= 2 * degree; k++) {
                sum += (square[k] + ROUNDING * magnitude[k]) * f[k] * scale;
                scale /= end;
            }
            double growth = Math.sqrt(Math.max(1, sum / weight));
            double beyond = Math.cosh(Math.log(growth + Math.sqrt(growth * growth - 1)) / degree);
            least = Math.min(least, end * (1 + beyond) / 2);
        }
        return least;
    }

    /** Coefficients of T_n(2 x - 1), that of x^k at k. */
    private static double[] chebyshev(int n) {
        double[] before = new double[n + 1];
        double[] now = new double[n + 1];
        before[0] = 1;
        now[0] = -1;
        now[1] = 2;
        for (int k = 1; k < n; k++) {
            double[] next = new double[n + 1];
            for (int i = 0; i <= n; i++) {
                next[i] = -2 * now[i] - before[i] + (i > 0 ? 4 * now[i - 1] : 0);
            }
            before = now;
            now = next;
        }
        return now;
    }
}
