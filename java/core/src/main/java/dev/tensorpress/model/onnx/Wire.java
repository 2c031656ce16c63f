package dev.tensorpress.model.onnx;

import dev.tensorpress.model.MalformedModelException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;

/**
 * A cursor over the protobuf wire format (protobuf.dev/programming-guides/encoding). {@link #next} steps from field to
 * field of one message and checks every length against what encloses it; a message within is read between
 * {@link #enter} and {@link #leave}. Nothing here recurses, and nothing is allocated before its bytes are known to exist.
 */
final class Wire {
    static final int VARINT = 0;
    static final int FIXED64 = 1;
    static final int BYTES = 2;
    static final int FIXED32 = 5;

    /** Structure is read through a heap window: before the JIT has run, reads from a segment cost ten times as much. */
    private static final int WINDOW = 8192;
    private static final int LONGEST_STRING = 1 << 20;

    private final Path path;
    private final MemorySegment file;
    private final byte[] window = new byte[WINDOW];
    private long base;
    private int filled;
    private long pos;
    private long limit;

    /** Number, wire type and first byte (that of the tag) of the current field. */
    int field;
    int type;
    long fieldStart;
    /** First byte and number of bytes of the current field's content, if of type {@link #BYTES}. */
    long start;
    long length;
    /** Value of the current field if it is a number; fixed ones are not yet interpreted. */
    long value;

    Wire(Path path, MemorySegment file) {
        this.path = path;
        this.file = file;
        this.limit = file.byteSize();
    }

    /** Goes to a message elsewhere, found earlier. */
    void seek(long from, long to) {
        pos = from;
        limit = to;
    }

    /** First byte after the current field. */
    long end() {
        return pos;
    }

    /** Advances to the next field; false at the end of the message. */
    boolean next() {
        if (pos >= limit) {
            return false;
        }
        fieldStart = pos;
        long tag = varint();
        field = (int) (tag >>> 3);
        type = (int) (tag & 7);
        if (tag >>> 32 != 0 || field == 0) {
            throw bad(fieldStart, "expected a protobuf field, found tag " + Long.toUnsignedString(tag));
        }
        switch (type) {
            case VARINT -> value = varint();
            case FIXED64 -> value = fixed(8);
            case FIXED32 -> value = fixed(4);
            case BYTES -> {
                length = varint();
                if (length < 0 || length > limit - pos) {
                    throw bad(fieldStart, "field " + field + " claims " + Long.toUnsignedString(length)
                            + " bytes where " + (limit - pos) + " are left");
                }
                start = pos;
                pos += length;
            }
            default -> throw bad(fieldStart, "expected a protobuf field, found wire type " + type);
        }
        return true;
    }

    /** Descends into the current field; returns what {@link #leave} needs to come back behind it. */
    long enter(String what) {
        expect(BYTES, what);
        long outer = limit;
        pos = start;
        limit = start + length;
        return outer;
    }

    void leave(long outer) {
        pos = limit;
        limit = outer;
    }

    /** True inside a packed field with more numbers to come. */
    boolean more() {
        return pos < limit;
    }

    /** The position of the next byte. */
    long position() {
        return pos;
    }

    void expect(int wireType, String what) {
        if (type != wireType) {
            throw bad(fieldStart, what + " has wire type " + type + ", expected " + wireType);
        }
    }

    long integer(String what) {
        expect(VARINT, what);
        return value;
    }

    float real(String what) {
        expect(FIXED32, what);
        return Float.intBitsToFloat((int) value);
    }

    /** The current field as UTF-8 text. */
    String string(String what) {
        expect(BYTES, what);
        if (length > LONGEST_STRING) {
            throw bad(fieldStart, what + " of " + length + " bytes; at most " + LONGEST_STRING + " are accepted");
        }
        int n = (int) length;
        if (n == 0) {
            return "";
        }
        String s;
        if (n <= WINDOW) {
            load(start, n);
            s = new String(window, (int) (start - base), n, StandardCharsets.UTF_8);
        } else {
            s = new String(bytes(start, n), StandardCharsets.UTF_8);
        }
        // Two names that differ only in broken bytes must not become one.
        if (s.indexOf('\uFFFD') >= 0 && !Arrays.equals(s.getBytes(StandardCharsets.UTF_8), bytes(start, n))) {
            throw bad(start, what + " is not UTF-8");
        }
        return s;
    }

    /** A copy of bytes of the file. */
    byte[] bytes(long from, int n) {
        byte[] copy = new byte[n];
        MemorySegment.copy(file, ValueLayout.JAVA_BYTE, from, copy, 0, n);
        return copy;
    }

    MemorySegment slice(long from, long n) {
        return file.asSlice(from, n);
    }

    /** A base-128 number of at most ten bytes, at the cursor. */
    long varint() {
        long from = pos;
        long result = 0;
        for (int shift = 0; shift < 70; shift += 7) {
            if (pos >= limit) {
                throw bad(from, "a number is cut off by the end of its message");
            }
            int b = at(pos++);
            result |= (long) (b & 0x7f) << shift;
            if (b >= 0) {
                if (shift == 63 && b > 1) {
                    break;
                }
                return result;
            }
        }
        throw bad(from, "expected a number of at most 64 bits");
    }

    /** A little-endian number of 4 or 8 bytes, at the cursor. */
    long fixed(int n) {
        if (limit - pos < n) {
            throw bad(pos, "expected " + n + " bytes, " + (limit - pos) + " are left");
        }
        long result = 0;
        for (int i = 0; i < n; i++) {
            result |= (long) (at(pos++) & 0xff) << (8 * i);
        }
        return result;
    }

    private int at(long p) {
        long i = p - base;
        if (i < 0 || i >= filled) {
            load(p, 1);
            i = p - base;
        }
        return window[(int) i];
    }

    private void load(long from, int n) {
        if (from < base || from + n > base + filled) {
            base = from;
            filled = (int) Math.min(WINDOW, file.byteSize() - from);
            MemorySegment.copy(file, ValueLayout.JAVA_BYTE, from, window, 0, filled);
        }
    }

    MalformedModelException bad(long offset, String expected) {
        return new MalformedModelException(path, offset, expected);
    }
}
