package dev.tensorpress;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.method.Loss;
import dev.tensorpress.method.Prepared;
import dev.tensorpress.model.Lowering;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Phases;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.Weight;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.structure.Cleanup;
import dev.tensorpress.structure.SlimMethod;
import dev.tensorpress.structure.StructuredPruning;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * What a recipe would do to a model, before any work.
 *
 * @param bytesBefore of the model's files
 * @param after of the files that compression would write
 * @param spent to make it: its bytes are those of the weights that methods looked at, each time anew
 * @param statistics that methods go by; empty if none does
 * @param structure what became of the graph, before anything becomes of the weights that are left; in order
 */
public record Plan(Recipe recipe, Target target, List<Entry> entries, long bytesBefore, long after, Phases.Spent spent,
        Optional<Statistics> statistics, List<Restructuring> structure) {
    private static final double HALF = 0.5;

    /**
     * What a change of the graph did.
     *
     * @param step as the recipe calls it
     * @param groups what became of those that it selects; none of a clean-up
     * @param cleaned what a clean-up did
     */
    public record Restructuring(String step, List<StructuredPruning.Pruned> groups, List<Cleanup.Done> cleaned) {
        public Restructuring {
            groups = List.copyOf(groups);
            cleaned = List.copyOf(cleaned);
        }
    }

    /**
     * The same of a model whose graph was changed before.
     *
     * @param by statistics that told how
     * @param nanos that this took
     */
    Plan of(Model original, List<Restructuring> before, Optional<Statistics> by, long nanos) {
        return new Plan(recipe, target, entries, original.bytes(), after, new Phases.Spent(spent.nanos() + nanos, spent.bytes()), statistics.or(() -> by),
                List.copyOf(before));
    }

    /** A step of the recipe, its method prepared for the weights that it takes. */
    public record Step(String name, Prepared prepared) {}

    /**
     * One weight.
     *
     * @param steps those that take it, in order; empty if it stays as it is
     * @param forms one per step: what that step makes
     * @param lowering what the last form becomes in the file; empty if the weight stays as it is
     * @param note why it stays as it is, or which other form was wanted; empty if there is nothing to say
     * @param follows a weight that has to be encoded before this one, of which it is a companion
     */
    public record Entry(Weight weight, List<Step> steps, List<Form> forms, Optional<Lowering> lowering, String note, Optional<Weight> follows) {
        static Entry kept(Weight weight, String reason) {
            return new Entry(weight, List.of(), List.of(), Optional.empty(), reason, Optional.empty());
        }

        /** Of its data in the model. */
        public long bytesBefore() {
            return weight.tensor().bytes();
        }

        /** What its data will take. */
        public long after() {
            return lowering.isPresent() ? lowering.get().size() : bytesBefore();
        }

        /** True if its steps can take it some rows at a time. */
        boolean byRows() {
            return Plan.byRows(weight, steps, forms);
        }

        /** True if at least one step takes it. */
        public boolean compressed() {
            return lowering.isPresent();
        }

        /** What it loses by the steps that find this out before they do their work, the step that takes most; empty if none does. */
        public Optional<Loss> loss() {
            Optional<Loss> largest = Optional.empty();
            for (Step step : steps) {
                Optional<Loss> loss = step.prepared().loss(weight);
                if (largest.isEmpty() || loss.isPresent() && loss.get().whole() > largest.get().whole()) {
                    largest = loss;
                }
            }
            return largest;
        }

        /** {@link #form} in words for tables; of fixed-point numbers with their bits before and behind the point, n being that of a scale. */
        public String describe() {
            Form form = form();
            Form.Quantized q = codes(form);
            return form.describe() + (q != null && powersOfTwo() ? " Q(" + (q.bits() - 1) + "-n).n" : "");
        }

        /** Whether scales are powers of two. */
        boolean powersOfTwo() {
            for (Step step : steps) {
                if (step.prepared().powersOfTwo()) {
                    return true;
                }
            }
            return false;
        }

        private static Form.Quantized codes(Form form) {
            return switch (form.kind()) {
                case DENSE, CODEBOOK, TRANSFORMED, HASHED -> null;
                case QUANTIZED, SPARSE -> form.quantized();
                case LOW_RANK -> codes(form.factors().left());
                case CHAIN -> codes(form.chain().parts().getFirst());
                case SUM -> codes(form.base());
            };
        }

        /** The form in the written file. */
        public Form form() {
            return lowering.isPresent() ? lowering.get().form() : new Form.Dense(weight.tensor().dtype());
        }
    }

    static boolean byRows(Weight weight, List<Step> steps, List<Form> forms) {
        for (int i = 0; i < steps.size(); i++) {
            if (!steps.get(i).prepared().byRows(weight, forms.get(i).made())) {
                return false;
            }
        }
        return true;
    }

    /** The oldest runtime that runs the result, such as {@code ONNX Runtime 1.23}; empty if it asks for none in particular. */
    public String requires() {
        return target.requires(lowerings());
    }

    /** What the weights that change become in the file. */
    public Map<Weight, Lowering> lowerings() {
        return lowerings(entries);
    }

    static Map<Weight, Lowering> lowerings(List<Entry> entries) {
        Map<Weight, Lowering> lowerings = new LinkedHashMap<>();
        for (Entry e : entries) {
            e.lowering.ifPresent(lowering -> lowerings.put(e.weight, lowering));
        }
        return lowerings;
    }

    /** Names and bytes of the files that compression would write; none if what the file is called is not the target's to say. */
    public Map<String, Long> files() {
        return target.files(lowerings());
    }

    /** The part of the weights' bytes that belongs to those that change; 1 if there are no bytes. */
    public double taken() {
        long taken = 0;
        long all = 0;
        for (Entry e : entries) {
            taken += e.compressed() ? e.bytesBefore() : 0;
            all += e.bytesBefore();
        }
        return all == 0 ? 1 : (double) taken / all;
    }

    /**
     * What should be known before the rest: that most of the model stays as it is and why the largest part of that does, what pruning
     * and factors take away, and where the result can be loaded, and runs fast and exactly. A sentence each, without full stops.
     */
    public List<String> remarks() {
        List<String> remarks = new ArrayList<>();
        if (taken() < HALF && !recipe.steps().isEmpty()) {
            Map<String, Long> reasons = new LinkedHashMap<>();
            String largest = "";
            for (Entry e : entries) {
                if (!e.compressed() && reasons.merge(e.note, e.bytesBefore(), Long::sum) >= reasons.getOrDefault(largest, 0L)) {
                    largest = e.note;
                }
            }
            remarks.add((compressed() == 0 ? "no weight" : "less than half of the weights' bytes") + " is compressed; "
                    + reasons.get(largest) + " bytes stay for this reason: " + largest);
        }
        List<String> blind = recipe.structure().stream().filter(change -> change.method() instanceof SlimMethod m && m.score().isEmpty()).map(Recipe.Change::name)
                .toList();
        if (!blind.isEmpty() && statistics.isEmpty()) {
            remarks.add(String.join(", ", blind) + (blind.size() == 1 ? " goes" : " go") + " by magnitudes alone, and nothing makes up for what is gone: with"
                    + " statistics, which calibrate makes, much less is lost");
        }
        String loss = loss();
        if (!loss.isEmpty()) {
            remarks.add(loss);
        }
        int decoded = 0;
        for (Entry e : entries) {
            decoded += e.form().decoded() ? 1 : 0;
        }
        if (decoded > 0) {
            remarks.add((decoded == 1 ? "1 weight is" : decoded + " weights are") + " written decoded, in as many bytes as before, since "
                    + target.name() + " has no form for the codes; archives that are packed by a recipe store what they are decoded from");
        }
        remarks.addAll(target.remarks(lowerings()));
        return remarks;
    }

    /** What pruning and factors take away, which training may have to make up for; empty if nothing is pruned or factored. */
    private String loss() {
        Set<String> methods = new LinkedHashSet<>();
        Entry weight = null;
        Entry output = null;
        for (Entry e : entries) {
            for (Step step : e.steps) {
                if (step.prepared().method().wantsTraining()) {
                    methods.add(step.prepared().method().name());
                }
            }
            Optional<Loss> loss = e.loss();
            if (loss.isPresent()) {
                weight = weight == null || loss.get().whole() > weight.loss().get().whole() ? e : weight;
                boolean more = !Double.isNaN(loss.get().output())
                        && (output == null || loss.get().output() > output.loss().get().output());
                output = more ? e : output;
            }
        }
        if (methods.isEmpty()) {
            return "";
        }
        String known = weight == null ? " takes energy that is not known before"
                : " takes up to " + percent(weight.loss().get().whole()) + " of a weight's energy (" + weight.weight.name() + ")";
        if (output != null) {
            known += ", of a single output's up to " + percent(output.loss().get().output()) + " (" + output.weight.name() + ")";
        }
        return String.join(" and ", methods) + known + ": many models are of no use after that until they are trained again, so compare"
                + " the result's outputs before it is used";
    }

    private static String percent(double share) {
        return String.format(Locale.ROOT, "%.1f %%", 100 * share);
    }

    /** {@link #structure} as a JSON array; {@code docs/report.md} lists the fields. */
    public String structureJson() {
        return Json.structure(this);
    }

    /** Number of weights that change. */
    public int compressed() {
        int n = 0;
        for (Entry e : entries) {
            n += e.compressed() ? 1 : 0;
        }
        return n;
    }
}
