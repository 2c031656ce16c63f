package dev.tensorpress.demo;

import dev.tensorpress.Recipe;
import dev.tensorpress.demo.Findings.Plot;
import dev.tensorpress.demo.Findings.Point;
import dev.tensorpress.demo.Findings.Series;
import dev.tensorpress.demo.Findings.Table;
import dev.tensorpress.runtime.Comparison;
import dev.tensorpress.runtime.Samples;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * A perceptron with one hidden layer of 128 neurons becomes narrower: from scratch by labels, from scratch by what the wide one answers (distillation), and by
 * taking neurons out of the wide one (structured pruning), which is distilled then.
 */
final class MlpDemo implements Demo {
    private static final int WIDE = 128;
    private static final int[] NARROW = {64, 32, 16, 8};
    private static final int EPOCHS = 15;
    private static final double RATE = 2e-3;

    @Override
    public String name() {
        return "mlp";
    }

    @Override
    public String summary() {
        return "784-128-10 to 784-64-10 and narrower by distillation, by structured pruning, and from scratch: accuracy, size and latency";
    }

    @Override
    public Findings run(Work work) throws IOException {
        Digits training = Digits.training(work.effort());
        Digits test = Digits.test(work.effort());
        Samples seen = flat(training);
        Path blank = work.file("blank.onnx");
        Path teacher = work.file("mlp-128.onnx");
        model(1, WIDE).write(blank);
        train(work, "784-128-10", null, blank, seen, training, teacher);
        List<List<String>> rows = new ArrayList<>();
        List<Point> scratch = new ArrayList<>();
        List<Point> distilled = new ArrayList<>();
        List<Point> pruned = new ArrayList<>();
        add(work, "784-128-10, the teacher", teacher, teacher, test, rows);
        for (int width : NARROW) {
            String shape = "784-" + width + "-10";
            model(2, width).write(blank);
            Path own = work.file("mlp-" + width + "-scratch.onnx");
            train(work, shape, null, blank, seen, training, own);
            scratch.add(add(work, shape + " from scratch", teacher, own, test, rows));
            Path taught = work.file("mlp-" + width + "-distilled.onnx");
            train(work, shape, teacher, blank, seen, training, taught);
            distilled.add(add(work, shape + " distilled", teacher, taught, test, rows));
            Path cut = work.file("mlp-" + width + "-pruned.onnx");
            Training.compress(work, teacher, Recipe.named("prune-neurons").set("amount", Double.toString(1 - width / (double) WIDE)), cut);
            add(work, shape + " pruned", teacher, cut, test, rows);
            Path tuned = work.file("mlp-" + width + "-pruned-distilled.onnx");
            train(work, shape, teacher, cut, seen, training, tuned);
            pruned.add(add(work, shape + " pruned, then distilled", teacher, tuned, test, rows));
        }
        Path coded = work.file("mlp-64-int8.onnx");
        Training.compress(work, work.file("mlp-64-pruned-distilled.onnx"), Recipe.named("int8"), coded);
        add(work, "784-64-10 pruned, distilled, and in int8", teacher, coded, test, rows);
        return new Findings("Trained on " + Training.count(training.size()) + " digits of 28 x 28 pixels, measured on " + Training.count(test.size())
                + " others; latency is the median of single digits on one thread.",
                List.of(new Table("Models", List.of("Model", ">Bytes", ">Of the teacher", ">Accuracy", ">Latency", ">Times as fast"), rows)),
                List.of(new Plot("Accuracy against bytes", "bytes", true, "accuracy, %", List.of(new Series("from scratch", scratch),
                        new Series("distilled", distilled), new Series("pruned, then distilled", pruned)))));
    }

    private static void train(Work work, String shape, Path teacher, Path from, Samples seen, Digits training, Path out) throws IOException {
        Training.train(work, (teacher == null ? "training " : "distilling ") + shape, teacher, from, null, false, seen, training.labels(),
                teacher == null ? Training.LABELS : Training.TEACHER, Training.options(work, EPOCHS, RATE), out);
    }

    private static Layers model(long seed, int hidden) {
        return new Layers(seed, Digits.PIXELS).dense("hidden", hidden).relu().dense("classes", Digits.CLASSES);
    }

    private static Samples flat(Digits digits) {
        return Digits.samples(Layers.INPUT, digits.pixels(), digits.size(), Digits.PIXELS);
    }

    private static Point add(Work work, String what, Path teacher, Path model, Digits test, List<List<String>> rows) throws IOException {
        Comparison c = Training.measure(work, teacher, model, flat(test), test);
        double accuracy = c.tasks().getFirst().candidate();
        rows.add(List.of(what, Training.count(c.candidate().bytes()), Training.percent(c.ratio()), Training.percent(accuracy),
                String.format(Locale.ROOT, "%.4f ms", c.candidate().medianMillis()), String.format(Locale.ROOT, "%.2f", c.speedup())));
        return new Point(c.candidate().bytes(), 100 * accuracy, "");
    }
}
