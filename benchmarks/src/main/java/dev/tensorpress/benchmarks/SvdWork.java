package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.LinearAlgebra;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.kernel.Svd;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** A decomposition of an f32 matrix A [n, n], or a part of one. */
abstract class SvdWork implements Work {
    final Arena arena = Arena.ofShared();
    final int n;
    final View a;

    private SvdWork(boolean decaying, int n, Executor executor) {
        this.n = n;
        a = decaying ? SvdRatios.decaying(n, arena) : SvdRatios.gaussian(n, executor, arena);
    }

    final MemorySegment allocate(DType type, long elements) {
        return arena.allocate(type.bytes(elements), 64);
    }

    final double element(long row, long col) {
        return get(a.data(), row * n + col);
    }

    static double get(MemorySegment f32, long i) {
        return f32.getAtIndex(JAVA_FLOAT, i);
    }

    static void expect(String what, double found, double allowed) {
        if (!(found <= allowed)) {
            throw new IllegalStateException("wrong result: " + what + " is " + found + ", more than " + allowed);
        }
    }

    @Override
    public void close() {
        arena.close();
    }

    /** Full, or of a rank. */
    static final class Decomposition extends SvdWork {
        private static final int PROBES = 4;
        /** Of an error that probes estimate. */
        private static final double DOUBT = 1.5;
        private static final double FULL_ERROR = 5e-6;
        private static final double ORTHOGONALITY = 1e-5;

        private final Svd svd;
        private final int rank;
        private final Svd.Options options;
        private final double allowed;
        private final MemorySegment u;
        private final MemorySegment s;
        private final MemorySegment vt;

        /** @param options null for the full one */
        Decomposition(boolean decaying, int n, int rank, Svd.Options options, Executor executor) {
            super(decaying, n, executor);
            this.rank = rank;
            this.options = options;
            allowed = allowed(decaying);
            svd = new Svd(executor);
            u = allocate(DType.F32, (long) n * rank);
            s = allocate(DType.F32, rank);
            vt = allocate(DType.F32, (long) rank * n);
        }

        @Override
        public void run() {
            if (options == null) {
                svd.full(a, n, n, u, s, vt);
            } else {
                svd.truncated(a, n, n, rank, options, u, s, vt);
            }
        }

        /** Orthogonality of neighbours, and the error as products with random signs see it: their mean square is its norm's. */
        @Override
        public void check() {
            for (int k = 0; k < rank; k++) {
                expect("singular value " + k, get(s, k), k == 0 ? Double.MAX_VALUE : get(s, k - 1));
                for (int l = Math.max(0, k - 1); l <= k; l++) {
                    double left = k == l ? -1 : 0;
                    double right = left;
                    for (int i = 0; i < n; i++) {
                        left += get(u, (long) i * rank + k) * get(u, (long) i * rank + l);
                        right += get(vt, (long) k * n + i) * get(vt, (long) l * n + i);
                    }
                    expect("the product of left vectors " + k + " and " + l, Math.abs(left), ORTHOGONALITY);
                    expect("the product of right vectors " + k + " and " + l, Math.abs(right), ORTHOGONALITY);
                }
            }
            double squares = 0;
            for (int probe = 0; probe < PROBES; probe++) {
                squares += missed(probe) / PROBES;
            }
            expect("the error", Math.sqrt(squares), DOUBT * allowed);
        }

        /** ||(A - U S V^T) x||^2. */
        private double missed(int probe) {
            double[] x = new double[n];
            for (int i = 0; i < n; i++) {
                x[i] = Matrix.mix((long) probe * n + i) < 0 ? -1 : 1;
            }
            double[] y = new double[rank];
            for (int k = 0; k < rank; k++) {
                for (int j = 0; j < n; j++) {
                    y[k] += get(vt, (long) k * n + j) * x[j];
                }
                y[k] *= get(s, k);
            }
            double squares = 0;
            for (int i = 0; i < n; i++) {
                double difference = 0;
                for (int j = 0; j < n; j++) {
                    difference += element(i, j) * x[j];
                }
                for (int k = 0; k < rank; k++) {
                    difference -= get(u, (long) i * rank + k) * y[k];
                }
                squares += difference * difference;
            }
            return squares;
        }

        /** What the error may be. */
        private double allowed(boolean decaying) {
            double squares = 0;
            for (int i = 0; i < n; i++) {
                for (int j = 0; j < n; j++) {
                    squares += element(i, j) * element(i, j);
                }
            }
            double rounding = FULL_ERROR * Math.sqrt(squares);
            if (options == null) {
                return rounding;
            }
            // The rank takes at least its share of the energy; and all there is of it where the singular values are known.
            double rest = squares * (n - rank) / n;
            if (decaying) {
                rest = 0;
                for (int i = n; i > rank; i--) {
                    rest += 1.0 / i / i;
                }
            }
            return Math.sqrt(rest) + rounding;
        }

        @Override
        public long bytes() {
            return a.data().byteSize() + u.byteSize() + s.byteSize() + vt.byteSize();
        }

        @Override
        public void close() {
            svd.close();
            super.close();
        }
    }

    /** A's elements as many small matrices. */
    static final class Batch extends SvdWork {
        /** Matrices to look at. */
        private static final int SAMPLE = 16;

        private final Svd svd;
        private final int side;
        private final long count;
        private final MemorySegment u;
        private final MemorySegment s;
        private final MemorySegment vt;

        Batch(int n, Executor executor) {
            super(false, n, executor);
            svd = new Svd(executor);
            side = Math.min(n, Svd.SMALL);
            count = (long) n * n / side / side;
            u = allocate(DType.F32, count * side * side);
            s = allocate(DType.F32, count * side);
            vt = allocate(DType.F32, count * side * side);
        }

        @Override
        public void run() {
            svd.batch(new View(DType.F32, a.data(), side), count, (long) side * side, side, side, u, s, vt);
        }

        @Override
        public void check() {
            long looks = Math.min(SAMPLE, count);
            for (long look = 0; look < looks; look++) {
                long matrix = looks == 1 ? 0 : look * (count - 1) / (looks - 1);
                long first = matrix * side * side;
                double squares = 0;
                double missed = 0;
                for (int i = 0; i < side; i++) {
                    for (int j = 0; j < side; j++) {
                        double x = get(a.data(), first + i * side + j);
                        squares += x * x;
                        for (int k = 0; k < side; k++) {
                            x -= get(u, first + i * side + k) * get(s, matrix * side + k) * get(vt, first + k * side + j);
                        }
                        missed += x * x;
                    }
                }
                expect("the error of matrix " + matrix, Math.sqrt(missed), Decomposition.FULL_ERROR * Math.sqrt(squares));
            }
        }

        @Override
        public long bytes() {
            return DType.F32.bytes(count * side * (3L * side + 1));
        }

        @Override
        public void close() {
            svd.close();
            super.close();
        }
    }

    /** Orthonormal rows. */
    static final class Orthonormal extends SvdWork {
        private static final double EXACT = 1e-12;

        private final LinearAlgebra algebra;
        private final int rank;
        private final MemorySegment in;
        private final MemorySegment x;

        Orthonormal(int n, int rank, Executor executor) {
            super(false, n, executor);
            this.rank = rank;
            algebra = new LinearAlgebra(executor);
            in = allocate(DType.F64, (long) rank * n);
            x = allocate(DType.F64, (long) rank * n);
            for (long i = 0; i < (long) rank * n; i++) {
                in.setAtIndex(JAVA_DOUBLE, i, get(a.data(), i));
            }
        }

        @Override
        public void run() {
            x.copyFrom(in);
            algebra.orthonormalize(rank, n, x);
        }

        private double product(MemorySegment rows, int i, int j) {
            double sum = 0;
            for (int c = 0; c < n; c++) {
                sum += rows.getAtIndex(JAVA_DOUBLE, (long) i * n + c) * x.getAtIndex(JAVA_DOUBLE, (long) j * n + c);
            }
            return sum;
        }

        /** Orthogonality of neighbours, and that the first row and the last are sums of the new ones. */
        @Override
        public void check() {
            for (int i = 0; i < rank; i++) {
                for (int j = Math.max(0, i - 1); j <= i; j++) {
                    expect("the product of rows " + i + " and " + j, Math.abs(product(x, i, j) - (i == j ? 1 : 0)), EXACT);
                }
            }
            for (int i : new int[] {0, rank - 1}) {
                double squares = 0;
                for (int c = 0; c < n; c++) {
                    squares += element(i, c) * element(i, c);
                }
                double found = 0;
                for (int j = 0; j < rank; j++) {
                    found += Math.pow(product(in, i, j), 2);
                }
                expect("what is lost of row " + i, Math.abs(squares - found), EXACT * squares);
            }
        }

        @Override
        public long bytes() {
            return in.byteSize() + x.byteSize();
        }

        @Override
        public void close() {
            algebra.close();
            super.close();
        }
    }

    /** The symmetric rank-k update. */
    static final class Gram extends SvdWork {
        private static final double EXACT = 1e-13;
        /** Elements to look at. */
        private static final int SAMPLE = 1 << 10;

        private final LinearAlgebra algebra;
        private final int rank;
        private final MemorySegment g;

        Gram(int n, int rank, Executor executor) {
            super(false, n, executor);
            this.rank = rank;
            algebra = new LinearAlgebra(executor);
            g = allocate(DType.F64, (long) rank * rank);
        }

        @Override
        public void run() {
            algebra.gram(a, false, rank, n, 1, g);
        }

        @Override
        public void check() {
            int looks = Math.max(2, Math.min(rank, SAMPLE));
            for (int look = 0; look < looks; look++) {
                int i = (int) ((long) look * (rank - 1) / (looks - 1));
                int j = (int) Long.remainderUnsigned(Matrix.mix(look), i + 1);
                double sum = 0;
                double magnitudes = 0;
                for (int c = 0; c < n; c++) {
                    double p = element(i, c) * element(j, c);
                    sum += p;
                    magnitudes += Math.abs(p);
                }
                expect("the error of element " + i + ", " + j, Math.abs(g.getAtIndex(JAVA_DOUBLE, (long) i * rank + j) - sum),
                        EXACT * magnitudes);
            }
        }

        @Override
        public long bytes() {
            return DType.F32.bytes((long) rank * n) + DType.F64.bytes((long) rank * (rank + 1) / 2);
        }

        @Override
        public void close() {
            algebra.close();
            super.close();
        }
    }
}
