package dev.tensorpress.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.Runner;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.statistics.Gatherer;
import dev.tensorpress.statistics.NonFiniteValueException;
import dev.tensorpress.statistics.Request;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class OnnxRunnerTest {
    @TempDir
    Path folder;

    private record In(String path, String name) implements Graph.Value {
        @Override
        public Optional<Graph.Operator> producer() {
            return Optional.empty();
        }

        @Override
        public List<Graph.Operator> readers() {
            return List.of();
        }

        @Override
        public boolean isOutput() {
            return false;
        }
    }

    /** Inputs, steps between, results and outputs of f32 and f16; no integers. */
    private Path model(String name, boolean external) throws IOException {
        TinyModel model = new TinyModel().input("x", TinyModel.FLOAT, "n 2").output("y", TinyModel.FLOAT, "n 2")
                .node("MatMul", "x w -> h").cast("h -> half", TinyModel.FLOAT16).cast("half -> long", TinyModel.INT64).cast("long -> back", TinyModel.FLOAT)
                .node("Relu", "back -> y");
        if (external) {
            Files.write(folder.resolve("w.bin"), NpyTest.floats(1, 2, 3, 4));
            model.external("w", "w.bin", 2, 2);
        } else {
            model.weight("w", new float[] {1, 2, 3, 4}, 2, 2);
        }
        return model.write(folder.resolve(name));
    }

    private Samples samples(float... x) throws IOException {
        Path folder = Files.createDirectories(this.folder.resolve("inputs"));
        for (int i = 0; i < x.length; i += 2) {
            Files.write(folder.resolve("x" + i + ".npy"), NpyTest.npy("<f4", "(1, 2)", NpyTest.floats(x[i], x[i + 1])));
        }
        return Samples.files(List.of(folder));
    }

    private static List<Graph.Value> values(Path model) throws IOException {
        Map<String, Graph.Value> all = new LinkedHashMap<>();
        try (Compressor opened = Compressor.open(model)) {
            for (Graph.Operator o : opened.model().graph().orElseThrow().operators()) {
                o.operands().forEach(v -> all.put(v.name(), v));
                o.results().forEach(v -> all.put(v.name(), v));
            }
        }
        all.remove("w");
        return List.copyOf(all.values());
    }

    private record Shown(String name, Shape shape, List<Float> values) {
        static Shown of(Graph.Value value, Tensor tensor) {
            assertEquals(DType.F32, tensor.dtype());
            List<Float> all = new ArrayList<>();
            for (float f : tensor.data().toArray(ValueLayout.JAVA_FLOAT)) {
                all.add(f);
            }
            return new Shown(value.name(), tensor.shape(), all);
        }
    }

    @Test
    void valuesAreShownAsTheyAreComputed() throws IOException {
        for (boolean external : new boolean[] {false, true}) {
            Path model = model("m.onnx", external);
            Runner.Factory factory = OnnxRunner.of(samples(1, 1, 0.5f, -1), 1);
            assertEquals("files", factory.source());
            try (Runner runner = factory.open(model, values(model))) {
                assertEquals(2, runner.samples());
                List<Shown> shown = new ArrayList<>();
                runner.run(1, (value, tensor) -> shown.add(Shown.of(value, tensor)));
                Shape shape = Shape.of(1, 2);
                assertEquals(List.of(new Shown("x", shape, List.of(0.5f, -1f)), new Shown("h", shape, List.of(-2.5f, -3f)),
                        new Shown("half", shape, List.of(-2.5f, -3f)), new Shown("back", shape, List.of(-2f, -3f)),
                        new Shown("y", shape, List.of(0f, 0f))), shown);
            }
        }
    }

    @Test
    void inputsAloneNeedNoRun() throws IOException {
        Path model = model("m.onnx", false);
        try (Runner runner = OnnxRunner.of(samples(1, 2), 1).open(model, values(model).subList(0, 1))) {
            List<String> shown = new ArrayList<>();
            runner.run(0, (value, tensor) -> shown.add(value.name()));
            assertEquals(List.of("x"), shown);
        }
    }

    @Test
    void samplesRunInAnyOrder() throws IOException {
        Path model = model("m.onnx", false);
        float[] x = new float[40];
        for (int i = 0; i < x.length; i++) {
            x[i] = i;
        }
        try (Runner runner = OnnxRunner.of(samples(x), 3).open(model, values(model))) {
            for (int sample : new int[] {0, 1, 2, 7, 6, 6, 19, 0, 18, 19}) {
                List<Shown> shown = new ArrayList<>();
                runner.run(sample, (value, tensor) -> shown.add(Shown.of(value, tensor)));
                float a = 2 * sample;
                assertEquals(new Shown("h", Shape.of(1, 2), List.of(a + 3 * (a + 1), 2 * a + 4 * (a + 1))), shown.get(1), "sample " + sample);
            }
        }
    }

    /** Those before it are shown; the runner can be closed while others run ahead. */
    @Test
    void whatCannotBeRunIsAnError() throws IOException {
        Path model = new TinyModel().input("i", TinyModel.INT64, "n").output("y", TinyModel.FLOAT, "n 2").node("Gather", "w i -> h")
                .node("Relu", "h -> y").weight("w", new float[] {1, 2}, 1, 2).write(folder.resolve("gather.onnx"));
        Path inputs = Files.createDirectories(folder.resolve("indices"));
        for (int i = 0; i < 5; i++) {
            Files.write(inputs.resolve(i + ".npy"), NpyTest.npy("<i8", "(1,)", new byte[] {(byte) (i == 1 ? 9 : 0), 0, 0, 0, 0, 0, 0, 0}));
        }
        try (Runner runner = OnnxRunner.of(Samples.files(List.of(inputs)), 2).open(model, values(model))) {
            List<String> shown = new ArrayList<>();
            runner.run(0, (value, tensor) -> shown.add(value.name()));
            assertEquals(List.of("h", "y"), shown);
            assertTrue(assertThrows(UnsupportedRequestException.class, () -> runner.run(1, (value, tensor) -> shown.add(value.name())))
                    .getMessage().contains("cannot run " + model));
            runner.run(2, (value, tensor) -> shown.add(value.name()));
            assertEquals(4, shown.size());
        }
    }

    @Test
    void valuesOfSubgraphsAreRefused() throws IOException {
        Path model = model("m.onnx", false);
        Runner.Factory factory = OnnxRunner.of(samples(1, 2), 1);
        assertTrue(assertThrows(UnsupportedRequestException.class, () -> factory.open(model, List.of(new In("If_y/then_branch/", "z"))))
                .getMessage().contains("value z is in the subgraph If_y/then_branch/"));
    }

    private static Statistics gather(Path model, Samples samples) throws IOException {
        try (Compressor opened = Compressor.open(model); Executor executor = Executor.cpu(1)) {
            List<Request> requests = Request.feeds(opened.model().graph().orElseThrow(), true);
            return Gatherer.gather(model, Statistics.hash(opened.model()), requests, OnnxRunner.of(samples, 1), executor,
                    (done, total) -> { });
        }
    }

    @Test
    void statisticsAreOfWhatProductsRead() throws IOException {
        Path model = model("m.onnx", false);
        try (Statistics s = gather(model, samples(1, 1, 0.5f, -1)); Compressor opened = Compressor.open(model)) {
            assertEquals(1, s.values().size());
            assertEquals(2, s.samples());
            assertEquals(2, s.of("", "x").orElseThrow().rows());
            assertArrayEquals(new double[] {1.25, 0.5, 0.5, 2},
                    s.of("", "x").orElseThrow().gram().orElseThrow().toArray(ValueLayout.JAVA_DOUBLE));
            s.check(opened.model());
        }
    }

    @Test
    void anotherModelIsRecognized() throws IOException {
        try (Statistics s = gather(model("m.onnx", true), samples(1, 1));
                Compressor other = Compressor.open(model("other.onnx", false))) {
            assertTrue(assertThrows(UnsupportedRequestException.class, () -> s.check(other.model())).getMessage().contains("not of "));
            Files.write(folder.resolve("w.bin"), NpyTest.floats(1, 2, 3, 5));
            try (Compressor changed = Compressor.open(folder.resolve("m.onnx"))) {
                assertThrows(UnsupportedRequestException.class, () -> s.check(changed.model()));
            }
        }
    }

    @Test
    void whatIsNotFiniteIsNamed() throws IOException {
        NonFiniteValueException e = assertThrows(NonFiniteValueException.class,
                () -> gather(model("m.onnx", false), samples(1, 1, 0, Float.NaN)));
        assertEquals(List.of("x", 1), List.of(e.value(), e.sample()));
    }
}
