/* The kernels in vectors, for files that define the lanes. */
#include "hashing/scalar.h"

INLINE vi hash(uint32_t row, vi cols) {
    vi x = vi_mul(vi_turn17(vi_add(vi_set(row), vi_mul(cols, vi_set(TP_HASH_3)))), vi_set(TP_HASH_4));
    x = vi_mul(vi_xor(x, vi_right(x, 15)), vi_set(TP_HASH_2));
    x = vi_mul(vi_xor(x, vi_right(x, 13)), vi_set(TP_HASH_3));
    return vi_xor(x, vi_right(x, 16));
}

tp_status TP_VARIANT(hash_add)(const tp_hashing *s, int64_t begin, int64_t end, const float *in, double *sums, int32_t *counts) {
    const vi buckets = vi_set((uint32_t)s->buckets), high = vi_set(UINT32_C(0x80000000));
    for (int64_t i = begin; i < end; i++) {
        const uint32_t row = tp_hash_row(s->seed, (uint32_t)i), sign_row = tp_hash_row(s->seed + 1, (uint32_t)i);
        for (int64_t j = 0; j < s->cols; j += LANES) {
            const vi cols = vi_add(vi_set((uint32_t)j), vi_count());
            uint32_t places[LANES], signs[LANES];
            vi_store(places, vi_mul_high(hash(row, cols), buckets));
            vi_store(signs, vi_and(hash(sign_row, cols), high));
            const int64_t n = s->cols - j < LANES ? s->cols - j : LANES;
            for (int64_t l = 0; l < n; l++) {
                const float x = in[i * s->stride + j + l];
                if (!tp_is_finite(x)) return TP_ERR_NONFINITE;
                sums[places[l]] += (double)tp_float(tp_bits(x) ^ signs[l]);
                counts[places[l]]++;
            }
        }
    }
    return TP_OK;
}

tp_status TP_VARIANT(hash_mean)(int64_t parts, int64_t buckets, int64_t begin, int64_t end, const double *sums, const int32_t *counts,
                                float *values) {
    return tp_hash_means(parts, buckets, begin, end, sums, counts, values);
}

tp_status TP_VARIANT(hash_decode)(const tp_hashing *s, int64_t begin, int64_t end, const float *values, float *out) {
    const vi buckets = vi_set((uint32_t)s->buckets), high = vi_set(UINT32_C(0x80000000));
    for (int64_t i = begin; i < end; i++) {
        const uint32_t row = tp_hash_row(s->seed, (uint32_t)i), sign_row = tp_hash_row(s->seed + 1, (uint32_t)i);
        float *const y = out + i * s->stride;
        int64_t j = 0;
        for (; s->cols - j >= LANES; j += LANES) {
            const vi cols = vi_add(vi_set((uint32_t)j), vi_count());
            const vi value = vi_gather(values, vi_mul_high(hash(row, cols), buckets));
            vi_store_float(y + j, vi_xor(value, vi_and(hash(sign_row, cols), high)));
        }
        for (; j < s->cols; j++)
            y[j] = tp_float(tp_bits(values[tp_hash_bucket(s, row, (uint32_t)j)]) ^ tp_hash_sign(sign_row, (uint32_t)j));
    }
    return TP_OK;
}
