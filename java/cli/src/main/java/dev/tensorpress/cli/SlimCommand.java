package dev.tensorpress.cli;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.structure.Group;
import dev.tensorpress.structure.StructuredPruning;
import dev.tensorpress.structure.StructuredPruning.Amount;
import dev.tensorpress.structure.StructuredPruning.Budget;
import dev.tensorpress.structure.StructuredPruning.Measure;
import dev.tensorpress.structure.StructuredPruning.Score;
import dev.tensorpress.structure.StructuredPruning.Target;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/** {@code tensorpress slim}: takes neurons, heads and channels out of a model. */
final class SlimCommand implements Command {
    private static final Option AMOUNT = new Option("amount", new Option.Real(0, false, 1, false), "0.25", "part of the indices of each group");
    private static final Option MULTIPLE = new Option("multiple", new Option.Whole(1, 1 << 20, 1), "8", "of how many indices stay");
    private static final Option DAMPING = new Option("damping", new Option.Real(0, false, 1, true), "0.001", "of the mean of the Gram matrix's diagonal");

    @Override
    public Syntax syntax() {
        return EditedGraph.declare(new Syntax("slim", "Takes neurons, heads or channels out of a model in ONNX, and makes up for them.", "MODEL"))
                .option("kind", "A,B", "what is taken out, of " + Option.any(EditedGraph.words(Group.Kind.values())) + "; neurons if left out")
                .option("names", "GLOB", "of groups that lose some, as inspect --graph shows them (may be repeated); all if left out")
                .option(AMOUNT.name(), "PART", AMOUNT.meaning() + ": above 0 and below 1; " + AMOUNT.fallback() + " if nothing else is asked for")
                .option(Measure.BYTES.id(), "PART", "instead, what is left of the file, from groups that lose least for it: above 0 and below 1")
                .option(Measure.MULTIPLY_ADDS.id(), "PART", "the same of what products compute")
                .option(MULTIPLE.name(), "N", MULTIPLE.meaning() + ", of heads as many features; " + MULTIPLE.fallback() + " if left out")
                .option("statistics", "FILE", "of what products are multiplied with, which calibrate writes; without them magnitudes alone count")
                .option("score", "S", "what tells which are needed least, " + Option.any(EditedGraph.words(Score.values()))
                        + "; reconstruction if there are statistics and it is left out")
                .option(DAMPING.name(), "D", DAMPING.meaning() + "; " + DAMPING.fallback() + " if left out")
                .flag("no-update", "leaves weights as they are: what stays does not make up for the rest")
                .option("threads", "N", "that kernels use; all processors if left out");
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        EditedGraph.output(arguments);
        StructuredPruning.Options options = options(arguments);
        long start = System.nanoTime();
        Path file = arguments.path("statistics");
        try (OnnxModel model = EditedGraph.open(arguments, "slim");
                Statistics statistics = file == null ? null : Statistics.load(file, model);
                Executor executor = Executor.cpu(arguments.threads()); Arena arena = executor.arena()) {
            List<Path> read = new ArrayList<>(model.files());
            if (file != null) {
                read.add(file);
            }
            EditedGraph.check(arguments, read);
            EditableModel editable = EditableModel.of(model, arena);
            InputStatistics inputs = null;
            if (options.asksForInputs()) {
                statistics.check(model);
                inputs = InputStatistics.of(statistics, model);
            }
            List<StructuredPruning.Pruned> pruned = StructuredPruning.prune(editable, model.weights(), inputs, List.of(options), executor, arena).groups();
            String written = EditedGraph.write(arguments, model, editable, start);
            print(console, pruned);
            console.out().println(written);
        }
    }

    private static StructuredPruning.Options options(Arguments arguments) {
        Set<Group.Kind> kinds = arguments.value("kind") == null ? EnumSet.of(Group.Kind.NEURONS)
                : EditedGraph.constants(arguments.value("kind"), Group.Kind.class, "kind");
        boolean statistics = arguments.value("statistics") != null;
        Score score = arguments.value("score") == null ? statistics ? Score.RECONSTRUCTION : Score.MAGNITUDE
                : EditedGraph.constant(arguments.value("score"), Score.values(), "score");
        if (score != Score.MAGNITUDE && !statistics) {
            throw arguments.wrong("--score " + arguments.value("score") + " needs --statistics");
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

    private static Target target(Arguments arguments) {
        List<Target> all = new ArrayList<>();
        for (Measure measure : Measure.values()) {
            if (arguments.value(measure.id()) != null) {
                all.add(new Budget(measure, EditedGraph.real(arguments, new Option(measure.id(), AMOUNT.type(), null, ""))));
            }
        }
        if (all.isEmpty() || arguments.value(AMOUNT.name()) != null) {
            all.add(new Amount(EditedGraph.real(arguments, AMOUNT)));
        }
        if (all.size() > 1) {
            throw arguments.wrong("give one of --amount, --bytes and --multiply-adds");
        }
        return all.getFirst();
    }

    private static void print(Console console, List<StructuredPruning.Pruned> pruned) {
        Table table = new Table("GROUP", "KIND", ">SIZE", ">KEPT", ">LOSS", "");
        for (StructuredPruning.Pruned p : pruned) {
            table.row(Text.printable(p.name()), p.kind().id(), Text.count(p.size()), Text.count(p.kept()),
                    p.loss().map(loss -> Text.percent(loss)).orElse(""), Text.plain(p.note()));
        }
        console.out().print(table);
    }
}
