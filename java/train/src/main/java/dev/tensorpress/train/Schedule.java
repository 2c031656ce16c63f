package dev.tensorpress.train;

/**
 * The learning rate over the steps: from 0 up to the rate while it warms up, then as {@link Shape} says.
 *
 * @param rate the largest, above 0
 * @param warmup part of all steps, from 0 on and below 1
 */
public record Schedule(Shape shape, double rate, double warmup) {
    /** What comes after warming up. */
    public enum Shape {
        /** Stays. */
        CONSTANT,
        /** Half a period of a cosine, down to 0 (Loshchilov and Hutter 2017). */
        COSINE,
        /** A tenth after half of the steps, a hundredth after three quarters. */
        STEP
    }

    public Schedule {
        if (!(rate > 0 && rate < Double.POSITIVE_INFINITY)) {
            throw new IllegalArgumentException("the learning rate must be above 0, but is " + rate);
        }
        if (!(warmup >= 0 && warmup < 1)) {
            throw new IllegalArgumentException("warmup must be at least 0 and below 1, but is " + warmup);
        }
    }

    /** @param part of training that is done, from 0 on and below 1 */
    double at(double part) {
        if (part < warmup) {
            return rate * part / warmup;
        }
        double rest = (part - warmup) / (1 - warmup);
        return switch (shape) {
            case CONSTANT -> rate;
            case COSINE -> rate * 0.5 * (1 + Math.cos(Math.PI * rest));
            case STEP -> rest < 0.5 ? rate : rest < 0.75 ? rate / 10 : rate / 100;
        };
    }
}
