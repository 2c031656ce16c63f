package dev.tensorpress.statistics;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Gemm;
import dev.tensorpress.model.Graph.Window;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** The inner loops. */
final class Plain {
    private Plain() {}

    /** Index of the first element that is not finite; -1 if there is none, and then all are counted. */
    static long observe(MemorySegment x, long rows, int channels, MemorySegment min, MemorySegment max, MemorySegment sum,
            MemorySegment squares) {
        for (long i = 0; i < rows * channels; i++) {
            if (!Float.isFinite(x.getAtIndex(JAVA_FLOAT_UNALIGNED, i))) {
                return i;
            }
        }
        for (long r = 0; r < rows; r++) {
            for (int c = 0; c < channels; c++) {
                float v = x.getAtIndex(JAVA_FLOAT_UNALIGNED, r * channels + c);
                min.setAtIndex(JAVA_FLOAT, c, Math.min(min.getAtIndex(JAVA_FLOAT, c), v));
                max.setAtIndex(JAVA_FLOAT, c, Math.max(max.getAtIndex(JAVA_FLOAT, c), v));
                sum.setAtIndex(JAVA_DOUBLE, c, sum.getAtIndex(JAVA_DOUBLE, c) + v);
                squares.setAtIndex(JAVA_DOUBLE, c, squares.getAtIndex(JAVA_DOUBLE, c) + (double) v * v);
            }
        }
        return -1;
    }

    static void count(MemorySegment x, long elements, float width, MemorySegment counts) {
        for (long i = 0; i < elements; i++) {
            float v = x.getAtIndex(JAVA_FLOAT_UNALIGNED, i);
            int bin = Math.min(Histogram.BINS - 1, (int) Math.floor(v / width) + Histogram.BINS / 2);
            counts.setAtIndex(JAVA_LONG, bin, counts.getAtIndex(JAVA_LONG, bin) + 1);
        }
    }

    /** Patches at positions [first, first + rows) of one image [channels, height, width]. */
    static void patches(Window w, MemorySegment image, int channels, long height, long width, long first, long rows, MemorySegment to) {
        long across = w.columns(width);
        long at = 0;
        for (long p = first; p < first + rows; p++) {
            long top = p / across * w.strides().height() - w.before().height();
            long left = p % across * w.strides().width() - w.before().width();
            for (int c = 0; c < channels; c++) {
                for (int i = 0; i < w.height(); i++) {
                    long y = top + (long) i * w.dilations().height();
                    for (int j = 0; j < w.width(); j++) {
                        long x = left + (long) j * w.dilations().width();
                        boolean inside = y >= 0 && y < height && x >= 0 && x < width;
                        to.setAtIndex(JAVA_FLOAT, at++,
                                inside ? image.getAtIndex(JAVA_FLOAT_UNALIGNED, (c * height + y) * width + x) : 0);
                    }
                }
            }
        }
    }

    /** A Gram matrix in the making. */
    static final class Gram implements AutoCloseable {
        private static final int BLOCK = 256;
        private final int channels;
        private final Arena arena;
        private final Gemm gemm;
        private final MemorySegment pending;
        private final MemorySegment product;
        private final MemorySegment sum;
        private int waiting;

        Gram(int channels, MemorySegment sum, Executor executor) {
            this.channels = channels;
            this.sum = sum;
            arena = executor.arena();
            pending = arena.allocate(4L * BLOCK * channels, 64);
            product = arena.allocate(4L * channels * channels, 64);
            gemm = new Gemm(Gemm.Spec.of(DType.F32, Gemm.Form.ATB, channels, channels, BLOCK), executor);
        }

        void add(MemorySegment x, long rows, long stride) {
            for (long r = 0; r < rows; r++) {
                MemorySegment.copy(x, JAVA_FLOAT_UNALIGNED, 4 * r * stride, pending, JAVA_FLOAT, 4L * waiting * channels, channels);
                if (++waiting == BLOCK) {
                    flush();
                }
            }
        }

        private void flush() {
            pending.asSlice(4L * waiting * channels).fill((byte) 0);
            gemm.pack(pending).multiply(pending, product);
            for (long i = 0; i < (long) channels * channels; i++) {
                sum.setAtIndex(JAVA_DOUBLE, i, sum.getAtIndex(JAVA_DOUBLE, i) + product.getAtIndex(JAVA_FLOAT, i));
            }
            waiting = 0;
        }

        void finish() {
            if (waiting > 0) {
                flush();
            }
        }

        @Override
        public void close() {
            gemm.close();
            arena.close();
        }
    }
}
