package dev.tensorpress.method;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Codebook;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.KernelException;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

class CodebookMethodTest {
    private static Weight weight(Arena arena, Role role, DType type, long... dims) {
        Shape shape = Shape.of(dims);
        Random random = Effort.random();
        MemorySegment data = arena.allocate(type.bytes(shape.elements()), 64);
        for (long i = 0; i < shape.elements(); i++) {
            float x = (float) random.nextGaussian();
            if (type == DType.F32) {
                data.setAtIndex(ValueLayout.JAVA_FLOAT, i, x);
            } else {
                data.setAtIndex(ValueLayout.JAVA_SHORT, i, Float.floatToFloat16(x));
            }
        }
        int in = role == Role.CONV ? 1 : 0;
        return new Weight("w", role, new Tensor(type, shape, data), in, 1 - in, List.of("MatMul m"), Optional.empty());
    }

    private static Prepared prepared(CodebookMethod method) {
        return new PreparedCodebook(method, null);
    }

    private static double loss(CodebookMethod method, Weight w, Workspace workspace, Arena arena) {
        Prepared p = prepared(method);
        Encoding e = p.apply(w, new Encoding.Dense(w.tensor()), p.plan(w, new Form.Dense(w.tensor().dtype())), workspace);
        MemorySegment out = arena.allocate(4 * w.tensor().shape().elements(), 64);
        e.decode(out, workspace.executor());
        double sum = 0;
        for (long i = 0; i < w.tensor().shape().elements(); i++) {
            double d = (double) dev.tensorpress.kernel.Quantize.element(w.tensor(), i) - out.getAtIndex(ValueLayout.JAVA_FLOAT, i);
            sum += d * d;
        }
        return sum / w.tensor().shape().elements();
    }

    /** Of normal numbers the errors are those of the best quantizers (Max, 1960), and vectors do better than numbers of as many bits. */
    @Test
    void errorsAreThoseOfTheBestQuantizers() {
        try (Executor executor = Executor.cpu(2); Workspace workspace = new Workspace(executor); Arena arena = Arena.ofShared()) {
            Weight w = weight(arena, Role.LINEAR, DType.F32, 128, 512);
            double[] best = {0.3634, 0.1175, 0.03454, 0.009497, 0.002499};
            for (int bits = 1; bits <= 5; bits++) {
                assertEquals(best[bits - 1], loss(CodebookMethod.of(bits), w, workspace, arena), 0.03 * best[bits - 1], bits + " bits");
            }
            double numbers = loss(CodebookMethod.of(2), w, workspace, arena);
            double pairs = loss((CodebookMethod) CodebookMethod.of(4).with("dimension", "2"), w, workspace, arena);
            double fours = loss((CodebookMethod) CodebookMethod.of(8).with("dimension", "4"), w, workspace, arena);
            assertTrue(pairs < 0.96 * numbers && fours < 0.96 * pairs, numbers + ", " + pairs + ", " + fours);
        }
    }

    @Test
    void whatCannotBeIsRefused() {
        try (Arena arena = Arena.ofShared()) {
            Weight w = weight(arena, Role.LINEAR, DType.F32, 128, 511);
            Form dense = new Form.Dense(DType.F32);
            for (String[] o : new String[][] {{"bits", "9", "codes of 9 bits are for vectors"}, {"dimension", "2", "no whole vectors of 2"}}) {
                Prepared p = prepared((CodebookMethod) CodebookMethod.of(4).with(o[0], o[1]));
                String m = assertThrows(UnsupportedRequestException.class, () -> p.plan(w, dense)).getMessage();
                assertTrue(m.contains(o[2]), m);
            }
            Prepared p = prepared(CodebookMethod.of(4));
            Form codes = p.plan(w, dense);
            assertEquals("codebook 4 bits per tensor", codes.describe());
            assertThrows(UnsupportedRequestException.class, () -> p.plan(w, codes));
            Weight kernel = weight(arena, Role.CONV, DType.F32, 8, 4, 3, 3);
            Prepared inputs = prepared((CodebookMethod) CodebookMethod.of(2).with("per", "inputs"));
            assertThrows(UnsupportedRequestException.class, () -> inputs.plan(kernel, dense));
            assertThrows(NoGainException.class, () -> prepared(CodebookMethod.of(8)).plan(kernel, dense));
        }
    }

    @Test
    void tablesHaveToFitTheirType() {
        try (Executor executor = Executor.cpu(2); Workspace workspace = new Workspace(executor); Arena arena = Arena.ofShared()) {
            Weight w = weight(arena, Role.LINEAR, DType.F32, 128, 512);
            w.tensor().data().setAtIndex(ValueLayout.JAVA_FLOAT, 9, 1e30f);
            Form dense = new Form.Dense(DType.F32);
            for (DType type : new DType[] {DType.F32, DType.F16}) {
                Prepared p = prepared((CodebookMethod) CodebookMethod.of(4).with("table", type == DType.F32 ? "f32" : "f16"));
                Executable made = () -> p.apply(w, new Encoding.Dense(w.tensor()), p.plan(w, dense), workspace);
                if (type == DType.F32) {
                    assertDoesNotThrow(made);
                } else {
                    String m = assertThrows(UnsupportedRequestException.class, made).getMessage();
                    assertTrue(m.contains("the tables of weight w leave the range of f16"), m);
                }
            }
        }
    }

    /** Gradients of a table are the sums of those of its elements, whatever runs them. */
    @Test
    void gradientsOfEntries() {
        try (Executor executor = Executor.cpu(3); Arena arena = Arena.ofShared()) {
            Codebook.Spec spec = new Codebook.Spec(40, 64, 20, 32, 2, 3, false);
            MemorySegment codes = arena.allocate(40 * 32, 64);
            MemorySegment gradients = arena.allocate(40 * 64 * 4, 64);
            Random random = Effort.random();
            double[] want = new double[4 * 8 * 2];
            for (int i = 0; i < 40; i++) {
                for (int j = 0; j < 64; j++) {
                    if (j % 2 == 0) {
                        codes.set(ValueLayout.JAVA_BYTE, i * 32 + j / 2, (byte) random.nextInt(8));
                    }
                    float g = (float) random.nextGaussian();
                    gradients.setAtIndex(ValueLayout.JAVA_FLOAT, i * 64 + j, g);
                    want[((i / 20 * 2 + j / 32) * 8 + codes.get(ValueLayout.JAVA_BYTE, i * 32 + j / 2)) * 2 + j % 2] += g;
                }
            }
            MemorySegment sums = arena.allocate(want.length * 8, 64);
            Codebook.gradients(spec, codes, gradients, sums, executor);
            for (int i = 0; i < want.length; i++) {
                assertEquals(want[i], sums.getAtIndex(ValueLayout.JAVA_DOUBLE, i), 0);
            }
            codes.set(ValueLayout.JAVA_BYTE, 77, (byte) 8);
            assertThrows(KernelException.class, () -> Codebook.gradients(spec, codes, gradients, sums, executor));
        }
    }
}
