/*
 * The sparse family on a device: storing what is left of a pruned matrix, and restoring it bit for bit. See tensorpress/sparse.h.
 *
 * Example:
 *
 *     const float x[4] = {0, 3, 0, 5};
 *     const tp_sparse spec = {.rows = 1, .cols = 4, .stride = 4, .type = TP_F32, .layout = TP_SPARSE_CSR32};
 *     int64_t offsets[2] = {0};
 *     uint32_t columns[2];
 *     float values[2];
 *     tp_cuda *cuda;
 *     if (tp_cuda_open(0, 0, &cuda) == TP_OK) {
 *         assert(tp_cuda_sparse_count(cuda, &spec, 0, 1, x, offsets + 1) == TP_OK && offsets[1] == 2);
 *         assert(tp_cuda_sparse_pack(cuda, &spec, 0, 1, x, offsets, columns, values) == TP_OK && columns[1] == 3);
 *         tp_cuda_close(cuda);
 *     }
 *
 * The rules of tensorpress/cuda/device.h hold. Every result has the bits of the function without "cuda_". Rows of the dense matrix and of
 * the indices of TP_SPARSE_BITMASK and TP_SPARSE_NM24 go through the device in pieces, and so do the values of TP_SPARSE_NM24; with
 * TP_SPARSE_BSR pieces are of block_rows rows or more. Counts and offsets of the lines are taken whole, and so are their indices and
 * values in all other cases. tp_sparse_bytes needs no device.
 */
#ifndef TENSORPRESS_CUDA_SPARSE_H
#define TENSORPRESS_CUDA_SPARSE_H

#include "tensorpress/cuda/device.h"
#include "tensorpress/sparse.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As tp_sparse_survey. */
TP_API tp_status tp_cuda_sparse_survey(tp_cuda *cuda, const tp_sparse *spec, int64_t begin, int64_t end, const void *in, tp_survey *survey);

/* As tp_sparse_count. */
TP_API tp_status tp_cuda_sparse_count(tp_cuda *cuda, const tp_sparse *spec, int64_t begin, int64_t end, const void *in, int64_t *counts);

/* As tp_sparse_count_mask. */
TP_API tp_status tp_cuda_sparse_count_mask(tp_cuda *cuda, const tp_sparse *spec, int64_t begin, int64_t end, const uint8_t *indices,
                                           int64_t *counts);

/* As tp_sparse_pack. */
TP_API tp_status tp_cuda_sparse_pack(tp_cuda *cuda, const tp_sparse *spec, int64_t begin, int64_t end, const void *in, const int64_t *offsets,
                                     void *indices, void *values);

/* As tp_sparse_check. Indices of TP_SPARSE_CSR16, TP_SPARSE_CSR32 and TP_SPARSE_BSR are taken whole, those of other lines too. */
TP_API tp_status tp_cuda_sparse_check(tp_cuda *cuda, const tp_sparse *spec, int64_t begin, int64_t end, int64_t units,
                                      const int64_t *offsets, const void *indices, int64_t *bad_line);

/* As tp_sparse_unpack. */
TP_API tp_status tp_cuda_sparse_unpack(tp_cuda *cuda, const tp_sparse *spec, int64_t begin, int64_t end, const int64_t *offsets,
                                       const void *indices, const void *values, void *out);

#ifdef __cplusplus
}
#endif
#endif
