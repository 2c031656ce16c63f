package dev.tensorpress.structure;

import dev.tensorpress.model.onnx.EditableGraph;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.model.onnx.EditableTensor;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** Who makes and who reads the values of a model, as it was when this was made. Who changes names keeps it up to date, or makes another. */
final class Links {
    private final Map<EditableGraph, Map<String, Value>> values = new IdentityHashMap<>();

    /** Something with a name in a graph. */
    static final class Value {
        final EditableGraph graph;
        String name;
        /** The node that makes it; null of inputs and initializers. */
        final EditableNode producer;
        /** What it is if it is an initializer, or of a Constant node; else null. */
        final EditableTensor tensor;
        /** Whether a caller can give it. */
        final boolean input;
        final List<Use> uses = new ArrayList<>(1);
        /** Graphs that hand it out. */
        final List<EditableGraph> outputs = new ArrayList<>(0);

        Value(EditableGraph graph, String name, EditableNode producer, EditableTensor tensor, boolean input) {
            this.graph = graph;
            this.name = name;
            this.producer = producer;
            this.tensor = tensor;
            this.input = input;
        }

        /** What it is if nobody can make it anything else. */
        Optional<EditableTensor> constant() {
            return input ? Optional.empty() : Optional.ofNullable(tensor);
        }

        /** The only use, if there is one and no graph hands the value out; else null. */
        Use only() {
            return uses.size() == 1 && outputs.isEmpty() ? uses.getFirst() : null;
        }
    }

    /** A node, in a graph, that reads a value as its input number {@code input}. */
    record Use(EditableGraph graph, EditableNode node, int input) {}

    Links(EditableModel model) {
        List<EditableGraph> graphs = model.graph().all();
        for (EditableGraph g : graphs) {
            Map<String, Value> here = new HashMap<>();
            values.put(g, here);
            g.inputs().keySet().forEach(name -> here.put(name, new Value(g, name, null, g.initializers().get(name), true)));
            g.initializers().forEach((name, t) -> here.putIfAbsent(name, new Value(g, name, null, t, false)));
            g.sparse().keySet().forEach(name -> here.putIfAbsent(name, new Value(g, name, null, null, false)));
            for (EditableNode n : g.nodes()) {
                for (String name : n.outputs()) {
                    if (!name.isEmpty()) {
                        here.put(name, new Value(g, name, n, n.constant().orElse(null), false));
                    }
                }
            }
        }
        for (EditableGraph g : graphs) {
            for (EditableNode n : g.nodes()) {
                for (int i = 0; i < n.inputs().size(); i++) {
                    Value v = resolve(g, n.input(i));
                    if (v != null) {
                        v.uses.add(new Use(g, n, i));
                    }
                }
            }
            for (String name : g.outputs().keySet()) {
                Value v = resolve(g, name);
                if (v != null) {
                    v.outputs.add(g);
                }
            }
        }
    }

    /** What a name means in a graph; null if nothing, or if it is empty. */
    Value resolve(EditableGraph from, String name) {
        for (EditableGraph g = from; g != null && !name.isEmpty(); g = g.parent()) {
            Value v = values.get(g).get(name);
            if (v != null) {
                return v;
            }
        }
        return null;
    }

    /** The first result of a node; null if it is left out. */
    Value result(EditableGraph graph, EditableNode n) {
        return n.outputs().isEmpty() ? null : values.get(graph).get(n.outputs().getFirst());
    }

    /** Gives a value the name and the graphs' outputs of another, which nobody makes any more. Whoever reads it has to be told. */
    void rename(Value v, Value to) {
        Map<String, Value> here = values.get(v.graph);
        here.remove(v.name);
        v.name = to.name;
        here.put(v.name, v);
        v.uses.addAll(to.uses);
        v.outputs.addAll(to.outputs);
    }

    /** Lets the node that makes one value make another in its place. */
    void produce(Value v, Value other) {
        Map<String, Value> here = values.get(v.graph);
        here.remove(v.name);
        Value made = new Value(other.graph, other.name, v.producer, null, false);
        made.uses.addAll(other.uses);
        made.outputs.addAll(other.outputs);
        here.put(made.name, made);
    }

    /**
     * Lets all that read one value read another.
     *
     * @return false, and nothing is changed, if a graph hands the value out, or the other's name means something else where it is read
     */
    boolean replace(Value old, Value by) {
        if (!old.outputs.isEmpty()) {
            return false;
        }
        for (Use u : old.uses) {
            if (resolve(u.graph, by.name) != by) {
                return false;
            }
        }
        for (Use u : old.uses) {
            u.node.inputs().set(u.input, by.name);
        }
        by.uses.addAll(old.uses);
        old.uses.clear();
        return true;
    }
}
