package dev.tensorpress.model.onnx;

import dev.tensorpress.model.Graph;
import dev.tensorpress.model.Graph.Feed;
import dev.tensorpress.model.Graph.Normalization;
import dev.tensorpress.model.Graph.Operator;
import dev.tensorpress.model.Graph.Product;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.OnnxGraph.Attribute;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.OnnxGraph.Use;
import dev.tensorpress.model.onnx.OnnxGraph.Value;
import dev.tensorpress.model.onnx.WeightFinder.Info;
import dev.tensorpress.tensor.Shape;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.IdentityHashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/** Finds what products read. Nodes are passed in their order, in which each stands behind those it reads from. */
final class GraphFinder {
    /** A matrix that is joined of more weights belongs to none of them: each product would list them all. */
    private static final int MOST_JOINED = 64;

    private final Parser model;
    private final Moves moves;
    private final Sources sources;
    private final Normalizations normalizations;
    private final Tails tails;
    /** Weights, and what is made of them alone by moving, cutting, converting and joining. */
    private final Map<Value, Set<Weight>> matrices = new IdentityHashMap<>();
    private final Map<Value, Weight> weights = new IdentityHashMap<>();
    /** Of values that are others, converted or moved: those. Every axis stays where it is, or what lies along the last one does. */
    private final Map<Value, Value> same = new IdentityHashMap<>();
    private final Map<Value, Value> sameLast = new IdentityHashMap<>();
    private final Map<Place, Draft> drafts = new LinkedHashMap<>();
    /** Of each node that multiplies with weights. */
    private final Map<Node, Draft> draftOf = new IdentityHashMap<>();

    private final Set<Weight> tables = new HashSet<>();

    private record Place(Value value, int axis) {}

    /** A feed in the making. */
    private static final class Draft {
        final Value value;
        final int axis;
        final List<Product> products = new ArrayList<>(1);
        /** What each of them reads as its matrix. */
        final List<Value> matrices = new ArrayList<>(1);
        Optional<Normalization> normalization = Optional.empty();

        Draft(Place p) {
            this.value = p.value;
            this.axis = p.axis;
        }
    }

    GraphFinder(Parser model, Collection<Info> infos, Constants constants) {
        this.model = model;
        this.moves = new Moves(constants);
        for (Info i : infos) {
            weights.put(i.value, i.weight);
            matrices.put(i.value, Set.of(i.weight));
        }
        this.normalizations = new Normalizations(model, weights, moves);
        this.sources = new Sources(weights, normalizations, moves, constants);
        this.tails = new Tails(constants, weights);
    }

    Graph find() {
        List<Operator> operators = new ArrayList<>();
        for (OnnxGraph g : model.graphs) {
            for (Node n : g.nodes) {
                operators.add(n);
                move(n);
                multiply(n);
            }
        }
        Map<Value, Draft> owners = owners();
        List<Feed> feeds = new ArrayList<>(drafts.size());
        for (Draft d : drafts.values()) {
            boolean exclusive = owners.get(d.value) == d;
            feeds.add(new Feed(d.value, d.axis, d.normalization, exclusive, sources.of(d.value, d.axis, exclusive, d.products, d.matrices), d.products));
        }
        return new Graph(operators, feeds, tables);
    }

    private void move(Node n) {
        Value from = n.operand(0);
        Value to = n.result();
        if (!n.domain.isEmpty() || from == null || to == null) {
            return;
        }
        switch (n.op) {
            case "Identity", "Cast", "Dropout" -> {
                same.put(to, source(same, from));
                sameLast.put(to, source(sameLast, from));
                matrix(n, 1);
            }
            case "Transpose" -> {
                Attribute perm = n.attribute("perm");
                if (perm != null && perm.integers != null && perm.integers.length > 0
                        && perm.integers[perm.integers.length - 1] == perm.integers.length - 1) {
                    sameLast.put(to, source(sameLast, from));
                }
                matrix(n, 1);
            }
            case "Reshape" -> {
                Normalizations.Found f = normalizations.of(source(sameLast, from));
                Optional<Weight> scale = f == null ? Optional.empty() : f.normalization().scale();
                long[] last = scale.isPresent() && f.axis() == -1 ? moves.lastSizes(n.operand(1), 1) : new long[0];
                if (last.length > 0 && scale.get().tensor().shape().elements() == last[0]) {
                    sameLast.put(to, source(sameLast, from));
                }
            }
            case "Slice", "Split", "Squeeze", "Unsqueeze" -> matrix(n, 1);
            case "Concat" -> matrix(n, n.inputs.size());
            case "Gather" -> matrices.getOrDefault(from, Set.of()).stream().filter(w -> w.role().isProduct()).forEach(tables::add);
            default -> { }
        }
    }

    private static Value source(Map<Value, Value> sources, Value v) {
        return sources.getOrDefault(v, v);
    }

    /** Notes of which weights the results of a node are made. */
    private void matrix(Node n, int operands) {
        Set<Weight> made = null;
        for (int i = 0; i < operands; i++) {
            Value v = n.operand(i);
            Set<Weight> of = v == null ? null : matrices.get(v);
            if (of == null) {
                return;
            }
            if (made == null) {
                made = of;
            } else {
                made = new LinkedHashSet<>(made);
                made.addAll(of);
            }
            if (made.size() > MOST_JOINED) {
                return;
            }
        }
        if (made != null) {
            for (String name : n.outputs) {
                if (!name.isEmpty()) {
                    matrices.put(n.graph.values.get(name), made);
                }
            }
        }
    }

    private void multiply(Node n) {
        boolean gemm = n.op.equals("Gemm") || n.op.equals("FusedGemm");
        boolean either = n.is("MatMul") || gemm;
        if (!either && !takesOneWeight(n)) {
            return;
        }
        int at = either && n.operand(0) != null && matrices.containsKey(n.operand(0)) ? 0 : 1;
        Value input = n.operand(1 - at);
        Value matrix = n.operand(at);
        if (input == null || matrix == null || matrices.containsKey(input)) {
            return;
        }
        for (Weight w : matrices.getOrDefault(matrix, Set.of())) {
            if (w.role().isProduct() || w.role() == Role.CONV || w.role() == Role.RECURRENT) {
                Optional<Tails.Tail> tail = n.is("Conv") && weights.get(matrix) == w ? Optional.ofNullable(tails.of(n, w)) : Optional.empty();
                add(new Product(n, w, input, Windows.of(n, w), at == 1 ? bias(n, w) : Optional.empty(), tail.map(Tails.Tail::seen)), n, input,
                        matrix, axis(n, at), gemm);
            }
        }
    }

    /** What is added to the results of a product, whose last axis, of Conv the second one, is that of outputs, if nothing else reads it. */
    private Optional<Weight> bias(Node n, Weight matrix) {
        Value added = null;
        if (n.is("Conv") || n.is("Gemm") && n.real("alpha", 1) == 1 && n.real("beta", 1) == 1) {
            added = n.operand(2);
        } else if (n.is("MatMul") && n.result() != null && !n.result().output && n.result().uses.size() == 1) {
            Use use = n.result().uses.get(0);
            added = use.node().is("Add") && use.node().graph == n.graph ? use.node().operand(1 - use.input()) : null;
        }
        Weight bias = added == null || added.uses.size() != 1 || added.output ? null : weights.get(added);
        if (bias == null || matrix.outputAxis() < 0) {
            return Optional.empty();
        }
        Shape shape = bias.tensor().shape();
        long outputs = matrix.tensor().shape().dim(matrix.outputAxis());
        return Optional.of(bias).filter(b -> shape.rank() > 0 && shape.elements() == outputs && shape.dim(-1) == outputs);
    }

    private static boolean takesOneWeight(Node n) {
        return n.domain.isEmpty() ? switch (n.op) {
            case "Conv", "ConvTranspose", "LSTM", "GRU", "RNN" -> true;
            default -> false;
        } : n.domain.equals(Nodes.MICROSOFT) && switch (n.op) {
            case "Attention", "FusedMatMul", "FusedGemm" -> true;
            default -> false;
        };
    }

    /** The axis of the other operand that a product with this one sums over. */
    private static int axis(Node n, int matrix) {
        return switch (n.op) {
            case "MatMul" -> matrix == 1 ? -1 : -2;
            case "Gemm", "FusedMatMul", "FusedGemm" -> (matrix == 1) == (n.integer(matrix == 1 ? "transA" : "transB", 0) == 0) ? -1 : -2;
            case "Conv", "ConvTranspose" -> 1;
            default -> -1;
        };
    }

    private void add(Product p, Node n, Value input, Value matrix, int axis, boolean gemm) {
        Place place = new Place(source(axis == -1 ? sameLast : same, input), axis);
        Draft d = drafts.get(place);
        if (d == null) {
            d = new Draft(place);
            drafts.put(place, d);
        }
        Normalizations.Found f = normalizations.of(d.value);
        // The second of two axes is the last one.
        if (f != null && (f.axis() == axis || gemm && axis == -1 && f.axis() == 1 && source(same, input) == d.value)) {
            d.normalization = Optional.of(f.normalization());
        }
        d.products.add(p);
        d.matrices.add(matrix);
        draftOf.put(n, d);
    }

    /** Values that nothing reads but the products of one feed. From the end, and graphs before those around them. */
    private Map<Value, Draft> owners() {
        Map<Value, Draft> owners = new IdentityHashMap<>();
        for (OnnxGraph g : model.graphs.reversed()) {
            for (Node n : g.nodes.reversed()) {
                for (String name : n.outputs) {
                    own(owners, g.values.get(name));
                }
            }
            for (OnnxGraph.Described in : g.inputs) {
                own(owners, g.values.get(in.name()));
            }
        }
        return owners;
    }

    private void own(Map<Value, Draft> owners, Value v) {
        if (v == null || v.output) {
            return;
        }
        Draft all = null;
        for (Use u : v.uses) {
            Node n = u.node();
            if (n.is("Shape") || n.is("Size")) {
                continue;
            }
            // Weights and what is multiplied with them are the first two operands.
            Draft d = u.input() < 2 ? draftOf.get(n) : null;
            if (d == null) {
                Value moved = n.result();
                d = u.input() == 0 && moved != null && (same.containsKey(moved) || sameLast.containsKey(moved)) ? owners.get(moved) : null;
            }
            if (d == null || all != null && d != all) {
                return;
            }
            all = d;
        }
        if (all != null && source(all.axis == -1 ? sameLast : same, v) == all.value) {
            owners.put(v, all);
        }
    }
}
