package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.model.Destination;
import dev.tensorpress.model.onnx.TestModel.NodeBuilder;
import dev.tensorpress.structure.Dependencies;
import dev.tensorpress.structure.Group;
import dev.tensorpress.structure.Group.Member;
import dev.tensorpress.structure.Group.Part;
import dev.tensorpress.structure.Removal;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * Small models of each family of operators. Of each group that can be touched half of the indices are removed, alone and together with those of all
 * others; what comes out has to be what the original computes with the slices zeroed that products sum along.
 */
final class DependenciesTest {
    private static final int FLOATS = 1;

    @TempDir
    Path folder;

    private int seed;

    private TestModel model(long opset) {
        return TestModel.of(8, opset);
    }

    /** Random weights. */
    private void weight(TestModel m, String name, long... dims) {
        int n = 1;
        for (long d : dims) {
            n *= (int) d;
        }
        m.graph.init(name, DType.F32, scaled(TestModel.random(++seed, n)), dims);
    }

    private static float[] scaled(float[] x) {
        for (int i = 0; i < x.length; i++) {
            x[i] *= 0.5f;
        }
        return x;
    }

    private void check(TestModel m, String... expected) throws Exception {
        Path file = m.write(folder, "in.onnx");
        try (Arena arena = Arena.ofShared(); OnnxModel opened = OnnxModel.open(file, false)) {
            List<Group> groups = Dependencies.of(EditableModel.of(opened, arena)).groups();
            assertEquals(String.join("\n", expected), String.join("\n", groups.stream().map(g -> g + (g.exact() ? "" : ", inexact")).toList()));
            for (int i = 0; i < groups.size(); i++) {
                if (groups.get(i).obstacle().isEmpty()) {
                    compare(opened, file, new int[] {i});
                }
            }
            compare(opened, file, IntStream.range(0, groups.size()).filter(i -> groups.get(i).obstacle().isEmpty()).toArray());
        }
    }

    private void compare(OnnxModel opened, Path file, int[] which) throws Exception {
        Path shorter = folder.resolve("shorter.onnx");
        Path zeroed = folder.resolve("zeroed.onnx");
        boolean exact = true;
        try (Arena arena = Arena.ofShared()) {
            EditableModel a = EditableModel.of(opened, arena);
            EditableModel b = EditableModel.of(opened, arena);
            Dependencies found = Dependencies.of(a);
            Map<Group, int[]> keep = new LinkedHashMap<>();
            long bytes = 0;
            for (int i : which) {
                Group g = found.groups().get(i);
                int[] kept = kept(g.size());
                keep.put(g, kept);
                zero(b, Dependencies.of(b).groups().get(i), kept, arena);
                exact &= g.exact();
                bytes += g.bytes() * (g.size() - kept.length);
            }
            long before = elements(a);
            Removal.apply(found, keep, arena);
            if (which.length == 1 && found.groups().get(which[0]).members().stream().map(Member::constant).distinct().count()
                    == found.groups().get(which[0]).members().size()) {
                assertEquals(bytes, before - elements(a));
            }
            a.write(Destination.replacing(shorter));
            b.write(Destination.replacing(zeroed));
            for (Group g : Dependencies.of(a).groups()) {
                assertTrue(g.size() > 0);
            }
        }
        float[] left = Ort.run(shorter, 7, 2);
        float[] right = Ort.run(exact ? zeroed : file, 7, 2);
        assertEquals(right.length, left.length);
        float largest = 0;
        for (int i = 0; i < left.length; i++) {
            largest = Math.max(largest, Math.abs(left[i]));
            assertEquals(exact ? right[i] : left[i], left[i], 1e-5 * Math.max(1, Math.abs(right[i])), "at " + i + " of " + Arrays.toString(which));
        }
        assertTrue(left.length == 0 || largest > 0);
    }

    private static int[] kept(int size) {
        Random random = new Random(size);
        int[] half = IntStream.range(0, size).filter(i -> random.nextBoolean()).toArray();
        return half.length == 0 || half.length == size ? new int[] {size / 2} : half;
    }

    /** Bytes of floats. */
    private static long elements(EditableModel m) {
        long initializers = m.graph().initializers().values().stream().filter(t -> t.type().orElse(null) == DType.F32).mapToLong(t -> t.tensor().bytes()).sum();
        return initializers + m.graph().nodes().stream().filter(n -> n.is("Constant")).flatMap(n -> n.tensor("value").stream())
                .filter(t -> t.type().orElse(null) == DType.F32).mapToLong(t -> t.tensor().bytes()).sum();
    }

    private static void zero(EditableModel m, Group g, int[] kept, Arena arena) {
        for (Member member : g.members()) {
            if (member.part() != Part.SUMMED) {
                continue;
            }
            Map<String, EditableTensor> all = m.graph().initializers();
            Tensor t = (all.containsKey(member.constant()) ? all.get(member.constant())
                    : m.graph().nodes().stream().filter(n -> n.outputs().contains(member.constant())).findFirst().orElseThrow().tensor("value").orElseThrow()).tensor();
            MemorySegment data = arena.allocate(t.bytes()).copyFrom(t.data());
            int[] owners = member.owners();
            long inner = t.dtype().bits() / 8;
            for (int i = t.shape().rank() - 1; i > member.axis(); i--) {
                inner *= t.shape().dim(i);
            }
            for (long at = 0; at < data.byteSize(); at += inner) {
                int owner = owners[(int) (at / inner % owners.length)];
                if (owner >= 0 && Arrays.binarySearch(kept, owner) < 0) {
                    data.asSlice(at, inner).fill((byte) 0);
                }
            }
            EditableTensor zeroed = EditableTensor.of(new Tensor(t.dtype(), t.shape(), data));
            if (all.containsKey(member.constant())) {
                all.put(member.constant(), zeroed);
            } else {
                m.graph().nodes().stream().filter(n -> n.outputs().contains(member.constant())).findFirst().orElseThrow().set("value", zeroed);
            }
        }
    }

    private static NodeBuilder node(String op, String out, String... in) {
        return new NodeBuilder(op, out, in);
    }

    // Products.

    @Test
    void neuronsBetweenProducts() throws Exception {
        TestModel m = model(17);
        weight(m, "w", 6, 8);
        weight(m, "b", 8);
        weight(m, "v", 4, 8);
        weight(m, "c", 4);
        m.graph.node("MatMul", "h", "x", "w").node("Add", "hb", "b", "h").node("Sigmoid", "s", "hb").node("Mul", "a", "hb", "s")
                .node(node("Gemm", "y", "a", "v", "c").set("transB", 1)).input("x", FLOATS, 2, 6).output("y", FLOATS, 2, 4);
        check(m, "6 neurons of MatMul_h (an axis of input x)", "8 neurons of MatMul_h", "4 neurons of Gemm_y (an axis of output y)");
    }

    @Test
    void gatesAreNeuronsToo() throws Exception {
        TestModel m = model(17);
        weight(m, "w", 6, 8);
        weight(m, "u", 6, 8);
        weight(m, "v", 8, 4);
        m.graph.node("MatMul", "g", "x", "w").node("MatMul", "h", "x", "u").node("Sigmoid", "s", "g").node("Mul", "a", "s", "h")
                .node("MatMul", "y", "a", "v").input("x", FLOATS, -1, -2, 6).output("y", FLOATS, -1, -2, 4);
        check(m, "6 neurons of MatMul_g (an axis of input x)", "8 neurons of MatMul_g", "4 neurons of MatMul_y (an axis of output y)");
    }

    @Test
    void theResidualWidthHasOtherStatistics() throws Exception {
        TestModel m = model(17);
        weight(m, "in", 5, 6);
        weight(m, "w", 6, 8);
        weight(m, "v", 8, 6);
        weight(m, "scale", 6);
        weight(m, "bias", 6);
        weight(m, "out", 6, 3);
        m.graph.node("MatMul", "r", "x", "in").node("LayerNormalization", "n", "r", "scale", "bias").node("MatMul", "h", "n", "w")
                .node("Relu", "a", "h").node("MatMul", "o", "a", "v").node("Add", "s", "r", "o").node("MatMul", "y", "s", "out")
                .input("x", FLOATS, 2, 5).output("y", FLOATS, 2, 3);
        check(m, "5 neurons of MatMul_r (an axis of input x)", "6 width of MatMul_r, inexact", "8 neurons of MatMul_h",
                "3 neurons of MatMul_y (an axis of output y)");
    }

    @Test
    void tablesLoseColumnsNotRows() throws Exception {
        TestModel m = model(17);
        weight(m, "table", 9, 6);
        weight(m, "w", 6, 3);
        m.graph.node("Gather", "e", "table", "ids").node("MatMul", "y", "e", "w").input("ids", TensorInfo.INT64, -1, -2).output("y", FLOATS, -1, -2, 3);
        check(m, "9 rows of Gather_e (Gather Gather_e looks it up by numbers)", "6 neurons of Gather_e", "3 neurons of MatMul_y (an axis of output y)");
    }

    @Test
    void einsum() throws Exception {
        TestModel m = model(17);
        weight(m, "w", 6, 2, 4);
        weight(m, "v", 2, 4, 5);
        m.graph.node(node("Einsum", "h", "x", "w").text("equation", "bsi,ihd->bshd")).node("Relu", "a", "h")
                .node(node("Einsum", "y", "a", "v").text("equation", "bshd,hdo->bso")).input("x", FLOATS, -1, -2, 6).output("y", FLOATS, -1, -2, 5);
        check(m, "6 neurons of Einsum_h (an axis of input x)", "2 neurons of Einsum_h", "4 neurons of Einsum_h",
                "5 neurons of Einsum_y (an axis of output y)");
    }

    // Attention.

    /** Queries, keys and values of 3 heads of 4 from an input of 6, and what comes behind them; without the shapes of Reshape. */
    private TestModel attention(long opset) {
        TestModel m = model(opset);
        for (String s : List.of("q", "k", "v")) {
            weight(m, "w" + s, 6, 12);
            weight(m, "b" + s, 12);
            m.graph.node("MatMul", "m" + s, "x", "w" + s).node("Add", "a" + s, "m" + s, "b" + s).node("Reshape", "r" + s, "a" + s, "heads");
        }
        weight(m, "wo", 12, 5);
        m.graph.node(node("Transpose", "tq", "rq").ints("perm", 0, 2, 1, 3)).node(node("Transpose", "tk", "rk").ints("perm", 0, 2, 3, 1))
                .node(node("Transpose", "tv", "rv").ints("perm", 0, 2, 1, 3)).node("MatMul", "s", "tq", "tk").node(node("Softmax", "p", "s").set("axis", -1))
                .node("MatMul", "c", "p", "tv").node(node("Transpose", "tc", "c").ints("perm", 0, 2, 1, 3)).node("Reshape", "f", "tc", "flat")
                .node("MatMul", "y", "f", "wo").input("x", FLOATS, -1, -2, 6).output("y", FLOATS, -1, -2, 5);
        return m;
    }

    private static final String[] HEADS = {"6 neurons of MatMul_mq (an axis of input x)", "3 heads of MatMul_mq", "4 head-features of MatMul_mq, inexact",
        "4 head-features of MatMul_mv", "5 neurons of MatMul_y (an axis of output y)"};

    @Test
    void headsWithShapesThatAreConstant() throws Exception {
        TestModel m = attention(17);
        m.graph.longs("heads", 0, 0, 3, 4).longs("flat", 0, 0, 12);
        check(m, HEADS);
        m = attention(17);
        m.graph.longs("heads", 0, -1, 3, 4).longs("flat", 0, 0, -1);
        check(m, HEADS);
    }

    @Test
    void headsWithShapesThatNodesCompute() throws Exception {
        TestModel m = attention(13);
        List<byte[]> nodes = List.copyOf(m.graph.nodes);
        m.graph.nodes.clear();
        m.graph.longs("zero", 0).longs("batchAt", 0).longs("sequenceAt", 1).longs("threeHeads", 3).longs("four", 4).longs("twelve", 12)
                .node("Shape", "shape", "x").node("Gather", "batch", "shape", "batchAt").node("Gather", "sequence", "shape", "sequenceAt")
                .node(node("Concat", "heads", "batch", "sequence", "threeHeads", "four").set("axis", 0))
                .node(node("Concat", "flat", "batch", "sequence", "twelve").set("axis", 0));
        m.graph.nodes.addAll(nodes);
        check(m, HEADS);
    }

    @Test
    void sizesReadAtRunTimeLeaveGroupsAlone() throws Exception {
        TestModel m = attention(17);
        List<byte[]> nodes = List.copyOf(m.graph.nodes);
        m.graph.nodes.clear();
        m.graph.longs("two", 2).longs("halfOfSix", 3).longs("zeros", 0, 0).longs("four", 4).longs("flat", 0, 0, 12)
                .node("Shape", "shape", "x").node("Gather", "six", "shape", "two").node("Div", "count", "six", "two")
                .node(node("Concat", "heads", "zeros", "count", "four").set("axis", 0));
        m.graph.nodes.addAll(nodes);
        check(m, "6 neurons of MatMul_mq (an axis of input x)", "3 heads of MatMul_mq (its size is computed at run time, for Reshape Reshape_rv)",
                "4 head-features of MatMul_mq, inexact", "4 head-features of MatMul_mv", "5 neurons of MatMul_y (an axis of output y)");
    }
}
