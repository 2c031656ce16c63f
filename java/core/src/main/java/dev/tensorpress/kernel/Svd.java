package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_jacobi;
import dev.tensorpress.bindings.tp_small;
import dev.tensorpress.kernel.LinearAlgebra.Product;
import dev.tensorpress.kernel.LinearAlgebra.Reflections;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
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

    private static final int SWEEPS = 40;
    private static final double GRADED = 1e8; // squared ratio of column norms
    private static final double SMALLER = 1e-8; // squared ratio of singular values

    /** Chance that one of the inequalities behind a bound does not hold, as the logarithm; there are 2 DEPTH of them. */
    private static final double CHANCE = Math.log(1e-7);
    /** Gaussian vectors behind a bound, and how often A^T A is applied to them. */
    private static final int PROBES = 32;
    private static final int DEPTH = 4;
    /** Limit for orthogonalising a block against the others. */
    private static final int PASSES = 8;
    /** A is rounded finely enough to lead to a result whose error is at least 1 / COARSE of what rounding loses. */
    private static final double COARSE = 0.25;
    /** Residuals below this share of ||A|| are measured in f64: those in f32 are accurate to 1e-7 ||A||, about. */
    private static final double SINGLE = 1e-3;
    /** Multiplications from which that is worth it. */
    private static final long LARGE = 1 << 24;
    /** And so finely that products with it may stand in the result: a share of the error, to be added in squares. */
    private static final double FINE = 0.1;
    /** Singular vectors whose products are then taken with A itself all the same. */
    private static final int LEADING = 16;

    private final Workers workers;
    private final LinearAlgebra la;
    private final MemorySegment jacobi;
    private int sweepLimit = SWEEPS;
    private Times times = new Times(0, 0);
    private Rounded held;
    private final OneThread oneThread = new OneThread("this decomposition");

    /** @param workers must outlive this object */
    public Svd(Workers workers) {
        this.workers = workers;
        la = new LinearAlgebra(workers);
        jacobi = tp_jacobi.allocate(la.arena);
    }

    @Override
    public void close() {
        try (OneThread _ = oneThread.enter()) {
            if (held != null) {
                held.close();
            }
            la.close();
        }
    }

    /** For tests: the limit of sweeps of one-sided Jacobi. */
    void limitSweeps(int limit) {
        sweepLimit = limit;
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
     *     Otherwise those values are bounded by moments of A<sup>T</sup>A ({@code Moments}): the bound holds but for a chance of
     *     1e-6 of the numbers drawn, whatever the matrix, and up to rounding in A's type. It is within some percent of the best
     *     error for flat spectra. For those that decay fast it is 0, which says nothing; {@code optimum} does
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
        need("u", u, a.type(), rows, r);
        need("s", s, a.type(), 1, r);
        need("vt", vt, a.type(), r, cols);
        if (r == 0) {
            return;
        }
        timed(() -> {
            if (Math.max(rows, cols) <= SMALL) {
                small(a, 1, 0, rows, cols, u, s, vt);
            } else {
                decompose(a, rows, cols, exponent(a, rows, cols), r, u, s, vt);
            }
            return null;
        });
    }

    /** The power of two that brings the largest magnitude to 1 .. 2, negated: multiply by 2^-exponent. */
    private int exponent(View a, long rows, long cols) {
        MemorySegment largest = la.buffer("largest", rows);
        la.rowNorms(a, rows, cols, la.buffer("sums", rows), largest);
        double most = 0;
        for (long i = 0; i < rows; i++) {
            most = Math.max(most, largest.getAtIndex(JAVA_DOUBLE, i));
        }
        return most == 0 ? 0 : Math.getExponent(most);
    }

    private static double sum(MemorySegment x, long n) {
        double sum = 0;
        for (long i = 0; i < n; i++) {
            sum += x.getAtIndex(JAVA_DOUBLE, i);
        }
        return sum;
    }

    private void decompose(View a, long rows, long cols, int exponent, long keep, MemorySegment u, MemorySegment s,
            MemorySegment vt) {
        boolean tall = rows >= cols;
        long n = Math.min(rows, cols);
        long m = Math.max(rows, cols);
        View x = a;
        double factor = Math.scalb(1.0, -exponent);
        if (a.type() == DType.F64 && Math.abs(exponent) > 300) {
            // Squares of the entries would leave the range. In two steps, since the factor may leave it too.
            View scaled = View.of(la.buffer("scaled", rows * cols), cols);
            la.copy(a, rows, cols, scaled, false, Math.scalb(1.0, -exponent / 2), MemorySegment.NULL, MemorySegment.NULL);
            la.copy(scaled, rows, cols, scaled, false, Math.scalb(1.0, -(exponent - exponent / 2)), MemorySegment.NULL,
                    MemorySegment.NULL);
            x = scaled;
            factor = 1;
        }
        MemorySegment g = la.buffer("gram", n * n);
        la.gram(x, tall, n, m, factor * factor, g);
        double least = Double.MAX_VALUE;
        double most = 0;
        for (long i = 0; i < n; i++) {
            double norm = g.getAtIndex(JAVA_DOUBLE, i * n + i);
            most = Math.max(most, norm);
            least = norm > 0 ? Math.min(least, norm) : least;
        }
        boolean graded = most > GRADED * least;
        MemorySegment w;
        MemorySegment z;
        long wCols;
        long zCols;
        MemorySegment order = la.buffer("columns", n);
        double tolerance;
        double negligible;
        if (graded) {
            // Rows are the columns of A, largest first. L = A^T H; rows of L^T and of Q^T.
            sortDescending(n, i -> g.getAtIndex(JAVA_DOUBLE, i * n + i), order);
            MemorySegment columns = la.buffer("w", n * m);
            MemorySegment sorted = la.buffer("z", n * m);
            la.copy(x, rows, cols, View.of(columns, m), tall, factor, MemorySegment.NULL, MemorySegment.NULL);
            la.copy(View.of(columns, m), n, m, View.of(sorted, m), false, 1, order, MemorySegment.NULL);
            Reflections q = la.reflect(n, m, sorted, "qr");
            w = la.buffer("w", n * n);
            la.copy(View.of(sorted, m), n, n, View.of(w, n), true, 1, MemorySegment.NULL, MemorySegment.NULL);
            z = sorted;
            la.orthogonalRows(q, 0, n, z);
            wCols = n;
            zCols = m;
            negligible = 0x1p-1000;
        } else {
            z = la.buffer("z", n * n);
            MemorySegment values = la.buffer("values", n);
            la.symmetricEigen(n, g, values, z);
            w = la.buffer("w", n * m);
            la.multiply(new Product(View.of(z, n), false, x, tall, w, m, n, m, n, false, factor, 0));
            wCols = m;
            zCols = n;
            double threshold = a.type() == DType.F32 ? 1e-10 : 4 * 0x1p-53 * n;
            negligible = Math.max(0x1p-1000, threshold * threshold * Math.max(0, values.getAtIndex(JAVA_DOUBLE, 0)));
            refine(n, w, wCols, z, zCols, negligible);
        }
        tolerance = a.type() == DType.F32 ? 1e-8 : 3 * 0x1p-53 * Math.sqrt(wCols);
        rotate(n, w, wCols, z, zCols, tolerance, negligible);
        if (a.type() == DType.F64) {
            polish(n, z, zCols);
        }
        finish(a.type(), n, w, wCols, z, zCols, tall != graded, graded ? order : null, negligible, exponent, rows, cols,
                keep, u, s, vt);
    }

    /**
     * Rows far smaller than the largest are as orthogonal to it as the Gram matrix was accurate, but not to each other. Among
     * themselves, a Gram matrix of their own says what the first one could not.
     */
    private void refine(long n, MemorySegment w, long wCols, MemorySegment z, long zCols, double negligible) {
        MemorySegment sums = la.buffer("sums", n);
        long first = 0;
        while (true) {
            la.rowNorms(View.of(w, wCols), n, wCols, sums, la.buffer("largest", n));
            double largest = 0;
            for (long i = first; i < n; i++) {
                largest = Math.max(largest, sums.getAtIndex(JAVA_DOUBLE, i));
            }
            long next = first;
            while (next < n && sums.getAtIndex(JAVA_DOUBLE, next) > SMALLER * largest) {
                next++;
            }
            long count = n - next;
            // A few are left to Jacobi.
            if (next == first || count < SMALL || sums.getAtIndex(JAVA_DOUBLE, next) <= negligible) {
                return;
            }
            MemorySegment g = la.buffer("gram", n * n);
            MemorySegment vectors = la.buffer("refined vectors", count * count);
            MemorySegment small = LinearAlgebra.at(w, next * wCols);
            MemorySegment companions = LinearAlgebra.at(z, next * zCols);
            // Scaled, since squares of what is left may be as small as the first Gram matrix's rounding errors.
            la.gram(View.of(small, wCols), false, count, wCols, 1 / sums.getAtIndex(JAVA_DOUBLE, next), g);
            la.symmetricEigen(count, g, la.buffer("refined values", count), vectors);
            turn(count, vectors, small, wCols);
            turn(count, vectors, companions, zCols);
            first = next;
        }
    }

    /** Rows that have been through many rotations: X = (3 I - X X^T) / 2 X, which squares their distance from orthonormal ones. */
    private void polish(long n, MemorySegment x, long cols) {
        MemorySegment g = la.buffer("gram", n * n);
        la.gram(View.of(x, cols), false, n, cols, -0.5, g);
        for (long i = 0; i < n; i++) {
            g.setAtIndex(JAVA_DOUBLE, i * n + i, g.getAtIndex(JAVA_DOUBLE, i * n + i) + 1.5);
            for (long j = 0; j < i; j++) {
                g.setAtIndex(JAVA_DOUBLE, j * n + i, g.getAtIndex(JAVA_DOUBLE, i * n + j));
            }
        }
        turn(n, g, x, cols);
    }

    /** X = Q X for square Q. */
    private void turn(long n, MemorySegment q, MemorySegment x, long cols) {
        MemorySegment turned = la.buffer("turned", n * cols);
        la.multiply(View.of(q, n), false, View.of(x, cols), false, turned, n, cols, n);
        la.copy(View.of(turned, cols), n, cols, View.of(x, cols), false, 1, MemorySegment.NULL, MemorySegment.NULL);
    }

    /** One-sided Jacobi until all rows of W are orthogonal, in rounds of disjoint pairs of blocks. */
    private void rotate(long n, MemorySegment w, long wCols, MemorySegment z, long zCols, double tolerance,
            double negligible) {
        long block = n <= 128 ? 16 : 32;
        int blocks = (int) ((n + block - 1) / block);
        tp_jacobi.n(jacobi, n);
        tp_jacobi.block(jacobi, block);
        tp_jacobi.w_cols(jacobi, wCols);
        tp_jacobi.w_stride(jacobi, wCols);
        tp_jacobi.z_cols(jacobi, zCols);
        tp_jacobi.z_stride(jacobi, zCols);
        // Stricter than the check below, whose sums run in another order: what that finds, this must not overlook.
        tp_jacobi.tolerance(jacobi, 0.5 * tolerance);
        tp_jacobi.negligible(jacobi, negligible);
        MemorySegment g = la.buffer("gram", n * n);
        MemorySegment cosines = la.buffer("cosines", (long) blocks * blocks);
        MemorySegment pairs = la.buffer("pairs", blocks + 1);
        MemorySegment rotated = la.buffer("rotated", 8L * workers.threads());
        for (int sweep = 0;; sweep++) {
            la.gram(View.of(w, wCols), false, n, wCols, 1, g);
            la.spread(blocks, 1, 0.5 * n * n, (begin, end, worker) -> Native.check("tp_gram_blocks",
                    Kernels.tp_gram_blocks(jacobi, n, g, begin, end, cosines)));
            boolean[][] active = active(blocks, cosines, tolerance);
            if (active == null) {
                return;
            }
            if (sweep == sweepLimit) {
                throw new KernelException("one-sided Jacobi", KernelException.CONVERGENCE,
                        "not orthogonal after " + sweep + " sweeps");
            }
            for (List<int[]> round : rounds(blocks, active)) {
                for (int i = 0; i < round.size(); i++) {
                    pairs.setAtIndex(JAVA_INT, 2L * i, round.get(i)[0]);
                    pairs.setAtIndex(JAVA_INT, 2L * i + 1, round.get(i)[1]);
                }
                workers.run(round.size(), 1, 1, (begin, end, worker) -> Native.check("tp_jacobi_pairs",
                        Kernels.tp_jacobi_pairs(jacobi, pairs, begin, end, w, z, la.scratch(worker),
                                rotated.asSlice(64L * worker))));
            }
        }
    }

    /** The pairs of blocks with rows that are not orthogonal; null if there are none. */
    private static boolean[][] active(int blocks, MemorySegment cosines, double tolerance) {
        boolean[][] active = new boolean[blocks][blocks];
        boolean any = false;
        for (int i = 0; i < blocks; i++) {
            for (int j = 0; j <= i; j++) {
                active[j][i] = !(cosines.getAtIndex(JAVA_DOUBLE, (long) i * blocks + j) <= tolerance);
                any |= active[j][i];
            }
        }
        return any ? active : null;
    }

    /** A tournament: each active pair of blocks once, those of a round disjoint; blocks alone where nothing else has them. */
    private static List<List<int[]>> rounds(int blocks, boolean[][] active) {
        List<List<int[]>> rounds = new ArrayList<>();
        boolean[] met = new boolean[blocks];
        int seats = blocks + blocks % 2;
        for (int round = 0; round < seats - 1; round++) {
            List<int[]> pairs = new ArrayList<>();
            for (int k = 0; k < seats / 2; k++) {
                int p = k == 0 ? seats - 1 : (round + k) % (seats - 1);
                int q = (round - k + seats - 1) % (seats - 1);
                int i = Math.min(p, q);
                int j = Math.max(p, q);
                if (j < blocks && active[i][j]) {
                    pairs.add(new int[] {i, j});
                    met[i] = met[j] = true;
                }
            }
            if (!pairs.isEmpty()) {
                rounds.add(pairs);
            }
        }
        List<int[]> alone = new ArrayList<>();
        for (int i = 0; i < blocks; i++) {
            if (active[i][i] && !met[i]) {
                alone.add(new int[] {i, i});
            }
        }
        if (!alone.isEmpty()) {
            rounds.add(alone);
        }
        return rounds;
    }

    @FunctionalInterface
    private interface Values {
        double at(long i);
    }

    private static void sortDescending(long n, Values values, MemorySegment order) {
        Long[] sorted = new Long[(int) n];
        Arrays.setAll(sorted, i -> (long) i);
        Arrays.sort(sorted, (i, j) -> Double.compare(values.at(j), values.at(i)));
        for (int i = 0; i < n; i++) {
            order.setAtIndex(JAVA_LONG, i, sorted[i]);
        }
    }

    /**
     * Norms, order, signs and types.
     *
     * @param wLeft whether rows of W are left singular vectors times singular values, or right ones
     * @param columns column i of the vectors in W belongs at columns[i]; or null
     */
    private void finish(DType type, long n, MemorySegment w, long wCols, MemorySegment z, long zCols, boolean wLeft,
            MemorySegment columns, double negligible, int exponent, long rows, long cols, long keep, MemorySegment u,
            MemorySegment s, MemorySegment vt) {
        MemorySegment sums = la.buffer("sums", n);
        la.rowNorms(View.of(w, wCols), n, wCols, sums, la.buffer("largest", n));
        MemorySegment order = la.buffer("order", n);
        sortDescending(n, i -> sums.getAtIndex(JAVA_DOUBLE, i), order);
        long known = 0;
        while (known < n && sums.getAtIndex(JAVA_DOUBLE, order.getAtIndex(JAVA_LONG, known)) > negligible) {
            known++;
        }
        MemorySegment norms = la.buffer("norms", n);
        MemorySegment wFactors = la.buffer("w factors", n);
        MemorySegment zFactors = la.buffer("z factors", n);
        for (long i = 0; i < n; i++) {
            long row = order.getAtIndex(JAVA_LONG, i);
            double norm = Math.sqrt(sums.getAtIndex(JAVA_DOUBLE, row));
            norms.setAtIndex(JAVA_DOUBLE, row, norm);
            wFactors.setAtIndex(JAVA_DOUBLE, row, i < known ? 1 / norm : 1);
            zFactors.setAtIndex(JAVA_DOUBLE, row, 1);
        }
        complete(n, known, w, wCols, order, wFactors);
        View unordered = View.of(w, wCols);
        if (columns != null) {
            // Columns of W back to their places: rows of the transpose, twice.
            MemorySegment places = la.buffer("places", n);
            for (long i = 0; i < n; i++) {
                places.setAtIndex(JAVA_LONG, columns.getAtIndex(JAVA_LONG, i), i);
            }
            MemorySegment turned = la.buffer("turned", n * wCols);
            MemorySegment back = la.buffer("back", n * wCols);
            la.copy(unordered, n, wCols, View.of(turned, n), true, 1, MemorySegment.NULL, MemorySegment.NULL);
            la.copy(View.of(turned, n), wCols, n, View.of(back, n), true, 1, places, MemorySegment.NULL);
            unordered = View.of(back, wCols);
        }
        View zView = View.of(z, zCols);
        View left = wLeft ? unordered : zView;
        MemorySegment peaks = la.buffer("peaks", n);
        la.spread(n, 1, 2.0 * n * rows, (begin, end, worker) -> Native.check("tp_row_peaks",
                Kernels.tp_row_peaks(n, rows, left.stride(), begin, end, left.data(), peaks)));
        for (long i = 0; i < n; i++) {
            if (peaks.getAtIndex(JAVA_DOUBLE, i) < 0) {
                wFactors.setAtIndex(JAVA_DOUBLE, i, -wFactors.getAtIndex(JAVA_DOUBLE, i));
                zFactors.setAtIndex(JAVA_DOUBLE, i, -1);
            }
        }
        View uOut = new View(type, u, keep);
        View vOut = new View(type, vt, cols);
        la.copy(left, n, rows, uOut, keep, true, order, wLeft ? wFactors : zFactors);
        la.copy(wLeft ? zView : unordered, n, cols, vOut, keep, false, order, wLeft ? zFactors : wFactors);
        for (long i = 0; i < keep; i++) {
            double value = norms.getAtIndex(JAVA_DOUBLE, order.getAtIndex(JAVA_LONG, i));
            value = Math.scalb(value, exponent);
            if (type == DType.F32) {
                s.setAtIndex(JAVA_FLOAT, i, (float) value);
            } else {
                s.setAtIndex(JAVA_DOUBLE, i, value);
            }
        }
    }

    /** Rows of W from place {@code known} on become orthonormal to the others. */
    private void complete(long n, long known, MemorySegment w, long wCols, MemorySegment order, MemorySegment factors) {
        if (known == n) {
            return;
        }
        MemorySegment good = la.buffer("known", n * wCols);
        MemorySegment completion = la.buffer("completion", (n - known) * wCols);
        la.copy(View.of(w, wCols), n, wCols, View.of(good, wCols), n, false, order, factors);
        Reflections r = la.reflect(known, wCols, good, "completion");
        la.orthogonalRows(r, known, n, completion);
        for (long i = known; i < n; i++) {
            MemorySegment.copy(completion, (i - known) * wCols * 8, w, order.getAtIndex(JAVA_LONG, i) * wCols * 8, wCols * 8);
        }
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
        a.check("a", rows, cols, workers);
        // Of the elements after the first matrix, each further one begins `step` later.
        long after = a.data().byteSize() / a.type().bytes(1) - ((rows - 1) * a.stride() + cols);
        if (step > 0 && after / step < count - 1) {
            throw new IllegalArgumentException("the matrices need more than " + a.data().byteSize() + " bytes");
        }
        need("u", u, a.type(), count * rows, r);
        need("s", s, a.type(), count, r);
        need("vt", vt, a.type(), count * r, cols);
        try (OneThread _ = oneThread.enter()) {
            small(a, count, step, rows, cols, u, s, vt);
        }
    }

    private void small(View a, long count, long step, long rows, long cols, MemorySegment u, MemorySegment s,
            MemorySegment vt) {
        MemorySegment spec = la.buffer("small", 8);
        tp_small.count(spec, count);
        tp_small.rows(spec, rows);
        tp_small.cols(spec, cols);
        tp_small.in_stride(spec, a.stride());
        tp_small.in_step(spec, step);
        tp_small.type(spec, a.id());
        tp_small.sweeps(spec, sweepLimit);
        la.spread(count, 1, 20.0 * count * rows * cols * Math.min(rows, cols), (begin, end, worker) -> Native.check(
                "tp_svd_small", Kernels.tp_svd_small(spec, begin, end, a.data(), u, s, vt)));
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
     *     which costs about as much again unless the singular values show that nothing would come of it. Without it the error in
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
     * The best rank that can be had for this much, approximately: A ~ U diag(s) V<sup>T</sup> with {@code rank} columns.
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
        need("u", u, a.type(), rows, rank);
        need("s", s, a.type(), 1, rank);
        need("vt", vt, a.type(), rank, cols);
        return timed(() -> truncate(a, rows, cols, rank, 0, options, u, s, vt));
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
        need("u", u, a.type(), rows, limit);
        need("s", s, a.type(), 1, limit);
        need("vt", vt, a.type(), limit, cols);
        return timed(() -> truncate(a, rows, cols, limit, error, options, u, s, vt));
    }

    /** By rank if {@code error} is 0 and by error otherwise; {@code rank} is the limit. */
    private Certificate truncate(View a, long rows, long cols, long rank, double error, Options options, MemorySegment u,
            MemorySegment s, MemorySegment vt) {
        long least = Math.min(rows, cols);
        int exponent = least == 0 ? 0 : exponent(a, rows, cols);
        double squares = least == 0 ? 0 : sum(la.buffer("sums", rows), rows);
        View x = a;
        // Sketches have larger entries than A, and squares of norms must not leave f64.
        if (Math.abs(exponent) > (a.type() == DType.F32 ? 40 : 300)) {
            x = new View(a.type(), la.buffer("scaled", rows * cols), cols);
            la.copy(a, rows, cols, x, false, Math.scalb(1.0, -exponent / 2), MemorySegment.NULL, MemorySegment.NULL);
            la.copy(x, rows, cols, x, false, Math.scalb(1.0, -(exponent - exponent / 2)), MemorySegment.NULL,
                    MemorySegment.NULL);
            squares = la.sumOfSquares(x, rows, cols);
        } else {
            exponent = 0;
        }
        double allowed = error * error * squares;
        if (rank == 0 || squares == 0 && error > 0) {
            double norm = Math.scalb(Math.sqrt(squares), exponent);
            return measure(a, rows, cols, 0, u, s, vt, norm, norm, 0, exponent, norm, options);
        }
        long block = Math.max(16, (rank / 4 + 7) / 8 * 8);
        if (error > 0) {
            block = Math.min(64, block);
        }
        double resolved = a.type() == DType.F32 ? 1e-5 : 1e-12;
        boolean hopeless = error > 0 && error < resolved;
        if (least <= 2 * SMALL || 5 * rank >= 2 * least && error == 0 || hopeless) {
            return throughFull(a, rows, cols, rank, error, options, u, s, vt);
        }
        long room = Math.min(least / 2 + block, 2 * rank + 3 * block + 64);
        long most = Math.max(rank + block, rank * (1 + options.iterations) / 2 + rank / 2);
        Krylov k = new Krylov(x, rows, cols, block, room, options);
        double excess = Double.NaN;
        if (error > 0) {
            while (squares - k.squares > allowed && k.size < 2 * rank) {
                if (k.size + block > room) {
                    return throughFull(a, rows, cols, rank, error, options, u, s, vt);
                }
                k.step();
            }
        } else {
            Approach approach = new Approach(squares, resolved, options.tolerance);
            if (!rounded(k, rank, most, approach)) {
                approach = new Approach(squares, resolved, options.tolerance);
                int steps = -1;
                while (steps != 0 && k.size + block <= room && (k.size < most || k.size < rank + block)) {
                    k.step();
                    if (k.size >= rank && options.tolerance > 0) {
                        steps = approach.steps(k.best(rank));
                    }
                }
            }
            excess = approach.excess;
        }
        long found = k.decompose(rank, allowed, error > 0, squares, exponent, u, s, vt);
        double bound = options.certify ? Math.sqrt(Math.max(0, squares - captured(k, found, squares, s, exponent))) : Double.NaN;
        Certificate c = measure(a, rows, cols, found, u, s, vt, Math.scalb(Math.sqrt(Math.max(0, k.left)), exponent),
                Math.scalb(bound, exponent), Math.scalb(excess, exponent), exponent, Math.scalb(Math.sqrt(squares), exponent),
                options);
        if (error > 0 && options.certify && found < rank && c.error > error * c.norm) {
            // The norms did not resolve the error: rounding decides.
            return throughFull(a, rows, cols, rank, error, options, u, s, vt);
        }
        return c;
    }

    /** At most this are the squares of as many singular values as were found: all of ||A||_F^2 if there is no telling. */
    private double captured(Krylov k, long found, double total, MemorySegment s, int exponent) {
        // What was found says beforehand if there is anything to be learned.
        double[] moments = new double[2 * DEPTH + 1];
        for (long i = 0; i < found; i++) {
            double value = Math.scalb(value(k.type, s, i), -exponent);
            for (int power = 2; power <= 2 * DEPTH; power++) {
                moments[power] += Math.pow(value * value / total, power);
            }
        }
        return Moments.holder(moments, found) < 1 ? Math.min(total, k.captured(found, total)) : total;
    }

    /** When to stop: the error falls geometrically, about, so that what it will lose yet follows from the last two steps. */
    private static final class Approach {
        final double total;
        final double resolved;
        final double tolerance;
        double known = Double.NaN;
        double change = Double.NaN;
        double ratio = Double.NaN;
        /** What the error may fall yet; NaN if it has not been falling like that. */
        double excess = Double.NaN;
        Approach(double total, double resolved, double tolerance) {
            this.total = total;
            this.resolved = resolved;
            this.tolerance = tolerance;
        }

        /**
         * How many steps it will take until the error exceeds the least one by no more than the tolerance; -1 if that is open.
         *
         * @param found the sum of the squared singular values found, of ||A||_F^2
         */
        int steps(double found) {
            double now = Math.sqrt(Math.max(0, total - found));
            double drop = known - now;
            ratio = drop / change;
            change = drop;
            known = now;
            excess = drop >= 0 && ratio < 1 ? drop * ratio / (1 - ratio) : Double.NaN;
            double least = now - excess;
            if (excess <= tolerance * now || now <= Math.sqrt(total) * resolved) {
                return 0;
            }
            return tolerance > 0 && least > 0 ? (int) Math.ceil(Math.log(tolerance * least / excess) / Math.log(ratio)) : -1;
        }

        /** So many steps later. */
        void later(int steps) {
            excess *= Math.pow(ratio, steps);
        }
    }

    /**
     * Starts with the left vectors that a search with A rounded finds.
     *
     * @return whether A is rounded finely enough to find them; if not, nothing was done
     */
    private boolean rounded(Krylov k, long rank, long most, Approach approach) {
        if (!Rounded.serves(k.type, k.rows, k.cols)) {
            return false;
        }
        if (held == null || held.rows != k.rows || held.cols != k.cols || held.block != k.block) {
            if (held != null) {
                held.close();
            }
            held = new Rounded(k.rows, k.cols, k.block);
        }
        held.pack(k.a, la.buffer("sums", k.rows));
        Search search = new Search(held, k.room, k.options.seed);
        int planned = -1;
        int done = 0;
        while (planned != done && search.size + k.block <= k.room && (search.size < most || search.size < rank + k.block)) {
            if (!search.step()) {
                return false;
            }
            if (planned >= 0) {
                done++;
            } else if (search.size >= rank) {
                planned = approach.steps(search.best(rank));
                if (COARSE * COARSE * approach.known * approach.known < held.squaredError) {
                    return false;
                }
            }
        }
        search.vectors(rank, k.q);
        boolean fine = k.options.tolerance > 0 && search.lost * rank / search.size <= FINE * FINE * approach.known * approach.known;
        if (fine) {
            search.products(rank, k.z);
        }
        // What rounding does to the leading ones alone would show in their values, and in the norm of what is left.
        k.append(rank, fine ? Math.min(LEADING, rank) : rank);
        approach.later(done);
        return true;
    }

    /** The full decomposition, cut off. */
    private Certificate throughFull(View a, long rows, long cols, long rank, double error, Options options, MemorySegment u,
            MemorySegment s, MemorySegment vt) {
        DType type = a.type();
        long r = Math.min(rows, cols);
        MemorySegment fullU = la.buffer("full u", rows * r);
        MemorySegment fullS = la.buffer("full s", r);
        MemorySegment fullVt = la.buffer("full vt", r * cols);
        full(a, rows, cols, fullU, fullS, fullVt);
        double largest = value(type, fullS, 0);
        double total = 0;
        for (long i = 0; i < r; i++) {
            double share = largest == 0 ? 0 : value(type, fullS, i) / largest;
            total += share * share;
        }
        long found = rank;
        double rest = 0;
        for (long i = r - 1; i >= 0; i--) {
            double share = largest == 0 ? 0 : value(type, fullS, i) / largest;
            rest += share * share;
            if (error > 0 && i < found && rest <= error * error * total) {
                found = i;
            }
        }
        double cut = 0;
        for (long i = r - 1; i >= found; i--) {
            double share = largest == 0 ? 0 : value(type, fullS, i) / largest;
            cut += share * share;
        }
        for (long i = 0; i < rows; i++) {
            MemorySegment.copy(fullU, type.bytes(i * r), u, type.bytes(i * found), type.bytes(found));
        }
        MemorySegment.copy(fullS, 0, s, 0, type.bytes(found));
        MemorySegment.copy(fullVt, 0, vt, 0, type.bytes(found * cols));
        double best = Math.sqrt(cut) * largest;
        return measure(a, rows, cols, found, u, s, vt, best, best, 0, exponent(a, rows, cols), Math.sqrt(total) * largest,
                options);
    }

    private void multiply(Gemm.Spec spec, MemorySegment left, MemorySegment right, MemorySegment c) {
        long start = System.nanoTime();
        try (Gemm gemm = new Gemm(spec, workers)) {
            gemm.pack(right).multiply(left, c);
        }
        la.productSince(start);
    }

    private static double value(DType type, MemorySegment s, long i) {
        return type == DType.F32 ? s.getAtIndex(JAVA_FLOAT, i) : s.getAtIndex(JAVA_DOUBLE, i);
    }

    /**
     * A matrix of f32 rounded to int8, each row with a scale of its own, and packed for products from both sides: a quarter
     * of the bytes, and several times the speed where the processor multiplies int8.
     */
    private final class Rounded implements AutoCloseable {
        /** Elements that are worth it. */
        private static final long WORTH = 1 << 20;
        /** Sums that int32 holds. */
        private static final long LONGEST = 1 << 17;

        final long rows;
        final long cols;
        final long block;
        final MemorySegment scales;
        final Gemm forward;
        final Gemm backward;
        /** ||A - rounded A||_F^2, errors being taken as uniform within a step. */
        double squaredError;
        /** The sum of the squares of all codes. */
        double energy;

        Rounded(long rows, long cols, long block) {
            this.rows = rows;
            this.cols = cols;
            this.block = block;
            scales = la.buffer("rounded scales", rows);
            forward = new Gemm(Gemm.Spec.of(DType.I8, Gemm.Form.ABT, block, rows, cols), workers);
            backward = new Gemm(Gemm.Spec.of(DType.I8, Gemm.Form.AB, block, cols, rows), workers);
        }

        static boolean serves(DType type, long rows, long cols) {
            return type == DType.F32 && rows * cols >= WORTH && Math.max(rows, cols) < LONGEST;
        }

        /** @param sums of squares of A's rows */
        void pack(View a, MemorySegment sums) {
            MemorySegment codes = la.buffer("rounded codes", rows * cols / 8 + 1);
            round(a.data(), a.stride(), rows, cols, codes, scales);
            forward.pack(codes);
            backward.pack(codes);
            squaredError = 0;
            energy = 0;
            for (long i = 0; i < rows; i++) {
                double scale = scales.getAtIndex(JAVA_FLOAT, i);
                double square = sums.getAtIndex(JAVA_DOUBLE, i);
                squaredError += scale * scale / 12 * cols;
                energy += square == 0 ? 0 : square / (scale * scale);
            }
        }

        private void round(MemorySegment x, long stride, long count, long length, MemorySegment codes, MemorySegment steps) {
            Quantize.quantize(new Quantize.Spec(count, length, stride, length, 1, length, DType.F32, DType.I8, DType.F32, -127,
                    127, Quantize.Range.ABSMAX, Quantize.Rounding.MULTIPLY, false, false, 1, 1), x, codes, steps,
                    MemorySegment.NULL, MemorySegment.NULL, workers);
        }

        /** Rows of Y^T, Y = A X, from the rows of X^T, rounded like A. */
        void forward(MemorySegment x, MemorySegment y) {
            MemorySegment codes = la.buffer("rounded operand", block * cols / 8 + 1);
            MemorySegment steps = la.buffer("rounded steps", block);
            round(x, cols, block, cols, codes, steps);
            long start = System.nanoTime();
            forward.multiplyToFloat(block, codes, y, new Gemm.Affine(MemorySegment.NULL, MemorySegment.NULL, steps, scales));
            la.productSince(start);
        }

        /** Rows of X^T, X = A^T Y, from the rows of Y^T, which are orthonormal; returns what squared error to expect. */
        double backward(MemorySegment y, MemorySegment x) {
            MemorySegment scaled = la.buffer("rounded scaled", block * rows);
            MemorySegment codes = la.buffer("rounded operand", block * rows / 8 + 1);
            MemorySegment steps = la.buffer("rounded steps", block);
            // The scales of A's rows belong to the terms of these sums.
            workers.run(block, 1, 8, (begin, end, worker) -> {
                for (long i = begin; i < end; i++) {
                    for (long j = 0; j < rows; j++) {
                        scaled.setAtIndex(JAVA_FLOAT, i * rows + j,
                                y.getAtIndex(JAVA_FLOAT, i * rows + j) * scales.getAtIndex(JAVA_FLOAT, j));
                    }
                }
            });
            round(scaled, rows, block, rows, codes, steps);
            long start = System.nanoTime();
            backward.multiplyToFloat(block, codes, x, new Gemm.Affine(MemorySegment.NULL, MemorySegment.NULL, steps,
                    MemorySegment.NULL));
            la.productSince(start);
            double lost = squaredError * block / rows;
            for (long i = 0; i < block; i++) {
                double step = steps.getAtIndex(JAVA_FLOAT, i);
                lost += step * step / 12 * energy;
            }
            return lost;
        }

        @Override
        public void close() {
            forward.close();
            backward.close();
        }
    }

    /**
     * Block Lanczos iteration with A rounded: it leads to the space of the leading left vectors. Vectors are f32, Gram matrices of
     * one block f64. Nothing here decides the accuracy of a result, only how good the space is.
     */
    private final class Search {
        final Rounded a;
        final long room;
        final long seed;
        final MemorySegment q;
        /** Z Z^T: its lower triangle, block tridiagonal. Rounding does couple other blocks too; that is left out. */
        final MemorySegment t;
        /** Q^T A, rounded. */
        final MemorySegment z;
        long size;
        double squares;
        /** Of the rows of Z: the squared distance from Q^T A. */
        double lost;

        Search(Rounded a, long room, long seed) {
            this.a = a;
            this.room = room;
            this.seed = seed;
            q = la.buffer("search q", room * a.rows);
            t = la.buffer("search t", room * room);
            z = la.buffer("search z", room * a.cols);
        }

        /** One block more; false if there is no such block in f32. */
        boolean step() {
            long block = a.block;
            MemorySegment right = la.buffer("search right", block * a.cols);
            MemorySegment own = q.asSlice(DType.F32.bytes(size * a.rows));
            MemorySegment ownZ = z.asSlice(DType.F32.bytes(size * a.cols));
            MemorySegment g = la.buffer("search gram", block * block);
            if (size == 0) {
                la.gaussian(seed, 0, block * a.cols, DType.F32, right);
            } else {
                la.copy(View.of(LinearAlgebra.at(t, (size - block) * (room + 1)), room), block, block, View.of(g, block), false, 1,
                        MemorySegment.NULL, MemorySegment.NULL);
                if (!la.factor(block, g)) {
                    return false;
                }
                la.unravel(block, a.cols, g, z.asSlice(DType.F32.bytes((size - block) * a.cols)), right);
            }
            MemorySegment left = la.buffer("search left", block * a.rows);
            a.forward(right, left);
            // Twice, since what the others lack in orthogonality is multiplied by how much is taken off.
            project(left);
            project(left);
            la.gram(new View(DType.F32, left, a.rows), false, block, a.rows, 1, g);
            if (!la.factor(block, g)) {
                return false;
            }
            la.unravel(block, a.rows, g, left, own);
            lost += a.backward(own, ownZ);
            for (long i = size; i < size + block; i++) {
                t.asSlice(i * room * 8, size * 8).fill((byte) 0);
            }
            if (size > 0) {
                MemorySegment across = la.buffer("search across", block * block);
                MemorySegment lastZ = z.asSlice(DType.F32.bytes((size - block) * a.cols));
                multiply(Gemm.Spec.of(DType.F32, Gemm.Form.ABT, block, block, a.cols), ownZ, lastZ, across);
                la.copy(new View(DType.F32, across, block), block, block, View.of(LinearAlgebra.at(t, size * room + size - block),
                        room), false, 1, MemorySegment.NULL, MemorySegment.NULL);
            }
            la.multiply(new Product(new View(DType.F32, ownZ, a.cols), false, new View(DType.F32, ownZ, a.cols), true,
                    LinearAlgebra.at(t, size * (room + 1)), room, block, block, a.cols, true, 1, 0));
            size += block;
            for (long i = size - block; i < size; i++) {
                squares += t.getAtIndex(JAVA_DOUBLE, i * (room + 1));
            }
            return true;
        }

        /** Takes the components along the rows of Q off. */
        private void project(MemorySegment left) {
            if (size == 0) {
                return;
            }
            long block = a.block;
            MemorySegment along = la.buffer("search along", block * room);
            View minus = new View(DType.F32, along, size);
            multiply(Gemm.Spec.of(DType.F32, Gemm.Form.ABT, block, size, a.rows), left, q, along);
            la.copy(minus, block, size, minus, false, -1, MemorySegment.NULL, MemorySegment.NULL);
            multiply(Gemm.Spec.of(DType.F32, Gemm.Form.AB, block, a.rows, size).accumulating(), along, q, left);
        }

        /** The sum of the largest squared singular values found. */
        double best(long count) {
            return largest(t, room, size, count, squares);
        }

        /** The leading left vectors found, as rows. */
        void vectors(long rank, MemorySegment lefts) {
            MemorySegment values = la.buffer("values", size);
            MemorySegment vectors = la.buffer("vectors", size * size);
            la.symmetricEigen(size, square(t, room, size), values, vectors);
            MemorySegment turn = la.buffer("search turn", rank * size);
            la.copy(View.of(vectors, size), rank, size, new View(DType.F32, turn, size), false, 1, MemorySegment.NULL,
                    MemorySegment.NULL);
            multiply(Gemm.Spec.of(DType.F32, Gemm.Form.AB, rank, a.rows, size), turn, q, lefts);
        }

        /** Their products with A rounded. */
        void products(long rank, MemorySegment out) {
            multiply(Gemm.Spec.of(DType.F32, Gemm.Form.AB, rank, a.cols, size), la.buffer("search turn", rank * size), z, out);
        }
    }

    /** The leading part of a square matrix, without gaps. */
    private MemorySegment square(MemorySegment x, long stride, long size) {
        MemorySegment g = la.buffer("gram", size * size);
        la.copy(View.of(x, stride), size, size, View.of(g, size), false, 1, MemorySegment.NULL, MemorySegment.NULL);
        return g;
    }

    /** The sum of the largest eigenvalues of the leading part of a matrix, whose trace is known. */
    private double largest(MemorySegment x, long stride, long size, long count, double trace) {
        if (count >= size) {
            return trace;
        }
        MemorySegment values = la.buffer("values", size);
        la.symmetricEigenvalues(size, square(x, stride, size), values);
        double sum = 0;
        for (long i = 0; i < count; i++) {
            sum += Math.max(0, values.getAtIndex(JAVA_DOUBLE, i));
        }
        return sum;
    }

    /**
     * Bases of growing block Krylov spaces: rows Q_j of the left one and Z = Q^T A, of A's type. All products with A itself are
     * here.
     */
    private final class Krylov {
        final View a;
        final DType type;
        final long rows;
        final long cols;
        final long block;
        final long room;
        final Options options;
        final MemorySegment q;
        final MemorySegment z;
        final MemorySegment gram;
        long size;
        /** ||Q^T A||_F^2 so far. */
        double squares;
        /** Of the result: ||A||_F^2 without the kept singular values' squares. */
        double left;

        Krylov(View a, long rows, long cols, long block, long room, Options options) {
            this.a = a;
            this.type = a.type();
            this.rows = rows;
            this.cols = cols;
            this.block = block;
            this.room = Math.max(room, block);
            this.options = options;
            q = la.buffer("krylov q", this.room * rows);
            z = la.buffer("krylov z", this.room * cols);
            gram = la.buffer("krylov gram", this.room * this.room);
        }

        private MemorySegment row(MemorySegment x, long i, long length) {
            return x.asSlice(type.bytes(i * length));
        }

        /** One block more. */
        void step() {
            MemorySegment right = la.buffer("krylov right", block * cols);
            if (size == 0) {
                la.gaussian(options.seed, 0, block * cols, DType.F64, right);
            } else {
                la.copy(new View(type, row(z, size - block, cols), cols), block, cols, View.of(right, cols), false, 1,
                        MemorySegment.NULL, MemorySegment.NULL);
                la.orthonormalize(block, cols, right);
            }
            MemorySegment own = row(q, size, rows);
            forward(View.of(right, cols), own, block);
            // Again, since what is left may be little, or mere rounding: until little was taken off.
            double along = 1;
            for (int pass = 0; pass < 2 || pass < PASSES && along > 0.5; pass++) {
                along = project(own, block);
                orthonormalize(own, block);
            }
            append(block, block);
        }

        private void orthonormalize(MemorySegment y, long count) {
            MemorySegment exact = la.buffer("krylov left", count * rows);
            View own = new View(type, y, rows);
            la.copy(own, count, rows, View.of(exact, rows), false, 1, MemorySegment.NULL, MemorySegment.NULL);
            la.orthonormalize(count, rows, exact);
            la.copy(View.of(exact, rows), count, rows, own, false, 1, MemorySegment.NULL, MemorySegment.NULL);
        }

        /** Takes in the rows of Q that follow: their rows of Z, of which so many are not there yet, and inner products. */
        void append(long count, long unknown) {
            MemorySegment own = row(z, size, cols);
            backward(row(q, size, rows), own, unknown);
            la.multiply(new Product(new View(type, own, cols), false, new View(type, z, cols), true,
                    LinearAlgebra.at(gram, size * room), room, count, size + count, cols, false, 1, 0));
            for (long i = 0; i < count; i++) {
                squares += gram.getAtIndex(JAVA_DOUBLE, (size + i) * room + size + i);
            }
            size += count;
        }

        /** Rows of Y^T, Y = A X, from the rows of X^T. */
        private void forward(View x, MemorySegment y, long count) {
            MemorySegment operand = la.buffer("krylov operand", count * Math.max(rows, cols));
            la.copy(x, count, cols, new View(type, operand, cols), false, 1, MemorySegment.NULL,
                    MemorySegment.NULL);
            MemorySegment product = la.buffer("krylov product", count * Math.max(rows, cols));
            multiply(new Gemm.Spec(type, Gemm.Form.ABT, rows, count, cols, a.stride(), cols, count, false), a.data(), operand,
                    product);
            la.copy(new View(type, product, count), rows, count, new View(type, y, rows), true, 1, MemorySegment.NULL,
                    MemorySegment.NULL);
        }

        /** Rows of X^T, X = A^T Y, from the rows of Y^T. */
        private void backward(MemorySegment y, MemorySegment x, long count) {
            MemorySegment operand = la.buffer("krylov operand", count * Math.max(rows, cols));
            MemorySegment product = la.buffer("krylov product", count * Math.max(rows, cols));
            la.copy(new View(type, y, rows), count, rows, new View(type, operand, count), true, 1, MemorySegment.NULL,
                    MemorySegment.NULL);
            multiply(new Gemm.Spec(type, Gemm.Form.ATB, cols, count, rows, a.stride(), count, count, false), a.data(), operand,
                    product);
            la.copy(new View(type, product, count), cols, count, new View(type, x, cols), true, 1, MemorySegment.NULL,
                    MemorySegment.NULL);
        }

        /**
         * An upper bound on the sum of the largest squared singular values of A: {@link Moments}, on random vectors that nothing
         * else depends on.
         */
        double captured(long rank, double total) {
            MemorySegment x = la.buffer("probes right", PROBES * cols);
            MemorySegment y = la.buffer("probes left", PROBES * rows);
            MemorySegment sums = la.buffer("sums", PROBES);
            MemorySegment largest = la.buffer("largest", PROBES);
            View right = new View(type, x, cols);
            double[] moments = new double[2 * DEPTH + 1];
            la.gaussian(options.seed, 1, PROBES * cols, type, x);
            for (int k = 0; k <= DEPTH; k++) {
                la.rowNorms(right, PROBES, cols, sums, largest);
                moments[2 * k] = sum(sums, PROBES);
                if (k < DEPTH) {
                    forward(right, y, PROBES);
                    la.rowNorms(new View(type, y, rows), PROBES, rows, sums, largest);
                    moments[2 * k + 1] = sum(sums, PROBES) / total;
                    backward(y, x, PROBES);
                    la.copy(right, PROBES, cols, right, false, 1 / total, MemorySegment.NULL, MemorySegment.NULL);
                }
            }
            return total * Moments.largest(moments, PROBES, rank, CHANCE);
        }

        /** Takes the components along the earlier rows of Q off; the largest squared length of what was taken from a row. */
        private double project(MemorySegment own, long count) {
            if (size == 0) {
                return 0;
            }
            MemorySegment along = la.buffer("krylov along", count * room);
            multiply(Gemm.Spec.of(type, Gemm.Form.ABT, count, size, rows), own, q, along);
            double most = 0;
            for (long i = 0; i < count; i++) {
                double sum = 0;
                for (long j = i * size; j < (i + 1) * size; j++) {
                    double x = value(type, along, j);
                    sum += x * x;
                    if (type == DType.F32) {
                        along.setAtIndex(JAVA_FLOAT, j, (float) -x);
                    } else {
                        along.setAtIndex(JAVA_DOUBLE, j, -x);
                    }
                }
                most = Math.max(most, sum);
            }
            multiply(Gemm.Spec.of(type, Gemm.Form.AB, count, rows, size).accumulating(), along, q, own);
            return most;
        }

        /** The sum of the largest squared singular values of Q^T A. */
        double best(long count) {
            return largest(gram, room, size, count, squares);
        }

        /** The leading singular triplets of Q Q^T A; returns how many. */
        long decompose(long rank, double allowed, boolean byError, double total, int exponent, MemorySegment u, MemorySegment s,
                MemorySegment vt) {
            MemorySegment values = la.buffer("values", size);
            MemorySegment vectors = la.buffer("vectors", size * size);
            la.symmetricEigen(size, square(gram, room, size), values, vectors);
            long found = Math.min(rank, size);
            double kept = 0;
            for (long i = 0; i < found; i++) {
                kept += Math.max(0, values.getAtIndex(JAVA_DOUBLE, i));
                if (byError && total - kept <= allowed) {
                    found = i + 1;
                }
            }
            left = total - kept;
            MemorySegment w = la.buffer("w", found * cols);
            MemorySegment lefts = la.buffer("z", found * rows);
            la.multiply(View.of(vectors, size), false, new View(type, z, cols), false, w, found, cols, size);
            la.multiply(View.of(vectors, size), false, new View(type, q, rows), false, lefts, found, rows, size);
            double threshold = type == DType.F32 ? 1e-7 : 4 * 0x1p-53 * size;
            double negligible = Math.max(0x1p-1000, threshold * threshold * Math.max(0, values.getAtIndex(JAVA_DOUBLE, 0)));
            double tolerance = type == DType.F32 ? 1e-8 : 8 * 0x1p-53 * Math.sqrt(cols);
            // Eigenvectors of a Gram matrix are accurate relative to the largest.
            if (type == DType.F64 || values.getAtIndex(JAVA_DOUBLE, found - 1) < 1e-6 * values.getAtIndex(JAVA_DOUBLE, 0)) {
                rotate(found, w, cols, lefts, rows, tolerance, negligible);
            }
            finish(type, found, w, cols, lefts, rows, false, null, negligible, exponent, rows, cols, found, u, s, vt);
            return found;
        }
    }

    // ---- certificate ----

    /** @param excess an estimate of how much of the error is not the rank's, or NaN */
    private Certificate measure(View a, long rows, long cols, long rank, MemorySegment u, MemorySegment s, MemorySegment vt,
            double known, double bound, double excess, int exponent, double norm, Options options) {
        if (!options.certify) {
            return new Certificate(rank, norm, known, bound, Math.max(0, known - excess), Double.NaN, Double.NaN);
        }
        Certificate c = certify(a, rows, cols, rank, u, s, vt, exponent, norm);
        double least = Math.min(bound, c.error);
        return new Certificate(rank, c.norm, c.error, least, Math.max(least, c.error - excess), c.left, c.right);
    }

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
        Native.input("u", u, Native.bytes("u", type, rows, rank, rank), workers);
        Native.input("s", s, type.bytes(rank), workers);
        Native.input("vt", vt, Native.bytes("vt", type, rank, cols, cols), workers);
        Native.aligned("u", u, type.bytes(1));
        Native.aligned("s", s, type.bytes(1));
        Native.aligned("vt", vt, type.bytes(1));
        try (OneThread _ = oneThread.enter()) {
            int exponent = exponent(a, rows, cols);
            return certify(a, rows, cols, rank, u, s, vt, exponent, Math.sqrt(sum(la.buffer("sums", rows), rows)));
        }
    }

    /**
     * @param exponent entries times 2^-exponent have squares that f64 holds
     * @param norm of A, which an F32 matrix will not have measured again
     */
    private Certificate certify(View a, long rows, long cols, long rank, MemorySegment u, MemorySegment s, MemorySegment vt,
            int exponent, double norm) {
        if (rows == 0 || cols == 0) {
            return new Certificate(0, 0, 0, 0, 0, 0, 0);
        }
        double error = 0;
        boolean single = a.type() == DType.F32 && rows * cols * rank >= LARGE;
        if (single) {
            error = residual(a, rows, cols, rank, u, s, vt, exponent);
        }
        if (!single || error < SINGLE * norm) {
            double[] both = accurately(a, rows, cols, rank, u, s, vt, exponent);
            norm = both[0];
            error = both[1];
        }
        return new Certificate(rank, norm, error, 0, Double.NaN, orthogonality(new View(a.type(), u, rank), true, rank, rows),
                orthogonality(new View(a.type(), vt, cols), false, rank, cols));
    }

    /** ||A - U S Vt||_F with products in f32. */
    private double residual(View a, long rows, long cols, long rank, MemorySegment u, MemorySegment s, MemorySegment vt,
            int exponent) {
        double factor = Math.scalb(1.0, -exponent);
        MemorySegment values = la.buffer("certified values", Math.max(1, rank));
        for (long i = 0; i < rank; i++) {
            values.setAtIndex(JAVA_DOUBLE, i, -factor * value(DType.F32, s, i));
        }
        MemorySegment right = la.buffer("scaled vt", Math.max(1, rank * cols));
        la.copy(new View(DType.F32, vt, cols), rank, cols, new View(DType.F32, right, cols), false, 1, MemorySegment.NULL,
                values);
        long strip = Math.clamp((8L << 20) / 4 / cols, 1, Math.min(rows, 512));
        MemorySegment own = la.buffer("differences", strip * cols);
        MemorySegment sums = la.buffer("difference sums", rows);
        MemorySegment largest = la.buffer("difference largest", rows);
        try (Gemm gemm = new Gemm(new Gemm.Spec(DType.F32, Gemm.Form.AB, strip, cols, rank, rank, cols, cols, true), workers)) {
            gemm.pack(right);
            for (long first = 0; first < rows; first += strip) {
                long count = Math.min(strip, rows - first);
                View part = new View(DType.F32, own, cols);
                la.copy(new View(DType.F32, a.data().asSlice(DType.F32.bytes(first * a.stride())), a.stride()), count, cols, part,
                        false, factor, MemorySegment.NULL, MemorySegment.NULL);
                long start = System.nanoTime();
                gemm.multiply(count, u.asSlice(DType.F32.bytes(first * rank)), own);
                la.productSince(start);
                la.rowNorms(part, count, cols, LinearAlgebra.at(sums, first), LinearAlgebra.at(largest, first));
            }
        }
        return Math.scalb(Math.sqrt(sum(sums, rows)), exponent);
    }

    /** ||A||_F and ||A - U S Vt||_F with products in f64. */
    private double[] accurately(View a, long rows, long cols, long rank, MemorySegment u, MemorySegment s, MemorySegment vt,
            int exponent) {
        DType type = a.type();
        double down = Math.scalb(1.0, -exponent / 2);
        double rest = Math.scalb(1.0, -(exponent - exponent / 2));
        // The right factor, times the singular values, both scaled.
        MemorySegment scaled = la.buffer("scaled vt", Math.max(1, rank * cols));
        MemorySegment values = la.buffer("certified values", Math.max(1, rank));
        for (long i = 0; i < rank; i++) {
            values.setAtIndex(JAVA_DOUBLE, i, value(type, s, i) * down * rest);
        }
        la.copy(new View(type, vt, cols), rank, cols, View.of(scaled, cols), false, 1, MemorySegment.NULL, values);
        long strip = Math.max(1, Math.min(rows, Math.min(256, (8L << 20) / 8 / cols)));
        long strips = (rows + strip - 1) / strip;
        MemorySegment differences = la.buffer("differences", workers.threads() * strip * cols);
        MemorySegment sums = la.buffer("difference sums", rows);
        MemorySegment norms = la.buffer("row sums", rows);
        MemorySegment largest = la.buffer("difference largest", rows);
        workers.run(strips, 1, 1, (begin, end, worker) -> {
            MemorySegment own = LinearAlgebra.at(differences, worker * strip * cols);
            for (long k = begin; k < end; k++) {
                long first = k * strip;
                long count = Math.min(strip, rows - first);
                View source = new View(type, a.data().asSlice(type.bytes(first * a.stride())), a.stride());
                la.copy(source, count, cols, View.of(own, cols), down * rest, worker);
                la.rowNorms(View.of(own, cols), count, cols, LinearAlgebra.at(norms, first),
                        LinearAlgebra.at(largest, first), worker);
                if (rank > 0) {
                    la.multiply(new Product(new View(type, u.asSlice(type.bytes(first * rank)), rank), false,
                            View.of(scaled, cols), false, own, cols, count, cols, rank, false, -1, 1), worker);
                }
                la.rowNorms(View.of(own, cols), count, cols, LinearAlgebra.at(sums, first),
                        LinearAlgebra.at(largest, first), worker);
            }
        });
        return new double[] {Math.scalb(Math.sqrt(sum(norms, rows)), exponent), Math.scalb(Math.sqrt(sum(sums, rows)), exponent)};
    }

    private double orthogonality(View x, boolean columns, long rank, long length) {
        MemorySegment g = la.buffer("gram", rank * rank);
        la.gram(x, columns, rank, length, 1, g);
        double sum = 0;
        for (long i = 0; i < rank; i++) {
            for (long j = 0; j < i; j++) {
                double v = g.getAtIndex(JAVA_DOUBLE, i * rank + j);
                sum += 2 * v * v;
            }
            double v = g.getAtIndex(JAVA_DOUBLE, i * rank + i) - 1;
            sum += v * v;
        }
        return Math.sqrt(sum);
    }

    // ---- checks ----

    private void checkInput(View a, long rows, long cols) {
        a.check("a", rows, cols, workers);
        if (Math.min(rows, cols) > 1 << 15) {
            throw new IllegalArgumentException("the smaller side may be at most 32768, but is " + Math.min(rows, cols));
        }
    }

    private void need(String name, MemorySegment segment, DType type, long rows, long cols) {
        Native.output(name, segment, Native.bytes(name, type, rows, cols, cols), workers);
        Native.aligned(name, segment, type.bytes(1));
    }
}
