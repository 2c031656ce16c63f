package dev.tensorpress.structure;

import dev.tensorpress.internal.Glob;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableGraph;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.statistics.ValueStatistics;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Deque;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.Set;
import java.util.stream.IntStream;

/**
 * Whole blocks: branches f of a graph where x + f(x) is computed, as in encoders, before and behind normalizations, and in residual networks of
 * convolutions. Without one x is left, and the model is an ordinary one with less layers.
 */
public final class Blocks {
    /** What makes a branch one that computes something: sums on single elements, such as those of activation functions, are none. */
    private static final Set<String> PRODUCTS = Set.of("MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "LSTM", "GRU", "RNN", "com.microsoft.MatMulNBits",
            "com.microsoft.Attention", "com.microsoft.MultiHeadAttention");
    /** Nodes that a branch is looked for in; what is larger is no block of a model of many. */
    private static final int LARGEST = 10_000;

    /**
     * A branch.
     *
     * @param name the label of the node that adds, with a number behind it if that is taken
     * @param before the value x
     * @param made the value f(x)
     * @param sum the value x + f(x)
     * @param nodes that go with it, without what computes other values that it reads
     * @param bytes of constants that nothing else reads
     * @param obstacle why it has to stay; empty if it can go
     */
    public record Block(String name, String before, String made, String sum, int nodes, long bytes, Optional<String> obstacle) {}

    private record Found(Block block, EditableNode add, int skip, Set<EditableNode> within) {}

    private final EditableModel model;
    private final EditableGraph graph;
    private final Links links;
    private final Shapes shapes;
    private final Map<EditableNode, Integer> positions = new HashMap<>();
    private final Set<String> names = new HashSet<>();

    private Blocks(EditableModel model) {
        this.model = model;
        graph = model.graph();
        links = new Links(model);
        shapes = Shapes.of(model);
        for (int i = 0; i < graph.nodes().size(); i++) {
            positions.put(graph.nodes().get(i), i);
        }
    }

    /** All branches of the model's own graph, in its order; those that have to stay with the reason. */
    public static List<Block> of(EditableModel model) {
        return new Blocks(model).find().stream().map(Found::block).toList();
    }

    /** Of these, those that can go and whose name fits one of the globs; all that can go if there are none. */
    public static List<Block> selected(List<Block> blocks, List<String> globs) {
        return blocks.stream().filter(b -> b.obstacle().isEmpty() && (globs.isEmpty() || globs.stream().anyMatch(g -> Glob.matches(g, b.name())))).toList();
    }

    /**
     * How much of the sum's squares a branch makes, ||f(x)||<sup>2</sup> / ||x + f(x)||<sup>2</sup>: little where it changes little, as Block Influence has it of
     * cosines (Men et al. 2024).
     *
     * @param statistics of the model, with all of its values
     * @return empty if one of both values is not among them
     */
    public static OptionalDouble share(Block block, Statistics statistics) {
        Optional<ValueStatistics> made = statistics.of("", block.made());
        Optional<ValueStatistics> sum = statistics.of("", block.sum());
        if (made.isEmpty() || sum.isEmpty()) {
            return OptionalDouble.empty();
        }
        double all = Arrays.stream(sum.get().squares()).sum();
        return OptionalDouble.of(all == 0 ? 0 : Arrays.stream(made.get().squares()).sum() / all);
    }

    /**
     * Takes branches out, and all that leads to no output without them.
     *
     * @param names of branches that can go
     * @throws UnsupportedRequestException if the model has information for training; nothing is changed then
     * @throws IllegalArgumentException if there is no such branch, or it has to stay; nothing is changed then
     */
    public static void remove(EditableModel model, Collection<String> names) {
        if (model.training()) {
            throw new UnsupportedRequestException("the model has information for training, which would not fit what is left of it");
        }
        Blocks b = new Blocks(model);
        Map<String, Found> found = new HashMap<>();
        b.find().forEach(f -> found.put(f.block.name, f));
        for (String name : names) {
            if (!found.containsKey(name) || found.get(name).block.obstacle().isPresent()) {
                throw new IllegalArgumentException("there is no block '" + name + "' that could go");
            }
        }
        for (String name : names) {
            Found f = found.get(name);
            String before = f.add.input(f.skip);
            if (!b.links.replace(b.links.resolve(b.graph, f.block.sum), b.links.resolve(b.graph, before))) {
                int at = b.graph.nodes().indexOf(f.add);
                b.graph.nodes().set(at, new EditableNode("Identity", "", f.add.name(), List.of(before), List.of(f.block.sum)));
            }
        }
        Unused.remove(model);
    }

    private List<Found> find() {
        List<Found> all = new ArrayList<>();
        for (EditableNode n : graph.nodes()) {
            if (!n.is("Add") || n.inputs().size() != 2 || links.result(graph, n) == null) {
                continue;
            }
            Found f = branch(n, 0);
            f = f == null ? branch(n, 1) : f;
            if (f != null) {
                all.add(f);
            }
        }
        Set<EditableNode> adds = new HashSet<>();
        all.forEach(f -> adds.add(f.add));
        return all.stream().map(f -> f.within.stream().noneMatch(adds::contains) || f.block.obstacle.isPresent() ? f : new Found(new Block(f.block.name,
                f.block.before, f.block.made, f.block.sum, f.block.nodes, f.block.bytes, Optional.of("other blocks lie within it")), f.add, f.skip, f.within))
                .toList();
    }

    /** @param skip the input that is x; @return null if the other one is not computed of it by products */
    private Found branch(EditableNode add, int skip) {
        Links.Value x = links.resolve(graph, add.input(skip));
        Links.Value made = links.resolve(graph, add.input(1 - skip));
        if (x == null || made == null || x == made || x.tensor != null || made.producer == null || made.tensor != null || differ(x, made)) {
            return null;
        }
        int from = x.producer == null ? -1 : positions.getOrDefault(x.producer, Integer.MAX_VALUE);
        Set<EditableNode> above = new HashSet<>();
        Deque<EditableNode> ahead = new ArrayDeque<>(List.of(made.producer));
        while (!ahead.isEmpty() && above.size() <= LARGEST) {
            EditableNode n = ahead.pop();
            if (positions.getOrDefault(n, -1) <= from || !above.add(n)) {
                continue;
            }
            for (String input : n.inputs()) {
                Links.Value v = links.resolve(graph, input);
                if (v != null && v != x && v.producer != null) {
                    ahead.push(v.producer);
                }
            }
        }
        Set<EditableNode> within = new LinkedHashSet<>();
        Set<String> computed = new HashSet<>(Set.of(x.name));
        above.stream().sorted((a, b) -> positions.get(a) - positions.get(b)).forEach(n -> {
            if (n.inputs().stream().anyMatch(computed::contains)) {
                within.add(n);
                computed.addAll(n.outputs());
            }
        });
        if (above.size() > LARGEST || !within.contains(made.producer) || within.stream().noneMatch(n -> PRODUCTS.contains(Operators.key(n)))) {
            return null;
        }
        String label = add.label();
        String name = label;
        for (int i = 2; !names.add(name); i++) {
            name = label + ":" + i;
        }
        Block block = new Block(name, x.name, made.name, add.outputs().getFirst(), within.size(), bytes(within), obstacle(add, x, made, within));
        return new Found(block, add, skip, within);
    }

    private long bytes(Set<EditableNode> within) {
        Set<String> seen = new HashSet<>();
        long bytes = 0;
        for (EditableNode n : within) {
            for (String input : n.inputs()) {
                Links.Value v = links.resolve(graph, input);
                if (v != null && v.constant().isPresent() && v.outputs.isEmpty() && seen.add(input) && v.uses.stream().allMatch(u -> within.contains(u.node()))) {
                    EditableTensor t = v.constant().get();
                    bytes += t.type().map(d -> d.bytes(t.shape().elements())).orElse(0L);
                }
            }
        }
        return bytes;
    }

    private Optional<String> obstacle(EditableNode add, Links.Value x, Links.Value made, Set<EditableNode> within) {
        for (EditableNode n : within) {
            if (!n.graphs().isEmpty()) {
                return Optional.of("a graph is inside of " + n);
            }
            for (String output : n.outputs()) {
                Links.Value v = links.resolve(graph, output);
                if (v != null && (!v.outputs.isEmpty() || v.uses.stream().anyMatch(u -> u.graph() != graph || !within.contains(u.node()) && u.node() != add))) {
                    return Optional.of("'" + output + "' is read outside of it");
                }
            }
        }
        return shapes.of(x.name).isPresent() && shapes.of(made.name).isPresent() ? Optional.empty() : Optional.of("shapes of what is added are not known");
    }

    /** Whether one is known to be repeated along an axis of the other, as tables and masks are: what is left without a branch has the shape of the sum. */
    private boolean differ(Links.Value x, Links.Value made) {
        List<Quantity> a = shapes.of(x.name).orElse(List.of());
        List<Quantity> b = shapes.of(made.name).orElse(List.of());
        if (a.isEmpty() || b.isEmpty() || a.size() != b.size()) {
            return !a.isEmpty() && !b.isEmpty();
        }
        return IntStream.range(0, a.size()).anyMatch(i -> a.get(i).known() && b.get(i).known() ? !a.get(i).equals(b.get(i)) : a.get(i).is(1) || b.get(i).is(1));
    }
}
