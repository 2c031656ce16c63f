package dev.tensorpress.demo;

import dev.tensorpress.demo.Findings.Plot;
import dev.tensorpress.demo.Findings.Point;
import dev.tensorpress.demo.Findings.Series;
import dev.tensorpress.demo.Findings.Table;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.kernel.Pca;
import dev.tensorpress.tensor.DType;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Nearest neighbours among digits of 8 x 8 pixels. They have to keep all digits that they know: principal components make that small. What is kept of each
 * digit is its scores, in f32 or as codes of 8 and 4 bits with a scale for each component, and of all together the components and the mean, in f32.
 */
final class DigitsDemo implements Demo {
    private static final int FEATURES = Digits.SMALL * Digits.SMALL;
    private static final int NEIGHBOURS = 3;
    private static final int[] COMPONENTS = {1, 2, 4, 8, 12, 16, 24, 32, FEATURES};

    @Override
    public String name() {
        return "digits";
    }

    @Override
    public String summary() {
        return "principal components and nearest neighbours: accuracy against bytes, on digits of 8 x 8 pixels";
    }

    @Override
    public Findings run(Work work) {
        Digits training = Digits.training(work.effort());
        Digits test = Digits.test(work.effort());
        float[] known = training.small();
        float[] asked = test.small();
        int n = training.size();
        List<List<String>> rows = new ArrayList<>();
        double pixels = accuracy(known, asked, FEATURES, training, test);
        rows.add(List.of("pixels", "", Training.count(n * (long) FEATURES), "100.00 %", Training.percent(pixels), "", ""));
        List<Point> floats = new ArrayList<>();
        List<Point> bytes = new ArrayList<>();
        List<Point> nibbles = new ArrayList<>();
        try (Executor executor = Executor.cpu(work.threads()); Arena arena = Arena.ofShared()) {
            for (int i = 0; i < COMPONENTS.length; i++) {
                int k = COMPONENTS[i];
                work.progress().at("components and neighbours", i, COMPONENTS.length, k + " components");
                try (Pca pca = Pca.ofRank(view(known, arena), n, FEATURES, k, executor)) {
                    float[] scores = scores(pca, known, n, arena, executor);
                    float[] of = scores(pca, asked, test.size(), arena, executor);
                    double explained = 0;
                    for (double ratio : pca.varianceRatio()) {
                        explained += ratio;
                    }
                    long shared = 4L * FEATURES * (k + 1);
                    double full = accuracy(scores, of, k, training, test);
                    double coded8 = accuracy(coded(scores, n, k, 8), of, k, training, test);
                    double coded4 = accuracy(coded(scores, n, k, 4), of, k, training, test);
                    long bytes8 = shared + 4L * k + (long) n * k;
                    rows.add(List.of("components", Integer.toString(k), Training.count(bytes8), Training.percent(explained), Training.percent(full),
                            Training.percent(coded8), Training.percent(coded4)));
                    String label = k == 2 ? "2 components" : "";
                    floats.add(new Point(shared + 4L * n * k, 100 * full, label));
                    bytes.add(new Point(bytes8, 100 * coded8, label));
                    nibbles.add(new Point(shared + 4L * k + ((long) n * k + 1) / 2, 100 * coded4, label));
                }
            }
        }
        return new Findings("The " + NEIGHBOURS + " nearest of " + Training.count(n) + " digits tell what " + Training.count(test.size())
                + " others are. Known digits are kept as pixels of a byte, or as principal components; bytes are those of 8 bits per score, components included.",
                List.of(new Table("Accuracy", List.of("Kept", ">Components", ">Bytes (8 bits)", ">Variance", ">Accuracy", ">8 bits", ">4 bits"), rows)),
                List.of(new Plot("Accuracy against bytes", "bytes", true, "accuracy, %", List.of(new Series("f32", floats), new Series("8 bits", bytes),
                        new Series("4 bits", nibbles), new Series("pixels", List.of(new Point((double) n * FEATURES, 100 * pixels, "pixels")))))));
    }

    private static View view(float[] data, Arena arena) {
        return new View(DType.F32, arena.allocateFrom(ValueLayout.JAVA_FLOAT, data), FEATURES);
    }

    private static float[] scores(Pca pca, float[] data, int n, Arena arena, Executor executor) {
        int k = Math.toIntExact(pca.rank());
        MemorySegment scores = arena.allocate(8L * n * k, 64);
        pca.transform(view(data, arena), n, scores, executor);
        double[] exact = scores.toArray(ValueLayout.JAVA_DOUBLE);
        float[] all = new float[exact.length];
        for (int i = 0; i < all.length; i++) {
            all[i] = (float) exact[i];
        }
        return all;
    }

    /** What is left of scores as symmetric codes with a scale for each component. */
    private static float[] coded(float[] scores, int n, int k, int bits) {
        float[] all = new float[scores.length];
        int largest = (1 << bits - 1) - 1;
        for (int c = 0; c < k; c++) {
            float most = 0;
            for (int i = 0; i < n; i++) {
                most = Math.max(most, Math.abs(scores[i * k + c]));
            }
            float scale = most / largest;
            for (int i = 0; i < n && scale > 0; i++) {
                all[i * k + c] = scale * Math.round(scores[i * k + c] / scale);
            }
        }
        return all;
    }

    /** Part of the digits that most of their nearest neighbours name; of equally many, those of the nearest one. */
    private static double accuracy(float[] known, float[] asked, int width, Digits training, Digits test) {
        int[] labels = training.labels();
        int[] right = test.labels();
        int hits = 0;
        for (int i = 0; i < right.length; i++) {
            float[] best = new float[NEIGHBOURS];
            int[] digit = new int[NEIGHBOURS];
            Arrays.fill(best, Float.POSITIVE_INFINITY);
            for (int j = 0; j < labels.length; j++) {
                float distance = 0;
                for (int c = 0; c < width; c++) {
                    float d = asked[i * width + c] - known[j * width + c];
                    distance += d * d;
                }
                int at = NEIGHBOURS;
                while (at > 0 && distance < best[at - 1]) {
                    at--;
                }
                if (at < NEIGHBOURS) {
                    System.arraycopy(best, at, best, at + 1, NEIGHBOURS - 1 - at);
                    System.arraycopy(digit, at, digit, at + 1, NEIGHBOURS - 1 - at);
                    best[at] = distance;
                    digit[at] = labels[j];
                }
            }
            hits += vote(digit) == right[i] ? 1 : 0;
        }
        return (double) hits / right.length;
    }

    private static int vote(int[] digit) {
        int[] votes = new int[Digits.CLASSES];
        for (int d : digit) {
            votes[d]++;
        }
        int winner = digit[0];
        for (int d : digit) {
            winner = votes[d] > votes[winner] ? d : winner;
        }
        return winner;
    }
}
