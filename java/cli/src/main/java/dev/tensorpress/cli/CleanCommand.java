package dev.tensorpress.cli;

import dev.tensorpress.SharedWeights;
import dev.tensorpress.SharedWeights.Shared;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.runtime.OnnxEvaluator;
import dev.tensorpress.structure.CleanMethod;
import dev.tensorpress.structure.Cleanup;
import dev.tensorpress.structure.Cleanup.Step;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/** {@code tensorpress clean}: makes graphs smaller that compute what they did. */
final class CleanCommand implements Command {
    @Override
    public Syntax syntax() {
        return EditedGraph.declare(new Syntax("clean", "Makes the graph of a model in ONNX smaller, and leaves what it computes.", "MODEL"))
                .option("steps", "A,B", "some of " + Option.any(EditedGraph.words(Step.values())) + "; all but nearly-equal if left out; of models in safetensors, where OUT is a folder, nearly-equal alone")
                .option(CleanMethod.TOLERANCE.name(), "T", CleanMethod.TOLERANCE.meaning() + "; " + CleanMethod.TOLERANCE.fallback() + " if left out");
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        EditedGraph.output(arguments);
        String given = arguments.value("steps");
        Set<Step> steps = given == null ? Cleanup.DEFAULT : EditedGraph.constants(given, Step.class, "step");
        if (arguments.flag(CleanMethod.TOLERANCE.name()) && !steps.contains(Step.NEARLY_EQUAL)) {
            throw arguments.wrong("--share-tolerance is for step nearly-equal, which is not among --steps");
        }
        double tolerance = EditedGraph.real(arguments, CleanMethod.TOLERANCE);
        long start = System.nanoTime();
        Path path = arguments.model(0);
        if (Files.isDirectory(path) || path.toString().endsWith(".safetensors")) {
            share(arguments, console, path, steps, tolerance, start);
            return;
        }
        try (OnnxModel model = EditedGraph.open(arguments, "clean"); Arena arena = Arena.ofShared()) {
            EditedGraph.check(arguments, model.files());
            EditableModel editable = EditableModel.of(model, arena);
            List<Cleanup.Done> done = new Cleanup(editable, arena, tolerance, new OnnxEvaluator(0)).run(steps);
            String written = EditedGraph.write(arguments, model, editable, start);
            console.out().print(StructureListing.cleaned(done));
            console.out().println(written);
        }
    }

    /** Of files of tensors, in which no name can stand for another's tensor: weights that are nearly equal become equal, and an archive has them once. */
    private static void share(Arguments arguments, Console console, Path path, Set<Step> steps, double tolerance, long start) throws IOException {
        if (!steps.equals(Set.of(Step.NEARLY_EQUAL))) {
            throw new UnsupportedRequestException(path + " has no graph: of models in safetensors, clean takes --steps nearly-equal alone");
        }
        Path out = EditedGraph.output(arguments);
        boolean force = arguments.flag("force");
        try (SharedWeights weights = SharedWeights.open(path, arguments.flag("allow-links"), Map.of(), 0)) {
            List<Path> inputs = new ArrayList<>(weights.model().files());
            inputs.addAll(weights.model().auxiliaryFiles());
            OutputFile.checkFolder(arguments, "-o", out, force, inputs);
            List<Shared> shared = weights.find(tolerance);
            weights.write(shared, out, force, Destination.DEFAULT_MEMORY);
            long bytes = 0;
            int equal = 0;
            for (Shared s : shared) {
                bytes += s.weight().tensor().bytes();
                equal += s.equal() ? 1 : 0;
                console.out().println("note: " + Text.plain("'" + s.weight().name() + "' is '" + s.of().name() + "'"
                        + (s.equal() ? ", bit for bit" : String.format(Locale.ROOT, " now, off by %.2g", s.difference()))));
            }
            console.out().println(out + ": " + Text.plural(shared.size() - equal, "weight") + " became another one, " + equal + " were; an archive (pack) has "
                    + Text.count(bytes) + " bytes less to store, in " + Text.time(System.nanoTime() - start));
        }
    }
}
