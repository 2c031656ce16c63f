package dev.tensorpress.model.onnx;

import dev.tensorpress.model.Destination;
import dev.tensorpress.model.onnx.OnnxGraph.Attribute;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.IdentityHashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * An ONNX model whose graph can be changed: for methods that change what a model computes, and not just how its weights are stored. What nobody
 * changes is written with the meaning that it had; whatever is not understood is copied. Constants are views of the model's files. One thread
 * at a time.
 *
 * <p>Nothing here checks that a changed graph is a good one: names that nobody makes, or shapes that do not fit, are found by who loads it.
 */
public final class EditableModel {
    private final OnnxModel model;
    private final EditableGraph graph;
    private final Map<String, Long> opsets;
    /** Fields of a ModelProto but for its graph and operator sets. */
    private final byte[] kept;
    private FreeNames names;

    private EditableModel(OnnxModel model, EditableGraph graph, byte[] kept) {
        this.model = model;
        this.graph = graph;
        this.opsets = new LinkedHashMap<>(model.parsed().opsets);
        this.kept = kept;
    }

    /**
     * Reads the graph.
     *
     * @param model has to stay open as long as this, or constants of it, are used
     * @param arena for constants that the file does not have as they are in memory
     * @throws dev.tensorpress.model.MalformedModelException if a constant does not have the numbers that its shape asks for
     * @throws IOException if a file cannot be read
     */
    public static EditableModel of(OnnxModel model, Arena arena) throws IOException {
        Wire w = model.wire();
        Proto kept = new Proto();
        w.seek(0, model.size());
        while (w.next()) {
            if (w.field != 7 && w.field != 8) {
                kept.fields(field(w));
            }
        }
        return new EditableModel(model, new Reader(model, arena).graph(model.parsed().graph, null), kept.toBytes());
    }

    /**
     * A model without nodes, to be filled. Of version 8 of the format, which runtimes since ONNX Runtime 1.10 load.
     *
     * @param opset version of the standard operators
     */
    public static EditableModel create(long opset) {
        byte[] kept = new Proto().integer(1, 8).string(2, "tensorpress").toBytes();
        Proto all = new Proto().fields(kept).message(8, new Proto().string(1, "").integer(2, opset)).message(7, new Proto().string(2, "graph"));
        return new EditableModel(OnnxModel.empty(all.toBytes()), new EditableGraph(null, "graph", new byte[0]), kept);
    }

    private static byte[] field(Wire w) {
        return w.bytes(w.fieldStart, Math.toIntExact(w.end() - w.fieldStart));
    }

    /** Makes graphs of parsed ones. */
    private record Reader(OnnxModel model, Elements elements, Map<OnnxGraph, EditableGraph> done) {
        Reader(OnnxModel model, Arena arena) {
            this(model, new Elements(model.wire(), model.dataFiles(), arena), new IdentityHashMap<>());
        }

        EditableGraph graph(OnnxGraph from, EditableGraph parent) throws IOException {
            Wire w = model.wire();
            Proto kept = new Proto();
            List<byte[]> inputs = new ArrayList<>();
            List<byte[]> outputs = new ArrayList<>();
            List<byte[]> values = new ArrayList<>();
            List<byte[]> sparse = new ArrayList<>();
            w.seek(from.start, from.end);
            while (w.next()) {
                List<byte[]> list = switch (w.field) {
                    case 11 -> inputs;
                    case 12 -> outputs;
                    case 13 -> values;
                    case 15 -> sparse;
                    default -> null;
                };
                if (list != null) {
                    list.add(w.bytes(w.start, Math.toIntExact(w.length)));
                } else if (w.field != 1 && w.field != 2 && w.field != 5) {
                    kept.fields(field(w));
                }
            }
            EditableGraph g = new EditableGraph(parent, from.name, kept.toBytes());
            for (TensorInfo t : from.initializers) {
                g.initializers().put(t.name, tensor(t));
            }
            for (int i = 0; i < sparse.size(); i++) {
                g.sparse().put(from.sparse.get(i).name, sparse.get(i));
            }
            describe(inputs, g.inputs());
            describe(outputs, g.outputs());
            describe(values, g.values());
            if (parent == null && model.parsed().irVersion < 4) {
                g.inputs().keySet().removeAll(g.initializers().keySet());
            }
            for (Node n : from.nodes) {
                g.nodes().add(node(n, g));
            }
            return g;
        }

        private static void describe(List<byte[]> encoded, Map<String, EditableValue> to) {
            for (byte[] one : encoded) {
                EditableValue v = EditableValue.read(one);
                to.put(v.name(), v);
            }
        }

        private EditableTensor tensor(TensorInfo t) throws IOException {
            return EditableTensor.read(model.wire(), t, elements);
        }

        private EditableNode node(Node n, EditableGraph g) throws IOException {
            Wire w = model.wire();
            Proto kept = new Proto();
            w.seek(n.start, n.end);
            while (w.next()) {
                switch (w.field) {
                    case 1, 2, 3, 4, 5, 7 -> { }
                    default -> kept.fields(field(w));
                }
            }
            EditableNode node = new EditableNode(n.op, n.domain, n.name, n.inputs, n.outputs, kept.toBytes());
            for (Attribute a : n.attributes) {
                Proto fields = new Proto();
                int graphs = 0;
                w.seek(a.start, a.end);
                while (w.next()) {
                    switch (w.field) {
                        case 5 -> { }
                        case 6, 11 -> graphs = w.field;
                        default -> fields.fields(field(w));
                    }
                }
                List<EditableGraph> inside = new ArrayList<>(a.graphs.size());
                for (OnnxGraph one : a.graphs) {
                    inside.add(graph(one, g));
                }
                EditableTensor tensor = a.tensorField < 0 ? null : tensor(model.parsed().tensor(a));
                node.put(a.name, new EditableNode.Attribute(fields.toBytes(), tensor, inside, graphs));
            }
            return node;
        }
    }

    /**
     * A model of some nodes of this one's own graph, in the order given, with the constants that they read; without inputs and outputs. Nodes are
     * those of this model, not copies.
     */
    public EditableModel part(List<EditableNode> nodes) {
        EditableGraph part = new EditableGraph(null, graph.name(), new byte[0]);
        part.nodes().addAll(nodes);
        for (EditableNode n : nodes) {
            for (String name : n.inputs()) {
                if (graph.initializers().containsKey(name)) {
                    part.initializers().put(name, graph.initializers().get(name));
                }
            }
        }
        EditableModel made = new EditableModel(model, part, kept);
        made.opsets.putAll(opsets);
        return made;
    }

    /** The model's own graph. */
    public EditableGraph graph() {
        return graph;
    }

    /** Versions of the operators, by domain: empty for standard ones. Can be changed. */
    public Map<String, Long> opsets() {
        return opsets;
    }

    /** Whether it has information for training, which refers to its weights by name. */
    public boolean training() {
        return model.parsed().training;
    }

    /** A name that no value and no node of the model has: that one, or with a number behind. Each is given once. */
    public String fresh(String wanted) {
        if (names == null) {
            names = new FreeNames('_');
            for (EditableGraph g : graph.all()) {
                g.inputs().keySet().forEach(names::take);
                g.initializers().keySet().forEach(names::take);
                g.sparse().keySet().forEach(names::take);
                for (EditableNode n : g.nodes()) {
                    names.take(n.name());
                    n.inputs().forEach(names::take);
                    n.outputs().forEach(names::take);
                }
            }
        }
        return names.of(wanted);
    }

    /**
     * Writes it, whole or not at all. If the model that it was read from has data files, or this would pass 2 GiB, constants go to a file
     * {@code MODEL.HASH.data} beside it, where MODEL is the name of the file read, and HASH depends on the contents.
     *
     * @return the files, that which refers to the others last
     * @throws dev.tensorpress.model.UnsupportedRequestException if the destination is a file of the model
     * @throws IOException if writing fails
     */
    public Set<Path> write(Destination to) throws IOException {
        return file().write(null, to);
    }

    /** Bytes of the files that {@link #write} would make. */
    public long bytes() {
        return file().bytes();
    }

    private OnnxFile file() {
        for (EditableGraph g : graph.all()) {
            g.dropStale();
        }
        return new OnnxFile(model, OnnxFile.LARGEST_MESSAGE, (data, all) -> {
            Proto p = new Proto().fields(kept);
            opsets.forEach((domain, version) -> p.message(8, new Proto().string(1, domain).integer(2, version)));
            return new Rope().add(p).add(graph.rope(new Place(data, model.parsed().irVersion < 4)).field(7));
        });
    }

    /** Where constants go. */
    record Place(DataLayout data, boolean constantsAreInputs) {}
}
