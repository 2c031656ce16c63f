package dev.tensorpress.cli;

import dev.tensorpress.Merger;
import dev.tensorpress.model.Model;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.StringJoiner;

/** {@code tensorpress merge}: one model of several. */
final class MergeCommand implements Command {
    @Override
    public Syntax syntax() {
        StringJoiner methods = new StringJoiner(", ");
        for (Merger.Method m : Merger.Method.values()) {
            methods.add(m.id());
        }
        return RecipeOptions.declareFolder(KeyOptions.declareSigner(new Syntax("merge", "Makes one model of several that have the same weights and graph; of all else the first one's is taken.", "MODEL", "MODEL...")))
                .option("o", "output", "OUT", "what to write, which must be given: a file, or for models in safetensors a folder")
                .option("method", "M", methods + "; mean if left out, or with a base task-arithmetic")
                .option("base", "BASE", "the model that the others were trained from, for methods of what they differ from it")
                .option("weights", "W,W,...", "one for each model; 1 each if left out")
                .option("density", "D", "the part of the differences that ties and dare-* keep, above 0 and at most 1; "
                        + Merger.Settings.DENSITY + " if left out")
                .option("scale", "S", "of the differences when they are added to the base; 1 if left out")
                .option("seed", "N", "of what dare-* drop; 0 if left out")
                .option("exclude", "GLOB", "leaves out weights of this name, or used by nodes of this name: they stay as in the first model (may be repeated)")
                .option("threads", "N", "that kernels spread over; all processors if left out")
                .option("report", "FILE.json", "writes what was done, and where the time went")
                .flag("force", "replaces OUT, and the report, if they exist")
                .flag("allow-links", RecipeOptions.LINKS);
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        Path out = arguments.path("output");
        if (out == null) {
            throw arguments.wrong("missing -o OUT");
        }
        List<Path> models = new ArrayList<>();
        for (int i = 0; i < arguments.given(); i++) {
            models.add(arguments.model(i));
        }
        Path base = arguments.path("base");
        if (base != null) {
            base = arguments.mount(base, null, KeyOptions.signer(arguments)).model();
        }
        Merger.Settings settings = settings(arguments);
        Map<String, String> target = new LinkedHashMap<>();
        if (arguments.flag("shard-size")) {
            target.put("shard-size", Long.toString(RecipeOptions.shardSize(arguments, 0)));
        }
        boolean force = arguments.flag("force");
        Path report = arguments.path("report");
        try (Merger merger = Merger.open(models, base, new Merger.Options(arguments.threads(), arguments.flag("allow-links"), force,
                arguments.flag("resume"), RecipeOptions.memory(arguments), target, (name, made) -> console.reached(made, name)))) {
            List<Path> inputs = new ArrayList<>(models);
            Optional.ofNullable(base).ifPresent(inputs::add);
            for (Model model : merger.models()) {
                inputs.addAll(model.files());
                inputs.addAll(model.auxiliaryFiles());
            }
            for (String glob : arguments.values("exclude")) {
                RecipeOptions.checkMatches(glob, merger.models().getFirst(), arguments);
            }
            boolean folder = merger.writesFolder();
            if (!folder && arguments.flag("resume")) {
                RecipeOptions.refuseFolder(arguments);
            }
            if (folder) {
                OutputFile.checkFolder(arguments, "-o", out, force, inputs);
            } else {
                OutputFile.checkModel(arguments, "-o", out, force, inputs);
            }
            if (report != null) {
                inputs.add(out);
                OutputFile.checkOutside(arguments, "--report", report, folder ? List.of(out) : List.of());
                OutputFile.check(arguments, "--report", report, force, inputs);
            }
            console.begin("merging", merger.bytes());
            console.advise(() -> folder ? OutputFile.resumption(out) : null);
            Merger.Report done = merger.merge(settings, out);
            console.advise(() -> null);
            console.clearProgress();
            for (String note : done.notes()) {
                console.err().println("note: " + Text.plain(note));
            }
            if (report != null) {
                OutputFile.writeJson(report, done.toJson());
            }
            console.out().println(out + ": " + Text.count(done.bytes()) + " bytes, " + Text.plural(done.merged(), "weight") + " of "
                    + Text.plural(models.size(), "model") + " merged by " + settings.method().id() + ", of which " + done.alike() + " were alike"
                    + (done.kept() == 0 ? "" : ", " + done.kept() + " kept")
                    + (done.excluded() == 0 ? "" : ", " + done.excluded() + " excluded") + ", in " + Text.time(done.nanos()));
        }
    }

    private static Merger.Settings settings(Arguments arguments) {
        String named = arguments.value("method");
        Merger.Method method = named != null ? Merger.Method.of(named) : arguments.flag("base") ? Merger.Method.TASK_ARITHMETIC : Merger.Method.MEAN;
        Merger.Settings settings = Merger.Settings.of(method).excludes(arguments.values("exclude"));
        refuse(arguments, "density", method.drops(), method);
        refuse(arguments, "scale", method.based(), method);
        refuse(arguments, "seed", method.random(), method);
        try {
            if (arguments.value("weights") != null) {
                List<Double> weights = new ArrayList<>();
                for (String w : arguments.value("weights").split(",", -1)) {
                    weights.add(Double.valueOf(w.strip()));
                }
                settings = settings.weights(weights);
            }
            if (arguments.value("density") != null) {
                settings = settings.density(Double.parseDouble(arguments.value("density")));
            }
            if (arguments.value("scale") != null) {
                settings = settings.scale(Double.parseDouble(arguments.value("scale")));
            }
            return arguments.value("seed") == null ? settings : settings.seed(Long.parseLong(arguments.value("seed")));
        } catch (NumberFormatException e) {
            throw arguments.wrong("--weights, --density, --scale and --seed take numbers: " + e.getMessage());
        } catch (IllegalArgumentException e) {
            throw arguments.wrong(e.getMessage());
        }
    }

    private static void refuse(Arguments arguments, String option, boolean takes, Merger.Method method) {
        if (arguments.flag(option) && !takes) {
            throw arguments.wrong("--" + option + " has no effect on method " + method.id());
        }
    }
}
