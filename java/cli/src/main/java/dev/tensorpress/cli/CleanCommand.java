package dev.tensorpress.cli;

import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.UnknownNameException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.runtime.OnnxEvaluator;
import dev.tensorpress.structure.Cleanup;
import dev.tensorpress.structure.Cleanup.Step;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/** {@code tensorpress clean}: makes graphs smaller that compute what they did. */
final class CleanCommand implements Command {
    /** A tenth of what four bits cost. */
    private static final double TOLERANCE = 0.01;

    @Override
    public Syntax syntax() {
        List<String> names = new ArrayList<>();
        for (Step step : Step.values()) {
            names.add(step.id());
        }
        return KeyOptions.declareSigner(new Syntax("clean", "Makes the graph of a model in ONNX smaller, and leaves what it computes.", "MODEL"))
                .option("o", "output", "OUT", "the file to write; must be given")
                .option("steps", "A,B", "some of " + Option.any(names) + "; all but nearly-equal if left out")
                .option("share-tolerance", "T", "for nearly-equal: by how much weights may differ, relative to the larger one; 0.01 if left out")
                .flag("force", "replaces OUT if it exists")
                .flag("allow-links", RecipeOptions.LINKS);
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        Path out = arguments.path("output");
        if (out == null) {
            throw arguments.wrong("missing -o OUT");
        }
        Set<Step> steps = steps(arguments);
        if (arguments.flag("share-tolerance") && !steps.contains(Step.NEARLY_EQUAL)) {
            throw arguments.wrong("--share-tolerance is for step nearly-equal, which is not among --steps");
        }
        double tolerance = tolerance(arguments);
        boolean force = arguments.flag("force");
        long start = System.nanoTime();
        try (OnnxModel model = open(arguments.model(0), arguments.flag("allow-links")); Arena arena = Arena.ofShared()) {
            OutputFile.checkModel(arguments, "-o", out, force, model.files());
            EditableModel editable = EditableModel.of(model, arena);
            List<Cleanup.Done> done = new Cleanup(editable, arena, tolerance, new OnnxEvaluator(0)).run(steps);
            Set<Path> files = editable.write(force ? Destination.replacing(out) : Destination.of(out));
            long bytes = 0;
            for (Path file : files) {
                bytes += Files.size(file);
            }
            print(console, done);
            console.out().println(out + ": " + Text.count(model.bytes()) + " -> " + Text.count(bytes) + " bytes, in "
                    + Text.time(System.nanoTime() - start));
        }
    }

    private static OnnxModel open(Path path, boolean allowLinks) throws IOException {
        if (Files.isDirectory(path) || path.toString().endsWith(".safetensors")) {
            throw new UnsupportedRequestException(path + " has no graph: clean is for models in ONNX");
        }
        return OnnxModel.open(path, allowLinks);
    }

    private static Set<Step> steps(Arguments arguments) {
        String given = arguments.value("steps");
        if (given == null) {
            return Cleanup.DEFAULT;
        }
        Set<Step> steps = EnumSet.noneOf(Step.class);
        List<String> names = new ArrayList<>();
        for (Step step : Step.values()) {
            names.add(step.id());
        }
        for (String name : given.split(",", -1)) {
            int at = names.indexOf(name);
            if (at < 0) {
                throw new UnknownNameException("there is no step '" + name + "'", name, names);
            }
            steps.add(Step.values()[at]);
        }
        return steps;
    }

    private static double tolerance(Arguments arguments) {
        String given = arguments.value("share-tolerance");
        if (given == null) {
            return TOLERANCE;
        }
        if (!given.matches("0(\\.[0-9]+)?|1(\\.0+)?|\\.[0-9]+")) {
            throw arguments.wrong("--share-tolerance takes a number from 0 to 1, but got '" + given + "'");
        }
        return Double.parseDouble(given);
    }

    private static void print(Console console, List<Cleanup.Done> done) {
        Table table = new Table("STEP", ">NODES", ">CONSTANTS");
        for (Cleanup.Done one : done) {
            table.row(one.step().id(), change(one.nodes()), change(one.constants()));
        }
        console.out().print(table);
        for (Cleanup.Done one : done) {
            one.notes().forEach(note -> console.out().println("note: " + Text.plain(note)));
        }
    }

    /** Of what is gone. */
    private static String change(int gone) {
        return gone > 0 ? "-" + Text.count(gone) : gone < 0 ? "+" + Text.count(-gone) : "0";
    }
}
