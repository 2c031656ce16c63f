/* The kernels of the core family: how fast this machine can move bytes. */
#ifndef TP_CORE_KERNELS_H
#define TP_CORE_KERNELS_H

#include "core/family.h"

#define TP_CORE_KERNELS(X)                                                                                            \
    X(stream_narrow, (const float *in, int64_t n, uint8_t *out))                                                      \
    X(stream_read, (const void *in, int64_t n_bytes, uint64_t *out))

typedef struct tp_core_kernels {
    TP_CORE_KERNELS(TP_KERNEL_FIELD)
} tp_core_kernels;
TP_CORE_KERNELS(TP_KERNEL_DECLARE)
extern const tp_core_kernels tp_core_tables[TP_TIERS_BUILT];

#endif
