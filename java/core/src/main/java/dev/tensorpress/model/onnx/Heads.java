package dev.tensorpress.model.onnx;

import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.OnnxGraph.Use;
import dev.tensorpress.model.onnx.OnnxGraph.Value;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Set;

/** Products with nothing but a bias, scores and shapes between them and an output of the model. */
final class Heads {
    private final Parser model;
    /** Results with nothing else between. */
    private final Set<Value> last = Collections.newSetFromMap(new IdentityHashMap<>(0));
    /** Outputs of graphs inside that lead to none of the model. */
    private final Set<Value> kept = Collections.newSetFromMap(new IdentityHashMap<>(0));

    Heads(Parser model) {
        this.model = model;
        find();
    }

    boolean contain(Node product) {
        return !product.outputs.isEmpty() && last.contains(product.graph.values.get(product.outputs.getFirst()));
    }

    /** From the end, since nodes stand behind those they read from, and graphs behind those around them. */
    private void find() {
        for (OnnxGraph g : model.graphs) {
            findKept(g);
            for (Node n : g.nodes.reversed()) {
                for (String name : n.outputs) {
                    Value v = g.values.get(name);
                    if (v != null && isLast(v)) {
                        last.add(v);
                    }
                }
            }
        }
    }

    private boolean isLast(Value v) {
        if (kept.contains(v)) {
            return false;
        }
        boolean leads = v.output;
        for (Use u : v.uses) {
            Node n = u.node();
            if (n.is("Shape")) {
                continue;
            }
            boolean passes = n.domain.isEmpty() && switch (n.op) {
                case "Add", "Sub", "Mul", "Div" -> {
                    Value other = n.inputs.size() == 2 ? n.graph.resolve(n.inputs.get(1 - u.input())) : null;
                    yield other != null && other.tensor != null;
                }
                case "Softmax", "LogSoftmax", "Sigmoid", "ArgMax", "TopK", "Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze",
                        "Transpose", "Slice", "Dropout" -> u.input() == 0;
                default -> false;
            };
            if (!passes || n.outputs.isEmpty() || !last.contains(n.graph.values.get(n.outputs.getFirst()))) {
                return false;
            }
            leads = true;
        }
        return leads;
    }

    /** Outputs of a graph inside lead to one of the model as the results of an If that do. */
    private void findKept(OnnxGraph g) {
        if (g.parent == null) {
            return;
        }
        List<String> results = g.owner.is("If") ? g.owner.outputs : List.of();
        for (int i = 0; i < g.outputs.size(); i++) {
            Value v = g.values.get(g.outputs.get(i));
            if (v != null && (i >= results.size() || !last.contains(g.parent.values.get(results.get(i))))) {
                kept.add(v);
            }
        }
    }
}
