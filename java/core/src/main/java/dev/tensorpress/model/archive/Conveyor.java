package dev.tensorpress.model.archive;

import dev.tensorpress.io.Buffers;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;

/**
 * Chunks that one thread fills, others work on, and one more takes in their order. As many are there as were said, each with its own
 * memory, and are used again.
 */
final class Conveyor implements AutoCloseable {
    /** Of the memory that was asked for, what buffers of files take; the rest is for chunks. */
    private static final int SHARE = 2;
    private static final Busy END = new Busy(null, null);

    /** Takes a chunk that is done. */
    @FunctionalInterface
    interface Taker {
        void take(Piece piece) throws IOException;
    }

    private record Busy(Piece piece, Future<?> work) {}

    private final int most;
    private final ExecutorService threads;
    private final ExecutorService taking = Executors.newSingleThreadExecutor(Thread.ofPlatform().daemon().name("tensorpress-take").factory());
    private final Future<?> taken;
    private final List<Piece> all = new ArrayList<>();
    private final BlockingQueue<Piece> free = new LinkedBlockingQueue<>();
    private final BlockingQueue<Busy> busy = new LinkedBlockingQueue<>();
    /** What the first chunk met that failed, in their order. */
    private volatile Throwable failure;
    private volatile boolean closed;

    /**
     * @param threads that work, if the memory suffices for so many; 0 for one per processor
     * @param memory of chunks, and of buffers for files, in bytes
     */
    Conveyor(int threads, long memory, Taker taker) {
        int working = threads == 0 ? Runtime.getRuntime().availableProcessors() : threads;
        // As many more at both ends, so that work goes on while a disk, or a chunk that others wait for, takes its time.
        most = (int) Math.clamp(memory / SHARE / Piece.MEMORY, 2, 3L * working + 2);
        this.threads = Executors.newFixedThreadPool(Math.min(working, most), Thread.ofPlatform().daemon().name("tensorpress-chunk-", 0).factory());
        taken = taking.submit(() -> take(taker));
    }

    /** A chunk to fill. */
    Piece next() throws IOException {
        Piece piece = free.poll();
        if (piece == null && all.size() < most) {
            piece = new Piece();
            all.add(piece);
        }
        try {
            piece = piece == null ? free.take() : piece;
        } catch (InterruptedException e) {
            throw Buffers.interrupted();
        }
        check();
        return piece;
    }

    /** Has something done to the chunk that {@link #next} gave. */
    void start(Piece piece, Callable<?> work) {
        busy.add(new Busy(piece, threads.submit(work)));
    }

    /** Waits until all of them are taken. */
    void finish() throws IOException {
        busy.add(END);
        try {
            taken.get();
        } catch (InterruptedException e) {
            throw Buffers.interrupted();
        } catch (ExecutionException e) {
            throw new IllegalStateException(e.getCause());
        }
        check();
    }

    private void check() throws IOException {
        switch (failure) {
            case null -> { }
            case IOException e -> throw e;
            case RuntimeException e -> throw e;
            case Error e -> throw e;
            default -> throw new IllegalStateException(failure);
        }
    }

    private Void take(Taker taker) throws InterruptedException {
        for (Busy b; (b = busy.take()) != END;) {
            try {
                if (failure == null && !closed) {
                    b.work.get();
                    taker.take(b.piece);
                }
            } catch (ExecutionException e) {
                failure = e.getCause();
            } catch (IOException | RuntimeException | Error e) {
                failure = e;
            } finally {
                free.add(b.piece);
            }
        }
        return null;
    }

    /** Waits for what still works; what is not begun never will be. */
    @Override
    public void close() {
        closed = true;
        busy.add(END);
        taking.shutdownNow();
        threads.shutdownNow();
        taking.close();
        threads.close();
        for (Piece p : all) {
            p.close();
        }
    }
}
