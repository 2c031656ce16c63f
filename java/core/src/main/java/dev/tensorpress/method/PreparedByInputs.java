package dev.tensorpress.method;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.method.Workspace.Slot;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.ValueStatistics;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.function.DoublePredicate;
import java.util.stream.IntStream;

/**
 * What methods have in common that change a weight such that products with it change least, by the Gram matrix H of their inputs. The
 * bias of a product may take on what that does to the mean of its results; then H is that of the inputs less their mean.
 */
abstract class PreparedByInputs implements Prepared {
    /** Of an element of a Gram matrix, which is summed in f32 over 256 rows, as part of the root of its diagonal elements' product. */
    private static final double ROUNDING = 1e-6;

    private final InputStatistics statistics;
    private final boolean bias;
    private final double damping;
    /** Matrices by the names of their biases. */
    private final Map<String, Weight> matrices = new HashMap<>();
    /** What is to be added to biases, by the name of their matrix, once that is encoded. */
    private final Map<String, double[]> shifts = new HashMap<>();

    /**
     * @param bias whether biases take part
     * @param damping of the mean of H's diagonal, added to all of it
     */
    PreparedByInputs(InputStatistics statistics, boolean bias, double damping) {
        this.statistics = statistics;
        this.bias = bias;
        this.damping = damping;
    }

    /** {@link Prepared#plan} of a matrix or kernel. */
    abstract Form planned(Weight weight, Form current);

    /** {@link Prepared#apply} to a matrix or kernel, by way of {@link #changed}. */
    abstract Encoding compressed(Weight weight, Encoding current, Form form, Workspace workspace);

    @Override
    public final Optional<Weight> companion(Weight weight) {
        return bias ? statistics.bias(weight) : Optional.empty();
    }

    @Override
    public final Form plan(Weight weight, Form current) {
        if (matrices.containsKey(weight.name())) {
            return current;
        }
        Form form = planned(weight, current);
        inputs(weight);
        companion(weight).ifPresent(bias -> matrices.put(bias.name(), weight));
        return form;
    }

    /**
     * What a weight is multiplied with: its inputs are the channels of that, those of a convolution's group the channels of the group.
     *
     * @throws UnsupportedRequestException if nothing is known of it, or the weight is not summed over that, or is a table as well
     */
    static ValueStatistics inputs(Weight weight, InputStatistics statistics) {
        Shape shape = weight.tensor().shape();
        if (weight.inputAxis() < 0) {
            throw new UnsupportedRequestException("role " + weight.role().id() + " has no input axis, along which errors could be made up for");
        }
        if (statistics.table(weight)) {
            throw new UnsupportedRequestException("it is a table as well, and what it is multiplied with says nothing of the rows that are looked up");
        }
        ValueStatistics v = statistics.of(weight).orElseThrow(() -> new UnsupportedRequestException(
                "nothing is known of what it is multiplied with"));
        boolean matrix = shape.rank() == 2;
        if (!matrix && (weight.inputAxis() != 1 || weight.outputAxis() != 0)
                || v.channels() / v.groups() != (matrix ? shape.dim(weight.inputAxis()) : shape.elements() / shape.dim(0))
                || shape.dim(weight.outputAxis()) % v.groups() != 0) {
            throw new UnsupportedRequestException("its shape is " + shape + ", which does not fit the " + v.channels()
                    + " inputs that are known");
        }
        return v;
    }

    final ValueStatistics inputs(Weight weight) {
        return withGram(weight, statistics);
    }

    /** The same with a Gram matrix. */
    static ValueStatistics withGram(Weight weight, InputStatistics statistics) {
        ValueStatistics v = inputs(weight, statistics);
        if (v.gram().isEmpty()) {
            throw new UnsupportedRequestException("the statistics have no Gram matrix of what it is multiplied with: they were made"
                    + " without (--no-gram)");
        }
        return v;
    }

    @Override
    public final Encoding apply(Weight weight, Encoding current, Form form, Workspace workspace) {
        Weight matrix = matrices.get(weight.name());
        if (matrix != null) {
            return shifted(((Encoding.Dense) current).tensor(), shifts.get(matrix.name()), workspace);
        }
        return compressed(weight, current, form, workspace);
    }

    private static Encoding shifted(Tensor bias, double[] shift, Workspace workspace) {
        long n = shift.length;
        MemorySegment wide = workspace.take(Slot.MATRIX, DType.F32.bytes(n));
        Quantize.convert(bias.dtype(), bias.data(), n, DType.F32, wide);
        float[] x = wide.toArray(JAVA_FLOAT);
        for (int j = 0; j < x.length; j++) {
            x[j] = (float) (x[j] + shift[j]);
        }
        wide.copyFrom(MemorySegment.ofArray(x));
        MemorySegment stored = workspace.take(Slot.CODES, bias.bytes());
        Quantize.convert(DType.F32, wide, n, bias.dtype(), stored);
        return new Encoding.Dense(new Tensor(bias.dtype(), bias.shape(), stored));
    }

    /** Whether an output's elements lie behind each other: then the matrix is turned before it is changed, and back. */
    static boolean outputsFirst(Weight weight) {
        return weight.tensor().shape().rank() != 2 || weight.inputAxis() == 1;
    }

    /**
     * Outputs that share inputs: all of a weight, or those of a group of a convolution.
     *
     * @param number from 0
     * @param of so many
     * @param k inputs
     * @param n outputs
     * @param gram f64 [k, k]
     * @param mean of its diagonal
     * @param damping to be added to that, at least
     */
    record Part(int number, int of, int k, long n, MemorySegment gram, double mean, double damping) {
        /** These columns of a matrix [rows, of * n]. */
        MemorySegment of(MemorySegment whole, long rows, Arena arena) {
            if (of == 1) {
                return whole;
            }
            MemorySegment part = arena.allocate(DType.F32.bytes(rows * n), 64);
            columns(whole, rows, part, false);
            return part;
        }

        private void columns(MemorySegment whole, long rows, MemorySegment part, boolean back) {
            for (long i = 0; i < rows; i++) {
                MemorySegment there = whole.asSlice(4 * (i * n * of + number * n), 4 * n);
                MemorySegment here = part.asSlice(4 * i * n, 4 * n);
                (back ? there : here).copyFrom(back ? here : there);
            }
        }

        /**
         * Tries something with more and more damping.
         *
         * @param definite false if H is not definite with the damping that it is given: few samples, and none was asked for
         * @return the damping that was enough
         */
        double damped(DoublePredicate definite) {
            double more = 0;
            while (!definite.test(damping + more)) {
                more = Math.max(10 * more, Math.max(1e-6 * mean, Double.MIN_NORMAL));
                if (more > Double.MAX_VALUE) {
                    throw new IllegalStateException("a Gram matrix that no damping makes definite");
                }
            }
            return damping + more;
        }

        /** Inputs with the largest diagonal first, the first of equal ones first. */
        int[] byDiagonal() {
            return IntStream.range(0, k).boxed()
                    .sorted(Comparator.comparingDouble((Integer i) -> -gram.getAtIndex(JAVA_DOUBLE, (long) i * k + i)))
                    .mapToInt(Integer::intValue).toArray();
        }
    }

    /** Changes the outputs of a part. */
    interface Change {
        /**
         * @param w f32 [k, n], in and out
         * @param lost f32 [k, n], out: what w was less what it is
         */
        void make(Part part, MemorySegment w, MemorySegment lost);
    }

    /**
     * The weight with all its parts changed.
     *
     * @param in its elements
     * @return f32 in their order
     */
    final MemorySegment changed(Weight weight, Tensor in, Change change, Workspace workspace) {
        Shape shape = in.shape();
        ValueStatistics inputs = inputs(weight);
        int k = inputs.channels() / inputs.groups();
        long n = shape.elements() / k;
        boolean turned = outputsFirst(weight);
        MemorySegment w = workspace.take(Slot.INPUTS_FIRST, DType.F32.bytes(shape.elements()));
        MemorySegment lost = workspace.take(Slot.LOST, DType.F32.bytes(shape.elements()));
        turn(Factors.f32(weight.over(in), workspace), turned ? n : k, turned ? k : n, turned, w, workspace);
        byParts(weight, (part, arena) -> {
            MemorySegment some = part.of(w, k, arena);
            MemorySegment someLost = part.of() == 1 ? lost : arena.allocate(some.byteSize(), 64);
            change.make(part, some, someLost);
            if (part.of() > 1) {
                part.columns(w, k, some, true);
                part.columns(lost, k, someLost, true);
            }
        }, workspace);
        lost(weight, lost, 1, workspace);
        if (!turned) {
            return w;
        }
        turn(w, k, n, true, lost, workspace);
        return lost;
    }

    /** What is to be done for a part; the arena is closed then. */
    interface EachPart {
        void accept(Part part, Arena arena);
    }

    /** The parts of a weight, one after the other. */
    final void byParts(Weight weight, EachPart each, Workspace workspace) {
        ValueStatistics inputs = inputs(weight);
        int parts = inputs.groups();
        int k = inputs.channels() / parts;
        long n = weight.tensor().shape().elements() / k / parts;
        try (Arena arena = workspace.executor().arena()) {
            MemorySegment grams = companion(weight).isPresent() ? centred(inputs, parts, arena, workspace) : gram(inputs, arena);
            for (int p = 0; p < parts; p++) {
                try (Arena ofPart = workspace.executor().arena()) {
                    each.accept(part(p, parts, k, n, grams), ofPart);
                }
            }
        }
    }

    /**
     * Notes for the bias, if there is one, what a weight has lost.
     *
     * @param lost f32 [inputs, outputs]
     * @param factor of that
     */
    final void lost(Weight weight, MemorySegment lost, double factor, Workspace workspace) {
        if (companion(weight).isEmpty()) {
            return;
        }
        ValueStatistics inputs = inputs(weight);
        int k = inputs.channels() / inputs.groups();
        try (Arena arena = workspace.executor().arena()) {
            double[] mean = meanLost(inputs, inputs.groups(), k, weight.tensor().shape().elements() / k, lost, arena, workspace);
            for (int j = 0; j < mean.length; j++) {
                mean[j] *= factor;
            }
            shifts.put(weight.name(), mean);
        }
    }

    private Part part(int number, int of, int k, long n, MemorySegment grams) {
        long bytes = DType.F64.bytes((long) k * k);
        MemorySegment gram = grams.asSlice(number * bytes, bytes);
        double mean = 0;
        for (int i = 0; i < k; i++) {
            mean += gram.getAtIndex(JAVA_DOUBLE, (long) i * k + i) / k;
        }
        // Inputs that are always 0: any damping will do.
        return new Part(number, of, k, n, gram, mean, mean == 0 ? 1 : damping * mean);
    }

    /** A copy: that of the statistics can be a mapped file, which native code must not read. */
    static MemorySegment gram(ValueStatistics inputs, Arena arena) {
        MemorySegment gram = inputs.gram().orElseThrow();
        return arena.allocate(gram.byteSize(), 64).copyFrom(gram);
    }

    /**
     * Of the inputs less their mean. Where that is large, little but the rounding of the Gram matrix may be left: the diagonal, which sums
     * in f64 give by themselves, gets as much more as that comes to in a row.
     */
    private static MemorySegment centred(ValueStatistics inputs, int parts, Arena arena, Workspace workspace) {
        MemorySegment of = gram(inputs, arena);
        int k = inputs.channels() / parts;
        double[] squares = inputs.squares();
        MemorySegment sum = arena.allocateFrom(JAVA_DOUBLE, inputs.sum());
        for (int p = 0; p < parts; p++) {
            MemorySegment part = of.asSlice(8L * p * k * k, 8L * k * k);
            workspace.algebra().subtractSquare(k, 1.0 / inputs.rows(), sum.asSlice(8L * p * k, 8L * k), part);
            double roots = Arrays.stream(squares, p * k, (p + 1) * k).map(Math::sqrt).sum();
            for (int i = 0; i < k; i++) {
                double x = inputs.sum()[p * k + i];
                double xx = squares[p * k + i];
                part.setAtIndex(JAVA_DOUBLE, (long) i * k + i, xx - x * (x / inputs.rows()) + ROUNDING * Math.sqrt(xx) * roots);
            }
        }
        return of;
    }

    /** What results lose on average, output by output. */
    private static double[] meanLost(ValueStatistics inputs, int parts, long k, long n, MemorySegment lost, Arena arena, Workspace workspace) {
        MemorySegment sum = arena.allocateFrom(JAVA_DOUBLE, inputs.sum());
        MemorySegment results = arena.allocate(JAVA_DOUBLE, n);
        long part = n / parts;
        for (long p = 0; p < parts; p++) {
            workspace.algebra().product(new View(DType.F64, sum.asSlice(8 * p * k, 8 * k), k), false,
                    new View(DType.F32, lost.asSlice(4 * p * part), n), false, results.asSlice(8 * p * part, 8 * part), 1, part, k);
        }
        double[] mean = results.toArray(JAVA_DOUBLE);
        for (int j = 0; j < mean.length; j++) {
            mean[j] /= inputs.rows();
        }
        return mean;
    }

    /** Copies a matrix [rows, cols], transposed or as it is. */
    static void turn(MemorySegment in, long rows, long cols, boolean transposed, MemorySegment out, Workspace workspace) {
        if (transposed) {
            workspace.algebra().transpose(new View(DType.F32, in, cols), rows, cols, out);
        } else {
            MemorySegment.copy(in, 0, out, 0, 4 * rows * cols);
        }
    }

    /** One matrix [rows, cols] of f32 less another; out can be either of them. */
    static void subtract(MemorySegment from, MemorySegment what, MemorySegment out, long rows, long cols, Executor executor) {
        executor.run(rows, 1, Executor.worth(cols), (begin, end, worker) -> {
            for (long i = begin; i < end; i++) {
                // Arrays, since elements of segments cost ten times as much before the second compiler.
                float[] x = Along.row(from, i, cols).toArray(JAVA_FLOAT);
                float[] y = Along.row(what, i, cols).toArray(JAVA_FLOAT);
                for (int j = 0; j < x.length; j++) {
                    x[j] -= y[j];
                }
                Along.row(out, i, cols).copyFrom(MemorySegment.ofArray(x));
            }
        });
    }
}
