package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.ADDRESS;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_cuda_times;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.locks.ReentrantLock;

/**
 * {@link Executor#on} a CUDA device. What has a kernel there runs on it, one call at a time, all lines at once; everything else runs on
 * threads of the processor.
 */
final class CudaExecutor implements Executor {
    /** Of the device; returns its {@code tp_status}. */
    @FunctionalInterface
    interface Call {
        int call(MemorySegment cuda);
    }

    private final Executor cpu;
    private final Device device;
    /** The {@code tp_cuda}. */
    private final MemorySegment cuda;
    /** Held during each call. */
    private final ReentrantLock lock = new ReentrantLock();
    private final Set<DeviceMemory> memories = new HashSet<>();
    private boolean closed;
    /** Whose range has begun, or null. */
    private volatile Thread ranged;

    /** @param budget bytes of the device's memory at most; 0 for nine tenths of what is free */
    CudaExecutor(Device device, int threads, long budget) {
        Executor.checkThreads(threads);
        this.device = device;
        this.cuda = open(device, budget);
        this.cpu = Executor.cpu(threads);
    }

    private static MemorySegment open(Device device, long budget) {
        String unusable = Cuda.unusable(device.index());
        if (unusable.isEmpty()) {
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment out = arena.allocate(ADDRESS);
                int status = Kernels.tp_cuda_open(device.index(), budget, out);
                if (status == 0) {
                    return out.get(ADDRESS, 0);
                }
                if (!DeviceException.is(status)) {
                    Native.check("tp_cuda_open", status);
                }
                unusable = Cuda.message(MemorySegment.NULL);
            }
        }
        throw new DeviceException(device + " cannot be used: " + unusable, DeviceException.FAILED);
    }

    @Override
    public Device device() {
        return device;
    }

    /** The threads of the processor. */
    Executor cpu() {
        return cpu;
    }

    /** {@link #call(String, Call, boolean)} without a clock. */
    void call(String kernel, Call call) {
        call(kernel, call, false);
    }

    /**
     * Runs a kernel, or another function, on the device, after those of other threads.
     *
     * @param timed for a kernel
     * @return nanoseconds in which the device computed, if they are timed
     * @throws DeviceException if the device failed
     * @throws KernelException if the function was not content with its arguments
     */
    long call(String kernel, Call call, boolean timed) {
        try {
            lock.lockInterruptibly();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw CpuExecutor.interrupted();
        }
        try {
            if (closed) {
                throw new IllegalStateException("this executor is closed");
            }
            if (timed) {
                Native.check("tp_cuda_timing", Kernels.tp_cuda_timing(cuda, 1));
            }
            check(kernel, call.call(cuda));
            return timed ? time() : 0;
        } finally {
            lock.unlock();
        }
    }

    private void check(String kernel, int status) {
        if (DeviceException.is(status)) {
            throw new DeviceException(kernel + " on " + device + ": " + what(status) + ": " + Cuda.message(cuda), status);
        }
        Native.check(kernel, status);
    }

    /** Of the last call, and no more. */
    private long time() {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment times = tp_cuda_times.allocate(arena);
            Native.check("tp_cuda_last", Kernels.tp_cuda_last(cuda, times));
            Native.check("tp_cuda_timing", Kernels.tp_cuda_timing(cuda, 0));
            return (long) (tp_cuda_times.kernel_seconds(times) * 1e9);
        }
    }

    private static String what(int status) {
        return switch (status) {
            case DeviceException.MEMORY -> "too little device memory";
            case DeviceException.LOST -> "the device is lost";
            default -> "CUDA failed";
        };
    }

    /** The memory is freed with this executor. */
    void add(DeviceMemory memory) {
        memories.add(memory);
    }

    /** Runs while no call does. */
    void alone(Runnable work) {
        lock.lock();
        try {
            work.run();
        } finally {
            lock.unlock();
        }
    }

    /** Gives memory of the device back; all of it is gone already once this is closed. */
    void free(DeviceMemory memory, MemorySegment address) {
        memories.remove(memory);
        if (!closed) {
            Native.check("tp_cuda_free", Kernels.tp_cuda_free(cuda, address));
        }
    }

    @Override
    public int threads() {
        return cpu.threads();
    }

    @Override
    public void run(long lines, long granule, long minimum, long scratch, Task task) {
        cpu.run(lines, granule, minimum, scratch, task);
    }

    /** A profiler that reads NVTX is told as well. */
    @Override
    public void subject(String name) {
        endRange();
        cpu.subject(name);
        if (!name.isEmpty()) {
            try (Arena arena = Arena.ofConfined()) {
                Kernels.tp_cuda_range(arena.allocateFrom(name));
            }
            ranged = Thread.currentThread();
        }
    }

    /** Ranges are a thread's. */
    private void endRange() {
        if (ranged == Thread.currentThread()) {
            Kernels.tp_cuda_range(MemorySegment.NULL);
            ranged = null;
        }
    }

    @Override
    public String subject() {
        return cpu.subject();
    }

    @Override
    public Arena arena() {
        return cpu.arena();
    }

    @Override
    public void close() {
        endRange();
        alone(() -> {
            List.copyOf(memories).forEach(DeviceMemory::close);
            if (!closed) {
                closed = true;
                Kernels.tp_cuda_close(cuda);
            }
        });
        cpu.close();
    }
}
