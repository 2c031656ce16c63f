package dev.tensorpress.model.compressedtensors;

import dev.tensorpress.model.safetensors.Config;
import dev.tensorpress.model.safetensors.Index;
import dev.tensorpress.model.safetensors.SafetensorsWriter;
import dev.tensorpress.model.safetensors.SafetensorsWriter.Data;
import dev.tensorpress.model.safetensors.SafetensorsWriter.Item;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;

/** Makes folders of compressed-tensors from random codes, for tests of what reads them. */
final class PackedFolder {
    final Random random;
    final Map<String, Item> tensors = new LinkedHashMap<>();
    /** What was packed, by module. */
    final Map<String, int[]> codes = new TreeMap<>();
    final Map<String, int[]> zeros = new TreeMap<>();
    final Map<String, float[]> scales = new TreeMap<>();
    /** Text of each group, by its targets. */
    final Map<String, String> groups = new LinkedHashMap<>();
    String format = "pack-quantized";
    String ignore = "\"lm_head\"";

    PackedFolder(long seed) {
        random = new Random(seed);
    }

    /** Adds a tensor of random bytes that is not compressed. */
    PackedFolder dense(String name, DType dtype, long... dims) {
        Shape shape = Shape.of(dims);
        byte[] data = new byte[(int) dtype.bytes(shape.elements())];
        random.nextBytes(data);
        return put(name, dtype, shape, data);
    }

    PackedFolder put(String name, DType dtype, Shape shape, byte[] data) {
        tensors.put(name, new Item(name, dtype, shape, Data.of(MemorySegment.ofArray(data))));
        return this;
    }

    /** Adds a group of the configuration. */
    PackedFolder group(String targets, int bits, int group, boolean symmetric) {
        String activations = format.equals("pack-quantized") ? "null"
                : "{\"num_bits\":8,\"type\":\"int\",\"symmetric\":true,\"strategy\":\"token\",\"group_size\":null,"
                + "\"block_structure\":null,\"dynamic\":true,\"actorder\":null,\"observer\":null,\"observer_kwargs\":{}}";
        groups.put(targets, "\"weights\":{\"num_bits\":" + bits + ",\"type\":\"int\",\"symmetric\":" + symmetric
                + ",\"strategy\":\"" + (group == 0 ? "channel" : "group") + "\",\"group_size\":" + (group == 0 ? "null" : group)
                + ",\"block_structure\":null,\"dynamic\":false,\"actorder\":null,\"observer\":\"minmax\",\"observer_kwargs\":{}},"
                + "\"input_activations\":" + activations + ",\"output_activations\":null");
        return this;
    }

    /**
     * Adds a module.
     *
     * @param group columns that share a scale, 0 for all
     */
    PackedFolder module(String name, int rows, int cols, int bits, int group, boolean symmetric, DType type) {
        int groups = group == 0 ? 1 : cols / group;
        int half = 1 << (bits - 1);
        int[] q = random.ints((long) rows * cols, -half, half).toArray();
        int[] z = symmetric ? new int[rows * groups] : random.ints((long) rows * groups, -half, half).toArray();
        codes.put(name, q);
        zeros.put(name, z);
        scales(name, rows, groups, type);
        if (!format.equals("pack-quantized")) {
            put(name + ".weight", DType.I8, Shape.of(rows, cols), bytes(q));
            return symmetric ? this : put(name + ".weight_zero_point", DType.I8, Shape.of(rows, groups), bytes(z));
        }
        int words = (cols * bits + 31) / 32;
        ByteBuffer packed = ByteBuffer.allocate(4 * rows * words).order(ByteOrder.LITTLE_ENDIAN);
        for (int r = 0; r < rows; r++) {
            for (int c = 0; c < cols; c++) {
                add(packed, r * words + c * bits / 32, c * bits % 32, q[r * cols + c] + half);
            }
        }
        put(name + ".weight_packed", DType.I32, Shape.of(rows, words), packed.array());
        put(name + ".weight_shape", DType.I64, Shape.of(2),
                ByteBuffer.allocate(16).order(ByteOrder.LITTLE_ENDIAN).putLong(rows).putLong(cols).array());
        if (!symmetric) {
            int down = (rows * bits + 31) / 32;
            ByteBuffer zero = ByteBuffer.allocate(4 * down * groups).order(ByteOrder.LITTLE_ENDIAN);
            for (int r = 0; r < rows; r++) {
                for (int g = 0; g < groups; g++) {
                    add(zero, r * bits / 32 * groups + g, r * bits % 32, z[r * groups + g] + half);
                }
            }
            put(name + ".weight_zero_point", DType.I32, Shape.of(down, groups), zero.array());
        }
        return this;
    }

    private void scales(String name, int rows, int groups, DType type) {
        float[] s = new float[rows * groups];
        ByteBuffer b = ByteBuffer.allocate((int) type.bytes(s.length)).order(ByteOrder.LITTLE_ENDIAN);
        for (int i = 0; i < s.length; i++) {
            float x = random.nextFloat(1e-4f, 1);
            switch (type) {
                case F32 -> b.putFloat(s[i] = x);
                case F16 -> b.putShort(Float.floatToFloat16(s[i] = Float.float16ToFloat(Float.floatToFloat16(x))));
                default -> b.putShort((short) (Float.floatToRawIntBits(
                        s[i] = Float.intBitsToFloat(Float.floatToRawIntBits(x) & 0xffff0000)) >>> 16));
            }
        }
        scales.put(name, s);
        put(name + ".weight_scale", type, Shape.of(rows, groups), b.array());
    }

    private static byte[] bytes(int[] values) {
        byte[] b = new byte[values.length];
        for (int i = 0; i < b.length; i++) {
            b[i] = (byte) values[i];
        }
        return b;
    }

    private static void add(ByteBuffer words, int word, int shift, int value) {
        words.putInt(4 * word, words.getInt(4 * word) | value << shift);
    }

    /** The object in the configuration. */
    String quantization() {
        StringBuilder s = new StringBuilder("{\"quant_method\":\"compressed-tensors\",\"version\":\"0.9.4\",\"format\":\"" + format
                + "\",\"quantization_status\":\"compressed\",\"global_compression_ratio\":null,\"ignore\":[" + ignore
                + "],\"kv_cache_scheme\":null,\"config_groups\":{");
        int n = 0;
        for (Map.Entry<String, String> g : groups.entrySet()) {
            s.append(n == 0 ? "" : ",").append("\"group_").append(n++).append("\":{\"targets\":[\"")
                    .append(String.join("\",\"", g.getKey().split(" "))).append("\"],").append(g.getValue()).append("}");
        }
        return s + "}}";
    }

    /** Writes all; tensor i goes to shard i modulo their number. */
    Path write(Path folder, int shards) throws IOException {
        Files.createDirectories(folder);
        List<List<Item>> cut = new ArrayList<>();
        for (int i = 0; i < shards; i++) {
            cut.add(new ArrayList<>());
        }
        StringBuilder map = new StringBuilder();
        long total = 0;
        int n = 0;
        for (Item i : tensors.values()) {
            int shard = n++ % shards;
            cut.get(shard).add(i);
            total += i.bytes();
            map.append(map.isEmpty() ? "" : ",").append('"').append(i.name()).append("\":\"").append(name(shard, shards)).append('"');
        }
        for (int i = 0; i < shards; i++) {
            try (FileChannel c = FileChannel.open(folder.resolve(name(i, shards)), StandardOpenOption.WRITE,
                    StandardOpenOption.CREATE, StandardOpenOption.TRUNCATE_EXISTING)) {
                new SafetensorsWriter(cut.get(i), Map.of("format", "pt")).write(c);
            }
        }
        if (shards > 1) {
            Files.writeString(folder.resolve(Index.NAME), "{\"metadata\":{\"total_size\":" + total + "},\"weight_map\":{" + map
                    + "}}");
        }
        Files.writeString(folder.resolve(Config.NAME), "{\n  \"model_type\": \"llama\",\n  \"rms_norm_eps\": 1e-05,\n"
                + "  \"quantization_config\": " + quantization() + ",\n  \"vocab_size\": 64\n}\n");
        return folder;
    }

    private static String name(int shard, int shards) {
        return shards == 1 ? "model.safetensors" : String.format("model-%05d-of-%05d.safetensors", shard + 1, shards);
    }
}
