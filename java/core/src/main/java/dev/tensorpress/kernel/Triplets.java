package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.kernel.LinearAlgebra.Reflections;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/** Singular triplets from orthogonal rows, which are as long as the singular values, and the orthonormal rows that go with them. */
final class Triplets {
    private final LinearAlgebra la;

    Triplets(LinearAlgebra la) {
        this.la = la;
    }

    /**
     * Norms, order, signs and types.
     *
     * @param wLeft whether rows of W are left singular vectors times singular values, or right ones
     * @param columns column i of the vectors in W belongs at columns[i]; or null
     */
    void finish(DType type, long n, MemorySegment w, long wCols, MemorySegment z, long zCols, boolean wLeft,
            MemorySegment columns, double negligible, int exponent, long rows, long cols, long keep, MemorySegment u,
            MemorySegment s, MemorySegment vt) {
        MemorySegment sums = la.buffer("sums", n);
        la.rowNorms(View.of(w, wCols), n, wCols, sums, la.buffer("largest", n));
        MemorySegment order = la.buffer("order", n);
        sortDescending(n, i -> sums.getAtIndex(JAVA_DOUBLE, i), order);
        long known = 0;
        while (known < n && sums.getAtIndex(JAVA_DOUBLE, order.getAtIndex(JAVA_LONG, known)) > negligible) {
            known++;
        }
        MemorySegment norms = la.buffer("norms", n);
        MemorySegment wFactors = la.buffer("w factors", n);
        MemorySegment zFactors = la.buffer("z factors", n);
        for (long i = 0; i < n; i++) {
            long row = order.getAtIndex(JAVA_LONG, i);
            double norm = Math.sqrt(sums.getAtIndex(JAVA_DOUBLE, row));
            norms.setAtIndex(JAVA_DOUBLE, row, norm);
            wFactors.setAtIndex(JAVA_DOUBLE, row, i < known ? 1 / norm : 1);
            zFactors.setAtIndex(JAVA_DOUBLE, row, 1);
        }
        complete(n, known, w, wCols, order, wFactors);
        View unordered = View.of(w, wCols);
        if (columns != null) {
            // Columns of W back to their places: rows of the transpose, twice.
            MemorySegment places = la.buffer("places", n);
            for (long i = 0; i < n; i++) {
                places.setAtIndex(JAVA_LONG, columns.getAtIndex(JAVA_LONG, i), i);
            }
            MemorySegment turned = la.buffer("turned", n * wCols);
            MemorySegment back = la.buffer("back", n * wCols);
            la.copy(unordered, n, wCols, View.of(turned, n), true, 1, MemorySegment.NULL, MemorySegment.NULL);
            la.copy(View.of(turned, n), wCols, n, View.of(back, n), true, 1, places, MemorySegment.NULL);
            unordered = View.of(back, wCols);
        }
        View zView = View.of(z, zCols);
        View left = wLeft ? unordered : zView;
        MemorySegment peaks = la.buffer("peaks", n);
        la.spread("tp_row_peaks", n, 1, 2.0 * n * rows, Native.Cost.of(8 * n * rows, 8 * n), (begin, end, worker) ->
                Kernels.tp_row_peaks(n, rows, left.stride(), begin, end, left.data(), peaks));
        for (long i = 0; i < n; i++) {
            if (peaks.getAtIndex(JAVA_DOUBLE, i) < 0) {
                wFactors.setAtIndex(JAVA_DOUBLE, i, -wFactors.getAtIndex(JAVA_DOUBLE, i));
                zFactors.setAtIndex(JAVA_DOUBLE, i, -1);
            }
        }
        View uOut = new View(type, u, keep);
        View vOut = new View(type, vt, cols);
        la.copy(left, n, rows, uOut, keep, true, order, wLeft ? wFactors : zFactors);
        la.copy(wLeft ? zView : unordered, n, cols, vOut, keep, false, order, wLeft ? zFactors : wFactors);
        for (long i = 0; i < keep; i++) {
            double value = norms.getAtIndex(JAVA_DOUBLE, order.getAtIndex(JAVA_LONG, i));
            value = Math.scalb(value, exponent);
            LinearAlgebra.set(type, s, i, value);
        }
    }

    /** Rows of W from place {@code known} on become orthonormal to the others. */
    private void complete(long n, long known, MemorySegment w, long wCols, MemorySegment order, MemorySegment factors) {
        if (known == n) {
            return;
        }
        MemorySegment good = la.buffer("known", n * wCols);
        MemorySegment completion = la.buffer("completion", (n - known) * wCols);
        la.copy(View.of(w, wCols), n, wCols, View.of(good, wCols), n, false, order, factors);
        Reflections r = la.reflect(known, wCols, good, "completion");
        la.orthogonalRows(r, known, n, completion);
        for (long i = known; i < n; i++) {
            MemorySegment.copy(completion, (i - known) * wCols * 8, w, order.getAtIndex(JAVA_LONG, i) * wCols * 8, wCols * 8);
        }
    }

    @FunctionalInterface
    interface Values {
        double at(long i);
    }

    static void sortDescending(long n, Values values, MemorySegment order) {
        Long[] sorted = new Long[(int) n];
        Arrays.setAll(sorted, i -> (long) i);
        Arrays.sort(sorted, (i, j) -> Double.compare(values.at(j), values.at(i)));
        for (int i = 0; i < n; i++) {
            order.setAtIndex(JAVA_LONG, i, sorted[i]);
        }
    }
}
