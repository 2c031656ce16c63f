package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_SHORT_UNALIGNED;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_error;
import dev.tensorpress.bindings.tp_quant;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Kernel family {@code quantize}: floats to 8- and 4-bit codes and back. Here arguments are checked and work is spread
 * over threads; formulas, layouts and numerics are documented once, in {@code tensorpress/quantize.h}.
 *
 * <p>Segments are off-heap or of a {@link DeviceMemory}, or {@link MemorySegment#NULL} where a method says so. Results do not depend
 * on the number of threads, on the processor, or on the device. Failures of a kernel are {@link KernelException}s.
 */
public final class Quantize {
    /** Columns of a panel: column kernels are fastest on whole ones. */
    private static final int PANEL = 64;
    /** Whole columns that are best taken together: a page of each row. */
    private static final int WIDE = 1024;

    static {
        dev.tensorpress.internal.NativeLibrary.load();
    }

    private Quantize() {}

    /** How a scale follows from the values of a group: {@code TP_RANGE_*}. */
    public enum Range {
        ABSMAX(1), ABSMAX_FULL(2), MINMAX(3), GIVEN(4);

        final int id;

        Range(int id) {
            this.id = id;
        }
    }

    /** How a value is brought to code units: {@code TP_ROUND_*}. */
    public enum Rounding {
        DIVIDE(1), MULTIPLY(2);

        final int id;

        Rounding(int id) {
            this.id = id;
        }
    }

    /**
     * What a squared error counts in a clip search.
     *
     * @param numbers f32, finite and not negative; {@code NULL}: all errors count alike
     * @param parts 0: there is one for each row; n: rows are cut into n equal parts, each of which has one for each column. Those of
     *     which groups consist, of a whole tensor either
     */
    public record Importance(MemorySegment numbers, int parts) {
        public static final Importance NONE = new Importance(MemorySegment.NULL, 0);

        boolean none() {
            return numbers.equals(MemorySegment.NULL);
        }
    }

    /** {@code tp_quant}; sizes and strides in elements. */
    public record Spec(long rows, long cols, long inStride, long outStride, long groupRows, long groupCols, DType in,
            DType out, DType scale, int qmin, int qmax, Range range, Rounding rounding, boolean transposed, boolean pad,
            int clipSteps, float clipMin, boolean powerOfTwo, Importance importance) {

        /** With any scales, all errors of a clip search counting alike. */
        public Spec(long rows, long cols, long inStride, long outStride, long groupRows, long groupCols, DType in, DType out, DType scale,
                int qmin, int qmax, Range range, Rounding rounding, boolean transposed, boolean pad, int clipSteps, float clipMin) {
            this(rows, cols, inStride, outStride, groupRows, groupCols, in, out, scale, qmin, qmax, range, rounding, transposed, pad,
                    clipSteps, clipMin, false, Importance.NONE);
        }

        public Spec range(Range range) {
            return new Spec(rows, cols, inStride, outStride, groupRows, groupCols, in, out, scale, qmin, qmax, range,
                    rounding, transposed, pad, clipSteps, clipMin, powerOfTwo, importance);
        }

        public Spec rounding(Rounding rounding) {
            return new Spec(rows, cols, inStride, outStride, groupRows, groupCols, in, out, scale, qmin, qmax, range,
                    rounding, transposed, pad, clipSteps, clipMin, powerOfTwo, importance);
        }

        /** With a clip search of this many ratios from 1 down to {@code smallest}; one step is none. */
        public Spec clip(int steps, float smallest) {
            return new Spec(rows, cols, inStride, outStride, groupRows, groupCols, in, out, scale, qmin, qmax, range,
                    rounding, transposed, pad, steps, smallest, powerOfTwo, importance);
        }

        /** With scales that are powers of two, and a search among this many: the first that holds all of the range, half of it, and so on. */
        public Spec powersOfTwo(int steps) {
            return new Spec(rows, cols, inStride, outStride, groupRows, groupCols, in, out, scale, qmin, qmax, range,
                    rounding, transposed, pad, steps, 1, true, importance);
        }

        /** With errors of a clip search that count like this. */
        public Spec importance(Importance importance) {
            return new Spec(rows, cols, inStride, outStride, groupRows, groupCols, in, out, scale, qmin, qmax, range,
                    rounding, transposed, pad, clipSteps, clipMin, powerOfTwo, importance);
        }

        /** Says which field no quantization can have, where the kernel would only say that there is one. */
        private void check() {
            Native.elements("in", rows, cols, inStride);
            int lowest = out == DType.I8 ? -128 : out == DType.I4 ? -8 : 0;
            int highest = lowest + (out.bits() == 8 ? 255 : 15);
            boolean block = !empty() && !wholeColumn() && !wholeRow() && !perTensor();
            long size = groupRows == 1 ? groupCols : groupRows;
            if (!in.compressible() || !scale.compressible()) {
                throw new IllegalArgumentException("in and scale must be F32, F16 or BF16, but are " + in + " and " + scale);
            }
            if (out != DType.I8 && out != DType.U8 && out != DType.I4 && out != DType.U4) {
                throw new IllegalArgumentException("out must be I8, U8, I4 or U4, but is " + out);
            }
            if (groupRows < 1 || groupCols < 1
                    || block && (groupRows != 1 && groupCols != 1 || size < 16 || size > 256 || size % 16 != 0)) {
                throw new IllegalArgumentException("groups of " + groupRows + " x " + groupCols + " in a matrix of " + rows + " x "
                        + cols + ": a group is the matrix, a row, a column, or 16 to 256 elements of one, a multiple of 16");
            }
            if (qmin < lowest || qmax > highest || qmin >= qmax) {
                throw new IllegalArgumentException("qmin and qmax must be in " + lowest + " .. " + highest + ", but are " + qmin
                        + " and " + qmax);
            }
            if (clipSteps < 0 || clipSteps > 64 || clipSteps > 1 && !(clipMin > 0 && clipMin <= 1)) {
                throw new IllegalArgumentException("a clip search has up to 64 steps from 1 down to a ratio above 0, not " + clipSteps
                        + " to " + clipMin);
            }
            int parts = importance.parts;
            if (!importance.none() && (parts < 0 || parts > 0 && rows % parts != 0 || !perTensor() && linesAreRows() != parts > 0)) {
                throw new IllegalArgumentException("importance in " + parts + " parts of " + rows + " rows: it is one of rows (0) or of columns,"
                        + " of which groups of " + groupRows + " x " + groupCols + " have several");
            }
            if (transposed && linesAreRows()) {
                throw new IllegalArgumentException("transposed codes need groups within columns, not " + groupRows + " x " + groupCols);
            }
            if (pad && (perTensor() || size < 16 || size > 256 || size % 16 != 0)) {
                throw new IllegalArgumentException("padding needs blocks, not groups of " + groupRows + " x " + groupCols);
            }
        }

        private boolean wholeColumn() {
            return groupCols == 1 && groupRows == rows;
        }

        private boolean wholeRow() {
            return groupRows == 1 && groupCols == cols;
        }

        private boolean perTensor() {
            return groupRows == rows && groupCols == cols && !wholeColumn() && !wholeRow();
        }

        /** Where two readings fit, as with a single row, the order is that of {@code quantize.h}. */
        private boolean linesAreRows() {
            return !wholeColumn() && (wholeRow() || perTensor() || groupCols != 1);
        }

        private boolean empty() {
            return rows == 0 || cols == 0;
        }

        /** Rows or columns, whichever work is cut along. */
        public long lines() {
            return linesAreRows() ? rows : cols;
        }

        private long lineElements() {
            return linesAreRows() ? cols : rows;
        }

        private long groups() {
            return Math.ceilDiv(rows, groupRows) * Math.ceilDiv(cols, groupCols);
        }

        private long importances() {
            return importance.parts == 0 ? rows : Math.multiplyExact(importance.parts, cols);
        }

        private long inBytes(DType type) {
            return Native.bytes("in", type, rows, cols, inStride);
        }

        private long elements() {
            return rows * cols;
        }

        /** Bytes of scales, and of zero points if there are any. */
        private long scaleBytes(MemorySegment zeros) {
            return groups() * (zeros.equals(MemorySegment.NULL) ? 4 : 5);
        }

        private long codeBytes() {
            if (empty()) {
                return 0;
            }
            long lines = transposed ? cols : rows;
            long length = transposed ? rows : cols;
            if (pad) {
                long block = Math.max(groupRows, groupCols);
                length = Math.ceilDiv(length, block) * block;
            }
            return Native.bytes("codes", out, lines, length, outStride);
        }

        /** Ranges begin at multiples of this, so that none shares a byte with its neighbour. */
        private long granule() {
            if (!linesAreRows()) {
                return PANEL;
            }
            return out.bits() == 4 && outStride % 2 != 0 ? 2 : 1;
        }

        private long minimumLines() {
            return Executor.worth(lineElements());
        }

        private MemorySegment toNative() {
            MemorySegment s = Native.struct(tp_quant.layout());
            tp_quant.rows(s, rows);
            tp_quant.cols(s, cols);
            tp_quant.in_stride(s, inStride);
            tp_quant.out_stride(s, outStride);
            tp_quant.group_rows(s, groupRows);
            tp_quant.group_cols(s, groupCols);
            tp_quant.in_type(s, Native.id(in));
            tp_quant.out_type(s, Native.id(out));
            tp_quant.scale_type(s, Native.id(scale));
            tp_quant.qmin(s, qmin);
            tp_quant.qmax(s, qmax);
            tp_quant.range(s, range.id);
            tp_quant.rounding(s, rounding.id);
            tp_quant.layout(s, transposed ? 1 : 0);
            tp_quant.pad(s, pad ? 1 : 0);
            tp_quant.clip_steps(s, clipSteps);
            tp_quant.clip_min(s, clipMin);
            tp_quant.power_of_two(s, powerOfTwo ? 1 : 0);
            tp_quant.importance_parts(s, importance.parts);
            tp_quant.importance(s, importance.numbers);
            return s;
        }
    }

    /** Errors of a whole tensor: sum of squared differences, sum of squares, largest difference. */
    public record Error(double sumSquaredError, double sumSquares, double maxError) {}

    /**
     * Quantizes a matrix.
     *
     * @param in any alignment, but on a device that of its elements
     * @param scales f32, one per group; read if the range is {@link Range#GIVEN}, else written
     * @param zeros a byte per group; {@code NULL} allowed unless the range is {@link Range#MINMAX}
     * @throws KernelException with {@code TP_ERR_NONFINITE} if the input holds NaN or infinity and scales are not given
     */
    public static void quantize(Spec spec, MemorySegment in, MemorySegment codes, MemorySegment scales,
            MemorySegment zeros, Executor executor) {
        spec.check();
        Native.input("in", in, spec.inBytes(spec.in), executor);
        Native.output("codes", codes, spec.codeBytes(), executor);
        boolean given = spec.range == Range.GIVEN;
        if (!given) {
            Native.output("scales", scales, 0, executor);
        }
        Native.input("zeros", zeros, 0, executor);
        if (!spec.importance.none()) {
            Native.operand("importance", spec.importance.numbers, DType.F32, 1, spec.importances(), spec.importances(), executor);
        }
        if (!given && !zeros.equals(MemorySegment.NULL)) {
            Native.output("zeros", zeros, 0, executor);
        }
        if (spec.range == Range.MINMAX && zeros.equals(MemorySegment.NULL)) {
            throw new IllegalArgumentException("zeros must not be NULL: range MINMAX makes zero points");
        }
        checkScales(spec, scales, zeros, executor);
        if (spec.empty()) {
            return;
        }
        MemorySegment s = spec.toNative();
        long granule = spec.granule();
        if (spec.perTensor() && !given && !Native.onDevice(executor)) {
            if (spec.clipSteps > 1 || executor.threads() == 1) {
                granule = spec.rows; // one group: its clip search cannot be cut
            } else {
                scaleOfTensor(spec, s, in, scales, zeros, executor);
                tp_quant.range(s, Range.GIVEN.id);
            }
        }
        boolean wholeColumns = !spec.linesAreRows() && spec.groupRows == spec.rows;
        long wide = wholeColumns ? Math.min(WIDE, spec.lines() / executor.threads()) : 0;
        long scratch = Native.size("tp_quantize_scratch", bytes -> Kernels.tp_quantize_scratch(s, spec.lines(), bytes));
        long scaleBytes = spec.scaleBytes(zeros);
        Native.Cost cost = Native.Cost.of(spec.in.bytes(spec.elements()) + (given ? scaleBytes : 0),
                spec.codeBytes() + (given ? 0 : scaleBytes));
        Native.run("tp_quantize", executor, spec.lines(), granule, Math.max(spec.minimumLines(), wide), scratch, cost, (begin, end, worker) ->
                Kernels.tp_quantize(s, begin, end, in, codes, scales, zeros, worker.scratch()), (cuda, begin, end) ->
                Kernels.tp_cuda_quantize(cuda, s, begin, end, in, codes, scales, zeros));
    }

    private static void scaleOfTensor(Spec spec, MemorySegment s, MemorySegment in, MemorySegment scales,
            MemorySegment zeros, Executor executor) {
        float[] extremes = {Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY};
        Native.Cost cost = Native.Cost.of(spec.in.bytes(spec.elements()), 0);
        Native.run("tp_minmax", executor, spec.rows, 1, spec.minimumLines(), 8, cost, (begin, end, worker) -> {
            MemorySegment out = worker.scratch();
            int status = Kernels.tp_minmax(s, begin, end, in, out, out.asSlice(4));
            synchronized (extremes) {
                extremes[0] = Math.min(extremes[0], out.get(JAVA_FLOAT, 0));
                extremes[1] = Math.max(extremes[1], out.get(JAVA_FLOAT, 4));
            }
            return status;
        });
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment zero = zeros.equals(MemorySegment.NULL) ? arena.allocate(1) : zeros;
            Native.check("tp_scale_of", Kernels.tp_scale_of(s, extremes[0], extremes[1], scales, zero));
        }
    }

    /**
     * Decodes a matrix.
     *
     * @param out f32, [rows, cols] with {@code inStride}
     */
    public static void dequantize(Spec spec, MemorySegment codes, MemorySegment scales, MemorySegment zeros,
            MemorySegment out, Executor executor) {
        spec.check();
        Native.result("out", out, DType.F32, spec.rows, spec.cols, spec.inStride, executor);
        Native.input("codes", codes, spec.codeBytes(), executor);
        checkScales(spec, scales, zeros, executor);
        if (spec.empty()) {
            return;
        }
        MemorySegment s = spec.toNative();
        Native.Cost cost = Native.Cost.of(spec.codeBytes() + spec.scaleBytes(zeros), DType.F32.bytes(spec.elements()));
        Native.run("tp_dequantize", executor, spec.lines(), spec.granule(), spec.minimumLines(), cost, (begin, end, worker) ->
                Kernels.tp_dequantize(s, begin, end, codes, scales, zeros, out), (cuda, begin, end) ->
                Kernels.tp_cuda_dequantize(cuda, s, begin, end, codes, scales, zeros, out));
    }

    /** Bytes that {@link #error} needs for {@code lineErrors}. */
    public static long errorBytes(Spec spec) {
        return Math.multiplyExact(spec.lines(), tp_error.sizeof());
    }

    /**
     * Error of the codes against the matrix they came from.
     *
     * @param lineErrors {@link #errorBytes} bytes for the errors line by line, which are added in order
     */
    public static Error error(Spec spec, MemorySegment in, MemorySegment codes, MemorySegment scales,
            MemorySegment zeros, MemorySegment lineErrors, Executor executor) {
        spec.check();
        Native.input("in", in, spec.inBytes(spec.in), executor);
        Native.output("lineErrors", lineErrors, errorBytes(spec), Native.host(executor)); // they are read here
        Native.aligned("lineErrors", lineErrors, 8);
        Native.input("codes", codes, spec.codeBytes(), executor);
        checkScales(spec, scales, zeros, executor);
        if (spec.empty()) {
            return new Error(0, 0, 0);
        }
        MemorySegment s = spec.toNative();
        Native.Cost cost = Native.Cost.of(spec.in.bytes(spec.elements()) + spec.codeBytes() + spec.scaleBytes(zeros), errorBytes(spec));
        Native.run("tp_quantize_error", executor, spec.lines(), spec.granule(), spec.minimumLines(), cost, (begin, end, worker) ->
                Kernels.tp_quantize_error(s, begin, end, in, codes, scales, zeros, lines(lineErrors, begin, end)), (cuda, begin, end) ->
                Kernels.tp_cuda_quantize_error(cuda, s, begin, end, in, codes, scales, zeros, lineErrors));
        return sum(lineErrors, spec.lines());
    }

    /** The part of these lines. */
    static MemorySegment lines(MemorySegment lineErrors, long begin, long end) {
        return lineErrors.asSlice(begin * tp_error.sizeof(), (end - begin) * tp_error.sizeof());
    }

    /** The errors of {@code lines} lines, added in order. */
    static Error sum(MemorySegment lineErrors, long lines) {
        double error = 0;
        double squares = 0;
        double max = 0;
        long bytes = lines * tp_error.sizeof();
        for (long at = 0; at < bytes; at += tp_error.sizeof()) {
            error += lineErrors.get(JAVA_DOUBLE, at + tp_error.sum_squared_error$offset());
            squares += lineErrors.get(JAVA_DOUBLE, at + tp_error.sum_squares$offset());
            max = Math.max(max, lineErrors.get(JAVA_DOUBLE, at + tp_error.max_error$offset()));
        }
        return new Error(error, squares, max);
    }

    /** Packs n codes, one to a byte, into nibbles, low one first. */
    public static void pack4(MemorySegment codes, long n, MemorySegment packed) {
        checkCount(n);
        Native.input("codes", codes, n, null);
        Native.output("packed", packed, DType.U4.bytes(n), null);
        Native.check("tp_pack4", Kernels.tp_pack4(codes, n, packed));
    }

    /** Reverses {@link #pack4}; {@code type} is I4 or U4. */
    public static void unpack4(DType type, MemorySegment packed, long n, MemorySegment codes) {
        Native.oneOf("type", type, DType.I4, DType.U4);
        checkCount(n);
        Native.output("codes", codes, n, null);
        Native.input("packed", packed, DType.U4.bytes(n), null);
        Native.check("tp_unpack4", Kernels.tp_unpack4(Native.id(type), packed, n, codes));
    }

    /** Converts n elements between f32, f16 and bf16, to nearest, ties to even, on the thread that calls. */
    public static void convert(DType from, MemorySegment in, long n, DType to, MemorySegment out) {
        checkConversion(from, in, n, to, out, null);
        Native.call("tp_convert", null, 1, Native.Cost.of(from.bytes(n), to.bytes(n)), () ->
                Kernels.tp_convert(Native.id(from), in, n, Native.id(to), out));
    }

    /** The same on all threads of the executor, or on its device. */
    public static void convert(DType from, MemorySegment in, long n, DType to, MemorySegment out, Executor executor) {
        checkConversion(from, in, n, to, out, executor);
        Native.run("tp_convert", executor, n, 1, Executor.WORTH, Native.Cost.of(from.bytes(n), to.bytes(n)), (begin, end, worker) ->
                Kernels.tp_convert(Native.id(from), in.asSlice(from.bytes(begin)), end - begin, Native.id(to), out.asSlice(to.bytes(begin))),
                (cuda, begin, end) -> Kernels.tp_cuda_convert(cuda, Native.id(from), in, end, Native.id(to), out));
    }

    private static void checkConversion(DType from, MemorySegment in, long n, DType to, MemorySegment out, Executor executor) {
        Native.oneOf("from", from, DType.F32, DType.F16, DType.BF16);
        Native.oneOf("to", to, DType.F32, DType.F16, DType.BF16);
        checkCount(n);
        Native.input("in", in, from.bytes(n), executor);
        Native.output("out", out, to.bytes(n), executor);
    }

    /** Row-major index of the first NaN or infinity, or -1. */
    public static long firstNonFinite(Spec spec, MemorySegment in) {
        Native.input("in", in, spec.inBytes(spec.in), null);
        MemorySegment s = spec.toNative();
        long[] at = Native.longs("tp_find_nonfinite", 2, out -> Kernels.tp_find_nonfinite(s, in, out, out.asSlice(8)));
        return at[0] < 0 ? -1 : at[0] * spec.cols + at[1];
    }

    /** One element of an f32, f16 or bf16 tensor. */
    public static float element(Tensor tensor, long index) {
        MemorySegment data = tensor.data();
        return switch (tensor.dtype()) {
            case F32 -> data.get(JAVA_FLOAT_UNALIGNED, index * 4);
            case F16 -> Float.float16ToFloat(data.get(JAVA_SHORT_UNALIGNED, index * 2));
            case BF16 -> Float.intBitsToFloat(data.get(JAVA_SHORT_UNALIGNED, index * 2) << 16);
            default -> throw new IllegalArgumentException("no float: " + tensor.dtype());
        };
    }

    private static void checkScales(Spec spec, MemorySegment scales, MemorySegment zeros, Executor executor) {
        Native.operand("scales", scales, DType.F32, 1, spec.groups(), spec.groups(), executor);
        Native.input("zeros", zeros, zeros == null || zeros.equals(MemorySegment.NULL) ? 0 : spec.groups(), executor);
    }

    private static void checkCount(long n) {
        Native.elements("the array", 1, n, n);
    }
}
