package dev.tensorpress.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.cli.MainTest.Result;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.model.onnx.OnnxModel;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class SlimTest {
    @TempDir
    Path folder;

    private Path model;
    private Path out;

    /** The small model with a second product, so that there are neurons. */
    @BeforeEach
    void write() throws IOException {
        Path small = SmallModel.write(folder.resolve("small.onnx"));
        model = folder.resolve("two.onnx");
        out = folder.resolve("out.onnx");
        try (Arena arena = Arena.ofConfined(); OnnxModel m = OnnxModel.open(small, false)) {
            EditableModel e = EditableModel.of(m, arena);
            e.graph().initializers().put("second", e.graph().initializers().get("weight"));
            e.graph().nodes().get(1).outputs().set(0, "before");
            e.graph().nodes().add(new EditableNode("Relu", "", "", List.of("before"), List.of("relu")));
            e.graph().nodes().add(new EditableNode("MatMul", "", "", List.of("relu", "second"), List.of("y")));
            e.write(Destination.of(model));
        }
    }

    private static Result run(Object... args) {
        return MainTest.run(args);
    }

    @Test
    void takesNeuronsOut() throws IOException {
        Result r = run("slim", model, "-o", out, "--amount", "0.5");
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().lines().anyMatch(line -> line.matches("/dense +neurons +128 +64 *")), r.out());
        assertTrue(Files.size(out) < 0.55 * Files.size(model));
        assertEquals(0, run("evaluate", model, out, "--random", 2).code());
        Path statistics = folder.resolve("st.safetensors");
        assertEquals(0, run("calibrate", model, "-o", statistics, "--random", 4).code());
        r = run("slim", model, "-o", out, "--force", "--amount", "0.5", "--statistics", statistics);
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().lines().anyMatch(line -> line.matches("/dense +neurons +128 +64 +[0-9.]+ % *")), r.out());
    }

    @Test
    void recipesTakeNeuronsOutAndMakeCodes() throws IOException {
        Path recipe = Files.writeString(folder.resolve("r.yaml"), "structure: [{clean: {steps: [identity, constants, unused]}}, {name: some, slim: {amount: 0.5}}]\nsteps: [{name: codes, quantize: {}}]\n");
        Path report = folder.resolve("report.json");
        Result r = run("compress", model, "-o", out, "--recipe", recipe, "--report", report);
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().lines().anyMatch(line -> line.matches("/dense +neurons +128 +64 *")), r.out());
        assertTrue(r.out().contains("2 of 3 weights compressed") && r.out().contains("note: some goes by magnitudes alone"), r.out());
        Map<String, Object> structure = JsonTree.object(JsonTree.list(JsonTree.parse(Files.readString(report)).get("structure")).get(1));
        assertEquals("some", structure.get("step"));
        assertEquals(0, run("evaluate", model, out, "--random", 2).code());
        r = run("plan", model, "--recipe", recipe, "--set", "amount=0.25", "--json");
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().contains("\"kept\" : 96"), r.out());
        r = run("plan", model, "--recipe", "prune-neurons");
        assertTrue(r.out().lines().anyMatch(line -> line.matches("/dense +neurons +128 +96 *")), r.out());
        assertEquals(0, run("pack", model, "-o", folder.resolve("out.tpa"), "--recipe", recipe).code());
        assertEquals(0, run("compress", model, "-o", folder.resolve("report.onnx"), "--recipe", recipe, "--report", folder.resolve("report.html")).code());
        assertEquals(Main.UNSUPPORTED, run("compress", model, "-o", out, "--force", "--recipe", "prune-heads").code());
        Path other = SmallModel.writeSafetensors(folder.resolve("other.safetensors"));
        r = run("compress", other, "-o", folder.resolve("o"), "--recipe", "prune-neurons");
        assertEquals(Main.UNSUPPORTED, r.code());
        assertEquals(1, r.err().lines().count(), r.err());
        r = run("calibrate", model, "-o", folder.resolve("s.safetensors"), "--random", 2, "--sequential", recipe);
        assertTrue(r.err().contains("calibrate all layers at once"), r.err());
        assertEquals(Main.USAGE, run("plan", model, "--recipe", recipe, "--set", "amount=1").code());
    }

    @Test
    void stepsThatAreLeftNothingSaySo() throws IOException {
        Path recipe = Files.writeString(folder.resolve("r.yaml"), "structure: [{name: some, slim: {}}, {name: others, slim: {amount: 0.5}}]\n");
        Result r = run("plan", model, "--recipe", recipe);
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().contains("others:\nnote: all groups that it selects are selected by steps before it\n") && !r.out().contains("CONSTANTS"), r.out());
    }

    @Test
    void searchesTakeNeuronsOutAsWell() throws IOException {
        Result r = run("search", model, "-o", out, "--bytes", "10%", "--structure", "neurons", "--random", 8, "--shape", "x=50x128");
        assertEquals(0, r.code(), r.err());
        assertTrue(Files.size(out) <= 0.1 * Files.size(model));
        Path state = folder.resolve("out.onnx.search");
        String recipe = Files.readString(state.resolve("recipe.yaml"));
        assertTrue(recipe.contains("structure:") && recipe.contains("/dense"), recipe);
        Path again = folder.resolve("again.onnx");
        assertEquals(0, run("compress", model, "-o", again, "--recipe", state.resolve("recipe.yaml"), "--statistics", state.resolve("statistics.safetensors")).code());
        assertEquals(-1, Files.mismatch(out, again));
        assertEquals(Main.USAGE, run("search", model, "-o", out, "--force", "--at-least", "cosine=0.9", "--fastest", "--structure", "neurons", "--random", 8).code());
        assertEquals(Main.UNSUPPORTED, run("search", model, "-o", out, "--force", "--bytes", "10%", "--structure", "heads", "--random", 8).code());
    }

    @Test
    void leavesWhatIsAskedFor() throws IOException {
        Result r = run("slim", model, "-o", out, "--bytes", "0.6");
        assertEquals(0, r.code(), r.err());
        assertTrue(Files.size(out) <= 0.6 * Files.size(model) && Files.size(out) > 0.5 * Files.size(model));
        r = run("slim", model, "-o", out, "--force", "--multiply-adds", "0.5", "--names", "/den*");
        assertTrue(r.out().lines().anyMatch(line -> line.matches("/dense +neurons +128 +64 *")), r.out());
        r = run("slim", model, "-o", out, "--force", "--bytes", "0.01");
        assertEquals(Main.UNSUPPORTED, r.code());
        assertTrue(r.err().contains("of the bytes would be left"), r.err());
        assertEquals(Main.UNSUPPORTED, run("slim", model, "-o", out, "--force", "--names", "other").code());
    }

    @Test
    void runsTheModel() throws IOException {
        Path inputs = Files.createDirectory(folder.resolve("inputs"));
        Random random = new Random(3);
        for (int i = 0; i < 4; i++) {
            byte[] array = MainTest.zeros();
            ByteBuffer values = ByteBuffer.wrap(array).order(ByteOrder.LITTLE_ENDIAN);
            for (int at = array.length - 4 * SmallModel.N; at < array.length; at += 4) {
                values.putFloat(at, (float) random.nextGaussian());
            }
            Files.write(inputs.resolve(i + ".npy"), array);
        }
        Result r = run("slim", model, "-o", out, "--amount", "0.5", "--sequential", "--random", 4);
        assertEquals(Main.USAGE, r.code());
        assertTrue(r.err().contains("--sequential goes with --texts, --images or --inputs") && Files.notExists(out), r.err());
        r = run("slim", model, "-o", out, "--amount", "0.5", "--sequential", "--inputs", inputs);
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().lines().anyMatch(line -> line.matches("/dense +neurons +128 +64 +[0-9.]+ % *")), r.out());
        r = run("slim", model, "-o", out, "--force", "--latency", "0.9", "--random", 4);
        // Products as small as these may take as long without half of their neurons.
        assertTrue(r.code() == 0 && r.out().contains("time of models on the way") || r.err().contains("of the time would be left"), r.out() + r.err());
        assertTrue(run("slim", model, "-o", out, "--force", "--latency", "0.9").err().contains("--texts"));
        assertTrue(run("slim", model, "-o", out, "--force", "--latency", "0.9", "--sequential", "--random", 4).err().contains("--amount"));
        assertTrue(run("slim", model, "-o", out, "--force", "--sequential", "--random", 4, "--statistics", model).err().contains("--statistics"));
        assertTrue(run("slim", model, "-o", out, "--force", "--random", 4).err().contains("--latency"));
        r = run("slim", model, "-o", out, "--force", "--multiply-adds", "0.5", "--random", 4);
        assertTrue(r.out().lines().anyMatch(line -> line.matches("/dense +neurons +128 +64 *")), r.out() + r.err());
        try (Stream<Path> files = Files.list(folder)) {
            assertEquals(4, files.count());
        }
    }

    @Test
    void takesBlocksOut() throws IOException {
        Path residual = folder.resolve("residual.onnx");
        try (Arena arena = Arena.ofConfined(); OnnxModel m = OnnxModel.open(model, false)) {
            EditableModel e = EditableModel.of(m, arena);
            EditableNode last = e.graph().nodes().getLast();
            last.outputs().set(0, "branch");
            e.graph().nodes().add(new EditableNode("Add", "", "sum", List.of("before", "branch"), List.of("y")));
            e.write(Destination.of(residual));
        }
        Result r = run("slim", residual, "-o", out, "--kind", "blocks", "--random", 4);
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().lines().anyMatch(line -> line.matches("sum +2 +65,536 +goes +cosine .*")), r.out());
        assertTrue(Files.size(out) < 0.6 * Files.size(residual));
        Path statistics = folder.resolve("all.safetensors");
        assertEquals(0, run("calibrate", residual, "-o", statistics, "--random", 4).code());
        assertTrue(run("slim", residual, "-o", out, "--force", "--kind", "blocks", "--statistics", statistics).err().contains("calibrate --all"));
        assertEquals(0, run("calibrate", residual, "-o", statistics, "--force", "--all", "--random", 4).code());
        r = run("slim", residual, "-o", out, "--force", "--kind", "blocks", "--statistics", statistics);
        assertTrue(r.out().lines().anyMatch(line -> line.matches("sum +2 +65,536 +goes +makes squares of [0-9.]+ % of the sum's")), r.out() + r.err());
        assertEquals(Main.UNSUPPORTED, run("slim", model, "-o", out, "--force", "--kind", "blocks", "--random", 1).code());
        assertEquals(Main.USAGE, run("slim", residual, "-o", out, "--force", "--kind", "blocks").code());
        assertEquals(Main.USAGE, run("slim", residual, "-o", out, "--force", "--kind", "blocks", "--bytes", "0.5", "--random", 1).code());
    }

    @Test
    void wrongOptionsAreRefused() throws IOException {
        assertEquals(Main.USAGE, run("slim", model).code());
        for (String amount : List.of("0", "1", "-1", "x")) {
            assertEquals(Main.USAGE, run("slim", model, "-o", out, "--amount", amount).code(), amount);
            assertEquals(Main.USAGE, run("slim", model, "-o", out, "--bytes", amount).code(), amount);
        }
        assertTrue(run("slim", model, "-o", out, "--bytes", "0.5", "--amount", "0.5").err().contains("give one of"));
        assertTrue(run("slim", model, "-o", out, "--kind", "neuron").err().contains("neurons"));
        assertTrue(run("slim", model, "-o", out, "--score", "activations").err().contains("--statistics"));
        assertEquals(Main.UNSUPPORTED, run("slim", model, "-o", out, "--kind", "heads").code());
        assertEquals(Main.UNSUPPORTED, run("slim", SmallModel.writeSafetensors(folder.resolve("m.safetensors")), "-o", out).code());
        assertTrue(Files.notExists(out));
    }
}
