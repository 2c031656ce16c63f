package dev.tensorpress.kernel;

/** When to stop: the error falls geometrically, about, so that what it will lose yet follows from the last two steps. */
final class Approach {
    final double total;
    final double resolved;
    final double tolerance;
    double known = Double.NaN;
    double change = Double.NaN;
    double ratio = Double.NaN;
    /** What the error may fall yet; NaN if it has not been falling like that. */
    double excess = Double.NaN;

    Approach(double total, double resolved, double tolerance) {
        this.total = total;
        this.resolved = resolved;
        this.tolerance = tolerance;
    }

    /**
     * How many steps it will take until the error exceeds the least one by no more than the tolerance; -1 if that is open.
     *
     * @param found the sum of the squared singular values found, of ||A||_F^2
     */
    int steps(double found) {
        double now = Math.sqrt(Math.max(0, total - found));
        double drop = known - now;
        ratio = drop / change;
        change = drop;
        known = now;
        excess = drop >= 0 && ratio < 1 ? drop * ratio / (1 - ratio) : Double.NaN;
        double least = now - excess;
        if (excess <= tolerance * now || now <= Math.sqrt(total) * resolved) {
            return 0;
        }
        return tolerance > 0 && least > 0 ? (int) Math.ceil(Math.log(tolerance * least / excess) / Math.log(ratio)) : -1;
    }

    /** So many steps later. */
    void later(int steps) {
        excess *= Math.pow(ratio, steps);
    }
}
