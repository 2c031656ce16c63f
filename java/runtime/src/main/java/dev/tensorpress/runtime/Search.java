package dev.tensorpress.runtime;

import ai.onnxruntime.OnnxTensor;
import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Selector;
import dev.tensorpress.method.GptqMethod;
import dev.tensorpress.method.Method;
import dev.tensorpress.method.QuantizeMethod;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.statistics.Statistics;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.Set;
import java.util.stream.Stream;

/**
 * Looks for the recipe that loses least in a number of bytes, or takes the fewest bytes at a quality. Each weight has a list of candidates:
 * bits, blocks and methods. What each costs in quality is measured on the model's own outputs, and estimated from that: products one by one in
 * one form, all of them in each, tables likewise. Then bytes are handed out by a Lagrange multiplier (Shoham and Gersho, "Efficient bit
 * allocation for an arbitrary set of quantizers", 1988), and what comes of it is measured. Candidates in which all weights are alike are
 * measured as well, so that what is chosen is never worse than those.
 *
 * <p>Quality is the mean cosine between outputs of the model and those of the original on samples that statistics were not made of. The same
 * samples give the same result, unless time runs out.
 */
public final class Search {
    /** Of the first samples, from which sensitivities of single weights are taken. */
    private static final int FEW = 24;
    private static final int ROUNDS = 8;

    /** What outputs are compared as. */
    public enum Compared {
        /** The mean over tokens, as of sentences. */
        EMBEDDINGS,
        /** Each output by itself, whole. */
        OUTPUTS
    }

    /**
     * What is asked for.
     *
     * @param bytes of the file at most, or {@link Long#MAX_VALUE}
     * @param cosine at least, or -1
     */
    public record Goal(long bytes, double cosine) {
        public Goal {
            if ((bytes == Long.MAX_VALUE) == (cosine == -1)) {
                throw new IllegalArgumentException("a goal is a number of bytes or a cosine");
            }
        }

        boolean metBy(Point p) {
            return p.bytes <= bytes && p.cosine >= cosine;
        }
    }

    /**
     * A recipe that was measured.
     *
     * @param uniform whether it treats all weights of a kind alike
     */
    public record Point(Recipe recipe, long bytes, double cosine, boolean uniform) {}

    /**
     * @param chosen the best that meets the goal; if none does, the one that comes nearest
     * @param measured all whole recipes, from the smallest on
     * @param leastBytes of any combination of candidates
     * @param leftOut names of weights that stay as they are, since others, or nodes of others, have the same name
     */
    public record Result(Point chosen, boolean met, List<Point> measured, long leastBytes, List<String> leftOut) {
        /** Those than which no other is both smaller and better, from the smallest on. */
        public List<Point> frontier() {
            List<Point> all = new ArrayList<>();
            for (Point p : measured) {
                if (all.isEmpty() || p.cosine > all.getLast().cosine) {
                    all.add(p);
                }
            }
            return all;
        }
    }

    /** What was measured before, by the text of its recipe and the number of samples. It may outlive the process. */
    public interface Memory {
        /** NaN if it is not known. */
        double cosine(String recipe, int samples);

        void put(String recipe, int samples, double cosine) throws IOException;
    }

    /** Told of each model that was measured, and how many there will be, about. */
    @FunctionalInterface
    public interface Progress {
        void measured(String what, int models, int expected);
    }

    private record Candidate(String name, Method product, Method table, Method conv) {}

    private static Method gptq(int bits, int block) {
        return GptqMethod.of(codes(bits, block));
    }

    private static QuantizeMethod codes(int bits, int block) {
        return (bits == 8 ? QuantizeMethod.int8() : QuantizeMethod.int4().asymmetric().clipSearch(20, 0.7f)).perBlock(block);
    }

    /** From the smallest on; the last one leaves weights as they are. */
    private static final List<Candidate> CANDIDATES = List.of(
            new Candidate("4 bits, blocks of 128", gptq(4, 128), codes(4, 128), null),
            new Candidate("4 bits, blocks of 64", gptq(4, 64), codes(4, 64), null),
            new Candidate("4 bits, blocks of 32", gptq(4, 32), codes(4, 32), null),
            new Candidate("4 bits, blocks of 16", gptq(4, 16), codes(4, 16), null),
            new Candidate("8 bits", gptq(8, 128), codes(8, 64), QuantizeMethod.int8()),
            new Candidate("as it is", null, null, null));
    private static final int PROBE = 2;

    private final Compressor compressor;
    private final Samples samples;
    private final Compared compared;
    private final int threads;
    private final Memory memory;
    private final Progress progress;
    private final Path scratch;
    private final long deadline;
    private final List<Weight> units = new ArrayList<>();
    /** Whose name no recipe can say without another weight. */
    private final List<String> leftOut = new ArrayList<>();
    /** By unit and candidate. */
    private final long[][] bytes;
    private final double[][] losses;
    /** Of whose inputs statistics do not say what rounding by them takes. */
    private final boolean[] blind;
    private final Map<String, Point> measured = new LinkedHashMap<>();
    private List<float[]> reference;
    private int models;
    private final int expected;

    private Search(Compressor compressor, Samples samples, Compared compared, int threads, Memory memory, Progress progress, Path scratch,
            long deadline) {
        this.compressor = compressor;
        this.samples = samples;
        this.compared = compared;
        this.threads = threads == 0 ? Runtime.getRuntime().availableProcessors() : threads;
        this.memory = memory;
        this.progress = progress;
        this.scratch = scratch;
        this.deadline = deadline;
        List<Weight> weights = compressor.model().weights();
        Map<String, Integer> named = new HashMap<>();
        for (Weight w : weights) {
            Set<String> names = new HashSet<>(Set.of(w.name()));
            w.uses().forEach(use -> names.add(use.substring(use.indexOf(' ') + 1)));
            names.forEach(name -> named.merge(name, 1, Integer::sum));
        }
        for (Weight w : weights) {
            boolean kind = w.role().isProduct() || w.role() == Role.EMBEDDING || w.role() == Role.CONV;
            if (!kind || w.obstacle().isPresent() || w.tensor().shape().elements() < Selector.DEFAULT_MIN_SIZE) {
                continue;
            }
            boolean wild = w.name().indexOf('*') >= 0 || w.name().indexOf('?') >= 0;
            if (wild ? weights.stream().filter(other -> Selector.matches(glob(w), other)).count() == 1 : named.get(w.name()) == 1) {
                units.add(w);
            } else {
                leftOut.add(w.name());
            }
        }
        int alone = units.stream().mapToInt(w -> w.role() == Role.EMBEDDING ? CANDIDATES.size() - 1 : 1).sum();
        expected = CANDIDATES.size() - 1 + alone + ROUNDS;
        bytes = new long[units.size()][CANDIDATES.size()];
        losses = new double[units.size()][CANDIDATES.size()];
        blind = new boolean[units.size()];
    }

    /**
     * @param compressor of the model, that may replace files
     * @param statistics of the model, which must not be closed before what is found is compressed
     * @param samples that statistics were not made of
     * @param nanos to stop after, when the measurement at hand is done
     * @param scratch a folder for models on the way: whatever has the name goes
     * @throws UnsupportedRequestException if the model has no weight that could be compressed, or cannot be run
     * @throws IOException if a file cannot be read or written
     */
    public static Result run(Compressor compressor, Statistics statistics, Samples samples, Compared compared, Goal goal, int threads,
            OptionalLong nanos, Memory memory, Progress progress, Path scratch) throws IOException {
        compressor.use(statistics);
        long deadline = nanos.isPresent() ? System.nanoTime() + nanos.getAsLong() : Long.MAX_VALUE;
        try {
            return new Search(compressor, samples, compared, threads, memory, progress, scratch, deadline).run(goal);
        } finally {
            clear(scratch);
            Files.delete(scratch);
        }
    }

    /** Makes it an empty folder: models have files of data beside them, and what was killed leaves some. */
    private static void clear(Path folder) throws IOException {
        if (!Files.isDirectory(folder, LinkOption.NOFOLLOW_LINKS)) {
            Files.deleteIfExists(folder);
            Files.createDirectory(folder);
        }
        List<Path> files;
        try (Stream<Path> there = Files.list(folder)) {
            files = there.toList();
        }
        for (Path file : files) {
            Files.delete(file);
        }
    }

    /** Its name as recipes have it: there is no way to say a star, but that a character is there. */
    private static String glob(Weight w) {
        return w.name().replace('*', '?');
    }

    private boolean outOfTime() {
        return deadline != Long.MAX_VALUE && System.nanoTime() - deadline > 0;
    }

    private Result run(Goal goal) throws IOException {
        if (units.isEmpty()) {
            throw new UnsupportedRequestException(compressor.model().path() + " has no weight that could be compressed: no matrix of a product,"
                    + " convolution or table of at least " + Selector.DEFAULT_MIN_SIZE + " elements"
                    + (leftOut.isEmpty() ? "" : " whose name is not that of others as well"));
        }
        sizes();
        int[] smallest = new int[units.size()];
        for (int i = 0; i < units.size(); i++) {
            for (int c = 0; c < CANDIDATES.size(); c++) {
                smallest[i] = bytes[i][c] < bytes[i][smallest[i]] ? c : smallest[i];
            }
        }
        long least = planned(recipe(smallest));
        uniform();
        if (!outOfTime()) {
            sensitivities();
            if (goal.cosine == -1) {
                inBytes(goal.bytes);
            } else {
                atQuality(goal.cosine);
            }
        }
        List<Point> all = new ArrayList<>(measured.values());
        all.sort(Comparator.comparingLong(Point::bytes).thenComparing(Comparator.comparingDouble(Point::cosine).reversed()));
        Point chosen = null;
        for (Point p : all) {
            if (goal.metBy(p) && (chosen == null || goal.cosine == -1 && p.cosine > chosen.cosine)) {
                chosen = p;
            }
        }
        boolean met = chosen != null;
        if (!met) {
            chosen = goal.cosine == -1 ? all.getFirst() : all.stream().max(Comparator.comparingDouble(Point::cosine)).orElseThrow();
        }
        return new Result(chosen, met, List.copyOf(all), least, List.copyOf(leftOut));
    }

    private Method method(int unit, int candidate) {
        Candidate c = CANDIDATES.get(candidate);
        Role role = units.get(unit).role();
        Method m = role == Role.CONV ? c.conv : role == Role.EMBEDDING ? c.table : c.product;
        return blind[unit] && m instanceof GptqMethod g ? g.codes() : m;
    }

    /** A step for each kind and candidate that is in use. */
    private Recipe recipe(int[] choice) {
        Map<Method, List<String>> names = new LinkedHashMap<>();
        for (int c = 0; c < CANDIDATES.size(); c++) {
            for (int i = 0; i < units.size(); i++) {
                Method m = choice[i] == c ? method(i, c) : null;
                if (m != null) {
                    names.computeIfAbsent(m, method -> new ArrayList<>()).add(glob(units.get(i)));
                }
            }
        }
        List<Recipe.Step> steps = new ArrayList<>();
        names.forEach((method, of) -> steps.add(new Recipe.Step("step" + (steps.size() + 1), new Selector(Set.of(), of, 0), method)));
        return new Recipe("found", "", steps, List.of(), Map.of());
    }

    private long planned(Recipe recipe) {
        return compressor.plan(recipe).after().bytes();
    }

    private int[] all(int candidate) {
        int[] choice = new int[units.size()];
        Arrays.fill(choice, candidate);
        return choice;
    }

    /** What each candidate takes; those that a target refuses take what the weight does. */
    private void sizes() {
        Map<String, Plan.Entry> entries = new HashMap<>();
        compressor.plan(recipe(all(PROBE))).entries().forEach(e -> entries.put(e.weight().name(), e));
        for (int i = 0; i < units.size(); i++) {
            blind[i] = entries.get(units.get(i).name()).lowering().isEmpty();
        }
        for (int c = 0; c < CANDIDATES.size(); c++) {
            Plan plan = compressor.plan(recipe(all(c)));
            Map<String, Long> after = new LinkedHashMap<>();
            plan.entries().forEach(e -> after.put(e.weight().name(), e.after().bytes()));
            for (int i = 0; i < units.size(); i++) {
                bytes[i][c] = after.get(units.get(i).name());
            }
        }
    }

    /** All weights alike, and all of a kind with the others as they are: what a candidate loses, kind by kind. */
    private void uniform() throws IOException {
        int kept = CANDIDATES.size() - 1;
        Recipe original = recipe(all(kept));
        measured.put(original.yaml(), new Point(original, planned(original), 1, true));
        for (int c = 0; c < kept && !(outOfTime() && measured.size() > 1); c++) {
            measure(recipe(all(c)), "all weights: " + CANDIDATES.get(c).name, true);
        }
    }

    private boolean isProduct(int unit) {
        return units.get(unit).role().isProduct();
    }

    /**
     * Tables and convolutions are measured in each candidate, which is quick; products, for which there is more to do, in one. What they lose in others
     * follows from the models in which all are alike, less what the others lose there.
     */
    private void sensitivities() throws IOException {
        int kept = CANDIDATES.size() - 1;
        double[] products = new double[kept];
        double[] one = new double[units.size()];
        double sum = 0;
        for (int c = 0; c < kept; c++) {
            Point alike = measured.get(recipe(all(c)).yaml());
            products[c] = alike == null ? products[Math.max(0, c - 1)] : 1 - alike.cosine;
        }
        for (int i = 0; i < units.size(); i++) {
            int[] choice = all(kept);
            for (int c = 0; !isProduct(i) && c < kept; c++) {
                choice[i] = c;
                if (method(i, c) != null) {
                    losses[i][c] = outOfTime() ? losses[i][Math.max(0, c - 1)] : loss(choice, units.get(i).name());
                    products[c] -= losses[i][c];
                }
            }
            if (isProduct(i)) {
                choice[i] = PROBE;
                one[i] = outOfTime() ? sum / Math.max(1, i) : loss(choice, units.get(i).name());
                sum += one[i];
            }
        }
        for (int i = 0; i < units.size(); i++) {
            for (int c = 0; isProduct(i) && c < kept; c++) {
                // Estimates of small differences may be off, but more bits never lose more.
                double all = Math.max(products[c], 1e-9);
                losses[i][c] = sum == 0 ? all / units.size() : one[i] / sum * all;
            }
        }
    }

    private double loss(int[] choice, String what) throws IOException {
        return Math.max(0, 1 - cosine(recipe(choice), Math.min(FEW, samples.size()), what));
    }

    /**
     * The choice that loses least in so many bytes, as far as estimates go.
     *
     * @param others what losses of all but products are multiplied with
     * @return null if there is none
     */
    private int[] allocate(long budget, double others) {
        double low = 0;
        double high = 1;
        while (sum(cheapest(high, others)) > budget) {
            high *= 4;
            if (high > 1e12) {
                return null;
            }
        }
        for (int i = 0; i < 100; i++) {
            double middle = (low + high) / 2;
            if (sum(cheapest(middle, others)) > budget) {
                low = middle;
            } else {
                high = middle;
            }
        }
        int[] choice = cheapest(high, others);
        // What is left over goes where it helps most.
        while (true) {
            long left = budget - sum(choice);
            int unit = -1;
            int to = -1;
            double best = 0;
            for (int i = 0; i < units.size(); i++) {
                for (int c = 0; c < CANDIDATES.size(); c++) {
                    long more = bytes[i][c] - bytes[i][choice[i]];
                    double gain = (losses[i][choice[i]] - losses[i][c]) * (isProduct(i) ? 1 : others) / Math.max(1, more);
                    if (more <= left && gain > best) {
                        best = gain;
                        unit = i;
                        to = c;
                    }
                }
            }
            if (unit < 0) {
                return choice;
            }
            choice[unit] = to;
        }
    }

    private int[] cheapest(double price, double others) {
        int[] choice = new int[units.size()];
        for (int i = 0; i < units.size(); i++) {
            double best = Double.POSITIVE_INFINITY;
            for (int c = 0; c < CANDIDATES.size(); c++) {
                double cost = losses[i][c] * (isProduct(i) ? 1 : others) + price * bytes[i][c] * 1e-6;
                if (cost < best) {
                    best = cost;
                    choice[i] = c;
                }
            }
        }
        return choice;
    }

    private long sum(int[] choice) {
        long sum = 0;
        for (int i = 0; i < choice.length; i++) {
            sum += bytes[i][choice[i]];
        }
        return sum;
    }

    /** The best choice whose file takes no more; null if there is none. */
    private Recipe within(long budget, double others) {
        // What a file has beside the weights depends on their forms, a little.
        long rest = planned(recipe(all(PROBE))) - sum(all(PROBE));
        for (int attempt = 0; attempt < 20; attempt++) {
            int[] choice = allocate(budget - rest, others);
            if (choice == null) {
                return null;
            }
            Recipe recipe = recipe(choice);
            long over = planned(recipe) - budget;
            if (over <= 0) {
                return recipe;
            }
            rest += over;
        }
        return null;
    }

    private void inBytes(long budget) throws IOException {
        // Losses of tables, of convolutions and of products are of different kinds, and the sum of both is a guess: other weights of them are tried.
        for (double others : new double[] {1, 0.5, 2, 0.25, 4}) {
            Recipe recipe = within(budget, others);
            if (recipe != null && !outOfTime()) {
                measure(recipe, "a mixture", false);
            }
        }
    }

    private void atQuality(double cosine) throws IOException {
        long least = Long.MAX_VALUE;
        long most = 0;
        for (Point p : measured.values()) {
            least = Math.min(least, p.bytes);
            most = Math.max(most, p.bytes);
        }
        for (Point p : measured.values()) {
            if (p.cosine >= cosine) {
                most = Math.min(most, p.bytes);
            }
        }
        for (int round = 0; round < ROUNDS && !outOfTime() && most - least > most / 500; round++) {
            long middle = least + (most - least) / 2;
            Recipe recipe = within(middle, 1);
            if (recipe != null && measure(recipe, "a mixture", false).cosine >= cosine) {
                most = middle;
            } else {
                least = middle;
            }
        }
    }

    private Point measure(Recipe recipe, String what, boolean uniform) throws IOException {
        String text = recipe.yaml();
        Point known = measured.get(text);
        if (known == null) {
            known = new Point(recipe, planned(recipe), cosine(recipe, samples.size(), what), uniform);
            measured.put(text, known);
        }
        return known;
    }

    /** Over the first samples. */
    private double cosine(Recipe recipe, int count, String what) throws IOException {
        String text = recipe.yaml();
        double known = memory.cosine(text, count);
        if (!Double.isNaN(known)) {
            return known;
        }
        if (reference == null) {
            reference = vectors(compressor.model().path(), samples.size());
            for (int i = 0; i < reference.size(); i++) {
                for (float x : reference.get(i)) {
                    if (!Float.isFinite(x)) {
                        throw new UnsupportedRequestException("the model itself puts out " + x + " for sample " + i
                                + " of those held out, with which nothing can be compared");
                    }
                }
            }
        }
        clear(scratch);
        Path trial = scratch.resolve("model.onnx");
        compressor.compress(compressor.plan(recipe), trial);
        List<float[]> found = vectors(trial, count);
        double sum = 0;
        for (int i = 0; i < count; i++) {
            if (found.get(i).length != reference.get(i).length) {
                throw new UnsupportedRequestException("outputs of sample " + i + " have other sizes once weights are compressed (" + what + ")");
            }
            double cosine = Embeddings.cosine(reference.get(i), found.get(i));
            sum += Double.isNaN(cosine) ? 0 : cosine; // what is not finite is near to nothing
        }
        progress.measured(what, ++models, Math.max(models, expected));
        memory.put(text, count, sum / count);
        return sum / count;
    }

    private List<float[]> vectors(Path model, int count) throws IOException {
        List<float[]> all = new ArrayList<>();
        String[] name = new String[1];
        try (Session session = Session.open(model, threads)) {
            for (int i = 0; i < count; i++) {
                session.run(samples.feed(session, i), outputs -> {
                    if (compared == Compared.OUTPUTS) {
                        all.add(joined(outputs));
                    } else {
                        name[0] = name[0] == null ? Embeddings.output(model, outputs) : name[0];
                        all.add(Embeddings.of(model, outputs, name[0]));
                    }
                });
            }
        }
        return all;
    }

    private static float[] joined(Map<String, OnnxTensor> outputs) {
        List<float[]> parts = new ArrayList<>();
        int n = 0;
        for (OnnxTensor output : outputs.values()) {
            parts.add(Embeddings.floats(output));
            n += parts.getLast().length;
        }
        if (n == 0) {
            throw new UnsupportedRequestException("the model has no output of floating-point numbers that could be compared");
        }
        float[] all = new float[n];
        int at = 0;
        for (float[] part : parts) {
            System.arraycopy(part, 0, all, at, part.length);
            at += part.length;
        }
        return all;
    }
}
