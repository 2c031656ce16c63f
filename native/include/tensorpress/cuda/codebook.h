/*
 * The codebook family on a device: tables, codes of weights, and back. See tensorpress/codebook.h.
 *
 * Example:
 *
 *     const float x[6] = {1, 5, 1.5f, 0, 5, 9};
 *     const tp_codebook spec = {.rows = 2, .cols = 3, .stride = 3, .group_rows = 2, .group_cols = 3, .dimension = 1, .bits = 2, .zero = 1,
 *                               .type = TP_F32};
 *     uint8_t codes[6];
 *     float table[4], decoded[6];
 *     tp_cuda *cuda;
 *     if (tp_cuda_open(0, 0, &cuda) == TP_OK) {
 *         assert(tp_cuda_codebook_train(cuda, &spec, 0, 100, 0, 1, x, NULL, NULL, table) == TP_OK && table[1] == 1.25f);
 *         assert(tp_cuda_codebook_assign(cuda, &spec, 0, 2, x, table, codes) == TP_OK && codes[2] == 1 && codes[3] == 0);
 *         assert(tp_cuda_codebook_decode(cuda, &spec, 0, 2, codes, table, decoded) == TP_OK && decoded[2] == 1.25f);
 *         tp_cuda_close(cuda);
 *     }
 *
 * The rules of tensorpress/cuda/device.h hold. Every result has the bits of the function without "cuda_". Where codes are found and
 * decoded, rows go through the device in pieces; tables, and all that tables and sums are made of, are taken whole.
 */
#ifndef TENSORPRESS_CUDA_CODEBOOK_H
#define TENSORPRESS_CUDA_CODEBOOK_H

#include "tensorpress/codebook.h"
#include "tensorpress/cuda/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * As tp_codebook_train, a group after the other: for groups of some 2^18 elements or more. Of numbers the host finds the clusters, in the calling
 * thread, when the device has counted them. With TP_ERR_NONFINITE any of the tables may be written.
 */
TP_API tp_status tp_cuda_codebook_train(tp_cuda *cuda, const tp_codebook *spec, uint64_t seed, int32_t iterations, int64_t begin, int64_t end,
                                        const void *in, const float *row_weights, const float *col_weights, float *tables);

/* As tp_codebook_gradients; with TP_ERR_FORMAT any of the sums may be written. */
TP_API tp_status tp_cuda_codebook_gradients(tp_cuda *cuda, const tp_codebook *spec, int64_t begin, int64_t end, const void *codes,
                                            const float *gradients, double *sums);

/* As tp_codebook_assign. */
TP_API tp_status tp_cuda_codebook_assign(tp_cuda *cuda, const tp_codebook *spec, int64_t begin, int64_t end, const void *in, const float *tables,
                                         void *codes);

/* As tp_codebook_decode; with TP_ERR_FORMAT any of the rows may be written. */
TP_API tp_status tp_cuda_codebook_decode(tp_cuda *cuda, const tp_codebook *spec, int64_t begin, int64_t end, const void *codes, const float *tables,
                                         float *out);

#ifdef __cplusplus
}
#endif
#endif
