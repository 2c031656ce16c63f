package dev.tensorpress.io;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import dev.tensorpress.Effort.RandomTest;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.channels.ClosedByInterruptException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Contents, hashes, and what happens when the disk or the caller gives up. */
final class StreamFileTest {
    private static final Duration PATIENCE = Duration.ofSeconds(60);

    @TempDir
    Path folder;

    private static String sha256(byte[] bytes, int from, int to) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(Arrays.copyOfRange(bytes, from, to)));
    }

    private static byte[] random(long seed, int n) {
        byte[] b = new byte[n];
        new Random(seed).nextBytes(b);
        return b;
    }

    private List<Path> left() throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            return files.toList();
        }
    }

    @RandomTest
    void bytesAndHashes() throws Exception {
        Random random = Effort.random();
        byte[] bytes = random(Effort.seed(), 5 * Buffers.CHUNK + 12345);
        // Tensors of no bytes, of a few, and over several buffers; the first and some between belong to none.
        int[] ends = {77, 77, 1000, Buffers.CHUNK, Buffers.CHUNK + 1, 3 * Buffers.CHUNK + 17, 4 * Buffers.CHUNK, bytes.length - 5};
        Map<String, String> expected = new LinkedHashMap<>();
        Path target = folder.resolve("file");
        try (Buffers buffers = new Buffers(0); StreamFile file = new StreamFile(folder, "file", bytes.length, buffers)) {
            int at = 0;
            for (int i = 0; i <= ends.length; i++) {
                int end = i == ends.length ? bytes.length : ends[i];
                boolean none = i == 0 || i == 4 || i == ends.length;
                file.tensor(none ? null : "t" + i);
                if (!none) {
                    expected.put("t" + i, sha256(bytes, at, end));
                }
                while (at < end) {
                    int n = Math.min(end - at, random.nextInt(1, Buffers.CHUNK * 2));
                    file.write(MemorySegment.ofArray(bytes).asSlice(at, n));
                    at += n;
                }
            }
            StreamFile.Summary s = file.finish();
            assertEquals(new StreamFile.Summary(bytes.length, sha256(bytes, 0, bytes.length), expected), s);
            assertEquals(1, left().size());
            assertTrue(left().getFirst().getFileName().toString().endsWith(".tmp"), left().toString());
            file.commit(target);
        }
        assertArrayEquals(bytes, Files.readAllBytes(target));
        assertEquals(List.of(target), left());
    }

    @Test
    void nothingAtAll() throws Exception {
        try (Buffers buffers = new Buffers(0); StreamFile file = new StreamFile(folder, "file", 0, buffers)) {
            file.tensor("empty");
            file.commit(folder.resolve("file"));
            String empty = sha256(new byte[0], 0, 0);
            assertEquals(new StreamFile.Summary(0, empty, Map.of("empty", empty)), file.finish());
        }
        assertEquals(0, Files.size(folder.resolve("file")));
    }

    @Test
    void withoutHashes() throws Exception {
        try (Buffers buffers = new Buffers(0); StreamFile file = StreamFile.unhashed(folder, "file", 3, buffers)) {
            file.write(MemorySegment.ofArray(new byte[] {1, 2, 3}));
            file.commit(folder.resolve("file"));
            assertEquals(new StreamFile.Summary(3, "", Map.of()), file.finish());
        }
        assertArrayEquals(new byte[] {1, 2, 3}, Files.readAllBytes(folder.resolve("file")));
    }

    @Test
    void lengthIsWhatWasSaid() throws Exception {
        try (Buffers buffers = new Buffers(0); StreamFile file = new StreamFile(folder, "file", 10, buffers)) {
            file.write(MemorySegment.ofArray(new byte[9]));
            assertThrows(IllegalStateException.class, () -> file.commit(folder.resolve("file")));
            assertThrows(IllegalStateException.class, () -> file.write(MemorySegment.ofArray(new byte[2])));
        }
        assertEquals(List.of(), left());
    }

    @Test
    void tensorsHaveOneNameEach() throws Exception {
        try (Buffers buffers = new Buffers(0); StreamFile file = new StreamFile(folder, "file", 2, buffers)) {
            file.tensor("a");
            file.write(MemorySegment.ofArray(new byte[1]));
            file.tensor("a");
            file.write(MemorySegment.ofArray(new byte[1]));
            assertThrows(IllegalStateException.class, file::finish);
        }
        assertEquals(List.of(), left());
    }

    /** The writing thread's error reaches the caller, who does not wait for buffers that nobody gives back. */
    @Test
    void fullDisk() throws Exception {
        byte[] chunk = new byte[Buffers.CHUNK];
        long length = 100L * chunk.length;
        for (int room : new int[] {0, 1, 3 * chunk.length - 1}) {
            assertTimeoutPreemptively(PATIENCE, () -> {
                try (Buffers buffers = new Buffers(0)) {
                    DurableFile durable = new DurableFile(folder, "file");
                    try (StreamFile file = new StreamFile(folder.resolve("file"), length, buffers, true, durable,
                            small(room))) {
                        IOException e = assertThrows(IOException.class, () -> {
                            for (int i = 0; i < 100; i++) {
                                file.write(MemorySegment.ofArray(chunk));
                            }
                        });
                        assertTrue(e.getMessage().contains("file: the disk is full; it needs " + length + " bytes, "),
                                e.getMessage());
                        assertThrows(IOException.class, () -> file.write(MemorySegment.ofArray(chunk)));
                    }
                }
            });
            assertEquals(List.of(), left());
        }
    }

    @Test
    void fullDiskAtTheEnd() throws Exception {
        try (Buffers buffers = new Buffers(0)) {
            DurableFile durable = new DurableFile(folder, "file");
            try (StreamFile file = new StreamFile(folder.resolve("file"), 1000, buffers, true, durable, small(999))) {
                file.write(MemorySegment.ofArray(new byte[1000]));
                IOException e = assertThrows(IOException.class, () -> file.commit(folder.resolve("file")));
                assertTrue(e.getMessage().contains("the disk is full"), e.getMessage());
            }
        }
        assertEquals(List.of(), left());
    }

    @Test
    void closedMidway() throws Exception {
        assertTimeoutPreemptively(PATIENCE, () -> {
            try (Buffers buffers = new Buffers(0)) {
                for (int i = 0; i < 20; i++) {
                    try (StreamFile file = new StreamFile(folder, "file", 100L * Buffers.CHUNK, buffers)) {
                        file.write(MemorySegment.ofArray(new byte[i * 5_000_000]));
                    }
                }
            }
        });
        assertEquals(List.of(), left());
    }

    /** As on Ctrl-C, whether the caller waits for a buffer, for the end, or for nothing. */
    @Test
    void interrupted() throws Exception {
        for (boolean atEnd : new boolean[] {false, true}) {
            CountDownLatch stuck = new CountDownLatch(1);
            CountDownLatch release = new CountDownLatch(1);
            AtomicReference<Throwable> met = new AtomicReference<>();
            Thread t = new Thread(() -> {
                try (Buffers buffers = new Buffers(0)) {
                    DurableFile durable = new DurableFile(folder, "file");
                    StreamFile.Disk slow = (to, from, at) -> {
                        stuck.countDown();
                        try {
                            release.await();
                        } catch (InterruptedException e) {
                            throw new IOException(e);
                        }
                        return to.write(from, at);
                    };
                    long length = atEnd ? 10 : 100L * Buffers.CHUNK;
                    try (StreamFile file = new StreamFile(folder.resolve("file"), length, buffers, true, durable, slow)) {
                        if (atEnd) {
                            file.write(MemorySegment.ofArray(new byte[10]));
                            file.finish();
                        } else {
                            for (int i = 0; i < 100; i++) {
                                file.write(MemorySegment.ofArray(new byte[Buffers.CHUNK]));
                            }
                        }
                    } catch (Throwable e) {
                        met.set(e);
                        assertTrue(Thread.currentThread().isInterrupted());
                    }
                } catch (IOException e) {
                    met.set(e);
                }
            });
            t.start();
            stuck.await();
            t.interrupt();
            // It may be on its way to the place where it waits; the disk gets free only once it has noticed.
            Thread.sleep(50);
            release.countDown();
            t.join(PATIENCE.toMillis());
            assertInstanceOf(ClosedByInterruptException.class, met.get());
            assertEquals(List.of(), left());
        }
    }

    @RandomTest
    void readAheadGivesTheRangesInOrder() throws Exception {
        Random random = Effort.random();
        Path[] files = {folder.resolve("a"), folder.resolve("b")};
        byte[][] contents = {random(Effort.seed(), 3 * Buffers.CHUNK + 1), random(Effort.seed() + 1, 100_000)};
        for (int i = 0; i < 2; i++) {
            Files.write(files[i], contents[i]);
        }
        List<ReadAhead.Range> ranges = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            ranges.add(new ReadAhead.Range(files[0], (long) i * Buffers.CHUNK + 1, Buffers.CHUNK));
        }
        for (int i = 0; i < 3000; i++) {
            int f = random.nextInt(8) == 0 ? 1 : 0;
            int start = random.nextInt(contents[f].length);
            ranges.add(new ReadAhead.Range(files[f], start, random.nextInt(Math.min(50_000, contents[f].length - start + 1))));
        }
        assertTimeoutPreemptively(PATIENCE, () -> {
            try (Buffers buffers = new Buffers(0)) {
                for (int run = 0; run < 2; run++) {
                    try (ReadAhead ahead = new ReadAhead(ranges, buffers);
                            StreamFile beside = new StreamFile(folder, "c", 1L << 40, buffers)) {
                        for (ReadAhead.Range r : ranges.subList(0, run == 0 ? ranges.size() : 17)) {
                            MemorySegment bytes = ahead.next();
                            byte[] all = r.file().equals(files[0]) ? contents[0] : contents[1];
                            assertEquals(-1, bytes.mismatch(MemorySegment.ofArray(all).asSlice(r.start(), r.length())), r.toString());
                            beside.write(bytes); // both share the buffers, and neither stops the other
                        }
                    }
                }
            }
        });
    }

    /** As the kernel has it. */
    private static long cached(Path file) throws Exception {
        Process p = new ProcessBuilder("fincore", "--bytes", "--noheadings", "--output", "RES", file.toString()).start();
        String said = new String(p.getInputStream().readAllBytes(), StandardCharsets.UTF_8).strip();
        assertEquals(0, p.waitFor());
        return Long.parseLong(said);
    }

    @Test
    void filesLeaveThePageCache() throws Exception {
        Assumptions.assumeTrue(Files.isExecutable(Path.of("/usr/bin/fincore")), "needs fincore");
        Assumptions.assumeTrue(Set.of("ext4", "xfs", "btrfs").contains(Files.getFileStore(folder).type()), "needs a disk");
        int length = 5 * Buffers.CHUNK + 1234;
        Path file = folder.resolve("file");
        try (Buffers buffers = new Buffers(0); StreamFile out = new StreamFile(folder, "file", length, buffers)) {
            out.write(MemorySegment.ofArray(new byte[length]));
            out.commit(file);
            assertTrue(cached(file) < Buffers.CHUNK, "written: " + cached(file));
            Files.readAllBytes(file);
            Assumptions.assumeTrue(cached(file) > length / 2, "memory is scarce");
            try (ReadAhead ahead = new ReadAhead(ReadAhead.ranges(file, 0, length), buffers)) {
                for (int i = 0; i < 6; i++) {
                    ahead.next();
                }
            }
            assertTrue(cached(file) < Buffers.CHUNK, "read: " + cached(file));
        }
    }

    @Test
    void inputThatBecomesShorterIsAnError() throws Exception {
        Path file = folder.resolve("in");
        Files.write(file, new byte[100]);
        try (Buffers buffers = new Buffers(0); ReadAhead ahead = new ReadAhead(List.of(new ReadAhead.Range(file, 0, 60),
                new ReadAhead.Range(file, 60, 41), new ReadAhead.Range(file, 0, 1)), buffers)) {
            assertEquals(60, ahead.next().byteSize());
            for (int i = 0; i < 2; i++) {
                IOException e = assertThrows(IOException.class, ahead::next);
                assertTrue(e.getMessage().startsWith("cannot read " + file + ": it became shorter"), e.getMessage());
            }
        }
        try (Buffers buffers = new Buffers(0); ReadAhead ahead = new ReadAhead(List.of(new ReadAhead.Range(folder.resolve("none"), 0, 1)),
                buffers)) {
            assertThrows(NoSuchFileException.class, ahead::next);
        }
    }

    @Test
    void readerThatIsInterrupted() throws Exception {
        try (Buffers buffers = new Buffers(0); ReadAhead ahead = new ReadAhead(List.of(new ReadAhead.Range(
                Files.createFile(folder.resolve("in")), 0, 0)), buffers)) {
            ahead.next();
            assertThrows(NoSuchElementException.class, ahead::next);
        }
        try (Buffers buffers = new Buffers(0)) {
            // All buffers are taken: the reader waits for one, and the caller for the reader.
            for (int i = 0; i < 4; i++) {
                buffers.take();
            }
            try (ReadAhead ahead = new ReadAhead(List.of(new ReadAhead.Range(folder.resolve("in"), 0, 0)), buffers)) {
                Thread.currentThread().interrupt();
                assertThrows(ClosedByInterruptException.class, ahead::next);
                assertTrue(Thread.interrupted());
            }
        }
    }

    /** A disk that has room for some bytes. */
    private static StreamFile.Disk small(long room) {
        return (to, from, at) -> {
            if (at >= room) {
                throw new IOException("No space left on device");
            }
            int n = (int) Math.min(from.remaining(), room - at);
            int written = to.write(from.slice(from.position(), n), at);
            from.position(from.position() + written);
            return written;
        };
    }
}
