package dev.tensorpress.statistics;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Graph.Window;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/** What one request has come to so far. */
final class Accumulator {
    /** Elements of rows that have to be made of a value, at once. */
    private static final long PIECE = 1 << 18;

    private final Request request;
    private final Executor executor;
    /** Of what is handed over in the end. */
    private final Arena results;
    private final Arena own;
    private int channels;
    private long rows;
    private MemorySegment min;
    private MemorySegment max;
    private MemorySegment sum;
    private MemorySegment squares;
    private MemorySegment counts;
    private float width;
    private MemorySegment gram;
    private final List<Plain.Gram> grams = new ArrayList<>();
    private MemorySegment piece;
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
            rows(sample, tensor.data(), shape.elements() / size);
            return;
        }
        // Without a window the axes behind that of the channels are as good as one.
        boolean plane = request.window().isPresent() && shape.rank() == 4;
        long height = plane ? shape.dim(2) : 1;
        long width = inner / height;
        long positions = window.rows(height) * window.columns(width);
        channels(Math.multiplyExact(size, window.height() * window.width()));
        long step = Math.clamp(PIECE / channels, 1, Math.max(1, positions));
        if (piece == null || piece.byteSize() < 4 * step * channels) {
            piece = own.allocate(4 * step * channels, 64);
        }
        for (long n = 0; n < lines; n++) {
            MemorySegment image = tensor.data().asSlice(4 * n * size * inner, 4 * size * inner);
            for (long at = 0; at < positions; at += step) {
                long count = Math.min(step, positions - at);
                Plain.patches(window, image, size, height, width, at, count, piece);
                rows(sample, piece, count);
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
        if (from < 0 || from >= rank || request.window().isPresent() && rank != 3 && rank != 4) {
            throw new UnsupportedRequestException("value " + request.value().name() + " has the shape " + shape + ", but what reads it takes one with"
                    + (from < 0 || from >= rank ? " an axis " + axis : " two or three axes behind the first"));
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
                width = Histogram.LEAST;
            }
            if (request.gram()) {
                int groups = request.window().map(Window::groups).orElse(1);
                int of = n / groups;
                gram = results.allocate(8L * groups * of * of, 64);
                for (int g = 0; g < groups; g++) {
                    grams.add(new Plain.Gram(of, gram.asSlice(8L * g * of * of, 8L * of * of), executor));
                }
            }
        } else if (channels != n) {
            throw new UnsupportedRequestException("value " + request.value().name() + " has " + n + " channels along axis "
                    + request.axis().getAsInt() + ", but had " + channels + " before");
        }
    }

    private void rows(int sample, MemorySegment x, long n) {
        long wrong = Plain.observe(x, n, channels, min, max, sum, squares);
        if (wrong >= 0) {
            float element = x.getAtIndex(JAVA_FLOAT_UNALIGNED, wrong);
            unbounded = Float.isInfinite(element) && !request.gram();
            if (!unbounded) {
                throw new NonFiniteValueException(request.value(), sample, element, rows + wrong / channels, wrong % channels);
            }
            return;
        }
        rows += n;
        if (counts != null) {
            float magnitude = 0;
            for (int c = 0; c < channels; c++) {
                magnitude = Math.max(magnitude, Math.max(-min.getAtIndex(JAVA_FLOAT, c), max.getAtIndex(JAVA_FLOAT, c)));
            }
            widen(Histogram.width(magnitude));
            Plain.count(x, n * channels, width, counts);
        }
        int of = grams.isEmpty() ? 0 : channels / grams.size();
        for (int g = 0; g < grams.size(); g++) {
            grams.get(g).add(x.asSlice(4L * g * of), n, channels);
        }
    }

    private void widen(float wanted) {
        if (wanted > width) {
            counts.copyFrom(MemorySegment.ofArray(new Histogram(width, counts.toArray(JAVA_LONG)).widened(wanted).counts()));
            width = wanted;
        }
    }

    /** Empty if the value was never shown, or held infinities. */
    Optional<ValueStatistics> finish() {
        if (rows == 0 || unbounded) {
            return Optional.empty();
        }
        grams.forEach(Plain.Gram::finish);
        return Optional.of(new ValueStatistics(request.value().path(), request.value().name(), request.axis(), request.window(), rows,
                min.toArray(JAVA_FLOAT), max.toArray(JAVA_FLOAT), sum.toArray(JAVA_DOUBLE), squares.toArray(JAVA_DOUBLE),
                counts == null ? Optional.empty() : Optional.of(new Histogram(width, counts.toArray(JAVA_LONG))), Optional.ofNullable(gram)));
    }

    void close() {
        grams.forEach(Plain.Gram::close);
    }
}
