package dev.tensorpress.model.onnx;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Report;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.statistics.Gatherer;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.Request;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.statistics.ValueStatistics;
import dev.tensorpress.structure.Cleanup;
import dev.tensorpress.structure.Group;
import dev.tensorpress.structure.StructuredPruning;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Recipes that change the graph before anything becomes of weights. */
final class RestructuredTest {
    private static final int FLOATS = 1;
    private static final int ROWS = 64;
    private static final int IN = 32;
    private static final int HIDDEN = 64;
    private static final int OUT = 16;
    private static final int SIDE = 6;

    @TempDir
    Path folder;

    private final float[] x = TestModel.random(7, ROWS * IN);
    private final float[] image = TestModel.random(8, 4 * SIDE * SIDE);

    /** Two layers behind an Identity. */
    private Path dense(String name, boolean shown) throws IOException {
        TestModel m = new TestModel();
        m.graph.node("Identity", "same", "x").node("MatMul", "h", "same", "w").node("Add", "b", "h", "bias").node("Relu", "r", "b").node("MatMul", "y", "r", "v");
        m.graph.init("w", DType.F32, TestModel.random(1, IN * HIDDEN), IN, HIDDEN).init("bias", DType.F32, TestModel.random(2, HIDDEN), HIDDEN)
                .init("v", DType.F32, TestModel.random(3, HIDDEN * OUT), HIDDEN, OUT);
        m.graph.input("x", FLOATS, ROWS, IN).output("y", FLOATS, ROWS, OUT);
        if (shown) {
            m.graph.output("r", FLOATS, ROWS, HIDDEN);
        }
        return m.write(folder, name);
    }

    /** Convolutions: one, one channel by channel, and one more. */
    private Path convolutions(String name, boolean shown) throws IOException {
        TestModel m = new TestModel();
        m.graph.node(new TestModel.NodeBuilder("Conv", "a", "x", "k1").ints("pads", 1, 1, 1, 1)).node("Relu", "ra", "a")
                .node(new TestModel.NodeBuilder("Conv", "d", "ra", "k2").ints("pads", 1, 1, 1, 1).set("group", 12)).node("Relu", "rd", "d")
                .node(new TestModel.NodeBuilder("Conv", "y", "rd", "k3").ints("pads", 1, 1, 1, 1));
        m.graph.init("k1", DType.F32, TestModel.random(1, 12 * 4 * 9), 12, 4, 3, 3).init("k2", DType.F32, TestModel.random(2, 12 * 9), 12, 1, 3, 3)
                .init("k3", DType.F32, TestModel.random(3, 5 * 12 * 9), 5, 12, 3, 3);
        m.graph.input("x", FLOATS, 1, 4, SIDE, SIDE).output("y", FLOATS, 1, 5, SIDE, SIDE);
        if (shown) {
            m.graph.output("ra", FLOATS, 1, 12, SIDE, SIDE).output("rd", FLOATS, 1, 12, SIDE, SIDE);
        }
        return m.write(folder, name);
    }

    private static Statistics gathered(OnnxModel model, Map<String, Tensor> values) throws IOException {
        try (Executor executor = Executor.cpu(1); Gatherer gatherer = new Gatherer(Request.feeds(model.graph().orElseThrow(), true), executor)) {
            for (Graph.Value value : gatherer.values()) {
                if (values.containsKey(value.name())) {
                    gatherer.accept(0, value, values.get(value.name()));
                }
            }
            return gatherer.finish(Statistics.hash(model), 1, "rows");
        }
    }

    private static Tensor tensor(Arena arena, float[] values, long... shape) {
        return new Tensor(DType.F32, Shape.of(shape), arena.allocate(4L * values.length, 64).copyFrom(MemorySegment.ofArray(values)));
    }

    /** Of the dense model, some of whose neurons are left. */
    private Statistics statistics(OnnxModel model, Arena arena, int... kept) throws Exception {
        float[] all = Ort.run(dense("shown.onnx", true), x, ROWS, IN)[1];
        float[] hidden = new float[ROWS * kept.length];
        for (int i = 0; i < hidden.length; i++) {
            hidden[i] = all[i / kept.length * HIDDEN + kept[i % kept.length]];
        }
        Tensor input = tensor(arena, x, ROWS, IN);
        return gathered(model, Map.of("x", input, "same", input, "r", tensor(arena, hidden, ROWS, kept.length)));
    }

    private static int[] all() {
        return IntStream.range(0, HIDDEN).toArray();
    }

    private Recipe recipe(String yaml) throws IOException {
        return Recipe.read(Files.writeString(folder.resolve("recipe.yaml"), yaml));
    }

    private static final String CODES = "steps:\n  - select: {min-size: 0}\n    gptq: {bits: 4, block: 16}\n";
    private static final String HALF = "structure:\n  - name: half\n    slim: {amount: 0.5, score: magnitude, update: false}\n";

    /** What is known of the values of the original, without what is gone, makes the same bytes as what is gathered anew. */
    @Test
    void statisticsLoseTheIndicesThatAreGone() throws Exception {
        Path model = dense("dense.onnx", false);
        Path slim = folder.resolve("slim").resolve("dense.onnx");
        Path both = folder.resolve("both.onnx");
        Files.createDirectory(slim.getParent());
        int[] kept;
        try (Compressor c = Compressor.open(model); Arena arena = Arena.ofShared(); Statistics s = statistics((OnnxModel) c.model(), arena, all())) {
            c.use(s);
            Plan structure = c.plan(recipe(HALF));
            kept = structure.entries().stream().filter(e -> e.weight().name().equals("bias")).map(e -> kept(e.weight())).findFirst().orElseThrow();
            assertEquals(HIDDEN / 2, kept.length);
            c.compress(structure, slim);
            Report report = c.compress(c.plan(recipe(HALF + CODES)), both);
            assertEquals(Files.size(model), report.bytesBefore());
            assertEquals(2, report.plan().compressed());
            assertTrue(report.toJson().contains("\"kept\" : 32"), report.toJson());
        }
        Path again = folder.resolve("again.onnx");
        try (Compressor c = Compressor.open(slim); Arena arena = Arena.ofShared(); Statistics s = statistics((OnnxModel) c.model(), arena, kept)) {
            c.use(s);
            c.compress(c.plan(recipe(CODES)), again);
        }
        assertEquals(-1, Files.mismatch(both, again));
        float[] expected = Ort.run(model, x, ROWS, IN)[0];
        assertEquals(expected.length, Ort.run(both, x, ROWS, IN)[0].length);
    }

    /** By their biases. */
    private static int[] kept(Weight bias) {
        float[] before = TestModel.random(2, HIDDEN);
        float[] now = bias.tensor().data().toArray(JAVA_FLOAT_UNALIGNED);
        int[] kept = new int[now.length];
        for (int i = 0, at = 0; at < HIDDEN; at++) {
            if (i < now.length && now[i] == before[at]) {
                kept[i++] = at;
            }
        }
        return kept;
    }

    /** Patches, of which depthwise convolutions see one channel each. */
    @Test
    void patchesLoseChannels() throws Exception {
        Path file = convolutions("c.onnx", false);
        float[][] values = Ort.run(convolutions("cs.onnx", true), image, 1, 4, SIDE, SIDE);
        try (OnnxModel model = OnnxModel.open(file, false); Executor executor = Executor.cpu(1); Arena arena = Arena.ofShared()) {
            Map<String, Tensor> shown = new HashMap<>(Map.of("x", tensor(arena, image, 1, 4, SIDE, SIDE)));
            shown.put("ra", tensor(arena, values[1], 1, 12, SIDE, SIDE));
            shown.put("rd", tensor(arena, values[2], 1, 12, SIDE, SIDE));
            EditableModel edited = EditableModel.of(model, arena);
            StructuredPruning.Options options = new StructuredPruning.Options(Set.of(Group.Kind.CHANNELS), List.of(), new StructuredPruning.Amount(0.5), 1,
                    StructuredPruning.Score.MAGNITUDE, false, 0.01);
            StructuredPruning.Result result = StructuredPruning.prune(edited, model.weights(), null, List.of(options), executor, arena);
            int[] kept = result.kept().get("ra")[1];
            assertEquals(6, kept.length);
            assertArrayEquals(kept, result.kept().get("rd")[1]);
            Path out = folder.resolve("half.onnx");
            edited.write(Destination.of(out));
            Map<String, Tensor> fewer = new HashMap<>(shown);
            for (String name : List.of("ra", "rd")) {
                float[] some = new float[6 * SIDE * SIDE];
                for (int c = 0; c < 6; c++) {
                    System.arraycopy(values[name.equals("ra") ? 1 : 2], kept[c] * SIDE * SIDE, some, c * SIDE * SIDE, SIDE * SIDE);
                }
                fewer.put(name, tensor(arena, some, 1, 6, SIDE, SIDE));
            }
            try (OnnxModel half = OnnxModel.open(out, false); Statistics whole = gathered(model, shown); Statistics part = whole.part(result.kept());
                    Statistics anew = gathered(half, fewer)) {
                InputStatistics a = InputStatistics.of(part, half);
                InputStatistics b = InputStatistics.of(anew, half);
                List<String> names = new ArrayList<>();
                for (Weight w : half.weights()) {
                    ValueStatistics expected = b.of(w).orElseThrow();
                    ValueStatistics found = a.of(w).orElseThrow();
                    assertEquals(expected.window(), found.window());
                    assertArrayEquals(expected.squares(), found.squares(), w.name());
                    assertArrayEquals(expected.max(), found.max(), w.name());
                    assertArrayEquals(expected.gram().orElseThrow().toArray(JAVA_DOUBLE), found.gram().orElseThrow().toArray(JAVA_DOUBLE), 1e-9, w.name());
                    names.add(w.name());
                }
                assertEquals(3, names.size());
            }
        }
    }

    @Test
    void stepsFollowEachOther() throws Exception {
        Path model = dense("dense.onnx", false);
        try (Compressor c = Compressor.open(model); Arena arena = Arena.ofShared(); Statistics s = statistics((OnnxModel) c.model(), arena, all())) {
            c.use(s);
            Plan plan = c.plan(recipe("""
                    structure:
                      - {name: tidy, clean: {steps: identity}}
                      - {name: some, select: {name: MatMul_h}, slim: {amount: 0.25, multiple: 4}}
                      - {name: others, slim: {amount: 0.5}}
                    """));
            assertEquals(List.of("tidy", "some", "others"), plan.structure().stream().map(Plan.Restructuring::step).toList());
            assertEquals(List.of(new Cleanup.Done(Cleanup.Step.IDENTITY, 1, 0, List.of())), plan.structure().getFirst().cleaned());
            StructuredPruning.Pruned one = plan.structure().get(1).groups().getFirst();
            assertEquals(List.of("MatMul_h", 64, 48), List.of(one.name(), one.size(), one.kept()));
            assertTrue(one.loss().isPresent() && plan.statistics().isPresent());
            assertTrue(plan.structure().get(2).groups().stream().noneMatch(g -> g.name().equals("MatMul_h")));
            assertEquals(0, plan.compressed());
            assertTrue(plan.remarks().isEmpty(), plan.remarks().toString());
            Path out = folder.resolve("out.onnx");
            Report report = c.compress(plan, out);
            assertEquals(Files.size(out), plan.after());
            assertEquals(report.bytesAfter(), plan.after());
            assertEquals(ROWS * OUT, Ort.run(out, x, ROWS, IN)[0].length);
            try (OnnxModel written = OnnxModel.open(out, false)) {
                assertEquals(List.of("MatMul", "Add", "Relu", "MatMul"), written.graph().orElseThrow().operators().stream().map(Graph.Operator::type).toList());
            }
        }
    }

    /** By name or by the node that reads it; the rest of the recipe goes on. */
    @Test
    void groupsWithAnExcludedConstantStayWhole() throws Exception {
        Path model = dense("dense.onnx", false);
        for (String glob : List.of("w", "bias", "MatMul_y")) {
            try (Compressor c = Compressor.open(model); Arena arena = Arena.ofShared(); Statistics s = statistics((OnnxModel) c.model(), arena, all())) {
                c.use(s);
                Plan plan = c.plan(Recipe.named("prune-neurons").exclude(glob));
                StructuredPruning.Pruned group = plan.structure().getFirst().groups().stream().filter(g -> g.name().equals("MatMul_h")).findFirst().orElseThrow();
                assertEquals(List.of(HIDDEN, "'" + (glob.equals("MatMul_y") ? "v" : glob) + "' is excluded"), List.of(group.kept(), group.note()));
                Path out = folder.resolve(glob + ".onnx");
                c.compress(plan, out);
                assertArrayEquals(Ort.run(model, x, ROWS, IN)[0], Ort.run(out, x, ROWS, IN)[0]);
            }
        }
    }

    /** A bias that makes up for the mean of neurons that go is no member of their group. */
    @Test
    void excludedBiasesTakeNoMean() throws Exception {
        TestModel m = new TestModel();
        m.graph.node("MatMul", "h", "x", "w").node("Add", "b", "h", "bias").node("Relu", "r", "b").node("MatMul", "z", "r", "v").node("Add", "y", "z", "last");
        m.graph.init("w", DType.F32, TestModel.random(1, IN * HIDDEN), IN, HIDDEN).init("bias", DType.F32, TestModel.random(2, HIDDEN), HIDDEN)
                .init("v", DType.F32, TestModel.random(3, HIDDEN * OUT), HIDDEN, OUT).init("last", DType.F32, TestModel.random(4, OUT), OUT);
        m.graph.input("x", FLOATS, ROWS, IN).output("y", FLOATS, ROWS, OUT);
        Path model = m.write(folder, "last.onnx");
        float[] before = TestModel.random(4, OUT);
        for (boolean excluded : new boolean[] {false, true}) {
            try (Compressor c = Compressor.open(model); Arena arena = Arena.ofShared(); Statistics s = statistics((OnnxModel) c.model(), arena, all())) {
                c.use(s);
                Recipe recipe = Recipe.named("prune-neurons");
                Plan plan = c.plan(excluded ? recipe.exclude("last") : recipe);
                assertTrue(plan.entries().stream().anyMatch(e -> e.weight().name().equals("bias") && e.weight().tensor().shape().dim(0) == 48));
                Weight last = plan.entries().stream().map(Plan.Entry::weight).filter(w -> w.name().equals("last")).findFirst().orElseThrow();
                assertEquals(excluded, Arrays.equals(before, last.tensor().data().toArray(JAVA_FLOAT_UNALIGNED)));
            }
        }
    }

    /** With statistics what is left makes up for the rest; without them magnitudes decide, and that is said. */
    @Test
    void presetsTakeWhatThereIs() throws Exception {
        Path model = dense("dense.onnx", false);
        double[] lost = new double[2];
        for (boolean statistics : new boolean[] {false, true}) {
            Path out = folder.resolve(statistics + ".onnx");
            try (Compressor c = Compressor.open(model); Arena arena = Arena.ofShared(); Statistics s = statistics((OnnxModel) c.model(), arena, all())) {
                c.use(statistics ? s : null);
                Plan plan = c.plan(Recipe.named("prune-neurons"));
                assertEquals(!statistics, plan.remarks().toString().contains("magnitudes alone"), plan.remarks().toString());
                c.compress(plan, out);
                assertEquals(48, plan.structure().getFirst().groups().stream().filter(g -> g.size() == HIDDEN).findFirst().orElseThrow().kept());
            }
            float[] before = Ort.run(model, x, ROWS, IN)[0];
            float[] after = Ort.run(out, x, ROWS, IN)[0];
            for (int i = 0; i < before.length; i++) {
                lost[statistics ? 1 : 0] += Math.pow(before[i] - after[i], 2);
            }
        }
        assertTrue(lost[1] < lost[0] / 2, lost[1] + " and " + lost[0]);
    }

    @Test
    void whatCannotBeIsRefusedInALine() throws Exception {
        Path model = dense("dense.onnx", false);
        try (Compressor c = Compressor.open(model)) {
            refused(c, "structure: [{clean: {}}]", "takes a runtime");
            refused(c, "structure: [{slim: {score: reconstruction}}]", "needs statistics");
            refused(c, "structure: [{select: {kind: heads}, slim: {}}]", "heads");
            refused(c, "structure: [{slim: {}}]\noptions: {nothing: 5}", "nothing");
        }
        byte[] header = "{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}".getBytes(StandardCharsets.UTF_8);
        ByteBuffer bytes = ByteBuffer.allocate(8 + header.length + 4).order(ByteOrder.LITTLE_ENDIAN).putLong(header.length).put(header);
        Path other = Files.write(folder.resolve("other.safetensors"), bytes.array());
        try (Compressor c = Compressor.open(other)) {
            refused(c, "structure: [{slim: {}}]", "for models in ONNX");
        }
    }

    private void refused(Compressor c, String yaml, String why) throws IOException {
        Recipe recipe = recipe(yaml);
        String message = assertThrows(UnsupportedRequestException.class, () -> c.plan(recipe)).getMessage();
        assertTrue(message.contains(why) && message.indexOf('\n') < 0, message);
        assertFalse(left("dense.onnx"));
    }

    /** What is on the way is gone in the end, and plans of what is gone are refused. */
    @Test
    void temporaryFilesGo() throws Exception {
        String name = "dense-" + System.nanoTime() + ".onnx";
        Path model = dense(name, false);
        Path out = folder.resolve("out.onnx");
        Plan last;
        try (Compressor c = Compressor.open(model, Compressor.Options.DEFAULT.overwrite(true))) {
            Plan first = c.plan(recipe(HALF));
            c.compress(first, out);
            assertEquals(first.entries().getFirst().weight(), c.plan(recipe(HALF + "steps: [{quantize: {}}]")).entries().getFirst().weight());
            for (String amount : List.of("0.1", "0.2", "0.3")) {
                c.plan(recipe(HALF).set("amount", amount));
            }
            assertTrue(assertThrows(IllegalArgumentException.class, () -> c.compress(first, out)).getMessage().contains("no longer"));
            last = c.plan(recipe(HALF));
            c.compress(last, out);
            assertTrue(left(name));
        }
        assertFalse(left(name));
        try (Compressor c = Compressor.open(model)) {
            Plan plan = last;
            assertThrows(IllegalArgumentException.class, () -> c.compress(plan, out));
        }
    }

    /** Whether a folder of temporary files holds a model of this name. */
    private static boolean left(String name) throws IOException {
        try (DirectoryStream<Path> folders = Files.newDirectoryStream(Path.of(System.getProperty("java.io.tmpdir")), "tensorpress-*")) {
            for (Path one : folders) {
                try (DirectoryStream<Path> places = Files.newDirectoryStream(one)) {
                    for (Path place : places) {
                        if (Files.exists(place.resolve(name))) {
                            return true;
                        }
                    }
                }
            }
        }
        return false;
    }
}
