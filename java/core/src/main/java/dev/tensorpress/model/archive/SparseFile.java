package dev.tensorpress.model.archive;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonFactoryBuilder;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.StreamReadFeature;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.internal.Coordinates;
import dev.tensorpress.io.DurableFile;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Sparse;
import dev.tensorpress.kernel.Sparse.Layout;
import dev.tensorpress.kernel.SparseFormatException;
import dev.tensorpress.kernel.SparseMatrix;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.Phases;
import dev.tensorpress.model.SeparableTarget.Content;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.archive.Packed.Place;
import dev.tensorpress.model.safetensors.Safetensors;
import dev.tensorpress.model.safetensors.SafetensorsModel;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.function.ObjLongConsumer;
import java.util.zip.CRC32C;

/**
 * A safetensors file that keeps pruned weights without their zeros: either a whole model, that {@link #expand} turns back
 * into the ordinary one bit for bit, or single encodings. {@code docs/sparse-files.md} describes the format.
 *
 * <p>Every array has a checksum, which is compared before its contents are used; every matrix is checked to be well formed.
 */
public final class SparseFile implements AutoCloseable {
    private static final long STEP = 8 << 20;
    /** Bytes of restored elements in memory at once, unless a row is longer. */
    private static final long PIECE = 64 << 20;
    /** No file makes its reader take more memory than this for a few bytes of its own. */
    private static final long LONGEST_LINE = 1 << 30;
    private static final String WEIGHTS = "weights";

    private final Safetensors file;
    private final Map<String, Packed> weights = new LinkedHashMap<>();
    /** -1 without a model. */
    private final long modelLength;

    private SparseFile(Safetensors file) {
        this.file = file;
        String format = file.metadata().get("format");
        if (!SafetensorsModel.SPARSE_FILE.equals(format)) {
            throw new UnsupportedRequestException(file.path() + " is a safetensors file, but not one of sparse weights: its"
                    + " format is " + (format == null ? "not named" : "'" + format + "'") + "; for a compressed model, name its"
                    + " folder");
        }
        String version = required("version");
        if (!version.equals(SparseFormat.VERSION)) {
            throw new UnsupportedRequestException(file.path() + " has version " + version + " of its format; this reads "
                    + SparseFormat.VERSION);
        }
        String described = required(WEIGHTS);
        if (!required("weights.crc32c").equals(SparseFormat.hex(SparseFormat.checksum(described)))) {
            throw badWeights("its checksum is not that of weights.crc32c");
        }
        boolean model = file.metadata().containsKey("model.length");
        modelLength = model ? length(required("model.length")) : -1;
        Object all = parse(described);
        for (Object o : list(all)) {
            Packed p = weight(object(o), model);
            if (weights.put(p.name, p) != null) {
                throw badWeights("'" + p.name + "' is there twice");
            }
        }
    }

    /**
     * Opens a file. The caller closes it.
     *
     * @throws MalformedModelException if it is not a safetensors file, or a damaged one
     * @throws UnsupportedRequestException if it is one for another purpose, or of a later version
     * @throws IOException if it cannot be read
     */
    public static SparseFile open(Path path) throws IOException {
        Safetensors file = Safetensors.open(path);
        try {
            return new SparseFile(file);
        } catch (RuntimeException | Error e) {
            file.close();
            throw e;
        }
    }

    /**
     * Writes encodings, each under its name, in the smallest layout.
     *
     * @throws IOException if writing fails; an older file is then as it was
     */
    public static void write(Path out, Map<String, Encoding> encodings, Executor executor) throws IOException {
        Path folder = out.toAbsolutePath().getParent();
        try (SparseFileWriter w = new SparseFileWriter(folder, out.getFileName().toString(), executor)) {
            for (Map.Entry<String, Encoding> e : encodings.entrySet()) {
                w.add(e.getKey(), e.getValue());
            }
            w.commit(out, true);
        }
    }

    /** Names of the weights, in the order in which they were written. */
    public Set<String> names() {
        return Collections.unmodifiableSet(weights.keySet());
    }

    /** True if {@link #expand} can rebuild a model; else {@link #encoding} reads the weights. */
    public boolean holdsModel() {
        return modelLength >= 0;
    }

    /** The layout of a weight, such as {@code csr16}, or {@code dense}. */
    public String layout(String name) {
        return packed(name).layoutId();
    }

    /** Bytes that a weight's elements take in the file. */
    public long bytes(String name) {
        return packed(name).bytes();
    }

    private Packed packed(String name) {
        Packed p = weights.get(name);
        if (p == null) {
            throw new IllegalArgumentException(file.path() + " has no weight '" + name + "'");
        }
        return p;
    }

    /**
     * A weight as it was before it was written, bit for bit; its memory is from {@code arena}.
     *
     * @param arena shared unless {@code executor} is one thread
     * @throws IllegalArgumentException if there is no weight of this name
     * @throws UnsupportedRequestException if the file holds a model, whose weights are elements of it
     * @throws MalformedModelException if the file is damaged
     */
    public Encoding encoding(String name, Arena arena, Executor executor) {
        Packed p = packed(name);
        if (p.form == null) {
            throw new UnsupportedRequestException(file.path() + " holds a model; its weights are read after expanding it");
        }
        Form.Sparse s = p.form.sparse();
        Form.Quantized q = p.form.quantized();
        long bytes = p.dtype.bytes(p.rows * p.cols);
        Encoding values;
        if (q != null) {
            Shape codes = q.codes(p.shape);
            Tensor scales = side(p, Packed.SCALES, q.scaleType(), q.grid(p.shape).groups(), arena);
            Tensor zeros = q.symmetric() ? null
                    : side(p, Packed.ZEROS, q.type().signed() ? DType.I8 : DType.U8, q.grid(p.shape).groups(), arena);
            values = new Encoding.Quantized(q, p.shape, new Tensor(q.type(), codes, elements(p, bytes, arena, executor)),
                    scales, zeros);
        } else {
            values = new Encoding.Dense(new Tensor(p.dtype, p.shape, elements(p, bytes, arena, executor)));
        }
        return s == null ? values : new Encoding.Sparse(s, values);
    }

    private MemorySegment elements(Packed p, long bytes, Arena arena, Executor executor) {
        MemorySegment out = arena.allocate(bytes, 64);
        try (Arena own = Arena.ofShared()) {
            if (p.layout == null) {
                out.copyFrom(array(p, Packed.VALUES, p.dtype, p.valueShape()));
            } else {
                Sparse.unpack(matrix(p, own, executor), out, executor);
                SparseFormat.xor(out, p.xor, out);
            }
        }
        return out;
    }

    private Tensor side(Packed p, String part, DType type, long n, Arena arena) {
        Shape shape = Shape.of(n);
        MemorySegment from = array(p, part, type, shape);
        return new Tensor(type, shape, arena.allocate(from.byteSize(), 8).copyFrom(from));
    }

    /** Bytes of the model that {@link #expand} writes; 0 if the file holds none. */
    public long modelBytes() {
        return Math.max(0, modelLength);
    }

    /** {@link #expand(Path, boolean, Executor)}, replacing an existing file. */
    public long expand(Path out, Executor executor) throws IOException {
        return expand(out, true, executor);
    }

    /**
     * Rebuilds the ordinary model and writes it, whole or not at all.
     *
     * @param replace an existing file; else it stays, and that is an error
     * @return bytes of the model
     * @throws UnsupportedRequestException if the file holds none
     * @throws MalformedModelException if the file is damaged; nothing is written then
     * @throws IOException if writing fails; an older file is then as it was
     */
    public long expand(Path out, boolean replace, Executor executor) throws IOException {
        return expand(out, replace, executor, (weight, bytes) -> { });
    }

    /**
     * {@link #expand(Path, boolean, Executor)}.
     *
     * @param progress told the weight at hand, and how many bytes of {@link #modelBytes} are written
     */
    public long expand(Path out, boolean replace, Executor executor, ObjLongConsumer<String> progress) throws IOException {
        if (!holdsModel()) {
            throw new UnsupportedRequestException(file.path() + " holds single weights and no model");
        }
        if (InputFiles.replacedBy(out, List.of(file.path())) != null) {
            throw new IllegalArgumentException(out + " is the file that is read; write to another");
        }
        List<PlacedRun> pieces = pieces();
        MemorySegment skeleton = skeleton(pieces);
        Path folder = out.toAbsolutePath().normalize().getParent();
        if (Files.isDirectory(folder) && Files.getFileStore(folder).getUsableSpace() < modelLength) {
            throw new IOException("cannot write " + out + ": the model takes " + modelLength + " bytes, and the disk has fewer");
        }
        Phases phases = new Phases();
        try (DurableFile to = new DurableFile(folder, out.getFileName().toString(), phases)) {
            Checked checked = new Checked(to.channel(), out, phases);
            long from = 0;
            for (PlacedRun p : pieces) {
                long gap = p.place.offset() - checked.length;
                checked.put(skeleton.asSlice(from, gap));
                from += gap;
                progress.accept(p.weight.name, checked.length);
                write(p, checked, executor);
            }
            checked.put(skeleton.asSlice(from));
            if (!required("model.crc32c").equals(SparseFormat.hex((int) checked.checksum.getValue()))) {
                throw file.bad(file.metadataAt("model.crc32c"), "the rebuilt model has the checksum "
                        + SparseFormat.hex((int) checked.checksum.getValue()) + ", expected " + required("model.crc32c"));
            }
            to.commit(out, replace);
            return checked.length;
        } catch (FileAlreadyExistsException e) {
            throw e;
        } catch (IOException e) {
            throw DurableFile.explain(e, out);
        }
    }

    /** Elements of a weight at one place of the model. */
    private record PlacedRun(Packed weight, Place place, long length) {}

    /** In the order of the model, without overlaps. */
    private List<PlacedRun> pieces() {
        List<PlacedRun> pieces = new ArrayList<>();
        for (Packed p : weights.values()) {
            for (Place place : p.places) {
                long bytes = switch (place.content()) {
                    case ELEMENTS -> p.dtype.bytes(p.rows * p.cols);
                    case NONZEROS -> p.dtype.bytes(p.nnz);
                    case INDICES -> DType.I64.bytes(p.nnz);
                };
                pieces.add(new PlacedRun(p, place, bytes));
            }
        }
        pieces.sort(Comparator.comparingLong((PlacedRun p) -> p.place.offset()).thenComparingLong(PlacedRun::length));
        long end = 0;
        for (PlacedRun p : pieces) {
            if (p.place.offset() < end || p.length > modelLength - p.place.offset()) {
                throw badWeights("'" + p.weight.name + "' is to stand at byte " + p.place.offset() + " of the model with "
                        + p.length + " bytes, where there is no room");
            }
            end = p.place.offset() + p.length;
        }
        return pieces;
    }

    private MemorySegment skeleton(List<PlacedRun> pieces) {
        long length = modelLength;
        for (PlacedRun p : pieces) {
            length -= p.length;
        }
        MemorySegment s = array(SparseFormat.SKELETON, DType.U8, Shape.of(length));
        compare(SparseFormat.SKELETON, s, required("skeleton.crc32c"));
        return s;
    }

    private void write(PlacedRun piece, Checked to, Executor executor) throws IOException {
        Packed p = piece.weight;
        if (p.layout == null) {
            write(piece, array(p, Packed.VALUES, p.dtype, p.valueShape()), 0, to);
            return;
        }
        try (Arena arena = Arena.ofShared()) {
            executor.subject(p.name);
            SparseMatrix m = matrix(p, arena, executor);
            long side = Math.max(1, p.block);
            long line = p.dtype.bytes(p.cols) * side;
            long step = Math.max(1, PIECE / line);
            MemorySegment buffer = arena.allocate(Math.multiplyExact(Math.min(step, m.lines()), line), 64);
            long count = 0;
            for (long begin = 0; begin < m.lines(); begin += step) {
                long end = Math.min(m.lines(), begin + step);
                long rows = Math.min(p.rows, end * side) - begin * side;
                MemorySegment out = buffer.asSlice(0, rows * p.dtype.bytes(p.cols));
                Phases.Span span = to.phases.begin(Phases.Phase.KERNEL);
                Sparse.unpack(m, begin, end, out, executor);
                SparseFormat.xor(out, p.xor, out);
                span.end(p.name, out.byteSize());
                count += write(piece, out, begin * side * p.cols, to);
            }
            if (piece.place.content() != Content.ELEMENTS && count != p.nnz) {
                throw badWeights("'" + p.name + "' has " + count + " elements that are not zero, not " + p.nnz);
            }
        }
    }

    private static long write(PlacedRun piece, MemorySegment elements, long first, Checked to) throws IOException {
        if (piece.place.content() == Content.ELEMENTS) {
            to.put(elements);
            return 0;
        }
        return Coordinates.write(elements, piece.weight.dtype.bits() / 8, first,
                piece.place.content() == Content.INDICES, to::put);
    }

    /** Counts and sums up what passes. */
    private static final class Checked {
        private final FileChannel to;
        private final Path file;
        final Phases phases;
        final CRC32C checksum = new CRC32C();
        long length;

        Checked(FileChannel to, Path file, Phases phases) {
            this.to = to;
            this.file = file;
            this.phases = phases;
        }

        void put(MemorySegment s) throws IOException {
            for (long at = 0; at < s.byteSize(); at += STEP) {
                put(s.asSlice(at, Math.min(STEP, s.byteSize() - at)).asByteBuffer());
            }
        }

        void put(ByteBuffer b) throws IOException {
            long bytes = b.remaining();
            Phases.Span span = phases.begin(Phases.Phase.WRITE);
            checksum.update(b.duplicate());
            while (b.hasRemaining()) {
                to.write(b);
            }
            span.end(file, bytes);
            length += bytes;
        }
    }

    // Arrays

    private SparseMatrix matrix(Packed p, Arena arena, Executor executor) {
        MemorySegment offsets = p.offsetShape() == null ? MemorySegment.NULL
                : aligned(array(p, Packed.OFFSETS, DType.I64, p.offsetShape()), 8, arena);
        MemorySegment indices = array(p, Packed.INDICES, p.indexType(), p.indexShape());
        MemorySegment values = array(p, Packed.VALUES, p.dtype, p.valueShape());
        try {
            return SparseMatrix.of(p.layout, p.dtype, p.rows, p.cols, p.block, p.units, offsets,
                    aligned(indices, p.layout.indexBytes(), arena), aligned(values, p.dtype.bits() / 8, arena), arena,
                    executor);
        } catch (SparseFormatException e) {
            long line = Math.max(0, e.line());
            long at = p.offsetShape() != null ? file.entry(p.array(Packed.OFFSETS)).start() + 8 * line
                    : file.entry(p.array(Packed.INDICES)).start() + p.indexShape().dim(-1) * line;
            throw file.bad(at, "weight '" + p.name + "': " + e.getMessage());
        }
    }

    /** Files of ours are aligned; others need not be. */
    private static MemorySegment aligned(MemorySegment s, int bytes, Arena arena) {
        return s.address() % bytes == 0 ? s : arena.allocate(s.byteSize(), 8).copyFrom(s);
    }

    private MemorySegment array(Packed p, String part, DType type, Shape shape) {
        String name = p.array(part);
        MemorySegment s = array(name, type, shape);
        Integer expected = p.checksums.get(part);
        if (expected == null) {
            throw badWeights("'" + p.name + "' has no checksum of its " + part);
        }
        compare(name, s, SparseFormat.hex(expected));
        return s;
    }

    private MemorySegment array(String name, DType type, Shape shape) {
        Safetensors.Entry e = file.entry(name);
        if (e.dtype() != type || !e.shape().equals(shape)) {
            throw file.bad(e.described(), "tensor '" + name + "' is " + e.dtype() + " " + e.shape() + ", expected " + type
                    + " " + shape);
        }
        return file.tensor(name).data();
    }

    private void compare(String name, MemorySegment s, String expected) {
        String found = SparseFormat.hex(SparseFormat.checksum(s));
        if (!found.equals(expected)) {
            throw file.bad(file.entry(name).start(), "tensor '" + name + "' has the checksum " + found + ", expected "
                    + expected);
        }
    }

    // Metadata

    private String required(String key) {
        String v = file.metadata().get(key);
        if (v == null) {
            throw file.bad(file.metadataAt(key), "the metadata have no '" + key + "'");
        }
        return v;
    }

    private long length(String text) {
        try {
            long n = Long.parseLong(text);
            if (n >= 0) {
                return n;
            }
        } catch (NumberFormatException e) {
            // said below
        }
        throw file.bad(file.metadataAt("model.length"), "expected the length of the model, found '" + text + "'");
    }

    private MalformedModelException badWeights(String what) {
        return file.bad(file.metadataAt(WEIGHTS), "metadata 'weights': " + what);
    }

    private Packed weight(Map<String, Object> o, boolean model) {
        String name = string(o, "name");
        DType dtype = Safetensors.typeOf(string(o, "dtype"));
        if (dtype == null) {
            throw badWeights("'" + name + "' has no known type");
        }
        Packed p = new Packed(name, dtype, number(o, "rows"), number(o, "cols"));
        try {
            dtype.bytes(Math.multiplyExact(p.rows, p.cols));
        } catch (ArithmeticException e) {
            throw badWeights("the size of '" + name + "' does not fit in 64 bits");
        }
        readLayout(p, o);
        for (Map.Entry<String, Object> c : object(o.get("crc32c")).entrySet()) {
            p.checksums.put(c.getKey(), hexOf(c.getValue()));
        }
        if (model) {
            readPlaces(p, o);
        } else {
            readForm(p, o);
        }
        return p;
    }

    private void readLayout(Packed p, Map<String, Object> o) {
        String id = string(o, "layout");
        if (id.equals(Packed.DENSE)) {
            return;
        }
        for (Layout l : Layout.values()) {
            if (l.id().equals(id)) {
                p.layout = l;
            }
        }
        if (p.layout == null || !p.packable()) {
            throw badWeights("'" + p.name + "' cannot have the layout '" + id + "'");
        }
        p.units = number(o, "units");
        long block = o.containsKey("block") ? number(o, "block") : 0;
        long xor = o.containsKey("xor") ? number(o, "xor") : 0;
        if (block > 64 || xor > 255 || xor != 0 && p.dtype.bits() != 8) {
            throw badWeights("'" + p.name + "' has block " + block + " and xor " + xor);
        }
        p.block = (int) block;
        p.xor = (int) xor;
        if (p.dtype.bytes(p.cols) * Math.max(1, block) > LONGEST_LINE) {
            throw badWeights("the lines of '" + p.name + "' are longer than " + LONGEST_LINE + " bytes");
        }
        try {
            Sparse.sizes(p.layout, p.dtype, p.rows, p.cols, p.block, p.units);
        } catch (IllegalArgumentException e) {
            throw badWeights("'" + p.name + "': " + e.getMessage());
        }
    }

    private void readPlaces(Packed p, Map<String, Object> o) {
        p.nnz = number(o, "nonzeros");
        if (p.nnz > p.rows * p.cols) {
            throw badWeights("'" + p.name + "' has more elements that are not zero than elements");
        }
        for (Object part : list(o.get("parts"))) {
            Map<String, Object> place = object(part);
            String as = string(place, "as");
            Content found = null;
            for (Content candidate : Content.values()) {
                if (Packed.id(candidate).equals(as)) {
                    found = candidate;
                }
            }
            boolean wide = p.dtype == DType.F32 || p.dtype == DType.F16 || p.dtype == DType.BF16;
            if (found == null || found != Content.ELEMENTS && (!wide || p.layout == null)) {
                throw badWeights("'" + p.name + "' cannot stand in the model as '" + as + "'");
            }
            p.places.add(new Place(found, number(place, "offset")));
        }
    }

    private void readForm(Packed p, Map<String, Object> o) {
        List<Object> dims = list(o.get("shape"));
        long[] shape = new long[dims.size()];
        for (int i = 0; i < shape.length; i++) {
            shape[i] = number(dims.get(i), "shape");
        }
        try {
            p.shape = Shape.of(shape);
            Form.Quantized q = o.containsKey("quantized") ? quantized(object(o.get("quantized"))) : null;
            Form values = q == null ? new Form.Dense(p.dtype) : q;
            long bytes = q == null ? values.bytes(p.shape) : q.codeBytes(p.shape);
            if (q != null && p.dtype != (q.type().bits() < 8 ? DType.U8 : q.type())
                    || bytes != p.dtype.bytes(p.rows * p.cols)) {
                throw badWeights("'" + p.name + "' is " + p.rows + " x " + p.cols + " " + p.dtype + ", expected "
                        + values.describe() + " of " + p.shape);
            }
            p.form = values;
            if (o.containsKey("sparse")) {
                Map<String, Object> s = object(o.get("sparse"));
                p.form = new Form.Sparse(values, string(s, "pattern"), number(s, "nonzeros"),
                        Form.Storage.valueOf(string(s, "storage").toUpperCase(Locale.ROOT)));
            }
        } catch (IllegalArgumentException | ArithmeticException e) {
            throw badWeights("'" + p.name + "': " + e.getMessage());
        }
    }

    private Form.Quantized quantized(Map<String, Object> o) {
        DType scale = Safetensors.typeOf(string(o, "scale_type"));
        DType type = DType.valueOf(string(o, "type"));
        long bits = number(o, "bits");
        Object axis = o.get("axis");
        long block = number(o, "block");
        boolean integer = type == DType.I8 || type == DType.U8 || type == DType.I4 || type == DType.U4;
        if (!integer || bits < 2 || bits > type.bits() || !(axis instanceof Long a) || a < -1 || a > 255 || block > 1 << 20
                || scale == null || !scale.compressible()) {
            throw new IllegalArgumentException("no such codes: " + o);
        }
        return new Form.Quantized((int) bits, (int) (long) a, (int) block, flag(o, "symmetric"),
                Form.Activations.valueOf(string(o, "activations").toUpperCase(Locale.ROOT)), type, scale,
                flag(o, "transposed"), flag(o, "padded"));
    }

    private int hexOf(Object o) {
        try {
            if (o instanceof String s && s.length() == 8) {
                return HexFormat.fromHexDigits(s);
            }
        } catch (NumberFormatException e) {
            // said below
        }
        throw badWeights("expected eight hexadecimal digits, found " + o);
    }

    private String string(Map<String, Object> o, String key) {
        if (o.get(key) instanceof String s) {
            return s;
        }
        throw badWeights("expected a string '" + key + "', found " + o.get(key));
    }

    private long number(Map<String, Object> o, String key) {
        return number(o.get(key), key);
    }

    private long number(Object o, String key) {
        if (o instanceof Long n && n >= 0) {
            return n;
        }
        throw badWeights("expected a number from 0 up as '" + key + "', found " + o);
    }

    private boolean flag(Map<String, Object> o, String key) {
        if (o.get(key) instanceof Boolean b) {
            return b;
        }
        throw badWeights("expected true or false as '" + key + "', found " + o.get(key));
    }

    @SuppressWarnings("unchecked")
    private Map<String, Object> object(Object o) {
        if (o instanceof Map<?, ?>) {
            return (Map<String, Object>) o;
        }
        throw badWeights("expected an object, found " + o);
    }

    @SuppressWarnings("unchecked")
    private List<Object> list(Object o) {
        if (o instanceof List<?>) {
            return (List<Object>) o;
        }
        throw badWeights("expected an array, found " + o);
    }

    /** Objects as maps, arrays as lists, whole numbers as Long. */
    private Object parse(String text) {
        JsonFactory factory = new JsonFactoryBuilder().enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
                .streamReadConstraints(StreamReadConstraints.builder().maxNestingDepth(8)
                        .maxStringLength(Safetensors.LARGEST_HEADER).build()).build();
        try (JsonParser json = factory.createParser(text)) {
            Object all = value(json, json.nextToken());
            if (json.nextToken() != null) {
                throw badWeights("expected the end");
            }
            return all;
        } catch (IOException e) {
            throw badWeights("not JSON: " + e.getMessage().lines().findFirst().orElse(""));
        }
    }

    private Object value(JsonParser json, JsonToken first) throws IOException {
        if (first == null) {
            throw badWeights("it ends too early");
        }
        return switch (first) {
            case START_OBJECT -> {
                Map<String, Object> o = new HashMap<>();
                while (json.nextToken() == JsonToken.FIELD_NAME) {
                    String key = json.currentName();
                    o.put(key, value(json, json.nextToken()));
                }
                yield o;
            }
            case START_ARRAY -> {
                List<Object> l = new ArrayList<>();
                for (JsonToken t; (t = json.nextToken()) != JsonToken.END_ARRAY;) {
                    l.add(value(json, t));
                }
                yield l;
            }
            case VALUE_STRING -> json.getText();
            case VALUE_TRUE -> true;
            case VALUE_FALSE -> false;
            case VALUE_NUMBER_INT -> json.getLongValue();
            default -> throw badWeights("unexpected " + json.getText());
        };
    }

    @Override
    public void close() {
        file.close();
    }
}
