package dev.tensorpress.cli;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.runtime.BlockPruning;
import dev.tensorpress.runtime.Samples;
import dev.tensorpress.runtime.Sensitivity;
import dev.tensorpress.runtime.SequentialPruning;
import dev.tensorpress.runtime.TimedPruning;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.structure.Blocks;
import dev.tensorpress.structure.Group;
import dev.tensorpress.structure.StructuredPruning;
import dev.tensorpress.structure.StructuredPruning.Amount;
import dev.tensorpress.structure.StructuredPruning.Budget;
import dev.tensorpress.structure.StructuredPruning.Measure;
import dev.tensorpress.structure.StructuredPruning.Score;
import dev.tensorpress.structure.StructuredPruning.Target;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;

/** {@code tensorpress slim}: takes neurons, heads and channels out of a model. */
final class SlimCommand implements Command {
    private static final Option AMOUNT = new Option("amount", new Option.Real(0, false, 1, false), "0.25", "part of the indices of each group");
    private static final Option MULTIPLE = new Option("multiple", new Option.Whole(1, 1 << 20, 1), "8", "of how many indices stay");
    private static final String BLOCKS = "blocks";
    private static final String LATENCY = "latency";
    private static final String SEQUENTIAL = "sequential";
    private static final Option DAMPING = new Option("damping", new Option.Real(0, false, 1, true), "0.001", "of the mean of the Gram matrix's diagonal");

    @Override
    public Syntax syntax() {
        return SampleOptions.add(EditedGraph.declare(new Syntax("slim", "Takes neurons, heads or channels out of a model in ONNX, and makes up for them.",
                "MODEL")))
                .option("kind", "A,B", "what is taken out, of " + Option.any(EditedGraph.words(Group.Kind.values())) + "; neurons if left out; or blocks, which"
                        + " go alone: whole branches beside a residual connection")
                .option("names", "GLOB", "of groups that lose some, as inspect --graph shows them (may be repeated); all if left out")
                .option(AMOUNT.name(), "PART", AMOUNT.meaning() + ": above 0 and below 1; " + AMOUNT.fallback() + " if nothing else is asked for")
                .option(Measure.BYTES.id(), "PART", "instead, what is left of the file, from groups that lose least for it: above 0 and below 1")
                .option(Measure.MULTIPLY_ADDS.id(), "PART", "the same of what products compute")
                .option(LATENCY, "PART", "the same of its time, which is measured on --texts, --images, --inputs or --random")
                .option(MULTIPLE.name(), "N", MULTIPLE.meaning() + ", of heads as many features; " + MULTIPLE.fallback() + " if left out")
                .option("statistics", "FILE", "of what products are multiplied with, which calibrate writes; without them magnitudes alone count")
                .option("score", "S", "what tells which are needed least, " + Option.any(EditedGraph.words(Score.values()))
                        + "; reconstruction if there are statistics and it is left out")
                .option(DAMPING.name(), "D", DAMPING.meaning() + "; " + DAMPING.fallback() + " if left out")
                .flag(SEQUENTIAL, "group by group: statistics are those of the model without what went before, on --texts, --images or --inputs; without"
                        + " --statistics")
                .flag("no-update", "leaves weights as they are: what stays does not make up for the rest")
                .option("threads", "N", "that kernels use; all processors if left out");
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        EditedGraph.output(arguments);
        if (BLOCKS.equals(arguments.value("kind"))) {
            blocks(arguments, console);
            return;
        }
        StructuredPruning.Options options = options(arguments);
        boolean sampled = Stream.of("texts", "images", "inputs", "random").anyMatch(o -> !arguments.values(o).isEmpty());
        boolean shared = sampled && options.target() instanceof Budget;
        boolean runs = arguments.value(LATENCY) != null || arguments.flag(SEQUENTIAL) || shared;
        if (sampled && !runs) {
            throw arguments.wrong("--texts, --images, --inputs and --random go with --bytes, --multiply-adds, --latency or --sequential");
        }
        if (arguments.flag(SEQUENTIAL) && arguments.value("random") != null) {
            throw arguments.wrong("--sequential goes with --texts, --images or --inputs: what products read of --random is like nothing that they will read");
        }
        SampleOptions given = runs ? SampleOptions.of(arguments, null) : null;
        long start = System.nanoTime();
        Path file = arguments.path("statistics");
        try (OnnxModel model = EditedGraph.open(arguments, "slim");
                Statistics statistics = file == null ? null : Statistics.load(file, model);
                Executor executor = Executor.cpu(arguments.threads()); Arena arena = executor.arena()) {
            List<Path> read = new ArrayList<>(model.files());
            if (file != null) {
                read.add(file);
            }
            if (runs) {
                read.addAll(given.files());
            }
            EditedGraph.check(arguments, read);
            InputStatistics inputs = null;
            if (options.asksForInputs() && statistics != null) {
                statistics.check(model);
                inputs = InputStatistics.of(statistics, model);
            }
            if (!runs) {
                EditableModel editable = EditableModel.of(model, arena);
                List<StructuredPruning.Pruned> pruned = StructuredPruning.prune(editable, model.weights(), inputs, List.of(options), executor, arena).groups();
                print(console, pruned, EditedGraph.write(arguments, model, editable, start));
                return;
            }
            Samples samples = SampleOptions.run(() -> given.samples(model, arguments));
            Path folder = folder(arguments);
            try {
                if (arguments.flag(SEQUENTIAL)) {
                    SampleOptions.run(() -> SequentialPruning.prune(model, options, samples, folder, arguments.threads(), executor,
                            (done, total) -> console.progress("running " + model.path().getFileName(), done, total, ""), (last, pruned) -> {
                                console.clearProgress();
                                print(console, pruned, EditedGraph.write(arguments, model, last, start));
                                return null;
                            }));
                } else if (shared) {
                    InputStatistics known = inputs;
                    EditableModel editable = EditableModel.of(model, arena);
                    List<StructuredPruning.Curve> curves = SampleOptions.run(() -> Sensitivity.scaled(model, known, options,
                            StructuredPruning.curves(editable, model.weights(), known, List.of(options), executor), samples, arguments.threads(), folder,
                            executor, (done, total) -> console.progress("running models with half of a group", done, total, "")));
                    console.clearProgress();
                    List<StructuredPruning.Pruned> pruned = StructuredPruning.prune(editable, model.weights(), inputs, List.of(options), curves, executor, arena)
                            .groups();
                    print(console, pruned, EditedGraph.write(arguments, model, editable, start));
                } else {
                    InputStatistics known = inputs;
                    TimedPruning.Outcome outcome = SampleOptions.run(() -> TimedPruning.prune(model, known, options, part(arguments, LATENCY), samples,
                            arguments.threads(), folder, executor, arena));
                    String written = EditedGraph.write(arguments, model, outcome.model(), start);
                    print(console, outcome, part(arguments, LATENCY));
                    print(console, outcome.result().groups(), written);
                }
            } finally {
                Files.delete(folder);
            }
        }
    }

    /** Models on the way are beside the output, in a folder of their own. */
    private static Path folder(Arguments arguments) throws IOException {
        Path out = EditedGraph.output(arguments);
        return Files.createTempDirectory(out.toAbsolutePath().getParent(), "." + out.getFileName() + ".tensorpress-");
    }

    private static void blocks(Arguments arguments, Console console) throws IOException {
        for (String option : List.of(Measure.BYTES.id(), Measure.MULTIPLY_ADDS.id(), LATENCY, "score", MULTIPLE.name(), DAMPING.name())) {
            if (arguments.value(option) != null) {
                throw arguments.wrong("--" + option + " does not go with --kind blocks");
            }
        }
        if (arguments.flag(SEQUENTIAL) || arguments.flag("no-update")) {
            throw arguments.wrong("--sequential and --no-update do not go with --kind blocks");
        }
        double amount = EditedGraph.real(arguments, AMOUNT);
        Path file = arguments.path("statistics");
        SampleOptions given = file == null ? SampleOptions.of(arguments, null) : null;
        long start = System.nanoTime();
        try (OnnxModel model = EditedGraph.open(arguments, "slim"); Statistics statistics = file == null ? null : Statistics.load(file, model);
                Arena arena = Arena.ofShared()) {
            List<Path> read = new ArrayList<>(model.files());
            read.addAll(file == null ? given.files() : List.of(file));
            EditedGraph.check(arguments, read);
            EditableModel editable = EditableModel.of(model, arena);
            List<Blocks.Block> all = Blocks.of(editable);
            List<Blocks.Block> some = Blocks.selected(all, arguments.values("names"));
            if (some.isEmpty()) {
                throw new UnsupportedRequestException(all.isEmpty() ? "the model has no blocks: it adds nothing to what it was computed of"
                        : "none of the model's " + all.size() + " blocks that are asked for can go");
            }
            int count = (int) Math.max(1, Math.round(amount * some.size()));
            Map<String, String> remarks = new HashMap<>();
            if (file != null) {
                statistics.check(model);
                byShares(some, statistics, remarks);
                some = some.stream().sorted(Comparator.comparingDouble(b -> Blocks.share(b, statistics).orElseThrow())).limit(count).toList();
            } else {
                List<Blocks.Block> candidates = some;
                Samples samples = SampleOptions.run(() -> given.samples(model, arguments));
                Path folder = folder(arguments);
                try {
                    List<BlockPruning.Gone> gone = SampleOptions.run(() -> BlockPruning.choose(model, candidates, count, samples, arguments.threads(), folder,
                            (done, total) -> console.progress("running models without blocks", done, total, "")));
                    console.clearProgress();
                    gone.forEach(g -> remarks.put(g.block().name(), "cosine " + Text.fixed(g.cosine(), 4) + " without this one and those that went before"));
                    some = gone.stream().map(BlockPruning.Gone::block).toList();
                } finally {
                    Files.delete(folder);
                }
            }
            List<String> names = some.stream().map(Blocks.Block::name).toList();
            Blocks.remove(editable, names);
            Table table = new Table("BLOCK", ">NODES", ">BYTES", "", "REMARK");
            for (Blocks.Block b : all) {
                table.row(Text.printable(b.name()), Text.count(b.nodes()), Text.count(b.bytes()), names.contains(b.name()) ? "goes" : "",
                        Text.plain(b.obstacle().orElse(remarks.getOrDefault(b.name(), ""))));
            }
            String written = EditedGraph.write(arguments, model, editable, start);
            console.out().print(table);
            console.out().println(written);
        }
    }

    private static void byShares(List<Blocks.Block> blocks, Statistics statistics, Map<String, String> remarks) {
        for (Blocks.Block b : blocks) {
            double share = Blocks.share(b, statistics).orElseThrow(() -> new UnsupportedRequestException("the statistics know nothing of '" + b.made()
                    + "' or '" + b.sum() + "': calibrate --all gathers all values"));
            remarks.put(b.name(), "makes squares of " + Text.percent(share) + " of the sum's");
        }
    }

    private static StructuredPruning.Options options(Arguments arguments) {
        Set<Group.Kind> kinds = arguments.value("kind") == null ? EnumSet.of(Group.Kind.NEURONS)
                : EditedGraph.constants(arguments.value("kind"), Group.Kind.class, "kind");
        boolean sequential = arguments.flag(SEQUENTIAL);
        boolean statistics = arguments.value("statistics") != null || sequential;
        if (sequential && arguments.value("statistics") != null) {
            throw arguments.wrong("--sequential takes statistics of its own: leave --statistics out");
        }
        Score score = arguments.value("score") == null ? statistics ? Score.RECONSTRUCTION : Score.MAGNITUDE
                : EditedGraph.constant(arguments.value("score"), Score.values(), "score");
        if (score != Score.MAGNITUDE && !statistics) {
            throw arguments.wrong("--score " + arguments.value("score") + " needs --statistics");
        }
        if (sequential && score == Score.MAGNITUDE && arguments.flag("no-update")) {
            throw arguments.wrong("--sequential is for statistics, which magnitudes without update have no use for");
        }
        String multiple = arguments.value(MULTIPLE.name());
        try {
            return new StructuredPruning.Options(kinds, arguments.values("names"), target(arguments),
                    (int) MULTIPLE.whole(multiple != null ? multiple : MULTIPLE.fallback()), score, statistics && !arguments.flag("no-update"),
                    EditedGraph.real(arguments, DAMPING));
        } catch (IllegalArgumentException e) {
            throw arguments.wrong("--" + e.getMessage());
        }
    }

    private static double part(Arguments arguments, String option) {
        return EditedGraph.real(arguments, new Option(option, AMOUNT.type(), null, ""));
    }

    private static Target target(Arguments arguments) {
        List<String> given = Stream.of(AMOUNT.name(), Measure.BYTES.id(), Measure.MULTIPLY_ADDS.id(), LATENCY).filter(o -> arguments.value(o) != null).toList();
        if (given.size() > 1) {
            throw arguments.wrong("give one of --amount, --bytes, --multiply-adds and --latency");
        }
        for (Measure measure : Measure.values()) {
            if (arguments.value(measure.id()) != null) {
                if (arguments.flag(SEQUENTIAL)) {
                    throw arguments.wrong("--sequential goes with --amount");
                }
                return new Budget(measure, part(arguments, measure.id()));
            }
        }
        if (arguments.value(LATENCY) != null) {
            if (arguments.flag(SEQUENTIAL)) {
                throw arguments.wrong("--sequential goes with --amount");
            }
            part(arguments, LATENCY);
        }
        return new Amount(EditedGraph.real(arguments, AMOUNT));
    }

    private static void print(Console console, List<StructuredPruning.Pruned> pruned, String written) {
        console.out().print(StructureListing.groups(pruned));
        console.out().println(written);
    }

    private static void print(Console console, TimedPruning.Outcome outcome, double part) {
        Table table = new Table("KIND", ">SIZE", ">GROUPS", ">KEPT", ">TIME");
        for (TimedPruning.Row r : outcome.table()) {
            table.row(r.kind().id(), Text.count(r.size()), Text.count(r.groups()), Text.count(r.kept()), Text.percent(r.part()));
        }
        console.out().print(table);
        console.out().println("time of models on the way: " + String.join(", ", outcome.rounds().stream().map(Text::percent).toList()) + " of "
                + Text.digits((float) outcome.millis()) + " ms");
        if (outcome.measured() > part) {
            console.out().println("note: none of these takes " + Text.percent(part) + " of the time, which was asked for; the fastest one is written.");
        }
    }
}
