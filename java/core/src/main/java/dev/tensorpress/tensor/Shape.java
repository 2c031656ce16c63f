package dev.tensorpress.tensor;

import java.util.Arrays;

/** Dimensions of a tensor, outermost first. A scalar has rank 0 and one element. Immutable. */
public final class Shape {
    private final long[] dims;
    private final long elements;

    private Shape(long[] dims) {
        boolean empty = false;
        for (long d : dims) {
            if (d < 0) {
                throw new IllegalArgumentException("negative dimension " + d + " in " + Arrays.toString(dims));
            }
            empty |= d == 0;
        }
        // Zero first: [2^62, 2^62, 0] is empty, not an overflow.
        long n = empty ? 0 : 1;
        for (int i = 0; i < dims.length && !empty; i++) {
            n = Math.multiplyExact(n, dims[i]);
        }
        this.dims = dims;
        this.elements = n;
    }

    /**
     * @throws IllegalArgumentException if a dimension is negative
     * @throws ArithmeticException if the number of elements does not fit in a {@code long}
     */
    public static Shape of(long... dims) {
        return new Shape(dims.clone());
    }

    /** Number of dimensions. */
    public int rank() {
        return dims.length;
    }

    /** Size along {@code axis}; negative axes count from the end. */
    public long dim(int axis) {
        return dims[axis < 0 ? axis + dims.length : axis];
    }

    /** Product of all dimensions. */
    public long elements() {
        return elements;
    }

    /** A copy of the dimensions. */
    public long[] dims() {
        return dims.clone();
    }

    @Override
    public boolean equals(Object o) {
        return o instanceof Shape s && Arrays.equals(dims, s.dims);
    }

    @Override
    public int hashCode() {
        return Arrays.hashCode(dims);
    }

    /** For example {@code 384x1536}, or {@code scalar}. */
    @Override
    public String toString() {
        if (dims.length == 0) {
            return "scalar";
        }
        StringBuilder s = new StringBuilder();
        for (int i = 0; i < dims.length; i++) {
            s.append(i == 0 ? "" : "x").append(dims[i]);
        }
        return s.toString();
    }
}
