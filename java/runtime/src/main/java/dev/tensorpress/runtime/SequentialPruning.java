package dev.tensorpress.runtime;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.statistics.Gatherer;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.Request;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.structure.Dependencies;
import dev.tensorpress.structure.Group;
import dev.tensorpress.structure.StructuredPruning;
import dev.tensorpress.structure.StructuredPruning.Amount;
import dev.tensorpress.structure.StructuredPruning.Options;
import dev.tensorpress.structure.StructuredPruning.Pruned;
import dev.tensorpress.structure.StructuredPruning.Score;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/**
 * Structured pruning layer by layer: statistics of what the products of a group read are taken from the model without all that went before, in the order
 * of the graph, so that they are those of the pruned model.
 */
public final class SequentialPruning {
    /** What is done with the model that comes out. */
    @FunctionalInterface
    public interface Last<T> {
        /** @param model valid until it returns */
        T of(EditableModel model, List<Pruned> groups) throws IOException;
    }

    private SequentialPruning() {}

    /**
     * Prunes group after group, and runs the model once for each.
     *
     * @param options whose target is an {@link Amount}, and which ask for inputs
     * @param folder for models on the way, of which there are two at a time; nothing stays in it
     * @param threads as in {@link OnnxRunner#of}
     * @param progress told of all runs together
     * @param last gets the model once all is done
     * @throws dev.tensorpress.model.UnsupportedRequestException as {@link StructuredPruning#prune}
     * @throws IOException if a file cannot be read or written
     */
    public static <T> T prune(OnnxModel model, Options options, Samples samples, Path folder, int threads, Executor executor, Gatherer.Progress progress,
            Last<T> last) throws IOException {
        if (!(options.target() instanceof Amount) || !options.asksForInputs()) {
            throw new IllegalArgumentException("groups that are pruned one after another lose an amount of each, chosen by their inputs");
        }
        try (Arena arena = executor.arena()) {
            EditableModel trial = EditableModel.of(model, arena);
            Map<String, Group> groups = new HashMap<>();
            Dependencies.of(trial).groups().forEach(g -> groups.put(g.name(), g));
            // Magnitudes tell which groups lose indices at all.
            List<Pruned> all = new ArrayList<>(StructuredPruning.prune(trial, model.weights(), null, List.of(new Options(options.kinds(), options.names(),
                    options.target(), options.multiple(), Score.MAGNITUDE, false, options.damping())), executor, arena).groups());
            int[] some = IntStream.range(0, all.size()).filter(i -> all.get(i).kept() < all.get(i).size()).toArray();
            OnnxModel current = model;
            try {
                for (int i = 0; i < some.length; i++) {
                    Pruned[] pruned = new Pruned[1];
                    OnnxModel next = without(current, groups.get(all.get(some[i]).name()), options, samples, folder.resolve(Integer.toString(i)), threads,
                            executor, step(progress, i, some.length), pruned);
                    all.set(some[i], pruned[0]);
                    if (next != current) {
                        discard(current, model);
                        current = next;
                    }
                }
                return last.of(EditableModel.of(current, arena), all);
            } finally {
                discard(current, model);
            }
        }
    }

    private static Gatherer.Progress step(Gatherer.Progress all, int step, int of) {
        return (done, total) -> all.progress(step * total + done, of * total);
    }

    private static void discard(OnnxModel current, OnnxModel original) throws IOException {
        if (current != original) {
            current.close();
            delete(current.path().getParent());
        }
    }

    private static void delete(Path folder) throws IOException {
        Trials.clear(folder);
        Files.delete(folder);
    }

    /** @return the same model if nothing goes */
    private static OnnxModel without(OnnxModel current, Group group, Options options, Samples samples, Path folder, int threads, Executor executor,
            Gatherer.Progress progress, Pruned[] result) throws IOException {
        Set<String> summed = group.members().stream().filter(m -> m.part() == Group.Part.SUMMED).map(Group.Member::constant).collect(Collectors.toSet());
        Graph graph = current.graph().orElseThrow();
        List<Request> requests = new ArrayList<>();
        graph.feeds().stream().filter(f -> f.value().path().isEmpty() && f.products().stream().anyMatch(p -> summed.contains(p.weight().name())))
                .forEach(f -> requests.addAll(Request.of(f, true)));
        try (Arena arena = executor.arena();
                Statistics statistics = Gatherer.gather(current.path(), "", requests, OnnxRunner.of(samples, threads), executor, progress)) {
            EditableModel shorter = EditableModel.of(current, arena);
            Options one = new Options(Set.of(group.kind()), List.of(group.name()), options.target(), options.multiple(), options.score(), options.update(),
                    options.damping());
            Pruned pruned = StructuredPruning.prune(shorter, current.weights(), InputStatistics.of(statistics, graph), List.of(one), executor, arena).groups()
                    .getFirst();
            result[0] = pruned;
            if (pruned.kept() == pruned.size()) {
                return current;
            }
            Files.createDirectories(folder);
            // Of the same name, which that of a file of data beside it is made of.
            Path file = folder.resolve(current.path().getFileName());
            try {
                shorter.write(Destination.replacing(file));
                return OnnxModel.open(file, false);
            } catch (IOException | RuntimeException | Error e) {
                delete(folder);
                throw e;
            }
        }
    }
}
