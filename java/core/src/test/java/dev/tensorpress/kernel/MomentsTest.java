package dev.tensorpress.kernel;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import dev.tensorpress.Effort.RandomTest;
import java.util.Random;
import java.util.function.DoubleUnaryOperator;
import org.junit.jupiter.api.Test;

class MomentsTest {
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

    @RandomTest
    void noSumOfEigenvaluesExceedsItsBound() {
        Random r = Effort.random();
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
    @RandomTest
    void theBoundIsNoLargerThanTheChanceAsks() {
        Random r = Effort.random();
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

    /** A = diag(1, b), and a left vector at an angle to the first one: what it leaves, and the second singular value, are known. */
    @Test
    void whatIsLeftIsNoLessThanItsBound() {
        for (double b : new double[] {0.1, 0.5, 0.9, 0.99}) {
            for (double angle : new double[] {0, 1e-4, 0.01, 0.05, 0.2, 0.5, 1}) {
                double cos = Math.cos(angle);
                double sin = Math.sin(angle);
                double found = cos * cos + sin * sin * b * b;
                double left = sin * sin + cos * cos * b * b;
                double coupling = cos * sin * (1 - b * b);
                Moments.Parts parts = new Moments.Parts(new double[] {Math.sqrt(found)}, left);
                double[] sums = {1, 1, 1, 1, 1};
                double bound = parts.rest(sums, parts.weights[0] * coupling * coupling / left / left, 0) * Math.sqrt(left);
                String what = b + " at " + angle + ": " + bound;
                assertTrue(bound <= b, what);
                assertTrue(b > 0.5 || angle > 0.01 || bound >= 0.9 * b, what);
                assertTrue(bound == 0 || parts.rest(sums, 0, 0) * Math.sqrt(left) > bound || angle == 0, what);
                // A difference from the product takes its own length off.
                double other = parts.rest(sums, parts.weights[0] * coupling * coupling / left / left, 0.01) * Math.sqrt(left);
                assertTrue(bound == 0 || other <= bound - 0.1 * Math.sqrt(left) + 1e-12 || other == 0, what);
            }
        }
    }
}
