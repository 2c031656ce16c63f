package dev.tensorpress.statistics;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_DOUBLE_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_LONG_UNALIGNED;

import dev.tensorpress.io.DurableFile;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.kernel.Sha256;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.Graph.Window;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.gguf.ImportanceMatrix;
import dev.tensorpress.model.gguf.Names;
import dev.tensorpress.model.safetensors.Safetensors;
import dev.tensorpress.model.safetensors.SafetensorsWriter;
import dev.tensorpress.model.safetensors.SafetensorsWriter.Item;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.Set;

/**
 * What a model's values are like. It is made by a {@link Gatherer}, and kept in files of safetensors, which {@code docs/calibration.md}
 * describes. Closing it frees Gram matrices, or lets go of their file.
 */
public final class Statistics implements AutoCloseable {
    private static final String FORMAT = "tensorpress.statistics";
    private static final String VERSION = "1";
    private static final int READ_AT_ONCE = 4 << 20;
    /** Rows and columns of a matrix that are looked at together. */
    private static final int TILE = 64;

    private final String model;
    /** What Gram matrices are in: memory, or mapped files. */
    private final List<Runnable> held = new ArrayList<>();
    /** Those files. */
    private InputFiles files = new InputFiles();
    private boolean closed;
    private long samples;
    private String source;
    private final Map<Key, ValueStatistics> values = new LinkedHashMap<>();
    /** The first of each value without a window: models have thousands of values, and of each it is asked. */
    private final Map<Place, Key> first = new HashMap<>();
    private List<String> unused = List.of();

    /** What statistics are told apart by. */
    private record Key(String path, String name, OptionalInt axis, Optional<Window> window) {
        static Key of(ValueStatistics v) {
            return new Key(v.path(), v.name(), v.axis(), v.window());
        }
    }

    /** A value of a model. */
    private record Place(String path, String name) {}

    /** @param close what Gram matrices are in */
    Statistics(String model, long samples, String source, List<ValueStatistics> values, Runnable close) {
        this.model = model;
        this.samples = samples;
        this.source = source;
        this.held.add(close);
        values.forEach(v -> put(Key.of(v), v));
    }

    private void put(Key key, ValueStatistics v) {
        values.put(key, v);
        if (key.window.isEmpty()) {
            first.putIfAbsent(new Place(key.path, key.name), key);
        }
    }

    /** SHA-256 of the files of a model, one after the other. */
    public static String hash(Model model) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            Sha256 hash = new Sha256(arena);
            MemorySegment piece = arena.allocate(READ_AT_ONCE);
            ByteBuffer buffer = piece.asByteBuffer();
            for (Path file : model.files()) {
                try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
                    while (channel.read(buffer.clear()) >= 0) {
                        hash.update(piece.asSlice(0, buffer.position()));
                    }
                }
            }
            return hash.finish();
        }
    }

    /** {@link #hash} of the model; empty if it is not known of which one these are. */
    public String model() {
        return model;
    }

    /** How often the model ran. */
    public long samples() {
        return samples;
    }

    /** What it ran on, in words. */
    public String source() {
        return source;
    }

    /** Of an importance matrix, names in it that no weight of the model has; empty of all others. */
    public List<String> unused() {
        return unused;
    }

    /** Copies of all, in the order of the requests. */
    public List<ValueStatistics> values() {
        return values.values().stream().map(ValueStatistics::copy).toList();
    }

    /** A copy of what a request asked for, if the value was shown, and was finite. It may hold less or more than is requested. */
    public Optional<ValueStatistics> of(Request request) {
        return find(request).map(ValueStatistics::copy);
    }

    /** A copy of the first of a value without a window. */
    public Optional<ValueStatistics> of(Graph.Value value) {
        return of(value.path(), value.name());
    }

    /** A copy of the first of a value without a window. */
    public Optional<ValueStatistics> of(String path, String name) {
        return find(path, name).map(ValueStatistics::copy);
    }

    /** What is not copied must not be changed. */
    Collection<ValueStatistics> all() {
        return values.values();
    }

    Optional<ValueStatistics> find(Request request) {
        return Optional.ofNullable(values.get(new Key(request.value().path(), request.value().name(), request.axis(), request.window())));
    }

    Optional<ValueStatistics> find(Graph.Value value) {
        return find(value.path(), value.name());
    }

    private Optional<ValueStatistics> find(String path, String name) {
        return Optional.ofNullable(first.get(new Place(path, name))).map(values::get);
    }

    /**
     * Returns if Gram matrices can still be read as they were.
     *
     * @throws IllegalStateException if these statistics are closed
     * @throws IOException if the file of one has changed since it was loaded, or is gone
     */
    public void checkReadable() throws IOException {
        if (closed) {
            throw new IllegalStateException("the statistics are closed");
        }
        files.check();
    }

    /** What reading behind the end of a mapped file comes to. */
    private UncheckedIOException gone(InternalError e, Statistics... of) {
        try {
            for (Statistics s : of) {
                s.files.check();
            }
        } catch (IOException changed) {
            changed.addSuppressed(e);
            return new UncheckedIOException(changed);
        }
        throw e;
    }

    /**
     * Does nothing if it is not known of which model these are.
     *
     * @throws UnsupportedRequestException if they are of another model, or of another state of it
     */
    public void check(Model of) throws IOException {
        if (model.isEmpty()) {
            return;
        }
        String hash = hash(of);
        if (!hash.equals(model)) {
            throw new UnsupportedRequestException("the statistics are not of " + of.path() + " as it is now: they are of a model with SHA-256 "
                    + model + ", its own is " + hash);
        }
    }

    /**
     * Adds what is known from other samples. Counts, least and largest elements and histograms come out as if all samples had been gathered
     * together; sums up to the rounding of f64; Gram matrices up to that of f32 over 256 rows, since rows come together in other blocks.
     *
     * @throws UnsupportedRequestException if these are of another model, or other things were asked for
     * @throws UncheckedIOException if the file of one of them has changed since it was loaded
     */
    public void add(Statistics other) {
        if (!model.equals(other.model)) {
            throw new UnsupportedRequestException("statistics of two models cannot be added: their SHA-256 are " + model + " and " + other.model);
        }
        for (ValueStatistics b : other.values.values()) {
            ValueStatistics a = values.get(Key.of(b));
            if (a == null || !alike(a, b)) {
                throw different(b);
            }
        }
        for (Map.Entry<Key, ValueStatistics> e : values.entrySet()) {
            ValueStatistics b = other.values.get(e.getKey());
            if (b == null) {
                throw different(e.getValue());
            }
        }
        Map<Key, ValueStatistics> sums = new HashMap<>();
        try {
            values.forEach((key, a) -> sums.put(key, a.plus(other.values.get(key))));
        } catch (InternalError e) {
            throw gone(e, this, other);
        }
        values.replaceAll((key, a) -> sums.get(key));
        files = new InputFiles(); // sums are in memory
        samples += other.samples;
        source = source.equals(other.source) ? source : source + ", " + other.source;
    }

    /**
     * Takes over what is known of other values, and with it their memory: closing {@code other} does nothing from then on.
     *
     * @param other of the same samples
     * @throws IllegalArgumentException if a value is in both
     */
    public void join(Statistics other) {
        for (Map.Entry<Key, ValueStatistics> e : other.values.entrySet()) {
            if (values.containsKey(e.getKey())) {
                throw new IllegalArgumentException("value " + e.getKey().name + " is in both");
            }
            put(e.getKey(), e.getValue());
        }
        held.addAll(other.held);
        other.held.clear();
        files.addAll(other.files);
    }

    /**
     * What is known of the same values in a model in which they have lost indices. Ranges and distributions of values as a whole are those of all
     * indices. What is known of a value whose sums go over indices that are gone is left out.
     *
     * @param kept by name of a value outside of subgraphs, of each of its axes the indices that stay, sorted; null for all
     * @return of no model in particular; to be used no longer than these
     * @throws UncheckedIOException if the file of a Gram matrix has changed since it was loaded
     */
    public Statistics part(Map<String, int[][]> kept) {
        List<ValueStatistics> some = new ArrayList<>();
        try {
            for (ValueStatistics v : values.values()) {
                int[][] axes = v.path().isEmpty() ? kept.get(v.name()) : null;
                (axes == null ? Optional.of(v) : v.part(axes)).ifPresent(some::add);
            }
        } catch (InternalError e) {
            throw gone(e, this);
        }
        Statistics part = new Statistics("", samples, source, some, () -> { });
        part.files.addAll(files);
        return part;
    }

    private static UnsupportedRequestException different(ValueStatistics v) {
        return new UnsupportedRequestException("statistics can be added if they are of the same values, but those of " + v.name()
                + " differ or are missing in one of them");
    }

    private static boolean alike(ValueStatistics a, ValueStatistics b) {
        return a.channels() == b.channels() && a.hasRange() == b.hasRange() && a.hasSum() == b.hasSum()
                && a.histogram().isPresent() == b.histogram().isPresent() && a.gram().isPresent() == b.gram().isPresent()
                && a.weights().equals(b.weights());
    }

    // Files

    /**
     * Writes a file, whole or not at all.
     *
     * @param replace what has the name; else that is an error
     */
    public void save(Path file, boolean replace) throws IOException {
        Map<String, String> metadata = new LinkedHashMap<>();
        metadata.put("format", FORMAT);
        metadata.put("version", VERSION);
        metadata.put("model", model);
        metadata.put("samples", Long.toString(samples));
        metadata.put("source", source);
        List<Item> items = new ArrayList<>();
        int i = 0;
        for (ValueStatistics v : values.values()) {
            String key = Integer.toString(i++);
            metadata.put(key + ".name", v.name());
            if (!v.path().isEmpty()) {
                metadata.put(key + ".path", v.path());
            }
            v.axis().ifPresent(axis -> metadata.put(key + ".axis", Integer.toString(axis)));
            v.window().ifPresent(w -> metadata.put(key + ".window", WindowText.write(w)));
            metadata.put(key + ".rows", Long.toString(v.rows()));
            for (int j = 0; j < v.weights().size(); j++) {
                metadata.put(weight(key, j), v.weights().get(j));
            }
            Shape channels = Shape.of(v.channels());
            if (v.hasRange()) {
                items.add(item(key + ".min", DType.F32, channels, MemorySegment.ofArray(v.min())));
                items.add(item(key + ".max", DType.F32, channels, MemorySegment.ofArray(v.max())));
            }
            if (v.hasSum()) {
                items.add(item(key + ".sum", DType.F64, channels, MemorySegment.ofArray(v.sum())));
            }
            items.add(item(key + ".squares", DType.F64, channels, MemorySegment.ofArray(v.squares())));
            v.histogram().ifPresent(h -> {
                items.add(item(key + ".width", DType.F32, Shape.of(), MemorySegment.ofArray(new float[] {h.width()})));
                items.add(item(key + ".counts", DType.I64, Shape.of(Histogram.BINS), MemorySegment.ofArray(h.counts())));
            });
            v.gram().ifPresent(g -> items.add(item(key + ".gram", DType.F64, gram(v.window(), v.channels()), g)));
        }
        Path folder = file.toAbsolutePath().getParent();
        try (DurableFile out = new DurableFile(folder, file.getFileName().toString())) {
            try {
                new SafetensorsWriter(items, metadata).write(out.channel());
            } catch (IOException e) {
                files.check(); // what cannot be read is not what could not be written
                throw DurableFile.explain(e, file);
            } catch (InternalError e) {
                throw gone(e, this).getCause();
            }
            out.commit(file, replace);
        }
    }

    private static String weight(String key, int i) {
        return key + ".weight." + i;
    }

    private static Item item(String name, DType type, Shape shape, MemorySegment data) {
        return new Item(name, type, shape, SafetensorsWriter.Data.of(offHeap(data)));
    }

    private static MemorySegment offHeap(MemorySegment data) {
        return data.isNative() ? data : Arena.ofAuto().allocate(data.byteSize(), 8).copyFrom(data);
    }

    private static Shape gram(Optional<Window> window, long channels) {
        long groups = window.map(Window::groups).orElse(1);
        return Shape.of(groups, channels / groups, channels / groups);
    }

    /**
     * Reads a file. Gram matrices stay in it: they are looked at now, and read when they are needed, so that they may be larger than memory.
     * The file must not change before {@link #close}.
     *
     * @throws dev.tensorpress.model.MalformedModelException if it is none of statistics, or not a consistent one
     * @throws UnsupportedRequestException if it is of a version of the format that is not known here
     * @throws IOException if it cannot be read
     */
    public static Statistics load(Path file) throws IOException {
        InputFiles files = new InputFiles();
        Safetensors in = Safetensors.open(file);
        try {
            files.add(file);
            Statistics all = new Reader(in).read();
            all.files = files;
            return all;
        } catch (IOException | RuntimeException | Error e) {
            in.close();
            if (e instanceof InternalError) {
                throw new IOException(file + " became shorter while it was read", e);
            }
            throw e;
        }
    }

    /**
     * Reads a file, or an importance matrix of llama.cpp, which says nothing of the model that it is of: its names and numbers of inputs
     * have to fit.
     *
     * @param model that weights are looked up in
     * @throws dev.tensorpress.model.MalformedModelException if it is neither, or not a consistent one
     * @throws UnsupportedRequestException if it is of a version of its format that is not known here; or if it names no weight of the
     *     model, or one that has another number of inputs
     * @throws IOException if it cannot be read
     */
    public static Statistics load(Path file, Model model) throws IOException {
        return ImportanceMatrix.detect(file) ? of(ImportanceMatrix.read(file), file, model) : load(file);
    }

    private static Statistics of(ImportanceMatrix matrix, Path file, Model model) {
        Map<Names.Place, List<Weight>> weights = new LinkedHashMap<>();
        for (Weight weight : model.weights()) {
            Names.of(weight).ifPresent(place -> weights.computeIfAbsent(place, p -> new ArrayList<>(1)).add(weight));
        }
        Set<String> unused = new LinkedHashSet<>(matrix.entries().keySet());
        List<ValueStatistics> values = new ArrayList<>();
        weights.forEach((place, of) -> {
            ImportanceMatrix.Entry entry = matrix.entries().get(place.tensor());
            unused.remove(place.tensor());
            List<Weight> products = of.stream().filter(w -> w.inputAxis() >= 0).toList();
            if (entry == null || products.isEmpty()) {
                return;
            }
            Shape shape = products.getFirst().tensor().shape();
            int inputs = (int) shape.dim(products.getFirst().inputAxis());
            int parts = inputs == 0 ? 0 : entry.squares().length / inputs;
            int part = Math.max(0, place.expert());
            if (part >= parts || place.expert() < 0 && parts != 1 || entry.squares().length != (long) parts * inputs
                    || entry.counts().length != 1 && entry.counts().length != parts) {
                throw new UnsupportedRequestException(file + " is not of this model: it has " + entry.squares().length + " inputs of " + place
                        + ", and " + products.getFirst().name() + " is " + shape);
            }
            long rows = entry.counts()[entry.counts().length == 1 ? 0 : part];
            if (rows > 0) {
                values.add(new ValueStatistics("", place.toString(), OptionalInt.of(-1), Optional.empty(), rows, null, null,
                        entry.sums() == null ? null : part(entry.sums(), part, inputs), part(entry.squares(), part, inputs), Optional.empty(),
                        Optional.empty(), products.stream().map(Weight::name).toList()));
            }
        });
        if (unused.size() == matrix.entries().size()) {
            throw new UnsupportedRequestException(file + " is not of this model: no weight of it has a name in GGUF such as "
                    + unused.stream().findFirst().orElse("") + " for all that is known of names");
        }
        String datasets = matrix.datasets().isEmpty() ? "" : " of " + String.join(", ", matrix.datasets());
        Statistics all = new Statistics("", matrix.chunks(), "text" + datasets + " (importance matrix)", values, () -> { });
        all.unused = List.copyOf(unused);
        return all;
    }

    private static double[] part(float[] all, int part, int n) {
        double[] of = new double[n];
        for (int i = 0; i < n; i++) {
            of[i] = all[part * n + i];
        }
        return of;
    }

    /** Takes a file apart; whatever is not as {@link #save} writes it is refused. */
    private static final class Reader {
        private final Safetensors in;
        private int seen;

        Reader(Safetensors in) {
            this.in = in;
        }

        Statistics read() throws IOException {
            if (!FORMAT.equals(in.metadata().get("format"))) {
                throw in.bad(in.metadataAt("format"), "expected a file of statistics, whose metadata have the format '" + FORMAT + "'");
            }
            if (!VERSION.equals(in.metadata().get("version"))) {
                throw new UnsupportedRequestException(in.path() + " has version " + in.metadata().get("version")
                        + " of the format of statistics; known here is " + VERSION);
            }
            List<ValueStatistics> values = new ArrayList<>();
            for (int i = 0; in.metadata().containsKey(i + ".name"); i++) {
                values.add(value(Integer.toString(i)));
            }
            if (seen != in.tensors().size()) {
                throw in.bad(0, "expected " + seen + " tensors of " + values.size() + " values, found " + in.tensors().size());
            }
            Statistics all = new Statistics(text("model"), number("samples"), text("source"), values, in::close);
            if (all.values.size() != values.size()) {
                throw in.bad(0, "a value is there twice");
            }
            return all;
        }

        private ValueStatistics value(String key) throws IOException {
            OptionalInt axis = in.metadata().containsKey(key + ".axis") ? OptionalInt.of(axis(key + ".axis")) : OptionalInt.empty();
            String text = in.metadata().get(key + ".window");
            Optional<Window> window = text == null ? Optional.empty() : WindowText.read(text);
            if (text != null && window.isEmpty()) {
                throw in.bad(in.metadataAt(key + ".window"), "expected a window, found '" + text + "'");
            }
            Shape shape = in.entry(key + ".squares").shape();
            int channels = shape.rank() == 1 && shape.dim(0) > 0 && shape.dim(0) <= Integer.MAX_VALUE / 8 ? (int) shape.dim(0) : 0;
            if (channels == 0 || channels % window.map(Window::groups).orElse(1) != 0) {
                throw in.bad(in.entry(key + ".squares").described(), "expected a tensor with an element for each channel, found the shape " + shape);
            }
            Optional<Histogram> histogram = Optional.empty();
            if (in.tensors().containsKey(key + ".width")) {
                float width = data(key + ".width", DType.F32, Shape.of()).get(JAVA_FLOAT_UNALIGNED, 0);
                long[] counts = data(key + ".counts", DType.I64, Shape.of(Histogram.BINS)).toArray(JAVA_LONG_UNALIGNED);
                try {
                    histogram = Optional.of(new Histogram(width, counts));
                } catch (IllegalArgumentException e) {
                    throw in.bad(in.entry(key + ".width").start(), e.getMessage());
                }
            }
            Optional<MemorySegment> gram = Optional.empty();
            if (in.tensors().containsKey(key + ".gram")) {
                Safetensors.Entry e = entry(key + ".gram", DType.F64, gram(window, channels));
                MemorySegment there = in.tensor(e).data();
                gram = Optional.of(there.address() % 8 == 0 ? there : Arena.ofAuto().allocate(e.length(), 64).copyFrom(there));
                int groups = window.map(Window::groups).orElse(1);
                checkGram(e, gram.get(), groups, channels / groups, number(key + ".rows"));
            }
            if (number(key + ".rows") == 0) {
                throw in.bad(in.metadataAt(key + ".rows"), "expected at least one row");
            }
            boolean range = in.tensors().containsKey(key + ".min") || in.tensors().containsKey(key + ".max");
            float[] min = range ? data(key + ".min", DType.F32, shape).toArray(JAVA_FLOAT_UNALIGNED) : null;
            float[] max = range ? data(key + ".max", DType.F32, shape).toArray(JAVA_FLOAT_UNALIGNED) : null;
            double[] sum = in.tensors().containsKey(key + ".sum") ? data(key + ".sum", DType.F64, shape).toArray(JAVA_DOUBLE_UNALIGNED) : null;
            double[] squares = data(key + ".squares", DType.F64, shape).toArray(JAVA_DOUBLE_UNALIGNED);
            for (int c = 0; c < channels; c++) {
                if (squares[c] < 0) {
                    throw in.bad(in.entry(key + ".squares").start() + 8L * c, "expected a sum of squares, found " + squares[c]);
                }
                if (range && min[c] > max[c]) {
                    throw in.bad(in.entry(key + ".min").start() + 4L * c, "expected at most the largest element, which is " + max[c] + ", found "
                            + min[c]);
                }
            }
            List<String> weights = new ArrayList<>();
            if (in.metadata().containsKey(weight(key, 0)) && axis.isEmpty()) {
                throw in.bad(in.metadataAt(weight(key, 0)), "expected '" + key + ".axis' of what is multiplied with weights");
            }
            while (in.metadata().containsKey(weight(key, weights.size()))) {
                weights.add(text(weight(key, weights.size())));
            }
            return new ValueStatistics(in.metadata().getOrDefault(key + ".path", ""), text(key + ".name"), axis, window, number(key + ".rows"),
                    min, max, sum, squares, histogram, gram, weights);
        }

        /** Symmetric, and no product of channels larger than their squares allow: what no damping could make definite is none. */
        private void checkGram(Safetensors.Entry e, MemorySegment gram, int groups, int n, long summed) {
            double smallest = 1e-37 * summed; // of squares that f32 holds
            double[] size = new double[n];
            double[] below = new double[TILE * TILE];
            double[] above = new double[TILE * TILE];
            for (int g = 0; g < groups; g++) {
                long first = (long) g * n * n;
                for (int i = 0; i < n; i++) {
                    double square = gram.getAtIndex(JAVA_DOUBLE, first + (long) i * n + i);
                    if (!(square >= 0 && square < Double.POSITIVE_INFINITY)) {
                        throw in.bad(e.start() + 8 * (first + (long) i * n + i), "expected a sum of squares on the diagonal of '" + e.name()
                                + "', found " + square);
                    }
                    size[i] = Math.sqrt(square + smallest);
                }
                for (int rows = 0; rows < n; rows += TILE) {
                    for (int cols = 0; cols <= rows; cols += TILE) {
                        int height = Math.min(TILE, n - rows);
                        int width = Math.min(TILE, n - cols);
                        tile(gram, first + (long) rows * n + cols, n, height, width, below);
                        tile(gram, first + (long) cols * n + rows, n, width, height, above);
                        for (int i = 0; i < height; i++) {
                            for (int j = 0; j < width; j++) {
                                double x = below[i * TILE + j];
                                double y = above[j * TILE + i];
                                double most = size[rows + i] * size[cols + j];
                                // Not with NaN either.
                                if (!(Math.abs(x) <= 1.001 * most && Math.abs(x - y) <= 1e-5 * most)) {
                                    throw in.bad(e.start() + 8 * (first + (long) (rows + i) * n + cols + j), "expected a Gram matrix as '" + e.name()
                                            + "', but channels " + (rows + i) + " and " + (cols + j) + " have the products " + x + " and " + y
                                            + ", and roots of squares whose product is " + most);
                                }
                            }
                        }
                    }
                }
            }
        }

        /** Copies some rows of a matrix with n columns, TILE apart: arrays are read many times faster than segments before a second compiler. */
        private static void tile(MemorySegment from, long at, int n, int rows, int cols, double[] to) {
            for (int i = 0; i < rows; i++) {
                MemorySegment.copy(from, JAVA_DOUBLE, 8 * (at + (long) i * n), to, i * TILE, cols);
            }
        }

        private Safetensors.Entry entry(String name, DType type, Shape shape) {
            Safetensors.Entry e = in.entry(name);
            if (e.dtype() != type || !e.shape().equals(shape)) {
                throw in.bad(e.described(), "expected '" + name + "' to be " + type + " " + shape + ", found " + e.dtype() + " " + e.shape());
            }
            seen++;
            return e;
        }

        /** Read through the file: should that have become shorter, it is an error and not a fault. */
        private MemorySegment data(String name, DType type, Shape shape) throws IOException {
            Safetensors.Entry e = entry(name, type, shape);
            MemorySegment data = Arena.ofAuto().allocate(e.length(), 8);
            in.read(e, data);
            for (long i = 0; i < (type == DType.I64 ? 0 : shape.elements()); i++) {
                double x = type == DType.F32 ? data.getAtIndex(JAVA_FLOAT_UNALIGNED, i) : data.getAtIndex(JAVA_DOUBLE_UNALIGNED, i);
                if (!Double.isFinite(x)) {
                    throw in.bad(e.start() + i * type.bytes(1), "expected finite elements of '" + name + "', found " + x);
                }
            }
            return data;
        }

        private String text(String key) {
            String text = in.metadata().get(key);
            if (text == null) {
                throw in.bad(in.metadataAt(key), "expected '" + key + "' in the metadata");
            }
            return text;
        }

        private long number(String key) {
            if (!text(key).matches("\\d{1,18}")) {
                throw in.bad(in.metadataAt(key), "expected a number as '" + key + "', found '" + text(key) + "'");
            }
            return Long.parseLong(text(key));
        }

        private int axis(String key) {
            if (!text(key).matches("-?\\d{1,3}")) {
                throw in.bad(in.metadataAt(key), "expected a number as '" + key + "', found '" + text(key) + "'");
            }
            return Integer.parseInt(text(key));
        }
    }

    /**
     * SHA-256 of all that is known of values.
     *
     * @throws UncheckedIOException if the file of Gram matrices has changed since it was loaded
     */
    public String digest() {
        try {
            return hashed();
        } catch (InternalError e) {
            throw gone(e, this);
        }
    }

    private String hashed() {
        try (Arena own = Arena.ofConfined()) {
            Sha256 hash = new Sha256(own);
            MemorySegment piece = own.allocate(READ_AT_ONCE);
            for (ValueStatistics v : values.values()) {
                List<MemorySegment> parts = new ArrayList<>();
                String text = String.join("\n", v.path(), v.name(), v.axis().toString(), v.window().toString(), Long.toString(v.rows()))
                        + "\n" + v.weights() + "\n" + v.histogram().map(h -> h.width() + Arrays.toString(h.counts()));
                parts.add(MemorySegment.ofArray(text.getBytes(StandardCharsets.UTF_8)));
                if (v.hasRange()) {
                    parts.add(MemorySegment.ofArray(v.min()));
                    parts.add(MemorySegment.ofArray(v.max()));
                }
                if (v.hasSum()) {
                    parts.add(MemorySegment.ofArray(v.sum()));
                }
                parts.add(MemorySegment.ofArray(v.squares()));
                v.gram().ifPresent(parts::add);
                for (MemorySegment part : parts) {
                    for (long at = 0; at < part.byteSize(); at += READ_AT_ONCE) {
                        long n = Math.min(READ_AT_ONCE, part.byteSize() - at);
                        hash.update(piece.asSlice(0, n).copyFrom(part.asSlice(at, n)));
                    }
                }
            }
            return hash.finish();
        }
    }

    @Override
    public void close() {
        closed = true;
        held.forEach(Runnable::run);
        held.clear();
    }
}
