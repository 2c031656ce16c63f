package dev.tensorpress.model.onnx;

import dev.tensorpress.model.Graph;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** A GraphProto: the model's, or one inside an attribute of a node. Positions are bytes of the model file. */
final class OnnxGraph {
    /** The graph around this one and the node there that holds it; null for the model's own graph. */
    final OnnxGraph parent;
    final Node owner;
    final Attribute attribute;

    /** The number and start of the field that holds it, and its content. */
    int field;
    long fieldStart;
    long start;
    long end;
    /** Where further initializers and inputs go: behind the last of their kind, or at the end. */
    long afterInitializers = -1;
    long afterInputs = -1;
    /** Where nodes go that no node of this graph reads from. */
    long afterNodes = -1;
    String name = "";

    final List<Node> nodes = new ArrayList<>();
    final List<TensorInfo> initializers = new ArrayList<>();
    final List<TensorInfo> sparse = new ArrayList<>();
    final List<Described> inputs = new ArrayList<>();
    final List<Described> valueInfos = new ArrayList<>(0);
    final List<String> outputs = new ArrayList<>();
    /** Everything this graph names: inputs, initializers and results of nodes. */
    final Map<String, Value> values = new HashMap<>();

    private static final int LONGEST_QUALIFIER = 512;
    private String qualifier;

    OnnxGraph(OnnxGraph parent, Node owner, Attribute attribute) {
        this.parent = parent;
        this.owner = owner;
        this.attribute = attribute;
    }

    /** What a name means here: names of the graphs around are visible unless hidden. Null if nothing has that name. */
    Value resolve(String wanted) {
        for (OnnxGraph g = this; g != null; g = g.parent) {
            Value v = g.values.get(wanted);
            if (v != null) {
                return v;
            }
        }
        return null;
    }

    /**
     * How weights of a subgraph are told from those of other graphs; empty for the model's own. Cut if it is long, since every weight
     * of the graph repeats it.
     */
    String qualifier() {
        if (qualifier == null) {
            // Parts first: an attribute can have many graphs, and each would copy a long name.
            qualifier = parent == null ? "" : cut(parent.qualifier() + cut(owner.label()) + "/" + cut(attribute.name) + "/");
        }
        return qualifier;
    }

    private static String cut(String s) {
        return s.length() <= LONGEST_QUALIFIER ? s
                : s.substring(0, LONGEST_QUALIFIER / 2) + "..." + s.substring(s.length() - LONGEST_QUALIFIER / 2);
    }

    /** A ValueInfoProto. */
    record Described(String name, long fieldStart, long end) {}

    /** Something with a name in a graph. */
    static final class Value implements Graph.Value {
        final String name;
        final OnnxGraph graph;
        /** The node it comes from, if any. */
        final Node producer;
        /** Its constant, if an initializer or the value of a Constant node. */
        final TensorInfo tensor;
        boolean input;
        boolean output;
        final List<Use> uses = new ArrayList<>(1);

        Value(String name, OnnxGraph graph, Node producer, TensorInfo tensor) {
            this.name = name;
            this.graph = graph;
            this.producer = producer;
            this.tensor = tensor;
        }

        @Override
        public String name() {
            return name;
        }

        @Override
        public String path() {
            return graph.qualifier();
        }

        @Override
        public Optional<Graph.Operator> producer() {
            return Optional.ofNullable(producer);
        }

        @Override
        public List<Graph.Operator> readers() {
            List<Graph.Operator> all = new ArrayList<>(uses.size());
            for (Use u : uses) {
                all.add(u.node);
            }
            return all;
        }

        @Override
        public boolean isOutput() {
            return output;
        }
    }

    /** A node that reads a value as its input number {@code input}. */
    record Use(Node node, int input) {}

    /** A NodeProto. */
    static final class Node implements Graph.Operator {
        final OnnxGraph graph;
        final int index;
        long fieldStart;
        long start;
        long end;
        String name = "";
        String op = "";
        String domain = "";
        final List<String> inputs = new ArrayList<>(4);
        final List<String> outputs = new ArrayList<>(1);
        final List<Attribute> attributes = new ArrayList<>(2);
        boolean hasGraphs;

        Node(OnnxGraph graph, int index) {
            this.graph = graph;
            this.index = index;
        }

        /** True for an operator of the standard's default domain. */
        boolean is(String standardOp) {
            return domain.isEmpty() && op.equals(standardOp);
        }

        Attribute attribute(String wanted) {
            for (Attribute a : attributes) {
                if (a.name.equals(wanted)) {
                    return a;
                }
            }
            return null;
        }

        long integer(String wanted, long ifAbsent) {
            Attribute a = attribute(wanted);
            return a == null ? ifAbsent : a.integer;
        }

        float real(String wanted, float ifAbsent) {
            Attribute a = attribute(wanted);
            return a == null ? ifAbsent : a.real;
        }

        private String reader;

        /** What is said of it where it reads a weight, however often it does. */
        String reader() {
            if (reader == null) {
                reader = op + " " + label();
            }
            return reader;
        }

        /** What an input means, null if it is left out or means nothing. */
        Value operand(int i) {
            return i >= 0 && i < inputs.size() && !inputs.get(i).isEmpty() ? graph.resolve(inputs.get(i)) : null;
        }

        /** The first result, null if that is left out. */
        Value result() {
            return outputs.isEmpty() ? null : graph.values.get(outputs.getFirst());
        }

        @Override
        public String type() {
            return op;
        }

        @Override
        public String domain() {
            return domain;
        }

        @Override
        public String name() {
            return name;
        }

        @Override
        public String path() {
            return graph.qualifier();
        }

        @Override
        public List<Graph.Value> operands() {
            List<Graph.Value> all = new ArrayList<>(inputs.size());
            for (int i = 0; i < inputs.size(); i++) {
                Value v = operand(i);
                if (v != null) {
                    all.add(v);
                }
            }
            return all;
        }

        @Override
        public List<Graph.Value> results() {
            List<Graph.Value> all = new ArrayList<>(outputs.size());
            for (String name : outputs) {
                if (!name.isEmpty()) {
                    all.add(graph.values.get(name));
                }
            }
            return all;
        }

        /** Names of nodes are optional; their first result has one. */
        @Override
        public String label() {
            return !name.isEmpty() ? name : !outputs.isEmpty() && !outputs.get(0).isEmpty() ? outputs.get(0)
                    : op + "#" + index;
        }
    }

    /** An AttributeProto. */
    static final class Attribute {
        long fieldStart;
        long start;
        long end;
        String name = "";
        long integer;
        float real;
        String text = "";
        /** At most eight, all that is asked for here (permutations of axes); null if there are more. */
        long[] integers = {};
        /** The t field. */
        long tensorField = -1;
        long tensorStart;
        long tensorEnd;
        TensorInfo tensor;
        final List<OnnxGraph> graphs = new ArrayList<>(0);
    }
}
