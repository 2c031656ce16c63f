package dev.tensorpress.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import dev.tensorpress.Compressor;
import dev.tensorpress.Formats;
import dev.tensorpress.Recipe;
import dev.tensorpress.method.Methods;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.archive.Archive;
import dev.tensorpress.model.archive.Unpacker;
import dev.tensorpress.statistics.Statistics;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

class MainTest {
    @TempDir
    Path folder;

    private Path model;
    private Path out;

    /** What one command said and returned. */
    record Result(int code, String out, String err) {
        /** The one line of an error. */
        String line() {
            assertEquals("", out);
            assertTrue(err.startsWith("tensorpress: "), err);
            assertEquals(err.length() - 1, err.indexOf('\n'), err);
            return err.strip();
        }
    }

    static Result run(Object... args) {
        List<String> words = new ArrayList<>();
        for (Object arg : args) {
            words.add(arg.toString());
        }
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        int code = Main.run(words.toArray(String[]::new), new PrintStream(out, false, StandardCharsets.UTF_8),
                new PrintStream(err, true, StandardCharsets.UTF_8));
        return new Result(code, out.toString(StandardCharsets.UTF_8), err.toString(StandardCharsets.UTF_8));
    }

    @BeforeEach
    void writeModel() throws IOException {
        model = SmallModel.write(folder.resolve("small.onnx"));
        out = folder.resolve("out.onnx");
    }

    /** Which is looked at before minutes of work. */
    @Test
    void demosWriteToAFolder() throws IOException {
        Path page = Files.createDirectories(folder.resolve("demo/digits.html"));
        Path link = Files.createSymbolicLink(folder.resolve("link"), folder.resolve("nothing"));
        Result r = run("demo", "digits", "-o", page.getParent());
        assertEquals(Main.USAGE, r.code());
        assertTrue(r.err().contains("digits.html, and that is a folder"), r.err());
        r = run("demo", "digits", "-o", link);
        assertEquals(Main.USAGE, r.code());
        assertTrue(r.err().contains("link is none"), r.err());
    }

    /** Nor does one stand for a model, which is read more than once: it is neither missing nor waited for. */
    @Test
    void pipesAreNoModels() throws Exception {
        Path pipe = folder.resolve("pipe");
        assertEquals(0, new ProcessBuilder("mkfifo", pipe.toString()).start().waitFor());
        Process other = new ProcessBuilder("sleep", "60").redirectInput(ProcessBuilder.Redirect.PIPE).start();
        try {
            Path between = Path.of("/proc/" + other.pid() + "/fd/0"); // as <(...) in a shell: a link to what has no name
            for (Path from : List.of(pipe, between)) {
                for (List<Object> command : List.<List<Object>>of(List.of("inspect", from), List.of("plan", from), List.of("compress", from, "-o", out),
                        List.of("pack", from, "-o", out), List.of("pack", model, "--base", from, "-o", out), List.of("verify", from),
                        List.of("expand", from, "-o", out), List.of("evaluate", from, model, "--random", "1"))) {
                    Result r = run(command.toArray());
                    assertEquals(Main.MALFORMED, r.code, command + ": " + r.err);
                    assertTrue(r.line().contains(from.getFileName() + ": expected ") && r.line().contains("but a pipe or a device"), command + ": " + r.err);
                }
            }
        } finally {
            other.destroy();
        }
        assertEquals(List.of("pipe", "small.onnx"), files());
        for (String command : List.of("inspect", "verify")) {
            assertEquals("tensorpress: no such file: " + folder.resolve("none"), run(command, folder.resolve("none")).line());
        }
    }

    /** What is no file is not replaced by one. */
    @Test
    void pipesAndDevicesAreNoOutput() throws Exception {
        Path pipe = folder.resolve("pipe");
        assertEquals(0, new ProcessBuilder("mkfifo", pipe.toString()).start().waitFor());
        Path archive = folder.resolve("s.tpa");
        assertEquals(0, run("pack", model, "-o", archive).code);
        Path link = Files.createSymbolicLink(folder.resolve("link"), Path.of("/dev/null"));
        for (Path to : List.of(pipe, link)) {
            for (Result r : List.of(run("compress", model, "-o", to, "--force"), run("expand", archive, "-o", to, "--force"))) {
                assertEquals(Main.USAGE, r.code, r.err);
                assertTrue(r.line().contains(" is a pipe or a device"), r.err);
            }
            try (Compressor c = Compressor.open(model, Compressor.Options.DEFAULT.overwrite(true)); Archive a = Archive.open(archive)) {
                assertThrows(IllegalArgumentException.class, () -> c.compress(c.plan(Recipe.named("int8")), to));
                IOException e = assertThrows(IOException.class, () -> Unpacker.expand(a, to, new Unpacker.Settings(true, false, 1, 1 << 28, null)));
                assertTrue(e.getMessage().contains("a pipe or a device has that name"), e.getMessage());
            }
        }
        assertFalse(Files.isRegularFile(pipe));
        assertTrue(Files.isSymbolicLink(link));
        assertEquals(List.of("link", "pipe", "s.tpa", "small.onnx"), files());
    }

    private List<String> files() throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            return files.map(file -> file.getFileName().toString()).sorted().toList();
        }
    }

    @Test
    void compressWritesAModelAndAReport() throws IOException {
        Path report = folder.resolve("report.json");
        Result r = run("compress", model, "-o", out, "--report", report);
        assertEquals(0, r.code, r.err);
        assertEquals("", r.err);
        assertTrue(r.out.contains("1 of 2 weights compressed: 1 as int8 block 64"), r.out);
        assertTrue(r.out.contains("no step selects role bias: bias"), r.out);
        assertTrue(r.out.lines().anyMatch(line -> line.matches("plan \\S+ m?s, read .* at .*/s, kernel .* at .*/s, write .* at .*/s,"
                + " fsync .*")), r.out);
        assertTrue(Files.size(out) < Files.size(model) / 3);
        String json = parse(Files.readString(report));
        assertTrue(json.contains("\"bytesAfter\" : " + Files.size(out)), json);
        assertEquals(List.of("out.onnx", "report.json", "small.onnx"), files());
    }

    @Test
    void planSaysExactlyWhatCompressWrites() throws IOException {
        for (String recipe : List.of("int8", "int8-table4", "int8-dynamic", "int4")) {
            Result plan = run("plan", model, "--recipe", recipe, "--json");
            assertEquals(0, plan.code, plan.err);
            assertEquals(0, run("compress", model, "-o", out, "--recipe", recipe, "--force").code);
            assertTrue(parse(plan.out).contains("\"bytesAfter\" : " + Files.size(out)), plan.out);
        }
        assertTrue(run("plan", model, "--recipe", "int8-dynamic", "--set", "weights=s8").out
                .contains("on processors with VNNI alone"));
        for (String runtime : List.of(run("plan", model).out, run("compress", model, "-o", out, "--force").out,
                run("plan", model, "--json").out)) {
            assertTrue(runtime.contains("ONNX Runtime 1.23"), runtime);
        }
        assertFalse(run("plan", model, "--target", "onnx").out.contains("needs ONNX Runtime"));
        Result table = run("plan", model, "--set", "block=32");
        assertTrue(table.out.contains("int8 block 32"), table.out);
        assertTrue(table.out.contains("1 weight, 512 bytes: no step selects role bias: bias"), table.out);
        assertEquals(table.out, run("plan", model, "--set=linear.block=32").out);
    }

    /** What is spelt right, and yet changes nothing, is not called misspelt. */
    @Test
    void anOptionWithoutEffectIsSaid() {
        Result r = run("plan", model, "--recipe", "int8", "--set", "weights=s8");
        assertEquals(4, r.code);
        assertTrue(r.err.contains("'weights' has no effect on any step of recipe int8") && !r.err.contains("did you mean"), r.err);
    }

    @Test
    void zerosAreShownButNotCountedAsSaved() throws IOException {
        Result plan = run("plan", model, "--recipe", "prune50");
        assertTrue(plan.out.contains("ZEROS") && plan.out.contains("f32 sparse 50 % per channel"), plan.out);
        assertTrue(plan.out.lines().anyMatch(line -> line.matches("total +8,192 +65,536 +65,536")), plan.out);
        assertTrue(plan.out.lines().anyMatch(line -> line.matches("note: prune takes up to \\d+\\.\\d % of a weight's energy \\(weight\\), of a "
                + "single output's up to \\d+\\.\\d % \\(weight\\): many models are of no use after that until .*")), plan.out);
        assertFalse(run("plan", model).out.contains("ZEROS"));
        assertFalse(run("plan", model).out.contains("energy"));
        assertTrue(parse(run("plan", model, "--recipe", "prune50", "--json").out).contains("\"zeros\" : 8192"));
        assertTrue(run("plan", model, "--recipe", "prune50", "--json").out.contains("energyLostByOutput"));
        assertTrue(run("plan", model, "--recipe", "lowrank", "--set", "rank=16").out.contains("energy that is not known before"));
        Result r = run("compress", model, "-o", out, "--recipe", "prune50");
        assertEquals(0, r.code, r.err);
        assertTrue(r.out.contains("zeros 8,192 of 16,384 pruned elements, 50.0 %; asked for 8,192, 50.0 %"), r.out);
        assertTrue(r.out.contains("these weights: 65,536 bytes dense, 65,536 as written, 34,816 in the smallest"), r.out);
        assertTrue(r.out.contains("100.0 %"), r.out);
        assertEquals(Files.size(model), Files.size(out));
        assertFalse(run("compress", model, "-o", out, "--force").out.contains("zeros"));
    }

    @Test
    void ranksAreShownWithWhatTheyKeep() throws IOException {
        Result plan = run("plan", model, "--recipe", "lowrank", "--set", "rank=16");
        assertTrue(plan.out.lines().anyMatch(line -> line.matches("weight .* rank 16 f32 +65,536 +16,384 *")), plan.out);
        assertTrue(parse(run("plan", model, "--recipe", "lowrank", "--set", "rank=16", "--json").out).contains("\"rank\" : 16"));
        Result r = run("compress", model, "-o", out, "--recipe", "lowrank", "--set", "rank=16");
        assertEquals(0, r.code, r.err);
        assertTrue(r.out.contains("1 as factors, f32"), r.out);
        assertTrue(r.out.lines().anyMatch(line -> line.matches("factors of rank 16: 16,384 bytes, \\d\\d\\.\\d % of the energy kept")),
                r.out);
        r = run("compress", model, "-o", out, "--recipe", "lowrank", "--force");
        assertTrue(r.out.lines().anyMatch(line -> line.matches(".*: factors of rank \\d+ of 128 would take \\d+ bytes instead "
                + "of 65536, and less would not keep to 99 % of the energy: weight")), r.out);
        r = run("compress", model, "-o", out, "--recipe", "int4-corrected", "--set", "head.bits=4", "--force");
        assertTrue(r.out.lines().anyMatch(line -> line.matches("corrections of rank 32: [\\d,]+ bytes, \\d\\d\\.\\d % of the squared "
                + "error of quantization taken off")), r.out);
    }

    @Test
    void allStepsOfAScheduleAreWritten() throws IOException {
        Path report = folder.resolve("report.json");
        Object[] command = {"compress", model, "-o", out, "--recipe", "prune50", "--set", "schedule=0.25,0.5,0.95",
            "--all-steps", "--report", report};
        Result r = run(command);
        assertEquals(0, r.code, r.err);
        assertEquals(List.of("out.onnx", "out.step1.onnx", "out.step2.onnx", "report.json", "small.onnx"), files());
        assertTrue(parse(Files.readString(report)).contains("\"output\" : \"" + out + "\""));
        assertTrue(r.out.indexOf("zeros 4,096 of") < r.out.indexOf("zeros 8,192 of"), r.out);
        Path second = folder.resolve("again.onnx");
        assertEquals(0, run("compress", model, "-o", second, "--recipe", "prune50", "--set", "schedule=0.25,0.5,0.95",
                "--set", "step=2").code);
        assertEquals(-1, Files.mismatch(second, folder.resolve("out.step2.onnx")));
        // None of the files is replaced unasked, and none is written before all are checked.
        Files.delete(out);
        Files.delete(folder.resolve("out.step1.onnx"));
        Files.delete(report);
        r = run(command);
        assertEquals(Main.IO, r.code);
        assertTrue(r.line().contains("out.step2.onnx"), r.err);
        assertFalse(Files.exists(out) || Files.exists(folder.resolve("out.step1.onnx")));
        assertEquals(0, run("compress", model, "-o", folder.resolve("plain"), "--all-steps").code);
        assertEquals(Path.of("x/a.step3.onnx"), CompressCommand.stepFile(Path.of("x/a.onnx"), 3));
        assertEquals(Path.of("model.step1"), CompressCommand.stepFile(Path.of("model"), 1));
    }

    @Test
    void excludedAndSmallWeightsStay() {
        for (String wrong : List.of("wieght", "*/no/*")) {
            Result r = run("plan", model, "--exclude", "weight", "--exclude", wrong);
            assertEquals(Main.USAGE, r.code);
            assertTrue(r.err.contains("--exclude '" + wrong + "' fits no weight"), r.err);
        }
        for (String glob : List.of("weight", "w*", "/dense")) {
            Result r = run("plan", model, "--exclude", glob);
            assertTrue(r.out.contains("1 weight, 64.0 KiB: excluded: weight"), r.out);
        }
        Result r = run("plan", model, "--set", "min-size=16385");
        assertTrue(r.out.contains("fewer than 16385 elements: weight"), r.out);
    }

    @Test
    void inspectShowsWhatThereIs() throws IOException {
        Result r = run("inspect", model);
        assertEquals(0, r.code, r.err);
        assertTrue(r.out.contains("MatMul /dense"), r.out);
        assertTrue(r.out.contains("and 1 weight with fewer than 4,096 elements, 512 bytes"), r.out);
        assertTrue(run("inspect", model, "--all").out.contains("Add /shift"));
        String json = parse(run("inspect", "--json", model).out);
        assertTrue(json.contains("\"name\" : \"bias\""), json);
    }

    @Test
    void inspectShowsTheGraph() throws IOException {
        Result r = run("inspect", model, "--graph");
        assertEquals(0, r.code, r.err);
        assertTrue(r.out.lines().anyMatch(line -> line.matches("x +weight  MatMul /dense")), r.out);
        assertTrue(r.out.contains("1 product with weights, of 1 input\n"), r.out);
        assertTrue(r.out.contains("OPERATOR  COUNT\nAdd           1\nMatMul        1\ntotal         2\n"), r.out);
        assertTrue(r.out.lines().anyMatch(line -> line.matches("neurons +[0-9]+ +/dense .*stays: an axis of input x")), r.out);
        String json = parse(run("inspect", "--json", "--graph", model).out);
        assertTrue(json.contains("\"obstacle\" : \"an axis of input x\""), json);
        assertTrue(json.contains("\"constant\" : \"bias\",\n      \"axis\" : 0,\n      \"part\" : \"along\",\n      \"perIndex\" : 1"), json);
        assertTrue(json.contains("\"operators\" : {\n      \"Add\" : 1,\n      \"MatMul\" : 1\n    }"), json);
        assertTrue(json.contains("\"value\" : \"x\",\n      \"axis\" : -1,\n      \"normalization\" : null,\n      \"otherReaders\" : false"), json);
        assertTrue(json.contains("\"name\" : \"bias\""), json);
        assertFalse(run("inspect", "--json", model).out.contains("otherReaders"));
    }

    @Test
    void evaluateComparesAndWritesAReport() throws IOException {
        Path report = folder.resolve("evaluation.json");
        run("compress", model, "-o", out);
        Result r = run("evaluate", model, out, "--random", 3, "--report", report);
        assertEquals(0, r.code, r.err);
        assertEquals("", r.err);
        assertTrue(r.out.contains("over 3 random inputs"), r.out);
        assertTrue(r.out.contains("SAME ARGMAX\n"), r.out);
        assertTrue(r.out.contains("Random inputs do not measure quality"), r.out);
        assertTrue(r.out.contains("chosen"), r.out);
        assertFalse(run("evaluate", model, out, "--random", 1, "--shape", "x=3x128").out.contains("chosen"));
        String json = parse(Files.readString(report));
        assertTrue(json.contains("\"cosineMin\" : 0.99"), json);
        assertTrue(json.contains("\"measuresQuality\" : false"), json);
    }

    /** A file .npy of an input. */
    static byte[] zeros() {
        String header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 128)}";
        byte[] array = new byte[10 + header.length() + 4 * SmallModel.N];
        System.arraycopy(("\u0093NUMPY\1\0" + (char) header.length() + "\0" + header).getBytes(StandardCharsets.ISO_8859_1), 0,
                array, 0, 10 + header.length());
        return array;
    }

    @Test
    void evaluateTakesInputsFromFiles() throws IOException {
        Path inputs = Files.createDirectory(folder.resolve("inputs"));
        byte[] array = zeros();
        Files.write(inputs.resolve("a.npy"), array);
        Files.write(inputs.resolve("b.npy"), array);
        Result r = run("evaluate", model, model, "--inputs", inputs, "--inputs", inputs.resolve("a.npy"));
        assertEquals(0, r.code, r.err);
        assertTrue(r.out.contains("over 3 inputs;"), r.out);
        assertFalse(r.out.contains("do not measure"), r.out);
        // The answer to zeros is the bias.
        Random bias = new Random(2);
        double[] answer = Stream.generate(bias::nextGaussian).limit(SmallModel.N).mapToDouble(x -> x).toArray();
        int largest = 0;
        for (int i = 0; i < SmallModel.N; i++) {
            largest = answer[i] > answer[largest] ? i : largest;
        }
        Path labels = Files.writeString(folder.resolve("labels"), "\uFEFF" + largest + "\n\n " + (largest + 1) % SmallModel.N + "\n");
        Path report = folder.resolve("report.json");
        r = run("evaluate", model, model, "--inputs", inputs, "--labels", labels, "--report", report);
        assertEquals(0, r.code, r.err);
        assertTrue(r.out.lines().anyMatch(line -> line.matches("accuracy +0\\.5000 +0\\.5000 +2")), r.out);
        // Of two classes one has F1 2/3, the other one 0.
        assertTrue(r.out.lines().anyMatch(line -> line.matches("macroF1 +0\\.3333 +0\\.3333 +2")), r.out);
        assertTrue(Files.readString(report).contains("\"name\" : \"accuracy\""));
        r = run("evaluate", model, model, "--inputs", inputs.resolve("a.npy"), "--labels", labels);
        assertEquals(Main.USAGE, r.code, r.err);
        assertTrue(r.line().contains("2 labels for 1 answers"), r.err);
        r = run("evaluate", model, model, "--inputs", inputs, "--labels", labels, "--report", labels, "--force");
        assertEquals(Main.USAGE, r.code, r.err);
        Files.write(inputs.resolve("b.npy"), java.util.Arrays.copyOf(array, array.length - 1));
        r = run("evaluate", model, model, "--inputs", inputs);
        assertEquals(Main.MALFORMED, r.code, r.err);
        assertTrue(r.line().contains("b.npy at byte"), r.err);
        r = run("evaluate", model, model, "--inputs", folder.resolve("none.npz"));
        assertEquals(Main.IO, r.code, r.err);
        assertTrue(r.line().contains("none.npz"), r.err);
    }

    @Test
    void searchFindsWhatFits() throws IOException {
        Path model = SmallModel.write(folder.resolve("searched.onnx"));
        Path out = folder.resolve("found.onnx");
        Path state = folder.resolve("found.onnx.search");
        Result r = run("search", model, "-o", out, "--bytes", "30%", "--random", 12, "--shape", "x=50x128");
        assertEquals(0, r.code, r.err);
        assertTrue(Files.size(out) <= 0.3 * Files.size(model), Files.size(out) + " of " + Files.size(model));
        assertTrue(r.out.contains("chosen"), r.out);
        assertEquals(true, JsonTree.parse(Files.readString(state.resolve("frontier.json"))).get("met"));
        // The recipe makes the same file.
        Path again = folder.resolve("again.onnx");
        r = run("compress", model, "-o", again, "--recipe", state.resolve("recipe.yaml"), "--statistics", state.resolve("statistics.safetensors"));
        assertEquals(0, r.code, r.err);
        assertEquals(-1, Files.mismatch(out, again));
        // What was measured is not measured again, and half a line is none.
        Path measured = state.resolve("measured.txt");
        String before = Files.readString(measured);
        Files.writeString(measured, "half a li", StandardOpenOption.APPEND);
        r = run("search", model, "-o", out, "--at-least", "cosine=0.9999", "--random", 12, "--shape", "x=50x128", "--force",
                "--report", folder.resolve("found.html"));
        assertEquals(0, r.code, r.err);
        assertTrue(Files.readString(measured).startsWith(before));
        assertTrue(Files.size(out) > 0.25 * Files.size(model), Files.size(out) + " of " + Files.size(model));
        assertTrue(Files.readString(folder.resolve("found.html")).contains("\"frontier\""));
        // More is asked for than there is.
        r = run("search", model, "-o", out, "--bytes", "2%", "--random", 12, "--shape", "x=50x128", "--force");
        assertEquals(4, r.code, r.err);
        assertTrue(r.err.contains("the least there is"), r.err);
        assertEquals(2, run("search", model, "-o", out, "--bytes", "30%", "--random", 7, "--force").code);
        assertEquals(2, run("search", model, "-o", out, "--bytes", "30%", "--at-least", "cosine=1", "--random", 12, "--force").code);
        assertEquals(2, run("search", model, "-o", out, "--at-least", "cosine=2", "--random", 12, "--force").code);
        assertEquals(2, run("search", model, "-o", out, "--bytes", "30%", "--time", "soon", "--random", 12, "--force").code);
        assertFalse(Files.exists(state.resolve("trial")));
        // What stands there is not believed, nor an error, unless a search has written it.
        String good = Files.readString(measured);
        Files.write(measured, (good + "\u00ff\u00fe\n" + good.lines().skip(1).findFirst().orElseThrow().split(" ")[0] + " 3 1.5.5;\n"
                + "0".repeat(64) + " 3 7e5;\n").getBytes(StandardCharsets.ISO_8859_1));
        try (FileChannel cut = FileChannel.open(state.resolve("statistics.safetensors"), StandardOpenOption.WRITE)) {
            cut.truncate(100);
        }
        r = run("search", model, "-o", out, "--bytes", "30%", "--random", 12, "--shape", "x=50x128", "--force");
        assertEquals(0, r.code, r.err);
        assertTrue(r.err.contains("damaged"), r.err);
        // The original has no recipe.
        r = run("search", model, "-o", out, "--at-least", "cosine=1", "--random", 12, "--shape", "x=50x128", "--force");
        assertEquals(0, r.code, r.err);
        assertFalse(Files.exists(state.resolve("recipe.yaml")));
        // Nothing that is read is in the way of what is written, and nothing leads out.
        Path inside = Files.copy(model, state.resolve("trial"));
        assertEquals(2, run("search", inside, "-o", out, "--bytes", "30%", "--random", 12, "--force").code);
        assertTrue(Files.exists(inside));
        Path precious = Files.writeString(folder.resolve("precious"), "mine");
        Files.createSymbolicLink(state.resolve("recipe.yaml"), precious);
        assertEquals(2, run("search", model, "-o", out, "--bytes", "30%", "--random", 12, "--force", "--report", state.resolve("recipe.yaml")).code);
        r = run("search", model, "-o", out, "--bytes", "30%", "--random", 12, "--shape", "x=50x128", "--force");
        assertEquals(0, r.code, r.err);
        assertEquals("mine", Files.readString(precious));
        // The user's own files stay.
        Path own = Files.createDirectory(folder.resolve("own.onnx.search"));
        Files.writeString(own.resolve("recipe.yaml"), "mine");
        assertEquals(2, run("search", model, "-o", folder.resolve("own.onnx"), "--bytes", "30%", "--random", 12, "--shape", "x=50x128").code);
        assertEquals("mine", Files.readString(own.resolve("recipe.yaml")));
        // What it writes may lie beside inputs, which are no more by that.
        Path inputs = Files.createDirectory(folder.resolve("searched"));
        for (int i = 0; i < 8; i++) {
            byte[] array = zeros();
            for (int x = array.length - 1; x > array.length - 4 * SmallModel.N; x -= 4) {
                array[x] = (byte) (x * (i + 1) % 7 < 3 ? 0x3f : 0xbf); // 0.5 or -0.5
            }
            Files.write(inputs.resolve(i + ".npy"), array);
        }
        for (String more : List.of("30%", "60%")) {
            r = run("search", model, "-o", inputs.resolve("out.onnx"), "--bytes", more, "--inputs", inputs, "--force");
            assertEquals(0, r.code, r.err);
        }
        assertEquals(2, run("search", model, "-o", inputs.resolve("0.npy"), "--bytes", "30%", "--inputs", inputs, "--force").code);
        // Too little time for all, and yet a model.
        r = run("search", model, "-o", out, "--bytes", "30%", "--time", "1s", "--random", 9, "--shape", "x=50x128", "--force");
        assertEquals(0, r.code, r.err);
    }

    /** What was measured stays, so that nothing is lost. */
    @Test
    void whatWasMadeWhileASearchRanIsNotReplaced() throws Exception {
        Path trial = folder.resolve("out.onnx.search").resolve("trial");
        Object[] search = {"search", model, "-o", out, "--bytes", "30%", "--random", 12, "--shape", "x=50x128"};
        Thread.ofPlatform().daemon().start(() -> {
            try {
                while (!Files.exists(trial)) {
                    Thread.sleep(1);
                }
                Files.writeString(out, "mine");
            } catch (IOException | InterruptedException e) {
                throw new IllegalStateException(e);
            }
        });
        Result r = run(search);
        assertEquals(Main.IO, r.code, r.out + r.err);
        assertTrue(r.line().contains(out + ": exists; it is replaced only when asked to"), r.err);
        assertEquals("mine", Files.readString(out));
        assertTrue(Files.exists(trial.resolveSibling("recipe.yaml")));
    }

    @Test
    void searchFindsWhatIsFast() throws IOException {
        Path model = SmallModel.write(folder.resolve("slow.onnx"), 512);
        Path out = folder.resolve("fast.onnx");
        Path state = folder.resolve("fast.onnx.search");
        Result r = run("search", model, "-o", out, "--fastest", "--at-least", "cosine=0.9", "--random", 12, "--shape", "x=20x512");
        assertEquals(0, r.code, r.err);
        assertTrue(r.out.contains("MILLISECONDS") && r.out.contains("times as fast"), r.out);
        List<String[]> points = Files.readAllLines(state.resolve("frontier.csv")).stream().skip(1).map(line -> line.split(",", -1)).toList();
        double chosen = points.stream().filter(p -> p[4].equals("true")).mapToDouble(p -> Double.parseDouble(p[5])).sum();
        double original = points.stream().filter(p -> p[1].equals("1.0")).mapToDouble(p -> Double.parseDouble(p[5])).sum();
        assertTrue(chosen > 0 && chosen <= 1.01 * original, chosen + " of " + original);
        // What was timed is not timed again, and the page shows it.
        String times = Files.readString(state.resolve("times.txt"));
        Path page = folder.resolve("fast.html");
        r = run("search", model, "-o", out, "--fastest", "--at-least", "cosine=0.9", "--random", 12, "--shape", "x=20x512", "--force", "--report", page);
        assertEquals(0, r.code, r.err);
        assertEquals(times, Files.readString(state.resolve("times.txt")));
        assertTrue(Files.readString(page).contains("\"milliseconds\""));
        r = run("search", model, "-o", out, "--fastest", "--bytes", "30%", "--random", 12, "--force");
        assertEquals(Main.USAGE, r.code, r.err);
        assertTrue(r.line().contains("--fastest takes a quality"), r.err);
        r = run("search", model, "-o", out, "--fastest", "--random", 12, "--force");
        assertEquals(Main.USAGE, r.code, r.err);
    }

    @Test
    void calibrateKeepsWhatValuesAreLike() throws IOException {
        Path one = folder.resolve("one.safetensors");
        Path both = folder.resolve("both.safetensors");
        Result r = run("calibrate", model, "-o", one, "--random", 3, "--shape", "x=50x128", "--samples", 2);
        assertEquals(0, r.code, r.err);
        assertEquals("", r.err);
        assertTrue(r.out.lines().anyMatch(line -> line.matches("x +128 +100 +-[0-9.]+ +[0-9.]+  fewer rows than channels")), r.out);
        assertTrue(r.out.contains("one.safetensors: 1 value, over 2 samples, random inputs"), r.out);
        assertTrue(r.out.contains("random inputs are unlike real ones"), r.out);
        assertFalse(r.out.contains("nothing is known"), r.out);
        r = run("calibrate", "--merge", one, "--merge", one, "-o", both);
        assertEquals(0, r.code, r.err);
        assertTrue(r.out.contains("both.safetensors: 1 value, over 4 samples, random inputs"), r.out);
        try (Statistics sum = Statistics.load(both)) {
            assertEquals(200, sum.of("", "x").orElseThrow().rows());
        }
        r = run("calibrate", model, "-o", both, "--random", 1);
        assertEquals(Main.IO, r.code, r.err);
        r = run("calibrate", model, "-o", both, "--random", 1, "--all", "--no-gram", "--force");
        assertEquals(0, r.code, r.err);
        assertFalse(r.out.contains("fewer rows"), r.out);
        try (Statistics all = Statistics.load(both)) {
            assertEquals(3, all.values().size());
            assertTrue(all.values().stream().allMatch(v -> v.gram().isEmpty()));
        }
        Path recipe = Files.writeString(folder.resolve("g.yaml"), "name: g\nsteps:\n  - name: s\n    select: {role: [linear, head], min-size: 0}\n    gptq: {bits: 4}\n");
        r = run("calibrate", model, "-o", out, "--random", 3, "--sequential", recipe);
        assertEquals(0, r.code, r.err);
        assertTrue(r.out.contains("layer by layer with recipe g"), r.out);
        Files.delete(out);
        r = run("calibrate", model, "-o", out, "--random", 1, "--sequential", "nonsense");
        assertEquals(Main.USAGE, r.code, r.err);
        r = run("calibrate", "--merge", one, "--merge", both, "-o", out);
        assertEquals(Main.UNSUPPORTED, r.code, r.err);
        assertTrue(r.line().contains("those of x differ"), r.err);
        r = run("calibrate", "--merge", one, "--merge", model, "-o", out);
        assertEquals(Main.MALFORMED, r.code, r.err);
    }

    @Test
    void samplesAreNotWrittenOver() throws IOException {
        Path samples = Files.createDirectories(folder.resolve("samples/test_data_set_0"));
        Path preprocessor = Files.writeString(folder.resolve("preprocessor_config.json"), "{}");
        Path sample = Files.writeString(samples.resolve("input_0.pb"), "x");
        for (String given : List.of("--inputs", "--images")) {
            Result r = run("calibrate", model, "-o", sample, given, samples.getParent(), "--force");
            assertEquals(Main.USAGE, r.code, r.err);
            assertTrue(r.line().contains("input_0.pb is read, or written, by this command"), r.err);
        }
        Result r = run("evaluate", model, model, "--images", samples, "--preprocessor", preprocessor, "--report", preprocessor, "--force");
        assertEquals(Main.USAGE, r.code, r.err);
        assertTrue(r.line().contains("preprocessor_config.json is read, or written, by this command"), r.err);
    }

    @Test
    void doctorTellsWhatItFound() throws IOException {
        Result r = run("doctor", "--threads", 1);
        assertEquals(0, r.code, r.err);
        for (String fact : List.of("java", "native library", "tier in use", "oneDNN", "CUDA driver", "CUDA kernels",
                "bandwidth reading", "not installed (optional)", "VNNI", "disk writing")) {
            assertTrue(r.out.contains(fact), r.out);
        }
        assertEquals(Files.exists(Path.of("/sys/devices/system/cpu/cpu0/cache/index0/size")), r.out.contains("cache L1d"), r.out);
        String flags = Files.readString(Path.of("/proc/cpuinfo"));
        for (String vnni : List.of("avx512_vnni", "avx_vnni")) {
            assertEquals(flags.contains(vnni), r.out.contains(vnni), r.out);
        }
        assertTrue(r.out.lines().anyMatch(line -> line.matches("ONNX Runtime +1\\..*")), r.out);
        assertTrue(r.out.lines().anyMatch(line -> line.matches("disk reading +[\\d.]+ [MG]B/s")), r.out);
        String json = parse(run("doctor", "--json").out);
        for (String key : List.of("javaHome", "nativeLibrary", "oneDNN", "cudaDriver", "cudaKernels", "bandwidthF32ToInt8", "vnni",
                "diskWriting", "diskReading", "onnxRuntime")) {
            assertTrue(json.contains("\"" + key + "\" : "), json);
        }
    }

    private static List<String> commands() {
        return Main.COMMANDS;
    }

    @Test
    void theReadmeHasALineForEachCommand() throws IOException {
        List<String> shown = Files.readAllLines(Path.of("../../README.md")).stream().filter(line -> line.startsWith("tensorpress "))
                .map(line -> line.split(" +")[1]).toList();
        assertEquals(commands(), shown);
    }

    @ParameterizedTest
    @MethodSource("commands")
    void everyCommandExplainsItself(String command) {
        Result r = run(command, "--help");
        assertEquals(0, r.code);
        assertTrue(r.out.contains("Usage: tensorpress " + command), r.out);
        assertTrue(r.out.contains("--stacktrace "), r.out);
        assertEquals(r, run("help", command));
        assertEquals(r, run(command, "-h"));
        assertTrue(run("--help").out.contains("  " + command + " "));
    }

    /** A preset, what is made of it, and what there is to say. */
    @Test
    void recipesArePrinted() throws IOException {
        Result r = run("recipe", "int4-corrected");
        assertEquals(0, r.code);
        assertEquals(Recipe.named("int4-corrected").yaml(), r.out);
        Path file = Files.writeString(folder.resolve("mine.yaml"), r.out);
        assertEquals(Recipe.named("int4-corrected"), Recipe.read(file));
        assertEquals(r, run("recipe", file));
        assertEquals(Recipe.schema(), run("recipe", "--schema").out);
        String all = run("recipe").out;
        for (String name : Recipe.NAMES) {
            assertTrue(all.contains(" " + name + ","), all);
        }
        for (String method : Methods.NAMES) {
            for (Option option : Methods.options(method)) {
                assertTrue(all.contains("\n  " + option.name() + ": " + option.type().range()), all);
            }
        }
        String help = run("compress", "--help").out.replaceAll("\\s+", " ");
        for (Formats.Entry format : Formats.ALL) {
            assertTrue(all.contains("(" + String.join(", ", format.names()) + "):\n"), all);
            assertTrue(help.contains(Option.any(format.names())), help);
        }
        assertTrue(all.contains("\n  accuracy-level: 0 to 4\n") && all.contains("\n  card: true or false (false if left out)\n"), all);
        Files.writeString(file, "steps: [{quantize: {bits: 9}}]");
        r = run("recipe", file);
        assertEquals(Main.USAGE, r.code);
        assertTrue(r.err.contains("mine.yaml:1: bits must be 2 to 8, but is 9"), r.err);
    }

    /** MODEL and OUT stand for the files. */
    @ParameterizedTest
    @CsvSource(delimiter = '|', quoteCharacter = '`', nullValues = "none", value = {
        "none                                          | missing command",
        "compres MODEL                                 | no command 'compres'; did you mean compress? There are compress, ",
        "frobnicate                                    | no command 'frobnicate'; there are ",
        "plan MODEL --recpie int8                      | unknown option '--recpie'; did you mean --recipe? (see",
        "plan MODEL --reciep=int8                      | unknown option '--reciep'; did you mean --recipe? (see",
        "recipe int9                                   | did you mean int8? There are int8",
        "recipe int8 int4                              | unexpected argument 'int4'",
        "recipe int8 --schema                          | --schema takes no NAME",
        "plan MODEL --xyzzy                            | unknown option '--xyzzy' (see",
        "plan MODEL --recipe itn8                      | did you mean int8? There are int8",
        "plan MODEL --target onnxruntim                | did you mean onnxruntime? There are onnxruntime, onnx",
        "plan MODEL --set accuracy-level=5             | accuracy-level must be 0 to 4, but is 5",
        "plan MODEL --set acuracy-level=4              | did you mean accuracy-level? There are accuracy-level",
        "compress MODEL -o OUT --set blok=32           | has no option 'blok', and no step of the recipe has it; did you mean block? There are block",
        "plan MODEL --role *=linaer                    | no role 'linaer'; did you mean linear?",
        "compress                                      | missing MODEL",
        "compress MODEL                                | missing -o OUT",
        "compress MODEL OUT -o OUT                     | unexpected argument",
        "compress MODEL -o                             | Missing argument for option: o",
        "compress MODEL -o --force                     | Missing argument for option: o",
        "compress MODEL -o OUT -o OUT                  | --output is given twice",
        "compress MODEL -o OUT --forse                 | unknown option '--forse'; did you mean --force?",
        "compress MODEL -o OUT --forc                  | unknown option '--forc'; did you mean --force?",
        "compress MODEL -o OUT --force=yes             | --force takes no value, but got 'yes'",
        "compress MODEL -o OUT --threads none          | --threads must be a number of at least 1",
        "compress MODEL -o OUT --threads 0             | --threads must be a number of at least 1",
        "compress MODEL -o OUT --threads 2147483647    | --threads must be at most 1024",
        "compress MODEL -o OUT --memory 64MB           | --memory must be at least 134,217,728 bytes, but is 64,000,000",
        "compress MODEL -o OUT --memory much           | --memory must be a number of bytes, such as 5GB, 500MB or 4GiB",
        "compress MODEL -o OUT --shard-size 0          | --shard-size must be at least 1 bytes",
        "compress MODEL -o OUT --shard-size -1         | --shard-size must be a number of bytes",
        "compress MODEL -o OUT --shard-size 5gb        | --shard-size must be a number of bytes",
        "compress MODEL -o OUT --shard-size 1e9        | --shard-size must be a number of bytes",
        "compress MODEL -o OUT --shard-size 9000000TiB | --shard-size must be a number of bytes",
        "compress MODEL -o OUT --shard-size 1.2.3GB    | --shard-size must be a number of bytes",
        "compress MODEL -o OUT --shard-size 1.5GB      | --shard-size is for models that are written as folders",
        "compress MODEL -o OUT --resume                | --resume is for models that are written as folders",
        "compress MODEL -o OUT --set block             | --set takes KEY=VALUE",
        "compress MODEL -o OUT --set block=17          | multiple of 16",
        "compress MODEL -o OUT --set nope.block=32     | recipe int8 has no step 'nope'; there are",
        "compress MODEL -o OUT --recipe prune50 --set sparsity=1 | at least 0 and below 1",
        "compress MODEL -o OUT --recipe prune50 --set pattern=4:2 | 1 <= N <= M <= 16",
        "compress MODEL -o OUT --recipe prune50 --set prune.step=2 | step must be 1 to 1",
        "compress MODEL -o OUT --recipe lowrank --set energy=1 | above 0 and below 1",
        "compress MODEL -o OUT --recipe lowrank --set rank=0 | rank must be at least 1",
        "compress MODEL -o OUT --recipe int4-corrected --set factors=int2 | factors must be float or int8",
        "compress MODEL -o MODEL --force               | is read, or written, by this command",
        "compress MODEL -o OUT --report OUT            | is read, or written, by this command",
        "compress MODEL -o OUT --recipe BAD.yaml       | BAD.yaml:1: ",
        "calibrate MODEL --random 1                    | missing -o",
        "calibrate -o OUT                              | give either MODEL, or --merge FILE",
        "calibrate MODEL -o OUT --merge T              | give either MODEL, or --merge FILE",
        "calibrate MODEL -o OUT                        | either --texts",
        "calibrate MODEL -o OUT --images T --random 1  | either --texts",
        "calibrate MODEL -o OUT --images ./ --image size=0 | images have edges of 1 to 32768 pixels, not 0x0",
        "calibrate MODEL -o OUT --images ./ --image size | --image takes KEY=VALUE",
        "calibrate MODEL -o OUT --images . --image gamma=2 | images have no option 'gamma'",
        "calibrate MODEL -o OUT --random 1 --image size=2 | --preprocessor and --image go with --images",
        "evaluate MODEL MODEL --images . --preprocessor NONE | NONE is no preprocessor_config.json",
        "calibrate MODEL -o MODEL --random 1 --force   | is read, or written, by this command",
        "calibrate --merge MODEL -o MODEL --force      | is read, or written, by this command",
        "calibrate MODEL -o OUT --random 1 --samples 0 | --samples must be a number of at least 1",
        "calibrate MODEL -o OUT --inputs MODEL         | is neither a file .npz, .npy or .safetensors",
        "evaluate MODEL MODEL                          | either --texts",
        "evaluate MODEL MODEL --texts T                | --texts and --tokenizer go together",
        "evaluate MODEL MODEL --pairs T                | --pairs and --tokenizer go together",
        "evaluate MODEL MODEL --pairs T --random 1     | either --texts",
        "evaluate MODEL MODEL --random 1 --labels T    | --labels goes with --texts or --images or --inputs",
        "evaluate MODEL MODEL --pairs T --tokenizer T --queries T | --queries goes with --texts",
        "evaluate MODEL MODEL --texts T --tokenizer T --k 3 | --k goes with --queries",
        "evaluate MODEL MODEL --texts T --tokenizer T --relevant T | --relevant goes with --queries",
        "evaluate MODEL MODEL --texts T --tokenizer T --queries T --k 0 | --k must be a number of at least 1",
        "evaluate MODEL MODEL --pairs BAD.yaml --tokenizer T | lines of text, text and score, with tabs between, and not 'steps: 1'",
        "evaluate MODEL MODEL --texts T --tokenizer T --labels BAD.yaml | has numbers from 0 on, and not 'steps: 1'",
        "evaluate MODEL MODEL --texts T --tokenizer T --queries BAD.yaml --relevant BAD.yaml | has numbers from 1 on, and not 'steps:'",
        "evaluate MODEL MODEL --texts T --tokenizer T --queries NONE | NONE holds no text",
        "evaluate MODEL MODEL --texts T --tokenizer T --labels BINARY | BINARY is not UTF-8 text",
        "evaluate MODEL MODEL --random 0               | --random must be a number of at least 1",
        "evaluate MODEL MODEL --texts T --tokenizer T --shape x=1x2 | --shape goes with --random",
        "evaluate MODEL MODEL --inputs MODEL --random 1 | either --texts",
        "evaluate MODEL MODEL --inputs MODEL           | is neither a file .npz, .npy or .safetensors",
        "evaluate MODEL MODEL --inputs MODEL --shape x=1x2 | --shape goes with --random",
        "evaluate MODEL MODEL --random 1 --shape x=1,2 | --shape takes NAME=1x3x32x320",
        "evaluate MODEL MODEL --random 1 --shape x=999999999x999999999x999999999 | has too many elements",
        "evaluate MODEL MODEL --random 1 --shape x=1x128 --shape x=2x128 | --shape x is given twice",
        "evaluate MODEL MODEL --random 1 --shape x=1x7 | the shape 1x7 does not fit the input x",
        "evaluate MODEL MODEL --random 1 --shape z=1x7 | no input 'z'",
        "evaluate MODEL MODEL --texts NONE --tokenizer BAD.yaml | holds no text",
        "evaluate MODEL MODEL --texts BAD.yaml --tokenizer BAD.yaml | BAD.yaml is not a tokenizer.json",
    })
    void wrongUsageIs2(String line, String message) throws IOException {
        Files.writeString(folder.resolve("BAD.yaml"), "steps: 1\n");
        Files.writeString(folder.resolve("NONE"), "\n");
        Files.write(folder.resolve("BINARY"), new byte[] {(byte) 0xff, 0});
        Result r = run(words(line));
        assertEquals(Main.USAGE, r.code, r.err);
        assertTrue(r.line().contains(message), r.err);
        assertFalse(Files.exists(out));
    }

    private Object[] words(String line) {
        return line == null ? new Object[0] : Stream.of(line.split(" +")).map(word -> switch (word) {
            case "MODEL" -> model;
            case "OUT" -> out;
            case "BAD.yaml", "BINARY", "NONE" -> folder.resolve(word);
            default -> word;
        }).toArray();
    }

    @Test
    void malformedModelsAre3() throws IOException {
        Path junk = Files.writeString(folder.resolve("junk.onnx"), "\u0007this is no model");
        Path half = folder.resolve("half.onnx");
        byte[] bytes = Files.readAllBytes(model);
        Files.write(half, java.util.Arrays.copyOf(bytes, bytes.length / 2));
        for (Path bad : List.of(junk, half)) {
            for (Result r : List.of(run("inspect", bad), run("plan", bad), run("compress", bad, "-o", out),
                    run("evaluate", model, bad, "--random", 1))) {
                assertEquals(Main.MALFORMED, r.code, r.err);
                assertTrue(r.line().contains(bad.toString()), r.err);
            }
        }
        assertFalse(Files.exists(out));
    }

    @Test
    void unsupportedRequestsAre4() throws IOException {
        Path nan = SmallModel.write(folder.resolve("nan.onnx"), Float.NaN);
        Result r = run("compress", nan, "-o", out);
        assertEquals(Main.UNSUPPORTED, r.code, r.err);
        assertTrue(r.line().contains("weight weight holds NaN at element 5"), r.err);
        assertEquals(List.of("nan.onnx", "small.onnx"), files());
        assertEquals(0, run("compress", nan, "-o", out, "--exclude", "weight").code);
        Path pickle = Files.write(folder.resolve("model.pt"), new byte[] {(byte) 0x80, 2, '}', 'q', 0, 'X', 1, 0, 0, 0, 'a', 'q'});
        for (String command : List.of("inspect", "plan")) {
            r = run(command, pickle);
            assertEquals(Main.UNSUPPORTED, r.code, r.err);
            assertTrue(r.line().contains("model.pt is a pickle of Python"), r.err);
        }
        r = run("plan", model, "--role", "*=linear");
        assertEquals(Main.UNSUPPORTED, r.code, r.err);
        assertTrue(r.line().contains("is an ONNX model, whose graph says what its weights do"), r.err);
    }

    @Test
    void inputAndOutputFailuresAre5() throws IOException {
        Path none = folder.resolve("none.onnx");
        for (Result r : List.of(run("inspect", none), run("compress", none, "-o", out),
                run("evaluate", model, none, "--random", 1),
                run("evaluate", model, model, "--texts", none, "--tokenizer", none))) {
            assertEquals(Main.IO, r.code, r.err);
            assertTrue(r.line().contains(none.toString()), r.err);
        }
        Result r = run("compress", model, "-o", folder.resolve("no/such/folder/out.onnx"));
        assertEquals(Main.IO, r.code, r.err);
        r.line();
        assertEquals(Main.IO, run("plan", model, "--recipe", folder.resolve("none.yaml")).code);
        assertEquals(Main.IO, run("compress", model, "-o", out, "--report", folder.resolve("no/report.json")).code);
        assertFalse(Files.exists(out));
    }

    @Test
    void whatExistsIsReplacedOnlyWhenAskedTo() throws IOException {
        Files.writeString(out, "precious");
        Result r = run("compress", model, "-o", out);
        assertEquals(Main.IO, r.code);
        assertTrue(r.line().contains("--force"), r.err);
        assertEquals("precious", Files.readString(out));
        assertEquals(0, run("compress", model, "-o", out, "--force").code);
        Path report = Files.writeString(folder.resolve("report.json"), "precious");
        Path other = folder.resolve("other.onnx");
        assertEquals(Main.IO, run("compress", model, "-o", other, "--report", report).code);
        assertFalse(Files.exists(other));
        assertEquals("precious", Files.readString(report));
    }

    /** A link to the model is the model. */
    @Test
    void aModelIsNeverItsOwnOutput() throws IOException {
        Path link = Files.createSymbolicLink(folder.resolve("link.onnx"), model);
        byte[] before = Files.readAllBytes(model);
        Result r = run("compress", model, "-o", link, "--force");
        assertEquals(Main.USAGE, r.code, r.err);
        r.line();
        assertEquals(Main.USAGE, run("compress", model, "-o", folder, "--force").code);
        assertEquals(-1, java.util.Arrays.mismatch(before, Files.readAllBytes(model)));
    }

    @Test
    void stackTracesAreForThoseWhoAsk() {
        assertFalse(run("inspect", folder.resolve("none")).err.contains("\tat "));
        Result r = run("inspect", folder.resolve("none"), "--stacktrace");
        assertEquals(Main.IO, r.code);
        assertTrue(r.err.contains("\tat dev.tensorpress."), r.err);
    }

    @Test
    void aFaultOfOursIs70() {
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        int code = Main.run(new String[] {"--help"}, null, new PrintStream(err, true, StandardCharsets.UTF_8));
        assertEquals(Main.INTERNAL, code);
        assertTrue(err.toString(StandardCharsets.UTF_8).startsWith("tensorpress: internal error: "), err.toString());
    }

    @Test
    void aFaultOfOursIsNoWrongUsage() {
        PrintStream broken = new PrintStream(new ByteArrayOutputStream()) {
            @Override
            public void println(String line) {
                throw new IllegalArgumentException("not yours");
            }
        };
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        assertEquals(Main.INTERNAL, Main.run(new String[] {"inspect", model.toString()}, broken, new PrintStream(err)));
        assertTrue(err.toString(StandardCharsets.UTF_8).contains("internal error"), err.toString());
    }

    /** What the JVM throws for a mapping whose file became shorter is no fault of ours, unlike other errors of that type. */
    @Test
    void aFileThatShrankIsAFailureOfInput() {
        for (String[] thrown : new String[][] {{"a fault occurred in an unsafe memory access operation", "became shorter"},
            {"something else", "internal error"}}) {
            PrintStream broken = new PrintStream(new ByteArrayOutputStream()) {
                @Override
                public void println(String line) {
                    throw new InternalError(thrown[0]);
                }
            };
            ByteArrayOutputStream err = new ByteArrayOutputStream();
            int code = Main.run(new String[] {"inspect", model.toString()}, broken, new PrintStream(err));
            assertEquals(thrown[1].startsWith("became") ? Main.IO : Main.INTERNAL, code);
            assertTrue(err.toString(StandardCharsets.UTF_8).contains(thrown[1]), err.toString());
        }
    }

    @Test
    void twoDashesEndTheOptions() {
        assertEquals(Main.IO, run("inspect", "--", "--json").code);
        assertEquals(0, run("compress", "--output=" + out, "--exclude=weight", "--", model).code);
    }

    /** The text, if it is JSON. */
    private static String parse(String json) throws IOException {
        try (JsonParser parser = new JsonFactory().createParser(json)) {
            while (parser.nextToken() != null) {
                // throws if it is not
            }
        }
        return json;
    }
}
