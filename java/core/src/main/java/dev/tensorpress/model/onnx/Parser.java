package dev.tensorpress.model.onnx;

import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.OnnxGraph.Attribute;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.OnnxGraph.Value;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Reads the structure of a model, as of onnx.proto: fields are named where they are read. Of tensors only the shape and
 * the place of the data are read. What is not understood is skipped here and copied by the writer.
 */
final class Parser {
    /** Longer texts mean nothing here. */
    private static final int LONGEST_WORD = 16;
    /** Protobuf readers stop at 100 nested messages, of which a graph inside a graph takes three. */
    private static final int DEEPEST_GRAPH = 32;
    private static final int HIGHEST_RANK = 64;

    /** Generous guesses of the heap that parts of a model take, in bytes, with all that is later made of them. */
    private static final int NODE = 300;
    private static final int NAME = 250;
    private static final int ATTRIBUTE = 200;
    private static final int TENSOR = 800;

    private final Wire w;
    private final long heap;
    private long needed;
    private int depth;

    long irVersion = -1;
    String producer = "";
    String producerVersion = "";
    boolean training;
    int functions;
    final Map<String, Long> opsets = new LinkedHashMap<>();
    long afterOpsets = -1;
    OnnxGraph graph;
    /** Depth first, a graph before those inside it. */
    final List<OnnxGraph> graphs = new ArrayList<>();

    Parser(Wire wire) {
        this(wire, Runtime.getRuntime().maxMemory() / 2);
    }

    /** @param heap bytes that the structure may take: a file of a few megabytes can hold millions of empty nodes */
    Parser(Wire wire, long heap) {
        this.w = wire;
        this.heap = heap;
    }

    private void need(long bytes) {
        needed += bytes;
        if (needed > heap) {
            throw new UnsupportedRequestException("the graph needs more than " + (heap >> 20)
                    + " MB, half of the Java heap; a larger one is set with -Xmx");
        }
    }

    private String name(String what) {
        String s = w.string(what);
        need(NAME + s.length());
        return s;
    }

    /** @throws MalformedModelException if this is not a model, or not a whole one */
    void model(long size) {
        if (size == 0) {
            throw w.bad(0, "expected an ONNX model, the file is empty");
        }
        try {
            fields();
        } catch (MalformedModelException e) {
            if (graph == null && irVersion < 0) {
                throw w.bad(e.offset(), "this is not an ONNX model (a protobuf ModelProto): "
                        + e.getMessage().substring(e.getMessage().indexOf(": ") + 2));
            }
            throw e;
        }
        if (graph == null || irVersion < 0) {
            throw w.bad(0, "this is not an ONNX model (a protobuf ModelProto): it has no "
                    + (graph == null ? "graph" : "ir_version"));
        }
        for (OnnxGraph g : graphs) {
            link(g);
        }
    }

    private void fields() {
        while (w.next()) {
            switch (w.field) {
                case 1 -> irVersion = w.integer("ModelProto.ir_version");
                case 2 -> producer = w.string("ModelProto.producer_name");
                case 3 -> producerVersion = w.string("ModelProto.producer_version");
                case 7 -> {
                    if (graph != null) {
                        throw w.bad(w.fieldStart, "expected one ModelProto.graph, found another");
                    }
                    graph = graph(null, null, null);
                }
                case 8 -> {
                    opset();
                    afterOpsets = w.end();
                }
                case 20 -> training = true;
                case 25 -> functions++;
                default -> { }
            }
        }
    }

    private void opset() {
        long at = w.fieldStart;
        long outer = w.enter("ModelProto.opset_import");
        String domain = "";
        long version = 0;
        while (w.next()) {
            switch (w.field) {
                case 1 -> domain = name("OperatorSetIdProto.domain");
                case 2 -> version = w.integer("OperatorSetIdProto.version");
                default -> { }
            }
        }
        w.leave(outer);
        Long before = opsets.put(standard(domain), version);
        if (before != null && before != version) {
            throw w.bad(at, "operator set '" + domain + "' is imported in versions " + before + " and " + version);
        }
    }

    private static String standard(String domain) {
        return domain.equals("ai.onnx") ? "" : domain;
    }

    private OnnxGraph graph(OnnxGraph parent, Node owner, Attribute attribute) {
        if (++depth > DEEPEST_GRAPH) {
            throw w.bad(w.fieldStart, "graphs are nested more than " + DEEPEST_GRAPH + " deep");
        }
        need(TENSOR);
        OnnxGraph g = new OnnxGraph(parent, owner, attribute);
        graphs.add(g);
        g.field = w.field;
        g.fieldStart = w.fieldStart;
        long outer = w.enter("a graph");
        g.start = w.start;
        g.end = w.start + w.length;
        while (w.next()) {
            switch (w.field) {
                case 1 -> {
                    g.nodes.add(node(g));
                    g.afterNodes = w.end();
                }
                case 2 -> g.name = w.string("GraphProto.name");
                case 5 -> {
                    TensorInfo t = tensor("GraphProto.initializer", new TensorInfo());
                    if (t.name.isEmpty()) {
                        throw w.bad(t.fieldStart, "an initializer has no name");
                    }
                    g.initializers.add(t);
                    g.afterInitializers = w.end();
                }
                case 11 -> {
                    g.inputs.add(described("GraphProto.input"));
                    g.afterInputs = w.end();
                }
                case 12 -> g.outputs.add(described("GraphProto.output").name());
                case 13 -> g.valueInfos.add(described("GraphProto.value_info"));
                case 15 -> g.sparse.add(sparse());
                default -> { }
            }
        }
        w.leave(outer);
        if (g.afterInitializers < 0) {
            g.afterInitializers = g.end;
        }
        if (g.afterInputs < 0) {
            g.afterInputs = g.end;
        }
        if (g.afterNodes < 0) {
            g.afterNodes = g.end;
        }
        depth--;
        return g;
    }

    private OnnxGraph.Described described(String what) {
        long at = w.fieldStart;
        long outer = w.enter(what);
        String name = "";
        while (w.next()) {
            if (w.field == 1) {
                name = name("ValueInfoProto.name");
            }
        }
        w.leave(outer);
        return new OnnxGraph.Described(name, at, w.end());
    }

    private Node node(OnnxGraph g) {
        need(NODE);
        Node n = new Node(g, g.nodes.size());
        n.fieldStart = w.fieldStart;
        long outer = w.enter("GraphProto.node");
        n.start = w.start;
        n.end = w.start + w.length;
        while (w.next()) {
            switch (w.field) {
                case 1 -> n.inputs.add(name("NodeProto.input"));
                case 2 -> n.outputs.add(name("NodeProto.output"));
                case 3 -> n.name = name("NodeProto.name");
                case 4 -> n.op = name("NodeProto.op_type");
                case 5 -> n.attributes.add(attribute(g, n));
                case 7 -> n.domain = standard(name("NodeProto.domain"));
                default -> { }
            }
        }
        w.leave(outer);
        if (n.op.isEmpty()) {
            throw w.bad(n.fieldStart, "a node has no op_type");
        }
        if (n.is("Constant") && n.outputs.size() == 1) {
            Attribute a = n.attribute("value");
            if (a != null && a.tensorField >= 0) {
                tensor(a);
                w.seek(n.end, outer);
            }
        }
        return n;
    }

    private Attribute attribute(OnnxGraph g, Node n) {
        need(ATTRIBUTE);
        Attribute a = new Attribute();
        a.fieldStart = w.fieldStart;
        long outer = w.enter("NodeProto.attribute");
        a.start = w.start;
        a.end = w.start + w.length;
        while (w.next()) {
            switch (w.field) {
                case 1 -> a.name = name("AttributeProto.name");
                case 2 -> a.real = w.real("AttributeProto.f");
                case 3 -> a.integer = w.integer("AttributeProto.i");
                case 4 -> a.text = w.type == Wire.BYTES && w.length <= LONGEST_WORD ? w.string("AttributeProto.s") : "";
                case 5 -> {
                    w.expect(Wire.BYTES, "AttributeProto.t");
                    if (a.tensorField >= 0) {
                        throw w.bad(w.fieldStart, "an attribute has two tensors");
                    }
                    a.tensorField = w.fieldStart;
                    a.tensorStart = w.start;
                    a.tensorEnd = w.end();
                }
                case 6, 11 -> {
                    n.hasGraphs = true;
                    if (w.field == 6 && !a.graphs.isEmpty()) {
                        throw w.bad(w.fieldStart, "an attribute has two graphs");
                    }
                    a.graphs.add(graph(g, n, a));
                }
                case 8 -> integers(a);
                default -> { }
            }
        }
        w.leave(outer);
        return a;
    }

    private void integers(Attribute a) {
        if (w.type == Wire.VARINT) {
            append(a, w.value);
            return;
        }
        long outer = w.enter("AttributeProto.ints");
        while (w.more()) {
            append(a, w.varint());
        }
        w.leave(outer);
    }

    private static void append(Attribute a, long v) {
        if (a.integers == null || a.integers.length == 8) {
            a.integers = null;
        } else {
            a.integers = java.util.Arrays.copyOf(a.integers, a.integers.length + 1);
            a.integers[a.integers.length - 1] = v;
        }
    }

    /** A SparseTensorProto, represented by its values; its indices and dims are of no interest here. */
    private TensorInfo sparse() {
        TensorInfo t = null;
        long at = w.fieldStart;
        long outer = w.enter("GraphProto.sparse_initializer");
        while (w.next()) {
            if (w.field == 1) {
                t = tensor("SparseTensorProto.values", new TensorInfo());
            }
        }
        w.leave(outer);
        if (t == null || t.name.isEmpty()) {
            throw w.bad(at, "a sparse initializer has no named values");
        }
        return t;
    }

    /** The tensor of an attribute. */
    TensorInfo tensor(Attribute a) {
        if (a.tensor == null) {
            w.seek(a.tensorField, a.tensorEnd);
            w.next();
            a.tensor = tensor("AttributeProto.t", new TensorInfo());
        }
        return a.tensor;
    }

    /** The whole file as a TensorProto. */
    TensorInfo tensor(long size) {
        w.type = Wire.BYTES;
        w.start = 0;
        w.length = size;
        return tensor("TensorProto", new TensorInfo());
    }

    /** Reads the current field as a TensorProto and checks that its data are what its shape and type ask for. */
    private TensorInfo tensor(String what, TensorInfo t) {
        need(TENSOR);
        t.fieldStart = w.fieldStart;
        long outer = w.enter(what);
        t.start = w.start;
        t.end = w.start + w.length;
        long[] dims = new long[4];
        int rank = 0;
        long floats = 0;
        long ints = 0;
        long doubles = 0;
        long floatsAt = -1;
        long doublesAt = -1;
        long typedFields = 0;
        boolean typed = false;
        boolean elsewhere = false;
        while (w.next()) {
            switch (w.field) {
                case 1 -> {
                    if (w.type == Wire.VARINT) {
                        dims = dim(dims, rank++, w.value);
                    } else {
                        long in = w.enter("TensorProto.dims");
                        while (w.more()) {
                            dims = dim(dims, rank++, w.varint());
                        }
                        w.leave(in);
                    }
                }
                case 2 -> t.type = Math.clamp(w.integer("TensorProto.data_type"), -1, 1 << 20);
                case 3 -> throw w.bad(w.fieldStart, "a tensor in segments, which no runtime reads");
                case 4 -> {
                    typed = true;
                    typedFields++;
                    floatsAt = w.type == Wire.BYTES ? w.start : -1;
                    floats += numbers("TensorProto.float_data", Wire.FIXED32, 4);
                }
                case 5 -> {
                    typed = true;
                    ints += varints("TensorProto.int32_data");
                }
                case 6, 7, 11 -> typed = true;
                case 8 -> t.name = name("TensorProto.name");
                case 9 -> {
                    w.expect(Wire.BYTES, "TensorProto.raw_data");
                    t.hasRaw = true;
                    t.rawStart = w.start;
                    t.rawLength = w.length;
                }
                case 10 -> {
                    typed = true;
                    typedFields++;
                    doublesAt = w.type == Wire.BYTES ? w.start : -1;
                    doubles += numbers("TensorProto.double_data", Wire.FIXED64, 8);
                }
                case 13 -> externalEntry(t);
                case 14 -> elsewhere = w.integer("TensorProto.data_location") == 1;
                default -> { }
            }
        }
        w.leave(outer);
        t.dims = java.util.Arrays.copyOf(dims, rank);
        t.external = elsewhere;
        t.elements = elements(t);
        t.typedCount = switch (t.type) {
            case TensorInfo.FLOAT -> floats;
            case TensorInfo.DOUBLE -> doubles;
            default -> ints;
        };
        t.typedStart = t.type == TensorInfo.FLOAT ? floatsAt : doublesAt;
        t.typedContiguous = typedFields == 1 && t.typedStart >= 0;
        check(t, typed);
        return t;
    }

    private long[] dim(long[] dims, int rank, long d) {
        if (d < 0) {
            throw w.bad(w.fieldStart, "expected dimensions of 0 or more, found " + d);
        }
        if (rank == HIGHEST_RANK) {
            throw w.bad(w.fieldStart, "a tensor has more than " + HIGHEST_RANK + " dimensions");
        }
        long[] grown = rank < dims.length ? dims : java.util.Arrays.copyOf(dims, dims.length * 2);
        grown[rank] = d;
        return grown;
    }

    private long numbers(String what, int single, int size) {
        if (w.type == single) {
            return 1;
        }
        w.expect(Wire.BYTES, what);
        if (w.length % size != 0) {
            throw w.bad(w.fieldStart, what + " has " + w.length + " bytes, expected a multiple of " + size);
        }
        return w.length / size;
    }

    private long varints(String what) {
        if (w.type == Wire.VARINT) {
            return 1;
        }
        long outer = w.enter(what);
        long n = 0;
        while (w.more()) {
            w.varint();
            n++;
        }
        w.leave(outer);
        return n;
    }

    private void externalEntry(TensorInfo t) {
        long at = w.fieldStart;
        long outer = w.enter("TensorProto.external_data");
        String key = "";
        String text = "";
        while (w.next()) {
            switch (w.field) {
                case 1 -> key = w.string("StringStringEntryProto.key");
                case 2 -> text = w.string("StringStringEntryProto.value");
                default -> { }
            }
        }
        w.leave(outer);
        switch (key) {
            case "location" -> t.location = text;
            case "offset" -> t.externalOffset = decimal(at, key, text);
            case "length" -> t.externalLength = decimal(at, key, text);
            default -> { }
        }
    }

    private long decimal(long at, String key, String text) {
        boolean digits = !text.isEmpty() && text.length() <= 18;
        for (int i = 0; i < text.length() && digits; i++) {
            digits = text.charAt(i) >= '0' && text.charAt(i) <= '9';
        }
        if (!digits) {
            throw w.bad(at, "expected a number of bytes as the " + key + " of external data, found '"
                    + text.substring(0, Math.min(40, text.length())) + "'");
        }
        return Long.parseLong(text);
    }

    private long elements(TensorInfo t) {
        long n = 1;
        for (long d : t.dims) {
            if (d == 0) {
                return 0;
            }
        }
        for (long d : t.dims) {
            if (Math.multiplyHigh(n, d) != 0 || n * d < 0) {
                throw w.bad(t.fieldStart, "the dimensions of tensor '" + t.name + "' multiply to more than 2^63");
            }
            n *= d;
        }
        return n;
    }

    private void check(TensorInfo t, boolean typed) {
        if (t.type <= 0) {
            throw w.bad(t.fieldStart, "tensor '" + t.name + "' has no type");
        }
        if (t.external) {
            if (t.location == null) {
                throw w.bad(t.fieldStart, "tensor '" + t.name + "' is external but names no location");
            }
            long expected = t.bytes();
            if (expected < 0) {
                throw w.bad(t.fieldStart, "tensor '" + t.name + "' is external but of type " + t.type
                        + ", whose size is not known");
            }
            if (t.externalLength >= 0 && t.externalLength != expected) {
                throw w.bad(t.fieldStart, "external data of tensor '" + t.name + "': shape and type ask for "
                        + expected + " bytes, its length is " + t.externalLength);
            }
            t.externalLength = expected;
            return;
        }
        if (t.hasRaw && typed && t.rawLength > 0) {
            throw w.bad(t.fieldStart, "tensor '" + t.name + "' has raw_data and a typed field");
        }
        if (t.hasRaw && !typed) {
            long expected = t.bytes();
            if (t.bits() != 0 && t.rawLength != expected) {
                throw w.bad(t.rawStart, "raw_data of tensor '" + t.name + "': shape and type ask for "
                        + (expected < 0 ? "more" : expected) + " bytes, found " + t.rawLength);
            }
        } else if (t.dtype() != null && t.typedCount != t.elements) {
            throw w.bad(t.fieldStart, "tensor '" + t.name + "': the shape asks for " + t.elements
                    + " numbers, found " + t.typedCount);
        }
    }

    /** Enters the names of a graph and connects its nodes to what they read; the graphs around it are done already. */
    private void link(OnnxGraph g) {
        for (TensorInfo t : g.initializers) {
            define(g, new Value(t.name, g, null, t), t.fieldStart, "initializer");
        }
        for (TensorInfo t : g.sparse) {
            define(g, new Value(t.name, g, null, t), t.fieldStart, "initializer");
        }
        for (OnnxGraph.Described in : g.inputs) {
            if (!in.name().isEmpty()) {
                Value v = g.values.get(in.name());
                if (v == null) {
                    v = new Value(in.name(), g, null, null);
                    g.values.put(v.name, v);
                }
                v.input = true;
            }
        }
        for (Node n : g.nodes) {
            for (String out : n.outputs) {
                if (!out.isEmpty()) {
                    Attribute a = n.is("Constant") ? n.attribute("value") : null;
                    define(g, new Value(out, g, n, a == null ? null : a.tensor), n.fieldStart, "result");
                }
            }
        }
        for (Node n : g.nodes) {
            for (int i = 0; i < n.inputs.size(); i++) {
                Value v = n.inputs.get(i).isEmpty() ? null : g.resolve(n.inputs.get(i));
                if (v != null) {
                    v.uses.add(new OnnxGraph.Use(n, i));
                }
            }
        }
        for (String out : g.outputs) {
            Value v = g.resolve(out);
            if (v != null) {
                v.output = true;
            }
        }
    }

    private void define(OnnxGraph g, Value v, long at, String what) {
        if (g.values.putIfAbsent(v.name, v) != null) {
            throw w.bad(at, "the name '" + v.name + "' of this " + what + " is taken by another in the same graph");
        }
    }
}
