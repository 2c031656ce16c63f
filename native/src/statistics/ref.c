/* The normative variants: every result of this family is what these functions compute. */
#include "statistics/kernels.h"
#include "statistics/scalar.h"

tp_status tp_observe_channels__ref(int64_t rows, int64_t channels, int64_t stride, int64_t begin, int64_t end, const void *x, float *min,
                                   float *max, double *sum, double *squares, int64_t *nonfinite) {
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = begin; c < end; c++) {
            const float v = tp_load(TP_F32, x, r * stride + c);
            min[c] = v < min[c] ? v : min[c];
            max[c] = v > max[c] ? v : max[c];
            sum[c] += (double)v;
            squares[c] += (double)v * (double)v;
        }
    }
    *nonfinite = tp_first_nonfinite(rows, channels, stride, begin, end, x);
    return TP_OK;
}

tp_status tp_observe_histogram__ref(int64_t rows, int64_t channels, int64_t stride, int64_t begin, int64_t end, const void *x, float width,
                                    int64_t *counts) {
    (void)rows;
    for (int64_t r = begin; r < end; r++)
        for (int64_t c = 0; c < channels; c++) counts[tp_bin_of(tp_load(TP_F32, x, r * stride + c), 1 / width)]++;
    return TP_OK;
}

tp_status tp_accumulate__ref(int64_t rows, int64_t cols, int64_t in_stride, int64_t out_stride, int64_t begin, int64_t end, const float *in,
                             double *out) {
    (void)rows;
    for (int64_t r = begin; r < end; r++)
        for (int64_t c = 0; c < cols; c++) out[r * out_stride + c] += (double)in[r * in_stride + c];
    return TP_OK;
}

tp_status tp_patches__ref(const tp_window *w, int64_t begin, int64_t end, const void *image, float *out) {
    const int64_t columns = tp_window_columns(w);
    for (int64_t p = begin; p < end; p++) {
        const int64_t top = p / columns * w->stride_height - w->before_height, left = p % columns * w->stride_width - w->before_width;
        for (int64_t c = 0; c < w->channels; c++) {
            for (int64_t i = 0; i < w->kernel_height; i++) {
                for (int64_t j = 0; j < w->kernel_width; j++) {
                    const int64_t y = top + i * w->dilation_height, x = left + j * w->dilation_width;
                    const bool inside = y >= 0 && y < w->height && x >= 0 && x < w->width;
                    *out++ = inside ? tp_load(TP_F32, image, (c * w->height + y) * w->width + x) : 0;
                }
            }
        }
    }
    return TP_OK;
}
