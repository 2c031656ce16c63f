package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Effort;
import dev.tensorpress.Effort.RandomTest;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Targets;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.encoding.Form.Storage;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.archive.SparseFile;
import dev.tensorpress.model.onnx.TestModel.NodeBuilder;
import dev.tensorpress.tensor.DType;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Archives of models: what is put together again is what the ordinary target writes. */
final class ArchivedModelTest {
    private static final int K = 96;
    private static final int KEEP = 40;

    @TempDir
    Path folder;

    /** A chain of products whose weights get all kinds of forms; those of the last are in a Constant node and typed. */
    private Path model(DType type) throws Exception {
        int code = TensorInfo.code(type);
        TestModel m = TestModel.of(8, 17);
        m.graph.input("x", code, -1, K);
        String last = "x";
        for (int i = 0; i < 8; i++) {
            float[] w = TestModel.random(i, K * K);
            if (i == 6) {
                m.graph.node(new NodeBuilder("Constant", "w6").tensor("value", TestModel.tensor("", type, w, K, K)));
            } else if (i == 7 && type == DType.F32) {
                Proto t = TestModel.head("w7", code, K, K);
                for (float v : w) {
                    t.real(4, v);
                }
                m.graph.init(t);
            } else {
                m.graph.init("w" + i, type, w, K, K);
            }
            m.graph.node("MatMul", "y" + i, last, "w" + i);
            last = "y" + i;
        }
        m.graph.output(last, code, -1, K);
        return m.write(folder, "model.onnx");
    }

    private static Form wanted(Weight w) {
        return switch (w.name()) {
            case "w0", "w6", "w7" -> SparseLoweringTest.dense(w, KEEP);
            case "w1" -> SparseLoweringTest.quantized(w, 8, true, KEEP);
            case "w2" -> SparseLoweringTest.quantized(w, 8, false, KEEP);
            case "w3" -> SparseLoweringTest.quantized(w, 4, true, KEEP);
            case "w4" -> SparseLoweringTest.quantized(w, 8, true, KEEP).values();
            default -> null;
        };
    }

    private static Map<Weight, Form> forms(OnnxModel m, Target t) {
        Map<Weight, Form> forms = new LinkedHashMap<>();
        for (Weight w : m.weights()) {
            Form f = wanted(w);
            if (f != null) {
                Form accepted = Targets.accept(t, w, f);
                assertEquals(accepted, Targets.accept(t, w, accepted), "accepting twice");
                forms.put(w, accepted);
            }
        }
        return forms;
    }

    @Test
    void whatIsRebuiltIsWhatTheOrdinaryTargetWrites() throws Exception {
        for (DType type : List.of(DType.F32, DType.F16)) {
            for (int keep : new int[] {KEEP, 10}) {
                Path side = folder.resolve("side.safetensors");
                Path ordinary = folder.resolve("ordinary.onnx");
                Path rebuilt = folder.resolve("rebuilt.onnx");
                try (OnnxModel m = OnnxModel.open(model(type), false)) {
                    Target sparse = Targets.of(m, "sparse", Map.of());
                    Target plain = Targets.of(m, "onnxruntime", Map.of());
                    Map<Weight, Form> packed = new LinkedHashMap<>();
                    Map<Weight, Form> masked = new LinkedHashMap<>();
                    for (Weight w : m.weights()) {
                        Form f = wanted(w);
                        if (f instanceof Form.Sparse s && s.values() instanceof Form.Dense) {
                            f = SparseLoweringTest.dense(w, keep);
                        }
                        if (f != null) {
                            packed.put(w, Targets.accept(sparse, w, f));
                            masked.put(w, Targets.accept(plain, w, f));
                        }
                    }
                    assertEquals(Set.of(side), Targets.write(sparse, packed, new PlainEncoder(keep), Destination.replacing(side)));
                    Targets.write(plain, masked, new PlainEncoder(keep), Destination.replacing(ordinary));
                    assertTrue(Files.size(side) <= Targets.size(sparse, packed), Files.size(side) + " " + Targets.size(sparse, packed));
                    // Layouts may turn out smaller than foreseen, headers are some letters shorter.
                    assertTrue(Files.size(side) > Targets.size(sparse, packed) * 0.9, Files.size(side) + " " + Targets.size(sparse, packed));
                    assertTrue(Files.size(side) < Files.size(ordinary));
                    if (keep == 10) {
                        long coordinates = masked.values().stream().filter(f -> f instanceof Form.Sparse s
                                && s.storage() == Storage.COORDINATES).count();
                        assertEquals(2, coordinates);
                    }
                    byte[] first = Files.readAllBytes(side);
                    Targets.write(sparse, packed, new PlainEncoder(keep), Destination.replacing(side));
                    assertArrayEquals(first, Files.readAllBytes(side));
                }
                try (SparseFile f = SparseFile.open(side); Executor executor = Executor.cpu(2)) {
                    assertEquals(List.of("w0", "w1", "w6", "w7"), f.names().stream().sorted().toList());
                    f.names().forEach(n -> assertEquals("bitmask", f.layout(n)));
                    assertEquals(Files.size(ordinary), f.expand(rebuilt, executor));
                }
                assertArrayEquals(Files.readAllBytes(ordinary), Files.readAllBytes(rebuilt));
                assertTrue(Ort.run(rebuilt, 3, 9).length > 0);
            }
        }
        try (var files = Files.list(folder)) {
            assertEquals(4, files.count());
        }
    }

    /** Codes that take more than the weight, since blocks are filled up, leave it whole; without their zeros they would not. */
    @Test
    void whatTheOrdinaryTargetLeavesWholeStays() throws Exception {
        TestModel m = TestModel.of(8, 17);
        m.graph.input("x", 1, -1, 2).init("w", DType.F32, TestModel.random(1, 2 * 300), 2, 300).node("MatMul", "y", "x", "w")
                .output("y", 1, -1, 300);
        assertEquals(0, isRebuilt(m.write(folder, "in.onnx"), Recipe.named("prune50-int8").set("sparsity", "0.8")));
    }

    /** Compresses for both targets; how many weights were. */
    private int isRebuilt(Path in, Recipe recipe) throws Exception {
        Recipe all = recipe.set("min-size", "0");
        Path side = folder.resolve("side.safetensors");
        Path ordinary = folder.resolve("ordinary.onnx");
        Path rebuilt = folder.resolve("rebuilt.onnx");
        try (Compressor c = Compressor.open(in, Compressor.Options.DEFAULT.overwrite(true).threads(1))) {
            Plan plan = c.plan(all);
            c.compress(plan, ordinary);
            c.compress(c.plan(all.target("sparse")), side);
            try (SparseFile f = SparseFile.open(side); Executor executor = Executor.cpu(1)) {
                f.expand(rebuilt, true, executor);
            }
            assertArrayEquals(Files.readAllBytes(ordinary), Files.readAllBytes(rebuilt));
            return plan.compressed();
        }
    }

    /** Shapes, types, zeros, and the places where a weight can be, at random. */
    @RandomTest
    void anyPrunedModelIsRebuilt() throws Exception {
        Random r = Effort.random();
        int compressed = 0;
        for (int i = 0; i < 120; i++) {
            DType type = List.of(DType.F32, DType.F16, DType.BF16).get(r.nextInt(3));
            int rows = r.nextBoolean() ? 1 + r.nextInt(4) : 1 + r.nextInt(200);
            int cols = r.nextBoolean() ? 298 + r.nextInt(5) : 1 + r.nextInt(400);
            float[] values = TestModel.random(r.nextInt(), rows * cols);
            float zeros = r.nextBoolean() ? 0 : r.nextFloat();
            for (int k = 0; k < values.length; k++) {
                values[k] = r.nextFloat() < zeros ? r.nextInt(9) == 0 ? -0f : 0 : values[k];
            }
            boolean turned = r.nextBoolean();
            int place = r.nextInt(3);
            boolean typed = r.nextBoolean();
            String name = place == 0 ? "w" : "";
            Proto tensor = typed ? typed(name, type, values, rows, cols) : TestModel.tensor(name, type, values, rows, cols);
            int code = TensorInfo.code(type);
            TestModel m = TestModel.of(8, 17);
            m.graph.input("x", code, 1, turned ? cols : rows).output("y", code, 1, turned ? rows : cols);
            TestModel.GraphBuilder home = place == 2 ? new TestModel.GraphBuilder("inner") : m.graph;
            if (place == 0) {
                home.init(tensor);
            } else {
                home.node(new NodeBuilder("Constant", "w").tensor("value", tensor));
            }
            String result = place == 2 ? "inner" : "y";
            home.node(new NodeBuilder("Gemm", result, "x", "w").set("transB", turned ? 1 : 0));
            if (place == 2) {
                home.output("inner", code, 1, turned ? rows : cols);
                m.graph.input("c", 9).node(new NodeBuilder("If", "y", "c").graph("then_branch", home).graph("else_branch", home));
            }
            Recipe recipe = Recipe.named(List.of("prune50", "sparse24", "prune50-int8").get(r.nextInt(3)));
            if (!recipe.name().equals("sparse24")) {
                recipe = recipe.set("sparsity", Double.toString(r.nextInt(4) == 0 ? r.nextDouble() : 0.8));
            }
            String what = "model " + i + ": " + recipe.name() + " of " + type + " " + rows + "x" + cols + " at " + place;
            try {
                compressed += isRebuilt(m.write(folder, "in.onnx"), recipe) > 0 ? 1 : 0;
            } catch (AssertionError e) {
                throw new AssertionError(what, e);
            }
        }
        assertTrue(compressed > 80, compressed + " were compressed");
    }

    /** Elements in the field of their type, not as raw bytes. */
    private static Proto typed(String name, DType type, float[] values, long... dims) {
        Proto t = TestModel.head(name, TensorInfo.code(type), dims);
        ByteBuffer raw = ByteBuffer.wrap(TestModel.raw(type, values)).order(ByteOrder.LITTLE_ENDIAN);
        if (type == DType.F32) {
            return t.bytes(4, raw.array());
        }
        while (raw.hasRemaining()) {
            t.integer(5, raw.getShort() & 0xffff);
        }
        return t;
    }

    @Test
    void halfOfTheCodesGone() throws Exception {
        TestModel t = TestModel.of(8, 17);
        t.graph.init("w", DType.F32, TestModel.random(1, 512 * 512), 512, 512).input("x", 1, -1, 512)
                .node("MatMul", "y", "x", "w").output("y", 1, -1, 512);
        Path side = folder.resolve("side.safetensors");
        Path ordinary = folder.resolve("ordinary.onnx");
        try (OnnxModel m = OnnxModel.open(t.write(folder, "in.onnx"), false)) {
            Weight w = m.weights().getFirst();
            for (String target : List.of("sparse", "onnxruntime")) {
                Target to = Targets.of(m, target, Map.of());
                Form.Sparse s = SparseLoweringTest.dense(w, 50).of(new Form.Quantized(8, 0, 64, true,
                        Form.Activations.BLOCKWISE, DType.I8, DType.F32, false, false));
                Targets.write(to, Map.of(w, Targets.accept(to, w, s)), new PlainEncoder(50),
                        Destination.replacing(target.equals("sparse") ? side : ordinary));
            }
        }
        double ratio = (double) Files.size(side) / Files.size(ordinary);
        // A bit and half a byte of nine eighths, and the scales: a float for 64.
        assertTrue(ratio < 0.66, "ratio " + ratio);
    }

    @Test
    void whatIsNotPrunedOrLargerStays() throws Exception {
        Path side = folder.resolve("side.safetensors");
        Path in = model(DType.F32);
        try (OnnxModel m = OnnxModel.open(in, false)) {
            Target sparse = Targets.of(m, "sparse", Map.of("accuracy-level", "4"));
            Targets.write(sparse, Map.of(), new PlainEncoder(), Destination.replacing(side));
            assertTrue(Files.size(side) <= Targets.size(sparse, Map.of()));
            // All elements kept: dense is the smallest.
            Weight w = m.weights().stream().filter(x -> x.name().equals("w0")).findFirst().orElseThrow();
            Form full = Targets.accept(sparse, w, SparseLoweringTest.dense(w, 100));
            Path other = folder.resolve("full.safetensors");
            Targets.write(sparse, Map.of(w, full), new PlainEncoder(100), Destination.replacing(other));
            try (SparseFile f = SparseFile.open(other); Executor executor = Executor.cpu(1)) {
                assertEquals("dense", f.layout("w0"));
                f.expand(folder.resolve("full.onnx"), executor);
            }
            assertArrayEquals(Files.readAllBytes(in), Files.readAllBytes(folder.resolve("full.onnx")));
        }
        try (SparseFile f = SparseFile.open(side); Executor executor = Executor.cpu(1)) {
            f.expand(folder.resolve("same.onnx"), executor);
            assertThrows(IllegalArgumentException.class, () -> f.expand(side, executor));
        }
        assertArrayEquals(Files.readAllBytes(in), Files.readAllBytes(folder.resolve("same.onnx")));
    }

    @Test
    void modelsInSeveralFilesAreRefusedAtOnce() throws Exception {
        TestModel t = TestModel.of(8, 17);
        Files.write(folder.resolve("w.data"), TestModel.raw(DType.F32, TestModel.random(1, K * K)));
        t.graph.init(TestModel.head("w", 1, K, K).message(13, new Proto().string(1, "location").string(2, "w.data"))
                .integer(14, 1)).input("x", 1, -1, K).node("MatMul", "y", "x", "w").output("y", 1, -1, K);
        try (OnnxModel m = OnnxModel.open(t.write(folder, "in.onnx"), false)) {
            UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class,
                    () -> Targets.of(m, "sparse", Map.of()));
            assertTrue(e.getMessage().contains("data files"), e.getMessage());
        }
    }

    /** Any damage is named with its place and nothing is written, or what comes out is the model. */
    @RandomTest
    void damageIsNamedOrHarmless() throws Exception {
        Path side = folder.resolve("side.safetensors");
        Path out = folder.resolve("out.onnx");
        byte[] model;
        try (OnnxModel m = OnnxModel.open(model(DType.F32), false)) {
            Target sparse = Targets.of(m, "sparse", Map.of());
            Targets.write(sparse, forms(m, sparse), new PlainEncoder(KEEP), Destination.replacing(side));
        }
        try (SparseFile f = SparseFile.open(side); Executor executor = Executor.cpu(1)) {
            f.expand(out, executor);
            model = Files.readAllBytes(out);
            Files.delete(out);
        }
        byte[] whole = Files.readAllBytes(side);
        int header = (int) ByteBuffer.wrap(whole).order(ByteOrder.LITTLE_ENDIAN).getLong(0);
        Random r = Effort.random();
        int harmless = 0;
        int n = 300;
        for (int i = 0; i < n; i++) {
            byte[] b = whole.clone();
            if (r.nextInt(8) == 0) {
                b = Arrays.copyOf(b, r.nextInt(b.length));
            } else {
                b[r.nextInt(3) == 0 ? 8 + r.nextInt(header) : r.nextInt(b.length)] ^= (byte) (1 << r.nextInt(8));
            }
            Files.write(side, b);
            try (SparseFile f = SparseFile.open(side); Executor executor = Executor.cpu(1)) {
                f.expand(out, executor);
                assertArrayEquals(model, Files.readAllBytes(out));
                Files.delete(out);
                harmless++;
            } catch (MalformedModelException e) {
                assertTrue(e.offset() >= 0 && e.offset() <= b.length, e.getMessage());
                assertTrue(Files.notExists(out));
            } catch (UnsupportedRequestException e) {
                assertTrue(e.getMessage().contains("format") || e.getMessage().contains("single weights"),
                        e.getMessage());
            }
        }
        assertTrue(harmless < n / 50, harmless + " went unnoticed");
        try (var files = Files.list(folder)) {
            assertEquals(2, files.count());
        }
    }
}
