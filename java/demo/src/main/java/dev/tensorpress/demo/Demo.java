package dev.tensorpress.demo;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;

/** An experiment that ends with tables and plots. */
public interface Demo {
    /** All there are, in the order in which they are told of. */
    List<Demo> ALL = List.of(new DigitsDemo(), new MlpDemo(), new CnnDemo(), new LeNetDemo(), new AutoencoderDemo(), new EmbeddingsDemo());

    /** As on the command line. */
    String name();

    /** In one line: what it shows. */
    String summary();

    /**
     * Runs it.
     *
     * @throws IOException if a file cannot be written, or fetched
     */
    Findings run(Work work) throws IOException;

    /**
     * What it works with.
     *
     * @param folder for models, which may be there from a run before, and are replaced
     * @param effort how much of everything
     * @param threads of kernels and of PyTorch; 0 for as many as there are processors
     * @param sources of what is too large to come with the demos
     */
    record Work(Path folder, Effort effort, int threads, Sources sources, Progress progress) {
        /** A file of the folder. */
        Path file(String name) {
            return folder.resolve(name);
        }
    }

    /**
     * How much of everything.
     *
     * @param digits of the data, from 100 to 10,000; the last fifth is what accuracies are measured on. Other data count alike: the part that these are of 10,000
     * @param epochs how often training sees its data, as a part of what {@link #FULL} does
     */
    record Effort(int digits, double epochs) {
        /** What figures in the documentation are of. */
        public static final Effort FULL = new Effort(10_000, 1);

        /** Of a number that is meant for {@link #FULL}, at least 1. */
        int epochs(int full) {
            return (int) Math.max(1, Math.round(full * epochs));
        }
    }

    /** Files and texts that demos share with others. */
    interface Sources {
        /**
         * A file, fetched if it is not there.
         *
         * @param name {@code all-minilm-l6-v2.onnx} or {@code all-minilm-l6-v2-tokenizer.json}
         * @throws IOException if it cannot be fetched
         */
        Path file(String name) throws IOException;

        /** The 512 sentences by which embeddings are compared. */
        List<String> sentences() throws IOException;
    }

    /** Told how it goes on. */
    @FunctionalInterface
    interface Progress {
        /** {@code done} of {@code total} steps; {@code note} may be empty. */
        void at(String what, long done, long total, String note);
    }
}
