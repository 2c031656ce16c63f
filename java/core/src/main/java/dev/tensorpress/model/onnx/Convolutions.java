package dev.tensorpress.model.onnx;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.encoding.ValueCodes;
import dev.tensorpress.model.onnx.Coded.Parameters;
import dev.tensorpress.model.onnx.OnnxGraph.Attribute;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.OnnxGraph.Value;
import dev.tensorpress.model.onnx.Rope.Array;
import dev.tensorpress.model.onnx.Tails.Kind;
import dev.tensorpress.model.onnx.Tails.Tail;
import dev.tensorpress.tensor.DType;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.Set;

/**
 * QLinearConv in the place of a convolution and of what stands behind it: scales and shifts become part of the scales of its weight and of
 * its bias, what clamps is done by its codes, and hard swish by QLinearAdd and QLinearMul of com.microsoft.
 */
final class Convolutions {
    /** Of hard swish: the sum that it clamps, a sixth of that, and the number that it adds. */
    private static final ValueCodes SIX = ValueCodes.of(0, 6);
    private static final ValueCodes ONE = ValueCodes.of(0, 1);
    private static final ValueCodes THREE = ValueCodes.of(0, 3);

    private final boolean microsoft;
    private final Edits edits;
    private final Names names;
    private final Nodes nodes;
    private final Tensors tensors;
    private final Coded coded;
    private final Set<Node> removed = Collections.newSetFromMap(new IdentityHashMap<>());

    Convolutions(boolean microsoft, Edits edits, Names names, Nodes nodes, Tensors tensors, Coded coded) {
        this.microsoft = microsoft;
        this.edits = edits;
        this.names = names;
        this.nodes = nodes;
        this.tensors = tensors;
        this.coded = coded;
    }

    /** Says what will be read and made, before any convolution is replaced. */
    void announce(OnnxLowering lowering, Tail tail) {
        Form.Quantized form = lowering.form().quantized();
        if (lowering.divisors().isEmpty()) {
            coded.reads(tail.node(), form.fixed().orElseThrow().input());
        }
        coded.makes(last(tail), codes(form, tail));
    }

    /** What is replaced with the convolution ends with this. */
    private Value last(Tail tail) {
        return replaced(tail) ? tail.function().value() : tail.result();
    }

    private ValueCodes codes(Form.Quantized form, Tail tail) {
        Form.Fixed fixed = form.fixed().orElseThrow();
        return swish(tail) ? fixed.activated().orElseThrow() : fixed.result().orElseThrow();
    }

    private boolean replaced(Tail tail) {
        return tail.function() != null && (tail.function().kind() == Kind.CLAMP || microsoft);
    }

    private boolean swish(Tail tail) {
        return replaced(tail) && tail.function().kind() == Kind.HARD_SWISH;
    }

    void replace(Job job) {
        Tail tail = job.tail;
        Node n = tail.node();
        Form.Quantized f = job.form;
        Form.Fixed fixed = f.fixed().orElseThrow();
        Rope r = new Rope();
        String input = coded.of(r, job, n, fixed.input());
        Parameters in = coded.parameters(job, fixed.input());
        Parameters out = coded.parameters(job, fixed.result().orElseThrow());
        long outputs = job.shape.dim(0);
        String codes = tensors.codes(job, f.type(), job.shape.dims());
        String scales = tensors.payload(job, tensors.name(job, "scale"), DType.F32, new long[] {outputs}, Array.OUTPUT_SCALES,
                DType.F32.bytes(outputs));
        String zero = tensors.constant(job, "zero", f.type(), new byte[] {(byte) f.middle()});
        String bias = tensors.payload(job, tensors.name(job, "bias"), DType.I32, new long[] {outputs}, Array.BIASES, DType.I32.bytes(outputs));
        Value last = last(tail);
        ValueCodes codesOfLast = codes(f, tail);
        String made = coded.makes(last, codesOfLast);
        String sums = swish(tail) ? names.fresh(tail.result().name + ".codes") : made;
        Proto conv = Nodes.start("QLinearConv", sums, input, in.scale(), in.zero(), codes, scales, zero, out.scale(), out.zero(), bias)
                .fields(nodes.kept(n));
        for (Attribute a : n.attributes) {
            nodes.copy(conv, a);
        }
        r.add(Nodes.field(conv));
        if (swish(tail)) {
            hardSwish(r, job, sums, out, made, coded.parameters(job, codesOfLast));
        }
        if (coded.needsFloats(last, codesOfLast)) {
            coded.decode(r, last, made, coded.parameters(job, codesOfLast));
        }
        edits.replace(n, r);
        for (Node gone : tail.nodes(replaced(tail))) {
            removed.add(gone);
            if (gone != n) {
                edits.replace(gone, new Rope());
            }
            if (gone.result() != last) {
                edits.remove(gone.graph.valueInfos, gone.result().name);
            }
        }
    }

    /**
     * Removes initializers and Constant nodes that only removed nodes have read.
     *
     * @param others tensors that are replaced, or removed, already; gets those that are now
     */
    void removeConstants(Set<TensorInfo> others) {
        Set<Value> seen = Collections.newSetFromMap(new IdentityHashMap<>());
        for (Node n : removed) {
            for (int i = 0; i < n.inputs.size(); i++) {
                Value v = n.operand(i);
                boolean free = v != null && v.tensor != null && !v.input && !v.output && seen.add(v) && !others.contains(v.tensor);
                for (int j = 0; free && j < v.uses.size(); j++) {
                    free = removed.contains(v.uses.get(j).node());
                }
                if (free && v.producer != null) {
                    edits.replace(v.producer, new Rope());
                    others.add(v.tensor);
                } else if (free) {
                    edits.replace(v.graph, v.tensor.fieldStart, v.tensor.end, new Rope());
                    others.add(v.tensor);
                }
            }
        }
    }

    /** x + 3 with codes for 0 to 6, which clamp it; a sixth of that, by another scale, times x. */
    private void hardSwish(Rope r, Job job, String x, Parameters ofX, String result, Parameters ofResult) {
        Parameters three = coded.parameters(job, THREE);
        Parameters six = coded.parameters(job, SIX);
        Parameters one = coded.parameters(job, ONE);
        String last = tensors.constant(job, "three", DType.U8, new byte[] {(byte) 255});
        String gate = names.fresh(result + ".gate");
        r.add(named(nodes.startMicrosoft("QLinearAdd", gate, x, ofX.scale(), ofX.zero(), last, three.scale(), three.zero(), six.scale(),
                six.zero()), gate));
        r.add(named(nodes.startMicrosoft("QLinearMul", result, x, ofX.scale(), ofX.zero(), gate, one.scale(), one.zero(), ofResult.scale(),
                ofResult.zero()), result));
    }

    private Proto named(Proto node, String result) {
        return Nodes.field(node.string(3, names.fresh(result + "/node")));
    }
}
