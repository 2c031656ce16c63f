package dev.tensorpress.statistics;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.Runner;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Adds values up. What it keeps does not depend on how many samples there are: for each request a few numbers per channel, and a Gram
 * matrix in f64 where one is wanted. The same values in the same order give the same bits on any executor. One thread uses it at a time.
 * Close it when done.
 */
public final class Gatherer implements AutoCloseable {
    private final Map<Graph.Value, List<Accumulator>> wanted = new LinkedHashMap<>();
    private final List<Accumulator> all = new ArrayList<>();
    private final Arena own;
    /** Null once it is handed over. */
    private Arena results;

    /** Told how it goes on, by the thread that runs. */
    @FunctionalInterface
    public interface Progress {
        /** {@code done} of {@code total} samples have been run. */
        void progress(int done, int total);
    }

    /** @param executor must outlive this object */
    public Gatherer(List<Request> requests, Executor executor) {
        own = executor.arena();
        results = Arena.ofShared();
        for (Request r : requests) {
            Accumulator a = new Accumulator(r, executor, results, own);
            all.add(a);
            wanted.computeIfAbsent(r.value(), v -> new ArrayList<>(1)).add(a);
        }
    }

    /**
     * Runs a model on all samples of a runner, and gathers what is asked for.
     *
     * @param hash of the model whose values they are
     * @throws NonFiniteValueException if a value holds NaN, or one whose Gram matrix is wanted infinity
     * @throws dev.tensorpress.model.UnsupportedRequestException if the runtime or a value does not allow it
     * @throws IOException if a file cannot be read
     */
    public static Statistics gather(Path model, String hash, List<Request> requests, Runner.Factory runners, Executor executor,
            Progress progress) throws IOException {
        try (Gatherer gatherer = new Gatherer(requests, executor); Runner runner = runners.open(model, gatherer.values())) {
            for (int i = 0; i < runner.samples(); i++) {
                int sample = i;
                runner.run(i, (value, tensor) -> gatherer.accept(sample, value, tensor));
                progress.progress(i + 1, runner.samples());
            }
            return gatherer.finish(hash, runner.samples(), runners.source());
        }
    }

    /** Those of the requests, each once. */
    public List<Graph.Value> values() {
        return List.copyOf(wanted.keySet());
    }

    /**
     * Adds a value of one sample. Values that nothing was requested of are passed over.
     *
     * @param sample for messages
     * @param tensor f32, off-heap; not kept
     * @throws NonFiniteValueException if it holds NaN, or infinity where a Gram matrix is wanted; thrown now, or later, when there are
     *     enough rows to be looked at. Of other values with infinities there will be no statistics
     * @throws dev.tensorpress.model.UnsupportedRequestException if it has not the axis of a request, or another number of channels than
     *     before
     */
    public void accept(int sample, Graph.Value value, Tensor tensor) {
        if (tensor.dtype() != DType.F32) {
            throw new IllegalArgumentException("values are shown as F32, not " + tensor.dtype());
        }
        for (Accumulator a : wanted.getOrDefault(value, List.of())) {
            a.add(sample, tensor);
        }
    }

    /**
     * What was gathered, in the order of the requests, without values that were never shown. This object is of no more use then.
     *
     * @param hash of the model
     * @param samples that were run
     * @param source what they were, in words
     * @throws NonFiniteValueException as {@link #accept}
     */
    public Statistics finish(String hash, long samples, String source) {
        List<ValueStatistics> found = new ArrayList<>();
        for (Accumulator a : all) {
            a.finish().ifPresent(found::add);
        }
        Statistics statistics = new Statistics(hash, samples, source, found, results::close);
        results = null;
        return statistics;
    }

    @Override
    public void close() {
        all.forEach(Accumulator::close);
        own.close();
        if (results != null) {
            results.close();
        }
    }
}
