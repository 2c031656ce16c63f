package dev.tensorpress.structure;

import dev.tensorpress.model.Option;
import dev.tensorpress.structure.Cleanup.Step;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;

/**
 * Clean-up of a graph in a recipe.
 *
 * @param steps which are done, in the order of {@link Step}
 * @param tolerance of {@link Step#NEARLY_EQUAL}, as {@link Cleanup} has it
 */
public record CleanMethod(Set<Step> steps, double tolerance) implements StructureMethod {
    private static final List<String> WORDS = Arrays.stream(Step.values()).map(Step::id).toList();
    private static final Option STEPS = new Option("steps", new Option.WordList(WORDS), text(Cleanup.DEFAULT), "what is done, in this order");
    /** Also of the command line. */
    public static final Option TOLERANCE = new Option("share-tolerance", new Option.Real(0, true, 1, true), "0.01",
            "for nearly-equal: by how much weights may differ, relative to the larger one");
    private static final List<Option> OPTIONS = List.of(STEPS, TOLERANCE);

    /** All steps but {@link Step#NEARLY_EQUAL}. */
    public static final CleanMethod DEFAULT = new CleanMethod(Cleanup.DEFAULT, Double.parseDouble(TOLERANCE.fallback()));

    public CleanMethod {
        if (steps.isEmpty()) {
            throw STEPS.wrong("none");
        }
        steps = Set.copyOf(steps);
        TOLERANCE.checked(tolerance);
    }

    private static String text(Set<Step> steps) {
        return new TreeSet<>(steps).stream().map(Step::id).collect(Collectors.joining(","));
    }

    @Override
    public String name() {
        return "clean";
    }

    @Override
    public List<Option> options() {
        return OPTIONS;
    }

    @Override
    public boolean uses(String option) {
        return option.equals(STEPS.name()) || option.equals(TOLERANCE.name()) && steps.contains(Step.NEARLY_EQUAL);
    }

    @Override
    public String get(String option) {
        return option.equals(STEPS.name()) ? text(steps) : uses(option) ? Double.toString(tolerance) : null;
    }

    @Override
    public StructureMethod with(String option, String value) {
        if (option.equals(TOLERANCE.name())) {
            return new CleanMethod(steps, TOLERANCE.real(value));
        }
        if (!option.equals(STEPS.name())) {
            return null;
        }
        return new CleanMethod(STEPS.several(value).stream().map(i -> Step.values()[i]).collect(Collectors.toSet()), tolerance);
    }
}
