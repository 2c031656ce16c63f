package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Report;
import dev.tensorpress.method.NonFiniteWeightException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Weights that are pruned, and changed, by what they are multiplied with, in whole models. */
final class ObsTest {
    private static final int K = 70;
    private static final int N = 21;
    private static final int ROWS = 400;
    private static final int DEAD = 5;

    @TempDir
    Path folder;
    private final Random random = new Random(7);
    private final float[] x = inputs();

    /** Inputs that have much in common, are far from 0, and one of which always is. */
    private float[] inputs() {
        float[] x = new float[ROWS * K];
        for (int r = 0; r < ROWS; r++) {
            double common = random.nextGaussian();
            for (int i = 0; i < K; i++) {
                x[r * K + i] = i == DEAD ? 0 : (float) (0.5 * random.nextGaussian() + common * (1 + i % 3) + (i % 5 == 0 ? 2 : 0));
            }
        }
        return x;
    }

    private float[] weight() {
        float[] w = new float[K * N];
        for (int i = 0; i < w.length; i++) {
            w[i] = (float) random.nextGaussian();
        }
        return w;
    }

    /** y = x A + a and z = x B^T + b. */
    private Path model(DType type, float[] a, float[] b) throws IOException {
        TestModel model = TestModel.of(10, 21);
        int onnx = type == DType.F16 ? TensorInfo.FLOAT16 : TensorInfo.FLOAT;
        model.graph.input("x", onnx, -1, K).output("y", onnx, -1, N).output("z", onnx, -1, N)
                .init("a", type, TestModel.random(1, N), N).init("A", type, a, K, N)
                .init("B", type, b, N, K).init("b", type, TestModel.random(4, N), N);
        model.graph.node("MatMul", "xA", "x", "A").node("Add", "y", "xA", "a")
                .node(new TestModel.NodeBuilder("Gemm", "z", "x", "B", "b").set("transB", 1));
        return model.write(folder, "m.onnx");
    }

    private Report compress(Path model, int threads, String name, String... steps) throws IOException {
        return Calibrated.compress(model, Calibrated.recipe(folder, steps), threads, folder.resolve(name), x, ROWS, K);
    }

    private double[] lost(Path model, String name) throws Exception {
        float[][] exact = Ort.run(model, x, ROWS, K);
        float[][] found = Ort.run(folder.resolve(name), x, ROWS, K);
        double[] lost = new double[exact.length];
        for (int o = 0; o < lost.length; o++) {
            for (int i = 0; i < exact[o].length; i++) {
                lost[o] += Math.pow(exact[o][i] - found[o][i], 2);
            }
        }
        return lost;
    }

    /** Of each output so many zeros; of N:M, at least M - N in each group. */
    private static void checkZeros(float[] w, boolean down, int kept, int n, int m) {
        for (int j = 0; j < N; j++) {
            int all = 0;
            for (int first = 0; first < K; first += m) {
                int here = 0;
                for (int i = first; i < Math.min(first + m, K); i++) {
                    here += Float.floatToRawIntBits(w[down ? i * N + j : j * K + i]) == 0 ? 0 : 1;
                }
                assertEquals(m == K ? kept : Math.min(n, K - first), here, "output " + j + ", inputs from " + first);
                all += here;
            }
            assertEquals(kept, all);
        }
    }

    @Test
    void losesLess() throws Exception {
        Path model = model(DType.F32, weight(), weight());
        for (String amount : new String[] {"sparsity: 0.5", "sparsity: 0.8", "pattern: 2:4", "pattern: 1:2"}) {
            boolean groups = amount.startsWith("pattern");
            String prune = "prune: {" + amount + (groups ? "}" : ", scope: channel}");
            compress(model, 1, "magnitude.onnx", prune);
            compress(model, 1, "activation.onnx", prune.replace("}", ", criterion: activation}"));
            compress(model, 1, "kept.onnx", "obs: {bias: false, " + amount + "}");
            Report report = compress(model, 1, "found.onnx", "obs: {" + amount + "}");
            compress(model, 1, "more.onnx", "obs: {descent: 60, " + amount + "}");
            double[] magnitude = lost(model, "magnitude.onnx");
            double[] activation = lost(model, "activation.onnx");
            double[] kept = lost(model, "kept.onnx");
            double[] found = lost(model, "found.onnx");
            double[] more = lost(model, "more.onnx");
            for (int o = 0; o < 2; o++) {
                assertTrue(kept[o] < 0.5 * Math.min(activation[o], magnitude[o]), amount + ": " + kept[o] + " against " + activation[o] + " and " + magnitude[o]);
                assertTrue(found[o] < 1.05 * kept[o], amount + ": " + found[o] + " against " + kept[o]);
                assertTrue(more[o] < 1.02 * found[o], amount + ": " + more[o] + " against " + found[o]);
            }
            int n = amount.endsWith("2:4") ? 2 : 1;
            int m = groups ? amount.endsWith("2:4") ? 4 : 2 : K;
            int all = amount.endsWith("2:4") ? 36 : amount.endsWith("0.8") ? 14 : 35;
            checkZeros(Calibrated.read(folder.resolve("found.onnx"), "A"), true, all, n, m);
            checkZeros(Calibrated.read(folder.resolve("found.onnx"), "B"), false, all, n, m);
            assertEquals(2L * N * (K - all), report.sparsity().zerosAsked());
            assertEquals(2L * N * (K - all), report.sparsity().zerosReached());
        }
    }

    /** As the method says, one output after the other and one element after the other, in f64. */
    @Test
    void isWhatItSays() throws Exception {
        float[] w = weight();
        Path model = model(DType.F32, w, weight());
        double[][] h = new double[K][K];
        double mean = 0;
        for (int i = 0; i < K; i++) {
            for (int l = 0; l < K; l++) {
                for (int r = 0; r < ROWS; r++) {
                    h[i][l] += (double) x[r * K + i] * x[r * K + l];
                }
            }
            mean += h[i][i] / K;
        }
        for (int i = 0; i < K; i++) {
            h[i][i] += 0.01 * mean;
        }
        for (int descent : new int[] {1, 4}) {
            compress(model, 2, "o.onnx", "obs: {sparsity: 0.5, bias: false, descent: " + descent + "}");
            float[] found = Calibrated.read(folder.resolve("o.onnx"), "A");
            int same = 0;
            for (int j = 0; j < N; j++) {
                double[] e = new double[K];
                boolean[] kept = new boolean[K];
                for (int sweep = 0; sweep < descent; sweep++) {
                    if (sweep < 3) {
                        double[] score = new double[K];
                        for (int i = 0; i < K; i++) {
                            score[i] = Math.abs(best(h, w, e, i, j)) * Math.sqrt(h[i][i]);
                        }
                        double[] sorted = score.clone();
                        Arrays.sort(sorted);
                        for (int i = 0; i < K; i++) {
                            kept[i] = score[i] >= sorted[K / 2];
                        }
                    }
                    for (int i = 0; i < K; i++) {
                        e[i] = kept[i] ? w[i * N + j] - best(h, w, e, i, j) : w[i * N + j];
                    }
                }
                boolean alike = true;
                for (int i = 0; i < K; i++) {
                    alike &= Math.abs(w[i * N + j] - e[i] - found[i * N + j]) < 1e-3;
                }
                same += alike ? 1 : 0;
            }
            // f32 may choose otherwise where two are nearly alike.
            assertTrue(same > 0.85 * N, same + " of " + N + " outputs after " + descent + " sweeps");
        }
    }

    private static double best(double[][] h, float[] w, double[] e, int i, int j) {
        double sum = w[i * N + j];
        for (int l = 0; l < K; l++) {
            sum += l == i ? 0 : h[i][l] / h[i][i] * e[l];
        }
        return sum;
    }

    @Test
    void bytesDoNotDependOnThreads() throws Exception {
        Path model = model(DType.F32, weight(), weight());
        compress(model, 1, "one.onnx", "obs: {pattern: 2:4}");
        compress(model, 3, "three.onnx", "obs: {pattern: 2:4}");
        assertArrayEquals(Files.readAllBytes(folder.resolve("one.onnx")), Files.readAllBytes(folder.resolve("three.onnx")));
    }

    /** Both change the biases, one after the other; zeros stay. */
    @Test
    void thenRounded() throws Exception {
        Path model = model(DType.F32, weight(), weight());
        compress(model, 1, "plain.onnx", "prune: {sparsity: 0.5, scope: channel}", "quantize: {bits: 4, block: 16}");
        Report report = compress(model, 1, "found.onnx", "obs: {sparsity: 0.5}", "gptq: {bits: 4, block: 16}");
        assertEquals(4, report.entries().size());
        assertTrue(report.sparsity().zerosReached() >= report.sparsity().zerosAsked(), report.sparsity().toString());
        double[] plain = lost(model, "plain.onnx");
        double[] found = lost(model, "found.onnx");
        float[][] exact = Ort.run(model, x, ROWS, K);
        float[][] results = Ort.run(folder.resolve("found.onnx"), x, ROWS, K);
        for (int o = 0; o < 2; o++) {
            assertTrue(found[o] < 0.5 * plain[o], found[o] + " against " + plain[o]);
            double[] mean = new double[N];
            for (int i = 0; i < exact[o].length; i++) {
                mean[i % N] += (exact[o][i] - results[o][i]) / (double) ROWS;
            }
            assertArrayEquals(new double[N], mean, 1e-3, "the bias takes both errors");
        }
    }

    /** As many elements stay as are asked for, and stored, even of zeros, of what f16 cannot hold, and of inputs that are always 0. */
    @Test
    void countsAreExact() throws Exception {
        for (DType type : new DType[] {DType.F32, DType.F16}) {
            float[] a = weight();
            float[] b = weight();
            for (int i = 0; i < a.length; i++) {
                a[i] = i % N < 3 ? 0 : i % N < 6 ? a[i] * 1e-7f : a[i];
                b[i] = i % 2 == 0 ? 0 : b[i];
            }
            for (String amount : new String[] {"sparsity: 0.3", "sparsity: 0.9", "pattern: 2:4"}) {
                Path model = model(type, a, b);
                int kept = amount.endsWith("4") ? 36 : amount.endsWith("0.3") ? 49 : 7;
                // Sparse initializers have exactly as many elements as the plan says.
                Recipe recipe = Calibrated.recipe(folder, "obs: {" + amount + "}").set("sparse-initializers", "true");
                Report report = Calibrated.compress(model, recipe, 1, folder.resolve("s.onnx"), x, ROWS, K);
                assertEquals(2L * N * (K - kept), report.sparsity().zerosAsked());
                compress(model, 1, "o.onnx", "obs: {" + amount + "}");
                assertTrue(nonzero(Calibrated.read(folder.resolve("o.onnx"), "A")) <= kept * N);
                assertTrue(nonzero(Calibrated.read(folder.resolve("o.onnx"), "B")) <= kept * N);
            }
        }
    }

    private static int nonzero(float[] w) {
        int n = 0;
        for (float v : w) {
            n += v != 0 ? 1 : 0;
        }
        return n;
    }

    /** Fewer samples than inputs, none but zeros, and no damping: finite, and exact where there is nothing to lose. */
    @Test
    void fewSamples() throws Exception {
        Path model = model(DType.F32, weight(), weight());
        for (String more : new String[] {"", ", damping: 0", ", bias: false, damping: 0"}) {
            for (int rows : new int[] {1, 3, 30}) {
                Recipe recipe = Calibrated.recipe(folder, "obs: {sparsity: 0.5" + more + "}");
                float[] few = Arrays.copyOf(x, rows * K);
                Calibrated.compress(model, recipe, 1, folder.resolve("o.onnx"), few, rows, K);
                checkZeros(Calibrated.read(folder.resolve("o.onnx"), "A"), true, 35, 0, K);
                float[][] exact = Ort.run(model, few, rows, K);
                float[][] found = Ort.run(folder.resolve("o.onnx"), few, rows, K);
                double lost = 0;
                double all = 0;
                for (int i = 0; i < exact[0].length; i++) {
                    lost += Math.pow(exact[0][i] - found[0][i], 2);
                    all += Math.pow(exact[0][i], 2);
                }
                assertTrue(lost < 0.1 * all, lost + " of " + all + " with " + rows + " rows" + more);
            }
            Recipe recipe = Calibrated.recipe(folder, "obs: {sparsity: 0.5" + more + "}");
            Calibrated.compress(model, recipe, 1, folder.resolve("o.onnx"), new float[2 * K], 2, K);
            checkZeros(Calibrated.read(folder.resolve("o.onnx"), "A"), true, 35, 0, K);
            for (float v : Calibrated.read(folder.resolve("o.onnx"), "A")) {
                assertTrue(Float.isFinite(v));
            }
        }
    }

    /** A channel that is next to nothing has no say in the others, nor do they in it. */
    @Test
    void channelsThatAreNextToNothing() throws Exception {
        Path model = model(DType.F32, weight(), weight());
        float[] before = Calibrated.read(model, "A");
        for (double size : new double[] {1e-6, 1e-12, 1e-30}) {
            float[] tiny = x.clone();
            for (int i = 1; i < tiny.length; i += K) {
                tiny[i] = (float) (tiny[i] * size);
            }
            for (String more : new String[] {", damping: 0", ", bias: false, damping: 0"}) {
                Calibrated.compress(model, Calibrated.recipe(folder, "obs: {sparsity: 0.5" + more + "}"), 1, folder.resolve("o.onnx"), tiny, ROWS, K);
                float[] after = Calibrated.read(folder.resolve("o.onnx"), "A");
                for (int j = 0; j < N; j++) {
                    assertTrue(Math.abs(after[N + j]) <= 10 + Math.abs(before[N + j]), size + more + ": " + before[N + j] + " became " + after[N + j]);
                }
            }
        }
    }

    @Test
    void convolutionsInGroups() throws Exception {
        TestModel model = TestModel.of(10, 21);
        model.graph.input("x", TensorInfo.FLOAT, 1, 8, 19, 19).output("y", TensorInfo.FLOAT, 1, 12, 17, 17)
                .init("W", DType.F32, TestModel.random(2, 12 * 2 * 9), 12, 2, 3, 3);
        model.graph.node(new TestModel.NodeBuilder("Conv", "y", "x", "W").set("group", 4));
        Path in = model.write(folder, "w.onnx");
        // Neighbours are alike, as those of images are, so that what stays can make up for what goes.
        float[] image = TestModel.random(3, 8 * 361);
        for (int i = 1; i < image.length; i++) {
            image[i] = 0.9f * image[i - 1] + 0.3f * image[i];
        }
        Calibrated.compress(in, Calibrated.recipe(folder, "prune: {sparsity: 0.5, scope: channel}"), 1, folder.resolve("p.onnx"), image, 1, 8, 19, 19);
        Calibrated.compress(in, Calibrated.recipe(folder, "obs: {sparsity: 0.5}"), 2, folder.resolve("o.onnx"), image, 1, 8, 19, 19);
        float[] w = Calibrated.read(in, "W");
        double[] lost = new double[2];
        for (int o = 0; o < 2; o++) {
            float[] found = Calibrated.read(folder.resolve(o == 0 ? "o.onnx" : "p.onnx"), "W");
            for (int c = 0; c < 12; c++) {
                int kept = 0;
                for (int i = 0; i < 18; i++) {
                    kept += found[c * 18 + i] == 0 ? 0 : 1;
                }
                assertEquals(9, kept);
                for (int p = 0; p < 289; p++) {
                    double sum = 0;
                    for (int i = 0; i < 18; i++) {
                        int at = (c / 3 * 2 + i / 9) * 361 + (p / 17 + i % 9 / 3) * 19 + p % 17 + i % 3;
                        sum += (w[c * 18 + i] - (double) found[c * 18 + i]) * image[at];
                    }
                    lost[o] += sum * sum;
                }
            }
        }
        assertTrue(lost[0] < 0.5 * lost[1], lost[0] + " against " + lost[1]);
    }

    @Test
    void whatIsRefused() throws Exception {
        Path model = model(DType.F32, weight(), weight());
        Recipe recipe = Calibrated.recipe(folder, "obs: {sparsity: 0.5}");
        try (Compressor c = Compressor.open(model)) {
            assertTrue(assertThrows(UnsupportedRequestException.class, () -> c.plan(recipe)).getMessage().contains("calibrate"));
            try (Statistics s = Calibrated.statistics(c, false, x, ROWS, K)) {
                c.use(s);
                Plan plan = c.plan(recipe);
                assertEquals(0, plan.compressed());
                assertTrue(plan.entries().stream().anyMatch(e -> e.note().contains("--no-gram")));
            }
            try (Statistics s = Calibrated.statistics(c, true, x, ROWS, K)) {
                c.use(s);
                Plan plan = c.plan(Calibrated.recipe(folder, "prune: {sparsity: 0.5}", "obs: {sparsity: 0.5}"));
                assertEquals(0, plan.compressed());
                assertTrue(plan.entries().stream().anyMatch(e -> e.note().contains("obs comes first")));
            }
        }
        for (String bad : new String[] {"pattern: 4x4, sparsity: 0.5", "pattern: element", "sparsity: 0.5, pattern: 2:4", "threshold: 1", "sparsity: 0.5, scope: tensor"}) {
            assertThrows(IllegalArgumentException.class, () -> Calibrated.recipe(folder, "obs: {" + bad + "}"), bad);
        }
        float[] w = weight();
        w[7] = Float.NaN;
        Path broken = model(DType.F32, w, weight());
        assertThrows(NonFiniteWeightException.class, () -> compress(broken, 1, "o.onnx", "obs: {sparsity: 0.5}"));
    }
}
