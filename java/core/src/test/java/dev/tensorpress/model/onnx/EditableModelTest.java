package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.model.Destination;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

final class EditableModelTest {
    private static final int FLOATS = 1;

    @TempDir
    Path folder;

    private Path out() {
        return folder.resolve("out.onnx");
    }

    private Set<Path> edit(Path model, Consumer<EditableModel> change) throws IOException {
        try (Arena arena = Arena.ofShared(); OnnxModel m = OnnxModel.open(model, false)) {
            EditableModel e = EditableModel.of(m, arena);
            change.accept(e);
            long bytes = e.bytes();
            Set<Path> files = e.write(Destination.replacing(out()));
            long sum = 0;
            for (Path file : files) {
                sum += Files.size(file);
            }
            assertEquals(bytes, sum);
            return files;
        }
    }

    private static TestModel product(float[] weight, int in, int out) {
        TestModel m = new TestModel();
        m.graph.node("MatMul", "y", "x", "w").init("w", DType.F32, weight, in, out).input("x", FLOATS, 2, in).output("y", FLOATS, 2, out);
        return m;
    }

    @Test
    void nodesAndConstantsCanBeAddedAndExchanged() throws Exception {
        float[] weight = TestModel.random(1, 12);
        Path model = product(weight, 4, 3).write(folder, "in.onnx");
        edit(model, e -> {
            EditableGraph g = e.graph();
            EditableNode product = g.nodes().getFirst();
            assertTrue(product.is("MatMul"));
            assertEquals(List.of("x", "w"), product.inputs());
            assertEquals(Shape.of(4, 3), g.initializers().get("w").shape());
            String turned = e.fresh("w");
            assertEquals("w_2", turned);
            EditableNode transpose = new EditableNode("Transpose", "", e.fresh("t"), List.of("w"), List.of(turned)).setAll("perm", 1, 0);
            g.nodes().addFirst(transpose);
            EditableNode gemm = new EditableNode("Gemm", "", product.name(), List.of("x", turned), product.outputs()).set("transB", 1).set("alpha", 2f);
            assertEquals(1, gemm.integer("transB", 0));
            assertEquals(2f, gemm.real("alpha", 1));
            assertArrayEquals(new long[] {1, 0}, transpose.integers("perm").orElseThrow());
            g.nodes().set(1, gemm);
        });
        float[] before = Ort.run(model, 3, 1);
        float[] after = Ort.run(out(), 3, 1);
        assertEquals(before.length, after.length);
        for (int i = 0; i < before.length; i++) {
            assertEquals(2 * before[i], after[i], 1e-5);
        }
    }

    @Test
    void numbersOfAnyFieldAreRead() throws Exception {
        TestModel m = new TestModel();
        m.graph.node("Reshape", "y", "x", "shape").init(TestModel.head("shape", TensorInfo.INT64, 2).integer(7, 3).integer(7, -1))
                .node("Cast", "z", "small").init(TestModel.head("small", TensorInfo.INT8, 2).integer(5, -1).integer(5, 5))
                .node("Identity", "words", "text").init(TestModel.head("text", TensorInfo.STRING, 1).string(6, "word"))
                .input("x", FLOATS, 6, 2).output("y", FLOATS, 3, 4).output("z", FLOATS, 2).output("words", TensorInfo.STRING, 1);
        m.graph.nodes.set(1, new TestModel.NodeBuilder("Cast", "z", "small").set("to", 1).proto.toBytes());
        Path model = m.write(folder, "in.onnx");
        edit(model, e -> {
            EditableTensor shape = e.graph().initializers().get("shape");
            assertArrayEquals(new long[] {3, -1}, shape.integers(2).orElseThrow());
            assertTrue(shape.integers(1).isEmpty());
            assertTrue(shape.same(EditableTensor.of(3, -1)));
            assertFalse(shape.same(EditableTensor.of(3, 4)));
            assertEquals(DType.I8, e.graph().initializers().get("small").type().orElseThrow());
            EditableTensor text = e.graph().initializers().get("text");
            assertTrue(text.type().isEmpty());
            assertThrows(IllegalStateException.class, text::tensor);
            e.graph().initializers().put("shape", EditableTensor.of(4, 3));
            e.graph().outputs().remove("y");
            e.graph().outputs().put("y", EditableValue.read(TestModel.value("y", FLOATS, 4, 3).toBytes()));
        });
        assertEquals("[4, 3] [, ]", Ort.shape(out(), "y"));
        float[] before = Ort.run(model, 3, 1);
        float[] after = Ort.run(out(), 3, 1);
        assertEquals(before.length, after.length);
    }

    @Test
    void tooFewNumbersAreToldWhenTheyAreRead() throws Exception {
        TestModel m = new TestModel();
        m.graph.node("Reshape", "y", "x", "shape").init(TestModel.head("shape", TensorInfo.INT64, 1 << 20, 1 << 20).integer(7, 3))
                .input("x", FLOATS, 6).output("y", FLOATS, 6);
        Path model = m.write(folder, "in.onnx");
        try (Arena arena = Arena.ofConfined(); OnnxModel opened = OnnxModel.open(model, false)) {
            String message = assertThrows(MalformedModelException.class, () -> EditableModel.of(opened, arena)).getMessage();
            assertTrue(message.contains("asks for 1099511627776 numbers"), message);
        }
    }

    @Test
    void whatIsSaidOfValuesIsReadAndForgotten() throws Exception {
        TestModel m = product(TestModel.random(1, 12), 4, 3);
        m.graph.inputs.set(0, TestModel.value("x", FLOATS, -7, 4).toBytes());
        m.graph.node("Relu", "z", "y").output("z", FLOATS, 2, 3);
        m.graph.more.message(13, TestModel.value("y", FLOATS, 2, 3)).message(13, TestModel.value("nobody", FLOATS, 2));
        Path model = m.write(folder, "in.onnx");
        edit(model, e -> {
            List<EditableValue.Axis> axes = e.graph().inputs().get("x").axes().orElseThrow();
            assertEquals(List.of(new EditableValue.Axis(-1, "d7"), new EditableValue.Axis(4, "")), axes);
            assertEquals(DType.F32, e.graph().values().get("y").type().orElseThrow());
        });
        try (Arena arena = Arena.ofConfined(); OnnxModel opened = OnnxModel.open(out(), false)) {
            assertEquals(Set.of("y"), EditableModel.of(opened, arena).graph().values().keySet());
        }
    }

    @Test
    void graphsInsideAreEditedToo() throws Exception {
        TestModel m = new TestModel();
        TestModel.GraphBuilder then = new TestModel.GraphBuilder("then").node("Add", "a", "x", "one")
                .init("one", DType.F32, new float[] {1}, 1).output("a", FLOATS, 2);
        TestModel.GraphBuilder other = new TestModel.GraphBuilder("else").node("Identity", "b", "x").output("b", FLOATS, 2);
        m.graph.node(new TestModel.NodeBuilder("If", "y", "c").graph("then_branch", then).graph("else_branch", other))
                .input("c", TensorInfo.BOOL).input("x", FLOATS, 2).output("y", FLOATS, 2);
        Path model = m.write(folder, "in.onnx");
        edit(model, e -> {
            assertEquals(3, e.graph().all().size());
            EditableGraph inside = e.graph().nodes().getFirst().graphs().getFirst();
            assertEquals(e.graph(), inside.parent());
            inside.nodes().set(0, new EditableNode("Sub", "", "s", List.of("x", "one"), List.of("a")));
        });
        float[] before = Ort.run(model, 3, 1);
        float[] after = Ort.run(out(), 3, 1);
        assertEquals(before[0] - 2, after[0], 1e-5);
    }

    @Test
    void constantsThatWereInDataFilesGoToOne() throws Exception {
        TestModel m = product(TestModel.random(1, 4096), 64, 64);
        Path big = folder.resolve("in.bin");
        Files.write(big, TestModel.raw(DType.F32, TestModel.random(5, 4096)));
        m.graph.initializers.set(0, TestModel.head("w", FLOATS, 64, 64).message(13, new Proto().string(1, "location").string(2, "in.bin"))
                .integer(14, 1).toBytes());
        Path model = m.write(folder, "in.onnx");
        Set<Path> files = edit(model, e -> {
            e.graph().nodes().add(new EditableNode("MatMul", "", "again", List.of("y", "w"), List.of("z")));
            e.graph().outputs().put("z", EditableValue.read(TestModel.value("z", FLOATS, 2, 64).toBytes()));
        });
        assertEquals(2, files.size());
        assertTrue(files.iterator().next().getFileName().toString().matches("in\\.[0-9a-f]{8}\\.data"), files.toString());
        assertEquals(2 * Ort.run(model, 3, 1).length, Ort.run(out(), 3, 1).length);
        try (Arena arena = Arena.ofConfined(); OnnxModel opened = OnnxModel.open(out(), false)) {
            EditableModel e = EditableModel.of(opened, arena);
            assertThrows(UnsupportedRequestException.class, () -> e.write(Destination.replacing(out())));
        }
    }

    @Test
    void beforeVersionFourConstantsAreInputs() throws Exception {
        TestModel m = product(TestModel.random(1, 12), 4, 3);
        m.ir = 3;
        m.opset = 8;
        m.graph.input("w", FLOATS, 4, 3);
        Path model = m.write(folder, "in.onnx");
        edit(model, e -> {
            assertEquals(Set.of("x"), e.graph().inputs().keySet());
            e.graph().initializers().put("v", e.graph().initializers().remove("w"));
            e.graph().nodes().getFirst().inputs().set(1, "v");
        });
        assertArrayEquals(Ort.run(model, 3, 1), Ort.run(out(), 3, 1));
        try (OnnxModel opened = OnnxModel.open(out(), false)) {
            assertEquals(List.of("x", "v"), opened.parsed().graph.inputs.stream().map(OnnxGraph.Described::name).toList());
        }
    }

    @Test
    void aModelCanBeMadeOfNothing() throws Exception {
        EditableModel made = EditableModel.create(17);
        EditableGraph g = made.graph();
        List<EditableValue.Axis> axes = List.of(new EditableValue.Axis(-1, "batch"), new EditableValue.Axis(2, ""));
        g.inputs().put("x", EditableValue.of("x", DType.F32, axes));
        g.outputs().put("y", EditableValue.of("y", DType.F32, List.of(new EditableValue.Axis(-1, ""), new EditableValue.Axis(2, ""))));
        g.initializers().put("b", EditableTensor.of(1f, -1f));
        g.nodes().add(new EditableNode("Add", "", "", List.of("x", "b"), List.of("y")));
        assertEquals(Set.of(out()), made.write(Destination.of(out())));
        assertEquals(made.bytes(), Files.size(out()));
        try (Arena arena = Arena.ofConfined(); OnnxModel opened = OnnxModel.open(out(), false)) {
            EditableModel read = EditableModel.of(opened, arena);
            assertEquals(17, read.opsets().get(""));
            assertEquals(axes, read.graph().inputs().get("x").axes().orElseThrow());
            assertEquals(DType.F32, read.graph().inputs().get("x").type().orElseThrow());
            assertEquals(-1, read.graph().outputs().get("y").axes().orElseThrow().getFirst().size());
        }
        assertEquals(6, Ort.run(out(), 1, 1).length); // a batch of 3
    }
}
