package dev.tensorpress.demo;

import dev.tensorpress.Compressor;
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

/** A perceptron with one hidden layer of 128 neurons becomes one of 64: by distillation, by structured pruning, and from scratch. */
final class MlpDemo implements Demo {
    private static final int EPOCHS = 20;
    private static final double RATE = 2e-3;

    @Override
    public String name() {
        return "mlp";
    }

    @Override
    public String summary() {
        return "784-128-10 to 784-64-10 by distillation, by structured pruning, and from scratch: accuracy, size and latency";
    }

    @Override
    public Findings run(Work work) throws IOException {
        Digits training = Digits.training(work.effort());
        Digits test = Digits.test(work.effort());
        Samples seen = flat(training);
        Path teacher = work.file("mlp-128.onnx");
        Path blank = work.file("mlp-64-blank.onnx");
        model(1, 128).write(teacher);
        model(2, 64).write(blank);
        Training.train(work, "training 784-128-10", null, teacher, null, false, seen, training.labels(), Training.LABELS, Training.options(work, EPOCHS, RATE), work.file("trained.onnx"));
        teacher = work.file("trained.onnx");
        Path scratch = work.file("mlp-64-scratch.onnx");
        Training.train(work, "training 784-64-10", null, blank, null, false, seen, training.labels(), Training.LABELS, Training.options(work, EPOCHS, RATE), scratch);
        Path distilled = work.file("mlp-64-distilled.onnx");
        Training.train(work, "distilling 784-64-10", teacher, blank, null, false, seen, training.labels(), Training.TEACHER, Training.options(work, EPOCHS, RATE), distilled);
        Path pruned = work.file("mlp-64-pruned.onnx");
        try (Compressor compressor = Compressor.open(teacher, Compressor.Options.DEFAULT.threads(work.threads()).overwrite(true))) {
            compressor.compress(compressor.plan(Recipe.named("prune-neurons").set("amount", "0.5")), pruned);
        }
        Path tuned = work.file("mlp-64-pruned-distilled.onnx");
        Training.train(work, "distilling what is left of 784-128-10", teacher, pruned, null, false, seen, training.labels(), Training.TEACHER,
                Training.options(work, EPOCHS, RATE), tuned);
        Path coded = work.file("mlp-64-int8.onnx");
        try (Compressor compressor = Compressor.open(tuned, Compressor.Options.DEFAULT.threads(work.threads()).overwrite(true))) {
            compressor.compress(compressor.plan(Recipe.named("int8")), coded);
        }
        List<List<String>> rows = new ArrayList<>();
        List<Point> points = new ArrayList<>();
        add(work, "784-128-10, the teacher", teacher, teacher, test, rows, points);
        add(work, "784-64-10 from scratch", teacher, scratch, test, rows, points);
        add(work, "784-64-10 distilled", teacher, distilled, test, rows, points);
        add(work, "half of the neurons pruned", teacher, pruned, test, rows, points);
        add(work, "half pruned, then distilled", teacher, tuned, test, rows, points);
        add(work, "that one in int8", teacher, coded, test, rows, points);
        return new Findings("Trained on " + Training.count(training.size()) + " digits of 28 x 28 pixels, measured on " + Training.count(test.size())
                + " others; latency is the median of single digits on one thread.",
                List.of(new Table("Models", List.of("Model", ">Bytes", ">Of the teacher", ">Accuracy", ">Latency", ">Times as fast"), rows)),
                List.of(new Plot("Accuracy against bytes", "bytes", false, "accuracy, %", points.stream().map(p -> new Series(p.label(), List.of(p))).toList())));
    }

    private static Layers model(long seed, int hidden) {
        return new Layers(seed, Digits.PIXELS).dense("hidden", hidden).relu().dense("classes", Digits.CLASSES);
    }

    private static Samples flat(Digits digits) {
        return Digits.samples(Layers.INPUT, digits.pixels(), digits.size(), Digits.PIXELS);
    }

    private static void add(Work work, String what, Path teacher, Path model, Digits test, List<List<String>> rows, List<Point> points) throws IOException {
        Comparison c = Training.measure(work, teacher, model, flat(test), test);
        double accuracy = c.tasks().getFirst().candidate();
        rows.add(List.of(what, Training.count(c.candidate().bytes()), Training.percent(c.ratio()), Training.percent(accuracy),
                String.format(Locale.ROOT, "%.4f ms", c.candidate().medianMillis()), String.format(Locale.ROOT, "%.2f", c.speedup())));
        points.add(new Point(c.candidate().bytes(), 100 * accuracy, what));
    }
}
