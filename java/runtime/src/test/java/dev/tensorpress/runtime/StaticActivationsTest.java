package dev.tensorpress.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.Runner;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.statistics.Gatherer;
import dev.tensorpress.statistics.Request;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Products and convolutions of codes that are fixed before, in ONNX Runtime. */
class StaticActivationsTest {
    private static final int C = 8;

    @TempDir
    Path folder;

    private static float[] values(int n, int seed, double size) {
        Random random = new Random(seed);
        float[] values = new float[n];
        for (int i = 0; i < n; i++) {
            values[i] = (float) (random.nextGaussian() * size);
        }
        return values;
    }

    private static float[] filled(int n, float value) {
        float[] values = new float[n];
        Arrays.fill(values, value);
        return values;
    }

    private static TinyModel images(String outputs) {
        return new TinyModel().input("x", TinyModel.FLOAT, "1 " + C + " 12 12").output("y", TinyModel.FLOAT, outputs);
    }

    /** Batch normalization with scales of both signs, hard swish as exporters spell it out, a clamp, groups, and what is not fused. */
    private Path convolutions() throws IOException {
        float[] scales = values(C, 2, 1);
        scales[0] = -1.5f;
        scales[1] = 0.7f;
        return images("1 4 8 8")
                .weight("first", values(C * C * 9, 1, 0.2), C, C, 3, 3).weight("scale", scales, C).weight("bias", values(C, 3, 0.5), C)
                .weight("mean", values(C, 4, 0.1), C).weight("variance", filled(C, 0.5f), C)
                .weight("three", new float[] {3}).weight("zero", new float[] {0}).weight("six", new float[] {6})
                .weight("deep", values(C * 9, 5, 0.5), C, 1, 3, 3).weight("shift", values(C, 6, 0.3), C)
                .weight("last", values(4 * C, 7, 0.4), 4, C, 1, 1).weight("factor", new float[] {-0.8f}).weight("add", values(4, 8, 0.2), 1, 4, 1, 1)
                .node("Conv", "x first -> c0").node("BatchNormalization", "c0 scale bias mean variance -> b0").node("Add", "b0 three -> h0")
                .node("Clip", "h0 zero six -> h1").node("Mul", "b0 h1 -> h2").node("Div", "h2 six -> a0")
                .node("Conv", "a0 deep shift -> c1", "group", C).node("Relu", "c1 -> a1")
                .node("Conv", "a1 last -> c2").node("Mul", "c2 factor -> c3").node("Add", "c3 add -> c4").node("Sigmoid", "c4 -> y")
                .write(folder.resolve("m.onnx"));
    }

    private static Statistics gather(Compressor c, Path model, int samples) throws IOException {
        List<Request> requests = Request.feeds(c.model().graph().orElseThrow(), true);
        try (Executor executor = Executor.cpu(1)) {
            return Gatherer.gather(model, Statistics.hash(c.model()), requests, OnnxRunner.of(Samples.random(c.model(), samples, 1, Map.of()), 1),
                    executor, (done, total) -> { });
        }
    }

    private Plan compress(Path model, Recipe recipe, int threads, Path out) throws IOException {
        try (Compressor c = Compressor.open(model, Compressor.Options.DEFAULT.overwrite(true).threads(threads)); Statistics s = gather(c, model, 8)) {
            c.use(s);
            Plan plan = c.plan(recipe);
            c.compress(plan, out);
            return plan;
        }
    }

    private Recipe recipe(String quantize) throws IOException {
        return Recipe.read(Files.writeString(folder.resolve("r.yaml"),
                "name: r\nmin-size: 0\nsteps:\n  - select: {role: [linear, head, conv]}\n    " + quantize + "\n"));
    }

    private static Map<String, Integer> operators(Path model) throws IOException {
        Map<String, Integer> count = new TreeMap<>();
        try (Compressor c = Compressor.open(model)) {
            for (Graph.Operator o : c.model().graph().orElseThrow().operators()) {
                count.merge(o.type(), 1, Integer::sum);
            }
        }
        return count;
    }

    /** Outputs of another sample than those that calibration has seen. */
    private static float[] run(Path original, Path model) throws IOException {
        List<Float> all = new ArrayList<>();
        try (Compressor c = Compressor.open(original); Compressor shown = Compressor.open(model)) {
            Graph.Value y = shown.model().graph().orElseThrow().operators().stream().flatMap(o -> o.results().stream())
                    .filter(Graph.Value::isOutput).findFirst().orElseThrow();
            try (Runner runner = OnnxRunner.of(Samples.random(c.model(), 3, 99, Map.of()), 1).open(model, List.of(y))) {
                for (int i = 0; i < 3; i++) {
                    runner.run(i, (value, tensor) -> add(all, tensor));
                }
            }
        }
        float[] values = new float[all.size()];
        for (int i = 0; i < values.length; i++) {
            values[i] = all.get(i);
        }
        return values;
    }

    private static void add(List<Float> to, Tensor t) {
        for (long i = 0; i < t.shape().elements(); i++) {
            to.add(t.data().get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4 * i));
        }
    }

    /** Squares of differences by the variance. */
    private static double lost(float[] a, float[] b) {
        assertEquals(a.length, b.length);
        double mean = 0;
        for (float v : a) {
            mean += v / a.length;
        }
        double error = 0;
        double variance = 0;
        for (int i = 0; i < a.length; i++) {
            error += (a[i] - b[i]) * (double) (a[i] - b[i]);
            variance += (a[i] - mean) * (a[i] - mean);
        }
        return error / variance;
    }

    @Test
    void convolutionsWithWhatStandsBehindThem() throws IOException {
        Path model = convolutions();
        Path out = folder.resolve("out.onnx");
        for (String weights : List.of("s8", "u8", "s7")) {
            compress(model, recipe("quantize: {activations: static, weights: " + weights + ", noise: 1}"), 1, out);
            assertEquals(Map.of("QuantizeLinear", 1, "QLinearConv", 3, "QLinearAdd", 1, "QLinearMul", 1, "DequantizeLinear", 1, "Sigmoid", 1),
                    operators(out), weights);
            try (Compressor c = Compressor.open(out)) {
                // What became part of convolutions is no longer there.
                assertTrue(c.model().weights().stream().noneMatch(w -> List.of("scale", "bias", "mean", "variance", "three", "zero", "six", "shift",
                        "factor", "add").contains(w.name())));
            }
            double lost = lost(run(model, model), run(model, out));
            assertTrue(lost < (weights.equals("s7") ? 2e-3 : 1e-3), weights + " " + lost);
        }
    }

    @Test
    void standardOperatorsAlone() throws IOException {
        Path model = convolutions();
        Path out = folder.resolve("out.onnx");
        compress(model, recipe("quantize: {activations: static, noise: 1}").target("onnx"), 1, out);
        Map<String, Integer> operators = operators(out);
        assertEquals(3, operators.get("QLinearConv"));
        // Hard swish stays as it was, between codes.
        assertEquals(List.of(2, 2, 1), List.of(operators.get("QuantizeLinear"), operators.get("DequantizeLinear"), operators.get("Clip")));
        assertTrue(lost(run(model, model), run(model, out)) < 1e-3);
    }

    @Test
    void bytesDoNotDependOnThreads() throws IOException {
        Path model = convolutions();
        compress(model, Recipe.named("int8-static"), 1, folder.resolve("1.onnx"));
        compress(model, Recipe.named("int8-static"), 3, folder.resolve("3.onnx"));
        assertArrayEquals(Files.readAllBytes(folder.resolve("1.onnx")), Files.readAllBytes(folder.resolve("3.onnx")));
    }

    /** Rounding by inputs gains on rounding to nearest, with few bits, and biases make up for the mean in both. */
    @Test
    void gptq() throws IOException {
        Path model = convolutions();
        compress(model, recipe("quantize: {bits: 5, activations: static, weights: s8, noise: 1}"), 1, folder.resolve("q.onnx"));
        compress(model, recipe("gptq: {bits: 5, activations: static, weights: s8, noise: 1}"), 1, folder.resolve("g.onnx"));
        float[] exact = run(model, model);
        double nearest = lost(exact, run(model, folder.resolve("q.onnx")));
        double byInputs = lost(exact, run(model, folder.resolve("g.onnx")));
        assertEquals(3, operators(folder.resolve("g.onnx")).get("QLinearConv"));
        assertTrue(byInputs < nearest, byInputs + " " + nearest);
    }

    /** One channel is so large that the other ones have no codes; the convolution that would read those stays in floats. */
    @Test
    void noise() throws IOException {
        float[] first = values(C * C, 1, 0.3);
        for (int i = 0; i < C; i++) {
            first[i] *= 1e4f;
        }
        Path model = images("1 8 10 10").weight("first", first, C, C, 1, 1).weight("deep", values(C * 9, 5, 1), C, 1, 3, 3)
                .node("Conv", "x first -> h").node("Conv", "h deep -> y", "group", C).write(folder.resolve("m.onnx"));
        Plan plan = compress(model, recipe("quantize: {activations: static, weights: s8}"), 1, folder.resolve("out.onnx"));
        for (Plan.Entry e : plan.entries()) {
            assertTrue(e.note().contains("activations stay in floating point: codes of activations would make noise of 0.8"), e.weight().name() + e.note());
        }
        assertEquals(2, operators(folder.resolve("out.onnx")).get("Conv"));
    }

    /** Biases are i32 in steps of the input's scale times the weight's: where that is tiny they get larger steps. */
    @Test
    void biasesOfDeadOutputs() throws IOException {
        for (float size : new float[] {1e-5f, 1e-6f, 1e-9f, 1e-20f}) {
            float[] first = values(64 * C, 1, 0.3);
            float[] bias = values(64, 2, 0.3);
            for (int i = 0; i < 2 * C; i++) {
                first[i] *= size;
            }
            bias[0] = 0.7f;
            bias[1] = -0.7f;
            Path model = images("1 64 12 12").weight("first", first, 64, C, 1, 1).weight("bias", bias, 64).node("Conv", "x first bias -> y")
                    .write(folder.resolve("m.onnx"));
            Path out = folder.resolve("out.onnx");
            compress(model, recipe("quantize: {activations: static, weights: s8, noise: 1}"), 1, out);
            assertEquals(1, operators(out).get("QLinearConv"));
            float[] exact = run(model, model);
            float[] found = run(model, out);
            for (int i = 0; i < 2 * 144; i++) {
                assertEquals(exact[i], found[i], 0.02, size + " at " + i);
            }
            assertTrue(lost(exact, found) < 1e-3);
        }
    }

    /** A constant with more axes than the result would add them, and is left where it is. */
    @Test
    void constantsOfMoreAxes() throws IOException {
        Path model = images("1 1 8 12 12").weight("first", values(C * C, 1, 0.3), C, C, 1, 1).weight("six", new float[] {6}, 1, 1, 1, 1, 1)
                .node("Conv", "x first -> h").node("Div", "h six -> y").write(folder.resolve("m.onnx"));
        Path out = folder.resolve("out.onnx");
        compress(model, recipe("quantize: {activations: static, weights: s8}"), 1, out);
        assertEquals(Map.of("QuantizeLinear", 1, "QLinearConv", 1, "DequantizeLinear", 1, "Div", 1), operators(out));
    }

    @Test
    void smoothedBefore() throws IOException {
        int n = 32;
        float[] a = values(n * n, 1, 0.2);
        for (int i = 0; i < n; i++) {
            a[i * n] *= 50; // one input of the second product is large
        }
        Path model = new TinyModel().input("x", TinyModel.FLOAT, "20 " + n).output("y", TinyModel.FLOAT, "20 " + n)
                .weight("a", a, n, n).weight("b", values(n * n, 2, 0.2), n, n)
                .node("MatMul", "x a -> h").node("Relu", "h -> r").node("MatMul", "r b -> y").write(folder.resolve("m.onnx"));
        Path plain = folder.resolve("plain.onnx");
        Path smooth = folder.resolve("smooth.onnx");
        compress(model, recipe("quantize: {activations: static, weights: s8}"), 1, plain);
        compress(model, recipe("smooth: {by: smoothquant, alpha: 0.5}\n  - select: {role: [linear, head]}\n    quantize: {activations: static, weights: s8}"),
                1, smooth);
        assertEquals(2, operators(smooth).get("MatMulIntegerToFloat"));
        float[] exact = run(model, model);
        double with = lost(exact, run(model, smooth));
        double without = lost(exact, run(model, plain));
        assertTrue(with < 2e-3 && with < 0.5 * without, with + " " + without);
    }

    @Test
    void layerByLayer() throws IOException {
        try (Compressor c = Compressor.open(convolutions())) {
            UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () -> Sequential.gather(c, Recipe.named("int8-static"), true,
                    Samples.random(c.model(), 1, 1, Map.of()), folder, 1, (done, total) -> { }));
            assertTrue(e.getMessage().contains("calibrate all layers at once"), e.getMessage());
        }
    }

    /** A gate that sees one position takes no time, and stays in floats. */
    @Test
    void gates() throws IOException {
        Path model = images("1 8 8 8").weight("first", values(C * C * 25, 1, 0.1), C, C, 5, 5).weight("gate", values(C * C, 2, 0.3), C, C, 1, 1)
                .node("Conv", "x first -> h").node("GlobalAveragePool", "h -> p").node("Conv", "p gate -> g").node("Sigmoid", "g -> s")
                .node("Mul", "h s -> y").write(folder.resolve("m.onnx"));
        Path out = folder.resolve("out.onnx");
        Plan plan = compress(model, recipe("quantize: {activations: static, weights: s8, noise: 1}"), 1, out);
        assertEquals(List.of(1, 1), List.of(operators(out).get("QLinearConv"), operators(out).get("Conv")));
        assertTrue(plan.entries().stream().anyMatch(e -> e.weight().name().equals("gate") && e.note().contains("less than a thousandth of the work")));
        assertTrue(lost(run(model, model), run(model, out)) < 1e-3);
    }

    @Test
    void productsShareCodes() throws IOException {
        int n = 32;
        Path model = new TinyModel().input("x", TinyModel.FLOAT, "20 " + n).output("y", TinyModel.FLOAT, "20 " + n)
                .weight("a", values(n * n, 1, 0.2), n, n).weight("b", values(n * n, 2, 0.2), n, n).weight("c", values(n, 3, 1), n)
                .node("MatMul", "x a -> h").node("Gemm", "x b c -> k").node("Add", "h k -> y").write(folder.resolve("m.onnx"));
        Path out = folder.resolve("out.onnx");
        for (String symmetric : List.of("true", "false")) {
            Recipe recipe = recipe("quantize: {activations: static, weights: s8, symmetric: " + symmetric + "}");
            compress(model, recipe, 1, out);
            assertEquals(Map.of("QuantizeLinear", 1, "MatMulIntegerToFloat", 2, "Add", 2), operators(out));
            assertTrue(lost(run(model, model), run(model, out)) < 1e-3);
            compress(model, recipe.target("onnx"), 1, out);
            assertEquals(Map.of("QuantizeLinear", 1, "MatMulInteger", 2, "Cast", 2, "Mul", 4, "Add", 2), operators(out));
            assertTrue(lost(run(model, model), run(model, out)) < 1e-3);
        }
    }

    /** What other operators read beside a convolution is decoded once more. */
    @Test
    void resultsThatOthersRead() throws IOException {
        Path model = images("1 8 12 12").output("h", TinyModel.FLOAT, "1 8 12 12").weight("first", values(C * C, 1, 0.3), C, C, 1, 1)
                .weight("second", values(C * C, 2, 0.3), C, C, 1, 1).node("Conv", "x first -> h").node("Relu", "h -> r")
                .node("Conv", "r second -> k").node("Add", "h k -> y").write(folder.resolve("m.onnx"));
        Path out = folder.resolve("out.onnx");
        compress(model, recipe("quantize: {activations: static, weights: s8, noise: 1}"), 1, out);
        assertEquals(Map.of("QuantizeLinear", 2, "QLinearConv", 2, "DequantizeLinear", 2, "Relu", 1, "Add", 1), operators(out));
        assertTrue(lost(run(model, model), run(model, out)) < 1e-3);
    }

    /** A product of a transposed input takes no codes; the plan says what is in the way. */
    @Test
    void readersWithoutCodes() throws IOException {
        Path model = new TinyModel().input("x", TinyModel.FLOAT, "64 2").output("y", TinyModel.FLOAT, "2 64")
                .weight("w", values(64 * 64, 1, 0.2), 64, 64).node("Gemm", "x w -> y", "transA", 1).write(folder.resolve("m.onnx"));
        Plan plan = compress(model, recipe("quantize: {bits: 8, per: channel, activations: static}"), 1, folder.resolve("o.onnx"));
        String note = plan.entries().getFirst().note();
        assertTrue(note.contains("static, but not all that reads it is MatMul, or Gemm with neither transA nor alpha"), note);
    }

    @Test
    void withoutStatistics() throws IOException {
        try (Compressor c = Compressor.open(convolutions())) {
            UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () -> c.plan(Recipe.named("int8-static")));
            assertTrue(e.getMessage().contains("calibrate"), e.getMessage());
        }
    }

    /** Inputs that are always 0: everything is, and nothing divides by that. */
    @Test
    void constantValues() throws IOException {
        Path model = images("1 8 12 12").weight("nothing", new float[] {0}).weight("first", values(C * C, 1, 0.3), C, C, 1, 1)
                .weight("bias", values(C, 2, 1), C).node("Mul", "x nothing -> z").node("Conv", "z first bias -> y").write(folder.resolve("m.onnx"));
        Path out = folder.resolve("out.onnx");
        compress(model, recipe("quantize: {activations: static, weights: s8}"), 1, out);
        assertEquals(1, operators(out).get("QLinearConv"));
        assertTrue(lost(run(model, model), run(model, out)) < 1e-3);
    }
}
