package dev.tensorpress.train;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Simulation;
import dev.tensorpress.method.Method.Requirement;
import dev.tensorpress.method.PruneMethod;
import dev.tensorpress.method.SmoothMethod;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.statistics.Statistics;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;

/**
 * A model that is trained: what a recipe makes of its graph, and what it prunes, is done before, and what else it makes of weights is simulated while they are
 * trained.
 */
public final class Student implements AutoCloseable {
    private final List<AutoCloseable> open = new ArrayList<>();
    private OnnxModel model;
    private boolean pruned;
    private Recipe written;
    private Simulation start;
    private Simulation simulation;

    private Student() {}

    /**
     * Opens a model.
     *
     * @param recipe null for none
     * @param statistics of the model's inputs, for recipes that take neurons or heads out, or choose codes by them; null for none
     * @param zeros file for what is pruned, if anything is; has to stay as long as the student is open
     * @throws UnsupportedRequestException if the recipe changes nothing, or asks for statistics while weights change
     * @throws dev.tensorpress.model.MalformedModelException if a file is not what it should be
     * @throws IOException if a file cannot be read or written
     */
    public static Student open(Path file, Recipe recipe, Compressor.Options options, Path statistics, Path zeros) throws IOException {
        Student student = new Student();
        try {
            student.load(file, recipe, options, statistics, zeros);
            return student;
        } catch (IOException | RuntimeException | Error e) {
            student.close();
            throw e;
        }
    }

    private void load(Path file, Recipe recipe, Compressor.Options options, Path statistics, Path zeros) throws IOException {
        boolean links = options.allowLinks();
        if (recipe == null) {
            model = keep(OnnxModel.open(file, links));
            return;
        }
        Compressor compressor = keep(Compressor.open(file, options));
        boolean chooses = recipe.withoutStructure().requires(Requirement.STATISTICS);
        if (recipe.nearest().withoutStructure().requires(Requirement.STATISTICS)) {
            throw new UnsupportedRequestException("recipe " + recipe.name() + " goes by statistics of inputs, which change while a model is trained; of such methods gptq alone"
                    + " is trained");
        }
        if (statistics != null && (chooses || !recipe.structure().isEmpty())) {
            compressor.use(keep(Statistics.load(statistics, compressor.model())));
        }
        List<Recipe.Step> pruning = recipe.steps().stream().filter(s -> s.method() instanceof PruneMethod).toList();
        if (!pruning.isEmpty() && !pruned) {
            if (chooses) {
                throw new UnsupportedRequestException("recipe " + recipe.name() + " prunes weights, and chooses codes by statistics of before: quantize instead of gptq trains both");
            }
            compressor.compress(compressor.plan(new Recipe(recipe.name(), "", recipe.structure(), pruning, recipe.excludes(),
                    Map.of("sparse-initializers", "false"))), zeros);
            pruned = true;
            if (recipe.steps().size() == pruning.size()) {
                written = recipe.withoutStructure();
                model = keep(OnnxModel.open(zeros, links));
                return;
            }
            // By all steps, as it is written: what is pruned can get other codes, such as one for zeros alone.
            load(zeros, recipe.withoutStructure(), options, null, null);
            return;
        }
        Recipe nearest = recipe.nearest();
        if (chooses) {
            if (recipe.steps().stream().anyMatch(s -> s.method() instanceof SmoothMethod)) {
                // Its codes are those of other elements than the ones that are trained.
                throw new UnsupportedRequestException("recipe " + recipe.name() + " smooths weights, and chooses codes of what comes of that: quantize instead of gptq trains both");
            }
            Plan chosen = compressor.plan(recipe);
            start = keep(compressor.simulate(chosen));
            // What gptq leaves as it is, such as what is read in different ways, would get codes by the nearest.
            Set<String> coded = compressor.plan(nearest).entries().stream().filter(Plan.Entry::compressed).map(e -> e.weight().name()).collect(Collectors.toSet());
            for (Plan.Entry e : chosen.entries()) {
                if (!e.compressed() && coded.contains(e.weight().name())) {
                    nearest = nearest.exclude(e.weight().name());
                }
            }
        }
        written = nearest.withoutStructure();
        Plan plan = compressor.plan(nearest);
        if (plan.compressed() > 0) {
            simulation = keep(compressor.simulate(plan));
        } else if (recipe.structure().isEmpty()) {
            throw new UnsupportedRequestException("recipe " + recipe.name() + " changes no weight" + (pruned ? " once it has pruned" : " of " + file));
        }
        model = keep(OnnxModel.open(compressor.model(plan).path(), links));
    }

    private <T extends AutoCloseable> T keep(T opened) {
        open.add(opened);
        return opened;
    }

    /** As it is trained. */
    public OnnxModel model() {
        return model;
    }

    /** Whether it has zeros that have to stay. */
    public boolean pruned() {
        return pruned;
    }

    /** What its weights begin with, if that is chosen by statistics; null if they begin as they are. */
    public Simulation start() {
        return start;
    }

    /** By which it is written once it is trained: the {@link Recipe#nearest}, without weights that the recipe leaves as they are; null if there is none. */
    public Recipe recipe() {
        return written;
    }

    /** What its weights become, by the recipe's {@link Recipe#nearest}; null if they stay as they are. */
    public Simulation simulation() {
        return simulation;
    }

    @Override
    public void close() throws IOException {
        for (AutoCloseable one : open.reversed()) {
            try {
                one.close();
            } catch (IOException | RuntimeException e) {
                throw e;
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        }
        open.clear();
    }
}
