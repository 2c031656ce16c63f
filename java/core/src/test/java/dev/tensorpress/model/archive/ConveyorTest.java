package dev.tensorpress.model.archive;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.channels.ClosedByInterruptException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
final class ConveyorTest {
    private static final long MEMORY = 1 << 28;

    private static void fill(Conveyor conveyor, int number, IOException failure) throws IOException {
        Piece piece = conveyor.next();
        piece.plain.set(ValueLayout.JAVA_INT, 0, number);
        conveyor.start(piece, () -> {
            Thread.sleep(0, ThreadLocalRandom.current().nextInt(300_000));
            if (failure != null) {
                throw failure;
            }
            return null;
        });
    }

    @Test
    void chunksAreTakenInTheirOrder() throws IOException {
        List<Integer> taken = new ArrayList<>();
        try (Conveyor conveyor = new Conveyor(3, MEMORY, piece -> taken.add(piece.plain.get(ValueLayout.JAVA_INT, 0)))) {
            for (int i = 0; i < 100; i++) {
                fill(conveyor, i, null);
            }
            conveyor.finish();
        }
        assertEquals(100, taken.size());
        for (int i = 0; i < 100; i++) {
            assertEquals(i, taken.get(i));
        }
    }

    /** The first in the order of chunks is told, whichever failed first, and nothing behind it is taken. */
    @Test
    void whatFailsFirstIsToldToWhoFills() throws IOException {
        for (int i = 0; i < 20; i++) {
            List<Integer> taken = new ArrayList<>();
            IOException first = new IOException("first");
            try (Conveyor conveyor = new Conveyor(3, MEMORY, piece -> taken.add(piece.plain.get(ValueLayout.JAVA_INT, 0)))) {
                IOException told = assertThrows(IOException.class, () -> {
                    for (int n = 0; n < 1000; n++) {
                        fill(conveyor, n, n == 20 ? first : n > 20 ? new IOException("later") : null);
                    }
                });
                assertSame(first, told);
                assertSame(first, assertThrows(IOException.class, conveyor::finish));
            }
            assertEquals(20, taken.size());
        }
        IOException full = new IOException("full");
        try (Conveyor conveyor = new Conveyor(1, MEMORY, piece -> {
            throw full;
        })) {
            fill(conveyor, 0, null);
            assertSame(full, assertThrows(IOException.class, conveyor::finish));
        }
    }

    @Test
    void waitingEndsByAnInterrupt() throws IOException {
        CountDownLatch never = new CountDownLatch(1);
        try (Conveyor conveyor = new Conveyor(1, MEMORY, piece -> {
            try {
                never.await();
            } catch (InterruptedException e) {
                throw new ClosedByInterruptException();
            }
        })) {
            Thread.currentThread().interrupt();
            assertThrows(ClosedByInterruptException.class, () -> {
                while (true) {
                    fill(conveyor, 0, null);
                }
            });
            assertTrue(Thread.interrupted(), "it stays interrupted");
        }
    }
}
