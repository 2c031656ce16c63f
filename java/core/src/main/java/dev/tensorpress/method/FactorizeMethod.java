package dev.tensorpress.method;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.Shape;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * A weight as the product of two factors: its singular value decomposition, cut off. Of a matrix [m, n] the factors of rank
 * r hold r (m + n) elements; where that is not less than m n the weight is left alone.
 *
 * <p>The rank is said in one of four ways, each replacing the others. By energy, by error and by budget it follows from the
 * singular values, which preparing finds and keeps in the {@link Spectra} of its workspace, so that further
 * plans of a {@link dev.tensorpress.Compressor} with other amounts cost nothing. Singular vectors are not kept, which take
 * as much memory as the model: each weight is decomposed when it is written, truncated where that is cheaper, and the
 * factors of one weight at a time are in memory.
 *
 * <p>Each factor gets the square roots of the singular values. So row k of the right factor, and what the left one makes of
 * activations, both fade as the root of the k-th singular value. Whatever shares a scale along the rank, of codes of the
 * factor or of rounded activations, then holds numbers of similar size; with all of a singular value on one side it would be
 * drowned on that side.
 *
 * @param rank of the factors, at least 1; 0 if another amount is given
 * @param energy the part of the squared Frobenius norm to keep, above 0 and below 1: the smallest rank that does; 0 if
 *     another amount is given
 * @param error the Frobenius norm of the difference by that of the weight, above 0 and below 1: the smallest rank that has no
 *     larger one; 0 if another amount is given
 * @param budget bytes that all weights of the method that are matrices may take together, whole or in factors, before a later
 *     quantization; -1 if another amount is given. Of all ways to save bytes (a weight made into factors for the first
 *     time, or one rank less of factors) the one that adds the least squared error per byte is taken, over and over until all fit
 * @param relative of a budget: errors are compared by the norm of their own weight, so that small weights count as much as
 *     large ones; else as they are, so that the sum over all weights is what stays small
 */
public record FactorizeMethod(long rank, double energy, double error, long budget, boolean relative) implements Method {
    private static final Option.Type PART = new Option.Real(0, false, 1, false);
    private static final Option RANK = new Option("rank", new Option.Whole(1), "", "of the factors");
    private static final Option ENERGY =
            new Option("energy", PART, "", "part of the squared Frobenius norm to keep; the smallest rank that does");
    private static final Option ERROR = new Option("error", PART, "",
            "Frobenius norm of the difference by that of the weight; the smallest rank that has no larger one");
    private static final Option BUDGET = new Option("budget", new Option.Whole(0), "",
            "bytes that all weights of the step may take together, whole or in factors");
    private static final Option RELATIVE = new Option("relative", Option.Words.SWITCH, "false",
            "beside a budget, errors are compared by the norm of their own weight");
    private static final List<String> AMOUNTS = List.of("rank", "energy", "error", "budget");
    static final List<Option> OPTIONS = List.of(RANK, ENERGY, ERROR, BUDGET, RELATIVE);

    public FactorizeMethod {
        if (rank != 0) {
            RANK.checked(rank);
        }
        if (energy != 0) {
            ENERGY.checked(energy);
        }
        if (error != 0) {
            ERROR.checked(error);
        }
        if (budget != -1) {
            BUDGET.checked(budget);
        }
        if ((rank > 0 ? 1 : 0) + (energy > 0 ? 1 : 0) + (error > 0 ? 1 : 0) + (budget >= 0 ? 1 : 0) != 1) {
            throw new IllegalArgumentException("factorize needs one of rank, energy, error and budget");
        }
        if (relative && budget < 0) {
            throw new IllegalArgumentException("relative needs a budget: nothing else compares weights");
        }
    }

    /** Factors of this rank. */
    public static FactorizeMethod rank(long rank) {
        return new FactorizeMethod(RANK.checked(rank), 0, 0, -1, false);
    }

    /** The smallest rank that keeps this part of the energy, such as 0.99. */
    public static FactorizeMethod energy(double kept) {
        return new FactorizeMethod(0, ENERGY.checked(kept), 0, -1, false);
    }

    /** The smallest rank with at most this relative error, such as 0.1. */
    public static FactorizeMethod error(double relative) {
        return new FactorizeMethod(0, 0, ERROR.checked(relative), -1, false);
    }

    /** The least error with which all weights of the method fit these bytes, found greedily. */
    public static FactorizeMethod budget(long bytes) {
        return new FactorizeMethod(0, 0, 0, BUDGET.checked(bytes), false);
    }

    /** With errors compared like this. */
    public FactorizeMethod relative(boolean relative) {
        return new FactorizeMethod(rank, energy, error, budget, relative);
    }

    @Override
    public String name() {
        return "factorize";
    }

    @Override
    public List<Option> options() {
        return OPTIONS;
    }

    @Override
    public boolean uses(String option) {
        return switch (option) {
            case "rank", "energy", "error", "budget" -> true;
            case "relative" -> budget >= 0;
            default -> false;
        };
    }

    @Override
    public String get(String option) {
        return switch (option) {
            case "rank" -> rank > 0 ? Long.toString(rank) : null;
            case "energy" -> energy > 0 ? Double.toString(energy) : null;
            case "error" -> error > 0 ? Double.toString(error) : null;
            case "budget" -> budget >= 0 ? Long.toString(budget) : null;
            case "relative" -> budget >= 0 ? Boolean.toString(relative) : null;
            default -> null;
        };
    }

    /** {@inheritDoc} Rank, energy, error and budget replace each other. */
    @Override
    public Method with(String option, String value) {
        return switch (option) {
            case "rank" -> rank(RANK.whole(value));
            case "energy" -> energy(ENERGY.real(value));
            case "error" -> error(ERROR.real(value));
            case "budget" -> budget(BUDGET.whole(value)).relative(relative);
            case "relative" -> relative(RELATIVE.on(value));
            default -> null;
        };
    }

    static Method of(Map<String, String> given) {
        return Methods.of(rank(1), AMOUNTS, given);
    }

    /** The part of the energy that may be lost; infinite if that is not what the rank follows from. */
    double allowed() {
        return energy > 0 ? 1 - energy : error > 0 ? error * error : Double.POSITIVE_INFINITY;
    }

    /** What is asked for, as messages have it. */
    String describe() {
        return energy > 0 ? Numbers.percent(energy) + " of the energy"
                : error > 0 ? "a relative error of " + error
                : budget >= 0 ? "the budget of " + budget + " bytes" : "rank " + rank;
    }

    @Override
    public Set<Requirement> requires() {
        return rank > 0 ? Set.of() : Set.of(Requirement.WEIGHTS);
    }

    @Override
    public boolean compares() {
        return budget >= 0;
    }

    @Override
    public boolean dispensable() {
        return true;
    }

    @Override
    public boolean wantsTraining() {
        return true;
    }

    /** Singular values are costly to know. */
    @Override
    public Optional<Form> probe(Weight weight) {
        Shape shape = weight.tensor().shape();
        if (rank > 0 || shape.rank() < 2 || shape.elements() == 0) {
            return Optional.empty();
        }
        Form dense = new Form.Dense(weight.tensor().dtype());
        return Optional.of(new Form.LowRank(dense, dense, 1, weight.inputAxis() == 1));
    }

    @Override
    public Prepared prepare(Evidence evidence) {
        return rank > 0 ? new OfRank(this) : PreparedFactorize.of(this, evidence);
    }

    /** To a given rank. */
    private record OfRank(FactorizeMethod method) implements Prepared {
        @Override
        public Form plan(Weight weight, Form current) {
            check(weight, current);
            Factors.checkRank(weight, method.rank);
            return form(weight, method.rank, "");
        }

        @Override
        public Encoding apply(Weight weight, Encoding current, Form form, Workspace workspace) {
            return FactorizeMethod.apply(weight, (Form.LowRank) form, null, Double.POSITIVE_INFINITY, workspace);
        }
    }

    static void check(Weight weight, Form current) {
        if (!current.dense()) {
            throw new UnsupportedRequestException(
                    "cannot factorize " + current.describe() + ": factorize comes first, and quantize after it");
        }
        Factors.matrix(weight);
    }

    /**
     * Factors in the weight's own type.
     *
     * @param why ends the message if they would not be smaller
     */
    static Form.LowRank form(Weight weight, long rank, String why) {
        Factors.Matrix m = Factors.matrix(weight);
        Form.Dense dense = new Form.Dense(weight.tensor().dtype());
        Form.LowRank form = new Form.LowRank(dense, dense, rank, m.transposed());
        long bytes = form.bytes(weight.tensor().shape());
        if (m.elements(rank) >= weight.tensor().shape().elements()) {
            throw new NoGainException("factors of rank " + rank + " of " + m.least() + " would take " + bytes
                    + " bytes instead of " + weight.tensor().bytes() + why);
        }
        return form;
    }

    /** @param allowed part of the energy that may be lost, which the rank is known to suffice for */
    static Encoding apply(Weight weight, Form.LowRank form, Spectrum spectrum, double allowed, Workspace workspace) {
        return Factors.of(weight, Factors.f32(weight, workspace), Factors.matrix(weight), form, spectrum, allowed, null,
                workspace);
    }
}
