package dev.tensorpress.model.safetensors;

import dev.tensorpress.io.DurableFolder;
import dev.tensorpress.io.ForeignFormat;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.function.LongFunction;

/**
 * A model in safetensors: one file, or several, its shards, with an index that says which tensor is in which. Every tensor
 * is a weight, of whatever type. There is no graph: roles come from names and shapes by the customs of the libraries that
 * write such files, and can be given where these do not fit.
 *
 * <ul>
 * <li>{@code linear}: matrices named {@code weight}, [out, in]; {@code kernel}, and those of GPT-2, whose biases tell,
 *     [in, out]; stacks of experts such as {@code experts.down_proj}, with three axes, taken as [expert, in, out].
 * <li>{@code head}: {@code lm_head} and the like, [vocabulary, in].
 * <li>{@code embedding}: {@code embed_tokens}, {@code wte}, {@code word_embeddings} and the like, [rows, width].
 * <li>{@code conv}: weights with four or five axes, with three in a module called so; taken as [out, in, ...], which transposed
 *     ones are not.
 * <li>{@code recurrent}: {@code weight_ih} and {@code weight_hh}, [gates, in].
 * <li>{@code norm}: vectors named {@code weight}, biases beside these, and what modules called so hold; {@code bias}: other
 *     biases.
 * </ul>
 *
 * <p>Opening reads headers, index and {@code config.json}, and checks them against each other and the sizes of the files; data
 * are not touched. What happens to files that become shorter afterwards is said at {@link Safetensors}.
 */
public final class SafetensorsModel implements Model {
    static final String FORMAT = "safetensors";

    private static final String SUFFIX = ".safetensors";
    private static final String USUAL = "model.safetensors";
    private static final String ONNX = ".onnx";
    /** Names, and letters of a value, that properties show. */
    private static final int SHOWN = 8;
    private static final int LONGEST_SHOWN = 100;

    private final Path path;
    /** Null if there is one file without. */
    private final Index index;
    private final Path configuration;
    private final Config config;
    private final List<Safetensors> shards;
    private final AuxiliaryFiles auxiliary;
    private final List<Weight> weights;
    private final Map<String, Safetensors> byFile = new HashMap<>();
    private final Weight tied;
    private final InputFiles inputs;

    private SafetensorsModel(Path path, Path folder, Index index, List<Safetensors> shards, Map<String, Role> roles,
            InputFiles inputs) throws IOException {
        this.path = path;
        this.inputs = inputs;
        this.index = index;
        this.shards = shards;
        for (Safetensors s : shards) {
            byFile.put(name(s), s);
        }
        if (index != null) {
            check();
        }
        this.auxiliary = folder == null ? new AuxiliaryFiles() : new AuxiliaryFiles(folder, files(), inputs);
        Path file = folder == null ? null : folder.resolve(Config.NAME);
        this.configuration = file != null && Files.exists(file) ? file : null;
        if (configuration != null) {
            inputs.addFound(configuration);
        }
        this.config = configuration == null ? new Config() : Config.read(configuration);
        this.weights = new ArrayList<>();
        Roles kinds = new Roles(shards, this::find, roles);
        for (Safetensors s : shards) {
            for (Safetensors.Entry e : s.inOrder()) {
                Roles.RoleAxes k = kinds.of(e.name(), e.shape());
                weights.add(new Weight(e.name(), k.role(), s.tensor(e), k.in(), k.out(), List.of(), Optional.empty()));
            }
        }
        if (!kinds.unused().isEmpty()) {
            throw new UnsupportedRequestException("a role is given to '" + kinds.unused().iterator().next()
                    + "', which no tensor of " + path + " has for a name, or an earlier pattern takes");
        }
        this.tied = findTied();
    }

    /** {@link #open(Path, Map, boolean)} without links. */
    public static SafetensorsModel open(Path path, Map<String, Role> roles) throws IOException {
        return open(path, roles, false);
    }

    /**
     * Opens a model. The caller closes it.
     *
     * @param path a file; an index, named {@code *.safetensors.index.json}; or a folder with {@code model.safetensors.index.json},
     *     or with {@code model.safetensors} beside none but {@code consolidated*.safetensors}, or with just one {@code
     *     *.safetensors}. The index names files in its own folder. {@code config.json} is read unless {@code path} is a file.
     * @param roles by glob over names of tensors ({@code *} is any text, {@code ?} one character), in order: the first that
     *     fits a name counts, before what name and shape say
     * @param allowLinks whether links in the folder may lead out of it; in the cache of a model hub, where they lead to its
     *     {@code blobs}, they always may
     * @throws MalformedModelException if a file is not what it should be, or index and files contradict each other
     * @throws UnsupportedRequestException if a link is not followed; if a glob fits no name, a role cannot be that of a tensor for its shape, or this JVM cannot handle the name of a file
     * @throws IOException if a file cannot be read
     */
    public static SafetensorsModel open(Path path, Map<String, Role> roles, boolean allowLinks) throws IOException {
        if (!Files.exists(path)) {
            throw new NoSuchFileException(path.toString());
        }
        Path folder = null;
        Path file = path;
        if (Files.isDirectory(path)) {
            folder = path;
            file = only(path);
        } else if (isIndex(path)) {
            folder = path.toAbsolutePath().getParent();
        }
        List<Safetensors> shards = new ArrayList<>();
        InputFiles inputs = folder == null ? new InputFiles() : new InputFiles(folder, allowLinks);
        try {
            if (file == path) {
                inputs.add(file);
            } else {
                inputs.addFound(file);
            }
            Index index = isIndex(file) ? Index.read(file) : null;
            if (index == null) {
                shards.add(Safetensors.open(file));
            } else {
                open(index, file, shards, inputs);
            }
            return new SafetensorsModel(path, folder, index, shards, roles, inputs);
        } catch (IOException | RuntimeException | Error e) {
            for (Safetensors s : shards) {
                s.close();
            }
            throw e;
        }
    }

    /** True if a file has a name that files of this format, or their indexes, have. */
    public static boolean isNamedSo(Path path) {
        return isIndex(path) || path.getFileName() != null && path.getFileName().toString().endsWith(SUFFIX);
    }

    /** True if {@link #open} would look for a model in a folder: the path is one, or the name of an index. */
    public static boolean isFolder(Path path) {
        return Files.isDirectory(path) || isIndex(path);
    }

    private static boolean isIndex(Path path) {
        return path.getFileName() != null && path.getFileName().toString().endsWith(Index.SUFFIX);
    }

    /** The index of a folder, or the only file. */
    private static Path only(Path folder) throws IOException {
        Path index = folder.resolve(Index.NAME);
        if (Files.exists(index)) {
            return index;
        }
        List<Path> found = new ArrayList<>();
        for (Path p : AuxiliaryFiles.list(folder)) {
            if (p.getFileName().toString().endsWith(SUFFIX) && Files.isRegularFile(p)) {
                found.add(p);
            }
        }
        if (found.isEmpty()) {
            checkOthers(folder);
        }
        Path usual = folder.resolve(USUAL);
        if (found.contains(usual) && found.stream().allMatch(p -> p.equals(usual) || isConsolidated(p.getFileName().toString()))) {
            return usual;
        }
        if (found.size() != 1) {
            throw new MalformedModelException(folder, -1, "expected a folder with a model: " + Index.NAME
                    + ", or just one file *.safetensors; there "
                    + (found.isEmpty() ? "is none" : "are " + found.size() + " without it: name one of them"));
        }
        return found.getFirst();
    }

    /** The same weights by the names of their authors, as Mistral's models have them beside those of the usual libraries. */
    private static boolean isConsolidated(String name) {
        return name.startsWith("consolidated") && name.endsWith(SUFFIX);
    }

    /** Files with the same weights by other names, which are not read. */
    public List<String> consolidated() {
        return auxiliary.weights().stream().filter(SafetensorsModel::isConsolidated).toList();
    }

    /** @throws UnsupportedRequestException if there is a model in another format */
    private static void checkOthers(Path folder) throws IOException {
        for (Path p : AuxiliaryFiles.list(folder)) {
            if (AuxiliaryFiles.holdsWeights(p.getFileName().toString()) && InputFiles.isFile(p) && InputFiles.astray(folder, p) == null) {
                if (p.toString().endsWith(ONNX)) {
                    throw new UnsupportedRequestException(folder + " holds no model in safetensors; name the file " + p);
                }
                ForeignFormat.check(p);
            }
        }
    }

    private static void open(Index index, Path file, List<Safetensors> shards, InputFiles inputs) throws IOException {
        Map<String, String> first = new TreeMap<>();
        for (Map.Entry<String, Index.Place> e : index.tensors.entrySet()) {
            first.putIfAbsent(e.getValue().shard(), e.getKey());
        }
        for (Map.Entry<String, String> e : first.entrySet()) {
            Path shard = InputFiles.resolve(file.resolveSibling(""), e.getKey());
            if (!Files.exists(shard)) {
                throw index.bad(index.tensors.get(e.getValue()).at(), "tensor '" + e.getValue() + "' is in '" + e.getKey()
                        + "', which does not exist");
            }
            inputs.addFound(shard);
            shards.add(Safetensors.open(shard));
        }
    }

    /** Compares what the index and the shards say. */
    private void check() {
        long found = 0;
        for (Safetensors s : shards) {
            String name = name(s);
            for (Safetensors.Entry e : s.tensors().values()) {
                Index.Place place = index.tensors.get(e.name());
                if (place == null) {
                    throw s.bad(e.described(), "tensor '" + e.name() + "' is not in the index " + index.path);
                }
                if (!place.shard().equals(name)) {
                    boolean both = byFile.get(place.shard()).tensors().containsKey(e.name());
                    throw s.bad(e.described(), "tensor '" + e.name() + "' is " + (both ? "here and in " : "here, but the index has"
                            + " it in ") + place.shard());
                }
                found++;
            }
        }
        // Each of them was in the one shard where the index has it.
        if (found < index.tensors.size()) {
            for (Map.Entry<String, Index.Place> e : index.tensors.entrySet()) {
                if (find(e.getKey()) == null) {
                    throw index.bad(e.getValue().at(), "tensor '" + e.getKey() + "' is not in " + e.getValue().shard()
                            + ", where the index has it");
                }
            }
        }
    }

    /** Null if there is no such tensor. */
    private Safetensors.Entry find(String name) {
        Safetensors s = holder(name);
        return s == null ? null : s.tensors().get(name);
    }

    /** The file with a tensor of this name, if any has one; null if the index has none. */
    private Safetensors holder(String name) {
        if (index == null) {
            return shards.getFirst();
        }
        Index.Place place = index.tensors.get(name);
        return place == null ? null : byFile.get(place.shard());
    }

    private static String name(Safetensors s) {
        return s.path().getFileName().toString();
    }

    /** By the files' names. */
    public List<Safetensors> shards() {
        return shards;
    }

    private Weight findTied() {
        Weight words = null;
        boolean head = false;
        for (Weight w : weights) {
            head |= w.role() == Role.HEAD;
            if (w.role() == Role.EMBEDDING && Roles.isTokenEmbedding(w.name())
                    && (words == null || w.tensor().shape().elements() > words.tensor().shape().elements())) {
                words = w;
            }
        }
        return config.tied == null ? head ? null : words : config.tied ? words : null;
    }

    @Override
    public Path path() {
        return path;
    }

    /** {@inheritDoc} First the index, if there is one, then the files with weights by name. */
    @Override
    public List<Path> files() {
        List<Path> all = new ArrayList<>();
        if (index != null) {
            all.add(index.path);
        }
        for (Safetensors s : shards) {
            all.add(s.path());
        }
        return all;
    }

    /**
     * {@inheritDoc}
     *
     * <p>All files of the folder and of folders in it but the model's own, hidden ones, and weights in this or other formats with
     * the folders that hold them; what {@code modules.json} names belongs to the model with its weights. By name. None if the
     * model was opened by its only file.
     */
    @Override
    public List<Path> auxiliaryFiles() {
        return auxiliary.files();
    }

    /** The name of an auxiliary file from the folder on, with slashes. */
    public String name(Path file) {
        return auxiliary.name(file);
    }

    /** What a folder that is made of this model is made from. */
    @SuppressWarnings("exports") // for the formats of this module
    public DurableFolder.Source source() {
        Map<Path, Long> hashed = new LinkedHashMap<>();
        if (index != null) {
            hashed.put(index.path, index.bytes());
        }
        for (Safetensors s : shards) {
            hashed.put(s.path(), s.headerLength());
        }
        Map<String, Path> others = new LinkedHashMap<>();
        for (Path p : auxiliary.files()) {
            if (name(p).equals(Config.NAME)) {
                hashed.put(p, inputs.stamp(p).size());
            } else {
                others.put(name(p), p);
            }
        }
        return new DurableFolder.Source(hashed, others, inputs);
    }

    @Override
    public long bytes() {
        long sum = index == null ? 0 : index.bytes();
        for (Safetensors s : shards) {
            sum += s.bytes();
        }
        return sum;
    }

    /** {@inheritDoc} Of several files, by the files' names. */
    @Override
    public List<Weight> weights() {
        return Collections.unmodifiableList(weights);
    }

    /**
     * The file that holds a weight.
     *
     * @throws IllegalArgumentException if it is not one of this model
     */
    @Override
    public Optional<Path> file(Weight weight) {
        return Optional.of(shard(weight).path());
    }

    public Safetensors shard(Weight weight) {
        Safetensors s = holder(weight.name());
        if (s == null || !s.tensors().containsKey(weight.name())) {
            throw new IllegalArgumentException("'" + weight.name() + "' is not a weight of " + path);
        }
        return s;
    }

    /** Where a weight is in its file. */
    public Safetensors.Entry entry(Weight weight) {
        return shard(weight).entry(weight.name());
    }

    @Override
    public List<Array> arrays() {
        List<Array> all = new ArrayList<>();
        for (Safetensors s : shards) {
            for (Safetensors.Entry e : s.inOrder()) {
                if (e.length() > 0) {
                    all.add(new Array(e.name(), s.path(), e.start(), e.dtype(), e.shape()));
                }
            }
        }
        return all;
    }

    @Override
    public Weight load(Weight weight, LongFunction<MemorySegment> memory) throws IOException {
        Safetensors.Entry e = entry(weight);
        MemorySegment to = memory.apply(e.length());
        shard(weight).read(e, to);
        return weight.over(new Tensor(e.dtype(), e.shape(), to));
    }

    @Override
    public long loadedBytes(Weight weight) {
        return entry(weight).length();
    }

    /** True if a tensor has this name. */
    public boolean has(String name) {
        return index == null ? shards.getFirst().tensors().containsKey(name) : index.tensors.containsKey(name);
    }

    /** The configuration, which was read when the model was opened; null if there is none. */
    public Path configuration() {
        return configuration;
    }

    /**
     * The token embedding, if it is the head as well: if {@code config.json} says so, or says nothing and no tensor is a head.
     * The latter does not prove that the model has a head at all.
     */
    public Optional<Weight> tied() {
        return Optional.ofNullable(tied);
    }

    @Override
    public Map<String, String> properties() {
        Map<String, String> m = new LinkedHashMap<>();
        if (config.architecture != null) {
            m.put("architecture", config.architecture + (config.modelType == null ? "" : " (" + config.modelType + ")"));
        } else if (config.modelType != null) {
            m.put("model type", config.modelType);
        }
        if (config.quantization != null) {
            m.put("compressed already", config.quantization);
        }
        int[] count = new int[DType.values().length];
        long[] bytes = new long[count.length];
        long total = 0;
        for (Weight w : weights) {
            int t = w.tensor().dtype().ordinal();
            count[t]++;
            bytes[t] += w.tensor().bytes();
            total += w.tensor().bytes();
        }
        for (DType t : DType.values()) {
            if (count[t.ordinal()] > 0) {
                m.put(t.name().toLowerCase(Locale.ROOT), count[t.ordinal()] + " tensors, " + bytes[t.ordinal()] + " bytes");
            }
        }
        if (tied != null) {
            m.put("head", config.tied != null ? "tied to " + tied.name() : "none stored; if the model has one, it is tied to "
                    + tied.name());
        }
        if (index != null) {
            m.put("shards", Integer.toString(shards.size()));
            if (index.totalSize() >= 0 && index.totalSize() != total) {
                m.put("total_size", index.totalSize() + " in the index, " + total + " in the shards");
            }
        }
        for (Safetensors s : shards) {
            for (Map.Entry<String, String> e : s.metadata().entrySet()) {
                String v = e.getValue();
                m.putIfAbsent("metadata " + e.getKey(), v.length() <= LONGEST_SHOWN ? v : v.length() + " characters");
            }
        }
        show(m, "other files", auxiliary.names());
        show(m, "other weights, not read", auxiliary.weights());
        show(m, "left out", auxiliary.leftOut());
        return m;
    }

    private static void show(Map<String, String> m, String key, List<String> names) {
        if (!names.isEmpty()) {
            m.put(key, String.join(", ", names.subList(0, Math.min(SHOWN, names.size())))
                    + (names.size() > SHOWN ? " and " + (names.size() - SHOWN) + " more" : ""));
        }
    }

    /** The method by which {@code config.json} says that the model is compressed already. */
    public Optional<String> quantization() {
        return Optional.ofNullable(config.quantization);
    }

    @Override
    public void close() {
        for (Safetensors s : shards) {
            s.close();
        }
    }
}
