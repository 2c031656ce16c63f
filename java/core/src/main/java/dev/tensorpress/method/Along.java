package dev.tensorpress.method;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.Shape;
import java.lang.foreign.MemorySegment;

/**
 * The channels of a weight's elements, along one of its axes. Elements are seen as rows along the last axis, in each of which the channel is
 * either one, or that of the column.
 *
 * @param size of the axis
 * @param groups of a convolution, each of which has so many channels of its own along the input axis; 1 along other axes
 * @param columns whether it is the last axis
 * @param inner rows that have the same index of the axis one after another
 * @param rowsOfGroup rows of a group
 */
record Along(int size, int groups, boolean columns, long inner, long rowsOfGroup) {
    static Along axis(Weight weight, int axis) {
        return of(weight.tensor().shape(), axis, 1);
    }

    /** @param groups of the convolution, whose outputs are its first axis */
    static Along inputs(Weight weight, int groups) {
        return of(weight.tensor().shape(), weight.inputAxis(), groups);
    }

    /**
     * All that an output of a matrix [rows, cols] is summed over, patches of convolutions included.
     *
     * @param down whether those are its rows, else its columns
     * @param groups of a convolution, whose outputs are the rows
     */
    static Along matrix(Shape matrix, boolean down, int groups) {
        return new Along(Math.toIntExact(matrix.dim(down ? 0 : 1)), groups, !down, 1, Math.max(1, matrix.dim(0) / groups));
    }

    private static Along of(Shape shape, int axis, int groups) {
        long inner = 1;
        for (int i = axis + 1; i < shape.rank() - 1; i++) {
            inner *= shape.dim(i);
        }
        long rows = shape.elements() / shape.dim(-1);
        return new Along(Math.toIntExact(shape.dim(axis)), groups, axis == shape.rank() - 1, inner, Math.max(1, rows / groups));
    }

    int channels() {
        return size * groups;
    }

    /** Of the first element of a row. */
    int first(long row) {
        return (int) (row / rowsOfGroup) * size + (columns ? 0 : (int) (row / inner % size));
    }

    /** The largest magnitude of each channel; NaN where the channel holds NaN. */
    double[] largest(MemorySegment f32, Shape shape) {
        double[] largest = new double[channels()];
        int cols = Math.toIntExact(shape.dim(-1));
        for (long row = 0; row < shape.elements() / cols; row++) {
            float[] x = row(f32, row, cols).toArray(JAVA_FLOAT);
            int c = first(row);
            for (int j = 0; j < cols; j++) {
                int at = columns ? c + j : c;
                largest[at] = Math.max(largest[at], Math.abs(x[j]));
            }
        }
        return largest;
    }

    /** Multiplies each element by the number of its channel; out may be the same memory. */
    void multiply(MemorySegment f32, Shape shape, double[] by, MemorySegment out, Executor executor) {
        int cols = Math.toIntExact(shape.dim(-1));
        executor.run(shape.elements() / cols, 1, Executor.worth(cols), (begin, end, worker) -> {
            for (long row = begin; row < end; row++) {
                float[] x = row(f32, row, cols).toArray(JAVA_FLOAT);
                int c = first(row);
                for (int j = 0; j < cols; j++) {
                    x[j] = (float) (x[j] * by[columns ? c + j : c]);
                }
                row(out, row, cols).copyFrom(MemorySegment.ofArray(x));
            }
        });
    }

    static MemorySegment row(MemorySegment f32, long row, long cols) {
        return f32.asSlice(4 * row * cols, 4 * cols);
    }
}
