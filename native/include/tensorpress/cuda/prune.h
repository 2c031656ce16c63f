/*
 * The prune family on a device: choosing which elements of a weight to keep. See tensorpress/prune.h.
 *
 * Example:
 *
 *     const float x[8] = {1, -5, 2, 0, 7, 3, -4, 6};
 *     const tp_scores spec = {.rows = 1, .cols = 8, .stride = 8, .type = TP_F32, .order = TP_ORDER_MAGNITUDE};
 *     uint8_t mask[1];
 *     tp_cuda *cuda;
 *     if (tp_cuda_open(0, 0, &cuda) == TP_OK) {
 *         assert(tp_cuda_prune_nm(cuda, &spec, 1, 0, 1, x, 2, 4, mask) == TP_OK); // two of each four
 *         assert(mask[0] == 0x96);                                               // -5, 2, 7, 6
 *         tp_cuda_close(cuda);
 *     }
 *
 * The rules of tensorpress/cuda/device.h hold. Every result has the bits of the function without "cuda_". Rows of matrices and of
 * masks go through the device in pieces, unless it is said that something is taken whole. tp_prune_key needs no device.
 */
#ifndef TENSORPRESS_CUDA_PRUNE_H
#define TENSORPRESS_CUDA_PRUNE_H

#include "tensorpress/cuda/device.h"
#include "tensorpress/prune.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As tp_prune_histogram. */
TP_API tp_status tp_cuda_prune_histogram(tp_cuda *cuda, const tp_scores *spec, int64_t begin, int64_t end, const void *in, int32_t digit,
                                         uint32_t prefix, int64_t *counts);

/* As tp_prune_count. */
TP_API tp_status tp_cuda_prune_count(tp_cuda *cuda, const tp_scores *spec, int64_t begin, int64_t end, const void *in, uint32_t key,
                                     int64_t *larger, int64_t *equal);

/* As tp_prune_find, with *col = -1 too if there are not so many. */
TP_API tp_status tp_cuda_prune_find(tp_cuda *cuda, const tp_scores *spec, int64_t begin, int64_t end, const void *in, uint32_t key,
                                    int64_t skip, int64_t *row, int64_t *col);

/* As tp_prune_mask. */
TP_API tp_status tp_cuda_prune_mask(tp_cuda *cuda, const tp_scores *spec, int64_t begin, int64_t end, const void *in, uint32_t key,
                                    int64_t tie_row, int64_t tie_col, uint8_t *mask);

/* As tp_prune_lines, without scratch. TP_ERR_SHAPE too: lines of 2^32 elements or more. With axis 0 pieces are of 32 columns or more. */
TP_API tp_status tp_cuda_prune_lines(tp_cuda *cuda, const tp_scores *spec, int32_t axis, int64_t begin, int64_t end, const void *in,
                                     int64_t k, uint8_t *mask);

/* As tp_prune_nm. With axis 0 pieces are of m rows or more. */
TP_API tp_status tp_cuda_prune_nm(tp_cuda *cuda, const tp_scores *spec, int32_t axis, int64_t begin, int64_t end, const void *in, int32_t n,
                                  int32_t m, uint8_t *mask);

/* As tp_prune_blocks. Pieces are of block_rows rows or more; the scores are taken whole. Since each block is summed up in order, by one
   thread, few large blocks are slow. */
TP_API tp_status tp_cuda_prune_blocks(tp_cuda *cuda, const tp_scores *spec, int64_t block_rows, int64_t block_cols, int64_t begin,
                                      int64_t end, const void *in, float *scores);

/* As tp_prune_expand. The mask of blocks is taken whole. */
TP_API tp_status tp_cuda_prune_expand(tp_cuda *cuda, const tp_scores *spec, int64_t block_rows, int64_t block_cols, int64_t begin,
                                      int64_t end, const uint8_t *block_mask, uint8_t *mask);

/* As tp_prune_apply. */
TP_API tp_status tp_cuda_prune_apply(tp_cuda *cuda, const tp_scores *spec, int64_t begin, int64_t end, const void *in, const uint8_t *mask,
                                     void *out);

/* As tp_prune_error. */
TP_API tp_status tp_cuda_prune_error(tp_cuda *cuda, const tp_scores *spec, int64_t begin, int64_t end, const void *in, const void *out,
                                     tp_error *errors);

#ifdef __cplusplus
}
#endif
#endif
