package dev.tensorpress.io;

import dev.tensorpress.bindings.LinuxFiles;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;

/**
 * Moves whole pages of a file between disk and memory past the page cache, whose upkeep and copies would take more of a processor than
 * the kernels do. What cannot go that way, such as the end of a file, or all of it on a file system without that way, goes through a
 * channel, which also says what is wrong. One thread at a time.
 */
final class DirectFile implements AutoCloseable {
    /** What places, lengths and addresses are multiples of. A disk with larger ones refuses these. */
    static final int PAGE = PageCache.PAGE;
    /** Moved at once: disks are slower with larger pieces and with smaller ones. */
    private static final int STEP = 4 << 20;
    /** Of less, waiting for the disk would be most; the kernel reads ahead, and gathers what is written. */
    private static final int LEAST = 1 << 20;

    private final Path file;
    private final boolean write;
    private final FileChannel channel;
    private int descriptor = -1;
    /** Whether it turned out that there is no such way. */
    private boolean closed;

    /** @param write whether it is for writing, else for reading; the channel may be for both, and is not closed with this */
    DirectFile(Path file, boolean write, FileChannel channel) {
        this.file = file;
        this.write = write;
        this.channel = channel;
    }

    /** As {@link FileChannel#read(ByteBuffer, long)}. What is in memory already comes from there. */
    int read(ByteBuffer to, long at) throws IOException {
        int n = fits(to, at) && !isLoaded(at, to.remaining()) ? move(to, at) : 0;
        return n > 0 ? n : channel.read(to, at);
    }

    /** As {@link FileChannel#write(ByteBuffer, long)}. */
    int write(ByteBuffer from, long at) throws IOException {
        int n = fits(from, at) ? move(from, at) : 0;
        return n > 0 ? n : channel.write(from, at);
    }

    private boolean fits(ByteBuffer bytes, long at) {
        return !closed && bytes.remaining() >= LEAST && at % PAGE == 0 && bytes.alignmentOffset(bytes.position(), PAGE) == 0;
    }

    /** How many bytes were moved, at most all whole pages. */
    private int move(ByteBuffer bytes, long at) {
        if (descriptor < 0) {
            descriptor = PageCache.open(file, LinuxFiles.O_DIRECT | (write ? LinuxFiles.O_WRONLY : 0));
        }
        MemorySegment from = MemorySegment.ofBuffer(bytes);
        long length = from.byteSize() / PAGE * PAGE;
        long moved = 0;
        while (descriptor >= 0 && moved < length && moved % PAGE == 0) {
            MemorySegment step = from.asSlice(moved, Math.min(STEP, length - moved));
            long n = write ? LinuxFiles.pwrite(descriptor, step, at + moved) : LinuxFiles.pread(descriptor, step, at + moved);
            if (n <= 0) {
                break;
            }
            moved += n;
        }
        if (moved == 0) {
            close();
        }
        bytes.position(bytes.position() + (int) moved);
        return (int) moved;
    }

    /** Whether the page cache has all of a range. Nothing of the mapping is touched, so that the file may get shorter meanwhile. */
    private boolean isLoaded(long at, int length) throws IOException {
        long there = Math.min(length, channel.size() - at);
        try (Arena arena = Arena.ofConfined()) {
            return there <= 0 || channel.map(FileChannel.MapMode.READ_ONLY, at, there, arena).isLoaded();
        }
    }

    /** From here on all goes through the channel. */
    @Override
    public void close() {
        closed = true;
        if (descriptor >= 0) {
            LinuxFiles.close(descriptor);
            descriptor = -1;
        }
    }
}
