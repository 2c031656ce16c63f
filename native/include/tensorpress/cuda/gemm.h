/*
 * Products of dense matrices on CUDA devices: family "gemm" of tensorpress/gemm.h, whose spec, forms and sums these are. B is not
 * packed, and a product computes all columns of rows [begin, end) of C.
 *
 * Example:
 *
 *     const float a[4] = {1, 2, 3, 4}, b[4] = {5, 6, 7, 8};
 *     const tp_gemm_spec spec = {.m = 2, .n = 2, .k = 2, .a_stride = 2, .b_stride = 2, .c_stride = 2, .type = TP_F32};
 *     float c[4];
 *     tp_cuda *cuda;
 *     if (tp_cuda_open(0, 0, &cuda) == TP_OK) {
 *         assert(tp_cuda_gemm(cuda, &spec, 0, 2, a, b, c) == TP_OK && c[0] == 19 && c[3] == 50);
 *         tp_cuda_close(cuda);
 *     }
 *
 * Lines are rows of C with what stands for them in A: rows, or columns for TP_GEMM_ATB. B is taken whole.
 */
#ifndef TENSORPRESS_CUDA_GEMM_H
#define TENSORPRESS_CUDA_GEMM_H

#include "tensorpress/cuda/device.h"
#include "tensorpress/gemm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As tp_gemm, in rows [begin, end) of C, with the same bits. b: see "form" there. */
TP_API tp_status tp_cuda_gemm(tp_cuda *cuda, const tp_gemm_spec *spec, int64_t begin, int64_t end, const void *a, const void *b,
                              void *c);

/* As tp_gemm_int8, in rows [begin, end) of C, with the same bits. The arrays of `affine` may be those of the device too. */
TP_API tp_status tp_cuda_gemm_int8(tp_cuda *cuda, const tp_gemm_spec *spec, const tp_gemm_affine *affine, int64_t begin,
                                   int64_t end, const void *a, const void *b, void *c);

/*
 * As tp_cuda_gemm for TP_F32 (else TP_ERR_TYPE), faster, by tensor cores, with other bits: each factor x is split into h + l,
 * TF32 both, and h h + h l + l h is summed (Markidis et al. 2018; Ootomo and Yokota 2022). With u = 2^-24 and
 * t = ceil(k / 8) + 1, |error| <= (2^-19 + t u / (1 - t u)) * (sum |a b| + |c|), apart from underflow and overflow, if the
 * device's sum of eight products and one number loses at most 2^-23 of the largest of them for each of the nine, and for the result
 * (Fasi et al. 2021 found less). Three quarters of 2^-20 are the splits'. An element whose sum has a NaN or an infinity is not finite: which of them it is, is not
 * said. On one kind of device the bits are the same for every range.
 */
TP_API tp_status tp_cuda_gemm_tf32x3(tp_cuda *cuda, const tp_gemm_spec *spec, int64_t begin, int64_t end, const void *a,
                                     const void *b, void *c);

#ifdef __cplusplus
}
#endif
#endif
