package dev.tensorpress.model.onnx;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.onnx.Rope.Array;
import dev.tensorpress.tensor.DType;

/** Products of integers: MatMulInteger behind DynamicQuantizeLinear, or of codes that are fixed before. */
final class Integers {
    private final boolean microsoft;
    private final Names names;
    private final Nodes nodes;
    private final Tensors tensors;
    private final Coded coded;

    Integers(boolean microsoft, Names names, Nodes nodes, Tensors tensors, Coded coded) {
        this.microsoft = microsoft;
        this.names = names;
        this.nodes = nodes;
        this.tensors = tensors;
        this.coded = coded;
    }

    Operand operand(Job job, Rope before) {
        Form.Quantized f = job.form;
        String codes = tensors.codes(job, f.type(), job.shape.dims());
        String scales = f.axis() < 0 ? tensors.scales(job) : tensors.scales(job, job.groups());
        String zeros = f.symmetric() ? "" : tensors.zeros(job, f.type(), Array.ZEROS, job.groups(),
                f.axis() < 0 ? new long[0] : new long[] {job.groups()});
        return matrix(job, codes, scales, zeros, before);
    }

    /** The matrix of products that a table is as well. */
    Operand operand(Lookups.Table t, Rope before) {
        String flat = tensors.longs(t.job(), "flat", -1);
        String scales = tensors.name(t.job(), "scale.flat");
        before.add(nodes.node("Reshape", scales, t.scales(), flat));
        String zeros = "";
        if (!t.job().form.symmetric()) {
            zeros = tensors.name(t.job(), "zero.flat");
            before.add(nodes.node("Reshape", zeros, t.zeros(), flat));
        }
        return matrix(t.job(), t.codes(), scales, zeros, before);
    }

    private Operand matrix(Job job, String codes, String scales, String zeros, Rope before) {
        Form.Quantized f = job.form;
        String zero = f.symmetric() ? tensors.constant(job, "zero", f.type(), new byte[] {(byte) f.middle()}) : zeros;
        String matrix = job.in == 0 ? codes : transposed(job, codes, before);
        return f.fixed().isEmpty() ? multiplying(matrix, scales, zero)
                : multiplyingCodes(matrix, scales, zero, coded.parameters(job, f.fixed().get().input()));
    }

    /** Runtimes fold this when they load the model: both its input and its permutation are constant. */
    private String transposed(Job job, String codes, Rope before) {
        String turned = names.fresh(job.name + ".quantized.transposed");
        Proto p = Nodes.start("Transpose", turned, codes).string(3, names.fresh(job.name + "/transpose"));
        p.message(5, new Proto().string(1, "perm").integer(8, 1).integer(8, 0).integer(20, 7));
        before.add(Nodes.field(p));
        return turned;
    }

    private Operand multiplying(String codes, String scales, String zeros) {
        return new Operand() {
            /**
             * Each reader quantizes its activations by itself: ONNX Runtime fuses the five nodes into DynamicQuantizeMatMul only
             * if nothing else reads what DynamicQuantizeLinear makes.
             */
            @Override
            public void multiply(Rope r, String x, String y, String product, String label, byte[] kept) {
                String aq = names.fresh(y + ".input.quantized");
                String as = names.fresh(y + ".input.scale");
                String az = names.fresh(y + ".input.zero");
                String sums = names.fresh(y + ".sums");
                String floats = names.fresh(y + ".floats");
                String scale = names.fresh(y + ".scale");
                Proto dql = Nodes.start("DynamicQuantizeLinear", aq, x).string(2, as).string(2, az)
                        .string(3, names.fresh(label + "/quantize"));
                Proto mm = Nodes.start("MatMulInteger", sums, aq, codes, az, zeros).fields(kept);
                r.add(Nodes.field(dql)).add(Nodes.field(mm)).add(nodes.cast(floats, sums, DType.F32))
                        .add(nodes.node("Mul", scale, as, scales)).add(nodes.node("Mul", product, floats, scale));
            }
        };
    }

    /** What is multiplied with it has to be codes. */
    private Operand multiplyingCodes(String codes, String scales, String zeros, Coded.Parameters input) {
        return (r, x, y, product, label, kept) -> {
            if (microsoft) {
                r.add(Nodes.field(nodes.startMicrosoft("MatMulIntegerToFloat", product, x, codes, input.scale(), scales, input.zero(), zeros)
                        .fields(kept)));
                return;
            }
            String sums = names.fresh(y + ".sums");
            String floats = names.fresh(y + ".floats");
            String scale = names.fresh(y + ".scale");
            r.add(Nodes.field(Nodes.start("MatMulInteger", sums, x, codes, input.zero(), zeros).fields(kept)))
                    .add(nodes.cast(floats, sums, DType.F32)).add(nodes.node("Mul", scale, input.scale(), scales))
                    .add(nodes.node("Mul", product, floats, scale));
        };
    }
}
