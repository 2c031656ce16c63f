package dev.tensorpress.cli;

import static dev.tensorpress.cli.JsonTree.list;
import static dev.tensorpress.cli.JsonTree.object;
import static dev.tensorpress.cli.JsonTree.parse;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.cli.MainTest.Result;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ProfileTest {
    private static final int N = SmallModel.N;

    @TempDir
    Path folder;

    private Path model;
    private Path temp;

    @BeforeEach
    void writeModel() throws IOException {
        model = SmallModel.write(folder.resolve("small.onnx"));
        temp = Files.createDirectory(folder.resolve("temp"));
    }

    private static Set<String> names(Path folder) throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            return new TreeSet<>(files.map(f -> f.getFileName().toString()).toList());
        }
    }

    private Map<String, Object> profile(Object... more) throws IOException {
        List<Object> command = new ArrayList<>(List.of("profile", "--json", "--temp", temp));
        command.addAll(List.of(more));
        Result r = MainTest.run(command.toArray());
        assertEquals(0, r.code(), r.err());
        assertEquals(Set.of(), names(temp));
        return parse(r.out());
    }

    private static Map<String, Object> named(String field, String name, Object all) {
        return list(all).stream().map(JsonTree::object).filter(o -> o.get(field).equals(name)).findFirst().orElseThrow();
    }

    /** What one weight's calls are, by its shape alone. */
    @Test
    void callsAndBytesOfAKnownModel() throws IOException {
        Map<String, Object> p = profile(model, "--recipe", "int8", "--threads", "1");
        assertEquals(Set.of("recipe", "target", "device", "threads", "tier", "seconds", "bytesBefore", "bytesAfter", "memory", "phases", "kernels",
                "weights"), p.keySet());
        assertEquals("int8", p.get("recipe"));
        assertEquals("onnxruntime", p.get("target"));
        assertEquals("cpu", p.get("device"));
        assertEquals(1.0, p.get("threads"));
        assertTrue(object(p.get("memory")).containsKey("copy"));
        assertNull(object(p.get("memory")).get("copy"));
        assertEquals((double) Files.size(model), p.get("bytesBefore"));
        assertTrue((double) p.get("bytesAfter") < N * N * 1.3, p.toString());
        assertTrue((double) object(p.get("memory")).get("read") > 1e8 && (double) object(p.get("memory")).get("narrow") > 1e8, p.toString());
        assertEquals(Set.of("open", "plan", "read", "kernel", "write", "fsync"), object(p.get("phases")).keySet());
        Map<String, Object> read = object(object(p.get("phases")).get("read"));
        assertEquals(4.0 * N * N, read.get("bytes"));
        assertEquals((double) read.get("bytes") / (double) read.get("seconds"), (double) read.get("bytesPerSecond"), 1);

        double scales = 4.0 * N * N / 64;
        Map<String, Object> quantize = named("kernel", "tp_quantize", p.get("kernels"));
        assertEquals(Set.of("kernel", "device", "calls", "seconds", "runShare", "bytesRead", "bytesWritten", "lines", "deviceSeconds",
                "bytesPerSecond", "memoryShare", "operations", "operationsPerSecond"), quantize.keySet());
        assertEquals("cpu", quantize.get("device"));
        assertEquals(1.0, quantize.get("calls"));
        assertEquals((double) N, quantize.get("lines"));
        assertEquals(4.0 * N * N, quantize.get("bytesRead"));
        assertEquals(N * N + scales, quantize.get("bytesWritten"));
        assertEquals(0.0, quantize.get("operations"));
        assertNull(quantize.get("operationsPerSecond"));
        double seconds = (double) quantize.get("deviceSeconds");
        assertEquals((5.0 * N * N + scales) / seconds, (double) quantize.get("bytesPerSecond"), 1e-6 * N * N / seconds);
        double narrow = (double) object(p.get("memory")).get("narrow");
        assertEquals((double) quantize.get("bytesPerSecond") / narrow, (double) quantize.get("memoryShare"), 1e-6);
        assertEquals((double) quantize.get("seconds") / (double) p.get("seconds"), (double) quantize.get("runShare"), 1e-6);
        // This one writes next to nothing: the loop that only reads is its measure.
        Map<String, Object> error = named("kernel", "tp_quantize_error", p.get("kernels"));
        assertEquals(5.0 * N * N + scales, error.get("bytesRead"));
        assertEquals((double) error.get("bytesPerSecond") / (double) object(p.get("memory")).get("read"), (double) error.get("memoryShare"),
                1e-6);

        assertEquals(1, list(p.get("weights")).size());
        Map<String, Object> weight = named("weight", "weight", p.get("weights"));
        assertEquals(2.0, weight.get("calls"));
        assertEquals(9.0 * N * N + scales, weight.get("bytesRead"));
        assertEquals(2, list(weight.get("kernels")).size());
        assertEquals(quantize, named("kernel", "tp_quantize", weight.get("kernels")));
        String docs = Files.readString(Path.of("../../docs/profiling.md"));
        for (Map<String, Object> fields : List.of(p, quantize, weight)) {
            fields.keySet().forEach(field -> assertTrue(docs.contains('`' + field + '`'), field));
        }
    }

    @Test
    void productsHaveOperationsInsteadOfAShareOfMemory() throws IOException {
        Map<String, Object> p = profile(model, "--recipe", "lowrank", "--set", "rank=16");
        Map<String, Object> multiply = named("kernel", "tp_multiply", p.get("kernels"));
        assertNull(multiply.get("memoryShare"));
        assertTrue((double) multiply.get("operations") > 0 && (double) multiply.get("operationsPerSecond") > 0, multiply.toString());
        assertTrue(list(p.get("weights")).stream().allMatch(w -> object(w).get("weight").equals("weight")), p.toString());
    }

    /** What is looked at while planning belongs to its weight as well. */
    @Test
    void planningHasItsKernels() throws IOException {
        Map<String, Object> p = profile(model, "--recipe", "prune50", "--set", "scope=tensor");
        assertEquals(4.0 * N * N * (double) named("kernel", "tp_prune_histogram", p.get("kernels")).get("calls"),
                named("kernel", "tp_prune_histogram", p.get("kernels")).get("bytesRead"));
        assertEquals(1, list(p.get("weights")).size(), p.toString());
        assertTrue((double) object(object(p.get("phases")).get("plan")).get("bytes") > 0, p.toString());
    }

    @Test
    void foldersAreProfiledToo() throws IOException {
        Path safetensors = SmallModel.writeSafetensors(folder.resolve("model.safetensors"));
        Map<String, Object> p = profile(safetensors);
        assertEquals("w8a16", p.get("recipe"));
        assertEquals((double) N, named("kernel", "tp_quantize", p.get("kernels")).get("lines"));
        // Hashing, on a thread of its own, is for no weight.
        Map<String, Object> hash = named("kernel", "tp_sha256_update", p.get("kernels"));
        assertEquals(hash, named("kernel", "tp_sha256_update", named("weight", "", p.get("weights")).get("kernels")));
        named("weight", "layers.0.mlp.up_proj.weight", p.get("weights"));
    }

    @Test
    void theTableSaysTheSame() throws IOException {
        Result r = MainTest.run("profile", model, "--temp", temp, "--threads", "2");
        assertEquals(0, r.code(), r.err());
        List<String> lines = r.out().lines().toList();
        assertTrue(lines.getFirst().matches("recipe int8 for onnxruntime, 2 threads; [\\d,]+ -> [\\d,]+ bytes in .*s, written in \\Q" + temp
                + "\\E and removed"), r.out());
        assertTrue(lines.get(1).matches("memory: \\d+\\.\\d GB/s reading, \\d+\\.\\d GB/s from f32 to int8"), r.out());
        assertTrue(lines.stream().anyMatch(l -> l.matches("KERNEL +DEVICE +CALLS +TIME +OF RUN +COMPUTED +READ +WRITTEN +GB/S +OF MEMORY +GFLOP/S")),
                r.out());
        assertTrue(lines.stream().anyMatch(l -> l.matches("tp_quantize +cpu +1 .*s +\\d+\\.\\d % +\\S+ m?s +64\\.0 KiB +17\\.0 KiB +\\d+\\.\\d +\\d+\\.\\d %")),
                r.out());
        assertTrue(lines.stream().anyMatch(l -> l.matches("total +2 .*")), r.out());
        assertTrue(lines.stream().anyMatch(l -> l.matches("weight +2 .* tp_quantize(_error)? \\d+\\.\\d %")), r.out());
        assertTrue(lines.stream().anyMatch(l -> l.matches("fsync +\\S+ m?s .*/s")), r.out());
        assertEquals(Set.of("small.onnx", "temp"), names(folder));
        assertEquals(Set.of(), names(temp));
    }

    @Test
    void whatCannotBeIsSaidAndLeavesNothing() throws IOException {
        Result r = MainTest.run("profile", folder.resolve("none.onnx"), "--temp", temp);
        assertEquals(Main.IO, r.code());
        assertTrue(r.line().contains("no such file"), r.err());
        r = MainTest.run("profile", model, "--recipe", "int9", "--temp", temp);
        assertEquals(Main.USAGE, r.code());
        assertTrue(r.line().contains("no recipe is named 'int9'"), r.err());
        assertEquals(Main.MALFORMED, MainTest.run("profile", Files.writeString(folder.resolve("text.onnx"), "text"), "--temp", temp).code());
        r = MainTest.run("profile", model, "--temp", folder.resolve("nowhere"));
        assertEquals(Main.USAGE, r.code());
        assertTrue(r.line().contains("nowhere is no folder"), r.err());
        r = MainTest.run("profile", model, "--temp", "/proc");
        assertEquals(Main.IO, r.code());
        assertTrue(r.line().contains("cannot write in /proc"), r.err());
        r = MainTest.run("profile", SmallModel.write(folder.resolve("nan.onnx"), Float.NaN), "--temp", temp);
        assertEquals(Main.UNSUPPORTED, r.code());
        assertTrue(r.line().contains("--exclude"), r.err());
        assertEquals(Set.of(), names(temp));
    }

    private Process start(String... command) throws IOException {
        return start("", command);
    }

    /** @param emulator what the device does, as the emulator's variable says it */
    private Process start(String emulator, String[] command) throws IOException {
        List<String> all = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--enable-native-access=ALL-UNNAMED", "-cp", System.getProperty("java.class.path")));
        all.addAll(List.of(command));
        ProcessBuilder builder = new ProcessBuilder(all).redirectOutput(folder.resolve("out").toFile())
                .redirectError(folder.resolve("err").toFile());
        builder.environment().remove("CUDA_VISIBLE_DEVICES");
        builder.environment().put("TENSORPRESS_EMULATOR", emulator);
        return builder.start();
    }

    /** Flight Recorder's own files have another place than the result. */
    @Test
    void flightRecorderNeedsItsFolder() throws Exception {
        Process p = start("-Djava.io.tmpdir=/proc", "dev.tensorpress.cli.Main", "profile", model.toString(), "--temp", temp.toString());
        assertEquals(Main.IO, p.waitFor());
        String log = Files.readString(folder.resolve("err"));
        assertTrue(log.contains("tensorpress: Flight Recorder does not start: "), log);
        assertEquals(Set.of(), names(temp));
    }

    /** A start without Flight Recorder does not even load what it would be told by. */
    @Test
    void compressingDoesNotNotice() throws Exception {
        Path classes = folder.resolve("classes");
        Process p = start("-Xlog:class+load:file=" + classes, "dev.tensorpress.cli.Main", "compress", model.toString(), "-o",
                folder.resolve("out.onnx").toString());
        assertEquals(0, p.waitFor());
        String loaded = Files.readString(classes);
        assertTrue(loaded.contains("dev.tensorpress.kernel.Native "), loaded);
        assertFalse(loaded.contains("KernelEvent") || loaded.contains("WeightEvent") || loaded.contains("jdk.jfr.internal."), loaded);
    }

    @Test
    void whoIsToldToEndRemovesWhatItWrote() throws Exception {
        Path large = SmallModel.write(folder.resolve("large.onnx"), 1500);
        Process p = start("-Djava.io.tmpdir=" + temp, "dev.tensorpress.cli.Main", "profile", large.toString(), "--recipe", "lowrank");
        for (int i = 0; names(temp).stream().noneMatch(n -> n.startsWith("tensorpress-profile-")); i++) {
            assertTrue(p.isAlive() && i < 6000, () -> "ended, or did not begin, before it could be told to");
            Thread.sleep(10);
        }
        p.destroy();
        assertTrue(p.waitFor(60, TimeUnit.SECONDS));
        assertFalse(p.exitValue() == 0);
        assertTrue(names(temp).stream().noneMatch(n -> n.startsWith("tensorpress-profile-")), () -> temp + " holds what was written");
    }

    /** On the emulated device, which is small so that its ceilings are measured soon. */
    @Test
    void aDeviceIsMeasuredByItsOwnTimeAndMemory() throws Exception {
        String[] command = {"-Dtensorpress.cuda.library.path=" + System.getProperty("tensorpress.cuda.library.path"), "dev.tensorpress.cli.Main",
            "profile", model.toString(), "--recipe", "prune50-int8", "--temp", temp.toString(), "--json", "--device", "cuda"};
        assertEquals(0, start("memory=4M", command).waitFor());
        Map<String, Object> p = parse(Files.readString(folder.resolve("out")));
        assertEquals("cuda:0", p.get("device"));
        double copy = (double) object(p.get("memory")).get("copy");
        assertTrue(copy > 0, p.toString());
        Map<String, Object> apply = named("kernel", "tp_prune_apply", p.get("kernels"));
        assertEquals("cuda:0", apply.get("device"));
        long calls = (long) (double) apply.get("calls");
        assertEquals(calls * (4.0 * N * N + N * N / 8.0), apply.get("bytesRead"));
        assertEquals(calls * 4.0 * N * N, apply.get("bytesWritten"));
        double seconds = (double) apply.get("deviceSeconds");
        assertTrue(seconds > 0 && seconds < (double) apply.get("seconds"), apply.toString());
        assertEquals((double) apply.get("bytesPerSecond") / copy, (double) apply.get("memoryShare"), 1e-6 * (double) apply.get("memoryShare"));
        // What measures and decodes for the report runs there too.
        assertTrue(list(p.get("kernels")).stream().allMatch(k -> object(k).get("device").equals("cuda:0")), p.toString());
        assertEquals(1, list(p.get("weights")).size(), p.toString());
        assertEquals(Main.UNSUPPORTED, start("driver=0", command).waitFor());
        assertEquals("tensorpress: cuda:0 cannot be used: there is no NVIDIA driver\n", Files.readString(folder.resolve("err")));
        assertEquals(Set.of(), names(temp));
    }
}
