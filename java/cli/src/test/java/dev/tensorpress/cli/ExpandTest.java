package dev.tensorpress.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.cli.MainTest.Result;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** {@code compress --target sparse}, and back. */
class ExpandTest {
    @TempDir
    Path folder;

    private Path model;
    private Path side;
    private Path out;

    @BeforeEach
    void writeModel() throws IOException {
        model = SmallModel.write(folder.resolve("small.onnx"));
        side = folder.resolve("side.safetensors");
        out = folder.resolve("out.onnx");
    }

    private static Result run(Object... args) {
        return MainTest.run(args);
    }

    private void compress() {
        Result r = run("compress", model, "-o", side, "--recipe", "prune50", "--target", "sparse");
        assertEquals(0, r.code(), r.err());
    }

    @ParameterizedTest
    @ValueSource(strings = {"prune50", "sparse24", "prune50-int8", "int8"})
    void theModelComesBackBitForBit(String recipe) throws IOException {
        Path ordinary = folder.resolve("ordinary.onnx");
        assertEquals(0, run("compress", model, "-o", ordinary, "--recipe", recipe).code());
        Result r = run("compress", model, "-o", side, "--recipe", recipe, "--target", "sparse");
        assertEquals(0, r.code(), r.err());
        if (!recipe.equals("int8")) {
            assertTrue(Files.size(side) < Files.size(ordinary) * 0.75, Files.size(side) + " of " + Files.size(ordinary));
        }
        Result plan = run("plan", model, "--recipe", recipe, "--target", "sparse", "--json");
        long bound = Long.parseLong(plan.out().replaceAll("(?s)^.*?\"bytesAfter\" : (\\d+).*$", "$1"));
        assertTrue(bound >= Files.size(side) && bound < Files.size(side) + 1000, plan.out());
        r = run("expand", side, "-o", out, "--threads", 2);
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().contains(" bytes, " + (recipe.equals("int8") ? "0 weights" : "1 weight") + " restored"), r.out());
        assertArrayEquals(Files.readAllBytes(ordinary), Files.readAllBytes(out));
    }

    @Test
    void outputsAreLookedAtAsThoseOfCompress() throws IOException {
        compress();
        Files.writeString(out, "old");
        Result r = run("expand", side, "-o", out);
        assertEquals(5, r.code());
        assertTrue(r.line().contains("--force"), r.err());
        assertEquals("old", Files.readString(out));
        assertEquals(0, run("expand", side, "-o", out, "--force").code());
        assertTrue(Files.size(out) > 1000);
        assertEquals(2, run("expand", side, "-o", side, "--force").code());
        assertEquals(2, run("expand", side, "-o", folder, "--force").code());
        assertEquals(2, run("expand", side).code());
        assertEquals(5, run("expand", side, "-o", folder.resolve("none/out.onnx")).code());
        r = run("expand", folder.resolve("none"), "-o", out, "--force");
        assertEquals(5, r.code());
        assertTrue(r.line().endsWith("no such file: " + folder.resolve("none")), r.err());
    }

    @Test
    void damageIsNamedAndNothingIsWritten() throws IOException {
        compress();
        byte[] whole = Files.readAllBytes(side);
        int header = (int) ByteBuffer.wrap(whole).order(ByteOrder.LITTLE_ENDIAN).getLong(0);
        for (int at : new int[] {0, 9, header / 2, 8 + header, whole.length - 1}) {
            byte[] b = whole.clone();
            b[at] ^= 1;
            Files.write(side, b);
            Result r = run("expand", side, "-o", out);
            assertEquals(3, r.code(), r.err());
            assertTrue(r.line().matches("tensorpress: .*side.safetensors at byte \\d+: .*"), r.err());
            try (var files = Files.list(folder)) {
                assertEquals(List.of("side.safetensors", "small.onnx"),
                        files.map(f -> f.getFileName().toString()).sorted().toList());
            }
        }
        Files.write(side, java.util.Arrays.copyOf(whole, whole.length - 1));
        assertEquals(3, run("expand", side, "-o", out).code());
        assertEquals(3, run("expand", model, "-o", out).code());
    }

    @Test
    void otherFilesAreSaidToBeOther() throws IOException {
        compress();
        for (String command : List.of("inspect", "plan")) {
            Result r = run(command, side);
            assertEquals(4, r.code());
            assertTrue(r.line().contains("expanded first"), r.err());
        }
        Path other = folder.resolve("other.safetensors");
        ByteBuffer b = ByteBuffer.allocate(16).order(ByteOrder.LITTLE_ENDIAN).putLong(8).put("{}      ".getBytes());
        Files.write(other, b.array());
        Result r = run("expand", other, "-o", out);
        assertEquals(4, r.code());
        assertTrue(r.line().contains("not one of sparse weights"), r.err());
    }
}
