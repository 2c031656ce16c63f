package dev.tensorpress.kernel;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;

/**
 * What every kernel class asks around a native call, once per call: whether memory may be read or written, whether sizes can be,
 * whether the kernel was content. Native code believes what it is told; what is wrong here ends the JVM there.
 */
final class Native {
    /** Rows, columns, and elements from the first to the last of a matrix stay below this, so that no number of bytes overflows. */
    private static final long LARGEST = 1L << 56;
    /** Stands for any thread but the caller's. */
    private static final Thread ANOTHER = new Thread("tensorpress-never-started");

    private Native() {}

    /**
     * Memory that a kernel reads: off-heap, open, and to the threads of the executor too.
     *
     * @param executor that the kernel runs on, or null if it runs on the caller's thread alone
     */
    static void input(String name, MemorySegment segment, long bytes, Executor executor) {
        if (segment == null) {
            throw new IllegalArgumentException(name + " must not be null; MemorySegment.NULL stands for none where there may be none");
        }
        if (!segment.isNative()) {
            throw new IllegalArgumentException(name + " must be off-heap");
        }
        if (segment.byteSize() < bytes) {
            throw new IllegalArgumentException(name + " needs " + bytes + " bytes, but has " + segment.byteSize());
        }
        if (!segment.scope().isAlive()) {
            throw new IllegalStateException("the arena of " + name + " is closed");
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

    /** Whatever is not said to start at any byte. */
    static void aligned(String name, MemorySegment segment, long bytes) {
        if (segment.address() % bytes != 0) {
            throw new IllegalArgumentException(name + " must be aligned to " + bytes + " bytes");
        }
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

    /** @throws KernelException if the kernel was not content */
    static void check(String kernel, int status) {
        if (status != 0) {
            throw new KernelException(kernel, status, Kernels.tp_status_name(status).getString(0));
        }
    }
}
