package dev.tensorpress.model.onnx;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.encoding.Form.Activations;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.OnnxGraph.Use;
import dev.tensorpress.model.onnx.Rope.Array;
import dev.tensorpress.tensor.DType;

/** MatMulNBits and GatherBlockQuantized, which decode blocks inside the product or the lookup. */
final class Blocks {
    /** Level of MatMulNBits at which activations may be quantized to int8, block by block. */
    private static final int INT8_ACTIVATIONS = 4;

    private final int accuracy;
    private final Edits edits;
    private final Nodes nodes;
    private final Tensors tensors;

    /** @param accuracy level of MatMulNBits; -1 to follow the forms */
    Blocks(int accuracy, Edits edits, Nodes nodes, Tensors tensors) {
        this.accuracy = accuracy;
        this.edits = edits;
        this.nodes = nodes;
        this.tensors = tensors;
    }

    /** Names of what rows are looked up in. */
    record Table(Job job, String codes, String scales, String zeros) {}

    /** Codes as they lie in each row, scales [rows, blocks], zero points as in MatMulNBits. */
    Table table(Job job) {
        Form.Quantized f = job.form;
        long rows = job.shape.dim(0);
        long cols = job.shape.dim(1);
        long blocks = cols / f.block();
        String codes = tensors.codes(job, DType.U8, rows, f.type().bytes(cols));
        String scales = tensors.scales(job, rows, blocks);
        long bytes = f.type().bytes(blocks);
        return new Table(job, codes, scales, f.symmetric() ? "" : zeros(job, rows * bytes, rows, bytes));
    }

    private String zeros(Job job, long length, long... dims) {
        return tensors.zeros(job, DType.U8, job.form.type().bits() == 4 ? Array.ZEROS_PACKED_BY_ROW : Array.ZEROS, length, dims);
    }

    /** Lookups in codes in the place of those in floats. */
    void replaceLookups(Job job) {
        Table table = table(job);
        for (Use u : job.info.value.uses) {
            edits.replace(u.node(), gather(table, u.node()));
        }
    }

    Rope gather(Table t, Node n) {
        Proto p = nodes.startMicrosoft("GatherBlockQuantized", n.outputs.get(0), t.codes, n.inputs.get(1), t.scales, t.zeros)
                .fields(nodes.kept(n));
        Nodes.attribute(p, "bits", t.job.form.type().bits());
        Nodes.attribute(p, "block_size", t.job.form.block());
        Nodes.attribute(p, "gather_axis", 0);
        Nodes.attribute(p, "quantize_axis", 1);
        return new Rope().add(Nodes.field(p));
    }

    /** B of MatMulNBits is [N, blocks, block bytes] with blocks along K; scales [N, blocks]. */
    Operand operand(Job job) {
        Form.Quantized f = job.form;
        long n = job.shape.dim(1 - job.in);
        long blocks = blocks(job);
        String codes = tensors.codes(job, DType.U8, n, blocks, f.type().bytes(f.block()));
        String scales = tensors.scales(job, n * blocks);
        // Absent zero points mean the middle of the stored bits.
        long bytes = n * f.type().bytes(blocks);
        return matrix(job, codes, scales, f.symmetric() ? "" : zeros(job, bytes, bytes));
    }

    /** The matrix of products that a table is as well. */
    Operand operand(Table t, Rope before) {
        Form.Quantized f = t.job.form;
        String codes = tensors.name(t.job, "quantized.blocks");
        before.add(nodes.node("Reshape", codes, t.codes,
                tensors.longs(t.job, "blocks", t.job.shape.dim(1 - t.job.in), blocks(t.job), f.type().bytes(f.block()))));
        return matrix(t.job, codes, t.scales, t.zeros);
    }

    private static long blocks(Job job) {
        return (job.shape.dim(job.in) + job.form.block() - 1) / job.form.block();
    }

    private Operand matrix(Job job, String codes, String scales, String zeros) {
        return new Operand() {
            @Override
            public void multiply(Rope r, String x, String y, String product, String label, byte[] kept) {
                Form.Quantized f = job.form;
                Proto p = nodes.startMicrosoft("MatMulNBits", product, x, codes, scales, zeros).fields(kept);
                Nodes.attribute(p, "K", job.shape.dim(job.in));
                Nodes.attribute(p, "N", job.shape.dim(1 - job.in));
                Nodes.attribute(p, "bits", f.type().bits());
                Nodes.attribute(p, "block_size", f.block());
                int level = accuracy >= 0 ? accuracy : f.activations() == Activations.BLOCKWISE ? INT8_ACTIVATIONS : 0;
                if (level > 0) {
                    Nodes.attribute(p, "accuracy_level", level);
                }
                r.add(Nodes.field(p));
            }
        };
    }
}
