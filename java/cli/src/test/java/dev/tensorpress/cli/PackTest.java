package dev.tensorpress.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.cli.MainTest.Result;
import dev.tensorpress.io.DurableFile;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code pack}, and {@code expand} of what it made. */
class PackTest {
    @TempDir
    Path folder;

    private Path model;
    private Path archive;
    private Path out;

    @BeforeEach
    void writeModel() throws IOException {
        model = SmallModel.write(folder.resolve("small.onnx"));
        archive = folder.resolve("small.tpa");
        out = folder.resolve("out.onnx");
    }

    private static Result run(Object... args) {
        return MainTest.run(args);
    }

    private static void works(Object... args) {
        Result r = run(args);
        assertEquals(0, r.code(), r.err());
    }

    private static void isUsage(String why, Object... args) {
        Result r = run(args);
        assertEquals(2, r.code(), r.err());
        assertTrue(r.err().contains(why), r.err());
    }

    /** Names of what is in the folder, to see that nothing else is left there. */
    private List<String> there() throws IOException {
        try (Stream<Path> all = Files.list(folder)) {
            return all.map(p -> p.getFileName().toString()).sorted().toList();
        }
    }

    @Test
    void theModelComesBackBitForBit() throws IOException {
        Path report = folder.resolve("report.json");
        works("pack", model, "-o", archive, "--lossless", "--report", report);
        assertTrue(Files.size(archive) < Files.size(model));
        String json = Files.readString(report);
        assertTrue(json.contains("\"coding\" : \"f32\"") && json.contains("\"part\" : \"exponents\""), json);
        works("expand", archive, "-o", out);
        assertEquals(-1, Files.mismatch(model, out));
        assertEquals(List.of("out.onnx", "report.json", "small.onnx", "small.tpa"), there());
    }

    @Test
    void aRecipeCompressesFirst() throws IOException {
        works("pack", model, "-o", archive, "--recipe", "archive8");
        works("expand", archive, "-o", out);
        Path ordinary = folder.resolve("ordinary.onnx");
        works("compress", model, "-o", ordinary, "--recipe", "archive8");
        assertEquals(-1, Files.mismatch(ordinary, out));
        assertTrue(Files.size(archive) < Files.size(ordinary));
        assertEquals(List.of("ordinary.onnx", "out.onnx", "small.onnx", "small.tpa"), there());
        isUsage("--recipe", "pack", model, "-o", archive, "--force", "--set", "block=32");
        // Before anything is read or expanded.
        isUsage("--set is for packing by a --recipe", "pack", model, "-o", archive, "--force", "--set", "block=32", "--base", folder.resolve("none"));
        isUsage("exclude each other", "pack", model, "-o", archive, "--force", "--lossless", "--recipe", "archive8");
    }

    /** What weights are decoded from is stored, and files are what {@code compress} writes. */
    @Test
    void weightsThatAreWrittenDecodedAreStoredAsTheyWere() throws IOException {
        Path report = folder.resolve("report.json");
        Path ordinary = folder.resolve("ordinary.onnx");
        for (String[] step : new String[][] {{"transform: {}", "dct 8x8 in int8"}, {"hash: {ratio: 16}", "hashed to 2048 f16 values"}}) {
            Path recipe = Files.writeString(folder.resolve("r.yaml"), "name: r\nsteps:\n  - " + step[0] + "\n");
            Result r = run("pack", model, "-o", archive, "--recipe", recipe, "--report", report, "--force");
            assertEquals(0, r.code(), r.err());
            assertTrue(r.out().contains("with 1 array, 1 of them as encodings, in"), r.out());
            assertTrue(Files.readString(report).contains("\"coding\" : \"encoding: " + step[1] + "\""), Files.readString(report));
            assertTrue(Files.size(archive) < Files.size(model) / 6);
            works("expand", archive, "-o", out, "--force");
            works("compress", model, "-o", ordinary, "--recipe", recipe, "--force");
            assertEquals(-1, Files.mismatch(ordinary, out));
            works("compress", archive, "-o", out, "--recipe", "int8", "--force");
            assertEquals(List.of("ordinary.onnx", "out.onnx", "r.yaml", "report.json", "small.onnx", "small.tpa"), there());
        }
    }

    /** What a killed process left of a model beside its archive. */
    @Test
    void temporaryFoldersAreNotPacked() throws IOException {
        Path all = Files.createDirectory(folder.resolve("all"));
        Files.copy(model, all.resolve("small.onnx"));
        Path left = DurableFile.temporaryFolder(all, "small.tpa");
        Files.copy(model, left.resolve("plain.onnx"));
        works("pack", all, "-o", archive);
        works("expand", archive, "-o", folder.resolve("back"));
        try (Stream<Path> back = Files.walk(folder.resolve("back"))) {
            assertEquals(List.of("small.onnx"), back.filter(Files::isRegularFile).map(p -> p.getFileName().toString()).toList());
        }
    }

    @Test
    void commandsTakeAnArchiveForAModel() throws IOException {
        works("pack", model, "-o", archive);
        assertEquals(run("inspect", model, "--json").out().replace(model.toString(), ""),
                run("inspect", archive, "--json").out().replaceAll("\"[^\"]*tensorpress-[^\"]*\"", "\"\""));
        works("compress", archive, "-o", out, "--recipe", "int8");
        Path ordinary = folder.resolve("ordinary.onnx");
        works("compress", model, "-o", ordinary, "--recipe", "int8");
        assertEquals(-1, Files.mismatch(ordinary, out));
    }

    @Test
    void whatChangedIsStoredAlone() throws IOException {
        Path next = folder.resolve("next.onnx");
        byte[] bytes = Files.readAllBytes(model);
        bytes[bytes.length / 2] ^= 1;
        Files.write(next, bytes);
        Path old = folder.resolve("old.tpa");
        works("pack", model, "-o", old);
        works("pack", next, "-o", archive, "--base", old);
        assertTrue(Files.size(archive) < Files.size(old) / 2, Files.size(archive) + " of " + Files.size(old));
        assertEquals(4, run("expand", archive, "-o", out).code());
        assertEquals(4, run("expand", archive, "-o", out, "--base", next).code());
        assertFalse(Files.exists(out));
        works("expand", archive, "-o", out, "--base", model);
        assertEquals(-1, Files.mismatch(next, out));
        works("expand", archive, "-o", out, "--base", old, "--force");
        assertEquals(-1, Files.mismatch(next, out));
    }

    @Test
    void whatCannotBeIsSaid() throws IOException {
        isUsage("missing -o", "pack", model);
        isUsage("is read, or written", "pack", model, "-o", model, "--force");
        works("pack", model, "-o", archive);
        assertEquals(5, run("pack", model, "-o", archive).code());
        works("pack", model, "-o", archive, "--force");
        isUsage("--shard-size", "expand", archive, "-o", out, "--shard-size", "1GB");
        isUsage("--resume", "expand", archive, "-o", out, "--resume");
        byte[] bytes = Files.readAllBytes(archive);
        bytes[bytes.length / 2] ^= 1;
        Files.write(archive, bytes);
        Result r = run("expand", archive, "-o", out);
        assertEquals(3, r.code(), r.err());
        assertTrue(r.err().contains("small.tpa at byte"), r.err());
        assertFalse(Files.exists(out));
        assertEquals(5, run("pack", folder.resolve("none"), "-o", out).code());
    }
}
