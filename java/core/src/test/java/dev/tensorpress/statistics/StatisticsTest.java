package dev.tensorpress.statistics;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.Graph.Window;
import dev.tensorpress.model.Graph.Window.Pair;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.SplittableRandom;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class StatisticsTest {
    private static final Window WINDOW = new Window(3, 2, new Pair(2, 1), new Pair(1, 2), new Pair(1, 0), new Pair(0, 1), 2);

    @TempDir
    Path folder;
    private final Executor executor = Executor.cpu(2);
    private final Arena arena = Arena.ofShared();

    @AfterEach
    void close() {
        executor.close();
        arena.close();
    }

    private record Named(String name) implements Graph.Value {
        @Override
        public String path() {
            return "";
        }

        @Override
        public Optional<Graph.Operator> producer() {
            return Optional.empty();
        }

        @Override
        public List<Graph.Operator> readers() {
            return List.of();
        }

        @Override
        public boolean isOutput() {
            return false;
        }
    }

    private static final Named X = new Named("x");
    private static final Named IMAGE = new Named("image");

    private static Request request(Graph.Value value, int axis, boolean gram) {
        return new Request(value, OptionalInt.of(axis), Optional.empty(), gram, true);
    }

    private static final Request ROWS = request(X, -1, true);
    private static final Request PLANES = request(IMAGE, 1, false);
    private static final Request PATCHES = new Request(IMAGE, OptionalInt.of(1), Optional.of(WINDOW), true, false);
    private static final Request WHOLE = new Request(IMAGE, OptionalInt.empty(), Optional.empty(), false, true);
    private static final List<Request> ALL = List.of(ROWS, PLANES, PATCHES, WHOLE);

    private Tensor tensor(Shape shape, float... values) {
        MemorySegment data = arena.allocate(4L * Math.max(1, values.length), 64).asSlice(0, 4L * values.length);
        MemorySegment.copy(values, 0, data, ValueLayout.JAVA_FLOAT, 0, values.length);
        return new Tensor(DType.F32, shape, data);
    }

    private static float[] random(int n, int seed, double scale) {
        SplittableRandom random = new SplittableRandom(seed);
        float[] values = new float[n];
        for (int i = 0; i < n; i++) {
            values[i] = (float) (scale * random.nextGaussian());
        }
        return values;
    }

    /** Samples of 100 rows of 70 channels, and of two images of four channels, the later ones larger than the first. */
    private Statistics gather(Executor on, int from, int to) {
        try (Gatherer g = new Gatherer(ALL, on)) {
            for (int i = from; i < to; i++) {
                g.accept(i, X, tensor(Shape.of(1, 100, 70), random(7000, i, 1 + i)));
                g.accept(i, IMAGE, tensor(Shape.of(2, 4, 5, 6 + i), random(40 * (6 + i), 100 + i, 3)));
            }
            return g.finish("hash", to - from, "random inputs");
        }
    }

    @Test
    void channelsAreCountedAndAddedUp() {
        try (Statistics s = gather(executor, 0, 5)) {
            ValueStatistics v = s.of(ROWS).orElseThrow();
            assertEquals(500, v.rows());
            assertEquals(70, v.channels());
            for (int c = 0; c < 70; c++) {
                float min = Float.MAX_VALUE;
                float max = -Float.MAX_VALUE;
                double sum = 0;
                double squares = 0;
                double product = 0;
                for (int i = 0; i < 5; i++) {
                    float[] x = random(7000, i, 1 + i);
                    for (int r = 0; r < 100; r++) {
                        float e = x[70 * r + c];
                        min = Math.min(min, e);
                        max = Math.max(max, e);
                        sum += e;
                        squares += (double) e * e;
                        product += (double) e * x[70 * r + (c + 1) % 70];
                    }
                }
                assertEquals(min, v.min()[c]);
                assertEquals(max, v.max()[c]);
                assertEquals(sum, v.sum()[c], 1e-9);
                assertEquals(squares, v.squares()[c], 1e-8);
                MemorySegment gram = v.gram().orElseThrow();
                assertEquals(squares, gram.getAtIndex(ValueLayout.JAVA_DOUBLE, 71L * c), 1e-5 * squares);
                assertEquals(product, gram.getAtIndex(ValueLayout.JAVA_DOUBLE, 70L * c + (c + 1) % 70), 1e-5 * squares);
                assertEquals(gram.getAtIndex(ValueLayout.JAVA_DOUBLE, 70L * c + 3), gram.getAtIndex(ValueLayout.JAVA_DOUBLE, 70L * 3 + c));
            }
        }
    }

    @Test
    void histogramsGrowToTheLargestElement() {
        try (Statistics s = gather(executor, 0, 5); Statistics last = gather(executor, 4, 5)) {
            Histogram h = s.of(ROWS).orElseThrow().histogram().orElseThrow();
            float most = 0;
            long[] counts = new long[Histogram.BINS];
            for (int i = 0; i < 5; i++) {
                for (float x : random(7000, i, 1 + i)) {
                    most = Math.max(most, Math.abs(x));
                    counts[(int) Math.floor(x / h.width()) + 1024]++;
                }
            }
            assertTrue(most <= 1024 * h.width() && most > 512 * h.width(), most + " in bins of " + h.width());
            assertArrayEquals(counts, h.counts());
            assertEquals(h.width(), last.of(ROWS).orElseThrow().histogram().orElseThrow().width());
        }
    }

    /** Patches by their definition: the element of the image, or zero around it. */
    @Test
    void convolutionsSeePatches() {
        try (Statistics s = gather(executor, 0, 3)) {
            ValueStatistics v = s.of(PATCHES).orElseThrow();
            assertEquals(24, v.channels());
            double[] gram = new double[2 * 12 * 12];
            double[] sums = new double[24];
            long rows = 0;
            for (int i = 0; i < 3; i++) {
                int width = 6 + i;
                float[] x = random(40 * width, 100 + i, 3);
                for (int n = 0; n < 2; n++) {
                    for (int row = 0; row + 3 <= 6; row += 2) {
                        for (int column = 0; column + 3 <= width + 1; column++) {
                            rows++;
                            double[] patch = new double[24];
                            for (int k = 0; k < 24; k++) {
                                int y = row - 1 + k % 6 / 2;
                                int at = column + k % 2 * 2;
                                patch[k] = y < 0 || at >= width ? 0 : x[((n * 4 + k / 6) * 5 + y) * width + at];
                                sums[k] += patch[k];
                            }
                            for (int k = 0; k < 288; k++) {
                                gram[k] += patch[k / 144 * 12 + k / 12 % 12] * patch[k / 144 * 12 + k % 12];
                            }
                        }
                    }
                }
            }
            assertEquals(rows, v.rows());
            assertArrayEquals(sums, v.sum(), 1e-9);
            assertArrayEquals(gram, v.gram().orElseThrow().toArray(ValueLayout.JAVA_DOUBLE), 1e-5 * Arrays.stream(gram).max().orElse(0));
            assertEquals(2 * 5 * (6 + 7 + 8), s.of(IMAGE).orElseThrow().rows());
            assertEquals(4, s.of(IMAGE).orElseThrow().channels());
            assertEquals(1, s.of(WHOLE).orElseThrow().channels());
            assertEquals(Arrays.stream(s.of(PLANES).orElseThrow().sum()).sum(), s.of(WHOLE).orElseThrow().sum()[0], 1e-9);
        }
    }

    private static void assertSame(Statistics a, Statistics b, double tolerance) {
        assertEquals(a.model(), b.model());
        assertEquals(a.samples(), b.samples());
        assertEquals(a.source(), b.source());
        assertEquals(a.values().size(), b.values().size());
        for (int i = 0; i < a.values().size(); i++) {
            ValueStatistics v = a.values().get(i);
            ValueStatistics w = b.values().get(i);
            assertEquals(v.name(), w.name());
            assertEquals(v.path(), w.path());
            assertEquals(v.axis(), w.axis());
            assertEquals(v.window(), w.window());
            assertEquals(v.rows(), w.rows());
            assertArrayEquals(v.min(), w.min());
            assertArrayEquals(v.max(), w.max());
            assertEquals(v.histogram().isPresent(), w.histogram().isPresent());
            v.histogram().ifPresent(h -> {
                assertEquals(h.width(), w.histogram().orElseThrow().width());
                assertArrayEquals(h.counts(), w.histogram().orElseThrow().counts());
            });
            double largest = Arrays.stream(v.squares()).max().orElse(0);
            assertArrayEquals(v.sum(), w.sum(), tolerance * largest);
            assertArrayEquals(v.squares(), w.squares(), tolerance * largest);
            assertEquals(v.gram().isPresent(), w.gram().isPresent());
            v.gram().ifPresent(g -> assertArrayEquals(g.toArray(ValueLayout.JAVA_DOUBLE),
                    w.gram().orElseThrow().toArray(ValueLayout.JAVA_DOUBLE), 1e7 * tolerance * largest));
        }
    }

    @Test
    void anyNumberOfThreadsGivesTheSameBits() {
        try (Executor one = Executor.cpu(1); Executor three = Executor.cpu(3);
                Statistics a = gather(one, 0, 4); Statistics b = gather(three, 0, 4)) {
            assertSame(a, b, 0);
        }
    }

    @Test
    void addedStatisticsAreThoseOfAllSamples() {
        try (Statistics a = gather(executor, 0, 2); Statistics b = gather(executor, 2, 5); Statistics all = gather(executor, 0, 5)) {
            a.add(b);
            assertSame(all, a, 1e-13);
        }
    }

    @Test
    void whatIsSavedIsLoaded() throws IOException {
        Path file = folder.resolve("s.safetensors");
        try (Statistics a = gather(executor, 0, 2)) {
            a.save(file, false);
            assertThrows(FileAlreadyExistsException.class, () -> a.save(file, false));
            byte[] bytes = Files.readAllBytes(file);
            try (Statistics b = Statistics.load(file)) {
                assertSame(a, b, 0);
                b.save(file, true);
            }
            assertArrayEquals(bytes, Files.readAllBytes(file));
        }
    }

    /** At every length, and with every byte of the header changed, a file is refused, or read as what it says. */
    @Test
    void damagedFilesAreRefused() throws IOException {
        Path file = folder.resolve("s.safetensors");
        try (Gatherer g = new Gatherer(List.of(request(X, -1, true)), executor)) {
            g.accept(0, X, tensor(Shape.of(2, 3), 1, 2, 3, 4, 5, 6));
            try (Statistics s = g.finish("hash", 1, "files")) {
                s.save(file, false);
            }
        }
        byte[] bytes = Files.readAllBytes(file);
        Path damaged = folder.resolve("damaged.safetensors");
        for (int n = 0; n < bytes.length; n += 1 + n / 512) {
            Files.write(damaged, Arrays.copyOf(bytes, n));
            assertThrows(MalformedModelException.class, () -> Statistics.load(damaged), "of " + n + " bytes");
        }
        int read = 0;
        int header = new String(bytes, StandardCharsets.ISO_8859_1).indexOf("}}") + 2;
        for (int i = 8; i < header; i++) {
            byte[] changed = bytes.clone();
            changed[i] ^= 1;
            Files.write(damaged, changed);
            try (Statistics s = Statistics.load(damaged)) {
                read += s.samples() >= 0 ? 1 : 0;
            } catch (MalformedModelException | UnsupportedRequestException e) {
                assertTrue(e.getMessage().contains("damaged"), e.getMessage());
            }
        }
        assertTrue(read < header / 4, read + " of " + header);
    }

    @Test
    void filesOfWhatCannotBeAreRefused() throws IOException {
        Path file = folder.resolve("s.safetensors");
        try (Gatherer g = new Gatherer(List.of(request(X, -1, true)), executor)) {
            g.accept(0, X, tensor(Shape.of(2, 3), 1, 2, 3, 4, 5, 6));
            try (Statistics s = g.finish("hash", 1, "files")) {
                s.save(file, false);
            }
        }
        byte[] bytes = Files.readAllBytes(file);
        byte[] nan = bytes.clone();
        ByteBuffer.wrap(nan).order(ByteOrder.LITTLE_ENDIAN).putDouble(bytes.length - 8, Double.NaN);
        Files.write(file, nan);
        assertTrue(assertThrows(MalformedModelException.class, () -> Statistics.load(file)).getMessage().contains("finite"));
        String none = new String(bytes, StandardCharsets.ISO_8859_1).replace("\"0.rows\":\"2\"", "\"0.rows\":\"0\"");
        Files.write(file, none.getBytes(StandardCharsets.ISO_8859_1));
        assertTrue(assertThrows(MalformedModelException.class, () -> Statistics.load(file)).getMessage().contains("row"));
    }

    @Test
    void elementsTooLargeForAGramMatrixAreNamed() {
        try (Gatherer g = new Gatherer(List.of(ROWS), executor)) {
            g.accept(0, X, tensor(Shape.of(2, 2), 1, 2, 3, -1e20f));
            String message = assertThrows(UnsupportedRequestException.class, () -> g.finish("hash", 1, "files")).getMessage();
            assertTrue(message.contains("x holds elements from -1.0E20 to 2.0 in channel 1"), message);
        }
    }

    @Test
    void othersAreNotAdded() {
        try (Statistics a = gather(executor, 0, 1); Gatherer g = new Gatherer(List.of(ROWS), executor)) {
            try (Statistics none = g.finish("hash", 0, "files")) {
                assertTrue(assertThrows(UnsupportedRequestException.class, () -> a.add(none)).getMessage().contains("those of x"));
                assertTrue(assertThrows(UnsupportedRequestException.class, () -> none.add(a)).getMessage().contains("those of x"));
            }
            try (Gatherer h = new Gatherer(ALL, executor); Statistics other = h.finish("another", 0, "files")) {
                assertTrue(assertThrows(UnsupportedRequestException.class, () -> a.add(other)).getMessage().contains("two models"));
            }
        }
    }

    @Test
    void whatIsNotFiniteIsNamed() {
        for (float bad : new float[] {Float.NaN, Float.NEGATIVE_INFINITY}) {
            try (Gatherer g = new Gatherer(List.of(ROWS), executor)) {
                g.accept(0, X, tensor(Shape.of(3, 2), 1, 2, 3, 4, 5, 6));
                g.accept(7, X, tensor(Shape.of(2, 2), 1, 2, 3, bad));
                g.accept(8, X, tensor(Shape.of(2, 2), Float.NaN, 2, 3, Float.NaN));
                NonFiniteValueException e = assertThrows(NonFiniteValueException.class, () -> g.finish("hash", 3, "files"));
                assertEquals("x", e.value());
                assertEquals(7, e.sample());
                assertTrue(e.getMessage().contains("x holds " + bad + " in row 1, channel 1 of what the model makes of sample 7"), e.getMessage());
            }
        }
    }

    /** Blocks have 256 rows, where Gram matrices are wanted. */
    @Test
    void rowsAreCountedWithinTheirSample() {
        for (int length : new int[] {1, 255, 256, 257, 700}) {
            try (Gatherer g = new Gatherer(List.of(ROWS), executor)) {
                g.accept(0, X, tensor(Shape.of(3, 2), 1, 2, 3, 4, 5, 6));
                g.accept(1, X, tensor(Shape.of(100, 2), random(200, 1, 1)));
                float[] x = random(2 * length, 2, 1);
                x[2 * length - 1] = Float.NaN;
                NonFiniteValueException e = assertThrows(NonFiniteValueException.class, () -> {
                    g.accept(2, X, tensor(Shape.of(length, 2), x));
                    g.finish("hash", 3, "files");
                });
                assertEquals(2, e.sample());
                assertTrue(e.getMessage().contains("in row " + (length - 1) + ", channel 1"), e.getMessage());
            }
        }
    }

    /** Masks of attention hold them by intent. */
    @Test
    void infinitiesCostAValueItsStatistics() {
        try (Gatherer g = new Gatherer(List.of(PLANES, request(X, -1, false)), executor)) {
            g.accept(0, X, tensor(Shape.of(1, 2), 1, 2));
            g.accept(0, IMAGE, tensor(Shape.of(1, 1, 1, 2), 1, 2));
            g.accept(1, X, tensor(Shape.of(1, 2), Float.NEGATIVE_INFINITY, 2));
            g.accept(2, X, tensor(Shape.of(1, 2), 1, 2));
            try (Statistics s = g.finish("hash", 3, "files")) {
                assertTrue(s.of(X).isEmpty());
                assertTrue(s.of(IMAGE).isPresent());
            }
        }
    }

    @Test
    void constantsAndNothingAreValuesToo() {
        try (Gatherer g = new Gatherer(List.of(ROWS), executor)) {
            g.accept(0, X, tensor(Shape.of(2, 2), 0, -3, 0, -3));
            g.accept(1, X, tensor(Shape.of(0, 2)));
            try (Statistics s = g.finish("hash", 2, "files")) {
                ValueStatistics v = s.of(X).orElseThrow();
                assertArrayEquals(new float[] {0, -3}, v.min());
                assertArrayEquals(new float[] {0, -3}, v.max());
                assertArrayEquals(new double[] {0, 0, 0, 18}, v.gram().orElseThrow().toArray(ValueLayout.JAVA_DOUBLE));
                assertEquals(2, v.histogram().orElseThrow().counts()[1024]);
                assertEquals(4, Arrays.stream(v.histogram().orElseThrow().counts()).sum());
            }
        }
        try (Gatherer g = new Gatherer(List.of(new Request(X, OptionalInt.of(-1), Optional.empty(), false, true)), executor)) {
            g.accept(0, X, tensor(Shape.of(1, 1), 0));
            try (Statistics s = g.finish("hash", 1, "files")) {
                assertEquals(Histogram.LEAST, s.of(X).orElseThrow().histogram().orElseThrow().width());
            }
        }
    }

    @Test
    void shapesThatDoNotFitAreNamed() {
        try (Gatherer g = new Gatherer(ALL, executor)) {
            g.accept(0, X, tensor(Shape.of(1, 2), 1, 2));
            assertTrue(assertThrows(UnsupportedRequestException.class, () -> g.accept(1, X, tensor(Shape.of(1, 3), 1, 2, 3)))
                    .getMessage().contains("x has 3 channels"));
            assertTrue(assertThrows(UnsupportedRequestException.class, () -> g.accept(1, IMAGE, tensor(Shape.of(2), 1, 2)))
                    .getMessage().contains("an axis 1"));
        }
    }
}
