package dev.tensorpress.benchmarks;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Svd;

/** What is timed of singular value decompositions, and what they are made of: f32 unless said, of square matrices. */
public enum SvdCase {
    /** All singular values and vectors of a Gaussian matrix. */
    FULL((n, rank, executor) -> new SvdWork.Decomposition(false, n, n, null, executor)),
    /** Of a rank, of a Gaussian matrix, whose spectrum is flat, with the measured certificate. */
    FLAT((n, rank, executor) -> new SvdWork.Decomposition(false, n, rank, Svd.Options.DEFAULT, executor)),
    FLAT_NOT_MEASURED((n, rank, executor) -> new SvdWork.Decomposition(false, n, rank, notMeasured(), executor)),
    /** Of a rank, of a matrix with singular values 1 / i. */
    DECAYING((n, rank, executor) -> new SvdWork.Decomposition(true, n, rank, Svd.Options.DEFAULT, executor)),
    DECAYING_NOT_MEASURED((n, rank, executor) -> new SvdWork.Decomposition(true, n, rank, notMeasured(), executor)),
    /** Of as many matrices of 64 x 64 as there are in one of the size. */
    BATCH((n, rank, executor) -> new SvdWork.Batch(n, executor)),
    /** As many rows as the rank, in f64: CholeskyQR2 in place of a copy. */
    ORTHONORMALIZE(SvdWork.Orthonormal::new),
    /** A A^T in f64 of as many rows of A as the rank. */
    GRAM(SvdWork.Gram::new);

    private final Maker maker;

    @FunctionalInterface
    private interface Maker {
        SvdWork make(int n, int rank, Executor executor);
    }

    SvdCase(Maker maker) {
        this.maker = maker;
    }

    private static Svd.Options notMeasured() {
        Svd.Options d = Svd.Options.DEFAULT;
        return new Svd.Options(d.seed(), d.iterations(), d.tolerance(), false);
    }

    /**
     * Allocates, runs once and checks the result.
     *
     * @param n rows and columns
     * @param rank at most n; where it is of no use it is not looked at
     * @param executor must outlive the work
     * @throws IllegalStateException if the result is wrong
     */
    SvdWork prepare(int n, int rank, Executor executor) {
        SvdWork work = maker.make(n, rank, executor);
        try {
            work.run();
            work.check();
        } catch (RuntimeException | Error e) {
            work.close();
            throw e;
        }
        return work;
    }
}
