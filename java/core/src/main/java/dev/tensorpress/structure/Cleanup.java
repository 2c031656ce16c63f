package dev.tensorpress.structure;

import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableModel;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.util.ArrayList;
import java.util.Collection;
import java.util.EnumSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;

/**
 * Makes graphs smaller that compute what they did. Each step says how exactly; inputs and outputs of the graph stay. Nothing is taken for constant
 * that a caller could give: an initializer that is also an input stays as it is.
 */
public final class Cleanup {
    /** What can be done, in the order in which it is. */
    public enum Step {
        /** Nodes that do nothing: Identity, Dropout outside of training, Cast to the type that is there. Exact. */
        IDENTITY,
        /** Nodes that read constants alone are computed once, by a runtime; what they make is what that runtime makes of them each time. */
        CONSTANTS,
        /**
         * Batch normalization becomes part of the convolution or product before it. Weights are scaled in f64 and rounded once, so that each has a
         * relative error of 2^-24 in f32, 2^-11 in f16 and 2^-8 in bf16; and sums are rounded in another order.
         */
        BATCH_NORMALIZATION,
        /** Constants of the same type, shape and bits become one. Exact. */
        EQUAL,
        /** Weights that differ by little become the first of them; by how little, the tolerance says. */
        NEARLY_EQUAL,
        /** What leads to no output is removed: nodes, and initializers. Exact. */
        UNUSED;

        /** As options have it: {@code batch-normalization}. */
        public String id() {
            return name().toLowerCase(Locale.ROOT).replace('_', '-');
        }
    }

    /** All but {@link Step#NEARLY_EQUAL}, which is for those who want it. */
    public static final Set<Step> DEFAULT = Set.copyOf(EnumSet.complementOf(EnumSet.of(Step.NEARLY_EQUAL)));

    /**
     * What a step did.
     *
     * @param nodes that are gone
     * @param constants that are gone
     * @param notes what else is to be said, a sentence each, without full stops
     */
    public record Done(Step step, int nodes, int constants, List<String> notes) {
        public Done {
            notes = List.copyOf(notes);
        }
    }

    /** What a step does to a model, and says of it. */
    private interface Work {
        void run(EditableModel model, List<String> notes) throws IOException;
    }

    private final EditableModel model;
    private final Arena arena;
    private final double tolerance;
    private final Evaluator evaluator;

    /**
     * @param model to be changed
     * @param arena for constants that are new, which has to stay open as long as the model is used
     * @param tolerance of {@link Step#NEARLY_EQUAL}: the difference of two weights by the larger one, in Frobenius norms; 0 to 1
     * @param evaluator computes constants; null if that step is not asked for
     * @throws IllegalArgumentException if the tolerance is out of range
     */
    public Cleanup(EditableModel model, Arena arena, double tolerance, Evaluator evaluator) {
        if (!(tolerance >= 0 && tolerance <= 1)) {
            throw new IllegalArgumentException("tolerance must be 0 to 1, but is " + tolerance);
        }
        this.model = model;
        this.arena = arena;
        this.tolerance = tolerance;
        this.evaluator = evaluator;
    }

    /**
     * Runs steps once each.
     *
     * @return of each step that was asked for what it did, in their order
     * @throws UnsupportedRequestException if the model has information for training, which refers to its weights
     * @throws IOException if what the evaluator is to run cannot be written to the temporary folder
     */
    public List<Done> run(Collection<Step> steps) throws IOException {
        if (model.training()) {
            throw new UnsupportedRequestException("the model holds training information that refers to its weights");
        }
        List<Done> all = new ArrayList<>();
        for (Step step : Step.values()) {
            if (steps.contains(step)) {
                int nodes = nodes();
                int constants = constants();
                List<String> notes = new ArrayList<>();
                work(step).run(model, notes);
                all.add(new Done(step, nodes - nodes(), constants - constants(), notes));
            }
        }
        return all;
    }

    private Work work(Step step) {
        return switch (step) {
            case IDENTITY -> (m, notes) -> Identities.pass(m);
            case CONSTANTS -> (m, notes) -> new Folding(m, evaluator, arena).fold(notes);
            case BATCH_NORMALIZATION -> (m, notes) -> new BatchNormalizations(m, arena).fold(notes);
            case EQUAL -> (m, notes) -> Sharing.equal(m);
            case NEARLY_EQUAL -> (m, notes) -> Sharing.near(m, tolerance, notes);
            case UNUSED -> (m, notes) -> Unused.remove(m);
        };
    }

    private int nodes() {
        return model.graph().all().stream().mapToInt(g -> g.nodes().size()).sum();
    }

    private int constants() {
        return model.graph().all().stream().mapToInt(g -> g.initializers().size()).sum();
    }
}
