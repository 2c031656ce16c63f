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

    /** Long work on many bytes shows a line within a second, and goes on to, whether it says anything or not. */
    @Test
    void manyBytesAreShownSoon() {
        Console console = console(false);
        console.begin("compressing", 12L << 30);
        console.reached(0, "a");
        millis = 290;
        console.tick();
        assertEquals("", said());
        millis = 310;
        console.tick();
        assertEquals("compressing 0 bytes of 12.0 GiB, 0 %: a" + System.lineSeparator(), said());
        millis = 5000;
        console.reached(3L << 30, "b\u001b[2J");
        assertEquals("", said());
        millis = 6000;
        console.tick();
        assertEquals("compressing 3.0 GiB of 12.0 GiB, 25 %, 512.0 MiB/s, 18 s left: b\ufffd[2J" + System.lineSeparator(), said());
        console.clearProgress();
        millis = 20_000;
        console.tick();
        assertEquals("", said());
    }

    /** How long it takes is guessed once there is something to guess from, of what this run did. */
    @Test
    void timeLeftIsGuessedAfterSomeSeconds() {
        Console console = console(true);
        console.begin("compressing", 1000 << 20);
        console.reached(500 << 20, "a"); // of an interrupted run
        Object[][] steps = {{4900, 1 << 20, "50 %, 209.0 KiB/s: a"}, {6000, 100 << 10, "16.7 KiB/s, 8 h 32 min left: a"},
            {10_000, 1 << 20, "50 %, 102.4 KiB/s, 84 min left: a"}, {20_000, 10 << 20, "51 %, 512.0 KiB/s, 17 min left: a"},
            {30_000, 200 << 20, "70 %, 6.7 MiB/s, 45 s left: a"}, {40_000, 499 << 20, "99 %, 12.5 MiB/s, 1 s left: a"},
            {50_000, 500 << 20, "100 %, 10.0 MiB/s: a"}};
        for (Object[] step : steps) {
            millis = (int) step[0];
            console.reached((500 << 20) + (int) step[1], "a");
            String line = said();
            assertTrue(line.strip().endsWith((String) step[2]), line);
        }
        console.clearProgress();
    }

    @Test
    void fewBytesAreNot() {
        Console console = console(false);
        console.begin("expanding", 1000);
        millis = 4000;
        console.reached(10, "a");
        assertEquals("", said());
        millis = 5000;
        console.reached(500, "a");
        assertEquals("expanding 500 bytes of 1000 bytes, 50 %, 490 bytes/s: a" + System.lineSeparator(), said());
        console.clearProgress();
    }

    /** Nothing but time makes lines appear. */
    @Test
    void aThreadKeepsWatch() throws InterruptedException {
        PrintStream stream = new PrintStream(err, true, StandardCharsets.UTF_8);
        Console console = new Console(stream, stream, () -> false, System::nanoTime);
        console.begin("compressing", 1L << 40);
        for (int i = 0; i < 1000 && err.size() == 0; i++) {
            Thread.sleep(10);
        }
        console.clearProgress();
        assertEquals("compressing 0 bytes of 1.0 TiB, 0 %" + System.lineSeparator(), said());
    }
}
