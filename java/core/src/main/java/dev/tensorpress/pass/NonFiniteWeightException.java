package dev.tensorpress.pass;

/** A weight holds NaN or infinity, which no integer code can stand for. */
public final class NonFiniteWeightException extends RuntimeException {
    private static final long serialVersionUID = 1;
    private final String weight;
    private final long index;

    /**
     * @param weight its name
     * @param index of the first such element, in row-major order
     */
    public NonFiniteWeightException(String weight, long index, float value) {
        super("weight " + weight + " holds " + value + " at element " + index
                + "; exclude it to keep it as it is (--exclude '" + weight + "')");
        this.weight = weight;
        this.index = index;
    }

    /** Name of the weight. */
    public String weight() {
        return weight;
    }

    /** Row-major index of the first element that is not finite. */
    public long index() {
        return index;
    }
}
