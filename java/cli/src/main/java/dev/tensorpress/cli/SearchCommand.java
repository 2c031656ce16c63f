package dev.tensorpress.cli;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import dev.tensorpress.Compressor;
import dev.tensorpress.Report;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.kernel.Machine;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.runtime.Evaluation;
import dev.tensorpress.runtime.Samples;
import dev.tensorpress.runtime.Search;
import dev.tensorpress.statistics.Request;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.structure.Group;
import java.io.IOException;
import java.io.PrintStream;
import java.io.StringWriter;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/** {@code tensorpress search}: the recipe that loses least in a number of bytes, or takes the fewest bytes, or the least time, at a quality. */
final class SearchCommand implements Command {
    private static final Pattern PERCENT = Pattern.compile("(\\d{1,3}(?:\\.\\d{1,6})?)\\s*%");
    private static final Pattern QUALITY = Pattern.compile("cosine=(0(?:\\.\\d{1,9})?|1(?:\\.0{1,9})?)");
    /** Of all samples, those that decide; statistics are of the others. */
    private static final int HELD_OUT = 4;
    private static final int LEAST_SAMPLES = 8;
    /** What statistics in the folder are of. Every search makes it first. */
    private static final String KEY = "statistics.key";
    /** What a search leaves that was killed before. */
    private static final Set<String> BEFORE_KEY = Set.of("lock", KEY + ".new");

    @Override
    public Syntax syntax() {
        return KeyOptions.declareSigner(SampleOptions.add(new Syntax("search", "Finds the recipe that loses least in a number of bytes, or the smallest or fastest at a quality, and"
                + " compresses by it.", "MODEL")
                .option("o", "output", "OUT", "the file to write; what the search found goes to the folder OUT.search")
                .option("bytes", "SIZE", "of the file at most, such as 18% of the original, or 16MB")
                .option("at-least", "cosine=X", "the quality to keep: the mean cosine of outputs to the original's"))
                .flag("fastest", "looks for the least time in ONNX Runtime on this machine at the quality of --at-least, not for the fewest bytes")
                .option("structure", "A,B", "also takes some of " + Option.any(EditedGraph.words(Group.Kind.values())) + " out, where that loses less than"
                        + " fewer bits; not with --fastest")
                .option("time", "T", "to stop after with the best so far, such as 90s, 5m or 1h; no limit if left out")
                .option("threads", "N", "at most; all processors if left out")
                .option("report", "FILE", "writes sizes, errors and times of every weight, and if FILE ends with .html the frontier as well, as a page to look at")
                .flag("force", "replaces OUT, and the report, if they exist")
                .flag("allow-links", RecipeOptions.LINKS));
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        Path out = arguments.path("output");
        if (out == null) {
            throw arguments.wrong("missing -o OUT");
        }
        if ((arguments.value("bytes") == null) == (arguments.value("at-least") == null)) {
            throw arguments.wrong("give either --bytes SIZE or --at-least cosine=X");
        }
        if (arguments.flag("fastest") && arguments.value("at-least") == null) {
            throw arguments.wrong("--fastest takes a quality to keep: give --at-least cosine=X, not --bytes");
        }
        if (arguments.flag("fastest") && arguments.value("structure") != null) {
            throw arguments.wrong("--structure is for fewer bytes, and does not go with --fastest: slim --latency makes models faster");
        }
        OptionalLong nanos = arguments.duration("time").map(d -> OptionalLong.of(d.toNanos())).orElse(OptionalLong.empty());
        long start = System.nanoTime();
        boolean force = arguments.flag("force");
        SampleOptions given = SampleOptions.of(arguments, null);
        Compressor.Options options = Compressor.Options.DEFAULT.threads(arguments.threads()).allowLinks(arguments.flag("allow-links"))
                .overwrite(force).distributions(HtmlReport.named(arguments.path("report")));
        Path reportFile = arguments.path("report");
        try (Compressor compressor = Compressor.open(arguments.model(0), options)) {
            Model model = compressor.model();
            Samples samples = SampleOptions.run(() -> given.samples(model, arguments));
            // What an earlier search wrote may lie in a folder of inputs: it is none of them.
            List<Path> read = new ArrayList<>(model.files());
            read.addAll(given.given());
            read.addAll(samples.files());
            OutputFile.checkModel(arguments, "-o", out, force, read);
            if (reportFile != null) {
                read.add(out);
                OutputFile.check(arguments, "--report", reportFile, force, read);
            }
            Search.Goal goal = goal(arguments, model.bytes());
            Path folder = folder(arguments, out, read);
            if (reportFile != null) {
                OutputFile.checkOutside(arguments, "--report", reportFile, List.of(folder));
            }
            if (samples.size() < LEAST_SAMPLES) {
                throw arguments.wrong("a search takes at least " + LEAST_SAMPLES + " samples, but there are " + samples.size());
            }
            int split = samples.size() - samples.size() / HELD_OUT;
            String key = key(model, given, samples);
            try (FileChannel _ = lock(folder, arguments);
                    Statistics statistics = statistics(model, samples.part(0, split), folder, key, arguments, console)) {
                OptionalLong left = nanos.isPresent() ? OptionalLong.of(nanos.getAsLong() - (System.nanoTime() - start)) : nanos;
                Measured measured = new Measured(folder, key, arguments.threads());
                Samples heldOut = samples.part(split, samples.size());
                Search.Result found = SampleOptions.run(() -> Search.run(compressor, statistics, heldOut,
                        given.texts() != null ? Search.Compared.EMBEDDINGS : Search.Compared.OUTPUTS, goal, arguments.threads(), left, measured,
                        Search.Clock.of(heldOut, arguments.threads()),
                        (what, models, expected) -> console.progress("measured", models, expected, what), folder.resolve("trial")));
                console.clearProgress();
                put(folder.resolve("frontier.csv"), csv(found));
                put(folder.resolve("frontier.json"), json(found, model.bytes()));
                if (found.chosen().recipe().isEmpty()) {
                    Files.deleteIfExists(folder.resolve("recipe.yaml"));
                } else {
                    put(folder.resolve("recipe.yaml"), found.chosen().recipe().yaml());
                }
                if (!found.met()) {
                    throw new UnsupportedRequestException(unmet(goal, found, folder, model.bytes()));
                }
                Report report = compressor.compress(compressor.plan(found.chosen().recipe()), out);
                if (reportFile != null) {
                    write(reportFile, report, found, arguments);
                }
                print(report, found, folder, console.out());
            }
        }
    }

    private static void write(Path file, Report report, Search.Result found, Arguments arguments) throws IOException {
        if (!HtmlReport.named(file)) {
            OutputFile.writeJson(file, report.toJson());
            return;
        }
        String search = json(found, report.bytesBefore());
        new HtmlReport("Found by a search", report.output().getFileName().toString())
                .data("compression", report::toJson)
                .data("search", most -> search)
                .text("Recipe", report.plan().recipe().yaml())
                .text("Command", arguments.commandLine())
                .write(file);
    }

    /** Beside the output. Files of a folder that no search has made are not written over. */
    private static Path folder(Arguments arguments, Path out, List<Path> read) throws IOException {
        Path folder = out.resolveSibling(out.getFileName() + ".search");
        if (Files.exists(folder, LinkOption.NOFOLLOW_LINKS) && !Files.isDirectory(folder)) {
            throw arguments.wrong(folder + " is where the search keeps what it finds, but is no folder; choose another OUT");
        }
        Path within = InputFiles.replacedBy(folder, read);
        if (within != null) {
            throw arguments.wrong(within + " is read, and is in " + folder + ", where the search keeps what it finds; choose another OUT");
        }
        Files.createDirectories(folder);
        try (Stream<Path> there = Files.list(folder)) {
            if (!Files.isRegularFile(folder.resolve(KEY)) && there.anyMatch(f -> !BEFORE_KEY.contains(f.getFileName().toString()))) {
                throw arguments.wrong(folder + " is where the search keeps what it finds, but holds files of something else; choose another OUT");
            }
        }
        return folder;
    }

    /** To be held while the folder is written. No other file may be it, since whoever closes one would let go of the lock. */
    private static FileChannel lock(Path folder, Arguments arguments) throws IOException {
        FileChannel channel = FileChannel.open(folder.resolve("lock"), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
        if (channel.tryLock() == null) {
            channel.close();
            throw arguments.wrong("another search keeps what it finds in " + folder + "; choose another OUT");
        }
        return channel;
    }

    /** A file of its own in the place of whatever has the name: links are not followed. */
    private static void put(Path file, String text) throws IOException {
        Path made = file.resolveSibling(file.getFileName() + ".new");
        Files.deleteIfExists(made);
        Files.writeString(made, text, StandardOpenOption.CREATE_NEW);
        Files.move(made, file, StandardCopyOption.REPLACE_EXISTING);
    }

    private static Search.Goal goal(Arguments arguments, long modelBytes) {
        String given = arguments.value("structure");
        Set<Group.Kind> structure = given == null ? Set.of() : EditedGraph.constants(given, Group.Kind.class, "kind");
        String quality = arguments.value("at-least");
        if (quality != null) {
            Matcher m = QUALITY.matcher(quality);
            if (!m.matches()) {
                throw arguments.wrong("--at-least takes cosine=X with X from 0 to 1, not '" + quality + "'");
            }
            return new Search.Goal(Long.MAX_VALUE, Double.parseDouble(m.group(1)), arguments.flag("fastest"), structure);
        }
        Matcher m = PERCENT.matcher(arguments.value("bytes"));
        long bytes = m.matches() ? (long) (Double.parseDouble(m.group(1)) / 100 * modelBytes) : arguments.bytes("bytes", 1, 0);
        return new Search.Goal(bytes, -1, false, structure);
    }

    /** Of the samples; those of an earlier search if they are of the same. */
    private static Statistics statistics(Model model, Samples samples, Path folder, String key, Arguments arguments, Console console)
            throws IOException {
        Path file = folder.resolve("statistics.safetensors");
        Path noted = folder.resolve(KEY);
        if (Files.isRegularFile(file) && Files.isRegularFile(noted) && read(noted).equals(List.of(key))) {
            try {
                return Statistics.load(file);
            } catch (MalformedModelException e) {
                console.err().println("note: " + file + " is damaged, and is made again");
            }
        }
        Statistics statistics = CalibrateCommand.gather(model, Request.feeds(CalibrateCommand.graph(model), true), samples, arguments.threads(),
                console);
        put(noted, ""); // an interrupted search leaves no key that does not fit
        statistics.save(file, true);
        put(noted, key);
        return statistics;
    }

    /** What measurements depend on. */
    private static String key(Model model, SampleOptions given, Samples samples) throws IOException {
        MessageDigest sha = sha256();
        for (String part : List.of(Machine.version(), Integer.toString(Machine.abi()), Evaluation.runtime(), Statistics.hash(model), given.toString())) {
            sha.update((part + "\n").getBytes(StandardCharsets.UTF_8));
        }
        for (Path file : Stream.concat(given.given().stream(), samples.files().stream()).toList()) {
            if (Files.isRegularFile(file)) {
                sha.update(Files.readAllBytes(file));
            }
        }
        return HexFormat.of().formatHex(sha.digest());
    }

    private static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e); // every Java has it
        }
    }

    /** Lines of whatever is there, text or not. */
    private static List<String> read(Path file) throws IOException {
        return Files.readAllLines(file, StandardCharsets.ISO_8859_1);
    }

    /** Cosines by recipe and number of samples, and times of this machine. */
    private static final class Measured implements Search.Memory {
        private final Notes cosines;
        private final Notes times;

        Measured(Path folder, String key, int threads) throws IOException {
            cosines = new Notes(folder.resolve("measured.txt"), key, -1, 1);
            String machine = DoctorCommand.cpuInfo("model name") + "\n" + DoctorCommand.cpuInfo("flags") + "\n"
                    + Runtime.getRuntime().availableProcessors() + "\n" + threads;
            times = new Notes(folder.resolve("times.txt"), key + " " + Notes.sha(machine), 0, 1e9);
        }

        @Override
        public double cosine(String recipe, int samples) {
            return cosines.get(recipe, samples);
        }

        @Override
        public void put(String recipe, int samples, double cosine) throws IOException {
            cosines.put(recipe, samples, cosine);
        }

        @Override
        public double millis(String recipe) {
            return times.get(recipe, 1);
        }

        @Override
        public void putMillis(String recipe, double millis) throws IOException {
            times.put(recipe, 1, millis);
        }
    }

    /** A line for each measurement: SHA-256 of the recipe, samples, number; the first line says what of. Of several lines the last one counts. */
    private static final class Notes {
        private static final Pattern LINE = Pattern.compile("([0-9a-f]{64} \\d{1,9}) (-?\\d{1,9}(?:\\.\\d{1,20})?(?:E-?\\d{1,3})?);");

        private final Path file;
        private final Map<String, Double> known = new HashMap<>();

        Notes(Path file, String key, double least, double most) throws IOException {
            this.file = file;
            List<String> lines = Files.isRegularFile(file) ? read(file) : List.of();
            if (lines.isEmpty() || !lines.getFirst().equals(key)) {
                SearchCommand.put(file, key + "\n");
                return;
            }
            for (String line : lines.subList(1, lines.size())) {
                Matcher m = LINE.matcher(line);
                // A process that was killed leaves half a line.
                if (m.matches()) {
                    double value = Double.parseDouble(m.group(2));
                    if (value >= least && value <= most) {
                        known.put(m.group(1), value);
                    }
                }
            }
        }

        static String sha(String text) {
            return HexFormat.of().formatHex(sha256().digest(text.getBytes(StandardCharsets.UTF_8)));
        }

        double get(String recipe, int samples) {
            return known.getOrDefault(sha(recipe) + " " + samples, Double.NaN);
        }

        void put(String recipe, int samples, double value) throws IOException {
            String of = sha(recipe) + " " + samples;
            known.put(of, value);
            Files.writeString(file, of + " " + value + ";\n", StandardOpenOption.APPEND);
        }
    }

    private static String csv(Search.Result found) {
        StringBuilder text = new StringBuilder("bytes,cosine,uniform,frontier,chosen,milliseconds\n");
        List<Search.Point> frontier = found.frontier();
        for (Search.Point p : found.measured()) {
            text.append(p.bytes()).append(',').append(p.cosine()).append(',').append(p.uniform()).append(',').append(frontier.contains(p))
                    .append(',').append(p == found.chosen()).append(',').append(Double.isNaN(p.millis()) ? "" : p.millis()).append('\n');
        }
        return text.toString();
    }

    /** What was measured, and what a page draws of it. */
    private static String json(Search.Result found, long before) throws IOException {
        StringWriter text = new StringWriter();
        List<Search.Point> frontier = found.frontier();
        try (JsonGenerator json = new JsonFactory().createGenerator(text)) {
            json.useDefaultPrettyPrinter();
            json.writeStartObject();
            json.writeStringField("quality", "cosine");
            json.writeNumberField("bytesBefore", before);
            json.writeNumberField("leastBytes", found.leastBytes());
            json.writeBooleanField("met", found.met());
            for (boolean all : new boolean[] {false, true}) {
                json.writeArrayFieldStart(all ? "measured" : "frontier");
                for (Search.Point p : all ? found.measured() : frontier) {
                    json.writeStartObject();
                    json.writeStringField("name", p.uniform() ? "all weights alike" : "a mixture");
                    json.writeNumberField("bytes", p.bytes());
                    json.writeNumberField("quality", p.cosine());
                    if (!Double.isNaN(p.millis())) {
                        json.writeNumberField("milliseconds", p.millis());
                    }
                    json.writeBooleanField("chosen", p == found.chosen());
                    if (all) {
                        json.writeStringField("recipe", p.recipe().yaml());
                    }
                    json.writeEndObject();
                }
                json.writeEndArray();
            }
            json.writeEndObject();
        }
        return text.toString();
    }

    private static String part(long bytes, long before) {
        return Text.count(bytes) + " bytes, " + Text.percent((double) bytes / before);
    }

    private static String cosine(double cosine) {
        return Text.fixed(cosine, 5);
    }

    private static String millis(Search.Point p) {
        return Text.fixed(p.millis(), 3);
    }

    private static String unmet(Search.Goal goal, Search.Result found, Path folder, long before) {
        Search.Point p = found.chosen();
        return (goal.cosine() < 0 ? "no combination that was measured fits into " + part(goal.bytes(), before) + "; the least there is are "
                + part(found.leastBytes(), before) : "no combination that was measured has a cosine of " + goal.cosine())
                + "; nearest is one of " + part(p.bytes(), before) + ", at a cosine of " + cosine(p.cosine()) + ": " + folder
                + " has its recipe and the frontier";
    }

    private static void print(Report report, Search.Result found, Path folder, PrintStream out) {
        long before = report.bytesBefore();
        boolean timed = !Double.isNaN(found.chosen().millis());
        Table table = timed ? new Table(">BYTES", ">PART", ">COSINE", ">MILLISECONDS", "") : new Table(">BYTES", ">PART", ">COSINE", "");
        for (Search.Point p : found.frontier()) {
            List<String> row = new ArrayList<>(List.of(Text.count(p.bytes()), Text.percent((double) p.bytes() / before), cosine(p.cosine())));
            if (timed) {
                row.add(millis(p));
            }
            row.add((p == found.chosen() ? "chosen" : "") + (p.uniform() ? p == found.chosen() ? ", all weights alike" : "all weights alike" : ""));
            table.row(row.toArray(String[]::new));
        }
        out.print(table);
        out.println();
        out.println(report.output() + ": " + Text.count(before) + " -> " + part(report.bytesAfter(), before) + ", at a cosine of "
                + cosine(found.chosen().cosine()) + " on samples that statistics are not of");
        if (timed) {
            Search.Point original = found.measured().stream().filter(p -> p.recipe().isEmpty()).findFirst().orElseThrow();
            out.println("a sample takes " + millis(found.chosen()) + " ms, of the original " + millis(original) + " ms: "
                    + Text.fixed(original.millis() / found.chosen().millis(), 2) + " times as fast on this machine");
        }
        if (!found.leftOut().isEmpty()) {
            out.println("note: " + Text.plural(found.leftOut().size(), "weight") + " stayed, since other weights or their nodes have the same name, which recipes"
                    + " cannot tell apart: " + Text.names(found.leftOut()));
        }
        if (found.chosen().recipe().isEmpty()) {
            out.println(folder + ": the frontier. What was chosen is the original as it is, for which there is no recipe");
            out.flush();
            return;
        }
        out.println(folder + ": the recipe, its statistics, and the frontier; compress --recipe " + folder.resolve("recipe.yaml")
                + " --statistics " + folder.resolve("statistics.safetensors") + " makes the same file");
        out.flush();
    }
}
