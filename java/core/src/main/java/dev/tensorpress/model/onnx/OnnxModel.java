package dev.tensorpress.model.onnx;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.io.ForeignFormat;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Phases;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.DataFiles.DataFile;
import dev.tensorpress.model.onnx.WeightFinder.Info;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.IdentityHashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.LongFunction;

/**
 * An ONNX model (onnx.ai/onnx/repo-docs/IR.html). Weights are found wherever exporters put them: among the initializers
 * of the graph and of graphs inside it, in Constant nodes, in files beside the model, and before nodes that move, cut or join
 * constants until they are what an operator takes.
 */
public final class OnnxModel implements Model {
    static final String FORMAT = "onnx";

    /** Bytes read at once: a buffer's size is an int. */
    private static final long STEP = 1 << 30;

    private final Path path;
    private final InputFiles inputs;
    private final Arena arena;
    private final FileChannel channel;
    private final long size;
    private final Parser parsed;
    private final Wire wire;
    private final DataFiles files;
    private final List<TensorInfo> externals;
    private final List<Weight> weights;
    private final Map<Weight, Info> infos;
    /** Null until somebody asks. */
    private Tails tails;
    private final Map<Info, Tails.Tail> known = new IdentityHashMap<>(0);
    private Graph graph;
    /** Of the weight that is encoded; as large as the largest so far. */
    private Arena copies;
    private MemorySegment copy;

    /** @param channel null for a model that was never in a file */
    private OnnxModel(Path path, boolean allowLinks, Arena arena, FileChannel channel, MemorySegment file, InputFiles inputs) throws IOException {
        this.path = path;
        this.inputs = inputs;
        this.arena = arena;
        this.channel = channel;
        this.size = file.byteSize();
        this.wire = new Wire(path, file);
        this.parsed = new Parser(wire);
        this.files = new DataFiles(path, allowLinks, arena, inputs);
        try {
            parsed.model(size);
            this.externals = externals();
            for (TensorInfo t : externals) {
                files.of(t);
            }
            List<Info> found = new WeightFinder(parsed, wire, files, arena).find();
            this.weights = new ArrayList<>(found.size());
            this.infos = new IdentityHashMap<>(found.size() * 2);
            for (Info i : found) {
                weights.add(i.weight);
                infos.put(i.weight, i);
            }
        } catch (IOException | RuntimeException e) {
            files.close();
            throw e;
        }
    }

    /**
     * Opens a model and the data files it refers to. The caller closes it.
     *
     * @param allowLinks whether data files may lie behind links out of the model's folder, or have several hard links; the
     *     cache of a model hub, where links lead to its {@code blobs}, needs neither, and locations outside the folder are
     *     refused either way
     * @throws MalformedModelException if the file is not an ONNX model, or not a consistent one
     * @throws UnsupportedRequestException if the file is a {@link ForeignFormat}, or if a data file is a link and
     *     {@code allowLinks} is false
     * @throws IOException if a file cannot be read
     */
    public static OnnxModel open(Path path, boolean allowLinks) throws IOException {
        if (!Files.exists(path)) {
            throw new NoSuchFileException(path.toString());
        }
        if (!Files.isRegularFile(path)) {
            throw InputFiles.irregular(path, "an ONNX model");
        }
        Arena arena = Arena.ofShared();
        FileChannel channel = null;
        try {
            InputFiles inputs = new InputFiles();
            inputs.add(path);
            channel = FileChannel.open(path, StandardOpenOption.READ);
            return new OnnxModel(path, allowLinks, arena, channel, channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena), inputs);
        } catch (IOException | RuntimeException | Error e) {
            if (channel != null) {
                channel.close();
            }
            arena.close();
            if (e instanceof MalformedModelException) {
                ForeignFormat.check(path);
            }
            if (e instanceof InternalError) {
                throw new IOException(path + " became shorter while it was read", e);
            }
            throw e;
        }
    }

    /** A model without nodes, in memory alone. */
    static OnnxModel empty(byte[] encoded) {
        Path none = Path.of("model.onnx");
        try {
            return new OnnxModel(none, false, Arena.ofAuto(), null, MemorySegment.ofArray(encoded), new InputFiles());
        } catch (IOException e) {
            throw new IllegalStateException(e); // there is no file
        }
    }

    private List<TensorInfo> externals() {
        List<TensorInfo> all = new ArrayList<>(0);
        for (OnnxGraph g : parsed.graphs) {
            for (TensorInfo t : g.initializers) {
                if (t.external) {
                    all.add(t);
                }
            }
            for (OnnxGraph.Node n : g.nodes) {
                OnnxGraph.Attribute a = n.is("Constant") ? n.attribute("value") : null;
                if (a != null && a.tensor != null && a.tensor.external) {
                    all.add(a.tensor);
                }
            }
            for (TensorInfo t : g.sparse) {
                if (t.external) {
                    throw new MalformedModelException(path, t.fieldStart, "the sparse initializer '" + t.name
                            + "' is external, which no runtime reads");
                }
            }
        }
        return all;
    }

    @Override
    public Path path() {
        return path;
    }

    @Override
    public List<Path> files() {
        List<Path> all = new ArrayList<>();
        if (channel != null) {
            all.add(path);
        }
        for (DataFile f : files.all()) {
            all.add(f.path());
        }
        return all;
    }

    /** What stands behind the one convolution that has this weight for its kernel; null if there is none. */
    Tails.Tail tail(Info info) {
        List<OnnxGraph.Use> uses = info.value.uses;
        if (uses.size() != 1 || uses.getFirst().input() != 1 || !uses.getFirst().node().is("Conv")) {
            return null;
        }
        if (tails == null) {
            Map<OnnxGraph.Value, Weight> values = new IdentityHashMap<>();
            infos.values().forEach(i -> values.put(i.value, i.weight));
            tails = new Tails(new Constants(parsed, wire), values);
        }
        return known.computeIfAbsent(info, i -> tails.of(uses.getFirst().node(), i.weight));
    }

    /** The model file and the data files as they were when they were opened. */
    InputFiles inputs() {
        return inputs;
    }

    @Override
    public Weight load(Weight weight, LongFunction<MemorySegment> memory) throws IOException {
        long bytes = weight.tensor().data().byteSize();
        MemorySegment copy = memory.apply(bytes).asSlice(0, bytes);
        read(weight, 0, copy);
        return weight.over(new Tensor(weight.tensor().dtype(), weight.tensor().shape(), copy));
    }

    /** Reads elements of a weight through its file, from a byte of it on. */
    private void read(Weight weight, long from, MemorySegment to) throws IOException {
        inputs.check();
        TensorInfo t = info(weight).tensor;
        if (t.external) {
            read(files.of(t).channel(), t.externalOffset + from, to);
        } else if (t.hasRaw && (t.rawLength > 0 || t.typedCount == 0)) {
            read(channel, t.rawStart + from, to);
        } else if (t.typedContiguous) {
            read(channel, t.typedStart + from, to);
        } else {
            to.copyFrom(weight.tensor().data().asSlice(from, to.byteSize())); // which are no part of a file
        }
        inputs.check();
    }

    private void read(FileChannel from, long at, MemorySegment to) throws IOException {
        for (long done = 0; done < to.byteSize();) {
            int n = from.read(to.asSlice(done, Math.min(STEP, to.byteSize() - done)).asByteBuffer(), at + done);
            if (n < 0) {
                inputs.check();
                throw new IOException(path + ": a file of the model became shorter while it was read");
            }
            done += n;
        }
    }

    /**
     * That encoder, with weights that are no mapping: native code that reads one kills the process if its file becomes shorter
     * meanwhile. They are read to memory that this object keeps and uses again.
     */
    Target.Encoder guarded(Target.Encoder encoder, Phases phases) {
        return new Target.Encoder() {
            @Override
            public boolean byRows(Weight weight, Form form) {
                return encoder.byRows(weight, form);
            }

            @Override
            public void announce(Weight weight, long first, Shape rows) {
                encoder.announce(weight, first, rows);
            }

            @Override
            public Encoding encode(Weight weight, Form form, Tensor rows, long first) throws IOException {
                MemorySegment own = copy(rows.bytes());
                Phases.Span span = phases.begin(Phases.Phase.READ);
                read(weight, first == 0 ? 0 : first * (weight.tensor().bytes() / weight.tensor().shape().dim(0)), own);
                span.end(weight.name(), rows.bytes());
                return encoder.encode(weight, form, new Tensor(rows.dtype(), rows.shape(), own), first);
            }
        };
    }

    private MemorySegment copy(long bytes) {
        if (copy == null || copy.byteSize() < bytes) {
            if (copies != null) {
                copies.close();
            }
            copies = Arena.ofShared();
            copy = copies.allocate(bytes, 64);
        }
        return copy.asSlice(0, bytes);
    }

    /** What Java's reading of a mapping behind the end of its file comes to. */
    IOException gone(InternalError e) {
        try {
            inputs.check();
        } catch (IOException changed) {
            return changed;
        }
        return new IOException(path + " cannot be read any more", e);
    }

    @Override
    public long bytes() {
        long sum = size;
        for (DataFile f : files.all()) {
            sum += f.data().byteSize();
        }
        return sum;
    }

    @Override
    public List<Weight> weights() {
        return List.copyOf(weights);
    }

    @Override
    public List<Array> arrays() {
        return new ArrayFinder(this).find();
    }

    /** The place of a tensor's elements in its file; null if they lie in none as they are in memory. */
    Array array(TensorInfo t, String name) {
        DType type = t.elementType();
        if (type == null || t.elements == 0) {
            return null;
        }
        Shape shape = Shape.of(t.dims);
        if (t.external) {
            return new Array(name, file(t), t.externalOffset, type, shape);
        }
        if (t.hasRaw && t.rawLength > 0) {
            return new Array(name, path, t.rawStart, type, shape);
        }
        return t.typedContiguous && (type == DType.F32 || type == DType.F64) ? new Array(name, path, t.typedStart, type, shape) : null;
    }

    private Path file(TensorInfo external) {
        try {
            return files.of(external).path();
        } catch (IOException e) {
            throw new IllegalStateException("its file was opened with the model", e);
        }
    }

    @Override
    public Optional<Graph> graph() throws IOException {
        if (graph == null) {
            try {
                graph = new GraphFinder(parsed, infos.values(), new Constants(parsed, wire)).find();
            } catch (InternalError e) {
                throw gone(e);
            }
        }
        return Optional.of(graph);
    }

    /** {@inheritDoc} Nodes and what they are told, inputs, outputs, constants that are no weights, and opsets; not names of nodes, and remarks. */
    @Override
    public Optional<String> difference(Model other) throws IOException {
        OnnxModel model = (OnnxModel) other;
        try {
            return new Difference(this, model).find();
        } catch (InternalError e) {
            model.inputs.check();
            throw gone(e);
        }
    }

    @Override
    public Map<String, String> properties() {
        Map<String, String> m = new LinkedHashMap<>();
        String by = (parsed.producer + " " + parsed.producerVersion).strip();
        if (!by.isEmpty()) {
            m.put("producer", by);
        }
        m.put("ir version", Long.toString(parsed.irVersion));
        for (Map.Entry<String, Long> e : parsed.opsets.entrySet()) {
            m.put("opset " + (e.getKey().isEmpty() ? "ai.onnx" : e.getKey()), Long.toString(e.getValue()));
        }
        if (!parsed.graph.name.isEmpty()) {
            m.put("graph", parsed.graph.name);
        }
        int nodes = 0;
        for (OnnxGraph g : parsed.graphs) {
            nodes += g.nodes.size();
        }
        m.put("nodes", Integer.toString(nodes));
        if (parsed.graphs.size() > 1) {
            m.put("subgraphs", Integer.toString(parsed.graphs.size() - 1));
        }
        if (parsed.functions > 0) {
            m.put("functions", parsed.functions + ", copied as they are");
        }
        for (DataFile f : files.all()) {
            m.put("data file " + f.location(), f.data().byteSize() + " bytes");
        }
        return m;
    }

    @Override
    public void close() {
        if (copies != null) {
            copies.close();
        }
        files.close();
        try {
            channel.close();
        } catch (IOException e) {
            // Opened for reading: nothing is lost.
        }
        arena.close();
    }

    Info info(Weight weight) {
        Info i = infos.get(weight);
        if (i == null) {
            throw new IllegalArgumentException("'" + weight.name() + "' is not a weight of " + path);
        }
        return i;
    }

    Parser parsed() {
        return parsed;
    }

    Wire wire() {
        return wire;
    }

    FileChannel channel() {
        return channel;
    }

    long size() {
        return size;
    }

    DataFiles dataFiles() {
        return files;
    }

    /** Every tensor whose data lie in a data file, of any type. */
    List<TensorInfo> externalTensors() {
        return externals;
    }
}
