package dev.tensorpress.cli;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import dev.tensorpress.Compressor;
import dev.tensorpress.Recipe;
import dev.tensorpress.internal.Glob;
import dev.tensorpress.method.Method;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.runtime.SampleReader;
import dev.tensorpress.runtime.Samples;
import dev.tensorpress.train.Distillation;
import dev.tensorpress.train.Network;
import dev.tensorpress.train.Objective;
import dev.tensorpress.train.Objective.Kind;
import dev.tensorpress.train.Objective.Term;
import dev.tensorpress.train.Schedule;
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

/** {@code tensorpress distill}: trains a student to compute what a teacher does. */
final class DistillCommand implements Command {
    private static final Option RATE = new Option("rate", new Option.Real(0, false, 100, true), "5e-5", "the largest learning rate");
    private static final Option WARMUP = new Option("warmup", new Option.Real(0, true, 1, false), "0.1", "part of training in which the rate rises");
    private static final Option MOMENTUM = new Option("momentum", new Option.Real(0, true, 1, false), "0.9", "of sgd");
    private static final Option DECAY = new Option("decay", new Option.Real(0, true, 1, true), "0.01", "of matrices, times the rate, with each step");
    private static final Option CLIP = new Option("clip", new Option.Real(0, true, 1e9, true), "1", "to which the norm of all gradients is brought; 0 for any");
    private static final Option HELD_OUT = new Option("held-out", new Option.Real(0, true, 1, false), "0.1", "part of the samples, the last ones, that is not trained on");
    private static final Option TEMPERATURE = new Option("temperature", new Option.Real(0, false, 1000, true), "1", "of kl");
    private static final Option HIDDEN = new Option("hidden", new Option.Real(0, false, 1e6, true), "", "weight of what products read in both models");
    private static final Option ATTENTION = new Option("attention", new Option.Real(0, false, 1e6, true), "", "weight of what Softmax makes in both models");
    // Words of enumerations, whose module other commands do without.
    static final List<String> LOSSES = List.of("mse", "cosine", "pooled-cosine", "kl", "cross-entropy");
    static final List<String> SCHEDULES = List.of("constant", "cosine", "step");
    /** kl:logits=scores*0.5 */
    private static final Pattern LOSS = Pattern.compile("([a-z-]+)(?::([^*]*?))?(?:\\*(\\d+(?:\\.\\d+)?(?:[eE]-?\\d+)?))?");

    @Override
    public Syntax syntax() {
        return KeyOptions.declareSigner(SampleOptions.add(new Syntax("distill", "Trains a model in ONNX to compute what another does, as it is or as a recipe will"
                + " store it.", "TEACHER")))
                .option("o", "output", "OUT", "the file to write; must be given")
                .option("student", "FILE", "the model that is trained; the teacher itself if left out")
                .option("recipe", "R", "by which the student is written, a preset or a .yaml file: it is trained with what its weights are then")
                .option("set", "KEY=VALUE", "changes an option of the recipe (may be repeated)")
                .option("statistics", "FILE", "of what products are multiplied with, which calibrate writes, for a recipe that takes neurons or heads out")
                .option("labels", "FILE", "a class for each sample, a number from 0, for --loss cross-entropy")
                .option("loss", "KIND[:VALUE[=OF]][*W]", "what is made small: " + Option.any(LOSSES) + " of a value of the student, and of a"
                        + " value of the teacher if that has another name, times a weight; the first output if none is named (may be repeated; mse if left"
                        + " out, of texts pooled-cosine and mse)")
                .option(HIDDEN.name(), "W", "mse too, times W, of all that products read in both models, by the same names and widths")
                .option(ATTENTION.name(), "W", "mse too, times W, of all that Softmax makes in both, in order")
                .option(TEMPERATURE.name(), "T", TEMPERATURE.meaning() + "; " + TEMPERATURE.fallback() + " if left out")
                .option("train", "GLOB", "trains parameters of this name alone (may be repeated)")
                .option("freeze", "GLOB", "leaves parameters of this name as they are (may be repeated)")
                .flag("hold-zeros", "leaves the zeros of matrices, as pruning has made them")
                .option("epochs", "N", "how often samples are seen, at most; 10 if left out")
                .option("time", "T", "to stop after, such as 90s, 5m or 1h; the rate follows the clock then")
                .option("batch", "N", "samples of a step; 16 if left out")
                .option("optimizer", "O", "adamw or sgd; adamw if left out")
                .option("schedule", "S", "of the rate, " + Option.any(SCHEDULES) + "; cosine if left out")
                .option(RATE.name(), "R", RATE.meaning() + "; " + RATE.fallback() + " if left out")
                .option(WARMUP.name(), "PART", WARMUP.meaning() + "; " + WARMUP.fallback() + " if left out")
                .option(MOMENTUM.name(), "M", MOMENTUM.meaning() + "; " + MOMENTUM.fallback() + " if left out")
                .option(DECAY.name(), "D", DECAY.meaning() + "; " + DECAY.fallback() + " if left out")
                .option(CLIP.name(), "NORM", CLIP.meaning() + "; " + CLIP.fallback() + " if left out")
                .option(HELD_OUT.name(), "PART", HELD_OUT.meaning() + "; " + HELD_OUT.fallback() + " if left out")
                .option("patience", "N", "epochs in a row that may be no better on what is held out")
                .option("seed", "N", "of the order of samples; 1 if left out")
                .option("checkpoint", "FILE", "written after each epoch; training goes on from it if it is there")
                .option("threads", "N", "of kernels and of PyTorch; all processors if left out")
                .option("report", "FILE", "writes losses: as a page to look at if FILE ends with .html, else as JSON")
                .flag("force", "replaces OUT and the report if they exist")
                .flag("allow-links", RecipeOptions.LINKS);
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        Path out = EditedGraph.output(arguments);
        Path report = arguments.path("report");
        boolean force = arguments.flag("force");
        SampleOptions given = SampleOptions.of(arguments, null);
        Recipe recipe = recipe(arguments);
        options(arguments, 1);
        List<Integer> labels = TaskOptions.labels(arguments);
        long start = System.nanoTime();
        try (OnnxModel teacherModel = EditedGraph.open(arguments, "distill")) {
            List<Path> read = new ArrayList<>(teacherModel.files());
            read.addAll(given.files());
            Path from = arguments.path("student") == null ? teacherModel.path() : arguments.path("student");
            read.addAll(arguments.paths("student"));
            read.addAll(arguments.paths("statistics"));
            OutputFile.checkModel(arguments, "-o", out, force, read);
            if (report != null) {
                OutputFile.check(arguments, "--report", report, force, read);
            }
            Samples samples = SampleOptions.run(() -> given.samples(teacherModel, arguments));
            Network.threads(arguments.threads());
            Path folder = Files.createTempDirectory(out.toAbsolutePath().getParent(), "." + out.getFileName() + ".tensorpress-");
            try {
                Distillation.Result result = null;
                int steps = recipe == null ? 1 : recipe.scheduled();
                // Each step of a schedule prunes what the one before has trained, and trains what is left.
                for (int step = 1; step <= steps; step++) {
                    Recipe now = recipe == null ? null : step == 1 ? recipe.atStep(1) : recipe.withoutStructure().atStep(step);
                    if (steps > 1) {
                        console.out().println("step " + step + " of " + steps);
                    }
                    Path trained = folder.resolve("trained" + step + ".onnx");
                    result = train(arguments, console, teacherModel, from, now, samples, given.texts() != null, labels, step, folder, trained);
                    print(console, result);
                    from = trained;
                }
                long bytes = written(from, recipe, out, arguments);
                console.out().println(out + ": " + Text.count(teacherModel.bytes()) + " -> " + Text.count(bytes) + " bytes, in "
                        + Text.time(System.nanoTime() - start));
                if (report != null) {
                    write(report, result, out, arguments);
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

    private static Distillation.Result train(Arguments arguments, Console console, OnnxModel teacherModel, Path from, Recipe recipe, Samples samples, boolean texts,
            List<Integer> labels, int step, Path folder, Path trained) throws IOException {
        Distillation.Options options = options(arguments, step);
        try (Student student = Student.open(arguments, from, recipe, folder.resolve("pruned" + step + ".onnx")); Arena arena = Arena.ofShared()) {
            EditableModel teacher = EditableModel.of(teacherModel, arena);
            EditableModel editable = EditableModel.of(student.model(), arena);
            Objective objective = objective(arguments, texts, teacherModel, teacher, student.model(), editable, !labels.isEmpty());
            try (Network teachers = objective.hasTeacher() ? Network.of(teacher) : null; Network network = Network.of(editable);
                    Distillation distillation = SampleOptions.run(() -> Distillation.of(teachers, network, SampleReader.open(teacherModel.path(), samples),
                            labels.isEmpty() ? null : labels.stream().mapToInt(i -> i).toArray(), parameters(arguments, network), objective, options))) {
                if (arguments.flag("hold-zeros") || student.pruned()) {
                    distillation.holdZeros();
                }
                if (student.simulation() != null) {
                    distillation.through(student.simulation());
                }
                Distillation.Result result = SampleOptions.run(() -> distillation.run(p -> console.progress("training", Math.toIntExact(p.step()),
                        Math.toIntExact(p.steps()), "epoch " + p.epoch() + ", loss " + Text.digits(p.loss()) + ", " + Text.time((long) (1e9 * p.secondsLeft()))
                                + " left")));
                console.clearProgress();
                network.store(arena);
                editable.write(Destination.of(trained));
                return result;
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
            if (recipe.withoutStructure().requires(Method.Requirement.STATISTICS)) {
                throw arguments.wrong("recipe " + recipe.name() + " goes by statistics of inputs, which change while a model is trained");
            }
            return recipe;
        } catch (IllegalArgumentException e) {
            throw new UsageException(e.getMessage(), e);
        }
    }

    /** The trained student, by what the recipe does to weights if it does anything. */
    private static long written(Path trained, Recipe recipe, Path out, Arguments arguments) throws IOException {
        boolean force = arguments.flag("force");
        if (recipe == null || recipe.steps().isEmpty()) {
            try (OnnxModel model = OnnxModel.open(trained, false); Arena arena = Arena.ofShared()) {
                return bytes(EditableModel.of(model, arena).write(force ? Destination.replacing(out) : Destination.of(out)));
            }
        }
        try (Compressor compressor = Compressor.open(trained, Compressor.Options.DEFAULT.threads(arguments.threads()).overwrite(force))) {
            return compressor.compress(compressor.plan(recipe.withoutStructure()), out).bytesAfter();
        }
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
                .schedule(new Schedule(shape, EditedGraph.real(arguments, RATE), EditedGraph.real(arguments, WARMUP)))
                .decay(EditedGraph.real(arguments, DECAY)).clip(EditedGraph.real(arguments, CLIP)).seed(arguments.number("seed", 0, 1)).heldOut(EditedGraph.real(arguments, HELD_OUT))
                .patience(arguments.number("patience", 1, Integer.MAX_VALUE)).time(arguments.duration("time").orElse(null))
                .checkpoint(checkpoint(arguments.path("checkpoint"), step));
        if (optimizer.equals("sgd")) {
            return options.sgd(EditedGraph.real(arguments, MOMENTUM));
        }
        if (arguments.value(MOMENTUM.name()) != null) {
            throw arguments.wrong("--momentum goes with --optimizer sgd");
        }
        return options;
    }

    private static Path checkpoint(Path file, int step) {
        return file == null || step == 1 ? file : file.resolveSibling(file.getFileName() + "." + step);
    }

    private static Objective objective(Arguments arguments, boolean texts, OnnxModel teacherModel, EditableModel teacher, OnnxModel studentModel,
            EditableModel student, boolean labels) throws IOException {
        String own = student.graph().outputs().keySet().iterator().next();
        String others = teacher.graph().outputs().keySet().iterator().next();
        double temperature = EditedGraph.real(arguments, TEMPERATURE);
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
        if (arguments.value(HIDDEN.name()) != null) {
            Map<String, Long> both = new LinkedHashMap<>(read(teacherModel));
            both.entrySet().retainAll(read(studentModel).entrySet());
            if (both.isEmpty()) {
                throw new UnsupportedRequestException("products of the student read no value that has name and width of one in the teacher; --loss mse:VALUE=OF names them");
            }
            both.keySet().forEach(value -> terms.add(Term.of(Kind.MSE, value).weight(EditedGraph.real(arguments, HIDDEN) / both.size())));
        }
        if (arguments.value(ATTENTION.name()) != null) {
            List<String> of = softmax(teacher);
            List<String> value = softmax(student);
            if (of.isEmpty() || of.size() != value.size()) {
                throw new UnsupportedRequestException("the teacher has " + Text.plural(of.size(), "Softmax") + ", the student " + value.size()
                        + "; --loss mse:VALUE=OF names those that belong together");
            }
            for (int i = 0; i < of.size(); i++) {
                terms.add(new Term(Kind.MSE, value.get(i), of.get(i), EditedGraph.real(arguments, ATTENTION) / of.size(), 1));
            }
        }
        return new Objective(terms);
    }

    /** Values that products read, apart from inputs of the model, with how many numbers they sum. */
    private static Map<String, Long> read(OnnxModel model) throws IOException {
        Map<String, Long> widths = new LinkedHashMap<>();
        for (Graph.Feed f : model.graph().orElseThrow().feeds()) {
            if (f.value().producer().isPresent() && f.value().path().isEmpty()) {
                Weight weight = f.products().getFirst().weight();
                widths.put(f.value().name(), weight.tensor().shape().dim(weight.inputAxis()));
            }
        }
        return widths;
    }

    private static List<String> softmax(EditableModel model) {
        return model.graph().nodes().stream().filter(n -> n.is("Softmax")).map(EditableNode::outputs).map(List::getFirst).toList();
    }

    private static Set<String> parameters(Arguments arguments, Network network) {
        List<String> only = arguments.values("train");
        List<String> not = arguments.values("freeze");
        Set<String> chosen = network.parameters().stream().filter(p -> only.isEmpty() || only.stream().anyMatch(glob -> Glob.matches(glob, p)))
                .filter(p -> not.stream().noneMatch(glob -> Glob.matches(glob, p))).collect(Collectors.toCollection(LinkedHashSet::new));
        if (chosen.isEmpty()) {
            throw arguments.wrong("no parameter fits --train and --freeze");
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
        String text = writer.toString();
        if (!HtmlReport.named(file)) {
            OutputFile.writeJson(file, text);
            return;
        }
        new HtmlReport("Trained", out.getFileName().toString()).data("training", most -> text).text("Command", arguments.commandLine()).write(file);
    }
}
