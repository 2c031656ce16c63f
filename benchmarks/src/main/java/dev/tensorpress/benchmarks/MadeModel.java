package dev.tensorpress.benchmarks;

import com.fasterxml.jackson.core.JsonEncoding;
import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import dev.tensorpress.io.DurableFile;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.safetensors.SafetensorsWriter;
import dev.tensorpress.model.safetensors.SafetensorsWriter.Item;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;

/**
 * Writes a folder that looks like a language model of the Llama family, with the shapes of 7 billion parameters: bf16, in
 * shards with an index, {@code config.json} and other files beside them. Its weights are random, so it says nothing; it is
 * there to be read, compressed and written. The same options give the same bytes.
 */
public final class MadeModel {
    private static final int WIDTH = 4096;
    private static final int INNER = 11008;
    private static final int VOCABULARY = 32000;
    /** The real ones have 32; these take 12.26 GB. */
    private static final int LAYERS = 29;
    private static final long STEP = 32 << 20;
    private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private final Path folder;
    private final long seed;
    private final Executor executor;
    private final MemorySegment buffer;
    private final float[] normal = new float[1 << 16];

    /**
     * A tensor to be.
     *
     * @param mean of its elements
     * @param deviation from it, of normal distribution
     */
    private record Made(String name, Shape shape, float mean, float deviation) {
        static Made matrix(String name, long rows, long cols) {
            return new Made(name, Shape.of(rows, cols), 0, (float) (1 / Math.sqrt(cols)));
        }

        static Made norm(String name) {
            return new Made(name, Shape.of(WIDTH), 1, 0.05f);
        }

        long bytes() {
            return DType.BF16.bytes(shape.elements());
        }
    }

    private MadeModel(Path folder, long seed, Executor executor, Arena arena) {
        this.folder = folder;
        this.seed = seed;
        this.executor = executor;
        this.buffer = arena.allocate(STEP, 64);
        Random random = new Random(seed);
        for (int i = 0; i < normal.length; i++) {
            normal[i] = (float) random.nextGaussian();
        }
    }

    public static void main(String[] args) throws IOException {
        int layers = LAYERS;
        int shards = 3;
        long seed = 1;
        if (args.length % 2 == 0) {
            usage("the folder to make is missing");
        }
        for (int i = 1; i < args.length; i += 2) {
            try {
                switch (args[i]) {
                    case "--layers" -> layers = positive(args[i + 1]);
                    case "--shards" -> shards = positive(args[i + 1]);
                    case "--seed" -> seed = Long.parseLong(args[i + 1]);
                    default -> usage("unknown option " + args[i]);
                }
            } catch (NumberFormatException e) {
                usage(args[i] + " " + args[i + 1] + ": not such a number");
            }
        }
        Path folder = Files.createDirectories(Path.of(args[0]));
        try (Executor executor = Executor.cpu(0); Arena arena = Arena.ofShared()) {
            new MadeModel(folder, seed, executor, arena).write(layers, shards);
        }
    }

    private static int positive(String number) {
        int n = Integer.parseInt(number);
        if (n < 1) {
            throw new NumberFormatException();
        }
        return n;
    }

    private static void usage(String wrong) {
        System.err.println(wrong + "\nFOLDER [--layers N] [--shards N] [--seed N]");
        System.exit(2);
    }

    /** From the first layer to the last; inside a shard the writer sorts them by name. */
    private static List<Made> tensors(int layers) {
        List<Made> all = new ArrayList<>();
        all.add(Made.matrix("model.embed_tokens.weight", VOCABULARY, WIDTH));
        for (int i = 0; i < layers; i++) {
            String layer = "model.layers." + i + ".";
            all.add(Made.norm(layer + "input_layernorm.weight"));
            all.add(Made.matrix(layer + "mlp.down_proj.weight", WIDTH, INNER));
            all.add(Made.matrix(layer + "mlp.gate_proj.weight", INNER, WIDTH));
            all.add(Made.matrix(layer + "mlp.up_proj.weight", INNER, WIDTH));
            all.add(Made.norm(layer + "post_attention_layernorm.weight"));
            for (String product : List.of("k", "o", "q", "v")) {
                all.add(Made.matrix(layer + "self_attn." + product + "_proj.weight", WIDTH, WIDTH));
            }
        }
        all.add(Made.norm("model.norm.weight"));
        all.add(Made.matrix("lm_head.weight", VOCABULARY, WIDTH));
        return all;
    }

    private void write(int layers, int shards) throws IOException {
        List<Made> all = tensors(layers);
        long total = 0;
        for (Made m : all) {
            total += m.bytes();
        }
        // Each shard ends with the tensor that fills its part.
        List<List<Item>> parts = new ArrayList<>();
        long before = 0;
        for (int i = 0; i < all.size(); i++) {
            Made m = all.get(i);
            if (parts.size() < shards && before >= parts.size() * (double) total / shards) {
                parts.add(new ArrayList<>());
            }
            long stream = i;
            parts.getLast().add(new Item(m.name, DType.BF16, m.shape, to -> write(m, stream, to)));
            before += m.bytes();
        }
        try (DurableFile file = new DurableFile(folder, "model.safetensors.index.json")) {
            try (JsonGenerator json = json(file)) {
                json.writeStartObject();
                json.writeObjectFieldStart("metadata");
                json.writeNumberField("total_size", total);
                json.writeEndObject();
                json.writeObjectFieldStart("weight_map");
                for (int i = 0; i < parts.size(); i++) {
                    String name = String.format("model-%05d-of-%05d.safetensors", i + 1, parts.size());
                    System.err.println("writing " + name);
                    writeShard(name, parts.get(i));
                    for (Item item : parts.get(i)) {
                        json.writeStringField(item.name(), name);
                    }
                }
                json.writeEndObject();
                json.writeEndObject();
            }
            file.commit(folder.resolve("model.safetensors.index.json"));
        }
        Files.writeString(folder.resolve("config.json"), config(layers));
        Files.writeString(folder.resolve("generation_config.json"), "{\n  \"bos_token_id\": 1,\n  \"eos_token_id\": 2\n}\n");
        writeTokenizer();
        System.err.println(total + " bytes of weights");
    }

    private void writeShard(String name, List<Item> items) throws IOException {
        try (DurableFile file = new DurableFile(folder, name)) {
            new SafetensorsWriter(items, Map.of("format", "pt")).write(file.channel());
            file.commit(folder.resolve(name));
        }
    }

    /** Leaves the file open when it is closed. */
    private static JsonGenerator json(DurableFile file) throws IOException {
        return new JsonFactory().createGenerator(Channels.newOutputStream(file.channel()), JsonEncoding.UTF8)
                .disable(JsonGenerator.Feature.AUTO_CLOSE_TARGET).useDefaultPrettyPrinter();
    }

    private void write(Made m, long stream, FileChannel to) throws IOException {
        // What each of 65536 numbers means here: random bits select among them, 16 for each element.
        long[] codes = new long[normal.length];
        for (int i = 0; i < codes.length; i++) {
            codes[i] = Float.floatToRawIntBits(m.mean + m.deviation * normal[i]) >>> 16;
        }
        for (long at = 0; at < m.bytes(); at += STEP) {
            long begin = at;
            long length = Math.min(STEP, m.bytes() - at);
            // All shapes have elements by the four.
            executor.run(length / 8, 1, 1 << 13, (first, last, worker) -> {
                for (long i = first; i < last; i++) {
                    long bits = mix((stream << 40) + begin / 8 + i);
                    buffer.set(LONG, 8 * i, codes[(int) bits & 0xffff] | codes[(int) (bits >>> 16) & 0xffff] << 16
                            | codes[(int) (bits >>> 32) & 0xffff] << 32 | codes[(int) (bits >>> 48)] << 48);
                }
            });
            for (ByteBuffer b = buffer.asSlice(0, length).asByteBuffer(); b.hasRemaining(); ) {
                to.write(b);
            }
        }
    }

    /** Element of a sequence of random numbers: SplitMix64 (Steele, Lea and Flood, 2014), from any place on. */
    private long mix(long counter) {
        long z = (seed << 32) + (counter + 1) * 0x9e3779b97f4a7c15L;
        z = (z ^ z >>> 30) * 0xbf58476d1ce4e5b9L;
        z = (z ^ z >>> 27) * 0x94d049bb133111ebL;
        return z ^ z >>> 31;
    }

    private static String config(int layers) {
        return """
                {
                  "architectures": ["LlamaForCausalLM"],
                  "attention_bias": false,
                  "bos_token_id": 1,
                  "eos_token_id": 2,
                  "hidden_act": "silu",
                  "hidden_size": %d,
                  "initializer_range": 0.02,
                  "intermediate_size": %d,
                  "max_position_embeddings": 4096,
                  "model_type": "llama",
                  "num_attention_heads": 32,
                  "num_hidden_layers": %d,
                  "num_key_value_heads": 32,
                  "rms_norm_eps": 1e-05,
                  "rope_theta": 10000.0,
                  "tie_word_embeddings": false,
                  "torch_dtype": "bfloat16",
                  "use_cache": true,
                  "vocab_size": %d
                }
                """.formatted(WIDTH, INNER, layers, VOCABULARY);
    }

    /** As large as a real one, more or less. */
    private void writeTokenizer() throws IOException {
        try (DurableFile file = new DurableFile(folder, "tokenizer.json")) {
            try (JsonGenerator json = json(file)) {
                json.writeStartObject();
                json.writeStringField("version", "1.0");
                json.writeObjectFieldStart("model");
                json.writeStringField("type", "WordLevel");
                json.writeObjectFieldStart("vocab");
                for (int i = 0; i < VOCABULARY; i++) {
                    json.writeNumberField("word-" + Long.toString(mix(i) >>> 24, 36) + "-" + i, i);
                }
                json.writeEndObject();
                json.writeStringField("unk_token", "<unk>");
                json.writeEndObject();
                json.writeEndObject();
            }
            file.commit(folder.resolve("tokenizer.json"));
        }
    }
}
