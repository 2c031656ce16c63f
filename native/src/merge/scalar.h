/* One element at a time: what the family means. Vectors leave it what they find to be no finite number. */
#ifndef TP_MERGE_SCALAR_H
#define TP_MERGE_SCALAR_H

#include <math.h>

#include "core/random.h"
#include "tensorpress/merge.h"

/* Bits of the least f32 that is infinite once it is rounded to the type. */
TP_SCALAR uint32_t tp_merge_limit(tp_dtype type) { return type == TP_F32 ? TP_INF_BITS : type == TP_F16 ? 0x477ff000 : 0x7f7f8000; }

TP_SCALAR void tp_merge_store(tp_dtype type, void *out, int64_t i, float x) {
    char *const to = (char *)out + i * tp_size_of(type);
    const uint16_t half = type == TP_F16 ? tp_f16_of_f32(x) : tp_bf16_of_f32(x);
    if (type == TP_F32) memcpy(to, &x, sizeof x);
    else memcpy(to, &half, sizeof half);
}

/* Whether all have the same infinity at i. */
TP_SCALAR bool tp_merge_infinite(tp_dtype type, int32_t n, const void *const *in, int64_t i) {
    const float x = tp_load(type, in[0], i);
    if ((tp_bits(x) & TP_ABS_BITS) != TP_INF_BITS) return false;
    for (int32_t j = 1; j < n; j++)
        if (tp_bits(tp_load(type, in[j], i)) != tp_bits(x)) return false;
    return true;
}

/* Writes a result, or what all n inputs have. */
TP_SCALAR tp_status tp_merge_finish(tp_dtype type, int32_t n, const void *const *in, int64_t i, double result, void *out) {
    const float x = (float)result;
    if ((tp_bits(x) & TP_ABS_BITS) < tp_merge_limit(type)) {
        tp_merge_store(type, out, i, x);
        return TP_OK;
    }
    if (!tp_merge_infinite(type, n, in, i)) return TP_ERR_NONFINITE;
    tp_merge_store(type, out, i, tp_load(type, in[0], i));
    return TP_OK;
}

TP_SCALAR tp_status tp_combine_range(const tp_models *s, int64_t begin, int64_t end, const void *const *in, const double *weights, void *out) {
    for (int64_t i = begin; i < end; i++) {
        double sum = weights[0] * (double)tp_load(s->type, in[0], i);
        for (int32_t j = 1; j < s->sources; j++) sum += weights[j] * (double)tp_load(s->type, in[j], i);
        const tp_status status = tp_merge_finish(s->type, s->sources, in, i, sum, out);
        if (status) return status;
    }
    return TP_OK;
}

TP_SCALAR void tp_inner_term(tp_dtype type, const void *a, const void *b, int64_t i, int64_t sum, double partial[3][16]) {
    const double x = (double)tp_load(type, a, i), y = (double)tp_load(type, b, i);
    partial[0][sum] += x * y;
    partial[1][sum] += x * x;
    partial[2][sum] += y * y;
}

TP_SCALAR tp_status tp_inner_finish(double partial[3][16], double *sums) {
    for (int k = 0; k < 3; k++) {
        for (int apart = 8; apart > 0; apart /= 2)
            for (int l = 0; l < apart; l++) partial[k][l] += partial[k][l + apart];
        sums[k] = partial[k][0];
    }
    return isfinite(sums[1]) && isfinite(sums[2]) ? TP_OK : TP_ERR_NONFINITE;
}

/* Whether there is a difference; 0 of infinities that are alike. */
TP_SCALAR bool tp_merge_difference(float x, float base, double *difference) {
    *difference = (double)x - (double)base;
    if (tp_is_finite(x) && tp_is_finite(base)) return true;
    *difference = 0;
    return tp_bits(x) == tp_bits(base) && (tp_bits(x) & TP_ABS_BITS) == TP_INF_BITS;
}

TP_SCALAR tp_status tp_delta_range(const tp_models *s, int64_t begin, int64_t end, const void *const *in, float *out) {
    for (int64_t i = begin; i < end; i++) {
        double d;
        if (!tp_merge_difference(tp_load(s->type, in[0], i), tp_load(s->type, in[1], i), &d)) return TP_ERR_NONFINITE;
        out[i] = (float)d;
    }
    return TP_OK;
}

TP_SCALAR bool tp_merge_keeps(const tp_tasks *s, int32_t task, int64_t i, double d, const float *thresholds) {
    if (s->drop == TP_DROP_NONE) return true;
    if (s->drop == TP_DROP_SMALL) return fabs((double)(float)d) >= (double)thresholds[task];
    uint32_t word[4];
    tp_philox(s->seed, s->stream + (uint64_t)task, (uint64_t)(s->first + i) / 4, word, word + 1, word + 2, word + 3);
    return (double)word[(s->first + i) % 4] < s->keep * 0x1p32;
}

TP_SCALAR tp_status tp_tasks_range(const tp_tasks *s, int64_t begin, int64_t end, const void *const *in, const double *weights,
                                   const float *thresholds, void *out) {
    const int32_t n = s->sources;
    for (int64_t i = begin; i < end; i++) {
        const float base = tp_load(s->type, in[n], i);
        double part[TP_MERGE_MOST], sum = 0;
        for (int32_t j = 0; j < n; j++) {
            double d;
            if (!tp_merge_difference(tp_load(s->type, in[j], i), base, &d)) return TP_ERR_NONFINITE;
            if (!tp_merge_keeps(s, j, i, d, thresholds)) d = 0;
            if (s->drop == TP_DROP_RANDOM) d = d / s->keep;
            part[j] = weights[j] * d;
            sum += part[j];
        }
        if (s->elect) {
            const double sign = sum >= 0 ? 1 : -1;
            double of = 0;
            sum = 0;
            for (int32_t j = 0; j < n; j++) {
                if (part[j] * sign <= 0) continue;
                sum += part[j];
                of += weights[j];
            }
            sum = of > 0 ? sum / of : 0;
        }
        const tp_status status = tp_merge_finish(s->type, n + 1, in, i, sum == 0 ? (double)base : (double)base + s->scale * sum, out);
        if (status) return status;
    }
    return TP_OK;
}

#endif
