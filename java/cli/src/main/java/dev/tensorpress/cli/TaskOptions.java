package dev.tensorpress.cli;

import dev.tensorpress.runtime.Tasks;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.stream.Stream;

/** The options that say what models are for. Each file has a line for each sample; blank lines do not count. */
record TaskOptions(Path labels, Path pairs, Path queries, Path relevant, int k) {
    static Syntax add(Syntax syntax) {
        return syntax
                .option("labels", "FILE", "of --texts, --images or --inputs: a class for each, a number from 0, to be compared with where the first output is"
                        + " largest")
                .option("pairs", "FILE", "lines of text, text and score, with tabs between: how well cosines are ranked as scores are; beside --texts"
                        + " or in their place")
                .option("queries", "FILE", "of --texts: lines for which the nearest of these are looked for")
                .option("relevant", "FILE", "of --queries: the numbers, from 1, of the texts that each ought to find; those that the reference finds"
                        + " if left out")
                .option("k", "N", "of --queries: how many texts are looked for; " + Tasks.NONE.k() + " if left out");
    }

    /** @throws UsageException if one is without what it belongs to */
    static TaskOptions of(Arguments arguments) {
        goesWith(arguments, "labels", "texts", "images", "inputs");
        goesWith(arguments, "queries", "texts");
        goesWith(arguments, "relevant", "queries");
        goesWith(arguments, "k", "queries");
        return new TaskOptions(arguments.path("labels"), arguments.path("pairs"), arguments.path("queries"), arguments.path("relevant"),
                arguments.number("k", 1, Tasks.NONE.k()));
    }

    private static void goesWith(Arguments arguments, String option, String... others) {
        if (arguments.value(option) != null && Stream.of(others).allMatch(other -> arguments.values(other).isEmpty())) {
            throw arguments.wrong("--" + option + " goes with --" + String.join(" or --", others));
        }
    }

    /** Files that are read. */
    List<Path> files() {
        return Stream.of(labels, pairs, queries, relevant).filter(Objects::nonNull).toList();
    }

    /** @throws UsageException if a file does not hold what it should */
    Tasks read(Arguments arguments) throws IOException {
        List<Tasks.Pair> scored = new ArrayList<>();
        for (String line : SampleOptions.lines(arguments, "pairs", pairs)) {
            scored.add(pair(arguments, line));
        }
        List<String> asked = SampleOptions.lines(arguments, "queries", queries);
        List<List<Integer>> wanted = new ArrayList<>();
        for (String line : SampleOptions.lines(arguments, "relevant", relevant)) {
            wanted.add(Stream.of(line.strip().split("\\s+")).map(word -> number(arguments, "relevant", relevant, word, 1) - 1).toList());
        }
        if (relevant != null && wanted.size() != asked.size()) {
            throw arguments.wrong("--relevant " + relevant + " has " + Text.plural(wanted.size(), "line") + " for the "
                    + asked.size() + " of --queries");
        }
        return new Tasks(labels(arguments), scored, asked, wanted, k);
    }

    /**
     * The classes of --labels; empty if it is not given.
     *
     * @throws UsageException if the file does not hold what it should
     */
    static List<Integer> labels(Arguments arguments) throws IOException {
        Path file = arguments.path("labels");
        List<Integer> classes = new ArrayList<>();
        for (String line : SampleOptions.lines(arguments, "labels", file)) {
            classes.add(number(arguments, "labels", file, line, 0));
        }
        return classes;
    }

    private static int number(Arguments arguments, String option, Path file, String word, int least) {
        try {
            int number = Integer.parseInt(word.strip());
            if (number >= least) {
                return number;
            }
        } catch (NumberFormatException e) {
            // said below
        }
        throw arguments.wrong("--" + option + " " + file + " has numbers from " + least + " on, and not '" + Text.printable(word) + "'");
    }

    private Tasks.Pair pair(Arguments arguments, String line) {
        String[] parts = line.split("\t", -1);
        try {
            if (parts.length == 3 && Double.isFinite(Double.parseDouble(parts[2]))) {
                return new Tasks.Pair(parts[0], parts[1], Double.parseDouble(parts[2]));
            }
        } catch (NumberFormatException e) {
            // said below
        }
        throw arguments.wrong("--pairs " + pairs + " has lines of text, text and score, with tabs between, and not '" + Text.printable(line) + "'");
    }
}
