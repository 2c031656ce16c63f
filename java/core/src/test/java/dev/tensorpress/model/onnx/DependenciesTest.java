package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.model.Destination;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.TestModel.NodeBuilder;
import dev.tensorpress.structure.Dependencies;
import dev.tensorpress.structure.Group;
import dev.tensorpress.structure.Group.Member;
import dev.tensorpress.structure.Group.Part;
import dev.tensorpress.structure.Removal;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.stream.IntStream;
import java.util.stream.Stream;
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
            // Two axes of one constant take less than twice one axis; a byte may hold two elements; what others read as well is copied.
            List<String> constants = which.length != 1 ? List.of() : found.groups().get(which[0]).members().stream().map(Member::constant).toList();
            boolean sums = !constants.isEmpty() && constants.stream().distinct().count() == constants.size() && constants.stream()
                    .noneMatch(c -> a.graph().initializers().containsKey(c) && a.graph().initializers().get(c).type().orElseThrow().bits() < 8);
            sums &= constants.stream().allMatch(c -> a.graph().nodes().stream().filter(n -> n.inputs().contains(c)).count() == 1);
            long before = bytes(a);
            Removal.apply(found, keep, arena);
            if (sums) {
                assertEquals(bytes, before - bytes(a));
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

    /** Bytes of constants that are no shapes. */
    private static long bytes(EditableModel m) {
        return Stream.concat(m.graph().initializers().values().stream(),
                        m.graph().nodes().stream().filter(n -> n.is("Constant")).flatMap(n -> n.tensor("value").stream()))
                .filter(t -> t.type().orElseThrow() != DType.I64 && (t.type().get() != DType.I32 || t.shape().elements() > 1)).mapToLong(t -> t.tensor().bytes()).sum();
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
        check(m, "9 rows of Gather_e (Gather Gather_e looks it up by numbers)", "6 neurons of MatMul_y", "3 neurons of MatMul_y (an axis of output y)");
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

    @Test
    void aBiasThatLayersShareIsCopied() throws Exception {
        TestModel m = model(17);
        weight(m, "b", 8);
        for (int i = 0; i < 2; i++) {
            weight(m, "w" + i, 6, 8);
            weight(m, "v" + i, 8, 6);
            m.graph.node("MatMul", "h" + i, i == 0 ? "x" : "y0", "w" + i).node("Add", "a" + i, "h" + i, "b").node("MatMul", "y" + i, "a" + i, "v" + i);
        }
        m.graph.input("x", FLOATS, 2, 6).output("y1", FLOATS, 2, 6);
        check(m, "6 neurons of MatMul_h0 (an axis of input x)", "8 neurons of MatMul_h0", "6 neurons of MatMul_y0", "8 neurons of MatMul_h1",
                "6 neurons of MatMul_y1 (an axis of output y1)");
    }

    @Test
    void aMatrixThatLayersShareTiesThem() throws Exception {
        TestModel m = model(17);
        weight(m, "w", 6, 8);
        weight(m, "v", 8, 6);
        for (int i = 0; i < 2; i++) {
            m.graph.node("MatMul", "h" + i, i == 0 ? "x" : "y0", "w").node("Relu", "a" + i, "h" + i).node("MatMul", "y" + i, "a" + i, "v");
        }
        m.graph.input("x", FLOATS, 2, 6).output("y1", FLOATS, 2, 6);
        check(m, "6 neurons of MatMul_y0 (an axis of input x)", "8 neurons of MatMul_h0");
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
    void sizesThatAreComputedOfKnownOnesBecomeConstants() throws Exception {
        TestModel m = attention(17);
        List<byte[]> nodes = List.copyOf(m.graph.nodes);
        m.graph.nodes.clear();
        m.graph.longs("two", 2).longs("halfOfSix", 3).longs("zeros", 0, 0).longs("four", 4).longs("flat", 0, 0, 12)
                .node("Shape", "shape", "x").node("Gather", "six", "shape", "two").node("Div", "count", "six", "two").node(node("Cast", "short", "four").set("to", 6))
                .node("Mul", "squares", "short", "short").node("Div", "numbers", "squares", "short").node(node("Cast", "long", "numbers").set("to", 7))
                .node(node("Concat", "heads", "zeros", "count", "long").set("axis", 0));
        m.graph.nodes.addAll(nodes);
        check(m, HEADS);
    }

    @Test
    void packedQueriesKeysAndValues() throws Exception {
        for (int how = 0; how < 3; how++) {
            TestModel m = model(17);
            weight(m, "w", 6, 24);
            weight(m, "b", 24);
            weight(m, "wo", 8, 5);
            m.graph.node("MatMul", "m", "x", "w").node("Add", "qkv", "m", "b");
            if (how == 0) {
                m.graph.longs("parts", 8, 8, 8).longs("heads", 0, 0, 2, 4).node(node("Split", "q,k,v", "qkv", "parts").set("axis", -1));
                for (String s : List.of("q", "k", "v")) {
                    m.graph.node("Reshape", "r" + s, s, "heads").node(node("Transpose", "t" + s, "r" + s).ints("perm", 0, 2, 1, 3));
                }
            } else {
                m.graph.longs("heads", 0, 0, 3, 2, 4).node("Reshape", "r", "qkv", "heads").node(node("Transpose", "t", "r").ints("perm", 2, 0, 3, 1, 4));
                m.graph.longs("first", 0).longs("one", 1).longs("two", 2).longs("three", 3);
                for (int i = 0; i < 3; i++) {
                    String to = "t" + "qkv".charAt(i);
                    List<String> at = List.of("first", "one", "two", "three");
                    if (how == 1) {
                        m.graph.node("Gather", to + "1", "t", at.get(i)).node("Squeeze", to, to + "1", "first");
                    } else {
                        m.graph.node("Slice", to + "1", "t", at.get(i), at.get(i + 1), "first").node("Squeeze", to, to + "1", "first");
                    }
                }
            }
            m.graph.node(node("Transpose", "kt", "tk").ints("perm", 0, 1, 3, 2)).node("MatMul", "s", "tq", "kt").node(node("Softmax", "p", "s").set("axis", -1))
                    .node("MatMul", "c", "p", "tv").node(node("Transpose", "tc", "c").ints("perm", 0, 2, 1, 3)).longs("flat", 0, 0, 8)
                    .node("Reshape", "f", "tc", "flat").node("MatMul", "y", "f", "wo").input("x", FLOATS, -1, -2, 6).output("y", FLOATS, -1, -2, 5);
            if (how == 0) {
                check(m, "6 neurons of MatMul_m (an axis of input x)", "2 heads of MatMul_m", "4 head-features of MatMul_m, inexact",
                        "4 head-features of MatMul_m", "5 neurons of MatMul_y (an axis of output y)");
            } else {
                check(m, "6 neurons of MatMul_m (an axis of input x)", "2 heads of MatMul_m", "4 head-features of MatMul_m, inexact",
                        "5 neurons of MatMul_y (an axis of output y)");
            }
        }
    }

    @Test
    void keysThatSeveralHeadsShareAndTurnedPositions() throws Exception {
        TestModel m = model(17);
        weight(m, "wq", 6, 16);
        weight(m, "wk", 6, 8);
        weight(m, "wv", 6, 8);
        weight(m, "wo", 16, 5);
        weight(m, "sin", 4);
        m.graph.longs("four", 0, 0, 4, 4).longs("two", 0, 0, 2, 4).longs("again", 1, 1, 2, 1, 1).longs("each", 0, 4, -1, 4).longs("at", 2)
                .longs("zero", 0).longs("middle", 2).longs("end", Long.MAX_VALUE).longs("last", -1);
        for (String s : List.of("q", "k", "v")) {
            m.graph.node("MatMul", "m" + s, "x", "w" + s).node("Reshape", "r" + s, "m" + s, s.equals("q") ? "four" : "two")
                    .node(node("Transpose", "t" + s, "r" + s).ints("perm", 0, 2, 1, 3));
        }
        for (String s : List.of("q", "k")) {
            m.graph.node("Slice", s + "1", "t" + s, "zero", "middle", "last").node("Slice", s + "2", "t" + s, "middle", "end", "last").node("Neg", s + "n", s + "2")
                    .node(node("Concat", s + "t", s + "n", s + "1").set("axis", -1)).node("Mul", s + "m", s + "t", "sin").node("Add", s + "p", "t" + s, s + "m");
        }
        m.graph.node("Unsqueeze", "ku", "kp", "at").node("Expand", "ke", "ku", "again").node("Reshape", "kr", "ke", "each")
                .node("Unsqueeze", "vu", "tv", "at").node("Expand", "ve", "vu", "again").node("Reshape", "vr", "ve", "each")
                .node(node("Transpose", "kx", "kr").ints("perm", 0, 1, 3, 2)).node("MatMul", "s", "qp", "kx").node(node("Softmax", "p", "s").set("axis", -1))
                .node("MatMul", "c", "p", "vr").node(node("Transpose", "tc", "c").ints("perm", 0, 2, 1, 3)).longs("flat", 0, 0, 16)
                .node("Reshape", "f", "tc", "flat").node("MatMul", "y", "f", "wo").input("x", FLOATS, -1, -2, 6).output("y", FLOATS, -1, -2, 5);
        check(m, "6 neurons of MatMul_mq (an axis of input x)", "2 heads of MatMul_mq", "2 heads of MatMul_mq", "2 head-features of MatMul_mq, inexact",
                "4 head-features of MatMul_mv", "5 neurons of MatMul_y (an axis of output y)");
    }

    @Test
    void numbersThatLayersShareAreChangedInOneAlone() throws Exception {
        TestModel m = model(17);
        m.graph.longs("heads", 0, 0, 3, 2).longs("flat", 0, 0, 6);
        for (int i = 0; i < 2; i++) {
            String x = i == 0 ? "x" : "y0";
            weight(m, "w" + i, 6, 6);
            weight(m, "v" + i, 6, 6);
            m.graph.node("MatMul", "m" + i, x, "w" + i).node("Reshape", "r" + i, "m" + i, "heads").node(node("Transpose", "t" + i, "r" + i).ints("perm", 0, 2, 3, 1))
                    .node(node("Transpose", "u" + i, "r" + i).ints("perm", 0, 2, 1, 3)).node("MatMul", "s" + i, "u" + i, "t" + i)
                    .node("MatMul", "c" + i, "s" + i, "u" + i).node(node("Transpose", "d" + i, "c" + i).ints("perm", 0, 2, 1, 3))
                    .node("Reshape", "f" + i, "d" + i, "flat").node("MatMul", "y" + i, "f" + i, "v" + i);
        }
        m.graph.input("x", FLOATS, -1, -2, 6).output("y1", FLOATS, -1, -2, 6);
        check(m, "6 neurons of MatMul_m0 (an axis of input x)", "3 heads of MatMul_m0", "2 head-features of MatMul_m0, inexact",
                "6 neurons of MatMul_y0", "3 heads of MatMul_m1", "2 head-features of MatMul_m1, inexact",
                "6 neurons of MatMul_y1 (an axis of output y1)");
    }

    @Test
    void axesOfUnknownSizeMayStandBeforeThoseThatAreKnown() throws Exception {
        TestModel m = model(17);
        weight(m, "w", 6, 12);
        weight(m, "v", 4, 12, 5);
        m.graph.longs("zero", 0).longs("rest", -1, 3, 4).longs("flat", 0, -1, 12).node("MatMul", "h", "x", "w").node("Add", "a", "h", "z")
                .node("Shape", "shape", "x").node("Gather", "batch", "shape", "zero").node(node("Concat", "heads", "batch", "rest").set("axis", 0))
                .node("Reshape", "r", "a", "heads").node("Relu", "n", "r").node("Reshape", "f", "n", "flat").node(node("Einsum", "y", "f", "v").text("equation", "bsi,kio->bko"))
                .input("x", FLOATS, -1, -2, 6).input("z", FLOATS, -3, -4, 1).output("y", FLOATS, -5, 4, 5);
        check(m, "6 neurons of MatMul_h (an axis of input x)", "3 width of MatMul_h", "4 width of MatMul_h", "4 neurons of Einsum_y (an axis of output y)",
                "5 neurons of Einsum_y (an axis of output y)");
    }

    // Convolutions.

    private void norm(TestModel m, String out, String in, int channels) {
        weight(m, out + "_s", channels);
        weight(m, out + "_b", channels);
        weight(m, out + "_m", channels);
        float[] variance = new float[channels];
        Arrays.fill(variance, 0.7f);
        m.graph.init(out + "_v", DType.F32, variance, channels).node("BatchNormalization", out, in, out + "_s", out + "_b", out + "_m", out + "_v");
    }

    @Test
    void channelsOfConvolutions() throws Exception {
        TestModel m = model(17);
        weight(m, "w0", 8, 3, 3, 3);
        weight(m, "wd", 8, 1, 3, 3);
        weight(m, "w1", 6, 8, 1, 1);
        weight(m, "e0", 2, 8, 1, 1);
        weight(m, "f0", 2);
        weight(m, "e1", 8, 2, 1, 1);
        weight(m, "w2", 6, 6, 3, 3);
        weight(m, "fc", 4, 6);
        weight(m, "slope", 8, 1, 1);
        m.graph.node(node("Conv", "a", "x", "w0").ints("pads", 1, 1, 1, 1));
        norm(m, "n", "a", 8);
        m.graph.node("PRelu", "r", "n", "slope").node(node("Conv", "d", "r", "wd").ints("pads", 1, 1, 1, 1).set("group", 8))
                .node("HardSwish", "h", "d").node("GlobalAveragePool", "g", "h").node("Conv", "s0", "g", "e0", "f0").node("Relu", "s1", "s0").node("Conv", "s2", "s1", "e1")
                .node("HardSigmoid", "s3", "s2").node("Mul", "se", "h", "s3").node("Conv", "p", "se", "w1")
                .node(node("Conv", "q", "p", "w2").ints("pads", 1, 1, 1, 1)).node("Add", "sum", "p", "q").node(node("MaxPool", "mp", "sum").ints("kernel_shape", 2, 2))
                .node("GlobalAveragePool", "gp", "mp").node("Flatten", "fl", "gp").node(node("Gemm", "y", "fl", "fc").set("transB", 1))
                .input("x", FLOATS, -1, 3, 6, 6).output("y", FLOATS, -1, 4);
        check(m, "8 channels of Conv_a", "3 channels of Conv_a (an axis of input x)", "2 channels of Conv_s0", "6 channels of Conv_p",
                "4 neurons of Gemm_y (an axis of output y)");
    }

    @Test
    void groupsShuffledJoinedAndCutApart() throws Exception {
        TestModel m = model(17);
        weight(m, "w0", 8, 3, 1, 1);
        weight(m, "wg", 12, 4, 3, 3);
        weight(m, "wh", 12, 4, 1, 1);
        weight(m, "wi", 4, 3, 3, 3);
        weight(m, "w1", 5, 16, 1, 1);
        weight(m, "w2", 5, 8, 1, 1);
        m.graph.longs("apart", 0, 2, 6, 4, 4).longs("joined", 0, 12, 4, 4).longs("parts", 8, 8).node("Conv", "a", "x", "w0")
                .node(node("Conv", "g", "a", "wg").set("group", 2)).node("Reshape", "r", "g", "apart").node(node("Transpose", "t", "r").ints("perm", 0, 2, 1, 3, 4))
                .node("Reshape", "s", "t", "joined").node(node("Conv", "h", "s", "wh").set("group", 3)).node("Conv", "i", "x", "wi")
                .node(node("Concat", "c", "h", "i").set("axis", 1)).node("Conv", "y", "c", "w1")
                .node(node("Split", "c0,c1", "c", "parts").set("axis", 1)).node("Conv", "z", "c1", "w2")
                .input("x", FLOATS, -1, 3, 6, 6).output("y", FLOATS, -1, 5, 4, 4).output("z", FLOATS, -1, 5, 4, 4);
        check(m, "2 channels of Conv_a", "4 channels of Conv_a", "3 channels of Conv_a (an axis of input x)", "2 channels of Conv_g",
                "2 channels of Conv_g", "4 channels of Conv_h", "4 channels of Conv_i",
                "5 channels of Conv_y (an axis of output y)", "5 channels of Conv_z (an axis of output z)");
    }

    @Test
    void channelsBecomeFeaturesAndPixels() throws Exception {
        TestModel m = model(17);
        weight(m, "w0", 8, 3, 3, 3);
        weight(m, "w1", 8, 3, 2, 2);
        weight(m, "b1", 3);
        weight(m, "w2", 3, 5, 4, 4);
        weight(m, "fc", 32, 6);
        weight(m, "out", 6, 2);
        weight(m, "wp", 2, 2, 1, 1);
        m.graph.init("scales", DType.F32, new float[] {1, 1, 2, 2}, 4).longs("pads", 0, 0, 1, 1, 0, 0, 1, 1)
                .node("Conv", "a", "x", "w0").node("Flatten", "f", "a").node("MatMul", "h", "f", "fc").node("Relu", "r", "h").node("MatMul", "y", "r", "out")
                .node(node("ConvTranspose", "u", "a", "w1", "b1").ints("strides", 2, 2)).node("Resize", "e", "u", "", "scales").node("Pad", "p", "e", "pads")
                .node("ConvTranspose", "z", "p", "w2").node(node("DepthToSpace", "ds", "a").set("blocksize", 2L)).node("Conv", "v", "ds", "wp")
                .input("x", FLOATS, -1, 3, 4, 4).output("y", FLOATS, -1, 2).output("z", FLOATS, -1, 5, 13, 13).output("v", FLOATS, -1, 2, 4, 4);
        check(m, "2 channels of Conv_a", "3 channels of Conv_a (an axis of input x)", "6 neurons of MatMul_h",
                "2 neurons of MatMul_y (an axis of output y)", "3 channels of ConvTranspose_u", "5 channels of ConvTranspose_z (an axis of output z)",
                "2 channels of Conv_v (an axis of output v)");
    }

    @Test
    void normalizationsOfChannels() throws Exception {
        TestModel m = model(17);
        weight(m, "w0", 8, 3, 1, 1);
        weight(m, "is", 8);
        weight(m, "ib", 8);
        weight(m, "gs", 2);
        weight(m, "gb", 2);
        weight(m, "s", 8, 1, 1);
        weight(m, "w1", 4, 8, 1, 1);
        m.graph.longs("grouped", 0, 2, -1).node("Conv", "a", "x", "w0").node("InstanceNormalization", "i", "a", "is", "ib").node("Shape", "shape", "i")
                .node("Reshape", "r", "i", "grouped").node("InstanceNormalization", "g", "r", "gs", "gb").node("Reshape", "back", "g", "shape").node("Mul", "n", "back", "s")
                .node("Conv", "y", "n", "w1").input("x", FLOATS, -1, 3, 4, 4).output("y", FLOATS, -1, 4, 4, 4);
        check(m, "2 channels of Conv_a", "4 channels of Conv_a, inexact", "3 channels of Conv_a (an axis of input x)",
                "4 channels of Conv_y (an axis of output y)");
    }

    // Recurrent operators.

    @Test
    void hiddenStates() throws Exception {
        for (String op : List.of("LSTM", "GRU", "RNN")) {
            int gates = op.equals("LSTM") ? 4 : op.equals("GRU") ? 3 : 1;
            TestModel m = model(17);
            weight(m, "w", 2, gates * 5, 6);
            weight(m, "r", 2, gates * 5, 5);
            weight(m, "b", 2, 2 * gates * 5);
            weight(m, "w1", 1, gates * 4, 10);
            weight(m, "r1", 1, gates * 4, 4);
            weight(m, "out", 4, 3);
            m.graph.longs("flat", 0, 0, 10).longs("one", 1).longs("zero", 0)
                    .node(node(op, "h0", "x", "w", "r", "b").set("hidden_size", 5).text("direction", "bidirectional"))
                    .node(node("Transpose", "t", "h0").ints("perm", 0, 2, 1, 3)).node("Reshape", "f", "t", "flat")
                    .node(node(op, "h1,last", "f", "w1", "r1").set("hidden_size", 4)).node("Squeeze", "s", "h1", "one").node("MatMul", "y", "s", "out")
                    .node("Squeeze", "l", "last", "zero").node("MatMul", "z", "l", "out")
                    .input("x", FLOATS, -1, -2, 6).output("y", FLOATS, -1, -2, 3).output("z", FLOATS, -2, 3);
            check(m, "5 hidden of " + op + "_h0", "6 neurons of " + op + "_h0 (an axis of input x)", "4 hidden of " + op + "_h1,last",
                    "3 neurons of MatMul_y (an axis of output y)");
        }
    }

    @Test
    void statesThatBeginAsZeros() throws Exception {
        TestModel m = model(17);
        weight(m, "w", 1, 15, 6);
        weight(m, "r", 1, 15, 5);
        weight(m, "out", 5, 3);
        m.graph.longs("one", 1).longs("five", 5).longs("at", 1).node("Shape", "shape", "x").node("Gather", "batch", "shape", "at")
                .node(node("Concat", "size", "one", "batch", "five").set("axis", 0)).node("ConstantOfShape", "zeros", "size")
                .node(node("GRU", "h", "x", "w", "r", "", "", "zeros").set("hidden_size", 5).set("linear_before_reset", 1)).node("Squeeze", "s", "h", "at")
                .node("MatMul", "y", "s", "out").input("x", FLOATS, -1, -2, 6).output("y", FLOATS, -1, -2, 3);
        check(m, "5 hidden of GRU_h", "6 neurons of GRU_h (an axis of input x)", "3 neurons of MatMul_y (an axis of output y)");
    }

    // Operators of ONNX Runtime.

    private static NodeBuilder fused(String op, String out, String... in) {
        return node(op, out, in).domain("com.microsoft");
    }

    private TestModel fusions() {
        TestModel m = model(17);
        m.after.message(8, new Proto().string(1, "com.microsoft").integer(2, 1));
        return m;
    }

    @Test
    void fusedOperators() throws Exception {
        TestModel m = fusions();
        weight(m, "in", 5, 8);
        for (String s : List.of("s0", "b0", "s1", "b1", "bo", "bh", "c")) {
            weight(m, s, 8);
        }
        weight(m, "w", 8, 24);
        weight(m, "b", 24);
        weight(m, "wo", 8, 8);
        weight(m, "wh", 10, 8);
        weight(m, "bg", 10);
        weight(m, "wv", 10, 8);
        weight(m, "out", 8, 3);
        m.graph.node("MatMul", "r", "x", "in").node("LayerNormalization", "n", "r", "s0", "b0")
                .node(fused("Attention", "at", "n", "w", "b").set("num_heads", 2)).node("MatMul", "o", "at", "wo")
                .node(fused("SkipLayerNormalization", "sl", "o", "n", "s1", "b1", "bo"))
                .node(fused("FusedMatMul", "h", "sl", "wh").set("transB", 1)).node(fused("BiasGelu", "g", "h", "bg")).node("MatMul", "v", "g", "wv")
                .node(fused("FastGelu", "fg", "v", "c")).node("MatMul", "y", "fg", "out").input("x", FLOATS, -1, -2, 5).output("y", FLOATS, -1, -2, 3);
        check(m, "5 neurons of MatMul_r (an axis of input x)", "8 width of MatMul_r, inexact", "2 heads of Attention_at",
                "4 head-features of Attention_at (attention divides by the root of its size), inexact", "10 neurons of FusedMatMul_h",
                "8 neurons of MatMul_v", "3 neurons of MatMul_y (an axis of output y)");
    }

    @Test
    void multiHeadAttention() throws Exception {
        TestModel m = fusions();
        for (String s : List.of("q", "k", "v")) {
            weight(m, "w" + s, 6, 12);
            m.graph.node("MatMul", "m" + s, "x", "w" + s);
        }
        weight(m, "bias", 36);
        weight(m, "wo", 12, 5);
        m.graph.node(fused("MultiHeadAttention", "a", "mq", "mk", "mv", "bias").set("num_heads", 3)).node("MatMul", "y", "a", "wo")
                .input("x", FLOATS, -1, -2, 6).output("y", FLOATS, -1, -2, 5);
        check(m, "6 neurons of MatMul_mq (an axis of input x)", "3 heads of MatMul_mq",
                "4 head-features of MatMul_mq (attention divides by the root of its size), inexact", "4 head-features of MatMul_mv",
                "5 neurons of MatMul_y (an axis of output y)");
    }

    @Test
    void headsThatShareKeysAndValues() throws Exception {
        for (boolean packed : new boolean[] {false, true}) {
            TestModel m = fusions();
            weight(m, packed ? "w" : "wq", 6, packed ? 128 : 64);
            if (!packed) {
                weight(m, "wk", 6, 32);
                weight(m, "wv", 6, 32);
            }
            weight(m, "wo", 64, 5);
            float[] table = new float[32];
            Arrays.fill(table, 0.6f);
            m.graph.init("cos", DType.F32, table, 4, 8).init("sin", DType.F32, table, 4, 8);
            m.graph.init(TestModel.head("lengths", TensorInfo.INT32, 2).bytes(9, new byte[] {2, 0, 0, 0, 2, 0, 0, 0}));
            m.graph.init(TestModel.head("total", TensorInfo.INT32, 1).bytes(9, new byte[] {3, 0, 0, 0}));
            if (packed) {
                m.graph.node("MatMul", "q", "x", "w");
            } else {
                m.graph.node("MatMul", "q", "x", "wq").node("MatMul", "k", "x", "wk").node("MatMul", "v", "x", "wv");
            }
            m.graph.node(fused("GroupQueryAttention", "a,pk,pv", "q", packed ? "" : "k", packed ? "" : "v", "", "", "lengths", "total", "cos", "sin").set("num_heads", 4)
                    .set("kv_num_heads", 2).set("do_rotary", 1)).node("MatMul", "y", "a", "wo").input("x", FLOATS, 2, 3, 6).output("y", FLOATS, 2, 3, 5);
            String of = " of MatMul_q";
            check(m, "6 neurons" + of + " (an axis of input x)", "2 heads" + of, "2 heads" + of,
                    "16 head-features" + of + " (attention divides by the root of its size), inexact", "5 neurons of MatMul_y (an axis of output y)");
        }
    }

    /** Attention and positions as ONNX has them. */
    @Test
    void standardAttention() throws Exception {
        for (boolean flat : new boolean[] {true, false}) {
            TestModel m = model(23);
            m.ir = 10;
            weight(m, "wq", 6, 16);
            weight(m, "wk", 6, 8);
            weight(m, "wv", 6, 6);
            weight(m, "wo", 12, 5);
            weight(m, "mask", 1, 4, 3, 3);
            float[] table = new float[12];
            Arrays.fill(table, 0.6f);
            m.graph.init("cos", DType.F32, table, 2, 3, 2).init("sin", DType.F32, table, 2, 3, 2).longs("four", 0, 0, 4, 4).longs("two", 0, 0, 2, 4).longs("three", 0, 0, 2, 3)
                    .longs("flat", 0, 0, 12).node("MatMul", "q", "x", "wq").node("MatMul", "k", "x", "wk").node("MatMul", "v", "x", "wv");
            if (flat) {
                m.graph.node(node("RotaryEmbedding", "qr", "q", "cos", "sin").set("num_heads", 4)).node(node("RotaryEmbedding", "kr", "k", "cos", "sin").set("num_heads", 2))
                        .node(node("Attention", "f", "qr", "kr", "v", "mask").set("q_num_heads", 4).set("kv_num_heads", 2));
            } else {
                for (String s : List.of("q", "k", "v")) {
                    m.graph.node("Reshape", s + "s", s, s.equals("q") ? "four" : s.equals("k") ? "two" : "three")
                            .node(node("Transpose", s + "t", s + "s").ints("perm", 0, 2, 1, 3));
                }
                m.graph.node("RotaryEmbedding", "qr", "qt", "cos", "sin").node("RotaryEmbedding", "kr", "kt", "cos", "sin")
                        .node(node("Attention", "a", "qr", "kr", "vt", "mask").set("scale", 0.5f).set("is_causal", 1))
                        .node(node("Transpose", "at", "a").ints("perm", 0, 2, 1, 3)).node("Reshape", "f", "at", "flat");
            }
            m.graph.node("MatMul", "y", "f", "wo").input("x", FLOATS, 2, 3, 6).output("y", FLOATS, 2, 3, 5);
            String none = " (no product with constants reads or makes it)";
            check(m, "6 neurons of MatMul_q (an axis of input x)", "2 heads of MatMul_q", "2 heads of MatMul_q",
                    "4 head-features of MatMul_q (positions turn pairs of it at RotaryEmbedding_qr), inexact", "3 head-features of MatMul_v",
                    "3 neurons of Attention_" + (flat ? "f" : "a") + none, "3 neurons of Attention_" + (flat ? "f" : "a") + none,
                    "5 neurons of MatMul_y (an axis of output y)");
        }
    }

    @Test
    void positionsOfONNXRuntime() throws Exception {
        TestModel m = fusions();
        for (String s : List.of("q", "k", "v")) {
            weight(m, "w" + s, 6, 12);
            m.graph.node("MatMul", "m" + s, "x", "w" + s);
        }
        weight(m, "wo", 12, 5);
        weight(m, "cos", 3, 2);
        weight(m, "sin", 3, 2);
        m.graph.input("ids", TensorInfo.INT64, 2, 3)
                .node(fused("RotaryEmbedding", "rq", "mq", "ids", "cos", "sin")).node(fused("RotaryEmbedding", "rk", "mk", "ids", "cos", "sin"))
                .node(fused("MultiHeadAttention", "a", "rq", "rk", "mv").set("num_heads", 3)).node("MatMul", "y", "a", "wo")
                .input("x", FLOATS, 2, 3, 6).output("y", FLOATS, 2, 3, 5);
        check(m, "6 neurons of MatMul_mq (an axis of input x)", "3 heads of MatMul_mq",
                "4 head-features of MatMul_mq (positions turn pairs of it at RotaryEmbedding_rq), inexact", "4 head-features of MatMul_mv",
                "5 neurons of MatMul_y (an axis of output y)");
    }

    /** As exporters write {@code chunk}: the parts' size is computed of the whole one's. */
    @Test
    void partsWhoseSizesNodesCompute() throws Exception {
        TestModel m = model(17);
        weight(m, "w", 6, 24);
        weight(m, "wo", 8, 5);
        m.graph.longs("axis", 2).longs("first", 0).longs("two", 2).longs("three", 3).longs("zero", 0).longs("heads", 0, 0, 2, 4).longs("flat", 0, 0, 8)
                .node("MatMul", "m", "x", "w").node("Shape", "shape", "m").node("Gather", "size", "shape", "axis").node("Add", "more", "size", "two")
                .node("Div", "part", "more", "three").node("Mul", "second", "part", "two").node("Mul", "end", "part", "three")
                .node("Slice", "q", "m", "first", "part", "axis").node("Slice", "k", "m", "part", "second", "axis").node("Slice", "v", "m", "second", "end", "axis");
        for (String s : List.of("q", "k", "v")) {
            m.graph.node("Reshape", "r" + s, s, "heads").node(node("Transpose", "t" + s, "r" + s).ints("perm", 0, 2, 1, 3));
        }
        m.graph.node(node("Transpose", "kt", "tk").ints("perm", 0, 1, 3, 2)).node("MatMul", "s", "tq", "kt").node(node("Softmax", "p", "s").set("axis", -1))
                .node("MatMul", "c", "p", "tv").node(node("Transpose", "tc", "c").ints("perm", 0, 2, 1, 3)).node("Reshape", "f", "tc", "flat").node("MatMul", "y", "f", "wo")
                .input("x", FLOATS, -1, -2, 6).output("y", FLOATS, -1, -2, 5);
        check(m, "6 neurons of MatMul_m (an axis of input x)", "2 heads of MatMul_m", "4 head-features of MatMul_m, inexact", "4 head-features of MatMul_m",
                "5 neurons of MatMul_y (an axis of output y)");
    }

    /** As {@code MultiheadAttention} of PyTorch: heads times batch on one axis, the size of a head of the width. */
    @Test
    void headsBesideTheBatch() throws Exception {
        for (boolean rest : new boolean[] {false, true}) {
            TestModel m = model(17);
            for (String s : List.of("q", "k", "v")) {
                weight(m, "w" + s, 12, 12);
                weight(m, "b" + s, 12);
            }
            weight(m, "wo", 12, 5);
            m.graph.longs("0", 0).longs("1", 1).longs("2", 2).longs("heads", 3).longs("all", 12).longs("left", -1)
                    .node("Shape", "shape", "x").node("Gather", "length", "shape", "0").node("Gather", "batch", "shape", "1").node("Gather", "width", "shape", "2")
                    .node("Div", "each", "width", "heads").node("Mul", "both", "batch", "heads").node(node("Concat", "apart", "length", "both", rest ? "left" : "each").set("axis", 0))
                    .node("Mul", "rows", "length", "batch").node(node("Concat", "flat", "rows", "all").set("axis", 0));
            for (String s : List.of("q", "k", "v")) {
                m.graph.node("MatMul", "m" + s, "x", "w" + s).node("Add", "a" + s, "m" + s, "b" + s).node("Reshape", "r" + s, "a" + s, "apart")
                        .node(node("Transpose", "t" + s, "r" + s).ints("perm", s.equals("k") ? new long[] {1, 2, 0} : new long[] {1, 0, 2}));
            }
            m.graph.node("MatMul", "s", "tq", "tk").node(node("Softmax", "p", "s").set("axis", -1)).node("MatMul", "c", "p", "tv")
                    .node(node("Transpose", "tc", "c").ints("perm", 1, 0, 2)).node("Reshape", "f", "tc", "flat").node("MatMul", "y", "f", "wo")
                    .input("x", FLOATS, -1, -2, 12).output("y", FLOATS, -3, 5);
            check(m, "12 neurons of MatMul_mq (an axis of input x)", "3 heads of MatMul_mq" + (rest ? " (its size is computed at run time, for Reshape Reshape_rk)" : ""), "4 head-features of MatMul_mq, inexact", "4 head-features of MatMul_mv",
                    "5 neurons of MatMul_y (an axis of output y)");
        }
    }

    @Test
    void whatIsAddedToScoresOfHeadsIsNotKnown() throws Exception {
        TestModel m = fusions();
        weight(m, "w", 6, 12);
        weight(m, "added", 1, 3, 3, 3);
        weight(m, "wo", 12, 5);
        m.graph.node("MatMul", "h", "x", "w").node(fused("MultiHeadAttention", "a", "h", "h", "h", "", "", "added").set("num_heads", 3)).node("MatMul", "y", "a", "wo")
                .input("x", FLOATS, -1, -2, 6).output("y", FLOATS, -1, -2, 5);
        String reason = " (shapes at com.microsoft.MultiHeadAttention MultiHeadAttention_a are not known before it runs)";
        check(m, "6 neurons of MatMul_h (an axis of input x)", "12 neurons of MatMul_h" + reason, "3 neurons of MultiHeadAttention_a" + reason,
                "3 neurons of MultiHeadAttention_a" + reason, "3 neurons of MultiHeadAttention_a" + reason, "12 neurons of MatMul_y" + reason,
                "5 neurons of MatMul_y (an axis of output y)");
    }

    // Codes.

    @Test
    void codesAndScalesGoTogether() throws Exception {
        TestModel m = model(17);
        byte[] codes = new byte[6 * 8];
        new Random(3).nextBytes(codes);
        m.graph.init(TestModel.head("codes", TensorInfo.INT8, 6, 8).bytes(9, codes));
        weight(m, "scale", 8);
        m.graph.init(TestModel.head("zero", TensorInfo.INT8, 8).bytes(9, new byte[] {1, 2, 3, 4, 5, 6, 7, 8}));
        weight(m, "v", 8, 3);
        m.graph.node(node("DequantizeLinear", "w", "codes", "scale", "zero").set("axis", 1)).node("MatMul", "h", "x", "w").node("Relu", "r", "h")
                .node("MatMul", "y", "r", "v").input("x", FLOATS, 2, 6).output("y", FLOATS, 2, 3);
        check(m, "6 neurons of MatMul_h (an axis of input x)", "8 neurons of MatMul_h", "3 neurons of MatMul_y (an axis of output y)");
    }

    @Test
    void halvesOfBytesAreCutOut() throws Exception {
        TestModel m = TestModel.of(10, 21);
        byte[] codes = new byte[5 * 7 / 2 + 1];
        new Random(3).nextBytes(codes);
        codes[codes.length - 1] &= 0xf;
        m.graph.init(TestModel.head("codes", 22, 5, 7).bytes(9, codes));
        weight(m, "scale", 7);
        weight(m, "v", 7, 3);
        m.graph.node(node("DequantizeLinear", "w", "codes", "scale").set("axis", 1)).node("MatMul", "h", "x", "w").node("Relu", "r", "h")
                .node("MatMul", "y", "r", "v").input("x", FLOATS, 2, 5).output("y", FLOATS, 2, 3);
        check(m, "5 neurons of MatMul_h (an axis of input x)", "7 neurons of MatMul_h", "3 neurons of MatMul_y (an axis of output y)");
    }

    /** Random codes of 8 bits. */
    private void codes(TestModel m, String name, int type, long... dims) {
        byte[] codes = new byte[(int) Arrays.stream(dims).reduce(1, (a, b) -> a * b)];
        new Random(++seed).nextBytes(codes);
        m.graph.init(TestModel.head(name, type, dims).bytes(9, codes));
    }

    private void zeros(TestModel m, String name, int type, long... dims) {
        m.graph.init(TestModel.head(name, type, dims).bytes(9, new byte[(int) Arrays.stream(dims).reduce(1, (a, b) -> a * b)]));
    }

    private static void positive(TestModel m, String name, float factor, long... dims) {
        float[] values = new float[(int) Arrays.stream(dims).reduce(1, (a, b) -> a * b)];
        for (int i = 0; i < values.length; i++) {
            values[i] = factor * (1 + i % 3);
        }
        m.graph.init(name, DType.F32, values, dims);
    }

    /** A model with x as codes "q" of scale "s" and zero point "z"; "none" is the zero point of weights. */
    private TestModel inCodes(long... dims) {
        TestModel m = fusions();
        positive(m, "s", 0.05f);
        m.graph.init(TestModel.head("z", TensorInfo.UINT8).bytes(9, new byte[] {(byte) 120}));
        zeros(m, "none", TensorInfo.INT8);
        m.graph.node("QuantizeLinear", "q", "x", "s", "z").input("x", FLOATS, dims);
        return m;
    }

    @Test
    void convolutionsOfCodes() throws Exception {
        TestModel m = inCodes(-1, 3, 6, 6);
        codes(m, "w0", TensorInfo.INT8, 8, 3, 3, 3);
        codes(m, "w1", TensorInfo.INT8, 8, 3, 3, 3);
        codes(m, "wd", TensorInfo.INT8, 8, 1, 3, 3);
        codes(m, "w2", TensorInfo.INT8, 5, 16, 1, 1);
        positive(m, "s0", 0.0005f, 8);
        zeros(m, "z0", TensorInfo.INT8, 8);
        m.graph.init(TestModel.head("b0", TensorInfo.INT32, 8).bytes(9, new byte[32]));
        positive(m, "one", 0.001f);
        m.graph.node(node("QLinearConv", "a", "q", "s", "z", "w0", "s0", "z0", "s", "z", "b0").ints("pads", 1, 1, 1, 1))
                .node(node("QLinearConv", "b", "q", "s", "z", "w1", "one", "none", "s", "z").ints("pads", 1, 1, 1, 1))
                .node(fused("QLinearAdd", "c", "a", "s", "z", "b", "s", "z", "s", "z")).node(fused("QLinearSigmoid", "d", "c", "s", "z", "s", "z"))
                .node(node("QLinearConv", "e", "d", "s", "z", "wd", "s0", "none8", "s", "z").ints("pads", 1, 1, 1, 1).set("group", 8))
                .node(fused("QLinearLeakyRelu", "f", "a", "s", "z", "s", "z"))
                .node(fused("QLinearConcat", "g", "s", "z", "e", "s", "z", "f", "s", "z").set("axis", 1))
                .node(fused("QLinearAveragePool", "h", "g", "s", "z", "s", "z").ints("kernel_shape", 2, 2))
                .node(fused("QLinearGlobalAveragePool", "i", "h", "s", "z", "s", "z").set("channels_last", 0))
                .node(node("QLinearConv", "j", "i", "s", "z", "w2", "one", "none", "s", "z")).node("DequantizeLinear", "y", "j", "s", "z")
                .output("y", FLOATS, -1, 5, 1, 1);
        zeros(m, "none8", TensorInfo.INT8, 8);
        check(m, "8 channels of QLinearConv_a", "3 channels of QLinearConv_a (an axis of input x)", "5 channels of QLinearConv_j (an axis of output y)");
    }

    @Test
    void productsOfCodes() throws Exception {
        TestModel m = inCodes(2, 6);
        codes(m, "w0", TensorInfo.INT8, 6, 8);
        positive(m, "s0", 0.01f, 8);
        zeros(m, "z0", TensorInfo.INT8, 8);
        codes(m, "w1", TensorInfo.INT8, 7, 8);
        m.graph.init(TestModel.head("b1", TensorInfo.INT32, 7).bytes(9, new byte[28]));
        codes(m, "w2", TensorInfo.INT8, 7, 4);
        positive(m, "one", 0.001f);
        m.graph.node("QLinearMatMul", "a", "q", "s", "z", "w0", "s0", "z0", "s", "z").node(fused("QLinearMul", "aa", "a", "s", "z", "a", "s", "z", "s", "z"))
                .node(fused("QGemm", "b", "aa", "s", "z", "w1", "one", "none", "b1", "s", "z").set("transB", 1))
                .node("QLinearMatMul", "c", "b", "s", "z", "w2", "one", "none", "s", "z").node("DequantizeLinear", "y", "c", "s", "z").output("y", FLOATS, 2, 4);
        check(m, "6 neurons of QLinearMatMul_a (an axis of input x)", "8 neurons of QLinearMatMul_a", "7 neurons of QGemm_b",
                "4 neurons of QLinearMatMul_c (an axis of output y)");
    }

    @Test
    void productsWhoseInputsAreCodedWhileTheModelRuns() throws Exception {
        TestModel m = fusions();
        codes(m, "w0", TensorInfo.INT8, 6, 8);
        positive(m, "s0", 0.01f, 8);
        zeros(m, "z0", TensorInfo.INT8, 8);
        weight(m, "b0", 8);
        codes(m, "w1", TensorInfo.INT8, 8, 5);
        positive(m, "s1", 0.01f);
        codes(m, "w2", TensorInfo.INT8, 5, 3);
        positive(m, "s2", 0.01f, 3);
        weight(m, "b2", 3);
        zeros(m, "none", TensorInfo.INT8);
        m.graph.node("DynamicQuantizeLinear", "q,qs,qz", "x").node(fused("MatMulIntegerToFloat", "a", "q", "w0", "qs", "s0", "qz", "z0", "b0")).node("Relu", "r", "a")
                .node(fused("DynamicQuantizeMatMul", "b", "r", "w1", "s1", "none")).node("DynamicQuantizeLinear", "p,ps,pz", "b")
                .node("MatMulInteger", "c", "p", "w2", "pz").node(node("Cast", "f", "c").set("to", 1)).node("Mul", "both", "ps", "s2").node("Mul", "g", "f", "both")
                .node("Add", "y", "g", "b2").input("x", FLOATS, 2, 6).output("y", FLOATS, 2, 3);
        check(m, "6 width of MatMulIntegerToFloat_a (an axis of input x), inexact", "8 width of MatMulIntegerToFloat_a, inexact",
                "5 width of DynamicQuantizeMatMul_b, inexact", "3 neurons of MatMulInteger_c (an axis of output y)");
    }

    @Test
    void blocksOfInputsGoAsAWhole() throws Exception {
        TestModel m = fusions();
        codes(m, "w0", TensorInfo.UINT8, 96, 2, 8);
        weight(m, "s0", 192);
        codes(m, "w1", TensorInfo.UINT8, 10, 6, 8);
        weight(m, "s1", 10, 6);
        codes(m, "z1", TensorInfo.UINT8, 10, 3);
        m.graph.node(fused("MatMulNBits", "h", "x", "w0", "s0").set("K", 32).set("N", 96).set("bits", 4).set("block_size", 16)).node("Relu", "r", "h")
                .node(fused("MatMulNBits", "y", "r", "w1", "s1", "z1").set("K", 96).set("N", 10).set("bits", 4).set("block_size", 16))
                .input("x", FLOATS, 2, 32).output("y", FLOATS, 2, 10);
        check(m, "3 neurons of MatMulNBits_h", "2 neurons of MatMulNBits_h (blocks of MatMulNBits_y whose zero points share a byte go together)",
                "16 neurons of MatMulNBits_h (blocks of MatMulNBits_y go as a whole)", "2 neurons of MatMulNBits_h (an axis of input x)", "10 neurons of MatMulNBits_y (an axis of output y)");
        m = fusions();
        codes(m, "w0", TensorInfo.UINT8, 96, 2, 8);
        weight(m, "s0", 96, 2);
        codes(m, "w1", TensorInfo.UINT8, 10, 6, 16);
        weight(m, "s1", 60);
        codes(m, "z1", TensorInfo.UINT8, 60);
        codes(m, "w2", TensorInfo.UINT8, 3, 1, 8);
        weight(m, "s2", 3);
        weight(m, "b2", 3);
        m.graph.node(fused("MatMulNBits", "h", "x", "w0", "s0").set("K", 32).set("N", 96).set("bits", 4).set("block_size", 16)).node("Relu", "r", "h")
                .node(fused("MatMulNBits", "k", "r", "w1", "s1", "z1").set("K", 96).set("N", 10).set("bits", 8).set("block_size", 16)).node("Relu", "l", "k")
                .node(fused("MatMulNBits", "y", "l", "w2", "s2", "", "", "b2").set("K", 10).set("N", 3).set("bits", 4).set("block_size", 16))
                .input("x", FLOATS, 2, 32).output("y", FLOATS, 2, 3);
        check(m, "6 neurons of MatMulNBits_h", "16 neurons of MatMulNBits_h (blocks of MatMulNBits_k go as a whole)", "2 neurons of MatMulNBits_h (an axis of input x)",
                "10 neurons of MatMulNBits_k (the last block of MatMulNBits_y is not full)", "3 neurons of MatMulNBits_y (an axis of output y)");
    }

    @Test
    void attentionOfCodes() throws Exception {
        TestModel m = inCodes(2, 3, 6);
        codes(m, "w", TensorInfo.INT8, 6, 36);
        weight(m, "b", 36);
        positive(m, "ws", 0.01f, 36);
        zeros(m, "wz", TensorInfo.INT8, 36);
        weight(m, "wo", 12, 5);
        m.graph.node(fused("QAttention", "a", "q", "w", "b", "s", "ws", "", "z", "wz").set("num_heads", 3)).node("MatMul", "y", "a", "wo").output("y", FLOATS, 2, 3, 5);
        check(m, "6 neurons of QAttention_a (an axis of input x)", "3 heads of QAttention_a",
                "4 head-features of QAttention_a (attention divides by the root of its size), inexact", "5 neurons of MatMul_y (an axis of output y)");
    }

    @Test
    void choicesAndSoftmaxOfCodes() throws Exception {
        TestModel m = inCodes(2, 4, 6);
        codes(m, "w0", TensorInfo.INT8, 6, 8);
        codes(m, "u0", TensorInfo.INT8, 6, 8);
        positive(m, "one", 0.01f);
        codes(m, "w1", TensorInfo.INT8, 8, 5);
        m.graph.init("p", DType.F32, new float[] {1f / 256}).init(TestModel.head("pz", TensorInfo.UINT8).bytes(9, new byte[1]))
                .node("QLinearMatMul", "a", "q", "s", "z", "w0", "one", "none", "s", "z").node("QLinearMatMul", "b", "q", "s", "z", "u0", "one", "none", "s", "z")
                .node(fused("QLinearWhere", "c", "if", "a", "s", "z", "b", "s", "z", "s", "z"))
                .node(fused("QLinearSoftmax", "d", "c", "s", "z", "p", "pz").set("axis", 1).set("opset", 13))
                .node("QLinearMatMul", "e", "d", "p", "pz", "w1", "one", "none", "s", "z").node("DequantizeLinear", "y", "e", "s", "z")
                .input("if", TensorInfo.BOOL, 2, 4, 1).output("y", FLOATS, 2, 4, 5);
        check(m, "6 neurons of QLinearMatMul_a (an axis of input x)", "8 neurons of QLinearMatMul_a", "5 neurons of QLinearMatMul_e (an axis of output y)");
    }

    @Test
    void tablesInBlocksStay() throws Exception {
        TestModel m = fusions();
        codes(m, "table", TensorInfo.UINT8, 7, 16);
        weight(m, "scales", 7, 2);
        weight(m, "w", 32, 8);
        weight(m, "v", 8, 3);
        m.graph.node(fused("GatherBlockQuantized", "e", "table", "ids", "scales").set("gather_axis", 0).set("quantize_axis", 1).set("block_size", 16).set("bits", 4))
                .node("MatMul", "h", "e", "w").node("Relu", "r", "h").node("MatMul", "y", "r", "v").input("ids", TensorInfo.INT64, -1, -2).output("y", FLOATS, -1, -2, 3);
        String stays = " (blocks of the table of GatherBlockQuantized_e stay)";
        check(m, "7 neurons of GatherBlockQuantized_e" + stays, "16 neurons of GatherBlockQuantized_e" + stays, "7 neurons of GatherBlockQuantized_e" + stays,
                "2 neurons of GatherBlockQuantized_e" + stays, "32 neurons of MatMul_h" + stays, "8 neurons of MatMul_h", "3 neurons of MatMul_y (an axis of output y)");
    }

    // Old operators, and constants in nodes.

    @Test
    void attributesOfOldOperators() throws Exception {
        TestModel m = TestModel.of(4, 9);
        m.graph.node(node("Constant", "w").tensor("value", TestModel.tensor("w", DType.F32, TestModel.random(1, 72), 6, 12)));
        weight(m, "v", 8, 3);
        weight(m, "u", 6, 3);
        m.graph.node("MatMul", "h", "x", "w").node(node("Split", "a,b", "h").set("axis", 1)).node(node("Slice", "c", "h").ints("axes", 1).ints("starts", 2).ints("ends", -2))
                .node("MatMul", "y", "c", "v").node("Add", "s", "a", "b").node("MatMul", "z", "s", "u").input("x", FLOATS, 2, 6).output("y", FLOATS, 2, 3).output("z", FLOATS, 2, 3);
        check(m, "6 neurons of MatMul_h (an axis of input x)", "2 width of MatMul_h", "2 width of MatMul_h", "2 width of MatMul_h",
                "3 neurons of MatMul_y (an axis of output y)", "3 neurons of MatMul_z (an axis of output z)");
    }

    @Test
    void partsOfASplitThatSaysNoSizes() throws Exception {
        for (long opset : new long[] {11, 13, 18}) {
            TestModel m = TestModel.of(8, opset);
            weight(m, "w", 6, 8);
            weight(m, "u", 4, 3);
            weight(m, "v", 4, 3);
            NodeBuilder split = node("Split", "a,b", "h").set("axis", 1);
            m.graph.node("MatMul", "h", "x", "w").node(opset >= 18 ? split.set("num_outputs", 2) : split).node("MatMul", "y", "a", "u")
                    .node("MatMul", "z", "b", "v").input("x", FLOATS, 2, 6).output("y", FLOATS, 2, 3).output("z", FLOATS, 2, 3);
            check(m, "6 neurons of MatMul_h (an axis of input x)", "4 neurons of MatMul_h", "4 neurons of MatMul_h",
                    "3 neurons of MatMul_y (an axis of output y)", "3 neurons of MatMul_z (an axis of output z)");
        }
    }

    // What is left alone.

    @Test
    void whatIsNotKnownIsLeftAlone() throws Exception {
        TestModel m = model(17);
        weight(m, "w", 6, 8);
        weight(m, "v", 8, 4);
        m.graph.longs("k", 8).node("MatMul", "h", "x", "w").node("TopK", "t,i", "h", "k").node("MatMul", "y", "t", "v").input("x", FLOATS, 2, 6).output("y", FLOATS, 2, 4);
        check(m, "6 neurons of MatMul_h (an axis of input x)", "8 neurons of MatMul_h (operator TopK is not known)",
                "8 neurons of MatMul_y (operator TopK is not known)", "4 neurons of MatMul_y (an axis of output y)");
        m = model(17);
        weight(m, "w", 6, 8);
        weight(m, "v", 8, 4);
        m.graph.node("MatMul", "h", "x", "w").node(node("Softmax", "s", "h").set("axis", -1)).node("MatMul", "y", "s", "v").input("x", FLOATS, 2, 6).output("y", FLOATS, 2, 4);
        check(m, "6 neurons of MatMul_h (an axis of input x)", "8 neurons of MatMul_h (Softmax goes over it)", "4 neurons of MatMul_y (an axis of output y)");
    }

    @Test
    void graphsInsideSeeWhatIsOutside() throws Exception {
        TestModel m = model(17);
        weight(m, "w", 6, 8);
        weight(m, "v", 8, 4);
        TestModel.GraphBuilder then = new TestModel.GraphBuilder("then").node("Relu", "a", "h").output("a", FLOATS, 2, 8);
        TestModel.GraphBuilder other = new TestModel.GraphBuilder("else").node("Identity", "b", "h").output("b", FLOATS, 2, 8);
        m.graph.node("MatMul", "h", "x", "w").node(node("If", "i", "c").graph("then_branch", then).graph("else_branch", other)).node("MatMul", "y", "i", "v")
                .input("c", TensorInfo.BOOL).input("x", FLOATS, 2, 6).output("y", FLOATS, 2, 4);
        check(m, "6 neurons of MatMul_h (an axis of input x)", "8 neurons of MatMul_h (read in a graph inside If If_i)",
                "8 neurons of MatMul_y (shapes at MatMul MatMul_y are not known before it runs)",
                "4 neurons of MatMul_y (shapes at MatMul MatMul_y are not known before it runs)");
    }

    @Test
    void sizesThatBecomeNumbersAreLeftAlone() throws Exception {
        TestModel m = model(17);
        weight(m, "w", 6, 8);
        weight(m, "v", 8, 4);
        m.graph.longs("last", 1).node("MatMul", "h", "x", "w").node("Shape", "s", "h").node("Gather", "n", "s", "last").node(node("Cast", "f", "n").set("to", 1))
                .node("Sqrt", "q", "f").node("Div", "d", "h", "q").node("MatMul", "y", "d", "v").input("x", FLOATS, 2, 6).output("y", FLOATS, 2, 4);
        check(m, "6 neurons of MatMul_h (an axis of input x)", "8 neurons of MatMul_h (its size is read at run time by Cast Cast_f)",
                "4 neurons of MatMul_y (an axis of output y)");
    }

    @Test
    void whatMeetsItselfIsLeftAlone() throws Exception {
        TestModel m = model(17);
        weight(m, "w", 6, 4);
        weight(m, "v", 16, 3);
        m.graph.longs("row", 2, 1, 4).longs("column", 2, 4, 1).longs("flat", 2, 16).node("MatMul", "h", "x", "w").node("Reshape", "r", "h", "row")
                .node("Reshape", "c", "h", "column").node("Mul", "p", "r", "c").node("Reshape", "f", "p", "flat").node("MatMul", "y", "f", "v")
                .input("x", FLOATS, 2, 6).output("y", FLOATS, 2, 3);
        check(m, "6 neurons of MatMul_h (an axis of input x)", "4 neurons of MatMul_h (it is multiplied by itself)", "3 neurons of MatMul_y (an axis of output y)");
    }

    /** Takes no time that grows with its square, nor a stack that does: minutes otherwise. */
    @Test
    void axesOfManyPartsAreLeftAlone() throws Exception {
        for (String how : List.of("Slice", "Concat", "turned", "added to itself", "in blocks")) {
            TestModel m = model(17);
            weight(m, "w", 2, 6000);
            m.graph.longs("from", 1).longs("to", Long.MAX_VALUE).longs("axis", 1).longs("flat", 2, 6000).node("MatMul", "v0", "x", "w");
            int steps = how.equals("Slice") || how.equals("Concat") ? 5000 : 3000;
            for (int i = 0; i < steps; i++) {
                String in = "v" + i;
                String out = "v" + (i + 1);
                long cut = 1 + 37L * i % 5999;
                switch (how) {
                    case "Slice" -> m.graph.node(node("Slice", out, in, "from", "to", "axis"));
                    case "Concat" -> m.graph.node(node("Concat", out, in, "v0").set("axis", 1));
                    default -> {
                        m.graph.longs("p" + i, cut, 6000 - cut).node(node("Split", "a" + i + ",b" + i, in, "p" + i).set("axis", 1));
                        m.graph.node(node("Concat", how.equals("turned") ? out : "c" + i, "b" + i, "a" + i).set("axis", 1));
                        if (how.equals("added to itself")) {
                            m.graph.node("Add", out, "c" + i, "v0");
                        } else if (how.equals("in blocks")) {
                            m.graph.longs("s" + i, 2, 2 + i % 4, -1).node("Reshape", "r" + i, "c" + i, "s" + i).node("Relu", "o" + i, "r" + i).node("Reshape", out, "o" + i, "flat");
                        }
                    }
                }
            }
            m.graph.input("x", FLOATS, 2, 2).output("v" + steps, FLOATS, 2, -1);
            Path file = m.write(folder, "in.onnx");
            try (Arena arena = Arena.ofShared(); OnnxModel opened = OnnxModel.open(file, false)) {
                List<Group> groups = assertTimeoutPreemptively(Duration.ofMinutes(1), () -> Dependencies.of(EditableModel.of(opened, arena)).groups(), how);
                if (how.equals("Slice") || how.equals("Concat") || how.equals("turned")) {
                    assertEquals(Optional.of("the axis is made of too many parts"), groups.get(1).obstacle(), how);
                }
                assertTrue(groups.stream().noneMatch(g -> g.obstacle().isEmpty()), how);
            }
        }
    }

    @Test
    void badRequestsChangeNothing() throws Exception {
        TestModel m = model(17);
        weight(m, "w", 6, 8);
        weight(m, "v", 8, 4);
        m.graph.node("MatMul", "h", "x", "w").node("MatMul", "y", "h", "v").input("x", FLOATS, 2, 6).output("y", FLOATS, 2, 4);
        Path file = m.write(folder, "in.onnx");
        try (Arena arena = Arena.ofShared(); OnnxModel opened = OnnxModel.open(file, false)) {
            EditableModel e = EditableModel.of(opened, arena);
            Dependencies d = Dependencies.of(e);
            Group input = d.groups().getFirst();
            Group neurons = d.groups().get(1);
            assertThrows(UnsupportedRequestException.class, () -> Removal.apply(d, Map.of(neurons, new int[] {1}, input, new int[] {1}), arena));
            for (int[] bad : new int[][] {{}, {8}, {-1}, {2, 1}, {1, 1}}) {
                assertThrows(IllegalArgumentException.class, () -> Removal.apply(d, Map.of(neurons, bad), arena));
            }
            assertEquals(2, e.graph().initializers().size());
            assertEquals(List.of("x", "w"), e.graph().nodes().getFirst().inputs());
            Removal.apply(d, Map.of(neurons, new int[] {2, 5}), arena);
            assertEquals(List.of("x", "w"), e.graph().nodes().getFirst().inputs());
            assertEquals(Shape.of(6, 2), e.graph().initializers().get("w").shape());
            assertThrows(IllegalArgumentException.class, () -> Removal.apply(Dependencies.of(e), Map.of(neurons, new int[] {0}), arena));
            Dependencies again = Dependencies.of(e);
            Removal.apply(again, Map.of(again.groups().get(1), new int[] {0}), arena);
            assertEquals(Shape.of(1, 4), e.graph().initializers().get("v").shape());
        }
    }
}
