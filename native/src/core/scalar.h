/* One element at a time, in portable C, for all families: floats and their bits, conversions, totals of errors. */
#ifndef TP_CORE_SCALAR_H
#define TP_CORE_SCALAR_H

#include <stdbool.h>
#include <string.h>

#include "tensorpress/core.h"

/* For CUDA too, where formulas are the same functions. */
#ifdef __CUDACC__
#define TP_SCALAR static inline __host__ __device__
#else
#define TP_SCALAR static inline
#endif

TP_SCALAR uint32_t tp_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

TP_SCALAR float tp_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

enum { TP_INF_BITS = 0x7f800000, TP_ABS_BITS = 0x7fffffff };

TP_SCALAR bool tp_is_finite(float x) { return (tp_bits(x) & TP_ABS_BITS) < TP_INF_BITS; }

TP_SCALAR float tp_f32_of_f16(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff;
    if (magnitude >= 0x7c00) {
        const uint32_t quiet = magnitude > 0x7c00 ? 0x400000 : 0;
        return tp_float(sign | TP_INF_BITS | (magnitude & 0x3ff) << 13 | quiet);
    }
    if (magnitude >= 0x400) return tp_float(sign | ((magnitude << 13) + (112u << 23)));
    const float x = (float)magnitude * 0x1p-24f;
    return sign ? -x : x;
}

TP_SCALAR uint16_t tp_f16_of_f32(float x) {
    const uint32_t bits = tp_bits(x), sign = bits >> 16 & 0x8000, magnitude = bits & TP_ABS_BITS;
    if (magnitude > TP_INF_BITS) return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    if (magnitude >= 0x47800000) return (uint16_t)(sign | 0x7c00); /* 2^16 and more */
    if (magnitude < 0x38800000) {
        /* Denormal: adding 0.5 leaves exactly the bits down to 2^-24 in the sum, rounded as they should be. */
        return (uint16_t)(sign | (tp_bits(tp_float(magnitude) + 0.5f) - tp_bits(0.5f)));
    }
    return (uint16_t)(sign | (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13);
}

TP_SCALAR float tp_f32_of_bf16(uint16_t h) {
    const uint32_t bits = (uint32_t)h << 16;
    return tp_float((bits & TP_ABS_BITS) > TP_INF_BITS ? bits | 0x400000 : bits);
}

TP_SCALAR uint16_t tp_bf16_of_f32(float x) {
    const uint32_t bits = tp_bits(x);
    if ((bits & TP_ABS_BITS) > TP_INF_BITS) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

TP_SCALAR int64_t tp_size_of(tp_dtype type) { return type == TP_F32 ? 4 : 2; }

/* Element i of an input, which may have any alignment. */
TP_SCALAR float tp_load(tp_dtype type, const void *p, int64_t i) {
    const char *from = (const char *)p + i * tp_size_of(type);
    float x;
    uint16_t half;
    if (type == TP_F32) {
        memcpy(&x, from, sizeof x);
        return x;
    }
    memcpy(&half, from, sizeof half);
    return type == TP_F16 ? tp_f32_of_f16(half) : tp_f32_of_bf16(half);
}

/* The totals of a line are canonical even when they are not numbers: which NaN comes out is the processor's choice. */
TP_SCALAR tp_error tp_error_of(double sum_squared_error, double sum_squares, double max_error) {
    tp_error e = {sum_squared_error, sum_squares, max_error};
    const uint64_t nan_bits = UINT64_C(0x7ff8000000000000);
    if (sum_squares != sum_squares) memcpy(&e.sum_squares, &nan_bits, sizeof nan_bits);
    if (sum_squared_error != sum_squared_error) {
        memcpy(&e.sum_squared_error, &nan_bits, sizeof nan_bits);
        memcpy(&e.max_error, &nan_bits, sizeof nan_bits);
    }
    return e;
}

#endif
