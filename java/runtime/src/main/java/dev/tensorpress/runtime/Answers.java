package dev.tensorpress.runtime;

import ai.onnxruntime.OnnxTensor;
import dev.tensorpress.model.UnsupportedRequestException;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import java.util.Map;

/** What both models answer to tasks. */
final class Answers {
    private final Tasks tasks;
    private final List<Integer> reference = new ArrayList<>();
    private final List<Integer> candidate = new ArrayList<>();
    /** That classes are taken from. */
    private String output;

    Answers(Tasks tasks) {
        this.tasks = tasks;
    }

    void reference(Map<String, OnnxTensor> outputs) {
        output = output == null ? outputs.keySet().iterator().next() : output;
        classify(outputs, reference);
    }

    void candidate(Map<String, OnnxTensor> outputs) {
        classify(outputs, candidate);
    }

    private void classify(Map<String, OnnxTensor> outputs, List<Integer> answers) {
        OnnxTensor first = outputs.get(output);
        if (tasks.labels().isEmpty()) {
            return;
        }
        if (first == null) {
            throw new UnsupportedRequestException("the candidate has no output " + output);
        }
        long[] shape = first.getInfo().getShape();
        int classes = shape.length == 0 ? 1 : (int) shape[shape.length - 1];
        int most = tasks.labels().stream().mapToInt(label -> label).max().getAsInt();
        if (classes < 2 || most >= classes) {
            throw new InputException("there is a label " + most + ", but the output " + output + " has a last axis of " + classes
                    + ": classes are counted from 0");
        }
        float[] values = Embeddings.floats(first);
        for (int from = 0; from < values.length; from += classes) {
            answers.add(Fidelity.argmax(values, from, classes));
        }
    }

    /** @throws InputException if there are fewer or more labels than answers */
    List<Comparison.Task> classes() {
        List<Integer> labels = tasks.labels();
        if (labels.isEmpty()) {
            return List.of();
        }
        if (reference.size() != labels.size() || candidate.size() != labels.size()) {
            throw new InputException("there are " + labels.size() + " labels for " + reference.size() + " answers of the reference and "
                    + candidate.size() + " of the candidate: each needs one");
        }
        return List.of(
                new Comparison.Task("accuracy", labels.size(), Scores.accuracy(labels, reference), Scores.accuracy(labels, candidate)),
                new Comparison.Task("macroF1", labels.size(), Scores.macroF1(labels, reference), Scores.macroF1(labels, candidate)));
    }

    /**
     * @param wanted embeddings of the reference: of {@code texts} texts, of the two of each pair, of the queries
     * @param got likewise of the candidate
     */
    List<Comparison.Task> embeddings(int texts, List<float[]> wanted, List<float[]> got) {
        List<Comparison.Task> all = new ArrayList<>(classes());
        int pairs = tasks.pairs().size();
        if (pairs > 0) {
            double[] scores = tasks.pairs().stream().mapToDouble(Tasks.Pair::score).toArray();
            all.add(new Comparison.Task("spearman", pairs, Scores.spearman(cosines(wanted, texts, pairs), scores),
                    Scores.spearman(cosines(got, texts, pairs), scores)));
        }
        int queries = tasks.queries().size();
        if (queries > 0) {
            int from = texts + 2 * pairs;
            List<BitSet> before = nearest(wanted, texts, from);
            List<BitSet> after = nearest(got, texts, from);
            List<BitSet> right = new ArrayList<>();
            for (List<Integer> indices : tasks.relevant()) {
                BitSet set = new BitSet();
                indices.forEach(set::set);
                right.add(set);
            }
            boolean given = !right.isEmpty();
            all.add(new Comparison.Task("recall@" + tasks.k() + (given ? "" : " of the reference's"), queries,
                    Scores.recall(given ? right : before, before), Scores.recall(given ? right : before, after)));
        }
        return List.copyOf(all);
    }

    private static double[] cosines(List<float[]> vectors, int from, int pairs) {
        double[] cosines = new double[pairs];
        for (int i = 0; i < pairs; i++) {
            cosines[i] = Embeddings.cosine(vectors.get(from + 2 * i), vectors.get(from + 2 * i + 1));
        }
        return cosines;
    }

    private List<BitSet> nearest(List<float[]> vectors, int texts, int queries) {
        float[][] corpus = Embeddings.normalised(vectors.subList(0, texts));
        List<BitSet> found = new ArrayList<>();
        for (float[] query : Embeddings.normalised(vectors.subList(queries, vectors.size()))) {
            found.add(Embeddings.nearest(corpus, query, -1, tasks.k()));
        }
        return found;
    }
}
