package dev.tensorpress.model;

import java.util.Locale;

/** What a weight does in its model; recipes select by it. */
public enum Role {
    /** Matrix of a dense product. */
    LINEAR,
    /** Matrix that makes scores of a vocabulary; only where names tell it from {@link #LINEAR}. */
    HEAD,
    /** Table whose rows are looked up. */
    EMBEDDING,
    /** Convolution kernel. */
    CONV,
    /** Gate matrices of a recurrent layer. */
    RECURRENT,
    /** Scale or shift of a normalisation. */
    NORM,
    /** Vector added to activations. */
    BIAS,
    /** Anything else. */
    OTHER;

    /** Lower case, as in recipes. */
    public String id() {
        return name().toLowerCase(Locale.ROOT);
    }
}
