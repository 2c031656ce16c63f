package dev.tensorpress.method;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.lang.foreign.MemorySegment;

/**
 * Scales and zero points by half-quadratic quantization (HQQ, Badri and Shaji 2023): those of the least l<sub>p</sub> norm of the error,
 * p &lt; 1, in which few large errors count little. An error d is split in two, d = e + r: e is what d leaves of it when it is shrunk,
 * sign(d) max(0, |d| - |d|<sup>p-1</sup> / beta), and zero point and scale are those of the least squares of r. beta grows from round to round.
 *
 * <p>Errors are in units of the scale, so that the scale of a weight does not matter. Zero points are whole numbers in every round, and p
 * is 3/4, whose power is two square roots: bits are the same on all processors. It begins with the range of all elements, and ends before the
 * first round that does not lessen the norm.
 */
final class HalfQuadratic {
    private static final int ROUNDS = 20;
    private static final double BETA = 10;
    private static final double GROWTH = 1.01;
    /** Columns that are read together. */
    private static final int PANEL = 64;

    private final Form.Quantized form;
    private final int low;
    private final int high;

    private HalfQuadratic(Form.Quantized form) {
        this.form = form;
        low = form.qmin();
        high = form.qmax();
    }

    /**
     * @param x f32, the elements of a weight of this shape in its order, finite
     * @param scales f32, in and out, one for each group in the order of the form's codes
     * @param zeros bytes, in and out, as scales are; {@code NULL} if symmetric
     */
    static void refine(Form.Quantized form, Shape shape, MemorySegment x, MemorySegment scales, MemorySegment zeros, Executor executor) {
        new HalfQuadratic(form).refine(form.grid(shape), x, scales, zeros, executor);
    }

    private void refine(Form.Grid g, MemorySegment x, MemorySegment scales, MemorySegment zeros, Executor executor) {
        boolean down = g.groupCols() == 1;
        long across = down ? Math.ceilDiv(g.cols(), PANEL) : 1;
        // A task is a row, or a panel of columns one group high.
        long tasks = down ? across * g.groupsDown() : g.rows();
        executor.run(tasks, 1, 1, (begin, end, worker) -> {
            for (long task = begin; task < end; task++) {
                if (down) {
                    panel(g, task / across, task % across * PANEL, x, scales, zeros);
                } else {
                    row(g, task, x, scales, zeros);
                }
            }
        });
    }

    private void row(Form.Grid g, long row, MemorySegment x, MemorySegment scales, MemorySegment zeros) {
        float[] values = x.asSlice(4 * row * g.cols(), 4 * g.cols()).toArray(JAVA_FLOAT_UNALIGNED);
        int size = (int) Math.min(g.groupCols(), g.cols());
        for (int i = 0; i * (long) size < values.length; i++) {
            group(values, i * size, 1, Math.min(size, values.length - i * size), row * g.groupsAcross() + i, scales, zeros);
        }
    }

    private void panel(Form.Grid g, long number, long column, MemorySegment x, MemorySegment scales, MemorySegment zeros) {
        int width = (int) Math.min(PANEL, g.cols() - column);
        int height = (int) Math.min(g.groupRows(), g.rows() - number * g.groupRows());
        float[] values = new float[width * height];
        for (int r = 0; r < height; r++) {
            long at = (number * g.groupRows() + r) * g.cols() + column;
            MemorySegment.copy(x, JAVA_FLOAT_UNALIGNED, 4 * at, values, r * width, width);
        }
        for (int c = 0; c < width; c++) {
            long at = form.transposed() ? (column + c) * g.groupsDown() + number : number * g.cols() + column + c;
            group(values, c, width, height, at, scales, zeros);
        }
    }

    /** Elements x[from], x[from + stride], ..., and the group's place among scales. */
    private void group(float[] x, int from, int stride, int n, long at, MemorySegment scales, MemorySegment zeros) {
        boolean symmetric = form.symmetric();
        float s = scales.getAtIndex(JAVA_FLOAT, at);
        int z = symmetric ? form.middle() : zero(zeros.getAtIndex(JAVA_BYTE, at));
        float bestScale = s;
        int bestZero = z;
        double best = Double.POSITIVE_INFINITY;
        double beta = BETA;
        for (int round = 0; round <= ROUNDS; round++) {
            double norm = 0;
            double offset = 0;
            double product = 0;
            double squares = 0;
            for (int i = 0; i < n; i++) {
                double t = (double) x[from + i * stride] / s;
                double code = Math.max(low - z, Math.min(high - z, Math.rint(t)));
                double d = t - code;
                double size = Math.abs(d);
                double root = Math.sqrt(size);
                double fourth = Math.sqrt(root);
                norm += root * fourth;
                // Of an error of 0 nothing is left.
                double e = size == 0 ? 0 : Math.copySign(Math.max(0, size - 1 / (fourth * beta)), d);
                offset += code - (t - e);
                product += code * (t - e);
                squares += code * code;
            }
            double root = Math.sqrt(s);
            norm *= root * Math.sqrt(root);
            if (norm >= best) {
                break;
            }
            best = norm;
            bestScale = s;
            bestZero = z;
            if (!symmetric) {
                z = Math.max(low, Math.min(high, z + (int) Math.rint(offset / n)));
            }
            s = squares > 0 ? stored((float) (s * (product / squares))) : 0;
            if (!(s >= Float.MIN_NORMAL && s < Float.POSITIVE_INFINITY)) {
                break;
            }
            beta *= GROWTH;
        }
        scales.setAtIndex(JAVA_FLOAT, at, bestScale);
        if (!symmetric) {
            zeros.setAtIndex(JAVA_BYTE, at, (byte) bestZero);
        }
    }

    private int zero(byte stored) {
        return form.type().signed() ? stored : stored & 0xff;
    }

    /** A scale as the file has it. */
    private float stored(float scale) {
        return switch (form.scaleType()) {
            case F16 -> Float.float16ToFloat(Float.floatToFloat16(scale));
            case BF16 -> {
                int bits = Float.floatToRawIntBits(scale);
                yield Float.intBitsToFloat(bits + 0x7fff + (bits >>> 16 & 1) & 0xffff0000);
            }
            default -> scale;
        };
    }
}
