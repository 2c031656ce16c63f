package dev.tensorpress.statistics;

import dev.tensorpress.model.Graph;
import dev.tensorpress.model.Graph.Window;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.Set;

/**
 * What is to be gathered of a value, beside the count, least and largest element, sum and sum of squares of each channel.
 *
 * @param axis whose indices are the channels, from the first one, or from the end if negative; all elements are one channel if empty
 * @param window if channels are elements of a convolution's patches, in the order of {@link Window}, group after group; a row is one
 *     patch, with the zeros around the input; the axis is 1 then
 * @param gram whether the Gram matrix of the channels is wanted: X<sup>T</sup> X, a row of X being one index of all other axes
 * @param histogram whether one of all elements is wanted
 */
public record Request(Graph.Value value, OptionalInt axis, Optional<Window> window, boolean gram, boolean histogram) {
    public Request {
        if (gram && axis.isEmpty() || window.isPresent() && !axis.equals(OptionalInt.of(1))) {
            throw new IllegalArgumentException("a Gram matrix is one of channels, and those of a window are of axis 1");
        }
    }

    /** What products with weights sum over: with histogram, and of convolutions their patches beside it. */
    public static List<Request> of(Graph.Feed feed, boolean gram) {
        Set<Window> windows = new LinkedHashSet<>();
        feed.products().forEach(p -> p.window().ifPresent(windows::add));
        OptionalInt axis = OptionalInt.of(feed.axis());
        boolean direct = feed.products().stream().anyMatch(p -> p.window().isEmpty());
        List<Request> all = new ArrayList<>();
        all.add(new Request(feed.value(), axis, Optional.empty(), gram && direct, true));
        if (gram) {
            windows.forEach(w -> all.add(new Request(feed.value(), axis, Optional.of(w), true, false)));
        }
        return all;
    }

    /**
     * {@link #of} all feeds, and what convolutions make of them, with histogram, channel by channel; but for those in subgraphs, whose
     * values no runner shows.
     */
    public static List<Request> feeds(Graph graph, boolean gram) {
        List<Request> all = new ArrayList<>();
        for (Graph.Feed feed : graph.feeds()) {
            if (feed.value().path().isEmpty()) {
                all.addAll(of(feed, gram));
            }
        }
        Set<Graph.Value> seen = new HashSet<>();
        all.forEach(r -> seen.add(r.value));
        for (Graph.Feed feed : graph.feeds()) {
            for (Graph.Product product : feed.products()) {
                product.result().ifPresent(result -> {
                    addResult(result.value(), seen, all);
                    result.activation().ifPresent(a -> addResult(a.value(), seen, all));
                });
            }
        }
        return all;
    }

    private static void addResult(Graph.Value value, Set<Graph.Value> seen, List<Request> to) {
        if (value.path().isEmpty() && seen.add(value)) {
            to.add(new Request(value, OptionalInt.of(1), Optional.empty(), false, true));
        }
    }

    /** Without channels: every result of an operator outside of subgraphs that is of none of these requests. */
    public static List<Request> others(Graph graph, List<Request> requests) {
        Set<Graph.Value> seen = new HashSet<>();
        requests.forEach(r -> seen.add(r.value));
        List<Request> all = new ArrayList<>();
        for (Graph.Operator operator : graph.operators()) {
            for (Graph.Value value : operator.results()) {
                if (value.path().isEmpty() && seen.add(value)) {
                    all.add(new Request(value, OptionalInt.empty(), Optional.empty(), false, true));
                }
            }
        }
        return all;
    }
}
