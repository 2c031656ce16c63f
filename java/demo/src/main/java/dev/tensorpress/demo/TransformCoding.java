package dev.tensorpress.demo;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.kernel.Pca;
import dev.tensorpress.kernel.Transform;
import dev.tensorpress.runtime.LatentCoder;
import dev.tensorpress.runtime.LatentCoder.Table;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Digits by coefficients of an orthonormal basis, rounded to multiples of a step, and coded as latents of autoencoders are: each coefficient under a table, that of
 * other digits. Multiples stand for what loses least among these: those of coefficients that mostly become 0 for less than they are.
 */
final class TransformCoding {
    private static final int PIXELS = Digits.PIXELS;

    /** What digits take and lose at a step. */
    record Coded(double step, long bytes, double squaredError) {}

    /** From pixels [n, 784], or back. */
    private interface Basis {
        float[] of(float[] from);
    }

    private final float[] training;
    private final float[] test;
    private final float[] pixels;
    private final Basis inverse;

    private TransformCoding(Basis forward, Basis inverse, float[] training, float[] test) {
        this.training = forward.of(training);
        this.test = forward.of(test);
        this.pixels = test;
        this.inverse = inverse;
    }

    /** Cosines of square blocks, whose edge divides 28. */
    static TransformCoding cosines(int block, float[] training, float[] test, Executor executor) {
        return new TransformCoding(x -> cosines(block, false, x, executor), x -> cosines(block, true, x, executor), training, test);
    }

    private static float[] cosines(int block, boolean inverse, float[] x, Executor executor) {
        try (Arena arena = Arena.ofShared()) {
            MemorySegment in = arena.allocate(4L * x.length, 64).copyFrom(MemorySegment.ofArray(x));
            MemorySegment out = arena.allocate(4L * x.length, 64);
            Transform.dct(x.length / Digits.SIDE, Digits.SIDE, block, 2, inverse, in, out, executor);
            return out.toArray(ValueLayout.JAVA_FLOAT);
        }
    }

    /** All principal components of the digits for training. */
    static TransformCoding components(float[] training, float[] test, Executor executor) {
        try (Arena arena = Arena.ofShared(); Pca pca = Pca.of(view(training, arena), training.length / PIXELS, PIXELS, executor)) {
            int rank = (int) pca.rank();
            double[] components = pca.components().toArray(ValueLayout.JAVA_DOUBLE);
            double[] mean = pca.mean().toArray(ValueLayout.JAVA_DOUBLE);
            Basis forward = x -> {
                try (Arena work = Arena.ofShared()) {
                    int n = x.length / PIXELS;
                    MemorySegment scores = work.allocate(8L * n * rank, 64);
                    pca.transform(view(x, work), n, scores, executor);
                    // As many as there are pixels; those without a component are 0.
                    float[] all = new float[x.length];
                    double[] found = scores.toArray(ValueLayout.JAVA_DOUBLE);
                    for (int i = 0; i < found.length; i++) {
                        all[i / rank * PIXELS + i % rank] = (float) found[i];
                    }
                    return all;
                }
            };
            return new TransformCoding(forward, scores -> {
                float[] all = new float[scores.length];
                double[] one = new double[PIXELS];
                for (int at = 0; at < all.length; at += PIXELS) {
                    System.arraycopy(mean, 0, one, 0, PIXELS);
                    for (int k = 0; k < rank; k++) {
                        float score = scores[at + k];
                        for (int i = 0; i < PIXELS && score != 0; i++) {
                            one[i] += score * components[k * PIXELS + i];
                        }
                    }
                    for (int i = 0; i < PIXELS; i++) {
                        all[at + i] = (float) one[i];
                    }
                }
                return all;
            }, training, test);
        }
    }

    private static View view(float[] data, Arena arena) {
        return new View(DType.F32, arena.allocateFrom(ValueLayout.JAVA_FLOAT, data), PIXELS);
    }

    private static int[] codes(float[] coefficients, double step) {
        int[] codes = new int[coefficients.length];
        for (int i = 0; i < codes.length; i++) {
            codes[i] = (int) Math.rint(coefficients[i] / step);
        }
        return codes;
    }

    private byte[] encoded(double step) {
        int[] seen = codes(training, step);
        List<Table> tables = new ArrayList<>();
        for (int c = 0; c < PIXELS; c++) {
            int column = c;
            int[] of = new int[seen.length / PIXELS];
            Arrays.setAll(of, i -> seen[i * PIXELS + column]);
            tables.add(Table.of(of, _ -> 0.001, 4));
        }
        return new LatentCoder(tables).encode(codes(test, step));
    }

    private double squaredError(double step) {
        double[] factors = new double[PIXELS];
        for (int c = 0; c < PIXELS; c++) {
            double both = 0;
            double squares = 0;
            for (int at = c; at < training.length; at += PIXELS) {
                double rounded = Math.rint(training[at] / step) * step;
                both += training[at] * rounded;
                squares += rounded * rounded;
            }
            factors[c] = squares == 0 ? 0 : both / squares;
        }
        float[] rounded = new float[test.length];
        for (int i = 0; i < rounded.length; i++) {
            rounded[i] = (float) (factors[i % PIXELS] * Math.rint(test[i] / step) * step);
        }
        float[] again = inverse.of(rounded);
        double sum = 0;
        for (int i = 0; i < again.length; i++) {
            double off = Math.clamp(Math.round(again[i]), 0, 255) - pixels[i];
            sum += off * off;
        }
        return sum / again.length;
    }

    /** With the smallest step that takes no more bytes, to 0.5 %. */
    Coded within(long bytes) {
        double coarse = 1 << 14;
        double fine = 1;
        long found = 0;
        while (coarse / fine > 1.002) {
            double middle = Math.sqrt(coarse * fine);
            long size = encoded(middle).length;
            if (size <= bytes) {
                coarse = middle;
                found = size;
                if (size > 0.995 * bytes) {
                    break;
                }
            } else {
                fine = middle;
            }
        }
        return new Coded(coarse, found, squaredError(coarse));
    }
}
