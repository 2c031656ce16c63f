package dev.tensorpress;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.method.CorrectMethod;
import dev.tensorpress.method.FactorizeMethod;
import dev.tensorpress.method.PruneMethod;
import dev.tensorpress.method.QuantizeMethod;
import dev.tensorpress.model.UnknownNameException;
import dev.tensorpress.model.UnsupportedRequestException;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class RecipeTest {
    private static QuantizeMethod method(Recipe recipe, String step) {
        return (QuantizeMethod) recipe.steps().stream().filter(s -> s.name().equals(step)).findFirst().orElseThrow().method();
    }

    @Test
    void anOptionChangesTheStepsThatHaveIt() {
        Recipe r = Recipe.named("int8").set("block", "32");
        assertEquals(32, method(r, "linear").block());
        assertEquals(QuantizeMethod.Grain.CHANNEL, method(r, "embedding").grain());
        assertEquals(32, method(Recipe.named("int8").set("embedding.block", "32"), "embedding").block());
        assertEquals(16, Recipe.named("int8").set("min-size", "16").steps().get(3).selector().minSize());
        assertEquals(16, Recipe.named("int8").set("conv.min-size", "16").steps().get(3).selector().minSize());
        assertEquals(4096, Recipe.named("int8").set("conv.min-size", "16").steps().get(0).selector().minSize());
        assertEquals(Map.of("accuracy-level", "4"), Recipe.named("int8-dynamic").set("accuracy-level", "4").options());
        assertEquals(QuantizeMethod.int4().asymmetric().activations(Form.Activations.BLOCKWISE),
                method(Recipe.named("int4").set("linear.clip", "none"),
                "linear"));
        assertEquals(QuantizeMethod.int4().asymmetric().clipSearch(9, 0.7f).activations(Form.Activations.BLOCKWISE),
                method(Recipe.named("int4").set("linear.clip", "9:0.7"), "linear"));
        assertTrue(method(Recipe.named("int8").set("symmetric", "false"), "embedding").equals(
                QuantizeMethod.int8().asymmetric()));
    }

    @Test
    void schedulesAreTakenStepByStep() {
        assertEquals(1, Recipe.named("prune50").scheduled());
        Recipe r = Recipe.named("prune50-int8").set("schedule", "0.1,0.3,0.5");
        assertEquals(3, r.scheduled());
        PruneMethod first = (PruneMethod) r.atStep(1).steps().getFirst().method();
        assertEquals(1, first.step());
        assertEquals(r.set("step", "1"), r.atStep(1));
        assertEquals(r.steps().getLast(), r.atStep(2).steps().getLast());
        assertThrows(IllegalArgumentException.class, () -> r.atStep(0));
        assertThrows(IllegalArgumentException.class, () -> r.atStep(4));
    }

    @Test
    void blocksOfScalesAreNotThoseOfPruning() {
        Recipe r = Recipe.named("prune50-int8").set("block", "32");
        assertEquals(Recipe.named("prune50").steps().getFirst(), r.steps().getFirst());
        assertEquals(32, method(r, "linear").block());
        assertEquals(PruneMethod.sparsity(0.7),
                Recipe.named("sparse24").set("prune.sparsity", "0.7").steps().getFirst().method());
    }

    @Test
    void amountsOfFactorsReplaceEachOther() {
        Recipe r = Recipe.named("lowrank-int8").set("rank", "16").set("block", "32");
        assertEquals(FactorizeMethod.rank(16), r.steps().getFirst().method());
        assertEquals(32, method(r, "linear").block());
        assertEquals(FactorizeMethod.error(0.2), r.set("error", "0.2").steps().getFirst().method());
        Recipe corrected = Recipe.named("int4-corrected").set("rank", "8").set("max-bits", "8").set("factors", "float");
        assertEquals(CorrectMethod.rank(8), corrected.steps().getLast().method());
        assertEquals(Recipe.named("int4").steps(), corrected.steps().subList(0, 6));
    }

    @Test
    void changesOfTheGraphAreSetAsSteps() {
        Recipe r = RecipeYaml.parse("r", "structure: [{slim: {}}, {name: tidy, clean: {}}]\nsteps: [{name: codes, gptq: {}}]\n");
        Recipe set = r.set("amount", "0.5").set("damping", "0.5").set("tidy.steps", "equal").set("codes.bits", "4");
        assertEquals("0.5", set.structure().getFirst().method().get("amount"));
        assertEquals("0.5", set.structure().getFirst().method().get("damping"));
        assertEquals("0.5", set.steps().getFirst().method().get("damping"));
        assertEquals("equal", set.structure().getLast().method().get("steps"));
        assertEquals("0.9", set.set("slim1.bytes", "0.9").structure().getFirst().method().get("bytes"));
        assertEquals(r.structure(), r.exclude("a").target("onnx").atStep(1).structure());
        assertTrue(assertThrows(IllegalArgumentException.class, () -> r.set("amount", "1")).getMessage().startsWith("amount must be"));
        assertTrue(assertThrows(UnknownNameException.class, () -> r.set("slim1.amont", "1")).getMessage().contains("did you mean amount?"));
        assertTrue(assertThrows(UnknownNameException.class, () -> r.set("tdy.steps", "1")).getMessage().contains("did you mean tidy?"));
    }

    @Test
    void everyPresetExistsAndNothingElse() {
        for (String name : Recipe.NAMES) {
            assertEquals(name, Recipe.named(name).name());
        }
        String message = assertThrows(UnsupportedRequestException.class, () -> Recipe.named("int9")).getMessage();
        assertTrue(message.contains("int9") && message.contains("int8-dynamic"), message);
    }

    @Test
    void badValuesAreNamed() {
        Recipe r = Recipe.named("int8");
        for (String[] bad : new String[][] {{"block", "33"}, {"block", "8"}, {"block", "x"}, {"bits", "9"}, {"bits", "1"},
            {"per", "row"}, {"symmetric", "maybe"}, {"clip", "65"}, {"clip", "4:0"}, {"clip", "4:z"}, {"activations", "sometimes"}, {"linear.noise", "2"}, {"linear.percentile", "50"}, {"linear.input-range", "most"}, {"linear.weights", "s9"},
            {"min-size", "many"}, {"min-size", "-1"}}) {
            String message = assertThrows(IllegalArgumentException.class, () -> r.set(bad[0], bad[1]), bad[0]).getMessage();
            assertTrue(message.contains(bad[0].substring(bad[0].indexOf('.') + 1)), message);
        }
    }

    /** The nearest name comes first, and is asked for if it is near. */
    @Test
    void misspeltNamesFindTheRightOnes() {
        Recipe r = Recipe.named("int8");
        for (String[] bad : new String[][] {
            {"linaer.block", "recipe int8 has no step 'linaer'; did you mean linear? There are linear, "},
            {"linear.blok", "step 'linear' of recipe int8 has no option 'blok'; did you mean block? There are block, "},
            {"linear.sparsity", "step 'linear' of recipe int8 has no option 'sparsity'; there are "},
        }) {
            String message = assertThrows(UnknownNameException.class, () -> r.set(bad[0], "1")).getMessage();
            assertTrue(message.startsWith(bad[1]), message);
        }
        String message = assertThrows(UnknownNameException.class, () -> Recipe.named("pruen50-int8")).getMessage();
        assertTrue(message.contains("; did you mean prune50-int8? There are prune50-int8, prune50, "), message);
        for (String near : List.of("recpie", "recip", "reciqe", "rrecipe", "recipes")) {
            assertEquals("recipe", UnknownNameException.nearest(near, List.of("target", "recipe", "report")), near);
        }
        for (String far : List.of("", "r", "frequency", "x".repeat(100_000))) {
            assertNull(UnknownNameException.nearest(far, List.of("target", "recipe", "report")), far);
        }
        assertEquals("; there are none", UnknownNameException.hint("a", List.of()));
    }
}
