package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_product;
import dev.tensorpress.kernel.Sparse.Layout;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * Kernel family {@code spmm}: a sparse matrix times a dense one. Here arguments are checked and work is spread over
 * threads; layouts and numerics are documented once, in {@code tensorpress/sparse.h} and {@code tensorpress/spmm.h}.
 *
 * <p>Dense matrices are off-heap or of a {@link DeviceMemory}, row-major, without gaps and aligned to their elements. They are f32 if
 * the values are; for int8 values the factor is int8 and the result int32. Results do not depend on the number of threads; integers
 * neither on the processor or the device. Failures of a kernel are {@link KernelException}s.
 */
public final class Spmm {
    /** {@code TP_SPMM_SEGMENT}: units of a line that are summed by themselves. */
    static final long SEGMENT = 16384;
    /** Ranges per thread. */
    private static final int PIECES = 8;
    /** Columns from which threads share a transposed product by columns. Below it they share it by rows. */
    static final long WIDE = 64;
    /** Columns of such a share are a multiple of this. */
    private static final long PANEL = 16;
    /** Sums of a transposed product that is shared by rows: a number of its own, so that threads change no result. */
    private static final int CHUNKS = 8;

    static {
        dev.tensorpress.internal.NativeLibrary.load();
    }

    private Spmm() {}

    /**
     * out[rows, n] = A[rows, cols] B[cols, n].
     *
     * @param a in any layout but {@link Layout#BITMASK}, values f32 or int8
     * @param out overwritten; must overlap neither {@code b} nor the arrays of {@code a}
     */
    public static void multiply(SparseMatrix a, long n, MemorySegment b, MemorySegment out, Executor executor) {
        checkProduct(a, n, b, a.cols(), out, a.rows(), executor);
        if (a.rows() == 0 || n == 0) {
            return;
        }
        MemorySegment spec = spec(a, n);
        MemorySegment offsets = a.offsets();
        Native.Cost cost = cost(a, n, a.cols(), a.rows());
        Native.OnCuda onCuda = (cuda, begin, end) ->
                Kernels.tp_cuda_spmm(cuda, spec, begin, end, offsets, a.indices(), a.values(), b, out);
        if (a.layout() == Layout.NM24) {
            Native.run("tp_spmm", executor, a.rows(), 1, Executor.worth(a.cols() / 2 * n), cost, (begin, end, worker) ->
                    Kernels.tp_spmm(spec, begin, end, offsets, a.indices(), a.values(), b, out), onCuda);
            return;
        }
        long lines = a.lines();
        if (executor.threads() == 1 || Native.onDevice(executor)) {
            Native.run("tp_spmm", executor, lines, lines, lines, cost, (begin, end, worker) -> multiply(spec, a, b, out, begin, end), onCuda);
            return;
        }
        long units = a.units();
        long unit = a.layout() == Layout.BSR ? (long) a.block() * a.block() : 1;
        long most = (long) PIECES * executor.threads();
        long pieces = Math.clamp((units * unit + lines) * n / Executor.WORTH, 1, most);
        // A line is split if others would wait for it; that bounds the number of such lines, and the scratch.
        List<Heavy> heavy = heavyLines(a, Math.max(SEGMENT, units / pieces));
        if (heavy.isEmpty()) {
            Native.run("tp_spmm", executor, pieces, 1, 1, cost, (begin, end, worker) -> multiply(spec, a, b, out,
                    cut(offsets, 0, lines, begin, pieces), cut(offsets, 0, lines, end, pieces)));
            return;
        }
        split(spec, a, n, b, out, lines, pieces, heavy, cost, executor);
    }

    /** Of a product with B[rowsOfB, n]. */
    private static Native.Cost cost(SparseMatrix a, long n, long rowsOfB, long rowsOfOut) {
        long unit = a.layout() == Layout.BSR ? (long) a.block() * a.block() : 1;
        return new Native.Cost(a.bytes() + a.type().bytes(rowsOfB * n), 4 * rowsOfOut * n, 2 * a.units() * unit * n);
    }

    private static int multiply(MemorySegment spec, SparseMatrix a, MemorySegment b, MemorySegment out, long begin, long end) {
        return begin < end ? Kernels.tp_spmm(spec, begin, end, a.offsets(), a.indices(), a.values(), b, out) : 0;
    }

    /** A line that several threads share. {@code first} is the number of segments of such lines before it. */
    private record Heavy(long line, long segments, long first) {}

    private static List<Heavy> heavyLines(SparseMatrix a, long limit) {
        List<Heavy> heavy = new ArrayList<>();
        if (a.cols() <= limit) {
            return heavy;
        }
        long first = 0;
        for (long line = 0; line < a.lines(); line++) {
            long units = offset(a.offsets(), line + 1) - offset(a.offsets(), line);
            if (units > limit) {
                heavy.add(new Heavy(line, (units + SEGMENT - 1) / SEGMENT, first));
                first += heavy.getLast().segments;
            }
        }
        return heavy;
    }

    /** Work of any kind that one thread does: a range of lines, or a segment. */
    private interface Work {
        int run();
    }

    private static void split(MemorySegment spec, SparseMatrix a, long n, MemorySegment b, MemorySegment out, long lines,
            long pieces, List<Heavy> heavy, Native.Cost cost, Executor executor) {
        long sum = 4 * n * (a.layout() == Layout.BSR ? a.block() : 1);
        long segments = heavy.getLast().first + heavy.getLast().segments;
        try (Arena arena = executor.arena()) {
            MemorySegment partials = arena.allocate(Math.multiplyExact(segments, sum), 64);
            List<Work> work = new ArrayList<>();
            long before = 0;
            for (Heavy h : heavy) {
                MemorySegment column = columns(spec, a, h, arena);
                for (long s = 0; s < h.segments; s++) {
                    long segment = s;
                    work.add(() -> Kernels.tp_spmm_segment(spec, h.line, segment, column.getAtIndex(JAVA_LONG, segment), a.offsets(),
                            a.indices(), a.values(), b, partials.asSlice((h.first + segment) * sum, sum)));
                }
                ranges(work, spec, a, b, out, before, h.line, pieces);
                before = h.line + 1;
            }
            ranges(work, spec, a, b, out, before, lines, pieces);
            Native.run("tp_spmm", executor, work.size(), 1, 1, cost, (begin, end, worker) -> {
                int status = 0;
                for (long i = begin; i < end && status == 0; i++) {
                    status = work.get((int) i).run();
                }
                return status;
            });
            Native.Cost adding = Native.Cost.of(segments * sum, heavy.size() * sum);
            Native.run("tp_spmm_add", executor, heavy.size(), 1, 1, adding, (begin, end, worker) -> {
                int status = 0;
                for (int i = (int) begin; i < end && status == 0; i++) {
                    Heavy h = heavy.get(i);
                    status = Kernels.tp_spmm_add(spec, h.line, h.segments, partials.asSlice(h.first * sum, h.segments * sum), out);
                }
                return status;
            });
        }
    }

    /** The distances before each segment of a line, added up from one segment to the next. */
    private static MemorySegment columns(MemorySegment spec, SparseMatrix a, Heavy h, Arena arena) {
        MemorySegment columns = arena.allocate(JAVA_LONG, h.segments);
        if (a.layout() == Layout.CSR16) {
            MemorySegment rest = arena.allocate(JAVA_LONG, 2); // the line from the segment before on, as if it were the first
            rest.setAtIndex(JAVA_LONG, 1, offset(a.offsets(), h.line + 1));
            for (long s = 1; s < h.segments; s++) {
                rest.setAtIndex(JAVA_LONG, 0, offset(a.offsets(), h.line) + (s - 1) * SEGMENT);
                Native.check("tp_spmm_column", Kernels.tp_spmm_column(spec, 0, 1, rest, a.indices(), columns.asSlice(8 * s)));
                columns.setAtIndex(JAVA_LONG, s, columns.getAtIndex(JAVA_LONG, s) + columns.getAtIndex(JAVA_LONG, s - 1));
            }
        }
        return columns;
    }

    private static void ranges(List<Work> work, MemorySegment spec, SparseMatrix a, MemorySegment b, MemorySegment out,
            long first, long last, long pieces) {
        if (first == last) {
            return;
        }
        // As many of the pieces as these lines have of the units.
        MemorySegment offsets = a.offsets();
        long own = Math.max(1, (offset(offsets, last) - offset(offsets, first)) * pieces / a.units());
        for (long p = 0; p < own; p++) {
            long begin = cut(offsets, first, last, p, own);
            long end = cut(offsets, first, last, p + 1, own);
            work.add(() -> multiply(spec, a, b, out, begin, end));
        }
    }

    /** The line at which piece number {@code piece} of lines [first, last) begins. A line weighs one unit more than it has. */
    private static long cut(MemorySegment offsets, long first, long last, long piece, long pieces) {
        if (piece == pieces) {
            return last;
        }
        long start = offset(offsets, first) + first;
        long weight = offset(offsets, last) + last - start;
        long target = start + weight / pieces * piece + weight % pieces * piece / pieces;
        long low = first;
        long high = last;
        while (low < high) {
            long middle = low + (high - low) / 2;
            if (offset(offsets, middle) + middle < target) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        return low;
    }

    /**
     * out[cols, n] = A^T B[rows, n], with A[rows, cols] stored by its rows.
     *
     * @param a {@link Layout#CSR16} or {@link Layout#CSR32}, values f32 or int8
     * @param out overwritten; must overlap neither {@code b} nor the arrays of {@code a}
     */
    public static void multiplyTransposed(SparseMatrix a, long n, MemorySegment b, MemorySegment out, Executor executor) {
        if (a.layout() != Layout.CSR16 && a.layout() != Layout.CSR32) {
            throw new IllegalArgumentException("no transposed product of layout " + a.layout());
        }
        checkProduct(a, n, b, a.rows(), out, a.cols(), executor);
        long size = 4 * a.cols() * n;
        if (size == 0) {
            return;
        }
        MemorySegment spec = spec(a, n);
        MemorySegment offsets = a.offsets();
        Native.Cost cost = cost(a, n, a.rows(), a.cols());
        if (n >= WIDE || Native.onDevice(executor)) {
            Native.clear(out, size);
            Native.run("tp_spmm_transposed", executor, n, PANEL, PANEL, cost, (first, last, worker) ->
                    transposed(spec, a, b, out, 0, a.rows(), first, last), (cuda, first, last) ->
                    Kernels.tp_cuda_spmm_transposed(cuda, spec, 0, a.rows(), first, last, offsets, a.indices(), a.values(), b, out));
            return;
        }
        MemorySegment result = out.asSlice(0, size);
        int chunks = Math.clamp(a.units() * n / Executor.WORTH, 1, CHUNKS);
        try (Arena arena = executor.arena()) {
            List<MemorySegment> sums = new ArrayList<>();
            sums.add(result);
            for (int i = 1; i < chunks; i++) {
                sums.add(arena.allocate(size, 64));
            }
            Native.run("tp_spmm_transposed", executor, chunks, 1, 1, cost, (begin, end, worker) -> {
                int status = 0;
                for (int i = (int) begin; i < end && status == 0; i++) {
                    sums.get(i).fill((byte) 0);
                    status = transposed(spec, a, b, sums.get(i), cut(offsets, 0, a.rows(), i, chunks),
                            cut(offsets, 0, a.rows(), i + 1, chunks), 0, n);
                }
                return status;
            });
            if (chunks > 1) {
                boolean floats = a.type() == DType.F32;
                executor.run(a.cols() * n, PANEL, Executor.WORTH / CHUNKS, (begin, end, worker) -> add(sums, floats, begin, end));
            }
        }
    }

    private static int transposed(MemorySegment spec, SparseMatrix a, MemorySegment b, MemorySegment out, long begin,
            long end, long first, long last) {
        return Kernels.tp_spmm_transposed(spec, begin, end, first, last, a.offsets(), a.indices(), a.values(), b, out);
    }

    /** Adds elements [begin, end) of the sums, in order, to those of the first. */
    private static void add(List<MemorySegment> sums, boolean floats, long begin, long end) {
        MemorySegment to = sums.getFirst();
        for (MemorySegment from : sums.subList(1, sums.size())) {
            if (floats) {
                for (long i = begin; i < end; i++) {
                    to.setAtIndex(JAVA_FLOAT, i, to.getAtIndex(JAVA_FLOAT, i) + from.getAtIndex(JAVA_FLOAT, i));
                }
            } else {
                for (long i = begin; i < end; i++) {
                    to.setAtIndex(JAVA_INT, i, to.getAtIndex(JAVA_INT, i) + from.getAtIndex(JAVA_INT, i));
                }
            }
        }
    }

    private static long offset(MemorySegment offsets, long line) {
        return offsets.getAtIndex(JAVA_LONG, line);
    }

    private static void checkProduct(SparseMatrix a, long n, MemorySegment b, long rowsOfB, MemorySegment out, long rowsOfOut,
            Executor executor) {
        Native.oneOf("the type of the values", a.type(), DType.F32, DType.I8);
        if (a.layout() == Layout.BITMASK) {
            throw new IllegalArgumentException("no product of layout " + a.layout() + ", which is for storing only");
        }
        if (n < 0) {
            throw new IllegalArgumentException("cannot have " + n + " columns");
        }
        Native.operand("b", b, a.type(), rowsOfB, n, n, executor);
        Native.result("out", out, DType.F32, rowsOfOut, n, n, executor);
        a.check(executor);
        Native.apart("out", out, "b", b);
        a.apart("out", out);
    }

    private static MemorySegment spec(SparseMatrix a, long n) {
        MemorySegment s = Native.struct(tp_product.layout());
        tp_product.a(s, Sparse.spec(a.layout(), a.type(), a.rows(), a.cols(), a.block()));
        tp_product.n(s, n);
        tp_product.b_stride(s, n);
        tp_product.out_stride(s, n);
        return s;
    }
}
