package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.tensorpress.Effort;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The statistics family as Java calls it, against plain loops. Tiers are compared in the native tests. */
class ObserveTest {
    private final Random random = Effort.random();

    /** Off by a byte. */
    private MemorySegment values(long n, Arena arena) {
        MemorySegment x = arena.allocate(4 * n + 1, 64).asSlice(1);
        for (long i = 0; i < n; i++) {
            x.setAtIndex(JAVA_FLOAT_UNALIGNED, i, (float) random.nextGaussian());
        }
        return x;
    }

    private static MemorySegment all(float value, int n, Arena arena) {
        MemorySegment s = arena.allocate(JAVA_FLOAT, n);
        for (int i = 0; i < n; i++) {
            s.setAtIndex(JAVA_FLOAT, i, value);
        }
        return s;
    }

    @ParameterizedTest
    @CsvSource({"1, 5, 1", "1, 70001, 1", "1, 3000, 2", "300, 400, 301", "17, 1, 17"})
    void channelsAreAddedUp(int channels, int rows, int stride) {
        try (Executor executor = Executor.cpu(3); Arena arena = Arena.ofShared()) {
            MemorySegment x = values((long) rows * stride, arena);
            MemorySegment min = all(Float.POSITIVE_INFINITY, channels, arena);
            MemorySegment max = all(Float.NEGATIVE_INFINITY, channels, arena);
            MemorySegment sum = arena.allocate(JAVA_DOUBLE, channels);
            MemorySegment squares = arena.allocate(JAVA_DOUBLE, channels);
            for (int pass = 0; pass < 2; pass++) {
                assertEquals(-1, Observe.channels(x, rows, channels, stride, min, max, sum, squares, executor));
            }
            for (int c = 0; c < channels; c++) {
                float least = Float.POSITIVE_INFINITY;
                float most = Float.NEGATIVE_INFINITY;
                double s = 0;
                double q = 0;
                for (int r = 0; r < rows; r++) {
                    float e = x.getAtIndex(JAVA_FLOAT_UNALIGNED, (long) r * stride + c);
                    least = Math.min(least, e);
                    most = Math.max(most, e);
                    s += e;
                    q += (double) e * e;
                }
                assertEquals(least, min.getAtIndex(JAVA_FLOAT, c));
                assertEquals(most, max.getAtIndex(JAVA_FLOAT, c));
                assertEquals(2 * s, sum.getAtIndex(JAVA_DOUBLE, c), 1e-9);
                assertEquals(2 * q, squares.getAtIndex(JAVA_DOUBLE, c), 1e-12 * q);
            }
            // The first one in the order of rows, wherever ranges were cut.
            for (long wrong : new long[] {(long) rows * channels - 1, (long) rows * channels / 2}) {
                x.setAtIndex(JAVA_FLOAT_UNALIGNED, wrong / channels * stride + wrong % channels, wrong % 2 == 0 ? Float.NaN : Float.NEGATIVE_INFINITY);
                assertEquals(wrong, Observe.channels(x, rows, channels, stride, min, max, sum.fill((byte) 0), squares.fill((byte) 0), executor));
            }
        }
    }

    @ParameterizedTest
    @CsvSource({"1, 400000, 1", "300, 1300, 300", "300, 1300, 301"})
    void elementsAreCounted(int channels, int rows, int stride) {
        try (Executor executor = Executor.cpu(3); Arena arena = Arena.ofShared()) {
            MemorySegment x = values((long) rows * stride, arena);
            MemorySegment counts = arena.allocate(JAVA_LONG, Observe.BINS);
            Observe.histogram(x, rows, channels, stride, 0x1p-9f, counts, executor);
            long[] want = new long[Observe.BINS];
            for (int r = 0; r < rows; r++) {
                for (int c = 0; c < channels; c++) {
                    double bin = Math.floor(x.getAtIndex(JAVA_FLOAT_UNALIGNED, (long) r * stride + c) * 0x1p9) + Observe.BINS / 2;
                    want[(int) Math.clamp(bin, 0, Observe.BINS - 1)]++;
                }
            }
            for (int i = 0; i < Observe.BINS; i++) {
                assertEquals(want[i], counts.getAtIndex(JAVA_LONG, i), "bin " + i);
            }
            assertThrows(KernelException.class, () -> Observe.histogram(x, 1, 1, 1, 0.3f, counts, executor));
        }
    }

    /** However rows are cut into calls, the same bits, and close to sums in f64. */
    @ParameterizedTest
    @CsvSource({"1, 5", "1, 300", "3, 130", "40, 9"})
    void gramMatricesDoNotDependOnCuts(int groups, int channels) {
        int width = groups * channels;
        int rows = 700;
        try (Executor one = Executor.cpu(1); Executor three = Executor.cpu(3); Arena arena = Arena.ofShared()) {
            MemorySegment x = values((long) rows * width, arena);
            long bytes = 8L * width * channels;
            MemorySegment whole = arena.allocate(bytes, 64);
            try (Gram gram = new Gram(groups, channels, whole, one)) {
                gram.add(x, rows, width);
                gram.finish();
                assertThrows(IllegalStateException.class, () -> gram.add(x, 1, width));
            }
            MemorySegment cut = arena.allocate(bytes, 64);
            try (Gram gram = new Gram(groups, channels, cut, three)) {
                for (int at = 0; at < rows;) {
                    int n = Math.min(rows - at, random.nextInt(random.nextBoolean() ? 20 : 600));
                    gram.add(x.asSlice(4L * at * width), n, width);
                    at += n;
                }
                gram.finish();
            }
            assertEquals(-1, whole.mismatch(cut));
            for (int i = 0; i < 2000; i++) {
                int g = random.nextInt(groups);
                int a = random.nextInt(channels);
                int b = random.nextInt(channels);
                double sum = 0;
                for (int r = 0; r < rows; r++) {
                    long at = (long) r * width + g * channels;
                    sum += (double) x.getAtIndex(JAVA_FLOAT_UNALIGNED, at + a) * x.getAtIndex(JAVA_FLOAT_UNALIGNED, at + b);
                }
                assertEquals(sum, whole.getAtIndex(JAVA_DOUBLE, (long) (g * channels + a) * channels + b), 1e-3);
            }
        }
    }

    @Test
    void patchesAreWhatAWindowSees() {
        try (Executor executor = Executor.cpu(2); Arena arena = Arena.ofShared()) {
            MemorySegment image = values(3 * 50 * 70, arena);
            Patches patches = new Patches(3, 50, 70, new Patches.Pair(3, 2), new Patches.Pair(1, 2), new Patches.Pair(2, 1),
                    new Patches.Pair(2, 0), new Patches.Pair(0, 1));
            assertEquals(48 * 35, patches.positions());
            assertEquals(18, patches.length());
            MemorySegment out = arena.allocate(4L * 18 * 1600, 64);
            patches.take(image, 30, 1600, out, executor);
            for (int p = 0; p < 1600; p++) {
                for (int i = 0; i < 18; i++) {
                    int y = (p + 30) / 35 - 2 + i / 2 % 3 * 2;
                    int x = (p + 30) % 35 * 2 + i % 2;
                    float want = y >= 0 && x < 70 ? image.getAtIndex(JAVA_FLOAT_UNALIGNED, (i / 6 * 50 + y) * 70 + x) : 0;
                    assertEquals(want, out.getAtIndex(JAVA_FLOAT, p * 18 + i), "position " + p + ", element " + i);
                }
            }
            assertThrows(IllegalArgumentException.class, () -> patches.take(image, 1600, 100, out, executor));
        }
    }
}
