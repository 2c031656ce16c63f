package dev.tensorpress;

import dev.tensorpress.internal.Glob;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.Weight;
import java.util.List;
import java.util.Set;

/**
 * Which weights a step of a recipe takes: those that fit every part that is not empty.
 *
 * @param roles any of these
 * @param names any of these globs fits the weight's name or the name of a node that uses it; {@code *} is any text,
 *     {@code ?} one character
 * @param minSize at least this many elements
 */
public record Selector(Set<Role> roles, List<String> names, long minSize) {
    /** Weights with fewer elements are not worth their scales. */
    public static final long DEFAULT_MIN_SIZE = 4096;

    static final Option MIN_SIZE = new Option("min-size", new Option.Whole(0), Long.toString(DEFAULT_MIN_SIZE),
            "weights with fewer elements stay as they are");

    public Selector {
        roles = Set.copyOf(roles);
        names = List.copyOf(names);
        MIN_SIZE.checked(minSize);
    }

    /** True if role and name fit; size is asked for apart, so that a plan can name it as the reason. */
    boolean selects(Weight weight) {
        return (roles.isEmpty() || roles.contains(weight.role())) && (names.isEmpty() || anyMatches(names, weight));
    }

    static boolean anyMatches(List<String> globs, Weight weight) {
        for (String glob : globs) {
            if (matches(glob, weight)) {
                return true;
            }
        }
        return false;
    }

    /** Whether the glob fits the weight's name, or the name of a node that uses it. */
    public static boolean matches(String glob, Weight weight) {
        if (Glob.matches(glob, weight.name())) {
            return true;
        }
        for (String use : weight.uses()) {
            // A use is the operator, a space, and the node's name.
            if (Glob.matches(glob, use.substring(use.indexOf(' ') + 1))) {
                return true;
            }
        }
        return false;
    }
}
