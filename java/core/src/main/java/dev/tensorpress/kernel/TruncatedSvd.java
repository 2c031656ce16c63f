package dev.tensorpress.kernel;

import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.kernel.Svd.Certificate;
import dev.tensorpress.kernel.Svd.Options;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;

/** The truncated decompositions, by rank and by error: {@link Svd} says what they do. */
final class TruncatedSvd implements AutoCloseable {
    /** A is rounded finely enough to lead to a result whose error is at least 1 / COARSE of what rounding loses. */
    private static final double COARSE = 0.25;
    /** And so finely that products with it may stand in the result: a share of the error, to be added in squares. */
    private static final double FINE = 0.1;
    /** Singular vectors whose products are then taken with A itself all the same. */
    private static final int LEADING = 16;

    private final LinearAlgebra la;
    private final Jacobi jacobi;
    private final Triplets triplets;
    private final FullSvd full;
    private final Certifier certifier;
    private Rounded held;

    TruncatedSvd(LinearAlgebra la, Jacobi jacobi, Triplets triplets, FullSvd full, Certifier certifier) {
        this.la = la;
        this.jacobi = jacobi;
        this.triplets = triplets;
        this.full = full;
        this.certifier = certifier;
    }

    @Override
    public void close() {
        if (held != null) {
            held.close();
        }
    }

    /** By rank if {@code error} is 0 and by error otherwise; {@code rank} is the limit. */
    Certificate decompose(View a, long rows, long cols, long rank, double error, Options options, MemorySegment u,
            MemorySegment s, MemorySegment vt) {
        long least = Math.min(rows, cols);
        int exponent = least == 0 ? 0 : la.exponent(a, rows, cols);
        double squares = least == 0 ? 0 : LinearAlgebra.sum(la.buffer("sums", rows), rows);
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
            return certifier.measure(a, rows, cols, 0, u, s, vt, norm, _ -> norm, 0, exponent, norm, options);
        }
        long block = Math.max(16, (rank / 4 + 7) / 8 * 8);
        if (error > 0) {
            block = Math.min(64, block);
        }
        double resolved = a.type() == DType.F32 ? 1e-5 : 1e-12;
        boolean hopeless = error > 0 && error < resolved;
        if (least <= 2 * Svd.SMALL || 5 * rank >= 2 * least && error == 0 || hopeless) {
            return throughFull(a, rows, cols, rank, error, options, u, s, vt);
        }
        long room = Math.min(least / 2 + block, 2 * rank + 3 * block + 64);
        long most = Math.max(rank + block, rank * (1 + options.iterations()) / 2 + rank / 2);
        Krylov k = new Krylov(la, jacobi, triplets, x, rows, cols, block, room, options.seed());
        double excess = Double.NaN;
        if (error > 0) {
            while (squares - k.gram.squares > allowed && k.gram.size < 2 * rank) {
                if (k.gram.size + block > room) {
                    return throughFull(a, rows, cols, rank, error, options, u, s, vt);
                }
                k.step();
            }
        } else if (la.onDevice(2.0 * (options.iterations() + 1) * rows * cols * (rank + block))) {
            k.range(rank + block, options.iterations());
        } else {
            Approach approach = new Approach(squares, resolved, options.tolerance());
            if (!rounded(k, rank, most, approach, options)) {
                approach = new Approach(squares, resolved, options.tolerance());
                int steps = -1;
                while (steps != 0 && k.gram.size + block <= room && (k.gram.size < most || k.gram.size < rank + block)) {
                    k.step();
                    if (k.gram.size >= rank && options.tolerance() > 0) {
                        steps = approach.steps(k.gram.largest(rank));
                    }
                }
            }
            excess = approach.excess;
        }
        long found = k.decompose(rank, allowed, error > 0, squares, exponent, u, s, vt);
        double norm = squares;
        int scale = exponent;
        Certificate c = certifier.measure(a, rows, cols, found, u, s, vt, Math.scalb(Math.sqrt(Math.max(0, k.left)), exponent),
                measured -> Math.scalb(new Bound(la, k, norm, found, u, s, vt, scale).of(Math.scalb(measured, -scale)), scale),
                Math.scalb(excess, exponent), exponent, Math.scalb(Math.sqrt(squares), exponent), options);
        if (error > 0 && options.certify() && found < rank && c.error() > error * c.norm()) {
            // The norms did not resolve the error: rounding decides.
            return throughFull(a, rows, cols, rank, error, options, u, s, vt);
        }
        return c;
    }

    /**
     * Starts with the left vectors that a search with A rounded finds.
     *
     * @return whether A is rounded finely enough to find them; if not, nothing was done
     */
    private boolean rounded(Krylov k, long rank, long most, Approach approach, Options options) {
        if (!Rounded.serves(k.type, k.rows, k.cols)) {
            return false;
        }
        if (held == null || held.rows != k.rows || held.cols != k.cols || held.block != k.block) {
            if (held != null) {
                held.close();
            }
            held = new Rounded(la, k.rows, k.cols, k.block);
        }
        held.pack(k.a, la.buffer("sums", k.rows));
        RoundedSearch search = new RoundedSearch(la, held, k.room, options.seed());
        int planned = -1;
        int done = 0;
        while (planned != done && search.t.size + k.block <= k.room && (search.t.size < most || search.t.size < rank + k.block)) {
            if (!search.step()) {
                return false;
            }
            if (planned >= 0) {
                done++;
            } else if (search.t.size >= rank) {
                planned = approach.steps(search.t.largest(rank));
                if (COARSE * COARSE * approach.known * approach.known < held.squaredError) {
                    return false;
                }
            }
        }
        search.vectors(rank, k.q);
        boolean fine = options.tolerance() > 0 && search.lost * rank / search.t.size <= FINE * FINE * approach.known * approach.known;
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
        full.decompose(a, rows, cols, fullU, fullS, fullVt);
        double largest = LinearAlgebra.get(type, fullS, 0);
        double[] squares = new double[(int) r]; // of the singular values, relative to the largest
        double total = 0;
        for (int i = 0; i < r; i++) {
            double share = largest == 0 ? 0 : LinearAlgebra.get(type, fullS, i) / largest;
            squares[i] = share * share;
            total += squares[i];
        }
        int found = (int) rank;
        double rest = 0;
        for (int i = squares.length - 1; i >= 0; i--) {
            rest += squares[i];
            if (error > 0 && i < found && rest <= error * error * total) {
                found = i;
            }
        }
        double cut = 0;
        for (int i = squares.length - 1; i >= found; i--) {
            cut += squares[i];
        }
        for (long i = 0; i < rows; i++) {
            MemorySegment.copy(fullU, type.bytes(i * r), u, type.bytes(i * found), type.bytes(found));
        }
        MemorySegment.copy(fullS, 0, s, 0, type.bytes(found));
        MemorySegment.copy(fullVt, 0, vt, 0, type.bytes(found * cols));
        double best = Math.sqrt(cut) * largest;
        return certifier.measure(a, rows, cols, found, u, s, vt, best, _ -> best, 0, la.exponent(a, rows, cols), Math.sqrt(total) * largest,
                options);
    }
}
