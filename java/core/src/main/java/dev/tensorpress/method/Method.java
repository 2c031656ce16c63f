package dev.tensorpress.method;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.Weight;
import java.util.List;
import java.util.Optional;
import java.util.Set;

/** A method of compression with its options. It knows weights and encodings, never a file format. Immutable. */
public interface Method {
    /** What {@link #prepare} looks at, beside shapes and roles. */
    enum Requirement {
        /** The elements of all weights that the method takes. */
        WEIGHTS,
        /** What these weights are multiplied with, as calibration has seen it. */
        STATISTICS,
        /** What the model computes with weights. A method that requires it is prepared before all others, and precedes them on each weight. */
        GRAPH
    }

    /** As in recipes: {@code quantize}. */
    String name();

    /** Steps of the method's schedule, between which a model may be trained; 1 if it has none. */
    default int steps() {
        return 1;
    }

    /** This method at a step of its schedule, from 1; at its last if it has not so many. */
    default Method atStep(int step) {
        return this;
    }

    /** What makes the same forms, with codes rounded to the nearest: for weights that change, of which statistics that choose codes tell nothing. */
    default Method nearest() {
        return this;
    }

    /** What has to be in the evidence. */
    default Set<Requirement> requires() {
        return Set.of();
    }

    /**
     * True if what becomes of one weight depends on the others. Then it is prepared again without the weights that a later step or
     * the target refuses.
     */
    default boolean compares() {
        return false;
    }

    /** True if a weight may do without it where all its steps together are refused, or gain nothing. */
    default boolean dispensable() {
        return false;
    }

    /** True if it makes a weight's codes, in which weights that a target keeps together have to agree. */
    default boolean makesCodes() {
        return false;
    }

    /** True if it makes up for what steps before it have done to a weight. Biases that do so as well have to be known to it. */
    default boolean amends() {
        return false;
    }

    /** True if models are usually of no use after it until they are trained again. */
    default boolean wantsTraining() {
        return false;
    }

    /**
     * A form such as this method makes of the weight, where it is costly to find the right one: what the target is asked for first.
     * Empty if that is not so.
     */
    default Optional<Form> probe(Weight weight) {
        return Optional.empty();
    }

    /**
     * Decides what can be decided before weights are compressed one by one.
     *
     * @param evidence what {@link #requires} asks for
     * @throws NonFiniteWeightException if a weight holds NaN or infinity, and the method cannot take it
     * @throws dev.tensorpress.kernel.KernelException naming the weight, if a decomposition does not converge
     */
    Prepared prepare(Evidence evidence);

    /** All options, those that {@link #uses} denies now included. */
    List<Option> options();

    /** What an option is set to, as {@link #with} takes it; null if this method is not said by it. */
    String get(String option);

    /** True if this option has an effect on the method as it is set now: blocks have a size, channels have none. */
    boolean uses(String option);

    /**
     * This method with one option changed.
     *
     * @return null if it has no such option
     * @throws IllegalArgumentException if the value does not fit the option
     */
    Method with(String option, String value);
}
