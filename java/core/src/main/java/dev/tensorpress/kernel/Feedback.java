package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_feedback;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Kernel family {@code feedback}: rounds a weight W [k, n] of k inputs and n outputs such that the sum over outputs of e<sup>T</sup> H e
 * becomes small, where e is what rounding changes an output's elements by, and H [k, k] the Gram matrix of the inputs.
 * {@code tensorpress/feedback.h} has the methods and their numerics; here whole matrices are cut into its blocks.
 *
 * <p>Matrices are off-heap, row-major, without gaps and aligned to their elements. Bits do not depend on the number of threads. What it
 * runs on are the threads of the executor.
 */
public final class Feedback {
    /** {@code TP_FEEDBACK_BLOCK}: inputs. */
    static final int BLOCK = 64;
    /** Outputs of a range begin at a multiple of this. */
    private static final long GRANULE = 128;

    static {
        dev.tensorpress.internal.NativeLibrary.load();
    }

    private Feedback() {}

    /**
     * What elements are rounded to: (q - zero) * scale.
     *
     * @param qmin smallest q
     * @param qmax largest q
     * @param groups int32 [k]: the row of scales that an input has
     * @param scales f32 [rows, n], positive and finite
     * @param zeros f32 [rows, n], whole numbers, or {@code NULL} for 0
     * @param rows of scales, and of zeros
     * @param keepZeros whether elements that are 0 stay so
     */
    public record Codes(int qmin, int qmax, MemorySegment groups, MemorySegment scales, MemorySegment zeros, long rows, boolean keepZeros) {
        private void check(long k, long n, Executor executor) {
            Native.operand("groups", groups, DType.I32, 1, k, k, executor);
            Native.operand("scales", scales, DType.F32, rows, n, n, executor);
            if (!zeros.equals(MemorySegment.NULL)) {
                Native.operand("zeros", zeros, DType.F32, rows, n, n, executor);
            }
            for (long i = 0; i < k; i++) {
                int group = groups.getAtIndex(JAVA_INT, i);
                if (group < 0 || group >= rows) {
                    throw new IllegalArgumentException("group " + group + " of input " + i + " is not one of " + rows);
                }
            }
        }
    }

    /**
     * Rounds by GPTQ, inputs in their order.
     *
     * @param h f64 [k, k], symmetric and positive definite; overwritten
     * @param w f32 [k, n]
     * @param e f32 [k, n], out: W less what its codes mean
     * @return false if h is not positive definite; e is of no use then
     */
    public static boolean gptq(long k, long n, MemorySegment h, MemorySegment w, Codes codes, MemorySegment e, LinearAlgebra algebra,
            Executor executor) {
        Executor host = Native.host(executor);
        check(k, n, h, w, codes, e, host);
        reverse(k, h);
        if (!algebra.cholesky(k, h)) {
            return false;
        }
        try (Arena arena = host.arena()) {
            MemorySegment m = arena.allocate(DType.F32.bytes(Math.multiplyExact(k, k)), 64);
            // U[l, i] = L[k - 1 - l, k - 1 - i].
            host.run(k, 1, Executor.worth(k), (begin, end, worker) -> {
                for (long i = begin; i < end; i++) {
                    long at = k - 1 - i;
                    double diagonal = h.getAtIndex(JAVA_DOUBLE, at * k + at);
                    for (long l = 0; l < i; l++) {
                        m.setAtIndex(JAVA_FLOAT, i * k + l, (float) (h.getAtIndex(JAVA_DOUBLE, (k - 1 - l) * k + at) / diagonal));
                    }
                }
            });
            e.asSlice(0, DType.F32.bytes(k * n)).fill((byte) 0);
            MemorySegment outside = arena.allocate(DType.F32.bytes(Math.multiplyExact(k, n)), 64);
            sweep(k, n, m, true, w, outside, codes, e, host);
        }
        return true;
    }

    /** Rows and columns in reverse order: the lower triangle of what the upper one was. */
    private static void reverse(long k, MemorySegment h) {
        for (long i = 0, last = k * k - 1; i < last - i; i++) {
            double x = h.getAtIndex(JAVA_DOUBLE, i);
            h.setAtIndex(JAVA_DOUBLE, i, h.getAtIndex(JAVA_DOUBLE, last - i));
            h.setAtIndex(JAVA_DOUBLE, last - i, x);
        }
    }

    /**
     * Moves codes by coordinate descent, over and over until none moves.
     *
     * @param h f64 [k, k], symmetric, its diagonal positive
     * @param w f32 [k, n]
     * @param e f32 [k, n], in and out: W less what its codes mean
     * @param sweeps at most
     * @return sweeps that were made; the last one moved nothing if they are fewer than allowed
     */
    public static int descend(long k, long n, MemorySegment h, MemorySegment w, Codes codes, MemorySegment e, int sweeps, Executor executor) {
        Executor host = Native.host(executor);
        check(k, n, h, w, codes, e, host);
        try (Arena arena = host.arena()) {
            MemorySegment m = arena.allocate(DType.F32.bytes(Math.multiplyExact(k, k)), 64);
            host.run(k, 1, Executor.worth(k), (begin, end, worker) -> {
                for (long i = begin; i < end; i++) {
                    double diagonal = h.getAtIndex(JAVA_DOUBLE, i * k + i);
                    for (long l = 0; l < k; l++) {
                        m.setAtIndex(JAVA_FLOAT, i * k + l, l == i ? 0 : (float) (h.getAtIndex(JAVA_DOUBLE, i * k + l) / diagonal));
                    }
                }
            });
            MemorySegment outside = arena.allocate(DType.F32.bytes(Math.multiplyExact(k, n)), 64);
            try (Gemm all = new Gemm(Gemm.Spec.of(DType.F32, Gemm.Form.AB, k, n, k), host)) {
                all.pack(e).multiply(m, outside);
            }
            int made = 0;
            while (made < sweeps) {
                made++;
                if (sweep(k, n, m, false, w, outside, codes, e, host) == 0) {
                    break;
                }
            }
            return made;
        }
    }

    private static void check(long k, long n, MemorySegment h, MemorySegment w, Codes codes, MemorySegment e, Executor executor) {
        Native.result("h", h, DType.F64, k, k, k, executor);
        Native.operand("w", w, DType.F32, k, n, n, executor);
        Native.result("e", e, DType.F32, k, n, n, executor);
        Native.apart("e", e, "w", w);
        codes.check(k, n, executor);
    }

    /**
     * All blocks once.
     *
     * @param lower whether only inputs behind a block take notice of it
     * @return elements that moved
     */
    private static long sweep(long k, long n, MemorySegment m, boolean lower, MemorySegment w, MemorySegment outside, Codes codes,
            MemorySegment e, Executor executor) {
        long moved = 0;
        try (Arena arena = executor.arena()) {
            MemorySegment spec = tp_feedback.allocate(arena);
            MemorySegment change = arena.allocate(DType.F32.bytes(Math.multiplyExact(Math.min(k, BLOCK), n)), 64);
            MemorySegment counts = arena.allocate(JAVA_LONG, executor.threads());
            for (long first = 0; first < k; first += BLOCK) {
                long size = Math.min(BLOCK, k - first);
                fill(spec, k, n, size, codes);
                counts.fill((byte) 0);
                round(first, size, k, n, spec, m, w, outside, codes, e, change, counts, executor);
                long inBlock = 0;
                for (long t = 0; t < executor.threads(); t++) {
                    inBlock += counts.getAtIndex(JAVA_LONG, t);
                }
                moved += inBlock;
                long from = lower ? first + size : 0;
                if (inBlock == 0 || from == k) {
                    continue;
                }
                try (Gemm others = new Gemm(new Gemm.Spec(DType.F32, Gemm.Form.AB, k - from, n, size, k, n, n, true), executor)) {
                    others.pack(change).multiply(m.asSlice(4 * (from * k + first)), outside.asSlice(4 * from * n));
                }
            }
        }
        return moved;
    }

    private static void fill(MemorySegment spec, long k, long n, long inputs, Codes codes) {
        tp_feedback.inputs(spec, inputs);
        tp_feedback.outputs(spec, n);
        tp_feedback.m_stride(spec, k);
        tp_feedback.stride(spec, n);
        tp_feedback.scale_stride(spec, n);
        tp_feedback.qmin(spec, codes.qmin);
        tp_feedback.qmax(spec, codes.qmax);
        tp_feedback.keep_zeros(spec, codes.keepZeros ? 1 : 0);
    }

    private static void round(long first, long size, long k, long n, MemorySegment spec, MemorySegment m, MemorySegment w,
            MemorySegment outside, Codes codes, MemorySegment e, MemorySegment change, MemorySegment counts, Executor executor) {
        MemorySegment block = m.asSlice(4 * (first * k + first));
        long at = 4 * first * n;
        Native.Cost cost = new Native.Cost(4 * (size * size + 3 * size * n), 8 * size * n, size * size * n);
        Native.run("tp_feedback_round", executor, n, GRANULE, Executor.worth(size * size / 8), Long.BYTES, cost, (begin, end, worker) -> {
            int status = Kernels.tp_feedback_round(spec, begin, end, block, w.asSlice(at), outside.asSlice(at),
                    codes.groups.asSlice(4 * first), codes.scales, codes.zeros, e.asSlice(at), change, worker.scratch());
            long sum = counts.getAtIndex(JAVA_LONG, worker.index()) + worker.scratch().get(JAVA_LONG, 0);
            counts.setAtIndex(JAVA_LONG, worker.index(), sum);
            return status;
        });
    }
}
