/*
 * Kernel family "transform": matrices and planes of images as coefficients of cosines (DCT) or of wavelets, of which most can be small,
 * and codes of coefficients.
 *
 * Example:
 *
 *     const float x[4] = {1, 1, 1, 1};
 *     const tp_dct spec = {.rows = 1, .cols = 4, .in_stride = 4, .out_stride = 4, .block = 4, .dimensions = 1};
 *     _Alignas(64) char scratch[TP_DCT_SCRATCH];
 *     float y[4];
 *     assert(tp_dct_blocks(&spec, 0, 1, x, y, scratch) == TP_OK);
 *     assert(y[0] == 2 && y[1] < 1e-6f && y[1] > -1e-6f);
 *     const tp_zone zone = {.elements = 4, .step = 0.5f, .zone = 0.5f, .limit = 127};
 *     int32_t codes[4];
 *     assert(tp_zone_quantize(&zone, 0, 1, y, codes, NULL) == TP_OK && codes[0] == 4 && codes[1] == 0);
 *
 * Arrays are aligned to their elements. Bits are the same for every tier and range; where a result is not a number, which NaN it is may differ.
 */
#ifndef TENSORPRESS_TRANSFORM_H
#define TENSORPRESS_TRANSFORM_H

#include "tensorpress/core.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    TP_DCT_MOST = 64,          /* elements of a block along one axis */
    TP_DCT_SCRATCH = 80 * 1024 /* bytes */
};

/* A matrix cut into blocks. Fill every field. */
typedef struct tp_dct {
    int64_t rows, cols;
    int64_t in_stride, out_stride; /* at least cols */
    int32_t block;                 /* 2 .. TP_DCT_MOST, else TP_ERR_SHAPE */
    int32_t dimensions;            /* 1: blocks are pieces of rows; 2: squares */
    int32_t inverse;               /* 0: elements to coefficients; 1: back */
} tp_dct;

/*
 * The orthonormal DCT-II of each block of rows [begin, end), or the DCT-III, which is its inverse. The last block of a row or column has
 * what is left, and is transformed as a block of that size. Coefficients lie where the block's elements lay.
 *
 *     forward:  y[k] = sum over j of T[k, j] x[j];  inverse:  x[j] = sum over k of T[k, j] y[k]
 *     T[k, j] = sqrt((k ? 2 : 1) / n) cos(pi (2 j + 1) k / (2 n)), n elements in the block, rounded to f32
 *
 * Sums run over the ascending index by fused multiply-add from +0. In two dimensions rows are transformed first. With |x| the root of the
 * sum of a block's squares, no result is off by more than (n + 2) 2^-24 |x|, in two dimensions by 2 (n + 2) 2^-24 |x|, as long as
 * nothing overflows or underflows.
 *
 *   in, out  f32 matrices; overlap nothing
 *   scratch  TP_DCT_SCRATCH bytes
 *
 * In two dimensions ranges begin and end at multiples of the block, or at the end of the rows, else TP_ERR_RANGE. TP_ERR_SHAPE for sizes,
 * TP_ERR_ARGUMENT for other fields, null arrays and scratch that is not aligned.
 */
TP_API tp_status tp_dct_blocks(const tp_dct *spec, int64_t begin, int64_t end, const float *in, float *out, void *scratch);

/* Wavelets. The values are pinned. */
typedef int32_t tp_wavelet_kind;
enum {
    TP_HAAR = 1,  /* of f32, orthonormal */
    TP_CDF53 = 2, /* Cohen, Daubechies, Feauveau 5/3 of int32, by lifting, reversible: JPEG 2000's */
    TP_CDF97 = 3  /* Cohen, Daubechies, Feauveau 9/7 of f32, by lifting, nearly orthonormal */
};

/* One level of a transform of a matrix. Fill every field. */
typedef struct tp_wavelet {
    int64_t rows, cols;
    int64_t in_stride, out_stride; /* at least cols */
    tp_wavelet_kind kind;
    int32_t inverse; /* 0 or 1 */
} tp_wavelet;

/*
 * One level along rows [begin, end): of n elements x, ceil(n / 2) low coefficients s, then floor(n / 2) high ones d. A row of one element stays as
 * it is. Beyond the ends elements are mirrored: x[-1] is x[1], x[n] is x[n - 2]. Further levels are calls for the low coefficients.
 *
 *   TP_HAAR   s[i] = (x[2i] + x[2i+1]) r, d[i] = (x[2i] - x[2i+1]) r, r = sqrt(1/2); the last of an odd number of elements stays as it is. Inverse:
 *             x[2i] = (s[i] + d[i]) r, x[2i+1] = (s[i] - d[i]) r
 *   TP_CDF53  d[i] = x[2i+1] - floor((x[2i] + x[2i+2]) / 2), s[i] = x[2i] + floor((d[i-1] + d[i] + 2) / 4), modulo 2^32: the inverse gives
 *             back any integers
 *   TP_CDF97  d = x[2i+1], s = x[2i], and then four times one of the two changes by a multiple of its neighbours' sum, fused: d by
 *             -1.586134342059924, s by -0.052980118572961, d by 0.882911075530934, s by 0.443506852043971; then s is multiplied by
 *             1.149604398860241, so that a constant grows by sqrt(2), and d divided by it. The inverse undoes it step by step
 *
 * Elements are f32, of TP_CDF53 int32. No result of TP_HAAR is off by more than 2^-22 times the largest magnitude of the row, of TP_CDF97 by more than
 * 2^-20, as long as nothing overflows.
 *
 *   in, out  matrices; may be the same one, if the strides are equal, else overlap nothing
 *   scratch  cols elements, rounded up to whole 64 bytes
 */
TP_API tp_status tp_wavelet_rows(const tp_wavelet *spec, int64_t begin, int64_t end, const void *in, void *out, void *scratch);

/* The same along columns [begin, end), with coefficients below each other. in and out overlap nothing. */
TP_API tp_status tp_wavelet_columns(const tp_wavelet *spec, int64_t begin, int64_t end, const void *in, void *out);

/* Elements of a line of the functions below; the last line has what is left. */
enum { TP_CODE_LINE = 4096 };

/* Codes of coefficients: a step, and around 0 a zone that may be wider than others. Fill every field. */
typedef struct tp_zone {
    int64_t elements;
    float step;   /* positive and finite */
    float zone;   /* what is nearer to 0 than so many steps has the code 0: 0.5, which is rounding, to 1 */
    float offset; /* |code| + offset, times the step, is what a code that is not 0 stands for: -0.5 .. 0.5 */
    int32_t limit; /* largest magnitude of a code, 1 .. 2^23 - 1 */
} tp_zone;

/*
 * Codes of lines [begin, end). With t = |x| / step + (1 - zone), in f32, the code's magnitude is the whole part of t, and its sign that of x.
 *
 *   in      f32
 *   codes   int32
 *   errors  f64, for each line, at its number: sum of the squares of x less what its code stands for; null for none. Sixteen sums are taken, of every
 *           sixteenth element, and then added up by halves
 *
 * TP_ERR_NONFINITE where x is not finite, TP_ERR_MAGNITUDE where a code would pass the limit, TP_ERR_ARGUMENT for fields.
 */
TP_API tp_status tp_zone_quantize(const tp_zone *spec, int64_t begin, int64_t end, const float *in, int32_t *codes, double *errors);

/* What the codes of lines [begin, end) stand for: sign (|code| + offset) step, each operation rounded; 0 for 0. limit and zone do not matter. */
TP_API tp_status tp_zone_decode(const tp_zone *spec, int64_t begin, int64_t end, const int32_t *codes, float *out);

/* Elements [begin, end) of TP_I8, TP_U8, TP_I16 as int32. in may start at any byte, and has them all; so has out. */
TP_API tp_status tp_widen_codes(tp_dtype type, int64_t begin, int64_t end, const void *in, int32_t *out);

/* int32 as elements [begin, end) of TP_I8, TP_U8, TP_I16; TP_ERR_MAGNITUDE if one does not fit. */
TP_API tp_status tp_narrow_codes(tp_dtype type, int64_t begin, int64_t end, const int32_t *in, void *out);

/* Adds to counts[limit + c] how often c is among codes [begin, end), which are int32; counts has 2 limit + 1. TP_ERR_MAGNITUDE beyond the limit. */
TP_API tp_status tp_count_codes(int32_t limit, int64_t begin, int64_t end, const int32_t *codes, int64_t *counts);

#ifdef __cplusplus
}
#endif
#endif
