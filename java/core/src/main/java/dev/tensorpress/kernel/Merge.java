package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_models;
import dev.tensorpress.bindings.tp_tasks;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;

/**
 * Kernel family {@code merge}: one weight made of those of several models. {@code tensorpress/merge.h} has the formulas.
 *
 * <p>Elements are f32, f16 or bf16, off-heap, without gaps, at any address. Bits do not depend on the number of threads, on the
 * processor, or on how a weight is cut. Failures of a kernel are {@link KernelException}s; {@link KernelException#NONFINITE} where an element
 * is NaN, or a result would not be finite.
 */
public final class Merge {
    /** Models at most, beside a base. */
    public static final int MOST = 64;

    /** Elements whose inner products are added up by themselves. */
    public static final int BLOCK = 4096;

    static {
        dev.tensorpress.internal.NativeLibrary.load();
    }

    private Merge() {}

    /** What of the differences to a base is dropped. */
    public enum Drop {
        NONE, SMALL, RANDOM
    }

    /**
     * {@code tp_tasks}, but for its sizes.
     *
     * @param elect whether only differences of the elected sign count, of which the weighted mean is taken
     * @param scale of the sum, or the mean, before it is added to the base; finite
     * @param keep probability, above 0 and at most 1, with which {@link Drop#RANDOM} keeps a difference
     * @param seed of the noise
     * @param stream of the noise of the first model; others have those after it
     */
    public record Tasks(Drop drop, boolean elect, double scale, double keep, long seed, long stream) {}

    /**
     * The sum of the weights times the models' elements.
     *
     * @param in elements of each model
     * @param weights of the models, finite
     * @param out elements; may be one of {@code in}
     */
    public static void combine(DType type, long elements, List<MemorySegment> in, double[] weights, MemorySegment out, Executor executor) {
        Executor host = Native.host(executor);
        counts(in.size(), weights.length);
        Native.output("out", out, type.bytes(elements), host);
        try (Arena arena = host.arena()) {
            MemorySegment spec = models(type, elements, in.size(), arena);
            MemorySegment sources = pointers(type, elements, in, host, arena);
            MemorySegment factors = arena.allocateFrom(JAVA_DOUBLE, weights);
            Native.run("tp_models_combine", host, elements, 1, Executor.worth(in.size()),
                    Native.Cost.of(type.bytes(elements) * in.size(), type.bytes(elements)),
                    (begin, end, worker) -> Kernels.tp_models_combine(spec, begin, end, sources, factors, out));
        }
    }

    /**
     * Adds to {@code sums} the inner products of two models: of both, of the first with itself, of the second with itself. By
     * blocks of {@value #BLOCK} elements, one after the other, so that a weight may be cut between blocks.
     *
     * @throws KernelException {@link KernelException#NONFINITE} also if an element is infinite
     */
    public static void inner(DType type, long elements, MemorySegment a, MemorySegment b, double[] sums, Executor executor) {
        Executor host = Native.host(executor);
        long blocks = Math.ceilDiv(elements, (long) BLOCK);
        try (Arena arena = host.arena()) {
            MemorySegment spec = models(type, elements, 2, arena);
            MemorySegment sources = pointers(type, elements, List.of(a, b), host, arena);
            MemorySegment all = arena.allocate(JAVA_DOUBLE, 3 * blocks);
            Native.run("tp_models_inner", host, blocks, 1, Executor.worth(BLOCK), Native.Cost.of(2 * type.bytes(elements), 0),
                    (begin, end, worker) -> Kernels.tp_models_inner(spec, begin, end, sources, all));
            for (long i = 0; i < 3 * blocks; i++) {
                sums[(int) (i % 3)] += all.getAtIndex(JAVA_DOUBLE, i);
            }
        }
    }

    /**
     * The differences of a model to a base, rounded to f32.
     *
     * @param out f32, as many
     */
    public static void delta(DType type, long elements, MemorySegment model, MemorySegment base, MemorySegment out, Executor executor) {
        Executor host = Native.host(executor);
        Native.result("out", out, DType.F32, 1, elements, elements, host);
        try (Arena arena = host.arena()) {
            MemorySegment spec = models(type, elements, 2, arena);
            MemorySegment sources = pointers(type, elements, List.of(model, base), host, arena);
            Native.run("tp_models_delta", host, elements, 1, Executor.worth(1),
                    Native.Cost.of(2 * type.bytes(elements), DType.F32.bytes(elements)),
                    (begin, end, worker) -> Kernels.tp_models_delta(spec, begin, end, sources, out));
        }
    }

    /**
     * A base, and what models differ from it.
     *
     * @param in elements of each model, and last of the base
     * @param weights of the models, finite; not negative if a sign is elected
     * @param thresholds of the models, for {@link Drop#SMALL}: magnitudes of differences, rounded to f32, that are kept
     * @param first position in the noise of the first element, that is in its weight
     * @param out elements; may be one of {@code in}
     */
    public static void tasks(Tasks tasks, DType type, long elements, List<MemorySegment> in, double[] weights, float[] thresholds, long first,
            MemorySegment out, Executor executor) {
        Executor host = Native.host(executor);
        int n = in.size() - 1;
        counts(n, weights.length);
        counts(n, thresholds.length);
        Native.output("out", out, type.bytes(elements), host);
        try (Arena arena = host.arena()) {
            MemorySegment spec = arena.allocate(tp_tasks.layout());
            tp_tasks.elements(spec, elements);
            tp_tasks.sources(spec, n);
            tp_tasks.type(spec, Native.id(type));
            tp_tasks.drop(spec, tasks.drop.ordinal());
            tp_tasks.elect(spec, tasks.elect ? 1 : 0);
            tp_tasks.scale(spec, tasks.scale);
            tp_tasks.keep(spec, tasks.keep);
            tp_tasks.seed(spec, tasks.seed);
            tp_tasks.stream(spec, tasks.stream);
            tp_tasks.first(spec, first);
            MemorySegment sources = pointers(type, elements, in, host, arena);
            MemorySegment factors = arena.allocateFrom(JAVA_DOUBLE, weights);
            MemorySegment least = arena.allocateFrom(JAVA_FLOAT, thresholds);
            Native.run("tp_models_tasks", host, elements, 1, Executor.worth(4L * in.size()),
                    Native.Cost.of(type.bytes(elements) * in.size(), type.bytes(elements)),
                    (begin, end, worker) -> Kernels.tp_models_tasks(spec, begin, end, sources, factors, least, out));
        }
    }

    private static void counts(int models, int numbers) {
        if (models < 1 || models > MOST || numbers != models) {
            throw new IllegalArgumentException("no " + numbers + " numbers for " + models + " models; there may be 1 to " + MOST);
        }
    }

    private static MemorySegment models(DType type, long elements, int sources, Arena arena) {
        MemorySegment s = arena.allocate(tp_models.layout());
        tp_models.elements(s, elements);
        tp_models.sources(s, sources);
        tp_models.type(s, Native.id(type));
        return s;
    }

    private static MemorySegment pointers(DType type, long elements, List<MemorySegment> in, Executor executor, Arena arena) {
        Native.oneOf("the type", type, DType.F32, DType.F16, DType.BF16);
        Native.elements("a model", 1, elements, elements);
        MemorySegment all = arena.allocate(ADDRESS, in.size());
        for (int i = 0; i < in.size(); i++) {
            Native.input("in", in.get(i), type.bytes(elements), executor);
            all.setAtIndex(ADDRESS, i, in.get(i));
        }
        return all;
    }
}
