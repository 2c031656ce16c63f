package dev.tensorpress.cli;

import dev.tensorpress.runtime.Comparison;
import dev.tensorpress.runtime.Evaluation;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** {@code tensorpress evaluate}: runs two models and compares them. */
final class EvaluateCommand implements Command {
    /** Below this, timings of one machine do not tell two models apart. */
    private static final double SLOWER = 0.97;

    @Override
    public Syntax syntax() {
        return KeyOptions.declareSigner(TaskOptions.add(SampleOptions.add(new Syntax("evaluate", "Runs two models in ONNX Runtime on the same inputs, and compares"
                + " them.", "REFERENCE", "CANDIDATE")))
                .option("threads", "N", "inside an operator; all processors if left out")
                .option("report", "FILE", "writes the figures: as a page to look at if FILE ends with .html, else as JSON")
                .flag("force", "replaces the report if it exists")
                .flag("allow-links", RecipeOptions.LINKS));
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        SampleOptions given = SampleOptions.of(arguments, "pairs");
        TaskOptions tasks = TaskOptions.of(arguments);
        Path report = arguments.path("report");
        if (report != null) {
            List<Path> read = new ArrayList<>(List.of(arguments.model(0), arguments.model(1)));
            read.addAll(given.files());
            read.addAll(tasks.files());
            OutputFile.check(arguments, "--report", report, arguments.flag("force"), read);
        }
        Evaluation.Options options = options(console)
                .threads(arguments.threads())
                .shapes(given.shapes())
                .tasks(tasks.read(arguments))
                .allowLinks(arguments.flag("allow-links"));
        Comparison comparison = SampleOptions.run(() -> !given.inputs().isEmpty()
                ? Evaluation.inputs(arguments.model(0), arguments.model(1), given.inputs(), options)
                : given.folder() != null ? Evaluation.images(arguments.model(0), arguments.model(1), given.folder(), given.images(), options)
                : given.random() > 0 ? Evaluation.random(arguments.model(0), arguments.model(1), given.random(), options)
                : Evaluation.texts(arguments.model(0), arguments.model(1), given.lines(arguments), given.tokenizer(), options));
        console.clearProgress();
        if (report != null) {
            write(report, comparison, arguments);
        }
        print(comparison, console.out());
    }

    private static void write(Path file, Comparison comparison, Arguments arguments) throws IOException {
        if (!HtmlReport.named(file)) {
            OutputFile.writeJson(file, comparison.toJson());
            return;
        }
        new HtmlReport("Compared with " + comparison.reference().path().getFileName(),
                comparison.candidate().path().getFileName().toString())
                .data("evaluation", most -> comparison.toJson())
                .text("Command", arguments.commandLine())
                .write(file);
    }

    static Evaluation.Options options(Console console) {
        return Evaluation.Options.DEFAULT.progress((model, done, total) ->
                console.progress("running " + model.getFileName(), done, total, ""));
    }

    static void print(Comparison c, PrintStream out) {
        Comparison.Side reference = c.reference();
        Comparison.Side candidate = c.candidate();
        Table sides = new Table("", ">REFERENCE", ">CANDIDATE", ">");
        sides.row("model", reference.path().getFileName().toString(), candidate.path().getFileName().toString(), "");
        sides.row("bytes", Text.count(reference.bytes()), Text.count(candidate.bytes()), Text.percent(c.ratio()));
        sides.row("median ms per input", Text.fixed(reference.medianMillis(), 2), Text.fixed(candidate.medianMillis(), 2),
                Text.fixed(c.speedup(), 2) + "x as fast");
        sides.row("95 % at most", Text.fixed(reference.p95Millis(), 2), Text.fixed(candidate.p95Millis(), 2), "");
        out.print(sides);
        out.println();
        boolean chosen = false;
        if (!c.shapes().isEmpty()) {
            Table inputs = new Table("INPUT", "SHAPE", "");
            for (Comparison.Input input : c.shapes()) {
                inputs.row(input.name(), input.shape().toString(), input.chosen() ? "chosen" : "");
                chosen |= input.chosen();
            }
            out.print(inputs);
            out.println();
        }
        Table outputs = new Table("OUTPUT", ">COSINE", ">5 % BELOW", ">LEAST", ">RELATIVE ERROR", ">LARGEST ERROR",
                c.inputs().equals("texts") ? ">" : ">SAME ARGMAX");
        for (Comparison.Output o : c.outputs()) {
            outputs.row(o.name(), Text.fixed(o.cosineMean(), 5), Text.fixed(o.cosineP5(), 5),
                    Text.fixed(o.cosineMin(), 5), Text.digits(o.relativeError()), Text.digits(o.maxError()),
                    Double.isNaN(o.sameArgmax()) ? "" : Text.percent(o.sameArgmax()));
        }
        out.print(outputs);
        if (!Double.isNaN(c.neighbours())) {
            out.println("the nearest texts of a text are the same for " + Text.percent(c.neighbours()));
        }
        if (!c.tasks().isEmpty()) {
            Table tasks = new Table("TASK", ">REFERENCE", ">CANDIDATE", ">SAMPLES");
            for (Comparison.Task task : c.tasks()) {
                tasks.row(task.name(), Text.fixed(task.reference(), 4), Text.fixed(task.candidate(), 4), Text.count(task.samples()));
            }
            out.println();
            out.print(tasks);
            out.println();
        }
        String item = switch (c.inputs()) {
            case "texts" -> "text";
            case "images" -> "image";
            case "random" -> "random input";
            default -> "input";
        };
        out.println("over " + Text.plural(c.items(), item)
                + (c.inputs().equals("texts") ? ", embeddings averaged over tokens" : "") + "; ONNX Runtime "
                + c.runtime() + ", " + Text.plural(c.threads(), "thread"));
        if (chosen) {
            out.println("Where a shape was chosen, the model leaves dimensions open: --shape sets them.");
        }
        if (!c.measuresQuality()) {
            out.println("Random inputs do not measure quality: a model that answers real inputs wrong may still answer noise as the"
                    + " reference does. --inputs and --texts take real ones.");
        }
        if (c.speedup() < SLOWER) {
            out.println("The candidate is slower than the reference on this machine: decoding weights while the model runs"
                    + " takes time. What it saves is size; --recipe int8-dynamic, or int8-static with statistics, gives some fidelity"
                    + " for speed.");
        }
        out.flush();
    }
}
