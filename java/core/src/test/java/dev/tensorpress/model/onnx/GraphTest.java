package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Recipe;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.Graph.Window;
import dev.tensorpress.model.Graph.Window.Pair;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.TestModel.GraphBuilder;
import dev.tensorpress.model.onnx.TestModel.NodeBuilder;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What products read, and what normalizes it. */
final class GraphTest {
    private static final int FLOAT = TensorInfo.FLOAT;
    private static final int K = 8;

    @TempDir
    Path folder;
    private TestModel model;
    private GraphBuilder g;

    /** An input x, an output y, and the weights that tests ask for. */
    @BeforeEach
    void start() {
        with(21);
    }

    private void with(long opset) {
        model = TestModel.of(10, opset);
        g = model.graph;
        g.input("x", FLOAT, -1, -1, K).output("y", FLOAT, -1, -1, K);
    }

    private GraphTest weights(long[] dims, String... names) {
        long n = 1;
        for (long d : dims) {
            n *= d;
        }
        for (String name : names) {
            g.init(name, DType.F32, TestModel.random(name.hashCode(), (int) n), dims);
        }
        return this;
    }

    private GraphTest matrices(String... names) {
        return weights(new long[] {K, K}, names);
    }

    private GraphTest vectors(String... names) {
        return weights(new long[] {K}, names);
    }

    private List<String> feeds() throws IOException {
        return feeds(model.write(folder, "m.onnx"));
    }

    /** One line for each: the value with its axis, what normalizes it, an exclamation mark if nothing else reads it, the weights. */
    private static List<String> feeds(Path file) throws IOException {
        try (OnnxModel m = OnnxModel.open(file, false)) {
            List<String> all = new ArrayList<>();
            for (Graph.Feed f : m.graph().orElseThrow().feeds()) {
                String norm = f.normalization().map(n -> " " + n.norm() + n.scale().map(w -> " " + w.name()).orElse("")
                        + n.bias().map(w -> " " + w.name()).orElse("")).orElse("");
                all.add(f.value().path() + f.value().name() + "[" + f.axis() + "]" + norm + (f.exclusive() ? "!" : "") + " <- "
                        + f.products().stream().map(p -> p.weight().name()).collect(Collectors.joining(" ")));
            }
            return all;
        }
    }

    @Test
    void operatorsAndValues() throws IOException {
        matrices("w").vectors("b");
        GraphBuilder branch = new GraphBuilder("then").node("Add", "r", "a", "a").output("r", FLOAT, -1, K);
        g.input("c", 9, 1).node("MatMul", "a", "x", "w").node(new NodeBuilder("Clip", "d", "a", "", "b"))
                .node(new NodeBuilder("If", "y", "c").graph("then_branch", branch).graph("else_branch", branch))
                .node(new NodeBuilder("FusedMatMul", "e", "d", "w").domain("com.microsoft"));
        try (OnnxModel m = OnnxModel.open(model.write(folder, "m.onnx"), false)) {
            Graph graph = m.graph().orElseThrow();
            assertSame(graph, m.graph().orElseThrow());
            List<Graph.Operator> all = graph.operators();
            assertEquals(List.of("MatMul", "Clip", "If", "FusedMatMul", "Add", "Add"), all.stream().map(Graph.Operator::type).toList());
            assertEquals(List.of("", "", "", "com.microsoft", "", ""), all.stream().map(Graph.Operator::domain).toList());
            assertEquals(List.of("", "", "", "", "If_y/then_branch/", "If_y/else_branch/"), all.stream().map(Graph.Operator::path).toList());
            assertEquals("MatMul_a", all.getFirst().name());
            assertEquals("MatMul_a", all.getFirst().label());
            Graph.Value a = all.getFirst().results().getFirst();
            assertEquals(List.of("a", "b"), all.get(1).operands().stream().map(Graph.Value::name).toList());
            assertSame(a, all.get(4).operands().getFirst());
            assertEquals(List.of(all.get(1), all.get(4), all.get(4), all.get(5), all.get(5)), a.readers());
            assertSame(all.getFirst(), a.producer().orElseThrow());
            assertTrue(all.getFirst().operands().getFirst().producer().isEmpty());
            assertEquals(List.of(false, true), List.of(a.isOutput(), all.get(4).results().getFirst().isOutput()));
            assertEquals("If_y/then_branch/", all.get(4).results().getFirst().path());
            assertSame(all.get(3), graph.feeds().getLast().products().getFirst().operator());
        }
    }

    /** As in encoders: three products share an input, which is added to what comes of them as well. */
    @Test
    void sharedInputs() throws IOException {
        matrices("q", "k", "v", "up", "down").vectors("s1", "b1", "s2");
        g.node("LayerNormalization", "n", "x", "s1", "b1");
        for (String w : new String[] {"q", "k", "v"}) {
            g.node("MatMul", w + "x", "n", w);
        }
        g.node("Add", "qk", "qx", "kx").node("Add", "qkv", "qk", "vx").node("Add", "sum", "qkv", "n")
                .node("RMSNormalization", "m", "sum", "s2").node("MatMul", "u", "m", "up").node("Relu", "h", "u")
                .node("MatMul", "y", "h", "down");
        assertEquals(List.of("n[-1] LAYER s1 b1 <- q k v", "m[-1] RMS s2! <- up", "h[-1]! <- down"), feeds());
    }

    @Test
    void normalizationsOfOneOperator() throws IOException {
        matrices("w").vectors("s", "b", "m");
        String[][] all = {{"LayerNormalization x s b", "[-1] LAYER s b!"}, {"RMSNormalization x s", "[-1] RMS s!"},
            {"SimplifiedLayerNormalization x s", "[-1] RMS s!"}, {"com.microsoft.SkipLayerNormalization x x s b", "[-1] LAYER s b!"},
            {"com.microsoft.SkipSimplifiedLayerNormalization x x s", "[-1] RMS s!"},
            {"com.microsoft.EmbedLayerNormalization x x x x x s b", "[-1] LAYER s b!"}, {"other.LayerNormalization x s b", "[-1]!"},
            {"BatchNormalization x s b m m", "[-1]!"}};
        for (String[] one : all) {
            with(21);
            matrices("w").vectors("s", "b", "m");
            String[] words = one[0].split(" ");
            int dot = words[0].lastIndexOf('.');
            NodeBuilder n = new NodeBuilder(words[0].substring(dot + 1), "n", List.of(words).subList(1, words.length).toArray(new String[0]));
            g.node(dot < 0 ? n : n.domain(words[0].substring(0, dot))).node("MatMul", "y", "n", "w");
            assertEquals(List.of("n" + one[1] + " <- w"), feeds(), one[0]);
        }
    }

    /** Behind these, channels are the second axis; what a Gemm reads has two. Scales were of groups, once. */
    @Test
    void normalizationsOfChannels() throws IOException {
        for (String op : new String[] {"Batch", "Instance", "Group"}) {
            for (long opset : new long[] {18, 21}) {
                with(opset);
                weights(new long[] {K, K, 1, 1}, "kernel").matrices("w").vectors("s", "b", "m");
                String[] in = op.equals("Batch") ? new String[] {"x", "s", "b", "m", "m"} : new String[] {"x", "s", "b"};
                g.node(op + "Normalization", "n", in).node("Conv", "y", "n", "kernel").node("Gemm", "z", "n", "w");
                String norm = " " + op.toUpperCase() + (op.equals("Group") && opset < 21 ? "" : " s b");
                assertEquals(List.of("n[1]" + norm + " <- kernel", "n[-1]" + norm + " <- w"), feeds());
            }
        }
    }

    /** {@code normalized} = x / sqrt(mean(of * of) + epsilon). */
    private void quotient(String x, String of, boolean power) {
        g.init("two", DType.F32, new float[] {2}).init("epsilon", DType.F32, new float[] {1e-5f}).init("one", DType.F32, new float[] {1});
        g.node(power ? new NodeBuilder("Pow", "square", of, "two") : new NodeBuilder("Mul", "square", of, of))
                .node("ReduceMean", "variance", "square", "axes").node("Add", "more", "epsilon", "variance").node("Sqrt", "root", "more");
    }

    @Test
    void layerNormalizationInSteps() throws IOException {
        for (boolean twice : new boolean[] {false, true}) {
            with(18);
            matrices("w").vectors("s", "b");
            g.longs("axes", -1).node("ReduceMean", "mean", "x", "axes").node("Sub", "centred", "x", "mean");
            String again = "centred";
            if (twice) {
                g.node("Sub", "again", "x", "mean");
                again = "again";
            }
            quotient("x", "centred", true);
            g.node("Div", "n", again, "root").node("Mul", "scaled", "s", "n").node("Add", "z", "scaled", "b").node("MatMul", "y", "z", "w");
            assertEquals(List.of("z[-1] LAYER s b! <- w"), feeds());
        }
    }

    /** As language models have it: in f32, between conversions, and with a reciprocal. */
    @Test
    void rootMeanSquareInSteps() throws IOException {
        for (String how : new String[] {"Div", "Reciprocal", "one"}) {
            with(18);
            matrices("w").vectors("s");
            g.longs("axes", -1).node(new NodeBuilder("Cast", "f", "x").set("to", 1));
            quotient("f", "f", how.equals("Div"));
            switch (how) {
                case "Div" -> g.node("Div", "n", "f", "root");
                case "one" -> g.node("Div", "r", "one", "root").node("Mul", "n", "f", "r");
                default -> g.node("Reciprocal", "r", "root").node("Mul", "n", "r", "f");
            }
            g.node(new NodeBuilder("Cast", "h", "n").set("to", 1)).node("Mul", "z", "s", "h").node("MatMul", "y", "z", "w");
            assertEquals(List.of("z[-1] RMS s! <- w"), feeds(), how);
        }
    }

    /** Without a scale only what is said to be of the last axis; and no other quotients. */
    @Test
    void whatIsNoNormalization() throws IOException {
        for (int axis : new int[] {-1, 2}) {
            with(18);
            matrices("w");
            g.longs("axes", axis);
            quotient("x", "x", true);
            g.node("Div", "n", "x", "root").node("MatMul", "y", "n", "w");
            assertEquals(List.of(axis == -1 ? "n[-1] RMS! <- w" : "n[-1]! <- w"), feeds());
        }
        with(18);
        matrices("w").vectors("s");
        g.longs("axes", -1).node("Tanh", "other", "x");
        quotient("x", "other", true);
        g.node("Div", "n", "x", "root").node("Mul", "z", "n", "s").node("MatMul", "y", "z", "w");
        assertEquals(List.of("z[-1]! <- w"), feeds());
    }

    /** What is converted or moved without its last axis is the same input; what is cut or turned is another one. */
    @Test
    void movesBeforeProducts() throws IOException {
        matrices("a", "b", "c", "d", "e").vectors("s");
        g.longs("rows", -1, K).longs("other", -1, 2 * K).node("RMSNormalization", "n", "x", "s")
                .node(new NodeBuilder("Cast", "n1", "n").set("to", 1)).node("MatMul", "y1", "n1", "a")
                .node(new NodeBuilder("Transpose", "n2", "n1").ints("perm", 1, 0, 2)).node("MatMul", "y2", "n2", "b")
                .node("Reshape", "n3", "n", "rows").node("Gemm", "y3", "n3", "c");
        assertEquals(List.of("n[-1] RMS s! <- a b c"), feeds());
        g.node("Reshape", "n4", "n", "other").node("MatMul", "y4", "n4", "d")
                .node(new NodeBuilder("Transpose", "n5", "n1").ints("perm", 0, 2, 1)).node("MatMul", "y5", "n5", "e");
        assertEquals(List.of("n[-1] RMS s <- a b c", "n4[-1]! <- d", "n5[-1]! <- e"), feeds());
    }

    @Test
    void axesOfInputs() throws IOException {
        matrices("a", "b", "c", "d", "p", "q").weights(new long[] {1, K, K}, "in", "state");
        g.node("MatMul", "y1", "x", "a").node("MatMul", "y2", "b", "x").node(new NodeBuilder("Gemm", "y3", "x", "c").set("transA", 1))
                .node("Gemm", "y4", "d", "x").node(new NodeBuilder("LSTM", "y5", "x", "in", "state")).node("MatMul", "y6", "p", "q");
        assertEquals(List.of("x[-1] <- a in", "x[-2] <- b c d"), feeds());
    }

    @Test
    void readersThatAreNoProducts() throws IOException {
        matrices("w").node("Gemm", "z", "x", "w", "x");
        assertEquals(List.of("x[-1] <- w"), feeds());
        with(21);
        matrices("w").node("Tanh", "y", "x").node("MatMul", "z", "y", "w");
        assertEquals(List.of("y[-1] <- w"), feeds());
    }

    private GraphTest node(String op, String out, String... in) {
        g.node(op, out, in);
        return this;
    }

    /** Products in branches read a value from around them, or one of their own. */
    @Test
    void capturedValues() throws IOException {
        vectors("s").matrices("outer");
        NodeBuilder choice = new NodeBuilder("If", "y", "c");
        for (String branch : new String[] {"then_branch", "else_branch"}) {
            GraphBuilder b = new GraphBuilder(branch);
            b.init("w", DType.F32, TestModel.random(1, K * K), K, K).init("v", DType.F32, TestModel.random(2, K * K), K, K);
            choice.graph(branch, b.node("Identity", "same", "n").node("MatMul", "a", "same", "w").node("Relu", "r", "a")
                    .node("MatMul", "z", "r", "v").output("z", FLOAT, -1, -1, K));
        }
        g.input("c", 9, 1).node("RMSNormalization", "n", "x", "s").node("MatMul", "o", "n", "outer").node(choice);
        assertEquals(List.of("n[-1] RMS s! <- outer If_y/then_branch/w If_y/else_branch/w", "If_y/then_branch/r[-1]! <- If_y/then_branch/v",
                "If_y/else_branch/r[-1]! <- If_y/else_branch/v"), feeds());
    }

    /** Of a table that is looked up and multiplied, products alone count; turned, cut and joined weights are found. */
    @Test
    void movedWeights() throws IOException {
        weights(new long[] {20, K}, "table").matrices("a", "b").weights(new long[] {K, 2 * K}, "pair");
        g.input("ids", 7, -1, -1).node("Gather", "e", "table", "ids").node("Transpose", "t", "table").node("MatMul", "y", "e", "t")
                .node(new NodeBuilder("Concat", "ab", "a", "b").set("axis", 1)).node("MatMul", "z", "e", "ab")
                .node(new NodeBuilder("Split", "p0,p1", "pair").set("axis", 1).set("num_outputs", 2)).node("MatMul", "u", "x", "p0")
                .node("MatMul", "v", "x", "p1");
        assertEquals(List.of("e[-1]! <- table a b", "x[-1]! <- pair pair"), feeds());
    }

    /** What was compressed can be opened again; products of codes are none with weights, those of factors are two. */
    @Test
    void compressedModels() throws IOException {
        weights(new long[] {64, 64}, "up", "down").vectors("s");
        g.node("MatMul", "u", "x", "up").node("Relu", "h", "u").node("MatMul", "y", "h", "down");
        Path in = model.write(folder, "in.onnx");
        String[][] all = {{"int8", "MatMulNBits Relu"}, {"int8-dynamic", "Cast DynamicQuantizeLinear MatMulInteger Mul Relu"},
            {"prune50", "MatMul Relu", "x[-1]! <- up", "h[-1]! <- down"},
            {"lowrank", "MatMul Relu", "x[-1]! <- up.left", "u.left[-1]! <- up.right", "h[-1]! <- down.left", "y.left[-1]! <- down.right"}};
        for (String[] one : all) {
            Path out = folder.resolve(one[0] + ".onnx");
            try (Compressor c = Compressor.open(in)) {
                Recipe r = Recipe.named(one[0]).set("min-size", "0");
                c.compress(c.plan(one[0].equals("lowrank") ? r.set("rank", "4") : r), out);
            }
            assertEquals(List.of(one).subList(2, one.length), feeds(out), one[0]);
            try (OnnxModel m = OnnxModel.open(out, false)) {
                assertEquals(one[1], String.join(" ",
                        m.graph().orElseThrow().operators().stream().map(Graph.Operator::type).collect(Collectors.toCollection(TreeSet::new))));
            }
        }
    }

    /** A weight has one product in each place that reads it. */
    @Test
    void weightsOfProductsAreThoseOfTheModel() throws IOException {
        matrices("w").node("MatMul", "a", "x", "w").node("MatMul", "y", "a", "w");
        try (OnnxModel m = OnnxModel.open(model.write(folder, "m.onnx"), false)) {
            List<Weight> found = new ArrayList<>();
            m.graph().orElseThrow().feeds().forEach(f -> f.products().forEach(p -> found.add(p.weight())));
            assertEquals(List.of(m.weights().getFirst(), m.weights().getFirst()), found);
        }
    }

    private static NodeBuilder conv() {
        return new NodeBuilder("Conv", "y", "x", "k");
    }

    private Optional<Window> window(NodeBuilder node, long... kernel) throws IOException {
        start();
        weights(kernel, "k");
        g.node(node);
        try (OnnxModel m = OnnxModel.open(model.write(folder, "m.onnx"), false)) {
            return m.graph().orElseThrow().feeds().getFirst().products().getFirst().window();
        }
    }

    @Test
    void convolutionsSayWhereTheyLook() throws IOException {
        Pair one = new Pair(1, 1);
        Pair none = new Pair(0, 0);
        assertEquals(Optional.of(new Window(3, 2, one, one, none, none, 1)), window(conv(), 4, 8, 3, 2));
        assertEquals(Optional.of(new Window(1, 3, one, one, none, none, 1)), window(conv(), 4, 8, 3));
        assertEquals(Optional.of(new Window(3, 2, new Pair(2, 1), new Pair(1, 3), new Pair(1, 2), new Pair(3, 4), 2)),
                window(conv().ints("strides", 2, 1).ints("dilations", 1, 3).ints("pads", 1, 2, 3, 4).set("group", 2L), 4, 4, 3, 2));
        assertEquals(Optional.of(new Window(1, 3, new Pair(1, 2), one, new Pair(0, 1), new Pair(0, 2), 1)),
                window(conv().ints("strides", 2).ints("pads", 1, 2).text("auto_pad", "NOTSET"), 4, 8, 3));
        assertEquals(Optional.of(new Window(3, 3, one, one, none, none, 1)),
                window(conv().text("auto_pad", "VALID").ints("pads", 1, 1, 1, 1), 4, 8, 3, 3));
        for (NodeBuilder node : List.of(conv().text("auto_pad", "SAME_UPPER"), conv().ints("pads", 1, 1), conv().ints("strides", 0, 1),
                conv().ints("pads", 0, 0, -1, 0), conv().set("group", 0L), conv().ints("dilations", 1L << 40, 1))) {
            assertEquals(Optional.empty(), window(node, 4, 8, 3, 3));
        }
        assertEquals(Optional.empty(), window(conv(), 4, 8, 3, 3, 3));
        assertEquals(Optional.empty(), window(new NodeBuilder("ConvTranspose", "y", "x", "k"), 8, 4, 3, 3));
    }

    /** One line for each feed: the weights that its channels can be scaled by with their axes, or why there are none. */
    private List<String> sources() throws IOException {
        try (OnnxModel m = OnnxModel.open(model.write(folder, "m.onnx"), false)) {
            return m.graph().orElseThrow().feeds().stream().map(f -> f.value().name() + ": " + (f.source().weights().isEmpty() ? f.source().why()
                    : f.source().weights().stream().map(c -> c.weight().name() + "@" + c.axis()).collect(Collectors.joining(" ")))).toList();
        }
    }

    @Test
    void scalesGoToNormalizations() throws IOException {
        matrices("q", "k").vectors("s", "b");
        g.node("LayerNormalization", "n", "x", "s", "b").node(new NodeBuilder("Cast", "c", "n").set("to", FLOAT)).node("MatMul", "qx", "c", "q").node("MatMul", "kx", "n", "k")
                .node("Shape", "size", "n").node("Add", "y", "qx", "kx");
        assertEquals(List.of("n: s@0 b@0"), sources());
        g.node("Add", "z", "n", "x");
        assertEquals(List.of("n: something else than products reads n too"), sources());
    }

    @Test
    void scalesGoToNormalizationsOfTheirOwnAlone() throws IOException {
        String[][] all = {{"s", "s", "q"}, {"t", "b", "q"}, {"t", "x", "q"}, {"", "", "q"}};
        for (String[] one : all) {
            with(21);
            matrices("q", "k").vectors("s", "b", "t");
            g.node("Mul", "x2", "x", "s").node("LayerNormalization", "n", "x2", one[0], one[1]).node("MatMul", "y", "n", one[2]).node("Add", "o", "x", "b");
            assertEquals(List.of("n: nothing before n can be scaled in exchange"), sources());
        }
        with(21);
        matrices("q").vectors("s");
        g.node("RMSNormalization", "n", "x", "s").node("MatMul", "m", "n", "q").node("MatMul", "y", "m", "q");
        assertEquals(List.of("n: q has other readers, or is read in parts", "m: q has other readers, or is read in parts"), sources());
    }

    @Test
    void scalesGoToProductsBefore() throws IOException {
        String[][] all = {{"Relu h m", "u@1"}, {"Add a m b|LeakyRelu h a", "u@1 b@0"}, {"Add a b m|PRelu h a s", "u@1 b@0"}, {"Mul h m two", "u@1"},
            {"Div h m two", "u@1"}, {"Mul h x m", "u@1"}, {"Sigmoid g x|Mul h m g", "u@1"}, {"Mul a m t|Relu h a", "t@0"}, {"Transpose h m last", "u@1"},
            {"Sigmoid h m", ""}, {"Add h m x", ""}, {"Mul h m m", ""}, {"Add h m one", ""}, {"Sigmoid g m|Mul h m g", ""}, {"Div h two m", ""},
            {"Relu h m|Relu o m", ""}, {"Transpose h m", ""}};
        for (String[] one : all) {
            with(21);
            matrices("u", "w").vectors("b", "s", "t");
            g.init("two", DType.F32, new float[] {2}, 1).init("one", DType.F32, new float[] {1}, 1).node("MatMul", "m", "x", "u");
            for (String line : one[0].split("\\|")) {
                String[] words = line.split(" ");
                NodeBuilder n = words[words.length - 1].equals("last") ? new NodeBuilder(words[0], words[1], words[2]).ints("perm", 1, 0, 2)
                        : new NodeBuilder(words[0], words[1], Arrays.copyOfRange(words, 2, words.length));
                g.node(n);
            }
            g.node("MatMul", "y", "h", "w");
            String last = sources().getLast();
            assertEquals(one[1].isEmpty() ? "nothing before h can be scaled in exchange" : one[1], last.substring(last.indexOf(' ') + 1), one[0]);
        }
    }

    /** What was a multiple of something else is none any more. */
    @Test
    void scalesDoNotGoThroughIntegers() throws IOException {
        String[] reasons = {"n is rounded before products read it", "nothing before h can be scaled in exchange", "w has other readers, or is read in parts"};
        for (int at = 0; at < reasons.length; at++) {
            with(21);
            matrices("w").vectors("s");
            g.node("LayerNormalization", "n", "x", "s");
            String[] cast = {"n", "n", "w"};
            g.node(new NodeBuilder("Cast", "i", cast[at]).set("to", TensorInfo.INT32)).node(new NodeBuilder("Cast", "f", "i").set("to", FLOAT))
                    .node("Relu", "h", at == 1 ? "f" : "n").node("MatMul", "y", at == 0 ? "f" : at == 1 ? "h" : "n", at == 2 ? "f" : "w");
            if (at != 1) {
                g.nodes.remove(3);
            }
            assertEquals(reasons[at], sources().getLast().replaceFirst("^[a-z]*: ", ""));
        }
    }

    @Test
    void scalesOfConvolutions() throws IOException {
        String[][] all = {{"Conv m x u|Relu h m", "u@0"}, {"Conv m x u b|MaxPool h m", "u@0 b@0"}, {"Conv m x u|BatchNormalization n m s b t v|Relu h n", "s@0 b@0"},
            {"ConvTranspose m x u|GlobalAveragePool h m", "u@1"}, {"Conv m x u b|Mul h m m", ""}, {"Conv m x u b|Softmax h m", ""}};
        for (String[] one : all) {
            with(21);
            weights(new long[] {K, K, 3, 3}, "u", "w").vectors("b", "s", "t", "v");
            for (String line : one[0].split("\\|")) {
                String[] words = line.split(" ");
                g.node(new NodeBuilder(words[0], words[1], Arrays.copyOfRange(words, 2, words.length)).ints("kernel_shape", 3, 3));
            }
            g.node("Conv", "y", "h", "w");
            assertEquals(one[1].isEmpty() ? "h: nothing before h can be scaled in exchange" : "h: " + one[1], sources().getLast(), one[0]);
        }
    }

    /** Values that attention takes averages of keep their channels, cut into heads and put together again. */
    @Test
    void scalesGoThroughAttention() throws IOException {
        for (boolean right : new boolean[] {true, false}) {
            with(21);
            matrices("v", "o").vectors("b");
            g.input("p", FLOAT, -1, 2, -1, -1).longs("cut", 0, 0, 2, 4).longs("joined", 0, 0, K)
                    .node("MatMul", "vx", "x", "v").node("Add", "values", "vx", "b").node("Shape", "size", "values").node("Reshape", "r", "values", "cut")
                    .node(new NodeBuilder("Transpose", "t", "r").ints("perm", 0, 2, 1, 3))
                    .node(right ? new NodeBuilder("MatMul", "a", "p", "t") : new NodeBuilder("MatMul", "a", "t", "p"))
                    .node(new NodeBuilder("Transpose", "back", "a").ints("perm", 0, 2, 1, 3)).node("Reshape", "h", "back", "joined").node("MatMul", "y", "h", "o");
            assertEquals(right ? "h: v@1 b@0" : "h: nothing before h can be scaled in exchange", sources().getLast());
        }
    }
}
