package dev.tensorpress.benchmarks;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Machine;
import dev.tensorpress.kernel.OneDnn;
import java.util.Arrays;
import java.util.Locale;

/**
 * Dense products beside oneDNN's, as a table in Markdown. The two take turns, round after round; the ratio is the median of
 * the ratios of neighbours. "With B" packs B each time; {@link GemmCase} says what is compared.
 */
public final class GemmRatios {
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
        try (Executor executor = Executor.cpu(threads)) {
            System.out.printf("Tier %s, oneDNN %s, %d threads; GFLOP/s or GOP/s%n%n", Machine.tier(), OneDnn.version(), executor.threads());
            System.out.println("| type | m | n | k | Gemm | with B | oneDNN | Gemm : oneDNN |");
            System.out.println("|---|---:|---:|---:|---:|---:|---:|---:|");
            for (boolean floats : new boolean[] {true, false}) {
                for (GemmShape shape : GemmShape.values()) {
                    measure(floats, shape, executor, rounds, milliseconds * 1e-3);
                }
            }
        }
    }

    private static void measure(boolean floats, GemmShape s, Executor executor, int rounds, double sample) {
        try (GemmWork gemm = (floats ? GemmCase.F32 : GemmCase.INT8).prepare(s.m, s.n, s.k, executor);
                GemmWork packing = (floats ? GemmCase.F32_PACKING : GemmCase.INT8_PACKING).prepare(s.m, s.n, s.k, executor);
                GemmWork peer = (floats ? GemmCase.ONEDNN_F32 : GemmCase.ONEDNN_INT8).prepare(s.m, s.n, s.k, executor)) {
            gemm.checkSame(peer);
            packing.checkSame(peer);
            GemmWork[] work = {gemm, packing, peer};
            double[][] seconds = new double[work.length][rounds];
            for (int round = -1; round < rounds; round++) {
                for (int w = 0; w < work.length; w++) {
                    double took = time(work[w], sample);
                    if (round >= 0) {
                        seconds[w][round] = took;
                    }
                }
            }
            double[] ratios = new double[rounds];
            Arrays.setAll(ratios, i -> seconds[2][i] / seconds[0][i]);
            double operations = 2e-9 * s.m * s.n * s.k;
            System.out.printf(Locale.ROOT, "| %s | %d | %d | %d | %.0f | %.0f | %.0f | %.2f |%n", floats ? "f32" : "int8", s.m, s.n,
                    s.k, operations / Ratios.quantile(seconds[0], 0.5), operations / Ratios.quantile(seconds[1], 0.5),
                    operations / Ratios.quantile(seconds[2], 0.5), Ratios.quantile(ratios, 0.5));
        }
    }

    private static double time(Work work, double sample) {
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
}
