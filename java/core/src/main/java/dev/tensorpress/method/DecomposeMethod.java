package dev.tensorpress.method;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Polyadic;
import dev.tensorpress.kernel.Tucker;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.Shape;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * The kernel of a convolution as convolutions that follow each other: by a {@link Tucker} decomposition from inputs to fewer channels, over
 * the window, and to outputs; or by a {@link Polyadic} one the same with a window for each channel. Where that takes no less bytes, or no
 * fewer multiplications, the weight is left alone. Depthwise kernels and those of one place are refused, and by targets kernels of groups.
 *
 * <p>With statistics the error counts by the Gram matrix G of the channels that the convolution reads, its patches' Gram matrix summed over
 * the places of a window, 0.01 of the mean of its diagonal added: W R is decomposed, R R<sup>T</sup> = G, and what reads the inputs is divided
 * by R. That takes the places of a window to be independent of each other and alike, which is not so, but needs one root of one matrix.
 *
 * @param by which decomposition
 * @param amount what says how much: {@code rank}, {@code energy}, {@code error}, {@code budget}, {@code multiply-adds} or {@code ranks}; with
 *     {@link By#CP} rank, budget or multiply-adds
 * @param value of that: a rank is at least 1, energy, error and multiply-adds are above 0 and below 1, bytes of a budget at least 0; 0 of {@code ranks}
 * @param inputRank beside a rank of {@link By#TUCKER}: that of the inputs, at least 1; 0 if it is the same
 * @param inputs how much the inputs count
 */
public record DecomposeMethod(By by, String amount, double value, long inputRank, CorrectMethod.Inputs inputs) implements Method {
    /** The decomposition. */
    public enum By { TUCKER, CP }

    private static final Option.Type PART = new Option.Real(0, false, 1, false);
    private static final Option BY = new Option("by", Option.Words.of(By.values()), "tucker",
            "tucker: to fewer channels, over the window, to outputs; cp: the same with a window for each channel");
    private static final Option RANK = new Option("rank", new Option.Whole(1), "",
            "of outputs, and of inputs, as far as there are so many; with cp how many terms");
    private static final Option INPUT_RANK = new Option("input-rank", new Option.Whole(1), "", "beside rank: that of inputs");
    private static final Option ENERGY = new Option("energy", PART, "", "part of the squared Frobenius norm to keep; the fewest elements that do");
    private static final Option ERROR = new Option("error", PART, "",
            "Frobenius norm of the difference by that of the weight; the fewest elements that have no larger one");
    private static final Option BUDGET = new Option("budget", new Option.Whole(0), "",
            "bytes that all kernels of the step may take together: each loses the same part of its energy, with cp of its bytes");
    private static final Option MULTIPLY_ADDS = new Option("multiply-adds", PART, "",
            "part of their multiply-adds that all kernels of the step may take together: each loses the same part of its energy; needs statistics");
    private static final Option RANKS = new Option("ranks", new Option.Words(List.of("vbmf")), "",
            "vbmf: what stands out of noise, by empirical variational Bayes");
    private static final Option INPUTS = new Option("inputs", Option.Words.of(CorrectMethod.Inputs.values()), "equal",
            "how much inputs count: all alike, or as statistics have seen them");
    private static final List<String> AMOUNTS = List.of("rank", "energy", "error", "budget", "multiply-adds", "ranks");
    static final List<Option> OPTIONS = List.of(BY, RANK, INPUT_RANK, ENERGY, ERROR, BUDGET, MULTIPLY_ADDS, RANKS, INPUTS);

    public DecomposeMethod {
        switch (amount) {
            case "rank" -> RANK.checked((long) value);
            case "energy" -> ENERGY.checked(value);
            case "error" -> ERROR.checked(value);
            case "budget" -> BUDGET.checked((long) value);
            case "multiply-adds" -> MULTIPLY_ADDS.checked(value);
            case "ranks" -> { }
            default -> throw new IllegalArgumentException("decompose needs " + Option.any(AMOUNTS));
        }
        if (by == By.CP && !amount.equals("rank") && !together(amount)) {
            throw new IllegalArgumentException("cp needs a rank, a budget or multiply-adds: no spectrum tells how many terms it takes");
        }
        if (inputRank != 0) {
            INPUT_RANK.checked(inputRank);
            if (by == By.CP || !amount.equals("rank")) {
                throw new IllegalArgumentException("input-rank needs a rank of tucker");
            }
        }
    }

    /** Whether it is of all kernels together. */
    private static boolean together(String amount) {
        return amount.equals("budget") || amount.equals("multiply-adds");
    }

    /** So much, by a Tucker decomposition, all inputs alike. */
    public static DecomposeMethod of(String amount, double value) {
        return new DecomposeMethod(By.TUCKER, amount, value, 0, CorrectMethod.Inputs.EQUAL);
    }

    /** By this decomposition. */
    public DecomposeMethod by(By by) {
        return new DecomposeMethod(by, amount, value, inputRank, inputs);
    }

    /** With this rank of inputs. */
    public DecomposeMethod inputRank(long rank) {
        return new DecomposeMethod(by, amount, value, INPUT_RANK.checked(rank), inputs);
    }

    /** With inputs that count like this. */
    public DecomposeMethod inputs(CorrectMethod.Inputs inputs) {
        return new DecomposeMethod(by, amount, value, inputRank, inputs);
    }

    @Override
    public String name() {
        return "decompose";
    }

    @Override
    public List<Option> options() {
        return OPTIONS;
    }

    @Override
    public boolean uses(String option) {
        return option.equals("input-rank") ? by == By.TUCKER && amount.equals("rank") : Option.of(OPTIONS, option) != null;
    }

    @Override
    public String get(String option) {
        return switch (option) {
            case "by" -> by == By.TUCKER ? "tucker" : "cp";
            case "inputs" -> inputs == CorrectMethod.Inputs.EQUAL ? "equal" : "statistics";
            case "input-rank" -> inputRank > 0 ? Long.toString(inputRank) : null;
            default -> !option.equals(amount) ? null : option.equals("ranks") ? "vbmf"
                    : option.equals("rank") || option.equals("budget") ? Long.toString((long) value) : Double.toString(value);
        };
    }

    /** {@inheritDoc} Rank, energy, error, budget, multiply-adds and ranks replace each other. */
    @Override
    public Method with(String option, String text) {
        return switch (option) {
            case "by" -> by(By.values()[BY.word(text)]);
            case "inputs" -> inputs(CorrectMethod.Inputs.values()[INPUTS.word(text)]);
            case "input-rank" -> inputRank(INPUT_RANK.whole(text));
            case "rank" -> new DecomposeMethod(by, option, RANK.whole(text), amount.equals(option) ? inputRank : 0, inputs);
            case "energy" -> replaced(option, ENERGY.real(text));
            case "error" -> replaced(option, ERROR.real(text));
            case "budget" -> replaced(option, BUDGET.whole(text));
            case "multiply-adds" -> replaced(option, MULTIPLY_ADDS.real(text));
            case "ranks" -> replaced(option, RANKS.word(text));
            default -> null;
        };
    }

    private DecomposeMethod replaced(String other, double by) {
        return new DecomposeMethod(this.by, other, by, 0, inputs);
    }

    static Method of(Map<String, String> given) {
        return Methods.of(of("rank", 1), AMOUNTS, given);
    }

    /** The part of the energy that may be lost; of energy and error alone. */
    double allowed() {
        return amount.equals("energy") ? 1 - value : value * value;
    }

    @Override
    public Set<Requirement> requires() {
        Set<Requirement> all = new HashSet<>();
        if (!amount.equals("rank")) {
            all.add(Requirement.WEIGHTS);
        }
        if (inputs == CorrectMethod.Inputs.STATISTICS || amount.equals("multiply-adds")) {
            all.add(Requirement.STATISTICS);
        }
        return all;
    }

    @Override
    public boolean compares() {
        return together(amount);
    }

    @Override
    public boolean dispensable() {
        return true;
    }

    @Override
    public boolean wantsTraining() {
        return true;
    }

    @Override
    public Optional<Form> probe(Weight weight) {
        Shape shape = weight.tensor().shape();
        if (amount.equals("rank") || shape.rank() < 3 || shape.elements() == 0) {
            return Optional.empty();
        }
        return Optional.of(Form.Chain.of(new Form.Dense(weight.tensor().dtype()), 1, 1, by == By.CP, shape));
    }

    @Override
    public Prepared prepare(Evidence evidence) {
        return new PreparedDecompose(this, evidence);
    }

    /**
     * The sides of a kernel.
     *
     * @throws UnsupportedRequestException if a weight is none, or one that is not made of several places and inputs
     */
    static Tucker.Size size(Weight weight) {
        Shape shape = weight.tensor().shape();
        if (!weight.tensor().dtype().compressible()) {
            throw new UnsupportedRequestException("cannot decompose " + new Form.Dense(weight.tensor().dtype()).describe());
        }
        if (weight.role() != Role.CONV || shape.rank() < 3 || weight.inputAxis() != 1 || weight.outputAxis() != 0) {
            throw new UnsupportedRequestException("is no kernel of a convolution");
        }
        if (shape.elements() == 0) {
            throw new UnsupportedRequestException("has no elements");
        }
        long places = shape.elements() / shape.dim(0) / shape.dim(1);
        if (shape.dim(1) == 1) {
            throw new UnsupportedRequestException("each output reads one input: a depthwise kernel has no channels to do without");
        }
        if (places == 1) {
            throw new UnsupportedRequestException("its window is a single place: factorize makes factors of such kernels");
        }
        if (Math.max(shape.dim(0), shape.dim(1)) > 1 << 15) {
            throw new UnsupportedRequestException("its shape is " + shape + "; kernels of up to 32768 outputs and inputs can be decomposed");
        }
        return new Tucker.Size(shape.dim(0), shape.dim(1), places);
    }
}
