package dev.tensorpress.cli;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.function.BooleanSupplier;
import java.util.function.LongSupplier;
import java.util.function.Supplier;

/**
 * Where a command writes: results to {@code out}, progress of long work to {@code err}. On a terminal progress is one
 * line that changes; elsewhere a plain line now and then. Work that is short shows none; work on many bytes shows some within a
 * second, and from then on also while nothing is reported.
 */
final class Console {
    private static final long FIRST_NANOS = 300_000_000L;
    private static final long TERMINAL_NANOS = 100_000_000L;
    private static final long PLAIN_NANOS = 5_000_000_000L;
    /** Bytes that are work enough for a plain line long before {@link #PLAIN_NANOS}. */
    private static final long MANY = 100_000_000;
    private static final int WIDTH = 79;
    /** Before that, the first bytes say little about how long the others take. */
    private static final int GUESS_SECONDS = 5;

    private final PrintStream out;
    private final PrintStream err;
    private final BooleanSupplier isTerminal;
    private final LongSupplier clock;
    private final long start;
    private Boolean terminal;
    private long next;
    /** Where elsewhere than on a terminal the first line comes. */
    private long firstPlain = PLAIN_NANOS;
    private int shown;
    private Supplier<String> advice = () -> null;

    // What is being done to how many bytes, until progress is cleared.
    private Thread ticker;
    private String doing;
    /** When the first of them were done, and how many: those of an interrupted run are done at once. */
    private long begun;
    private long base;
    private long reached;
    private long total;
    private String what;

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

    /** Results. */
    PrintStream out() {
        return new PlainStream(out);
    }

    /** Why the command ended. */
    PrintStream err() {
        return new PlainStream(err);
    }

    /** {@code done} of {@code total} things are done; {@code what} names the one at hand. */
    synchronized void progress(String doing, long done, long total, String what) {
        if (due()) {
            show(doing + " " + done + "/" + total + (what.isEmpty() ? "" : " " + what));
        }
    }

    /** Work begins on this many bytes; {@link #reached} tells how it goes on, {@link #clearProgress} that it is over. */
    synchronized void begin(String doing, long total) {
        this.doing = doing;
        this.total = total;
        reached = 0;
        base = -1;
        what = "";
        if (total >= MANY) {
            firstPlain = FIRST_NANOS;
            next = Math.min(next, Math.max(firstPlain, clock.getAsLong() - start));
            ticker = Thread.ofPlatform().daemon().name("tensorpress-progress").start(this::run);
        }
    }

    /** So many of the bytes are done; {@code what} names what is at hand. */
    synchronized void reached(long bytes, String what) {
        if (base < 0) {
            base = bytes;
            begun = clock.getAsLong() - start;
        }
        reached = bytes;
        this.what = what;
        tick();
    }

    /** Shows how far the bytes are, if it is time for that. */
    synchronized void tick() {
        if (doing == null || !due()) {
            return;
        }
        StringBuilder line = new StringBuilder(doing).append(' ').append(Text.size(reached)).append(" of ").append(Text.size(total));
        if (total > 0) {
            line.append(", ").append((long) (100.0 * reached / total)).append(" %");
        }
        double seconds = (clock.getAsLong() - start - begun) * 1e-9;
        if (base >= 0 && reached > base && seconds > 0) {
            double rate = (reached - base) / seconds;
            line.append(", ").append(Text.size((long) rate)).append("/s");
            if (seconds >= GUESS_SECONDS && reached < total) {
                line.append(", ").append(left(Math.max(1, Math.round((total - reached) / rate))));
            }
        }
        show(line.append(what.isEmpty() ? "" : ": ").append(what).toString());
    }

    private static String left(long seconds) {
        long minutes = Math.ceilDiv(seconds, 60);
        return (seconds < 100 ? seconds + " s" : minutes < 100 ? minutes + " min" : minutes / 60 + " h " + minutes % 60 + " min") + " left";
    }

    private void run() {
        try {
            while (true) {
                Thread.sleep(TERMINAL_NANOS / 1_000_000);
                tick();
            }
        } catch (InterruptedException e) {
            // The work is over.
        }
    }

    private boolean due() {
        long now = clock.getAsLong() - start;
        if (now < next) {
            return false;
        }
        // Asked only here, since most work is over before.
        if (terminal == null) {
            terminal = isTerminal.getAsBoolean();
        }
        if (!terminal && now < firstPlain) {
            next = firstPlain;
            return false;
        }
        next = now + (terminal ? TERMINAL_NANOS : PLAIN_NANOS);
        return true;
    }

    private void show(String text) {
        String line = Text.printable(text); // not by a plain stream: it begins with a return
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
    synchronized void clearProgress() {
        doing = null;
        if (ticker != null) {
            ticker.interrupt();
            ticker = null;
        }
        if (shown > 0) {
            err.print("\r" + " ".repeat(shown) + "\r");
            err.flush();
            shown = 0;
        }
    }

    /** What to say beside an error from here on, asked when there is one; null if there is nothing to say. */
    void advise(Supplier<String> advice) {
        this.advice = advice;
    }

    String advice() {
        return advice.get();
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
