package dev.tensorpress.cli;

import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.List;
import org.apache.commons.cli.CommandLine;

/** What a command was given. Options go by their long names. */
final class Arguments {
    private final Syntax syntax;
    private final CommandLine line;

    Arguments(Syntax syntax, CommandLine line) {
        this.syntax = syntax;
        this.line = line;
    }

    /** The parameter at {@code index} as a path. */
    Path path(int index) {
        return parse(line.getArgList().get(index));
    }

    /** The option as a path, or null. */
    Path path(String option) {
        String value = value(option);
        return value == null ? null : parse(value);
    }

    private Path parse(String value) {
        try {
            if (!value.isEmpty()) {
                return Path.of(value);
            }
        } catch (InvalidPathException e) {
            // said below
        }
        throw syntax.wrong("'" + value + "' is not the name of a file");
    }

    boolean flag(String option) {
        return line.hasOption(option);
    }

    /** The option's only value, or null. */
    String value(String option) {
        List<String> values = values(option);
        if (values.size() > 1) {
            throw syntax.wrong("--" + option + " is given twice");
        }
        return values.isEmpty() ? null : values.getFirst();
    }

    /** All values of an option. */
    List<String> values(String option) {
        String[] values = line.getOptionValues(option);
        return values == null ? List.of() : List.of(values);
    }

    /** The option as a number of at least {@code least}, or {@code otherwise} if it is not given. */
    int number(String option, int least, int otherwise) {
        String value = value(option);
        if (value == null) {
            return otherwise;
        }
        try {
            int number = Integer.parseInt(value);
            if (number >= least) {
                return number;
            }
        } catch (NumberFormatException e) {
            // said below
        }
        throw syntax.wrong("--" + option + " must be a number of at least " + least + ", but is '" + value + "'");
    }

    UsageException wrong(String message) {
        return syntax.wrong(message);
    }
}
