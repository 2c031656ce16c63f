package dev.tensorpress.kernel;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * Memory where the kernels of an executor run, for what several of them work on: its device's, if it has one, else the process's. What it
 * gives is gone once it is closed.
 */
final class Place implements AutoCloseable {
    private final Executor executor;
    private final boolean onDevice;
    private final Arena arena;
    private final List<DeviceMemory> memories = new ArrayList<>();

    Place(Executor executor) {
        this.executor = executor;
        onDevice = Native.onDevice(executor);
        arena = executor.arena();
    }

    /** Whether it is a device. */
    boolean onDevice() {
        return onDevice;
    }

    /**
     * Zeros.
     *
     * @throws DeviceException if they do not fit
     */
    MemorySegment allocate(long bytes) {
        if (!onDevice) {
            return arena.allocate(bytes, 64);
        }
        MemorySegment memory = memory(bytes).segment();
        Native.clear(memory, bytes);
        return memory;
    }

    /** What kernels may take for memory of the process that was found to be right, and that does not change: itself, or a copy. */
    MemorySegment of(MemorySegment host) {
        if (!onDevice || host.byteSize() == 0) {
            return host;
        }
        DeviceMemory memory = memory(host.byteSize());
        memory.upload(host);
        return memory.segment();
    }

    /** As much of this as {@code host} has, to there, unless that is what it is. */
    void fetch(MemorySegment from, MemorySegment host) {
        if (onDevice) {
            DeviceMemory.of(from).download(host);
        }
    }

    /** The bytes as memory of the process: itself, or a copy. */
    MemorySegment fetched(MemorySegment from, long bytes) {
        if (!onDevice) {
            return from;
        }
        MemorySegment host = arena.allocate(bytes, 64);
        fetch(from, host);
        return host;
    }

    private DeviceMemory memory(long bytes) {
        DeviceMemory memory = DeviceMemory.allocate(bytes, executor);
        memories.add(memory);
        return memory;
    }

    @Override
    public void close() {
        memories.forEach(DeviceMemory::close);
        arena.close();
    }
}
