package dev.tensorpress.cli;

import dev.tensorpress.model.Option;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.runtime.OnnxEvaluator;
import dev.tensorpress.structure.CleanMethod;
import dev.tensorpress.structure.Cleanup;
import dev.tensorpress.structure.Cleanup.Step;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.util.List;
import java.util.Set;

/** {@code tensorpress clean}: makes graphs smaller that compute what they did. */
final class CleanCommand implements Command {
    @Override
    public Syntax syntax() {
        return EditedGraph.declare(new Syntax("clean", "Makes the graph of a model in ONNX smaller, and leaves what it computes.", "MODEL"))
                .option("steps", "A,B", "some of " + Option.any(EditedGraph.words(Step.values())) + "; all but nearly-equal if left out")
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
        try (OnnxModel model = EditedGraph.open(arguments, "clean"); Arena arena = Arena.ofShared()) {
            EditedGraph.check(arguments, model.files());
            EditableModel editable = EditableModel.of(model, arena);
            List<Cleanup.Done> done = new Cleanup(editable, arena, tolerance, new OnnxEvaluator(0)).run(steps);
            String written = EditedGraph.write(arguments, model, editable, start);
            console.out().print(StructureListing.cleaned(done));
            console.out().println(written);
        }
    }
}
