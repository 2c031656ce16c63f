package dev.tensorpress.method;

import dev.tensorpress.model.Option;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/**
 * Sets the smallest elements to zero. What is zero already is smallest of all, so a pruned model that is
 * pruned again keeps its zeros.
 *
 * <p>How large an element is its magnitude says; or, where statistics are there, that times the root mean square of the input that it is
 * multiplied with (Wanda, Sun et al. 2023): what the product's results lose without it. Inputs that are always 0 make their elements 0.
 *
 * <p>How much goes is said in one of four ways, each replacing the others: by a schedule of sparsities, which may be a
 * single one; by a threshold; by a budget of bytes; or by an N:M pattern.
 *
 * @param pattern what goes together
 * @param scope among what elements are compared
 * @param levels sparsities in [0, 1) that do not fall, one for each step of a schedule; empty if another amount is given
 * @param step number of the level that is applied, from 1; 0 for the last, and where there is no choice
 * @param threshold magnitudes below it go, of elements or of whole blocks by their Euclidean norm; 0 if another amount
 *     is given
 * @param budget bytes that all weights of the method may take together in packed storage; -1 if another amount is given
 * @param criterion what makes an element large
 */
public record PruneMethod(Pattern pattern, Scope scope, List<Double> levels, int step, double threshold, long budget, Criterion criterion)
        implements Method {

    /** What makes an element large. */
    public enum Criterion {
        /** Its magnitude. */
        MAGNITUDE,
        /** Its magnitude times the root mean square of its input. */
        ACTIVATION
    }

    /** Among what elements are compared. */
    public enum Scope {
        /** All weights of the method together. */
        GLOBAL,
        /** Each weight on its own. */
        TENSOR,
        /** Each output channel on its own. */
        CHANNEL;

        /** Lower case, as in recipes. */
        public String id() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    /**
     * What goes together: blocks of elements, a single one being {@code 1 x 1}; or of each {@code m} elements along the
     * input axis all but {@code n}.
     *
     * @param rows of a block, 0 for N:M
     * @param m 0 for blocks
     */
    public record Pattern(long rows, long cols, int n, int m) {
        private static final long LONGEST = 1L << 31;
        /** Single elements. */
        public static final Pattern ELEMENT = block(1, 1);
        /** Whole rows of the weight's matrix. */
        public static final Pattern ROW = block(1, LONGEST);
        /** Whole columns of the weight's matrix. */
        public static final Pattern COLUMN = block(LONGEST, 1);

        public Pattern {
            if (m == 0 ? rows < 1 || cols < 1 || rows > LONGEST || cols > LONGEST || n != 0 : rows != 0 || cols != 0) {
                throw new IllegalArgumentException("pattern must be blocks of at least one row and column, but is "
                        + rows + "x" + cols);
            }
            if (m != 0 && (n < 1 || n > m || m > 16)) {
                throw new IllegalArgumentException("pattern N:M must be 1 <= N <= M <= 16, but is " + n + ":" + m);
            }
        }

        public static Pattern block(long rows, long cols) {
            return new Pattern(rows, cols, 0, 0);
        }

        public static Pattern nm(int n, int m) {
            return new Pattern(0, 0, n, m);
        }

        /** {@code element}, {@code row}, {@code column}, {@code 4x4}, {@code 2:4}. */
        static Pattern parse(String text) {
            int colon = text.indexOf(':');
            int x = text.indexOf('x');
            try {
                return switch (text) {
                    case "element" -> ELEMENT;
                    case "row" -> ROW;
                    case "column" -> COLUMN;
                    default -> colon >= 0
                            ? nm(Integer.parseInt(text.substring(0, colon)), positive(text.substring(colon + 1)))
                            : block(Long.parseLong(text.substring(0, Math.max(x, 0))),
                                    Long.parseLong(text.substring(x + 1)));
                };
            } catch (NumberFormatException e) {
                throw PATTERN.wrong("'" + text + "'");
            }
        }

        private static int positive(String m) {
            int value = Integer.parseInt(m);
            if (value < 1) {
                throw new IllegalArgumentException("pattern N:M must be 1 <= N <= M <= 16, but M is " + m);
            }
            return value;
        }

        /** Whether of each four elements two stay at most. */
        boolean twoOfFour() {
            return m == 4 && n <= 2 || m == 2 && n == 1;
        }

        boolean single() {
            return rows == 1 && cols == 1;
        }

        /** True for N:M. */
        public boolean groups() {
            return m > 0;
        }

        @Override
        public String toString() {
            return groups() ? n + ":" + m : single() ? "element" : equals(ROW) ? "row" : equals(COLUMN) ? "column"
                    : rows + "x" + cols;
        }
    }

    private static final Option PATTERN = new Option("pattern",
            new Option.Text("element, row, column, ROWSxCOLUMNS or N:M", false, "", List.of()), "element",
            "what goes together: elements, whole rows, whole columns, blocks; N:M: of each M elements along the input axis all but"
                    + " the N largest go, 1 <= N <= M <= 16");
    private static final Option SCOPE = new Option("scope", Option.Words.of(Scope.values()), "tensor",
            "among what elements are compared: all weights of the step, each weight, or each output channel; with a budget global");
    private static final Option.Type PART = new Option.Real(0, true, 1, false);
    static final Option SPARSITY = new Option("sparsity", PART, "", "part of the elements that become zero");
    private static final Option MOST_STEPS =
            new Option("steps", new Option.Whole(1, 10_000, 1), null, "of a cubic rise");
    static final Option SCHEDULE = new Option("schedule",
            new Option.Text("sparsities such as 0.2,0.4,0.5 or cubic:FROM:TO:STEPS", true, "cubic:",
                    List.of(new Option("from", PART, null, "where a cubic rise begins"),
                            new Option("to", PART, null, "where a cubic rise ends"), MOST_STEPS)), "",
            "sparsities that do not fall, one for each time that the model is pruned");
    static final Option STEP = new Option("step", new Option.Whole(1), "",
            "which step of the schedule is applied; the last if it is left out");
    private static final Option THRESHOLD = new Option("threshold", new Option.Real(0, false, Double.POSITIVE_INFINITY, false), "",
            "what is smaller in magnitude goes; blocks, if their Euclidean norm is smaller");
    private static final Option BUDGET = new Option("budget", new Option.Whole(0), "",
            "bytes that all weights of the step may take together: as little goes as makes them fit");
    private static final Option CRITERION = new Option("criterion", Option.Words.of(Criterion.values()), "magnitude",
            "what makes an element large: its magnitude, or that times the root mean square of what it is multiplied with (activation)");
    private static final List<String> AMOUNTS = List.of("sparsity", "schedule", "threshold", "budget", "pattern");
    static final List<Option> OPTIONS = List.of(PATTERN, SCOPE, SPARSITY, SCHEDULE, STEP, THRESHOLD, BUDGET, CRITERION);

    public PruneMethod {
        levels = List.copyOf(levels);
        double before = 0;
        for (double level : levels) {
            SPARSITY.checked(level);
            if (level < before) {
                throw new IllegalArgumentException("a schedule must not fall, but has " + level + " after " + before);
            }
            before = level;
        }
        if (threshold != 0) {
            THRESHOLD.checked(threshold);
        }
        if (budget != -1) {
            BUDGET.checked(budget);
        }
        int amounts = (levels.isEmpty() ? 0 : 1) + (threshold == 0 ? 0 : 1) + (budget < 0 ? 0 : 1)
                + (pattern.groups() ? 1 : 0);
        if (amounts != 1) {
            throw new IllegalArgumentException(
                    "prune needs one of sparsity, schedule, threshold above 0, budget, and a pattern N:M");
        }
        if (step < 0 || step > Math.max(1, levels.size())) {
            throw new IllegalArgumentException(
                    "step must be 1 to " + Math.max(1, levels.size()) + ", as the schedule has it, but is " + step);
        }
        step = levels.size() < 2 ? 0 : step; // equal methods are to be said alike
        if (scope == Scope.CHANNEL && !pattern.groups() && (levels.isEmpty() || !pattern.single())) {
            throw new IllegalArgumentException("scope channel is for single elements and a sparsity or schedule");
        }
        if (pattern.groups() && scope != Scope.TENSOR) {
            throw new IllegalArgumentException("a pattern N:M chooses group by group: it has no other scope than tensor");
        }
        if (budget >= 0 && scope != Scope.GLOBAL) {
            throw new IllegalArgumentException("budget is for all weights together: scope must be global");
        }
    }

    /** By magnitude. */
    public PruneMethod(Pattern pattern, Scope scope, List<Double> levels, int step, double threshold, long budget) {
        this(pattern, scope, levels, step, threshold, budget, Criterion.MAGNITUDE);
    }

    /** Single elements, each weight on its own. */
    public static PruneMethod sparsity(double sparsity) {
        return new PruneMethod(Pattern.ELEMENT, Scope.TENSOR, List.of(sparsity), 0, 0, -1);
    }

    /** Of each {@code m} elements along the input axis the {@code n} largest stay. */
    public static PruneMethod nm(int n, int m) {
        return new PruneMethod(Pattern.nm(n, m), Scope.TENSOR, List.of(), 0, 0, -1);
    }

    /** Magnitudes below {@code threshold} go. */
    public static PruneMethod below(double threshold) {
        return new PruneMethod(Pattern.ELEMENT, Scope.TENSOR, List.of(), 0, threshold, -1);
    }

    /** As little goes as lets all weights of the method fit {@code bytes} in packed storage. */
    public static PruneMethod budget(long bytes) {
        return new PruneMethod(Pattern.ELEMENT, Scope.GLOBAL, List.of(), 0, 0, bytes);
    }

    /**
     * Sparsities that rise fast first and then ever more slowly: {@code to + (from - to) (1 - t / n)^3} for t = 1 to n.
     * See Zhu and Gupta, "To prune, or not to prune", 2017.
     */
    public static List<Double> cubic(double from, double to, int n) {
        try {
            MOST_STEPS.checked(n);
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException("schedule: " + e.getMessage(), e);
        }
        List<Double> levels = new ArrayList<>(n);
        for (int t = 1; t <= n; t++) {
            double left = 1 - (double) t / n;
            levels.add(to + (from - to) * left * left * left);
        }
        return levels;
    }

    public PruneMethod scope(Scope scope) {
        return new PruneMethod(pattern, scope, levels, step, threshold, budget, criterion);
    }

    /** With elements compared by this. */
    public PruneMethod criterion(Criterion criterion) {
        return new PruneMethod(pattern, scope, levels, step, threshold, budget, criterion);
    }

    /** With this pattern; N:M takes the place of the amount, and has no use for a scope. */
    public PruneMethod pattern(Pattern pattern) {
        if (pattern.groups()) {
            return nm(pattern.n, pattern.m).criterion(criterion);
        }
        return new PruneMethod(pattern, scope, levels, step, threshold, budget, criterion);
    }

    /** With this schedule in place of another amount, its last level applied. */
    public PruneMethod schedule(List<Double> levels) {
        Pattern p = pattern.groups() ? Pattern.ELEMENT : pattern;
        return new PruneMethod(p, scope, levels, 0, 0, -1, criterion);
    }

    /** How many of these go; meaningful only if there are levels. */
    long part(long elements) {
        return Math.round(sparsity() * elements);
    }

    /** The sparsity that is applied; meaningful only if there are levels. */
    double sparsity() {
        return levels.get((step == 0 ? levels.size() : step) - 1);
    }

    @Override
    public String name() {
        return "prune";
    }

    @Override
    public int steps() {
        return Math.max(1, levels.size());
    }

    /** With level number {@code step} of the schedule applied, its last if it has not so many. */
    @Override
    public PruneMethod atStep(int step) {
        return new PruneMethod(pattern, scope, levels, Math.min(step, steps()), threshold, budget, criterion);
    }

    @Override
    public List<Option> options() {
        return OPTIONS;
    }

    @Override
    public boolean uses(String option) {
        return switch (option) {
            case "pattern", "criterion" -> true;
            case "sparsity", "schedule", "threshold", "budget", "scope" -> !pattern.groups();
            case "step" -> levels.size() > 1;
            default -> false;
        };
    }

    @Override
    public String get(String option) {
        return switch (option) {
            case "pattern" -> pattern.toString();
            case "scope" -> pattern.groups() ? null : scope.id();
            case "sparsity" -> levels.size() == 1 ? levels.getFirst().toString() : null;
            case "schedule" -> {
                if (levels.size() < 2) {
                    yield null;
                }
                StringBuilder text = new StringBuilder();
                for (Double level : levels) {
                    text.append(text.isEmpty() ? "" : ",").append(level);
                }
                yield text.toString();
            }
            case "step" -> step == 0 ? null : Integer.toString(step);
            case "threshold" -> threshold > 0 ? Double.toString(threshold) : null;
            case "budget" -> budget >= 0 ? Long.toString(budget) : null;
            case "criterion" -> criterion.name().toLowerCase(Locale.ROOT);
            default -> null;
        };
    }

    /** {@inheritDoc} Sparsity, schedule, threshold, budget and a pattern N:M replace each other; a budget makes the scope global. */
    @Override
    public Method with(String option, String value) {
        Pattern p = pattern.groups() ? Pattern.ELEMENT : pattern;
        Scope single = scope == Scope.CHANNEL ? Scope.TENSOR : scope;
        return switch (option) {
            case "pattern" -> pattern(Pattern.parse(value));
            case "scope" -> scope(Scope.values()[SCOPE.word(value)]);
            case "sparsity" -> schedule(List.of(SPARSITY.real(value)));
            case "schedule" -> schedule(parseSchedule(value));
            case "threshold" -> new PruneMethod(p, single, List.of(), 0, THRESHOLD.real(value), -1, criterion);
            case "budget" -> new PruneMethod(p, Scope.GLOBAL, List.of(), 0, 0, BUDGET.whole(value), criterion);
            case "step" -> new PruneMethod(pattern, scope, levels, (int) Math.min(Integer.MAX_VALUE, STEP.whole(value)), threshold,
                    budget, criterion);
            case "criterion" -> criterion(Criterion.values()[CRITERION.word(value)]);
            default -> null;
        };
    }

    static Method of(Map<String, String> given) {
        return of(sparsity(0), AMOUNTS, given);
    }

    /** @param amounts of which one has to be given; a pattern, their last one, only if it is N:M */
    static Method of(Method start, List<String> amounts, Map<String, String> given) {
        String pattern = given.get("pattern");
        // Blocks say what goes, but not how much.
        boolean blocks = pattern != null && pattern.indexOf(':') < 0;
        return Methods.of(start, blocks ? amounts.subList(0, amounts.size() - 1) : amounts, given);
    }

    private static List<Double> parseSchedule(String value) {
        String[] parts = value.split(":", -1);
        try {
            if (parts.length == 4 && parts[0].equals("cubic")) {
                return cubic(Double.parseDouble(parts[1]), Double.parseDouble(parts[2]), Integer.parseInt(parts[3]));
            }
            List<Double> levels = new ArrayList<>();
            for (String level : value.split(",", -1)) {
                levels.add(Double.valueOf(level.trim()));
            }
            return levels;
        } catch (NumberFormatException e) {
            throw SCHEDULE.wrong("'" + value + "'");
        }
    }

    /** What is removed, as tables show it: {@code 50 %}, {@code 50 % of 4x4}, {@code 2:4}, {@code below 0.01}. */
    String describe() {
        if (pattern.groups()) {
            return pattern.toString();
        }
        boolean whole = pattern.equals(Pattern.ROW) || pattern.equals(Pattern.COLUMN);
        String blocks = pattern.single() ? "" : " of " + pattern + (whole ? "s" : "");
        if (budget >= 0) {
            return "to " + budget + " bytes" + blocks;
        }
        if (levels.isEmpty()) {
            return "below " + threshold + blocks;
        }
        String among = scope == Scope.TENSOR ? "" : scope == Scope.GLOBAL ? " global" : " per channel";
        return Numbers.percent(sparsity()) + blocks + among;
    }

    @Override
    public Set<Requirement> requires() {
        return criterion == Criterion.MAGNITUDE ? Set.of(Requirement.WEIGHTS) : Set.of(Requirement.WEIGHTS, Requirement.STATISTICS);
    }

    @Override
    public boolean compares() {
        return scope == Scope.GLOBAL && threshold == 0;
    }

    @Override
    public boolean wantsTraining() {
        return true;
    }

    @Override
    public Prepared prepare(Evidence evidence) {
        return PreparedPrune.of(this, evidence);
    }
}
