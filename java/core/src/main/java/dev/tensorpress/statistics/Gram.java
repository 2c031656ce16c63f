package dev.tensorpress.statistics;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Gemm;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * A Gram matrix in the making. Products of {@link #BLOCK} rows, counted from the first one, so that it does not matter how they come, are
 * of f32, and added up in f64.
 */
final class Gram {
    static final int BLOCK = 256;

    private final Products products;
    private final MemorySegment sum;

    /**
     * X<sup>T</sup> X of a block, for all matrices of the same size: columns of the result come in tiles, each down to the diagonal.
     */
    static final class Products implements AutoCloseable {
        private static final int TILE = 256;

        private final int channels;
        private final Arena arena;
        private final List<Gemm> tiles = new ArrayList<>();
        private final MemorySegment product;
        private final Executor executor;

        Products(int channels, Executor executor) {
            this.channels = channels;
            this.executor = executor;
            arena = executor.arena();
            product = arena.allocate(4L * channels * Math.min(channels, TILE), 64);
            for (int at = 0; at < channels; at += TILE) {
                int end = Math.min(channels, at + TILE);
                tiles.add(new Gemm(new Gemm.Spec(DType.F32, Gemm.Form.ATB, end, end - at, BLOCK, channels, channels, end - at, false), executor));
            }
        }

        private void add(MemorySegment rows, MemorySegment sum) {
            int at = 0;
            for (Gemm tile : tiles) {
                int n = Math.min(TILE, channels - at);
                int first = at;
                tile.pack(rows.asSlice(4L * at)).multiply(rows, product);
                executor.run(at + n, 1, Executor.worth(n), (begin, end, worker) -> {
                    float[] line = new float[n];
                    double[] sums = new double[n];
                    for (long i = begin; i < end; i++) {
                        long to = 8 * (i * channels + first);
                        MemorySegment.copy(product, JAVA_FLOAT, 4 * i * n, line, 0, n);
                        MemorySegment.copy(sum, JAVA_DOUBLE, to, sums, 0, n);
                        for (int j = 0; j < n; j++) {
                            sums[j] += line[j];
                        }
                        MemorySegment.copy(sums, 0, sum, JAVA_DOUBLE, to, n);
                    }
                });
                at += n;
            }
        }

        @Override
        public void close() {
            tiles.forEach(Gemm::close);
            arena.close();
        }
    }

    /** @param sum f64 [channels, channels], zeros */
    Gram(Products products, MemorySegment sum) {
        this.products = products;
        this.sum = sum;
    }

    /** @param rows {@link #BLOCK} of them, those that are none being zeros */
    void add(MemorySegment rows) {
        products.add(rows, sum);
    }

    /** Makes the matrix symmetric. */
    void finish() {
        int n = products.channels;
        double[] column = new double[n];
        for (int j = 0; j < n; j++) {
            for (int i = 0; i < j; i++) {
                column[i] = sum.getAtIndex(JAVA_DOUBLE, (long) i * n + j);
            }
            MemorySegment.copy(column, 0, sum, JAVA_DOUBLE, 8L * j * n, j);
        }
    }
}
