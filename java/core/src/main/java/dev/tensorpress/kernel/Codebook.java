package dev.tensorpress.kernel;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_codebook;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;

/**
 * Kernel family {@code codebook}: weights as codes into tables found by k-means; {@code tensorpress/codebook.h} has methods and numerics.
 * Matrices are off-heap, row-major and without gaps. Bits do not depend on the number of threads, nor on the device. A device
 * has all of it; tables of small groups come from the threads of the executor, unless the matrix lies on the device.
 */
public final class Codebook {
    /** Codes of scalars have this many bits at most, those of vectors {@link #MOST_BITS}. */
    public static final int MOST_SCALAR_BITS = 8;
    /** {@code TP_CODEBOOK_MOST_BITS}. */
    public static final int MOST_BITS = 12;
    /** Elements of a group from which on a device finds its table sooner than threads do: it takes one group at a time. */
    private static final long WORTH_A_DEVICE = 1 << 18;

    static {
        dev.tensorpress.internal.NativeLibrary.load();
    }

    private Codebook() {}

    /**
     * {@code tp_codebook}: how a matrix is cut into groups that have a table each.
     *
     * @param dimension elements that a code stands for
     * @param zero whether entry 0 is 0, for elements that are 0 and no others
     */
    public record Spec(long rows, long cols, long groupRows, long groupCols, int dimension, int bits, boolean zero) {
        /** Number of groups. */
        public long groups() {
            return Math.multiplyExact(Math.ceilDiv(rows, groupRows), Math.ceilDiv(cols, groupCols));
        }

        /** Entries of a table. */
        public long entries() {
            return 1L << bits;
        }

        /** Number of codes. */
        public long codes() {
            return Math.multiplyExact(rows, cols / dimension);
        }

        /** Of a code, in memory. */
        public DType codeType() {
            return bits > 8 ? DType.U16 : DType.U8;
        }

        /** Bytes of all tables in f32. */
        public long tableBytes() {
            return DType.F32.bytes(Math.multiplyExact(groups(), entries() * dimension));
        }

        private MemorySegment toNative(DType type) {
            MemorySegment s = Native.struct(tp_codebook.layout());
            tp_codebook.rows(s, rows);
            tp_codebook.cols(s, cols);
            tp_codebook.stride(s, cols);
            tp_codebook.group_rows(s, groupRows);
            tp_codebook.group_cols(s, groupCols);
            tp_codebook.dimension(s, dimension);
            tp_codebook.bits(s, bits);
            tp_codebook.zero(s, zero ? 1 : 0);
            tp_codebook.type(s, Native.id(type));
            return s;
        }

        private void checkCodes(MemorySegment codes, Executor executor) {
            Native.operand("codes", codes, codeType(), rows, cols / dimension, cols / dimension, executor);
        }

        private void checkTables(MemorySegment tables, Executor executor) {
            Native.operand("tables", tables, DType.F32, 1, tableBytes() / 4, tableBytes() / 4, executor);
        }
    }

    /**
     * Finds the tables.
     *
     * @param type of the elements: f32, f16 or bf16
     * @param in the matrix, at any byte
     * @param rowWeights f32, 0 to 1: what errors in a row count; {@code NULL} for 1
     * @param colWeights the same of columns; one of the two has to be {@code NULL}
     * @param iterations Lloyd's steps at most
     * @param tables f32 [groups, entries, dimension], out
     * @throws KernelException if an element is not finite
     */
    public static void train(Spec spec, DType type, MemorySegment in, MemorySegment rowWeights, MemorySegment colWeights, long seed,
            int iterations, MemorySegment tables, Executor executor) {
        long elements = Math.min(spec.groupRows, spec.rows) * Math.min(spec.groupCols, spec.cols);
        Executor on = elements < WORTH_A_DEVICE ? Native.near(executor, in, rowWeights, colWeights, tables) : executor;
        Native.oneOf("elements", type, DType.F32, DType.F16, DType.BF16);
        Native.input("in", in, type.bytes(Math.multiplyExact(spec.rows, spec.cols)), on);
        weights("rowWeights", rowWeights, spec.rows, on);
        weights("colWeights", colWeights, spec.cols, on);
        Native.result("tables", tables, DType.F32, 1, spec.tableBytes() / 4, spec.tableBytes() / 4, on);
        MemorySegment s = spec.toNative(type);
        long scratch = Native.size("tp_codebook_scratch", out -> Kernels.tp_codebook_scratch(s, out));
        Native.Cost cost = Native.Cost.of(type.bytes(spec.rows * spec.cols), spec.tableBytes());
        // Memory to count in is cleared for each range.
        Native.run("tp_codebook_train", on, spec.groups(), 1, Executor.worth(elements) * 8, scratch, cost, (begin, end, worker) ->
                Kernels.tp_codebook_train(s, seed, iterations, begin, end, in, rowWeights, colWeights, worker.scratch(), tables),
                (cuda, begin, end) -> Kernels.tp_cuda_codebook_train(cuda, s, seed, iterations, begin, end, in, rowWeights, colWeights, tables));
    }

    private static void weights(String name, MemorySegment weights, long n, Executor executor) {
        if (!weights.equals(MemorySegment.NULL)) {
            Native.operand(name, weights, DType.F32, 1, n, n, executor);
        }
    }

    /**
     * Finds the nearest entry of each element, or vector of elements.
     *
     * @param type of the elements, as above
     * @param tables f32, numbers in ascending order
     * @param codes u8, or u16 of more than eight bits, out
     */
    public static void assign(Spec spec, DType type, MemorySegment in, MemorySegment tables, MemorySegment codes, Executor executor) {
        Native.oneOf("elements", type, DType.F32, DType.F16, DType.BF16);
        Native.input("in", in, type.bytes(Math.multiplyExact(spec.rows, spec.cols)), executor);
        spec.checkTables(tables, executor);
        Native.result("codes", codes, spec.codeType(), spec.rows, spec.cols / spec.dimension, spec.cols / spec.dimension, executor);
        MemorySegment s = spec.toNative(type);
        Native.Cost cost = Native.Cost.of(type.bytes(spec.rows * spec.cols), spec.codeType().bytes(spec.codes()));
        Native.run("tp_codebook_assign", executor, spec.rows, 1, Executor.worth(spec.cols), cost, (begin, end, worker) ->
                Kernels.tp_codebook_assign(s, begin, end, in, tables, codes), (cuda, begin, end) ->
                Kernels.tp_cuda_codebook_assign(cuda, s, begin, end, in, tables, codes));
    }

    /**
     * Decodes a matrix.
     *
     * @param codes as {@link #assign} makes them
     * @param out f32 [rows, cols]
     * @throws KernelException if there is no entry of a code's number
     */
    public static void decode(Spec spec, MemorySegment codes, MemorySegment tables, MemorySegment out, Executor executor) {
        spec.checkCodes(codes, executor);
        spec.checkTables(tables, executor);
        Native.result("out", out, DType.F32, spec.rows, spec.cols, spec.cols, executor);
        MemorySegment s = spec.toNative(DType.F32);
        Native.Cost cost = Native.Cost.of(spec.codeType().bytes(spec.codes()), 4 * spec.rows * spec.cols);
        Native.run("tp_codebook_decode", executor, spec.rows, 1, Executor.worth(spec.cols), cost, (begin, end, worker) ->
                Kernels.tp_codebook_decode(s, begin, end, codes, tables, out), (cuda, begin, end) ->
                Kernels.tp_cuda_codebook_decode(cuda, s, begin, end, codes, tables, out));
    }

    /**
     * Adds up the gradients of the elements that each entry stands for.
     *
     * @param gradients f32 [rows, cols]
     * @param sums f64 [groups, entries, dimension], out
     * @throws KernelException if there is no entry of a code's number
     */
    public static void gradients(Spec spec, MemorySegment codes, MemorySegment gradients, MemorySegment sums, Executor executor) {
        spec.checkCodes(codes, executor);
        Native.operand("gradients", gradients, DType.F32, spec.rows, spec.cols, spec.cols, executor);
        Native.result("sums", sums, DType.F64, 1, spec.tableBytes() / 4, spec.tableBytes() / 4, executor);
        MemorySegment s = spec.toNative(DType.F32);
        long elements = Math.min(spec.groupRows, spec.rows) * Math.min(spec.groupCols, spec.cols);
        Native.Cost cost = Native.Cost.of(spec.codeType().bytes(spec.codes()) + 4 * spec.rows * spec.cols, 2 * spec.tableBytes());
        Native.run("tp_codebook_gradients", executor, spec.groups(), 1, Executor.worth(elements), cost, (begin, end, worker) ->
                Kernels.tp_codebook_gradients(s, begin, end, codes, gradients, sums), (cuda, begin, end) ->
                Kernels.tp_cuda_codebook_gradients(cuda, s, begin, end, codes, gradients, sums));
    }
}
