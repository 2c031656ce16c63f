package dev.tensorpress.model.onnx;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.onnx.Rope.Array;
import dev.tensorpress.tensor.DType;
import java.nio.ByteBuffer;
import java.util.Arrays;

/** Floats in the place of a weight: as they are, or decoded by DequantizeLinear or by its arithmetic. */
final class Decoding {
    private static final int BYTES = 256;

    private final long opset;
    private final Names names;
    private final Nodes nodes;
    private final Tensors tensors;

    Decoding(long opset, Names names, Nodes nodes, Tensors tensors) {
        this.opset = opset;
        this.names = names;
        this.nodes = nodes;
        this.tensors = tensors;
    }

    /** What products read that take floats. */
    private record FloatOperand(String floats) implements Operand {
        @Override
        public void multiply(Rope r, String x, String y, String product, String label, byte[] kept) {
            r.add(Nodes.field(Nodes.start("MatMul", product, x, floats).fields(kept)));
        }
    }

    /** A factor as it is. */
    Operand dense(Job job) {
        DType type = job.info.weight.tensor().dtype();
        return new FloatOperand(tensors.payload(job, job.name, type, job.dims, Array.ELEMENTS, type.bytes(job.shape.elements())));
    }

    /** Decoded values with the name of the job. */
    Operand decoded(Job job, Rope before) {
        if (job.lowering.rewrite() == OnnxLowering.Rewrite.DEQUANTIZE) {
            dequantize(before, job);
        } else {
            arithmetic(before, job);
        }
        if (job.decodedDims().length == job.dims.length) {
            return new FloatOperand(job.name);
        }
        String kernel = tensors.name(job, "kernel");
        before.add(nodes.node("Reshape", kernel, job.name, tensors.longs(job, "kernel_shape", job.dims)));
        return new FloatOperand(kernel);
    }

    private void dequantize(Rope r, Job job) {
        Form.Quantized f = job.form;
        long[] dims = job.shape.dims();
        dims[f.axis()] = (dims[f.axis()] + f.block() - 1) / f.block();
        String codes = tensors.codes(job, f.type(), job.shape.dims());
        String scales = tensors.scales(job, dims);
        String zeros = f.symmetric() ? "" : tensors.zeros(job, f.type(), Array.ZEROS_PACKED, f.type().bytes(job.groups()), dims);
        String result = result(job, job.name);
        Proto p = Nodes.start("DequantizeLinear", result, codes, scales, zeros)
                .string(3, names.fresh(job.name + "/dequantize"));
        Nodes.attribute(p, "axis", f.axis());
        Nodes.attribute(p, "block_size", f.block());
        r.add(Nodes.field(p));
        convert(r, job, result, job.name);
    }

    /** The name under which decoded values appear that are to become {@code name}: another if a Cast follows. */
    String result(Job job, String name) {
        return job.form.scaleType() == job.info.weight.tensor().dtype() ? name : names.fresh(name + ".f32");
    }

    /** That Cast, where {@link #result} is another name. */
    void convert(Rope r, Job job, String result, String name) {
        if (!result.equals(name)) {
            r.add(nodes.cast(name, result, job.info.weight.tensor().dtype()));
        }
    }

    /** {@code (codes - zero) * scale}, blocks having an axis of their own until the last step. */
    private void arithmetic(Rope r, Job job) {
        Form.Quantized f = job.form;
        DType type = f.scaleType();
        long[] dims = job.decodedDims();
        long[] split = dims;
        long[] perGroup = new long[f.axis() < 0 ? 0 : dims.length];
        Arrays.fill(perGroup, 1);
        if (f.block() > 0) {
            split = new long[dims.length + 1];
            System.arraycopy(dims, 0, split, 0, f.axis());
            split[f.axis()] = dims[f.axis()] / f.block();
            split[f.axis() + 1] = f.block();
            System.arraycopy(dims, f.axis() + 1, split, f.axis() + 2, dims.length - f.axis() - 1);
            perGroup = split.clone();
            perGroup[f.axis() + 1] = 1;
        } else if (f.axis() >= 0) {
            perGroup[f.axis()] = dims[f.axis()];
        }
        boolean nibbles = f.type().bits() == 4;
        boolean reshaped = f.block() > 0;
        String x = names.fresh(job.name + ".floats");
        if (nibbles && split.length > 0 && split[split.length - 1] % 2 == 0) {
            // Pairs have an axis of their own as well, until the last step.
            long[] packed = split.clone();
            packed[packed.length - 1] /= 2;
            unpack(r, x, tensors.codes(job, DType.U8, packed), pairs(job, type));
            perGroup = paired(perGroup);
            reshaped = true;
        } else if (nibbles) {
            long n = job.shape.elements();
            unpack(r, x, tensors.codes(job, DType.U8, (n + 1) / 2), pairs(job, type));
            if (n % 2 != 0) {
                x = dropLast(r, job, x, n);
            }
            String shaped = names.fresh(job.name + ".unpacked");
            r.add(nodes.node("Reshape", shaped, x, tensors.longs(job, "unpacked_shape", split)));
            x = shaped;
        } else {
            r.add(nodes.cast(x, tensors.codes(job, f.type(), split), type));
        }
        String scales = tensors.scales(job, perGroup);
        if (!f.symmetric()) {
            String zeros = tensors.zeros(job, DType.U8, Array.ZEROS, job.groups(), perGroup);
            String zeroFloats = names.fresh(job.name + ".zero.floats");
            r.add(nodes.cast(zeroFloats, zeros, type));
            x = nodes.subtract(r, job.name, x, zeroFloats);
        }
        String scaled = reshaped ? names.fresh(job.name + ".scaled") : "";
        String result = result(job, job.name);
        r.add(nodes.node("Mul", reshaped ? scaled : result, x, scales));
        if (reshaped) {
            r.add(nodes.node("Reshape", result, scaled, tensors.longs(job, "shape", dims)));
        }
        convert(r, job, result, job.name);
    }

    /** Dimensions of what is the same for both of a pair, or differs as its values do, with the axis of pairs behind the others. */
    private static long[] paired(long[] dims) {
        int rank = dims.length;
        if (rank == 0) {
            return dims;
        }
        boolean same = dims[rank - 1] == 1;
        long[] all = Arrays.copyOf(dims, rank + 1);
        all[rank] = same ? 1 : 2;
        all[rank - 1] = same ? 1 : dims[rank - 1] / 2;
        return all;
    }

    /** An odd number of nibbles fills its last byte half. */
    private String dropLast(Rope r, Job job, String pairs, long n) {
        String flat = names.fresh(job.name + ".flat");
        String cut = names.fresh(job.name + ".cut");
        r.add(nodes.node("Reshape", flat, pairs, tensors.longs(job, "flat_shape", -1)));
        if (opset >= 10) {
            r.add(nodes.node("Slice", cut, flat, tensors.longs(job, "first", 0), tensors.longs(job, "last", n)));
            return cut;
        }
        Proto p = Nodes.start("Slice", cut, flat).string(3, names.fresh(cut + "/slice"));
        p.message(5, new Proto().string(1, "starts").integer(8, 0).integer(20, 7));
        p.message(5, new Proto().string(1, "ends").integer(8, n).integer(20, 7));
        r.add(Nodes.field(p));
        return cut;
    }

    /**
     * What each byte means, as two floats, for operator sets without 4-bit types. Looking them up takes fewer steps than arithmetic does,
     * and a runtime that computes them when it loads a model has the results of all in memory at once.
     */
    String pairs(Job job, DType type) {
        int middle = job.form.symmetric() ? job.form.middle() : 0;
        ByteBuffer all = ByteBuffer.allocate(BYTES * 2 * type.bits() / 8);
        for (int i = 0; i < BYTES; i++) {
            all.put(Tensors.number(type, (i & 15) - middle)).put(Tensors.number(type, (i >> 4) - middle));
        }
        return tensors.constant(job, "pairs", type, new long[] {BYTES, 2}, all.array());
    }

    /** Adds an axis of 2 behind those of the bytes. */
    void unpack(Rope r, String result, String bytes, String pairs) {
        String indices = names.fresh(bytes + ".indices");
        r.add(nodes.cast(indices, bytes, DType.I32)).add(nodes.node("Gather", result, pairs, indices));
    }
}
