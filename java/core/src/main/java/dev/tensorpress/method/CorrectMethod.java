package dev.tensorpress.method;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.method.QuantizeMethod.Grain;
import dev.tensorpress.method.Workspace.Slot;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * Adds to a quantized weight the best matrix of a rank for what quantization lost: W becomes Q(W) + A B, where A B
 * approximates W - Q(W). Best in the Frobenius norm; or, with weights d of the inputs, in that of diag(d) (W - Q(W)), whose
 * factors are those of the scaled residual with diag(d)<sup>-1</sup> taken back into the left one. If d holds the root
 * mean squares of the inputs, and those are about uncorrelated, this is the least error of the product's results.
 *
 * <p>What rounding leaves has a flat spectrum: expect a rank to take off not much more than its share of the error.
 *
 * @param rank of the correction, at least 1
 * @param factors how the factors are stored
 * @param maxBits 2 to 8: weights with codes of more bits are left as they are
 * @param inputs by name of the weight, a positive number for each index of its input axis; weights that are not there are
 *     corrected in their own norm. Passes are equal only if these are the same arrays
 */
public record CorrectMethod(long rank, Storage factors, int maxBits, Map<String, double[]> inputs) implements Method, Prepared {

    /** How factors are stored. */
    public enum Storage {
        /** In the weight's own type. */
        FLOAT,
        /** In eight bits: a scale per block of 64 inputs if the weight is quantized in blocks, else per output channel. */
        INT8
    }

    private static final Option RANK = new Option("rank", new Option.Whole(1), null, "of the factors");
    private static final Option FACTORS = new Option("factors", Option.Words.of(Storage.values()), "float",
            "how factors are held: in the weight's own type, or in eight bits");
    private static final Option MAX_BITS =
            new Option("max-bits", new Option.Whole(2, 8, 1), "8", "weights quantized to more bits are left as they are");
    static final List<Option> OPTIONS = List.of(RANK, FACTORS, MAX_BITS);

    private static final int BLOCK = 64;
    /** Buffers of factors, apart from those of the weight's codes. */
    private static final int PART = 2;

    public CorrectMethod {
        RANK.checked(rank);
        MAX_BITS.checked(maxBits);
        Map<String, double[]> copies = new HashMap<>();
        for (Map.Entry<String, double[]> entry : inputs.entrySet()) {
            for (double d : entry.getValue()) {
                if (!(d > 0 && d < Double.POSITIVE_INFINITY)) {
                    throw new IllegalArgumentException(
                            "weights of inputs must be positive and finite, but one of " + entry.getKey() + " is " + d);
                }
            }
            copies.put(entry.getKey(), entry.getValue().clone());
        }
        inputs = Map.copyOf(copies);
    }

    /** A correction of this rank, in the weight's own norm and type. */
    public static CorrectMethod rank(long rank) {
        return new CorrectMethod(rank, Storage.FLOAT, 8, Map.of());
    }

    /** With factors stored like this. */
    public CorrectMethod factors(Storage factors) {
        return new CorrectMethod(rank, factors, maxBits, inputs);
    }

    /** For weights with codes of at most these bits. */
    public CorrectMethod maxBits(int bits) {
        return new CorrectMethod(rank, factors, bits, inputs);
    }

    /** With these weights of the inputs, by name of the weight. */
    public CorrectMethod inputs(Map<String, double[]> inputs) {
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
            default -> null;
        };
    }

    @Override
    public Method with(String option, String value) {
        return switch (option) {
            case "rank" -> new CorrectMethod(RANK.whole(value), factors, maxBits, inputs);
            case "factors" -> factors(Storage.values()[FACTORS.word(value)]);
            case "max-bits" -> maxBits((int) MAX_BITS.whole(value));
            default -> null;
        };
    }

    static Method of(Map<String, String> given) {
        return Methods.of(rank(1), List.of("rank"), given);
    }

    /** {@inheritDoc} Weights of inputs only Java can say. */
    @Override
    public String remark() {
        if (inputs.isEmpty()) {
            return "";
        }
        MessageDigest sha;
        try {
            sha = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e); // every Java has it
        }
        for (Map.Entry<String, double[]> e : new TreeMap<>(inputs).entrySet()) {
            byte[] name = e.getKey().getBytes(StandardCharsets.UTF_8);
            ByteBuffer b = ByteBuffer.allocate(8 + name.length + 8 * e.getValue().length);
            b.putInt(name.length).put(name).putInt(e.getValue().length);
            for (double d : e.getValue()) {
                b.putDouble(d);
            }
            sha.update(b.flip());
        }
        return "weights of inputs: SHA-256 " + HexFormat.of().formatHex(sha.digest());
    }

    @Override
    public boolean dispensable() {
        return true;
    }

    @Override
    public CorrectMethod prepare(Evidence evidence) {
        return this;
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
            case DENSE, SPARSE, LOW_RANK, SUM -> throw new UnsupportedRequestException("cannot correct " + current.describe()
                    + ": correct comes after quantize, for weights that are neither pruned nor factorized");
        };
        if (base.bits() > maxBits) {
            throw new NoGainException("codes of " + base.bits() + " bits, more than " + maxBits + ", are left as they are");
        }
        Factors.checkRank(weight, rank);
        double[] d = inputs.get(weight.name());
        if (d != null && (weight.inputAxis() < 0 || d.length != weight.tensor().shape().dim(weight.inputAxis()))) {
            throw new IllegalArgumentException("there are " + d.length + " weights for the inputs of " + weight.name()
                    + ", a " + weight.tensor().shape() + " weight with input axis " + weight.inputAxis());
        }
        Form.Dense dense = new Form.Dense(weight.tensor().dtype());
        Form correction = new Form.LowRank(dense, dense, rank, Factors.matrix(weight).transposed());
        if (factors == Storage.INT8) {
            correction = int8(base).plan(weight, correction);
        }
        return new Form.Sum(base, (Form.LowRank) correction);
    }

    @Override
    public Encoding apply(Weight weight, Encoding current, Form form, Workspace workspace) {
        Form.Sum sum = (Form.Sum) form;
        Encoding.Quantized base = (Encoding.Quantized) current;
        Factors.Matrix m = Factors.matrix(weight);
        MemorySegment residual = workspace.take(Slot.DECODED, DType.F32.bytes(weight.tensor().shape().elements()));
        base.decode(residual, workspace.executor());
        double[] d = ratios(inputs.get(weight.name()));
        subtract(Factors.f32(weight, workspace), residual, m, d, workspace.executor());
        Form.Dense dense = new Form.Dense(weight.tensor().dtype());
        Form.LowRank c = sum.correction();
        Encoding.LowRank correction = Factors.of(weight, residual, m, new Form.LowRank(dense, dense, c.rank(), c.transposed()),
                null, Double.POSITIVE_INFINITY, d, workspace);
        if (factors == Storage.INT8) {
            correction = (Encoding.LowRank) int8(base.form()).apply(weight, correction, c, workspace.part(PART));
        }
        return new Encoding.Sum(sum, base, correction);
    }

    /** Only their ratios count: at most 1, they take nothing out of range. */
    private static double[] ratios(double[] d) {
        if (d == null) {
            return null;
        }
        double largest = 0;
        for (double x : d) {
            largest = Math.max(largest, x);
        }
        double[] ratios = new double[d.length];
        for (int i = 0; i < d.length; i++) {
            ratios[i] = d[i] / largest;
        }
        return ratios;
    }

    /** What is missing in {@code decoded}, scaled by inputs, takes its place. */
    private static void subtract(MemorySegment original, MemorySegment decoded, Factors.Matrix m, double[] d,
            Executor executor) {
        long cols = m.cols();
        executor.run(m.rows(), 1, Executor.worth(cols), (begin, end, worker) -> {
            for (long i = begin; i < end; i++) {
                for (long j = 0; j < cols; j++) {
                    long at = i * cols + j;
                    float missing = original.getAtIndex(ValueLayout.JAVA_FLOAT, at)
                            - decoded.getAtIndex(ValueLayout.JAVA_FLOAT, at);
                    double scale = d == null ? 1 : d[(int) (m.transposed() ? j : i)];
                    decoded.setAtIndex(ValueLayout.JAVA_FLOAT, at, (float) (missing * scale));
                }
            }
        });
    }
}
