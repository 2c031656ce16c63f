package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_SHORT_UNALIGNED;

import com.github.luben.zstd.Zstd;
import dev.tensorpress.kernel.Coding;
import dev.tensorpress.kernel.Coding.Elements;
import dev.tensorpress.kernel.Machine;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * Coding of the matrices of an ONNX model, as they are and made smaller, in blocks of 1 MiB, beside zstd of the same blocks and a copy of them.
 * All take turns, round after round. A block's time is the least of the rounds, since other work of the machine only adds to it; what is shown is that of
 * all blocks, shared by the threads. Elements of int8 have a scale for each row; of those with zeros, nine
 * tenths of the smallest of each matrix are 0.
 */
public final class CodingRatios {
    private static final int BLOCK = 1 << 20;
    /** Bytes of each array: enough for caches to be no help. */
    private static final long MOST = 48L << 20;

    private static final class Coder {
        final String name;
        final int level;
        /** Seconds of each block. */
        final double[] encode;
        final double[] decode;
        final long[] sizes;

        /** Level 0 is ours, -1 a copy. */
        Coder(String name, int level, int blocks) {
            this.name = name;
            this.level = level;
            encode = new double[blocks];
            decode = new double[blocks];
            Arrays.fill(encode, Double.MAX_VALUE);
            Arrays.fill(decode, Double.MAX_VALUE);
            sizes = new long[blocks];
        }
    }

    private CodingRatios() {}

    public static void main(String[] args) throws IOException, InterruptedException {
        int rounds = 9;
        int threads = 1;
        Path model = null;
        for (int i = 0; i < args.length; i++) {
            switch (args[i]) {
                case "--rounds" -> rounds = Integer.parseInt(args[++i]);
                case "--threads" -> threads = Integer.parseInt(args[++i]);
                default -> model = Path.of(args[i]);
            }
        }
        if (model == null) {
            System.err.println("options: MODEL.onnx  --rounds N  --threads N");
            System.exit(2);
        }
        System.out.println(Ratios.machine() + "; " + Machine.tier() + "; load average " + Files.readString(Path.of("/proc/loadavg")).split(" ")[0]
                + "; " + threads + " threads");
        System.out.println("\n| Elements | MB | Coder | Bytes | Of entropy | Encode, GB/s | Decode, GB/s |\n|---|---:|---|---:|---:|---:|---:|");
        try (OnnxModel opened = OnnxModel.open(model, false); Arena arena = Arena.ofShared()) {
            List<float[][]> matrices = new ArrayList<>();
            for (Weight weight : opened.weights()) {
                if (weight.tensor().dtype() == DType.F32 && weight.tensor().shape().rank() == 2) {
                    matrices.add(read(weight));
                }
            }
            ExecutorService pool = Executors.newFixedThreadPool(threads);
            for (Elements elements : List.of(Elements.F32, Elements.BF16, Elements.F16)) {
                run(elements.name(), elements, floats(elements, matrices, arena), arena, pool, threads, rounds);
            }
            run("int8", Elements.BYTES, codes(matrices, 0, arena), arena, pool, threads, rounds);
            run("int8, 90 % zeros", Elements.BYTES, codes(matrices, 0.9, arena), arena, pool, threads, rounds);
            pool.shutdown();
        }
    }

    private static float[][] read(Weight weight) {
        int rows = Math.toIntExact(weight.tensor().shape().dim(0));
        int cols = Math.toIntExact(weight.tensor().shape().dim(1));
        float[][] matrix = new float[rows][cols];
        for (int i = 0; i < rows; i++) {
            for (int j = 0; j < cols; j++) {
                matrix[i][j] = weight.tensor().data().get(JAVA_FLOAT_UNALIGNED, 4 * ((long) i * cols + j));
            }
        }
        return matrix;
    }

    private static MemorySegment floats(Elements elements, List<float[][]> matrices, Arena arena) {
        MemorySegment all = arena.allocate(MOST, 64);
        long at = 0;
        for (float[][] matrix : matrices) {
            for (float[] row : matrix) {
                for (float x : row) {
                    if (at == MOST) {
                        return all;
                    }
                    switch (elements) {
                        case F32 -> all.set(JAVA_FLOAT_UNALIGNED, at, x);
                        case F16 -> all.set(JAVA_SHORT_UNALIGNED, at, Float.floatToFloat16(x));
                        default -> {
                            int bits = Float.floatToIntBits(x);
                            all.set(JAVA_SHORT_UNALIGNED, at, (short) (bits + 0x7fff + (bits >> 16 & 1) >> 16));
                        }
                    }
                    at += elements.bytes();
                }
            }
        }
        return all.asSlice(0, at);
    }

    private static MemorySegment codes(List<float[][]> matrices, double zeros, Arena arena) {
        MemorySegment all = arena.allocate(MOST, 64);
        long at = 0;
        for (float[][] matrix : matrices) {
            float[] sizes = new float[matrix.length * matrix[0].length];
            for (int i = 0; i < sizes.length; i++) {
                sizes[i] = Math.abs(matrix[i / matrix[0].length][i % matrix[0].length]);
            }
            Arrays.sort(sizes);
            float least = zeros > 0 ? sizes[(int) (zeros * sizes.length)] : 0;
            for (float[] row : matrix) {
                float largest = 0;
                for (float x : row) {
                    largest = Math.max(largest, Math.abs(x));
                }
                for (float x : row) {
                    if (at == MOST) {
                        return all;
                    }
                    all.set(JAVA_BYTE, at++, Math.abs(x) < least || largest == 0 ? 0 : (byte) Math.round(127 * x / largest));
                }
            }
        }
        return all.asSlice(0, at);
    }

    /** Order-0 entropy of bytes, in bytes. */
    private static double entropy(MemorySegment in) {
        long[] counts = new long[256];
        for (long i = 0; i < in.byteSize(); i++) {
            counts[in.get(JAVA_BYTE, i) & 255]++;
        }
        return Arrays.stream(counts).filter(c -> c > 0).mapToDouble(c -> -c * Math.log((double) c / in.byteSize()) / Math.log(2) / 8).sum();
    }

    private interface Part {
        void run(int block, MemorySegment scratch);
    }

    private static void run(String name, Elements elements, MemorySegment in, Arena arena, ExecutorService pool, int threads, int rounds)
            throws InterruptedException {
        int blocks = Math.toIntExact((in.byteSize() + BLOCK - 1) / BLOCK);
        long room = Math.max(Coding.bound(elements, BLOCK), Zstd.compressBound(BLOCK));
        MemorySegment coded = arena.allocate(blocks * room, 64);
        MemorySegment again = arena.allocate(in.byteSize(), 64);
        MemorySegment[] scratch = new MemorySegment[threads];
        Arrays.setAll(scratch, t -> arena.allocate(Coding.scratchBytes(elements, BLOCK), 64));
        List<Coder> coders = List.of(new Coder("Tensorpress", 0, blocks), new Coder("zstd -1", 1, blocks),
                new Coder("zstd -3", 3, blocks), new Coder("copy", -1, blocks));
        for (int round = 0; round < rounds; round++) {
            for (Coder coder : coders) {
                spread(pool, threads, coder.encode, scratch, (b, t) ->
                        coder.sizes[b] = encode(coder, elements, block(in, b), coded.asSlice(b * room, room), t));
                again.fill((byte) 0);
                spread(pool, threads, coder.decode, scratch, (b, t) ->
                        decode(coder, coded.asSlice(b * room, coder.sizes[b]), block(again, b), t));
                if (again.mismatch(in) >= 0) {
                    throw new IllegalStateException(coder.name + " gives something else back");
                }
            }
        }
        double entropy = elements == Elements.BYTES ? entropy(in) : 0;
        for (Coder coder : coders) {
            long bytes = Arrays.stream(coder.sizes).sum();
            System.out.printf(Locale.ROOT, "| %s | %.0f | %s | %.2f %% | %s | %.2f | %.2f |%n", name, in.byteSize() / 1e6, coder.name,
                    100.0 * bytes / in.byteSize(), entropy > 0 ? String.format(Locale.ROOT, "%.3f", bytes / entropy) : "",
                    in.byteSize() * threads / Arrays.stream(coder.encode).sum() / 1e9, in.byteSize() * threads / Arrays.stream(coder.decode).sum() / 1e9);
        }
    }

    private static MemorySegment block(MemorySegment all, int b) {
        long from = (long) b * BLOCK;
        return all.asSlice(from, Math.min(BLOCK, all.byteSize() - from));
    }

    private static long encode(Coder coder, Elements elements, MemorySegment in, MemorySegment out, MemorySegment scratch) {
        if (coder.level == 0) {
            return Coding.encode(elements, in, MemorySegment.NULL, out, scratch).bytes();
        }
        if (coder.level > 0) {
            return Zstd.compressDirectByteBuffer(out.asByteBuffer(), 0, (int) out.byteSize(), in.asByteBuffer(), 0, (int) in.byteSize(), coder.level);
        }
        out.asSlice(0, in.byteSize()).copyFrom(in);
        return in.byteSize();
    }

    private static void decode(Coder coder, MemorySegment coded, MemorySegment out, MemorySegment scratch) {
        if (coder.level == 0) {
            Coding.decode(coded, MemorySegment.NULL, out, scratch);
        } else if (coder.level > 0) {
            Zstd.decompressDirectByteBuffer(out.asByteBuffer(), 0, (int) out.byteSize(), coded.asByteBuffer(), 0, (int) coded.byteSize());
        } else {
            out.copyFrom(coded);
        }
    }

    /** Lowers the seconds of each block to what it took. */
    private static void spread(ExecutorService pool, int threads, double[] seconds, MemorySegment[] scratch, Part part) throws InterruptedException {
        CountDownLatch done = new CountDownLatch(threads);
        for (int t = 0; t < threads; t++) {
            int first = t;
            pool.execute(() -> {
                for (int b = first; b < seconds.length; b += threads) {
                    long start = System.nanoTime();
                    part.run(b, scratch[first]);
                    seconds[b] = Math.min(seconds[b], (System.nanoTime() - start) * 1e-9);
                }
                done.countDown();
            });
        }
        done.await();
    }
}
