package dev.tensorpress.model.onnx;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** Builds a small protobuf message on the heap. */
final class Proto {
    private byte[] bytes = new byte[64];
    private int size;

    Proto integer(int field, long value) {
        varint((long) field << 3 | Wire.VARINT);
        varint(value);
        return this;
    }

    Proto real(int field, float value) {
        varint((long) field << 3 | Wire.FIXED32);
        int bits = Float.floatToRawIntBits(value);
        for (int i = 0; i < 4; i++) {
            put((byte) (bits >>> 8 * i));
        }
        return this;
    }

    Proto string(int field, String value) {
        return bytes(field, value.getBytes(StandardCharsets.UTF_8));
    }

    Proto message(int field, Proto value) {
        header(field, value.size);
        return raw(value.bytes, value.size);
    }

    Proto bytes(int field, byte[] value) {
        header(field, value.length);
        return raw(value, value.length);
    }

    /** Tag and length of a field whose content follows elsewhere. */
    Proto header(int field, long length) {
        varint((long) field << 3 | Wire.BYTES);
        varint(length);
        return this;
    }

    /** Whole fields, already encoded. */
    Proto fields(byte[] encoded) {
        return raw(encoded, encoded.length);
    }

    byte[] toBytes() {
        return Arrays.copyOf(bytes, size);
    }

    private Proto raw(byte[] from, int n) {
        reserve(n);
        System.arraycopy(from, 0, bytes, size, n);
        size += n;
        return this;
    }

    private void varint(long value) {
        long v = value;
        while ((v & ~0x7fL) != 0) {
            put((byte) (v | 0x80));
            v >>>= 7;
        }
        put((byte) v);
    }

    private void put(byte b) {
        reserve(1);
        bytes[size++] = b;
    }

    private void reserve(int n) {
        if (bytes.length - size < n) {
            bytes = Arrays.copyOf(bytes, Math.max(bytes.length * 2, Math.addExact(size, n)));
        }
    }
}
