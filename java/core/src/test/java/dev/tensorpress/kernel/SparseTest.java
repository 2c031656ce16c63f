package dev.tensorpress.kernel;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import dev.tensorpress.Effort.RandomTest;
import dev.tensorpress.kernel.Sparse.Layout;
import dev.tensorpress.kernel.Sparse.Pick;
import dev.tensorpress.kernel.Sparse.Sizes;
import dev.tensorpress.kernel.Sparse.Survey;
import dev.tensorpress.tensor.DType;
import java.io.ByteArrayOutputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** Against the layouts of {@code tensorpress/sparse.h} in plain Java. */
final class SparseTest {
    private static final DType[] TYPES = {DType.F32, DType.F16, DType.BF16, DType.I8, DType.U8};

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

    /** A matrix, by the bits of its elements. */
    private record Dense(DType type, int rows, int cols, int[] bits) {
        int at(int r, int c) {
            return r < rows && c < cols ? bits[r * cols + c] : 0;
        }

        byte[] bytes() {
            Bytes b = new Bytes();
            for (int v : bits) {
                b.put(v, type.bits() / 8);
            }
            return b.toByteArray();
        }

        /** One byte off any alignment, as in a mapped model. */
        MemorySegment in(Arena arena) {
            byte[] b = bytes();
            MemorySegment m = arena.allocate(b.length + 1).asSlice(1);
            m.copyFrom(MemorySegment.ofArray(b));
            return m;
        }
    }

    private static final class Bytes extends ByteArrayOutputStream {
        void put(long v, int size) {
            for (int i = 0; i < size; i++) {
                write((int) (v >>> 8 * i));
            }
        }
    }

    /** The three arrays, element by element. */
    private static final class Oracle {
        final Bytes offsets = new Bytes();
        final Bytes indices = new Bytes();
        final Bytes values = new Bytes();
        boolean fits = true;
        long units;

        Oracle(Dense m, Layout layout, int block) {
            int size = m.type.bits() / 8;
            offsets.put(0, 8);
            int side = Math.max(1, block);
            for (int r = 0; r < m.rows; r += side) {
                switch (layout) {
                    case CSR16, CSR32 -> row(m, r, layout, size);
                    case BSR -> blocks(m, r, side, size);
                    case BITMASK -> mask(m, r, size);
                    case NM24 -> groups(m, r, size);
                }
                offsets.put(units, 8);
            }
            if (layout == Layout.NM24) {
                offsets.reset();
            }
        }

        private void row(Dense m, int r, Layout layout, int size) {
            int before = 0;
            for (int c = 0; c < m.cols; c++) {
                if (m.at(r, c) != 0) {
                    fits &= layout == Layout.CSR32 || c - before <= 65535;
                    indices.put(layout == Layout.CSR16 ? c - before : c, layout.indexBytes());
                    values.put(m.at(r, c), size);
                    before = c;
                    units++;
                }
            }
        }

        private void blocks(Dense m, int top, int side, int size) {
            for (int left = 0; left < m.cols; left += side) {
                boolean any = false;
                for (int i = 0; i < side * side; i++) {
                    any |= m.at(top + i / side, left + i % side) != 0;
                }
                if (any) {
                    indices.put(left / side, 4);
                    for (int i = 0; i < side * side; i++) {
                        values.put(m.at(top + i / side, left + i % side), size);
                    }
                    units++;
                }
            }
        }

        private void mask(Dense m, int r, int size) {
            for (int c = 0; c < m.cols; c += 8) {
                int bits = 0;
                for (int i = 0; i < 8; i++) {
                    if (m.at(r, c + i) != 0) {
                        bits |= 1 << i;
                        values.put(m.at(r, c + i), size);
                        units++;
                    }
                }
                indices.put(bits, 1);
            }
        }

        private void groups(Dense m, int r, int size) {
            int groups = (m.cols + 3) / 4;
            int pending = 0;
            for (int g = 0; g < groups; g++) {
                List<Integer> taken = new ArrayList<>();
                for (int i = 0; i < 4; i++) {
                    if (m.at(r, 4 * g + i) != 0) {
                        taken.add(i);
                    }
                }
                fits &= taken.size() <= 2;
                for (int i = 0; taken.size() < 2; i++) {
                    if (!taken.contains(i)) {
                        taken.add(i);
                    }
                }
                taken.sort(null);
                int nibble = taken.get(0) | taken.get(1) << 2;
                values.put(m.at(r, 4 * g + taken.get(0)), size);
                values.put(m.at(r, 4 * g + taken.get(1)), size);
                units += 2;
                if (g % 2 == 1 || g == groups - 1) {
                    indices.put(g % 2 == 1 ? pending | nibble << 4 : nibble, 1);
                }
                pending = nibble;
            }
        }

        long stored(Layout layout) {
            return (layout == Layout.BITMASK ? 0 : offsets.size()) + indices.size() + values.size();
        }
    }

    private static Dense random(Random r) {
        int rows = r.nextInt(40);
        int cols = r.nextInt(150);
        int density = r.nextInt(4) == 0 ? r.nextInt(101) : r.nextInt(30);
        boolean pairs = r.nextInt(3) == 0;
        DType type = TYPES[r.nextInt(TYPES.length)];
        int mask = (int) ((1L << type.bits()) - 1);
        int[] bits = new int[rows * cols];
        for (int i = 0; i < bits.length; i++) {
            int group = i % Math.max(1, cols) / 4 * 4;
            boolean full = pairs && i % Math.max(1, cols) - group >= 2;
            if (!full && r.nextInt(100) < density) {
                // Also the sign bit alone, -0.
                bits[i] = r.nextInt(8) == 0 ? 1 << type.bits() - 1 : r.nextInt() & mask;
            }
        }
        return new Dense(type, rows, cols, bits);
    }

    private record Way(Layout layout, int block) {}

    private static final List<Way> WAYS = List.of(new Way(Layout.CSR16, 0), new Way(Layout.CSR32, 0),
            new Way(Layout.BSR, 4), new Way(Layout.BSR, 8), new Way(Layout.BSR, 3), new Way(Layout.BITMASK, 0),
            new Way(Layout.NM24, 0));

    private static byte[] bytes(MemorySegment m) {
        return m.equals(MemorySegment.NULL) ? new byte[0] : m.toArray(ValueLayout.JAVA_BYTE);
    }

    @RandomTest
    void everyLayoutHoldsWhatTheOracleHoldsAndRestoresIt() {
        Random r = Effort.random();
        for (int n = 0; n < 400; n++) {
            Dense d = random(r);
            try (Arena arena = Arena.ofShared()) {
                MemorySegment in = d.in(arena);
                for (Way w : WAYS) {
                    String what = d.rows + " x " + d.cols + " " + d.type + " " + w;
                    Oracle want = new Oracle(d, w.layout, w.block);
                    if (!want.fits) {
                        KernelException e = assertThrows(KernelException.class, () -> Sparse.pack(d.type, d.rows, d.cols,
                                in, w.layout, w.block, arena, three), what);
                        assertEquals(KernelException.LAYOUT, e.status());
                        continue;
                    }
                    for (Executor executor : List.of(one, three)) {
                        SparseMatrix m = Sparse.pack(d.type, d.rows, d.cols, in, w.layout, w.block, arena, executor);
                        assertArrayEquals(want.offsets.toByteArray(), bytes(m.offsets()), what);
                        assertArrayEquals(want.indices.toByteArray(), bytes(m.indices()), what);
                        assertArrayEquals(want.values.toByteArray(), bytes(m.values()), what);
                        assertEquals(want.units, m.units());
                        Sizes s = Sparse.sizes(w.layout, d.type, d.rows, d.cols, w.block, want.units);
                        assertEquals(want.stored(w.layout), s.stored(w.layout), what);
                        MemorySegment offsets = w.layout == Layout.BITMASK ? MemorySegment.NULL : m.offsets();
                        SparseMatrix again = SparseMatrix.of(w.layout, d.type, d.rows, d.cols, w.block, m.units(),
                                offsets, m.indices(), m.values(), arena, executor);
                        MemorySegment out = arena.allocate(in.byteSize(), 64).fill((byte) 0x55);
                        Sparse.unpack(again, out, executor);
                        assertArrayEquals(d.bytes(), bytes(out), what);
                        long row = d.type.bytes(d.cols);
                        long step = 1 + r.nextInt(9);
                        int side = Math.max(1, w.block);
                        for (long l = 0; l < again.lines(); l += step) {
                            long end = Math.min(again.lines(), l + step);
                            long rows = Math.min(d.rows, end * side) - l * side;
                            MemorySegment piece = arena.allocate(rows * row + 1, 64).fill((byte) 0x55);
                            Sparse.unpack(again, l, end, piece.asSlice(0, rows * row), executor);
                            assertEquals(-1, out.asSlice(l * side * row, rows * row).mismatch(piece.asSlice(0, rows * row)),
                                    what);
                            assertEquals(0x55, piece.get(ValueLayout.JAVA_BYTE, rows * row));
                        }
                    }
                }
            }
        }
    }

    @RandomTest
    void theSmallestIsTheSmallestAndSaysWhy() {
        Random r = Effort.random();
        for (int n = 0; n < 400; n++) {
            Dense d = random(r);
            try (Arena arena = Arena.ofShared()) {
                MemorySegment in = d.in(arena);
                Survey s = Sparse.survey(d.type, d.rows, d.cols, in, one);
                assertEquals(s, Sparse.survey(d.type, d.rows, d.cols, in, three));
                Pick pick = Sparse.smallest(d.type, d.rows, d.cols, s);
                long dense = d.bytes().length;
                long least = dense;
                for (Way w : WAYS) {
                    Oracle o = new Oracle(d, w.layout, w.block);
                    String name = w.layout.id() + (w.block == 0 ? "" : " " + w.block + "x" + w.block);
                    if (o.fits && w.block != 3) {
                        least = Math.min(least, o.stored(w.layout));
                        assertTrue(pick.reason().contains(name + " " + o.stored(w.layout)), name + ": " + pick.reason());
                    } else if (w.block != 3) {
                        assertTrue(pick.reason().contains(name + " does not fit"), pick.reason());
                    }
                }
                assertEquals(least, pick.bytes(), pick.reason());
                assertTrue(pick.reason().contains("dense " + dense), pick.reason());
                if (pick.layout() == null) {
                    assertEquals(dense, pick.bytes());
                } else {
                    assertTrue(pick.bytes() < dense);
                    SparseMatrix m = Sparse.pack(d.type, d.rows, d.cols, in, pick.layout(), pick.block(), arena, one);
                    assertEquals(pick.units(), m.units());
                    assertEquals(pick.bytes(), m.bytes() - (pick.layout() == Layout.BITMASK ? m.offsets().byteSize() : 0));
                }
            }
        }
    }

    @Test
    void eachLayoutHasMatricesThatItSuitsBest() {
        // By row and column: which elements are not zero.
        suits(null, 0, 64, (row, c) -> true);
        suits(Layout.NM24, 0, 64, (r, c) -> c % 4 < 2);
        suits(Layout.BITMASK, 0, 64, (r, c) -> c % 4 < 3);
        suits(Layout.CSR16, 0, 4096, (r, c) -> c % 512 == 0);
        suits(Layout.CSR32, 0, 300_000, (r, c) -> c == 299_999);
        suits(Layout.BSR, 4, 4096, (r, c) -> c / 4 % 8 == 0);
        suits(Layout.BSR, 8, 4096, (r, c) -> c / 8 % 8 == 0);
    }

    private interface Where {
        boolean stored(int r, int c);
    }

    private static void suits(Layout layout, int block, int cols, Where where) {
        int rows = 16;
        try (Arena arena = Arena.ofShared()) {
            MemorySegment in = arena.allocate(4L * rows * cols, 4);
            for (int r = 0; r < rows; r++) {
                for (int c = 0; c < cols; c++) {
                    in.setAtIndex(ValueLayout.JAVA_INT, (long) r * cols + c, where.stored(r, c) ? 1 : 0);
                }
            }
            Pick pick = Sparse.smallest(DType.F32, rows, cols, Sparse.survey(DType.F32, rows, cols, in, three));
            assertEquals(layout, pick.layout(), pick.reason());
            assertEquals(block, pick.block(), pick.reason());
        }
    }

    @Test
    void wideGapsRuleOutNarrowDistances() {
        try (Arena arena = Arena.ofShared()) {
            int cols = 1 << 20;
            MemorySegment in = arena.allocate(4L * cols, 4);
            in.setAtIndex(ValueLayout.JAVA_INT, 70_000, 1);
            Survey s = Sparse.survey(DType.F32, 1, cols, in, one);
            assertEquals(70_000, s.widest());
            Pick pick = Sparse.smallest(DType.F32, 1, cols, s);
            assertEquals(Layout.CSR32, pick.layout());
            assertTrue(pick.reason().contains("csr16 does not fit: a gap is 70000 wide"), pick.reason());
        }
    }

    /** Sizes are computed in 64 bits and refused beyond, never wrapped. */
    @Test
    void moreUnitsThanAnIntAreCounted() {
        long units = 3L << 31;
        Sizes s = Sparse.sizes(Layout.CSR32, DType.F32, 1L << 20, 1L << 20, 0, units);
        assertEquals(((1L << 20) + 1) * 8 + units * 8, s.total());
        assertThrows(IllegalArgumentException.class,
                () -> Sparse.sizes(Layout.CSR32, DType.F32, 1L << 31, 1L << 31, 0, 1L << 62));
        assertThrows(IllegalArgumentException.class, () -> Sparse.sizes(Layout.CSR32, DType.F32, 4, 1L << 32, 0, 1));
        assertThrows(IllegalArgumentException.class, () -> Sparse.sizes(Layout.BSR, DType.F32, 4, 4, 65, 1));
        assertThrows(IllegalArgumentException.class, () -> Sparse.sizes(Layout.CSR32, DType.F32, 4, 4, 0, -1));
    }

    private static MemorySegment copy(MemorySegment segment, Arena arena) {
        return arena.allocate(Math.max(1, segment.byteSize()), 8).asSlice(0, segment.byteSize()).copyFrom(segment);
    }

    @RandomTest
    void arraysFromOutsideAreChecked() {
        Random r = Effort.random();
        int refused = 0;
        for (int n = 0; n < 3000; n++) {
            Dense d = random(r);
            Way w = WAYS.get(r.nextInt(WAYS.size()));
            if (!new Oracle(d, w.layout, w.block).fits) {
                continue;
            }
            try (Arena arena = Arena.ofShared()) {
                SparseMatrix m = Sparse.pack(d.type, d.rows, d.cols, d.in(arena), w.layout, w.block, arena, one);
                boolean first = r.nextBoolean() && m.layout() != Layout.NM24;
                MemorySegment hit = copy(first ? m.offsets() : m.indices(), arena);
                if (hit.byteSize() == 0) {
                    continue;
                }
                long at = r.nextLong(hit.byteSize());
                byte old = hit.get(ValueLayout.JAVA_BYTE, at);
                hit.set(ValueLayout.JAVA_BYTE, at, (byte) (old ^ 1 << r.nextInt(8)));
                MemorySegment offsets = w.layout == Layout.BITMASK && r.nextBoolean() ? MemorySegment.NULL
                        : first ? hit : m.offsets();
                MemorySegment out = arena.allocate(d.type.bytes((long) d.rows * d.cols) + 1);
                try {
                    Sparse.unpack(SparseMatrix.of(w.layout, d.type, d.rows, d.cols, w.block, m.units(), offsets,
                            first ? m.indices() : hit, m.values(), arena, three), out, one);
                } catch (SparseFormatException e) {
                    assertTrue(e.line() < Math.max(1, d.rows), e.getMessage());
                    assertNotNull(e.getMessage());
                    refused++;
                }
            }
        }
        assertTrue(refused > 500, refused + " were refused");
    }

    @Test
    void noLinesAreRestoredToNothing() {
        try (Arena arena = Arena.ofShared()) {
            MemorySegment in = arena.allocate(5 * 8 * 4, 64);
            for (Layout layout : Layout.values()) {
                SparseMatrix m = Sparse.pack(DType.F32, 5, 8, in, layout, layout == Layout.BSR ? 4 : 0, arena, one);
                for (long line = 0; line <= m.lines(); line++) {
                    Sparse.unpack(m, line, line, MemorySegment.NULL, one);
                }
            }
        }
    }

    @Test
    void offsetsThatAreCountedAreOpenToAllThreads() {
        try (Arena confined = Arena.ofConfined(); Arena arena = Arena.ofShared(); Executor two = Executor.cpu(2)) {
            MemorySegment masks = arena.allocate(4);
            assertThrows(IllegalArgumentException.class, () -> SparseMatrix.of(Layout.BITMASK, DType.F32, 4, 8, 0, 0, MemorySegment.NULL,
                    masks, MemorySegment.NULL, confined, two));
        }
    }

    @Test
    void segmentsAreCheckedBeforeAnyNativeCode() {
        try (Arena arena = Arena.ofShared()) {
            MemorySegment ok = arena.allocate(256, 64);
            MemorySegment small = arena.allocate(63, 64);
            MemorySegment heap = MemorySegment.ofArray(new byte[256]);
            for (MemorySegment bad : List.of(small, heap)) {
                assertThrows(IllegalArgumentException.class, () -> Sparse.survey(DType.F32, 4, 4, bad, one));
                assertThrows(IllegalArgumentException.class,
                        () -> Sparse.pack(DType.F32, 4, 4, bad, Layout.CSR32, 0, arena, one));
            }
            assertThrows(IllegalArgumentException.class, () -> Sparse.survey(DType.F64, 4, 4, ok, one));
            assertThrows(IllegalArgumentException.class, () -> Sparse.survey(DType.F32, -4, 4, ok, one));
            SparseMatrix m = Sparse.pack(DType.F32, 4, 4, ok, Layout.CSR32, 0, arena, one);
            assertThrows(IllegalArgumentException.class, () -> Sparse.unpack(m, small, one));
            MemorySegment offsets = arena.allocate(48, 8);
            assertThrows(IllegalArgumentException.class, () -> SparseMatrix.of(Layout.CSR32, DType.F32, 4, 4, 0, 0,
                    offsets.asSlice(4, 40), MemorySegment.ofAddress(8), MemorySegment.ofAddress(8), arena, one));
            assertThrows(SparseFormatException.class, () -> SparseMatrix.of(Layout.CSR32, DType.F32, 4, 4, 0, 1,
                    offsets.asSlice(0, 40), ok, ok, arena, one));
            assertThrows(SparseFormatException.class, () -> SparseMatrix.of(Layout.NM24, DType.U8, 4, 4, 0, 7,
                    MemorySegment.NULL, arena.allocate(4), arena.allocate(8), arena, one));
            assertThrows(IllegalArgumentException.class, () -> Sparse.unpack(m, 2, 5, ok, one));
            Pick pick = Sparse.smallest(DType.F32, 0, 0, new Survey(0, 0, 0, 0, 0));
            assertNull(pick.layout());
        }
    }
}
