package dev.tensorpress.cli;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import dev.tensorpress.Compressor;
import dev.tensorpress.Recipe;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.internal.Glob;
import dev.tensorpress.io.DurableFile;
import dev.tensorpress.method.Method;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.runtime.SampleReader;
import dev.tensorpress.runtime.Samples;
import dev.tensorpress.train.Augmentation;
import dev.tensorpress.train.Distillation;
import dev.tensorpress.train.Network;
import dev.tensorpress.train.Objective;
import dev.tensorpress.train.Objective.Kind;
import dev.tensorpress.train.Objective.Term;
import dev.tensorpress.train.Schedule;
import dev.tensorpress.train.Student;
import java.io.IOException;
import java.io.StringWriter;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** What {@code tensorpress distill} does. */
final class DistillWork {
    /** kl:logits=scores*0.5 */
    private static final Pattern LOSS = Pattern.compile("([a-z-]+)(?::([^*]*?))?(?:\\*(\\d+(?:\\.\\d+)?(?:[eE]-?\\d+)?))?");

    private DistillWork() {}

    static void run(Arguments arguments, Console console) throws IOException {
        Path out = EditedGraph.output(arguments);
        Path report = arguments.path("report");
        boolean force = arguments.flag("force");
        SampleOptions given = SampleOptions.of(arguments, null);
        Recipe recipe = recipe(arguments);
        boolean layerwise = arguments.flag("layerwise");
        if (layerwise) {
            Layerwise.check(arguments, recipe);
        } else {
            Layerwise.checkAbsent(arguments);
            options(arguments, 1);
        }
        List<Integer> labels = TaskOptions.labels(arguments);
        long start = System.nanoTime();
        try (OnnxModel teacherModel = EditedGraph.open(arguments, "distill")) {
            List<Path> read = new ArrayList<>(teacherModel.files());
            read.addAll(given.files());
            Path from = arguments.path("student") == null ? teacherModel.path() : arguments.path("student");
            read.addAll(arguments.paths("student"));
            read.addAll(arguments.paths("statistics"));
            read.addAll(arguments.paths("labels"));
            OutputFile.checkModel(arguments, "-o", out, force, read);
            read.add(out);
            if (report != null) {
                OutputFile.check(arguments, "--report", report, force, read);
                read.add(report);
            }
            if (arguments.path("checkpoint") != null) {
                for (int step = 1; step <= (recipe == null ? 1 : recipe.scheduled()); step++) {
                    OutputFile.checkModel(arguments, "--checkpoint", checkpoint(arguments.path("checkpoint"), step), true, read);
                }
            }
            Samples samples = SampleOptions.run(() -> given.samples(teacherModel, arguments));
            Network.threads(arguments.threads());
            Path folder = DurableFile.temporaryFolder(out.toAbsolutePath().getParent(), out.getFileName().toString());
            try (Arena kept = Arena.ofShared()) {
                if (layerwise) {
                    Layerwise.run(arguments, console, teacherModel, from, recipe, samples, folder, out, report, read, start);
                    return;
                }
                Trained last = null;
                int steps = recipe == null ? 1 : recipe.scheduled();
                // Each step of a schedule prunes what the one before has trained, and trains what is left.
                for (int step = 1; step <= steps; step++) {
                    Recipe now = recipe == null ? null : step == 1 ? recipe.atStep(1) : recipe.withoutStructure().atStep(step);
                    if (steps > 1) {
                        console.out().println("step " + step + " of " + steps);
                    }
                    Path trained = folder.resolve("trained" + step + ".onnx");
                    last = train(arguments, console, teacherModel, from, now, samples, given.texts() != null, labels, step, folder, trained, kept);
                    print(console, last.result);
                    from = trained;
                }
                written(from, last.recipe, last.codes, out, arguments, console, teacherModel, start);
                if (report != null) {
                    write(report, last.result, out, arguments);
                }
            } finally {
                try (Stream<Path> all = Files.list(folder)) {
                    for (Path file : all.toList()) {
                        Files.delete(file);
                    }
                }
                Files.delete(folder);
            }
        }
    }

    /**
     * @param codes of weights that keep scales and zero points
     * @param recipe by which it is written; null for none
     */
    private record Trained(Distillation.Result result, Map<String, Encoding.Quantized> codes, Recipe recipe) {}

    private static Trained train(Arguments arguments, Console console, OnnxModel teacherModel, Path from, Recipe recipe, Samples samples, boolean texts,
            List<Integer> labels, int step, Path folder, Path trained, Arena kept) throws IOException {
        Distillation.Options options = options(arguments, step);
        try (Student student = Student.open(from, recipe,
                Compressor.Options.DEFAULT.threads(arguments.threads()).allowLinks(arguments.flag("allow-links")), arguments.path("statistics"),
                folder.resolve("pruned" + step + ".onnx")); Arena arena = Arena.ofShared()) {
            EditableModel teacher = EditableModel.of(teacherModel, arena);
            EditableModel editable = EditableModel.of(student.model(), arena);
            Objective objective = objective(arguments, texts, teacherModel, teacher, student.model(), editable, !labels.isEmpty());
            try (Network teachers = objective.hasTeacher() ? Network.of(teacher) : null; Network network = Network.of(editable);
                    Distillation distillation = SampleOptions.run(() -> Distillation.of(teachers, network, SampleReader.open(teacherModel.path(), samples),
                            labels.isEmpty() ? null : labels.stream().mapToInt(i -> i).toArray(), parameters(arguments, network.parameters()), objective, options))) {
                if (arguments.flag("hold-zeros")) {
                    distillation.holdZeros();
                }
                distillation.by(student);
                Distillation.Result result = SampleOptions.run(() -> distillation.run(p -> console.progress("training", p.step(),
                        p.steps(), "epoch " + p.epoch() + ", loss " + Text.digits(p.loss()) + ", " + Text.time((long) (1e9 * p.secondsLeft()))
                                + " left")));
                console.clearProgress();
                network.store(arena);
                editable.write(Destination.of(trained));
                return new Trained(result, distillation.codes(kept), student.recipe());
            }
        }
    }

    private static long bytes(Set<Path> files) throws IOException {
        long bytes = 0;
        for (Path file : files) {
            bytes += Files.size(file);
        }
        return bytes;
    }

    private static Recipe recipe(Arguments arguments) throws IOException {
        String name = arguments.value("recipe");
        if (name == null) {
            if (!arguments.values("set").isEmpty() || arguments.value("statistics") != null) {
                throw arguments.wrong("--set and --statistics go with --recipe");
            }
            return null;
        }
        try {
            Recipe recipe = Recipe.of(name);
            for (String set : arguments.values("set")) {
                int equals = set.indexOf('=');
                if (equals < 1) {
                    throw arguments.wrong("--set takes KEY=VALUE, but got '" + set + "'");
                }
                recipe = recipe.set(set.substring(0, equals), set.substring(equals + 1));
            }
            if (recipe.nearest().withoutStructure().requires(Method.Requirement.STATISTICS)) {
                throw arguments.wrong("recipe " + recipe.name() + " goes by statistics of inputs, which change while a model is trained");
            }
            if (recipe.withoutStructure().requires(Method.Requirement.STATISTICS)) {
                if (arguments.value("statistics") == null) {
                    throw arguments.wrong("recipe " + recipe.name() + " needs --statistics: what gptq makes is what training begins with");
                }
                if (recipe.scheduled() > 1) {
                    throw arguments.wrong("recipe " + recipe.name() + " has a schedule, and chooses codes by statistics of before: quantize instead of gptq trains both");
                }
            }
            return recipe;
        } catch (IllegalArgumentException e) {
            throw new UsageException(e.getMessage(), e);
        }
    }

    /**
     * Writes the trained student, by what a recipe does to weights if it does anything.
     *
     * @param recipe of the {@link Student}; null for none
     * @param codes of weights that have them already
     */
    static void written(Path trained, Recipe recipe, Map<String, Encoding.Quantized> codes, Path out, Arguments arguments, Console console, OnnxModel teacher,
            long start) throws IOException {
        boolean force = arguments.flag("force");
        long bytes;
        if (recipe == null || recipe.steps().isEmpty()) {
            try (OnnxModel model = OnnxModel.open(trained, false); Arena arena = Arena.ofShared()) {
                bytes = bytes(EditableModel.of(model, arena).write(force ? Destination.replacing(out) : Destination.of(out)));
            }
        } else {
            try (Compressor compressor = Compressor.open(trained, Compressor.Options.DEFAULT.threads(arguments.threads()).overwrite(force))) {
                bytes = compressor.compress(compressor.plan(recipe), out, codes).bytesAfter();
            }
        }
        console.out().println(out + ": " + Text.count(teacher.bytes()) + " -> " + Text.count(bytes) + " bytes, in " + Text.time(System.nanoTime() - start));
    }

    /** @param step of a schedule, each of which has a checkpoint of its own */
    private static Distillation.Options options(Arguments arguments, int step) {
        String optimizer = arguments.value("optimizer") == null ? "adamw" : arguments.value("optimizer");
        if (!List.of("adamw", "sgd").contains(optimizer)) {
            throw arguments.wrong("--optimizer is adamw or sgd, not '" + optimizer + "'");
        }
        Schedule.Shape shape = arguments.value("schedule") == null ? Schedule.Shape.COSINE
                : EditedGraph.constant(arguments.value("schedule"), Schedule.Shape.values(), "schedule");
        boolean time = arguments.value("time") != null;
        Distillation.Options options = Distillation.Options.DEFAULT
                .batch(arguments.number("batch", 1, 16))
                .epochs(arguments.number("epochs", 1, time ? 100_000 : 10))
                .schedule(new Schedule(shape, EditedGraph.real(arguments, DistillCommand.RATE), EditedGraph.real(arguments, DistillCommand.WARMUP)))
                .decay(EditedGraph.real(arguments, DistillCommand.DECAY)).clip(EditedGraph.real(arguments, DistillCommand.CLIP)).seed(arguments.number("seed", 0, 1)).heldOut(EditedGraph.real(arguments, DistillCommand.HELD_OUT))
                .patience(arguments.number("patience", 1, Integer.MAX_VALUE)).time(arguments.duration("time").orElse(null))
                .augmentation(augmentation(arguments)).checkpoint(checkpoint(arguments.path("checkpoint"), step));
        if (optimizer.equals("sgd")) {
            return options.sgd(EditedGraph.real(arguments, DistillCommand.MOMENTUM));
        }
        if (arguments.value(DistillCommand.MOMENTUM.name()) != null) {
            throw arguments.wrong("--momentum goes with --optimizer sgd");
        }
        return options;
    }

    private static Augmentation augmentation(Arguments arguments) {
        Augmentation augmentation = Augmentation.NONE;
        if (arguments.value("augment") != null) {
            for (String set : arguments.value("augment").split(",", -1)) {
                int equals = set.indexOf('=');
                try {
                    augmentation = augmentation.with(set.substring(0, Math.max(0, equals)), Double.parseDouble(set.substring(equals + 1)));
                } catch (NumberFormatException e) {
                    throw arguments.wrong("--augment takes KEY=N, with commas between them, but got '" + set + "'");
                } catch (IllegalArgumentException e) {
                    throw arguments.wrong("--augment " + set + ": " + e.getMessage());
                }
            }
        }
        return augmentation;
    }

    private static Path checkpoint(Path file, int step) {
        return file == null || step == 1 ? file : file.resolveSibling(file.getFileName() + "." + step);
    }

    private static Objective objective(Arguments arguments, boolean texts, OnnxModel teacherModel, EditableModel teacher, OnnxModel studentModel,
            EditableModel student, boolean labels) throws IOException {
        String own = student.graph().outputs().keySet().iterator().next();
        String others = teacher.graph().outputs().keySet().iterator().next();
        double temperature = EditedGraph.real(arguments, DistillCommand.TEMPERATURE);
        List<Term> terms = new ArrayList<>();
        List<String> given = arguments.values("loss").isEmpty() ? texts ? List.of("pooled-cosine", "mse") : List.of("mse") : arguments.values("loss");
        for (String text : given) {
            Matcher m = LOSS.matcher(text);
            if (!m.matches()) {
                throw arguments.wrong("--loss takes KIND[:VALUE[=OF]][*WEIGHT], but got '" + text + "'");
            }
            Kind kind = EditedGraph.constant(m.group(1), Kind.values(), "loss");
            String value = m.group(2) == null || m.group(2).isEmpty() ? own : m.group(2);
            String of = m.group(2) == null || m.group(2).isEmpty() ? others : m.group(2);
            int equals = value.indexOf('=');
            if (equals >= 0) {
                of = value.substring(equals + 1);
                value = value.substring(0, equals);
            }
            double weight = m.group(3) == null ? 1 : Double.parseDouble(m.group(3));
            if (!(weight > 0)) {
                throw arguments.wrong("--loss " + text + ": a weight is above 0");
            }
            if (kind == Kind.CROSS_ENTROPY && !labels) {
                throw arguments.wrong("--loss cross-entropy needs --labels");
            }
            terms.add(new Term(kind, value, kind == Kind.CROSS_ENTROPY ? "" : of, weight, temperature));
        }
        if (labels && terms.stream().noneMatch(t -> t.kind() == Kind.CROSS_ENTROPY)) {
            throw arguments.wrong("--labels goes with --loss cross-entropy");
        }
        if (arguments.value(DistillCommand.HIDDEN.name()) != null) {
            List<Term> hidden = Objective.hidden(teacherModel, studentModel, EditedGraph.real(arguments, DistillCommand.HIDDEN));
            if (hidden.isEmpty()) {
                throw new UnsupportedRequestException("products of the student read no value that has name and width of one in the teacher; --loss mse:VALUE=OF names them");
            }
            terms.addAll(hidden);
        }
        if (arguments.value(DistillCommand.ATTENTION.name()) != null) {
            terms.addAll(Objective.attention(teacher, student, EditedGraph.real(arguments, DistillCommand.ATTENTION)));
        }
        return new Objective(terms);
    }

    /** @param parameters of the student */
    static Set<String> parameters(Arguments arguments, Set<String> parameters) {
        List<String> only = arguments.values("train");
        List<String> not = arguments.values("freeze");
        Set<String> chosen = parameters.stream().filter(p -> only.isEmpty() || only.stream().anyMatch(glob -> Glob.matches(glob, p)))
                .filter(p -> not.stream().noneMatch(glob -> Glob.matches(glob, p))).collect(Collectors.toCollection(LinkedHashSet::new));
        if (chosen.isEmpty()) {
            throw parameters.isEmpty() ? new UnsupportedRequestException("the student has no parameter: no constant of floating-point type with more"
                    + " than one element") : arguments.wrong("no parameter fits --train and --freeze");
        }
        return chosen;
    }

    private static void print(Console console, Distillation.Result result) {
        Table table = new Table(">EPOCH", ">LOSS", ">HELD OUT", "");
        for (Distillation.Epoch e : result.epochs()) {
            table.row(Text.count(e.number()), Text.digits(e.loss()), e.heldOut().map(Text::digits).orElse(""), e.number() == result.kept() ? "kept" : "");
        }
        console.out().print(table);
        console.out().println("loss " + Text.digits(result.before()) + " -> " + Text.digits(result.after())
                + (result.kept() == 0 ? ": no epoch was better than the beginning, which is kept" : ""));
    }

    private static void write(Path file, Distillation.Result result, Path out, Arguments arguments) throws IOException {
        StringWriter writer = new StringWriter();
        try (JsonGenerator json = new JsonFactory().createGenerator(writer)) {
            json.useDefaultPrettyPrinter();
            json.writeStartObject();
            json.writeNumberField("before", result.before());
            json.writeNumberField("after", result.after());
            json.writeNumberField("kept", result.kept());
            json.writeArrayFieldStart("epochs");
            for (Distillation.Epoch e : result.epochs()) {
                json.writeStartObject();
                json.writeNumberField("epoch", e.number());
                json.writeNumberField("loss", e.loss());
                if (e.heldOut().isPresent()) {
                    json.writeNumberField("heldOut", e.heldOut().get());
                }
                json.writeEndObject();
            }
            json.writeEndArray();
            json.writeEndObject();
        }
        report(file, writer.toString(), out, arguments);
    }

    /** @param training as {@code docs/report.md} has it */
    static void report(Path file, String training, Path out, Arguments arguments) throws IOException {
        if (!HtmlReport.named(file)) {
            OutputFile.writeJson(file, training);
            return;
        }
        new HtmlReport("Trained", out.getFileName().toString()).data("training", most -> training).text("Command", arguments.commandLine()).write(file);
    }
}
