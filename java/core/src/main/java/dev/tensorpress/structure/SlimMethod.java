package dev.tensorpress.structure;

import dev.tensorpress.model.Option;
import dev.tensorpress.structure.StructuredPruning.Amount;
import dev.tensorpress.structure.StructuredPruning.Budget;
import dev.tensorpress.structure.StructuredPruning.Latency;
import dev.tensorpress.structure.StructuredPruning.Measure;
import dev.tensorpress.structure.StructuredPruning.Score;
import dev.tensorpress.structure.StructuredPruning.Target;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.Set;

/**
 * Structured pruning in a recipe: {@link StructuredPruning.Options}, of which some depend on whether there are statistics.
 *
 * @param score empty for reconstruction if there are statistics, and magnitude if there are none
 * @param update whether, with statistics, what is left makes up for what goes
 */
public record SlimMethod(Target target, int multiple, Optional<Score> score, boolean update, double damping) implements StructureMethod {
    private static final String AUTO = "auto";
    private static final Option.Type LEFT = new Option.Real(0, false, 1, true);

    private static final Option AMOUNT = new Option("amount", new Option.Real(0, false, 1, false), "0.25", "part of the indices of each group that goes");
    private static final Option BYTES = new Option("bytes", LEFT, "",
            "part of the model's bytes that stays, instead of an amount: what is missed least for its bytes goes, whatever group it is of");
    private static final Option MULTIPLY_ADDS = new Option("multiply-adds", LEFT, "", "the same of its multiply-adds");
    private static final Option MULTIPLE = new Option("multiple", new Option.Whole(1, 1 << 20, 1), "8", "of how many indices stay; a head counts for its features");
    private static final Option SCORE = new Option("score", new Option.Words(scores()), AUTO,
            "what tells which indices are needed least; auto: reconstruction if there are statistics, else magnitude");
    private static final Option UPDATE = new Option("update", Option.Words.SWITCH, "true",
            "whether, with statistics, what is left makes up for what goes, by least squares");
    private static final Option DAMPING = new Option("damping", new Option.Real(0, false, 1, true), "0.001", "of the mean of the Gram matrix's diagonal");
    private static final List<Option> OPTIONS = List.of(AMOUNT, BYTES, MULTIPLY_ADDS, MULTIPLE, SCORE, UPDATE, DAMPING);

    /** A quarter of each group's indices. */
    public static final SlimMethod DEFAULT = new SlimMethod(new Amount(Double.parseDouble(AMOUNT.fallback())), Integer.parseInt(MULTIPLE.fallback()),
            Optional.empty(), true, Double.parseDouble(DAMPING.fallback()));

    public SlimMethod {
        amount(target).checked(part(target));
        MULTIPLE.checked(multiple);
        DAMPING.checked(damping);
    }

    private static List<String> scores() {
        List<String> words = new ArrayList<>(List.of(AUTO));
        Arrays.stream(Score.values()).map(StructureMethod::id).forEach(words::add);
        return List.copyOf(words);
    }

    private static Option amount(Target target) {
        return switch (target) {
            case Amount a -> AMOUNT;
            case Budget b -> b.measure() == Measure.BYTES ? BYTES : MULTIPLY_ADDS;
            case Latency _ -> throw new IllegalArgumentException("times are measured on one machine, and are nothing that a recipe could ask for");
        };
    }

    private static double part(Target target) {
        return switch (target) {
            case Amount a -> a.part();
            case Budget b -> b.part();
            case Latency l -> l.part();
        };
    }

    /** Whether it cannot do without statistics. */
    public boolean asksForInputs() {
        return score.isPresent() && score.get() != Score.MAGNITUDE;
    }

    /**
     * What it asks of {@link StructuredPruning}.
     *
     * @param kinds of groups
     * @param names globs of their names; empty for all
     * @param inputs whether there are statistics
     */
    public StructuredPruning.Options options(Set<Group.Kind> kinds, List<String> names, boolean inputs) {
        return new StructuredPruning.Options(kinds, names, target, multiple, score.orElse(inputs ? Score.RECONSTRUCTION : Score.MAGNITUDE),
                update && inputs, damping);
    }

    @Override
    public String name() {
        return "slim";
    }

    @Override
    public List<Option> options() {
        return OPTIONS;
    }

    @Override
    public boolean uses(String option) {
        return switch (option) {
            case "amount", "bytes", "multiply-adds" -> amount(target).name().equals(option);
            default -> Option.of(OPTIONS, option) != null;
        };
    }

    @Override
    public String get(String option) {
        return switch (option) {
            case "amount", "bytes", "multiply-adds" -> uses(option) ? Double.toString(part(target)) : null;
            case "multiple" -> Integer.toString(multiple);
            case "score" -> score.map(StructureMethod::id).orElse(AUTO);
            case "update" -> Boolean.toString(update);
            case "damping" -> Double.toString(damping);
            default -> null;
        };
    }

    @Override
    public StructureMethod with(String option, String value) {
        return switch (option) {
            case "amount" -> new SlimMethod(new Amount(AMOUNT.real(value)), multiple, score, update, damping);
            case "bytes" -> new SlimMethod(new Budget(Measure.BYTES, BYTES.real(value)), multiple, score, update, damping);
            case "multiply-adds" -> new SlimMethod(new Budget(Measure.MULTIPLY_ADDS, MULTIPLY_ADDS.real(value)), multiple, score, update, damping);
            case "multiple" -> new SlimMethod(target, (int) MULTIPLE.whole(value), score, update, damping);
            case "score" -> {
                int word = SCORE.word(value);
                yield new SlimMethod(target, multiple, word == 0 ? Optional.empty() : Optional.of(Score.values()[word - 1]), update, damping);
            }
            case "update" -> new SlimMethod(target, multiple, score, UPDATE.on(value), damping);
            case "damping" -> new SlimMethod(target, multiple, score, update, DAMPING.real(value));
            default -> null;
        };
    }
}
