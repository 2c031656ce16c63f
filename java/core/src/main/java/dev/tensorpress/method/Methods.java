package dev.tensorpress.method;

import dev.tensorpress.model.Option;
import dev.tensorpress.model.UnknownNameException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** The methods that a recipe can name. */
public final class Methods {
    /** In the order in which they may follow each other. */
    public static final List<String> NAMES = List.of("smooth", "prune", "obs", "factorize", "decompose", "quantize", "gptq", "codebook", "transform", "hash", "correct");

    private Methods() {}

    /**
     * All options of a method.
     *
     * @throws UnknownNameException if there is none of this name
     */
    public static List<Option> options(String name) {
        return switch (name) {
            case "smooth" -> SmoothMethod.OPTIONS;
            case "prune" -> PruneMethod.OPTIONS;
            case "obs" -> ObsMethod.OPTIONS;
            case "factorize" -> FactorizeMethod.OPTIONS;
            case "decompose" -> DecomposeMethod.OPTIONS;
            case "quantize" -> QuantizeMethod.OPTIONS;
            case "gptq" -> GptqMethod.OPTIONS;
            case "codebook" -> CodebookMethod.OPTIONS;
            case "transform" -> TransformMethod.OPTIONS;
            case "hash" -> HashMethod.OPTIONS;
            case "correct" -> CorrectMethod.OPTIONS;
            default -> throw new UnknownNameException("there is no method '" + name + "'", name, NAMES);
        };
    }

    /**
     * A method of these options, those that are left out as they are declared.
     *
     * @param given values by name, as {@link Method#with} takes them; all of them have to mean something beside the others
     * @throws OptionException if they do not make one
     */
    public static Method of(String name, Map<String, String> given) {
        return switch (name) {
            case "smooth" -> SmoothMethod.of(given);
            case "prune" -> PruneMethod.of(given);
            case "obs" -> ObsMethod.of(given);
            case "factorize" -> FactorizeMethod.of(given);
            case "decompose" -> DecomposeMethod.of(given);
            case "quantize" -> QuantizeMethod.of(given);
            case "gptq" -> GptqMethod.of(given);
            case "codebook" -> CodebookMethod.of(given);
            case "transform" -> TransformMethod.of(given);
            case "hash" -> HashMethod.of(given);
            case "correct" -> CorrectMethod.of(given);
            default -> throw new UnknownNameException("there is no method '" + name + "'", name, NAMES);
        };
    }

    /** Of amounts exactly one has to be given, and goes first: it decides which others mean something. */
    static Method of(Method start, List<String> amounts, Map<String, String> given) {
        String amount = null;
        for (String name : given.keySet()) {
            if (amounts.contains(name)) {
                if (amount != null) {
                    throw new OptionException(name, "'" + amount + "' and '" + name + "' exclude each other: both say how much");
                }
                amount = name;
            }
        }
        if (amount == null) {
            List<String> quoted = new ArrayList<>();
            for (String name : amounts) {
                quoted.add("'" + name + "'");
            }
            throw new OptionException("", start.name() + " needs " + Option.any(quoted));
        }
        Method method = with(start, amount, given.get(amount));
        for (Option option : start.options()) {
            String name = option.name();
            if (given.containsKey(name) && !name.equals(amount)) {
                if (!method.uses(name)) {
                    throw new OptionException(name, "'" + name + "' means nothing beside '" + amount + "'");
                }
                method = with(method, name, given.get(name));
            }
        }
        return method;
    }

    /** With all of these, in their order. */
    static Method with(Method start, Map<String, String> given) {
        Method method = start;
        for (Map.Entry<String, String> option : given.entrySet()) {
            method = with(method, option.getKey(), option.getValue());
        }
        return method;
    }

    static Method with(Method method, String option, String value) {
        try {
            return method.with(option, value);
        } catch (IllegalArgumentException e) {
            throw new OptionException(option, e);
        }
    }
}
