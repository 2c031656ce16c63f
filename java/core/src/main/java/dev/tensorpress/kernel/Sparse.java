package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_sparse;
import dev.tensorpress.bindings.tp_survey;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * Kernel family {@code sparse}: what is left of a pruned matrix, stored without its zeros and restored bit for bit. An
 * element counts as zero if no bit of it is set: -0 and NaN are stored. Here arguments are checked and work is spread
 * over threads; layouts are documented once, in {@code tensorpress/sparse.h}.
 *
 * <p>Dense matrices are contiguous, f32, f16, bf16, i8 or u8, and off-heap or of a {@link DeviceMemory}. Results do not depend on the number
 * of threads, on the processor, or on the device. Failures of a kernel are {@link KernelException}s.
 */
public final class Sparse {
    /** The survey looks at blocks of up to this many rows. */
    private static final int SURVEY_ROWS = 8;
    private static final long WIDEST = 0xffff;

    static {
        dev.tensorpress.internal.NativeLibrary.load();
    }

    private Sparse() {}

    /** {@code TP_SPARSE_*}. */
    public enum Layout {
        /** Rows of elements, each with its distance to the one before. */
        CSR16(1, 2),
        /** Rows of elements, each with its column. */
        CSR32(2, 4),
        /** Rows of square blocks, each with its column. */
        BSR(3, 4),
        /** A bit for each element. */
        BITMASK(4, 1),
        /** Two of each four elements of a row. */
        NM24(5, 1);

        final int id;
        private final int indexBytes;

        Layout(int id, int indexBytes) {
            this.id = id;
            this.indexBytes = indexBytes;
        }

        /** Lower case, as in files. */
        public String id() {
            return name().toLowerCase(Locale.ROOT);
        }

        /** Bytes of one entry of the indices. */
        public int indexBytes() {
            return indexBytes;
        }
    }

    /**
     * {@code tp_survey}: what decides which layouts a matrix fits and how large they are.
     *
     * @param entries elements with a bit set
     * @param widest largest distance between them within a row, that of the first one being its column
     * @param overfull groups of four columns with more than two
     * @param blocks4x4 blocks of 4 x 4 and of 8 x 8 with at least one
     */
    public record Survey(long entries, long widest, long overfull, long blocks4x4, long blocks8x8) {}

    /** Bytes of the three arrays. */
    public record Sizes(long offsets, long indices, long values) {
        public long total() {
            return Math.addExact(Math.addExact(offsets, indices), values);
        }

        /** Bytes in a file: offsets of {@link Layout#BITMASK} can be counted from the bits, so that they are left out. */
        public long stored(Layout layout) {
            return layout == Layout.BITMASK ? Math.addExact(indices, values) : total();
        }
    }

    /**
     * The layout that takes the fewest bytes in a file.
     *
     * @param layout null if the matrix is best kept dense
     * @param block side of the blocks for {@link Layout#BSR}, else 0
     * @param units stored elements, or blocks
     * @param bytes in a file
     * @param reason what it takes, what the others would take, and which do not fit and why
     */
    public record Pick(Layout layout, int block, long units, long bytes, String reason) {}

    /** Counts what {@link #smallest} needs to know. */
    public static Survey survey(DType type, long rows, long cols, MemorySegment in, Executor executor) {
        Native.input("in", in, denseBytes(type, rows, cols), executor);
        long[] sums = new long[5];
        if (rows > 0 && cols > 0) {
            MemorySegment spec = spec(null, type, rows, cols, 0);
            Native.Cost cost = Native.Cost.of(denseBytes(type, rows, cols), 0);
            Native.run("tp_sparse_survey", executor, rows, SURVEY_ROWS, Executor.worth(cols), tp_survey.sizeof(), cost, (begin, end, worker) -> {
                MemorySegment s = worker.scratch();
                int status = Kernels.tp_sparse_survey(spec, begin, end, in, s);
                add(s, sums);
                return status;
            }, (cuda, begin, end) -> {
                try (Arena arena = Arena.ofConfined()) {
                    MemorySegment s = tp_survey.allocate(arena);
                    int status = Kernels.tp_cuda_sparse_survey(cuda, spec, begin, end, in, s);
                    add(s, sums);
                    return status;
                }
            });
        }
        return new Survey(sums[0], sums[1], sums[2], sums[3], sums[4]);
    }

    private static void add(MemorySegment part, long[] sums) {
        synchronized (sums) {
            sums[0] += tp_survey.entries(part);
            sums[1] = Math.max(sums[1], tp_survey.widest(part));
            sums[2] += tp_survey.overfull(part);
            sums[3] += tp_survey.blocks4x4(part);
            sums[4] += tp_survey.blocks8x8(part);
        }
    }

    /**
     * Bytes of the arrays of a matrix with this many units.
     *
     * @param block side of a block for {@link Layout#BSR}, else 0
     * @param units stored elements, or blocks; not looked at for {@link Layout#NM24}
     * @throws IllegalArgumentException if there is no such matrix
     */
    public static Sizes sizes(Layout layout, DType type, long rows, long cols, int block, long units) {
        Sizes s = units < 0 ? null : sizesOrNull(layout, type, rows, cols, block, units);
        if (s == null) {
            throw new IllegalArgumentException("no sparse matrix of " + rows + " x " + cols + " " + type + " with "
                    + units + " units in layout " + layout.id() + (block == 0 ? "" : " " + block + "x" + block));
        }
        return s;
    }

    private static Sizes sizesOrNull(Layout layout, DType type, long rows, long cols, int block, long units) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(JAVA_LONG, 3);
            boolean exists = Native.check("tp_sparse_bytes", Kernels.tp_sparse_bytes(spec(layout, type, rows, cols, block), units, out,
                    out.asSlice(8), out.asSlice(16)), Kernels.TP_ERR_SHAPE());
            return exists ? new Sizes(out.get(JAVA_LONG, 0), out.get(JAVA_LONG, 8), out.get(JAVA_LONG, 16)) : null;
        }
    }

    /**
     * The smallest way to keep a matrix in a file; of equal ones dense, then the first in this order: {@link Layout#NM24},
     * {@link Layout#BITMASK}, {@link Layout#CSR16}, {@link Layout#CSR32}, {@link Layout#BSR} in blocks of 4, of 8.
     */
    public static Pick smallest(DType type, long rows, long cols, Survey survey) {
        long dense = denseBytes(type, rows, cols);
        Pick best = new Pick(null, 0, survey.entries, dense, "");
        List<String> said = new ArrayList<>();
        said.add("dense " + dense);
        List<String> unfit = new ArrayList<>();
        if (survey.overfull > 0) {
            unfit.add("nm24 does not fit: " + survey.overfull + " groups of four hold more than two");
        } else {
            long units = Math.multiplyExact(rows, 2 * ((cols + 3) / 4));
            best = better(best, Layout.NM24, type, rows, cols, 0, units, said);
        }
        best = better(best, Layout.BITMASK, type, rows, cols, 0, survey.entries, said);
        if (survey.widest > WIDEST) {
            unfit.add("csr16 does not fit: a gap is " + survey.widest + " wide");
        } else {
            best = better(best, Layout.CSR16, type, rows, cols, 0, survey.entries, said);
        }
        best = better(best, Layout.CSR32, type, rows, cols, 0, survey.entries, said);
        best = better(best, Layout.BSR, type, rows, cols, 4, survey.blocks4x4, said);
        best = better(best, Layout.BSR, type, rows, cols, 8, survey.blocks8x8, said);
        String name = best.layout == null ? "dense" : name(best.layout, best.block);
        StringBuilder reason = new StringBuilder(name).append(" takes the fewest bytes of what fits:");
        for (int i = 0; i < said.size(); i++) {
            reason.append(i == 0 ? " " : ", ").append(said.get(i));
        }
        for (String u : unfit) {
            reason.append("; ").append(u);
        }
        return new Pick(best.layout, best.block, best.units, best.bytes, reason.toString());
    }

    private static String name(Layout layout, int block) {
        return layout.id() + (block == 0 ? "" : " " + block + "x" + block);
    }

    private static Pick better(Pick best, Layout layout, DType type, long rows, long cols, int block, long units,
            List<String> said) {
        Sizes s = sizesOrNull(layout, type, rows, cols, block, units);
        if (s == null) {
            return best;
        }
        long bytes = s.stored(layout);
        said.add(name(layout, block) + " " + bytes);
        return bytes < best.bytes ? new Pick(layout, block, units, bytes, "") : best;
    }

    /**
     * Stores a matrix.
     *
     * @param block side of a block for {@link Layout#BSR}, else 0
     * @param arena for the arrays; shared unless {@code executor} is one thread
     * @throws KernelException with {@link KernelException#LAYOUT} if the matrix does not fit the layout
     */
    public static SparseMatrix pack(DType type, long rows, long cols, MemorySegment in, Layout layout, int block,
            Arena arena, Executor executor) {
        Native.input("in", in, denseBytes(type, rows, cols), executor);
        sizes(layout, type, rows, cols, block, 0);
        MemorySegment spec = spec(layout, type, rows, cols, block);
        long lines = lines(layout, rows, block);
        long minimum = Executor.worth(cols * Math.max(1, block));
        MemorySegment offsets = MemorySegment.NULL;
        long units = 0;
        if (layout == Layout.NM24) {
            units = rows * (2 * ((cols + 3) / 4));
        } else {
            offsets = arena.allocate(Math.multiplyExact(lines + 1, 8L), 8);
            Native.output("what the arena gives", offsets, 0, executor);
            MemorySegment counts = offsets.asSlice(8);
            Native.run("tp_sparse_count", executor, lines, 1, minimum, Native.Cost.of(denseBytes(type, rows, cols), 8 * lines), (begin, end, worker) ->
                    Kernels.tp_sparse_count(spec, begin, end, in, counts.asSlice(begin * 8)), (cuda, begin, end) ->
                    Kernels.tp_cuda_sparse_count(cuda, spec, begin, end, in, counts));
            units = add(offsets, lines);
        }
        Sizes sizes = sizes(layout, type, rows, cols, block, units);
        MemorySegment indices = arena.allocate(sizes.indices, 8);
        MemorySegment values = arena.allocate(sizes.values, 64);
        Native.output("what the arena gives", values, 0, executor);
        MemorySegment from = offsets;
        // Backwards, since what was counted last is still in the caches.
        Native.Cost cost = Native.Cost.of(denseBytes(type, rows, cols) + sizes.offsets, sizes.indices + sizes.values);
        Native.run("tp_sparse_pack", executor, lines, 1, minimum, cost, (begin, end, worker) ->
                Kernels.tp_sparse_pack(spec, lines - end, lines - begin, in, from, indices, values), (cuda, begin, end) ->
                Kernels.tp_cuda_sparse_pack(cuda, spec, begin, end, in, from, indices, values));
        return new SparseMatrix(layout, type, rows, cols, block, units, offsets, indices, values);
    }

    /** Makes offsets of counts, which lie one place up. */
    private static long add(MemorySegment offsets, long lines) {
        long sum = 0;
        for (long i = 1; i <= lines; i++) {
            sum += offsets.getAtIndex(JAVA_LONG, i);
            offsets.setAtIndex(JAVA_LONG, i, sum);
        }
        return sum;
    }

    static long countMask(DType type, long rows, long cols, MemorySegment indices, MemorySegment offsets,
            Executor executor) {
        MemorySegment spec = spec(Layout.BITMASK, type, rows, cols, 0);
        MemorySegment counts = offsets.asSlice(8);
        offsets.set(JAVA_LONG, 0, 0);
        Native.Cost cost = Native.Cost.of(indices.byteSize(), 8 * rows);
        Native.run("tp_sparse_count_mask", executor, rows, 1, Executor.worth(cols), cost, (begin, end, worker) ->
                Kernels.tp_sparse_count_mask(spec, begin, end, indices, counts.asSlice(begin * 8)), (cuda, begin, end) ->
                Kernels.tp_cuda_sparse_count_mask(cuda, spec, begin, end, indices, counts));
        return add(offsets, rows);
    }

    /** @throws SparseFormatException if a line is not well formed */
    static void check(SparseMatrix m, Executor executor) {
        MemorySegment spec = spec(m.layout(), m.type(), m.rows(), m.cols(), m.block());
        long lines = m.lines();
        long[] first = {Long.MAX_VALUE};
        long minimum = Executor.worth(m.cols() / 8 + 1);
        Native.Cost cost = Native.Cost.of(m.offsets().byteSize() + m.indices().byteSize(), 0);
        Native.run("tp_sparse_check", executor, lines, 1, minimum, 8, cost, (begin, end, worker) -> {
            MemorySegment bad = worker.scratch();
            return found(Kernels.tp_sparse_check(spec, begin, end, m.units(), m.offsets(), m.indices(), bad), bad, first);
        }, (cuda, begin, end) -> {
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment bad = arena.allocate(JAVA_LONG);
                return found(Kernels.tp_cuda_sparse_check(cuda, spec, begin, end, m.units(), m.offsets(), m.indices(), bad), bad, first);
            }
        });
        if (lines == 0 && m.units() != 0) {
            throw new SparseFormatException(-1, m.units() + " units in a matrix without rows");
        }
        if (first[0] != Long.MAX_VALUE) {
            throw new SparseFormatException(first[0], "line " + first[0] + " is not one of a "
                    + name(m.layout(), m.block()) + " matrix of " + m.rows() + " x " + m.cols() + " with " + m.units()
                    + " units");
        }
    }

    /** A line that is not well formed is for the caller to tell of, if it is the first. */
    private static int found(int status, MemorySegment bad, long[] first) {
        if (status != KernelException.FORMAT) {
            return status;
        }
        synchronized (first) {
            first[0] = Math.min(first[0], bad.get(JAVA_LONG, 0));
        }
        return 0;
    }

    /**
     * Restores a matrix.
     *
     * @param out [rows, cols], every element of which is written; must not overlap the arrays of {@code m}
     */
    public static void unpack(SparseMatrix m, MemorySegment out, Executor executor) {
        m.check(executor);
        Native.output("out", out, denseBytes(m.type(), m.rows(), m.cols()), executor);
        m.apart("out", out);
        MemorySegment spec = spec(m.layout(), m.type(), m.rows(), m.cols(), m.block());
        // A line costs what its columns cost, which are all written, however many units it has: equal pieces are fair.
        Native.Cost cost = Native.Cost.of(m.touched(), denseBytes(m.type(), m.rows(), m.cols()));
        Native.run("tp_sparse_unpack", executor, m.lines(), 1, Executor.worth(m.cols() * Math.max(1, m.block())), cost, (begin, end, worker) ->
                Kernels.tp_sparse_unpack(spec, begin, end, m.offsets(), m.indices(), m.values(), out), (cuda, begin, end) ->
                Kernels.tp_cuda_sparse_unpack(cuda, spec, begin, end, m.offsets(), m.indices(), m.values(), out));
    }

    /**
     * Restores lines {@code [begin, end)} of a matrix, so that one can be restored piece by piece.
     *
     * @param out the rows of these lines, every element of which is written
     */
    public static void unpack(SparseMatrix m, long begin, long end, MemorySegment out, Executor executor) {
        if (begin < 0 || begin > end || end > m.lines()) {
            throw new IllegalArgumentException("lines " + begin + " to " + end + " of " + m.lines());
        }
        unpack(m.lines(begin, end), out, executor);
    }

    static long lines(Layout layout, long rows, int block) {
        return layout == Layout.BSR ? (rows + block - 1) / block : rows;
    }

    private static long denseBytes(DType type, long rows, long cols) {
        return Native.bytes("the matrix", type, rows, cols, cols);
    }

    static MemorySegment spec(Layout layout, DType type, long rows, long cols, int block) {
        Native.oneOf("the type", type, DType.F32, DType.F16, DType.BF16, DType.I8, DType.U8);
        MemorySegment s = Native.struct(tp_sparse.layout());
        tp_sparse.rows(s, rows);
        tp_sparse.cols(s, cols);
        tp_sparse.stride(s, cols);
        tp_sparse.block_rows(s, block);
        tp_sparse.block_cols(s, block);
        tp_sparse.type(s, Native.id(type));
        tp_sparse.layout(s, layout == null ? Layout.CSR32.id : layout.id);
        return s;
    }
}
