/*
 * The svd family on a device, called as the processor's is. Each call is made in one of three ways: with memory of the host and so little of the
 * device's that there are many pieces, with memory of the host and plenty, or with memory of the device.
 */
#ifndef TP_TEST_SVD_ON_CUDA_H
#define TP_TEST_SVD_ON_CUDA_H

#include "on_cuda.h"
#include "svd/checks.h"
#include "tensorpress/cuda/svd.h"

enum { SCARCE, PLENTY, OWN, WAYS };
static int way;
static int64_t budget;
static struct {
    void *device, *host;
    size_t bytes;
    bool out;
} lent[8];
static int lent_count;
/* The most pieces that any call had. */
static int64_t most_pieces;

/* Before a call whose arguments are right, or not: then they are not touched. */
static void start_call(bool right) {
    const bool scarce = budget != 0;
    way = right ? (int)random_below(WAYS) : PLENTY;
    budget = way == SCARCE ? 1 << 12 : 0;
    if (scarce || budget) open_cuda(budget);
    lent_count = 0;
}

/* What the call is to be given for memory of the host. */
static void *lend(const void *host, int64_t bytes, bool out) {
    if (way != OWN || !host || bytes <= 0) return (void *)host;
    void *device;
    CHECK(tp_cuda_allocate(test_cuda, bytes, &device) == TP_OK && tp_cuda_copy(test_cuda, device, host, bytes) == TP_OK, "device memory");
    lent[lent_count].device = device;
    lent[lent_count].host = (void *)host;
    lent[lent_count].bytes = (size_t)bytes;
    lent[lent_count++].out = out;
    return device;
}

/* Whether to call once more, since memory was too short even for one piece. */
static bool once_more(tp_status status) {
    if (way != SCARCE || status != TP_ERR_MEMORY) return false;
    budget *= 2;
    open_cuda(budget);
    return true;
}

static tp_status finish_call(tp_status status) {
    tp_cuda_times times;
    CHECK(tp_cuda_last(test_cuda, &times) == TP_OK, "times");
    if (times.pieces > most_pieces) most_pieces = times.pieces;
    for (int i = 0; i < lent_count; i++) {
        if (lent[i].out && status == TP_OK) CHECK(tp_cuda_copy(test_cuda, lent[i].host, lent[i].device, (int64_t)lent[i].bytes) == TP_OK, "copy");
        CHECK(tp_cuda_free(test_cuda, lent[i].device) == TP_OK, "free");
    }
    return status;
}

static int64_t matrix_bytes(tp_dtype type, int64_t rows, int64_t cols, int64_t stride) {
    return rows && cols ? ((rows - 1) * stride + cols) * (type == TP_F64 ? 8 : 4) : 0;
}

static tp_status cuda_gaussian(uint64_t seed, uint64_t stream, int64_t begin, int64_t end, tp_dtype type, void *out) {
    tp_status s;
    start_call(!tp_check_gaussian(begin, end, type, out));
    void *x = lend(out, matrix_bytes(type, 1, end - begin, end - begin), true);
    do s = tp_cuda_gaussian(test_cuda, seed, stream, begin, end, type, x);
    while (once_more(s));
    return finish_call(s);
}

static tp_status cuda_row_norms(tp_dtype type, int64_t rows, int64_t cols, int64_t stride, int64_t begin, int64_t end, const void *in, double *sums,
                                double *largest) {
    tp_status s;
    start_call(!tp_check_row_norms(type, rows, cols, stride, begin, end, in, sums, largest));
    void *x = lend(in, matrix_bytes(type, rows, cols, stride), false);
    double *y = lend(sums, rows * 8, true), *z = lend(largest, rows * 8, true);
    do s = tp_cuda_row_norms(test_cuda, type, rows, cols, stride, begin, end, x, y, z);
    while (once_more(s));
    return finish_call(s);
}

static tp_status cuda_copy_rows(const tp_copying *spec, int64_t begin, int64_t end, const int64_t *order, const double *factors, const void *in,
                                void *out) {
    tp_status s;
    const bool right = !tp_check_copying(spec, begin, end, in, out);
    start_call(right);
    const tp_copying none = {0}, *q = right ? spec : &none;
    void *x = lend(in, matrix_bytes(q->in_type, q->rows, q->cols, q->in_stride), false);
    void *y = lend(out, q->transposed ? matrix_bytes(q->out_type, q->cols, q->rows, q->out_stride) : matrix_bytes(q->out_type, q->rows, q->cols, q->out_stride),
                   true);
    int64_t *o = lend(order, q->rows * 8, false);
    double *f = lend(factors, q->rows * 8, false);
    do s = tp_cuda_copy_rows(test_cuda, spec, begin, end, o, f, x, y);
    while (once_more(s));
    return finish_call(s);
}

static tp_status cuda_multiply(const tp_multiplication *spec, int64_t begin, int64_t end, const void *a, const void *b, double *c) {
    tp_status s;
    const bool right = !tp_check_multiply(spec, begin, end, a, b, c);
    start_call(right);
    const tp_multiplication none = {0}, *q = right ? spec : &none;
    void *x = lend(a, q->a_transposed ? matrix_bytes(q->a_type, q->k, q->m, q->a_stride) : matrix_bytes(q->a_type, q->m, q->k, q->a_stride), false);
    void *y = lend(b, q->b_transposed ? matrix_bytes(q->b_type, q->n, q->k, q->b_stride) : matrix_bytes(q->b_type, q->k, q->n, q->b_stride), false);
    double *z = lend(c, matrix_bytes(TP_F64, q->m, q->n, q->c_stride), true);
    do s = tp_cuda_multiply(test_cuda, spec, begin, end, x, y, z);
    while (once_more(s));
    return finish_call(s);
}

static tp_status cuda_cholesky(int64_t n, int64_t stride, double *g) {
    tp_status s;
    start_call(!tp_check_cholesky(n, stride, g));
    double *x = lend(g, way == OWN ? matrix_bytes(TP_F64, n, n, stride) : 0, true);
    do s = tp_cuda_cholesky(test_cuda, n, stride, x);
    while (once_more(s));
    return finish_call(s);
}

static tp_status cuda_triangular_solve(int64_t n, int64_t l_stride, const double *l, int32_t transposed, int64_t x_stride, int64_t begin, int64_t end,
                                       double *x) {
    tp_status s;
    start_call(!tp_check_triangular_solve(n, l_stride, l, transposed, x_stride, begin, end, x));
    double *y = lend(l, way == OWN ? matrix_bytes(TP_F64, n, n, l_stride) : 0, false), *z = lend(x, way == OWN ? matrix_bytes(TP_F64, end, n, x_stride) : 0, true);
    do s = tp_cuda_triangular_solve(test_cuda, n, l_stride, y, transposed, x_stride, begin, end, z);
    while (once_more(s));
    return finish_call(s);
}

static tp_status cuda_svd_small(const tp_small *spec, int64_t begin, int64_t end, const void *in, void *u, void *values, void *vt) {
    tp_status s;
    const bool right = !tp_check_small(spec, begin, end, in, u, values, vt);
    start_call(right);
    const tp_small none = {0}, *q = right ? spec : &none;
    const int64_t r = q->rows < q->cols ? q->rows : q->cols;
    void *x = lend(in, matrix_bytes(q->type, q->count, (q->rows - 1) * q->in_stride + q->cols, q->in_step), false);
    void *y = lend(u, matrix_bytes(q->type, q->count, q->rows * r, q->rows * r), true), *v = lend(values, matrix_bytes(q->type, q->count, r, r), true);
    void *z = lend(vt, matrix_bytes(q->type, q->count, r * q->cols, r * q->cols), true);
    do s = tp_cuda_svd_small(test_cuda, spec, begin, end, x, y, v, z);
    while (once_more(s));
    return finish_call(s);
}

/* There is no such function for the processor. A call has many parts: `given` is the least memory to try. */
static tp_status cuda_qb(int given_way, int64_t given, const tp_qb *q, const void *in, void *out_q, void *out_b, double *residual) {
    tp_status s;
    start_call(true);
    if (given_way != way && way == SCARCE) open_cuda(0);
    way = given_way;
    budget = 0;
    if (way == SCARCE) open_cuda(budget = given);
    void *x = lend(in, matrix_bytes(q->type, q->m, q->n, q->stride), false), *y = lend(out_q, matrix_bytes(q->out_type, q->m, q->rank, q->rank), true);
    void *z = lend(out_b, matrix_bytes(q->out_type, q->rank, q->n, q->n), true);
    do s = tp_cuda_qb(test_cuda, q, x, y, z, residual);
    while (once_more(s));
    return finish_call(s);
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
