package dev.tensorpress.cli;

import dev.tensorpress.Formats;
import dev.tensorpress.Recipe;
import dev.tensorpress.method.Methods;
import dev.tensorpress.model.Option;
import dev.tensorpress.structure.StructureMethod;
import java.io.IOException;
import java.io.PrintStream;
import java.util.List;

/** {@code tensorpress recipe}: a recipe as YAML, and what recipes can say. */
final class RecipeCommand implements Command {
    @Override
    public Syntax syntax() {
        return new Syntax("recipe", "Prints a recipe as YAML; without NAME, all options that recipes and --set have.", "[NAME]")
                .flag("schema", "prints the JSON Schema of recipes instead, for editors");
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        PrintStream out = console.out();
        if (arguments.flag("schema")) {
            if (arguments.given() > 0) {
                throw arguments.wrong("--schema takes no NAME: it is one for all recipes");
            }
            out.print(Recipe.schema());
        } else if (arguments.given() > 0) {
            try {
                out.print(Recipe.of(arguments.text(0)).yaml());
            } catch (IllegalArgumentException e) {
                throw new UsageException(e.getMessage(), e);
            }
        } else {
            out.println("Recipes: " + String.join(", ", Recipe.NAMES) + ", or a .yaml file");
            for (String method : StructureMethod.NAMES) {
                options(method, StructureMethod.options(method), out);
            }
            for (String method : Methods.NAMES) {
                options(method, Methods.options(method), out);
            }
            for (Formats.Entry entry : Formats.ALL) {
                options("targets of " + entry.format().displayName() + " (" + String.join(", ", entry.names()) + ")", entry.options(), out);
            }
        }
    }

    private static void options(String of, List<Option> options, PrintStream out) {
        out.println();
        out.println(of + ":");
        for (Option option : options) {
            String fallback = option.fallback() == null ? " (must be given)"
                    : option.fallback().isEmpty() ? "" : " (" + option.fallback() + " if left out)";
            out.println("  " + option.name() + ": " + option.type().range() + fallback);
            out.println("      " + option.meaning());
        }
    }
}
