package dev.tensorpress.model.archive;

import java.io.IOException;
import java.nio.channels.ClosedByInterruptException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/**
 * Chunks that one thread fills and takes in their order, while others work on those between. As many are there as were said, each
 * with its own memory, and are used again.
 */
final class Conveyor implements AutoCloseable {
    /** Of the memory that was asked for, what buffers of files take; the rest is for chunks. */
    private static final int SHARE = 2;

    /** Takes a chunk that is done. */
    @FunctionalInterface
    interface Taker {
        void take(Piece piece) throws IOException;
    }

    private record Busy(Piece piece, Future<?> work) {}

    private final int most;
    private final ExecutorService threads;
    private final Taker taker;
    private final List<Piece> all = new ArrayList<>();
    private final Deque<Busy> busy = new ArrayDeque<>();

    /**
     * @param threads that work, if the memory suffices for so many; 0 for one per processor
     * @param memory of chunks, and of buffers for files, in bytes
     */
    Conveyor(int threads, long memory, Taker taker) {
        int working = threads == 0 ? Runtime.getRuntime().availableProcessors() : threads;
        // One more for the thread that fills and takes, and one that waits for its turn.
        most = (int) Math.clamp(memory / SHARE / Piece.MEMORY, 2, working + 2L);
        this.taker = taker;
        this.threads = Executors.newFixedThreadPool(Math.min(working, most), Thread.ofPlatform().daemon().name("tensorpress-chunk-", 0).factory());
    }

    /** A chunk to fill. All that are done before it was needed are taken. */
    Piece next() throws IOException {
        while (!busy.isEmpty() && (busy.size() == most || busy.getFirst().work.isDone())) {
            take();
        }
        for (Piece p : all) {
            if (busy.stream().noneMatch(b -> b.piece == p)) {
                return p;
            }
        }
        Piece p = new Piece();
        all.add(p);
        return p;
    }

    /** Has something done to the chunk that {@link #next} gave. */
    void start(Piece piece, Callable<?> work) {
        busy.addLast(new Busy(piece, threads.submit(work)));
    }

    /** Waits for all of them, and has them taken. */
    void finish() throws IOException {
        while (!busy.isEmpty()) {
            take();
        }
    }

    private void take() throws IOException {
        Busy first = busy.getFirst();
        try {
            first.work.get();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new ClosedByInterruptException();
        } catch (ExecutionException e) {
            switch (e.getCause()) {
                case IOException io -> throw io;
                case RuntimeException r -> throw r;
                case Error error -> throw error;
                default -> throw new IllegalStateException(e.getCause());
            }
        }
        taker.take(first.piece);
        busy.removeFirst();
    }

    /** Waits for what still works; what is not begun never will be. */
    @Override
    public void close() {
        threads.shutdownNow();
        threads.close();
        for (Piece p : all) {
            p.close();
        }
    }
}
