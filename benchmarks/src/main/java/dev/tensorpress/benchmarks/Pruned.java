package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Sparse;
import dev.tensorpress.kernel.Sparse.Layout;
import dev.tensorpress.kernel.SparseMatrix;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.EnumMap;
import java.util.HashMap;
import java.util.Map;

/**
 * A matrix of one sparsity with what it is multiplied with: in every pattern, type and layout that a case may ask for, made
 * when it is first asked for and shared by the cases. The same sizes give the same values. Not for several threads.
 */
final class Pruned implements AutoCloseable {
    /** Which elements are zero. */
    enum Pattern {
        /** None. */
        WHOLE(1),
        /** Single ones, anywhere. */
        SCATTERED(1),
        /** Blocks of 4 x 4 and of 8 x 8, anywhere. */
        BLOCKS4(4), BLOCKS8(8),
        /** Two of each four in a row: half of them, whatever the sparsity. */
        PAIRS(1);

        private final int side;

        Pattern(int side) {
            this.side = side;
        }
    }

    /** Two of four bits. */
    private static final int[] TWO = {3, 5, 6, 9, 10, 12};
    private static final int CODES = 127;

    final int rows;
    final int cols;
    /** Of the elements that are zero. */
    final int percent;
    final Executor executor;
    private final Arena arena = Arena.ofShared();
    private final Map<Pattern, Matrix> dense = new EnumMap<>(Pattern.class);
    private final Map<Pattern, MemorySegment> codes = new EnumMap<>(Pattern.class);
    private final Map<String, SparseMatrix> packed = new HashMap<>();
    private final Map<Long, MemorySegment> factors = new HashMap<>();
    private final Map<Long, MemorySegment> results = new HashMap<>();

    Pruned(int rows, int cols, int percent, Executor executor) {
        this.rows = rows;
        this.cols = cols;
        this.percent = percent;
        this.executor = executor;
    }

    private boolean keeps(Pattern pattern, long r, long c) {
        return switch (pattern) {
            case WHOLE -> true;
            case PAIRS -> (TWO[Math.floorMod(Matrix.mix(-1 - r * cols - c / 4), 6)] >> c % 4 & 1) != 0;
            case SCATTERED, BLOCKS4, BLOCKS8 -> 100 * Matrix.unit(Matrix.mix(-1 - r / pattern.side * cols - c / pattern.side)) >= percent;
        };
    }

    /** f32. */
    Matrix dense(Pattern pattern) {
        return dense.computeIfAbsent(pattern, p -> {
            Matrix m = Matrix.random(rows, cols);
            executor.run(rows, 1, 1, (begin, end, worker) -> {
                for (long r = begin; r < end; r++) {
                    for (long c = 0; c < cols; c++) {
                        if (!keeps(p, r, c)) {
                            m.data.setAtIndex(JAVA_FLOAT, r * cols + c, 0);
                        }
                    }
                }
            });
            return m;
        });
    }

    /** int8, from 1 to 127 where the matrix is not pruned: the same as u8. */
    MemorySegment codes(Pattern pattern) {
        return codes.computeIfAbsent(pattern, p -> {
            MemorySegment m = arena.allocate((long) rows * cols, 64);
            executor.run(rows, 1, 1, (begin, end, worker) -> {
                for (long i = begin * cols; i < end * cols; i++) {
                    if (keeps(p, i / cols, i % cols)) {
                        m.set(JAVA_BYTE, i, (byte) (1 + Math.floorMod(Matrix.mix(i), CODES)));
                    }
                }
            });
            return m;
        });
    }

    /** @param type f32 or int8 */
    SparseMatrix packed(Pattern pattern, DType type, Layout layout) {
        return packed.computeIfAbsent(pattern + " " + type + " " + layout, key -> Sparse.pack(type, rows, cols,
                type == DType.F32 ? dense(pattern).data : codes(pattern), layout, block(pattern, layout), arena, executor));
    }

    static int block(Pattern pattern, Layout layout) {
        return layout == Layout.BSR ? pattern.side : 0;
    }

    /** A dense factor, [height, columns], f32 or int8. */
    MemorySegment factor(int height, int columns, DType type) {
        return factors.computeIfAbsent((long) height << 32 | (long) columns << 8 | type.ordinal(), key -> {
            long n = (long) height * columns;
            MemorySegment b = arena.allocate(Math.max(1, type.bytes(n)), 64);
            for (long i = 0; i < n; i++) {
                long bits = Matrix.mix(Long.MAX_VALUE - i);
                if (type == DType.F32) {
                    b.setAtIndex(JAVA_FLOAT, i, 2 * Matrix.unit(bits) - 1);
                } else {
                    b.set(JAVA_BYTE, i, (byte) bits);
                }
            }
            return b;
        });
    }

    /** Where products of this size go, one after the other: f32 or int32, [height, columns]. */
    MemorySegment result(int height, int columns) {
        return results.computeIfAbsent((long) height << 32 | columns, key -> arena.allocate(4L * height * columns, 64));
    }

    @Override
    public void close() {
        dense.values().forEach(Matrix::close);
        arena.close();
    }
}
