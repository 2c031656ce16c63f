package dev.tensorpress.model.onnx;

import dev.tensorpress.encoding.ValueCodes;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.OnnxGraph.Use;
import dev.tensorpress.model.onnx.OnnxGraph.Value;
import dev.tensorpress.tensor.DType;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.Map;

/** Values of the model as codes that are fixed: QuantizeLinear and DequantizeLinear where codes and floats meet. */
final class Coded {
    private final Edits edits;
    private final Names names;
    private final Nodes nodes;
    private final Tensors tensors;
    private final Map<OnnxGraph, Map<ValueCodes, Parameters>> parameters = new IdentityHashMap<>();
    /** Names of codes that some node makes. */
    private final Map<Value, Map<ValueCodes, String>> made = new IdentityHashMap<>();
    /** Codes that a node reads in the place of its first operand. */
    private final Map<Node, ValueCodes> read = new IdentityHashMap<>();

    Coded(Edits edits, Names names, Nodes nodes, Tensors tensors) {
        this.edits = edits;
        this.names = names;
        this.nodes = nodes;
        this.tensors = tensors;
    }

    /** Names of a scale and a zero point. */
    record Parameters(String scale, String zero) {}

    /** Constants of these codes: one pair of them for all who ask within a graph. */
    Parameters parameters(Job job, ValueCodes codes) {
        return parameters.computeIfAbsent(job.home, home -> new HashMap<>()).computeIfAbsent(codes, key -> new Parameters(
                tensors.constant(job, "codes.scale", DType.F32, Tensors.number(DType.F32, codes.scale())),
                tensors.constant(job, "codes.zero", DType.U8, new byte[] {(byte) codes.zeroPoint()})));
    }

    /** Says that the first operand of a node will be read as codes. */
    void reads(Node n, ValueCodes codes) {
        read.put(n, codes);
    }

    /** Says that some node will make these codes of a value; the name that they are to have. */
    String makes(Value v, ValueCodes codes) {
        return made.computeIfAbsent(v, key -> new HashMap<>()).computeIfAbsent(codes, key -> names.fresh(v.name + ".codes"));
    }

    /** Whether anything needs the value itself where a node makes these codes of it. */
    boolean needsFloats(Value v, ValueCodes codes) {
        boolean floats = v.output;
        for (Use u : v.uses) {
            floats |= u.input() != 0 || !codes.equals(read.get(u.node()));
        }
        return floats;
    }

    /**
     * The name of codes of a node's first operand. If no node makes them, they are made before the value is first used; or if the node reads
     * it divided, before the node.
     *
     * @param before what comes before the node
     */
    String of(Rope before, Job job, Node n, ValueCodes codes) {
        if (!nodes.first(n).equals(n.inputs.getFirst())) {
            String name = names.fresh(nodes.first(n) + ".codes");
            before.add(encode(job, nodes.first(n), name, codes));
            return name;
        }
        Value v = n.operand(0);
        String name = made.getOrDefault(v, Map.of()).get(codes);
        if (name == null) {
            name = makes(v, codes);
            edits.insert(v.graph, Rewriter.firstUse(v), new Rope().add(encode(job, v.name, name, codes)));
        }
        return name;
    }

    private Proto encode(Job job, String value, String name, ValueCodes codes) {
        Parameters p = parameters(job, codes);
        return nodes.node("QuantizeLinear", name, value, p.scale, p.zero);
    }

    /** Makes the value of its codes. */
    void decode(Rope r, Value v, String codes, Parameters p) {
        r.add(nodes.node("DequantizeLinear", v.name, codes, p.scale, p.zero));
    }
}
