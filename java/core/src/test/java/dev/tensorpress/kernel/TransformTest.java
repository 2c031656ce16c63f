package dev.tensorpress.kernel;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** Levels of wavelets follow each other and come back, coefficients of what is smooth are few, and entropy is what it is defined as. */
class TransformTest {
    private static final int ROWS = 37;
    private static final int COLS = 70;
    private static final long N = (long) ROWS * COLS;

    private final Random random = Effort.random();

    private static void levels(Transform.Wavelet kind, int dimensions, int levels, MemorySegment in, double bound) {
        try (Executor executor = Executor.cpu(2); Arena arena = Arena.ofShared()) {
            MemorySegment there = arena.allocate(4 * N, 64);
            MemorySegment back = arena.allocate(4 * N, 64);
            Transform.wavelet(kind, ROWS, COLS, dimensions, levels, false, in, there, executor);
            Transform.wavelet(kind, ROWS, COLS, dimensions, levels, true, there, back, executor);
            if (bound == 0) {
                assertEquals(-1, in.mismatch(back));
            }
            for (long i = 0; i < N && bound > 0; i++) {
                assertEquals(in.getAtIndex(ValueLayout.JAVA_FLOAT, i), back.getAtIndex(ValueLayout.JAVA_FLOAT, i), bound);
            }
            if (levels == 1) {
                return;
            }
            // The low coefficients of one level less, transformed once, and the others as they were.
            MemorySegment less = arena.allocate(4 * N, 64);
            Transform.wavelet(kind, ROWS, COLS, dimensions, levels - 1, false, in, less, executor);
            int high = dimensions == 2 ? ROWS : ROWS << levels - 1;
            int rows = Math.ceilDiv(high, 1 << levels - 1);
            int cols = Math.ceilDiv(COLS, 1 << levels - 1);
            MemorySegment low = arena.allocate(4L * rows * cols, 64);
            MemorySegment next = arena.allocate(4L * rows * cols, 64);
            for (int i = 0; i < rows; i++) {
                MemorySegment.copy(less, 4L * i * COLS, low, 4L * i * cols, 4L * cols);
            }
            Transform.wavelet(kind, rows, cols, dimensions, 1, false, low, next, executor);
            for (int i = 0; i < ROWS; i++) {
                for (int j = 0; j < COLS; j++) {
                    long at = (long) i * COLS + j;
                    int want = i < rows && j < cols ? next.getAtIndex(ValueLayout.JAVA_INT, (long) i * cols + j) : less.getAtIndex(ValueLayout.JAVA_INT, at);
                    assertEquals(want, there.getAtIndex(ValueLayout.JAVA_INT, at), kind + ", " + levels + " levels, at " + i + ", " + j);
                }
            }
        }
    }

    @Test
    void levelsOfWavelets() {
        try (Arena arena = Arena.ofShared()) {
            MemorySegment floats = arena.allocate(4 * N, 64);
            MemorySegment integers = arena.allocate(4 * N, 64);
            for (long i = 0; i < N; i++) {
                floats.setAtIndex(ValueLayout.JAVA_FLOAT, i, random.nextFloat() - 0.5f);
                integers.setAtIndex(ValueLayout.JAVA_INT, i, random.nextInt());
            }
            for (int dimensions = 1; dimensions <= 2; dimensions++) {
                for (int levels : new int[] {1, 2, 4, 9}) {
                    levels(Transform.Wavelet.HAAR, dimensions, levels, floats, 1e-5);
                    levels(Transform.Wavelet.CDF53, dimensions, levels, integers, 0);
                    levels(Transform.Wavelet.CDF97, dimensions, levels, floats, 1e-5);
                }
            }
        }
    }

    /** A plane of an image without edges: nearly all of its squares are in few coefficients, and its bytes come back. */
    @Test
    void planesOfImages() {
        int side = 128;
        long n = (long) side * side;
        try (Executor executor = Executor.cpu(2); Arena arena = Arena.ofShared()) {
            MemorySegment plane = arena.allocate(n);
            for (int i = 0; i < side; i++) {
                for (int j = 0; j < side; j++) {
                    plane.set(ValueLayout.JAVA_BYTE, (long) i * side + j, (byte) Math.round(128 + 60 * Math.sin(i / 9.0) + 50 * Math.cos(j / 14.0)));
                }
            }
            MemorySegment integers = arena.allocate(4 * n, 64);
            MemorySegment coefficients = arena.allocate(4 * n, 64);
            MemorySegment back = arena.allocate(n);
            Transform.widen(DType.U8, n, plane, integers, executor);
            double plain = Transform.entropy(Transform.counts(2000, n, integers, executor));
            Transform.wavelet(Transform.Wavelet.CDF53, side, side, 2, 5, false, integers, coefficients, executor);
            double transformed = Transform.entropy(Transform.counts(2000, n, coefficients, executor));
            assertTrue(transformed < 0.4 * plain, transformed + " bits, of " + plain);
            Transform.wavelet(Transform.Wavelet.CDF53, side, side, 2, 5, true, coefficients, integers, executor);
            Transform.narrow(DType.U8, n, integers, back, executor);
            assertEquals(-1, plane.mismatch(back));
        }
    }

    @Test
    void cosinesComeBack() {
        try (Executor executor = Executor.cpu(2); Arena arena = Arena.ofShared()) {
            MemorySegment x = arena.allocate(4 * N, 64);
            MemorySegment y = arena.allocate(4 * N, 64);
            MemorySegment z = arena.allocate(4 * N, 64);
            for (long i = 0; i < N; i++) {
                x.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) Math.sin(i / 300.0));
            }
            for (int block : new int[] {4, 64}) {
                Transform.dct(ROWS, COLS, block, 1, false, x, y, executor);
                Transform.Zone zone = new Transform.Zone(0.5f, 0, 1000);
                Transform.Steps step = Transform.Steps.of(0.01f);
                MemorySegment codes = arena.allocate(4 * N, 64);
                double lost = Transform.quantize(zone, step, N, y, codes, executor)[0];
                assertTrue(lost < N * 0.01 * 0.01 / 4, "" + lost);
                Transform.decode(zone, step, N, codes, z, executor);
                Transform.dct(ROWS, COLS, block, 1, true, z, y, executor);
                double squares = 0;
                for (long i = 0; i < N; i++) {
                    double error = x.getAtIndex(ValueLayout.JAVA_FLOAT, i) - y.getAtIndex(ValueLayout.JAVA_FLOAT, i);
                    squares += error * error;
                }
                assertEquals(lost, squares, 1e-3 * lost, "orthonormal: what is lost of coefficients is lost of elements");
            }
        }
    }

    /** Of elements that have steps by groups each group is what it is alone, whatever lines and threads there are. */
    @Test
    void stepsOfGroups() {
        Transform.Zone zone = new Transform.Zone(0.6f, -0.1f, 100_000);
        for (int threads = 1; threads <= 3; threads++) {
            try (Executor executor = Executor.cpu(threads); Arena arena = Arena.ofShared()) {
                for (long group : new long[] {1, 7, 4096, 5000, 9000, N}) {
                    long n = group == 1 ? 600 : Math.min(N, 3 * group + 5);
                    int groups = (int) Math.ceilDiv(n, group);
                    MemorySegment x = arena.allocate(4 * n, 64);
                    MemorySegment codes = arena.allocate(4 * n, 64);
                    MemorySegment back = arena.allocate(4 * n, 64);
                    MemorySegment wanted = arena.allocate(4 * n, 64);
                    MemorySegment values = arena.allocate(4L * groups, 64);
                    for (long i = 0; i < n; i++) {
                        x.setAtIndex(ValueLayout.JAVA_FLOAT, i, random.nextFloat() - 0.5f);
                    }
                    for (int g = 0; g < groups; g++) {
                        values.setAtIndex(ValueLayout.JAVA_FLOAT, g, 0.001f + random.nextFloat() / 10);
                    }
                    Transform.Steps steps = new Transform.Steps(values, group);
                    double[] lost = Transform.quantize(zone, steps, n, x, codes, executor);
                    Transform.decode(zone, steps, n, codes, back, executor);
                    assertEquals(groups, lost.length);
                    for (int g = 0; g < groups; g++) {
                        long start = g * group;
                        long size = Math.min(group, n - start);
                        Transform.Steps alone = Transform.Steps.of(values.getAtIndex(ValueLayout.JAVA_FLOAT, g));
                        MemorySegment part = wanted.asSlice(4 * start, 4 * size);
                        assertEquals(Transform.quantize(zone, alone, size, x.asSlice(4 * start), part, executor)[0], lost[g]);
                        assertEquals(-1, part.mismatch(codes.asSlice(4 * start, 4 * size)), "codes of group " + g + " of " + group);
                        Transform.decode(zone, alone, size, codes.asSlice(4 * start), part, executor);
                        assertEquals(-1, part.mismatch(back.asSlice(4 * start, 4 * size)), "elements of group " + g + " of " + group);
                    }
                }
            }
        }
    }

    @Test
    void entropy() {
        assertEquals(0, Transform.entropy(new long[] {0, 5, 0}));
        assertEquals(1, Transform.entropy(new long[] {3, 3}), 1e-12);
        assertEquals(1.5, Transform.entropy(new long[] {2, 1, 1}), 1e-12);
        assertEquals(0, Transform.entropy(new long[3]));
    }

    @Test
    void whatIsRefused() {
        try (Executor executor = Executor.cpu(1); Arena arena = Arena.ofShared()) {
            MemorySegment x = arena.allocate(64, 64);
            MemorySegment y = arena.allocate(64, 64);
            assertThrows(IllegalArgumentException.class, () -> Transform.dct(4, 4, 65, 1, false, x, y, executor));
            assertThrows(IllegalArgumentException.class, () -> Transform.dct(4, 4, 4, 3, false, x, y, executor));
            assertThrows(IllegalArgumentException.class, () -> Transform.dct(4, 5, 4, 1, false, x, y, executor));
            assertThrows(IllegalArgumentException.class, () -> Transform.dct(4, 4, 4, 1, false, x, x, executor));
            assertThrows(IllegalArgumentException.class, () -> Transform.wavelet(Transform.Wavelet.HAAR, 4, 4, 2, 0, false, x, y, executor));
            assertThrows(IllegalArgumentException.class, () -> Transform.widen(DType.F32, 4, x, y, executor));
            assertThrows(IllegalArgumentException.class, () -> new Transform.Zone(0.4f, 0, 1));
            assertThrows(IllegalArgumentException.class, () -> new Transform.Steps(x, 0));
            Transform.Zone zone = new Transform.Zone(0.5f, 0, 3);
            Transform.Steps one = Transform.Steps.of(1);
            assertThrows(IllegalArgumentException.class, () -> Transform.quantize(zone, new Transform.Steps(one.values(), 8), 16, x, y, executor));
            assertThrows(KernelException.class, () -> Transform.quantize(zone, Transform.Steps.of(0), 16, x, y, executor));
            x.setAtIndex(ValueLayout.JAVA_FLOAT, 3, Float.NaN);
            assertEquals(KernelException.NONFINITE, assertThrows(KernelException.class, () -> Transform.quantize(zone, one, 16, x, y, executor)).status());
            x.setAtIndex(ValueLayout.JAVA_FLOAT, 3, 4);
            assertEquals(KernelException.MAGNITUDE, assertThrows(KernelException.class, () -> Transform.quantize(zone, one, 16, x, y, executor)).status());
        }
    }

    /** Each value is the mean of what it stands for, so that the squares of what is lost are those of the weight less those of what is left. */
    @Test
    void hashing() {
        try (Executor executor = Executor.cpu(2); Arena arena = Arena.ofShared()) {
            MemorySegment x = arena.allocate(4 * N, 64);
            MemorySegment y = arena.allocate(4 * N, 64);
            for (long i = 0; i < N; i++) {
                x.setAtIndex(ValueLayout.JAVA_FLOAT, i, random.nextFloat() - 0.3f);
            }
            Hashing.Spec spec = new Hashing.Spec(ROWS, COLS, N / 8, 42);
            MemorySegment values = arena.allocate(4 * spec.buckets(), 64);
            Hashing.fit(spec, x, values, executor);
            Hashing.decode(spec, values, y, executor);
            double before = 0;
            double left = 0;
            double lost = 0;
            for (long i = 0; i < N; i++) {
                double a = x.getAtIndex(ValueLayout.JAVA_FLOAT, i);
                double b = y.getAtIndex(ValueLayout.JAVA_FLOAT, i);
                before += a * a;
                left += b * b;
                lost += (a - b) * (a - b);
            }
            assertEquals(before - left, lost, 1e-5 * before);
            assertEquals(1.0 / 8, left / before, 0.05, "as many squares as there are values for elements");
            // What has such values already keeps them.
            MemorySegment again = arena.allocate(4 * spec.buckets(), 64);
            Hashing.fit(spec, y, again, executor);
            float[] first = values.toArray(ValueLayout.JAVA_FLOAT);
            assertArrayEquals(first, again.toArray(ValueLayout.JAVA_FLOAT), 1e-6f);
            x.setAtIndex(ValueLayout.JAVA_FLOAT, 5, Float.POSITIVE_INFINITY);
            assertEquals(KernelException.NONFINITE, assertThrows(KernelException.class, () -> Hashing.fit(spec, x, values, executor)).status());
            assertThrows(IllegalArgumentException.class, () -> new Hashing.Spec(1, 1, 0, 0));
        }
    }
}
