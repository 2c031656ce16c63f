package dev.tensorpress.kernel;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import dev.tensorpress.Effort.RandomTest;
import dev.tensorpress.kernel.Prune.Cut;
import dev.tensorpress.kernel.Prune.Order;
import dev.tensorpress.kernel.Prune.Scores;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** The kernels as Java calls them, against sorting in plain Java. Tiers are compared in the native tests. */
class PruneTest {
    private static Executor one;
    private static Executor three;

    @BeforeAll
    static void open() {
        one = Executor.cpu(1);
        three = Executor.cpu(3);
    }

    @AfterAll
    static void close() {
        one.close();
        three.close();
    }

    /** A matrix off any alignment, and its values. */
    private record Matrix(Scores spec, MemorySegment data, float[][] x) {
        static Matrix of(Scores s, Random r, Arena arena) {
            MemorySegment data = arena.allocate(s.type().bytes(s.rows() * s.stride()) + 1).asSlice(1);
            float[][] x = new float[(int) s.rows()][(int) s.cols()];
            int kind = r.nextInt(3);
            for (int i = 0; i < s.rows(); i++) {
                for (int j = 0; j < s.cols(); j++) {
                    // Few different values make many ties.
                    float v = kind == 0 ? (float) r.nextGaussian() : kind == 1 ? r.nextInt(7) - 3 : -r.nextInt(2) * 0f;
                    v = r.nextInt(50) == 0 ? (r.nextBoolean() ? -0f : Float.NEGATIVE_INFINITY) : v;
                    x[i][j] = put(data, s.type(), i * s.stride() + j, v);
                }
            }
            return new Matrix(s, data, x);
        }

        /** Its elements from the largest to the smallest, ties in row-major order. */
        List<At> sorted(int number) {
            List<At> all = new ArrayList<>();
            for (int i = 0; i < x.length; i++) {
                for (int j = 0; j < x[i].length; j++) {
                    all.add(new At(number, i, j, score(spec.order(), x[i][j])));
                }
            }
            all.sort(LARGEST);
            return all;
        }
    }

    private record At(int matrix, int row, int col, float score) {}

    /** Stable, so that ties stay in order. */
    private static final Comparator<At> LARGEST = (a, b) -> Float.compare(b.score, a.score);

    private static float score(Order order, float x) {
        return order == Order.MAGNITUDE ? Math.abs(x) : x + 0f;
    }

    private static float put(MemorySegment data, DType type, long at, float v) {
        if (type == DType.F32) {
            data.set(ValueLayout.JAVA_FLOAT_UNALIGNED, at * 4, v);
            return v;
        }
        short bits = type == DType.F16 ? Float.floatToFloat16(v)
                : (short) (Float.floatToRawIntBits(PlainQuantize.toBf16(v)) >>> 16);
        data.set(ValueLayout.JAVA_SHORT_UNALIGNED, at * 2, bits);
        return type == DType.F16 ? Float.float16ToFloat(bits) : Float.intBitsToFloat(bits << 16);
    }

    private static Scores random(Random r, DType type, Order order) {
        boolean large = r.nextInt(20) == 0;
        long rows = r.nextInt(large ? 2500 : 40);
        long cols = r.nextInt(large ? 200 : 40);
        return new Scores(rows, cols, cols + r.nextInt(3), type, order);
    }

    private static DType type(Random r) {
        return new DType[] {DType.F32, DType.F16, DType.BF16}[r.nextInt(3)];
    }

    private static Order order(Random r) {
        return Order.values()[r.nextInt(2)];
    }

    private static boolean[][] bits(Scores s, MemorySegment mask) {
        boolean[][] kept = new boolean[(int) s.rows()][(int) s.cols()];
        long line = (s.cols() + 7) / 8;
        for (int i = 0; i < s.rows(); i++) {
            for (int j = 0; j < line * 8; j++) {
                boolean set = (mask.get(ValueLayout.JAVA_BYTE, i * line + j / 8) >> j % 8 & 1) != 0;
                if (j < s.cols()) {
                    kept[i][j] = set;
                } else {
                    assertTrue(!set, "bit behind the last column of " + s);
                }
            }
        }
        return kept;
    }

    @FunctionalInterface
    private interface Masking {
        void fill(MemorySegment mask, Executor executor);
    }

    /** The mask, which has to be the same on any number of threads. */
    private static boolean[][] mask(Scores s, Arena arena, Masking masking) {
        MemorySegment a = arena.allocate(s.maskBytes() + 1).fill((byte) 0x55);
        MemorySegment b = arena.allocate(s.maskBytes() + 1).fill((byte) 0xaa);
        masking.fill(a.asSlice(0, s.maskBytes()), one);
        masking.fill(b.asSlice(0, s.maskBytes()), three);
        assertEquals(-1, a.asSlice(0, s.maskBytes()).mismatch(b.asSlice(0, s.maskBytes())), s.toString());
        return bits(s, a);
    }

    private static boolean[][] none(Scores s) {
        return new boolean[(int) s.rows()][(int) s.cols()];
    }

    @RandomTest
    void theLargestOfSeveralMatricesAreThoseThatSortingFinds() {
        Random r = Effort.random();
        for (int n = 0; n < 300; n++) {
            try (Arena arena = Arena.ofShared()) {
                DType type = type(r);
                Order order = order(r);
                List<Matrix> all = new ArrayList<>();
                List<At> sorted = new ArrayList<>();
                for (int i = 0; i <= r.nextInt(4); i++) {
                    // Magnitudes of f32 and bf16 compare.
                    DType own = type == DType.F16 || order == Order.VALUE ? type
                            : r.nextBoolean() ? DType.F32 : DType.BF16;
                    Matrix m = Matrix.of(random(r, own, order), r, arena);
                    sorted.addAll(m.sorted(all.size()));
                    all.add(m);
                }
                sorted.sort(LARGEST);
                List<Scores> specs = all.stream().map(Matrix::spec).toList();
                List<MemorySegment> data = all.stream().map(Matrix::data).toList();
                int k = sorted.isEmpty() ? r.nextInt(2) : r.nextInt(sorted.size() + 2);
                Cut cut = Prune.select(specs, data, k, one);
                assertEquals(cut, Prune.select(specs, data, k, three));
                List<boolean[][]> want = all.stream().map(m -> none(m.spec)).toList();
                long[] kept = new long[all.size()];
                for (At at : sorted.subList(0, Math.min(k, sorted.size()))) {
                    want.get(at.matrix)[at.row][at.col] = true;
                    kept[at.matrix]++;
                }
                for (int i = 0; i < all.size(); i++) {
                    int matrix = i;
                    Matrix m = all.get(i);
                    assertArrayEquals(want.get(i), mask(m.spec, arena,
                            (mask, executor) -> Prune.mask(m.spec, m.data, cut, matrix, mask, executor)), m.spec.toString());
                    assertEquals(kept[i], cut.kept().get(i));
                }
            }
        }
    }

    /** The magnitude is the same whatever is expected; near expectations save a pass. */
    @RandomTest
    void theLargestInPieces() {
        Random r = Effort.random();
        int n = 20_000;
        float[] x = new float[n];
        double[] sorted = new double[n];
        for (int i = 0; i < n; i++) {
            x[i] = (float) (r.nextGaussian() * (i % 3 == 0 ? 1e-3 : 1));
            sorted[i] = Math.abs(x[i]);
        }
        x[5] = Float.POSITIVE_INFINITY;
        x[6] = 0;
        sorted[5] = Double.POSITIVE_INFINITY;
        sorted[6] = 0;
        Arrays.sort(sorted);
        try (Arena arena = Arena.ofShared()) {
            MemorySegment data = arena.allocateFrom(ValueLayout.JAVA_FLOAT, x);
            for (int k : new int[] {1, 2, n / 5, n / 2, n - 1, n}) {
                float want = (float) sorted[n - k];
                for (float factor : new float[] {Float.NaN, 1, 1.03f, 0.97f, 3, 0, Float.POSITIVE_INFINITY}) {
                    Prune.Largest largest = new Prune.Largest(k);
                    if (!Float.isNaN(factor)) {
                        largest.expect(want == 0 ? factor : -want * factor);
                    }
                    int passes = 0;
                    boolean found;
                    do {
                        largest.add(data.asSlice(0, 4 * 9000), 9000, three);
                        largest.add(data.asSlice(4 * 9000), n - 9000, one);
                        found = largest.pass();
                        passes++;
                    } while (!found);
                    assertEquals(want, largest.magnitude());
                    boolean near = want > 0 && (factor == 1 || Float.isFinite(want) && Math.abs(factor - 1) < 0.05);
                    assertTrue(near ? passes == 2 : passes == 3 || passes == 2, k + " " + factor + " " + passes);
                    assertTrue(!Float.isNaN(factor) || passes == Prune.Largest.PASSES);
                }
            }
        }
    }

    @RandomTest
    void aLimitOnBytesKeepsAsMuchAsFits() {
        Random r = Effort.random();
        for (int n = 0; n < 100; n++) {
            try (Arena arena = Arena.ofShared()) {
                List<Matrix> all = new ArrayList<>();
                List<At> sorted = new ArrayList<>();
                for (int i = 0; i < 3; i++) {
                    Matrix m = Matrix.of(random(r, DType.F32, Order.MAGNITUDE), r, arena);
                    sorted.addAll(m.sorted(i));
                    all.add(m);
                }
                sorted.sort(LARGEST);
                long bound = r.nextInt(3 * sorted.size() + 10);
                long[] weights = {1 + r.nextInt(3), 1 + r.nextInt(3), 1 + r.nextInt(3)};
                long[] want = new long[3];
                long sum = 0;
                for (At at : sorted) {
                    if ((sum += weights[at.matrix]) > bound) {
                        break;
                    }
                    want[at.matrix]++;
                }
                Cut cut = Prune.select(all.stream().map(Matrix::spec).toList(), all.stream().map(Matrix::data).toList(),
                        kept -> kept[0] * weights[0] + kept[1] * weights[1] + kept[2] * weights[2] <= bound, three);
                assertEquals(List.of(want[0], want[1], want[2]), cut.kept());
            }
        }
        assertThrows(IllegalArgumentException.class, () -> Prune.select(List.of(), List.of(), kept -> false, one));
    }

    @RandomTest
    void linesAndGroupsKeepTheirLargest() {
        Random r = Effort.random();
        for (int n = 0; n < 300; n++) {
            try (Arena arena = Arena.ofShared()) {
                Matrix m = Matrix.of(random(r, type(r), order(r)), r, arena);
                Scores s = m.spec;
                for (int axis = 0; axis < 2; axis++) {
                    int along = axis;
                    long length = axis == 1 ? s.cols() : s.rows();
                    long k = r.nextLong(length + 2);
                    assertArrayEquals(groups(m, axis, length, k), mask(s, arena, (mask, executor) -> Prune.lines(s, along,
                            m.data, k, mask, executor)),
                            k + " along " + axis + " of " + s);
                    int size = 1 + r.nextInt(16);
                    int keep = 1 + r.nextInt(size);
                    assertArrayEquals(groups(m, axis, size, keep), mask(s, arena, (mask, executor) ->
                            Prune.nm(s, along, m.data, keep, size, mask, executor)),
                            keep + ":" + size + " along " + axis + " of " + s);
                }
            }
        }
    }

    /** The {@code k} largest of each {@code size} elements along the axis. */
    private static boolean[][] groups(Matrix m, int axis, long size, long k) {
        boolean[][] want = none(m.spec);
        int lines = (int) (axis == 1 ? m.spec.rows() : m.spec.cols());
        int length = (int) (axis == 1 ? m.spec.cols() : m.spec.rows());
        for (int line = 0; line < lines; line++) {
            for (int from = 0; from < length; from += (int) size) {
                List<At> group = new ArrayList<>();
                for (int i = from; i < Math.min(length, from + size); i++) {
                    int row = axis == 1 ? line : i;
                    int col = axis == 1 ? i : line;
                    group.add(new At(0, row, col, score(m.spec.order(), m.x[row][col])));
                }
                group.sort(LARGEST);
                for (At at : group.subList(0, (int) Math.min(k, group.size()))) {
                    want[at.row][at.col] = true;
                }
            }
        }
        return want;
    }

    @RandomTest
    void blocksHaveTheNormOrSumOfWhatIsThere() {
        Random r = Effort.random();
        for (int n = 0; n < 200; n++) {
            try (Arena arena = Arena.ofShared()) {
                Order order = order(r);
                Matrix m = Matrix.of(random(r, type(r), order), r, arena);
                Scores s = m.spec;
                long height = r.nextInt(10) == 0 ? 1L << 31 : 1 + r.nextInt(9);
                long width = r.nextInt(10) == 0 ? 1L << 31 : 1 + r.nextInt(9);
                Scores blocks = Prune.blocks(s, height, width);
                float[][] sums = new float[(int) blocks.rows()][(int) blocks.cols()];
                for (int i = 0; i < blocks.rows(); i++) {
                    for (int j = 0; j < blocks.cols(); j++) {
                        double sum = 0;
                        for (long y = i * height; y < Math.min(s.rows(), (i + 1) * height); y++) {
                            for (long x = j * width; x < Math.min(s.cols(), (j + 1) * width); x++) {
                                double v = m.x[(int) y][(int) x];
                                sum += order == Order.MAGNITUDE ? v * v : v;
                            }
                        }
                        sums[i][j] = (float) (order == Order.MAGNITUDE ? Math.sqrt(sum) : sum);
                    }
                }
                MemorySegment out = arena.allocate(4 * blocks.elements() + 4, 4);
                Prune.blocks(s, height, width, m.data, out, three);
                boolean[][] keep = none(blocks);
                MemorySegment chosen = arena.allocate(blocks.maskBytes() + 1);
                for (int i = 0; i < blocks.rows(); i++) {
                    for (int j = 0; j < blocks.cols(); j++) {
                        assertEquals(sums[i][j], out.getAtIndex(ValueLayout.JAVA_FLOAT, i * blocks.cols() + j));
                        keep[i][j] = r.nextBoolean();
                        long at = i * ((blocks.cols() + 7) / 8) + j / 8;
                        int bit = keep[i][j] ? 1 << j % 8 : 0;
                        chosen.set(ValueLayout.JAVA_BYTE, at, (byte) (chosen.get(ValueLayout.JAVA_BYTE, at) | bit));
                    }
                }
                boolean[][] expanded = mask(s, arena,
                        (mask, executor) -> Prune.expand(s, height, width, chosen, mask, executor));
                for (int i = 0; i < s.rows(); i++) {
                    for (int j = 0; j < s.cols(); j++) {
                        assertEquals(keep[(int) (i / height)][(int) (j / width)], expanded[i][j]);
                    }
                }
            }
        }
    }

    /** The mask comes from other scores than the elements. */
    @RandomTest
    void maskedElementsAndTheirError() {
        Random r = Effort.random();
        for (int n = 0; n < 200; n++) {
            try (Arena arena = Arena.ofShared()) {
                Matrix m = Matrix.of(random(r, type(r), order(r)), r, arena);
                Scores s = m.spec;
                Matrix scores = Matrix.of(Scores.of(s.rows(), s.cols(), DType.F32).order(Order.VALUE), r, arena);
                Cut cut = Prune.select(List.of(scores.spec), List.of(scores.data), r.nextLong(s.elements() + 1), one);
                MemorySegment mask = arena.allocate(s.maskBytes() + 1);
                Prune.mask(scores.spec, scores.data, cut, 0, mask, one);
                boolean[][] kept = bits(s, mask);
                int size = s.type().bits() / 8;
                MemorySegment out = arena.allocate(s.type().bytes(s.elements()) + 1).fill((byte) 7).asSlice(1);
                Prune.apply(s, m.data, mask, out, three);
                double error = 0;
                double squares = 0;
                double max = 0;
                for (int i = 0; i < s.rows(); i++) {
                    for (int j = 0; j < s.cols(); j++) {
                        long from = (i * s.stride() + j) * size;
                        long to = (i * s.cols() + j) * size;
                        for (int b = 0; b < size; b++) {
                            assertEquals(kept[i][j] ? m.data.get(ValueLayout.JAVA_BYTE, from + b) : 0,
                                    out.get(ValueLayout.JAVA_BYTE, to + b));
                        }
                        double x = m.x[i][j];
                        double lost = kept[i][j] ? x - x : x;
                        error += lost * lost;
                        squares += x * x;
                        max = Double.isNaN(lost) ? lost : Math.max(max, Math.abs(lost));
                    }
                }
                MemorySegment rows = arena.allocate(Prune.errorBytes(s) + 8, 8);
                Quantize.Error e = Prune.error(s, m.data, out, rows, one);
                assertEquals(e, Prune.error(s, m.data, out, rows, three));
                if (Double.isFinite(squares)) {
                    assertEquals(error, e.sumSquaredError(), 1e-12 * squares);
                    assertEquals(squares, e.sumSquares(), 1e-12 * squares);
                    assertEquals(max, e.maxError());
                }
            }
        }
    }

    @RandomTest
    void keysCutAtAScore() {
        Random r = Effort.random();
        for (int n = 0; n < 200; n++) {
            try (Arena arena = Arena.ofShared()) {
                Matrix m = Matrix.of(random(r, type(r), order(r)), r, arena);
                double least = r.nextInt(5) == 0 ? Double.POSITIVE_INFINITY : r.nextInt(9) / 2.0 - 2;
                int key = Prune.key(m.spec, least);
                boolean[][] want = none(m.spec);
                long kept = 0;
                for (int i = 0; i < m.spec.rows(); i++) {
                    for (int j = 0; j < m.spec.cols(); j++) {
                        want[i][j] = score(m.spec.order(), m.x[i][j]) >= least;
                        kept += want[i][j] ? 1 : 0;
                    }
                }
                assertArrayEquals(want, mask(m.spec, arena, (mask, executor) ->
                        Prune.mask(m.spec, m.data, key, m.spec.rows(), 0, mask, executor)));
                Prune.Count count = Prune.count(m.spec, m.data, key, three);
                assertEquals(kept, count.larger() + count.equal());
            }
        }
        assertThrows(KernelException.class, () -> Prune.key(Scores.of(1, 1, DType.F32), Double.NaN));
    }

    @Test
    void notANumberHasNoPlaceInAnOrder() {
        for (Order order : Order.values()) {
            try (Arena arena = Arena.ofShared()) {
                Scores s = Scores.of(40, 40, DType.F32).order(order);
                MemorySegment in = arena.allocate(6400, 4);
                in.setAtIndex(ValueLayout.JAVA_FLOAT, 1234, Float.NaN);
                MemorySegment mask = arena.allocate(s.maskBytes());
                MemorySegment out = arena.allocate(6400, 4);
                refused(() -> Prune.select(List.of(s), List.of(in), 7, three));
                refused(() -> Prune.lines(s, 1, in, 3, mask, three));
                refused(() -> Prune.nm(s, 0, in, 2, 4, mask, three));
                refused(() -> Prune.blocks(s, 4, 4, in, out, three));
            }
        }
    }

    private static void refused(Runnable call) {
        assertEquals(KernelException.NONFINITE, assertThrows(KernelException.class, call::run).status());
    }

    @Test
    void argumentsAreCheckedBeforeAnyNativeCode() {
        try (Arena arena = Arena.ofShared()) {
            Scores s = Scores.of(16, 16, DType.F32);
            Scores half = Scores.of(16, 16, DType.F16);
            MemorySegment ok = arena.allocate(1024, 64);
            MemorySegment small = arena.allocate(1023, 64);
            MemorySegment few = arena.allocate(31, 64);
            MemorySegment heap = MemorySegment.ofArray(new byte[1024]);
            List<MemorySegment> two = List.of(ok, ok);
            for (Runnable call : List.<Runnable>of(
                    () -> Scores.of(-1, 1, DType.F32),
                    () -> new Scores(2, 4, 3, DType.F32, Order.VALUE),
                    () -> Prune.select(List.of(s), List.of(small), 1, one),
                    () -> Prune.select(List.of(s), List.of(heap), 1, one),
                    () -> Prune.select(List.of(s), two, 1, one),
                    () -> Prune.select(List.of(s, half), two, 1, one),
                    () -> Prune.select(List.of(s.order(Order.VALUE), new Scores(16, 16, 16, DType.BF16, Order.VALUE)),
                            two, 1, one),
                    () -> Prune.select(List.of(s, s.order(Order.VALUE)), two, 1, one),
                    () -> Prune.select(List.of(s), List.of(ok), -1, one),
                    () -> Prune.count(Scores.of(16, 16, DType.I8), ok, 0, one),
                    () -> Prune.mask(s, ok, 0, 0, 0, few, one),
                    () -> Prune.nm(s, 1, ok, 3, 2, ok, one),
                    () -> Prune.nm(s, 1, ok, 0, 4, ok, one),
                    () -> Prune.nm(s, 1, ok, 2, 17, ok, one),
                    () -> Prune.blocks(s, 0, 4, ok, ok, one),
                    () -> Prune.expand(s, 1, 1, few, ok, one),
                    () -> Prune.apply(s, ok, few, ok, one),
                    () -> Prune.apply(s, ok, ok, small, one),
                    () -> Prune.error(s, ok, ok, few, one))) {
                assertThrows(IllegalArgumentException.class, call::run);
            }
            assertThrows(IllegalArgumentException.class, () -> Prune.lines(s, 2, ok, 1, ok, one));
            assertThrows(IllegalArgumentException.class, () -> Prune.lines(s, 1, ok, -1, ok, one));
        }
    }

    @Test
    void matricesWithoutElements() {
        try (Arena arena = Arena.ofShared()) {
            MemorySegment nothing = arena.allocate(0);
            for (Scores s : List.of(Scores.of(0, 5, DType.F32), Scores.of(5, 0, DType.BF16), Scores.of(0, 0, DType.F16))) {
                Cut cut = Prune.select(List.of(s), List.of(nothing), 3, three);
                assertEquals(List.of(0L), cut.kept());
                Prune.mask(s, nothing, cut, 0, nothing, three);
                Prune.nm(s, 0, nothing, 1, 2, nothing, three);
                Prune.blocks(s, 4, 4, nothing, nothing, three);
                Prune.apply(s, nothing, nothing, nothing, three);
                assertEquals(new Quantize.Error(0, 0, 0), Prune.error(s, nothing, nothing, arena.allocate(200), three));
                assertEquals(new Prune.Count(0, 0), Prune.count(s, nothing, 0, three));
            }
        }
    }

    /** In pieces as in one, with many that are equal, and none that is 0. */
    @Test
    void theLargestOfPiecesIsThatOfASortedArray() {
        Random random = new Random(4);
        try (Executor executor = Executor.cpu(2); Arena arena = Arena.ofShared()) {
            for (int n : new int[] {1, 2, 100, 4096, 20_000}) {
                float[] x = new float[n];
                for (int i = 0; i < n; i++) {
                    x[i] = random.nextInt(3) == 0 ? random.nextInt(5) - 2 : (float) random.nextGaussian();
                }
                MemorySegment in = arena.allocateFrom(ValueLayout.JAVA_FLOAT, x);
                double[] sorted = IntStream.range(0, n).mapToDouble(i -> Math.abs(x[i])).sorted().toArray();
                for (int k : new int[] {1, (n + 1) / 2, n}) {
                    Prune.Largest largest = new Prune.Largest(k);
                    int cut = random.nextInt(n + 1);
                    for (int pass = 0; pass < Prune.Largest.PASSES; pass++) {
                        largest.add(in, cut, executor);
                        largest.add(in.asSlice(4L * cut), n - cut, executor);
                        largest.pass();
                    }
                    assertEquals(sorted[n - k], largest.magnitude(), n + ", " + k);
                }
            }
        }
    }
}
