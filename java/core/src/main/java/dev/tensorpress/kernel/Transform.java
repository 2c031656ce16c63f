package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_dct;
import dev.tensorpress.bindings.tp_wavelet;
import dev.tensorpress.bindings.tp_zone;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Kernel family {@code transform}: matrices, and planes of images, as coefficients of cosines or of wavelets, and codes of coefficients.
 * {@code tensorpress/transform.h} has the formulas and their numerics; here levels follow each other, and work is spread over threads.
 *
 * <p>Matrices are off-heap, row-major, without gaps and aligned to their elements; what is written overlaps nothing. Bits do not depend on the
 * number of threads, or on the processor. Failures of a kernel are {@link KernelException}s.
 */
public final class Transform {
    /** Elements of a line of codes: {@code TP_CODE_LINE}. */
    private static final long LINE = 4096;
    /** Columns that share a cache line. */
    private static final long COLUMNS = 16;
    /** Largest block of cosines: {@code TP_DCT_MOST}. */
    public static final int LARGEST_BLOCK = 64;

    static {
        dev.tensorpress.internal.NativeLibrary.load();
    }

    private Transform() {}

    /** {@code TP_HAAR}, {@code TP_CDF53}, which is of int32 and reversible, and {@code TP_CDF97}. */
    public enum Wavelet {
        HAAR(1, DType.F32), CDF53(2, DType.I32), CDF97(3, DType.F32);

        private final int id;
        private final DType elements;

        Wavelet(int id, DType elements) {
            this.id = id;
            this.elements = elements;
        }

        /** What it is made of. */
        public DType elements() {
            return elements;
        }
    }

    /**
     * Cosines of blocks.
     *
     * @param block elements along an axis, 2 to {@link #LARGEST_BLOCK}; the last block has what is left
     * @param dimensions 1 for blocks along rows, 2 for squares
     * @param inverse from coefficients to elements
     * @param in f32 [rows, cols]
     * @param out f32 [rows, cols]
     */
    public static void dct(long rows, long cols, int block, int dimensions, boolean inverse, MemorySegment in, MemorySegment out,
            Executor executor) {
        Executor host = Native.host(executor);
        if (block < 2 || block > LARGEST_BLOCK) {
            throw new IllegalArgumentException("a block must have 2 to " + LARGEST_BLOCK + " elements, but has " + block);
        }
        dimensions(dimensions);
        operands(DType.F32, rows, cols, in, out, host);
        MemorySegment spec = Native.struct(tp_dct.layout());
        tp_dct.rows(spec, rows);
        tp_dct.cols(spec, cols);
        tp_dct.in_stride(spec, cols);
        tp_dct.out_stride(spec, cols);
        tp_dct.block(spec, block);
        tp_dct.dimensions(spec, dimensions);
        tp_dct.inverse(spec, inverse ? 1 : 0);
        long bytes = DType.F32.bytes(rows * cols);
        Native.Cost cost = new Native.Cost(bytes, bytes, 2L * dimensions * block * rows * cols);
        Native.run("tp_dct_blocks", host, rows, dimensions == 2 ? block : 1, Executor.worth(cols), Kernels.TP_DCT_SCRATCH(), cost,
                (begin, end, worker) -> Kernels.tp_dct_blocks(spec, begin, end, in, out, worker.scratch()));
    }

    /**
     * A wavelet's coefficients: of each level's low ones, which lie first along each axis, the next level is made.
     *
     * @param dimensions 1 for rows, 2 for rows and columns
     * @param levels 1 or more; those of which there is but one element change nothing
     * @param inverse from coefficients to elements
     * @param in {@code kind.elements()} [rows, cols]
     * @param out the same
     */
    public static void wavelet(Wavelet kind, long rows, long cols, int dimensions, int levels, boolean inverse, MemorySegment in,
            MemorySegment out, Executor executor) {
        Executor host = Native.host(executor);
        dimensions(dimensions);
        if (levels < 1) {
            throw new IllegalArgumentException("levels must be 1 or more, but are " + levels);
        }
        operands(kind.elements, rows, cols, in, out, host);
        long bytes = DType.F32.bytes(rows * cols);
        if (bytes == 0) {
            return;
        }
        // More would change nothing.
        int most = Math.min(levels, Long.SIZE - Long.numberOfLeadingZeros(Math.max(rows, cols)));
        try (Arena arena = host.arena()) {
            MemorySegment between = dimensions == 2 ? arena.allocate(bytes, 64) : out;
            if (inverse) {
                out.asSlice(0, bytes).copyFrom(in.asSlice(0, bytes));
            }
            for (int i = 0; i < most; i++) {
                int level = inverse ? most - 1 - i : i;
                long high = dimensions == 2 ? halved(rows, level) : rows;
                long wide = halved(cols, level);
                MemorySegment spec = Native.struct(tp_wavelet.layout());
                tp_wavelet.rows(spec, high);
                tp_wavelet.cols(spec, wide);
                tp_wavelet.in_stride(spec, cols);
                tp_wavelet.out_stride(spec, cols);
                tp_wavelet.kind(spec, kind.id);
                tp_wavelet.inverse(spec, inverse ? 1 : 0);
                if (dimensions == 1) {
                    rows(spec, high, wide, inverse || level > 0 ? out : in, out, host);
                } else if (inverse) {
                    columns(spec, high, wide, out, between, host);
                    rows(spec, high, wide, between, out, host);
                } else {
                    rows(spec, high, wide, level > 0 ? out : in, between, host);
                    columns(spec, high, wide, between, out, host);
                }
            }
        }
    }

    private static long halved(long n, int times) {
        long left = n;
        for (int i = 0; i < times; i++) {
            left = (left + 1) / 2;
        }
        return left;
    }

    private static void rows(MemorySegment spec, long rows, long cols, MemorySegment in, MemorySegment out, Executor executor) {
        long bytes = DType.F32.bytes(rows * cols);
        Native.run("tp_wavelet_rows", executor, rows, 1, Executor.worth(cols), (DType.F32.bytes(cols) + 63) / 64 * 64, Native.Cost.of(bytes, bytes),
                (begin, end, worker) -> Kernels.tp_wavelet_rows(spec, begin, end, in, out, worker.scratch()));
    }

    private static void columns(MemorySegment spec, long rows, long cols, MemorySegment in, MemorySegment out, Executor executor) {
        long bytes = DType.F32.bytes(rows * cols);
        Native.run("tp_wavelet_columns", executor, cols, COLUMNS, Executor.worth(rows), Native.Cost.of(bytes, bytes),
                (begin, end, worker) -> Kernels.tp_wavelet_columns(spec, begin, end, in, out));
    }

    /**
     * Codes of coefficients: how far from 0 they are, in steps.
     *
     * @param zone what is nearer to 0 than so many steps has the code 0: 0.5, which is rounding, to 1
     * @param offset |code| + offset, times the step, is what a code that is not 0 stands for: -0.5 to 0.5
     * @param limit largest magnitude of a code, 1 to 2<sup>23</sup> - 1
     */
    public record Zone(float zone, float offset, int limit) {
        public Zone {
            if (!(zone >= 0.5f) || !(zone <= 1) || !(Math.abs(offset) <= 0.5f) || limit < 1 || limit >= 1 << 23) {
                throw new IllegalArgumentException("no codes with zone " + zone + ", offset " + offset + ", limit " + limit);
            }
        }
    }

    /**
     * Steps of codes.
     *
     * @param values f32 at any address, positive and finite, one for each group
     * @param group elements that share a step, 1 or more; the last group has what is left
     */
    public record Steps(MemorySegment values, long group) {
        public Steps {
            if (group < 1) {
                throw new IllegalArgumentException("a group must have 1 or more elements, but has " + group);
            }
        }

        /** One step for all elements. */
        public static Steps of(float step) {
            return new Steps(MemorySegment.ofArray(new float[] {step}), Long.MAX_VALUE);
        }

        private long groups(long n) {
            return Math.ceilDiv(n, group);
        }

        /** Lines that each group has, the last one too, where some may be empty. */
        private long lines(long n) {
            return Math.ceilDiv(Math.min(group, n), LINE);
        }
    }

    /** A kernel's call for lines of a group, which starts at an element. */
    private interface GroupCall {
        int call(MemorySegment spec, long begin, long end, long element, long group);
    }

    private static void eachGroup(String kernel, Zone zone, Steps steps, long n, Executor host, GroupCall call) {
        if (steps.values.byteSize() < DType.F32.bytes(steps.groups(n))) {
            throw new IllegalArgumentException("there must be " + steps.groups(n) + " steps, but there are " + steps.values.byteSize() + " bytes");
        }
        long lines = steps.lines(n);
        long bytes = DType.F32.bytes(n);
        Native.run(kernel, host, Math.multiplyExact(steps.groups(n), lines), 1, Executor.worth(Math.min(steps.group, LINE)), tp_zone.sizeof(),
                Native.Cost.of(bytes, bytes), (begin, end, worker) -> {
                    MemorySegment spec = worker.scratch().asSlice(0, tp_zone.sizeof());
                    tp_zone.zone(spec, zone.zone);
                    tp_zone.offset(spec, zone.offset);
                    tp_zone.limit(spec, zone.limit);
                    int status = 0;
                    for (long line = begin; line < end && status == 0;) {
                        long group = line / lines;
                        long first = line - group * lines;
                        long last = Math.min(lines, end - group * lines);
                        long start = group * steps.group;
                        long elements = Math.min(steps.group, n - start);
                        tp_zone.elements(spec, elements);
                        tp_zone.step(spec, steps.values.get(JAVA_FLOAT_UNALIGNED, DType.F32.bytes(group)));
                        long there = Math.min(last, Math.ceilDiv(elements, LINE));
                        status = first < there ? call.call(spec, first, there, start, group) : 0;
                        line = group * lines + last;
                    }
                    return status;
                });
    }

    /**
     * @param n elements
     * @param in f32
     * @param codes int32, out
     * @return for each group the sum of the squares of what the codes lose
     * @throws KernelException {@link KernelException#NONFINITE} if an element is not finite, {@link KernelException#MAGNITUDE} if a code would pass
     *     the limit
     */
    public static double[] quantize(Zone zone, Steps steps, long n, MemorySegment in, MemorySegment codes, Executor executor) {
        Executor host = Native.host(executor);
        operands(DType.F32, 1, n, in, codes, host);
        long lines = steps.lines(n);
        double[] sums = new double[Math.toIntExact(steps.groups(n))];
        try (Arena arena = host.arena()) {
            MemorySegment errors = arena.allocate(JAVA_DOUBLE, Math.max(sums.length * lines, 1));
            eachGroup("tp_zone_quantize", zone, steps, n, host, (spec, begin, end, element, group) -> Kernels.tp_zone_quantize(spec, begin, end,
                    in.asSlice(DType.F32.bytes(element)), codes.asSlice(DType.I32.bytes(element)), errors.asSlice(8 * group * lines)));
            for (long line = 0; line < sums.length * lines; line++) {
                sums[(int) (line / lines)] += errors.getAtIndex(JAVA_DOUBLE, line);
            }
        }
        return sums;
    }

    /**
     * What codes stand for.
     *
     * @param n elements
     * @param codes int32
     * @param out f32
     */
    public static void decode(Zone zone, Steps steps, long n, MemorySegment codes, MemorySegment out, Executor executor) {
        Executor host = Native.host(executor);
        operands(DType.F32, 1, n, codes, out, host);
        eachGroup("tp_zone_decode", zone, steps, n, host, (spec, begin, end, element, group) -> Kernels.tp_zone_decode(spec, begin, end,
                codes.asSlice(DType.I32.bytes(element)), out.asSlice(DType.F32.bytes(element))));
    }

    /**
     * Elements of fewer bits as int32.
     *
     * @param type I8, U8 or I16
     * @param in at any address
     */
    public static void widen(DType type, long n, MemorySegment in, MemorySegment out, Executor executor) {
        Executor host = Native.host(executor);
        int id = narrow(type);
        Native.input("in", in, type.bytes(n), host);
        Native.result("out", out, DType.I32, 1, n, n, host);
        Native.apart("out", out, "in", in);
        Native.run("tp_widen_codes", host, n, LINE, Executor.WORTH, Native.Cost.of(type.bytes(n), DType.I32.bytes(n)),
                (begin, end, worker) -> Kernels.tp_widen_codes(id, begin, end, in, out));
    }

    /**
     * int32 as elements of fewer bits.
     *
     * @param type I8, U8 or I16
     * @throws KernelException {@link KernelException#MAGNITUDE} if one does not fit
     */
    public static void narrow(DType type, long n, MemorySegment in, MemorySegment out, Executor executor) {
        Executor host = Native.host(executor);
        int id = narrow(type);
        Native.operand("in", in, DType.I32, 1, n, n, host);
        Native.result("out", out, type, 1, n, n, host);
        Native.apart("out", out, "in", in);
        Native.run("tp_narrow_codes", host, n, LINE, Executor.WORTH, Native.Cost.of(DType.I32.bytes(n), type.bytes(n)),
                (begin, end, worker) -> Kernels.tp_narrow_codes(id, begin, end, in, out));
    }

    /**
     * How often there is which code.
     *
     * @param limit largest magnitude, 1 to 2<sup>23</sup> - 1
     * @param codes int32
     * @return of code c at limit + c
     * @throws KernelException {@link KernelException#MAGNITUDE} if one is larger
     */
    public static long[] counts(int limit, long n, MemorySegment codes, Executor executor) {
        Executor host = Native.host(executor);
        Native.operand("codes", codes, DType.I32, 1, n, n, host);
        long all = 2L * limit + 1;
        try (Arena arena = host.arena()) {
            MemorySegment counts = arena.allocate(JAVA_LONG, all * host.threads());
            Native.run("tp_count_codes", host, n, LINE, Executor.WORTH, Native.Cost.of(DType.I32.bytes(n), 0),
                    (begin, end, worker) -> Kernels.tp_count_codes(limit, begin, end, codes, counts.asSlice(8 * all * worker.index())));
            long[] sum = new long[(int) all];
            for (long i = 0; i < all * host.threads(); i++) {
                sum[(int) (i % all)] += counts.getAtIndex(JAVA_LONG, i);
            }
            return sum;
        }
    }

    /** Bits that each of the elements takes which were counted, by a coder that knows how often there is which. */
    public static double entropy(long[] counts) {
        long n = 0;
        for (long count : counts) {
            n += count;
        }
        double bits = 0;
        for (long count : counts) {
            bits += count == 0 ? 0 : count * (StrictMath.log((double) n / count) / StrictMath.log(2));
        }
        return n == 0 ? 0 : bits / n;
    }

    private static int narrow(DType type) {
        return switch (type) {
            case I8 -> Kernels.TP_I8();
            case U8 -> Kernels.TP_U8();
            case I16 -> Kernels.TP_I16();
            default -> throw new IllegalArgumentException("codes must be I8, U8 or I16, but are " + type);
        };
    }

    private static void dimensions(int dimensions) {
        if (dimensions != 1 && dimensions != 2) {
            throw new IllegalArgumentException("dimensions must be 1 or 2, but are " + dimensions);
        }
    }

    private static void operands(DType type, long rows, long cols, MemorySegment in, MemorySegment out, Executor host) {
        Native.operand("in", in, type, rows, cols, cols, host);
        Native.result("out", out, type, rows, cols, cols, host);
        Native.apart("out", out, "in", in);
    }
}
