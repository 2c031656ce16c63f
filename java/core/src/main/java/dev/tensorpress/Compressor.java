package dev.tensorpress;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Machine;
import dev.tensorpress.kernel.Workers;
import dev.tensorpress.model.Buffers;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.InputFiles;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Phases;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnknownNameException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.model.safetensors.Safetensors;
import dev.tensorpress.model.safetensors.SafetensorsModel;
import dev.tensorpress.pass.NoGainException;
import dev.tensorpress.pass.Spectra;
import dev.tensorpress.pass.Workspace;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.EnumMap;
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
    private static final String QUANTIZE = "quantize";
    private static final String FACTORIZE = "factorize";

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
            Workers.checkThreads(threads);
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
     * The target that a recipe is for.
     *
     * @throws UnsupportedRequestException if the format has no such target, or it does not take this model
     * @throws UnknownNameException if the recipe has an option that is neither the target's nor any step's
     */
    public Target target(Recipe recipe) {
        try {
            return model.target(recipe.target(), recipe.options());
        } catch (UnknownNameException e) {
            // Whoever misspells an option of a step is told of the target's otherwise.
            throw recipe.options().containsKey(e.name()) ? e.among(Recipe.settings(recipe.steps())) : e;
        }
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
        Phases phases = new Phases();
        Phases.Span span = phases.begin(Phases.Phase.PLAN);
        long surveyed = 0;
        Target target = target(recipe);
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
            boolean barred = weight.obstacle().isPresent() || Selector.anyMatches(recipe.excludes(), weight);
            String reason = select(recipe, weight, steps);
            Candidate candidate = new Candidate(weight, steps, reason, barred);
            refuseFactors(target, candidate);
            candidates.add(candidate);
        }
        do {
            surveyed += survey(unseen, candidates, seen);
            Set<Recipe.Step> lost = Collections.newSetFromMap(new IdentityHashMap<>());
            for (Candidate candidate : candidates) {
                if (candidate.entry == null || candidate.hasAny(unseen)) {
                    candidate.entry = plan(target, candidate, seen, lost);
                }
            }
            settle(recipe, target, candidates, seen, lost);
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
        long bytesAfter = target.size(forms, options.shardSize);
        span.end(model.path(), surveyed);
        return new Plan(recipe, target, List.copyOf(entries), model.bytes(), bytesAfter, phases.of(Phases.Phase.PLAN));
    }

    /** Drops a step that makes factors where the target takes none: singular values are costly to know. */
    private static void refuseFactors(Target target, Candidate c) {
        Shape shape = c.weight.tensor().shape();
        for (Recipe.Step step : List.copyOf(c.steps)) {
            if (step.pass().method().equals(FACTORIZE) && step.pass().surveys() && shape.rank() > 1 && shape.elements() > 0) {
                Form dense = new Form.Dense(c.weight.tensor().dtype());
                try {
                    target.accept(c.weight, new Form.LowRank(dense, dense, 1, c.weight.inputAxis() == 1));
                } catch (UnsupportedRequestException e) {
                    c.steps.remove(step);
                    c.reason = e.getMessage();
                    c.remark = c.steps.isEmpty() ? "" : "no " + FACTORIZE + ": " + e.getMessage();
                }
            }
        }
    }

    /** A weight on its way into a plan. */
    private static final class Candidate {
        final Weight weight;
        /** Steps of the recipe that select it. */
        List<Recipe.Step> steps;
        /** Why there are none. */
        String reason;
        /** Whether it stays for a reason that is not to be overruled: it cannot be touched, or was excluded. */
        final boolean barred;
        /** What is to be said of it, whatever becomes of it. */
        String remark = "";
        /** Whether a step that compares weights would take this one, but for what comes after it: then the entry is final. */
        boolean refused;
        Plan.Entry entry;

        Candidate(Weight weight, List<Recipe.Step> steps, String reason, boolean barred) {
            this.weight = weight;
            this.steps = steps;
            this.reason = reason;
            this.barred = barred;
        }

        /** The step that makes codes, or null. */
        Recipe.Step codes() {
            for (Recipe.Step step : steps) {
                if (step.pass().method().equals(QUANTIZE)) {
                    return step;
                }
            }
            return null;
        }

        /** With another step that makes codes, or none if it is null. */
        void codes(Recipe.Step step, Recipe recipe) {
            List<Recipe.Step> all = new ArrayList<>();
            for (Recipe.Step s : recipe.steps()) {
                if (s == step || has(steps, s) && !s.pass().method().equals(QUANTIZE)) {
                    all.add(s);
                }
            }
            steps = all;
        }

        private static boolean has(List<Recipe.Step> steps, Recipe.Step step) {
            for (Recipe.Step s : steps) {
                if (s == step) {
                    return true;
                }
            }
            return false;
        }

        /** Whether it takes part in what the step compares. */
        boolean has(Recipe.Step step) {
            return !refused && has(steps, step);
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

    /** Puts into {@code seen} what the survey of each pass gives; returns the bytes that the passes saw. */
    private long survey(List<Recipe.Step> steps, List<Candidate> candidates, Map<Recipe.Step, Recipe.Step> seen) {
        long bytes = 0;
        if (steps.isEmpty()) {
            return bytes;
        }
        try (Workers workers = new Workers(options.threads);
                Workspace workspace = new Workspace(spectra, model, Math.max(Buffers.CHUNK, options.memory / SHARE_OF_HELD))) {
            for (Recipe.Step step : steps) {
                List<Weight> weights = new ArrayList<>();
                for (Candidate c : candidates) {
                    if (c.has(step)) {
                        weights.add(c.weight);
                        bytes += c.weight.tensor().bytes();
                    }
                }
                if (!weights.isEmpty()) {
                    seen.put(step, new Recipe.Step(step.name(), step.selector(),
                            step.pass().survey(weights, workspace, workers)));
                }
            }
        }
        return bytes;
    }

    /**
     * Makes the weights of each of the target's groups agree: all get the codes of the one that keeps most, or none gets any, if one
     * of them has to stay.
     */
    private void settle(Recipe recipe, Target target, List<Candidate> candidates, Map<Recipe.Step, Recipe.Step> seen,
            Set<Recipe.Step> lost) {
        List<Target.Group> groups = target.groups();
        Map<Weight, Candidate> all = new IdentityHashMap<>();
        for (Candidate c : groups.isEmpty() ? List.<Candidate>of() : candidates) {
            all.put(c.weight, c);
        }
        for (Target.Group group : groups) {
            Candidate leader = null;
            for (Weight w : group.weights()) {
                Candidate c = all.get(w);
                if (target.scheme(c.entry.form()) != null && (leader == null || kept(c) > kept(leader))) {
                    leader = c;
                }
            }
            Candidate other = leader == null ? null : other(group, all, target, leader, true);
            for (Weight w : leader == null || other != null ? List.<Weight>of() : group.weights()) {
                Candidate c = all.get(w);
                if (!target.scheme(leader.entry.form()).equals(target.scheme(c.entry.form()))) {
                    c.codes(leader.codes(), recipe);
                    c.remark = "as " + leader.weight.name() + ", since " + group.why();
                    c.entry = plan(target, c, seen, lost);
                }
            }
            other = other == null && leader != null ? other(group, all, target, leader, false) : other;
            for (Weight w : other == null ? List.<Weight>of() : group.weights()) {
                Candidate c = all.get(w);
                if (target.scheme(c.entry.form()) != null) {
                    c.codes(null, recipe);
                    c.reason = "stays as " + other.weight.name() + " does, since " + group.why();
                    c.remark = c.steps.isEmpty() ? "" : c.reason;
                    c.entry = plan(target, c, seen, lost);
                }
            }
        }
    }

    /** Bytes for an element. */
    private static double kept(Candidate c) {
        return (double) c.entry.bytesAfter() / Math.max(1, c.weight.tensor().shape().elements());
    }

    /** A weight of the group that is stored otherwise than the leader, or null; of those that are barred or of all. */
    private static Candidate other(Target.Group group, Map<Weight, Candidate> all, Target target, Candidate leader,
            boolean barred) {
        Object scheme = target.scheme(leader.entry.form());
        for (Weight w : group.weights()) {
            Candidate c = all.get(w);
            if ((c.barred || !barred) && !scheme.equals(target.scheme(c.entry.form()))) {
                return c;
            }
        }
        return null;
    }

    /** @param lost gets the steps that compare weights and would take this one, if what comes after them does not */
    private Plan.Entry plan(Target target, Candidate candidate, Map<Recipe.Step, Recipe.Step> seen,
            Set<Recipe.Step> lost) {
        Weight weight = candidate.weight;
        List<Recipe.Step> steps = new ArrayList<>(candidate.steps);
        String reason = candidate.reason;
        List<String> dropped = new ArrayList<>();
        if (!candidate.remark.isEmpty()) {
            dropped.add(candidate.remark);
        }
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
                target.checkMemory(weight, byRows(weight, taken, forms), options.memory);
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

    static boolean byRows(Weight weight, List<Recipe.Step> steps, List<Form> forms) {
        for (int i = 0; i < steps.size(); i++) {
            if (!steps.get(i).pass().byRows(weight, forms.get(i))) {
                return false;
            }
        }
        return true;
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
            if (method.equals("correct") || method.equals(FACTORIZE)) {
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
        Map<String, String> provenance = new LinkedHashMap<>();
        provenance.put("recipe", RecipeYaml.write(plan.recipe()));
        provenance.put("tool", Machine.version());
        provenance.put("kernels", Integer.toString(Machine.abi()));
        if (hasFactors(plan)) {
            provenance.put("instructionSet", Machine.tier());
        }
        List<Report.Entry> entries;
        Set<Path> files;
        Phases phases = new Phases();
        try (Encoder encoder = new Encoder(plan, options, spectra, phases)) {
            files = plan.target().write(plan.forms(), encoder, new Destination(out, options.overwrite, options.resume,
                    options.memory, options.shardSize, provenance, phases));
            entries = encoder.entries();
        }
        long after = 0;
        for (Path file : files) {
            after += Files.size(file);
        }
        Map<Phases.Phase, Phases.Spent> spent = new EnumMap<>(Phases.Phase.class);
        for (Phases.Phase phase : Phases.Phase.values()) {
            spent.put(phase, phase == Phases.Phase.PLAN ? plan.spent() : phases.of(phase));
        }
        return new Report(plan, out, List.copyOf(files), entries, plan.bytesBefore(), after, System.nanoTime() - start,
                Collections.unmodifiableMap(spent));
    }

    /** Whether bytes depend on the instruction set: singular vectors do, in their last bits. */
    private static boolean hasFactors(Plan plan) {
        for (Form form : plan.forms().values()) {
            if (form instanceof Form.LowRank || form instanceof Form.Sum) {
                return true;
            }
        }
        return false;
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
            throw new FileAlreadyExistsException(out.toString(), null, "exists; it is replaced only when asked to");
        }
    }

    @Override
    public void close() {
        model.close();
    }
}
