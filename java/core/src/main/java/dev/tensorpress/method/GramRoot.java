package dev.tensorpress.method;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * A root S of a Gram matrix H of inputs, H = S<sup>T</sup> S: the error of results is the Frobenius norm of S times that of the weight.
 *
 * @param k inputs
 * @param lower f64 [k, k]: the transposed of S
 * @param inverse f64 [k, k]: of S
 */
record GramRoot(int k, MemorySegment lower, MemorySegment inverse) {
    /** Of H with some damping, divided by the mean of its diagonal, since ratios alone count: nothing leaves the range of f32 by that. */
    static GramRoot of(PreparedByInputs.Part part, Arena arena, Workspace workspace) {
        int k = part.k();
        long bytes = DType.F64.bytes((long) k * k);
        MemorySegment lower = arena.allocate(bytes, 64);
        part.damped(damping -> {
            double size = part.mean() + damping;
            double[] row = new double[k];
            for (int i = 0; i < k; i++) {
                MemorySegment.copy(part.gram(), JAVA_DOUBLE, 8L * i * k, row, 0, k);
                row[i] += damping;
                for (int l = 0; l < k; l++) {
                    row[l] /= size;
                }
                MemorySegment.copy(row, 0, lower, JAVA_DOUBLE, 8L * i * k, k);
            }
            return workspace.algebra().cholesky(k, lower);
        });
        MemorySegment inverse = arena.allocate(bytes, 64);
        for (long i = 0; i < k; i++) {
            lower.asSlice(8 * (i * k + i + 1), 8 * (k - i - 1)).fill((byte) 0);
            inverse.setAtIndex(JAVA_DOUBLE, i * k + i, 1);
        }
        workspace.algebra().solve(k, lower, k, inverse);
        return new GramRoot(k, lower, inverse);
    }

    /** S times a matrix in its place, f32, [outputs, k] if it is transposed, else [k, outputs]. */
    void multiply(MemorySegment matrix, Factors.Matrix m, Workspace workspace) {
        long n = m.rows() * m.cols() / k;
        try (Arena arena = workspace.executor().arena()) {
            MemorySegment product = arena.allocate(DType.F64.bytes(k * n), 64);
            View root = new View(DType.F64, lower, k);
            View x = new View(DType.F32, matrix, m.cols());
            if (m.transposed()) {
                workspace.algebra().product(x, false, root, false, product, n, k, k);
            } else {
                workspace.algebra().product(root, true, x, false, product, k, n, k);
            }
            narrow(product, matrix, m.rows(), m.cols());
        }
    }

    /** The inverse of S times a matrix [k, n] in its place, f32. */
    void divide(MemorySegment matrix, long n, Workspace workspace) {
        try (Arena arena = workspace.executor().arena()) {
            MemorySegment product = arena.allocate(DType.F64.bytes(k * n), 64);
            workspace.algebra().product(new View(DType.F64, inverse, k), false, new View(DType.F32, matrix, n), false, product, k, n, k);
            narrow(product, matrix, k, n);
        }
    }

    private static void narrow(MemorySegment from, MemorySegment to, long rows, long cols) {
        float[] row = new float[Math.toIntExact(cols)];
        for (long i = 0; i < rows; i++) {
            double[] wide = from.asSlice(8 * i * cols, 8 * cols).toArray(JAVA_DOUBLE);
            for (int j = 0; j < row.length; j++) {
                row[j] = (float) wide[j];
            }
            MemorySegment.copy(row, 0, to, JAVA_FLOAT, 4 * i * cols, row.length);
        }
    }
}
