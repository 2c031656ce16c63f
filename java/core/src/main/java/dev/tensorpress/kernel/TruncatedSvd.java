package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;

import dev.tensorpress.bindings.Kernels;
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
    /** The smaller side of a matrix known by its products up to which its Gram matrix is made. */
    private static final int GRAM = 512;
    /** And up to which it can be made at all. */
    private static final long LARGEST = 1 << 15;
    /** Columns of that which are made at once. */
    private static final long UNITS = 64;

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
        long block = block(rank);
        if (error > 0) {
            block = Math.min(64, block);
        }
        double resolved = a.type() == DType.F32 ? 1e-5 : 1e-12;
        boolean hopeless = error > 0 && error < resolved;
        if (least <= 2 * Svd.SMALL || 5 * rank >= 2 * least && error == 0 || hopeless) {
            return throughFull(a, rows, cols, rank, error, options, u, s, vt);
        }
        long room = room(least, rank, block);
        long most = most(rank, block, options);
        Krylov k = new Krylov(la, jacobi, triplets, new DenseOperand(la, x, rows, cols), block, room, options.seed());
        double excess = Double.NaN;
        if (error > 0) {
            while (squares - k.gram.squares > allowed && k.gram.size < 2 * rank) {
                if (k.gram.size + block > room) {
                    return throughFull(a, rows, cols, rank, error, options, u, s, vt);
                }
                k.step();
            }
        } else if (la.onDevice(2.0 * (options.iterations() + 1) * rows * cols * (rank + block))) {
            k.range(x, rank + block, options.iterations());
        } else {
            Approach approach = new Approach(squares, resolved, options.tolerance());
            if (!rounded(k, x, rank, most, approach, options)) {
                approach = new Approach(squares, resolved, options.tolerance());
                search(k, rank, room, most, approach);
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
     * The same by rank, of a matrix that is known by its products: its singular values are neither extremely small nor extremely large, and nothing
     * is measured.
     *
     * @param squares ||A||_F^2
     */
    Certificate decompose(Operand a, double squares, long rank, Options options, MemorySegment u, MemorySegment s, MemorySegment vt) {
        long least = Math.min(a.rows(), a.cols());
        double left = 0;
        double excess = 0;
        if (throughGram(least, rank)) {
            left = throughGram(a, squares, rank, u, s, vt);
        } else {
            long block = block(rank);
            long room = room(least, rank, block);
            Krylov k = new Krylov(la, jacobi, triplets, a, block, room, options.seed());
            Approach approach = new Approach(squares, 1e-12, options.tolerance());
            search(k, rank, room, Long.MAX_VALUE, approach);
            k.decompose(rank, 0, false, squares, 0, u, s, vt);
            left = k.left;
            excess = approach.excess;
        }
        double known = Math.sqrt(Math.max(0, left));
        return new Certificate(rank, Math.sqrt(squares), known, Double.NaN, Math.max(0, known - excess), Double.NaN, Double.NaN);
    }

    /**
     * Right singular vectors vt [rank, cols] and singular values s alone, of the accuracy that the Gram matrix has where that is of the columns: relative
     * to the largest.
     */
    void right(Operand a, double squares, long rank, Options options, MemorySegment s, MemorySegment vt) {
        if (!throughGram(Math.min(a.rows(), a.cols()), rank) || a.rows() <= a.cols()) {
            decompose(a, squares, rank, options, la.buffer("left vectors", a.rows() * rank), s, vt);
            return;
        }
        long cols = a.cols();
        MemorySegment values = la.buffer("gram values", cols);
        MemorySegment vectors = la.buffer("gram vectors", cols * cols);
        la.symmetricEigen(cols, gram(a), values, vectors);
        MemorySegment lefts = la.buffer("gram between", UNITS * a.rows());
        MemorySegment peaks = la.buffer("peaks", UNITS);
        MemorySegment signs = la.buffer("signs", rank);
        for (long first = 0; first < rank; first += UNITS) {
            long count = Math.min(UNITS, rank - first);
            a.forward(View.of(LinearAlgebra.at(vectors, first * cols), cols), lefts, count);
            la.spread("tp_row_peaks", count, 1, 2.0 * count * a.rows(), Native.Cost.of(8 * count * a.rows(), 8 * count), (begin, end, worker) ->
                    Kernels.tp_row_peaks(count, a.rows(), a.rows(), begin, end, lefts, peaks));
            for (long i = 0; i < count; i++) {
                signs.setAtIndex(JAVA_DOUBLE, first + i, peaks.getAtIndex(JAVA_DOUBLE, i) < 0 ? -1 : 1);
                s.setAtIndex(JAVA_DOUBLE, first + i, Math.sqrt(Math.max(0, values.getAtIndex(JAVA_DOUBLE, first + i))));
            }
        }
        la.copy(View.of(vectors, cols), rank, cols, View.of(vt, cols), false, 1, MemorySegment.NULL, signs);
    }

    private static long block(long rank) {
        return Math.max(16, (rank / 4 + 7) / 8 * 8);
    }

    /** Vectors that there may be of a Krylov space. */
    private static long room(long least, long rank, long block) {
        return Math.min(least / 2 + block, 2 * rank + 3 * block + 64);
    }

    private static long most(long rank, long block, Options options) {
        return Math.max(rank + block, rank * (1 + options.iterations()) / 2 + rank / 2);
    }

    /** Step by step, until the error hardly falls any more. */
    private static void search(Krylov k, long rank, long room, long most, Approach approach) {
        int steps = -1;
        while (steps != 0 && k.gram.size + k.block <= room && (k.gram.size < most || k.gram.size < rank + k.block)) {
            k.step();
            if (k.gram.size >= rank && approach.tolerance > 0) {
                steps = approach.steps(k.gram.largest(rank));
            }
        }
    }

    /** Whether the Gram matrix of the smaller side is the way to so many singular values of a matrix known by its products. */
    private static boolean throughGram(long least, long rank) {
        boolean through = least <= GRAM || 5 * rank >= 2 * least;
        if (through && least > LARGEST) {
            throw new IllegalArgumentException("so many components take a Gram matrix, whose side may be at most " + LARGEST + ", but would be " + least);
        }
        return through;
    }

    /** Lower triangle of A A^T, or if A has fewer columns A^T A: from products with unit vectors. */
    private MemorySegment gram(Operand a) {
        boolean wide = a.rows() <= a.cols();
        long least = Math.min(a.rows(), a.cols());
        MemorySegment g = la.buffer("gram of operand", least * least);
        MemorySegment between = la.buffer("gram between", UNITS * Math.max(a.rows(), a.cols()));
        MemorySegment units = la.buffer("gram units", UNITS * least);
        for (long first = 0; first < least; first += UNITS) {
            long count = Math.min(UNITS, least - first);
            units.asSlice(0, count * least * 8).fill((byte) 0);
            for (long i = 0; i < count; i++) {
                units.setAtIndex(JAVA_DOUBLE, i * least + first + i, 1);
            }
            MemorySegment to = LinearAlgebra.at(g, first * least);
            if (wide) {
                a.backward(units, between, count);
                a.forward(View.of(between, a.cols()), to, count);
            } else {
                a.forward(View.of(units, least), between, count);
                a.backward(between, to, count);
            }
        }
        return g;
    }

    /** Starts with the eigenvectors of the Gram matrix; returns what is left of the squares. */
    private double throughGram(Operand a, double squares, long rank, MemorySegment u, MemorySegment s, MemorySegment vt) {
        boolean wide = a.rows() <= a.cols();
        long least = Math.min(a.rows(), a.cols());
        long most = Math.max(a.rows(), a.cols());
        MemorySegment values = la.buffer("gram values", least);
        MemorySegment vectors = la.buffer("gram vectors", least * least);
        la.symmetricEigen(least, gram(a), values, vectors);
        double left = squares;
        for (long i = 0; i < rank; i++) {
            left -= Math.max(0, values.getAtIndex(JAVA_DOUBLE, i));
        }
        MemorySegment w = la.buffer("gram w", rank * most);
        if (wide) {
            a.backward(vectors, w, rank);
        } else {
            a.forward(View.of(vectors, least), w, rank);
        }
        double threshold = 4 * 0x1p-53 * least;
        double negligible = Math.max(0x1p-1000, threshold * threshold * Math.max(0, values.getAtIndex(JAVA_DOUBLE, 0)));
        // Eigenvectors of a Gram matrix are accurate relative to the largest.
        jacobi.run(rank, w, most, vectors, least, 8 * 0x1p-53 * Math.sqrt(most), negligible);
        triplets.finish(DType.F64, rank, w, most, vectors, least, !wide, null, negligible, 0, a.rows(), a.cols(), rank, u, s, vt);
        return left;
    }

    /**
     * Starts with the left vectors that a search with A rounded finds.
     *
     * @return whether A is rounded finely enough to find them; if not, nothing was done
     */
    private boolean rounded(Krylov k, View a, long rank, long most, Approach approach, Options options) {
        if (!Rounded.serves(k.type, k.rows, k.cols)) {
            return false;
        }
        if (held == null || held.rows != k.rows || held.cols != k.cols || held.block != k.block) {
            if (held != null) {
                held.close();
            }
            held = new Rounded(la, k.rows, k.cols, k.block);
        }
        held.pack(a, la.buffer("sums", k.rows));
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
