package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Targets;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.encoding.Form.Storage;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.TestModel.GraphBuilder;
import dev.tensorpress.model.onnx.TestModel.NodeBuilder;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Pruned weights in ONNX files, run in ONNX Runtime beside a model whose floats are the decoded weights. */
final class SparseLoweringTest {
    @TempDir
    Path folder;

    /** Where a weight can be. */
    private enum Place { RAW, TYPED, CONSTANT, TYPED_CONSTANT, EXTERNAL, EXTERNAL_CONSTANT, SUBGRAPH }

    private static final int K = 64;
    private static final int N = 24;

    /** y = x * w; everything that a tensor may say besides its data is there and has to stay. */
    private Path model(Place place, long ir, DType type, float[] w, String name) throws Exception {
        TestModel m = TestModel.of(ir, 17);
        int code = TensorInfo.code(type);
        Proto t = TestModel.head("w", code, K, N).string(12, "what it is");
        if (place == Place.TYPED || place == Place.TYPED_CONSTANT) {
            for (float v : w) {
                if (type == DType.F32) {
                    t.real(4, v);
                } else {
                    t.integer(5, Float.floatToFloat16(v) & 0xffff);
                }
            }
        } else if (place == Place.EXTERNAL || place == Place.EXTERNAL_CONSTANT) {
            Files.write(folder.resolve(name + ".data"), TestModel.raw(type, w));
            t.message(13, new Proto().string(1, "location").string(2, name + ".data")).integer(14, 1);
        } else {
            t.bytes(9, TestModel.raw(type, w));
        }
        boolean constant = place == Place.CONSTANT || place == Place.TYPED_CONSTANT || place == Place.EXTERNAL_CONSTANT;
        GraphBuilder g = place == Place.SUBGRAPH ? new GraphBuilder("then") : m.graph;
        if (constant) {
            g.node(new NodeBuilder("Constant", "w").tensor("value", t));
        } else {
            g.init(t);
            if (ir < 4) {
                g.input("w", code, K, N);
            }
        }
        m.graph.input("x", code, -1, K).output("y", code, -1, N);
        if (place == Place.SUBGRAPH) {
            g.node("MatMul", "o", "x", "w").output("o", code, -1, N);
            GraphBuilder other = new GraphBuilder("else").node(new NodeBuilder("Constant", "v").tensor("value",
                    TestModel.tensor("", type, w, K, N))).node("MatMul", "p", "x", "v").output("p", code, -1, N);
            m.graph.input("c", 9, 1).node(new NodeBuilder("If", "y", "c").graph("then_branch", g)
                    .graph("else_branch", other));
        } else {
            g.node("MatMul", "y", "x", "w");
        }
        return m.write(folder, name);
    }

    private static Weight find(OnnxModel m) {
        return m.weights().stream().filter(w -> w.name().endsWith("w")).findFirst().orElseThrow();
    }

    static Form.Sparse dense(Weight w, int keep) {
        Tensor pruned = PlainEncoder.pruned(w.tensor(), keep);
        long nnz = 0;
        int size = pruned.dtype().bits() / 8;
        for (long i = 0; i < pruned.shape().elements(); i++) {
            nnz += size == 4 ? pruned.data().get(ValueLayout.JAVA_INT_UNALIGNED, 4 * i) != 0 ? 1 : 0
                    : pruned.data().get(ValueLayout.JAVA_SHORT_UNALIGNED, 2 * i) != 0 ? 1 : 0;
        }
        return new Form.Sparse(new Form.Dense(w.tensor().dtype()), 100 - keep + " %", nnz, Storage.MASKED);
    }

    static Form.Sparse quantized(Weight w, int bits, boolean symmetric, int keep) {
        return dense(w, keep).of(new Form.Quantized(bits, 0, 32, symmetric, Form.Activations.FLOAT, DType.I8,
                DType.F32, false, false));
    }

    @Test
    void whereverTheWeightIsTheModelComputesWithItsPrunedElements() throws Exception {
        for (Place place : Place.values()) {
            // Initializers of version 3 are inputs, which the branch of an If cannot have.
            for (long ir : place == Place.SUBGRAPH ? new long[] {5, 6, 8} : new long[] {3, 5, 6, 8}) {
                for (DType type : List.of(DType.F32, DType.F16)) {
                    for (int keep : new int[] {0, 3, 19, 21, 32, 34, 50, 100}) {
                        check(place, ir, type, keep);
                    }
                }
            }
        }
    }

    private void check(Place place, long ir, DType type, int keep) throws Exception {
        String what = place + " ir " + ir + " " + type + " " + keep + " %";
        Path in = model(place, ir, type, TestModel.random(5, K * N), "in.onnx");
        Path out = folder.resolve("out.onnx");
        PlainEncoder encoder = new PlainEncoder(keep);
        Storage storage;
        Storage expected;
        try (OnnxModel m = OnnxModel.open(in, false)) {
            Target t = Targets.of(m, "", Map.of());
            Weight w = find(m);
            Form accepted = Targets.accept(t, w, dense(w, keep));
            assertEquals(accepted, Targets.accept(t, w, accepted), "accepting twice");
            storage = ((Form.Sparse) accepted).storage();
            long left = ((Form.Sparse) accepted).nnz();
            Map<Weight, Form> forms = Map.of(w, accepted);
            Targets.write(t, forms, encoder, Destination.replacing(out));
            assertEquals(length(folder, m, out), Targets.size(t, forms), what);
            boolean initializer = place == Place.RAW || place == Place.TYPED || place == Place.SUBGRAPH;
            // Headers of messages and dims of the sparse tensor take some 20 bytes.
            long saved = w.tensor().bytes() - left * (8 + type.bits() / 8);
            expected = initializer && ir >= 6 && saved > 20 ? Storage.COORDINATES : Storage.MASKED;
            if (place == Place.RAW || place == Place.SUBGRAPH) {
                assertTrue(Files.size(out) <= Files.size(in), what);
                if (storage == Storage.MASKED) {
                    assertEquals(Files.size(in), Files.size(out), what);
                }
            }
        }
        assertEquals(expected, storage, what);
        Path reference = model(place, ir, type, encoder.decoded.values().iterator().next(), "reference.onnx");
        // What comes out is the same model, so there is nothing to be off by.
        assertArrayEquals(Ort.run(reference, 3, 9), Ort.run(out, 3, 9), what);
        if (place == Place.RAW && storage == Storage.MASKED) {
            assertArrayEquals(Files.readAllBytes(reference), Files.readAllBytes(out), what);
        }
        try (OnnxModel again = OnnxModel.open(out, false)) {
            Weight w = find(again);
            assertEquals(storage == Storage.COORDINATES, w.obstacle().isPresent(), what);
        }
    }

    private static long length(Path folder, OnnxModel in, Path out) throws Exception {
        try (OnnxModel m = OnnxModel.open(out, false)) {
            return m.bytes();
        }
    }

    @Test
    void sparseInitializersCanBeForgone() throws Exception {
        Path in = model(Place.RAW, 8, DType.F32, TestModel.random(5, K * N), "in.onnx");
        try (OnnxModel m = OnnxModel.open(in, false)) {
            for (String name : List.of("onnx", "onnxruntime")) {
                Form.Sparse with = (Form.Sparse) Targets.of(m, name, Map.of("sparse-initializers", "true"))
                        .lower(find(m), dense(find(m), 10)).form();
                Form.Sparse without = (Form.Sparse) Targets.of(m, name, Map.of("sparse-initializers", "false"))
                        .lower(find(m), dense(find(m), 10)).form();
                assertEquals(Storage.COORDINATES, with.storage());
                assertEquals(Storage.MASKED, without.storage());
            }
            assertThrows(IllegalArgumentException.class, () -> Targets.of(m, "", Map.of("sparse-initializers", "no")));
        }
    }

    /** Whatever reads the weight, also as an output of the graph. */
    @Test
    void allReaders() throws Exception {
        for (LoweringTest.Subject s : LoweringTest.SUBJECTS) {
            for (int keep : new int[] {10, 50}) {
                float[] w = TestModel.random(7, s.elements());
                PlainEncoder encoder = new PlainEncoder(keep);
                Path out = folder.resolve("out.onnx");
                try (OnnxModel m = OnnxModel.open(s.model(8, 13, DType.F32, w).write(folder, "in.onnx"), false)) {
                    Target t = Targets.of(m, "onnx", Map.of());
                    Form f = Targets.accept(t, find(m), dense(find(m), keep));
                    assertEquals(keep == 10 && !s.name().equals("an output too") ? Storage.COORDINATES : Storage.MASKED,
                            ((Form.Sparse) f).storage(), s.toString());
                    Targets.write(t, Map.of(find(m), f), encoder, Destination.replacing(out));
                    assertEquals(Files.size(out), Targets.size(t, Map.of(find(m), f)));
                }
                Path reference = s.model(8, 13, DType.F32, encoder.decoded.get("w")).write(folder, "reference.onnx");
                LoweringTest.close(s.toString(), Ort.run(reference, 3, 40), Ort.run(out, 3, 40), 1e-6);
            }
        }
    }

    /** ONNX Runtime has few bf16 kernels, so the weight goes through a Cast. */
    @Test
    void bf16() throws Exception {
        for (int keep : new int[] {10, 50}) {
            float[] w = TestModel.random(5, K * N);
            PlainEncoder encoder = new PlainEncoder(keep);
            Path out = folder.resolve("out.onnx");
            try (OnnxModel m = OnnxModel.open(cast(w, "in.onnx"), false)) {
                Target t = Targets.of(m, "", Map.of());
                Form f = Targets.accept(t, find(m), dense(find(m), keep));
                assertEquals(keep == 10 ? Storage.COORDINATES : Storage.MASKED, ((Form.Sparse) f).storage());
                Targets.write(t, Map.of(find(m), f), encoder, Destination.replacing(out));
            }
            Path reference = cast(encoder.decoded.get("w"), "reference.onnx");
            assertArrayEquals(Ort.run(reference, 3, 9), Ort.run(out, 3, 9));
        }
    }

    private Path cast(float[] w, String name) throws Exception {
        TestModel m = TestModel.of(8, 17);
        m.graph.init("w", DType.BF16, w, K, N).input("x", 1, -1, K).output("y", 1, -1, N)
                .node(new NodeBuilder("Cast", "f", "w").set("to", 1)).node("MatMul", "y", "x", "f");
        return m.write(folder, name);
    }

    @Test
    void quantizedValuesAreLoweredAsOnTheirOwn() throws Exception {
        for (Place place : new Place[] {Place.RAW, Place.TYPED_CONSTANT, Place.EXTERNAL}) {
            for (int bits : new int[] {4, 8}) {
                for (boolean symmetric : new boolean[] {true, false}) {
                    for (String target : List.of("onnxruntime", "onnx")) {
                        String what = place + " int" + bits + " " + symmetric + " " + target;
                        Path in = model(place, 8, DType.F32, TestModel.random(5, K * N), "in.onnx");
                        Path out = folder.resolve("out.onnx");
                        PlainEncoder encoder = new PlainEncoder(50);
                        try (OnnxModel m = OnnxModel.open(in, false)) {
                            Target t = Targets.of(m, target, Map.of());
                            Form.Sparse wanted = quantized(find(m), bits, symmetric, 50);
                            Form.Sparse f = (Form.Sparse) Targets.accept(t, find(m), wanted);
                            assertEquals(wanted.of(Targets.accept(t, find(m), wanted.values())), f, what);
                            Map<Weight, Form> forms = Map.of(find(m), f);
                            Targets.write(t, forms, encoder, Destination.replacing(out));
                            assertEquals(length(folder, m, out), Targets.size(t, forms), what);
                        }
                        Path reference = model(Place.RAW, 8, DType.F32, encoder.decoded.get("w"), "reference.onnx");
                        LoweringTest.close(what, Ort.run(reference, 3, 9), Ort.run(out, 3, 9), 1e-5);
                    }
                }
            }
        }
    }

    @Test
    void anEncodingWithAnotherNumberOfElementsIsRefused() throws Exception {
        Path in = model(Place.RAW, 8, DType.F32, TestModel.random(5, K * N), "in.onnx");
        Path out = folder.resolve("out.onnx");
        try (OnnxModel m = OnnxModel.open(in, false)) {
            Target t = Targets.of(m, "", Map.of());
            for (int more : new int[] {-1, 1}) {
                Form.Sparse s = dense(find(m), 10);
                Form.Sparse wrong = new Form.Sparse(s.values(), s.pattern(), s.nnz() + more, Storage.COORDINATES);
                assertEquals(wrong, Targets.accept(t, find(m), wrong));
                IllegalStateException e = assertThrows(IllegalStateException.class,
                        () -> Targets.write(t, Map.of(find(m), wrong), new PlainEncoder(10), Destination.replacing(out)));
                assertTrue(e.getMessage().contains("'w'"), e.getMessage());
                assertTrue(Files.notExists(out));
            }
        }
    }

    /** Several weights, one of them unchanged, with all that surrounds them. */
    @Test
    void mixedForms() throws Exception {
        TestModel m = TestModel.of(8, 17);
        m.graph.input("x", 1, -1, K);
        String last = "x";
        for (int i = 0; i < 5; i++) {
            m.graph.init("w" + i, DType.F32, TestModel.random(i, K * K), K, K).node("MatMul", "y" + i, last, "w" + i);
            last = "y" + i;
        }
        m.graph.output(last, 1, -1, K);
        Path out = folder.resolve("out.onnx");
        PlainEncoder encoder = new PlainEncoder(20);
        TestModel reference = TestModel.of(8, 17);
        reference.graph.input("x", 1, -1, K);
        try (OnnxModel model = OnnxModel.open(m.write(folder, "in.onnx"), false)) {
            Target t = Targets.of(model, "", Map.of());
            Map<Weight, Form> forms = new LinkedHashMap<>();
            for (Weight w : model.weights()) {
                switch (w.name()) {
                    case "w0" -> forms.put(w, Targets.accept(t, w, dense(w, 20)));
                    case "w1" -> forms.put(w, Targets.accept(t, w, quantized(w, 8, true, 20)));
                    case "w2" -> forms.put(w, Targets.accept(t, w, quantized(w, 8, true, 20).values()));
                    case "w4" -> forms.put(w, Targets.accept(t, w, dense(w, 20)));
                    default -> { }
                }
            }
            Targets.write(t, forms, encoder, Destination.replacing(out));
            assertEquals(Files.size(out), Targets.size(t, forms));
        }
        last = "x";
        for (int i = 0; i < 5; i++) {
            float[] w = i == 3 ? TestModel.random(i, K * K) : encoder.decoded.get("w" + i);
            reference.graph.init("w" + i, DType.F32, w, K, K).node("MatMul", "y" + i, last, "w" + i);
            last = "y" + i;
        }
        reference.graph.output(last, 1, -1, K);
        LoweringTest.close("mixed", Ort.run(reference.write(folder, "reference.onnx"), 3, 9), Ort.run(out, 3, 9), 1e-5);
    }

    /** What a target writes must be an encoding of the form that it asked for. */
    @Test
    void anotherFormIsRefused() throws Exception {
        Path in = model(Place.RAW, 8, DType.F32, TestModel.random(5, K * N), "in.onnx");
        try (OnnxModel m = OnnxModel.open(in, false)) {
            Target t = Targets.of(m, "", Map.of());
            Form f = Targets.accept(t, find(m), dense(find(m), 50));
            assertThrows(IllegalStateException.class, () -> Targets.write(t, Map.of(find(m), f),
                    (w, form, rows, first) -> new Encoding.Dense(rows), Destination.replacing(folder.resolve("out.onnx"))));
        }
    }
}
