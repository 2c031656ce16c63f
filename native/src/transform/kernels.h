/* The kernels of the transform family. Arguments are those of the public functions after the checks of api.c; ranges are not empty. */
#ifndef TP_TRANSFORM_KERNELS_H
#define TP_TRANSFORM_KERNELS_H

#include "core/family.h"
#include "tensorpress/transform.h"

#define TP_TRANSFORM_KERNELS(X)                                                                                         \
    X(dct_blocks, (const tp_dct *spec, int64_t begin, int64_t end, const float *in, float *out, void *scratch))         \
    X(wavelet_rows, (const tp_wavelet *spec, int64_t begin, int64_t end, const void *in, void *out, void *scratch))     \
    X(wavelet_columns, (const tp_wavelet *spec, int64_t begin, int64_t end, const void *in, void *out))                 \
    X(zone_quantize, (const tp_zone *spec, int64_t begin, int64_t end, const float *in, int32_t *codes, double *errors)) \
    X(zone_decode, (const tp_zone *spec, int64_t begin, int64_t end, const int32_t *codes, float *out))                 \
    X(widen_codes, (tp_dtype type, int64_t begin, int64_t end, const void *in, int32_t *out))                           \
    X(narrow_codes, (tp_dtype type, int64_t begin, int64_t end, const int32_t *in, void *out))                          \
    X(count_codes, (int32_t limit, int64_t begin, int64_t end, const int32_t *codes, int64_t *counts))

typedef struct tp_transform_kernels {
    TP_TRANSFORM_KERNELS(TP_KERNEL_FIELD)
} tp_transform_kernels;
TP_TRANSFORM_KERNELS(TP_KERNEL_DECLARE)
extern const tp_transform_kernels tp_transform_tables[TP_TIERS_BUILT];

#endif
