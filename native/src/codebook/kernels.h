/* The kernels of the codebook family. Arguments are those of the public functions after the checks of api.c; ranges are not empty. */
#ifndef TP_CODEBOOK_KERNELS_H
#define TP_CODEBOOK_KERNELS_H

#include "core/family.h"
#include "tensorpress/codebook.h"

#define TP_CODEBOOK_KERNELS(X)                                                                                         \
    X(codebook_train, (const tp_codebook *spec, uint64_t seed, int32_t iterations, int64_t begin, int64_t end,         \
                       const void *in, const float *row_weights, const float *col_weights, void *scratch, float *tables)) \
    X(codebook_assign, (const tp_codebook *spec, int64_t begin, int64_t end, const void *in, const float *tables, void *codes)) \
    X(codebook_decode, (const tp_codebook *spec, int64_t begin, int64_t end, const void *codes, const float *tables, float *out)) \
    X(codebook_gradients, (const tp_codebook *spec, int64_t begin, int64_t end, const void *codes, const float *gradients, \
                           double *sums))

typedef struct tp_codebook_kernels {
    TP_CODEBOOK_KERNELS(TP_KERNEL_FIELD)
} tp_codebook_kernels;
TP_CODEBOOK_KERNELS(TP_KERNEL_DECLARE)
extern const tp_codebook_kernels tp_codebook_tables[TP_TIERS_BUILT];

#endif
