/* What the functions of the statistics family ask of their arguments. *any says whether there is anything to do. */
#ifndef TP_STATISTICS_CHECKS_H
#define TP_STATISTICS_CHECKS_H

#include "core/checks.h"
#include "statistics/scalar.h"

static inline tp_status tp_check_observe_channels(int64_t rows, int64_t channels, int64_t stride, int64_t begin, int64_t end, const void *x,
                                                  const float *min, const float *max, const double *sum, const double *squares,
                                                  const int64_t *nonfinite, bool *any) {
    TRY(tp_check_matrix(rows, channels, stride));
    TRY(tp_check_range(begin, end, channels));
    *any = begin < end && rows > 0;
    return !nonfinite || (*any && (!x || !min || !max || !sum || !squares)) ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_observe_histogram(int64_t rows, int64_t channels, int64_t stride, int64_t begin, int64_t end, const void *x,
                                                   float width, const int64_t *counts, bool *any) {
    TRY(tp_check_matrix(rows, channels, stride));
    TRY(tp_check_range(begin, end, rows));
    *any = begin < end && channels > 0;
    if (!(width >= 0x1p-126f && width <= 0x1p126f) || tp_bits(width) & 0x7fffff) return TP_ERR_ARGUMENT;
    return *any && (!x || !counts) ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_accumulate(int64_t rows, int64_t cols, int64_t in_stride, int64_t out_stride, int64_t begin, int64_t end,
                                            const float *in, const double *out, bool *any) {
    TRY(tp_check_matrix(rows, cols, in_stride));
    TRY(tp_check_matrix(rows, cols, out_stride));
    TRY(tp_check_range(begin, end, rows));
    *any = begin < end && cols > 0;
    return *any && (!in || !out) ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_window(const tp_window *w) {
    if (!w) return TP_ERR_ARGUMENT;
    const int64_t limit = INT64_C(1) << 31;
    if (w->channels < 0 || w->height < 0 || w->width < 0 || w->channels >= limit || w->height >= limit || w->width >= limit
        || w->kernel_height < 1 || w->kernel_width < 1 || w->stride_height < 1 || w->stride_width < 1 || w->dilation_height < 1
        || w->dilation_width < 1 || w->before_height < 0 || w->before_width < 0 || w->after_height < 0 || w->after_width < 0)
        return TP_ERR_SHAPE;
    const int64_t kernel = (int64_t)w->kernel_height * w->kernel_width;
    TRY(tp_check_matrix(w->channels * w->height, w->width, w->width));
    TRY(tp_check_matrix(w->channels, kernel, kernel));
    const int64_t rows = tp_window_rows(w), columns = tp_window_columns(w); /* below 2^33 each */
    if (columns && rows > TP_MOST_ELEMENTS / columns) return TP_ERR_SHAPE;
    return tp_check_matrix(rows * columns, w->channels * kernel, w->channels * kernel);
}

static inline tp_status tp_check_patches(const tp_window *w, int64_t begin, int64_t end, const void *image, const float *out, bool *any) {
    TRY(tp_check_window(w));
    TRY(tp_check_range(begin, end, tp_window_rows(w) * tp_window_columns(w)));
    *any = begin < end && w->channels > 0;
    return *any && (!image || !out) ? TP_ERR_ARGUMENT : TP_OK;
}

#endif
