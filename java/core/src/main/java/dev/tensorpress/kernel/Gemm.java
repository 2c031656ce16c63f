package dev.tensorpress.kernel;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_gemm_affine;
import dev.tensorpress.bindings.tp_gemm_layout;
import dev.tensorpress.bindings.tp_gemm_spec;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Objects;

/**
 * Kernel family {@code gemm}: products of dense matrices in f32, f64 and exact int8. Formulas, numerics and limits are
 * documented once, in {@code tensorpress/gemm.h}.
 *
 * <p>A product is prepared for its sizes, is given B, which it packs and keeps, and then multiplies any number of A's. Its
 * memory is allocated once, when it is prepared. Segments are off-heap and open to the
 * threads of the executor, or of a {@link DeviceMemory} of it; A and B at any address, C at a multiple of its element's size; zero points and scales may be the calling
 * thread's own, they are copied. None is kept. Results are the same for any number of threads, every processor and every device. One thread at a
 * time may use a product: another one gets an {@link IllegalStateException}. Close it when done.
 * Failures of a kernel are {@link KernelException}s.
 *
 * <p>oneDNN does not stand in for any shape: over those of {@code docs/results.md} these kernels take 0.7 to 1.05 of its time, on
 * AVX2 and AVX-512; only its int8 on AVX2, which saturates, is faster.
 */
public final class Gemm implements AutoCloseable {
    /** Multiplications that are worth a piece of their own, some 10 microseconds. */
    private static final double WORTH = 1 << 20;
    /**
     * Pieces per thread: enough that a thread that was held up does not hold up the others for long. Over the shapes of
     * encoders eight pieces take 1 to 3 % more of the processor than two.
     */
    private static final int PIECES = 4;
    /** Rows of C, at least, of a piece that shares its columns with others: less makes poor use of the caches. */
    private static final long LEAST_ROWS = 48;
    /** Columns of C, at least, of a piece: each packs its rows of A, which takes a tenth of a piece of these and 32 rows. */
    private static final long LEAST_COLUMNS = 192;
    /** Panels that are packed together: they share cache lines and pages. */
    private static final long PANELS_TOGETHER = 4;

    static {
        dev.tensorpress.internal.NativeLibrary.load();
    }

    /** Which operand is transposed: {@code TP_GEMM_*}. */
    public enum Form {
        /** C = A B: A is [m, k], B is [k, n]. */
        AB(0),
        /** C = A<sup>T</sup> B: A is [k, m], B is [k, n]. */
        ATB(1),
        /** C = A B<sup>T</sup>: A is [m, k], B is [n, k]. */
        ABT(2);

        final int id;

        Form(int id) {
            this.id = id;
        }
    }

    /**
     * Sizes of a product, and of its matrices in memory: C [m, n], sums over k; strides from row to row, in elements.
     *
     * @param type of A and B: F32, F64 (and then of C), or I8 (C is I32, or F32)
     * @param accumulate whether the product is added to C
     */
    public record Spec(DType type, Form form, long m, long n, long k, long aStride, long bStride, long cStride,
            boolean accumulate) {
        public Spec {
            Objects.requireNonNull(form);
            Native.oneOf("the type", type, DType.F32, DType.F64, DType.I8);
            Native.elements("A", form == Form.ATB ? k : m, form == Form.ATB ? m : k, aStride);
            Native.elements("B", form == Form.ABT ? n : k, form == Form.ABT ? k : n, bStride);
            Native.elements("C", m, n, cStride);
        }

        /** Of contiguous matrices, overwriting C. */
        public static Spec of(DType type, Form form, long m, long n, long k) {
            return new Spec(type, form, m, n, k, form == Form.ATB ? m : k, form == Form.ABT ? k : n, n, false);
        }

        /** The same, but adding to C. */
        public Spec accumulating() {
            return new Spec(type, form, m, n, k, aStride, bStride, cStride, true);
        }

        /** Bytes of A from its first element to its last, for this many rows of C. */
        private long aBytes(long rows) {
            return form == Form.ATB ? Native.bytes("A", type, k, rows, aStride) : Native.bytes("A", type, rows, k, aStride);
        }

        private long bBytes() {
            return form == Form.ABT ? Native.bytes("B", type, n, k, bStride) : Native.bytes("B", type, k, n, bStride);
        }

    }

    /**
     * Zero points and scales of int8 operands: {@code tp_gemm_affine}. Each is {@code NULL} for none, one value, or one for
     * each row of C (A's) or column (B's).
     *
     * @param aZeros int8
     * @param bZeros int8
     * @param aScales f32, used only if C is f32
     * @param bScales likewise
     */
    public record Affine(MemorySegment aZeros, MemorySegment bZeros, MemorySegment aScales, MemorySegment bScales) {
        /** Neither zero points nor scales. */
        public static final Affine NONE = new Affine(MemorySegment.NULL, MemorySegment.NULL, MemorySegment.NULL, MemorySegment.NULL);
    }

    private final Spec spec;
    private final Executor executor;
    private final Arena arena;
    private final MemorySegment nativeSpec;
    private final MemorySegment affine;
    private final MemorySegment packed;
    /** B on a device, where it is not packed; else null. */
    private final DeviceMemory onDevice;
    private final long scratch;
    private final long panels;
    private final long panelColumns;
    private final long rowGranule;
    /** Memory for copies of zero points and scales, by their place in {@link Affine}. */
    private final MemorySegment[] copies = new MemorySegment[4];
    private final OneThread oneThread = new OneThread("this product");
    private boolean hasB;

    /** Sizes of the packed panels and of one thread's scratch. */
    private record Sizes(long panels, long panelColumns, long rowGranule, long packed, long scratch) {
        static Sizes of(MemorySegment nativeSpec) {
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment layout = tp_gemm_layout.allocate(arena);
                Native.check("tp_gemm_layout_of", Kernels.tp_gemm_layout_of(nativeSpec, layout));
                return new Sizes(tp_gemm_layout.panels(layout), tp_gemm_layout.panel_columns(layout),
                        tp_gemm_layout.row_granule(layout), tp_gemm_layout.packed_bytes(layout),
                        tp_gemm_layout.scratch_bytes(layout));
            }
        }
    }

    /**
     * Prepares a product and allocates its memory.
     *
     * @param executor must outlive the product
     */
    public Gemm(Spec spec, Executor executor) {
        this.spec = spec;
        this.executor = executor;
        arena = executor.arena();
        try {
            nativeSpec = toNative(spec, arena);
            affine = tp_gemm_affine.allocate(arena);
            Sizes sizes = Sizes.of(nativeSpec);
            panels = sizes.panels;
            panelColumns = sizes.panelColumns;
            rowGranule = sizes.rowGranule;
            scratch = sizes.scratch;
            packed = arena.allocate(Native.onDevice(executor) ? 0 : sizes.packed, 64);
            onDevice = Native.onDevice(executor) ? DeviceMemory.allocate(spec.bBytes(), executor) : null;
        } catch (RuntimeException | Error e) {
            arena.close();
            throw e;
        }
    }

    /** Bytes that a product takes: packed B, and of the executor's scratch, for each thread, a block of packed A of at most 420 KB. */
    public static long bytes(Spec spec, Executor executor) {
        try (Arena arena = Arena.ofConfined()) {
            Sizes sizes = Sizes.of(toNative(spec, arena));
            return Math.addExact(sizes.packed, Math.multiplyExact(sizes.scratch, executor.threads()));
        }
    }

    private static MemorySegment toNative(Spec spec, Arena arena) {
        MemorySegment s = tp_gemm_spec.allocate(arena);
        tp_gemm_spec.m(s, spec.m);
        tp_gemm_spec.n(s, spec.n);
        tp_gemm_spec.k(s, spec.k);
        tp_gemm_spec.a_stride(s, spec.aStride);
        tp_gemm_spec.b_stride(s, spec.bStride);
        tp_gemm_spec.c_stride(s, spec.cStride);
        tp_gemm_spec.type(s, Native.id(spec.type));
        tp_gemm_spec.form(s, spec.form.id);
        tp_gemm_spec.accumulate(s, spec.accumulate ? 1 : 0);
        return s;
    }

    public Spec spec() {
        return spec;
    }

    /** Packs B, or on a device keeps a copy of it there, for all products that follow until the next B. It may be changed or freed afterwards. */
    public Gemm pack(MemorySegment b) {
        Native.input("B", b, spec.bBytes(), executor);
        try (OneThread _ = oneThread.enter()) {
            return packed(b);
        }
    }

    private Gemm packed(MemorySegment b) {
        hasB = false;
        if (onDevice != null) {
            onDevice.copy(b);
            hasB = true;
            return this;
        }
        long worth = Math.max(PANELS_TOGETHER, (long) (WORTH / 8 / panelColumns / Math.max(1, spec.k)));
        Native.Cost cost = Native.Cost.of(spec.type.bytes(spec.n * spec.k), packed.byteSize());
        Native.run("tp_gemm_pack", executor, panels, PANELS_TOGETHER, worth, cost, (first, last, worker) ->
                Kernels.tp_gemm_pack(nativeSpec, first, last, b, packed));
        hasB = true;
        return this;
    }

    /** C = op(A) op(B), or that added to C; for int8, C is int32. */
    public void multiply(MemorySegment a, MemorySegment c) {
        multiply(spec.m, a, c);
    }

    /** As above, but only the first {@code rows} rows of C: for batches of up to m rows. */
    public void multiply(long rows, MemorySegment a, MemorySegment c) {
        try (OneThread _ = oneThread.enter()) {
            checkOperands(rows, a, c);
            run("tp_gemm", rows, (begin, end, first, last, own) ->
                    Kernels.tp_gemm(nativeSpec, begin, end, first, last, a, packed, c, own), (cuda, from, to) ->
                    Kernels.tp_cuda_gemm(cuda, nativeSpec, 0, rows, a, onDevice.segment(), c));
        }
    }

    /** The int8 product with zero points, in int32. */
    public void multiplyToInt32(long rows, MemorySegment a, MemorySegment c, Affine values) {
        multiplyInt8(rows, a, c, values, false);
    }

    /** The int8 product with zero points and scales, in f32. Not for products that add to C. */
    public void multiplyToFloat(long rows, MemorySegment a, MemorySegment c, Affine values) {
        if (spec.accumulate) {
            throw new IllegalArgumentException("a product with scales cannot be added to C");
        }
        multiplyInt8(rows, a, c, values, true);
    }

    private void multiplyInt8(long rows, MemorySegment a, MemorySegment c, Affine values, boolean scaled) {
        if (spec.type != DType.I8) {
            throw new IllegalArgumentException("zero points and scales are for I8, not " + spec.type);
        }
        try (OneThread _ = oneThread.enter()) {
            checkOperands(rows, a, c);
            MemorySegment aZeros = take(0, "aZeros", values.aZeros, 1, rows);
            MemorySegment bZeros = take(1, "bZeros", values.bZeros, 1, spec.n);
            MemorySegment aScales = take(2, "aScales", values.aScales, 4, rows);
            MemorySegment bScales = take(3, "bScales", values.bScales, 4, spec.n);
            tp_gemm_affine.a_zero(affine, aZeros);
            tp_gemm_affine.b_zero(affine, bZeros);
            tp_gemm_affine.a_scale(affine, aScales);
            tp_gemm_affine.b_scale(affine, bScales);
            // 0 for one value, or none; 1 for one to each line.
            tp_gemm_affine.a_zero_step(affine, aZeros.byteSize() > 1 ? 1 : 0);
            tp_gemm_affine.b_zero_step(affine, bZeros.byteSize() > 1 ? 1 : 0);
            tp_gemm_affine.a_scale_step(affine, aScales.byteSize() > 4 ? 1 : 0);
            tp_gemm_affine.b_scale_step(affine, bScales.byteSize() > 4 ? 1 : 0);
            tp_gemm_affine.scaled(affine, scaled ? 1 : 0);
            run("tp_gemm_int8", rows, (begin, end, first, last, own) ->
                    Kernels.tp_gemm_int8(nativeSpec, affine, begin, end, first, last, a, packed, c, own), (cuda, from, to) ->
                    Kernels.tp_cuda_gemm_int8(cuda, nativeSpec, affine, 0, rows, a, onDevice.segment(), c));
        }
    }

    /**
     * Copies zero points or scales into memory of this product: the struct that the kernel reads holds addresses, and nothing but
     * this product could vouch for them until the last thread is done.
     *
     * @return {@code NULL}, one value, or one for each line
     */
    private MemorySegment take(int place, String name, MemorySegment values, int size, long lines) {
        Native.input(name, values, 0, null);
        if (values.equals(MemorySegment.NULL)) {
            return MemorySegment.NULL;
        }
        long bytes = values.byteSize() == size ? size : lines * size;
        if (values.byteSize() < bytes) {
            throw new IllegalArgumentException(name + " must hold one value or " + lines + ", but is " + values);
        }
        if (copies[place] == null || copies[place].byteSize() < bytes) {
            copies[place] = arena.allocate(bytes, 16);
        }
        return copies[place].asSlice(0, bytes).copyFrom(values.asSlice(0, bytes));
    }

    private void checkOperands(long rows, MemorySegment a, MemorySegment c) {
        if (rows < 0 || rows > spec.m) {
            throw new IllegalArgumentException("rows must be from 0 to " + spec.m + ", but is " + rows);
        }
        if (!hasB) {
            throw new IllegalStateException("pack B first");
        }
        Native.input("A", a, spec.aBytes(rows), executor);
        Native.result("C", c, spec.type == DType.F64 ? DType.F64 : DType.F32, rows, spec.n, spec.cStride, executor);
    }

    @FunctionalInterface
    private interface Rectangle {
        int call(long begin, long end, long first, long last, MemorySegment scratch);
    }

    /**
     * Cuts C into rectangles: into rows as far as that goes, since columns have to pack the same rows of A again. They are as
     * even as granules allow, and as many rows of them as threads, or a multiple, so that no thread waits for a last one.
     */
    private void run(String kernel, long rows, Rectangle work, Native.OnCuda onCuda) {
        if (rows == 0 || panels == 0) {
            return;
        }
        int threads = executor.threads();
        double worth = (double) rows * spec.n * spec.k / WORTH;
        long wanted = threads == 1 ? 1 : (long) Math.clamp(worth, 1, (double) threads * PIECES);
        long most = Math.clamp(rows / LEAST_ROWS, 1, wanted);
        long down = most > threads ? most - most % threads : most;
        long across = Math.clamp(spec.n / LEAST_COLUMNS, 1, wanted / down);
        long granules = Math.ceilDiv(rows, rowGranule);
        long result = rows * spec.n * (spec.type == DType.F64 ? 8 : 4);
        Native.Cost cost = new Native.Cost(spec.type.bytes(rows * spec.k)
                + (onDevice == null ? packed.byteSize() : spec.type.bytes(spec.n * spec.k)) + (spec.accumulate ? result : 0), result,
                2 * rows * spec.n * spec.k);
        Native.run(kernel, executor, down * across, 1, 1, scratch, cost, (from, to, worker) -> {
            int status = 0;
            for (long piece = from; piece < to && status == 0; piece++) {
                long i = piece / across;
                long j = piece % across;
                status = work.call(granules * i / down * rowGranule, Math.min(granules * (i + 1) / down * rowGranule, rows),
                        panels * j / across, panels * (j + 1) / across, worker.scratch());
            }
            return status;
        }, onCuda);
    }

    @Override
    public void close() {
        try (OneThread _ = oneThread.enter()) {
            if (arena.scope().isAlive()) {
                arena.close();
            }
            if (onDevice != null) {
                onDevice.close();
            }
        }
    }
}
