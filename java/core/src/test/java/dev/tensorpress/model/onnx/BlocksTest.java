package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.tensorpress.model.Destination;
import dev.tensorpress.structure.Blocks;
import dev.tensorpress.structure.Blocks.Block;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

final class BlocksTest {
    private static final int FLOATS = 1;
    private static final int ROWS = 5;
    private static final int WIDTH = 8;

    @TempDir
    Path folder;

    private final float[] x = TestModel.random(7, ROWS * WIDTH);

    /** z = relu(a W1) V1 + a with a = tanh(x), behind it or before it something else, and y = z' + relu(z' W2) V2; a V that is gone is zeros. */
    private Path model(boolean postNorm, boolean... gone) throws Exception {
        TestModel m = new TestModel();
        m.graph.node("Tanh", "a", "x").input("x", FLOATS, ROWS, WIDTH).output("y", FLOATS, ROWS, WIDTH);
        String before = "a";
        for (int i = 1; i <= 2; i++) {
            if (!postNorm) {
                m.graph.node("Sigmoid", "n" + i, before);
            }
            m.graph.node("MatMul", "h" + i, postNorm ? before : "n" + i, "w" + i).node("Relu", "r" + i, "h" + i).node("MatMul", "f" + i, "r" + i, "v" + i);
            String sum = i == 2 && !postNorm ? "y" : "s" + i;
            m.graph.node("Add", sum, i == 1 ? new String[] {"f1", before} : new String[] {before, "f2"});
            if (postNorm) {
                m.graph.node("Sigmoid", i == 2 ? "y" : "z1", sum);
            }
            before = postNorm ? "z1" : sum;
            m.graph.init("w" + i, DType.F32, TestModel.random(i, WIDTH * WIDTH), WIDTH, WIDTH);
            m.graph.init("v" + i, DType.F32, gone.length >= i && gone[i - 1] ? new float[WIDTH * WIDTH] : TestModel.random(2 + i, WIDTH * WIDTH), WIDTH, WIDTH);
        }
        return m.write(folder, "m.onnx");
    }

    private static List<Block> blocks(Path of) throws Exception {
        try (OnnxModel m = OnnxModel.open(of, false); Arena arena = Arena.ofConfined()) {
            return Blocks.of(EditableModel.of(m, arena));
        }
    }

    /** What is left computes what the whole does if the branch makes zeros. */
    @Test
    void whatIsLeftIsTheSumWithoutTheBranch() throws Exception {
        for (boolean postNorm : new boolean[] {true, false}) {
            Path whole = model(postNorm);
            List<Block> all = blocks(whole);
            assertEquals(2, all.size(), all.toString());
            String first = all.get(0).name();
            String second = all.get(1).name();
            assertEquals(new Block(first, "a", "f1", "s1", postNorm ? 3 : 4, 2 * 4 * WIDTH * WIDTH, Optional.empty()), all.get(0));
            for (boolean[] gone : new boolean[][] {{true, false}, {false, true}, {true, true}}) {
                String[] names = gone[0] && gone[1] ? new String[] {first, second} : new String[] {gone[0] ? first : second};
                whole = model(postNorm);
                Path out = folder.resolve("out.onnx");
                try (OnnxModel m = OnnxModel.open(whole, false); Arena arena = Arena.ofConfined()) {
                    EditableModel e = EditableModel.of(m, arena);
                    Blocks.remove(e, List.of(names));
                    assertEquals(4 - 2 * names.length, e.graph().initializers().size());
                    e.write(Destination.replacing(out));
                }
                float[] expected = Ort.run(model(postNorm, gone), x, ROWS, WIDTH)[0];
                assertArrayEquals(expected, Ort.run(out, x, ROWS, WIDTH)[0], 1e-6f);
            }
        }
    }

    /** Sums without products, of what is repeated, and of values that do not depend on each other are no blocks; what is read elsewhere stays. */
    @Test
    void othersAreNoBlocksOrHaveToStay() throws Exception {
        TestModel m = new TestModel();
        m.graph.node("Mul", "square", "x", "x").node("Add", "g", "x", "square");
        m.graph.node("MatMul", "p", "g", "w").node("MatMul", "q", "g", "v").node("Add", "t", "p", "q");
        m.graph.node(new TestModel.NodeBuilder("ReduceMean", "m", "t").ints("axes", 0).set("keepdims", 1L)).node("MatMul", "c", "m", "w")
                .node("Add", "d", "t", "c");
        m.graph.node("MatMul", "i", "d", "w").node("Relu", "inner", "i").node("MatMul", "o", "inner", "v").node("Add", "e", "d", "o");
        m.graph.node("MatMul", "k", "e", "w").node("MatMul", "l", "k", "v").node("Add", "n", "k", "l").node("Add", "y", "n", "e");
        m.graph.init("w", DType.F32, TestModel.random(1, WIDTH * WIDTH), WIDTH, WIDTH).init("v", DType.F32, TestModel.random(2, WIDTH * WIDTH), WIDTH, WIDTH);
        m.graph.input("x", FLOATS, ROWS, WIDTH).output("y", FLOATS, ROWS, WIDTH).output("inner", FLOATS, ROWS, WIDTH);
        Path in = m.write(folder, "others.onnx");
        List<Block> all = blocks(in);
        assertEquals(List.of("e", "n", "y"), all.stream().map(Block::sum).toList(), all.toString());
        assertEquals("'inner' is read outside of it", all.get(0).obstacle().orElseThrow());
        assertEquals(Optional.empty(), all.get(1).obstacle());
        assertEquals(0, all.get(1).bytes());
        assertEquals("other blocks lie within it", all.get(2).obstacle().orElseThrow());
        assertEquals(List.of(all.get(1)), Blocks.selected(all, List.of()));
        assertEquals(List.of(), Blocks.selected(all, List.of("*_e")));
        for (String name : List.of(all.get(0).name(), "other")) {
            try (OnnxModel opened = OnnxModel.open(in, false); Arena arena = Arena.ofConfined()) {
                EditableModel e = EditableModel.of(opened, arena);
                assertThrows(IllegalArgumentException.class, () -> Blocks.remove(e, List.of(name)));
            }
        }
    }
}
