package dev.tensorpress.kernel;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import dev.tensorpress.Effort.RandomTest;
import dev.tensorpress.kernel.Quantize.Range;
import dev.tensorpress.kernel.Quantize.Rounding;
import dev.tensorpress.kernel.Quantize.Spec;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Random;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** The kernels as Java calls them, against an oracle in plain Java. Tiers are compared in the native tests. */
class QuantizeTest {
    private static Executor one;
    private static Executor three;

    @BeforeAll
    static void open() {
        one = Executor.cpu(1);
        three = Executor.cpu(3);
    }

    @AfterAll
    static void close() {
        one.close();
        three.close();
    }

    private record Result(byte[] codes, float[] scales, byte[] zeros) {}

    private static Result run(Spec s, MemorySegment in, Executor executor, Arena arena) {
        MemorySegment codes = arena.allocate(Math.max(1, codeBytes(s)));
        MemorySegment scales = arena.allocate(4 * groups(s) + 4, 4);
        MemorySegment zeros = arena.allocate(groups(s) + 1);
        Quantize.quantize(s, in, codes, scales, zeros, executor);
        return new Result(codes.asSlice(0, codeBytes(s)).toArray(ValueLayout.JAVA_BYTE),
                scales.asSlice(0, 4 * groups(s)).toArray(ValueLayout.JAVA_FLOAT),
                zeros.asSlice(0, groups(s)).toArray(ValueLayout.JAVA_BYTE));
    }

    private static long groups(Spec s) {
        return ((s.rows() + s.groupRows() - 1) / s.groupRows()) * ((s.cols() + s.groupCols() - 1) / s.groupCols());
    }

    private static long lineLength(Spec s) {
        long n = s.transposed() ? s.rows() : s.cols();
        long block = Math.max(s.groupRows(), s.groupCols());
        return s.pad() ? (n + block - 1) / block * block : n;
    }

    private static long codeBytes(Spec s) {
        return s.out().bytes((s.transposed() ? s.cols() : s.rows()) * s.outStride());
    }

    /** A random quantization: every type, grain, layout and option comes up. */
    private static Spec random(Random r) {
        long rows = 1 + r.nextInt(150);
        long cols = 1 + r.nextInt(150);
        DType[] ins = {DType.F32, DType.F16, DType.BF16};
        DType[] outs = {DType.I8, DType.U8, DType.I4, DType.U4};
        DType in = ins[r.nextInt(3)];
        DType out = outs[r.nextInt(4)];
        int bits = out.bits() == 4 ? 2 + r.nextInt(3) : 2 + r.nextInt(7);
        int middle = out.signed() ? 0 : 1 << (out.bits() - 1);
        int qmin = middle - (1 << (bits - 1));
        int qmax = middle + (1 << (bits - 1)) - 1;
        int block = 16 * (1 + r.nextInt(4));
        int grain = r.nextInt(5);
        boolean blocks = grain >= 3;
        boolean transposed = (grain == 2 || grain == 4) && r.nextBoolean();
        boolean pad = blocks && (transposed || grain == 3) && r.nextBoolean();
        long groupRows = grain == 0 ? rows : grain == 1 || grain == 3 ? 1 : grain == 2 ? rows : block;
        long groupCols = grain == 0 || grain == 1 ? cols : grain == 3 ? block : 1;
        Range[] ranges = {Range.ABSMAX, Range.ABSMAX_FULL, Range.MINMAX};
        Spec s = new Spec(rows, cols, cols + r.nextInt(3), 0, groupRows, groupCols, in, out, ins[r.nextInt(3)], qmin,
                qmax, ranges[r.nextInt(3)], r.nextBoolean() ? Rounding.DIVIDE : Rounding.MULTIPLY, transposed, pad,
                1, 1);
        long stride = lineLength(s) + r.nextInt(2);
        return new Spec(rows, cols, s.inStride(), stride, groupRows, groupCols, in, out, s.scale(), qmin, qmax,
                s.range(), s.rounding(), transposed, pad, 1, 1);
    }

    private static float[][] fill(Spec s, MemorySegment in, Random r) {
        float[][] x = new float[(int) s.rows()][(int) s.cols()];
        float spread = (float) Math.pow(10, r.nextInt(7) - 3);
        for (int i = 0; i < s.rows(); i++) {
            for (int j = 0; j < s.cols(); j++) {
                float v = r.nextInt(20) == 0 ? 0 : (float) r.nextGaussian() * spread;
                long at = i * s.inStride() + j;
                switch (s.in()) {
                    case F32 -> in.set(ValueLayout.JAVA_FLOAT_UNALIGNED, at * 4, v);
                    case F16 -> {
                        short h = Float.floatToFloat16(v);
                        in.set(ValueLayout.JAVA_SHORT_UNALIGNED, at * 2, h);
                        v = Float.float16ToFloat(h);
                    }
                    default -> {
                        v = PlainQuantize.toBf16(v);
                        in.set(ValueLayout.JAVA_SHORT_UNALIGNED, at * 2, (short) (Float.floatToRawIntBits(v) >> 16));
                    }
                }
                x[i][j] = v;
            }
        }
        return x;
    }

    private static int codeAt(Spec s, byte[] codes, int row, int col) {
        long at = s.transposed() ? col * s.outStride() + row : row * s.outStride() + col;
        if (s.out().bits() == 8) {
            return s.out().signed() ? codes[(int) at] : codes[(int) at] & 255;
        }
        int nibble = codes[(int) (at / 2)] >> (at % 2 * 4) & 15;
        return s.out().signed() && nibble > 7 ? nibble - 16 : nibble;
    }

    @RandomTest
    void randomQuantizationsMatchTheOracleOnAnyThreadsAndDecode() {
        Random r = Effort.random();
        for (int n = 0; n < 400; n++) {
            Spec s = random(r);
            try (Arena arena = Arena.ofShared()) {
                // One byte off any alignment, as in a mapped model.
                MemorySegment in = arena.allocate(s.in().bytes(s.rows() * s.inStride()) + 1).asSlice(1);
                float[][] x = fill(s, in, r);
                PlainQuantize want = new PlainQuantize(s, x);
                Result got = run(s, in, one, arena);
                assertArrayEquals(want.scales, got.scales, s.toString());
                float[][] decoded = new float[(int) s.rows()][(int) s.cols()];
                double error = 0;
                int down = (int) ((s.rows() + s.groupRows() - 1) / s.groupRows());
                int across = (int) ((s.cols() + s.groupCols() - 1) / s.groupCols());
                for (int i = 0; i < s.rows(); i++) {
                    for (int j = 0; j < s.cols(); j++) {
                        assertEquals(want.codes[i][j], codeAt(s, got.codes, i, j), i + "," + j + " of " + s);
                        int gi = (int) (i / s.groupRows());
                        int gj = (int) (j / s.groupCols());
                        int at = s.transposed() ? gj * down + gi : gi * across + gj;
                        int zero = s.out().signed() ? got.zeros[at] : got.zeros[at] & 255;
                        assertEquals(want.zeros[at], zero, s.toString());
                        decoded[i][j] = (want.codes[i][j] - zero) * got.scales[at];
                        error += Math.pow((double) x[i][j] - decoded[i][j], 2);
                    }
                }
                Result threaded = run(s, in, three, arena);
                assertArrayEquals(got.codes, threaded.codes, s.toString());
                assertArrayEquals(got.scales, threaded.scales, s.toString());
                assertArrayEquals(got.zeros, threaded.zeros, s.toString());

                MemorySegment codes = arena.allocateFrom(ValueLayout.JAVA_BYTE, got.codes);
                MemorySegment scales = arena.allocateFrom(ValueLayout.JAVA_FLOAT, got.scales);
                MemorySegment zeros = arena.allocateFrom(ValueLayout.JAVA_BYTE, got.zeros);
                MemorySegment out = arena.allocate(4 * s.rows() * s.inStride(), 4);
                Quantize.dequantize(s, codes, scales, zeros, out, three);
                for (int i = 0; i < s.rows(); i++) {
                    for (int j = 0; j < s.cols(); j++) {
                        assertEquals(decoded[i][j], out.getAtIndex(ValueLayout.JAVA_FLOAT, i * s.inStride() + j));
                    }
                }
                MemorySegment lines = arena.allocate(Quantize.errorBytes(s), 8);
                Quantize.Error e = Quantize.error(s, in, codes, scales, zeros, lines, one);
                assertEquals(error, e.sumSquaredError(), 1e-9 * error, s.toString());
                assertEquals(e, Quantize.error(s, in, codes, scales, zeros, lines, three), s.toString());
            }
        }
    }

    @RandomTest
    void clipSearchNeverIncreasesTheErrorAndFindsTheGridsBest() {
        Random r = Effort.random();
        for (int n = 0; n < 60; n++) {
            Spec plain = random(r).range(Range.MINMAX);
            Spec search = plain.clip(12, 0.5f);
            try (Arena arena = Arena.ofShared()) {
                MemorySegment in = arena.allocate(plain.in().bytes(plain.rows() * plain.inStride()));
                float[][] x = fill(plain, in, r);
                double before = squaredError(plain, in, arena);
                double after = squaredError(search, in, arena);
                PlainQuantize oracle = new PlainQuantize(search, x);
                double best = 0;
                for (int i = 0; i < plain.rows(); i++) {
                    for (int j = 0; j < plain.cols(); j++) {
                        int down = (int) ((plain.rows() + plain.groupRows() - 1) / plain.groupRows());
                        int across = (int) ((plain.cols() + plain.groupCols() - 1) / plain.groupCols());
                        int gi = (int) (i / plain.groupRows());
                        int gj = (int) (j / plain.groupCols());
                        int at = plain.transposed() ? gj * down + gi : gi * across + gj;
                        best += Math.pow((double) x[i][j]
                                - (oracle.codes[i][j] - oracle.zeros[at]) * oracle.scales[at], 2);
                    }
                }
                assertTrue(after <= before * (1 + 1e-6), search + ": " + after + " > " + before);
                assertEquals(best, after, 1e-4 * best, search.toString());
            }
        }
    }

    private static double squaredError(Spec s, MemorySegment in, Arena arena) {
        Result q = run(s, in, three, arena);
        return Quantize.error(s, in, arena.allocateFrom(ValueLayout.JAVA_BYTE, q.codes),
                arena.allocateFrom(ValueLayout.JAVA_FLOAT, q.scales),
                arena.allocateFrom(ValueLayout.JAVA_BYTE, q.zeros), arena.allocate(Quantize.errorBytes(s), 8), one)
                .sumSquaredError();
    }

    private static Spec perRow(long rows, long cols) {
        return new Spec(rows, cols, cols, cols, 1, cols, DType.F32, DType.I8, DType.F32, -128, 127, Range.ABSMAX,
                Rounding.DIVIDE, false, false, 1, 1);
    }

    @Test
    void notANumberIsRefusedAndFound() {
        Spec s = perRow(3, 5);
        try (Arena arena = Arena.ofShared()) {
            MemorySegment in = arena.allocate(60, 4);
            in.setAtIndex(ValueLayout.JAVA_FLOAT, 12, Float.NaN);
            KernelException e = assertThrows(KernelException.class, () -> run(s, in, one, arena));
            assertTrue(e.getMessage().contains("TP_ERR_NONFINITE"), e.getMessage());
            assertEquals(12, Quantize.firstNonFinite(s, in));
            in.setAtIndex(ValueLayout.JAVA_FLOAT, 12, 1);
            assertEquals(-1, Quantize.firstNonFinite(s, in));
        }
    }

    @Test
    void segmentsAreCheckedBeforeAnyNativeCode() {
        Spec s = perRow(4, 4);
        try (Arena arena = Arena.ofShared()) {
            MemorySegment ok = arena.allocate(256, 64);
            MemorySegment small = arena.allocate(15, 64);
            MemorySegment heap = MemorySegment.ofArray(new byte[256]);
            MemorySegment none = MemorySegment.NULL;
            assertThrows(IllegalArgumentException.class, () -> Quantize.quantize(s, small, ok, ok, none, one));
            assertThrows(IllegalArgumentException.class, () -> Quantize.quantize(s, ok, small, ok, none, one));
            assertThrows(IllegalArgumentException.class, () -> Quantize.quantize(s, ok, ok, small, none, one));
            assertThrows(IllegalArgumentException.class, () -> Quantize.quantize(s, heap, ok, ok, none, one));
            assertThrows(IllegalArgumentException.class, () -> Quantize.dequantize(s, ok, ok, none, small, one));
            arena.close();
            assertThrows(IllegalStateException.class, () -> Quantize.quantize(s, ok, ok, ok, none, one));
        } catch (IllegalStateException alreadyClosed) {
            assertTrue(alreadyClosed.getMessage().contains("closed"), alreadyClosed.getMessage());
        }
    }

    @RandomTest
    void nibblesRoundTripAndConversionsAgreeWithJava() {
        Random r = Effort.random();
        try (Arena arena = Arena.ofConfined()) {
            for (int n = 0; n < 70; n++) {
                byte[] codes = new byte[n];
                for (int i = 0; i < n; i++) {
                    codes[i] = (byte) (r.nextInt(16) - 8);
                }
                MemorySegment packed = arena.allocate(n / 2 + 1);
                MemorySegment back = arena.allocate(n + 1);
                Quantize.pack4(arena.allocateFrom(ValueLayout.JAVA_BYTE, codes), n, packed);
                Quantize.unpack4(DType.I4, packed, n, back);
                assertArrayEquals(codes, back.asSlice(0, n).toArray(ValueLayout.JAVA_BYTE));
            }
            int n = 1 << 16;
            MemorySegment half = arena.allocate(2L * n, 2);
            for (int i = 0; i < n; i++) {
                half.setAtIndex(ValueLayout.JAVA_SHORT, i, (short) i);
            }
            MemorySegment wide = arena.allocate(4L * n, 4);
            Quantize.convert(DType.F16, half, n, DType.F32, wide);
            for (int i = 0; i < n; i++) {
                float want = Float.float16ToFloat((short) i);
                float got = wide.getAtIndex(ValueLayout.JAVA_FLOAT, i);
                assertTrue(Float.floatToIntBits(want) == Float.floatToIntBits(got), i + ": " + want + " " + got);
            }
            for (int i = 0; i < n; i++) {
                wide.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) (r.nextGaussian() * Math.pow(2, r.nextInt(44) - 26)));
            }
            Quantize.convert(DType.F32, wide, n, DType.F16, half);
            for (int i = 0; i < n; i++) {
                float v = wide.getAtIndex(ValueLayout.JAVA_FLOAT, i);
                assertEquals(Float.floatToFloat16(v), half.getAtIndex(ValueLayout.JAVA_SHORT, i), Float.toString(v));
            }
            Quantize.convert(DType.F32, wide, n, DType.BF16, half);
            for (int i = 0; i < n; i++) {
                float v = wide.getAtIndex(ValueLayout.JAVA_FLOAT, i);
                assertEquals((short) (Float.floatToRawIntBits(PlainQuantize.toBf16(v)) >> 16),
                        half.getAtIndex(ValueLayout.JAVA_SHORT, i), Float.toString(v));
            }
        }
    }

    @Test
    void emptyMatricesAreFine() {
        try (Arena arena = Arena.ofShared()) {
            MemorySegment any = arena.allocate(64, 64);
            for (long[] size : new long[][] {{0, 0}, {0, 5}, {5, 0}}) {
                Spec s = perRow(size[0], Math.max(size[1], 1));
                Spec sized = new Spec(size[0], size[1], s.inStride(), s.outStride(), 1, s.groupCols(), s.in(), s.out(),
                        s.scale(), -128, 127, Range.ABSMAX, Rounding.DIVIDE, false, false, 1, 1);
                Quantize.quantize(sized, any, any, any, any, three);
                assertEquals(new Quantize.Error(0, 0, 0), Quantize.error(sized, any, any, any, any,
                        arena.allocate(Quantize.errorBytes(sized) + 8, 8), three));
            }
        }
    }
}
