package dev.tensorpress;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

class DistributionBuilderTest {
    private static Tensor tensor(float... values) {
        return new Tensor(DType.F32, Shape.of(values.length), segment(MemorySegment.ofArray(values)));
    }

    private static MemorySegment segment(MemorySegment heap) {
        return Arena.ofAuto().allocate(Math.max(heap.byteSize(), 1), 64).copyFrom(heap).asSlice(0, heap.byteSize());
    }

    private static Report.Distribution of(float[]... parts) {
        DistributionBuilder all = new DistributionBuilder();
        try (Executor executor = Executor.cpu(2)) {
            for (float[] part : parts) {
                Tensor rows = tensor(part);
                all.add(rows, new Encoding.Dense(rows), executor);
            }
        }
        return all.result();
    }

    /** Parts whose ranges grow, in either order, against a count with the range known. */
    @Effort.RandomTest
    void partsAddUp() {
        Random random = Effort.random();
        float[][] parts = new float[4][];
        float magnitude = 1e-30f;
        for (int p = 0; p < parts.length; p++, magnitude *= 1e9f) {
            parts[p] = new float[20_000];
            for (int i = 0; i < parts[p].length; i++) {
                parts[p][i] = (float) random.nextGaussian() * magnitude;
            }
        }
        parts[2][7] = Float.NaN;
        parts[2][8] = Float.NEGATIVE_INFINITY;
        Report.Distribution d = of(parts);
        assertEquals(d, of(parts[3], parts[1], parts[0], parts[2]));

        List<Double> sorted = new ArrayList<>();
        for (float[] part : parts) {
            for (float x : part) {
                if (Float.isFinite(x)) {
                    sorted.add((double) x);
                }
            }
        }
        Collections.sort(sorted);
        int n = sorted.size();
        assertEquals(79_998, n);
        assertEquals(n, d.elements());
        assertEquals(sorted.getFirst(), d.least());
        assertEquals(sorted.getLast(), d.largest());
        assertTrue(d.below() <= n / 2000 && d.above() <= n / 2000, d::toString);
        assertEquals(Math.rint(d.from() / d.width()) * d.width(), d.from());
        long below = sorted.stream().filter(x -> x < d.from()).count();
        assertEquals(below, d.below());
        for (int i = 0; i < d.counts().size(); i++) {
            double from = d.from() + i * d.width();
            assertEquals(sorted.stream().filter(x -> x >= from && x < from + d.width()).count(), d.counts().get(i));
            below += d.counts().get(i);
        }
        assertEquals(n - below, d.above());
        // All but a thousandth, in as many bins as it takes to see their shape.
        assertTrue(d.counts().size() <= 64 && d.counts().size() > 30, d::toString);
        assertTrue(d.width() * d.counts().size() < sorted.get(n - n / 2000) - sorted.get(n / 2000) + 2 * d.width(), d::toString);
    }

    @Test
    void edges() {
        assertEquals(new Report.Distribution(0, 0, 0, 0, 0, 0, 0, List.of(), 0, List.of()), of(new float[0], new float[] {Float.NaN}));
        Report.Distribution zero = of(new float[] {0, -0f});
        assertEquals(List.of(2L), zero.counts());
        assertEquals(0, zero.from());
        Report.Distribution power = of(new float[] {-1, 1, Float.MIN_VALUE, -Float.MIN_VALUE});
        assertEquals(1.0 / 32, power.width());
        assertEquals(-1, power.from());
        assertEquals(64, power.counts().size());
        assertEquals(List.of(1L, 1L), power.counts().subList(31, 33));
        assertEquals(1, power.counts().getLast(), "the largest of all is in the last bin");
        assertEquals(List.of(1L), of(new float[] {Float.MAX_VALUE}).counts());

        float[] outlier = new float[4001];
        for (int i = 0; i < outlier.length; i++) {
            outlier[i] = i / 4000f;
        }
        outlier[0] = 1000;
        Report.Distribution cut = of(outlier);
        assertEquals(2, cut.above());
        assertEquals(0, cut.below());
        assertEquals(1000f, cut.largest());
        assertTrue(cut.from() + cut.width() * cut.counts().size() < 1.6, cut::toString);
    }

    /** Nine codes of four bits: the second half of the last byte is none. */
    @Test
    void codes() {
        List<Long> wanted = List.of(1L, 0L, 0L, 0L, 0L, 0L, 0L, 1L, 2L, 2L, 0L, 0L, 0L, 0L, 0L, 3L);
        for (DType type : List.of(DType.I4, DType.U4, DType.I8, DType.U8)) {
            boolean signed = type.signed();
            int[] values = {-8, -1, 0, 0, 1, 1, 7, 7, 7};
            byte[] codes = new byte[(int) type.bytes(9)];
            for (int i = 0; i < 9; i++) {
                int code = values[i] + (signed ? 0 : 8);
                if (type.bits() == 8) {
                    codes[i] = (byte) code;
                } else {
                    codes[i / 2] |= (byte) ((code & 15) << i % 2 * 4);
                }
            }
            Form.Quantized form = new Form.Quantized(4, -1, 0, true, Form.Activations.FLOAT, type, DType.F32, false, false);
            Tensor rows = tensor(new float[9]);
            DistributionBuilder all = new DistributionBuilder();
            try (Executor executor = Executor.cpu(1)) {
                all.add(rows, new Encoding.Quantized(form, rows.shape(), new Tensor(type, rows.shape(),
                        segment(MemorySegment.ofArray(codes))), tensor(1), null), executor);
            }
            Report.Distribution d = all.result();
            assertEquals(signed ? -8 : 0, d.firstCode(), type::name);
            assertEquals(wanted, d.codes(), type::name);
        }
    }
}
