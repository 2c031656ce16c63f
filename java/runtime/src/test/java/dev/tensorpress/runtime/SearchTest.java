package dev.tensorpress.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Recipe;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.method.QuantizeMethod;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.statistics.Gatherer;
import dev.tensorpress.statistics.Request;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.structure.Group;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.Random;
import java.util.Set;
import java.util.function.Predicate;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class SearchTest {
    private static final int N = 64;

    @TempDir
    Path folder;

    private static float[] values(int n, int seed) {
        Random random = new Random(seed);
        float[] values = new float[n];
        for (int i = 0; i < n; i++) {
            values[i] = (float) random.nextGaussian() / 8;
        }
        return values;
    }

    private static TinyModel model() {
        return new TinyModel().input("x", TinyModel.FLOAT, "20 " + N).output("y", TinyModel.FLOAT, "20 " + N);
    }

    private Search.Result search(Path model, Search.Goal goal) throws IOException {
        return search(model, goal, request -> true);
    }

    private Search.Result search(Path model, Search.Goal goal, Predicate<Request> seen) throws IOException {
        return search(model, goal, seen, new HashMap<>(), (recipes, models, outOfTime) -> {
            throw new AssertionError("time is of no interest");
        });
    }

    private Search.Result search(Path model, Search.Goal goal, Predicate<Request> seen, Map<String, Double> known, Search.Clock clock)
            throws IOException {
        Search.Memory memory = new Search.Memory() {
            @Override
            public double cosine(String recipe, int samples) {
                return known.getOrDefault(recipe + samples, Double.NaN);
            }

            @Override
            public void put(String recipe, int samples, double cosine) {
                known.put(recipe + samples, cosine);
            }

            @Override
            public double millis(String recipe) {
                return known.getOrDefault(recipe, Double.NaN);
            }

            @Override
            public void putMillis(String recipe, double millis) {
                known.put(recipe, millis);
            }
        };
        try (Compressor compressor = Compressor.open(model); Executor executor = Executor.cpu(1)) {
            Samples samples = Samples.random(compressor.model(), 8, 1, Map.of());
            List<Request> requests = Request.feeds(compressor.model().graph().orElseThrow(), true).stream().filter(seen).toList();
            try (Statistics statistics = Gatherer.gather(model, Statistics.hash(compressor.model()), requests, OnnxRunner.of(samples.part(0, 6), 1),
                    executor, (done, total) -> { })) {
                return Search.run(compressor, statistics, samples.part(6, 8), Search.Compared.OUTPUTS, goal, 1, OptionalLong.empty(), memory, clock,
                        (what, models, expected) -> assertTrue(models <= expected), folder.resolve("trial"));
            }
        }
    }

    /** Each model runs once even then: without a time of it nothing could be chosen. */
    @Test
    void aRaceEndsWhenThereIsNoTimeLeft() throws IOException {
        Path model = model().node("MatMul", "x a -> y").weight("a", values(N * N, 1), N, N).write(folder.resolve("m.onnx"));
        try (Compressor compressor = Compressor.open(model, Compressor.Options.DEFAULT)) {
            Search.Clock clock = Search.Clock.of(Samples.random(compressor.model(), 2, 1, Map.of()), 1);
            for (boolean out : new boolean[] {true, false}) {
                int[] asked = new int[1];
                double[] millis = clock.millis(List.of(), List.of(model), () -> {
                    asked[0]++;
                    return out;
                });
                assertTrue(millis[0] > 0 && millis[0] < Double.POSITIVE_INFINITY);
                assertTrue(out ? asked[0] == 1 : asked[0] >= 3, asked[0] + " rounds ended");
            }
        }
    }

    /** One product after the other, of which the first is multiplied with nothing in the end. */
    @Test
    void bitsGoWhereTheyMatter() throws IOException {
        Path model = model().node("MatMul", "x a -> h").node("Mul", "h nothing -> g").node("MatMul", "x b -> k").node("Add", "g k -> y")
                .weight("a", values(N * N, 1), N, N).weight("b", values(N * N, 2), N, N).weight("nothing", new float[] {1e-6f}, 1)
                .write(folder.resolve("m.onnx"));
        Search.Result found = search(model, new Search.Goal((long) (0.24 * Files.size(model)), -1));
        assertTrue(found.met());
        String recipe = found.chosen().recipe().yaml();
        assertTrue(recipe.indexOf("\"b\"") > recipe.indexOf("\"a\"") && !found.chosen().uniform(), recipe);
        for (Search.Point p : found.measured()) {
            assertTrue(p.bytes() > 0.24 * Files.size(model) || p.cosine() <= found.chosen().cosine());
        }
        assertTrue(Files.notExists(folder.resolve("trial")));
    }

    /** Two products, of which the one that bears no rounding keeps the time that it takes. */
    @Test
    void timeGoesWhereItMatters() throws IOException {
        Path model = model().node("MatMul", "x a -> h").node("Mul", "h nothing -> g").node("MatMul", "x b -> k").node("Add", "g k -> y")
                .weight("a", values(N * N, 1), N, N).weight("b", values(N * N, 2), N, N).weight("nothing", new float[] {1e-6f}, 1)
                .write(folder.resolve("m.onnx"));
        Map<String, Double> known = new HashMap<>();
        Search.Goal goal = new Search.Goal(Long.MAX_VALUE, 0.9999999, true);
        double[] speed = {1};
        Search.Clock clock = (recipes, models, outOfTime) -> {
            speed[0] *= 2; // machines are not always as fast
            for (Path file : models) {
                assertTrue(Files.exists(file));
            }
            return recipes.stream().mapToDouble(recipe -> speed[0] * (10 - recipe.steps().stream().mapToDouble(step -> saved(step)).sum())).toArray();
        };
        Search.Result found = search(model, goal, request -> true, known, clock);
        assertTrue(found.met());
        String recipe = found.chosen().recipe().yaml();
        assertTrue(recipe.contains("s8") && recipe.contains("\"a\"") && !recipe.contains("\"b\""), recipe);
        assertEquals(0.7, found.chosen().millis() / 20, 1e-9);
        assertEquals(0.4, found.frontier().getFirst().millis() / 20, 1e-9);
        assertEquals(1, found.frontier().getLast().cosine());
        // Nothing is timed twice.
        Search.Result again = search(model, goal, request -> true, known, (recipes, models, outOfTime) -> {
            throw new AssertionError("known already");
        });
        assertEquals(found.chosen(), again.chosen());
        // With less to keep, both are multiplied in integers.
        found = search(model, new Search.Goal(Long.MAX_VALUE, 0.99, true), request -> true, known, clock);
        assertTrue(found.chosen().uniform() && found.chosen().recipe().yaml().contains("s8"), found.chosen().recipe().yaml());
        assertThrows(IllegalArgumentException.class, () -> new Search.Goal(1, -1, true));
    }

    private static double saved(Recipe.Step step) {
        QuantizeMethod m = step.method() instanceof QuantizeMethod q ? q : QuantizeMethod.int8();
        return step.selector().names().size() * (m.activations() != Form.Activations.DYNAMIC ? -1
                : m.weights() == QuantizeMethod.Weights.S8 ? 3 : m.weights() == QuantizeMethod.Weights.S7 ? 2 : 1);
    }

    /** A convolution that must not be touched does not take the products beside it along. */
    @Test
    void convolutionsAreMeasured() throws IOException {
        float[] kernel = values(64 * 64, 3);
        for (int o = 0; o < 64; o++) {
            kernel[64 * o] = 1e4f; // every other element of a channel is 0 in eight bits
        }
        Path model = new TinyModel().input("x", TinyModel.FLOAT, "1 64 1 1").output("y", TinyModel.FLOAT, "1 64")
                .node("Mul", "x mask -> m").node("Conv", "m kernel -> c").node("Flatten", "c -> f").node("MatMul", "f a -> y")
                .weight("mask", mask(), 1, 64, 1, 1).weight("kernel", kernel, 64, 64, 1, 1).weight("a", values(64 * 64, 4), 64, 64)
                .write(folder.resolve("c.onnx"));
        Search.Result found = search(model, new Search.Goal(Long.MAX_VALUE, 0.99));
        assertTrue(found.met());
        assertTrue(found.chosen().bytes() < 0.75 * Files.size(model), found.chosen().bytes() + " of " + Files.size(model));
    }

    /** Without the first channel, which alone would be seen. */
    private static float[] mask() {
        float[] mask = new float[64];
        Arrays.fill(mask, 1);
        mask[0] = 0;
        return mask;
    }

    /** Neurons that are there twice go before bits do, and what no number of bits gives is reached without them. */
    @Test
    void neuronsAndBitsShareABudget() throws IOException {
        int hidden = 4 * N;
        float[] first = values(N * hidden, 1);
        for (int i = 0; i < first.length; i++) {
            first[i] = first[i / hidden * hidden + i % (hidden / 2)];
        }
        Path model = model().node("MatMul", "x a -> h").node("Relu", "h -> r").node("MatMul", "r b -> k").node("MatMul", "k c -> y").weight("a", first, N, hidden)
                .weight("b", values(hidden * N, 2), hidden, N).weight("c", values(N * N, 3), N, N).write(folder.resolve("m.onnx"));
        Set<Group.Kind> neurons = Set.of(Group.Kind.NEURONS);
        long budget = (long) (0.1 * Files.size(model));
        assertTrue(!search(model, new Search.Goal(budget, -1)).met());
        Search.Result found = search(model, new Search.Goal(budget, -1, false, neurons));
        assertTrue(found.met() && found.leastBytes() < budget && found.chosen().cosine() > 0.96, found.toString());
        Recipe recipe = found.chosen().recipe();
        assertTrue(recipe.structure().size() == 1 && recipe.yaml().contains("\"h\""), recipe.yaml());
        Search.Result same = search(model, new Search.Goal(Long.MAX_VALUE, found.chosen().cosine() - 1e-4, false, neurons));
        Search.Result bits = search(model, new Search.Goal(Long.MAX_VALUE, found.chosen().cosine() - 1e-4));
        assertTrue(same.met() && !same.chosen().recipe().structure().isEmpty() && same.chosen().bytes() < 0.9 * bits.chosen().bytes(), same + " and " + bits);
        try (Compressor compressor = Compressor.open(model)) {
            Path out = folder.resolve("out.onnx");
            assertThrows(UnsupportedRequestException.class, () -> compressor.compress(compressor.plan(recipe), out));
        }
        assertThrows(IllegalArgumentException.class, () -> new Search.Goal(Long.MAX_VALUE, 0.9, true, neurons));
        assertTrue(assertThrows(UnsupportedRequestException.class, () -> search(model, new Search.Goal(budget, -1, false, Set.of(Group.Kind.HEADS))))
                .getMessage().contains("heads"));
    }

    /** Most bytes are of products too small for codes, which lose neurons all the same, and no more than they have to. */
    @Test
    void groupsOfSmallProductsFit() throws IOException {
        int hidden = 56;
        Path model = model().node("MatMul", "x a -> h").node("Relu", "h -> r").node("MatMul", "r b -> k").node("MatMul", "k d -> i").node("Relu", "i -> s")
                .node("MatMul", "s e -> l").node("MatMul", "l c -> y").weight("a", values(N * hidden, 1), N, hidden).weight("b", values(hidden * N, 2), hidden, N)
                .weight("d", values(N * hidden, 4), N, hidden).weight("e", values(hidden * N, 5), hidden, N).weight("c", values(N * N, 3), N, N)
                .write(folder.resolve("m.onnx"));
        for (double part : new double[] {0.7, 0.35}) {
            long budget = (long) (part * Files.size(model));
            Search.Result found = search(model, new Search.Goal(budget, -1, false, Set.of(Group.Kind.NEURONS)));
            assertTrue(found.met() && found.chosen().bytes() <= budget && found.chosen().bytes() > 0.8 * budget, found.toString());
            // All groups alike lose more.
            assertTrue(part < 0.5 || found.chosen().cosine() > 0.95, found.toString());
        }
    }

    /** A product of whose inputs nothing is known is rounded without them. */
    @Test
    void productsWithoutStatistics() throws IOException {
        Path model = model().node("MatMul", "x a -> h").node("MatMul", "h b -> y").weight("a", values(N * N, 1), N, N)
                .weight("b", values(N * N, 2), N, N).write(folder.resolve("m.onnx"));
        Search.Result found = search(model, new Search.Goal((long) (0.24 * Files.size(model)), -1), request -> request.value().name().equals("x"));
        assertTrue(found.met());
        assertTrue(found.chosen().recipe().yaml().contains("gptq") && found.chosen().recipe().yaml().contains("quantize"));
    }

    @Test
    void namesThatRecipesCannotSay() throws IOException {
        Path model = model().node("MatMul", "x a* -> h").node("MatMul", "h b -> k").node("MatMul", "k b -> y")
                .weight("a*", values(N * N, 1), N, N).weight("b", values(N * N, 2), N, N).write(folder.resolve("m.onnx"));
        Search.Result found = search(model, new Search.Goal((long) (0.35 * Files.size(model)), -1));
        assertTrue(found.met());
        assertEquals(List.of(), found.leftOut());
        Path both = model().node("MatMul", "x a* -> h").node("MatMul", "h ab -> y")
                .weight("a*", values(N * N, 1), N, N).weight("ab", values(N * N, 2), N, N).write(folder.resolve("both.onnx"));
        assertEquals(List.of("a*"), search(both, new Search.Goal(Files.size(both), -1)).leftOut());
    }

    @Test
    void whatCannotBeComparedIsRefused() throws IOException {
        Path nan = model().node("MatMul", "x a -> h").node("Sqrt", "h -> y").weight("a", values(N * N, 1), N, N).write(folder.resolve("nan.onnx"));
        Search.Goal goal = new Search.Goal(Files.size(nan), -1);
        assertTrue(assertThrows(UnsupportedRequestException.class, () -> search(nan, goal)).getMessage().contains("NaN"));
        Path integers = new TinyModel().input("x", TinyModel.FLOAT, "20 " + N).output("y", TinyModel.INT64, "20 " + N).node("MatMul", "x a -> h")
                .cast("h -> y", TinyModel.INT64).weight("a", values(N * N, 1), N, N).write(folder.resolve("i.onnx"));
        assertTrue(assertThrows(UnsupportedRequestException.class, () -> search(integers, goal)).getMessage().contains("floating-point"));
        Path none = model().node("Add", "x a -> y").weight("a", values(N, 1), N).node("MatMul", "x b -> z").weight("b", values(N, 1), N, 1)
                .write(folder.resolve("none.onnx"));
        assertTrue(assertThrows(UnsupportedRequestException.class, () -> search(none, goal)).getMessage().contains("4096"));
    }
}
