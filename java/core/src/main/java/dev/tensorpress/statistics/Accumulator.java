package dev.tensorpress.statistics;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Graph.Window;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.function.IntFunction;

/** What one request has come to so far. Rows wait until there is a block of them: what is done with each is too little by itself. */
final class Accumulator {
    /** Elements of a block without Gram matrix, about. */
    private static final int PIECE = 1 << 14;
    /** Channels of a range: two threads that write to the same cache lines are slower than one. */
    private static final int GRANULE = 16;

    private final Request request;
    private final Executor executor;
    private final IntFunction<Gram.Products> products;
    /** Of what is handed over in the end. */
    private final Arena results;
    private int channels;
    private long rows;
    private float[] min;
    private float[] max;
    private double[] sum;
    private double[] squares;
    private Histogram histogram;
    private MemorySegment gram;
    private final List<Gram> grams = new ArrayList<>();
    /** Of blocks, one for each Gram matrix, which their products read; NULL without. */
    private final Arena own;
    private MemorySegment copy = MemorySegment.NULL;
    private float[] block;
    private int blockRows;
    private int waiting;
    /** Of each row that waits, which sample it is of. */
    private int[] samples;
    private float[] image = {};
    /** Holds infinities where nothing is lost but its statistics. */
    private boolean unbounded;

    Accumulator(Request request, Executor executor, IntFunction<Gram.Products> products, Arena results, Arena own) {
        this.request = request;
        this.executor = executor;
        this.products = products;
        this.results = results;
        this.own = own;
    }

    void add(int sample, Tensor tensor) {
        if (unbounded || tensor.shape().elements() == 0) {
            return;
        }
        Shape shape = tensor.shape();
        int axis = axis(shape);
        long lines = 1;
        long inner = 1;
        for (int d = 0; d < shape.rank(); d++) {
            lines *= d < axis ? shape.dim(d) : 1;
            inner *= d > axis ? shape.dim(d) : 1;
        }
        int size = axis < 0 ? 1 : Math.toIntExact(shape.dim(axis));
        Window window = request.window().orElse(inner == 1 ? null : Window.POINT);
        if (window == null || axis < 0) {
            channels(size);
            long all = shape.elements() / size;
            for (long at = 0; at < all; ) {
                int n = (int) Math.min(blockRows - waiting, all - at);
                MemorySegment.copy(tensor.data(), JAVA_FLOAT_UNALIGNED, 4 * at * size, block, waiting * size, n * size);
                at += n;
                wait(sample, n);
            }
            return;
        }
        // Without a window the axes behind that of the channels are as good as one.
        boolean plane = request.window().isPresent() && shape.rank() == 4;
        int height = plane ? Math.toIntExact(shape.dim(2)) : 1;
        int width = Math.toIntExact(inner / height);
        channels(Math.multiplyExact(size, Math.multiplyExact(window.height(), window.width())));
        image = image.length < size * inner ? new float[Math.toIntExact(size * inner)] : image;
        long positions = window.rows(height) * window.columns(width);
        for (long i = 0; i < lines; i++) {
            MemorySegment.copy(tensor.data(), JAVA_FLOAT_UNALIGNED, 4 * i * size * inner, image, 0, size * (int) inner);
            for (long at = 0; at < positions; ) {
                int n = (int) Math.min(blockRows - waiting, positions - at);
                Patches.fill(window, image, size, height, width, at, n, block, waiting * channels);
                at += n;
                wait(sample, n);
            }
        }
    }

    private int axis(Shape shape) {
        if (request.axis().isEmpty()) {
            return -1;
        }
        int axis = request.axis().getAsInt();
        int from = axis < 0 ? shape.rank() + axis : axis;
        int rank = shape.rank();
        boolean none = from < 0 || from >= rank;
        if (none || request.window().isPresent() && rank != 3 && rank != 4) {
            throw new UnsupportedRequestException("value " + request.value().name() + " has the shape " + shape + ", but what reads it takes one with"
                    + (none ? " an axis " + axis : " one or two axes behind the channels"));
        }
        return from;
    }

    private void channels(int n) {
        if (min == null) {
            channels = n;
            min = new float[n];
            max = new float[n];
            sum = new double[n];
            squares = new double[n];
            Arrays.fill(min, Float.POSITIVE_INFINITY);
            Arrays.fill(max, Float.NEGATIVE_INFINITY);
            if (request.histogram()) {
                histogram = new Histogram(Histogram.LEAST, new long[Histogram.BINS]);
            }
            blockRows = request.gram() ? Gram.BLOCK : Math.max(1, PIECE / n);
            block = new float[Math.multiplyExact(blockRows, n)];
            samples = new int[blockRows];
            if (request.gram()) {
                int groups = request.window().map(Window::groups).orElse(1);
                int of = n / groups;
                gram = results.allocate(8L * groups * of * of, 64);
                copy = own.allocate(4L * blockRows * of, 64);
                for (int g = 0; g < groups; g++) {
                    grams.add(new Gram(products.apply(of), gram.asSlice(8L * g * of * of, 8L * of * of)));
                }
            }
        } else if (channels != n) {
            throw new UnsupportedRequestException("value " + request.value().name() + " has " + n + " channels along axis "
                    + request.axis().getAsInt() + ", but had " + channels + " before");
        }
    }

    /** That many rows have come to the block. */
    private void wait(int sample, int n) {
        Arrays.fill(samples, waiting, waiting + n, sample);
        waiting += n;
        if (waiting == blockRows) {
            flush();
        }
    }

    private void flush() {
        int n = waiting;
        waiting = 0;
        if (unbounded || n == 0) {
            return;
        }
        float[] magnitudes = new float[executor.threads()];
        long[] wrong = new long[executor.threads()];
        Arrays.fill(wrong, Long.MAX_VALUE);
        executor.run(channels, GRANULE, Executor.worth(n), (begin, end, worker) -> {
            int w = worker.index();
            float magnitude = magnitudes[w];
            for (int r = 0; r < n && magnitude < Float.POSITIVE_INFINITY; r++) {
                magnitude = Math.max(magnitude, observe(r, (int) begin, (int) end));
                if (magnitude == Float.POSITIVE_INFINITY) {
                    wrong[w] = Math.min(wrong[w], r);
                }
            }
            magnitudes[w] = magnitude == Float.POSITIVE_INFINITY ? magnitudes[w] : magnitude;
        });
        long row = Arrays.stream(wrong).min().orElseThrow();
        if (row < Long.MAX_VALUE) {
            notFinite((int) row);
            return;
        }
        rows += n;
        if (histogram != null) {
            float magnitude = 0;
            for (float m : magnitudes) {
                magnitude = Math.max(magnitude, m);
            }
            histogram = histogram.widened(Histogram.width(magnitude));
            count(n * channels);
        }
        int of = grams.isEmpty() ? 0 : channels / grams.size();
        Arrays.fill(block, n * channels, block.length, 0);
        for (int g = 0; g < grams.size(); g++) {
            for (int r = 0; r < blockRows; r++) {
                MemorySegment.copy(block, r * channels + g * of, copy, JAVA_FLOAT, 4L * r * of, of);
            }
            grams.get(g).add(copy);
        }
    }

    /** The largest magnitude; infinity if an element is not finite. */
    private float observe(int row, int begin, int end) {
        float magnitude = 0;
        for (int c = begin, i = row * channels + begin; c < end; c++, i++) {
            float x = block[i];
            float size = Math.abs(x);
            if (!(size <= Float.MAX_VALUE)) {
                return Float.POSITIVE_INFINITY;
            }
            magnitude = size > magnitude ? size : magnitude;
            min[c] = x < min[c] ? x : min[c];
            max[c] = x > max[c] ? x : max[c];
            sum[c] += x;
            squares[c] += (double) x * x;
        }
        return magnitude;
    }

    private void count(int elements) {
        long[][] counts = new long[executor.threads()][];
        executor.run(elements, 1, Executor.WORTH, (begin, end, worker) -> {
            int w = worker.index();
            counts[w] = counts[w] == null ? new long[Histogram.BINS] : counts[w];
            histogram.count(block, (int) begin, (int) end, counts[w]);
        });
        for (long[] part : counts) {
            for (int i = 0; part != null && i < part.length; i++) {
                histogram.counts()[i] += part[i];
            }
        }
    }

    /** Of a row that has such an element. */
    private void notFinite(int row) {
        int at = row * channels;
        while (Float.isFinite(block[at])) {
            at++;
        }
        unbounded = Float.isInfinite(block[at]) && !request.gram();
        if (!unbounded) {
            throw new NonFiniteValueException(request.value(), samples[row], block[at], rows + row, at % channels);
        }
    }

    /** Empty if the value was never shown, or held infinities. */
    Optional<ValueStatistics> finish() {
        flush();
        if (rows == 0 || unbounded) {
            return Optional.empty();
        }
        grams.forEach(Gram::finish);
        return Optional.of(new ValueStatistics(request.value().path(), request.value().name(), request.axis(), request.window(), rows,
                min, max, sum, squares, Optional.ofNullable(histogram), Optional.ofNullable(gram)));
    }
}
