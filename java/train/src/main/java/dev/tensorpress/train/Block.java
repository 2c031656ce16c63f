package dev.tensorpress.train;

import dev.tensorpress.model.onnx.EditableGraph;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * A part of a graph between two places where a single value is alive that depends on inputs and on weights: with its residual branches, as the layers of an
 * encoder are. Whatever else it reads depends on inputs alone, such as masks, and is computed again.
 *
 * @param from the value that it begins at; empty if it begins at the inputs
 * @param to values that it makes: one, or of the last block the outputs that are left
 * @param weights that it reads, and no block before it does
 */
record Block(Set<String> from, List<String> to, Set<String> weights) {
    /**
     * Blocks in order. Each but those that make outputs on the way trains a weight of two axes or more at least, and what follows without such belongs to it.
     *
     * @param trained names of constants that are trained
     * @param weights names of all that are not as they were, those that are trained among them
     * @param ends values that blocks may end at
     */
    static List<Block> of(EditableModel model, Set<String> trained, Set<String> weights, Collection<String> ends) {
        EditableGraph graph = model.graph();
        List<EditableNode> nodes = graph.nodes();
        Map<String, Integer> last = new HashMap<>();
        for (int i = 0; i < nodes.size(); i++) {
            for (String name : nodes.get(i).inputs()) {
                last.put(name, i);
            }
        }
        Set<String> outputs = new LinkedHashSet<>(graph.outputs().keySet());
        Set<String> ofInputs = new HashSet<>(graph.inputs().keySet());
        Set<String> ofWeights = new HashSet<>(weights);
        Set<String> ofBoth = new HashSet<>();
        Set<String> alive = new LinkedHashSet<>();
        List<String> cuts = new ArrayList<>();
        for (int i = 0; i < nodes.size(); i++) {
            EditableNode n = nodes.get(i);
            int at = i;
            boolean inputs = n.inputs().stream().anyMatch(ofInputs::contains);
            boolean both = n.inputs().stream().anyMatch(ofWeights::contains);
            if (inputs) {
                ofInputs.addAll(n.outputs());
            }
            if (both) {
                ofWeights.addAll(n.outputs());
            }
            if (inputs && both) {
                ofBoth.addAll(n.outputs());
                n.outputs().stream().filter(name -> !name.isEmpty()).forEach(alive::add);
            }
            alive.removeIf(name -> last.getOrDefault(name, -1) <= at && !outputs.contains(name));
            if (alive.size() == 1) {
                String one = alive.iterator().next();
                if (ends.contains(one) && !cuts.contains(one)) {
                    cuts.add(one);
                    // What a block ends at need not be kept for the end.
                    outputs.remove(one);
                }
            }
        }
        return blocks(model, trained, weights, cuts, graph.outputs().keySet().stream().filter(ofBoth::contains).toList());
    }

    private static List<Block> blocks(EditableModel model, Set<String> trained, Set<String> weights, List<String> cuts, List<String> outputs) {
        List<EditableNode> nodes = model.graph().nodes();
        Set<String> matrices = new HashSet<>();
        Network.constants(model).forEach((name, t) -> {
            if (trained.contains(name) && t.shape().rank() > 1) {
                matrices.add(name);
            }
        });
        List<Block> blocks = new ArrayList<>();
        Set<String> seen = new HashSet<>();
        Set<String> from = Set.of();
        Set<String> own = new LinkedHashSet<>();
        String before = null;
        for (String cut : cuts) {
            Set<String> read = read(nodes, before == null ? from : Set.of(before), List.of(cut), weights);
            read.removeAll(seen);
            boolean more = read.stream().anyMatch(matrices::contains);
            if (before != null && (outputs.contains(before) || more && own.stream().anyMatch(matrices::contains))) {
                blocks.add(new Block(from, List.of(before), own));
                from = Set.of(before);
                own = new LinkedHashSet<>();
            }
            own.addAll(read);
            seen.addAll(read);
            before = cut;
        }
        Set<String> made = new HashSet<>();
        blocks.forEach(b -> made.addAll(b.to));
        List<String> rest = outputs.stream().filter(name -> !made.contains(name)).toList();
        Set<String> read = read(nodes, before == null ? from : Set.of(before), rest, weights);
        read.removeAll(seen);
        if (before != null && !rest.contains(before) && read.stream().anyMatch(matrices::contains) && own.stream().anyMatch(matrices::contains)) {
            blocks.add(new Block(from, List.of(before), own));
            from = Set.of(before);
            own = new LinkedHashSet<>();
        }
        own.addAll(read);
        if (!rest.isEmpty()) {
            blocks.add(new Block(from, rest, own));
        }
        return blocks;
    }

    private static Set<String> read(List<EditableNode> nodes, Set<String> known, List<String> wanted, Set<String> weights) {
        Set<String> read = new LinkedHashSet<>();
        for (EditableNode n : Network.needed(nodes, known, wanted)) {
            n.inputs().stream().filter(weights::contains).forEach(read::add);
        }
        return read;
    }
}
