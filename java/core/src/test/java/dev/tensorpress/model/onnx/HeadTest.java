package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.TestModel.NodeBuilder;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Which product of a graph is the last one, and what that changes. */
final class HeadTest {
    private static final int FLOAT = TensorInfo.FLOAT;
    private static final int K = 64;

    @TempDir
    Path folder;

    /** Two products, {@code first} and {@code last}, with an activation between; {@code y} is the result of the second. */
    private static TestModel products() {
        TestModel m = TestModel.of(8, 17);
        for (String name : new String[] {"first", "last"}) {
            m.graph.init(name, DType.F32, TestModel.random(name.hashCode(), K * K), K, K);
        }
        m.graph.init("bias", DType.F32, TestModel.random(3, K), K).longs("shape", -1, K);
        m.graph.input("x", FLOAT, -1, K).node("MatMul", "a", "x", "first").node("Relu", "b", "a").node("MatMul", "y", "b", "last");
        return m;
    }

    private Map<String, Role> roles(TestModel m) throws IOException {
        Map<String, Role> roles = new TreeMap<>();
        try (OnnxModel opened = OnnxModel.open(m.write(folder, "m.onnx"), false)) {
            for (Weight w : opened.weights()) {
                if (w.role().isProduct()) {
                    roles.put(w.name(), w.role());
                }
            }
        }
        return roles;
    }

    private static final Map<String, Role> FOUND = Map.of("first", Role.LINEAR, "last", Role.HEAD);
    private static final Map<String, Role> NONE = Map.of("first", Role.LINEAR, "last", Role.LINEAR);

    @Test
    void biasScoresAndShapesMayFollow() throws IOException {
        TestModel bare = products();
        bare.graph.output("y", FLOAT, -1, K);
        assertEquals(FOUND, roles(bare));
        TestModel m = products();
        m.graph.node("Add", "c", "bias", "y").node(new NodeBuilder("Softmax", "p", "c").set("axis", 1))
                .node("Reshape", "r", "p", "shape").node("Transpose", "t", "r").node("Shape", "s", "t")
                .node(new NodeBuilder("ArgMax", "best", "t")).output("t", FLOAT, K, -1).output("best", 7, 1, -1).output("s", 7, 2);
        assertEquals(FOUND, roles(m));
    }

    @Test
    void whatElseFollowsMakesItAnOrdinaryProduct() throws IOException {
        TestModel activated = products();
        activated.graph.node("Tanh", "z", "y").output("z", FLOAT, -1, K);
        assertEquals(NONE, roles(activated));
        TestModel residual = products();
        residual.graph.node("Add", "z", "y", "b").output("z", FLOAT, -1, K);
        assertEquals(NONE, roles(residual));
        TestModel unused = products();
        unused.graph.node("MatMul", "z", "x", "first").output("z", FLOAT, -1, K);
        assertEquals(Map.of("first", Role.HEAD, "last", Role.LINEAR), roles(unused));
    }

    /** Keys and values that a language model hands out for the next call are read by its attention as well. */
    @Test
    void anOutputThatIsReadWithinIsNoHead() throws IOException {
        TestModel m = products();
        m.graph.node("Reshape", "present", "a", "shape").output("present", FLOAT, -1, K).node("MatMul", "z", "present", "y")
                .output("z", FLOAT, -1, -1).output("y", FLOAT, -1, K);
        assertEquals(NONE, roles(m));
    }

    /** In both branches, where the result of the If leads to an output; not where something else reads it. */
    @Test
    void branchesOfAnIfHaveHeads() throws IOException {
        for (boolean last : new boolean[] {true, false}) {
            TestModel m = TestModel.of(8, 17);
            NodeBuilder choice = new NodeBuilder("If", "z", "c");
            for (String branch : new String[] {"then_branch", "else_branch"}) {
                TestModel.GraphBuilder g = new TestModel.GraphBuilder(branch);
                g.init("w", DType.F32, TestModel.random(branch.hashCode(), K * K), K, K).node("MatMul", "a", "x", "w")
                        .node("Softmax", "b", "a");
                choice.graph(branch, g.output("b", FLOAT, -1, K));
            }
            m.graph.input("x", FLOAT, -1, K).input("c", 9, 1).node(choice).node(last ? "Identity" : "Tanh", "y", "z")
                    .output("y", FLOAT, -1, K);
            Role role = last ? Role.HEAD : Role.LINEAR;
            assertEquals(Map.of("If_z/then_branch/w", role, "If_z/else_branch/w", role), roles(m));
        }
    }

    /** Four bits for all products but the last one, and both compute what they did. */
    @Test
    void fourBitsLeaveTheHeadAtEight() throws Exception {
        TestModel m = products();
        m.graph.node("Add", "z", "y", "bias").output("z", FLOAT, -1, K);
        Path in = m.write(folder, "in.onnx");
        for (String recipe : new String[] {"int4", "int4-corrected"}) {
            for (String target : new String[] {"onnxruntime", "onnx"}) {
                Path out = folder.resolve(recipe + target + ".onnx");
                try (Compressor c = Compressor.open(in)) {
                    Recipe r = Recipe.named(recipe).target(target).set("min-size", "0").set("linear.activations", "float");
                    Plan plan = c.plan(recipe.equals("int4") ? r : r.set("rank", "4"));
                    for (Plan.Entry e : plan.entries()) {
                        if (e.weight().role().isProduct()) {
                            assertEquals(e.weight().name().equals("last"), e.form().describe().startsWith("int8"), e.form().describe());
                        }
                    }
                    c.compress(plan, out);
                }
                LoweringTest.close(recipe + " " + target, Ort.run(in, 3, 10), Ort.run(out, 3, 10), 0.2);
            }
        }
    }
}
