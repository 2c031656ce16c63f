package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.tensorpress.model.onnx.TestModel.NodeBuilder;
import dev.tensorpress.structure.Shapes;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

final class ShapesTest {
    private static final int FLOATS = 1;

    @TempDir
    Path folder;

    private void check(TestModel m, String value, String expected) throws Exception {
        try (Arena arena = Arena.ofConfined(); OnnxModel opened = OnnxModel.open(m.write(folder, "in.onnx"), false)) {
            assertEquals(expected, Shapes.of(EditableModel.of(opened, arena)).of(value).map(Object::toString).orElse("unknown"), value);
        }
    }

    private static NodeBuilder node(String op, String out, String... in) {
        return new NodeBuilder(op, out, in);
    }

    @Test
    void shapesThatNodesCompute() throws Exception {
        TestModel m = new TestModel();
        m.graph.longs("zero", 0).longs("four", 4).longs("minus", -1).longs("three", 3).longs("ends", 2)
                .node("Shape", "shape", "x").node("Gather", "batch", "shape", "zero").node("Slice", "front", "shape", "zero", "ends", "zero")
                .node(node("Concat", "split", "front", "four", "minus").set("axis", 0)).node("Reshape", "r", "x", "split")
                .node("Mul", "times", "batch", "four").node(node("Concat", "flat", "times", "minus").set("axis", 0)).node("Reshape", "f", "r", "flat")
                .node("Equal", "same", "split", "minus").node(node("ConstantOfShape", "ones", "three").tensor("value", TestModel.head("v", TensorInfo.INT64, 1)
                        .integer(7, 1))).node("Shape", "dims", "x").node("Equal", "none", "dims", "minus").node("Where", "w", "none", "ones", "dims")
                .node("Expand", "e", "one", "w").init("one", DType.F32, new float[] {1}, 1)
                .input("x", FLOATS, -1, -2, 12).output("f", FLOATS, -3, -4).output("e", FLOATS, -5, -6, -7);
        check(m, "r", "[d1, d2, 4, 3]");
        check(m, "f", "[4*d1, 3*d2]");
        check(m, "e", "[d1, d2, 12]");
        check(m, "times", "[1]");
    }

    @Test
    void windowsThatSlide() throws Exception {
        TestModel m = new TestModel();
        m.graph.init("w", DType.F32, new float[8 * 3 * 9], 8, 3, 3, 3)
                .node(node("Conv", "same", "x", "w").ints("pads", 1, 1, 1, 1)).node(node("Conv", "half", "x", "w").ints("strides", 2, 2).ints("pads", 1, 1, 1, 1))
                .node(node("MaxPool", "up", "x").ints("kernel_shape", 2, 2).ints("strides", 2, 2).set("ceil_mode", 1))
                .input("x", FLOATS, -1, 3, 15, -2).output("same", FLOATS, -1, 8, 15, -2).output("half", FLOATS, -1, 8, 8, -3).output("up", FLOATS, -1, 3, 8, -4);
        check(m, "same", "[d1, 8, 15, d2]");
        check(m, "half", "[d1, 8, 8, ?0]");
        check(m, "up", "[d1, 3, 8, ?1]");
    }

    /** What is said is used where nothing else is known, and where it does not contradict; what callers may replace is no constant. */
    @Test
    void whatTheFileSays() throws Exception {
        TestModel m = new TestModel();
        m.graph.node("NonZero", "n", "x").node("Transpose", "t", "n").node("Relu", "r", "x").node("Reshape", "s", "x", "to").longs("to", 6)
                .node(new NodeBuilder("Mystery", "u", "x").domain("other"))
                .input("x", FLOATS, 2, 3).input("to", TensorInfo.INT64, 1).output("t", TensorInfo.INT64, 5, 2).output("r", FLOATS, 9, 3).output("s", FLOATS, -4)
                .output("u", FLOATS, 7, -8);
        check(m, "n", "[2, ?0]");
        check(m, "t", "[5, 2]");
        check(m, "r", "[2, 3]");
        check(m, "s", "[?1]");
        check(m, "u", "[7, d8]");
        m = new TestModel();
        m.graph.node("Relu", "r", "x").input("x", FLOATS, -1, -1, 3).output("r", FLOATS, -1, -1, 3);
        check(m, "r", "[d1, ?0, 3]");
    }
}
