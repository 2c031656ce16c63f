package dev.tensorpress.runtime;

import ai.onnxruntime.OnnxTensor;
import dev.tensorpress.Compressor;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Compares a model with a compressed one: same inputs, one after the other, in ONNX Runtime.
 *
 * <pre>{@code
 * Comparison c = Evaluation.texts(original, compressed, sentences, Path.of("tokenizer.json"), Options.DEFAULT);
 * }</pre>
 */
public final class Evaluation {
    private static final int NEIGHBOURS = 10;
    /** All pairs of texts are compared; beyond this many that would take longer than the models. */
    private static final int NEIGHBOUR_TEXTS = 2048;
    private static final long REPEAT_NANOS = 10_000_000_000L;

    private Evaluation() {}

    /** Version of ONNX Runtime, which is loaded for it. */
    public static String runtime() {
        return Session.version();
    }

    /**
     * @param threads inside an operator; 0 for all processors
     * @param warmup runs of a model before any is timed
     * @param runs timed runs of a model, at least; with fewer inputs than this they are repeated, for ten seconds at most
     * @param seed of random inputs
     * @param shapes of random inputs by name, for all or some whose dimensions the model leaves open
     * @param allowLinks external data may lie behind links
     * @param tasks by which both models are measured, not for random inputs; of images and inputs out of files labels only
     * @param progress told about each run, or null
     */
    public record Options(int threads, int warmup, int runs, long seed, Map<String, Shape> shapes, boolean allowLinks,
            Tasks tasks, Progress progress) {
        public static final Options DEFAULT = new Options(0, 5, 50, 1, Map.of(), false, Tasks.NONE, null);

        public Options {
            if (threads < 0 || warmup < 0 || runs < 1) {
                throw new IllegalArgumentException("threads and warmup must not be negative, runs must be positive");
            }
            shapes = Map.copyOf(shapes);
        }

        public Options threads(int threads) {
            return new Options(threads, warmup, runs, seed, shapes, allowLinks, tasks, progress);
        }

        public Options warmup(int warmup) {
            return new Options(threads, warmup, runs, seed, shapes, allowLinks, tasks, progress);
        }

        public Options runs(int runs) {
            return new Options(threads, warmup, runs, seed, shapes, allowLinks, tasks, progress);
        }

        public Options seed(long seed) {
            return new Options(threads, warmup, runs, seed, shapes, allowLinks, tasks, progress);
        }

        public Options shapes(Map<String, Shape> shapes) {
            return new Options(threads, warmup, runs, seed, shapes, allowLinks, tasks, progress);
        }

        public Options allowLinks(boolean allowLinks) {
            return new Options(threads, warmup, runs, seed, shapes, allowLinks, tasks, progress);
        }

        public Options tasks(Tasks tasks) {
            return new Options(threads, warmup, runs, seed, shapes, allowLinks, tasks, progress);
        }

        public Options progress(Progress progress) {
            return new Options(threads, warmup, runs, seed, shapes, allowLinks, tasks, progress);
        }
    }

    /** Told how an evaluation goes on, by the thread that runs it. */
    @FunctionalInterface
    public interface Progress {
        /** {@code done} of {@code total} inputs have run through the model. */
        void progress(Path model, int done, int total);
    }

    /**
     * Compares sentence embeddings. One text at a time and unpadded; the embedding is the model's first output of rank 3
     * averaged over the tokens, else its first of rank 2. Texts of tasks are compared as well, after the others: the two of each pair,
     * then the queries.
     *
     * @param tokenizer a {@code tokenizer.json} of Hugging Face
     * @throws IllegalArgumentException if there is no text
     * @throws InputException if the tokenizer is none, or the tasks do not fit the texts or the model's classes
     * @throws UnsupportedRequestException if a model does not take tokens, or ONNX Runtime refuses it
     * @throws dev.tensorpress.model.MalformedModelException if a file is not a model
     * @throws IOException if a file cannot be read
     */
    public static Comparison texts(Path reference, Path candidate, List<String> texts, Path tokenizer, Options options)
            throws IOException {
        Tasks tasks = options.tasks;
        List<String> all = new ArrayList<>(texts);
        tasks.pairs().forEach(pair -> all.addAll(List.of(pair.left(), pair.right())));
        all.addAll(tasks.queries());
        if (all.isEmpty()) {
            throw new IllegalArgumentException("no texts to evaluate on");
        }
        if (!tasks.queries().isEmpty() && tasks.k() >= texts.size()) {
            throw new InputException("the nearest " + tasks.k() + " of " + texts.size() + " texts are no choice: look for fewer, or in more");
        }
        for (List<Integer> relevant : tasks.relevant()) {
            if (Collections.max(relevant) >= texts.size()) {
                throw new InputException("text " + (Collections.max(relevant) + 1) + " ought to be found, but there are " + texts.size());
            }
        }
        check(tokenizer);
        long before = bytes(reference, options);
        long after = bytes(candidate, options);
        Samples source = TextSource.of(all, tokenizer);
        List<float[]> wanted = new ArrayList<>();
        List<float[]> got = new ArrayList<>();
        Answers answers = new Answers(tasks);
        String[] name = new String[1];
        double[] beforeTimes = run(reference, source, options, (i, outputs) -> {
            if (name[0] == null) {
                name[0] = Embeddings.output(reference, outputs);
            }
            wanted.add(Embeddings.of(reference, outputs, name[0]));
            if (i < texts.size()) {
                answers.reference(outputs);
            }
        });
        double[] afterTimes = run(candidate, source, options, (i, outputs) -> {
            got.add(Embeddings.of(candidate, outputs, name[0]));
            if (i < texts.size()) {
                answers.candidate(outputs);
            }
        });
        Fidelity fidelity = new Fidelity(name[0]);
        for (int i = 0; i < wanted.size(); i++) {
            fidelity.add(wanted.get(i), got.get(i), 0);
        }
        int n = Math.min(wanted.size(), NEIGHBOUR_TEXTS);
        double neighbours = Embeddings.sameNeighbours(wanted.subList(0, n), got.subList(0, n), NEIGHBOURS);
        return new Comparison(side(reference, before, beforeTimes), side(candidate, after, afterTimes), Session.version(),
                Session.threads(options.threads), source.size(), "texts", List.of(), List.of(fidelity.result()), neighbours,
                answers.embeddings(texts.size(), wanted, got));
    }

    /**
     * Compares every output of floating-point type on random inputs. Dimensions that the model leaves open, and
     * for which the options give no shape, are 1 where they come first. Elsewhere all have the first length of 8, 32, 64, 224
     * and 256 that the reference runs with.
     *
     * @param count number of inputs
     * @throws IllegalArgumentException if {@code count} is not positive, or if there are tasks
     * @throws InputException if a shape does not fit the model, or there is no input of its name
     * @throws UnsupportedRequestException if an input is no tensor of numbers, or ONNX Runtime refuses a model or input, as it
     *     does where the model takes none of these lengths
     * @throws dev.tensorpress.model.MalformedModelException if a file is not a model
     * @throws IOException if a file cannot be read
     */
    public static Comparison random(Path reference, Path candidate, int count, Options options) throws IOException {
        if (count < 1) {
            throw new IllegalArgumentException("the number of random inputs must be positive, but is " + count);
        }
        if (!options.tasks.equals(Tasks.NONE)) {
            throw new IllegalArgumentException("nobody knows what is right for random inputs");
        }
        RandomSource source;
        long before;
        try (Compressor opened = open(reference, options)) {
            before = opened.model().bytes();
            source = new RandomSource(opened.model(), count, options.seed, options.shapes);
        }
        long after = bytes(candidate, options);
        return outputs(reference, before, candidate, after, source, "random", options).shapes(source.inputs());
    }

    /**
     * Compares every output of floating-point type on inputs out of files. A file {@code .npz} of NumPy is one input of the
     * models, its arrays named as theirs; a file {@code .npy} is one of models that have a single one; a folder with files
     * {@code input_0.pb} and so on, a TensorProto each, likewise, its tensors named as the models' inputs or in their order. Of
     * any other folder, all that it holds of these: files {@code .npz} and {@code .npy}, and folders {@code test_data_set_0}
     * and so on, as ONNX's tests have them.
     *
     * @throws InputException if a path is none of these, or holds nothing of them, or does not fit the inputs of a model in
     *     number, names, types or shapes, or the labels do not fit the outputs
     * @throws UnsupportedRequestException if the data are of a type that is not read, or ONNX Runtime refuses a model or input
     * @throws dev.tensorpress.model.MalformedModelException if a file is not a model, or does not follow the format of inputs
     * @throws IOException if a file cannot be read
     */
    public static Comparison inputs(Path reference, Path candidate, List<Path> inputs, Options options) throws IOException {
        if (inputs.isEmpty()) {
            throw new IllegalArgumentException("no inputs to evaluate on");
        }
        return samples(reference, candidate, new FileSource(inputs), options);
    }

    /**
     * Compares every output of floating-point type on images, as {@link Samples#images} has them.
     *
     * @throws InputException if there is none, or one cannot be read, or does not fit the inputs of a model
     * @throws UnsupportedRequestException if a model does not take a single image, or ONNX Runtime refuses it
     * @throws dev.tensorpress.model.MalformedModelException if a file is not a model
     * @throws IOException if a file cannot be read
     */
    public static Comparison images(Path reference, Path candidate, Path folder, Images images, Options options) throws IOException {
        return samples(reference, candidate, Samples.images(folder, images), options);
    }

    /**
     * Compares every output of floating-point type on any samples.
     *
     * @throws InputException if they do not fit the inputs of a model, or the labels do not fit the outputs
     * @throws UnsupportedRequestException if ONNX Runtime refuses a model or input
     * @throws dev.tensorpress.model.MalformedModelException if a file is not a model
     * @throws IOException if a file cannot be read
     */
    public static Comparison samples(Path reference, Path candidate, Samples samples, Options options) throws IOException {
        long before = bytes(reference, options);
        long after = bytes(candidate, options);
        return outputs(reference, before, candidate, after, samples, samples.source(), options);
    }

    private static Comparison outputs(Path reference, long before, Path candidate, long after, Samples source, String inputs,
            Options options) throws IOException {
        if (!options.tasks.equals(Tasks.NONE.labels(options.tasks.labels()))) {
            throw new IllegalArgumentException("pairs and queries are texts, and these inputs are not");
        }
        List<Map<String, float[]>> wanted = new ArrayList<>();
        Answers answers = new Answers(options.tasks);
        double[] beforeTimes = run(reference, source, options, (i, outputs) -> {
            Map<String, float[]> values = new LinkedHashMap<>();
            for (Map.Entry<String, OnnxTensor> output : outputs.entrySet()) {
                values.put(output.getKey(), Embeddings.floats(output.getValue()));
            }
            if (values.isEmpty()) {
                throw new UnsupportedRequestException(reference + " has no floating-point output to compare");
            }
            wanted.add(values);
            answers.reference(outputs);
        });
        Map<String, Fidelity> compared = new LinkedHashMap<>();
        double[] afterTimes = run(candidate, source, options, (i, outputs) -> {
            for (Map.Entry<String, float[]> want : wanted.get(i).entrySet()) {
                OnnxTensor output = outputs.get(want.getKey());
                if (output == null) {
                    throw new UnsupportedRequestException(candidate + " has no output " + want.getKey());
                }
                long[] shape = output.getInfo().getShape();
                compared.computeIfAbsent(want.getKey(), Fidelity::new).add(want.getValue(), Embeddings.floats(output),
                        shape.length == 0 ? 1 : shape[shape.length - 1]);
            }
            answers.candidate(outputs);
        });
        List<Comparison.Output> results = new ArrayList<>();
        for (Fidelity fidelity : compared.values()) {
            results.add(fidelity.result());
        }
        return new Comparison(side(reference, before, beforeTimes), side(candidate, after, afterTimes), Session.version(),
                Session.threads(options.threads), source.size(), inputs, List.of(), List.copyOf(results), Double.NaN, answers.classes());
    }

    /** Sees the floating-point outputs of each input once; they are gone when it returns. */
    private interface Sink {
        void accept(int i, Map<String, OnnxTensor> outputs);
    }

    /**
     * Runs all inputs through one model.
     *
     * <p>Sessions are opened one at a time: threads of ONNX Runtime spin while they wait for work, and those of a second
     * session would take processors from the first.
     *
     * @return milliseconds of each timed run, ascending
     */
    private static double[] run(Path model, Samples source, Options options, Sink sink) throws IOException {
        try (Session session = Session.open(model, options.threads)) {
            int n = source.size();
            for (int i = 0; i < options.warmup; i++) {
                session.run(source.feed(session, i % n), outputs -> { });
            }
            List<Double> times = new ArrayList<>();
            for (int i = 0; i < n; i++) {
                int item = i;
                times.add(session.run(source.feed(session, i), outputs -> sink.accept(item, outputs)));
                if (options.progress != null) {
                    options.progress.progress(model, i + 1, n);
                }
            }
            long end = System.nanoTime() + REPEAT_NANOS;
            for (int i = 0; times.size() < options.runs && System.nanoTime() < end; i++) {
                times.add(session.run(source.feed(session, i % n), outputs -> { }));
            }
            double[] sorted = new double[times.size()];
            for (int i = 0; i < sorted.length; i++) {
                sorted[i] = times.get(i);
            }
            Arrays.sort(sorted);
            return sorted;
        }
    }

    private static Comparison.Side side(Path path, long bytes, double[] times) {
        double median = (times[(times.length - 1) / 2] + times[times.length / 2]) / 2;
        return new Comparison.Side(path, bytes, median, times[(int) Math.ceil(0.95 * times.length) - 1]);
    }

    private static long bytes(Path model, Options options) throws IOException {
        try (Compressor opened = open(model, options)) {
            return opened.model().bytes();
        }
    }

    private static Compressor open(Path model, Options options) throws IOException {
        check(model);
        return Compressor.open(model, Compressor.Options.DEFAULT.allowLinks(options.allowLinks));
    }

    private static void check(Path file) throws IOException {
        if (!Files.exists(file)) {
            throw new NoSuchFileException(file.toString());
        }
    }
}
