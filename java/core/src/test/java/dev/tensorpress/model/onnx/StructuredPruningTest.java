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
import dev.tensorpress.structure.StructuredPruning.Amount;
import dev.tensorpress.structure.StructuredPruning.Budget;
import dev.tensorpress.structure.StructuredPruning.Curve;
import dev.tensorpress.structure.StructuredPruning.Measure;
import dev.tensorpress.structure.StructuredPruning.Options;
import dev.tensorpress.structure.StructuredPruning.Pruned;
import dev.tensorpress.structure.StructuredPruning.Score;
import dev.tensorpress.structure.StructuredPruning.Target;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

final class StructuredPruningTest {
    private static final int FLOATS = 1;
    private static final int DOUBLES = 11;
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

    private static Options options(Kind kind, Target target, int multiple, Score score, boolean update, double damping) {
        return new Options(Set.of(kind), List.of(), target, multiple, score, update, damping);
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
        return statistics(m, Map.of("x", x, "r", hidden()));
    }

    private static Statistics statistics(OnnxModel m, Map<String, float[]> values) throws Exception {
        try (Executor executor = Executor.cpu(1); Gatherer gatherer = new Gatherer(Request.feeds(m.graph().orElseThrow(), true), executor);
                Arena arena = Arena.ofShared()) {
            for (Graph.Value value : gatherer.values()) {
                float[] of = values.get(value.name());
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
            Options options = options(Kind.NEURONS, new Amount(amount), multiple, score, update, 1e-6);
            List<Pruned> all = StructuredPruning.prune(e, m.weights(), options.asksForInputs() ? InputStatistics.of(statistics, m) : null, List.of(options),
                    executor, arena).groups();
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

    private static final int SECOND = 48;

    /** y = relu(relu(x W + b) V U) T: of the first neurons half are there twice, of the second none, and 6 lie between. */
    private Path two() throws Exception {
        TestModel m = new TestModel();
        m.graph.node("MatMul", "h", "x", "w").node("Add", "b", "h", "bias").node("Relu", "r", "b").node("MatMul", "p", "r", "v").node("MatMul", "q", "p", "u")
                .node("Relu", "s", "q").node("MatMul", "y", "s", "t");
        m.graph.init("w", DType.F32, first, IN, HIDDEN).init("bias", DType.F32, bias, HIDDEN).init("v", DType.F32, second, HIDDEN, OUT)
                .init("u", DType.F32, TestModel.random(5, OUT * SECOND), OUT, SECOND).init("t", DType.F32, TestModel.random(6, SECOND * OUT), SECOND, OUT)
                .output("p", FLOATS, SAMPLES, OUT).output("r", FLOATS, SAMPLES, HIDDEN).output("s", FLOATS, SAMPLES, SECOND);
        m.graph.input("x", FLOATS, SAMPLES, IN).output("y", FLOATS, SAMPLES, OUT);
        return m.write(folder, "two.onnx");
    }

    /** The model without what is only there to be seen. */
    private Path plain() throws Exception {
        Path all = two();
        try (OnnxModel m = OnnxModel.open(all, false); Arena arena = Arena.ofShared()) {
            EditableModel e = EditableModel.of(m, arena);
            e.graph().outputs().keySet().retainAll(Set.of("y"));
            e.write(Destination.replacing(folder.resolve("plain.onnx")));
        }
        return folder.resolve("plain.onnx");
    }

    private interface Work<T> {
        T of(EditableModel model, OnnxModel opened, InputStatistics inputs, Executor executor, Arena arena);
    }

    private <T> T with(Path in, Work<T> work) throws Exception {
        float[][] seen = Ort.run(folder.resolve("two.onnx"), x, SAMPLES, IN);
        try (OnnxModel m = OnnxModel.open(in, false); Executor executor = Executor.cpu(1); Arena arena = Arena.ofShared();
                Statistics statistics = statistics(m, Map.of("x", x, "p", seen[0], "r", seen[1], "s", seen[2]))) {
            EditableModel e = EditableModel.of(m, arena);
            T result = work.of(e, m, InputStatistics.of(statistics, m), executor, arena);
            e.write(Destination.replacing(folder.resolve("out.onnx")));
            return result;
        }
    }

    private Map<String, Integer> prune(Path in, Options... options) throws Exception {
        return with(in, (e, m, inputs, executor, arena) -> StructuredPruning.prune(e, m.weights(), inputs, List.of(options), executor, arena)).groups()
                .stream().filter(p -> p.size() == HIDDEN || p.size() == SECOND).collect(Collectors.toMap(Pruned::name, Pruned::kept));
    }

    private static Options neurons(Target target, int multiple, Score score, String... names) {
        return new Options(Set.of(Kind.NEURONS), List.of(names), target, multiple, score, score != Score.MAGNITUDE, 1e-6);
    }

    /** What loses nothing goes first, and the rest as it is asked for: as much as needed, and no multiple more. */
    @Test
    void budgetsAreSharedOut() throws Exception {
        Path in = plain();
        long whole = IN * HIDDEN + HIDDEN * OUT + OUT * SECOND + SECOND * OUT;
        for (Score score : Score.values()) {
            for (double part : new double[] {0.99, 0.75, 0.5, 0.25}) {
                Map<String, Integer> kept = prune(in, neurons(new Budget(Measure.MULTIPLY_ADDS, part), 1, score, "*_h", "*_q"));
                long work = kept.get("MatMul_h") * (IN + OUT) + kept.get("MatMul_q") * 2 * OUT;
                assertTrue(work <= part * whole && work + IN + OUT > part * whole, score + " " + part + ": " + kept);
                if (score == Score.RECONSTRUCTION && part == 0.75) {
                    assertTrue(kept.get("MatMul_h") <= HIDDEN / 2 + 2 && kept.get("MatMul_q") >= SECOND - 2, kept.toString());
                }
            }
        }
        for (int multiple : new int[] {1, 8}) {
            for (double part : new double[] {1, 0.9, 0.6}) {
                Map<String, Integer> kept = prune(in, neurons(new Budget(Measure.BYTES, part), multiple, Score.RECONSTRUCTION, "*_h", "*_q"));
                long bytes = Files.size(folder.resolve("out.onnx"));
                assertTrue(bytes <= part * Files.size(in) && bytes + multiple * 4 * (IN + OUT + 1) + 16 > part * Files.size(in), part + ": " + bytes);
                assertTrue(kept.get("MatMul_h") % multiple == 0 && kept.get("MatMul_q") % multiple == 0, kept.toString());
            }
        }
        UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class,
                () -> prune(in, neurons(new Budget(Measure.MULTIPLY_ADDS, 0.01), 1, Score.MAGNITUDE, "*_h", "*_q")));
        assertEquals("without all that can go of what is selected, 2.60 % of the multiply-adds would be left, which is more than 1.00 %", e.getMessage());
    }

    @Test
    void sharingOutLosesLessThanTheSameOfEach() throws Exception {
        Path in = plain();
        prune(in, neurons(new Amount(0.5), 1, Score.RECONSTRUCTION));
        double same = lost(in);
        double part = (double) Files.size(folder.resolve("out.onnx")) / Files.size(in);
        prune(in, neurons(new Budget(Measure.BYTES, part), 1, Score.RECONSTRUCTION));
        assertTrue(lost(in) < 0.5 * same, lost(in) + " of " + same);
    }

    @Test
    void theFirstOptionsThatSelectAGroupTakeIt() throws Exception {
        Path in = plain();
        assertEquals(Map.of("MatMul_h", 24, "MatMul_q", 12), prune(in, neurons(new Amount(0.25), 1, Score.MAGNITUDE, "*_h"), neurons(new Amount(0.75), 1, Score.MAGNITUDE)));
        // The second one counts what the first has left.
        Map<String, Integer> kept = prune(in, neurons(new Amount(0.75), 1, Score.MAGNITUDE, "MatMul_h"), neurons(new Budget(Measure.MULTIPLY_ADDS, 0.5), 1,
                Score.MAGNITUDE, "MatMul_?"));
        assertEquals(Map.of("MatMul_h", 8, "MatMul_q", 36), kept);
        UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () -> prune(in, neurons(new Amount(0.5), 1, Score.MAGNITUDE, "z*")));
        assertEquals("the model has no neurons of z*", e.getMessage());
    }

    /** Curves say what pruning to each of their points loses of the results that the products make. */
    @Test
    void curvesSayWhatPruningLoses() throws Exception {
        Path in = plain();
        Options o = neurons(new Amount(0.5), 8, Score.RECONSTRUCTION);
        List<Curve> curves = with(in, (e, m, inputs, executor, arena) -> StructuredPruning.curves(e, m.weights(), inputs, List.of(o), executor));
        assertEquals(List.of("MatMul_h", "MatMul_q"), curves.stream().map(c -> c.group().name()).toList());
        assertArrayEquals(new int[] {32, 24, 16, 8}, curves.getFirst().kept());
        for (Curve c : curves) {
            assertEquals(0, c.loss()[0]);
            for (int i = 1; i < c.kept().length; i++) {
                double amount = 1 - (double) c.kept()[i] / c.group().size();
                Options one = neurons(new Amount(amount), 1, Score.RECONSTRUCTION, c.group().name());
                Pruned p = with(in, (e, m, inputs, executor, arena) -> StructuredPruning.prune(e, m.weights(), inputs, List.of(one), executor, arena))
                        .groups().getFirst();
                assertEquals(c.kept()[i], p.kept());
                assertEquals(p.loss().orElseThrow(), c.loss()[i], 1e-5 + 0.01 * c.loss()[i]);
            }
        }
    }

    @Test
    void whatStaysOfValuesIsTold() throws Exception {
        Map<String, int[][]> kept = with(plain(), (e, m, inputs, executor, arena) -> StructuredPruning.prune(e, m.weights(), inputs,
                List.of(neurons(new Amount(0.5), 1, Score.MAGNITUDE, "MatMul_h")), executor, arena)).kept();
        assertEquals(Set.of("h", "b", "r"), kept.keySet());
        assertEquals(HIDDEN / 2, kept.get("h")[1].length);
        assertArrayEquals(kept.get("h")[1], kept.get("r")[1]);
        assertTrue(kept.get("h")[0] == null);
    }

    /** Neurons that are always the same go without loss, all of them: the bias behind them takes what they make. */
    @Test
    void biasesMakeUpForWhatIsConstant() throws Exception {
        int constant = HIDDEN / 4;
        for (int i = 0; i < constant; i++) {
            for (int j = 0; j < IN; j++) {
                first[j * HIDDEN + i] = 0;
            }
            bias[i] = 1 + i;
        }
        float[] added = TestModel.random(8, OUT);
        TestModel m = new TestModel();
        m.graph.node("MatMul", "h", "x", "w").node("Add", "b", "h", "bias").node("Relu", "r", "b").node("MatMul", "p", "r", "v").node("Add", "y", "p", "c");
        m.graph.init("w", DType.F32, first, IN, HIDDEN).init("bias", DType.F32, bias, HIDDEN).init("v", DType.F32, TestModel.random(3, HIDDEN * OUT), HIDDEN, OUT)
                .init("c", DType.F32, added, OUT).input("x", FLOATS, SAMPLES, IN).output("y", FLOATS, SAMPLES, OUT);
        Path in = m.write(folder, "constant.onnx");
        for (Score score : List.of(Score.ACTIVATIONS, Score.RECONSTRUCTION)) {
            Pruned p = prune(in, 0.25, 1, score, true, 1);
            assertEquals(HIDDEN - constant, p.kept());
            assertTrue(p.loss().orElseThrow() < 1e-9 && lost(in) < 1e-9, p + " lost " + lost(in));
        }
        // Beyond that losses are those of the results again, without what is constant in them.
        Pruned p = prune(in, 0.5, 1, Score.RECONSTRUCTION, true, 1);
        float[] before = Ort.run(in, x, SAMPLES, IN)[0];
        float[] after = Ort.run(folder.resolve("out.onnx"), x, SAMPLES, IN)[0];
        double error = 0;
        double variance = 0;
        for (int j = 0; j < OUT; j++) {
            double mean = 0;
            double shift = 0;
            for (int i = 0; i < SAMPLES; i++) {
                mean += before[i * OUT + j] / SAMPLES;
                shift += (before[i * OUT + j] - after[i * OUT + j]) / SAMPLES;
            }
            assertEquals(0, shift, 1e-4);
            for (int i = 0; i < SAMPLES; i++) {
                error += Math.pow(before[i * OUT + j] - after[i * OUT + j], 2);
                variance += Math.pow(before[i * OUT + j] - mean, 2);
            }
        }
        assertEquals(p.loss().orElseThrow(), error / variance, 1e-4 + 0.01 * error / variance);
        // Without the update nothing moves.
        prune(in, 0.25, 1, Score.ACTIVATIONS, false, 1);
        try (OnnxModel opened = OnnxModel.open(folder.resolve("out.onnx"), false); Arena arena = Arena.ofShared()) {
            EditableTensor c = EditableModel.of(opened, arena).graph().initializers().get("c");
            assertEquals(-1, c.tensor().data().mismatch(MemorySegment.ofArray(added)));
        }
    }

    /** y = z + g(z), z = x + f(x), where f is larger than g: what it loses is in y as well. */
    @Test
    void blocksOfAResidualStreamAreComparedAsTheyAre() throws Exception {
        float[] small = TestModel.random(5, HIDDEN * IN);
        for (int i = 0; i < small.length; i++) {
            small[i] *= 0.02f;
        }
        TestModel m = new TestModel();
        m.graph.node("MatMul", "h", "x", "w").node("Relu", "r", "h").node("MatMul", "p", "r", "v").node("Add", "z", "x", "p").node("MatMul", "q", "z", "u")
                .node("Relu", "s", "q").node("MatMul", "t", "s", "o").node("Add", "y", "z", "t");
        m.graph.init("w", DType.F32, TestModel.random(1, IN * HIDDEN), IN, HIDDEN).init("v", DType.F32, TestModel.random(5, HIDDEN * IN), HIDDEN, IN)
                .init("u", DType.F32, TestModel.random(1, IN * HIDDEN), IN, HIDDEN).init("o", DType.F32, small, HIDDEN, IN)
                .output("p", FLOATS, SAMPLES, OUT).output("z", FLOATS, SAMPLES, IN).output("r", FLOATS, SAMPLES, HIDDEN).output("s", FLOATS, SAMPLES, HIDDEN);
        m.graph.input("x", FLOATS, SAMPLES, IN).output("y", FLOATS, SAMPLES, IN);
        Path seen = m.write(folder, "seen.onnx");
        float[][] values = Ort.run(seen, x, SAMPLES, IN);
        try (OnnxModel opened = OnnxModel.open(seen, false); Executor executor = Executor.cpu(1); Arena arena = Arena.ofShared();
                Statistics statistics = statistics(opened, Map.of("x", x, "z", values[1], "r", values[2], "s", values[3]))) {
            EditableModel e = EditableModel.of(opened, arena);
            e.graph().outputs().keySet().retainAll(Set.of("y"));
            List<Curve> curves = StructuredPruning.curves(e, opened.weights(), InputStatistics.of(statistics, opened),
                    List.of(neurons(new Amount(0.5), 1, Score.RECONSTRUCTION)), executor);
            assertEquals(2, curves.size());
            double f = curves.get(0).loss()[HIDDEN / 2];
            double g = curves.get(1).loss()[HIDDEN / 2];
            assertTrue(f > 3 * g, f + " " + g);
        }
    }

    /** Two groups along one axis of a weight, whose rest makes up for both of them together. */
    @Test
    void whatIsReadTogetherIsMadeUpForTogether() throws Exception {
        TestModel m = new TestModel();
        m.graph.node("MatMul", "a", "x", "w").node("Relu", "b", "a").node("MatMul", "c", "x", "u").node("Relu", "d", "c")
                .node(new TestModel.NodeBuilder("Concat", "r", "b", "d").set("axis", 1L)).node("MatMul", "y", "r", "v");
        float[] twice = TestModel.random(9, IN * HIDDEN);
        for (int j = 0; j < IN; j++) {
            for (int i = 0; i < HIDDEN / 2; i++) {
                twice[j * HIDDEN + HIDDEN / 2 + i] = first[j * HIDDEN + i];
            }
        }
        m.graph.init("w", DType.F32, first, IN, HIDDEN).init("u", DType.F32, twice, IN, HIDDEN)
                .init("v", DType.F32, TestModel.random(4, 2 * HIDDEN * OUT), 2 * HIDDEN, OUT).input("x", FLOATS, SAMPLES, IN)
                .output("r", FLOATS, SAMPLES, 2 * HIDDEN).output("y", FLOATS, SAMPLES, OUT);
        Path seen = m.write(folder, "seen.onnx");
        float[] r = Ort.run(seen, x, SAMPLES, IN)[0];
        Path in = folder.resolve("joined.onnx");
        try (OnnxModel opened = OnnxModel.open(seen, false); Arena arena = Arena.ofShared()) {
            EditableModel e = EditableModel.of(opened, arena);
            e.graph().outputs().remove("r");
            e.write(Destination.replacing(in));
        }
        try (OnnxModel opened = OnnxModel.open(in, false); Executor executor = Executor.cpu(1); Arena arena = Arena.ofShared();
                Statistics statistics = statistics(opened, Map.of("x", x, "r", r))) {
            EditableModel e = EditableModel.of(opened, arena);
            List<Pruned> all = StructuredPruning.prune(e, opened.weights(), InputStatistics.of(statistics, opened),
                    List.of(neurons(new Amount(0.25), 1, Score.RECONSTRUCTION)), executor, arena).groups().stream()
                    .filter(p -> p.kept() < p.size()).toList();
            e.write(Destination.replacing(folder.resolve("out.onnx")));
            // The last group knows what both have lost.
            assertEquals(all.getLast().loss().orElseThrow(), lost(in), 1e-4 + 0.01 * lost(in), all.toString());
        }
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
            List<Pruned> all = StructuredPruning.prune(e, opened.weights(), null,
                    List.of(options(Kind.CHANNELS, new Amount(0.25), 1, Score.MAGNITUDE, false, 1e-3)), executor, arena).groups();
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

    /** Of all types, in what makes neurons and in what reads them; what is not touched may hold it. */
    @Test
    void weightsThatAreNotFiniteAreNamed() throws Exception {
        for (DType type : List.of(DType.F64, DType.F32, DType.F16, DType.BF16)) {
            refuses(type, "w", 70_001, Float.NaN, "weight w holds NaN at element 70001: which neurons of 'MatMul_h' are needed least cannot be told");
            refuses(type, "v", 3, Float.NEGATIVE_INFINITY, "weight v holds -Infinity at element 3: which neurons");
        }
        refuses(DType.F32, "last", 0, Float.NaN, null);
    }

    /** @param message null if it goes on */
    private void refuses(DType type, String constant, int at, float value, String message) throws Exception {
        TestModel m = new TestModel();
        m.graph.node("MatMul", "h", "x", "w").node("Relu", "r", "h").node("MatMul", "z", "r", "v").node("Add", "y", "z", "last");
        m.graph.input("x", FLOATS, 1, 400).output("y", FLOATS, 1, 8);
        for (Map.Entry<String, long[]> c : Map.of("w", new long[] {400, 256}, "v", new long[] {256, 8}, "last", new long[] {8}).entrySet()) {
            float[] values = TestModel.random(5, Math.toIntExact(Shape.of(c.getValue()).elements()));
            if (c.getKey().equals(constant)) {
                values[at] = value;
            }
            if (type == DType.F64) {
                Proto tensor = new Proto();
                Arrays.stream(c.getValue()).forEach(dim -> tensor.integer(1, dim));
                ByteBuffer data = ByteBuffer.allocate(8 * values.length).order(ByteOrder.LITTLE_ENDIAN);
                for (float one : values) {
                    data.putDouble(one);
                }
                m.graph.init(tensor.integer(2, DOUBLES).string(8, c.getKey()).bytes(9, data.array()));
            } else {
                m.graph.init(c.getKey(), type, values, c.getValue());
            }
        }
        try (OnnxModel opened = OnnxModel.open(m.write(folder, "nan.onnx"), false); Executor executor = Executor.cpu(1); Arena arena = Arena.ofShared()) {
            EditableModel e = EditableModel.of(opened, arena);
            List<Options> few = List.of(options(Kind.NEURONS, new Amount(0.05), 1, Score.MAGNITUDE, false, 1e-3));
            if (message == null) {
                assertTrue(StructuredPruning.prune(e, opened.weights(), null, few, executor, arena).groups().stream()
                        .anyMatch(p -> p.name().equals("MatMul_h") && p.kept() == 243));
                return;
            }
            String found = assertThrows(UnsupportedRequestException.class, () -> StructuredPruning.prune(e, opened.weights(), null, few, executor, arena))
                    .getMessage();
            assertTrue(found.startsWith(message), found);
            found = assertThrows(UnsupportedRequestException.class, () -> StructuredPruning.curves(e, opened.weights(), null, few, executor)).getMessage();
            assertTrue(found.startsWith(message), found);
        }
    }

    @Test
    void whatCannotBeIsToldBeforeAnythingChanges() throws Exception {
        for (double amount : new double[] {-0.1, 1, Double.NaN}) {
            assertThrows(IllegalArgumentException.class, () -> options(Kind.NEURONS, new Amount(amount), 1, Score.MAGNITUDE, false, 1e-3));
        }
        assertThrows(IllegalArgumentException.class, () -> options(Kind.NEURONS, new Amount(0.5), 0, Score.MAGNITUDE, false, 1e-3));
        assertThrows(IllegalArgumentException.class, () -> options(Kind.NEURONS, new Amount(0.5), 1, Score.MAGNITUDE, false, 0));
        try (OnnxModel m = OnnxModel.open(model, false); Executor executor = Executor.cpu(1); Arena arena = Arena.ofShared()) {
            EditableModel e = EditableModel.of(m, arena);
            Options heads = options(Kind.HEADS, new Amount(0.5), 1, Score.MAGNITUDE, false, 1e-3);
            assertThrows(UnsupportedRequestException.class, () -> StructuredPruning.prune(e, m.weights(), null, List.of(heads), executor, arena));
            Options update = options(Kind.NEURONS, new Amount(0.5), 1, Score.MAGNITUDE, true, 1e-3);
            assertThrows(IllegalArgumentException.class, () -> StructuredPruning.prune(e, m.weights(), null, List.of(update), executor, arena));
        }
    }
}
