package dev.tensorpress.cli;

import static dev.tensorpress.cli.MainTest.run;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.cli.MainTest.Result;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class SafetensorsTest {
    private static final String ONE = "model-00001-of-00002.safetensors";
    private static final String TWO = "model-00002-of-00002.safetensors";
    private static final String WORDS = "model.embed_tokens.weight";

    @TempDir
    Path folder;

    /** Of bf16. */
    private Path write(String file, String name, int rows, int cols) throws IOException {
        int size = 2 * rows * cols;
        byte[] header = ("{\"" + name + "\":{\"dtype\":\"BF16\",\"shape\":[" + rows + "," + cols + "],\"data_offsets\":[0," + size
                + "]}}").getBytes(StandardCharsets.UTF_8);
        return Files.write(folder.resolve(file), ByteBuffer.allocate(8 + header.length + size).order(ByteOrder.LITTLE_ENDIAN)
                .putLong(header.length).put(header).array());
    }

    @BeforeEach
    void writeModel() throws IOException {
        write(ONE, WORDS, 100, 64);
        write(TWO, "model.layers.0.mlp.up_proj.weight", 128, 64);
        Files.writeString(folder.resolve("model.safetensors.index.json"), "{\"weight_map\":{\"" + WORDS + "\":\"" + ONE
                + "\",\"model.layers.0.mlp.up_proj.weight\":\"" + TWO + "\"}}");
        Files.writeString(folder.resolve("config.json"), "{\"model_type\":\"llama\",\"tie_word_embeddings\":true}");
    }

    @Test
    void inspectShowsFoldersAndFiles() throws IOException {
        Result r = run("inspect", folder);
        assertEquals(0, r.code(), r.err());
        for (String fact : List.of("safetensors, ", "in 3 files", "model type: llama", "bf16: 2 tensors, 29184 bytes", "shards: 2",
                "head: tied to " + WORDS, "other files: config.json", "FILE")) {
            assertTrue(r.out().contains(fact), fact + "\n" + r.out());
        }
        assertTrue(r.out().lines().anyMatch(line -> line.matches(
                "model.layers.0.mlp.up_proj.weight +linear +128x64 +bf16 +16,384 +" + TWO)), r.out());
        r = run("inspect", folder.resolve(ONE), "--json");
        assertTrue(r.out().contains("\"role\" : \"embedding\"") && r.out().contains("\"file\" : \"" + folder.resolve(ONE)), r.out());
        assertTrue(run("inspect", folder, "--json").out().contains("\"companions\" : [ \"" + folder.resolve("config.json") + "\" ]"));
    }

    /** In the older form; the second name is none of the model. */
    @Test
    void importanceMatricesAreStatistics() throws IOException {
        Path model = SmallModel.writeSafetensors(folder.resolve("small.safetensors"));
        Path file = folder.resolve("imatrix.dat");
        Path out = folder.resolve("out");
        Path prune = Files.writeString(folder.resolve("p.yaml"), "name: p\nsteps:\n  - name: s\n    select: {role: linear, min-size: 0}\n"
                + "    prune: {sparsity: 0.5, scope: channel, criterion: activation}\n");
        ByteBuffer whole = ByteBuffer.allocate(4 + 2 * (19 + 12 + 4 * SmallModel.N)).order(ByteOrder.LITTLE_ENDIAN).putInt(2);
        for (String name : List.of("blk.0.ffn_up.weight", "blk.9.ffn_up.weight")) {
            whole.putInt(name.length()).put(name.getBytes(StandardCharsets.UTF_8)).putInt(3).putInt(SmallModel.N);
            for (int i = 0; i < SmallModel.N; i++) {
                whole.putFloat(i < SmallModel.N / 2 ? 1e-20f : 1);
            }
        }
        Files.write(file, Arrays.copyOf(whole.array(), 700));
        assertEquals(Main.MALFORMED, run("plan", model, "--recipe", prune, "--statistics", file).code());
        Files.write(file, whole.array());
        Result r = run("compress", model, "-o", out, "--recipe", prune, "--statistics", file);
        assertEquals(0, r.code(), r.err());
        assertTrue(r.err().contains("no weight of the model has a name that fits 1 of " + file + ": blk.9.ffn_up.weight"), r.err());
        // All of the half that hardly has inputs is zero, and nothing else.
        byte[] bytes = Files.readAllBytes(out.resolve("model.safetensors"));
        ByteBuffer weights = ByteBuffer.wrap(bytes, bytes.length - 4 * SmallModel.N * SmallModel.N, 4 * SmallModel.N * SmallModel.N).order(ByteOrder.LITTLE_ENDIAN);
        for (int i = 0; i < SmallModel.N * SmallModel.N; i++) {
            assertEquals(i % SmallModel.N < SmallModel.N / 2, weights.getFloat() == 0, "element " + i);
        }
        Path gptq = Files.writeString(folder.resolve("g.yaml"), "name: g\nsteps:\n  - name: s\n    select: {role: linear, min-size: 0}\n    gptq: {bits: 4}\n");
        r = run("plan", model, "--recipe", gptq, "--statistics", file, "--json");
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().contains("no Gram matrix"), r.out());
        r = run("calibrate", "--merge", file, "-o", folder.resolve("sum"));
        assertEquals(Main.MALFORMED, r.code(), r.err());
    }

    @Test
    void thereIsNoGraph() {
        for (String more : new String[] {"--all", "--json"}) {
            Result r = run("inspect", folder, "--graph", more);
            assertEquals(Main.UNSUPPORTED, r.code());
            assertTrue(r.line().contains(folder + " has no graph: models in safetensors are weights alone"), r.err());
            assertEquals("", r.out());
        }
    }

    @Test
    void rolesAreGivenByPattern() throws IOException {
        assertTrue(run("inspect", folder, "--role", "*up_proj*=other").out().contains("weight  other "));
        assertEquals(Main.UNSUPPORTED, run("inspect", folder, "--role", "down*=linear").code());
        for (String wrong : List.of("x", "=linear", "x=", "x=matrix")) {
            Result r = run("inspect", folder, "--role", wrong);
            assertEquals(Main.USAGE, r.code());
            assertTrue(r.line().contains("GLOB=ROLE") || r.line().contains("no role '"), r.err());
        }
        assertEquals(Main.USAGE, run("inspect", folder, "--role", "x=linear", "--role", "x=conv").code());
        Result r = run("inspect", SmallModel.write(folder.resolve("small.onnx")), "--role", "*=linear");
        assertEquals(Main.UNSUPPORTED, r.code());
        assertTrue(r.line().contains("graph"), r.err());
    }

    /** Little taken is no error, but the first thing that is said. */
    @Test
    void whatStaysForTheMostPartIsSaidFirst() throws IOException {
        String note = "note: no weight is compressed; 16384 bytes stay for this reason: ";
        Path model = Files.createDirectory(folder.resolve("model"));
        for (String file : List.of(ONE, TWO, "model.safetensors.index.json", "config.json")) {
            Files.move(folder.resolve(file), model.resolve(file));
        }
        Path report = folder.resolve("report.json");
        for (String[] c : new String[][] {{"excluded", "--exclude", "*up_proj*"},
            {"no loader puts factors together; option force-scheme", "--recipe", "lowrank"}}) {
            Result r = run("plan", model, c[1], c[2]);
            assertEquals(0, r.code(), r.err());
            assertTrue(r.out().startsWith(note + c[0]), r.out());
            assertTrue(run("plan", model, c[1], c[2], "--json").out().contains(note.substring(6) + c[0]));
            r = run("compress", model, "-o", folder.resolve("out"), c[1], c[2], "--report", report, "--force");
            assertEquals(0, r.code(), r.err());
            assertTrue(r.out().startsWith(note + c[0]), r.out());
            assertTrue(Files.readString(report).contains("\"taken\" : 0.0"), Files.readString(report));
        }
        assertTrue(run("plan", model).out().startsWith("recipe w8a16"));
        Result r = run("plan", model, "--recipe", "lowrank", "--set", "rank=2", "--force-scheme", "--set", "min-size=0");
        assertTrue(r.out().contains("note: no loader puts the factors of 1 weights together; expand does\n"), r.out() + r.err());
    }

    @Test
    void allShardsHaveToBeThere() throws IOException {
        for (Path model : List.of(folder, folder.resolve(ONE))) {
            Result r = run("plan", model);
            assertEquals(0, r.code(), r.err());
            assertTrue(r.out().contains("compressed-tensors"), r.out());
        }
        Files.delete(folder.resolve(TWO));
        Result r = run("inspect", folder);
        assertEquals(Main.MALFORMED, r.code());
        assertTrue(r.line().contains(TWO + "', which does not exist"), r.err());
    }

    @Test
    void namesMoveNoCursor() throws IOException {
        Result r = run("inspect", write("x.safetensors", "a\\u001b[2J\\n.weight", 64, 64));
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().contains("a\ufffd[2J\ufffd.weight"), r.out());
    }
}
