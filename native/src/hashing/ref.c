#include "hashing/kernels.h"
#include "hashing/scalar.h"

tp_status tp_hash_add__ref(const tp_hashing *s, int64_t begin, int64_t end, const float *in, double *sums, int32_t *counts) {
    for (int64_t i = begin; i < end; i++) {
        const uint32_t row = tp_hash_row(s->seed, (uint32_t)i), sign_row = tp_hash_row(s->seed + 1, (uint32_t)i);
        for (int64_t j = 0; j < s->cols; j++) {
            const float x = in[i * s->stride + j];
            if (!tp_is_finite(x)) return TP_ERR_NONFINITE;
            const uint32_t bucket = tp_hash_bucket(s, row, (uint32_t)j);
            sums[bucket] += tp_hash_sign(sign_row, (uint32_t)j) ? -(double)x : (double)x;
            counts[bucket]++;
        }
    }
    return TP_OK;
}

tp_status tp_hash_mean__ref(int64_t parts, int64_t buckets, int64_t begin, int64_t end, const double *sums, const int32_t *counts,
                            float *values) {
    return tp_hash_means(parts, buckets, begin, end, sums, counts, values);
}

tp_status tp_hash_decode__ref(const tp_hashing *s, int64_t begin, int64_t end, const float *values, float *out) {
    for (int64_t i = begin; i < end; i++) {
        const uint32_t row = tp_hash_row(s->seed, (uint32_t)i), sign_row = tp_hash_row(s->seed + 1, (uint32_t)i);
        for (int64_t j = 0; j < s->cols; j++)
            out[i * s->stride + j] = tp_float(tp_bits(values[tp_hash_bucket(s, row, (uint32_t)j)]) ^ tp_hash_sign(sign_row, (uint32_t)j));
    }
    return TP_OK;
}
