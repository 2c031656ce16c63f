package dev.tensorpress.cli;

import dev.tensorpress.model.archive.ArchiveKey;
import java.io.IOException;
import java.nio.CharBuffer;
import java.util.Arrays;
import java.util.Map;
import java.util.function.Function;

/** The secret of an encrypted archive, which is never on the command line, since others see that. */
final class KeyOptions {
    private static final String KEY = "key";
    private static final String ASK = "passphrase";
    private static final String FILE = "passphrase-file";

    private KeyOptions() {}

    static Syntax declare(Syntax syntax) {
        return syntax
                .option(KEY, "FILE", "the key of an encrypted archive, a file of keygen")
                .flag(ASK, "an archive is encrypted with a passphrase, which is that of the environment variable " + ArchiveKey.PASSPHRASE
                        + ", or else is asked for")
                .option(FILE, "FILE", "an archive is encrypted with a passphrase, the first line of this file");
    }

    /** What a new archive is encrypted with; null if no option says that it is. */
    static ArchiveKey toSeal(Arguments arguments) throws IOException {
        return toSeal(arguments, System.getenv(), KeyOptions::ask);
    }

    /** What an archive that is read may be encrypted with: by the options, or else by the environment; null if neither says anything. */
    static ArchiveKey toOpen(Arguments arguments) throws IOException {
        return toOpen(arguments, System.getenv(), KeyOptions::ask);
    }

    /** @param ask shows a text and returns what is typed; null if there is nobody to ask */
    static ArchiveKey toSeal(Arguments arguments, Map<String, String> environment, Function<String, char[]> ask) throws IOException {
        return given(arguments, environment, ask, true);
    }

    static ArchiveKey toOpen(Arguments arguments, Map<String, String> environment, Function<String, char[]> ask) throws IOException {
        ArchiveKey given = given(arguments, environment, ask, false);
        if (given != null) {
            return given;
        }
        try {
            return ArchiveKey.of(environment);
        } catch (IllegalArgumentException e) {
            throw arguments.wrong(e.getMessage());
        }
    }

    private static ArchiveKey given(Arguments arguments, Map<String, String> environment, Function<String, char[]> ask, boolean twice)
            throws IOException {
        boolean key = arguments.value(KEY) != null;
        boolean file = arguments.value(FILE) != null;
        boolean asks = arguments.flag(ASK);
        if (key && (file || asks) || file && asks) {
            throw arguments.wrong("--" + KEY + ", --" + FILE + " and --" + ASK + " exclude each other");
        }
        if (key) {
            return ArchiveKey.read(arguments.path(KEY));
        }
        if (file) {
            return ArchiveKey.readPassphrase(arguments.path(FILE));
        }
        if (!asks) {
            return null;
        }
        String known = environment.getOrDefault(ArchiveKey.PASSPHRASE, "");
        if (!known.isEmpty()) {
            return ArchiveKey.ofPassphrase(known);
        }
        char[] typed = ask.apply("Passphrase: ");
        if (typed == null) {
            throw arguments.wrong("there is no terminal to ask for the passphrase; use --" + FILE + ", or set " + ArchiveKey.PASSPHRASE);
        }
        if (typed.length == 0) {
            throw arguments.wrong("the passphrase is empty");
        }
        if (twice && !Arrays.equals(typed, ask.apply("The same again: "))) {
            throw arguments.wrong("the two passphrases differ");
        }
        return ArchiveKey.ofPassphrase(CharBuffer.wrap(typed));
    }

    private static char[] ask(String text) {
        java.io.Console terminal = System.console();
        return terminal == null || !terminal.isTerminal() ? null : terminal.readPassword("%s", text);
    }
}
