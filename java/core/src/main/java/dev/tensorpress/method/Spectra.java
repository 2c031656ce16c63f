package dev.tensorpress.method;

import dev.tensorpress.model.Weight;
import java.util.HashMap;
import java.util.Map;

/**
 * The spectra of a model's weights, kept by the weight's name, so that plans with other amounts need no new
 * decomposition. A {@link dev.tensorpress.Compressor} has one for as long as it is open: 8 bytes for each singular value.
 */
public final class Spectra {
    private final Map<String, Spectrum> known = new HashMap<>();
    private long computed;

    Spectrum get(Weight weight) {
        return known.get(weight.name());
    }

    void put(Weight weight, Spectrum spectrum) {
        known.put(weight.name(), spectrum);
        computed++;
    }

    /** How many decompositions it took. */
    public long computed() {
        return computed;
    }
}
