package dev.tensorpress.method;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.encoding.Form.Basis;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.kernel.Transform;
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
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class TransformMethodTest {
    private final Arena arena = Arena.ofShared();
    private final Executor executor = Executor.cpu(2);
    private final Workspace workspace = new Workspace(executor);

    @AfterEach
    void close() {
        workspace.close();
        executor.close();
        arena.close();
    }

    /** Rows of normal numbers, each of which is like the one before it. */
    private Weight weight(double likeness, DType type, long... dims) {
        Shape shape = Shape.of(dims);
        Random random = Effort.random();
        MemorySegment data = arena.allocate(type.bytes(shape.elements()), 64);
        double x = random.nextGaussian();
        for (long i = 0; i < shape.elements(); i++) {
            x = likeness * x + Math.sqrt(1 - likeness * likeness) * random.nextGaussian();
            if (type == DType.F32) {
                data.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) x);
            } else {
                data.setAtIndex(ValueLayout.JAVA_SHORT, i, Float.floatToFloat16((float) x));
            }
        }
        return new Weight("w", Role.LINEAR, new Tensor(type, shape, data), 0, shape.rank() - 1, List.of("MatMul m"), Optional.empty());
    }

    private Encoding encoded(Method method, Weight w) {
        Prepared p = method.prepare(null);
        Encoding e = p.apply(w, new Encoding.Dense(w.tensor()), p.plan(w, new Form.Dense(w.tensor().dtype())), workspace);
        assertEquals(p.plan(w, new Form.Dense(w.tensor().dtype())), e.form());
        return e.copy(arena);
    }

    /** Mean square of what is lost. */
    private double loss(Encoding e, Weight w) {
        long n = w.tensor().shape().elements();
        MemorySegment out = arena.allocate(4 * n, 64);
        e.decode(out, executor);
        double sum = 0;
        for (long i = 0; i < n; i++) {
            double d = (double) Quantize.element(w.tensor(), i) - out.getAtIndex(ValueLayout.JAVA_FLOAT, i);
            sum += d * d;
        }
        return sum / n;
    }

    private double entropy(Encoding e) {
        Encoding.Transformed t = (Encoding.Transformed) e;
        long n = t.shape().elements();
        MemorySegment wide = arena.allocate(4 * n, 64);
        Transform.widen(t.form().type(), n, t.codes().data(), wide, executor);
        return Transform.entropy(Transform.counts(40_000, n, wide, executor));
    }

    /** Of normal numbers that do not depend on each other no transform gains: the loss at so many bits is the one that theory has for rounding, but for CDF 9/7, which is not quite orthonormal. */
    @Test
    void lossesAreThoseOfTheory() {
        Weight w = weight(0, DType.F32, 96, 512);
        for (double bits : new double[] {2.5, 4, 5}) {
            double want = Math.PI * Math.E / 6 * Math.pow(2, -2 * bits);
            for (Basis basis : new Basis[] {Basis.DCT, Basis.HAAR, Basis.CDF97}) {
                Encoding e = encoded(TransformMethod.of(basis, bits), w);
                assertEquals(bits, entropy(e), 0.01, basis + " takes other bits");
                assertEquals(want, loss(e, w), (basis == Basis.CDF97 ? 0.16 : 0.06) * want, basis + " at " + bits + " bits");
            }
        }
    }

    /** Where neighbours are alike, as in images, coefficients gain: by one entropy for all of them, cosines in blocks of 8 gain a factor of 3.7. */
    @Test
    void whatIsSmoothGains() {
        Weight w = weight(0.95, DType.F32, 64, 1024);
        double plain = Math.PI * Math.E / 6 * Math.pow(2, -8);
        double cosines = plain / loss(encoded(TransformMethod.of(Basis.DCT, 4).with("dimensions", "1"), w), w);
        assertTrue(cosines > 3.3 && cosines < 4.1, "" + cosines);
        double wavelets = plain / loss(encoded(TransformMethod.of(Basis.CDF97, 4).with("dimensions", "1"), w), w);
        assertTrue(wavelets > 3.9, "" + wavelets);
        // Elements are rounded before: the gain is less, and yet there.
        double integers = plain / loss(encoded(TransformMethod.of(Basis.CDF53, 4).with("dimensions", "1"), w), w);
        assertTrue(integers > 2, "" + integers);
    }

    @Test
    void stepsAreChosenByWhatIsAsked() {
        Weight w = weight(0.8, DType.F32, 48, 100);
        double mean = loss(encoded(TransformMethod.of(Basis.DCT, 8).with("step", "1e30"), w), w);
        for (Basis basis : Basis.values()) {
            double got = Math.sqrt(loss(encoded(TransformMethod.of(basis, 4).with("error", "0.05"), w), w) / mean);
            assertEquals(0.05, got, basis == Basis.CDF97 ? 0.004 : 0.001, basis + " by error");
            Encoding.Transformed e = (Encoding.Transformed) encoded(TransformMethod.of(basis, 4).with("step", "0.25"), w);
            assertEquals(0.25f, e.steps().data().get(ValueLayout.JAVA_FLOAT, 0));
            // Such a step has no codes in eight bits: the least one that has.
            Encoding.Transformed least = (Encoding.Transformed) encoded(TransformMethod.of(basis, 4).with("step", "1e-9"), w);
            float step = least.steps().data().get(ValueLayout.JAVA_FLOAT, 0);
            assertTrue(step > 0.001 && step < 1, basis + " has step " + step);
            Encoding.Transformed wide = (Encoding.Transformed) encoded(TransformMethod.of(basis, 4).with("step", "1e-9").with("codes", "int16"), w);
            assertTrue(wide.steps().data().get(ValueLayout.JAVA_FLOAT, 0) < step / 200, basis + " in 16 bits");
        }
        double rounded = entropy(encoded(TransformMethod.of(Basis.DCT, 4).with("step", "0.5"), w));
        assertTrue(entropy(encoded(TransformMethod.of(Basis.DCT, 4).with("step", "0.5").with("zone", "0.8"), w)) < 0.95 * rounded, "a wider zone");
    }

    /**
     * What one code for rows of different sizes loses beside a code for each: steps that are as the root of a row's size leave half of that where sizes differ
     * little, and 0.61 of it where they differ as here, by an integral of the densities.
     */
    @Test
    void rowsMayHaveSteps() {
        Weight w = weight(0, DType.F32, 256, 1024);
        double spread = 0.35;
        double logs = 0;
        double mean = 0;
        for (int i = 0; i < 256; i++) {
            double size = Math.exp(spread * Math.sqrt(3) * (2 * ((i * 89) % 256 + 0.5) / 256 - 1));
            logs += 2 * Math.log(size) / 256;
            mean += size * size / 256;
            for (int j = 0; j < 1024; j++) {
                long at = i * 1024L + j;
                w.tensor().data().setAtIndex(ValueLayout.JAVA_FLOAT, at, (float) (size * w.tensor().data().getAtIndex(ValueLayout.JAVA_FLOAT, at)));
            }
        }
        double best = Math.PI * Math.E / 6 * Math.pow(2, -8) * Math.exp(logs);
        for (Basis basis : Basis.values()) {
            Method whole = TransformMethod.of(basis, 4).with("dimensions", "1");
            double one = loss(encoded(whole, w), w);
            Encoding e = encoded(whole.with("rows", "1"), w);
            assertEquals(256, ((Encoding.Transformed) e).steps().shape().elements());
            if (basis == Basis.DCT || basis == Basis.HAAR) {
                assertEquals(4, entropy(e), 0.01);
                double gain = Math.log(one / best);
                assertEquals(0.61, Math.log(loss(e, w) / best) / gain, 0.04, basis + ": of " + gain);
            }
            assertTrue(loss(e, w) < 0.97 * one, basis + " loses " + loss(e, w) + ", not " + one);
            double by = loss(encoded(whole.with("error", "0.05").with("rows", "100"), w), w) / mean;
            assertEquals(0.05, Math.sqrt(by), basis == Basis.CDF97 ? 0.004 : 0.002, basis + " by error");
        }
    }

    /** What codes stand for is where the weight loses least, as a search finds it too. */
    @Test
    void pointsAreTheBest() {
        Weight w = weight(0, DType.F32, 64, 512);
        for (Basis basis : new Basis[] {Basis.DCT, Basis.CDF53}) {
            for (String zone : List.of("0.5", "0.75", "1")) {
                Method method = TransformMethod.of(basis, 1.2).with("zone", zone);
                double chosen = loss(encoded(method, w), w);
                double middle = loss(encoded(method.with("point", "0.5"), w), w);
                double least = Double.MAX_VALUE;
                for (int i = 1; i <= 50; i++) {
                    least = Math.min(least, loss(encoded(method.with("point", Double.toString(i / 100.0)), w), w));
                }
                assertEquals(1, chosen / least, 2e-4, basis + ", zone " + zone);
                assertTrue(chosen < 0.99 * middle, basis + ", zone " + zone + ": " + chosen + " and in the middle " + middle);
            }
        }
        Weight zeros = weight(0, DType.F32, 8, 100);
        zeros.tensor().data().fill((byte) 0);
        assertEquals(0, loss(encoded(TransformMethod.of(Basis.DCT, 4).with("rows", "3"), zeros), zeros));
    }

    @Test
    void anyShapeAndType() {
        for (DType type : List.of(DType.F32, DType.F16)) {
            for (long[] dims : new long[][] {{1}, {77}, {5, 3}, {1, 33}, {16, 4, 3, 3}}) {
                Weight w = weight(0.5, type, dims);
                for (Basis basis : Basis.values()) {
                    if (w.tensor().bytes() <= w.tensor().shape().elements() + 8) {
                        assertThrows(NoGainException.class, () -> encoded(TransformMethod.of(basis, 8), w));
                        continue;
                    }
                    Encoding e = encoded(TransformMethod.of(basis, 6).with("error", "0.02"), w);
                    assertTrue(loss(e, w) < 0.01, basis + " of " + w.tensor().shape());
                    assertEquals(loss(e, w), loss(e.copy(arena), w));
                }
            }
        }
    }

    @Test
    void sharedValues() {
        Weight w = weight(0, DType.F32, 100, 300);
        for (int ratio : new int[] {2, 8, 64}) {
            Encoding e = encoded(new HashMethod(ratio, DType.F32, 7), w);
            assertEquals(30_000 / ratio * 4L, e.form().bytes(w.tensor().shape()));
            // A mean of so many keeps its part of the squares; of two, some values stand for one element, or for none.
            assertEquals(1 - 1.0 / ratio, loss(e, w), ratio == 2 ? 0.12 : 0.03, ratio + " elements to a value");
            // In as many bytes there are twice as many values of f16.
            Encoding halves = encoded(new HashMethod(2.0 * ratio, DType.F16, 7), w);
            assertEquals(30_000 / ratio * 2L, halves.form().bytes(w.tensor().shape()));
            assertEquals(loss(e, w), loss(halves, w), 1e-6, "the same values in f16");
            assertTrue(loss(encoded(HashMethod.of(ratio), w), w) < loss(e, w));
        }
        Encoding one = encoded(new HashMethod(8, DType.F16, 1), w);
        assertNotEquals(-1, ((Encoding.Hashed) one).shared().data().mismatch(((Encoding.Hashed) encoded(new HashMethod(8, DType.F16, 2), w)).shared().data()));
        for (int i = 0; i < 100; i++) {
            w.tensor().data().setAtIndex(ValueLayout.JAVA_FLOAT, i, 3e38f);
        }
        String m = assertThrows(UnsupportedRequestException.class, () -> encoded(new HashMethod(2, DType.F16, 1), w)).getMessage();
        assertTrue(m.contains("weight w") && m.contains("f16"), m);
        encoded(new HashMethod(2, DType.F32, 1), w);
    }

    @Test
    void whatCannotBeIsRefused() {
        Weight w = weight(0, DType.F32, 8, 8);
        for (Method method : List.of(TransformMethod.of(Basis.DCT, 4), HashMethod.of(8))) {
            Prepared p = method.prepare(null);
            Form made = p.plan(w, new Form.Dense(DType.F32));
            String m = assertThrows(UnsupportedRequestException.class, () -> p.plan(w, made)).getMessage();
            assertTrue(m.contains(made.describe()), m);
            Weight none = weight(0, DType.F32, 0, 8);
            assertThrows(UnsupportedRequestException.class, () -> p.plan(none, new Form.Dense(DType.F32)));
        }
        w.tensor().data().setAtIndex(ValueLayout.JAVA_FLOAT, 9, Float.NaN);
        for (Basis basis : Basis.values()) {
            assertEquals(9, assertThrows(NonFiniteWeightException.class, () -> encoded(TransformMethod.of(basis, 4), w)).index());
        }
        assertEquals(9, assertThrows(NonFiniteWeightException.class, () -> encoded(HashMethod.of(8), w)).index());
        assertThrows(OptionException.class, () -> Methods.of("transform", java.util.Map.of("bits", "3", "step", "1")));
    }
}
