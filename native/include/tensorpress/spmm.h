/*
 * Kernel family "spmm": a sparse matrix times a dense one.
 *
 * Example:
 *
 *     const tp_product spec = {.a = {.rows = 1, .cols = 4, .type = TP_F32, .layout = TP_SPARSE_CSR32},
 *                              .n = 1, .b_stride = 1, .out_stride = 1};
 *     const int64_t offsets[2] = {0, 2};
 *     const uint32_t columns[2] = {1, 3};
 *     const float values[2] = {3, 5}, b[4] = {1, 2, 4, 8};
 *     float out[1];
 *     assert(tp_spmm(&spec, 0, 1, offsets, columns, values, b, out) == TP_OK && out[0] == 46);
 *
 *     tp_spmm              out [rows, n] = A B,      B [cols, n]
 *     tp_spmm_transposed   out [cols, n] += A^T B,   B [rows, n]
 *
 * A is [rows, cols] in a layout of tensorpress/sparse.h that tp_sparse_check has found well formed: these kernels trust
 * it. B and out are row-major with strides of their own; n = 1 is a matrix-vector product. Values are f32 with f32
 * B and out, or int8 with int8 B and int32 out.
 *
 * Integers are exact and bit-identical for every tier, order and number of threads, as long as no sum leaves int32 (131071
 * products of the full range are safe); sums beyond wrap around, on every tier.
 * Floats: each element of out is a sum of products in f32, in an order that depends on layout, tier, n, its column and the
 * units of its line, never on ranges or threads. With u = 2^-24 and p products, |error| <= p * u / (1 - p * u) * sum |a b|,
 * underflow aside. Products and sums follow IEEE arithmetic: NaN and infinity in B reach out only through stored elements
 * of A, to which the zeros of a TP_SPARSE_BSR block and those that fill up a TP_SPARSE_NM24 group belong.
 *
 * Work is cut by units, not by lines, so that one heavy line does not hold a thread. A line with more than TP_SPMM_SEGMENT
 * units is a sum of segments: of TP_SPMM_SEGMENT units each from the start of the line, and a rest. Each segment is summed
 * by itself, and the segments' sums are added in order, in the type of out. tp_spmm does that within one call; callers with
 * threads give segments of a heavy line to several of them with tp_spmm_segment, and add them up with tp_spmm_add.
 * TP_SPARSE_NM24 has no heavy lines and no segments.
 *
 * tp_spmm takes up to 64 KiB of the caller's stack.
 */
#ifndef TENSORPRESS_SPMM_H
#define TENSORPRESS_SPMM_H

#include "tensorpress/sparse.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TP_SPMM_SEGMENT = 16384 };

/* One product. a.stride is not used. TP_ERR_TYPE: a.type not TP_F32 or TP_I8. TP_ERR_ARGUMENT: a.layout is
   TP_SPARSE_BITMASK, which is for storing only. TP_ERR_SHAPE: n negative, strides below n, sizes above 2^60. */
typedef struct tp_product {
    tp_sparse a;
    int64_t n;
    int64_t b_stride, out_stride;
} tp_product;

/*
 * Lines [begin, end) of out, which are overwritten; for TP_SPARSE_BSR a line is a row of blocks. All pointers are those of
 * the whole matrices. offsets may be null for TP_SPARSE_NM24. out must not overlap B.
 */
TP_API tp_status tp_spmm(const tp_product *spec, int64_t begin, int64_t end, const int64_t *offsets,
                         const void *indices, const void *values, const void *b, void *out);

/*
 * The sum of one segment of one line, alone: `partial` is [1, n], or [block_rows, n] for TP_SPARSE_BSR, without gaps; what
 * stands for rows beyond the last one of A is not written. segment counts from 0; TP_ERR_RANGE if the line has no such
 * segment. Not for TP_SPARSE_NM24 (TP_ERR_ARGUMENT). For TP_SPARSE_CSR16 `column` is what tp_spmm_column says, and
 * TP_ERR_RANGE if it is no column; the other layouts ignore it.
 */
TP_API tp_status tp_spmm_segment(const tp_product *spec, int64_t line, int64_t segment, int64_t column,
                                 const int64_t *offsets, const void *indices, const void *values, const void *b,
                                 void *partial);

/* The sum of the distances before a segment of a TP_SPARSE_CSR16 line, which tp_spmm_segment needs; 0 for segment 0 and for
   the other layouts. Errors as of tp_spmm_segment. */
TP_API tp_status tp_spmm_column(const tp_product *spec, int64_t line, int64_t segment, const int64_t *offsets,
                                const void *indices, int64_t *column);

/* One line of out from `segments` partial results, which lie one after the other, added in order; zeros if there are none.
   TP_ERR_RANGE: segments negative. */
TP_API tp_status tp_spmm_add(const tp_product *spec, int64_t line, int64_t segments, const void *partials, void *out);

/*
 * Adds rows [begin, end) of A, transposed, times B to out: columns [first, last) of B and out only, so that threads may
 * share the columns; or each thread may have an out of its own and they are added afterwards. Every out starts at zero.
 * The order of the sum is that of the rows. TP_ERR_RANGE: columns outside [0, n]. For TP_SPARSE_CSR16 and
 * TP_SPARSE_CSR32, else TP_ERR_ARGUMENT.
 */
TP_API tp_status tp_spmm_transposed(const tp_product *spec, int64_t begin, int64_t end, int64_t first, int64_t last,
                                    const int64_t *offsets, const void *indices, const void *values, const void *b,
                                    void *out);

#ifdef __cplusplus
}
#endif
#endif
