package dev.tensorpress.kernel;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/** What the native library sees of this machine. */
public final class Machine {
    /** Larger than any cache, small enough for any machine. */
    private static final long FLOATS = 64L << 20;
    private static final int REPEATS = 7;

    static {
        dev.tensorpress.internal.NativeLibrary.load();
    }

    private Machine() {}

    /** Where the native library was loaded from: a file, or an entry of a jar. */
    public static String library() {
        return dev.tensorpress.internal.NativeLibrary.path();
    }

    /** Version of the native library. */
    public static String version() {
        return Kernels.tp_version().getString(0);
    }

    /** Version of the interface between the native library and this one. */
    public static int abi() {
        return Kernels.tp_abi_version();
    }

    /**
     * Instruction-set tier that kernels use: ref, avx2 or avx512.
     *
     * @throws KernelException if TENSORPRESS_ISA names one that is unknown or not available
     */
    public static String tier() {
        return Kernels.tp_tier_name((int) Native.size("tp_active_tier", Kernels::tp_active_tier)).getString(0);
    }

    /** The best tier of this machine. */
    public static String bestTier() {
        return Kernels.tp_tier_name(Kernels.tp_best_tier()).getString(0);
    }

    /**
     * Memory bandwidth: the median of a few runs over 256 MB.
     *
     * @param read bytes per second of a loop that only reads
     * @param narrow bytes per second, read and written, of a loop that reads four bytes and writes one: the limit of any
     *     kernel from f32 to int8
     */
    public record Bandwidth(double read, double narrow) {}

    /** Measures the bandwidth with all threads of {@code executor}. */
    public static Bandwidth bandwidth(Executor executor) {
        try (Arena arena = executor.arena()) {
            MemorySegment in = arena.allocate(FLOATS * 4, 64);
            MemorySegment out = arena.allocate(FLOATS, 64);
            double read = median(() -> executor.run(FLOATS, 1 << 16, 1, (begin, end, worker) ->
                    streamRead(in.asSlice(begin * 4, (end - begin) * 4))));
            double narrow = median(() -> executor.run(FLOATS, 1 << 16, 1, (begin, end, worker) ->
                    streamNarrow(in.asSlice(begin * 4), end - begin, out.asSlice(begin))));
            return new Bandwidth(FLOATS * 4 / read, FLOATS * 5 / narrow);
        }
    }

    /** {@code tp_stream_narrow}: n floats in, n bytes out, nothing else; the yardstick of the benchmarks. */
    public static void streamNarrow(MemorySegment in, long n, MemorySegment out) {
        Native.operand("in", in, DType.F32, 1, n, n, null);
        Native.output("out", out, n, null);
        Native.check("tp_stream_narrow", Kernels.tp_stream_narrow(in, n, out));
    }

    /** {@code tp_stream_read}: reads, nothing else. The xor of the 64-bit words, the last one filled up with zeros. */
    public static long streamRead(MemorySegment in) {
        Native.input("in", in, 0, null);
        return Native.size("tp_stream_read", xor -> Kernels.tp_stream_read(in, in.byteSize(), xor));
    }

    private static double median(Runnable work) {
        double[] seconds = new double[REPEATS];
        for (int i = 0; i < REPEATS; i++) {
            long start = System.nanoTime();
            work.run();
            seconds[i] = (System.nanoTime() - start) * 1e-9;
        }
        Arrays.sort(seconds);
        return seconds[REPEATS / 2];
    }
}
