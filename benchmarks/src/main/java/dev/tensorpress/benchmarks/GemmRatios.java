package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import dev.tensorpress.kernel.Gemm;
import dev.tensorpress.kernel.Gemm.Form;
import dev.tensorpress.kernel.Gemm.Spec;
import dev.tensorpress.kernel.Machine;
import dev.tensorpress.kernel.OneDnn;
import dev.tensorpress.kernel.Workers;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Locale;
import java.util.Random;

/**
 * Dense products beside oneDNN's, as a table in Markdown. The two take turns, round after round; the ratio is the median of
 * the ratios of neighbours. Ours has B packed before, as a weight would be; "with B" packs it each time. oneDNN is
 * given B as it is. int8 is u8 below 128 times s8, which oneDNN multiplies exactly on every processor.
 */
public final class GemmRatios {
    private static final int[][] SHAPES = {{1024, 1024, 1024}, {32, 384, 384}, {32, 1536, 384}, {32, 384, 1536}, {32, 3072, 768},
        {128, 384, 384}, {128, 1536, 384}, {128, 384, 1536}, {128, 768, 768}, {512, 384, 384}, {512, 3072, 768}, {512, 768, 3072},
        {4096, 256, 4096}};

    private GemmRatios() {}

    /** Options: {@code --rounds N}, {@code --threads N} (0: all), {@code --milliseconds N} of a sample. */
    public static void main(String[] args) {
        int rounds = 9;
        int threads = 0;
        int milliseconds = 10;
        for (int i = 0; i + 1 < args.length; i += 2) {
            int value = Integer.parseInt(args[i + 1]);
            switch (args[i]) {
                case "--rounds" -> rounds = value;
                case "--threads" -> threads = value;
                case "--milliseconds" -> milliseconds = value;
                default -> throw new IllegalArgumentException("unknown option " + args[i]);
            }
        }
        try (Workers workers = new Workers(threads)) {
            System.out.printf("Tier %s, oneDNN %s, %d threads; GFLOP/s or GOP/s%n%n", Machine.tier(), OneDnn.version(), workers.threads());
            System.out.println("| type | m | n | k | Gemm | with B | oneDNN | Gemm : oneDNN |");
            System.out.println("|---|---:|---:|---:|---:|---:|---:|---:|");
            for (DType type : new DType[] {DType.F32, DType.I8}) {
                for (int[] s : SHAPES) {
                    measure(Spec.of(type, Form.AB, s[0], s[1], s[2]), workers, rounds, milliseconds * 1e-3);
                }
            }
        }
    }

    private static void measure(Spec s, Workers workers, int rounds, double sample) {
        boolean floats = s.type() == DType.F32;
        OpenMp.setThreads(workers.threads());
        try (Arena arena = Arena.ofShared(); Gemm gemm = new Gemm(s, workers);
                OneDnn.Operation peer = floats ? OneDnn.matmul(s.m(), s.n(), s.k()) : OneDnn.matmulInt8(s.m(), s.n(), s.k())) {
            MemorySegment a = arena.allocate(s.type().bytes(s.m() * s.k()), 64);
            MemorySegment b = arena.allocate(s.type().bytes(s.k() * s.n()), 64);
            MemorySegment c = arena.allocate(4 * s.m() * s.n(), 64);
            MemorySegment other = arena.allocate(4 * s.m() * s.n(), 64);
            Random random = new Random(1);
            fill(a, floats, 0, random);
            fill(b, floats, -128, random);
            gemm.pack(b);
            Runnable[] work = {() -> gemm.multiply(a, c), () -> gemm.pack(b).multiply(a, c), () -> peer.run(a, b, other)};
            for (Runnable w : work) {
                w.run();
            }
            check(s, a, b, c, other, random);
            double[][] seconds = new double[3][rounds];
            for (int round = -1; round < rounds; round++) {
                for (int w = 0; w < 3; w++) {
                    double took = time(work[w], sample);
                    if (round >= 0) {
                        seconds[w][round] = took;
                    }
                }
            }
            double[] ratios = new double[rounds];
            Arrays.setAll(ratios, i -> seconds[2][i] / seconds[0][i]);
            double operations = 2e-9 * s.m() * s.n() * s.k();
            System.out.printf(Locale.ROOT, "| %s | %d | %d | %d | %.0f | %.0f | %.0f | %.2f |%n", floats ? "f32" : "int8", s.m(), s.n(),
                    s.k(), operations / median(seconds[0]), operations / median(seconds[1]), operations / median(seconds[2]),
                    median(ratios));
        }
    }

    private static double time(Runnable work, double sample) {
        long start = System.nanoTime();
        long runs = 0;
        double took;
        do {
            work.run();
            runs++;
            took = (System.nanoTime() - start) * 1e-9;
        } while (took < sample);
        return took / runs;
    }

    /** Bytes from {@code lowest} to 127, or floats. */
    private static void fill(MemorySegment m, boolean floats, int lowest, Random random) {
        for (long i = 0; i < m.byteSize() / (floats ? 4 : 1); i++) {
            if (floats) {
                m.setAtIndex(JAVA_FLOAT, i, random.nextFloat() - 0.5f);
            } else {
                m.set(JAVA_BYTE, i, (byte) random.nextInt(lowest, 128));
            }
        }
    }

    /** Some elements against plain loops, all against the other's. */
    private static void check(Spec s, MemorySegment a, MemorySegment b, MemorySegment c, MemorySegment other, Random random) {
        boolean floats = s.type() == DType.F32;
        for (long i = 0; i < s.m() * s.n(); i++) {
            boolean same = floats ? Math.abs(c.getAtIndex(JAVA_FLOAT, i) - other.getAtIndex(JAVA_FLOAT, i)) <= 1e-6 * s.k()
                    : c.getAtIndex(JAVA_INT, i) == other.getAtIndex(JAVA_INT, i);
            if (!same) {
                throw new IllegalStateException("element " + i + " differs from oneDNN's");
            }
        }
        for (int n = 0; n < 100; n++) {
            long i = random.nextLong(s.m());
            long j = random.nextLong(s.n());
            double sum = 0;
            for (long k = 0; k < s.k(); k++) {
                sum += floats ? (double) a.getAtIndex(JAVA_FLOAT, i * s.k() + k) * b.getAtIndex(JAVA_FLOAT, k * s.n() + j)
                        : a.get(JAVA_BYTE, i * s.k() + k) * b.get(JAVA_BYTE, k * s.n() + j);
            }
            double found = floats ? c.getAtIndex(JAVA_FLOAT, i * s.n() + j) : c.getAtIndex(JAVA_INT, i * s.n() + j);
            if (Math.abs(found - sum) > (floats ? 1e-6 * s.k() : 0)) {
                throw new IllegalStateException("element " + i + ", " + j + " is " + found + ", not " + sum);
            }
        }
    }

    private static double median(double[] values) {
        double[] sorted = values.clone();
        Arrays.sort(sorted);
        return sorted[sorted.length / 2];
    }
}
