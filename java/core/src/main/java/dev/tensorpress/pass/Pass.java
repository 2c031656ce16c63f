package dev.tensorpress.pass;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Workers;
import dev.tensorpress.model.Weight;
import java.util.List;
import java.util.Optional;

/** A method of compression. It knows weights and encodings, never a file format. Immutable. */
public interface Pass {
    /** The method's name, as in recipes: {@code quantize}. */
    String method();

    /** Steps of the pass's schedule, between which a model may be trained; 1 if it has none. */
    default int steps() {
        return 1;
    }

    /** This pass at a step of its schedule, from 1; at its last if it has not so many. */
    default Pass atStep(int step) {
        return this;
    }

    /** True if {@link #survey} has to be called. */
    default boolean surveys() {
        return false;
    }

    /**
     * True if what {@link #survey} finds for one weight depends on the others. Then it is called again without the weights
     * that a later step or the target refuses.
     */
    default boolean compares() {
        return false;
    }

    /**
     * Looks at the data of all weights that this pass will take, before any of them is planned: for methods that weigh
     * weights against each other, or whose sizes depend on values.
     *
     * @param weights those that this pass was selected for, in file order, at least one
     * @return the pass to plan and apply in its place; this one if it decides weight by weight
     * @throws NonFiniteWeightException if a weight holds NaN or infinity, and the method cannot take it
     * @throws dev.tensorpress.kernel.KernelException naming the weight, if a decomposition does not converge
     */
    default Pass survey(List<Weight> weights, Workspace workspace, Workers workers) {
        return this;
    }

    /**
     * What this pass would make of a weight. Cheap: looks at shapes, and at what {@link #survey} found.
     *
     * @throws dev.tensorpress.model.UnsupportedRequestException with the reason if it cannot take this weight or form
     */
    Form plan(Weight weight, Form current);

    /** What the weight will lose, as far as {@link #survey} found it out; empty if nothing is known before {@link #apply}. */
    default Optional<Loss> loss(Weight weight) {
        return Optional.empty();
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
    Encoding apply(Weight weight, Encoding current, Form form, Workspace workspace, Workers workers);

    /** What the method's options are called, whether they have an effect or not. */
    List<String> options();

    /** True if this option has an effect on the pass as it is set now: blocks have a size, channels have none. */
    boolean uses(String option);

    /**
     * This pass with one option changed.
     *
     * @return null if this method has no such option
     * @throws IllegalArgumentException if the value does not fit the option
     */
    Pass with(String option, String value);
}
