package dev.tensorpress.encoding;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.encoding.Form.Activations;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** Codes that are known, in each way in which they are stored. */
class QuantizedTest {
    private record Case(int bits, int axis, int block, boolean symmetric, DType type, DType scale, boolean transposed, boolean padded, Shape shape) {}

    @Test
    void knownCodesAreStoredAsKernelsStoreThem() {
        for (Case c : List.of(new Case(4, 0, 32, false, DType.U4, DType.F32, true, true, Shape.of(50, 7)),
                new Case(4, 0, 32, false, DType.U4, DType.F16, false, false, Shape.of(64, 7)),
                new Case(3, 1, 16, true, DType.I4, DType.F32, false, false, Shape.of(3, 35)),
                new Case(8, 0, 0, true, DType.I8, DType.BF16, false, false, Shape.of(5, 3, 3, 3)),
                new Case(8, 1, 0, false, DType.U8, DType.F32, true, false, Shape.of(9, 5)),
                new Case(8, -1, 0, false, DType.I8, DType.F32, false, false, Shape.of(6, 4)))) {
            Form.Quantized form = new Form.Quantized(c.bits, c.axis, c.block, c.symmetric, Activations.FLOAT, c.type, c.scale, c.transposed, c.padded);
            Random random = new Random(4);
            int n = Math.toIntExact(c.shape.elements());
            int groups = Math.toIntExact(form.grid(c.shape).groups());
            try (Arena arena = Arena.ofShared(); Executor executor = Executor.cpu(2)) {
                float[] elements = new float[n];
                for (int i = 0; i < n; i++) {
                    elements[i] = (float) random.nextGaussian() + 0.3f;
                }
                MemorySegment in = arena.allocateFrom(ValueLayout.JAVA_FLOAT, elements);
                MemorySegment codes = arena.allocate(form.codeBytes(c.shape), 64);
                MemorySegment scales = arena.allocate(4L * groups, 64);
                MemorySegment zeros = c.symmetric ? MemorySegment.NULL : arena.allocate(groups, 64);
                Quantize.quantize(form.spec(DType.F32, c.shape), in, codes, scales, zeros, executor);
                Tensor zero = c.symmetric ? null : new Tensor(c.type.signed() ? DType.I8 : DType.U8, Shape.of(groups), zeros);
                Tensor coded = new Tensor(c.type, form.codes(c.shape), codes);
                // What codes are in units of scales is what they decode to with scales of 1.
                float[] ones = new float[groups];
                Arrays.fill(ones, 1);
                MemorySegment decoded = arena.allocate(4L * n, 64);
                new Encoding.Quantized(form, c.shape, coded, stored(c.scale, arena.allocateFrom(ValueLayout.JAVA_FLOAT, ones), groups, arena), zero)
                        .decode(decoded, executor);
                Encoding.Quantized got = Encoding.Quantized.of(form, c.shape, decoded.toArray(ValueLayout.JAVA_FLOAT), scales.toArray(ValueLayout.JAVA_FLOAT), zero,
                        arena, executor);
                assertEquals(-1, codes.mismatch(got.codes().data()), c.toString());
                assertEquals(-1, stored(c.scale, scales, groups, arena).data().mismatch(got.scales().data()), c.toString());
                for (float wrong : new float[] {0, -1, Float.NaN, Float.POSITIVE_INFINITY}) {
                    float[] some = scales.toArray(ValueLayout.JAVA_FLOAT);
                    some[groups - 1] = wrong;
                    IllegalArgumentException e = assertThrows(IllegalArgumentException.class,
                            () -> Encoding.Quantized.of(form, c.shape, new float[n], some, zero, arena, executor), c.toString());
                    assertTrue(e.getMessage().contains("scale " + (groups - 1) + " is " + wrong), e.getMessage());
                }
            }
        }
    }

    private static Tensor stored(DType type, MemorySegment floats, int n, Arena arena) {
        MemorySegment out = arena.allocate(type.bytes(n), 64);
        Quantize.convert(DType.F32, floats, n, type, out);
        return new Tensor(type, Shape.of(n), out);
    }
}
