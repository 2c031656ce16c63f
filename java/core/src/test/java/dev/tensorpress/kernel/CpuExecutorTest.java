package dev.tensorpress.kernel;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.UncheckedIOException;
import java.nio.channels.ClosedByInterruptException;
import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicIntegerArray;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

class CpuExecutorTest {
    @Test
    void everyLineIsRunOnceAndRangesBeginOnTheGranule() {
        for (int threads = 1; threads <= 4; threads++) {
            try (Executor executor = Executor.cpu(threads)) {
                for (int lines : new int[] {0, 1, 2, 63, 64, 65, 1000}) {
                    for (int granule : new int[] {1, 2, 64}) {
                        AtomicIntegerArray seen = new AtomicIntegerArray(lines);
                        int bound = threads;
                        executor.run(lines, granule, 1, (begin, end, worker) -> {
                            assertEquals(0, begin % granule);
                            assertTrue(worker.index() >= 0 && worker.index() < bound);
                            for (long i = begin; i < end; i++) {
                                seen.incrementAndGet((int) i);
                            }
                        });
                        for (int i = 0; i < lines; i++) {
                            assertEquals(1, seen.get(i));
                        }
                    }
                }
            }
        }
    }

    @Test
    void theLastRangeMayEndAtTheLargestLine() {
        try (Executor executor = Executor.cpu(4)) {
            for (long piece : new long[] {1L << 62, (1L << 62) - 1, Long.MAX_VALUE / 3}) {
                AtomicLong lines = new AtomicLong();
                assertTimeoutPreemptively(Duration.ofSeconds(20), () -> executor.run(Long.MAX_VALUE, 1, piece, (begin, end, worker) -> {
                    assertTrue(begin >= 0 && begin < end, begin + " to " + end);
                    lines.addAndGet(end - begin);
                }));
                assertEquals(Long.MAX_VALUE, lines.get());
            }
        }
    }

    @Test
    void anInterruptEndsTheWork() {
        for (int threads = 1; threads <= 3; threads++) {
            try (Executor executor = Executor.cpu(threads)) {
                AtomicInteger begun = new AtomicInteger();
                Thread.currentThread().interrupt();
                UncheckedIOException e = assertThrows(UncheckedIOException.class,
                        () -> executor.run(100, 1, 1, (begin, end, worker) -> begun.incrementAndGet()));
                assertTrue(e.getCause() instanceof ClosedByInterruptException);
                assertTrue(Thread.interrupted(), "whoever called has to know");
                assertEquals(0, begun.get());
                executor.run(10, 1, 1, (begin, end, worker) -> begun.incrementAndGet());
                assertTrue(begun.get() > 0, "it can be used again");
            }
        }
    }

    @Test
    void aThreadThatIsBusyElsewhereHoldsNobodyUp() throws InterruptedException {
        try (Executor executor = Executor.cpu(2)) {
            CountDownLatch busy = new CountDownLatch(2);
            CountDownLatch free = new CountDownLatch(1);
            Thread other = new Thread(() -> executor.run(2, 1, 1, (b, e, w) -> {
                busy.countDown();
                try {
                    free.await();
                } catch (InterruptedException failure) {
                    throw new IllegalStateException(failure);
                }
            }));
            other.start();
            busy.await();
            AtomicIntegerArray seen = new AtomicIntegerArray(100);
            Executor.Task count = (b, e, w) -> {
                for (long i = b; i < e; i++) {
                    seen.incrementAndGet((int) i);
                }
            };
            assertTimeoutPreemptively(Duration.ofSeconds(20), () -> executor.run(100, 1, 1, count));
            free.countDown();
            other.join();
            executor.run(100, 1, 1, count); // after what was left in the queue
            for (int i = 0; i < 100; i++) {
                assertEquals(2, seen.get(i), "line " + i);
            }
        }
    }

    @Test
    void aFailureReachesTheCallerAfterAllThreadsHaveStopped() {
        try (Executor executor = Executor.cpu(4)) {
            IllegalStateException thrown = new IllegalStateException("as planned");
            assertSame(thrown, assertThrows(IllegalStateException.class, () -> executor.run(1000, 1, 1, (b, e, w) -> {
                if (b <= 500 && e > 500) {
                    throw thrown;
                }
            })));
            executor.run(10, 1, 1, (b, e, w) -> {}); // still usable
        }
    }
}
