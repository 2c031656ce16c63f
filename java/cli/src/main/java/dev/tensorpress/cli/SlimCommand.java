package dev.tensorpress.cli;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.UnknownNameException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.structure.Group;
import dev.tensorpress.structure.StructuredPruning;
import dev.tensorpress.structure.StructuredPruning.Score;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;

/** {@code tensorpress slim}: takes neurons, heads and channels out of a model. */
final class SlimCommand implements Command {
    private static final Option AMOUNT = new Option("amount", new Option.Real(0, false, 1, false), "0.25", "part of the indices of each group");
    private static final Option MULTIPLE = new Option("multiple", new Option.Whole(1, 1 << 20, 1), "8", "of how many indices stay");
    private static final Option DAMPING = new Option("damping", new Option.Real(0, false, 1, true), "0.001", "of the mean of the Gram matrix's diagonal");

    @Override
    public Syntax syntax() {
        return KeyOptions.declareSigner(new Syntax("slim", "Takes neurons, heads or channels out of a model in ONNX, and makes up for them.", "MODEL"))
                .option("o", "output", "OUT", "the file to write; must be given")
                .option("kind", "A,B", "what is taken out, of " + Option.any(names(Group.Kind.values())) + "; neurons if left out")
                .option("amount", "PART", "of the indices of each group: above 0 and below 1; 0.25 if left out")
                .option("multiple", "N", "of how many indices stay; 8 if left out, and 1 for heads")
                .option("statistics", "FILE", "of what products are multiplied with, which calibrate writes; without them magnitudes alone count")
                .option("score", "S", "what tells which are needed least, " + Option.any(names(Score.values()))
                        + "; reconstruction if there are statistics and it is left out")
                .option("damping", "D", "of the mean of the Gram matrix's diagonal; 0.001 if left out")
                .flag("no-update", "leaves weights as they are: what stays does not make up for the rest")
                .option("threads", "N", "that kernels use; all processors if left out")
                .flag("force", "replaces OUT if it exists")
                .flag("allow-links", RecipeOptions.LINKS);
    }

    private static List<String> names(Enum<?>[] constants) {
        return Arrays.stream(constants).map(c -> c.name().toLowerCase(Locale.ROOT).replace('_', '-')).toList();
    }

    private static <E extends Enum<E>> E named(String name, E[] constants) {
        int at = names(constants).indexOf(name);
        if (at < 0) {
            throw new UnknownNameException("there is no '" + name + "'", name, names(constants));
        }
        return constants[at];
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        Path out = arguments.path("output");
        if (out == null) {
            throw arguments.wrong("missing -o OUT");
        }
        StructuredPruning.Options options = options(arguments);
        boolean force = arguments.flag("force");
        long start = System.nanoTime();
        Path path = arguments.model(0);
        if (Files.isDirectory(path) || path.toString().endsWith(".safetensors")) {
            throw new UnsupportedRequestException(path + " has no graph: slim is for models in ONNX");
        }
        try (OnnxModel model = OnnxModel.open(path, arguments.flag("allow-links"));
                Statistics statistics = arguments.path("statistics") == null ? null : Statistics.load(arguments.path("statistics"), model);
                Executor executor = Executor.cpu(arguments.threads()); Arena arena = executor.arena()) {
            List<Path> read = new ArrayList<>(model.files());
            if (statistics != null) {
                read.add(arguments.path("statistics"));
            }
            OutputFile.checkModel(arguments, "-o", out, force, read);
            EditableModel editable = EditableModel.of(model, arena);
            InputStatistics inputs = null;
            if (options.asksForInputs()) {
                statistics.check(model);
                inputs = InputStatistics.of(statistics, model);
            }
            List<StructuredPruning.Pruned> pruned = StructuredPruning.prune(editable, model.weights(), inputs, options, executor, arena);
            Set<Path> files = editable.write(force ? Destination.replacing(out) : Destination.of(out));
            long bytes = 0;
            for (Path file : files) {
                bytes += Files.size(file);
            }
            print(console, pruned);
            console.out().println(out + ": " + Text.count(model.bytes()) + " -> " + Text.count(bytes) + " bytes, in "
                    + Text.time(System.nanoTime() - start));
        }
    }

    private static StructuredPruning.Options options(Arguments arguments) {
        Set<Group.Kind> kinds = EnumSet.noneOf(Group.Kind.class);
        for (String kind : arguments.value("kind") == null ? new String[] {"neurons"} : arguments.value("kind").split(",", -1)) {
            kinds.add(named(kind, Group.Kind.values()));
        }
        boolean statistics = arguments.value("statistics") != null;
        Score score = arguments.value("score") == null ? statistics ? Score.RECONSTRUCTION : Score.MAGNITUDE
                : named(arguments.value("score"), Score.values());
        if (score != Score.MAGNITUDE && !statistics) {
            throw arguments.wrong("--score " + arguments.value("score") + " needs --statistics");
        }
        try {
            String amount = arguments.value("amount");
            String multiple = arguments.value("multiple");
            String damping = arguments.value("damping");
            return new StructuredPruning.Options(kinds, AMOUNT.real(amount == null ? AMOUNT.fallback() : amount),
                    (int) MULTIPLE.whole(multiple != null ? multiple : kinds.contains(Group.Kind.HEADS) ? "1" : MULTIPLE.fallback()), score,
                    statistics && !arguments.flag("no-update"), DAMPING.real(damping == null ? DAMPING.fallback() : damping));
        } catch (IllegalArgumentException e) {
            throw arguments.wrong("--" + e.getMessage());
        }
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
