package dev.tensorpress.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** No file that a command reads or writes is replaced by another one of its outputs, by whichever name; nor is what is none read. */
final class ProtectedFilesTest {
    @TempDir
    Path folder;
    private Path model;
    private Path out;

    @BeforeEach
    void writeModel() throws IOException {
        model = SmallModel.write(folder.resolve("m.onnx"));
        out = folder.resolve("o.onnx");
    }

    private void assertWrong(String message, Object... args) {
        MainTest.Result r = MainTest.run(args);
        assertEquals(Main.USAGE, r.code(), r.err());
        assertTrue(r.line().contains(message), r.err());
    }

    @Test
    void aReportIsNotTheModelByAnotherName() throws IOException {
        Path around = Files.createSymbolicLink(folder.resolve("around"), folder);
        Path link = Files.createSymbolicLink(folder.resolve("r.json"), Path.of("o.onnx"));
        assertWrong("is read, or written,", "compress", model, "-o", out, "--report", around.resolve("o.onnx"));
        assertWrong("is read, or written,", "compress", model, "-o", around.resolve("o.onnx"), "--report", out);
        assertWrong("is read, or written,", "compress", model, "-o", out, "--report", link, "--force");
        assertFalse(Files.exists(out));
        assertWrong("is a link to nothing", "compress", model, "-o", Files.createSymbolicLink(folder.resolve("d.onnx"), Path.of("none")));
    }

    @Test
    void recipesAndInputsStay() throws IOException {
        Path recipe = Files.writeString(folder.resolve("r.yaml"), "steps:\n- quantize: {bits: 8}\n");
        assertWrong("is read, or written,", "compress", model, "-o", recipe, "--recipe", recipe, "--force");
        assertWrong("is read, or written,", "compress", model, "-o", out, "--recipe", recipe, "--report", recipe, "--force");
        Path texts = Files.writeString(folder.resolve("t.txt"), "text\n");
        assertWrong("is read, or written,", "evaluate", model, model, "--texts", texts, "--tokenizer", recipe, "--report", texts, "--force");
        assertWrong("is read, or written,", "evaluate", model, model, "--inputs", texts, "--report", texts, "--force");
        assertEquals("text\n", Files.readString(texts));
        assertFalse(Files.exists(out));
    }

    @Test
    void recipesAreFilesOfText() throws Exception {
        Path recipe = folder.resolve("f.yaml");
        assertEquals(0, new ProcessBuilder("mkfifo", recipe.toString()).start().waitFor());
        assertWrong("f.yaml: expected a recipe, this is not a regular file", "plan", model, "--recipe", recipe);
        Path zero = Files.createSymbolicLink(folder.resolve("z.yaml"), Path.of("/dev/zero"));
        assertWrong("z.yaml: expected a recipe", "plan", model, "--recipe", zero);
        assertWrong("d.yaml: expected a recipe", "plan", model, "--recipe", Files.createDirectory(folder.resolve("d.yaml")));
        Path large = folder.resolve("l.yaml");
        try (RandomAccessFile file = new RandomAccessFile(large.toFile(), "rw")) {
            file.setLength(3L << 30);
        }
        assertWrong("l.yaml: more than 1048576 bytes", "plan", model, "--recipe", large);
        Path bytes = Files.write(folder.resolve("b.yaml"), new byte[] {(byte) 0xff, (byte) 0xfe});
        assertWrong("b.yaml: not UTF-8 text", "plan", model, "--recipe", bytes);
        Path options = Files.writeString(folder.resolve("p.yaml"), "options:\n  shard-size: 0\nsteps:\n- quantize: {bits: 8}\n");
        assertWrong("p.yaml:2: shard-size must be at least 1", "plan", model, "--recipe", options);
    }
}
