package dev.tensorpress.statistics;

/**
 * How many elements lie where. Bin i holds those x with i - 1024 &lt;= x / width &lt; i - 1023, and the last one x = 1024 width as well.
 *
 * @param width of a bin, the least power of two, but at least {@link #LEAST}, with which all elements have a bin
 * @param counts of {@link #BINS} bins; not to be changed
 */
public record Histogram(float width, long[] counts) {
    public static final int BINS = dev.tensorpress.kernel.Observe.BINS;
    /** Below this elements are as good as zero. */
    public static final float LEAST = 0x1p-126f;

    public Histogram {
        if (counts.length != BINS || !(width >= LEAST) || !(width < Float.POSITIVE_INFINITY) || (Float.floatToIntBits(width) & 0x7fffff) != 0) {
            throw new IllegalArgumentException("a histogram has " + BINS + " bins whose width is a power of two, not " + counts.length
                    + " of " + width);
        }
    }

    /** The width for elements of this magnitude at most. */
    public static float width(float magnitude) {
        float least = magnitude / (BINS / 2);
        float width = Float.intBitsToFloat(Float.floatToIntBits(least) & 0x7f800000);
        return Math.max(LEAST, width < least ? 2 * width : width);
    }

    /** The same with bins that are as wide as that, or as they are if they are wider. */
    public Histogram widened(float wanted) {
        Histogram h = this;
        while (h.width < wanted) {
            long[] merged = new long[BINS];
            for (int i = 0; i < BINS; i++) {
                merged[(i >> 1) + BINS / 4] += h.counts[i];
            }
            h = new Histogram(2 * h.width, merged);
        }
        return h;
    }

    /** Of the elements of both. */
    Histogram plus(Histogram other) {
        Histogram a = widened(other.width);
        Histogram b = other.widened(width);
        long[] sum = new long[BINS];
        for (int i = 0; i < BINS; i++) {
            sum[i] = a.counts[i] + b.counts[i];
        }
        return new Histogram(a.width, sum);
    }
}
