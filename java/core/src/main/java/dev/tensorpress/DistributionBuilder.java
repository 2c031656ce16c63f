package dev.tensorpress;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.statistics.Histogram;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;

/** Counts elements and codes in one pass over a weight, or over its parts; into how many parts it is cut makes no difference. */
final class DistributionBuilder {
    private static final int MOST_BINS = 64;
    private static final int OUTLIERS = 2000;
    private static final int ZERO = 128;
    private static final int CHUNK = 1 << 14;
    private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

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
    void add(Tensor rows, Encoding encoding) {
        long n = rows.shape().elements();
        float[] values = new float[(int) Math.min(n, CHUNK)];
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment wide = arena.allocate(DType.F32.bytes(values.length), 64);
            for (long at = 0; at < n; at += CHUNK) {
                int length = (int) Math.min(n - at, CHUNK);
                MemorySegment part = rows.data().asSlice(rows.dtype().bytes(at), rows.dtype().bytes(length));
                Quantize.convert(rows.dtype(), part, length, DType.F32, wide.asSlice(0, DType.F32.bytes(length)));
                MemorySegment.copy(wide, FLOAT, 0, values, 0, length);
                add(values, length);
            }
        }
        Encoding.Quantized quantized = quantized(encoding);
        if (quantized != null) {
            count(quantized);
        }
    }

    private static Encoding.Quantized quantized(Encoding encoding) {
        return switch (encoding.kind()) {
            case QUANTIZED -> (Encoding.Quantized) encoding;
            case SPARSE -> quantized(encoding.values());
            case SUM -> quantized(((Encoding.Sum) encoding).base());
            case DENSE, LOW_RANK -> null;
        };
    }

    private void add(float[] values, int length) {
        float low = Float.POSITIVE_INFINITY;
        float high = Float.NEGATIVE_INFINITY;
        for (int i = 0; i < length; i++) {
            float x = values[i];
            if (Math.abs(x) <= Float.MAX_VALUE) {
                low = Math.min(low, x);
                high = Math.max(high, x);
            }
        }
        if (low > high) {
            return;
        }
        least = Math.min(least, low);
        largest = Math.max(largest, high);
        float width = Histogram.width(Math.max(-low, high));
        bins = bins == null ? new Histogram(width, new long[Histogram.BINS]) : bins.widened(width);
        long[] counts = bins.counts();
        double scale = 1.0 / bins.width();
        for (int i = 0; i < length; i++) {
            float x = values[i];
            if (Math.abs(x) <= Float.MAX_VALUE) {
                counts[Math.min(Histogram.BINS - 1, Histogram.BINS / 2 + (int) Math.floor(x * scale))]++;
                elements++;
            }
        }
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
