package dev.tensorpress.model.onnx;

import dev.tensorpress.Compressor;
import dev.tensorpress.Golden;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Targets;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Device;
import dev.tensorpress.method.Method.Requirement;
import dev.tensorpress.model.onnx.TestModel.GraphBuilder;
import dev.tensorpress.model.onnx.TestModel.NodeBuilder;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What every recipe and target makes of small models, byte for byte. */
final class GoldenTest {
    private static final int FLOAT = TensorInfo.FLOAT;
    private static final int WIDTH = 64;

    @TempDir
    Path folder;

    private static float[] values(int seed, long... dims) {
        long n = 1;
        for (long d : dims) {
            n *= d;
        }
        return TestModel.random(seed, (int) n);
    }

    private static void init(GraphBuilder g, String name, DType type, int seed, long... dims) {
        g.init(name, type, values(seed, dims), dims);
    }

    private static NodeBuilder constant(String name, int seed, long... dims) {
        return new NodeBuilder("Constant", name).tensor("value", TestModel.tensor("", DType.F32, values(seed, dims), dims));
    }

    /** Kernels of convolutions in Constant nodes, and a head. */
    private static TestModel convolutions(long opset) {
        TestModel m = TestModel.of(8, opset);
        m.graph.node(constant("k1", 1, 24, 3, 3, 3)).node(constant("k2", 2, 24, 1, 3, 3)).node(constant("k3", 3, 40, 24, 1, 1));
        init(m.graph, "head", DType.F32, 4, 40, 100);
        init(m.graph, "bias", DType.F32, 5, 100);
        m.graph.input("x", FLOAT, -1, 3, 16, 16).node("Conv", "a", "x", "k1").node("Relu", "b", "a")
                .node(new NodeBuilder("Conv", "c", "b", "k2").set("group", 24)).node("Conv", "d", "c", "k3")
                .node("GlobalAveragePool", "e", "d").node("Flatten", "f", "e").node("Gemm", "g", "f", "head", "bias")
                .node("Softmax", "y", "g").output("y", FLOAT, -1, 100);
        return m;
    }

    /** A table, attention with the usual names, a product with its weight on the other side, one in half precision. */
    private static TestModel transformer(long opset) {
        TestModel m = TestModel.of(8, opset);
        GraphBuilder g = m.graph;
        init(g, "words", DType.F32, 1, 200, WIDTH);
        g.input("ids", 7, -1, -1).node("Gather", "x", "words", "ids");
        for (String name : new String[] {"query", "key", "value"}) {
            init(g, name, DType.F32, name.hashCode(), WIDTH, WIDTH);
            g.node("MatMul", "/attention/" + name + "/MatMul", "x", name);
        }
        init(g, "up", DType.F32, 7, WIDTH, 192);
        init(g, "down", DType.F16, 8, 192, WIDTH);
        init(g, "norm", DType.F32, 9, WIDTH);
        g.node(new NodeBuilder("Transpose", "kt", "/attention/key/MatMul").ints("perm", 0, 2, 1))
                .node("MatMul", "scores", "/attention/query/MatMul", "kt").node("Softmax", "p", "scores")
                .node("MatMul", "context", "p", "/attention/value/MatMul").node("MatMul", "u", "context", "up").node("Relu", "r", "u")
                .node(new NodeBuilder("Cast", "h", "r").set("to", 10)).node("MatMul", "d", "h", "down")
                .node(new NodeBuilder("Cast", "s", "d").set("to", 1)).node("Mul", "y", "s", "norm").output("y", FLOAT, -1, -1, WIDTH);
        return m;
    }

    private static TestModel recurrent(long opset) {
        TestModel m = TestModel.of(8, opset);
        init(m.graph, "w", DType.F32, 1, 2, 4 * 48, 40);
        init(m.graph, "r", DType.F32, 2, 2, 4 * 48, 48);
        m.graph.input("x", FLOAT, -1, -1, 40).node(new NodeBuilder("LSTM", "y", "x", "w", "r").set("hidden_size", 48).text("direction", "bidirectional"))
                .output("y", FLOAT, -1, 2, -1, 48);
        return m;
    }

    /** Weights in the branches of an If, and one table for a lookup and for a product. */
    private static TestModel branches(long opset) {
        TestModel m = TestModel.of(8, opset);
        NodeBuilder choice = new NodeBuilder("If", "chosen", "c");
        for (String branch : new String[] {"then_branch", "else_branch"}) {
            GraphBuilder g = new GraphBuilder(branch);
            init(g, "w", DType.F32, branch.hashCode(), WIDTH, WIDTH);
            choice.graph(branch, g.node("MatMul", "z", "x", "w").output("z", FLOAT, -1, -1, WIDTH));
        }
        init(m.graph, "words", DType.F32, 1, 150, WIDTH);
        m.graph.input("ids", 7, -1, -1).input("c", 9, 1).node("Gather", "x", "words", "ids").node(choice).node("Transpose", "t", "words")
                .node("MatMul", "y", "chosen", "t").output("y", FLOAT, -1, -1, 150);
        return m;
    }

    private Path external(long opset) throws IOException {
        Path in = Files.createDirectories(folder.resolve("external"));
        Files.write(in.resolve("w.bin"), TestModel.raw(DType.F32, values(3, WIDTH, 256)));
        TestModel m = TestModel.of(8, opset);
        Proto t = TestModel.head("w", 1, WIDTH, 256).message(13, new Proto().string(1, "location").string(2, "w.bin")).integer(14, 1);
        m.graph.init(t).input("x", FLOAT, -1, WIDTH).node("MatMul", "y", "x", "w").node("Relu", "z", "y").output("z", FLOAT, -1, 256);
        return m.write(in, "in.onnx");
    }

    @Test
    void everyRecipeForEveryTarget() throws IOException {
        write(Compressor.Options.DEFAULT, 11, 17, 21).check();
    }

    @Test
    void everyRecipeForEveryTargetOnADevice() throws IOException {
        write(Compressor.Options.DEFAULT.device(Device.cuda(0)), 17).checkPart();
    }

    private Golden write(Compressor.Options options, long... opsets) throws IOException {
        Golden golden = new Golden("onnx");
        for (long opset : opsets) {
            Map<String, Path> models = new LinkedHashMap<>();
            models.put("convolutions", convolutions(opset).write(folder, "c.onnx"));
            models.put("transformer", transformer(opset).write(folder, "t.onnx"));
            models.put("recurrent", recurrent(opset).write(folder, "r.onnx"));
            models.put("branches", branches(opset).write(folder, "b.onnx"));
            models.put("external", external(opset));
            for (Map.Entry<String, Path> model : models.entrySet()) {
                for (String recipe : Recipe.NAMES) {
                    if (Recipe.named(recipe).requires(Requirement.STATISTICS) || !Recipe.named(recipe).structure().isEmpty()) {
                        continue; // these models have none, and few groups
                    }
                    for (String target : new String[] {"onnxruntime", "onnx"}) {
                        String what = String.join(" ", model.getKey(), recipe, target, "" + opset);
                        Path out = Files.createDirectories(folder.resolve(what));
                        try (Compressor c = Compressor.open(model.getValue(), options)) {
                            Plan plan = c.plan(Recipe.named(recipe).set("min-size", "1000").target(target));
                            c.compress(plan, out.resolve("out.onnx"));
                            golden.add(what, out, name -> true, Targets.forms(plan).values().stream().anyMatch(f -> f instanceof Form.LowRank
                                    || f instanceof Form.Sum));
                        }
                    }
                }
            }
        }
        return golden;
    }
}
