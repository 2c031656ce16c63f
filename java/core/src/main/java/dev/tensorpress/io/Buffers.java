package dev.tensorpress.io;

import dev.tensorpress.model.Phases;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.ClosedByInterruptException;
import java.util.ArrayDeque;
import java.util.Deque;

/**
 * Buffers off-heap of one size for all that streams: made when first needed, as many as the budget allows, and used again, since
 * new memory costs more than what happens in it. Half of them at most are for reading, so that whoever reads ahead leaves those
 * that writing needs to go on. At most one {@link ReadAhead} uses a pool at a time. Thread-safe.
 */
public final class Buffers implements AutoCloseable {
    /** Bytes that go into one. */
    public static final int CHUNK = 16 << 20;
    /** Two to read, the one in use and the next, and two to write. */
    private static final int FEWEST = 4;
    /** A chunk, wherever it starts and ends in its file, and the rest of the pages at both ends. */
    static final int SIZE = CHUNK + 2 * DirectFile.PAGE;

    private final Arena arena = Arena.ofShared();
    private final Deque<MemorySegment> free = new ArrayDeque<>();
    private final Phases phases;
    private final int most;
    private int made;
    private int reading;

    /** {@link #Buffers(long, Phases)} with phases of its own. */
    public Buffers(long budget) {
        this(budget, new Phases());
    }

    /**
     * @param budget bytes of all buffers at most, but there are never fewer than four
     * @param phases told what those take who read and write by these buffers
     */
    public Buffers(long budget, Phases phases) {
        this.phases = phases;
        most = Math.clamp(budget / CHUNK, FEWEST, Integer.MAX_VALUE);
    }

    Phases phases() {
        return phases;
    }

    /** A buffer to write from; waits while there is none. */
    MemorySegment take() throws IOException {
        return take(false);
    }

    /** A buffer to read into; waits while there is none. */
    MemorySegment takeToRead() throws IOException {
        return take(true);
    }

    private synchronized MemorySegment take(boolean toRead) throws IOException {
        while (free.isEmpty() && made == most || toRead && reading == most / 2) {
            try {
                wait();
            } catch (InterruptedException e) {
                throw interrupted();
            }
        }
        MemorySegment buffer = free.poll();
        if (buffer == null) {
            buffer = arena.allocate(SIZE, DirectFile.PAGE);
            made++;
        }
        reading += toRead ? 1 : 0;
        return buffer;
    }

    void give(MemorySegment buffer) {
        give(buffer, false);
    }

    void giveRead(MemorySegment buffer) {
        give(buffer, true);
    }

    private synchronized void give(MemorySegment buffer, boolean toRead) {
        free.push(buffer);
        reading -= toRead ? 1 : 0;
        notifyAll();
    }

    /** What a thread that was interrupted throws, still interrupted, as channels do. */
    public static IOException interrupted() {
        Thread.currentThread().interrupt();
        return new ClosedByInterruptException();
    }

    /** Waits for a thread to end, whatever happens. */
    static void join(Thread thread) {
        boolean interrupted = false;
        while (true) {
            try {
                thread.join();
                break;
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    /** Called after all that uses them is closed. */
    @Override
    public void close() {
        arena.close();
    }
}
