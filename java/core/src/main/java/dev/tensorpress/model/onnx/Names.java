package dev.tensorpress.model.onnx;

import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;

/** Names for what is new: none that anything in the whole model has, since graphs inside see the names of those around. */
final class Names {
    private final Parser parsed;
    private Set<String> taken;
    /** The last number that a name was given, where several nodes want it. */
    private final Map<String, Integer> numbers = new HashMap<>();

    Names(Parser parsed) {
        this.parsed = parsed;
    }

    /** That name, or with a number behind it the next that is free. */
    String fresh(String wanted) {
        if (taken == null) {
            taken = new HashSet<>();
            for (OnnxGraph g : parsed.graphs) {
                taken.addAll(g.values.keySet());
                for (OnnxGraph.Node n : g.nodes) {
                    taken.add(n.name);
                    taken.addAll(n.inputs);
                }
            }
        }
        String name = wanted;
        while (!taken.add(name)) {
            int number = numbers.getOrDefault(wanted, 1) + 1;
            numbers.put(wanted, number);
            name = wanted + "_" + number;
        }
        return name;
    }
}
