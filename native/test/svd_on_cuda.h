/* The svd family on a device, called as the processor's is, with arrays here and there. */
#ifndef TP_TEST_SVD_ON_CUDA_H
#define TP_TEST_SVD_ON_CUDA_H

#include "cuda_arrays.h"
#include "svd/checks.h"
#include "tensorpress/cuda/svd.h"

#define CUDA_CALL(call)                                                                                               \
    tp_status status;                                                                                                 \
    do status = call;                                                                                                 \
    while (short_of_memory(status));                                                                                  \
    all_on_host = false;                                                                                              \
    return end_call(status)

/* A call with these arguments; arrays of wrong ones are not touched. */
static void start(bool right) {
    start_call();
    all_on_host = !right;
}

static void *lend(const void *host, tp_dtype type, int64_t rows, int64_t cols, int64_t stride, bool written) {
    const int size = type == TP_F64 ? 8 : 4;
    const int64_t elements = rows > 0 && cols > 0 ? (rows - 1) * stride + cols : 0;
    return placed(host, (size_t)(elements * size), size, written);
}

static tp_status cuda_gaussian(uint64_t seed, uint64_t stream, int64_t begin, int64_t end, tp_dtype type, void *out) {
    start(!tp_check_gaussian(begin, end, type, out));
    void *x = lend(out, type, 1, end - begin, end - begin, true);
    CUDA_CALL(tp_cuda_gaussian(test_cuda, seed, stream, begin, end, type, x));
}

static tp_status cuda_row_norms(tp_dtype type, int64_t rows, int64_t cols, int64_t stride, int64_t begin, int64_t end, const void *in, double *sums,
                                double *largest) {
    start(!tp_check_row_norms(type, rows, cols, stride, begin, end, in, sums, largest));
    void *x = lend(in, type, rows, cols, stride, false);
    double *y = lend(sums, TP_F64, 1, rows, rows, true), *z = lend(largest, TP_F64, 1, rows, rows, true);
    CUDA_CALL(tp_cuda_row_norms(test_cuda, type, rows, cols, stride, begin, end, x, y, z));
}

static tp_status cuda_copy_rows(const tp_copying *s, int64_t begin, int64_t end, const int64_t *order, const double *factors, const void *in,
                                void *out) {
    const bool right = !tp_check_copying(s, begin, end, in, out);
    start(right);
    const tp_copying none = {0}, *q = right ? s : &none;
    void *x = lend(in, q->in_type, q->rows, q->cols, q->in_stride, false);
    void *y = lend(out, q->out_type, q->transposed ? q->cols : q->rows, q->transposed ? q->rows : q->cols, q->out_stride, true);
    int64_t *o = lend(order, TP_F64, 1, q->rows, q->rows, false);
    double *f = lend(factors, TP_F64, 1, q->rows, q->rows, false);
    CUDA_CALL(tp_cuda_copy_rows(test_cuda, s, begin, end, o, f, x, y));
}

static tp_status cuda_multiply(const tp_multiplication *s, int64_t begin, int64_t end, const void *a, const void *b, double *c) {
    const bool right = !tp_check_multiply(s, begin, end, a, b, c);
    start(right);
    const tp_multiplication none = {0}, *q = right ? s : &none;
    void *x = lend(a, q->a_type, q->a_transposed ? q->k : q->m, q->a_transposed ? q->m : q->k, q->a_stride, false);
    void *y = lend(b, q->b_type, q->b_transposed ? q->n : q->k, q->b_transposed ? q->k : q->n, q->b_stride, false);
    double *z = lend(c, TP_F64, q->m, q->n, q->c_stride, true);
    CUDA_CALL(tp_cuda_multiply(test_cuda, s, begin, end, x, y, z));
}

static tp_status cuda_cholesky(int64_t n, int64_t stride, double *g) {
    start(!tp_check_cholesky(n, stride, g));
    double *x = lend(g, TP_F64, n, n, stride, true);
    CUDA_CALL(tp_cuda_cholesky(test_cuda, n, stride, x));
}

static tp_status cuda_triangular_solve(int64_t n, int64_t l_stride, const double *l, int32_t transposed, int64_t x_stride, int64_t begin, int64_t end,
                                       double *x) {
    start(!tp_check_triangular_solve(n, l_stride, l, transposed, x_stride, begin, end, x));
    double *y = lend(l, TP_F64, n, n, l_stride, false), *z = lend(x, TP_F64, end, n, x_stride, true);
    CUDA_CALL(tp_cuda_triangular_solve(test_cuda, n, l_stride, y, transposed, x_stride, begin, end, z));
}

static tp_status cuda_svd_small(const tp_small *s, int64_t begin, int64_t end, const void *in, void *u, void *values, void *vt) {
    const bool right = !tp_check_small(s, begin, end, in, u, values, vt);
    start(right);
    const tp_small none = {0}, *q = right ? s : &none;
    const int64_t r = q->rows < q->cols ? q->rows : q->cols;
    void *x = lend(in, q->type, q->count, (q->rows - 1) * q->in_stride + q->cols, q->in_step, false);
    void *y = lend(u, q->type, q->count, q->rows * r, q->rows * r, true), *v = lend(values, q->type, q->count, r, r, true);
    void *z = lend(vt, q->type, q->count, r * q->cols, r * q->cols, true);
    CUDA_CALL(tp_cuda_svd_small(test_cuda, s, begin, end, x, y, v, z));
}

/* There is no such function for the processor. With so much memory to begin with (0: plenty), or with arrays here and there. */
static tp_status cuda_qb(int64_t memory, bool anywhere, const tp_qb *q, const void *in, void *out_q, void *out_b, double *residual) {
    if (cuda_budget != memory) open_with(memory);
    calls_on_cuda++;
    all_on_host = !anywhere;
    void *x = lend(in, q->type, q->m, q->n, q->stride, false), *y = lend(out_q, q->out_type, q->m, q->rank, q->rank, true);
    void *z = lend(out_b, q->out_type, q->rank, q->n, q->n, true);
    CUDA_CALL(tp_cuda_qb(test_cuda, q, x, y, z, residual));
}

#define tp_gaussian(...) (on_cuda ? cuda_gaussian(__VA_ARGS__) : tp_gaussian(__VA_ARGS__))
#define tp_row_norms(...) (on_cuda ? cuda_row_norms(__VA_ARGS__) : tp_row_norms(__VA_ARGS__))
#define tp_copy_rows(...) (on_cuda ? cuda_copy_rows(__VA_ARGS__) : tp_copy_rows(__VA_ARGS__))
#define tp_multiply(s, begin, end, a, b, c, scratch) \
    (on_cuda ? cuda_multiply(s, begin, end, a, b, c) : tp_multiply(s, begin, end, a, b, c, scratch))
#define tp_cholesky(...) (on_cuda ? cuda_cholesky(__VA_ARGS__) : tp_cholesky(__VA_ARGS__))
#define tp_triangular_solve(...) (on_cuda ? cuda_triangular_solve(__VA_ARGS__) : tp_triangular_solve(__VA_ARGS__))
#define tp_svd_small(...) (on_cuda ? cuda_svd_small(__VA_ARGS__) : tp_svd_small(__VA_ARGS__))

#endif
