package dev.tensorpress.cli;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import dev.tensorpress.Compressor;
import dev.tensorpress.Recipe;
import dev.tensorpress.method.Method;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.runtime.SampleReader;
import dev.tensorpress.runtime.Samples;
import dev.tensorpress.train.Reconstruction;
import dev.tensorpress.train.Reconstruction.Fitted;
import dev.tensorpress.train.Reconstruction.Rounding;
import dev.tensorpress.train.Student;
import java.io.IOException;
import java.io.StringWriter;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.List;

/** What {@code tensorpress distill --layerwise} does. */
final class Layerwise {
    /** Of training as a whole. */
    private static final List<String> OTHERS = List.of("labels", "loss", "hidden", "attention", "temperature", "epochs", "time", "optimizer", "schedule", "warmup",
            "momentum", "decay", "clip", "patience", "augment");

    private Layerwise() {}

    /** @throws UsageException if options are given that mean nothing beside --layerwise */
    static void check(Arguments arguments, Recipe recipe) {
        for (String name : OTHERS) {
            if (!arguments.values(name).isEmpty()) {
                throw arguments.wrong("--" + name + " does not go with --layerwise, which fits blocks to the teacher's, in a number of --steps");
            }
        }
        if (recipe == null && arguments.value("student") == null) {
            throw arguments.wrong("--layerwise needs --recipe or --student: the teacher itself has nothing to learn");
        }
        if (recipe != null && recipe.scheduled() > 1) {
            throw arguments.wrong("recipe " + recipe.name() + " has a schedule, which --layerwise has no steps for");
        }
        if (recipe != null && recipe.withoutStructure().requires(Method.Requirement.STATISTICS)) {
            throw arguments.wrong("recipe " + recipe.name() + " chooses codes by statistics, and --layerwise by what blocks make: take quantize instead of gptq");
        }
        if (recipe == null && (arguments.value("rounding") != null || arguments.flag("learn-scales"))) {
            throw arguments.wrong("--rounding and --learn-scales go with --recipe, which says what codes there are");
        }
        options(arguments);
    }

    /** @throws UsageException if options are given that mean nothing without --layerwise */
    static void checkAbsent(Arguments arguments) {
        if (arguments.value("rounding") != null || arguments.flag("learn-scales") || arguments.value("steps") != null) {
            throw arguments.wrong("--rounding, --learn-scales and --steps go with --layerwise");
        }
    }

    private static Reconstruction.Options options(Arguments arguments) {
        Reconstruction.Options none = Reconstruction.Options.DEFAULT;
        Rounding rounding = arguments.value("rounding") == null ? none.rounding()
                : EditedGraph.constant(arguments.value("rounding"), Rounding.values(), "rounding");
        return none.steps(arguments.number("steps", 1, none.steps())).batch(arguments.number("batch", 1, none.batch())).rounding(rounding)
                .scales(arguments.flag("learn-scales"))
                .rate(arguments.value("rate") == null ? none.rate() : EditedGraph.real(arguments, DistillCommand.RATE)).seed(arguments.number("seed", 0, 1))
                .heldOut(EditedGraph.real(arguments, DistillCommand.HELD_OUT)).checkpoint(arguments.path("checkpoint"));
    }

    /** @param others files that are read or written */
    static void run(Arguments arguments, Console console, OnnxModel teacherModel, Path from, Recipe recipe, Samples samples, Path folder, Path out, Path report,
            List<Path> others, long start) throws IOException {
        Path trained = folder.resolve("trained.onnx");
        try (Arena arena = Arena.ofShared()) {
            List<Fitted> blocks;
            try (Student student = Student.open(from, recipe,
                    Compressor.Options.DEFAULT.threads(arguments.threads()).allowLinks(arguments.flag("allow-links")), arguments.path("statistics"),
                    folder.resolve("pruned.onnx"))) {
                EditableModel teacher = EditableModel.of(teacherModel, arena);
                EditableModel editable = EditableModel.of(student.model(), arena);
                Reconstruction.Options options = options(arguments).holdZeros(arguments.flag("hold-zeros") || student.pruned());
                try (Reconstruction all = SampleOptions.run(() -> Reconstruction.of(teacher, editable, SampleReader.open(teacherModel.path(), samples),
                        DistillWork.parameters(arguments, Reconstruction.parameters(editable)), student.simulation(), options, folder, arena))) {
                    for (int block = 1; options.checkpoint() != null && block <= all.blocks(); block++) {
                        OutputFile.checkModel(arguments, "--checkpoint", Reconstruction.checkpoint(options.checkpoint(), block), true, others);
                    }
                    blocks = SampleOptions.run(() -> all.run(p -> console.progress("training", (p.block() - 1) * p.steps() + p.step(), p.blocks() * p.steps(),
                            "block " + p.block() + " of " + p.blocks() + ", loss " + Text.digits(p.loss()) + ", " + Text.time((long) (1e9 * p.secondsLeft()))
                                    + " left")));
                    console.clearProgress();
                    print(console, blocks);
                    editable.write(Destination.of(trained));
                    DistillWork.written(trained, student.recipe(), all.codes(), out, arguments, console, teacherModel, start);
                }
            }
            if (report != null) {
                write(report, blocks, out, arguments);
            }
        }
    }

    private static void print(Console console, List<Fitted> blocks) {
        Table table = new Table(">BLOCK", "UP TO", ">BYTES", ">BEFORE", ">AFTER", "");
        for (Fitted b : blocks) {
            table.row(Text.count(b.number()), String.join(", ", b.values()), Text.count(b.bytes()), Text.digits(b.before()), Text.digits(b.after()),
                    b.trained() ? "" : "as it was");
        }
        console.out().print(table);
    }

    private static void write(Path file, List<Fitted> blocks, Path out, Arguments arguments) throws IOException {
        StringWriter writer = new StringWriter();
        try (JsonGenerator json = new JsonFactory().createGenerator(writer)) {
            json.useDefaultPrettyPrinter();
            json.writeStartObject();
            json.writeArrayFieldStart("blocks");
            for (Fitted b : blocks) {
                json.writeStartObject();
                json.writeNumberField("block", b.number());
                json.writeFieldName("values");
                json.writeArray(b.values().toArray(String[]::new), 0, b.values().size());
                json.writeNumberField("bytes", b.bytes());
                json.writeNumberField("before", b.before());
                json.writeNumberField("after", b.after());
                json.writeBooleanField("trained", b.trained());
                json.writeEndObject();
            }
            json.writeEndArray();
            json.writeEndObject();
        }
        DistillWork.report(file, writer.toString(), out, arguments);
    }
}
