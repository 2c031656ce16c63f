package dev.tensorpress.kernel;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.atomic.AtomicIntegerArray;
import org.junit.jupiter.api.Test;

class WorkersTest {
    @Test
    void everyLineIsRunOnceAndRangesBeginOnTheGranule() {
        for (int threads = 1; threads <= 4; threads++) {
            try (Workers workers = new Workers(threads)) {
                for (int lines : new int[] {0, 1, 2, 63, 64, 65, 1000}) {
                    for (int granule : new int[] {1, 2, 64}) {
                        AtomicIntegerArray seen = new AtomicIntegerArray(lines);
                        int bound = threads;
                        workers.run(lines, granule, 1, (begin, end, worker) -> {
                            assertEquals(0, begin % granule);
                            assertTrue(worker >= 0 && worker < bound);
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
    void aFailureReachesTheCallerAfterAllThreadsHaveStopped() {
        try (Workers workers = new Workers(4)) {
            IllegalStateException thrown = new IllegalStateException("as planned");
            assertSame(thrown, assertThrows(IllegalStateException.class, () -> workers.run(1000, 1, 1, (b, e, w) -> {
                if (b <= 500 && e > 500) {
                    throw thrown;
                }
            })));
            workers.run(10, 1, 1, (b, e, w) -> {}); // still usable
        }
    }
}
