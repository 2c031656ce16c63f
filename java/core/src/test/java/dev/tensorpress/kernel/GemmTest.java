package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_DOUBLE_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_INT_UNALIGNED;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.kernel.Gemm.Affine;
import dev.tensorpress.kernel.Gemm.Form;
import dev.tensorpress.kernel.Gemm.Spec;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/** Products against plain loops, to the bit; the kernels themselves are tested natively. */
class GemmTest {
    /** The length of the runs that floats are summed in. */
    private static final int BLOCK = 256;
    private final Random random = new Random(7);

    private static long aIndex(Spec s, long i, long k) {
        return s.form() == Form.ATB ? k * s.aStride() + i : i * s.aStride() + k;
    }

    private static long bIndex(Spec s, long k, long j) {
        return s.form() == Form.ABT ? j * s.bStride() + k : k * s.bStride() + j;
    }

    private static float element(Spec s, MemorySegment a, MemorySegment b, float c, long i, long j) {
        float total = c;
        for (long start = 0; start < s.k(); start += BLOCK) {
            float sum = 0;
            for (long k = start; k < Math.min(start + BLOCK, s.k()); k++) {
                sum = Math.fma(a.get(JAVA_FLOAT_UNALIGNED, aIndex(s, i, k) * 4), b.get(JAVA_FLOAT_UNALIGNED, bIndex(s, k, j) * 4), sum);
            }
            total += sum;
        }
        return total;
    }

    private static double element(Spec s, MemorySegment a, MemorySegment b, double c, long i, long j) {
        double total = c;
        for (long start = 0; start < s.k(); start += BLOCK) {
            double sum = 0;
            for (long k = start; k < Math.min(start + BLOCK, s.k()); k++) {
                sum = Math.fma(a.get(JAVA_DOUBLE_UNALIGNED, aIndex(s, i, k) * 8), b.get(JAVA_DOUBLE_UNALIGNED, bIndex(s, k, j) * 8), sum);
            }
            total += sum;
        }
        return total;
    }

    private static int element(Spec s, MemorySegment a, int aZero, MemorySegment b, int bZero, long i, long j) {
        int sum = 0;
        for (long k = 0; k < s.k(); k++) {
            sum += (a.get(JAVA_BYTE, aIndex(s, i, k)) - aZero) * (b.get(JAVA_BYTE, bIndex(s, k, j)) - bZero);
        }
        return sum;
    }

    /** Made-up values at an odd address, as in a mapped file. */
    private MemorySegment values(Arena arena, DType type, long n) {
        long size = type.bits() / 8;
        MemorySegment m = arena.allocate(n * size + 1, 64).asSlice(1);
        for (long i = 0; i < n; i++) {
            switch (type) {
                case F32 -> m.set(JAVA_FLOAT_UNALIGNED, 4 * i, (float) random.nextGaussian());
                case F64 -> m.set(JAVA_DOUBLE_UNALIGNED, 8 * i, random.nextGaussian());
                default -> m.set(JAVA_BYTE, i, (byte) random.nextInt());
            }
        }
        return m;
    }

    @ParameterizedTest
    @CsvSource({"1,1,1", "5,7,3", "17,33,257", "130,300,70", "200,50,300", "33,500,300"})
    void productsAreTheSameForAnyNumberOfThreads(int m, int n, int k) {
        for (Form form : Form.values()) {
            for (DType type : new DType[] {DType.F32, DType.F64, DType.I8}) {
                for (int threads = 1; threads <= 3; threads += 2) {
                    Spec dense = Spec.of(type, form, m, n, k);
                    Spec s = new Spec(type, form, m, n, k, dense.aStride() + 3, dense.bStride() + 1, n + 2, threads == 3 && type != DType.F64);
                    checkProduct(s, threads);
                }
            }
        }
    }

    private void checkProduct(Spec s, int threads) {
        try (Arena arena = Arena.ofShared(); Executor executor = Executor.cpu(threads); Gemm gemm = new Gemm(s, executor)) {
            MemorySegment a = values(arena, s.type(), s.form() == Form.ATB ? s.k() * s.aStride() : s.m() * s.aStride());
            MemorySegment b = values(arena, s.type(), s.form() == Form.ABT ? s.n() * s.bStride() : s.k() * s.bStride());
            MemorySegment lost = arena.allocate(b.byteSize()).copyFrom(b);
            gemm.pack(lost);
            lost.fill((byte) 77);
            long size = s.type() == DType.F64 ? 8 : 4;
            MemorySegment c = arena.allocate(s.m() * s.cStride() * size, size);
            // All rows, then some of them: B is kept.
            for (long rows : new long[] {s.m(), s.m() / 2}) {
                for (long i = 0; i < s.m() * s.cStride(); i++) {
                    set(s.type(), c, i, old(i));
                }
                gemm.multiply(rows, a, c);
                for (long i = 0; i < s.m(); i++) {
                    for (long j = 0; j < s.cStride(); j++) {
                        checkElement(s, i < rows && j < s.n(), a, b, c, i, j);
                    }
                }
            }
        }
    }

    /** What C held before. */
    private static int old(long at) {
        return (int) (at % 9);
    }

    private static void set(DType type, MemorySegment c, long at, int value) {
        switch (type) {
            case F32 -> c.set(JAVA_FLOAT_UNALIGNED, 4 * at, value);
            case F64 -> c.set(JAVA_DOUBLE_UNALIGNED, 8 * at, value);
            default -> c.set(JAVA_INT_UNALIGNED, 4 * at, value);
        }
    }

    private static void checkElement(Spec s, boolean written, MemorySegment a, MemorySegment b, MemorySegment c, long i, long j) {
        long at = i * s.cStride() + j;
        int start = written && !s.accumulate() ? 0 : old(at);
        switch (s.type()) {
            case F32 -> assertEquals(written ? element(s, a, b, (float) start, i, j) : start, c.get(JAVA_FLOAT_UNALIGNED, 4 * at));
            case F64 -> assertEquals(written ? element(s, a, b, (double) start, i, j) : start, c.get(JAVA_DOUBLE_UNALIGNED, 8 * at));
            default -> assertEquals(written ? start + element(s, a, 0, b, 0, i, j) : start, c.get(JAVA_INT_UNALIGNED, 4 * at));
        }
    }

    @ParameterizedTest
    @EnumSource
    void zeroPointsAndScales(Form form) {
        int m = 45;
        int n = 70;
        int k = 100;
        Spec s = Spec.of(DType.I8, form, m, n, k);
        try (Arena arena = Arena.ofShared(); Executor executor = Executor.cpu(2); Gemm gemm = new Gemm(s, executor)) {
            MemorySegment a = values(arena, DType.I8, (long) m * k);
            MemorySegment b = values(arena, DType.I8, (long) n * k);
            MemorySegment c = arena.allocate(4L * m * n, 4);
            gemm.pack(b);
            for (boolean lines : new boolean[] {false, true}) {
                MemorySegment aZeros = values(arena, DType.I8, lines ? m : 1);
                MemorySegment bZeros = values(arena, DType.I8, lines ? n : 1);
                MemorySegment aScales = arena.allocate(lines ? 4 * m : 4, 4).copyFrom(values(arena, DType.F32, lines ? m : 1));
                MemorySegment bScales = arena.allocate(lines ? 4 * n : 4, 4).copyFrom(values(arena, DType.F32, lines ? n : 1));
                Affine affine = new Affine(aZeros, bZeros, aScales, bScales);
                int step = lines ? 1 : 0;
                gemm.multiplyToInt32(m, a, c, affine);
                for (int i = 0; i < m; i++) {
                    for (int j = 0; j < n; j++) {
                        int sum = element(s, a, aZeros.get(JAVA_BYTE, i * step), b, bZeros.get(JAVA_BYTE, j * step), i, j);
                        assertEquals(sum, c.get(JAVA_INT_UNALIGNED, 4L * (i * n + j)));
                    }
                }
                gemm.multiplyToFloat(m, a, c, affine);
                for (int i = 0; i < m; i++) {
                    for (int j = 0; j < n; j++) {
                        int sum = element(s, a, aZeros.get(JAVA_BYTE, i * step), b, bZeros.get(JAVA_BYTE, j * step), i, j);
                        float expected = (float) sum * aScales.get(JAVA_FLOAT_UNALIGNED, 4L * i * step)
                                * bScales.get(JAVA_FLOAT_UNALIGNED, 4L * j * step);
                        assertEquals(expected, c.get(JAVA_FLOAT_UNALIGNED, 4L * (i * n + j)));
                    }
                }
                gemm.multiplyToInt32(m, a, c, Affine.NONE);
                assertEquals(element(s, a, 0, b, 0, m - 1, n - 1), c.get(JAVA_INT_UNALIGNED, 4L * (m * n - 1)));
            }
        }
    }

    @Test
    void nothingToDo() {
        try (Executor executor = Executor.cpu(2); Arena arena = Arena.ofShared()) {
            MemorySegment c = arena.allocate(4 * 6, 4);
            c.fill((byte) 1);
            for (int[] size : new int[][] {{0, 3, 4}, {3, 0, 4}, {0, 0, 0}}) {
                try (Gemm gemm = new Gemm(Spec.of(DType.F32, Form.AB, size[0], size[1], size[2]), executor)) {
                    gemm.pack(arena.allocate(4 * 12)).multiply(arena.allocate(4 * 12), c);
                }
            }
            assertEquals(0x01010101, c.get(JAVA_INT_UNALIGNED, 0));
            try (Gemm gemm = new Gemm(Spec.of(DType.F32, Form.AB, 2, 3, 0), executor)) {
                gemm.pack(MemorySegment.NULL).multiply(MemorySegment.NULL, c);
            }
            for (int i = 0; i < 6; i++) {
                assertEquals(0, c.get(JAVA_INT_UNALIGNED, 4 * i));
            }
        }
    }

    @Test
    void wrongArgumentsAreRefused() {
        assertThrows(IllegalArgumentException.class, () -> Spec.of(DType.F16, Form.AB, 1, 1, 1));
        assertThrows(IllegalArgumentException.class, () -> Spec.of(DType.F32, Form.AB, -1, 1, 1));
        assertThrows(IllegalArgumentException.class, () -> new Spec(DType.F32, Form.ATB, 5, 5, 2, 4, 5, 5, false));
        try (Executor executor = Executor.cpu(1); Arena arena = Arena.ofConfined()) {
            MemorySegment m = arena.allocate(4 * 12, 4);
            MemorySegment shorter = m.asSlice(0, 4 * 11);
            MemorySegment heap = MemorySegment.ofArray(new float[12]);
            try (Gemm gemm = new Gemm(Spec.of(DType.F32, Form.AB, 3, 3, 4), executor)) {
                assertThrows(IllegalStateException.class, () -> gemm.multiply(m, m));
                assertThrows(IllegalArgumentException.class, () -> gemm.pack(shorter));
                assertThrows(IllegalArgumentException.class, () -> gemm.pack(heap));
                gemm.pack(m);
                assertThrows(IllegalArgumentException.class, () -> gemm.multiply(shorter, m));
                assertThrows(IllegalArgumentException.class, () -> gemm.multiply(m, heap));
                assertThrows(IllegalArgumentException.class, () -> gemm.multiply(m, arena.allocate(100, 4).asSlice(1)));
                assertThrows(IllegalArgumentException.class, () -> gemm.multiply(4, m, m));
                assertThrows(IllegalArgumentException.class, () -> gemm.multiplyToInt32(3, m, m, Affine.NONE));
            }
            try (Gemm gemm = new Gemm(Spec.of(DType.I8, Form.AB, 3, 3, 4).accumulating(), executor)) {
                gemm.pack(m);
                assertThrows(IllegalArgumentException.class, () -> gemm.multiplyToFloat(3, m, m, Affine.NONE));
                Affine two = new Affine(m.asSlice(0, 2), MemorySegment.NULL, MemorySegment.NULL, MemorySegment.NULL);
                assertThrows(IllegalArgumentException.class, () -> gemm.multiplyToInt32(3, m, m, two));
            }
            assertThrows(IllegalArgumentException.class, () -> Spec.of(DType.F64, Form.AB, 3, 1L << 40, 1L << 40));
        }
    }

    /** On this thread, counting what its arenas hand out. */
    private static final class Counting implements Executor {
        private final Executor one = Executor.cpu(1);
        private int allocations;

        @Override
        public int threads() {
            return 1;
        }

        @Override
        public void run(long lines, long granule, long minimum, long scratch, Task task) {
            one.run(lines, granule, minimum, scratch, task);
        }

        @Override
        public Arena arena() {
            Arena arena = Arena.ofShared();
            return new Arena() {
                @Override
                public MemorySegment allocate(long bytes, long alignment) {
                    allocations++;
                    return arena.allocate(bytes, alignment);
                }

                @Override
                public MemorySegment.Scope scope() {
                    return arena.scope();
                }

                @Override
                public void close() {
                    arena.close();
                }
            };
        }

        @Override
        public void close() {
            one.close();
        }
    }

    @Test
    void memoryDoesNotGrowWithTheNumberOfProducts() {
        try (Arena arena = Arena.ofShared(); Counting executor = new Counting();
                Gemm gemm = new Gemm(Spec.of(DType.I8, Form.AB, 3, 3, 4), executor)) {
            MemorySegment m = arena.allocate(64, 64);
            MemorySegment c = arena.allocate(64, 64);
            Affine scales = new Affine(MemorySegment.NULL, MemorySegment.NULL, m.asSlice(0, 12), m.asSlice(0, 4));
            gemm.pack(m).multiplyToFloat(3, m, c, scales);
            int before = executor.allocations;
            for (int i = 0; i < 3; i++) {
                gemm.multiplyToFloat(3, m, c, Affine.NONE);
                gemm.multiplyToFloat(3, m, c, scales);
            }
            assertEquals(before, executor.allocations);
        }
    }

    @Test
    void memoryIsWhatItSays() {
        try (Executor one = Executor.cpu(1); Executor two = Executor.cpu(2)) {
            Spec s = Spec.of(DType.F32, Form.AB, 512, 300, 700);
            long packed = Gemm.bytes(Spec.of(DType.F32, Form.AB, 0, 300, 700), one);
            assertTrue(packed >= 4L * 300 * 700 && packed < 4L * 360 * 700 + 4096, "" + packed);
            long scratch = Gemm.bytes(s, two) - Gemm.bytes(s, one);
            assertTrue(scratch > 0 && scratch <= 400 << 10, "" + scratch);
        }
    }
}
