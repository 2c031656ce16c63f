/* One element at a time, in portable C: what ref.c is made of, what the other tiers use for odd ends, and what kernels on CUDA devices call. */
#ifndef TP_QUANTIZE_SCALAR_H
#define TP_QUANTIZE_SCALAR_H

#include <float.h>

#include "core/scalar.h"
#include "quantize/plan.h"

/* To the nearest integer, ties to even, for |x| < 2^22: the sum has no room for a fraction. */
TP_SCALAR float tp_round(float x) { return x + 12582912.0f - 12582912.0f; }

TP_SCALAR float tp_clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

/* The power of two that is not below a positive x, or infinity. */
TP_SCALAR float tp_power_of_two(float x) { return tp_float((tp_bits(x) + 0x7fffffu) & TP_INF_BITS); }

/*
 * Scale and zero point of a group, its range [min, max] multiplied by ratio. The scale is infinite if scale_type
 * cannot hold it.
 */
TP_SCALAR void tp_scale(const tp_plan *p, float min, float max, float ratio, float *scale, float *zero) {
    min = min < 0 ? min : 0;
    max = max > 0 ? max : 0;
    const float amax = -min > max ? -min : max;
    float s = p->range == TP_RANGE_MINMAX ? max * ratio / p->divisor - min * ratio / p->divisor
                                          : amax * ratio / p->divisor;
    s = s < FLT_MIN ? FLT_MIN : s;
    s = p->power_of_two ? tp_power_of_two(s) : s;
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
TP_SCALAR float tp_ratio(const tp_plan *p, int i) {
    if (p->power_of_two) return tp_float((uint32_t)(127 - i) << 23);
    return p->clip_steps ? 1.0f - (float)i * (1.0f - p->clip_min) / (float)(p->clip_steps - 1) : 1.0f;
}

/* A zero point as it is stored: codes are kept modulo 256. */
TP_SCALAR uint8_t tp_zero_byte(float zero) { return (uint8_t)(int32_t)zero; }

/* The value of a code or zero point stored in one byte. */
TP_SCALAR int32_t tp_code_value(tp_dtype type, uint8_t byte) {
    return type == TP_I8 || type == TP_I4 ? (int8_t)byte : byte;
}

TP_SCALAR float tp_zero_at(const tp_plan *p, const uint8_t *zeros, int64_t i) {
    return zeros ? (float)tp_code_value(p->out_type, zeros[i]) : p->zero;
}

/* Whether a scale and zero point that are given can be used. */
TP_SCALAR bool tp_valid_scale(const tp_plan *p, float scale, float zero) {
    return scale > 0 && tp_is_finite(scale) && zero >= p->qmin && zero <= p->qmax;
}

/* Nibble i of packed codes, as a whole byte. */
TP_SCALAR uint8_t tp_nibble(tp_dtype type, const uint8_t *packed, int64_t i) {
    const int32_t v = packed[i / 2] >> (i % 2 * 4) & 15;
    return (uint8_t)(type == TP_I4 ? (v ^ 8) - 8 : v);
}

/* Writes nibble i and leaves its neighbour as it is. */
TP_SCALAR void tp_put_nibble(uint8_t *packed, int64_t i, uint8_t code) {
    const int shift = i % 2 * 4;
    packed[i / 2] = (uint8_t)((packed[i / 2] & 0xf0 >> shift) | (code & 15) << shift);
}

/* The nibble behind an odd number of codes belongs to nobody and is zero. Called for the range with the last line. */
TP_SCALAR void tp_end_nibbles(const tp_plan *p, int64_t end, void *codes) {
    if (p->four_bits && end == p->lines && p->code_count % 2) tp_put_nibble((uint8_t *)codes, p->code_count, 0);
}

TP_SCALAR uint8_t tp_code_at(const tp_plan *p, const void *codes, int64_t i) {
    const uint8_t *bytes = (const uint8_t *)codes;
    return p->four_bits ? tp_nibble(p->out_type, bytes, i) : bytes[i];
}

#endif
