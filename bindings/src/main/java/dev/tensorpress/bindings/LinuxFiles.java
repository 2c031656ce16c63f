package dev.tensorpress.bindings;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;

/** Calls of Linux about files that Java has no names for. Results and arguments are those of the C functions. */
public final class LinuxFiles {
    public static final int O_WRONLY = 1;
    public static final int O_DIRECT = 0x4000;
    public static final int O_CLOEXEC = 0x80000;
    public static final int POSIX_FADV_DONTNEED = 4;
    public static final int SYNC_FILE_RANGE_WAIT_BEFORE = 1;
    public static final int SYNC_FILE_RANGE_WRITE = 2;
    public static final int SYNC_FILE_RANGE_WAIT_AFTER = 4;

    private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT;
    private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG;
    private static final MethodHandle OPEN = find("open", FunctionDescriptor.of(INT, ValueLayout.ADDRESS, INT),
            Linker.Option.firstVariadicArg(2));
    private static final MethodHandle CLOSE = find("close", FunctionDescriptor.of(INT, INT));
    private static final MethodHandle FADVISE = find("posix_fadvise", FunctionDescriptor.of(INT, INT, LONG, LONG, INT));
    private static final FunctionDescriptor MOVE = FunctionDescriptor.of(LONG, INT, ValueLayout.ADDRESS, LONG, LONG);
    private static final MethodHandle READ = find("pread", MOVE);
    private static final MethodHandle WRITE = find("pwrite", MOVE);
    private static final MethodHandle SYNC = find("sync_file_range", FunctionDescriptor.of(INT, INT, LONG, LONG, INT));

    private LinuxFiles() {
    }

    @SuppressWarnings("restricted")
    private static MethodHandle find(String name, FunctionDescriptor function, Linker.Option... options) {
        Linker linker = Linker.nativeLinker();
        return linker.downcallHandle(linker.defaultLookup().findOrThrow(name), function, options);
    }

    /** @param path bytes of the name, without the zero at its end */
    public static int open(byte[] path, int flags) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment p = arena.allocate(path.length + 1);
            MemorySegment.copy(path, 0, p, ValueLayout.JAVA_BYTE, 0, path.length);
            return (int) OPEN.invokeExact(p, flags);
        } catch (Throwable t) {
            throw new AssertionError(t); // C functions throw nothing
        }
    }

    public static int close(int descriptor) {
        try {
            return (int) CLOSE.invokeExact(descriptor);
        } catch (Throwable t) {
            throw new AssertionError(t);
        }
    }

    public static long pread(int descriptor, MemorySegment to, long at) {
        try {
            return (long) READ.invokeExact(descriptor, to, to.byteSize(), at);
        } catch (Throwable t) {
            throw new AssertionError(t);
        }
    }

    public static long pwrite(int descriptor, MemorySegment from, long at) {
        try {
            return (long) WRITE.invokeExact(descriptor, from, from.byteSize(), at);
        } catch (Throwable t) {
            throw new AssertionError(t);
        }
    }

    public static int posixFadvise(int descriptor, long start, long length, int advice) {
        try {
            return (int) FADVISE.invokeExact(descriptor, start, length, advice);
        } catch (Throwable t) {
            throw new AssertionError(t);
        }
    }

    public static int syncFileRange(int descriptor, long start, long length, int flags) {
        try {
            return (int) SYNC.invokeExact(descriptor, start, length, flags);
        } catch (Throwable t) {
            throw new AssertionError(t);
        }
    }
}
