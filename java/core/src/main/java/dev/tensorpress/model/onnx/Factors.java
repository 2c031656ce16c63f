package dev.tensorpress.model.onnx;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.onnx.Job.Component;
import dev.tensorpress.model.onnx.OnnxGraph.Attribute;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.OnnxGraph.Use;
import java.util.Arrays;
import java.util.List;

/**
 * Two products, or two convolutions, in place of each one. Where there is a base they are added to the product with
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
        List<OnnxLowering> parts = job.lowering.parts();
        boolean corrected = job.lowering.rewrite() == OnnxLowering.Rewrite.CORRECTED;
        boolean conv = job.info.weight.role() == Role.CONV;
        Form.LowRank f = corrected ? ((Form.Sum) job.asked).correction() : (Form.LowRank) job.asked;
        Job base = !corrected ? null : new Job(job, Component.BASE, parts.getFirst(), job.shape, job.dims, job.in,
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
        Job left = new Job(job, Component.LEFT, parts.get(parts.size() - 2), f.left(job.shape), leftDims, 0,
                tensors.name(job, "left"));
        Job right = new Job(job, Component.RIGHT, parts.getLast(), f.right(job.shape), rightDims, 0, tensors.name(job, "right"));
        Operand whole = corrected ? products.operand(base, before) : null;
        Operand first = products.operand(left, before);
        Operand second = products.operand(right, before);
        for (Use u : job.info.value.uses) {
            Node n = u.node();
            Rope r = new Rope();
            if (conv) {
                convolve(r, n, first, second);
            } else {
                multiply(r, n, left, whole, first, second);
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
