package dev.tensorpress.cli;

import dev.tensorpress.Compressor;
import dev.tensorpress.Recipe;
import dev.tensorpress.model.Role;
import java.io.IOException;
import java.util.LinkedHashMap;
import java.util.Map;

/** The options by which commands read a model, and by which {@code plan} and {@code compress} make a recipe. */
final class RecipeOptions {
    private RecipeOptions() {}

    static Syntax declare(Syntax syntax) {
        syntax
                .option("recipe", "R", "int8 (default), int8-dynamic, int4, prune50, sparse24, prune50-int8, lowrank, lowrank-int8,"
                        + " int4-corrected, or a .yaml file")
                .option("set", "KEY=VALUE",
                        "changes an option of the recipe: block=32, linear.bits=4, min-size=0 (may be repeated)")
                .option("target", "T", "the runtime that the result is for")
                .option("exclude", "GLOB",
                        "leaves weights of this name, or of nodes of this name, as they are (may be repeated)");
        return declareModel(syntax);
    }

    /** The options that say how a model is read. */
    static Syntax declareModel(Syntax syntax) {
        return syntax
                .option("role", "GLOB=ROLE", "what weights of this name do, for models without a graph: linear, head,"
                        + " embedding, conv, recurrent, norm, bias, other (may be repeated; the first that fits counts)")
                .flag("allow-links", "external data may lie behind links");
    }

    static Compressor.Options model(Arguments arguments) {
        Map<String, Role> roles = new LinkedHashMap<>();
        for (String given : arguments.values("role")) {
            int equals = given.lastIndexOf('=');
            Role role = null;
            for (Role r : Role.values()) {
                role = equals > 0 && given.substring(equals + 1).equals(r.id()) ? r : role;
            }
            if (role == null) {
                throw arguments.wrong("--role takes GLOB=ROLE with a role of inspect's, but got '" + given + "'");
            }
            if (roles.putIfAbsent(given.substring(0, equals), role) != null) {
                throw arguments.wrong("--role gives '" + given.substring(0, equals) + "' two roles");
            }
        }
        return Compressor.Options.DEFAULT.allowLinks(arguments.flag("allow-links")).roles(roles);
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
