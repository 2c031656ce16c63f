package dev.tensorpress.kernel;

import dev.tensorpress.kernel.LinearAlgebra.Product;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.stream.IntStream;

/**
 * Tucker-2: the kernel W [outputs, inputs, places] of a convolution as U [outputs, r], a core C [r, q, places] and V [q, inputs], which are
 * three convolutions one after the other, by higher-order orthogonal iteration (De Lathauwer, De Moor and Vandewalle 2000; Kim et al. 2016).
 * Of the smaller one of U and V the leading singular vectors of W's own unfolding are the start; then each of both in turn gets the leading
 * ones of what is left of W by the other, until the error falls no more. A rank that is a side's own leaves it as it is: its factor is the
 * unit matrix. Each step is the best one for the other's factor, so that the
 * error never rises; that the result is the best of all is not promised. Where one rank is as large as the other one lets any be, as places
 * times the rank of outputs is for inputs, singular vectors for the other are the best there is, and nothing is iterated.
 *
 * <p>Everything is f64 inside, and vectors come from Gram matrices of the smaller side: singular values below 1e-8 of the largest are
 * not told from 0, which moves errors by no more than that part of W's norm. Places that together hold less than 1e-20 of the squares are left
 * out, and are 0 in C. What is returned is rounded to f32, and its error is
 * measured after that. The rows of V and the columns of U are orthonormal to 1e-6, those of 0 apart that there are where a rank is more than the
 * places that are left admit.
 *
 * <p>Results are the same for any number of threads. NaN and infinity are a {@link KernelException} with status {@link
 * KernelException#NONFINITE}; wrong sizes are {@link IllegalArgumentException}s. Memory is 16 bytes for each element of W, and what the
 * Gram matrices and intermediate products take; it is kept by the linear algebra, whose threads these are.
 */
public final class Tucker {
    /** Of all squares, what may be left out. */
    private static final double NOTHING = 1e-20;
    /** Of the largest eigenvalue of a Gram matrix, what is far enough from 0 for its vector to be one of the other side. */
    private static final double SAFE = 1e-8;

    private final LinearAlgebra la;

    /** @param algebra must outlive this object */
    public Tucker(LinearAlgebra algebra) {
        la = algebra;
    }

    /**
     * Sides of a kernel, at least 1 each.
     *
     * @param places of a window: its height times its width
     */
    public record Size(long outputs, long inputs, long places) {
        public Size {
            if (outputs < 1 || inputs < 1 || places < 1 || Math.max(outputs, inputs) > 1 << 15) {
                throw new IllegalArgumentException("no kernel of " + outputs + " outputs, " + inputs + " inputs and " + places + " places");
            }
            Math.multiplyExact(Math.multiplyExact(outputs, inputs), Math.multiplyExact(places, 8));
        }

        public long elements() {
            return outputs * inputs * places;
        }
    }

    /**
     * Ranks of the two sides of a core.
     *
     * @param outputs 1 to the kernel's outputs, and to places times inputs
     * @param inputs 1 to the kernel's inputs, and to places times outputs
     */
    public record Ranks(long outputs, long inputs) {
        /** @throws IllegalArgumentException if no kernel of this size has such ranks */
        public void check(Size size) {
            if (outputs < 1 || inputs < 1 || outputs > size.outputs || inputs > size.inputs
                    || outputs > inputs * size.places || inputs > outputs * size.places) {
                throw new IllegalArgumentException("a kernel of " + size.outputs + " outputs, " + size.inputs + " inputs and " + size.places
                        + " places has no ranks " + outputs + " and " + inputs);
            }
        }

        /** Of the factors that there are: one without a smaller rank is the unit matrix, and none. */
        public long elements(Size size) {
            return (inputs == size.inputs ? 0 : inputs * size.inputs) + outputs * inputs * size.places
                    + (outputs == size.outputs ? 0 : outputs * size.outputs);
        }
    }

    /**
     * When to stop.
     *
     * @param iterations at most, each of both factors; at least 1
     * @param tolerance if the squared error falls by less than this part of itself, 0 to 1
     */
    public record Options(int iterations, double tolerance) {
        /** At most 100, and 1e-4: an error that falls by 5e-5 of itself. */
        public static final Options DEFAULT = new Options(100, 1e-4);

        public Options {
            if (iterations < 1 || !(tolerance >= 0 && tolerance <= 1)) {
                throw new IllegalArgumentException("no such options: " + iterations + " iterations, tolerance " + tolerance);
            }
        }
    }

    /**
     * How good factors are.
     *
     * @param norm Frobenius norm of W
     * @param error Frobenius norm of W less the product of the factors, as they are returned
     * @param iterations that it took
     * @param converged whether the tolerance was met
     */
    public record Result(double norm, double error, int iterations, boolean converged) {
        /** The error by the norm; 0 for a kernel of zeros. */
        public double relativeError() {
            return norm == 0 ? 0 : error / norm;
        }
    }

    /**
     * Turns kernels [outputs, inputs, places], as convolutions have them, to [outputs, places, inputs], as they are decomposed here; or back.
     *
     * @param in f32 without gaps, as is {@code out}, which may not be {@code in}
     * @param back whether {@code in} has its channels last
     */
    public static void channelsLast(Size size, MemorySegment in, boolean back, MemorySegment out, Executor executor) {
        long rows = back ? size.places : size.inputs;
        long cols = back ? size.inputs : size.places;
        Native.operand("in", in, DType.F32, size.outputs, rows * cols, rows * cols, executor);
        Native.result("out", out, DType.F32, size.outputs, rows * cols, rows * cols, executor);
        executor.run(size.outputs, 1, Executor.worth(rows * cols), (begin, end, worker) -> {
            float[] turned = new float[Math.toIntExact(rows * cols)];
            for (long o = begin; o < end; o++) {
                // Arrays, since elements of segments cost ten times as much before the second compiler.
                float[] x = in.asSlice(4 * o * rows * cols, 4 * rows * cols).toArray(ValueLayout.JAVA_FLOAT);
                for (int i = 0, at = 0; i < rows; i++) {
                    for (int j = 0; j < cols; j++) {
                        turned[(int) (j * rows + i)] = x[at++];
                    }
                }
                MemorySegment.copy(turned, 0, out, ValueLayout.JAVA_FLOAT, 4 * o * rows * cols, turned.length);
            }
        });
    }

    /**
     * The factors of a kernel.
     *
     * @param w f32 [outputs, places, inputs] without gaps: {@link #channelsLast}
     * @param u f32 [outputs, ranks.outputs], out, without gaps as all of these
     * @param core f32 [ranks.outputs, ranks.inputs, places], out
     * @param v f32 [ranks.inputs, inputs], out
     */
    public Result decompose(Size size, MemorySegment w, Ranks ranks, Options options, MemorySegment u, MemorySegment core, MemorySegment v) {
        ranks.check(size);
        long m = size.outputs;
        long n = size.inputs;
        long k = size.places;
        long r = ranks.outputs;
        long q = ranks.inputs;
        Native.result("u", u, DType.F32, m, r, r, la.executor);
        Native.result("core", core, DType.F32, r, q * k, q * k, la.executor);
        Native.result("v", v, DType.F32, q, n, n, la.executor);
        int[] places = places(size, w, la);
        if (places.length == 0) {
            u.asSlice(0, 4 * m * r).fill((byte) 0);
            core.asSlice(0, 4 * r * q * k).fill((byte) 0);
            v.asSlice(0, 4 * q * n).fill((byte) 0);
            return new Result(0, 0, 1, true);
        }
        Result result = new Steps(new Size(m, n, places.length), some(size, w, places, la), la).run(ranks, options, u, v, core, places, (int) k);
        return whole(result, size, w, places, la);
    }

    /** What is said of some places, of all. */
    static Result whole(Result some, Size size, MemorySegment w, int[] places, LinearAlgebra la) {
        if (places.length == size.places) {
            return some;
        }
        double norm = Math.sqrt(la.sumOfSquares(new View(DType.F32, w, size.places * size.inputs), size.outputs, size.places * size.inputs));
        double error = Math.sqrt(some.error * some.error + Math.max(0, norm * norm - some.norm * some.norm));
        return new Result(norm, error, some.iterations, some.converged);
    }

    /** Those that are not next to nothing; none of a kernel of zeros. */
    static int[] places(Size size, MemorySegment w, LinearAlgebra la) {
        long lines = size.outputs * size.places;
        int k = Math.toIntExact(size.places);
        MemorySegment sums = la.buffer("tucker sums", lines);
        la.rowNorms(new View(DType.F32, w, size.inputs), lines, size.inputs, sums, la.buffer("tucker largest", lines));
        double[] squares = sums.asSlice(0, 8 * lines).toArray(ValueLayout.JAVA_DOUBLE);
        double[] each = new double[k];
        double all = 0;
        for (int i = 0; i < squares.length; i++) {
            each[i % k] += squares[i];
            all += squares[i];
        }
        double least = NOTHING / k * all;
        return IntStream.range(0, k).filter(p -> each[p] > least).toArray();
    }

    /** W with these places alone. */
    static MemorySegment some(Size size, MemorySegment w, int[] places, LinearAlgebra la) {
        long k = size.places;
        long n = size.inputs;
        if (places.length == k) {
            return w;
        }
        MemorySegment some = la.buffer("tucker places", (size.outputs * places.length * n + 1) / 2);
        for (long o = 0; o < size.outputs; o++) {
            for (int p = 0; p < places.length; p++) {
                MemorySegment.copy(w, 4 * (o * k + places[p]) * n, some, 4 * (o * places.length + p) * n, 4 * n);
            }
        }
        return some;
    }

    /** The state of one decomposition. */
    private static final class Steps {
        private final LinearAlgebra la;
        private final long m;
        private final long n;
        private final long k;
        /** W [outputs, places times inputs], and [outputs times places, inputs]. */
        private final View rows;
        private final View lines;
        private final double squares;

        Steps(Size size, MemorySegment w, LinearAlgebra la) {
            this.la = la;
            m = size.outputs;
            n = size.inputs;
            k = size.places;
            rows = new View(DType.F32, w, k * n);
            lines = new View(DType.F32, w, n);
            squares = la.sumOfSquares(rows, m, k * n);
        }

        Result run(Ranks wanted, Options options, MemorySegment u, MemorySegment v, MemorySegment core, int[] places, int all) {
            long q = Math.min(wanted.inputs, wanted.outputs * k);
            long r = Math.min(wanted.outputs, q * k);
            MemorySegment ut = la.buffer("tucker u", wanted.outputs * m);
            MemorySegment vt = la.buffer("tucker v", wanted.inputs * n);
            MemorySegment left = la.buffer("tucker left", Math.max(wanted.outputs * k * n, m * k * wanted.inputs));
            int iterations = 1;
            boolean converged = true;
            boolean any = q == n || q == r * k;
            if (any) {
                leading(rows, false, m, k * n, r, ut);
                la.product(View.of(ut, m), false, rows, false, left, r, k * n, m);
                basis(left, q, n, vt);
            } else if (r == m || r == q * k) {
                leading(lines, true, n, m * k, q, vt);
                MemorySegment half = la.buffer("tucker half", m * k * q);
                la.product(lines, false, View.of(vt, n), true, half, m * k, q, n);
                la.transpose(View.of(half, k * q), m, k * q, left);
                basis(left, r, m, ut);
            } else {
                converged = false;
                iterations = 0;
                if (m <= n) {
                    leading(rows, false, m, k * n, r, ut);
                } else {
                    leading(lines, true, n, m * k, q, vt);
                }
                double lost = squares;
                for (int half = m <= n ? 0 : 1; !converged && iterations < options.iterations; half ^= 1) {
                    double kept;
                    if (half == 0) {
                        la.product(View.of(ut, m), false, rows, false, left, r, k * n, m);
                        kept = leading(View.of(left, n), true, n, r * k, q, vt);
                    } else {
                        la.product(lines, false, View.of(vt, n), true, left, m * k, q, n);
                        kept = leading(View.of(left, k * q), false, m, k * q, r, ut);
                    }
                    if (half == (m <= n ? 1 : 0)) {
                        iterations++;
                        double now = Math.max(0, squares - kept);
                        converged = lost - now <= options.tolerance * lost || now <= 1e-14 * squares;
                        lost = now;
                    }
                }
            }
            // What is more than can be.
            ut.asSlice(8 * r * m, 8 * (wanted.outputs - r) * m).fill((byte) 0);
            vt.asSlice(8 * q * n, 8 * (wanted.inputs - q) * n).fill((byte) 0);
            narrow(ut, wanted.outputs, m, true, u);
            narrow(vt, wanted.inputs, n, false, v);
            if (!any) {
                la.product(View.of(ut, m), false, rows, false, left, r, k * n, m);
            }
            MemorySegment wide = la.buffer("tucker core", r * k * q);
            la.product(View.of(left, n), false, View.of(vt, n), true, wide, r * k, q, n);
            MemorySegment turned = la.buffer("tucker turned", (r * k * q + 1) / 2);
            narrow(wide, r * k, q, false, turned);
            spread(turned, new Ranks(r, q), wanted, places, all, core);
            return new Result(Math.sqrt(squares), error(r, q, u, wanted.outputs, turned, v, left), iterations, converged);
        }

        /** C [r, q, places] of what has places before inputs, and fewer of all of them. */
        private void spread(MemorySegment turned, Ranks found, Ranks wanted, int[] places, int all, MemorySegment core) {
            int q = (int) found.inputs;
            float[] row = new float[Math.toIntExact(wanted.inputs * all)];
            for (long o = 0; o < found.outputs; o++) {
                float[] x = turned.asSlice(4 * o * k * q, 4 * k * q).toArray(ValueLayout.JAVA_FLOAT);
                for (int p = 0, at = 0; p < places.length; p++) {
                    for (int i = 0; i < q; i++) {
                        row[i * all + places[p]] = x[at++];
                    }
                }
                MemorySegment.copy(row, 0, core, ValueLayout.JAVA_FLOAT, 4 * o * row.length, row.length);
            }
            long from = 4 * found.outputs * row.length;
            core.asSlice(from, 4 * wanted.outputs * row.length - from).fill((byte) 0);
        }

        /** @param core with channels last */
        private double error(long r, long q, MemorySegment u, long stride, MemorySegment core, MemorySegment v, MemorySegment left) {
            la.product(new View(DType.F32, core, q), false, new View(DType.F32, v, n), false, left, r * k, n, q);
            MemorySegment rest = la.buffer("tucker rest", m * k * n);
            la.copy(rows, m, k * n, View.of(rest, k * n), false, 1, MemorySegment.NULL, MemorySegment.NULL);
            la.multiply(new Product(new View(DType.F32, u, stride), false, View.of(left, k * n), false, rest, k * n, m, k * n, r, false, -1, 1));
            return Math.sqrt(la.sumOfSquares(View.of(rest, k * n), m, k * n));
        }

        private void narrow(MemorySegment from, long rows, long cols, boolean transposed, MemorySegment to) {
            la.copy(View.of(from, cols), rows, cols, new View(DType.F32, to, transposed ? rows : cols), transposed, 1, MemorySegment.NULL,
                    MemorySegment.NULL);
        }

        /** Orthonormal rows [count, n] with the span of so many rows; all unit vectors if there are as many. */
        private void basis(MemorySegment of, long count, long n, MemorySegment vectors) {
            if (count == n) {
                unit(n, vectors);
            } else {
                MemorySegment.copy(of, 0, vectors, 0, 8 * count * n);
                la.orthonormalize(count, n, vectors);
            }
        }

        private static void unit(long n, MemorySegment vectors) {
            vectors.asSlice(0, 8 * n * n).fill((byte) 0);
            for (long i = 0; i < n; i++) {
                vectors.setAtIndex(ValueLayout.JAVA_DOUBLE, i * n + i, 1);
            }
        }

        /**
         * The leading left singular vectors of A [n, k], or of the transposed of A [k, n]; if all are wanted, unit vectors do.
         *
         * @param vectors [count, n], out: orthonormal rows
         * @return the sum of the squares of their singular values
         */
        private double leading(View a, boolean transposed, long n, long k, long count, MemorySegment vectors) {
            if (count == n) {
                unit(n, vectors);
                return la.sumOfSquares(a, transposed ? k : n, transposed ? n : k);
            }
            long side = Math.min(n, k);
            MemorySegment gram = la.buffer("tucker gram", side * side);
            MemorySegment values = la.buffer("tucker values", side);
            MemorySegment all = la.buffer("tucker vectors", side * side);
            la.gram(a, transposed == (n <= k), side, Math.max(n, k), 1, gram);
            la.symmetricEigen(side, gram, values, all);
            double[] kept = values.asSlice(0, 8 * count).toArray(ValueLayout.JAVA_DOUBLE);
            if (n <= k) {
                MemorySegment.copy(all, 0, vectors, 0, 8 * count * n);
            } else if (kept[(int) count - 1] > SAFE * kept[0]) {
                // Of length 1 and at right angles to 1e-16 / SAFE.
                MemorySegment factors = la.buffer("tucker factors", count);
                MemorySegment.copy(Arrays.stream(kept).map(x -> 1 / Math.sqrt(x)).toArray(), 0, factors, ValueLayout.JAVA_DOUBLE, 0, (int) count);
                MemorySegment scaled = la.buffer("tucker scaled", count * side);
                la.copy(View.of(all, side), count, side, View.of(scaled, side), false, 1, MemorySegment.NULL, factors);
                la.product(View.of(scaled, side), false, a, !transposed, vectors, count, n, k);
            } else {
                la.product(View.of(all, k), false, a, !transposed, vectors, count, n, k);
                la.orthonormalize(count, n, vectors);
            }
            return Arrays.stream(kept).map(x -> Math.max(0, x)).sum();
        }
    }
}
