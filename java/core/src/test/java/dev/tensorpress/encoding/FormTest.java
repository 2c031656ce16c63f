package dev.tensorpress.encoding;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.tensorpress.encoding.Form.Grid;
import dev.tensorpress.encoding.Form.Quantized;
import dev.tensorpress.encoding.Form.Storage;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;
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

    /** Sizes that no memory has are right, or do not fit and say so. */
    @Test
    void sizesDoNotOverflow() {
        long many = (1L << 62) + 1;
        Quantized tensor = new Quantized(4, -1, 0, true, Form.Activations.FLOAT, DType.I4, DType.F32, false, false);
        Quantized columns = new Quantized(4, 1, 0, true, Form.Activations.FLOAT, DType.I4, DType.F32, false, false);
        Quantized padded = new Quantized(4, 1, 32, true, Form.Activations.FLOAT, DType.I4, DType.F32, false, true);
        assertEquals(many / 2 + 1 + 4, tensor.bytes(Shape.of(many, 1)));
        assertEquals(many / 2 + 1 + 4, columns.bytes(Shape.of(many, 1)));
        assertThrows(ArithmeticException.class, () -> padded.bytes(Shape.of(1, Long.MAX_VALUE)));
        for (long n : new long[] {many, Long.MAX_VALUE, Long.MAX_VALUE - 40, Long.MAX_VALUE / 2}) {
            assertThrows(ArithmeticException.class, () -> Form.Sparse.packed(Shape.of(1, n), DType.F32, n / 2));
        }
        refused(() -> Grid.of(Shape.of(), 0, 0));
    }

    /** Tensors of files start at any byte. */
    @Test
    void scalesAreDecodedFromAnyByte() {
        Quantized form = new Quantized(8, -1, 0, true, Form.Activations.FLOAT, DType.I8, DType.F32, false, false);
        try (Arena arena = Arena.ofShared(); Executor executor = Executor.cpu(1)) {
            MemorySegment codes = arena.allocate(2).fill((byte) 3);
            MemorySegment scale = arena.allocate(5, 4).asSlice(1);
            scale.set(ValueLayout.JAVA_FLOAT_UNALIGNED, 0, 0.5f);
            MemorySegment out = arena.allocate(8, 4);
            new Encoding.Quantized(form, Shape.of(1, 2), new Tensor(DType.I8, Shape.of(1, 2), codes),
                    new Tensor(DType.F32, Shape.of(1), scale), null).decode(out, executor);
            assertEquals(1.5f, out.getAtIndex(ValueLayout.JAVA_FLOAT, 1));
        }
    }

    private static void refused(Runnable make) {
        assertThrows(IllegalArgumentException.class, make::run);
    }

    @Test
    void formsNestAsTheirBytesCan() {
        Form dense = new Form.Dense(DType.F32);
        Quantized codes = new Quantized(8, 0, 0, true, Form.Activations.FLOAT, DType.I8, DType.F32, false, false);
        Form.Sparse pruned = new Form.Sparse(codes, "50 %", 9, Storage.MASKED);
        Form.LowRank factors = new Form.LowRank(dense, codes, 2, false);
        Form.Sum sum = new Form.Sum(codes, factors);
        // A product of factors does not keep the zeros.
        for (Form values : List.of(pruned, factors, sum)) {
            refused(() -> new Form.Sparse(values, "50 %", 9, Storage.MASKED));
            refused(() -> new Form.LowRank(dense, values, 2, false));
            refused(() -> new Form.LowRank(values, dense, 2, false));
            refused(() -> new Form.Sum(values, factors));
        }
        refused(() -> new Form.Sum(dense, factors));
        refused(() -> new Form.Sparse(codes, "50 %", 9, Storage.COORDINATES));
        refused(() -> new Form.LowRank(dense, dense, 0, false));
        refused(() -> new Form.Chain(List.of(dense, dense), 0, 2, false));
        refused(() -> new Form.Chain(List.of(dense, dense), 3, 2, true));
        refused(() -> new Form.Chain(List.of(dense, factors), 3, 2, false));
        refused(() -> new Form.Chain(List.of(dense, dense), 3, 2, false).bytes(Shape.of(8, 8, 3, 3)));

        asked(dense, Form.Kind.DENSE, null, dense, null, null, null);
        asked(codes, Form.Kind.QUANTIZED, null, codes, codes, null, null);
        asked(pruned, Form.Kind.SPARSE, pruned, codes, codes, null, null);
        asked(pruned.of(dense), Form.Kind.SPARSE, pruned.of(dense), dense, null, null, null);
        asked(factors, Form.Kind.LOW_RANK, null, factors, null, factors, null);
        asked(Form.Chain.of(dense, 2, 3, false, Shape.of(8, 8, 3, 3)), Form.Kind.CHAIN, null, Form.Chain.of(dense, 2, 3, false, Shape.of(8, 8, 3, 3)),
                null, null, null);
        asked(sum, Form.Kind.SUM, null, sum, null, factors, codes);
    }

    private static void asked(Form f, Form.Kind kind, Form sparse, Form values, Form quantized, Form factors, Form base) {
        assertEquals(kind, f.kind());
        assertEquals(kind == Form.Kind.DENSE, f.dense());
        assertEquals(sparse, f.sparse());
        assertEquals(values, f.values());
        assertEquals(quantized, f.quantized());
        assertEquals(factors, f.factors());
        assertEquals(base, f.base());
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
