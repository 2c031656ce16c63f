package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Recipe;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.TestModel.GraphBuilder;
import dev.tensorpress.model.onnx.TestModel.NodeBuilder;
import dev.tensorpress.tensor.DType;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Initializers of a graph inside another that have the name of a value of the graph around. */
final class ShadowedNamesTest {
    private static final int FLOAT = TensorInfo.FLOAT;
    private static final int K = 64;

    @TempDir
    Path folder;

    private void compressedComputesTheSame(TestModel m, String recipe, String target) throws Exception {
        Path in = m.write(folder, "in.onnx");
        Path out = folder.resolve("out.onnx");
        Files.deleteIfExists(out);
        try (Compressor c = Compressor.open(in)) {
            c.compress(c.plan(Recipe.named(recipe).target(target)), out);
        }
        LoweringTest.close(recipe + " " + target, Ort.run(in, 3, 10), Ort.run(out, 3, 10), 0.2);
    }

    private static GraphBuilder branch(String result, int seed) {
        return new GraphBuilder(result).init("w", DType.F32, TestModel.random(seed, K * K), K, K)
                .node("MatMul", result, "x", "w").output(result, FLOAT, -1, K);
    }

    private static NodeBuilder branches(String result) {
        return new NodeBuilder("If", result, "c").graph("then_branch", branch("t", 2)).graph("else_branch", branch("e", 3));
    }

    /** A w around the branches that is a weight, or what a node makes. */
    private static TestModel shadowed(boolean weight) {
        TestModel m = TestModel.of(8, 17);
        m.graph.input("x", FLOAT, -1, K).input("c", 9, 1);
        if (weight) {
            m.graph.init("w", DType.F32, TestModel.random(1, K * K), K, K).node("MatMul", "a", "x", "w");
        } else {
            m.graph.node("Relu", "w", "x").node("Neg", "a", "w");
        }
        m.graph.node(branches("b")).node("Add", "y", "a", "b").output("y", FLOAT, -1, K);
        return m;
    }

    @Test
    void weightsWhoseNamesHideOthersStay() throws Exception {
        for (boolean weight : List.of(false, true)) {
            for (String recipe : List.of("int8", "int8-dynamic", "int4")) {
                for (String target : List.of("onnx", "onnxruntime")) {
                    compressedComputesTheSame(shadowed(weight), recipe, target);
                }
            }
            try (OnnxModel opened = OnnxModel.open(folder.resolve("in.onnx"), false)) {
                assertEquals(weight ? 3 : 2, opened.weights().size());
                for (Weight w : opened.weights()) {
                    assertTrue(w.obstacle().orElseThrow().contains("another value of its name"), w.name());
                }
            }
        }
    }

    @Test
    void branchesMayUseOneNameEach() throws Exception {
        TestModel m = TestModel.of(8, 17);
        m.graph.input("x", FLOAT, -1, K).input("c", 9, 1).node(branches("y")).output("y", FLOAT, -1, K);
        compressedComputesTheSame(m, "int8", "onnx");
        try (OnnxModel opened = OnnxModel.open(folder.resolve("in.onnx"), false)) {
            for (Weight w : opened.weights()) {
                assertTrue(w.obstacle().isEmpty(), w.name());
            }
        }
    }
}
