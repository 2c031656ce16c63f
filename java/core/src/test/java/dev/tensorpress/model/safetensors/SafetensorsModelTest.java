package dev.tensorpress.model.safetensors;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Effort;
import dev.tensorpress.Effort.RandomTest;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.safetensors.SafetensorsWriter.Data;
import dev.tensorpress.model.safetensors.SafetensorsWriter.Item;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

final class SafetensorsModelTest {
    private static final String ONE = "model-00001-of-00002.safetensors";
    private static final String TWO = "model-00002-of-00002.safetensors";

    @TempDir
    Path folder;

    /** Described as {@code name 3x4}, of f32; the elements' first byte is the name's length. */
    private static Item item(String described) {
        int space = described.lastIndexOf(' ');
        String name = described.substring(0, space);
        long[] dims = Arrays.stream(described.substring(space + 1).split("x")).filter(d -> !d.isEmpty())
                .mapToLong(Long::parseLong).toArray();
        Shape shape = Shape.of(dims);
        byte[] data = new byte[(int) DType.F32.bytes(shape.elements())];
        Arrays.fill(data, (byte) name.length());
        return new Item(name, DType.F32, shape, Data.of(MemorySegment.ofArray(data)));
    }

    private Path write(String file, String... described) throws IOException {
        List<Item> items = new ArrayList<>();
        for (String d : described) {
            items.add(item(d));
        }
        return write(file, items, Map.of("format", "pt"));
    }

    private Path write(String file, List<Item> items, Map<String, String> metadata) throws IOException {
        Path p = folder.resolve(file);
        try (FileChannel c = FileChannel.open(p, StandardOpenOption.WRITE, StandardOpenOption.CREATE,
                StandardOpenOption.TRUNCATE_EXISTING)) {
            new SafetensorsWriter(items, metadata).write(c);
        }
        return p;
    }

    private Path index(String text) throws IOException {
        return Files.writeString(folder.resolve(Index.NAME), text);
    }

    private static String map(String... pairs) {
        StringBuilder s = new StringBuilder("{\"metadata\":{\"total_size\":64},\"weight_map\":{");
        for (int i = 0; i < pairs.length; i += 2) {
            s.append(i == 0 ? "" : ",").append('"').append(pairs[i]).append("\":\"").append(pairs[i + 1]).append('"');
        }
        return s + "}}";
    }

    /** Two shards of two tensors each. */
    private void writeFolder() throws IOException {
        write(ONE, "model.embed_tokens.weight 4x2", "model.norm.weight 2");
        write(TWO, "model.q_proj.weight 2x2", "model.q_proj.bias 2");
        index(map("model.q_proj.weight", TWO, "model.embed_tokens.weight", ONE, "model.norm.weight", ONE,
                "model.q_proj.bias", TWO));
    }

    private static SafetensorsModel open(Path path) throws IOException {
        return SafetensorsModel.open(path, Map.of());
    }

    private static String described(Weight w) {
        return w.role().id() + " " + w.inputAxis() + " " + w.outputAxis();
    }

    /** Models of Mistral come with their weights twice. */
    @Test
    void theUsualNamesArePreferredToTheAuthors() throws IOException {
        write("model.safetensors", "model.layers.0.mlp.up_proj.weight 64x128");
        write("consolidated.safetensors", "layers.0.feed_forward.w3.weight 64x128");
        try (Compressor c = Compressor.open(folder)) {
            assertEquals(List.of("model.layers.0.mlp.up_proj.weight"), c.model().weights().stream().map(Weight::name).toList());
            assertEquals(List.of(folder.resolve("model.safetensors")), c.model().files());
            List<String> remarks = c.plan(Recipe.named("w8a16")).remarks();
            assertTrue(remarks.size() == 1 && remarks.getFirst().startsWith("consolidated.safetensors is not read, and left out"),
                    remarks.toString());
            assertEquals("consolidated.safetensors", c.model().properties().get("other weights, not read"));
        }
        Path other = write("adapter.safetensors", "a 64x128");
        refused("there are 3 without it", folder);
        Files.delete(other);
        Files.delete(folder.resolve("model.safetensors"));
        open(folder).close(); // the only one
    }

    @Test
    void rolesComeFromNamesAndShapes() throws IOException {
        Map<String, String> expected = new LinkedHashMap<>();
        for (String s : List.of("model.embed_tokens.weight 8x4", "transformer.wte.weight 8x4", "transformer.wpe.weight 8x4",
                "bert.embeddings.word_embeddings.weight 8x4", "shared.weight 8x4", "embed.embedding 8x4",
                "text_model.embeddings.position_embedding.weight 5x4", "b.0.relative_attention_bias.weight 5x2")) {
            expected.put(s, "embedding -1 0");
        }
        for (String s : List.of("model.layers.0.self_attn.q_proj.weight 4x6", "attn.in_proj_weight 12x4", "classifier.2.weight 3x4",
                "time_embedding.linear_1.weight 3x4", "vision.patch_embedding.weight 3x4", "attention.output.weight 3x4",
                "starcoder.c_attn.weight 12x4")) {
            expected.put(s, "linear 1 0");
        }
        expected.put("flax.dense.kernel 4x6", "linear 0 1");
        expected.put("experts.gate_up_proj 2x4x6", "linear 1 2");
        expected.put("layers.0.mlp.experts.down_proj 2x3x4", "linear 1 2");
        for (String s : List.of("lm_head.weight 8x4", "embed_out.weight 3x4", "cls.predictions.decoder.weight 3x4",
                "output.weight 8x4")) {
            expected.put(s, "head 1 0");
        }
        for (String s : List.of("model.layers.0.input_layernorm.weight 4", "bert.LayerNorm.gamma 4", "bert.LayerNorm.beta 4",
                "h.0.ln_1.weight 4", "h.0.ln_1.bias 4", "layer1.0.bn1.weight 4", "downsample.1.weight 4", "downsample.1.bias 4",
                "word_embeddings_layernorm.weight 4", "q_norm.weight 2x4")) {
            expected.put(s, "norm -1 -1");
        }
        for (String s : List.of("model.layers.0.self_attn.q_proj.bias 4", "attn.in_proj_bias 12", "lstm.bias_ih_l0 8",
                "gate.e_score_correction_bias 4")) {
            expected.put(s, "bias -1 -1");
        }
        expected.put("patch_embed.proj.weight 4x3x2x2", "conv 1 0");
        expected.put("mixer.conv1d.weight 4x1x4", "conv 1 0");
        expected.put("video.patch.weight 4x3x1x2x2", "conv 1 0");
        expected.put("lstm.weight_ih_l0 8x4", "recurrent 1 0");
        for (String s : List.of("moe.input_linear.weight 2x4x6", "attn.bias 1x1x5x5", "A_log 4x4",
                "experts.gate_up_proj_bias 2x6",
                "q_proj.weight_packed 4x4", "logit_scale ", "rotary.inv_freq 4", "bn1.running_mean 4", "q_proj.weight_scale 4x1",
                "loose 4", "x.weight ")) {
            expected.put(s, "other -1 -1");
        }
        Path p = write("roles.safetensors", expected.keySet().toArray(String[]::new));
        try (SafetensorsModel m = open(p)) {
            assertEquals(expected.size(), m.weights().size());
            Map<String, String> found = new LinkedHashMap<>();
            for (Weight w : m.weights()) {
                String shape = w.tensor().shape().toString();
                found.put(w.name() + " " + (shape.equals("scalar") ? "" : shape), described(w));
                assertEquals(p, m.file(w).orElseThrow());
            }
            expected.forEach((name, kind) -> assertEquals(kind, found.get(name), name));
        }
    }

    /** One bias that tells is enough for the square ones. */
    @Test
    void productsOfGpt2AreTransposed() throws IOException {
        try (SafetensorsModel m = open(write("gpt2.safetensors", "h.0.attn.c_proj.weight 4x4", "h.0.attn.c_proj.bias 4",
                "h.0.attn.c_attn.weight 4x12", "h.0.attn.c_attn.bias 12", "score.weight 4x4"))) {
            for (Weight w : m.weights()) {
                if (w.tensor().shape().rank() == 2) {
                    assertEquals(w.name().equals("score.weight") ? "linear 1 0" : "linear 0 1", described(w), w.name());
                }
            }
        }
        try (SafetensorsModel m = open(write("code.safetensors", "h.0.c_attn.weight 12x4", "h.0.c_attn.bias 12"))) {
            assertEquals("linear 1 0", described(m.weights().getLast()));
        }
    }

    @Test
    void rolesCanBeGiven() throws IOException {
        Path p = write("m.safetensors", "experts.up 2x4x6", "experts.bias 2x4", "x.weight 3x4", "x.bias 3");
        Map<String, Role> roles = new LinkedHashMap<>();
        roles.put("experts.b*", Role.BIAS);
        roles.put("experts.*", Role.LINEAR);
        roles.put("?.weight", Role.EMBEDDING);
        Map<String, String> found = new LinkedHashMap<>();
        try (Compressor c = Compressor.open(p, Compressor.Options.DEFAULT.roles(roles))) {
            c.model().weights().forEach(w -> found.put(w.name(), described(w)));
        }
        assertEquals(Map.of("experts.up", "linear 2 1", "experts.bias", "bias -1 -1", "x.weight", "embedding -1 0",
                "x.bias", "bias -1 -1"), found);
        for (Map.Entry<String, Role> wrong : Map.of("none*", Role.LINEAR, "x.*", Role.LINEAR, "x.weight", Role.CONV).entrySet()) {
            UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class,
                    () -> SafetensorsModel.open(p, Map.ofEntries(wrong)));
            assertTrue(e.getMessage().contains("'" + wrong.getKey() + "'"), e.getMessage());
        }
    }

    @Test
    void foldersAreReadWhole() throws IOException {
        writeFolder();
        Files.createDirectory(folder.resolve("cache"));
        Files.move(folder.resolve(TWO), folder.resolve("cache/blob"));
        Files.createSymbolicLink(folder.resolve(TWO), Path.of("cache/blob"));
        Files.writeString(folder.resolve("config.json"), "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\","
                + "\"rope\":{\"a\":[1,{}]},\"tie_word_embeddings\":true,\"quantization_config\":{\"quant_method\":\"fp8\"}}");
        Files.writeString(folder.resolve("tokenizer.json"), "{}");
        Files.writeString(folder.resolve(".hidden"), "");
        Files.writeString(folder.resolve("pytorch_model.bin"), "");
        Files.writeString(folder.resolve("consolidated.safetensors"), "not looked at");
        Path[] paths = {folder, folder.resolve(Index.NAME)};
        for (Path path : paths) {
            try (SafetensorsModel m = open(path)) {
                assertEquals(path, m.path());
                assertEquals(List.of("model.embed_tokens.weight", "model.norm.weight", "model.q_proj.bias", "model.q_proj.weight"),
                        m.weights().stream().map(Weight::name).toList());
                assertEquals(List.of(Index.NAME, ONE, TWO), names(m.files()));
                assertEquals(List.of("config.json", "tokenizer.json"), names(m.auxiliaryFiles()));
                long bytes = 0;
                for (Path file : m.files()) {
                    bytes += Files.size(file);
                }
                assertEquals(bytes, m.bytes());
                for (Weight w : m.weights()) {
                    assertEquals(w.name().contains("q_proj") ? TWO : ONE, m.file(w).orElseThrow().getFileName().toString());
                    for (byte b : w.tensor().data().toArray(ValueLayout.JAVA_BYTE)) {
                        assertEquals(w.name().length(), b);
                    }
                }
                assertEquals("model.embed_tokens.weight", m.tied().orElseThrow().name());
                Map<String, String> p = m.properties();
                assertEquals("LlamaForCausalLM (llama)", p.get("architecture"));
                assertEquals("fp8", p.get("compressed already"));
                assertEquals("4 tensors, 64 bytes", p.get("f32"));
                assertEquals("2", p.get("shards"));
                assertEquals("pt", p.get("metadata format"));
                assertEquals("consolidated.safetensors, pytorch_model.bin", p.get("other weights, not read"));
                assertFalse(p.containsKey("total_size"));
                Weight stranger = new Weight("x", Role.OTHER, m.weights().getFirst().tensor(), -1, -1, List.of(),
                        java.util.Optional.empty());
                assertThrows(IllegalArgumentException.class, () -> m.file(stranger));
            }
        }
        Files.writeString(folder.resolve(Index.NAME), Files.readString(folder.resolve(Index.NAME)).replace(":64", ":65"));
        try (SafetensorsModel m = open(folder)) {
            assertEquals("65 in the index, 64 in the shards", m.properties().get("total_size"));
        }
    }

    private static List<String> names(List<Path> files) {
        return files.stream().map(f -> f.getFileName().toString()).toList();
    }

    @Test
    void foldersOfOneFileAndOfNone() throws IOException {
        refused("there is none", folder);
        Path one = write("one.safetensors", "a.weight 2x2");
        Files.writeString(folder.resolve("config.json"), "{}");
        try (SafetensorsModel m = open(folder)) {
            assertEquals(List.of(one), m.files());
            assertEquals(List.of("config.json"), names(m.auxiliaryFiles()));
        }
        try (SafetensorsModel m = open(one)) {
            assertEquals(List.of(), m.auxiliaryFiles());
        }
        write("two.safetensors", "a.weight 2x2");
        refused("there are 2 without it", folder);
        assertThrows(NoSuchFileException.class, () -> open(folder.resolve("none.safetensors")));
        assertThrows(NoSuchFileException.class, () -> open(folder.resolve("none")));
    }

    @Test
    void tablesOfWordsCanBeTheHead() throws IOException {
        Path config = folder.resolve("config.json");
        write("m.safetensors", "model.embed_tokens.weight 4x2", "model.embed_positions.weight 9x2");
        String[] table = {"model.embed_tokens.weight"};
        tied("{}", table);
        tied("{\"tie_word_embeddings\":true}", table);
        tied("{\"text_config\":{\"tie_word_embeddings\":true}}", table);
        tied("{\"tie_word_embeddings\":false}");
        tied("{\"text_config\":{\"tie_word_embeddings\":false}}");
        tied("{\"tie_word_embeddings\":null,\"text_config\":null,\"quantization_config\":null,\"architectures\":[]}", table);
        tied("{\"time_step_limit\":[0.0,Infinity,-Infinity,NaN]}", table);
        write("m.safetensors", "model.embed_tokens.weight 4x2", "lm_head.weight 4x2");
        tied("{}");
        tied("{\"tie_word_embeddings\":true}", table);
        for (String wrong : List.of("", "[]", "{", "{\"a\":1,\"a\":1}", "{}{}", "{\"a\":" + "[".repeat(100_000), "\ufeff{}x")) {
            Files.writeString(config, wrong);
            MalformedModelException e = assertThrows(MalformedModelException.class, () -> open(folder), wrong);
            assertEquals(config, e.path());
        }
    }

    private void tied(String config, String... to) throws IOException {
        Files.writeString(folder.resolve("config.json"), config);
        try (SafetensorsModel m = open(folder)) {
            assertEquals(List.of(to), m.tied().stream().map(Weight::name).toList(), config);
            assertEquals(to.length == 1, m.properties().containsKey("head"));
        }
    }

    private static void refused(String what, Path path) throws IOException {
        MalformedModelException e = assertThrows(MalformedModelException.class, () -> open(path), what);
        assertTrue(e.getMessage().contains(what), what + ": " + e.getMessage());
        assertTrue(e.offset() <= (Files.isRegularFile(e.path()) ? Files.size(e.path()) : -1), e.getMessage());
    }

    @Test
    void indexAndShardsMustAgree() throws IOException {
        write(ONE, "a 1", "b 1");
        write(TWO, "c 1");
        index(map("a", ONE, "b", ONE, "c", TWO));
        open(folder).close();
        for (String path : List.of("../x", "/etc/passwd", "sub/" + ONE, "", ".", "..", "C:x", "a\\\\b", "a\\u0000b", "./" + ONE)) {
            index(map("a", path));
            refused("without a path", folder);
        }
        String[][] wrong = {
            {"not in the index", "a", ONE, "c", TWO}, {"'d' is not in " + TWO, "a", ONE, "b", ONE, "c", TWO, "d", TWO},
            {"but the index has it in " + TWO, "a", ONE, "b", TWO, "c", TWO}, {"which does not exist", "a", "none.safetensors"},
            {"'a' of 'weight_map' is there twice", "a", ONE, "a", ONE}, {"'a' of 'weight_map' is there twice", "a", ONE, "\\u0061", TWO},
        };
        for (String[] w : wrong) {
            index(map(Arrays.copyOfRange(w, 1, w.length)));
            refused(w[0], folder);
        }
        index(map("a", ONE, "b", ONE, "c", TWO));
        write(TWO, "c 1", "b 1");
        refused("is here and in " + ONE, folder);
        write(TWO, "c 1");
        Path link = Files.createSymbolicLink(folder.resolve("link"), folder.resolve(ONE));
        index(map("a", ONE, "b", "link", "c", TWO));
        refused("is here and in", folder);
        Files.delete(link);
        Files.createSymbolicLink(link, folder.resolve("nowhere"));
        refused("which does not exist", folder);
        String[][] texts = {{"not JSON", "{"}, {"expected an object", "[]"}, {"no 'weight_map'", "{}"},
            {"expected an object", "{\"weight_map\":[]}"}, {"expected the name", "{\"weight_map\":{\"a\":1}}"},
            {"'weight_map' of the index is there twice", "{\"weight_map\":{},\"weight_map\":{}}"}, {"end of the index", map() + "{}"},
            {"not JSON", "{\"x\":" + "[".repeat(100_000)}, {"surrogate", map("\\ud800", ONE)}, {"byte that is zero", map() + "\0"}};
        for (String[] t : texts) {
            index(t[1]);
            refused(t[0], folder);
        }
        Files.write(folder.resolve(Index.NAME), new byte[] {'{', '"', (byte) 0xff, '"', ':', '1', '}'});
        refused("not UTF-8", folder);
        index(map());
        try (SafetensorsModel m = open(folder)) {
            assertEquals(List.of(), m.weights());
        }
        index("{\"weight_map\":{\"a\":\"" + ONE + "\",\"b\":\"" + ONE + "\"},\"metadata\":[1],\"other\":{\"x\":{}}}");
        open(folder).close();
        Files.delete(folder.resolve(Index.NAME));
        Files.createDirectory(folder.resolve(Index.NAME));
        refused("not a regular file", folder);
    }

    /** What is no regular file is never opened: a pipe would be waited for. */
    @Test
    void shardsThatAreNoFilesOfTensors() throws Exception {
        write(ONE, "a 1");
        Files.writeString(folder.resolve("config.json"), "{}");
        index(map("a", ONE, "b", "config.json"));
        refused("has 2 bytes", folder);
        Files.writeString(folder.resolve("config.json"), "{\"model_type\":\"llama\"}");
        refused("expected the length of a safetensors header", folder);
        Files.createDirectory(folder.resolve(TWO));
        index(map("a", ONE, "b", TWO));
        refused("not a regular file", folder);
        Files.delete(folder.resolve(TWO));
        Files.createSymbolicLink(folder.resolve(TWO), Path.of(TWO));
        refused("which does not exist", folder);
        Files.delete(folder.resolve(TWO));
        index(map("a", ONE, "b", Index.NAME));
        refused("expected the length of a safetensors header", folder);
        assumeTrue(Files.exists(Path.of("/dev/zero")), "there are no devices");
        Files.createSymbolicLink(folder.resolve(TWO), Path.of("/dev/zero"));
        index(map("a", ONE, "b", TWO));
        refused("not a regular file", folder);
        Files.delete(folder.resolve(TWO));
        pipe(TWO);
        assertTimeoutPreemptively(Duration.ofSeconds(20), () -> {
            refused("not a regular file", folder);
            refused("not a regular file", folder.resolve(TWO));
            Files.delete(folder.resolve("config.json"));
            pipe("config.json");
            index(map("a", ONE));
            refused("not a regular file", folder);
            Files.delete(folder.resolve("config.json"));
            pipe("tokenizer.json");
            try (SafetensorsModel m = open(folder)) {
                assertEquals(List.of(), m.auxiliaryFiles());
            }
            Files.delete(folder.resolve(Index.NAME));
            pipe(Index.NAME);
            refused("not a regular file", folder);
        });
    }

    private void pipe(String name) throws Exception {
        assumeTrue(new ProcessBuilder("mkfifo", folder.resolve(name).toString()).start().waitFor() == 0, "mkfifo makes no pipe");
    }

    /** Also where nothing is read: what is passed over may be copied, and read by others. */
    @Test
    void keysAreThereOnceAtEveryLevel() throws IOException {
        write("m.safetensors", "a 1");
        Path config = folder.resolve("config.json");
        for (String twice : List.of("{\"a\":{\"b\":1,\"b\":1}}", "{\"a\":[{\"b\":{\"c\":1,\"d\":2,\"\\u0063\":3}}]}",
                "{\"text_config\":{\"a\":1,\"a\":1}}", "{\"quantization_config\":{\"x\":{\"a\":{},\"a\":[]}}}",
                "{\"architectures\":[{\"a\":1,\"a\":1}]}")) {
            Files.writeString(config, twice);
            refused("is there twice", folder);
        }
        Files.writeString(config, "{\"a\":{\"b\":1,\"c\":{\"b\":1}},\"b\":[{\"b\":1},{\"b\":1}]}");
        open(folder).close();
        for (String twice : List.of("{\"metadata\":{\"total_size\":1,\"total_size\":1},\"weight_map\":{}}",
                "{\"x\":{\"a\":1,\"a\":1},\"weight_map\":{}}")) {
            index(twice);
            refused("is there twice", folder);
        }
    }

    /** Any damage to the index is named, or the model is the same as before. */
    @RandomTest
    void damageToTheIndexIsNamedOrHarmless() throws IOException {
        writeFolder();
        Path index = folder.resolve(Index.NAME);
        byte[] whole = Files.readAllBytes(index);
        byte[] letters = "\"{}[]:,\\/.0ux \u0000\u00ff".getBytes(StandardCharsets.ISO_8859_1);
        Random r = Effort.random();
        int named = 0;
        int n = 1500;
        for (int i = 0; i < n; i++) {
            byte[] b = whole.clone();
            int at = r.nextInt(b.length);
            switch (r.nextInt(4)) {
                case 0 -> b = Arrays.copyOf(b, at);
                case 1 -> b[at] = letters[r.nextInt(letters.length)];
                case 2 -> b[at] ^= (byte) (1 << r.nextInt(8));
                default -> {
                    int from = r.nextInt(b.length);
                    int length = Math.min(r.nextInt(60), b.length - Math.max(at, from));
                    System.arraycopy(whole, from, b, at, length);
                }
            }
            Files.write(index, b);
            try (SafetensorsModel m = open(folder)) {
                assertEquals(4, m.weights().size());
                for (Weight w : m.weights()) {
                    assertEquals(w.name().contains("q_proj") ? TWO : ONE, m.file(w).orElseThrow().getFileName().toString());
                }
            } catch (MalformedModelException e) {
                assertTrue(e.offset() >= 0 && e.offset() <= Files.size(e.path()), e.getMessage());
                named++;
            }
        }
        assertTrue(named > n / 2, named + " were named");
    }

    /** The process outlives it as long as Java code reads. */
    @Test
    void filesThatBecomeShorterAreErrors() throws IOException {
        Path p = write("m.safetensors", "a.weight 64x1024");
        try (SafetensorsModel m = open(p)) {
            try (FileChannel c = FileChannel.open(p, StandardOpenOption.WRITE)) {
                c.truncate(5000);
            }
            assertThrows(InternalError.class, () -> m.weights().getFirst().tensor().data().toArray(ValueLayout.JAVA_BYTE));
        }
        refused("claims bytes 0 to 262144", p);
    }

    /** Methods that look at all weights read them into memory, of which there is as much as was allowed. */
    @Test
    void methodsThatReadWeightsRefuseWhatDoesNotFitInMemory() throws IOException {
        long a = 4L * 2048 * 3072;
        long b = 4L * 2048 * 1024;
        Path p = write("m.safetensors", "a.weight 2048x3072", "b.weight 2048x1024");
        Recipe global = Recipe.named("prune50").set("scope", "global");
        try (Compressor c = Compressor.open(p, Compressor.Options.DEFAULT.memory(2 * (a + b)))) {
            assertTrue(c.plan(global).entries().stream().allMatch(Plan.Entry::compressed));
        }
        try (Compressor c = Compressor.open(p, Compressor.Options.DEFAULT.memory(2 * (a + b) - 1))) {
            for (Plan.Entry e : c.plan(global).entries()) {
                assertTrue(!e.compressed() && e.note().contains("compared with each other") && e.note().contains("memory allowed"), e.note());
            }
            assertTrue(c.plan(global.set("scope", "tensor")).entries().stream().allMatch(Plan.Entry::compressed));
        }
        try (Compressor c = Compressor.open(p, Compressor.Options.DEFAULT.memory(2 * a - 1))) {
            // One that is too large stays; the others do not suffer from it.
            for (Recipe r : List.of(global, global.set("scope", "tensor"),
                    Recipe.named("lowrank").set("energy", "0.1").set("force-scheme", "true"))) {
                List<Plan.Entry> entries = c.plan(r).entries();
                assertFalse(entries.get(0).compressed());
                assertTrue(entries.get(0).note().contains("has to be in memory as a whole") && entries.get(0).note().contains("memory allowed"),
                        entries.get(0).note());
                assertTrue(entries.get(1).compressed(), entries.get(1).note());
            }
        }
    }

    @Test
    void theFormatIsFoundByNameOrContents() throws IOException {
        Path p = write("m.safetensors", "a.weight 64x128");
        Path renamed = Files.copy(p, folder.resolve("renamed"));
        for (Path path : List.of(p, renamed)) {
            try (Compressor c = Compressor.open(path)) {
                assertEquals("safetensors", c.format().id());
                Plan plan = c.plan(Recipe.named("int8"));
                assertEquals("compressed-tensors", plan.target().name());
                assertTrue(plan.entries().getFirst().compressed(), plan.entries().getFirst().note());
            }
        }
        Files.writeString(p, "\u0007 this is no model");
        assertThrows(MalformedModelException.class, () -> Compressor.open(p));
    }
}
