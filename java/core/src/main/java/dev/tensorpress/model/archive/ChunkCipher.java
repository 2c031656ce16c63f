package dev.tensorpress.model.archive;

import java.nio.ByteBuffer;

/**
 * Seals what an archive stores, one piece at a time. Several threads use it at once. Buffers are off-heap, and their positions move
 * behind what was read and written.
 */
public interface ChunkCipher {
    /** Bytes that a sealed piece has more than a plain one. */
    int overhead();

    /**
     * Seals a piece.
     *
     * @param ordinal of the piece; never the same for two pieces of an archive
     * @param associated bytes that {@link #open} has to be given as well
     * @param out has {@link #overhead} bytes more than {@code plain}; another buffer than that
     */
    void seal(long ordinal, ByteBuffer associated, ByteBuffer plain, ByteBuffer out);

    /**
     * Opens a piece.
     *
     * @param out has {@link #overhead} bytes less than {@code sealed}; another buffer than that
     * @return false if it is not what was sealed with this key, ordinal and these associated bytes; {@code out} then says nothing
     */
    boolean open(long ordinal, ByteBuffer associated, ByteBuffer sealed, ByteBuffer out);
}
