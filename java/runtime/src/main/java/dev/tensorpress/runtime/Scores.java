package dev.tensorpress.runtime;

import java.util.Arrays;
import java.util.BitSet;
import java.util.List;
import java.util.TreeSet;

/** How well a task is done, from answers and what is right. */
final class Scores {
    private Scores() {}

    static double accuracy(List<Integer> labels, List<Integer> answers) {
        int right = 0;
        for (int i = 0; i < labels.size(); i++) {
            right += labels.get(i).equals(answers.get(i)) ? 1 : 0;
        }
        return (double) right / labels.size();
    }

    /** Mean over the classes among labels and answers of 2 TP / (2 TP + FP + FN); an answer below 0 is none. */
    static double macroF1(List<Integer> labels, List<Integer> answers) {
        TreeSet<Integer> classes = new TreeSet<>(labels);
        answers.stream().filter(answer -> answer >= 0).forEach(classes::add);
        double sum = 0;
        for (int c : classes) {
            int both = 0;
            int either = 0;
            for (int i = 0; i < labels.size(); i++) {
                int of = (labels.get(i) == c ? 1 : 0) + (answers.get(i) == c ? 1 : 0);
                both += of == 2 ? 2 : 0;
                either += of;
            }
            sum += (double) both / either;
        }
        return sum / classes.size();
    }

    /** Correlation of the ranks; equals have the mean of theirs. NaN if all of one side are equal, or one is NaN. */
    static double spearman(double[] a, double[] b) {
        double[] x = ranks(a);
        double[] y = ranks(b);
        double mean = (a.length + 1) / 2.0;
        double xy = 0;
        double xx = 0;
        double yy = 0;
        for (int i = 0; i < a.length; i++) {
            xy += (x[i] - mean) * (y[i] - mean);
            xx += (x[i] - mean) * (x[i] - mean);
            yy += (y[i] - mean) * (y[i] - mean);
        }
        return xy / Math.sqrt(xx * yy);
    }

    private static double[] ranks(double[] values) {
        Integer[] order = new Integer[values.length];
        Arrays.setAll(order, i -> i);
        Arrays.sort(order, (i, j) -> Double.compare(values[i], values[j]));
        double[] ranks = new double[values.length];
        for (int from = 0, to; from < order.length; from = to) {
            to = from + 1;
            while (to < order.length && values[order[to]] == values[order[from]]) {
                to++;
            }
            for (int i = from; i < to; i++) {
                ranks[order[i]] = Double.isNaN(values[order[i]]) ? Double.NaN : (from + 1 + to) / 2.0;
            }
        }
        return ranks;
    }

    /** Mean over the queries of the part of what is wanted that was found. */
    static double recall(List<BitSet> wanted, List<BitSet> found) {
        double sum = 0;
        for (int i = 0; i < wanted.size(); i++) {
            BitSet both = (BitSet) wanted.get(i).clone();
            both.and(found.get(i));
            sum += (double) both.cardinality() / wanted.get(i).cardinality();
        }
        return sum / wanted.size();
    }
}
