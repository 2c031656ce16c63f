package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import dev.tensorpress.kernel.Sparse.Layout;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Random;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Sparse products as Java calls them, against loops over the dense matrices. Tiers are compared in the native tests. */
class SpmmTest {
    private static Executor[] executor;
    private final Random random = Effort.random();

    @BeforeAll
    static void open() {
        executor = new Executor[] {Executor.cpu(1), Executor.cpu(2), Executor.cpu(3), Executor.cpu(8)};
    }

    @AfterAll
    static void close() {
        for (Executor w : executor) {
            w.close();
        }
    }

    /** A layout, and the blocks it has. */
    enum Way {
        CSR16(Layout.CSR16, 0), CSR32(Layout.CSR32, 0), BSR4(Layout.BSR, 4), BSR8(Layout.BSR, 8), NM24(Layout.NM24, 0);

        final Layout layout;
        final int block;

        Way(Layout layout, int block) {
            this.layout = layout;
            this.block = block;
        }
    }

    /** A matrix as plain numbers, which f32 and int8 hold exactly if it says so, and off the heap. */
    private record Dense(DType type, int rows, int cols, double[] x, MemorySegment data) {}

    /** @param share of elements that are not zero */
    private Dense dense(DType type, int rows, int cols, double share, boolean pairs, Arena arena) {
        Dense d = new Dense(type, rows, cols, new double[rows * cols],
                arena.allocate(Math.max(1, type.bytes((long) rows * cols)), 64));
        for (int r = 0; r < rows; r++) {
            int inGroup = 0;
            for (int c = 0; c < cols; c++) {
                inGroup = c % 4 == 0 ? 0 : inGroup;
                if (random.nextDouble() >= share || pairs && inGroup == 2) {
                    continue;
                }
                inGroup++;
                set(d, r * cols + c);
            }
        }
        return d;
    }

    private void set(Dense d, int i) {
        if (d.type == DType.F32) {
            float v = (float) random.nextGaussian();
            d.x[i] = v;
            d.data.setAtIndex(JAVA_FLOAT, i, v);
        } else {
            byte v = (byte) random.nextInt(-128, 128);
            d.x[i] = v;
            d.data.set(JAVA_BYTE, i, v);
        }
    }

    private static double result(Dense a, MemorySegment out, long i) {
        return a.type == DType.F32 ? out.getAtIndex(JAVA_FLOAT, i) : out.getAtIndex(JAVA_INT, i);
    }

    /** Compares with plain sums: int8 exactly, f32 within the bound of the header. */
    private static void check(Dense a, Dense b, boolean transposed, MemorySegment out, String what) {
        int rows = transposed ? a.cols : a.rows;
        int length = transposed ? a.rows : a.cols;
        for (int r = 0; r < rows; r++) {
            for (int c = 0; c < b.cols; c++) {
                double sum = 0;
                double magnitude = 0;
                for (int k = 0; k < length; k++) {
                    double p = a.x[transposed ? k * a.cols + r : r * a.cols + k] * b.x[k * b.cols + c];
                    sum += p;
                    magnitude += Math.abs(p);
                }
                double bound = a.type == DType.F32 ? length * 0x1p-24 / (1 - length * 0x1p-24) * magnitude : 0;
                assertEquals(sum, result(a, out, (long) r * b.cols + c), bound, what + ", row " + r + ", column " + c);
            }
        }
    }

    private static MemorySegment product(SparseMatrix a, Dense b, boolean transposed, Executor w, Arena arena) {
        MemorySegment out = arena.allocate(Math.max(4, 4 * (transposed ? a.cols() : a.rows()) * b.cols), 64);
        out.fill((byte) 0x7f);
        if (transposed) {
            Spmm.multiplyTransposed(a, b.cols, b.data, out, w);
        } else {
            Spmm.multiply(a, b.cols, b.data, out, w);
        }
        return out;
    }

    /** Each number of threads gives the same bits. */
    private static void compare(SparseMatrix sparse, Dense a, Dense b, boolean transposed, String what, boolean oracle) {
        try (Arena arena = Arena.ofShared()) {
            MemorySegment one = product(sparse, b, transposed, executor[0], arena);
            if (oracle) {
                check(a, b, transposed, one, what);
            }
            for (int i = 1; i < executor.length; i++) {
                assertEquals(-1, one.mismatch(product(sparse, b, transposed, executor[i], arena)),
                        what + ", " + executor[i].threads() + " threads");
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void everyLayoutIsTheDenseProduct(Way way) {
        for (DType type : new DType[] {DType.F32, DType.I8}) {
            for (int[] size : new int[][] {{1, 1, 1}, {67, 130, 1}, {64, 128, 16}, {33, 257, 35}, {300, 200, 65}}) {
                for (double share : new double[] {0, 0.02, 0.3, 1}) {
                    try (Arena arena = Arena.ofShared()) {
                        Dense a = dense(type, size[0], size[1], share, way == Way.NM24, arena);
                        Dense b = dense(type, size[1], size[2], 1, false, arena);
                        SparseMatrix s = Sparse.pack(type, a.rows, a.cols, a.data, way.layout, way.block, arena, executor[0]);
                        compare(s, a, b, false, way + " " + type + " " + size[0] + "x" + size[1] + "x" + size[2], true);
                    }
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"CSR16", "CSR32"})
    void transposedIsTheDenseProduct(Way way) {
        for (DType type : new DType[] {DType.F32, DType.I8}) {
            // Shared by rows, in one and in several chunks, and by columns, the last share a narrow one.
            for (int[] size : new int[][] {{1, 1, 1}, {70, 130, 1}, {700, 600, 3}, {40, 90, (int) Spmm.WIDE}, {40, 90, 100}}) {
                for (double share : new double[] {0, 0.02, 0.4}) {
                    try (Arena arena = Arena.ofShared()) {
                        Dense a = dense(type, size[0], size[1], share, false, arena);
                        Dense b = dense(type, size[0], size[2], 1, false, arena);
                        SparseMatrix s = Sparse.pack(type, a.rows, a.cols, a.data, way.layout, 0, arena, executor[0]);
                        compare(s, a, b, true, way + " " + type + " " + size[0] + "x" + size[1] + "x" + size[2], true);
                    }
                }
            }
        }
    }

    /** Threads share a line of several segments; the others lie around it, and some are empty. */
    @ParameterizedTest
    @EnumSource(names = {"CSR16", "CSR32", "BSR4"})
    void heavyLinesAreSharedWithoutChangingTheResult(Way way) {
        int unit = Math.max(1, way.block);
        int rows = 12 * unit - unit / 2; // the last row of blocks is not whole
        int cols = (int) (2.6 * Spmm.SEGMENT) * unit;
        for (DType type : new DType[] {DType.F32, DType.I8}) {
            for (int[] heavy : new int[][] {{0}, {5}, {11}, {4, 5}}) {
                try (Arena arena = Arena.ofShared()) {
                    Dense a = dense(type, rows, cols, 0.001, false, arena);
                    for (int line : heavy) {
                        for (int c = 0; c < cols; c++) {
                            set(a, line * unit * cols + c);
                        }
                    }
                    Dense b = dense(type, cols, 9, 1, false, arena);
                    SparseMatrix s = Sparse.pack(type, rows, cols, a.data, way.layout, way.block, arena, executor[0]);
                    long units = s.offsets().getAtIndex(JAVA_LONG, heavy[0] + 1) - s.offsets().getAtIndex(JAVA_LONG, heavy[0]);
                    assertTrue(units > Math.max(2 * Spmm.SEGMENT, s.units() / 8));
                    compare(s, a, b, false, way + " " + type + ", heavy " + heavy[0], true);
                }
            }
        }
    }

    @Test
    void emptyMatrices() {
        for (int[] size : new int[][] {{0, 5, 3}, {5, 0, 3}, {5, 5, 0}}) {
            for (Way way : Way.values()) {
                try (Arena arena = Arena.ofShared()) {
                    Dense a = dense(DType.F32, size[0], size[1], 0.3, true, arena);
                    Dense b = dense(DType.F32, size[1], size[2], 1, false, arena);
                    SparseMatrix s = Sparse.pack(DType.F32, a.rows, a.cols, a.data, way.layout, way.block, arena, executor[1]);
                    compare(s, a, b, false, way.name(), true);
                    if (way.layout == Layout.CSR16) {
                        compare(s, a, dense(DType.F32, size[0], size[2], 1, false, arena), true, way.name(), true);
                    }
                }
            }
        }
    }

    @Test
    void badArgumentsAreRefused() {
        try (Arena arena = Arena.ofShared()) {
            Dense d = dense(DType.F32, 8, 8, 0.3, true, arena);
            SparseMatrix a = pack(d, Layout.CSR16, 0, arena);
            MemorySegment b = arena.allocate(8 * 3 * 4, 4);
            MemorySegment out = arena.allocate(8 * 3 * 4, 4);
            refused(a, -1, b, out);
            refused(a, 4, b, out);
            refused(a, 3, b.asSlice(4), out);
            refused(a, 3, b, out.asSlice(4));
            refused(a, 2, b.asSlice(1), out);
            refused(a, 2, b, out.asSlice(2));
            refused(a, 3, MemorySegment.ofArray(new float[24]), out);
            refused(a, 3, b, MemorySegment.ofArray(new float[24]));
            refused(a, 3, b, b);
            assertThrows(IllegalArgumentException.class, () -> Spmm.multiply(a, Long.MAX_VALUE / 2, b, out, executor[0]));
            refused(pack(d, Layout.BITMASK, 0, arena), 3, b, out);
            for (Layout layout : new Layout[] {Layout.BSR, Layout.NM24}) {
                SparseMatrix other = pack(d, layout, layout == Layout.BSR ? 4 : 0, arena);
                assertThrows(IllegalArgumentException.class, () -> Spmm.multiplyTransposed(other, 3, b, out, executor[0]));
            }
            SparseMatrix half = Sparse.pack(DType.F16, 8, 8, d.data, Layout.CSR32, 0, arena, executor[0]);
            refused(half, 3, b, out);
        }
    }

    @Test
    void nothingIsWrittenOverTheArraysOfTheMatrix() {
        try (Arena arena = Arena.ofShared()) {
            MemorySegment offsets = arena.allocate(16, 8);
            offsets.setAtIndex(JAVA_LONG, 1, 4);
            MemorySegment columns = arena.allocate(16, 8);
            for (int i = 0; i < 4; i++) {
                columns.setAtIndex(JAVA_INT, i, i);
            }
            MemorySegment values = arena.allocate(16, 8);
            SparseMatrix a = SparseMatrix.of(Layout.CSR32, DType.F32, 1, 4, 0, 4, offsets, columns, values, arena, executor[0]);
            MemorySegment b = arena.allocate(16, 8);
            for (MemorySegment array : new MemorySegment[] {offsets, columns, values}) {
                assertThrows(IllegalArgumentException.class, () -> Spmm.multiply(a, 1, b, array, executor[0]));
                assertThrows(IllegalArgumentException.class, () -> Spmm.multiplyTransposed(a, 1, b, array, executor[0]));
                assertThrows(IllegalArgumentException.class, () -> Sparse.unpack(a, array, executor[0]));
            }
        }
    }

    @Test
    void productsAreMadeByTheExecutor() {
        for (Way way : Way.values()) {
            try (Arena arena = Arena.ofShared()) {
                SparseMatrix a = pack(dense(DType.F32, 8, 8, 0.3, true, arena), way.layout, way.block, arena);
                MemorySegment b = arena.allocate(8 * 4, 4);
                MemorySegment out = arena.allocate(8 * 4, 4);
                Executor closed = Executor.cpu(1);
                closed.close();
                assertThrows(IllegalStateException.class, () -> Spmm.multiply(a, 1, b, out, closed));
            }
        }
    }

    private static SparseMatrix pack(Dense d, Layout layout, int block, Arena arena) {
        return Sparse.pack(d.type, d.rows, d.cols, d.data, layout, block, arena, executor[0]);
    }

    private static void refused(SparseMatrix a, long n, MemorySegment b, MemorySegment out) {
        assertThrows(IllegalArgumentException.class, () -> Spmm.multiply(a, n, b, out, executor[0]));
        if (a.layout() == Layout.CSR16) {
            assertThrows(IllegalArgumentException.class, () -> Spmm.multiplyTransposed(a, n, b, out, executor[0]));
        }
    }
}
