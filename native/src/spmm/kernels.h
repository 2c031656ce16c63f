/*
 * The kernels of the spmm family. Arguments are those of the public functions after the checks of api.c: n is at least 1,
 * ranges lie inside the matrix, and no pointer to anything that is touched is null.
 */
#ifndef TP_SPMM_KERNELS_H
#define TP_SPMM_KERNELS_H

#include "core/family.h"
#include "spmm/checks.h"

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

#endif
