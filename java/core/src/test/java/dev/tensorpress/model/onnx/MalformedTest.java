package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import dev.tensorpress.Effort.RandomTest;
import dev.tensorpress.Targets;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.TestModel.GraphBuilder;
import dev.tensorpress.model.onnx.TestModel.NodeBuilder;
import dev.tensorpress.tensor.DType;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Files that are no models, or broken ones. */
final class MalformedTest {
    private static final float[] SIX = {1, -2, 0.5f, 4, -8, 0.25f};

    @TempDir
    Path folder;

    private String refused(byte[] file) throws IOException {
        Path p = Files.write(folder.resolve("m.onnx"), file);
        MalformedModelException e = assertTimeoutPreemptively(Duration.ofSeconds(20),
                () -> assertThrows(MalformedModelException.class, () -> OnnxModel.open(p, false).close()));
        assertEquals(p, e.path());
        return e.getMessage();
    }

    private String refused(Proto tensor) throws IOException {
        TestModel m = new TestModel();
        m.graph.init(tensor);
        return refused(m.bytes());
    }

    private static void says(String part, String message) {
        assertTrue(message.contains(part), message);
    }

    @Test
    void filesThatAreNoModels() throws Exception {
        says("empty", refused(new byte[0]));
        says("not an ONNX model", refused("hello, world\n".getBytes(StandardCharsets.UTF_8)));
        says("not an ONNX model", refused("{\"a\": 1}".getBytes(StandardCharsets.UTF_8)));
        says("not an ONNX model", refused(new byte[4096]));
        says("no graph", refused(new Proto().integer(1, 8).toBytes()));
        says("no ir_version", refused(new Proto().bytes(7, new byte[0]).toBytes()));
        Random r = new Random(1);
        for (int i = 0; i < 200; i++) {
            byte[] b = new byte[1 + r.nextInt(300)];
            r.nextBytes(b);
            refused(b);
        }
        assertThrows(MalformedModelException.class, () -> OnnxModel.open(folder, false));
        assertThrows(IOException.class, () -> OnnxModel.open(folder.resolve("none.onnx"), false));
    }

    @Test
    void lengthsThatLie() throws Exception {
        for (long n : new long[] {1L << 40, Long.MAX_VALUE, Long.MIN_VALUE, -1, 1L << 31, 9}) {
            says("are left", refused(new Proto().integer(1, 8).header(7, n).string(2, "abc").toBytes()));
        }
        byte[] endless = new byte[30];
        Arrays.fill(endless, (byte) 0xff);
        endless[0] = 8;
        says("64 bits", refused(endless));
        says("wire type 3", refused(new byte[] {8, 8, 0x3b, 0x3c}));
        says("field 7", refused(new byte[] {8, 8, 0x3a, 5, 1}));
        says("ModelProto.graph", refused(new Proto().integer(1, 8).bytes(7, new byte[0]).bytes(7, new byte[0]).toBytes()));
    }

    @Test
    void tensorsThatDoNotAddUp() throws Exception {
        byte[] raw = TestModel.raw(DType.F32, SIX);
        says("24 bytes, found 20", refused(TestModel.head("w", 1, 2, 3).bytes(9, Arrays.copyOf(raw, 20))));
        says("24 bytes, found 28", refused(TestModel.head("w", 1, 2, 3).bytes(9, Arrays.copyOf(raw, 28))));
        says("found -1", refused(TestModel.head("w", 1, -1, 3).bytes(9, raw)));
        says("2^63", refused(TestModel.head("w", 1, 1L << 40, 1L << 40).bytes(9, raw)));
        says("more bytes", refused(TestModel.head("w", 1, Long.MAX_VALUE).bytes(9, raw)));
        says("more bytes", refused(TestModel.head("w", 1, 1L << 62).bytes(9, raw)));
        says("6 numbers, found 0", refused(TestModel.head("w", 1, 6)));
        says("6 numbers, found 5", refused(TestModel.head("w", 1, 6).bytes(4, Arrays.copyOf(raw, 20))));
        says("multiple of 4", refused(TestModel.head("w", 1, 6).bytes(4, Arrays.copyOf(raw, 21))));
        says("16 bits", refused(TestModel.head("w", 10, 1).integer(5, 1 << 16)));
        says("raw_data and a typed field", refused(TestModel.head("w", 1, 6).bytes(9, raw).bytes(4, raw)));
        says("no type", refused(new Proto().integer(1, 6).string(8, "w").bytes(9, raw)));
        says("no name", refused(TestModel.head("", 1, 6).bytes(9, raw)));
        says("UTF-8", refused(new Proto().integer(1, 6).integer(2, 1).bytes(8, new byte[] {'w', (byte) 0xc3}).bytes(9, raw)));
        says("segments", refused(TestModel.head("w", 1, 6).bytes(3, new byte[0]).bytes(9, raw)));
        Proto deep = new Proto();
        for (int i = 0; i < 1000; i++) {
            deep.integer(1, 1);
        }
        says("dimensions", refused(deep.integer(2, 1).string(8, "w").bytes(9, new byte[4])));
        // A type nobody knows yet is none of our business.
        TestModel m = new TestModel();
        m.graph.init(TestModel.head("w", 99, 6).bytes(9, raw));
        try (OnnxModel open = OnnxModel.open(m.write(folder, "m.onnx"), false)) {
            assertTrue(open.weights().isEmpty());
        }
    }

    @Test
    void namesTakenTwice() throws Exception {
        TestModel m = new TestModel();
        m.graph.init("w", DType.F32, SIX, 6).init("w", DType.F32, SIX, 6);
        says("'w'", refused(m.bytes()));
        TestModel n = new TestModel();
        n.graph.init("w", DType.F32, SIX, 6).input("x", 1, 6).node("Relu", "w", "x");
        says("'w'", refused(n.bytes()));
        TestModel o = new TestModel();
        o.after.message(8, new Proto().string(1, "ai.onnx").integer(2, 3));
        says("imported in versions", refused(o.bytes()));
    }

    @Test
    void nestingWithoutEnd() throws Exception {
        // Graph in attribute in node in graph, 100,000 deep: written from the inside out, lengths first.
        ByteArrayOutputStream reversed = new ByteArrayOutputStream();
        long length = 0;
        for (int i = 0; i < 100_000; i++) {
            for (int field : new int[] {6, 5, 1}) {
                byte[] head = new Proto().header(field, length).toBytes();
                for (int k = head.length - 1; k >= 0; k--) {
                    reversed.write(head[k]);
                }
                length += head.length;
            }
        }
        byte[] graph = reversed.toByteArray();
        for (int i = 0, j = graph.length - 1; i < j; i++, j--) {
            byte b = graph[i];
            graph[i] = graph[j];
            graph[j] = b;
        }
        says("nested", refused(new Proto().integer(1, 8).bytes(7, graph).toBytes()));
        byte[] groups = new byte[200_000];
        Arrays.fill(groups, (byte) 0x3b);
        refused(groups);
        // A chain of operators is not nesting.
        TestModel m = new TestModel();
        m.graph.init("n0", DType.F32, SIX, 2, 3);
        for (int i = 0; i < 100_000; i++) {
            m.graph.node("Identity", "n" + (i + 1), "n" + i);
        }
        try (OnnxModel open = OnnxModel.open(m.write(folder, "m.onnx"), false)) {
            assertEquals(1, open.weights().size());
        }
    }

    @Test
    void structureBeyondTheHeapIsRefused() throws Exception {
        byte[] node = new Proto().message(1, new Proto().string(1, "").string(4, "A")).toBytes();
        Proto graph = new Proto();
        for (int i = 0; i < 100_000; i++) {
            graph.fields(node);
        }
        byte[] file = new Proto().integer(1, 8).message(7, graph).toBytes();
        Wire w = new Wire(Path.of("m.onnx"), java.lang.foreign.MemorySegment.ofArray(file));
        assertThrows(UnsupportedRequestException.class, () -> new Parser(w, 10 << 20).model(file.length));
        Wire again = new Wire(Path.of("m.onnx"), java.lang.foreign.MemorySegment.ofArray(file));
        new Parser(again).model(file.length);
    }

    @Test
    void cutAnywhere() throws Exception {
        byte[] whole = everything().bytes();
        Path p = folder.resolve("m.onnx");
        for (int n = 0; n < whole.length; n++) {
            Files.write(p, Arrays.copyOf(whole, n));
            survive(p);
        }
    }

    @RandomTest
    void bytesChangedAnywhere() throws Exception {
        long end = System.nanoTime() + 8_000_000_000L;
        List<byte[]> seeds = List.of(everything().bytes(), external().bytes());
        Files.write(folder.resolve("d.bin"), new byte[64]);
        Path p = folder.resolve("m.onnx");
        Random r = Effort.random();
        for (int i = 0; System.nanoTime() < end; i++) {
            byte[] b = seeds.get(r.nextInt(seeds.size())).clone();
            for (int k = 1 + r.nextInt(4); k > 0; k--) {
                int at = r.nextInt(b.length);
                switch (r.nextInt(5)) {
                    case 0 -> b[at] = (byte) r.nextInt();
                    case 1 -> b[at] ^= (byte) (1 << r.nextInt(8));
                    case 2 -> b[at] = (byte) (r.nextBoolean() ? 0xff : 0x80);
                    case 3 -> {
                        int n = Math.min(r.nextInt(40), b.length - at);
                        System.arraycopy(b, at, b, r.nextInt(b.length - n + 1), n);
                    }
                    default -> b = Arrays.copyOf(b, at + 1);
                }
            }
            Files.write(p, b);
            try {
                survive(p);
            } catch (Throwable t) {
                throw new AssertionError("case " + i, t);
            }
        }
    }

    @Test
    void otherNumbersOfOperandsAndResults() throws Exception {
        TestModel m = TestModel.of(8, 18);
        m.graph.init("w", DType.F32, TestModel.random(1, 256), 16, 16).init("s", DType.F32, TestModel.random(2, 16), 16).input("x", 1, -1, 16)
                .node("Transpose", ",turned", "w").node("MatMul", "y", "x", "turned").node("RMSNormalization", "n", "x", "s")
                .node("Concat", "shape").node("Reshape", "r", "n", "shape").node("MatMul", "z", "r", "w");
        survive(m.write(folder, "m.onnx"));
    }

    /** Opens, asks for the graph and compresses; whatever goes wrong has to be said in one of two ways. */
    private void survive(Path p) throws IOException {
        try (OnnxModel m = OnnxModel.open(p, false)) {
            m.graph();
            for (String name : List.of("onnxruntime", "onnx")) {
                Target t = Targets.of(m, name, Map.of());
                Map<Weight, Form> forms = new LinkedHashMap<>();
                for (Weight w : m.weights()) {
                    int axis = w.inputAxis();
                    Form wanted = new Form.Quantized(4, axis, axis < 0 ? 0 : 16, true, Form.Activations.FLOAT, DType.I4,
                            DType.F32, false, false);
                    try {
                        forms.put(w, Targets.accept(t, w, wanted));
                    } catch (UnsupportedRequestException e) {
                        assertTrue(e.getMessage().length() > 5);
                    }
                }
                Path out = folder.resolve("out.onnx");
                long written = 0;
                for (Path file : Targets.write(t, forms, new PlainEncoder(), Destination.replacing(out))) {
                    written += Files.size(file);
                }
                assertTrue(written <= Targets.size(t, forms), "more written than announced");
                OnnxModel.open(out, false).close();
            }
        } catch (MalformedModelException | UnsupportedRequestException e) {
            assertTrue(e.getMessage().length() > 10);
        }
    }

    private static TestModel everything() {
        TestModel m = TestModel.of(7, 12);
        GraphBuilder body = new GraphBuilder("b").init("w2", DType.F16, TestModel.random(3, 96), 16, 6)
                .node("MatMul", "o", "x", "w2").output("o", 1, 1, 6);
        m.graph.init("w", DType.F32, TestModel.random(1, 64), 16, 4).init("e", DType.F32, TestModel.random(2, 32), 8, 4)
                .init(TestModel.head("t", 1, 3, 2).bytes(4, TestModel.raw(DType.F32, SIX)))
                .init(TestModel.head("h", 10, 3).integer(5, 1).integer(5, 2).integer(5, 3)).longs("i", 0, 1)
                .input("x", 1, -1, 16).input("c", 9).node("MatMul", "a", "x", "w").node("Gather", "gg", "e", "i")
                .node(new NodeBuilder("Transpose", "tt", "t").ints("perm", 1, 0)).node("MatMul", "z", "x", "tt")
                .node(new NodeBuilder("Constant", "k", new String[0]).tensor("value",
                        TestModel.tensor("k", DType.F32, TestModel.random(5, 64), 16, 4)))
                .node(new NodeBuilder("Gemm", "gm", "x", "k", "a").set("beta", 1f))
                .node(new NodeBuilder("If", "f", "c").graph("then_branch", body).graph("else_branch", body))
                .output("a", 1, -1, 4);
        return m;
    }

    private static TestModel external() {
        TestModel m = new TestModel();
        Proto t = TestModel.head("w", 1, 4, 4);
        for (String[] e : new String[][] {{"location", "d.bin"}, {"offset", "0"}, {"length", "64"}}) {
            t.message(13, new Proto().string(1, e[0]).string(2, e[1]));
        }
        m.graph.init(t.integer(14, 1)).input("x", 1, 1, 4).node("MatMul", "y", "x", "w").output("y", 1, 1, 4);
        return m;
    }
}
