package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.IntPredicate;
import java.util.function.IntToDoubleFunction;
import java.util.stream.IntStream;

/**
 * What each feature of data X [samples, features] says by itself, and which features say most: the variance, or a test of how a feature goes
 * with classes or with targets. X is dense, f32 or f64, or a {@link SparseMatrix} of f32 in layout {@link Sparse.Layout#CSR32}, whose zeros count and
 * are never stored.
 *
 * <pre>{@code
 * FeatureScores scores = FeatureScores.anova(data, samples, features, classes, executor);
 * int[] kept = scores.best(100);
 * }</pre>
 *
 * <p><b>Numerics.</b> X is read once. Means and squares around them are added up in f64, sample by sample (Welford 1962; sparse data column by
 * column, around the mean), so that features may lie far from 0; p-values have a relative error of some 1e-13, beside what the rounding of the score
 * makes of them. Results are the same for any number of threads, which share the features. A feature that is constant has the variance 0, to the bit,
 * and the score 0 and the p-value 1 of each test, since it says nothing. A score may be infinite: its p-value is 0.
 *
 * <p>NaN and infinity in X are an {@link IllegalArgumentException} that names row and column; so are numbers whose squares add up to more than f64 holds, which
 * names the column, classes or targets that are not as many as samples, and those of which a test is not defined.
 */
public final class FeatureScores {
    /** Features whose sums are at hand together, */
    private static final int TILE = 512;
    /** and that are worth a thread. */
    private static final int LEAST = 256;

    private final double[] values;
    private final double[] pValues;

    private FeatureScores(double[] values, double[] pValues) {
        this.values = values;
        this.pValues = pValues;
    }

    // ---- scores ----

    /** The variance of each feature, over all samples (not samples - 1); there are no p-values. */
    public static FeatureScores variance(View data, long samples, long features, Executor executor) {
        return variance(new Dense(data, samples, features, executor), executor);
    }

    /** The same of sparse data. */
    public static FeatureScores variance(SparseMatrix data, Executor executor) {
        try (Sparsely sparse = new Sparsely(data, executor)) {
            return variance(sparse, executor);
        }
    }

    /**
     * Analysis of variance: F = (between / (classes - 1)) / (within / (samples - classes)), where between is the sum over classes of their size
     * times the squared distance of their mean to that of all, and within the squares around the means of the classes. Infinite where classes differ and
     * are constant each.
     *
     * @param classes of each sample, any numbers; at least two different ones, and fewer than samples. A class may have one sample
     */
    public static FeatureScores anova(View data, long samples, long features, int[] classes, Executor executor) {
        return anova(new Dense(data, samples, features, executor), classes, executor);
    }

    /** The same of sparse data. */
    public static FeatureScores anova(SparseMatrix data, int[] classes, Executor executor) {
        try (Sparsely sparse = new Sparsely(data, executor)) {
            return anova(sparse, classes, executor);
        }
    }

    /**
     * Chi squared of features that count, or weigh, something: the sum over classes of (o - e)<sup>2</sup> / e, where o is the sum of the feature in the class
     * and e what it would be if the feature's sum were spread over the classes by their sizes. With classes - 1 degrees of freedom.
     *
     * @param data not negative, else an {@link IllegalArgumentException} names row and column
     * @param classes of each sample, any numbers; at least two different ones
     */
    public static FeatureScores chiSquared(View data, long samples, long features, int[] classes, Executor executor) {
        return chiSquared(new Dense(data, samples, features, executor), classes, executor);
    }

    /** The same of sparse data. */
    public static FeatureScores chiSquared(SparseMatrix data, int[] classes, Executor executor) {
        try (Sparsely sparse = new Sparsely(data, executor)) {
            return chiSquared(sparse, classes, executor);
        }
    }

    /**
     * The F test of a linear regression on one feature: r<sup>2</sup> / (1 - r<sup>2</sup>) (samples - 2), where r is the correlation of feature and target;
     * with 1 and samples - 2 degrees of freedom. Infinite where r<sup>2</sup> rounds to 1. All scores are 0 where targets are alike.
     *
     * @param targets of the samples, finite; at least three
     */
    public static FeatureScores regression(View data, long samples, long features, double[] targets, Executor executor) {
        return regression(new Dense(data, samples, features, executor), targets, executor);
    }

    /** The same of sparse data. */
    public static FeatureScores regression(SparseMatrix data, double[] targets, Executor executor) {
        try (Sparsely sparse = new Sparsely(data, executor)) {
            return regression(sparse, targets, executor);
        }
    }

    // ---- selection ----

    /** The score of each feature; never NaN. */
    public double[] values() {
        return values.clone();
    }

    /**
     * How probable a score as large is of a feature that has nothing to do with classes or targets.
     *
     * @throws IllegalStateException if the score is the variance, which is no test
     */
    public double[] pValues() {
        return tested().clone();
    }

    /**
     * The {@code count} features with the largest scores, of equal ones the first; ascending.
     *
     * @param count 0 to the number of features
     */
    public int[] best(int count) {
        if (count < 0 || count > values.length) {
            throw new IllegalArgumentException("from 0 to " + values.length + " features can be selected, not " + count);
        }
        Integer[] order = new Integer[values.length];
        Arrays.setAll(order, j -> j);
        Arrays.sort(order, (a, b) -> Double.compare(values[b], values[a]));
        int[] best = new int[count];
        Arrays.setAll(best, j -> order[j]);
        Arrays.sort(best);
        return best;
    }

    /** Features whose score is above the threshold, which is not NaN; ascending. Those whose variance is above 0 are not constant. */
    public int[] above(double threshold) {
        if (Double.isNaN(threshold)) {
            throw new IllegalArgumentException("the threshold is NaN");
        }
        return where(j -> values[j] > threshold);
    }

    /**
     * Features whose p-value is below {@code alpha}, 0 to 1; ascending.
     *
     * @throws IllegalStateException if the score is no test
     */
    public int[] significant(double alpha) {
        if (!(alpha >= 0 && alpha <= 1)) {
            throw new IllegalArgumentException("alpha must be from 0 to 1, but is " + alpha);
        }
        double[] p = tested();
        return where(j -> p[j] < alpha);
    }

    private double[] tested() {
        if (pValues == null) {
            throw new IllegalStateException("variances have no p-values");
        }
        return pValues;
    }

    private int[] where(IntPredicate taken) {
        return IntStream.range(0, values.length).filter(taken).toArray();
    }

    // ---- what scores are made of ----

    /** Classes as numbers from 0 on, and how many samples each has. */
    private record Groups(int[] of, long[] sizes) {
        static Groups one(long samples) {
            return new Groups(null, new long[] {samples});
        }

        static Groups of(int[] classes, Data data) {
            if (classes.length != data.samples) {
                throw new IllegalArgumentException(classes.length + " classes for " + data.samples + " samples");
            }
            int[] names = Arrays.stream(classes).distinct().sorted().toArray();
            if (names.length < 2) {
                throw new IllegalArgumentException("all samples are of class " + names[0] + "; a test needs two");
            }
            long[] sizes = new long[names.length];
            int[] of = new int[classes.length];
            for (int i = 0; i < of.length; i++) {
                of[i] = Arrays.binarySearch(names, classes[i]);
                sizes[of[i]]++;
            }
            return new Groups(of, sizes);
        }

        int of(int sample) {
            return of == null ? 0 : of[sample];
        }
    }

    /** Of some features, from number {@code first} on. */
    private static final class Sums {
        final int first;
        /** By class and feature: the mean. */
        final double[][] mean;
        /** Squares around the mean of the class. */
        final double[] squares;
        /** Products with centred targets; 0 where none are asked for. */
        final double[] products;
        /** What is least, or 0; null where negative elements are as good as others. */
        final double[] least;

        Sums(int first, int count, int groups, boolean negative) {
            this.first = first;
            mean = new double[groups][count];
            squares = new double[count];
            products = new double[count];
            least = negative ? null : new double[count];
        }
    }

    @FunctionalInterface
    private interface Use {
        void of(Sums sums);
    }

    private abstract static class Data {
        final int samples;
        final int features;

        Data(long samples, long features) {
            if (samples < 1 || features < 1 || samples > Integer.MAX_VALUE - 8 || features > Integer.MAX_VALUE - 8) {
                throw new IllegalArgumentException("no scores of " + samples + " samples of " + features + " features");
            }
            this.samples = (int) samples;
            this.features = (int) features;
        }

        /** @param targets whose mean is about 0, or null */
        abstract void add(Sums sums, int count, Groups groups, double[] targets);

        /** The first element in the order of rows for which this holds, in words; null if there is none. */
        abstract String find(Kind kind);

        /**
         * Adds up all features, and hands them over in parts.
         *
         * @param negative whether there may be negative elements
         */
        final void moments(Groups groups, double[] targets, boolean negative, Executor executor, Use use) {
            AtomicBoolean wrong = new AtomicBoolean();
            int[] overflown = {Integer.MAX_VALUE};
            executor.run(features, 8, LEAST, (begin, end, worker) -> {
                for (int first = (int) begin; first < end && !wrong.get(); first += TILE) {
                    int count = (int) Math.min(TILE, end - first);
                    Sums sums = new Sums(first, count, groups.sizes.length, negative);
                    add(sums, count, groups, targets);
                    for (int j = 0; j < count; j++) {
                        double sum = sums.squares[j] + sums.products[j];
                        for (double[] mean : sums.mean) {
                            sum += mean[j];
                        }
                        if (sums.least != null && sums.least[j] < 0) {
                            wrong.set(true);
                        }
                        if (!Double.isFinite(sum)) {
                            wrong.set(true);
                            synchronized (overflown) {
                                overflown[0] = Math.min(overflown[0], first + j);
                            }
                        }
                    }
                    use.of(sums);
                }
            });
            if (wrong.get()) {
                String element = find(Kind.NOT_FINITE);
                String below = negative ? null : find(Kind.NEGATIVE);
                throw new IllegalArgumentException(element != null ? element : below != null ? below + "; chi squared is of features that are not negative"
                        : "column " + overflown[0] + " of the data holds numbers whose squares add up to more than f64 holds");
            }
        }
    }

    private enum Kind {
        NOT_FINITE, NEGATIVE;

        boolean is(double x) {
            return this == NEGATIVE ? x < 0 : !Double.isFinite(x);
        }
    }

    private static final class Dense extends Data {
        private final View view;

        Dense(View data, long samples, long features, Executor executor) {
            super(samples, features);
            data.check("data", samples, features, Native.host(executor));
            view = data;
        }

        /** Of one sample. */
        private void load(long sample, int first, int count, float[] narrow, double[] x) {
            long at = sample * view.stride() + first;
            if (view.type() == DType.F64) {
                MemorySegment.copy(view.data(), JAVA_DOUBLE, at * Double.BYTES, x, 0, count);
                return;
            }
            MemorySegment.copy(view.data(), JAVA_FLOAT, at * Float.BYTES, narrow, 0, count);
            for (int j = 0; j < count; j++) {
                x[j] = narrow[j];
            }
        }

        @Override
        void add(Sums sums, int count, Groups groups, double[] targets) {
            float[] narrow = new float[count];
            double[] x = new double[count];
            double[] start = new double[count];
            long[] seen = new long[groups.sizes.length];
            for (int i = 0; i < samples; i++) {
                load(i, sums.first, count, narrow, x);
                int group = groups.of(i);
                welford(x, sums.mean[group], sums.squares, 1.0 / ++seen[group], count);
                if (sums.least != null) {
                    least(x, sums.least, count);
                }
                if (targets != null) {
                    if (i == 0) {
                        System.arraycopy(x, 0, start, 0, count);
                    }
                    products(x, start, sums.products, targets[i], count);
                }
            }
            if (targets != null) {
                double left = Arrays.stream(targets).sum();
                for (int j = 0; j < count; j++) {
                    sums.products[j] -= (sums.mean[0][j] - start[j]) * left;
                }
            }
        }

        private static void welford(double[] x, double[] mean, double[] squares, double part, int count) {
            for (int j = 0; j < count; j++) {
                double away = x[j] - mean[j];
                double moved = mean[j] + away * part;
                squares[j] += away * (x[j] - moved);
                mean[j] = moved;
            }
        }

        private static void least(double[] x, double[] least, int count) {
            for (int j = 0; j < count; j++) {
                least[j] = Math.min(least[j], x[j]);
            }
        }

        private static void products(double[] x, double[] start, double[] products, double target, int count) {
            for (int j = 0; j < count; j++) {
                products[j] += (x[j] - start[j]) * target;
            }
        }

        @Override
        String find(Kind kind) {
            float[] narrow = new float[features];
            double[] x = new double[features];
            for (int i = 0; i < samples; i++) {
                load(i, 0, features, narrow, x);
                for (int j = 0; j < features; j++) {
                    if (kind.is(x[j])) {
                        return "row " + i + ", column " + j + " of the data is " + x[j];
                    }
                }
            }
            return null;
        }
    }

    private static final class Sparsely extends Data implements AutoCloseable {
        private final Arena arena;
        private final SparseColumns columns;

        Sparsely(SparseMatrix matrix, Executor executor) {
            super(matrix.rows(), matrix.cols());
            arena = executor.arena();
            try {
                columns = new SparseColumns(matrix, arena, executor);
            } catch (RuntimeException | Error e) {
                arena.close();
                throw e;
            }
        }

        @Override
        void add(Sums sums, int count, Groups groups, double[] targets) {
            int n = groups.sizes.length;
            double[] start = new double[n];
            double[] mean = new double[n];
            long[] stored = new long[n];
            double left = targets == null ? 0 : Arrays.stream(targets).sum();
            for (int j = 0; j < count; j++) {
                long begin = columns.starts[sums.first + j];
                long end = columns.starts[sums.first + j + 1];
                Arrays.fill(stored, 0);
                Arrays.fill(mean, 0);
                double product = 0;
                double least = 0;
                for (long p = begin; p < end; p++) {
                    int row = columns.rows.getAtIndex(JAVA_INT, p);
                    int group = groups.of(row);
                    double x = columns.values.getAtIndex(JAVA_FLOAT, p);
                    // From the first entry on, so that a class without zeros that is constant has this mean to the bit.
                    start[group] = stored[group]++ == 0 ? x : start[group];
                    mean[group] += x - start[group];
                    product += targets == null ? 0 : x * targets[row];
                    least = Math.min(least, x);
                }
                double squares = 0;
                for (int g = 0; g < n; g++) {
                    long zeros = groups.sizes[g] - stored[g];
                    mean[g] = stored[g] == 0 ? 0 : start[g] + (mean[g] - zeros * start[g]) / groups.sizes[g];
                    squares += zeros * mean[g] * mean[g];
                    sums.mean[g][j] = mean[g];
                }
                for (long p = begin; p < end; p++) {
                    double away = columns.values.getAtIndex(JAVA_FLOAT, p) - mean[groups.of(columns.rows.getAtIndex(JAVA_INT, p))];
                    squares += away * away;
                }
                sums.squares[j] = squares;
                if (sums.least != null) {
                    sums.least[j] = least;
                }
                if (targets != null) {
                    sums.products[j] = product - mean[0] * left;
                }
            }
        }

        @Override
        String find(Kind kind) {
            for (long i = 0; i < samples; i++) {
                for (long p = columns.first(i); p < columns.first(i + 1); p++) {
                    float x = columns.matrix.values().getAtIndex(JAVA_FLOAT, p);
                    if (kind.is(x)) {
                        return "row " + i + ", column " + columns.matrix.indices().getAtIndex(JAVA_INT, p) + " of the data is " + x;
                    }
                }
            }
            return null;
        }

        @Override
        public void close() {
            arena.close();
        }
    }

    private static FeatureScores variance(Data data, Executor executor) {
        double[] values = new double[data.features];
        data.moments(Groups.one(data.samples), null, true, executor, sums -> {
            for (int j = 0; j < sums.squares.length; j++) {
                values[sums.first + j] = sums.squares[j] / data.samples;
            }
        });
        return new FeatureScores(values, null);
    }

    private static FeatureScores anova(Data data, int[] classes, Executor executor) {
        Groups groups = Groups.of(classes, data);
        int n = groups.sizes.length;
        if (n == data.samples) {
            throw new IllegalArgumentException("each of the " + n + " samples is of another class; there is no variance within them");
        }
        double[] values = new double[data.features];
        data.moments(groups, null, true, executor, sums -> {
            for (int j = 0; j < sums.squares.length; j++) {
                double mean = fromFirst(groups, sums, j);
                double between = 0;
                for (int g = 0; g < n; g++) {
                    double away = sums.mean[g][j] - sums.mean[0][j] - mean;
                    between += groups.sizes[g] * away * away;
                }
                double within = sums.squares[j] / (data.samples - n);
                values[sums.first + j] = between == 0 ? 0 : between / (n - 1) / within;
            }
        });
        return tested(values, executor, j -> TailProbability.f(n - 1, data.samples - n, values[j]));
    }

    /** The mean of all samples less that of the first class: 0 to the bit where the means of all classes are alike. */
    private static double fromFirst(Groups groups, Sums sums, int j) {
        double sum = 0;
        double samples = groups.sizes[0];
        for (int g = 1; g < groups.sizes.length; g++) {
            sum += groups.sizes[g] * (sums.mean[g][j] - sums.mean[0][j]);
            samples += groups.sizes[g];
        }
        return sum / samples;
    }

    private static FeatureScores chiSquared(Data data, int[] classes, Executor executor) {
        Groups groups = Groups.of(classes, data);
        int n = groups.sizes.length;
        double[] values = new double[data.features];
        data.moments(groups, null, false, executor, sums -> {
            for (int j = 0; j < sums.squares.length; j++) {
                double mean = fromFirst(groups, sums, j);
                double sum = 0;
                for (int g = 0; g < n; g++) {
                    double away = sums.mean[g][j] - sums.mean[0][j] - mean;
                    sum += groups.sizes[g] * away * away;
                }
                values[sums.first + j] = sum == 0 ? 0 : sum / (sums.mean[0][j] + mean);
            }
        });
        return tested(values, executor, j -> TailProbability.chiSquared(n - 1, values[j]));
    }

    private static FeatureScores regression(Data data, double[] targets, Executor executor) {
        int n = data.samples;
        if (targets.length != n) {
            throw new IllegalArgumentException(targets.length + " targets for " + n + " samples");
        }
        if (n < 3) {
            throw new IllegalArgumentException("a regression of " + n + " samples says nothing; it takes three");
        }
        double mean = 0;
        for (int i = 0; i < n; i++) {
            if (!Double.isFinite(targets[i])) {
                throw new IllegalArgumentException("target " + i + " is " + targets[i]);
            }
            mean += (targets[i] - targets[0]) / n;
        }
        double[] centred = new double[n];
        double squares = 0;
        for (int i = 0; i < n; i++) {
            centred[i] = targets[i] - targets[0] - mean;
            squares += centred[i] * centred[i];
        }
        if (!Double.isFinite(squares)) {
            throw new IllegalArgumentException("the squares of the targets add up to more than f64 holds");
        }
        double all = squares;
        double[] values = new double[data.features];
        data.moments(Groups.one(n), centred, true, executor, sums -> {
            for (int j = 0; j < sums.squares.length; j++) {
                if (sums.squares[j] > 0 && all > 0) {
                    double r = sums.products[j] / Math.sqrt(sums.squares[j]) / Math.sqrt(all);
                    double square = Math.min(1, r * r);
                    values[sums.first + j] = square / (1 - square) * (n - 2);
                }
            }
        });
        return tested(values, executor, j -> TailProbability.f(1, n - 2, values[j]));
    }

    private static FeatureScores tested(double[] values, Executor executor, IntToDoubleFunction p) {
        double[] all = new double[values.length];
        executor.run(values.length, 1, LEAST, (begin, end, worker) -> {
            for (int j = (int) begin; j < end; j++) {
                all[j] = p.applyAsDouble(j);
            }
        });
        return new FeatureScores(values, all);
    }
}
