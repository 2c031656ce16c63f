package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_gemm_layout;
import dev.tensorpress.bindings.tp_gemm_spec;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Gram matrices X<sup>T</sup> X of values X [rows, groups * channels] in f32: one [channels, channels] for each group of channels, without
 * products between groups. Products are summed in f32 over blocks of 256 rows, counted from the first one ever given, and these sums in f64.
 * So how rows are cut into calls makes no difference, nor does the number of threads, the processor or the device.
 *
 * <p>Memory is the matrices', a block of rows, and up to 600 KB of scratch for each thread of the executor. On a device, matrices of
 * 128 channels and more are summed there, and take one and a half times their size, and a block of rows twice. One thread at a time
 * may use it: another one gets an {@link IllegalStateException}. Close it when done.
 */
public final class Gram implements AutoCloseable {
    /** Rows whose products are summed in f32: {@code TP_GEMM_BLOCK}. */
    private static final int BLOCK = 256;
    /** Rows and columns of a tile of the result: with its operands it stays in the second cache. */
    private static final int TILE = 128;
    /** Rows and columns of a tile that is copied. */
    private static final int MIRROR = 64;
    /** Channels with which the way to a device pays. */
    private static final int LARGE = 128;
    /** Multiplications that are worth a thread. */
    private static final long WORTH = 1 << 20;

    static {
        dev.tensorpress.internal.NativeLibrary.load();
    }

    private final int groups;
    private final int channels;
    /** f64 [groups, channels, channels], of which the upper triangles are added to. */
    private final MemorySegment sums;
    /** The threads. */
    private final Executor executor;
    private final Arena arena;
    /** Where all is summed, if that is a device; else null. */
    private final Device there;
    /** Rows of a block that is not full; null before there are any. */
    private MemorySegment pending;
    private final MemorySegment[] specs;
    private final OneThread oneThread = new OneThread("this Gram matrix");
    private int waiting;
    private boolean finished;

    /** What lies on a device: sums as above, a block of rows, and its product. */
    private record Device(Executor executor, Place place, MemorySegment sums, DeviceMemory block, MemorySegment product) {
        static Device of(int groups, long channels, Executor executor) {
            Place place = new Place(executor);
            try {
                MemorySegment block = place.allocate(DType.F32.bytes(BLOCK * groups * channels));
                return new Device(executor, place, place.allocate(DType.F64.bytes(groups * channels * channels)), DeviceMemory.of(block),
                        place.allocate(DType.F32.bytes(channels * channels)));
            } catch (RuntimeException | Error e) {
                place.close();
                throw e;
            }
        }
    }

    /**
     * @param sums f64 [groups, channels, channels], zeros; its own until it is finished
     * @param executor must outlive this object
     */
    public Gram(int groups, int channels, MemorySegment sums, Executor executor) {
        if (groups < 1 || channels < 0) {
            throw new IllegalArgumentException("no " + groups + " groups of " + channels + " channels");
        }
        this.groups = groups;
        this.channels = channels;
        this.sums = sums;
        this.executor = Native.host(executor);
        Native.result("sums", sums, DType.F64, Math.multiplyExact(groups, (long) channels), channels, channels, this.executor);
        arena = this.executor.arena();
        specs = new MemorySegment[this.executor.threads()];
        for (int i = 0; i < specs.length; i++) {
            specs[i] = tp_gemm_spec.allocate(arena);
        }
        try {
            there = Native.onDevice(executor) && channels >= LARGE ? Device.of(groups, channels, executor) : null;
        } catch (RuntimeException | Error e) {
            arena.close();
            throw e;
        }
    }

    /**
     * Adds rows.
     *
     * @param x f32 [rows, groups * channels], at any byte, finite; not kept
     * @param stride elements from row to row
     * @throws IllegalStateException if it is finished
     */
    public void add(MemorySegment x, long rows, long stride) {
        long width = (long) groups * channels;
        Native.input("x", x, Native.bytes("x", DType.F32, rows, width, stride), executor);
        try (OneThread _ = oneThread.enter()) {
            if (finished) {
                throw new IllegalStateException("this Gram matrix is finished");
            }
            for (long done = 0; done < rows && width > 0;) {
                long take = Math.min(BLOCK - waiting, rows - done);
                if (take == BLOCK && (there == null || stride == width)) {
                    multiply(x.asSlice(4 * done * stride), BLOCK, stride);
                } else {
                    pending = pending == null ? arena.allocate(DType.F32.bytes(BLOCK * width), 64) : pending;
                    for (long r = done; r < done + take; r++) {
                        MemorySegment.copy(x, 4 * r * stride, pending, 4 * waiting++ * width, 4 * width);
                    }
                    if (waiting == BLOCK) {
                        flush();
                    }
                }
                done += take;
            }
        }
    }

    private void flush() {
        multiply(pending, waiting, (long) groups * channels);
        waiting = 0;
    }

    /** Makes the matrices whole: the rows of the last block, and what is below the diagonals. No rows can be added then. */
    public void finish() {
        try (OneThread _ = oneThread.enter()) {
            if (finished) {
                return;
            }
            finished = true;
            if (waiting > 0) {
                flush();
            }
            if (there != null) {
                there.place.fetch(there.sums, sums.asSlice(0, 8L * groups * channels * channels));
                return;
            }
            int strips = Math.ceilDiv(channels, MIRROR);
            executor.run((long) groups * strips, 1, Executor.worth((long) MIRROR * channels), (begin, end, worker) -> {
                double[] above = new double[MIRROR * MIRROR];
                double[] below = new double[MIRROR];
                for (long strip = begin; strip < end; strip++) {
                    long first = strip / strips * channels * channels;
                    int row = (int) (strip % strips) * MIRROR;
                    for (int column = row; column < channels; column += MIRROR) {
                        mirror(first, row, column, above, below);
                    }
                }
            });
        }
    }

    /** Copies a tile on or above the diagonal to where it is below, in pieces that loops without the second compiler are fast on. */
    private void mirror(long first, int row, int column, double[] above, double[] below) {
        int height = Math.min(MIRROR, channels - row);
        int width = Math.min(MIRROR, channels - column);
        for (int i = 0; i < height; i++) {
            MemorySegment.copy(sums, JAVA_DOUBLE, 8 * (first + (long) (row + i) * channels + column), above, i * MIRROR, width);
        }
        for (int j = 0; j < width; j++) {
            int count = row == column ? j : height;
            for (int i = 0; i < count; i++) {
                below[i] = above[i * MIRROR + j];
            }
            MemorySegment.copy(below, 0, sums, JAVA_DOUBLE, 8 * (first + (long) (column + j) * channels + row), count);
        }
    }

    /** A block of rows without gaps. What is below a diagonal has the same bits as what is above. */
    private void multiplyThere(MemorySegment x, int rows) {
        long width = (long) groups * channels;
        long square = (long) channels * channels;
        there.block.upload(x.asSlice(0, DType.F32.bytes(rows * width)));
        try (Gemm gemm = new Gemm(new Gemm.Spec(DType.F32, Gemm.Form.ATB, channels, channels, rows, width, width, channels, false), there.executor)) {
            for (int g = 0; g < groups; g++) {
                MemorySegment of = there.block.at(DType.F32.bytes((long) g * channels));
                MemorySegment to = Native.from(there.sums, DType.F64.bytes(g * square));
                gemm.pack(of).multiply(of, there.product);
                Native.run("tp_accumulate", there.executor, channels, 1, 1, Native.Cost.of(12 * square, 8 * square), (begin, end, worker) ->
                        Kernels.tp_accumulate(channels, channels, channels, channels, begin, end, there.product, to), (cuda, begin, end) ->
                        Kernels.tp_cuda_accumulate(cuda, channels, channels, channels, channels, begin, end, there.product, to));
            }
        }
    }

    /** A block of rows: each task has a strip of columns of one group, from the first row to the diagonal; the longest strips come first. */
    private void multiply(MemorySegment x, int rows, long stride) {
        if (there != null) {
            multiplyThere(x, rows);
            return;
        }
        int strips = Math.ceilDiv(channels, TILE);
        long most = Math.min(TILE, channels);
        fill(specs[0], most, most, rows, stride);
        long packed;
        long product = DType.F32.bytes(TILE * TILE);
        long scratch;
        try (Arena own = Arena.ofConfined()) {
            MemorySegment layout = tp_gemm_layout.allocate(own);
            Native.check("tp_gemm_layout_of", Kernels.tp_gemm_layout_of(specs[0], layout));
            packed = Math.ceilDiv(tp_gemm_layout.packed_bytes(layout), 64) * 64;
            scratch = packed + product + tp_gemm_layout.scratch_bytes(layout);
        }
        long triangle = (long) groups * channels * (channels + 1) / 2;
        Native.Cost cost = new Native.Cost(DType.F32.bytes((long) rows * groups * channels) + 8 * triangle, 8 * triangle, 2 * triangle * rows);
        long work = Math.max(1, triangle * rows / Math.multiplyExact(strips, (long) groups));
        Native.run("tp_gram", executor, (long) strips * groups, 1, Math.max(1, WORTH / work), scratch, cost, (begin, end, worker) -> {
            int status = 0;
            for (long task = begin; task < end && status == 0; task++) {
                status = strip(x, rows, stride, task % groups, strips - 1 - task / groups, specs[worker.index()],
                        worker.scratch().asSlice(0, packed), worker.scratch().asSlice(packed, product), worker.scratch().asSlice(packed + product));
            }
            return status;
        });
    }

    private int strip(MemorySegment x, int rows, long stride, long group, long strip, MemorySegment spec, MemorySegment packed,
            MemorySegment product, MemorySegment scratch) {
        long column = strip * TILE;
        long width = Math.min(TILE, channels - column);
        MemorySegment from = x.asSlice(4 * group * channels);
        fill(spec, width, width, rows, stride);
        long panels;
        try (Arena own = Arena.ofConfined()) {
            MemorySegment layout = tp_gemm_layout.allocate(own);
            Native.check("tp_gemm_layout_of", Kernels.tp_gemm_layout_of(spec, layout));
            panels = tp_gemm_layout.panels(layout);
        }
        int status = Kernels.tp_gemm_pack(spec, 0, panels, from.asSlice(4 * column), packed);
        for (long row = 0; row <= column && status == 0; row += TILE) {
            long height = Math.min(TILE, channels - row);
            fill(spec, height, width, rows, stride);
            status = Kernels.tp_gemm(spec, 0, height, 0, panels, from.asSlice(4 * row), packed, product, scratch);
            if (status == 0) {
                status = Kernels.tp_accumulate(height, width, width, channels, 0, height, product,
                        sums.asSlice(8 * ((group * channels + row) * channels + column)));
            }
        }
        return status;
    }

    /** The product of some columns of X, transposed, with `width` others. */
    private static void fill(MemorySegment spec, long height, long width, int rows, long stride) {
        tp_gemm_spec.m(spec, height);
        tp_gemm_spec.n(spec, width);
        tp_gemm_spec.k(spec, rows);
        tp_gemm_spec.a_stride(spec, stride);
        tp_gemm_spec.b_stride(spec, stride);
        tp_gemm_spec.c_stride(spec, width);
        tp_gemm_spec.type(spec, Kernels.TP_F32());
        tp_gemm_spec.form(spec, Kernels.TP_GEMM_ATB());
        tp_gemm_spec.accumulate(spec, 0);
    }

    @Override
    public void close() {
        try (OneThread _ = oneThread.enter()) {
            if (arena.scope().isAlive()) {
                arena.close();
                if (there != null) {
                    there.place.close();
                }
            }
        }
    }
}
