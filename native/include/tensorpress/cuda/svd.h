/*
 * Kernel family "svd" on CUDA devices: norms, copies, random numbers, products, triangular factors, and many small decompositions.
 *
 * Example:
 *
 *     tp_cuda *cuda;
 *     if (tp_cuda_open(0, 0, &cuda) == TP_OK) {
 *         const double a[4] = {3, 0, 0, -4};
 *         const tp_small spec = {.count = 1, .rows = 2, .cols = 2, .in_stride = 2, .in_step = 4, .type = TP_F64, .sweeps = 30};
 *         double u[4], s[2], vt[4];
 *         assert(tp_cuda_svd_small(cuda, &spec, 0, 1, a, u, s, vt) == TP_OK);
 *         assert(s[0] == 4 && s[1] == 3 && u[2] == 1 && vt[1] == -1);
 *         tp_cuda_close(cuda);
 *     }
 *
 * What tensorpress/svd.h says holds here: bounds of errors, and that results are the same bits however the work is cut, on any device.
 * Its numbers, norms and copies are also the bits of the processor; of products and what stands on them the last bits differ, as they do between tiers.
 */
#ifndef TENSORPRESS_CUDA_SVD_H
#define TENSORPRESS_CUDA_SVD_H

#include "tensorpress/cuda/device.h"
#include "tensorpress/svd.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As tp_gaussian, the same bits. */
TP_API tp_status tp_cuda_gaussian(tp_cuda *cuda, uint64_t seed, uint64_t stream, int64_t begin, int64_t end, tp_dtype type, void *out);

/* As tp_row_norms, the same bits. */
TP_API tp_status tp_cuda_row_norms(tp_cuda *cuda, tp_dtype type, int64_t rows, int64_t cols, int64_t stride, int64_t begin, int64_t end,
                                   const void *in, double *sums, double *largest);

/* As tp_copy_rows, the same bits. With an order `in` is taken whole; factors always are. */
TP_API tp_status tp_cuda_copy_rows(tp_cuda *cuda, const tp_copying *spec, int64_t begin, int64_t end, const int64_t *order, const double *factors,
                                   const void *in, void *out);

/*
 * As tp_multiply, with sums in order of k within segments of 1024, segment after segment, by fused operations of f64 tensor cores. With `lower`
 * elements above the diagonal are left alone. B is taken whole.
 */
TP_API tp_status tp_cuda_multiply(tp_cuda *cuda, const tp_multiplication *spec, int64_t begin, int64_t end, const void *a, const void *b, double *c);

/* As tp_cholesky. G is taken whole. */
TP_API tp_status tp_cuda_cholesky(tp_cuda *cuda, int64_t n, int64_t stride, double *g);

/* As tp_triangular_solve. L is taken whole. */
TP_API tp_status tp_cuda_triangular_solve(tp_cuda *cuda, int64_t n, int64_t l_stride, const double *l, int32_t transposed, int64_t x_stride,
                                          int64_t begin, int64_t end, double *x);

/* As tp_svd_small. If one matrix of the range is not finite, that is the status, even if an earlier one does not converge. */
TP_API tp_status tp_cuda_svd_small(tp_cuda *cuda, const tp_small *spec, int64_t begin, int64_t end, const void *in, void *u, void *s, void *vt);

/* A [m, n] ~ Q B, Q [m, rank], B [rank, n]. Fill every field. */
typedef struct tp_qb {
    int64_t m, n;
    int64_t rank;                   /* 1 .. min(m, n): some more than the singular values that are wanted */
    int64_t stride;                 /* of A */
    tp_dtype type, out_type;        /* of A; of Q and B, which have no gaps: each TP_F32 or TP_F64 */
    int32_t powers;                 /* times that A^T and A are applied again: 0 for fast decay, 1 or 2 for slow */
    uint64_t seed;
} tp_qb;

/*
 * The randomised range finder (Halko, Martinsson and Tropp 2011, algorithms 4.3 and 4.4): Q is an orthonormal basis of A (A^T A)^powers times
 * Gaussian vectors, whose transposed are the first rank * n numbers of stream 0 of the seed (tp_gaussian), and B = Q^T A. Bases are orthonormal to a modest
 * multiple of u, or of f32's precision, after each product; for A of lower rank the rest of Q is any orthonormal completion, of which the numbers come from stream 3.
 * Everything is f64 before Q and B are rounded, and the bits do not depend on the device, nor on where A lies. But if A and Q are both TP_F32, products
 * that only look for the space are made by tp_cuda_gemm_tf32x3, whose bits do depend on the kind of device; what is below 1e-5 of ||A|| may not be found then. B and
 * the residual are f64 all the same.
 *
 * residual [4], memory of the host, of Q and B as they are handed out:
 *   0  an upper bound of ||A - Q B||_F^2: never less than the truth, and at most twice residual[3] more
 *   1  ||A||_F^2
 *   2  ||B||_F^2. For the best approximation of a lower rank from these factors, subtract squares of singular values of B from [1]
 *   3  what roundings can do to the bound, included in it: a multiple of u ||A||_F^2. What is much smaller is better measured, as ||A - Q B||_F
 *      with products in f64
 * The certificate of a decomposition made from Q and B (dev.tensorpress.kernel.Svd) measures it so, and bounds the best error by streams 1
 * and 2 of the seed, on which nothing here depends.
 *
 * A that fits beside Q and B is copied to the device once; otherwise it goes through in pieces, 2 * powers + 3 times, of rows and of columns by
 * turns. Four times what Q and B take in f64 has to fit. TP_ERR_NONFINITE; TP_ERR_MAGNITUDE if the largest |a| of a f64 matrix is not 0 and
 * outside 2^-400 .. 2^400; TP_ERR_CONVERGENCE if no basis is orthonormal after 20 passes, which random numbers exclude.
 */
TP_API tp_status tp_cuda_qb(tp_cuda *cuda, const tp_qb *spec, const void *in, void *q, void *b, double *residual);

#ifdef __cplusplus
}
#endif
#endif
