package dev.tensorpress.model.onnx;

import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.OnnxGraph.Use;
import dev.tensorpress.model.onnx.OnnxGraph.Value;
import dev.tensorpress.model.onnx.WeightFinder.Info;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Set;

/**
 * Lays out a model with some weights compressed: which bytes of the old file stay, which small messages are new, and
 * where encoded weights go.
 */
final class Rewriter {
    private final OnnxModel model;
    private final Parser parsed;
    private final DataLayout data;
    private final boolean moveRaw;
    private final Edits edits;
    private final Nodes nodes;
    private final Pruned pruned;
    private final Decoding decoding;
    private final Lookups lookups;
    private final Codebooks codebooks;
    private final Blocks blocks;
    private final Products products;
    private final Factors factors;
    private final Convolutions convolutions;

    /**
     * @param microsoft whether there may be operators of com.microsoft
     * @param accuracy level of MatMulNBits; -1 to follow the forms
     * @param data where large tensors go
     * @param moveRaw whether tensors that are not compressed move there too
     */
    Rewriter(OnnxModel model, boolean microsoft, int accuracy, DataLayout data, boolean moveRaw) {
        this.model = model;
        this.parsed = model.parsed();
        this.moveRaw = moveRaw;
        Names names = new Names(parsed);
        this.data = data;
        this.edits = new Edits(model);
        this.nodes = new Nodes(model.wire(), names);
        Tensors tensors = new Tensors(parsed.irVersion, names, data);
        this.pruned = new Pruned(model.wire(), edits, data);
        this.decoding = new Decoding(parsed.opsets.getOrDefault("", 0L), names, nodes, tensors);
        this.lookups = new Lookups(edits, names, nodes, tensors, decoding);
        this.codebooks = new Codebooks(names, nodes, tensors, decoding);
        this.blocks = new Blocks(accuracy, edits, nodes, tensors);
        Coded coded = new Coded(edits, names, nodes, tensors);
        this.products = new Products(edits, names, nodes, blocks, new Integers(microsoft, names, nodes, tensors, coded), lookups, decoding, coded);
        this.convolutions = new Convolutions(microsoft, edits, names, nodes, tensors, coded);
        this.factors = new Factors(model, edits, names, nodes, tensors, products);
    }

    /** The whole model file. */
    Rope rewrite(List<Info> infos, List<OnnxLowering> lowerings) {
        Set<TensorInfo> compressed = Collections.newSetFromMap(new IdentityHashMap<>());
        for (int i = 0; i < infos.size(); i++) {
            switch (lowerings.get(i).rewrite()) {
                case CONVOLUTION -> convolutions.announce(lowerings.get(i), model.tail(infos.get(i)));
                case INTEGER -> products.announce(infos.get(i), lowerings.get(i));
                default -> { }
            }
        }
        for (int i = 0; i < infos.size(); i++) {
            compressed.add(infos.get(i).tensor);
            OnnxGraph graph = infos.get(i).value.graph;
            lower(new Job(infos.get(i), lowerings.get(i), parsed.irVersion < 4 ? parsed.graph : graph, data));
        }
        nodes.checkRead();
        convolutions.removeConstants(compressed);
        if (data.exists()) {
            data.move(compressed, moveRaw, edits);
        }
        if (nodes.microsoft() && !parsed.opsets.containsKey(Nodes.MICROSOFT)) {
            edits.insert(parsed.afterOpsets, new Proto().message(8, new Proto().string(1, Nodes.MICROSOFT).integer(2, 1)));
        }
        return edits.assemble();
    }

    /** Puts a Mul before the products with a weight, which read its result. */
    private void divide(Job job) {
        for (Node n : job.lowering.divisors().isEmpty() ? List.<Node>of() : Nodes.products(job.info.value)) {
            edits.insert(n.graph, n.fieldStart, nodes.dividing(n, job.info.weight.tensor().dtype(), job.lowering.divisors()));
            switch (job.lowering.rewrite()) {
                case ELEMENTS, COORDINATES, DEQUANTIZE, ARITHMETIC, CODEBOOK -> edits.replace(n, nodes.again(n));
                default -> { } // which takes the node's place
            }
        }
    }

    private void lower(Job job) {
        divide(job);
        Rope before = new Rope();
        boolean named = false;
        switch (job.lowering.rewrite()) {
            case ELEMENTS -> {
                pruned.elements(job);
                return;
            }
            case COORDINATES -> {
                pruned.coordinates(job);
                return;
            }
            case NBITS, NBITS_GATHERED, INTEGER, INTEGER_GATHERED -> products.replaceReaders(job, before);
            case CONVOLUTION -> {
                job.tail = model.tail(job.info);
                convolutions.replace(job);
            }
            case GATHER -> lookups.replaceLookups(job);
            case GATHER_BLOCKS -> blocks.replaceLookups(job);
            case DEQUANTIZE, ARITHMETIC -> {
                decoding.decoded(job, before);
                named = true;
            }
            case CODEBOOK -> {
                codebooks.lookUp(job, before);
                named = true;
            }
            case FACTORS, CORRECTED -> factors.replaceReaders(job, before);
            case CHAIN -> factors.replaceConvolutions(job, before);
            case DENSE -> throw new IllegalArgumentException();
        }
        replace(job, before);
        if (!named) {
            edits.remove(job.graph.valueInfos, job.name);
        }
    }

    /** The tensors of the job in the place of its weight, and nodes before the first reader. */
    private void replace(Job job, Rope before) {
        Value v = job.info.value;
        TensorInfo t = v.tensor;
        boolean inPlace = job.info.isInitializer() && job.home == job.graph;
        if (job.info.isInitializer()) {
            edits.replace(job.graph, t.fieldStart, t.end, inPlace ? job.tensors : new Rope());
            edits.insert(job.graph, firstUse(v), before);
        } else {
            edits.replace(v.producer, before);
        }
        if (!inPlace) {
            edits.insert(job.home, job.home.afterInitializers, job.tensors);
        }
        if (parsed.irVersion < 4) {
            edits.insert(job.home, job.home.afterInputs, job.inputs);
            edits.remove(job.graph.inputs, job.name);
        }
    }

    /** Where nodes can go that the first reader of a value needs; the reader may be in a graph further in. */
    static long firstUse(Value v) {
        Node first = null;
        for (Use u : v.uses) {
            Node n = u.node();
            while (n.graph != v.graph) {
                n = n.graph.owner;
            }
            if (first == null || n.index < first.index) {
                first = n;
            }
        }
        return first == null ? v.graph.afterNodes : first.fieldStart;
    }
}
