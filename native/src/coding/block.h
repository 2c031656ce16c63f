/* Blocks, over the kernels of a tier. */
#ifndef TP_CODING_BLOCK_H
#define TP_CODING_BLOCK_H

#include "coding/kernels.h"

/* Of planes that elements are taken apart into; 1 where they are not. */
int32_t tp_planes_of(tp_elements elements);

int64_t tp_block_scratch_bytes(tp_elements elements, int64_t bytes);

/* Arguments are those of the public functions after their checks. */
tp_status tp_block_write(const tp_coding_kernels *kernels, tp_elements elements, int64_t bytes, const void *in, const void *base,
                         uint8_t *out, void *scratch, tp_coded *coded);
tp_status tp_block_read(const tp_coding_kernels *kernels, const tp_block *header, const uint8_t *block, int64_t block_bytes,
                        const void *base, void *out, void *scratch);

#endif
