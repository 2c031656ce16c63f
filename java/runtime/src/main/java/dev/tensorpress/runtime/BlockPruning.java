package dev.tensorpress.runtime;

import dev.tensorpress.model.Destination;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.statistics.Gatherer;
import dev.tensorpress.structure.Blocks;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** Which blocks of a model its outputs need least, by trying: the one without which they stay nearest goes, and again. */
public final class BlockPruning {
    /**
     * A block that goes.
     *
     * @param cosine of the outputs to the original's without it and all before it, in the mean over the samples
     */
    public record Gone(Blocks.Block block, double cosine) {}

    private BlockPruning() {}

    /**
     * Chooses blocks.
     *
     * @param blocks that can go
     * @param count how many do
     * @param threads as in {@link OnnxRunner#of}
     * @param folder for a model on the way; nothing stays in it
     * @param progress told of all models that are tried
     * @throws IOException if a file cannot be read or written
     */
    public static List<Gone> choose(OnnxModel model, List<Blocks.Block> blocks, int count, Samples samples, int threads, Path folder,
            Gatherer.Progress progress) throws IOException {
        List<float[]> reference = vectors(model.path(), samples, threads);
        List<Gone> gone = new ArrayList<>();
        List<Blocks.Block> left = new ArrayList<>(blocks);
        int total = 0;
        for (int i = 0; i < count; i++) {
            total += blocks.size() - i;
        }
        int done = 0;
        try {
            while (gone.size() < count) {
                Gone best = null;
                for (Blocks.Block block : left) {
                    List<String> names = new ArrayList<>(gone.stream().map(g -> g.block.name()).toList());
                    names.add(block.name());
                    Path trial = folder.resolve("trial.onnx");
                    try (Arena arena = Arena.ofShared()) {
                        EditableModel shorter = EditableModel.of(model, arena);
                        Blocks.remove(shorter, names);
                        shorter.write(Destination.replacing(trial));
                    }
                    double cosine = cosine(reference, vectors(trial, samples, threads));
                    progress.progress(++done, total);
                    if (best == null || cosine > best.cosine) {
                        best = new Gone(block, cosine);
                    }
                }
                gone.add(best);
                left.remove(best.block);
            }
        } finally {
            Trials.clear(folder);
        }
        return gone;
    }

    /** The mean over samples. */
    static double cosine(List<float[]> reference, List<float[]> found) {
        double sum = 0;
        for (int i = 0; i < reference.size(); i++) {
            double cosine = reference.get(i).length == found.get(i).length ? Embeddings.cosine(reference.get(i), found.get(i)) : 0;
            sum += Double.isNaN(cosine) ? 0 : cosine; // what is not finite is near to nothing
        }
        return sum / reference.size();
    }

    /** Of each sample all outputs. */
    static List<float[]> vectors(Path model, Samples samples, int threads) throws IOException {
        List<float[]> all = new ArrayList<>();
        try (Session session = Session.open(model, threads)) {
            for (int i = 0; i < samples.size(); i++) {
                session.run(samples.feed(session, i), outputs -> all.add(Trials.joined(outputs)));
            }
        }
        return all;
    }
}
