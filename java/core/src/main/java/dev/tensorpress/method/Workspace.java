package dev.tensorpress.method;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.LinearAlgebra;
import dev.tensorpress.kernel.Svd;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.function.LongFunction;

/**
 * Buffers that are kept from one weight to the next, since fresh off-heap memory costs a second per GiB to zero and
 * fault in. A slot grows to the largest weight seen. One per compression, with one executor: it belongs to the thread
 * that uses it first, and refuses others.
 */
public final class Workspace implements AutoCloseable {
    /** What a buffer is for; each use has its own. */
    public enum Slot {
        /** The weight at hand, if its own memory is not safe to read. */
        INPUT,
        CODES, SCALES, STORED_SCALES, ZEROS, ERRORS, MASK, BLOCK_MASK, SCORES, BLOCK_SCORES, MASKED, DECODED,
        /** What is decoded, in the type of the weight. */
        NARROWED,
        /** A weight as f32. */
        MATRIX,
        /** What a decomposition is made of. */
        VECTORS_LEFT, VALUES, VECTORS_RIGHT,
        /** Factors in f32, and as they are stored. */
        LEFT, RIGHT, STORED_LEFT, STORED_RIGHT,
        /** Of rounding with feedback: the weight as [inputs, outputs], and what it lost. */
        INPUTS_FIRST, LOST,
        /** A weight with other scales, in its own type. */
        SCALED,
        /** Of a transform: coefficients in f32, and numbers of 32 bits before they are codes of fewer. */
        COEFFICIENTS, NUMBERS, MORE_NUMBERS
    }

    private record Buffer(Arena arena, MemorySegment memory) {}

    private final Map<Slot, Buffer> buffers = new EnumMap<>(Slot.class);
    private final List<Workspace> parts = new ArrayList<>();
    private final Executor executor;
    private final Spectra spectra;
    /** Null if weights are in memory already. */
    private final Model model;
    private final long memory;
    private Thread owner;
    private LinearAlgebra algebra;
    private Svd svd;

    /** @param executor that the kernels run on; must outlive the workspace */
    public Workspace(Executor executor) {
        this(executor, new Spectra());
    }

    /** @param spectra what is known of the weights already, and will be added to */
    public Workspace(Executor executor, Spectra spectra) {
        this(executor, spectra, null, 0);
    }

    /**
     * For weights as a model has them.
     *
     * @param memory bytes of weights that are held at once at most
     */
    public Workspace(Executor executor, Spectra spectra, Model model, long memory) {
        this.executor = executor;
        this.spectra = spectra;
        this.model = model;
        this.memory = memory;
    }

    /** Why a weight cannot be {@link #load}: it takes more memory than is allowed. Null if it can. */
    String tooLarge(Weight weight) {
        long bytes = model == null ? 0 : model.loadedBytes(weight);
        return bytes <= memory ? null : "has to be in memory as a whole, and takes " + bytes + " bytes of " + memory
                + " that the memory allowed has for this";
    }

    /**
     * The weight, held ({@link Model#held}) until the next is. It is not {@link #tooLarge}.
     *
     * @throws UncheckedIOException if it cannot be read
     */
    Weight load(Weight weight) {
        executor.subject(weight.name());
        return load(weight, bytes -> take(Slot.INPUT, bytes));
    }

    /**
     * All of them, held until the arena is closed.
     *
     * @throws UnsupportedRequestException if they take more memory than is allowed
     * @throws UncheckedIOException if one cannot be read
     */
    List<Weight> load(List<Weight> weights, Arena arena) {
        executor.subject("");
        long[] sum = new long[1];
        List<Weight> all = new ArrayList<>();
        for (Weight weight : weights) {
            all.add(load(weight, bytes -> {
                sum[0] = Math.addExact(sum[0], bytes);
                if (sum[0] > memory) {
                    throw new UnsupportedRequestException("the " + weights.size() + " weights that are compared with each other have"
                            + " to be in memory all at once, and take more than the " + memory + " bytes that the memory"
                            + " allowed has for this", "memory");
                }
                return arena.allocate(bytes, 64);
            }));
        }
        return all;
    }

    private Weight load(Weight weight, LongFunction<MemorySegment> room) {
        try {
            return model == null ? weight : model.load(weight, room);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /**
     * At least 64-byte aligned memory of exactly {@code bytes}, with the contents of its last use.
     *
     * @throws IllegalStateException on another thread than the first call
     */
    public MemorySegment take(Slot slot, long bytes) {
        if (owner == null) {
            owner = Thread.currentThread();
        } else if (owner != Thread.currentThread()) {
            throw new IllegalStateException("a workspace belongs to the thread that used it first, which reads and writes its buffers: "
                    + owner.getName());
        }
        Buffer b = buffers.get(slot);
        if (b == null || b.memory.byteSize() < bytes) {
            if (b != null) {
                buffers.remove(slot);
                b.arena.close();
            }
            Arena arena = executor.arena();
            b = new Buffer(arena, arena.allocate(Math.max(bytes, 64), 64));
            buffers.put(slot, b);
        }
        return b.memory.asSlice(0, bytes);
    }

    /** Buffers of their own for a part of a weight, from 0, which has to stay while others are made. */
    Workspace part(int index) {
        while (parts.size() <= index) {
            parts.add(new Workspace(executor, spectra));
        }
        return parts.get(index);
    }

    /** What the kernels run on. */
    public Executor executor() {
        return executor;
    }

    Spectra spectra() {
        return spectra;
    }

    LinearAlgebra algebra() {
        if (algebra == null) {
            algebra = new LinearAlgebra(executor);
        }
        return algebra;
    }

    Svd svd() {
        if (svd == null) {
            svd = new Svd(executor);
        }
        return svd;
    }

    @Override
    public void close() {
        for (Buffer b : buffers.values()) {
            b.arena.close();
        }
        buffers.clear();
        for (Workspace part : parts) {
            part.close();
        }
        parts.clear();
        if (algebra != null) {
            algebra.close();
            algebra = null;
        }
        if (svd != null) {
            svd.close();
            svd = null;
        }
    }
}
