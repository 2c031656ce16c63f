package dev.tensorpress.structure;

import dev.tensorpress.model.Option;
import dev.tensorpress.model.UnknownNameException;
import java.util.List;
import java.util.Locale;

/** How a step of a recipe changes the graph of a model, before anything becomes of its weights. Immutable. */
public sealed interface StructureMethod permits SlimMethod, CleanMethod {
    /** What recipes call them. */
    List<String> NAMES = List.of("slim", "clean");

    /**
     * All options of a method.
     *
     * @throws UnknownNameException if there is none of this name
     */
    static List<Option> options(String name) {
        return of(name).options();
    }

    /**
     * A method with its options as they are declared.
     *
     * @throws UnknownNameException if there is none of this name
     */
    static StructureMethod of(String name) {
        return switch (name) {
            case "slim" -> SlimMethod.DEFAULT;
            case "clean" -> CleanMethod.DEFAULT;
            default -> throw new UnknownNameException("there is no change of the structure '" + name + "'", name, NAMES);
        };
    }

    /** As in recipes. */
    String name();

    /** All that it has. */
    List<Option> options();

    /** Whether the option means something beside the others as they are. */
    boolean uses(String option);

    /** The value of an option as text, or null if it has none. */
    String get(String option);

    /**
     * The same with one option changed.
     *
     * @return null if it has no such option
     * @throws IllegalArgumentException if the value does not fit
     */
    StructureMethod with(String option, String value);

    /** A constant as options have it. */
    static String id(Enum<?> constant) {
        return constant.name().toLowerCase(Locale.ROOT).replace('_', '-');
    }
}
