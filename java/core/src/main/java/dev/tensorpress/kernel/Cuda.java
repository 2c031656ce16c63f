package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_cuda_device;
import dev.tensorpress.internal.CudaLibrary;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/** What the library of CUDA kernels sees of this machine. It is loaded by the first call; a machine without CUDA is no error. */
public final class Cuda {
    private static final int MAJOR = 1000;
    private static final int MINOR = 10;

    private Cuda() {}

    /**
     * A device.
     *
     * @param unusable why it cannot be used; empty if it can
     * @param major of its compute capability
     * @param memoryBytes of the device
     * @param freeBytes of these, that nobody uses now
     * @param driver version of CUDA that the driver knows, such as 13.0
     * @param runtime version of CUDA that the kernels were built with
     */
    public record Facts(Device device, String name, String unusable, int major, int minor, int multiprocessors, long memoryBytes,
            long freeBytes, long l2Bytes, String driver, String runtime) {}

    /** Where the library of CUDA kernels was loaded from; throws an {@link UnsatisfiedLinkError} if there is none. */
    public static String library() {
        return CudaLibrary.path();
    }

    /** All devices, also those that cannot be used; empty if there are none, see {@link #none}. */
    public static List<Facts> devices() {
        if (!none().isEmpty()) {
            return List.of();
        }
        List<Facts> devices = new ArrayList<>();
        int count = probe()[0];
        for (int i = 0; i < count; i++) {
            devices.add(facts(i));
        }
        return devices;
    }

    /** Why there is no device at all; empty if there are some. */
    public static String none() {
        try {
            CudaLibrary.path();
        } catch (UnsatisfiedLinkError e) {
            return e.getMessage();
        }
        int[] found = probe();
        return found[0] > 0 ? "" : why(found[1], 0, null);
    }

    /** Why a device cannot be used; empty if it can. */
    static String unusable(int index) {
        String none = none();
        return none.isEmpty() ? facts(index).unusable : none;
    }

    /**
     * What no kernel of a device can pass.
     *
     * @param copy bytes per second, read and written, of a copy within its memory
     * @param int8 operations per second of int8 products on its tensor cores, two for each multiplication and its addition
     */
    public record Ceilings(double copy, double int8) {}

    /**
     * Measures them on the executor's device, in some tenths of a second.
     *
     * @throws IllegalArgumentException if it has none
     * @throws DeviceException if the device fails
     */
    public static Ceilings ceilings(Executor executor) {
        if (!(executor instanceof CudaExecutor device)) {
            throw new IllegalArgumentException("an executor on " + executor.device() + " has no CUDA device");
        }
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(JAVA_DOUBLE, 2);
            device.call("tp_cuda_ceilings", cuda -> Kernels.tp_cuda_ceilings(cuda, out, out.asSlice(8)));
            return new Ceilings(out.get(JAVA_DOUBLE, 0), out.get(JAVA_DOUBLE, 8));
        }
    }

    /** Number of devices, and what is wrong if there are none. */
    private static int[] probe() {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(JAVA_INT, 2);
            Native.check("tp_cuda_probe", Kernels.tp_cuda_probe(out, out.asSlice(4)));
            return out.toArray(JAVA_INT);
        }
    }

    private static Facts facts(int index) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment d = tp_cuda_device.allocate(arena);
            Native.check("tp_cuda_describe", Kernels.tp_cuda_describe(index, d));
            return new Facts(Device.cuda(index), tp_cuda_device.name(d).getString(0), why(tp_cuda_device.state(d), index, d),
                    tp_cuda_device.major(d), tp_cuda_device.minor(d), tp_cuda_device.multiprocessors(d), tp_cuda_device.memory_bytes(d),
                    tp_cuda_device.free_bytes(d), tp_cuda_device.l2_bytes(d), version(tp_cuda_device.driver(d)),
                    version(tp_cuda_device.runtime(d)));
        }
    }

    private static String version(int number) {
        return number / MAJOR + "." + number % MAJOR / MINOR;
    }

    /** @param device null if nothing is known of one */
    private static String why(int state, int index, MemorySegment device) {
        if (state == Kernels.TP_CUDA_USABLE()) {
            return "";
        }
        if (state == Kernels.TP_CUDA_NO_DRIVER()) {
            return "there is no NVIDIA driver";
        }
        if (state == Kernels.TP_CUDA_OLD_DRIVER()) {
            return "the NVIDIA driver is older than the CUDA that the kernels were built with: update it";
        }
        if (state == Kernels.TP_CUDA_NO_DEVICE()) {
            int count = probe()[0];
            String visible = System.getenv("CUDA_VISIBLE_DEVICES");
            return (count == 0 ? "there is no CUDA device" : "there is no CUDA device " + index + ", the last one is " + (count - 1))
                    + (visible == null ? "" : " that CUDA_VISIBLE_DEVICES='" + visible + "' lets through");
        }
        if (state == Kernels.TP_CUDA_OLD_DEVICE()) {
            return tp_cuda_device.name(device).getString(0) + " has compute capability " + tp_cuda_device.major(device) + "."
                    + tp_cuda_device.minor(device) + ", but at least 8.0 is needed";
        }
        return message(MemorySegment.NULL);
    }

    /** What the last failed call met; of a device in use, or with {@code NULL} of the functions here on this thread. */
    static String message(MemorySegment cuda) {
        return Kernels.tp_cuda_message(cuda).getString(0);
    }
}
