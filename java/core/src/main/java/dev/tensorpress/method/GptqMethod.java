package dev.tensorpress.method;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.Weight;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Quantization whose codes change least what products make of their inputs, instead of the weight itself. Ranges are those of
 * {@link QuantizeMethod}. Then each error of rounding is made up for by the elements that are rounded after it (GPTQ, Frantar et al.
 * 2022), and in the end each code is moved to the best one beside all others, over and over (coordinate descent: QuantEase, Behdin et
 * al. 2023). The loss is the sum over outputs of e<sup>T</sup> H e, e being the errors of an output's elements and H = X<sup>T</sup> X
 * the Gram matrix of the inputs, which statistics hold.
 *
 * <p>The codes have the form that {@link QuantizeMethod} would give the weight, so whatever takes the one takes the other. Zeros of a
 * pruned weight stay. Bits are the same for any number of threads.
 *
 * @param codes the form, and how ranges are found
 * @param damping of the mean of H's diagonal, added to all of it: 0.01 in the paper; more where samples are few
 * @param order whether inputs with the largest diagonal are rounded first ("act-order"); otherwise in their own order
 * @param descent sweeps of coordinate descent at most; it ends earlier when nothing moves
 * @param bias whether a product's bias takes on what the codes do to the mean of its results, so that H is that of the inputs less their
 *     mean; where a product has none of its own, H stays what it is
 */
public record GptqMethod(QuantizeMethod codes, double damping, boolean order, int descent, boolean bias) implements Method {
    static final Option DAMPING = new Option("damping", new Option.Real(0, true, 1, true), "0.01",
            "added to the diagonal of the inputs' Gram matrix, as part of its mean");
    private static final Option ORDER = new Option("order", Option.Words.SWITCH, "true",
            "true: the largest inputs are rounded first; false: in their own order");
    private static final Option DESCENT = new Option("descent", new Option.Whole(0, 1000, 1), "30",
            "sweeps of coordinate descent at most, after which nothing moves or it ends");
    private static final Option BIAS = new Option("bias", Option.Words.SWITCH, "true",
            "true: the bias of a product makes up for what its codes do to the mean of the results; false: it stays");
    static final List<Option> OPTIONS = options(QuantizeMethod.OPTIONS);

    private static List<Option> options(List<Option> ofCodes) {
        List<Option> all = new ArrayList<>(ofCodes);
        all.addAll(List.of(DAMPING, ORDER, DESCENT, BIAS));
        return List.copyOf(all);
    }

    public GptqMethod {
        DAMPING.checked(damping);
        DESCENT.checked(descent);
    }

    /** With all else as it is by default. */
    public static GptqMethod of(QuantizeMethod codes) {
        return new GptqMethod(codes, 0.01, true, 30, true);
    }

    @Override
    public String name() {
        return "gptq";
    }

    @Override
    public Set<Requirement> requires() {
        return Set.of(Requirement.STATISTICS);
    }

    @Override
    public List<Option> options() {
        return OPTIONS;
    }

    @Override
    public boolean uses(String option) {
        return switch (option) {
            case "damping", "order", "descent", "bias" -> true;
            default -> codes.uses(option);
        };
    }

    @Override
    public String get(String option) {
        return switch (option) {
            case "damping" -> Double.toString(damping);
            case "order" -> Boolean.toString(order);
            case "descent" -> Integer.toString(descent);
            case "bias" -> Boolean.toString(bias);
            default -> codes.get(option);
        };
    }

    @Override
    public Method with(String option, String value) {
        return switch (option) {
            case "damping" -> new GptqMethod(codes, DAMPING.real(value), order, descent, bias);
            case "order" -> new GptqMethod(codes, damping, ORDER.on(value), descent, bias);
            case "descent" -> new GptqMethod(codes, damping, order, (int) DESCENT.whole(value), bias);
            case "bias" -> new GptqMethod(codes, damping, order, descent, BIAS.on(value));
            default -> {
                Method changed = codes.with(option, value);
                yield changed == null ? null : new GptqMethod((QuantizeMethod) changed, damping, order, descent, bias);
            }
        };
    }

    static Method of(Map<String, String> given) {
        QuantizeMethod.exclusive(given);
        return Methods.with(of(QuantizeMethod.int8()), given);
    }

    @Override
    public Method nearest() {
        return codes;
    }

    @Override
    public boolean makesCodes() {
        return true;
    }

    @Override
    public Prepared prepare(Evidence evidence) {
        return codes.withActivations(new PreparedGptq(this, evidence.statistics()), evidence);
    }
}
