/* What functions of the svd family ask before they call a kernel, on the processor and on CUDA devices. */
#ifndef TP_SVD_CHECKS_H
#define TP_SVD_CHECKS_H

#include "core/checks.h"
#include "tensorpress/svd.h"

/* Of rows, of a stride, and of all elements: workspaces are a multiple of these. */
#define TP_SVD_MOST_ELEMENTS (INT64_C(1) << 48)

/* Sides of matrices that tp_svd_small takes. */
enum { TP_SMALL_SIDE = 64 };

static inline bool tp_svd_is_float(tp_dtype type) { return type == TP_F32 || type == TP_F64; }

static inline tp_status tp_svd_check_matrix(int64_t rows, int64_t cols, int64_t stride) {
    const int64_t most = TP_SVD_MOST_ELEMENTS;
    TRY(tp_check_matrix(rows, cols, stride));
    if (rows >= most || stride >= most) return TP_ERR_SHAPE;
    return rows > 0 && stride >= most / rows ? TP_ERR_SHAPE : TP_OK;
}

static inline tp_status tp_check_gaussian(int64_t begin, int64_t end, tp_dtype type, const void *out) {
    if (!tp_svd_is_float(type)) return TP_ERR_TYPE;
    if (begin < 0 || begin > end) return TP_ERR_RANGE;
    return begin < end && !out ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_row_norms(tp_dtype type, int64_t rows, int64_t cols, int64_t stride, int64_t begin, int64_t end,
                                           const void *in, const double *sums, const double *largest) {
    if (!tp_svd_is_float(type)) return TP_ERR_TYPE;
    TRY(tp_svd_check_matrix(rows, cols, stride));
    TRY(tp_check_range(begin, end, rows));
    return begin < end && ((!in && cols) || !sums || !largest) ? TP_ERR_ARGUMENT : TP_OK;
}

/* The order, which may lie on a device, is looked at by others. */
static inline tp_status tp_check_copying(const tp_copying *s, int64_t begin, int64_t end, const void *in, const void *out) {
    if (!s) return TP_ERR_ARGUMENT;
    if (!tp_svd_is_float(s->in_type) || !tp_svd_is_float(s->out_type)) return TP_ERR_TYPE;
    if (s->transposed < 0 || s->transposed > 1) return TP_ERR_ARGUMENT;
    TRY(tp_svd_check_matrix(s->rows, s->cols, s->in_stride));
    TRY(s->transposed ? tp_svd_check_matrix(s->cols, s->rows, s->out_stride) : tp_svd_check_matrix(s->rows, s->cols, s->out_stride));
    TRY(tp_check_range(begin, end, s->rows));
    return begin < end && s->cols && (!in || !out) ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_product(const tp_multiplication *s) {
    if (!s) return TP_ERR_ARGUMENT;
    if (!tp_svd_is_float(s->a_type) || !tp_svd_is_float(s->b_type)) return TP_ERR_TYPE;
    if ((s->a_transposed | s->b_transposed | s->lower) & ~1) return TP_ERR_ARGUMENT;
    if (s->m < 0 || s->n < 0 || s->k < 0) return TP_ERR_SHAPE;
    TRY(s->a_transposed ? tp_svd_check_matrix(s->k, s->m, s->a_stride) : tp_svd_check_matrix(s->m, s->k, s->a_stride));
    TRY(s->b_transposed ? tp_svd_check_matrix(s->n, s->k, s->b_stride) : tp_svd_check_matrix(s->k, s->n, s->b_stride));
    return tp_svd_check_matrix(s->m, s->n, s->c_stride);
}

static inline tp_status tp_check_multiply(const tp_multiplication *s, int64_t begin, int64_t end, const void *a, const void *b, const double *c) {
    TRY(tp_check_product(s));
    TRY(tp_check_range(begin, end, s->m));
    return begin < end && s->n && (!c || (s->k && (!a || !b))) ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_cholesky(int64_t n, int64_t stride, const double *g) {
    TRY(tp_svd_check_matrix(n, n, stride));
    return n && !g ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_triangular_solve(int64_t n, int64_t l_stride, const double *l, int32_t transposed, int64_t x_stride,
                                                  int64_t begin, int64_t end, const double *x) {
    TRY(tp_svd_check_matrix(n, n, l_stride));
    TRY(tp_svd_check_matrix(end > 0 ? end : 0, n, x_stride));
    TRY(tp_check_range(begin, end, end));
    if (transposed & ~1) return TP_ERR_ARGUMENT;
    return begin < end && n && (!l || !x) ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_small(const tp_small *s, int64_t begin, int64_t end, const void *in, const void *u, const void *values,
                                       const void *vt) {
    if (!s) return TP_ERR_ARGUMENT;
    if (!tp_svd_is_float(s->type)) return TP_ERR_TYPE;
    const int64_t side = TP_SMALL_SIDE, limit = TP_SVD_MOST_ELEMENTS;
    if (s->rows < 1 || s->cols < 1 || s->rows > side || s->cols > side || s->count < 0 || s->in_step < 0) return TP_ERR_SHAPE;
    TRY(tp_svd_check_matrix(s->rows, s->cols, s->in_stride));
    if (s->count > 0 && (s->count >= limit / (side * side) || s->in_step >= limit / s->count)) return TP_ERR_SHAPE;
    if (s->sweeps < 1) return TP_ERR_ARGUMENT;
    TRY(tp_check_range(begin, end, s->count));
    return begin < end && (!in || !u || !values || !vt) ? TP_ERR_ARGUMENT : TP_OK;
}

#endif
