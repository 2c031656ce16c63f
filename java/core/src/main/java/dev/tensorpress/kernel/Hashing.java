package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_hashing;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Kernel family {@code hashing}: a matrix whose elements share few values, which of them by a hash of the position.
 * {@code tensorpress/hashing.h} has the hash.
 *
 * <p>Matrices are off-heap, row-major, without gaps and aligned to their elements. Bits do not depend on the number of threads, or on the
 * processor. Failures of a kernel are {@link KernelException}s.
 */
public final class Hashing {
    /** Parts that sums are taken of, at most. */
    private static final long PARTS = 8;
    /** Values that share a cache line. */
    private static final long VALUES = 16;

    static {
        dev.tensorpress.internal.NativeLibrary.load();
    }

    private Hashing() {}

    /**
     * {@code tp_hashing}.
     *
     * @param rows below 2<sup>32</sup>
     * @param cols below 2<sup>32</sup>
     * @param buckets values that there are, 1 to 2<sup>31</sup> - 1
     */
    public record Spec(long rows, long cols, long buckets, int seed) {
        public Spec {
            Native.elements("the matrix", rows, cols, cols);
            if (rows >= 1L << 32 || cols >= 1L << 32 || buckets < 1 || buckets > Integer.MAX_VALUE) {
                throw new IllegalArgumentException("no " + buckets + " values for " + rows + " x " + cols + " elements");
            }
        }

        private MemorySegment toNative() {
            MemorySegment s = Native.struct(tp_hashing.layout());
            tp_hashing.rows(s, rows);
            tp_hashing.cols(s, cols);
            tp_hashing.stride(s, cols);
            tp_hashing.buckets(s, buckets);
            tp_hashing.seed(s, seed);
            return s;
        }

        /** By the shape alone; sums do not take more memory than the matrix. */
        private long parts() {
            return Math.max(1, Math.min(Math.min(PARTS, rows), rows * cols / (3 * buckets)));
        }
    }

    /**
     * The values by which the matrix is met best, by least squares.
     *
     * @param in f32 [rows, cols]
     * @param values f32 [buckets], out; 0 where no element has them
     * @throws KernelException {@link KernelException#NONFINITE} if an element is not finite
     */
    public static void fit(Spec spec, MemorySegment in, MemorySegment values, Executor executor) {
        Executor host = Native.host(executor);
        Native.operand("in", in, DType.F32, spec.rows, spec.cols, spec.cols, host);
        Native.result("values", values, DType.F32, 1, spec.buckets, spec.buckets, host);
        Native.apart("values", values, "in", in);
        MemorySegment s = spec.toNative();
        long buckets = spec.buckets;
        long parts = spec.parts();
        try (Arena arena = host.arena()) {
            MemorySegment sums = arena.allocate(JAVA_DOUBLE, parts * buckets);
            MemorySegment counts = arena.allocate(JAVA_INT, parts * buckets);
            Native.run("tp_hash_add", host, parts, 1, 1, Native.Cost.of(DType.F32.bytes(spec.rows * spec.cols), 12 * parts * buckets),
                    (begin, end, worker) -> add(s, spec.rows, parts, begin, end, in, sums, counts, buckets));
            Native.run("tp_hash_mean", host, buckets, VALUES, Executor.worth(3 * parts), Native.Cost.of(12 * parts * buckets, 4 * buckets),
                    (begin, end, worker) -> Kernels.tp_hash_mean(parts, buckets, begin, end, sums, counts, values));
        }
    }

    private static int add(MemorySegment spec, long rows, long parts, long begin, long end, MemorySegment in, MemorySegment sums,
            MemorySegment counts, long buckets) {
        int status = 0;
        for (long part = begin; part < end && status == 0; part++) {
            status = Kernels.tp_hash_add(spec, rows * part / parts, rows * (part + 1) / parts, in, sums.asSlice(8 * part * buckets),
                    counts.asSlice(4 * part * buckets));
        }
        return status;
    }

    /**
     * @param values f32 [buckets]
     * @param out f32 [rows, cols]
     */
    public static void decode(Spec spec, MemorySegment values, MemorySegment out, Executor executor) {
        Executor host = Native.host(executor);
        Native.operand("values", values, DType.F32, 1, spec.buckets, spec.buckets, host);
        Native.result("out", out, DType.F32, spec.rows, spec.cols, spec.cols, host);
        Native.apart("out", out, "values", values);
        MemorySegment s = spec.toNative();
        Native.run("tp_hash_decode", host, spec.rows, 1, Executor.worth(spec.cols),
                Native.Cost.of(4 * spec.buckets, DType.F32.bytes(spec.rows * spec.cols)),
                (begin, end, worker) -> Kernels.tp_hash_decode(s, begin, end, values, out));
    }
}
