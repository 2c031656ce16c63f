package dev.tensorpress;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.io.Buffers;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.method.Evidence;
import dev.tensorpress.method.Evidence.Surroundings;
import dev.tensorpress.method.Method.Requirement;
import dev.tensorpress.method.NoGainException;
import dev.tensorpress.method.Prepared;
import dev.tensorpress.method.Spectra;
import dev.tensorpress.method.Workspace;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.Lowering;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Phases;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.Statistics;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.function.Predicate;

/** Decides what a recipe makes of each weight of a model. */
final class Planner {
    /** The part of the memory that is for weights as methods look at them; a buffer's worth there always is. */
    private static final int SHARE_OF_HELD = 2;

    private final Model model;
    private final Compressor.Options options;
    private final Spectra spectra;
    private final Statistics gathered;
    private final InputStatistics statistics;

    /**
     * @param spectra of weights that a plan decomposed: what is known already, and will be added to
     * @param gathered statistics of the model; null if there are none
     * @param statistics these, of what weights are multiplied with
     */
    Planner(Model model, Compressor.Options options, Spectra spectra, Statistics gathered, InputStatistics statistics) {
        this.gathered = gathered;
        this.model = model;
        this.options = options;
        this.spectra = spectra;
        this.statistics = statistics;
    }

    /** @param open those that the recipe may change; all others stay */
    Plan plan(Recipe recipe, Target target, Predicate<Weight> open) {
        Phases phases = new Phases();
        Phases.Span span = phases.begin(Phases.Phase.PLAN);
        long looked = 0;
        // By identity: two steps of a recipe may be equal.
        Map<Recipe.Step, Prepared> prepared = new IdentityHashMap<>();
        List<Recipe.Step> unprepared = new ArrayList<>();
        for (Recipe.Step step : recipe.steps()) {
            if (step.method().requires().contains(Requirement.GRAPH)) {
                continue;
            }
            if (step.method().requires().contains(Requirement.WEIGHTS)) {
                unprepared.add(step);
            } else if (step.method().requires().isEmpty()) {
                prepared.put(step, step.method().prepare(Evidence.NOTHING));
            }
        }
        List<Candidate> candidates = new ArrayList<>();
        for (Weight weight : model.weights()) {
            List<Recipe.Step> steps = new ArrayList<>();
            boolean barred = weight.obstacle().isPresent() || Selector.anyMatches(recipe.excludes(), weight);
            String reason = open.test(weight) ? select(recipe, weight, steps) : "left for later";
            Candidate candidate = new Candidate(weight, steps, reason, barred);
            probe(target, candidate);
            candidates.add(candidate);
        }
        InputStatistics inputs = statistics;
        for (Recipe.Step step : recipe.steps()) {
            if (step.method().requires().contains(Requirement.GRAPH)) {
                if (step.method().requires().contains(Requirement.STATISTICS)) {
                    checkStatistics(step);
                }
                looked += rearrange(recipe, step, candidates, target, inputs, prepared);
                inputs = inputs == null ? null : prepared.get(step).inputs(inputs);
            }
        }
        Map<Recipe.Step, InputStatistics> seen = new IdentityHashMap<>();
        for (Recipe.Step step : recipe.steps()) {
            Set<Requirement> requires = step.method().requires();
            if (requires.contains(Requirement.STATISTICS) && !requires.contains(Requirement.GRAPH)) {
                checkStatistics(step);
                Predicate<Weight> free = free(candidates, target);
                seen.put(step, inputs.withBiases(step.method().amends() ? free.and(moved(step, candidates, prepared)::contains) : free));
                if (!requires.contains(Requirement.WEIGHTS)) {
                    prepared.put(step, step.method().prepare(new Evidence(List.of(), null, seen.get(step))));
                }
            }
        }
        for (Recipe.Step step : recipe.steps()) {
            if (step.method().amends() && !seen.containsKey(step)) {
                unmoved(step, candidates, prepared);
            }
        }
        do {
            looked += prepare(unprepared, candidates, seen, prepared);
            Set<Recipe.Step> lost = Collections.newSetFromMap(new IdentityHashMap<>());
            for (Candidate candidate : candidates) {
                if (candidate.entry == null || candidate.hasAny(unprepared)) {
                    candidate.entry = plan(target, candidate, prepared, lost);
                }
            }
            settle(recipe, target, candidates, prepared, lost);
            // What was compared with weights that do not become what it was compared for is compared again without them.
            unprepared = new ArrayList<>(lost);
        } while (!unprepared.isEmpty());
        accompany(target, candidates, prepared);
        List<Plan.Entry> entries = new ArrayList<>();
        for (Candidate candidate : candidates) {
            entries.add(candidate.entry);
        }
        long after = target.size(Plan.lowerings(entries));
        span.end(model.path(), looked);
        return new Plan(recipe, target, List.copyOf(entries), model.bytes(), after, phases.of(Phases.Phase.PLAN),
                recipe.requires(Requirement.STATISTICS) ? Optional.of(gathered) : Optional.empty(), List.of());
    }

    /**
     * Prepares a step that changes weights without loss, of which others than it selects may be, and gives it to all of them.
     *
     * @return bytes of the weights that were looked at
     */
    private long rearrange(Recipe recipe, Recipe.Step step, List<Candidate> candidates, Target target, InputStatistics inputs,
            Map<Recipe.Step, Prepared> prepared) {
        Map<Weight, Candidate> all = new HashMap<>();
        candidates.forEach(c -> all.put(c.weight, c));
        Graph graph;
        try {
            graph = model.graph().orElseThrow(() -> new UnsupportedRequestException("method " + step.method().name()
                    + " goes by what the model computes, which a model of this format does not say"));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        Surroundings surroundings = new Surroundings(graph, w -> obstacle(step, all.get(w), target), w -> operator(w, target),
                w -> Optional.ofNullable(all.get(w).codes()).map(Recipe.Step::method), (w, form) -> target.lower(w, form).form().made());
        long bytes;
        try (Executor executor = Executor.on(options.device(), options.threads()); Workspace workspace = workspace(executor)) {
            bytes = prepare(step, candidates, inputs, surroundings, workspace, prepared);
        }
        Map<Weight, String> changes = prepared.get(step).changes();
        for (Candidate c : candidates) {
            List<Recipe.Step> steps = c.steps;
            if (changes.containsKey(c.weight)) {
                c.steps = recipe.steps().stream().filter(s -> s == step || Candidate.has(steps, s)).toList();
                c.bound.add(step);
                c.remark(changes.get(c.weight));
            } else if (Candidate.has(steps, step)) {
                c.drop(step);
                c.reason = refusal(prepared.get(step), c.weight);
                if (!c.steps.isEmpty()) {
                    c.remark("no " + step.method().name() + ": " + c.reason);
                }
            }
        }
        return bytes;
    }

    /** Why no operator can divide what a weight is multiplied with. */
    private static Optional<String> operator(Weight weight, Target target) {
        try {
            target.divided(weight, target.lower(weight, new Form.Dense(weight.tensor().dtype())), new double[0]);
            return Optional.empty();
        } catch (UnsupportedRequestException e) {
            return Optional.of(e.getMessage());
        }
    }

    private static String refusal(Prepared prepared, Weight weight) {
        try {
            throw new IllegalStateException(weight.name() + " could be " + prepared.plan(weight, new Form.Dense(weight.tensor().dtype())).describe());
        } catch (UnsupportedRequestException e) {
            return e.getMessage();
        }
    }

    /** Why a weight must not be changed before all that is made of it. */
    private static Optional<String> obstacle(Recipe.Step step, Candidate c, Target target) {
        if (c.barred) {
            return Optional.of(c.reason);
        }
        for (Recipe.Step s : c.steps) {
            if (s == step) {
                break;
            }
            if (!s.method().requires().contains(Requirement.GRAPH)) {
                return Optional.of("step " + s.name() + " takes it before");
            }
        }
        try {
            target.lower(c.weight, new Form.Dense(c.weight.tensor().dtype()));
            return Optional.empty();
        } catch (UnsupportedRequestException e) {
            return Optional.of(e.getMessage());
        }
    }

    private void checkStatistics(Recipe.Step step) {
        if (statistics == null) {
            throw new UnsupportedRequestException("method " + step.method().name() + " goes by what the weights are multiplied with: it"
                    + " needs statistics, which calibrate makes of texts, images or other inputs of the model");
        }
    }

    /** Biases that nothing else is to be made of, and that may be changed. */
    private static Predicate<Weight> free(List<Candidate> candidates, Target target) {
        Set<String> free = new HashSet<>();
        for (Candidate c : candidates) {
            if (!c.barred && c.steps.size() == c.bound.size() && c.weight.tensor().dtype().compressible()) {
                try {
                    target.lower(c.weight, new Form.Dense(c.weight.tensor().dtype()));
                    free.add(c.weight.name());
                } catch (UnsupportedRequestException e) {
                    continue; // then its product does without it
                }
            }
        }
        return w -> free.contains(w.name());
    }

    /** Biases that make up for steps before this one. */
    private static Set<Weight> moved(Recipe.Step step, List<Candidate> candidates, Map<Recipe.Step, Prepared> prepared) {
        Set<Weight> biases = Collections.newSetFromMap(new IdentityHashMap<>());
        for (Candidate c : candidates) {
            if (c.has(step)) {
                moved(c, step, prepared).ifPresent(biases::add);
            }
        }
        return biases;
    }

    private static Optional<Weight> moved(Candidate c, Recipe.Step step, Map<Recipe.Step, Prepared> prepared) {
        return c.steps.stream().takeWhile(s -> s != step).map(prepared::get).filter(Objects::nonNull)
                .flatMap(p -> p.companion(c.weight).stream()).findFirst();
    }

    /** Drops a step that would do a second time what a bias does already. */
    private static void unmoved(Recipe.Step step, List<Candidate> candidates, Map<Recipe.Step, Prepared> prepared) {
        for (Candidate c : candidates) {
            if (c.has(step) && moved(c, step, prepared).isPresent()) {
                c.drop(step);
                c.remark("no " + step.method().name() + ": a bias makes up for part of the error already, which it takes statistics to know");
            }
        }
    }

    /** What changes with weights gets an entry of its own. */
    private void accompany(Target target, List<Candidate> candidates, Map<Recipe.Step, Prepared> prepared) {
        Map<String, Candidate> all = new HashMap<>();
        candidates.forEach(c -> all.put(c.weight.name(), c));
        for (Candidate c : candidates) {
            for (Recipe.Step step : c.entry.compressed() ? c.steps : List.<Recipe.Step>of()) {
                Prepared p = prepared.get(step);
                Optional<Weight> companion = p.companion(c.weight);
                // Not of a step that the weight goes on without.
                if (companion.isPresent() && c.entry.steps().stream().anyMatch(s -> s.prepared() == p)) {
                    Candidate other = all.get(companion.get().name());
                    boolean again = other.follows == c.weight;
                    List<Recipe.Step> both = new ArrayList<>(again ? other.steps : other.bound);
                    both.add(step);
                    other.steps = both;
                    other.follows = c.weight;
                    if (!again) {
                        other.remark("makes up for what " + c.weight.name() + " does to the mean");
                    }
                    other.entry = plan(target, other, prepared, new HashSet<>());
                }
            }
        }
    }

    /** Drops steps whose forms the target would not take, where it is costly to find the right form. */
    private static void probe(Target target, Candidate c) {
        for (Recipe.Step step : List.copyOf(c.steps)) {
            Optional<Form> probe = step.method().probe(c.weight);
            if (probe.isEmpty()) {
                continue;
            }
            try {
                target.lower(c.weight, probe.get());
            } catch (UnsupportedRequestException e) {
                c.drop(step);
                c.reason = e.getMessage();
                c.remark = c.steps.isEmpty() ? "" : "no " + step.method().name() + ": " + e.getMessage();
            }
        }
    }

    /** A weight on its way into a plan. */
    private static final class Candidate {
        final Weight weight;
        /** Steps of the recipe that select it. */
        List<Recipe.Step> steps;
        /** Those of them that take it whatever becomes of the others, before these. */
        final List<Recipe.Step> bound = new ArrayList<>(0);
        /** Why there are none. */
        String reason;
        /** Whether it stays for a reason that is not to be overruled: it cannot be touched, or was excluded. */
        final boolean barred;
        /** What is to be said of it, whatever becomes of it. */
        String remark = "";
        /** Whether a step that compares weights would take this one, but for what comes after it: then the entry is final. */
        boolean refused;
        Plan.Entry entry;
        /** What it is a companion of, or null. */
        Weight follows;

        Candidate(Weight weight, List<Recipe.Step> steps, String reason, boolean barred) {
            this.weight = weight;
            this.steps = steps;
            this.reason = reason;
            this.barred = barred;
        }

        void drop(Recipe.Step step) {
            steps = steps.stream().filter(s -> s != step).toList();
        }

        void remark(String more) {
            remark = remark.isEmpty() ? more : remark + "; " + more;
        }

        /** The step that makes codes, or null. */
        Recipe.Step codes() {
            for (Recipe.Step step : steps) {
                if (step.method().makesCodes()) {
                    return step;
                }
            }
            return null;
        }

        /** With another step that makes codes, or none if it is null. */
        void codes(Recipe.Step step, Recipe recipe) {
            List<Recipe.Step> all = new ArrayList<>();
            for (Recipe.Step s : recipe.steps()) {
                if (s == step || has(steps, s) && !s.method().makesCodes()) {
                    all.add(s);
                }
            }
            steps = all;
        }

        static boolean has(List<Recipe.Step> steps, Recipe.Step step) {
            for (Recipe.Step s : steps) {
                if (s == step) {
                    return true;
                }
            }
            return false;
        }

        /** Whether it takes part in what the step compares. */
        boolean has(Recipe.Step step) {
            return !refused && has(steps, step);
        }

        boolean hasAny(List<Recipe.Step> some) {
            for (Recipe.Step step : some) {
                if (has(step)) {
                    return true;
                }
            }
            return false;
        }
    }

    /** Prepares these steps for the weights that they take; returns the bytes of these weights. */
    private long prepare(List<Recipe.Step> steps, List<Candidate> candidates, Map<Recipe.Step, InputStatistics> seen,
            Map<Recipe.Step, Prepared> prepared) {
        long bytes = 0;
        if (steps.isEmpty()) {
            return bytes;
        }
        try (Executor executor = Executor.on(options.device(), options.threads());
                Workspace workspace = workspace(executor)) {
            for (Recipe.Step step : steps) {
                bytes += prepare(step, candidates, seen.get(step), null, workspace, prepared);
            }
        }
        return bytes;
    }

    private Workspace workspace(Executor executor) {
        return new Workspace(executor, spectra, model, Math.max(Buffers.CHUNK, options.memory() / SHARE_OF_HELD));
    }

    private static long prepare(Recipe.Step step, List<Candidate> candidates, InputStatistics inputs, Surroundings surroundings, Workspace workspace,
            Map<Recipe.Step, Prepared> prepared) {
        long bytes = 0;
        List<Weight> weights = new ArrayList<>();
        for (Candidate c : candidates) {
            if (c.has(step)) {
                weights.add(c.weight);
                bytes += c.weight.tensor().bytes();
            }
        }
        prepared.put(step, step.method().prepare(new Evidence(weights, workspace, inputs, surroundings)));
        return bytes;
    }

    /**
     * Makes the weights of each of the target's groups agree: all get the codes of the one that keeps most, or none gets any, if one
     * of them has to stay.
     */
    private void settle(Recipe recipe, Target target, List<Candidate> candidates, Map<Recipe.Step, Prepared> prepared,
            Set<Recipe.Step> lost) {
        List<Target.Group> groups = target.groups();
        Map<Weight, Candidate> all = new IdentityHashMap<>();
        for (Candidate c : groups.isEmpty() ? List.<Candidate>of() : candidates) {
            all.put(c.weight, c);
        }
        for (Target.Group group : groups) {
            Candidate leader = null;
            for (Weight w : group.weights()) {
                Candidate c = all.get(w);
                if (scheme(target, c).isPresent() && (leader == null || kept(c) > kept(leader))) {
                    leader = c;
                }
            }
            Candidate other = leader == null ? null : other(group, all, target, leader, true);
            for (Weight w : leader == null || other != null ? List.<Weight>of() : group.weights()) {
                Candidate c = all.get(w);
                if (!scheme(target, leader).equals(scheme(target, c))) {
                    c.codes(leader.codes(), recipe);
                    c.remark = "as " + leader.weight.name() + ", since " + group.why();
                    c.entry = plan(target, c, prepared, lost);
                }
            }
            other = other == null && leader != null ? other(group, all, target, leader, false) : other;
            for (Weight w : other == null ? List.<Weight>of() : group.weights()) {
                Candidate c = all.get(w);
                if (scheme(target, c).isPresent()) {
                    c.codes(null, recipe);
                    c.reason = "stays as " + other.weight.name() + " does, since " + group.why();
                    c.remark = c.steps.isEmpty() ? "" : c.reason;
                    c.entry = plan(target, c, prepared, lost);
                }
            }
        }
    }

    private static Optional<Object> scheme(Target target, Candidate c) {
        return c.entry.lowering().flatMap(target::scheme);
    }

    /** Bytes for an element. */
    private static double kept(Candidate c) {
        return (double) c.entry.after() / Math.max(1, c.weight.tensor().shape().elements());
    }

    /** A weight of the group that is stored otherwise than the leader, or null; of those that are barred or of all. */
    private static Candidate other(Target.Group group, Map<Weight, Candidate> all, Target target, Candidate leader,
            boolean barred) {
        Optional<Object> scheme = scheme(target, leader);
        for (Weight w : group.weights()) {
            Candidate c = all.get(w);
            if ((c.barred || !barred) && !scheme.equals(scheme(target, c))) {
                return c;
            }
        }
        return null;
    }

    /** @param lost gets the steps that compare weights and would take this one, if what comes after them does not */
    private Plan.Entry plan(Target target, Candidate candidate, Map<Recipe.Step, Prepared> prepared,
            Set<Recipe.Step> lost) {
        Weight weight = candidate.weight;
        List<Recipe.Step> steps = new ArrayList<>(candidate.steps);
        String reason = candidate.reason;
        List<String> dropped = new ArrayList<>();
        if (!candidate.remark.isEmpty()) {
            dropped.add(candidate.remark);
        }
        long before = weight.tensor().bytes();
        while (!steps.isEmpty()) {
            List<Form> forms = new ArrayList<>();
            try {
                List<Plan.Step> taken = new ArrayList<>();
                Form form = new Form.Dense(weight.tensor().dtype());
                for (Recipe.Step step : steps) {
                    if (!candidate.bound.isEmpty() && !Candidate.has(candidate.bound, step) && step.method().requires().contains(Requirement.WEIGHTS)) {
                        throw new UnsupportedRequestException(step.method().name() + " looks at the weight as the model has it, and not as "
                                + candidate.bound.getLast().method().name() + " leaves it: make two recipes of them");
                    }
                    taken.add(new Plan.Step(step.name(), prepared.get(step)));
                    form = taken.getLast().prepared().plan(weight, form);
                    forms.add(form);
                }
                Form wanted = form;
                Lowering lowering = target.lower(weight, wanted);
                for (Plan.Step step : taken) {
                    Optional<double[]> divided = step.prepared().divided(weight);
                    lowering = divided.isPresent() ? target.divided(weight, lowering, divided.get()) : lowering;
                }
                form = lowering.form();
                forms.set(forms.size() - 1, form);
                if (form.base() != null) {
                    // What is corrected is what the target stores.
                    forms.set(forms.size() - 2, form.base());
                }
                target.checkMemory(weight, Plan.byRows(weight, taken, forms), options.memory());
                long after = lowering.size();
                // Zeros, and other elements, in place save nothing by themselves, and yet are what was asked for.
                if (after < before || after == before && (form.dense() || form.sparse() != null)) {
                    // Where the zeros are kept is not what a recipe asks for.
                    String note = form.made().values().describe().equals(wanted.values().describe()) ? ""
                            : "wanted " + wanted.describe() + target.obstacle(weight, wanted).map(why -> ", but " + why).orElse("");
                    if (!note.isEmpty()) {
                        dropped.add(note);
                    }
                    for (int i = 0; i < taken.size(); i++) {
                        String said = taken.get(i).prepared().note(weight, forms.get(i).made());
                        if (!said.isEmpty()) {
                            dropped.add(said);
                        }
                    }
                    return new Plan.Entry(weight, List.copyOf(taken), List.copyOf(forms), Optional.of(lowering),
                            String.join("; ", dropped), Optional.ofNullable(candidate.follows));
                }
                throw new NoGainException("would take " + after + " bytes as " + form.describe());
            } catch (UnsupportedRequestException e) {
                int failed = forms.size();
                int dispensable = dispensable(steps, failed, e);
                for (int i = 0; i < failed; i++) {
                    if (steps.get(i).method().compares() && (dispensable < 0 || dispensable == i)) {
                        candidate.refused = true;
                        lost.add(steps.get(i));
                    }
                }
                if (dispensable < 0 && !candidate.bound.isEmpty()) {
                    if (steps.size() == candidate.bound.size()) {
                        throw new IllegalStateException(weight.name() + " has to be changed with others, and cannot be", e);
                    }
                    steps = new ArrayList<>(candidate.bound);
                    dropped.add("nothing else: " + e.getMessage());
                    continue;
                }
                if (dispensable < 0) {
                    reason = e.getMessage();
                    break;
                }
                dropped.add("no " + steps.remove(dispensable).method().name() + ": " + e.getMessage());
                reason = dropped.size() == 1 ? e.getMessage() : String.join("; ", dropped);
            }
        }
        return Plan.Entry.kept(weight, reason);
    }

    /**
     * The step without which the others go on, or -1: one that would gain nothing; or, if all of them together are refused, or
     * gain nothing, the last one that is dispensable.
     *
     * @param failed number of the step that threw; of them all if none did
     */
    private static int dispensable(List<Recipe.Step> steps, int failed, UnsupportedRequestException e) {
        if (failed < steps.size()) {
            return e instanceof NoGainException ? failed : -1;
        }
        for (int i = steps.size() - 1; i >= 0; i--) {
            if (steps.get(i).method().dispensable()) {
                return i;
            }
        }
        return -1;
    }

    /** Fills {@code steps}; where it stays empty, the result says why. */
    private static String select(Recipe recipe, Weight weight, List<Recipe.Step> steps) {
        if (weight.obstacle().isPresent()) {
            return weight.obstacle().get();
        }
        if (Selector.anyMatches(recipe.excludes(), weight)) {
            return "excluded";
        }
        String reason = "no step selects role " + weight.role().id();
        Set<String> methods = new HashSet<>();
        for (Recipe.Step step : recipe.steps()) {
            if (!step.selector().selects(weight)) {
                continue;
            }
            if (weight.tensor().shape().elements() < step.selector().minSize()) {
                reason = "fewer than " + step.selector().minSize() + " elements";
            } else if (methods.add(step.method().name())) {
                steps.add(step);
            }
        }
        return reason;
    }
}
