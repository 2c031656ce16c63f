package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.ProgressListener;
import dev.tensorpress.Recipe;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.statistics.ValueStatistics;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ConcurrentModificationException;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;

/** What belongs together, and until when: compressors, their plans, and statistics. */
final class CompressorTest {
    private static final int K = 128;

    @TempDir
    Path folder;

    private Path model;
    private Path file;
    private Path out;
    private Recipe gptq;

    @BeforeEach
    void write() throws IOException {
        TestModel m = TestModel.of(8, 17);
        m.graph.input("x", TensorInfo.FLOAT, -1, K).output("y", TensorInfo.FLOAT, -1, K).init("w", DType.F32, TestModel.random(1, K * K), K, K)
                .init("v", DType.F32, TestModel.random(2, K * K), K, K).node("MatMul", "h", "x", "w").node("MatMul", "y", "h", "v");
        model = m.write(folder, "model.onnx");
        out = folder.resolve("out.onnx");
        file = folder.resolve("s.safetensors");
        gptq = Calibrated.recipe(folder, "gptq: {bits: 4, block: 32}");
        try (Compressor c = open(null); Statistics s = Calibrated.statistics(c, true, TestModel.random(3, 300 * K), 300, K)) {
            s.save(file, false);
        }
    }

    private Compressor open(ProgressListener progress) throws IOException {
        return Compressor.open(model, Compressor.Options.DEFAULT.overwrite(true).threads(1).progress(progress));
    }

    private void overwrite(long from) throws IOException {
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
            channel.write(ByteBuffer.allocate(Math.toIntExact(channel.size() - from)), from);
        }
    }

    private void cut() {
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
            channel.truncate(channel.size() / 2);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static void closed(Executable e) {
        String said = assertThrows(IllegalStateException.class, e).getMessage();
        assertTrue(said.endsWith("closed"), said);
    }

    @Test
    void plansKeepTheStatisticsThatTheyGoBy() throws Exception {
        try (Compressor c = open(null); Statistics s = Statistics.load(file)) {
            c.use(s);
            Plan plan = c.plan(gptq);
            c.compress(plan, out);
            c.use(null);
            Path second = folder.resolve("second.onnx");
            c.compress(plan, second);
            assertEquals(-1, Files.mismatch(out, second));
            assertTrue(c.plan(Recipe.named("int8")).statistics().isEmpty());
        }
    }

    @Test
    void plansBelongToTheCompressorThatMadeThem() throws Exception {
        try (Compressor a = open(null); Compressor b = open(null)) {
            Plan plan = a.plan(Recipe.named("int8"));
            assertTrue(assertThrows(IllegalArgumentException.class, () -> b.compress(plan, out)).getMessage().contains("not of this compressor"));
            assertFalse(Files.exists(out));
        }
    }

    @Test
    void whatIsClosedSaysSo() throws Exception {
        try (Compressor c = open(null); Statistics s = Statistics.load(file)) {
            c.use(s);
            Plan plan = c.plan(gptq);
            s.close();
            closed(() -> c.compress(plan, out));
            closed(() -> c.plan(gptq));
            closed(() -> c.use(s));
            c.use(null);
            Plan without = c.plan(Recipe.named("int8"));
            c.close();
            c.close();
            closed(() -> c.compress(without, out));
            closed(() -> c.plan(Recipe.named("int8")));
        }
    }

    @Test
    void whatStatisticsHandOutIsTheirs() throws Exception {
        try (Statistics s = Statistics.load(file)) {
            String before = s.digest();
            ValueStatistics v = s.values().getFirst();
            v.min()[0] = v.max()[0] = 1e30f;
            v.sum()[0] = v.squares()[0] = 1e30;
            s.of("", "x").orElseThrow().squares()[0] = 1e30;
            assertThrows(IllegalArgumentException.class, () -> v.gram().orElseThrow().setAtIndex(ValueLayout.JAVA_DOUBLE, 0, 1));
            assertEquals(before, s.digest());
        }
    }

    @Test
    void statisticsThatChangeAreNamed() throws Exception {
        try (Compressor c = open((index, count, entry, part) -> cut()); Statistics s = Statistics.load(file)) {
            c.use(s);
            Plan plan = c.plan(gptq);
            // After it was looked at: what fails is the reading of a mapping.
            IOException e = assertThrows(IOException.class, () -> c.compress(plan, out));
            assertTrue(e.getMessage().startsWith(file + " changed while it was read"), e.getMessage());
            assertInstanceOf(Throwable.class, e.getSuppressed()[0]);
            assertThrows(UncheckedIOException.class, () -> c.plan(gptq));
            assertTrue(assertThrows(UncheckedIOException.class, s::digest).getMessage().contains(file.toString()));
            assertTrue(assertThrows(UncheckedIOException.class, () -> s.add(s)).getMessage().contains(file.toString()));
            IOException saved = assertThrows(IOException.class, () -> s.save(folder.resolve("t"), false));
            assertTrue(saved.getMessage().startsWith(file.toString()), saved.getMessage());
            assertFalse(Files.exists(folder.resolve("t")));
        }
        Files.delete(file);
        write();
        try (Compressor c = open(null); Statistics s = Statistics.load(file)) {
            c.use(s);
            Plan plan = c.plan(gptq);
            overwrite(Files.size(file) / 2);
            IOException e = assertThrows(IOException.class, () -> c.compress(plan, out));
            assertTrue(e.getMessage().startsWith(file + " changed while it was read"), e.getMessage());
        }
        assertFalse(Files.exists(out));
    }

    @Test
    void twoThreadsAreOneTooMany() throws Exception {
        Compressor[] c = new Compressor[1];
        Throwable[] thrown = new Throwable[1];
        try (Compressor opened = open((index, count, entry, part) -> {
            Thread other = Thread.ofPlatform().start(() -> thrown[0] = assertThrows(RuntimeException.class, () -> c[0].plan(Recipe.named("int8"))));
            try {
                other.join();
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
        })) {
            c[0] = opened;
            opened.compress(opened.plan(Recipe.named("int8")), out);
            assertInstanceOf(ConcurrentModificationException.class, thrown[0]);
            Plan[] plan = new Plan[1];
            Thread.ofPlatform().start(() -> plan[0] = opened.plan(Recipe.named("int8"))).join();
            assertTrue(plan[0].compressed() > 0, "one after the other they may");
        }
    }
}
