import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

/**
 * Writes two small models whose weights are worth compressing and worth two threads: one in ONNX, a Gather, two MatMul and a
 * Gemm with a bias; and in the folder {@code warmup} beside it one in safetensors, with so many small tensors that what
 * reads headers gets warm.
 */
class WarmUp {
    private static final int N = 384;
    private static final int SMALL = 500;
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
        writeFolder(Files.createDirectories(file.resolveSibling("warmup")));
        // Last: the launcher takes it as the sign that all is there.
        Files.write(file, model.bytes());
    }

    private static void writeFolder(Path folder) throws IOException {
        List<String> places = new ArrayList<>();
        for (int shard = 0; shard < 2; shard++) {
            String layer = "model.layers." + shard + ".";
            Map<String, int[]> shapes = new LinkedHashMap<>();
            shapes.put(layer + "mlp.up_proj.weight", new int[] {N, N});
            shapes.put(layer + "self_attn.q_proj.weight", new int[] {N, N});
            shapes.put(shard == 0 ? "model.embed_tokens.weight" : "lm_head.weight", new int[] {N, N});
            for (int i = 0; i < SMALL; i++) {
                shapes.put(layer + "experts." + i + ".norm.weight", new int[] {4});
            }
            StringBuilder header = new StringBuilder("{\"__metadata__\":{\"format\":\"pt\"}");
            int size = 0;
            for (Map.Entry<String, int[]> e : shapes.entrySet()) {
                int bytes = Short.BYTES;
                for (int dim : e.getValue()) {
                    bytes *= dim;
                }
                header.append(",\"").append(e.getKey()).append("\":{\"dtype\":\"BF16\",\"shape\":")
                        .append(Arrays.toString(e.getValue()).replace(" ", "")).append(",\"data_offsets\":[").append(size)
                        .append(',').append(size += bytes).append("]}");
                places.add("\"" + e.getKey() + "\": \"" + shard(shard) + '"');
            }
            byte[] text = header.append('}').toString().getBytes(StandardCharsets.UTF_8);
            ByteBuffer data = ByteBuffer.allocate(Long.BYTES + text.length + size).order(ByteOrder.LITTLE_ENDIAN)
                    .putLong(text.length).put(text);
            while (data.hasRemaining()) {
                data.putShort((short) (Float.floatToRawIntBits((float) RANDOM.nextGaussian()) >>> 16));
            }
            Files.write(folder.resolve(shard(shard)), data.array());
        }
        Files.writeString(folder.resolve("model.safetensors.index.json"), "{\"metadata\": {\"total_size\": 0}, \"weight_map\": {"
                + String.join(", ", places) + "}}");
        Files.writeString(folder.resolve("config.json"), """
                {
                  "architectures": ["LlamaForCausalLM"],
                  "model_type": "llama",
                  "rms_norm_eps": 1e-05,
                  "tie_word_embeddings": false
                }
                """);
    }

    private static String shard(int number) {
        return "model-0000" + (number + 1) + "-of-00002.safetensors";
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
