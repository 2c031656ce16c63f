package dev.tensorpress.structure;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.LinearAlgebra;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.statistics.ValueStatistics;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.stream.IntStream;

/**
 * A weight that sums over the indices of a group, W [k, n], and the Gram matrix of what it is multiplied with, G = X<sup>T</sup> X. Taking inputs away
 * costs ||X W - X' W'||<sup>2</sup>, which is least for W' = (G' + d I)<sup>-1</sup> (G'' W + d W''), G' being the rows and columns of G that are left, G'' its rows,
 * and d a damping. Where a bias is added, it takes what the mean of the inputs made, and G is that of the inputs without their mean: what is constant costs
 * nothing. In f64.
 */
final class Consumer {
    /** Sums of Gram matrices are rounded to f32 on their way, which is what is left of an input without its mean if it is always the same. */
    private static final double ROUNDING = 1e-7;

    final String constant;
    final int k;
    final int n;
    /** Of each input the index of the group, or -1. */
    final int[] owners;
    private final EditableTensor tensor;
    /** Whether a line of the tensor is what one input is multiplied with; else what makes one output. */
    private final boolean byInput;
    private final LinearAlgebra la;
    private final Executor executor;
    /** Lives as long as this. */
    private final Arena arena;
    private final double damping;
    /** Of each input; null if no bias can take what it makes. */
    private final double[] mean;
    private final EditableTensor bias;
    final MemorySegment w;
    /** With the damping. */
    private final MemorySegment g;

    /**
     * @param inputs with a Gram matrix
     * @param bias that is added to the results and may be changed; null if there is none
     * @param damping of the mean of G's diagonal
     */
    Consumer(String constant, EditableTensor tensor, boolean byInput, int[] owners, ValueStatistics inputs, EditableTensor bias, double damping,
            LinearAlgebra la, Executor executor, Arena arena) {
        this.constant = constant;
        this.tensor = tensor;
        this.byInput = byInput;
        this.owners = owners;
        this.la = la;
        this.executor = executor;
        this.arena = arena;
        k = owners.length;
        n = Math.toIntExact(tensor.shape().elements() / k);
        w = matrix(arena, k, n);
        double[] values = Numbers.all(tensor);
        double[] line = new double[n];
        for (int i = 0; i < k; i++) {
            for (int j = 0; j < n; j++) {
                line[j] = values[byInput ? i * n + j : j * k + i];
            }
            put(line, w, (long) i * n);
        }
        this.bias = bias;
        mean = bias == null ? null : Arrays.stream(inputs.sum()).map(sum -> sum / inputs.rows()).toArray();
        g = matrix(arena, k, k).copyFrom(inputs.gram().orElseThrow());
        double rounding = 0;
        if (mean != null) {
            rounding = ROUNDING * trace(g) / k;
            MemorySegment sums = arena.allocate(8L * k, 64);
            put(inputs.sum(), sums, 0);
            la.subtractSquare(k, 1.0 / inputs.rows(), sums, g);
        }
        // An input that is always the same has a row of zeros.
        this.damping = Math.max(damping * trace(g) / k, Math.max(rounding, Double.MIN_NORMAL));
        for (int i = 0; i < k; i++) {
            set(g, (long) i * k + i, get(g, (long) i * k + i) + this.damping);
        }
    }

    private double trace(MemorySegment m) {
        double trace = 0;
        for (int i = 0; i < k; i++) {
            trace += get(m, (long) i * k + i);
        }
        return trace;
    }

    private static MemorySegment matrix(Arena in, long rows, long cols) {
        return in.allocate(JAVA_DOUBLE.byteSize() * rows * cols, 64);
    }

    // Lines go through arrays: before the second compiler, which the command line does without, single accesses take many times as long.

    private static double[] line(MemorySegment m, long at, int length) {
        return m.asSlice(8 * at, 8L * length).toArray(JAVA_DOUBLE);
    }

    private static void put(double[] line, MemorySegment to, long at) {
        MemorySegment.copy(line, 0, to, JAVA_DOUBLE, 8 * at, line.length);
    }

    private static double squares(double[] line) {
        double sum = 0;
        for (double x : line) {
            sum += x * x;
        }
        return sum;
    }

    private static double get(MemorySegment m, long i) {
        return m.getAtIndex(JAVA_DOUBLE, i);
    }

    private static void set(MemorySegment m, long i, double value) {
        m.setAtIndex(JAVA_DOUBLE, i, value);
    }

    /** Rows of a matrix of so many columns. */
    private static MemorySegment rows(Arena in, MemorySegment m, int cols, int[] rows) {
        MemorySegment out = matrix(in, rows.length, cols);
        for (int i = 0; i < rows.length; i++) {
            MemorySegment.copy(m, 8L * rows[i] * cols, out, 8L * i * cols, 8L * cols);
        }
        return out;
    }

    private static MemorySegment columns(Arena in, MemorySegment m, int rows, int cols, int[] columns) {
        MemorySegment out = matrix(in, rows, columns.length);
        double[] some = new double[columns.length];
        for (int i = 0; i < rows; i++) {
            double[] all = line(m, (long) i * cols, cols);
            for (int j = 0; j < some.length; j++) {
                some[j] = all[columns[j]];
            }
            put(some, out, (long) i * some.length);
        }
        return out;
    }

    /** Inputs that go with these indices. */
    int[] inputs(int... indices) {
        int[] sorted = indices.clone();
        Arrays.sort(sorted);
        int count = 0;
        int[] all = new int[k];
        for (int i = 0; i < k; i++) {
            if (owners[i] >= 0 && Arrays.binarySearch(sorted, owners[i]) >= 0) {
                all[count++] = i;
            }
        }
        return Arrays.copyOf(all, count);
    }

    /** The factor L of a matrix [size, size] = L L<sup>T</sup>, in its place. */
    private MemorySegment factor(MemorySegment m, int size) {
        if (!la.cholesky(size, m)) {
            throw new IllegalStateException("the Gram matrix of what '" + constant + "' is multiplied with is not definite; a larger damping makes it so");
        }
        return m;
    }

    /** The inverse of a factor's square: with X L^T = 1, it is X X^T. */
    private MemorySegment inverse(Arena in, MemorySegment square, int size) {
        MemorySegment l = factor(square, size);
        MemorySegment x = matrix(in, size, size);
        for (int i = 0; i < size; i++) {
            set(x, (long) i * size + i, 1);
        }
        la.solve(size, l, size, x);
        MemorySegment out = matrix(in, size, size);
        la.product(new View(DType.F64, x, size), false, new View(DType.F64, x, size), true, out, size, size, size);
        return out;
    }

    /** ||X W||<sup>2</sup>, of X without its mean where a bias is added. */
    double energy() {
        return energy(w);
    }

    private double energy(MemorySegment of) {
        try (Arena work = executor.arena()) {
            MemorySegment product = matrix(work, k, n);
            la.product(new View(DType.F64, g, k), false, new View(DType.F64, of, n), false, product, k, n, k);
            double sum = 0;
            for (int i = 0; i < k; i++) {
                double[] x = line(of, (long) i * n, n);
                double[] y = line(product, (long) i * n, n);
                for (int j = 0; j < n; j++) {
                    sum += y[j] * x[j] - damping * x[j] * x[j];
                }
            }
            return Math.max(0, sum);
        }
    }

    /** Of each index what it adds to the results by itself, were inputs independent of each other. */
    void contributions(double[] scores) {
        for (int i = 0; i < k; i++) {
            if (owners[i] >= 0) {
                scores[owners[i]] += (get(g, (long) i * k + i) - damping) * squares(line(w, (long) i * n, n));
            }
        }
    }

    /**
     * The weight without some inputs.
     *
     * @param gone of each input whether it is
     * @param update whether what is left makes up for them
     * @param to for what is made
     * @param result receives the new weight, which has zeros for them, and the new bias, if there is one
     * @return ||X W - X W'||<sup>2</sup>, with the new bias
     */
    double without(boolean[] gone, boolean update, Arena to, EditableTensor[] result) {
        int[] left = IntStream.range(0, k).filter(i -> !gone[i]).toArray();
        double[] values = new double[k * n];
        try (Arena work = executor.arena()) {
            MemorySegment next = matrix(work, k, n);
            MemorySegment from = update && left.length > 0 && left.length < k ? solved(work, left) : rows(work, w, n, left);
            for (int i = 0; i < left.length; i++) {
                MemorySegment.copy(from, 8L * i * n, next, 8L * left[i] * n, 8L * n);
            }
            double[] shift = new double[n];
            for (int i = 0; i < k; i++) {
                double[] now = line(next, (long) i * n, n);
                double[] lost = line(w, (long) i * n, n);
                for (int j = 0; j < n; j++) {
                    values[byInput ? i * n + j : j * k + i] = now[j];
                    lost[j] -= now[j];
                    shift[j] += mean == null ? 0 : mean[i] * lost[j];
                }
                put(lost, next, (long) i * n);
            }
            result[0] = Numbers.tensor(tensor.type().orElseThrow(), tensor.shape(), values, to);
            if (bias != null) {
                double[] shifted = Numbers.all(bias);
                Arrays.setAll(shifted, j -> shifted[j] + shift[j]);
                result[1] = Numbers.tensor(bias.type().orElseThrow(), bias.shape(), shifted, to);
            }
            return energy(next);
        }
    }

    /** What rows are best if there are no others. */
    private MemorySegment solved(Arena work, int[] left) {
        int size = left.length;
        MemorySegment of = rows(work, g, k, left);
        MemorySegment target = matrix(work, size, n);
        // The damping is on the diagonal of G, so that it pulls to the weight as it was.
        la.product(new View(DType.F64, of, k), false, new View(DType.F64, w, n), false, target, size, n, k);
        MemorySegment inverse = inverse(work, columns(work, of, size, k, left), size);
        MemorySegment solved = matrix(work, size, n);
        la.product(new View(DType.F64, inverse, size), false, new View(DType.F64, target, n), false, solved, size, n, size);
        return solved;
    }

    /** What is left while indices are taken away one after another, each time with the best weight for what is left (Kurtic et al. 2023). */
    final class Path {
        private final MemorySegment inverse;
        private final MemorySegment weight = matrix(arena, k, n).copyFrom(w);

        Path() {
            try (Arena work = executor.arena()) {
                inverse = matrix(arena, k, k).copyFrom(Consumer.this.inverse(work, matrix(work, k, k).copyFrom(g), k));
            }
        }

        /** Adds what taking each index away would cost now. */
        void costs(boolean[] gone, double[] costs) {
            for (int j = 0; j < costs.length; j++) {
                int[] inputs = gone[j] ? new int[0] : inputs(j);
                if (inputs.length == 1) {
                    costs[j] += squares(line(weight, (long) inputs[0] * n, n)) / get(inverse, (long) inputs[0] * k + inputs[0]);
                } else if (inputs.length > 1) {
                    try (Arena work = executor.arena()) {
                        costs[j] += squares(half(work, part(work, inputs), inputs).toArray(JAVA_DOUBLE));
                    }
                }
            }
        }

        /** L of what the inverse has of some inputs, L L^T. */
        private MemorySegment part(Arena work, int[] inputs) {
            return factor(columns(work, rows(work, inverse, k, inputs), inputs.length, k, inputs), inputs.length);
        }

        /** W'^T L^-T of some inputs: [n, inputs]. */
        private MemorySegment half(Arena work, MemorySegment l, int[] inputs) {
            int size = inputs.length;
            MemorySegment turned = matrix(work, n, size);
            la.transpose(new View(DType.F64, rows(work, weight, n, inputs), n), size, n, turned);
            la.solve(size, l, n, turned);
            return turned;
        }

        /** @return what it costs, beside all that was taken away before */
        double remove(int... indices) {
            int[] inputs = inputs(indices);
            int size = inputs.length;
            if (size == 0) {
                return 0;
            }
            try (Arena work = executor.arena()) {
                MemorySegment l = part(work, inputs);
                MemorySegment half = half(work, l, inputs);
                MemorySegment x = columns(work, inverse, k, k, inputs);
                la.solve(size, l, k, x);
                View columns = new View(DType.F64, x, size);
                la.subtractProduct(columns, new View(DType.F64, half, size), weight, k, n, size);
                la.subtractProduct(columns, columns, inverse, k, k, size);
                return squares(half.toArray(JAVA_DOUBLE));
            }
        }
    }
}
