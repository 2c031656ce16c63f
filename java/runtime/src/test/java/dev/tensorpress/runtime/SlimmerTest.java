package dev.tensorpress.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.statistics.Gatherer;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.Request;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.structure.Blocks;
import dev.tensorpress.structure.Group.Kind;
import dev.tensorpress.structure.StructuredPruning;
import dev.tensorpress.structure.StructuredPruning.Amount;
import dev.tensorpress.structure.StructuredPruning.Curve;
import dev.tensorpress.structure.StructuredPruning.Options;
import dev.tensorpress.structure.StructuredPruning.Pruned;
import dev.tensorpress.structure.StructuredPruning.Score;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Structured pruning that runs models. */
class SlimmerTest {
    private static final int N = 64;

    @TempDir
    Path folder;

    private Path model;
    private Path way;

    private static float[] values(int n, int seed) {
        Random random = new Random(seed);
        float[] values = new float[n];
        for (int i = 0; i < n; i++) {
            values[i] = (float) random.nextGaussian() / 8;
        }
        return values;
    }

    /** Three products in a row, with two layers of neurons between. */
    @BeforeEach
    void write() throws IOException {
        way = Files.createDirectory(folder.resolve("way"));
        model = new TinyModel().input("x", TinyModel.FLOAT, "100 " + N).output("y", TinyModel.FLOAT, "100 " + N)
                .weight("first", values(N * N, 1), N, N).weight("second", values(N * N, 2), N, N).weight("bias", values(N, 5), N)
                .weight("last", values(N * N, 4), N, N)
                .node("MatMul", "x first -> h0").node("Relu", "h0 -> h1").node("MatMul", "h1 second -> h2").node("Add", "h2 bias -> h3")
                .node("Relu", "h3 -> h4").node("MatMul", "h4 last -> y").write(folder.resolve("m.onnx"));
    }

    private static Options options(double amount, String... names) {
        return new Options(Set.of(Kind.NEURONS), List.of(names), new Amount(amount), 1, Score.RECONSTRUCTION, true, 1e-4);
    }

    private void assertNothingStays() throws IOException {
        try (Stream<Path> left = Files.list(way)) {
            assertEquals(List.of(), left.toList());
        }
    }

    private static Statistics statistics(OnnxModel m, Executor executor) throws IOException {
        return Gatherer.gather(m.path(), "", Request.feeds(m.graph().orElseThrow(), true), OnnxRunner.of(Samples.random(m, 3, 1, Map.of()), 1), executor,
                (done, total) -> { });
    }

    @Test
    void statisticsAreThoseOfTheModelWithoutWhatWentBefore() throws IOException {
        Path out = folder.resolve("out.onnx");
        Path byHand = folder.resolve("hand.onnx");
        try (OnnxModel m = OnnxModel.open(model, false); Executor executor = Executor.cpu(1)) {
            Samples samples = Samples.random(m, 3, 1, Map.of());
            List<Pruned> all = SequentialPruning.prune(m, options(0.25), samples, way, 1, executor, (done, total) -> { }, (last, pruned) -> {
                last.write(Destination.of(out));
                return pruned;
            });
            assertNothingStays();
            List<Pruned> changed = all.stream().filter(p -> p.kept() == 48).toList();
            assertEquals(2, changed.size(), all.toString());
            // The same one after another by hand, on the same samples.
            Path current = model;
            for (Pruned p : changed) {
                try (OnnxModel before = OnnxModel.open(current, false); Statistics statistics = statistics(before, executor); Arena arena = executor.arena()) {
                    EditableModel e = EditableModel.of(before, arena);
                    Pruned one = StructuredPruning.prune(e, before.weights(), InputStatistics.of(statistics, before), List.of(options(0.25, p.name())), executor,
                            arena).groups().getFirst();
                    assertEquals(p, one);
                    e.write(Destination.replacing(byHand.resolveSibling(p.kept() + current.getFileName().toString())));
                    current = byHand.resolveSibling(p.kept() + current.getFileName().toString());
                }
            }
            assertArrayEquals(Files.readAllBytes(current), Files.readAllBytes(out));
            assertThrows(UnsupportedRequestException.class, () -> SequentialPruning.prune(m, options(0.25, "none"), samples, way, 1, executor,
                    (done, total) -> { }, (last, pruned) -> pruned));
            assertNothingStays();
        }
    }

    /** Scaled losses are what the outputs lose: of half a group as much as a model with half of it. */
    @Test
    void lossesAreThoseOfTheOutputs() throws IOException {
        try (OnnxModel m = OnnxModel.open(model, false); Executor executor = Executor.cpu(1); Statistics statistics = statistics(m, executor);
                Arena arena = executor.arena()) {
            Samples samples = Samples.random(m, 3, 1, Map.of());
            InputStatistics inputs = InputStatistics.of(statistics, m);
            List<Curve> curves = StructuredPruning.curves(EditableModel.of(m, arena), m.weights(), inputs, List.of(options(0.5)), executor);
            List<Curve> scaled = Sensitivity.scaled(m, inputs, options(0.5), curves, samples, 1, way, executor, (done, total) -> assertEquals(2, total));
            assertNothingStays();
            List<float[]> reference = BlockPruning.vectors(model, samples, 1);
            for (Curve c : scaled) {
                EditableModel half = EditableModel.of(m, arena);
                StructuredPruning.prune(half, m.weights(), inputs, List.of(options(0.5, c.group().name())), executor, arena);
                Path file = folder.resolve("half.onnx");
                half.write(Destination.replacing(file));
                int level = c.group().size() / 2;
                assertEquals(level, c.kept()[level]);
                assertEquals(1 - BlockPruning.cosine(reference, BlockPruning.vectors(file, samples, 1)), c.loss()[level], 1e-6);
                assertTrue(c.loss()[level] > 0 && c.loss()[level + 1] > c.loss()[level]);
            }
        }
    }

    /** A clock that takes bytes for milliseconds, and races for slower than the table says. */
    @Test
    void whatIsTooSlowIsAskedForLess() throws IOException {
        try (OnnxModel m = OnnxModel.open(model, false); Executor executor = Executor.cpu(1); Statistics statistics = statistics(m, executor);
                Arena arena = executor.arena()) {
            TimedPruning.Stopwatch clock = models -> {
                double[] millis = new double[models.size()];
                for (int i = 0; i < millis.length; i++) {
                    millis[i] = Files.size(models.get(i)) * (millis.length == 2 && i == 1 ? 1.1 : 1);
                }
                return millis;
            };
            InputStatistics inputs = InputStatistics.of(statistics, m);
            TimedPruning.Outcome outcome = TimedPruning.prune(m, inputs, options(0.5), 0.75, clock, way, executor, arena);
            assertNothingStays();
            assertTrue(outcome.measured() <= 0.75 && outcome.measured() > 0.7, outcome.toString());
            assertTrue(outcome.rounds().size() > 1 && outcome.rounds().getFirst() > 0.75, outcome.rounds().toString());
            assertEquals(outcome.measured(), 1.1 * outcome.model().bytes() / Files.size(model), 1e-9);
            assertEquals(List.of(32, 16, 48, 8), outcome.table().stream().map(TimedPruning.Row::kept).toList());
            // What saves nothing is left alone, and it is said what can be reached.
            UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class,
                    () -> TimedPruning.prune(m, inputs, options(0.5), 0.75, models -> models.stream().mapToDouble(_ -> 5).toArray(), way, executor, arena));
            assertTrue(e.getMessage().contains("100.00 % of the time would be left"), e.getMessage());
            assertNothingStays();
        }
    }

    /** Two branches, of which one makes next to nothing. */
    @Test
    void theBlockThatIsNeededLeastGoesFirst() throws IOException {
        float[] small = values(N * N, 7);
        for (int i = 0; i < small.length; i++) {
            small[i] /= 100;
        }
        Path blocks = new TinyModel().input("x", TinyModel.FLOAT, "20 " + N).output("y", TinyModel.FLOAT, "20 " + N).weight("w", values(N * N, 1), N, N)
                .weight("small", small, N, N).weight("v", values(N * N, 2), N, N)
                .node("MatMul", "x v -> a").node("Add", "x a -> b").node("MatMul", "b small -> c").node("Add", "b c -> d").node("MatMul", "d w -> e")
                .node("Add", "d e -> y").write(folder.resolve("blocks.onnx"));
        try (OnnxModel m = OnnxModel.open(blocks, false); Arena arena = Arena.ofShared()) {
            List<Blocks.Block> all = Blocks.of(EditableModel.of(m, arena));
            assertEquals(List.of("b", "d", "y"), all.stream().map(Blocks.Block::sum).toList());
            List<BlockPruning.Gone> gone = BlockPruning.choose(m, all, 2, Samples.random(m, 3, 1, Map.of()), 1, way, (done, total) -> assertEquals(5, total));
            assertEquals("d", gone.getFirst().block().sum());
            assertTrue(gone.get(0).cosine() > 0.999 && gone.get(1).cosine() < gone.get(0).cosine(), gone.toString());
            assertNothingStays();
        }
    }

    @Test
    void modelsAreTimed() throws IOException {
        try (OnnxModel m = OnnxModel.open(model, false); Executor executor = Executor.cpu(1); Arena arena = executor.arena()) {
            Options magnitudes = new Options(Set.of(Kind.NEURONS), List.of(), new Amount(0.5), 8, Score.MAGNITUDE, false, 1e-3);
            // On a machine that does other things as well there may be nothing to gain.
            try {
                TimedPruning.Outcome outcome = TimedPruning.prune(m, null, magnitudes, 0.99, Samples.random(m, 4, 1, Map.of()), 1, way, executor, arena);
                assertTrue(outcome.millis() > 0 && outcome.measured() > 0);
            } catch (UnsupportedRequestException e) {
                assertTrue(e.getMessage().contains("of the time would be left"), e.getMessage());
            }
            assertNothingStays();
        }
    }
}
