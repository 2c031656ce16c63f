package dev.tensorpress.method;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.method.QuantizeMethod.Grain;
import dev.tensorpress.method.Workspace.Slot;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Adds to a quantized weight the best matrix of a rank for what quantization lost: W becomes Q(W) + A B, where A B
 * approximates W - Q(W). Best in the Frobenius norm; or, where statistics are to be gone by, for the product's results on the inputs that
 * those are of: in the norm of S (W - Q(W)), S<sup>T</sup> S being the Gram matrix of the inputs, 0.01 of the mean of its diagonal added
 * to that. Where a bias makes up for what Q does to the mean of the results already, the Gram matrix is that of the inputs less their mean,
 * and the bias gives back what the correction takes on.
 *
 * <p>What rounding leaves has a flat spectrum: expect a rank to take off not much more than its share of the error.
 *
 * @param rank of the correction, at least 1
 * @param factors how the factors are stored
 * @param maxBits 2 to 8: weights with codes of more bits are left as they are
 * @param inputs what is best
 */
public record CorrectMethod(long rank, Storage factors, int maxBits, Inputs inputs) implements Method, Prepared {

    /** How factors are stored. */
    public enum Storage {
        /** In the weight's own type. */
        FLOAT,
        /** In eight bits: a scale per block of 64 inputs if the weight is quantized in blocks, else per output channel. */
        INT8
    }

    /** How much the inputs of a weight count. */
    public enum Inputs {
        /** All alike. */
        EQUAL,
        /** As statistics have seen them. */
        STATISTICS
    }

    private static final Option RANK = new Option("rank", new Option.Whole(1), null, "of the factors");
    private static final Option FACTORS = new Option("factors", Option.Words.of(Storage.values()), "float",
            "how factors are held: in the weight's own type, or in eight bits");
    private static final Option MAX_BITS =
            new Option("max-bits", new Option.Whole(2, 8, 1), "8", "weights quantized to more bits are left as they are");
    private static final Option INPUTS = new Option("inputs", Option.Words.of(Inputs.values()), "equal",
            "how much inputs count: all alike, or as statistics have seen them");
    static final List<Option> OPTIONS = List.of(RANK, FACTORS, MAX_BITS, INPUTS);

    private static final int BLOCK = 64;
    /** Buffers of factors, apart from those of the weight's codes. */
    private static final int PART = 2;

    public CorrectMethod {
        RANK.checked(rank);
        MAX_BITS.checked(maxBits);
    }

    /** A correction of this rank, in the weight's own norm and type. */
    public static CorrectMethod rank(long rank) {
        return new CorrectMethod(rank, Storage.FLOAT, 8, Inputs.EQUAL);
    }

    /** With factors stored like this. */
    public CorrectMethod factors(Storage factors) {
        return new CorrectMethod(rank, factors, maxBits, inputs);
    }

    /** For weights with codes of at most these bits. */
    public CorrectMethod maxBits(int bits) {
        return new CorrectMethod(rank, factors, bits, inputs);
    }

    /** With inputs that count like this. */
    public CorrectMethod inputs(Inputs inputs) {
        return new CorrectMethod(rank, factors, maxBits, inputs);
    }

    @Override
    public String name() {
        return "correct";
    }

    @Override
    public List<Option> options() {
        return OPTIONS;
    }

    @Override
    public boolean uses(String option) {
        return Option.of(OPTIONS, option) != null;
    }

    @Override
    public String get(String option) {
        return switch (option) {
            case "rank" -> Long.toString(rank);
            case "factors" -> factors == Storage.FLOAT ? "float" : "int8";
            case "max-bits" -> Integer.toString(maxBits);
            case "inputs" -> inputs == Inputs.EQUAL ? "equal" : "statistics";
            default -> null;
        };
    }

    @Override
    public Method with(String option, String value) {
        return switch (option) {
            case "rank" -> new CorrectMethod(RANK.whole(value), factors, maxBits, inputs);
            case "factors" -> factors(Storage.values()[FACTORS.word(value)]);
            case "max-bits" -> maxBits((int) MAX_BITS.whole(value));
            case "inputs" -> inputs(Inputs.values()[INPUTS.word(value)]);
            default -> null;
        };
    }

    static Method of(Map<String, String> given) {
        return Methods.of(rank(1), List.of("rank"), given);
    }

    @Override
    public boolean amends() {
        return true;
    }

    @Override
    public boolean dispensable() {
        return true;
    }

    @Override
    public Set<Requirement> requires() {
        return inputs == Inputs.EQUAL ? Set.of() : Set.of(Requirement.STATISTICS);
    }

    @Override
    public Prepared prepare(Evidence evidence) {
        return inputs == Inputs.EQUAL ? this : new PreparedCorrect(this, evidence.statistics());
    }

    @Override
    public CorrectMethod method() {
        return this;
    }

    private QuantizeMethod int8(Form.Quantized base) {
        return new QuantizeMethod(8, base.block() > 0 ? Grain.BLOCK : Grain.CHANNEL, base.block() > 0 ? BLOCK : 0, true,
                QuantizeMethod.Range.ABSMAX, 1, 1, base.activations());
    }

    @Override
    public Form plan(Weight weight, Form current) {
        Form.Quantized base = switch (current.kind()) {
            case QUANTIZED -> (Form.Quantized) current;
            case DENSE, CODEBOOK, TRANSFORMED, HASHED, SPARSE, LOW_RANK, CHAIN, SUM -> throw new UnsupportedRequestException("cannot correct " + current.describe()
                    + ": correct comes after quantize, for weights that are neither pruned nor factorized");
        };
        if (base.bits() > maxBits) {
            throw new NoGainException("codes of " + base.bits() + " bits, more than " + maxBits + ", are left as they are");
        }
        Factors.checkRank(weight, rank);
        Form.Dense dense = new Form.Dense(weight.tensor().dtype());
        Form correction = new Form.LowRank(dense, dense, rank, Factors.matrix(weight).transposed());
        if (factors == Storage.INT8) {
            correction = int8(base).plan(weight, correction);
        }
        return new Form.Sum(base, (Form.LowRank) correction);
    }

    @Override
    public Encoding.Sum apply(Weight weight, Encoding current, Form form, Workspace workspace) {
        return apply(weight, current, form, null, workspace);
    }

    /** @param root of the Gram matrix that the error counts by, or null */
    Encoding.Sum apply(Weight weight, Encoding current, Form form, GramRoot root, Workspace workspace) {
        Form.Sum sum = (Form.Sum) form;
        Encoding.Quantized base = (Encoding.Quantized) current;
        Factors.Matrix m = Factors.matrix(weight);
        MemorySegment residual = workspace.take(Slot.DECODED, DType.F32.bytes(weight.tensor().shape().elements()));
        base.decode(residual, workspace.executor());
        PreparedByInputs.subtract(Factors.f32(weight, workspace), residual, residual, m.rows(), m.cols(), workspace.executor());
        if (root != null) {
            root.multiply(residual, m, workspace);
        }
        Form.Dense dense = new Form.Dense(weight.tensor().dtype());
        Form.LowRank c = sum.correction();
        Encoding.LowRank correction = Factors.of(weight, residual, m, new Form.LowRank(dense, dense, c.rank(), c.transposed()),
                null, Double.POSITIVE_INFINITY, root, workspace);
        if (factors == Storage.INT8) {
            correction = (Encoding.LowRank) int8(base.form()).apply(weight, correction, c, workspace.part(PART));
        }
        return new Encoding.Sum(sum, base, correction);
    }
}
