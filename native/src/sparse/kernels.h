/*
 * The kernels of the sparse family. Arguments are those of the public functions after the checks of api.c: the plan is
 * valid, ranges lie inside it and are not empty, and no pointer to anything that is touched is null. There are columns,
 * except for sparse_count_mask and sparse_check.
 */
#ifndef TP_SPARSE_KERNELS_H
#define TP_SPARSE_KERNELS_H

#include "core/family.h"
#include "sparse/plan.h"

#define TP_SPARSE_KERNELS(X)                                                                                          \
    X(sparse_survey, (const tp_sparse_plan *plan, int64_t begin, int64_t end, const void *in, tp_survey *survey))     \
    X(sparse_count, (const tp_sparse_plan *plan, int64_t begin, int64_t end, const void *in, int64_t *counts))        \
    X(sparse_count_mask, (const tp_sparse_plan *plan, int64_t begin, int64_t end, const uint8_t *indices,             \
                          int64_t *counts))                                                                           \
    X(sparse_pack, (const tp_sparse_plan *plan, int64_t begin, int64_t end, const void *in, const int64_t *offsets,   \
                    void *indices, void *values))                                                                     \
    X(sparse_check, (const tp_sparse_plan *plan, int64_t begin, int64_t end, int64_t units, const int64_t *offsets,   \
                     const void *indices, int64_t *bad_line))                                                         \
    X(sparse_unpack, (const tp_sparse_plan *plan, int64_t begin, int64_t end, const int64_t *offsets,                 \
                      const void *indices, const void *values, void *out))

typedef struct tp_sparse_kernels {
    TP_SPARSE_KERNELS(TP_KERNEL_FIELD)
} tp_sparse_kernels;
TP_SPARSE_KERNELS(TP_KERNEL_DECLARE)
extern const tp_sparse_kernels tp_sparse_tables[TP_TIERS_BUILT];

#endif
