package dev.tensorpress.kernel;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Random;
import java.util.function.DoubleUnaryOperator;
import org.junit.jupiter.api.Test;

class MomentsTest {
    private static final long SEED = 20251122;
    private static final int COUNT = 32;
    private static final double CHANCE = Math.log(1e-7);

    private static double[] spectrum(int n, DoubleUnaryOperator of) {
        double[] values = new double[n];
        double sum = 0;
        for (int i = 0; i < n; i++) {
            values[i] = of.applyAsDouble(i);
            sum += values[i];
        }
        for (int i = 0; i < n; i++) {
            values[i] /= sum;
        }
        return values;
    }

    /** What vectors drawn at random measure of a diagonal matrix. */
    private static double[] moments(double[] values, Random r) {
        double[] f = new double[9];
        for (double value : values) {
            double weight = 0;
            for (int i = 0; i < COUNT; i++) {
                double x = r.nextGaussian();
                weight += x * x;
            }
            for (int k = 0; k < f.length; k++) {
                f[k] += Math.pow(value, k) * weight;
            }
        }
        return f;
    }

    @Test
    void noSumOfEigenvaluesExceedsItsBound() {
        System.out.println("seed " + SEED);
        Random r = new Random(SEED);
        DoubleUnaryOperator[] spectra = {i -> 1, i -> 1 / ((i + 1.0) * (i + 1)), i -> 400 - i, i -> Math.pow(0.9, i), i -> i < 20 ? 5 : 1,
            i -> i == 0 ? 1 : 0, i -> i < 3 ? 1 : 1e-9};
        for (int s = 0; s < spectra.length; s++) {
            double[] values = spectrum(400, spectra[s]);
            for (int draw = 0; draw < 40; draw++) {
                double[] f = moments(values, r);
                double sum = 0;
                for (int rank = 1; rank <= 400; rank++) {
                    sum += values[rank - 1];
                    if (Integer.bitCount(rank) == 1) {
                        double bound = Moments.largest(f, COUNT, rank, CHANCE);
                        assertTrue(bound >= sum * (1 - 1e-12) && bound <= 1, "spectrum " + s + " rank " + rank + ": " + bound + " of " + sum);
                    }
                }
            }
        }
    }

    /** With a chance that is no longer small the inequalities have to fail now and then: it is the chance that they rest on. */
    @Test
    void theBoundIsNoLargerThanTheChanceAsks() {
        Random r = new Random(SEED);
        double[] one = spectrum(400, i -> i == 0 ? 1 : 0);
        double[] flat = spectrum(400, i -> 1);
        int failed = 0;
        for (int draw = 0; draw < 500; draw++) {
            failed += Moments.largest(moments(one, r), COUNT, 1, Math.log(0.9999)) < one[0] ? 1 : 0;
            assertTrue(Moments.largest(moments(flat, r), COUNT, 40, CHANCE) <= 1.45 * 0.1);
        }
        assertTrue(failed > 0);
        assertEquals(0.1 * Math.cbrt(10), Moments.holder(new double[] {0, 0, 400 / 160000.0, 400 / 64e6}, 40), 1e-12);
    }
}
