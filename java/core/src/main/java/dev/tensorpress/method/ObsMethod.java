package dev.tensorpress.method;

import dev.tensorpress.method.PruneMethod.Scope;
import dev.tensorpress.model.Option;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Pruning that changes least what products make of their inputs: what stays of an output makes up for what goes (the problem of "Optimal
 * Brain Surgeon", Hassibi and Stork 1993). The loss is that of {@link GptqMethod}. It is made small by coordinate descent over
 * what stays; between sweeps it is chosen anew what that is, by what the loss would grow by without each element. The first choice is that
 * of Wanda, {@link PruneMethod.Criterion#ACTIVATION}.
 *
 * <p>Exactly as many elements go as were asked for, also of a weight with more zeros than that. Bits are the same for any number of threads.
 *
 * @param zeros a sparsity or schedule of each output's elements, or N:M
 * @param damping of the mean of H's diagonal, added to all of it; less than a millionth counts as that
 * @param descent sweeps; what stays is chosen before each of the first two thirds
 * @param bias whether a product's bias takes on what that does to the mean of its results, so that H is that of the inputs less their
 *     mean; where a product has none of its own, H stays what it is
 */
public record ObsMethod(PruneMethod zeros, double damping, int descent, boolean bias) implements Method {
    private static final Option PATTERN = new Option("pattern", new Option.Text("element or N:M", false, "", List.of()), "element",
            "what goes: elements, each output's compared with each other; N:M: of each M elements along the input axis all but N, 1 <= N <= M <= 16");
    private static final Option DESCENT = new Option("descent", new Option.Whole(1, 1000, 1), "15",
            "sweeps of coordinate descent; what stays is chosen anew before each of the first two thirds");
    private static final Option BIAS = new Option("bias", Option.Words.SWITCH, "true",
            "true: the bias of a product makes up for what pruning does to the mean of the results; false: it stays");
    static final List<Option> OPTIONS = List.of(PATTERN, PruneMethod.SPARSITY, PruneMethod.SCHEDULE, PruneMethod.STEP,
            GptqMethod.DAMPING, DESCENT, BIAS);

    public ObsMethod {
        if (!zeros.pattern().groups()) {
            if (!zeros.pattern().single()) {
                throw PATTERN.wrong("'" + zeros.pattern() + "'");
            }
            zeros = zeros.scope(Scope.CHANNEL);
        }
        zeros = zeros.criterion(PruneMethod.Criterion.ACTIVATION);
        GptqMethod.DAMPING.checked(damping);
        DESCENT.checked(descent);
    }

    /** With all else as it is by default. */
    public static ObsMethod of(PruneMethod zeros) {
        return new ObsMethod(zeros, 0.01, 15, true);
    }

    /** How often what stays is chosen. */
    int choices() {
        return (2 * descent + 2) / 3;
    }

    @Override
    public String name() {
        return "obs";
    }

    @Override
    public int steps() {
        return zeros.steps();
    }

    @Override
    public ObsMethod atStep(int step) {
        return new ObsMethod(zeros.atStep(step), damping, descent, bias);
    }

    @Override
    public Set<Requirement> requires() {
        return Set.of(Requirement.STATISTICS);
    }

    @Override
    public List<Option> options() {
        return OPTIONS;
    }

    @Override
    public boolean uses(String option) {
        return switch (option) {
            case "damping", "descent", "bias" -> true;
            case "pattern", "sparsity", "schedule", "step" -> zeros.uses(option);
            default -> false;
        };
    }

    @Override
    public String get(String option) {
        return switch (option) {
            case "damping" -> Double.toString(damping);
            case "descent" -> Integer.toString(descent);
            case "bias" -> Boolean.toString(bias);
            case "pattern", "sparsity", "schedule", "step" -> zeros.get(option);
            default -> null;
        };
    }

    /** {@inheritDoc} Sparsity, schedule and a pattern N:M replace each other. */
    @Override
    public Method with(String option, String value) {
        return switch (option) {
            case "damping" -> new ObsMethod(zeros, GptqMethod.DAMPING.real(value), descent, bias);
            case "descent" -> new ObsMethod(zeros, damping, (int) DESCENT.whole(value), bias);
            case "bias" -> new ObsMethod(zeros, damping, descent, BIAS.on(value));
            case "pattern", "sparsity", "schedule", "step" -> new ObsMethod((PruneMethod) zeros.with(option, value), damping, descent, bias);
            default -> null;
        };
    }

    static Method of(Map<String, String> given) {
        return PruneMethod.of(of(PruneMethod.sparsity(0)), List.of("sparsity", "schedule", "pattern"), given);
    }

    @Override
    public Prepared prepare(Evidence evidence) {
        return new PreparedObs(this, evidence.statistics());
    }
}
