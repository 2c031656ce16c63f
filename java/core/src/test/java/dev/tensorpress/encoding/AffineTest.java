package dev.tensorpress.encoding;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.encoding.Affine.Layout;
import dev.tensorpress.encoding.Affine.Offset;
import dev.tensorpress.encoding.Affine.Rounding;
import dev.tensorpress.encoding.Affine.Scale;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import org.junit.jupiter.api.Test;

/** The formats that quantize are settings of one type, and their sizes are those that their readers expect. */
class AffineTest {
    private static final Scale HALF = Scale.flat(DType.F16);
    private static final Scale NVFP4 = new Scale(DType.F8E4M3, 8, DType.F32, 0);

    private static Affine interleaved(DType type, int bits, Scale scale, Offset offset, Rounding rounding) {
        return new Affine(type, bits, scale, offset, rounding, Layout.INTERLEAVED);
    }

    private static Affine apart(DType type, Scale scale) {
        return new Affine(type, type.bits(), scale, Offset.NONE, Rounding.DIVIDE, Layout.APART);
    }

    private static Scale of6(int groups) {
        return new Scale(DType.U8, 6, DType.F16, groups);
    }

    private static Form.Quantized form(Affine a, int axis, int block) {
        return new Form.Quantized(a, axis, block, Form.Activations.FLOAT, false, false);
    }

    /** A line of 256 and one of 512. */
    private static void blocks(String name, int bytes, int in, Affine a, int block) {
        Form.Quantized f = form(a, 1, block);
        assertEquals(bytes, a.blockBytes(block), name);
        assertEquals(bytes * (256L / in), f.bytes(Shape.of(1, 256)), name);
        assertEquals(3 * bytes * (512L / in), f.bytes(Shape.of(3, 512)), name);
        // A line that a block does not fill takes a whole one.
        assertEquals(3 * bytes * (512L / in + 1), f.bytes(Shape.of(3, 520)), name);
        assertEquals((512L / in + 1) * in, f.lineLength(Shape.of(3, 520)), name);
        assertEquals(f.lineLength(Shape.of(3, 512)) * 3 * a.bits() / 8, f.codeBytes(Shape.of(3, 512)), name);
        assertThrows(IllegalArgumentException.class, () -> f.spec(DType.F32, Shape.of(1, 256)), name);
    }

    @Test
    void blocksOfGguf() {
        blocks("Q4_0", 18, 32, interleaved(DType.U4, 4, HALF, Offset.NONE, Rounding.HALF_UP), 32);
        blocks("Q4_1", 20, 32, interleaved(DType.U4, 4, HALF, Offset.MINIMUM, Rounding.HALF_UP), 32);
        blocks("Q5_0", 22, 32, interleaved(DType.U8, 5, HALF, Offset.NONE, Rounding.HALF_UP), 32);
        blocks("Q5_1", 24, 32, interleaved(DType.U8, 5, HALF, Offset.MINIMUM, Rounding.HALF_UP), 32);
        blocks("Q8_0", 34, 32, interleaved(DType.I8, 8, HALF, Offset.NONE, Rounding.HALF_AWAY), 32);
        blocks("Q2_K", 84, 256, interleaved(DType.U4, 2, new Scale(DType.U8, 4, DType.F16, 16), Offset.MINIMUM, Rounding.DIVIDE), 16);
        blocks("Q3_K", 110, 256, interleaved(DType.U4, 3, new Scale(DType.I8, 6, DType.F16, 16), Offset.NONE, Rounding.DIVIDE), 16);
        blocks("Q4_K", 144, 256, interleaved(DType.U4, 4, of6(8), Offset.MINIMUM, Rounding.DIVIDE), 32);
        blocks("Q5_K", 176, 256, interleaved(DType.U8, 5, of6(8), Offset.MINIMUM, Rounding.DIVIDE), 32);
        blocks("Q6_K", 210, 256, interleaved(DType.U8, 6, new Scale(DType.I8, 8, DType.F16, 16), Offset.NONE, Rounding.DIVIDE), 16);
        blocks("MXFP4", 17, 32, interleaved(DType.F4, 4, Scale.flat(DType.F8E8M0), Offset.NONE, Rounding.DIVIDE), 32);
    }

    @Test
    void codesOfGgufStartWhereItsReadersTakeThemTo() {
        Form.Quantized q6 = form(interleaved(DType.U8, 6, new Scale(DType.I8, 8, DType.F16, 16), Offset.NONE, Rounding.DIVIDE), 1, 16);
        assertEquals(32, q6.middle());
        assertEquals(0, q6.qmin());
        assertEquals(63, q6.qmax());
        Form.Quantized q4 = form(interleaved(DType.U4, 4, of6(8), Offset.MINIMUM, Rounding.DIVIDE), 1, 32);
        assertEquals(0, q4.qmin());
        assertEquals(15, q4.qmax());
        assertFalse(q4.symmetric());
        assertEquals("int4 block 32 in 256 from a minimum", q4.describe());
    }

    @Test
    void floats() {
        Shape shape = Shape.of(100, 64);
        assertEquals(6400 + 4, form(apart(DType.F8E4M3, Scale.flat(DType.F32)), -1, 0).bytes(shape));
        assertEquals(6400 + 100 * 2, form(apart(DType.F8E5M2, Scale.flat(DType.BF16)), 0, 0).bytes(shape));
        // A byte for each scale, and one f32 for the whole tensor.
        assertEquals(3200 + 400 + 4, form(apart(DType.F4, NVFP4), 1, 16).bytes(shape));
        assertEquals(3200 + 200, form(apart(DType.F4, Scale.flat(DType.F8E8M0)), 1, 32).bytes(shape));
        Form.Quantized fp8 = form(apart(DType.F8E4M3, Scale.flat(DType.F32)), 0, 0);
        assertEquals("f8e4m3 per channel", fp8.describe());
        assertTrue(fp8.symmetric());
        assertEquals(0, fp8.middle());
        assertThrows(IllegalArgumentException.class, () -> fp8.spec(DType.F32, shape));
    }

    @Test
    void scalesOfScalesApartFromCodes() {
        // Groups of 64, in lines of five, of which four share a scale of f32: two of these in each line.
        Affine a = new Affine(DType.U4, 4, new Scale(DType.U8, 6, DType.F32, 4), Offset.NONE, Rounding.DIVIDE, Layout.APART);
        assertEquals(3 * 160 + (15 * 6 + 7) / 8 + 6 * 4, form(a, 1, 64).bytes(Shape.of(3, 320)));
        Affine min = new Affine(DType.U4, 4, a.scale(), Offset.MINIMUM, Rounding.DIVIDE, Layout.APART);
        assertEquals(3 * 160 + 2 * ((15 * 6 + 7) / 8 + 6 * 4), form(min, 1, 64).bytes(Shape.of(3, 320)));
        // Down the columns as well; what would cross matrices has no such form.
        assertEquals(3 * 160 + (15 * 6 + 7) / 8 + 6 * 4, form(a, 0, 64).bytes(Shape.of(320, 3)));
        assertThrows(IllegalArgumentException.class, () -> form(a, 1, 64).bytes(Shape.of(2, 320, 3)));
    }

    @Test
    void sizesOfBlocksDoNotOverflow() {
        Affine wide = interleaved(DType.I8, 8, HALF, Offset.NONE, Rounding.DIVIDE);
        assertEquals((1 << 30) + 2, wide.blockBytes(1 << 30));
        assertThrows(ArithmeticException.class, () -> wide.blockBytes(Integer.MAX_VALUE));
        assertThrows(ArithmeticException.class,
                () -> interleaved(DType.U4, 4, of6(Integer.MAX_VALUE), Offset.MINIMUM, Rounding.DIVIDE).blockBytes(Integer.MAX_VALUE));
        refused(() -> wide.blockBytes(-32));
    }

    @Test
    void whatKernelsMake() {
        assertTrue(Affine.integers(7, true, DType.U8, DType.F16).plain());
        assertTrue(Affine.integers(4, false, DType.I4, DType.BF16).plain());
        assertFalse(Affine.integers(4, true, DType.I4, DType.F8E8M0).plain());
        assertFalse(apart(DType.F8E4M3, HALF).plain());
        assertFalse(apart(DType.U8, NVFP4).plain());
        assertFalse(new Affine(DType.U8, 8, HALF, Offset.MINIMUM, Rounding.DIVIDE, Layout.APART).plain());
        assertFalse(new Affine(DType.U8, 8, HALF, Offset.NONE, Rounding.HALF_UP, Layout.APART).plain());
        assertFalse(interleaved(DType.U8, 8, HALF, Offset.NONE, Rounding.DIVIDE).plain());
    }

    private static void refused(Runnable make) {
        assertThrows(IllegalArgumentException.class, make::run);
    }

    @Test
    void nonsense() {
        refused(() -> Affine.integers(1, true, DType.I4, DType.F32));
        refused(() -> Affine.integers(5, true, DType.I4, DType.F32));
        refused(() -> Affine.integers(8, true, DType.I16, DType.F32));
        refused(() -> Affine.integers(8, true, DType.I8, DType.I8));
        refused(() -> Affine.integers(4, true, DType.F8E4M3, DType.F32));
        refused(() -> Affine.integers(8, false, DType.F8E4M3, DType.F32));
        refused(() -> interleaved(DType.F4, 4, HALF, Offset.MINIMUM, Rounding.DIVIDE));
        refused(() -> interleaved(DType.F4, 4, HALF, Offset.NONE, Rounding.HALF_AWAY));
        refused(() -> interleaved(DType.I4, 4, HALF, Offset.MINIMUM, Rounding.DIVIDE));
        refused(() -> interleaved(DType.U4, 4, HALF, Offset.ZERO_POINT, Rounding.DIVIDE));
        refused(() -> interleaved(DType.F4, 4, NVFP4, Offset.NONE, Rounding.DIVIDE));
        refused(() -> new Affine(DType.U8, 4, HALF, Offset.MINIMUM, Rounding.DIVIDE, Layout.APART));
        refused(() -> new Scale(DType.F16, 8, null, 1));
        refused(() -> new Scale(DType.F16, 16, null, 4));
        refused(() -> new Scale(DType.F16, 16, DType.F32, 4));
        refused(() -> new Scale(DType.U8, 9, DType.F16, 4));
        refused(() -> new Scale(DType.U8, 6, DType.U8, 4));
        refused(() -> new Scale(DType.U8, 6, DType.F16, 1));
        Affine plain = Affine.integers(4, true, DType.I4, DType.F32);
        refused(() -> form(plain, -2, 0));
        refused(() -> form(plain, -1, 32));
        refused(() -> form(plain, 0, -1));
        refused(() -> new Form.Quantized(plain, 0, 0, Form.Activations.FLOAT, false, true));
        refused(() -> form(interleaved(DType.U4, 4, HALF, Offset.NONE, Rounding.DIVIDE), 0, 0));
        refused(() -> form(interleaved(DType.U4, 3, HALF, Offset.NONE, Rounding.DIVIDE), 0, 33));
        refused(() -> form(new Affine(DType.U4, 4, of6(8), Offset.NONE, Rounding.DIVIDE, Layout.APART), 0, 0));
        refused(() -> plain.blockBytes(32));
    }
}
