package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Kernel family {@code statistics}: what values X [rows, channels] are like. Formulas are documented once, in {@code
 * tensorpress/statistics.h}; {@link Gram} and {@link Patches} are of the same family.
 *
 * <p>X is f32, off-heap, at any byte. Results are the same for any number of threads, every processor and every device. It runs on a
 * device if X is a {@link DeviceMemory} of it: reading X is all that there is to do, so to copy it would take longer.
 */
public final class Observe {
    /** Bins of a histogram. */
    public static final int BINS = 2048;
    /** Channels that share a cache line. */
    private static final int LINE = 16;
    /** Sums that one channel has until the end: one alone would wait for each addition. */
    private static final int SUMS = 64;

    static {
        dev.tensorpress.internal.NativeLibrary.load();
    }

    private Observe() {}

    /**
     * Adds rows to what is known of their channels. With several channels, sums are those of rows in ascending order; those of a single one
     * have every 64th element first.
     *
     * @param stride elements from row to row
     * @param min f32 [channels]; infinity at first
     * @param max f32 [channels]; -infinity at first
     * @param sum f64 [channels]
     * @param squares f64 [channels]: sums of squares
     * @return row * channels + channel of the first element that is NaN or infinite, after which what is known is worth nothing any more;
     *     -1 if all are finite
     */
    public static long channels(MemorySegment x, long rows, long channels, long stride, MemorySegment min, MemorySegment max, MemorySegment sum,
            MemorySegment squares, Executor executor) {
        Executor host = Native.host(executor);
        Native.input("x", x, Native.bytes("x", DType.F32, rows, channels, stride), executor);
        Native.result("min", min, DType.F32, 1, channels, channels, host);
        Native.result("max", max, DType.F32, 1, channels, channels, host);
        Native.result("sum", sum, DType.F64, 1, channels, channels, host);
        Native.result("squares", squares, DType.F64, 1, channels, channels, host);
        Executor near = Native.near(executor, x);
        return channels == 1 && stride == 1 && rows >= SUMS ? one(x, rows, min, max, sum, squares, near)
                : several(x, rows, channels, stride, min, max, sum, squares, near);
    }

    private static long several(MemorySegment x, long rows, long channels, long stride, MemorySegment min, MemorySegment max, MemorySegment sum,
            MemorySegment squares, Executor executor) {
        long[] first = {-1};
        Native.Cost cost = Native.Cost.of(4 * rows * channels, 24 * channels);
        Native.run("tp_observe_channels", executor, channels, LINE, Executor.worth(rows), Long.BYTES, cost, (begin, end, worker) -> {
            int status = Kernels.tp_observe_channels(rows, channels, stride, begin, end, x, min, max, sum, squares, worker.scratch());
            long at = worker.scratch().get(JAVA_LONG, 0);
            synchronized (first) {
                first[0] = first[0] < 0 || at >= 0 && at < first[0] ? at : first[0];
            }
            return status;
        }, (cuda, begin, end) -> {
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment at = arena.allocate(JAVA_LONG);
                int status = Kernels.tp_cuda_observe_channels(cuda, rows, channels, stride, begin, end, x, min, max, sum, squares, at);
                first[0] = at.get(JAVA_LONG, 0);
                return status;
            }
        });
        return first[0];
    }

    /** Elements as rows of SUMS channels, which are added up then. */
    private static long one(MemorySegment x, long n, MemorySegment min, MemorySegment max, MemorySegment sum, MemorySegment squares,
            Executor executor) {
        try (Arena arena = executor.arena()) {
            MemorySegment least = arena.allocate(JAVA_FLOAT, SUMS);
            MemorySegment most = arena.allocate(JAVA_FLOAT, SUMS);
            MemorySegment sums = arena.allocate(JAVA_DOUBLE, SUMS);
            MemorySegment squareSums = arena.allocate(JAVA_DOUBLE, SUMS);
            for (int i = 0; i < SUMS; i++) {
                least.setAtIndex(JAVA_FLOAT, i, Float.POSITIVE_INFINITY);
                most.setAtIndex(JAVA_FLOAT, i, Float.NEGATIVE_INFINITY);
            }
            long whole = n / SUMS * SUMS;
            long at = several(x, n / SUMS, SUMS, SUMS, least, most, sums, squareSums, executor);
            if (at < 0) {
                at = several(Native.from(x, 4 * whole), 1, n - whole, n - whole, least, most, sums, squareSums, executor);
                at = at < 0 ? at : whole + at;
            }
            for (int i = 0; i < SUMS; i++) {
                min.set(JAVA_FLOAT, 0, Math.min(min.get(JAVA_FLOAT, 0), least.getAtIndex(JAVA_FLOAT, i)));
                max.set(JAVA_FLOAT, 0, Math.max(max.get(JAVA_FLOAT, 0), most.getAtIndex(JAVA_FLOAT, i)));
                sum.set(JAVA_DOUBLE, 0, sum.get(JAVA_DOUBLE, 0) + sums.getAtIndex(JAVA_DOUBLE, i));
                squares.set(JAVA_DOUBLE, 0, squares.get(JAVA_DOUBLE, 0) + squareSums.getAtIndex(JAVA_DOUBLE, i));
            }
            return at;
        }
    }

    /**
     * Adds the number of elements in each of {@link #BINS} bins, of which the middle one begins at 0. What lies outside of all is counted in
     * the first or the last one.
     *
     * @param width of a bin: a power of two from 2<sup>-126</sup> to 2<sup>126</sup>
     * @param counts int64 [BINS]
     */
    public static void histogram(MemorySegment x, long rows, long channels, long stride, float width, MemorySegment counts, Executor executor) {
        Native.input("x", x, Native.bytes("x", DType.F32, rows, channels, stride), executor);
        Native.result("counts", counts, DType.I64, 1, BINS, BINS, Native.host(executor));
        // One row is as good as many, if they lie without gaps.
        long line = stride == channels ? 1 : channels;
        Native.Cost cost = Native.Cost.of(4 * rows * channels, 8 * BINS);
        Native.run("tp_observe_histogram", Native.near(executor, x), line == 1 ? rows * channels : rows, 1, 4 * Executor.worth(line), 8 * BINS, cost,
                (begin, end, worker) -> {
                    MemorySegment own = worker.scratch().asSlice(0, 8 * BINS).fill((byte) 0);
                    int status = line == 1
                            ? Kernels.tp_observe_histogram(1, end - begin, end - begin, 0, 1, x.asSlice(4 * begin), width, own)
                            : Kernels.tp_observe_histogram(rows, channels, stride, begin, end, x, width, own);
                    synchronized (counts) {
                        for (int i = 0; i < BINS; i++) {
                            counts.setAtIndex(JAVA_LONG, i, counts.getAtIndex(JAVA_LONG, i) + own.getAtIndex(JAVA_LONG, i));
                        }
                    }
                    return status;
                }, (cuda, begin, end) -> Kernels.tp_cuda_observe_histogram(cuda, rows, channels, stride, 0, rows, x, width, counts));
    }
}
