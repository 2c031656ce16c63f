package dev.tensorpress.model.compressedtensors;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Effort;
import dev.tensorpress.Effort.RandomTest;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.io.Manifest;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.safetensors.Config;
import dev.tensorpress.model.safetensors.SafetensorsModel;
import dev.tensorpress.model.safetensors.Shards;
import dev.tensorpress.model.safetensors.SmallFolder;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Compressed, and back: what comes out is what an independent decoder makes of it, whatever the way. */
class ExpansionTest {
    private static final Executor ONE = Executor.cpu(1);

    @TempDir
    Path folder;

    private final Map<String, byte[]> before = new TreeMap<>();

    private Path model(DType type) throws IOException {
        SmallFolder f = new SmallFolder(Effort.seed()).add("model.embed_tokens.weight", type, 40, 32)
                .add("model.layers.0.self_attn.q_proj.weight", type, 33, 128).add("model.layers.0.self_attn.q_proj.bias", type, 33)
                .add("model.layers.0.mlp.up_proj.weight", type, 9, 256).add("model.layers.0.input_layernorm.weight", DType.F32, 7)
                .add("model.layers.1.mlp.up_proj.weight", type, 64, 384).add("model.rotary.inv_freq", DType.I64, 3)
                .add("odd.weight", DType.U8, 3).add("lm_head.weight", type, 40, 32);
        before.putAll(f.bytes);
        Path p = folder.resolve("model " + type);
        f.write(p, 3);
        Files.writeString(p.resolve("tokenizer.json"), "{}");
        return p;
    }

    private Path compress(Path in, Recipe recipe, String name) throws IOException {
        Path out = folder.resolve(name);
        try (Compressor c = Compressor.open(in)) {
            c.compress(c.plan(recipe.set("min-size", "0").set("shard-size", "9000")), out);
        }
        return out;
    }

    private Path expand(Path in, String name, long shardSize, long elements, Executor executor) throws IOException {
        Path out = folder.resolve(name);
        try (CompressedModel m = CompressedModel.open(in)) {
            List<Long> reached = new ArrayList<>();
            Destination to = new Destination(out, false, false, Destination.DEFAULT_MEMORY, Map.of());
            m.expand(to, shardSize, executor, (tensor, bytes) -> reached.add(bytes), elements);
            assertEquals(reached.stream().sorted().toList(), reached);
            assertEquals(m.bytes(), reached.getLast());
        }
        return out;
    }

    private static Map<String, byte[]> files(Path in) throws IOException {
        Map<String, byte[]> all = new TreeMap<>();
        try (var files = Files.list(in)) {
            for (Path p : files.toList()) {
                all.put(p.getFileName().toString(), Files.readAllBytes(p));
            }
        }
        return all;
    }

    @RandomTest
    void everyRecipeComesBackAsTheDecoderHasIt() throws IOException {
        int n = 0;
        for (DType type : new DType[] {DType.BF16, DType.F16, DType.F32}) {
            Path in = model(type);
            List<Recipe> recipes = new ArrayList<>(List.of(Recipe.named("w8a16"), Recipe.named("w8a8"),
                    Recipe.named("w8a16").set("symmetric", "false"), Recipe.named("prune50-int8")));
            for (String block : List.of("32", "64", "128")) {
                recipes.add(Recipe.named("w4a16").set("block", block));
                recipes.add(Recipe.named("w4a16").set("block", block).set("symmetric", "false"));
            }
            for (Recipe r : recipes) {
                Path packed = compress(in, r, "packed" + n);
                Path out = expand(packed, "out" + n++, 20_000, 1 + n * 512L, ONE);
                PlainDecoder d = new PlainDecoder(packed);
                PlainDecoder after = new PlainDecoder(out);
                assertFalse(d.modules.isEmpty(), r.toString());
                assertEquals(before.keySet(), new TreeSet<>(after.tensors.keySet()));
                after.tensors.forEach((name, t) -> {
                    PlainDecoder.Module m = d.modules.get(name.replaceAll("\\.weight$", ""));
                    assertEquals(before.get(name).length, t.bytes().length, name);
                    assertArrayEquals(m == null ? before.get(name) : m.rounded(), t.bytes(), name + " of " + r);
                    if (m != null) {
                        assertEquals(type.name(), t.dtype(), name);
                        assertArrayEquals(new long[] {m.rows(), m.cols()}, t.shape(), name);
                    }
                });
                assertEquals(null, after.quantization);
                assertArrayEquals(Files.readAllBytes(in.resolve(Config.NAME)), Files.readAllBytes(out.resolve(Config.NAME)));
                assertEquals("{}", Files.readString(out.resolve("tokenizer.json")));
                assertTrue(Files.readString(out.resolve(Manifest.NAME)).contains("\"target\" : \"expanded\""));
            }
        }
    }

    /** Neither the number of threads nor how much is decoded at once. */
    @Test
    void nothingButTheModelShows() throws IOException {
        Path in = model(DType.BF16);
        for (Recipe r : List.of(Recipe.named("w4a16").set("symmetric", "false"), Recipe.named("lowrank").set("rank", "5").set("force-scheme", "true"))) {
            Path packed = compress(in, r, r.name());
            Map<String, byte[]> first = null;
            try (Executor three = Executor.cpu(3)) {
                for (long elements : new long[] {1, 3000, Expansion.AT_ONCE}) {
                    Map<String, byte[]> now = files(expand(packed, r.name() + elements, 20_000, elements,
                            elements == 3000 ? three : ONE));
                    first = first == null ? now : first;
                    assertEquals(first.keySet(), now.keySet());
                    for (String name : now.keySet()) {
                        assertArrayEquals(first.get(name), now.get(name), name);
                    }
                }
            }
        }
    }

    @Test
    void factorsAreMultiplied() throws IOException {
        Path in = model(DType.F16);
        Path packed = compress(in, Recipe.named("lowrank").set("rank", "5").set("force-scheme", "true"), "packed");
        PlainDecoder d = new PlainDecoder(packed);
        PlainDecoder after = new PlainDecoder(expand(packed, "out", 20_000, 700, ONE));
        int products = 0;
        for (Map.Entry<String, PlainDecoder.Raw> e : after.tensors.entrySet()) {
            PlainDecoder.Raw left = d.tensors.get(e.getKey() + ".left");
            if (left == null) {
                assertArrayEquals(d.tensors.get(e.getKey()).bytes(), e.getValue().bytes());
                continue;
            }
            products++;
            PlainDecoder.Raw right = d.tensors.get(e.getKey() + ".right");
            int rows = (int) e.getValue().shape()[0];
            int cols = (int) e.getValue().shape()[1];
            // Weights are [out, in]: the left factor holds the inputs.
            assertArrayEquals(new long[] {cols, 5}, left.shape());
            for (int i = 0; i < rows; i++) {
                for (int j = 0; j < cols; j++) {
                    double sum = 0;
                    double size = 0;
                    for (int k = 0; k < 5; k++) {
                        double p = (double) PlainDecoder.number(left, j * 5 + k) * PlainDecoder.number(right, k * rows + i);
                        sum += p;
                        size += Math.abs(p);
                    }
                    assertEquals(sum, PlainDecoder.number(e.getValue(), i * cols + j),
                            Math.abs(sum) * 0x1p-11 + size * 1e-6 + 1e-7);
                }
            }
        }
        assertEquals(4, products);
    }

    /** As servers' own tools write them: parts of a module in different files, configurations in one line. */
    @Test
    void foldersOfOthersExpand() throws IOException {
        PackedFolder f = new PackedFolder(Effort.seed()).group("Linear", 4, 32, false).module("m.a", 19, 64, 4, 32, false, DType.BF16)
                .module("b", 5, 32, 4, 32, false, DType.BF16).dense("lm_head.weight", DType.BF16, 8, 4);
        Path packed = f.write(folder.resolve("packed"), 4);
        for (String[] config : new String[][] {
            {"{\"quantization_config\":Q}", null}, {"{\"a\":1,\"quantization_config\":Q}", "{\"a\":1}"},
            {"{\"quantization_config\" : Q , \"a\":1}\n", "{ \"a\":1}\n"},
            {"{\"a\":[\"}\"],\n \"quantization_\\u0063onfig\":Q,\n\"b\":NaN}", "{\"a\":[\"}\"],\n\"b\":NaN}"},
        }) {
            Files.writeString(packed.resolve(Config.NAME), config[0].replace("Q", f.quantization()));
            Path out = expand(packed, "out" + config[0].length(), 1 << 20, 1000, ONE);
            PlainDecoder d = new PlainDecoder(packed);
            PlainDecoder after = new PlainDecoder(out);
            for (String name : d.modules.keySet()) {
                assertArrayEquals(d.modules.get(name).rounded(), after.tensors.get(name + ".weight").bytes());
            }
            assertEquals(config[1], Files.exists(out.resolve(Config.NAME)) ? Files.readString(out.resolve(Config.NAME)) : null);
        }
    }

    @Test
    void anInterruptedRunGoesOnToTheSameBytes() throws IOException {
        Path packed = compress(model(DType.BF16), Recipe.named("w8a16"), "packed");
        Map<String, byte[]> whole = files(expand(packed, "whole", 9000, 1000, ONE));
        Path out = folder.resolve("out");
        Destination to = new Destination(out, false, false, Destination.DEFAULT_MEMORY, Map.of());
        try (CompressedModel m = CompressedModel.open(packed)) {
            long stop = m.bytes() / 2;
            assertThrows(IllegalStateException.class, () -> m.expand(to, 9000, ONE, (tensor, bytes) -> {
                if (bytes > stop) {
                    throw new IllegalStateException("enough");
                }
            }));
            assertFalse(Files.exists(out));
            assertThrows(FileAlreadyExistsException.class, () -> m.expand(to, 9000, ONE, (tensor, bytes) -> { }));
            List<Long> reached = new ArrayList<>();
            m.expand(new Destination(out, false, true, Destination.DEFAULT_MEMORY, Map.of()), 9000, ONE,
                    (tensor, bytes) -> reached.add(bytes));
            assertTrue(reached.getFirst() > stop / 2 && reached.getLast() == m.bytes(), reached.toString());
        }
        Map<String, byte[]> now = files(out);
        assertEquals(whole.keySet(), now.keySet());
        now.forEach((name, bytes) -> assertArrayEquals(whole.get(name), bytes, name));
    }

    @Test
    void tooLittleMemoryIsSaid() throws IOException {
        Path packed = compress(model(DType.BF16), Recipe.named("w4a16"), "packed");
        try (CompressedModel m = CompressedModel.open(packed)) {
            UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () -> m.expand(
                    new Destination(folder.resolve("out"), false, false, 1000, Map.of()), 9000, ONE, (tensor, bytes) -> { }));
            assertTrue(e.setting().equals("memory"), e.getMessage());
        }
        assertFalse(Files.exists(folder.resolve("out.partial")));
    }

    /** Shorter or newer than when it was opened: an error, and nothing is written. */
    @Test
    void filesThatChangeAreNamed() throws IOException {
        Path packed = compress(model(DType.BF16), Recipe.named("w8a16"), "packed");
        Path shard = packed.resolve(Shards.name(1, new PlainDecoder(packed).metadata.size()));
        byte[] before = Files.readAllBytes(shard);
        for (boolean shorter : new boolean[] {true, false}) {
            try (CompressedModel m = CompressedModel.open(packed)) {
                if (shorter) {
                    try (RandomAccessFile f = new RandomAccessFile(shard.toFile(), "rw")) {
                        f.setLength(before.length / 2);
                    }
                } else {
                    Files.setLastModifiedTime(shard, java.nio.file.attribute.FileTime.fromMillis(1));
                }
                IOException e = assertThrows(IOException.class, () -> m.expand(Destination.of(folder.resolve("out")), 1 << 30, ONE,
                        (tensor, bytes) -> { }));
                assertTrue(e.getMessage().contains(shard.getFileName().toString()), e.getMessage());
            }
            assertFalse(Files.exists(folder.resolve("out")));
            Files.write(shard, before);
        }
    }

    @Test
    void descriptionsOfFactorsAreChecked() throws IOException {
        Path packed = compress(model(DType.F32), Recipe.named("lowrank").set("rank", "5").set("force-scheme", "true"), "packed");
        byte[] header;
        Path shard = null;
        for (Map.Entry<String, Map<String, String>> e : new PlainDecoder(packed).metadata.entrySet()) {
            shard = e.getValue().containsKey(CompressedTensorsTarget.FACTORS) ? packed.resolve(e.getKey()) : shard;
        }
        header = Files.readAllBytes(shard);
        String text = new String(header, java.nio.charset.StandardCharsets.ISO_8859_1);
        for (String[] change : new String[][] {
            {"transposed\\\":true", "transposed\\\":null"}, {"transposed\\\":true", "transposed\\\":1234"},
            {"transposed", "transformer"}, {"shape\\\":[", "shape\\\":{"}, {".weight.left", ".weight.lost"},
            {"\\\"shape\\\"", "\\\"chaos\\\""}, {",384]", ",383]"},
            {",256]", ",2.6]"}, {",128]", ",-28]"}, {"[33,", "[34,"}, {"[9,", "[8,"}, {"[64,", "[65,"},
        }) {
            if (!text.contains(change[0])) {
                continue;
            }
            Files.write(shard, text.replace(change[0], change[1]).getBytes(java.nio.charset.StandardCharsets.ISO_8859_1));
            assertThrows(MalformedModelException.class, () -> CompressedModel.open(packed).close(), change[1]);
        }
        Files.write(shard, header);
        CompressedModel.open(packed).close();
        assertTrue(Arrays.equals(header, Files.readAllBytes(shard)));
    }

    /** Stacks of experts have no loader, hence no form that one would want: rows of all of them, with groups along the last axis. */
    @Test
    void stacksOfExpertsComeBack() throws IOException {
        for (DType type : new DType[] {DType.F32, DType.BF16}) {
            SmallFolder m = new SmallFolder(Effort.seed());
            m.add("layers.0.mlp.experts.gate_up_proj", type, 5, 24, 96).add("layers.0.mlp.experts.down_proj", type, 9, 7, 240)
                    .add("layers.0.mlp.experts.down_proj_bias", type, 5, 24).add("layers.0.mlp.o_proj.weight", type, 64, 64);
            Path in = m.write(folder.resolve("stacks" + type), 2);
            int n = 0;
            for (Recipe r : List.of(Recipe.named("w8a16"), Recipe.named("w4a16"), Recipe.named("w4a16").set("symmetric", "false"))) {
                try (Compressor c = Compressor.open(in)) {
                    Plan.Entry e = c.plan(r).entries().stream().filter(x -> x.weight().name().endsWith("gate_up_proj")).findAny().get();
                    assertTrue(!e.compressed() && e.note().contains("stack of experts, and no loader reads one"), e.note());
                }
                Path packed = compress(in, r.set("force-scheme", "true"), "packed" + type + n);
                PlainDecoder d = new PlainDecoder(packed);
                for (long elements : new long[] {1, 5000, 1 << 20}) {
                    Path back = expand(packed, "back" + type + n + elements, 9000, elements, ONE);
                    try (SafetensorsModel x = SafetensorsModel.open(back, Map.of())) {
                        assertEquals(m.bytes.keySet(), x.weights().stream().map(Weight::name).collect(Collectors.toSet()));
                        for (Weight w : x.weights()) {
                            assertEquals(m.tensors.get(w.name()).shape(), w.tensor().shape(), w.name());
                            PlainDecoder.Module module = d.modules.get(w.name());
                            if (w.name().endsWith("gate_up_proj") || w.name().endsWith("down_proj")) {
                                assertEquals(w.name().endsWith("down_proj") ? 80 : 32, module.group());
                                for (int k = 0; k < module.weight().length; k++) {
                                    assertEquals(SmallFolder.round(module.weight()[k], type), Quantize.element(w.tensor(), k));
                                    assertEquals(m.values.get(w.name())[k], Quantize.element(w.tensor(), k), 2.5);
                                }
                            }
                        }
                    }
                }
                n++;
            }
        }
    }

    /** Metadata says what shape a weight had: nothing that contradicts the codes is believed. */
    @Test
    void descriptionsOfShapesAreChecked() throws IOException {
        SmallFolder m = new SmallFolder(Effort.seed()).add("mlp.experts.down_proj", DType.F32, 6, 8, 96).add("h.c_fc.weight", DType.F32, 64, 128)
                .add("h.c_fc.bias", DType.F32, 128);
        Path packed = folder.resolve("shapes");
        try (Compressor c = Compressor.open(m.write(folder.resolve("in"), 1))) {
            c.compress(c.plan(Recipe.named("w8a16").set("force-scheme", "true").set("min-size", "0")), packed);
        }
        Path shard = packed.resolve(Shards.name(0, 1));
        byte[] whole = Files.readAllBytes(shard);
        String text = new String(whole, java.nio.charset.StandardCharsets.ISO_8859_1);
        for (String[] change : new String[][] {{"[6,8,96]", "[8,6,69]"}, {"[6,8,96]", "[48,96] "},
            {"[6,8,96]", "[7,8,96]"}, {"[6,8,96]", "[6,0,96]"}, {"[6,8,96]", "[6,9,96]"}, {"{\\\"shape\\\"", "{\\\"shade\\\""},
            {"{\\\"h.c_fc.weight\\\"", "{\\\"h.c_fc.weighs\\\""}, {"{\\\"h.c_fc.weight\\\":{}", "{\\\"h.c_fc.weight\\\":[]"},
            {"{\\\"mlp.experts.down_proj\\\"", "{\\\"mlp.experts.lost_proj\\\""}}) {
            assertTrue(text.contains(change[0]), change[0]);
            Files.write(shard, text.replace(change[0], change[1]).getBytes(java.nio.charset.StandardCharsets.ISO_8859_1));
            assertThrows(MalformedModelException.class, () -> CompressedModel.open(packed).close(), change[1]);
        }
        Files.write(shard, whole);
        CompressedModel.open(packed).close();
    }

    /** Whatever bytes configuration and header have: an error with a reason, or a model that expands. */
    @RandomTest
    void damageIsNamedOrHarmless() throws IOException {
        Path packed = new PackedFolder(Effort.seed()).group("a re:b", 4, 32, false).group("Linear", 8, 0, true)
                .module("a", 19, 64, 4, 32, false, DType.BF16).module("c", 5, 30, 8, 0, true, DType.F32)
                .dense("lm_head.weight", DType.BF16, 8, 4).write(folder.resolve("packed"), 1);
        Path shard = packed.resolve(Shards.name(0, 1));
        Path config = packed.resolve(Config.NAME);
        Random random = Effort.random();
        int named = 0;
        int expanded = 0;
        for (int i = 0; i < 2000; i++) {
            Path file = i % 3 == 0 ? shard : config;
            byte[] whole = Files.readAllBytes(file);
            int header = file == config ? whole.length : 8 + (int) ByteBuffer.wrap(whole).order(ByteOrder.LITTLE_ENDIAN).getLong();
            byte[] b = random.nextInt(20) == 0 ? Arrays.copyOf(whole, random.nextInt(whole.length)) : whole.clone();
            for (int k = random.nextInt(3); k >= 0 && b.length > 0; k--) {
                // What means something in JSON, more often than not.
                int at = random.nextInt(Math.min(header, b.length));
                b[at] = (byte) (random.nextInt(3) == 0 ? random.nextInt() : "{}[],:\"0123456789-.eE\\".charAt(random.nextInt(21)));
            }
            Files.write(file, b);
            try (CompressedModel m = CompressedModel.open(packed)) {
                if (expanded++ % 20 == 0) {
                    m.expand(Destination.of(folder.resolve("out" + i)), 1 << 30, ONE, (tensor, bytes) -> { });
                }
            } catch (MalformedModelException e) {
                assertTrue(e.getMessage().contains(packed.toString()) && e.offset() >= -1, e.getMessage());
                named++;
            } catch (UnsupportedRequestException e) {
                assertTrue(e.getMessage().contains(packed.toString()), e.getMessage());
                named++;
            }
            Files.write(file, whole);
        }
        assertTrue(named > 1000 && expanded > 50, named + " were named, " + expanded + " could be expanded");
    }
}
