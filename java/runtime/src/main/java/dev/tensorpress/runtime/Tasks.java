package dev.tensorpress.runtime;

import java.util.List;

/**
 * What models are for, so that each of the two is measured by what is right, and not only by the other one.
 *
 * @param labels class of each sample, in the order of the samples, counted from 0: where the first output has its largest element along
 *     its last axis. One for each position along the other axes, where an input has several. Empty if there are none
 * @param pairs of texts, whose cosines are ranked as their scores are; empty if there are none
 * @param queries texts for which the nearest of the texts are looked for; empty if there are none
 * @param relevant of each query the indices of the texts that ought to be found, at least one; empty if those count that the
 *     reference finds
 * @param k how many texts are looked for, fewer than there are
 */
public record Tasks(List<Integer> labels, List<Pair> pairs, List<String> queries, List<List<Integer>> relevant, int k) {
    public static final Tasks NONE = new Tasks(List.of(), List.of(), List.of(), List.of(), 10);

    /** @param score how near the two are in meaning, on any scale */
    public record Pair(String left, String right, double score) {}

    /** @throws IllegalArgumentException if a label or index is negative, a score no number, or if there are not as many lists as queries */
    public Tasks {
        labels = List.copyOf(labels);
        pairs = List.copyOf(pairs);
        queries = List.copyOf(queries);
        relevant = relevant.stream().map(List::copyOf).toList();
        if (k < 1 || !relevant.isEmpty() && relevant.size() != queries.size()
                || relevant.stream().anyMatch(one -> one.isEmpty() || one.stream().anyMatch(i -> i < 0))
                || labels.stream().anyMatch(label -> label < 0) || pairs.stream().anyMatch(pair -> !Double.isFinite(pair.score))) {
            throw new IllegalArgumentException("labels and indices must not be negative, scores must be numbers, k must be positive, and each"
                    + " query must have texts that ought to be found, or none");
        }
    }

    public Tasks labels(List<Integer> labels) {
        return new Tasks(labels, pairs, queries, relevant, k);
    }

    public Tasks pairs(List<Pair> pairs) {
        return new Tasks(labels, pairs, queries, relevant, k);
    }

    public Tasks retrieval(List<String> queries, List<List<Integer>> relevant, int k) {
        return new Tasks(labels, pairs, queries, relevant, k);
    }
}
