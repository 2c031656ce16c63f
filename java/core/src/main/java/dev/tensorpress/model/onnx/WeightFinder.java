package dev.tensorpress.model.onnx;

import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.OnnxGraph.Use;
import dev.tensorpress.model.onnx.OnnxGraph.Value;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashSet;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Optional;
import java.util.Set;

/** Makes weights of a model's constant float tensors: where their data lie, and what the operators do with them. */
final class WeightFinder {
    private static final int OLDEST_OPSET = 7;

    private final Parser model;
    private final Elements elements;
    private final Readers readers;
    private final FreeNames unique = new FreeNames('#');
    /** Values with the name of one in a graph around or inside: what is computed may not have such a name. */
    private final Set<Value> shadows = Collections.newSetFromMap(new IdentityHashMap<>(0));

    WeightFinder(Parser model, Wire w, DataFiles files, Arena arena) {
        this.model = model;
        this.elements = new Elements(w, files, arena);
        this.readers = new Readers(new Heads(model), new Constants(model, w));
    }

    /** A weight with its place in the model. */
    static final class Info {
        final Value value;
        final TensorInfo tensor;
        final Weight weight;
        /**
         * Every reader is one that a lowering can replace by its own nodes: nothing unusual is set, and no node is between but the
         * Transpose of a matrix before products.
         */
        final boolean replaceable;
        /** Position among the weights, in file order. */
        int order;

        Info(Value value, Weight weight, boolean replaceable) {
            this.value = value;
            this.tensor = value.tensor;
            this.weight = weight;
            this.replaceable = replaceable;
        }

        boolean isInitializer() {
            return value.producer == null;
        }
    }

    /** All weights, in file order. */
    List<Info> find() throws IOException {
        findShadows();
        List<Value> found = new ArrayList<>();
        Set<TensorInfo> sparse = new HashSet<>();
        for (OnnxGraph g : model.graphs) {
            for (TensorInfo t : g.initializers) {
                add(found, g.values.get(t.name));
            }
            for (TensorInfo t : g.sparse) {
                add(found, g.values.get(t.name));
                sparse.add(t);
            }
            for (Node n : g.nodes) {
                if (n.is("Constant") && n.outputs.size() == 1 && !n.outputs.get(0).isEmpty()) {
                    add(found, g.values.get(n.outputs.get(0)));
                }
            }
        }
        // Not a lambda: the first one of a process costs more than reading the model.
        found.sort(new Comparator<Value>() {
            @Override
            public int compare(Value a, Value b) {
                return Long.compare(a.tensor.fieldStart, b.tensor.fieldStart);
            }
        });
        List<Info> all = new ArrayList<>(found.size());
        for (Value v : found) {
            Info i = info(v, sparse.contains(v.tensor));
            i.order = all.size();
            all.add(i);
        }
        return all;
    }

    private void findShadows() {
        for (OnnxGraph g : model.graphs) {
            if (g.parent != null) {
                for (Value v : g.values.values()) {
                    Value hidden = g.parent.resolve(v.name);
                    if (hidden != null) {
                        shadows.add(v);
                        shadows.add(hidden);
                    }
                }
            }
        }
    }

    private static void add(List<Value> to, Value v) {
        if (v.tensor != null && v.tensor.dtype() != null) {
            to.add(v);
        }
    }

    private Info info(Value v, boolean sparse) throws IOException {
        TensorInfo t = v.tensor;
        Tensor tensor = new Tensor(t.dtype(), Shape.of(t.dims), elements.of(t));
        Purpose purpose = null;
        List<String> names = new ArrayList<>(v.uses.size());
        for (Use u : v.uses) {
            names.add(u.node().reader());
            Purpose one = readers.purpose(u, t.dims);
            purpose = purpose == null ? one : purpose.and(one);
        }
        String obstacle = obstacle(v, sparse, purpose);
        Purpose p = purpose == null ? Purpose.OTHER : purpose;
        Weight weight = new Weight(unique.of(v.graph.qualifier() + v.name), p.role(), tensor, p.in(), p.out(), names,
                Optional.ofNullable(obstacle));
        return new Info(v, weight, p.replaceable() && !v.output);
    }

    private String obstacle(Value v, boolean sparse, Purpose purpose) {
        Long opset = model.opsets.get("");
        if (sparse) {
            return "it is sparse already";
        }
        if (!v.tensor.dtype().compressible()) {
            return "its type is " + v.tensor.dtype() + "; f32, f16 and bf16 can be compressed";
        }
        if (v.tensor.elements == 0) {
            return "it is empty";
        }
        if (v.input && (model.irVersion >= 4 || v.graph.parent != null)) {
            return "it is also an input of the graph, so a caller may replace it";
        }
        if (opset == null) {
            return "the model imports no version of the standard operators";
        }
        if (opset < OLDEST_OPSET) {
            return "the model uses operator set " + opset + "; before " + OLDEST_OPSET + " broadcasting was another";
        }
        if (model.training) {
            return "the model holds training information that refers to its weights";
        }
        if (v.uses.isEmpty() && !v.output) {
            return "no operator reads it";
        }
        if (shadows.contains(v)) {
            return "a graph inside or around has another value of its name";
        }
        return purpose == null ? null : purpose.obstacle();
    }
}
