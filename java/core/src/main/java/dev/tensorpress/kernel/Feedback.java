package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_feedback;
import dev.tensorpress.bindings.tp_refit;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.stream.IntStream;

/**
 * Kernel family {@code feedback}: rounds or prunes a weight W [k, n] of k inputs and n outputs such that the sum over outputs of
 * e<sup>T</sup> H e becomes small, where e is what that changes an output's elements by, and H [k, k] the Gram matrix of the inputs.
 * {@code tensorpress/feedback.h} has the methods and their numerics; here whole matrices are cut into its blocks.
 *
 * <p>Matrices are off-heap, row-major, without gaps and aligned to their elements. Bits do not depend on the number of threads, nor on the
 * device. On a device, matrices are there from beginning to end, and have to fit: M, and up to seven of the size of the weight; what M is made of, the
 * factor of H with it, is the threads'.
 */
public final class Feedback {
    /** {@code TP_FEEDBACK_BLOCK}: inputs. */
    static final int BLOCK = 64;
    /** Outputs of a range begin at a multiple of this. */
    private static final long GRANULE = 128;
    /** The share of outputs still moving below which the others are left out. */
    private static final double LEFT = 0.75;

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
        /** The same where kernels run, for all but the groups. */
        private Codes at(Place place) {
            return new Codes(qmin, qmax, groups, place.of(scales), place.of(zeros), rows, keepZeros);
        }

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
     * Rounds by GPTQ.
     *
     * @param gram f64 [k, k], symmetric
     * @param damping added to its diagonal, with which it has to be positive definite
     * @param order of inputs, in which they are rounded
     * @param w f32 [k, n]
     * @param e f32 [k, n], out: W less what its codes mean
     * @return false if it is not positive definite; nothing is written then
     */
    public static boolean gptq(int k, long n, MemorySegment gram, double damping, int[] order, MemorySegment w, Codes codes, MemorySegment e,
            LinearAlgebra algebra, Executor executor) {
        Executor host = Native.host(executor);
        check(k, n, gram, w, codes, e, host);
        try (Arena arena = host.arena()) {
            MemorySegment backwards = arena.allocate(JAVA_LONG, k);
            MemorySegment reverse = arena.allocate(JAVA_LONG, k);
            for (int i = 0; i < k; i++) {
                backwards.setAtIndex(JAVA_LONG, i, order[k - 1 - i]);
                reverse.setAtIndex(JAVA_LONG, i, k - 1 - i);
            }
            // Rows and columns in reverse order: the factor in the lower triangle, in reverse order, is U.
            View h = View.of(arena.allocate(DType.F64.bytes((long) k * k), 64), k);
            View turned = View.of(arena.allocate(DType.F64.bytes((long) k * k), 64), k);
            algebra.copy(View.of(gram, k), k, k, turned, true, 1, backwards, MemorySegment.NULL);
            algebra.copy(turned, k, k, h, false, 1, backwards, MemorySegment.NULL);
            for (long i = 0; i < k; i++) {
                h.data().setAtIndex(JAVA_DOUBLE, i * k + i, h.data().getAtIndex(JAVA_DOUBLE, i * k + i) + damping);
            }
            if (!algebra.cholesky(k, h.data())) {
                return false;
            }
            MemorySegment factors = arena.allocate(JAVA_DOUBLE, k);
            for (long i = 0; i < k; i++) {
                factors.setAtIndex(JAVA_DOUBLE, i, 1 / h.data().getAtIndex(JAVA_DOUBLE, i * k + i));
            }
            MemorySegment m = arena.allocate(DType.F32.bytes((long) k * k), 64);
            algebra.copy(h, k, k, turned, true, 1, reverse, MemorySegment.NULL);
            algebra.copy(turned, k, k, new View(DType.F32, m, k), false, 1, reverse, factors);

            MemorySegment ordered = arena.allocate(DType.F32.bytes(Math.multiplyExact(k, n)), 64);
            MemorySegment groups = arena.allocate(JAVA_INT, k);
            for (int i = 0; i < k; i++) {
                groups.setAtIndex(JAVA_INT, i, codes.groups.getAtIndex(JAVA_INT, order[i]));
                ordered.asSlice(4 * i * n, 4 * n).copyFrom(w.asSlice(4 * order[i] * n, 4 * n));
            }
            Codes inOrder = new Codes(codes.qmin, codes.qmax, groups, codes.scales, codes.zeros, codes.rows, codes.keepZeros);
            try (Place place = new Place(executor)) {
                MemorySegment lost = place.allocate(ordered.byteSize());
                sweep(k, place.of(m), true, new Outputs(n, place.of(ordered), lost, place.allocate(ordered.byteSize()), inOrder.at(place)),
                        arena.allocate(JAVA_INT, n), executor);
                MemorySegment found = place.fetched(lost, ordered.byteSize());
                for (int i = 0; i < k; i++) {
                    e.asSlice(4 * order[i] * n, 4 * n).copyFrom(found.asSlice(4 * i * n, 4 * n));
                }
            }
        }
        return true;
    }

    /**
     * Moves codes by coordinate descent, over and over until none moves.
     *
     * @param gram f64 [k, k], symmetric
     * @param damping added to its diagonal
     * @param w f32 [k, n]
     * @param e f32 [k, n], in and out: W less what its codes mean
     * @param sweeps at most
     * @return sweeps that were made; the last one moved nothing if they are fewer than allowed
     */
    public static int descend(int k, long n, MemorySegment gram, double damping, MemorySegment w, Codes codes, MemorySegment e, int sweeps,
            LinearAlgebra algebra, Executor executor) {
        Executor host = Native.host(executor);
        check(k, n, gram, w, codes, e, host);
        long bytes = DType.F32.bytes(Math.multiplyExact(k, n));
        try (Arena arena = host.arena(); Place place = new Place(executor)) {
            MemorySegment m = place.of(relative(k, gram, damping, algebra, arena));
            return descend(k, n, m, w.asSlice(0, bytes), codes, e.asSlice(0, bytes), sweeps, algebra, executor);
        }
    }

    /** What descent goes by: H with each row divided by its element on the diagonal, and that then 0. */
    private static MemorySegment relative(long k, MemorySegment gram, double damping, LinearAlgebra algebra, Arena arena) {
        MemorySegment m = arena.allocate(DType.F32.bytes(k * k), 64);
        MemorySegment factors = arena.allocate(JAVA_DOUBLE, k);
        for (long i = 0; i < k; i++) {
            // The row of an input that is always 0 is 0 whatever it is divided by.
            factors.setAtIndex(JAVA_DOUBLE, i, 1 / Math.max(gram.getAtIndex(JAVA_DOUBLE, i * k + i) + damping, Double.MIN_NORMAL));
        }
        algebra.copy(View.of(gram, k), k, k, new View(DType.F32, m, k), false, 1, MemorySegment.NULL, factors);
        for (long i = 0; i < k; i++) {
            m.setAtIndex(JAVA_FLOAT, i * k + i, 0);
        }
        return m;
    }

    /** Which elements of a weight stay. */
    @FunctionalInterface
    public interface Choice {
        /**
         * @param scores f32 [k, n]: the larger in magnitude, the more the loss grows if the element becomes 0 and all others stay as they are
         * @param mask out, as {@link Prune} has it: of a matrix [k, n]
         */
        void make(MemorySegment scores, MemorySegment mask);
    }

    /**
     * Prunes, and changes what stays such that it makes up for what goes, by coordinate descent: before each of the first sweeps it is chosen anew
     * what stays, by what the others have become. The first choice is by |w| times the root of H's diagonal (Wanda).
     *
     * @param gram f64 [k, k], symmetric
     * @param damping added to its diagonal
     * @param w f32 [k, n], finite
     * @param choice of what stays
     * @param choices how often that is made, 1 to {@code sweeps}
     * @param mask out: the last choice
     * @param e f32 [k, n], out: W less what it has become; W where it is pruned
     */
    public static void prune(int k, long n, MemorySegment gram, double damping, MemorySegment w, Choice choice, int choices, int sweeps,
            MemorySegment mask, MemorySegment e, LinearAlgebra algebra, Executor executor) {
        Executor host = Native.host(executor);
        long line = (n + 7) / 8;
        Native.operand("gram", gram, DType.F64, k, k, k, host);
        Native.operand("w", w, DType.F32, k, n, n, host);
        Native.output("mask", mask, k * line, host);
        Native.result("e", e, DType.F32, k, n, n, host);
        Native.apart("e", e, "w", w);
        if (choices < 1 || choices > sweeps) {
            throw new IllegalArgumentException("choices must be 1 to " + sweeps + ", but are " + choices);
        }
        double most = 0;
        for (long i = 0; i < k; i++) {
            most = Math.max(most, gram.getAtIndex(JAVA_DOUBLE, i * k + i) + damping);
        }
        float[] roots = new float[k];
        for (int i = 0; i < k; i++) {
            // Ratios, which take nothing out of range.
            roots[i] = most == 0 ? 0 : (float) Math.sqrt((gram.getAtIndex(JAVA_DOUBLE, (long) i * k + i) + damping) / most);
        }
        long bytes = DType.F32.bytes(Math.multiplyExact(k, n));
        try (Arena arena = host.arena(); Place place = new Place(executor)) {
            MemorySegment m = place.of(relative(k, gram, damping, algebra, arena));
            MemorySegment there = place.of(w.asSlice(0, bytes));
            MemorySegment lost = place.onDevice() ? place.allocate(bytes) : e.asSlice(0, bytes).fill((byte) 0);
            MemorySegment outside = place.allocate(bytes);
            MemorySegment seen = place.onDevice() ? arena.allocate(bytes, 64) : outside;
            MemorySegment scores = arena.allocate(bytes, 64);
            MemorySegment spec = tp_refit.allocate(arena);
            tp_refit.outputs(spec, n);
            tp_refit.m_stride(spec, k);
            tp_refit.stride(spec, n);
            tp_refit.mask_stride(spec, line);
            for (int sweep = 0; sweep < sweeps; sweep++) {
                if (sweep < choices) {
                    place.fetch(outside, seen);
                    scores(k, n, w, seen, roots, scores, host);
                    choice.make(scores, mask);
                }
                sweep(k, n, m, false, outside, (first, size, change) -> {
                    tp_refit.inputs(spec, size);
                    long at = 4 * first * n;
                    MemorySegment block = Native.from(m, 4 * (first * k + first));
                    MemorySegment own = Native.from(there, at);
                    MemorySegment others = Native.from(outside, at);
                    MemorySegment kept = mask.asSlice(first * line);
                    MemorySegment errors = Native.from(lost, at);
                    Native.Cost cost = new Native.Cost(4 * (size * size + 3 * size * n), 8 * size * n, size * size * n);
                    Native.run("tp_feedback_refit", executor, n, GRANULE, Executor.worth(size * size / 8), cost, (begin, end, worker) ->
                            Kernels.tp_feedback_refit(spec, begin, end, block, own, others, kept, errors, change), (cuda, begin, end) ->
                            Kernels.tp_cuda_feedback_refit(cuda, spec, begin, end, block, own, others, kept, errors, change));
                    return true;
                }, executor);
            }
            place.fetch(lost, e.asSlice(0, bytes));
        }
    }

    /** The best values of all elements beside the others, times the roots of the diagonal. */
    private static void scores(long k, long n, MemorySegment w, MemorySegment outside, float[] roots, MemorySegment scores, Executor executor) {
        executor.run(k, 1, Executor.worth(n), (begin, end, worker) -> {
            for (long i = begin; i < end; i++) {
                float[] x = Outputs.row(w, i, n).toArray(JAVA_FLOAT);
                float[] more = Outputs.row(outside, i, n).toArray(JAVA_FLOAT);
                for (int j = 0; j < x.length; j++) {
                    x[j] = (x[j] + more[j]) * roots[(int) i];
                }
                Outputs.row(scores, i, n).copyFrom(MemorySegment.ofArray(x));
            }
        });
    }

    /** Outputs that a sweep has left as they were have come to their end, and are left out once they are many. */
    private static int descend(long k, long n, MemorySegment m, MemorySegment w, Codes codes, MemorySegment e, int sweeps, LinearAlgebra algebra,
            Executor executor) {
        int[] places = IntStream.range(0, Math.toIntExact(n)).toArray();
        Place place = new Place(executor);
        try (Arena arena = executor.arena()) {
            MemorySegment counts = arena.allocate(JAVA_INT, n);
            Outputs left = new Outputs(n, place.of(w), place.of(e), place.allocate(w.byteSize()), codes.at(place));
            try (Gemm product = new Gemm(Gemm.Spec.of(DType.F32, Gemm.Form.AB, k, n, k), executor)) {
                product.pack(left.e).multiply(m, left.outside);
            }
            for (int made = 1; made <= sweeps; made++) {
                MemorySegment moved = counts.asSlice(0, 4 * left.n).fill((byte) 0);
                sweep(k, m, false, left, moved, executor);
                int[] moving = IntStream.range(0, places.length).filter(j -> moved.getAtIndex(JAVA_INT, j) > 0).toArray();
                boolean last = moving.length == 0 || made == sweeps;
                if (last || moving.length < LEFT * places.length) {
                    if (left.n == n) {
                        place.fetch(left.e, e);
                    } else {
                        put(k, n, e, place.fetched(left.e, 4 * k * left.n), places, Native.host(executor));
                    }
                    if (last) {
                        return made;
                    }
                    Place next = new Place(executor);
                    try {
                        left = left.take(k, moving, next, algebra, executor);
                    } finally {
                        place.close();
                        place = next;
                    }
                    int[] before = places;
                    places = IntStream.of(moving).map(j -> before[j]).toArray();
                }
            }
            return sweeps;
        } finally {
            place.close();
        }
    }

    /** Puts errors of some outputs where they belong among those of all. */
    private static void put(long k, long n, MemorySegment e, MemorySegment from, int[] columns, Executor executor) {
        executor.run(k, 1, Executor.worth(columns.length), (begin, end, worker) -> {
            for (long i = begin; i < end; i++) {
                float[] row = Outputs.row(e, i, n).toArray(JAVA_FLOAT);
                float[] some = Outputs.row(from, i, columns.length).toArray(JAVA_FLOAT);
                for (int j = 0; j < some.length; j++) {
                    row[columns[j]] = some[j];
                }
                Outputs.row(e, i, n).copyFrom(MemorySegment.ofArray(row));
            }
        });
    }

    /** Some outputs: [k, n] each. */
    private record Outputs(long n, MemorySegment w, MemorySegment e, MemorySegment outside, Codes codes) {
        /** Copies of some of these. */
        Outputs take(long k, int[] columns, Place place, LinearAlgebra algebra, Executor executor) {
            MemorySegment zeros = codes.zeros.equals(MemorySegment.NULL) ? codes.zeros : take(codes.zeros, codes.rows, columns, place, algebra, executor);
            return new Outputs(columns.length, take(w, k, columns, place, algebra, executor), take(e, k, columns, place, algebra, executor),
                    take(outside, k, columns, place, algebra, executor), new Codes(codes.qmin, codes.qmax, codes.groups,
                    take(codes.scales, codes.rows, columns, place, algebra, executor), zeros, codes.rows, codes.keepZeros));
        }

        private MemorySegment take(MemorySegment from, long rows, int[] columns, Place place, LinearAlgebra algebra, Executor executor) {
            MemorySegment to = place.allocate(DType.F32.bytes(rows * columns.length));
            if (place.onDevice()) {
                takeThere(from, rows, columns, to, algebra, executor);
                return to;
            }
            executor.run(rows, 1, Executor.worth(columns.length), (begin, end, worker) -> {
                // Arrays: elements of segments cost ten times as much before the second compiler.
                float[] some = new float[columns.length];
                for (long i = begin; i < end; i++) {
                    float[] row = row(from, i, n).toArray(JAVA_FLOAT);
                    for (int j = 0; j < some.length; j++) {
                        some[j] = row[columns[j]];
                    }
                    row(to, i, some.length).copyFrom(MemorySegment.ofArray(some));
                }
            });
            return to;
        }

        /** A device copies rows in any order, and turns matrices. */
        private void takeThere(MemorySegment from, long rows, int[] columns, MemorySegment to, LinearAlgebra algebra, Executor executor) {
            long count = columns.length;
            try (Place place = new Place(executor); Arena arena = executor.arena()) {
                MemorySegment order = arena.allocateFrom(JAVA_LONG, IntStream.of(columns).asLongStream().toArray());
                View turned = new View(DType.F32, place.allocate(DType.F32.bytes(n * rows)), rows);
                View taken = new View(DType.F32, place.allocate(DType.F32.bytes(count * rows)), rows);
                algebra.copy(new View(DType.F32, from, n), rows, n, turned, rows, true, MemorySegment.NULL, MemorySegment.NULL);
                algebra.copy(turned, n, rows, taken, count, false, order, MemorySegment.NULL);
                algebra.copy(taken, count, rows, new View(DType.F32, to, count), count, true, MemorySegment.NULL, MemorySegment.NULL);
            }
        }

        private static MemorySegment row(MemorySegment of, long i, long length) {
            return of.asSlice(4 * i * length, 4 * length);
        }
    }

    private static void check(long k, long n, MemorySegment gram, MemorySegment w, Codes codes, MemorySegment e, Executor executor) {
        Native.operand("gram", gram, DType.F64, k, k, k, executor);
        Native.operand("w", w, DType.F32, k, n, n, executor);
        Native.result("e", e, DType.F32, k, n, n, executor);
        Native.apart("e", e, "w", w);
        codes.check(k, n, executor);
    }

    /** Some inputs, one after the other. */
    private interface Block {
        /**
         * @param change f32 [size, n], out: what was added to their errors
         * @return false if that is nothing
         */
        boolean make(long first, long size, MemorySegment change);
    }

    /**
     * All blocks once.
     *
     * @param lower whether only inputs behind a block take notice of it
     */
    private static void sweep(long k, long n, MemorySegment m, boolean lower, MemorySegment outside, Block block, Executor executor) {
        long last = k % BLOCK;
        try (Place place = new Place(executor); Gemm whole = others(k, n, Math.min(k, BLOCK), executor); Gemm part = others(k, n, last, executor)) {
            MemorySegment change = place.allocate(DType.F32.bytes(Math.multiplyExact(Math.min(k, BLOCK), n)));
            for (long first = 0; first < k; first += BLOCK) {
                long size = Math.min(BLOCK, k - first);
                long from = lower ? first + size : 0;
                if (block.make(first, size, change) && from < k) {
                    (size == BLOCK ? whole : part).pack(change).multiply(k - from, Native.from(m, 4 * (from * k + first)),
                            Native.from(outside, 4 * from * n));
                }
            }
        }
    }

    /**
     * Rounds all blocks once.
     *
     * @param moved int32 [n], zeros; out: how many elements of each output have moved
     */
    private static void sweep(long k, MemorySegment m, boolean lower, Outputs o, MemorySegment moved, Executor executor) {
        try (Arena arena = executor.arena()) {
            MemorySegment spec = tp_feedback.allocate(arena);
            long[] before = new long[1];
            sweep(k, o.n, m, lower, o.outside, (first, size, change) -> {
                fill(spec, k, o.n, size, o.codes);
                round(first, size, k, spec, m, o, change, moved, executor);
                long after = 0;
                for (int count : moved.toArray(JAVA_INT)) {
                    after += count;
                }
                boolean any = after > before[0];
                before[0] = after;
                return any;
            }, executor);
        }
    }

    /** What a block of so many inputs adds to what others see of it. */
    private static Gemm others(long k, long n, long inputs, Executor executor) {
        return new Gemm(new Gemm.Spec(DType.F32, Gemm.Form.AB, k, n, inputs, k, n, n, true), executor);
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

    private static void round(long first, long size, long k, MemorySegment spec, MemorySegment m, Outputs o, MemorySegment change,
            MemorySegment moved, Executor executor) {
        MemorySegment block = Native.from(m, 4 * (first * k + first));
        long at = 4 * first * o.n;
        MemorySegment w = Native.from(o.w, at);
        MemorySegment outside = Native.from(o.outside, at);
        MemorySegment groups = o.codes.groups.asSlice(4 * first);
        MemorySegment e = Native.from(o.e, at);
        Native.Cost cost = new Native.Cost(4 * (size * size + 3 * size * o.n), 8 * size * o.n, size * size * o.n);
        Native.run("tp_feedback_round", executor, o.n, GRANULE, Executor.worth(size * size / 8), cost, (begin, end, worker) ->
                Kernels.tp_feedback_round(spec, begin, end, block, w, outside, groups, o.codes.scales, o.codes.zeros, e, change, moved),
                (cuda, begin, end) -> Kernels.tp_cuda_feedback_round(cuda, spec, begin, end, block, w, outside, groups, o.codes.scales,
                        o.codes.zeros, e, change, moved));
    }
}
