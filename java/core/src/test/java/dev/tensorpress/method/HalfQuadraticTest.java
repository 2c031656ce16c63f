package dev.tensorpress.method;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Role;
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

/** Ranges of the least norm of errors, p = 3/4, against the method written down plainly. */
class HalfQuadraticTest {
    private static final int ROWS = 80;
    private static final int COLS = 70;

    private static float[] values() {
        Random random = new Random(1);
        float[] x = new float[ROWS * COLS];
        for (int i = 0; i < x.length; i++) {
            // A few are large; a row and a column are 0, another row is constant.
            x[i] = (float) random.nextGaussian() * (random.nextInt(20) == 0 ? 4 : 1) + 0.3f;
            x[i] = i / COLS == 5 || i % COLS == 7 ? 0 : i / COLS == 9 ? 0.25f : x[i];
        }
        return x;
    }

    private static Weight weight(float[] x, Arena arena) {
        MemorySegment data = arena.allocate(4L * x.length, 4).copyFrom(MemorySegment.ofArray(x));
        return new Weight("w", Role.LINEAR, new Tensor(DType.F32, Shape.of(ROWS, COLS), data), 0, 1, List.of("MatMul m"), Optional.empty());
    }

    private static double norm(double d) {
        return Math.pow(Math.abs(d), 0.75);
    }

    /** Scale and zero point of a group. */
    private static double[] plain(List<Float> x, double s, int z, int low, int high, boolean symmetric) {
        double[] best = {s, z};
        double least = Double.POSITIVE_INFINITY;
        for (int round = 0; round <= 20; round++) {
            double beta = 10 * Math.pow(1.01, round);
            double norm = 0;
            double mean = 0;
            double above = 0;
            double below = 0;
            for (float v : x) {
                double code = Math.clamp(Math.rint(v / s + z), low, high);
                double d = v / s - (code - z);
                double e = d == 0 ? 0 : Math.signum(d) * Math.max(0, Math.abs(d) - Math.pow(Math.abs(d), -0.25) / beta);
                norm += norm(v - s * (code - z));
                mean += (code - (v / s - e)) / x.size();
                above += (code - z) * (v / s - e);
                below += (code - z) * (code - z);
            }
            if (norm >= least) {
                break;
            }
            least = norm;
            best = new double[] {s, z};
            z = symmetric ? z : (int) Math.clamp(Math.rint(mean), low, high);
            s = (float) (s * above / below);
            if (!(s >= Float.MIN_NORMAL)) {
                break;
            }
        }
        return best;
    }

    @Test
    void theNormIsThatOfThePlainMethod() {
        float[] x = values();
        try (Arena arena = Arena.ofShared(); Executor executor = Executor.cpu(1); Workspace workspace = new Workspace(executor)) {
            Weight w = weight(x, arena);
            MemorySegment out = arena.allocate(4L * x.length, 4);
            for (QuantizeMethod method : List.of(QuantizeMethod.int4().asymmetric(), QuantizeMethod.int4(), QuantizeMethod.int8().perBlock(16),
                    (QuantizeMethod) QuantizeMethod.int8().asymmetric().with("bits", "3"))) {
                Form.Quantized form = (Form.Quantized) method.plan(w, new Form.Dense(DType.F32));
                Encoding.Quantized first = (Encoding.Quantized) method.apply(w, new Encoding.Dense(w.tensor()), form, workspace).copy(arena);
                QuantizeMethod sought = method.range(QuantizeMethod.Range.HQQ);
                Encoding.Quantized q = (Encoding.Quantized) sought.apply(w, new Encoding.Dense(w.tensor()), form, workspace);
                q.decode(out, executor);
                int size = form.block() > 0 ? form.block() : ROWS;
                int better = 0;
                for (int c = 0; c < COLS; c++) {
                    for (int g = 0; g * size < ROWS; g++) {
                        List<Float> group = new ArrayList<>();
                        double found = 0;
                        for (int r = g * size; r < Math.min(ROWS, (g + 1) * size); r++) {
                            group.add(x[r * COLS + c]);
                            found += norm((double) x[r * COLS + c] - out.getAtIndex(ValueLayout.JAVA_FLOAT, r * COLS + c));
                        }
                        int at = g * COLS + c;
                        float s0 = first.scales().data().getAtIndex(ValueLayout.JAVA_FLOAT, at);
                        int z0 = form.symmetric() ? form.middle() : first.zeros().data().get(ValueLayout.JAVA_BYTE, at);
                        double[] best = plain(group, s0, z0, form.qmin(), form.qmax(), form.symmetric());
                        double wanted = norm(group, best[0], (int) best[1], form);
                        assertEquals(wanted, found, 1e-4 * wanted + 1e-6, form.describe() + " group " + at);
                        double before = norm(group, s0, z0, form);
                        assertTrue(found <= before * (1 + 1e-4) + 1e-6, form.describe() + " group " + at);
                        better += found < 0.99 * before ? 1 : 0;
                    }
                }
                assertTrue(better > COLS / 4, form.describe() + ": " + better);
            }
        }
    }

    private static double norm(List<Float> x, double s, int z, Form.Quantized form) {
        double sum = 0;
        for (float v : x) {
            sum += norm(v - s * (Math.clamp(Math.rint(v / s + z), form.qmin(), form.qmax()) - z));
        }
        return sum;
    }

    /** Groups along rows and columns, transposed codes, scales in half precision, any number of threads. */
    @Test
    void everyLayoutHasTheSameScales() {
        float[] x = values();
        try (Arena arena = Arena.ofShared(); Executor one = Executor.cpu(1); Executor three = Executor.cpu(3)) {
            Weight w = weight(x, arena);
            float[] turned = new float[x.length];
            for (int i = 0; i < x.length; i++) {
                turned[i % COLS * ROWS + i / COLS] = x[i];
            }
            Weight t = new Weight("t", Role.LINEAR, new Tensor(DType.F32, Shape.of(COLS, ROWS),
                    arena.allocate(4L * x.length, 4).copyFrom(MemorySegment.ofArray(turned))), 1, 0, List.of("MatMul m"), Optional.empty());
            QuantizeMethod method = QuantizeMethod.int4().asymmetric().range(QuantizeMethod.Range.HQQ);
            Form.Quantized down = (Form.Quantized) method.plan(w, new Form.Dense(DType.F32));
            Form.Quantized across = (Form.Quantized) method.plan(t, new Form.Dense(DType.F32));
            for (DType scale : List.of(DType.F32, DType.F16, DType.BF16)) {
                Encoding.Quantized a = encode(method, w, down.stored(DType.U4, scale, true, true), one, arena);
                Encoding.Quantized b = encode(method, w, down.stored(DType.U4, scale, true, true), three, arena);
                Encoding.Quantized c = encode(method, t, across.stored(DType.U4, scale, false, true), three, arena);
                for (Encoding.Quantized other : List.of(b, c)) {
                    assertArrayEquals(bytes(a.scales()), bytes(other.scales()));
                    assertArrayEquals(bytes(a.zeros()), bytes(other.zeros()));
                    assertArrayEquals(bytes(a.codes()), bytes(other.codes()));
                }
            }
        }
    }

    private static Encoding.Quantized encode(QuantizeMethod method, Weight w, Form form, Executor executor, Arena arena) {
        try (Workspace workspace = new Workspace(executor)) {
            return (Encoding.Quantized) method.apply(w, new Encoding.Dense(w.tensor()), form, workspace).copy(arena);
        }
    }

    private static byte[] bytes(Tensor t) {
        return t.data().toArray(ValueLayout.JAVA_BYTE);
    }

    @Test
    void whatItIsNotForIsRefused() {
        QuantizeMethod method = QuantizeMethod.int8().range(QuantizeMethod.Range.HQQ);
        assertThrows(IllegalArgumentException.class, method::perTensor);
        assertThrows(IllegalArgumentException.class, () -> method.scale(QuantizeMethod.Scale.POWER_OF_TWO));
    }
}
