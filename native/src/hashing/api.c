/* The public functions: checks up front, so that kernels have none. */
#include "core/checks.h"
#include "core/dispatch.h"
#include "hashing/kernels.h"

const tp_hashing_kernels tp_hashing_tables[TP_TIERS_BUILT] = TP_KERNEL_TABLES(TP_HASHING_KERNELS);

TP_FIND_KERNELS(hashing)

static tp_status check(const tp_hashing *s, int64_t begin, int64_t end) {
    if (!s) return TP_ERR_ARGUMENT;
    TRY(tp_check_matrix(s->rows, s->cols, s->stride));
    if (s->rows > UINT32_MAX || s->cols > UINT32_MAX || s->buckets < 1 || s->buckets > INT32_MAX) return TP_ERR_SHAPE;
    return tp_check_range(begin, end, s->rows);
}

tp_status tp_hash_add(const tp_hashing *spec, int64_t begin, int64_t end, const float *in, double *sums, int32_t *counts) {
    const tp_hashing_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(check(spec, begin, end));
    if (begin == end || spec->cols == 0) return TP_OK;
    return in && sums && counts ? kernels->hash_add(spec, begin, end, in, sums, counts) : TP_ERR_ARGUMENT;
}

tp_status tp_hash_mean(int64_t parts, int64_t buckets, int64_t begin, int64_t end, const double *sums, const int32_t *counts, float *values) {
    const tp_hashing_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(tp_check_matrix(parts, buckets, buckets));
    TRY(tp_check_range(begin, end, buckets));
    if (begin == end) return TP_OK;
    if (!values || (parts && (!sums || !counts))) return TP_ERR_ARGUMENT;
    return kernels->hash_mean(parts, buckets, begin, end, sums, counts, values);
}

tp_status tp_hash_decode(const tp_hashing *spec, int64_t begin, int64_t end, const float *values, float *out) {
    const tp_hashing_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(check(spec, begin, end));
    if (begin == end || spec->cols == 0) return TP_OK;
    return values && out ? kernels->hash_decode(spec, begin, end, values, out) : TP_ERR_ARGUMENT;
}
