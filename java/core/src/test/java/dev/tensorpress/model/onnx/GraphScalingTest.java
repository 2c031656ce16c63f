package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.tensorpress.Targets;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.TestModel.GraphBuilder;
import dev.tensorpress.model.onnx.TestModel.NodeBuilder;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What a graph is for: where it says so, scales and biases can be multiplied and weights divided, and the model computes the same. */
final class GraphScalingTest {
    private static final int FLOAT = TensorInfo.FLOAT;
    private static final int K = 8;

    @TempDir
    Path folder;
    private final TestModel model = TestModel.of(8, 18);
    private final GraphBuilder g = model.graph;

    private void weights(GraphBuilder to, long[] dims, String... names) {
        int n = 1;
        for (long d : dims) {
            n *= (int) d;
        }
        for (String name : names) {
            to.init(name, DType.F32, TestModel.random(name.hashCode(), n), dims);
        }
    }

    /** Multiplied with powers of two, so that nothing is rounded otherwise. */
    private static float power(long index) {
        return (float) (1 << index % 3) / 2;
    }

    private static Tensor scaled(Weight w, int axis, boolean divided) {
        long inner = 1;
        for (int i = axis + 1; i < w.tensor().shape().rank(); i++) {
            inner *= w.tensor().shape().dim(i);
        }
        float[] values = w.tensor().data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
        for (int i = 0; i < values.length; i++) {
            float s = power(i / inner % w.tensor().shape().dim(axis));
            values[i] = divided ? values[i] / s : values[i] * s;
        }
        return new Tensor(DType.F32, w.tensor().shape(), MemorySegment.ofBuffer(ByteBuffer.allocateDirect(4 * values.length))
                .copyFrom(MemorySegment.ofArray(values)));
    }

    /** @param feeds that can be scaled */
    private void check(int feeds) throws Exception {
        Path in = model.write(folder, "in.onnx");
        Path out = folder.resolve("out.onnx");
        try (OnnxModel m = OnnxModel.open(in, false)) {
            Map<Weight, Tensor> changed = new LinkedHashMap<>();
            int count = 0;
            for (Graph.Feed f : m.graph().orElseThrow().feeds()) {
                Graph.Normalization n = f.normalization().orElse(null);
                if (n == null || n.scale().isEmpty() || !f.exclusive()) {
                    continue;
                }
                count++;
                changed.put(n.scale().get(), scaled(n.scale().get(), 0, false));
                n.bias().ifPresent(b -> changed.put(b, scaled(b, 0, false)));
                Set<Weight> matrices = new HashSet<>();
                f.products().forEach(p -> matrices.add(p.weight()));
                matrices.forEach(w -> changed.put(w, scaled(w, w.inputAxis(), true)));
            }
            assertEquals(feeds, count);
            Map<Weight, Form> forms = new LinkedHashMap<>();
            changed.forEach((w, t) -> forms.put(w, new Form.Dense(DType.F32)));
            Targets.write(Targets.of(m, "", Map.of()), forms,
                    (w, form, rows, first) -> new Encoding.Dense(changed.get(w)),
                    Destination.replacing(out));
        }
        assertArrayEquals(Ort.run(in, 3, 9), Ort.run(out, 3, 9));
    }

    /** Queries and keys that share an input, moved and turned on the way; then a decomposed norm, and products in a branch. */
    @Test
    void transformers() throws Exception {
        weights(g, new long[] {K}, "s", "b", "s2", "b2");
        weights(g, new long[] {K, K}, "q", "k", "v", "o");
        g.longs("axes", -1).longs("rows", -1, K).longs("back", 3, 3, K).init("two", DType.F32, new float[] {2})
                .init("epsilon", DType.F32, new float[] {1e-5f});
        g.input("x", FLOAT, -1, -1, K).input("c", 9).node("LayerNormalization", "n", "x", "s", "b").node("MatMul", "qx", "n", "q")
                .node(new NodeBuilder("Transpose", "n1", "n").ints("perm", 1, 0, 2)).node("Transpose", "kt", "k").node("MatMul", "kx1", "n1", "kt")
                .node(new NodeBuilder("Transpose", "kx", "kx1").ints("perm", 1, 0, 2)).node("Reshape", "n2", "n", "rows")
                .node(new NodeBuilder("Gemm", "vx2", "n2", "v").set("transB", 1)).node("Reshape", "vx", "vx2", "back")
                .node("Add", "qk", "qx", "kx").node("Add", "r", "qk", "vx");
        g.node("ReduceMean", "mean", "r", "axes").node("Sub", "centred", "r", "mean").node("Pow", "square", "centred", "two")
                .node("ReduceMean", "variance", "square", "axes").node("Add", "more", "variance", "epsilon").node("Sqrt", "root", "more")
                .node("Div", "d", "centred", "root").node("Mul", "scaled", "d", "s2").node("Add", "m", "scaled", "b2")
                .node("MatMul", "outside", "m", "o");
        NodeBuilder choice = new NodeBuilder("If", "inside", "c");
        for (String branch : new String[] {"then_branch", "else_branch"}) {
            GraphBuilder b = new GraphBuilder(branch);
            weights(b, new long[] {K, K}, "w" + branch);
            choice.graph(branch, b.node("Identity", "m_" + branch, "m").node("MatMul", "z_" + branch, "m_" + branch, "w" + branch)
                    .output("z_" + branch, FLOAT, -1, -1, K));
        }
        g.node(choice).node("Add", "y", "inside", "outside").output("y", FLOAT, -1, -1, K);
        check(2);
    }

    @Test
    void convolutions() throws Exception {
        weights(g, new long[] {K}, "s", "b", "mean", "s2", "b2", "mean2");
        g.init("variance", DType.F32, new float[] {1, 2, 3, 4, 5, 6, 7, 8}, K);
        weights(g, new long[] {5, K, 3, 3}, "kernel");
        weights(g, new long[] {K, 7, 1, 1}, "transposed");
        weights(g, new long[] {K, 5}, "w");
        g.input("x", FLOAT, -1, K, -1, -1).input("flat", FLOAT, -1, K).node("BatchNormalization", "n", "x", "s", "b", "mean", "variance")
                .node("Conv", "y1", "n", "kernel").node("ConvTranspose", "y2", "n", "transposed")
                .node("BatchNormalization", "m", "flat", "s2", "b2", "mean2", "variance").node("Gemm", "y3", "m", "w")
                .output("y1", FLOAT, -1, 5, -1, -1).output("y2", FLOAT, -1, 7, -1, -1).output("y3", FLOAT, -1, 5);
        check(2);
    }
}
