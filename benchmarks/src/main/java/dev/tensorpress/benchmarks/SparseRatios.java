package dev.tensorpress.benchmarks;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Machine;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;

/**
 * Sparsity: the speed of choosing and storing as a share of that of reading, and of products as a multiple of the best
 * dense one, by layout and sparsity, as tables in Markdown. Within a table cell all cases take turns, round after round, and
 * what is shown is the median over the rounds of the ratio within a round.
 */
public final class SparseRatios {
    /** A case that has taken this long in a cell is not run again there, once it has had its least number of rounds. */
    private static final double SECONDS = 0.6;
    private static final int LEAST_ROUNDS = 3;
    /** Work that is shorter is run once more before it is timed, so that it finds its caches as it leaves them. */
    private static final double SHORT = 0.05;
    /** The sparsity of the figures that are asked for. */
    private static final int TYPICAL = 90;
    private static final ThreadMXBean THREADS = ManagementFactory.getThreadMXBean();

    private static final List<SparseCase> DENSE = List.of(SparseCase.ONEDNN_MATMUL, SparseCase.ONEDNN_REORDERING,
            SparseCase.ONEDNN_LINEAR, SparseCase.ONEDNN_SGEMM);
    private static final List<SparseCase> PRODUCTS = List.of(SparseCase.ONEDNN_CSR, SparseCase.CSR16, SparseCase.CSR32,
            SparseCase.BSR4, SparseCase.BSR8, SparseCase.NM24, SparseCase.CSR16_TRANSPOSED);
    private static final List<SparseCase> DENSE_INT8 = List.of(SparseCase.ONEDNN_INT8, SparseCase.ONEDNN_INT8_LINEAR);
    private static final List<SparseCase> PRODUCTS_INT8 = List.of(SparseCase.CSR16_INT8, SparseCase.CSR32_INT8,
            SparseCase.BSR4_INT8, SparseCase.BSR8_INT8, SparseCase.NM24_INT8);
    /** Choosing and storing. */
    private static final List<SparseCase> PASSES = Arrays.stream(SparseCase.values())
            .filter(c -> c.compareTo(SparseCase.FROM_BITMASK) <= 0).toList();

    private final int size;
    private final int rounds;
    private final TreeSet<Integer> sparsities;
    private final TreeSet<Integer> columns;
    private final Set<SparseCase> cases;
    private final Map<List<Integer>, Cell> cells = new LinkedHashMap<>();
    private Cell passes;

    /** Seconds of cases that took turns, by round; NaN where a case had none. {@code cold}: read other memory before. */
    private record Cell(Map<SparseCase, double[]> seconds, Map<SparseCase, double[]> cold, Map<SparseCase, Long> bytes) {
        Cell() {
            this(new EnumMap<>(SparseCase.class), new EnumMap<>(SparseCase.class), new EnumMap<>(SparseCase.class));
        }

        boolean has(SparseCase c) {
            return seconds.containsKey(c);
        }

        double milliseconds(SparseCase c) {
            return 1e3 * Ratios.quantile(seconds.get(c), 0.5);
        }

        /** How much faster a case is than another, round by round. */
        static double[] speeds(Map<SparseCase, double[]> seconds, SparseCase c, SparseCase other) {
            double[] own = seconds.get(c);
            double[] others = seconds.get(other);
            double[] ratios = new double[own.length];
            Arrays.setAll(ratios, i -> others[i] / own[i]);
            return ratios;
        }

        double speed(SparseCase c, SparseCase other) {
            return Ratios.quantile(speeds(seconds, c, other), 0.5);
        }

        /** Bytes per second of a case as a share of another's. */
        double bandwidth(SparseCase c, SparseCase other) {
            return speed(c, other) * bytes.get(c) / bytes.get(other);
        }

        /** The fastest of these, or null. */
        SparseCase best(List<SparseCase> of) {
            return of.stream().filter(this::has).min((a, b) -> Double.compare(milliseconds(a), milliseconds(b))).orElse(null);
        }
    }

    private SparseRatios(int size, int rounds, TreeSet<Integer> sparsities, TreeSet<Integer> columns, Set<SparseCase> cases) {
        this.size = size;
        this.rounds = rounds;
        this.sparsities = sparsities;
        this.columns = columns;
        this.cases = cases;
    }

    public static void main(String[] args) throws IOException {
        int rounds = 9;
        int size = 4096;
        int threads = 0;
        boolean serve = false;
        boolean processor = false;
        String sparsities = "50,60,70,80,90,95,99";
        String columns = "1,16,128,1024";
        Set<SparseCase> cases = new TreeSet<>(List.of(SparseCase.values()));
        for (int i = 0; i < args.length; i += 2) {
            String value = i + 1 < args.length ? args[i + 1] : "";
            try {
                switch (args[i]) {
                    case "--rounds" -> rounds = Math.max(1, Integer.parseInt(value));
                    case "--size" -> size = Integer.parseInt(value);
                    case "--threads" -> threads = Integer.parseInt(value);
                    case "--sparsity" -> sparsities = value;
                    case "--columns" -> columns = value;
                    case "--cases" -> cases = Arrays.stream(value.split(",")).map(SparseCase::valueOf)
                            .collect(Collectors.toCollection(TreeSet::new));
                    case "--serve" -> {
                        serve = true;
                        i--;
                    }
                    case "--processor" -> {
                        processor = true;
                        i--;
                    }
                    default -> throw new IllegalArgumentException("unknown option " + args[i]);
                }
            } catch (IllegalArgumentException e) {
                System.err.println(args[i] + " " + value + ": " + e.getMessage());
                System.err.println("options: --rounds N  --size N  --threads N (0: all)  --sparsity 50,90  --columns 1,128"
                        + "  --serve [--processor]  --cases "
                        + String.join(",", Arrays.stream(SparseCase.values()).map(SparseCase::name).toList()));
                System.exit(2);
            }
        }
        if (serve) {
            serve(size, threads, processor);
            return;
        }
        System.out.println(Ratios.machine() + "; " + Machine.tier() + "; load average " + load());
        cases.removeIf(c -> {
            String missing = c.missing();
            if (missing != null) {
                System.out.println("\nLeft out: " + c.description() + ": " + missing);
            }
            return missing != null;
        });
        try (Executor executor = Executor.cpu(threads)) {
            new SparseRatios(size, rounds, numbers(sparsities), numbers(columns), cases).run(executor);
        }
    }

    private static TreeSet<Integer> numbers(String list) {
        return Arrays.stream(list.split(",")).map(Integer::valueOf).collect(Collectors.toCollection(TreeSet::new));
    }

    private static String load() throws IOException {
        Path file = Path.of("/proc/loadavg");
        return Files.isReadable(file) ? Files.readString(file).split(" ")[0] : "unknown";
    }

    /**
     * For other programs that take turns with this one: each line asks for a run, {@code CASE SPARSITY COLUMNS}, and is
     * answered with its nanoseconds, or with those of its thread's processor time. What a line asks for is prepared and checked
     * when it comes for the first time.
     */
    private static void serve(int size, int threads, boolean processor) throws IOException {
        Map<Integer, Pruned> matrices = new HashMap<>();
        Map<String, Work> prepared = new HashMap<>();
        try (Executor executor = Executor.cpu(threads)) {
            BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
            for (String line; (line = lines.readLine()) != null; ) {
                String[] words = line.split(" ");
                Pruned a = matrices.computeIfAbsent(Integer.valueOf(words[1]), s -> new Pruned(size, size, s, executor));
                Work work = prepared.computeIfAbsent(line, l -> SparseCase.valueOf(words[0]).prepare(a, Integer.parseInt(words[2])));
                System.out.println(processor ? processorTime(work) : Math.round(time(work) * 1e9));
            }
        } finally {
            prepared.values().forEach(Work::close);
            matrices.values().forEach(Pruned::close);
        }
    }

    private static long processorTime(Work work) {
        long start = THREADS.getCurrentThreadCpuTime();
        work.run();
        return THREADS.getCurrentThreadCpuTime() - start;
    }

    private static double time(Work work) {
        long start = System.nanoTime();
        work.run();
        return (System.nanoTime() - start) * 1e-9;
    }

    private void run(Executor executor) throws IOException {
        int typical = sparsities.contains(TYPICAL) ? TYPICAL : sparsities.last();
        for (int s : sparsities) {
            try (Pruned a = new Pruned(size, size, s, executor)) {
                if (s == typical) {
                    System.err.println("choosing and storing, " + s + " %");
                    passes = measure(a, 1, PASSES);
                }
                for (int n : columns) {
                    System.err.println(s + " %, " + n + " columns");
                    List<SparseCase> products = new ArrayList<>(List.of(SparseCase.READ, SparseCase.READ_CSR16));
                    List.of(PRODUCTS, DENSE, PRODUCTS_INT8, DENSE_INT8).forEach(products::addAll);
                    products.removeIf(c -> c.pairs() && s != sparsities.first() || n > 1 && c.compareTo(SparseCase.READ_CSR16) <= 0);
                    cells.put(List.of(s, n), measure(a, n, products));
                }
            }
        }
        System.out.printf(Locale.ROOT, "%n%d x %d, %d threads%n", size, size, executor.threads());
        if (passes.has(SparseCase.READ)) {
            printPasses(typical);
        }
        for (int n : columns) {
            printProducts("f32, " + n + (n == 1 ? " column" : " columns"), n, DENSE, PRODUCTS);
            printOwnBytes(n);
        }
        for (int n : columns) {
            printProducts("int8, " + n + (n == 1 ? " column" : " columns"), n, DENSE_INT8, PRODUCTS_INT8);
        }
        printNoise();
    }

    private Cell measure(Pruned a, int n, List<SparseCase> of) {
        Cell cell = new Cell();
        Map<SparseCase, Work> works = new EnumMap<>(SparseCase.class);
        Map<SparseCase, Double> last = new EnumMap<>(SparseCase.class);
        try {
            for (SparseCase c : of) {
                if (cases.contains(c)) {
                    works.put(c, c.prepare(a, n));
                    last.put(c, time(works.get(c)));
                    cell.bytes.put(c, works.get(c).bytes());
                    cell.seconds.put(c, none());
                }
            }
            boolean cold = n == 1 && cell.has(SparseCase.READ) && cell.has(SparseCase.READ_CSR16) && cell.has(SparseCase.CSR16);
            if (cold) {
                cell.cold.put(SparseCase.READ_CSR16, none());
                cell.cold.put(SparseCase.CSR16, none());
            }
            for (int round = 0; round < rounds; round++) {
                for (SparseCase c : works.keySet()) {
                    double[] seconds = cell.seconds.get(c);
                    if (round >= LEAST_ROUNDS && Arrays.stream(seconds, 0, round).filter(x -> x > 0).sum() > SECONDS) {
                        continue;
                    }
                    if (last.get(c) < SHORT) {
                        works.get(c).run();
                    }
                    seconds[round] = time(works.get(c));
                    last.put(c, seconds[round]);
                }
                for (SparseCase c : cell.cold.keySet()) {
                    works.get(SparseCase.READ).run();
                    cell.cold.get(c)[round] = time(works.get(c));
                }
            }
        } finally {
            works.values().forEach(Work::close);
        }
        return cell;
    }

    private double[] none() {
        double[] seconds = new double[rounds];
        Arrays.fill(seconds, Double.NaN);
        return seconds;
    }

    private void printPasses(int sparsity) {
        System.out.printf(Locale.ROOT, "%n### Choosing and storing, %d %% zeros%n%n| | ms | GB/s | of reading |%n|---|---:|---:|---:|%n",
                sparsity);
        for (SparseCase c : PASSES) {
            if (passes.has(c)) {
                double ms = passes.milliseconds(c);
                System.out.printf(Locale.ROOT, "| %s | %.4g | %.1f | %.2f |%n", c.description(), ms, passes.bytes.get(c) / ms * 1e-6,
                        passes.bandwidth(c, SparseCase.READ));
            }
        }
        System.out.println();
        if (passes.has(SparseCase.KTH)) {
            System.out.printf(Locale.ROOT, "The k-th magnitude is found at %.2f of the speed of reading the data twice (target 0.33).%n",
                    2 * passes.speed(SparseCase.KTH, SparseCase.READ));
        }
        if (passes.has(SparseCase.TO_BITMASK) && passes.has(SparseCase.TO_CSR16)) {
            System.out.printf(Locale.ROOT, "Dense to bitmask is %.2f times as fast as dense to CSR16 (target 1).%n",
                    passes.speed(SparseCase.TO_BITMASK, SparseCase.TO_CSR16));
        }
    }

    /** How many times as fast as the best dense product; NaN if one of them was not run. */
    private double gain(int sparsity, int n, SparseCase c, List<SparseCase> dense) {
        Cell cell = cells.get(List.of(sparsity, n));
        SparseCase best = cell.best(dense);
        return best == null || !cell.has(c) ? Double.NaN : cell.speed(c, best);
    }

    private void printProducts(String title, int n, List<SparseCase> dense, List<SparseCase> products) {
        List<SparseCase> shown = products.stream()
                .filter(c -> sparsities.stream().anyMatch(s -> !Double.isNaN(gain(s, n, c, dense)))).toList();
        if (shown.isEmpty()) {
            return;
        }
        System.out.printf(Locale.ROOT, "%n### %s: ms, and times as fast as the best dense product%n%n| zeros | dense |", title);
        shown.forEach(c -> System.out.print(" " + c.description() + " |"));
        System.out.print("\n|---:|---:|" + "---:|".repeat(shown.size()) + "\n");
        for (int s : sparsities) {
            Cell cell = cells.get(List.of(s, n));
            SparseCase best = cell.best(dense);
            System.out.printf(Locale.ROOT, "| %d %% | %.4g |", s, cell.milliseconds(best));
            for (SparseCase c : shown) {
                System.out.print(cell.has(c) ? String.format(Locale.ROOT, " %.4g (%.2f) |", cell.milliseconds(c), gain(s, n, c, dense)) : " |");
            }
            System.out.println();
        }
        System.out.println("\nFaster than dense: " + shown.stream().filter(c -> !c.pairs())
                .map(c -> c.description() + " " + crossing(n, c, dense)).collect(Collectors.joining(", ")) + ".");
        Map<String, Long> best = sparsities.stream().collect(Collectors.groupingBy(
                s -> cells.get(List.of(s, n)).best(dense).description(), LinkedHashMap::new, Collectors.counting()));
        System.out.println("The best dense product, by number of rows: " + best.entrySet().stream()
                .map(e -> e.getKey() + " " + e.getValue()).collect(Collectors.joining(", ")) + ".");
        Cell cell = cells.get(List.of(sparsities.contains(TYPICAL) ? TYPICAL : sparsities.last(), n));
        if (dense == DENSE && cell.has(SparseCase.ONEDNN_CSR) && cell.has(SparseCase.CSR16)) {
            System.out.printf(Locale.ROOT, "CSR16 at %d %% is %.2f times as fast as oneDNN's CSR.%n",
                    sparsities.contains(TYPICAL) ? TYPICAL : sparsities.last(), cell.speed(SparseCase.CSR16, SparseCase.ONEDNN_CSR));
        }
    }

    /** From which sparsity on a case beats dense: in between by the logarithm of its gain. */
    private String crossing(int n, SparseCase c, List<SparseCase> dense) {
        Integer from = null;
        for (int s : sparsities.descendingSet()) {
            if (!(gain(s, n, c, dense) >= 1)) {
                break;
            }
            from = s;
        }
        if (from == null) {
            return "nowhere";
        }
        Integer below = sparsities.lower(from);
        if (below == null) {
            return "from " + from + " % or less";
        }
        double low = Math.log(gain(below, n, c, dense));
        double high = Math.log(gain(from, n, c, dense));
        return String.format(Locale.ROOT, "from %.0f %%", below + (from - below) * -low / (high - low));
    }

    private void printOwnBytes(int n) {
        int s = sparsities.contains(TYPICAL) ? TYPICAL : sparsities.last();
        Cell cell = cells.get(List.of(s, n));
        if (!cell.cold.isEmpty()) {
            System.out.printf(Locale.ROOT, "CSR16 at %d %% runs at %.2f of the speed of reading as many bytes with its data in caches as "
                    + "it left them, at %.2f after reading other %d MB (target 0.8).%n", s, cell.speed(SparseCase.CSR16, SparseCase.READ_CSR16),
                    Ratios.quantile(Cell.speeds(cell.cold, SparseCase.CSR16, SparseCase.READ_CSR16), 0.5),
                    cell.bytes.get(SparseCase.READ) >> 20);
        }
    }

    private void printNoise() throws IOException {
        double[] spreads = cells.values().stream().filter(cell -> cell.best(DENSE) != null && cell.has(SparseCase.CSR16))
                .mapToDouble(cell -> Ratios.spread(Cell.speeds(cell.seconds, SparseCase.CSR16, cell.best(DENSE)))).sorted().toArray();
        if (spreads.length > 0) {
            System.out.printf(Locale.ROOT, "%nNoise: the middle half of the rounds lies within %.0f %% of the gain of CSR16 (median of the "
                    + "cells; at worst %.0f %%).", 100 * Ratios.quantile(spreads, 0.5), 100 * spreads[spreads.length - 1]);
        }
        System.out.println(" Load average at the end: " + load() + ", this program's own threads included.");
    }
}
