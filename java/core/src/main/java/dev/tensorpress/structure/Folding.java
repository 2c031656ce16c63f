package dev.tensorpress.structure;

import dev.tensorpress.model.Destination;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableGraph;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.model.onnx.EditableTensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Computes what depends on constants alone, in the model's own graph. */
final class Folding {
    /** How much larger the constants may become, all together, and one that is larger than what it is made of. */
    private static final long GROWTH = 1 << 20;
    private static final long SMALL = 4096;
    /** Rounds in which a node that stays lets those before it be computed; in later ones they stay as well, so that long chains end. */
    private static final int ROUNDS = 8;
    /** Constants already; random; in need of a mode; and one that undoes what codes have saved. */
    private static final Set<String> LEFT = Set.of("Constant", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial",
            "Bernoulli", "Dropout", "DequantizeLinear");

    private final EditableModel model;
    private final EditableGraph graph;
    private final Evaluator evaluator;
    private final Arena arena;
    private final Links links;
    /** What was looked at and has to stay. */
    private final Set<EditableNode> stay = Collections.newSetFromMap(new IdentityHashMap<>());
    private final Map<String, EditableTensor> results = new HashMap<>();

    Folding(EditableModel model, Evaluator evaluator, Arena arena) {
        this.model = model;
        this.graph = model.graph();
        this.evaluator = evaluator;
        this.arena = arena;
        this.links = new Links(model);
    }

    void fold(List<String> notes) throws IOException {
        int large = 0;
        String example = "";
        int before = -1;
        for (int round = 0; before < stay.size(); round++) {
            before = stay.size();
            Set<EditableNode> nodes = computable();
            List<Links.Value> wanted = wanted(nodes);
            evaluate(wanted, notes);
            long room = GROWTH + freed(nodes, nodes);
            for (Links.Value v : wanted) {
                EditableTensor t = results.get(v.name);
                if (t == null) {
                    leave(v, round);
                    continue;
                }
                long bytes = t.tensor().bytes();
                if (bytes > room || bytes > SMALL && bytes > freed(ancestors(List.of(v)), nodes)) {
                    leave(v, round);
                    large++;
                    example = v.producer.label();
                } else {
                    room -= bytes;
                }
            }
        }
        if (large > 0) {
            notes.add("constants made by " + large + (large == 1 ? " node" : " nodes") + " take more bytes than what they are made of, and are not computed; one is " + example);
        }
        Set<EditableNode> nodes = computable();
        for (Links.Value v : wanted(nodes)) {
            graph.initializers().put(v.name, results.get(v.name));
        }
        graph.nodes().removeAll(nodes);
    }

    private void leave(Links.Value v, int round) {
        stay.add(v.producer);
        if (round >= ROUNDS) {
            stay.addAll(ancestors(List.of(v)));
        }
    }

    /** Nodes that read constants alone, and what such nodes make. */
    private Set<EditableNode> computable() {
        Set<EditableNode> all = Collections.newSetFromMap(new IdentityHashMap<>());
        for (EditableNode n : graph.nodes()) {
            if (n.domain().isEmpty() && !LEFT.contains(n.type()) && !n.inputs().isEmpty() && n.graphs().isEmpty() && !stay.contains(n)
                    && n.inputs().stream().allMatch(name -> name.isEmpty() || constant(all, links.resolve(graph, name)))) {
                all.add(n);
            }
        }
        return all;
    }

    private static boolean constant(Set<EditableNode> computable, Links.Value v) {
        return v != null && (v.constant().isPresent() || v.producer != null && computable.contains(v.producer));
    }

    /** What other nodes read of their results. */
    private List<Links.Value> wanted(Set<EditableNode> nodes) {
        List<Links.Value> all = new ArrayList<>();
        for (EditableNode n : graph.nodes()) {
            if (nodes.contains(n)) {
                for (String name : n.outputs()) {
                    Links.Value v = links.resolve(graph, name);
                    if (v != null && (!v.outputs.isEmpty() || v.uses.stream().anyMatch(u -> !nodes.contains(u.node())))) {
                        all.add(v);
                    }
                }
            }
        }
        return all;
    }

    /** Bytes of the constants that some of the nodes read, and nobody but nodes. */
    private long freed(Collection<EditableNode> some, Set<EditableNode> nodes) {
        Set<Links.Value> read = Collections.newSetFromMap(new IdentityHashMap<>());
        for (EditableNode n : some) {
            for (String name : n.inputs()) {
                Links.Value v = links.resolve(graph, name);
                if (v != null && v.tensor != null && v.tensor.type().isPresent() && v.outputs.isEmpty()
                        && v.uses.stream().allMatch(u -> nodes.contains(u.node()))) {
                    read.add(v);
                }
            }
        }
        return read.stream().mapToLong(v -> v.tensor.tensor().bytes()).sum();
    }

    /** All together, or if that fails one by one. */
    private void evaluate(List<Links.Value> values, List<String> notes) throws IOException {
        List<Links.Value> unknown = values.stream().filter(v -> !results.containsKey(v.name)).toList();
        if (unknown.isEmpty()) {
            return;
        }
        try {
            run(unknown);
        } catch (UnsupportedRequestException | MalformedModelException e) {
            for (Links.Value v : unknown) {
                try {
                    run(List.of(v));
                } catch (UnsupportedRequestException | MalformedModelException one) {
                    notes.add(v.producer.label() + " stays: " + one.getMessage());
                }
            }
        }
    }

    private void run(List<Links.Value> values) throws IOException {
        Path folder = Files.createTempDirectory("tensorpress-constants");
        try {
            List<String> names = values.stream().map(v -> v.name).toList();
            Set<Path> files = model.part(ancestors(values)).write(Destination.of(folder.resolve("constants.onnx")));
            try {
                results.putAll(evaluator.evaluate(folder.resolve("constants.onnx"), names, arena));
            } finally {
                for (Path file : files) {
                    Files.delete(file);
                }
            }
        } finally {
            Files.delete(folder);
        }
    }

    /** What values are made by, in the graph's order. */
    private List<EditableNode> ancestors(Collection<Links.Value> values) {
        Set<EditableNode> found = Collections.newSetFromMap(new IdentityHashMap<>());
        List<EditableNode> ahead = new ArrayList<>();
        values.forEach(v -> ahead.add(v.producer));
        while (!ahead.isEmpty()) {
            EditableNode n = ahead.removeLast();
            if (n != null && found.add(n)) {
                n.inputs().stream().map(name -> links.resolve(graph, name)).filter(v -> v != null).forEach(v -> ahead.add(v.producer));
            }
        }
        return graph.nodes().stream().filter(found::contains).toList();
    }
}
