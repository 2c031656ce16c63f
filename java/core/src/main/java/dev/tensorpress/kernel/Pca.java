package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;

import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/**
 * Principal components of a data matrix X [samples, features] of f32 or f64: the right singular vectors of X less the mean of
 * each feature, by {@link Svd}. The variance along a component is the square of its singular value over samples - 1.
 *
 * <p>X may be a {@link SparseMatrix}, f32 in layout {@link Sparse.Layout#CSR32}. It is never made dense: products with X less the means are products with X,
 * less the products of the means. Where its smaller side has up to 512 samples or features, or 2/5 of all components or more are asked for, they come from the
 * covariance, or from the inner products of samples. What is accurate relative to the largest variance is then so relative to the largest sum of squares, means
 * included: features that lie far from 0 are better centred first.
 *
 * <p>Components are orthonormal and come by falling variance; in the scores of the data itself the entry of largest magnitude
 * of each component is positive. Everything here is f64, whatever X is; variances are accurate to f64 precision
 * relative to the largest, those of a truncated fit to what its certificate says. Results are the same for any number of threads.
 *
 * <p>NaN and infinity are a {@link KernelException} with status {@link KernelException#NONFINITE}, and of sparse data an {@link IllegalArgumentException}
 * that names row and column. A fit takes three times the memory of X in f64; of sparse data 8 bytes per entry, and by products some 24 (samples + features) of
 * them for each component, else three squares of the smaller side and what the components take. It may be used by one thread at a time. Close it when done.
 */
public final class Pca implements AutoCloseable {
    private static final Svd.Options BY_RANK = new Svd.Options(0, 3, 0.02, false);
    /** Products cost little then. */
    private static final Svd.Options SPARSE = new Svd.Options(0, 3, 1e-4, false);

    private final Arena arena;
    private final long features;
    private final long rank;
    private final double[] variance;
    private final double total;
    private final MemorySegment mean;
    private final MemorySegment components;

    /**
     * All min(samples, features) components.
     *
     * @param data at least one sample and one feature
     */
    public static Pca of(View data, long samples, long features, Executor executor) {
        return new Pca(data, samples, features, 0, 1, executor);
    }

    /** The same of sparse data. */
    public static Pca of(SparseMatrix data, Executor executor) {
        return new Pca(data, 0, 1, executor);
    }

    /**
     * The first components, by a truncated decomposition where that is faster: up to 2 % of the remaining standard deviation may
     * be lost to rounding off iterations.
     *
     * @param rank 1 to min(samples, features)
     */
    public static Pca ofRank(View data, long samples, long features, long rank, Executor executor) {
        checkRank(rank, samples, features);
        return new Pca(data, samples, features, rank, 1, executor);
    }

    /** The same of sparse data. */
    public static Pca ofRank(SparseMatrix data, long rank, Executor executor) {
        checkRank(rank, data.rows(), data.cols());
        return new Pca(data, rank, 1, executor);
    }

    private static void checkRank(long rank, long samples, long features) {
        if (rank < 1 || rank > Math.min(samples, features)) {
            throw new IllegalArgumentException("the rank must be in 1 .. " + Math.min(samples, features) + ", but is " + rank);
        }
    }

    /**
     * As few components as explain this part of the variance, at least one.
     *
     * @param share above 0, at most 1
     */
    public static Pca ofVariance(View data, long samples, long features, double share, Executor executor) {
        checkShare(share);
        return new Pca(data, samples, features, 0, share, executor);
    }

    /** The same of sparse data: of all components, from the Gram matrix of the smaller side, of at most 32,768. */
    public static Pca ofVariance(SparseMatrix data, double share, Executor executor) {
        checkShare(share);
        return new Pca(data, 0, share, executor);
    }

    private static void checkShare(double share) {
        if (!(share > 0 && share <= 1)) {
            throw new IllegalArgumentException("the share of the variance must be above 0 and at most 1, but is " + share);
        }
    }

    /** @param wanted components; 0 for as many as explain {@code share} */
    private Pca(View data, long samples, long features, long wanted, double share, Executor executor) {
        if (samples < 1 || features < 1) {
            throw new IllegalArgumentException("no components of " + samples + " samples of " + features + " features");
        }
        arena = executor.arena();
        this.features = features;
        long all = Math.min(samples, features);
        long found = wanted == 0 ? all : wanted;
        try (Arena work = executor.arena(); LinearAlgebra la = new LinearAlgebra(executor); Svd svd = new Svd(executor)) {
            data.check("data", samples, features, Native.host(executor));
            mean = arena.allocate(features * 8, 64);
            MemorySegment centered = work.allocate(Math.multiplyExact(samples * 8, features), 64);
            la.sumOfSquares(data, samples, features); // refuses NaN and infinity
            la.copy(data, samples, features, View.of(centered, features), false, 1, MemorySegment.NULL, MemorySegment.NULL);
            center(centered, samples, executor);
            View x = View.of(centered, features);
            total = la.sumOfSquares(x, samples, features) / Math.max(1, samples - 1);
            MemorySegment u = work.allocate(samples * found * 8, 64);
            MemorySegment s = work.allocate(found * 8, 64);
            MemorySegment vt = work.allocate(found * features * 8, 64);
            if (wanted == 0) {
                svd.full(x, samples, features, u, s, vt);
            } else {
                svd.truncated(x, samples, features, wanted, BY_RANK, u, s, vt);
            }
            double[] variances = variances(s, found, samples);
            rank = wanted == 0 ? enough(variances, total, share) : wanted;
            variance = Arrays.copyOf(variances, Math.toIntExact(rank));
            components = arena.allocate(rank * features * 8, 64).copyFrom(vt.asSlice(0, rank * features * 8));
        } catch (RuntimeException | Error e) {
            arena.close();
            throw e;
        }
    }

    private Pca(SparseMatrix data, long wanted, double share, Executor executor) {
        arena = executor.arena();
        features = data.cols();
        long samples = data.rows();
        try (Arena work = executor.arena(); Svd svd = new Svd(executor)) {
            SparseColumns columns = new SparseColumns(data, work, executor);
            double[] means = SparseOperand.means(columns);
            mean = arena.allocateFrom(JAVA_DOUBLE, means);
            long found = wanted == 0 ? Math.min(samples, features) : wanted;
            MemorySegment s = work.allocate(found * 8, 64);
            MemorySegment vt = work.allocate(Math.multiplyExact(found * 8, features), 64);
            total = svd.centred(columns, means, found, SPARSE, s, vt) / Math.max(1, samples - 1);
            double[] variances = variances(s, found, samples);
            rank = wanted == 0 ? enough(variances, total, share) : wanted;
            variance = Arrays.copyOf(variances, Math.toIntExact(rank));
            components = arena.allocate(rank * features * 8, 64).copyFrom(vt.asSlice(0, rank * features * 8));
        } catch (RuntimeException | Error e) {
            arena.close();
            throw e;
        }
    }

    private static double[] variances(MemorySegment s, long found, long samples) {
        double[] variances = new double[Math.toIntExact(found)];
        for (int i = 0; i < variances.length; i++) {
            double value = s.getAtIndex(JAVA_DOUBLE, i);
            variances[i] = value * value / Math.max(1, samples - 1);
        }
        return variances;
    }

    private static int enough(double[] variances, double total, double share) {
        double sum = 0;
        for (int i = 0; i < variances.length; i++) {
            sum += variances[i];
            if (share < 1 && sum >= share * total) {
                return i + 1;
            }
        }
        return variances.length;
    }

    /** Sums over samples in a fixed order, feature by feature, then the difference. */
    private void center(MemorySegment x, long samples, Executor executor) {
        executor.run(features, 8, 64, (begin, end, worker) -> {
            for (long i = 0; i < samples; i++) {
                for (long j = begin; j < end; j++) {
                    mean.setAtIndex(JAVA_DOUBLE, j,
                            mean.getAtIndex(JAVA_DOUBLE, j) + x.getAtIndex(JAVA_DOUBLE, i * features + j));
                }
            }
            for (long j = begin; j < end; j++) {
                mean.setAtIndex(JAVA_DOUBLE, j, mean.getAtIndex(JAVA_DOUBLE, j) / samples);
            }
            shift(x, samples, begin, end, -1);
        });
    }

    /** Adds the mean {@code times} times. */
    private void shift(MemorySegment x, long rows, long begin, long end, int times) {
        for (long i = 0; i < rows; i++) {
            for (long j = begin; j < end; j++) {
                long at = i * features + j;
                x.setAtIndex(JAVA_DOUBLE, at, x.getAtIndex(JAVA_DOUBLE, at) + times * mean.getAtIndex(JAVA_DOUBLE, j));
            }
        }
    }

    /** Number of components. */
    public long rank() {
        return rank;
    }

    /** Number of features. */
    public long features() {
        return features;
    }

    /** The mean of each feature: f64 [features]. */
    public MemorySegment mean() {
        return mean.asReadOnly();
    }

    /** The components as rows: f64 [rank, features]. */
    public MemorySegment components() {
        return components.asReadOnly();
    }

    /** The variance along each component, over samples - 1; 0 for a single sample. */
    public double[] variance() {
        return variance.clone();
    }

    /** The same as parts of {@link #totalVariance}; 0 if that is 0. */
    public double[] varianceRatio() {
        double[] ratio = variance.clone();
        for (int i = 0; i < ratio.length; i++) {
            ratio[i] = total == 0 ? 0 : ratio[i] / total;
        }
        return ratio;
    }

    /** The sum of the variances of all features. */
    public double totalVariance() {
        return total;
    }

    /**
     * Scores: (X - mean) C<sup>T</sup>.
     *
     * @param data [rows, features], these or other samples
     * @param scores receives f64 [rows, rank]
     */
    public void transform(View data, long rows, MemorySegment scores, Executor executor) {
        data.check("data", rows, features, Native.host(executor));
        Native.result("scores", scores, DType.F64, rows, rank, rank, Native.host(executor));
        if (rows == 0) {
            return;
        }
        try (Arena work = executor.arena(); LinearAlgebra la = new LinearAlgebra(executor)) {
            MemorySegment centered = work.allocate(Math.multiplyExact(rows * 8, features), 64);
            la.sumOfSquares(data, rows, features);
            la.copy(data, rows, features, View.of(centered, features), false, 1, MemorySegment.NULL, MemorySegment.NULL);
            executor.run(features, 8, 64, (begin, end, worker) -> shift(centered, rows, begin, end, -1));
            la.multiply(View.of(centered, features), false, View.of(components, features), true, scores, rows, rank, features);
        }
    }

    /**
     * The same of sparse data.
     *
     * @param data with as many columns as there are features
     * @param scores receives f64 [rows, rank]
     */
    public void transform(SparseMatrix data, MemorySegment scores, Executor executor) {
        if (data.cols() != features) {
            throw new IllegalArgumentException("the data have " + data.cols() + " features, and the components " + features);
        }
        Executor host = Native.host(executor);
        Native.result("scores", scores, DType.F64, data.rows(), rank, rank, host);
        if (data.rows() == 0) {
            return;
        }
        try (Arena work = executor.arena(); LinearAlgebra la = new LinearAlgebra(executor)) {
            MemorySegment turned = work.allocate(Math.multiplyExact(rank * 8, data.rows()), 64);
            new SparseOperand(la, new SparseColumns(data, work, executor), mean.toArray(JAVA_DOUBLE)).forward(View.of(components, features), turned, rank);
            la.copy(View.of(turned, data.rows()), rank, data.rows(), View.of(scores, rank), true, 1, MemorySegment.NULL, MemorySegment.NULL);
        }
    }

    /**
     * What the scores stand for: scores C + mean.
     *
     * @param scores f64 [rows, rank]
     * @param data receives f64 [rows, features]
     */
    public void inverse(MemorySegment scores, long rows, MemorySegment data, Executor executor) {
        Native.operand("scores", scores, DType.F64, rows, rank, rank, Native.host(executor));
        Native.result("data", data, DType.F64, rows, features, features, Native.host(executor));
        if (rows == 0) {
            return;
        }
        try (LinearAlgebra la = new LinearAlgebra(executor)) {
            la.sumOfSquares(View.of(scores, rank), rows, rank);
            la.multiply(View.of(scores, rank), false, View.of(components, features), false, data, rows, features, rank);
            executor.run(features, 8, 64, (begin, end, worker) -> shift(data, rows, begin, end, 1));
        }
    }

    @Override
    public void close() {
        if (arena.scope().isAlive()) {
            arena.close();
        }
    }
}
