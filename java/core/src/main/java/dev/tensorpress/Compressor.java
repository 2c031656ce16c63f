package dev.tensorpress;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.kernel.Device;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Machine;
import dev.tensorpress.method.Method.Requirement;
import dev.tensorpress.method.Spectra;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Format;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Phases;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnknownNameException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.archive.KeptEncodings;
import dev.tensorpress.model.archive.Mount;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.structure.Evaluator;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.ConcurrentModificationException;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Predicate;

/**
 * Compresses one model. Open it, {@link #plan} as often as you like, {@link #compress}, close it. One thread uses it at a time: another
 * that makes a plan or compresses meanwhile gets a {@link ConcurrentModificationException}.
 *
 * <pre>{@code
 * try (Compressor compressor = Compressor.open(Path.of("model.onnx"))) {
 *     Plan plan = compressor.plan(Recipe.named("int8"));
 *     Report report = compressor.compress(plan, Path.of("model-int8.onnx"));
 * }
 * }</pre>
 */
public final class Compressor implements AutoCloseable {
    /** Each is a model in a temporary folder. */
    private static final int MOST_RESTRUCTURED = 2;

    private final Formats.Entry format;
    private final Mount mount;
    private final Model model;
    private final Options options;
    /** Of weights that a plan decomposed: the next plan needs them as well. */
    private final Spectra spectra = new Spectra();
    /** What recipes made of the graph: the one that was used last is last. */
    private final LinkedHashMap<List<Recipe.Change>, Restructured> restructured = new LinkedHashMap<>();
    /** Null if there are none, as are the inputs. */
    private Statistics statistics;
    private InputStatistics inputs;
    private final ReentrantLock used = new ReentrantLock();
    private boolean closed;

    /**
     * @param threads that kernels spread over; 0 for all processors
     * @param device that kernels run on; those that it has none of run on the threads
     * @param allowLinks links in the folder of the model may lead out of it
     * @param overwrite an existing output may be replaced
     * @param resume what an interrupted compression left is used; only for formats written in steps
     * @param memory bytes of buffers and working memory at most, as far as single weights allow; only for formats that stream
     * @param roles by glob over names of weights, in order: the first that fits counts, before what the reader finds; only
     *     for formats without a graph
     * @param distributions the report tells how the elements and codes of the {@value Encoder#MOST_DISTRIBUTIONS} largest weights are
     *     distributed, which takes a few nanoseconds for each element
     * @param evaluator computes constants for recipes that clean the graph up; null if there is none
     * @param progress told about each weight, or null
     */
    public record Options(int threads, Device device, boolean allowLinks, boolean overwrite, boolean resume, long memory,
            Map<String, Role> roles, boolean distributions, Evaluator evaluator, ProgressListener progress) {
        public static final Options DEFAULT = new Options(0, Device.CPU, false, false, false, Destination.DEFAULT_MEMORY,
                Map.of(), false, null, null);

        public Options {
            roles = Collections.unmodifiableMap(new LinkedHashMap<>(roles));
            Executor.checkThreads(threads);
            Destination.checkMemory(memory);
        }

        public Options threads(int threads) {
            return new Options(threads, device, allowLinks, overwrite, resume, memory, roles, distributions, evaluator, progress);
        }

        public Options device(Device device) {
            return new Options(threads, device, allowLinks, overwrite, resume, memory, roles, distributions, evaluator, progress);
        }

        public Options allowLinks(boolean allowLinks) {
            return new Options(threads, device, allowLinks, overwrite, resume, memory, roles, distributions, evaluator, progress);
        }

        public Options overwrite(boolean overwrite) {
            return new Options(threads, device, allowLinks, overwrite, resume, memory, roles, distributions, evaluator, progress);
        }

        public Options resume(boolean resume) {
            return new Options(threads, device, allowLinks, overwrite, resume, memory, roles, distributions, evaluator, progress);
        }

        public Options memory(long memory) {
            return new Options(threads, device, allowLinks, overwrite, resume, memory, roles, distributions, evaluator, progress);
        }

        public Options roles(Map<String, Role> roles) {
            return new Options(threads, device, allowLinks, overwrite, resume, memory, roles, distributions, evaluator, progress);
        }

        public Options distributions(boolean distributions) {
            return new Options(threads, device, allowLinks, overwrite, resume, memory, roles, distributions, evaluator, progress);
        }

        public Options evaluator(Evaluator evaluator) {
            return new Options(threads, device, allowLinks, overwrite, resume, memory, roles, distributions, evaluator, progress);
        }

        public Options progress(ProgressListener progress) {
            return new Options(threads, device, allowLinks, overwrite, resume, memory, roles, distributions, evaluator, progress);
        }
    }

    private Compressor(Formats.Entry format, Model model, Options options, Mount mount) {
        this.mount = mount;
        this.format = format;
        this.model = model;
        this.options = options;
    }

    /** {@link #open(Path, Options)} with defaults. */
    public static Compressor open(Path path) throws IOException {
        return open(path, Options.DEFAULT);
    }

    /**
     * Opens a model of one of the {@link Formats}: a file, or where a format has such, a folder or an index. Files are mapped, not
     * read. Of an archive, what it holds is expanded into a temporary folder first, until this is closed.
     *
     * @throws dev.tensorpress.model.MalformedModelException if it is not a model, or a damaged one
     * @throws UnsupportedRequestException if {@link Options#roles} do not fit the model
     * @throws IOException if it cannot be read
     */
    public static Compressor open(Path path, Options options) throws IOException {
        Mount mount = Mount.of(path);
        try {
            Formats.Entry entry = Formats.of(mount.model());
            return new Compressor(entry, entry.format().open(mount.model(), options.roles, options.allowLinks), options, mount);
        } catch (IOException | RuntimeException | Error e) {
            mount.close();
            throw e;
        }
    }

    /** The model's format. */
    public Format format() {
        return format.format();
    }

    /** The model, for a look at its weights. */
    public Model model() {
        return model;
    }

    /**
     * The target that a recipe is for.
     *
     * @throws UnsupportedRequestException if the format has no such target, or it does not take this model; or if an option has no
     *     effect on any step
     * @throws UnknownNameException if the recipe has an option that is neither the target's nor any step's
     * @throws IllegalArgumentException if a value of an option does not fit
     */
    public Target target(Recipe recipe) {
        return target(model, recipe);
    }

    private Target target(Model model, Recipe recipe) {
        try {
            return format.target(model, recipe.target(), recipe.options());
        } catch (UnknownNameException e) {
            if (!recipe.options().containsKey(e.name())) {
                throw e;
            }
            Set<String> settings = recipe.settings();
            if (settings.contains(e.name())) {
                throw new UnsupportedRequestException("option '" + e.name() + "' has no effect on any step of recipe " + recipe.name()
                        + " as these are; STEP." + e.name() + " sets it all the same");
            }
            // Whoever misspells an option of a step is told of the target's otherwise.
            throw e.among(settings);
        }
    }

    /**
     * What the recipe would do. Reads no data, unless a method has to see the weights first: pruning does, and so does
     * factorizing, unless to a fixed rank. Singular values are kept until the compressor is closed. A recipe that changes the graph has
     * that done here: what comes of it is in a temporary folder, where plans with the same changes find it. The last two are kept, and
     * others can no longer be compressed by.
     *
     * @throws UnsupportedRequestException if the format has no such target or option, or no graph that the recipe could change; or if the
     *     graph cannot be changed like that
     * @throws dev.tensorpress.method.NonFiniteWeightException if a weight that has to be seen holds NaN or infinity
     * @throws UncheckedIOException if a weight that has to be seen cannot be read; or if the statistics cannot, if methods go by them
     * @throws IllegalStateException if this, or the statistics, if methods go by them, are closed
     */
    public Plan plan(Recipe recipe) {
        return plan(recipe, w -> true);
    }

    /**
     * {@link #plan(Recipe)} of some weights.
     *
     * @param open those that the recipe may change; all others stay as they are, but for biases that make up for what becomes of these
     */
    public Plan plan(Recipe recipe, Predicate<Weight> open) {
        enter();
        try {
            boolean reads = recipe.requires(Requirement.STATISTICS) || !recipe.structure().isEmpty();
            return readable(reads ? statistics : null, () -> {
                if (recipe.structure().isEmpty()) {
                    return new Planner(model, options, spectra, statistics, inputs).plan(recipe, target(recipe), open);
                }
                long start = System.nanoTime();
                Restructured changed = restructured(recipe);
                InputStatistics left = recipe.requires(Requirement.STATISTICS) ? changed.inputs() : null;
                long nanos = System.nanoTime() - start;
                return new Planner(changed.model(), options, changed.spectra(), statistics, left).plan(recipe, target(changed.model(), recipe), open)
                        .of(model, changed.done(), changed.byInputs() ? Optional.of(statistics) : Optional.empty(), nanos);
            });
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        } finally {
            used.unlock();
        }
    }

    private Restructured restructured(Recipe recipe) throws IOException {
        target(recipe); // whatever is wrong with it is told before the work
        if (!(model instanceof OnnxModel graph)) {
            throw new UnsupportedRequestException("recipe " + recipe.name() + " changes the graph of a model, and " + model.path()
                    + " has none: that is for models in ONNX");
        }
        Restructured known = restructured.remove(recipe.structure());
        if (known == null) {
            if (restructured.size() == MOST_RESTRUCTURED) {
                restructured.pollFirstEntry().getValue().close();
            }
            known = Restructured.of(graph, recipe, statistics, options);
        }
        restructured.put(recipe.structure(), known);
        return known;
    }

    private void enter() {
        if (!used.tryLock()) {
            throw new ConcurrentModificationException("another thread uses this compressor: each needs its own");
        }
        if (closed) {
            used.unlock();
            throw new IllegalStateException("the compressor is closed");
        }
    }

    /** Work that may read statistics. */
    private interface Work<T> {
        T run() throws IOException;
    }

    /**
     * Where the file of statistics has changed, that is what is said, and not what came of it.
     *
     * @param of those that are read; null if none are
     */
    private static <T> T readable(Statistics of, Work<T> work) throws IOException {
        if (of == null) {
            return work.run();
        }
        of.checkReadable();
        try {
            return work.run();
        } catch (IOException | RuntimeException | InternalError e) {
            try {
                of.checkReadable();
            } catch (IOException | IllegalStateException cause) {
                cause.addSuppressed(e);
                throw cause;
            }
            throw e;
        }
    }

    /**
     * What the model's values are like, for methods that go by it, in plans that are made after this.
     *
     * @param statistics of this model; to be closed by the caller, after the last compression by such a plan; null for none
     * @throws IllegalStateException if they, or this, are closed
     * @throws UnsupportedRequestException if they are of another model; or if the format has no graph and they name no weights, so that
     *     nobody knows which value a weight is multiplied with
     * @throws IOException if the model cannot be read
     */
    public void use(Statistics statistics) throws IOException {
        enter();
        try {
            InputStatistics all = null;
            if (statistics != null) {
                statistics.checkReadable();
                statistics.check(model);
                all = InputStatistics.of(statistics, model);
                if (model.graph().isEmpty() && all.isEmpty()) {
                    throw new UnsupportedRequestException("a model of this format does not say what its weights are multiplied with, and these"
                            + " statistics name no weights");
                }
            }
            inputs = all;
            this.statistics = statistics;
            forget();
        } finally {
            used.unlock();
        }
    }

    /**
     * Does what the plan says and writes the result, whole or not at all.
     *
     * @param plan of this compressor
     * @param out a file, or a folder where the plan's target writes one
     * @throws FileAlreadyExistsException if {@code out} exists and {@link Options#overwrite} is not set
     * @throws IllegalArgumentException if {@code out} is the model itself, one of its data files, or a folder around them; or if it
     *     is no regular file
     * @throws dev.tensorpress.method.NonFiniteWeightException if a weight to be compressed holds NaN or infinity
     * @throws IllegalArgumentException also if the plan is of another compressor
     * @throws IllegalStateException if this, or the statistics that the plan goes by, are closed
     * @throws IOException if writing fails, or the statistics that the plan goes by have changed; an older output is then as it was
     */
    public Report compress(Plan plan, Path out) throws IOException {
        return compress(plan, out, null, Map.of());
    }

    /**
     * {@link #compress(Plan, Path)} with codes that are there already, such as those that training has chosen. The report measures them as others.
     *
     * @param codes by name of the weight, in the form that the plan has; of weights that are left out, the plan's methods make them
     * @throws IllegalArgumentException also if the plan makes no such codes of a weight
     */
    public Report compress(Plan plan, Path out, Map<String, Encoding.Quantized> codes) throws IOException {
        Map<String, Plan.Entry> entries = new LinkedHashMap<>();
        plan.entries().forEach(e -> entries.put(e.weight().name(), e));
        codes.forEach((name, given) -> {
            Plan.Entry e = entries.get(name);
            if (e == null || !given.form().equals(e.form().made().quantized()) || !given.shape().equals(e.weight().tensor().shape())) {
                throw new IllegalArgumentException("'" + name + "' was given " + given.form().describe() + " of " + given.shape() + ", but the plan has "
                        + (e == null ? "no such weight" : e.form().describe() + " of " + e.weight().tensor().shape()));
            }
        });
        return compress(plan, out, null, codes);
    }

    /**
     * {@link #compress(Plan, Path)}, for a {@link dev.tensorpress.model.archive.Packer} that stores what weights are decoded from.
     *
     * @param kept is given that of each weight that is written decoded, but for what an interrupted run has left of it; null if nobody wants it
     */
    public Report compress(Plan plan, Path out, KeptEncodings kept) throws IOException {
        return compress(plan, out, kept, Map.of());
    }

    private Report compress(Plan plan, Path out, KeptEncodings kept, Map<String, Encoding.Quantized> codes) throws IOException {
        enter();
        try {
            checkOwn(plan);
            return readable(plan.statistics().orElse(null), () -> written(plan, out, kept, codes));
        } finally {
            used.unlock();
        }
    }

    /**
     * What the plan makes of weights whose elements are others by then. Uses spectra and statistics of this, and has to be closed before it.
     *
     * @throws IllegalArgumentException if the plan is of another compressor
     * @throws IllegalStateException if this is closed
     */
    public Simulation simulate(Plan plan) {
        enter();
        try {
            checkOwn(plan);
            return new Simulation(plan, options, spectra);
        } finally {
            used.unlock();
        }
    }

    private void checkOwn(Plan plan) {
        if (!plan.entries().stream().map(Plan.Entry::weight).toList().equals(model(plan).weights())) {
            throw new IllegalArgumentException("the plan is not of this compressor, which has weights of its own: make one by it");
        }
    }

    /**
     * The model whose weights a plan is of: that which was opened, or what the structure of its recipe has made of it, which lives until this is closed.
     *
     * @throws IllegalArgumentException if there is none such, or no longer
     */
    public Model model(Plan plan) {
        return plan.recipe().structure().isEmpty() ? model : Optional.ofNullable(restructured.get(plan.recipe().structure()))
                .map(Restructured::model).orElseThrow(() -> new IllegalArgumentException("the plan is of a changed graph that this compressor"
                        + " does not have, or no longer: make one by it, and compress before others are made"));
    }

    private Report written(Plan plan, Path out, KeptEncodings kept, Map<String, Encoding.Quantized> codes) throws IOException {
        long start = System.nanoTime();
        checkOutput(plan, out);
        Map<String, String> provenance = new LinkedHashMap<>();
        provenance.put("recipe", RecipeYaml.write(plan.recipe()));
        provenance.put("tool", Machine.version());
        provenance.put("kernels", Integer.toString(Machine.abi()));
        plan.statistics().ifPresent(statistics -> {
            provenance.put("calibration", statistics.samples() + " samples of " + statistics.source());
            if (plan.target().writesFolder()) {
                provenance.put("statistics", statistics.digest()); // else another run could go on with others
            }
        });
        if (hasFactors(plan) || plan.statistics().isPresent()) {
            provenance.put("instructionSet", Machine.tier());
            if (options.device.kind() != Device.Kind.CPU) {
                provenance.put("device", "cuda");
            }
        }
        List<Report.Entry> entries;
        Set<Path> files;
        Phases phases = new Phases();
        try (Encoder encoder = new Encoder(plan, options, spectra, phases, kept, codes)) {
            files = plan.target().write(plan.lowerings(), encoder, new Destination(out, options.overwrite, options.resume,
                    options.memory, provenance, phases));
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

    /** Whether bytes depend on what computes them: singular vectors do in their last bits, and so do codes that are chosen by sums in f64. */
    private static boolean hasFactors(Plan plan) {
        for (Plan.Entry entry : plan.entries()) {
            if (entry.form().factors() != null) {
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
        inputs.addAll(model.auxiliaryFiles());
        if (InputFiles.replacedBy(out, inputs) != null) {
            throw new IllegalArgumentException(out + " is the model itself; write to another " + (folder ? "folder" : "file"));
        }
        if (!options.overwrite) {
            throw new FileAlreadyExistsException(out.toString(), null, "exists; it is replaced only when asked to");
        }
    }

    /** Closes what recipes made of the graph, and removes it. */
    private void forget() throws IOException {
        while (!restructured.isEmpty()) {
            restructured.pollFirstEntry().getValue().close();
        }
    }

    /** @throws UncheckedIOException if what was expanded of an archive, or a model on the way, cannot be removed */
    @Override
    public void close() {
        if (closed) {
            return;
        }
        model.close();
        closed = true;
        try (mount) {
            forget();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
