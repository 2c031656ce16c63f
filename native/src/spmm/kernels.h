/*
 * The kernels of the spmm family. Arguments are those of the public functions after the checks of api.c: n is at least 1,
 * ranges lie inside the matrix, and no pointer to anything that is touched is null.
 */
#ifndef TP_SPMM_KERNELS_H
#define TP_SPMM_KERNELS_H

#include <stdbool.h>

#include "core/family.h"
#include "tensorpress/spmm.h"

#define TP_SPMM_KERNELS(X)                                                                                            \
    X(spmm, (const tp_product *p, int64_t begin, int64_t end, const int64_t *offsets, const void *indices,            \
             const void *values, const void *b, void *out))                                                           \
    X(spmm_segment, (const tp_product *p, int64_t line, int64_t segment, int64_t column, const int64_t *offsets,      \
                     const void *indices, const void *values, const void *b, void *partial))                          \
    X(spmm_column, (const uint16_t *distances, int64_t count, int64_t *column))                                       \
    X(spmm_add, (const tp_product *p, int64_t line, int64_t segments, const void *partials, void *out))               \
    X(spmm_transposed, (const tp_product *p, int64_t begin, int64_t end, int64_t first, int64_t last,                 \
                        const int64_t *offsets, const void *indices, const void *values, const void *b, void *out))

typedef struct tp_spmm_kernels {
    TP_SPMM_KERNELS(TP_KERNEL_FIELD)
} tp_spmm_kernels;
TP_SPMM_KERNELS(TP_KERNEL_DECLARE)
extern const tp_spmm_kernels tp_spmm_tables[TP_TIERS_BUILT];

/* Rows of A in a line. */
static inline int64_t tp_line_rows(const tp_product *p) { return p->a.layout == TP_SPARSE_BSR ? p->a.block_rows : 1; }

/* Rows of A in this line: the last line of blocks may reach beyond the edge. */
static inline int64_t tp_rows_of(const tp_product *p, int64_t line) {
    const int64_t rows = tp_line_rows(p), left = p->a.rows - line * rows;
    return left < rows ? left : rows;
}

/* The values of a line of TP_SPARSE_NM24. */
static inline int64_t tp_nm24_units(const tp_product *p) { return (p->a.cols + 3) / 4 * 2; }

#endif
