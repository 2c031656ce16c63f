package dev.tensorpress.cli;

import static dev.tensorpress.cli.MainTest.run;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import dev.tensorpress.cli.MainTest.Result;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Names and values in files come from anyone: a terminal must not obey them, nor drown in them. */
class HostileTextTest {
    /** Clears the screen; an escape of one character; turns text around; backspaces; a line of its own. */
    private static final String EVIL = "\u001b[2J\u009b31m\u202e\b\u007f\r\n\u2028";

    @TempDir
    Path folder;

    private static String quoted(String s) {
        StringBuilder json = new StringBuilder("\"");
        for (char c : s.toCharArray()) {
            json.append(c < ' ' ? "\\u%04x".formatted((int) c) : Character.toString(c));
        }
        return json.append('"').toString();
    }

    private Path write(Path to, String... names) throws IOException {
        StringBuilder json = new StringBuilder("{\"__metadata__\":{" + quoted("k" + EVIL) + ":" + quoted("v" + EVIL) + "}");
        int at = 0;
        for (String name : names) {
            json.append(',').append(quoted(name)).append(":{\"dtype\":\"F32\",\"shape\":[64,64],\"data_offsets\":[" + at + ","
                    + (at += 16384) + "]}");
        }
        byte[] header = json.append('}').toString().getBytes(StandardCharsets.UTF_8);
        Files.write(to, ByteBuffer.allocate(8 + header.length + at).order(ByteOrder.LITTLE_ENDIAN).putLong(header.length).put(header)
                .array());
        return to;
    }

    private static void assertPlain(Result r) {
        for (String text : List.of(r.out(), r.err())) {
            for (String line : text.split("\n")) {
                assertTrue(line.length() < 4100, line.length() + " characters");
                for (char c : line.toCharArray()) {
                    boolean plain = c == '\t' || !Character.isISOControl(c) && c != '\u202e' && c != '\u2028';
                    assertTrue(plain, () -> "%x in ".formatted((int) c) + line);
                }
            }
            assertTrue(text.length() < 100_000, text.length() + " characters");
        }
    }

    @Test
    void nothingOfItReachesTheTerminal() throws IOException {
        String huge = "x".repeat(100_000);
        Path model = Files.createDirectory(folder.resolve("model"));
        String[] names = {"a" + EVIL + ".up_proj.weight", huge + ".up_proj.weight", huge + EVIL + ".norm.weight", "b.up_proj.weight"};
        write(model.resolve("model.safetensors"), names);
        Files.writeString(model.resolve("config.json"), "{\"architectures\":[" + quoted(EVIL + huge) + "],\"model_type\":" + quoted(EVIL)
                + "}");
        Files.writeString(model.resolve("a\u001b[2Jb.txt"), "");
        Path out = folder.resolve("out");
        for (Object[] command : new Object[][] {{"inspect", model}, {"inspect", model, "--all"}, {"plan", model},
            {"plan", model, "--all", "--set", "min-size=1"}, {"compress", model, "-o", out}, {"inspect", out}, {"expand", out, "-o",
                folder.resolve("back")}}) {
            Result r = run(command);
            assertEquals(0, r.code(), r.err());
            assertPlain(r);
        }
        for (String name : List.of(names[0], names[1], "c")) {
            Path twice = write(folder.resolve("twice.safetensors"), name, name);
            Result r = run("inspect", twice, "--stacktrace");
            assertEquals(Main.MALFORMED, r.code());
            assertTrue(r.err().contains("is there twice"), "the end says what is wrong");
            assertPlain(r);
        }
        Result r = run("inspect", model, "--role", "a" + EVIL + huge);
        assertEquals(Main.USAGE, r.code());
        assertPlain(r);
    }

    /** Data are not changed: they are escaped. */
    @Test
    void jsonHasTheNamesAsTheyAre() throws IOException {
        String[] names = {"a" + EVIL + ".weight", "x".repeat(100_000), "\u00fc\u540d"};
        Path model = write(folder.resolve("m.safetensors"), names);
        Result r = run("inspect", model, "--json");
        assertEquals(0, r.code(), r.err());
        for (char c : r.out().toCharArray()) {
            assertFalse(c != '\n' && Character.isISOControl(c) || c == '\u202e' || c == '\u2028', () -> "%x".formatted((int) c));
        }
        Set<String> found = new HashSet<>();
        try (JsonParser json = new JsonFactory().createParser(r.out())) {
            for (JsonToken t; (t = json.nextToken()) != null;) {
                if (t == JsonToken.VALUE_STRING) {
                    found.add(json.getText());
                }
            }
        }
        assertTrue(found.containsAll(List.of(names)));
        assertTrue(r.out().contains(names[2]), "letters stay letters");
    }

    @Test
    void textsAreCutInTheirMiddle() {
        assertEquals("a\ufffdb", Text.printable("a\u001bb"));
        assertEquals("x".repeat(200), Text.printable("x".repeat(200)));
        String cut = Text.printable("s".repeat(5000) + "end");
        assertTrue(cut.startsWith("sss") && cut.endsWith("send") && cut.contains(" 4,853 characters "), cut);
        assertEquals("a\tb\nc\ufffd\n", Text.plain("a\tb\nc\u009b\n"));
        assertEquals("\n\n", Text.plain("\n\n"));
        assertTrue(Text.plain("y\n" + "x".repeat(100_000) + "\nz").matches("y\nx+ \\.\\.\\. [0-9,]+ characters \\.\\.\\. x+\nz"));
    }
}
