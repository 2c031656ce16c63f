package dev.tensorpress.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;

class ConsoleTest {
    private final ByteArrayOutputStream err = new ByteArrayOutputStream();
    private long millis;

    private Console console(boolean terminal) {
        PrintStream stream = new PrintStream(err, true, StandardCharsets.UTF_8);
        return new Console(stream, stream, () -> terminal, () -> millis * 1_000_000);
    }

    private String said() {
        String text = err.toString(StandardCharsets.UTF_8);
        err.reset();
        return text;
    }

    @Test
    void oneChangingLineOnATerminal() {
        Console console = console(true);
        console.progress("compressing", 0, 40, "a.weight");
        assertEquals("", said());
        millis = 350;
        console.progress("compressing", 1, 40, "long.weight");
        assertEquals("\rcompressing 1/40 long.weight", said());
        millis = 400;
        console.progress("compressing", 2, 40, "b");
        assertEquals("", said());
        millis = 460;
        console.progress("compressing", 3, 40, "b");
        assertEquals("\rcompressing 3/40 b          ", said());
        millis = 600;
        console.progress("compressing", 4, 40, "x".repeat(500));
        assertTrue(said().length() <= 80);
        console.clearProgress();
        assertTrue(said().endsWith("\r"));
        console.clearProgress();
        assertEquals("", said());
    }

    @Test
    void plainLinesElsewhereAndOnlyForLongWork() {
        Console console = console(false);
        millis = 4000;
        console.progress("running", 1, 9, "");
        assertEquals("", said());
        millis = 5000;
        console.progress("running", 2, 9, "");
        assertEquals("running 2/9" + System.lineSeparator(), said());
        millis = 9000;
        console.progress("running", 3, 9, "");
        assertEquals("", said());
        console.clearProgress();
        assertEquals("", said());
    }
}
