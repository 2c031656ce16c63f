/*
 * A sparse matrix times a dense one on CUDA devices: family "spmm" of tensorpress/spmm.h, whose product, layouts and sums these are.
 *
 * Example:
 *
 *     const tp_product spec = {.a = {.rows = 1, .cols = 4, .type = TP_F32, .layout = TP_SPARSE_CSR32},
 *                              .n = 1, .b_stride = 1, .out_stride = 1};
 *     const int64_t offsets[2] = {0, 2};
 *     const uint32_t columns[2] = {1, 3};
 *     const float values[2] = {3, 5}, b[4] = {1, 2, 4, 8};
 *     float out[1];
 *     tp_cuda *cuda;
 *     if (tp_cuda_open(0, 0, &cuda) == TP_OK) {
 *         assert(tp_cuda_spmm(cuda, &spec, 0, 1, offsets, columns, values, b, out) == TP_OK && out[0] == 46);
 *         tp_cuda_close(cuda);
 *     }
 *
 * Lines are those of out. A, as far as the range goes, and B are taken whole.
 */
#ifndef TENSORPRESS_CUDA_SPMM_H
#define TENSORPRESS_CUDA_SPMM_H

#include "tensorpress/cuda/device.h"
#include "tensorpress/spmm.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * As tp_spmm, the device being a tier of its own: integers have the same bits, floats the same bound, and an order of sums that
 * depends on layout, n and the units of the line alone.
 */
TP_API tp_status tp_cuda_spmm(tp_cuda *cuda, const tp_product *spec, int64_t begin, int64_t end, const int64_t *offsets,
                              const void *indices, const void *values, const void *b, void *out);

/* As tp_spmm_transposed, by fused multiply-add in the order of the rows. */
TP_API tp_status tp_cuda_spmm_transposed(tp_cuda *cuda, const tp_product *spec, int64_t begin, int64_t end, int64_t first,
                                         int64_t last, const int64_t *offsets, const void *indices, const void *values,
                                         const void *b, void *out);

#ifdef __cplusplus
}
#endif
#endif
