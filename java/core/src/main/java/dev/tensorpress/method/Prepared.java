package dev.tensorpress.method;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Weight;
import dev.tensorpress.statistics.InputStatistics;
import java.util.Map;
import java.util.Optional;

/** A method that has seen its evidence: it says what it will make of each weight, and makes it. */
public interface Prepared {
    /** The method that was prepared. */
    Method method();

    /**
     * What becomes of a weight. Cheap: looks at shapes, and at what was prepared.
     *
     * @throws dev.tensorpress.model.UnsupportedRequestException with the reason if it cannot take this weight or form
     */
    Form plan(Weight weight, Form current);

    /**
     * Another weight that has to be given to {@link #apply} as well where this one is, after {@link #plan} has been asked of both: a bias
     * that makes up for part of the error. Empty if there is none.
     */
    default Optional<Weight> companion(Weight weight) {
        return Optional.empty();
    }

    /**
     * Weights that it changes without loss, of those that it was selected for and of others, with what is to be said of each. It takes all of them,
     * whatever else is refused, and what comes after sees them as they are then.
     */
    default Map<Weight, String> changes() {
        return Map.of();
    }

    /**
     * What an operator in the model has to divide by what the weight is multiplied with, as {@link dev.tensorpress.model.Target#divided}; empty if
     * there need be none.
     */
    default Optional<double[]> divided(Weight weight) {
        return Optional.empty();
    }

    /** What these become by {@link #changes}; such as they are if it does none. */
    default InputStatistics inputs(InputStatistics before) {
        return before;
    }

    /** What the weight will lose, as far as the evidence shows it; empty if nothing is known before {@link #apply}. */
    default Optional<Loss> loss(Weight weight) {
        return Optional.empty();
    }

    /** For the report of a weight that gets zeros; empty if the method makes none. */
    default Optional<Zeros> zeros(Weight weight) {
        return Optional.empty();
    }

    /**
     * @param asked elements that were to become zero
     * @param twoOfFourDown whether the pattern leaves at most two of each four elements down the columns of the weight's matrix
     */
    record Zeros(long asked, boolean twoOfFourDown) {}

    /** Whether the scales of the codes that it makes are powers of two, so that values are fixed-point numbers. */
    default boolean powersOfTwo() {
        return false;
    }

    /** What a plan has to say of a weight that gets this form, beside the form; empty if nothing. */
    default String note(Weight weight, Form form) {
        return "";
    }

    /**
     * True if {@link #apply} can take a weight as some of its rows at a time, those of its first axis, and what it makes of
     * them is what it would make of them within the whole weight.
     *
     * @param form what {@link #plan} returned, its storage decided by the target
     */
    default boolean byRows(Weight weight, Form form) {
        return false;
    }

    /**
     * Compresses one weight, or rows of one.
     *
     * @param weight with the elements to take: those of the weight that was planned, or of rows of it if {@link #byRows}
     * @param form what {@link #plan} returned, its storage decided by the target
     * @return an encoding of that form, valid until {@code workspace} is used for the next weight
     * @throws NonFiniteWeightException if the weight holds NaN or infinity
     * @throws dev.tensorpress.kernel.KernelException naming the weight, if a decomposition does not converge, or a scale does
     *     not fit the type that the form stores it in
     */
    Encoding apply(Weight weight, Encoding current, Form form, Workspace workspace);
}
