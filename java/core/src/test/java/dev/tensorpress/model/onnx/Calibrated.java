package dev.tensorpress.model.onnx;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.tensorpress.Compressor;
import dev.tensorpress.Recipe;
import dev.tensorpress.Report;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.Weight;
import dev.tensorpress.statistics.Gatherer;
import dev.tensorpress.statistics.Request;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;

/** Models whose values a test makes up, and what is made of them. */
final class Calibrated {
    private Calibrated() {}

    /** Each value that feeds a product is this one. */
    static Statistics statistics(Compressor compressor, boolean gram, float[] x, long... shape) throws IOException {
        Graph graph = compressor.model().graph().orElseThrow();
        try (Executor executor = Executor.cpu(1); Gatherer gatherer = new Gatherer(Request.feeds(graph, gram), executor);
                Arena arena = Arena.ofShared()) {
            MemorySegment values = arena.allocate(4L * x.length, 64).copyFrom(MemorySegment.ofArray(x));
            for (Graph.Value value : gatherer.values()) {
                gatherer.accept(0, value, new Tensor(DType.F32, Shape.of(shape), values));
            }
            return gatherer.finish(Statistics.hash(compressor.model()), 1, "rows");
        }
    }

    /** A recipe of one line for each step: {@code prune: {sparsity: 0.5}}. */
    static Recipe recipe(Path folder, String... methods) throws IOException {
        StringBuilder yaml = new StringBuilder("name: r\nmin-size: 0\noptions: {sparse-initializers: false}\nsteps:\n");
        for (String method : methods) {
            yaml.append("  - select: {role: [linear, head, conv]}\n    ").append(method).append('\n');
        }
        return Recipe.read(Files.writeString(folder.resolve("r.yaml"), yaml));
    }

    static Report compress(Path model, Recipe recipe, int threads, Path out, float[] x, long... shape) throws IOException {
        try (Compressor c = Compressor.open(model, Compressor.Options.DEFAULT.threads(threads).overwrite(true));
                Statistics s = statistics(c, true, x, shape)) {
            c.use(s);
            return c.compress(c.plan(recipe), out);
        }
    }

    /** A weight's elements. */
    static float[] read(Path model, String name) throws IOException {
        try (Compressor c = Compressor.open(model); Arena arena = Arena.ofConfined()) {
            Tensor t = c.model().weights().stream().filter(w -> w.name().equals(name)).findFirst().map(Weight::tensor).orElseThrow();
            MemorySegment elements = arena.allocate(JAVA_FLOAT, t.shape().elements());
            Quantize.convert(t.dtype(), t.data(), t.shape().elements(), DType.F32, elements);
            return elements.toArray(JAVA_FLOAT);
        }
    }
}
