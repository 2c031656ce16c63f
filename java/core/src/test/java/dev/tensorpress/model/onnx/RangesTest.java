package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Report;
import dev.tensorpress.Selector;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.statistics.Gatherer;
import dev.tensorpress.statistics.Request;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Ranges by what inputs are worth, and of powers of two, in whole models. */
final class RangesTest {
    private static final int K = 96;
    private static final int N = 40;
    private static final int ROWS = 300;

    @TempDir
    Path folder;

    /** Some inputs are 30 times as large as others, and one is always 0. */
    private static float[] inputs(int k) {
        Random random = new Random(5);
        float[] x = new float[ROWS * k];
        for (int i = 0; i < x.length; i++) {
            int channel = i % k;
            x[i] = (float) random.nextGaussian() * (channel == 3 ? 0 : channel % 7 == 0 ? 3 : 0.1f);
        }
        return x;
    }

    /** Those of large inputs are small. */
    private static float[] weights(int seed, boolean outputsFirst) {
        float[] w = TestModel.random(seed, K * N);
        for (int at = 0; at < w.length; at++) {
            int i = outputsFirst ? at % K : at / N;
            w[at] *= i % 7 == 0 ? 0.5f : 1.5f;
        }
        return w;
    }

    /** y = x A and z = x B^T, and a table. */
    private Path products() throws IOException {
        TestModel model = TestModel.of(10, 21);
        int type = TensorInfo.FLOAT;
        model.graph.input("x", type, -1, K).input("ids", 7, -1).output("y", type, -1, N).output("z", type, -1, N).output("t", type, -1, K)
                .init("A", DType.F32, weights(2, false), K, N)
                .init("B", DType.F32, weights(3, true), N, K)
                .init("T", DType.F32, TestModel.random(4, 50 * K), 50, K);
        model.graph.node("MatMul", "y", "x", "A").node(new TestModel.NodeBuilder("Gemm", "z", "x", "B").set("transB", 1))
                .node("Gather", "t", "T", "ids");
        return model.write(folder, "m.onnx");
    }

    private static Statistics statistics(Compressor c, float[] x, Shape shape, boolean gram) throws IOException {
        Graph graph = c.model().graph().orElseThrow();
        try (Executor executor = Executor.cpu(1); Gatherer gatherer = new Gatherer(Request.feeds(graph, gram), executor);
                Arena arena = Arena.ofShared()) {
            MemorySegment values = arena.allocate(4L * x.length, 64).copyFrom(MemorySegment.ofArray(x));
            for (Graph.Value value : gatherer.values()) {
                gatherer.accept(0, value, new Tensor(DType.F32, shape, values));
            }
            return gatherer.finish(Statistics.hash(c.model()), 1, "rows");
        }
    }

    private Recipe recipe(String method, String options) throws IOException {
        return Recipe.read(Files.writeString(folder.resolve("r.yaml"), "name: r\nmin-size: 0\nsteps: [{" + method + ": {" + options + "}}]"));
    }

    private Path compress(Path model, Recipe recipe, Statistics statistics, int threads, String name) throws IOException {
        try (Compressor c = Compressor.open(model, Compressor.Options.DEFAULT.threads(threads).overwrite(true))) {
            c.use(statistics);
            Path out = folder.resolve(name);
            c.compress(c.plan(recipe), out);
            return out;
        }
    }

    private static float[] weight(Path model, String name) throws IOException {
        try (Compressor c = Compressor.open(model)) {
            return c.model().weights().stream().filter(w -> w.name().equals(name)).findFirst().orElseThrow().tensor().data()
                    .toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
        }
    }

    /** Sums of squares of what each output lost. */
    private double[] errors(Path model, Path compressed, float[] x, long... shape) throws Exception {
        float[][] exact = Ort.run(model, x, shape);
        float[][] found = Ort.run(compressed, x, shape);
        double[] errors = new double[exact.length];
        for (int o = 0; o < errors.length; o++) {
            for (int i = 0; i < exact[o].length; i++) {
                errors[o] += Math.pow((double) exact[o][i] - found[o][i], 2);
            }
        }
        return errors;
    }

    private Path withoutTable() throws IOException {
        TestModel model = TestModel.of(10, 21);
        int type = TensorInfo.FLOAT;
        model.graph.input("x", type, -1, K).output("y", type, -1, N).output("z", type, -1, N)
                .init("A", DType.F32, weights(2, false), K, N)
                .init("B", DType.F32, weights(3, true), N, K);
        model.graph.node("MatMul", "y", "x", "A").node(new TestModel.NodeBuilder("Gemm", "z", "x", "B").set("transB", 1));
        return model.write(folder, "p.onnx");
    }

    @Test
    void resultsAreNearerByImportance() throws Exception {
        float[] x = inputs(K);
        Path model = withoutTable();
        for (String codes : List.of("bits: 4, block: 32, clip: 20", "bits: 4, block: 32, symmetric: false, clip: 20", "bits: 3, clip: 20",
                "bits: 4, per: tensor, clip: 20", "bits: 4, block: 32, scale: power-of-two")) {
            try (Compressor c = Compressor.open(model); Statistics s = statistics(c, x, Shape.of(ROWS, K), false)) {
                double[] plain = errors(model, compress(model, recipe("quantize", codes), null, 1, "plain.onnx"), x, ROWS, K);
                Path one = compress(model, recipe("quantize", codes + ", importance: inputs"), s, 1, "one.onnx");
                double[] weighted = errors(model, one, x, ROWS, K);
                for (int i = 0; i < 2; i++) {
                    assertTrue(weighted[i] < 0.98 * plain[i], codes + ": " + weighted[i] + " against " + plain[i]);
                }
                assertArrayEquals(Files.readAllBytes(one), Files.readAllBytes(compress(model, recipe("quantize", codes + ", importance: inputs"),
                        s, 3, "three.onnx")), "threads");
            }
        }
    }

    @Test
    void gptqTakesRangesByImportance() throws Exception {
        float[] x = inputs(K);
        Path model = withoutTable();
        String codes = "bits: 4, block: 32, clip: 20, importance: inputs";
        try (Compressor c = Compressor.open(model); Statistics s = statistics(c, x, Shape.of(ROWS, K), true)) {
            double[] rounded = errors(model, compress(model, recipe("quantize", codes), s, 1, "rounded.onnx"), x, ROWS, K);
            double[] moved = errors(model, compress(model, recipe("gptq", codes), s, 1, "moved.onnx"), x, ROWS, K);
            for (int i = 0; i < 2; i++) {
                assertTrue(moved[i] < 0.9 * rounded[i], moved[i] + " against " + rounded[i]);
            }
        }
    }

    /** Tables have no inputs; of what is in no statistics the plan says so. Both are as they would be without. */
    @Test
    void whatHasNoInputsCountsAlike() throws Exception {
        Path model = products();
        String codes = "bits: 8, clip: 20";
        try (Compressor c = Compressor.open(model, Compressor.Options.DEFAULT.overwrite(true));
                Statistics s = statistics(c, inputs(K), Shape.of(ROWS, K), false)) {
            Recipe recipe = recipe("quantize", codes + ", importance: inputs");
            assertTrue(assertThrows(UnsupportedRequestException.class, () -> c.plan(recipe)).getMessage().contains("calibrate"));
            Report plain = c.compress(c.plan(recipe("quantize", codes)), folder.resolve("plain.onnx"));
            c.use(s);
            Report found = c.compress(c.plan(recipe), folder.resolve("found.onnx"));
            assertEquals(entry(plain, "T").sumSquaredError(), entry(found, "T").sumSquaredError());
            assertEquals("", entry(found, "T").planned().note());
            assertTrue(entry(plain, "A").sumSquaredError() < entry(found, "A").sumSquaredError());
            assertEquals("", entry(found, "A").planned().note());
            Plan plan = c.plan(recipe("quantize", "importance: inputs"));
            assertEquals("importance means nothing where no ranges are tried", plan.entries().getFirst().note());
        }
        try (Compressor c = Compressor.open(model, Compressor.Options.DEFAULT.overwrite(true)); Executor executor = Executor.cpu(1);
                Gatherer none = new Gatherer(List.of(), executor); Statistics s = none.finish(Statistics.hash(c.model()), 1, "nothing")) {
            c.use(s);
            Recipe recipe = recipe("quantize", codes + ", importance: inputs");
            assertEquals("nothing is known of what it is multiplied with, so that errors count alike", entry(c.plan(recipe), "A").note());
            c.compress(c.plan(recipe), folder.resolve("found.onnx"));
            assertArrayEquals(Files.readAllBytes(folder.resolve("plain.onnx")), Files.readAllBytes(folder.resolve("found.onnx")));
        }
    }

    /** The same bytes as of int4, and nearer results. */
    @Test
    void int4Gptq() throws Exception {
        float[] x = inputs(K);
        for (int i = 0; i < x.length; i++) {
            x[i] = 0.2f * x[i] + x[i / K * K]; // which are alike
        }
        Path model = withoutTable();
        try (Compressor c = Compressor.open(model); Statistics s = statistics(c, x, Shape.of(ROWS, K), true)) {
            Path four = compress(model, four("int4"), null, 1, "four.onnx");
            Path moved = compress(model, four("int4-gptq"), s, 1, "moved.onnx");
            assertEquals(Files.size(four), Files.size(moved));
            assertTrue(errors(model, moved, x, ROWS, K)[0] < 0.5 * errors(model, four, x, ROWS, K)[0]);
        }
    }

    /** Of the products of this model one is a head by nothing but its place. */
    private static Recipe four(String name) {
        Recipe recipe = Recipe.named(name).set("min-size", "0");
        return new Recipe(name, "", recipe.steps().stream().filter(s -> s.name().equals("linear")).map(s -> new Recipe.Step(s.name(),
                new Selector(Set.of(), List.of(), 0), s.method())).toList(), List.of(), recipe.options());
    }

    /** Inputs that are always 0 say nothing of ranges. */
    @Test
    void inputsThatAreAllZero() throws Exception {
        Path model = withoutTable();
        try (Compressor c = Compressor.open(model); Statistics s = statistics(c, new float[ROWS * K], Shape.of(ROWS, K), true)) {
            String codes = "bits: 4, block: 32, clip: 20";
            assertArrayEquals(Files.readAllBytes(compress(model, recipe("quantize", codes), null, 1, "plain.onnx")),
                    Files.readAllBytes(compress(model, recipe("quantize", codes + ", importance: inputs"), s, 1, "found.onnx")));
        }
    }

    private static Report.Entry entry(Report report, String name) {
        return report.entries().stream().filter(e -> e.planned().weight().name().equals(name)).findFirst().orElseThrow();
    }

    private static Plan.Entry entry(Plan plan, String name) {
        return plan.entries().stream().filter(e -> e.weight().name().equals(name)).findFirst().orElseThrow();
    }

    /** Elements of a patch count, those of each group of channels by themselves. */
    @Test
    void convolutionsCountByPatches() throws Exception {
        TestModel model = TestModel.of(10, 21);
        model.graph.input("x", TensorInfo.FLOAT, 1, 8, 9, 9).output("y", TensorInfo.FLOAT, 1, 8, 7, 7)
                .init("W", DType.F32, TestModel.random(2, 8 * 2 * 9), 8, 2, 3, 3);
        model.graph.node(new TestModel.NodeBuilder("Conv", "y", "x", "W").set("group", 4));
        Path in = model.write(folder, "w.onnx");
        Random random = new Random(1);
        float[] x = new float[8 * 81];
        for (int i = 0; i < x.length; i++) {
            // In each group one channel is large, another one in every second group.
            int channel = i / 81;
            x[i] = (float) random.nextGaussian() * (channel % 2 == channel / 2 % 2 ? 5 : 0.1f);
        }
        try (Compressor c = Compressor.open(in, Compressor.Options.DEFAULT.overwrite(true));
                Statistics s = statistics(c, x, Shape.of(1, 8, 9, 9), true); Statistics channels = statistics(c, x, Shape.of(1, 8, 9, 9), false)) {
            c.use(s);
            String codes = "bits: 3, clip: 30";
            c.compress(c.plan(recipe("quantize", codes)), folder.resolve("plain.onnx"));
            Plan plan = c.plan(recipe("quantize", codes + ", importance: inputs"));
            assertEquals("", plan.entries().getFirst().note());
            c.compress(plan, folder.resolve("found.onnx"));
            double plain = errors(in, folder.resolve("plain.onnx"), x, 1, 8, 9, 9)[0];
            double found = errors(in, folder.resolve("found.onnx"), x, 1, 8, 9, 9)[0];
            assertTrue(found < 0.9 * plain, found + " against " + plain);
            c.use(channels); // which have no patches
            assertTrue(c.plan(recipe("quantize", codes + ", importance: inputs")).entries().getFirst().note().contains("nothing is known"));
        }
    }

    /** Fixed-point numbers by every method and in every grain; the report says which, and they are in the file. */
    @Test
    void powersOfTwo() throws Exception {
        Path model = products();
        try (Compressor c = Compressor.open(model, Compressor.Options.DEFAULT.overwrite(true));
                Statistics s = statistics(c, inputs(K), Shape.of(ROWS, K), true)) {
            c.use(s);
            for (String codes : List.of("bits: 8", "bits: 8, per: tensor", "bits: 8, block: 32", "bits: 4, block: 32, symmetric: false",
                    "bits: 8, range: full", "bits: 4, block: 16, clip: '5:0.1'", "bits: 8, activations: dynamic")) {
                for (String method : List.of("quantize", "gptq")) {
                    Plan plan = c.plan(recipe(method, codes + ", scale: power-of-two"));
                    Plan.Entry a = entry(plan, "A");
                    int bits = codes.contains("8") ? 8 : 4;
                    assertTrue(a.describe().endsWith(" Q(" + (bits - 1) + "-n).n"), a.describe());
                    Report report = c.compress(plan, folder.resolve("f.onnx"));
                    Report.FixedPoint found = entry(report, "A").fixedPoint();
                    assertTrue(found.bits() == bits && found.least() <= found.most(), found.describe());
                    // Elements are at most about 1, of which the least step is that of one bit behind the point for each bit.
                    assertTrue(found.most() <= bits + 2 && found.least() >= bits - 4, codes + " " + found.describe());
                    assertTrue(report.toJson().contains("\"fixedPoint\" : \"" + found.describe() + "\""));
                    assertNull(entry(c.compress(c.plan(recipe(method, codes)), folder.resolve("any.onnx")), "A").fixedPoint());
                    double any = entry(c.compress(c.plan(recipe(method, codes)), folder.resolve("any.onnx")), "A").relativeError();
                    assertTrue(entry(report, "A").relativeError() < 2.2 * any, codes);
                }
            }
            for (String steps : List.of("{factorize: {rank: 8}}, {quantize: {bits: 8, scale: power-of-two}}",
                    "{quantize: {bits: 4, block: 32, scale: power-of-two}}, {correct: {rank: 2}}",
                    "{prune: {sparsity: 0.5}}, {quantize: {bits: 8, scale: power-of-two}}")) {
                Recipe r = Recipe.read(Files.writeString(folder.resolve("r.yaml"), "name: r\nmin-size: 0\nsteps: [" + steps + "]"));
                Report report = c.compress(c.plan(r.exclude("T")), folder.resolve("f.onnx"));
                assertTrue(entry(report, "A").fixedPoint().bits() >= 4 && entry(report, "A").planned().describe().endsWith("-n).n"), steps);
            }
        }
    }

    @Test
    void scalesInTheFileArePowersOfTwo() throws Exception {
        Path model = products();
        int seen = 0;
        try (Compressor c = Compressor.open(model)) {
            c.compress(c.plan(Recipe.named("fixed8").set("min-size", "0")), folder.resolve("f.onnx"));
        }
        try (Compressor c = Compressor.open(folder.resolve("f.onnx"))) {
            for (var w : c.model().weights()) {
                if (w.tensor().dtype() == DType.F32 && w.tensor().shape().elements() > 1) {
                    for (float scale : weight(folder.resolve("f.onnx"), w.name())) {
                        assertEquals(0, Float.floatToIntBits(scale) & 0x7fffff, w.name() + " " + scale);
                        seen++;
                    }
                }
            }
        }
        assertEquals(2 * N + 50, seen);
    }
}
