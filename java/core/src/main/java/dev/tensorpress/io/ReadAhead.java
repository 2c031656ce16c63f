package dev.tensorpress.io;

import dev.tensorpress.model.Phases;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.FileSystemException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

/**
 * Ranges of files in a given order, read by a thread that runs ahead as far as there are buffers. They are read through channels: a
 * file that becomes shorter meanwhile is an error, and no fault as with a mapping. What was read leaves the page cache.
 */
public final class ReadAhead implements AutoCloseable {
    /** Where ranges start in a buffer that they share. */
    private static final int ALIGNMENT = 64;

    private final List<Range> ranges;
    private final Buffers buffers;
    private final Thread reader;
    private final BlockingQueue<Item> ready = new LinkedBlockingQueue<>();
    private volatile boolean closed;
    private int passed;
    /** The buffer that the range given last is in. */
    private MemorySegment current;

    /**
     * Bytes of a file.
     *
     * @param length at most {@link Buffers#CHUNK}
     */
    public record Range(Path file, long start, long length) {
        /** @throws IllegalArgumentException if the length is out of range, or the start negative */
        public Range {
            if (start < 0 || length < 0 || length > Buffers.CHUNK) {
                throw new IllegalArgumentException("bytes " + start + "+" + length + " of " + file + " are no range of at most "
                        + Buffers.CHUNK);
            }
        }
    }

    /** Bytes of a file, any number of them, as ranges. */
    public static List<Range> ranges(Path file, long start, long length) {
        List<Range> ranges = new ArrayList<>();
        for (long at = 0; at < length; at += Buffers.CHUNK) {
            ranges.add(new Range(file, start + at, Math.min(Buffers.CHUNK, length - at)));
        }
        return ranges;
    }

    /** A range that was read, or what kept it from being read. */
    private record Item(MemorySegment buffer, MemorySegment bytes, Throwable failure) {}

    /** Reading begins at once. */
    public ReadAhead(List<Range> ranges, Buffers buffers) {
        this.ranges = List.copyOf(ranges);
        this.buffers = buffers;
        reader = Thread.ofPlatform().daemon().name("tensorpress-read").start(this::read);
    }

    /**
     * The bytes of the next range, valid until the following call.
     *
     * @throws IOException if the file cannot be read, or ends before the range does; it names the file
     * @throws NoSuchElementException after the last range
     */
    public MemorySegment next() throws IOException {
        if (passed == ranges.size()) {
            throw new NoSuchElementException("all " + passed + " ranges were read");
        }
        Item item;
        try {
            item = ready.take();
        } catch (InterruptedException e) {
            throw Buffers.interrupted();
        }
        if (item.failure != null) {
            ready.add(item); // the same for whoever asks again
            throw failed(ranges.get(passed), item.failure);
        }
        passed++;
        use(item.buffer);
        return item.bytes;
    }

    private static IOException failed(Range range, Throwable failure) {
        if (failure instanceof FileSystemException e) {
            return e; // it could not be opened, and says so
        }
        if (failure instanceof IOException) {
            return new IOException("cannot read " + range.file + ": " + failure.getMessage(), failure);
        }
        throw new IllegalStateException("cannot read " + range.file, failure);
    }

    private void use(MemorySegment buffer) {
        if (current != null && current != buffer) {
            buffers.giveRead(current);
        }
        current = buffer;
    }

    private void read() {
        MemorySegment buffer = null;
        long filled = 0;
        Path file = null;
        FileChannel channel = null;
        PageCache cache = null;
        boolean used = true;
        try {
            for (int i = 0; i < ranges.size() && !closed; i++) {
            Range r = ranges.get(i);
                if (!r.file.equals(file)) {
                    close(channel, cache);
                    cache = null;
                    channel = FileChannel.open(r.file, StandardOpenOption.READ);
                    cache = new PageCache(r.file);
                    file = r.file;
                }
                if (buffer == null || filled + r.length > Buffers.CHUNK) {
                    buffer = buffers.takeToRead();
                    used = false;
                    filled = 0;
                }
                // The disk works on the next range while this one is copied.
                if (i + 1 < ranges.size() && ranges.get(i + 1).file.equals(file)) {
                    cache.fetch(ranges.get(i + 1).start, ranges.get(i + 1).length);
                }
                MemorySegment bytes = buffer.asSlice(filled, r.length);
                Phases.Span span = buffers.phases().begin(Phases.Phase.READ);
                fill(channel, r, bytes.asByteBuffer());
                span.end(r.file, r.length);
                cache.drop(r.start, r.length);
                filled = Math.ceilDiv(filled + r.length, ALIGNMENT) * ALIGNMENT;
                ready.add(new Item(buffer, bytes, null));
                used = true;
            }
        } catch (Throwable e) {
            if (!used) {
                buffers.giveRead(buffer);
            }
            ready.add(new Item(null, null, e));
        } finally {
            close(channel, cache);
        }
    }

    private static void fill(FileChannel channel, Range r, ByteBuffer to) throws IOException {
        while (to.hasRemaining()) {
            if (channel.read(to, r.start + to.position()) < 0) {
                throw new IOException("it became shorter while it was read: expected " + r.length + " bytes at " + r.start
                        + ", found " + channel.size() + " in all");
            }
        }
    }

    private static void close(FileChannel channel, PageCache cache) {
        if (cache != null) {
            cache.close();
        }
        if (channel != null) {
            try {
                channel.close();
            } catch (IOException e) {
                // Opened for reading: nothing is lost.
            }
        }
    }

    /** Stops reading and gives the buffers back; ranges given before are no longer valid. */
    @Override
    public void close() {
        if (closed) {
            return;
        }
        closed = true;
        reader.interrupt();
        Buffers.join(reader);
        for (Item item : ready) {
            if (item.buffer != null) {
                use(item.buffer);
            }
        }
        use(null);
        ready.clear();
    }
}
