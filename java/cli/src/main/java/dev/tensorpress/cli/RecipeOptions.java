package dev.tensorpress.cli;

import dev.tensorpress.Compressor;
import dev.tensorpress.Formats;
import dev.tensorpress.Recipe;
import dev.tensorpress.Selector;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Format;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.Weight;
import dev.tensorpress.runtime.OnnxEvaluator;
import dev.tensorpress.statistics.Statistics;
import java.io.IOException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** The options by which commands read a model, and by which {@code plan} and {@code compress} make a recipe. */
final class RecipeOptions {
    /** Buffers to read and write with, and the values of some rows. */
    private static final long LEAST_MEMORY = 128L << 20;

    static final String MEMORY = "of buffers and working memory at most, as far as single weights allow; 512MiB if left out";
    static final String SHARD_SIZE = "of the tensors in one file at most, where a folder is written; 5GB if left out";
    static final String DEVICE = "that kernels run on: cpu, cuda for the first GPU, or cuda:1 and so on; cpu if left out";
    static final String LINKS = "links in the model's folder may lead out of it";

    private RecipeOptions() {}

    static Syntax declare(Syntax syntax) {
        syntax
                .option("recipe", "R", presets() + ", or a .yaml file")
                .option("set", "KEY=VALUE",
                        "changes an option of the recipe: block=32, linear.bits=4, min-size=0 (may be repeated; tensorpress recipe lists all)")
                .option("target", "T", "the runtime that the result is for: " + targets())
                .option("exclude", "GLOB",
                        "leaves weights of this name, or of nodes of this name, as they are (may be repeated)")
                .option("statistics", "FILE", "of what weights are multiplied with, which calibrate writes, or an importance matrix of llama.cpp; for methods such as gptq")
                .flag("force-scheme", "the same as --set force-scheme=true: writes what the recipe says even if no loader reads it");
        return declareModel(syntax);
    }

    /** Names of presets, with the format that takes one if none is named. */
    private static String presets() {
        StringBuilder names = new StringBuilder();
        for (String name : Recipe.NAMES) {
            names.append(names.isEmpty() ? "" : ", ").append(name);
            for (Formats.Entry entry : Formats.ALL) {
                Format format = entry.format();
                names.append(format.defaultRecipe().equals(name) ? " (default for " + format.displayName() + ")" : "");
            }
        }
        return names.toString();
    }

    private static String targets() {
        StringBuilder names = new StringBuilder();
        for (Formats.Entry entry : Formats.ALL) {
            names.append(names.isEmpty() ? "" : "; ").append("of models in ").append(entry.format().displayName()).append(' ')
                    .append(Option.any(entry.names()));
        }
        return names.toString();
    }

    /** The options that say how a model is read. */
    static Syntax declareModel(Syntax syntax) {
        return KeyOptions.declareSigner(syntax)
                .option("role", "GLOB=ROLE", "what weights of this name do, for models without a graph: linear, head,"
                        + " embedding, conv, recurrent, norm, bias, other (may be repeated; the first that fits counts)")
                .flag("allow-links", LINKS);
    }

    static Compressor.Options model(Arguments arguments) {
        Map<String, Role> roles = new LinkedHashMap<>();
        for (String given : arguments.values("role")) {
            int equals = given.lastIndexOf('=');
            if (equals < 1) {
                throw arguments.wrong("--role takes GLOB=ROLE, but got '" + given + "'");
            }
            if (roles.putIfAbsent(given.substring(0, equals), Role.of(given.substring(equals + 1))) != null) {
                throw arguments.wrong("--role gives '" + given.substring(0, equals) + "' two roles");
            }
        }
        return Compressor.Options.DEFAULT.allowLinks(arguments.flag("allow-links")).roles(roles).evaluator(new OnnxEvaluator(0));
    }

    /** A misspelt name would leave nothing out, and nobody would know. */
    static void checkMatches(String glob, Model model, Arguments arguments) {
        for (Weight weight : model.weights()) {
            if (Selector.matches(glob, weight)) {
                return;
            }
        }
        throw arguments.wrong("--exclude '" + glob + "' fits no weight, and no node that uses one (inspect lists them)");
    }

    /** What calibration found, which the compressor uses from now on; null if no file of it is given. */
    static Statistics statistics(Arguments arguments, Compressor compressor, Console console) throws IOException {
        Path file = arguments.path("statistics");
        if (file == null) {
            return null;
        }
        Statistics statistics = Statistics.load(file, compressor.model());
        try {
            compressor.use(statistics);
        } catch (IOException | RuntimeException | Error e) {
            statistics.close();
            throw e;
        }
        List<String> unused = statistics.unused();
        if (!unused.isEmpty()) {
            console.err().println("note: no weight of the model has a name that fits " + unused.size() + " of " + file + ": "
                    + Text.names(unused));
        }
        return statistics;
    }

    /** The options that say how a folder is written. */
    static Syntax declareFolder(Syntax syntax) {
        return syntax
                .option("memory", "SIZE", MEMORY)
                .option("shard-size", "SIZE", SHARD_SIZE)
                .flag("resume", "goes on where an interrupted command stopped, if OUT is a folder");
    }

    /** @throws UsageException if an option is given that only concerns folders */
    static void refuseFolder(Arguments arguments) {
        for (String option : List.of("shard-size", "resume")) {
            if (arguments.flag(option)) {
                throw arguments.wrong("--" + option + " is for models that are written as folders");
            }
        }
    }

    static long memory(Arguments arguments) {
        return arguments.bytes("memory", LEAST_MEMORY, Destination.DEFAULT_MEMORY);
    }

    /** @param otherwise if it is not given */
    static long shardSize(Arguments arguments, long otherwise) {
        return arguments.bytes("shard-size", 1, otherwise);
    }

    /** The file that the recipe is read from. */
    static Optional<Path> recipeFile(Arguments arguments) {
        return Optional.ofNullable(arguments.value("recipe")).filter(Recipe::isFile).map(Path::of);
    }

    /**
     * What was asked for, of a recipe that suits the model's format if none was named.
     *
     * @throws UsageException if the options, or the recipe's file, make none
     */
    static Recipe recipe(Arguments arguments, Compressor compressor) throws IOException {
        String name = arguments.value("recipe");
        String target = arguments.value("target");
        try {
            Recipe recipe = Recipe.of(name != null ? name : compressor.format().defaultRecipe());
            for (String set : arguments.values("set")) {
                int equals = set.indexOf('=');
                if (equals < 1) {
                    throw arguments.wrong("--set takes KEY=VALUE, but got '" + set + "'");
                }
                recipe = recipe.set(set.substring(0, equals), set.substring(equals + 1));
            }
            if (target != null) {
                recipe = recipe.target(target);
            }
            if (arguments.flag("force-scheme")) {
                recipe = recipe.set("force-scheme", "true");
            }
            if (arguments.flag("shard-size")) {
                long size = shardSize(arguments, 0);
                if (!compressor.target(recipe).writesFolder()) {
                    refuseFolder(arguments);
                }
                recipe = recipe.set("shard-size", Long.toString(size));
            }
            for (String glob : arguments.values("exclude")) {
                checkMatches(glob, compressor.model(), arguments);
                recipe = recipe.exclude(glob);
            }
            compressor.target(recipe); // values of its options are as much usage as those of steps
            return recipe;
        } catch (IllegalArgumentException e) {
            throw new UsageException(e.getMessage(), e);
        }
    }
}
