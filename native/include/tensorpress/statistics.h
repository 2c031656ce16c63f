/*
 * Kernel family "statistics": what is to be known of values that a model computes, added up as they come.
 *
 * Example:
 *
 *     const float x[4] = {1, -2, 3, 5}; // two rows of two channels
 *     float min[2] = {x[0], x[1]}, max[2] = {x[0], x[1]};
 *     double sum[2] = {0}, squares[2] = {0};
 *     int64_t at;
 *     assert(tp_observe_channels(2, 2, 2, 0, 2, x, min, max, sum, squares, &at) == TP_OK && at == -1);
 *     assert(max[1] == 5 && sum[0] == 4 && squares[1] == 29);
 *
 * Values X are [rows, channels] in f32; a row is one index of all axes but that of the channels, such as a token. The Gram matrix
 * G = X^T X takes products of some rows by the family gemm (TP_GEMM_ATB), which tp_accumulate adds up in f64. Where the values are an
 * image, tp_patches makes the rows of what a convolution sees.
 *
 * Sums are those of rows in ascending order, for each channel by itself, and squares of f32 are exact in f64. So results are
 * bit-identical for every tier, range and number of threads.
 */
#ifndef TENSORPRESS_STATISTICS_H
#define TENSORPRESS_STATISTICS_H

#include "tensorpress/core.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Of a histogram. */
enum { TP_STATISTICS_BINS = 2048 };

/*
 * Adds the rows to what is known of channels [begin, end).
 *
 *   min, max      f32 [channels], of +0 and -0 the one that came first; infinity and -infinity at first
 *   sum, squares  f64 [channels]; finite, 0 at first
 *   nonfinite     out: row * channels + channel of the first element of this range, in that order, that is NaN or infinite; -1 if
 *                 all are finite. Otherwise what is known of the range is worth nothing any more.
 * TP_ERR_SHAPE for negative sizes and stride below channels, TP_ERR_RANGE for channels that there are not.
 */
TP_API tp_status tp_observe_channels(int64_t rows, int64_t channels, int64_t stride, int64_t begin, int64_t end, const void *x,
                                     float *min, float *max, double *sum, double *squares, int64_t *nonfinite);

/*
 * Adds to counts[i] the number of elements in rows [begin, end) that lie in bin i. Bins are `width` wide, a power of two from 2^-126 to 2^126,
 * else TP_ERR_ARGUMENT; bin TP_STATISTICS_BINS / 2 begins at 0. What lies below the first bin is counted there, and so is NaN; what lies
 * above the last one in that. x / width is rounded to f32, which shows only below 2^-126.
 */
TP_API tp_status tp_observe_histogram(int64_t rows, int64_t channels, int64_t stride, int64_t begin, int64_t end, const void *x,
                                      float width, int64_t *counts);

/* Adds rows [begin, end) of `in`, f32 [rows, cols], to those of `out`, f64 [rows, cols], element by element. Strides of their own. */
TP_API tp_status tp_accumulate(int64_t rows, int64_t cols, int64_t in_stride, int64_t out_stride, int64_t begin, int64_t end,
                               const float *in, double *out);

/* What a convolution sees of an image [channels, height, width] in f32 without gaps. Fill every field; TP_ERR_SHAPE for sizes and pads that
   are negative, or of 2^31 and more, kernels, strides and dilations below 1, and for images or patches of 2^60 elements in all. */
typedef struct tp_window {
    int64_t channels, height, width;
    int32_t kernel_height, kernel_width;
    int32_t stride_height, stride_width;
    int32_t dilation_height, dilation_width;
    int32_t before_height, before_width; /* zeros around the image */
    int32_t after_height, after_width;
} tp_window;

/* How many positions the window has, row by row of the image; 0 if it is larger than the image with its pads. */
TP_API tp_status tp_patches_count(const tp_window *window, int64_t *positions);

/* What is seen at positions [begin, end): `out` is f32 [end - begin, channels * kernel_height * kernel_width], each row in that order. */
TP_API tp_status tp_patches(const tp_window *window, int64_t begin, int64_t end, const void *image, float *out);

#ifdef __cplusplus
}
#endif
#endif
