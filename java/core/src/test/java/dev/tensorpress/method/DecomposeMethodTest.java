package dev.tensorpress.method;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import dev.tensorpress.Effort.RandomTest;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.LinearAlgebra;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.kernel.Tucker;
import dev.tensorpress.kernel.Tucker.Ranks;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** {@link DecomposeMethod}, and how {@link TuckerRanks} are chosen. */
class DecomposeMethodTest {
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

    /** Signal of these ranks, and noise. */
    private float[] kernel(Random random, int m, int n, int k, int r, int q, double noise) {
        double[] core = random.doubles((long) r * q * k, -1, 1).toArray();
        double[] u = random.doubles((long) m * r, -1, 1).toArray();
        double[] v = random.doubles((long) q * n, -1, 1).toArray();
        float[] w = new float[m * n * k];
        for (int o = 0; o < m; o++) {
            for (int i = 0; i < n; i++) {
                for (int p = 0; p < k; p++) {
                    double sum = noise * random.nextGaussian();
                    for (int a = 0; a < r; a++) {
                        for (int b = 0; b < q; b++) {
                            sum += u[o * r + a] * core[(a * q + b) * k + p] * v[b * n + i];
                        }
                    }
                    w[(o * n + i) * k + p] = (float) sum;
                }
            }
        }
        return w;
    }

    private Weight weight(String name, float[] w, long... dims) {
        MemorySegment data = arena.allocate(4L * w.length + 1, 4).asSlice(1, 4L * w.length);
        data.copyFrom(MemorySegment.ofArray(w));
        return new Weight(name, Role.CONV, new Tensor(DType.F32, Shape.of(dims), data), 1, 0, List.of("Conv " + name), Optional.empty());
    }

    private TuckerRanks ranks(float[] w, int m, int n, int k) {
        Tucker.Size size = new Tucker.Size(m, n, k);
        MemorySegment turned = arena.allocate(4L * w.length, 64);
        Tucker.channelsLast(size, arena.allocate(4L * w.length, 64).copyFrom(MemorySegment.ofArray(w)), false, turned, executor);
        try (LinearAlgebra la = new LinearAlgebra(executor)) {
            return new TuckerRanks(size, Spectrum.of(new View(DType.F32, turned, (long) k * n), m, (long) k * n, la),
                    Spectrum.of(new View(DType.F32, turned, n), (long) m * k, n, la));
        }
    }

    private Form.Chain plan(DecomposeMethod method, Weight... weights) {
        return method.prepare(new Evidence(List.of(weights), workspace)).plan(weights[0], new Form.Dense(DType.F32)).chain();
    }

    private double error(DecomposeMethod method, Weight w) {
        Prepared prepared = method.prepare(new Evidence(List.of(w), workspace));
        Encoding e = prepared.apply(w, new Encoding.Dense(w.tensor()), prepared.plan(w, new Form.Dense(DType.F32)), workspace);
        MemorySegment out = arena.allocate(w.tensor().bytes(), 64);
        e.decode(out, executor);
        double lost = 0;
        double all = 0;
        for (int i = 0; i < w.tensor().shape().elements(); i++) {
            double x = w.tensor().data().get(JAVA_FLOAT_UNALIGNED, 4L * i);
            lost += Math.pow(x - out.getAtIndex(JAVA_FLOAT, i), 2);
            all += x * x;
        }
        assertEquals(Math.sqrt(lost / all), ((Encoding.Chain) e).result().relativeError(), 1e-5);
        return Math.sqrt(lost / all);
    }

    private static UnsupportedRequestException refused(Runnable run) {
        return assertThrows(UnsupportedRequestException.class, run::run);
    }

    @RandomTest
    void ranksAreTheBestThatThereAre() {
        Random random = Effort.random();
        for (int[] s : new int[][] {{12, 9, 3}, {6, 30, 2}, {30, 5, 2}}) {
            TuckerRanks of = ranks(kernel(random, s[0], s[1], s[2], 4, 3, 0.2), s[0], s[1], s[2]);
            for (double part : new double[] {0, 0.001, 0.02, 0.3, 1}) {
                long least = Long.MAX_VALUE;
                for (int r = 1; r <= s[0]; r++) {
                    for (int q = 1; q <= s[1]; q++) {
                        if (r <= q * s[2] && q <= r * s[2] && r <= of.outputs().size() && q <= of.inputs().size()
                                && of.outputs().lost(r) + of.inputs().lost(q) <= part + 1e-13) {
                            least = Math.min(least, new Ranks(r, q).elements(of.size()));
                        }
                    }
                }
                assertEquals(least, of.losing(part).elements(of.size()), part + " of " + of.size());
            }
        }
    }

    @RandomTest
    void ranksOfSignalsInNoiseAreFound() {
        Random random = Effort.random();
        for (double noise : new double[] {1e-3, 0.1, 0.3}) {
            assertEquals(new Ranks(5, 4), ranks(kernel(random, 40, 50, 9, 5, 4, noise), 40, 50, 9).significant(), "noise " + noise);
        }
        // Noise alone, nothing, and a signal without noise.
        assertEquals(new Ranks(1, 1), ranks(kernel(random, 40, 50, 9, 0, 0, 1), 40, 50, 9).significant());
        assertEquals(new Ranks(1, 1), ranks(new float[40 * 50 * 9], 40, 50, 9).significant());
        Ranks exact = ranks(kernel(random, 40, 50, 9, 5, 4, 0), 40, 50, 9).significant();
        assertTrue(exact.outputs() >= 5 && exact.inputs() >= 4, exact.toString());
        // Nothing holds the two to what a core can have.
        TuckerRanks few = ranks(kernel(random, 40, 50, 2, 1, 1, 0.1), 40, 50, 2);
        TuckerRanks many = ranks(kernel(random, 40, 50, 2, 9, 9, 0.1), 40, 50, 2);
        assertEquals(new Ranks(1, 2), new TuckerRanks(few.size(), few.outputs(), many.inputs()).significant());
        assertEquals(new Ranks(2, 1), new TuckerRanks(few.size(), many.outputs(), few.inputs()).significant());
    }

    @Test
    void amountsAreKeptTo() {
        Random random = Effort.random();
        Weight w = weight("w", kernel(random, 40, 30, 9, 12, 10, 0.3), 40, 30, 3, 3);
        assertTrue(error(DecomposeMethod.of("error", 0.3), w) <= 0.3);
        assertTrue(error(DecomposeMethod.of("energy", 0.9), w) <= Math.sqrt(0.1));
        assertEquals(plan(DecomposeMethod.of("energy", 0.91), w), plan(DecomposeMethod.of("error", 0.3), w));
        Form.Chain ranks = plan(DecomposeMethod.of("rank", 7).inputRank(5), w);
        assertEquals("tucker 7x5 f32", ranks.describe());
        assertEquals("tucker 6x6 f32", plan(DecomposeMethod.of("rank", 6), w).describe());
        assertEquals("cp 20 f32", plan(DecomposeMethod.of("rank", 20).by(DecomposeMethod.By.CP), w).describe());
        assertTrue(error(DecomposeMethod.of("rank", 100).by(DecomposeMethod.By.CP), w) < error(DecomposeMethod.of("rank", 20).by(DecomposeMethod.By.CP), w));
        assertEquals("tucker 12x10 f32", plan(DecomposeMethod.of("ranks", 0), w).describe());
    }

    @Test
    void budgetsAreOfAllKernelsTogether() {
        Random random = Effort.random();
        Weight a = weight("a", kernel(random, 40, 30, 9, 4, 3, 0.05), 40, 30, 3, 3);
        Weight b = weight("b", kernel(random, 30, 50, 9, 20, 20, 0.5), 30, 50, 3, 3);
        long all = a.tensor().bytes() + b.tensor().bytes();
        for (long budget : new long[] {all / 2, all / 5, all / 20}) {
            Prepared prepared = DecomposeMethod.of("budget", budget).prepare(new Evidence(List.of(a, b), workspace));
            long bytes = 0;
            for (Weight w : List.of(a, b)) {
                bytes += prepared.plan(w, new Form.Dense(DType.F32)).bytes(w.tensor().shape());
            }
            assertTrue(bytes <= budget && bytes > 0.8 * budget, bytes + " of " + budget);
        }
        Prepared terms = DecomposeMethod.of("budget", all / 4).by(DecomposeMethod.By.CP).prepare(new Evidence(List.of(a, b), workspace));
        long bytes = terms.plan(a, new Form.Dense(DType.F32)).bytes(a.tensor().shape()) + terms.plan(b, new Form.Dense(DType.F32)).bytes(b.tensor().shape());
        assertTrue(bytes <= all / 4 && bytes > 0.9 * all / 4, bytes + " of " + all / 4);
        String why = refused(() -> plan(DecomposeMethod.of("budget", 100), a, b)).getMessage();
        assertTrue(why.contains("even with ranks of 1") && why.contains("more than the budget of 100"), why);
        assertTrue(refused(() -> plan(DecomposeMethod.of("budget", 100).by(DecomposeMethod.By.CP), a, b)).getMessage().contains("less than one term"));
        // All of it is too much for nothing.
        assertThrows(NoGainException.class, () -> plan(DecomposeMethod.of("budget", 10 * all), a, b));
    }

    @Test
    void badAmountsAreNamed() {
        for (Map<String, String> given : List.of(Map.of("by", "cp", "energy", "0.5"), Map.of("by", "cp", "rank", "3", "input-rank", "2"),
                Map.of("energy", "0.5", "input-rank", "2"), Map.of("energy", "0.5", "rank", "2"), Map.of("by", "tucker"), Map.of("rank", "0"),
                Map.of("error", "1"), Map.of("ranks", "some"), Map.of("multiply-adds", "1"), Map.of("multiply-adds", "0.5", "budget", "5"))) {
            assertThrows(OptionException.class, () -> Methods.of("decompose", given), given.toString());
        }
        assertThrows(IllegalArgumentException.class, () -> DecomposeMethod.of("size", 1));
    }

    @Test
    void whatIsNotFiniteIsNamed() {
        float[] w = new float[20 * 20 * 9];
        w[123] = Float.NaN;
        Weight bad = weight("w", w, 20, 20, 3, 3);
        for (DecomposeMethod method : List.of(DecomposeMethod.of("energy", 0.5), DecomposeMethod.of("rank", 3),
                DecomposeMethod.of("rank", 3).by(DecomposeMethod.By.CP))) {
            NonFiniteWeightException e = assertThrows(NonFiniteWeightException.class, () -> error(method, bad));
            assertEquals(123, e.index());
        }
    }
}
