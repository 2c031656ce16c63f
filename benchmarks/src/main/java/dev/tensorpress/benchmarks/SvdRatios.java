package dev.tensorpress.benchmarks;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.LinearAlgebra;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.kernel.Machine;
import dev.tensorpress.kernel.Svd;
import dev.tensorpress.tensor.DType;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Random;

/** Singular value decompositions of square f32 matrices: time, share of products, error and orthogonality, as a table in Markdown. */
public final class SvdRatios {
    private static final int[] FULL = {384, 1024};

    /**
     * One decomposition.
     *
     * @param rank n: the full one
     * @param options of the truncated one
     */
    private record Job(View a, long n, long rank, Svd.Options options, MemorySegment u, MemorySegment s, MemorySegment vt) {
        static Job of(View a, long n, long rank, Svd.Options options, Arena arena) {
            return new Job(a, n, rank, options, arena.allocate(DType.F32.bytes(n * rank), 64),
                    arena.allocate(DType.F32.bytes(rank), 64), arena.allocate(DType.F32.bytes(rank * n), 64));
        }

        /** The certificate of a truncated decomposition; null for a full one, which makes none. */
        Svd.Certificate run(Svd svd) {
            if (rank == n) {
                svd.full(a, n, n, u, s, vt);
                return null;
            }
            return svd.truncated(a, n, n, rank, options, u, s, vt);
        }

        /** U, s and V^T, one after the other. */
        void save(Path file) throws IOException {
            try (FileChannel channel = FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.WRITE,
                    StandardOpenOption.TRUNCATE_EXISTING)) {
                for (MemorySegment segment : new MemorySegment[] {u, s, vt}) {
                    for (var bytes = segment.asByteBuffer(); bytes.hasRemaining(); ) {
                        channel.write(bytes);
                    }
                }
            }
        }
    }

    private SvdRatios() {}

    /** What is asked for on the command line. */
    record Arguments(int rounds, int threads, int size, int rank, boolean serve) {
        /** @throws IllegalArgumentException naming an option that is wrong */
        static Arguments parse(String... args) {
            int rounds = 5;
            int threads = 0;
            int size = 4096;
            int rank = 256;
            boolean serve = false;
            for (int i = 0; i < args.length; i++) {
                if (args[i].equals("--serve")) {
                    serve = true;
                    continue;
                }
                String value = i + 1 < args.length ? args[i + 1] : "";
                try {
                    switch (args[i]) {
                        case "--rounds" -> rounds = Math.max(1, Integer.parseInt(value));
                        case "--threads" -> threads = Integer.parseInt(value);
                        case "--size" -> size = Integer.parseInt(value);
                        case "--rank" -> rank = Integer.parseInt(value);
                        default -> throw new IllegalArgumentException("unknown option");
                    }
                } catch (IllegalArgumentException e) {
                    throw new IllegalArgumentException(args[i] + " " + value + ": " + e.getMessage(), e);
                }
                i++;
            }
            if (rank < 1 || rank >= size) {
                throw new IllegalArgumentException("the rank must be in 1 .. " + (size - 1) + ", but is " + rank);
            }
            return new Arguments(rounds, threads, size, rank, serve);
        }
    }

    public static void main(String[] args) throws IOException {
        Arguments given = null;
        try {
            given = Arguments.parse(args);
        } catch (IllegalArgumentException e) {
            System.err.println(e.getMessage());
            System.err.println("options: --rounds N  --threads N (0: all)  --size N  --rank N  --serve");
            System.exit(2);
        }
        try (Executor executor = Executor.cpu(given.threads); Svd svd = new Svd(executor)) {
            if (given.serve) {
                serve(svd);
            } else {
                table(executor, svd, given.rounds, given.size, given.rank);
            }
        }
    }

    /**
     * For other programs that take turns with this one. A line asks for a run, {@code run FILE N RANK CERTIFY}, of the f32 matrix
     * [N, N] in a file, which is read when it comes for the first time; the answer is its nanoseconds, those in
     * products, and of a truncated one with CERTIFY {@code true} the error, the bound and the optimum of its certificate. {@code save OUT}
     * writes U, s and
     * V<sup>T</sup> of the last run, and is answered with an empty line.
     */
    private static void serve(Svd svd) throws IOException {
        Map<String, View> matrices = new HashMap<>();
        Map<String, Job> jobs = new HashMap<>();
        try (Arena arena = Arena.ofShared()) {
            BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
            Job last = null;
            for (String line; (line = lines.readLine()) != null; ) {
                String[] words = line.split(" ");
                if (words[0].equals("save") && last != null) {
                    last.save(Path.of(line.substring(5)));
                    System.out.println();
                    continue;
                }
                if (words.length != 5 || !words[0].equals("run")) {
                    throw new IllegalArgumentException("not understood: " + line);
                }
                long n = Long.parseLong(words[2]);
                if (!matrices.containsKey(words[1])) {
                    matrices.put(words[1], read(Path.of(words[1]), n, arena));
                }
                Svd.Options d = Svd.Options.DEFAULT;
                last = jobs.computeIfAbsent(line, l -> Job.of(matrices.get(words[1]), n, Long.parseLong(words[3]),
                        new Svd.Options(d.seed(), d.iterations(), d.tolerance(), Boolean.parseBoolean(words[4])), arena));
                long start = System.nanoTime();
                Svd.Certificate c = last.run(svd);
                long time = System.nanoTime() - start;
                System.out.println(time + " " + svd.times().products() + (c == null || !last.options.certify() ? ""
                        : " " + c.error() + " " + c.bound() + " " + c.optimum()));
            }
        }
    }

    private static View read(Path file, long n, Arena arena) throws IOException {
        MemorySegment data = arena.allocate(DType.F32.bytes(n * n), 64);
        try (FileChannel channel = FileChannel.open(file)) {
            if (channel.size() != data.byteSize()) {
                throw new IOException(file + " has " + channel.size() + " bytes instead of " + data.byteSize());
            }
            MemorySegment.copy(channel.map(FileChannel.MapMode.READ_ONLY, 0, data.byteSize(), arena), 0, data, 0, data.byteSize());
        }
        return new View(DType.F32, data, n);
    }

    private static void table(Executor executor, Svd svd, int rounds, int size, int rank) throws IOException {
        System.out.printf(Locale.ROOT, "%s; %s; %d threads; medians of %d rounds; load average %s%n%n", Ratios.machine(), Machine.tier(),
                executor.threads(), rounds, load());
        System.out.println("| f32 | ms | least to most | in products | error | of the bound | left | right |");
        System.out.println("|---|---:|---:|---:|---:|---:|---:|---:|");
        for (int n : FULL) {
            try (Arena arena = Arena.ofShared()) {
                row("Gaussian, " + n + ", full", Job.of(gaussian(n, executor, arena), n, n, null, arena), svd, rounds);
            }
        }
        Svd.Options d = Svd.Options.DEFAULT;
        for (boolean flat : new boolean[] {true, false}) {
            try (Arena arena = Arena.ofShared()) {
                View a = flat ? gaussian(size, executor, arena) : decaying(size, arena);
                String name = (flat ? "Gaussian, " : "1 / i, ") + size + ", rank " + rank;
                row(name, Job.of(a, size, rank, d, arena), svd, rounds);
                row(name + ", not measured", Job.of(a, size, rank, new Svd.Options(d.seed(), d.iterations(), d.tolerance(), false),
                        arena), svd, rounds);
            }
        }
        System.out.println("\nLoad average at the end: " + load() + ", this program's own threads included.");
    }

    private static void row(String name, Job job, Svd svd, int rounds) {
        job.run(svd);
        double[] ms = new double[rounds];
        double[] share = new double[rounds];
        Svd.Certificate made = null;
        for (int i = 0; i < rounds; i++) {
            long start = System.nanoTime();
            made = job.run(svd);
            ms[i] = (System.nanoTime() - start) * 1e-6;
            share[i] = svd.times().share();
        }
        Svd.Certificate c = svd.certify(job.a, job.n, job.n, job.rank, job.u, job.s, job.vt);
        check(c, job.rank == job.n);
        String bound = made != null && made.bound() > 0 ? String.format(Locale.ROOT, "%.4f", c.error() / made.bound()) : "";
        System.out.printf(Locale.ROOT, "| %s | %.4g | %.4g to %.4g | %.0f %% | %.6g | %s | %.1e | %.1e |%n", name,
                Ratios.quantile(ms, 0.5), Ratios.quantile(ms, 0), Ratios.quantile(ms, 1), 100 * Ratios.quantile(share, 0.5),
                c.relativeError(), bound, c.left(), c.right());
    }

    /** Whatever is to be timed has to be orthogonal, and a full decomposition exact. */
    static void check(Svd.Certificate c, boolean full) {
        if (!(c.left() < 1e-5 && c.right() < 1e-5) || full && !(c.relativeError() < 5e-6)) {
            throw new IllegalStateException("wrong: " + c);
        }
    }

    /** Of standard normal numbers. */
    static View gaussian(int n, Executor executor, Arena arena) {
        MemorySegment data = arena.allocate(DType.F32.bytes((long) n * n), 64);
        try (LinearAlgebra la = new LinearAlgebra(executor)) {
            la.gaussian(1, 0, (long) n * n, DType.F32, data);
        }
        return new View(DType.F32, data, n);
    }

    /** Singular values 1 / i between four random reflections on either side: sketches are Gaussian, so see no difference to more. */
    static View decaying(int n, Arena arena) {
        double[] a = new double[n * n];
        for (int i = 0; i < n; i++) {
            a[i * n + i] = 1.0 / (i + 1);
        }
        Random random = new Random(1);
        for (int k = 0; k < 4; k++) {
            double[] v = random.doubles(n, -1, 1).toArray();
            double squares = 0;
            double[] across = new double[n];
            for (int i = 0; i < n; i++) {
                squares += v[i] * v[i];
                for (int j = 0; j < n; j++) {
                    across[j] += v[i] * a[i * n + j];
                }
            }
            for (int i = 0; i < n; i++) {
                double along = 0;
                for (int j = 0; j < n; j++) {
                    a[i * n + j] -= 2 / squares * v[i] * across[j];
                    along += a[i * n + j] * v[n - 1 - j];
                }
                for (int j = 0; j < n; j++) {
                    a[i * n + j] -= 2 / squares * along * v[n - 1 - j];
                }
            }
        }
        MemorySegment data = arena.allocate(DType.F32.bytes((long) n * n), 64);
        for (int i = 0; i < n * n; i++) {
            data.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) a[i]);
        }
        return new View(DType.F32, data, n);
    }

    private static String load() throws IOException {
        Path file = Path.of("/proc/loadavg");
        return Files.isReadable(file) ? Files.readString(file).split(" ")[0] : "unknown";
    }
}
