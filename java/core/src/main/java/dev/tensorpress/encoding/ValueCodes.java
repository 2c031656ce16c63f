package dev.tensorpress.encoding;

/**
 * Codes of a value that a model computes: 0 to 255, of which c stands for scale (c - zero point). Elements are rounded to nearest, ties to
 * even, and those beyond the codes become the first or the last one.
 *
 * @param scale positive and finite
 * @param zeroPoint the code of 0, itself one of 0 to 255
 */
public record ValueCodes(float scale, int zeroPoint) {
    private static final int LAST = 255;

    public ValueCodes {
        if (!(scale > 0) || !(scale < Float.POSITIVE_INFINITY) || zeroPoint < 0 || zeroPoint > LAST) {
            throw new IllegalArgumentException("codes of scale " + scale + " with 0 at " + zeroPoint);
        }
    }

    /** Of the elements from {@code least} to {@code most}, and of 0. */
    public static ValueCodes of(double least, double most) {
        double from = Math.min(0, least);
        double to = Math.max(0, most);
        float scale = (float) Math.max((to - from) / LAST, Float.MIN_NORMAL);
        return new ValueCodes(from == to ? 1 : scale, from == to ? 0 : (int) Math.max(0, Math.min(LAST, Math.rint(-from / scale))));
    }

    /** What an element becomes. */
    public double decoded(double x) {
        return scale * (Math.max(0, Math.min(LAST, Math.rint(x / scale) + zeroPoint)) - zeroPoint);
    }

    /** Mean of the squares of what elements that have codes lose, where they are many and lie anywhere between codes. */
    public double noise() {
        return (double) scale * scale / 12;
    }

    /** The element of the first code. */
    public double least() {
        return -(double) scale * zeroPoint;
    }

    /** The element of the last code. */
    public double most() {
        return (double) scale * (LAST - zeroPoint);
    }
}
