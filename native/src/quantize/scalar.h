/* One element at a time, in portable C: what ref.c is made of, and what the other tiers use for odd ends. */
#ifndef TP_QUANTIZE_SCALAR_H
#define TP_QUANTIZE_SCALAR_H

#include <float.h>
#include <stdatomic.h>
#include <string.h>

#include "quantize/plan.h"

static inline uint32_t tp_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float tp_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

enum { TP_INF_BITS = 0x7f800000, TP_ABS_BITS = 0x7fffffff };

static inline bool tp_is_finite(float x) { return (tp_bits(x) & TP_ABS_BITS) < TP_INF_BITS; }

/* To the nearest integer, ties to even, for |x| < 2^22: the sum has no room for a fraction. */
static inline float tp_round(float x) { return x + 12582912.0f - 12582912.0f; }

static inline float tp_clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

static inline float tp_f32_of_f16(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff;
    if (magnitude >= 0x7c00) {
        const uint32_t quiet = magnitude > 0x7c00 ? 0x400000 : 0;
        return tp_float(sign | TP_INF_BITS | (magnitude & 0x3ff) << 13 | quiet);
    }
    if (magnitude >= 0x400) return tp_float(sign | ((magnitude << 13) + (112u << 23)));
    const float x = (float)magnitude * 0x1p-24f;
    return sign ? -x : x;
}

static inline uint16_t tp_f16_of_f32(float x) {
    const uint32_t bits = tp_bits(x), sign = bits >> 16 & 0x8000, magnitude = bits & TP_ABS_BITS;
    if (magnitude > TP_INF_BITS) return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    if (magnitude >= 0x47800000) return (uint16_t)(sign | 0x7c00); /* 2^16 and more */
    if (magnitude < 0x38800000) {
        /* Denormal: adding 0.5 leaves exactly the bits down to 2^-24 in the sum, rounded as they should be. */
        return (uint16_t)(sign | (tp_bits(tp_float(magnitude) + 0.5f) - tp_bits(0.5f)));
    }
    return (uint16_t)(sign | (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13);
}

static inline float tp_f32_of_bf16(uint16_t h) {
    const uint32_t bits = (uint32_t)h << 16;
    return tp_float((bits & TP_ABS_BITS) > TP_INF_BITS ? bits | 0x400000 : bits);
}

static inline uint16_t tp_bf16_of_f32(float x) {
    const uint32_t bits = tp_bits(x);
    if ((bits & TP_ABS_BITS) > TP_INF_BITS) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline int64_t tp_size_of(tp_dtype type) { return type == TP_F32 ? 4 : 2; }

/* Element i of an input, which may have any alignment. */
static inline float tp_load(tp_dtype type, const void *p, int64_t i) {
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

/*
 * Scale and zero point of a group, its range [min, max] multiplied by ratio. The scale is infinite if scale_type
 * cannot hold it.
 */
static inline void tp_scale(const tp_plan *p, float min, float max, float ratio, float *scale, float *zero) {
    min = min < 0 ? min : 0;
    max = max > 0 ? max : 0;
    const float amax = -min > max ? -min : max;
    float s = p->range == TP_RANGE_MINMAX ? max * ratio / p->divisor - min * ratio / p->divisor
                                          : amax * ratio / p->divisor;
    s = s < FLT_MIN ? FLT_MIN : s;
    s = amax == 0 ? 1 : s;
    if (p->scale_type == TP_F16) {
        s = tp_f32_of_f16(tp_f16_of_f32(s));
        s = s < 0x1p-24f ? 0x1p-24f : s;
    } else if (p->scale_type == TP_BF16) {
        s = tp_f32_of_bf16(tp_bf16_of_f32(s));
    }
    *scale = s;
    *zero = p->range == TP_RANGE_MINMAX ? tp_round(tp_clamp(p->qmin - min * ratio / s, p->qmin, p->qmax)) : p->zero;
}

/* Ratio number i of the clip search. */
static inline float tp_ratio(const tp_plan *p, int i) {
    return p->clip_steps ? 1.0f - (float)i * (1.0f - p->clip_min) / (float)(p->clip_steps - 1) : 1.0f;
}

/* A zero point as it is stored: codes are kept modulo 256. */
static inline uint8_t tp_zero_byte(float zero) { return (uint8_t)(int32_t)zero; }

/* The value of a code or zero point stored in one byte. */
static inline int32_t tp_code_value(tp_dtype type, uint8_t byte) {
    return type == TP_I8 || type == TP_I4 ? (int8_t)byte : byte;
}

static inline float tp_zero_at(const tp_plan *p, const uint8_t *zeros, int64_t i) {
    return zeros ? (float)tp_code_value(p->out_type, zeros[i]) : p->zero;
}

/* Nibble i of packed codes, as a whole byte. */
static inline uint8_t tp_nibble(tp_dtype type, const uint8_t *packed, int64_t i) {
    const int32_t v = packed[i / 2] >> (i % 2 * 4) & 15;
    return (uint8_t)(type == TP_I4 ? (v ^ 8) - 8 : v);
}

/* Writes nibble i and leaves its neighbour as it is. */
static inline void tp_put_nibble(uint8_t *packed, int64_t i, uint8_t code) {
    const int shift = i % 2 * 4;
    packed[i / 2] = (uint8_t)((packed[i / 2] & 0xf0 >> shift) | (code & 15) << shift);
}

/*
 * The same where the neighbour may be written by another thread at this moment: with an odd out_stride, ranges of
 * columns meet within a byte in every other row.
 */
static inline void tp_put_shared_nibble(uint8_t *packed, int64_t i, uint8_t code) {
    _Atomic uint8_t *byte = (_Atomic uint8_t *)(packed + i / 2);
    const int shift = i % 2 * 4;
    uint8_t old = atomic_load_explicit(byte, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(byte, &old,
                                                  (uint8_t)((old & 0xf0 >> shift) | (code & 15) << shift),
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
}

/* The nibble behind an odd number of codes belongs to nobody and is zero. Called for the range with the last line. */
static inline void tp_end_nibbles(const tp_plan *p, int64_t end, void *codes) {
    if (p->four_bits && end == p->lines && p->code_count % 2) tp_put_nibble(codes, p->code_count, 0);
}

static inline uint8_t tp_code_at(const tp_plan *p, const void *codes, int64_t i) {
    return p->four_bits ? tp_nibble(p->out_type, codes, i) : ((const uint8_t *)codes)[i];
}

/* The totals of a line are canonical even when they are not numbers: which NaN comes out is the processor's choice. */
static inline tp_error tp_error_of(double sum_squared_error, double sum_squares, double max_error) {
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
