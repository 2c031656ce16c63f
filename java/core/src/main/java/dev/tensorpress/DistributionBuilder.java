package dev.tensorpress;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Observe;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.statistics.Histogram;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;

/** Counts elements and codes in one pass over a weight, or over its parts; into how many parts it is cut makes no difference. */
final class DistributionBuilder {
    private static final int MOST_BINS = 64;
    private static final int OUTLIERS = 2000;
    private static final int ZERO = 128;
    private static final int CHUNK = 1 << 18;
    private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT;

    /** Null as long as there are no elements. */
    private Histogram bins;
    private long elements;
    private float least = Float.POSITIVE_INFINITY;
    private float largest = Float.NEGATIVE_INFINITY;
    /** From -{@value #ZERO} to 255. */
    private final long[] codes = new long[ZERO + 256];

    /**
     * Adds a weight, or rows of it.
     *
     * @param encoding what became of them
     */
    void add(Tensor rows, Encoding encoding, Executor executor) {
        long n = rows.shape().elements();
        try (Arena arena = executor.arena()) {
            MemorySegment wide = arena.allocate(DType.F32.bytes(Math.min(n, CHUNK)), 64);
            MemorySegment bounds = arena.allocate(8, 8);
            MemorySegment sums = arena.allocate(16, 8);
            MemorySegment found = arena.allocate(8 * Histogram.BINS, 8);
            for (long at = 0; at < n; at += CHUNK) {
                long length = Math.min(n - at, CHUNK);
                MemorySegment part = rows.data().asSlice(rows.dtype().bytes(at), rows.dtype().bytes(length));
                Quantize.convert(rows.dtype(), part, length, DType.F32, wide.asSlice(0, DType.F32.bytes(length)), executor);
                if (observe(wide, length, bounds, sums, executor) >= 0) {
                    length = finite(wide, length);
                    observe(wide, length, bounds, sums, executor);
                }
                if (length > 0) {
                    add(wide, length, bounds.get(FLOAT, 0), bounds.get(FLOAT, 4), found, executor);
                }
            }
        }
        Encoding.Quantized quantized = quantized(encoding);
        if (quantized != null) {
            count(quantized);
        }
    }

    private static long observe(MemorySegment x, long n, MemorySegment bounds, MemorySegment sums, Executor executor) {
        bounds.set(FLOAT, 0, Float.POSITIVE_INFINITY);
        bounds.set(FLOAT, 4, Float.NEGATIVE_INFINITY);
        return Observe.channels(x.asSlice(0, DType.F32.bytes(n)), n, 1, 1, bounds.asSlice(0, 4), bounds.asSlice(4, 4), sums.asSlice(0, 8),
                sums.asSlice(8, 8), executor);
    }

    /** Moves those that are finite to the front, and says how many they are. */
    private static long finite(MemorySegment x, long n) {
        long kept = 0;
        for (long i = 0; i < n; i++) {
            float value = x.getAtIndex(FLOAT, i);
            if (Float.isFinite(value)) {
                x.setAtIndex(FLOAT, kept++, value);
            }
        }
        return kept;
    }

    private void add(MemorySegment x, long n, float low, float high, MemorySegment found, Executor executor) {
        elements += n;
        least = Math.min(least, low);
        largest = Math.max(largest, high);
        float width = Histogram.width(Math.max(-low, high));
        bins = bins == null ? new Histogram(width, new long[Histogram.BINS]) : bins.widened(width);
        found.fill((byte) 0);
        Observe.histogram(x.asSlice(0, DType.F32.bytes(n)), n, 1, 1, bins.width(), found, executor);
        for (int i = 0; i < Histogram.BINS; i++) {
            bins.counts()[i] += found.getAtIndex(ValueLayout.JAVA_LONG, i);
        }
    }

    private static Encoding.Quantized quantized(Encoding encoding) {
        return switch (encoding.kind()) {
            case QUANTIZED -> (Encoding.Quantized) encoding;
            case SPARSE -> quantized(encoding.values());
            case SUM -> quantized(((Encoding.Sum) encoding).base());
            case DENSE, CODEBOOK, TRANSFORMED, HASHED, LOW_RANK, CHAIN -> null;
        };
    }

    private void count(Encoding.Quantized q) {
        MemorySegment data = q.codes().data();
        DType type = q.form().type();
        boolean signed = type.signed();
        long n = q.form().codes(q.shape()).elements();
        byte[] bytes = new byte[(int) Math.min(data.byteSize(), CHUNK)];
        for (long at = 0; at < data.byteSize(); at += CHUNK) {
            int length = (int) Math.min(data.byteSize() - at, CHUNK);
            MemorySegment.copy(data, ValueLayout.JAVA_BYTE, at, bytes, 0, length);
            for (int i = 0; i < length; i++) {
                int code = bytes[i];
                if (type.bits() == 8) {
                    codes[ZERO + (signed ? code : code & 0xff)]++;
                } else {
                    codes[ZERO + (signed ? code << 28 >> 28 : code & 15)]++;
                    if (2 * (at + i) + 1 < n) {
                        codes[ZERO + (signed ? code >> 4 : code >> 4 & 15)]++;
                    }
                }
            }
        }
    }

    /** Outliers leave the others room: a two-thousandth of the elements at either end may be outside of the bins. */
    Report.Distribution result() {
        List<Long> used = trimmed(codes);
        int firstCode = used.isEmpty() ? 0 : first(codes) - ZERO;
        if (bins == null) {
            return new Report.Distribution(0, 0, 0, 0, 0, 0, 0, List.of(), firstCode, used);
        }
        long[] counts = bins.counts();
        long most = elements / OUTLIERS;
        int from = 0;
        for (long outside = 0; outside + counts[from] <= most; from++) {
            outside += counts[from];
        }
        int last = counts.length - 1;
        for (long outside = 0; outside + counts[last] <= most; last--) {
            outside += counts[last];
        }
        // Wider bins begin at multiples of their width as well, counted from 0.
        int zero = Histogram.BINS / 2;
        int shift = 0;
        while ((last - zero >> shift) - (from - zero >> shift) >= MOST_BINS) {
            shift++;
        }
        int start = from - zero >> shift;
        long below = 0;
        long above = 0;
        long[] wide = new long[(last - zero >> shift) - start + 1];
        for (int i = 0; i < counts.length; i++) {
            int bin = (i - zero >> shift) - start;
            if (bin < 0) {
                below += counts[i];
            } else if (bin >= wide.length) {
                above += counts[i];
            } else {
                wide[bin] += counts[i];
            }
        }
        double width = Math.scalb((double) bins.width(), shift);
        return new Report.Distribution(elements, least, largest, start * width, width, below, above, trimmed(wide), firstCode, used);
    }

    /** The first that is not 0. */
    private static int first(long[] counts) {
        int at = 0;
        while (at < counts.length && counts[at] == 0) {
            at++;
        }
        return at;
    }

    private static List<Long> trimmed(long[] counts) {
        List<Long> all = new ArrayList<>();
        int end = counts.length;
        while (end > 0 && counts[end - 1] == 0) {
            end--;
        }
        for (int i = first(counts); i < end; i++) {
            all.add(counts[i]);
        }
        return List.copyOf(all);
    }
}
