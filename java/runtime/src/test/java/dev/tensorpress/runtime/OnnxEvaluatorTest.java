package dev.tensorpress.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.structure.Cleanup;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

final class OnnxEvaluatorTest {
    @TempDir
    Path folder;

    private Path model() throws Exception {
        return new TinyModel().node("Relu", "x -> y").input("x", TinyModel.FLOAT, "2").output("y", TinyModel.FLOAT, "2").write(folder.resolve("tiny.onnx"));
    }

    private static EditableNode node(String type, String out, String... in) {
        return new EditableNode(type, "", "", List.of(in), List.of(out));
    }

    @Test
    void constantsOfEachKindAreComputed() throws Exception {
        try (Arena arena = Arena.ofShared(); OnnxModel opened = OnnxModel.open(model(), false)) {
            EditableModel m = EditableModel.of(opened, arena);
            m.graph().initializers().put("w", EditableTensor.of(-1.5f, 2.5f));
            m.graph().nodes().addFirst(node("Add", "z", "x", "sum"));
            int code = 0;
            for (DType type : List.of(DType.F32, DType.F64, DType.F16, DType.I8, DType.U8, DType.I16, DType.I32, DType.I64, DType.BOOL)) {
                m.graph().nodes().addFirst(node("Cast", "c" + code++, "abs").set("to", EditableTensor.code(type)));
            }
            m.graph().nodes().addFirst(node("Add", "sum", "abs", "abs"));
            m.graph().nodes().addFirst(node("Abs", "abs", "w"));
            for (int i = 0; i < code; i++) {
                m.graph().nodes().add(node("Shape", "s" + i, "c" + i));
                m.graph().outputs().put("s" + i, m.graph().outputs().get("y"));
            }
            m.graph().outputs().put("z", m.graph().outputs().get("y"));
            List<Cleanup.Done> done = new Cleanup(m, arena, 0, new OnnxEvaluator(1)).run(EnumSet.of(Cleanup.Step.CONSTANTS));
            assertEquals(2 + 2 * code, done.getFirst().nodes(), done.toString());
            Map<String, EditableTensor> constants = m.graph().initializers();
            assertEquals(Set.of("w", "sum", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8"), constants.keySet());
            assertArrayEquals(new long[] {2}, constants.get("s4").integers(1).orElseThrow());
            assertEquals(EditableTensor.of(3f, 5f).tensor().data().mismatch(constants.get("sum").tensor().data()), -1);
        }
    }

    @Test
    void whatIsNoModelIsTold() throws Exception {
        Path file = Files.write(folder.resolve("bad.onnx"), new byte[] {1, 2, 3});
        try (Arena arena = Arena.ofConfined()) {
            assertThrows(MalformedModelException.class, () -> new OnnxEvaluator(1).evaluate(file, List.of("a"), arena));
        }
    }
}
