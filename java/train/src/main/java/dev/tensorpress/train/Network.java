package dev.tensorpress.train;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import dev.tensorpress.model.UnknownNameException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableGraph;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.model.onnx.EditableValue;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * The graph of an ONNX model as PyTorch computes it, by way of DJL: with gradients of whatever it computes by its parameters. Numbers of f16 and bf16 are
 * computed in f32. One thread at a time.
 *
 * <pre>{@code
 * try (Network network = Network.of(editable); NDManager scope = network.scope()) {
 *     NDArray loss = network.run(scope, Map.of("x", scope.create(...)), List.of("y")).get("y").square().mean();
 *     ...
 *     network.store(arena);    // changed parameters, into the editable model
 * }
 * }</pre>
 */
public final class Network implements AutoCloseable {
    private final EditableModel model;
    /** Of the graph, those that are computed, without constants. */
    private final List<EditableNode> nodes;
    private final NDManager manager;
    private final Map<String, NDArray> constants = new LinkedHashMap<>();
    private final Set<String> parameters = new LinkedHashSet<>();
    /** By name of each value. */
    private final Map<String, EditableNode> producers = new HashMap<>();
    private final long opset;

    private Network(EditableModel model, List<EditableNode> nodes, NDManager manager) {
        this.model = model;
        this.nodes = nodes;
        this.manager = manager;
        this.opset = model.opsets().getOrDefault("", 1L);
    }

    /**
     * Takes the constants of a model over. Parameters are those of floating-point type with more than one element, which are no statistics of a batch
     * normalization, nor shapes, steps or the like.
     *
     * @param model stays as it is until {@link #store}
     * @throws UnsupportedRequestException if it has nodes that cannot be trained, each of which is named with its operator; or constants of other types
     * @throws IllegalStateException if PyTorch cannot be loaded; the message says what is missing
     */
    public static Network of(EditableModel model) {
        check(model);
        return of(model, model.graph().nodes().stream().filter(n -> n.constant().isEmpty()).toList(), constants(model).keySet());
    }

    /**
     * The part of a model that makes some values of others: with the constants that this takes, and no others.
     *
     * @param known names of the values that {@link #run} will be given, apart from constants
     * @param wanted names of those that it may be asked for
     */
    static Network between(EditableModel model, Set<String> known, Collection<String> wanted) {
        check(model);
        List<EditableNode> nodes = needed(model.graph().nodes(), known, wanted);
        Set<String> read = new LinkedHashSet<>(wanted);
        nodes.forEach(n -> read.addAll(n.inputs()));
        read.removeAll(known);
        return of(model, nodes, read);
    }

    private static Network of(EditableModel model, List<EditableNode> nodes, Set<String> read) {
        Network network = new Network(model, nodes, Engines.manager());
        try {
            network.load(read);
        } catch (RuntimeException | Error e) {
            network.close();
            throw e;
        }
        return network;
    }

    /** @throws UnsupportedRequestException if the model has nodes that cannot be trained */
    private static void check(EditableModel model) {
        List<String> unknown = new ArrayList<>();
        for (EditableNode n : model.graph().nodes()) {
            if (n.constant().isEmpty() && Operators.of(n) == null) {
                unknown.add(n.label() + " (" + (n.domain().isEmpty() ? "" : n.domain() + ".") + n.type() + ")");
            }
        }
        if (!unknown.isEmpty()) {
            int more = unknown.size() - 5;
            throw new UnsupportedRequestException("these nodes cannot be trained: " + String.join(", ", unknown.subList(0, Math.min(5, unknown.size())))
                    + (more > 0 ? ", and " + more + " more" : ""));
        }
    }

    /** By name, initializers first. */
    static Map<String, EditableTensor> constants(EditableModel model) {
        Map<String, EditableTensor> constants = new LinkedHashMap<>(model.graph().initializers());
        model.graph().nodes().forEach(n -> n.constant().ifPresent(t -> constants.put(n.outputs().getFirst(), t)));
        return constants;
    }

    /** What {@link #parameters()} are of the whole model. */
    static Set<String> parameters(EditableModel model) {
        Set<String> fixed = new HashSet<>();
        for (EditableNode n : model.graph().nodes()) {
            for (int i = 0; i < n.inputs().size(); i++) {
                if (!Operators.trains(n, i)) {
                    fixed.add(n.input(i));
                }
            }
        }
        Set<String> parameters = new LinkedHashSet<>();
        constants(model).forEach((name, t) -> {
            DType type = t.type().orElse(null);
            boolean floats = type == DType.F32 || type == DType.F64 || type == DType.F16 || type == DType.BF16;
            if (floats && t.shape().elements() > 1 && !fixed.contains(name)) {
                parameters.add(name);
            }
        });
        return parameters;
    }

    /**
     * How many threads PyTorch has. Only before the first network is made.
     *
     * @param threads 0 for as many as there are processors
     */
    public static void threads(int threads) {
        Engines.threads(threads);
    }

    private void load(Set<String> read) {
        Set<String> all = parameters(model);
        constants(model).forEach((name, t) -> {
            if (read.contains(name)) {
                constants.put(name, Tensors.array(manager, name, t));
                if (all.contains(name)) {
                    parameters.add(name);
                }
            }
        });
        model.graph().nodes().forEach(n -> n.outputs().forEach(name -> producers.put(name, n)));
    }

    /** Bytes of the constants that it holds. */
    long bytes() {
        return constants.values().stream().mapToLong(a -> a.size() * a.getDataType().getNumOfBytes()).sum();
    }

    /** What a model is: nodes, with what their attributes say, and constants. */
    static void describe(EditableModel model, Digest digest) {
        EditableGraph graph = model.graph();
        digest.add(model.opsets().toString());
        for (EditableNode n : graph.nodes()) {
            digest.add(n.domain() + ":" + n.type() + n.inputs() + n.outputs());
            for (String a : n.attributes()) {
                digest.add(a + " " + n.integer(a, 0) + " " + n.real(a, 0) + " " + n.text(a, "") + " " + n.integers(a).map(Arrays::toString)
                        + n.reals(a).map(Arrays::toString) + n.texts(a));
                n.tensor(a).filter(t -> t.type().isPresent()).ifPresent(t -> digest.add(a, t.tensor()));
            }
        }
        graph.initializers().forEach((name, t) -> digest.add(name, t.tensor()));
    }

    /** What the model is, as it is in the editable one. */
    void describe(Digest digest) {
        describe(model, digest);
    }

    /** @throws UnsupportedRequestException if a parameter holds NaN or infinity; it is named */
    void checkFinite() {
        try (NDManager scope = scope()) {
            for (String name : parameters) {
                NDArray a = constants.get(name).reshape(constants.get(name).getShape());
                a.attach(scope);
                NDArray odd = a.isNaN().logicalOr(a.isInfinite());
                if (odd.any().getBoolean()) {
                    long at = odd.flatten().toType(DataType.INT32, false).argMax().getLong();
                    throw new UnsupportedRequestException("element " + at + " of '" + name + "' is " + a.flatten().getFloat(at) + ", with which nothing can be trained");
                }
            }
        }
    }

    /**
     * That samples fit what the graph declares, before anything is computed.
     *
     * @param who has the graph, in words
     * @throws UnsupportedRequestException if an input is of another shape, batches aside; the message names it
     */
    void checkInputs(Map<String, NDArray> inputs, String who) {
        model.graph().inputs().forEach((name, declared) -> {
            List<EditableValue.Axis> axes = declared.axes().orElse(null);
            if (axes == null || !inputs.containsKey(name)) {
                return; // what is missing may not be needed
            }
            Shape shape = inputs.get(name).getShape();
            boolean fits = axes.size() == shape.dimension();
            for (int i = 1; fits && i < axes.size(); i++) {
                fits = axes.get(i).size() < 0 || axes.get(i).size() == shape.get(i);
            }
            if (!fits) {
                throw new UnsupportedRequestException("the " + who + "'s input '" + name + "' is " + axes.stream().map(a -> a.size() >= 0 ? Long.toString(a.size())
                        : a.symbol().isEmpty() ? "?" : a.symbol()).toList() + ", but samples are " + shape);
            }
        });
    }

    boolean isOutput(String value) {
        return model.graph().outputs().containsKey(value);
    }

    /** Names of parameters. */
    public Set<String> parameters() {
        return Collections.unmodifiableSet(parameters);
    }

    /**
     * A parameter as it is now, f32 or f64. Whoever changes it in place trains it; gradients are its {@link NDArray#getGradient}, once that is asked for by
     * {@link NDArray#setRequiresGradient}.
     *
     * @throws UnknownNameException if it is not one of {@link #parameters}
     */
    public NDArray parameter(String name) {
        if (!parameters.contains(name)) {
            throw new UnknownNameException("no parameter is named '" + name + "'", name, parameters);
        }
        return constants.get(name);
    }

    /** Whether elements of a parameter are looked up, as those of a codebook are. */
    boolean isTable(String name) {
        return model.graph().nodes().stream().anyMatch(n -> n.type().equals("Gather") && n.input(0).equals(name));
    }

    /** Memory for inputs and results of one or some runs; to be closed. */
    public NDManager scope() {
        return manager.newSubManager();
    }

    /**
     * Computes values.
     *
     * @param scope owns what is made
     * @param inputs of the graph, by name; those that values do not depend on may be missing
     * @param wanted names of outputs, or of any values
     * @return the values, by name
     * @throws UnknownNameException if nothing makes a value
     * @throws UnsupportedRequestException if a node cannot be computed, or an input is missing; the message names it
     */
    public Map<String, NDArray> run(NDManager scope, Map<String, NDArray> inputs, Collection<String> wanted) {
        return run(scope, inputs, Map.of(), wanted);
    }

    /**
     * {@link #run(NDManager, Map, Collection)} with other constants than the network's, such as what becomes of parameters when they are written.
     *
     * @param instead by name of the constant
     */
    public Map<String, NDArray> run(NDManager scope, Map<String, NDArray> inputs, Map<String, NDArray> instead, Collection<String> wanted) {
        Map<String, NDArray> values = new HashMap<>(inputs);
        values.putAll(instead);
        for (EditableNode n : needed(nodes, values.keySet(), wanted)) {
            NDArray[] operands = n.inputs().stream().map(name -> name.isEmpty() ? null : value(scope, values, name)).toArray(NDArray[]::new);
            NDArray[] made;
            try {
                made = Operators.of(n).run(new Operators.Call(n, operands, opset, scope));
            } catch (UnsupportedRequestException e) {
                throw e;
            } catch (RuntimeException e) {
                // What PyTorch throws has a stack trace of its own behind the first line.
                String message = String.valueOf(e.getMessage());
                throw failure(n, message.lines().findFirst().orElse(message), e);
            }
            for (int i = 0; i < Math.min(made.length, n.outputs().size()); i++) {
                if (made[i] != null) {
                    NDArray one = made[i]; // compared by identity: equals looks at all elements
                    if (Arrays.stream(operands).noneMatch(operand -> operand == one)) {
                        made[i].attach(scope);
                    }
                    values.put(n.outputs().get(i), made[i]);
                }
            }
        }
        Map<String, NDArray> results = new LinkedHashMap<>();
        for (String name : wanted) {
            results.put(name, value(scope, values, name));
        }
        return results;
    }

    private static UnsupportedRequestException failure(EditableNode n, String what, RuntimeException cause) {
        UnsupportedRequestException e = new UnsupportedRequestException(n.label() + " (" + n.type() + "): " + what);
        e.initCause(cause);
        return e;
    }

    private NDArray value(NDManager scope, Map<String, NDArray> values, String name) {
        NDArray found = values.get(name);
        if (found == null && constants.containsKey(name)) {
            // A view, since whatever is made of an array belongs to the manager of that.
            NDArray constant = constants.get(name);
            found = constant.reshape(constant.getShape());
            found.attach(scope);
            values.put(name, found);
        }
        if (found == null) {
            throw model.graph().inputs().containsKey(name) ? new UnsupportedRequestException("the input '" + name + "' is missing")
                    : new UnknownNameException("the model has no value '" + name + "'", name, model.graph().outputs().keySet());
        }
        return found;
    }

    /** Those of some nodes that make values of others, in the order of the graph. */
    static List<EditableNode> needed(List<EditableNode> nodes, Set<String> known, Collection<String> wanted) {
        Set<String> open = new HashSet<>(wanted);
        List<EditableNode> reversed = new ArrayList<>();
        for (EditableNode n : nodes.reversed()) {
            if (n.constant().isEmpty() && n.outputs().stream().anyMatch(name -> open.contains(name) && !known.contains(name))) {
                reversed.add(n);
                open.addAll(n.inputs());
            }
        }
        return reversed.reversed();
    }

    /**
     * Puts parameters into the model, in the types that they have there, rounded to the nearest. Those that are the same stay as they are.
     *
     * @param arena for the constants, which has to live as long as the model is used
     */
    public void store(Arena arena) {
        EditableGraph graph = model.graph();
        for (String name : parameters) {
            EditableNode node = producers.get(name);
            EditableTensor old = node == null ? graph.initializers().get(name) : node.constant().orElseThrow();
            EditableTensor now = Tensors.tensor(constants.get(name), old.type().orElseThrow(), arena);
            if (old.same(now)) {
                continue;
            }
            if (node == null) {
                graph.initializers().put(name, now);
            } else {
                node.remove("value_floats").set("value", now);
            }
        }
    }

    @Override
    public void close() {
        manager.close();
    }
}
