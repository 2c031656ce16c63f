/* The kernels of the hashing family. Arguments are those of the public functions after the checks of api.c; ranges are not empty. */
#ifndef TP_HASHING_KERNELS_H
#define TP_HASHING_KERNELS_H

#include "core/family.h"
#include "tensorpress/hashing.h"

#define TP_HASHING_KERNELS(X)                                                                                                  \
    X(hash_add, (const tp_hashing *spec, int64_t begin, int64_t end, const float *in, double *sums, int32_t *counts))          \
    X(hash_mean, (int64_t parts, int64_t buckets, int64_t begin, int64_t end, const double *sums, const int32_t *counts,       \
                  float *values))                                                                                              \
    X(hash_decode, (const tp_hashing *spec, int64_t begin, int64_t end, const float *values, float *out))

typedef struct tp_hashing_kernels {
    TP_HASHING_KERNELS(TP_KERNEL_FIELD)
} tp_hashing_kernels;
TP_HASHING_KERNELS(TP_KERNEL_DECLARE)
extern const tp_hashing_kernels tp_hashing_tables[TP_TIERS_BUILT];

#endif
