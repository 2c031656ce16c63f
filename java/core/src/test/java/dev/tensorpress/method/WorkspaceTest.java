package dev.tensorpress.method;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;

import dev.tensorpress.kernel.Executor;
import java.lang.foreign.MemorySegment;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import org.junit.jupiter.api.Assertions;
import org.junit.jupiter.api.Test;

final class WorkspaceTest {
    /** Two threads would read and write one buffer, each with a weight of its own. */
    @Test
    void aSecondThreadIsRefused() {
        try (Executor executor = Executor.cpu(1); Workspace workspace = new Workspace(executor)) {
            MemorySegment mine = workspace.take(Workspace.Slot.CODES, 100);
            CompletionException e = Assertions.assertThrows(CompletionException.class,
                    () -> CompletableFuture.runAsync(() -> workspace.take(Workspace.Slot.CODES, 1000)).join());
            assertInstanceOf(IllegalStateException.class, e.getCause());
            assertEquals(100, mine.byteSize());
            assertEquals(mine.address(), workspace.take(Workspace.Slot.CODES, 50).address());
        }
    }
}
