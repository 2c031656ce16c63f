package dev.tensorpress.cli;

import dev.tensorpress.model.archive.ArchiveKey;
import dev.tensorpress.model.archive.VerifyingKey;
import java.io.IOException;
import java.nio.CharBuffer;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.function.Function;

/** The secret of an encrypted archive, which is never on the command line, since others see that, and whose signature it has. */
final class KeyOptions {
    private static final String KEY = "key";
    private static final String ASK = "passphrase";
    private static final String FILE = "passphrase-file";
    private static final String SIGNED_BY = "signed-by";
    private static final String BASE_KEY = "base-key";

    private KeyOptions() {}

    static Syntax declare(Syntax syntax) {
        return syntax
                .option(KEY, "FILE", "the key of an encrypted archive, a file of keygen")
                .flag(ASK, "an archive is encrypted with a passphrase, which is that of the environment variable " + ArchiveKey.PASSPHRASE
                        + ", or else is asked for")
                .option(FILE, "FILE", "an archive is encrypted with a passphrase, the first line of this file");
    }

    /** {@code --signed-by}, which {@link #signer} reads. */
    static Syntax declareSigner(Syntax syntax) {
        return syntax.option(SIGNED_BY, "PUB.pem", "the public key of who has to have signed the archive; any other one is refused, and what is no archive");
    }

    /** {@code --base} and its key. */
    static Syntax declareBase(Syntax syntax, String help) {
        return syntax.option("base", "OLD", help).option(BASE_KEY, "FILE", "the key of OLD, if that is an encrypted archive");
    }

    /** The key of the base; null if no option says which, when the environment may have it. */
    static ArchiveKey ofBase(Arguments arguments) throws IOException {
        if (arguments.value(BASE_KEY) != null && arguments.value("base") == null) {
            throw arguments.wrong("--" + BASE_KEY + " is for a --base");
        }
        return arguments.value(BASE_KEY) == null ? null : ArchiveKey.read(arguments.path(BASE_KEY));
    }

    /** Who has to have signed an archive; null if nobody has to. */
    static VerifyingKey signer(Arguments arguments) throws IOException {
        return arguments.value(SIGNED_BY) == null ? null : VerifyingKey.read(arguments.path(SIGNED_BY));
    }

    /**
     * Refuses options about archives for what is none.
     *
     * @throws UsageException if there is one
     */
    static void refuse(Arguments arguments) {
        for (String option : List.of(KEY, ASK, FILE, SIGNED_BY)) {
            if (arguments.flag(option)) {
                throw arguments.wrong(arguments.text(0) + " is no archive, so it is neither encrypted nor signed, and --" + option + " was given");
            }
        }
    }

    /** What a new archive is encrypted with; null if no option says that it is. */
    static ArchiveKey toSeal(Arguments arguments) throws IOException {
        return given(arguments, System.getenv(), KeyOptions::ask, true);
    }

    /** What an archive that is read is encrypted with; null if no option says that it is, when the environment may have the key. */
    static ArchiveKey toOpen(Arguments arguments) throws IOException {
        return given(arguments, System.getenv(), KeyOptions::ask, false);
    }

    /**
     * By the options.
     *
     * @param ask shows a text and returns what is typed; null if there is nobody to ask
     * @param twice whether it is asked for twice
     */
    static ArchiveKey given(Arguments arguments, Map<String, String> environment, Function<String, char[]> ask, boolean twice)
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
