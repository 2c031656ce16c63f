package dev.tensorpress.kernel;

import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
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
import java.util.concurrent.atomic.AtomicReference;

/**
 * {@link Executor#cpu}. A thread that has nothing to do stays awake for a twentieth of a millisecond, so that algorithms of many short
 * steps do not wait for it to wake up; where there are more threads than processors it sleeps at once.
 */
final class CpuExecutor implements Executor {
    /** Pieces per thread: enough that a thread that was held up does not hold up the others. */
    private static final int PIECES = 8;
    /** Nanoseconds, about what waking up takes. Longer, or giving way meanwhile, costs more on a busy machine than it saves. */
    private static final long AWAKE = 50_000;
    private static final long ALIGNMENT = 64;

    /** Scratch of all workers of a run. */
    private record Block(Arena arena, MemorySegment memory) {}

    private final int threads;
    private final boolean awake;
    private final ExecutorService pool;
    /** The block of the last run, for the next one; null while a run has it. */
    private final AtomicReference<Block> idle = new AtomicReference<>();
    private volatile boolean closed;
    private volatile String subject = "";

    CpuExecutor(int threads) {
        Executor.checkThreads(threads);
        this.threads = threads == 0 ? Runtime.getRuntime().availableProcessors() : threads;
        this.awake = this.threads <= Runtime.getRuntime().availableProcessors();
        this.pool = this.threads == 1 ? null : new ThreadPoolExecutor(this.threads - 1, this.threads - 1, 0, TimeUnit.SECONDS,
                awake ? new AwakeQueue() : new LinkedBlockingQueue<>(), run -> {
                    Thread t = new Thread(run, "tensorpress-worker");
                    t.setDaemon(true);
                    return t;
                });
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

    @Override
    public int threads() {
        return threads;
    }

    @Override
    public void subject(String name) {
        subject = name;
    }

    @Override
    public String subject() {
        return subject;
    }

    @Override
    public Arena arena() {
        return Arena.ofShared();
    }

    @Override
    public void run(long lines, long granule, long minimum, long scratch, Task task) {
        if (closed) {
            throw new IllegalStateException("this executor is closed");
        }
        checkInterrupted();
        if (lines <= 0) {
            return;
        }
        if (scratch == 0) {
            spread(lines, granule, minimum, MemorySegment.NULL, 0, task);
            return;
        }
        long share = Math.ceilDiv(scratch, ALIGNMENT) * ALIGNMENT;
        Block block = take(Math.multiplyExact(share, threads));
        try {
            spread(lines, granule, minimum, block.memory, share, task);
        } finally {
            give(block);
        }
    }

    private Block take(long bytes) {
        Block block = idle.getAndSet(null);
        if (block != null && block.memory.byteSize() >= bytes) {
            return block;
        }
        discard(block);
        Arena arena = arena();
        return new Block(arena, arena.allocate(bytes, ALIGNMENT));
    }

    /** Keeps a block for the next run. */
    private void give(Block block) {
        discard(idle.getAndSet(block));
        if (closed) {
            discard(idle.getAndSet(null));
        }
    }

    private static void discard(Block block) {
        if (block != null) {
            block.arena.close();
        }
    }

    private void spread(long lines, long granule, long minimum, MemorySegment scratch, long share, Task task) {
        long even = Math.ceilDiv(lines, (long) threads * PIECES);
        long wanted = Math.max(Math.max(even, minimum), 1);
        long piece = wanted > Long.MAX_VALUE - granule ? lines : (wanted + granule - 1) / granule * granule;
        if (threads == 1 || piece >= lines) {
            task.run(0, lines, worker(0, scratch, share));
            return;
        }
        long pieces = Math.ceilDiv(lines, piece);
        AtomicLong next = new AtomicLong();
        AtomicIntegerArray begun = new AtomicIntegerArray(threads);
        List<Future<?>> others = new ArrayList<>(threads - 1);
        Throwable failed = null;
        try {
            for (int w = 1; w < threads; w++) {
                Worker worker = worker(w, scratch, share);
                others.add(pool.submit(() -> {
                    if (begun.compareAndSet(worker.index(), 0, 1)) {
                        drain(next, pieces, lines, piece, task, worker);
                    }
                }));
            }
            drain(next, pieces, lines, piece, task, worker(0, scratch, share));
        } catch (RejectedExecutionException e) {
            next.set(pieces);
            failed = new IllegalStateException("this executor was closed during the work", e);
        } catch (Throwable e) {
            next.set(pieces);
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

    private static Worker worker(int index, MemorySegment scratch, long share) {
        return new Worker(index, share == 0 ? scratch : scratch.asSlice(index * share, share));
    }

    private static void drain(AtomicLong next, long pieces, long lines, long piece, Task task, Worker worker) {
        try {
            for (long number; (number = next.getAndIncrement()) < pieces; ) {
                long begin = number * piece;
                if (worker.index() == 0) {
                    checkInterrupted();
                }
                task.run(begin, begin + Math.min(piece, lines - begin), worker);
            }
        } catch (Throwable t) {
            next.set(pieces); // the others need not go on
            throw t;
        }
    }

    /** Algorithms of many kernels take minutes: here they end when they are told to. */
    private static void checkInterrupted() {
        if (Thread.currentThread().isInterrupted()) {
            throw interrupted();
        }
    }

    static UncheckedIOException interrupted() {
        return new UncheckedIOException(new ClosedByInterruptException());
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
        discard(idle.getAndSet(null));
        if (pool != null) {
            pool.shutdown();
        }
    }
}
