package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnxruntime.OrtSession.SessionOptions.OptLevel;
import dev.tensorpress.Targets;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.encoding.Form.Activations;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.TestModel.GraphBuilder;
import dev.tensorpress.model.onnx.TestModel.NodeBuilder;
import dev.tensorpress.tensor.DType;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.BiConsumer;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Factors and corrections in ONNX files, run in ONNX Runtime beside a model whose floats are the decoded weights. */
final class LowRankLoweringTest {
    private static final int RANK = 6;

    @TempDir
    Path folder;

    /** A model around one weight {@code w}; some operators need a newer operator set to have their inputs absent. */
    private record Subject(String name, long opset, long[] dims, BiConsumer<GraphBuilder, Integer> build) {
        @Override
        public String toString() {
            return name;
        }

        TestModel model(long ir, long opset, DType type, float[] w) {
            TestModel m = TestModel.of(ir, opset);
            m.graph.init("w", type, w, dims);
            if (ir < 4) {
                m.graph.input("w", TensorInfo.code(type), dims);
            }
            m.graph.more.message(13, TestModel.value("w", TensorInfo.code(type), dims));
            build.accept(m.graph, TensorInfo.code(type));
            return m;
        }

        int elements() {
            int n = 1;
            for (long d : dims) {
                n *= (int) d;
            }
            return n;
        }

        boolean conv() {
            return dims.length > 2;
        }
    }

    private static Subject subject(String name, long opset, BiConsumer<GraphBuilder, Integer> build, long... dims) {
        return new Subject(name, opset, dims, build);
    }

    private static NodeBuilder gemm(String y, String... in) {
        return new NodeBuilder("Gemm", y, in);
    }

    private static final List<Subject> SUBJECTS = List.of(
            subject("matmul", 7, (g, t) -> g.input("x", t, 2, -1, 80).node("MatMul", "y", "x", "w")
                    .output("y", t, 2, -1, 50), 80, 50),
            subject("vector", 7, (g, t) -> g.input("x", t, 37).node("MatMul", "y", "x", "w").output("y", t, 49), 37, 49),
            subject("two matmuls", 7, (g, t) -> g.input("x", t, -1, 64).node("MatMul", "a", "x", "w")
                    .node("MatMul", "y", "a", "w").output("y", t, -1, 64), 64, 64),
            subject("matmul and gemm", 7, (g, t) -> g.input("x", t, -1, 64).input("c", t, 40)
                    .node("MatMul", "a", "x", "w").node("Gemm", "b", "x", "w", "c").node("Sub", "y", "a", "b")
                    .output("a", t, -1, 40).output("y", t, -1, 40), 64, 40),
            subject("gemm", 7, (g, t) -> g.input("x", t, -1, 48).input("c", t, 40)
                    .node(gemm("y", "x", "w", "c").set("transB", 1)).output("y", t, -1, 40), 40, 48),
            subject("gemm without bias", 11, (g, t) -> g.input("x", t, -1, 48).node(gemm("y", "x", "w").set("beta", 3f))
                    .output("y", t, -1, 40), 48, 40),
            subject("gemm alpha", 11, (g, t) -> g.input("x", t, -1, 48)
                    .node(gemm("y", "x", "w").set("transB", 1).set("alpha", -0.5f)).output("y", t, -1, 40), 40, 48),
            subject("gemm with everything", 7, (g, t) -> g.input("x", t, 48, -1).input("c", t, -1, 1)
                    .node(gemm("y", "x", "w", "c").set("transA", 1).set("transB", 1).set("alpha", 0.5f).set("beta", -2f))
                    .output("y", t, -1, 40), 40, 48),
            subject("gemm transposed", 11, (g, t) -> g.input("x", t, 48, -1)
                    .node(gemm("y", "x", "w").set("transA", 1)).output("y", t, -1, 40), 48, 40),
            subject("conv", 7, (g, t) -> g.input("x", t, 2, 8, 17, 15).node("Conv", "y", "x", "w")
                    .output("y", t, 2, 24, 15, 13), 24, 8, 3, 3),
            subject("conv with everything", 7, (g, t) -> g.input("x", t, -1, 8, 17, 15).input("c", t, 24)
                    .node(new NodeBuilder("Conv", "y", "x", "w", "c").ints("strides", 2, 1).ints("dilations", 1, 2)
                            .ints("pads", 2, 1, 0, 3).ints("kernel_shape", 3, 5).set("group", 1))
                    .output("y", t, -1, 24, 9, 11), 24, 8, 3, 5),
            subject("conv with its own padding", 7, (g, t) -> g.input("x", t, 2, 8, 17, 15).input("c", t, 24)
                    .node(auto(new NodeBuilder("Conv", "y", "x", "w", "c").ints("strides", 2, 2)))
                    .output("y", t, 2, 24, 9, 8), 24, 8, 3, 3),
            subject("conv of single places", 7, (g, t) -> g.input("x", t, 2, 40, 5, 5).input("c", t, 48)
                    .node(new NodeBuilder("Conv", "y", "x", "w", "c").ints("strides", 2, 2))
                    .output("y", t, 2, 48, 3, 3), 48, 40, 1, 1),
            subject("conv 1-d", 7, (g, t) -> g.input("x", t, 2, 16, 31).input("c", t, 24)
                    .node(new NodeBuilder("Conv", "y", "x", "w", "c").ints("pads", 1, 1).ints("dilations", 2))
                    .node("Conv", "z", "x", "w").output("y", t, 2, 24, 29).output("z", t, 2, 24, 29), 24, 16, 3),
            subject("conv 3-d", 7, (g, t) -> g.input("x", t, 1, 4, 6, 7, 8).input("c", t, 24)
                    .node("Conv", "y", "x", "w", "c").output("y", t, 1, 24, 5, 5, 7), 24, 4, 2, 3, 2));

    private static NodeBuilder auto(NodeBuilder n) {
        n.proto.message(5, new Proto().string(1, "auto_pad").string(4, "SAME_UPPER").integer(20, 3));
        return n;
    }

    /** Factors as passes ask for them, as many bits as given; 0 for the weight's own floats. */
    private record Wish(int left, int right, int block, boolean symmetric, Activations activations, int base) {
        Form on(Weight w) {
            boolean conv = w.inputAxis() == 1 && w.tensor().shape().rank() > 2;
            DType type = w.tensor().dtype();
            Form.LowRank f = new Form.LowRank(form(left, type, conv ? 1 : 0), form(right, type, conv ? 1 : 0), RANK,
                    !conv && w.inputAxis() == 1);
            return base == 0 ? f : new Form.Sum(form(base, type, w.inputAxis()), f);
        }

        private Form form(int bits, DType type, int in) {
            return bits == 0 ? new Form.Dense(type) : new Form.Quantized(bits, block > 0 ? in : 1 - in, block, symmetric,
                    activations, activations == Activations.DYNAMIC ? DType.U8 : DType.I8, DType.F32, false, false);
        }
    }

    private static Wish wish(int left, int right, int block, boolean symmetric) {
        return new Wish(left, right, block, symmetric, Activations.FLOAT, 0);
    }

    private static final List<Wish> FACTORS = List.of(wish(0, 0, 0, true), wish(8, 8, 0, true), wish(8, 8, 0, false),
            wish(8, 8, 32, true), wish(4, 4, 16, false), wish(4, 8, 16, true), wish(0, 4, 32, true), wish(8, 0, 0, true),
            wish(5, 3, 0, true), new Wish(8, 8, 32, true, Activations.BLOCKWISE, 0));
    /** Not of convolutions, which have no such products. */
    private static final List<Wish> OTHERS = List.of(new Wish(8, 8, 0, true, Activations.DYNAMIC, 0),
            new Wish(8, 0, 0, false, Activations.DYNAMIC, 0), new Wish(0, 0, 32, true, Activations.FLOAT, 4),
            new Wish(0, 0, 0, false, Activations.FLOAT, 8), new Wish(8, 8, 32, false, Activations.FLOAT, 4),
            new Wish(8, 8, 0, true, Activations.DYNAMIC, 8), new Wish(0, 0, 0, true, Activations.FLOAT, 3));

    private record Runtime(long ir, long opset, DType type) {}

    static List<Object[]> cases() {
        List<Object[]> all = new ArrayList<>();
        for (Subject s : SUBJECTS) {
            for (Runtime r : List.of(new Runtime(3, 7, DType.F32), new Runtime(6, 11, DType.F32),
                    new Runtime(8, 13, DType.F32), new Runtime(10, 21, DType.F32), new Runtime(8, 13, DType.F16),
                    new Runtime(10, 21, DType.F16))) {
                if (r.opset >= s.opset) {
                    all.add(new Object[] {s, r});
                }
            }
        }
        return all;
    }

    @ParameterizedTest(name = "{0} {1}")
    @MethodSource("cases")
    void computesWhatTheDecodedWeightsCompute(Subject subject, Runtime r) throws Exception {
        Path in = subject.model(r.ir, r.opset, r.type, TestModel.random(7, subject.elements())).write(folder, "in.onnx");
        List<Wish> wishes = new ArrayList<>(FACTORS);
        if (!subject.conv()) {
            wishes.addAll(OTHERS);
        }
        for (Wish wish : wishes) {
            for (String name : List.of("onnxruntime", "onnx")) {
                Path out = folder.resolve("out.onnx");
                PlainEncoder encoder = new PlainEncoder();
                Form form = compress(in, out, name, wish, encoder);
                Path reference = subject.model(r.ir, r.opset, r.type, encoder.decoded.get("w"))
                        .write(folder, "reference.onnx");
                // Of f16 products ONNX Runtime fuses some to less exact ones.
                OptLevel level = r.type == DType.F16 ? OptLevel.NO_OPT : OptLevel.ALL_OPT;
                LoweringTest.close(subject + " " + r + " " + wish + " " + name + " as " + form,
                        Ort.run(reference, 3, 40, level), Ort.run(out, 3, 40, level), tolerance(form, r.type));
            }
        }
    }

    private static double tolerance(Form form, DType type) {
        // Rounded to 8 bits before one product, and the result before the next.
        boolean rounded = form.toString().contains("DYNAMIC") || form.toString().contains("BLOCKWISE");
        return rounded ? 0.03 : type == DType.F16 ? 4e-3 : 1e-5;
    }

    /** Compresses {@code w}, checking what holds for every output. */
    private static Form compress(Path in, Path out, String target, Wish wish, PlainEncoder encoder) throws Exception {
        try (OnnxModel m = OnnxModel.open(in, false)) {
            Target t = Targets.of(m, target, Map.of());
            Weight w = find(m);
            Form form = Targets.accept(t, w, wish.on(w));
            assertEquals(form, Targets.accept(t, w, form), "accepting twice");
            Set<Path> files = Targets.write(t, Map.of(w, form), once(encoder), Destination.replacing(out));
            long bytes = 0;
            for (Path f : files) {
                bytes += Files.size(f);
            }
            assertEquals(bytes, Targets.size(t, Map.of(w, form)));
            return form;
        }
    }

    private static Weight find(OnnxModel m) {
        return m.weights().stream().filter(w -> w.name().equals("w")).findFirst().orElseThrow();
    }

    private static Target.Encoder once(Target.Encoder encoder) {
        Set<Weight> asked = new HashSet<>();
        return (weight, form, rows, first) -> {
            assertTrue(asked.add(weight), "asked twice for " + weight.name());
            return encoder.encode(weight, form, rows, first);
        };
    }

    @Test
    void aSubgraphMayReadTheWeightOfTheGraphAround() throws Exception {
        for (long ir : new long[] {3, 8}) {
            Subject s = subject("outer", 13, (g, t) -> {
                GraphBuilder then = new GraphBuilder("then").node("MatMul", "o", "x", "w").output("o", 1, -1, 40);
                GraphBuilder other = new GraphBuilder("else").node("Neg", "v", "x").node("MatMul", "p", "v", "w")
                        .output("p", 1, -1, 40);
                g.input("x", 1, -1, 64).input("c", 9, 1).node(new NodeBuilder("If", "y", "c")
                        .graph("then_branch", then).graph("else_branch", other)).output("y", 1, -1, 40);
            }, 64, 40);
            Path in = s.model(ir, 13, DType.F32, TestModel.random(7, s.elements())).write(folder, "in.onnx");
            for (Wish wish : List.of(FACTORS.get(0), FACTORS.get(2), FACTORS.get(4), OTHERS.get(2), OTHERS.get(5))) {
                PlainEncoder encoder = new PlainEncoder();
                Path out = folder.resolve("out.onnx");
                Form form = compress(in, out, "", wish, encoder);
                Path reference = s.model(ir, 13, DType.F32, encoder.decoded.get("w")).write(folder, "reference.onnx");
                LoweringTest.close(ir + " " + wish, Ort.run(reference, 3, 40), Ort.run(out, 3, 40),
                        tolerance(form, DType.F32));
            }
        }
    }

    /** In data files and in Constant nodes; of one factor alone the tensor would be too small for a data file. */
    @Test
    void whereverTheWeightIs() throws Exception {
        float[] w = TestModel.random(7, 400 * 30);
        for (boolean external : new boolean[] {true, false}) {
            Path in = model(external, w, "in.onnx");
            for (Wish wish : List.of(FACTORS.get(0), FACTORS.get(2), FACTORS.get(4), OTHERS.get(2), OTHERS.get(5))) {
                PlainEncoder encoder = new PlainEncoder();
                Path out = folder.resolve("out.onnx");
                Form form = compress(in, out, "", wish, encoder);
                float[] actual = Ort.run(out, 3, 9);
                Path reference = model(external, encoder.decoded.get("w"), "reference.onnx");
                LoweringTest.close(external + " " + wish, Ort.run(reference, 3, 9), actual, tolerance(form, DType.F32));
                try (OnnxModel m = OnnxModel.open(out, false)) {
                    assertEquals(external ? 2 : 1, m.files().size());
                }
            }
        }
    }

    private Path model(boolean external, float[] w, String name) throws Exception {
        TestModel m = TestModel.of(8, 17);
        Proto t = TestModel.head(external ? "w" : "", 1, 400, 30);
        byte[] raw = TestModel.raw(DType.F32, w);
        if (external) {
            Files.write(folder.resolve(name + ".data"), raw);
            m.graph.init(t.message(13, new Proto().string(1, "location").string(2, name + ".data")).integer(14, 1));
        } else {
            m.graph.node(new NodeBuilder("Constant", "w").tensor("value", t.bytes(9, raw)));
        }
        m.graph.input("x", 1, -1, 400).node("MatMul", "y", "x", "w").output("y", 1, -1, 30);
        return m.write(folder, name);
    }

    /** Kept as bf16 by exporters; ONNX Runtime computes in it only on some devices, so the graph is all that is checked. */
    @Test
    void namesSayWhereThingsCameFrom() throws Exception {
        Subject s = subject("bf16", 13, (g, t) -> g.input("x", t, -1, 64).input("h.left", t, 1)
                .node("MatMul", "h", "x", "w").node("MatMul", "y", "x", "w").output("y", t, -1, 48), 64, 48);
        Path in = s.model(8, 13, DType.BF16, TestModel.random(7, s.elements())).write(folder, "in.onnx");
        Path out = folder.resolve("out.onnx");
        compress(in, out, "", new Wish(0, 8, 0, true, Activations.FLOAT, 0), new PlainEncoder());
        try (OnnxModel m = OnnxModel.open(out, false)) {
            OnnxGraph g = m.parsed().graph;
            assertEquals(List.of("Cast w.right.floats", "Mul w.right.f32", "Cast w.right", "MatMul h.left_2", "MatMul h",
                    "MatMul y.left", "MatMul y"),
                    g.nodes.stream().map(n -> n.op + " " + n.outputs.getFirst()).toList());
            assertEquals(List.of("MatMul_h/left", "MatMul_h", "MatMul_y/left", "MatMul_y"),
                    g.nodes.stream().filter(n -> n.is("MatMul")).map(n -> n.name).toList());
            assertEquals(List.of("w.left", "w.right.quantized", "w.right.scale"),
                    g.initializers.stream().map(t -> t.name).toList());
            assertTrue(g.valueInfos.isEmpty());
        }
        compress(s.model(8, 13, DType.F32, TestModel.random(7, s.elements())).write(folder, "in.onnx"), out, "",
                new Wish(0, 0, 32, true, Activations.FLOAT, 4), new PlainEncoder());
        try (OnnxModel m = OnnxModel.open(out, false)) {
            OnnxGraph g = m.parsed().graph;
            assertEquals(List.of("MatMul_y", "MatMul_y/left", "MatMul_y/right", "y/Add"),
                    g.nodes.stream().map(n -> n.name).skip(4).toList());
            assertEquals(List.of("w.base.quantized", "w.base.scale", "w.left", "w.right"),
                    g.initializers.stream().map(t -> t.name).toList());
        }
    }

    /** Of results that the model declares without a shape. */
    @Test
    void shapesStillInfer() throws Exception {
        Proto unknown = new Proto().string(1, "y").message(2, new Proto().message(1, new Proto().integer(1, TensorInfo.code(DType.F32))));
        List<Subject> subjects = List.of(
                subject("[2, -1, 50] [, d1, ]", 17, (g, t) -> g.input("x", t, 2, -1, 80).node("MatMul", "y", "x", "w")
                        .more.message(12, unknown), 80, 50),
                subject("[-1, 40] [d1, ]", 17, (g, t) -> g.input("x", t, 48, -1).input("c", t, -1, 1)
                        .node(gemm("y", "x", "w", "c").set("transA", 1).set("transB", 1).set("alpha", 0.5f).set("beta", -2f))
                        .more.message(12, unknown), 40, 48),
                subject("[-1, 24, 9, 11] [d1, , , ]", 17, (g, t) -> g.input("x", t, -1, 8, 17, 15).input("c", t, 24)
                        .node(new NodeBuilder("Conv", "y", "x", "w", "c").ints("strides", 2, 1).ints("dilations", 1, 2)
                                .ints("pads", 2, 1, 0, 3)).more.message(12, unknown), 24, 8, 3, 5));
        Path in = folder.resolve("in.onnx");
        Path out = folder.resolve("out.onnx");
        for (Subject s : subjects) {
            for (Wish wish : s.conv() ? FACTORS.subList(0, 2) : List.of(FACTORS.get(0), FACTORS.get(3), OTHERS.get(0), OTHERS.get(2))) {
                s.model(8, 17, DType.F32, TestModel.random(7, s.elements())).write(folder, "in.onnx");
                assertEquals(s.name, Ort.shape(in, "y"));
                compress(in, out, "onnxruntime", wish, new PlainEncoder());
                assertEquals(s.name, Ort.shape(out, "y"), wish.toString());
            }
        }
    }

    @Test
    void codesUseTheProductsThatWholeWeightsUse() throws Exception {
        Path in = SUBJECTS.getFirst().model(8, 17, DType.F32, TestModel.random(7, 4000)).write(folder, "in.onnx");
        Path out = folder.resolve("out.onnx");
        Map<Wish, Map<String, Long>> expected = Map.of(
                wish(0, 0, 0, true), Map.of("MatMul", 2L),
                wish(8, 4, 32, false), Map.of("MatMulNBits", 2L),
                wish(0, 4, 32, true), Map.of("MatMul", 1L, "MatMulNBits", 1L),
                wish(8, 8, 0, true), Map.of("Cast", 2L, "Mul", 2L, "MatMul", 2L),
                OTHERS.get(2), Map.of("MatMulNBits", 1L, "MatMul", 2L, "Add", 1L),
                OTHERS.get(0), Map.of("DynamicQuantizeLinear", 2L, "MatMulInteger", 2L, "Cast", 2L, "Mul", 4L));
        for (Map.Entry<Wish, Map<String, Long>> e : expected.entrySet()) {
            compress(in, out, "", e.getKey(), new PlainEncoder());
            try (OnnxModel m = OnnxModel.open(out, false)) {
                assertEquals(e.getValue(), m.parsed().graph.nodes.stream()
                        .collect(Collectors.groupingBy(n -> n.op, Collectors.counting())), e.getKey().toString());
            }
        }
    }

    @Test
    void formsTakeTheBytesTheySay() throws Exception {
        Path in = SUBJECTS.getFirst().model(8, 17, DType.F32, TestModel.random(7, 4000)).write(folder, "in.onnx");
        try (OnnxModel m = OnnxModel.open(in, false)) {
            Target t = Targets.of(m, "", Map.of());
            Weight w = find(m);
            Form f = Targets.accept(t, w, FACTORS.getFirst().on(w));
            assertEquals((80 + 50) * RANK * 4, f.bytes(w.tensor().shape()));
            // One tensor less, some nodes and headers more.
            long saved = m.bytes() - Targets.size(t, Map.of(w, f));
            assertTrue(saved < w.tensor().bytes() - f.bytes(w.tensor().shape()) && saved > 12_500, saved + " bytes");
        }
    }

    @Test
    void whatCannotBeFactoredIsSaid() throws Exception {
        TestModel t = TestModel.of(8, 17);
        t.graph.input("x", 1, -1, 64).input("i", 7, 5).input("p", 1, 2, 16, 9, 9).input("c", 1, 64, 3)
                .init("table", DType.F32, TestModel.random(1, 4000), 80, 50).node("Gather", "o1", "table", "i")
                .init("turned", DType.F32, TestModel.random(1, 4096), 64, 64).node("Transpose", "tt", "turned")
                .node("MatMul", "o2", "x", "tt")
                .init("first", DType.F32, TestModel.random(1, 4096), 64, 64).node("MatMul", "o3", "first", "c")
                .init("stack", DType.F32, TestModel.random(1, 8192), 2, 64, 64).node("MatMul", "o4", "x", "stack")
                .init("seen", DType.F32, TestModel.random(1, 4096), 64, 64).node("MatMul", "o5", "x", "seen")
                .init("groups", DType.F32, TestModel.random(1, 32 * 4 * 9), 32, 4, 3, 3)
                .node(new NodeBuilder("Conv", "o6", "p", "groups").set("group", 4))
                .init("depth", DType.F32, TestModel.random(1, 16 * 9), 16, 1, 3, 3)
                .node(new NodeBuilder("Conv", "o7", "p", "depth").set("group", 16))
                .init("kernel", DType.F32, TestModel.random(1, 32 * 16 * 9), 32, 16, 3, 3).node("Conv", "o8", "p", "kernel")
                .init("back", DType.F32, TestModel.random(1, 32 * 16 * 9), 16, 32, 3, 3)
                .node("ConvTranspose", "o9", "p", "back")
                .init("w", DType.F32, TestModel.random(1, 4096), 64, 64).node("MatMul", "o10", "x", "w")
                .init("large", DType.F32, TestModel.random(1, 384 * 384), 384, 384).node("MatMul", "o11", "z", "large")
                .input("z", 1, -1, 384).output("seen", 1, 64, 64);
        for (int i = 1; i <= 11; i++) {
            t.graph.output("o" + i, 1);
        }
        Map<String, String> reasons = new LinkedHashMap<>();
        reasons.put("table", "role embedding");
        reasons.put("turned", "the Transpose Transpose_tt reads it");
        reasons.put("first", "the MatMul MatMul_o3 reads it");
        reasons.put("stack", "2x64x64 weight of role head");
        reasons.put("seen", "output of the graph");
        reasons.put("groups", "Conv_o6 has 4 groups");
        reasons.put("depth", "Conv_o7 has 16 groups");
        reasons.put("back", "the ConvTranspose ConvTranspose_o9 reads it");
        Form dense = new Form.Dense(DType.F32);
        try (OnnxModel m = OnnxModel.open(t.write(folder, "in.onnx"), false)) {
            for (String name : List.of("onnxruntime", "onnx")) {
                Target to = Targets.of(m, name, Map.of());
                Map<String, Weight> all = m.weights().stream().collect(Collectors.toMap(Weight::name, w -> w));
                reasons.forEach((weight, reason) -> refused(to, all.get(weight), factors(dense, 2), reason));
                Form.Sum sum = new Form.Sum(new Form.Quantized(8, 0, 0, true, Activations.FLOAT, DType.I8, DType.F32, false,
                        false), factors(dense, 2));
                refused(to, all.get("kernel"), sum, "factored, but not corrected");
                assertEquals(factors(dense, 2), Targets.accept(to, all.get("kernel"), factors(dense, 2)));
                refused(to, all.get("large"), factors(dense, 300),
                        "rank 300 f32 of 384x384 would take 921600 bytes, no fewer than the 589824 it has");
                refused(to, all.get("large"), factors(dense, 192), "no fewer than the 589824");
                assertEquals(factors(dense, 191), Targets.accept(to, all.get("large"), factors(dense, 191)));
                refused(to, all.get("large"), factors(dense, 385), "rank 385 is more than a matrix 384x384 can have");
                refused(to, all.get("kernel"), factors(dense, 33), "rank 33 is more than a matrix 32x144 can have");
                refused(to, all.get("w"), new Form.Sum(sum.base(), factors(dense, 24)), "no fewer than the 16384");
                refused(to, all.get("w"), factors(new Form.Dense(DType.F16), 8), "do not turn F32 into F16");
                // Which way round the factors lie follows from the weight.
                assertEquals(factors(dense, 8), Targets.accept(to, all.get("w"), new Form.LowRank(dense, dense, 8, true)));
            }
        }
    }

    private static Form.LowRank factors(Form f, long rank) {
        return new Form.LowRank(f, f, rank, false);
    }

    private static void refused(Target t, Weight w, Form f, String reason) {
        UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () -> Targets.accept(t, w, f), w.name());
        assertTrue(e.getMessage().contains(reason), w.name() + ": " + e.getMessage());
    }

    /** Other forms beside them, and an encoding that is not the one asked for. */
    @Test
    void mixedForms() throws Exception {
        PlainEncoder encoder = new PlainEncoder(20);
        Path out = folder.resolve("out.onnx");
        try (OnnxModel model = OnnxModel.open(chain(null).write(folder, "in.onnx"), false)) {
            Target t = Targets.of(model, "", Map.of());
            Map<Weight, Form> forms = new LinkedHashMap<>();
            for (Weight w : model.weights()) {
                Form f = switch (w.name()) {
                    case "w0" -> FACTORS.getFirst().on(w);
                    case "w1" -> SparseLoweringTest.dense(w, 20);
                    case "w2" -> OTHERS.get(2).on(w);
                    case "w3" -> SparseLoweringTest.quantized(w, 8, true, 20);
                    default -> FACTORS.get(4).on(w);
                };
                forms.put(w, Targets.accept(t, w, f));
            }
            Targets.write(t, forms, once(encoder), Destination.replacing(out));
            assertEquals(Files.size(out), Targets.size(t, forms));
            Weight first = model.weights().getFirst();
            IllegalStateException e = assertThrows(IllegalStateException.class, () -> Targets.write(t, forms,
                    (w, f, rows, from) -> w == first ? new Encoding.Dense(rows) : encoder.encode(w, f, rows, from),
                    Destination.replacing(folder.resolve("no.onnx"))));
            assertTrue(e.getMessage().contains("'w0'"), e.getMessage());
        }
        LoweringTest.close("mixed", Ort.run(chain(encoder.decoded).write(folder, "reference.onnx"), 3, 9),
                Ort.run(out, 3, 9), 1e-5);
    }

    private static TestModel chain(Map<String, float[]> weights) {
        TestModel m = TestModel.of(8, 17);
        m.graph.input("x", 1, -1, 64);
        String last = "x";
        for (int i = 0; i < 5; i++) {
            float[] w = weights == null ? TestModel.random(i, 4096) : weights.get("w" + i);
            m.graph.init("w" + i, DType.F32, w, 64, 64).node("MatMul", "y" + i, last, "w" + i);
            last = "y" + i;
        }
        m.graph.output(last, 1, -1, 64);
        return m;
    }
}
