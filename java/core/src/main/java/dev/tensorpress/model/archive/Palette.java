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
    private static final int SLOTS = 4 * MOST;
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
    private final int[] slots = new int[SLOTS];
    private final int[] values = new int[SLOTS];

    /** @param codes as many bytes as a chunk has at most */
    Palette(MemorySegment codes, Scratch scratch) {
        this.codes = codes;
        this.scratch = scratch;
    }

    private static Elements symbols(int count) {
        return count <= MOST_BYTES ? Elements.BYTES : Elements.SYMBOLS;
    }

    private static int element(MemorySegment from, int width, int i) {
        return width == Integer.BYTES ? from.get(INT, 4L * i) : from.get(SHORT, 2L * i) & 0xffff;
    }

    /** Where a value is, or would be put. */
    private int slot(int value) {
        int s = (value * 0x9e3779b1 >>> 16) % SLOTS;
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
        Arrays.fill(slots, 0);
        int[] found = new int[MOST];
        int count = 0;
        for (int i = 0; i < n; i++) {
            int value = element(plain, width, i);
            int s = slot(value);
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
            slots[slot(found[i])] = i + 1;
            if (width == Integer.BYTES) {
                out.set(INT, HEADER + 4L * i, found[i]);
            } else {
                out.set(SHORT, HEADER + 2L * i, (short) found[i]);
            }
        }
        Elements e = symbols(count);
        for (int i = 0; i < n; i++) {
            int number = slots[slot(element(plain, width, i))] - 1;
            if (e == Elements.BYTES) {
                codes.set(ValueLayout.JAVA_BYTE, i, (byte) number);
            } else {
                codes.set(SHORT, 2L * i, (short) number);
            }
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
        for (int i = 0; i < n; i++) {
            int number = e == Elements.BYTES ? codes.get(ValueLayout.JAVA_BYTE, i) & 0xff : codes.get(SHORT, 2L * i) & 0xffff;
            if (number >= count) {
                return "has a value that its palette lacks";
            }
            if (width == Integer.BYTES) {
                plain.set(INT, 4L * i, coded.get(INT, HEADER + 4L * number));
            } else {
                plain.set(SHORT, 2L * i, coded.get(SHORT, HEADER + 2L * number));
            }
        }
        return null;
    }
}
