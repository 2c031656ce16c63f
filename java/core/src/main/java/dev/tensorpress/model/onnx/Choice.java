package dev.tensorpress.model.onnx;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.encoding.Form.Activations;
import dev.tensorpress.encoding.Form.Storage;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.WeightFinder.Info;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;

/** How a weight will be expressed in the model, and the form its encoding needs for that. */
record Choice(Kind kind, Form form) {
    enum Kind {
        /** As it is. */
        KEEP,
        /** The same tensor with other elements. */
        MASKED,
        /** A sparse initializer with the name of the weight. */
        COORDINATES,
        /** MatMulNBits of com.microsoft in place of MatMul and Gemm. */
        NBITS,
        /** DynamicQuantizeLinear and MatMulInteger in place of MatMul and Gemm. */
        INTEGER,
        /** Gather of codes and of scales in place of Gather. */
        GATHER,
        /** DequantizeLinear with the name of the weight. */
        DEQUANTIZE,
        /** The arithmetic of DequantizeLinear in operators that older operator sets have. */
        ARITHMETIC
    }

    private static final int INT4_IR = 10;

    /** @throws UnsupportedRequestException if the weight can have neither the wanted form nor one near it */
    static Choice of(Info info, Form wanted, boolean microsoft, long opset, long ir) {
        Weight w = info.weight;
        if (w.obstacle().isPresent()) {
            throw new UnsupportedRequestException(w.obstacle().get());
        }
        DType type = w.tensor().dtype();
        if (wanted instanceof Form.Dense d) {
            if (d.dtype() != type) {
                throw new UnsupportedRequestException("ONNX targets do not turn " + type + " into " + d.dtype());
            }
            return new Choice(Kind.KEEP, wanted);
        }
        if (wanted instanceof Form.Sparse s) {
            return sparse(info, s, microsoft, opset, ir);
        }
        Form.Quantized q = (Form.Quantized) wanted;
        if (q.bits() < 2 || q.bits() > 8) {
            throw new UnsupportedRequestException("ONNX targets store codes of 2 to 8 bits, not " + q.bits());
        }
        if (w.role() == Role.LINEAR && info.replaceable) {
            if (q.activations() == Activations.DYNAMIC && q.block() == 0 && q.bits() > 4 && type == DType.F32 && opset >= 11) {
                int axis = q.axis() < 0 ? -1 : w.outputAxis();
                return new Choice(Kind.INTEGER, form(q, axis, 0, Activations.DYNAMIC, DType.U8, type, false, false));
            }
            if (microsoft && q.block() > 0 && q.axis() == w.inputAxis() && type != DType.BF16) {
                return new Choice(Kind.NBITS, form(q, q.axis(), powerOfTwo(q.block(), w.tensor().shape().dim(q.axis())),
                        q.activations() == Activations.BLOCKWISE ? Activations.BLOCKWISE : Activations.FLOAT, q.bits() > 4 ? DType.U8 : DType.U4, type, w.inputAxis() == 0, true));
            }
        }
        if (w.role() == Role.EMBEDDING && info.replaceable) {
            Shape s = w.tensor().shape();
            if (q.bits() > 4) {
                return new Choice(Kind.GATHER, form(q, 0, 0, Activations.FLOAT, q.symmetric() ? DType.I8 : DType.U8, type, false, false));
            }
            if (opset >= 11 && s.rank() == 2 && s.dim(1) % 2 == 0) {
                return new Choice(Kind.GATHER, form(q, 0, 0, Activations.FLOAT, DType.U4, type, false, false));
            }
        }
        return general(w, q, type, opset, ir);
    }

    /** What a sparse form holds is expressed as it would be on its own: the zeros stay in place. */
    private static Choice sparse(Info info, Form.Sparse s, boolean microsoft, long opset, long ir) {
        Choice held = of(info, s.values(), microsoft, opset, ir);
        return new Choice(held.kind == Kind.KEEP ? Kind.MASKED : held.kind, s.of(held.form).stored(Storage.MASKED));
    }

    private static Choice general(Weight w, Form.Quantized q, DType type, long opset, long ir) {
        Shape s = w.tensor().shape();
        boolean operator = opset >= (type == DType.F16 ? 19 : 13);
        boolean small = q.bits() <= 4;
        // Below, 4-bit types do not exist, and the arithmetic in their place wants blocks that divide the axis.
        boolean blocks = operator && opset >= 21 && (!small || ir >= INT4_IR);
        int axis = q.axis();
        int block = q.block();
        if (w.role() == Role.RECURRENT && block == 0 && axis >= 0) {
            // Channels are the middle axis, which no matrix view has; blocks along the rows are finer still.
            axis = w.inputAxis();
            block = 256;
        }
        if (block > 0 && (axis < 0 || axis >= s.rank())) {
            block = 0;
        }
        if (block > 0) {
            block = fitting(s, axis, block, blocks);
        }
        if (block == 0 && axis >= 0) {
            axis = w.role() == Role.RECURRENT ? w.inputAxis() : q.block() > 0 ? w.outputAxis() : axis;
            if (s.rank() == 0 || axis != 0 && axis != s.rank() - 1) {
                axis = s.rank() > 1 ? 0 : -1;
            }
        }
        boolean usable = operator && (block == 0 || blocks) && (!small || blocks)
                || type != DType.F16 && opset >= 10 && axis < 0 && !small;
        DType codes = small ? q.symmetric() && usable ? DType.I4 : DType.U4 : q.symmetric() ? DType.I8 : DType.U8;
        return new Choice(usable ? Kind.DEQUANTIZE : Kind.ARITHMETIC,
                form(q, axis, block, Activations.FLOAT, codes, type, false, false));
    }

    private static Form form(Form.Quantized q, int axis, int block, Activations activations, DType type, DType scale,
            boolean transposed, boolean padded) {
        // Few runtimes compute in bf16: such weights are decoded as f32 and then converted.
        DType scales = scale == DType.BF16 ? DType.F32 : scale;
        return new Form.Quantized(q.bits(), axis, block, q.symmetric(), activations, type, scales, transposed, padded);
    }

    /** The block that MatMulNBits can have: not above the wanted one, nor needlessly longer than what it cuts. */
    private static int powerOfTwo(int block, long k) {
        int b = Math.max(16, Math.min(256, Integer.highestOneBit(block)));
        while (b > 16 && b / 2 >= k) {
            b /= 2;
        }
        return b;
    }

    /**
     * A block length that the axis can have, 0 if none. Where blocks have to divide the axis the next shorter one that
     * does, else the next longer.
     */
    private static int fitting(Shape s, int axis, int wanted, boolean anyLength) {
        long n = s.dim(axis);
        int rank = s.rank();
        if (axis < rank - 2) {
            return 0;
        }
        if (anyLength && (axis == rank - 1 || rank == 2)) {
            return wanted;
        }
        for (int b = wanted / 16 * 16; b >= 16; b -= 16) {
            if (n % b == 0) {
                return b;
            }
        }
        for (int b = wanted / 16 * 16 + 16; b <= 256; b += 16) {
            if (n % b == 0) {
                return b;
            }
        }
        return 0;
    }
}
