package dev.tensorpress.method;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.Weight;
import dev.tensorpress.statistics.InputStatistics;
import java.util.List;
import java.util.Optional;
import java.util.function.BiFunction;
import java.util.function.Function;

/**
 * What a method decides by. Singular values that one method finds are kept in the workspace, for others and for later plans.
 *
 * @param weights those that the method was selected for, in file order; none unless they are required
 * @param workspace for a look at them, one after another; null unless they are required
 * @param statistics of what weights are multiplied with; null unless they are required
 * @param surroundings of the weights; null unless the graph is required
 */
public record Evidence(List<Weight> weights, Workspace workspace, InputStatistics statistics, Surroundings surroundings) {
    /**
     * What stands around weights.
     *
     * @param obstacle why a weight must not be changed, be it one of those that the method was selected for or not; empty if it may
     * @param operator why no operator can divide what a weight is multiplied with; empty if one can
     * @param codes the step that will make codes of a weight, of those that follow; empty if there is none
     * @param stored what the target makes of a form; throws {@link dev.tensorpress.model.UnsupportedRequestException} if it has none near it
     */
    public record Surroundings(Graph graph, Function<Weight, Optional<String>> obstacle, Function<Weight, Optional<String>> operator,
            Function<Weight, Optional<Method>> codes, BiFunction<Weight, Form, Form> stored) {}

    /** For methods that do not require the graph. */
    public Evidence(List<Weight> weights, Workspace workspace, InputStatistics statistics) {
        this(weights, workspace, statistics, null);
    }

    /** For methods that require no statistics. */
    public Evidence(List<Weight> weights, Workspace workspace) {
        this(weights, workspace, null, null);
    }

    /** For methods that require nothing. */
    public static final Evidence NOTHING = new Evidence(List.of(), null);
}
