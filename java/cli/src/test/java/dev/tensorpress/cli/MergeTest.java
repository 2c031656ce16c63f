package dev.tensorpress.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.cli.MainTest.Result;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class MergeTest {
    @TempDir
    Path folder;

    private Path model;
    private Path out;

    @BeforeEach
    void write() throws IOException {
        model = SmallModel.write(folder.resolve("small.onnx"));
        out = folder.resolve("out.onnx");
    }

    private static Result run(Object... args) {
        return MainTest.run(args);
    }

    @Test
    void mergesAndSaysWhatItDid() throws IOException {
        Path report = folder.resolve("report.json");
        Result r = run("merge", model, model, model, "-o", out, "--weights", "1,2,0.5", "--report", report);
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().matches("(?s).*out.onnx: [\\d,]+ bytes, \\d+ weights? of 3 models merged by mean, of which \\d+ were alike.*"), r.out());
        assertTrue(Files.readString(report).contains("\"method\" : \"mean\""));
        assertArrayEquals(Files.readAllBytes(model), Files.readAllBytes(out));
        assertTrue(run("merge", model, model, "-o", out).err().contains("--force"));
        assertEquals(0, run("merge", model, model, "-o", out, "--force", "--method", "dare_ties", "--base", model, "--density", "0.5", "--seed", "-3").code());
        assertTrue(run("merge", model, model, "-o", folder.resolve("t.onnx"), "--base", model).out().contains("merged by task-arithmetic"));
        Path archive = folder.resolve("m.tpa");
        assertEquals(0, run("pack", model, "-o", archive).code());
        assertEquals(0, run("merge", archive, model, "-o", folder.resolve("a.onnx")).code());
        assertArrayEquals(Files.readAllBytes(model), Files.readAllBytes(folder.resolve("a.onnx")));
    }

    @Test
    void weightsCanStay() throws IOException {
        Result r = run("merge", model, model, "-o", out, "--exclude", "*");
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().matches("(?s).*, 0 weights of 2 models merged by mean, of which 0 were alike, [1-9]\\d* excluded.*"), r.out());
        assertArrayEquals(Files.readAllBytes(model), Files.readAllBytes(out));
        Path a = SmallModel.writeSafetensors(folder.resolve("a.safetensors"));
        assertEquals(0, run("merge", a, a, "-o", folder.resolve("merged"), "--resume").code());
    }

    @Test
    void wrongOptionsAreRefused() throws IOException {
        Object[][] usage = {{}, {"--weights", "1,x"}, {"--weights", "1,-1"}, {"--method", "soup"}, {"--density", "0.5"}, {"--scale", "2"}, {"--seed", "1"},
            {"--method", "ties", "--base", model, "--density", "0"}, {"--method", "ties", "--base", model, "--density", "1.1"},
            {"--method", "ties", "--base", model, "--seed", "1"}, {"--method", "dare-linear", "--base", model, "--seed", "1.5"}, {"--shard-size", "1GB"}, {"--resume"}, {"--exclude", "nothing*"}};
        for (Object[] more : usage) {
            Object[] args = new Object[more.length + (more.length == 0 ? 2 : 5)];
            Object[] first = more.length == 0 ? new Object[] {"merge", model} : new Object[] {"merge", model, model, "-o", out};
            System.arraycopy(first, 0, args, 0, first.length);
            System.arraycopy(more, 0, args, first.length, more.length);
            Result r = run(args);
            assertEquals(Main.USAGE, r.code(), Arrays.toString(more) + r.err());
        }
        assertEquals(Main.UNSUPPORTED, run("merge", model, model, "-o", out, "--method", "ties").code());
        assertEquals(Main.UNSUPPORTED, run("merge", model, model, "-o", out, "--weights", "1,2,3").code());
        assertEquals(Main.USAGE, run("merge", model, model, "-o", model, "--force").code());
        assertEquals(Main.IO, run("merge", model, folder.resolve("none"), "-o", out).code());
        Result r = run("merge", model, SmallModel.writeSafetensors(folder.resolve("m.safetensors")), "-o", out);
        assertEquals(Main.UNSUPPORTED, r.code());
        assertTrue(r.err().contains("in safetensors") && r.err().contains("in ONNX"), r.err());
        assertTrue(Files.notExists(out));
    }
}
