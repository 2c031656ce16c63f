package dev.tensorpress.benchmarks;

import com.sun.management.OperatingSystemMXBean;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.FeatureScores;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.kernel.Pca;
import dev.tensorpress.kernel.Sparse;
import dev.tensorpress.kernel.SparseMatrix;
import dev.tensorpress.kernel.Svd;
import dev.tensorpress.tensor.DType;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.management.ManagementFactory;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.function.DoubleSupplier;

/**
 * Scores of features and components of sparse data, for another program that takes turns with this one. A line asks for one: {@code WORK FOLDER
 * SAMPLES FEATURES RANK}; the folder has {@code x} (f32), {@code classes} (int32) and {@code targets} (f64), or {@code offsets} (int64), {@code
 * indices} (int32) and {@code values} (f32). The answer is its nanoseconds, those of the process on all processors, the largest resident memory of
 * the process in KiB, and a figure: the sum of the variances kept, or the sum of the scores.
 */
public final class FeatureWork {
    private static final OperatingSystemMXBean SYSTEM = ManagementFactory.getPlatformMXBean(OperatingSystemMXBean.class);

    private FeatureWork() {}

    /** @param args the number of threads; 0: all */
    public static void main(String[] args) throws IOException {
        try (Executor executor = Executor.cpu(Integer.parseInt(args[0]))) {
            BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
            for (String line; (line = lines.readLine()) != null; ) {
                System.out.println(answer(line.split(" "), executor));
            }
        }
    }

    static String answer(String[] words, Executor executor) throws IOException {
        Path folder = Path.of(words[1]);
        long samples = Long.parseLong(words[2]);
        long features = Long.parseLong(words[3]);
        long rank = Long.parseLong(words[4]);
        try (Arena arena = Arena.ofShared()) {
            if (words[0].equals("pca") || words[0].equals("svd")) {
                MemorySegment values = read(folder.resolve("values"), arena);
                SparseMatrix matrix = SparseMatrix.of(Sparse.Layout.CSR32, DType.F32, samples, features, 0, values.byteSize() / 4,
                        read(folder.resolve("offsets"), arena), read(folder.resolve("indices"), arena), values, arena, executor);
                return timed(() -> words[0].equals("pca") ? components(matrix, rank, executor) : decomposed(matrix, rank, executor));
            }
            View x = new View(DType.F32, read(folder.resolve("x"), arena), features);
            int[] classes = read(folder.resolve("classes"), arena).toArray(ValueLayout.JAVA_INT);
            double[] targets = read(folder.resolve("targets"), arena).toArray(ValueLayout.JAVA_DOUBLE);
            return timed(() -> Arrays.stream((switch (words[0]) {
                case "variance" -> FeatureScores.variance(x, samples, features, executor);
                case "anova" -> FeatureScores.anova(x, samples, features, classes, executor);
                case "chi" -> FeatureScores.chiSquared(x, samples, features, classes, executor);
                case "regression" -> FeatureScores.regression(x, samples, features, targets, executor);
                default -> throw new IllegalArgumentException("no work " + words[0]);
            }).values()).sum());
        }
    }

    private static double components(SparseMatrix matrix, long rank, Executor executor) {
        try (Pca pca = Pca.ofRank(matrix, rank, executor)) {
            return Arrays.stream(pca.variance()).sum();
        }
    }

    private static double decomposed(SparseMatrix matrix, long rank, Executor executor) {
        try (Svd svd = new Svd(executor); Arena arena = Arena.ofShared()) {
            MemorySegment s = arena.allocate(8 * rank, 64);
            svd.truncated(matrix, rank, new Svd.Options(0, 3, 1e-4, false), arena.allocate(8 * matrix.rows() * rank, 64), s, arena.allocate(8 * matrix.cols() * rank, 64));
            return Arrays.stream(s.toArray(ValueLayout.JAVA_DOUBLE)).map(v -> v * v).sum();
        }
    }

    private static String timed(DoubleSupplier work) throws IOException {
        long processors = SYSTEM.getProcessCpuTime();
        long start = System.nanoTime();
        double figure = work.getAsDouble();
        long nanos = System.nanoTime() - start;
        long used = SYSTEM.getProcessCpuTime() - processors;
        String resident = Files.readAllLines(Path.of("/proc/self/status")).stream().filter(l -> l.startsWith("VmHWM:")).findFirst().orElse("0");
        return nanos + " " + used + " " + resident.replaceAll("\\D", "") + " " + figure;
    }

    private static MemorySegment read(Path file, Arena arena) throws IOException {
        try (FileChannel channel = FileChannel.open(file)) {
            return arena.allocate(channel.size(), 64).copyFrom(channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena));
        }
    }
}
