package dev.tensorpress.model.onnx;

import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;

/** Names of which each is given once: who wants one that is taken gets it with a number behind. */
final class FreeNames {
    private final char separator;
    private final Set<String> taken = new HashSet<>();
    /** The last number that a name was given: where to go on counting. */
    private final Map<String, Integer> numbers = new HashMap<>();

    /** @param separator between name and number */
    FreeNames(char separator) {
        this.separator = separator;
    }

    /** Gives it to nobody. */
    void take(String name) {
        taken.add(name);
    }

    /** That name, or the next one that is free. */
    String of(String wanted) {
        String name = wanted;
        while (!taken.add(name)) {
            int number = numbers.getOrDefault(wanted, 1) + 1;
            numbers.put(wanted, number);
            name = wanted + separator + number;
        }
        return name;
    }
}
