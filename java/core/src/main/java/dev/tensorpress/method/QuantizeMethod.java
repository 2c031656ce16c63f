package dev.tensorpress.method;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.encoding.Form.Activations;
import dev.tensorpress.kernel.KernelException;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/**
 * Floats to integer codes with shared scales: round to nearest, the range of a group found by its largest magnitude
 * (symmetric) or its smallest and largest value (asymmetric), or narrowed to the least squared error over a grid.
 *
 * <p>0 has a code of its own in every mode. So the zeros of a pruned weight stay exact zeros, and since every range
 * includes 0, they have no part in the scales.
 *
 * <p>A weight in factors has each of them quantized as a matrix of its own, [in, rank] and [rank, out], blocks along the
 * first axis, and no longer than it takes for that; of convolutions along the second, of [out, rank] and [rank, in].
 *
 * @param bits 2 to 8
 * @param grain what shares a scale
 * @param block elements per scale along the input axis if the grain is a block, else 0
 * @param symmetric zero point fixed at the middle of the codes
 * @param range what the largest magnitude of a group becomes if symmetric, unless ranges are sought
 * @param clipSteps ratios to try, 1 for none; see {@code tp_quant} in {@code tensorpress/quantize.h}
 * @param clipMin smallest ratio
 * @param consumers what products with the weight do
 * @param scale which scales there are: of powers of two, those next to the range's are tried, and with a clip search each half again
 *     down to {@code clipMin}, {@code clipSteps} having no part in it
 * @param importance what a squared error counts where ranges are tried; of any, only if they are
 */
public record QuantizeMethod(int bits, Grain grain, int block, boolean symmetric, Range range, int clipSteps, float clipMin,
        Consumers consumers, Scale scale, Importance importance) implements Method, Prepared {

    private static final int LEFT = 0;
    private static final int RIGHT = 1;

    /** What shares a scale. */
    public enum Grain { TENSOR, CHANNEL, BLOCK }

    /** What the largest magnitude of a group becomes: of eight bits, ... */
    public enum Range {
        /** 127: the lowest code is not used, and no value is clamped. */
        ABSMAX,
        /** 127.5, as compressed-tensors has it: all codes are used, the largest value is clamped by half a step if positive. */
        FULL,
        /**
         * Nothing that is fixed: scales, and zero points if there are any, are those of the least l<sub>p</sub> norm of the error, p = 3/4,
         * by half-quadratic quantization (HQQ). A clip search has no part in it. Of channels and blocks, and with any scales.
         */
        HQQ;

        /** Lower case, as in recipes. */
        public String id() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    /** How codes of products in integers are held. It decides where they run fast and where they are exact. */
    public enum Weights {
        /** As is exact on every processor. */
        AUTO,
        /** Signed: in ONNX Runtime fast, and exact where there is VNNI. Without it sums of two products saturate. */
        S8,
        /** Unsigned: exact everywhere. */
        U8,
        /** Signed, at most seven bits in use: as fast as S8, and exact everywhere. */
        S7;

        /** Lower case, as in recipes. */
        public String id() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    /**
     * What products with a weight do.
     *
     * @param activations with their other operand
     * @param weights how codes are held if products are in integers
     * @param range of codes of activations that are static
     * @param noise that these may make of a convolution's results, as part of their variance; convolutions with more stay in floats
     */
    public record Consumers(Activations activations, Weights weights, ValueRange range, double noise) {
        /** With all else as it is by default. */
        static Consumers of(Activations activations) {
            return new Consumers(activations, Weights.AUTO, new ValueRange(ValueRange.Rule.MSE, Double.parseDouble(PERCENTILE.fallback())), INPUT_NOISE);
        }

        private boolean inIntegers() {
            return activations == Activations.DYNAMIC || activations == Activations.STATIC;
        }
    }

    /** Which scales there are. */
    public enum Scale {
        /** Any number. */
        ANY,
        /** Powers of two: values are fixed-point numbers. */
        POWER_OF_TWO
    }

    /** What a squared error counts where ranges are tried. */
    public enum Importance {
        /** All alike. */
        NONE,
        /** As the mean square of the input that the element is multiplied with, which statistics have. */
        INPUTS
    }

    private static final Option BITS = new Option("bits", new Option.Whole(2, 8, 1), "8", "of a code");
    private static final Option BLOCK = new Option("block", new Option.Whole(16, 256, 16), "",
            "elements of the input axis, of tables elements of a row, that share a scale");
    private static final Option PER = new Option("per", new Option.Words(List.of("tensor", "channel")), "channel",
            "what shares a scale, instead of a block");
    private static final Option SYMMETRIC = new Option("symmetric", Option.Words.SWITCH, "true",
            "true: the zero point is fixed; false: there is one beside each scale");
    private static final Option RANGE = new Option("range", Option.Words.of(Range.values()), "absmax",
            "what the largest magnitude of a group becomes, if symmetric: the highest code, or half a code more; hqq: the range is sought");
    private static final Option CLIP_STEPS = new Option("steps", new Option.Whole(1, 64, 1), null, "how many ranges are tried");
    private static final Option CLIP_MIN = new Option("min", new Option.Real(0, false, 1, true), "0.5", "the smallest, of the full one");
    private static final Option CLIP = new Option("clip",
            new Option.Text("none, STEPS or STEPS:MIN", false, "", List.of(CLIP_STEPS, CLIP_MIN)), "none",
            "ranges to try, from the full one down to MIN of it; the one with the least squared error is kept");
    private static final Option ACTIVATIONS = new Option("activations", Option.Words.of(Activations.values()), "float",
            "what a product with the weight does with its other operand");
    private static final Option WEIGHTS = new Option("weights", Option.Words.of(Weights.values()), "auto",
            "how ONNX holds codes of products in integers, if activations are dynamic or static");
    private static final Option INPUT_RANGE = new Option("input-range", Option.Words.of(ValueRange.Rule.values()), "mse",
            "which part of the elements that calibration has seen gets codes, if activations are static");
    private static final Option PERCENTILE = new Option("percentile", new Option.Real(50, false, 100, true), "99.99",
            "of the elements, half of the rest at each end, if that is the range of inputs");
    private static final double INPUT_NOISE = 0.02;
    private static final Option NOISE = new Option("noise", new Option.Real(0, true, 1, true), Double.toString(INPUT_NOISE),
            "that static codes may make of a convolution's results, as part of their variance; those with more stay in floating point");
    private static final Option SCALE = new Option("scale", new Option.Words(List.of("any", "power-of-two")), "any",
            "which scales there are; powers of two make fixed-point numbers");
    private static final Option IMPORTANCE = new Option("importance", Option.Words.of(Importance.values()), "none",
            "what errors count where ranges are tried: all alike, or as the squares of the inputs that meet them");
    static final List<Option> OPTIONS = List.of(BITS, BLOCK, PER, SYMMETRIC, RANGE, CLIP, SCALE, IMPORTANCE, ACTIVATIONS, WEIGHTS, INPUT_RANGE, PERCENTILE, NOISE);

    public QuantizeMethod {
        BITS.checked(bits);
        if (grain == Grain.BLOCK) {
            BLOCK.checked(block);
        } else if (block != 0) {
            throw new IllegalArgumentException("only the grain of blocks has a block, but it is " + block);
        }
        try {
            CLIP_STEPS.checked(clipSteps);
            CLIP_MIN.checked((double) clipMin);
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException("clip: " + e.getMessage(), e);
        }
        if (range == Range.HQQ && (grain == Grain.TENSOR || scale == Scale.POWER_OF_TWO)) {
            throw new IllegalArgumentException("range: hqq seeks any scales, of channels or blocks");
        }
    }

    /** With codes of products in integers held as is exact on every processor. */
    public QuantizeMethod(int bits, Grain grain, int block, boolean symmetric, Range range, int clipSteps, float clipMin,
            Activations activations) {
        this(bits, grain, block, symmetric, range, clipSteps, clipMin, Consumers.of(activations), Scale.ANY, Importance.NONE);
    }

    /** Eight bits, symmetric, one scale per output channel. */
    public static QuantizeMethod int8() {
        return new QuantizeMethod(8, Grain.CHANNEL, 0, true, Range.ABSMAX, 1, 1, Activations.FLOAT);
    }

    /** Four bits, symmetric, one scale per block of 32. */
    public static QuantizeMethod int4() {
        return new QuantizeMethod(4, Grain.BLOCK, 32, true, Range.ABSMAX, 1, 1, Activations.FLOAT);
    }

    public QuantizeMethod perChannel() {
        return new QuantizeMethod(bits, Grain.CHANNEL, 0, symmetric, range, clipSteps, clipMin, consumers, scale, importance);
    }

    public QuantizeMethod perTensor() {
        return new QuantizeMethod(bits, Grain.TENSOR, 0, symmetric, range, clipSteps, clipMin, consumers, scale, importance);
    }

    public QuantizeMethod perBlock(int size) {
        return new QuantizeMethod(bits, Grain.BLOCK, size, symmetric, range, clipSteps, clipMin, consumers, scale, importance);
    }

    public QuantizeMethod asymmetric() {
        return new QuantizeMethod(bits, grain, block, false, range, clipSteps, clipMin, consumers, scale, importance);
    }

    public QuantizeMethod range(Range range) {
        return new QuantizeMethod(bits, grain, block, symmetric, range, clipSteps, clipMin, consumers, scale, importance);
    }

    public QuantizeMethod clipSearch(int steps, float smallest) {
        return new QuantizeMethod(bits, grain, block, symmetric, range, steps, smallest, consumers, scale, importance);
    }

    /** With these scales. */
    public QuantizeMethod scale(Scale scale) {
        return new QuantizeMethod(bits, grain, block, symmetric, range, clipSteps, clipMin, consumers, scale, importance);
    }

    /** With errors that count like this where ranges are tried. */
    public QuantizeMethod importance(Importance importance) {
        return new QuantizeMethod(bits, grain, block, symmetric, range, clipSteps, clipMin, consumers, scale, importance);
    }

    /** With activations treated like this by the products that use the weight. */
    public QuantizeMethod activations(Activations activations) {
        return consumers(new Consumers(activations, consumers.weights, consumers.range, consumers.noise));
    }

    /** What products with the weight do with their other operand. */
    public Activations activations() {
        return consumers.activations;
    }

    /** With codes of products in integers held like this. */
    public QuantizeMethod weights(Weights weights) {
        return consumers(new Consumers(consumers.activations, weights, consumers.range, consumers.noise));
    }

    /** How codes of products in integers are held. */
    public Weights weights() {
        return consumers.weights;
    }

    private QuantizeMethod consumers(Consumers changed) {
        return new QuantizeMethod(bits, grain, block, symmetric, range, clipSteps, clipMin, changed, scale, importance);
    }

    @Override
    public String name() {
        return "quantize";
    }

    @Override
    public Set<Requirement> requires() {
        return activations() == Activations.STATIC || counts() ? Set.of(Requirement.STATISTICS) : Set.of();
    }

    /** Whether ranges are tried, by what errors do to products. */
    boolean counts() {
        return importance == Importance.INPUTS && searches();
    }

    /** Whether several ranges are tried. */
    private boolean searches() {
        return range != Range.HQQ && (clipSteps > 1 || scale == Scale.POWER_OF_TWO);
    }

    @Override
    public List<Option> options() {
        return OPTIONS;
    }

    @Override
    public boolean uses(String option) {
        return switch (option) {
            case "block" -> grain == Grain.BLOCK;
            case "range" -> symmetric || range == Range.HQQ;
            case "weights" -> consumers.inIntegers();
            case "input-range", "noise" -> activations() == Activations.STATIC;
            case "percentile" -> activations() == Activations.STATIC && consumers.range.rule() == ValueRange.Rule.PERCENTILE;
            case "importance" -> searches();
            case "clip" -> range != Range.HQQ;
            case "bits", "per", "symmetric", "scale", "activations" -> true;
            default -> false;
        };
    }

    @Override
    public String get(String option) {
        return switch (option) {
            case "bits" -> Integer.toString(bits);
            case "block" -> grain == Grain.BLOCK ? Integer.toString(block) : null;
            case "per" -> grain == Grain.BLOCK ? null : grain == Grain.TENSOR ? "tensor" : "channel";
            case "symmetric" -> Boolean.toString(symmetric);
            case "range" -> range.id();
            case "clip" -> clipSteps == 1 && clipMin == 1 ? "none" : clipSteps + ":" + clipMin;
            case "scale" -> scale == Scale.ANY ? "any" : "power-of-two";
            case "importance" -> importance.name().toLowerCase(Locale.ROOT);
            case "activations" -> activations().id();
            case "weights" -> weights().id();
            case "input-range" -> consumers.range.rule().name().toLowerCase(Locale.ROOT);
            case "percentile" -> Double.toString(consumers.range.percentile());
            case "noise" -> Double.toString(consumers.noise);
            default -> null;
        };
    }

    /** {@inheritDoc} Block and per replace each other. */
    @Override
    public Method with(String option, String value) {
        return switch (option) {
            case "bits" -> new QuantizeMethod((int) BITS.whole(value), grain, block, symmetric, range, clipSteps, clipMin, consumers, scale, importance);
            case "block" -> perBlock((int) BLOCK.whole(value));
            case "per" -> PER.word(value) == 0 ? perTensor() : perChannel();
            case "symmetric" -> new QuantizeMethod(bits, grain, block, SYMMETRIC.on(value), range, clipSteps, clipMin, consumers, scale, importance);
            case "range" -> range(Range.values()[RANGE.word(value)]);
            case "clip" -> clip(value);
            case "scale" -> scale(Scale.values()[SCALE.word(value)]);
            case "importance" -> importance(Importance.values()[IMPORTANCE.word(value)]);
            case "activations" -> activations(Activations.values()[ACTIVATIONS.word(value)]);
            case "weights" -> weights(Weights.values()[WEIGHTS.word(value)]);
            case "input-range" -> range(new ValueRange(ValueRange.Rule.values()[INPUT_RANGE.word(value)], consumers.range.percentile()));
            case "percentile" -> range(new ValueRange(consumers.range.rule(), PERCENTILE.real(value)));
            case "noise" -> consumers(new Consumers(activations(), weights(), consumers.range, NOISE.real(value)));
            default -> null;
        };
    }

    private QuantizeMethod range(ValueRange changed) {
        return consumers(new Consumers(activations(), weights(), changed, consumers.noise));
    }

    private QuantizeMethod clip(String value) {
        if (value.equals("none")) {
            return clipSearch(1, 1);
        }
        int colon = value.indexOf(':');
        int steps;
        float least;
        try {
            steps = Integer.parseInt(colon < 0 ? value : value.substring(0, colon));
            least = Float.parseFloat(colon < 0 ? CLIP_MIN.fallback() : value.substring(colon + 1));
        } catch (NumberFormatException e) {
            throw CLIP.wrong("'" + value + "'");
        }
        return clipSearch(steps, least);
    }

    static Method of(Map<String, String> given) {
        exclusive(given);
        return Methods.with(int8(), given);
    }

    static void exclusive(Map<String, String> given) {
        if (given.containsKey("block") && given.containsKey("per")) {
            throw new OptionException("per", "'block' and 'per' exclude each other");
        }
    }

    @Override
    public boolean makesCodes() {
        return true;
    }

    @Override
    public Prepared prepare(Evidence evidence) {
        return withActivations(codes(evidence.statistics()), evidence);
    }

    /** Codes of weights, without those of activations. */
    Prepared codes(InputStatistics statistics) {
        return counts() ? new PreparedQuantize(this, statistics) : this;
    }

    /** With codes of activations if these are static. */
    Prepared withActivations(Prepared codes, Evidence evidence) {
        return activations() != Activations.STATIC ? codes
                : new PreparedStatic(codes, new StaticActivations(consumers.range, consumers.noise, evidence));
    }

    @Override
    public QuantizeMethod method() {
        return this;
    }

    @Override
    public String note(Weight weight, Form form) {
        return importance == Importance.INPUTS && !searches() ? "importance means nothing where no ranges are tried" : "";
    }

    @Override
    public boolean powersOfTwo() {
        return scale == Scale.POWER_OF_TWO;
    }

    @Override
    public Form plan(Weight weight, Form current) {
        Shape shape = weight.tensor().shape();
        return switch (current.kind()) {
            case DENSE -> {
                if (!weight.tensor().dtype().compressible()) {
                    throw refused(current);
                }
                yield form(weight.role(), shape, weight.inputAxis(), weight.outputAxis());
            }
            case SPARSE -> current.sparse().of(plan(weight, current.values()));
            case LOW_RANK -> {
                Form.LowRank f = current.factors();
                if (!f.left().dense() || !f.right().dense()) {
                    throw refused(current);
                }
                yield new Form.LowRank(factor(weight, f.left(shape)), factor(weight, f.right(shape)), f.rank(), f.transposed());
            }
            case CHAIN -> {
                Form.Chain c = current.chain();
                List<Form> parts = new ArrayList<>();
                List<Shape> shapes = c.shapes(shape);
                for (int i = 0; i < shapes.size(); i++) {
                    if (!c.parts().get(i).dense()) {
                        throw refused(current);
                    }
                    // Windows of single channels are small, and their codes would lose most.
                    parts.add(c.depthwise() && i == 1 ? c.parts().get(i) : form(weight.role(), shapes.get(i), 1, 0));
                }
                yield c.of(parts);
            }
            case QUANTIZED, CODEBOOK, TRANSFORMED, HASHED, SUM -> throw refused(current);
        };
    }

    private static UnsupportedRequestException refused(Form current) {
        return new UnsupportedRequestException("cannot quantize " + current.describe());
    }

    /** Factors of products are summed over along their first axis, those of kernels along their second. */
    private Form.Quantized factor(Weight weight, Shape shape) {
        int in = weight.role() == Role.CONV ? 1 : 0;
        int size = block;
        // Few ranks fill no long block.
        while (size > 16 && size % 32 == 0 && size / 2 >= shape.dim(in)) {
            size /= 2;
        }
        return (size == block ? this : perBlock(size)).form(weight.role(), shape, in, 1 - in);
    }

    private Form.Quantized form(Role role, Shape shape, int in, int out) {
        if (shape.elements() == 0) {
            throw new UnsupportedRequestException("has no elements");
        }
        if (grain != Grain.TENSOR && shape.rank() < 2) {
            throw new UnsupportedRequestException("has no channels: its shape is " + shape);
        }
        int axis = switch (grain) {
            case TENSOR -> -1;
            case CHANNEL -> out;
            // Rows of tables are looked up, not summed: their blocks lie along the row.
            case BLOCK -> role == Role.EMBEDDING ? shape.rank() - 1 : in;
        };
        if (axis < 0 && grain != Grain.TENSOR) {
            throw new UnsupportedRequestException("role " + role.id() + " has no "
                    + (grain == Grain.BLOCK ? "input" : "output") + " axis to quantize along");
        }
        // Signed or not, and how it lies in the file, is the target's to say, but for products in integers.
        boolean integers = consumers.inIntegers();
        DType type = bits <= 4 ? DType.I4 : integers && (weights() == Weights.AUTO || weights() == Weights.U8) ? DType.U8 : DType.I8;
        int used = integers && weights() == Weights.S7 ? Math.min(bits, 7) : bits;
        // What is static is known where statistics are.
        return new Form.Quantized(used, axis, block, symmetric, activations() == Activations.STATIC ? Activations.FLOAT : activations(), type,
                DType.F32, false, false);
    }

    /** {@inheritDoc} So it is if each group lies within a row. */
    @Override
    public boolean byRows(Weight weight, Form form) {
        Shape shape = weight.tensor().shape();
        return switch (form.kind()) {
            case QUANTIZED -> {
                Form.Quantized q = form.quantized();
                yield shape.rank() > 0 && q.axis() >= 0 && !q.transposed() && q.grid(shape).groupRows() == 1;
            }
            case DENSE, CODEBOOK, TRANSFORMED, HASHED, SPARSE, LOW_RANK, CHAIN, SUM -> false;
        };
    }

    private Quantize.Range kernelRange(boolean symmetric) {
        return !symmetric ? Quantize.Range.MINMAX : range == Range.FULL ? Quantize.Range.ABSMAX_FULL : Quantize.Range.ABSMAX;
    }

    @Override
    public Encoding apply(Weight weight, Encoding current, Form form, Workspace workspace) {
        return switch (current.kind()) {
            case DENSE -> apply(weight, ((Encoding.Dense) current).tensor(), (Form.Quantized) form, workspace);
            case SPARSE -> new Encoding.Sparse((Form.Sparse) form, apply(weight, current.values(), form.values(), workspace));
            case LOW_RANK -> {
                // Two encodings at once: each has buffers of its own.
                Encoding.LowRank f = current.factors();
                Form.LowRank wanted = form.factors();
                yield new Encoding.LowRank(wanted, f.shape(),
                        apply(weight, f.left(), wanted.left(), workspace.part(LEFT)),
                        apply(weight, f.right(), wanted.right(), workspace.part(RIGHT)), f.certificate());
            }
            case CHAIN -> {
                // As many encodings at once.
                Encoding.Chain c = (Encoding.Chain) current;
                Form.Chain wanted = form.chain();
                List<Encoding> parts = new ArrayList<>();
                for (int i = 0; i < c.parts().size(); i++) {
                    Form part = wanted.parts().get(i);
                    parts.add(part.dense() ? c.parts().get(i) : apply(weight, c.parts().get(i), part, workspace.part(i)));
                }
                yield new Encoding.Chain(wanted, c.shape(), parts, c.result());
            }
            case QUANTIZED, CODEBOOK, TRANSFORMED, HASHED, SUM -> throw new IllegalStateException("no plan quantizes " + current.form().describe());
        };
    }

    private Encoding apply(Weight weight, Tensor in, Form.Quantized q, Workspace workspace) {
        return apply(weight, in, q, Quantize.Importance.NONE, workspace);
    }

    /** @param importance of the rows or columns of the form's {@link Form.Grid} */
    Encoding.Quantized apply(Weight weight, Tensor in, Form.Quantized q, Quantize.Importance importance, Workspace workspace) {
        Quantize.Spec spec = q.spec(in.dtype(), in.shape()).range(kernelRange(q.symmetric())).importance(importance);
        if (range == Range.HQQ) {
            Encoding.Quantized first = encode(weight, in, q, spec, workspace);
            MemorySegment scales = workspace.take(Workspace.Slot.SCALES, DType.F32.bytes(first.scales().shape().elements()));
            HalfQuadratic.refine(q, in.shape(), Factors.f32(weight.over(in), workspace), scales,
                    q.symmetric() ? MemorySegment.NULL : first.zeros().data(), workspace.executor());
            return encodeExact(weight, in, q, workspace);
        }
        return encode(weight, in, q, scale == Scale.ANY ? spec.clip(clipSteps, clipMin) : spec.powersOfTwo(powers()), workspace);
    }

    /** How many powers of two are tried: the two next to the range's at least, else down to the first not above the smallest ratio. */
    private int powers() {
        int n = 2;
        for (float ratio = 0.5f; clipSteps > 1 && ratio > clipMin && n < 64; ratio /= 2) {
            n++;
        }
        return n;
    }

    /** Codes of elements that are all multiples of the scales which {@link #apply} has left in the workspace. */
    static Encoding.Quantized encodeExact(Weight weight, Tensor in, Form.Quantized q, Workspace workspace) {
        return encode(weight, in, q, q.spec(in.dtype(), in.shape()).range(Quantize.Range.GIVEN), workspace);
    }

    private static Encoding.Quantized encode(Weight weight, Tensor in, Form.Quantized q, Quantize.Spec spec, Workspace workspace) {
        Shape shape = in.shape();
        long groups = q.grid(shape).groups();
        DType zeroType = q.type().signed() ? DType.I8 : DType.U8;
        MemorySegment codes = workspace.take(Workspace.Slot.CODES, q.codeBytes(shape));
        MemorySegment scales = workspace.take(Workspace.Slot.SCALES, DType.F32.bytes(groups));
        MemorySegment zeros = q.symmetric() ? MemorySegment.NULL : workspace.take(Workspace.Slot.ZEROS, groups);
        try {
            Quantize.quantize(spec, in.data(), codes, scales, zeros, workspace.executor());
        } catch (KernelException e) {
            throw NonFiniteWeightException.of(e, weight);
        }
        MemorySegment stored = scales;
        if (q.scaleType() != DType.F32) {
            stored = workspace.take(Workspace.Slot.STORED_SCALES, q.scaleType().bytes(groups));
            Quantize.convert(DType.F32, scales, groups, q.scaleType(), stored, workspace.executor());
        }
        Shape across = Shape.of(groups);
        return new Encoding.Quantized(q, shape, new Tensor(q.type(), q.codes(shape), codes),
                new Tensor(q.scaleType(), across, stored), q.symmetric() ? null : new Tensor(zeroType, across, zeros));
    }
}
