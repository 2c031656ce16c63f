package dev.tensorpress.kernel;

import dev.tensorpress.tensor.DType;

/** The formulas of {@code tensorpress/quantize.h} in plain Java, element by element: an oracle that shares no code. */
public final class PlainQuantize {
    public final float[] scales;
    public final int[] zeros;
    /** Codes by row and column of the input. */
    public final int[][] codes;

    /** Quantizes {@code x[row][col]}. */
    public PlainQuantize(Quantize.Spec s, float[][] x) {
        int rows = (int) s.rows();
        int cols = (int) s.cols();
        int gr = (int) Math.min(s.groupRows(), Math.max(rows, 1));
        int gc = (int) Math.min(s.groupCols(), Math.max(cols, 1));
        int down = (rows + gr - 1) / gr;
        int across = (cols + gc - 1) / gc;
        scales = new float[down * across];
        zeros = new int[down * across];
        codes = new int[rows][cols];
        for (int i = 0; i < down; i++) {
            for (int j = 0; j < across; j++) {
                int at = s.transposed() ? j * down + i : i * across + j;
                group(s, x, i * gr, Math.min(rows, (i + 1) * gr), j * gc, Math.min(cols, (j + 1) * gc), at);
            }
        }
    }

    private void group(Quantize.Spec s, float[][] x, int r0, int r1, int c0, int c1, int at) {
        float min = 0;
        float max = 0;
        for (int r = r0; r < r1; r++) {
            for (int c = c0; c < c1; c++) {
                min = Math.min(min, x[r][c]);
                max = Math.max(max, x[r][c]);
            }
        }
        int middle = s.out().signed() ? 0 : s.out() == DType.U8 ? 128 : 8;
        int steps = Math.max(1, s.clipSteps());
        double best = Double.POSITIVE_INFINITY;
        for (int i = 0; i < steps; i++) {
            float ratio = steps == 1 ? 1 : 1 - i * (1 - s.clipMin()) / (steps - 1);
            float scale = scale(s, min * ratio, max * ratio, middle);
            int zero = s.range() == Quantize.Range.MINMAX
                    ? clamp(Math.rint(s.qmin() - min * ratio / scale), s.qmin(), s.qmax()) : middle;
            double error = 0;
            for (int r = r0; r < r1; r++) {
                for (int c = c0; c < c1; c++) {
                    float t = x[r][c] * (1 / scale);
                    float e = t - (clamp(Math.rint(t) + zero, s.qmin(), s.qmax()) - zero);
                    error += (double) (e * e) * scale * scale;
                }
            }
            // Sums in another order than the kernel's: a later ratio must be clearly better to count as better.
            if (error < best * (1 - 1e-5)) {
                best = error;
                scales[at] = scale;
                zeros[at] = zero;
            }
        }
        for (int r = r0; r < r1; r++) {
            for (int c = c0; c < c1; c++) {
                codes[r][c] = code(s, x[r][c], scales[at], zeros[at]);
            }
        }
    }

    static int code(Quantize.Spec s, float x, float scale, int zero) {
        float t = s.rounding() == Quantize.Rounding.DIVIDE ? x / scale : x * (1 / scale);
        return clamp(Math.rint(t) + zero, s.qmin(), s.qmax());
    }

    private static float scale(Quantize.Spec s, float min, float max, int middle) {
        float magnitude = Math.max(-min, max);
        float scale = switch (s.range()) {
            case ABSMAX -> magnitude / Math.min(s.qmax() - middle, middle - s.qmin());
            case ABSMAX_FULL -> magnitude / ((s.qmax() - s.qmin()) / 2f);
            case MINMAX -> max / (s.qmax() - s.qmin()) - min / (s.qmax() - s.qmin());
            case GIVEN -> throw new IllegalArgumentException();
        };
        scale = magnitude == 0 ? 1 : Math.max(scale, Float.MIN_NORMAL);
        return switch (s.scale()) {
            case F16 -> Math.max(Float.float16ToFloat(Float.floatToFloat16(scale)), 0x1p-24f);
            case BF16 -> toBf16(scale);
            default -> scale;
        };
    }

    static float toBf16(float x) {
        int bits = Float.floatToRawIntBits(x);
        return Float.intBitsToFloat((bits + 0x7fff + (bits >>> 16 & 1)) & 0xffff0000);
    }

    private static int clamp(double v, int low, int high) {
        return (int) Math.max(low, Math.min(high, v));
    }
}
