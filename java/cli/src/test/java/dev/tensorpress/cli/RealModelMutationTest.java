package dev.tensorpress.cli;

import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Recipe;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * Damages a real model, a few bytes at a time, and plans a compression of what is left: it works, or the error is one
 * of the two that say what is wrong with a model.
 */
class RealModelMutationTest {
    /** Nodes lie at the head of this file; behind them tensors with short headers. */
    private static final int HEAD = 160_000;

    @Test
    void damageIsNamedOrHarmless(@TempDir Path folder) throws IOException {
        long seconds = 6 * Long.parseLong(System.getProperty("tensorpress.effort", "1"));
        long seed = Long.parseLong(System.getProperty("tensorpress.seed", "1"));
        Path model = folder.resolve("model.onnx");
        try (InputStream in = RealModelMutationTest.class.getResourceAsStream("/all-minilm-l6-v2.onnx")) {
            Files.copy(in, model);
        }
        int named = 0;
        long end = System.nanoTime() + seconds * 1_000_000_000;
        try (FileChannel channel = FileChannel.open(model, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            long size = channel.size();
            for (long i = seed; System.nanoTime() < end; i++) {
                Random random = new Random(i);
                long[] at = new long[1 + random.nextInt(3)];
                ByteBuffer[] before = new ByteBuffer[at.length];
                for (int k = 0; k < at.length; k++) {
                    at[k] = random.nextInt(8) == 0 ? size - 1 - random.nextInt(4096)
                            : random.nextInt(16) == 0 ? random.nextLong(size) : random.nextInt(HEAD);
                    before[k] = ByteBuffer.allocate(1);
                    channel.read(before[k], at[k]);
                    byte old = before[k].flip().get(0);
                    byte now = switch (random.nextInt(4)) {
                        case 0 -> (byte) random.nextInt();
                        case 1 -> (byte) (old ^ 1 << random.nextInt(8));
                        case 2 -> (byte) 0xff;
                        default -> (byte) 0x80;
                    };
                    channel.write(ByteBuffer.wrap(new byte[] {now}), at[k]);
                }
                try (Compressor compressor = Compressor.open(model)) {
                    compressor.plan(Recipe.named("int8"));
                    compressor.model().graph();
                } catch (MalformedModelException | UnsupportedRequestException e) {
                    assertTrue(e.getMessage().length() > 10, e.getMessage());
                    named++;
                } catch (RuntimeException | Error e) {
                    throw new AssertionError("-Dtensorpress.seed=" + i, e);
                }
                // Backwards: one place may have been hit twice.
                for (int k = at.length - 1; k >= 0; k--) {
                    channel.write(before[k].rewind(), at[k]);
                }
            }
        }
        assertTrue(named > 0, "no damage was noticed");
    }
}
