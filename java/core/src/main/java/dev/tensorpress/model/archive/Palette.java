package dev.tensorpress.model.archive;

import dev.tensorpress.kernel.Coding;
import dev.tensorpress.kernel.Coding.Elements;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Arrays;

/**
 * Elements of 2 or 4 bytes with few values, such as those of a codebook, or decoded from codes: the values, and for each element the number of its
 * value. One thread at a time.
 */
final class Palette {
    /** Values: as many as there are symbols that can be coded. */
    private static final int MOST = 4096;
    private static final int MOST_BYTES = 256;
    /** Width of an element, and how many values there are. */
    private static final int HEADER = 8;
    /** Of values of 16 bits, one for each. */
    private static final int SLOTS = 1 << Short.SIZE;
    private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    /** Gives memory for scratch of so many bytes. */
    @FunctionalInterface
    interface Scratch {
        MemorySegment of(long bytes);
    }

    /** Numbers of values. */
    private final MemorySegment codes;
    private final Scratch scratch;
    // On the heap: before the second compiler has run, and on the command line it never does, reads from a segment cost ten times as much.
    private int[] elements = new int[0];
    private short[] shorts = new short[0];
    private final int[] values = new int[SLOTS];
    /** One more than the number of a value: where that is among {@link #values}, or at the value itself if it has 16 bits. */
    private final int[] slots = new int[SLOTS];

    /** @param codes as many bytes as a chunk has at most */
    Palette(MemorySegment codes, Scratch scratch) {
        this.codes = codes;
        this.scratch = scratch;
    }

    private static Elements symbols(int count) {
        return count <= MOST_BYTES ? Elements.BYTES : Elements.SYMBOLS;
    }

    private void room(int n) {
        if (elements.length < n) {
            elements = new int[n];
            shorts = new short[n];
        }
    }

    /** Where a value is, or would be put. */
    private int slot(int width, int value) {
        if (width == Short.BYTES) {
            return value;
        }
        int s = value * 0x9e3779b1 >>> Short.SIZE;
        while (slots[s] != 0 && values[s] != value) {
            s = (s + 1) % SLOTS;
        }
        return s;
    }

    /**
     * Codes elements.
     *
     * @return bytes of it; -1 if there are too many values
     */
    int encode(int width, MemorySegment plain, MemorySegment out) {
        int n = (int) (plain.byteSize() / width);
        if (plain.byteSize() % width != 0) {
            return -1;
        }
        room(n);
        if (width == Integer.BYTES) {
            MemorySegment.copy(plain, INT, 0, elements, 0, n);
        } else {
            MemorySegment.copy(plain, SHORT, 0, shorts, 0, n);
            for (int i = 0; i < n; i++) {
                elements[i] = shorts[i] & 0xffff;
            }
        }
        Arrays.fill(slots, 0);
        int[] found = new int[MOST];
        int count = 0;
        for (int i = 0; i < n; i++) {
            int value = elements[i];
            int s = slot(width, value);
            if (slots[s] == 0) {
                if (count == MOST) {
                    return -1;
                }
                slots[s] = 1;
                values[s] = value;
                found[count++] = value;
            }
        }
        found = Arrays.copyOf(found, count);
        Arrays.sort(found); // so that numbers do not depend on what comes first
        out.set(INT, 0, width);
        out.set(INT, 4, count);
        for (int i = 0; i < count; i++) {
            slots[slot(width, found[i])] = i + 1;
            if (width == Integer.BYTES) {
                out.set(INT, HEADER + 4L * i, found[i]);
            } else {
                out.set(SHORT, HEADER + 2L * i, (short) found[i]);
            }
        }
        Elements e = symbols(count);
        for (int i = 0; i < n; i++) {
            shorts[i] = (short) (slots[slot(width, elements[i])] - 1);
        }
        if (e == Elements.BYTES) {
            byte[] bytes = new byte[n];
            for (int i = 0; i < n; i++) {
                bytes[i] = (byte) shorts[i];
            }
            MemorySegment.copy(bytes, 0, codes, ValueLayout.JAVA_BYTE, 0, n);
        } else {
            MemorySegment.copy(shorts, 0, codes, SHORT, 0, n);
        }
        long bytes = (long) n * e.bytes();
        int head = HEADER + count * width;
        return head + Math.toIntExact(Coding.encode(e, codes.asSlice(0, bytes), MemorySegment.NULL, out.asSlice(head),
                scratch.of(Coding.scratchBytes(e, bytes))).bytes());
    }

    /**
     * Decodes elements.
     *
     * @return what is wrong with it, in words; null if nothing is
     * @throws dev.tensorpress.kernel.CodingFormatException if what follows the values is no block
     */
    String decode(MemorySegment coded, MemorySegment plain) {
        int width = coded.byteSize() < HEADER ? 0 : coded.get(INT, 0);
        int count = coded.byteSize() < HEADER ? 0 : coded.get(INT, 4);
        if (width != Integer.BYTES && width != Short.BYTES || count < 1 || count > MOST || coded.byteSize() < HEADER + (long) count * width
                || plain.byteSize() % width != 0) {
            return "is no palette of values";
        }
        int n = (int) (plain.byteSize() / width);
        Elements e = symbols(count);
        long bytes = (long) n * e.bytes();
        MemorySegment block = coded.asSlice(HEADER + (long) count * width);
        if (Coding.decodedBytes(block) != bytes || Coding.elements(block) != e) {
            return "has a palette for other elements";
        }
        Coding.decode(block, MemorySegment.NULL, codes.asSlice(0, bytes), scratch.of(Coding.scratchBytes(e, bytes)));
        room(n);
        byte[] narrow = e == Elements.BYTES ? codes.asSlice(0, n).toArray(ValueLayout.JAVA_BYTE) : null;
        if (narrow == null) {
            MemorySegment.copy(codes, SHORT, 0, shorts, 0, n);
        }
        for (int i = 0; i < count; i++) {
            values[i] = width == Integer.BYTES ? coded.get(INT, HEADER + 4L * i) : coded.get(SHORT, HEADER + 2L * i);
        }
        for (int i = 0; i < n; i++) {
            int number = narrow != null ? narrow[i] & 0xff : shorts[i] & 0xffff;
            if (number >= count) {
                return "has a value that its palette lacks";
            }
            elements[i] = values[number];
        }
        if (width == Integer.BYTES) {
            MemorySegment.copy(elements, 0, plain, INT, 0, n);
        } else {
            for (int i = 0; i < n; i++) {
                shorts[i] = (short) elements[i];
            }
            MemorySegment.copy(shorts, 0, plain, SHORT, 0, n);
        }
        return null;
    }
}
