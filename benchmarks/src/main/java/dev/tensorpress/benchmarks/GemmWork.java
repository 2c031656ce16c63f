package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Gemm;
import dev.tensorpress.kernel.Gemm.Form;
import dev.tensorpress.kernel.Gemm.Spec;
import dev.tensorpress.kernel.OneDnn;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/** C = A B of dense matrices, by whichever means. Works of the same type and sizes multiply the same numbers. */
abstract class GemmWork implements Work {
    /** Products to look at, at least two rows of C. */
    private static final long SAMPLE = 1 << 21;

    final Arena arena = Arena.ofShared();
    final Spec spec;
    final MemorySegment a;
    final MemorySegment b;
    final MemorySegment c;

    private GemmWork(Spec spec) {
        this.spec = spec;
        a = arena.allocate(spec.type().bytes(spec.m() * spec.k()), 64);
        b = arena.allocate(spec.type().bytes(spec.k() * spec.n()), 64);
        c = arena.allocate(4 * spec.m() * spec.n(), 64);
        for (long i = 0; i < spec.m(); i++) {
            for (long p = 0; p < spec.k(); p++) {
                set(a, aAt(i, p), i * spec.k() + p, 0);
            }
        }
        for (long p = 0; p < spec.k(); p++) {
            for (long j = 0; j < spec.n(); j++) {
                set(b, bAt(p, j), ~(p * spec.n() + j), -128);
            }
        }
    }

    private boolean floats() {
        return spec.type() == DType.F32;
    }

    private long aAt(long i, long p) {
        return spec.form() == Form.ATB ? p * spec.m() + i : i * spec.k() + p;
    }

    private long bAt(long p, long j) {
        return spec.form() == Form.ABT ? j * spec.k() + p : p * spec.n() + j;
    }

    /** A float from -0.5 to 0.5, or a byte from {@code lowest} to 127. */
    private void set(MemorySegment matrix, long at, long counter, int lowest) {
        float unit = Matrix.unit(Matrix.mix(counter));
        if (floats()) {
            matrix.setAtIndex(JAVA_FLOAT, at, unit - 0.5f);
        } else {
            matrix.set(JAVA_BYTE, at, (byte) (lowest + (int) (unit * (128 - lowest))));
        }
    }

    private double operand(MemorySegment matrix, long at) {
        return floats() ? matrix.getAtIndex(JAVA_FLOAT, at) : matrix.get(JAVA_BYTE, at);
    }

    private double result(long i, long j) {
        long at = i * spec.n() + j;
        return floats() ? c.getAtIndex(JAVA_FLOAT, at) : c.getAtIndex(JAVA_INT, at);
    }

    /** Sums in f64; those of f32 must be within the bound that holds for any order of adding, those of int8 exact. */
    @Override
    public void check() {
        long count = Math.clamp(SAMPLE / (spec.k() * spec.n()), Math.min(2, spec.m()), spec.m());
        double unit = floats() ? (spec.k() + 1) * 0x1p-24 : 0;
        double[] sums = new double[Math.toIntExact(spec.n())];
        double[] magnitudes = new double[sums.length];
        for (long row = 0; row < count; row++) {
            long i = count == 1 ? 0 : row * (spec.m() - 1) / (count - 1);
            Arrays.fill(sums, 0);
            Arrays.fill(magnitudes, 0);
            for (long p = 0; p < spec.k(); p++) {
                double x = operand(a, aAt(i, p));
                for (int j = 0; j < sums.length; j++) {
                    double product = x * operand(b, bAt(p, j));
                    sums[j] += product;
                    magnitudes[j] += Math.abs(product);
                }
            }
            for (int j = 0; j < sums.length; j++) {
                if (!(Math.abs(result(i, j) - sums[j]) <= unit / (1 - unit) * magnitudes[j])) {
                    Plain.expect("sum", i, j, sums[j], result(i, j));
                }
            }
        }
    }

    /** Compares all of C with that of another work. */
    void checkSame(GemmWork other) {
        double allowed = floats() ? 1e-6 * spec.k() : 0;
        for (long i = 0; i < spec.m(); i++) {
            for (long j = 0; j < spec.n(); j++) {
                if (!(Math.abs(result(i, j) - other.result(i, j)) <= allowed)) {
                    Plain.expect("sum", i, j, other.result(i, j), result(i, j));
                }
            }
        }
    }

    @Override
    public long bytes() {
        return a.byteSize() + b.byteSize() + c.byteSize();
    }

    @Override
    public void close() {
        arena.close();
    }

    /** Kernels of our own. */
    static final class Ours extends GemmWork {
        private final Gemm gemm;
        private final boolean packing;

        /** @param packing each time, not once */
        Ours(Spec spec, boolean packing, Executor executor) {
            super(spec);
            this.packing = packing;
            gemm = new Gemm(spec, executor).pack(b);
        }

        @Override
        public void run() {
            if (packing) {
                gemm.pack(b);
            }
            gemm.multiply(a, c);
        }

        @Override
        public void close() {
            gemm.close();
            super.close();
        }
    }

    /** oneDNN's. */
    private abstract static class Peer extends GemmWork {
        private final int threads;
        private final OneDnn.Operation operation;

        Peer(DType type, long m, long n, long k, OneDnn.Operation operation, Executor executor) {
            super(Spec.of(type, Form.AB, m, n, k));
            this.operation = operation;
            threads = executor.threads();
        }

        void multiply() {
            operation.run(a, b, c);
        }

        @Override
        public void run() {
            OpenMp.setThreads(threads);
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

    /** Its primitive, for which the number of threads must be set before it is made. */
    static final class Matmul extends Peer {
        Matmul(long m, long n, long k, Executor executor) {
            OpenMp.setThreads(executor.threads());
            super(DType.F32, m, n, k, OneDnn.matmul(m, n, k), executor);
        }
    }

    /** The same in int8. */
    static final class MatmulInt8 extends Peer {
        MatmulInt8(long m, long n, long k, Executor executor) {
            OpenMp.setThreads(executor.threads());
            super(DType.I8, m, n, k, OneDnn.matmulInt8(m, n, k), executor);
        }
    }

    /** Its BLAS interface. */
    static final class Sgemm extends Peer {
        Sgemm(long m, long n, long k, Executor executor) {
            super(DType.F32, m, n, k, null, executor);
        }

        @Override
        void multiply() {
            OneDnn.sgemm(spec.m(), spec.n(), spec.k(), a, b, c);
        }
    }
}
