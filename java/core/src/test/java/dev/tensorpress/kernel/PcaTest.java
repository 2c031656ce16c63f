package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class PcaTest {
    private Arena arena;
    private Executor executor;

    @BeforeEach
    void open() {
        arena = Arena.ofShared();
        executor = Executor.cpu(2);
    }

    @AfterEach
    void close() {
        executor.close();
        arena.close();
    }

    private View f64(double[] x, long cols) {
        MemorySegment m = arena.allocate(8L * x.length + 8, 8);
        MemorySegment.copy(x, 0, m, JAVA_DOUBLE, 0, x.length);
        return new View(DType.F64, m, cols);
    }

    private static double[] doubles(MemorySegment m) {
        return m.toArray(JAVA_DOUBLE);
    }

    /** Columns of different spread, mixed, and far from 0. */
    private static double[] data(int samples, int features, int seed) {
        Random r = new Random(seed);
        double[][] mix = new double[features][features];
        for (double[] row : mix) {
            for (int j = 0; j < features; j++) {
                row[j] = r.nextGaussian() / (1 + j);
            }
        }
        double[] x = new double[samples * features];
        for (int i = 0; i < samples; i++) {
            double[] z = new double[features];
            for (int k = 0; k < features; k++) {
                z[k] = r.nextGaussian();
            }
            for (int j = 0; j < features; j++) {
                x[i * features + j] = 7 + j;
                for (int k = 0; k < features; k++) {
                    x[i * features + j] += mix[j][k] * z[k];
                }
            }
        }
        return x;
    }

    private static double[] covariance(double[] x, int samples, int features) {
        double[] mean = new double[features];
        for (int i = 0; i < samples; i++) {
            for (int j = 0; j < features; j++) {
                mean[j] += x[i * features + j] / samples;
            }
        }
        double[] c = new double[features * features];
        for (int i = 0; i < samples; i++) {
            for (int j = 0; j < features; j++) {
                for (int k = 0; k < features; k++) {
                    c[j * features + k] += (x[i * features + j] - mean[j]) * (x[i * features + k] - mean[k]) / (samples - 1);
                }
            }
        }
        return c;
    }

    @ParameterizedTest
    @CsvSource({"40, 7", "300, 80", "6, 20", "90, 130", "2, 3", "5, 1"})
    void componentsAreEigenvectorsOfTheCovariance(int samples, int features) {
        double[] x = data(samples, features, samples + features);
        double[] c = covariance(x, samples, features);
        try (Pca pca = Pca.of(f64(x, features), samples, features, executor)) {
            int r = (int) pca.rank();
            assertEquals(Math.min(samples, features), r);
            double[] v = doubles(pca.components());
            double[] variance = pca.variance();
            double trace = 0;
            for (int j = 0; j < features; j++) {
                trace += c[j * features + j];
            }
            assertEquals(trace, pca.totalVariance(), 1e-12 * trace);
            double sum = 0;
            double before = Double.POSITIVE_INFINITY;
            for (int p = 0; p < r; p++) {
                assertTrue(variance[p] <= before);
                before = variance[p];
                sum += variance[p];
                for (int j = 0; j < features; j++) {
                    double along = 0;
                    for (int k = 0; k < features; k++) {
                        along += c[j * features + k] * v[p * features + k];
                    }
                    assertEquals(variance[p] * v[p * features + j], along, 1e-11 * trace);
                }
                for (int q = 0; q <= p; q++) {
                    double dot = 0;
                    for (int k = 0; k < features; k++) {
                        dot += v[p * features + k] * v[q * features + k];
                    }
                    assertEquals(p == q ? 1 : 0, dot, 1e-12);
                }
                assertEquals(variance[p] / trace, pca.varianceRatio()[p], 1e-12);
            }
            assertEquals(trace, sum, 1e-11 * trace);
        }
    }

    @Test
    void scoresAndBack() {
        int samples = 50;
        int features = 12;
        double[] x = data(samples, features, 3);
        View view = f64(x, features);
        try (Pca pca = Pca.of(view, samples, features, executor)) {
            MemorySegment scores = arena.allocate(8L * samples * pca.rank(), 8);
            pca.transform(view, samples, scores, executor);
            double[] s = doubles(scores);
            double[] variance = pca.variance();
            for (int p = 0; p < features; p++) {
                double sum = 0;
                double squares = 0;
                double peak = 0;
                for (int i = 0; i < samples; i++) {
                    double value = s[i * features + p];
                    sum += value;
                    squares += value * value;
                    peak = Math.abs(value) > Math.abs(peak) ? value : peak;
                }
                assertEquals(0, sum, 1e-10);
                assertEquals(variance[p], squares / (samples - 1), 1e-11 * variance[0]);
                assertTrue(peak > 0);
            }
            MemorySegment back = arena.allocate(8L * samples * features, 8);
            pca.inverse(scores, samples, back, executor);
            assertArrayEquals(x, doubles(back), 1e-11);
            double[] mean = doubles(pca.mean());
            double first = 0;
            for (int i = 0; i < samples; i++) {
                first += x[i * features] / samples;
            }
            assertEquals(first, mean[0], 1e-12);
            // A sample that the fit has not seen, the mean, has scores 0.
            pca.transform(f64(mean, features), 1, scores, executor);
            for (int p = 0; p < features; p++) {
                assertEquals(0, scores.getAtIndex(JAVA_DOUBLE, p));
            }
        }
    }

    /** Data of three known directions, in f32 with gaps between rows. */
    @Test
    void knownSpectrumInRowsWithGaps() {
        int samples = 400;
        int features = 200;
        int stride = 211;
        double[] spread = {8, 4, 1};
        // Orthogonal in samples and in features: cosines of different frequency.
        MemorySegment m = arena.allocate(4L * samples * stride, 4);
        m.fill((byte) 0xff); // NaN in the gaps
        double total = 0;
        for (double s : spread) {
            total += s * s;
        }
        for (int i = 0; i < samples; i++) {
            for (int j = 0; j < features; j++) {
                double x = 5;
                for (int p = 0; p < 3; p++) {
                    double u = Math.sqrt(2.0 / samples) * Math.cos(Math.PI * (p + 1) * (i + 0.5) / samples);
                    double v = Math.sqrt(2.0 / features) * Math.cos(Math.PI * (p + 1) * (j + 0.5) / features);
                    x += Math.sqrt(samples - 1) * spread[p] * u * v;
                }
                m.setAtIndex(JAVA_FLOAT, (long) i * stride + j, (float) x);
            }
        }
        View view = new View(DType.F32, m, stride);
        for (Pca pca : new Pca[] {Pca.ofRank(view, samples, features, 3, executor),
            Pca.ofVariance(view, samples, features, 0.999, executor)}) {
            try (pca) {
                assertEquals(3, pca.rank());
                for (int p = 0; p < 3; p++) {
                    assertEquals(spread[p] * spread[p], pca.variance()[p], 1e-5);
                    assertEquals(spread[p] * spread[p] / total, pca.varianceRatio()[p], 1e-6);
                }
                double v = Math.sqrt(2.0 / features) * Math.cos(Math.PI * 0.5 / features);
                assertEquals(v, Math.abs(pca.components().getAtIndex(JAVA_DOUBLE, 0)), 1e-6);
            }
        }
        try (Pca one = Pca.ofVariance(view, samples, features, 0.5, executor);
                Pca two = Pca.ofVariance(view, samples, features, 0.98, executor)) {
            assertEquals(1, one.rank());
            assertEquals(2, two.rank());
        }
    }

    private SparseMatrix sparse(double[] x, int samples, int features) {
        MemorySegment m = arena.allocate(4L * x.length, 64);
        for (int i = 0; i < x.length; i++) {
            m.setAtIndex(JAVA_FLOAT, i, (float) x[i]);
        }
        return Sparse.pack(DType.F32, samples, features, m, Sparse.Layout.CSR32, 0, arena, executor);
    }

    /** A tenth of it is there; columns differ in mean and spread, and two are zero. */
    private static double[] sparseData(int samples, int features, int seed) {
        Random r = new Random(seed);
        double[] x = new double[samples * features];
        for (int i = 0; i < samples; i++) {
            double common = r.nextGaussian();
            for (int j = 2; j < features; j++) {
                x[i * features + j] = r.nextInt(10) == 0 ? (float) (1 + j % 3 + common * 8 / j + r.nextGaussian() / (1 + j % 7)) : 0;
            }
        }
        return x;
    }

    /** By the Gram matrix of features, of samples, and by products. */
    @ParameterizedTest
    @CsvSource({"60, 20, 0", "20, 60, 0", "300, 50, 7", "50, 300, 7", "700, 600, 9", "600, 700, 9", "1, 4, 0", "5, 1, 1"})
    void sparseDataHaveTheComponentsOfTheSameDense(int samples, int features, int rank) {
        double[] x = sparseData(samples, features, 5);
        View view = f64(x, features);
        SparseMatrix sparse = sparse(x, samples, features);
        boolean products = Math.min(samples, features) > 512;
        try (Pca dense = rank == 0 || products ? Pca.of(view, samples, features, executor) : Pca.ofRank(view, samples, features, rank, executor);
                Pca pca = rank == 0 ? Pca.of(sparse, executor) : Pca.ofRank(sparse, rank, executor)) {
            assertEquals(rank == 0 ? Math.min(samples, features) : rank, pca.rank());
            assertEquals(dense.totalVariance(), pca.totalVariance(), 1e-12 * dense.totalVariance());
            assertArrayEquals(doubles(dense.mean()), doubles(pca.mean()), 1e-13);
            double[] expected = dense.variance();
            double[] variance = pca.variance();
            double[] v = doubles(dense.components());
            double[] w = doubles(pca.components());
            for (int p = 0; p < pca.rank(); p++) {
                assertTrue(variance[p] <= expected[p] + 1e-11 * expected[0] && variance[p] >= (products ? 0.99 : 1) * expected[p] - 1e-11 * expected[0]);
                double gap = Math.min(p == 0 ? expected[0] : expected[p - 1] - expected[p], p + 1 == expected.length ? expected[p] : expected[p] - expected[p + 1]);
                for (int q = 0; q <= p; q++) {
                    double dot = 0;
                    for (int j = 0; j < features; j++) {
                        dot += w[p * features + j] * w[q * features + j];
                    }
                    assertEquals(p == q ? 1 : 0, dot, 1e-11);
                }
                double along = 0;
                for (int j = 0; j < features; j++) {
                    along += v[p * features + j] * w[p * features + j];
                }
                // By products, signs are those of vectors that are near the scores.
                assertTrue(gap <= 1e-3 * expected[0] || (products ? p > 0 || Math.abs(along) > 1 - 1e-4 : along > 1 - 1e-12), along + " of " + p);
            }
            MemorySegment scores = arena.allocate(8L * samples * pca.rank(), 8);
            MemorySegment other = arena.allocate(8L * samples * pca.rank(), 8);
            pca.transform(view, samples, scores, executor);
            pca.transform(sparse, other, executor);
            assertArrayEquals(doubles(scores), doubles(other), 1e-11);
            double[] s = doubles(other);
            // By products, vectors of samples are no more than near the scores.
            for (int p = 0; !products && p < pca.rank() && variance[p] > 1e-9 * variance[0]; p++) {
                double peak = 0;
                for (int i = 0; i < samples; i++) {
                    double value = s[i * (int) pca.rank() + p];
                    peak = Math.abs(value) > Math.abs(peak) ? value : peak;
                }
                assertTrue(peak > 0);
            }
        }
        try (Pca half = Pca.ofVariance(sparse, 0.5, executor); Pca same = Pca.ofVariance(view, samples, features, 0.5, executor)) {
            assertEquals(same.rank(), half.rank());
        }
    }

    /** Products of what is centred implicitly are those of what is centred. */
    @Test
    void centredProducts() {
        int rows = 70;
        int cols = 50;
        double[] x = sparseData(rows, cols, 8);
        try (LinearAlgebra la = new LinearAlgebra(executor)) {
            SparseColumns columns = new SparseColumns(sparse(x, rows, cols), arena, executor);
            double[] means = SparseOperand.means(columns);
            for (int i = 0; i < x.length; i++) {
                x[i] -= means[i % cols];
            }
            Operand dense = new DenseOperand(la, f64(x, cols), rows, cols);
            SparseOperand sparse = new SparseOperand(la, columns, means);
            assertEquals(la.sumOfSquares(f64(x, cols), rows, cols), sparse.squares(), 1e-10);
            double[] vectors = data(3, rows, 2);
            for (Operand operand : new Operand[] {dense, sparse}) {
                assertEquals(rows, operand.rows());
                assertEquals(cols, operand.cols());
                assertEquals(DType.F64, operand.type());
            }
            MemorySegment[] out = new MemorySegment[4];
            for (int i = 0; i < 4; i++) {
                out[i] = arena.allocate(8L * 3 * (i < 2 ? rows : cols), 64);
            }
            dense.forward(f64(Arrays.copyOf(vectors, 3 * cols), cols), out[0], 3);
            sparse.forward(f64(Arrays.copyOf(vectors, 3 * cols), cols), out[1], 3);
            dense.backward(f64(vectors, rows).data(), out[2], 3);
            sparse.backward(f64(vectors, rows).data(), out[3], 3);
            assertArrayEquals(doubles(out[0]), doubles(out[1]), 1e-10);
            assertArrayEquals(doubles(out[2]), doubles(out[3]), 1e-10);
        }
    }

    @Test
    void truncatedDecompositionOfASparseMatrix() {
        for (int[] size : new int[][] {{700, 600, 9}, {600, 700, 9}, {80, 30, 30}, {30, 80, 30}}) {
            double[] x = sparseData(size[0], size[1], 6);
            int r = size[2];
            MemorySegment u = arena.allocate(8L * size[0] * r, 64);
            MemorySegment s = arena.allocate(8L * r, 64);
            MemorySegment vt = arena.allocate(8L * size[1] * r, 64);
            MemorySegment exact = arena.allocate(8L * Math.min(size[0], size[1]), 64);
            try (Svd svd = new Svd(executor)) {
                Svd.Certificate c = svd.truncated(sparse(x, size[0], size[1]), r, new Svd.Options(0, 3, 0, true), u, s, vt);
                svd.full(f64(x, size[1]), size[0], size[1], arena.allocate(8L * x.length, 64), exact, arena.allocate(8L * x.length, 64));
                Svd.Certificate measured = svd.certify(f64(x, size[1]), size[0], size[1], r, u, s, vt);
                assertEquals(measured.norm(), c.norm(), 1e-12 * c.norm());
                assertEquals(measured.error(), c.error(), 1e-6 * c.norm());
                assertTrue(measured.left() < 1e-12 && measured.right() < 1e-12);
                assertTrue(Double.isNaN(c.bound()));
                assertEquals(exact.getAtIndex(JAVA_DOUBLE, 0), s.getAtIndex(JAVA_DOUBLE, 0), 1e-3 * c.norm());
                double best = 0;
                for (long i = r; i < Math.min(size[0], size[1]); i++) {
                    best += Math.pow(exact.getAtIndex(JAVA_DOUBLE, i), 2);
                }
                assertTrue(measured.error() < 1.01 * Math.sqrt(best) + 1e-12 * c.norm(), measured.error() + " " + Math.sqrt(best));
            }
        }
    }

    @Test
    void badSparseInputIsRefused() {
        double[] x = sparseData(20, 9, 7);
        SparseMatrix matrix = sparse(x, 20, 9);
        for (long rank : new long[] {0, 10}) {
            assertThrows(IllegalArgumentException.class, () -> Pca.ofRank(matrix, rank, executor));
        }
        assertThrows(IllegalArgumentException.class, () -> Pca.ofVariance(matrix, 0, executor));
        assertThrows(IllegalArgumentException.class, () -> Pca.of(sparse(new double[0], 0, 9), executor));
        x[3 * 9 + 5] = Double.NaN;
        IllegalArgumentException e = assertThrows(IllegalArgumentException.class, () -> Pca.of(sparse(x, 20, 9), executor));
        assertTrue(e.getMessage().contains("row 3, column 5"), e.getMessage());
        try (Pca pca = Pca.ofRank(matrix, 2, executor); Svd svd = new Svd(executor)) {
            MemorySegment scores = arena.allocate(8 * 20 * 2, 8);
            assertThrows(IllegalArgumentException.class, () -> pca.transform(sparse(x, 18, 10), scores, executor));
            assertThrows(IllegalArgumentException.class, () -> pca.transform(matrix, arena.allocate(8, 8), executor));
            assertThrows(IllegalArgumentException.class, () -> svd.truncated(matrix, 10, Svd.Options.DEFAULT, scores, scores, scores));
        }
    }

    @Test
    void sameForAnyNumberOfThreads() {
        int samples = 333;
        int features = 150;
        View view = f64(data(samples, features, 9), features);
        double[][] results = new double[4][];
        for (int i = 0; i < 4; i++) {
            try (Executor own = Executor.cpu(1 + 2 * (i % 2)); Pca pca = i < 2 ? Pca.of(view, samples, features, own)
                    : Pca.ofRank(view, samples, features, 10, own)) {
                results[i] = doubles(pca.components());
            }
        }
        assertArrayEquals(results[0], results[1]);
        assertArrayEquals(results[2], results[3]);
    }

    @Test
    void littleVariance() {
        double[] same = new double[12];
        Arrays.fill(same, 2.5);
        try (Pca pca = Pca.of(f64(same, 3), 4, 3, executor); Pca single = Pca.of(f64(new double[] {1, 2}, 2), 1, 2, executor)) {
            assertEquals(0, pca.totalVariance());
            assertArrayEquals(new double[3], pca.varianceRatio());
            assertArrayEquals(new double[1], single.variance());
            assertEquals(1, single.rank());
        }
    }

    @Test
    void badInputIsRefused() {
        View view = f64(new double[] {1, 2, 3, 4, 5, 7}, 2);
        for (long rank : new long[] {0, -1, 3}) {
            assertThrows(IllegalArgumentException.class, () -> Pca.ofRank(view, 3, 2, rank, executor));
        }
        for (double share : new double[] {0, -1, 1.5, Double.NaN}) {
            assertThrows(IllegalArgumentException.class, () -> Pca.ofVariance(view, 3, 2, share, executor));
        }
        assertThrows(IllegalArgumentException.class, () -> Pca.of(view, 0, 2, executor));
        assertThrows(IllegalArgumentException.class, () -> Pca.of(view, 2, 0, executor));
        assertThrows(IllegalArgumentException.class, () -> Pca.of(view, 9, 2, executor));
        assertThrows(IllegalArgumentException.class, () -> Pca.of(view, 2, 3, executor), "rows would overlap");
        View bad = f64(new double[] {1, 2, Double.NaN, 4}, 2);
        assertEquals(KernelException.NONFINITE,
                assertThrows(KernelException.class, () -> Pca.of(bad, 2, 2, executor)).status());
        try (Pca pca = Pca.of(view, 3, 2, executor)) {
            MemorySegment small = arena.allocate(8, 8);
            assertThrows(IllegalArgumentException.class, () -> pca.transform(view, 3, small, executor));
            assertThrows(IllegalArgumentException.class, () -> pca.inverse(small, 1, small, executor));
            assertThrows(KernelException.class, () -> pca.transform(bad, 2, arena.allocate(64, 8), executor));
            assertThrows(IllegalArgumentException.class, () -> pca.components().set(JAVA_DOUBLE, 0, 1));
        }
    }
}
