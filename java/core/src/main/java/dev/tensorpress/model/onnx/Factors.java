package dev.tensorpress.model.onnx;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.onnx.OnnxGraph.Attribute;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.OnnxGraph.Use;
import dev.tensorpress.tensor.Shape;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Two products, or several convolutions, in place of each one. Where there is a base they are added to the product with
 * that, as the bias of a Gemm is.
 */
final class Factors {
    private final OnnxModel model;
    private final Edits edits;
    private final Names names;
    private final Nodes nodes;
    private final Tensors tensors;
    private final Products products;

    Factors(OnnxModel model, Edits edits, Names names, Nodes nodes, Tensors tensors, Products products) {
        this.model = model;
        this.edits = edits;
        this.names = names;
        this.nodes = nodes;
        this.tensors = tensors;
        this.products = products;
    }

    void replaceReaders(Job job, Rope before) {
        boolean corrected = job.lowering.rewrite() == OnnxLowering.Rewrite.CORRECTED;
        boolean conv = job.info.weight.role() == Role.CONV;
        Form.LowRank f = corrected ? ((Form.Sum) job.asked).correction() : (Form.LowRank) job.asked;
        Job base = !corrected ? null : new Job(job, 0, job.shape, job.dims, job.in,
                tensors.name(job, "base"));
        long[] leftDims = f.left(job.shape).dims();
        long[] rightDims = f.right(job.shape).dims();
        if (conv) {
            leftDims = new long[job.dims.length];
            Arrays.fill(leftDims, 1);
            leftDims[0] = job.dims[0];
            leftDims[1] = f.rank();
            rightDims = job.dims.clone();
            rightDims[0] = f.rank();
        }
        int first = corrected ? 1 : 0;
        Job left = new Job(job, first, f.left(job.shape), leftDims, 0, tensors.name(job, "left"));
        Job right = new Job(job, first + 1, f.right(job.shape), rightDims, 0, tensors.name(job, "right"));
        Operand whole = corrected ? products.operand(base, before) : null;
        Operand byLeft = products.operand(left, before);
        Operand byRight = products.operand(right, before);
        for (Use u : job.info.value.uses) {
            Node n = u.node();
            Rope r = new Rope();
            if (conv) {
                convolve(r, n, byLeft, byRight);
            } else {
                multiply(r, n, left, whole, byLeft, byRight);
            }
            edits.replace(n, r);
        }
    }

    /** Several convolutions in place of each one. */
    void replaceConvolutions(Job job, Rope before) {
        Form.Chain c = job.asked.chain();
        List<Shape> shapes = c.shapes(job.shape);
        int window = c.narrows(job.shape) ? 1 : 0;
        List<Operand> operands = new ArrayList<>();
        for (int i = 0; i < shapes.size(); i++) {
            String name = tensors.name(job, i < window ? "inputs" : i > window ? "outputs" : "window");
            operands.add(products.operand(new Job(job, i, shapes.get(i), shapes.get(i).dims(), 1, name), before));
        }
        for (Use u : job.info.value.uses) {
            Node n = u.node();
            Rope r = new Rope();
            String x = n.inputs.getFirst();
            for (int i = 0; i < shapes.size(); i++) {
                boolean last = i == shapes.size() - 1;
                String label = i < window ? "inputs" : "window";
                String y = last ? n.outputs.getFirst() : names.fresh(n.outputs.getFirst() + "." + label);
                Proto p = Nodes.start("Conv", y, x, operands.get(i).floats(), last ? Nodes.input(n, 2) : "")
                        .fields(last ? nodes.kept(n) : nodes.named(n, label));
                if (i == window) {
                    for (Attribute a : n.attributes) {
                        if (!a.name.equals("group") || !c.depthwise()) {
                            nodes.copy(p, a);
                        }
                    }
                    if (c.depthwise()) {
                        Nodes.attribute(p, "group", c.before());
                    }
                }
                r.add(Nodes.field(p));
                x = y;
            }
            edits.replace(n, r);
        }
    }

    /** @param base null if there is none */
    private void multiply(Rope r, Node n, Job job, Operand base, Operand left, Operand right) {
        boolean gemm = n.is("Gemm");
        String x = nodes.first(n);
        String y = n.outputs.get(0);
        String c = gemm ? Nodes.input(n, 2) : "";
        byte[] kept = nodes.kept(n);
        if (base != null) {
            String coarse = names.fresh(y + ".base");
            if (gemm && !base.floats().isEmpty()) {
                r.add(nodes.gemm(n, kept, coarse, x, base.floats(), c, "alpha", "beta", "transA", "transB"));
            } else {
                products.multiply(r, base, x, coarse, c, n.label(), kept);
            }
            c = coarse;
            kept = nodes.named(n, "right");
        }
        String h = names.fresh(y + ".left");
        if (gemm && n.integer("transA", 0) != 0) {
            // Older ones want something to add.
            String nothing = model.parsed().opsets.get("") >= 11 ? ""
                    : tensors.constant(job, "nothing", job.info.weight.tensor().dtype(), new byte[job.info.tensor.bits() / 8]);
            r.add(nodes.gemm(n, nodes.named(n, "left"), h, x, left.floats(), nothing, "transA"));
        } else {
            products.multiply(r, left, x, h, "", n.label() + "/left", nodes.named(n, "left"));
        }
        if (gemm && !right.floats().isEmpty()) {
            r.add(nodes.gemm(n, kept, y, h, right.floats(), c, base == null ? new String[] {"alpha", "beta"} : new String[] {"alpha"}));
        } else {
            products.multiply(r, right, h, y, c, n.label() + "/right", kept);
        }
    }

    /** Kernels of few channels with all that the node says, then each place by itself to the channels it had. */
    private void convolve(Rope r, Node n, Operand left, Operand right) {
        String y = n.outputs.get(0);
        String h = names.fresh(y + ".right");
        Proto p = Nodes.start("Conv", h, n.inputs.get(0), right.floats()).fields(nodes.named(n, "right"));
        for (Attribute a : n.attributes) {
            nodes.copy(p, a);
        }
        r.add(Nodes.field(p)).add(Nodes.field(
                Nodes.start("Conv", y, h, left.floats(), Nodes.input(n, 2)).fields(nodes.kept(n))));
    }
}
