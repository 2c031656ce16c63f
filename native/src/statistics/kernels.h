/* The kernels of the statistics family. Arguments are those of the public functions after the checks of api.c; there is something to do. */
#ifndef TP_STATISTICS_KERNELS_H
#define TP_STATISTICS_KERNELS_H

#include "core/family.h"
#include "tensorpress/statistics.h"

#define TP_STATISTICS_KERNELS(X)                                                                                      \
    X(observe_channels, (int64_t rows, int64_t channels, int64_t stride, int64_t begin, int64_t end, const void *x,   \
                         float *min, float *max, double *sum, double *squares, int64_t *nonfinite))                   \
    X(observe_histogram, (int64_t rows, int64_t channels, int64_t stride, int64_t begin, int64_t end, const void *x,  \
                          float width, int64_t *counts))                                                              \
    X(accumulate, (int64_t rows, int64_t cols, int64_t in_stride, int64_t out_stride, int64_t begin, int64_t end,     \
                   const float *in, double *out))                                                                     \
    X(patches, (const tp_window *window, int64_t begin, int64_t end, const void *image, float *out))

typedef struct tp_statistics_kernels {
    TP_STATISTICS_KERNELS(TP_KERNEL_FIELD)
} tp_statistics_kernels;
TP_STATISTICS_KERNELS(TP_KERNEL_DECLARE)
extern const tp_statistics_kernels tp_statistics_tables[TP_TIERS_BUILT];

#endif
