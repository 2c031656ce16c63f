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
import java.util.function.Supplier;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class FeatureScoresTest {
    private static final int SAMPLES = 24;
    private static final int FEATURES = 5;
    private static final int[] CLASSES = {0, 1, 2, 0, 1, 0, 1, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2};

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

    private View f64(double[][] x) {
        int cols = x[0].length;
        MemorySegment m = arena.allocate(8L * x.length * cols, 8);
        for (int i = 0; i < x.length; i++) {
            MemorySegment.copy(x[i], 0, m, JAVA_DOUBLE, 8L * i * cols, cols);
        }
        return new View(DType.F64, m, cols);
    }

    /** With gaps between rows that hold NaN. */
    private View f32(double[][] x) {
        int stride = x[0].length + 3;
        MemorySegment m = arena.allocate(4L * x.length * stride, 4);
        m.fill((byte) 0xff);
        for (int i = 0; i < x.length; i++) {
            for (int j = 0; j < x[0].length; j++) {
                m.setAtIndex(JAVA_FLOAT, (long) i * stride + j, (float) x[i][j]);
            }
        }
        return new View(DType.F32, m, stride);
    }

    private SparseMatrix sparse(double[][] x, Sparse.Layout layout) {
        MemorySegment m = arena.allocate(4L * x.length * x[0].length, 64);
        for (int i = 0; i < x.length; i++) {
            for (int j = 0; j < x[0].length; j++) {
                m.setAtIndex(JAVA_FLOAT, (long) i * x[0].length + j, (float) x[i][j]);
            }
        }
        return Sparse.pack(DType.F32, x.length, x[0].length, m, layout, 0, arena, executor);
    }

    private SparseMatrix sparse(double[][] x) {
        return sparse(x, Sparse.Layout.CSR32);
    }

    /** Some zeros; the last feature is far from 0. */
    private static double[][] data() {
        double[][] x = new double[SAMPLES][FEATURES];
        for (int i = 0; i < SAMPLES; i++) {
            for (int j = 0; j < FEATURES; j++) {
                x[i][j] = (i * 7 + j * 11 + i * j * 3) % 23 + i % 3 * j * 0.5;
            }
            x[i][4] = 1000 + x[i][4] / 8;
        }
        return x;
    }

    private static double[] targets() {
        double[] t = new double[SAMPLES];
        for (int i = 0; i < SAMPLES; i++) {
            t[i] = i * 5 % 17 - 0.25 * i + data()[i][2];
        }
        return t;
    }

    private static void assertClose(double[] expected, double[] actual, double tolerance) {
        assertEquals(expected.length, actual.length);
        for (int j = 0; j < expected.length; j++) {
            assertEquals(expected[j], actual[j], tolerance * Math.abs(expected[j]), "feature " + j);
        }
    }

    // Of scikit-learn 1.9.1: X.var(axis=0), f_classif, chi2, f_regression.
    private static final double[] VARIANCE = {46.99826388888889, 43.25, 47.74826388888889, 38.33159722222222, 0.7160373263888885};
    private static final double[] ANOVA = {1.980984192698532, 0.26872830069575054, 0.24699577698661587, 1.4930420237623085, 1.170489108651573};
    private static final double[] ANOVA_P = {0.1628826746516875, 0.7669397253961003, 0.7833815138608304, 0.24758789527497993, 0.32964958618261464};
    private static final double[] CHI = {16.98306041784302, 2.252415458937202, 2.114030896639594, 9.192865105908588, 0.0017206696012300148};
    private static final double[] CHI_P = {0.00020519902237743865, 0.32426061168192133, 0.3474913701731374, 0.010087759175734953, 0.9991400351812592};
    private static final double[] REGRESSION = {0.5170967380341376, 4.60060929769587, 28.4413260284788, 0.0037066285920131074, 1.0567934376420762};
    private static final double[] REGRESSION_P = {0.47965199081072735, 0.04325845323322679, 2.361138132402439e-05, 0.9520028196959984, 0.3151182973632184};

    @Test
    void scoresAreThoseOfScikitLearn() {
        double[][] x = data();
        SparseMatrix sparse = sparse(x);
        assertTrue(sparse.units() < SAMPLES * FEATURES, "there are zeros");
        for (View view : new View[] {f64(x), f32(x)}) {
            check(FeatureScores.variance(view, SAMPLES, FEATURES, executor), FeatureScores.anova(view, SAMPLES, FEATURES, CLASSES, executor),
                    FeatureScores.chiSquared(view, SAMPLES, FEATURES, CLASSES, executor),
                    FeatureScores.regression(view, SAMPLES, FEATURES, targets(), executor));
        }
        check(FeatureScores.variance(sparse, executor), FeatureScores.anova(sparse, CLASSES, executor), FeatureScores.chiSquared(sparse, CLASSES, executor),
                FeatureScores.regression(sparse, targets(), executor));
    }

    private static void check(FeatureScores variance, FeatureScores anova, FeatureScores chi, FeatureScores regression) {
        assertClose(VARIANCE, variance.values(), 1e-13);
        // scikit-learn takes the square of the sum off the sum of squares: of the feature around 1000 that loses digits.
        assertClose(Arrays.copyOf(ANOVA, 4), Arrays.copyOf(anova.values(), 4), 1e-11);
        assertClose(Arrays.copyOf(ANOVA_P, 4), Arrays.copyOf(anova.pValues(), 4), 1e-11);
        assertClose(ANOVA, anova.values(), 1e-6);
        assertClose(ANOVA_P, anova.pValues(), 1e-6);
        assertClose(CHI, chi.values(), 1e-9);
        assertClose(CHI_P, chi.pValues(), 1e-11);
        assertClose(REGRESSION, regression.values(), 1e-9);
        assertClose(REGRESSION_P, regression.pValues(), 1e-9);
    }

    @Test
    void selectsTheBest() {
        FeatureScores scores = FeatureScores.regression(f64(data()), SAMPLES, FEATURES, targets(), executor);
        assertArrayEquals(new int[] {1, 2, 4}, scores.best(3));
        assertArrayEquals(new int[0], scores.best(0));
        assertArrayEquals(new int[] {0, 1, 2, 3, 4}, scores.best(5));
        assertArrayEquals(new int[] {1, 2}, scores.above(4.6));
        assertArrayEquals(new int[] {1, 2}, scores.significant(0.05));
        assertThrows(IllegalArgumentException.class, () -> scores.best(6));
        assertThrows(IllegalArgumentException.class, () -> scores.best(-1));
        assertThrows(IllegalArgumentException.class, () -> scores.above(Double.NaN));
        assertThrows(IllegalArgumentException.class, () -> scores.significant(1.5));
        FeatureScores variance = FeatureScores.variance(f64(new double[][] {{1, 5, 5, 2}, {1, 7, 7, 1}}), 2, 4, executor);
        assertArrayEquals(new int[] {1, 2, 3}, variance.above(0));
        assertArrayEquals(new int[] {1}, variance.best(1), "of equal ones the first");
        assertThrows(IllegalStateException.class, variance::pValues);
        assertThrows(IllegalStateException.class, () -> variance.significant(0.1));
        variance.values()[0] = 9;
        assertEquals(0, variance.values()[0]);
    }

    /** Constant, constant in each class, alike in all classes, far from 0, and zero. */
    @Test
    void edges() {
        int n = 70;
        double[][] x = new double[n][5];
        int[] classes = new int[n];
        double[] targets = new double[n];
        for (int i = 0; i < n; i++) {
            classes[i] = i == 0 ? 7 : i % 2 - 5; // one class has a single member
            targets[i] = 0.1 * i;
            x[i] = new double[] {0.1f, classes[i] == 7 ? 3.3f : classes[i] == -5 ? 0.7f : 0, 1e8 + i % 4, 0, 2 * targets[i] + 1};
        }
        for (FeatureScores s : new FeatureScores[] {FeatureScores.anova(f64(x), n, 5, classes, executor), FeatureScores.anova(sparse(x), classes, executor)}) {
            assertEquals(0, s.values()[0]);
            assertEquals(1, s.pValues()[0]);
            assertEquals(Double.POSITIVE_INFINITY, s.values()[1]);
            assertEquals(0, s.pValues()[1]);
            assertEquals(0, s.values()[3]);
            assertEquals(1, s.pValues()[3]);
            assertArrayEquals(new int[] {1}, s.best(1));
        }
        for (FeatureScores s : new FeatureScores[] {FeatureScores.variance(f32(x), n, 5, executor), FeatureScores.variance(sparse(x), executor)}) {
            assertEquals(0, s.values()[0]);
            assertEquals(0, s.values()[3]);
        }
        double far = FeatureScores.anova(f64(x), n, 5, classes, executor).values()[2];
        double[][] near = new double[n][1];
        Arrays.setAll(near, i -> new double[] {i % 4});
        assertEquals(FeatureScores.anova(f64(near), n, 1, classes, executor).values()[0], far, 1e-6 * far);
        double sum = 0;
        for (int i = 0; i < n; i++) {
            sum += i % 4;
        }
        double mean = sum / n;
        double expected = 0;
        for (int i = 0; i < n; i++) {
            expected += (i % 4 - mean) * (i % 4 - mean) / n;
        }
        assertEquals(expected, FeatureScores.variance(f64(x), n, 5, executor).values()[2], 1e-8);
        for (FeatureScores s : new FeatureScores[] {FeatureScores.regression(f64(x), n, 5, targets, executor),
            FeatureScores.regression(sparse(x), targets, executor)}) {
            assertEquals(0, s.values()[0]);
            assertEquals(1, s.pValues()[0]);
            assertTrue(s.values()[4] > 1e12, "" + s.values()[4]);
            assertTrue(s.pValues()[4] < 1e-200);
        }
        double[] same = new double[n];
        Arrays.fill(same, 0.3);
        assertArrayEquals(new double[5], FeatureScores.regression(f64(x), n, 5, same, executor).values());
        for (FeatureScores s : new FeatureScores[] {FeatureScores.chiSquared(f64(x), n, 5, classes, executor), FeatureScores.chiSquared(sparse(x), classes, executor)}) {
            assertEquals(0, s.values()[0]);
            assertEquals(1, s.pValues()[0]);
            assertEquals(0, s.values()[3]);
        }
    }

    /** More features than a tile has, and sums in plain Java. */
    @Test
    void manyFeaturesForAnyNumberOfThreads() {
        int n = 37;
        int d = 1300;
        Random random = new Random(3);
        double[][] x = new double[n][d];
        int[] classes = new int[n];
        double[] targets = new double[n];
        for (int i = 0; i < n; i++) {
            classes[i] = i % 4;
            targets[i] = random.nextGaussian();
            for (int j = 0; j < d; j++) {
                x[i][j] = random.nextInt(3) == 0 ? (float) random.nextGaussian() + j % 5 : 0;
            }
        }
        View view = f32(x);
        double[] one;
        double[] regression;
        try (Executor alone = Executor.cpu(1)) {
            one = FeatureScores.anova(view, n, d, classes, alone).values();
            regression = FeatureScores.regression(view, n, d, targets, alone).values();
        }
        try (Executor five = Executor.cpu(5)) {
            assertArrayEquals(one, FeatureScores.anova(view, n, d, classes, five).values());
            assertArrayEquals(regression, FeatureScores.regression(view, n, d, targets, five).values());
        }
        assertClose(one, FeatureScores.anova(sparse(x), classes, executor).values(), 1e-10);
        for (int j : new int[] {0, 127, 128, 511, 512, 1299}) {
            double[] mean = new double[4];
            double all = 0;
            double my = Arrays.stream(targets).average().orElseThrow();
            for (int i = 0; i < n; i++) {
                mean[classes[i]] += x[i][j] / (i % 4 == 0 ? 10 : 9);
                all += x[i][j] / n;
            }
            double within = 0;
            double between = 0;
            double xx = 0;
            double xy = 0;
            double yy = 0;
            for (int i = 0; i < n; i++) {
                within += Math.pow(x[i][j] - mean[classes[i]], 2);
                between += Math.pow(mean[classes[i]] - all, 2);
                xx += Math.pow(x[i][j] - all, 2);
                xy += (x[i][j] - all) * (targets[i] - my);
                yy += Math.pow(targets[i] - my, 2);
            }
            assertEquals(between / 3 / (within / (n - 4)), one[j], 1e-11 * one[j]);
            double r = xy * xy / xx / yy;
            assertEquals(r / (1 - r) * (n - 2), regression[j], 1e-10 * regression[j] + 1e-13);
        }
    }

    /** Of scipy 1.17.1: stats.f.sf and stats.chi2.sf. */
    @Test
    void tails() {
        double[][] f = {{1, 3, 0.5, 0.530477770932957}, {2, 10, 3.7, 0.06269801026030646}, {9, 90, 1, 0.4460352484199933}, {9, 99990, 25, 2.09122588766552e-43},
            {1, 99998, 900, 7.378832822556523e-197}, {1, 1, 1e-9, 0.9999798683143246}, {3, 7, 1e12, 4.517943513818793e-41},
            {999, 1000000, 1.05, 0.13271687543547347}, {1, 10, 1000, 2.3512191643196073e-11}, {60, 5, 0.9, 0.635851535550824}, {4, 9, 0, 1},
            {4, 9, Double.POSITIVE_INFINITY, 0}};
        for (double[] c : f) {
            assertEquals(c[3], TailProbability.f(c[0], c[1], c[2]), 1e-11 * c[3], Arrays.toString(c));
        }
        double[][] chi = {{1, 0.001, 0.9747728793699604}, {1, 3.84, 0.05004352124870519}, {2, 700, Math.exp(-350)}, {9, 4.2, 0.8977625971214902},
            {9, 99.5, 1.986018082187456e-17}, {999, 1100, 0.013818467525532353}, {100000, 101000, 0.012868840377233648}, {3, 1e-12, 1}, {5, 0, 1},
            {5, Double.POSITIVE_INFINITY, 0}};
        for (double[] c : chi) {
            assertEquals(c[2], TailProbability.chiSquared(c[0], c[1]), 1e-11 * c[2], Arrays.toString(c));
        }
    }

    private static void refused(String named, Supplier<FeatureScores> work) {
        String message = assertThrows(IllegalArgumentException.class, work::get).getMessage();
        assertTrue(message.contains(named), message);
    }

    @Test
    void badInputIsNamed() {
        double[][] x = data();
        x[11][3] = Double.NaN;
        refused("row 11, column 3 of the data is NaN", () -> FeatureScores.variance(f64(x), SAMPLES, FEATURES, executor));
        refused("row 11, column 3 of the data is NaN", () -> FeatureScores.anova(f32(x), SAMPLES, FEATURES, CLASSES, executor));
        refused("row 11, column 3 of the data is NaN", () -> FeatureScores.regression(f32(x), SAMPLES, FEATURES, targets(), executor));
        refused("row 11, column 3 of the data is NaN", () -> FeatureScores.variance(sparse(x), executor));
        x[2][0] = Double.NEGATIVE_INFINITY;
        refused("row 2, column 0 of the data is -Infinity", () -> FeatureScores.variance(f64(x), SAMPLES, FEATURES, executor));
        double[][] negative = data();
        negative[20][1] = -0.5;
        refused("row 20, column 1 of the data is -0.5", () -> FeatureScores.chiSquared(f64(negative), SAMPLES, FEATURES, CLASSES, executor));
        refused("row 20, column 1 of the data is -0.5", () -> FeatureScores.chiSquared(sparse(negative), CLASSES, executor));
        double[][] huge = data();
        huge[1][2] = 1e200;
        refused("column 2 ", () -> FeatureScores.variance(f64(huge), SAMPLES, FEATURES, executor));
        View view = f64(data());
        refused("3 classes for 24", () -> FeatureScores.anova(view, SAMPLES, FEATURES, new int[3], executor));
        refused("all samples are of class 0", () -> FeatureScores.anova(view, SAMPLES, FEATURES, new int[SAMPLES], executor));
        int[] own = new int[SAMPLES];
        Arrays.setAll(own, i -> i);
        refused("each of the 24 samples", () -> FeatureScores.anova(view, SAMPLES, FEATURES, own, executor));
        refused("2 targets for 24", () -> FeatureScores.regression(view, SAMPLES, FEATURES, new double[2], executor));
        double[] t = targets();
        t[4] = Double.NaN;
        refused("target 4 is NaN", () -> FeatureScores.regression(view, SAMPLES, FEATURES, t, executor));
        refused("2 samples", () -> FeatureScores.regression(view, 2, FEATURES, new double[2], executor));
        refused("0 samples", () -> FeatureScores.variance(view, 0, FEATURES, executor));
        refused("bytes", () -> FeatureScores.variance(view, SAMPLES + 1, FEATURES, executor));
        refused("csr16", () -> FeatureScores.variance(sparse(data(), Sparse.Layout.CSR16), executor));
    }
}
