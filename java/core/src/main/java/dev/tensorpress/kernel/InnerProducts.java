package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;

import dev.tensorpress.kernel.LinearAlgebra.View;
import java.lang.foreign.MemorySegment;

/** Inner products of rows that become more: the lower triangle of their Gram matrix, and its eigenvalues. */
final class InnerProducts {
    private final LinearAlgebra la;
    private final MemorySegment values;
    private final long room;
    long size;
    /** The trace. */
    double squares;

    /**
     * @param name of the buffer
     * @param room rows that there may be
     */
    InnerProducts(LinearAlgebra la, String name, long room) {
        this.la = la;
        this.room = room;
        values = la.buffer(name, room * room);
    }

    /** Row {@code row} from column {@code col} on, and the rows below, {@link #stride} elements apart. */
    MemorySegment from(long row, long col) {
        return LinearAlgebra.at(values, row * room + col);
    }

    long stride() {
        return room;
    }

    /** So many rows more, whose products are there. */
    void grow(long count) {
        for (long i = size; i < size + count; i++) {
            squares += values.getAtIndex(JAVA_DOUBLE, i * room + i);
        }
        size += count;
    }

    /** The leading part, without gaps. */
    private MemorySegment square() {
        MemorySegment g = la.buffer("gram", size * size);
        la.copy(View.of(values, room), size, size, View.of(g, size), false, 1, MemorySegment.NULL, MemorySegment.NULL);
        return g;
    }

    /** The sum of the largest eigenvalues. */
    double largest(long count) {
        if (count >= size) {
            return squares;
        }
        MemorySegment eigenvalues = la.buffer("values", size);
        la.symmetricEigenvalues(size, square(), eigenvalues);
        double sum = 0;
        for (long i = 0; i < count; i++) {
            sum += Math.max(0, eigenvalues.getAtIndex(JAVA_DOUBLE, i));
        }
        return sum;
    }

    /** All eigenvalues [size], descending, and eigenvectors [size, size], as rows. */
    void eigen(MemorySegment eigenvalues, MemorySegment vectors) {
        la.symmetricEigen(size, square(), eigenvalues, vectors);
    }
}
