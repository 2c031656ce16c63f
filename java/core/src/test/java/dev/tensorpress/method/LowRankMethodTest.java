package dev.tensorpress.method;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.KernelException;
import dev.tensorpress.kernel.Svd.Certificate;
import dev.tensorpress.kernel.Sweeps;
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
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** {@link FactorizeMethod}, {@link CorrectMethod}, and {@link QuantizeMethod} of factors. */
class LowRankMethodTest {
    private Arena arena;
    private Workspace workspace;
    private Executor executor;

    @BeforeEach
    void open() {
        arena = Arena.ofShared();
        executor = Executor.cpu(2);
        workspace = new Workspace(executor);
    }

    @AfterEach
    void close() {
        workspace.close();
        executor.close();
        arena.close();
    }

    /** At an odd address, as weights in files may be. */
    private Weight weight(String name, Role role, int in, int out, DType type, float[] x, long... dims) {
        MemorySegment data = arena.allocate(type.bytes(x.length) + 1, 4).asSlice(1, type.bytes(x.length));
        for (int i = 0; i < x.length; i++) {
            switch (type) {
                case F32 -> data.set(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * i, x[i]);
                case F16 -> data.set(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i, Float.floatToFloat16(x[i]));
                default -> data.set(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i,
                        (short) (Float.floatToRawIntBits(x[i]) >>> 16));
            }
        }
        return new Weight(name, role, new Tensor(type, Shape.of(dims), data), in, out, List.of("MatMul " + name),
                Optional.empty());
    }

    private Weight linear(String name, float[] x, long... dims) {
        return weight(name, Role.LINEAR, 0, 1, DType.F32, x, dims);
    }

    /**
     * Singular values as given: cosines of different frequency are orthogonal. {@code first} is the frequency of the first
     * pair.
     */
    private static float[] matrix(int rows, int cols, int first, double... values) {
        double[] x = new double[rows * cols];
        for (int p = 0; p < values.length; p++) {
            for (int i = 0; i < rows; i++) {
                double u = Math.sqrt(2.0 / rows) * Math.cos(Math.PI * (p + first) * (i + 0.5) / rows);
                for (int j = 0; j < cols; j++) {
                    x[i * cols + j] += values[p] * u * Math.sqrt(2.0 / cols)
                            * Math.cos(Math.PI * (p + first) * (j + 0.5) / cols);
                }
            }
        }
        float[] f = new float[x.length];
        for (int i = 0; i < f.length; i++) {
            f[i] = (float) x[i];
        }
        return f;
    }

    private static float[] random(int n) {
        Random r = new Random(n);
        float[] x = new float[n];
        for (int i = 0; i < n; i++) {
            x[i] = (float) r.nextGaussian();
        }
        return x;
    }

    private static double[] falling(int n) {
        double[] values = new double[n];
        for (int i = 0; i < n; i++) {
            values[i] = Math.pow(0.8, i);
        }
        return values;
    }

    private float[] decode(Encoding e) {
        int n = (int) e.shape().elements();
        MemorySegment out = arena.allocate(4L * n + 4, 4);
        e.decode(out, executor);
        return out.asSlice(0, 4L * n).toArray(ValueLayout.JAVA_FLOAT);
    }

    private static double norm(float[] x) {
        double sum = 0;
        for (float v : x) {
            sum += (double) v * v;
        }
        return Math.sqrt(sum);
    }

    private static float[] difference(float[] a, float[] b) {
        float[] d = new float[a.length];
        for (int i = 0; i < a.length; i++) {
            d[i] = a[i] - b[i];
        }
        return d;
    }

    private Form.LowRank plan(FactorizeMethod method, Weight w) {
        return (Form.LowRank) method.prepare(new Evidence(List.of(w), workspace)).plan(w, new Form.Dense(w.tensor().dtype()));
    }

    private Encoding.LowRank factorize(FactorizeMethod method, Weight w) {
        Prepared prepared = method.prepare(new Evidence(List.of(w), workspace));
        Form form = prepared.plan(w, new Form.Dense(w.tensor().dtype()));
        return (Encoding.LowRank) prepared.apply(w, new Encoding.Dense(w.tensor()), form, workspace);
    }

    private static <T extends Exception> String message(Class<T> type, Executable run) {
        return assertThrows(type, run).getMessage();
    }

    // ---- ranks ----

    @Test
    void eachAmountGivesTheSmallestRank() {
        double[] s = falling(30);
        double total = 0;
        for (double v : s) {
            total += v * v;
        }
        Weight w = linear("w", matrix(80, 120, 1, s), 80, 120);
        double left = total;
        for (int r = 1; r <= 12; r++) {
            left -= s[r - 1] * s[r - 1];
            double share = left / total;
            assertEquals(r, plan(FactorizeMethod.energy(1 - share * 1.0001), w).rank());
            assertEquals(r + 1, plan(FactorizeMethod.energy(1 - share * 0.999), w).rank());
            assertEquals(r, plan(FactorizeMethod.error(Math.sqrt(share) * 1.0001), w).rank());
            assertEquals(r + 1, plan(FactorizeMethod.error(Math.sqrt(share) * 0.999), w).rank());
            assertEquals(r, plan(FactorizeMethod.rank(r), w).rank());
        }
        assertEquals(1, workspace.spectra().computed(), "one decomposition is enough for all of these");
        assertEquals(1, plan(FactorizeMethod.energy(0.99), linear("0", new float[600], 20, 30)).rank());
    }

    @ParameterizedTest
    @CsvSource({"F32, 0, 1, 200, 150", "F32, 1, 0, 200, 150", "F32, 1, 0, 30, 170", "F16, 0, 1, 64, 50", "BF16, 1, 0, 60, 44"})
    void factorsAreTheBestOfTheirRank(DType type, int in, int out, int rows, int cols) {
        double[] s = falling(20);
        Weight w = weight("w", Role.LINEAR, in, out, type, matrix(rows, cols, 1, s), rows, cols);
        float[] x = decode(new Encoding.Dense(w.tensor()));
        double rounding = type == DType.F32 ? 1e-5 : type == DType.F16 ? 2e-3 : 2e-2;
        for (int r : new int[] {1, 3, 8, 12}) {
            Encoding.LowRank e = factorize(FactorizeMethod.rank(r), w);
            assertEquals(in == 1, e.form().transposed());
            assertEquals(Shape.of(in == 1 ? cols : rows, r), e.left().shape());
            assertEquals(Shape.of(r, in == 1 ? rows : cols), e.right().shape());
            assertEquals(new Form.Dense(type), e.left().form());
            double best = 0;
            for (int i = r; i < s.length; i++) {
                best += s[i] * s[i];
            }
            best = Math.sqrt(best);
            assertEquals(best, norm(difference(x, decode(e))), rounding * norm(x));
            Certificate c = e.certificate();
            assertEquals(norm(x), c.norm(), 1e-6 * norm(x));
            assertEquals(best, c.error(), (type == DType.F32 ? 1e-4 : rounding) * norm(x));
            assertTrue(c.bound() <= c.error() && c.left() < 1e-5 && c.right() < 1e-5);
            // Even: the k-th column of one is as long as the k-th row of the other.
            float[] left = decode(e.left());
            float[] right = decode(e.right());
            int inputs = (int) e.left().shape().dim(0);
            int outputs = (int) e.right().shape().dim(1);
            for (int k = 0; k < r; k++) {
                double a = 0;
                double b = 0;
                for (int i = 0; i < inputs; i++) {
                    a += left[i * r + k] * left[i * r + k];
                }
                for (int j = 0; j < outputs; j++) {
                    b += right[k * outputs + j] * right[k * outputs + j];
                }
                assertEquals(s[k], a, (rounding + 1e-3) * s[0]);
                assertEquals(a, b, 2 * rounding * a);
            }
        }
    }

    @Test
    void spectraBoundTheErrorExactly() {
        Weight w = linear("w", random(90 * 70), 90, 70);
        Encoding.LowRank e = factorize(FactorizeMethod.error(0.8), w);
        Certificate c = e.certificate();
        assertTrue(c.relativeError() <= 0.8 && c.bound() > 0 && c.error() / c.bound() < 1 + 1e-6, c.toString());
        assertTrue(factorize(FactorizeMethod.rank(e.form().rank() - 1), w).certificate().relativeError() > 0.8);
    }

    /** Truncation of a flat spectrum loses a little: what was asked for is kept all the same. */
    @Test
    void amountsAreKeptToWhereDecompositionsAreTruncated() {
        Weight w = linear("w", random(400 * 300), 400, 300);
        for (double kept : new double[] {0.2, 0.4}) {
            Encoding.LowRank e = factorize(FactorizeMethod.energy(kept), w);
            double lost = e.certificate().relativeError();
            assertTrue(e.form().rank() < 120 && 1 - lost * lost >= kept - 1e-6, e.form().rank() + ": " + lost);
        }
    }

    @Test
    void convolutionsAreMatricesOfTheirOutputChannels() {
        Weight w = weight("k", Role.CONV, 1, 0, DType.F32, matrix(40, 6 * 9, 1, 3, 2, 1), 40, 6, 3, 3);
        Encoding.LowRank e = factorize(FactorizeMethod.energy(0.9999), w);
        assertEquals(3, e.form().rank());
        assertFalse(e.form().transposed());
        assertEquals(Shape.of(40, 3), e.left().shape());
        assertEquals(Shape.of(3, 54), e.right().shape());
        assertArrayEquals(decode(new Encoding.Dense(w.tensor())), decode(e), 1e-5f);
        Form.LowRank codes = (Form.LowRank) QuantizeMethod.int8().plan(w, e.form());
        assertEquals(0, ((Form.Quantized) codes.left()).axis(), "output channels come first");
        assertEquals(0, ((Form.Quantized) codes.right()).axis());
    }

    @Test
    void whatWouldGrowIsLeftAloneWithTheNumbers() {
        Weight w = linear("w", random(96 * 96), 96, 96);
        Prepared prepared = FactorizeMethod.energy(0.99).prepare(new Evidence(List.of(w), workspace));
        String m = message(NoGainException.class, () -> prepared.plan(w, new Form.Dense(DType.F32)));
        assertTrue(m.matches("factors of rank \\d\\d of 96 would take \\d{5} bytes instead of 36864, and less would not keep "
                + "to 99 % of the energy"), m);
        assertEquals(47, plan(FactorizeMethod.rank(47), w).rank());
        assertEquals("factors of rank 48 of 96 would take 36864 bytes instead of 36864",
                message(NoGainException.class, () -> plan(FactorizeMethod.rank(48), w)));
    }

    // ---- budgets ----

    @Test
    void budgetsTakeTheLeastErrorPerByte() {
        List<Weight> weights = List.of(linear("a", matrix(40, 60, 1, 9, 8, 7, 1e-3), 40, 60),
                linear("b", matrix(60, 40, 1, 6, 5, 2e-3), 60, 40), linear("c", random(1600), 40, 40));
        long whole = 4 * (2400 + 2400 + 1600);
        assertRanks(weights, whole, 0, 0, 0);
        // Four ranks of a and three of b are all they have, and a rank is 400 bytes.
        assertRanks(weights, 6400 + 1600 + 1200, 4, 3, 0);
        assertRanks(weights, 6400 + 1600 + 1200 - 1, 3, 3, 0);
        assertRanks(weights, 6400 + 1200 + 1200 - 1, 3, 2, 0);
        assertRanks(weights, 6400 + 1200 + 800 - 1, 3, 1, 0);
        assertRanks(weights, 6400 + 1200 + 400 - 1, 2, 1, 0);
        assertRanks(weights, 6400 + 800 + 400 - 1, 1, 1, 0);
        // Now c gives way, at once to what saves most for its error, and takes back what fits.
        assertRanks(weights, 6400 + 400 + 400 - 1, 1, 1, 19);
        long lowest = 400 + 400 + 320;
        assertRanks(weights, lowest, 1, 1, 1);
        Prepared none = FactorizeMethod.budget(lowest - 1).prepare(new Evidence(weights, workspace));
        assertEquals("even at rank 1 these weights take 1120 bytes, more than the budget of 1119",
                message(UnsupportedRequestException.class, () -> none.plan(weights.getFirst(), new Form.Dense(DType.F32))));
        assertEquals(3, workspace.spectra().computed());
    }

    /** Two matrices of the same spectrum, one of them a thousandth of the other. */
    @Test
    void budgetsComparedByNormTreatSmallWeightsAlike() {
        float[] x = matrix(60, 40, 1, falling(40));
        float[] small = new float[x.length];
        for (int i = 0; i < x.length; i++) {
            small[i] = x[i] / 1000;
        }
        List<Weight> weights = List.of(linear("large", x, 60, 40), linear("small", small, 60, 40));
        long budget = 2 * 400 * 8;
        assertRanks(weights, FactorizeMethod.budget(budget).relative(true), 8, 8);
        assertRanks(weights, FactorizeMethod.budget(budget), 15, 1);
    }

    private void assertRanks(List<Weight> weights, long budget, long... ranks) {
        assertRanks(weights, FactorizeMethod.budget(budget), ranks);
    }

    private void assertRanks(List<Weight> weights, FactorizeMethod method, long... ranks) {
        long budget = method.budget();
        Prepared prepared = method.prepare(new Evidence(weights, workspace));
        long bytes = 0;
        for (int i = 0; i < ranks.length; i++) {
            Weight w = weights.get(i);
            if (ranks[i] == 0) {
                assertTrue(message(NoGainException.class, () -> prepared.plan(w, new Form.Dense(DType.F32)))
                        .endsWith("leaves it whole"));
                bytes += w.tensor().bytes();
            } else {
                Form.LowRank form = (Form.LowRank) prepared.plan(w, new Form.Dense(DType.F32));
                assertEquals(ranks[i], form.rank(), w.name() + " for " + budget);
                bytes += form.bytes(w.tensor().shape());
            }
        }
        assertTrue(bytes <= budget);
    }

    /** Against all combinations of ranks. */
    @Test
    void greedyIsNearTheBestOfAllChoices() {
        List<Weight> weights = List.of(linear("a", matrix(12, 10, 1, falling(8)), 12, 10),
                linear("b", matrix(10, 12, 1, 2, 1.5, 1, 0.4, 0.3, 0.1), 10, 12));
        double[][] tails = {tails(falling(8)), tails(2, 1.5, 1, 0.4, 0.3, 0.1)};
        for (long budget = 180; budget < 960; budget += 40) {
            Prepared prepared = FactorizeMethod.budget(budget).prepare(new Evidence(weights, workspace));
            double error = 0;
            for (int i = 0; i < 2; i++) {
                try {
                    Form.LowRank f = (Form.LowRank) prepared.plan(weights.get(i), new Form.Dense(DType.F32));
                    error += tails[i][(int) f.rank()];
                } catch (NoGainException e) {
                    // whole: no error
                }
            }
            double best = Double.POSITIVE_INFINITY;
            double bestAtLess = Double.POSITIVE_INFINITY;
            for (int a = 0; a <= 5; a++) {
                for (int b = 0; b <= 5; b++) {
                    long bytes = (a == 0 ? 480 : 88 * a) + (b == 0 ? 480 : 88 * b);
                    double sum = (a == 0 ? 0 : tails[0][a]) + (b == 0 ? 0 : tails[1][b]);
                    if (bytes <= budget) {
                        best = Math.min(best, sum);
                    }
                    // A greedy choice wastes less than its last step, at most from whole to some rank.
                    if (bytes <= budget - 480 + 88) {
                        bestAtLess = Math.min(bestAtLess, sum);
                    }
                }
            }
            assertTrue(error >= best - 1e-9 && error <= bestAtLess + 1e-9, budget + ": " + error + ", best " + best);
        }
    }

    private static double[] tails(double... values) {
        double[] tails = new double[values.length + 1];
        for (int i = values.length - 1; i >= 0; i--) {
            tails[i] = tails[i + 1] + values[i] * values[i];
        }
        return tails;
    }

    @Test
    void whatIsLostIsKnownBeforehand() {
        Weight w = linear("w", matrix(80, 100, 1, 4, 2, 1), 80, 100);
        assertEquals(1 / 21.0, FactorizeMethod.energy(0.9).prepare(new Evidence(List.of(w), workspace)).loss(w).orElseThrow().whole(), 1e-6);
        assertEquals(Optional.empty(), FactorizeMethod.rank(2).prepare(new Evidence(List.of(w), workspace)).loss(w));
    }

    // ---- codes ----

    @Test
    void factorsAreQuantizedAsMatrices() {
        Weight w = weight("w", Role.LINEAR, 1, 0, DType.F32, matrix(80, 100, 1, falling(10)), 80, 100);
        Encoding.LowRank dense = factorize(FactorizeMethod.rank(10), w);
        QuantizeMethod method = QuantizeMethod.int8().perBlock(64);
        Form.LowRank form = (Form.LowRank) method.plan(w, dense.form());
        Form.Quantized left = (Form.Quantized) form.left();
        assertEquals(0, left.axis());
        assertEquals(64, left.block());
        assertEquals(16, ((Form.Quantized) form.right()).block(), "there are only ten ranks");
        Encoding.LowRank codes = (Encoding.LowRank) method.apply(w, dense, form, workspace);
        assertSame(dense.certificate(), codes.certificate());
        assertEquals(100 * 10 + 10 * 80 + 4 * (2 * 10 + 80), form.bytes(w.tensor().shape()));
        float[] x = decode(dense);
        double error = norm(difference(x, decode(codes))) / norm(x);
        assertTrue(error > 1e-4 && error < 0.02, "" + error);
        Form.LowRank channels = (Form.LowRank) QuantizeMethod.int8().plan(w, dense.form());
        assertEquals(1, ((Form.Quantized) channels.left()).axis());
        assertThrows(UnsupportedRequestException.class, () -> method.plan(w, form));
    }

    @Test
    void factorsComeFirst() {
        Weight w = linear("w", random(900), 30, 30);
        Form quantized = QuantizeMethod.int8().plan(w, new Form.Dense(DType.F32));
        String m = message(UnsupportedRequestException.class, () -> FactorizeMethod.rank(2).prepare(Evidence.NOTHING).plan(w, quantized));
        assertEquals("cannot factorize int8 per channel: factorize comes first, and quantize after it", m);
        Form.LowRank factors = plan(FactorizeMethod.rank(2), w);
        m = message(UnsupportedRequestException.class, () -> CorrectMethod.rank(2).plan(w, factors));
        assertEquals("cannot correct rank 2 f32: correct comes after quantize, for weights that are neither pruned nor factorized", m);
        Form sum = CorrectMethod.rank(2).plan(w, quantized);
        assertThrows(UnsupportedRequestException.class, () -> QuantizeMethod.int8().plan(w, sum));
        assertThrows(UnsupportedRequestException.class, () -> FactorizeMethod.rank(2).prepare(Evidence.NOTHING).plan(w, sum));
    }

    // ---- corrections ----

    private Encoding.Sum correct(QuantizeMethod quantize, CorrectMethod correct, Weight w, Workspace space) {
        Form base = quantize.plan(w, new Form.Dense(w.tensor().dtype()));
        Form.Sum sum = (Form.Sum) correct.plan(w, base);
        Encoding q = quantize.apply(w, new Encoding.Dense(w.tensor()), sum.base(), space);
        return (Encoding.Sum) correct.apply(w, q, sum, space);
    }

    @ParameterizedTest
    @CsvSource({"F32, 0, 1", "F32, 1, 0", "F16, 1, 0", "BF16, 0, 1"})
    void correctionsAreTheBestOfTheirRank(DType type, int in, int out) {
        Weight w = weight("w", Role.LINEAR, in, out, type, random(90 * 64), 90, 64);
        float[] x = decode(new Encoding.Dense(w.tensor()));
        QuantizeMethod quantize = QuantizeMethod.int4();
        double before = Double.POSITIVE_INFINITY;
        for (int r : new int[] {1, 4, 16}) {
            Encoding.Sum e = correct(quantize, CorrectMethod.rank(r), w, workspace);
            assertEquals(in == 1, e.form().correction().transposed());
            assertEquals(Shape.of(in == 1 ? 64 : 90, r), e.correction().left().shape());
            float[] residual = difference(x, decode(e.base()));
            float[] left = difference(x, decode(e));
            assertEquals(norm(residual), e.correction().certificate().norm(), 1e-5 * norm(residual));
            double error = norm(left);
            assertEquals(e.correction().certificate().error(), error, 0.01 * error);
            // What is left has no singular value above the last that was taken.
            Weight rest = linear("rest", residual, 90, 64);
            Spectrum s = Factors.spectrum(rest, workspace);
            double best = Math.sqrt(s.lost(r) * s.squares());
            assertTrue(error >= best * 0.999 && error <= best * (type == DType.F32 ? 1.001 : 1.02), error + ", best " + best);
            assertTrue(error < before);
            before = error;
        }
    }

    @Test
    void correctionsInEightBits() {
        Weight w = linear("w", random(128 * 96), 128, 96);
        float[] x = decode(new Encoding.Dense(w.tensor()));
        Encoding.Sum floats = correct(QuantizeMethod.int4(), CorrectMethod.rank(8), w, workspace);
        double error = norm(difference(x, decode(floats)));
        Encoding.Sum codes = correct(QuantizeMethod.int4(), CorrectMethod.rank(8).factors(CorrectMethod.Storage.INT8), w, workspace);
        Form.Quantized left = (Form.Quantized) codes.form().correction().left();
        assertEquals(8, left.bits());
        assertEquals(64, left.block());
        assertEquals(error, norm(difference(x, decode(codes))), 2e-3 * error);
        Form.Sum channels = (Form.Sum) CorrectMethod.rank(8).factors(CorrectMethod.Storage.INT8)
                .plan(w, QuantizeMethod.int8().plan(w, new Form.Dense(DType.F32)));
        assertEquals(0, ((Form.Quantized) channels.correction().right()).block());
    }

    @Test
    void whatCorrectionsLeaveAlone() {
        Weight w = linear("w", random(64 * 64), 64, 64);
        Form eight = QuantizeMethod.int8().plan(w, new Form.Dense(DType.F32));
        assertEquals("codes of 8 bits, more than 4, are left as they are",
                message(NoGainException.class, () -> CorrectMethod.rank(2).maxBits(4).plan(w, eight)));
        assertTrue(message(UnsupportedRequestException.class, () -> CorrectMethod.rank(65).plan(w, eight)).contains("65"));
        Form.Sparse pruned = new Form.Sparse(eight, "50 %", 9, Form.Storage.MASKED);
        assertThrows(UnsupportedRequestException.class, () -> CorrectMethod.rank(2).plan(w, pruned));
    }

    // ---- what does not fit ----

    @Test
    void badAmountsAreNamed() {
        for (String[] bad : new String[][] {{"rank", "0"}, {"rank", "-1"}, {"rank", "x"}, {"energy", "0"}, {"energy", "1"},
            {"energy", "NaN"}, {"error", "1"}, {"error", "-0.1"}, {"budget", "-1"}, {"budget", "1.5"}}) {
            String m = message(IllegalArgumentException.class, () -> FactorizeMethod.rank(1).with(bad[0], bad[1]));
            assertTrue(m.startsWith(bad[0] + " must be"), m);
        }
        for (String[] bad : new String[][] {{"rank", "0"}, {"rank", "-1"}, {"factors", "int4"}, {"max-bits", "9"}, {"max-bits", "1"}, {"inputs", "none"}}) {
            String m = message(IllegalArgumentException.class, () -> CorrectMethod.rank(1).with(bad[0], bad[1]));
            assertTrue(m.startsWith(bad[0] + " must be"), m);
        }
        assertNull(FactorizeMethod.rank(1).with("bits", "4"));
        assertNull(CorrectMethod.rank(1).with("energy", "0.5"));
        assertThrows(IllegalArgumentException.class, () -> new FactorizeMethod(1, 0.5, 0, -1, false));
        assertThrows(IllegalArgumentException.class, () -> new FactorizeMethod(0, 0, 0, -1, false));
        assertThrows(IllegalArgumentException.class, () -> FactorizeMethod.rank(0));
        assertThrows(IllegalArgumentException.class, () -> CorrectMethod.rank(0));
        assertEquals(FactorizeMethod.budget(7), FactorizeMethod.energy(0.5).with("budget", "7"));
        assertThrows(IllegalArgumentException.class, () -> FactorizeMethod.rank(1).with("relative", "true"));
        assertThrows(IllegalArgumentException.class, () -> FactorizeMethod.budget(1).with("relative", "1"));
        Method relative = FactorizeMethod.budget(7).with("relative", "true").with("budget", "8");
        assertEquals(FactorizeMethod.budget(8).relative(true), relative);
        assertEquals(FactorizeMethod.rank(3), relative.with("rank", "3"));
    }

    @Test
    void whatIsNoMatrixIsRefusedByThePlan() {
        Weight w = linear("w", random(600), 20, 30);
        for (FactorizeMethod method : List.of(FactorizeMethod.rank(1), FactorizeMethod.energy(0.5))) {
            for (Weight bad : List.of(weight("v", Role.BIAS, -1, -1, DType.F32, random(30), 30),
                    weight("e", Role.LINEAR, 0, 1, DType.F32, new float[0], 0, 30),
                    weight("t", Role.CONV, 0, 1, DType.F32, random(81), 3, 3, 3, 3),
                    weight("l", Role.RECURRENT, 2, 1, DType.F32, random(64), 1, 8, 8))) {
                Prepared prepared = method.prepare(new Evidence(List.of(bad, w), workspace));
                assertThrows(UnsupportedRequestException.class, () -> prepared.plan(bad, new Form.Dense(DType.F32)), bad.name());
                prepared.plan(w, new Form.Dense(DType.F32));
            }
        }
        assertEquals("rank 21 is more than the 20 of 20x30", message(UnsupportedRequestException.class,
                () -> plan(FactorizeMethod.rank(21), w)));
    }

    @ParameterizedTest
    @CsvSource({"NaN, F32", "Infinity, F32", "-Infinity, F16", "NaN, BF16"})
    void whatIsNotFiniteIsNamed(float bad, DType type) {
        float[] x = random(600);
        x[77] = bad;
        Weight w = weight("w", Role.LINEAR, 0, 1, type, x, 20, 30);
        for (FactorizeMethod method : List.of(FactorizeMethod.rank(2), FactorizeMethod.energy(0.5), FactorizeMethod.budget(100))) {
            NonFiniteWeightException e = assertThrows(NonFiniteWeightException.class, () -> factorize(method, w));
            assertEquals("w", e.weight());
            assertEquals(77, e.index());
        }
    }

    @Test
    void decompositionsThatDoNotConvergeAreNamed() {
        Sweeps.allowOne(workspace.svd());
        Weight w = linear("w", random(600), 20, 30);
        for (Executable run : List.<Executable>of(() -> factorize(FactorizeMethod.rank(2), w),
                () -> factorize(FactorizeMethod.energy(0.3), w),
                () -> correct(QuantizeMethod.int4(), CorrectMethod.rank(2), w, workspace))) {
            KernelException e = assertThrows(KernelException.class, run);
            assertEquals(KernelException.CONVERGENCE, e.status());
            assertTrue(e.getMessage().matches("weight w: .*TP_ERR_CONVERGENCE.*"), e.getMessage());
        }
    }

    /** What is wrong is not the weight, all of whose elements are finite, but what rounding makes of it. */
    @Test
    void residualsOutOfRangeAreNamed() {
        float[] x = random(1024);
        x[5] = Float.MAX_VALUE;
        Weight w = linear("w", x, 32, 32);
        KernelException e = assertThrows(KernelException.class,
                () -> correct(QuantizeMethod.int8(), CorrectMethod.rank(2), w, workspace));
        assertEquals(KernelException.NONFINITE, e.status());
        assertTrue(e.getMessage().startsWith("weight w: "), e.getMessage());
    }

    @Test
    void scalesThatDoNotFitAreNamed() {
        float[] x = random(600);
        x[77] = 1e9f;
        Weight w = linear("w", x, 20, 30);
        Form.Quantized form = (Form.Quantized) QuantizeMethod.int8().plan(w, new Form.Dense(DType.F32));
        Form narrow = form.stored(DType.I8, DType.F16, false, false);
        KernelException e = assertThrows(KernelException.class,
                () -> QuantizeMethod.int8().apply(w, new Encoding.Dense(w.tensor()), narrow, workspace));
        assertEquals("weight w: tp_quantize: TP_ERR_SCALE", e.getMessage());
    }

    @Test
    void extremeMagnitudes() {
        for (float scale : new float[] {1e-30f, 1e-38f, 1e36f}) {
            float[] x = matrix(50, 40, 1, 1, 0.5, 0.25);
            for (int i = 0; i < x.length; i++) {
                x[i] *= scale;
            }
            Weight w = linear("w" + scale, x, 50, 40);
            Encoding.LowRank e = factorize(FactorizeMethod.energy(0.99), w);
            assertEquals(3, e.form().rank());
            assertTrue(norm(difference(x, decode(e))) <= 1e-4 * norm(x) + 1e-40, "" + scale);
        }
    }

    @Test
    void sameForAnyNumberOfThreads() {
        Weight w = linear("w", random(300 * 200), 300, 200);
        List<float[]> results = new ArrayList<>();
        for (int threads : new int[] {1, 3}) {
            try (Executor own = Executor.cpu(threads); Workspace space = new Workspace(own)) {
                for (FactorizeMethod method : List.of(FactorizeMethod.rank(20), FactorizeMethod.energy(0.7), FactorizeMethod.budget(150_000))) {
                    Prepared prepared = method.prepare(new Evidence(List.of(w), space));
                    Form form = prepared.plan(w, new Form.Dense(DType.F32));
                    Encoding.LowRank e = (Encoding.LowRank) prepared.apply(w, new Encoding.Dense(w.tensor()), form, space);
                    results.add(decode(e.left()));
                    results.add(decode(e.right()));
                }
                Encoding.Sum sum = correct(QuantizeMethod.int4(), CorrectMethod.rank(16), w, space);
                results.add(decode(sum.correction().left()));
                results.add(decode(sum.correction().right()));
            }
        }
        for (int i = 0; i < 8; i++) {
            assertArrayEquals(results.get(i), results.get(8 + i));
        }
    }
}
