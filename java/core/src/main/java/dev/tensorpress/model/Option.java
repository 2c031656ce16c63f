package dev.tensorpress.model;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeSet;

/**
 * An option of a method or a target, declared once: what reads and writes it, and what describes it, goes by this.
 *
 * @param fallback its value if it is left out, as text; empty if it has none then, null if it must be given
 * @param meaning one line, without a full stop
 */
public record Option(String name, Type type, String fallback, String meaning) {

    /** What values it takes. */
    public sealed interface Type {
        /** After "must be": {@code 2 to 8}, {@code true or false}. */
        String range();
    }

    /**
     * A whole number.
     *
     * @param most {@link Long#MAX_VALUE} for any
     * @param multiple of which it is one, 1 for any
     */
    public record Whole(long least, long most, long multiple) implements Type {
        /** At least this. */
        public Whole(long least) {
            this(least, Long.MAX_VALUE, 1);
        }

        boolean holds(long value) {
            return value >= least && value <= most && value % multiple == 0;
        }

        @Override
        public String range() {
            return most == Long.MAX_VALUE ? "at least " + least
                    : multiple == 1 ? least + " to " + most : "a multiple of " + multiple + " from " + least + " to " + most;
        }
    }

    /**
     * A finite number.
     *
     * @param closed whether it may be {@code least} itself
     * @param most infinite for any
     * @param closedAbove whether it may be {@code most} itself
     */
    public record Real(double least, boolean closed, double most, boolean closedAbove) implements Type {
        boolean holds(double value) {
            return (closed ? value >= least : value > least) && (closedAbove ? value <= most : value < most);
        }

        @Override
        public String range() {
            return (most == Double.POSITIVE_INFINITY ? "a finite number " : "") + (closed ? "at least " : "above ") + plain(least)
                    + (most == Double.POSITIVE_INFINITY ? "" : (closedAbove ? " and at most " : " and below ") + plain(most));
        }

        private static String plain(double bound) {
            return bound == Math.rint(bound) ? Long.toString((long) bound) : Double.toString(bound);
        }
    }

    /** One of some words. */
    public record Words(List<String> words) implements Type {
        /** Where it is switched: {@code true}, the first, or {@code false}. */
        public static final Words SWITCH = new Words(List.of("true", "false"));

        /** The names of constants in lower case, in their order. */
        public static Words of(Enum<?>[] constants) {
            List<String> words = new ArrayList<>();
            for (Enum<?> constant : constants) {
                words.add(constant.name().toLowerCase(Locale.ROOT));
            }
            return new Words(List.copyOf(words));
        }

        @Override
        public String range() {
            return any(words);
        }
    }

    /** Some of the words, with commas between them. */
    public record WordList(List<String> words) implements Type {
        @Override
        public String range() {
            return "some of " + String.join(", ", words);
        }
    }

    /**
     * Text that its owner reads.
     *
     * @param range see {@link #range()}
     * @param list whether it may be several values, with commas between them
     * @param prefix of the parts
     * @param parts numbers with colons between them, of which the last may be left out if they have a fallback; empty if there
     *     is no such way to say it
     */
    public record Text(String range, boolean list, String prefix, List<Option> parts) implements Type {}

    /**
     * The value as a whole number in its range.
     *
     * @throws IllegalArgumentException if it is none
     */
    public long whole(String value) {
        try {
            return checked(Long.parseLong(value));
        } catch (NumberFormatException e) {
            throw new IllegalArgumentException(name + " must be a whole number, but is '" + value + "'", e);
        }
    }

    /** A whole number that is in its range, or an IllegalArgumentException. */
    public long checked(long value) {
        if (!((Whole) type).holds(value)) {
            throw wrong(Long.toString(value));
        }
        return value;
    }

    /**
     * The value as a number in its range.
     *
     * @throws IllegalArgumentException if it is none
     */
    public double real(String value) {
        try {
            return checked(Double.parseDouble(value));
        } catch (NumberFormatException e) {
            throw new IllegalArgumentException(name + " must be a number, but is '" + value + "'", e);
        }
    }

    /** A number that is in its range, or an IllegalArgumentException. */
    public double checked(double value) {
        if (!((Real) type).holds(value)) {
            throw wrong(Double.toString(value));
        }
        return value;
    }

    /**
     * Which of the words it is, from 0.
     *
     * @throws IllegalArgumentException if it is none
     */
    public int word(String value) {
        int index = ((Words) type).words.indexOf(value);
        if (index < 0) {
            throw wrong("'" + value + "'");
        }
        return index;
    }

    /**
     * Which of the words they are, from 0, each once and in the order of the words.
     *
     * @throws IllegalArgumentException if one of them is none
     */
    public List<Integer> several(String value) {
        List<String> words = ((WordList) type).words;
        TreeSet<Integer> all = new TreeSet<>();
        for (String word : value.split(",", -1)) {
            int index = words.indexOf(word.strip());
            if (index < 0) {
                throw wrong("'" + word.strip() + "'");
            }
            all.add(index);
        }
        return List.copyOf(all);
    }

    /** True for the word {@code true} of a {@link Words#SWITCH}. */
    public boolean on(String value) {
        return word(value) == 0;
    }

    /** What is given for it, or its fallback. */
    public String in(Map<String, String> given) {
        return given.getOrDefault(name, fallback);
    }

    /**
     * Asks whether a target takes what it is given.
     *
     * @throws UnknownNameException if it has no such option
     * @throws IllegalArgumentException if a value does not fit
     */
    public static void check(String target, List<Option> options, Map<String, String> given) {
        for (Map.Entry<String, String> entry : given.entrySet()) {
            Option option = of(options, entry.getKey());
            if (option == null) {
                throw new UnknownNameException("target '" + target + "' has no option '" + entry.getKey()
                        + "', and no step of the recipe has it", entry.getKey(), names(options));
            }
            option.check(entry.getValue());
        }
    }

    private void check(String value) {
        if (type instanceof Whole) {
            whole(value);
        } else if (type instanceof Real) {
            real(value);
        } else if (type instanceof Words) {
            word(value);
        } else if (type instanceof WordList) {
            several(value);
        }
    }

    /** What to throw for a value that does not fit. */
    public IllegalArgumentException wrong(String value) {
        return new IllegalArgumentException(name + " must be " + type.range() + ", but is " + value);
    }

    /** The option of this name, or null. */
    public static Option of(List<Option> options, String name) {
        for (Option option : options) {
            if (option.name.equals(name)) {
                return option;
            }
        }
        return null;
    }

    /** What they are called. */
    public static List<String> names(List<Option> options) {
        List<String> names = new ArrayList<>();
        for (Option option : options) {
            names.add(option.name);
        }
        return names;
    }

    /** {@code a, b or c}. */
    public static String any(List<String> words) {
        int last = words.size() - 1;
        return last < 1 ? String.join("", words) : String.join(", ", words.subList(0, last)) + " or " + words.get(last);
    }
}
