package dev.tensorpress.model.compressedtensors;

import com.fasterxml.jackson.core.JsonToken;
import dev.tensorpress.io.Buffers;
import dev.tensorpress.io.DurableFolder;
import dev.tensorpress.io.PlannedFile;
import dev.tensorpress.io.ReadAhead;
import dev.tensorpress.io.ReadAhead.Range;
import dev.tensorpress.io.StreamFile;
import dev.tensorpress.io.StrictJson;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Machine;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.compressedtensors.PackedWeight.Shapes;
import dev.tensorpress.model.safetensors.Config;
import dev.tensorpress.model.safetensors.Header;
import dev.tensorpress.model.safetensors.Index;
import dev.tensorpress.model.safetensors.Safetensors;
import dev.tensorpress.model.safetensors.Safetensors.Entry;
import dev.tensorpress.model.safetensors.SafetensorsModel;
import dev.tensorpress.model.safetensors.Shards;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.ObjLongConsumer;

/**
 * A folder of compressed-tensors: {@code config.json} says by which scheme which modules are compressed, and the tensors of
 * such a module are codes, scales, and what else the scheme asks for. Read are the formats {@code pack-quantized} and
 * {@code int-quantized} with integers of their own scales, one per tensor, row or group of a row; whatever else a
 * configuration asks for is refused. Factors of a weight, which only this library writes, are described in the metadata of their
 * file.
 */
public final class CompressedModel implements AutoCloseable {
    /** What the tensors of a compressed module are called, after the module's name and a dot. */
    private static final Set<String> PARTS = Set.of(Scheme.PACKED_CODES, Scheme.SCALES, Scheme.ZEROS, Scheme.SHAPE,
            "weight_g_idx", "weight_global_scale");

    private final SafetensorsModel model;
    /** By the names of their modules, in the order of the files. */
    private final Map<String, PackedWeight> weights = new LinkedHashMap<>();
    /** By the names of their weights. */
    private final Map<String, Factors> products = new LinkedHashMap<>();
    /** All tensors of the expanded model, in the order of the files. */
    private final List<Restored> restored = new ArrayList<>();

    /**
     * A weight in factors.
     *
     * @param left [rows, rank], or [columns, rank] if transposed
     * @param right [rank, columns], or [rank, rows]
     * @param shape of the weight; its first axis are the rows, all others the columns
     */
    record Factors(StoredTensor left, StoredTensor right, Shape shape, boolean transposed) {}

    /**
     * A tensor of the expanded model: one that stays as it is, or what packed codes or factors stand for; the others are null.
     *
     * @param transposed whether codes are those of its columns
     */
    record Restored(String name, DType dtype, Shape shape, StoredTensor kept, PackedWeight packed, boolean transposed, Factors factors)
            implements Shards.Item {
        @Override
        public long bytes() {
            return dtype.bytes(shape.elements());
        }

        long rows() {
            return shape.dim(0);
        }

        long cols() {
            return rows() == 0 ? 0 : shape.elements() / rows();
        }
    }

    private CompressedModel(SafetensorsModel model, Schemes schemes) throws IOException {
        this.model = model;
        if (schemes != null) {
            findPacked(schemes);
        }
        for (Safetensors file : model.shards()) {
            findFactors(file);
        }
        Map<String, Shape> shapes = new HashMap<>();
        for (Safetensors file : model.shards()) {
            findShapes(file, CompressedTensorsTarget.TRANSPOSED, shapes);
            findShapes(file, CompressedTensorsTarget.STACKED, shapes);
        }
        Set<Entry> parts = new HashSet<>();
        for (PackedWeight w : weights.values()) {
            parts.addAll(w.entries());
        }
        for (Factors f : products.values()) {
            parts.add(f.left.entry());
            parts.add(f.right.entry());
        }
        for (Safetensors file : model.shards()) {
            for (Entry e : file.inOrder()) {
                PackedWeight w = weights.get(module(e.name()));
                String factored = e.name().endsWith(CompressedLowering.LEFT)
                        ? e.name().substring(0, e.name().length() - CompressedLowering.LEFT.length()) : "";
                Factors f = products.get(factored);
                if (!parts.contains(e)) {
                    restored.add(new Restored(e.name(), e.dtype(), e.shape(), new StoredTensor(file, e), null, false, null));
                } else if (w != null && w.codes.entry() == e) {
                    // A transposed one has its own name, a stack that of what would be its module.
                    Shape shape = shapes.getOrDefault(w.module, shapes.get(w.name()));
                    restored.add(new Restored(shapes.containsKey(w.module) ? w.module : w.name(), w.dtype(),
                            shape == null ? w.shape() : shape, null, w, shapes.containsKey(w.name()), null));
                } else if (f != null && f.left.entry() == e) {
                    restored.add(new Restored(factored, e.dtype(), f.shape, null, null, false, f));
                }
            }
        }
        Set<String> names = new HashSet<>();
        for (Restored r : restored) {
            if (!names.add(r.name)) {
                throw new MalformedModelException(model.path(), -1, "two tensors would have the name '" + r.name
                        + "' when expanded");
            }
        }
    }

    private void findPacked(Schemes schemes) throws IOException {
        Map<String, Map<String, StoredTensor>> modules = new LinkedHashMap<>();
        for (Safetensors file : model.shards()) {
            for (Entry e : file.inOrder()) {
                String part = part(e.name());
                boolean codes = part.equals(Scheme.PLAIN_CODES) && e.dtype() == DType.I8 && e.shape().rank() == 2;
                Scheme scheme = codes ? schemes.of(module(e.name())) : null;
                if (PARTS.contains(part) || scheme != null && !scheme.packed()) {
                    modules.computeIfAbsent(module(e.name()), m -> new LinkedHashMap<>()).put(part, new StoredTensor(file, e));
                }
            }
        }
        try (Shapes shapes = new Shapes()) {
            for (Map.Entry<String, Map<String, StoredTensor>> e : modules.entrySet()) {
                Scheme scheme = schemes.of(e.getKey());
                if (scheme != null) {
                    weights.put(e.getKey(), new PackedWeight(e.getKey(), scheme, e.getValue(), shapes));
                } else if (!schemes.ignored(e.getKey())) {
                    throw e.getValue().values().iterator().next().bad("belongs to a module that no group of the configuration"
                            + " targets by its name, nor as Linear");
                }
            }
        }
        checkNames(schemes);
    }

    private void findFactors(Safetensors file) {
        String text = file.metadata().get(CompressedTensorsTarget.FACTORS);
        if (text == null) {
            return;
        }
        long at = file.metadataAt(CompressedTensorsTarget.FACTORS);
        StrictJson.read(file.path(), text.getBytes(StandardCharsets.UTF_8), at, "the description of factors", json -> {
            json.next();
            json.members("the description of factors", name -> {
                long[][] dims = new long[1][];
                Boolean[] transposed = new Boolean[1];
                json.members("'" + name + "'", key -> {
                    switch (key) {
                        case "shape" -> dims[0] = numbers(json, name);
                        case "transposed" -> transposed[0] = json.truth();
                        default -> throw json.bad("'" + key + "' of '" + name + "' is not known");
                    }
                });
                if (dims[0] == null || transposed[0] == null) {
                    throw json.bad("'" + name + "' has no " + (dims[0] == null ? "shape" : "word on whether it is transposed"));
                }
                products.put(name, factors(file, name, dims[0], transposed[0]));
            });
            json.end();
            return null;
        });
    }

    /**
     * What weights were before, by their names, where codes have another shape: the transposed one, or that of a stack of matrices,
     * whose name has nothing that names a tensor of a module.
     */
    private void findShapes(Safetensors file, String key, Map<String, Shape> shapes) {
        String text = file.metadata().get(key);
        if (text == null) {
            return;
        }
        boolean stacked = key.equals(CompressedTensorsTarget.STACKED);
        String what = "the description of " + (stacked ? "stacks" : "transposed weights");
        StrictJson.read(file.path(), text.getBytes(StandardCharsets.UTF_8), file.metadataAt(key), what, json -> {
            json.next();
            json.members(what, name -> {
                long[][] dims = new long[1][];
                json.members("'" + name + "'", inner -> {
                    if (!stacked || !inner.equals("shape")) {
                        throw json.bad("'" + inner + "' of '" + name + "' is not known");
                    }
                    dims[0] = numbers(json, name);
                });
                PackedWeight w = weights.get(stacked ? name : module(name));
                if (w == null || !stacked && !w.name().equals(name)) {
                    throw json.bad("'" + name + "' is not compressed");
                }
                if (stacked && (dims[0] == null || dims[0].length != 3 || dims[0][2] != w.cols || w.rows == 0 || dims[0][1] == 0
                        || w.rows % dims[0][1] != 0 || dims[0][0] != w.rows / dims[0][1])) {
                    throw json.bad("'" + name + "' has codes of " + w.rows + " x " + w.cols + ", expected " + Arrays.toString(dims[0]));
                }
                shapes.put(name, stacked ? Shape.of(dims[0]) : Shape.of(w.cols, w.rows));
            });
            json.end();
            return null;
        });
    }

    private static long[] numbers(StrictJson json, String name) {
        List<Long> values = new ArrayList<>();
        if (json.token() != JsonToken.START_ARRAY) {
            throw json.bad("expected an array as the shape of '" + name + "'");
        }
        while (json.next() != JsonToken.END_ARRAY) {
            if (json.token() != JsonToken.VALUE_NUMBER_INT || json.negative() || !json.fits()) {
                throw json.bad("expected whole numbers from 0 up as the shape of '" + name + "'");
            }
            values.add(json.number());
        }
        return values.stream().mapToLong(Long::longValue).toArray();
    }

    private static Factors factors(Safetensors file, String name, long[] dims, boolean transposed) {
        StoredTensor left = new StoredTensor(file, file.entry(name + CompressedLowering.LEFT));
        StoredTensor right = new StoredTensor(file, file.entry(name + CompressedLowering.RIGHT));
        long[] l = left.entry().shape().dims();
        long[] r = right.entry().shape().dims();
        if (l.length != 2 || r.length != 2 || l[1] != r[0] || l[1] == 0) {
            throw right.bad("is " + Arrays.toString(r) + ", which '" + left.entry().name() + "' of " + Arrays.toString(l)
                    + " cannot be multiplied by");
        }
        DType type = left.entry().dtype();
        if (!type.compressible() || right.entry().dtype() != type) {
            throw right.bad("is " + right.entry().dtype() + " and the other factor " + type + ", expected both F32, F16 or BF16");
        }
        long rows = transposed ? r[1] : l[0];
        long cols = transposed ? l[0] : r[1];
        long others = 1;
        for (int i = 1; i < dims.length && others <= cols; i++) {
            others = dims[i] <= cols ? others * dims[i] : cols + 1;
        }
        if (dims.length < 2 || dims[0] != rows || others != cols || rows == 0 || cols == 0) {
            throw left.bad("and the other factor make " + rows + " x " + cols + ", expected " + Arrays.toString(dims));
        }
        return new Factors(left, right, Shape.of(dims), transposed);
    }

    /** No tensor that stays may have the name of a weight that comes back, nor be one that should have been compressed. */
    private void checkNames(Schemes schemes) {
        for (Safetensors file : model.shards()) {
            for (Entry e : file.inOrder()) {
                PackedWeight w = weights.get(module(e.name()));
                if (part(e.name()).equals("weight") && (w == null ? schemes.names(module(e.name())) : w.codes.entry() != e)) {
                    throw file.bad(e.described(), "tensor '" + e.name() + "' is " + e.dtype() + ", and its module is compressed "
                            + (w == null ? "as the configuration has it" : "as well"));
                }
            }
        }
    }

    private static String part(String name) {
        return name.substring(name.lastIndexOf('.') + 1);
    }

    private static String module(String name) {
        return name.substring(0, Math.max(0, name.lastIndexOf('.')));
    }

    /** {@link #open(Path, boolean)} without links. */
    public static CompressedModel open(Path path) throws IOException {
        return open(path, false);
    }

    /**
     * Opens a folder. The caller closes it.
     *
     * @param path a folder, or the index in it
     * @param allowLinks whether links in the folder may lead out of it
     * @throws MalformedModelException if files or configuration are not what they should be, or contradict each other
     * @throws UnsupportedRequestException if nothing in the folder is compressed, or by a method that is not known here; or if a
     *     file of it is a link that is not followed
     * @throws IOException if a file cannot be read
     */
    public static CompressedModel open(Path path, boolean allowLinks) throws IOException {
        SafetensorsModel model = SafetensorsModel.open(path, Map.of(), allowLinks);
        try {
            Path config = model.configuration();
            CompressedModel compressed = new CompressedModel(model, config == null ? null : Schemes.read(config));
            if (compressed.names().isEmpty()) {
                throw new UnsupportedRequestException(path + " holds no compressed weight" + (config == null
                        ? "; a folder has a config.json that says which are" : ": " + config + " tells of none"));
            }
            return compressed;
        } catch (IOException | RuntimeException | Error e) {
            model.close();
            throw e;
        }
    }

    /** Names of the compressed weights, as they are called where they are not compressed. */
    public List<String> names() {
        List<String> names = new ArrayList<>(products.keySet());
        for (PackedWeight w : weights.values()) {
            names.add(w.name());
        }
        return names;
    }

    /** Bytes of all tensors of the expanded model. */
    public long bytes() {
        long n = 0;
        for (Restored r : restored) {
            n = Math.addExact(n, r.bytes());
        }
        return n;
    }

    /** The model as it is stored. */
    public SafetensorsModel model() {
        return model;
    }

    /**
     * Writes the model as it was before it was compressed, but for what compression lost: an ordinary folder. A code q becomes
     * (q - z) * s, computed in f32 and rounded once to the type of the scale s; a product of factors is rounded as well. All other
     * tensors, and files, come out byte for byte; from {@code config.json} only {@code quantization_config} is taken.
     *
     * <p>It is written as {@link dev.tensorpress.model.Target#write} writes folders: whole or not at all, in memory that does not
     * depend on the size of the model, and an interrupted run can be resumed.
     *
     * @param shardSize bytes of tensors that a file holds at most, unless one has more
     * @param progress told the tensor at hand, and how many bytes of {@link #bytes} are written
     * @return all files, the one that makes the model whole last
     * @throws UnsupportedRequestException if a few rows of a weight take more memory than {@code to} allows
     * @throws IOException if a file cannot be read or written, or the model changed meanwhile
     */
    public Set<Path> expand(Destination to, long shardSize, Executor executor, ObjLongConsumer<String> progress)
            throws IOException {
        return expand(to, shardSize, executor, progress, Expansion.AT_ONCE);
    }

    /** @param elements that are decoded together */
    Set<Path> expand(Destination to, long shardSize, Executor executor, ObjLongConsumer<String> progress, long elements)
            throws IOException {
        List<List<Restored>> single = new ArrayList<>();
        for (Restored r : restored) {
            single.add(List.of(r));
        }
        List<List<Restored>> shards = Shards.cut(single, shardSize);
        List<PlannedFile> plans = new ArrayList<>();
        for (List<Restored> shard : shards) {
            List<PlannedFile.Tensor> items = new ArrayList<>();
            for (Restored r : shard) {
                items.add(Header.tensor(r.name, r.dtype, r.shape));
            }
            plans.add(Header.plan(Shards.name(plans.size(), shards.size()), items, Map.of("format", "pt")));
        }
        Map<String, String> provenance = new HashMap<>(to.provenance());
        provenance.put("tool", Machine.version());
        provenance.put("kernels", Integer.toString(Machine.abi()));
        Destination known = new Destination(to.path(), to.overwrite(), to.resume(), to.memory(), provenance,
                to.phases());
        Path config = model.configuration();
        byte[] plain = config == null ? null
                : CompressionConfig.without(config, StrictJson.bytes(config, "the configuration of a model"));
        Map<String, byte[]> made = Index.madeFor(plans);
        if (plain != null) {
            made.put(Config.NAME, plain);
        }
        try (Expansion expansion = new Expansion(restored, to, executor, progress, elements);
                Buffers buffers = new Buffers(to.memory() / Expansion.SHARE_OF_BUFFERS, to.phases());
                DurableFolder folder = DurableFolder.begin(known, new DurableFolder.Contents("expanded", shardSize, plans, made),
                        model.source(), buffers)) {
            List<Range> ranges = new ArrayList<>();
            for (int i = 0; i < shards.size(); i++) {
                for (Restored r : shards.get(i)) {
                    if (folder.finished(i)) {
                        expansion.skip(r);
                    } else {
                        expansion.ranges(r, ranges);
                    }
                }
            }
            // One for all, so that the next shard is read while one is made durable.
            try (ReadAhead ahead = new ReadAhead(ranges, buffers)) {
                for (int i = 0; i < shards.size(); i++) {
                    if (folder.finished(i)) {
                        continue;
                    }
                    try (StreamFile file = folder.shard(i)) {
                        for (Restored r : shards.get(i)) {
                            expansion.write(r, file, ahead);
                        }
                        folder.done(i, file);
                    }
                }
            }
            return folder.commit();
        }
    }

    List<PackedWeight> weights() {
        return List.copyOf(weights.values());
    }

    @Override
    public void close() {
        model.close();
    }
}
