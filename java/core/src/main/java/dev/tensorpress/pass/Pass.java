package dev.tensorpress.pass;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Workers;
import dev.tensorpress.model.Weight;

/** A method of compression. It knows weights and encodings, never a file format. Immutable. */
public interface Pass {
    /** The method's name, as in recipes: {@code quantize}. */
    String method();

    /**
     * What this pass would make of a weight. Cheap: looks at shapes only.
     *
     * @throws dev.tensorpress.model.UnsupportedRequestException with the reason if it cannot take this weight or form
     */
    Form plan(Weight weight, Form current);

    /**
     * Compresses one weight.
     *
     * @param form what {@link #plan} returned, its storage decided by the target
     * @return an encoding of that form, valid until {@code workspace} is used for the next weight
     * @throws NonFiniteWeightException if the weight holds NaN or infinity
     */
    Encoding apply(Weight weight, Encoding current, Form form, Workspace workspace, Workers workers);

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
