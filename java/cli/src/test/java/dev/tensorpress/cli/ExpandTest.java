package dev.tensorpress.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.cli.MainTest.Result;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What {@code expand} says of its arguments. */
class ExpandTest {
    @TempDir
    Path folder;

    private Path model;
    private Path archive;
    private Path out;

    @BeforeEach
    void pack() throws IOException {
        model = SmallModel.write(folder.resolve("small.onnx"));
        archive = folder.resolve("small.tpa");
        out = folder.resolve("out.onnx");
        assertEquals(0, run("pack", model, "-o", archive).code());
    }

    private static Result run(Object... args) {
        return MainTest.run(args);
    }

    @Test
    void outputsAreLookedAtAsThoseOfCompress() throws IOException {
        Files.writeString(out, "old");
        Result r = run("expand", archive, "-o", out);
        assertEquals(Main.IO, r.code());
        assertTrue(r.line().contains("--force"), r.err());
        assertEquals("old", Files.readString(out));
        assertEquals(0, run("expand", archive, "-o", out, "--force").code());
        assertArrayEquals(Files.readAllBytes(model), Files.readAllBytes(out));
        assertEquals(Main.USAGE, run("expand", archive, "-o", archive, "--force").code());
        assertEquals(Main.USAGE, run("expand", archive, "-o", folder, "--force").code());
        assertEquals(Main.USAGE, run("expand", archive).code());
        assertEquals(Main.IO, run("expand", archive, "-o", folder.resolve("none/out.onnx")).code());
        r = run("expand", folder.resolve("none"), "-o", out, "--force");
        assertEquals(Main.IO, r.code());
        assertEquals("tensorpress: no such file: " + folder.resolve("none"), r.line());
    }

    @Test
    void otherFilesAreSaidToBeOther() {
        Result r = run("expand", model, "-o", out);
        assertEquals(Main.UNSUPPORTED, r.code());
        assertTrue(r.line().contains("small.onnx is neither an archive nor a folder of compressed-tensors"), r.err());
    }
}
