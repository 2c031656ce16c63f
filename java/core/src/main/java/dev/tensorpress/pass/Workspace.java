package dev.tensorpress.pass;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.EnumMap;
import java.util.Map;

/**
 * Buffers that are kept from one weight to the next, since fresh off-heap memory costs a second per GiB to zero and
 * fault in. A slot grows to the largest weight seen. Not thread-safe: one per compression.
 */
public final class Workspace implements AutoCloseable {
    /** What a buffer is for; each use has its own. */
    public enum Slot { CODES, SCALES, STORED_SCALES, ZEROS, ERRORS, SCRATCH, MASK, BLOCK_MASK, BLOCK_SCORES, MASKED, DECODED }

    private record Buffer(Arena arena, MemorySegment memory) {}

    private final Map<Slot, Buffer> buffers = new EnumMap<>(Slot.class);

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

    @Override
    public void close() {
        for (Buffer b : buffers.values()) {
            b.arena.close();
        }
        buffers.clear();
    }
}
