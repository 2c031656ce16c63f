package dev.tensorpress.kernel;

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
        double top = top(f, share(count, 1, chance) * count);
        double least = Math.min(1, rank * top);
        for (int k = 2; k < f.length; k++) {
            double measured = f[k] / count;
            double low = measured;
            double high = measured / share(count, 1, chance);
            // t share(top^k / t) grows with t, and is at most what was measured.
            for (int i = 0; i < 60; i++) {
                double t = (low + high) / 2;
                boolean possible = t * share(count, Math.min(1, Math.pow(top, k) / t), chance) <= measured;
                low = possible ? t : low;
                high = possible ? high : t;
            }
            least = Math.min(least, Math.pow(rank, 1 - 1.0 / k) * Math.pow(high * (1 + ROUNDING), 1.0 / k));
        }
        return least;
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
    private static double share(double count, double largest, double chance) {
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
