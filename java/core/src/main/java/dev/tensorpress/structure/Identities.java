package dev.tensorpress.structure;

import dev.tensorpress.model.onnx.EditableGraph;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.model.onnx.EditableValue;
import dev.tensorpress.tensor.DType;
import java.util.Optional;

/** Removes nodes whose result is what they read. */
final class Identities {
    /** Before it, Dropout had an attribute that says whether it drops. */
    private static final long DROPOUT_OPSET = 7;

    private Identities() {}

    static void pass(EditableModel model) {
        Links links = new Links(model);
        long opset = model.opsets().getOrDefault("", 0L);
        for (EditableGraph g : model.graph().all()) {
            g.nodes().removeIf(n -> {
                Links.Value from = links.resolve(g, n.input(0));
                Links.Value to = links.result(g, n);
                return from != null && to != null && nothing(links, opset, g, n, from) && (links.replace(to, from) || renamed(links, g, from, to));
            });
        }
    }

    private static boolean nothing(Links links, long opset, EditableGraph g, EditableNode n, Links.Value from) {
        if (n.is("Identity")) {
            return true;
        }
        if (n.is("Cast")) {
            Optional<DType> type = type(from);
            return type.isPresent() && n.integer("to", 0) == EditableTensor.code(type.get());
        }
        if (!n.is("Dropout") || opset < DROPOUT_OPSET) {
            return false;
        }
        Links.Value mask = n.outputs().size() < 2 ? null : links.resolve(g, n.outputs().get(1));
        Links.Value training = links.resolve(g, n.input(2));
        return (mask == null || mask.uses.isEmpty() && mask.outputs.isEmpty())
                && (training == null || training.constant().flatMap(t -> t.integers(1)).filter(t -> t[0] == 0).isPresent());
    }

    private static Optional<DType> type(Links.Value v) {
        if (v.tensor != null) {
            return v.tensor.type();
        }
        EditableValue said = v.graph.inputs().getOrDefault(v.name, v.graph.values().get(v.name));
        return said == null ? Optional.empty() : said.type();
    }

    /** Lets what a node makes have the name of an output, so that no node has to make that of it. */
    private static boolean renamed(Links links, EditableGraph g, Links.Value from, Links.Value to) {
        if (from.producer == null || from.graph != g || !from.outputs.isEmpty() || to.outputs.stream().anyMatch(o -> o != g)) {
            return false;
        }
        for (Links.Use u : from.uses) {
            if (links.resolve(u.graph(), to.name) != to) {
                return false;
            }
        }
        from.producer.outputs().replaceAll(name -> name.equals(from.name) ? to.name : name);
        for (Links.Use u : from.uses) {
            u.node().inputs().set(u.input(), to.name);
        }
        links.rename(from, to);
        return true;
    }
}
