package dev.tensorpress.model.compressedtensors;

import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Names modules in a configuration so that a loader finds them. What a loader calls a module is what the file calls its tensor but for
 * the modules around the whole: {@code model.layers.0.mlp.up_proj} is {@code model.language_model.layers.0.mlp.up_proj} in
 * transformers and {@code language_model.model.layers.0.mlp.up_proj} in vLLM where the model sees as well. So patterns take any of
 * these before the name. They are anchored at their start, as in Python's {@code re.match}, and end with {@code $}.
 *
 * <p>Experts are named as a whole, {@code layers.0.mlp.experts.} and whatever comes after: vLLM asks for its own names of what is in
 * them.
 */
final class ModulePatterns {
    private static final String EXPERTS = "experts";
    private static final List<String> AROUND = List.of("model", "language_model", "transformer", "base_model", "bert", "roberta",
            "gpt_neox");
    private static final String START = "re:(?:(?:" + String.join("|", AROUND) + ")\\.)*";
    private static final String NUMBER = "\\d+";

    /** How many modules have a pattern. */
    private final Map<String, Integer> counts = new HashMap<>();
    /** Names without what is around the whole that are those of two modules. */
    private final Set<String> ambiguous = new HashSet<>();

    /** @param all modules that a configuration speaks of */
    ModulePatterns(Collection<String> all) {
        Set<String> seen = new HashSet<>();
        for (String module : all) {
            String own = own(module);
            if (!seen.add(own)) {
                ambiguous.add(own);
            }
            counts.merge(pattern(own, null), 1, Integer::sum);
        }
    }

    /** Patterns that fit some of the modules, and no others of them. */
    List<String> of(Collection<String> some) {
        List<String> found = new ArrayList<>();
        Map<String, List<String>> byPattern = new LinkedHashMap<>();
        for (String module : some) {
            String own = own(module);
            if (ambiguous.contains(own)) {
                found.add(module);
            } else {
                byPattern.computeIfAbsent(pattern(own, null), p -> new ArrayList<>()).add(own);
            }
        }
        for (Map.Entry<String, List<String>> e : byPattern.entrySet()) {
            List<String> modules = e.getValue();
            if (modules.size() == counts.get(e.getKey())) {
                found.add(START + e.getKey());
            } else if (numbers(modules.getFirst()).size() == 1) {
                StringBuilder which = new StringBuilder("(?:");
                for (String module : modules) {
                    which.append(which.length() > 3 ? "|" : "").append(numbers(module).getFirst());
                }
                found.add(START + pattern(modules.getFirst(), which.append(')').toString()));
            } else {
                for (String module : modules) {
                    found.add(START + escaped(module) + "$");
                }
            }
        }
        return found;
    }

    /** Whether a module is one of the experts between which a router chooses, or in one. */
    static boolean isExpert(String module) {
        int length = EXPERTS.length();
        for (int at = module.indexOf(EXPERTS); at >= 0; at = module.indexOf(EXPERTS, at + length)) {
            int dot = module.indexOf('.', at + length + 1);
            if ((at == 0 || module.charAt(at - 1) == '.') && module.startsWith(".", at + length)
                    && isNumber(module.substring(at + length + 1, dot < 0 ? module.length() : dot))) {
                return true;
            }
        }
        return false;
    }

    /** A name without what is around the whole model. */
    private static String own(String module) {
        int start = 0;
        for (int dot = module.indexOf('.'); dot > 0; dot = module.indexOf('.', start)) {
            if (!AROUND.contains(module.substring(start, dot))) {
                break;
            }
            start = dot + 1;
        }
        return module.substring(start);
    }

    /** @param number in the place of each number; null for any */
    private static String pattern(String own, String number) {
        StringBuilder text = new StringBuilder();
        String[] parts = own.split("\\.");
        for (int i = 0; i < parts.length; i++) {
            if (i > 0 && parts[i - 1].equals(EXPERTS) && isNumber(parts[i])) {
                return text.append("\\.").toString();
            }
            text.append(i > 0 ? "\\." : "");
            if (isNumber(parts[i])) {
                text.append(number == null ? NUMBER : number);
            } else {
                text.append(escaped(parts[i]));
            }
        }
        return text.append('$').toString();
    }

    private static List<String> numbers(String own) {
        List<String> numbers = new ArrayList<>();
        for (String part : own.split("\\.")) {
            if (isNumber(part)) {
                numbers.add(part);
            }
        }
        return numbers;
    }

    private static boolean isNumber(String part) {
        for (int i = 0; i < part.length(); i++) {
            if (part.charAt(i) < '0' || part.charAt(i) > '9') {
                return false;
            }
        }
        return !part.isEmpty();
    }

    private static String escaped(String text) {
        StringBuilder escaped = new StringBuilder();
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            // Letters and digits of any script stand for themselves; a backslash before them would mean something else.
            escaped.append(Character.isLetterOrDigit(c) || c == '_' || c > 127 ? "" : "\\").append(c);
        }
        return escaped.toString();
    }
}
