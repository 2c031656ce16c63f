package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.model.Destination;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.TestModel.GraphBuilder;
import dev.tensorpress.model.onnx.TestModel.NodeBuilder;
import dev.tensorpress.structure.Cleanup;
import dev.tensorpress.structure.Cleanup.Step;
import dev.tensorpress.structure.RuntimeEvaluator;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

final class CleanupTest {
    private static final int FLOATS = 1;

    @TempDir
    Path folder;

    /** What is left: types of nodes, and names of initializers, of a graph and those inside. */
    private record Left(List<String> nodes, Set<String> constants, List<String> notes) {}

    private Left clean(TestModel model, double tolerance, Step... steps) throws Exception {
        return clean(model.write(folder, "in.onnx"), tolerance, steps);
    }

    private Left clean(Path in, double tolerance, Step... steps) throws Exception {
        Set<Step> asked = EnumSet.of(Step.UNUSED, steps);
        try (Arena arena = Arena.ofShared(); OnnxModel m = OnnxModel.open(in, false)) {
            EditableModel e = EditableModel.of(m, arena);
            List<String> notes = new ArrayList<>();
            new Cleanup(e, arena, tolerance, RuntimeEvaluator::evaluate).run(asked).forEach(d -> notes.addAll(d.notes()));
            e.write(Destination.replacing(out()));
            List<String> nodes = new ArrayList<>();
            e.graph().all().forEach(g -> g.nodes().forEach(n -> nodes.add(n.type())));
            return new Left(nodes, Set.copyOf(e.graph().initializers().keySet()), notes);
        }
    }

    private Path out() {
        return folder.resolve("out.onnx");
    }

    private void same(double tolerance) throws Exception {
        float[] before = Ort.run(folder.resolve("in.onnx"), 5, 2);
        float[] after = Ort.run(out(), 5, 2);
        assertEquals(before.length, after.length);
        double most = 0;
        for (float x : before) {
            most = Math.max(most, Math.abs(x));
        }
        assertTrue(most > 0);
        for (int i = 0; i < before.length; i++) {
            assertEquals(before[i], after[i], tolerance * most);
        }
    }

    /** Batch normalization of {@code channels}, its parameters those of nobody else. */
    private static void normalize(GraphBuilder g, String in, int channels, DType type) {
        float[] variance = TestModel.random(13, channels);
        for (int i = 0; i < channels; i++) {
            variance[i] = 0.1f + variance[i] * variance[i];
        }
        g.node(new NodeBuilder("BatchNormalization", "y", in, "scale", "shift", "mean", "variance").set("epsilon", 1e-3f));
        g.init("scale", type, TestModel.random(10, channels), channels).init("shift", type, TestModel.random(11, channels), channels)
                .init("mean", type, TestModel.random(12, channels), channels).init("variance", type, variance, channels);
    }

    private static TestModel convolution(String op, int in, int out, int groups, boolean bias, DType type) {
        TestModel m = new TestModel();
        boolean transposed = op.equals("ConvTranspose");
        int[] dims = transposed ? new int[] {in, out / groups} : new int[] {out, in / groups};
        NodeBuilder node = bias ? new NodeBuilder(op, "c", "x", "w", "b") : new NodeBuilder(op, "c", "x", "w");
        m.graph.node(node.set("group", (long) groups).ints("pads", 1, 1, 1, 1));
        m.graph.init("w", type, TestModel.random(1, dims[0] * dims[1] * 9), dims[0], dims[1], 3, 3);
        if (bias) {
            m.graph.init("b", type, TestModel.random(2, out), out);
        }
        normalize(m.graph, "c", out, type);
        m.graph.input("x", TensorInfo.code(type), 2, in, 5, 6).output("y", TensorInfo.code(type), 2, out, 5, 6);
        return m;
    }

    @Test
    void batchNormalizationBecomesPartOfConvolutions() throws Exception {
        for (String op : List.of("Conv", "ConvTranspose")) {
            for (int groups : new int[] {1, 2, 6}) {
                for (boolean bias : new boolean[] {false, true}) {
                    Left left = clean(convolution(op, 6, 12, groups, bias, DType.F32), 0, Step.BATCH_NORMALIZATION);
                    assertEquals(List.of(op), left.nodes, left.notes.toString());
                    assertEquals(2, left.constants.size());
                    same(2e-6);
                }
            }
        }
        assertEquals(List.of("Conv"), clean(convolution("Conv", 6, 12, 1, true, DType.F16), 0, Step.BATCH_NORMALIZATION).nodes);
        same(1e-2);
    }

    @Test
    void batchNormalizationBecomesPartOfProducts() throws Exception {
        for (boolean turned : new boolean[] {false, true}) {
            for (String bias : new String[] {"", "all", "one"}) {
                TestModel m = new TestModel();
                NodeBuilder gemm = bias.isEmpty() ? new NodeBuilder("Gemm", "c", "x", "w") : new NodeBuilder("Gemm", "c", "x", "w", "b");
                m.graph.node(gemm.set("transB", turned ? 1L : 0L).set("alpha", 0.5f).set("beta", 3f));
                m.graph.init("w", DType.F32, TestModel.random(1, 28), turned ? 4 : 7, turned ? 7 : 4);
                if (!bias.isEmpty()) {
                    m.graph.init("b", DType.F32, TestModel.random(2, bias.equals("all") ? 4 : 1), bias.equals("all") ? 4 : 1);
                }
                normalize(m.graph, "c", 4, DType.F32);
                m.graph.input("x", FLOATS, 3, 7).output("y", FLOATS, 3, 4);
                assertEquals(List.of("Gemm"), clean(m, 0, Step.BATCH_NORMALIZATION).nodes);
                same(2e-6);
            }
        }
    }

    @Test
    void batchNormalizationThatCannotBeFoldedSaysWhy() throws Exception {
        TestModel twice = convolution("Conv", 6, 12, 1, false, DType.F32);
        twice.graph.node("Relu", "z", "c").output("z", FLOATS, 2, 12, 5, 6);
        Left left = clean(twice, 0, Step.BATCH_NORMALIZATION);
        assertTrue(left.notes.toString().contains("BatchNormalization_y stays: what it reads is not made for it alone"), left.notes.toString());
        same(0);
        TestModel given = convolution("Conv", 6, 12, 1, false, DType.F32);
        given.graph.input("w", FLOATS, 12, 6, 3, 3);
        assertTrue(clean(given, 0, Step.BATCH_NORMALIZATION).notes.toString().contains("no constants"));
        TestModel other = new TestModel();
        other.graph.node("Relu", "c", "x");
        normalize(other.graph, "c", 6, DType.F32);
        other.graph.input("x", FLOATS, 2, 6).output("y", FLOATS, 2, 6);
        assertTrue(clean(other, 0, Step.BATCH_NORMALIZATION).notes.toString().contains("made by Relu"));
        TestModel infinite = convolution("Conv", 6, 12, 1, false, DType.F32);
        infinite.graph.initializers.set(1, TestModel.tensor("scale", DType.F32, filled(12, 3e38f), 12).toBytes());
        assertTrue(clean(infinite, 0, Step.BATCH_NORMALIZATION).notes.toString().contains("not be finite"));
    }

    private static float[] filled(int n, float value) {
        float[] all = new float[n];
        Arrays.fill(all, value);
        return all;
    }

    @Test
    void nodesThatDoNothingGo() throws Exception {
        TestModel m = new TestModel();
        m.graph.node("Identity", "a", "x").node("Relu", "b", "a").node("Dropout", "c", "b").node(new NodeBuilder("Cast", "d", "x").set("to", 1L))
                .node("Add", "e", "c", "d").node("Identity", "y", "e").node("Neg", "z", "e").node("Identity", "copy", "x");
        m.graph.input("x", FLOATS, 3).output("y", FLOATS, 3).output("z", FLOATS, 3).output("copy", FLOATS, 3);
        assertEquals(List.of("Relu", "Add", "Neg", "Identity"), clean(m, 0, Step.IDENTITY).nodes);
        same(0);
        // What drops, converts, or is of unknown type stays.
        TestModel kept = new TestModel();
        kept.graph.node("Dropout", "a,mask", "x").node(new NodeBuilder("Cast", "y", "a").set("to", 1L)).node(new NodeBuilder("Cast", "z", "x").set("to", 11L));
        kept.graph.input("x", FLOATS, 3).output("y", FLOATS, 3).output("mask", TensorInfo.BOOL, 3).output("z", TensorInfo.DOUBLE, 3);
        assertEquals(3, clean(kept, 0, Step.IDENTITY).nodes.size());
    }

    /** Inside, the name of what is passed by means something else. */
    @Test
    void namesThatAreHiddenInsideAreNotTaken() throws Exception {
        TestModel m = new TestModel();
        GraphBuilder then = new GraphBuilder("then").node("Add", "x2", "i", "one").node("Mul", "t", "x2", "i")
                .init("one", DType.F32, new float[] {1}, 1).output("t", FLOATS, 3);
        GraphBuilder other = new GraphBuilder("else").node("Neg", "f", "i").output("f", FLOATS, 3);
        m.graph.node("Relu", "r", "x").node("Identity", "i", "r").node(new NodeBuilder("If", "y", "c").graph("then_branch", then).graph("else_branch", other));
        m.graph.input("x", FLOATS, 3).input("c", TensorInfo.BOOL).output("y", FLOATS, 3);
        assertEquals(List.of("Relu", "If", "Add", "Mul", "Neg"), clean(m, 0, Step.IDENTITY, Step.EQUAL).nodes);
        same(0);
        TestModel hidden = new TestModel();
        GraphBuilder hides = new GraphBuilder("then").node("Add", "t", "i", "r").init("r", DType.F32, new float[] {1}, 1).output("t", FLOATS, 3);
        hidden.graph.node("Relu", "r", "x").node("Identity", "i", "r").node(new NodeBuilder("If", "y", "c").graph("then_branch", hides).graph("else_branch", other));
        hidden.graph.input("x", FLOATS, 3).input("c", TensorInfo.BOOL).output("y", FLOATS, 3);
        // What is read inside gets the name that is read there.
        assertEquals(List.of("Relu", "If", "Add", "Neg"), clean(hidden, 0, Step.IDENTITY).nodes);
        same(0);
        hidden.graph.node("Neg", "z", "r").output("r", FLOATS, 3);
        assertTrue(clean(hidden, 0, Step.IDENTITY).nodes.contains("Identity"));
        same(0);
    }

    @Test
    void equalConstantsBecomeOne() throws Exception {
        float[] w = TestModel.random(1, 9);
        TestModel m = new TestModel();
        m.graph.node(new NodeBuilder("Constant", "k").tensor("value", TestModel.tensor("", DType.F32, w, 3, 3)))
                .node("MatMul", "a", "x", "w").node("MatMul", "b", "a", "v").node("MatMul", "d", "b", "k").node("MatMul", "y", "d", "other");
        m.graph.init("w", DType.F32, w, 3, 3).init("v", DType.F32, w, 3, 3).init("other", DType.F32, TestModel.random(2, 9), 3, 3)
                .init("flat", DType.F32, w, 9);
        m.graph.node("Reshape", "f", "flat", "to").longs("to", 3, 3).node("MatMul", "z", "x", "f");
        m.graph.input("x", FLOATS, 2, 3).output("y", FLOATS, 2, 3).output("z", FLOATS, 2, 3);
        Left left = clean(m, 0, Step.EQUAL);
        assertEquals(Set.of("w", "other", "flat", "to"), left.constants);
        assertTrue(!left.nodes.contains("Constant"));
        same(0);
        // A caller may give another one.
        m.graph.input("v", FLOATS, 3, 3);
        assertTrue(clean(m, 0, Step.EQUAL).constants.contains("v"));
    }

    @Test
    void weightsThatDifferByLittleBecomeOneWhereThatIsAsked() throws Exception {
        float[] w = TestModel.random(1, 1600);
        float[] v = w.clone();
        for (int i = 0; i < v.length; i++) {
            v[i] += 0.01f * TestModel.random(2, 1600)[i];
        }
        TestModel m = new TestModel();
        m.graph.node("MatMul", "a", "x", "w").node("MatMul", "y", "a", "v");
        m.graph.init("w", DType.F32, w, 40, 40).init("v", DType.F32, v, 40, 40).input("x", FLOATS, 2, 40).output("y", FLOATS, 2, 40);
        assertEquals(Set.of("w", "v"), clean(m, 0.005, Step.NEARLY_EQUAL).constants);
        Left left = clean(m, 0.02, Step.NEARLY_EQUAL);
        assertEquals(Set.of("w"), left.constants);
        assertTrue(left.notes.getFirst().matches("'v' is 'w' now, off by 0\\.01\\d?"), left.notes.toString());
        same(0.1);
        assertThrows(IllegalArgumentException.class, () -> clean(m, 1.5));
        assertThrows(IllegalArgumentException.class, () -> clean(m, Double.NaN));
    }

    @Test
    void constantsAreComputedUnlessTheyGrow() throws Exception {
        TestModel m = new TestModel();
        m.graph.longs("shape", 40, -1).longs("many", 4096, 1024).longs("first", 0).longs("axis", 0).init("w", DType.F32, TestModel.random(1, 1600), 1600)
                .node("Shape", "s", "x").node("Gather", "g", "s", "first").node("Add", "h", "g", "first") // depends on the input
                .node("Reshape", "r", "w", "shape").node("Transpose", "t", "r").node("MatMul", "a", "x", "t")
                .node(new NodeBuilder("ConstantOfShape", "ones", "many").tensor("value", TestModel.tensor("", DType.F32, new float[] {1}, 1)))
                .node("ReduceSum", "sum", "ones", "axis").node("Cast", "hf", "h").node("ReduceMax", "most", "ones");
        m.graph.nodes.set(8, new NodeBuilder("Cast", "hf", "h").set("to", 1L).proto.toBytes());
        m.graph.node("Add", "b", "a", "hf").node("Add", "y", "b", "most").node("Identity", "z", "ones");
        m.graph.input("x", FLOATS, -1, 40).output("y", FLOATS, -1, 40).output("z", FLOATS, 4096, 1024);
        Left left = clean(m, 0, Step.CONSTANTS);
        assertEquals(List.of("Shape", "Gather", "Add", "MatMul", "ConstantOfShape", "Cast", "ReduceMax", "Add", "Add", "Identity"), left.nodes);
        assertTrue(left.notes.toString().contains("made by 2 nodes take more bytes than what they are made of, and are not computed; one is ConstantOfShape_ones"), left.notes.toString());
        assertTrue(left.constants.contains("t"));
        same(0);
    }

    /** Each node of the chain would have to be looked at by itself. */
    @Test
    void longChainsOfLargeConstantsEnd() throws Exception {
        TestModel m = new TestModel();
        m.graph.longs("shape", 1 << 19).node("ConstantOfShape", "c0", "shape");
        for (int i = 0; i < 40; i++) {
            m.graph.node("Neg", "c" + (i + 1), "c" + i);
        }
        m.graph.node("Add", "y", "c40", "x").input("x", FLOATS, 1).output("y", FLOATS, 1 << 19);
        int[] runs = new int[1];
        try (Arena arena = Arena.ofShared(); OnnxModel opened = OnnxModel.open(m.write(folder, "in.onnx"), false)) {
            EditableModel e = EditableModel.of(opened, arena);
            Cleanup cleanup = new Cleanup(e, arena, 0, (model, values, to) -> {
                runs[0]++;
                return RuntimeEvaluator.evaluate(model, values, to);
            });
            assertEquals(0, cleanup.run(EnumSet.of(Step.CONSTANTS)).getFirst().nodes());
        }
        assertTrue(runs[0] <= 10, runs[0] + " runs");
    }

    @Test
    void whatTheRuntimeCannotComputeStays() throws Exception {
        TestModel m = new TestModel();
        m.graph.longs("bad", -5).init("w", DType.F32, TestModel.random(1, 6), 6).longs("good", 2, 3)
                .node("Reshape", "r", "w", "bad").node("Reshape", "t", "w", "good").node("RandomNormalLike", "n", "w").node("Add", "q", "x", "t");
        m.graph.node("Shape", "y", "r").node("Shape", "u", "n");
        m.graph.input("x", FLOATS, 2, 3).output("q", FLOATS, 2, 3).output("y", TensorInfo.INT64, 1).output("u", TensorInfo.INT64, 1);
        Left left = clean(m, 0, Step.CONSTANTS);
        assertEquals(List.of("Reshape", "RandomNormalLike", "Add", "Shape", "Shape"), left.nodes);
        assertTrue(left.notes.toString().contains("Reshape_r stays: "), left.notes.toString());
    }

    @Test
    void whatLeadsToNoOutputGoes() throws Exception {
        TestModel m = new TestModel();
        GraphBuilder then = new GraphBuilder("then").node("Add", "t", "kept", "x").node("Neg", "dead", "t").init("unread", DType.F32, new float[] {1}, 1)
                .output("t", FLOATS, 3);
        GraphBuilder other = new GraphBuilder("else").node("Neg", "f", "x").output("f", FLOATS, 3);
        m.graph.node("Relu", "kept", "x").node("Relu", "a", "x").node("Add", "b", "a", "lost")
                .node(new NodeBuilder("If", "y", "c").graph("then_branch", then).graph("else_branch", other));
        m.graph.init("lost", DType.F32, new float[] {1}, 1).init("default", DType.F32, new float[] {1}, 1).input("default", FLOATS, 1);
        m.graph.input("x", FLOATS, 3).input("c", TensorInfo.BOOL).input("unused", FLOATS, 2).output("y", FLOATS, 3);
        Left left = clean(m, 0);
        assertEquals(List.of("Relu", "If", "Add", "Neg"), left.nodes);
        assertEquals(Set.of("default"), left.constants);
        same(0);
    }

    @Test
    void trainingInformationIsRefused() throws IOException {
        TestModel m = new TestModel();
        m.graph.node("Relu", "y", "x").input("x", FLOATS, 3).output("y", FLOATS, 3);
        m.after.message(20, new Proto());
        assertThrows(UnsupportedRequestException.class, () -> clean(m, 0));
    }

    @Test
    void externalDataGoIntoAFileOfTheirOwn() throws Exception {
        float[] w = TestModel.random(1, 1024);
        Files.write(folder.resolve("in.bin"), TestModel.raw(DType.F32, w));
        TestModel m = new TestModel();
        m.graph.node("MatMul", "a", "x", "w").node("MatMul", "y", "a", "v").init("v", DType.F32, w, 32, 32)
                .init(TestModel.head("w", FLOATS, 32, 32).message(13, new Proto().string(1, "location").string(2, "in.bin")).integer(14, 1));
        m.graph.input("x", FLOATS, 2, 32).output("y", FLOATS, 2, 32);
        assertEquals(1, clean(m, 0, Step.EQUAL).constants.size());
        same(0);
    }
}
