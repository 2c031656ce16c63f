package dev.tensorpress.statistics;

import dev.tensorpress.model.Graph.Window;

/** What a convolution sees of one image, a patch to a row. */
final class Patches {
    private Patches() {}

    /**
     * Rows at positions [first, first + rows).
     *
     * @param image [channels, height, width]
     * @param to [rows, channels * window], from {@code start} on
     */
    static void fill(Window w, float[] image, int channels, int height, int width, long first, int rows, float[] to,
            int start) {
        long across = w.columns(width);
        int k = start;
        for (long p = first; p < first + rows; p++) {
            long top = p / across * w.strides().height() - w.before().height();
            long left = p % across * w.strides().width() - w.before().width();
            for (int c = 0; c < channels; c++) {
                for (int i = 0; i < w.height(); i++) {
                    long y = top + (long) i * w.dilations().height();
                    int line = (c * height + (int) y) * width;
                    for (int j = 0; j < w.width(); j++) {
                        long x = left + (long) j * w.dilations().width();
                        to[k++] = y >= 0 && y < height && x >= 0 && x < width ? image[line + (int) x] : 0;
                    }
                }
            }
        }
    }
}
