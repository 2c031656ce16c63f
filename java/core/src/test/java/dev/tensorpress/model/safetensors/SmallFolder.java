package dev.tensorpress.model.safetensors;

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

/** Makes folders with a model in safetensors, for tests. */
public final class SmallFolder {
    public static final String CONFIG = "{\n  \"architectures\": [\n    \"LlamaForCausalLM\"\n  ],\n  \"rms_norm_eps\": 1e-05,\n"
            + "  \"tie_word_embeddings\": false,\n  \"weird\": NaN,\n  \"vocab_size\": 32\n}\n";

    public final Random random;
    public final Map<String, Item> tensors = new LinkedHashMap<>();
    /** Of tensors with floats. */
    public final Map<String, float[]> values = new LinkedHashMap<>();
    public final Map<String, byte[]> bytes = new LinkedHashMap<>();
    public String config = CONFIG;

    public SmallFolder(long seed) {
        random = new Random(seed);
    }

    /** Adds a tensor of random numbers, or of random bytes if it has other elements. */
    public SmallFolder add(String name, DType type, long... dims) {
        Shape shape = Shape.of(dims);
        byte[] data = new byte[(int) type.bytes(shape.elements())];
        random.nextBytes(data);
        if (!type.compressible()) {
            return put(name, type, shape, data);
        }
        float[] x = new float[(int) shape.elements()];
        for (int i = 0; i < x.length; i++) {
            x[i] = (float) random.nextGaussian() * (i % 97 == 0 ? 4 : 1);
        }
        return add(name, type, shape, x);
    }

    /** Adds a tensor of these numbers, rounded to the type. */
    public SmallFolder add(String name, DType type, Shape shape, float[] x) {
        ByteBuffer b = ByteBuffer.allocate((int) type.bytes(x.length)).order(ByteOrder.LITTLE_ENDIAN);
        float[] rounded = new float[x.length];
        for (int i = 0; i < x.length; i++) {
            rounded[i] = round(x[i], type);
            switch (type) {
                case F32 -> b.putFloat(rounded[i]);
                case F16 -> b.putShort(Float.floatToFloat16(rounded[i]));
                default -> b.putShort((short) (Float.floatToRawIntBits(rounded[i]) >>> 16));
            }
        }
        values.put(name, rounded);
        return put(name, type, shape, b.array());
    }

    private SmallFolder put(String name, DType type, Shape shape, byte[] data) {
        bytes.put(name, data);
        tensors.put(name, new Item(name, type, shape, Data.of(MemorySegment.ofArray(data))));
        return this;
    }

    public static float round(float x, DType type) {
        return switch (type) {
            case F32 -> x;
            case F16 -> Float.float16ToFloat(Float.floatToFloat16(x));
            default -> {
                int bits = Float.floatToRawIntBits(x);
                yield Float.isFinite(x) ? Float.intBitsToFloat(bits + 0x7fff + (bits >>> 16 & 1) & 0xffff0000) : x;
            }
        };
    }

    /** Writes all; tensors are spread over the files in turn. */
    public Path write(Path folder, int files) throws IOException {
        Files.createDirectories(folder);
        List<List<Item>> cut = new ArrayList<>();
        for (int i = 0; i < files; i++) {
            cut.add(new ArrayList<>());
        }
        StringBuilder map = new StringBuilder();
        int n = 0;
        for (Item i : tensors.values()) {
            int file = n++ % files;
            cut.get(file).add(i);
            map.append(map.isEmpty() ? "" : ",").append('"').append(i.name()).append("\":\"").append(Shards.name(file, files))
                    .append('"');
        }
        for (int i = 0; i < files; i++) {
            try (FileChannel c = FileChannel.open(folder.resolve(Shards.name(i, files)), StandardOpenOption.WRITE,
                    StandardOpenOption.CREATE)) {
                new SafetensorsWriter(cut.get(i), Map.of("format", "pt")).write(c);
            }
        }
        if (files > 1) {
            Files.writeString(folder.resolve(Index.NAME), "{\"weight_map\":{" + map + "}}");
        }
        if (config != null) {
            Files.writeString(folder.resolve(Config.NAME), config);
        }
        return folder;
    }
}
