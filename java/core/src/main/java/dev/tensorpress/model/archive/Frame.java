package dev.tensorpress.model.archive;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/**
 * What precedes each piece of an archive, and with it is hashed and sealed.
 *
 * @param ordinal of the piece, counted from 0
 * @param position of its first byte among all bytes that are stored, as {@link Sequence} has them
 * @param plain bytes that it holds
 * @param stored bytes that it takes, {@link #BYTES} of this apart
 * @param base position among the bytes of the base of as many bytes by which it is coded; -1 if it stands for itself. Of one that is repeated the position, among
 *     all bytes that are stored, of the chunk that it repeats
 */
record Frame(int ordinal, long position, int plain, int stored, Stored coding, long base) {
    static final int BYTES = 32;
    private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    /** How a piece is stored; the number of each is its place here. */
    enum Stored {
        /** As it is. */
        PLAIN,
        /** A frame of Zstandard. */
        ZSTD,
        /** A block of {@link dev.tensorpress.kernel.Coding}. */
        CODED,
        /** The index, a frame of Zstandard. */
        INDEX,
        /** Elements of few values: a {@link Palette}. */
        PALETTE,
        /** Nothing: it has the bytes of an earlier chunk, which is stored otherwise. */
        REPEATED;

        private static final Stored[] ALL = values();

        /** Null if there is none of that number. */
        static Stored of(int number) {
            return number >= 0 && number < ALL.length ? ALL[number] : null;
        }
    }

    /** Whether it is coded by bytes of the base. */
    boolean based() {
        return base >= 0 && coding != Stored.REPEATED;
    }

    void write(MemorySegment to) {
        to.set(INT, 0, ordinal);
        to.set(LONG, 4, position);
        to.set(INT, 12, plain);
        to.set(INT, 16, stored);
        to.set(INT, 20, coding.ordinal());
        to.set(LONG, 24, base);
    }

    /** Whether {@link #write} would write these bytes. */
    boolean isIn(MemorySegment from) {
        return from.get(INT, 0) == ordinal && from.get(LONG, 4) == position && from.get(INT, 12) == plain && from.get(INT, 16) == stored
                && from.get(INT, 20) == coding.ordinal() && from.get(LONG, 24) == base;
    }

    /** Of bytes where {@link #write} wrote; any number if they are no frame. */
    static int plain(MemorySegment from) {
        return from.get(INT, 12);
    }

    /** As {@link #plain}. */
    static int ordinal(MemorySegment from) {
        return from.get(INT, 0);
    }

    /** {@link #ordinal} likewise. */
    static int stored(MemorySegment from) {
        return from.get(INT, 16);
    }
}
