package dev.tensorpress.model.onnx;

import dev.tensorpress.encoding.Affine;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.encoding.Form.Activations;
import dev.tensorpress.encoding.Form.Storage;
import dev.tensorpress.model.Lowering;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.OnnxGraph.Attribute;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.OnnxGraph.Use;
import dev.tensorpress.model.onnx.Tails.Tail;
import dev.tensorpress.model.onnx.WeightFinder.Info;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.Set;

/**
 * What becomes of a weight, or of a matrix that is part of one, in the graph, and the form its encoding needs for that.
 *
 * @param shape of the weight or the matrix
 * @param parts of {@link Rewrite#FACTORS} the left and the right factor, of {@link Rewrite#CORRECTED} the base before them, of {@link Rewrite#CHAIN} the
 *     convolutions in their order
 * @param divisors of what the weight is multiplied with, which a Mul before the product takes; none if there is no such operator
 */
record OnnxLowering(Rewrite rewrite, Form form, Shape shape, List<OnnxLowering> parts, List<Double> divisors) implements Lowering {
    /** What is done to the graph. */
    enum Rewrite {
        /** The same tensor with other elements. */
        ELEMENTS,
        /** A sparse initializer with the name of the weight. */
        COORDINATES,
        /** A factor as it is: a tensor of its own. */
        DENSE,
        /** MatMulNBits of com.microsoft in place of MatMul and Gemm. */
        NBITS,
        /** The same, and GatherBlockQuantized of com.microsoft in place of Gather, with the same codes. */
        NBITS_GATHERED,
        /** DynamicQuantizeLinear and MatMulInteger in place of MatMul and Gemm. */
        INTEGER,
        /** The same, and Gather of these codes and of scales in place of Gather. */
        INTEGER_GATHERED,
        /** QLinearConv in place of Conv and of what stands behind it. */
        CONVOLUTION,
        /** Gather of codes and of scales in place of Gather. */
        GATHER,
        /** GatherBlockQuantized of com.microsoft in place of Gather. */
        GATHER_BLOCKS,
        /** DequantizeLinear with the name of the weight. */
        DEQUANTIZE,
        /** The arithmetic of DequantizeLinear, its result with the name of the weight. */
        ARITHMETIC,
        /** Gather of a table's entries by codes, its result with the name of the weight. */
        CODEBOOK,
        /** Two products, or two convolutions, in place of MatMul and Gemm, or Conv. */
        FACTORS,
        /** Several convolutions in place of Conv. */
        CHAIN,
        /** The product with a base, and with two factors what is to be added to it, in place of MatMul and Gemm. */
        CORRECTED
    }

    private static final int INT4_IR = 10;
    /** Operator sets with QLinearConv, and with all of what products of integers take. */
    private static final int LINEAR_OPSET = 10;
    private static final int INTEGER_OPSET = 11;
    /** ONNX Runtime 1.x that first runs MatMulNBits of four bits, that of eight, and GatherBlockQuantized of bytes. */
    private static final int NBITS_4 = 17;
    private static final int NBITS_8 = 23;
    private static final int BYTES_GATHERED = 23;

    OnnxLowering(Rewrite rewrite, Form form, Shape shape) {
        this(rewrite, form, shape, List.of());
    }

    OnnxLowering(Rewrite rewrite, Form form, Shape shape, List<OnnxLowering> parts) {
        this(rewrite, form, shape, parts, List.of());
    }

    OnnxLowering divided(double[] by) {
        return new OnnxLowering(rewrite, form, shape, parts, Arrays.stream(by).boxed().toList());
    }

    @Override
    public long size() {
        return form.bytes(shape);
    }

    /**
     * What the lowering of codes depends on: a weight, or a factor, which has its readers but another shape.
     *
     * @param alone whether a single MatMul reads it
     * @param table whether its rows are looked up
     */
    private record Site(Role role, boolean replaceable, boolean alone, boolean table, DType type, Shape shape, int in, int out) {
        static Site of(Info info) {
            Weight w = info.weight;
            boolean table = false;
            for (Use u : info.value.uses) {
                table |= u.node().is("Gather");
            }
            return new Site(w.role(), info.replaceable, alone(info), table, w.tensor().dtype(), w.tensor().shape(), w.inputAxis(),
                    w.outputAxis());
        }

        /** Factors of products are summed over along their first axis, those of kernels along their second. */
        static Site factor(Info info, Shape shape) {
            int in = info.weight.role() == Role.CONV ? 1 : 0;
            return new Site(info.weight.role(), info.replaceable, alone(info), false, info.weight.tensor().dtype(), shape, in,
                    1 - in);
        }

        private static boolean alone(Info info) {
            List<Use> uses = info.value.uses;
            return uses.size() == 1 && uses.getFirst().node().is("MatMul");
        }
    }

    /** The x of the oldest ONNX Runtime 1.x that runs this; 0 if it takes standard operators alone. */
    int runtime() {
        int newest = switch (rewrite) {
            case NBITS -> form.quantized().type() == DType.U8 ? NBITS_8 : NBITS_4;
            case GATHER_BLOCKS, NBITS_GATHERED -> BYTES_GATHERED;
            default -> 0;
        };
        for (OnnxLowering part : parts) {
            newest = Math.max(newest, part.runtime());
        }
        return newest;
    }

    /** Adds s8, s7 or u8 if products are of integers: how their weights are held. */
    void integers(Set<String> held) {
        if (rewrite == Rewrite.INTEGER || rewrite == Rewrite.INTEGER_GATHERED || rewrite == Rewrite.CONVOLUTION) {
            Form.Quantized q = form.quantized();
            held.add(q.type() == DType.U8 ? "u8" : q.bits() == 8 ? "s8" : "s7");
        }
        for (OnnxLowering part : parts) {
            part.integers(held);
        }
    }

    /**
     * @param tail of the convolution that has the weight for its kernel, or null
     * @throws UnsupportedRequestException if the weight can have neither the wanted form nor one near it
     */
    static OnnxLowering of(Info info, Form wanted, Tail tail, boolean microsoft, long opset, long ir) {
        Weight w = info.weight;
        if (w.obstacle().isPresent()) {
            throw new UnsupportedRequestException(w.obstacle().get());
        }
        DType type = w.tensor().dtype();
        return switch (wanted.kind()) {
            case DENSE -> dense(Rewrite.ELEMENTS, (Form.Dense) wanted, type, w.tensor().shape());
            case QUANTIZED -> wanted.quantized().activations() == Activations.STATIC && obstacle(info, wanted.quantized(), tail, opset).isEmpty()
                    ? ofCodes(info, wanted.quantized()) : quantized(Site.of(info), wanted.quantized(), microsoft, opset, ir);
            case CODEBOOK -> codebook(w, wanted.codebook());
            case TRANSFORMED, HASHED -> new OnnxLowering(Rewrite.ELEMENTS, new Form.Dense(type, Optional.of(wanted)), w.tensor().shape());
            case SPARSE -> sparse(info, wanted.sparse(), tail, microsoft, opset, ir);
            case LOW_RANK -> smaller(w, factors(info, wanted.factors(), microsoft, opset, ir));
            case CHAIN -> smaller(w, chain(info, wanted.chain(), microsoft, opset, ir));
            case SUM -> smaller(w, corrected(info, (Form.Sum) wanted, microsoft, opset, ir));
        };
    }

    /** Codes into tables where they are smaller, else what they decode to. Runtimes look them up once, when they load the model. */
    private static OnnxLowering codebook(Weight w, Form.Codebook c) {
        Shape shape = w.tensor().shape();
        DType type = w.tensor().dtype();
        Form.Codebook stored = c.stored(type == DType.F16 ? type : c.table(), c.bits() <= 4 && c.codes(shape).elements() % 2 == 0);
        return Math.addExact(stored.bytes(shape), Codebooks.besideBytes(stored, shape)) < w.tensor().bytes()
                ? new OnnxLowering(Rewrite.CODEBOOK, stored, shape)
                : new OnnxLowering(Rewrite.ELEMENTS, new Form.Dense(type, Optional.of(c)), shape);
    }

    private static OnnxLowering dense(Rewrite rewrite, Form.Dense d, DType type, Shape shape) {
        if (d.dtype() != type) {
            throw new UnsupportedRequestException("ONNX targets do not turn " + type + " into " + d.dtype());
        }
        return new OnnxLowering(rewrite, d, shape);
    }

    /** Why no product or convolution can read codes that are fixed, and if it is a convolution make them; empty if one can. */
    static Optional<String> obstacle(Info info, Form.Quantized q, Tail tail, long opset) {
        if (q.block() != 0 || q.bits() <= 4 || q.bits() > 8) {
            return Optional.of("products of integers take codes of five to eight bits without blocks");
        }
        for (Use u : info.value.uses) {
            if (u.node().graph != info.value.graph) {
                return Optional.of("it is read in a subgraph"); // codes would be made where their scale is not seen
            }
        }
        DType type = info.weight.tensor().dtype();
        if (type != DType.F32) {
            return Optional.of("products of integers make f32, and not " + type.name().toLowerCase(Locale.ROOT));
        }
        long least = info.weight.role() == Role.CONV ? LINEAR_OPSET : INTEGER_OPSET;
        if (opset < least) {
            return Optional.of("operators of integers need opset " + least);
        }
        if (info.weight.role() != Role.CONV) {
            return info.weight.role().isProduct() && info.replaceable && !Site.of(info).table ? Optional.empty()
                    : Optional.of("not all that reads it is MatMul, or Gemm with neither transA nor alpha, with it as second operand");
        }
        if (tail == null || q.axis() > 0 || q.fixed().orElseThrow().result().isEmpty()) {
            return Optional.of("what the convolution makes has no codes that are fixed");
        }
        for (int j = 0; j < tail.scale().length; j++) {
            if (!(Math.abs(tail.scale()[j]) > 0) || !Double.isFinite(tail.scale()[j]) || !Double.isFinite(tail.shift()[j])) {
                return Optional.of("what follows the convolution scales an output by 0, or by what is not finite");
            }
        }
        boolean swish = tail.function() != null && tail.function().kind() == Tails.Kind.HARD_SWISH;
        return !swish || q.fixed().orElseThrow().activated().isPresent() ? Optional.empty() : Optional.of("its hard swish has no codes that are fixed");
    }

    private static OnnxLowering ofCodes(Info info, Form.Quantized q) {
        Weight w = info.weight;
        boolean conv = w.role() == Role.CONV;
        DType codes = q.type() == DType.I8 ? DType.I8 : DType.U8;
        // Kernels of convolutions whose 0 differs from output to output are not to be had.
        Form.Quantized form = new Form.Quantized(Affine.integers(q.bits(), conv || q.symmetric(), codes, DType.F32),
                q.axis() < 0 ? -1 : w.outputAxis(), 0, Activations.STATIC, false, false, q.fixed());
        return new OnnxLowering(conv ? Rewrite.CONVOLUTION : Rewrite.INTEGER, form, w.tensor().shape());
    }

    private static OnnxLowering quantized(Site m, Form.Quantized q, boolean microsoft, long opset, long ir) {
        DType type = m.type;
        if (q.bits() < 2 || q.bits() > 8) {
            throw new UnsupportedRequestException("ONNX targets store codes of 2 to 8 bits, not " + q.bits());
        }
        if (m.role.isProduct() && m.replaceable) {
            if (q.activations() == Activations.DYNAMIC && q.block() == 0 && q.bits() > 4 && type == DType.F32 && opset >= INTEGER_OPSET
                    && (!m.table || q.axis() >= 0)) {
                int axis = q.axis() < 0 ? -1 : m.out;
                DType codes = q.type() == DType.I8 ? DType.I8 : DType.U8;
                return new OnnxLowering(m.table ? Rewrite.INTEGER_GATHERED : Rewrite.INTEGER, form(q, axis, 0, Activations.DYNAMIC, codes, type, false, false), m.shape);
            }
            if (microsoft && q.block() > 0 && q.axis() == m.in && type != DType.BF16) {
                int block = m.table ? dividing(q.block(), m.shape.dim(q.axis())) : powerOfTwo(q.block(), m.shape.dim(q.axis()));
                if (block > 0) {
                    return new OnnxLowering(m.table ? Rewrite.NBITS_GATHERED : Rewrite.NBITS, form(q, q.axis(), block,
                            q.activations() == Activations.BLOCKWISE ? Activations.BLOCKWISE : Activations.FLOAT,
                            q.bits() > 4 ? DType.U8 : DType.U4, type, m.in == 0, true), m.shape);
                }
            }
        }
        if (m.role == Role.EMBEDDING && m.replaceable) {
            Shape s = m.shape;
            if (q.bits() > 4) {
                return new OnnxLowering(Rewrite.GATHER, form(q, 0, 0, Activations.FLOAT, q.symmetric() ? DType.I8 : DType.U8, type, false, false), m.shape);
            }
            if (microsoft && s.rank() == 2 && q.block() > 0 && q.axis() == 1 && type != DType.BF16) {
                int block = dividing(q.block(), s.dim(1));
                if (block > 0) {
                    return new OnnxLowering(Rewrite.GATHER_BLOCKS, form(q, 1, block, Activations.FLOAT, DType.U4, type, false, false), m.shape);
                }
            }
            if (opset >= 11 && s.rank() == 2 && s.dim(1) % 2 == 0) {
                int block = q.block() > 0 && q.axis() == 1 ? fitting(s, 1, q.block()) : 0;
                return new OnnxLowering(Rewrite.GATHER,
                        form(q, block > 0 ? 1 : 0, block, Activations.FLOAT, DType.U4, type, false, false), m.shape);
            }
        }
        return general(m, q, opset, ir);
    }

    /** What a sparse form holds is expressed as it would be on its own: the zeros stay in place. */
    private static OnnxLowering sparse(Info info, Form.Sparse s, Tail tail, boolean microsoft, long opset, long ir) {
        OnnxLowering values = of(info, s.values(), tail, microsoft, opset, ir);
        return new OnnxLowering(values.rewrite, s.of(values.form).stored(Storage.MASKED), values.shape);
    }

    private static OnnxLowering factors(Info info, Form.LowRank f, boolean microsoft, long opset, long ir) {
        Weight w = info.weight;
        refuseReaders(info);
        Shape shape = w.tensor().shape();
        boolean transposed = w.role().isProduct() && w.inputAxis() == 1;
        Form.LowRank turned = new Form.LowRank(f.left(), f.right(), f.rank(), transposed);
        Shape l = turned.left(shape);
        Shape r = turned.right(shape);
        if (f.rank() > Math.min(l.dim(0), r.dim(1))) {
            throw new UnsupportedRequestException("rank " + f.rank() + " is more than a matrix " + l.dim(0) + "x" + r.dim(1)
                    + " can have");
        }
        OnnxLowering left = factor(Site.factor(info, l), f.left(), microsoft, opset, ir);
        OnnxLowering right = factor(Site.factor(info, r), f.right(), microsoft, opset, ir);
        return new OnnxLowering(Rewrite.FACTORS, new Form.LowRank(left.form, right.form, f.rank(), transposed), shape,
                List.of(left, right));
    }

    private static OnnxLowering chain(Info info, Form.Chain c, boolean microsoft, long opset, long ir) {
        refuseReaders(info);
        Shape shape = info.weight.tensor().shape();
        List<Shape> shapes = c.shapes(shape);
        List<OnnxLowering> parts = new ArrayList<>();
        for (int i = 0; i < shapes.size(); i++) {
            parts.add(factor(Site.factor(info, shapes.get(i)), c.parts().get(i), microsoft, opset, ir));
        }
        for (Use u : info.value.uses) {
            double visited = 1;
            Attribute strides = u.node().attribute("strides");
            for (long stride : strides == null ? new long[0] : strides.integers) {
                visited *= stride;
            }
            double after = 0;
            for (int i = 0; i < shapes.size(); i++) {
                after += shapes.get(i).elements() * (i == 0 && c.narrows(shape) ? visited : 1);
            }
            long before = shape.elements();
            if (after >= before) {
                throw new UnsupportedRequestException(c.describe() + " would take " + (long) after + " multiplications for each place of a result of "
                        + u.node().label() + ", no fewer than the " + before + " that it takes");
            }
        }
        return new OnnxLowering(Rewrite.CHAIN, c.of(parts.stream().map(OnnxLowering::form).toList()), shape, parts);
    }

    private static OnnxLowering factor(Site m, Form f, boolean microsoft, long opset, long ir) {
        return f.dense() ? dense(Rewrite.DENSE, (Form.Dense) f, m.type, m.shape)
                : quantized(m, f.quantized(), microsoft, opset, ir);
    }

    private static OnnxLowering corrected(Info info, Form.Sum s, boolean microsoft, long opset, long ir) {
        if (info.weight.role() == Role.CONV) {
            throw new UnsupportedRequestException("kernels of convolutions can be factored, but not corrected");
        }
        OnnxLowering factors = factors(info, s.correction(), microsoft, opset, ir);
        OnnxLowering base = quantized(Site.of(info), (Form.Quantized) s.base(), microsoft, opset, ir);
        return new OnnxLowering(Rewrite.CORRECTED, new Form.Sum(base.form, (Form.LowRank) factors.form), base.shape,
                List.of(base, factors.parts.get(0), factors.parts.get(1)));
    }

    /** Throws unless each reader is an operator that several can stand in for. */
    private static void refuseReaders(Info info) {
        Weight w = info.weight;
        if (w.role() != Role.CONV && (!w.role().isProduct() || w.tensor().shape().rank() != 2)) {
            throw new UnsupportedRequestException("matrices of products and kernels of convolutions can be factored, not a "
                    + w.tensor().shape() + " weight of role " + w.role().id());
        }
        if (info.value.output) {
            throw new UnsupportedRequestException("it is an output of the graph as well, which needs it whole");
        }
        for (Use u : info.value.uses) {
            Node n = u.node();
            boolean plain = n.inputs.size() <= 3 && n.outputs.size() == 1 && !n.outputs.get(0).isEmpty() && !n.hasGraphs;
            if (u.input() != 1 || !plain || !n.is("MatMul") && !n.is("Gemm") && !n.is("Conv")) {
                throw new UnsupportedRequestException("the " + n.op + " " + n.label() + " reads it, and only the second "
                        + "operand of MatMul, Gemm and Conv can be factored");
            }
            if (n.integer("group", 1) != 1) {
                throw new UnsupportedRequestException("the convolution " + n.label() + " has " + n.integer("group", 1)
                        + " groups; kernels of a single group can be factored");
            }
        }
    }

    private static OnnxLowering smaller(Weight w, OnnxLowering c) {
        long before = w.tensor().bytes();
        long after = c.form.bytes(w.tensor().shape());
        if (after >= before) {
            throw new UnsupportedRequestException(c.form.describe() + " of " + w.tensor().shape() + " would take " + after
                    + " bytes, no fewer than the " + before + " it has");
        }
        return c;
    }

    /**
     * Values decoded for whatever reads them. ONNX Runtime computes arithmetic of constants once, when it loads the model, but a
     * DequantizeLinear at every run, unless it fuses that with the product that reads it: four bits in blocks, which then cost no
     * more than floats and take the memory of codes. Of eight bits such products are slower than those of floats.
     */
    private static OnnxLowering general(Site m, Form.Quantized q, long opset, long ir) {
        Shape s = m.shape;
        DType type = m.type;
        boolean small = q.bits() <= 4;
        int axis = q.axis();
        int block = q.block();
        boolean fused = small && block > 0 && opset >= 21 && ir >= INT4_IR && m.role.isProduct() && m.replaceable && m.alone
                && s.rank() == 2 && m.in == 0 && axis == 0;
        boolean middle = m.role == Role.RECURRENT && axis > 0 && axis < s.rank() - 1;
        if (middle && block == 0) {
            // Channels are the middle axis, which no matrix view has; blocks along the rows are finer still.
            axis = m.in;
            block = 256;
        }
        if (block > 0 && (axis < 0 || axis >= s.rank())) {
            block = 0;
        }
        if (block > 0 && !fused) {
            block = fitting(s, axis, block);
        }
        if (block == 0 && axis >= 0) {
            axis = middle ? m.in : q.block() > 0 ? m.out : axis;
            if (s.rank() == 0 || axis != 0 && axis != s.rank() - 1) {
                axis = s.rank() > 1 ? 0 : -1;
            }
        }
        DType codes = small ? q.symmetric() && fused ? DType.I4 : DType.U4 : q.symmetric() ? DType.I8 : DType.U8;
        return new OnnxLowering(fused ? Rewrite.DEQUANTIZE : Rewrite.ARITHMETIC,
                form(q, axis, block, Activations.FLOAT, codes, type, false, false), m.shape);
    }

    private static Form form(Form.Quantized q, int axis, int block, Activations activations, DType type, DType scale,
            boolean transposed, boolean padded) {
        // Few runtimes compute in bf16: such weights are decoded as f32 and then converted.
        DType scales = scale == DType.BF16 ? DType.F32 : scale;
        return new Form.Quantized(q.bits(), axis, block, q.symmetric(), activations, type, scales, transposed, padded);
    }

    /** The block that MatMulNBits and its like can have: not above the wanted one, nor needlessly longer than what it cuts. */
    private static int powerOfTwo(int block, long k) {
        int b = Math.max(16, Math.min(256, Integer.highestOneBit(block)));
        while (b > 16 && b / 2 >= k) {
            b /= 2;
        }
        return b;
    }

    /** Such a block that also divides what it cuts; 0 if none does. */
    private static int dividing(int block, long k) {
        int b = powerOfTwo(block, k);
        while (b > 16 && k % b != 0) {
            b /= 2;
        }
        return k % b == 0 ? b : 0;
    }

    /** A block length that divides the axis: the wanted one or the next shorter one, else the next longer; 0 if none. */
    private static int fitting(Shape s, int axis, int wanted) {
        long n = s.dim(axis);
        if (axis < s.rank() - 2) {
            return 0;
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
