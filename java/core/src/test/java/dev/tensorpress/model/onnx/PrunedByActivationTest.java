package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.tensor.DType;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.function.IntUnaryOperator;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** {@code criterion: activation}, element by element against its definition. */
final class PrunedByActivationTest {
    private static final int K = 24;
    private static final int N = 20;
    private static final int ROWS = 50;
    private static final int DEAD = 7;

    @TempDir
    Path folder;

    /** Channels of different size, one of them always 0. */
    private static float[] rows() {
        float[] x = TestModel.random(9, ROWS * K);
        for (int i = 0; i < x.length; i++) {
            x[i] *= i % K == DEAD ? 0 : 1 + i % K % 5;
        }
        return x;
    }

    private Path products(DType type) throws Exception {
        TestModel model = TestModel.of(10, 21);
        int onnx = type == DType.F16 ? TensorInfo.FLOAT16 : TensorInfo.FLOAT;
        model.graph.input("x", onnx, -1, K).output("y", onnx, -1, N).output("z", onnx, -1, N)
                .init("A", type, TestModel.random(2, K * N), K, N).init("B", type, TestModel.random(3, K * N), N, K);
        model.graph.node("MatMul", "y", "x", "A").node(new TestModel.NodeBuilder("Gemm", "z", "x", "B").set("transB", 1));
        return model.write(folder, "m.onnx");
    }

    private static float[] sizes(float[] x, int channels) {
        double[] squares = new double[channels];
        for (int i = 0; i < x.length; i++) {
            squares[i % channels] += (double) x[i] * x[i];
        }
        float[] sizes = new float[channels];
        for (int c = 0; c < channels; c++) {
            sizes[c] = (float) Math.sqrt(squares[c] / (x.length / channels));
        }
        return sizes;
    }

    /** All but the largest so many of each group become 0; of equal ones those that come last. */
    private static float[] pruned(float[] w, float[] scores, int[][] groups, int kept) {
        float[] out = new float[w.length];
        for (int[] group : groups) {
            IntStream.of(group).boxed().sorted(Comparator.comparingDouble(i -> -scores[i])).limit(kept).forEach(i -> out[i] = w[i]);
        }
        return out;
    }

    private static float[] scores(float[] w, float[] sizes, IntUnaryOperator input) {
        float[] scores = new float[w.length];
        for (int i = 0; i < w.length; i++) {
            scores[i] = Math.abs(w[i] * sizes[input.applyAsInt(i)]);
        }
        return scores;
    }

    /** Elements of [count, length]: each row, or so many of it at a time. */
    private static int[][] groups(int count, int length, int size, IntUnaryOperator place) {
        List<int[]> all = new ArrayList<>();
        for (int o = 0; o < count; o++) {
            for (int i = 0; i < length; i += size) {
                int first = o * length + i;
                all.add(IntStream.range(first, first + size).map(place).toArray());
            }
        }
        return all.toArray(int[][]::new);
    }

    @ParameterizedTest
    @EnumSource(names = {"F32", "F16"})
    void matrices(DType type) throws Exception {
        float[] x = rows();
        float[] sizes = sizes(x, K);
        Path model = products(type);
        float[] a = Calibrated.read(model, "A");
        float[] b = Calibrated.read(model, "B");
        float[] ofA = scores(a, sizes, i -> i / N);
        float[] ofB = scores(b, sizes, i -> i % K);
        IntUnaryOperator turned = i -> i % K * N + i / K;
        for (String amount : List.of("sparsity: 0.5, scope: channel", "sparsity: 0.5, scope: tensor", "pattern: 2:4")) {
            Path out = folder.resolve("out.onnx");
            Calibrated.compress(model, Calibrated.recipe(folder, "prune: {criterion: activation, " + amount + "}"), 2, out, x, ROWS, K);
            int size = amount.startsWith("pattern") ? 4 : K;
            boolean whole = amount.endsWith("tensor");
            assertArrayEquals(pruned(a, ofA, whole ? groups(1, K * N, K * N, i -> i) : groups(N, K, size, turned), whole ? K * N / 2 : size / 2),
                    Calibrated.read(out, "A"), amount);
            assertArrayEquals(pruned(b, ofB, whole ? groups(1, K * N, K * N, i -> i) : groups(N, K, size, i -> i), whole ? K * N / 2 : size / 2),
                    Calibrated.read(out, "B"), amount);
        }
        // Two weights together.
        float[] both = new float[2 * K * N];
        float[] ofBoth = both.clone();
        System.arraycopy(a, 0, both, 0, K * N);
        System.arraycopy(b, 0, both, K * N, K * N);
        System.arraycopy(ofA, 0, ofBoth, 0, K * N);
        System.arraycopy(ofB, 0, ofBoth, K * N, K * N);
        Path out = folder.resolve("out.onnx");
        Calibrated.compress(model, Calibrated.recipe(folder, "prune: {criterion: activation, sparsity: 0.7, scope: global}"), 2, out, x, ROWS, K);
        float[] expected = pruned(both, ofBoth, groups(1, both.length, both.length, i -> i), Math.round(both.length * 0.3f));
        assertArrayEquals(IntStream.range(0, K * N).mapToDouble(i -> expected[i]).toArray(), doubles(Calibrated.read(out, "A")));
        assertArrayEquals(IntStream.range(K * N, 2 * K * N).mapToDouble(i -> expected[i]).toArray(), doubles(Calibrated.read(out, "B")));
    }

    private static double[] doubles(float[] x) {
        return IntStream.range(0, x.length).mapToDouble(i -> x[i]).toArray();
    }

    /** Blocks by the norm of what is compared: those of the dead channel's pairs lose to all others of their size. */
    @Test
    void blocks() throws Exception {
        float[] x = rows();
        Path model = products(DType.F32);
        float[] a = Calibrated.read(model, "A");
        float[] scores = scores(a, sizes(x, K), i -> i / N);
        Path out = folder.resolve("out.onnx");
        Calibrated.compress(model, Calibrated.recipe(folder, "prune: {criterion: activation, pattern: 2x4, sparsity: 0.5}"), 1, out, x, ROWS, K);
        int blocks = K * N / 8;
        double[] norms = new double[blocks];
        for (int i = 0; i < a.length; i++) {
            norms[i / N / 2 * (N / 4) + i % N / 4] += (double) scores[i] * scores[i];
        }
        float[] expected = new float[a.length];
        IntStream.range(0, blocks).boxed().sorted(Comparator.comparingDouble(i -> -norms[i])).limit(blocks / 2).forEach(block -> {
            for (int i = 0; i < 8; i++) {
                int at = (block / (N / 4) * 2 + i / 4) * N + block % (N / 4) * 4 + i % 4;
                expected[at] = a[at];
            }
        });
        assertArrayEquals(expected, Calibrated.read(out, "A"));
    }

    /** Each group of outputs has inputs of its own. */
    @Test
    void convolutionsInGroups() throws Exception {
        TestModel model = TestModel.of(10, 21);
        model.graph.input("x", TensorInfo.FLOAT, 1, 8, 9, 9).output("y", TensorInfo.FLOAT, 1, 12, 7, 7)
                .init("W", DType.F32, TestModel.random(2, 12 * 2 * 9), 12, 2, 3, 3);
        model.graph.node(new TestModel.NodeBuilder("Conv", "y", "x", "W").set("group", 4));
        float[] x = TestModel.random(3, 8 * 81);
        double[] squares = new double[8 * 9];
        for (int i = 0; i < x.length; i++) {
            x[i] *= 1 + i / 81;
        }
        for (int c = 0; c < squares.length; c++) {
            for (int p = 0; p < 49; p++) {
                double v = x[c / 9 * 81 + (p / 7 + c % 9 / 3) * 9 + p % 7 + c % 3];
                squares[c] += v * v;
            }
        }
        Path in = model.write(folder, "w.onnx");
        float[] w = Calibrated.read(in, "W");
        float[] scores = new float[w.length];
        for (int i = 0; i < w.length; i++) {
            scores[i] = Math.abs(w[i] * (float) Math.sqrt(squares[i / 18 / 3 * 18 + i % 18] / 49));
        }
        Path out = folder.resolve("out.onnx");
        Calibrated.compress(in, Calibrated.recipe(folder, "prune: {criterion: activation, scope: channel, sparsity: 0.5}"), 1, out, x, 1, 8, 9, 9);
        assertArrayEquals(pruned(w, scores, groups(12, 18, 18, i -> i), 9), Calibrated.read(out, "W"));
    }

    @Test
    void whatIsNotKnownIsSaid() throws Exception {
        Path model = products(DType.F32);
        var recipe = Calibrated.recipe(folder, "prune: {criterion: activation, sparsity: 0.5}");
        try (Compressor c = Compressor.open(model)) {
            assertTrue(assertThrows(UnsupportedRequestException.class, () -> c.plan(recipe)).getMessage().contains("calibrate"));
            assertEquals(2, c.plan(Calibrated.recipe(folder, "prune: {sparsity: 0.5}")).compressed());
            try (Statistics s = Calibrated.statistics(c, false, rows(), ROWS, K)) {
                c.use(s);
                assertEquals(2, c.plan(recipe).compressed(), "Gram matrices are not asked for");
            }
        }
        TestModel other = TestModel.of(10, 21);
        other.graph.input("x", TensorInfo.FLOAT, 1, K, 9).output("y", TensorInfo.FLOAT, 1, N, 9)
                .init("A", DType.F32, TestModel.random(2, K * N), N, K);
        other.graph.node("MatMul", "y", "A", "x");
        try (Compressor c = Compressor.open(other.write(folder, "o.onnx"))) {
            c.use(Calibrated.statistics(c, false, new float[0], 0, K));
            Plan plan = c.plan(recipe);
            assertEquals(0, plan.compressed());
            assertTrue(plan.entries().getFirst().note().contains("nothing is known"), plan.entries().getFirst().note());
        }
    }
}
