package dev.tensorpress;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.method.Method;
import dev.tensorpress.method.Methods;
import dev.tensorpress.model.Option;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.FieldSource;

/** What is declared of options holds. */
class OptionsTest {
    static final List<String> METHODS = Methods.NAMES;
    private static final int CASES = 20_000 * Effort.ROUNDS;
    private static final int LEAST = 50;

    private final Random random = Effort.random();

    /** With no more than it needs. */
    static Method shortest(String method) {
        return Methods.of(method, switch (method) {
            case "prune", "obs" -> Map.of("sparsity", "0.5");
            case "factorize", "decompose", "correct" -> Map.of("rank", "1");
            default -> Map.of();
        });
    }

    private static Recipe recipe(Method method) {
        return new Recipe("r", "", List.of(new Recipe.Step("s", new Selector(Set.of(), List.of(), 0), method)), List.of(), Map.of());
    }

    private static Method parse(String method, String options) {
        return RecipeYaml.parse("x", "steps: [{" + method + ": {" + options + "}}]").steps().getFirst().method();
    }

    /** From a method to one with another option again and again: each is written, read, and set to what it says. */
    @ParameterizedTest
    @FieldSource("METHODS")
    void whatOptionsSayIsReadBack(String name) {
        List<Option> options = Methods.options(name);
        Map<String, Integer> seen = new HashMap<>();
        Method method = shortest(name);
        for (int i = 0; i < CASES; i++) {
            Option option = options.get(random.nextInt(options.size()));
            String value = value(option);
            Method next;
            try {
                next = method.with(option.name(), value);
            } catch (IllegalArgumentException e) {
                method = shortest(name); // means nothing beside the others
                continue;
            }
            String where = option.name() + "=" + value + " of " + method;
            String yaml = RecipeYaml.write(recipe(next));
            assertEquals(next, RecipeYaml.parse("x", yaml).steps().getFirst().method(), where);
            assertEquals(yaml, RecipeYaml.write(RecipeYaml.parse("x", yaml)), where);
            for (Option o : options) {
                String said = next.get(o.name());
                if (said != null) {
                    assertEquals(next, said(next, o, said), where + ", " + o.name() + "=" + said);
                    seen.merge(o.name(), 1, Integer::sum);
                }
            }
            method = next;
        }
        for (Option option : options) {
            assertTrue(seen.getOrDefault(option.name(), 0) >= LEAST, option.name() + ": " + seen);
        }
    }

    /** Another amount takes the step of a schedule back. */
    private static Method said(Method method, Option option, String value) {
        Method same = method.with(option.name(), value);
        String step = method.get("step");
        return option.name().equals("schedule") && step != null ? same.with("step", step) : same;
    }

    /** A map of parts, as YAML has it, is their text. */
    @ParameterizedTest
    @FieldSource("METHODS")
    void partsAreAsTheirText(String name) {
        for (Option option : Methods.options(name)) {
            if (!(option.type() instanceof Option.Text text) || text.parts().isEmpty()) {
                continue;
            }
            int read = 0;
            for (int i = 0; i < CASES; i++) {
                List<String> keys = new ArrayList<>();
                List<String> parts = new ArrayList<>();
                for (Option part : text.parts()) {
                    if (part.fallback() == null || random.nextBoolean()) {
                        parts.add(value(part));
                        keys.add(part.name() + ": " + parts.getLast());
                    }
                }
                Method set;
                try {
                    set = shortest(name).with(option.name(), text.prefix() + String.join(":", parts));
                } catch (IllegalArgumentException e) {
                    continue; // falls
                }
                read++;
                assertEquals(set, parse(name, option.name() + ": {" + String.join(", ", keys) + "}"), keys::toString);
            }
            assertTrue(read >= LEAST, option.name());
        }
    }

    @ParameterizedTest
    @FieldSource("METHODS")
    void whatIsLeftOutIsAsDeclared(String name) {
        Method method = shortest(name);
        assertEquals(Methods.options(name), method.options());
        assertNull(method.get("nothing"));
        assertNull(method.with("nothing", "1"));
        for (Option option : method.options()) {
            String fallback = option.fallback();
            if (fallback != null && !fallback.isEmpty() && method.uses(option.name())) {
                assertEquals(fallback, method.get(option.name()), option.name());
                assertEquals(method, method.with(option.name(), fallback), option.name());
            }
        }
    }

    /** Both ends of each range are in it, and what is behind them is not; the message says so. */
    @ParameterizedTest
    @FieldSource("METHODS")
    void rangesEndWhereTheyAreDeclaredTo(String name) {
        for (Option option : Methods.options(name)) {
            List<String> bad = new ArrayList<>(List.of("nonsense", ""));
            List<String> good = new ArrayList<>();
            switch (option.type()) {
                case Option.Whole w -> {
                    good.add(Long.toString(w.least()));
                    bad.addAll(List.of(Long.toString(w.least() - 1), w.least() + ".5"));
                    if (w.most() < Integer.MAX_VALUE) {
                        good.add(Long.toString(w.most()));
                        bad.add(Long.toString(w.most() + 1));
                    }
                    if (w.multiple() > 1) {
                        bad.add(Long.toString(w.least() + w.multiple() / 2));
                    }
                }
                case Option.Real r -> {
                    (r.closed() ? good : bad).add(Double.toString(r.least()));
                    (r.closedAbove() ? good : bad).add(Double.toString(r.most()));
                    bad.addAll(List.of("NaN", "-1", "-Infinity"));
                }
                case Option.Words w -> {
                    good.addAll(w.words());
                    bad.add(w.words().getFirst().toUpperCase(Locale.ROOT));
                }
                case Option.WordList w -> {
                    good.add(w.words().getLast());
                    good.add(String.join(",", w.words()));
                    bad.add(w.words().getFirst() + ",nonsense");
                }
                case Option.Text t -> { }
            }
            Method method = option.name().equals("relative") ? Methods.of(name, Map.of("budget", "1")) : shortest(name);
            for (String value : good) {
                assertEquals(name.matches("prune|obs") && option.name().equals("step") ? null : value, method.with(option.name(), value).get(option.name()), option.name());
            }
            for (String value : bad) {
                String message = assertThrows(IllegalArgumentException.class, () -> method.with(option.name(), value),
                        option.name() + "=" + value).getMessage();
                assertTrue(message.startsWith(option.name()), message);
            }
        }
    }

    private String value(Option option) {
        return switch (option.type()) {
            case Option.Whole w -> Long.toString(w.multiple()
                    * random.nextLong(w.least() / w.multiple(), Math.min(w.most(), w.least() + 999) / w.multiple() + 1));
            case Option.Real r -> number(r);
            case Option.Words w -> w.words().get(random.nextInt(w.words().size()));
            case Option.WordList w -> String.join(",", w.words().subList(0, 1 + random.nextInt(w.words().size())));
            case Option.Text t -> text(option, t);
        };
    }

    private String number(Option.Real r) {
        double value = r.least() + random.nextDouble() * Math.min(r.most() - r.least(), 1e9);
        return value == r.least() && !r.closed() ? number(r) : Double.toString(value);
    }

    private String text(Option option, Option.Text t) {
        if (option.name().equals("pattern")) {
            int m = 1 + random.nextInt(16);
            return switch (random.nextInt(5)) {
                case 0 -> "element";
                case 1 -> "row";
                case 2 -> "column";
                case 3 -> (1 + random.nextInt(9)) + "x" + (1 + random.nextInt(9));
                default -> (1 + random.nextInt(m)) + ":" + m;
            };
        }
        assertTrue(!t.parts().isEmpty(), () -> "the test has to know values of " + option.name());
        if (t.list() && random.nextBoolean()) {
            return random.doubles(1 + random.nextInt(9)).sorted().mapToObj(Double::toString).reduce((a, b) -> a + "," + b).orElseThrow();
        }
        if (!option.fallback().isEmpty() && random.nextInt(9) == 0) {
            return option.fallback();
        }
        List<String> parts = new ArrayList<>();
        for (Option part : t.parts()) {
            parts.add(value(part));
        }
        return t.prefix() + String.join(":", parts);
    }

    @Test
    void aLineOfMeaningEach() {
        for (String method : METHODS) {
            for (Option option : Methods.options(method)) {
                assertTrue(!option.meaning().isEmpty() && !option.meaning().endsWith(".") && option.meaning().indexOf('\n') < 0,
                        option.name());
            }
        }
    }
}
