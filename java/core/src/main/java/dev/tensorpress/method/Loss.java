package dev.tensorpress.method;

import dev.tensorpress.kernel.Prune;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * What a weight loses, as shares of its energy, the sum of its squares: 0 is nothing, 1 all of it. With inputs of equal size that do not
 * depend on each other, these are the shares that its outputs lose of theirs.
 *
 * @param whole of the weight
 * @param output of the output channel that loses most; NaN if channels were not looked at
 */
public record Loss(double whole, double output) {
    /** Elements that are looked at together. */
    private static final int CHUNK = 1 << 14;

    /** @param masked the elements that stay, zeros in place of the others */
    static Loss of(Weight weight, MemorySegment masked, Workspace workspace) {
        Tensor t = weight.tensor();
        Shape shape = t.shape();
        boolean rows = weight.outputAxis() == 0;
        long last = rows ? shape.elements() / shape.dim(0) : shape.rank() == 0 ? 1 : shape.dim(-1);
        Prune.Scores matrix = Prune.Scores.of(shape.elements() / last, last, t.dtype());
        MemorySegment errors = workspace.take(Workspace.Slot.ERRORS, Prune.errorBytes(matrix));
        Quantize.Error whole = Prune.error(matrix, t.data(), masked, errors, workspace.executor());
        double output = rows ? Prune.largestError(errors, matrix.rows())
                : shape.rank() > 1 && weight.outputAxis() == shape.rank() - 1 ? largestColumn(t, masked, matrix, workspace) : Double.NaN;
        return new Loss(share(whole.sumSquaredError(), whole.sumSquares()), output);
    }

    private static double share(double lost, double all) {
        return all == 0 ? 0 : lost / all;
    }

    private static double largestColumn(Tensor t, MemorySegment masked, Prune.Scores matrix, Workspace workspace) {
        int cols = Math.toIntExact(matrix.cols());
        int rows = (int) Math.clamp(CHUNK / cols, 1, matrix.rows());
        double[] all = new double[cols];
        double[] lost = new double[cols];
        float[] before = new float[rows * cols];
        float[] after = new float[rows * cols];
        MemorySegment buffer = workspace.take(Workspace.Slot.DECODED, DType.F32.bytes(before.length));
        for (long r = 0; r < matrix.rows(); r += rows) {
            int n = (int) Math.min(rows, matrix.rows() - r) * cols;
            elements(t.dtype(), t.data(), r * cols, n, buffer, before);
            elements(t.dtype(), masked, r * cols, n, buffer, after);
            for (int at = 0; at < n; at += cols) {
                addRow(cols, at, before, after, all, lost);
            }
        }
        double largest = 0;
        for (int i = 0; i < cols; i++) {
            largest = Math.max(largest, share(lost[i], all[i]));
        }
        return largest;
    }

    /** On its own since the compiler then finds a plain loop. */
    private static void addRow(int cols, int at, float[] before, float[] after, double[] all, double[] lost) {
        for (int i = 0; i < cols; i++) {
            double x = before[at + i];
            double d = x - after[at + i];
            all[i] += x * x;
            lost[i] += d * d;
        }
    }

    private static void elements(DType type, MemorySegment data, long from, int n, MemorySegment buffer, float[] to) {
        MemorySegment in = data.asSlice(type.bytes(from), type.bytes(n));
        if (type != DType.F32) {
            Quantize.convert(type, in, n, DType.F32, buffer);
            in = buffer;
        }
        MemorySegment.copy(in, ValueLayout.JAVA_FLOAT_UNALIGNED, 0, to, 0, n);
    }
}
