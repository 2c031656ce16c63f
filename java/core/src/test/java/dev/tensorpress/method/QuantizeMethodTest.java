package dev.tensorpress.method;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import org.junit.jupiter.api.Test;

class QuantizeMethodTest {
    private static Weight linear(DType dtype, MemorySegment data, long... dims) {
        return new Weight("w", Role.LINEAR, new Tensor(dtype, Shape.of(dims), data), 0, 1, List.of("MatMul m"),
                Optional.empty());
    }

    private static Form.Quantized plan(QuantizeMethod method, Weight w) {
        return (Form.Quantized) method.plan(w, new Form.Dense(w.tensor().dtype()));
    }

    @Test
    void everyGrainAndStorageDecodesWithinHalfAStep() {
        Random random = new Random(1);
        try (Arena arena = Arena.ofShared(); Executor executor = Executor.cpu(2); Workspace workspace = new Workspace(executor)) {
            MemorySegment data = arena.allocate(4 * 70 * 34, 4);
            for (int i = 0; i < 70 * 34; i++) {
                data.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) random.nextGaussian());
            }
            Weight w = linear(DType.F32, data, 70, 34);
            MemorySegment out = arena.allocate(4 * 70 * 34, 4);
            for (QuantizeMethod method : List.of(QuantizeMethod.int8(), QuantizeMethod.int8().perTensor(),
                    QuantizeMethod.int8().perBlock(16).asymmetric(), QuantizeMethod.int4().perBlock(32),
                    QuantizeMethod.int4().perBlock(32).asymmetric())) {
                Form.Quantized wanted = plan(method, w);
                boolean four = wanted.bits() == 4;
                List<Form.Quantized> stored = new ArrayList<>(List.of(wanted,
                        wanted.stored(four ? DType.U4 : DType.U8, DType.F16, false, false)));
                if (method.block() > 0) {
                    stored.add(wanted.stored(four ? DType.U4 : DType.U8, DType.F32, true, true));
                }
                for (Form.Quantized form : stored) {
                    Encoding.Quantized q = (Encoding.Quantized) method.apply(w, new Encoding.Dense(w.tensor()), form,
                            workspace);
                    assertEquals(form, q.form());
                    assertEquals(form.bytes(q.shape()), q.codes().bytes() + q.scales().bytes()
                            + (q.zeros() == null ? 0 : form.type().bytes(q.zeros().bytes())));
                    q.decode(out, executor);
                    float largest = 0;
                    MemorySegment scales = q.scalesAsF32(arena);
                    for (int i = 0; i < scales.byteSize() / 4; i++) {
                        largest = Math.max(largest, scales.getAtIndex(ValueLayout.JAVA_FLOAT, i));
                    }
                    // A scale rounded to f16 may lose half a step of 2^-11 at the ends of the range as well.
                    double bound = largest * (form.scaleType() == DType.F16 ? 0.57 : 0.5 + 1e-4);
                    for (int i = 0; i < 70 * 34; i++) {
                        float x = data.getAtIndex(ValueLayout.JAVA_FLOAT, i);
                        assertEquals(x, out.getAtIndex(ValueLayout.JAVA_FLOAT, i), bound, form + " at " + i);
                    }
                }
            }
        }
    }

    @Test
    void whatCannotBeQuantizedIsRefusedWithTheReason() {
        MemorySegment data = MemorySegment.ofArray(new byte[64]);
        QuantizeMethod method = QuantizeMethod.int8();
        assertRefused("has no channels", method, linear(DType.F32, data, 16));
        assertRefused("no elements", method, linear(DType.F32, data.asSlice(0, 0), 4, 0));
        assertRefused("cannot quantize", method, linear(DType.I32, data, 4, 4));
        Weight other = new Weight("o", Role.OTHER, new Tensor(DType.F32, Shape.of(4, 4), data), -1, -1, List.of(),
                Optional.empty());
        assertRefused("no output axis", method, other);
        assertRefused("no input axis", method.perBlock(16), other);
        assertEquals(-1, plan(method.perTensor(), other).axis());
    }

    private static void assertRefused(String reason, QuantizeMethod method, Weight weight) {
        String message = assertThrows(UnsupportedRequestException.class, () -> plan(method, weight)).getMessage();
        assertTrue(message.contains(reason), message);
    }

    @Test
    void notANumberIsNamedWithItsIndex() {
        try (Arena arena = Arena.ofShared(); Executor executor = Executor.cpu(2); Workspace workspace = new Workspace(executor)) {
            for (float bad : new float[] {Float.NaN, Float.NEGATIVE_INFINITY}) {
                for (QuantizeMethod method : List.of(QuantizeMethod.int8(), QuantizeMethod.int8().perTensor(),
                        QuantizeMethod.int8().perBlock(16), QuantizeMethod.int4().asymmetric().clipSearch(4, 0.8f))) {
                    MemorySegment data = arena.allocate(4 * 64 * 8, 4);
                    data.setAtIndex(ValueLayout.JAVA_FLOAT, 77, bad);
                    Weight w = linear(DType.F32, data, 64, 8);
                    NonFiniteWeightException e = assertThrows(NonFiniteWeightException.class, () -> method.apply(w,
                            new Encoding.Dense(w.tensor()), plan(method, w), workspace), method.toString());
                    assertEquals("w", e.weight());
                    assertEquals(77, e.index());
                    assertTrue(e.getMessage().contains("w holds " + bad + " at element 77"), e.getMessage());
                }
            }
        }
    }

    @Test
    void unknownOptionsAreLeftToOthers() {
        assertNull(QuantizeMethod.int8().with("accuracy-level", "4"));
    }
}
