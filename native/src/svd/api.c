/* The public functions: checks up front, so that kernels have none. */
#include "core/dispatch.h"
#include "svd/checks.h"
#include "svd/kernels.h"

const tp_svd_kernels tp_svd_tables[TP_TIERS_BUILT] = TP_KERNEL_TABLES(TP_SVD_KERNELS);

TP_FIND_KERNELS(svd)

#define KERNELS                                                                                                       \
    const tp_svd_kernels *kernels;                                                                                    \
    TRY(find_kernels(&kernels))

tp_status tp_gaussian(uint64_t seed, uint64_t stream, int64_t begin, int64_t end, tp_dtype type, void *out) {
    KERNELS;
    TRY(tp_check_gaussian(begin, end, type, out));
    if (begin == end) return TP_OK;
    return kernels->gaussian(seed, stream, begin, end, type, out);
}

tp_status tp_row_norms(tp_dtype type, int64_t rows, int64_t cols, int64_t stride, int64_t begin, int64_t end,
                       const void *in, double *sums, double *largest) {
    KERNELS;
    TRY(tp_check_row_norms(type, rows, cols, stride, begin, end, in, sums, largest));
    if (begin == end) return TP_OK;
    return kernels->row_norms(type, cols, stride, begin, end, in, sums, largest);
}

tp_status tp_row_peaks(int64_t rows, int64_t cols, int64_t stride, int64_t begin, int64_t end, const double *in,
                       double *peaks) {
    KERNELS;
    TRY(tp_svd_check_matrix(rows, cols, stride));
    TRY(tp_check_range(begin, end, rows));
    if (begin == end) return TP_OK;
    if ((!in && cols) || !peaks) return TP_ERR_ARGUMENT;
    return kernels->row_peaks(cols, stride, begin, end, in, peaks);
}

tp_status tp_copy_rows(const tp_copying *spec, int64_t begin, int64_t end, const int64_t *order, const double *factors,
                       const void *in, void *out) {
    KERNELS;
    TRY(tp_check_copying(spec, begin, end, in, out));
    if (begin == end || spec->cols == 0) return TP_OK;
    for (int64_t i = begin; order && i < end; i++)
        if (order[i] < 0 || order[i] >= spec->rows) return TP_ERR_RANGE;
    return kernels->copy_rows(spec, begin, end, order, factors, in, out);
}

/* Doubles of scratch for a product with n columns. */
static int64_t product_scratch(int64_t n) {
    const int64_t columns = (n + TP_TILE_COLS - 1) / TP_TILE_COLS * TP_TILE_COLS;
    const int64_t packed = columns < TP_BLOCK_COLS ? columns : TP_BLOCK_COLS;
    return (TP_BLOCK_ROWS + packed) * TP_BLOCK_K;
}

tp_status tp_multiply_scratch(const tp_multiplication *spec, int64_t *bytes) {
    TRY(tp_check_product(spec));
    if (!bytes) return TP_ERR_ARGUMENT;
    *bytes = product_scratch(spec->n) * (int64_t)sizeof(double);
    return TP_OK;
}

tp_status tp_multiply(const tp_multiplication *spec, int64_t begin, int64_t end, const void *a, const void *b,
                      double *c, void *scratch) {
    KERNELS;
    TRY(tp_check_multiply(spec, begin, end, a, b, c));
    if (begin == end || spec->n == 0) return TP_OK;
    if (!tp_aligned(scratch)) return TP_ERR_ARGUMENT;
    return kernels->multiply(spec, begin, end, a, b, c, scratch);
}

tp_status tp_cholesky(int64_t n, int64_t stride, double *g) {
    KERNELS;
    TRY(tp_check_cholesky(n, stride, g));
    if (n == 0) return TP_OK;
    return kernels->cholesky(n, stride, g);
}

tp_status tp_triangular_solve(int64_t n, int64_t l_stride, const double *l, int32_t transposed, int64_t x_stride,
                              int64_t begin, int64_t end, double *x) {
    KERNELS;
    TRY(tp_check_triangular_solve(n, l_stride, l, transposed, x_stride, begin, end, x));
    if (begin == end || n == 0) return TP_OK;
    return kernels->triangular_solve(n, l_stride, l, transposed, x_stride, begin, end, x);
}

tp_status tp_reflect_panel(int64_t rows, int64_t cols, int64_t a_stride, int64_t first, int64_t count, double *a,
                           int64_t v_stride, double *v, double *t) {
    KERNELS;
    TRY(tp_svd_check_matrix(rows, cols, a_stride));
    TRY(tp_svd_check_matrix(count < 0 ? 0 : count, cols, v_stride));
    const int64_t least = rows < cols ? rows : cols;
    if (first < 0 || count < 0 || count > TP_PANEL_ROWS || first > least - count) return TP_ERR_RANGE;
    if (count == 0) return TP_OK;
    if (!a || !v || !t) return TP_ERR_ARGUMENT;
    return kernels->reflect_panel(cols, a_stride, first, count, a, v_stride, v, t);
}

tp_status tp_reflect_factor(int64_t count, int64_t n, int64_t v_stride, const double *v, const double *tau, double *t) {
    KERNELS;
    if (count < 0 || count > TP_PANEL_ROWS) return TP_ERR_RANGE;
    TRY(tp_svd_check_matrix(count, n, v_stride));
    if (count == 0) return TP_OK;
    if ((!v && n) || !tau || !t) return TP_ERR_ARGUMENT;
    return kernels->reflect_factor(count, n, v_stride, v, tau, t);
}

tp_status tp_tridiagonal_panel(int64_t n, int64_t a_stride, int64_t last, int64_t count, double *a, double *d, double *e,
                               int64_t q_stride, double *q, double *tau, double *vw, double *wv, double *scratch) {
    KERNELS;
    TRY(tp_svd_check_matrix(n, n, a_stride));
    TRY(tp_svd_check_matrix(n, n, q_stride));
    if (count < 0 || count > TP_PANEL_ROWS || last > n || (count > 0 && count >= last)) return TP_ERR_RANGE;
    if (count == 0) return TP_OK;
    if (!a || !d || !e || !q || !tau || !vw || !wv || !scratch) return TP_ERR_ARGUMENT;
    return kernels->tridiagonal_panel(n, a_stride, last, count, a, d, e, q_stride, q, tau, vw, wv, scratch);
}

tp_status tp_tridiagonal_ql(int64_t n, double *d, double *e, int64_t cols, int64_t z_stride, double *z) {
    KERNELS;
    TRY(tp_svd_check_matrix(n, cols, z_stride));
    if (n == 0) return TP_OK;
    if (!d || (!e && n > 1) || (!z && cols)) return TP_ERR_ARGUMENT;
    return kernels->tridiagonal_ql(n, d, e, cols, z_stride, z);
}

tp_status tp_tridiagonal_scratch(int64_t n, int64_t *bytes) {
    TRY(tp_svd_check_matrix(n, n, n));
    if (!bytes) return TP_ERR_ARGUMENT;
    *bytes = (product_scratch(n) + (3 * n + 9) * n) * (int64_t)sizeof(double);
    return TP_OK;
}

tp_status tp_tridiagonal_conquer(int64_t n, double *d, double *e, int64_t z_stride, double *z, void *scratch) {
    KERNELS;
    TRY(tp_svd_check_matrix(n, n, z_stride));
    if (n == 0) return TP_OK;
    if (!d || (!e && n > 1) || !z || !tp_aligned(scratch)) return TP_ERR_ARGUMENT;
    return kernels->tridiagonal_conquer(n, d, e, z_stride, z, scratch, product_scratch(n));
}

tp_status tp_merge_deflate(int64_t n, int64_t split, double rho, double *d, double *z, int64_t q_stride, double *q,
                           double *kept_d, double *kept_z, int64_t *order, int64_t *slots, int64_t *scratch,
                           int64_t *count, int64_t *first, int64_t *second) {
    KERNELS;
    TRY(tp_svd_check_matrix(n, n, q_stride));
    if (split < 0 || split > n) return TP_ERR_RANGE;
    if (!(rho > 0) || !count || !first || !second) return TP_ERR_ARGUMENT;
    if (n && (!d || !z || !q || !kept_d || !kept_z || !order || !slots || !scratch)) return TP_ERR_ARGUMENT;
    return kernels->merge_deflate(n, split, rho, d, z, q_stride, q, kept_d, kept_z, order, slots, scratch, count, first,
                                  second);
}

static tp_status check_merge(int64_t count, int64_t begin, int64_t end) {
    TRY(tp_svd_check_matrix(count, count, count));
    return tp_check_range(begin, end, count);
}

tp_status tp_merge_roots(int64_t count, double rho, const double *d, const double *z, int64_t begin, int64_t end,
                         double *lambda, double *delta) {
    KERNELS;
    TRY(check_merge(count, begin, end));
    if (!(rho > 0)) return TP_ERR_ARGUMENT;
    if (begin == end) return TP_OK;
    if (!d || !z || !lambda || !delta) return TP_ERR_ARGUMENT;
    return kernels->merge_roots(count, rho, d, z, begin, end, lambda, delta);
}

tp_status tp_merge_weights(int64_t count, const double *d, const double *z, const double *delta, int64_t begin,
                           int64_t end, double *weights) {
    KERNELS;
    TRY(check_merge(count, begin, end));
    if (begin == end) return TP_OK;
    if (!d || !z || !delta || !weights) return TP_ERR_ARGUMENT;
    return kernels->merge_weights(count, d, z, delta, begin, end, weights);
}

tp_status tp_merge_vectors(int64_t count, const double *weights, const double *delta, const int64_t *slots,
                           int64_t begin, int64_t end, double *s) {
    KERNELS;
    TRY(check_merge(count, begin, end));
    if (begin == end) return TP_OK;
    if (!weights || !delta || !slots || !s) return TP_ERR_ARGUMENT;
    for (int64_t j = 0; j < count; j++)
        if (slots[j] < 0 || slots[j] >= count) return TP_ERR_RANGE;
    return kernels->merge_vectors(count, weights, delta, slots, begin, end, s);
}

static tp_status check_jacobi(const tp_jacobi *s, int64_t *blocks) {
    if (!s) return TP_ERR_ARGUMENT;
    TRY(tp_svd_check_matrix(s->n, s->w_cols, s->w_stride));
    TRY(tp_svd_check_matrix(s->n, s->z_cols, s->z_stride));
    if (s->block < 1 || s->block > TP_PANEL_ROWS) return TP_ERR_SHAPE;
    if (!(s->tolerance > 0) || !(s->negligible >= 0)) return TP_ERR_ARGUMENT;
    *blocks = (s->n + s->block - 1) / s->block;
    return TP_OK;
}

tp_status tp_gram_blocks(const tp_jacobi *spec, int64_t g_stride, const double *g, int64_t begin, int64_t end,
                         double *cosines) {
    KERNELS;
    int64_t blocks;
    TRY(check_jacobi(spec, &blocks));
    TRY(tp_svd_check_matrix(spec->n, spec->n, g_stride));
    TRY(tp_check_range(begin, end, blocks));
    if (begin == end) return TP_OK;
    if (!g || !cosines) return TP_ERR_ARGUMENT;
    return kernels->gram_blocks(spec, g_stride, g, begin, end, cosines);
}

tp_status tp_jacobi_scratch(const tp_jacobi *spec, int64_t *bytes) {
    int64_t blocks;
    TRY(check_jacobi(spec, &blocks));
    if (!bytes) return TP_ERR_ARGUMENT;
    const int64_t pair = 2 * TP_PANEL_ROWS;
    *bytes = (3 * pair * pair + pair * TP_TILE_COLS) * (int64_t)sizeof(double);
    return TP_OK;
}

tp_status tp_jacobi_pairs(const tp_jacobi *spec, const int32_t *pairs, int64_t begin, int64_t end, double *w, double *z,
                          void *scratch, int64_t *rotated) {
    KERNELS;
    int64_t blocks;
    TRY(check_jacobi(spec, &blocks));
    if (begin < 0 || begin > end) return TP_ERR_RANGE;
    if (!rotated) return TP_ERR_ARGUMENT;
    *rotated = 0;
    if (begin == end) return TP_OK;
    if (!pairs || (!w && spec->w_cols) || (!z && spec->z_cols) || !tp_aligned(scratch)) return TP_ERR_ARGUMENT;
    for (int64_t i = begin; i < end; i++)
        if (pairs[2 * i] < 0 || pairs[2 * i] > pairs[2 * i + 1] || pairs[2 * i + 1] >= blocks) return TP_ERR_RANGE;
    return kernels->jacobi_pairs(spec, pairs, begin, end, w, z, scratch, rotated);
}

tp_status tp_svd_small(const tp_small *spec, int64_t begin, int64_t end, const void *in, void *u, void *s, void *vt) {
    KERNELS;
    TRY(tp_check_small(spec, begin, end, in, u, s, vt));
    if (begin == end) return TP_OK;
    return kernels->svd_small(spec, begin, end, in, u, s, vt);
}
