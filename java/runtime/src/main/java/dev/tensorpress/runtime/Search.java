package dev.tensorpress.runtime;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Selector;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.method.GptqMethod;
import dev.tensorpress.method.Method;
import dev.tensorpress.method.QuantizeMethod;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.structure.Group;
import dev.tensorpress.structure.SlimMethod;
import dev.tensorpress.structure.StructuredPruning;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
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
import java.util.function.BooleanSupplier;
import java.util.stream.IntStream;

/**
 * Looks for the recipe that loses least in a number of bytes, or takes the fewest bytes, or the least time, at a quality. Each weight has a list of candidates:
 * bits, blocks and methods, and for time what products do with their other operand. What each costs in quality is measured on the model's own outputs, and estimated from that: products one by one in
 * one form, all of them in each, tables likewise. Then bytes are handed out by a Lagrange multiplier (Shoham and Gersho, "Efficient bit
 * allocation for an arbitrary set of quantizers", 1988), and what comes of it is measured. Candidates in which all weights are alike are
 * measured as well, so that what is chosen is never worse than those.
 *
 * <p>Time is handed out as bytes are. What weights of a shape save in a candidate is measured on whole models, in which they alone have it; those
 * that meet the goal then run against each other and the original.
 *
 * <p>Quality is the mean cosine between outputs of the model and those of the original on samples that statistics were not made of. The same
 * samples give the same result, unless time runs out or is what is sought.
 */
public final class Search {
    /** Of the first samples, from which sensitivities of single weights are taken. */
    private static final int FEW = 24;
    private static final int ROUNDS = 8;
    /** In which groups find their level. */
    private static final int TURNS = 3;
    /** Groups of products of a shape that are timed one by one. */
    private static final int SHAPES = 6;
    /** Of either kind, weights alike or not. */
    private static final int FINALISTS = 3;
    /** Models on the disk at once. */
    private static final int TOGETHER = 6;
    /** What all bytes of the original count, in its time: they decide between what runs as fast. */
    private static final double BYTES = 0.01;

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
     * @param fastest whether the least time is sought at this cosine, and not the fewest bytes
     * @param structure kinds of groups that may lose indices for it; none for time
     */
    public record Goal(long bytes, double cosine, boolean fastest, Set<Group.Kind> structure) {
        public Goal {
            structure = Set.copyOf(structure);
            if (fastest && !structure.isEmpty()) {
                throw new IllegalArgumentException("the least time is sought with all neurons, heads and channels in place");
            }
            if ((bytes == Long.MAX_VALUE) == (cosine == -1) || fastest && cosine == -1) {
                throw new IllegalArgumentException("a goal is a number of bytes or a cosine, of which the latter may be met in the least time");
            }
        }

        public Goal(long bytes, double cosine, boolean fastest) {
            this(bytes, cosine, fastest, Set.of());
        }

        public Goal(long bytes, double cosine) {
            this(bytes, cosine, false);
        }

        boolean metBy(Point p) {
            return p.bytes <= bytes && p.cosine >= cosine;
        }
    }

    /**
     * A recipe that was measured.
     *
     * @param uniform whether it treats all weights of a kind alike
     * @param millis for a sample, or NaN if that was not measured
     */
    public record Point(Recipe recipe, long bytes, double cosine, boolean uniform, double millis) {}

    /**
     * @param chosen the best that meets the goal; if none does, the one that comes nearest
     * @param measured all whole recipes, from the smallest on
     * @param leastBytes of any combination of candidates
     * @param leftOut names of weights that stay as they are, since others, or nodes of others, have the same name
     */
    public record Result(Point chosen, boolean met, List<Point> measured, long leastBytes, List<String> leftOut) {
        /** Those than which no other is both smaller and better, from the smallest on; if time was measured, faster and better, from the fastest on. */
        public List<Point> frontier() {
            List<Point> timed = new ArrayList<>(measured.stream().filter(p -> !Double.isNaN(p.millis)).toList());
            timed.sort(Comparator.comparingDouble(Point::millis));
            List<Point> all = new ArrayList<>();
            for (Point p : timed.isEmpty() ? measured : timed) {
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

        /** Of a sample; NaN if it is not known. */
        double millis(String recipe);

        void putMillis(String recipe, double millis) throws IOException;
    }

    /** Takes the time of models. */
    @FunctionalInterface
    public interface Clock {
        /**
         * What a sample takes, in milliseconds, by model; all measured together, so that they can be compared.
         *
         * @param recipes that the models were made by
         * @param outOfTime true once each model shall run no more often than is needed for a time of it
         */
        double[] millis(List<Recipe> recipes, List<Path> models, BooleanSupplier outOfTime) throws IOException;

        /** In ONNX Runtime, on some of the samples. */
        static Clock of(Samples samples, int threads) {
            Race race = new Race(samples, threads);
            return (recipes, models, outOfTime) -> race.millis(models, outOfTime);
        }
    }

    /** Told of each model that was measured, and how many there will be, about. */
    @FunctionalInterface
    public interface Progress {
        void measured(String what, int models, int expected);
    }

    /** Twelfths of a group that may be left: of many heads, and of neurons such as four times a width of 384 that blocks divide. */
    private static final int[] LEVELS = {12, 11, 10, 9, 8, 6};
    /** In which groups are measured one by one. */
    private static final int PROBED_LEVEL = 3;

    /**
     * A group.
     *
     * @param kept how many indices are left, by level
     * @param curve what its own products lose, by level
     * @param left by unit, the part that is left of it, by level
     * @param saved bytes of constants that are no units, by level
     * @param losses what the model loses, by level
     */
    private record Slimmed(Group.Kind kind, String name, int size, int[] kept, double[] curve, Map<Integer, double[]> left, double[] saved,
            double[] losses) {}

    private record Candidate(String name, Method product, Method table, Method conv) {}

    private static Method gptq(int bits, int block) {
        return GptqMethod.of(codes(bits, block));
    }

    private static QuantizeMethod codes(int bits, int block) {
        return (bits == 8 ? QuantizeMethod.int8() : QuantizeMethod.int4().asymmetric().clipSearch(20, 0.7f)).perBlock(block);
    }

    private static QuantizeMethod integers(QuantizeMethod.Weights weights) {
        return QuantizeMethod.int8().asymmetric().activations(Form.Activations.DYNAMIC).weights(weights);
    }

    private static QuantizeMethod fixed(QuantizeMethod.Weights weights) {
        return QuantizeMethod.int8().clipSearch(20, 0.7f).activations(Form.Activations.STATIC).weights(weights);
    }

    /** From the smallest on; the last one leaves weights as they are. */
    private static final List<Candidate> SMALL = List.of(
            new Candidate("4 bits, blocks of 128", gptq(4, 128), codes(4, 128), null),
            new Candidate("4 bits, blocks of 64", gptq(4, 64), codes(4, 64), null),
            new Candidate("4 bits, blocks of 32", gptq(4, 32), codes(4, 32), null),
            new Candidate("4 bits, blocks of 16", gptq(4, 16), codes(4, 16), null),
            new Candidate("8 bits", gptq(8, 128), codes(8, 64), QuantizeMethod.int8()),
            new Candidate("as it is", null, null, null));
    /** For the least time, with operators that round what they multiply with; the last one leaves weights as they are. */
    private static final List<Candidate> FAST = List.of(
            new Candidate("4 bits, blocks of 32", GptqMethod.of(codes(4, 32).activations(Form.Activations.BLOCKWISE)), codes(4, 32), null),
            new Candidate("8 bits, blocks of 64", codes(8, 64).activations(Form.Activations.BLOCKWISE), codes(8, 64), QuantizeMethod.int8()),
            new Candidate("integers, u8", integers(QuantizeMethod.Weights.U8), codes(8, 64), QuantizeMethod.int8()),
            new Candidate("integers, s8", integers(QuantizeMethod.Weights.S8), codes(8, 64), QuantizeMethod.int8()),
            new Candidate("integers, s7", integers(QuantizeMethod.Weights.S7), codes(8, 64), QuantizeMethod.int8()),
            new Candidate("fixed codes, s8", fixed(QuantizeMethod.Weights.S8), codes(8, 64), fixed(QuantizeMethod.Weights.S8)),
            new Candidate("fixed codes, s7", fixed(QuantizeMethod.Weights.S7), codes(8, 64), fixed(QuantizeMethod.Weights.S7)),
            new Candidate("as it is", null, null, null));

    private final List<Candidate> candidates;
    private final int kept;
    /** By candidate, in which one products are measured one by one for it. */
    private final int[] probes;
    private final Compressor compressor;
    private final int samples;
    private final Memory memory;
    private final Trials trials;
    private final long deadline;
    private final List<Weight> units = new ArrayList<>();
    /** Groups that may lose indices. A choice says, behind the candidates of units, how many levels of each group are gone. */
    private final List<Slimmed> groups = new ArrayList<>();
    /** Whose name no recipe can say without another weight. */
    private final List<String> leftOut = new ArrayList<>();
    /** By unit and candidate. */
    private final long[][] bytes;
    /** What is handed out: bytes, or millionths of the original's time more than it takes. */
    private final double[][] costs;
    private final double[][] losses;
    /** Of whose inputs statistics do not say what rounding by them takes. */
    private final boolean[] blind;
    /** Of any choice. */
    private long leastBytes;
    private final Map<String, Point> measured = new LinkedHashMap<>();
    /** What mixtures ought to cost, by the text of their recipes. */
    private final Map<String, Double> expectations = new HashMap<>();
    /** By candidate, the text of the recipe that gives it to all weights: making it takes time where these are many. */
    private final String[] alike;

    private Search(Compressor compressor, Statistics statistics, Samples samples, Compared compared, Goal goal, int threads, Memory memory, Clock clock,
            Progress progress, Path scratch, long deadline) throws IOException {
        boolean fastest = goal.fastest;
        candidates = fastest ? FAST : SMALL;
        kept = candidates.size() - 1;
        probes = new int[kept];
        Arrays.fill(probes, 2);
        this.compressor = compressor;
        this.samples = samples.size();
        this.memory = memory;
        this.deadline = deadline;
        alike = new String[candidates.size()];
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
        if (!goal.structure.isEmpty()) {
            slimmed(statistics, goal.structure, threads);
        }
        int alone = units.stream().mapToInt(w -> w.role() == Role.EMBEDDING ? kept : fastest ? 2 : 1).sum();
        int structured = groups.isEmpty() ? 0 : groups.size() + LEVELS.length * goal.structure.size() + ROUNDS;
        trials = new Trials(compressor, samples, compared, threads, memory, clock, progress, kept + alone + ROUNDS + structured, scratch);
        bytes = new long[units.size()][candidates.size()];
        costs = new double[units.size()][candidates.size()];
        losses = new double[units.size()][candidates.size()];
        blind = new boolean[units.size()];
    }

    /**
     * @param compressor of the model
     * @param statistics of the model, which must not be closed before what is found is compressed
     * @param samples that statistics were not made of
     * @param clock for goals that are met in the least time
     * @param nanos to stop after, when the measurement at hand is done
     * @param scratch a folder for models on the way: whatever has the name goes
     * @throws UnsupportedRequestException if the model has no weight that could be compressed, or none of the groups, or cannot be run
     * @throws IOException if a file cannot be read or written
     */
    public static Result run(Compressor compressor, Statistics statistics, Samples samples, Compared compared, Goal goal, int threads,
            OptionalLong nanos, Memory memory, Clock clock, Progress progress, Path scratch) throws IOException {
        compressor.use(statistics);
        long deadline = nanos.isPresent() ? System.nanoTime() + nanos.getAsLong() : Long.MAX_VALUE;
        try {
            return new Search(compressor, statistics, samples, compared, goal, threads, memory, clock, progress, scratch, deadline).run(goal);
        } finally {
            Trials.clear(scratch);
            Files.delete(scratch);
        }
    }

    /** Its name as recipes have it: there is no way to say a star, but that a character is there. */
    private static String glob(Weight w) {
        return w.name().replace('*', '?');
    }

    /** Groups that can lose indices, and what that costs their products. */
    private void slimmed(Statistics statistics, Set<Group.Kind> kinds, int threads) throws IOException {
        OnnxModel model = (OnnxModel) compressor.model();
        List<StructuredPruning.Curve> curves;
        try (Executor executor = Executor.cpu(threads); Arena arena = executor.arena()) {
            List<StructuredPruning.Options> options = List.of(SlimMethod.DEFAULT.options(kinds, List.of(), true));
            curves = StructuredPruning.curves(EditableModel.of(model, arena), model.weights(), InputStatistics.of(statistics, model), options, executor);
        }
        for (StructuredPruning.Curve c : curves) {
            Group g = c.group();
            int[] at = Arrays.stream(LEVELS).map(part -> nearest(c.kept(), part * g.size() / 12.0)).distinct().toArray();
            // There is no way to say a star.
            if (at.length > 1 && g.name().indexOf('*') < 0 && g.name().indexOf('?') < 0) {
                int[] left = Arrays.stream(at).map(i -> c.kept()[i]).toArray();
                groups.add(new Slimmed(g.kind(), g.name(), g.size(), left, Arrays.stream(at).mapToDouble(i -> c.loss()[i]).toArray(), left(g, left),
                        saved(g, left), new double[left.length]));
            }
        }
        if (groups.isEmpty()) {
            throw new UnsupportedRequestException(model.path() + " has no " + String.join(", ", kinds.stream().map(Group.Kind::id).sorted().toList())
                    + " that could be taken out: inspect --graph says why");
        }
    }

    private static int nearest(int[] counts, double wanted) {
        int best = 0;
        for (int i = 1; i < counts.length; i++) {
            best = Math.abs(counts[i] - wanted) < Math.abs(counts[best] - wanted) ? i : best;
        }
        return best;
    }

    /** The part that is left of units, by how many indices of the group are. */
    private Map<Integer, double[]> left(Group g, int[] kept) {
        Map<Integer, double[]> parts = new HashMap<>();
        for (Group.Member m : g.members()) {
            for (int i = 0; i < units.size(); i++) {
                if (units.get(i).name().equals(m.constant())) {
                    double dim = units.get(i).tensor().shape().dim(m.axis());
                    double[] left = parts.computeIfAbsent(i, _ -> Arrays.stream(kept).mapToDouble(_ -> 1).toArray());
                    for (int l = 0; l < kept.length; l++) {
                        left[l] *= 1 - m.perIndex() * (g.size() - kept[l]) / dim;
                    }
                }
            }
        }
        return parts;
    }

    /** Bytes of constants that are no units, by how many indices of the group are left: they stay in their type. */
    private double[] saved(Group g, int[] kept) {
        double each = 0;
        for (Weight w : compressor.model().weights()) {
            if (units.contains(w)) {
                continue;
            }
            for (Group.Member m : g.members()) {
                if (m.constant().equals(w.name())) {
                    each += (double) w.tensor().bytes() * m.perIndex() / w.tensor().shape().dim(m.axis());
                }
            }
        }
        double one = each;
        return Arrays.stream(kept).mapToDouble(k -> one * (g.size() - k)).toArray();
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
        leastBytes = planned(recipe(smallest()));
        uniform();
        if (goal.fastest) {
            times();
        }
        if (!outOfTime()) {
            sensitivities();
            structure();
            for (boolean slim : groups.isEmpty() ? new boolean[] {false} : new boolean[] {false, true}) {
                if (goal.cosine == -1) {
                    inBytes(goal.bytes, slim);
                } else {
                    atQuality(goal, slim);
                }
            }
        }
        if (goal.fastest) {
            finals(goal);
        }
        List<Point> all = new ArrayList<>(measured.values());
        all.sort(Comparator.comparingLong(Point::bytes).thenComparing(Comparator.comparingDouble(Point::cosine).reversed()));
        Point chosen = null;
        for (Point p : all) {
            boolean may = goal.metBy(p) && !(goal.fastest && Double.isNaN(p.millis));
            if (may && (chosen == null || goal.cosine == -1 && p.cosine > chosen.cosine || goal.fastest && cost(p) < cost(chosen))) {
                chosen = p;
            }
        }
        boolean met = chosen != null;
        if (!met) {
            chosen = goal.cosine == -1 ? all.getFirst() : all.stream().max(Comparator.comparingDouble(Point::cosine)).orElseThrow();
        }
        return new Result(chosen, met, List.copyOf(all), leastBytes, List.copyOf(leftOut));
    }

    private Method method(int unit, int candidate) {
        Candidate c = candidates.get(candidate);
        Role role = units.get(unit).role();
        Method m = role == Role.CONV ? c.conv : role == Role.EMBEDDING ? c.table : c.product;
        return blind[unit] && m instanceof GptqMethod g ? g.codes() : m;
    }

    /** A step for each kind and candidate that is in use. */
    private Recipe recipe(int[] choice) {
        Map<Method, List<String>> names = new LinkedHashMap<>();
        for (int c = 0; c < candidates.size(); c++) {
            for (int i = 0; i < units.size(); i++) {
                Method m = choice[i] == c ? method(i, c) : null;
                if (m != null) {
                    names.computeIfAbsent(m, method -> new ArrayList<>()).add(glob(units.get(i)));
                }
            }
        }
        List<Recipe.Step> steps = new ArrayList<>();
        names.forEach((method, of) -> steps.add(new Recipe.Step("step" + (steps.size() + 1), new Selector(Set.of(), of, 0), method)));
        return new Recipe("found", "", structure(choice), steps, List.of(), Map.of());
    }

    /** A change for each kind and part. */
    private List<Recipe.Change> structure(int[] choice) {
        Map<Map.Entry<Group.Kind, Double>, List<String>> names = new LinkedHashMap<>();
        for (int g = 0; g < groups.size(); g++) {
            Slimmed of = groups.get(g);
            int level = choice[units.size() + g];
            if (level > 0) {
                names.computeIfAbsent(Map.entry(of.kind, 1 - (double) of.kept[level] / of.size), _ -> new ArrayList<>()).add(of.name);
            }
        }
        List<Recipe.Change> changes = new ArrayList<>();
        names.forEach((what, of) -> changes.add(new Recipe.Change(what.getKey().id() + (changes.size() + 1), Set.of(what.getKey()), of,
                SlimMethod.DEFAULT.with("amount", Double.toString(what.getValue())).with("multiple", "1"))));
        return changes;
    }

    /** Bytes of the file. They are the same whichever indices of groups go, and magnitudes are found at once. */
    private long planned(Recipe recipe) {
        List<Recipe.Change> quick = recipe.structure().stream()
                .map(change -> change.with(change.method().with("score", "magnitude").with("update", "false"))).toList();
        return compressor.plan(new Recipe(recipe.name(), recipe.target(), quick, recipe.steps(), recipe.excludes(), recipe.options())).after();
    }

    /** Of all units, with all groups whole. */
    private int[] all(int candidate) {
        int[] choice = new int[units.size() + groups.size()];
        Arrays.fill(choice, 0, units.size(), candidate);
        return choice;
    }

    private int[] smallest() {
        int[] smallest = all(0);
        for (int i = 0; i < units.size(); i++) {
            for (int c = 0; c < candidates.size(); c++) {
                smallest[i] = bytes[i][c] < bytes[i][smallest[i]] ? c : smallest[i];
            }
        }
        for (int g = 0; g < groups.size(); g++) {
            smallest[units.size() + g] = groups.get(g).kept.length - 1;
        }
        return smallest;
    }

    /** What is left of a unit. */
    private double left(int unit, int[] choice) {
        double left = 1;
        for (int g = 0; g < groups.size(); g++) {
            double[] parts = groups.get(g).left.get(unit);
            left *= parts == null ? 1 : parts[choice[units.size() + g]];
        }
        return left;
    }

    /** What each candidate takes; those that a target refuses take what the weight does. */
    private void sizes() {
        Map<String, Plan.Entry> entries = new HashMap<>();
        int rounding = 0;
        while (!(candidates.get(rounding).product instanceof GptqMethod)) {
            rounding++;
        }
        compressor.plan(recipe(all(rounding))).entries().forEach(e -> entries.put(e.weight().name(), e));
        for (int i = 0; i < units.size(); i++) {
            blind[i] = entries.get(units.get(i).name()).lowering().isEmpty();
        }
        for (int c = 0; c < candidates.size(); c++) {
            Recipe recipe = recipe(all(c));
            alike[c] = recipe.yaml();
            Plan plan = compressor.plan(recipe);
            Map<String, Long> after = new LinkedHashMap<>();
            plan.entries().forEach(e -> after.put(e.weight().name(), e.after()));
            for (int i = 0; i < units.size(); i++) {
                bytes[i][c] = after.get(units.get(i).name());
                costs[i][c] = bytes[i][c];
            }
        }
    }

    /** All weights alike, and all of a kind with the others as they are: what a candidate loses, kind by kind. */
    private void uniform() throws IOException {
        Recipe original = recipe(all(kept));
        measured.put(original.yaml(), new Point(original, planned(original), 1, true, Double.NaN));
        for (int c = 0; c < kept && !(outOfTime() && measured.size() > 1); c++) {
            measure(recipe(all(c)), "all weights: " + candidates.get(c).name, true);
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
        double[] products = new double[kept];
        for (int c = 0; c < kept; c++) {
            Point p = alike(c);
            products[c] = p == null ? products[Math.max(0, c - 1)] : 1 - p.cosine;
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
        }
        for (int probe : Arrays.stream(probes).distinct().toArray()) {
            double[] one = new double[units.size()];
            double sum = 0;
            int count = 0;
            for (int i = 0; i < units.size(); i++) {
                if (isProduct(i)) {
                    int[] choice = all(kept);
                    choice[i] = probe;
                    one[i] = outOfTime() ? sum / Math.max(1, count) : loss(choice, units.get(i).name());
                    sum += one[i];
                    count++;
                }
            }
            for (int i = 0; i < units.size(); i++) {
                for (int c = 0; isProduct(i) && c < kept; c++) {
                    if (probes[c] == probe) {
                        // Estimates of small differences may be off, but more bits never lose more.
                        double all = Math.max(products[c], 1e-9);
                        losses[i][c] = sum == 0 ? all / count : one[i] / sum * all;
                    }
                }
            }
        }
    }

    /**
     * What the model loses by groups: all of a kind are measured at each level, and at one level each by itself. At others a group loses as its products
     * do, and all of them together what was measured.
     */
    private void structure() throws IOException {
        for (Group.Kind kind : Group.Kind.values()) {
            List<Integer> of = IntStream.range(0, groups.size()).filter(g -> groups.get(g).kind == kind).boxed().toList();
            double[][] shape = new double[of.size()][];
            for (int j = 0; j < shape.length; j++) {
                Slimmed g = groups.get(of.get(j));
                int probe = Math.min(PROBED_LEVEL, g.kept.length - 1);
                int[] choice = all(kept);
                choice[units.size() + of.get(j)] = probe;
                double one = outOfTime() ? g.curve[probe] : loss(choice, g.name);
                shape[j] = Arrays.stream(g.curve).map(loss -> g.curve[probe] == 0 ? loss : loss / g.curve[probe] * one).toArray();
            }
            for (int level = 1; level < LEVELS.length && !of.isEmpty(); level++) {
                int[] choice = all(kept);
                double sum = 0;
                for (int j = 0; j < shape.length; j++) {
                    int at = Math.min(level, shape[j].length - 1);
                    choice[units.size() + of.get(j)] = at;
                    sum += shape[j][at];
                }
                double all = outOfTime() ? sum
                        : 1 - measure(recipe(choice), LEVELS[level] + " of 12 of all " + kind.id(), true).cosine;
                for (int j = 0; j < shape.length; j++) {
                    Slimmed g = groups.get(of.get(j));
                    if (level < g.kept.length) {
                        g.losses[level] = Math.max(g.losses[level - 1], sum == 0 ? all / shape.length : shape[j][level] / sum * all);
                    }
                }
            }
        }
    }

    private double loss(int[] choice, String what) throws IOException {
        return Math.max(0, 1 - trials.cosine(recipe(choice), Math.min(FEW, samples), what));
    }

    /**
     * The choice that loses least at such costs, as far as estimates go.
     *
     * @param others what losses of all but products are multiplied with
     * @param slim whether groups may lose indices
     * @return null if there is none
     */
    private int[] allocate(double budget, double others, boolean slim) {
        double low = 0;
        double high = 1;
        while (sum(cheapest(high, others, slim)) > budget) {
            high *= 4;
            if (high > 1e12) {
                return null;
            }
        }
        for (int i = 0; i < 100; i++) {
            double middle = (low + high) / 2;
            if (sum(cheapest(middle, others, slim)) > budget) {
                low = middle;
            } else {
                high = middle;
            }
        }
        return filled(cheapest(high, others, slim), budget, others, false);
    }

    /**
     * What is left over goes where it helps most.
     *
     * @param slim whether to groups as well
     */
    private int[] filled(int[] choice, double budget, double others, boolean slim) {
        while (true) {
            double left = budget - size(choice, slim);
            int unit = -1;
            int to = -1;
            double best = 0;
            for (int i = 0; i < units.size(); i++) {
                for (int c = 0; c < candidates.size(); c++) {
                    double more = (costs[i][c] - costs[i][choice[i]]) * left(i, choice);
                    double gain = (losses[i][choice[i]] - losses[i][c]) * (isProduct(i) ? 1 : others) / Math.max(1, more);
                    if (more <= left && gain > best) {
                        best = gain;
                        unit = i;
                        to = c;
                    }
                }
            }
            for (int g = 0; slim && g < groups.size(); g++) {
                int at = units.size() + g;
                double[] lost = groups.get(g).losses;
                for (int level = 0; level < choice[at]; level++) {
                    int[] next = choice.clone();
                    next[at] = level;
                    double more = size(next, true) - size(choice, true);
                    double gain = (lost[choice[at]] - lost[level]) / Math.max(1, more);
                    if (more <= left && gain > best) {
                        best = gain;
                        unit = at;
                        to = level;
                    }
                }
            }
            if (unit < 0) {
                return choice;
            }
            choice[unit] = to;
        }
    }

    /** Units are independent of each other where groups are as they are; what groups share units of takes turns. */
    private int[] cheapest(double price, double others, boolean slim) {
        int[] choice = all(kept);
        for (int turn = 0; slim && turn < TURNS; turn++) {
            for (int g = 0; g < groups.size(); g++) {
                Slimmed of = groups.get(g);
                int best = 0;
                double least = Double.POSITIVE_INFINITY;
                for (int level = 0; level < of.kept.length; level++) {
                    choice[units.size() + g] = level;
                    double cost = of.losses[level];
                    for (int i : of.left.keySet()) {
                        cost += cost(i, cheapest(i, price, others, choice), price, others, choice);
                    }
                    if (cost < least) {
                        least = cost;
                        best = level;
                    }
                }
                choice[units.size() + g] = best;
            }
        }
        for (int i = 0; i < units.size(); i++) {
            choice[i] = cheapest(i, price, others, choice);
        }
        return choice;
    }

    private int cheapest(int unit, double price, double others, int[] choice) {
        int best = 0;
        for (int c = 1; c < candidates.size(); c++) {
            best = cost(unit, c, price, others, choice) < cost(unit, best, price, others, choice) ? c : best;
        }
        return best;
    }

    private double cost(int unit, int candidate, double price, double others, int[] choice) {
        return losses[unit][candidate] * (isProduct(unit) ? 1 : others) + price * costs[unit][candidate] * 1e-6 * left(unit, choice);
    }

    /** @param slim whether less what groups save beside units */
    private double size(int[] choice, boolean slim) {
        double size = sum(choice);
        for (int g = 0; slim && g < groups.size(); g++) {
            size -= groups.get(g).saved[choice[units.size() + g]];
        }
        return size;
    }

    private double sum(int[] choice) {
        double sum = 0;
        for (int i = 0; i < units.size(); i++) {
            sum += costs[i][choice[i]] * left(i, choice);
        }
        return sum;
    }

    /** The best choice whose file takes no more; null if there is none. */
    private Recipe within(long budget, double others, boolean slim) {
        // What a file has beside the weights depends on their forms, a little.
        double rest = planned(recipe(all(probes[0]))) - sum(all(probes[0]));
        for (int attempt = 0; attempt < 20; attempt++) {
            int[] choice = allocate(budget - rest, others, slim);
            if (choice == null) {
                break;
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

    /** From the smallest choice on, which fits: prices know nothing of what groups save beside units, such as the products of heads in a small model. */
    private Recipe grown(long budget, double others) {
        double rest = leastBytes - size(smallest(), true);
        for (int attempt = 0; attempt < 20; attempt++) {
            Recipe recipe = recipe(filled(smallest(), budget - rest, others, true));
            long over = planned(recipe) - budget;
            if (over <= 0) {
                return recipe;
            }
            rest += over;
        }
        return recipe(smallest());
    }

    private void inBytes(long budget, boolean slim) throws IOException {
        // Losses of tables, of convolutions and of products are of different kinds, and the sum of both is a guess: other weights of them are tried.
        for (double others : new double[] {1, 0.5, 2, 0.25, 4}) {
            Recipe recipe = within(budget, others, slim);
            if (recipe == null && slim && leastBytes <= budget) {
                recipe = grown(budget, others);
            }
            if (recipe != null && !outOfTime()) {
                measure(recipe, "a mixture", false);
            }
        }
    }

    private void atQuality(Goal goal, boolean slim) throws IOException {
        double least = Double.MAX_VALUE;
        double most = -Double.MAX_VALUE;
        if (goal.fastest) {
            int[] fastest = cheapest(1e12, 1, false);
            least = sum(fastest);
            most = expected(fastest).cosine >= goal.cosine ? least : 0;
        }
        for (Point p : goal.fastest ? List.<Point>of() : measured.values()) {
            least = slim ? leastBytes : Math.min(least, p.bytes);
            most = Math.max(most, p.bytes);
        }
        for (Point p : goal.fastest ? List.<Point>of() : measured.values()) {
            most = p.cosine >= goal.cosine ? Math.min(most, p.bytes) : most;
        }
        for (int c = 0; goal.fastest && c < kept; c++) {
            Point p = alike(c);
            most = p != null && p.cosine >= goal.cosine ? Math.min(most, sum(all(c))) : most;
        }
        for (int round = 0; round < ROUNDS && !outOfTime() && most - least > (goal.fastest ? 2000 : most / 500); round++) {
            double middle = least + (most - least) / 2;
            Point found = null;
            if (goal.fastest) {
                int[] choice = allocate(middle, 1, false);
                found = choice == null ? null : expected(choice);
            } else {
                Recipe recipe = within((long) middle, 1, slim);
                found = recipe == null ? null : measure(recipe, "a mixture", false);
            }
            if (found != null && found.cosine >= goal.cosine) {
                most = middle;
            } else {
                least = middle;
            }
        }
    }

    /** Measured, with a note of what it ought to cost. */
    private Point expected(int[] choice) throws IOException {
        Recipe recipe = recipe(choice);
        expectations.put(recipe.yaml(), sum(choice));
        return measure(recipe, "a mixture", false);
    }

    private double cost(Point p) {
        return p.millis / original().millis + BYTES * p.bytes / compressor.model().bytes();
    }

    /** What each weight costs in each candidate: the time of its shape, shared by elements, and a little for bytes. */
    private void times() throws IOException {
        List<Recipe> whole = new ArrayList<>();
        for (int c = 0; c < kept; c++) {
            if (alike(c) != null) {
                whole.add(alike(c).recipe);
            }
        }
        race(whole, false);
        boolean[] faster = new boolean[kept];
        for (int c = 0; c < kept; c++) {
            faster[c] = alike(c) != null && alike(c).millis < original().millis;
        }
        Map<String, List<Integer>> groups = new LinkedHashMap<>();
        for (int i = 0; i < units.size(); i++) {
            Weight w = units.get(i);
            groups.computeIfAbsent(isProduct(i) ? w.tensor().shape().toString() : w.role().id(), shape -> new ArrayList<>()).add(i);
        }
        // Of the largest shapes each by itself, the others together; if there is no time for that, all as far as it is known.
        List<List<Integer>> largest = new ArrayList<>(groups.values());
        largest.sort(Comparator.comparingDouble(of -> -elements(of)));
        while (largest.size() > (outOfTime() ? 1 : SHAPES)) {
            List<Integer> both = new ArrayList<>(largest.removeLast());
            both.addAll(largest.removeLast());
            largest.add(both);
        }
        List<Recipe> parts = new ArrayList<>();
        int[][] at = new int[largest.size()][kept];
        for (int g = 0; g < largest.size(); g++) {
            for (int c = 0; c < kept; c++) {
                at[g][c] = -1;
                if (faster[c]) {
                    int[] choice = all(kept);
                    for (int i : largest.get(g)) {
                        choice[i] = c;
                    }
                    Recipe part = recipe(choice);
                    at[g][c] = parts.indexOf(part);
                    if (at[g][c] < 0) {
                        at[g][c] = parts.size();
                        parts.add(part);
                    }
                }
            }
        }
        double[] millis = new double[parts.size()];
        for (int from = 0; from < millis.length; from += TOGETHER) {
            List<Recipe> some = parts.subList(from, Math.min(from + TOGETHER, millis.length));
            System.arraycopy(race(some, false), 0, millis, from, some.size());
        }
        // Products that lose much by codes that are fixed before are not those that lose much by others.
        for (int c = 0; c < kept; c++) {
            int like = -1;
            int any = -1;
            for (int other = 0; other < kept; other++) {
                if (faster[other]) {
                    like = activations(other) == activations(c) && (like < 0 || alike(other).millis < alike(like).millis) ? other : like;
                    any = other;
                }
            }
            probes[c] = like >= 0 ? like : any >= 0 ? any : probes[c];
        }
        for (int g = 0; g < largest.size(); g++) {
            double all = elements(largest.get(g));
            for (int i : largest.get(g)) {
                for (int c = 0; c < kept; c++) {
                    // What makes the whole model slower is not taken.
                    double more = at[g][c] < 0 ? 10 : millis[at[g][c]] / original().millis - 1;
                    double share = units.get(i).tensor().shape().elements() / all;
                    costs[i][c] = 1e6 * (more * share + BYTES * (bytes[i][c] - bytes[i][kept]) / compressor.model().bytes());
                }
                costs[i][kept] = 0;
            }
        }
    }

    private Form.Activations activations(int candidate) {
        return switch (candidates.get(candidate).product) {
            case QuantizeMethod q -> q.activations();
            case GptqMethod g -> g.codes().activations();
            default -> Form.Activations.FLOAT;
        };
    }

    private double elements(List<Integer> of) {
        return of.stream().mapToDouble(i -> units.get(i).tensor().shape().elements()).sum();
    }

    /** With all weights in this candidate; null if that was not measured. */
    private Point alike(int candidate) {
        return measured.get(alike[candidate]);
    }

    private Point original() {
        return alike(kept);
    }

    /** Those that meet the goal and ought to be fast, the original with them, against each other. */
    private void finals(Goal goal) throws IOException {
        List<Recipe> finalists = new ArrayList<>();
        measured.values().stream().filter(p -> goal.metBy(p) && !Double.isNaN(p.millis) && !p.recipe.isEmpty())
                .sorted(Comparator.comparingDouble(this::cost)).limit(FINALISTS).forEach(p -> finalists.add(p.recipe));
        measured.values().stream().filter(p -> goal.metBy(p) && expectations.containsKey(p.recipe.yaml()) && !finalists.contains(p.recipe))
                .sorted(Comparator.comparingDouble(p -> expectations.get(p.recipe.yaml()))).limit(FINALISTS).forEach(p -> finalists.add(p.recipe));
        race(finalists, true);
    }

    /** Milliseconds by recipe, as {@link Trials#race}. */
    private double[] race(List<Recipe> recipes, boolean together) throws IOException {
        trials.race(original().recipe, recipes, together, this::outOfTime);
        measured.replaceAll((text, p) -> new Point(p.recipe, p.bytes, p.cosine, p.uniform, memory.millis(text)));
        return recipes.stream().mapToDouble(recipe -> memory.millis(recipe.yaml())).toArray();
    }

    private Point measure(Recipe recipe, String what, boolean uniform) throws IOException {
        String text = recipe.yaml();
        Point known = measured.get(text);
        if (known == null) {
            known = new Point(recipe, planned(recipe), trials.cosine(recipe, samples, what), uniform, Double.NaN);
            measured.put(text, known);
        }
        return known;
    }
}
