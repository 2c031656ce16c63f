package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/**
 * A sparse matrix, less the mean of each column if that is given: (A - 1 m<sup>T</sup>) X = A X - 1 (m<sup>T</sup> X), which has no matrix without
 * zeros. Everything is f64. Each sum runs over entries in order, so that results are the same for any number of threads.
 */
final class SparseOperand implements Operand {
    /** Numbers of an array of Java that vectors are kept in, at most. */
    private static final long MOST = 1 << 28;

    private final LinearAlgebra la;
    private final SparseColumns a;
    private final double[] mean;
    private double[] vectors = new double[0];
    private double[] products = new double[0];

    /** @param mean of each column; null to leave them */
    SparseOperand(LinearAlgebra la, SparseColumns a, double[] mean) {
        this.la = la;
        this.a = a;
        this.mean = mean;
    }

    @Override
    public DType type() {
        return DType.F64;
    }

    @Override
    public long rows() {
        return a.matrix.rows();
    }

    @Override
    public long cols() {
        return a.matrix.cols();
    }

    @Override
    public void forward(View x, MemorySegment y, long count) {
        MemorySegment exact = x.data();
        if (x.type() != DType.F64 || x.stride() != cols()) {
            exact = la.buffer("sparse exact", count * cols());
            la.copy(x, count, cols(), View.of(exact, cols()), false, 1, MemorySegment.NULL, MemorySegment.NULL);
        }
        multiply(exact, y, count, true);
    }

    @Override
    public void backward(MemorySegment y, MemorySegment x, long count) {
        multiply(y, x, count, false);
    }

    /** As many vectors at once as arrays of Java hold. */
    private void multiply(MemorySegment from, MemorySegment to, long count, boolean forward) {
        long in = forward ? cols() : rows();
        long out = forward ? rows() : cols();
        long step = Math.clamp(MOST / Math.max(in, out), 1, count);
        for (long first = 0; first < count; first += step) {
            int some = (int) Math.min(step, count - first);
            multiply(LinearAlgebra.at(from, first * in), (int) in, LinearAlgebra.at(to, first * out), (int) out, some, forward);
        }
    }

    private void multiply(MemorySegment from, int in, MemorySegment to, int out, int count, boolean forward) {
        MemorySegment turned = la.buffer("sparse vectors", (long) count * Math.max(in, out));
        la.copy(View.of(from, in), count, in, View.of(turned, count), true, 1, MemorySegment.NULL, MemorySegment.NULL);
        vectors = vectors.length < in * count ? new double[in * count] : vectors;
        products = products.length < out * count ? new double[out * count] : products;
        MemorySegment.copy(turned, JAVA_DOUBLE, 0, vectors, 0, in * count);
        double[] shift = new double[count];
        if (mean != null) {
            for (int i = 0; i < in; i++) {
                double factor = forward ? mean[i] : 1;
                for (int k = 0; k < count; k++) {
                    shift[k] += factor * vectors[i * count + k];
                }
            }
        }
        long worth = Math.max(1, Executor.WORTH / count / Math.max(1, a.matrix.units() / out + 1));
        la.executor.run(out, 1, worth, (begin, end, worker) -> {
            double[] sum = new double[count];
            for (int i = (int) begin; i < end; i++) {
                Arrays.fill(sum, 0);
                if (forward) {
                    add(sum, a.matrix.indices(), a.matrix.values(), a.first(i), a.first(i + 1));
                } else {
                    add(sum, a.rows, a.values, a.starts[i], a.starts[i + 1]);
                }
                double factor = mean == null ? 0 : forward ? 1 : mean[i];
                for (int k = 0; k < count; k++) {
                    products[i * count + k] = sum[k] - factor * shift[k];
                }
            }
        });
        MemorySegment.copy(products, 0, turned, JAVA_DOUBLE, 0, out * count);
        la.copy(View.of(turned, count), out, count, View.of(to, out), true, 1, MemorySegment.NULL, MemorySegment.NULL);
    }

    /** Adds entries times the vectors' numbers at their indices. */
    private void add(double[] sum, MemorySegment indices, MemorySegment values, long begin, long end) {
        int count = sum.length;
        for (long p = begin; p < end; p++) {
            int at = indices.getAtIndex(JAVA_INT, p) * count;
            double x = values.getAtIndex(JAVA_FLOAT, p);
            for (int k = 0; k < count; k++) {
                sum[k] += x * vectors[at + k];
            }
        }
    }

    /** The sum of all squares, the mean taken off. */
    double squares() {
        double sum = 0;
        for (int j = 0; j < cols(); j++) {
            double shift = mean == null ? 0 : mean[j];
            double column = (rows() - (a.starts[j + 1] - a.starts[j])) * shift * shift;
            for (long p = a.starts[j]; p < a.starts[j + 1]; p++) {
                double x = a.values.getAtIndex(JAVA_FLOAT, p) - shift;
                column += x * x;
            }
            sum += column;
        }
        return sum;
    }

    /** The mean of each column of a matrix. */
    static double[] means(SparseColumns a) {
        double[] means = new double[(int) a.matrix.cols()];
        for (int j = 0; j < means.length; j++) {
            for (long p = a.starts[j]; p < a.starts[j + 1]; p++) {
                means[j] += a.values.getAtIndex(JAVA_FLOAT, p);
            }
            means[j] /= a.matrix.rows();
        }
        return means;
    }
}
