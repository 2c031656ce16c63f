package dev.tensorpress;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.method.CorrectMethod;
import dev.tensorpress.method.FactorizeMethod;
import dev.tensorpress.method.Method;
import dev.tensorpress.method.PruneMethod;
import dev.tensorpress.method.PruneMethod.Pattern;
import dev.tensorpress.method.PruneMethod.Scope;
import dev.tensorpress.method.QuantizeMethod;
import dev.tensorpress.model.Role;
import dev.tensorpress.structure.CleanMethod;
import dev.tensorpress.structure.Cleanup;
import dev.tensorpress.structure.Group;
import dev.tensorpress.structure.SlimMethod;
import dev.tensorpress.structure.StructuredPruning;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.FieldSource;

class RecipeYamlTest {
    static final List<String> PRESETS = Recipe.NAMES;

    /** The YAML blocks of docs/recipes.md. */
    private static List<String> documented() throws IOException {
        Path docs = Path.of("docs/recipes.md");
        if (!Files.exists(docs)) {
            docs = Path.of("../../docs/recipes.md"); // Maven runs tests in the module's folder
        }
        List<String> blocks = new ArrayList<>();
        StringBuilder block = null;
        for (String line : Files.readAllLines(docs)) {
            if (line.equals("```yaml")) {
                block = new StringBuilder();
            } else if (line.equals("```") && block != null) {
                blocks.add(block.toString());
                block = null;
            } else if (block != null) {
                block.append(line).append('\n');
            }
        }
        return blocks;
    }

    @ParameterizedTest
    @FieldSource("PRESETS")
    void documentationShowsThePreset(String preset) throws IOException {
        List<Recipe> same = new ArrayList<>();
        for (String yaml : documented()) {
            Recipe recipe = RecipeYaml.parse("docs", yaml);
            if (recipe.name().equals(preset)) {
                same.add(recipe);
            }
        }
        assertEquals(List.of(Recipe.named(preset)), same);
    }

    @Test
    void whatIsWrittenParsesBackToTheSameRecipe() throws IOException {
        List<Recipe> recipes = new ArrayList<>();
        for (String preset : PRESETS) {
            recipes.add(Recipe.named(preset));
        }
        for (String yaml : documented()) {
            recipes.add(RecipeYaml.parse("docs", yaml));
        }
        Selector odd = new Selector(Set.of(Role.CONV, Role.HEAD, Role.LINEAR), List.of("a\"b\\c", "# \u00e9\n\ud83d\ude00: *", ""), 0);
        recipes.add(new Recipe("- 'x': {", "sparse", List.of(
                new Recipe.Step("a", odd, PruneMethod.below(1e-9)), new Recipe.Step("b", odd, PruneMethod.budget(7).pattern(Pattern.ROW)),
                new Recipe.Step("c", odd, PruneMethod.sparsity(0.1 + 0.2)),
                new Recipe.Step("d", odd, PruneMethod.sparsity(0).schedule(List.of(0.1, 1.0 / 3)).scope(Scope.CHANNEL).atStep(1)),
                new Recipe.Step("e", odd, FactorizeMethod.error(1e-5)), new Recipe.Step("f", odd, FactorizeMethod.budget(0)),
                new Recipe.Step("f2", odd, FactorizeMethod.budget(9).relative(true)),
                new Recipe.Step("g", odd, QuantizeMethod.int4().asymmetric().clipSearch(7, 0.1f)),
                new Recipe.Step("h", odd, QuantizeMethod.int8().perTensor().range(QuantizeMethod.Range.FULL)),
                new Recipe.Step("i", odd, CorrectMethod.rank(3).maxBits(5))), List.of("*", "true"),
                Map.of("b", "no", "a", "0x1")));
        for (Recipe recipe : recipes) {
            String text = RecipeYaml.write(recipe);
            assertEquals(recipe, RecipeYaml.parse("x", text), text);
            assertEquals(text, RecipeYaml.write(RecipeYaml.parse("x", text)));
        }
    }

    @Test
    void everyKeyOfTheDocumentedExample() throws IOException {
        Recipe recipe = RecipeYaml.parse("docs", documented().getFirst());
        assertEquals("mine", recipe.name());
        assertEquals("onnxruntime", recipe.target());
        assertEquals(List.of("*/pooler/*"), recipe.excludes());
        assertEquals(Map.of("accuracy-level", "4"), recipe.options());
        assertEquals(List.of(
                new Recipe.Step("first-layers",
                        new Selector(Set.of(Role.LINEAR), List.of("*/layer.0/*", "*/layer.1/*"), 65536),
                        QuantizeMethod.int8().perBlock(64)),
                new Recipe.Step("rest", new Selector(Set.of(Role.LINEAR), List.of(), 4096),
                        new QuantizeMethod(4, QuantizeMethod.Grain.BLOCK, 32, false, QuantizeMethod.Range.ABSMAX, 20, 0.5f,
                                Form.Activations.FLOAT)),
                new Recipe.Step("tables", new Selector(Set.of(Role.EMBEDDING, Role.CONV), List.of(), 4096),
                        QuantizeMethod.int8().perChannel())), recipe.steps());
    }

    @Test
    void everyKeyOfTheDocumentedPruning() throws IOException {
        Recipe recipe = RecipeYaml.parse("docs", documented().get(1));
        assertEquals(List.of(
                new Recipe.Step("prune", new Selector(Set.of(Role.LINEAR, Role.CONV), List.of(), 4096),
                        new PruneMethod(Pattern.block(4, 4), Scope.GLOBAL, PruneMethod.cubic(0.2, 0.8, 4), 2, 0, -1)),
                new Recipe.Step("quantize", new Selector(Set.of(Role.LINEAR), List.of(), 4096),
                        QuantizeMethod.int8().perBlock(64))), recipe.steps());
    }

    @Test
    void everyKeyOfTheDocumentedFactors() throws IOException {
        Recipe recipe = RecipeYaml.parse("docs", documented().get(2));
        Selector linear = new Selector(Set.of(Role.LINEAR), List.of(), 4096);
        assertEquals(List.of(
                new Recipe.Step("factorize", new Selector(Set.of(Role.LINEAR, Role.CONV), List.of(), 4096),
                        FactorizeMethod.energy(0.99)),
                new Recipe.Step("quantize", linear, QuantizeMethod.int4()),
                new Recipe.Step("correct", linear, CorrectMethod.rank(32).factors(CorrectMethod.Storage.INT8))), recipe.steps());
    }

    @Test
    void everyWayToFactorizeAndCorrect() {
        for (Map.Entry<String, Method> e : Map.<String, Method>of(
                "factorize: {rank: 7}", FactorizeMethod.rank(7), "factorize: {energy: 0.9}", FactorizeMethod.energy(0.9),
                "factorize: {error: 0.1}", FactorizeMethod.error(0.1), "factorize: {budget: 1000}", FactorizeMethod.budget(1000),
                "factorize: {relative: true, budget: 1000}", FactorizeMethod.budget(1000).relative(true),
                "correct: {rank: 8}", CorrectMethod.rank(8),
                "correct: {max-bits: 4, factors: float, rank: 9}", CorrectMethod.rank(9).maxBits(4)).entrySet()) {
            assertEquals(e.getValue(), RecipeYaml.parse("x", "steps: [{" + e.getKey() + "}]").steps().getFirst().method());
        }
        for (String[] bad : new String[][] {
            {"factorize: {rank: 0}", "rank must be at least 1"}, {"factorize: {}", "factorize needs 'rank'"},
            {"factorize: {energy: 1}", "energy must be above 0 and below 1"}, {"factorize: 5", "factorize must be a map"},
            {"factorize: {rank: 5, energy: 0.9}", "'rank' and 'energy' exclude each other"},
            {"factorize: {ranks: 5}", "unknown key 'ranks' in factorize"}, {"correct: {}", "correct needs 'rank'"},
            {"factorize: {rank: 5, relative: true}", "'relative' means nothing beside 'rank'"},
            {"factorize: {budget: 5, relative: 1}", "relative must be true or false, but is '1'"},
            {"factorize: {relative: true}", "factorize needs 'rank'"},
            {"correct: {rank: 5, factors: int4}", "factors must be float or int8"},
            {"correct: {rank: 5, max-bits: 9}", "max-bits must be 2 to 8"}, {"correct: {rank: [5]}", "rank must be a single value"},
            {"correct: {rank: 5}, quantize: {}", "a step needs one method"}}) {
            String message = message("bad.yaml", "steps:\n- {" + bad[0] + "}\n");
            assertTrue(message.startsWith("bad.yaml:2: ") && message.contains(bad[1]), message);
        }
    }

    @Test
    void everyWayToSayHowMuchIsPruned() {
        for (Map.Entry<String, PruneMethod> e : Map.of(
                "sparsity: 0.3", PruneMethod.sparsity(0.3),
                "schedule: [0.1, 0.3]", PruneMethod.sparsity(0).schedule(List.of(0.1, 0.3)),
                "{step: 1, schedule: [0.1, 0.3], scope: channel}",
                PruneMethod.sparsity(0).schedule(List.of(0.1, 0.3)).scope(Scope.CHANNEL).atStep(1),
                "schedule: 0.3", PruneMethod.sparsity(0.3),
                "threshold: 0.01", PruneMethod.below(0.01),
                "{pattern: row, budget: 1000}", PruneMethod.budget(1000).pattern(Pattern.ROW),
                "{scope: global, budget: 1000}", PruneMethod.budget(1000),
                "pattern: '1:2'", PruneMethod.nm(1, 2)).entrySet()) {
            String map = e.getKey().startsWith("{") ? e.getKey() : "{" + e.getKey() + "}";
            assertEquals(e.getValue(),
                    RecipeYaml.parse("x", "steps: [{prune: " + map + "}]").steps().getFirst().method(), map);
        }
    }

    @Test
    void mistakesOfPruningAreNamedWithTheirLine() {
        for (String[] bad : new String[][] {
            {"sparsity: 1", "at least 0 and below 1"}, {"sparsity: [0.5]", "sparsity must be a single value"},
            {"pattern: '3:2'", "1 <= N <= M <= 16"}, {"pattern: 4x4", "prune needs 'sparsity'"},
            {"{}", "prune needs 'sparsity'"}, {"{sparsity: 0.5, budget: 9}", "exclude each other"},
            {"{sparsity: 0.5, pattern: '2:4'}", "'sparsity' and 'pattern' exclude each other"},
            {"{pattern: '2:4', scope: global}", "'scope' means nothing beside 'pattern'"},
            {"{sparsity: 0.5, step: 1}", "'step' means nothing beside 'sparsity'"},
            {"{schedule: [0.1, 0.5], step: 3}", "step must be 1 to 2"},
            {"{budget: 10, scope: tensor}", "scope must be global"},
            {"{threshold: 0.1, scope: channel}", "scope channel is for"},
            {"{sparsity: 0.5, pattern: 4x4, scope: channel}", "scope channel is for"},
            {"schedule: {from: 0, to: 0.5}", "schedule needs 'steps'"},
            {"schedule: {from: 0, to: 0.5, step: 3}", "unknown key 'step' in schedule; did you mean steps? There are steps"},
            {"schedule: [0.5, 0.1]", "must not fall"}, {"sparsty: 0.5", "unknown key 'sparsty' in prune"},
            {"block: 32", "unknown key 'block' in prune"}, {"7", "prune must be a map"},
        }) {
            String value = bad[0].startsWith("{") || bad[0].equals("7") ? bad[0] : "{" + bad[0] + "}";
            String yaml = "name: x\nsteps:\n- prune: " + value + "\n";
            String message = assertThrows(IllegalArgumentException.class, () -> RecipeYaml.parse("bad.yaml", yaml),
                    value).getMessage();
            assertTrue(message.startsWith("bad.yaml:3: ") && message.contains(bad[1]), message);
        }
        String both = "steps:\n- quantize: {}\n- prune: {sparsity: 0.5}\n  quantize: {}\n";
        String message = assertThrows(IllegalArgumentException.class, () -> RecipeYaml.parse("bad.yaml", both)).getMessage();
        assertTrue(message.startsWith("bad.yaml:3: a step needs one method"), message);
    }

    @Test
    void everyKeyOfAStructure() {
        Recipe recipe = RecipeYaml.parse("s.yaml", """
                structure:
                  - clean: {steps: [unused, nearly-equal], share-tolerance: 0.1}
                  - slim: {}
                  - name: tenth
                    select: {kind: [heads, channels], name: ["a*", b]}
                    slim: {multiply-adds: 0.9, multiple: 4, score: activations, update: false, damping: 0.1}
                """);
        assertEquals(new Recipe("s.yaml", "", List.of(
                new Recipe.Change("clean1", Set.of(), List.of(), new CleanMethod(Set.of(Cleanup.Step.UNUSED, Cleanup.Step.NEARLY_EQUAL), 0.1)),
                new Recipe.Change("slim2", Set.of(Group.Kind.NEURONS), List.of(), SlimMethod.DEFAULT),
                new Recipe.Change("tenth", Set.of(Group.Kind.HEADS, Group.Kind.CHANNELS), List.of("a*", "b"), new SlimMethod(
                        new StructuredPruning.Budget(StructuredPruning.Measure.MULTIPLY_ADDS, 0.9), 4, Optional.of(StructuredPruning.Score.ACTIVATIONS),
                        false, 0.1))), List.of(), List.of(), Map.of()), recipe);
        String text = RecipeYaml.write(recipe);
        assertEquals(recipe.structure(), RecipeYaml.parse("x", text).structure(), text);
        assertEquals(text, RecipeYaml.write(RecipeYaml.parse("x", text)));
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', ignoreLeadingAndTrailingWhitespace = true, quoteCharacter = '`', value = {
        "slim: {amount: 1}                            | amount must be above 0 and below 1",
        "slim: {amount: 0.5, bytes: 0.5}              | 'amount' means nothing beside",
        "slim: {bytes: 2}                             | bytes must be above 0 and at most 1",
        "slim: {multiple: 0}                          | multiple must be 1 to",
        "slim: {score: best}                          | score must be auto, magnitude",
        "slim: {part: 0.5}                            | unknown key 'part' in slim",
        "slim: {}, select: {kind: head}               | there is no kind 'head'; did you mean heads?",
        "slim: {}, select: {kind: []}                 | 'kind' must be one, or a list of at least one",
        "slim: {}, select: {name: []}                 | 'name' must be one, or a list of at least one",
        "slim: {}, select: {role: linear}             | unknown key 'role' in select",
        "slim: {}, clean: {}                          | needs one method: slim or clean",
        "prune: {sparsity: 0.5}                       | unknown key 'prune' in a change of the structure",
        "clean: {steps: [equal, all]}                 | steps must be some of identity",
        "clean: {share-tolerance: 0.1}                | 'share-tolerance' means nothing beside",
        "clean: {}, select: {name: a}                 | 'select' means nothing beside 'clean'",
        "name: a.b, slim: {}                          | nor hold a dot",
        "name: other, slim: {}                        | there is a step 'other' already",
    })
    void mistakesInAStructureAreNamedWithTheirLine(String change, String message) {
        String yaml = "structure:\n- name: other\n  clean: {}\n- {" + change + "}\nsteps:\n- quantize: {}\n";
        String found = message("bad.yaml", yaml);
        assertTrue(found.startsWith("bad.yaml:4: ") && found.contains(message), found);
        assertTrue(message("bad.yaml", "structure: []\n").contains("at least one change"));
        assertTrue(message("bad.yaml", "structure: [{name: a, slim: {}}]\nsteps: [{name: a, quantize: {}}]\n").contains("already"));
    }

    @Test
    void defaultsOfTheShortestRecipe() {
        Recipe recipe = RecipeYaml.parse("short.yaml", "min-size: 7\nsteps:\n- quantize: {}\n- quantize: {bits: 4}\n");
        Selector all = new Selector(Set.of(), List.of(), 7);
        assertEquals(new Recipe("short.yaml", "", List.of(
                new Recipe.Step("step1", all, QuantizeMethod.int8()),
                new Recipe.Step("step2", all, new QuantizeMethod(4, QuantizeMethod.Grain.CHANNEL, 0, true,
                        QuantizeMethod.Range.ABSMAX, 1, 1, Form.Activations.FLOAT))),
                List.of(), Map.of()), recipe);
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', ignoreLeadingAndTrailingWhitespace = true, quoteCharacter = '`', value = {
        "steps: [{quantize: {bits: 9}}]                      | 1 | bits must be 2 to 8",
        "steps: [{quantize: {bits: many}}]                   | 1 | bits must be a whole number",
        "steps: [{quantize: {bits: [8]}}]                    | 1 | bits must be a single value",
        "steps: [{quantize: {block: 17}}]                    | 1 | multiple of 16",
        "steps: [{quantize: {block: 32, per: tensor}}]       | 1 | exclude each other",
        "steps: [{quantize: {per: row}}]                     | 1 | tensor or channel",
        "steps: [{quantize: {symmetric: yes}}]               | 1 | true or false",
        "steps: [{quantize: {weights: 8}}]                   | 1 | weights must be auto, s8, u8 or s7",
        "steps: [{quantize: {clip: {min: 0.5}}}]             | 1 | clip needs 'steps'",
        "steps: [{quantize: {clip: {steps: 20, min: 2}}}]    | 1 | clip: min must be above 0 and at most 1",
        "steps: [{quantize: {clip: {steps: 20, max: 2}}}]    | 1 | unknown key 'max' in clip",
        "steps: [{quantize: {blocks: 32}}]                   | 1 | unknown key 'blocks' in quantize; did you mean block? There are block",
        "steps: [{quantize: 8}]                              | 1 | quantize must be a map",
        "steps: [{select: {role: linear}}]                   | 1 | needs one method",
        "steps: [{select: {role: []}, quantize: {}}]         | 1 | 'role' must be one, or a list of at least one",
        "steps: [{select: {name: []}, quantize: {}}]         | 1 | 'name' must be one, or a list of at least one",
        "steps: [{select: {role: dense}, quantize: {}}]      | 1 | no role 'dense'; there are linear, head, embedding",
        "steps: [{select: {min-size: -1}, quantize: {}}]     | 1 | min-size must be",
        "steps: [{name: a.b, quantize: {}}]                  | 1 | nor hold a dot",
        "steps: []                                           | 1 | at least one",
        "name: x                                             | 1 | needs 'steps'",
        "[]                                                  | 1 | must be a map",
        "steps: [                                            | 2 | expected",
    })
    void mistakesAreNamedWithTheirLine(String yaml, int line, String message) {
        IllegalArgumentException e =
                assertThrows(IllegalArgumentException.class, () -> RecipeYaml.parse("bad.yaml", yaml + "\n"));
        assertTrue(e.getMessage().startsWith("bad.yaml:" + line + ": "), e.getMessage());
        assertTrue(e.getMessage().contains(message), e.getMessage());
    }

    @Test
    void mistakesBelowTheFirstLine() {
        String yaml = "steps:\n  - name: a\n    quantize: {}\n  - name: a\n    quantize: {}\n";
        assertEquals("two.yaml:4: there is a step 'a' already", message("two.yaml", yaml));
        assertEquals("two.yaml:3: key 'bits' is there twice",
                message("two.yaml", "steps:\n- quantize: {bits: 4,\n    bits: 8}\n"));
        assertEquals("two.yaml:2: a recipe is one document, but here starts another",
                message("two.yaml", "steps: [{quantize: {}}]\n--- {}\n"));
        assertEquals("e.yaml is empty; a recipe has at least 'steps'", message("e.yaml", "# nothing\n"));
    }

    @Test
    void hostileYamlEndsInAMessage() {
        assertTrue(message("deep.yaml", "[".repeat(100_000)).startsWith("deep.yaml"));
        assertTrue(message("self.yaml", "steps: &a [*a]\n").startsWith("self.yaml"));
        assertTrue(message("big.yaml", "#".repeat(2_000_000)).startsWith("big.yaml"));
        assertTrue(message("tag.yaml", "steps: !!java.net.URL [x]\n").startsWith("tag.yaml"));
    }

    private static String message(String source, String yaml) {
        return assertThrows(IllegalArgumentException.class, () -> RecipeYaml.parse(source, yaml)).getMessage();
    }

    @Test
    void readFromAFileOrNamed(@TempDir Path folder) throws IOException {
        Path file = folder.resolve("r.yml");
        Files.writeString(file, "name: r\nsteps: [{quantize: {}}]\n");
        assertEquals(Recipe.read(file), Recipe.of(file.toString()));
        assertEquals(Recipe.named("int4"), Recipe.of("int4"));
    }
}
