/* The public functions: checks up front, in checks.h, so that kernels have none. */
#include "core/dispatch.h"
#include "statistics/checks.h"
#include "statistics/kernels.h"

const tp_statistics_kernels tp_statistics_tables[TP_TIERS_BUILT] = TP_KERNEL_TABLES(TP_STATISTICS_KERNELS);

TP_FIND_KERNELS(statistics)

tp_status tp_observe_channels(int64_t rows, int64_t channels, int64_t stride, int64_t begin, int64_t end, const void *x, float *min,
                              float *max, double *sum, double *squares, int64_t *nonfinite) {
    const tp_statistics_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_observe_channels(rows, channels, stride, begin, end, x, min, max, sum, squares, nonfinite, &any));
    *nonfinite = -1;
    return any ? kernels->observe_channels(rows, channels, stride, begin, end, x, min, max, sum, squares, nonfinite) : TP_OK;
}

tp_status tp_observe_histogram(int64_t rows, int64_t channels, int64_t stride, int64_t begin, int64_t end, const void *x, float width,
                               int64_t *counts) {
    const tp_statistics_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_observe_histogram(rows, channels, stride, begin, end, x, width, counts, &any));
    return any ? kernels->observe_histogram(rows, channels, stride, begin, end, x, width, counts) : TP_OK;
}

tp_status tp_accumulate(int64_t rows, int64_t cols, int64_t in_stride, int64_t out_stride, int64_t begin, int64_t end, const float *in,
                        double *out) {
    const tp_statistics_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_accumulate(rows, cols, in_stride, out_stride, begin, end, in, out, &any));
    return any ? kernels->accumulate(rows, cols, in_stride, out_stride, begin, end, in, out) : TP_OK;
}

tp_status tp_patches_count(const tp_window *window, int64_t *positions) {
    TRY(tp_check_window(window));
    if (!positions) return TP_ERR_ARGUMENT;
    *positions = tp_window_rows(window) * tp_window_columns(window);
    return TP_OK;
}

tp_status tp_patches(const tp_window *window, int64_t begin, int64_t end, const void *image, float *out) {
    const tp_statistics_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_patches(window, begin, end, image, out, &any));
    return any ? kernels->patches(window, begin, end, image, out) : TP_OK;
}
