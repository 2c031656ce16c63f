/*
 * The kernels of the quantize family. Arguments are those of the public functions after the checks of api.c: the plan
 * is valid, ranges lie inside it, and no pointer to anything that is touched is null.
 */
#ifndef TP_QUANTIZE_KERNELS_H
#define TP_QUANTIZE_KERNELS_H

#include "core/family.h"
#include "quantize/plan.h"

#define TP_QUANTIZE_KERNELS(X)                                                                                        \
    X(quantize, (const tp_plan *plan, int64_t begin, int64_t end, const void *in, void *codes, float *scales,         \
                 uint8_t *zeros, void *scratch))                                                                      \
    X(minmax, (const tp_plan *plan, int64_t begin, int64_t end, const void *in, float *min, float *max))              \
    X(dequantize, (const tp_plan *plan, int64_t begin, int64_t end, const void *codes, const float *scales,           \
                   const uint8_t *zeros, float *out))                                                                 \
    X(quantize_error, (const tp_plan *plan, int64_t begin, int64_t end, const void *in, const void *codes,            \
                       const float *scales, const uint8_t *zeros, tp_error *errors))                                  \
    X(pack4, (const uint8_t *codes, int64_t n, uint8_t *packed))                                                      \
    X(unpack4, (tp_dtype type, const uint8_t *packed, int64_t n, uint8_t *codes))                                     \
    X(convert, (tp_dtype from, const void *in, int64_t n, tp_dtype to, void *out))                                    \
    X(find_nonfinite, (const tp_plan *plan, const void *in, int64_t *row, int64_t *col))

typedef struct tp_quantize_kernels {
    TP_QUANTIZE_KERNELS(TP_KERNEL_FIELD)
} tp_quantize_kernels;
TP_QUANTIZE_KERNELS(TP_KERNEL_DECLARE)
extern const tp_quantize_kernels tp_quantize_tables[TP_TIERS_BUILT];

#endif
