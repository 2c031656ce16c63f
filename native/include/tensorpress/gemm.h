/*
 * Kernel family "gemm": products of dense matrices, C [m, n] (+)= op(A) op(B), sums over k.
 *
 * Example:
 *
 *     const float a[4] = {1, 2, 3, 4}, b[4] = {5, 6, 7, 8};
 *     const tp_gemm_spec spec = {.m = 2, .n = 2, .k = 2, .a_stride = 2, .b_stride = 2, .c_stride = 2, .type = TP_F32};
 *     static _Alignas(64) char packed[4096], scratch[4096];
 *     float c[4];
 *     tp_gemm_layout layout;
 *     tp_gemm_layout_of(&spec, &layout); // says how large packed and scratch have to be, too
 *     tp_gemm_pack(&spec, 0, layout.panels, b, packed);
 *     assert(tp_gemm(&spec, 0, 2, 0, layout.panels, a, packed, c, scratch) == TP_OK && c[0] == 19 && c[3] == 50);
 *
 *     form           A is       B is       C
 *     TP_GEMM_AB     [m, k]     [k, n]     A B
 *     TP_GEMM_ATB    [k, m]     [k, n]     A^T B
 *     TP_GEMM_ABT    [m, k]     [n, k]     A B^T
 *
 * All are row-major with strides; A and B may start at any byte. B is packed first, by tp_gemm_pack, into panels of some
 * columns each, which any number of products may then use; A is packed by the product itself, a block at a time, into the
 * caller's scratch. After Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008, and Van Zee and
 * van de Geijn, "BLIS", 2015.
 *
 * Ranges. A product computes rows [begin, end) in panels [first, last) of C; pointers are those of the whole matrices.
 * Any cut is correct and gives the same bits; it is fastest if begin is a multiple of the row granule and ranges are not
 * much smaller than some granules by some panels, since each range packs its rows of A anew.
 *
 * Floats. The sum of an element is cut into blocks of TP_GEMM_BLOCK products. Each block is summed in order, from +0, by
 * fused multiply-add; the blocks' sums are then added in order, the first one to the old C if `accumulate` is set (else it
 * stands as it is, even if it is -0). So results are bit-identical for every tier, range and number of threads; NaNs are
 * NaNs, their bits not specified. With u = 2^-24 (2^-53 for TP_F64) and t = min(k, TP_GEMM_BLOCK) + ceil(k / TP_GEMM_BLOCK),
 * |error| <= t u / (1 - t u) * (sum |a b| + |c|), apart from underflow. NaN and infinity follow IEEE arithmetic: nothing is
 * skipped because it is multiplied by zero.
 *
 * Integers. int8 times int8, full range -128 .. 127, no intermediate saturates: C is exact in int32, modulo 2^32. No sum
 * wraps if k <= 131071, or k <= 33025 with zero points.
 *
 * k = 0 gives zeros, or with `accumulate` leaves C as it is; A and B may be null then. m = 0 or n = 0 is no work.
 */
#ifndef TENSORPRESS_GEMM_H
#define TENSORPRESS_GEMM_H

#include "tensorpress/core.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TP_GEMM_BLOCK = 256 };

/* The values are pinned. */
enum {
    TP_GEMM_AB = 0,
    TP_GEMM_ATB = 1,
    TP_GEMM_ABT = 2
};

/* One product, shared by all functions of this family. Fill every field. */
typedef struct tp_gemm_spec {
    int64_t m, n, k;                       /* 0 or more each */
    int64_t a_stride, b_stride, c_stride;  /* at least the length of a row; rows * stride below 2^60 elements, else TP_ERR_SHAPE */
    tp_dtype type;                         /* of A and B: TP_F32, TP_F64 (C is the same), TP_I8 (C is int32, or f32) */
    int32_t form;                          /* TP_GEMM_AB, _ATB, _ABT */
    int32_t accumulate;                    /* 0: C is overwritten, 1: added to */
} tp_gemm_spec;

/* How B is packed and work is cut. It depends on the tier. */
typedef struct tp_gemm_layout {
    int64_t panels;         /* of B and C; each of panel_columns columns, the last of what is left */
    int64_t panel_columns;
    int64_t row_granule;    /* rows of C that one kernel holds in registers */
    int64_t packed_bytes;   /* of all panels */
    int64_t scratch_bytes;  /* for any range of this product */
} tp_gemm_layout;

/*
 * Sums over int8 brought to real values: C[i, j] = sum_k (A[i, k] - a_zero[i]) (B[k, j] - b_zero[j]), in int32; and if `scaled`
 * is set, C is f32: that sum, rounded to f32, times a_scale[i], times b_scale[j], two roundings more. Null zeros are 0, null
 * scales are 1; scales may be any f32. Every field that is not null is an array over all rows or columns of C, or one
 * value if its _step field is 0.
 */
typedef struct tp_gemm_affine {
    const int8_t *a_zero, *b_zero;
    const float *a_scale, *b_scale;
    int32_t a_zero_step, b_zero_step, a_scale_step, b_scale_step; /* 0: one value; 1: one per row (a) or column (b) */
    int32_t scaled;                                               /* 0: C is int32; 1: C is f32, no accumulate */
} tp_gemm_affine;

/* Sizes for this product. The packed layout is private to the process, and the same for every m, a_stride, c_stride,
   accumulate, and for TP_GEMM_AB and TP_GEMM_ATB. */
TP_API tp_status tp_gemm_layout_of(const tp_gemm_spec *spec, tp_gemm_layout *layout);

/*
 * Packs panels [first, last) of B. Only n, k, b_stride, type and form of spec are used (the others are checked).
 *
 *   b       see "form"
 *   packed  packed_bytes, 64-byte aligned; that of all panels, whatever the range
 */
TP_API tp_status tp_gemm_pack(const tp_gemm_spec *spec, int64_t first, int64_t last, const void *b, void *packed);

/*
 * The product in rows [begin, end) and panels [first, last) of C. With TP_I8, C is int32.
 *
 *   a        see "form"               packed   by tp_gemm_pack for the same n, k, type
 *   c        [m, n]                   scratch  scratch_bytes, 64-byte aligned, one per concurrent call
 */
TP_API tp_status tp_gemm(const tp_gemm_spec *spec, int64_t begin, int64_t end, int64_t first, int64_t last,
                         const void *a, const void *packed, void *c, void *scratch);

/* As tp_gemm for TP_I8 (else TP_ERR_TYPE), with zero points and scales. c is int32 or f32, as affine->scaled says. */
TP_API tp_status tp_gemm_int8(const tp_gemm_spec *spec, const tp_gemm_affine *affine, int64_t begin, int64_t end,
                              int64_t first, int64_t last, const void *a, const void *packed, void *c, void *scratch);

#ifdef __cplusplus
}
#endif
#endif
