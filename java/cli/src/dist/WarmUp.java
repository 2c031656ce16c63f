import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Random;

/** Writes a small ONNX model: a Gather, two MatMul and a Gemm, each with a weight worth compressing and worth two threads, and a bias. */
class WarmUp {
    private static final int N = 384;
    private static final int FLOAT = 1;
    private static final int INT64 = 7;
    private static final Random RANDOM = new Random(1);

    public static void main(String[] args) throws Exception {
        Message graph = new Message()
                .add(1, node("Gather", "table", "ids", "a"))
                .add(1, node("MatMul", "a", "w1", "b"))
                .add(1, node("MatMul", "b", "w2", "c"))
                .add(1, node("Gemm", "c", "w3", "d"))
                .add(1, node("Add", "d", "bias", "e"))
                .add(2, "warmup")
                .add(5, weight("table", N, N))
                .add(5, weight("w1", N, N))
                .add(5, weight("w2", N, N))
                .add(5, weight("w3", N, N))
                .add(5, weight("bias", N))
                .add(11, value("ids", INT64, 0))
                .add(12, value("e", FLOAT, 0, N));
        Message model = new Message()
                .add(1, 8)
                .add(8, new Message().add(1, "").add(2, 17))
                .add(7, graph);
        Path file = Path.of(args[0]);
        Files.createDirectories(file.getParent());
        Files.write(file, model.bytes());
    }

    private static Message node(String operator, String left, String right, String output) {
        return new Message().add(1, left).add(1, right).add(2, output).add(3, output).add(4, operator);
    }

    private static Message weight(String name, int... dims) {
        Message tensor = new Message();
        int elements = 1;
        for (int dim : dims) {
            tensor.add(1, dim);
            elements *= dim;
        }
        ByteBuffer data = ByteBuffer.allocate(4 * elements).order(ByteOrder.LITTLE_ENDIAN);
        while (data.hasRemaining()) {
            data.putFloat((float) RANDOM.nextGaussian());
        }
        return tensor.add(2, FLOAT).add(8, name).add(9, data.array());
    }

    /** A dimension of 0 stands for one that is not known. */
    private static Message value(String name, int type, int... dims) {
        Message shape = new Message();
        for (int dim : dims) {
            shape.add(1, dim == 0 ? new Message().add(2, "n") : new Message().add(1, dim));
        }
        return new Message().add(1, name)
                .add(2, new Message().add(1, new Message().add(1, type).add(2, shape)));
    }

    /** A protobuf message. */
    private static final class Message {
        private final ByteArrayOutputStream out = new ByteArrayOutputStream();

        Message add(int field, long value) {
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
            return add(field, value.bytes());
        }

        byte[] bytes() {
            return out.toByteArray();
        }

        private void varint(long value) {
            for (; value > 127; value >>>= 7) {
                out.write((int) value | 128);
            }
            out.write((int) value);
        }
    }
}
