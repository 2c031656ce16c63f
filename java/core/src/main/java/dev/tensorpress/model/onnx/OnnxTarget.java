package dev.tensorpress.model.onnx;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.io.Buffers;
import dev.tensorpress.io.DurableFile;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.io.ReadAhead;
import dev.tensorpress.io.StreamFile;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Lowering;
import dev.tensorpress.model.Size;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.DataLayout.Placed;
import dev.tensorpress.model.onnx.Tails.Tail;
import dev.tensorpress.model.onnx.WeightFinder.Info;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;

/**
 * Writes ONNX. Whatever is not compressed keeps its bytes, and the model its operator set: with a newer one other
 * operators would change their meaning.
 */
final class OnnxTarget implements Target {
    static final String ONNXRUNTIME = "onnxruntime";
    static final String ONNX = "onnx";
    /** Readers of protobuf stop here. */
    static final long LARGEST_MESSAGE = Integer.MAX_VALUE;
    /** Sparse initializers came with this version of the format. */
    private static final long SPARSE_IR = 6;
    private static final String HASH = "00000000";
    /** Of the memory, this part is for buffers; the rest is for the weight at hand. */
    private static final long BUFFERS_SHARE = 4;

    private final OnnxModel model;
    private final String name;
    private final int accuracy;
    private final boolean sparse;
    private final long opset;
    private final long largest;

    /** @param sparse whether there may be sparse initializers */
    OnnxTarget(OnnxModel model, String name, int accuracy, boolean sparse) {
        this(model, name, accuracy, sparse, LARGEST_MESSAGE);
    }

    /** @param largest bytes of a model file above which tensors go to a file of their own */
    OnnxTarget(OnnxModel model, String name, int accuracy, boolean sparse, long largest) {
        this.model = model;
        this.name = name;
        this.accuracy = accuracy;
        this.sparse = sparse;
        this.largest = largest;
        Long version = model.parsed().opsets.get("");
        this.opset = version == null ? 0 : version;
    }

    @Override
    public String name() {
        return name;
    }

    @Override
    public OnnxLowering lower(Weight weight, Form wanted) {
        Info info = model.info(weight);
        Form.Quantized codes = wanted.quantized();
        OnnxLowering l = OnnxLowering.of(info, wanted, tail(info, codes), name.equals(ONNXRUNTIME), opset, model.parsed().irVersion);
        if (l.rewrite() == OnnxLowering.Rewrite.ELEMENTS && l.form().sparse() != null && !l.form().decoded() && sparser(info, l.form().sparse())) {
            return new OnnxLowering(OnnxLowering.Rewrite.COORDINATES, l.form().sparse().stored(Form.Storage.COORDINATES),
                    l.shape());
        }
        return l;
    }

    /** {@inheritDoc} Told of codes of activations that are fixed. */
    @Override
    public Optional<String> obstacle(Weight weight, Form wanted) {
        Form.Quantized codes = wanted.quantized();
        if (codes == null || codes.activations() != Form.Activations.STATIC) {
            return Optional.empty();
        }
        Info info = model.info(weight);
        return OnnxLowering.obstacle(info, codes, tail(info, codes), opset);
    }

    private Tail tail(Info info, Form.Quantized codes) {
        return codes != null && codes.fixed().isPresent() ? model.tail(info) : null;
    }

    @Override
    public OnnxLowering divided(Weight weight, Lowering lowering, double[] by) {
        Info info = model.info(weight);
        if (!info.replaceable || !weight.role().isProduct() || Nodes.products(info.value).size() != 1 || weight.tensor().dtype() == DType.BF16) {
            throw new UnsupportedRequestException("no operator can divide what it is multiplied with: that takes a single MatMul or Gemm of"
                    + " f32 or f16 whose second operand it is");
        }
        return Lowering.as(OnnxLowering.class, weight, lowering).divided(by);
    }

    /**
     * True if the file gets smaller with a sparse initializer. Tensors in data files stay dense, since no runtime reads
     * sparse ones from there, and so do Constant nodes, and outputs of a graph, which would become sparse with them.
     */
    private boolean sparser(Info info, Form.Sparse form) {
        if (!sparse || model.parsed().irVersion < SPARSE_IR || !info.isInitializer() || info.value.output
                || !model.externalTensors().isEmpty()) {
            return false;
        }
        return Pruned.smallerAsCoordinates(model.wire(), info.tensor, form.nnz());
    }

    @Override
    public Size size(Map<Weight, Lowering> lowerings) {
        Plan p = plan(lowerings, HASH);
        return new Size.Exact(p.unchanged ? model.bytes() : Math.addExact(p.rope.length(), p.data.length()));
    }

    @Override
    public String requires(Map<Weight, Lowering> lowerings) {
        int newest = 0;
        for (Lowering l : lowerings.values()) {
            newest = Math.max(newest, ((OnnxLowering) l).runtime());
        }
        return newest == 0 ? "" : "ONNX Runtime 1." + newest;
    }

    @Override
    public List<String> remarks(Map<Weight, Lowering> lowerings) {
        Set<String> held = new TreeSet<>();
        for (Lowering l : lowerings.values()) {
            ((OnnxLowering) l).integers(held);
        }
        List<String> all = new ArrayList<>();
        for (String weights : held) {
            all.add(switch (weights) {
                case "s8" -> "products of integers with s8 weights: fast; exact on processors with VNNI alone, on others sums of two"
                        + " products saturate (weights=s7 and u8 are exact everywhere)";
                case "s7" -> "products of integers with s7 weights: fast, and exact on every processor";
                default -> "products of integers with u8 weights: exact on every processor; where there is VNNI, s8 and s7 are"
                        + " faster";
            });
        }
        return all;
    }

    /** A model file laid out, with its data file if it has one. */
    private record Plan(Rope rope, DataLayout data, String location, boolean unchanged) {
        boolean external() {
            return !data.placed().isEmpty();
        }
    }

    private Plan plan(Map<Weight, Lowering> lowerings, String hash) {
        List<Info> infos = new ArrayList<>(lowerings.size());
        for (Weight w : lowerings.keySet()) {
            infos.add(model.info(w));
        }
        infos.sort(new Comparator<Info>() {
            @Override
            public int compare(Info a, Info b) {
                return Integer.compare(a.order, b.order);
            }
        });
        List<OnnxLowering> ordered = new ArrayList<>(infos.size());
        boolean unchanged = lowerings.isEmpty();
        for (Info i : infos) {
            OnnxLowering l = Lowering.as(OnnxLowering.class, i.weight, lowerings.get(i.weight));
            ordered.add(l);
        }
        // The name of the data file is as long as it will be, so that sizes are exact before its contents are known.
        String location = stem() + "." + hash + ".data";
        if (model.externalTensors().isEmpty()) {
            Plan p = plan(infos, ordered, null, false, unchanged);
            if (unchanged || p.rope.length() <= largest) {
                return p;
            }
        }
        Plan p = plan(infos, ordered, location, false, false);
        if (p.rope.length() > largest) {
            p = plan(infos, ordered, location, true, false);
        }
        if (p.rope.length() > largest) {
            throw new UnsupportedRequestException(model.path() + ": even without its tensors the model would take "
                    + p.rope.length() + " bytes; protobuf files end at " + largest);
        }
        return p;
    }

    private Plan plan(List<Info> infos, List<OnnxLowering> lowerings, String location, boolean moveRaw, boolean unchanged) {
        Rewriter r = new Rewriter(model, name.equals(ONNXRUNTIME), accuracy, location, moveRaw);
        return new Plan(r.rewrite(infos, lowerings), r.data(), location, unchanged);
    }

    private String stem() {
        String file = model.path().getFileName().toString();
        return file.endsWith(".onnx") && file.length() > 5 ? file.substring(0, file.length() - 5) : file;
    }

    /**
     * {@inheritDoc}
     *
     * <p>If the model has external data, or would pass 2 GiB, tensors go to {@code MODEL.HASH.data} beside the model,
     * where MODEL is the name of the file read, and HASH depends on the contents: the data of an older output stays as
     * long as its model does.
     *
     * @throws UnsupportedRequestException if the destination is one of the files the model was read from
     */
    @Override
    public Set<Path> write(Map<Weight, Lowering> lowerings, Encoder encoder, Destination to) throws IOException {
        Path out = to.path();
        model.inputs().check();
        Plan p = plan(lowerings, HASH);
        checkReplaces(out);
        if (Files.isDirectory(out)) {
            throw new IOException("cannot write " + out + ": a folder has that name");
        }
        Path folder = out.toAbsolutePath().normalize().getParent();
        try {
            if (p.external()) {
                return writeWithData(lowerings, p, model.guarded(encoder, to.phases()), folder, to);
            }
            try (DurableFile file = new DurableFile(folder, out.getFileName().toString(), to.phases())) {
                new Output(file.channel(), out, to.phases(), model.guarded(encoder, to.phases())).rope(p.rope, model);
                model.inputs().check();
                file.commit(out, to.overwrite());
            }
            return Set.of(out);
        } catch (FileAlreadyExistsException e) {
            throw e;
        } catch (IOException e) {
            throw DurableFile.explain(e, out);
        } catch (InternalError e) {
            throw model.gone(e);
        }
    }

    private void checkReplaces(Path out) throws IOException {
        if (InputFiles.replacedBy(out, model.files()) != null) {
            throw new UnsupportedRequestException("the output " + out + " is a file that the model is read from");
        }
    }

    /** Both files under temporary names first, then the data file's rename, then the model's. */
    private Set<Path> writeWithData(Map<Weight, Lowering> lowerings, Plan p, Encoder encoder, Path folder, Destination to)
            throws IOException {
        Path out = to.path();
        try (Buffers buffers = new Buffers(to.memory() / BUFFERS_SHARE, to.phases());
                StreamFile data = StreamFile.unhashed(folder, p.location, p.data.length(), buffers);
                DurableFile top = new DurableFile(folder, out.getFileName().toString(), to.phases())) {
            Output o = new Output(data, encoder);
            data(o, p.data.placed(), buffers);
            Plan named = plan(lowerings, HexFormat.of().toHexDigits((int) o.checksum()));
            Path path = folder.resolve(named.location);
            boolean there = Files.exists(path);
            checkReplaces(path);
            new Output(top.channel(), out, to.phases(), encoder).rope(named.rope, model);
            data.finish();
            if (there && !to.overwrite() && !data.isLike(path)) {
                throw new FileAlreadyExistsException(path.toString(), null, "exists, and is no output of these contents; it is replaced"
                        + " only when asked to");
            }
            model.inputs().check();
            try {
                data.commit(path);
                top.commit(out, to.overwrite());
            } finally {
                // A model that has its name needs its data, whatever failed since.
                if (!there && !top.committed()) {
                    Files.deleteIfExists(path);
                }
            }
            return new LinkedHashSet<>(List.of(path, out));
        }
    }

    /** What is compressed is encoded, and what stays is read ahead meanwhile. */
    private void data(Output o, List<Placed> placed, Buffers buffers) throws IOException {
        List<ReadAhead.Range> kept = new ArrayList<>();
        for (Placed p : placed) {
            if (p.payload() == null) {
                kept.addAll(ranges(p));
            }
        }
        try (ReadAhead ahead = new ReadAhead(kept, buffers)) {
            long at = 0;
            for (Placed p : placed) {
                o.pad(at, p.offset());
                if (p.payload() != null) {
                    o.payload(p.payload());
                } else {
                    for (int i = ranges(p).size(); i > 0; i--) {
                        o.segment(ahead.next());
                    }
                }
                at = p.offset() + p.length();
            }
            o.flush();
        }
    }

    private List<ReadAhead.Range> ranges(Placed p) {
        return ReadAhead.ranges(p.file() == null ? model.path() : p.file().path(), p.fileOffset(), p.length());
    }
}
