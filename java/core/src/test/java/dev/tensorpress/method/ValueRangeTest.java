package dev.tensorpress.method;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.encoding.ValueCodes;
import dev.tensorpress.statistics.Histogram;
import dev.tensorpress.statistics.ValueStatistics;
import dev.tensorpress.method.ValueRange.Rule;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class ValueRangeTest {
    private static final double BELOW = Double.NEGATIVE_INFINITY;
    private static final double ABOVE = Double.POSITIVE_INFINITY;

    private static ValueStatistics of(boolean histogram, float... x) {
        float least = Float.POSITIVE_INFINITY;
        float most = Float.NEGATIVE_INFINITY;
        float magnitude = 0;
        double sum = 0;
        double squares = 0;
        for (float v : x) {
            least = Math.min(least, v);
            most = Math.max(most, v);
            magnitude = Math.max(magnitude, Math.abs(v));
            sum += v;
            squares += (double) v * v;
        }
        float width = Histogram.width(magnitude);
        long[] counts = new long[Histogram.BINS];
        for (float v : x) {
            counts[Math.min(Histogram.BINS - 1, (int) Math.floor(v / width) + Histogram.BINS / 2)]++;
        }
        return new ValueStatistics("", "v", OptionalInt.empty(), Optional.empty(), x.length, new float[] {least}, new float[] {most},
                new double[] {sum}, new double[] {squares}, histogram ? Optional.of(new Histogram(width, counts)) : Optional.empty(),
                Optional.empty(), List.of());
    }

    /** Half of them around 0, and a few far away. */
    private static float[] heavy(int n) {
        Random random = new Random(1);
        float[] x = new float[n];
        for (int i = 0; i < n; i++) {
            x[i] = (float) (random.nextGaussian() * (i % 1000 == 0 ? 20 : 1));
        }
        return x;
    }

    private static double lost(ValueCodes codes, float[] x) {
        double sum = 0;
        for (float v : x) {
            double e = v - codes.decoded(v);
            sum += e * e;
        }
        return sum;
    }

    @ParameterizedTest
    @EnumSource
    void zeroIsExact(Rule rule) {
        for (float[] x : new float[][] {{1, 2, 3}, {-5, -4}, {-1, 7}, {0}, {5}, {1e-30f, 2e-30f}, heavy(5000)}) {
            ValueCodes codes = new ValueRange(rule, 99.9).of(of(true, x), BELOW, ABOVE);
            assertEquals(0, codes.decoded(0));
            assertEquals(codes, new ValueRange(rule, 99.9).of(of(true, x), BELOW, ABOVE));
            for (float v : x) {
                assertTrue(x.length > 9 || Math.abs(v - codes.decoded(v)) <= Math.abs(v), rule + " " + v);
            }
        }
    }

    @Test
    void minmaxReachesAll() {
        ValueCodes codes = new ValueRange(Rule.MINMAX, 100).of(of(true, -1, 3), BELOW, ABOVE);
        assertEquals(-1, codes.least(), codes.scale());
        assertEquals(3, codes.most(), codes.scale());
        assertEquals(new ValueCodes((float) (3 / 255.0), 0), new ValueRange(Rule.MINMAX, 100).of(of(true, -1, 3), 0, ABOVE));
        assertEquals(new ValueCodes((float) (2 / 255.0), 0), new ValueRange(Rule.MINMAX, 100).of(of(true, -1, 3), 0, 2));
        // Without a histogram there is nothing else to go by.
        assertEquals(codes, new ValueRange(Rule.MSE, 100).of(of(false, -1, 3), BELOW, ABOVE));
    }

    /** Of a thousand elements the largest and the least one get no code of their own, half a percent being left out. */
    @Test
    void percentile() {
        float[] x = new float[1000];
        for (int i = 0; i < x.length; i++) {
            x[i] = i == 0 ? -1000 : i == 1 ? 1000 : (i % 100) / 10f - 5;
        }
        ValueCodes codes = new ValueRange(Rule.PERCENTILE, 99.5).of(of(true, x), BELOW, ABOVE);
        assertTrue(codes.least() > -7 && codes.most() < 7, codes.toString());
        ValueCodes all = new ValueRange(Rule.PERCENTILE, 100).of(of(true, x), BELOW, ABOVE);
        assertTrue(all.least() < -990 && all.most() > 990, all.toString());
    }

    @Test
    void leastSquares() {
        float[] x = heavy(100_000);
        double minmax = lost(new ValueRange(Rule.MINMAX, 100).of(of(true, x), BELOW, ABOVE), x);
        ValueCodes best = new ValueRange(Rule.MSE, 100).of(of(true, x), BELOW, ABOVE);
        assertTrue(lost(best, x) < 0.9 * minmax, lost(best, x) + " " + minmax);
        // No range of a fine grid is much better.
        double least = Double.POSITIVE_INFINITY;
        for (double a = 0.1; a <= 1; a += 0.05) {
            for (double b = 0.1; b <= 1; b += 0.05) {
                least = Math.min(least, lost(ValueCodes.of(-60 * a, 60 * b), x));
            }
        }
        assertTrue(lost(best, x) < 1.1 * least, lost(best, x) + " " + least);
    }

    /** Of what lies evenly there is nothing to leave out; of a few elements far away there is. */
    @Test
    void divergence() {
        float[] even = new float[60_000];
        for (int i = 0; i < even.length; i++) {
            even[i] = i / 10_000f - 3;
        }
        ValueCodes codes = new ValueRange(Rule.KL, 100).of(of(true, even), BELOW, ABOVE);
        assertTrue(codes.least() < -2.5 && codes.most() > 2.5, codes.toString());
        ValueCodes narrow = new ValueRange(Rule.KL, 100).of(of(true, heavy(100_000)), BELOW, ABOVE);
        ValueCodes wide = new ValueRange(Rule.MINMAX, 100).of(of(true, heavy(100_000)), BELOW, ABOVE);
        assertTrue(narrow.scale() < 0.7 * wide.scale(), narrow + " " + wide);
    }

    @Test
    void impossible() {
        assertThrows(IllegalArgumentException.class, () -> new ValueRange(Rule.PERCENTILE, 50));
        assertThrows(IllegalArgumentException.class, () -> new ValueCodes(0, 0));
        assertThrows(IllegalArgumentException.class, () -> new ValueCodes(1, 256));
    }
}
