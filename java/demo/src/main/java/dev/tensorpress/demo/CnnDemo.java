package dev.tensorpress.demo;

import dev.tensorpress.Recipe;
import dev.tensorpress.Selector;
import dev.tensorpress.demo.Findings.Plot;
import dev.tensorpress.demo.Findings.Point;
import dev.tensorpress.demo.Findings.Series;
import dev.tensorpress.demo.Findings.Table;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.method.CodebookMethod;
import dev.tensorpress.method.DecomposeMethod;
import dev.tensorpress.method.FactorizeMethod;
import dev.tensorpress.method.Method;
import dev.tensorpress.method.PruneMethod;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.runtime.Comparison;
import dev.tensorpress.runtime.Samples;
import dev.tensorpress.structure.Group;
import dev.tensorpress.structure.SlimMethod;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/**
 * Convolutions, pooling and fully connected layers of a small network are compressed one by one, and then together, each trained again for a while; and images
 * are compressed before a network sees them.
 */
final class CnnDemo implements Demo {
    private static final int EPOCHS = 12;
    private static final double RATE = 2e-3;
    private static final int TUNING = 3;
    private static final int FILTERS1 = 8;
    private static final int FILTERS2 = 16;
    private static final int UNITS = 64;
    private static final List<String> CONVOLUTIONS = List.of("conv1.weight", "conv2.weight");
    private static final List<String> CONNECTED = List.of("fc1.weight", "fc2.weight");
    private static final int[] FREQUENCIES = {4, 6, 8, 12};
    /** Of their codes, which have to be bytes. */
    static final double COARSE = 64;
    /** Of codes of images, which have to be bytes as well. */
    static final double[] STEPS = {32, 48, 64, 96, 128, 192, 256, 384};

    /** Between convolutions. */
    private enum Pooling {
        /** The largest of 2 x 2. */
        MAXIMUM,
        /** Convolutions are computed at each second place, and nothing is pooled (Springenberg et al. 2015). */
        STRIDES,
        /** The second time the largest of 4 x 4: the first connected layer has a fifth of the inputs. */
        LARGER
    }

    @Override
    public String name() {
        return "cnn";
    }

    @Override
    public String summary() {
        return "convolutions, pooling and fully connected layers compressed one by one and together; and images, by cosines and wavelets";
    }

    /** The rows of models, and what they are measured with. */
    private static final class Rows {
        final Work work;
        final Path first;
        final Digits training;
        final Digits test;
        final List<List<String>> rows = new ArrayList<>();
        final List<Point> points = new ArrayList<>();

        Rows(Work work, Path first, Digits training, Digits test) {
            this.work = work;
            this.first = first;
            this.training = training;
            this.test = test;
        }

        /** Trains what was compressed, to compute what the first network does. */
        Path tune(String what, Path from, Recipe recipe, boolean zeros, String to) throws IOException {
            return tune(what, from, recipe, zeros, TUNING, RATE / 2, to);
        }

        Path tune(String what, Path from, Recipe recipe, boolean zeros, int epochs, double rate, String to) throws IOException {
            Path out = work.file(to);
            Training.train(work, "training after " + what, first, from, recipe, zeros, training.images(), training.labels(), Training.TEACHER,
                    Training.options(work, epochs, rate), out);
            return out;
        }

        void add(String part, String what, Path model) throws IOException {
            Comparison c = Training.measure(work, first, model, test.images(), test);
            long packed = Training.pack(work, model, work.file("packed.tpa"));
            double accuracy = c.tasks().getFirst().candidate();
            rows.add(List.of(part, what, Training.count(c.candidate().bytes()), Training.count(packed), Training.percent(accuracy),
                    String.format(Locale.ROOT, "%.4f ms", c.candidate().medianMillis()), String.format(Locale.ROOT, "%.2f", c.speedup())));
            points.add(new Point(packed, 100 * accuracy, part.isEmpty() ? what : part + ": " + what));
        }
    }

    @Override
    public Findings run(Work work) throws IOException {
        Digits training = Digits.training(work.effort());
        Digits test = Digits.test(work.effort());
        Path blank = work.file("cnn-blank.onnx");
        layers(Pooling.MAXIMUM).write(blank);
        Path first = work.file("cnn.onnx");
        Training.train(work, "training", null, blank, null, false, training.images(), training.labels(), Training.LABELS,
                Training.options(work, EPOCHS, RATE), first);
        Rows rows = new Rows(work, first, training, test);
        rows.add("", "as trained", first);

        String part = "convolutions";
        rows.add(part, "half of the channels", slim(rows, first, Group.Kind.CHANNELS, "channels.onnx"));
        Path factors = work.file("tucker.onnx");
        Training.compress(work, first, recipe("tucker", new Selector(Set.of(), List.of("conv2.weight"), 0), DecomposeMethod.of("rank", FILTERS2 / 2.0)
                .inputRank(FILTERS1 / 2)), factors);
        rows.add(part, "factors of the second (Tucker)", rows.tune("decomposing", factors, null, false, "tucker-tuned.onnx"));
        rows.add(part, "half pruned, codes of 4 bits", share(rows, first, CONVOLUTIONS, 0.5, 4, "conv"));

        part = "pooling";
        Path strides = pooled(rows, Pooling.STRIDES, "strides.onnx");
        rows.add(part, "strides in its place", strides);
        rows.add(part, "the second of 4 x 4", pooled(rows, Pooling.LARGER, "larger.onnx"));

        part = "connected";
        rows.add(part, "half of the neurons", slim(rows, first, Group.Kind.NEURONS, "neurons.onnx"));
        Path ranks = work.file("rank.onnx");
        Training.compress(work, first, recipe("rank", new Selector(Set.of(), List.of("fc1.weight"), 0), FactorizeMethod.rank(UNITS / 8)), ranks);
        rows.add(part, "factors of rank " + UNITS / 8, rows.tune("factorizing", ranks, null, false, "rank-tuned.onnx"));
        rows.add(part, "nine tenths pruned, codes of 4 bits", share(rows, first, CONNECTED, 0.9, 4, "connected"));

        Path all = slim(rows, strides, Group.Kind.NEURONS, "all-neurons.onnx");
        List<String> weights = new ArrayList<>(CONVOLUTIONS);
        weights.addAll(CONNECTED);
        rows.add("together", "strides, half of the neurons", all);
        rows.add("together", "and three quarters pruned, codes of 4 bits", share(rows, all, weights, 0.75, 4, "all"));

        List<List<String>> images = new ArrayList<>();
        List<Series> series = images(work, first, test, images);
        List<List<String>> frequencies = new ArrayList<>();
        series.add(frequencies(work, training, test, frequencies));
        return new Findings("Trained on " + Training.count(training.size()) + " digits of 28 x 28 pixels, measured on " + Training.count(test.size())
                + " others; latency is the median of single digits on one thread. Each model was trained again after it was compressed. Images are of those others, coded together; the network has seen none but uncompressed ones. Perceptrons are trained on the lowest"
                + " frequencies of whole images, in the place of pixels.",
                List.of(new Table("Models", List.of("Part", "What", ">Bytes of ONNX", ">Bytes of archive", ">Accuracy", ">Latency", ">Times as fast"), rows.rows),
                        new Table("Images", List.of("Coefficients", ">Step", ">Bytes per image", ">PSNR", ">Accuracy"), images),
                        new Table("Lowest frequencies", List.of(">Frequencies", ">Bytes per image", ">Bytes of ONNX", ">Accuracy", ">Latency"), frequencies)),
                List.of(new Plot("Accuracy against bytes of the archive", "bytes", true, "accuracy, %",
                        rows.points.stream().map(p -> new Series(p.label(), List.of(p))).toList()),
                        new Plot("Accuracy against bytes of an image", "bytes", true, "accuracy, %", series)));
    }

    private static Layers layers(Pooling pooling) {
        int stride = pooling == Pooling.STRIDES ? 2 : 1;
        Layers layers = new Layers(1, 1, Digits.SIDE, Digits.SIDE).conv("conv1", FILTERS1, 5, 2, stride).relu();
        if (stride == 1) {
            layers.maxPool(2);
        }
        layers.conv("conv2", FILTERS2, 5, 2, stride).relu();
        if (stride == 1) {
            layers.maxPool(pooling == Pooling.LARGER ? 4 : 2);
        }
        return layers.flatten().dense("fc1", UNITS).relu().dense("fc2", Digits.CLASSES);
    }

    private static Recipe recipe(String name, Selector selector, Method method) {
        return new Recipe(name, "", List.of(new Recipe.Step(name, selector, method)), List.of(), Map.of());
    }

    /** Half of the channels or neurons. */
    private static Path slim(Rows rows, Path from, Group.Kind kind, String to) throws IOException {
        Path small = rows.work.file("slim.onnx");
        Training.compress(rows.work, from, new Recipe("slim", "", List.of(new Recipe.Change("slim", Set.of(kind), List.of(), SlimMethod.DEFAULT.with("amount", "0.5"))),
                List.of(), List.of(), Map.of()), small);
        return rows.tune("taking out " + kind.id(), small, null, false, to);
    }

    /** With the weights that it had, and trained: the first connected layer anew, if it has other inputs. */
    private static Path pooled(Rows rows, Pooling pooling, String to) throws IOException {
        Path blank = rows.work.file("pooled.onnx");
        try (OnnxModel model = OnnxModel.open(rows.first, false); Arena arena = Arena.ofShared()) {
            layers(pooling).adopt(EditableModel.of(model, arena)).write(blank);
        }
        return rows.tune("pooling otherwise", blank, null, false, 2 * TUNING, RATE, to);
    }

    /** Deep Compression of some weights: pruned, trained, codes into tables, these trained. */
    private static Path share(Rows rows, Path from, List<String> weights, double sparsity, int bits, String name) throws IOException {
        Selector selector = new Selector(Set.of(), weights, 0);
        Recipe.Step prune = new Recipe.Step("prune", selector, PruneMethod.sparsity(sparsity));
        Path pruned = rows.tune("pruning", from, new Recipe("prune", "", List.of(prune), List.of(), Map.of()), false, 2 * TUNING, RATE,
                name + "-pruned.onnx");
        Path codes = rows.work.file(name + "-codes.onnx");
        Training.compress(rows.work, pruned, new Recipe("codebook", "", List.of(prune, new Recipe.Step("codebook", selector, CodebookMethod.of(bits))), List.of(),
                Map.of()), codes);
        return rows.tune("making codes", codes, null, true, name + "-tables.onnx");
    }

    /** Accuracy of perceptrons that are trained on the lowest frequencies of images, as they are coded. */
    private static Series frequencies(Work work, Digits training, Digits test, List<List<String>> rows) throws IOException {
        List<Point> points = new ArrayList<>();
        for (int most : FREQUENCIES) {
            int inputs = most * (most + 1) / 2;
            Path blank = work.file("frequencies-blank.onnx");
            new Layers(1, inputs).dense("fc1", UNITS).relu().dense("fc2", Digits.CLASSES).write(blank);
            Path model = work.file("frequencies" + inputs + ".onnx");
            Samples seen;
            Picture.Coded coded;
            try (Executor executor = Executor.cpu(work.threads())) {
                seen = Digits.samples(Layers.INPUT, Picture.lowest(training.pixels(), Digits.SIDE, most, COARSE, executor).pixels(), training.size(), inputs);
                coded = Picture.lowest(test.pixels(), Digits.SIDE, most, COARSE, executor);
            }
            Training.train(work, "training on " + inputs + " frequencies", null, blank, null, false, seen, training.labels(), Training.LABELS,
                    Training.options(work, EPOCHS, RATE), model);
            Comparison c = Training.measure(work, model, model, Digits.samples(Layers.INPUT, coded.pixels(), test.size(), inputs), test);
            double accuracy = c.tasks().getFirst().candidate();
            double bytes = (double) coded.bytes() / test.size();
            rows.add(List.of(Integer.toString(inputs), String.format(Locale.ROOT, "%.1f", bytes), Training.count(c.candidate().bytes()), Training.percent(accuracy),
                    String.format(Locale.ROOT, "%.4f ms", c.candidate().medianMillis())));
            points.add(new Point(bytes, 100 * accuracy, inputs + " frequencies"));
        }
        return new Series("perceptron on the lowest frequencies", points);
    }

    /** Accuracy of a network on images that were compressed, in each way, at several steps. */
    private static List<Series> images(Work work, Path model, Digits test, List<List<String>> rows) throws IOException {
        List<Series> series = new ArrayList<>();
        int done = 0;
        try (Executor executor = Executor.cpu(work.threads())) {
            for (Picture.Kind kind : Picture.Kind.values()) {
                List<Point> points = new ArrayList<>();
                for (double step : STEPS) {
                    if (kind == Picture.Kind.PIXELS && step >= 256) {
                        continue; // nothing but paper is left
                    }
                    work.progress().at("images", done++, (long) STEPS.length * Picture.Kind.values().length, kind.title + ", step " + Math.round(step));
                    Picture.Coded coded = Picture.code(kind, test.pixels(), Digits.SIDE, step, executor);
                    Samples samples = Digits.samples(Layers.INPUT, coded.pixels(), test.size(), 1, Digits.SIDE, Digits.SIDE);
                    double accuracy = Training.accuracy(model, samples, test);
                    double bytes = (double) coded.bytes() / test.size();
                    rows.add(List.of(kind.title, Long.toString(Math.round(step)), String.format(Locale.ROOT, "%.1f", bytes),
                            String.format(Locale.ROOT, "%.1f dB", coded.psnr()), Training.percent(accuracy)));
                    points.add(new Point(bytes, 100 * accuracy, "step " + Math.round(step)));
                }
                series.add(new Series(kind.title, points));
            }
        }
        return series;
    }
}
