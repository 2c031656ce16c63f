package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_error;
import dev.tensorpress.bindings.tp_scores;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.List;

/**
 * Kernel family {@code prune}: which elements of a matrix to keep. Here arguments are checked and work is spread over
 * threads; keys, masks, ties and numerics are documented once, in {@code tensorpress/prune.h}.
 *
 * <p>Scores may be the weight itself or a second array of its shape; every choice takes either. Segments are off-heap or
 * of a {@link DeviceMemory}. Results do not depend on the number of threads, on the processor, or on the device. Failures of a kernel
 * are {@link KernelException}s; NaN among scores is one with {@link KernelException#NONFINITE}.
 */
public final class Prune {
    private static final int DIGITS = 3;
    private static final int COUNTS = 2048;
    private static final int[] SHIFT = {21, 10, 0};
    /** Values of a first digit whose second digits are counted at once. */
    private static final int GUESSES = 2;
    /** Lines of a column-wise choice that share a byte of the mask. */
    private static final int BYTE = 8;

    static {
        dev.tensorpress.internal.NativeLibrary.load();
    }

    private Prune() {}

    /** What makes a score large: {@code TP_ORDER_*}. */
    public enum Order {
        MAGNITUDE(1), VALUE(2);

        final int id;

        Order(int id) {
            this.id = id;
        }
    }

    /** {@code tp_scores}; sizes and stride in elements. */
    public record Scores(long rows, long cols, long stride, DType type, Order order) {
        public Scores {
            Native.elements("the matrix", rows, cols, stride);
        }

        /** A matrix without gaps, compared by magnitude. */
        public static Scores of(long rows, long cols, DType type) {
            return new Scores(rows, cols, cols, type, Order.MAGNITUDE);
        }

        /** The same matrix compared in another way. */
        public Scores order(Order order) {
            return new Scores(rows, cols, stride, type, order);
        }

        /** Number of elements. */
        public long elements() {
            return rows * cols;
        }

        /** Bytes of a mask of this matrix. */
        public long maskBytes() {
            return rows * ((cols + 7) / 8);
        }

        private long bytes() {
            return Native.bytes("in", type, rows, cols, stride);
        }

        /** Bytes of the elements, without the gaps between rows. */
        private long touched() {
            return type.bytes(elements());
        }

        /** Of making a mask of this matrix. */
        private Native.Cost masking() {
            return Native.Cost.of(touched(), maskBytes());
        }

        private long minimumRows() {
            return Executor.worth(cols);
        }

        private MemorySegment toNative() {
            Native.oneOf("the type", type, DType.F32, DType.F16, DType.BF16);
            MemorySegment s = Native.struct(tp_scores.layout());
            tp_scores.rows(s, rows);
            tp_scores.cols(s, cols);
            tp_scores.stride(s, stride);
            tp_scores.type(s, Native.id(type));
            tp_scores.order(s, order.id);
            return s;
        }
    }

    /**
     * Where a selection ends. Kept are all elements with a larger key than {@code key}; of those with this very key all in
     * matrices before number {@code matrix}, and in that one those before ({@code row}, {@code col}).
     *
     * @param key as in {@code prune.h}, an unsigned number
     * @param kept elements of each matrix that are kept
     */
    public record Cut(int key, int matrix, long row, long col, List<Long> kept) {
        public Cut {
            kept = List.copyOf(kept);
        }
    }

    /** Whether so many elements of each matrix may be kept. What fits must still fit with fewer. */
    @FunctionalInterface
    public interface Limit {
        boolean fits(long[] kept);
    }

    /** How many elements have a larger key, and how many this very key. */
    public record Count(long larger, long equal) {}

    /**
     * The {@code k} largest elements of all matrices together, all if there are not so many. Ties go to the matrix that
     * comes first, and within it to the first in row-major order.
     *
     * @param in one matrix for each of {@code scores}
     * @throws IllegalArgumentException if types are mixed, but for magnitudes of f32 and bf16: keys of others do not
     *     compare
     */
    public static Cut select(List<Scores> scores, List<MemorySegment> in, long k, Executor executor) {
        if (k < 0) {
            throw new IllegalArgumentException("cannot keep " + k + " elements");
        }
        return select(scores, in, kept -> {
            long sum = 0;
            for (long n : kept) {
                sum += n;
            }
            return sum <= k;
        }, executor);
    }

    /**
     * As many of the largest elements as the limit allows, one after the other in the order of their keys.
     *
     * @throws IllegalArgumentException as above, and if the limit does not even allow to keep none
     */
    public static Cut select(List<Scores> scores, List<MemorySegment> in, Limit limit, Executor executor) {
        int n = scores.size();
        if (in.size() != n) {
            throw new IllegalArgumentException(n + " shapes, but " + in.size() + " matrices");
        }
        for (int i = 0; i < n; i++) {
            Scores s = scores.get(i);
            Native.input("in", in.get(i), s.bytes(), executor);
            Scores first = scores.getFirst();
            boolean alike = s.type == first.type
                    || s.order == Order.MAGNITUDE && s.type != DType.F16 && first.type != DType.F16;
            if (s.order != first.order || !alike) {
                throw new IllegalArgumentException(
                        "cannot compare " + s.type + " by " + s.order + " with " + first.type + " by " + first.order);
            }
        }
        long[] kept = new long[n];
        if (!limit.fits(kept)) {
            throw new IllegalArgumentException("the limit does not even allow to keep no element");
        }
        int key = 0;
        long[][] counts = new long[n][COUNTS];
        int last = 0;
        for (int digit = 0; digit < DIGITS; digit++) {
            for (int i = 0; i < n; i++) {
                // To and fro, since the end of one pass is still in the caches when the next begins.
                int j = digit == 1 ? n - 1 - i : i;
                histogram(scores.get(j), in.get(j), digit, key, counts[j], executor);
            }
            last = walk(counts, kept, limit);
            if (last < 0) {
                return new Cut(0, n, 0, 0, Arrays.stream(kept).boxed().toList());
            }
            key |= last << SHIFT[digit];
        }
        return ties(scores, in, key, counts, last, kept, limit, executor);
    }

    /** Goes down from the largest digit, adding to {@code kept} what fits; the digit that does not, or -1. */
    private static int walk(long[][] counts, long[] kept, Limit limit) {
        for (int d = COUNTS - 1; d >= 0; d--) {
            boolean any = false;
            for (int i = 0; i < kept.length; i++) {
                kept[i] += counts[i][d];
                any |= counts[i][d] != 0;
            }
            if (any && !limit.fits(kept)) {
                for (int i = 0; i < kept.length; i++) {
                    kept[i] -= counts[i][d];
                }
                return d;
            }
        }
        return -1;
    }

    private static Cut ties(List<Scores> scores, List<MemorySegment> in, int key, long[][] counts, int digit,
            long[] kept, Limit limit, Executor executor) {
        int n = kept.length;
        long all = 0;
        for (long[] c : counts) {
            all += c[digit];
        }
        long low = 0;
        for (long high = all; high - low > 1;) {
            long middle = low + (high - low) / 2;
            if (limit.fits(with(kept, counts, digit, middle))) {
                low = middle;
            } else {
                high = middle;
            }
        }
        long[] result = with(kept, counts, digit, low);
        int matrix = 0;
        for (long left = low; left >= counts[matrix][digit]; matrix++) {
            left -= counts[matrix][digit];
        }
        long before = result[matrix] - kept[matrix];
        long row = 0;
        long col = 0;
        if (before > 0) {
            Scores s = scores.get(matrix);
            MemorySegment data = in.get(matrix);
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment at = arena.allocate(JAVA_LONG, 2);
                MemorySegment column = at.asSlice(8);
                MemorySegment spec = s.toNative();
                // One range: what precedes it has to be counted.
                Native.run("tp_prune_find", executor, s.rows, s.rows, s.rows, Native.Cost.of(s.touched(), 0), (begin, end, worker) ->
                        Kernels.tp_prune_find(spec, begin, end, data, key, before, at, column), (cuda, begin, end) ->
                        Kernels.tp_cuda_prune_find(cuda, spec, begin, end, data, key, before, at, column));
                row = at.get(JAVA_LONG, 0);
                col = at.get(JAVA_LONG, 8);
            }
        }
        return new Cut(key, matrix, row, col, Arrays.stream(result).boxed().toList());
    }

    /** What is kept with the first {@code ties} of the ties, matrix by matrix. */
    private static long[] with(long[] kept, long[][] counts, int digit, long ties) {
        long[] result = kept.clone();
        long left = ties;
        for (int i = 0; i < result.length; i++) {
            long here = Math.min(left, counts[i][digit]);
            result[i] += here;
            left -= here;
        }
        return result;
    }

    private static void histogram(Scores scores, MemorySegment in, int digit, int prefix, long[] counts,
            Executor executor) {
        Arrays.fill(counts, 0);
        MemorySegment s = scores.toNative();
        try (Arena arena = executor.arena()) {
            MemorySegment all = arena.allocate(JAVA_LONG, (long) COUNTS * executor.threads());
            Native.Cost cost = Native.Cost.of(scores.touched(), COUNTS * 8L);
            Native.run("tp_prune_histogram", executor, scores.rows, 1, scores.minimumRows(), cost, (begin, end, worker) -> {
                long first = digit == 1 ? scores.rows - end : begin;
                return Kernels.tp_prune_histogram(s, first, first + end - begin, in, digit, prefix,
                        all.asSlice(worker.index() * COUNTS * 8L, COUNTS * 8L));
            }, (cuda, begin, end) -> Kernels.tp_cuda_prune_histogram(cuda, s, begin, end, in, digit, prefix, all));
            for (int w = 0; w < executor.threads(); w++) {
                for (int d = 0; d < COUNTS; d++) {
                    counts[d] += all.getAtIndex(JAVA_LONG, (long) w * COUNTS + d);
                }
            }
        }
    }

    /**
     * The magnitude of the {@code k}-th largest of f32 that come in pieces: all of them several times, and after each time {@link #pass}, until it
     * says that it is found. That takes {@link #PASSES} times, or one less where a guess was near.
     */
    public static final class Largest {
        /** How often all elements are looked at, at most. */
        public static final int PASSES = DIGITS;

        private static final long COLS = 4096;

        private final long k;
        /** Of the current digit; of the next one, where the current one is that of a guess. */
        private final long[][] counts = new long[1 + GUESSES][COUNTS];
        private final long[] some = new long[COUNTS];
        /** Values of the first digit; -1 if there are none. */
        private final int[] guesses = {-1, -1};
        private long above;
        private int digit;
        private int key;

        /** @param k at least 1 and at most the number of elements */
        public Largest(long k) {
            this.k = k;
        }

        /**
         * About what is expected, before the first elements: a second digit is counted along with the first one, of what begins as this does or
         * next to it. Results do not depend on it.
         */
        public void expect(float magnitude) {
            int expected = Float.floatToRawIntBits(Math.abs(magnitude)) << 1;
            int first = expected >>> SHIFT[0];
            boolean upper = (expected >>> SHIFT[0] - 1 & 1) != 0;
            guesses[0] = first;
            guesses[1] = Math.clamp(first + (upper ? 1 : -1), 0, COUNTS - 1);
        }

        /**
         * Some of the elements.
         *
         * @throws KernelException {@link KernelException#NONFINITE} if one is NaN
         */
        public void add(MemorySegment in, long elements, Executor executor) {
            long rows = elements / COLS;
            add(Scores.of(rows, COLS, DType.F32), in, executor);
            add(Scores.of(1, elements % COLS, DType.F32), in.asSlice(DType.F32.bytes(rows * COLS)), executor);
        }

        private void add(Scores scores, MemorySegment in, Executor executor) {
            Native.input("in", in, scores.bytes(), executor);
            count(scores, in, digit, key, counts[0], executor);
            for (int g = 0; digit == 0 && g < GUESSES; g++) {
                if (guesses[g] >= 0) {
                    count(scores, in, 1, guesses[g] << SHIFT[0], counts[1 + g], executor);
                }
            }
        }

        private void count(Scores scores, MemorySegment in, int which, int prefix, long[] to, Executor executor) {
            histogram(scores, in, which, prefix, some, executor);
            for (int d = 0; d < COUNTS; d++) {
                to[d] += some[d];
            }
        }

        /** All elements were added once more; whether {@link #magnitude} is known now. */
        public boolean pass() {
            int first = walk(counts[0]);
            if (digit == 1) {
                for (int g = 0; g < GUESSES; g++) {
                    if (guesses[g] == first) {
                        walk(counts[1 + g]);
                        break;
                    }
                }
            }
            Arrays.fill(counts[0], 0);
            return digit == DIGITS;
        }

        /** The next digit, by how many elements have each. */
        private int walk(long[] of) {
            int d = COUNTS - 1;
            while (above + of[d] < k) {
                above += of[d--];
            }
            key |= d << SHIFT[digit++];
            return d;
        }

        /** After the last pass. */
        public float magnitude() {
            return Float.intBitsToFloat(key >>> 1);
        }
    }

    /** Counts elements by their key; infinities and NaN are those that are not below {@code key(scores, INFINITY)}. */
    public static Count count(Scores scores, MemorySegment in, int key, Executor executor) {
        Native.input("in", in, scores.bytes(), executor);
        MemorySegment s = scores.toNative();
        long[] sums = new long[2];
        Native.Cost cost = Native.Cost.of(scores.touched(), 0);
        Native.run("tp_prune_count", executor, scores.rows, 1, scores.minimumRows(), 16, cost, (begin, end, worker) -> {
            MemorySegment counts = worker.scratch();
            int status = Kernels.tp_prune_count(s, begin, end, in, key, counts, counts.asSlice(8));
            synchronized (sums) {
                sums[0] += counts.get(JAVA_LONG, 0);
                sums[1] += counts.get(JAVA_LONG, 8);
            }
            return status;
        }, (cuda, begin, end) -> {
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment counts = arena.allocate(JAVA_LONG, 2);
                int status = Kernels.tp_cuda_prune_count(cuda, s, begin, end, in, key, counts, counts.asSlice(8));
                sums[0] = counts.get(JAVA_LONG, 0);
                sums[1] = counts.get(JAVA_LONG, 8);
                return status;
            }
        });
        return new Count(sums[0], sums[1]);
    }

    /** The smallest key among scores of at least {@code score}; a mask with it and all ties keeps exactly those. */
    public static int key(Scores scores, double score) {
        MemorySegment s = scores.toNative();
        return (int) Native.size("tp_prune_key", key -> Kernels.tp_prune_key(s, score, key));
    }

    /** Mask of what {@code cut} keeps of matrix number {@code matrix} of its selection. */
    public static void mask(Scores scores, MemorySegment in, Cut cut, int matrix, MemorySegment mask,
            Executor executor) {
        boolean all = matrix < cut.matrix;
        boolean some = matrix == cut.matrix;
        mask(scores, in, cut.key, all ? scores.rows : some ? cut.row : 0, some ? cut.col : 0, mask, executor);
    }

    /**
     * Mask of the elements with a larger key, and of those with this key before ({@code tieRow}, {@code tieCol}).
     *
     * @param mask {@link Scores#maskBytes} bytes
     */
    public static void mask(Scores scores, MemorySegment in, int key, long tieRow, long tieCol, MemorySegment mask,
            Executor executor) {
        Native.input("in", in, scores.bytes(), executor);
        Native.output("mask", mask, scores.maskBytes(), executor);
        MemorySegment s = scores.toNative();
        Native.run("tp_prune_mask", executor, scores.rows, 1, scores.minimumRows(), scores.masking(), (begin, end, worker) ->
                Kernels.tp_prune_mask(s, begin, end, in, key, tieRow, tieCol, mask), (cuda, begin, end) ->
                Kernels.tp_cuda_prune_mask(cuda, s, begin, end, in, key, tieRow, tieCol, mask));
    }

    /** Mask of the {@code k} largest elements of each row (axis 1) or column (axis 0). */
    public static void lines(Scores scores, int axis, MemorySegment in, long k, MemorySegment mask, Executor executor) {
        checkAxis(axis);
        if (k < 0) {
            throw new IllegalArgumentException("k must not be negative, but is " + k);
        }
        Native.input("in", in, scores.bytes(), executor);
        Native.output("mask", mask, scores.maskBytes(), executor);
        MemorySegment s = scores.toNative();
        long length = axis == 1 ? scores.cols : scores.rows;
        long scratch = Native.size("tp_prune_lines_scratch", bytes -> Kernels.tp_prune_lines_scratch(s, axis, bytes));
        Native.run("tp_prune_lines", executor, axis == 1 ? scores.rows : scores.cols, axis == 1 ? 1 : BYTE, Executor.worth(length),
                scratch, scores.masking(), (begin, end, worker) -> Kernels.tp_prune_lines(s, axis, begin, end, in, k, mask, worker.scratch()),
                (cuda, begin, end) -> Kernels.tp_cuda_prune_lines(cuda, s, axis, begin, end, in, k, mask));
    }

    /** Mask of the {@code n} largest of each group of {@code m} elements along a row (axis 1) or down a column (axis 0). */
    public static void nm(Scores scores, int axis, MemorySegment in, int n, int m, MemorySegment mask,
            Executor executor) {
        if (n < 1 || n > m || m > 16) {
            throw new IllegalArgumentException("N:M must be 1 <= N <= M <= 16, but is " + n + ":" + m);
        }
        checkAxis(axis);
        Native.input("in", in, scores.bytes(), executor);
        Native.output("mask", mask, scores.maskBytes(), executor);
        MemorySegment s = scores.toNative();
        long lines = axis == 1 ? scores.rows : (scores.rows + m - 1) / m;
        long size = Math.multiplyExact(scores.cols, axis == 1 ? 1 : m);
        Native.run("tp_prune_nm", executor, lines, 1, Executor.worth(size), scores.masking(), (begin, end, worker) ->
                Kernels.tp_prune_nm(s, axis, begin, end, in, n, m, mask), (cuda, begin, end) ->
                Kernels.tp_cuda_prune_nm(cuda, s, axis, begin, end, in, n, m, mask));
    }

    /** What the scores of blocks are as a matrix: f32 without gaps, in the order of the elements. */
    public static Scores blocks(Scores scores, long blockRows, long blockCols) {
        return new Scores(ceil(scores.rows, blockRows), ceil(scores.cols, blockCols), ceil(scores.cols, blockCols),
                DType.F32, scores.order);
    }

    /**
     * One score for each block of elements.
     *
     * @param out f32, as {@link #blocks(Scores, long, long)} says
     */
    public static void blocks(Scores scores, long blockRows, long blockCols, MemorySegment in, MemorySegment out,
            Executor executor) {
        Native.input("in", in, scores.bytes(), executor);
        Scores blocks = blocks(scores, blockRows, blockCols);
        Native.result("out", out, DType.F32, blocks.rows, blocks.cols, blocks.cols, executor);
        MemorySegment s = scores.toNative();
        Native.Cost cost = Native.Cost.of(scores.touched(), blocks.touched());
        Native.run("tp_prune_blocks", executor, blocks.rows, 1, minimumBlockRows(scores, blockRows), cost, (begin, end, worker) ->
                Kernels.tp_prune_blocks(s, blockRows, blockCols, begin, end, in, out), (cuda, begin, end) ->
                Kernels.tp_cuda_prune_blocks(cuda, s, blockRows, blockCols, begin, end, in, out));
    }

    /** From a mask of blocks to that of their elements. */
    public static void expand(Scores scores, long blockRows, long blockCols, MemorySegment blockMask,
            MemorySegment mask, Executor executor) {
        Scores blocks = blocks(scores, blockRows, blockCols);
        Native.input("blockMask", blockMask, blocks.maskBytes(), executor);
        Native.output("mask", mask, scores.maskBytes(), executor);
        MemorySegment s = scores.toNative();
        Native.Cost cost = Native.Cost.of(blocks.maskBytes(), scores.maskBytes());
        Native.run("tp_prune_expand", executor, blocks.rows, 1, minimumBlockRows(scores, blockRows), cost, (begin, end, worker) ->
                Kernels.tp_prune_expand(s, blockRows, blockCols, begin, end, blockMask, mask), (cuda, begin, end) ->
                Kernels.tp_cuda_prune_expand(cuda, s, blockRows, blockCols, begin, end, blockMask, mask));
    }

    private static long minimumBlockRows(Scores scores, long blockRows) {
        return Math.max(1, scores.minimumRows() / blockRows);
    }

    private static void checkAxis(int axis) {
        if (axis != 0 && axis != 1) {
            throw new IllegalArgumentException("axis must be 0 or 1, but is " + axis);
        }
    }

    private static long ceil(long n, long part) {
        if (part < 1) {
            throw new IllegalArgumentException("blocks must have at least one row and column, but have " + part);
        }
        return n / part + (n % part == 0 ? 0 : 1);
    }

    /**
     * The elements where the mask is set, zeros elsewhere.
     *
     * @param out [rows, cols] without gaps; may be {@code in} if that has none
     */
    public static void apply(Scores scores, MemorySegment in, MemorySegment mask, MemorySegment out,
            Executor executor) {
        Native.input("in", in, scores.bytes(), executor);
        Native.input("mask", mask, scores.maskBytes(), executor);
        Native.output("out", out, scores.type.bytes(scores.elements()), executor);
        MemorySegment s = scores.toNative();
        Native.Cost cost = Native.Cost.of(scores.touched() + scores.maskBytes(), scores.touched());
        Native.run("tp_prune_apply", executor, scores.rows, 1, scores.minimumRows(), cost, (begin, end, worker) ->
                Kernels.tp_prune_apply(s, begin, end, in, mask, out), (cuda, begin, end) ->
                Kernels.tp_cuda_prune_apply(cuda, s, begin, end, in, mask, out));
    }

    /** Bytes that {@link #error} needs for {@code rowErrors}. */
    public static long errorBytes(Scores scores) {
        return Math.multiplyExact(scores.rows, tp_error.sizeof());
    }

    /**
     * Error of a changed copy against the matrix.
     *
     * @param out [rows, cols] without gaps, of the same type
     * @param rowErrors {@link #errorBytes} bytes for the errors row by row, which are added in order
     */
    public static Quantize.Error error(Scores scores, MemorySegment in, MemorySegment out, MemorySegment rowErrors,
            Executor executor) {
        Native.input("in", in, scores.bytes(), executor);
        Native.input("out", out, scores.type.bytes(scores.elements()), executor);
        Native.output("rowErrors", rowErrors, errorBytes(scores), Native.host(executor)); // they are read here
        Native.aligned("rowErrors", rowErrors, 8);
        MemorySegment s = scores.toNative();
        Native.Cost cost = Native.Cost.of(2 * scores.touched(), errorBytes(scores));
        Native.run("tp_prune_error", executor, scores.rows, 1, scores.minimumRows(), cost, (begin, end, worker) ->
                Kernels.tp_prune_error(s, begin, end, in, out, Quantize.lines(rowErrors, begin, end)), (cuda, begin, end) ->
                Kernels.tp_cuda_prune_error(cuda, s, begin, end, in, out, rowErrors));
        return Quantize.sum(rowErrors, scores.rows);
    }

    /** Of errors row by row, as {@link #error} leaves them, the largest one relative to the sum of squares of its row; 0 if all are 0. */
    public static double largestError(MemorySegment rowErrors, long rows) {
        double largest = 0;
        for (long at = 0; at < rows * tp_error.sizeof(); at += tp_error.sizeof()) {
            double squares = rowErrors.get(JAVA_DOUBLE, at + tp_error.sum_squares$offset());
            if (squares > 0) {
                largest = Math.max(largest, rowErrors.get(JAVA_DOUBLE, at + tp_error.sum_squared_error$offset()) / squares);
            }
        }
        return largest;
    }
}
