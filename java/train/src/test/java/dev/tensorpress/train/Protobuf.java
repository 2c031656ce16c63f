package dev.tensorpress.train;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;

/** Messages of protobuf by hand. */
final class Protobuf {
    private Protobuf() {}

    static byte[] field(int number, byte[]... content) {
        byte[] all = concat(content);
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        varint(out, number << 3 | 2);
        varint(out, all.length);
        out.writeBytes(all);
        return out.toByteArray();
    }

    static byte[] field(int number, String text) {
        return field(number, text.getBytes(StandardCharsets.UTF_8));
    }

    static byte[] field(int number, int value) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        varint(out, number << 3);
        varint(out, value);
        return out.toByteArray();
    }

    static byte[] concat(byte[]... parts) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        for (byte[] part : parts) {
            out.writeBytes(part);
        }
        return out.toByteArray();
    }

    /** A model of operator set 17 with this graph. */
    static byte[] model(byte[]... graph) {
        return concat(field(1, 8), field(8, field(2, 17)), field(7, concat(field(2, "g"), concat(graph))));
    }

    /** A value of f32 [n, dims]. */
    static byte[] value(String name, int... dims) {
        return value(1, name, dims);
    }

    /** Of another type than f32. */
    static byte[] value(int type, String name, int... dims) {
        byte[] shape = field(1, field(2, "n"));
        for (int d : dims) {
            shape = concat(shape, field(1, field(1, d)));
        }
        return concat(field(1, name), field(2, field(1, concat(field(1, type), field(2, shape)))));
    }

    private static void varint(ByteArrayOutputStream out, int value) {
        int rest = value;
        for (; rest > 127; rest >>>= 7) {
            out.write(rest | 128);
        }
        out.write(rest);
    }
}
