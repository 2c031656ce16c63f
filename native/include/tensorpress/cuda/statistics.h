/*
 * The statistics family on a device: what is to be known of values, added up as they come. See tensorpress/statistics.h.
 *
 * Example:
 *
 *     const float x[4] = {1, -2, 3, 5}; // two rows of two channels
 *     float min[2] = {x[0], x[1]}, max[2] = {x[0], x[1]};
 *     double sum[2] = {0}, squares[2] = {0};
 *     int64_t at;
 *     tp_cuda *cuda;
 *     if (tp_cuda_open(0, 0, &cuda) == TP_OK) {
 *         assert(tp_cuda_observe_channels(cuda, 2, 2, 2, 0, 2, x, min, max, sum, squares, &at) == TP_OK && at == -1);
 *         assert(max[1] == 5 && sum[0] == 4 && squares[1] == 29);
 *         tp_cuda_close(cuda);
 *     }
 *
 * The rules of tensorpress/cuda/device.h hold. Every result has the bits of the function without "cuda_". tp_patches_count needs no device.
 */
#ifndef TENSORPRESS_CUDA_STATISTICS_H
#define TENSORPRESS_CUDA_STATISTICS_H

#include "tensorpress/cuda/device.h"
#include "tensorpress/statistics.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As tp_observe_channels. Channels go through the device in pieces. Since each is summed up in order, by one thread, few channels of many rows are slow. */
TP_API tp_status tp_cuda_observe_channels(tp_cuda *cuda, int64_t rows, int64_t channels, int64_t stride, int64_t begin, int64_t end, const void *x,
                                          float *min, float *max, double *sum, double *squares, int64_t *nonfinite);

/* As tp_observe_histogram. */
TP_API tp_status tp_cuda_observe_histogram(tp_cuda *cuda, int64_t rows, int64_t channels, int64_t stride, int64_t begin, int64_t end, const void *x,
                                           float width, int64_t *counts);

/* As tp_accumulate. */
TP_API tp_status tp_cuda_accumulate(tp_cuda *cuda, int64_t rows, int64_t cols, int64_t in_stride, int64_t out_stride, int64_t begin, int64_t end,
                                    const float *in, double *out);

/* As tp_patches. The image is taken whole. */
TP_API tp_status tp_cuda_patches(tp_cuda *cuda, const tp_window *window, int64_t begin, int64_t end, const void *image, float *out);

#ifdef __cplusplus
}
#endif
#endif
