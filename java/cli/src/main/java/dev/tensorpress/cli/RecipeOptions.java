package dev.tensorpress.cli;

import dev.tensorpress.Recipe;
import java.io.IOException;

/** The options of {@code plan} and {@code compress} that make a recipe. */
final class RecipeOptions {
    private RecipeOptions() {}

    static Syntax declare(Syntax syntax) {
        return syntax
                .option("recipe", "R", "int8 (default), int8-dynamic, int4, prune50, sparse24, prune50-int8, lowrank, lowrank-int8,"
                        + " int4-corrected, or a .yaml file")
                .option("set", "KEY=VALUE",
                        "changes an option of the recipe: block=32, linear.bits=4, min-size=0 (may be repeated)")
                .option("target", "T", "the runtime that the result is for")
                .option("exclude", "GLOB",
                        "leaves weights of this name, or of nodes of this name, as they are (may be repeated)")
                .flag("allow-links", "external data may lie behind links");
    }

    /** @throws UsageException if the options, or the recipe's file, make none */
    static Recipe recipe(Arguments arguments) throws IOException {
        String name = arguments.value("recipe");
        String target = arguments.value("target");
        try {
            Recipe recipe = Recipe.of(name == null ? "int8" : name);
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
            for (String glob : arguments.values("exclude")) {
                recipe = recipe.exclude(glob);
            }
            return recipe;
        } catch (IllegalArgumentException e) {
            throw new UsageException(e.getMessage(), e);
        }
    }
}
