package dev.tensorpress.structure;

import dev.tensorpress.internal.Glob;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.LinearAlgebra;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.ValueStatistics;
import dev.tensorpress.structure.Group.Member;
import dev.tensorpress.structure.Group.Part;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/**
 * Takes neurons, heads and channels out of a model that the results need least. Groups of {@link Dependencies} each lose a part of their indices.
 */
public final class StructuredPruning {
    /** Rounds in which all indices of a group would go: those after the first know what is left to make up for them. */
    private static final int ROUNDS = 128;

    /** What tells which indices are needed least. */
    public enum Score {
        /** The sum of squares of their slices of all products' constants. */
        MAGNITUDE,
        /** What they add to the results of products, as calibration has seen it: squares of inputs times squares of slices, as Wanda has it (Sun et al. 2023). */
        ACTIVATIONS,
        /**
         * By how much the results of products get worse without them, the best weights being found for those that are left: greedily, with the inverse
         * of the Gram matrix kept up to date (ZipLM, Kurtic et al. 2023).
         */
        RECONSTRUCTION
    }

    /** What can be counted of a model. */
    public enum Measure {
        /** Of its files. */
        BYTES,
        /** Of its products with constants, each axis of unknown size, such as batch or sequence, counted once. */
        MULTIPLY_ADDS;

        /** In options, such as {@code multiply-adds}. */
        public String id() {
            return name().toLowerCase(Locale.ROOT).replace('_', '-');
        }
    }

    /** How much is taken out. */
    public sealed interface Target permits Amount, Budget, Latency {}

    /**
     * The same part of each group.
     *
     * @param part of the indices that go, at least 0 and below 1
     */
    public record Amount(double part) implements Target {
        public Amount {
            if (!(part >= 0 && part < 1)) {
                throw new IllegalArgumentException("amount must be at least 0 and below 1, but is " + part);
            }
        }
    }

    /**
     * As much as it takes, from where it loses least: the group whose next indices lose least for what they save gives them, until the whole is small
     * enough. Losses are those of {@link Curve}.
     *
     * @param part of what the model has that is left, above 0 and at most 1
     */
    public record Budget(Measure measure, double part) implements Target {
        public Budget {
            if (!(part > 0 && part <= 1)) {
                throw new IllegalArgumentException(measure.id() + " must be above 0 and at most 1, but is " + part);
            }
        }
    }

    /**
     * As {@link Budget}, of time.
     *
     * @param part of the model's time that is left, above 0 and at most 1
     */
    public record Latency(double part, Times times) implements Target {
        public Latency {
            if (!(part > 0 && part <= 1)) {
                throw new IllegalArgumentException("latency must be above 0 and at most 1, but is " + part);
            }
        }
    }

    /** How long a model takes, as somebody has measured: this library knows no runtime. */
    public interface Times {
        /** Milliseconds of the whole model. */
        double whole();

        /** Of these, how many go if so many indices of a group are left: not negative, 0 if all are. */
        double saved(Group group, int kept);
    }

    /**
     * What is taken out of which groups, and how it is chosen.
     *
     * @param kinds of groups that lose indices
     * @param names globs, one of which fits the name of a group; none for all groups
     * @param multiple of how many indices stay, such as what kernels are fast with; those of a group with fewer all stay. A head counts as many times as
     *     it has features
     * @param update whether products that read what is left make up for the rest, by least squares, and biases that are added to their results
     * @param damping of the mean of the Gram matrix's diagonal, above 0
     * @param excluded constants that stay as they are: groups with one of them stay whole
     */
    public record Options(Set<Group.Kind> kinds, List<String> names, Target target, int multiple, Score score, boolean update, double damping,
            Set<String> excluded) {
        public Options {
            kinds = Set.copyOf(kinds);
            names = List.copyOf(names);
            excluded = Set.copyOf(excluded);
            if (multiple < 1) {
                throw new IllegalArgumentException("multiple must be at least 1, but is " + multiple);
            }
            if (!(damping > 0 && damping <= 1)) {
                throw new IllegalArgumentException("damping must be above 0 and at most 1, but is " + damping);
            }
        }

        /** Of all constants. */
        public Options(Set<Group.Kind> kinds, List<String> names, Target target, int multiple, Score score, boolean update, double damping) {
            this(kinds, names, target, multiple, score, update, damping, Set.of());
        }

        /** The same without these constants. */
        public Options excluding(Set<String> constants) {
            return new Options(kinds, names, target, multiple, score, update, damping, constants);
        }

        /** Whether statistics of inputs are needed. */
        public boolean asksForInputs() {
            return score != Score.MAGNITUDE || update;
        }

        /** The same with another target. */
        public Options with(Target target) {
            return new Options(kinds, names, target, multiple, score, update, damping, excluded);
        }

        /** Whether kind and name are asked for. */
        public boolean selects(Group g) {
            return kinds.contains(g.kind()) && (names.isEmpty() || names.stream().anyMatch(glob -> Glob.matches(glob, g.name())));
        }

        private String selected() {
            return String.join(", ", kinds.stream().map(Group.Kind::id).sorted().toList()) + (names.isEmpty() ? "" : " of " + String.join(", ", names));
        }

        /** Of how many indices of a group. */
        private int multiple(Group g) {
            long features = g.kind() != Group.Kind.HEADS ? 1 : g.members().stream().mapToLong(Member::perIndex).min().orElse(1);
            return multiple / BigInteger.valueOf(multiple).gcd(BigInteger.valueOf(features)).intValue();
        }
    }

    /**
     * What became of a group.
     *
     * @param kept indices that stay
     * @param loss of the results of products that read it, in squares and relative, without their mean where a bias makes up for that; empty without
     *     statistics
     * @param note why all stay; empty if that is as asked
     */
    public record Pruned(String name, Group.Kind kind, int size, int kept, Optional<Double> loss, String note) {}

    /**
     * What became of a model.
     *
     * @param groups that were selected, in the order of the graph
     * @param kept of each value that got shorter what stays of its axes, as {@link Removal#apply} has it
     */
    public record Result(List<Pruned> groups, Map<String, int[][]> kept) {}

    /**
     * What it costs to take indices out of a group.
     *
     * @param kept how many are left: all, and fewer and fewer
     * @param loss 0 of all, and growing: with {@link Score#RECONSTRUCTION} ||X W - X' W'||<sup>2</sup> of the products that sum over the group, X being what
     *     calibration has seen of the model as it was, without its mean where a bias takes that, and W' the best weights for what is left of it; with the
     *     others the sum of the scores of what is removed. Divided by ||X W||<sup>2</sup>, or the sum of all scores, in the mean over those of the groups
     *     here whose products make the same axis, such as that of a residual stream; with {@link Score#MAGNITUDE} of the group itself.
     *     {@link #prune} with this many left takes out the same indices
     * @param order in which indices go
     */
    public record Curve(Group group, int[] kept, double[] loss, int[] order) {}

    private final EditableModel model;
    private final Dependencies found;
    private final Map<String, Weight> weights = new HashMap<>();
    private final InputStatistics inputs;
    private final List<Options> options;
    private final Executor executor;
    private final Arena arena;
    /** By name of the group, if they are known already. */
    private final Map<String, Curve> known = new HashMap<>();
    /** Inputs of a product that groups before have taken away. */
    private final Map<String, boolean[]> gone = new HashMap<>();

    /** A group that can lose indices. */
    private static final class Candidate {
        final Group group;
        final Options options;
        final int multiple;
        /** How many have to stay. */
        final int least;
        int kept;
        Path path;
        Curve curve;

        Candidate(Group group, Options options) {
            this.group = group;
            this.options = options;
            multiple = options.multiple(group);
            long stay = options.target instanceof Amount a ? Math.max(1, Math.round(group.size() * (1 - a.part))) : 1;
            least = (int) Math.min(group.size(), Math.ceilDiv(stay, multiple) * multiple);
            kept = least;
        }

        /** Whether all stay because that is what is asked for. */
        boolean stays() {
            return options.target instanceof Amount a && a.part == 0;
        }

        /** How many may be left, from all on. */
        int[] levels() {
            int size = group.size();
            int below = (size - 1) / multiple;
            return IntStream.rangeClosed(0, below - least / multiple + 1).map(i -> i == 0 ? size : (below + 1 - i) * multiple).toArray();
        }
    }

    /**
     * In which order indices go.
     *
     * @param order as many as may go
     * @param loss without the first of them
     * @param whole what losses are a part of
     */
    private record Path(int[] order, double[] loss, double whole) {}

    private StructuredPruning(EditableModel model, Collection<Weight> weights, InputStatistics inputs, List<Options> options, Executor executor, Arena arena) {
        this.model = model;
        this.found = Dependencies.of(model);
        weights.forEach(w -> this.weights.put(w.name(), w));
        this.inputs = inputs;
        this.options = List.copyOf(options);
        this.executor = executor;
        this.arena = arena;
        if (inputs == null && options.stream().anyMatch(Options::asksForInputs)) {
            throw new IllegalArgumentException("statistics of inputs are needed");
        }
    }

    /**
     * Prunes a model.
     *
     * @param model as it was read; changed
     * @param weights of the same model, as {@link dev.tensorpress.model.Model#weights} has them
     * @param inputs of these weights; null if {@link Options#asksForInputs} denies it
     * @param options the first ones that select a group take it; those that count the whole model count what those before have left
     * @param arena for new constants, which has to live as long as the model is used
     * @throws UnsupportedRequestException if one of the options selects no group, what shall be left cannot be reached, or a weight of a group that
     *     loses indices holds NaN or infinity; nothing is changed then
     * @throws IllegalStateException if a Gram matrix is not definite in spite of the damping
     */
    public static Result prune(EditableModel model, Collection<Weight> weights, InputStatistics inputs, List<Options> options, Executor executor,
            Arena arena) {
        return new StructuredPruning(model, weights, inputs, options, executor, arena).run();
    }

    /**
     * Prunes a model of which curves are known, which takes most of the time.
     *
     * @param curves of an equal model, for options that differ in their targets alone
     */
    public static Result prune(EditableModel model, Collection<Weight> weights, InputStatistics inputs, List<Options> options, List<Curve> curves,
            Executor executor, Arena arena) {
        StructuredPruning s = new StructuredPruning(model, weights, inputs, options, executor, arena);
        curves.forEach(c -> s.known.put(c.group.name(), c));
        return s.run();
    }

    /**
     * What indices of groups cost, for who shares a budget out among them and others.
     *
     * @param options of which the targets do not count
     * @return of groups that can lose indices, in the order of the graph
     * @throws UnsupportedRequestException if one of the options selects no group, or a weight of a group that can lose indices holds NaN or infinity
     * @throws IllegalStateException as {@link #prune}
     */
    public static List<Curve> curves(EditableModel model, Collection<Weight> weights, InputStatistics inputs, List<Options> options, Executor executor) {
        List<Options> whole = options.stream().map(o -> o.with(new Budget(Measure.BYTES, 1))).toList();
        return new StructuredPruning(model, weights, inputs, whole, executor, null).candidates(new HashMap<>()).stream().map(c -> c.curve).toList();
    }

    private Result run() {
        Map<Group, String> notes = new LinkedHashMap<>();
        List<Candidate> candidates = candidates(notes);
        Map<IndexSet, Long> counts = new HashMap<>();
        for (Options o : options) {
            List<Candidate> own = candidates.stream().filter(c -> c.options == o).toList();
            if (!(o.target instanceof Amount)) {
                allocate(own, o.target, counts);
            }
            own.forEach(c -> counts.put(c.group.set().find(), (long) c.kept));
        }
        Map<Group, Optional<Double>> losses = new HashMap<>();
        Map<Group, int[]> kept = new HashMap<>();
        for (Candidate c : candidates) {
            if (c.kept < c.group.size()) {
                int[] removed = Arrays.copyOf(c.curve.order, c.group.size() - c.kept);
                losses.put(c.group, lost(c, removed));
                boolean[] goes = new boolean[c.group.size()];
                Arrays.stream(removed).forEach(i -> goes[i] = true);
                kept.put(c.group, IntStream.range(0, goes.length).filter(i -> !goes[i]).toArray());
            }
        }
        // The same graph with other numbers has the same groups.
        Dependencies now = Dependencies.of(model);
        Map<Group, int[]> keep = new LinkedHashMap<>();
        List<Pruned> all = new ArrayList<>();
        for (int i = 0; i < found.groups().size(); i++) {
            Group g = found.groups().get(i);
            if (notes.containsKey(g)) {
                int left = kept.containsKey(g) ? kept.get(g).length : g.size();
                all.add(new Pruned(g.name(), g.kind(), g.size(), left, losses.getOrDefault(g, Optional.empty()), notes.get(g)));
                if (left < g.size()) {
                    keep.put(now.groups().get(i), kept.get(g));
                }
            }
        }
        return new Result(all, Removal.apply(now, keep, arena));
    }

    /** @param notes of all groups that are selected, why they stay whole; empty of those that need not */
    private List<Candidate> candidates(Map<Group, String> notes) {
        for (Options o : options) {
            if (found.groups().stream().noneMatch(o::selects)) {
                throw new UnsupportedRequestException("the model has no " + o.selected());
            }
        }
        List<Candidate> all = new ArrayList<>();
        // What of which axes belongs to groups that lose indices.
        Map<String, List<int[]>> shorter = new HashMap<>();
        for (Group g : found.groups()) {
            Optional<Options> o = options.stream().filter(some -> some.selects(g)).findFirst();
            if (o.isEmpty()) {
                continue;
            }
            Candidate c = new Candidate(g, o.get());
            String note = g.obstacle().orElse(!g.exact() ? "other statistics: a mean, a variance or a product of values is computed over them"
                    : excluded(g, o.get()).map(constant -> "'" + constant + "' is excluded")
                            .orElse(c.least == g.size() && !c.stays() ? "no smaller multiple of " + c.multiple : ""));
            Optional<Member> shared = note.isEmpty() ? shared(g, shorter) : Optional.empty();
            if (shared.isPresent()) {
                note = "axis " + shared.get().axis() + " of '" + shared.get().constant() + "' has lost a part already";
            }
            if (note.isEmpty() && c.least < g.size()) {
                try {
                    c.curve = known.get(g.name());
                    c.path = c.curve == null ? path(c) : null;
                    g.members().forEach(m -> shorter.computeIfAbsent(m.constant() + " " + m.axis(), _ -> new ArrayList<>()).add(m.owners()));
                    all.add(c);
                } catch (UnsupportedRequestException e) {
                    note = e.getMessage();
                }
                if (note.isEmpty()) {
                    checkFinite(g);
                }
            }
            notes.put(g, note);
        }
        compare(all);
        return all;
    }

    /**
     * Makes losses comparable. What is added to the same axis, as all blocks of a residual stream do, is comparable as it is: a block that is large in few
     * places, as some neurons of transformers make it (Sun et al. 2024), is not less sensitive in the others. Else losses are parts of what is there.
     */
    private void compare(List<Candidate> candidates) {
        Map<Object, List<Candidate>> together = new LinkedHashMap<>();
        for (Candidate c : candidates) {
            if (c.curve != null) {
                continue;
            }
            Set<IndexSet> made = c.options.score == Score.MAGNITUDE ? Set.of() : made(c.group);
            together.computeIfAbsent(made.isEmpty() ? c : List.of(made, c.options.score), _ -> new ArrayList<>()).add(c);
        }
        for (List<Candidate> some : together.values()) {
            double mean = some.stream().mapToDouble(c -> c.path.whole).average().orElseThrow();
            for (Candidate c : some) {
                int[] kept = c.levels();
                double[] loss = Arrays.stream(kept).mapToDouble(k -> mean == 0 ? 0 : c.path.loss[c.group.size() - k] / mean).toArray();
                c.curve = new Curve(c.group, kept, loss, c.path.order);
            }
        }
    }

    /** What products make that sum over a group. */
    private Set<IndexSet> made(Group g) {
        Set<String> summed = g.members().stream().filter(m -> m.part() == Part.SUMMED).map(Member::constant).collect(Collectors.toSet());
        return found.linker().slots().stream().filter(s -> s.part() == Part.MADE && summed.contains(s.constant())).map(s -> s.set().find())
                .collect(Collectors.toSet());
    }

    /** NaN would be the largest of scores, or make all of them NaN. */
    private void checkFinite(Group g) {
        for (Member m : g.members()) {
            EditableTensor t = found.shapes().constant(m.constant()).orElseThrow();
            long at = m.part() == Part.ALONG || !Numbers.real(t) ? -1 : Numbers.firstNonFinite(t.tensor());
            if (at >= 0) {
                throw new UnsupportedRequestException("weight " + m.constant() + " holds " + Numbers.get(t.tensor(), at) + " at element " + at
                        + ": which " + g.kind().id() + " of '" + g.name() + "' are needed least cannot be told");
            }
        }
    }

    private static Optional<String> excluded(Group g, Options options) {
        return g.members().stream().map(Member::constant).filter(options.excluded::contains).findFirst();
    }

    /** An axis of which something would be taken twice, once by another group: what is asked for is a part of it. */
    private static Optional<Member> shared(Group g, Map<String, List<int[]>> shorter) {
        for (Member m : g.members()) {
            int[] owners = m.owners();
            for (int[] others : shorter.getOrDefault(m.constant() + " " + m.axis(), List.of())) {
                if (IntStream.range(0, owners.length).anyMatch(i -> owners[i] >= 0 && others[i] >= 0)) {
                    return Optional.of(m);
                }
            }
        }
        return Optional.empty();
    }

    private void exchange(String constant, EditableTensor by) {
        if (model.graph().initializers().containsKey(constant)) {
            model.graph().initializers().put(constant, by);
            return;
        }
        for (EditableNode n : model.graph().nodes()) {
            if (n.outputs().contains(constant)) {
                n.remove("value_floats").set("value", by);
            }
        }
    }

    // How much of which group.

    private void allocate(List<Candidate> candidates, Target target, Map<IndexSet, Long> counts) {
        Set<IndexSet> shorter = new HashSet<>(counts.keySet());
        candidates.forEach(c -> shorter.add(c.group.set().find()));
        double part;
        double whole;
        Costs costs;
        String what;
        if (target instanceof Latency latency) {
            part = latency.part;
            whole = latency.times.whole();
            costs = new Costs(whole);
            for (Candidate c : candidates) {
                costs.add(Set.of(c.group.set().find()), own -> -latency.times.saved(c.group, (int) own.applyAsLong(c.group.set().find())));
            }
            what = "time";
        } else {
            Budget budget = (Budget) target;
            part = budget.part;
            what = budget.measure.id();
            costs = budget.measure == Measure.BYTES ? Costs.bytes(found, shorter) : Costs.multiplyAdds(found);
            whole = budget.measure == Measure.BYTES ? model.bytes() : costs.total(own -> own.size().factor());
        }
        double left = Allocation.of(candidates.stream().map(c -> new Allocation.Share(c.group.set().find(), c.curve.kept, c.curve.loss)).toList(), costs,
                part * whole, counts);
        if (left > part * whole) {
            throw new UnsupportedRequestException(String.format(Locale.ROOT, "without all that can go of what is selected, %.2f %% of the %s would be left,"
                    + " which is more than %.2f %%", 100 * left / whole, what, 100 * part));
        }
        candidates.forEach(c -> c.kept = Math.toIntExact(counts.get(c.group.set().find())));
    }

    // What goes first of a group.

    private Path path(Candidate c) {
        int size = c.group.size();
        if (c.options.score == Score.MAGNITUDE && !c.options.asksForInputs()) {
            return sorted(magnitudes(c.group), c.least);
        }
        try (Arena work = executor.arena(); LinearAlgebra la = new LinearAlgebra(executor)) {
            List<Consumer> consumers = consumers(c, la, work);
            return switch (c.options.score) {
                case MAGNITUDE -> sorted(magnitudes(c.group), c.least);
                case ACTIVATIONS -> {
                    double[] scores = new double[size];
                    consumers.forEach(one -> one.contributions(scores));
                    yield sorted(scores, c.least);
                }
                case RECONSTRUCTION -> greedy(consumers, size, c.least);
            };
        }
    }

    private static Path sorted(double[] scores, int least) {
        int[] order = IntStream.range(0, scores.length).boxed().sorted(Comparator.comparingDouble(i -> scores[i])).limit(scores.length - least)
                .mapToInt(i -> i).toArray();
        double[] loss = new double[order.length + 1];
        for (int i = 0; i < order.length; i++) {
            loss[i + 1] = loss[i] + scores[order[i]];
        }
        return new Path(order, loss, Arrays.stream(scores).sum());
    }

    private static Path greedy(List<Consumer> consumers, int size, int least) {
        List<Consumer.Path> paths = consumers.stream().map(c -> c.new Path()).toList();
        boolean[] gone = new boolean[size];
        int[] order = new int[size - least];
        double[] loss = new double[order.length + 1];
        for (int from = 0; from < order.length;) {
            double[] costs = new double[size];
            paths.forEach(p -> p.costs(gone, costs));
            int now = Math.min(order.length - from, Math.ceilDiv(size, ROUNDS));
            int[] chosen = IntStream.range(0, size).filter(i -> !gone[i]).boxed().sorted(Comparator.comparingDouble(i -> costs[i])).limit(now)
                    .mapToInt(i -> i).toArray();
            double lost = paths.stream().mapToDouble(p -> p.remove(chosen)).sum();
            // Of what they lose together each has the part that it would have by itself.
            double single = Arrays.stream(chosen).mapToDouble(i -> costs[i]).sum();
            for (int i : chosen) {
                loss[from + 1] = loss[from] + (single == 0 ? lost / now : lost * costs[i] / single);
                order[from++] = i;
                gone[i] = true;
            }
        }
        return new Path(order, loss, consumers.stream().mapToDouble(Consumer::energy).sum());
    }

    /** What the results of products lose; empty if nothing is known of it. Products make up for it if they are asked to. */
    private Optional<Double> lost(Candidate c, int[] removed) {
        if (!c.options.asksForInputs()) {
            return Optional.empty();
        }
        try (Arena work = executor.arena(); LinearAlgebra la = new LinearAlgebra(executor)) {
            double lost = 0;
            double energy = 0;
            for (Consumer consumer : consumers(c, la, work)) {
                boolean[] without = gone.computeIfAbsent(consumer.constant, _ -> new boolean[consumer.k]);
                Arrays.stream(consumer.inputs(removed)).forEach(i -> without[i] = true);
                EditableTensor[] result = new EditableTensor[2];
                lost += consumer.without(without, c.options.update, arena, result);
                energy += consumer.energy();
                if (c.options.update) {
                    exchange(consumer.constant, result[0]);
                    if (result[1] != null) {
                        exchange(inputs.bias(weights.get(consumer.constant)).orElseThrow().name(), result[1]);
                    }
                }
            }
            return Optional.of(energy == 0 ? 0 : lost / energy);
        }
    }

    /** Products that sum over the group, with what they are multiplied with. */
    private List<Consumer> consumers(Candidate c, LinearAlgebra la, Arena work) {
        List<Consumer> all = new ArrayList<>();
        for (Member m : c.group.members()) {
            if (m.part() != Part.SUMMED) {
                continue;
            }
            if (all.stream().anyMatch(other -> other.constant.equals(m.constant()))) {
                throw new UnsupportedRequestException("'" + m.constant() + "' sums over it more than once");
            }
            Weight weight = weights.get(m.constant());
            Optional<ValueStatistics> of = weight == null ? Optional.empty() : inputs.of(weight);
            if (of.isEmpty() || of.get().gram().isEmpty()) {
                throw new UnsupportedRequestException("there is no Gram matrix of what '" + m.constant() + "' is multiplied with");
            }
            EditableTensor t = found.shapes().constant(m.constant()).orElseThrow();
            Shape shape = t.shape();
            long line = shape.rank() < 2 ? 0 : IntStream.range(2, shape.rank()).mapToLong(shape::dim).reduce(1, (a, b) -> a * b);
            int[] owners = m.owners();
            long patch = m.axis() == 1 ? line : 1;
            if (shape.rank() < 2 || m.axis() > 1 || m.axis() == 0 && line != 1 || !Numbers.real(t) || of.get().groups() != 1
                    || of.get().channels() != owners.length * patch) {
                throw new UnsupportedRequestException("statistics of what '" + m.constant() + "' is multiplied with are not of its axis " + m.axis());
            }
            int[] each = new int[Math.toIntExact(owners.length * patch)];
            Arrays.setAll(each, i -> owners[(int) (i / patch)]);
            all.add(new Consumer(m.constant(), t, m.axis() == 0, each, of.get(), bias(c, weight, of.get(), t.shape().elements() / each.length), c.options.damping,
                    la, executor, work));
        }
        if (all.isEmpty()) {
            throw new UnsupportedRequestException("no product sums over it");
        }
        return all;
    }

    /** What can take the mean of inputs that go, of a product that makes so many outputs; null if there is none. */
    private EditableTensor bias(Candidate c, Weight of, ValueStatistics input, long outputs) {
        if (!c.options.update || !input.hasSum()) {
            return null;
        }
        return inputs.bias(of).filter(b -> !c.options.excluded.contains(b.name())).flatMap(b -> found.shapes().constant(b.name())).filter(t -> Numbers.real(t) && t.shape().elements() == outputs).orElse(null);
    }

    private double[] magnitudes(Group g) {
        double[] scores = new double[g.size()];
        for (Member m : g.members()) {
            EditableTensor t = found.shapes().constant(m.constant()).orElseThrow();
            if (m.part() == Part.ALONG || !Numbers.real(t)) {
                continue;
            }
            Tensor tensor = t.tensor();
            int[] owners = m.owners();
            long inner = 1;
            for (int i = m.axis() + 1; i < tensor.shape().rank(); i++) {
                inner *= tensor.shape().dim(i);
            }
            for (long i = 0; i < tensor.shape().elements(); i++) {
                int owner = owners[(int) (i / inner % owners.length)];
                if (owner >= 0) {
                    double x = Numbers.get(tensor, i);
                    scores[owner] += x * x;
                }
            }
        }
        return scores;
    }
}
