package dev.tensorpress.kernel;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_window;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;

/**
 * What a convolution sees of an image [channels, height, width] at each position of its window, as a row of
 * {@link #length} = channels * kernel height * kernel width elements, in this order: {@code tp_patches}.
 */
public final class Patches {
    static {
        dev.tensorpress.internal.NativeLibrary.load();
    }

    /** Along the height, and along the width. */
    public record Pair(int height, int width) {}

    private final MemorySegment window = Native.struct(tp_window.layout());
    private final long imageBytes;
    private final long length;
    private final long positions;

    /**
     * @param before zeros above and to the left of the image
     * @param after zeros below and to the right
     * @throws KernelException if one of the numbers cannot be
     */
    public Patches(long channels, long height, long width, Pair kernel, Pair strides, Pair dilations, Pair before, Pair after) {
        imageBytes = Native.bytes("the image", DType.F32, Math.multiplyExact(channels, height), width, width);
        tp_window.channels(window, channels);
        tp_window.height(window, height);
        tp_window.width(window, width);
        tp_window.kernel_height(window, kernel.height);
        tp_window.kernel_width(window, kernel.width);
        tp_window.stride_height(window, strides.height);
        tp_window.stride_width(window, strides.width);
        tp_window.dilation_height(window, dilations.height);
        tp_window.dilation_width(window, dilations.width);
        tp_window.before_height(window, before.height);
        tp_window.before_width(window, before.width);
        tp_window.after_height(window, after.height);
        tp_window.after_width(window, after.width);
        positions = Native.size("tp_patches_count", out -> Kernels.tp_patches_count(window, out));
        length = Math.multiplyExact(channels, (long) kernel.height * kernel.width);
    }

    /** Rows that there are, position by position along the width, then along the height. */
    public long positions() {
        return positions;
    }

    /** Elements of a row. */
    public long length() {
        return length;
    }

    /**
     * Writes the rows of some positions: on a device, if image or result lies there.
     *
     * @param image f32, at any byte
     * @param first position
     * @param count of positions
     * @param out f32 [count, length]
     */
    public void take(MemorySegment image, long first, long count, MemorySegment out, Executor executor) {
        if (first < 0 || count < 0 || first > positions - count) {
            throw new IllegalArgumentException("no positions " + first + " to " + (first + count) + " of " + positions);
        }
        Native.input("image", image, imageBytes, executor);
        Native.result("out", out, DType.F32, count, length, length, executor);
        Native.apart("out", out, "image", image);
        Native.Cost cost = Native.Cost.of(imageBytes * count / Math.max(1, positions), 4 * count * length);
        Native.run("tp_patches", Native.near(executor, image, out), count, 16, Executor.worth(length), cost, (begin, end, worker) ->
                Kernels.tp_patches(window, first + begin, first + end, image, out.asSlice(4 * begin * length)), (cuda, begin, end) ->
                Kernels.tp_cuda_patches(cuda, window, first, first + count, image, out));
    }
}
