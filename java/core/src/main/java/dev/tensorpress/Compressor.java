package dev.tensorpress;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Workers;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.pass.Workspace;
import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import jdk.jfr.FlightRecorder;

/**
 * Compresses one model. Open it, {@link #plan} as often as you like, {@link #compress}, close it. Not thread-safe.
 *
 * <pre>{@code
 * try (Compressor compressor = Compressor.open(Path.of("model.onnx"))) {
 *     Plan plan = compressor.plan(Recipe.named("int8"));
 *     Report report = compressor.compress(plan, Path.of("model-int8.onnx"));
 * }
 * }</pre>
 */
public final class Compressor implements AutoCloseable {
    private final Model model;
    private final Options options;

    /**
     * @param threads that kernels spread over; 0 for all processors
     * @param allowLinks external data may lie behind links
     * @param overwrite an existing output may be replaced
     * @param progress told about each weight, or null
     */
    public record Options(int threads, boolean allowLinks, boolean overwrite, ProgressListener progress) {
        public static final Options DEFAULT = new Options(0, false, false, null);

        public Options {
            if (threads < 0) {
                throw new IllegalArgumentException("threads must not be negative, but is " + threads);
            }
        }

        public Options threads(int threads) {
            return new Options(threads, allowLinks, overwrite, progress);
        }

        public Options allowLinks(boolean allowLinks) {
            return new Options(threads, allowLinks, overwrite, progress);
        }

        public Options overwrite(boolean overwrite) {
            return new Options(threads, allowLinks, overwrite, progress);
        }

        public Options progress(ProgressListener progress) {
            return new Options(threads, allowLinks, overwrite, progress);
        }
    }

    private Compressor(Model model, Options options) {
        this.model = model;
        this.options = options;
    }

    /** {@link #open(Path, Options)} with defaults. */
    public static Compressor open(Path path) throws IOException {
        return open(path, Options.DEFAULT);
    }

    /**
     * Opens a model; the file is mapped, not read.
     *
     * @throws dev.tensorpress.model.MalformedModelException if it is not a model, or a damaged one
     * @throws IOException if it cannot be read
     */
    public static Compressor open(Path path, Options options) throws IOException {
        return new Compressor(OnnxModel.open(path, options.allowLinks), options);
    }

    /** The model, for a look at its weights. */
    public Model model() {
        return model;
    }

    /**
     * What the recipe would do.
     *
     * @throws UnsupportedRequestException if the format has no such target or option
     */
    public Plan plan(Recipe recipe) {
        Target target = model.target(recipe.target(), recipe.options());
        List<Plan.Entry> entries = new ArrayList<>();
        Map<Weight, Form> forms = new LinkedHashMap<>();
        for (Weight weight : model.weights()) {
            Plan.Entry entry = plan(recipe, target, weight);
            entries.add(entry);
            if (entry.compressed()) {
                forms.put(weight, entry.form());
            }
        }
        return new Plan(recipe, target, List.copyOf(entries), model.bytes(), target.size(forms));
    }

    private static Plan.Entry plan(Recipe recipe, Target target, Weight weight) {
        long before = weight.tensor().bytes();
        List<Recipe.Step> steps = new ArrayList<>();
        String reason = select(recipe, weight, steps);
        if (!steps.isEmpty()) {
            List<Form> forms = new ArrayList<>();
            try {
                Form form = new Form.Dense(weight.tensor().dtype());
                for (Recipe.Step step : steps) {
                    form = step.pass().plan(weight, form);
                    forms.add(form);
                }
                Form wanted = form;
                form = target.accept(weight, wanted);
                forms.set(forms.size() - 1, form);
                long after = form.bytes(weight.tensor().shape());
                if (after < before) {
                    String note = form.describe().equals(wanted.describe()) ? "" : "wanted " + wanted.describe();
                    return new Plan.Entry(weight, List.copyOf(steps), List.copyOf(forms), before, after, note);
                }
                reason = "would take " + after + " bytes as " + form.describe();
            } catch (UnsupportedRequestException e) {
                reason = e.getMessage();
            }
        }
        return new Plan.Entry(weight, List.of(), List.of(), before, before, reason);
    }

    /** Fills {@code steps}; where it stays empty, the result says why. */
    private static String select(Recipe recipe, Weight weight, List<Recipe.Step> steps) {
        if (weight.obstacle().isPresent()) {
            return weight.obstacle().get();
        }
        if (Selector.anyMatches(recipe.excludes(), weight)) {
            return "excluded";
        }
        String reason = "no step selects role " + weight.role().id();
        Set<String> methods = new HashSet<>();
        for (Recipe.Step step : recipe.steps()) {
            if (!step.selector().selects(weight)) {
                continue;
            }
            if (weight.tensor().shape().elements() < step.selector().minSize()) {
                reason = "fewer than " + step.selector().minSize() + " elements";
            } else if (methods.add(step.pass().method())) {
                steps.add(step);
            }
        }
        return reason;
    }

    /**
     * Does what the plan says and writes the result, whole or not at all.
     *
     * @param plan of this compressor
     * @throws FileAlreadyExistsException if {@code out} exists and {@link Options#overwrite} is not set
     * @throws IllegalArgumentException if {@code out} is the model itself or one of its data files
     * @throws dev.tensorpress.pass.NonFiniteWeightException if a weight to be compressed holds NaN or infinity
     * @throws IOException if writing fails; an older output is then as it was
     */
    public Report compress(Plan plan, Path out) throws IOException {
        long start = System.nanoTime();
        checkOutput(out);
        Map<Weight, Plan.Entry> planned = new LinkedHashMap<>();
        Map<Weight, Form> forms = new LinkedHashMap<>();
        for (Plan.Entry e : plan.entries()) {
            if (e.compressed()) {
                planned.put(e.weight(), e);
                forms.put(e.weight(), e.form());
            }
        }
        List<Report.Entry> entries = new ArrayList<>();
        Set<Path> files;
        try (Workers workers = new Workers(options.threads); Workspace workspace = new Workspace()) {
            files = plan.target().write(forms, (weight, form) -> {
                Plan.Entry entry = planned.get(weight);
                tell(entries.size(), planned.size(), entry);
                long began = System.nanoTime();
                Encoding encoding = new Encoding.Dense(weight.tensor());
                for (int i = 0; i < entry.steps().size(); i++) {
                    encoding = entry.steps().get(i).pass()
                            .apply(weight, encoding, entry.forms().get(i), workspace, workers);
                }
                Report.Entry done = Measure.error(entry, encoding, workspace, workers, began);
                entries.add(done);
                // Asked here: loading the event's class is what start-up would notice.
                if (FlightRecorder.isInitialized()) {
                    WeightEvent.record(done);
                }
                if (entries.size() == planned.size()) {
                    tell(planned.size(), planned.size(), null);
                }
                return encoding;
            }, out);
        }
        long after = 0;
        for (Path file : files) {
            after += Files.size(file);
        }
        return new Report(plan, out, List.copyOf(files), List.copyOf(entries), plan.bytesBefore(), after,
                System.nanoTime() - start);
    }

    private void tell(int index, int count, Plan.Entry entry) {
        if (options.progress != null) {
            options.progress.progress(index, count, entry);
        }
    }

    private void checkOutput(Path out) throws IOException {
        if (Files.exists(out)) {
            for (Path input : model.files()) {
                if (Files.isSameFile(out, input)) {
                    throw new IllegalArgumentException(out + " is the model itself; write to another file");
                }
            }
            if (Files.isDirectory(out)) {
                throw new IllegalArgumentException(out + " is a folder; name a file in it");
            }
            if (!options.overwrite) {
                throw new FileAlreadyExistsException(out.toString(), null, "exists; it is replaced only when asked to (--force)");
            }
        }
    }

    @Override
    public void close() {
        model.close();
    }
}
