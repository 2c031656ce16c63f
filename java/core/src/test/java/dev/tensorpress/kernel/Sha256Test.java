package dev.tensorpress.kernel;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.tensorpress.Effort;
import dev.tensorpress.Effort.RandomTest;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Random;

/** The JVM's own implementation is the oracle. */
final class Sha256Test {
    private static String expected(byte[] bytes, int from, int to) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(Arrays.copyOfRange(bytes, from, to)));
    }

    @RandomTest
    void messagesInPiecesAndSideBySide() throws Exception {
        Random random = Effort.random();
        try (Arena arena = Arena.ofConfined()) {
            Sha256 whole = new Sha256(arena);
            Sha256 tail = new Sha256(arena);
            for (int round = 0; round < 300; round++) {
                byte[] bytes = new byte[random.nextInt(1, 2000)];
                random.nextBytes(bytes);
                MemorySegment m = arena.allocate(bytes.length);
                MemorySegment.copy(bytes, 0, m, ValueLayout.JAVA_BYTE, 0, bytes.length);
                int cut = random.nextInt(bytes.length);
                whole.update(m.asSlice(0, cut));
                for (int at = cut; at < bytes.length;) {
                    int n = random.nextInt(1, bytes.length - at + 1);
                    whole.update(tail, m.asSlice(at, n));
                    at += n;
                }
                assertEquals(expected(bytes, 0, bytes.length), whole.finish(), "message of " + bytes.length + ", cut at " + cut);
                assertEquals(expected(bytes, cut, bytes.length), tail.finish(), "tail of " + bytes.length + ", cut at " + cut);
            }
        }
    }
}
