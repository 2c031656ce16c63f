package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.statistics.Gatherer;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.Request;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.structure.Group.Kind;
import dev.tensorpress.structure.StructuredPruning;
import dev.tensorpress.structure.StructuredPruning.Options;
import dev.tensorpress.structure.StructuredPruning.Pruned;
import dev.tensorpress.structure.StructuredPruning.Score;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

final class StructuredPruningTest {
    private static final int FLOATS = 1;
    private static final int SAMPLES = 200;
    private static final int IN = 12;
    private static final int HIDDEN = 32;
    private static final int OUT = 6;

    @TempDir
    Path folder;

    private Path model;
    private final float[] x = TestModel.random(7, SAMPLES * IN);
    private final float[] first = TestModel.random(1, IN * HIDDEN);
    private final float[] bias = TestModel.random(2, HIDDEN);
    private final float[] second = TestModel.random(3, HIDDEN * OUT);

    /** y = relu(x W + b) V, where the second half of the neurons are the first half again, half as large, and what reads them four times. */
    @BeforeEach
    void write() throws Exception {
        for (int i = 0; i < HIDDEN; i++) {
            int twin = i % (HIDDEN / 2);
            double scale = i == twin ? 1 : 0.5;
            for (int j = 0; j < IN; j++) {
                first[j * HIDDEN + i] = (float) (scale * first[j * HIDDEN + twin]);
            }
            bias[i] = (float) (scale * bias[twin]);
            for (int j = 0; i != twin && j < OUT; j++) {
                second[i * OUT + j] *= 4;
            }
        }
        model = model(false);
    }

    private Path model(boolean turned) throws Exception {
        TestModel m = new TestModel();
        m.graph.node("MatMul", "h", "x", "w").node("Add", "b", "h", "bias").node("Relu", "r", "b");
        m.graph.init("w", DType.F32, first, IN, HIDDEN).init("bias", DType.F32, bias, HIDDEN);
        if (turned) {
            float[] t = new float[second.length];
            for (int i = 0; i < HIDDEN; i++) {
                for (int j = 0; j < OUT; j++) {
                    t[j * HIDDEN + i] = second[i * OUT + j];
                }
            }
            m.graph.node(new TestModel.NodeBuilder("Gemm", "y", "r", "v").set("transB", 1L)).init("v", DType.F32, t, OUT, HIDDEN);
        } else {
            m.graph.node("MatMul", "y", "r", "v").init("v", DType.F32, second, HIDDEN, OUT);
        }
        m.graph.input("x", FLOATS, SAMPLES, IN).output("y", FLOATS, SAMPLES, OUT);
        return m.write(folder, turned ? "turned.onnx" : "in.onnx");
    }

    private float[] hidden() {
        float[] r = new float[SAMPLES * HIDDEN];
        for (int s = 0; s < SAMPLES; s++) {
            for (int i = 0; i < HIDDEN; i++) {
                double sum = bias[i];
                for (int j = 0; j < IN; j++) {
                    sum += (double) x[s * IN + j] * first[j * HIDDEN + i];
                }
                r[s * HIDDEN + i] = (float) Math.max(0, sum);
            }
        }
        return r;
    }

    private Statistics statistics(OnnxModel m) throws Exception {
        try (Executor executor = Executor.cpu(1); Gatherer gatherer = new Gatherer(Request.feeds(m.graph().orElseThrow(), true), executor);
                Arena arena = Arena.ofShared()) {
            for (Graph.Value value : gatherer.values()) {
                float[] of = value.name().equals("x") ? x : hidden();
                MemorySegment data = arena.allocate(4L * of.length, 64).copyFrom(MemorySegment.ofArray(of));
                gatherer.accept(0, value, new Tensor(DType.F32, Shape.of(SAMPLES, of.length / SAMPLES), data));
            }
            return gatherer.finish(Statistics.hash(m), 1, "rows");
        }
    }

    private Pruned prune(Path in, double amount, int multiple, Score score, boolean update, int threads) throws Exception {
        try (OnnxModel m = OnnxModel.open(in, false); Executor executor = Executor.cpu(threads); Arena arena = Arena.ofShared();
                Statistics statistics = statistics(m)) {
            EditableModel e = EditableModel.of(m, arena);
            Options options = new Options(Set.of(Kind.NEURONS), amount, multiple, score, update, 1e-6);
            List<Pruned> all = StructuredPruning.prune(e, m.weights(), options.asksForInputs() ? InputStatistics.of(statistics, m) : null, options, executor,
                    arena);
            e.write(Destination.replacing(folder.resolve("out.onnx")));
            // What is given and handed out stays, and it is said why.
            assertEquals(2, all.stream().filter(p -> p.size() != HIDDEN && p.kept() == p.size() && !p.note().isEmpty()).count(), all.toString());
            return all.stream().filter(p -> p.size() == HIDDEN).findFirst().orElseThrow();
        }
    }

    /** Of the results, in squares and relative. */
    private double lost(Path of) throws Exception {
        float[] before = Ort.run(of, x, SAMPLES, IN)[0];
        float[] after = Ort.run(folder.resolve("out.onnx"), x, SAMPLES, IN)[0];
        double error = 0;
        double sum = 0;
        for (int i = 0; i < before.length; i++) {
            error += Math.pow(before[i] - after[i], 2);
            sum += Math.pow(before[i], 2);
        }
        return error / sum;
    }

    @Test
    void whatIsThereTwiceGoesWithoutLoss() throws Exception {
        for (Path in : List.of(model, model(true))) {
            Pruned p = prune(in, 0.5, 1, Score.RECONSTRUCTION, true, 2);
            assertEquals(HIDDEN / 2, p.kept());
            assertTrue(p.loss().orElseThrow() < 1e-6, p.toString());
            assertTrue(lost(in) < 1e-6, p + " lost " + lost(in));
        }
    }

    @Test
    void lossesAreThoseOfTheResults() throws Exception {
        for (Score score : Score.values()) {
            double[] lost = new double[2];
            for (boolean update : new boolean[] {false, true}) {
                Pruned p = prune(model, 0.6, 1, score, update, 1);
                lost[update ? 1 : 0] = lost(model);
                if (p.loss().isPresent()) {
                    assertEquals(p.loss().get(), lost[update ? 1 : 0], 1e-4 + 1e-3 * p.loss().get(), p.toString());
                } else {
                    assertTrue(score == Score.MAGNITUDE && !update);
                }
            }
            assertTrue(lost[1] < 0.7 * lost[0], score + ": " + Arrays.toString(lost));
        }
    }

    @Test
    void reconstructionLosesLeast() throws Exception {
        double[] lost = new double[Score.values().length];
        for (Score score : Score.values()) {
            prune(model, 0.5, 1, score, true, 1);
            lost[score.ordinal()] = lost(model);
        }
        assertTrue(lost[2] < 0.1 * lost[1] && lost[2] < 0.1 * lost[0], Arrays.toString(lost));
    }

    @Test
    void multiplesStay() throws Exception {
        assertEquals(16, prune(model, 0.6, 8, Score.MAGNITUDE, false, 1).kept());
        Pruned p = prune(model, 0.2, 32, Score.MAGNITUDE, false, 1);
        assertEquals(HIDDEN, p.kept());
        assertEquals("no smaller multiple of 32", p.note());
        assertArrayEquals(Ort.run(model, x, SAMPLES, IN)[0], Ort.run(folder.resolve("out.onnx"), x, SAMPLES, IN)[0]);
    }

    /** Who asks for the size of a weight gets it from the weight itself. */
    @Test
    void neuronsWhoseNumberIsReadStay() throws Exception {
        TestModel m = new TestModel();
        m.graph.node("MatMul", "h", "x", "w").node("Relu", "r", "h").node("MatMul", "p", "r", "v").node("Shape", "s", "w");
        m.graph.node(new TestModel.NodeBuilder("Cast", "f", "s").set("to", 1L)).node("ReduceSum", "t", "f").node("Div", "y", "p", "t");
        m.graph.init("w", DType.F32, first, IN, HIDDEN).init("v", DType.F32, second, HIDDEN, OUT).input("x", FLOATS, SAMPLES, IN)
                .output("y", FLOATS, SAMPLES, OUT);
        Pruned p = prune(m.write(folder, "sized.onnx"), 0.5, 1, Score.MAGNITUDE, false, 1);
        assertEquals(HIDDEN, p.kept());
        assertTrue(p.note().contains("its size is read by Shape"), p.note());
    }

    /** Channels in groups of their own, and in groups of others: two index sets along one axis. */
    @Test
    void anAxisLosesItsPartOnce() throws Exception {
        TestModel m = new TestModel();
        m.graph.node(new TestModel.NodeBuilder("Conv", "a", "x", "w").set("group", 1L)).node("Relu", "b", "a")
                .node(new TestModel.NodeBuilder("Conv", "c", "b", "v").set("group", 4L)).node("Relu", "d", "c").node("Conv", "y", "d", "u");
        m.graph.init("w", DType.F32, TestModel.random(1, 96), 32, 3, 1, 1).init("v", DType.F32, TestModel.random(2, 256), 32, 8, 1, 1)
                .init("u", DType.F32, TestModel.random(3, 64), 2, 32, 1, 1).input("x", FLOATS, 1, 3, 4, 4).output("y", FLOATS, 1, 2, 4, 4);
        try (OnnxModel opened = OnnxModel.open(m.write(folder, "groups.onnx"), false); Executor executor = Executor.cpu(1); Arena arena = Arena.ofShared()) {
            EditableModel e = EditableModel.of(opened, arena);
            List<Pruned> all = StructuredPruning.prune(e, opened.weights(), null, new Options(Set.of(Kind.CHANNELS), 0.25, 1, Score.MAGNITUDE, false, 1e-3),
                    executor, arena);
            e.write(Destination.replacing(folder.resolve("out.onnx")));
            assertTrue(all.stream().anyMatch(p -> p.note().contains("has lost a part already")), all.toString());
            for (String name : e.graph().initializers().keySet()) {
                long outputs = e.graph().initializers().get(name).shape().dim(0);
                assertTrue(outputs == 2 || outputs >= 24, name + " has " + outputs);
            }
        }
        Ort.run(folder.resolve("out.onnx"), 1, 1);
    }

    @Test
    void anyNumberOfThreadsMakesTheSame() throws Exception {
        prune(model, 0.6, 1, Score.RECONSTRUCTION, true, 1);
        byte[] one = Files.readAllBytes(folder.resolve("out.onnx"));
        prune(model, 0.6, 1, Score.RECONSTRUCTION, true, 3);
        assertArrayEquals(one, Files.readAllBytes(folder.resolve("out.onnx")));
    }

    @Test
    void whatCannotBeIsToldBeforeAnythingChanges() throws Exception {
        for (double amount : new double[] {-0.1, 1, Double.NaN}) {
            assertThrows(IllegalArgumentException.class, () -> new Options(Set.of(Kind.NEURONS), amount, 1, Score.MAGNITUDE, false, 1e-3));
        }
        assertThrows(IllegalArgumentException.class, () -> new Options(Set.of(Kind.NEURONS), 0.5, 0, Score.MAGNITUDE, false, 1e-3));
        assertThrows(IllegalArgumentException.class, () -> new Options(Set.of(Kind.NEURONS), 0.5, 1, Score.MAGNITUDE, false, 0));
        try (OnnxModel m = OnnxModel.open(model, false); Executor executor = Executor.cpu(1); Arena arena = Arena.ofShared()) {
            EditableModel e = EditableModel.of(m, arena);
            Options heads = new Options(Set.of(Kind.HEADS), 0.5, 1, Score.MAGNITUDE, false, 1e-3);
            assertThrows(UnsupportedRequestException.class, () -> StructuredPruning.prune(e, m.weights(), null, heads, executor, arena));
            Options update = new Options(Set.of(Kind.NEURONS), 0.5, 1, Score.MAGNITUDE, true, 1e-3);
            assertThrows(IllegalArgumentException.class, () -> StructuredPruning.prune(e, m.weights(), null, update, executor, arena));
        }
    }
}
