/*
 * The kernels of the svd family. Arguments are those of the public functions after the checks of api.c: sizes and types are
 * valid, there is something to do, and no pointer to anything that is touched is null.
 */
#ifndef TP_SVD_KERNELS_H
#define TP_SVD_KERNELS_H

#include "core/family.h"
#include "tensorpress/svd.h"

#define TP_SVD_KERNELS(X)                                                                                             \
    X(gaussian, (uint64_t seed, uint64_t stream, int64_t begin, int64_t end, tp_dtype type, void *out))               \
    X(row_norms, (tp_dtype type, int64_t cols, int64_t stride, int64_t begin, int64_t end, const void *in,            \
                  double *sums, double *largest))                                                                     \
    X(row_peaks, (int64_t cols, int64_t stride, int64_t begin, int64_t end, const double *in, double *peaks))         \
    X(copy_rows, (const tp_copying *spec, int64_t begin, int64_t end, const int64_t *order, const double *factors,    \
                  const void *in, void *out))                                                                         \
    X(multiply, (const tp_multiplication *spec, int64_t begin, int64_t end, const void *a, const void *b, double *c,  \
                 double *scratch))                                                                                    \
    X(cholesky, (int64_t n, int64_t stride, double *g))                                                               \
    X(triangular_solve, (int64_t n, int64_t l_stride, const double *l, int32_t transposed, int64_t x_stride,          \
                         int64_t begin, int64_t end, double *x))                                                      \
    X(reflect_panel, (int64_t cols, int64_t a_stride, int64_t first, int64_t count, double *a, int64_t v_stride,      \
                      double *v, double *t))                                                                          \
    X(reflect_factor, (int64_t count, int64_t n, int64_t v_stride, const double *v, const double *tau, double *t))    \
    X(tridiagonal_panel, (int64_t n, int64_t a_stride, int64_t last, int64_t count, double *a, double *d, double *e,  \
                          int64_t q_stride, double *q, double *tau, double *vw, double *wv, double *scratch))         \
    X(tridiagonal_ql, (int64_t n, double *d, double *e, int64_t cols, int64_t z_stride, double *z))                   \
    X(tridiagonal_conquer, (int64_t n, double *d, double *e, int64_t z_stride, double *z, double *scratch,            \
                            int64_t product))                                                                         \
    X(merge_deflate, (int64_t n, int64_t split, double rho, double *d, double *z, int64_t q_stride, double *q,        \
                      double *kept_d, double *kept_z, int64_t *order, int64_t *slots, int64_t *scratch,               \
                      int64_t *count, int64_t *first, int64_t *second))                                               \
    X(merge_roots, (int64_t count, double rho, const double *d, const double *z, int64_t begin, int64_t end,          \
                    double *lambda, double *delta))                                                                   \
    X(merge_weights, (int64_t count, const double *d, const double *z, const double *delta, int64_t begin,            \
                      int64_t end, double *weights))                                                                  \
    X(merge_vectors, (int64_t count, const double *weights, const double *delta, const int64_t *slots,                \
                      int64_t begin, int64_t end, double *s))                                                         \
    X(gram_blocks, (const tp_jacobi *spec, int64_t g_stride, const double *g, int64_t begin, int64_t end,             \
                    double *cosines))                                                                                 \
    X(jacobi_pairs, (const tp_jacobi *spec, const int32_t *pairs, int64_t begin, int64_t end, double *w, double *z,   \
                     double *scratch, int64_t *rotated))                                                              \
    X(svd_small, (const tp_small *spec, int64_t begin, int64_t end, const void *in, void *u, void *s, void *vt))

typedef struct tp_svd_kernels {
    TP_SVD_KERNELS(TP_KERNEL_FIELD)
} tp_svd_kernels;
TP_SVD_KERNELS(TP_KERNEL_DECLARE)
extern const tp_svd_kernels tp_svd_tables[TP_TIERS_BUILT];

/* Blocking of products: k at a time, rows of A, columns of B; TP_TILE_ROWS and TP_TILE_COLS are the largest tile of a tier. */
enum { TP_BLOCK_K = 256, TP_BLOCK_ROWS = 96, TP_BLOCK_COLS = 1536, TP_TILE_ROWS = 8, TP_TILE_COLS = 24, TP_PANEL_ROWS = 64 };

#endif
