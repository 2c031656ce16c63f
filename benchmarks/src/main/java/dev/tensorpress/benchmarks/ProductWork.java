package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.tensorpress.benchmarks.Pruned.Pattern;
import dev.tensorpress.kernel.OneDnn;
import dev.tensorpress.kernel.Sparse.Layout;
import dev.tensorpress.kernel.SparseMatrix;
import dev.tensorpress.kernel.Spmm;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/** A pruned matrix A times a dense one, or its transpose times it, by whichever means. */
abstract class ProductWork implements Work {
    /** Products to look at, at least two rows of the result. */
    private static final long SAMPLE = 1 << 21;

    final Arena arena = Arena.ofShared();
    final Pruned a;
    final Pattern pattern;
    final DType type;
    final int n;
    /** Rows of the result, and of B. */
    final int rows;
    final int length;
    private final boolean transposed;
    final MemorySegment b;
    final MemorySegment out;

    private ProductWork(Pruned a, Pattern pattern, DType type, int n, boolean transposed) {
        this.a = a;
        this.pattern = pattern;
        this.type = type;
        this.n = n;
        this.transposed = transposed;
        rows = transposed ? a.cols : a.rows;
        length = transposed ? a.rows : a.cols;
        b = a.factor(length, n, type);
        out = a.result(rows, n);
    }

    private double element(long row, long k) {
        long i = transposed ? k * a.cols + row : row * a.cols + k;
        return type == DType.F32 ? a.dense(pattern).data.getAtIndex(JAVA_FLOAT, i) : a.codes(pattern).get(JAVA_BYTE, i);
    }

    double factor(long k, long col) {
        long i = k * n + col;
        return type == DType.F32 ? b.getAtIndex(JAVA_FLOAT, i) : b.get(JAVA_BYTE, i);
    }

    double result(long row, long col) {
        return type == DType.F32 ? out.getAtIndex(JAVA_FLOAT, row * n + col) : out.getAtIndex(JAVA_INT, row * n + col);
    }

    /** Sums in f64; those of f32 must be within the bound that holds for any order of adding, those of int8 exact. */
    @Override
    public void check() {
        long count = Math.clamp(SAMPLE / ((long) length * n), Math.min(2, rows), rows);
        double[] sums = new double[n];
        double[] magnitudes = new double[n];
        for (long i = 0; i < count; i++) {
            long row = count == 1 ? 0 : i * (rows - 1) / (count - 1);
            Arrays.fill(sums, 0);
            Arrays.fill(magnitudes, 0);
            int products = 0;
            for (int k = 0; k < length; k++) {
                double x = element(row, k);
                if (x == 0) {
                    continue;
                }
                products++;
                for (int col = 0; col < n; col++) {
                    double p = x * factor(k, col);
                    sums[col] += p;
                    magnitudes[col] += Math.abs(p);
                }
            }
            double unit = type == DType.F32 ? (products + 1) * 0x1p-24 : 0;
            for (int col = 0; col < n; col++) {
                double found = result(row, col);
                if (!(Math.abs(found - sums[col]) <= unit / (1 - unit) * magnitudes[col])) {
                    Plain.expect("sum", row, col, sums[col], found);
                }
            }
        }
    }

    @Override
    public long bytes() {
        return matrixBytes() + b.byteSize() + out.byteSize();
    }

    long matrixBytes() {
        return type.bytes((long) a.rows * a.cols);
    }

    @Override
    public void close() {
        arena.close();
    }

    /** Kernels of our own. */
    static final class Ours extends ProductWork {
        private final SparseMatrix matrix;
        private final boolean transposed;

        Ours(Pruned a, Pattern pattern, DType type, Layout layout, int n, boolean transposed) {
            super(a, pattern, type, n, transposed);
            this.transposed = transposed;
            matrix = a.packed(pattern, type, layout);
        }

        @Override
        public void run() {
            if (transposed) {
                Spmm.multiplyTransposed(matrix, n, b, out, a.executor);
            } else {
                Spmm.multiply(matrix, n, b, out, a.executor);
            }
        }

        @Override
        long matrixBytes() {
            return matrix.bytes();
        }
    }

    /** oneDNN's; it sees a pruned matrix as a dense one, unless said. */
    private abstract static class Peer extends ProductWork {
        OneDnn.Operation operation;

        Peer(Pruned a, Pattern pattern, DType type, int n) {
            super(a, pattern, type, n, false);
            OpenMp.setThreads(a.executor.threads());
        }

        abstract void multiply();

        @Override
        public void run() {
            OpenMp.setThreads(a.executor.threads());
            multiply();
        }

        @Override
        public void close() {
            if (operation != null) {
                operation.close();
            }
            super.close();
        }
    }

    /** Its primitive, with both matrices as they are, or with B reordered at each run; or in int8, u8 times s8. */
    static final class Matmul extends Peer {
        private final MemorySegment matrix;

        Matmul(Pruned a, DType type, int n, boolean reordering) {
            super(a, Pattern.SCATTERED, type, n);
            matrix = type == DType.F32 ? a.dense(pattern).data : a.codes(pattern);
            operation = type != DType.F32 ? OneDnn.matmulInt8(rows, n, length)
                    : reordering ? OneDnn.matmulReordering(rows, n, length) : OneDnn.matmul(rows, n, length);
        }

        @Override
        void multiply() {
            operation.run(matrix, b, out);
        }
    }

    /** Its BLAS interface. */
    static final class Sgemm extends Peer {
        Sgemm(Pruned a, int n) {
            super(a, Pattern.SCATTERED, DType.F32, n);
        }

        @Override
        void multiply() {
            OneDnn.sgemm(rows, n, length, a.dense(pattern).data, b, out);
        }
    }

    /** Its primitive with A as weights, reordered beforehand: as in a layer of a model, with B and the result transposed. */
    static final class Linear extends Peer {
        private static final byte POSITIVE = 0x7f;

        private final MemorySegment in;

        Linear(Pruned a, DType type, int n) {
            super(a, Pattern.SCATTERED, type, n);
            if (type == DType.F32) {
                in = b;
                operation = OneDnn.linear(n, rows, length, a.dense(pattern).data);
            } else {
                in = arena.allocate(b.byteSize(), 64); // u8 here, and so small that no processor saturates
                for (long i = 0; i < b.byteSize(); i++) {
                    in.set(JAVA_BYTE, i, (byte) (b.get(JAVA_BYTE, i) & POSITIVE));
                }
                operation = OneDnn.linearInt8(n, rows, length, a.codes(pattern));
            }
        }

        @Override
        void multiply() {
            operation.run(in, out);
        }

        @Override
        double factor(long k, long col) {
            long i = col * length + k;
            return type == DType.F32 ? in.getAtIndex(JAVA_FLOAT, i) : in.get(JAVA_BYTE, i);
        }

        @Override
        double result(long row, long col) {
            long i = col * rows + row;
            return type == DType.F32 ? out.getAtIndex(JAVA_FLOAT, i) : out.getAtIndex(JAVA_INT, i);
        }
    }

    /** Its product of a sparse matrix. */
    static final class Csr extends Peer {
        private final MemorySegment values;
        private final MemorySegment columns;
        private final MemorySegment offsets;

        Csr(Pruned a, int n) {
            super(a, Pattern.SCATTERED, DType.F32, n);
            SparseMatrix m = a.packed(pattern, type, Layout.CSR32);
            values = m.values();
            columns = m.indices();
            offsets = arena.allocate(4L * (rows + 1), 64);
            for (long i = 0; i <= rows; i++) {
                offsets.setAtIndex(JAVA_INT, i, Math.toIntExact(m.offsets().getAtIndex(JAVA_LONG, i)));
            }
            operation = OneDnn.sparseMatmul(rows, n, length, m.units());
        }

        @Override
        void multiply() {
            operation.run(values, columns, offsets, b, out);
        }

        @Override
        long matrixBytes() {
            return values.byteSize() + columns.byteSize() + offsets.byteSize();
        }
    }
}
