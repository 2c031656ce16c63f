package dev.tensorpress.model;

import dev.tensorpress.encoding.Form;

/**
 * What a form of a weight becomes in a file. {@link Target#lower} decides it, a plan keeps it, and the same target sizes and writes what
 * was decided; to any other target it means nothing.
 */
public interface Lowering {
    /** The form with its storage decided: what is encoded. */
    Form form();

    /** Bytes that the weight's data take. */
    long size();

    /**
     * A lowering as its target knows it.
     *
     * @throws IllegalArgumentException if another kind of target made it
     */
    static <L extends Lowering> L as(Class<L> kind, Weight weight, Lowering lowering) {
        if (!kind.isInstance(lowering)) {
            throw new IllegalArgumentException("what '" + weight.name() + "' becomes was decided by another target");
        }
        return kind.cast(lowering);
    }
}
