package dev.tensorpress.io;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class TemporaryFilesTest {
    @TempDir
    Path folder;

    /** A process that has to end does not wait for those who write. */
    @Test
    void theyCanBeAbandoned() throws IOException {
        Path target = Files.writeString(folder.resolve("old"), "old");
        try (DurableFile first = new DurableFile(folder, "old"); DurableFile second = new DurableFile(folder, "new")) {
            second.commit(folder.resolve("new"));
            assertTrue(Files.exists(first.temporary()));
            DurableFile.abandonAll();
            assertFalse(Files.exists(first.temporary()));
            assertThrows(IOException.class, () -> first.commit(target));
        }
        assertEquals("old", Files.readString(target));
        assertTrue(Files.exists(folder.resolve("new")));
    }

    @Test
    void theirNamesTellThemFromOthers() throws IOException {
        for (String name : List.of("a", "x".repeat(255), ".a.tensorpress-0123abcd.tmp")) {
            try (DurableFile file = new DurableFile(folder, name)) {
                assertTrue(DurableFile.isTemporary(file.temporary().getFileName().toString()), name);
            }
        }
        for (String other : List.of("a.tensorpress-0123abcd.tmp", ".tensorpress-lock", ".tensorpress-progress.json", ".tmp", "",
                ".a.tensorpress-0123abcd.old", ".a.tensorpress-0123abc.tmp")) {
            assertFalse(DurableFile.isTemporary(other), other);
        }
    }
}
