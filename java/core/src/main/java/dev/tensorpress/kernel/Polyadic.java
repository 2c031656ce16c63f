package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.tensorpress.kernel.LinearAlgebra.Product;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.kernel.Tucker.Options;
import dev.tensorpress.kernel.Tucker.Result;
import dev.tensorpress.kernel.Tucker.Size;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;

/**
 * The canonical polyadic decomposition: the kernel W [outputs, inputs, places] of a convolution as a sum of products a<sub>t</sub>[output]
 * s<sub>t</sub>[place] b<sub>t</sub>[input], by alternating least squares (as Lebedev et al. 2015). These are three convolutions: each input
 * to terms, each term by itself over the window, terms to outputs. A window is one factor, not one for its rows and one for its columns:
 * its places are few, and a factor for all of them loses less.
 *
 * <p>Each step solves for one factor, given the others, and is held to where it was by 1e-6 of the mean of the diagonal that it solves by;
 * so the error never rises, and solutions exist where terms grow alike. After each sweep the three vectors of a term have one norm. The start
 * of inputs are W's leading singular vectors, that of places, and of more inputs than there are, normal numbers of seed 0.
 *
 * <p>Everything is f64 inside; factors are returned in f32, and the error is measured after that. It is a local minimum, or where the
 * iterations ended. Places with next to nothing are left out as {@link Tucker} does, and terms beyond those that then suffice are 0. Results are the same
 * for any number of threads. NaN and infinity are a {@link KernelException} with status {@link
 * KernelException#NONFINITE}; wrong sizes are {@link IllegalArgumentException}s. Memory, which the linear algebra keeps, is 8 bytes for each
 * of outputs times places times the larger of inputs and rank, and four matrices [rank, rank].
 */
public final class Polyadic {
    /** Of the mean of the diagonal, by which a step is held to where it was. */
    private static final double HELD = 1e-6;

    private final LinearAlgebra la;

    /** @param algebra must outlive this object */
    public Polyadic(LinearAlgebra algebra) {
        la = algebra;
    }

    /** At most 300 sweeps, and 1e-4 of the squared error. */
    public static final Options DEFAULT = new Options(300, 1e-4);

    /** Elements of the factors. */
    public static long elements(Size size, long rank) {
        return Math.multiplyExact(rank, size.outputs() + size.places() + size.inputs());
    }

    /** Terms that always suffice: the product of the two smallest sides. */
    public static long mostTerms(Size size) {
        return size.elements() / Math.max(size.places(), Math.max(size.outputs(), size.inputs()));
    }

    /**
     * The factors of a kernel.
     *
     * @param w f32 [outputs, places, inputs] without gaps: {@link Tucker#channelsLast}
     * @param rank how many terms, 1 to {@link #mostTerms}
     * @param a f32 [outputs, rank], out, without gaps as all of these
     * @param s f32 [rank, places], out
     * @param b f32 [rank, inputs], out
     */
    public Result decompose(Size size, MemorySegment w, long rank, Options options, MemorySegment a, MemorySegment s, MemorySegment b) {
        long most = mostTerms(size);
        if (rank < 1 || rank > most) {
            throw new IllegalArgumentException("the rank must be in 1 .. " + most + ", but is " + rank);
        }
        Native.result("a", a, DType.F32, size.outputs(), rank, rank, la.executor);
        Native.result("s", s, DType.F32, rank, size.places(), size.places(), la.executor);
        Native.result("b", b, DType.F32, rank, size.inputs(), size.inputs(), la.executor);
        int[] places = Tucker.places(size, w, la);
        a.asSlice(0, 4 * rank * size.outputs()).fill((byte) 0);
        s.asSlice(0, 4 * rank * size.places()).fill((byte) 0);
        b.asSlice(0, 4 * rank * size.inputs()).fill((byte) 0);
        if (places.length == 0) {
            return new Result(0, 0, 0, true);
        }
        Size some = new Size(size.outputs(), size.inputs(), places.length);
        MemorySegment there = Tucker.some(size, w, places, la);
        double squares = la.sumOfSquares(new View(DType.F32, there, some.places() * some.inputs()), some.outputs(), some.places() * some.inputs());
        Sweeps sweeps = new Sweeps(some, there, Math.min(rank, mostTerms(some)), squares);
        Result result = sweeps.run(options);
        sweeps.hand(a, s, b, rank, places, Math.toIntExact(size.places()));
        return Tucker.whole(result, size, w, places, la);
    }

    /** The state of one decomposition. Factors are [rank, side]. */
    private final class Sweeps {
        final long m;
        final long n;
        final int k;
        final long r;
        final double squares;
        final MemorySegment w;
        final MemorySegment at;
        final MemorySegment st;
        final MemorySegment bt;
        /** W by B: [outputs, places, rank]; or A by S: [rank, outputs, places]. */
        final MemorySegment partial;
        final MemorySegment right;
        final MemorySegment gramA;
        final MemorySegment gramS;
        final MemorySegment gramB;

        Sweeps(Size size, MemorySegment w, long rank, double squares) {
            m = size.outputs();
            n = size.inputs();
            k = Math.toIntExact(size.places());
            r = rank;
            this.w = w;
            this.squares = squares;
            at = la.buffer("polyadic a", r * m);
            st = la.buffer("polyadic s", r * k);
            bt = la.buffer("polyadic b", r * n);
            partial = la.buffer("polyadic partial", m * k * Math.max(r, n));
            right = la.buffer("polyadic right", r * Math.max(k, Math.max(m, n)));
            gramA = la.buffer("polyadic gram a", r * r);
            gramS = la.buffer("polyadic gram s", r * r);
            gramB = la.buffer("polyadic gram b", r * r);
        }

        Result run(Options options) {
            at.asSlice(0, 8 * r * m).fill((byte) 0); // solved for first, and held to nothing
            start();
            la.gaussian(0, 1, r * k, DType.F64, st);
            gram(st, k, gramS);
            gram(bt, n, gramB);
            double lost = squares;
            int iterations = 0;
            boolean converged = false;
            while (!converged && iterations < options.iterations()) {
                sweep();
                iterations++;
                double now = Math.max(0, squares - 2 * dot(right, bt, r * n) + model());
                converged = lost - now <= options.tolerance() * lost || now <= 1e-14 * squares;
                lost = now;
                balance();
            }
            round(at, m);
            round(st, k);
            round(bt, n);
            return new Result(Math.sqrt(squares), error(), iterations, converged);
        }

        /** Factors of so many terms, with these places of all. */
        void hand(MemorySegment a, MemorySegment s, MemorySegment b, long rank, int[] places, int all) {
            la.copy(View.of(at, m), r, m, new View(DType.F32, a, rank), true, 1, MemorySegment.NULL, MemorySegment.NULL);
            la.copy(View.of(bt, n), r, n, new View(DType.F32, b, n), false, 1, MemorySegment.NULL, MemorySegment.NULL);
            double[] window = array(st, 0, r * k);
            float[] wide = new float[Math.toIntExact(r * all)];
            for (int i = 0; i < window.length; i++) {
                wide[i / k * all + places[i % k]] = (float) window[i];
            }
            MemorySegment.copy(wide, 0, s, JAVA_FLOAT, 0, wide.length);
        }

        // Arrays, since elements of segments cost ten times as much before the second compiler.

        private static double[] array(MemorySegment x, long from, long count) {
            return x.asSlice(8 * from, 8 * count).toArray(JAVA_DOUBLE);
        }

        private static void put(double[] from, MemorySegment to, long at) {
            MemorySegment.copy(from, 0, to, JAVA_DOUBLE, 8 * at, from.length);
        }

        /** B: singular vectors first, then normal numbers. */
        private void start() {
            la.gaussian(0, 2, r * n, DType.F64, bt);
            MemorySegment gram = la.buffer("tucker gram", n * n);
            MemorySegment values = la.buffer("tucker values", n);
            MemorySegment vectors = la.buffer("tucker vectors", n * n);
            la.gram(new View(DType.F32, w, n), true, n, m * k, 1, gram);
            la.symmetricEigen(n, gram, values, vectors);
            MemorySegment.copy(vectors, 0, bt, 0, 8 * n * Math.min(r, n));
        }

        private void sweep() {
            la.product(new View(DType.F32, w, n), false, View.of(bt, n), true, partial, m * k, r, n);
            int terms = Math.toIntExact(r);
            double[] s = array(st, 0, r * k);
            // For A: sums over places, [outputs, rank] at first.
            double[] sums = new double[Math.toIntExact(m * r)];
            la.executor.run(m, 1, Executor.worth(k * r), (begin, end, worker) -> {
                for (long o = begin; o < end; o++) {
                    double[] x = array(partial, o * k * r, k * r);
                    int to = (int) o * terms;
                    for (int p = 0, i = 0; p < k; p++) {
                        for (int t = 0; t < terms; t++) {
                            sums[to + t] += x[i++] * s[t * k + p];
                        }
                    }
                }
            });
            MemorySegment turned = la.buffer("polyadic turned", m * r);
            put(sums, turned, 0);
            la.copy(View.of(turned, r), m, r, View.of(right, m), true, 1, MemorySegment.NULL, MemorySegment.NULL);
            solve(gramS, gramB, m, at, gramA);
            // For S: sums over outputs, in their order.
            la.copy(View.of(at, m), r, m, View.of(turned, r), true, 1, MemorySegment.NULL, MemorySegment.NULL);
            double[] window = new double[Math.toIntExact(r * k)];
            for (long o = 0; o < m; o++) {
                double[] x = array(partial, o * k * r, k * r);
                double[] y = array(turned, o * r, r);
                for (int p = 0, i = 0; p < k; p++) {
                    for (int t = 0; t < terms; t++) {
                        window[t * k + p] += x[i++] * y[t];
                    }
                }
            }
            put(window, right, 0);
            solve(gramA, gramB, k, st, gramS);
            // For B: of each term the matrix of A's and S's vectors, by W.
            double[] places = array(st, 0, r * k);
            double[] both = new double[Math.toIntExact(m * k)];
            for (int t = 0; t < terms; t++) {
                double[] x = array(at, t * m, m);
                for (int o = 0, i = 0; o < m; o++) {
                    for (int p = 0; p < k; p++) {
                        both[i++] = x[o] * places[t * k + p];
                    }
                }
                put(both, partial, t * m * k);
            }
            la.product(View.of(partial, m * k), false, new View(DType.F32, w, n), false, right, r, n, m * k);
            solve(gramA, gramS, n, bt, gramB);
        }

        /** F = (H + d I)^-1 (M + d F), H being the element by element product of the others' Gram matrices, M what is in "right". */
        private void solve(MemorySegment one, MemorySegment other, long side, MemorySegment factor, MemorySegment gram) {
            MemorySegment h = la.buffer("polyadic h", r * r);
            double[] row = new double[Math.toIntExact(r)];
            double trace = 0;
            for (long i = 0; i < r; i++) {
                trace += one.getAtIndex(JAVA_DOUBLE, i * r + i) * other.getAtIndex(JAVA_DOUBLE, i * r + i);
            }
            double held = HELD * trace / r;
            while (true) {
                for (int i = 0; i < r; i++) {
                    double[] x = one.asSlice(8 * i * r, 8 * r).toArray(JAVA_DOUBLE);
                    double[] y = other.asSlice(8 * i * r, 8 * r).toArray(JAVA_DOUBLE);
                    for (int j = 0; j < r; j++) {
                        row[j] = x[j] * y[j];
                    }
                    row[i] += held;
                    MemorySegment.copy(row, 0, h, JAVA_DOUBLE, 8 * i * r, row.length);
                }
                if (la.cholesky(r, h)) {
                    break;
                }
                held = 10 * held + Double.MIN_NORMAL;
            }
            MemorySegment inverse = la.buffer("polyadic inverse", r * r);
            inverse.asSlice(0, 8 * r * r).fill((byte) 0);
            for (long i = 0; i < r; i++) {
                inverse.setAtIndex(JAVA_DOUBLE, i * r + i, 1);
            }
            la.solve(r, h, r, inverse);
            // The inverse is N N^T, N = L^-T being what was solved for.
            MemorySegment sum = la.buffer("polyadic sum", r * side);
            MemorySegment half = la.buffer("polyadic half", r * side);
            for (long t = 0; t < r; t++) {
                double[] x = right.asSlice(8 * t * side, 8 * side).toArray(JAVA_DOUBLE);
                double[] y = factor.asSlice(8 * t * side, 8 * side).toArray(JAVA_DOUBLE);
                for (int i = 0; i < side; i++) {
                    x[i] += held * y[i];
                }
                MemorySegment.copy(x, 0, sum, JAVA_DOUBLE, 8 * t * side, x.length);
            }
            la.product(View.of(inverse, r), true, View.of(sum, side), false, half, r, side, r);
            la.product(View.of(inverse, r), false, View.of(half, side), false, factor, r, side, r);
            gram(factor, side, gram);
        }

        private void gram(MemorySegment factor, long side, MemorySegment gram) {
            la.product(View.of(factor, side), false, View.of(factor, side), true, gram, r, r, side);
        }

        /** The square of the norm of what the factors make. */
        private double model() {
            double sum = 0;
            for (long i = 0; i < r; i++) {
                double[] x = gramA.asSlice(8 * i * r, 8 * r).toArray(JAVA_DOUBLE);
                double[] y = gramS.asSlice(8 * i * r, 8 * r).toArray(JAVA_DOUBLE);
                double[] z = gramB.asSlice(8 * i * r, 8 * r).toArray(JAVA_DOUBLE);
                for (int j = 0; j < r; j++) {
                    sum += x[j] * y[j] * z[j];
                }
            }
            return sum;
        }

        /** Of the rows of each factor one norm. */
        private void balance() {
            double[][] by = new double[3][Math.toIntExact(r)];
            for (int t = 0; t < r; t++) {
                double a = Math.sqrt(gramA.getAtIndex(JAVA_DOUBLE, t * r + t));
                double s = Math.sqrt(gramS.getAtIndex(JAVA_DOUBLE, t * r + t));
                double b = Math.sqrt(gramB.getAtIndex(JAVA_DOUBLE, t * r + t));
                double norm = Math.cbrt(a * s * b);
                by[0][t] = norm > 0 ? norm / a : 1;
                by[1][t] = norm > 0 ? norm / s : 1;
                by[2][t] = norm > 0 ? norm / b : 1;
            }
            scale(at, m, gramA, by[0]);
            scale(st, k, gramS, by[1]);
            scale(bt, n, gramB, by[2]);
        }

        private void scale(MemorySegment factor, long side, MemorySegment gram, double[] by) {
            for (int t = 0; t < by.length; t++) {
                double[] x = array(factor, t * side, side);
                for (int i = 0; i < x.length; i++) {
                    x[i] *= by[t];
                }
                put(x, factor, t * side);
                double[] y = array(gram, t * r, r);
                for (int i = 0; i < y.length; i++) {
                    y[i] *= by[t] * by[i];
                }
                put(y, gram, t * r);
            }
        }

        private double dot(MemorySegment x, MemorySegment y, long count) {
            double[] a = array(x, 0, count);
            double[] b = array(y, 0, count);
            double sum = 0;
            for (int i = 0; i < a.length; i++) {
                sum += a[i] * b[i];
            }
            return sum;
        }

        /** To f32 and back, for what is left to be measured. */
        private void round(MemorySegment factor, long side) {
            double[] x = array(factor, 0, r * side);
            for (int i = 0; i < x.length; i++) {
                x[i] = (float) x[i];
            }
            put(x, factor, 0);
        }

        /** Place by place, since W less all of it is wanted: A [outputs, rank] by rows of B, times the window's. */
        private double error() {
            MemorySegment rest = partial;
            la.copy(new View(DType.F32, w, k * n), m, k * n, View.of(rest, k * n), false, 1, MemorySegment.NULL, MemorySegment.NULL);
            for (int p = 0; p < k; p++) {
                for (long t = 0; t < r; t++) {
                    double s = st.getAtIndex(JAVA_DOUBLE, t * k + p);
                    double[] x = at.asSlice(8 * t * m, 8 * m).toArray(JAVA_DOUBLE);
                    for (int o = 0; o < m; o++) {
                        x[o] *= s;
                    }
                    MemorySegment.copy(x, 0, right, JAVA_DOUBLE, 8 * t * m, x.length);
                }
                la.multiply(new Product(View.of(right, m), true, View.of(bt, n), false, rest.asSlice(8 * p * n), k * n, m, n, r, false, -1, 1));
            }
            return Math.sqrt(la.sumOfSquares(View.of(rest, k * n), m, k * n));
        }
    }
}
