package dev.tensorpress.cli;

import java.util.Arrays;
import java.util.List;

/**
 * Runs several commands, with {@code --} between them, in one process, and ends it as the last one does: what the launcher does
 * once, so that the JVM keeps which classes commands need, linked, and which methods are worth compiling at once.
 */
final class Training {
    private Training() {}

    /** Ends with the code of the first command that fails. */
    public static void main(String[] args) {
        List<String> all = Arrays.asList(args);
        for (int between; (between = all.indexOf("--")) >= 0; all = all.subList(between + 1, all.size())) {
            int code = Main.run(all.subList(0, between).toArray(String[]::new), System.out, System.err);
            if (code != Main.OK) {
                System.exit(code);
            }
        }
        Main.main(all.toArray(String[]::new));
    }
}
