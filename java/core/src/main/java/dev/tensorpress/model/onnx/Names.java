package dev.tensorpress.model.onnx;

/** Names for what is new: none that anything in the whole model has, since graphs inside see the names of those around. */
final class Names {
    private final Parser parsed;
    private FreeNames names;

    Names(Parser parsed) {
        this.parsed = parsed;
    }

    /** That name, or with a number behind it the next that is free. */
    String fresh(String wanted) {
        if (names == null) {
            names = new FreeNames('_');
            for (OnnxGraph g : parsed.graphs) {
                for (String value : g.values.keySet()) {
                    names.take(value);
                }
                for (OnnxGraph.Node n : g.nodes) {
                    names.take(n.name);
                    for (String input : n.inputs) {
                        names.take(input);
                    }
                }
            }
        }
        return names.of(wanted);
    }
}
