package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.tensorpress.model.Model;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Where elements lie, of whatever type, in graphs inside graphs too. */
final class ArraysTest {
    @Test
    void allTensorsAreFound(@TempDir Path temp) throws IOException {
        byte[] external = new byte[40];
        Arrays.fill(external, 8, 40, (byte) 9);
        Files.write(temp.resolve("data"), external);
        byte[] codes = {1, 2, 3, 4, 5, 6};
        float[] values = TestModel.random(1, 6);
        TestModel m = TestModel.of(8, 17);
        TestModel.GraphBuilder inner = new TestModel.GraphBuilder("inner").init("w", DType.F16, values, 2, 3).node("Identity", "o", "w")
                .output("o", 10, 2, 3);
        m.graph.init("w", DType.F32, values, 2, 3)
                .init(TestModel.head("codes", TensorInfo.UINT8, 6).bytes(9, codes))
                .init(TestModel.head("nibbles", TensorInfo.UINT4, 11).bytes(9, codes))
                .init(TestModel.head("outside", TensorInfo.INT64, 4).message(13, new Proto().string(1, "location").string(2, "data"))
                        .message(13, new Proto().string(1, "offset").string(2, "8"))
                        .message(13, new Proto().string(1, "length").string(2, "32")).integer(14, 1))
                .node(new TestModel.NodeBuilder("Constant", "k").tensor("value", TestModel.tensor("", DType.F32, values, 6)))
                .node(new TestModel.NodeBuilder("If", "y", "c").graph("then_branch", inner).graph("else_branch", inner))
                .input("c", 9).output("y", 10, 2, 3);
        Map<String, Model.Array> found = new HashMap<>();
        Path file = m.write(temp, "m.onnx");
        try (OnnxModel model = OnnxModel.open(file, false)) {
            for (Model.Array a : model.arrays()) {
                found.put(a.name(), a);
            }
            assertEquals(model.arrays().size(), found.size());
            assertEquals(7, found.size());
            for (var w : model.weights()) {
                assertEquals(w.tensor().shape(), found.get(w.name()).shape());
            }
        }
        assertArrayEquals(TestModel.raw(DType.F32, values), bytes(found.get("w")));
        assertArrayEquals(TestModel.raw(DType.F32, values), bytes(found.get("k")));
        assertArrayEquals(codes, bytes(found.get("codes")));
        assertArrayEquals(codes, bytes(found.get("nibbles")));
        assertEquals(DType.U4, found.get("nibbles").type());
        assertEquals(DType.I64, found.get("outside").type());
        assertArrayEquals(Arrays.copyOfRange(external, 8, 40), bytes(found.get("outside")));
        List<String> inside = found.keySet().stream().filter(n -> n.contains("branch")).toList();
        assertEquals(2, inside.size());
        for (String name : inside) {
            assertArrayEquals(TestModel.raw(DType.F16, values), bytes(found.get(name)));
        }
    }

    private static byte[] bytes(Model.Array a) throws IOException {
        byte[] all = Files.readAllBytes(a.file());
        return Arrays.copyOfRange(all, (int) a.offset(), (int) (a.offset() + a.bytes()));
    }
}
