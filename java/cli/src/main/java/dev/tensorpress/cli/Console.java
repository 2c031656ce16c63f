package dev.tensorpress.cli;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.function.BooleanSupplier;
import java.util.function.LongSupplier;

/**
 * Where a command writes: results to {@code out}, progress of long work to {@code err}. On a terminal progress is one
 * line that changes; elsewhere a plain line now and then. Work that is short shows none.
 */
final class Console {
    private static final long FIRST_NANOS = 300_000_000L;
    private static final long TERMINAL_NANOS = 100_000_000L;
    private static final long PLAIN_NANOS = 5_000_000_000L;
    private static final int WIDTH = 79;

    private final PrintStream out;
    private final PrintStream err;
    private final BooleanSupplier isTerminal;
    private final LongSupplier clock;
    private final long start;
    private Boolean terminal;
    private long next;
    private int shown;

    Console(PrintStream out, PrintStream err) {
        this(out, err, () -> err == System.err && errIsTerminal(), System::nanoTime);
    }

    Console(PrintStream out, PrintStream err, BooleanSupplier isTerminal, LongSupplier clock) {
        this.out = out;
        this.err = err;
        this.isTerminal = isTerminal;
        this.clock = clock;
        this.start = clock.getAsLong();
        this.next = FIRST_NANOS;
    }

    PrintStream out() {
        return out;
    }

    /** {@code done} of {@code total} things are done; {@code what} names the one at hand. */
    void progress(String doing, int done, int total, String what) {
        long now = clock.getAsLong() - start;
        if (now < next) {
            return;
        }
        // Asked only here, since most work is over before.
        if (terminal == null) {
            terminal = isTerminal.getAsBoolean();
            if (!terminal) {
                next = PLAIN_NANOS;
                return;
            }
        }
        next = now + (terminal ? TERMINAL_NANOS : PLAIN_NANOS);
        String line = doing + " " + done + "/" + total + (what.isEmpty() ? "" : " " + what);
        if (!terminal) {
            err.println(line);
            return;
        }
        line = line.length() > WIDTH ? line.substring(0, WIDTH) : line;
        err.print("\r" + Text.left(line, shown));
        err.flush();
        shown = line.length();
    }

    /** Takes the line of progress away. */
    void clearProgress() {
        if (shown > 0) {
            err.print("\r" + " ".repeat(shown) + "\r");
            err.flush();
            shown = 0;
        }
    }

    /** {@code System.console()} tells of standard input and output, and progress goes to neither. */
    private static boolean errIsTerminal() {
        if ("dumb".equals(System.getenv("TERM"))) {
            return false;
        }
        try {
            String file = Files.readSymbolicLink(Path.of("/proc/self/fd/2")).toString();
            return file.startsWith("/dev/pts/") || file.startsWith("/dev/tty") || file.equals("/dev/console");
        } catch (IOException | UnsupportedOperationException e) {
            java.io.Console console = System.console();
            return console != null && console.isTerminal();
        }
    }
}
