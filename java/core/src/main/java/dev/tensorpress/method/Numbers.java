package dev.tensorpress.method;

/** Numbers in messages. */
final class Numbers {
    private Numbers() {}

    /** A part with up to two decimals: {@code 99.9 %}. */
    static String percent(double part) {
        double rounded = Math.round(part * 1e4) / 1e2;
        return (rounded == Math.rint(rounded) ? Long.toString((long) rounded) : Double.toString(rounded)) + " %";
    }
}
