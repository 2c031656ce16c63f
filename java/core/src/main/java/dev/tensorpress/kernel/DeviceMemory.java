package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.ADDRESS;

import dev.tensorpress.bindings.DeviceHandles;
import dev.tensorpress.bindings.Kernels;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Map;
import java.util.NavigableMap;
import java.util.concurrent.ConcurrentSkipListMap;

/**
 * Memory of a device, so that what several kernels work on is copied once. Kernel classes take its {@link #segment} for a matrix
 * wherever they run on the device; who gives it to others is told so. It is freed by {@link #close}, and with its executor. Thread-safe.
 */
public final class DeviceMemory implements AutoCloseable {
    /** By address, as long as they are open. */
    private static final NavigableMap<Long, DeviceMemory> ALL = new ConcurrentSkipListMap<>();
    /** Zeros that are copied at a time. */
    private static final long ZEROS = 1 << 20;

    private final CudaExecutor owner;
    private final long bytes;
    private final Arena arena = Arena.ofShared();
    private final MemorySegment segment;

    /**
     * Allocates memory, with unspecified contents.
     *
     * @param executor on the device
     * @throws IllegalArgumentException if the executor is on the processor, or bytes are negative
     * @throws DeviceException if it does not fit
     */
    public static DeviceMemory allocate(long bytes, Executor executor) {
        if (bytes < 0) {
            throw new IllegalArgumentException("bytes must not be negative, but are " + bytes);
        }
        if (executor instanceof CudaExecutor cuda) {
            return new DeviceMemory(cuda, bytes);
        }
        throw new IllegalArgumentException(executor.device() + " has no device memory: use an arena");
    }

    private DeviceMemory(CudaExecutor owner, long bytes) {
        this.owner = owner;
        this.bytes = bytes;
        try (Arena confined = Arena.ofConfined()) {
            MemorySegment out = confined.allocate(ADDRESS);
            owner.call("tp_cuda_allocate", cuda -> {
                int status = Kernels.tp_cuda_allocate(cuda, bytes, out);
                if (status == 0) {
                    owner.add(this);
                }
                return status;
            });
            segment = DeviceHandles.of(out.get(ADDRESS, 0), arena);
        }
        ALL.put(segment.address(), this);
    }

    /** What kernels take for all of this memory. It has no bytes that Java could read, whatever {@link #bytes} says. */
    public MemorySegment segment() {
        return segment;
    }

    /** The same from this byte on. */
    MemorySegment at(long offset) {
        return DeviceHandles.of(MemorySegment.ofAddress(segment.address() + offset), arena);
    }

    /** Size on the device. */
    public long bytes() {
        return bytes;
    }

    /** Copies the bytes of {@code from}, which is off-heap and no longer than this, to the beginning of this memory. */
    public void upload(MemorySegment from) {
        Native.input("from", from, 0, null);
        checkLength("from", from);
        owner.call("tp_cuda_copy", cuda -> Kernels.tp_cuda_copy(cuda, segment, from, from.byteSize()));
    }

    /** Copies as many bytes as this memory has, from memory that was found to be right, of the process or of this device. */
    void copy(MemorySegment from) {
        owner.call("tp_cuda_copy", cuda -> Kernels.tp_cuda_copy(cuda, segment, from, bytes));
    }

    /** Makes bytes zero, from this address on. */
    void clear(MemorySegment from, long count) {
        try (Arena own = Arena.ofConfined()) {
            MemorySegment zeros = own.allocate(Math.min(count, ZEROS));
            for (long at = 0; at < count; at += ZEROS) {
                MemorySegment to = Native.from(from, at);
                long n = Math.min(ZEROS, count - at);
                owner.call("tp_cuda_copy", cuda -> Kernels.tp_cuda_copy(cuda, to, zeros, n));
            }
        }
    }

    /** Copies from the beginning of this memory as many bytes as {@code to} has, which is off-heap and no longer than this. */
    public void download(MemorySegment to) {
        Native.output("to", to, 0, null);
        checkLength("to", to);
        owner.call("tp_cuda_copy", cuda -> Kernels.tp_cuda_copy(cuda, to, segment, to.byteSize()));
    }

    private void checkLength(String name, MemorySegment host) {
        if (host.byteSize() > bytes) {
            throw new IllegalArgumentException(name + " has " + host.byteSize() + " bytes, but the device memory has " + bytes);
        }
    }

    /** The memory that this segment, which has no bytes, is in; null if it is none of a device. */
    static DeviceMemory of(MemorySegment segment) {
        Map.Entry<Long, DeviceMemory> last = segment.byteSize() == 0 ? ALL.floorEntry(segment.address()) : null;
        return last == null || segment.address() - last.getKey() > last.getValue().bytes ? null : last.getValue();
    }

    /** As {@link Native#input} does with memory of the process, from this address on. */
    void check(String name, MemorySegment from, long needed, Executor executor) {
        if (executor != owner) {
            throw new IllegalArgumentException(name + " is memory of " + owner.device() + ", which this call does not run on"
                    + (executor instanceof CudaExecutor ? ": it is another executor's" : ""));
        }
        long left = bytes - (from.address() - segment.address());
        if (needed > left) {
            throw new IllegalArgumentException(name + " needs " + needed + " bytes, but has " + left + " on " + owner.device());
        }
    }

    /** Frees it, after the call that goes on. */
    @Override
    public void close() {
        owner.alone(() -> {
            if (arena.scope().isAlive()) {
                ALL.remove(segment.address());
                arena.close();
                owner.free(this, MemorySegment.ofAddress(segment.address()));
            }
        });
    }
}
