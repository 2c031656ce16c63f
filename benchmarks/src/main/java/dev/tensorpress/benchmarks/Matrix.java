package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** A weight matrix of made-up values, contiguous and off the heap. The same sizes give the same values. */
final class Matrix implements AutoCloseable {
    final int rows;
    final int cols;
    final DType type;
    final MemorySegment data;
    private final Arena arena = Arena.ofShared();

    private Matrix(int rows, int cols, DType type) {
        this.rows = rows;
        this.cols = cols;
        this.type = type;
        data = arena.allocate(Math.max(1, type.bytes(shape().elements())), 64);
    }

    /** An f32 matrix whose values look like those of a trained layer: a bell around zero, of another width in each row. */
    static Matrix random(int rows, int cols) {
        Matrix m = new Matrix(rows, cols, DType.F32);
        for (long r = 0; r < rows; r++) {
            float width = 0.02f + 0.03f * unit(mix(~r));
            for (long c = 0; c < cols; c++) {
                long bits = mix(r * cols + c);
                // The sum of four even distributions is close enough to a normal one.
                long sum = (bits & 0xffff) + (bits >>> 16 & 0xffff) + (bits >>> 32 & 0xffff) + (bits >>> 48);
                m.data.setAtIndex(JAVA_FLOAT, r * cols + c, (sum - 131070) * (width / 37837));
            }
        }
        return m;
    }

    /** This matrix in f16 or bf16. */
    Matrix to(DType other) {
        Matrix m = new Matrix(rows, cols, other);
        Quantize.convert(type, data, shape().elements(), other, m.data);
        return m;
    }

    Shape shape() {
        return Shape.of(rows, cols);
    }

    /** A number in [0, 1) from well mixed bits. */
    static float unit(long bits) {
        return (bits >>> 40) * 0x1p-24f;
    }

    /** Well mixed bits of a counter: the finalizer of SplitMix64. */
    static long mix(long counter) {
        long z = (counter + 1) * 0x9e3779b97f4a7c15L;
        z = (z ^ z >>> 30) * 0xbf58476d1ce4e5b9L;
        z = (z ^ z >>> 27) * 0x94d049bb133111ebL;
        return z ^ z >>> 31;
    }

    @Override
    public void close() {
        arena.close();
    }
}
