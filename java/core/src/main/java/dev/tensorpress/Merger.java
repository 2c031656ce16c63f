package dev.tensorpress;

import dev.tensorpress.io.InputFiles;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Machine;
import dev.tensorpress.kernel.Merge;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Lowering;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Phases;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnknownNameException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.archive.Mount;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.function.ObjLongConsumer;

/**
 * Merges models of one shape into one: those with the same weights, of the same shapes and types, and, where the format has one, the same
 * graph. Of everything else the first model's is taken.
 *
 * <pre>{@code
 * try (Merger merger = Merger.open(List.of(a, b), base, Merger.Options.DEFAULT)) {
 *     Merger.Report report = merger.merge(Merger.Settings.of(Merger.Method.TIES).density(0.2), Path.of("merged"));
 * }
 * }</pre>
 *
 * <p>Weights of f32, f16 and bf16 are merged, element by element: in f64, in the order of the models, rounded to f32 and then to the weight's
 * type. What comes out does not depend on threads, memory or processor. An element that all models (and the base) have alike stays what
 * it is, but for {@link Method#SLERP}, which looks at whole weights.
 *
 * <p>Models are read and written in pieces; memory is bounded by {@link Options#memory} as far as single rows allow. One thread uses a
 * merger at a time.
 */
public final class Merger implements AutoCloseable {
    /** Differing weights that a message names. */
    private static final int NAMED = 5;

    private final Formats.Entry format;
    private final List<Mount> mounts;
    private final List<Model> models;
    /** Paths as they were given, in the same order. */
    private final List<Path> paths;
    private final boolean based;
    private final Options options;
    private final List<String> notes = new ArrayList<>();
    private boolean closed;

    /**
     * How weights are merged. With a base, which the last four need, t<sub>j</sub> is what model j has more than the base, w<sub>j</sub> its weight,
     * and s the scale.
     */
    public enum Method {
        /** The mean, weighted: a model soup (Wortsman et al. 2022). Weights are not negative, and are divided by their sum. */
        MEAN(false),
        /**
         * Of two models a and b the point of the way from one to the other on a sphere (Shoemake 1985): (sin((1-t)o) a + sin(t o) b) / sin(o), where o is
         * the angle between the two as vectors of all elements of a weight, and t the second weight by the sum of both. Where the cosine of the angle
         * is more than 0.9995 or less than -0.9995, or one of them is 0 or holds an infinity, the mean.
         */
        SLERP(false),
        /** base + s (w<sub>1</sub> t<sub>1</sub> + ...): task arithmetic (Ilharco et al. 2023). Weights may be negative. */
        TASK_ARITHMETIC(true),
        /**
         * TIES (Yadav et al. 2023). Of each t<sub>j</sub> the elements of largest magnitude stay, as large a part of each weight as the density says, and
         * all that are as large as the least of these; others become 0. The sign of an element is that of the sum of w<sub>j</sub> t<sub>j</sub>,
         * where 0 counts as positive. base + s m, where m is the mean, weighted by w<sub>j</sub>, of those t<sub>j</sub> that have this sign.
         */
        TIES(true),
        /**
         * DARE (Yu et al. 2024) and task arithmetic. Of each t<sub>j</sub> an element stays with the probability of the density, and is divided by
         * that; others become 0. Which stay depends on seed, name of the weight, number of the model and position alone.
         */
        DARE_LINEAR(true),
        /** DARE, then sign and mean as in {@link #TIES}. */
        DARE_TIES(true);

        private final boolean based;

        Method(boolean based) {
            this.based = based;
        }

        /** As in options: {@code task-arithmetic}. */
        public String id() {
            return name().toLowerCase(Locale.ROOT).replace('_', '-');
        }

        /** Whether it needs a base; if not, it takes none. */
        public boolean based() {
            return based;
        }

        /** Whether it drops differences, so that the density counts. */
        public boolean drops() {
            return this == TIES || random();
        }

        /** Whether it drops them at random, so that the seed counts. */
        public boolean random() {
            return this == DARE_LINEAR || this == DARE_TIES;
        }

        /** Whether signs are elected. */
        boolean elects() {
            return this == TIES || this == DARE_TIES;
        }

        /**
         * The method of this name, with hyphens or underscores.
         *
         * @throws UnknownNameException if there is none
         */
        public static Method of(String id) {
            List<String> ids = new ArrayList<>();
            for (Method m : values()) {
                if (m.id().equals(id.replace('_', '-'))) {
                    return m;
                }
                ids.add(m.id());
            }
            throw new UnknownNameException("no method '" + id + "' merges models", id, ids);
        }
    }

    /**
     * What is asked for.
     *
     * @param weights one for each model, finite, as is the sum of their magnitudes; empty for 1 each. Not negative, and not all 0, but for {@link Method#TASK_ARITHMETIC} and
     *     {@link Method#DARE_LINEAR}
     * @param density above 0 and at most 1: of {@link Method#TIES} the part of elements, of DARE the probability, that stays
     * @param scale of what is added to the base, finite; of methods with one
     * @param seed of the noise of DARE
     * @param excludes globs of weights, or of nodes that use them, that stay as they are in the first model
     */
    public record Settings(Method method, List<Double> weights, double density, double scale, long seed, List<String> excludes) {
        /** The density of those who name none. */
        public static final double DENSITY = 0.2;

        /** @throws IllegalArgumentException if a number is out of range */
        public Settings {
            weights = List.copyOf(weights);
            excludes = List.copyOf(excludes);
            double sum = 0;
            for (double w : weights) {
                boolean negative = method == Method.TASK_ARITHMETIC || method == Method.DARE_LINEAR;
                if (!Double.isFinite(w) || w < 0 && !negative) {
                    throw new IllegalArgumentException("weights of " + method.id() + " must be finite" + (negative ? "" : ", and not negative")
                            + ", but one is " + w);
                }
                sum += Math.abs(w);
            }
            if (!Double.isFinite(sum)) {
                throw new IllegalArgumentException("the weights add up to more than a double can hold");
            }
            if (!weights.isEmpty() && sum == 0) {
                throw new IllegalArgumentException("all weights are 0");
            }
            if (!(density > 0 && density <= 1)) {
                throw new IllegalArgumentException("the density must be above 0 and at most 1, but is " + density);
            }
            if (!Double.isFinite(scale)) {
                throw new IllegalArgumentException("the scale must be finite, but is " + scale);
            }
        }

        /** With weights of 1, a density of {@value #DENSITY}, a scale of 1 and seed 0. */
        public static Settings of(Method method) {
            return new Settings(method, List.of(), DENSITY, 1, 0, List.of());
        }

        public Settings weights(List<Double> weights) {
            return new Settings(method, weights, density, scale, seed, excludes);
        }

        public Settings density(double density) {
            return new Settings(method, weights, density, scale, seed, excludes);
        }

        public Settings scale(double scale) {
            return new Settings(method, weights, density, scale, seed, excludes);
        }

        public Settings seed(long seed) {
            return new Settings(method, weights, density, scale, seed, excludes);
        }

        /** With these globs, and no others. */
        public Settings excludes(List<String> excludes) {
            return new Settings(method, weights, density, scale, seed, excludes);
        }

        /** What shows in the result, in one line. */
        String describe() {
            return method.id() + (weights.isEmpty() ? "" : " weights=" + weights) + (method.drops() ? " density=" + density : "")
                    + (method.based ? " scale=" + scale : "") + (method.random() ? " seed=" + seed : "")
                    + (excludes.isEmpty() ? "" : " exclude=" + excludes);
        }
    }

    /**
     * @param threads that kernels spread over; 0 for all processors
     * @param allowLinks links in the folders of models may lead out of them
     * @param overwrite an existing output may be replaced
     * @param resume what an interrupted run left is used; for models that are written as folders
     * @param memory bytes of buffers and working memory at most, as far as single rows allow
     * @param target options of the format's first target that say how files are written, such as {@code shard-size}
     * @param progress told of a weight, and how many bytes of the merged model are made; or null
     */
    public record Options(int threads, boolean allowLinks, boolean overwrite, boolean resume, long memory, Map<String, String> target,
            ObjLongConsumer<String> progress) {
        public static final Options DEFAULT = new Options(0, false, false, false, Destination.DEFAULT_MEMORY, Map.of(), null);

        public Options {
            target = Map.copyOf(target);
            Executor.checkThreads(threads);
            Destination.checkMemory(memory);
        }
    }

    /**
     * What was done.
     *
     * @param files that hold the model
     * @param merged weights that were, those that are alike in all models included
     * @param alike weights that are alike in all models, and the base; of those that a resumed run has merged itself
     * @param kept weights of other types, which are the first model's
     * @param excluded weights that stay as they are in the first model since it was asked for
     * @param notes what to know, a sentence each, without full stops
     */
    public record Report(Settings settings, Path output, List<Path> files, int merged, int alike, int kept, int excluded, List<String> notes, long bytes,
            long nanos, Map<Phases.Phase, Phases.Spent> phases) {
        public Report {
            files = List.copyOf(files);
            notes = List.copyOf(notes);
            phases = Map.copyOf(phases);
        }

        /** As JSON; {@code docs/merging.md} lists the fields. */
        public String toJson() {
            return Json.merged(this);
        }
    }

    private Merger(Formats.Entry format, List<Mount> mounts, List<Model> models, List<Path> paths, boolean based, Options options) {
        this.format = format;
        this.mounts = mounts;
        this.models = models;
        this.paths = paths;
        this.based = based;
        this.options = options;
    }

    /**
     * Opens models, and compares all but the elements of their weights. An archive counts as what it holds, which is expanded into a temporary
     * folder until this is closed.
     *
     * @param models at least one, at most {@value dev.tensorpress.kernel.Merge#MOST}
     * @param base null if there is none
     * @throws dev.tensorpress.model.MalformedModelException if one is not a model, or a damaged one
     * @throws UnsupportedRequestException if they are of different formats, or differ in weights, shapes, types or graphs; the first few
     *     that differ are named
     * @throws IOException if one cannot be read
     */
    public static Merger open(List<Path> models, Path base, Options options) throws IOException {
        if (models.isEmpty() || models.size() > Merge.MOST) {
            throw new IllegalArgumentException("from 1 to " + Merge.MOST + " models can be merged, not " + models.size());
        }
        List<Path> paths = new ArrayList<>(models);
        if (base != null) {
            paths.add(base);
        }
        List<Mount> mounts = new ArrayList<>();
        List<Model> opened = new ArrayList<>();
        try {
            Formats.Entry first = null;
            for (Path path : paths) {
                Mount mount = Mount.of(path);
                mounts.add(mount);
                Formats.Entry entry = Formats.of(mount.model());
                first = first == null ? entry : first;
                if (entry != first) {
                    throw new UnsupportedRequestException(path + " is a model in " + entry.format().displayName() + ", and " + paths.getFirst()
                            + " one in " + first.format().displayName());
                }
                opened.add(entry.format().open(mount.model(), Map.of(), options.allowLinks));
            }
            Merger merger = new Merger(first, mounts, opened, paths, base != null, options);
            for (int i = 1; i < opened.size(); i++) {
                merger.compare(i);
            }
            return merger;
        } catch (IOException | RuntimeException | Error e) {
            opened.forEach(Model::close);
            for (Mount mount : mounts) {
                mount.close();
            }
            throw e;
        }
    }

    private void compare(int i) throws IOException {
        Model a = models.getFirst();
        Model b = models.get(i);
        List<String> differences = new ArrayList<>();
        Map<String, Weight> others = new LinkedHashMap<>();
        b.weights().forEach(w -> others.put(w.name(), w));
        for (Weight w : a.weights()) {
            Weight other = others.remove(w.name());
            if (other == null) {
                differences.add(w.name() + " is missing there");
            } else if (!shape(w).equals(shape(other))) {
                differences.add(w.name() + " is " + shape(other) + " there and " + shape(w) + " here");
            }
        }
        others.keySet().forEach(name -> differences.add(name + " is there alone"));
        if (!differences.isEmpty()) {
            int more = differences.size() - NAMED;
            throw new UnsupportedRequestException(paths.get(i) + " is not of the same shape as " + paths.getFirst() + ": "
                    + String.join("; ", differences.subList(0, Math.min(NAMED, differences.size())))
                    + (more > 0 ? "; and " + more + " more differ" : ""));
        }
        a.difference(b).ifPresent(what -> {
            throw new UnsupportedRequestException("the weights of " + paths.get(i) + " have the same names and shapes as those of " + paths.getFirst()
                    + ", but the graphs differ, first in " + what);
        });
        compareFiles(i);
    }

    private static String shape(Weight w) {
        return w.tensor().dtype().name().toLowerCase(Locale.ROOT) + " " + w.tensor().shape();
    }

    /** Configurations and tokenizers, which are no reason to refuse. */
    private void compareFiles(int i) throws IOException {
        Map<String, Path> others = files(models.get(i));
        List<String> differing = new ArrayList<>();
        for (Map.Entry<String, Path> e : files(models.getFirst()).entrySet()) {
            Path other = others.remove(e.getKey());
            if (other == null || Files.mismatch(e.getValue(), other) >= 0) {
                differing.add(e.getKey());
            }
        }
        differing.addAll(others.keySet());
        if (!differing.isEmpty()) {
            notes.add(String.join(", ", differing.subList(0, Math.min(NAMED, differing.size())))
                    + (differing.size() > NAMED ? " and " + (differing.size() - NAMED) + " more" : "") + " of " + paths.get(i) + " differ from those of "
                    + paths.getFirst() + ", whose are taken");
        }
    }

    /** Auxiliary files by name; none of a model without a folder of its own. */
    private static Map<String, Path> files(Model model) {
        Map<String, Path> all = new LinkedHashMap<>();
        Path root = model.path().toAbsolutePath().normalize();
        Path folder = Files.isDirectory(root) ? root : root.getParent();
        for (Path p : model.auxiliaryFiles()) {
            all.put(folder.relativize(p.toAbsolutePath().normalize()).toString(), p);
        }
        return all;
    }

    /** The models' format. */
    public dev.tensorpress.model.Format format() {
        return format.format();
    }

    /** The models, the base last if there is one. */
    public List<Model> models() {
        return models;
    }

    /** Whether {@link #merge} writes a folder; else it writes a file, and perhaps one beside it. */
    public boolean writesFolder() {
        return target().writesFolder();
    }

    private Target target() {
        return format.target(models.getFirst(), "", options.target);
    }

    /** Bytes of the first model, as many as the result has but for its headers. */
    public long bytes() {
        return models.getFirst().bytes();
    }

    /**
     * Writes the merged model, whole or not at all.
     *
     * @param out a file, or, for models in safetensors, a folder
     * @throws UnsupportedRequestException if what an interrupted run left is of other models or settings; if the method needs a base or takes none, if the weights are not as many as the models, if it is for two
     *     models and there are not two; if weights differ of a type that cannot be merged; or if what comes out is no finite number
     * @throws IllegalArgumentException if {@code out} is one of the models, or around one
     * @throws FileAlreadyExistsException if {@code out} exists and {@link Options#overwrite} is not set
     * @throws dev.tensorpress.method.NonFiniteWeightException if a weight holds NaN, or an infinity that not all models have there; with the
     *     model's name
     * @throws IOException if reading or writing fails; an older output is then as it was
     */
    public Report merge(Settings settings, Path out) throws IOException {
        if (closed) {
            throw new IllegalStateException("the merger is closed");
        }
        long start = System.nanoTime();
        int n = models.size() - (based ? 1 : 0);
        check(settings, n);
        InputFiles inputs = new InputFiles();
        List<Path> all = new ArrayList<>();
        for (Model model : models) {
            all.addAll(model.files());
            all.addAll(model.auxiliaryFiles());
            for (Path file : model.files()) {
                inputs.add(file);
            }
        }
        Map<String, String> others = new LinkedHashMap<>();
        for (int i = 1; i < models.size(); i++) {
            for (Path file : models.get(i).files()) {
                others.put("model " + (i + 1) + ", " + file.getFileName(), inputs.stamp(file).toString());
            }
        }
        Path taken = InputFiles.replacedBy(out, all);
        if (taken != null) {
            throw new IllegalArgumentException("the output " + out + " would take the place of " + taken + ", which is read; write elsewhere");
        }
        Target target = target();
        if (Files.exists(out)) {
            if (Files.isDirectory(out) && !target.writesFolder()) {
                throw new IllegalArgumentException(out + " is a folder; name a file in it");
            }
            if (!options.overwrite) {
                throw new FileAlreadyExistsException(out.toString(), null, "exists; it is replaced only when asked to");
            }
        }
        List<String> told = new ArrayList<>(notes);
        Phases phases = new Phases();
        Map<String, String> provenance = new LinkedHashMap<>();
        provenance.put("merge", settings.describe());
        provenance.put("tool", Machine.version());
        provenance.put("kernels", Integer.toString(Machine.abi()));
        Map<Weight, Lowering> lowerings = new LinkedHashMap<>();
        try (MergeEncoder encoder = new MergeEncoder(settings, models, paths, based, inputs, options, phases)) {
            int kept = 0;
            int differing = 0;
            int excluded = 0;
            for (Weight w : models.getFirst().weights()) {
                if (Selector.anyMatches(settings.excludes, w)) {
                    excluded++;
                    continue;
                }
                DType type = w.tensor().dtype();
                if (type.compressible() && w.tensor().shape().elements() > 0) {
                    try {
                        lowerings.put(w, target.replaced(w));
                        continue;
                    } catch (UnsupportedRequestException e) {
                        // Where it does not differ it may stay.
                    }
                }
                kept++;
                if (!encoder.alike(w)) {
                    differing++;
                    if (!whole(type)) {
                        throw new UnsupportedRequestException("weight " + w.name() + " differs between the models, and is of type "
                                + type.name().toLowerCase(Locale.ROOT) + (type.compressible() ? ", but sparse" : "") + ": f32, f16 and bf16 that are not"
                                + " sparse can be merged");
                    }
                }
            }
            if (differing > 0) {
                told.add(differing + " of the tensors of integers differ between the models; those of " + paths.getFirst() + " are taken");
            }
            Set<Path> files = target.write(lowerings, encoder, new Destination(out, options.overwrite, options.resume, options.memory, provenance, others,
                    phases));
            long bytes = 0;
            for (Path file : files) {
                bytes += Files.size(file);
            }
            Map<Phases.Phase, Phases.Spent> spent = new LinkedHashMap<>();
            for (Phases.Phase phase : Phases.Phase.values()) {
                spent.put(phase, phases.of(phase));
            }
            return new Report(settings, out, List.copyOf(files), lowerings.size(), encoder.alike(), kept, excluded, told, bytes, System.nanoTime() - start, spent);
        }
    }

    /** Whether its values are whole numbers. */
    private static boolean whole(DType type) {
        return type.signed() || type == DType.BOOL || type == DType.U64 || type == DType.U32 || type == DType.U16 || type == DType.U8 || type == DType.U4;
    }

    private void check(Settings settings, int n) {
        Method method = settings.method;
        if (method.based && !based) {
            throw new UnsupportedRequestException("method " + method.id() + " merges what models differ from a base, and none is given");
        }
        if (!method.based && based) {
            throw new UnsupportedRequestException("method " + method.id() + " takes no base");
        }
        if (method == Method.SLERP && n != 2) {
            throw new UnsupportedRequestException("method slerp merges two models, not " + n);
        }
        if (!settings.weights.isEmpty() && settings.weights.size() != n) {
            throw new UnsupportedRequestException(settings.weights.size() + " weights for " + n + " models");
        }
    }

    /** @throws UncheckedIOException if what was expanded of an archive cannot be removed */
    @Override
    public void close() {
        if (closed) {
            return;
        }
        closed = true;
        models.forEach(Model::close);
        try {
            for (Mount mount : mounts) {
                mount.close();
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
