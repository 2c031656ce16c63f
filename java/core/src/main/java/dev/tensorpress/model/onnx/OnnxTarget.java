package dev.tensorpress.model.onnx;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Lowering;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.Tails.Tail;
import dev.tensorpress.model.onnx.WeightFinder.Info;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
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
    /** Sparse initializers came with this version of the format. */
    private static final long SPARSE_IR = 6;

    private final OnnxModel model;
    private final String name;
    private final int accuracy;
    private final boolean sparse;
    private final long opset;
    private final long largest;

    /** @param sparse whether there may be sparse initializers */
    OnnxTarget(OnnxModel model, String name, int accuracy, boolean sparse) {
        this(model, name, accuracy, sparse, OnnxFile.LARGEST_MESSAGE);
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

    @Override
    public OnnxLowering replaced(Weight weight) {
        Info info = model.info(weight);
        if (info.value.graph.sparse.contains(info.tensor)) {
            throw new UnsupportedRequestException("it is sparse already");
        }
        return new OnnxLowering(OnnxLowering.Rewrite.ELEMENTS, new Form.Dense(weight.tensor().dtype()), weight.tensor().shape());
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
    public long size(Map<Weight, Lowering> lowerings) {
        return file(lowerings).bytes();
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

    private OnnxFile file(Map<Weight, Lowering> lowerings) {
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
        for (Info i : infos) {
            OnnxLowering l = Lowering.as(OnnxLowering.class, i.weight, lowerings.get(i.weight));
            ordered.add(l);
        }
        // A model that stays as it is fits, whatever its size.
        return new OnnxFile(model, lowerings.isEmpty() && model.externalTensors().isEmpty() ? Long.MAX_VALUE : largest,
                (data, all) -> new Rewriter(model, name.equals(ONNXRUNTIME), accuracy, data, all).rewrite(infos, ordered));
    }

    @Override
    public Set<Path> write(Map<Weight, Lowering> lowerings, Encoder encoder, Destination to) throws IOException {
        return file(lowerings).write(encoder, to);
    }
}
