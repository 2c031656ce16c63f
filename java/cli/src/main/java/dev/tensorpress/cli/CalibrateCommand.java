package dev.tensorpress.cli;

import dev.tensorpress.Compressor;
import dev.tensorpress.Recipe;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.runtime.OnnxRunner;
import dev.tensorpress.runtime.Samples;
import dev.tensorpress.runtime.Sequential;
import dev.tensorpress.statistics.Gatherer;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.Request;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.statistics.ValueStatistics;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** {@code tensorpress calibrate}: runs a model and keeps what its values are like. */
final class CalibrateCommand implements Command {
    @Override
    public Syntax syntax() {
        return KeyOptions.declareSigner(SampleOptions.add(new Syntax("calibrate", "Runs a model in ONNX Runtime, and keeps statistics of what its products read.", "[MODEL]")
                .option("o", "output", "FILE", "where statistics go, as safetensors"))
                .option("samples", "N", "runs on the first N of these")
                .flag("no-gram", "leaves Gram matrices out, which take 8 bytes for each pair of channels")
                .flag("all", "of all other results of operators too, as one channel each, without Gram matrix")
                .option("sequential", "RECIPE", "layer by layer: statistics of each input are taken after all that comes before it was compressed by"
                        + " this recipe, a preset or a .yaml file; one run for each input of products")
                .option("merge", "FILE", "instead of running a model, adds up what was kept of it (repeated)")
                .option("threads", "N", "at most; all processors if left out")
                .flag("force", "replaces the output if it exists")
                .flag("allow-links", RecipeOptions.LINKS));
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        Path out = arguments.path("output");
        List<Path> parts = arguments.paths("merge");
        boolean force = arguments.flag("force");
        if (out == null) {
            throw arguments.wrong("missing -o FILE");
        }
        if (parts.isEmpty() == (arguments.given() == 0)) {
            throw arguments.wrong("give either MODEL, or --merge FILE for each file to be added up");
        }
        if (!parts.isEmpty()) {
            OutputFile.checkModel(arguments, "-o", out, force, parts);
            try (Statistics all = Statistics.load(parts.getFirst())) {
                for (Path part : parts.subList(1, parts.size())) {
                    try (Statistics other = Statistics.load(part)) {
                        all.add(other);
                    }
                }
                all.save(out, force);
                print(all, out, console.out());
            }
            return;
        }
        SampleOptions given = SampleOptions.of(arguments, null);
        int most = arguments.number("samples", 1, Integer.MAX_VALUE);
        Compressor.Options options = Compressor.Options.DEFAULT.allowLinks(arguments.flag("allow-links"));
        try (Compressor compressor = Compressor.open(arguments.model(0), options)) {
            Model model = compressor.model();
            List<Path> read = new ArrayList<>(model.files());
            read.addAll(given.files());
            OutputFile.checkModel(arguments, "-o", out, force, read);
            Graph graph = graph(model);
            List<Request> requests = new ArrayList<>(Request.feeds(graph, !arguments.flag("no-gram")));
            if (arguments.flag("all")) {
                requests.addAll(Request.others(graph, requests));
            }
            if (requests.isEmpty()) {
                throw new UnsupportedRequestException(model.path() + " has no product with a weight whose input could be looked at");
            }
            Samples samples = SampleOptions.run(() -> given.samples(model, arguments).first(most));
            String sequential = arguments.value("sequential");
            if (sequential != null && arguments.flag("all")) {
                throw arguments.wrong("--all does not go with --sequential");
            }
            try (Statistics statistics = sequential == null ? gather(model, requests, samples, arguments.threads(), console)
                    : sequential(compressor, recipe(sequential), !arguments.flag("no-gram"), samples, out, arguments.threads(), console)) {
                statistics.save(out, force);
                print(statistics, out, console.out());
                printUnknown(InputStatistics.unknown(statistics, model, graph), console.out());
            }
        }
    }

    /** @param unknown weights, and why nothing is known of their inputs */
    private static void printUnknown(Map<Weight, String> unknown, PrintStream out) {
        Map<String, List<String>> names = new LinkedHashMap<>();
        unknown.forEach((weight, why) -> names.computeIfAbsent(why, w -> new ArrayList<>()).add(weight.name()));
        names.forEach((why, of) -> out.println("note: nothing is known of the inputs of " + Text.plural(of.size(), "weight") + ": " + why + " ("
                + Text.names(of) + ")"));
        out.flush();
    }

    private static Recipe recipe(String name) throws IOException {
        try {
            return Recipe.of(name);
        } catch (IllegalArgumentException e) {
            throw new UsageException(e.getMessage(), e);
        }
    }

    /** Models on the way are beside the output, in a folder of their own. */
    private static Statistics sequential(Compressor compressor, Recipe recipe, boolean gram, Samples samples, Path out, int threads, Console console)
            throws IOException {
        Path parent = out.toAbsolutePath().getParent();
        Path folder = Files.createTempDirectory(parent, "." + out.getFileName() + ".tensorpress-");
        try {
            Statistics statistics = SampleOptions.run(() -> Sequential.gather(compressor, recipe, gram, samples, folder, threads,
                    (done, total) -> console.progress("running " + compressor.model().path().getFileName(), done, total, "")));
            console.clearProgress();
            return statistics;
        } finally {
            Files.delete(folder);
        }
    }

    /** @throws UnsupportedRequestException if the model has none */
    static Graph graph(Model model) throws IOException {
        return model.graph().orElseThrow(() -> new UnsupportedRequestException(model.path()
                + " has no graph that could be run; only models in ONNX can be calibrated"));
    }

    /** Runs the model on all samples. */
    static Statistics gather(Model model, List<Request> requests, Samples samples, int threads, Console console) throws IOException {
        try (Executor executor = Executor.cpu(threads)) {
            Statistics statistics = SampleOptions.run(() -> Gatherer.gather(model.path(), Statistics.hash(model), requests,
                    OnnxRunner.of(samples, threads), executor,
                    (done, total) -> console.progress("running " + model.path().getFileName(), done, total, "")));
            console.clearProgress();
            return statistics;
        }
    }

    private static void print(Statistics statistics, Path file, PrintStream out) {
        Table table = new Table("VALUE", ">CHANNELS", ">ROWS", ">LEAST", ">LARGEST", "");
        boolean singular = false;
        for (ValueStatistics v : statistics.values()) {
            float least = Float.POSITIVE_INFINITY;
            float largest = Float.NEGATIVE_INFINITY;
            int constant = 0;
            for (int c = 0; v.hasRange() && c < v.channels(); c++) {
                least = Math.min(least, v.min()[c]);
                largest = Math.max(largest, v.max()[c]);
                constant += v.min()[c] == v.max()[c] ? 1 : 0;
            }
            boolean few = v.gram().isPresent() && v.rows() < v.channels() / v.groups();
            singular |= few;
            List<String> notes = new ArrayList<>();
            v.window().ifPresent(w -> notes.add("patches of " + w.height() + "x" + w.width()));
            if (constant > 0) {
                notes.add(Text.plural(constant, "constant channel"));
            }
            if (few) {
                notes.add("fewer rows than channels");
            }
            table.row(v.path() + v.name(), Text.count(v.channels()), Text.count(v.rows()), v.hasRange() ? Text.digits(least) : "",
                    v.hasRange() ? Text.digits(largest) : "",
                    String.join(", ", notes));
        }
        out.print(table);
        out.println(file + ": " + Text.plural(statistics.values().size(), "value") + ", over " + Text.count(statistics.samples()) + " samples, "
                + statistics.source());
        if (singular) {
            out.println("note: with fewer rows than channels a Gram matrix is singular, and what is chosen by it suits these samples better than"
                    + " others: give more samples.");
        }
        if (statistics.source().contains("random")) {
            out.println("note: random inputs are unlike real ones, and so is what is chosen by them.");
        }
        out.flush();
    }
}
