package dev.tensorpress.statistics;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;

import dev.tensorpress.model.Graph.Window;
import dev.tensorpress.model.UnsupportedRequestException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.stream.IntStream;

/**
 * What is known of one value. All of its elements were finite. Arrays have an element for each channel and must not be changed, nor
 * must the Gram matrix; {@link Statistics} hands out copies of arrays. Whoever asks for an array that is not known gets an {@link UnsupportedRequestException}.
 *
 * @param path of the value, as {@link dev.tensorpress.model.Graph.Value#path}; empty outside of subgraphs
 * @param name of the value
 * @param axis of the channels; there is one channel if it is empty
 * @param window if channels are elements of patches, as {@link Request#window}
 * @param rows how many elements each channel has had
 * @param min the least element; null if it is not known, as is the largest one then
 * @param max the largest element; a channel is constant where it equals the least one, and dead if both are 0
 * @param sum of the elements; null if it is not known
 * @param squares sum of their squares
 * @param gram f64 [groups, channels / groups, channels / groups], the groups being those of the window, or else one: X<sup>T</sup> X of
 *     the columns of X [rows, channels] that are those of a group, symmetric; products of elements are summed in f32 over up
 *     to 256 rows, and these sums in f64. Not scaled, and not damped: its rank is at most that of X, so it can be singular. It can be
 *     in a mapped file, which native code must not read
 * @param weights names of those that are multiplied with the value, for models whose graph does not tell; empty of all others
 */
public record ValueStatistics(String path, String name, OptionalInt axis, Optional<Window> window, long rows, float[] min, float[] max,
        double[] sum, double[] squares, Optional<Histogram> histogram, Optional<MemorySegment> gram, List<String> weights) {
    public ValueStatistics {
        weights = List.copyOf(weights);
    }

    public int channels() {
        return squares.length;
    }

    /** Whether the least and the largest elements are known. */
    public boolean hasRange() {
        return min != null;
    }

    /** Whether sums are known. */
    public boolean hasSum() {
        return sum != null;
    }

    /** The least element of each channel. */
    @Override
    public float[] min() {
        return known(min, "the least and the largest elements");
    }

    /** The largest element of each channel. */
    @Override
    public float[] max() {
        return known(max, "the least and the largest elements");
    }

    /** The sum of each channel's elements. */
    @Override
    public double[] sum() {
        return known(sum, "the sums");
    }

    private <T> T known(T array, String what) {
        if (array == null) {
            throw new UnsupportedRequestException(what + " of " + name + " are not known: the statistics have its squares only");
        }
        return array;
    }

    /** Of the channels: one, unless a window has more. */
    public int groups() {
        return window.map(Window::groups).orElse(1);
    }

    /**
     * Of the same value divided by a positive number for each channel of it, to the rounding of f64, of min and max of f32. The Gram matrix is
     * new. There is no histogram: bins of all channels cannot be told apart.
     *
     * @param divisors one for each channel of the value; elements of patches that belong to a channel are divided by the same
     */
    ValueStatistics divided(double[] divisors) {
        int n = channels();
        int each = n / divisors.length;
        float[] least = hasRange() ? new float[n] : null;
        float[] most = hasRange() ? new float[n] : null;
        double[] sums = hasSum() ? new double[n] : null;
        double[] ofSquares = new double[n];
        for (int c = 0; c < n; c++) {
            double d = divisors[c / each];
            if (hasRange()) {
                least[c] = (float) (min[c] / d);
                most[c] = (float) (max[c] / d);
            }
            if (hasSum()) {
                sums[c] = sum[c] / d;
            }
            ofSquares[c] = squares[c] / (d * d);
        }
        int k = n / groups();
        Optional<MemorySegment> of = gram.map(g -> rows(g, (i, row) -> {
            for (int j = 0; j < k; j++) {
                row[j] /= divisors[i / each] * divisors[(i / k * k + j) / each];
            }
        }));
        return new ValueStatistics(path, name, axis, window, rows, least, most, sums, ofSquares, Optional.empty(), of, weights);
    }

    private interface Change {
        void make(int i, double[] row);
    }

    /** A copy of a Gram matrix of this value with its rows changed. */
    private MemorySegment rows(MemorySegment gram, Change change) {
        int k = channels() / groups();
        MemorySegment all = Arena.ofAuto().allocate(gram.byteSize(), 64);
        for (int i = 0; i < channels(); i++) {
            double[] row = row(gram, i, k);
            change.make(i, row);
            MemorySegment.copy(row, 0, all, JAVA_DOUBLE, 8L * i * k, k);
        }
        return all;
    }

    /** Arrays: elements of segments cost ten times as much before the second compiler. */
    private static double[] row(MemorySegment gram, int i, int k) {
        return gram.asSlice(8L * i * k, 8L * k).toArray(JAVA_DOUBLE);
    }

    /**
     * Of the same value without some indices of its axes. The histogram, and what is known of the value as a whole, are those of all.
     *
     * @param kept of each axis the indices that stay, sorted; null for all
     * @return empty if sums over indices that are gone cannot be told from the others, or groups of a window would differ in size
     */
    Optional<ValueStatistics> part(int[][] kept) {
        if (axis.isEmpty()) {
            return Optional.of(this);
        }
        int at = axis.getAsInt() < 0 ? axis.getAsInt() + kept.length : axis.getAsInt();
        for (int i = 0; i < kept.length; i++) {
            if (kept[i] != null && i != at) {
                return Optional.empty();
            }
        }
        if (at < 0 || at >= kept.length || kept[at] == null) {
            return Optional.of(this);
        }
        int each = window.map(w -> w.height() * w.width()).orElse(1);
        int k = channels() / groups();
        Map<Integer, Integer> sizes = new HashMap<>();
        for (int channel : kept[at]) {
            sizes.merge(channel * each / k, each, Integer::sum);
        }
        if (sizes.values().stream().distinct().count() != 1) {
            return Optional.empty();
        }
        int left = sizes.values().iterator().next();
        int[] elements = Arrays.stream(kept[at]).flatMap(c -> IntStream.range(c * each, (c + 1) * each)).toArray();
        int n = elements.length;
        Optional<MemorySegment> of = gram.map(g -> {
            MemorySegment all = Arena.ofAuto().allocate(8L * n * left, 64);
            double[] some = new double[left];
            for (int i = 0; i < n; i++) {
                double[] row = row(g, elements[i], k);
                for (int j = 0; j < left; j++) {
                    some[j] = row[elements[i / left * left + j] % k];
                }
                MemorySegment.copy(some, 0, all, JAVA_DOUBLE, 8L * i * left, left);
            }
            return all;
        });
        return Optional.of(new ValueStatistics(path, name, axis,
                window.map(w -> new Window(w.height(), w.width(), w.strides(), w.dilations(), w.before(), w.after(), sizes.size())), rows,
                hasRange() ? part(min, elements) : null, hasRange() ? part(max, elements) : null, hasSum() ? part(sum, elements) : null,
                part(squares, elements), histogram, of, weights));
    }

    private static float[] part(float[] all, int[] elements) {
        float[] some = new float[elements.length];
        for (int i = 0; i < some.length; i++) {
            some[i] = all[elements[i]];
        }
        return some;
    }

    private static double[] part(double[] all, int[] elements) {
        return Arrays.stream(elements).mapToDouble(i -> all[i]).toArray();
    }

    /** The same with arrays of its own, and a Gram matrix that is for reading. */
    ValueStatistics copy() {
        return new ValueStatistics(path, name, axis, window, rows, min == null ? null : min.clone(), max == null ? null : max.clone(),
                sum == null ? null : sum.clone(), squares.clone(), histogram.map(h -> new Histogram(h.width(), h.counts().clone())),
                gram.map(MemorySegment::asReadOnly), weights);
    }

    /** The same without its Gram matrix, which costs most where a value is divided or added. */
    ValueStatistics withoutGram() {
        return gram.isEmpty() ? this
                : new ValueStatistics(path, name, axis, window, rows, min, max, sum, squares, histogram, Optional.empty(), weights);
    }

    /** Of all rows of both, which are of the same channels. The Gram matrix is new; there is none unless both have one. */
    ValueStatistics plus(ValueStatistics other) {
        int n = channels();
        float[] least = hasRange() && other.hasRange() ? new float[n] : null;
        float[] most = least == null ? null : new float[n];
        double[] sums = hasSum() && other.hasSum() ? new double[n] : null;
        double[] ofSquares = new double[n];
        for (int c = 0; c < n; c++) {
            if (least != null) {
                least[c] = Math.min(min[c], other.min[c]);
                most[c] = Math.max(max[c], other.max[c]);
            }
            if (sums != null) {
                sums[c] = sum[c] + other.sum[c];
            }
            ofSquares[c] = squares[c] + other.squares[c];
        }
        Optional<MemorySegment> both = gram.flatMap(g -> other.gram.map(h -> rows(g, (i, row) -> {
            double[] more = row(h, i, row.length);
            for (int j = 0; j < row.length; j++) {
                row[j] += more[j];
            }
        })));
        return new ValueStatistics(path, name, axis, window, rows + other.rows, least, most, sums, ofSquares,
                histogram.flatMap(h -> other.histogram.map(h::plus)), both, weights);
    }
}
