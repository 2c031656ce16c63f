package dev.tensorpress.kernel;

import dev.tensorpress.kernel.LinearAlgebra.Product;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * Tucker-2: the kernel W [outputs, inputs, places] of a convolution as U [outputs, r], a core C [r, q, places] and V [q, inputs], which are
 * three convolutions one after the other, by higher-order orthogonal iteration (De Lathauwer, De Moor and Vandewalle 2000; Kim et al. 2016).
 * Of the smaller one of U and V the leading singular vectors of W's own unfolding are the start; then each of both in turn gets the leading
 * ones of what is left of W by the other, until the error falls no more. A rank that is a side's own leaves it as it is: its factor is the
 * unit matrix. Each step is the best one for the other's factor, so that the
 * error never rises; that the result is the best of all is not promised.
 *
 * <p>Everything is f64 inside, and vectors come from Gram matrices of the smaller side: singular values below 1e-8 of the largest are
 * not told from 0, which moves errors by no more than that part of W's norm. What is returned is rounded to f32, and its error is
 * measured after that. The rows of V and the columns of U are orthonormal to 1e-6.
 *
 * <p>Results are the same for any number of threads. NaN and infinity are a {@link KernelException} with status {@link
 * KernelException#NONFINITE}; wrong sizes are {@link IllegalArgumentException}s. Memory is 16 bytes for each element of W, and what the
 * Gram matrices and intermediate products take; it is kept by the linear algebra, whose threads these are.
 */
public final class Tucker {
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
        View rows = new View(DType.F32, w, k * n);
        View lines = new View(DType.F32, w, n);
        double squares = la.sumOfSquares(rows, m, k * n);
        MemorySegment ut = la.buffer("tucker u", r * m);
        MemorySegment vt = la.buffer("tucker v", q * n);
        MemorySegment left = la.buffer("tucker left", Math.max(r * k * n, m * k * q));
        if (m <= n) {
            leading(rows, false, m, k * n, r, ut);
        } else {
            leading(lines, true, n, m * k, q, vt);
        }
        double lost = squares;
        int iterations = 0;
        boolean converged = false;
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
        narrow(ut, r, m, true, u);
        narrow(vt, q, n, false, v);
        la.product(View.of(ut, m), false, rows, false, left, r, k * n, m);
        MemorySegment wide = la.buffer("tucker core", r * k * q);
        la.product(View.of(left, n), false, View.of(vt, n), true, wide, r * k, q, n);
        MemorySegment turned = la.buffer("tucker turned", (r * k * q + 1) / 2);
        narrow(wide, r * k, q, false, turned);
        channelsLast(new Size(r, q, k), turned, true, core, la.executor);
        double error = error(size, rows, ranks, u, turned, v, left);
        return new Result(Math.sqrt(squares), error, iterations, converged);
    }

    /** @param core with channels last */
    private double error(Size size, View w, Ranks ranks, MemorySegment u, MemorySegment core, MemorySegment v, MemorySegment left) {
        long m = size.outputs;
        long n = size.inputs;
        long k = size.places;
        long r = ranks.outputs;
        long q = ranks.inputs;
        la.product(new View(DType.F32, core, q), false, new View(DType.F32, v, n), false, left, r * k, n, q);
        MemorySegment rest = la.buffer("tucker rest", m * k * n);
        la.copy(w, m, k * n, View.of(rest, k * n), false, 1, MemorySegment.NULL, MemorySegment.NULL);
        la.multiply(new Product(new View(DType.F32, u, r), false, View.of(left, k * n), false, rest, k * n, m, k * n, r, false, -1, 1));
        return Math.sqrt(la.sumOfSquares(View.of(rest, k * n), m, k * n));
    }

    private void narrow(MemorySegment from, long rows, long cols, boolean transposed, MemorySegment to) {
        la.copy(View.of(from, cols), rows, cols, new View(DType.F32, to, transposed ? rows : cols), transposed, 1, MemorySegment.NULL,
                MemorySegment.NULL);
    }

    /**
     * The leading left singular vectors of A [n, k], or of the transposed of A [k, n]; if all are wanted, unit vectors do.
     *
     * @param vectors [count, n], out: orthonormal rows
     * @return the sum of the squares of their singular values
     */
    private double leading(View a, boolean transposed, long n, long k, long count, MemorySegment vectors) {
        if (count == n) {
            vectors.asSlice(0, 8 * n * n).fill((byte) 0);
            for (long i = 0; i < n; i++) {
                vectors.setAtIndex(ValueLayout.JAVA_DOUBLE, i * n + i, 1);
            }
            return la.sumOfSquares(a, transposed ? k : n, transposed ? n : k);
        }
        long side = Math.min(n, k);
        MemorySegment gram = la.buffer("tucker gram", side * side);
        MemorySegment values = la.buffer("tucker values", side);
        MemorySegment all = la.buffer("tucker vectors", side * side);
        la.gram(a, transposed == (n <= k), side, Math.max(n, k), 1, gram);
        la.symmetricEigen(side, gram, values, all);
        if (n <= k) {
            MemorySegment.copy(all, 0, vectors, 0, 8 * count * n);
        } else {
            la.product(View.of(all, k), false, a, !transposed, vectors, count, n, k);
            la.orthonormalize(count, n, vectors);
        }
        double kept = 0;
        for (long i = 0; i < count; i++) {
            kept += Math.max(0, values.getAtIndex(ValueLayout.JAVA_DOUBLE, i));
        }
        return kept;
    }
}
