package dev.tensorpress.statistics;

import dev.tensorpress.model.Graph;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.Set;
import java.util.function.Predicate;

/** What is known of the values that weights are multiplied with: statistics, seen from the weights. */
public final class InputStatistics {
    private final Map<String, Set<ValueStatistics>> inputs;
    /** Around the one product that a weight is in, by its name. */
    private final Map<String, Around> around;
    /** By name of the matrix. */
    private final Map<String, Weight> biases;
    /** Names of weights whose rows are looked up as well. */
    private final Set<String> tables;
    /** What inputs are divided by, by name of the weight. */
    private final Map<String, double[]> divisors;
    /** Values that are divided for a weight, by path and name. */
    private final Set<List<String>> divided = new HashSet<>();
    /** Methods ask many times of one weight, and to divide or to add a Gram matrix takes time and memory. */
    private volatile Known last;

    /** Of the weight of this name. */
    private record Known(String weight, Optional<ValueStatistics> inputs) {}

    /**
     * What is known of the values around a product, each with its histogram, if there is one.
     *
     * @param weight of the product
     * @param input what the weight is multiplied with, as it is, not in patches
     * @param result and what becomes of it, of convolutions
     * @param resultStatistics of its value
     * @param activated of what its activation function makes
     */
    public record Around(Weight weight, ValueStatistics input, Optional<Graph.Result> result, Optional<ValueStatistics> resultStatistics,
            Optional<ValueStatistics> activated) {
        /** Products of two numbers that the samples took in a convolution whose result is known; 0 in all else. */
        public double work() {
            return resultStatistics.map(v -> (double) v.rows() * weight.tensor().shape().elements()).orElse(0.0);
        }
    }

    private InputStatistics() {
        this(new HashMap<>(), new HashMap<>(), new HashMap<>(), new HashSet<>(), Map.of());
    }

    /** What is not changed by them later, copies share. */
    private InputStatistics(Map<String, Set<ValueStatistics>> inputs, Map<String, Around> around, Map<String, Weight> biases,
            Set<String> tables, Map<String, double[]> divisors) {
        this.inputs = inputs;
        this.around = around;
        this.biases = biases;
        this.tables = tables;
        this.divisors = divisors;
        divisors.keySet().stream().map(around::get).filter(Objects::nonNull).forEach(a -> divided.add(place(a.input)));
    }

    private static List<String> place(ValueStatistics value) {
        return List.of(value.path(), value.name());
    }

    /** By the products of a model's graph. Weights that several products read have the statistics of all of their inputs. */
    public static InputStatistics of(Statistics statistics, Graph graph) {
        InputStatistics all = new InputStatistics();
        all.add(statistics, graph);
        return all;
    }

    /**
     * By the products of a model's graph, if it has one, and by the names of weights that statistics hold.
     *
     * @throws UnsupportedRequestException if statistics name a weight that the model has not, or that has another number of inputs
     * @throws IOException if the model cannot be read
     */
    public static InputStatistics of(Statistics statistics, Model model) throws IOException {
        InputStatistics all = new InputStatistics();
        model.graph().ifPresent(graph -> all.add(statistics, graph));
        Map<String, Weight> weights = new HashMap<>();
        model.weights().forEach(w -> weights.put(w.name(), w));
        for (ValueStatistics v : statistics.all()) {
            for (String name : v.weights()) {
                Weight weight = weights.get(name);
                if (weight == null || !fits(v, weight)) {
                    throw new UnsupportedRequestException("the statistics have " + v.channels() + " inputs of a weight '" + name + "', but "
                            + model.path() + " has " + (weight == null ? "none of that name" : "one of " + weight.tensor().shape()
                            + " with role " + weight.role().id()));
                }
                all.inputs.computeIfAbsent(name, w -> new LinkedHashSet<>()).add(v);
            }
        }
        return all;
    }

    /**
     * Of which weights that sum over an input, and that a method could change, the statistics know nothing of that input, and why.
     *
     * @param graph of the model
     * @return by the weights, in the order of the model
     */
    public static Map<Weight, String> unknown(Statistics statistics, Model model, Graph graph) {
        InputStatistics known = of(statistics, graph);
        Map<String, Graph.Feed> feeds = new HashMap<>();
        graph.feeds().forEach(f -> f.products().forEach(p -> feeds.putIfAbsent(p.weight().name(), f)));
        Map<Weight, String> unknown = new LinkedHashMap<>();
        for (Weight weight : model.weights()) {
            Optional<ValueStatistics> v = known.of(weight);
            if (weight.inputAxis() < 0 || weight.obstacle().isPresent() || v.isPresent() && fits(v.get(), weight)) {
                continue;
            }
            Graph.Feed feed = feeds.get(weight.name());
            String why;
            if (feed == null) {
                why = "no value of the graph is what they are multiplied with";
            } else if (!feed.value().path().isEmpty()) {
                why = "their inputs are in a subgraph, of which ONNX Runtime shows nothing";
            } else if (v.isPresent()) {
                why = weight.role() == Role.CONV
                        ? "they are convolutions along three axes, or with a padding that depends on the input, which have no patches"
                        : "they are gates, of several directions or more than one product, whose inputs nothing goes by";
            } else if (known.inputs.get(weight.name()).size() > 1) {
                why = "products make different use of them";
            } else if (statistics.find(feed.value()).isPresent()) {
                why = "patches of convolutions were left out";
            } else {
                why = "their inputs were not computed on these samples, or held infinities";
            }
            unknown.put(weight, why);
        }
        return unknown;
    }

    /** Whether channels are what the weight is multiplied with. */
    private static boolean fits(ValueStatistics v, Weight weight) {
        Shape shape = weight.tensor().shape();
        return weight.inputAxis() >= 0 && v.channels() / v.groups()
                == (shape.rank() == 2 ? shape.dim(weight.inputAxis()) : shape.elements() / Math.max(1, shape.dim(0)));
    }

    private void add(Statistics statistics, Graph graph) {
        graph.tables().forEach(w -> tables.add(w.name()));
        Set<String> seen = new HashSet<>();
        for (Graph.Feed feed : graph.feeds()) {
            for (Graph.Product product : feed.products()) {
                OptionalInt axis = OptionalInt.of(product.window().isPresent() ? 1 : feed.axis());
                Request request = new Request(feed.value(), axis, product.window(), true, false);
                Set<ValueStatistics> of = inputs.computeIfAbsent(product.weight().name(), w -> new LinkedHashSet<>());
                statistics.find(request).ifPresent(of::add);
                statistics.find(feed.value()).map(ValueStatistics::withoutGram).ifPresent(input -> around.merge(product.weight().name(), new Around(product.weight(), input, product.result(),
                        product.result().flatMap(r -> statistics.find(r.value())),
                        product.result().flatMap(Graph.Result::activation).flatMap(a -> statistics.find(a.value()))),
                        InputStatistics::both));
                if (!seen.add(product.weight().name())) {
                    biases.remove(product.weight().name()); // each of the products has a mean of its own
                } else {
                    product.bias().ifPresent(bias -> biases.put(product.weight().name(), bias));
                }
            }
        }
    }

    /** Of a weight in two products, of which each reads and makes something else. */
    private static Around both(Around a, Around b) {
        boolean same = a.input.equals(b.input) || a.input.channels() != b.input.channels();
        return new Around(a.weight, same ? a.input : a.input.plus(b.input), Optional.empty(), Optional.empty(), Optional.empty());
    }

    /**
     * What is known of the values around the products of a weight; of its input without histogram where that is divided, and nothing of
     * results where these are.
     *
     * @return empty if nothing is known of what the weight is multiplied with
     */
    public Optional<Around> around(Weight weight) {
        Around of = around.get(weight.name());
        if (of == null) {
            return Optional.empty();
        }
        double[] by = divisors.get(weight.name());
        boolean changed = of.resultStatistics.filter(this::divided).isPresent() || of.activated.filter(this::divided).isPresent();
        return Optional.of(new Around(weight, by == null ? of.input : of.input.divided(by), changed ? Optional.empty() : of.result,
                of.resultStatistics, of.activated));
    }

    /** {@link Around#work} of all convolutions. */
    public double work() {
        return around.values().stream().mapToDouble(Around::work).sum();
    }

    private boolean divided(ValueStatistics value) {
        return divided.contains(place(value));
    }

    /** The same, where these biases alone may be changed. */
    public InputStatistics withBiases(Predicate<Weight> free) {
        Map<String, Weight> some = new HashMap<>(biases);
        some.values().removeIf(bias -> !free.test(bias));
        return new InputStatistics(inputs, around, some, tables, divisors);
    }

    /**
     * The same, where inputs of some weights are divided.
     *
     * @param by name of the weight, a positive number for each channel of the value that it is multiplied with
     */
    public InputStatistics divided(Map<String, double[]> by) {
        Map<String, double[]> more = new HashMap<>(divisors);
        more.putAll(by);
        return new InputStatistics(inputs, around, biases, tables, more);
    }

    /** Whether nothing is known of any weight. */
    public boolean isEmpty() {
        return inputs.isEmpty();
    }

    /** Whether rows of the weight are looked up as well, of which what it is multiplied with says nothing. */
    public boolean table(Weight weight) {
        return tables.contains(weight.name());
    }

    /** What is added to the results of the one product that the weight is in, and may be changed; empty if there is none. */
    public Optional<Weight> bias(Weight weight) {
        return Optional.ofNullable(biases.get(weight.name()));
    }

    /**
     * Of the value that is multiplied with this weight: an input of the weight is a channel of it, of a convolution an element of a patch.
     * It has a Gram matrix where each of the weight's products has one.
     *
     * @return empty if the weight is in no product, or nothing was gathered of what it is multiplied with, or its products make different
     *     use of it, so that an input of one is none of another
     */
    public Optional<ValueStatistics> of(Weight weight) {
        Known known = last;
        if (known == null || !known.weight.equals(weight.name())) {
            known = new Known(weight.name(), find(weight));
            last = known;
        }
        return known.inputs;
    }

    private Optional<ValueStatistics> find(Weight weight) {
        Set<ValueStatistics> all = inputs.getOrDefault(weight.name(), Set.of());
        boolean alike = all.stream().map(v -> List.of(v.channels(), v.groups())).distinct().count() < 2;
        Optional<ValueStatistics> found = alike ? all.stream().reduce(ValueStatistics::plus) : Optional.empty();
        double[] by = divisors.get(weight.name());
        return by == null ? found : found.map(v -> v.divided(by));
    }
}
