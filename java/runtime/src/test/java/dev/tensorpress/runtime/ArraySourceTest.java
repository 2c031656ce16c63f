package dev.tensorpress.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ArraySourceTest {
    @TempDir
    Path folder;

    private static Tensor floats(MemorySegment data, long... dims) {
        return new Tensor(DType.F32, Shape.of(dims), data);
    }

    private Path model() throws Exception {
        return new TinyModel().node("Relu", "x -> y").input("x", TinyModel.FLOAT, "n 2").output("y", TinyModel.FLOAT, "n 2")
                .write(folder.resolve("m.onnx"));
    }

    @Test
    void samplesLieAlongTheFirstAxis() throws Exception {
        float[] values = {1, 2, 3, 4, 5, 6};
        try (Arena arena = Arena.ofConfined()) {
            for (MemorySegment data : List.of(MemorySegment.ofArray(values), arena.allocateFrom(ValueLayout.JAVA_FLOAT, values))) {
                Samples samples = Samples.arrays(Map.of("x", floats(data, 3, 2)));
                assertEquals(3, samples.size());
                try (SampleReader reader = SampleReader.open(model(), samples)) {
                    Tensor last = reader.read(2, arena).get("x");
                    assertEquals(Shape.of(1, 2), last.shape());
                    assertArrayEquals(new float[] {5, 6}, last.data().toArray(ValueLayout.JAVA_FLOAT));
                }
            }
        }
    }

    @Test
    void modelsAreComparedByLabels() throws Exception {
        Samples samples = Samples.arrays(Map.of("x", floats(MemorySegment.ofArray(new float[] {1, 2, 4, 3, 5, 6}), 3, 2)));
        Comparison c = Evaluation.samples(model(), model(), samples,
                Evaluation.Options.DEFAULT.warmup(0).runs(1).threads(1).tasks(Tasks.NONE.labels(List.of(1, 1, 1))));
        assertEquals("arrays", c.inputs());
        assertEquals(2.0 / 3, c.tasks().getFirst().candidate());
    }

    @Test
    void whatDoesNotFitIsRefused() throws Exception {
        Tensor x = floats(MemorySegment.ofArray(new float[6]), 3, 2);
        assertThrows(IllegalArgumentException.class, () -> Samples.arrays(Map.of()));
        assertThrows(IllegalArgumentException.class, () -> Samples.arrays(Map.of("x", floats(MemorySegment.ofArray(new float[1])))));
        assertThrows(IllegalArgumentException.class, () -> Samples.arrays(Map.of("x", x, "y", floats(MemorySegment.ofArray(new float[4]), 2, 2))));
        try (Arena arena = Arena.ofConfined(); SampleReader other = SampleReader.open(model(), Samples.arrays(Map.of("z", x)));
                SampleReader wide = SampleReader.open(model(), Samples.arrays(Map.of("x", floats(MemorySegment.ofArray(new float[6]), 2, 3))))) {
            assertTrue(assertThrows(InputException.class, () -> other.read(0, arena)).getMessage().contains("has no input z, but x"));
            assertTrue(assertThrows(InputException.class, () -> wide.read(0, arena)).getMessage().contains("does not fit the input x"));
        }
    }
}
