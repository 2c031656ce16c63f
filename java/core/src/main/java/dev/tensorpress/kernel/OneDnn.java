package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.tensorpress.bindings.onednn.Dnnl;
import dev.tensorpress.bindings.onednn.dnnl_exec_arg_t;
import dev.tensorpress.bindings.onednn.dnnl_version_t;
import dev.tensorpress.internal.OneDnnLibrary;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * Intel's oneDNN: matrix products, and a yardstick for kernels of our own. It is optional; if it is absent every method
 * throws {@link UnsatisfiedLinkError} that says what to add.
 *
 * <p>An operation is prepared for its sizes, which is when oneDNN generates code, and then run any number of times. All
 * matrices are dense, row-major and off-heap. oneDNN spreads the work over OpenMP threads of its own; the environment
 * variable {@code OMP_NUM_THREADS} sets their number.
 */
public final class OneDnn {
    private static final MemorySegment ENGINE = engine();

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
        private final long[] bytes;
        private final MemorySegment[] memories;
        private final MemorySegment arguments;
        private final MemorySegment primitive;
        private final MemorySegment stream;

        private Operation(Builder builder, MemorySegment description) {
            int n = builder.operands.size();
            bytes = new long[n];
            memories = new MemorySegment[n];
            arguments = dnnl_exec_arg_t.allocateArray(n, arena);
            try (Arena scratch = Arena.ofConfined()) {
                MemorySegment out = scratch.allocate(ADDRESS);
                for (int i = 0; i < n; i++) {
                    Operand operand = builder.operands.get(i);
                    bytes[i] = operand.bytes();
                    check("dnnl_memory_create",
                            Dnnl.dnnl_memory_create(out, operand.description, ENGINE, MemorySegment.NULL));
                    memories[i] = out.get(ADDRESS, 0);
                    MemorySegment argument = dnnl_exec_arg_t.asSlice(arguments, i);
                    dnnl_exec_arg_t.arg(argument, operand.argument);
                    dnnl_exec_arg_t.memory(argument, memories[i]);
                }
                check("dnnl_primitive_create", Dnnl.dnnl_primitive_create(out, description));
                primitive = out.get(ADDRESS, 0);
                check("dnnl_stream_create", Dnnl.dnnl_stream_create(out, ENGINE, Dnnl.dnnl_stream_in_order()));
                stream = out.get(ADDRESS, 0);
            }
        }

        /**
         * Runs the operation and waits for its end.
         *
         * @param operands off-heap, in the order that the method which prepared this operation states; each exactly as
         *     large as its matrix. None is kept.
         */
        public void run(MemorySegment... operands) {
            if (operands.length != bytes.length) {
                throw new IllegalArgumentException("needs " + bytes.length + " operands, but has " + operands.length);
            }
            for (int i = 0; i < bytes.length; i++) {
                if (!operands[i].isNative() || operands[i].byteSize() != bytes[i]) {
                    throw new IllegalArgumentException("operand " + i + " must be " + bytes[i] + " bytes off the heap, but is "
                            + operands[i]);
                }
            }
            for (int i = 0; i < bytes.length; i++) {
                check("dnnl_memory_set_data_handle", Dnnl.dnnl_memory_set_data_handle(memories[i], operands[i]));
            }
            check("dnnl_primitive_execute", Dnnl.dnnl_primitive_execute(primitive, stream, bytes.length, arguments));
            check("dnnl_stream_wait", Dnnl.dnnl_stream_wait(stream));
        }

        @Override
        public void close() {
            if (!arena.scope().isAlive()) {
                return;
            }
            arena.close();
            Dnnl.dnnl_stream_destroy(stream);
            Dnnl.dnnl_primitive_destroy(primitive);
            for (MemorySegment memory : memories) {
                Dnnl.dnnl_memory_destroy(memory);
            }
        }
    }

    private record Operand(int argument, int type, long[] dims, MemorySegment description) {
        long bytes() {
            long n = type == Dnnl.dnnl_s8() || type == Dnnl.dnnl_u8() ? 1 : 4;
            for (long dim : dims) {
                n = Math.multiplyExact(n, dim);
            }
            return n;
        }
    }

    /** Collects descriptions, and frees them when the operation is made or could not be. */
    private static final class Builder {
        final List<Operand> operands = new ArrayList<>();
        private final Arena arena = Arena.ofConfined();
        private final MemorySegment out = arena.allocate(ADDRESS);
        private MemorySegment attributes = MemorySegment.NULL;

        Builder operand(int argument, int type, long... dims) {
            if (dims[0] < 1 || dims[dims.length - 1] < 1) {
                throw new IllegalArgumentException("sizes must be positive");
            }
            long[] strides = dims.length == 2 ? new long[] {dims[1], 1} : new long[] {1};
            check("dnnl_memory_desc_create_with_strides", Dnnl.dnnl_memory_desc_create_with_strides(out, dims.length,
                    arena.allocateFrom(JAVA_LONG, dims), type, arena.allocateFrom(JAVA_LONG, strides)));
            operands.add(new Operand(argument, type, dims, out.get(ADDRESS, 0)));
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
            return build("dnnl_matmul_primitive_desc_create",
                    Dnnl.dnnl_matmul_primitive_desc_create(out, ENGINE, operands.get(0).description,
                            operands.get(1).description, MemorySegment.NULL, operands.get(2).description, attributes));
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

    private static void check(String function, int status) {
        if (status != Dnnl.dnnl_success()) {
            throw new KernelException(function, status, Dnnl.dnnl_status2str(status).getString(0));
        }
    }
}
