package dev.tensorpress.cli;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.ProgressListener;
import dev.tensorpress.Recipe;
import dev.tensorpress.Report;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Phases;
import dev.tensorpress.model.Weight;
import dev.tensorpress.statistics.Statistics;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** {@code tensorpress compress}: makes the smaller model. */
final class CompressCommand implements Command {
    @Override
    public Syntax syntax() {
        return RecipeOptions.declareFolder(RecipeOptions.declare(new Syntax("compress", "Compresses a model.", "MODEL")
                        .option("o", "output", "OUT", "the file to write, or the folder where the target writes one; must be given")))
                .option("device", "D", RecipeOptions.DEVICE)
                .option("threads", "N", "that kernels use; all processors if left out")
                .option("report", "FILE", "writes sizes, errors and times of every weight: as a page to look at if FILE ends with .html, else"
                        + " as JSON")
                .flag("all-steps", "writes the model at every step of the recipe's schedule: OUT is the last, the others"
                        + " have .step1, .step2, ... before their extension")
                .flag("force", "replaces OUT, and the report, if they exist");
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        Path out = arguments.path("output");
        if (out == null) {
            throw arguments.wrong("missing -o OUT");
        }
        boolean force = arguments.flag("force");
        Path reportFile = arguments.path("report");
        Progress progress = new Progress(console);
        Compressor.Options options = RecipeOptions.model(arguments)
                .device(arguments.device())
                .threads(arguments.threads())
                .overwrite(force)
                .resume(arguments.flag("resume"))
                .memory(RecipeOptions.memory(arguments))
                .distributions(HtmlReport.named(reportFile))
                .progress(progress);
        try (Compressor compressor = Compressor.open(arguments.model(0), options);
                Statistics statistics = RecipeOptions.statistics(arguments, compressor, console)) {
            Recipe recipe = RecipeOptions.recipe(arguments, compressor);
            boolean folder = compressor.target(recipe).writesFolder();
            if (!folder) {
                RecipeOptions.refuseFolder(arguments);
            }
            List<Recipe> recipes = new ArrayList<>();
            List<Path> outs = new ArrayList<>();
            if (arguments.flag("all-steps")) {
                for (int step = 1; step < recipe.scheduled(); step++) {
                    recipes.add(recipe.atStep(step));
                    outs.add(folder ? out.resolveSibling(out.getFileName() + ".step" + step) : stepFile(out, step));
                }
                recipe = recipe.atStep(recipe.scheduled());
            }
            recipes.add(recipe);
            outs.add(out);
            List<Path> models = new ArrayList<>(compressor.model().files());
            models.addAll(compressor.model().auxiliaryFiles());
            RecipeOptions.recipeFile(arguments).ifPresent(models::add);
            if (statistics != null) {
                models.add(arguments.path("statistics"));
            }
            for (Path file : outs) {
                if (folder) {
                    OutputFile.checkFolder(arguments, "-o", file, force, models);
                } else {
                    OutputFile.checkModel(arguments, "-o", file, force, models);
                }
            }
            if (reportFile != null) {
                models.addAll(outs);
                OutputFile.checkOutside(arguments, "--report", reportFile, folder ? outs : List.of());
                OutputFile.check(arguments, "--report", reportFile, force, models);
            }
            for (int i = 0; i < outs.size(); i++) {
                Plan plan = compressor.plan(recipes.get(i));
                progress.begin(plan);
                Path to = outs.get(i);
                console.advise(() -> folder ? OutputFile.resumption(to) : null);
                Report report = compressor.compress(plan, to);
                console.advise(() -> null);
                console.clearProgress();
                if (i == outs.size() - 1 && reportFile != null) {
                    write(reportFile, report, arguments);
                }
                print(report, console.out());
            }
        }
    }

    private static void write(Path file, Report report, Arguments arguments) throws IOException {
        if (!HtmlReport.named(file)) {
            OutputFile.writeJson(file, report.toJson());
            return;
        }
        Recipe recipe = report.plan().recipe();
        new HtmlReport("Compressed with recipe " + recipe.name() + " for " + report.plan().target().name(),
                report.output().getFileName().toString())
                .data("compression", report::toJson)
                .text("Recipe", recipe.yaml())
                .text("Command", arguments.commandLine())
                .write(file);
    }

    /** How far the bytes of a model's weights are. */
    static final class Progress implements ProgressListener {
        private final Console console;
        /** Bytes of the weights before. */
        private final Map<Weight, Long> before = new HashMap<>();
        private long total;

        Progress(Console console) {
            this.console = console;
        }

        void begin(Plan plan) {
            total = 0;
            for (Plan.Entry entry : plan.entries()) {
                before.put(entry.weight(), total);
                total += entry.bytesBefore();
            }
            console.begin("compressing", total);
        }

        @Override
        public void progress(int index, int count, Plan.Entry entry, double part) {
            if (entry == null) {
                console.reached(total, "writing");
            } else {
                console.reached(before.get(entry.weight()) + (long) (part * entry.bytesBefore()), entry.weight().name());
            }
        }
    }

    /** model.onnx at step 2: model.step2.onnx. */
    static Path stepFile(Path out, int step) {
        String name = out.getFileName().toString();
        int dot = name.lastIndexOf('.');
        int at = dot > 0 ? dot : name.length();
        return out.resolveSibling(name.substring(0, at) + ".step" + step + name.substring(at));
    }

    static void print(Report report, PrintStream out) {
        Plan plan = report.plan();
        // One write, since each costs a system call.
        StringBuilder text = new StringBuilder();
        for (String remark : plan.remarks()) {
            text.append("note: ").append(Text.plain(remark)).append('\n');
        }
        text.append(StructureListing.of(plan)).append(report.output()).append(": ").append(Text.count(report.bytesBefore())).append(" -> ")
                .append(Text.count(report.bytesAfter())).append(" bytes, ").append(Text.percent(report.ratio()))
                .append(", in ").append(Text.time(report.nanos())).append('\n');
        Map<String, Integer> forms = new LinkedHashMap<>();
        Map<String, Integer> notes = new LinkedHashMap<>();
        Map<String, String> kinds = new HashMap<>();
        for (Plan.Entry e : plan.entries()) {
            if (e.compressed()) {
                forms.merge(kind(e.form()), 1, Integer::sum);
                if (!e.note().isEmpty()) {
                    // Those that differ in numbers alone are one.
                    String note = e.form().describe() + ": " + e.note();
                    notes.merge(kinds.computeIfAbsent(Kept.kind(note), kind -> note), 1, Integer::sum);
                }
            }
        }
        boolean structureAlone = plan.recipe().steps().isEmpty() && !plan.structure().isEmpty();
        if (!structureAlone) {
            text.append(plan.compressed()).append(" of ").append(Text.plural(plan.entries().size(), "weight")).append(" compressed");
            String separator = ": ";
            for (Map.Entry<String, Integer> form : forms.entrySet()) {
                text.append(separator).append(form.getValue()).append(" as ").append(form.getKey());
                separator = ", ";
            }
            text.append('\n');
        }
        Report.Entry worst = null;
        for (Report.Entry e : report.entries()) {
            worst = worst == null || e.relativeError() > worst.relativeError() ? e : worst;
        }
        if (worst != null) {
            text.append("relative error ").append(Text.digits(report.relativeError())).append("; the largest, ")
                    .append(Text.digits(worst.relativeError())).append(", in ")
                    .append(Text.printable(worst.planned().weight().name())).append('\n');
        }
        Report.Sparsity pruned = report.sparsity();
        if (pruned != null) {
            text.append("zeros ").append(Text.count(pruned.zerosReached())).append(" of ")
                    .append(Text.count(pruned.elements())).append(" pruned elements, ")
                    .append(part(pruned.zerosReached(), pruned.elements())).append("; asked for ")
                    .append(Text.count(pruned.zerosAsked())).append(", ")
                    .append(part(pruned.zerosAsked(), pruned.elements())).append('\n');
            text.append("these weights: ").append(Text.count(pruned.bytesDense())).append(" bytes dense, ")
                    .append(Text.count(pruned.bytesWritten())).append(" as written, ")
                    .append(Text.count(pruned.bytesSmallest())).append(" in the smallest storage of each\n");
        }
        lowRank(report, false, "factors", text);
        lowRank(report, true, "corrections", text);
        for (Map.Entry<String, Integer> note : notes.entrySet()) {
            text.append(Text.plural(note.getValue(), "weight")).append(" as ").append(note.getKey()).append('\n');
        }
        if (plan.compressed() < plan.entries().size() && !structureAlone) {
            text.append("stay as they are:\n").append(Kept.brief(plan));
        }
        text.append(rates(report));
        if (!plan.requires().isEmpty()) {
            text.append("the result needs ").append(plan.requires()).append(" or newer\n");
        }
        if (plan.compressed() == 0 && plan.structure().isEmpty()) {
            text.append("nothing was compressed: the output holds the same weights as the input\n");
        }
        out.print(text);
        out.flush();
    }

    /** How fast each phase was. */
    private static String rates(Report report) {
        StringBuilder text = new StringBuilder();
        for (Map.Entry<Phases.Phase, Phases.Spent> phase : report.phases().entrySet()) {
            Phases.Spent spent = phase.getValue();
            if (spent.nanos() > 0) {
                text.append(text.isEmpty() ? "" : ", ").append(phase.getKey().id()).append(' ').append(Text.time(spent.nanos()));
                if (spent.bytes() > 0) {
                    text.append(" at ").append(Text.size((long) spent.bytesPerSecond())).append("/s");
                }
            }
        }
        return text.append('\n').toString();
    }

    /** Of factors without the rank, which differs from weight to weight. */
    private static String kind(Form form) {
        return switch (form.kind()) {
            case LOW_RANK -> {
                Form.LowRank f = form.factors();
                String one = new Form.LowRank(f.left(), f.right(), 1, f.transposed()).describe();
                yield "factors, " + one.substring("rank 1 ".length());
            }
            case CHAIN -> {
                String whole = form.describe();
                yield whole.replaceFirst(" [0-9x]+ ", ", ");
            }
            case DENSE, QUANTIZED, CODEBOOK, TRANSFORMED, HASHED, SPARSE, SUM -> form.describe();
        };
    }

    private static void lowRank(Report report, boolean corrections, String what, StringBuilder text) {
        long least = Long.MAX_VALUE;
        long most = 0;
        long bytes = 0;
        double squares = 0;
        double lost = 0;
        for (Report.Entry e : report.entries()) {
            Report.LowRank f = e.lowRank();
            if (f != null && f.correction() == corrections) {
                least = Math.min(least, f.rank());
                most = Math.max(most, f.rank());
                bytes += f.bytes();
                squares += f.certificate().norm() * f.certificate().norm();
                lost += f.certificate().error() * f.certificate().error();
            }
        }
        if (most > 0) {
            text.append(what).append(" of rank ").append(least).append(least < most ? " to " + most : "").append(": ")
                    .append(Text.count(bytes)).append(" bytes, ").append(Text.percent(squares == 0 ? 1 : 1 - lost / squares))
                    .append(corrections ? " of the squared error of quantization taken off\n" : " of the energy kept\n");
        }
    }

    private static String part(long zeros, long elements) {
        return elements == 0 ? "0 %" : Text.percent((double) zeros / elements);
    }
}
