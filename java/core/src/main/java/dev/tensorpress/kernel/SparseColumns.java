package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Locale;

/** The entries of a sparse matrix of data, by columns too: in each of them by rows. */
final class SparseColumns {
    final SparseMatrix matrix;
    /** Entries before each column, and in all. */
    final long[] starts;
    /** int32: the row of each entry. */
    final MemorySegment rows;
    /** f32. */
    final MemorySegment values;

    /**
     * @param arena for the entries
     * @throws IllegalArgumentException if it is of another type or layout, or has more rows or columns than an int32 counts; or if an entry is not
     *     finite, with its row and column
     */
    SparseColumns(SparseMatrix matrix, Arena arena, Executor executor) {
        if (matrix.type() != DType.F32 || matrix.layout() != Sparse.Layout.CSR32) {
            throw new IllegalArgumentException("sparse data must be f32 in layout csr32, but are " + matrix.type().name().toLowerCase(Locale.ROOT)
                    + " in layout " + matrix.layout().id());
        }
        if (matrix.rows() < 1 || matrix.cols() < 1 || matrix.rows() >= Integer.MAX_VALUE || matrix.cols() >= Integer.MAX_VALUE) {
            throw new IllegalArgumentException("sparse data must have from 1 to 2147483646 rows and columns, but have " + matrix.rows() + " and "
                    + matrix.cols());
        }
        matrix.check(Native.host(executor));
        this.matrix = matrix;
        long entries = matrix.units();
        starts = new long[(int) matrix.cols() + 1];
        MemorySegment indices = matrix.indices();
        for (long p = 0; p < entries; p++) {
            starts[indices.getAtIndex(JAVA_INT, p) + 1]++;
        }
        for (int j = 1; j < starts.length; j++) {
            starts[j] += starts[j - 1];
        }
        rows = arena.allocate(Math.max(1, entries) * Integer.BYTES, 64);
        values = arena.allocate(Math.max(1, entries) * Float.BYTES, 64);
        long[] next = starts.clone();
        for (int i = 0; i < matrix.rows(); i++) {
            long end = first(i + 1);
            for (long p = first(i); p < end; p++) {
                int column = indices.getAtIndex(JAVA_INT, p);
                float x = matrix.values().getAtIndex(JAVA_FLOAT, p);
                if (!Float.isFinite(x)) {
                    throw new IllegalArgumentException("row " + i + ", column " + column + " of the data is " + x);
                }
                long at = next[column]++;
                rows.setAtIndex(JAVA_INT, at, i);
                values.setAtIndex(JAVA_FLOAT, at, x);
            }
        }
    }

    /** Entries before a row. */
    long first(long row) {
        return matrix.offsets().getAtIndex(JAVA_LONG, row);
    }
}
