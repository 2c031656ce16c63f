package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Merger;
import dev.tensorpress.Merger.Method;
import dev.tensorpress.Merger.Settings;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.TestModel.GraphBuilder;
import dev.tensorpress.model.onnx.TestModel.NodeBuilder;
import dev.tensorpress.model.safetensors.SmallFolder;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Models in ONNX merged: elements wherever they may lie, graphs that differ, data files. */
final class MergedModelTest {
    @TempDir
    Path temp;

    /** Weights in raw data, in the field of floats, as numbers of 32 bits, in a Constant, and in a graph inside. */
    private static TestModel model(int seed) {
        TestModel m = TestModel.of(8, 17);
        float[] typed = TestModel.random(seed + 1, 8 * 8);
        Proto floats = TestModel.head("typed", TensorInfo.FLOAT, 8, 8);
        Proto packed = new Proto();
        for (float x : typed) {
            floats.real(4, x);
            packed.real(4, x);
        }
        Proto halves = TestModel.head("halves", TensorInfo.FLOAT16, 8);
        for (float x : TestModel.random(seed + 2, 8)) {
            halves.integer(5, Float.floatToFloat16(x) & 0xffff);
        }
        GraphBuilder then = new GraphBuilder("then").init("inside", DType.F32, TestModel.random(seed + 3, 8), 8).node("Add", "o", "h", "inside")
                .output("o", 1, -1, 8);
        GraphBuilder other = new GraphBuilder("else").node("Identity", "o", "h").output("o", 1, -1, 8);
        m.graph.init("w", DType.F32, TestModel.random(seed, 8 * 8), 8, 8).init(floats).init(halves).longs("shape", -1, 8)
                .node(new NodeBuilder("Constant", "c", new String[0]).tensor("value", TestModel.tensor("", DType.F32, TestModel.random(seed + 4, 8), 8)))
                .node("MatMul", "a", "x", "w").node("MatMul", "b", "a", "typed").node("Add", "d", "b", "c").node("Reshape", "h", "d", "shape")
                .node(new NodeBuilder("Cast", "f", "halves").set("to", 1)).node("Add", "g", "h", "f")
                .node(new NodeBuilder("If", "y", "t").graph("then_branch", then).graph("else_branch", other))
                .input("x", 1, -1, 8).input("t", 9, 1).output("y", 1, -1, 8).output("g", 1, -1, 8);
        return m;
    }

    private Path written(int seed, Consumer<TestModel> change) throws IOException {
        TestModel m = model(seed);
        change.accept(m);
        return m.write(temp, "m" + seed + ".onnx");
    }

    private static Map<String, float[]> values(Path model) throws IOException {
        Map<String, float[]> all = new TreeMap<>();
        try (OnnxModel m = OnnxModel.open(model, false)) {
            for (Weight w : m.weights()) {
                float[] x = new float[(int) w.tensor().shape().elements()];
                for (int i = 0; i < x.length; i++) {
                    x[i] = Quantize.element(w.tensor(), i);
                }
                all.put(w.name(), x);
            }
        }
        return all;
    }

    private Merger.Report merge(Settings settings, Path a, Path b, Path base, String out) throws IOException {
        try (Merger merger = Merger.open(List.of(a, b), base, Merger.Options.DEFAULT)) {
            return merger.merge(settings, temp.resolve(out));
        }
    }

    @Test
    void elementsAreMergedWhereverTheyLie() throws Exception {
        Path a = written(10, m -> { });
        Path b = written(20, m -> { });
        for (Method method : List.of(Method.MEAN, Method.SLERP)) {
            Merger.Report report = merge(Settings.of(method), a, b, null, method.id() + ".onnx");
            assertEquals(5, report.merged());
            assertEquals(List.of(temp.resolve(method.id() + ".onnx")), report.files());
            assertTrue(Ort.run(report.output(), 1, 2).length > 0);
        }
        Map<String, float[]> x = values(a);
        Map<String, float[]> y = values(b);
        assertEquals(5, x.size());
        values(temp.resolve("mean.onnx")).forEach((name, found) -> {
            for (int i = 0; i < found.length; i++) {
                float mean = (float) (0.5 * x.get(name)[i] + 0.5 * y.get(name)[i]);
                assertEquals(name.equals("halves") ? SmallFolder.round(mean, DType.F16) : mean, found[i], name);
            }
        });
        merge(Settings.of(Method.TASK_ARITHMETIC), a, a, b, "task.onnx");
        values(temp.resolve("task.onnx")).forEach((name, found) -> {
            for (int i = 0; i < found.length; i++) {
                float task = (float) (y.get(name)[i] + 2 * ((double) x.get(name)[i] - y.get(name)[i]));
                assertEquals(name.equals("halves") ? SmallFolder.round(task, DType.F16) : task, found[i], name);
            }
        });
    }

    /** But for the elements, the file stays as it is. */
    @Test
    void aModelMergedWithItselfIsTheSameFile() throws Exception {
        Path a = temp.resolve("plain.onnx");
        TestModel m = TestModel.of(8, 17);
        m.graph.init("w", DType.F32, TestModel.random(1, 64), 8, 8).node("MatMul", "y", "x", "w").input("x", 1, -1, 8).output("y", 1, -1, 8);
        Files.write(a, m.bytes());
        merge(Settings.of(Method.MEAN), a, a, null, "same.onnx");
        assertArrayEquals(Files.readAllBytes(a), Files.readAllBytes(temp.resolve("same.onnx")));
    }

    private String refused(Consumer<TestModel> change) throws IOException {
        Path a = written(10, m -> { });
        Path b = written(20, change);
        return assertThrows(UnsupportedRequestException.class, () -> Merger.open(List.of(a, b), null, Merger.Options.DEFAULT).close()).getMessage();
    }

    @Test
    void graphsThatDifferAreRefused() throws IOException {
        assertTrue(refused(m -> m.graph.nodes.set(3, new NodeBuilder("Sub", "d", "b", "c").proto.toBytes())).endsWith("first in node Add Add_d"));
        assertTrue(refused(m -> m.graph.nodes.set(2, new NodeBuilder("MatMul", "b", "x", "typed").proto.toBytes())).endsWith("first in node MatMul MatMul_b"));
        assertTrue(refused(m -> m.graph.nodes.set(5, new NodeBuilder("Cast", "f", "halves").set("to", 10).proto.toBytes())).endsWith("first in node Cast Cast_f"));
        assertTrue(refused(m -> m.graph.node("Identity", "more", "x")).endsWith("first in the model"));
        assertTrue(refused(m -> m.opset = 18).endsWith("first in an operator set"));
        assertTrue(refused(m -> m.graph.initializers.set(3, new GraphBuilder("").longs("shape", 1, 8).initializers.getFirst())).endsWith("first in constant 'shape'"));
        assertTrue(refused(m -> m.graph.outputs.removeLast()).endsWith("first in the model"));
        GraphBuilder then = new GraphBuilder("then").init("inside", DType.F32, TestModel.random(1, 8), 8).node("Mul", "o", "h", "inside").output("o", 1, -1, 8);
        GraphBuilder other = new GraphBuilder("else").node("Identity", "o", "h").output("o", 1, -1, 8);
        assertTrue(refused(m -> m.graph.nodes.set(7, new NodeBuilder("If", "y", "t").graph("then_branch", then).graph("else_branch", other).proto.toBytes()))
                .endsWith("first in node Add Add_o"));
        assertTrue(refused(m -> m.graph.init("unread", DType.F32, new float[] {1}, 1)).contains("unread is there alone"));
    }

    /** Names of nodes and remarks mean nothing. */
    @Test
    void whatComputesTheSameIsMerged() throws IOException {
        Path a = written(10, m -> { });
        Path b = written(20, m -> {
            m.before.string(3, "9.9");
            m.after.string(6, "remark").message(14, new Proto().string(1, "k").string(2, "v"));
            NodeBuilder add = new NodeBuilder("Add", "d", "b", "c");
            add.proto.string(6, "a sum");
            m.graph.nodes.set(3, add.proto.toBytes());
            m.graph.more.message(13, TestModel.value("a", 1, -1, 8));
        });
        assertEquals(5, merge(Settings.of(Method.MEAN), a, b, null, "out.onnx").merged());
        Path folder = new SmallFolder(1).add("w", DType.F32, 8, 8).write(temp.resolve("tensors"), 1);
        String message = assertThrows(UnsupportedRequestException.class,
                () -> Merger.open(List.of(a, folder), null, Merger.Options.DEFAULT).close()).getMessage();
        assertTrue(message.contains("is a model in safetensors, and") && message.contains("one in ONNX"), message);
    }

    /** A weight that is merged some rows at a time, in a data file. */
    @Test
    void dataFilesAreMerged() throws Exception {
        int rows = 2100;
        int cols = 2500;
        float[][] x = new float[2][];
        Path[] paths = new Path[2];
        for (int j = 0; j < 2; j++) {
            x[j] = TestModel.random(30 + j, rows * cols);
            Path folder = Files.createDirectories(temp.resolve("large" + j));
            Files.write(folder.resolve("w.bin"), TestModel.raw(DType.F32, x[j]));
            TestModel m = TestModel.of(8, 17);
            Proto tensor = TestModel.head("w", TensorInfo.FLOAT, rows, cols).message(13, new Proto().string(1, "location").string(2, "w.bin"))
                    .message(13, new Proto().string(1, "length").string(2, Integer.toString(4 * rows * cols))).integer(14, 1);
            m.graph.init(tensor).node("MatMul", "y", "x", "w").input("x", 1, -1, rows).output("y", 1, -1, cols);
            paths[j] = m.write(folder, "m.onnx");
        }
        byte[] before = Files.readAllBytes(temp.resolve("large0/w.bin"));
        // Beside the first model, whose data file stays its own.
        Merger.Report report = merge(Settings.of(Method.MEAN), paths[0], paths[1], null, "large0/merged.onnx");
        assertEquals(2, report.files().size());
        float[] found = values(report.output()).get("w");
        for (int i = 0; i < found.length; i++) {
            assertEquals((float) (0.5 * x[0][i] + 0.5 * x[1][i]), found[i]);
        }
        assertArrayEquals(before, Files.readAllBytes(temp.resolve("large0/w.bin")));
        assertFalse(Ort.run(report.output(), 1, 2).length == 0);
        for (String out : List.of("large1/w.bin", "large1/m.onnx")) {
            try (Merger merger = Merger.open(List.of(paths), null, new Merger.Options(1, false, true, false, 1 << 20, Map.of(), null))) {
                assertThrows(IllegalArgumentException.class, () -> merger.merge(Settings.of(Method.MEAN), temp.resolve(out)));
            }
        }
    }

    @Test
    void sparseInitializersStayWhereTheyAreAlike() throws IOException {
        for (int other : new int[] {7, 8}) {
            Path[] paths = new Path[2];
            for (int j = 0; j < 2; j++) {
                TestModel m = TestModel.of(8, 17);
                Proto values = TestModel.tensor("s", DType.F32, new float[] {3, j == 0 ? 7 : other}, 2);
                Proto indices = new Proto().integer(1, 2).integer(2, 7).bytes(9, new byte[] {1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0});
                m.graph.more.message(15, new Proto().message(1, values).message(2, indices).integer(3, 4));
                m.graph.init("w", DType.F32, TestModel.random(j, 4), 4).node("Add", "y", "w", "s").output("y", 1, 4);
                paths[j] = m.write(temp, "sparse" + j + ".onnx");
            }
            if (other == 7) {
                assertEquals(1, merge(Settings.of(Method.MEAN), paths[0], paths[1], null, "out.onnx").kept());
            } else {
                assertTrue(assertThrows(UnsupportedRequestException.class, () -> Merger.open(List.of(paths), null, Merger.Options.DEFAULT).close())
                        .getMessage().endsWith("first in a sparse initializer"));
            }
        }
    }
}
