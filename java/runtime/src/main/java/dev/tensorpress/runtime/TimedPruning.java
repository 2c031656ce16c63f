package dev.tensorpress.runtime;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.structure.Group;
import dev.tensorpress.structure.StructuredPruning;
import dev.tensorpress.structure.StructuredPruning.Amount;
import dev.tensorpress.structure.StructuredPruning.Curve;
import dev.tensorpress.structure.StructuredPruning.Latency;
import dev.tensorpress.structure.StructuredPruning.Options;
import dev.tensorpress.structure.StructuredPruning.Score;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Structured pruning until a model takes a part of its time in ONNX Runtime: a table of what groups of each kind and size save with fewer indices, which
 * is measured, a model that is allocated by it, and a race of that against the original; if it is too slow or much too fast, the next one is asked for
 * less or more.
 */
public final class TimedPruning {
    /** Models that are measured for the table, at most, unless there are more kinds and sizes. */
    private static final int MODELS = 24;
    private static final double[] LEFT = {0.5, 0.25, 0.75, 0.125};
    private static final int ROUNDS = 4;
    /** How much faster than asked for is near enough. */
    private static final double NEAR = 0.03;

    /**
     * A line of the table.
     *
     * @param groups there are of this kind and size
     * @param part of the model's time that is left if all of them keep so many indices
     */
    public record Row(Group.Kind kind, int size, int groups, int kept, double part) {}

    /**
     * What came of it.
     *
     * @param model to be written
     * @param measured part of the time that it takes, of the original's
     * @param millis of the original, for a sample in the mean
     * @param rounds parts that models on the way have taken
     */
    public record Outcome(EditableModel model, StructuredPruning.Result result, List<Row> table, double measured, double millis, List<Double> rounds) {}

    /** What measures times of models that run in turns. */
    @FunctionalInterface
    interface Stopwatch {
        double[] millis(List<Path> models) throws IOException;
    }

    private record Like(Group.Kind kind, int size) {}

    /**
     * Savings are shared out evenly among groups that are alike; linear between levels, along the upper hull of what was measured, so that noise makes no
     * steps. That is a little too hopeful, which the first race shows.
     */
    private record Table(double whole, Map<Like, List<double[]>> points) implements StructuredPruning.Times {
        @Override
        public double saved(Group group, int kept) {
            double gone = group.size() - kept;
            List<double[]> all = points.get(new Like(group.kind(), group.size()));
            double best = 0;
            for (double[] a : all) {
                for (double[] b : all) {
                    if (a[0] <= gone && gone <= b[0]) {
                        best = Math.max(best, a[0] == b[0] ? a[1] : a[1] + (b[1] - a[1]) * (gone - a[0]) / (b[0] - a[0]));
                    }
                }
            }
            return best;
        }
    }

    private final OnnxModel model;
    private final InputStatistics inputs;
    private final Options options;
    private final Stopwatch race;
    private final Path folder;
    private final Executor executor;
    private final Arena arena;

    private TimedPruning(OnnxModel model, InputStatistics inputs, Options options, Stopwatch race, Path folder, Executor executor, Arena arena) {
        this.model = model;
        this.inputs = inputs;
        this.options = options;
        this.race = race;
        this.folder = folder;
        this.executor = executor;
        this.arena = arena;
    }

    /**
     * Prunes until the model takes a part of its time.
     *
     * @param inputs as of {@link StructuredPruning#prune}
     * @param options whose target does not count
     * @param part of the time, above 0 and below 1
     * @param samples that models are timed on
     * @param threads of ONNX Runtime, as in {@link OnnxRunner#of}
     * @param folder for models on the way; nothing stays in it
     * @param arena for new constants, which has to live as long as the outcome is used
     * @return the slowest model that is fast enough, or the fastest one if none is
     * @throws dev.tensorpress.model.UnsupportedRequestException as {@link StructuredPruning#prune}
     * @throws IOException if a file cannot be read or written
     */
    public static Outcome prune(OnnxModel model, InputStatistics inputs, Options options, double part, Samples samples, int threads, Path folder,
            Executor executor, Arena arena) throws IOException {
        Race race = new Race(samples, threads);
        return prune(model, inputs, options, part, models -> race.millis(models, () -> false), folder, executor, arena);
    }

    static Outcome prune(OnnxModel model, InputStatistics inputs, Options options, double part, Stopwatch race, Path folder, Executor executor, Arena arena)
            throws IOException {
        return new TimedPruning(model, inputs, options, race, folder, executor, arena).run(part);
    }

    private Outcome run(double part) throws IOException {
        List<Curve> curves = StructuredPruning.curves(EditableModel.of(model, arena), model.weights(), inputs, List.of(options), executor);
        List<Row> rows = new ArrayList<>();
        List<Double> rounds = new ArrayList<>();
        Outcome best = null;
        double aim = part;
        try {
            Table table = table(curves, rows);
            for (int round = 0; round < ROUNDS; round++) {
                EditableModel next = EditableModel.of(model, arena);
                StructuredPruning.Result result = StructuredPruning.prune(next, model.weights(), inputs, List.of(options.with(new Latency(aim, table))), curves,
                        executor, arena);
                double[] millis = race.millis(List.of(model.path(), write(next, 0)));
                double measured = millis[1] / millis[0];
                rounds.add(measured);
                if (best == null || (measured <= part ? best.measured > part || measured > best.measured : measured < best.measured)) {
                    best = new Outcome(next, result, rows, measured, table.whole, rounds);
                }
                if (measured <= part && measured >= part - NEAR) {
                    break;
                }
                aim = Math.min(1, aim * (part - NEAR / 2) / measured);
            }
        } finally {
            Trials.clear(folder);
        }
        return best;
    }

    private Path write(EditableModel next, int number) throws IOException {
        Path file = folder.resolve(number + ".onnx");
        next.write(Destination.replacing(file));
        return file;
    }

    private Table table(List<Curve> curves, List<Row> rows) throws IOException {
        Map<Like, List<Curve>> alike = new LinkedHashMap<>();
        curves.forEach(c -> alike.computeIfAbsent(new Like(c.group().kind(), c.group().size()), _ -> new ArrayList<>()).add(c));
        int levels = Math.clamp(MODELS / Math.max(1, alike.size()), 1, LEFT.length);
        List<Path> files = new ArrayList<>(List.of(model.path()));
        List<Row> all = new ArrayList<>();
        for (Map.Entry<Like, List<Curve>> e : alike.entrySet()) {
            Like like = e.getKey();
            List<String> names = e.getValue().stream().map(c -> c.group().name()).toList();
            for (int i = 0; i < levels; i++) {
                Options one = new Options(options.kinds(), names, new Amount(1 - LEFT[i]), options.multiple(), Score.MAGNITUDE, false, options.damping());
                try (Arena own = executor.arena()) {
                    EditableModel shorter = EditableModel.of(model, own);
                    int kept = StructuredPruning.prune(shorter, model.weights(), null, List.of(one), executor, own).groups().getFirst().kept();
                    if (kept < like.size && all.stream().noneMatch(r -> r.kind() == like.kind && r.size() == like.size && r.kept() == kept)) {
                        all.add(new Row(like.kind, like.size, names.size(), kept, 1));
                        files.add(write(shorter, files.size()));
                    }
                }
            }
        }
        double[] millis = race.millis(files);
        Map<Like, List<double[]>> points = new LinkedHashMap<>();
        alike.keySet().forEach(like -> points.computeIfAbsent(like, _ -> new ArrayList<>()).add(new double[2]));
        for (int i = 0; i < all.size(); i++) {
            Row r = all.get(i);
            rows.add(new Row(r.kind(), r.size(), r.groups(), r.kept(), millis[i + 1] / millis[0]));
            points.get(new Like(r.kind(), r.size())).add(new double[] {r.size() - r.kept(), Math.max(0, millis[0] - millis[i + 1]) / r.groups()});
        }
        // Beyond the last level that was measured each index saves as much as up to it.
        points.forEach((like, of) -> {
            double[] last = of.stream().reduce((a, b) -> a[0] > b[0] ? a : b).orElseThrow();
            of.add(new double[] {like.size, last[0] == 0 ? 0 : last[1] * like.size / last[0]});
        });
        return new Table(millis[0], points);
    }
}
