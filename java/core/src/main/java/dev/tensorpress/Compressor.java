package dev.tensorpress;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Machine;
import dev.tensorpress.kernel.Workers;
import dev.tensorpress.model.Buffers;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.InputFiles;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.model.safetensors.Safetensors;
import dev.tensorpress.model.safetensors.SafetensorsModel;
import dev.tensorpress.pass.NoGainException;
import dev.tensorpress.pass.Spectra;
import dev.tensorpress.pass.Workspace;
import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.IdentityHashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

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
    /** The part of the memory that is for weights as they are read for surveys; a buffer's worth there always is. */
    private static final int SHARE_OF_HELD = 2;

    private final Model model;
    private final Options options;
    /** Of weights that a plan decomposed: the next plan needs them as well. */
    private final Spectra spectra = new Spectra();

    /**
     * @param threads that kernels spread over; 0 for all processors
     * @param allowLinks links in the folder of the model may lead out of it
     * @param overwrite an existing output may be replaced
     * @param resume what an interrupted compression left is used; only for formats written in steps
     * @param memory bytes of buffers and working memory at most, as far as single weights allow; only for formats that stream
     * @param shardSize bytes of tensors that a file holds at most; only for formats in several files
     * @param roles by glob over names of weights, in order: the first that fits counts, before what the reader finds; only
     *     for formats without a graph
     * @param progress told about each weight, or null
     */
    public record Options(int threads, boolean allowLinks, boolean overwrite, boolean resume, long memory, long shardSize,
            Map<String, Role> roles, ProgressListener progress) {
        public static final Options DEFAULT = new Options(0, false, false, false, Destination.DEFAULT_MEMORY,
                Destination.DEFAULT_SHARD_SIZE, Map.of(), null);

        public Options {
            roles = Collections.unmodifiableMap(new LinkedHashMap<>(roles));
            if (threads < 0) {
                throw new IllegalArgumentException("threads must not be negative, but is " + threads);
            }
            Destination.checkSizes(memory, shardSize);
        }

        public Options threads(int threads) {
            return new Options(threads, allowLinks, overwrite, resume, memory, shardSize, roles, progress);
        }

        public Options allowLinks(boolean allowLinks) {
            return new Options(threads, allowLinks, overwrite, resume, memory, shardSize, roles, progress);
        }

        public Options overwrite(boolean overwrite) {
            return new Options(threads, allowLinks, overwrite, resume, memory, shardSize, roles, progress);
        }

        public Options resume(boolean resume) {
            return new Options(threads, allowLinks, overwrite, resume, memory, shardSize, roles, progress);
        }

        public Options memory(long memory) {
            return new Options(threads, allowLinks, overwrite, resume, memory, shardSize, roles, progress);
        }

        public Options shardSize(long shardSize) {
            return new Options(threads, allowLinks, overwrite, resume, memory, shardSize, roles, progress);
        }

        public Options roles(Map<String, Role> roles) {
            return new Options(threads, allowLinks, overwrite, resume, memory, shardSize, roles, progress);
        }

        public Options progress(ProgressListener progress) {
            return new Options(threads, allowLinks, overwrite, resume, memory, shardSize, roles, progress);
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
     * Opens a model: ONNX, or safetensors (a file, a folder, or an index). Files are mapped, not read.
     *
     * @throws dev.tensorpress.model.MalformedModelException if it is not a model, or a damaged one
     * @throws UnsupportedRequestException if {@link Options#roles} do not fit the model
     * @throws IOException if it cannot be read
     */
    public static Compressor open(Path path, Options options) throws IOException {
        return new Compressor(read(path, options), options);
    }

    private static Model read(Path path, Options options) throws IOException {
        if (SafetensorsModel.isNamedSo(path) || Files.isDirectory(path)) {
            return SafetensorsModel.open(path, options.roles, options.allowLinks);
        }
        Model model;
        try {
            model = OnnxModel.open(path, options.allowLinks);
        } catch (MalformedModelException e) {
            if (InputFiles.isFile(path) && Safetensors.resembles(path)) {
                return SafetensorsModel.open(path, options.roles, options.allowLinks);
            }
            throw e;
        }
        if (!options.roles.isEmpty()) {
            model.close();
            throw new UnsupportedRequestException(path + " is an ONNX model, whose graph says what its weights do; roles cannot be"
                    + " given");
        }
        return model;
    }

    /** The model, for a look at its weights. */
    public Model model() {
        return model;
    }

    /**
     * What the recipe would do. Reads no data, unless a pass has to see the weights first: pruning does, and so does
     * factorizing, unless to a fixed rank. Singular values are kept until the compressor is closed.
     *
     * @throws UnsupportedRequestException if the format has no such target or option
     * @throws dev.tensorpress.pass.NonFiniteWeightException if a weight that has to be seen holds NaN or infinity
     * @throws java.io.UncheckedIOException if a weight that has to be seen cannot be read
     */
    public Plan plan(Recipe recipe) {
        Target target = model.target(recipe.target(), recipe.options());
        // By identity: two steps of a recipe may be equal.
        Map<Recipe.Step, Recipe.Step> seen = new IdentityHashMap<>();
        List<Recipe.Step> unseen = new ArrayList<>();
        for (Recipe.Step step : recipe.steps()) {
            seen.put(step, step);
            if (step.pass().surveys()) {
                unseen.add(step);
            }
        }
        List<Candidate> candidates = new ArrayList<>();
        for (Weight weight : model.weights()) {
            List<Recipe.Step> steps = new ArrayList<>();
            String reason = select(recipe, weight, steps);
            candidates.add(new Candidate(weight, steps, reason));
        }
        do {
            survey(unseen, candidates, seen);
            Set<Recipe.Step> lost = Collections.newSetFromMap(new IdentityHashMap<>());
            for (Candidate candidate : candidates) {
                if (candidate.entry == null || candidate.hasAny(unseen)) {
                    candidate.entry = plan(target, candidate, seen, lost);
                }
            }
            // What was compared with weights that do not become what it was compared for is compared again without them.
            unseen = new ArrayList<>(lost);
        } while (!unseen.isEmpty());
        List<Plan.Entry> entries = new ArrayList<>();
        Map<Weight, Form> forms = new LinkedHashMap<>();
        for (Candidate candidate : candidates) {
            Plan.Entry entry = candidate.entry;
            entries.add(entry);
            if (entry.compressed()) {
                forms.put(entry.weight(), entry.form());
            }
        }
        return new Plan(recipe, target, List.copyOf(entries), model.bytes(), target.size(forms, options.shardSize));
    }

    /** A weight on its way into a plan. */
    private static final class Candidate {
        final Weight weight;
        /** Steps of the recipe that select it. */
        final List<Recipe.Step> steps;
        /** Why there are none. */
        final String reason;
        /** Whether a step that compares weights would take this one, but for what comes after it: then the entry is final. */
        boolean refused;
        Plan.Entry entry;

        Candidate(Weight weight, List<Recipe.Step> steps, String reason) {
            this.weight = weight;
            this.steps = steps;
            this.reason = reason;
        }

        /** Whether it takes part in what the step compares. */
        boolean has(Recipe.Step step) {
            for (Recipe.Step s : steps) {
                if (s == step) {
                    return !refused;
                }
            }
            return false;
        }

        boolean hasAny(List<Recipe.Step> some) {
            for (Recipe.Step step : some) {
                if (has(step)) {
                    return true;
                }
            }
            return false;
        }
    }

    /** Puts into {@code seen} what the survey of each pass gives. */
    private void survey(List<Recipe.Step> steps, List<Candidate> candidates, Map<Recipe.Step, Recipe.Step> seen) {
        if (steps.isEmpty()) {
            return;
        }
        try (Workers workers = new Workers(options.threads);
                Workspace workspace = new Workspace(spectra, model, Math.max(Buffers.CHUNK, options.memory / SHARE_OF_HELD))) {
            for (Recipe.Step step : steps) {
                List<Weight> weights = new ArrayList<>();
                for (Candidate c : candidates) {
                    if (c.has(step)) {
                        weights.add(c.weight);
                    }
                }
                if (!weights.isEmpty()) {
                    seen.put(step, new Recipe.Step(step.name(), step.selector(),
                            step.pass().survey(weights, workspace, workers)));
                }
            }
        }
    }

    /** @param lost gets the steps that compare weights and would take this one, if what comes after them does not */
    private static Plan.Entry plan(Target target, Candidate candidate, Map<Recipe.Step, Recipe.Step> seen,
            Set<Recipe.Step> lost) {
        Weight weight = candidate.weight;
        List<Recipe.Step> steps = new ArrayList<>(candidate.steps);
        String reason = candidate.reason;
        List<String> dropped = new ArrayList<>();
        long before = weight.tensor().bytes();
        while (!steps.isEmpty()) {
            List<Form> forms = new ArrayList<>();
            try {
                List<Recipe.Step> taken = new ArrayList<>();
                Form form = new Form.Dense(weight.tensor().dtype());
                for (Recipe.Step step : steps) {
                    taken.add(seen.get(step));
                    form = taken.getLast().pass().plan(weight, form);
                    forms.add(form);
                }
                Form wanted = form;
                form = target.accept(weight, wanted);
                forms.set(forms.size() - 1, form);
                if (form instanceof Form.Sum sum) {
                    // What is corrected is what the target stores.
                    forms.set(forms.size() - 2, sum.base());
                }
                long after = form.bytes(weight.tensor().shape());
                // Zeros in place save nothing by themselves, and yet are what was asked for.
                if (after < before || after == before && form instanceof Form.Sparse) {
                    String note = described(form).equals(described(wanted)) ? "" : "wanted " + wanted.describe();
                    if (!note.isEmpty()) {
                        dropped.add(note);
                    }
                    return new Plan.Entry(weight, List.copyOf(taken), List.copyOf(forms), before, after,
                            String.join("; ", dropped));
                }
                throw new NoGainException("would take " + after + " bytes as " + form.describe());
            } catch (UnsupportedRequestException e) {
                int failed = forms.size();
                int dispensable = dispensable(steps, failed, e);
                for (int i = 0; i < failed; i++) {
                    if (steps.get(i).pass().compares() && (dispensable < 0 || dispensable == i)) {
                        candidate.refused = true;
                        lost.add(steps.get(i));
                    }
                }
                if (dispensable < 0) {
                    reason = e.getMessage();
                    break;
                }
                dropped.add("no " + steps.remove(dispensable).pass().method() + ": " + e.getMessage());
                reason = dropped.size() == 1 ? e.getMessage() : String.join("; ", dropped);
            }
        }
        return new Plan.Entry(weight, List.of(), List.of(), before, before, reason);
    }

    /**
     * The step without which the others go on, or -1: one that would gain nothing; or, if all of them together are refused, or
     * gain nothing, the one that makes factors.
     *
     * @param failed number of the step that threw; of them all if none did
     */
    private static int dispensable(List<Recipe.Step> steps, int failed, UnsupportedRequestException e) {
        if (failed < steps.size()) {
            return e instanceof NoGainException ? failed : -1;
        }
        for (int i = steps.size() - 1; i >= 0; i--) {
            String method = steps.get(i).pass().method();
            if (method.equals("correct") || method.equals("factorize")) {
                return i;
            }
        }
        return -1;
    }

    /** Where the zeros are kept is not what a recipe asks for. */
    private static String described(Form form) {
        return form instanceof Form.Sparse s ? s.stored(Form.Storage.MASKED).describe() : form.describe();
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
     * @param out a file, or a folder where the plan's target writes one
     * @throws FileAlreadyExistsException if {@code out} exists and {@link Options#overwrite} is not set
     * @throws IllegalArgumentException if {@code out} is the model itself, one of its data files, or a folder around them; or if it
     *     is no regular file
     * @throws dev.tensorpress.pass.NonFiniteWeightException if a weight to be compressed holds NaN or infinity
     * @throws IOException if writing fails; an older output is then as it was
     */
    public Report compress(Plan plan, Path out) throws IOException {
        long start = System.nanoTime();
        checkOutput(plan, out);
        Map<String, String> provenance = Map.of("recipe", RecipeYaml.write(plan.recipe()), "tool", Machine.version(), "kernels",
                Integer.toString(Machine.abi()));
        List<Report.Entry> entries;
        Set<Path> files;
        try (Encoder encoder = new Encoder(plan, options, spectra)) {
            files = plan.target().write(plan.forms(), encoder, new Destination(out, options.overwrite, options.resume,
                    options.memory, options.shardSize, provenance));
            entries = encoder.entries();
        }
        long after = 0;
        for (Path file : files) {
            after += Files.size(file);
        }
        return new Report(plan, out, List.copyOf(files), entries, plan.bytesBefore(), after, System.nanoTime() - start);
    }

    private void checkOutput(Plan plan, Path out) throws IOException {
        if (!Files.exists(out)) {
            return;
        }
        boolean folder = Files.isDirectory(out);
        if (folder && !plan.target().writesFolder()) {
            throw new IllegalArgumentException(out + " is a folder; name a file in it");
        }
        if (!folder && !Files.isRegularFile(out)) {
            throw new IllegalArgumentException(out + " is a pipe or a device; name a file");
        }
        List<Path> inputs = new ArrayList<>(model.files());
        inputs.addAll(model.companions());
        Path whole = out.toRealPath();
        for (Path input : inputs) {
            if (folder ? input.toAbsolutePath().normalize().startsWith(out.toAbsolutePath().normalize())
                    || input.toRealPath().startsWith(whole) : Files.isSameFile(out, input)) {
                throw new IllegalArgumentException(out + " is the model itself; write to another " + (folder ? "folder" : "file"));
            }
        }
        if (!options.overwrite) {
            throw new FileAlreadyExistsException(out.toString(), null, "exists; it is replaced only when asked to (--force)");
        }
    }

    @Override
    public void close() {
        model.close();
    }
}
