package dev.tensorpress.runtime;

import ai.onnxruntime.OnnxTensor;
import dev.tensorpress.Compressor;
import dev.tensorpress.Recipe;
import dev.tensorpress.model.UnsupportedRequestException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.BooleanSupplier;
import java.util.stream.Stream;

/** Models that recipes make on the way of a {@link Search}: how near their outputs stay to the original's, and how long they take. */
final class Trials {
    private final Compressor compressor;
    private final Samples samples;
    private final Search.Compared compared;
    private final int threads;
    private final Search.Memory memory;
    private final Search.Clock clock;
    private final Search.Progress progress;
    private final int expected;
    private final Path scratch;
    private List<float[]> reference;
    private int models;

    /** @param expected how many models there will be, about */
    Trials(Compressor compressor, Samples samples, Search.Compared compared, int threads, Search.Memory memory, Search.Clock clock,
            Search.Progress progress, int expected, Path scratch) {
        this.compressor = compressor;
        this.samples = samples;
        this.compared = compared;
        this.threads = threads;
        this.memory = memory;
        this.clock = clock;
        this.progress = progress;
        this.expected = expected;
        this.scratch = scratch;
    }

    /** Makes it an empty folder: models have files of data beside them, and what was killed leaves some. */
    static void clear(Path folder) throws IOException {
        if (!Files.isDirectory(folder, LinkOption.NOFOLLOW_LINKS)) {
            Files.deleteIfExists(folder);
            Files.createDirectory(folder);
        }
        List<Path> files;
        try (Stream<Path> there = Files.list(folder)) {
            files = there.toList();
        }
        for (Path file : files) {
            Files.delete(file);
        }
    }

    /**
     * Puts milliseconds by recipe into the memory. Times of all are in proportion to the one that the original had at first, since a machine is not
     * always as fast.
     *
     * @param whole the recipe of the original, without steps
     * @param together whether all run again if one has to
     * @param outOfTime as {@link Search.Clock} has it
     */
    void race(Recipe whole, List<Recipe> recipes, boolean together, BooleanSupplier outOfTime) throws IOException {
        String original = whole.yaml();
        List<Recipe> runners = new ArrayList<>(List.of(whole));
        for (Recipe recipe : recipes) {
            if (Double.isNaN(memory.millis(recipe.yaml()))) {
                runners.add(recipe);
            }
        }
        if (runners.size() > 1 || Double.isNaN(memory.millis(original))) {
            if (together) {
                runners.subList(1, runners.size()).clear();
                runners.addAll(recipes);
            }
            clear(scratch);
            List<Path> files = new ArrayList<>(List.of(compressor.model().path()));
            for (Recipe recipe : runners.subList(1, runners.size())) {
                files.add(scratch.resolve(files.size() + ".onnx"));
                compressor.compress(compressor.plan(recipe), files.getLast());
            }
            double[] millis = clock.millis(runners, files, outOfTime);
            if (Double.isNaN(memory.millis(original))) {
                memory.putMillis(original, millis[0]);
            }
            for (int i = 1; i < millis.length; i++) {
                memory.putMillis(runners.get(i).yaml(), millis[i] / millis[0] * memory.millis(original));
            }
            progress.measured("the time of " + files.size() + " models", models, Math.max(models, expected));
        }
    }

    /**
     * The mean over the first {@code count} samples.
     *
     * @param what is measured, as it is told
     */
    double cosine(Recipe recipe, int count, String what) throws IOException {
        String text = recipe.yaml();
        double known = memory.cosine(text, count);
        if (!Double.isNaN(known)) {
            return known;
        }
        if (reference == null) {
            reference = vectors(compressor.model().path(), samples.size());
            for (int i = 0; i < reference.size(); i++) {
                for (float x : reference.get(i)) {
                    if (!Float.isFinite(x)) {
                        throw new UnsupportedRequestException("the model itself puts out " + x + " for sample " + i
                                + " of those held out, with which nothing can be compared");
                    }
                }
            }
        }
        clear(scratch);
        Path trial = scratch.resolve("model.onnx");
        compressor.compress(compressor.plan(recipe), trial);
        List<float[]> found = vectors(trial, count);
        double sum = 0;
        for (int i = 0; i < count; i++) {
            if (found.get(i).length != reference.get(i).length) {
                throw new UnsupportedRequestException("outputs of sample " + i + " have other sizes once weights are compressed (" + what + ")");
            }
            double cosine = Embeddings.cosine(reference.get(i), found.get(i));
            sum += Double.isNaN(cosine) ? 0 : cosine; // what is not finite is near to nothing
        }
        progress.measured(what, ++models, Math.max(models, expected));
        memory.put(text, count, sum / count);
        return sum / count;
    }

    private List<float[]> vectors(Path model, int count) throws IOException {
        List<float[]> all = new ArrayList<>();
        String[] name = new String[1];
        try (Session session = Session.open(model, threads)) {
            for (int i = 0; i < count; i++) {
                session.run(samples.feed(session, i), outputs -> {
                    if (compared == Search.Compared.OUTPUTS) {
                        all.add(joined(outputs));
                    } else {
                        name[0] = name[0] == null ? Embeddings.output(model, outputs) : name[0];
                        all.add(Embeddings.of(model, outputs, name[0]));
                    }
                });
            }
        }
        return all;
    }

    /** All of a run's outputs, one after another. */
    static float[] joined(Map<String, OnnxTensor> outputs) {
        List<float[]> parts = new ArrayList<>();
        int n = 0;
        for (OnnxTensor output : outputs.values()) {
            parts.add(Embeddings.floats(output));
            n += parts.getLast().length;
        }
        if (n == 0) {
            throw new UnsupportedRequestException("the model has no output of floating-point numbers that could be compared");
        }
        float[] all = new float[n];
        int at = 0;
        for (float[] part : parts) {
            System.arraycopy(part, 0, all, at, part.length);
            at += part.length;
        }
        return all;
    }
}
