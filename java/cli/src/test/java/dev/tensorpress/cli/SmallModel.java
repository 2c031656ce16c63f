package dev.tensorpress.cli;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Random;

/** Writes an ONNX model: y = x MatMul weight + bias, with a weight of {@value #N} x {@value #N} if nothing else is said. */
final class SmallModel {
    static final int N = 128;
    private static final int FLOAT = 1;

    private SmallModel() {}

    static Path write(Path file) throws IOException {
        return write(file, Float.NEGATIVE_INFINITY);
    }

    /** @param poison for element 5 of the weight, unless it is negative infinity */
    static Path write(Path file, float poison) throws IOException {
        return write(file, N, poison);
    }

    /** A weight of n x n. */
    static Path write(Path file, int n) throws IOException {
        return write(file, n, Float.NEGATIVE_INFINITY);
    }

    private static Path write(Path file, int n, float poison) throws IOException {
        byte[] weight = values(n * n, 1);
        if (poison != Float.NEGATIVE_INFINITY) {
            ByteBuffer.wrap(weight).order(ByteOrder.LITTLE_ENDIAN).putFloat(4 * 5, poison);
        }
        Message graph = new Message()
                .add(1, new Message().add(1, "x").add(1, "weight").add(2, "h").add(3, "/dense").add(4, "MatMul"))
                .add(1, new Message().add(1, "h").add(1, "bias").add(2, "y").add(3, "/shift").add(4, "Add"))
                .add(2, "small")
                .add(5, new Message().add(1, n).add(1, n).add(2, FLOAT).add(8, "weight").add(9, weight))
                .add(5, new Message().add(1, n).add(2, FLOAT).add(8, "bias").add(9, values(n, 2)))
                .add(11, value("x", n))
                .add(12, value("y", n));
        Message model = new Message().add(1, 8).add(8, new Message().add(1, "").add(2, 17)).add(7, graph);
        return Files.write(file, model.out.toByteArray());
    }

    /** A file of safetensors with one matrix of a linear layer. */
    static Path writeSafetensors(Path file) throws IOException {
        byte[] data = values(N * N, 3);
        byte[] header = ("{\"layers.0.mlp.up_proj.weight\":{\"dtype\":\"F32\",\"shape\":[" + N + "," + N + "],\"data_offsets\":[0,"
                + data.length + "]}}").getBytes(StandardCharsets.UTF_8);
        return Files.write(file, ByteBuffer.allocate(8 + header.length + data.length).order(ByteOrder.LITTLE_ENDIAN)
                .putLong(header.length).put(header).put(data).array());
    }

    private static byte[] values(int n, long seed) {
        Random random = new Random(seed);
        ByteBuffer data = ByteBuffer.allocate(4 * n).order(ByteOrder.LITTLE_ENDIAN);
        while (data.hasRemaining()) {
            data.putFloat((float) random.nextGaussian());
        }
        return data.array();
    }

    private static Message value(String name, int n) {
        Message shape = new Message().add(1, new Message().add(2, "batch")).add(1, new Message().add(1, n));
        return new Message().add(1, name)
                .add(2, new Message().add(1, new Message().add(1, FLOAT).add(2, shape)));
    }

    /** A protobuf message. */
    private static final class Message {
        private final ByteArrayOutputStream out = new ByteArrayOutputStream();

        Message add(int field, int value) {
            varint(field << 3);
            varint(value);
            return this;
        }

        Message add(int field, byte[] value) {
            varint(field << 3 | 2);
            varint(value.length);
            out.writeBytes(value);
            return this;
        }

        Message add(int field, String value) {
            return add(field, value.getBytes(StandardCharsets.UTF_8));
        }

        Message add(int field, Message value) {
            return add(field, value.out.toByteArray());
        }

        private void varint(int value) {
            for (; value > 127; value >>>= 7) {
                out.write(value | 128);
            }
            out.write(value);
        }
    }
}
