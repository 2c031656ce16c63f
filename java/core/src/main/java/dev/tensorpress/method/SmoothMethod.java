package dev.tensorpress.method;

import dev.tensorpress.model.Option;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/**
 * Moves sizes from what weights are multiplied with to the weights, or back, so that both bear rounding better, and the model computes what it
 * did: each channel of the input of some products is divided by a number of its own, in the normalization or the product that it comes from
 * ({@link dev.tensorpress.model.Graph.Source}), and the weights of the products are multiplied by it along their input axes. It comes
 * before all other methods, and saves nothing by itself.
 *
 * <p>The products of an input are smoothed together or not at all, and all of them have to be selected; what they come from need not be. A
 * channel that is always 0, or whose weights are, keeps its size, as do those of which a weight would leave the normal range of its type.
 *
 * @param by how the numbers are found
 * @param alpha of {@link By#SMOOTHQUANT}, from 0 to 1: how much of the inputs' sizes goes to the weights
 * @param grid of {@link By#AWQ}: how many parts of 1 are tried
 * @param insert of both: whether an operator before a product divides its input where that comes from nothing that can be divided, or something
 *     else reads it too. Each product has numbers and an operator of its own then
 */
public record SmoothMethod(By by, double alpha, int grid, boolean insert) implements Method {
    /** How it is decided what a channel is divided by. */
    public enum By {
        /**
         * max|x|<sup>alpha</sup> / max|w|<sup>1 - alpha</sup>, x being the elements of the channel and w the weights that are multiplied with them:
         * for activations that are rounded too (SmoothQuant, Xiao et al. 2022).
         */
        SMOOTHQUANT,
        /**
         * The root mean square of the channel to the power of a number from 0 to 1, the one with which the codes of the next step, rounded to
         * nearest, change the results of the products least (AWQ, Lin et al. 2023, which takes the mean magnitude). The change is the sum over
         * outputs of e<sup>T</sup> H e, H being the Gram matrix of the inputs. If no number but 0 makes it less, nothing is changed.
         */
        AWQ,
        /**
         * So that in the product that a channel comes from and in those that it goes to, the largest magnitudes of its weights are the same, over
         * all such pairs in turn until nothing changes (cross-layer equalization, Nagel et al. 2019). It looks at nothing but weights.
         */
        EQUALIZATION;

        /** Lower case, as in recipes. */
        public String id() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    private static final Option BY = new Option("by", Option.Words.of(By.values()), "smoothquant",
            "by the largest inputs and weights, by the error of the codes that the next step makes, or by weights alone");
    private static final Option ALPHA = new Option("alpha", new Option.Real(0, true, 1, true), "0.5",
            "of smoothquant: how much of the inputs' sizes goes to the weights");
    private static final Option GRID = new Option("grid", new Option.Whole(1, 1000, 1), "20",
            "of awq: how many powers of the inputs' sizes are tried");
    private static final Option INSERT = new Option("insert", Option.Words.SWITCH, "false",
            "true: where inputs come from nothing that can be divided, an operator divides them; false: they stay");
    static final List<Option> OPTIONS = List.of(BY, ALPHA, GRID, INSERT);

    public SmoothMethod {
        ALPHA.checked(alpha);
        GRID.checked(grid);
    }

    /** With all else as it is by default. */
    public static SmoothMethod by(By by) {
        return new SmoothMethod(by, 0.5, 20, false);
    }

    static Method of(Map<String, String> given) {
        return Methods.with(by(By.SMOOTHQUANT), given);
    }

    @Override
    public String name() {
        return "smooth";
    }

    @Override
    public Set<Requirement> requires() {
        return by == By.EQUALIZATION ? Set.of(Requirement.GRAPH, Requirement.WEIGHTS)
                : Set.of(Requirement.GRAPH, Requirement.WEIGHTS, Requirement.STATISTICS);
    }

    @Override
    public List<Option> options() {
        return OPTIONS;
    }

    @Override
    public boolean uses(String option) {
        return switch (option) {
            case "by" -> true;
            case "alpha" -> by == By.SMOOTHQUANT;
            case "grid" -> by == By.AWQ;
            case "insert" -> by != By.EQUALIZATION;
            default -> false;
        };
    }

    @Override
    public String get(String option) {
        return switch (option) {
            case "by" -> by.id();
            case "alpha" -> Double.toString(alpha);
            case "grid" -> Integer.toString(grid);
            case "insert" -> Boolean.toString(insert);
            default -> null;
        };
    }

    @Override
    public Method with(String option, String value) {
        return switch (option) {
            case "by" -> new SmoothMethod(By.values()[BY.word(value)], alpha, grid, insert);
            case "alpha" -> new SmoothMethod(by, ALPHA.real(value), grid, insert);
            case "grid" -> new SmoothMethod(by, alpha, (int) GRID.whole(value), insert);
            case "insert" -> new SmoothMethod(by, alpha, grid, INSERT.on(value));
            default -> null;
        };
    }

    @Override
    public Prepared prepare(Evidence evidence) {
        return PreparedSmooth.of(this, evidence);
    }
}
