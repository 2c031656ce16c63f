package dev.tensorpress;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import dev.tensorpress.method.Methods;
import dev.tensorpress.model.Option;
import dev.tensorpress.structure.StructureMethod;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.snakeyaml.engine.v2.api.Load;
import org.snakeyaml.engine.v2.api.LoadSettings;

/** The tables of docs/recipes.md, and the JSON Schema, have what is declared of options. */
class RecipeDocsTest {
    private static final Path DOCS = Path.of("../../docs/recipes.md");
    private static final String HEAD = "| Key | Value | If left out | |\n|---|---|---|---|\n";

    private static String table(List<Option> options) {
        StringBuilder text = new StringBuilder(HEAD);
        for (Option o : options) {
            List<String> words = new ArrayList<>();
            if (o.type() instanceof Option.Words w) {
                w.words().forEach(word -> words.add("`" + word + "`"));
            }
            text.append("| `").append(o.name()).append("` | ").append(words.isEmpty() ? o.type().range() : Option.any(words)).append(" | ")
                    .append(o.fallback() == null ? "must be given" : o.fallback().isEmpty() ? "" : "`" + o.fallback() + "`")
                    .append(" | ").append(o.meaning()).append(" |\n");
        }
        return text.toString().replace("  ", " ");
    }

    /** What is expected is the table to paste. */
    @Test
    void tablesAreAsDeclared() throws IOException {
        Set<String> all = new TreeSet<>();
        Methods.NAMES.forEach(method -> all.add(table(Methods.options(method))));
        StructureMethod.NAMES.forEach(method -> all.add(table(StructureMethod.options(method))));
        for (Formats.Entry format : Formats.ALL) {
            if (!format.options().isEmpty()) {
                all.add(table(format.options()));
            }
        }
        List<String> found = new ArrayList<>();
        String docs = Files.readString(DOCS);
        for (int at; (at = docs.indexOf(HEAD)) >= 0; ) {
            docs = docs.substring(at);
            int end = docs.indexOf("\n\n") + 1;
            found.add(docs.substring(0, end));
            docs = docs.substring(end);
        }
        found.sort(null);
        assertEquals(String.join("\n", all), String.join("\n", found));
    }

    private static Object load(String text) {
        return new Load(LoadSettings.builder().build()).loadFromString(text);
    }

    @Test
    void theSchemaTakesWhatIsARecipe() throws IOException {
        Object schema = load(Recipe.schema());
        int blocks = 0;
        for (String block : Files.readString(DOCS).split("```yaml\n")) {
            if (blocks++ > 0) {
                assertEquals(List.of(), faults(schema, load(block.substring(0, block.indexOf("```"))), ""), block);
            }
        }
        assertTrue(blocks > Recipe.NAMES.size());
        for (String name : Recipe.NAMES) {
            assertEquals(List.of(), faults(schema, load(Recipe.named(name).yaml()), ""), name);
        }
        for (String good : List.of("quantize: {clip: 20}", "quantize: {clip: '20:0.5'}", "prune: {schedule: 0.3}",
                "prune: {schedule: {from: 0, to: 0.5, steps: 3}}", "factorize: {budget: 7, relative: true}", "correct: {rank: 7}")) {
            assertEquals(List.of(), faults(schema, load("steps: [{" + good + "}]"), ""), good);
        }
        for (String good : List.of("slim: {}", "clean: {}", "clean: {steps: unused}", "clean: {steps: [unused, equal]}", "slim: {bytes: 1}, select: {kind: heads}",
                "slim: {score: magnitude}, select: {kind: [heads, channels], name: ['a*', b]}")) {
            assertEquals(List.of(), faults(schema, load("structure: [{" + good + "}]"), ""), good);
        }
    }

    @Test
    void theSchemaRefusesWhatIsNone() {
        Object schema = load(Recipe.schema());
        for (String bad : List.of("quantize: {bits: 9}", "quantize: {bits: many}", "quantize: {bits: 7.5}", "quantize: {block: 40}",
                "quantize: {symmetric: maybe}", "quantize: {weights: s9}", "quantize: {blok: 32}", "quantize: {clip: {min: 0.5}}",
                "quantize: {clip: {steps: 5, min: 0}}", "prune: {sparsity: 1}", "prune: {threshold: 0}", "prune: {schedule: [a]}",
                "factorize: {energy: 0}", "correct: {}", "correct: {rank: 0}", "prune: {sparsity: 0.5}, quantize: {}", "name: a",
                "name: a.b, quantize: {}", "quantize: {}, select: {role: dense}", "quantize: 8")) {
            assertFalse(faults(schema, load("steps: [{" + bad + "}]"), "").isEmpty(), bad);
        }
        for (String bad : List.of("", "slim: {}, clean: {}", "slim: {amount: 1}", "slim: {score: none}", "clean: {steps: all}", "clean: {steps: [all]}",
                "slim: {}, select: {role: linear}", "slim: {}, select: {kind: head}", "prune: {sparsity: 0.5}", "name: a.b, slim: {}")) {
            assertFalse(faults(schema, load("structure: [{" + bad + "}]"), "").isEmpty(), bad);
        }
        for (String bad : List.of("structure: []", "{}", "steps: []", "[]", "steps: [{quantize: {}}]\noptions: {accuracy-level: 5}",
                "steps: [{quantize: {}}]\noptions: {x: 5}", "steps: [{quantize: {}}]\nmin-size: -1")) {
            assertFalse(faults(schema, load(bad), "").isEmpty(), bad);
        }
    }

    /** What of the value does not fit, by the few keywords that the schema has; its defaults have to fit as well. */
    private static List<String> faults(Object schema, Object value, String at) {
        List<String> faults = new ArrayList<>();
        Map<?, ?> s = (Map<?, ?>) schema;
        Map<?, ?> properties = (Map<?, ?>) s.get("properties");
        for (Map.Entry<?, ?> e : s.entrySet()) {
            Object rule = e.getValue();
            boolean fits = switch (e.getKey().toString()) {
                case "$schema", "title", "description" -> true;
                case "default" -> faults(without(s, "default"), rule, at).isEmpty();
                case "type" -> (rule instanceof List<?> any ? any : List.of(rule)).stream().anyMatch(t -> is(t.toString(), value));
                case "enum" -> ((List<?>) rule).contains(value);
                case "minimum" -> number(value) >= number(rule);
                case "maximum" -> number(value) <= number(rule);
                case "exclusiveMinimum" -> number(value) > number(rule);
                case "exclusiveMaximum" -> number(value) < number(rule);
                case "multipleOf" -> number(value) % number(rule) == 0;
                case "pattern" -> value instanceof String text && Pattern.matches(rule.toString(), text);
                case "minItems" -> value instanceof List<?> list && list.size() >= number(rule);
                case "items" -> !(value instanceof List<?> list) || list.stream().allMatch(v -> faults(rule, v, at).isEmpty());
                case "anyOf" -> ((List<?>) rule).stream().anyMatch(r -> faults(r, value, at).isEmpty());
                case "oneOf" -> ((List<?>) rule).stream().filter(r -> faults(r, value, at).isEmpty()).count() == 1;
                case "required" -> value instanceof Map<?, ?> map && map.keySet().containsAll((List<?>) rule);
                case "additionalProperties" -> value instanceof Map<?, ?> map && properties.keySet().containsAll(map.keySet());
                case "properties" -> {
                    if (value instanceof Map<?, ?> map) {
                        map.forEach((key, v) -> {
                            if (properties.containsKey(key)) {
                                faults.addAll(faults(properties.get(key), v, at + "/" + key));
                            }
                        });
                    }
                    yield true;
                }
                default -> fail("the test has to know the keyword " + e.getKey());
            };
            if (!fits) {
                faults.add(at + ": " + value + " is not of " + e);
            }
        }
        return faults;
    }

    private static Map<Object, Object> without(Map<?, ?> map, String key) {
        Map<Object, Object> less = new LinkedHashMap<>(map);
        less.remove(key);
        return less;
    }

    private static boolean is(String type, Object value) {
        return switch (type) {
            case "object" -> value instanceof Map;
            case "array" -> value instanceof List;
            case "string" -> value instanceof String;
            case "boolean" -> value instanceof Boolean;
            case "integer" -> value instanceof Integer || value instanceof Long;
            case "number" -> value instanceof Number;
            default -> fail("no type " + type);
        };
    }

    private static double number(Object value) {
        return value instanceof Number n ? n.doubleValue() : Double.NaN;
    }
}
