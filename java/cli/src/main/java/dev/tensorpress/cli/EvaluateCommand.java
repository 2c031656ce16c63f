package dev.tensorpress.cli;

import dev.tensorpress.runtime.Comparison;
import dev.tensorpress.runtime.Evaluation;
import dev.tensorpress.runtime.InputException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** {@code tensorpress evaluate}: runs two models and compares them. */
final class EvaluateCommand implements Command {
    /** Below this, timings of one machine do not tell two models apart. */
    private static final double SLOWER = 0.97;

    @Override
    public Syntax syntax() {
        return new Syntax("evaluate", "Runs two models in ONNX Runtime on the same inputs, and compares them.",
                "REFERENCE", "CANDIDATE")
                .option("texts", "FILE", "compare sentence embeddings of the lines of this file")
                .option("tokenizer", "FILE", "the tokenizer.json for --texts")
                .option("inputs", "FILE", "compare all outputs on inputs out of a file .npz or .safetensors, or .npy for a single one, or a folder of"
                        + " these, of input_0.pb, or of test_data_set_0 (may be repeated)")
                .option("random", "N", "compare all outputs on this many random inputs, which does not measure quality")
                .option("shape", "NAME=1x3x32x320", "of a random input; what the model leaves open is chosen if left out (may be"
                        + " repeated)")
                .option("threads", "N", "inside an operator; all processors if left out")
                .option("report", "FILE", "writes the figures: as a page to look at if FILE ends with .html, else as JSON")
                .flag("force", "replaces the report if it exists")
                .flag("allow-links", RecipeOptions.LINKS);
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        Path texts = arguments.path("texts");
        Path tokenizer = arguments.path("tokenizer");
        int random = arguments.number("random", 1, 0);
        List<Path> inputs = arguments.paths("inputs");
        if ((texts == null ? 0 : 1) + (inputs.isEmpty() ? 0 : 1) + (random == 0 ? 0 : 1) != 1) {
            throw arguments.wrong("give either --texts FILE and --tokenizer FILE, or --inputs FILE, or --random N");
        }
        if ((texts == null) != (tokenizer == null)) {
            throw arguments.wrong("--texts and --tokenizer go together");
        }
        Map<String, Shape> shapes = shapes(arguments);
        if (random == 0 && !shapes.isEmpty()) {
            throw arguments.wrong("--shape goes with --random");
        }
        Path report = arguments.path("report");
        if (report != null) {
            List<Path> read = new ArrayList<>(List.of(arguments.path(0), arguments.path(1)));
            read.addAll(inputs);
            if (texts != null) {
                read.addAll(List.of(texts, tokenizer));
            }
            OutputFile.check(arguments, "--report", report, arguments.flag("force"), read);
        }
        Evaluation.Options options = options(console)
                .threads(arguments.threads())
                .shapes(shapes)
                .allowLinks(arguments.flag("allow-links"));
        Comparison comparison;
        try {
            if (!inputs.isEmpty()) {
                comparison = Evaluation.inputs(arguments.path(0), arguments.path(1), inputs, options);
            } else if (texts == null) {
                comparison = Evaluation.random(arguments.path(0), arguments.path(1), random, options);
            } else {
                List<String> lines = lines(texts);
                if (lines.isEmpty()) {
                    throw arguments.wrong("--texts " + texts + " holds no text");
                }
                comparison = Evaluation.texts(arguments.path(0), arguments.path(1), lines, tokenizer, options);
            }
        } catch (InputException e) {
            throw new UsageException(e.getMessage(), e);
        } catch (OutOfMemoryError e) {
            // Nothing of the evaluation is reached any more, so there is memory again.
            throw new UnsupportedRequestException("inputs and outputs of the models take more memory than Java may use, "
                    + Text.size(Runtime.getRuntime().maxMemory()) + " of heap (" + e.getMessage()
                    + "); TENSORPRESS_JAVA_OPTS=-Xmx8g allows more");
        }
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

    private static Map<String, Shape> shapes(Arguments arguments) {
        Map<String, Shape> shapes = new LinkedHashMap<>();
        for (String value : arguments.values("shape")) {
            int equals = value.lastIndexOf('='); // names of inputs may hold one
            if (equals < 1 || !value.substring(equals + 1).matches("\\d{1,9}(x\\d{1,9}){0,7}")) {
                throw arguments.wrong("--shape takes NAME=1x3x32x320, but got '" + value + "'");
            }
            long[] dims = Stream.of(value.substring(equals + 1).split("x")).mapToLong(Long::parseLong).toArray();
            try {
                if (shapes.put(value.substring(0, equals), Shape.of(dims)) != null) {
                    throw arguments.wrong("--shape " + value.substring(0, equals) + " is given twice");
                }
            } catch (ArithmeticException e) {
                throw arguments.wrong("--shape " + value + " has too many elements");
            }
        }
        return shapes;
    }

    private static List<String> lines(Path file) throws IOException {
        List<String> lines = new ArrayList<>();
        for (String line : Files.readAllLines(file)) {
            if (!line.isBlank()) {
                lines.add(line);
            }
        }
        return lines;
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
        String item = switch (c.inputs()) {
            case "texts" -> "text";
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
                    + " takes time. What it saves is size; --set accuracy-level=4, or --recipe int8-dynamic, gives some fidelity"
                    + " for speed.");
        }
        out.flush();
    }
}
