package dev.tensorpress.runtime;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/** Writes ONNX models of a few nodes, as protobuf by hand. */
final class TinyModel {
    static final int FLOAT = 1;
    static final int UINT8 = 2;
    static final int INT32 = 6;
    static final int INT64 = 7;
    static final int STRING = 8;
    static final int BOOL = 9;
    static final int FLOAT16 = 10;

    private final Message graph = new Message().add(2, "tiny");

    /** @param names inputs, separated by blanks, then {@code ->} and outputs */
    TinyModel node(String operator, String names) {
        return node(new Message().add(4, operator), names);
    }

    /** With an attribute. */
    TinyModel node(String operator, String names, String attribute, int value) {
        return node(new Message().add(4, operator).add(5, new Message().add(1, attribute).add(3, value).add(20, 2)), names);
    }

    private TinyModel node(Message node, String names) {
        int field = 1;
        for (String name : names.split(" ")) {
            if (name.equals("->")) {
                field = 2;
            } else {
                node.add(field, name);
            }
        }
        graph.add(1, node);
        return this;
    }

    TinyModel weight(String name, float[] values, int... dims) {
        ByteBuffer data = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
        for (float value : values) {
            data.putFloat(value);
        }
        Message tensor = new Message();
        for (int dim : dims) {
            tensor.add(1, dim);
        }
        graph.add(5, tensor.add(2, FLOAT).add(8, name).add(9, data.array()));
        return this;
    }

    /** A weight whose data are the file of that name. */
    TinyModel external(String name, String file, int... dims) {
        Message tensor = new Message();
        for (int dim : dims) {
            tensor.add(1, dim);
        }
        graph.add(5, tensor.add(2, FLOAT).add(8, name).add(13, new Message().add(1, "location").add(2, file)).add(14, 1));
        return this;
    }

    /** @param to a type of the result */
    TinyModel cast(String names, int to) {
        String[] two = names.split(" -> ");
        graph.add(1, new Message().add(1, two[0]).add(2, two[1]).add(4, "Cast")
                .add(5, new Message().add(1, "to").add(3, to).add(20, 2)));
        return this;
    }

    /** @param dims separated by blanks; words are open dimensions */
    TinyModel input(String name, int type, String dims) {
        graph.add(11, value(name, type, dims));
        return this;
    }

    TinyModel output(String name, int type, String dims) {
        graph.add(12, value(name, type, dims));
        return this;
    }

    private static Message value(String name, int type, String dims) {
        Message shape = new Message();
        for (String dim : dims.split(" ")) {
            boolean known = Character.isDigit(dim.charAt(0));
            shape.add(1, known ? new Message().add(1, Integer.parseInt(dim)) : new Message().add(2, dim));
        }
        return new Message().add(1, name)
                .add(2, new Message().add(1, new Message().add(1, type).add(2, shape)));
    }

    Path write(Path file) throws IOException {
        Message model = new Message().add(1, 8).add(8, new Message().add(1, "").add(2, 17)).add(7, graph);
        return Files.write(file, model.out.toByteArray());
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
