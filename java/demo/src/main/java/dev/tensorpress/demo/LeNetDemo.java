package dev.tensorpress.demo;

import dev.tensorpress.Recipe;
import dev.tensorpress.Selector;
import dev.tensorpress.demo.Findings.Plot;
import dev.tensorpress.demo.Findings.Point;
import dev.tensorpress.demo.Findings.Series;
import dev.tensorpress.demo.Findings.Table;
import dev.tensorpress.method.CodebookMethod;
import dev.tensorpress.method.Method;
import dev.tensorpress.method.PruneMethod;
import dev.tensorpress.runtime.Comparison;
import dev.tensorpress.runtime.Samples;
import dev.tensorpress.train.Augmentation;
import dev.tensorpress.train.Distillation;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.function.Function;

/**
 * Deep Compression (Han, Mao and Dally 2016) of the networks that it was shown on: weights are pruned step by step and trained between, what is left gets codes
 * of few bits into tables of values, the values are trained, and codes are stored in an archive in about as many bits as they tell.
 */
final class LeNetDemo implements Demo {
    /** What stays of LeNet-300-100 is what the paper keeps, of LeNet-5 a little less. */
    static final List<Net> NETS = List.of(
            new Net("LeNet-300-100", "lenet-300-100", List.of(new Weight("fc1", 0.08, 4), new Weight("fc2", 0.09, 4), new Weight("fc3", 0.26, 4)), 20, 2e-3),
            new Net("LeNet-5", "lenet-5", List.of(new Weight("conv1", 0.66, 5), new Weight("conv2", 0.12, 5), new Weight("fc1", 0.07, 4), new Weight("fc2", 0.19, 4)),
                    10, 1e-3));
    /** Of the schedule by which weights are pruned. */
    private static final int STEPS = 4;
    private static final Augmentation AUGMENTATION = new Augmentation(0.08, 0.1, 10, 0);

    /**
     * @param kept part of the weight's elements that stay
     * @param bits of their codes
     */
    record Weight(String layer, double kept, int bits) {
        String name() {
            return layer + ".weight";
        }
    }

    /** @param epochs of the first training; those that follow have a part of that */
    record Net(String title, String file, List<Weight> weights, int epochs, double rate) {
        Layers layers(long seed) {
            Layers layers = new Layers(seed, 1, Digits.SIDE, Digits.SIDE);
            if (weights.size() == 3) {
                return layers.flatten().dense("fc1", 300).relu().dense("fc2", 100).relu().dense("fc3", Digits.CLASSES);
            }
            return layers.conv("conv1", 20, 5, 0).maxPool(2).conv("conv2", 50, 5, 0).maxPool(2).flatten().dense("fc1", 500).relu().dense("fc2", Digits.CLASSES);
        }

        /** Takes away as much as its last step says. */
        Recipe pruning() {
            return new Recipe("prune", "", steps("prune", w -> PruneMethod.sparsity(1 - w.kept).schedule(PruneMethod.cubic(0.5 * (1 - w.kept), 1 - w.kept, STEPS))),
                    List.of(), Map.of());
        }

        /** Deep Compression: what is zero keeps a code of its own. */
        Recipe coding() {
            List<Recipe.Step> all = new ArrayList<>(steps("prune", w -> PruneMethod.sparsity(1 - w.kept)));
            all.addAll(steps("codebook", w -> CodebookMethod.of(w.bits)));
            return new Recipe("deep-compression", "", all, List.of(), Map.of());
        }

        private List<Recipe.Step> steps(String method, Function<Weight, Method> of) {
            return weights.stream().map(w -> new Recipe.Step(method + "-" + w.layer, new Selector(Set.of(), List.of(w.name()), 0), of.apply(w))).toList();
        }
    }

    private final List<Net> nets;
    private final long seed;

    LeNetDemo() {
        this(NETS, 1);
    }

    LeNetDemo(List<Net> nets, long seed) {
        this.nets = nets;
        this.seed = seed;
    }

    @Override
    public String name() {
        return "lenet";
    }

    @Override
    public String summary() {
        return "LeNet-300-100 and LeNet-5 by Deep Compression: pruned, codes into tables that are trained, and archives of these";
    }

    @Override
    public Findings run(Work work) throws IOException {
        Digits training = Digits.training(work.effort());
        Digits test = Digits.test(work.effort());
        List<List<String>> rows = new ArrayList<>();
        List<Series> series = new ArrayList<>();
        for (Net net : nets) {
            series.add(new Series(net.title, compress(work, net, training, test, rows)));
        }
        return new Findings("Trained on " + Training.count(training.size()) + " digits of 28 x 28 pixels, measured on " + Training.count(test.size())
                + " others. Times are bytes of the first file by those of the archive, with all that it holds; the last line is what is expanded of it, in ONNX Runtime.",
                List.of(new Table("Stages", List.of("Network", "Stage", ">Weights kept", ">Bytes of ONNX", ">Bytes of archive", ">Times smaller", ">Accuracy", ">Points lost"),
                        rows)),
                List.of(new Plot("Accuracy against bytes of the archive", "bytes", true, "accuracy, %", series)));
    }

    private List<Point> compress(Work work, Net net, Digits training, Digits test, List<List<String>> rows) throws IOException {
        Samples seen = training.images();
        Path blank = work.file(net.file + "-blank.onnx");
        net.layers(seed).write(blank);
        Path trained = work.file(net.file + ".onnx");
        Training.train(work, "training " + net.title, null, blank, null, false, seen, training.labels(), Training.LABELS, options(work, net.epochs, net.rate), trained);
        Recipe prune = net.pruning();
        Path pruned = trained;
        for (int step = 1; step <= prune.scheduled(); step++) {
            Path next = work.file(net.file + "-pruned" + step + ".onnx");
            int epochs = step == STEPS ? net.epochs * 7 / 10 : net.epochs / 10;
            Training.train(work, "pruning " + net.title + ", step " + step + " of " + STEPS, trained, pruned, prune.atStep(step), false, seen, training.labels(),
                    Training.TEACHER, options(work, epochs, net.rate), next);
            pruned = next;
        }
        Path codes = work.file(net.file + "-codes.onnx");
        Training.compress(work, pruned, net.coding(), codes);
        Path tables = work.file(net.file + "-tables.onnx");
        Training.train(work, "training tables of " + net.title, trained, codes, null, true, seen, training.labels(), Training.TEACHER,
                options(work, net.epochs / 5, net.rate / 4), tables);
        Path archive = work.file(net.file + ".tpa");
        long bytes = Training.pack(work, tables, archive);
        Path expanded = work.file(net.file + "-expanded.onnx");
        Training.expand(work, archive, expanded);
        List<Point> points = new ArrayList<>();
        add(work, net, "trained", trained, trained, Training.pack(work, trained, work.file("packed.tpa")), test, rows, points);
        add(work, net, "pruned and trained", trained, pruned, Training.pack(work, pruned, work.file("packed.tpa")), test, rows, points);
        add(work, net, "codes into tables", trained, codes, Training.pack(work, codes, work.file("packed.tpa")), test, rows, points);
        add(work, net, "tables trained, archived", trained, expanded, bytes, test, rows, points);
        return points;
    }

    private Distillation.Options options(Work work, int epochs, double rate) {
        return Training.options(work, epochs, rate).augmentation(AUGMENTATION).seed(seed);
    }

    private static void add(Work work, Net net, String stage, Path first, Path model, long packed, Digits test, List<List<String>> rows, List<Point> points)
            throws IOException {
        Comparison c = Training.measure(work, first, model, test.images(), test);
        double accuracy = c.tasks().getFirst().candidate();
        List<String> weights = net.weights.stream().map(Weight::name).toList();
        rows.add(List.of(net.title, stage, Training.percent(Training.kept(model, weights)), Training.count(c.candidate().bytes()), Training.count(packed),
                String.format(Locale.ROOT, "%.1f x", (double) c.reference().bytes() / packed), Training.percent(accuracy),
                String.format(Locale.ROOT, "%.2f", 100 * (c.tasks().getFirst().reference() - accuracy))));
        points.add(new Point(packed, 100 * accuracy, stage));
    }
}
