package dev.tensorpress.model.compressedtensors;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.io.Buffers;
import dev.tensorpress.io.DurableFolder;
import dev.tensorpress.io.Manifest;
import dev.tensorpress.io.PlannedFile;
import dev.tensorpress.io.ReadAhead;
import dev.tensorpress.io.ReadAhead.Range;
import dev.tensorpress.io.StreamFile;
import dev.tensorpress.io.StrictJson;
import dev.tensorpress.kernel.Machine;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Lowering;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.compressedtensors.CompressedLowering.Output;
import dev.tensorpress.model.safetensors.Config;
import dev.tensorpress.model.safetensors.Header;
import dev.tensorpress.model.safetensors.Index;
import dev.tensorpress.model.safetensors.SafetensorsModel;
import dev.tensorpress.model.safetensors.Shards;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;

/**
 * Writes a folder that holds the model in compressed-tensors (github.com/vllm-project/compressed-tensors), which servers of
 * language models load: shards, their index, a {@code config.json} that says by which scheme each module is stored, and what
 * else the model's folder has.
 *
 * <p>Matrices of linear layers become codes of 4 or 8 bits with a scale per row, or per group of 32, 64 or 128 columns;
 * {@code pack-quantized}, or with activations that are rounded when the model runs {@code int-quantized}. Other matrices of a
 * linear layer are named as not compressed. Those stored [in, out], as GPT-2's are, become [out, in] on the way, which is noted in the
 * metadata of their file. Pruned weights keep their zeros in place. Factors are tensors {@code NAME.left} and
 * {@code NAME.right}, described in the metadata of their file; only {@code tensorpress expand} puts them together.
 */
final class CompressedTensorsTarget implements Target {
    /** Sizes of groups that servers have kernels for. */
    private static final int[] GROUPS = {32, 64, 128};
    /** What sizes of groups are multiples of. */
    private static final int GRAIN = 16;

    /** Keys of the metadata: of weights by name, what their forms say, as JSON. */
    static final String FACTORS = "tensorpress.factors";
    static final String PRUNED = "tensorpress.pruned";
    static final String TRANSPOSED = "tensorpress.transposed";
    static final String STACKED = "tensorpress.stacked";
    /** Parts of the memory for what is on its way, for tensors that wait for others, and for a weight that is read whole. */
    private static final int SHARE_OF_BUFFERS = 4;
    private static final int SHARE_OF_WAITING = 8;
    private static final int SHARE_OF_WHOLE = 2;

    /** The option: forms that no loader reads are written as well. */
    static final String FORCE = "force-scheme";
    private static final String CARD_FILE = "README.md";
    private static final String HOW = "option " + FORCE + " writes them all the same, for expand";

    private final SafetensorsModel model;
    private final boolean force;
    private final boolean card;
    private final long shardSize;
    /** Sizes of the rows of experts, all of which a group has to divide. */
    private final long[] expertColumns;

    /**
     * @param force write what no loader reads as well, and weights of a group each as it wants
     * @param card say on the model's card what was done
     * @param shardSize bytes of tensors that a file holds at most, unless one weight takes more
     */
    CompressedTensorsTarget(SafetensorsModel model, boolean force, boolean card, long shardSize) {
        this.model = model;
        this.force = force;
        this.card = card;
        this.shardSize = shardSize;
        this.expertColumns = Loaders.expertColumns(model.weights());
    }

    @Override
    public String name() {
        return CompressedTensors.NAME;
    }

    @Override
    public boolean writesFolder() {
        return true;
    }

    @Override
    public CompressedLowering lower(Weight weight, Form wanted) {
        CompressedLowering lowering = new CompressedLowering(weight, form(weight, wanted));
        if (lowering.form().factors() != null && !force) {
            throw new UnsupportedRequestException("no loader puts factors together; " + HOW);
        }
        if (lowering.codes() != null && lowering.bytes() >= weight.tensor().bytes()) {
            throw new UnsupportedRequestException("would take " + lowering.bytes() + " bytes, packed and with its shape");
        }
        for (Output o : lowering.outputs) {
            if (!o.name().equals(weight.name()) && model.has(o.name())) {
                throw new UnsupportedRequestException("there is a tensor '" + o.name() + "' already");
            }
        }
        return lowering;
    }

    @Override
    public CompressedLowering replaced(Weight weight) {
        return new CompressedLowering(weight, new Form.Dense(weight.tensor().dtype()));
    }

    private Form form(Weight weight, Form wanted) {
        if (weight.role() == Role.HEAD && model.tied().isPresent()) {
            throw new UnsupportedRequestException("is tied to the token embedding");
        }
        boolean decoded = switch (wanted.values().kind()) {
            case QUANTIZED -> !Scheme.holds(wanted.quantized().bits());
            case CODEBOOK, TRANSFORMED, HASHED -> true;
            case DENSE, SPARSE, LOW_RANK, CHAIN, SUM -> false;
        };
        if (weight.role() == Role.HEAD && !force && !decoded) {
            throw new UnsupportedRequestException("is the head, which vLLM before March 2026, and SGLang, take for one that is not"
                    + " compressed; " + HOW);
        }
        return switch (wanted.kind()) {
            case DENSE -> wanted;
            case QUANTIZED -> decoded ? decoded(weight, wanted.quantized()) : quantized(weight, wanted.quantized());
            case CODEBOOK, TRANSFORMED, HASHED -> new Form.Dense(weight.tensor().dtype(), Optional.of(wanted));
            case SPARSE -> wanted.sparse().of(form(weight, wanted.values())).stored(Form.Storage.MASKED);
            case LOW_RANK -> {
                if (!wanted.factors().left().dense() || !wanted.factors().right().dense()) {
                    throw new UnsupportedRequestException("factors are stored in the weight's own type, and cannot be quantized");
                }
                yield wanted;
            }
            case CHAIN -> throw new UnsupportedRequestException("compressed-tensors has no place for convolutions that follow each other");
            case SUM -> throw new UnsupportedRequestException("compressed-tensors has no place for a correction");
        };
    }

    /** Of codes with bits that are not packed: elements of the weight's type. */
    private static Form.Dense decoded(Weight weight, Form.Quantized q) {
        Shape shape = weight.tensor().shape();
        // Groups along the middle axes of a stack, or of a kernel, are not to be seen in one matrix.
        boolean plain = shape.rank() <= 2 || q.axis() < 0 || q.axis() == 0 && q.block() == 0;
        int axis = plain ? q.axis() : shape.rank() - 1;
        int block = plain || q.block() > 0 ? q.block() : GROUPS[GROUPS.length - 1];
        return new Form.Dense(weight.tensor().dtype(), Optional.of(new Form.Quantized(q.bits(), axis, block, q.symmetric(),
                Form.Activations.FLOAT, q.bits() < 4 ? DType.I4 : DType.I8, DType.F32, false, false)));
    }

    private Form.Quantized quantized(Weight weight, Form.Quantized q) {
        if (!weight.role().isProduct()) {
            throw new UnsupportedRequestException("role " + weight.role().id() + ": compressed-tensors is for matrices of linear"
                    + " layers");
        }
        Shape shape = weight.tensor().shape();
        boolean turned = shape.rank() == 2 && weight.inputAxis() == 0;
        boolean stack = shape.rank() == 3 && weight.role() == Role.LINEAR && CompressedLowering.module(weight.name()) == null;
        if (stack && !force) {
            throw new UnsupportedRequestException("is a stack of experts, and no loader reads one that is compressed; " + HOW);
        }
        if (shape.rank() != 2 && !stack) {
            throw new UnsupportedRequestException("is of shape " + shape + ", where compressed-tensors has [out, in]");
        }
        if (CompressedLowering.module(weight.name()) == null && !stack) {
            throw new UnsupportedRequestException((turned ? "is stored [in, out], and " : "") + "its name has no '.weight' at its"
                    + " end, by which readers find it");
        }
        // Experts are read with neither zero points nor activations that are rounded.
        boolean expert = !force && ModulePatterns.isExpert(weight.name());
        // A scale for each row of each expert would be one for each input.
        int block = stack && q.block() == 0 ? GROUPS[GROUPS.length - 1] : q.block();
        int group = block == 0 ? 0 : group(block, expert ? expertColumns : new long[] {shape.dim(turned ? 0 : -1)});
        boolean dynamic = q.activations() == Form.Activations.DYNAMIC && q.bits() == 8 && q.symmetric() && group == 0 && !expert
                && !turned;
        // The axis of channels, or the one along which groups run: that of inputs, or of a stack the last.
        int axis = stack ? 2 : (group == 0) == turned ? 1 : 0;
        return new Form.Quantized(q.bits(), axis, group, q.symmetric() || expert,
                dynamic ? Form.Activations.DYNAMIC : Form.Activations.FLOAT,
                dynamic ? DType.I8 : q.bits() == 8 ? DType.U8 : DType.U4, weight.tensor().dtype(), turned, false);
    }

    /**
     * The size next to {@code wanted}, by their ratio, that divides all rows: of those that servers have fast kernels for, or if none
     * of these does, of all that kernels know.
     */
    private static int group(int wanted, long... cols) {
        int best = 0;
        for (int g : GROUPS) {
            if (divides(g, cols) && (best == 0 || ratio(g, wanted) < ratio(best, wanted))) {
                best = g;
            }
        }
        boolean slow = best == 0;
        for (int g = GRAIN; slow && g <= GROUPS[GROUPS.length - 1]; g += GRAIN) {
            if (divides(g, cols) && (best == 0 || ratio(g, wanted) <= ratio(best, wanted))) {
                best = g;
            }
        }
        if (best == 0) {
            throw new UnsupportedRequestException("its " + cols[0] + " columns" + (cols.length > 1 ? ", and those of other experts,"
                    : "") + " are no whole groups of a multiple of " + GRAIN);
        }
        return best;
    }

    private static boolean divides(int group, long[] cols) {
        for (long c : cols) {
            if (c % group != 0) {
                return false;
            }
        }
        return true;
    }

    private static double ratio(int a, int b) {
        return (double) Math.max(a, b) / Math.min(a, b);
    }

    @Override
    public List<Group> groups() {
        return force ? List.of() : Loaders.groups(model.weights());
    }

    @Override
    public Optional<Object> scheme(Lowering lowering) {
        return Optional.ofNullable(((CompressedLowering) lowering).codes()).map(Scheme::of);
    }

    @Override
    public List<String> remarks(Map<Weight, Lowering> lowerings) {
        List<String> remarks = new ArrayList<>();
        if (!model.consolidated().isEmpty()) {
            remarks.add(String.join(", ", model.consolidated()) + " is not read, and left out: it has the weights a second time,"
                    + " by names that transformers does not know");
        }
        int factors = 0;
        int transposed = 0;
        int stacks = 0;
        boolean codes = false;
        for (Map.Entry<Weight, Lowering> e : lowerings.entrySet()) {
            factors += e.getValue().form().factors() != null ? 1 : 0;
            Form.Quantized q = ((CompressedLowering) e.getValue()).codes();
            transposed += q != null && q.transposed() ? 1 : 0;
            stacks += q != null && e.getKey().tensor().shape().rank() == 3 ? 1 : 0;
            codes |= q != null;
        }
        if (stacks > 0) {
            remarks.add("no loader reads the " + stacks + " stacks of experts that are compressed; expand does");
        }
        if (transposed > 0) {
            remarks.add("vLLM reads what becomes of " + transposed + " weights that are stored [in, out], transformers does not: it"
                    + " has no compressed modules of their type");
        }
        if (factors > 0) {
            remarks.add("no loader puts the factors of " + factors + " weights together; expand does");
        }
        for (Group group : Loaders.groups(model.weights())) {
            Optional<Object> scheme = scheme(lowerings, group.weights().getFirst());
            for (Weight w : group.weights()) {
                if (!scheme.equals(scheme(lowerings, w))) {
                    remarks.add("loaders will refuse this or read it wrongly: " + w.name() + " and "
                            + group.weights().getFirst().name() + " have different schemes, and " + group.why());
                    return remarks;
                }
            }
            if (codes && scheme.isEmpty() && ModulePatterns.isExpert(group.weights().getFirst().name())) {
                remarks.add("transformers from 5.0 on does not read a folder whose experts stay as they are; vLLM does");
            }
        }
        return remarks;
    }

    private Optional<Object> scheme(Map<Weight, Lowering> lowerings, Weight weight) {
        return Optional.ofNullable(lowerings.get(weight)).flatMap(this::scheme);
    }

    /** The files with tensors and their index, as they are counted of the input; not what only goes with them. */
    @Override
    public long size(Map<Weight, Lowering> lowerings) {
        long n = 0;
        for (long bytes : files(lowerings).values()) {
            n = Math.addExact(n, bytes);
        }
        return n;
    }

    /** {@inheritDoc} The index comes first, if there is one. */
    @Override
    public Map<String, Long> files(Map<Weight, Lowering> lowerings) {
        Map<String, Long> files = new LinkedHashMap<>();
        List<PlannedFile> plans = plans(cut(lowerings));
        if (plans.size() > 1) {
            files.put(Index.NAME, (long) Index.of(plans).length);
        }
        for (PlannedFile p : plans) {
            files.put(p.name(), p.bytes());
        }
        return files;
    }

    private List<List<Output>> cut(Map<Weight, Lowering> lowerings) {
        List<List<Output>> weights = new ArrayList<>();
        for (Weight w : model.weights()) {
            Lowering lowering = lowerings.get(w);
            weights.add((lowering == null ? CompressedLowering.same(w) : Lowering.as(CompressedLowering.class, w, lowering)).outputs);
        }
        return Shards.cut(weights, shardSize);
    }

    private static List<PlannedFile> plans(List<List<Output>> shards) {
        List<PlannedFile> plans = new ArrayList<>();
        for (List<Output> outputs : shards) {
            List<PlannedFile.Tensor> items = new ArrayList<>(outputs.size());
            for (Output o : outputs) {
                items.add(Header.tensor(o.name(), o.dtype(), o.shape()));
            }
            plans.add(Header.plan(Shards.name(plans.size(), shards.size()), items, metadata(outputs)));
        }
        return plans;
    }

    /** What the tensors of a file do not say by themselves. */
    private static Map<String, String> metadata(List<Output> outputs) {
        Map<String, Form> factors = new TreeMap<>();
        Map<String, Form> pruned = new TreeMap<>();
        Map<String, Form> transposed = new TreeMap<>();
        Map<String, Form> stacked = new TreeMap<>();
        Map<String, Shape> shapes = new HashMap<>();
        for (Output o : outputs) {
            Weight w = o.of().weight;
            Form.Quantized codes = o.of().codes();
            if (codes != null && codes.transposed()) {
                transposed.put(w.name(), codes);
            }
            if (codes != null && w.tensor().shape().rank() == 3) {
                stacked.put(w.name(), codes);
                shapes.put(w.name(), w.tensor().shape());
            }
            Form form = o.of().form();
            if (form.factors() != null) {
                factors.put(w.name(), form);
            } else if (form.sparse() != null) {
                pruned.put(w.name(), form);
            } else {
                continue;
            }
            shapes.put(w.name(), w.tensor().shape());
        }
        Map<String, String> all = new TreeMap<>();
        all.put("format", "pt");
        if (!factors.isEmpty()) {
            all.put(FACTORS, described(factors, shapes));
        }
        if (!pruned.isEmpty()) {
            all.put(PRUNED, described(pruned, Map.of()));
        }
        if (!transposed.isEmpty()) {
            all.put(TRANSPOSED, described(transposed, Map.of()));
        }
        if (!stacked.isEmpty()) {
            all.put(STACKED, described(stacked, shapes));
        }
        return all;
    }

    /** @param shapes of those whose shape is to be said */
    private static String described(Map<String, Form> forms, Map<String, Shape> shapes) {
        StringWriter text = new StringWriter();
        try (JsonGenerator json = new JsonFactory().createGenerator(text)) {
            json.writeStartObject();
            for (Map.Entry<String, Form> e : forms.entrySet()) {
                json.writeObjectFieldStart(e.getKey());
                if (shapes.containsKey(e.getKey())) {
                    json.writeArrayFieldStart("shape");
                    for (long d : shapes.get(e.getKey()).dims()) {
                        json.writeNumber(d);
                    }
                    json.writeEndArray();
                }
                if (e.getValue().factors() != null) {
                    json.writeBooleanField("transposed", e.getValue().factors().transposed());
                } else if (e.getValue().sparse() != null) {
                    json.writeStringField("pattern", e.getValue().sparse().pattern());
                }
                json.writeEndObject();
            }
            json.writeEndObject();
        } catch (IOException e) {
            throw new UncheckedIOException(e); // a StringWriter throws none
        }
        return text.toString();
    }

    private Map<String, byte[]> made(Map<Weight, Lowering> lowerings, List<PlannedFile> plans) throws IOException {
        Map<String, byte[]> made = Index.madeFor(plans);
        byte[] config = configuration(lowerings);
        if (config != null) {
            made.put(Config.NAME, config);
        }
        if (card) {
            made.put(CARD_FILE, card(lowerings));
        }
        return made;
    }

    /** The model's card as it is, its metadata included, and a paragraph at its end. */
    private byte[] card(Map<Weight, Lowering> lowerings) throws IOException {
        StringBuilder text = new StringBuilder();
        for (Path p : model.auxiliaryFiles()) {
            if (model.name(p).equals(CARD_FILE)) {
                text.append(new String(StrictJson.bytes(p, "the model's card"), StandardCharsets.ISO_8859_1));
            }
        }
        if (!text.isEmpty()) {
            text.append(text.charAt(text.length() - 1) == '\n' ? "\n" : "\n\n");
        }
        Map<String, Integer> kinds = new TreeMap<>();
        for (Lowering l : lowerings.values()) {
            Form f = l.form();
            kinds.merge(f.factors() != null ? "factors" : f.describe(), 1, Integer::sum);
        }
        text.append("Compressed by Tensorpress ").append(Machine.version()).append(" to the format ").append(CompressedTensors.NAME).append(": ")
                .append(lowerings.size()).append(" of ").append(model.weights().size()).append(" tensors");
        String separator = ", ";
        for (Map.Entry<String, Integer> e : kinds.entrySet()) {
            text.append(separator).append(e.getValue()).append(" as ").append(e.getKey());
        }
        text.append(". The recipe is in `").append(Manifest.NAME).append("`.\n");
        return text.toString().getBytes(StandardCharsets.ISO_8859_1);
    }

    private byte[] configuration(Map<Weight, Lowering> lowerings) throws IOException {
        CompressionConfig config = new CompressionConfig();
        boolean head = false;
        for (Weight w : model.weights()) {
            Lowering lowering = lowerings.get(w);
            Form.Quantized q = lowering == null ? null : ((CompressedLowering) lowering).codes();
            String module = CompressedLowering.module(w.name());
            head |= w.role() == Role.HEAD;
            if (q != null) {
                config.add(module == null ? w.name() : module, q);
            } else if (module != null && w.role().isProduct()) {
                config.ignore(module);
            }
        }
        if (!head && model.tied().isPresent()) {
            config.ignoreTied();
        }
        Path path = model.configuration();
        return config.in(path, path == null ? null : StrictJson.bytes(path, "the configuration of a model"));
    }

    /**
     * {@inheritDoc} It is a folder; what is in it besides the returned files goes with them.
     *
     * @throws UnsupportedRequestException if the memory does not suffice for a form, as {@link #checkMemory} knows before
     */
    @Override
    public Set<Path> write(Map<Weight, Lowering> lowerings, Encoder encoder, Destination to) throws IOException {
        return write(lowerings, encoder, to, Buffers.CHUNK);
    }

    /** @param partBytes that are encoded at once */
    Set<Path> write(Map<Weight, Lowering> lowerings, Encoder encoder, Destination to, long partBytes) throws IOException {
        for (Map.Entry<Weight, Lowering> e : lowerings.entrySet()) {
            String lack = lackOfMemory(e.getKey(), encoder.byRows(e.getKey(), e.getValue().form()), to.memory(), partBytes);
            if (lack != null) {
                throw new UnsupportedRequestException("weight " + e.getKey().name() + " " + lack, "memory");
            }
        }
        List<List<Output>> shards = cut(lowerings);
        List<PlannedFile> plans = plans(shards);
        try (Buffers buffers = new Buffers(to.memory() / SHARE_OF_BUFFERS, to.phases());
                DurableFolder folder = DurableFolder.begin(to, new DurableFolder.Contents(CompressedTensors.NAME, shardSize, plans,
                        made(lowerings, plans)), model.source(), buffers)) {
            Map<Integer, ShardStream> streams = new LinkedHashMap<>();
            List<Range> ranges = new ArrayList<>();
            for (int i = 0; i < shards.size(); i++) {
                if (!folder.finished(i)) {
                    ShardStream s = new ShardStream(model, shards.get(i), encoder, to.memory() / SHARE_OF_WAITING, partBytes);
                    streams.put(i, s);
                    ranges.addAll(s.ranges());
                }
            }
            // One for all, so that the next shard is read while one is made durable.
            try (ReadAhead ahead = new ReadAhead(ranges, buffers)) {
                for (Map.Entry<Integer, ShardStream> e : streams.entrySet()) {
                    try (StreamFile file = folder.shard(e.getKey())) {
                        e.getValue().write(file, ahead);
                        folder.done(e.getKey(), file);
                    }
                }
            }
            folder.commit();
        }
        Set<Path> files = new LinkedHashSet<>();
        for (PlannedFile p : plans) {
            files.add(to.path().resolve(p.name()));
        }
        if (plans.size() > 1) {
            files.add(to.path().resolve(Index.NAME));
        }
        return files;
    }

    @Override
    public void checkMemory(Weight weight, boolean byRows, long memory) {
        String lack = lackOfMemory(weight, byRows, memory, Buffers.CHUNK);
        if (lack != null) {
            throw new UnsupportedRequestException(lack, "memory");
        }
    }

    private static String lackOfMemory(Weight weight, boolean byRows, long memory, long partBytes) {
        long part = ShardStream.part(weight, byRows, partBytes);
        return part <= partBytes || part <= memory / SHARE_OF_WHOLE ? null
                : "is encoded " + (byRows ? "in rows, eight at once, of " : "as a whole, of ") + part + " bytes: that takes "
                        + SHARE_OF_WHOLE + " times as much memory or more, and " + memory + " bytes of memory are allowed";
    }
}
