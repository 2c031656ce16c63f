package dev.tensorpress.method;

import dev.tensorpress.encoding.ValueCodes;
import dev.tensorpress.statistics.Histogram;
import dev.tensorpress.statistics.ValueStatistics;
import java.util.Arrays;

/**
 * How the range of a value's codes is found in its histogram. 0 always has a code, since zeros of padding and of activation functions have
 * to stay exact.
 *
 * @param percentile of {@link Rule#PERCENTILE}: which part of the elements has codes, in percent; what is left out is half at each end
 */
public record ValueRange(Rule rule, double percentile) {
    /** What is looked for. */
    public enum Rule {
        /** A code for every element that calibration has seen. */
        MINMAX,
        /** For most elements. */
        PERCENTILE,
        /**
         * The range with which codes tell most about elements: the least Kullback-Leibler divergence of the distribution of codes from that
         * of elements (Migacz, "8-bit inference with TensorRT", 2017).
         */
        KL,
        /** The range with the least mean of squared errors. */
        MSE
    }

    /** Parts of the full range that are tried at each end. */
    private static final int STEPS = 32;
    private static final double LEAST_PART = 0.2;
    private static final int CODES = 256;
    private static final int ZERO = Histogram.BINS / 2;

    public ValueRange {
        if (!(percentile > 50) || !(percentile <= 100)) {
            throw new IllegalArgumentException("a percentile is more than 50 and at most 100, not " + percentile);
        }
    }

    /**
     * @param value with or without histogram; without one the range is that of all its elements
     * @param least what lies below makes no difference, so that it is as this; at most 0
     * @param most what lies above, alike; at least 0
     */
    public ValueCodes of(ValueStatistics value, double least, double most) {
        double from = 0;
        double to = 0;
        for (int c = 0; c < value.channels(); c++) {
            from = Math.min(from, value.min()[c]);
            to = Math.max(to, value.max()[c]);
        }
        from = Math.max(from, least);
        to = Math.min(to, most);
        if (rule == Rule.MINMAX || from == to || value.histogram().isEmpty()) {
            return ValueCodes.of(from, to);
        }
        Counts counts = Counts.of(value.histogram().get(), from, to);
        return switch (rule) {
            case MINMAX -> throw new IllegalStateException("the range is known");
            case PERCENTILE -> counts.percentile(percentile / 100, from, to);
            case KL -> search(from, to, counts::divergence);
            case MSE -> search(from, to, counts::squaredError);
        };
    }

    /** What a range costs. */
    private interface Cost {
        double of(ValueCodes codes);
    }

    /** One end after the other, as long as that gains. */
    private static ValueCodes search(double from, double to, Cost cost) {
        ValueCodes best = ValueCodes.of(from, to);
        double least = cost.of(best);
        double[] ends = {from, to};
        for (boolean gained = true; gained;) {
            gained = false;
            for (int end = 0; end < 2; end++) {
                double full = end == 0 ? from : to;
                for (int i = 0; i < STEPS && full != 0; i++) {
                    double[] now = ends.clone();
                    now[end] = full * part(i);
                    ValueCodes codes = ValueCodes.of(now[0], now[1]);
                    double costs = cost.of(codes);
                    if (costs < least) {
                        least = costs;
                        best = codes;
                        ends = now;
                        gained = true;
                    }
                }
            }
        }
        return best;
    }

    private static double part(int step) {
        return 1 - step * (1 - LEAST_PART) / STEPS;
    }

    /** Bins that are not empty, each as an element in its middle. */
    private record Counts(double width, double[] elements, long[] counts, long all) {
        static Counts of(Histogram h, double from, double to) {
            double[] elements = new double[Histogram.BINS];
            long[] counts = new long[Histogram.BINS];
            int n = 0;
            long all = 0;
            for (int i = 0; i < Histogram.BINS; i++) {
                if (h.counts()[i] > 0) {
                    elements[n] = Math.max(from, Math.min(to, (i - ZERO + 0.5) * h.width()));
                    counts[n++] = h.counts()[i];
                    all += h.counts()[i];
                }
            }
            return new Counts(h.width(), Arrays.copyOf(elements, n), Arrays.copyOf(counts, n), all);
        }

        ValueCodes percentile(double part, double from, double to) {
            double out = (1 - part) / 2 * all;
            return ValueCodes.of(Math.max(from, elements[at(out, 0, 1)] - width / 2),
                    Math.min(to, elements[at(out, counts.length - 1, -1)] + width / 2));
        }

        /** The first bin, from one end, with which more than so many elements are passed. */
        private int at(double out, int first, int step) {
            int i = first;
            for (long passed = counts[i]; passed <= out; passed += counts[i]) {
                i += step;
            }
            return i;
        }

        double squaredError(ValueCodes codes) {
            double sum = 0;
            for (int i = 0; i < elements.length; i++) {
                double e = elements[i] - codes.decoded(elements[i]);
                sum += e * e * counts[i];
            }
            return sum;
        }

        /** Of what is left when elements beyond the codes are at the ends, and all bins of one code are alike. */
        double divergence(ValueCodes codes) {
            long[] of = new long[CODES];
            int[] bins = new int[CODES];
            int[] code = new int[elements.length];
            long[] clamped = new long[elements.length];
            int first = elements.length;
            int last = -1;
            for (int i = 0; i < elements.length; i++) {
                boolean inside = elements[i] >= codes.least() && elements[i] <= codes.most();
                if (inside) {
                    first = Math.min(first, i);
                    last = i;
                }
            }
            if (last < 0) {
                return Double.POSITIVE_INFINITY;
            }
            for (int i = 0; i < elements.length; i++) {
                clamped[Math.max(first, Math.min(last, i))] += counts[i];
            }
            long within = 0;
            for (int i = first; i <= last; i++) {
                code[i] = (int) Math.rint((codes.decoded(elements[i]) - codes.least()) / codes.scale());
                of[code[i]] += counts[i];
                bins[code[i]]++;
                within += counts[i];
            }
            double sum = 0;
            for (int i = first; i <= last; i++) {
                double p = (double) clamped[i] / all;
                double q = (double) of[code[i]] / bins[code[i]] / within;
                sum += p * Math.log(p / q);
            }
            return sum;
        }
    }
}
