package dev.tensorpress.model;

import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.function.BiConsumer;

/**
 * Runs a model on samples, and shows values that it computes on the way. This library knows no runtime: who wants values looked at
 * brings one. One thread uses it at a time. Close it when done.
 */
public interface Runner extends AutoCloseable {
    /** Where runners come from: a runtime, and what a model is run on. */
    interface Factory {
        /** What the samples are, in words that reports show, such as "texts" or "random inputs". */
        String source();

        /**
         * @param model a file of the model that the values are of, or of one with values of the same names, such as that with some
         *     weights compressed
         * @param values to be shown
         * @throws UnsupportedRequestException if the runtime does not take the model, or the model does not take the samples, or a value
         *     cannot be shown, which one in a subgraph never can
         * @throws IOException if a file cannot be read
         */
        Runner open(Path model, List<Graph.Value> values) throws IOException;
    }

    /** How many there are. */
    int samples();

    /**
     * Runs the model on one sample.
     *
     * @param sample from 0 on
     * @param shown gets each value of floating-point type once, in the order in which they were asked for; always as f32, off-heap, and
     *     only until it returns. Values of other types are not shown
     * @throws UnsupportedRequestException if the runtime fails
     * @throws IOException if the sample cannot be read
     */
    void run(int sample, BiConsumer<Graph.Value, Tensor> shown) throws IOException;

    @Override
    void close();
}
