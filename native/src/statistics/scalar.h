/* One element at a time, in portable C: what ref.c is made of, and what the other tiers use where it fits. */
#ifndef TP_STATISTICS_SCALAR_H
#define TP_STATISTICS_SCALAR_H

#include <math.h>

#include "core/scalar.h"
#include "tensorpress/statistics.h"

/* The bin of an element, which is the first one for NaN. */
TP_SCALAR int32_t tp_bin_of(float x, float per_width) {
    const float half = TP_STATISTICS_BINS / 2;
    float bin = floorf(x * per_width);
    bin = bin > -half ? bin : -half;
    bin = bin < half - 1 ? bin : half - 1;
    return (int32_t)bin + TP_STATISTICS_BINS / 2;
}

/* row * channels + channel of the first element that is not finite; -1 if all are. */
TP_SCALAR int64_t tp_first_nonfinite(int64_t rows, int64_t channels, int64_t stride, int64_t begin, int64_t end, const void *x) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = begin; c < end; c++)
            if (!tp_is_finite(tp_load(TP_F32, x, r * stride + c))) return r * channels + c;
    return -1;
}

/* Positions along one axis. */
TP_SCALAR int64_t tp_positions(int64_t size, int64_t kernel, int64_t stride, int64_t dilation, int64_t pads) {
    const int64_t seen = (kernel - 1) * dilation + 1;
    return size + pads < seen ? 0 : (size + pads - seen) / stride + 1;
}
TP_SCALAR int64_t tp_window_columns(const tp_window *w) {
    return tp_positions(w->width, w->kernel_width, w->stride_width, w->dilation_width, (int64_t)w->before_width + w->after_width);
}
TP_SCALAR int64_t tp_window_rows(const tp_window *w) {
    return tp_positions(w->height, w->kernel_height, w->stride_height, w->dilation_height, (int64_t)w->before_height + w->after_height);
}

#endif
