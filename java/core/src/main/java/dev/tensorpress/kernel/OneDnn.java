package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.tensorpress.bindings.onednn.Dnnl;
import dev.tensorpress.bindings.onednn.dnnl_exec_arg_t;
import dev.tensorpress.bindings.onednn.dnnl_version_t;
import dev.tensorpress.internal.OneDnnLibrary;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.ref.Reference;
import java.util.ArrayList;
import java.util.List;

/**
 * Intel's oneDNN: matrix products, and a yardstick for kernels of our own. It is optional; if it is absent every method
 * throws {@link UnsatisfiedLinkError} that says what to add.
 *
 * <p>An operation is prepared for its sizes, which is when oneDNN generates code, and then run any number of times. All
 * matrices are row-major and off-heap, and dense unless said. oneDNN spreads the work over OpenMP threads of its own; the environment
 * variable {@code OMP_NUM_THREADS} sets their number.
 */
public final class OneDnn {
    private static final MemorySegment ENGINE = engine();
    /** {@code DNNL_MEMORY_NONE} and {@code DNNL_MEMORY_ALLOCATE}, which are no constants to a generator of bindings. */
    private static final long NONE = 0;
    private static final long ALLOCATE = -1;

    private OneDnn() {
    }

    /** Version of oneDNN, such as {@code 3.11.0}. */
    public static String version() {
        MemorySegment v = Dnnl.dnnl_version();
        return dnnl_version_t.major(v) + "." + dnnl_version_t.minor(v) + "." + dnnl_version_t.patch(v);
    }

    /** The f32 product C[m, n] = A[m, k] B[k, n]. Operands: A, B, C. */
    public static Operation matmul(long m, long n, long k) {
        return new Builder()
                .operand(Dnnl.DNNL_ARG_SRC(), Dnnl.dnnl_f32(), m, k)
                .operand(Dnnl.DNNL_ARG_WEIGHTS(), Dnnl.dnnl_f32(), k, n)
                .operand(Dnnl.DNNL_ARG_DST(), Dnnl.dnnl_f32(), m, n)
                .matmul();
    }

    /** The same product as {@link #matmul}, with B brought at each run to the layout that oneDNN likes best. */
    public static Operation matmulReordering(long m, long n, long k) {
        return new Builder()
                .operand(Dnnl.DNNL_ARG_SRC(), Dnnl.dnnl_f32(), m, k)
                .operand(Dnnl.DNNL_ARG_WEIGHTS(), Dnnl.dnnl_f32(), k, n)
                .operand(Dnnl.DNNL_ARG_DST(), Dnnl.dnnl_f32(), m, n)
                .reordered(MemorySegment.NULL)
                .matmul();
    }

    /**
     * The f32 product C[m, n] = A[m, k] W[n, k]^T with weights that stay: they are brought here, once, to the layout that
     * oneDNN likes best. Operands: A, C.
     *
     * @param weights n rows of k; not needed after this call
     */
    public static Operation linear(long m, long n, long k, MemorySegment weights) {
        need("weights", weights, Math.multiplyExact(Math.multiplyExact(4, n), k));
        return linear(Dnnl.dnnl_f32(), Dnnl.dnnl_f32(), Dnnl.dnnl_f32(), m, n, k, weights);
    }

    /**
     * As {@link #linear} in integers: A in u8, W in s8 and C in s32. About saturation see {@link #matmulInt8}.
     *
     * @param weights n rows of k; not needed after this call
     */
    public static Operation linearInt8(long m, long n, long k, MemorySegment weights) {
        need("weights", weights, Math.multiplyExact(n, k));
        return linear(Dnnl.dnnl_u8(), Dnnl.dnnl_s8(), Dnnl.dnnl_s32(), m, n, k, weights);
    }

    private static Operation linear(int a, int w, int c, long m, long n, long k, MemorySegment weights) {
        return new Builder()
                .operand(Dnnl.DNNL_ARG_SRC(), a, m, k)
                .transposed(Dnnl.DNNL_ARG_WEIGHTS(), w, k, n)
                .operand(Dnnl.DNNL_ARG_DST(), c, m, n)
                .reordered(weights)
                .matmul();
    }

    /** The f32 product C[m, n] = A[m, k] B[k, n] through oneDNN's BLAS interface, which needs no preparation. */
    public static void sgemm(long m, long n, long k, MemorySegment a, MemorySegment b, MemorySegment c) {
        need("A", a, Math.multiplyExact(Math.multiplyExact(4, m), k));
        need("B", b, Math.multiplyExact(Math.multiplyExact(4, k), n));
        need("C", c, Math.multiplyExact(Math.multiplyExact(4, m), n));
        Native.output("C", c, 0, null);
        check("dnnl_sgemm", Dnnl.dnnl_sgemm((byte) 'N', (byte) 'N', m, n, k, 1, a, k, b, n, 0, c, n));
    }

    /**
     * The f32 product C[m, n] = A[m, k] B[k, n] with A sparse, in CSR. Operands: the values of A, their columns as s32, the
     * m + 1 offsets of its rows as s32, B, C.
     *
     * @throws KernelException {@code dnnl_unimplemented} if this build of oneDNN, or this processor, has no such product
     */
    public static Operation sparseMatmul(long m, long n, long k, long nnz) {
        return new Builder()
                .csr(Dnnl.DNNL_ARG_SRC(), Dnnl.dnnl_f32(), m, k, nnz)
                .operand(Dnnl.DNNL_ARG_WEIGHTS(), Dnnl.dnnl_f32(), k, n)
                .operand(Dnnl.DNNL_ARG_DST(), Dnnl.dnnl_f32(), m, n)
                .matmul();
    }

    /**
     * The product of integers C[m, n] = A[m, k] B[k, n], with A in u8, B in s8 and C in s32. Operands: A, B, C.
     *
     * <p>On processors without VNNI instructions oneDNN adds pairs of products in 16 bits, saturating: there results are
     * exact only if A stays below 128.
     */
    public static Operation matmulInt8(long m, long n, long k) {
        return new Builder()
                .operand(Dnnl.DNNL_ARG_SRC(), Dnnl.dnnl_u8(), m, k)
                .operand(Dnnl.DNNL_ARG_WEIGHTS(), Dnnl.dnnl_s8(), k, n)
                .operand(Dnnl.DNNL_ARG_DST(), Dnnl.dnnl_s32(), m, n)
                .matmul();
    }

    /**
     * The product of integers, scaled: C[m, n] = (A[m, k] B[k, n]) a b[n], with A in u8, B in s8, C in f32, one scale a
     * for A and one scale in b for each column of B. Operands: A, B, C, a, b. About saturation see {@link #matmulInt8}.
     */
    public static Operation matmulInt8Scaled(long m, long n, long k) {
        return new Builder()
                .operand(Dnnl.DNNL_ARG_SRC(), Dnnl.dnnl_u8(), m, k)
                .operand(Dnnl.DNNL_ARG_WEIGHTS(), Dnnl.dnnl_s8(), k, n)
                .operand(Dnnl.DNNL_ARG_DST(), Dnnl.dnnl_f32(), m, n)
                .scales(Dnnl.DNNL_ARG_SRC(), 0, 1)
                .scales(Dnnl.DNNL_ARG_WEIGHTS(), 1 << 1, n)
                .matmul();
    }

    /**
     * Quantizes rows with given scales: out[r, c] = saturate(round(in[r, c] * inverse[r])), from f32 to s8, ties to even.
     * {@code inverse} holds the reciprocals of the scales. Operands: in, out, inverse.
     */
    public static Operation quantizeRows(long rows, long cols) {
        return new Builder()
                .operand(Dnnl.DNNL_ARG_FROM(), Dnnl.dnnl_f32(), rows, cols)
                .operand(Dnnl.DNNL_ARG_TO(), Dnnl.dnnl_s8(), rows, cols)
                .scales(Dnnl.DNNL_ARG_FROM(), 1 << 0, rows)
                .reorder();
    }

    /** A prepared operation. One thread at a time may run it. Close it when done. */
    public static final class Operation implements AutoCloseable {
        private final Arena arena = Arena.ofShared();
        private final List<Buffer> buffers = new ArrayList<>();
        private final List<MemorySegment> memories = new ArrayList<>();
        private final List<Step> steps = new ArrayList<>();
        private final MemorySegment stream;
        private final OneThread oneThread = new OneThread("this operation");

        /** What an operand of {@link #run} is to oneDNN. */
        private record Buffer(MemorySegment memory, int index, long bytes, boolean written) {}

        private record Step(MemorySegment primitive, int count, MemorySegment arguments) {}

        private Operation(Builder builder, MemorySegment description) {
            MemorySegment out = arena.allocate(ADDRESS);
            check("dnnl_stream_create", Dnnl.dnnl_stream_create(out, ENGINE, Dnnl.dnnl_stream_in_order()));
            stream = out.get(ADDRESS, 0);
            int n = builder.operands.size();
            MemorySegment arguments = dnnl_exec_arg_t.allocateArray(n, arena);
            for (int i = 0; i < n; i++) {
                Operand operand = builder.operands.get(i);
                MemorySegment memory = memory(operand.description, NONE, operand.bytes.length);
                if (operand == builder.reordered) {
                    MemorySegment preferred = Dnnl.dnnl_primitive_desc_query_md(description, Dnnl.dnnl_query_weights_md(), 0);
                    MemorySegment inner = memory(preferred, ALLOCATE, 1);
                    Step reorder = reorder(operand.description, preferred, memory, inner);
                    if (builder.fixed.address() == 0) {
                        steps.add(reorder);
                        buffers.add(new Buffer(memory, 0, operand.bytes[0], false));
                    } else {
                        handle(memory, 0, builder.fixed);
                        run(reorder);
                        check("dnnl_stream_wait", Dnnl.dnnl_stream_wait(stream));
                        Dnnl.dnnl_primitive_destroy(reorder.primitive);
                    }
                    memory = inner;
                } else {
                    for (int b = 0; b < operand.bytes.length; b++) {
                        buffers.add(new Buffer(memory, b, operand.bytes[b], operand.argument == Dnnl.DNNL_ARG_DST()
                                || operand.argument == Dnnl.DNNL_ARG_TO()));
                    }
                }
                argument(arguments, i, operand.argument, memory);
            }
            steps.add(step(description, n, arguments));
        }

        private MemorySegment memory(MemorySegment description, long handle, int handles) {
            MemorySegment out = arena.allocate(ADDRESS);
            MemorySegment all = arena.allocate(ADDRESS, handles);
            for (int i = 0; i < handles; i++) {
                all.setAtIndex(ADDRESS, i, MemorySegment.ofAddress(handle));
            }
            check("dnnl_memory_create_v2", Dnnl.dnnl_memory_create_v2(out, description, ENGINE, handles, all));
            memories.add(out.get(ADDRESS, 0));
            return memories.getLast();
        }

        private Step reorder(MemorySegment from, MemorySegment to, MemorySegment source, MemorySegment target) {
            MemorySegment out = arena.allocate(ADDRESS);
            check("dnnl_reorder_primitive_desc_create",
                    Dnnl.dnnl_reorder_primitive_desc_create(out, from, ENGINE, to, ENGINE, MemorySegment.NULL));
            MemorySegment description = out.get(ADDRESS, 0);
            try {
                MemorySegment arguments = dnnl_exec_arg_t.allocateArray(2, arena);
                argument(arguments, 0, Dnnl.DNNL_ARG_FROM(), source);
                argument(arguments, 1, Dnnl.DNNL_ARG_TO(), target);
                return step(description, 2, arguments);
            } finally {
                Dnnl.dnnl_primitive_desc_destroy(description);
            }
        }

        private Step step(MemorySegment description, int count, MemorySegment arguments) {
            MemorySegment out = arena.allocate(ADDRESS);
            check("dnnl_primitive_create", Dnnl.dnnl_primitive_create(out, description));
            return new Step(out.get(ADDRESS, 0), count, arguments);
        }

        private static void argument(MemorySegment arguments, int i, int argument, MemorySegment memory) {
            MemorySegment slot = dnnl_exec_arg_t.asSlice(arguments, i);
            dnnl_exec_arg_t.arg(slot, argument);
            dnnl_exec_arg_t.memory(slot, memory);
        }

        private static void handle(MemorySegment memory, int index, MemorySegment data) {
            check("dnnl_memory_set_data_handle_v2", Dnnl.dnnl_memory_set_data_handle_v2(memory, data, index));
        }

        private void run(Step step) {
            check("dnnl_primitive_execute",
                    Dnnl.dnnl_primitive_execute(step.primitive, stream, step.count, step.arguments));
        }

        /**
         * Runs the operation and waits for its end.
         *
         * @param operands off-heap, in the order that the method which prepared this operation states; each exactly as
         *     large as its matrix. None is kept.
         */
        public void run(MemorySegment... operands) {
            if (operands.length != buffers.size()) {
                throw new IllegalArgumentException("needs " + buffers.size() + " operands, but has " + operands.length);
            }
            for (int i = 0; i < operands.length; i++) {
                need("operand " + i, operands[i], buffers.get(i).bytes);
                if (buffers.get(i).written) {
                    Native.output("operand " + i, operands[i], 0, null);
                }
            }
            try (OneThread _ = oneThread.enter()) {
                if (!arena.scope().isAlive()) {
                    throw new IllegalStateException("this operation is closed");
                }
                try {
                    for (int i = 0; i < operands.length; i++) {
                        handle(buffers.get(i).memory, buffers.get(i).index, operands[i]);
                    }
                    steps.forEach(this::run);
                    check("dnnl_stream_wait", Dnnl.dnnl_stream_wait(stream));
                } finally {
                    // oneDNN keeps addresses: the memory behind them is kept alive until here, and no longer.
                    Reference.reachabilityFence(operands);
                    for (Buffer buffer : buffers) {
                        handle(buffer.memory, buffer.index, MemorySegment.NULL);
                    }
                }
            }
        }

        @Override
        public void close() {
            try (OneThread _ = oneThread.enter()) {
                if (!arena.scope().isAlive()) {
                    return;
                }
                arena.close();
                Dnnl.dnnl_stream_destroy(stream);
                steps.forEach(step -> Dnnl.dnnl_primitive_destroy(step.primitive));
                memories.forEach(Dnnl::dnnl_memory_destroy);
            }
        }
    }

    /** @param bytes of each buffer; a sparse matrix has three */
    private record Operand(int argument, int type, long[] dims, MemorySegment description, long[] bytes) {}

    /** Collects descriptions, and frees them when the operation is made or could not be. */
    private static final class Builder {
        final List<Operand> operands = new ArrayList<>();
        /** The operand whose layout oneDNN chooses, or null. */
        Operand reordered;
        /** Its data if it stays the same, or {@code NULL} if each run has its own. */
        MemorySegment fixed = MemorySegment.NULL;
        private final Arena arena = Arena.ofConfined();
        private final MemorySegment out = arena.allocate(ADDRESS);
        private MemorySegment attributes = MemorySegment.NULL;

        Builder operand(int argument, int type, long... dims) {
            return operand(argument, type, dims, dims.length == 2 ? new long[] {dims[1], 1} : new long[] {1});
        }

        /** A matrix of which the columns lie one after the other. */
        Builder transposed(int argument, int type, long rows, long cols) {
            return operand(argument, type, new long[] {rows, cols}, new long[] {1, rows});
        }

        private Builder operand(int argument, int type, long[] dims, long[] strides) {
            checkSizes(dims);
            check("dnnl_memory_desc_create_with_strides", Dnnl.dnnl_memory_desc_create_with_strides(out, dims.length,
                    arena.allocateFrom(JAVA_LONG, dims), type, arena.allocateFrom(JAVA_LONG, strides)));
            long bytes = type == Dnnl.dnnl_s8() || type == Dnnl.dnnl_u8() ? 1 : 4;
            for (long dim : dims) {
                bytes = Math.multiplyExact(bytes, dim);
            }
            operands.add(new Operand(argument, type, dims, out.get(ADDRESS, 0), new long[] {bytes}));
            return this;
        }

        Builder csr(int argument, int type, long rows, long cols, long nnz) {
            checkSizes(rows, cols, nnz);
            long[] dims = {rows, cols};
            check("dnnl_memory_desc_create_with_csr_encoding", Dnnl.dnnl_memory_desc_create_with_csr_encoding(out, 2,
                    arena.allocateFrom(JAVA_LONG, dims), type, nnz, Dnnl.dnnl_s32(), Dnnl.dnnl_s32()));
            operands.add(new Operand(argument, type, dims, out.get(ADDRESS, 0), new long[] {
                    Math.multiplyExact(4, nnz), Math.multiplyExact(4, nnz), 4 * (rows + 1)}));
            return this;
        }

        private static void checkSizes(long... sizes) {
            for (long size : sizes) {
                if (size < 1) {
                    throw new IllegalArgumentException("sizes must be positive");
                }
            }
        }

        /** Leaves the layout of the second operand to oneDNN. */
        Builder reordered(MemorySegment fixed) {
            reordered = operands.get(1);
            this.fixed = fixed;
            return this;
        }

        Builder scales(int argument, int mask, long count) {
            if (attributes.address() == 0) {
                check("dnnl_primitive_attr_create", Dnnl.dnnl_primitive_attr_create(out));
                attributes = out.get(ADDRESS, 0);
            }
            check("dnnl_primitive_attr_set_scales_mask",
                    Dnnl.dnnl_primitive_attr_set_scales_mask(attributes, argument, mask));
            return operand(Dnnl.DNNL_ARG_ATTR_SCALES() | argument, Dnnl.dnnl_f32(), count);
        }

        Operation matmul() {
            MemorySegment weights = operands.get(1).description;
            if (reordered != null) {
                check("dnnl_memory_desc_create_with_tag", Dnnl.dnnl_memory_desc_create_with_tag(out, 2,
                        arena.allocateFrom(JAVA_LONG, reordered.dims), reordered.type, Dnnl.dnnl_format_tag_any()));
                weights = out.get(ADDRESS, 0);
            }
            int status = Dnnl.dnnl_matmul_primitive_desc_create(out, ENGINE, operands.get(0).description, weights,
                    MemorySegment.NULL, operands.get(2).description, attributes);
            if (reordered != null) {
                Dnnl.dnnl_memory_desc_destroy(weights);
            }
            return build("dnnl_matmul_primitive_desc_create", status);
        }

        Operation reorder() {
            return build("dnnl_reorder_primitive_desc_create",
                    Dnnl.dnnl_reorder_primitive_desc_create(out, operands.get(0).description, ENGINE,
                            operands.get(1).description, ENGINE, attributes));
        }

        private Operation build(String function, int status) {
            try (arena) {
                check(function, status);
                MemorySegment description = out.get(ADDRESS, 0);
                try {
                    return new Operation(this, description);
                } finally {
                    Dnnl.dnnl_primitive_desc_destroy(description);
                }
            } finally {
                operands.forEach(operand -> Dnnl.dnnl_memory_desc_destroy(operand.description));
                if (attributes.address() != 0) {
                    Dnnl.dnnl_primitive_attr_destroy(attributes);
                }
            }
        }
    }

    /** The processor. It lives as long as the process. */
    private static MemorySegment engine() {
        OneDnnLibrary.load();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(ADDRESS);
            check("dnnl_engine_create", Dnnl.dnnl_engine_create(out, Dnnl.dnnl_cpu(), 0));
            return out.get(ADDRESS, 0);
        }
    }

    private static void need(String name, MemorySegment segment, long bytes) {
        Native.input(name, segment, 0, null);
        if (segment.byteSize() != bytes) {
            throw new IllegalArgumentException(name + " must be " + bytes + " bytes off the heap, but is " + segment);
        }
    }

    private static void check(String function, int status) {
        if (status != Dnnl.dnnl_success()) {
            throw new KernelException(function, status, Dnnl.dnnl_status2str(status).getString(0));
        }
    }
}
