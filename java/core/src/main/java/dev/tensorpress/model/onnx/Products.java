package dev.tensorpress.model.onnx;

import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.OnnxGraph.Use;
import dev.tensorpress.model.onnx.OnnxGraph.Value;

/** Products with codes in the place of MatMul and Gemm. */
final class Products {
    private final Edits edits;
    private final Names names;
    private final Nodes nodes;
    private final Blocks blocks;
    private final Integers integers;
    private final Lookups lookups;
    private final Decoding decoding;
    private final Coded coded;

    Products(Edits edits, Names names, Nodes nodes, Blocks blocks, Integers integers, Lookups lookups, Decoding decoding, Coded coded) {
        this.edits = edits;
        this.names = names;
        this.nodes = nodes;
        this.blocks = blocks;
        this.integers = integers;
        this.lookups = lookups;
        this.decoding = decoding;
        this.coded = coded;
    }

    /** Makes the tensors of a matrix, and the nodes that it takes before anything can be multiplied with it. */
    Operand operand(Job m, Rope before) {
        return switch (m.lowering.rewrite()) {
            case DENSE -> decoding.dense(m);
            case DEQUANTIZE, ARITHMETIC -> decoding.decoded(m, before);
            case NBITS -> blocks.operand(m);
            case INTEGER -> integers.operand(m, before);
            default -> throw new IllegalArgumentException();
        };
    }

    /** Says what products will read, before any of them is replaced. */
    void announce(WeightFinder.Info info, OnnxLowering lowering) {
        lowering.form().quantized().fixed().filter(f -> lowering.divisors().isEmpty())
                .ifPresent(f -> Nodes.products(info.value).forEach(n -> coded.reads(n, f.input())));
    }

    /** Products and lookups with codes, which lie as they need them, in place of those with floats. */
    void replaceReaders(Job job, Rope before) {
        Blocks.Table inBlocks = null;
        Lookups.Table inRows = null;
        Operand matrix;
        switch (job.lowering.rewrite()) {
            case NBITS_GATHERED -> {
                inBlocks = blocks.table(job);
                matrix = blocks.operand(inBlocks, before);
            }
            case INTEGER_GATHERED -> {
                inRows = lookups.table(job);
                matrix = integers.operand(inRows, before);
            }
            default -> matrix = operand(job, before);
        }
        for (Use u : job.info.value.uses) {
            Node n = u.node();
            if (n.is("Gather")) {
                edits.replace(n, inBlocks != null ? blocks.gather(inBlocks, n) : lookups.gather(inRows, n));
            } else if (n.is("Transpose")) {
                Value turned = n.graph.values.get(n.outputs.getFirst());
                edits.replace(n, new Rope());
                edits.remove(n.graph.valueInfos, turned.name);
                for (Use product : turned.uses) {
                    replace(job, product.node(), matrix);
                }
            } else {
                replace(job, n, matrix);
            }
        }
    }

    private void replace(Job job, Node n, Operand matrix) {
        Rope r = new Rope();
        boolean codes = job.form != null && job.form.fixed().isPresent();
        String x = codes ? coded.of(r, job, n, job.form.fixed().get().input()) : nodes.first(n);
        multiply(r, matrix, x, n.outputs.get(0), n.is("Gemm") ? Nodes.input(n, 2) : "", n.label(), nodes.kept(n));
        edits.replace(n, r);
    }

    /**
     * y = x times a matrix, plus c unless that is empty.
     *
     * @param label what names of further nodes begin with
     * @param kept name and whatever else the node that multiplies is to have
     */
    void multiply(Rope r, Operand matrix, String x, String y, String c, String label, byte[] kept) {
        String product = c.isEmpty() ? y : names.fresh(y + ".product");
        matrix.multiply(r, x, y, product, label, kept);
        if (!c.isEmpty()) {
            r.add(nodes.node("Add", y, product, c));
        }
    }
}
