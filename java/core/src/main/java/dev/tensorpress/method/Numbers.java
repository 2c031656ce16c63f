package dev.tensorpress.method;

/** Numbers in options and messages. */
final class Numbers {
    private Numbers() {}

    static double real(String option, String value) {
        try {
            return Double.parseDouble(value);
        } catch (NumberFormatException e) {
            throw new IllegalArgumentException(option + " must be a number, but is '" + value + "'", e);
        }
    }

    static long whole(String option, String value) {
        try {
            long n = Long.parseLong(value);
            if (n >= 0) {
                return n;
            }
        } catch (NumberFormatException e) {
            // said below
        }
        throw new IllegalArgumentException(option + " must be a whole number of at least 0, but is '" + value + "'");
    }

    /** A part with up to two decimals: {@code 99.9 %}. */
    static String percent(double part) {
        double rounded = Math.round(part * 1e4) / 1e2;
        return (rounded == Math.rint(rounded) ? Long.toString((long) rounded) : Double.toString(rounded)) + " %";
    }
}
