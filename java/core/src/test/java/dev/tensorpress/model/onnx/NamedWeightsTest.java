package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Report;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.compressedtensors.PlainDecoder;
import dev.tensorpress.model.safetensors.Safetensors;
import dev.tensorpress.model.safetensors.SafetensorsWriter;
import dev.tensorpress.model.safetensors.SmallFolder;
import dev.tensorpress.statistics.Gatherer;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.Request;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.statistics.ValueStatistics;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.BiFunction;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Statistics that say by name what weights are multiplied with, for models without a graph. */
final class NamedWeightsTest {
    private static final int K = 96;
    private static final int N = 40;
    private static final int ROWS = 300;
    private static final String NAME = "model.layers.0.self_attn.q_proj.weight";
    private static final String STEP = "  - name: linear\n    select: {role: [linear, head], min-size: 0}\n    gptq: {bits: 4, block: 32, symmetric: false}\n";

    @TempDir
    Path folder;
    private final float[] w = TestModel.random(3, N * K);

    private Recipe recipe(String head, String step) throws IOException {
        return Recipe.read(Files.writeString(folder.resolve("r.yaml"), "name: r\n" + head + "steps:\n" + step));
    }

    /** z = x W^T. */
    private Path onnx() throws IOException {
        TestModel model = TestModel.of(10, 21);
        model.graph.input("x", TensorInfo.FLOAT, -1, K).output("z", TensorInfo.FLOAT, -1, N).init("W", DType.F32, w, N, K);
        model.graph.node(new TestModel.NodeBuilder("Gemm", "z", "x", "W").set("transB", 1));
        return model.write(folder, "m.onnx");
    }

    private Path safetensors() throws IOException {
        return new SmallFolder(1).add(NAME, DType.F32, Shape.of(N, K), w).write(folder.resolve("m"), 1);
    }

    private static Statistics gathered(Compressor compressor) throws IOException {
        float[] x = TestModel.random(5, ROWS * K);
        for (int i = 0; i < x.length; i++) {
            x[i] += 2 * x[i / K * K] + i % 5;
        }
        try (Executor executor = Executor.cpu(1); Arena arena = Arena.ofShared();
                Gatherer gatherer = new Gatherer(Request.feeds(compressor.model().graph().orElseThrow(), true), executor)) {
            gatherer.accept(0, gatherer.values().getFirst(), new Tensor(DType.F32, Shape.of(ROWS, K),
                    arena.allocate(4L * x.length, 64).copyFrom(MemorySegment.ofArray(x))));
            return gatherer.finish(Statistics.hash(compressor.model()), 1, "rows");
        }
    }

    /** The file with other metadata, and other tensors; null for none. */
    private Path changed(Path file, Map<String, String> metadata, BiFunction<String, byte[], byte[]> data) throws IOException {
        Path out = Files.createTempFile(folder, "changed", ".safetensors");
        try (Safetensors in = Safetensors.open(file); FileChannel to = FileChannel.open(out, StandardOpenOption.WRITE)) {
            Map<String, String> all = new TreeMap<>(in.metadata());
            metadata.forEach((key, value) -> {
                if (value.isEmpty()) {
                    all.remove(key);
                } else {
                    all.put(key, value);
                }
            });
            List<SafetensorsWriter.Item> items = new ArrayList<>();
            for (Safetensors.Entry e : in.inOrder()) {
                byte[] bytes = data.apply(e.name(), in.tensor(e).data().toArray(java.lang.foreign.ValueLayout.JAVA_BYTE));
                if (bytes != null) {
                    items.add(new SafetensorsWriter.Item(e.name(), e.dtype(), e.shape(), SafetensorsWriter.Data.of(MemorySegment.ofArray(bytes))));
                }
            }
            new SafetensorsWriter(items, all).write(to);
        }
        return out;
    }

    private Path changed(Path file, Map<String, String> metadata) throws IOException {
        return changed(file, metadata, (name, bytes) -> bytes);
    }

    /** Statistics of the model in ONNX, and the same for that in safetensors. */
    private Path named() throws IOException {
        Path file = folder.resolve("s.safetensors");
        try (Compressor c = Compressor.open(onnx()); Statistics s = gathered(c)) {
            s.save(file, true);
        }
        try (Compressor c = Compressor.open(safetensors())) {
            return changed(file, Map.of("model", Statistics.hash(c.model()), "0.weight.0", NAME));
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "prune: {sparsity: 0.5, scope: channel, criterion: activation}", "obs: {pattern: 2:4}",
        "quantize: {bits: 4, block: 32, symmetric: false, clip: {steps: 20, min: 0.7}, importance: inputs}"})
    void weightsAreThoseOfOnnx(String before) throws Exception {
        String steps = (before.isEmpty() ? "" : "  - name: before\n    select: {role: [linear, head], min-size: 0}\n    " + before + "\n")
                + (before.startsWith("quantize") ? "" : STEP);
        Path named = named();
        Path one = folder.resolve("one.onnx");
        try (Compressor c = Compressor.open(onnx()); Statistics s = gathered(c)) {
            c.use(s);
            c.compress(c.plan(recipe("target: onnx\n", steps)), one);
        }
        float[] identity = new float[K * K];
        for (int i = 0; i < K; i++) {
            identity[i * K + i] = 1;
        }
        float[] decoded = Ort.run(one, identity, K, K)[0];
        for (int threads = 1; threads < 4; threads += 2) {
            Path out = folder.resolve("out" + threads);
            try (Compressor c = Compressor.open(folder.resolve("m"), Compressor.Options.DEFAULT.threads(threads)); Statistics s = Statistics.load(named)) {
                c.use(s);
                c.compress(c.plan(recipe("", steps)), out);
                assertTrue(Files.readString(out.resolve("tensorpress-manifest.json")).contains(s.digest()), "a run that goes on needs the same statistics");
            }
            PlainDecoder.Module module = new PlainDecoder(out).modules.get(NAME.replace(".weight", ""));
            for (int i = 0; i < N * K; i++) {
                assertEquals(decoded[i % K * N + i / K], module.weight()[i], "element " + i);
            }
        }
    }

    @Test
    void filesOfOthers() throws Exception {
        Path model = Path.of(NamedWeightsTest.class.getResource("/statistics/model").toURI());
        Path file = Path.of(NamedWeightsTest.class.getResource("/statistics/statistics.safetensors").toURI());
        try (Compressor c = Compressor.open(model); Statistics s = Statistics.load(file); Statistics twice = Statistics.load(file)) {
            c.use(s);
            Plan plan = c.plan(recipe("", "  - name: linear\n    select: {role: linear, min-size: 0}\n    gptq: {bits: 8, per: channel}\n"));
            assertEquals(7, plan.compressed());
            Report report = c.compress(plan, folder.resolve("out"));
            assertTrue(report.relativeError() > 0 && report.relativeError() < 0.02, Double.toString(report.relativeError()));
            twice.add(s);
            assertEquals(240, twice.values().getFirst().rows());
            assertEquals(3, twice.values().getFirst().weights().size());
        }
    }

    @Test
    void squaresAlone() throws Exception {
        Path named = named();
        Path file = changed(named, Map.of(), (name, bytes) -> name.endsWith(".squares") ? bytes : null);
        Path saved = folder.resolve("saved.safetensors");
        try (Compressor c = Compressor.open(folder.resolve("m")); Statistics s = Statistics.load(file)) {
            ValueStatistics v = s.values().getFirst();
            assertEquals(K, v.channels());
            assertTrue(!v.hasRange() && !v.hasSum());
            for (org.junit.jupiter.api.function.Executable e : List.<org.junit.jupiter.api.function.Executable>of(v::min, v::max, v::sum)) {
                assertTrue(assertThrows(UnsupportedRequestException.class, e).getMessage().contains("squares only"));
            }
            c.use(s);
            Plan plan = c.plan(recipe("", STEP));
            assertEquals(0, plan.compressed());
            assertTrue(plan.entries().getFirst().note().contains("no Gram matrix"), plan.entries().getFirst().note());
            String ranges = "  - name: ranges\n    select: {role: [linear, head], min-size: 0}\n    quantize: {bits: 4, block: 32, clip: 20, importance: inputs}\n";
            Plan counted = c.plan(recipe("", ranges));
            assertEquals("", counted.entries().getFirst().note());
            c.compress(counted, folder.resolve("squares"));
            try (Statistics whole = Statistics.load(named)) {
                c.use(whole);
                c.compress(c.plan(recipe("", ranges)), folder.resolve("whole"));
            }
            assertArrayEquals(Files.readAllBytes(folder.resolve("whole/model.safetensors")), Files.readAllBytes(folder.resolve("squares/model.safetensors")));
            s.add(s);
            s.save(saved, true);
            try (Statistics again = Statistics.load(saved)) {
                assertEquals(s.digest(), again.digest());
                assertArrayEquals(s.values().getFirst().squares(), again.values().getFirst().squares());
            }
        }
    }

    @Test
    void whatDoesNotFitIsRefused() throws Exception {
        Path file = named();
        for (Map<String, String> metadata : List.of(Map.of("0.weight.0", ""), Map.of("0.weight.0", "model.other.weight"), Map.of("model", "0"))) {
            try (Compressor c = Compressor.open(folder.resolve("m")); Statistics s = Statistics.load(changed(file, metadata))) {
                assertThrows(UnsupportedRequestException.class, () -> c.use(s));
            }
        }
        Path other = new SmallFolder(1).add(NAME, DType.F32, Shape.of(K, N), w).write(folder.resolve("other"), 1);
        try (Compressor c = Compressor.open(other); Statistics s = Statistics.load(changed(file, Map.of("model", Statistics.hash(c.model()))))) {
            String message = assertThrows(UnsupportedRequestException.class, () -> c.use(s)).getMessage();
            assertTrue(message.contains("96 inputs") && message.contains("96x40"), message);
        }
        try (Compressor c = Compressor.open(folder.resolve("m")); Statistics s = Statistics.load(changed(file, Map.of("model", "")) ) ) {
            throw new AssertionError("without the model's hash: " + c.model().path() + s.model());
        } catch (MalformedModelException e) {
            assertTrue(e.getMessage().contains("model"), e.getMessage());
        }
    }

    private static byte[] with(byte[] bytes, int index, double x) {
        ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).putDouble(8 * index, x);
        return bytes;
    }

    private void refused(Path file, String tensor, int index, double x) throws IOException {
        Path bad = changed(file, Map.of(), (name, bytes) -> name.equals(tensor) ? with(bytes, index, x) : bytes);
        MalformedModelException e = assertThrows(MalformedModelException.class, () -> Statistics.load(bad).close());
        assertTrue(e.offset() > 0, e.getMessage());
    }

    /** Others may not align what they write. */
    @Test
    void matricesAtOddPlaces() throws Exception {
        Path file = named();
        byte[] bytes = Files.readAllBytes(file);
        ByteBuffer odd = ByteBuffer.allocate(bytes.length + 3).order(ByteOrder.LITTLE_ENDIAN);
        int header = (int) ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getLong();
        odd.putLong(header + 3).put(bytes, 8, header).put(new byte[] {' ', ' ', ' '}).put(bytes, 8 + header, bytes.length - 8 - header);
        try (Statistics even = Statistics.load(file); Statistics other = Statistics.load(Files.write(folder.resolve("odd.safetensors"), odd.array()))) {
            assertEquals(even.digest(), other.digest());
            assertArrayEquals(even.values().getFirst().gram().orElseThrow().toArray(java.lang.foreign.ValueLayout.JAVA_DOUBLE),
                    other.values().getFirst().gram().orElseThrow().toArray(java.lang.foreign.ValueLayout.JAVA_DOUBLE));
        }
    }

    @Test
    void malformed() throws Exception {
        Path file = named();
        refused(file, "0.squares", 7, -1);
        refused(file, "0.gram", 0, -1);
        refused(file, "0.gram", 70 * K + 69, 3);
        refused(file, "0.gram", 70 * K + 2, 1e30);
        refused(file, "0.gram", 70 * K + 70, 1e-30);
        Path bad = changed(file, Map.of(), (name, bytes) -> name.equals("0.max") ? with(bytes, 0, -1e300) : bytes);
        assertThrows(MalformedModelException.class, () -> Statistics.load(bad).close());
        Path half = changed(file, Map.of(), (name, bytes) -> name.equals("0.max") ? null : bytes);
        assertThrows(MalformedModelException.class, () -> Statistics.load(half).close());
        Path none = changed(file, Map.of("0.axis", ""));
        MalformedModelException e = assertThrows(MalformedModelException.class, () -> Statistics.load(none).close());
        assertTrue(e.getMessage().contains("0.axis"), e.getMessage());
    }

    @Test
    void whatNothingIsKnownOf() throws Exception {
        TestModel model = TestModel.of(10, 21);
        TestModel.GraphBuilder branch = new TestModel.GraphBuilder("then").init("inner", DType.F32, TestModel.random(1, 16), 4, 4)
                .node("Relu", "s", "x").node("MatMul", "r", "s", "inner").output("r", TensorInfo.FLOAT, -1, 4);
        model.graph.input("c", 9, 1).input("x", TensorInfo.FLOAT, -1, 4).input("v", TensorInfo.FLOAT, 1, 2, 5, 5, 5)
                .init("w", DType.F32, TestModel.random(2, 16), 4, 4).init("late", DType.F32, TestModel.random(3, 16), 4, 4)
                .init("k", DType.F32, TestModel.random(4, 3 * 2 * 27), 3, 2, 3, 3, 3)
                .output("a", TensorInfo.FLOAT, -1, 4).output("b", TensorInfo.FLOAT, -1, 4).output("d", TensorInfo.FLOAT, 1, 3, 3, 3, 3);
        model.graph.node("MatMul", "a", "x", "w").node("Conv", "d", "v", "k").node("MatMul", "b", "a", "late")
                .node(new TestModel.NodeBuilder("If", "y", "c").graph("then_branch", branch).graph("else_branch", branch));
        try (OnnxModel m = OnnxModel.open(model.write(folder, "m.onnx"), false); Executor executor = Executor.cpu(1); Arena arena = Arena.ofShared();
                Gatherer gatherer = new Gatherer(Request.feeds(m.graph().orElseThrow(), true), executor)) {
            for (dev.tensorpress.model.Graph.Value value : gatherer.values()) {
                Shape shape = value.name().equals("v") ? Shape.of(1, 2, 5, 5, 5) : Shape.of(3, 4);
                if (!value.name().equals("a")) {
                    gatherer.accept(0, value, new Tensor(DType.F32, shape, arena.allocate(4 * shape.elements(), 64)));
                }
            }
            try (Statistics s = gatherer.finish("", 1, "zeros")) {
                Map<String, String> unknown = new TreeMap<>();
                InputStatistics.unknown(s, m, m.graph().orElseThrow()).forEach((w, why) -> unknown.put(w.name(), why));
                assertEquals(List.of("If_y/else_branch/inner", "If_y/then_branch/inner", "k", "late"), List.copyOf(unknown.keySet()), unknown.toString());
                assertTrue(unknown.get("If_y/then_branch/inner").contains("subgraph"), unknown.toString());
                assertTrue(unknown.get("k").contains("three axes"), unknown.toString());
                assertTrue(unknown.get("late").contains("not computed"), unknown.toString());
            }
        }
    }
}
