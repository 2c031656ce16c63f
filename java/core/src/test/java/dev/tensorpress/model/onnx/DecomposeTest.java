package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Recipe;
import dev.tensorpress.Report;
import dev.tensorpress.Targets;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.method.DecomposeMethod;
import dev.tensorpress.method.Evidence;
import dev.tensorpress.method.Prepared;
import dev.tensorpress.method.QuantizeMethod;
import dev.tensorpress.method.Workspace;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.TestModel.NodeBuilder;
import dev.tensorpress.statistics.Gatherer;
import dev.tensorpress.statistics.Request;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Convolutions in the place of one, run in ONNX Runtime beside the kernel that they stand for. */
class DecomposeTest {
    @TempDir
    Path folder;

    private Executor executor;
    private Workspace workspace;

    @BeforeEach
    void open() {
        executor = Executor.cpu(2);
        workspace = new Workspace(executor);
    }

    @AfterEach
    void close() {
        workspace.close();
        executor.close();
    }

    /** @param bias whether there is one */
    private record Subject(UnaryOperator<NodeBuilder> with, boolean bias, long[] input, long[] kernel) {
        TestModel model(DType type, float[] w) {
            TestModel m = TestModel.of(8, 17);
            int t = TensorInfo.code(type);
            m.graph.init("w", type, w, kernel).input("x", t, input);
            NodeBuilder conv = bias ? new NodeBuilder("Conv", "y", "x", "w", "c") : new NodeBuilder("Conv", "y", "x", "w");
            if (bias) {
                m.graph.input("c", t, kernel[0]);
            }
            long[] any = new long[input.length];
            Arrays.fill(any, -1);
            m.graph.node(with.apply(conv)).output("y", t, any);
            return m;
        }
    }

    private static NodeBuilder auto(NodeBuilder n) {
        n.proto.message(5, new Proto().string(1, "auto_pad").string(4, "SAME_UPPER").integer(20, 3));
        return n;
    }

    private static long[] dims(long... dims) {
        return dims;
    }

    private static final List<Subject> SUBJECTS = List.of(
            new Subject(n -> n, false, dims(2, 20, 17, 15), dims(24, 20, 3, 3)),
            new Subject(n -> n.ints("strides", 2, 1).ints("dilations", 1, 2).ints("pads", 2, 1, 0, 3).ints("kernel_shape", 3, 5)
                    .set("group", 1), true, dims(1, 20, 17, 15), dims(24, 20, 3, 5)),
            new Subject(DecomposeTest::auto, true, dims(1, 24, 9, 8), dims(20, 24, 3, 3)),
            new Subject(n -> n.ints("pads", 1, 1).ints("dilations", 2), true, dims(2, 20, 31), dims(24, 20, 5)),
            new Subject(n -> n, true, dims(1, 20, 5, 6, 7), dims(24, 20, 2, 3, 2)));

    private static final List<DecomposeMethod> METHODS = List.of(
            DecomposeMethod.of("rank", 6), DecomposeMethod.of("rank", 6).inputRank(8),
            // Of one side alone.
            DecomposeMethod.of("rank", 24).inputRank(5), DecomposeMethod.of("rank", 5).inputRank(24),
            DecomposeMethod.of("rank", 30).by(DecomposeMethod.By.CP));

    private Weight weight(OnnxModel model) {
        return model.weights().stream().filter(w -> w.name().equals("w")).findFirst().orElseThrow();
    }

    /** Writes it, and returns what the weight has become. */
    private Encoding compress(OnnxModel model, Path out, List<Prepared> steps) throws Exception {
        Target target = Targets.of(model, "", Map.of());
        Weight w = weight(model);
        Form form = new Form.Dense(w.tensor().dtype());
        for (Prepared step : steps) {
            form = step.plan(w, form);
        }
        Form stored = Targets.accept(target, w, form);
        assertEquals(stored, Targets.accept(target, w, stored), "accepting twice");
        Encoding encoding = new Encoding.Dense(w.tensor());
        for (int i = 0; i < steps.size(); i++) {
            boolean last = i == steps.size() - 1;
            encoding = steps.get(i).apply(w, encoding, last ? stored : steps.get(i).plan(w, encoding.form()), workspace);
        }
        Encoding all = encoding;
        Set<Path> files = Targets.write(target, Map.of(w, stored), (weight, f, rows, from) -> all, Destination.replacing(out));
        assertEquals(Set.of(out), files);
        assertEquals(Files.size(out), Targets.size(target, Map.of(w, stored)));
        return encoding;
    }

    private float[] decoded(Encoding e) {
        try (Arena arena = Arena.ofShared()) {
            MemorySegment out = arena.allocate(4 * e.shape().elements(), 64);
            e.decode(out, executor);
            return out.toArray(ValueLayout.JAVA_FLOAT);
        }
    }

    private static float[] kernel(Subject s) {
        int n = 1;
        for (long d : s.kernel) {
            n *= (int) d;
        }
        return TestModel.random(7, n);
    }

    @Test
    void computesWhatTheDecodedKernelComputes() throws Exception {
        Path out = folder.resolve("out.onnx");
        for (Subject s : SUBJECTS) {
            for (DType type : List.of(DType.F32, DType.F16)) {
                Path in = s.model(type, kernel(s)).write(folder, "in.onnx");
                for (DecomposeMethod method : METHODS) {
                    for (boolean codes : new boolean[] {false, true}) {
                        try (OnnxModel model = OnnxModel.open(in, false)) {
                            Prepared first = method.prepare(Evidence.NOTHING);
                            List<Prepared> steps = codes ? List.of(first, QuantizeMethod.int8().perChannel()) : List.of(first);
                            Encoding e = compress(model, out, steps);
                            Path reference = s.model(type, decoded(e)).write(folder, "reference.onnx");
                            LoweringTest.close(List.of(s.kernel) + " " + e.form().describe(), Ort.run(reference, 3, 9), Ort.run(out, 3, 9),
                                    type == DType.F16 ? 5e-3 : 1e-5);
                        }
                    }
                }
            }
        }
    }

    @Test
    void nodesAreThoseThatAreNeeded() throws Exception {
        Path in = SUBJECTS.get(2).model(DType.F32, kernel(SUBJECTS.get(2))).write(folder, "in.onnx");
        Path out = folder.resolve("out.onnx");
        Map<Integer, Integer> convolutions = Map.of(0, 3, 1, 3, 2, 2, 3, 2, 4, 3);
        for (Map.Entry<Integer, Integer> e : convolutions.entrySet()) {
            try (OnnxModel model = OnnxModel.open(in, false)) {
                compress(model, out, List.of(METHODS.get(e.getKey()).prepare(Evidence.NOTHING)));
            }
            try (OnnxModel model = OnnxModel.open(out, false)) {
                List<OnnxGraph.Node> nodes = model.parsed().graph.nodes;
                assertEquals(e.getValue(), nodes.size());
                for (OnnxGraph.Node n : nodes) {
                    assertEquals("Conv", n.op);
                }
                assertEquals("y", nodes.getLast().outputs.getFirst());
                assertEquals(3, nodes.getLast().inputs.size());
                assertEquals(e.getKey() == 4 ? 30 : 1, nodes.get(e.getKey() == 2 || e.getKey() == 4 ? 1 : nodes.size() - 2).integer("group", 1));
            }
            assertEquals(Ort.shape(in, "y"), Ort.shape(out, "y"));
        }
    }

    /** Channels of very different size, mixed: what the smallest ones are multiplied with hardly counts. */
    @Test
    void statisticsSayWhichInputsCount() throws Exception {
        int n = 24;
        Subject s = new Subject(b -> b, false, dims(1, n, 33, 33), dims(32, n, 3, 3));
        Path in = s.model(DType.F32, kernel(s)).write(folder, "in.onnx");
        float[] mix = TestModel.random(11, n * n);
        float[] raw = TestModel.random(12, n * 33 * 33);
        float[] x = new float[raw.length];
        for (int p = 0; p < 33 * 33; p++) {
            for (int i = 0; i < n; i++) {
                for (int j = 0; j < n; j++) {
                    x[i * 33 * 33 + p] += (float) (mix[i * n + j] * Math.pow(0.7, j) * raw[j * 33 * 33 + p]);
                }
            }
        }
        float[] exact = Ort.run(in, x, 1, n, 33, 33)[0];
        try (Compressor c = Compressor.open(in, Compressor.Options.DEFAULT.overwrite(true)); Arena arena = Arena.ofShared();
                Gatherer gatherer = new Gatherer(Request.feeds(c.model().graph().orElseThrow(), true), executor)) {
            MemorySegment values = arena.allocate(4L * x.length, 64).copyFrom(MemorySegment.ofArray(x));
            gatherer.accept(0, gatherer.values().getFirst(), new Tensor(DType.F32, Shape.of(1, n, 33, 33), values));
            try (Statistics statistics = gatherer.finish(Statistics.hash(c.model()), 1, "an image")) {
                c.use(statistics);
                // Of both sides, of outputs alone, of terms, and by what the error may be.
                for (String how : new String[] {"rank: 16, input-rank: 8", "rank: 8, input-rank: 24", "rank: 40, by: cp", "energy: 0.8"}) {
                    double[] errors = new double[2];
                    long[] bytes = new long[2];
                    for (int i = 0; i < 2; i++) {
                        Path out = folder.resolve("out.onnx");
                        Recipe recipe = Recipe.read(Files.writeString(folder.resolve("r.yaml"), "name: r\nsteps:\n  - name: conv\n    select: {role: conv, min-size: 0}\n    decompose: {" + how
                                + ", inputs: " + (i == 0 ? "equal" : "statistics") + "}\n"));
                        assertEquals(1, c.plan(recipe).compressed());
                        bytes[i] = c.compress(c.plan(recipe), out).bytesAfter();
                        float[] found = Ort.run(out, x, 1, n, 33, 33)[0];
                        double squares = 0;
                        for (int j = 0; j < exact.length; j++) {
                            errors[i] += Math.pow(exact[j] - found[j], 2);
                            squares += Math.pow(exact[j], 2);
                        }
                        errors[i] /= squares;
                    }
                    if (how.startsWith("energy")) {
                        assertTrue(bytes[1] < bytes[0] && errors[1] < 0.25, how + ": " + bytes[0] + ", " + bytes[1] + ", " + errors[1]);
                    } else {
                        assertTrue(errors[1] < 0.9 * errors[0], how + ": " + errors[0] + ", " + errors[1]);
                    }
                }
            }
        }
    }

    /** Of two kernels of one size one is applied ten times as often, and one has strides. */
    @Test
    void multiplyAddsAreCountedWhereTheyAreMade() throws Exception {
        TestModel m = TestModel.of(8, 17);
        long[][] kernels = {{24, 20, 3, 3}, {24, 20, 3, 3}, {24, 24, 3, 3}};
        long[][] inputs = {{1, 20, 32, 32}, {1, 20, 12, 12}, {1, 24, 33, 33}};
        long[] positions = {900, 100, 256};
        for (int i = 0; i < 3; i++) {
            NodeBuilder conv = new NodeBuilder("Conv", "y" + i, "x" + i, "w" + i);
            m.graph.init("w" + i, DType.F32, kernel(new Subject(null, false, null, kernels[i])), kernels[i]).input("x" + i, 1, inputs[i])
                    .output("y" + i, 1, -1, -1, -1, -1).node(i == 2 ? conv.ints("strides", 2, 2) : conv);
        }
        Path in = m.write(folder, "in.onnx");
        try (Compressor c = Compressor.open(in, Compressor.Options.DEFAULT.overwrite(true)); Arena arena = Arena.ofShared();
                Gatherer gatherer = new Gatherer(Request.feeds(c.model().graph().orElseThrow(), true), executor)) {
            for (int i = 0; i < 3; i++) {
                float[] x = TestModel.random(i, (int) (inputs[i][1] * inputs[i][2] * inputs[i][3]));
                MemorySegment values = arena.allocate(4L * x.length, 64).copyFrom(MemorySegment.ofArray(x));
                gatherer.accept(0, gatherer.values().get(i), new Tensor(DType.F32, Shape.of(inputs[i]), values));
            }
            try (Statistics statistics = gatherer.finish(Statistics.hash(c.model()), 1, "images")) {
                c.use(statistics);
                for (String how : new String[] {"multiply-adds: 0.5", "multiply-adds: 0.2", "multiply-adds: 0.2, inputs: statistics", "multiply-adds: 0.3, by: cp"}) {
                    Recipe recipe = Recipe.read(Files.writeString(folder.resolve("r.yaml"), "name: r\nsteps:\n  - name: conv\n    select: {role: conv, min-size: 0}\n    decompose: {" + how + "}\n"));
                    Report report = c.compress(c.plan(recipe), folder.resolve("out.onnx"));
                    double before = 0;
                    double after = 0;
                    for (int i = 0; i < 3; i++) {
                        Report.Entry e = report.entries().get(i);
                        Form.Chain chain = e.chain().form();
                        assertEquals(e.relativeError(), e.chain().result().relativeError(), how.endsWith("statistics") ? 1 : 1e-5);
                        assertTrue(e.chain().result().iterations() > 0);
                        Shape shape = Shape.of(kernels[i]);
                        before += (double) positions[i] * shape.elements();
                        List<Shape> parts = chain.shapes(shape);
                        for (int p = 0; p < parts.size(); p++) {
                            after += (double) positions[i] * parts.get(p).elements() * (i == 2 && p == 0 && chain.narrows(shape) ? 4 : 1);
                        }
                    }
                    double part = Double.parseDouble(how.substring(15, 18));
                    assertTrue(after <= part * before && after > 0.85 * part * before, how + ": " + after / before);
                }
            }
        }
    }

    @Test
    void whatCannotBeDecomposedIsSaid() throws Exception {
        TestModel t = TestModel.of(8, 17);
        t.graph.input("p", 1, 2, 16, 9, 9)
                .init("groups", DType.F32, TestModel.random(1, 32 * 4 * 9), 32, 4, 3, 3)
                .node(new NodeBuilder("Conv", "o1", "p", "groups").set("group", 4))
                .init("depth", DType.F32, TestModel.random(1, 16 * 9), 16, 1, 3, 3)
                .node(new NodeBuilder("Conv", "o2", "p", "depth").set("group", 16))
                .init("kernel", DType.F32, TestModel.random(1, 32 * 16 * 9), 32, 16, 3, 3).node("Conv", "o3", "p", "kernel")
                .init("back", DType.F32, TestModel.random(1, 32 * 16 * 9), 16, 32, 3, 3).node("ConvTranspose", "o4", "p", "back")
                .init("place", DType.F32, TestModel.random(1, 32 * 16), 32, 16, 1, 1).node("Conv", "o5", "p", "place")
                .init("strides", DType.F32, TestModel.random(1, 16 * 16 * 9), 16, 16, 3, 3)
                .node(new NodeBuilder("Conv", "o6", "p", "strides").ints("strides", 3, 3))
                .init("matrix", DType.F32, TestModel.random(1, 81), 9, 9).node("MatMul", "o7", "p", "matrix");
        for (int i = 1; i <= 7; i++) {
            t.graph.output("o" + i, 1);
        }
        Map<String, String> reasons = new HashMap<>();
        reasons.put("groups", "Conv_o1 has 4 groups");
        reasons.put("depth", "a depthwise kernel has no channels to do without");
        reasons.put("back", "is no kernel of a convolution");
        reasons.put("place", "its window is a single place");
        reasons.put("matrix", "is no kernel of a convolution");
        reasons.put("strides", "would take 2764 multiplications for each place of a result of Conv_o6, no fewer than the 2304");
        try (OnnxModel m = OnnxModel.open(t.write(folder, "in.onnx"), false)) {
            Target to = Targets.of(m, "", Map.of());
            Map<String, Weight> all = new HashMap<>();
            m.weights().forEach(w -> all.put(w.name(), w));
            Form dense = new Form.Dense(DType.F32);
            Prepared few = DecomposeMethod.of("rank", 4).inputRank(2).prepare(Evidence.NOTHING);
            // Inputs are visited nine times as often as results are made.
            Prepared strided = DecomposeMethod.of("rank", 4).inputRank(16 - 1).prepare(Evidence.NOTHING);
            reasons.forEach((name, reason) -> {
                UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () ->
                        Targets.accept(to, all.get(name), (name.equals("strides") ? strided : few).plan(all.get(name), dense)), name);
                assertTrue(e.getMessage().contains(reason), name + ": " + e.getMessage());
            });
            Form chain = few.plan(all.get("kernel"), dense);
            assertEquals(chain, Targets.accept(to, all.get("kernel"), chain));
            assertEquals(4 * (2 * 16 + 4 * 2 * 9 + 4 * 32), chain.bytes(all.get("kernel").tensor().shape()));
            assertEquals("tucker 4x2 f32", chain.describe());
            refused(DecomposeMethod.of("rank", 30).inputRank(16), all.get("kernel"), "would take");
            refused(DecomposeMethod.of("rank", 30).inputRank(2), all.get("kernel"), "has no ranks 30 and 2");
            refused(DecomposeMethod.of("rank", 145).by(DecomposeMethod.By.CP), all.get("kernel"), "more than the 144 terms");
            assertTrue(assertThrows(UnsupportedRequestException.class, () -> few.plan(all.get("kernel"), chain)).getMessage()
                    .contains("cannot decompose tucker 4x2 f32"));
        }
    }

    private static void refused(DecomposeMethod method, Weight w, String reason) {
        UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () ->
                method.prepare(Evidence.NOTHING).plan(w, new Form.Dense(DType.F32)));
        assertTrue(e.getMessage().contains(reason), e.getMessage());
    }
}
