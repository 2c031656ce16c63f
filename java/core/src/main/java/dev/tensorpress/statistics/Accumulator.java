package dev.tensorpress.statistics;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Gram;
import dev.tensorpress.kernel.Observe;
import dev.tensorpress.kernel.Patches;
import dev.tensorpress.model.Graph.Window;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;

/** What one request has come to so far. Rows wait until there is a block of them: what is done with each is too little by itself. */
final class Accumulator {
    /** Elements of a block without Gram matrix, about. */
    private static final int PIECE = 1 << 14;
    /** Rows of a block with one: as many as its products are summed over, so that they read them here. */
    private static final int ROWS = 256;

    private final Request request;
    private final Executor executor;
    /** Of what is handed over in the end. */
    private final Arena results;
    private int channels;
    private long rows;
    private MemorySegment min;
    private MemorySegment max;
    private MemorySegment sum;
    private MemorySegment squares;
    private MemorySegment counts;
    private float width = Histogram.LEAST;
    private MemorySegment gram;
    private Gram products;
    private final Arena own;
    private MemorySegment block;
    private int blockRows;
    private int waiting;
    /** Of each row that waits, which sample it is of. */
    private int[] samples;
    /** The sample of the last row before the block, and how many rows of it there were. */
    private int carriedSample = -1;
    private long carried;
    /** Holds infinities where nothing is lost but its statistics. */
    private boolean unbounded;

    Accumulator(Request request, Executor executor, Arena results, Arena own) {
        this.request = request;
        this.executor = executor;
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
                MemorySegment.copy(tensor.data(), 4 * at * size, block, 4L * waiting * size, 4L * n * size);
                at += n;
                wait(sample, n);
            }
            return;
        }
        // Without a window the axes behind that of the channels are as good as one.
        boolean plane = request.window().isPresent() && shape.rank() == 4;
        long height = plane ? shape.dim(2) : 1;
        Patches patches = new Patches(size, height, inner / height, new Patches.Pair(window.height(), window.width()), pair(window.strides()),
                pair(window.dilations()), pair(window.before()), pair(window.after()));
        channels(Math.toIntExact(patches.length()));
        for (long i = 0; i < lines; i++) {
            MemorySegment image = tensor.data().asSlice(4 * i * size * inner, 4 * size * inner);
            for (long at = 0; at < patches.positions(); ) {
                int n = (int) Math.min(blockRows - waiting, patches.positions() - at);
                patches.take(image, at, n, block.asSlice(4L * waiting * channels), executor);
                at += n;
                wait(sample, n);
            }
        }
    }

    private static Patches.Pair pair(Window.Pair pair) {
        return new Patches.Pair(pair.height(), pair.width());
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
            min = own.allocate(JAVA_FLOAT, n);
            max = own.allocate(JAVA_FLOAT, n);
            sum = own.allocate(JAVA_DOUBLE, n);
            squares = own.allocate(JAVA_DOUBLE, n);
            for (int c = 0; c < n; c++) {
                min.setAtIndex(JAVA_FLOAT, c, Float.POSITIVE_INFINITY);
                max.setAtIndex(JAVA_FLOAT, c, Float.NEGATIVE_INFINITY);
            }
            if (request.histogram()) {
                counts = own.allocate(JAVA_LONG, Histogram.BINS);
            }
            blockRows = request.gram() ? ROWS : Math.max(1, PIECE / n);
            block = own.allocate(4L * blockRows * n, 64);
            samples = new int[blockRows];
            if (request.gram()) {
                int groups = request.window().map(Window::groups).orElse(1);
                int of = n / groups;
                gram = results.allocate(8L * groups * of * of, 64);
                products = new Gram(groups, of, gram, executor);
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

    /** Of a row of the block, how many of its sample come before it. */
    private long rowsBefore(int row) {
        int first = row;
        while (first > 0 && samples[first - 1] == samples[row]) {
            first--;
        }
        return row - first + (first == 0 && samples[row] == carriedSample ? carried : 0);
    }

    private void flush() {
        int n = waiting;
        waiting = 0;
        if (unbounded || n == 0) {
            return;
        }
        long wrong = Observe.channels(block, n, channels, channels, min, max, sum, squares, executor);
        if (wrong >= 0) {
            float element = block.getAtIndex(JAVA_FLOAT, wrong);
            unbounded = Float.isInfinite(element) && !request.gram();
            if (!unbounded) {
                int row = (int) (wrong / channels);
                throw new NonFiniteValueException(request.value(), samples[row], element, rowsBefore(row), wrong % channels);
            }
            return;
        }
        rows += n;
        carried = rowsBefore(n - 1) + 1;
        carriedSample = samples[n - 1];
        if (counts != null) {
            float magnitude = 0;
            for (int c = 0; c < channels; c++) {
                magnitude = Math.max(magnitude, Math.max(-min.getAtIndex(JAVA_FLOAT, c), max.getAtIndex(JAVA_FLOAT, c)));
            }
            widen(Histogram.width(magnitude));
            Observe.histogram(block, n, channels, channels, width, counts, executor);
        }
        if (products != null) {
            products.add(block, n, channels);
        }
    }

    private void widen(float wanted) {
        if (wanted > width) {
            counts.copyFrom(MemorySegment.ofArray(histogram().widened(wanted).counts()));
            width = wanted;
        }
    }

    private Histogram histogram() {
        return new Histogram(width, counts.toArray(JAVA_LONG));
    }

    /** Empty if the value was never shown, or held infinities. */
    Optional<ValueStatistics> finish() {
        flush();
        if (rows == 0 || unbounded) {
            return Optional.empty();
        }
        if (products != null) {
            products.finish();
            int of = channels / request.window().map(Window::groups).orElse(1);
            for (int c = 0; c < channels; c++) {
                if (!(gram.getAtIndex(JAVA_DOUBLE, (long) c * of + c % of) < Double.POSITIVE_INFINITY)) {
                    throw new UnsupportedRequestException("value " + request.value().name() + " holds elements from "
                            + min.getAtIndex(JAVA_FLOAT, c) + " to " + max.getAtIndex(JAVA_FLOAT, c) + " in channel " + c
                            + ", whose squares are too large for a Gram matrix, which is summed in f32");
                }
            }
        }
        return Optional.of(new ValueStatistics(request.value().path(), request.value().name(), request.axis(), request.window(), rows,
                min.toArray(JAVA_FLOAT), max.toArray(JAVA_FLOAT), sum.toArray(JAVA_DOUBLE), squares.toArray(JAVA_DOUBLE),
                Optional.ofNullable(counts == null ? null : histogram()), Optional.ofNullable(gram), List.of()));
    }

    void close() {
        if (products != null) {
            products.close();
        }
    }
}
