package dev.tensorpress.cli;

import dev.tensorpress.model.UnknownNameException;
import java.io.IOException;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.commons.cli.CommandLine;
import org.apache.commons.cli.DefaultParser;
import org.apache.commons.cli.Option;
import org.apache.commons.cli.Options;
import org.apache.commons.cli.ParseException;
import org.apache.commons.cli.UnrecognizedOptionException;
import org.apache.commons.cli.help.HelpFormatter;
import org.apache.commons.cli.help.TextHelpAppendable;

/** What may follow a command's name. */
final class Syntax {
    /** {@link Main} looks for it itself, since what is wrong may be the syntax. */
    static final String STACKTRACE = "stacktrace";

    private static final int WIDTH = 118;

    private final String command;
    private final String summary;
    private final String[] parameters;
    private final Options options = new Options();

    /** @param parameters what must be given besides options; {@code [NAME]} may be left out, the last may be {@code NAME...}, one or more */
    Syntax(String command, String summary, String... parameters) {
        this.command = command;
        this.summary = summary;
        this.parameters = parameters;
    }

    String summary() {
        return summary;
    }

    Syntax flag(String name, String help) {
        options.addOption(null, name, false, help);
        return this;
    }

    /** An option with a value. */
    Syntax option(String name, String label, String help) {
        return option(null, name, label, help);
    }

    /** @param letter a shorter name, or null */
    Syntax option(String letter, String name, String label, String help) {
        options.addOption(Option.builder(letter).longOpt(name).hasArg().argName(label).desc(help).get());
        return this;
    }

    private Options complete() {
        return options
                .addOption("h", "help", false, "shows this")
                .addOption(null, STACKTRACE, false, "shows where an error came from");
    }

    /**
     * Parses all but the first argument, which is the command's name.
     *
     * @return null if help was asked for
     * @throws UsageException if they do not fit
     */
    Arguments parse(String[] args) {
        CommandLine line;
        try {
            line = DefaultParser.builder().setAllowPartialMatching(false).setStripLeadingAndTrailingQuotes(false).get()
                    .parse(complete(), Arrays.copyOfRange(args, 1, args.length));
        } catch (UnrecognizedOptionException e) {
            throw unknown(e.getOption());
        } catch (ParseException e) {
            throw wrong(e.getMessage());
        }
        if (line.hasOption("help")) {
            return null;
        }
        int given = line.getArgList().size();
        if (given < parameters.length && !parameters[given].startsWith("[")) {
            throw wrong("missing " + parameters[given]);
        }
        boolean more = parameters.length > 0 && parameters[parameters.length - 1].endsWith("...");
        if (given > parameters.length && !more) {
            throw wrong("unexpected argument '" + line.getArgList().get(parameters.length) + "'");
        }
        return new Arguments(this, line, List.of(args));
    }

    private UsageException unknown(String given) {
        List<String> names = new ArrayList<>();
        for (Option option : options.getOptions()) {
            names.add(option.getLongOpt());
        }
        int equals = given.indexOf('=');
        String option = equals < 0 ? given : given.substring(0, equals);
        String name = option.replaceFirst("^-+", "");
        if (names.contains(name) && option.startsWith("--")) {
            return wrong(option + " takes no value, but got '" + given.substring(equals + 1) + "'");
        }
        String nearest = UnknownNameException.nearest(name, names);
        return wrong("unknown option '" + option + "'" + (nearest == null ? "" : "; did you mean --" + nearest + "?"));
    }

    UsageException wrong(String message) {
        return new UsageException(message + " (see tensorpress " + command + " --help)");
    }

    /** What {@code --help} shows. */
    void help(PrintStream out) throws IOException {
        TextHelpAppendable text = new TextHelpAppendable(out);
        text.setMaxWidth(WIDTH);
        text.setLeftPad(0);
        text.setIndent(0);
        HelpFormatter formatter = HelpFormatter.builder().setShowSince(false).setHelpAppendable(text).get();
        formatter.setSyntaxPrefix("Usage:");
        formatter.printHelp("tensorpress " + command + " " + String.join(" ", parameters)
                + (parameters.length == 0 ? "" : " ") + "[OPTION]...", summary, complete(), "", false);
    }
}
