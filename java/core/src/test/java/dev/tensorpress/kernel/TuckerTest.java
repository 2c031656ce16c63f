package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import dev.tensorpress.Effort.RandomTest;
import dev.tensorpress.kernel.Tucker.Options;
import dev.tensorpress.kernel.Tucker.Ranks;
import dev.tensorpress.kernel.Tucker.Result;
import dev.tensorpress.kernel.Tucker.Size;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** {@link Tucker} and {@link Polyadic}: what they make of kernels of known rank, and of others. */
class TuckerTest {
    private Arena arena;
    private Executor executor;
    private LinearAlgebra algebra;

    @BeforeEach
    void open() {
        arena = Arena.ofShared();
        executor = Executor.cpu(2);
        algebra = new LinearAlgebra(executor);
    }

    @AfterEach
    void close() {
        algebra.close();
        executor.close();
        arena.close();
    }

    private MemorySegment room(long elements) {
        return arena.allocate(4 * elements, 64);
    }

    private static double[] normal(Random random, long n) {
        return random.doubles(n, -1, 1).map(x -> 1.5 * x + x * x * x).toArray();
    }

    /** U C V, a kernel [outputs, inputs, places]. */
    private static double[] tucker(Size size, Ranks ranks, double[] u, double[] core, double[] v) {
        int m = (int) size.outputs();
        int n = (int) size.inputs();
        int k = (int) size.places();
        int r = (int) ranks.outputs();
        int q = (int) ranks.inputs();
        double[] half = new double[r * n * k];
        for (int a = 0; a < r; a++) {
            for (int b = 0; b < q; b++) {
                for (int i = 0; i < n; i++) {
                    for (int p = 0; p < k; p++) {
                        half[(a * n + i) * k + p] += core[(a * q + b) * k + p] * v[b * n + i];
                    }
                }
            }
        }
        double[] w = new double[m * n * k];
        for (int o = 0; o < m; o++) {
            for (int a = 0; a < r; a++) {
                for (int j = 0; j < n * k; j++) {
                    w[o * n * k + j] += u[o * r + a] * half[a * n * k + j];
                }
            }
        }
        return w;
    }

    /** The sum of the terms, a kernel [outputs, inputs, places]. */
    private static double[] polyadic(Size size, int rank, double[] a, double[] s, double[] b) {
        int n = (int) size.inputs();
        int k = (int) size.places();
        double[] w = new double[(int) size.elements()];
        for (int o = 0; o < size.outputs(); o++) {
            for (int t = 0; t < rank; t++) {
                for (int i = 0; i < n; i++) {
                    for (int p = 0; p < k; p++) {
                        w[(o * n + i) * k + p] += a[o * rank + t] * b[t * n + i] * s[t * k + p];
                    }
                }
            }
        }
        return w;
    }

    private MemorySegment segment(double[] x) {
        MemorySegment out = room(x.length);
        for (int i = 0; i < x.length; i++) {
            out.setAtIndex(JAVA_FLOAT, i, (float) x[i]);
        }
        return out;
    }

    private MemorySegment turned(Size size, double[] w) {
        MemorySegment out = room(w.length);
        Tucker.channelsLast(size, segment(w), false, out, executor);
        return out;
    }

    private static double[] wide(MemorySegment x) {
        double[] out = new double[(int) (x.byteSize() / 4)];
        for (int i = 0; i < out.length; i++) {
            out[i] = x.getAtIndex(JAVA_FLOAT, i);
        }
        return out;
    }

    private static double distance(double[] x, double[] y) {
        double sum = 0;
        for (int i = 0; i < x.length; i++) {
            sum += (x[i] - y[i]) * (x[i] - y[i]);
        }
        return Math.sqrt(sum);
    }

    private static double norm(double[] x) {
        return distance(x, new double[x.length]);
    }

    private record Factors(Result result, MemorySegment u, MemorySegment core, MemorySegment v) {
        double[] whole(Size size, Ranks ranks) {
            return tucker(size, ranks, wide(u), wide(core), wide(v));
        }
    }

    private Factors decompose(LinearAlgebra la, Size size, double[] w, Ranks ranks, Options options) {
        MemorySegment u = room(size.outputs() * ranks.outputs());
        MemorySegment core = room(ranks.outputs() * ranks.inputs() * size.places());
        MemorySegment v = room(ranks.inputs() * size.inputs());
        Result result = new Tucker(la).decompose(size, turned(size, w), ranks, options, u, core, v);
        return new Factors(result, u, core, v);
    }

    private Factors polyadic(LinearAlgebra la, Size size, double[] w, int rank, Options options) {
        MemorySegment a = room(size.outputs() * rank);
        MemorySegment s = room(rank * size.places());
        MemorySegment b = room(rank * size.inputs());
        Result result = new Polyadic(la).decompose(size, turned(size, w), rank, options, a, s, b);
        return new Factors(result, a, s, b);
    }

    /** Rows of x [rows, cols], or its columns. */
    private static void orthonormal(double[] x, int rows, int cols, boolean columns) {
        int count = columns ? cols : rows;
        int length = columns ? rows : cols;
        for (int i = 0; i < count; i++) {
            for (int j = 0; j <= i; j++) {
                double sum = 0;
                for (int l = 0; l < length; l++) {
                    sum += columns ? x[l * cols + i] * x[l * cols + j] : x[i * cols + l] * x[j * cols + l];
                }
                assertEquals(i == j ? 1 : 0, sum, 1e-6);
            }
        }
    }

    @RandomTest
    void kernelsOfThatRankAreFoundAgain() {
        Random random = Effort.random();
        Ranks ranks = new Ranks(7, 5);
        // Either side the smaller one, windows of one place too, Gram matrices of either side.
        for (Size size : new Size[] {new Size(30, 21, 9), new Size(17, 90, 3), new Size(80, 9, 1), new Size(90, 8, 2), new Size(7, 5, 9)}) {
            Ranks r = size.places() == 1 ? new Ranks(5, 5) : ranks;
            double[] w = tucker(size, r, normal(random, size.outputs() * r.outputs()),
                    normal(random, r.outputs() * r.inputs() * size.places()), normal(random, r.inputs() * size.inputs()));
            Factors f = decompose(algebra, size, w, r, Options.DEFAULT);
            assertEquals(norm(w), f.result.norm(), 1e-6 * norm(w));
            assertTrue(f.result.relativeError() < 1e-6, f.result.toString());
            assertEquals(distance(w, f.whole(size, r)), f.result.error(), 2e-6 * norm(w));
            assertTrue(f.result.converged());
            orthonormal(wide(f.u), (int) size.outputs(), (int) r.outputs(), true);
            orthonormal(wide(f.v), (int) r.inputs(), (int) size.inputs(), false);
        }
    }

    @RandomTest
    void sidesOfFullRankStayAsTheyAre() {
        Size size = new Size(12, 20, 9);
        double[] w = normal(Effort.random(), size.elements());
        Factors u = decompose(algebra, size, w, new Ranks(12, 7), Options.DEFAULT);
        Factors v = decompose(algebra, size, w, new Ranks(5, 20), Options.DEFAULT);
        for (int i = 0; i < 20; i++) {
            for (int j = 0; j < 20; j++) {
                float unit = i == j ? 1 : 0;
                assertEquals(unit, v.v.getAtIndex(JAVA_FLOAT, i * 20 + j));
                if (i < 12 && j < 12) {
                    assertEquals(unit, u.u.getAtIndex(JAVA_FLOAT, i * 12 + j));
                }
            }
        }
        assertEquals(distance(w, u.whole(size, new Ranks(12, 7))), u.result.error(), 1e-6 * norm(w));
        // Then there is one decomposition, whose error is known.
        assertEquals(decompose(algebra, size, w, new Ranks(12, 7), new Options(50, 0)).result.error(), u.result.error(), 1e-6 * norm(w));
        Factors all = decompose(algebra, size, w, new Ranks(12, 20), Options.DEFAULT);
        assertEquals(0, all.result.error());
    }

    /** Of nine places three: the others are 0, or too small to be squared in f32. */
    @RandomTest
    void placesWithNothingAreLeftOut() {
        for (double nothing : new double[] {0, 1e-40}) {
            for (int turn = 0; turn < 2; turn++) {
                Size size = turn == 0 ? new Size(20, 30, 9) : new Size(30, 20, 9);
                double[] w = normal(Effort.random(), size.elements());
                for (int i = 0; i < w.length; i++) {
                    w[i] *= i % 9 / 3 == 1 ? 1 : nothing;
                }
                // As many of the one side as three places admit, and more than that: the other side's rank alone counts.
                double best = decompose(algebra, size, w, turn == 0 ? new Ranks(4, 30) : new Ranks(30, 4), Options.DEFAULT).result.error();
                for (int more : new int[] {12, 19}) {
                    Ranks ranks = turn == 0 ? new Ranks(4, more) : new Ranks(more, 4);
                    Factors f = decompose(algebra, size, w, ranks, Options.DEFAULT);
                    assertEquals(best, f.result.error(), 1e-6 * norm(w));
                    assertEquals(best, distance(w, f.whole(size, ranks)), 1e-6 * norm(w));
                    assertEquals(norm(w), f.result.norm(), 1e-6 * norm(w));
                }
                // Fewer of both are iterated, as those of the three places alone.
                Size three = new Size(size.outputs(), size.inputs(), 3);
                double[] alone = new double[(int) three.elements()];
                for (int i = 0; i < alone.length; i++) {
                    alone[i] = w[i / 3 * 9 + 3 + i % 3];
                }
                assertEquals(decompose(algebra, three, alone, new Ranks(5, 6), Options.DEFAULT).result, decompose(algebra, size, w, new Ranks(5, 6), Options.DEFAULT).result);
            }
        }
    }

    @RandomTest
    void theErrorFallsBelowThatOfTruncation() {
        Size size = new Size(24, 40, 9);
        Ranks ranks = new Ranks(6, 5);
        double[] w = normal(Effort.random(), size.elements());
        double before = Double.POSITIVE_INFINITY;
        for (int iterations : new int[] {1, 2, 5, 100}) {
            Factors f = decompose(algebra, size, w, ranks, new Options(iterations, 0));
            double error = distance(w, f.whole(size, ranks));
            assertEquals(error, f.result.error(), 1e-5 * norm(w));
            assertTrue(error <= before * (1 + 1e-6), error + " after " + before);
            assertTrue(f.result.iterations() <= iterations);
            before = error;
        }
        assertTrue(before < 0.999 * decompose(algebra, size, w, ranks, new Options(1, 0)).result.error());
        assertTrue(decompose(algebra, size, w, ranks, Options.DEFAULT).result.error() <= 1.01 * before);
        assertFalse(decompose(algebra, size, w, ranks, new Options(1, 0)).result.converged());
    }

    @RandomTest
    void sumsOfThatManyTermsAreFoundAgain() {
        Random random = Effort.random();
        for (Size size : new Size[] {new Size(20, 14, 9), new Size(9, 33, 4)}) {
            int rank = 4;
            double[] w = polyadic(size, rank, normal(random, size.outputs() * rank), normal(random, rank * size.places()),
                    normal(random, rank * size.inputs()));
            Factors f = polyadic(algebra, size, w, rank, new Options(2000, 0));
            assertTrue(f.result.relativeError() < 1e-3, f.result.toString());
            assertEquals(distance(w, polyadic(size, rank, wide(f.u), wide(f.core), wide(f.v))), f.result.error(), 1e-6 * norm(w));
        }
    }

    @RandomTest
    void moreTermsLoseLess() {
        Size size = new Size(18, 12, 9);
        double[] w = normal(Effort.random(), size.elements());
        double before = norm(w);
        for (int rank : new int[] {1, 8, 30, 90}) {
            Factors f = polyadic(algebra, size, w, rank, Polyadic.DEFAULT);
            double error = distance(w, polyadic(size, rank, wide(f.u), wide(f.core), wide(f.v)));
            assertEquals(error, f.result.error(), 1e-4 * norm(w));
            assertTrue(error < 0.99 * before, rank + " terms: " + error + " after " + before);
            before = error;
        }
    }

    @Test
    void threadsDoNotCount() {
        Size size = new Size(150, 130, 9);
        Ranks ranks = new Ranks(40, 30);
        double[] w = normal(Effort.random(), size.elements());
        float[][] first = null;
        for (int threads : new int[] {1, 2, 3}) {
            try (Executor e = Executor.cpu(threads); LinearAlgebra la = new LinearAlgebra(e)) {
                Factors t = decompose(la, size, w, ranks, new Options(3, 0));
                Factors p = polyadic(la, size, w, 50, new Options(3, 0));
                float[][] all = {t.u.toArray(JAVA_FLOAT), t.core.toArray(JAVA_FLOAT), t.v.toArray(JAVA_FLOAT), p.u.toArray(JAVA_FLOAT),
                        p.core.toArray(JAVA_FLOAT), p.v.toArray(JAVA_FLOAT), {(float) t.result.error(), (float) p.result.error()}};
                if (first == null) {
                    first = all;
                }
                for (int i = 0; i < all.length; i++) {
                    assertArrayEquals(first[i], all[i]);
                }
            }
        }
    }

    @Test
    void zerosAndTheSmallestAndLargestNumbersAreNothingSpecial() {
        Size size = new Size(12, 10, 9);
        Ranks ranks = new Ranks(3, 4);
        double[] w = normal(Effort.random(), size.elements());
        double relative = decompose(algebra, size, w, ranks, Options.DEFAULT).result.relativeError();
        double terms = polyadic(algebra, size, w, 5, Polyadic.DEFAULT).result.relativeError();
        for (int exponent : new int[] {-100, 100}) {
            double[] scaled = w.clone();
            for (int i = 0; i < w.length; i++) {
                scaled[i] = Math.scalb(w[i], exponent);
            }
            assertEquals(relative, decompose(algebra, size, scaled, ranks, Options.DEFAULT).result.relativeError(), 1e-6);
            assertEquals(terms, polyadic(algebra, size, scaled, 5, Polyadic.DEFAULT).result.relativeError(), 1e-2);
        }
        double[] zeros = new double[w.length];
        Factors t = decompose(algebra, size, zeros, ranks, Options.DEFAULT);
        assertEquals(new Result(0, 0, 1, true), t.result);
        assertEquals(0, norm(t.whole(size, ranks)));
        assertEquals(0, t.result.relativeError());
        Factors p = polyadic(algebra, size, zeros, 5, Polyadic.DEFAULT);
        assertEquals(new Result(0, 0, 0, true), p.result);
        assertEquals(0, norm(wide(p.v)));
    }

    @Test
    void whatIsNotFiniteIsSaid() {
        Size size = new Size(12, 10, 9);
        for (double x : new double[] {Double.NaN, Double.POSITIVE_INFINITY}) {
            double[] w = new double[(int) size.elements()];
            w[77] = x;
            assertEquals(KernelException.NONFINITE, assertThrows(KernelException.class, () ->
                    decompose(algebra, size, w, new Ranks(3, 4), Options.DEFAULT)).status());
            assertEquals(KernelException.NONFINITE, assertThrows(KernelException.class, () ->
                    polyadic(algebra, size, w, 5, Polyadic.DEFAULT)).status());
        }
    }

    @Test
    void wrongSizesAreRefused() {
        Size size = new Size(12, 10, 9);
        double[] w = normal(Effort.random(), size.elements());
        for (Ranks ranks : new Ranks[] {new Ranks(0, 4), new Ranks(13, 4), new Ranks(3, 0), new Ranks(3, 11), new Ranks(10, 1), new Ranks(1, 10)}) {
            assertThrows(IllegalArgumentException.class, () -> decompose(algebra, size, w, ranks, Options.DEFAULT), ranks.toString());
        }
        for (int rank : new int[] {0, 91}) {
            assertThrows(IllegalArgumentException.class, () -> polyadic(algebra, size, w, rank, Polyadic.DEFAULT));
        }
        assertThrows(IllegalArgumentException.class, () -> new Size(0, 3, 9));
        assertThrows(IllegalArgumentException.class, () -> new Size(3, 1 << 16, 9));
        assertThrows(IllegalArgumentException.class, () -> new Options(0, 0));
        assertThrows(IllegalArgumentException.class, () -> new Options(1, Double.NaN));
        assertThrows(IllegalArgumentException.class, () -> Tucker.channelsLast(size, room(12 * 10 * 9 - 1), false, room(12 * 90), executor));
        assertThrows(IllegalArgumentException.class, () -> new Tucker(algebra).decompose(size, turned(size, w), new Ranks(3, 4),
                Options.DEFAULT, room(12 * 3 - 1), room(3 * 4 * 9), room(4 * 10)));
    }

    @Test
    void channelsLastAndBackIsNothing() {
        Size size = new Size(3, 4, 2);
        double[] w = normal(Effort.random(), size.elements());
        MemorySegment last = turned(size, w);
        assertEquals((float) w[(2 * 4 + 3) * 2 + 1], last.getAtIndex(JAVA_FLOAT, (2 * 2 + 1) * 4 + 3));
        MemorySegment back = room(w.length);
        Tucker.channelsLast(size, last, true, back, executor);
        assertArrayEquals(segment(w).toArray(JAVA_FLOAT), back.toArray(JAVA_FLOAT));
    }

    @Test
    void ranksSayHowManyElementsTheyTake() {
        Size size = new Size(64, 512, 9);
        assertEquals(20 * 512 + 30 * 20 * 9 + 30 * 64, new Ranks(30, 20).elements(size));
        assertEquals(512 * 64 * 9, new Ranks(64, 512).elements(size));
        assertEquals(7 * (64 + 9 + 512), Polyadic.elements(size, 7));
        assertEquals(64 * 9, Polyadic.mostTerms(size));
    }
}
