package dev.tensorpress.io;

import dev.tensorpress.kernel.Sha256;
import dev.tensorpress.model.Phases;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFileAttributeView;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;

/**
 * A {@link DurableFile} that is written from its start to its end by a thread of its own, and hashed by another one: whoever makes the
 * bytes goes on meanwhile. The disk gets them at once, past the page cache where it can, else the cache loses them, so that neither
 * memory nor a late flush grows with the file.
 *
 * <p>Closed without {@link #commit}, it leaves nothing behind. One thread at a time calls these methods.
 */
public final class StreamFile implements AutoCloseable {
    /** Buffers that may be on their way from memory to disk. */
    private static final int WINDOWS = 3;
    private static final Block END = new Block(null, 0, List.of(), new CountDownLatch(0));

    private final Path path;
    private static final long UNKNOWN = Long.MAX_VALUE;

    /** {@link #UNKNOWN} until it is finished, if nobody said it. */
    private long length;
    private final Buffers buffers;
    private final DurableFile file;
    private final Disk disk;
    private final DirectFile direct;
    private final BlockingQueue<Block> toWrite;
    private final Thread writer;
    /** These two are null if nobody asks for hashes. */
    private final BlockingQueue<Block> toHash;
    private final Thread hasher;
    private volatile Throwable failure;
    private volatile boolean stopped;
    /** What {@link #finish} gives; the hashing thread leaves it here. */
    private Summary summary;
    private boolean finished;
    private long written;
    /** The buffer that is being filled, or null. */
    private MemorySegment current;
    private int filled;
    private List<Cut> cuts = new ArrayList<>();

    /**
     * What was written.
     *
     * @param sha256 of the file, in hexadecimal as the following; empty if it is not hashed
     * @param tensors SHA-256 of each tensor by its name
     */
    public record Summary(long bytes, String sha256, Map<String, String> tensors) {}

    /** Where in a block a tensor begins; one without a name ends the one before. */
    private record Cut(int at, String tensor) {}

    /** @param hashed whether it is, or need not be: until then the writing thread keeps the buffer */
    private record Block(MemorySegment buffer, int length, List<Cut> cuts, CountDownLatch hashed) {}

    /**
     * Starts a file.
     *
     * @param folder of the file and of the temporary one
     * @param name that the file will have, for messages and the temporary name
     * @param length bytes that the file will have
     * @throws IOException if the folder does not exist or cannot be written
     */
    public StreamFile(Path folder, String name, long length, Buffers buffers) throws IOException {
        this(folder.resolve(name), length, buffers, true, new DurableFile(folder, name, buffers.phases()), null);
    }

    /** Starts a file that nobody asks the hashes of; its {@link Summary} has none. */
    public static StreamFile unhashed(Path folder, String name, long length, Buffers buffers) throws IOException {
        return new StreamFile(folder.resolve(name), length, buffers, false,
                new DurableFile(folder, name, buffers.phases()), null);
    }

    /** {@link #unhashed} of a length that nobody knows before {@link #finish}. */
    public static StreamFile growing(Path folder, String name, Buffers buffers) throws IOException {
        return unhashed(folder, name, UNKNOWN, buffers);
    }

    /** How bytes get to a file; tests have disks that are full, or slow. */
    @FunctionalInterface
    interface Disk {
        int write(FileChannel to, ByteBuffer from, long at) throws IOException;
    }

    /** @param disk null for the one that the file is on */
    StreamFile(Path path, long length, Buffers buffers, boolean hashed, DurableFile file, Disk disk) {
        this.path = path;
        this.length = length;
        this.buffers = buffers;
        this.file = file;
        summary = hashed ? null : new Summary(length, "", Map.of());
        direct = new DirectFile(file.temporary(), true, file.channel());
        this.disk = disk == null ? (to, from, at) -> direct.write(from, at) : disk;
        toWrite = new LinkedBlockingQueue<>();
        toHash = hashed ? new LinkedBlockingQueue<>() : null;
        writer = Thread.ofPlatform().daemon().name("tensorpress-write").start(this::runWriter);
        hasher = hashed ? Thread.ofPlatform().daemon().name("tensorpress-hash").start(this::runHasher) : null;
    }

    /** Lets those read and write the file who may another one, where systems know such permissions. */
    public void permitAs(Path other) throws IOException {
        PosixFileAttributeView to = Files.getFileAttributeView(file.temporary(), PosixFileAttributeView.class);
        if (to != null) {
            to.setPermissions(Files.getPosixFilePermissions(other));
        }
    }

    /**
     * From here on bytes belong to this tensor.
     *
     * @param name null if they belong to none
     */
    public void tensor(String name) {
        cuts.add(new Cut(filled, name));
    }

    /**
     * Appends bytes, any number of them. They are copied; this waits while no buffer is free.
     *
     * @throws IOException if the file cannot be written, which may concern earlier bytes; or if this thread is interrupted
     */
    public void write(MemorySegment bytes) throws IOException {
        if (finished) {
            throw new IllegalStateException(path + " is finished");
        }
        check();
        written = Math.addExact(written, bytes.byteSize());
        if (written > length) {
            throw new IllegalStateException(path + " was to have " + length + " bytes, and gets " + written);
        }
        for (long at = 0; at < bytes.byteSize();) {
            if (current == null) {
                current = buffers.take();
                check();
            }
            int n = (int) Math.min(Buffers.CHUNK - filled, bytes.byteSize() - at);
            MemorySegment.copy(bytes, at, current, filled, n);
            filled += n;
            at += n;
            if (filled == Buffers.CHUNK) {
                send();
            }
        }
    }

    private void send() {
        Block b = new Block(current, filled, cuts, new CountDownLatch(toHash == null ? 0 : 1));
        toWrite.add(b);
        if (toHash != null) {
            toHash.add(b);
        }
        current = null;
        filled = 0;
        cuts = new ArrayList<>();
    }

    private void sendEnd() {
        toWrite.add(END);
        if (toHash != null) {
            toHash.add(END);
        }
    }

    /** Throws what one of the threads met. */
    private void check() throws IOException {
        Throwable f = failure;
        if (f instanceof IOException e) {
            long free = path.toAbsolutePath().getParent().toFile().getUsableSpace();
            throw new IOException(DurableFile.explain(e, path).getMessage() + "; it "
                    + (length == UNKNOWN ? "has " + written + " bytes so far, " : "needs " + length + " bytes, ") + free
                    + " more are free there", e);
        }
        if (f != null) {
            throw new IllegalStateException("cannot write " + path, f);
        }
        if (Thread.currentThread().isInterrupted()) {
            throw Buffers.interrupted();
        }
    }

    /**
     * Waits until the kernel has all bytes, and the hashes are there.
     *
     * @throws IllegalStateException if there are fewer bytes than was said
     * @throws IOException as {@link #write}
     */
    public Summary finish() throws IOException {
        if (!finished) {
            if (length == UNKNOWN) {
                length = written;
                summary = new Summary(length, "", Map.of());
            }
            if (written != length) {
                throw new IllegalStateException(path + " was to have " + length + " bytes, and has " + written);
            }
            finished = true;
            send();
            sendEnd();
        }
        try {
            writer.join();
            if (hasher != null) {
                hasher.join();
            }
        } catch (InterruptedException e) {
            throw Buffers.interrupted();
        }
        check();
        return summary;
    }

    /** Whether a file has the bytes of this one, which is finished. */
    public boolean isLike(Path other) throws IOException {
        return Files.mismatch(file.temporary(), other) < 0;
    }

    /**
     * {@link #finish}, then {@link DurableFile#commit}.
     *
     * @throws IOException if the file cannot be written
     */
    public void commit(Path target) throws IOException {
        commit(target, true);
    }

    /** {@link #finish}, then {@link DurableFile#commit(Path, boolean)}. */
    public void commit(Path target, boolean replace) throws IOException {
        finish();
        file.commit(target, replace);
        try (PageCache cache = new PageCache(target)) {
            cache.drop(0, length);
        }
    }

    /** Stops writing, and removes the file unless it was committed. */
    @Override
    public void close() throws IOException {
        stopped = true;
        sendEnd();
        Buffers.join(writer);
        if (hasher != null) {
            Buffers.join(hasher);
        }
        if (current != null) {
            buffers.give(current);
            current = null;
        }
        file.close();
    }

    // The threads

    private void runWriter() {
        try (PageCache cache = new PageCache(file.temporary()); direct) {
            Writing writing = new Writing(cache);
            for (Block b; (b = toWrite.take()) != END;) {
                try {
                    if (goesOn()) {
                        Phases.Span span = buffers.phases().begin(Phases.Phase.WRITE);
                        writing.take(b);
                        b.hashed.await();
                        span.end(path, b.length);
                    }
                } catch (IOException | RuntimeException | Error e) {
                    failed(e); // what comes is passed over, so that nobody waits for its buffers
                } finally {
                    b.hashed.await();
                    if (b.buffer != null) {
                        buffers.give(b.buffer);
                    }
                }
            }
        } catch (InterruptedException | RuntimeException | Error e) {
            failed(e);
        }
    }

    private void runHasher() {
        try (Arena arena = Arena.ofConfined()) {
            Hashes hashes = null;
            for (Block b; (b = toHash.take()) != END;) {
                try {
                    if (goesOn()) {
                        hashes = hashes == null ? new Hashes(arena) : hashes;
                        hashes.take(b);
                    }
                } catch (RuntimeException | Error e) {
                    failed(e);
                } finally {
                    b.hashed.countDown();
                }
            }
            summary = hashes == null ? null : hashes.summary(length);
        } catch (InterruptedException | RuntimeException | Error e) {
            failed(e);
        }
    }

    private boolean goesOn() {
        return failure == null && !stopped;
    }

    private synchronized void failed(Throwable e) {
        failure = failure == null ? e : failure;
    }

    /** From the first block to the last. */
    private final class Writing {
        private final PageCache cache;
        /** Lengths of the blocks on their way to disk. */
        private final Deque<Long> behind = new ArrayDeque<>();
        private long onDisk;
        private long at;

        Writing(PageCache cache) {
            this.cache = cache;
        }

        void take(Block b) throws IOException {
            if (b.length > 0) {
                ByteBuffer bytes = b.buffer.asSlice(0, b.length).asByteBuffer();
                while (bytes.hasRemaining()) {
                    disk.write(file.channel(), bytes, at + bytes.position());
                }
            }
            cache.startWriting(at, b.length);
            at += b.length;
            behind.add((long) b.length);
            if (behind.size() == WINDOWS) {
                long n = behind.remove();
                cache.finishWriting(onDisk, n);
                onDisk += n;
            }
        }
    }

    /** SHA-256 of the file and of the tensor at hand, of the bytes of both in one go. */
    private static final class Hashes {
        private final Sha256 whole;
        private final Sha256 part;
        private final Map<String, String> tensors = new HashMap<>();
        private String tensor;

        Hashes(Arena arena) {
            whole = new Sha256(arena);
            part = new Sha256(arena);
        }

        void take(Block b) {
            int from = 0;
            for (Cut c : b.cuts) {
                update(b, from, c.at);
                end();
                tensor = c.tensor;
                from = c.at;
            }
            update(b, from, b.length);
        }

        private void update(Block b, int from, int to) {
            if (from < to) {
                whole.update(tensor == null ? null : part, b.buffer.asSlice(from, to - from));
            }
        }

        private void end() {
            if (tensor != null && tensors.put(tensor, part.finish()) != null) {
                throw new IllegalStateException("tensor '" + tensor + "' is written twice");
            }
        }

        Summary summary(long bytes) {
            end();
            return new Summary(bytes, whole.finish(), Collections.unmodifiableMap(tensors));
        }
    }
}
