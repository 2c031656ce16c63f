package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import dev.tensorpress.Effort.RandomTest;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.kernel.Svd.Certificate;
import dev.tensorpress.kernel.Svd.Options;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Random;
import java.util.function.DoubleUnaryOperator;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Decompositions against their definition, in plain Java and f64, and singular values against spectra that are known. */
class SvdTest {
    private static Executor one;
    private static Executor three;
    private static Svd svd;
    private static Svd svdOfOne;

    @BeforeAll
    static void open() {
        one = Executor.cpu(1);
        three = Executor.cpu(3);
        svd = new Svd(three);
        svdOfOne = new Svd(one);
    }

    @AfterAll
    static void close() {
        svd.close();
        svdOfOne.close();
        one.close();
        three.close();
    }

    private static double get(DType type, MemorySegment s, long i) {
        return type == DType.F32 ? s.getAtIndex(JAVA_FLOAT, i) : s.getAtIndex(JAVA_DOUBLE, i);
    }

    private static void set(DType type, MemorySegment s, long i, double x) {
        if (type == DType.F32) {
            s.setAtIndex(JAVA_FLOAT, i, (float) x);
        } else {
            s.setAtIndex(JAVA_DOUBLE, i, x);
        }
    }

    private static double[][] gaussian(int rows, int cols, Random r) {
        double[][] a = new double[rows][cols];
        for (double[] row : a) {
            Arrays.setAll(row, j -> r.nextGaussian());
        }
        return a;
    }

    /** U diag(sigma) V^T with random orthogonal factors: products of some reflections. */
    private static double[][] withSpectrum(int rows, int cols, DoubleUnaryOperator sigma, Random r) {
        double[][] a = new double[rows][cols];
        for (int i = 0; i < Math.min(rows, cols); i++) {
            a[i][i] = sigma.applyAsDouble(i);
        }
        for (int k = 0; k < 4; k++) {
            reflect(a, r);
            a = transpose(a);
            reflect(a, r);
            a = transpose(a);
        }
        return a;
    }

    private static void reflect(double[][] a, Random r) {
        double[] v = new double[a.length];
        double square = 0;
        for (int i = 0; i < v.length; i++) {
            v[i] = r.nextGaussian();
            square += v[i] * v[i];
        }
        double[] along = new double[a[0].length];
        for (int i = 0; i < v.length; i++) {
            for (int j = 0; j < along.length; j++) {
                along[j] += v[i] * a[i][j];
            }
        }
        for (int i = 0; i < v.length; i++) {
            for (int j = 0; j < along.length; j++) {
                a[i][j] -= 2 / square * v[i] * along[j];
            }
        }
    }

    private static double[][] transpose(double[][] a) {
        double[][] t = new double[a[0].length][a.length];
        for (int i = 0; i < a.length; i++) {
            for (int j = 0; j < t.length; j++) {
                t[j][i] = a[i][j];
            }
        }
        return t;
    }

    /** Singular values by one-sided Jacobi on the columns, the textbook way. */
    private static double[] plainSingularValues(double[][] a) {
        double[][] w = a.length >= a[0].length ? transpose(a) : a.clone();
        for (int i = 0; i < w.length; i++) {
            w[i] = w[i].clone();
        }
        for (boolean again = true; again; ) {
            again = false;
            for (int p = 0; p < w.length; p++) {
                for (int q = p + 1; q < w.length; q++) {
                    double pp = 0;
                    double qq = 0;
                    double pq = 0;
                    for (int k = 0; k < w[p].length; k++) {
                        pp += w[p][k] * w[p][k];
                        qq += w[q][k] * w[q][k];
                        pq += w[p][k] * w[q][k];
                    }
                    if (Math.abs(pq) <= 1e-14 * Math.sqrt(pp * qq) || pq == 0) {
                        continue;
                    }
                    again = true;
                    double zeta = (qq - pp) / (2 * pq);
                    double t = Math.signum(zeta == 0 ? 1 : zeta) / (Math.abs(zeta) + Math.sqrt(1 + zeta * zeta));
                    double c = 1 / Math.sqrt(1 + t * t);
                    for (int k = 0; k < w[p].length; k++) {
                        double x = w[p][k];
                        double y = w[q][k];
                        w[p][k] = c * (x - t * y);
                        w[q][k] = c * (t * x + y);
                    }
                }
            }
        }
        double[] s = new double[w.length];
        for (int i = 0; i < s.length; i++) {
            s[i] = Math.sqrt(Arrays.stream(w[i]).map(x -> x * x).sum());
        }
        Arrays.sort(s);
        for (int i = 0, j = s.length - 1; i < j; i++, j--) {
            double t = s[i];
            s[i] = s[j];
            s[j] = t;
        }
        return s;
    }

    /** A matrix in memory with its results. */
    private static final class Case {
        final DType type;
        final int rows;
        final int cols;
        final double[][] a; // as stored
        final View view;
        final Arena arena = Arena.ofAuto();
        int rank;
        MemorySegment u;
        MemorySegment s;
        MemorySegment vt;

        Case(DType type, double[][] a, int cols, int gap) {
            this.type = type;
            this.rows = a.length;
            this.cols = cols;
            this.a = new double[rows][cols];
            long stride = cols + gap;
            MemorySegment data = arena.allocate(type.bytes(Math.max(1, rows * stride)), 8);
            for (int i = 0; i < rows; i++) {
                for (int j = 0; j < cols; j++) {
                    set(type, data, i * stride + j, a[i][j]);
                    this.a[i][j] = get(type, data, i * stride + j);
                }
                for (int j = 0; j < gap; j++) {
                    set(type, data, i * stride + cols + j, Double.NaN);
                }
            }
            view = new View(type, data, stride);
            results(Math.min(rows, cols));
        }

        Case(DType type, double[][] a) {
            this(type, a, a[0].length, 0);
        }

        void results(int rank) {
            this.rank = rank;
            u = arena.allocate(type.bytes(Math.max(1, (long) rows * rank)), 8);
            s = arena.allocate(type.bytes(Math.max(1, rank)), 8);
            vt = arena.allocate(type.bytes(Math.max(1, (long) rank * cols)), 8);
        }

        Case full(Svd by) {
            by.full(view, rows, cols, u, s, vt);
            return this;
        }

        byte[] bytes() {
            byte[] all = Arrays.copyOf(u.toArray(JAVA_BYTE), (int) (u.byteSize() + s.byteSize() + vt.byteSize()));
            System.arraycopy(s.toArray(JAVA_BYTE), 0, all, (int) u.byteSize(), (int) s.byteSize());
            System.arraycopy(vt.toArray(JAVA_BYTE), 0, all, (int) (u.byteSize() + s.byteSize()), (int) vt.byteSize());
            return all;
        }

        double value(int i) {
            return get(type, s, i);
        }

        double norm() {
            double scale = 0;
            for (double[] row : a) {
                scale = Math.max(scale, Arrays.stream(row).map(Math::abs).max().orElse(0));
            }
            if (scale == 0) {
                return 0;
            }
            double sum = 0;
            for (double[] row : a) {
                for (double x : row) {
                    sum += x / scale * (x / scale);
                }
            }
            return scale * Math.sqrt(sum);
        }

        /** ||A - U S Vt||_F */
        double residual() {
            double norm = norm();
            if (norm == 0) {
                norm = 1;
            }
            double sum = 0;
            for (int i = 0; i < rows; i++) {
                double[] row = a[i].clone();
                for (int k = 0; k < rank; k++) {
                    double left = get(type, u, (long) i * rank + k) * get(type, s, k);
                    for (int j = 0; j < cols; j++) {
                        row[j] -= left * get(type, vt, (long) k * cols + j);
                    }
                }
                for (double x : row) {
                    sum += x / norm * (x / norm);
                }
            }
            return norm * Math.sqrt(sum);
        }

        double orthogonality(boolean left) {
            double sum = 0;
            int length = left ? rows : cols;
            double[][] v = new double[rank][length];
            for (int k = 0; k < rank; k++) {
                for (int i = 0; i < length; i++) {
                    v[k][i] = left ? get(type, u, (long) i * rank + k) : get(type, vt, (long) k * cols + i);
                }
            }
            for (int p = 0; p < rank; p++) {
                for (int q = 0; q < rank; q++) {
                    double x = p == q ? -1 : 0;
                    for (int i = 0; i < length; i++) {
                        x += v[p][i] * v[q][i];
                    }
                    sum += x * x;
                }
            }
            return Math.sqrt(sum);
        }

        void check(String what) {
            double precision = type == DType.F32 ? 1 : 2e-8;
            double norm = norm();
            assertTrue(residual() <= 5e-6 * precision * norm + (type == DType.F32 ? 1e-44 : 1e-322) * rows, what + ": residual "
                    + residual() + " of " + norm);
            double limit = type == DType.F32 ? 1e-5 : 1e-12;
            assertTrue(orthogonality(true) <= limit, what + ": U " + orthogonality(true));
            assertTrue(orthogonality(false) <= limit, what + ": V " + orthogonality(false));
            for (int k = 0; k < rank; k++) {
                assertTrue(value(k) >= 0 && (k == 0 || value(k) <= value(k - 1)), what + ": order");
                double most = 0;
                double peak = 0;
                for (int i = 0; i < rows; i++) {
                    double x = get(type, u, (long) i * rank + k);
                    if (Math.abs(x) > most) {
                        most = Math.abs(x);
                        peak = x;
                    }
                }
                assertTrue(peak > 0, what + ": sign of " + k);
            }
        }
    }

    private static double[][] scaled(double[][] a, double factor) {
        for (double[] row : a) {
            for (int j = 0; j < row.length; j++) {
                row[j] *= factor;
            }
        }
        return a;
    }

    private static double[][] graded(int rows, int cols, boolean byRow, Random r) {
        double[][] a = gaussian(rows, cols, r);
        for (int i = 0; i < rows; i++) {
            for (int j = 0; j < cols; j++) {
                a[i][j] *= Math.pow(10, -12.0 * (byRow ? i * 37 % rows / (double) rows : j * 37 % cols / (double) cols));
            }
        }
        return a;
    }

    @RandomTest
    void fullDecompositionsOfAllKindsAndShapes() {
        Random r = Effort.random();
        int[][] shapes = {{1, 1}, {1, 90}, {90, 1}, {5, 3}, {64, 64}, {65, 65}, {70, 66}, {66, 130}, {700, 20}, {20, 700}, {150, 150}};
        for (DType type : new DType[] {DType.F32, DType.F64}) {
            for (int[] shape : shapes) {
                int rows = shape[0];
                int cols = shape[1];
                int n = Math.min(rows, cols);
                double huge = type == DType.F32 ? 1e30 : 1e290;
                double tiny = type == DType.F32 ? 1e-30 : 1e-290;
                double[][][] kinds = {
                        gaussian(rows, cols, r),
                        new double[rows][cols],
                        withSpectrum(rows, cols, i -> i < 3 ? 3 - i : 0, r),
                        withSpectrum(rows, cols, i -> Math.pow(10, -12.0 * i / n), r),
                        graded(rows, cols, false, r),
                        graded(rows, cols, true, r),
                        scaled(gaussian(rows, cols, r), tiny),
                        scaled(gaussian(rows, cols, r), huge),
                        withSpectrum(rows, cols, i -> 1, r),
                        withSpectrum(rows, cols, i -> i % 2 == 0 ? 1 : 2, r)};
                for (int kind = 0; kind < kinds.length; kind++) {
                    Case c = new Case(type, kinds[kind], cols, kind % 3).full(svd);
                    String what = type + " " + rows + " x " + cols + " kind " + kind;
                    c.check(what);
                    double limit = type == DType.F32 ? 1e-6 : 1e-13;
                    for (int i = 0; i < n; i++) {
                        double known = switch (kind) {
                            case 1 -> 0;
                            case 2 -> i < 3 ? 3 - i : 0;
                            case 3 -> Math.pow(10, -12.0 * i / n);
                            case 8 -> 1;
                            case 9 -> i < n / 2 ? 2 : 1;
                            default -> Double.NaN;
                        };
                        if (!Double.isNaN(known) && !(kind == 9 && i == n / 2)) {
                            assertEquals(known, c.value(i), limit * Math.max(1, c.value(0)), what + ": value " + i);
                        }
                    }
                }
            }
        }
    }

    @RandomTest
    void gradedColumnsKeepTheRelativeAccuracyOfTheirSingularValues() {
        Random r = Effort.random();
        for (int[] shape : new int[][] {{120, 100}, {100, 100}, {100, 120}, {80, 40}}) {
            boolean byRow = shape[0] < shape[1];
            for (DType type : new DType[] {DType.F32, DType.F64}) {
                Case c = new Case(type, graded(shape[0], shape[1], byRow, r)).full(svd);
                double[] want = plainSingularValues(c.a);
                for (int i = 0; i < want.length; i++) {
                    assertEquals(want[i], c.value(i), (type == DType.F32 ? 1e-6 : 1e-11) * want[i], "value " + i);
                }
            }
        }
    }

    /**
     * Where sorting by norm and pivoting differ: leading columns of equal norm that all but coincide, and Kahan's matrix. The condition of
     * the columns scaled to norm 1 bounds what either can keep.
     */
    @RandomTest
    void sortedColumnsKeepWhatPivotedOnesWould() {
        Random r = Effort.random();
        int n = 80;
        for (double apart : new double[] {1e-2, 1e-4, 1e-6}) {
            double[][] a = gaussian(100, n, r);
            for (double[] row : a) {
                for (int j = 1; j < n; j++) {
                    boolean pair = j < 4 || j % 20 == 1;
                    row[j] = pair ? row[j < 4 ? 0 : j - 1] + apart * row[j] : row[j];
                }
                for (int j = 0; j < n; j++) {
                    row[j] *= Math.pow(10, -12.0 * (j < 4 ? 0 : j / 2 * 2) / n);
                }
            }
            // The condition is some 20 for the Gaussian matrix, by what is apart.
            double[][] shuffled = shuffled(a);
            checkValues(new Case(DType.F64, shuffled).full(svd), 1e-14 / apart, "columns apart by " + apart);
            checkValues(new Case(DType.F64, transpose(shuffled)).full(svd), 1e-14 / apart, "rows apart by " + apart);
        }
        for (boolean reversed : new boolean[] {false, true}) {
            double[][] kahan = new double[n][n];
            for (int i = 0; i < n; i++) {
                for (int j = i; j < n; j++) {
                    double element = Math.pow(Math.sin(1.4), i) * (i == j ? 1 : -Math.cos(1.4));
                    kahan[i][reversed ? n - 1 - j : j] = element;
                }
                for (int j = 0; j < n; j++) {
                    kahan[i][j] *= Math.pow(10, -12.0 * j / n);
                }
            }
            checkValues(new Case(DType.F64, shuffled(kahan)).full(svd), 1e-10, "Kahan, reversed " + reversed);
        }
    }

    private static double[][] shuffled(double[][] a) {
        double[][] shuffled = new double[a.length][a[0].length];
        for (int i = 0; i < a.length; i++) {
            for (int j = 0; j < a[i].length; j++) {
                shuffled[i][j * 37 % a[i].length] = a[i][j];
            }
        }
        return shuffled;
    }

    private static void checkValues(Case c, double relative, String what) {
        double[] want = plainSingularValues(c.a);
        c.check(what);
        for (int i = 0; i < want.length; i++) {
            assertEquals(want[i], c.value(i), relative * want[i], what + ": value " + i);
        }
    }

    /** Scales along the longer side (both, if square, but not of columns) are not kept: accuracy is relative to the largest value. */
    @RandomTest
    void gradedRowsOfTallMatricesAreAccurateRelativeToTheLargestValue() {
        Case c = new Case(DType.F64, graded(120, 100, true, Effort.random())).full(svd);
        double[] want = plainSingularValues(c.a);
        c.check("graded rows");
        for (int i = 0; i < want.length; i++) {
            assertEquals(want[i], c.value(i), 1e-13 * want[0], "value " + i);
        }
    }

    @RandomTest
    void resultsAreTheSameForAnyNumberOfThreads() {
        Random r = Effort.random();
        double[][][] matrices = {gaussian(300, 257, r), graded(200, 180, false, r), withSpectrum(210, 300, i -> i < 50 ? 1.0 / (i + 1) : 0, r)};
        for (double[][] a : matrices) {
            for (DType type : new DType[] {DType.F32, DType.F64}) {
                assertArrayEquals(new Case(type, a).full(svdOfOne).bytes(), new Case(type, a).full(svd).bytes());
                byte[][] truncated = new byte[2][];
                Certificate[] certificates = new Certificate[2];
                for (int k = 0; k < 2; k++) {
                    Case c = new Case(type, a);
                    c.results(20);
                    certificates[k] = (k == 0 ? svdOfOne : svd).truncated(c.view, c.rows, c.cols, 20, Options.DEFAULT, c.u, c.s, c.vt);
                    truncated[k] = c.bytes();
                }
                assertArrayEquals(truncated[0], truncated[1]);
                assertEquals(certificates[0], certificates[1]);
            }
        }
    }

    @Test
    void timesCountProductsWithinTheTotal() {
        Random r = Effort.random();
        for (Svd by : new Svd[] {svd, svdOfOne}) {
            Case c = new Case(DType.F32, gaussian(300, 200, r));
            c.full(by);
            Svd.Times full = by.times();
            assertTrue(full.products() > 0 && full.products() < full.total(), "full: " + full);
            assertTrue(full.share() > 0.01 && full.share() < 1, "full: " + full.share());
            c.results(10);
            by.truncated(c.view, c.rows, c.cols, 10, Options.DEFAULT, c.u, c.s, c.vt);
            Svd.Times part = by.times();
            assertTrue(part.products() > 0 && part.products() < part.total(), "truncated: " + part);
            new Case(DType.F32, gaussian(30, 20, r)).full(by);
            assertTrue(by.times().products() == 0 && by.times().total() > 0, "small: " + by.times());
        }
    }

    @RandomTest
    void certificatesAreWhatPlainLoopsMeasure() {
        Random r = Effort.random();
        for (DType type : new DType[] {DType.F32, DType.F64}) {
            for (double scale : new double[] {1, type == DType.F32 ? 1e-30 : 1e-300, type == DType.F32 ? 1e30 : 1e300}) {
                Case c = new Case(type, scaled(gaussian(90, 70, r), scale), 70, 2).full(svd);
                // Not orthogonal any more, and off.
                set(type, c.u, 5, get(type, c.u, 5) + 0.25);
                set(type, c.vt, 7, get(type, c.vt, 7) - 0.125);
                Certificate got = svd.certify(c.view, 90, 70, 70, c.u, c.s, c.vt);
                assertEquals(c.norm(), got.norm(), 1e-13 * c.norm());
                assertEquals(c.residual(), got.error(), 1e-9 * c.residual());
                assertEquals(c.orthogonality(true), got.left(), 1e-12);
                assertEquals(c.orthogonality(false), got.right(), 1e-12);
            }
        }
    }

    @RandomTest
    void truncatedByRankComesNearTheBestError() {
        Random r = Effort.random();
        DoubleUnaryOperator[] spectra = {i -> 1.0 / (i + 1), i -> 1 - i / 400.0, i -> Math.pow(0.9, i), i -> i < 12 ? 5 : 0, i -> 1};
        for (DType type : new DType[] {DType.F32, DType.F64}) {
            for (int[] shape : new int[][] {{300, 200}, {200, 300}, {250, 250}, {100, 40}}) {
                for (int s = 0; s < spectra.length; s++) {
                    for (int rank : new int[] {1, 10, 25}) {
                        DoubleUnaryOperator spectrum = spectra[s];
                        Case c = new Case(type, withSpectrum(shape[0], shape[1], spectrum, r), shape[1], 1);
                        c.results(rank);
                        Certificate got = svd.truncated(c.view, c.rows, c.cols, rank, Options.DEFAULT, c.u, c.s, c.vt);
                        String what = type + " " + c.rows + " x " + c.cols + " spectrum " + s + " rank " + rank + ": " + got;
                        double best = 0;
                        for (int i = rank; i < Math.min(c.rows, c.cols); i++) {
                            best += spectrum.applyAsDouble(i) * spectrum.applyAsDouble(i);
                        }
                        best = Math.sqrt(best);
                        double rounding = (type == DType.F32 ? 1e-5 : 1e-12) * c.norm();
                        assertEquals(rank, got.rank());
                        assertEquals(c.residual(), got.error(), 1e-9 * c.residual() + 1e-3 * rounding, what);
                        assertTrue(got.error() <= 1.05 * best + rounding, what + " best " + best);
                        assertTrue(got.bound() <= best + rounding, what + " best " + best);
                        assertTrue(got.left() <= (type == DType.F32 ? 1e-5 : 1e-12) && got.right() <= (type == DType.F32 ? 1e-5 : 1e-12), what);
                        // Without a certificate the error is what the norms say.
                        Certificate quick = svd.truncated(c.view, c.rows, c.cols, rank, new Options(0, 3, 0.02, false), c.u, c.s, c.vt);
                        double resolution = (type == DType.F32 ? 1e-3 : 1e-7) * c.norm();
                        assertEquals(got.error(), quick.error(), 1e-3 * got.error() + resolution, what);
                    }
                }
            }
        }
    }

    /** ||A - Q Q^T A||_F for the space that two power iterations on as many Gaussian vectors find (Halko, Martinsson and Tropp). */
    private static double plainPowerIteration(double[][] a, int rank, Random r) {
        double[][] at = transpose(a);
        double[][] q = gaussian(rank, at.length, r);
        for (int i = 0; i < 2; i++) {
            q = orthonormal(times(a, q));
            q = orthonormal(times(at, q));
        }
        q = orthonormal(times(a, q));
        double left = 0;
        for (double[] row : a) {
            left += dot(row, row);
        }
        for (double[] row : times(at, q)) {
            left -= dot(row, row);
        }
        return Math.sqrt(Math.max(0, left));
    }

    /** Rows of (A X)^T from the rows of X^T. */
    private static double[][] times(double[][] a, double[][] x) {
        double[][] y = new double[x.length][a.length];
        for (int i = 0; i < x.length; i++) {
            for (int j = 0; j < a.length; j++) {
                y[i][j] = dot(a[j], x[i]);
            }
        }
        return y;
    }

    private static double[][] orthonormal(double[][] x) {
        for (int i = 0; i < x.length; i++) {
            for (int pass = 0; pass < 2; pass++) {
                for (int k = 0; k < i; k++) {
                    double along = dot(x[i], x[k]);
                    for (int j = 0; j < x[i].length; j++) {
                        x[i][j] -= along * x[k][j];
                    }
                }
            }
            double length = Math.sqrt(dot(x[i], x[i]));
            for (int j = 0; j < x[i].length; j++) {
                x[i][j] /= length;
            }
        }
        return x;
    }

    private static double dot(double[] x, double[] y) {
        double sum = 0;
        for (int i = 0; i < x.length; i++) {
            sum += x[i] * y[i];
        }
        return sum;
    }

    @RandomTest
    void largeTruncatedDecompositionsAreNoWorseThanPowerIteration() {
        Random r = Effort.random();
        int rows = 1100;
        int cols = 1000;
        int rank = 64;
        // In the last one more singular values coincide than a block is wide: the bound still has to hold.
        DoubleUnaryOperator[] spectra = {null, i -> 1.0 / (i + 1), i -> Math.pow(0.97, i), i -> i < 40 ? 2 - 0.01 * i : 0,
            i -> i < 64 ? 1 - 0.001 * i : 1e-3, i -> i < 100 ? 3 : 1};
        for (int k = 0; k < spectra.length; k++) {
            double[][] a = spectra[k] == null ? gaussian(rows, cols, r) : withSpectrum(rows, cols, spectra[k], r);
            Case c = new Case(DType.F32, a, cols, 3);
            double best = 0;
            if (spectra[k] == null) {
                c.full(svd);
                for (int i = rank; i < cols; i++) {
                    best += c.value(i) * c.value(i);
                }
            } else {
                for (int i = rank; i < cols; i++) {
                    best += spectra[k].applyAsDouble(i) * spectra[k].applyAsDouble(i);
                }
            }
            best = Math.sqrt(best);
            c.results(rank);
            Certificate got = svd.truncated(c.view, rows, cols, rank, Options.DEFAULT, c.u, c.s, c.vt);
            String what = "spectrum " + k + " best " + best + ": " + got;
            double rounding = 1e-5 * got.norm();
            assertEquals(c.residual(), got.error(), 1e-5 * got.error() + 1e-3 * rounding, what);
            assertEquals(c.orthogonality(true), got.left(), 1e-3 * got.left() + 1e-9, what);
            assertTrue(got.left() <= 1e-5 && got.right() <= 1e-5, what);
            assertTrue(k == 5 || got.error() <= plainPowerIteration(c.a, rank, r) + rounding, what);
            assertTrue(got.error() <= (k == 5 ? 1.06 : 1.03) * best + rounding, what);
            assertTrue(got.bound() <= best + rounding, what);
            assertTrue(k > 2 || got.bound() >= (k == 0 ? 0.95 : 0.7) * best, what);
            assertTrue(k > 1 || Math.abs(got.optimum() - best) <= 0.02 * best, what);
            byte[] results = c.bytes();
            assertEquals(got, svdOfOne.truncated(c.view, rows, cols, rank, Options.DEFAULT, c.u, c.s, c.vt));
            assertArrayEquals(results, c.bytes());
            Certificate quick = svd.truncated(c.view, rows, cols, rank, new Options(0, 3, 0.015, false), c.u, c.s, c.vt);
            assertArrayEquals(results, c.bytes());
            assertEquals(got.error(), quick.error(), 1e-2 * got.error() + 1e-3 * c.norm(), what);
        }
    }

    @RandomTest
    void truncatedByErrorKeepsTheBound() {
        Random r = Effort.random();
        for (DType type : new DType[] {DType.F32, DType.F64}) {
            for (double error : new double[] {0.5, 0.1, 0.02, 1e-3, 1e-7}) {
                Case c = new Case(type, withSpectrum(240, 200, i -> Math.pow(0.95, i), r));
                Certificate got = svd.truncatedByError(c.view, 240, 200, error, 200, Options.DEFAULT, c.u, c.s, c.vt);
                double rest = 0;
                int best = 200;
                while (best > 0 && Math.sqrt(rest + Math.pow(0.95, 2 * (best - 1))) <= error * c.norm()) {
                    best--;
                    rest += Math.pow(0.95, 2 * best);
                }
                String what = type + " error " + error + ": " + got + " best rank " + best;
                assertTrue(got.relativeError() <= Math.max(error, type == DType.F32 ? 1e-6 : 1e-13), what);
                assertTrue(got.rank() >= best - 1 && got.rank() <= best + 2 + best / 20 || error < 1e-6 && type == DType.F32, what);
                c.rank = (int) got.rank();
                assertEquals(c.residual(), got.error(), 1e-9 * c.residual() + 1e-14 * c.norm(), what);
            }
            Case zero = new Case(type, new double[150][140]);
            assertEquals(0, svd.truncatedByError(zero.view, 150, 140, 0.1, 140, Options.DEFAULT, zero.u, zero.s, zero.vt).rank());
            Case flat = new Case(type, withSpectrum(200, 200, i -> 1, r));
            Certificate limited = svd.truncatedByError(flat.view, 200, 200, 0.1, 10, Options.DEFAULT, flat.u, flat.s, flat.vt);
            assertEquals(10, limited.rank());
            assertEquals(Math.sqrt(190), limited.error(), 1e-4);
        }
    }

    @RandomTest
    void batches() {
        Random r = Effort.random();
        int count = 37;
        int rows = 9;
        int cols = 27;
        for (DType type : new DType[] {DType.F32, DType.F64}) {
            double[][] all = gaussian(count * rows, cols, r);
            Case stack = new Case(type, all);
            stack.results(count * rows); // room for all
            svd.batch(stack.view, count, (long) rows * cols, rows, cols, stack.u, stack.s, stack.vt);
            for (int k = 0; k < count; k++) {
                Case single = new Case(type, Arrays.copyOfRange(stack.a, k * rows, (k + 1) * rows)).full(svdOfOne);
                single.check("matrix " + k);
                for (int i = 0; i < rows; i++) {
                    assertEquals(single.value(i), get(type, stack.s, (long) k * rows + i));
                    for (int j = 0; j < rows; j++) {
                        assertEquals(get(type, single.u, (long) i * rows + j), get(type, stack.u, ((long) k * rows + i) * rows + j));
                    }
                    for (int j = 0; j < cols; j++) {
                        assertEquals(get(type, single.vt, (long) i * cols + j), get(type, stack.vt, ((long) k * rows + i) * cols + j));
                    }
                }
            }
            assertThrows(IllegalArgumentException.class, () -> svd.batch(stack.view, count + 1, (long) rows * cols, rows, cols, stack.u, stack.s, stack.vt));
            assertThrows(IllegalArgumentException.class, () -> svd.batch(stack.view, 1, 0, 65, 1, stack.u, stack.s, stack.vt));
        }
    }

    @Test
    void badInputIsRefused() {
        Random r = Effort.random();
        for (double bad : new double[] {Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY}) {
            for (int side : new int[] {10, 140}) {
                double[][] a = gaussian(side, side, r);
                a[side - 1][3] = bad;
                Case c = new Case(DType.F32, a);
                assertEquals(KernelException.NONFINITE, assertThrows(KernelException.class, () -> c.full(svd)).status());
                assertEquals(KernelException.NONFINITE, assertThrows(KernelException.class,
                        () -> svd.truncated(c.view, side, side, 2, Options.DEFAULT, c.u, c.s, c.vt)).status());
                assertEquals(KernelException.NONFINITE, assertThrows(KernelException.class,
                        () -> svd.certify(c.view, side, side, 2, c.u, c.s, c.vt)).status());
            }
        }
        Case c = new Case(DType.F32, gaussian(150, 140, r));
        for (long rank : new long[] {-1, 0, 141}) {
            assertThrows(IllegalArgumentException.class, () -> svd.truncated(c.view, 150, 140, rank, Options.DEFAULT, c.u, c.s, c.vt));
        }
        for (double error : new double[] {-0.1, 1.5, Double.NaN}) {
            assertThrows(IllegalArgumentException.class, () -> svd.truncatedByError(c.view, 150, 140, error, 140, Options.DEFAULT, c.u, c.s, c.vt));
        }
        assertThrows(IllegalArgumentException.class, () -> new Options(0, 4, 0, true));
        assertThrows(IllegalArgumentException.class, () -> svd.full(c.view, 151, 140, c.u, c.s, c.vt));
        assertThrows(IllegalArgumentException.class, () -> svd.full(c.view, 150, 141, c.u, c.s, c.vt));
        assertThrows(IllegalArgumentException.class, () -> svd.full(c.view, 150, 140, c.s, c.s, c.vt));
        assertThrows(IllegalArgumentException.class, () -> new View(DType.F16, c.u, 140));
        assertThrows(IllegalArgumentException.class, () -> new View(DType.F32, MemorySegment.ofArray(new float[4]), 2));
        // Nothing to decompose, nothing written.
        svd.full(c.view, 0, 140, c.u, c.s, c.vt);
        svd.full(c.view, 150, 0, c.u, c.s, c.vt);
        assertEquals(0, c.value(0));
    }

    @Test
    void theSweepLimitIsAnError() {
        try (Svd limited = new Svd(one)) {
            limited.limitSweeps(0);
            Case c = new Case(DType.F64, graded(100, 90, false, Effort.random()));
            assertEquals(KernelException.CONVERGENCE, assertThrows(KernelException.class, () -> c.full(limited)).status());
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {-996, -560, -53, 0, 53, 531, 990})
    void symmetricMatricesOfAnyMagnitude(int exponent) {
        double unit = Math.scalb(1.0, exponent);
        Random r = Effort.random();
        try (LinearAlgebra la = new LinearAlgebra(three); Arena arena = Arena.ofShared()) {
            // 600 rows are cut into parts, which are merged in Java. The second matrix has known eigenvalues.
            for (int n : new int[] {2, 64, 100, 600}) {
                for (boolean known : new boolean[] {false, true}) {
                    double[][] a = known ? new double[n][n] : gaussian(n, n, r);
                    MemorySegment m = arena.allocate(8L * n * n);
                    MemorySegment again = arena.allocate(8L * n * n);
                    for (int i = 0; i < n; i++) {
                        for (int j = 0; j <= i; j++) {
                            a[i][j] = a[j][i] = known ? i == j ? 2 : i - j == 1 ? -1 : 0 : a[i][j];
                            m.setAtIndex(JAVA_DOUBLE, (long) i * n + j, unit * a[i][j]);
                        }
                    }
                    again.copyFrom(m);
                    MemorySegment values = arena.allocate(8L * n);
                    MemorySegment alone = arena.allocate(8L * n);
                    MemorySegment z = arena.allocate(8L * n * n);
                    la.symmetricEigen(n, m, values, z);
                    la.symmetricEigenvalues(n, again, alone);
                    double norm = Math.abs(values.getAtIndex(JAVA_DOUBLE, 0)) / unit + Math.abs(values.getAtIndex(JAVA_DOUBLE, n - 1)) / unit;
                    double limit = 1e-14 * (n + 10) * norm;
                    for (int k = 0; k < n; k += Math.max(1, n / 16)) {
                        double value = values.getAtIndex(JAVA_DOUBLE, k) / unit;
                        assertEquals(value, alone.getAtIndex(JAVA_DOUBLE, k) / unit, limit);
                        if (known) {
                            assertEquals(2 + 2 * Math.cos((k + 1) * Math.PI / (n + 1)), value, limit);
                        }
                        for (int i = 0; i < n; i++) {
                            double x = -value * z.getAtIndex(JAVA_DOUBLE, (long) k * n + i);
                            double dot = i == k ? -1 : 0;
                            for (int j = 0; j < n; j++) {
                                x += a[i][j] * z.getAtIndex(JAVA_DOUBLE, (long) k * n + j);
                                dot += z.getAtIndex(JAVA_DOUBLE, (long) i * n + j) * z.getAtIndex(JAVA_DOUBLE, (long) k * n + j);
                            }
                            assertEquals(0, x, limit, "residual");
                            assertEquals(0, dot, 1e-14 * (n + 10), "orthogonality");
                        }
                    }
                }
            }
        }
    }

    @RandomTest
    void buildingBlocks() {
        Random r = Effort.random();
        try (LinearAlgebra la = new LinearAlgebra(three); Arena arena = Arena.ofShared()) {
            // Eigenvectors, also of multiple eigenvalues, at sizes around the leaves.
            for (int n : new int[] {1, 2, 31, 32, 33, 64, 65, 130, 300}) {
                for (int kind = 0; kind < 3; kind++) {
                    int of = kind;
                    double[][] half = gaussian(n, n, r);
                    double[][] a = new double[n][n];
                    for (int k = 0; k < n; k++) {
                        double weight = of == 0 ? 1 : of == 1 && k < 3 ? 1 : 0;
                        for (int i = 0; i < n; i++) {
                            for (int j = 0; j < n; j++) {
                                a[i][j] += of == 2 ? (k == i && i == j ? i % 2 : 0) : weight * half[k][i] * half[k][j];
                            }
                        }
                    }
                    MemorySegment m = arena.allocate(8L * n * n);
                    MemorySegment values = arena.allocate(8L * n);
                    MemorySegment z = arena.allocate(8L * n * n);
                    for (int i = 0; i < n * n; i++) {
                        m.setAtIndex(JAVA_DOUBLE, i, i % n <= i / n ? a[i / n][i % n] : Double.NaN);
                    }
                    la.symmetricEigen(n, m, values, z);
                    double norm = Math.max(1e-300, Math.abs(values.getAtIndex(JAVA_DOUBLE, 0)));
                    for (int k = 0; k < n; k++) {
                        assertTrue(k == 0 || values.getAtIndex(JAVA_DOUBLE, k) <= values.getAtIndex(JAVA_DOUBLE, k - 1));
                        for (int i = 0; i < n; i++) {
                            double x = -values.getAtIndex(JAVA_DOUBLE, k) * z.getAtIndex(JAVA_DOUBLE, (long) k * n + i);
                            double dot = i == k ? -1 : 0;
                            for (int j = 0; j < n; j++) {
                                x += a[i][j] * z.getAtIndex(JAVA_DOUBLE, (long) k * n + j);
                                dot += z.getAtIndex(JAVA_DOUBLE, (long) i * n + j) * z.getAtIndex(JAVA_DOUBLE, (long) k * n + j);
                            }
                            assertTrue(Math.abs(x) <= 1e-14 * (n + 10) * norm, "n " + n + " residual " + x);
                            assertTrue(Math.abs(dot) <= 1e-14 * (n + 10), "n " + n + " orthogonality " + dot);
                        }
                    }
                }
            }
            // CholeskyQR2 where it is safe, reflections where it is not; the span stays.
            for (int kind = 0; kind < 3; kind++) {
                double[][] x = kind == 1 ? withSpectrum(20, 300, i -> Math.pow(10, -i), r) : gaussian(20, 300, r);
                if (kind == 2) {
                    x[7] = x[3].clone();
                }
                MemorySegment m = arena.allocate(8L * 20 * 300);
                for (int i = 0; i < 20 * 300; i++) {
                    m.setAtIndex(JAVA_DOUBLE, i, x[i / 300][i % 300]);
                }
                assertEquals(kind == 0, la.orthonormalize(20, 300, m));
                for (int p = 0; p < 20; p++) {
                    for (int q = 0; q < 20; q++) {
                        double dot = p == q ? -1 : 0;
                        for (int j = 0; j < 300; j++) {
                            dot += m.getAtIndex(JAVA_DOUBLE, p * 300L + j) * m.getAtIndex(JAVA_DOUBLE, q * 300L + j);
                        }
                        assertEquals(0, dot, 1e-14);
                    }
                    double[] rest = x[p].clone();
                    for (int q = 0; q < 20; q++) {
                        double dot = 0;
                        for (int j = 0; j < 300; j++) {
                            dot += m.getAtIndex(JAVA_DOUBLE, q * 300L + j) * x[p][j];
                        }
                        for (int j = 0; j < 300; j++) {
                            rest[j] -= dot * m.getAtIndex(JAVA_DOUBLE, q * 300L + j);
                        }
                    }
                    assertEquals(0, Arrays.stream(rest).map(Math::abs).max().orElseThrow(), 1e-13);
                }
            }
            assertThrows(IllegalArgumentException.class, () -> la.orthonormalize(3, 2, MemorySegment.NULL));
            // One sequence, whatever the threads.
            MemorySegment numbers = arena.allocate(8L * 100000);
            MemorySegment again = arena.allocate(8L * 100000);
            la.gaussian(5, 6, 100000, DType.F64, numbers);
            try (LinearAlgebra other = new LinearAlgebra(one)) {
                other.gaussian(5, 6, 100000, DType.F64, again);
            }
            assertEquals(-1, numbers.mismatch(again));
            assertEquals(100000, la.sumOfSquares(View.of(numbers, 1000), 100, 1000), 3000);
        }
    }

    /** The same for any number of threads; rows that depend on others are found in any of the blocks. */
    @Test
    void largeMatricesAreFactoredInBlocks() {
        int n = 600;
        try (Arena arena = Arena.ofShared(); LinearAlgebra la = new LinearAlgebra(three); LinearAlgebra alone = new LinearAlgebra(one)) {
            double[][] x = new double[n][n + 50];
            Random random = Effort.random();
            for (double[] row : x) {
                Arrays.setAll(row, _ -> random.nextGaussian());
            }
            MemorySegment g = gram(x, arena);
            MemorySegment l = arena.allocate(8L * n * n, 64).copyFrom(g);
            assertTrue(la.cholesky(n, l));
            MemorySegment again = arena.allocate(8L * n * n, 64).copyFrom(g);
            assertTrue(alone.cholesky(n, again));
            for (int i = 0; i < n; i++) {
                for (int j = 0; j <= i; j++) {
                    double sum = 0;
                    for (int k = 0; k <= j; k++) {
                        sum += l.getAtIndex(JAVA_DOUBLE, i * n + k) * l.getAtIndex(JAVA_DOUBLE, j * n + k);
                    }
                    assertEquals(g.getAtIndex(JAVA_DOUBLE, i * n + j), sum, 1e-10 * n);
                    assertEquals(l.getAtIndex(JAVA_DOUBLE, i * n + j), again.getAtIndex(JAVA_DOUBLE, i * n + j));
                }
            }
            for (int at : new int[] {100, 590}) {
                double[][] dependent = x.clone();
                dependent[at] = x[3];
                assertFalse(la.cholesky(n, gram(dependent, arena)), "row " + at);
            }
        }
    }

    private static MemorySegment gram(double[][] x, Arena arena) {
        int n = x.length;
        MemorySegment g = arena.allocate(8L * n * n, 64);
        for (int i = 0; i < n; i++) {
            for (int j = 0; j <= i; j++) {
                double sum = 0;
                for (int k = 0; k < x[i].length; k++) {
                    sum += x[i][k] * x[j][k];
                }
                g.setAtIndex(JAVA_DOUBLE, i * n + j, sum);
                g.setAtIndex(JAVA_DOUBLE, j * n + i, sum);
            }
        }
        return g;
    }
}
