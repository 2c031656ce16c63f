package dev.tensorpress.kernel;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CyclicBarrier;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Results do not depend on what kernels run on: all families, on threads and on an executor that keeps to nothing but the contract. */
class ExecutorTest {
    private static final int ROWS = 203;
    private static final int COLS = 331;

    /** One granule at a time, in a random order, each by a random worker, all on the caller's thread; scratch is full of garbage. */
    private static final class Shuffled implements Executor {
        private final Random random = Effort.random();

        @Override
        public int threads() {
            return 3;
        }

        @Override
        public void run(long lines, long granule, long minimum, long scratch, Task task) {
            List<Long> begins = new ArrayList<>();
            for (long begin = 0; begin < lines; begin += granule) {
                begins.add(begin);
            }
            Collections.shuffle(begins, random);
            try (Arena arena = arena()) {
                List<Worker> workers = new ArrayList<>();
                for (int i = 0; i < threads(); i++) {
                    workers.add(new Worker(i, scratch == 0 ? MemorySegment.NULL : arena.allocate(scratch, 64)));
                }
                for (long begin : begins) {
                    Worker worker = workers.get(random.nextInt(threads()));
                    worker.scratch().fill((byte) 0xa5);
                    task.run(begin, Math.min(begin + granule, lines), worker);
                }
            }
        }

        @Override
        public Arena arena() {
            return Arena.ofShared();
        }

        @Override
        public void close() {}
    }

    /** What some kernels write, and what they return. */
    private interface Kernels {
        void run(Executor executor, Memory memory);
    }

    /** Inputs, the same for each executor, and what is compared. */
    private static final class Memory {
        final Arena arena;
        final Random random = Effort.random();
        final List<MemorySegment> results = new ArrayList<>();
        final List<Object> values = new ArrayList<>();

        Memory(Arena arena) {
            this.arena = arena;
        }

        MemorySegment f32(long n, int percentZeros) {
            MemorySegment s = arena.allocate(4 * n, 64);
            for (long i = 0; i < n; i++) {
                float x = (float) random.nextGaussian();
                s.setAtIndex(ValueLayout.JAVA_FLOAT, i, random.nextInt(100) < percentZeros ? 0 : x);
            }
            return s;
        }

        MemorySegment bytes(long n) {
            MemorySegment s = arena.allocate(n, 64);
            for (long i = 0; i < n; i++) {
                s.set(ValueLayout.JAVA_BYTE, i, (byte) random.nextInt(-127, 128));
            }
            return s;
        }

        MemorySegment result(long bytes) {
            results.add(arena.allocate(bytes, 64));
            return results.getLast();
        }
    }

    private record Family(String name, Kernels kernels) {
        @Override
        public String toString() {
            return name;
        }
    }

    private static Stream<Family> families() {
        return Stream.of(
                new Family("codebook", (e, m) -> codebook(e, m, 1)),
                new Family("codebook of vectors", (e, m) -> codebook(e, m, 2)),
                new Family("rans of bytes", (e, m) -> rans(e, m, DType.U8)),
                new Family("rans of symbols", (e, m) -> rans(e, m, DType.U16)),
                new Family("quantize rows", (e, m) -> quantize(e, m, 1, COLS, DType.I8, Quantize.Range.ABSMAX, 1, false)),
                new Family("quantize columns", (e, m) -> quantize(e, m, ROWS, 1, DType.U8, Quantize.Range.MINMAX, 1, true)),
                new Family("quantize blocks", (e, m) -> quantize(e, m, 1, 32, DType.U4, Quantize.Range.MINMAX, 8, false)),
                new Family("quantize blocks down", (e, m) -> quantize(e, m, 32, 1, DType.U4, Quantize.Range.MINMAX, 1, true)),
                new Family("quantize tensor", (e, m) -> quantize(e, m, ROWS, COLS, DType.I8, Quantize.Range.ABSMAX, 1, false)),
                new Family("quantize tensor, clipped", (e, m) -> quantize(e, m, ROWS, COLS, DType.I8, Quantize.Range.ABSMAX, 4, false)),
                new Family("prune", ExecutorTest::prune),
                new Family("sparse", ExecutorTest::sparse),
                new Family("spmm f32", (e, m) -> spmm(e, m, DType.F32)),
                new Family("spmm int8", (e, m) -> spmm(e, m, DType.I8)),
                new Family("gemm f32", (e, m) -> gemm(e, m, DType.F32)),
                new Family("gemm int8", (e, m) -> gemm(e, m, DType.I8)),
                new Family("statistics", ExecutorTest::statistics),
                new Family("feedback", ExecutorTest::feedback),
                new Family("svd", ExecutorTest::svd),
                new Family("tucker", ExecutorTest::tucker),
                new Family("transform", ExecutorTest::transform),
                new Family("hashing", ExecutorTest::hashing),
                new Family("merge", ExecutorTest::merge),
                new Family("pca", ExecutorTest::pca),
                new Family("features", ExecutorTest::features));
    }

    private static void codebook(Executor e, Memory m, int dimension) {
        long cols = COLS - COLS % dimension;
        Codebook.Spec spec = new Codebook.Spec(ROWS, cols, 50, 100, dimension, 4, false);
        MemorySegment in = m.f32(ROWS * cols, 10);
        MemorySegment tables = m.result(spec.tableBytes());
        Codebook.train(spec, DType.F32, in, MemorySegment.NULL, MemorySegment.NULL, 5, 20, tables, e);
        MemorySegment codes = m.result(spec.codes());
        Codebook.assign(spec, DType.F32, in, tables, codes, e);
        Codebook.decode(spec, codes, tables, m.result(4 * ROWS * cols), e);
        Codebook.gradients(spec, codes, in, m.result(2 * spec.tableBytes()), e);
    }

    private static void rans(Executor e, Memory m, DType type) {
        long alphabet = type == DType.U8 ? 256 : 4096;
        List<Coding.Rans> arrays = new ArrayList<>();
        MemorySegment frequencies = m.arena.allocate(7 * 2 * alphabet, 64);
        MemorySegment coded = m.arena.allocate(7 * Coding.ransBound(type, 70_000), 64);
        long in = 0;
        long out = 0;
        for (int a = 0; a < 7; a++) {
            int n = a == 3 ? 70_000 : 2 + m.random.nextInt(9000);
            MemorySegment plain = m.arena.allocate(type.bytes(n), 2);
            for (int i = 0; i < n; i++) {
                int symbol = (int) Math.clamp(alphabet / 2 + Math.round(alphabet / 20.0 * m.random.nextGaussian()) + (i == 0 ? 1 : 0), 0, alphabet - 1);
                if (type == DType.U8) {
                    plain.set(ValueLayout.JAVA_BYTE, i, (byte) symbol);
                } else {
                    plain.setAtIndex(ValueLayout.JAVA_SHORT, i, (short) symbol);
                }
            }
            Coding.Rans array = Coding.encodeRans(type, plain, frequencies.asSlice(2 * a * alphabet), coded.asSlice(in)).at(in, out);
            arrays.add(array);
            in += array.bytes();
            out += n;
            m.values.add(array.bytes());
        }
        Coding.decodeRans(type, arrays, frequencies, coded, m.result(type.bytes(out)), e);
        Coding.Rans last = arrays.removeLast();
        arrays.add(new Coding.Rans(last.symbols(), last.in(), last.bytes() - 2, last.out(), last.logTotal()));
        MemorySegment others = m.result(type.bytes(out));
        assertThrows(CodingFormatException.class, () -> Coding.decodeRans(type, arrays, frequencies, coded, others, e));
        others.asSlice(type.bytes(last.out())).fill((byte) 0);
    }

    private static void quantize(Executor executor, Memory memory, long groupRows, long groupCols, DType type,
            Quantize.Range range, int clipSteps, boolean transposed) {
        long outStride = transposed ? ROWS : COLS;
        Quantize.Spec spec = new Quantize.Spec(ROWS, COLS, COLS, outStride, groupRows, groupCols, DType.F32, type, DType.F32,
                type == DType.I8 ? -127 : 0, type == DType.I8 ? 127 : type == DType.U8 ? 255 : 15, range, Quantize.Rounding.DIVIDE,
                transposed, false, clipSteps, 0.7f);
        quantize(executor, memory, spec);
        if (clipSteps > 1) {
            MemorySegment numbers = memory.f32(ROWS * COLS, 0);
            for (long i = 0; i < ROWS * COLS; i++) {
                numbers.setAtIndex(ValueLayout.JAVA_FLOAT, i, Math.abs(numbers.getAtIndex(ValueLayout.JAVA_FLOAT, i)));
            }
            quantize(executor, memory, spec.importance(new Quantize.Importance(numbers, 1)).powersOfTwo(3));
        }
    }

    private static void quantize(Executor executor, Memory memory, Quantize.Spec spec) {
        Quantize.Range range = spec.range();
        MemorySegment in = memory.f32(ROWS * COLS, 0);
        MemorySegment codes = memory.result(ROWS * COLS);
        MemorySegment scales = memory.result(4L * ROWS * COLS);
        MemorySegment zeros = range == Quantize.Range.MINMAX ? memory.result(ROWS * COLS) : MemorySegment.NULL;
        Quantize.quantize(spec, in, codes, scales, zeros, executor);
        Quantize.dequantize(spec, codes, scales, zeros, memory.result(4L * ROWS * COLS), executor);
        memory.values.add(Quantize.error(spec, in, codes, scales, zeros, memory.result(Quantize.errorBytes(spec)), executor));
    }

    private static void prune(Executor executor, Memory memory) {
        Prune.Scores scores = Prune.Scores.of(ROWS, COLS, DType.F32);
        MemorySegment in = memory.f32(ROWS * COLS, 10);
        Prune.Cut cut = Prune.select(List.of(scores, scores), List.of(in, memory.f32(ROWS * COLS, 50)), ROWS * COLS / 2, executor);
        memory.values.add(cut);
        memory.values.add(Prune.count(scores, in, cut.key(), executor));
        MemorySegment mask = memory.result(scores.maskBytes());
        Prune.mask(scores, in, cut, 0, mask, executor);
        Prune.lines(scores, 0, in, 50, memory.result(scores.maskBytes()), executor);
        Prune.lines(scores, 1, in, 50, memory.result(scores.maskBytes()), executor);
        Prune.nm(scores, 0, in, 2, 4, memory.result(scores.maskBytes()), executor);
        Prune.nm(scores, 1, in, 2, 4, memory.result(scores.maskBytes()), executor);
        Prune.Scores blocks = Prune.blocks(scores, 4, 8);
        MemorySegment sums = memory.result(4 * blocks.elements());
        Prune.blocks(scores, 4, 8, in, sums, executor);
        MemorySegment chosen = memory.result(blocks.maskBytes());
        Prune.mask(blocks, sums, Prune.select(List.of(blocks), List.of(sums), blocks.elements() / 2, executor), 0, chosen, executor);
        Prune.expand(scores, 4, 8, chosen, memory.result(scores.maskBytes()), executor);
        MemorySegment out = memory.result(4L * ROWS * COLS);
        Prune.apply(scores, in, mask, out, executor);
        memory.values.add(Prune.error(scores, in, out, memory.result(Prune.errorBytes(scores)), executor));
    }

    private static void sparse(Executor executor, Memory memory) {
        MemorySegment in = memory.f32(ROWS * COLS, 90);
        memory.values.add(Sparse.survey(DType.F32, ROWS, COLS, in, executor));
        for (Sparse.Layout layout : List.of(Sparse.Layout.CSR16, Sparse.Layout.CSR32, Sparse.Layout.BSR, Sparse.Layout.BITMASK)) {
            int block = layout == Sparse.Layout.BSR ? 4 : 0;
            SparseMatrix packed = Sparse.pack(DType.F32, ROWS, COLS, in, layout, block, memory.arena, executor);
            memory.results.addAll(List.of(packed.offsets(), packed.indices(), packed.values()));
            SparseMatrix checked = SparseMatrix.of(layout, DType.F32, ROWS, COLS, block, packed.units(),
                    layout == Sparse.Layout.BITMASK ? MemorySegment.NULL : packed.offsets(), packed.indices(), packed.values(),
                    memory.arena, executor);
            Sparse.unpack(checked, memory.result(4L * ROWS * COLS), executor);
        }
    }

    private static void feedback(Executor executor, Memory memory) {
        MemorySegment x = memory.f32(2L * ROWS * ROWS, 0);
        MemorySegment w = memory.f32((long) ROWS * COLS, 0);
        MemorySegment scales = memory.f32(COLS, 0);
        for (long j = 0; j < COLS; j++) {
            scales.setAtIndex(ValueLayout.JAVA_FLOAT, j, 0.1f + Math.abs(scales.getAtIndex(ValueLayout.JAVA_FLOAT, j)));
        }
        MemorySegment h = memory.result(8L * ROWS * ROWS);
        for (int i = 0; i < ROWS; i++) {
            for (int l = 0; l <= i; l++) {
                double sum = 0;
                for (int s = 0; s < 2 * ROWS; s++) {
                    sum += (double) x.getAtIndex(ValueLayout.JAVA_FLOAT, (long) s * ROWS + i) * x.getAtIndex(ValueLayout.JAVA_FLOAT, (long) s * ROWS + l);
                }
                h.setAtIndex(ValueLayout.JAVA_DOUBLE, (long) i * ROWS + l, sum);
                h.setAtIndex(ValueLayout.JAVA_DOUBLE, (long) l * ROWS + i, sum);
            }
        }
        MemorySegment lost = memory.result(4L * ROWS * COLS);
        Feedback.Codes codes = new Feedback.Codes(-7, 7, memory.arena.allocate(4L * ROWS, 4), scales, MemorySegment.NULL, 1, false);
        try (LinearAlgebra algebra = new LinearAlgebra(executor)) {
            int[] order = IntStream.range(0, ROWS).map(i -> ROWS - 1 - i).toArray();
            memory.values.add(Feedback.gptq(ROWS, COLS, h, 0.1, order, w, codes, lost, algebra, executor));
            memory.values.add(Feedback.descend(ROWS, COLS, h, 0.1, w, codes, lost, 4, algebra, executor));
            Prune.Scores spec = Prune.Scores.of(ROWS, COLS, DType.F32);
            Feedback.prune(ROWS, COLS, h, 0.1, w, (scores, mask) -> Prune.lines(spec, 0, scores, ROWS / 2, mask, executor), 2, 3,
                    memory.result(spec.maskBytes()), memory.result(4L * ROWS * COLS), algebra, executor);
        }
    }

    private static void transform(Executor executor, Memory memory) {
        long n = (long) ROWS * COLS;
        MemorySegment x = memory.f32(n, 0);
        MemorySegment codes = memory.result(4 * n);
        for (int dimensions = 1; dimensions <= 2; dimensions++) {
            Transform.dct(ROWS, COLS, 16, dimensions, false, x, memory.result(4 * n), executor);
            for (boolean inverse : new boolean[] {false, true}) {
                Transform.wavelet(Transform.Wavelet.CDF97, ROWS, COLS, dimensions, 3, inverse, x, memory.result(4 * n), executor);
            }
        }
        Transform.Zone zone = new Transform.Zone(0.7f, 0.1f, 300);
        Transform.Steps steps = Transform.Steps.of(0.05f);
        memory.values.add(Transform.quantize(zone, steps, n, x, codes, executor)[0]);
        Transform.decode(zone, steps, n, codes, memory.result(4 * n), executor);
        Transform.narrow(DType.I16, n, codes, memory.result(2 * n), executor);
        Transform.widen(DType.I16, n, memory.results.getLast(), memory.result(4 * n), executor);
        for (long count : Transform.counts(300, n, codes, executor)) {
            memory.values.add(count);
        }
    }

    private static void merge(Executor executor, Memory memory) {
        long n = (long) ROWS * COLS;
        List<MemorySegment> in = List.of(memory.f32(n, 0), memory.f32(n, 1), memory.f32(n, 2));
        Merge.combine(DType.F32, n, in, new double[] {0.2, 0.3, 0.5}, memory.result(4 * n), executor);
        double[] sums = new double[3];
        Merge.inner(DType.F32, n, in.get(0), in.get(1), sums, executor);
        memory.values.add(List.of(sums[0], sums[1], sums[2]));
        MemorySegment delta = memory.result(4 * n);
        Merge.delta(DType.F32, n, in.get(0), in.get(1), delta, executor);
        Prune.Largest largest = new Prune.Largest(n / 3);
        do {
            largest.add(delta, n, executor);
        } while (!largest.pass());
        memory.values.add(largest.magnitude());
        for (Merge.Drop drop : Merge.Drop.values()) {
            Merge.tasks(new Merge.Tasks(drop, drop != Merge.Drop.NONE, 0.7, 0.4, 5, 6), DType.F32, n, in, new double[] {1, 0.5},
                    new float[] {largest.magnitude(), 0.1f}, 7, memory.result(4 * n), executor);
        }
    }

    private static void hashing(Executor executor, Memory memory) {
        Hashing.Spec spec = new Hashing.Spec(ROWS, COLS, 500, 3);
        MemorySegment values = memory.result(4 * 500);
        Hashing.fit(spec, memory.f32((long) ROWS * COLS, 0), values, executor);
        Hashing.decode(spec, values, memory.result(4L * ROWS * COLS), executor);
    }

    /** One row is long enough to be split. */
    private static void spmm(Executor executor, Memory memory, DType type) {
        int cols = 40_000;
        int rows = 12;
        MemorySegment in = type == DType.F32 ? memory.f32(rows * cols, 0) : memory.bytes(rows * cols);
        for (long i = cols; i < (long) rows * cols; i++) {
            if (i % 7 != 0) {
                in.asSlice(type.bytes(i), type.bytes(1)).fill((byte) 0);
            }
        }
        for (Sparse.Layout layout : List.of(Sparse.Layout.CSR16, Sparse.Layout.CSR32)) {
            SparseMatrix a = Sparse.pack(type, rows, cols, in, layout, 0, memory.arena, executor);
            for (int n : new int[] {5, 70}) {
                MemorySegment b = type == DType.F32 ? memory.f32((long) cols * n, 0) : memory.bytes((long) cols * n);
                Spmm.multiply(a, n, b, memory.result(4L * rows * n), executor);
                Spmm.multiplyTransposed(a, n, b, memory.result(4L * cols * n), executor);
            }
        }
    }

    private static void gemm(Executor executor, Memory memory, DType type) {
        MemorySegment a = type == DType.F32 ? memory.f32(ROWS * COLS, 0) : memory.bytes(ROWS * COLS);
        MemorySegment b = type == DType.F32 ? memory.f32(COLS * 400, 0) : memory.bytes(COLS * 400);
        try (Gemm gemm = new Gemm(Gemm.Spec.of(type, Gemm.Form.AB, ROWS, 400, COLS), executor)) {
            gemm.pack(b).multiply(a, memory.result(4L * ROWS * 400));
            if (type == DType.I8) {
                gemm.multiplyToFloat(ROWS, a, memory.result(4L * ROWS * 400), new Gemm.Affine(MemorySegment.NULL, memory.bytes(400),
                        memory.f32(ROWS, 0), memory.f32(400, 0)));
            }
        }
    }

    private static void statistics(Executor executor, Memory memory) {
        MemorySegment x = memory.f32(ROWS * COLS, 0);
        MemorySegment counts = memory.result(8L * Observe.BINS);
        Observe.histogram(x, ROWS, COLS - 1, COLS, 0x1p-8f, counts, executor);
        Observe.histogram(x, ROWS, COLS, COLS, 0x1p-8f, counts, executor);
        for (int channels : new int[] {1, COLS}) {
            memory.values.add(Observe.channels(x, ROWS * COLS / channels, channels, channels, memory.result(4L * channels),
                    memory.result(4L * channels), memory.result(8L * channels), memory.result(8L * channels), executor));
        }
        for (int groups : new int[] {1, 2}) {
            int channels = COLS / groups;
            try (Gram gram = new Gram(groups, channels, memory.result(8L * groups * channels * channels), executor)) {
                for (int i = 0; i < 3; i++) {
                    gram.add(x, ROWS, COLS);
                }
                gram.finish();
            }
        }
        Patches.Pair two = new Patches.Pair(2, 2);
        Patches patches = new Patches(7, 29, COLS, new Patches.Pair(3, 3), two, two, two, two);
        patches.take(x, 1, patches.positions() - 1, memory.result(4 * (patches.positions() - 1) * patches.length()), executor);
    }

    private static void tucker(Executor executor, Memory memory) {
        Tucker.Size size = new Tucker.Size(90, 70, 9);
        MemorySegment in = memory.f32(size.elements(), 0);
        try (LinearAlgebra algebra = new LinearAlgebra(executor)) {
            memory.values.add(new Tucker(algebra).decompose(size, in, new Tucker.Ranks(20, 12), new Tucker.Options(2, 0),
                    memory.result(4 * 90 * 20), memory.result(4 * 20 * 12 * 9), memory.result(4 * 12 * 70)));
            memory.values.add(new Polyadic(algebra).decompose(size, in, 30, new Tucker.Options(2, 0), memory.result(4 * 90 * 30),
                    memory.result(4 * 30 * 9), memory.result(4 * 30 * 70)));
        }
    }

    private static void svd(Executor executor, Memory memory) {
        MemorySegment in = memory.f32(300 * 260, 0);
        View view = new View(DType.F32, in, 260);
        try (Svd svd = new Svd(executor)) {
            svd.full(view, 300, 260, memory.result(4 * 300 * 260), memory.result(4 * 260), memory.result(4 * 260 * 260));
            memory.values.add(svd.truncated(view, 300, 260, 20, Svd.Options.DEFAULT, memory.result(4 * 300 * 20), memory.result(4 * 20),
                    memory.result(4 * 20 * 260)));
            svd.batch(new View(DType.F32, in, 16), 100, 256, 16, 16, memory.result(4 * 100 * 256), memory.result(4 * 100 * 16),
                    memory.result(4 * 100 * 256));
            // Large enough to be rounded; on a device, to be searched there.
            int cols = executor.device().equals(Device.CPU) ? 1000 : 300;
            int rows = cols + 100;
            View large = new View(DType.F32, memory.f32(rows * cols, 0), cols);
            memory.values.add(svd.truncated(large, rows, cols, 8, Svd.Options.DEFAULT, memory.result(4 * rows * 8), memory.result(4 * 8),
                    memory.result(4 * 8 * cols)));
        }
        try (LinearAlgebra algebra = new LinearAlgebra(executor)) {
            memory.values.add(algebra.sumOfSquares(view, 300, 260));
            algebra.gaussian(7, 1, 5000, DType.F64, memory.result(8 * 5000));
            MemorySegment g = memory.result(8 * 260 * 260);
            algebra.gram(view, true, 260, 300, 1, g);
            for (long i = 0; i < 260; i++) {
                g.asSlice(8 * (i * 260 + i + 1), 8 * (259 - i)).fill((byte) 0); // no part of the result
            }
            algebra.symmetricEigenvalues(260, memory.arena.allocate(8 * 260 * 260, 64).copyFrom(g), memory.result(8 * 260));
            algebra.orthonormalize(40, 260, memory.result(8 * 40 * 260).copyFrom(g.asSlice(0, 8 * 40 * 260)));
        }
    }

    private static void pca(Executor executor, Memory memory) {
        try (Pca pca = Pca.ofRank(new View(DType.F32, memory.f32(300 * 90, 0), 90), 300, 90, 12, executor)) {
            memory.result(8 * 12 * 90).copyFrom(pca.components());
            memory.result(8 * 90).copyFrom(pca.mean());
            MemorySegment scores = memory.result(8 * 50 * 12);
            pca.transform(new View(DType.F32, memory.f32(50 * 90, 0), 90), 50, scores, executor);
            pca.inverse(scores, 50, memory.result(8 * 50 * 90), executor);
        }
    }

    /** Scores of features, and sparse data: components by the Gram matrix and by products. */
    private static void features(Executor executor, Memory memory) {
        View view = new View(DType.F32, memory.f32(300 * 90, 0), 90);
        int[] classes = new int[300];
        Arrays.setAll(classes, i -> i % 7);
        MemorySegment anova = memory.result(2 * 8 * 90);
        FeatureScores scores = FeatureScores.anova(view, 300, 90, classes, executor);
        MemorySegment.copy(scores.values(), 0, anova, ValueLayout.JAVA_DOUBLE, 0, 90);
        MemorySegment.copy(scores.pValues(), 0, anova, ValueLayout.JAVA_DOUBLE, 8 * 90, 90);
        for (int cols : new int[] {90, 700}) {
            MemorySegment x = memory.f32(800L * cols, 0);
            for (int i = 0; i < 800 * cols; i++) {
                if (i % 11 != 3) {
                    x.setAtIndex(ValueLayout.JAVA_FLOAT, i, 0);
                }
            }
            SparseMatrix matrix = Sparse.pack(DType.F32, 800, cols, x, Sparse.Layout.CSR32, 0, memory.arena, executor);
            try (Pca pca = Pca.ofRank(matrix, 12, executor)) {
                memory.result(8L * 12 * cols).copyFrom(pca.components());
                pca.transform(matrix, memory.result(8 * 800 * 12), executor);
            }
            MemorySegment variance = memory.result(8L * cols);
            MemorySegment.copy(FeatureScores.variance(matrix, executor).values(), 0, variance, ValueLayout.JAVA_DOUBLE, 0, cols);
        }
    }

    @ParameterizedTest
    @MethodSource("families")
    void resultsAreThoseOfEveryExecutor(Family family) {
        try (Executor one = Executor.cpu(1); Executor four = Executor.cpu(4); Executor shuffled = new Shuffled()) {
            assertAlike(family, one, four, shuffled);
        }
    }

    /** Floats of products may differ from the processor's, but not from one executor on the device to another. */
    @ParameterizedTest
    @MethodSource("families")
    void resultsOnADeviceAreThoseOfTheProcessor(Family family) {
        boolean floats = List.of("spmm f32", "svd", "pca").contains(family.name);
        // Memory for pieces of the matrices, or for little more than what is taken whole.
        long memory = family.name.startsWith("gemm") ? 1 << 20 : floats || family.name.startsWith("spmm") ? 16 << 20
                : List.of("statistics", "feedback").contains(family.name) ? 3 << 20 : 500_000;
        try (Executor one = Executor.cpu(1); Executor device = Executor.on(Device.cuda(0), 1);
                Executor small = new CudaExecutor(Device.cuda(0), 3, memory)) {
            assertAlike(family, floats ? small : one, device, small);
        }
    }

    private static void assertAlike(Family family, Executor first, Executor... others) {
        try (Arena arena = Arena.ofShared()) {
            Memory expected = new Memory(arena);
            family.kernels.run(first, expected);
            for (Executor executor : others) {
                Memory found = new Memory(arena);
                family.kernels.run(executor, found);
                assertEquals(expected.values.toString(), found.values.toString());
                for (int i = 0; i < expected.results.size(); i++) {
                    assertArrayEquals(expected.results.get(i).toArray(ValueLayout.JAVA_BYTE),
                            found.results.get(i).toArray(ValueLayout.JAVA_BYTE), "result " + i);
                }
            }
        }
    }

    @Test
    void eachWorkerHasAlignedScratchOfItsOwn() {
        try (Executor executor = Executor.cpu(3)) {
            for (long bytes : new long[] {1, 64, 1000, 10}) {
                MemorySegment[] seen = new MemorySegment[3];
                executor.run(1000, 1, 1, bytes, (begin, end, worker) -> {
                    MemorySegment s = worker.scratch();
                    assertTrue(s.byteSize() >= bytes && s.address() % 64 == 0, s.toString());
                    assertTrue(seen[worker.index()] == null || seen[worker.index()].equals(s));
                    seen[worker.index()] = s;
                });
                for (int i = 0; i < 3; i++) {
                    for (int j = 0; j < i; j++) {
                        assertTrue(seen[i] == null || seen[j] == null || seen[i].asOverlappingSlice(seen[j]).isEmpty());
                    }
                }
            }
            executor.run(10, 1, 1, (begin, end, worker) -> assertEquals(MemorySegment.NULL, worker.scratch()));
        }
    }

    @Test
    void runsAtOneTimeShareNoScratch() throws Exception {
        try (Executor executor = Executor.cpu(1)) {
            CyclicBarrier both = new CyclicBarrier(2);
            MemorySegment[] seen = new MemorySegment[2];
            Runnable[] runs = new Runnable[2];
            for (int i = 0; i < 2; i++) {
                int own = i;
                runs[i] = () -> executor.run(1, 1, 1, 4096, (begin, end, worker) -> {
                    seen[own] = worker.scratch();
                    try {
                        both.await();
                        worker.scratch().fill((byte) own);
                        both.await();
                    } catch (Exception e) {
                        throw new IllegalStateException(e);
                    }
                    assertEquals(own, worker.scratch().get(ValueLayout.JAVA_BYTE, 0));
                });
            }
            Thread other = new Thread(runs[1]);
            other.start();
            runs[0].run();
            other.join();
            assertTrue(seen[0].asOverlappingSlice(seen[1]).isEmpty());
        }
    }

    @Test
    void scratchGoesWithTheExecutor() {
        Executor executor = Executor.cpu(1);
        MemorySegment[] seen = new MemorySegment[1];
        executor.run(1, 1, 1, 64, (begin, end, worker) -> seen[0] = worker.scratch());
        executor.close();
        assertThrows(IllegalStateException.class, () -> seen[0].get(ValueLayout.JAVA_BYTE, 0));
    }
}
