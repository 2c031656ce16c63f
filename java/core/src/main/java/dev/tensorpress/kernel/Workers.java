package dev.tensorpress.kernel;

import java.io.UncheckedIOException;
import java.nio.channels.ClosedByInterruptException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicIntegerArray;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Threads that kernels spread their lines over. The caller's thread is one of them. Close it when done.
 *
 * <p>A thread that has nothing to do stays awake for a twentieth of a millisecond, so that algorithms of many short steps do
 * not wait for it to wake up; where there are more threads than processors it sleeps at once.
 */
public final class Workers implements AutoCloseable {
    /** More than any machine has use for; each is a thread of the system, with buffers of its own. */
    public static final int MOST_THREADS = 1024;
    /** Pieces per thread: enough that a thread that was held up does not hold up the others. */
    private static final int PIECES = 8;
    /** Nanoseconds, about what waking up takes. Longer, or giving way meanwhile, costs more on a busy machine than it saves. */
    private static final long AWAKE = 50_000;

    private final int threads;
    private final boolean awake;
    private final ExecutorService pool;
    private volatile boolean closed;

    /** Work on lines {@code [begin, end)}; {@code worker} is below {@link #threads} and is one thread's alone. */
    @FunctionalInterface
    public interface Task {
        void run(long begin, long end, int worker);
    }

    /** @param threads at most {@link #MOST_THREADS}; 0 for one per processor */
    public Workers(int threads) {
        checkThreads(threads);
        this.threads = threads == 0 ? Runtime.getRuntime().availableProcessors() : threads;
        this.awake = this.threads <= Runtime.getRuntime().availableProcessors();
        this.pool = this.threads == 1 ? null : new ThreadPoolExecutor(this.threads - 1, this.threads - 1, 0, TimeUnit.SECONDS,
                awake ? new AwakeQueue() : new LinkedBlockingQueue<>(), run -> {
                    Thread t = new Thread(run, "tensorpress-worker");
                    t.setDaemon(true);
                    return t;
                });
    }

    /** @throws IllegalArgumentException if there cannot be so many */
    public static void checkThreads(int threads) {
        if (threads < 0 || threads > MOST_THREADS) {
            throw new IllegalArgumentException("threads must be from 0 to " + MOST_THREADS + ", but is " + threads);
        }
    }

    private static final class AwakeQueue extends LinkedBlockingQueue<Runnable> {
        private static final long serialVersionUID = 1;

        @Override
        public Runnable take() throws InterruptedException {
            long start = System.nanoTime();
            Runnable next = poll();
            while (next == null && System.nanoTime() - start < AWAKE) {
                Thread.onSpinWait();
                next = poll();
            }
            return next != null ? next : super.take();
        }
    }

    /** Number of threads, the caller's included. */
    public int threads() {
        return threads;
    }

    /**
     * Runs the task over {@code [0, lines)} in ranges that begin at multiples of {@code granule}, and returns when all
     * are done. Which thread gets which range is not determined.
     *
     * @param minimum lines that are worth a range of their own
     * @throws IllegalStateException if they are closed
     * @throws UncheckedIOException if this thread is interrupted, before the task or between ranges; it stays so
     */
    public void run(long lines, long granule, long minimum, Task task) {
        if (closed) {
            throw new IllegalStateException("these workers are closed");
        }
        checkInterrupted();
        if (lines <= 0) {
            return;
        }
        long even = (lines + (long) threads * PIECES - 1) / ((long) threads * PIECES);
        long wanted = Math.max(Math.max(even, minimum), 1);
        long piece = wanted > Long.MAX_VALUE - granule ? lines : (wanted + granule - 1) / granule * granule;
        if (threads == 1 || piece >= lines) {
            task.run(0, lines, 0);
            return;
        }
        AtomicLong next = new AtomicLong();
        AtomicIntegerArray begun = new AtomicIntegerArray(threads);
        List<Future<?>> others = new ArrayList<>(threads - 1);
        Throwable failed = null;
        try {
            for (int w = 1; w < threads; w++) {
                int worker = w;
                others.add(pool.submit(() -> {
                    if (begun.compareAndSet(worker, 0, 1)) {
                        drain(next, lines, piece, task, worker);
                    }
                }));
            }
            drain(next, lines, piece, task, 0);
        } catch (RejectedExecutionException e) {
            next.set(lines);
            failed = new IllegalStateException("these workers were closed during the work", e);
        } catch (Throwable e) {
            next.set(lines);
            failed = e;
        } finally {
            // Also after an Error: nobody may touch the caller's memory once this method is left.
            for (int w = 1; w <= others.size(); w++) {
                // A thread that has not begun now never will, so that a busy processor holds nobody up.
                if (!begun.compareAndSet(w, 0, 1)) {
                    failed = join(others.get(w - 1), failed);
                }
            }
        }
        // Tasks throw nothing that is checked.
        if (failed instanceof Error e) {
            throw e;
        }
        if (failed != null) {
            throw (RuntimeException) failed;
        }
    }

    private static void drain(AtomicLong next, long lines, long piece, Task task, int worker) {
        try {
            for (long begin; (begin = next.getAndAdd(piece)) < lines; ) {
                if (worker == 0) {
                    checkInterrupted();
                }
                task.run(begin, Math.min(begin + piece, lines), worker);
            }
        } catch (Throwable t) {
            next.set(lines); // the others need not go on
            throw t;
        }
    }

    /** Algorithms of many kernels take minutes: here they end when they are told to. */
    private static void checkInterrupted() {
        if (Thread.currentThread().isInterrupted()) {
            throw new UncheckedIOException(new ClosedByInterruptException());
        }
    }

    private Throwable join(Future<?> other, Throwable failed) {
        for (long start = System.nanoTime(); awake && !other.isDone() && System.nanoTime() - start < AWAKE; ) {
            Thread.onSpinWait();
        }
        boolean interrupted = false;
        try {
            while (true) {
                try {
                    other.get();
                    return failed;
                } catch (InterruptedException e) {
                    interrupted = true;
                } catch (ExecutionException e) {
                    if (failed == e.getCause()) {
                        return failed; // the JVM has some that are always the same
                    }
                    if (failed != null) {
                        failed.addSuppressed(e.getCause());
                        return failed;
                    }
                    return e.getCause();
                }
            }
        } finally {
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    @Override
    public void close() {
        closed = true;
        if (pool != null) {
            pool.shutdown();
        }
    }
}
