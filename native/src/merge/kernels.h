/* The kernels of the merge family. Arguments are those of the public functions after the checks of api.c; ranges are not empty. */
#ifndef TP_MERGE_KERNELS_H
#define TP_MERGE_KERNELS_H

#include "core/family.h"
#include "tensorpress/merge.h"

#define TP_MERGE_KERNELS(X)                                                                                                    \
    X(models_combine, (const tp_models *spec, int64_t begin, int64_t end, const void *const *in, const double *weights, void *out)) \
    X(models_inner, (const tp_models *spec, int64_t begin, int64_t end, const void *const *in, double *sums))                  \
    X(models_delta, (const tp_models *spec, int64_t begin, int64_t end, const void *const *in, float *out))                    \
    X(models_tasks, (const tp_tasks *spec, int64_t begin, int64_t end, const void *const *in, const double *weights,           \
                     const float *thresholds, void *out))

typedef struct tp_merge_kernels {
    TP_MERGE_KERNELS(TP_KERNEL_FIELD)
} tp_merge_kernels;
TP_MERGE_KERNELS(TP_KERNEL_DECLARE)
extern const tp_merge_kernels tp_merge_tables[TP_TIERS_BUILT];

#endif
