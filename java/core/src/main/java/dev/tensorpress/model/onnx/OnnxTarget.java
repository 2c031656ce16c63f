package dev.tensorpress.model.onnx;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.io.Buffers;
import dev.tensorpress.io.DurableFile;
import dev.tensorpress.io.ReadAhead;
import dev.tensorpress.io.StreamFile;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.DataLayout.Placed;
import dev.tensorpress.model.onnx.WeightFinder.Info;
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
    public Form accept(Weight weight, Form wanted) {
        return choose(model.info(weight), wanted).form();
    }

    private Choice choose(Info info, Form wanted) {
        Choice c = Choice.of(info, wanted, name.equals(ONNXRUNTIME), opset, model.parsed().irVersion);
        if (c.kind() == Choice.Kind.MASKED && sparser(info, (Form.Sparse) c.form())) {
            return new Choice(Choice.Kind.COORDINATES, ((Form.Sparse) c.form()).stored(Form.Storage.COORDINATES));
        }
        return c;
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
        return Pruned.smallerAsCoordinates(model.wire(), info.tensor, form.nonzeros());
    }

    @Override
    public long size(Map<Weight, Form> forms, long shardSize) {
        Layout l = layout(forms, HASH);
        if (l.unchanged) {
            return model.bytes();
        }
        return Math.addExact(l.rope.length(), l.data.length());
    }

    @Override
    public String requires(Map<Weight, Form> forms) {
        int newest = 0;
        for (Choice c : choices(forms)) {
            newest = Math.max(newest, c.runtime());
        }
        return newest == 0 ? "" : "ONNX Runtime 1." + newest;
    }

    @Override
    public List<String> remarks(Map<Weight, Form> forms) {
        Set<String> held = new TreeSet<>();
        for (Choice c : choices(forms)) {
            c.integers(held);
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

    private List<Choice> choices(Map<Weight, Form> forms) {
        List<Choice> all = new ArrayList<>(forms.size());
        for (Map.Entry<Weight, Form> e : forms.entrySet()) {
            all.add(choose(model.info(e.getKey()), e.getValue()));
        }
        return all;
    }

    Layout layout(Map<Weight, Form> forms) {
        return layout(forms, HASH);
    }

    /** A model file laid out, with its data file if it has one. */
    record Layout(Rope rope, DataLayout data, String location, boolean unchanged) {
        boolean external() {
            return !data.placed().isEmpty();
        }
    }

    Layout layout(Map<Weight, Form> forms, String hash) {
        List<Info> infos = new ArrayList<>(forms.size());
        for (Weight w : forms.keySet()) {
            infos.add(model.info(w));
        }
        infos.sort(new Comparator<Info>() {
            @Override
            public int compare(Info a, Info b) {
                return Integer.compare(a.order, b.order);
            }
        });
        List<Choice> choices = new ArrayList<>(infos.size());
        boolean unchanged = true;
        for (Info i : infos) {
            Form form = forms.get(i.weight);
            Choice c = choose(i, form);
            if (!c.form().equals(form)) {
                throw new IllegalArgumentException("'" + i.weight.name() + "' was to be accepted by this target first: "
                        + form + " becomes " + c.form());
            }
            choices.add(c);
            unchanged &= c.kind() == Choice.Kind.KEEP;
        }
        // The name of the data file is as long as it will be, so that sizes are exact before its contents are known.
        String location = stem() + "." + hash + ".data";
        if (model.externalTensors().isEmpty()) {
            Layout l = lay(infos, choices, null, false, unchanged);
            if (unchanged || l.rope.length() <= largest) {
                return l;
            }
        }
        Layout l = lay(infos, choices, location, false, false);
        if (l.rope.length() > largest) {
            l = lay(infos, choices, location, true, false);
        }
        if (l.rope.length() > largest) {
            throw new UnsupportedRequestException(model.path() + ": even without its tensors the model would take "
                    + l.rope.length() + " bytes; protobuf files end at " + largest);
        }
        return l;
    }

    private Layout lay(List<Info> infos, List<Choice> choices, String location, boolean moveRaw, boolean unchanged) {
        Rewriter r = new Rewriter(model, accuracy, location, moveRaw);
        return new Layout(r.rewrite(infos, choices), r.data(), location, unchanged);
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
    public Set<Path> write(Map<Weight, Form> forms, Encoder encoder, Destination to) throws IOException {
        Path out = to.path();
        model.inputs().check();
        Layout l = layout(forms, HASH);
        for (Path in : model.files()) {
            if (Files.exists(out) && Files.isSameFile(in, out)) {
                throw new UnsupportedRequestException("the output " + out + " is a file that the model is read from");
            }
        }
        if (Files.isDirectory(out)) {
            throw new IOException("cannot write " + out + ": a folder has that name");
        }
        Path folder = out.toAbsolutePath().normalize().getParent();
        try {
            if (l.external()) {
                return writeWithData(forms, l, model.guarded(encoder, to.phases()), folder, to);
            }
            try (DurableFile file = new DurableFile(folder, out.getFileName().toString(), to.phases())) {
                new Output(file.channel(), out, to.phases(), model.guarded(encoder, to.phases()), false).rope(l.rope, model);
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

    /** Both files under temporary names first, then the data file's rename, then the model's. */
    private Set<Path> writeWithData(Map<Weight, Form> forms, Layout l, Encoder encoder, Path folder, Destination to)
            throws IOException {
        Path out = to.path();
        try (Buffers buffers = new Buffers(to.memory() / BUFFERS_SHARE, to.phases());
                StreamFile data = StreamFile.unhashed(folder, l.location, l.data.length(), buffers);
                DurableFile top = new DurableFile(folder, out.getFileName().toString(), to.phases())) {
            Output o = new Output(data, encoder);
            data(o, l.data.placed(), buffers);
            Layout named = layout(forms, HexFormat.of().toHexDigits((int) o.checksum()));
            Path path = folder.resolve(named.location);
            boolean there = Files.exists(path);
            for (Path in : model.files()) {
                if (there && Files.isSameFile(in, path)) {
                    throw new UnsupportedRequestException("the output " + path
                            + " is a file that the model is read from");
                }
            }
            new Output(top.channel(), out, to.phases(), encoder, false).rope(named.rope, model);
            data.finish();
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
