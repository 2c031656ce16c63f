package dev.tensorpress.model.onnx;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.OnnxGraph.Use;
import dev.tensorpress.model.onnx.Rope.Array;
import dev.tensorpress.tensor.DType;
import java.util.Arrays;

/** Gather of codes and of scales, and the arithmetic that decodes rows. */
final class Lookups {
    private final Edits edits;
    private final Names names;
    private final Nodes nodes;
    private final Tensors tensors;
    private final Decoding decoding;

    Lookups(Edits edits, Names names, Nodes nodes, Tensors tensors, Decoding decoding) {
        this.edits = edits;
        this.names = names;
        this.nodes = nodes;
        this.tensors = tensors;
        this.decoding = decoding;
    }

    /**
     * Names of what rows are looked up in, and of constants that all lookups read.
     *
     * @param pairs what bytes of two codes mean; empty if codes have a byte each
     * @param width values of a row, and {@code split} the same as blocks; for pairs
     */
    record Table(Job job, String codes, String scales, String zeros, String pairs, String width, String split) {}

    /** Codes in rows, with scales and zero points of such shapes that each row finds its own. */
    Table table(Job job) {
        Form.Quantized f = job.form;
        boolean nibbles = f.type() == DType.U4;
        long rows = job.shape.dim(0);
        long cols = job.shape.dim(-1);
        long[] perRow = new long[job.shape.rank()];
        Arrays.fill(perRow, 1);
        perRow[0] = rows;
        if (f.block() > 0) {
            perRow = new long[] {rows, cols / f.block(), 1};
        }
        String codes = nibbles ? tensors.codes(job, DType.U8, rows, cols / 2) : tensors.codes(job, f.type(), job.shape.dims());
        String scales = tensors.scales(job, perRow);
        String zeros = f.symmetric() ? "" : tensors.zeros(job, nibbles ? DType.U8 : f.type(), Array.ZEROS, job.groups(), perRow);
        String pairs = nibbles ? decoding.pairs(job, f.scaleType()) : "";
        String width = nibbles ? tensors.longs(job, "width", cols) : "";
        String split = f.block() > 0 ? tensors.longs(job, "blocks", cols / f.block(), f.block()) : "";
        return new Table(job, codes, scales, zeros, pairs, width, split);
    }

    /** Lookups in codes in the place of those in floats. */
    void replaceLookups(Job job) {
        Table table = table(job);
        for (Use u : job.info.value.uses) {
            edits.replace(u.node(), gather(table, u.node()));
        }
    }

    /** Only the rows that are looked up become floats; blocks have an axis of their own until the last step. */
    Rope gather(Table t, Node node) {
        Job job = t.job;
        Form.Quantized f = job.form;
        boolean blocks = f.block() > 0;
        DType type = f.scaleType();
        String index = node.inputs.get(1);
        String y = node.outputs.get(0);
        String rowCodes = names.fresh(y + ".quantized");
        String rowScales = names.fresh(y + ".scale");
        Proto first = Nodes.start("Gather", rowCodes, t.codes, index).fields(nodes.kept(node));
        Nodes.attribute(first, "axis", 0);
        Rope r = new Rope().add(Nodes.field(first)).add(nodes.node("Gather", rowScales, t.scales, index));
        String x = names.fresh(y + ".floats");
        String shape = "";
        if (!t.pairs.isEmpty()) {
            decoding.unpack(r, x, rowCodes, t.pairs);
            shape = names.fresh(y + ".shape");
            String packed = x;
            x = names.fresh(y + ".unpacked");
            r.add(nodes.node("Shape", shape, index));
            r.add(nodes.node("Reshape", x, packed, extended(r, y, shape, blocks ? t.split : t.width)));
        } else {
            r.add(nodes.cast(x, rowCodes, type));
        }
        if (!f.symmetric()) {
            String rowZeros = names.fresh(y + ".zero");
            String zeroFloats = names.fresh(y + ".zero.floats");
            r.add(nodes.node("Gather", rowZeros, t.zeros, index)).add(nodes.cast(zeroFloats, rowZeros, type));
            x = nodes.subtract(r, y, x, zeroFloats);
        } else if (t.pairs.isEmpty() && f.middle() != 0) {
            x = nodes.subtract(r, y, x, tensors.constant(job, "middle", type, Tensors.number(type, f.middle())));
        }
        String result = decoding.result(job, y);
        String scaled = blocks ? names.fresh(y + ".scaled") : result;
        r.add(nodes.node("Mul", scaled, x, rowScales));
        if (blocks) {
            r.add(nodes.node("Reshape", result, scaled, extended(r, y, shape, t.width)));
        }
        decoding.convert(r, job, result, y);
        return r;
    }

    /** A shape with further dimensions behind it. */
    private String extended(Rope r, String y, String shape, String more) {
        String full = names.fresh(y + ".shape.full");
        Proto concat = Nodes.start("Concat", full, shape, more).string(3, names.fresh(y + "/shape"));
        Nodes.attribute(concat, "axis", 0);
        r.add(Nodes.field(concat));
        return full;
    }
}
