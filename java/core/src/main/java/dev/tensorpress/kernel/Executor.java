package dev.tensorpress.kernel;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Where kernels run and where their memory is: it has the threads that lines are spread over, each thread's scratch, and the arenas
 * whose memory all of them reach; {@link #on} a device it has that too. Kernel classes take one, and know nothing else of what they run on. Several threads may use one at
 * a time. Close it when done.
 */
public interface Executor extends AutoCloseable {
    /** More than any machine has use for; each is a thread of the system, with buffers of its own. */
    int MOST_THREADS = 1024;

    /** Elements that are worth a range of their own, some ten microseconds of a kernel that reads them once. */
    long WORTH = 1 << 16;

    /**
     * One of the threads of a {@link #run}.
     *
     * @param index from 0 to {@link #threads} - 1, another one for each
     */
    record Worker(int index, MemorySegment scratch) {}

    /** Work on lines {@code [begin, end)}; {@code worker} is one thread's alone until the run is over. */
    @FunctionalInterface
    interface Task {
        void run(long begin, long end, Worker worker);
    }

    /**
     * Threads of this process, the caller's being one of them.
     *
     * @param threads at most {@link #MOST_THREADS}; 0 for one per processor
     */
    static Executor cpu(int threads) {
        return new CpuExecutor(threads);
    }

    /**
     * Kernels run on the device, those that it has none of on threads of this process.
     *
     * @param threads as above
     * @throws DeviceException if the device cannot be used, with the reason
     */
    static Executor on(Device device, int threads) {
        return device.equals(Device.CPU) ? cpu(threads) : new CudaExecutor(device, threads, 0);
    }

    /** @throws IllegalArgumentException if there cannot be so many */
    static void checkThreads(int threads) {
        if (threads < 0 || threads > MOST_THREADS) {
            throw new IllegalArgumentException("threads must be from 0 to " + MOST_THREADS + ", but is " + threads);
        }
    }

    /** How many lines of so many elements are worth a range of their own; at least one. */
    static long worth(long lineElements) {
        return Math.max(1, WORTH / Math.max(1, lineElements));
    }

    /** What kernels run on. */
    default Device device() {
        return Device.CPU;
    }

    /** Number of threads, the caller's included. */
    int threads();

    /**
     * Runs the task over {@code [0, lines)} in ranges that begin at multiples of {@code granule}, and returns when all
     * are done. Which thread gets which range is not determined.
     *
     * @param minimum lines that are worth a range of their own
     * @param scratch bytes that each worker has for itself, 64-byte aligned, their contents left over; {@code NULL} if 0
     * @throws IllegalStateException if it is closed
     * @throws java.io.UncheckedIOException if this thread is interrupted, before the task or between ranges; it stays so
     */
    void run(long lines, long granule, long minimum, long scratch, Task task);

    /** The same without scratch. */
    default void run(long lines, long granule, long minimum, Task task) {
        run(lines, granule, minimum, 0, task);
    }

    /**
     * What the work that follows is about, for profilers.
     *
     * @param name of a weight; empty for nothing in particular, as at the beginning
     */
    default void subject(String name) {}

    /** What the work is about. */
    default String subject() {
        return "";
    }

    /** A new arena with memory that tasks may use on any thread. Whoever asked closes it. */
    Arena arena();

    @Override
    void close();
}
