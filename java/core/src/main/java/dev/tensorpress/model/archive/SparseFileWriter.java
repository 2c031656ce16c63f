package dev.tensorpress.model.archive;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.io.DurableFile;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Sparse;
import dev.tensorpress.kernel.Sparse.Layout;
import dev.tensorpress.kernel.SparseMatrix;
import dev.tensorpress.model.Phases;
import dev.tensorpress.model.SeparableTarget.Content;
import dev.tensorpress.model.Size;
import dev.tensorpress.model.archive.Packed.Place;
import dev.tensorpress.model.safetensors.SafetensorsModel;
import dev.tensorpress.model.safetensors.SafetensorsWriter;
import dev.tensorpress.model.safetensors.SafetensorsWriter.Data;
import dev.tensorpress.model.safetensors.SafetensorsWriter.Item;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

/**
 * Writes what {@link SparseFile} reads, weight by weight: one is in memory at a time. Arrays wait in a temporary file until
 * the header, which precedes them, is known. {@code docs/sparse-files.md} describes the format.
 *
 * <p>Closed without {@link #commit}, it leaves nothing behind.
 */
public final class SparseFileWriter implements AutoCloseable {
    private final Path folder;
    private final String fileName;
    private final Executor executor;
    private final DurableFile spool;
    private DurableFile skeleton;
    private boolean finished;
    private long modelLength;
    private final Phases phases;
    private int modelChecksum;
    private int skeletonChecksum;
    private final List<Packed> weights = new ArrayList<>();
    private final List<Item> items = new ArrayList<>();
    private final Set<String> names = new HashSet<>();

    /**
     * Starts a file.
     *
     * @param folder of the file and of temporary ones
     * @param fileName for the names of temporary files
     * @throws IOException if the folder does not exist or cannot be written
     */
    public SparseFileWriter(Path folder, String fileName, Executor executor) throws IOException {
        this(folder, fileName, executor, new Phases());
    }

    /**
     * {@link #SparseFileWriter(Path, String, Executor)}.
     *
     * @param phases told how long writing takes; what goes to a temporary file first is written twice
     */
    public SparseFileWriter(Path folder, String fileName, Executor executor, Phases phases) throws IOException {
        this.folder = folder;
        this.fileName = fileName;
        this.executor = executor;
        this.phases = phases;
        this.spool = new DurableFile(folder, fileName);
    }

    /**
     * Where to write the bytes of an ordinary model that are not elements of weights, in their order. Called at most once,
     * and followed by {@link #finishModel}; a file without a model holds encodings that stand on their own.
     */
    public FileChannel startModel() throws IOException {
        if (skeleton != null || !weights.isEmpty()) {
            throw new IllegalStateException("the model was started, or weights were added without one");
        }
        skeleton = new DurableFile(folder, fileName);
        return skeleton.channel();
    }

    /**
     * Adds a weight's elements that stand in the ordinary model at the places of {@link #place}.
     *
     * @param middle the element that means 0, for which none is stored: 0, or 128 for symmetric U8 codes
     */
    public void add(String name, Tensor elements, int middle) throws IOException {
        if (skeleton == null) {
            throw new IllegalStateException("there is no model that the elements belong to");
        }
        store(name, elements, middle);
    }

    /** Says where in the ordinary model the weight added last stands, and how. */
    public void place(Content content, long offset) {
        weights.getLast().places.add(new Place(content, offset));
    }

    /** @param checksum CRC-32C of the whole ordinary model */
    public void finishModel(long length, int checksum) throws IOException {
        finished = true;
        modelLength = length;
        modelChecksum = checksum;
        FileChannel c = skeleton.channel();
        try (Arena arena = Arena.ofConfined()) {
            skeletonChecksum = SparseFormat.checksum(c.map(FileChannel.MapMode.READ_ONLY, 0, c.size(), arena));
        }
        items.add(new Item(SparseFormat.SKELETON, DType.U8, Shape.of(c.size()), copy(c, 0, c.size())));
    }

    /**
     * Adds an encoding that stands on its own.
     *
     * @throws IllegalArgumentException if the name was given to another, or if it is neither dense nor quantized, pruned or not
     */
    public void add(String name, Encoding encoding) throws IOException {
        if (skeleton != null) {
            throw new IllegalStateException("the file holds a model");
        }
        Encoding values = encoding.values();
        Packed p = switch (values.kind()) {
            case DENSE -> store(name, ((Encoding.Dense) values).tensor(), 0);
            case QUANTIZED -> store(name, (Encoding.Quantized) values);
            case CODEBOOK, TRANSFORMED, HASHED, SPARSE, LOW_RANK, SUM -> throw new IllegalArgumentException("no place in a sparse file for " + encoding.form().describe());
        };
        p.form = encoding.form();
        p.shape = encoding.shape();
    }

    private Packed store(String name, Encoding.Quantized q) throws IOException {
        Tensor codes = q.codes();
        if (codes.dtype().bits() < 8) {
            codes = new Tensor(DType.U8, Shape.of(codes.bytes()), codes.data());
        } else if (!codes.shape().equals(q.form().codes(q.shape()))) {
            codes = new Tensor(codes.dtype(), q.form().codes(q.shape()), codes.data());
        }
        Packed p = store(name, codes, SparseFormat.middle(q.form()));
        spool(p, Packed.SCALES, q.scales().dtype(), Shape.of(q.scales().shape().elements()), q.scales().data());
        if (q.zeros() != null) {
            spool(p, Packed.ZEROS, q.zeros().dtype(), Shape.of(q.zeros().bytes()), q.zeros().data());
        }
        return p;
    }

    private Packed store(String name, Tensor elements, int middle) throws IOException {
        if (!names.add(name)) {
            throw new IllegalArgumentException("two weights have the name '" + name + "'");
        }
        Packed p = Packed.of(name, elements.dtype(), elements.shape());
        weights.add(p);
        executor.subject(name);
        try (Arena arena = Arena.ofShared()) {
            MemorySegment from = elements.data();
            Sparse.Pick pick = null;
            if (p.packable()) {
                if (middle != 0) {
                    from = arena.allocate(elements.bytes(), 8);
                    SparseFormat.xor(elements.data(), middle, from);
                }
                Sparse.Survey survey = Sparse.survey(p.dtype, p.rows, p.cols, from, executor);
                p.nnz = survey.entries();
                pick = Sparse.smallest(p.dtype, p.rows, p.cols, survey);
            }
            if (pick == null || pick.layout() == null) {
                spool(p, Packed.VALUES, p.dtype, p.valueShape(), elements.data());
                return p;
            }
            p.xor = middle;
            p.layout = pick.layout();
            p.block = pick.block();
            p.units = pick.units();
            SparseMatrix m = Sparse.pack(p.dtype, p.rows, p.cols, from, p.layout, p.block, arena, executor);
            if (p.offsetShape() != null) {
                spool(p, Packed.OFFSETS, DType.I64, p.offsetShape(), m.offsets());
            }
            spool(p, Packed.INDICES, p.indexType(), p.indexShape(), m.indices());
            spool(p, Packed.VALUES, p.dtype, p.valueShape(), m.values());
        }
        return p;
    }

    private void spool(Packed p, String part, DType type, Shape shape, MemorySegment bytes) throws IOException {
        p.checksums.put(part, SparseFormat.checksum(bytes));
        FileChannel c = spool.channel();
        long start = c.position();
        Phases.Span span = phases.begin(Phases.Phase.WRITE);
        Data.of(bytes).write(c);
        span.end(folder.resolve(fileName), bytes.byteSize());
        items.add(new Item(p.array(part), type, shape, copy(c, start, bytes.byteSize())));
    }

    private static Data copy(FileChannel from, long start, long length) {
        return to -> {
            for (long done = 0; done < length;) {
                long n = from.transferTo(start + done, length - done, to);
                if (n <= 0) {
                    throw new IOException("a temporary file became shorter while it was read");
                }
                done += n;
            }
        };
    }

    /** Writes the file, forces it to disk and gives it its name; {@code replace} as for {@link DurableFile#commit(Path, boolean)}. */
    public void commit(Path out, boolean replace) throws IOException {
        if (skeleton != null && !finished) {
            throw new IllegalStateException("the model is not finished");
        }
        try (DurableFile file = new DurableFile(folder, fileName, phases)) {
            Phases.Span span = phases.begin(Phases.Phase.WRITE);
            new SafetensorsWriter(items, metadata(weights, skeleton != null, modelLength, modelChecksum,
                    skeletonChecksum)).write(file.channel());
            span.end(out, file.channel().size());
            file.commit(out, replace);
        }
    }

    private static Map<String, String> metadata(List<Packed> weights, boolean model, long length, int checksum,
            int skeletonChecksum) {
        Map<String, String> m = new TreeMap<>();
        m.put("format", SafetensorsModel.SPARSE_FILE);
        m.put("version", SparseFormat.VERSION);
        if (model) {
            m.put("model.length", Long.toString(length));
            m.put("model.crc32c", SparseFormat.hex(checksum));
            m.put("skeleton.crc32c", SparseFormat.hex(skeletonChecksum));
        }
        String described = describe(weights);
        m.put("weights", described);
        m.put("weights.crc32c", SparseFormat.hex(SparseFormat.checksum(described)));
        return m;
    }

    private static String describe(List<Packed> weights) {
        StringWriter text = new StringWriter();
        try (JsonGenerator json = new JsonFactory().createGenerator(text)) {
            json.writeStartArray();
            for (Packed p : weights) {
                p.write(json);
            }
            json.writeEndArray();
        } catch (IOException e) {
            throw new UncheckedIOException(e); // memory throws none
        }
        return text.toString();
    }

    /** A weight of a model whose elements are not known yet. */
    public record Expected(String name, DType type, Shape shape, List<Content> contents) {}

    /**
     * What a file with these weights takes.
     *
     * @param length of the ordinary model, {@code skeleton} without the weights' elements
     * @param arrays bytes of the weights' arrays at most
     */
    public static Size.AtMost size(List<Expected> expected, long length, long skeleton, long arrays) {
        List<Packed> weights = new ArrayList<>();
        List<Item> items = new ArrayList<>();
        Data none = to -> { };
        for (Expected e : expected) {
            Packed p = Packed.of(e.name, e.type, e.shape);
            weights.add(p);
            p.layout = Layout.BITMASK;
            p.block = 8;
            p.xor = 128;
            p.units = p.rows * p.cols;
            p.nnz = p.units;
            for (String part : List.of(Packed.OFFSETS, Packed.INDICES, Packed.VALUES)) {
                p.checksums.put(part, -1);
                // Four axes, and eight bytes an element: no array is described in more letters.
                items.add(new Item(p.array(part), DType.I64, Shape.of(p.rows, p.cols, 8, 8), none));
            }
            for (Content content : e.contents) {
                p.places.add(new Place(content, length));
            }
        }
        items.add(new Item(SparseFormat.SKELETON, DType.U8, Shape.of(skeleton), none));
        SafetensorsWriter w = new SafetensorsWriter(items, metadata(weights, true, length, -1, -1));
        return new Size.AtMost(Math.addExact(Math.addExact(w.headerLength(), skeleton), arrays));
    }

    /** Removes what was not committed. */
    @Override
    public void close() throws IOException {
        try {
            spool.close();
        } finally {
            if (skeleton != null) {
                skeleton.close();
            }
        }
    }
}
