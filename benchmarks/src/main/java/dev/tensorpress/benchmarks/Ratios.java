package dev.tensorpress.benchmarks;

import dev.tensorpress.kernel.Machine;
import dev.tensorpress.kernel.OneDnn;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * The speed of all cases as a share of the machine's own limit, {@link Case#STREAM}, as tables in Markdown.
 *
 * <p>Machines drift: clocks change, neighbours come and go. So all cases take turns, round after round, on every tier of
 * instructions that the machine has; each run follows one of the stream; and what is shown is the median over the rounds
 * of the ratio of such neighbours.
 */
public final class Ratios {
    /** Work that has taken this long is not run again, once it has had its least number of rounds. */
    private static final double SECONDS = 15;
    private static final int LEAST_ROUNDS = 3;
    private static final List<String> TIERS = List.of("ref", "avx2", "avx512");

    private final int size;
    private final int threads;
    private final List<Case> cases;
    /** The best first. */
    private final List<Runner> runners = new ArrayList<>();
    private final List<Map<Case, Samples>> samples = new ArrayList<>();

    /** Runs of one case on one tier: seconds, and speed as a share of the stream's just before. Unused rounds are NaN. */
    private record Samples(double[] seconds, double[] shares) {
        Samples(int rounds) {
            this(new double[rounds], new double[rounds]);
            Arrays.fill(seconds, Double.NaN);
            Arrays.fill(shares, Double.NaN);
        }
    }

    private Ratios(int size, int threads, List<Case> cases) {
        this.size = size;
        this.threads = threads;
        this.cases = cases;
    }

    public static void main(String[] args) throws IOException {
        int rounds = 15;
        int size = 8192;
        String threads = "1,0";
        String tiers = String.join(",", TIERS.subList(0, TIERS.indexOf(Machine.bestTier()) + 1));
        List<Case> cases = List.of(Case.values());
        for (int i = 0; i < args.length; i += 2) {
            String value = i + 1 < args.length ? args[i + 1] : "";
            try {
                switch (args[i]) {
                    case "--rounds" -> rounds = Math.max(1, Integer.parseInt(value));
                    case "--size" -> size = Integer.parseInt(value);
                    case "--threads" -> threads = value;
                    case "--tiers" -> tiers = value;
                    case "--cases" -> cases = Arrays.stream(value.split(",")).map(Case::valueOf).toList();
                    default -> throw new IllegalArgumentException("unknown option " + args[i]);
                }
            } catch (IllegalArgumentException e) {
                System.err.println(args[i] + " " + value + ": " + e.getMessage());
                System.err.println("options: --rounds N  --size N  --threads 1,0 (0: all)  --tiers " + String.join(",", TIERS)
                        + "  --cases " + String.join(",", Arrays.stream(Case.values()).map(Case::name).toList()));
                System.exit(2);
            }
        }
        for (Case c : cases) {
            if (!c.available()) {
                System.err.println("left out, its library is not there: " + c.description());
            }
        }
        cases = cases.stream().filter(Case::available).toList();
        System.out.println(machine());
        for (String t : threads.split(",")) {
            new Ratios(size, Integer.parseInt(t), cases).run(tiers.split(","), rounds);
        }
    }

    private void run(String[] tiers, int rounds) throws IOException {
        try {
            for (int i = tiers.length - 1; i >= 0; i--) {
                boolean best = i == tiers.length - 1;
                List<Case> own = new ArrayList<>(cases.stream().filter(c -> best || c.ofTier()).toList());
                if (!own.contains(Case.STREAM)) {
                    own.addFirst(Case.STREAM);
                }
                System.err.println("preparing and checking: " + tiers[i]);
                runners.add(new Runner(tiers[i], size, threads, own));
                samples.add(new EnumMap<>(Case.class));
                cases.forEach(c -> samples.getLast().put(c, new Samples(rounds)));
            }
            for (int round = 0; round < rounds; round++) {
                System.err.println("round " + (round + 1) + " of " + rounds);
                for (Case c : cases) {
                    for (int t = 0; t < runners.size(); t++) {
                        sample(runners.get(t), c, samples.get(t).get(c), round);
                    }
                }
            }
            print();
        } finally {
            for (Runner runner : runners) {
                runner.close();
            }
        }
    }

    /** The limit is the stream of the best tier, whatever the tier of the work. */
    private void sample(Runner runner, Case work, Samples s, int round) throws IOException {
        if (!runner.has(work)
                || round >= LEAST_ROUNDS && Arrays.stream(s.seconds, 0, round).filter(x -> x > 0).sum() > SECONDS) {
            return;
        }
        Runner best = runners.getFirst();
        double limit = best.bytes(Case.STREAM) / best.seconds(Case.STREAM);
        s.seconds[round] = runner.seconds(work);
        s.shares[round] = runner.bytes(work) / s.seconds[round] / limit;
    }

    private void print() {
        String best = runners.getFirst().tier();
        StringBuilder head = new StringBuilder("| | GB/s " + best + " |");
        StringBuilder rule = new StringBuilder("|---|---:|");
        for (Runner runner : runners) {
            head.append(" ms ").append(runner.tier()).append(" | of stream |");
            rule.append("---:|---:|");
        }
        if (runners.size() > 1) {
            head.append(' ').append(best).append(" : ").append(runners.getLast().tier()).append(" |");
            rule.append("---:|");
        }
        System.out.printf(Locale.ROOT, "%n%d x %d, %s%n%n%s%n%s%n", size, size,
                threads == 0 ? "all threads" : threads == 1 ? "1 thread" : threads + " threads", head, rule);
        for (Case c : cases) {
            double ms = milliseconds(0, c);
            StringBuilder line = new StringBuilder("| " + c.description() + " | "
                    + text("%.1f", runners.getFirst().bytes(c) / ms * 1e-6) + " |");
            for (int t = 0; t < runners.size(); t++) {
                boolean has = runners.get(t).has(c);
                line.append(has ? text(" %.4g |", milliseconds(t, c)) + text(share(t, c) < 0.1 ? " %.3f |" : " %.2f |", share(t, c)) : " | |");
            }
            if (runners.size() > 1) {
                int last = runners.size() - 1;
                line.append(runners.get(last).has(c) ? text(" %.1f |", milliseconds(last, c) / ms) : " |");
            }
            System.out.println(line);
        }
        System.out.println();
        for (Case[] pair : new Case[][] {{Case.INT4, Case.INT4_CLIP}, {Case.NBITS4, Case.NBITS4_CLIP}}) {
            if (cases.containsAll(List.of(pair))) {
                System.out.println("The clip search makes \"" + pair[0].description() + "\" take "
                        + text("%.1f", ratio(pair[1], pair[0])) + " times as long.");
            }
        }
        if (cases.containsAll(List.of(Case.GIVEN_ROW, Case.ONEDNN_ROW))) {
            System.out.println("With scales given, int8 per row takes "
                    + text("%.2f", ratio(Case.GIVEN_ROW, Case.ONEDNN_ROW)) + " of the time that oneDNN takes.");
        }
        double[] spreads = cases.stream().mapToDouble(c -> spread(samples.getFirst().get(c).shares)).sorted().toArray();
        System.out.println("Noise: the middle half of the rounds lies within "
                + text("%.0f %%", 100 * quantile(spreads, 0.5)) + " of a share (median of the cases; at worst "
                + text("%.0f %%).", 100 * spreads[spreads.length - 1]));
    }

    private double milliseconds(int tier, Case work) {
        return 1e3 * quantile(samples.get(tier).get(work).seconds, 0.5);
    }

    private double share(int tier, Case work) {
        return quantile(samples.get(tier).get(work).shares, 0.5);
    }

    /** How much longer one takes than the other on the best tier, round by round. */
    private double ratio(Case one, Case other) {
        double[] a = samples.getFirst().get(one).seconds;
        double[] b = samples.getFirst().get(other).seconds;
        double[] ratios = new double[a.length];
        Arrays.setAll(ratios, i -> a[i] / b[i]);
        return quantile(ratios, 0.5);
    }

    static double spread(double[] values) {
        return (quantile(values, 0.75) - quantile(values, 0.25)) / quantile(values, 0.5);
    }

    static double quantile(double[] values, double q) {
        double[] sorted = Arrays.stream(values).filter(x -> !Double.isNaN(x)).sorted().toArray();
        if (sorted.length == 0) {
            return Double.NaN;
        }
        double at = q * (sorted.length - 1);
        int low = (int) at;
        int high = Math.min(low + 1, sorted.length - 1);
        return sorted[low] + (at - low) * (sorted[high] - sorted[low]);
    }

    static String text(String format, double value) {
        return String.format(Locale.ROOT, format, value);
    }

    static String machine() throws IOException {
        Path info = Path.of("/proc/cpuinfo");
        String processor = !Files.isReadable(info) ? System.getProperty("os.arch") : Files.readAllLines(info).stream()
                .filter(line -> line.startsWith("model name")).map(line -> line.substring(line.indexOf(':') + 2))
                .findFirst().orElse(System.getProperty("os.arch"));
        return LocalDate.now() + "; " + processor + ", " + Runtime.getRuntime().availableProcessors() + " processors; Java "
                + Runtime.version().feature() + "; Tensorpress " + Machine.version()
                + (Case.ONEDNN_ROW.available() ? "; oneDNN " + OneDnn.version() : "");
    }
}
