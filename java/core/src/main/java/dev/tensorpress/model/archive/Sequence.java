package dev.tensorpress.model.archive;

import java.util.ArrayList;
import java.util.List;
import java.util.function.IntPredicate;

/**
 * Where bytes of members are stored: most as they are, others as arrays of encodings. What is stored is, range by range, in the order of the
 * members' bytes.
 */
final class Sequence {
    /**
     * Bytes of members, one after the other.
     *
     * @param position of the first among the bytes of all members, and {@code stored} among all that are stored
     * @param encoded what is stored in their place; null if they are
     */
    record Range(long position, long length, long stored, long storedLength, Encoded encoded) {
        long end() {
            return position + length;
        }

        long storedEnd() {
            return stored + storedLength;
        }
    }

    private final List<Range> ranges = new ArrayList<>();
    private long bytes;
    private long storedBytes;

    /**
     * @param total bytes of all members
     * @param encodings of some of these, in their order
     * @throws IllegalArgumentException if they have others, or overlap
     * @throws ArithmeticException if there are more than 64 bits can say
     */
    Sequence(long total, List<Encoded> encodings) {
        for (Encoded e : encodings) {
            if (e.position() < bytes || e.bytes() > total - e.position()) {
                throw new IllegalArgumentException("an encoding of " + e.bytes() + " bytes at " + e.position() + ", where " + bytes
                        + " have come before, of " + total);
            }
            plain(e.position());
            add(e.bytes(), e.storedBytes(), e);
        }
        plain(total);
    }

    private void plain(long to) {
        if (to > bytes) {
            add(to - bytes, to - bytes, null);
        }
    }

    private void add(long length, long stored, Encoded encoded) {
        ranges.add(new Range(bytes, length, storedBytes, stored, encoded));
        bytes += length;
        storedBytes = Math.addExact(storedBytes, stored);
    }

    /** All of them. */
    List<Range> ranges() {
        return ranges;
    }

    /** Bytes that are stored. */
    long storedBytes() {
        return storedBytes;
    }

    /** Number of the range with a byte of members. */
    int at(long position) {
        return search(ranges.size(), i -> ranges.get(i).position <= position);
    }

    /** Number of the range with a byte that is stored. */
    int storedAt(long position) {
        return search(ranges.size(), i -> ranges.get(i).stored <= position);
    }

    /** The last of some numbers for which something holds, as it does for all before it; 0 if it holds for none. */
    static int search(int count, IntPredicate holds) {
        int from = 0;
        int to = count - 1;
        while (from < to) {
            int middle = (from + to + 1) >>> 1;
            if (holds.test(middle)) {
                from = middle;
            } else {
                to = middle - 1;
            }
        }
        return from;
    }
}
