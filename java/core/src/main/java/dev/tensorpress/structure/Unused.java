package dev.tensorpress.structure;

import dev.tensorpress.model.onnx.EditableGraph;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import java.util.ArrayDeque;
import java.util.Collections;
import java.util.Deque;
import java.util.IdentityHashMap;
import java.util.Set;

/** Removes what leads to no output. */
final class Unused {
    private final Links links;
    private final Set<Links.Value> used = Collections.newSetFromMap(new IdentityHashMap<>());
    private final Set<EditableNode> nodes = Collections.newSetFromMap(new IdentityHashMap<>());
    private final Deque<Links.Value> ahead = new ArrayDeque<>();

    private Unused(EditableModel model) {
        links = new Links(model);
        outputs(model.graph());
        while (!ahead.isEmpty()) {
            Links.Value v = ahead.pop();
            if (v.producer != null && nodes.add(v.producer)) {
                v.producer.inputs().forEach(name -> use(v.graph, name));
                v.producer.graphs().forEach(this::outputs);
            }
        }
    }

    private void outputs(EditableGraph g) {
        g.outputs().keySet().forEach(name -> use(g, name));
    }

    private void use(EditableGraph g, String name) {
        Links.Value v = links.resolve(g, name);
        if (v != null && used.add(v)) {
            ahead.push(v);
        }
    }

    static void remove(EditableModel model) {
        Unused u = new Unused(model);
        for (EditableGraph g : model.graph().all()) {
            g.nodes().removeIf(n -> !u.nodes.contains(n));
            // Without its initializer an input would have to be given.
            g.initializers().keySet().removeIf(name -> !g.inputs().containsKey(name) && !u.used.contains(u.links.resolve(g, name)));
            g.sparse().keySet().removeIf(name -> !u.used.contains(u.links.resolve(g, name)));
        }
    }
}
