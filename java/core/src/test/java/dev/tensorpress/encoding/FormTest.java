package dev.tensorpress.encoding;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.tensorpress.encoding.Form.Grid;
import dev.tensorpress.encoding.Form.Quantized;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import org.junit.jupiter.api.Test;

class FormTest {
    @Test
    void gridsFollowTheAxis() {
        Shape matrix = Shape.of(70, 30);
        assertEquals(new Grid(70, 30, 70, 30), Grid.of(matrix, -1, 0));
        assertEquals(new Grid(70, 30, 1, 30), Grid.of(matrix, 0, 0));
        assertEquals(new Grid(70, 30, 70, 1), Grid.of(matrix, 1, 0));
        assertEquals(new Grid(70, 30, 32, 1), Grid.of(matrix, 0, 32));
        assertEquals(new Grid(70, 30, 1, 16), Grid.of(matrix, 1, 16));
        assertEquals(90, Grid.of(matrix, 0, 32).groups());
        assertEquals(140, Grid.of(matrix, 1, 16).groups());
        assertEquals(new Grid(8, 27, 1, 27), Grid.of(Shape.of(8, 3, 3, 3), 0, 0));
        assertEquals(new Grid(72, 3, 72, 1), Grid.of(Shape.of(8, 3, 3, 3), 3, 0));
        assertEquals(new Grid(128, 5, 32, 1), Grid.of(Shape.of(2, 64, 5), 1, 32));
        assertThrows(IllegalArgumentException.class, () -> Grid.of(Shape.of(2, 60, 5), 1, 32));
        assertThrows(IllegalArgumentException.class, () -> Grid.of(Shape.of(8, 4, 3, 3), 1, 0));
    }

    @Test
    void sizesCountPaddingScalesAndZeroPoints() {
        Shape shape = Shape.of(70, 30);
        Quantized q = new Quantized(4, 0, 32, false, Form.Activations.FLOAT, DType.U4, DType.F16, true, true);
        assertEquals(96, q.lineLength(shape));
        assertEquals(30 * 48, q.codeBytes(shape));
        assertEquals(30 * 48 + 90 * 2 + 45, q.bytes(shape));
        Quantized flat = new Quantized(4, 0, 0, true, Form.Activations.FLOAT, DType.I4, DType.F32, false, false);
        assertEquals(8 + 4 * 5, flat.bytes(Shape.of(5, 3)));
        assertEquals(-8, flat.qmin());
        assertEquals(7, flat.qmax());
        assertEquals(8, q.middle());
    }

    @Test
    void sevenBitsInAByteStayAroundItsZeroPoint() {
        Quantized u = new Quantized(7, 1, 0, true, Form.Activations.DYNAMIC, DType.U8, DType.F32, false, false);
        assertEquals(64, u.qmin());
        assertEquals(191, u.qmax());
        assertEquals(128, u.middle());
        Quantized s = u.stored(DType.I8, DType.F32, false, false);
        assertEquals(-64, s.qmin());
        assertEquals(63, s.qmax());
    }
}
