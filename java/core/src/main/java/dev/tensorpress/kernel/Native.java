package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.kernel.Executor.Worker;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.function.IntSupplier;
import jdk.jfr.FlightRecorder;

/**
 * Every native call goes through here: whether memory may be read or written, whether sizes can be, which number stands for a type,
 * whether the kernel was content, and what it handed out. Once per call; native code believes what it is told, and what is wrong ends
 * the JVM there.
 */
final class Native {
    /** A kernel over lines {@code [begin, end)}; returns its {@code tp_status}. */
    @FunctionalInterface
    interface Lines {
        int call(long begin, long end, Worker worker);
    }

    /** The same kernel on a CUDA device, for all of the lines; returns its {@code tp_status}. */
    @FunctionalInterface
    interface OnCuda {
        int call(MemorySegment cuda, long begin, long end);
    }

    /**
     * What a call does by its shape, for profilers: each operand is read or written once, however often the kernel looks at it.
     *
     * @param read bytes
     * @param written bytes
     * @param operations two for each multiplication of a product and its addition, or as many as the literature counts; 0 where memory is
     *     what limits
     */
    record Cost(long read, long written, long operations) {
        static Cost of(long read, long written) {
            return new Cost(read, written, 0);
        }
    }

    /** A function that writes to {@code out}; returns its {@code tp_status}. */
    @FunctionalInterface
    interface Results {
        int call(MemorySegment out);
    }

    /** Rows, columns, and elements from the first to the last of a matrix stay below this, so that no number of bytes overflows. */
    private static final long LARGEST = 1L << 56;
    /** Stands for any thread but the caller's. */
    private static final Thread ANOTHER = new Thread("tensorpress-never-started");

    private Native() {}

    /**
     * Memory that a kernel reads: off-heap, open, and to the threads of the executor too; or of the executor's device.
     *
     * @param executor that the kernel runs on, or null if it runs on the caller's thread alone; for what never runs on a device that of
     *     {@link #host}
     */
    static void input(String name, MemorySegment segment, long bytes, Executor executor) {
        if (segment == null) {
            throw new IllegalArgumentException(name + " must not be null; MemorySegment.NULL stands for none where there may be none");
        }
        if (!segment.isNative()) {
            throw new IllegalArgumentException(name + " must be off-heap");
        }
        if (!segment.scope().isAlive()) {
            throw new IllegalStateException("the arena of " + name + " is closed");
        }
        if (segment.byteSize() < bytes) {
            DeviceMemory device = DeviceMemory.of(segment);
            if (device == null) {
                throw new IllegalArgumentException(name + " needs " + bytes + " bytes, but has " + segment.byteSize());
            }
            device.check(name, segment, bytes, executor);
        }
        if (!segment.isAccessibleBy(Thread.currentThread())
                || executor != null && executor.threads() > 1 && !segment.isAccessibleBy(ANOTHER)) {
            throw new IllegalArgumentException(name + " belongs to an arena that is confined to one thread, but "
                    + (executor == null || executor.threads() == 1 ? "this is another one" : "several threads work on it")
                    + ": use a shared arena");
        }
    }

    /** Memory that a kernel writes: as above, and not read-only. */
    static void output(String name, MemorySegment segment, long bytes, Executor executor) {
        input(name, segment, bytes, executor);
        if (segment.isReadOnly()) {
            throw new IllegalArgumentException(name + " is written, but is read-only");
        }
    }

    /** Makes the first bytes zero, of memory that was found to be right. */
    static void clear(MemorySegment segment, long bytes) {
        DeviceMemory device = DeviceMemory.of(segment);
        if (device == null) {
            segment.asSlice(0, bytes).fill((byte) 0);
        } else {
            device.clear(segment, bytes);
        }
    }

    /** The memory from this byte on, of the process or of a device. */
    static MemorySegment from(MemorySegment segment, long offset) {
        DeviceMemory device = DeviceMemory.of(segment);
        return device == null ? segment.asSlice(offset) : device.at(segment.address() - device.segment().address() + offset);
    }

    /** What is written while the other one is read. */
    static void apart(String name, MemorySegment segment, String otherName, MemorySegment other) {
        boolean same = segment.address() == other.address() && DeviceMemory.of(segment) != null;
        if (same || segment.asOverlappingSlice(other).isPresent()) {
            throw new IllegalArgumentException(name + " must not overlap " + otherName);
        }
    }

    /** Whatever is not said to start at any byte. */
    static void aligned(String name, MemorySegment segment, long bytes) {
        if (segment.address() % bytes != 0) {
            throw new IllegalArgumentException(name + " must be aligned to " + bytes + " bytes");
        }
    }

    /** A matrix that a kernel reads, aligned to its elements. */
    static void operand(String name, MemorySegment segment, DType type, long rows, long cols, long stride, Executor executor) {
        input(name, segment, bytes(name, type, rows, cols, stride), executor);
        aligned(name, segment, type.bytes(1));
    }

    /** A matrix that a kernel writes, aligned to its elements. */
    static void result(String name, MemorySegment segment, DType type, long rows, long cols, long stride, Executor executor) {
        output(name, segment, bytes(name, type, rows, cols, stride), executor);
        aligned(name, segment, type.bytes(1));
    }

    /** Elements of a matrix from its first to its last. */
    static long elements(String name, long rows, long cols, long stride) {
        if (rows < 0 || cols < 0 || stride < cols) {
            throw new IllegalArgumentException(name + " cannot have " + rows + " rows of " + cols + " elements, with " + stride
                    + " elements from row to row");
        }
        if (rows >= LARGEST || cols >= LARGEST || rows > 1 && cols > 0 && stride >= LARGEST / rows) {
            throw new IllegalArgumentException(name + " would have too many elements: " + rows + " rows, " + stride
                    + " elements from row to row");
        }
        return rows == 0 || cols == 0 ? 0 : (rows - 1) * stride + cols;
    }

    /** Bytes of a matrix from its first element to its last. */
    static long bytes(String name, DType type, long rows, long cols, long stride) {
        return type.bytes(elements(name, rows, cols, stride));
    }

    /** The {@code tp_dtype} of a type. */
    static int id(DType type) {
        return switch (type) {
            case F32 -> Kernels.TP_F32();
            case F16 -> Kernels.TP_F16();
            case BF16 -> Kernels.TP_BF16();
            case I8 -> Kernels.TP_I8();
            case U8 -> Kernels.TP_U8();
            case I4 -> Kernels.TP_I4();
            case U4 -> Kernels.TP_U4();
            case F64 -> Kernels.TP_F64();
            default -> throw new IllegalArgumentException("no kernel reads " + type);
        };
    }

    /** Which types there may be. */
    static void oneOf(String name, DType type, DType... types) {
        if (!List.of(types).contains(type)) {
            throw new IllegalArgumentException(name + " must be one of " + List.of(types) + ", but is " + type);
        }
    }

    /** Memory for a struct, which several threads read and the garbage collector frees. */
    static MemorySegment struct(MemoryLayout layout) {
        return Arena.ofAuto().allocate(layout);
    }

    /** @throws KernelException if the kernel was not content */
    static void check(String kernel, int status) {
        if (status != 0) {
            throw new KernelException(kernel, status, Kernels.tp_status_name(status).getString(0));
        }
    }

    /**
     * False if the kernel refused with this status.
     *
     * @throws KernelException if it refused with another one
     */
    static boolean check(String kernel, int status, int refusal) {
        if (status == refusal) {
            return false;
        }
        check(kernel, status);
        return true;
    }

    /** Runs a kernel over {@code [0, lines)}: {@link Executor#run}. */
    static void run(String kernel, Executor executor, long lines, long granule, long minimum, long scratch, Cost cost, Lines call) {
        run(kernel, executor, lines, granule, minimum, scratch, cost, call, null);
    }

    /** The same without scratch. */
    static void run(String kernel, Executor executor, long lines, long granule, long minimum, Cost cost, Lines call) {
        run(kernel, executor, lines, granule, minimum, 0, cost, call, null);
    }

    /** Without scratch, and on the executor's device. */
    static void run(String kernel, Executor executor, long lines, long granule, long minimum, Cost cost, Lines call, OnCuda onCuda) {
        run(kernel, executor, lines, granule, minimum, 0, cost, call, onCuda);
    }

    /**
     * Runs a kernel where the executor is: on its threads, or if it has a device, on that.
     *
     * @param scratch that a thread needs; a device has its own
     * @param onCuda null if there is none
     */
    static void run(String kernel, Executor executor, long lines, long granule, long minimum, long scratch, Cost cost, Lines call,
            OnCuda onCuda) {
        KernelEvent event = begin();
        if (onCuda == null || !onDevice(executor)) {
            executor.run(lines, granule, minimum, scratch, (begin, end, worker) -> check(kernel, call.call(begin, end, worker)));
            if (event != null) {
                event.record(kernel, executor, lines, cost);
            }
            return;
        }
        CudaExecutor device = (CudaExecutor) executor;
        long nanos = lines <= 0 ? 0 : device.call(kernel, cuda -> onCuda.call(cuda, 0, lines), event != null);
        if (event != null) {
            event.record(kernel, device, nanos, lines, cost);
        }
    }

    /**
     * Runs a kernel on the caller's thread alone.
     *
     * @param executor that knows what the call is about, or null
     */
    static void call(String kernel, Executor executor, long lines, Cost cost, IntSupplier call) {
        KernelEvent event = begin();
        check(kernel, call.getAsInt());
        if (event != null) {
            event.record(kernel, executor, lines, cost);
        }
    }

    /** Null unless Flight Recorder runs: loading the event's class is what start-up would notice. */
    private static KernelEvent begin() {
        return FlightRecorder.isInitialized() ? KernelEvent.started() : null;
    }

    /** Whether kernels that a device has run there. To ask for its class would load that. */
    static boolean onDevice(Executor executor) {
        return executor.device().kind() == Device.Kind.CUDA;
    }

    /**
     * What a kernel runs on that reads each element once and does so little with it that no copy to a device pays: the device if one of the
     * matrices lies there already, else the threads.
     */
    static Executor near(Executor executor, MemorySegment... matrices) {
        for (MemorySegment matrix : matrices) {
            if (DeviceMemory.of(matrix) != null) {
                return executor;
            }
        }
        return host(executor);
    }

    /** The threads of an executor, without its device. */
    static Executor host(Executor executor) {
        return onDevice(executor) ? ((CudaExecutor) executor).cpu() : executor;
    }

    /** The {@code n} numbers of 64 bits that a function hands out. */
    static long[] longs(String kernel, int n, Results call) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(JAVA_LONG, n);
            check(kernel, call.call(out));
            return out.toArray(JAVA_LONG);
        }
    }

    /** The number of 64 bits that a function hands out, such as the bytes of scratch that a kernel needs. */
    static long size(String kernel, Results call) {
        return longs(kernel, 1, call)[0];
    }
}
