package dev.tensorpress;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.method.Spectra;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.archive.Unpacker;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.structure.CleanMethod;
import dev.tensorpress.structure.Cleanup;
import dev.tensorpress.structure.SlimMethod;
import dev.tensorpress.structure.StructuredPruning;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;

/**
 * A model after the changes of a recipe's structure: a file in a temporary folder, until this is closed. Those that take indices and follow each other
 * are one, in which the first that selects a group takes it. Others go over what the ones before have left.
 */
final class Restructured implements AutoCloseable {
    private final List<String> excludes;
    private final Compressor.Options options;
    /** Singular values of its weights, which have the names of the original's. */
    private final Spectra spectra = new Spectra();
    private final Path folder;
    private final List<Plan.Restructuring> done = new ArrayList<>();
    private OnnxModel model;
    /** What is known of its values; null if nothing is. */
    private Statistics statistics;
    private boolean byInputs;

    private Restructured(OnnxModel original, List<String> excludes, Statistics statistics, Compressor.Options options) throws IOException {
        this.excludes = excludes;
        this.options = options;
        this.statistics = statistics;
        folder = Files.createTempDirectory("tensorpress-");
        model = original;
    }

    /**
     * @param original stays open
     * @param statistics of it; null if there are none
     */
    static Restructured of(OnnxModel original, Recipe recipe, Statistics statistics, Compressor.Options options) throws IOException {
        Restructured all = new Restructured(original, recipe.excludes(), statistics, options);
        List<Recipe.Change> structure = recipe.structure();
        try {
            for (int from = 0; from < structure.size();) {
                int to = from + 1;
                while (structure.get(from).method() instanceof SlimMethod && to < structure.size() && structure.get(to).method() instanceof SlimMethod) {
                    to++;
                }
                all.change(original, structure.subList(from, to));
                from = to;
            }
            return all;
        } catch (IOException | RuntimeException | Error e) {
            if (all.model == original) {
                all.model = null;
            }
            all.close();
            throw e;
        }
    }

    OnnxModel model() {
        return model;
    }

    Spectra spectra() {
        return spectra;
    }

    List<Plan.Restructuring> done() {
        return done;
    }

    /** What its weights are multiplied with; null if nothing is known. */
    InputStatistics inputs() throws IOException {
        return statistics == null ? null : InputStatistics.of(statistics, model);
    }

    private void change(OnnxModel original, List<Recipe.Change> changes) throws IOException {
        OnnxModel before = model;
        try (Executor executor = Executor.cpu(options.threads()); Arena arena = executor.arena()) {
            EditableModel editable = EditableModel.of(before, arena);
            if (changes.getFirst().method() instanceof CleanMethod clean) {
                clean(editable, changes.getFirst().name(), clean, arena);
            } else {
                slim(editable, changes, executor, arena);
            }
            Path place = Files.createDirectory(folder.resolve(Integer.toString(done.size())));
            Path file = place.resolve(original.path().getFileName());
            editable.write(Destination.of(file));
            model = OnnxModel.open(file, false);
        }
        if (before != original) {
            before.close();
            Unpacker.delete(before.path().getParent());
        }
    }

    private void clean(EditableModel editable, String step, CleanMethod method, Arena arena) throws IOException {
        if (method.steps().contains(Cleanup.Step.CONSTANTS) && options.evaluator() == null) {
            throw new UnsupportedRequestException("step " + step + " computes constants, which takes a runtime: give one as the evaluator of the options,"
                    + " or leave " + Cleanup.Step.CONSTANTS.id() + " out");
        }
        done.add(new Plan.Restructuring(step, List.of(), new Cleanup(editable, arena, method.tolerance(), options.evaluator()).run(method.steps())));
    }

    private void slim(EditableModel editable, List<Recipe.Change> changes, Executor executor, Arena arena) throws IOException {
        Set<String> excluded = model.weights().stream().filter(w -> Selector.anyMatches(excludes, w)).map(Weight::name).collect(Collectors.toSet());
        List<StructuredPruning.Options> how = new ArrayList<>();
        for (Recipe.Change change : changes) {
            SlimMethod method = (SlimMethod) change.method();
            if (method.asksForInputs() && statistics == null) {
                throw new UnsupportedRequestException("step " + change.name() + " goes by what products are multiplied with: it needs statistics, which"
                        + " calibrate makes of texts, images or other inputs of the model");
            }
            how.add(method.options(change.kinds(), change.names(), statistics != null).excluding(excluded));
        }
        InputStatistics inputs = how.stream().anyMatch(StructuredPruning.Options::asksForInputs) ? inputs() : null;
        byInputs |= inputs != null;
        StructuredPruning.Result result = StructuredPruning.prune(editable, model.weights(), inputs, how, executor, arena);
        for (Recipe.Change change : changes) {
            done.add(new Plan.Restructuring(change.name(), result.groups().stream().filter(g -> changes.stream().filter(c -> c.selects(g)).findFirst()
                    .orElseThrow() == change).toList(), List.of()));
        }
        if (statistics != null) {
            statistics = statistics.part(result.kept());
        }
    }

    /** Whether statistics told what goes. */
    boolean byInputs() {
        return byInputs;
    }

    /** @throws IOException if the temporary folder cannot be removed */
    @Override
    public void close() throws IOException {
        if (model != null) {
            model.close();
        }
        Unpacker.delete(folder);
    }
}
