package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Recipe;
import dev.tensorpress.Targets;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * Each system call of a write fails, or is the last one of its process: what is there afterwards is the old model or the new one, with
 * its data, never neither.
 */
public class FailedWriteTest {
    private static final int FAILED = 5;

    @TempDir
    Path folder;

    /** Replaces a model by a compressed one. */
    public static void main(String[] args) {
        try (Compressor c = Compressor.open(Path.of(args[0]), Compressor.Options.DEFAULT.overwrite(true).threads(1))) {
            c.compress(c.plan(Recipe.named("int8").set("min-size", "0")), Path.of(args[1]));
        } catch (IOException e) {
            System.out.println(e.getMessage());
            System.exit(FAILED);
        }
    }

    private static Proto external(String name, String location, long offset, long length, long... dims) {
        Proto t = TestModel.head(name, 1, dims);
        for (String[] e : new String[][] {{"location", location}, {"offset", "" + offset}, {"length", "" + length}}) {
            t.message(13, new Proto().string(1, e[0]).string(2, e[1]));
        }
        return t.integer(14, 1);
    }

    @Test
    void leavesTheOldModelOrTheNewOne() throws Exception {
        Assumptions.assumeTrue(works("strace", "-f", "-e", "trace=none", "true"), "needs strace");
        TestModel m = new TestModel();
        m.graph.init(external("w", "w.bin", 0, 64 * 256 * 4, 64, 256)).input("x", 1, -1, 64).node("MatMul", "y", "x", "w")
                .output("y", 1, -1, 256);
        Path in = m.write(folder, "in.onnx");
        Files.write(folder.resolve("w.bin"), TestModel.raw(DType.F32, TestModel.random(3, 64 * 256)));
        Path out = Files.createDirectory(folder.resolve("out")).resolve("model.onnx");
        // The old output has data of its own; so the new one's have another name.
        try (OnnxModel old = OnnxModel.open(in, false)) {
            Targets.of(old, "", java.util.Map.of()).write(java.util.Map.of(), null, dev.tensorpress.model.Destination.of(out));
        }
        List<Path> oldFiles = list(out.getParent());
        List<byte[]> oldBytes = new ArrayList<>();
        for (Path p : oldFiles) {
            oldBytes.add(Files.readAllBytes(p));
        }
        float[] before = Ort.run(out, 1, 2);
        assertEquals(0, run(in, out, List.of()));
        float[] after = Ort.run(out, 1, 2);
        assertTrue(!Arrays.equals(before, after));
        int failed = 0;
        int kept = 0;
        for (String call : List.of("fsync", "rename", "pwrite64")) {
            for (String fault : List.of("error=EIO", "error=ENOSPC", "signal=KILL")) {
                if (call.equals("rename") && fault.equals("error=ENOSPC")) {
                    continue;
                }
                for (int n = 1;; n++) {
                    for (Path p : list(out.getParent())) {
                        Files.delete(p);
                    }
                    for (int i = 0; i < oldFiles.size(); i++) {
                        Files.write(oldFiles.get(i), oldBytes.get(i));
                    }
                    String inject = call + ":" + fault + ":when=" + n;
                    int code = run(in, out, List.of("-e", "trace=" + call, "-e", "inject=" + inject));
                    float[] now = Ort.run(out, 1, 2); // fails if its data are gone
                    boolean old = Arrays.equals(before, now);
                    assertArrayEquals(old ? before : after, now, inject);
                    kept += old ? 1 : 0;
                    if (code == 0) {
                        assertArrayEquals(after, now, inject);
                        assertTrue(n > 1, call + " is never called");
                        break;
                    }
                    failed++;
                    assertTrue(fault.startsWith("signal") || code == FAILED, inject + " ended with " + code);
                    assertTrue(n < 12, inject);
                }
            }
        }
        assertTrue(failed >= 15 && kept >= 8, failed + " failed, " + kept + " kept the old model");
    }

    private static List<Path> list(Path folder) throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            return files.toList();
        }
    }

    private static boolean works(String... command) throws InterruptedException {
        try {
            return new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.DISCARD).start().waitFor() == 0;
        } catch (IOException e) {
            return false; // there is no such program
        }
    }

    private int run(Path in, Path out, List<String> faults) throws Exception {
        List<String> command = new ArrayList<>();
        if (!faults.isEmpty()) {
            command.addAll(List.of("strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null"));
            command.addAll(faults);
        }
        command.addAll(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-XX:TieredStopAtLevel=1",
                "-XX:-UsePerfData", "--enable-native-access=ALL-UNNAMED", "-cp", System.getProperty("java.class.path"),
                FailedWriteTest.class.getName(), in.toString(), out.toString()));
        Process p = new ProcessBuilder(command).redirectErrorStream(true).start();
        p.getOutputStream().close();
        new String(p.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        return p.waitFor();
    }
}
