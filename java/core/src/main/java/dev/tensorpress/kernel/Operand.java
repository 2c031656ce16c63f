package dev.tensorpress.kernel;

import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;

/** A matrix A [rows, cols] that is known by its products alone. Vectors are rows. */
interface Operand {
    /** Of the vectors. */
    DType type();

    long rows();

    long cols();

    /** Rows of Y<sup>T</sup>, Y = A X, from the rows of X<sup>T</sup> [count, cols]. */
    void forward(View x, MemorySegment y, long count);

    /** Rows of X<sup>T</sup>, X = A<sup>T</sup> Y, from the rows of Y<sup>T</sup> [count, rows], of A's type. */
    void backward(MemorySegment y, MemorySegment x, long count);
}
