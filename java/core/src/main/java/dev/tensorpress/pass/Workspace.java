package dev.tensorpress.pass;

import dev.tensorpress.kernel.LinearAlgebra;
import dev.tensorpress.kernel.Svd;
import dev.tensorpress.kernel.Workers;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;

/**
 * Buffers that are kept from one weight to the next, since fresh off-heap memory costs a second per GiB to zero and
 * fault in. A slot grows to the largest weight seen. Not thread-safe: one per compression, with one set of workers.
 */
public final class Workspace implements AutoCloseable {
    /** What a buffer is for; each use has its own. */
    public enum Slot {
        CODES, SCALES, STORED_SCALES, ZEROS, ERRORS, SCRATCH, MASK, BLOCK_MASK, BLOCK_SCORES, MASKED, DECODED,
        /** A weight as f32. */
        MATRIX,
        /** What a decomposition is made of. */
        VECTORS_LEFT, VALUES, VECTORS_RIGHT,
        /** Factors in f32, and as they are stored. */
        LEFT, RIGHT, STORED_LEFT, STORED_RIGHT
    }

    private record Buffer(Arena arena, MemorySegment memory) {}

    private final Map<Slot, Buffer> buffers = new EnumMap<>(Slot.class);
    private final List<Workspace> parts = new ArrayList<>();
    private final Spectra spectra;
    private LinearAlgebra algebra;
    private Svd svd;

    public Workspace() {
        this(new Spectra());
    }

    /** @param spectra what is known of the weights already, and will be added to */
    public Workspace(Spectra spectra) {
        this.spectra = spectra;
    }

    /** At least 64-byte aligned memory of exactly {@code bytes}, with the contents of its last use. */
    public MemorySegment take(Slot slot, long bytes) {
        Buffer b = buffers.get(slot);
        if (b == null || b.memory.byteSize() < bytes) {
            if (b != null) {
                buffers.remove(slot);
                b.arena.close();
            }
            // Shared, because worker threads touch it.
            Arena arena = Arena.ofShared();
            b = new Buffer(arena, arena.allocate(Math.max(bytes, 64), 64));
            buffers.put(slot, b);
        }
        return b.memory.asSlice(0, bytes);
    }

    /** Buffers of their own for a part of a weight, from 0, which has to stay while others are made. */
    Workspace part(int index) {
        while (parts.size() <= index) {
            parts.add(new Workspace(spectra));
        }
        return parts.get(index);
    }

    Spectra spectra() {
        return spectra;
    }

    LinearAlgebra algebra(Workers workers) {
        if (algebra == null) {
            algebra = new LinearAlgebra(workers);
        }
        return algebra;
    }

    Svd svd(Workers workers) {
        if (svd == null) {
            svd = new Svd(workers);
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
