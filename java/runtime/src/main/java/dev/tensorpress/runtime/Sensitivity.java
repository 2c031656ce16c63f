package dev.tensorpress.runtime;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.statistics.Gatherer;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.structure.StructuredPruning;
import dev.tensorpress.structure.StructuredPruning.Amount;
import dev.tensorpress.structure.StructuredPruning.Curve;
import dev.tensorpress.structure.StructuredPruning.Options;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** How much a model's outputs lose by what groups lose: what tells groups of different layers and kinds apart when they share a budget. */
public final class Sensitivity {
    private Sensitivity() {}

    /**
     * Runs the model with half of each group, one group at a time.
     *
     * @param inputs as of {@link StructuredPruning#prune}
     * @param options that the curves were made with
     * @param threads of ONNX Runtime, as in {@link OnnxRunner#of}
     * @param folder for a model on the way; nothing stays in it
     * @param progress told of all models that are tried
     * @return the curves in their order, each times what makes its loss of the half that was run 1 - cosine of the outputs
     * @throws IOException if a file cannot be read or written
     */
    public static List<Curve> scaled(OnnxModel model, InputStatistics inputs, Options options, List<Curve> curves, Samples samples, int threads, Path folder,
            Executor executor, Gatherer.Progress progress) throws IOException {
        List<Curve> all = new ArrayList<>();
        try {
            List<float[]> reference = BlockPruning.vectors(model.path(), samples, threads);
            for (Curve c : curves) {
                int size = c.group().size();
                int level = 0;
                while (level < c.kept().length - 1 && (level == 0 || c.kept()[level] > size / 2)) {
                    level++;
                }
                double lost = 0;
                if (c.loss()[level] > 0) {
                    Options half = new Options(options.kinds(), List.of(c.group().name()), new Amount(1 - (double) c.kept()[level] / size), 1, options.score(),
                            options.update(), options.damping());
                    Path trial = folder.resolve("trial.onnx");
                    try (Arena arena = executor.arena()) {
                        EditableModel shorter = EditableModel.of(model, arena);
                        StructuredPruning.prune(shorter, model.weights(), inputs, List.of(half), List.of(c), executor, arena);
                        shorter.write(Destination.replacing(trial));
                    }
                    lost = Math.max(0, 1 - BlockPruning.cosine(reference, BlockPruning.vectors(trial, samples, threads))) / c.loss()[level];
                }
                double scale = lost;
                all.add(new Curve(c.group(), c.kept(), Arrays.stream(c.loss()).map(l -> l * scale).toArray(), c.order()));
                progress.progress(all.size(), curves.size());
            }
        } finally {
            Trials.clear(folder);
        }
        return all;
    }
}
