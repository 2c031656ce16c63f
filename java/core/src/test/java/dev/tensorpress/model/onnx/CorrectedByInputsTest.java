package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Report;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code correct} with {@code inputs: statistics}, in whole models. */
final class CorrectedByInputsTest {
    private static final int K = 128;
    private static final int N = 96;
    private static final int ROWS = 500;
    private static final String CODES = "quantize: {bits: 4, block: 32}";

    @TempDir
    Path folder;
    private final float[] x = new float[ROWS * K];
    private Path model;

    /** y = x A and z = x B^T + b, of inputs that have much in common and are far from 0. */
    @BeforeEach
    void write() throws IOException {
        Random random = new Random(3);
        for (int r = 0; r < ROWS; r++) {
            double common = random.nextGaussian();
            for (int i = 0; i < K; i++) {
                x[r * K + i] = i == 9 ? 0 : (float) (0.3 * random.nextGaussian() + common * (1 + i % 3) + (i % 5 == 0 ? 2 : 0));
            }
        }
        TestModel m = TestModel.of(10, 21);
        m.graph.input("x", TensorInfo.FLOAT, -1, K).output("y", TensorInfo.FLOAT, -1, N).output("z", TensorInfo.FLOAT, -1, N)
                .init("A", DType.F32, TestModel.random(2, K * N), K, N)
                .init("B", DType.F32, TestModel.random(3, K * N), N, K).init("b", DType.F32, TestModel.random(4, N), N);
        m.graph.node("MatMul", "y", "x", "A").node(new TestModel.NodeBuilder("Gemm", "z", "x", "B", "b").set("transB", 1));
        model = m.write(folder, "m.onnx");
    }

    private Report compress(int threads, String name, String... steps) throws IOException {
        return Calibrated.compress(model, Calibrated.recipe(folder, steps), threads, folder.resolve(name), x, ROWS, K);
    }

    /** Of y and z: squares of the errors, and the largest error of a mean. */
    private double[][] errors(String name) throws Exception {
        float[][] exact = Ort.run(model, x, ROWS, K);
        float[][] found = Ort.run(folder.resolve(name), x, ROWS, K);
        double[][] errors = new double[2][2];
        for (int o = 0; o < 2; o++) {
            double[] means = new double[N];
            for (int i = 0; i < exact[o].length; i++) {
                double e = exact[o][i] - (double) found[o][i];
                errors[0][o] += e * e;
                means[i % N] += e / ROWS;
            }
            errors[1][o] = Arrays.stream(means).map(Math::abs).max().orElseThrow();
        }
        return errors;
    }

    @Test
    void resultsAreNearer() throws Exception {
        compress(1, "none.onnx", CODES);
        compress(1, "equal.onnx", CODES, "correct: {rank: 4}");
        double[] none = errors("none.onnx")[0];
        double[] equal = errors("equal.onnx")[0];
        for (String factors : new String[] {"float", "int8"}) {
            compress(1, "found.onnx", CODES, "correct: {rank: 4, inputs: statistics, factors: " + factors + "}");
            double[][] found = errors("found.onnx");
            for (int o = 0; o < 2; o++) {
                assertTrue(equal[o] < none[o], equal[o] + " of " + none[o]);
                assertTrue(found[1][o] < errors("equal.onnx")[1][o], "means as well");
                // These inputs have four directions that count for nearly all.
                assertTrue(found[0][o] < 0.2 * equal[o], factors + ": " + found[0][o] + " against " + equal[o]);
            }
        }
    }

    /** Both steps change the bias, and the mean is right after them. */
    @Test
    void afterGptq() throws Exception {
        compress(1, "gptq.onnx", "gptq: {bits: 4, block: 32}");
        Report equal = compress(1, "equal.onnx", "gptq: {bits: 4, block: 32}", "correct: {rank: 16}");
        assertTrue(equal.plan().entries().stream().anyMatch(e -> e.weight().name().equals("B") && e.form().kind() == Form.Kind.QUANTIZED
                && e.note().contains("no correct: a bias makes up")));
        assertTrue(equal.plan().entries().stream().anyMatch(e -> e.weight().name().equals("A") && e.form().kind() == Form.Kind.SUM));
        Report smooth = compress(1, "smooth.onnx", "smooth: {insert: true}", "gptq: {bits: 4, block: 32}", "correct: {rank: 16}");
        assertTrue(smooth.plan().entries().stream().anyMatch(e -> e.weight().name().equals("B") && e.form().kind() == Form.Kind.QUANTIZED
                && e.note().contains("no correct: a bias makes up")));
        compress(1, "found.onnx", "gptq: {bits: 4, block: 32}", "correct: {rank: 16, inputs: statistics}");
        double[][] gptq = errors("gptq.onnx");
        double[][] found = errors("found.onnx");
        for (int o = 0; o < 2; o++) {
            assertTrue(found[0][o] < 0.9 * gptq[0][o], found[0][o] + " against " + gptq[0][o]);
        }
        assertTrue(found[1][1] < 1e-3, Arrays.deepToString(found));
    }

    @Test
    void bytesDoNotDependOnThreads() throws Exception {
        compress(1, "one.onnx", CODES, "correct: {rank: 8, inputs: statistics}");
        compress(3, "three.onnx", CODES, "correct: {rank: 8, inputs: statistics}");
        assertArrayEquals(Files.readAllBytes(folder.resolve("one.onnx")), Files.readAllBytes(folder.resolve("three.onnx")));
    }

    /** The weight goes on without, and then its bias is left alone as well. */
    @Test
    void whatIsNotCorrected() throws Exception {
        String correct = "correct: {rank: 8, inputs: statistics, max-bits: 4}";
        assertThrows(UnsupportedRequestException.class, () -> {
            try (Compressor c = Compressor.open(model)) {
                c.plan(Calibrated.recipe(folder, CODES, correct));
            }
        });
        try (Compressor c = Compressor.open(model); Statistics s = Calibrated.statistics(c, true, x, ROWS, K);
                Statistics sums = Calibrated.statistics(c, false, x, ROWS, K)) {
            c.use(s);
            Plan plan = c.plan(Calibrated.recipe(folder, "quantize: {bits: 8, block: 32}", correct));
            assertEquals(2, plan.compressed());
            assertEquals(2, c.plan(Calibrated.recipe(folder, CODES, correct)).compressed());
            assertEquals(3, c.plan(Calibrated.recipe(folder, CODES.replace("quantize", "gptq"), correct)).compressed());
            assertEquals(3, c.plan(Calibrated.recipe(folder, "gptq: {bits: 8, block: 32}", correct)).compressed());
            c.use(sums);
            plan = c.plan(Calibrated.recipe(folder, CODES, correct));
            assertTrue(plan.entries().stream().anyMatch(e -> e.note().contains("no correct: the statistics have no Gram matrix")));
            assertTrue(plan.entries().stream().noneMatch(e -> e.compressed() && e.form().kind() == Form.Kind.SUM));
            assertEquals(2, plan.compressed());
        }
    }

    @Test
    void fewSamplesAndNone() throws Exception {
        for (int rows : new int[] {1, 5}) {
            for (float[] few : new float[][] {Arrays.copyOf(x, rows * K), new float[rows * K]}) {
                Report report = Calibrated.compress(model, Calibrated.recipe(folder, CODES, "correct: {rank: 8, inputs: statistics}"), 1,
                        folder.resolve("few.onnx"), few, rows, K);
                report.entries().forEach(e -> assertTrue(Double.isFinite(e.relativeError()) && e.relativeError() < 0.5
                        || e.planned().weight().name().equals("b"), e.planned().weight().name() + " " + e.relativeError()));
            }
        }
    }
}
