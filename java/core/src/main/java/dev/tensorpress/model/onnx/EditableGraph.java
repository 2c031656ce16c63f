package dev.tensorpress.model.onnx;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** A graph of an {@link EditableModel}: nodes, constants, and what is said of values. All of its lists and maps can be changed. */
public final class EditableGraph {
    private final EditableGraph parent;
    private final String name;
    private final List<EditableNode> nodes = new ArrayList<>();
    private final Map<String, EditableTensor> initializers = new LinkedHashMap<>();
    private final Map<String, EditableValue> inputs = new LinkedHashMap<>();
    private final Map<String, EditableValue> outputs = new LinkedHashMap<>();
    private final Map<String, EditableValue> values = new LinkedHashMap<>();
    /** Sparse initializers, by the name of each. */
    private final Map<String, byte[]> sparse = new LinkedHashMap<>();
    /** Whatever else it has, as fields of a GraphProto. */
    private final byte[] kept;

    EditableGraph(EditableGraph parent, String name, byte[] kept) {
        this.parent = parent;
        this.name = name;
        this.kept = kept;
    }

    /** The graph around it, whose values its nodes can read; null of a model's own. */
    public EditableGraph parent() {
        return parent;
    }

    /** Its name. */
    public String name() {
        return name;
    }

    /** In an order in which each stands behind those whose results it reads. */
    public List<EditableNode> nodes() {
        return nodes;
    }

    /** Constants by the names of their values. */
    public Map<String, EditableTensor> initializers() {
        return initializers;
    }

    /** Names of constants that are stored sparse; these stay as they are, or go. */
    public Map<String, byte[]> sparse() {
        return sparse;
    }

    /** What a caller gives, by name. Before version 4 of the format initializers are no inputs here, though files list them as such. */
    public Map<String, EditableValue> inputs() {
        return inputs;
    }

    /** What it hands out, by name. */
    public Map<String, EditableValue> outputs() {
        return outputs;
    }

    /** What is said of values between, by name; may lack any. Who changes the shape of a value removes it. */
    public Map<String, EditableValue> values() {
        return values;
    }

    /** This graph, and all that are in attributes of its nodes, a graph before those inside it. */
    public List<EditableGraph> all() {
        List<EditableGraph> all = new ArrayList<>();
        all.add(this);
        for (EditableNode n : nodes) {
            for (EditableGraph g : n.graphs()) {
                all.addAll(g.all());
            }
        }
        return all;
    }

    /** Forgets what is said of values that no node makes any more. */
    void dropStale() {
        Set<String> made = new HashSet<>();
        nodes.forEach(n -> made.addAll(n.outputs()));
        values.keySet().retainAll(made);
    }

    /** As the content of a field. */
    Rope rope(EditableModel.Place place) {
        Rope all = new Rope();
        nodes.forEach(n -> all.add(n.rope(place)));
        if (!name.isEmpty()) {
            all.add(new Proto().string(2, name));
        }
        initializers.forEach((initializer, t) -> all.add(t.rope(initializer, place).field(5)));
        Proto described = new Proto();
        inputs.values().forEach(v -> described.bytes(11, v.encoded()));
        if (parent == null && place.constantsAreInputs()) {
            initializers.forEach((initializer, t) -> described.message(11, t.describe(initializer)));
        }
        outputs.values().forEach(v -> described.bytes(12, v.encoded()));
        values.values().forEach(v -> described.bytes(13, v.encoded()));
        sparse.values().forEach(t -> described.bytes(15, t));
        return all.add(described.fields(kept));
    }
}
