package dev.tensorpress.statistics;

import dev.tensorpress.model.Graph;

/** A value that a model computed holds NaN or infinity, of which there are no statistics. */
public final class NonFiniteValueException extends RuntimeException {
    private static final long serialVersionUID = 1;
    private final String value;
    private final int sample;

    NonFiniteValueException(Graph.Value value, int sample, float element, long row, long channel) {
        super("value " + value.name() + " holds " + element + " in row " + row + ", channel " + channel + " of what the model makes of sample "
                + sample + " (the first one of each is 0); leave that sample out");
        this.value = value.name();
        this.sample = sample;
    }

    /** Its name. */
    public String value() {
        return value;
    }

    /** From 0 on. */
    public int sample() {
        return sample;
    }
}
