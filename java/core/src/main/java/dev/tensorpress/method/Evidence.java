package dev.tensorpress.method;

import dev.tensorpress.model.Weight;
import dev.tensorpress.statistics.InputStatistics;
import java.util.List;

/**
 * What a method decides by. Singular values that one method finds are kept in the workspace, for others and for later plans.
 *
 * @param weights those that the method was selected for, in file order; none unless they are required
 * @param workspace for a look at them, one after another; null unless they are required
 * @param statistics of what weights are multiplied with; null unless they are required
 */
public record Evidence(List<Weight> weights, Workspace workspace, InputStatistics statistics) {
    /** For methods that require no statistics. */
    public Evidence(List<Weight> weights, Workspace workspace) {
        this(weights, workspace, null);
    }

    /** For methods that require nothing. */
    public static final Evidence NOTHING = new Evidence(List.of(), null);
}
