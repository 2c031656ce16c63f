package dev.tensorpress.model;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** What a weight does in its model; recipes select by it. */
public enum Role {
    /** Matrix of a dense product. */
    LINEAR,
    /**
     * Matrix of the last dense product, which makes scores of a vocabulary or of classes. A graph shows it by what follows, up to
     * its output; without a graph names do.
     */
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

    /** Whether it is the matrix of a dense product, the last one or another. */
    public boolean isProduct() {
        return this == LINEAR || this == HEAD;
    }

    /**
     * The role that recipes call so.
     *
     * @throws UnknownNameException if there is none
     */
    public static Role of(String id) {
        List<String> known = new ArrayList<>();
        for (Role role : values()) {
            if (role.id().equals(id)) {
                return role;
            }
            known.add(role.id());
        }
        throw new UnknownNameException("no role '" + id + "'", id, known);
    }

    /** Lower case, as in recipes. */
    public String id() {
        return name().toLowerCase(Locale.ROOT);
    }
}
