package dev.tensorpress.model.onnx;

import dev.tensorpress.model.onnx.OnnxGraph.Attribute;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.OnnxGraph.Use;
import dev.tensorpress.model.onnx.OnnxGraph.Value;
import dev.tensorpress.tensor.DType;
import java.io.ByteArrayOutputStream;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Builds nodes. Operators are those of onnx.ai/onnx/operators and of ONNX Runtime's ContribOperators.md. */
final class Nodes {
    static final String MICROSOFT = "com.microsoft";

    private final Wire wire;
    private final Names names;
    /** What some nodes read in the place of their first operand. */
    private final Map<Node, String> read = new IdentityHashMap<>(0);
    private final Set<Node> unread = new HashSet<>(0);
    private boolean microsoft;

    Nodes(Wire wire, Names names) {
        this.wire = wire;
        this.names = names;
    }

    /** Whether any of the nodes is of the domain com.microsoft. */
    boolean microsoft() {
        return microsoft;
    }

    /** A NodeProto without name and attributes. */
    static Proto start(String op, String out, String... in) {
        Proto p = new Proto();
        int n = in.length;
        while (n > 0 && in[n - 1].isEmpty()) {
            n--;
        }
        for (int i = 0; i < n; i++) {
            p.string(1, in[i]);
        }
        return p.string(2, out).string(4, op);
    }

    /** The same of com.microsoft. */
    Proto startMicrosoft(String op, String out, String... in) {
        microsoft = true;
        return start(op, out, in).string(7, MICROSOFT);
    }

    /** A node as the field of its graph. */
    static Proto field(Proto node) {
        return new Proto().message(1, node);
    }

    Proto node(String op, String out, String... in) {
        return field(start(op, out, in).string(3, names.fresh(out + "/" + op)));
    }

    Proto cast(String out, String in, DType type) {
        Proto p = start("Cast", out, in).string(3, names.fresh(out + "/Cast"));
        attribute(p, "to", TensorInfo.code(type));
        return field(p);
    }

    /** @return the name of the difference */
    String subtract(Rope r, String base, String x, String zero) {
        String centred = names.fresh(base + ".centred");
        r.add(node("Sub", centred, x, zero));
        return centred;
    }

    /** A Gemm with some of the attributes of the node in whose place it is. */
    Proto gemm(Node n, byte[] kept, String y, String a, String b, String c, String... attributes) {
        Proto p = start("Gemm", y, a, b, c).fields(kept);
        for (String name : attributes) {
            Attribute attribute = n.attribute(name);
            if (attribute != null) {
                copy(p, attribute);
            }
        }
        return field(p);
    }

    void copy(Proto node, Attribute a) {
        node.fields(wire.bytes(a.fieldStart, Math.toIntExact(a.end - a.fieldStart)));
    }

    static void attribute(Proto node, String name, long value) {
        node.message(5, new Proto().string(1, name).integer(3, value).integer(20, 2));
    }

    /** The products that read a matrix, as it is or transposed. */
    static List<Node> products(Value matrix) {
        List<Node> all = new ArrayList<>(1);
        for (Use u : matrix.uses) {
            if (u.node().is("Transpose")) {
                all.addAll(products(u.node().result()));
            } else {
                all.add(u.node());
            }
        }
        return all;
    }

    /** The name of what a node reads first. */
    String first(Node n) {
        unread.remove(n);
        return read.getOrDefault(n, n.inputs.getFirst());
    }

    /** Whoever replaces a node for which something is divided has to let others read {@link #first}: without that results would be wrong. */
    void checkRead() {
        if (!unread.isEmpty()) {
            throw new IllegalStateException("what stands for " + unread.iterator().next().label() + " does not read what was divided for it");
        }
    }

    /** Nodes that make the first operand of another one divided by these numbers along its last axis, which that will read. */
    Rope dividing(Node n, DType type, List<Double> by) {
        String x = n.inputs.getFirst();
        String factors = names.fresh(x + ".factors");
        String divided = names.fresh(x + ".divided");
        Proto t = new Proto().integer(1, by.size()).integer(2, TensorInfo.code(type)).string(8, factors);
        ByteArrayOutputStream data = new ByteArrayOutputStream();
        for (double d : by) {
            data.writeBytes(Tensors.number(type, (float) (1 / d)));
        }
        Proto constant = start("Constant", factors).string(3, names.fresh(factors + "/Constant"));
        constant.message(5, new Proto().string(1, "value").message(5, t.bytes(9, data.toByteArray())).integer(20, 4));
        read.put(n, divided);
        unread.add(n);
        return new Rope().add(field(constant)).add(node("Mul", divided, x, factors));
    }

    /** The same node, reading {@link #first}. */
    Rope again(Node n) {
        Proto p = new Proto();
        boolean first = true;
        wire.seek(n.start, n.end);
        while (wire.next()) {
            if (wire.field == 1 && first) {
                p.string(1, first(n));
                first = false;
            } else {
                p.fields(wire.bytes(wire.fieldStart, Math.toIntExact(wire.end() - wire.fieldStart)));
            }
        }
        return new Rope().add(field(p));
    }

    /** What a replaced node keeps: its name, documentation, metadata and everything not understood here. */
    byte[] kept(Node n) {
        Proto p = new Proto();
        wire.seek(n.start, n.end);
        while (wire.next()) {
            switch (wire.field) {
                case 1, 2, 4, 5, 7, 8 -> { }
                default -> p.fields(wire.bytes(wire.fieldStart, Math.toIntExact(wire.end() - wire.fieldStart)));
            }
        }
        return p.toBytes();
    }

    /** The name of a further node in the place of one, as a field. */
    byte[] named(Node n, String part) {
        return new Proto().string(3, names.fresh(n.label() + "/" + part)).toBytes();
    }

    /** Empty if absent. */
    static String input(Node n, int i) {
        return i < n.inputs.size() ? n.inputs.get(i) : "";
    }
}
