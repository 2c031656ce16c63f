package dev.tensorpress.structure;

import java.util.List;
import java.util.Map;
import java.util.function.ToLongFunction;

/** Which groups give how many indices, so that a model costs no more than it may, and loses little. */
final class Allocation {
    /**
     * A group.
     *
     * @param levels how many indices may stay, from all on
     * @param loss of each
     */
    record Share(IndexSet set, int[] levels, double[] loss) {}

    private final List<Share> shares;
    private final Costs costs;
    private final Map<IndexSet, Long> counts;
    private final double[][] slopes;
    private final int[] at;

    private Allocation(List<Share> shares, Costs costs, Map<IndexSet, Long> counts) {
        this.shares = shares;
        this.costs = costs;
        this.counts = counts;
        slopes = shares.stream().map(Allocation::slopes).toArray(double[][]::new);
        at = new int[shares.size()];
        shares.forEach(s -> counts.put(s.set, (long) s.levels[0]));
    }

    /**
     * Goes from level to level where the next one loses least for what it saves, along the lower convex hull of each group's losses.
     *
     * @param most what may be left of the costs
     * @param counts of groups that are decided already; receives those of the shares
     * @return what is left, which is more than may be if even the last levels cost more
     */
    static double of(List<Share> shares, Costs costs, double most, Map<IndexSet, Long> counts) {
        Allocation a = new Allocation(shares, costs, counts);
        double total = costs.total(a.own());
        while (total > most) {
            int best = -1;
            double least = Double.POSITIVE_INFINITY;
            double gain = 0;
            for (int i = 0; i < a.at.length; i++) {
                double saved = a.saved(i, 1);
                if (saved > 0 && a.slopes[i][a.at[i]] / saved < least) {
                    least = a.slopes[i][a.at[i]] / saved;
                    best = i;
                    gain = saved;
                }
            }
            if (best < 0) {
                return total;
            }
            a.move(best, 1);
            total -= gain;
        }
        // The last one may have been a large one: what fits in the rest comes back.
        for (int i = 0; i < a.at.length; i++) {
            while (a.at[i] > 0 && total - a.saved(i, -1) <= most) {
                total -= a.saved(i, -1);
                a.move(i, -1);
            }
        }
        return total;
    }

    private ToLongFunction<IndexSet> own() {
        return set -> {
            Long count = counts.get(set);
            return count == null ? set.size().factor() : count;
        };
    }

    private void move(int i, int by) {
        at[i] += by;
        counts.put(shares.get(i).set, (long) shares.get(i).levels[at[i]]);
    }

    /** By so many levels; 0 if there are none. */
    private double saved(int i, int by) {
        if (at[i] + by >= shares.get(i).levels.length) {
            return 0;
        }
        IndexSet set = shares.get(i).set;
        double before = costs.touching(set, own());
        move(i, by);
        double after = costs.touching(set, own());
        move(i, -by);
        return before - after;
    }

    /** From each level to the next, what the hull loses. */
    private static double[] slopes(Share s) {
        int n = s.levels.length;
        double[] slopes = new double[n];
        for (int from = 0; from < n - 1;) {
            int to = from;
            double least = Double.POSITIVE_INFINITY;
            for (int j = from + 1; j < n; j++) {
                double slope = (s.loss[j] - s.loss[from]) / (s.levels[from] - s.levels[j]);
                if (slope <= least) {
                    least = slope;
                    to = j;
                }
            }
            for (int j = from; j < to; j++) {
                slopes[j] = least * (s.levels[j] - s.levels[j + 1]);
            }
            from = to;
        }
        return slopes;
    }
}
