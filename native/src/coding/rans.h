/* Symbols as one sequence or two, over the kernels of a tier. */
#ifndef TP_CODING_RANS_H
#define TP_CODING_RANS_H

#include "coding/kernels.h"

/* Arguments are those of the public functions after their checks. */
tp_status tp_rans_write(const tp_coding_kernels *kernels, int32_t width, int64_t n, const void *in, int32_t log_total,
                        const uint16_t *frequencies, uint8_t *out, int64_t capacity, int64_t *bytes, void *scratch);
tp_status tp_rans_read(const tp_coding_kernels *kernels, int32_t width, int64_t n, int32_t log_total, const uint16_t *frequencies,
                       const uint8_t *in, int64_t bytes, void *out, void *scratch);

#endif
