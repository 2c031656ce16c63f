package dev.tensorpress.kernel;

import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.function.Supplier;

/**
 * Singular value decompositions A = U diag(s) V<sup>T</sup> of f32 and f64 matrices, off-heap and row-major: full, truncated
 * by rank or by error, and of many small matrices. The kernels and their numerics are in {@code tensorpress/svd.h}.
 *
 * <p>Singular values descend; in each left vector the entry of largest magnitude, the first among equals, is positive. Any
 * finite matrix will do: rank-deficient, zero, graded, as small or large as its type holds. NaN and infinity are a {@link
 * KernelException} with status {@link KernelException#NONFINITE}; an iteration that does not end within its limit is one with
 * status {@link KernelException#CONVERGENCE}. Wrong sizes are {@link IllegalArgumentException}s.
 *
 * <p><b>Full.</b> Everything is f64 inside. The result has ||A - U S V<sup>T</sup>|| within a modest multiple of the type's
 * precision times ||A||. If the columns of A (rows, if A is wide) differ in norm by more than 1e4, A is decomposed by QR and
 * one-sided Jacobi, and all singular values have the relative accuracy that the columns' scales allow: for A = B D, D
 * diagonal, columns of B of norm 1, some multiple of B's condition times the precision of f64. Columns are sorted by norm;
 * pivoting would not lower this bound. Scales of the rows alone (columns, if A is wide) give no relative accuracy. Otherwise
 * one-sided Jacobi starts from the eigenvectors of A<sup>T</sup>A, and singular values are accurate to f64 precision relative
 * to the largest (f32: values below 1e-10 of the largest get completions as vectors).
 *
 * <p><b>Truncated.</b> Block Krylov iteration from a Gaussian sketch (Halko, Martinsson and Tropp 2011; Musco and Musco 2015;
 * Yu, Gu and Li 2018): the given seed determines the result. A certificate says how good it is. For a large F32 matrix and a
 * given rank the iteration uses A rounded to int8, whose products are exact and several times as fast. That only steers: if
 * rounding loses more than a quarter of the error that is found, all is done again with A itself. The right vectors come from
 * products with A itself, unless rounding adds little to the error, at most 0.5 % of it by estimate; then only the
 * leading 16 do, and the other singular values carry a relative error of some 1e-4.
 *
 * <p>Results are the same for any number of threads. Memory is kept for the next decomposition, so one object should serve
 * many; one thread at a time may use it. Close it when done.
 */
public final class Svd implements AutoCloseable {
    /** Sides of matrices that one kernel call decomposes. */
    public static final int SMALL = 64;

    private final Executor executor;
    private final LinearAlgebra la;
    private final Jacobi jacobi;
    private final FullSvd full;
    private final TruncatedSvd truncated;
    private final Certifier certifier;
    private Times times = new Times(0, 0);
    private final OneThread oneThread = new OneThread("this decomposition");

    /** @param executor must outlive this object */
    public Svd(Executor executor) {
        this.executor = Native.host(executor);
        la = new LinearAlgebra(executor);
        jacobi = new Jacobi(la);
        Triplets triplets = new Triplets(la);
        full = new FullSvd(la, jacobi, triplets);
        certifier = new Certifier(la);
        truncated = new TruncatedSvd(la, jacobi, triplets, full, certifier);
    }

    @Override
    public void close() {
        try (OneThread _ = oneThread.enter()) {
            truncated.close();
            la.close();
        }
    }

    /** For tests: the limit of sweeps of one-sided Jacobi. */
    void limitSweeps(int limit) {
        jacobi.limit = limit;
    }

    /**
     * How good a decomposition is, measured on its results.
     *
     * @param rank number of singular values
     * @param norm ||A||<sub>F</sub>
     * @param error ||A - U S V<sup>T</sup>||<sub>F</sub>: differences of all entries, squared and added up in f64. Products are
     *     f64, but f32 for large F32 matrices, which moves an error by some 1e-7 ||A||, unless it is below 1e-3 ||A||
     * @param bound no matrix of this rank has a smaller error: the root of ||A||<sub>F</sub><sup>2</sup> less the largest
     *     squared singular values that A can have (Ky Fan). Where A was decomposed in full that is the best error itself.
     *     Otherwise those values are bounded by what random vectors measure ({@code Moments}): of A for flat spectra, and for those
     *     that decay of what the decomposition left, and of how that couples with what it found. The bound holds but for a chance of
     *     1e-6 of the numbers drawn, whatever the matrix, and up to rounding in A's type. It is within some percent of the best
     *     error for flat spectra; for decaying ones docs/numerics.md has figures. It is 0, which says nothing, where a
     *     decomposition is far from the best one, and for one that {@link #certify} was given
     * @param optimum an estimate of the best error for this rank, from how the error fell while the space that was searched
     *     grew: no bound. It knows nothing of singular values that coincide more often than a quarter of the rank, of which
     *     only that many were found. The best error itself where A was decomposed in full; NaN where there is no estimate
     * @param left ||U<sup>T</sup>U - I||<sub>F</sub>
     * @param right ||V<sup>T</sup>V - I||<sub>F</sub>
     */
    public record Certificate(long rank, double norm, double error, double bound, double optimum, double left, double right) {
        /** The error relative to the norm of the matrix; 0 for a zero matrix. */
        public double relativeError() {
            return norm == 0 ? 0 : error / norm;
        }
    }

    /**
     * Where the time of a decomposition went, in nanoseconds.
     *
     * @param total from call to return, certificate included
     * @param products the part of it in which the caller's thread was in a product of dense matrices ({@code tp_multiply},
     *     {@code tp_gemm} and its packing) or waited for the other threads' share of one. Where each thread has products of its
     *     own, only those of the caller's thread count. Products inside other kernels, as of {@code tp_jacobi_pairs}, do not
     */
    public record Times(long total, long products) {
        /** Products' share of the total. */
        public double share() {
            return total == 0 ? 0 : (double) products / total;
        }
    }

    /**
     * Of the last decomposition by {@link #full}, {@link #truncated} or {@link #truncatedByError} that gave a result; zeros before
     * the first.
     */
    public Times times() {
        return times;
    }

    private <T> T timed(Supplier<T> work) {
        try (OneThread _ = oneThread.enter()) {
            long start = System.nanoTime();
            long products = la.productTime();
            T result = work.get();
            times = new Times(System.nanoTime() - start, la.productTime() - products);
            return result;
        }
    }

    // ---- full ----

    /**
     * The full decomposition, r = min(rows, cols).
     *
     * @param a [rows, cols]
     * @param u [rows, r], without gaps and of A's type, as are s [r] and vt [r, cols]
     */
    public void full(View a, long rows, long cols, MemorySegment u, MemorySegment s, MemorySegment vt) {
        checkInput(a, rows, cols);
        long r = Math.min(rows, cols);
        Native.result("u", u, a.type(), rows, r, r, executor);
        Native.result("s", s, a.type(), 1, r, r, executor);
        Native.result("vt", vt, a.type(), r, cols, cols, executor);
        if (r == 0) {
            return;
        }
        timed(() -> {
            full.decompose(a, rows, cols, u, s, vt);
            return null;
        });
    }

    // ---- many small matrices ----

    /**
     * Decompositions of {@code count} matrices with sides of at most {@link #SMALL}, {@code step} elements apart.
     *
     * @param u [count, rows, r] without gaps, r = min(rows, cols), as are s [count, r] and vt [count, r, cols]; A's type
     */
    public void batch(View a, long count, long step, long rows, long cols, MemorySegment u, MemorySegment s,
            MemorySegment vt) {
        if (count < 0 || step < 0 || rows < 0 || cols < 0 || rows > SMALL || cols > SMALL) {
            throw new IllegalArgumentException("no batch of " + count + " matrices of " + rows + " x " + cols);
        }
        if (count == 0 || rows == 0 || cols == 0) {
            return;
        }
        long r = Math.min(rows, cols);
        a.check("a", rows, cols, executor);
        // Of the elements after the first matrix, each further one begins `step` later.
        long after = a.data().byteSize() / a.type().bytes(1) - ((rows - 1) * a.stride() + cols);
        if (step > 0 && after / step < count - 1) {
            throw new IllegalArgumentException("the matrices need more than " + a.data().byteSize() + " bytes");
        }
        Native.result("u", u, a.type(), count * rows, r, r, executor);
        Native.result("s", s, a.type(), count, r, r, executor);
        Native.result("vt", vt, a.type(), count * r, cols, cols, executor);
        try (OneThread _ = oneThread.enter()) {
            full.small(a, count, step, rows, cols, u, s, vt);
        }
    }

    // ---- truncated ----

    /**
     * How the truncated decomposition proceeds.
     *
     * @param seed of the Gaussian sketch
     * @param iterations of a block as wide as the rank, 0 .. 3, that the work may at most be worth: blocks are a quarter as wide,
     *     and the space searched grows to 1 + iterations / 2 times the rank. By error it grows as far as the error asks for
     * @param tolerance for a fixed rank: iterations end when the error is predicted to exceed the best one by no more than this share
     *     (from how it fell so far: an estimate, no bound); 0 for all iterations, and for a result from products with A itself,
     *     where otherwise those with A rounded may do (docs/numerics.md)
     * @param certify whether to measure the result, which costs about as much as one product with A; and to bound the best error,
     *     which costs about as much again. Without it the error in
     *     the certificate is the one known from norms, which resolve some 1e-3 of ||A|| in F32 and 1e-7 in F64, and
     *     bound and orthogonality are NaN
     */
    public record Options(long seed, int iterations, double tolerance, boolean certify) {
        /** Seed 0, at most 3 iterations, 1.5 %, measured. */
        public static final Options DEFAULT = new Options(0, 3, 0.015, true);

        public Options {
            if (iterations < 0 || iterations > 3 || !(tolerance >= 0)) {
                throw new IllegalArgumentException("no such options: " + iterations + " iterations, tolerance " + tolerance);
            }
        }
    }

    /**
     * The best rank that can be had for this much, approximately: A ~ U diag(s) V<sup>T</sup> with {@code rank} columns. On a device A is
     * searched there, in as many iterations as are allowed, of a quarter more vectors than the rank; the certificate has no optimum then.
     *
     * @param rank 1 .. min(rows, cols)
     * @param u [rows, rank], without gaps and of A's type, as are s [rank] and vt [rank, cols]
     */
    public Certificate truncated(View a, long rows, long cols, long rank, Options options, MemorySegment u, MemorySegment s,
            MemorySegment vt) {
        checkInput(a, rows, cols);
        if (rank < 1 || rank > Math.min(rows, cols)) {
            throw new IllegalArgumentException("the rank must be in 1 .. " + Math.min(rows, cols) + ", but is " + rank);
        }
        Native.result("u", u, a.type(), rows, rank, rank, executor);
        Native.result("s", s, a.type(), 1, rank, rank, executor);
        Native.result("vt", vt, a.type(), rank, cols, cols, executor);
        return timed(() -> truncated.decompose(a, rows, cols, rank, 0, options, u, s, vt));
    }

    /**
     * The same of a sparse matrix, f32 in layout {@link Sparse.Layout#CSR32}, which is never made dense: by its products, or if its smaller side has up
     * to 512 rows or columns, or the rank is 2/5 of it or more, from its Gram matrix. Everything is f64. Nothing is measured, whatever the options say: the certificate has the error
     * from norms, and where there is one the estimate of the best.
     *
     * @param rank 1 .. min(rows, cols)
     * @param u f64 [rows, rank], without gaps, as are s [rank] and vt [rank, cols]
     * @throws IllegalArgumentException also if an entry is not finite, with its row and column
     */
    public Certificate truncated(SparseMatrix a, long rank, Options options, MemorySegment u, MemorySegment s, MemorySegment vt) {
        if (rank < 1 || rank > Math.min(a.rows(), a.cols())) {
            throw new IllegalArgumentException("the rank must be in 1 .. " + Math.min(a.rows(), a.cols()) + ", but is " + rank);
        }
        Native.result("u", u, DType.F64, a.rows(), rank, rank, executor);
        Native.result("s", s, DType.F64, 1, rank, rank, executor);
        Native.result("vt", vt, DType.F64, rank, a.cols(), a.cols(), executor);
        try (Arena arena = executor.arena()) {
            SparseOperand operand = new SparseOperand(la, new SparseColumns(a, arena, executor), null);
            return timed(() -> truncated.decompose(operand, operand.squares(), rank, options, u, s, vt));
        }
    }

    /**
     * Singular values and right vectors of a sparse matrix less the means of its columns.
     *
     * @return the sum of all its squares
     */
    double centred(SparseColumns a, double[] means, long rank, Options options, MemorySegment s, MemorySegment vt) {
        SparseOperand operand = new SparseOperand(la, a, means);
        double squares = operand.squares();
        timed(() -> {
            truncated.right(operand, squares, rank, options, s, vt);
            return null;
        });
        return squares;
    }

    /**
     * The smallest rank found, at most {@code limit}, for which ||A - U S V<sup>T</sup>||<sub>F</sub> is at most {@code error} times
     * ||A||<sub>F</sub>; the certificate has the rank, which is 0 for a zero matrix. If the limit does not suffice the result
     * is the one of rank {@code limit}, and its error is larger.
     *
     * @param u room for [rows, limit]; the result is [rows, rank] without gaps, and likewise s and vt
     * @param error in 0 .. 1. What the type cannot resolve (1e-5 for F32, 1e-12 for F64) takes the full decomposition
     */
    public Certificate truncatedByError(View a, long rows, long cols, double error, long limit, Options options,
            MemorySegment u, MemorySegment s, MemorySegment vt) {
        checkInput(a, rows, cols);
        if (!(error >= 0 && error <= 1)) {
            throw new IllegalArgumentException("the error must be in 0 .. 1, but is " + error);
        }
        if (limit < 0 || limit > Math.min(rows, cols)) {
            throw new IllegalArgumentException("the limit must be in 0 .. " + Math.min(rows, cols) + ", but is " + limit);
        }
        Native.result("u", u, a.type(), rows, limit, limit, executor);
        Native.result("s", s, a.type(), 1, limit, limit, executor);
        Native.result("vt", vt, a.type(), limit, cols, cols, executor);
        return timed(() -> truncated.decompose(a, rows, cols, limit, error, options, u, s, vt));
    }

    // ---- certificate ----

    /**
     * Measures a decomposition of given rank, U [rows, rank], s [rank], Vt [rank, cols], of A's type, whatever it came from: the
     * bound is 0.
     */
    public Certificate certify(View a, long rows, long cols, long rank, MemorySegment u, MemorySegment s, MemorySegment vt) {
        checkInput(a, rows, cols);
        if (rank < 0 || rank > Math.min(rows, cols)) {
            throw new IllegalArgumentException("the rank must be in 0 .. " + Math.min(rows, cols) + ", but is " + rank);
        }
        DType type = a.type();
        Native.operand("u", u, type, rows, rank, rank, executor);
        Native.operand("s", s, type, 1, rank, rank, executor);
        Native.operand("vt", vt, type, rank, cols, cols, executor);
        try (OneThread _ = oneThread.enter()) {
            int exponent = la.exponent(a, rows, cols);
            return certifier.certify(a, rows, cols, rank, u, s, vt, exponent, Math.sqrt(LinearAlgebra.sum(la.buffer("sums", rows), rows)));
        }
    }

    // ---- checks ----

    private void checkInput(View a, long rows, long cols) {
        a.check("a", rows, cols, executor);
        if (Math.min(rows, cols) > 1 << 15) {
            throw new IllegalArgumentException("the smaller side may be at most 32768, but is " + Math.min(rows, cols));
        }
    }
}
