package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.model.compressedtensors.TruncatedInputTest;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.concurrent.locks.LockSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Models that become shorter after they were opened: an error before native code reads what is gone. */
public class TruncatedModelTest {
    private static final int N = 512;
    private static final int ROUNDS = 48;

    @TempDir
    Path folder;

    @ParameterizedTest
    @CsvSource({"int8,'',before", "int8,'',after", "prune50,tensor,before", "prune50,global,after", "lowrank,'',before"})
    void isAnErrorAndNoCrash(String recipe, String scope, String when) throws Exception {
        TestModel m = TestModel.of(8, 17);
        m.graph.input("x", 1, -1, N).init("w", DType.F32, TestModel.random(1, N * N), N, N)
                .init("v", DType.F32, TestModel.random(2, N * N), N, N)
                .node("MatMul", "h", "x", "w").node("MatMul", "y", "h", "v").output("y", 1, -1, N);
        String said = TruncatedInputTest.fails(folder, m.write(folder, "model.onnx"), recipe, scope, when);
        assertTrue(said.contains("changed while it was read") && said.contains("model.onnx"), said);
    }

    /** Compresses a model again and again while its file becomes shorter, each time at another moment. */
    public static void main(String[] args) throws Exception {
        Path whole = Path.of(args[0]);
        Path model = whole.resolveSibling("cut.onnx");
        Path out = whole.resolveSibling("out.onnx");
        long time = 0;
        int failed = 0;
        for (int round = 0; round < ROUNDS; round++) {
            Files.copy(whole, model, StandardCopyOption.REPLACE_EXISTING);
            long delay = round < 3 ? Long.MAX_VALUE : time * round / ROUNDS;
            try (Compressor c = Compressor.open(model, Compressor.Options.DEFAULT.overwrite(true))) {
                Plan plan = c.plan(Recipe.named("int4"));
                Thread cutter = new Thread(() -> {
                    LockSupport.parkNanos(delay);
                    try (FileChannel f = FileChannel.open(model, StandardOpenOption.WRITE)) {
                        f.truncate(4096);
                    } catch (IOException e) {
                        throw new UncheckedIOException(e);
                    }
                });
                long start = System.nanoTime();
                if (delay < Long.MAX_VALUE) {
                    cutter.start();
                }
                try {
                    c.compress(plan, out);
                } catch (IOException e) {
                    failed++;
                }
                if (delay == Long.MAX_VALUE) {
                    time = System.nanoTime() - start;
                } else {
                    cutter.join();
                }
            }
        }
        System.out.println("failed " + failed);
    }

    @Test
    void neitherAtAnyMomentOfTheWork() throws Exception {
        int n = 1024;
        TestModel m = TestModel.of(8, 17);
        m.graph.input("x", 1, -1, n);
        for (int i = 0; i < 6; i++) {
            m.graph.init("w" + i, DType.F32, TestModel.random(i, n * n), n, n).node("MatMul", "h" + i, i == 0 ? "x" : "h" + (i - 1), "w" + i);
        }
        m.graph.output("h5", 1, -1, n);
        Path crash = folder.resolve("crash.log");
        Process p = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-XX:TieredStopAtLevel=1",
                "-XX:ErrorFile=" + crash, "-XX:-CreateCoredumpOnCrash", "--enable-native-access=ALL-UNNAMED", "-cp",
                System.getProperty("java.class.path"), TruncatedModelTest.class.getName(), m.write(folder, "whole.onnx").toString())
                .redirectErrorStream(true).start();
        String said = new String(p.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertEquals(0, p.waitFor(), said);
        assertFalse(Files.exists(crash), said);
        int failed = Integer.parseInt(said.strip().replaceAll("(?s).*failed ", ""));
        assertTrue(failed > ROUNDS / 4, said);
    }
}
