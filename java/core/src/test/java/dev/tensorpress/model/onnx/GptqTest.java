package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.statistics.Gatherer;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.Request;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Weights that are rounded by what they are multiplied with, in whole models. */
final class GptqTest {
    private static final int K = 96;
    private static final int N = 40;
    private static final int ROWS = 600;
    private static final String CODES = "{bits: 4, block: 32, symmetric: false}";

    @TempDir
    Path folder;
    private final float[] x = inputs();

    /** Inputs whose channels are alike, and far from 0. */
    private static float[] inputs() {
        Random random = new Random(5);
        float[] x = new float[ROWS * K];
        for (int r = 0; r < ROWS; r++) {
            float common = (float) random.nextGaussian();
            for (int i = 0; i < K; i++) {
                x[r * K + i] = (float) (0.5 * random.nextGaussian() + common * (1 + i % 3) + (i % 5 == 0 ? 2 : 0));
            }
        }
        return x;
    }

    /** y = x A + a and z = x B^T + b, the first by MatMul and Add; a stands before A in the file, b behind B. */
    private Path model(DType bias) throws IOException {
        TestModel model = TestModel.of(10, 21);
        int type = TensorInfo.FLOAT;
        model.graph.input("x", type, -1, K).output("y", type, -1, N).output("z", type, -1, N)
                .init("a", bias, TestModel.random(1, N), N)
                .init("A", DType.F32, TestModel.random(2, K * N), K, N)
                .init("B", DType.F32, TestModel.random(3, K * N), N, K)
                .init("b", DType.F32, TestModel.random(4, N), N);
        model.graph.node("MatMul", "xA", "x", "A").node("Add", "y", "xA", "a")
                .node(new TestModel.NodeBuilder("Gemm", "z", "x", "B", "b").set("transB", 1));
        return model.write(folder, "m.onnx");
    }

    private Statistics statistics(Compressor compressor) throws IOException {
        return statistics(compressor, true);
    }

    private Statistics statistics(Compressor compressor, boolean gram) throws IOException {
        Graph graph = compressor.model().graph().orElseThrow();
        try (Executor executor = Executor.cpu(1); Gatherer gatherer = new Gatherer(Request.feeds(graph, gram), executor);
                Arena arena = Arena.ofShared()) {
            MemorySegment values = arena.allocate(4L * x.length, 64).copyFrom(MemorySegment.ofArray(x));
            for (Graph.Value value : gatherer.values()) {
                gatherer.accept(0, value, new Tensor(DType.F32, Shape.of(ROWS, K), values));
            }
            return gatherer.finish(Statistics.hash(compressor.model()), 1, "rows");
        }
    }

    private static Recipe recipe(Path folder, String step) throws IOException {
        return Recipe.read(Files.writeString(folder.resolve("r.yaml"), "name: r\nsteps:\n" + step));
    }

    private Recipe gptq(String more) throws IOException {
        return recipe(folder, "  - name: linear\n    select: {role: [linear, head], min-size: 0}\n    gptq: "
                + CODES.replace("}", more.isEmpty() ? "}" : ", " + more + "}") + "\n");
    }

    /** The compressed model's weights in f32, by what stands in the plan. */
    private Path compress(Path model, Recipe recipe, int threads, String name) throws IOException {
        try (Compressor c = Compressor.open(model, Compressor.Options.DEFAULT.threads(threads).overwrite(true)); Statistics s = statistics(c)) {
            c.use(s);
            Path out = folder.resolve(name);
            c.compress(c.plan(recipe), out);
            return out;
        }
    }

    private float[][] run(Path model) throws Exception {
        return Ort.run(model, x, ROWS, K);
    }

    private static double error(float[] exact, float[] found) {
        double sum = 0;
        for (int i = 0; i < exact.length; i++) {
            sum += (exact[i] - found[i]) * (double) (exact[i] - found[i]);
        }
        return sum;
    }

    private static double[] means(float[] y) {
        double[] mean = new double[N];
        for (int i = 0; i < y.length; i++) {
            mean[i % N] += y[i] / (double) ROWS;
        }
        return mean;
    }

    @Test
    void resultsAreNearerThanThoseOfRounding() throws Exception {
        Path model = model(DType.F32);
        float[][] exact = run(model);
        float[][] plain = run(compress(model, recipe(folder, "  - name: linear\n    select: {role: [linear, head], min-size: 0}\n    quantize: "
                + CODES + "\n"), 1, "plain.onnx"));
        float[][] kept = run(compress(model, gptq("bias: false"), 1, "kept.onnx"));
        float[][] found = run(compress(model, gptq(""), 1, "found.onnx"));
        for (int i = 0; i < 2; i++) {
            assertTrue(error(exact[i], kept[i]) < 0.3 * error(exact[i], plain[i]),
                    error(exact[i], kept[i]) + " against " + error(exact[i], plain[i]));
            assertTrue(error(exact[i], found[i]) < 0.9 * error(exact[i], kept[i]),
                    error(exact[i], found[i]) + " against " + error(exact[i], kept[i]));
            assertArrayEquals(means(exact[i]), means(found[i]), 2e-4, "the bias keeps means");
        }
    }

    @Test
    void descentGoesFurther() throws Exception {
        Path model = model(DType.F32);
        float[][] exact = run(model);
        float[][] without = run(compress(model, gptq("descent: 0"), 1, "without.onnx"));
        float[][] with = run(compress(model, gptq(""), 1, "with.onnx"));
        for (int i = 0; i < 2; i++) {
            assertTrue(error(exact[i], with[i]) < error(exact[i], without[i]));
        }
    }

    @Test
    void bytesDoNotDependOnThreads() throws Exception {
        Path model = model(DType.F32);
        assertArrayEquals(Files.readAllBytes(compress(model, gptq(""), 1, "one.onnx")),
                Files.readAllBytes(compress(model, gptq(""), 3, "three.onnx")));
    }

    @Test
    void biasesAreInThePlanUnlessSomethingElseIsMadeOfThem() throws Exception {
        Path model = model(DType.F32);
        try (Compressor c = Compressor.open(model); Statistics s = statistics(c)) {
            c.use(s);
            Plan plan = c.plan(gptq(""));
            assertEquals(4, plan.compressed());
            assertEquals("makes up for what A does to the mean", entry(plan, "a").note());
            assertEquals(3, c.plan(gptq("").exclude("b")).compressed());
            assertEquals(2, c.plan(gptq("bias: false")).compressed());
            assertEquals(2, c.plan(gptq("").exclude("A")).compressed());
        }
    }

    private static Plan.Entry entry(Plan plan, String name) {
        return plan.entries().stream().filter(e -> e.weight().name().equals(name)).findFirst().orElseThrow();
    }

    @Test
    void withoutStatisticsOrWithOthersItIsRefused() throws Exception {
        Path model = model(DType.F32);
        try (Compressor c = Compressor.open(model); Statistics s = statistics(c)) {
            UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () -> c.plan(gptq("")));
            assertTrue(e.getMessage().contains("calibrate"), e.getMessage());
            TestModel changed = TestModel.of(10, 21);
            changed.graph.input("x", TensorInfo.FLOAT, -1, K).output("y", TensorInfo.FLOAT, -1, N)
                    .init("A", DType.F32, TestModel.random(2, K * N), K, N);
            changed.graph.node("MatMul", "y", "x", "A");
            Path other = changed.write(folder, "other.onnx");
            try (Compressor d = Compressor.open(other)) {
                assertThrows(UnsupportedRequestException.class, () -> d.use(s));
            }
        }
    }

    @Test
    void withoutGramMatricesWeightsStay() throws Exception {
        try (Compressor c = Compressor.open(model(DType.F32)); Statistics s = statistics(c, false)) {
            c.use(s);
            assertEquals("the statistics have no Gram matrix of what it is multiplied with: they were made without (--no-gram)",
                    entry(c.plan(gptq("")), "A").note());
        }
    }

    /** Of a weight that two products read, one of them without a Gram matrix, the sums are known, but no Gram matrix. */
    @Test
    void aGramMatrixIsOneOfAllProducts() throws Exception {
        TestModel model = TestModel.of(10, 21);
        model.graph.input("x", TensorInfo.FLOAT, -1, K).input("z", TensorInfo.FLOAT, -1, K)
                .output("y", TensorInfo.FLOAT, -1, N).output("v", TensorInfo.FLOAT, -1, N)
                .init("A", DType.F32, TestModel.random(2, K * N), K, N);
        model.graph.node("MatMul", "y", "x", "A").node("MatMul", "v", "z", "A");
        try (Compressor c = Compressor.open(model.write(folder, "two.onnx")); Executor executor = Executor.cpu(1); Arena arena = Arena.ofShared()) {
            Graph graph = c.model().graph().orElseThrow();
            List<Request> requests = List.of(Request.of(graph.feeds().get(0), true).getFirst(), Request.of(graph.feeds().get(1), false).getFirst());
            try (Gatherer gatherer = new Gatherer(requests, executor)) {
                MemorySegment values = arena.allocate(4L * x.length, 64).copyFrom(MemorySegment.ofArray(x));
                for (Graph.Value value : gatherer.values()) {
                    gatherer.accept(0, value, new Tensor(DType.F32, Shape.of(ROWS, K), values));
                }
                try (Statistics s = gatherer.finish(Statistics.hash(c.model()), 1, "rows")) {
                    var a = InputStatistics.of(s, graph).of(c.model().weights().getFirst()).orElseThrow();
                    assertEquals(2 * ROWS, a.rows());
                    assertTrue(a.gram().isEmpty());
                    c.use(s);
                    assertTrue(entry(c.plan(gptq("")), "A").note().contains("no Gram matrix"));
                }
            }
        }
    }

    @Test
    void prunedWeightsKeepTheirZeros() throws Exception {
        Path model = model(DType.F32);
        Recipe recipe = recipe(folder, "  - name: prune\n    select: {role: [linear, head], min-size: 0}\n    prune: {sparsity: 0.5}\n"
                + "  - name: linear\n    select: {role: [linear, head], min-size: 0}\n    gptq: " + CODES + "\n");
        try (Compressor c = Compressor.open(model, Compressor.Options.DEFAULT.overwrite(true)); Statistics s = statistics(c)) {
            c.use(s);
            var report = c.compress(c.plan(recipe), folder.resolve("p.onnx"));
            assertTrue(report.sparsity().zerosReached() >= report.sparsity().zerosAsked(), report.sparsity().toString());
            assertTrue(report.sparsity().zerosAsked() >= K * N);
        }
    }

    /** Of such inputs a Gram matrix less the mean holds little but its own rounding: a constant, and 100 times more than what varies. */
    @Test
    void inputsThatHardlyVary() throws Exception {
        for (double varying : new double[] {0, 1e-3, 0.1}) {
            float[] varied = inputs();
            for (int i = 0; i < x.length; i++) {
                x[i] = (float) (10 + 3.7 * (i % K % 7) + varying * varied[i]);
            }
            Path model = model(DType.F32);
            float[][] exact = run(model);
            float[][] plain = run(compress(model, recipe(folder, "  - name: linear\n    select: {role: [linear, head], min-size: 0}\n"
                    + "    quantize: " + CODES + "\n"), 1, "plain.onnx"));
            for (String more : new String[] {"", "damping: 0"}) {
                float[][] found = assertTimeoutPreemptively(Duration.ofMinutes(1), () -> run(compress(model, gptq(more), 1, "found.onnx")));
                for (int i = 0; i < 2; i++) {
                    assertTrue(error(exact[i], found[i]) < 1e-3 * error(exact[i], plain[i]),
                            error(exact[i], found[i]) + " against " + error(exact[i], plain[i]));
                }
            }
            try (Compressor c = Compressor.open(model, Compressor.Options.DEFAULT.overwrite(true)); Statistics s = statistics(c)) {
                c.use(s);
                for (var e : c.compress(c.plan(gptq("")), folder.resolve("found.onnx")).entries()) {
                    assertTrue(!e.planned().weight().name().matches("A|B") || e.relativeError() < 0.2, e.planned().weight().name() + " " + e.relativeError());
                }
            }
        }
    }

    @Test
    void biasesAreAddedToOutputs() throws Exception {
        TestModel behind = TestModel.of(10, 21);
        behind.graph.input("x", TensorInfo.FLOAT, K, K).output("y", TensorInfo.FLOAT, K, K).output("z", TensorInfo.FLOAT, K, K)
                .init("A", DType.F32, TestModel.random(2, K * K), K, K).init("a", DType.F32, TestModel.random(1, K), K)
                .init("B", DType.F32, TestModel.random(3, K * K), K, K).init("b", DType.F32, TestModel.random(4, K), K);
        behind.graph.node("MatMul", "Ax", "A", "x").node("Add", "y", "Ax", "a").node("Gemm", "z", "B", "x", "b");
        for (boolean first : new boolean[] {true, false}) {
            try (Compressor c = Compressor.open(first ? behind.write(folder, "f.onnx") : model(DType.F32))) {
                c.model().graph().orElseThrow().feeds().forEach(f -> f.products().forEach(p -> assertEquals(!first, p.bias().isPresent())));
            }
        }
    }

    @Test
    void weightsThatProductsReadInDifferentWaysStay() throws Exception {
        TestModel model = TestModel.of(10, 21);
        model.graph.input("x", TensorInfo.FLOAT, 1, 8, 9, 9).input("z", TensorInfo.FLOAT, 1, 2, 9, 9)
                .output("y", TensorInfo.FLOAT, 1, 8, 7, 7).output("v", TensorInfo.FLOAT, 1, 8, 7, 7)
                .init("W", DType.F32, TestModel.random(2, 8 * 2 * 9), 8, 2, 3, 3);
        model.graph.node(new TestModel.NodeBuilder("Conv", "y", "x", "W").set("group", 4)).node("Conv", "v", "z", "W");
        try (Compressor c = Compressor.open(model.write(folder, "w.onnx")); Executor executor = Executor.cpu(1);
                Gatherer gatherer = new Gatherer(Request.feeds(c.model().graph().orElseThrow(), true), executor); Arena arena = Arena.ofShared()) {
            for (Graph.Value value : gatherer.values()) {
                Shape shape = Shape.of(1, value.name().equals("x") ? 8 : 2, 9, 9);
                gatherer.accept(0, value, new Tensor(DType.F32, shape, arena.allocate(4 * shape.elements(), 64)));
            }
            try (Statistics s = gatherer.finish(Statistics.hash(c.model()), 1, "zeros")) {
                c.use(s);
                Plan plan = c.plan(recipe(folder, "  - name: conv\n    select: {role: conv, min-size: 0}\n    gptq: {bits: 4}\n"));
                assertEquals(0, plan.compressed());
                assertTrue(entry(plan, "W").note().contains("nothing is known"), entry(plan, "W").note());
            }
        }
    }

    /** A convolution by depth has 9 inputs in each group, and one output. */
    @Test
    void fewerInputsThanABlock() throws Exception {
        TestModel model = TestModel.of(10, 21);
        model.graph.input("x", TensorInfo.FLOAT, 1, 8, 9, 9).output("y", TensorInfo.FLOAT, 1, 8, 7, 7)
                .init("W", DType.F32, TestModel.random(2, 8 * 9), 8, 1, 3, 3);
        model.graph.node(new TestModel.NodeBuilder("Conv", "y", "x", "W").set("group", 8));
        try (Compressor c = Compressor.open(model.write(folder, "w.onnx")); Executor executor = Executor.cpu(1);
                Gatherer gatherer = new Gatherer(Request.feeds(c.model().graph().orElseThrow(), true), executor); Arena arena = Arena.ofShared()) {
            MemorySegment values = arena.allocate(4 * 8 * 81, 64).copyFrom(MemorySegment.ofArray(TestModel.random(3, 8 * 81)));
            gatherer.accept(0, gatherer.values().getFirst(), new Tensor(DType.F32, Shape.of(1, 8, 9, 9), values));
            try (Statistics s = gatherer.finish(Statistics.hash(c.model()), 1, "an image")) {
                c.use(s);
                Plan plan = c.plan(recipe(folder, "  - name: conv\n    select: {role: conv, min-size: 0}\n    gptq: {bits: 4}\n"));
                assertEquals(1, plan.compressed());
                double error = c.compress(plan, folder.resolve("q.onnx")).entries().getFirst().relativeError();
                assertTrue(error > 0 && error < 0.2, Double.toString(error));
            }
        }
    }
}
