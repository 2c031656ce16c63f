package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Targets;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.TestModel.GraphBuilder;
import dev.tensorpress.model.onnx.TestModel.NodeBuilder;
import dev.tensorpress.tensor.DType;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Weights that reach what uses them through nodes that move, cut and join constants. */
final class ChainTest {
    private static final int H = 16;

    @TempDir
    Path folder;

    /** Builds nodes as the operator set has them: what later ones read, earlier ones had as attributes. */
    private record Builder(GraphBuilder graph, long opset) {
        Builder slice(String y, String x, long from, long to) {
            if (opset < 10) {
                graph.node(new NodeBuilder("Slice", y, x).ints("starts", from).ints("ends", to).ints("axes", 0));
            } else {
                graph.longs(y + ".from", from).longs(y + ".to", to).longs(y + ".axes", 0)
                        .node("Slice", y, x, y + ".from", y + ".to", y + ".axes");
            }
            return this;
        }

        Builder split(String parts, String x, long... sizes) {
            if (opset < 13) {
                graph.node(new NodeBuilder("Split", parts, x).ints("split", sizes).set("axis", 0));
            } else {
                graph.longs(x + ".sizes", sizes).node("Split", parts, x, x + ".sizes");
            }
            return this;
        }

        Builder axes(String op, String y, String x, long... axes) {
            if (opset < 13) {
                graph.node(new NodeBuilder(op, y, x).ints("axes", axes));
            } else {
                graph.longs(y + ".axes", axes).node(op, y, x, y + ".axes");
            }
            return this;
        }

        Builder concat(String y, String... parts) {
            graph.node(new NodeBuilder("Concat", y, parts).set("axis", 0));
            return this;
        }

        Builder node(NodeBuilder n) {
            graph.node(n);
            return this;
        }
    }

    /** A model around weight {@code w}, and what is to be found of it. */
    private record Chain(String name, long[] dims, Role role, int in, int out, Consumer<Builder> build) {
        TestModel model(long ir, long opset, float[] w) {
            TestModel m = TestModel.of(ir, opset);
            m.graph.init("w", DType.F32, w, dims);
            build.accept(new Builder(m.graph, opset));
            return m;
        }

        int elements() {
            int n = 1;
            for (long d : dims) {
                n *= (int) d;
            }
            return n;
        }

        @Override
        public String toString() {
            return name;
        }
    }

    private static long[] dims(long... dims) {
        return dims;
    }

    private static void recurrent(Builder b, String op, int gates, String w, int directions) {
        b.graph.input("x", 1, 4, 2, 24).init("r", DType.F32, TestModel.random(1, directions * gates * H * H), directions, gates * H, H)
                .output("y", 1, 4, directions, 2, H);
        NodeBuilder n = new NodeBuilder(op, "y", "x", w, "r").set("hidden_size", H);
        if (directions == 2) {
            n.proto.message(5, new Proto().string(1, "direction").string(4, "bidirectional").integer(20, 3));
        }
        b.node(n);
    }

    static List<Chain> chains() {
        return List.of(
                new Chain("gates in another order", dims(4 * H, 24), Role.RECURRENT, 1, 0, b -> recurrent(b.slice("i", "w", 0, H)
                        .slice("f", "w", H, 2 * H).slice("c", "w", 2 * H, 3 * H).slice("o", "w", 3 * H, 4 * H)
                        .concat("iofc", "i", "o", "f", "c").axes("Unsqueeze", "v", "iofc", 0), "LSTM", 4, "v", 1)),
                new Chain("gates split", dims(3 * H, 24), Role.RECURRENT, 1, 0, b -> recurrent(b.split("a,b,c", "w", H, H, H)
                        .concat("bac", "b", "a", "c").axes("Unsqueeze", "v", "bac", 0), "GRU", 3, "v", 1)),
                new Chain("two directions", dims(H, 24), Role.RECURRENT, 1, 0, b -> {
                    b.graph.init("back", DType.F32, TestModel.random(2, H * 24), H, 24);
                    recurrent(b.axes("Unsqueeze", "v", "w", 0).axes("Unsqueeze", "u", "back", 0).concat("vu", "v", "u"), "RNN", 1,
                            "vu", 2);
                }),
                new Chain("squeezed", dims(1, 64, 1, 20), Role.HEAD, 1, 3, b -> {
                    b.graph.input("x", 1, -1, 64).output("y", 1, -1, 20);
                    b.axes("Squeeze", "v", "w", 2, 0).node(new NodeBuilder("MatMul", "y", "x", "v"));
                }),
                new Chain("kernel of one place", dims(20, 48), Role.CONV, 1, 0, b -> {
                    b.graph.input("x", 1, 1, 48, 7).output("y", 1, 1, 20, 7);
                    b.axes("Unsqueeze", "v", "w", 2).node(new NodeBuilder("Conv", "y", "x", "v"));
                }),
                new Chain("cut and turned", dims(90, 64), Role.HEAD, 1, 0, b -> {
                    b.graph.input("x", 1, -1, 64).output("y", 1, -1, 20);
                    b.slice("v", "w", 30, 50).node(new NodeBuilder("Transpose", "t", "v").ints("perm", 1, 0))
                            .node(new NodeBuilder("MatMul", "y", "x", "t"));
                }),
                new Chain("joined tables", dims(12, 32), Role.EMBEDDING, -1, 0, b -> {
                    b.graph.init("more", DType.F32, TestModel.random(2, 28 * 32), 28, 32).input("i", 7, 5).output("y", 1, 5, 32);
                    b.concat("v", "w", "more").node(new NodeBuilder("Gather", "y", "v", "i"));
                }));
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("chains")
    void whatIsReadInPiecesIsTheWeight(Chain c) throws Exception {
        for (long opset : new long[] {7, 11, 13, 21}) {
            Path in = c.model(opset < 13 ? 6 : 10, opset, TestModel.random(7, c.elements())).write(folder, "in.onnx");
            for (String target : List.of("onnxruntime", "onnx")) {
                for (int block : new int[] {0, 16}) {
                    PlainEncoder encoder = new PlainEncoder();
                    Path out = folder.resolve("out.onnx");
                    try (OnnxModel m = OnnxModel.open(in, false)) {
                        Weight w = m.weights().stream().filter(x -> x.name().equals("w")).findFirst().orElseThrow();
                        assertEquals(List.of(c.role, c.in, c.out), List.of(w.role(), w.inputAxis(), w.outputAxis()), c + " " + opset);
                        Target t = Targets.of(m, target, Map.of());
                        Form form = Targets.accept(t, w, new Form.Quantized(8, block == 0 ? c.out : Math.max(1, c.in), block, true,
                                Form.Activations.FLOAT, DType.I8, DType.F32, false, false));
                        Targets.write(t, Map.of(w, form), encoder, Destination.replacing(out));
                    }
                    assertTrue(Files.size(out) < Files.size(in), c + " " + opset);
                    Path reference = c.model(opset < 13 ? 6 : 10, opset, encoder.decoded.get("w")).write(folder, "reference.onnx");
                    LoweringTest.close(c + " " + opset + " " + target, Ort.run(reference, 3, 40), Ort.run(out, 3, 40), 1e-6);
                    assertEquals(Ort.optimized(in, folder.resolve("a.onnx")), Ort.optimized(out, folder.resolve("b.onnx")),
                            c + " " + opset);
                }
            }
        }
    }

    private Map<String, Role> roles(TestModel m) throws Exception {
        Map<String, Role> roles = new LinkedHashMap<>();
        try (OnnxModel model = OnnxModel.open(m.write(folder, "model.onnx"), false)) {
            for (Weight w : model.weights()) {
                roles.put(w.name(), w.role());
            }
        }
        return roles;
    }

    /** Axes may be a typed tensor, packed or not, a Constant of numbers, or computed; they may count from the end. */
    @Test
    void axesAreReadWhereverTheyAre() throws Exception {
        Proto packed = new Proto().integer(1, 1).integer(2, 7).string(8, "axes").bytes(7, new byte[] {2});
        Proto plain = new Proto().integer(1, 1).integer(2, 7).string(8, "axes").integer(7, -1);
        Proto few = new Proto().integer(1, 2).integer(2, 7).string(8, "axes").integer(7, -1);
        Proto twice = new Proto().integer(1, 2).integer(2, 7).string(8, "axes").integer(7, 2).integer(7, -2);
        Proto far = new Proto().integer(1, 1).integer(2, 7).string(8, "axes").integer(7, 3);
        Map<NodeBuilder, Role> cases = new LinkedHashMap<>();
        cases.put(new NodeBuilder("Constant", "axes").tensor("value", packed), Role.CONV);
        cases.put(new NodeBuilder("Constant", "axes").tensor("value", plain), Role.CONV);
        cases.put(new NodeBuilder("Constant", "axes").ints("value_ints", 2), Role.CONV);
        cases.put(new NodeBuilder("Constant", "axes").tensor("value", few), Role.OTHER);
        cases.put(new NodeBuilder("Constant", "axes").tensor("value", twice), Role.OTHER);
        cases.put(new NodeBuilder("Constant", "axes").tensor("value", far), Role.OTHER);
        cases.put(new NodeBuilder("Identity", "axes", "given"), Role.OTHER);
        for (Map.Entry<NodeBuilder, Role> c : cases.entrySet()) {
            TestModel m = TestModel.of(8, 13);
            m.graph.init("w", DType.F32, TestModel.random(1, 8), 2, 4).input("given", 7, 1).node(c.getKey())
                    .node("Unsqueeze", "v", "w", "axes").node("Conv", "y", "x", "v");
            assertEquals(Map.of("w", c.getValue()), roles(m));
        }
    }

    /** What a caller decides is no weight of what reads it then, nor is what is put beside activations. */
    @ParameterizedTest
    @ValueSource(strings = {"given", "computed", "beside", "output"})
    void onlyConstantsAreFollowed(String kind) throws Exception {
        TestModel m = TestModel.of(8, 13);
        m.graph.init("w", DType.F32, TestModel.random(1, 64), 8, 8).longs("zero", 0).longs("two", 2).input("n", 7, 1).input("x", 1, 2, 8)
                .node("Mul", kind.equals("computed") ? "end" : "unused", "n", "two")
                .node("Mul", kind.equals("computed") ? "unused" : "end", "two", "two");
        if (kind.equals("beside")) {
            m.graph.node(new NodeBuilder("Concat", "v", "x", "w").set("axis", 0));
        } else {
            m.graph.node("Slice", "v", "w", "zero", kind.equals("given") ? "n" : "end");
        }
        if (kind.equals("output")) {
            m.graph.output("v", 1, -1, 8);
        }
        m.graph.node("MatMul", "y", "x", "v").output("y", 1, 2, 8);
        assertEquals(Role.OTHER, roles(m).get("w"));
        TestModel computed = TestModel.of(8, 13);
        computed.graph.init("w", DType.F32, TestModel.random(1, 64), 8, 8).longs("zero", 0).longs("two", 2).input("x", 1, 2, 4)
                .node("Mul", "end", "two", "two").node("Slice", "v", "w", "zero", "end").node("MatMul", "y", "x", "v").output("y", 1, 2, 8);
        assertEquals(Role.HEAD, roles(computed).get("w"));
    }

    /** Such models fail in every runtime, but not here. */
    @Test
    void inputsOfOtherRanksAreNoError() throws Exception {
        TestModel m = TestModel.of(8, 13);
        m.graph.init("w", DType.F32, TestModel.random(1, 8), 2, 2, 2).init("u", DType.F32, TestModel.random(1, 2), 2)
                .node(new NodeBuilder("Concat", "v", "w", "u").set("axis", 0)).node("MatMul", "y", "x", "v");
        assertEquals(Map.of("w", Role.LINEAR, "u", Role.LINEAR), roles(m));
    }

    @Test
    void partsThatAreReadDifferentlyAreAnObstacle() throws Exception {
        TestModel m = TestModel.of(8, 13);
        m.graph.init("w", DType.F32, TestModel.random(1, 64), 8, 8).node(new NodeBuilder("Split", "a,b", "w").set("axis", 0))
                .node("MatMul", "y", "x", "a").node("MatMul", "z", "b", "x");
        try (OnnxModel model = OnnxModel.open(m.write(folder, "model.onnx"), false)) {
            assertTrue(model.weights().getFirst().obstacle().orElseThrow().contains("disagree"));
        }
    }

    /** A token embedding that makes scores of words as well, however the product takes it; one whose columns it takes is none. */
    @Test
    void tiedTablesAreMatricesOfTheirProduct() throws Exception {
        for (boolean turned : new boolean[] {true, false}) {
            TestModel m = TestModel.of(8, 13);
            m.graph.init("w", DType.F32, TestModel.random(1, 20 * 8), 20, 8).input("i", 7, 5).node("Gather", "a", "w", "i");
            if (turned) {
                m.graph.node("Transpose", "t", "w").node("MatMul", "y", "a", "t");
            } else {
                m.graph.node(new NodeBuilder("Gemm", "y", "a", "w").set("transB", 1));
            }
            m.graph.output("y", 1, 5, 20);
            Path file = m.write(folder, "model.onnx");
            try (OnnxModel model = OnnxModel.open(file, false)) {
                Weight w = model.weights().getFirst();
                assertEquals(List.of(Role.HEAD, 1, 0, ""), List.of(w.role(), w.inputAxis(), w.outputAxis(), w.obstacle().orElse("")));
            }
        }
        TestModel m = TestModel.of(8, 13);
        m.graph.init("w", DType.F32, TestModel.random(1, 64), 8, 8).input("i", 7, 5).node("Gather", "a", "w", "i")
                .node("MatMul", "y", "a", "w").output("y", 1, 5, 8);
        try (OnnxModel model = OnnxModel.open(m.write(folder, "model.onnx"), false)) {
            assertTrue(model.weights().getFirst().obstacle().orElseThrow().contains("disagree"));
        }
    }

    /** One Transpose before a lookup and a product: codes that lie as the product needs them have no rows to look up. */
    @Test
    void aTransposedTableThatIsLookedUpAndMultiplied() throws Exception {
        for (String recipe : List.of("int8", "int8-dynamic", "int4", "int4-corrected", "lowrank")) {
            for (String target : List.of("onnxruntime", "onnx")) {
                TestModel m = TestModel.of(8, 17);
                m.graph.init("w", DType.F32, TestModel.random(5, 64 * 256), 64, 256).longs("ids", 3, 250, 0, 17)
                        .input("x", TensorInfo.FLOAT, 4, 64).node("Transpose", "t", "w").node("Gather", "e", "t", "ids")
                        .node("Add", "s", "e", "x").node(new NodeBuilder("Gemm", "y", "s", "t").set("transB", 1))
                        .output("y", TensorInfo.FLOAT, 4, 256);
                Path in = m.write(folder, "in.onnx");
                Path out = folder.resolve("looked-up-" + recipe + target + ".onnx");
                try (Compressor c = Compressor.open(in)) {
                    Plan plan = c.plan(Recipe.named(recipe).target(target));
                    assertEquals(recipe.equals("lowrank") ? 0 : 1, plan.compressed());
                    c.compress(plan, out);
                }
                LoweringTest.close(recipe + " " + target, Ort.run(in, 4, 3), Ort.run(out, 4, 3), 0.2);
            }
        }
    }
}
