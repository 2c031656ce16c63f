package dev.tensorpress.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.BitSet;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

class ScoresTest {
    /** Figures of scikit-learn's accuracy_score and f1_score(average="macro"): classes 0 to 3, the last one only answered. */
    @Test
    void classes() {
        List<Integer> labels = List.of(0, 0, 0, 1, 1, 2, 2, 2, 2, 0);
        List<Integer> answers = List.of(0, 1, 0, 1, 1, 2, 0, 2, 3, 0);
        assertEquals(0.7, Scores.accuracy(labels, answers));
        assertEquals((0.75 + 0.8 + 2.0 / 3 + 0) / 4, Scores.macroF1(labels, answers), 1e-15);
        assertEquals(1, Scores.macroF1(labels, labels));
        // An answer that is none is a miss of one class, and no class of its own.
        assertEquals(2.0 / 3, Scores.macroF1(List.of(0, 0), List.of(0, -1)), 1e-15);
    }

    /** Figures of SciPy's spearmanr. */
    @Test
    void ranks() {
        assertEquals(1, Scores.spearman(new double[] {1, 2, 3}, new double[] {-5, 0, 1e9}), 1e-15);
        assertEquals(-1, Scores.spearman(new double[] {1, 2, 3}, new double[] {3, 2, 1}), 1e-15);
        assertEquals(0.8207826816681233, Scores.spearman(new double[] {1, 2, 3, 4, 5}, new double[] {5, 6, 7, 8, 7}), 1e-15);
        assertEquals(0.7514691493021796, Scores.spearman(new double[] {1, 1, 2, 3, 3, 3}, new double[] {0.2, 0.2, 0.1, 0.5, 0.4, 0.9}), 1e-15);
        assertTrue(Double.isNaN(Scores.spearman(new double[] {1, 1}, new double[] {1, 2})));
        assertTrue(Double.isNaN(Scores.spearman(new double[] {1, Double.NaN, 2}, new double[] {1, 2, 3})));
    }

    /** A rank with its ties by counting: those that are less, and half of those that are equal. */
    @Test
    void ranksAgainstCounts() {
        Random random = new Random(1);
        for (int round = 0; round < 50; round++) {
            int n = 2 + random.nextInt(30);
            double[] a = random.doubles(n).map(x -> Math.floor(8 * x)).toArray();
            double[] b = random.doubles(n).map(x -> Math.floor(8 * x)).toArray();
            double[] x = new double[n];
            double[] y = new double[n];
            for (int i = 0; i < n; i++) {
                for (int j = 0; j < n; j++) {
                    x[i] += Math.signum(a[i] - a[j]);
                    y[i] += Math.signum(b[i] - b[j]);
                }
            }
            double xy = 0;
            double xx = 0;
            double yy = 0;
            for (int i = 0; i < n; i++) {
                xy += x[i] * y[i];
                xx += x[i] * x[i];
                yy += y[i] * y[i];
            }
            assertEquals(xy / Math.sqrt(xx * yy), Scores.spearman(a, b), 1e-12);
        }
    }

    private static BitSet set(int... bits) {
        BitSet set = new BitSet();
        for (int bit : bits) {
            set.set(bit);
        }
        return set;
    }

    @Test
    void recall() {
        assertEquals((1.0 + 0 + 2.0 / 3) / 3, Scores.recall(List.of(set(4), set(1, 2), set(0, 5, 6)),
                List.of(set(4, 5), set(0, 3), set(6, 0))), 1e-15);
    }
}
