package dev.tensorpress.structure;

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
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.IntStream;

/**
 * Takes neurons, heads and channels out of a model that the results need least. Groups of {@link Dependencies} each lose a part of their indices.
 */
public final class StructuredPruning {
    /** Rounds in which indices of a group are chosen: those after the first know what is left to make up for them. */
    private static final int ROUNDS = 32;

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

    /**
     * How.
     *
     * @param kinds of groups that lose indices
     * @param amount part of the indices of each, at least 0 and below 1
     * @param multiple of how many indices stay, such as what kernels are fast with; those of a group with fewer all stay
     * @param update whether products that read what is left make up for the rest, by least squares
     * @param damping of the mean of the Gram matrix's diagonal, above 0
     */
    public record Options(Set<Group.Kind> kinds, double amount, int multiple, Score score, boolean update, double damping) {
        public Options {
            kinds = Set.copyOf(kinds);
            if (!(amount >= 0 && amount < 1)) {
                throw new IllegalArgumentException("amount must be at least 0 and below 1, but is " + amount);
            }
            if (multiple < 1) {
                throw new IllegalArgumentException("multiple must be at least 1, but is " + multiple);
            }
            if (!(damping > 0 && damping <= 1)) {
                throw new IllegalArgumentException("damping must be above 0 and at most 1, but is " + damping);
            }
        }

        /** Whether statistics of inputs are needed. */
        public boolean asksForInputs() {
            return score != Score.MAGNITUDE || update;
        }
    }

    /**
     * What became of a group.
     *
     * @param kept indices that stay
     * @param loss of the results of products that read it, in squares and relative; empty without statistics
     * @param note why all stay; empty if that is as asked
     */
    public record Pruned(String name, Group.Kind kind, int size, int kept, Optional<Double> loss, String note) {}

    private final EditableModel model;
    private final Map<String, Weight> weights = new HashMap<>();
    private final InputStatistics inputs;
    private final Options options;
    private final Executor executor;
    private final Arena arena;

    /** What was decided of a group. */
    private record Decision(int[] kept, Optional<Double> loss, Map<String, EditableTensor> weights) {}

    private StructuredPruning(EditableModel model, Collection<Weight> weights, InputStatistics inputs, Options options, Executor executor, Arena arena) {
        this.model = model;
        weights.forEach(w -> this.weights.put(w.name(), w));
        this.inputs = inputs;
        this.options = options;
        this.executor = executor;
        this.arena = arena;
    }

    /**
     * Prunes a model.
     *
     * @param model as it was read; changed
     * @param weights of the same model, as {@link dev.tensorpress.model.Model#weights} has them
     * @param inputs of these weights; null if {@link Options#asksForInputs} denies it
     * @param arena for new constants, which has to live as long as the model is used
     * @return of each group of the kinds, in the order of the graph
     * @throws UnsupportedRequestException if there is no group of these kinds
     * @throws IllegalStateException if a Gram matrix is not definite in spite of the damping
     */
    public static List<Pruned> prune(EditableModel model, Collection<Weight> weights, InputStatistics inputs, Options options, Executor executor,
            Arena arena) {
        if (options.asksForInputs() && inputs == null) {
            throw new IllegalArgumentException("statistics of inputs are needed");
        }
        return new StructuredPruning(model, weights, inputs, options, executor, arena).run();
    }

    private List<Pruned> run() {
        Dependencies found = Dependencies.of(model);
        List<Pruned> all = new ArrayList<>();
        Map<Integer, int[]> kept = new LinkedHashMap<>();
        // What of which axes belongs to groups that lose indices.
        Map<String, List<int[]>> shorter = new HashMap<>();
        List<Group> groups = found.groups();
        for (int i = 0; i < groups.size(); i++) {
            Group g = groups.get(i);
            if (!options.kinds.contains(g.kind())) {
                continue;
            }
            int stays = stays(g.size());
            String note = g.obstacle().orElse(!g.exact() ? "other statistics: a mean, a variance or a product of values is computed over them"
                    : stays == g.size() && options.amount > 0 ? "no smaller multiple of " + options.multiple : "");
            Optional<Member> shared = note.isEmpty() ? shared(g, shorter) : Optional.empty();
            if (shared.isPresent()) {
                note = "axis " + shared.get().axis() + " of '" + shared.get().constant() + "' has lost a part already";
            }
            if (note.isEmpty() && stays < g.size()) {
                try {
                    Decision d = decide(found, g, stays);
                    g.members().forEach(m -> shorter.computeIfAbsent(m.constant() + " " + m.axis(), _ -> new ArrayList<>()).add(m.owners()));
                    kept.put(i, d.kept);
                    d.weights.forEach(this::exchange);
                    all.add(new Pruned(g.name(), g.kind(), g.size(), stays, d.loss, ""));
                    continue;
                } catch (UnsupportedRequestException e) {
                    note = e.getMessage();
                }
            }
            all.add(new Pruned(g.name(), g.kind(), g.size(), g.size(), Optional.empty(), note));
        }
        if (all.isEmpty()) {
            throw new UnsupportedRequestException("the model has no " + String.join(", ", options.kinds.stream().map(Group.Kind::id).sorted().toList()));
        }
        // The same graph with other numbers has the same groups.
        Dependencies now = Dependencies.of(model);
        Map<Group, int[]> keep = new LinkedHashMap<>();
        kept.forEach((i, indices) -> keep.put(now.groups().get(i), indices));
        Removal.apply(now, keep, arena);
        return all;
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

    private int stays(int size) {
        long stays = Math.max(1, Math.round(size * (1 - options.amount)));
        return (int) Math.min(size, Math.ceilDiv(stays, options.multiple) * options.multiple);
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

    private Decision decide(Dependencies found, Group g, int stays) {
        if (!options.asksForInputs()) {
            double[] scores = magnitudes(found, g);
            return new Decision(largest(scores, stays), Optional.empty(), Map.of());
        }
        try (Arena work = executor.arena(); LinearAlgebra la = new LinearAlgebra(executor)) {
            List<Consumer> consumers = consumers(found, g, la, work);
            int[] kept = switch (options.score) {
                case MAGNITUDE -> largest(magnitudes(found, g), stays);
                case ACTIVATIONS -> {
                    double[] scores = new double[g.size()];
                    consumers.forEach(c -> c.contributions(scores));
                    yield largest(scores, stays);
                }
                case RECONSTRUCTION -> greedy(consumers, g.size(), stays);
            };
            boolean[] stay = new boolean[g.size()];
            Arrays.stream(kept).forEach(i -> stay[i] = true);
            int[] gone = IntStream.range(0, g.size()).filter(i -> !stay[i]).toArray();
            double lost = 0;
            double energy = 0;
            Map<String, EditableTensor> changed = new LinkedHashMap<>();
            for (Consumer c : consumers) {
                EditableTensor[] result = new EditableTensor[1];
                lost += c.without(c.inputs(gone), options.update, arena, result);
                energy += c.energy();
                if (options.update) {
                    changed.put(c.constant, result[0]);
                }
            }
            return new Decision(kept, Optional.of(energy == 0 ? 0 : lost / energy), changed);
        }
    }

    /** Products that sum over the group, with what they are multiplied with. */
    private List<Consumer> consumers(Dependencies found, Group g, LinearAlgebra la, Arena work) {
        List<Consumer> all = new ArrayList<>();
        for (Member m : g.members()) {
            if (m.part() != Part.SUMMED) {
                continue;
            }
            if (all.stream().anyMatch(c -> c.constant.equals(m.constant()))) {
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
            all.add(new Consumer(m.constant(), t, m.axis() == 0, each, of.get().gram().get(), options.damping, la, executor, work));
        }
        if (all.isEmpty()) {
            throw new UnsupportedRequestException("no product sums over it");
        }
        return all;
    }

    private static int[] greedy(List<Consumer> consumers, int size, int stays) {
        List<Consumer.Path> paths = consumers.stream().map(c -> c.new Path()).toList();
        boolean[] gone = new boolean[size];
        for (int left = size; left > stays;) {
            double[] costs = new double[size];
            paths.forEach(p -> p.costs(gone, costs));
            int now = Math.min(left - stays, Math.max(1, Math.ceilDiv(size - stays, ROUNDS)));
            int[] chosen = IntStream.range(0, size).filter(i -> !gone[i]).boxed().sorted(Comparator.comparingDouble(i -> costs[i])).limit(now)
                    .mapToInt(i -> i).toArray();
            paths.forEach(p -> p.remove(chosen));
            Arrays.stream(chosen).forEach(i -> gone[i] = true);
            left -= now;
        }
        return IntStream.range(0, size).filter(i -> !gone[i]).toArray();
    }

    private static int[] largest(double[] scores, int count) {
        return IntStream.range(0, scores.length).boxed().sorted(Comparator.comparingDouble(i -> -scores[i])).limit(count).mapToInt(i -> i).sorted().toArray();
    }

    private static double[] magnitudes(Dependencies found, Group g) {
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
