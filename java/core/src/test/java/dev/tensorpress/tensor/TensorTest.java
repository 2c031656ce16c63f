package dev.tensorpress.tensor;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.lang.foreign.MemorySegment;
import org.junit.jupiter.api.Test;

class TensorTest {
    @Test
    void shapesCountTheirElements() {
        assertEquals(1, Shape.of().elements());
        assertEquals("scalar", Shape.of().toString());
        assertEquals(24, Shape.of(2, 3, 4).elements());
        assertEquals("2x3x4", Shape.of(2, 3, 4).toString());
        assertEquals(4, Shape.of(2, 3, 4).dim(-1));
        assertEquals(0, Shape.of(1L << 62, 1L << 62, 0).elements());
        assertThrows(ArithmeticException.class, () -> Shape.of(1L << 62, 2));
        assertThrows(IllegalArgumentException.class, () -> Shape.of(0, -1));
        assertEquals(Shape.of(2, 3), Shape.of(2, 3));
        assertNotEquals(Shape.of(2, 3), Shape.of(3, 2));
    }

    @Test
    void nibblesRoundUpToBytes() {
        assertEquals(3, DType.I4.bytes(5));
        assertEquals(0, DType.U4.bytes(0));
        assertEquals(20, DType.F32.bytes(5));
        assertThrows(ArithmeticException.class, () -> DType.F32.bytes(1L << 62));
    }

    @Test
    void aTensorHasExactlyItsBytes() {
        MemorySegment data = MemorySegment.ofArray(new byte[12]);
        assertEquals(12, new Tensor(DType.F32, Shape.of(3), data).bytes());
        assertThrows(IllegalArgumentException.class, () -> new Tensor(DType.F32, Shape.of(2), data));
        assertThrows(IllegalArgumentException.class, () -> new Tensor(DType.F32, Shape.of(4), data));
    }
}
