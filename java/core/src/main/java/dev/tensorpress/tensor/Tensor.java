package dev.tensorpress.tensor;

import java.lang.foreign.MemorySegment;

/**
 * A contiguous row-major array in off-heap memory. It is a view: whoever opened the arena behind {@code data} owns the
 * memory and closes it.
 *
 * @param data exactly {@code dtype.bytes(shape.elements())} bytes; no alignment beyond a byte is promised
 */
public record Tensor(DType dtype, Shape shape, MemorySegment data) {
    public Tensor {
        long expected = dtype.bytes(shape.elements());
        if (data.byteSize() != expected) {
            throw new IllegalArgumentException(
                    dtype + " " + shape + " needs " + expected + " bytes, but has " + data.byteSize());
        }
    }

    /** Size of the data in bytes. */
    public long bytes() {
        return data.byteSize();
    }
}
