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
    /** Of the largest values. */
    private static final int ALIGNMENT = Long.BYTES;

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
        Input input = null;
        boolean used = true;
        try {
            for (int i = 0, n; i < ranges.size() && !closed; i += n) {
                n = together(i);
                Range first = ranges.get(i);
                Range last = ranges.get(i + n - 1);
                long length = last.start + last.length - first.start;
                if (input == null || !first.file.equals(input.file)) {
                    close(input);
                    input = null;
                    input = new Input(first.file);
                }
                if (buffer == null || filled + length > Buffers.CHUNK) {
                    buffer = buffers.takeToRead();
                    used = false;
                    filled = 0;
                }
                Phases.Span span = buffers.phases().begin(Phases.Phase.READ);
                MemorySegment bytes = input.read(first.start, length, buffer.asSlice(filled));
                span.end(first.file, length);
                filled = Math.ceilDiv(bytes.address() - buffer.address() + length, DirectFile.PAGE) * DirectFile.PAGE;
                for (Range r : ranges.subList(i, i + n)) {
                    ready.add(new Item(buffer, bytes.asSlice(r.start - first.start, r.length), null));
                    used = true;
                }
            }
        } catch (Throwable e) {
            if (!used) {
                buffers.giveRead(buffer);
            }
            ready.add(new Item(null, null, e));
        } finally {
            close(input);
        }
    }

    /** How many ranges, from one on, lie behind each other in their file, and so that values in them are aligned if they are in the first. */
    private int together(int from) {
        Range first = ranges.get(from);
        long end = first.start + first.length;
        int to = from + 1;
        for (; to < ranges.size(); to++) {
            Range r = ranges.get(to);
            if (!r.file.equals(first.file) || r.start != end || (end - first.start) % ALIGNMENT != 0
                    || end + r.length - first.start > Buffers.CHUNK) {
                break;
            }
            end += r.length;
        }
        return to - from;
    }

    /** A file that is being read. */
    private static final class Input implements AutoCloseable {
        final Path file;
        private final FileChannel channel;
        private final DirectFile direct;
        private final PageCache cache;

        Input(Path file) throws IOException {
            this.file = file;
            channel = FileChannel.open(file, StandardOpenOption.READ);
            direct = new DirectFile(file, false, channel);
            cache = new PageCache(file);
        }

        /**
         * Reads a range, where values in it are aligned in memory, and perhaps more of the pages that it starts and ends in.
         *
         * @param to starts with a page, and has room for all these pages
         */
        MemorySegment read(long start, long length, MemorySegment to) throws IOException {
            long before = start % ALIGNMENT == 0 ? start % DirectFile.PAGE : 0;
            long pages = Math.ceilDiv(before + length, DirectFile.PAGE) * DirectFile.PAGE;
            ByteBuffer bytes = to.asSlice(0, pages).asByteBuffer();
            while (bytes.position() < before + length) {
                if (direct.read(bytes, start - before + bytes.position()) < 0) {
                    throw new IOException("it became shorter while it was read: expected " + length + " bytes at " + start
                            + ", found " + channel.size() + " in all");
                }
            }
            cache.drop(start, length);
            return to.asSlice(before, length);
        }

        @Override
        public void close() throws IOException {
            try (channel; direct; cache) {
                // Nothing but that.
            }
        }
    }

    private static void close(Input input) {
        if (input != null) {
            try {
                input.close();
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
