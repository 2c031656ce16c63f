package dev.tensorpress.io;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Which way bytes go is seen by giving it a channel of one file and the name of another. */
final class DirectFileTest {
    private static final int LENGTH = 3 << 20;

    @TempDir
    Path folder;
    private Path named;
    private Path opened;
    private byte[] ofNamed;
    private byte[] ofOpened;

    @BeforeEach
    void files() throws IOException {
        Assumptions.assumeTrue(Set.of("ext4", "xfs", "btrfs").contains(Files.getFileStore(folder).type()), "needs a disk");
        Random random = Effort.random();
        random.nextBytes(ofNamed = new byte[LENGTH]);
        random.nextBytes(ofOpened = new byte[LENGTH]);
        named = Files.write(folder.resolve("named"), ofNamed);
        opened = Files.write(folder.resolve("opened"), ofOpened);
    }

    private static void drop(Path file) throws IOException {
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE); PageCache cache = new PageCache(file)) {
            channel.force(true);
            cache.drop(0, Files.size(file));
        }
    }

    /** What is read at a place, with memory that starts some bytes behind a page. */
    private byte[] read(Path name, int at, int shift, int length) throws IOException {
        try (Arena arena = Arena.ofShared(); FileChannel channel = FileChannel.open(opened, StandardOpenOption.READ);
                DirectFile file = new DirectFile(name, false, channel)) {
            MemorySegment bytes = arena.allocate(shift + length, DirectFile.PAGE).asSlice(shift);
            int n = file.read(bytes.asByteBuffer(), at);
            return bytes.asSlice(0, Math.max(n, 0)).toArray(ValueLayout.JAVA_BYTE);
        }
    }

    @Test
    void readsPastTheCacheWhatIsNotInIt() throws Exception {
        assertArrayEquals(ofOpened, read(named, 0, 0, LENGTH)); // just written
        drop(opened);
        assertArrayEquals(ofNamed, read(named, 0, 0, LENGTH));
        assertArrayEquals(Arrays.copyOfRange(ofNamed, 4096, LENGTH), read(named, 4096, 0, LENGTH));
        assertArrayEquals(Arrays.copyOfRange(ofNamed, 0, LENGTH - 4096), read(named, 0, 0, LENGTH - 1), "whole pages");
        assertArrayEquals(ofOpened, read(folder.resolve("none"), 0, 0, LENGTH), "no other way");
    }

    @Test
    void smallOrUnalignedGoesThroughTheChannel() throws Exception {
        for (int[] c : new int[][] {{0, 0, (1 << 20) - 1}, {1, 0, LENGTH - 1}, {0, 1, LENGTH}, {LENGTH, 0, LENGTH}}) {
            drop(opened);
            assertArrayEquals(Arrays.copyOfRange(ofOpened, c[0], Math.min(LENGTH, c[0] + c[2])), read(named, c[0], c[1], c[2]),
                    Arrays.toString(c));
        }
    }

    @Test
    void writesPastTheCache() throws Exception {
        byte[] fresh = new byte[LENGTH];
        Arrays.fill(fresh, (byte) 7);
        try (Arena arena = Arena.ofShared(); FileChannel channel = FileChannel.open(opened, StandardOpenOption.WRITE);
                DirectFile file = new DirectFile(named, true, channel)) {
            MemorySegment bytes = arena.allocate(LENGTH, DirectFile.PAGE).fill((byte) 7);
            assertEquals(LENGTH, file.write(bytes.asByteBuffer(), 0));
            assertEquals(LENGTH - 4096, file.write(bytes.asSlice(0, LENGTH - 1).asByteBuffer(), 0), "whole pages");
            assertArrayEquals(fresh, Files.readAllBytes(named));
            assertArrayEquals(ofOpened, Files.readAllBytes(opened));
            assertEquals(LENGTH, file.write(bytes.asByteBuffer(), 1));
            assertEquals(1 + LENGTH, channel.size());
        }
    }

    /** Ranges that lie behind each other are read together, and are aligned in memory as in the file. */
    @Test
    void rangesFromDisk() throws Exception {
        byte[] all = new byte[Buffers.CHUNK * 3 - 4321];
        new Random(1).nextBytes(all);
        Path file = Files.write(folder.resolve("file"), all);
        List<ReadAhead.Range> ranges = new ArrayList<>();
        for (int start : new int[] {8, 4096, 4088, 1, Buffers.CHUNK + 16}) {
            ranges.add(new ReadAhead.Range(file, start, Buffers.CHUNK));
        }
        int at = 24;
        for (int length : new int[] {0, 8, 5 << 20, 0, 4 << 20, 3, 5, 5 << 20, Buffers.CHUNK, 2 << 20}) {
            ranges.add(new ReadAhead.Range(file, at, length));
            at += length;
        }
        ranges.add(new ReadAhead.Range(file, at, all.length - at)); // up to the end
        drop(file);
        try (Buffers buffers = new Buffers(0); ReadAhead ahead = new ReadAhead(ranges, buffers)) {
            for (ReadAhead.Range r : ranges) {
                MemorySegment bytes = ahead.next();
                assertEquals(r.length(), bytes.byteSize(), r.toString());
                assertEquals(-1, bytes.mismatch(MemorySegment.ofArray(all).asSlice(r.start(), r.length())), r.toString());
                if (r.start() % 8 == 0) {
                    assertEquals(0, bytes.address() % 8, r.toString());
                }
            }
        }
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
            try (Arena arena = Arena.ofConfined()) {
                assertTrue(!channel.map(FileChannel.MapMode.READ_ONLY, 0, 2L * Buffers.CHUNK, arena).isLoaded());
            }
        }
    }
}
