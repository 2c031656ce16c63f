package dev.tensorpress.model.onnx;

import dev.tensorpress.model.Model;
import dev.tensorpress.model.Weight;
import java.util.ArrayList;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;

/** Finds the places of all tensors of a model, those of no weights included, and names them. */
final class ArrayFinder {
    private final OnnxModel model;
    private final Map<TensorInfo, String> weights = new IdentityHashMap<>();
    private final FreeNames names = new FreeNames('#');
    private final List<Model.Array> found = new ArrayList<>();

    ArrayFinder(OnnxModel model) {
        this.model = model;
        for (Weight w : model.weights()) {
            weights.put(model.info(w).tensor, w.name());
            names.take(w.name());
        }
    }

    List<Model.Array> find() {
        for (OnnxGraph g : model.parsed().graphs) {
            for (TensorInfo t : g.initializers) {
                add(t, g.qualifier() + t.name);
            }
            for (OnnxGraph.Node n : g.nodes) {
                OnnxGraph.Attribute a = n.is("Constant") ? n.attribute("value") : null;
                if (a != null && a.tensor != null) {
                    add(a.tensor, g.qualifier() + (n.outputs.isEmpty() ? "" : n.outputs.getFirst()));
                }
            }
        }
        return found;
    }

    private void add(TensorInfo t, String name) {
        String own = weights.get(t);
        Model.Array array = model.array(t, own == null ? name : own);
        if (array != null) {
            found.add(own != null ? array : new Model.Array(names.of(name), array.file(), array.offset(), array.type(), array.shape()));
        }
    }
}
