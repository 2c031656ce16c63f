package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtSession;
import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Report;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.method.NonFiniteWeightException;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.TestModel.GraphBuilder;
import dev.tensorpress.model.onnx.TestModel.NodeBuilder;
import dev.tensorpress.model.safetensors.Safetensors;
import dev.tensorpress.model.safetensors.SafetensorsWriter;
import dev.tensorpress.statistics.Gatherer;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.Request;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.statistics.ValueStatistics;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.FloatBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Sizes that go from inputs to weights, in whole models. */
final class SmoothTest {
    private static final int FLOAT = TensorInfo.FLOAT;
    private static final int K = 64;
    private static final int ROWS = 300;
    private static final int OUTLIER = 5;

    @TempDir
    Path folder;

    /** A model with the input x, and the values that are shown when statistics are gathered. */
    private final class Built {
        final Consumer<GraphBuilder> graph;
        final long[] dims;
        final float[] x;
        String[] shown = {};

        Built(Consumer<GraphBuilder> graph, long... dims) {
            this.graph = graph;
            this.dims = dims;
            int n = 1;
            for (long d : dims) {
                n *= (int) d;
            }
            this.x = TestModel.random(77, n);
        }

        Path model(boolean all) throws IOException {
            TestModel model = TestModel.of(10, 21);
            long[] open = dims.clone();
            open[0] = -1;
            model.graph.input("x", FLOAT, open).output("y", FLOAT, named());
            graph.accept(model.graph);
            for (String name : all ? shown : new String[0]) {
                model.graph.output(name, FLOAT, named());
            }
            return model.write(folder, all ? "all.onnx" : "m.onnx");
        }

        private long[] named() {
            return IntStream.rangeClosed(1, dims.length).mapToLong(i -> -i).toArray();
        }

        Statistics statistics(Compressor compressor, Path all) throws Exception {
            Graph graph = compressor.model().graph().orElseThrow();
            Map<String, Tensor> values = run(all, dims, x);
            try (Executor executor = Executor.cpu(1); Gatherer gatherer = new Gatherer(Request.feeds(graph, true), executor)) {
                for (Graph.Value value : gatherer.values()) {
                    if (values.containsKey(value.name())) {
                        gatherer.accept(0, value, values.get(value.name()));
                    }
                }
                return gatherer.finish(Statistics.hash(compressor.model()), 1, "rows");
            }
        }

        Plan plan(String steps) throws Exception {
            Path model = model(false);
            try (Compressor c = Compressor.open(model); Statistics s = statistics(c, model(true))) {
                c.use(s);
                return c.plan(recipe(steps));
            }
        }

        Path compressed(String steps, int threads, String name) throws Exception {
            Path out = folder.resolve(name);
            report(steps, threads, out);
            return out;
        }

        Report report(String steps, int threads, Path out) throws Exception {
            Path model = model(false);
            try (Compressor c = Compressor.open(model, Compressor.Options.DEFAULT.overwrite(true).threads(threads)); Statistics s = statistics(c, model(true))) {
                c.use(s);
                return c.compress(c.plan(recipe(steps)), out);
            }
        }

        float[] y(Path model) throws Exception {
            return floats(run(model, dims, x).get("y"));
        }

        /** Of the results, as part of their energy. */
        double error(String steps) throws Exception {
            float[] exact = y(model(false));
            return error(exact, y(compressed(steps, 1, "e.onnx")));
        }

        private static double error(float[] exact, float[] found) {
            double sum = 0;
            double all = 0;
            for (int i = 0; i < exact.length; i++) {
                sum += (exact[i] - found[i]) * (double) (exact[i] - found[i]);
                all += exact[i] * (double) exact[i];
            }
            return sum / all;
        }
    }

    /** All outputs, and the input, which is one value that products may read. */
    private static Map<String, Tensor> run(Path model, long[] dims, float[] x) throws Exception {
        OrtEnvironment environment = OrtEnvironment.getEnvironment();
        Map<String, Tensor> all = new LinkedHashMap<>();
        all.put("x", tensor(dims, x));
        try (OrtSession.SessionOptions o = new OrtSession.SessionOptions(); OrtSession s = environment.createSession(model.toString(), o);
                OnnxTensor input = OnnxTensor.createTensor(environment, FloatBuffer.wrap(x), dims);
                OrtSession.Result result = s.run(Map.of("x", input))) {
            for (var e : result) {
                OnnxTensor t = (OnnxTensor) e.getValue();
                FloatBuffer values = t.getFloatBuffer();
                float[] floats = new float[values.remaining()];
                values.get(floats);
                all.put(e.getKey(), tensor(t.getInfo().getShape(), floats));
            }
        }
        return all;
    }

    private static Tensor tensor(long[] dims, float[] x) {
        MemorySegment data = Arena.ofAuto().allocate(4L * x.length, 64).copyFrom(MemorySegment.ofArray(x));
        return new Tensor(DType.F32, Shape.of(dims), data);
    }

    private static float[] floats(Tensor t) {
        return t.data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
    }

    private Recipe recipe(String steps) throws IOException {
        return Recipe.read(Files.writeString(folder.resolve("r.yaml"), "name: r\nmin-size: 0\nsteps:\n" + steps));
    }

    private static String smooth(String options) {
        return "  - name: smooth\n    select: {role: [linear, head, conv]}\n    smooth: {" + options + "}\n";
    }

    private static String codes(String method, String options) {
        return "  - name: codes\n    select: {role: [linear, head, conv]}\n    " + method + ": {" + options + "}\n";
    }

    private static GraphBuilder matrix(GraphBuilder g, String name, int seed, long... dims) {
        int n = 1;
        for (long d : dims) {
            n *= (int) d;
        }
        float[] w = TestModel.random(seed, n);
        for (int i = 0; i < n; i++) {
            w[i] /= 8;
        }
        return g.init(name, DType.F32, w, dims);
    }

    /** About 1, but for some that are large, as in language models. */
    private static float[] scale() {
        float[] s = TestModel.random(9, K);
        for (int i = 0; i < K; i++) {
            s[i] = 1 + 0.3f * s[i];
        }
        s[OUTLIER] = 40;
        s[OUTLIER + 20] = 25;
        return s;
    }

    /** A normalization, whose results two products read, one of which is transposed. */
    private Built normalized() {
        Built b = new Built(g -> {
            g.init("s", DType.F32, scale(), K).init("b", DType.F32, TestModel.random(8, K), K);
            matrix(matrix(g, "q", 1, K, K), "k", 2, K, K);
            g.node("LayerNormalization", "n", "x", "s", "b").node("MatMul", "qx", "n", "q").node(new NodeBuilder("Gemm", "kx", "n", "k").set("transB", 1))
                    .node("Sub", "y", "qx", "kx");
        }, ROWS, K);
        b.shown = new String[] {"n"};
        return b;
    }

    /** Products with a bias and a gate between, and one by which nothing can be divided. */
    private Built products() {
        Built b = new Built(g -> {
            matrix(matrix(matrix(g, "up", 1, K, 2 * K), "gate", 2, K, 2 * K), "down", 3, 2 * K, K);
            g.init("b", DType.F32, TestModel.random(8, 2 * K), 2 * K);
            g.node("MatMul", "ux", "x", "up").node("Add", "u", "ux", "b").node("MatMul", "gx", "x", "gate").node("Sigmoid", "a", "gx")
                    .node("Mul", "h", "a", "u").node("MatMul", "y", "h", "down");
        }, ROWS, K);
        b.shown = new String[] {"h"};
        return b;
    }

    /** Convolutions: by depth, with a normalization behind, and in groups. */
    private Built convolutions() {
        Built b = new Built(g -> {
            matrix(matrix(matrix(matrix(g, "c1", 1, 16, 8, 3, 3), "c2", 2, 16, 1, 3, 3), "c3", 3, 16, 4, 1, 1), "c4", 4, 8, 16, 3, 3);
            float[] b1 = TestModel.random(5, 16);
            float[] var = TestModel.random(6, 16);
            for (int i = 0; i < 16; i++) {
                var[i] = 0.5f + var[i] * var[i];
            }
            g.init("b1", DType.F32, b1, 16).init("s", DType.F32, TestModel.random(7, 16), 16).init("v", DType.F32, var, 16);
            g.node("Conv", "m1", "x", "c1", "b1").node("Relu", "h1", "m1").node(new NodeBuilder("Conv", "m2", "h1", "c2").set("group", 16).ints("pads", 1, 1, 1, 1))
                    .node("BatchNormalization", "n2", "m2", "s", "beta", "mean", "v").node("LeakyRelu", "h2", "n2")
                    .node(new NodeBuilder("Conv", "m3", "h2", "c3").set("group", 4)).node("PRelu", "h3", "m3", "slope").node("Conv", "y", "h3", "c4");
            g.init("beta", DType.F32, b1, 16).init("mean", DType.F32, b1, 16).init("slope", DType.F32, new float[] {0.2f}, 1);
        }, 2, 8, 12, 12);
        b.shown = new String[] {"h1", "h2", "h3"};
        return b;
    }

    @Test
    void modelsComputeWhatTheyDid() throws Exception {
        Map<String, Built> all = Map.of("normalized", normalized(), "products", products(), "convolutions", convolutions());
        Map<String, Integer> changed = Map.of("normalized smoothquant", 4, "normalized equalization", 0, "products smoothquant", 3,
                "products equalization", 3, "convolutions smoothquant", 7, "convolutions equalization", 5);
        for (String model : all.keySet()) {
            for (String by : new String[] {"smoothquant", "equalization"}) {
                Built b = all.get(model);
                Plan plan = b.plan(smooth("by: " + by));
                assertEquals(changed.get(model + " " + by), plan.compressed(), model + " " + by);
                assertEquals(plan.bytesBefore(), plan.after());
                double error = b.error(smooth("by: " + by));
                assertTrue(error < 1e-11 && (plan.compressed() == 0 || error > 0), model + " " + by + ": " + error);
            }
        }
    }

    @Test
    void outliersOfInputsDoNotTakeTheBitsOfOthers() throws Exception {
        Built b = normalized();
        String dynamic = codes("quantize", "bits: 8, per: channel, activations: dynamic");
        double plain = b.error(dynamic);
        assertTrue(b.error(smooth("by: smoothquant") + dynamic) < 0.2 * plain);
        assertTrue(b.error(smooth("by: smoothquant, alpha: 0") + dynamic) < 1.5 * plain);
    }

    @Test
    void codesByTheErrorOfCodes() throws Exception {
        Built b = normalized();
        String four = codes("quantize", "bits: 4, block: 16");
        String counted = codes("quantize", "bits: 4, block: 16, clip: {steps: 8, min: 0.7}, importance: inputs");
        assertTrue(b.error(smooth("by: awq") + counted) < b.error(counted));
        String gptq = codes("gptq", "bits: 4, block: 16, bias: false");
        double plain = b.error(four);
        double awq = b.error(smooth("by: awq") + four);
        assertTrue(awq < 0.8 * plain, awq + " against " + plain);
        assertTrue(b.error(smooth("by: awq, grid: 1") + four) <= 1.001 * plain);
        double feedback = b.error(gptq);
        double both = b.error(smooth("by: awq") + gptq);
        assertTrue(both < 1.05 * feedback && both < 0.8 * awq, both + " against " + feedback + " and " + awq);
        // Whoever rounds the smoothed weights by what the inputs were before does worse than rounding to nearest.
        double without = b.error(smooth("by: smoothquant") + gptq);
        assertTrue(without < 1.5 * feedback, without + " against " + feedback);
    }

    /** The next step's blocks do not fit kernels by depth, of which the target makes channels. */
    @Test
    void errorsAreThoseOfWhatTheTargetStores() throws Exception {
        Built line = new Built(g -> {
            matrix(matrix(g, "c1", 1, 32, 8, 1), "c2", 2, 32, 1, 9);
            g.node("Conv", "m1", "x", "c1").node("Relu", "h1", "m1").node(new NodeBuilder("Conv", "y", "h1", "c2").set("group", 32));
        }, 2, 8, 40);
        line.shown = new String[] {"h1"};
        for (Built b : List.of(line, convolutions())) {
            for (String codes : List.of(codes("quantize", "bits: 8, block: 32"), codes("gptq", "bits: 8, block: 32"))) {
                for (String insert : List.of("", ", insert: true")) {
                    double error = b.error(smooth("by: awq" + insert) + codes);
                    assertTrue(error > 0 && error < 1e-3, codes + insert + ": " + error);
                }
            }
        }
    }

    /** Gathered of x and divided, and gathered of x divided: of channels, and of patches in groups. */
    @Test
    void statisticsAreThoseOfDividedInputs() throws Exception {
        Built[] all = {new Built(g -> matrix(g, "w", 1, K, K).node("MatMul", "y", "x", "w"), ROWS, K),
            new Built(g -> matrix(g, "w", 1, 12, 4, 3, 3).node(new NodeBuilder("Conv", "y", "x", "w").set("group", 2).ints("pads", 1, 1, 1, 1)), 2, 8, 9, 9)};
        for (Built b : all) {
            int channels = (int) b.dims[1];
            double[] by = IntStream.range(0, channels).mapToDouble(c -> 0.3 + c % 7).toArray();
            int inner = (int) (Shape.of(b.dims).elements() / b.dims[0] / channels);
            float[] x = b.x.clone();
            ValueStatistics divided;
            try (Compressor c = Compressor.open(b.model(false)); Statistics s = b.statistics(c, b.model(true))) {
                InputStatistics inputs = InputStatistics.of(s, c.model().graph().orElseThrow());
                divided = inputs.divided(Map.of("w", by)).of(c.model().weights().getFirst()).orElseThrow();
            }
            for (int i = 0; i < x.length; i++) {
                b.x[i] = (float) (x[i] / by[i / inner % channels]);
            }
            try (Compressor c = Compressor.open(b.model(false)); Statistics s = b.statistics(c, b.model(true))) {
                ValueStatistics gathered = InputStatistics.of(s, c.model().graph().orElseThrow()).of(c.model().weights().getFirst()).orElseThrow();
                assertEquals(gathered.rows(), divided.rows());
                assertArrayEquals(gathered.min(), divided.min());
                assertArrayEquals(gathered.max(), divided.max());
                assertArrayEquals(gathered.sum(), divided.sum(), 1e-4);
                assertArrayEquals(gathered.squares(), divided.squares(), 1e-3);
                double[] gram = divided.gram().orElseThrow().toArray(ValueLayout.JAVA_DOUBLE);
                assertArrayEquals(gathered.gram().orElseThrow().toArray(ValueLayout.JAVA_DOUBLE), gram, 1e-2);
                int k = divided.channels() / divided.groups();
                for (int i = 0; i < gram.length; i++) {
                    assertEquals(gram[i], gram[i / (k * k) * k * k + i % k * k + i / k % k]);
                }
                assertTrue(divided.histogram().isEmpty());
            }
        }
    }

    private static Plan.Entry entry(Plan plan, String name) {
        return plan.entries().stream().filter(e -> e.weight().name().equals(name)).findFirst().orElseThrow();
    }

    private static String note(Plan plan, String name) {
        return entry(plan, name).note();
    }

    @Test
    void plansSayWhatIsDividedAndWhyOthersAreNot() throws Exception {
        Plan plan = normalized().plan(smooth("by: smoothquant") + codes("quantize", "bits: 8"));
        assertTrue(note(plan, "s").matches("divided by [0-9.]+ to [0-9.]+, by which q, k are multiplied"), note(plan, "s"));
        assertTrue(note(plan, "q").matches("its inputs are divided by [0-9.]+ to [0-9.]+"), note(plan, "q"));
        assertEquals(2, entry(plan, "q").steps().size());
        assertEquals(1, entry(plan, "s").steps().size());
        plan = normalized().plan(smooth("by: equalization") + codes("quantize", "bits: 8"));
        assertEquals("no smooth: its input comes from no product, but from s", note(plan, "q"));
        plan = products().plan(smooth("by: awq") + "  - name: head\n    select: {role: head}\n    quantize: {bits: 8}\n");
        assertEquals("nothing before x can be scaled in exchange", note(plan, "gate"));
        assertTrue(note(plan, "up").endsWith("by which down is multiplied"), note(plan, "up"));
        plan = products().plan(smooth("by: awq"));
        assertEquals("no step behind makes codes of it, whose error could be less", note(plan, "down"));
        plan = normalized().plan("  - name: smooth\n    select: {name: q}\n    smooth: {}\n");
        assertEquals("k, which has the same input, is not selected", note(plan, "q"));
        plan = normalized().plan(smooth("") + "exclude: [b]\n");
        assertEquals("b has to stay: excluded", note(plan, "q"));
        plan = normalized().plan("  - name: cut\n    select: {name: q}\n    prune: {sparsity: 0.5}\n" + smooth(""));
        assertEquals("no smooth: q has to stay: step cut takes it before", note(plan, "q"));
    }

    /** They are changed together, so that nothing that is refused later may take one of them out. */
    @Test
    void whatIsRefusedLaterIsSmoothedAllTheSame() throws Exception {
        Built b = normalized();
        String prune = codes("prune", "sparsity: 0.5");
        Plan plan = b.plan(smooth("by: smoothquant") + prune);
        assertTrue(note(plan, "q").contains("nothing else: prune looks at the weight as the model has it"), note(plan, "q"));
        assertEquals(4, plan.compressed());
        assertTrue(b.error(smooth("by: smoothquant") + prune) < 1e-11);
        plan = b.plan(smooth("by: smoothquant") + "  - name: codes\n    select: {name: q}\n    quantize: {bits: 8}\n");
        assertTrue(entry(plan, "k").form().dense());
        assertTrue(b.error(smooth("by: smoothquant") + "  - name: codes\n    select: {name: q}\n    quantize: {bits: 8}\n") < 1e-3);
    }

    /** A normalization that a sum reads as well, as in BERT: MatMul, Gemm, and a matrix that is transposed by a node. */
    private Built summed() {
        Built b = new Built(g -> {
            g.init("s", DType.F32, scale(), K).init("b", DType.F32, TestModel.random(8, K), K);
            matrix(matrix(matrix(g, "q", 1, K, K), "k", 2, K, K), "v", 3, K, K);
            g.node("LayerNormalization", "n", "x", "s", "b").node("MatMul", "qx", "n", "q").node(new NodeBuilder("Gemm", "kx", "n", "k", "b").set("transB", 1))
                    .node(new NodeBuilder("Transpose", "vt", "v").ints("perm", 1, 0)).node("MatMul", "vx", "n", "vt")
                    .node("Sub", "d", "qx", "kx").node("Add", "e", "d", "vx").node("Add", "y", "e", "n");
        }, ROWS, K);
        b.shown = new String[] {"n"};
        return b;
    }

    @Test
    void operatorsDivideWhatNothingElseCan() throws Exception {
        Built b = summed();
        assertEquals("something else than products reads n too", note(b.plan(smooth("")), "q"));
        Plan plan = b.plan(smooth("insert: true"));
        for (String w : new String[] {"q", "k", "v"}) {
            assertTrue(note(plan, w).endsWith(", by an operator of its own"), note(plan, w));
        }
        assertEquals(3, plan.compressed());
        Path out = b.compressed(smooth("insert: true"), 1, "i.onnx");
        assertEquals(plan.after(), Files.size(out));
        assertTrue(Built.error(b.y(b.model(false)), b.y(out)) < 1e-11);
        String[] all = {codes("quantize", "bits: 8, activations: dynamic"), codes("quantize", "bits: 4, block: 16"), codes("quantize", "bits: 3, per: tensor"),
            codes("gptq", "bits: 4, block: 16"), codes("factorize", "rank: 20")};
        for (String target : new String[] {"onnxruntime", "onnx"}) {
            for (String steps : all) {
                String by = steps.contains("dynamic") ? "by: smoothquant" : "by: smoothquant, alpha: 0.2";
                double plain = b.error(steps + "target: " + target + "\n");
                double with = b.error(smooth(by + ", insert: true") + steps + "target: " + target + "\n");
                assertTrue(with < (steps.contains("dynamic") ? 0.3 : steps.contains("gptq") ? 1.5 : 1) * plain, steps + target + ": " + with + " against " + plain);
            }
        }
    }

    @Test
    void operatorsStandBeforeSingleProductsAlone() throws Exception {
        Built b = new Built(g -> {
            matrix(matrix(g, "q", 1, K, K), "c", 2, K, K).node("MatMul", "m", "x", "q").node("Softmax", "h", "m").node("MatMul", "z", "h", "q")
                    .node("Add", "e", "m", "z").node(new NodeBuilder("Gemm", "y", "e", "c").set("alpha", 0.5f));
        }, ROWS, K);
        b.shown = new String[] {"h", "e"};
        Plan plan = b.plan(smooth("insert: true"));
        assertEquals(0, plan.compressed());
        for (String w : new String[] {"q", "c"}) {
            assertTrue(note(plan, w).startsWith("no operator can divide what it is multiplied with"), note(plan, w));
        }
    }

    @Test
    void reportsMeasureWhatIsLostBeyond() throws Exception {
        Report report = normalized().report(smooth("by: smoothquant") + codes("quantize", "bits: 8"), 1, folder.resolve("r.onnx"));
        for (Report.Entry e : report.entries()) {
            assertTrue(e.relativeError() < 0.02 && (e.relativeError() == 0) == e.planned().form().dense(), e.planned().weight().name() + " " + e.relativeError());
        }
    }

    @Test
    void biasesThatTakeOnTheMeanAreDividedFirst() throws Exception {
        Built b = new Built(g -> {
            matrix(matrix(g, "a", 1, K, K), "c", 2, K, K).init("b", DType.F32, scale(), K);
            g.node("MatMul", "ax", "x", "a").node("Add", "ab", "ax", "b").node("Relu", "h", "ab").node("MatMul", "y", "h", "c");
        }, ROWS, K);
        b.shown = new String[] {"h"};
        Plan plan = b.plan(smooth("by: smoothquant") + codes("gptq", "bits: 4, block: 16"));
        assertEquals(2, entry(plan, "b").steps().size());
        assertTrue(note(plan, "b").endsWith("; makes up for what a does to the mean"), note(plan, "b"));
        double both = b.error(smooth("by: smoothquant, alpha: 0.3") + codes("gptq", "bits: 4, block: 16"));
        double plain = b.error(codes("quantize", "bits: 4, block: 16"));
        assertTrue(both < plain, both + " against " + plain);
    }

    @Test
    void theSameBytesForAnyNumberOfThreads() throws Exception {
        String steps = smooth("by: awq") + codes("gptq", "bits: 4, block: 16");
        assertArrayEquals(Files.readAllBytes(normalized().compressed(steps, 1, "one.onnx")), Files.readAllBytes(normalized().compressed(steps, 3, "three.onnx")));
        String equal = smooth("by: equalization");
        assertArrayEquals(Files.readAllBytes(convolutions().compressed(equal, 1, "one.onnx")),
                Files.readAllBytes(convolutions().compressed(equal, 3, "three.onnx")));
    }

    /** SmoothQuant by its formula, dead channels and dead weights included. */
    @Test
    void deadChannelsKeepTheirSizes() throws Exception {
        float[] s = scale();
        float[] zeros = new float[K];
        float[] q = TestModel.random(1, K * K);
        s[3] = 0;
        for (int j = 0; j < K; j++) {
            q[7 * K + j] = 0;
        }
        Built b = new Built(g -> g.init("s", DType.F32, s, K).init("b", DType.F32, zeros, K).init("q", DType.F32, q, K, K)
                .node("LayerNormalization", "n", "x", "s", "b").node("MatMul", "y", "n", "q"), ROWS, K);
        b.shown = new String[] {"n"};
        float[] n = floats(run(b.model(true), b.dims, b.x).get("n"));
        try (Compressor c = Compressor.open(b.compressed(smooth("alpha: 0.7"), 1, "s.onnx"))) {
            float[] then = floats(c.model().weights().getFirst().tensor());
            for (int i = 0; i < K; i++) {
                double x = 0;
                double w = 0;
                for (int r = 0; r < ROWS; r++) {
                    x = Math.max(x, Math.abs(n[r * K + i]));
                }
                for (int j = 0; j < K; j++) {
                    w = Math.max(w, Math.abs(q[i * K + j]));
                }
                double by = x == 0 || w == 0 ? 1 : Math.pow(x, 0.7) / Math.pow(w, 0.3);
                assertEquals(s[i] / by, then[i], 1e-6 * Math.abs(then[i]), "channel " + i);
            }
        }
    }

    /** Largest magnitudes of outputs before and of inputs behind are the same in the end. */
    @Test
    void equalizationMakesRangesEqual() throws Exception {
        try (Compressor c = Compressor.open(convolutions().compressed(smooth("by: equalization"), 1, "s.onnx"))) {
            Map<String, float[]> w = new LinkedHashMap<>();
            c.model().weights().forEach(x -> w.put(x.name(), floats(x.tensor())));
            for (int i = 0; i < 16; i++) {
                double out = 0;
                for (int j = 0; j < 72; j++) {
                    out = Math.max(out, Math.abs(w.get("c1")[i * 72 + j]));
                }
                double depth = 0;
                for (int j = 0; j < 9; j++) {
                    depth = Math.max(depth, Math.abs(w.get("c2")[i * 9 + j]));
                }
                double point = 0;
                for (int j = 0; j < 4; j++) {
                    point = Math.max(point, Math.abs(w.get("c3")[i * 4 + j]));
                }
                double in = 0;
                for (int o = 0; o < 8; o++) {
                    for (int j = 0; j < 9; j++) {
                        in = Math.max(in, Math.abs(w.get("c4")[(o * 16 + i) * 9 + j]));
                    }
                }
                assertEquals(out, depth, 1e-3 * out);
                assertEquals(point, in, 1e-3 * in);
            }
        }
    }

    @Test
    void halvesStayInRange() throws Exception {
        float[] s = scale();
        Built b = new Built(g -> {
            float[] w = TestModel.random(1, K * K);
            for (int j = 0; j < K; j++) {
                w[OUTLIER * K + j] *= 3000;
                w[9 * K + j] *= 1e-5f;
            }
            g.init("s", DType.F16, s, K).init("w", DType.F16, w, K, K).node(new NodeBuilder("Cast", "s32", "s").set("to", FLOAT)).node(new NodeBuilder("Cast", "w32", "w").set("to", FLOAT))
                    .node("LayerNormalization", "n", "x", "s32").node("MatMul", "y", "n", "w32");
        }, ROWS, K);
        b.shown = new String[] {"n"};
        Plan plan = b.plan(smooth("alpha: 1"));
        assertEquals(2, plan.compressed());
        float[] y = b.y(b.compressed(smooth("alpha: 1"), 1, "h.onnx"));
        float[] exact = b.y(b.model(false));
        assertTrue(Built.error(exact, y) < 1e-6, Double.toString(Built.error(exact, y)));
    }

    /** As files that were made elsewhere can be. */
    @Test
    void statisticsWithoutRanges() throws Exception {
        Built b = normalized();
        Path file = folder.resolve("s.safetensors");
        Path less = folder.resolve("less.safetensors");
        try (Compressor c = Compressor.open(b.model(false)); Statistics s = b.statistics(c, b.model(true))) {
            s.save(file, true);
        }
        try (Safetensors in = Safetensors.open(file); FileChannel to = FileChannel.open(less, StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
            List<SafetensorsWriter.Item> items = new ArrayList<>();
            for (Safetensors.Entry e : in.inOrder()) {
                if (!e.name().endsWith(".min") && !e.name().endsWith(".max")) {
                    items.add(new SafetensorsWriter.Item(e.name(), e.dtype(), e.shape(), SafetensorsWriter.Data.of(in.tensor(e).data())));
                }
            }
            new SafetensorsWriter(items, in.metadata()).write(to);
        }
        try (Compressor c = Compressor.open(b.model(false)); Statistics s = Statistics.load(less)) {
            c.use(s);
            assertEquals("the statistics do not say how large what it is multiplied with gets", note(c.plan(recipe(smooth("insert: true"))), "q"));
            String codes = codes("quantize", "bits: 4, block: 16");
            assertEquals(4, c.plan(recipe(smooth("by: awq") + codes)).compressed());
        }
    }

    @Test
    void whatCannotBe() throws Exception {
        Built b = normalized();
        try (Compressor c = Compressor.open(b.model(false))) {
            UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () -> c.plan(recipe(smooth(""))));
            assertTrue(e.getMessage().contains("calibrate"), e.getMessage());
            assertEquals(0, c.plan(recipe(smooth("by: equalization"))).compressed());
        }
        Built bad = new Built(g -> {
            float[] w = TestModel.random(1, K * K);
            w[70] = Float.NaN;
            g.init("s", DType.F32, scale(), K).init("w", DType.F32, w, K, K).node("LayerNormalization", "n", "x", "s").node("MatMul", "m", "n", "w");
            matrix(g, "v", 2, K, K).node("Relu", "r", "x").node("MatMul", "y", "r", "v");
        }, ROWS, K);
        bad.shown = new String[] {"n", "r"};
        NonFiniteWeightException e = assertThrows(NonFiniteWeightException.class, () -> bad.plan(smooth("")));
        assertEquals(70, e.index());
    }
}
