package dev.tensorpress.method;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Feedback;
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
import java.util.stream.IntStream;

/** A {@link GptqMethod} that knows what its weights are multiplied with. */
final class PreparedGptq implements Prepared {
    /** Of an element of a Gram matrix, which is summed in f32 over 256 rows, as part of the root of its diagonal elements' product. */
    private static final double ROUNDING = 1e-6;

    private final GptqMethod method;
    private final InputStatistics statistics;
    /** Matrices by the names of their biases. */
    private final Map<String, Weight> matrices = new HashMap<>();
    /** What is to be added to biases, by the name of their matrix, once that is encoded. */
    private final Map<String, double[]> shifts = new HashMap<>();

    PreparedGptq(GptqMethod method, InputStatistics statistics) {
        this.method = method;
        this.statistics = statistics;
    }

    @Override
    public GptqMethod method() {
        return method;
    }

    @Override
    public Optional<Weight> companion(Weight weight) {
        return method.bias() ? statistics.bias(weight) : Optional.empty();
    }

    @Override
    public Form plan(Weight weight, Form current) {
        if (matrices.containsKey(weight.name())) {
            return current;
        }
        Form form = switch (current.kind()) {
            case DENSE, SPARSE -> method.codes().plan(weight, current);
            case QUANTIZED, LOW_RANK, SUM -> throw new UnsupportedRequestException("cannot round " + current.describe()
                    + " by its inputs");
        };
        inputs(weight);
        companion(weight).ifPresent(bias -> matrices.put(bias.name(), weight));
        return form;
    }

    /** @throws UnsupportedRequestException if nothing is known of what the weight is multiplied with, or it is not summed over that */
    private ValueStatistics inputs(Weight weight) {
        Shape shape = weight.tensor().shape();
        if (weight.inputAxis() < 0) {
            throw new UnsupportedRequestException("role " + weight.role().id() + " has no input axis, along which errors could be made up for");
        }
        ValueStatistics v = statistics.of(weight).orElseThrow(() -> new UnsupportedRequestException(
                "nothing is known of what it is multiplied with"));
        if (v.gram().isEmpty()) {
            throw new UnsupportedRequestException("the statistics have no Gram matrix of what it is multiplied with: they were made"
                    + " without (--no-gram)");
        }
        boolean matrix = shape.rank() == 2;
        if (!matrix && (weight.inputAxis() != 1 || weight.outputAxis() != 0)
                || v.channels() / v.groups() != (matrix ? shape.dim(weight.inputAxis()) : shape.elements() / shape.dim(0))
                || shape.dim(weight.outputAxis()) % v.groups() != 0) {
            throw new UnsupportedRequestException("its shape is " + shape + ", which does not fit the " + v.channels()
                    + " inputs that are known");
        }
        return v;
    }

    @Override
    public Encoding apply(Weight weight, Encoding current, Form form, Workspace workspace) {
        Weight matrix = matrices.get(weight.name());
        if (matrix != null) {
            return shifted(((Encoding.Dense) current).tensor(), shifts.get(matrix.name()), workspace);
        }
        return codes(weight, current, form, workspace);
    }

    private static Encoding shifted(Tensor bias, double[] shift, Workspace workspace) {
        long n = shift.length;
        MemorySegment wide = workspace.take(Slot.MATRIX, DType.F32.bytes(n));
        Quantize.convert(bias.dtype(), bias.data(), n, DType.F32, wide);
        for (int j = 0; j < n; j++) {
            wide.setAtIndex(JAVA_FLOAT, j, (float) (wide.getAtIndex(JAVA_FLOAT, j) + shift[j]));
        }
        MemorySegment stored = workspace.take(Slot.CODES, bias.bytes());
        Quantize.convert(DType.F32, wide, n, bias.dtype(), stored);
        return new Encoding.Dense(new Tensor(bias.dtype(), bias.shape(), stored));
    }

    private Encoding codes(Weight weight, Encoding current, Form form, Workspace workspace) {
        return switch (current.kind()) {
            case DENSE -> apply(weight, current, form.quantized(), false, workspace);
            case SPARSE -> new Encoding.Sparse(form.sparse(), apply(weight, current.values(), form.quantized(), true, workspace));
            case QUANTIZED, LOW_RANK, SUM -> throw new IllegalStateException("no plan rounds " + current.form().describe());
        };
    }

    private Encoding apply(Weight weight, Encoding dense, Form.Quantized q, boolean pruned, Workspace workspace) {
        Executor executor = workspace.executor();
        Tensor in = ((Encoding.Dense) dense).tensor();
        Shape shape = in.shape();
        ValueStatistics inputs = inputs(weight);
        int parts = inputs.groups();
        int k = inputs.channels() / parts;
        long n = shape.elements() / k;
        boolean outputsFirst = shape.rank() != 2 || weight.inputAxis() == 1;
        // Ranges; what the codes of this are is of no interest.
        Encoding.Quantized ranges = (Encoding.Quantized) method.codes().apply(weight, dense, q, workspace);
        MemorySegment w = workspace.take(Slot.INPUTS_FIRST, DType.F32.bytes(shape.elements()));
        MemorySegment lost = workspace.take(Slot.LOST, DType.F32.bytes(shape.elements()));
        turn(Factors.f32(weight.over(in), workspace), outputsFirst ? n : k, outputsFirst ? k : n, outputsFirst, w, workspace);
        try (Arena arena = executor.arena()) {
            Feedback.Codes codes = codes(ranges, k, n, outputsFirst, pruned, arena);
            boolean free = companion(weight).isPresent();
            MemorySegment gram = free ? centred(inputs, parts, arena, workspace) : inputs.gram().orElseThrow();
            if (parts == 1) {
                round(k, n, gram, w, codes, lost, workspace);
            } else {
                byParts(parts, k, n / parts, gram, w, codes, lost, workspace, arena);
            }
            if (free) {
                shifts.put(weight.name(), meanLost(inputs, parts, k, n, lost, arena, workspace));
            }
        }
        subtract(w, lost, k, n, executor);
        MemorySegment exact = w;
        if (outputsFirst) {
            exact = lost;
            turn(w, k, n, true, exact, workspace);
        }
        return QuantizeMethod.encodeExact(weight, new Tensor(DType.F32, shape, exact), q, workspace);
    }

    /**
     * Of the inputs less their mean. Where that is large, little but the rounding of the Gram matrix may be left: the diagonal, which sums
     * in f64 give by themselves, gets as much more as that comes to in a row.
     */
    private static MemorySegment centred(ValueStatistics inputs, int parts, Arena arena, Workspace workspace) {
        MemorySegment gram = inputs.gram().orElseThrow();
        MemorySegment of = arena.allocate(gram.byteSize(), 64).copyFrom(gram);
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

    /** A convolution in groups: each has some of the outputs, and its own inputs. */
    private void byParts(int parts, int k, long n, MemorySegment grams, MemorySegment w, Feedback.Codes codes, MemorySegment lost,
            Workspace workspace, Arena arena) {
        MemorySegment part = arena.allocate(DType.F32.bytes(k * n), 64);
        MemorySegment partLost = arena.allocate(DType.F32.bytes(k * n), 64);
        MemorySegment scales = arena.allocate(DType.F32.bytes(codes.rows() * n), 64);
        MemorySegment zeros = codes.zeros().equals(MemorySegment.NULL) ? codes.zeros() : arena.allocate(scales.byteSize(), 64);
        long gramBytes = DType.F64.bytes((long) k * k);
        for (int p = 0; p < parts; p++) {
            columns(w, k, n, parts, p, part, false);
            columns(codes.scales(), codes.rows(), n, parts, p, scales, false);
            if (zeros.byteSize() > 0) {
                columns(codes.zeros(), codes.rows(), n, parts, p, zeros, false);
            }
            round(k, n, grams.asSlice(p * gramBytes, gramBytes), part, new Feedback.Codes(codes.qmin(), codes.qmax(), codes.groups(), scales,
                    zeros, codes.rows(), codes.keepZeros()), partLost, workspace);
            columns(lost, k, n, parts, p, partLost, true);
        }
    }

    /** Copies n columns, those of one of several parts, to a matrix of their own, or back. */
    private static void columns(MemorySegment whole, long rows, long n, int parts, int p, MemorySegment part, boolean back) {
        for (long i = 0; i < rows; i++) {
            MemorySegment there = whole.asSlice(4 * (i * n * parts + p * n), 4 * n);
            MemorySegment here = part.asSlice(4 * i * n, 4 * n);
            (back ? there : here).copyFrom(back ? here : there);
        }
    }

    private void round(int k, long n, MemorySegment gram, MemorySegment w, Feedback.Codes codes, MemorySegment lost, Workspace workspace) {
        double mean = 0;
        for (int i = 0; i < k; i++) {
            mean += gram.getAtIndex(JAVA_DOUBLE, (long) i * k + i) / k;
        }
        // Inputs that are always 0: any damping will do, and elements are rounded to nearest.
        double damping = mean == 0 ? 1 : method.damping() * mean;
        int[] order = method.order() ? byDiagonal(k, gram) : IntStream.range(0, k).toArray();
        // More damping than was asked for only where H is not definite without it: few samples, and no damping.
        double more = 0;
        while (!Feedback.gptq(k, n, gram, damping + more, order, w, codes, lost, workspace.algebra(), workspace.executor())) {
            more = Math.max(10 * more, Math.max(1e-6 * mean, Double.MIN_NORMAL));
            if (more > Double.MAX_VALUE) {
                throw new IllegalStateException("a Gram matrix that no damping makes definite");
            }
        }
        if (method.descent() > 0) {
            Feedback.descend(k, n, gram, damping + more, w, codes, lost, method.descent(), workspace.algebra(), workspace.executor());
        }
    }

    /** The largest first, the first of equal ones first. */
    private static int[] byDiagonal(int k, MemorySegment gram) {
        return IntStream.range(0, k).boxed()
                .sorted(Comparator.comparingDouble((Integer i) -> -gram.getAtIndex(JAVA_DOUBLE, (long) i * k + i)))
                .mapToInt(Integer::intValue).toArray();
    }

    /** Scales and zero points as [groups of inputs, outputs]. */
    private static Feedback.Codes codes(Encoding.Quantized ranges, int k, long n, boolean outputsFirst, boolean pruned, Arena arena) {
        Form.Quantized q = ranges.form();
        long all = ranges.scales().shape().elements();
        int size = q.block() > 0 ? q.block() : k;
        long rows = Math.ceilDiv(k, size);
        boolean byOutput = outputsFirst || q.transposed();
        MemorySegment groups = arena.allocate(JAVA_INT, k);
        for (int i = 0; i < k; i++) {
            groups.setAtIndex(JAVA_INT, i, i / size);
        }
        MemorySegment from = ranges.scalesAsF32(arena);
        MemorySegment scales = arena.allocate(DType.F32.bytes(rows * n), 64);
        MemorySegment zeros = q.symmetric() ? MemorySegment.NULL : arena.allocate(scales.byteSize(), 64);
        int middle = q.symmetric() ? q.middle() : 0;
        for (long g = 0; g < rows; g++) {
            for (long j = 0; j < n; j++) {
                long at = all == 1 ? 0 : byOutput ? j * rows + g : g * n + j;
                scales.setAtIndex(JAVA_FLOAT, g * n + j, from.getAtIndex(JAVA_FLOAT, at));
                if (!q.symmetric()) {
                    byte zero = ranges.zeros().data().getAtIndex(JAVA_BYTE, at);
                    zeros.setAtIndex(JAVA_FLOAT, g * n + j, q.type().signed() ? zero : zero & 0xff);
                }
            }
        }
        return new Feedback.Codes(q.qmin() - middle, q.qmax() - middle, groups, scales, zeros, rows, pruned);
    }

    /** Copies a matrix [rows, cols], transposed or as it is. */
    private static void turn(MemorySegment in, long rows, long cols, boolean transposed, MemorySegment out, Workspace workspace) {
        if (transposed) {
            workspace.algebra().transpose(new View(DType.F32, in, cols), rows, cols, out);
        } else {
            MemorySegment.copy(in, 0, out, 0, 4 * rows * cols);
        }
    }

    /** W less what is lost takes its place, row by row. */
    private static void subtract(MemorySegment w, MemorySegment lost, long k, long n, Executor executor) {
        executor.run(k, 1, Executor.worth(n), (begin, end, worker) -> {
            for (long i = begin; i < end; i++) {
                // Arrays, since elements of segments cost ten times as much before the second compiler.
                MemorySegment row = w.asSlice(4 * i * n, 4 * n);
                float[] x = row.toArray(JAVA_FLOAT);
                float[] e = lost.asSlice(4 * i * n, 4 * n).toArray(JAVA_FLOAT);
                for (int j = 0; j < x.length; j++) {
                    x[j] -= e[j];
                }
                row.copyFrom(MemorySegment.ofArray(x));
            }
        });
    }
}
