package dev.tensorpress.cli;

import static dev.tensorpress.cli.MainTest.run;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.cli.MainTest.Result;
import dev.tensorpress.kernel.Machine;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Models in safetensors are written as folders, and expanded again. */
class FolderTest {
    private static final String CONFIG = "{\n  \"model_type\": \"llama\",\n  \"tie_word_embeddings\": true\n}\n";

    @TempDir
    Path folder;

    private Path model;
    private Path out;
    private Path back;

    /** Two files of f32. */
    @BeforeEach
    void writeModel() throws IOException {
        model = Files.createDirectory(folder.resolve("model"));
        out = folder.resolve("out");
        back = folder.resolve("back");
        shard("model-00001-of-00002.safetensors", "model.embed_tokens.weight", 100, 64);
        shard("model-00002-of-00002.safetensors", "model.layers.0.mlp.up_proj.weight", 128, 64);
        Files.writeString(model.resolve("model.safetensors.index.json"), "{\"weight_map\":{\"model.embed_tokens.weight\":"
                + "\"model-00001-of-00002.safetensors\","
                + "\"model.layers.0.mlp.up_proj.weight\":\"model-00002-of-00002.safetensors\"}}");
        Files.writeString(model.resolve("config.json"), CONFIG);
        Files.writeString(model.resolve("tokenizer.json"), "{}");
    }

    private void shard(String file, String name, int rows, int cols) throws IOException {
        int size = 4 * rows * cols;
        byte[] header = ("{\"" + name + "\":{\"dtype\":\"F32\",\"shape\":[" + rows + "," + cols + "],\"data_offsets\":[0," + size
                + "]}}").getBytes(StandardCharsets.UTF_8);
        ByteBuffer b = ByteBuffer.allocate(8 + header.length + size).order(ByteOrder.LITTLE_ENDIAN).putLong(header.length)
                .put(header);
        Random random = new Random(rows);
        while (b.hasRemaining()) {
            b.putFloat((float) random.nextGaussian());
        }
        Files.write(model.resolve(file), b.array());
    }

    private static List<String> names(Path of) throws IOException {
        try (Stream<Path> files = Files.list(of)) {
            return files.map(file -> file.getFileName().toString()).sorted().toList();
        }
    }

    @Test
    void thereAndBack() throws IOException {
        Path report = folder.resolve("report.json");
        Result r = run("compress", model, "-o", out, "--report", report, "--memory", "200MB", "--threads", 2);
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().contains("1 of 2 weights compressed: 1 as int8 per channel"), r.out());
        assertEquals(List.of("config.json", "model.safetensors", "tensorpress-manifest.json", "tokenizer.json"), names(out));
        assertTrue(Files.readString(report).contains("\"bytesAfter\" : " + Files.size(out.resolve("model.safetensors"))), r.out());
        assertTrue(run("inspect", out).out().contains("compressed already: compressed-tensors"));

        r = run("expand", out, "-o", back, "--memory", "200MB", "--threads", 1);
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().startsWith(back + ": ") && r.out().contains(" -> 58,368 bytes, 1 weight restored, in "), r.out());
        assertEquals(names(out), names(back));
        assertEquals(CONFIG, Files.readString(back.resolve("config.json")));
        assertEquals(0, run("inspect", back).code());
        r = run("expand", back, "-o", folder.resolve("more"));
        assertEquals(Main.UNSUPPORTED, r.code());
        assertTrue(r.line().contains("holds no compressed weight"), r.err());
        r = run("compress", out, "-o", folder.resolve("more"));
        assertEquals(Main.UNSUPPORTED, r.code());
        assertTrue(r.line().contains("tensorpress expand"), r.err());
    }

    /** The card says what was done if it is asked to; what it says of itself to programs stays. */
    @Test
    void theModelsCardGetsAParagraph() throws IOException {
        String said = "---\nlicense: mit\nlanguage: \u00fc\n---\n# Model";
        Path card = model.resolve("README.md");
        String more = "Compressed by Tensorpress " + Machine.version() + " to the format compressed-tensors: 1 of 2 tensors, 1 as"
                + " int8 per channel. The recipe is in `tensorpress-manifest.json`.\n";
        for (String before : List.of("", said, said + "\n")) {
            if (before.isEmpty()) {
                Files.deleteIfExists(card);
            } else {
                Files.writeString(card, before);
            }
            assertEquals(0, run("compress", model, "-o", out, "--force", "--set", "card=true").code());
            assertEquals((before.isEmpty() ? "" : said + "\n\n") + more, Files.readString(out.resolve("README.md")));
            assertTrue(Files.readString(out.resolve("tensorpress-manifest.json")).contains("\"README.md\""));
            assertEquals(0, run("compress", model, "-o", out, "--force", "--set", "card=false").code());
            assertEquals(before.isEmpty() ? List.of() : List.of("README.md"),
                    names(out).stream().filter(n -> n.equals("README.md")).toList());
            assertTrue(before.isEmpty() || Files.readString(out.resolve("README.md")).equals(before));
        }
        Result r = run("compress", model, "-o", out, "--force", "--set", "card=yes");
        assertEquals(Main.USAGE, r.code());
        assertTrue(r.line().contains("card must be true or false"), r.err());
        assertTrue(run("plan", model, "--set", "cart=true").line().contains("did you mean card?"));
    }

    @Test
    void theRecipeSuitsTheFormat() {
        assertTrue(run("plan", model).out().startsWith("recipe w8a16 for compressed-tensors"));
        assertTrue(run("plan", model, "--set", "symmetric=false").out().contains("int8 per channel asymmetric"));
        assertTrue(run("plan", model, "--recipe", "w4a16", "--set", "block=32").out().contains("int4 block 32"));
    }

    @Test
    void filesArePlannedAsTheyAreWritten() throws IOException {
        Result plan = run("plan", model, "--shard-size", "20kB");
        assertEquals(0, plan.code(), plan.err());
        String json = run("plan", model, "--shard-size", "20kB", "--json").out();
        assertEquals(0, run("compress", model, "-o", out, "--shard-size", "20kB").code());
        assertEquals(List.of("config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                "model.safetensors.index.json", "tensorpress-manifest.json", "tokenizer.json"), names(out));
        long sum = 0;
        for (String name : names(out)) {
            if (name.startsWith("model")) {
                long size = Files.size(out.resolve(name));
                sum += size;
                assertTrue(plan.out().lines().anyMatch(line -> line.matches(name + " +" + Text.count(size))), plan.out());
                assertTrue(json.contains("\"" + name + "\" : " + size), json);
            }
        }
        assertTrue(plan.out().contains("files ") && plan.out().contains(" -> " + Text.count(sum) + " bytes"), plan.out());
        assertFalse(run("plan", model).out().contains("model-0"));
    }

    @Test
    void outputsAreLookedAtBeforeTheWork() throws IOException {
        for (String command : List.of("compress", "expand")) {
            Path in = command.equals("compress") ? model : out;
            Path to = command.equals("compress") ? out : back;
            assertEquals(0, run(command, in, "-o", to).code());
            Result r = run(command, in, "-o", to);
            assertEquals(Main.IO, r.code());
            assertTrue(r.line().contains("--force"), r.err());
            assertEquals(0, run(command, in, "-o", to, "--force").code());
            for (Path wrong : List.of(in, folder, in.resolve("config.json"), Path.of("/"))) {
                r = run(command, in, "-o", wrong, "--force");
                assertEquals(Main.USAGE, r.code(), r.err());
                assertTrue(r.line().contains(" is where the model is") || r.line().contains("is no folder"), r.err());
            }
            assertEquals(Main.IO, run(command, in, "-o", folder.resolve("none/out")).code());
            // What this tool did not write it does not replace.
            Path other = Files.createDirectory(folder.resolve(command + "d"));
            Files.writeString(other.resolve("diary.txt"), "precious");
            r = run(command, in, "-o", other, "--force");
            assertEquals(Main.UNSUPPORTED, r.code());
            assertEquals("precious", Files.readString(other.resolve("diary.txt")));
            assertEquals(2, run(command, in).code());
        }
        Path link = Files.createSymbolicLink(folder.resolve("link"), model);
        assertEquals(Main.USAGE, run("compress", model, "-o", link, "--force").code());
    }

    /** The library says what would help; what the option for it is called, the command line adds. */
    @Test
    void errorsNameTheOptionThatHelps() throws IOException {
        Path elsewhere = folder.resolve("elsewhere.safetensors");
        Path shard = model.resolve("model-00002-of-00002.safetensors");
        Files.move(shard, elsewhere);
        Files.createSymbolicLink(shard, elsewhere);
        Result r = run("inspect", model);
        assertEquals(Main.UNSUPPORTED, r.code());
        assertTrue(r.line().endsWith("if you trust the model, allow links (--allow-links)"), r.err());
        assertEquals(0, run("inspect", model, "--allow-links").code());
    }

    @Test
    void planHoldsToTheMemoryThatCompressWouldHave() throws IOException {
        Path large = Files.write(folder.resolve("large.safetensors"), new byte[0]);
        int size = 4 * 4096 * 4160;
        byte[] header = ("{\"layers.0.mlp.up_proj.weight\":{\"dtype\":\"F32\",\"shape\":[4096,4160],\"data_offsets\":[0," + size
                + "]}}").getBytes(StandardCharsets.UTF_8);
        try (RandomAccessFile file = new RandomAccessFile(large.toFile(), "rw")) {
            file.write(ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(header.length).array());
            file.write(header);
            file.setLength(8L + header.length + size); // zeros that take no room
        }
        Object[] plan = {"plan", large, "--recipe", "prune50", "--set", "scope=tensor", "--force-scheme", "--memory", "128MiB"};
        Result r = run(plan);
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().contains("0 of 1 weight;") && r.out().contains("the memory allowed"), r.out());
        plan[plan.length - 1] = "512MiB";
        r = run(plan);
        assertTrue(r.out().contains("1 of 1 weight;") && !r.out().contains("the memory allowed"), r.out());
    }

    @Test
    void whatIsLeftIsGoneOnWith() throws IOException {
        assertEquals(0, run("compress", model, "-o", out, "--shard-size", "20kB").code());
        Path whole = folder.resolve("whole");
        Files.move(out, whole);
        Path bad = model.resolve("model-00002-of-00002.safetensors");
        byte[] before = Files.readAllBytes(bad);
        byte[] b = before.clone();
        ByteBuffer.wrap(b).order(ByteOrder.LITTLE_ENDIAN).putFloat(b.length - 4, Float.NaN);
        Files.write(bad, b);
        java.nio.file.attribute.FileTime time = Files.getLastModifiedTime(bad);
        Result r = run("compress", model, "-o", out, "--shard-size", "20kB");
        assertEquals(Main.UNSUPPORTED, r.code());
        assertTrue(r.line().matches(".* NaN at element 8191; .* \\(--exclude .*\\); what is finished stays in .*out.partial, from where --resume"
                + " goes on"), r.err());
        Files.write(bad, before);
        Files.setLastModifiedTime(bad, time);
        r = run("compress", model, "-o", out, "--shard-size", "20kB");
        assertEquals(Main.IO, r.code());
        assertTrue(r.line().matches(".*out.partial: holds 1 of . files of an interrupted run, .* \\(--force\\); .* --resume goes on"), r.err());
        r = run("compress", model, "-o", out, "--shard-size", "20kB", "--resume");
        assertEquals(0, r.code(), r.err());
        for (String name : names(whole)) {
            assertArrayEquals(Files.readAllBytes(whole.resolve(name)), Files.readAllBytes(out.resolve(name)), name);
        }
        assertEquals(names(whole), names(out));
    }

    @Test
    void stepsAreFoldersBesideEachOther() throws IOException {
        Result r = run("compress", model, "-o", out, "--recipe", "prune50", "--set", "schedule=0.25,0.5", "--all-steps");
        assertEquals(0, r.code(), r.err());
        assertEquals(List.of("model", "out", "out.step1"), names(folder));
    }

    @Test
    void foldersOnlyHaveTheirOptions() throws IOException {
        assertEquals(Main.IO, run("expand", folder.resolve("none"), "-o", back).code());
        assertEquals(Main.MALFORMED, run("expand", Files.createDirectory(folder.resolve("empty")), "-o", back).code());
    }

    @Test
    void aReportIsNotInTheFolderThatIsWritten() throws IOException {
        Path to = Files.createDirectory(folder.resolve("to"));
        for (Path report : List.of(to.resolve("config.json"), Files.createSymbolicLink(folder.resolve("x"), to.resolve("model.safetensors")),
                Files.createSymbolicLink(folder.resolve("y"), folder.resolve("to.partial")))) {
            Result r = run("compress", model, "-o", to, "--report", report, "--force");
            assertEquals(Main.USAGE, r.code(), r.err());
            assertTrue(r.line().contains("would be in the folder"), r.err());
        }
        try (Stream<Path> there = Files.list(to)) {
            assertEquals(0, there.count());
        }
    }
}
