package dev.tensorpress.runtime;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.method.Method.Requirement;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.statistics.Gatherer;
import dev.tensorpress.statistics.Request;
import dev.tensorpress.statistics.Statistics;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Calibration layer by layer: statistics of what a product reads are taken after all that comes before it was compressed, so that they are
 * those of the compressed model.
 */
public final class Sequential {
    private static final String MODEL = "model.onnx";

    private Sequential() {}

    /**
     * Runs the model once for each value that products with weights read, in the order of these products, each time with the weights
     * compressed that belong to the values before. Weights that belong to none, such as tables, are compressed first of all.
     *
     * @param whole of a model in ONNX, compressed by nothing yet
     * @param recipe whose target writes one file that ONNX Runtime reads; what it decides of a weight must not depend on others
     * @param gram whether Gram matrices are wanted
     * @param folder for models on the way, of which there are two at a time; nothing stays in it
     * @param threads as in {@link OnnxRunner#of}
     * @param progress told of all runs together
     * @return statistics of the model as it is in {@code whole}, for this recipe
     * @throws UnsupportedRequestException if the recipe does not allow it, or the runtime does not take the model
     * @throws dev.tensorpress.statistics.NonFiniteValueException as {@link Gatherer#gather}
     * @throws IOException if a file cannot be read or written
     */
    public static Statistics gather(Compressor whole, Recipe recipe, boolean gram, Samples samples, Path folder, int threads,
            Gatherer.Progress progress) throws IOException {
        Model model = whole.model();
        if (!recipe.structure().isEmpty()) {
            throw new UnsupportedRequestException("recipe " + recipe.name() + " changes the graph, of which statistics layer by layer would not be:"
                    + " calibrate all layers at once");
        }
        for (Recipe.Step step : recipe.steps()) {
            if (step.method().compares() || step.method().requires().contains(Requirement.GRAPH)) {
                throw new UnsupportedRequestException("step " + step.name() + " decides of several weights together, so that none can be compressed"
                        + " before the others");
            }
        }
        for (Recipe.Step step : recipe.steps()) {
            if ("static".equals(step.method().get("activations"))) {
                throw new UnsupportedRequestException("step " + step.name() + " has activations that are static, which takes statistics of what"
                        + " convolutions make as well: calibrate all layers at once");
            }
        }
        Graph graph = model.graph().orElseThrow(() -> new UnsupportedRequestException(model.path() + " has no graph that could be run"));
        List<Graph.Feed> feeds = graph.feeds().stream().filter(f -> f.value().path().isEmpty()).toList();
        // A weight in several feeds waits for the last of them.
        Map<String, Integer> stages = new HashMap<>();
        for (int i = 0; i < feeds.size(); i++) {
            for (Graph.Product product : feeds.get(i).products()) {
                stages.put(product.weight().name(), i);
            }
        }
        Compressor.Options options = Compressor.Options.DEFAULT.threads(threads);
        Path current = model.path();
        Path next = current;
        try (Executor executor = Executor.cpu(threads)) {
            Statistics all = none(Statistics.hash(model), samples, samples.source() + ", layer by layer with recipe " + recipe.name(), executor);
            Statistics last = none("", samples, "", executor);
            try {
                for (int i = 0; i < feeds.size(); i++) {
                    int before = i - 1;
                    next = folder.resolve(Integer.toString(i)).resolve(MODEL);
                    Files.createDirectories(next.getParent());
                    try (Compressor compressor = Compressor.open(current, options)) {
                        compressor.use(last);
                        Plan plan = compressor.plan(recipe, w -> stages.getOrDefault(w.name(), -1) == before);
                        if (plan.compressed() > 0) {
                            compressor.compress(plan, next);
                        }
                    }
                    if (Files.exists(next)) {
                        if (!current.equals(model.path())) {
                            delete(current.getParent());
                        }
                        current = next;
                    } else {
                        delete(next.getParent());
                    }
                    int stage = i;
                    Statistics found = Gatherer.gather(current, "", Request.of(feeds.get(i), gram), OnnxRunner.of(samples, threads), executor,
                            (done, total) -> progress.progress(stage * total + done, feeds.size() * total));
                    last.close();
                    last = found;
                    all.join(found);
                }
            } catch (IOException | RuntimeException | Error e) {
                all.close();
                throw e;
            } finally {
                last.close();
                for (Path way : List.of(current, next)) {
                    if (!way.equals(model.path()) && Files.exists(way.getParent())) {
                        delete(way.getParent());
                    }
                }
            }
            return all;
        }
    }

    private static Statistics none(String hash, Samples samples, String source, Executor executor) {
        try (Gatherer gatherer = new Gatherer(List.of(), executor)) {
            return gatherer.finish(hash, samples.size(), source);
        }
    }

    private static void delete(Path folder) throws IOException {
        Trials.clear(folder);
        Files.delete(folder);
    }
}
