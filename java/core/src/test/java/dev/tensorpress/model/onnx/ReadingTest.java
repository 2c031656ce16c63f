package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Targets;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.TestModel.GraphBuilder;
import dev.tensorpress.model.onnx.TestModel.NodeBuilder;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Where weights are found, what is said of them, and that their values are right. */
final class ReadingTest {
    private static final float[] SIX = {1, -2, 0.5f, 4, -8, 0.25f};

    @TempDir
    Path folder;
    private final TestModel model = new TestModel();
    private final GraphBuilder g = model.graph;

    private Map<String, Weight> weights() throws Exception {
        Map<String, Weight> byName = new HashMap<>();
        try (OnnxModel m = OnnxModel.open(model.write(folder, "m.onnx"), false)) {
            for (Weight w : m.weights()) {
                byName.put(w.name(), w);
                values.put(w.name(), w.tensor().dtype() == DType.F64 ? new float[0] : PlainEncoder.floats(w.tensor()));
            }
        }
        return byName;
    }

    private final Map<String, float[]> values = new HashMap<>();

    private static Proto packed(int field, Proto tensor, byte[] numbers) {
        return tensor.bytes(field, numbers);
    }

    private static byte[] varints(float[] values, DType type) {
        ByteBuffer raw = ByteBuffer.wrap(TestModel.raw(type, values)).order(ByteOrder.LITTLE_ENDIAN);
        Proto p = new Proto();
        byte[] all = {};
        while (raw.hasRemaining()) {
            byte[] field = new Proto().integer(1, raw.getShort() & 0xffff).toBytes();
            byte[] longer = java.util.Arrays.copyOf(all, all.length + field.length - 1);
            System.arraycopy(field, 1, longer, all.length, field.length - 1);
            all = longer;
        }
        return all;
    }

    @Test
    void everyWayToStoreNumbers() throws Exception {
        for (DType t : List.of(DType.F32, DType.F16, DType.BF16)) {
            g.init(t + " raw", t, SIX, 2, 3);
        }
        g.init(packed(4, TestModel.head("packed", 1, 6), TestModel.raw(DType.F32, SIX)));
        Proto single = TestModel.head("single", 1, 6);
        for (float v : SIX) {
            single.real(4, v);
        }
        g.init(single);
        Proto pieces = TestModel.head("pieces", 1, 6);
        packed(4, pieces, TestModel.raw(DType.F32, new float[] {1, -2}));
        pieces.real(4, 0.5f);
        packed(4, pieces, TestModel.raw(DType.F32, new float[] {4, -8, 0.25f}));
        g.init(pieces);
        for (DType t : List.of(DType.F16, DType.BF16)) {
            g.init(packed(5, TestModel.head(t + " packed", TensorInfo.code(t), 6), varints(SIX, t)));
            Proto one = TestModel.head(t + " single", TensorInfo.code(t), 6);
            ByteBuffer raw = ByteBuffer.wrap(TestModel.raw(t, SIX)).order(ByteOrder.LITTLE_ENDIAN);
            while (raw.hasRemaining()) {
                one.integer(5, raw.getShort() & 0xffff);
            }
            g.init(one);
        }
        // Dimensions packed, as proto3 writers do, and empty raw_data beside a typed field.
        g.init(new Proto().bytes(1, new byte[] {2, 3}).integer(2, 1).string(8, "dims packed").bytes(9, new byte[0])
                .bytes(4, TestModel.raw(DType.F32, SIX)));
        g.init(TestModel.head("scalar", 1).bytes(9, TestModel.raw(DType.F32, new float[] {3})));
        g.init(TestModel.head("empty", 1, 0, 1L << 40).bytes(9, new byte[0]));
        g.longs("integers", 1, 2, 3);
        g.init(TestModel.head("double", 11, 1).bytes(9, new byte[8]));
        Map<String, Weight> all = weights();
        assertFalse(all.containsKey("integers"));
        assertEquals(Shape.of(2, 3), all.get("dims packed").tensor().shape());
        assertEquals(Shape.of(), all.get("scalar").tensor().shape());
        assertTrue(all.get("empty").obstacle().orElseThrow().contains("empty"));
        assertTrue(all.get("double").obstacle().orElseThrow().contains("F64"));
        for (Map.Entry<String, float[]> e : values.entrySet()) {
            if (e.getValue().length == 6) {
                assertArrayEquals(SIX, e.getValue(), e.getKey());
            }
        }
        assertEquals(14, all.size());
    }

    @Test
    void rolesAndAxes() throws Exception {
        float[] w = new float[24];
        String[] names = {"matmul", "left", "gemm", "gemmT", "conv", "deconv", "lstm", "gather", "gather1", "ln", "bias",
            "gain", "other", "seen", "tied", "fused"};
        Map<String, long[]> dims = Map.of("conv", new long[] {2, 3, 2, 2}, "deconv", new long[] {2, 3, 2, 2}, "lstm",
                new long[] {1, 8, 3}, "ln", new long[] {24}, "bias", new long[] {24}, "gain", new long[] {24});
        for (String n : names) {
            g.init(n, DType.F32, w, dims.getOrDefault(n, new long[] {4, 6}));
        }
        g.input("x", 1, 4, 4).input("i", 7, 2);
        g.node("MatMul", "r1", "x", "matmul").node("MatMul", "r2", "left", "x").node("Gemm", "r3", "x", "gemm")
                .node(new NodeBuilder("Gemm", "r4", "x", "gemmT").set("transB", 1)).node("Conv", "r5", "x", "conv")
                .node("ConvTranspose", "r6", "x", "deconv").node("LSTM", "r7", "x", "lstm", "lstm")
                .node("Gather", "r8", "gather", "i").node(new NodeBuilder("Gather", "r9", "gather1", "i").set("axis", 1))
                .node("LayerNormalization", "r10", "x", "ln", "ln").node("Add", "r11", "x", "bias")
                .node("Mul", "r12", "gain", "x").node("Foo", "r13", "other")
                .node("Cast", "c", "seen").node(new NodeBuilder("Transpose", "t", "c").ints("perm", 1, 0))
                .node("MatMul", "r14", "x", "t").node("Gather", "r15", "tied", "i").node("MatMul", "r16", "x", "tied")
                .node(new NodeBuilder("FusedMatMul", "r17", "x", "fused").domain("com.microsoft").set("transB", 1));
        Map<String, Weight> all = weights();
        check(all, "matmul", Role.LINEAR, 0, 1);
        check(all, "left", Role.LINEAR, 1, 0);
        check(all, "gemm", Role.LINEAR, 0, 1);
        check(all, "gemmT", Role.LINEAR, 1, 0);
        check(all, "conv", Role.CONV, 1, 0);
        check(all, "deconv", Role.CONV, 0, 1);
        check(all, "lstm", Role.RECURRENT, 2, 1);
        check(all, "gather", Role.EMBEDDING, -1, 0);
        check(all, "gather1", Role.OTHER, -1, -1);
        check(all, "ln", Role.NORM, -1, -1);
        check(all, "bias", Role.BIAS, -1, -1);
        check(all, "gain", Role.NORM, -1, -1);
        check(all, "other", Role.OTHER, -1, -1);
        check(all, "seen", Role.LINEAR, 1, 0);
        check(all, "fused", Role.LINEAR, 1, 0);
        assertTrue(all.get("tied").obstacle().orElseThrow().contains("disagree"));
        assertEquals(List.of("Gather Gather_r15", "MatMul MatMul_r16"), all.get("tied").uses());
    }

    private static void check(Map<String, Weight> all, String name, Role role, int in, int out) {
        Weight w = all.get(name);
        assertEquals(role, w.role(), name);
        assertEquals(in, w.inputAxis(), name);
        assertEquals(out, w.outputAxis(), name);
        assertTrue(w.obstacle().isEmpty(), name);
    }

    @Test
    void weightsInsideSubgraphsAndConstants() throws Exception {
        GraphBuilder inner = new GraphBuilder("body").init("w", DType.F32, SIX, 2, 3)
                .node("MatMul", "o", "x", "w").node("MatMul", "p", "x", "outer")
                .node(new NodeBuilder("Constant", "k", new String[0]).tensor("value",
                        TestModel.tensor("", DType.F16, SIX, 6)))
                .node("Add", "q", "p", "k").output("o", 1, 1, 3);
        GraphBuilder shadow = new GraphBuilder("body").init("outer", DType.F32, SIX, 2, 3)
                .node("MatMul", "o", "x", "outer").output("o", 1, 1, 3);
        g.init("w", DType.F32, SIX, 2, 3).init("outer", DType.F32, SIX, 2, 3).input("x", 1, 1, 2).input("c", 9)
                .node(new NodeBuilder("If", "z", "c").graph("then_branch", inner).graph("else_branch", shadow))
                .output("z", 1, 1, 3);
        Map<String, Weight> all = weights();
        assertEquals(java.util.Set.of("w", "outer", "If_z/then_branch/w", "If_z/then_branch/k",
                "If_z/else_branch/outer"), all.keySet());
        assertEquals(List.of("MatMul MatMul_p"), all.get("outer").uses());
        assertEquals(List.of("MatMul MatMul_o"), all.get("If_z/else_branch/outer").uses());
        assertEquals(Role.BIAS, all.get("If_z/then_branch/k").role());
        assertTrue(all.get("w").obstacle().orElseThrow().contains("no operator reads it"));
        assertArrayEquals(SIX, values.get("If_z/then_branch/k"));
    }

    @Test
    void obstacles() throws Exception {
        g.init("w", DType.F32, SIX, 2, 3).input("x", 1, 1, 2).input("w", 1, 2, 3).node("MatMul", "y", "x", "w");
        Proto indices = TestModel.head("s.i", 7, 1).bytes(9, new byte[8]);
        g.more.message(15, new Proto().message(1, TestModel.tensor("s", DType.F32, new float[] {1}, 1))
                .message(2, indices).integer(3, 4));
        Map<String, Weight> all = weights();
        assertTrue(all.get("w").obstacle().orElseThrow().contains("input of the graph"));
        assertTrue(all.get("s").obstacle().orElseThrow().contains("sparse"));
        model.ir = 3;
        assertTrue(weights().get("w").obstacle().isEmpty());
        model.opset = 6;
        assertTrue(weights().get("w").obstacle().orElseThrow().contains("operator set 6"));
    }

    @Test
    void manyTensorsAreReadQuickly() throws Exception {
        int n = 200_000;
        g.input("x", 1, 1);
        for (int i = 0; i < n; i++) {
            g.init("w" + i, DType.F32, new float[] {i}, 1);
        }
        long start = System.nanoTime();
        assertEquals(n, weights().size());
        long seconds = (System.nanoTime() - start) / 1_000_000_000;
        assertTrue(seconds < 20, seconds + " s");
        assertEquals(199_999, values.get("w199999")[0]);
    }

    @Test
    void targetsAndOptions() throws Exception {
        g.init("w", DType.F32, SIX, 2, 3);
        try (OnnxModel m = OnnxModel.open(model.write(folder, "m.onnx"), false)) {
            assertEquals("onnxruntime", Targets.of(m, "", Map.of("accuracy-level", "4")).name());
            assertEquals("onnx", Targets.of(m, "onnx", Map.of()).name());
            List<Map<String, String>> bad = new ArrayList<>(List.of(Map.of("accuracy-level", "5"),
                    Map.of("accuracy-level", "-1"), Map.of("accuracy-level", ""), Map.of("accuracy-level", "x"),
                    Map.of("sparse-initializers", "1")));
            for (Map<String, String> options : bad) {
                assertThrows(IllegalArgumentException.class, () -> Targets.of(m, "", options));
            }
            assertThrows(UnsupportedRequestException.class, () -> Targets.of(m, "", Map.of("x", "1")));
            assertThrows(UnsupportedRequestException.class, () -> Targets.of(m, "onnx", Map.of("accuracy-level", "4")));
            assertThrows(UnsupportedRequestException.class, () -> Targets.of(m, "vllm", Map.of()));
            assertEquals("17", m.properties().get("opset ai.onnx"));
        }
    }
}
