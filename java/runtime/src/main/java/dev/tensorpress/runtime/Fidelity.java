package dev.tensorpress.runtime;

import dev.tensorpress.model.UnsupportedRequestException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** How near one output stays to that of the reference, over all inputs. */
final class Fidelity {
    private final String name;
    private final List<Double> cosines = new ArrayList<>();
    private double squares;
    private double squaredDifferences;
    private double largest;
    private long positions;
    private long agreeing;

    Fidelity(String name) {
        this.name = name;
    }

    /** @param last length of the last axis, along which the largest elements are compared, if it is 2 or more */
    void add(float[] wanted, float[] got, long last) {
        if (wanted.length != got.length) {
            throw new UnsupportedRequestException("output " + name + " has " + got.length + " elements, but "
                    + wanted.length + " in the reference: these are not the same model");
        }
        double dot = 0;
        double a = 0;
        double b = 0;
        for (int i = 0; i < wanted.length; i++) {
            double difference = (double) got[i] - wanted[i];
            dot += (double) wanted[i] * got[i];
            a += (double) wanted[i] * wanted[i];
            b += (double) got[i] * got[i];
            squaredDifferences += difference * difference;
            largest = Math.max(largest, Math.abs(difference));
        }
        squares += a;
        cosines.add(Embeddings.cosine(dot, a, b));
        for (int from = 0; last > 1 && from < wanted.length; from += (int) last) {
            int best = argmax(wanted, from, (int) last);
            positions++;
            agreeing += best >= 0 && best == argmax(got, from, (int) last) ? 1 : 0;
        }
    }

    /** The first of equals, or -1 if one is NaN. */
    static int argmax(float[] values, int from, int n) {
        int best = 0;
        for (int i = 0; i < n; i++) {
            if (Float.isNaN(values[from + i])) {
                return -1;
            }
            best = values[from + i] > values[from + best] ? i : best;
        }
        return best;
    }

    Comparison.Output result() {
        List<Double> sorted = new ArrayList<>(cosines);
        Collections.sort(sorted);
        double sum = 0;
        double least = Double.POSITIVE_INFINITY;
        for (double cosine : sorted) {
            sum += cosine;
            least = Math.min(least, cosine); // NaN sorts last, but must not pass for a good minimum
        }
        int n = sorted.size();
        double p5 = Double.isNaN(least) ? least : sorted.get((int) Math.ceil(0.05 * n) - 1);
        return new Comparison.Output(name, sum / n, p5, least,
                squaredDifferences == 0 ? 0 : Math.sqrt(squaredDifferences / squares), largest,
                positions == 0 ? Double.NaN : (double) agreeing / positions);
    }
}
