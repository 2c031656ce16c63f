package dev.tensorpress.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Recipe;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.method.NonFiniteWeightException;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.statistics.Gatherer;
import dev.tensorpress.statistics.Request;
import dev.tensorpress.statistics.Statistics;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class SequentialTest {
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

    /** Three products in a row; a and b share the input of the second. */
    private Path model() throws IOException {
        return model(values(N * N, 1));
    }

    private Path model(float[] first) throws IOException {
        return new TinyModel().input("x", TinyModel.FLOAT, "20 " + N).output("y", TinyModel.FLOAT, "20 " + N)
                .weight("first", first, N, N).weight("a", values(N * N, 2), N, N).weight("bias", values(N, 5), N)
                .weight("b", values(N * N, 3), N, N).weight("last", values(N * N, 4), N, N)
                .node("MatMul", "x first -> h0").node("Relu", "h0 -> h1").node("MatMul", "h1 a -> h2").node("Add", "h2 bias -> h3")
                .node("MatMul", "h1 b -> h4").node("Add", "h3 h4 -> h5").node("Relu", "h5 -> h6").node("MatMul", "h6 last -> y")
                .write(folder.resolve("m.onnx"));
    }

    private Recipe recipe(String step) throws IOException {
        return Recipe.read(Files.writeString(folder.resolve("r.yaml"), "name: r\nsteps:\n  - name: s\n    select: {role: [linear, head], min-size: 0}\n    "
                + step + "\n"));
    }

    private Statistics gather(Compressor c, Recipe recipe, Path on) throws IOException {
        return Sequential.gather(c, recipe, true, Samples.random(c.model(), 3, 1, Map.of()), on, 1, (done, total) -> { });
    }

    @Test
    void eachInputIsThatOfTheModelCompressedBefore() throws IOException {
        Path model = model();
        Path on = Files.createDirectory(folder.resolve("way"));
        Recipe recipe = recipe("gptq: {bits: 4, block: 32}");
        try (Compressor c = Compressor.open(model); Executor executor = Executor.cpu(1); Statistics all = gather(c, recipe, on)) {
            try (Stream<Path> left = Files.list(on)) {
                assertEquals(List.of(), left.toList());
            }
            assertEquals("random inputs, layer by layer with recipe r", all.source());
            assertEquals(List.of("x", "h1", "h6"), all.values().stream().map(v -> v.name()).toList());
            c.use(all);
            List<Graph.Feed> feeds = c.model().graph().orElseThrow().feeds();
            List<List<String>> before = List.of(List.of(), List.of("first"), List.of("first", "a", "b"));
            List<double[]> found = new ArrayList<>();
            for (int i = 0; i < 3; i++) {
                // What comes before, compressed at once by the statistics that were found, makes the same value.
                List<String> names = before.get(i);
                Path part = folder.resolve("part" + i + ".onnx");
                c.compress(c.plan(recipe, w -> names.contains(w.name())), part);
                try (Statistics direct = Gatherer.gather(part, "", Request.of(feeds.get(i), true),
                        OnnxRunner.of(Samples.random(c.model(), 3, 1, Map.of()), 1), executor, (done, total) -> { })) {
                    assertArrayEquals(direct.values().getFirst().squares(), all.values().get(i).squares(), names.toString());
                    found.add(direct.values().getFirst().squares());
                }
            }
            try (Statistics plain = Gatherer.gather(model, "", Request.feeds(c.model().graph().orElseThrow(), true),
                    OnnxRunner.of(Samples.random(c.model(), 3, 1, Map.of()), 1), executor, (done, total) -> { })) {
                assertArrayEquals(plain.values().get(0).squares(), found.get(0));
                assertFalse(Arrays.equals(plain.values().get(1).squares(), found.get(1)));
                assertFalse(Arrays.equals(plain.values().get(2).squares(), found.get(2)));
            }
        }
    }

    /** Wherever it ends, also within a compression. */
    @Test
    void whatFailsLeavesNothing() throws IOException {
        Path on = Files.createDirectory(folder.resolve("way"));
        float[] first = values(N * N, 1);
        first[5] = Float.NaN;
        Recipe recipe = recipe("gptq: {bits: 4, block: 32}");
        try (Compressor c = Compressor.open(model(first))) {
            assertThrows(NonFiniteWeightException.class, () -> gather(c, recipe, on));
        }
        try (Stream<Path> left = Files.list(on)) {
            assertEquals(List.of(), left.toList());
        }
    }

    @Test
    void whatDecidesOfSeveralWeightsIsRefused() throws IOException {
        for (String step : List.of("prune: {sparsity: 0.5, scope: global}", "smooth: {}")) {
            Recipe recipe = recipe(step);
            try (Compressor c = Compressor.open(model())) {
                assertTrue(assertThrows(UnsupportedRequestException.class, () -> gather(c, recipe, folder)).getMessage().contains("several weights"));
            }
        }
    }
}
