/* Part of vector.h: 64 values to codes. */

/*
 * A code is the upper half of the fixed-point number  u = rint(x * (2^16 / s) + (z + bias + 1/2) * 2^16 + 4),  the
 * multiplication and addition rounded once; bias makes codes of signed types unsigned. That is round(t) + z + bias,
 * where t is what encode_exactly() computes, unless t is nearly a tie. Take |t| < 256, beyond which codes are clamped with
 * certainty. Then u is below 2^24, where floats are spaced by 1 at most, so the two roundings add up to less than 1.
 * x * (2^16 / s) and t * 2^16 each have a relative error of 2^-24 (or none) against the quotient, so they differ by
 * less than 2^8 * 2^-23 * 2^16 = 2. Hence u - 4 is within 3 of the true number; if the lower half of u is 8 or more,
 * both have the same upper half, and t is no tie. Else, once in 8000 times, the 64 codes are computed exactly.
 * Infinities, NaN and numbers that do not fit become INT32_MIN, whose lower half is 0, and so are sent there as well.
 */
typedef struct coder {
    vf factor, offset;
} coder;

typedef struct encoder {
    const tp_plan *plan;
    vb low, high, bias;
} encoder;

INLINE float bias_of(const tp_plan *p) { return is_signed(p) ? 128 : 0; }

INLINE encoder encoder_of(const tp_plan *p) {
    const float bias = bias_of(p);
    return (encoder){p, vb_set((uint8_t)(p->qmin + bias)), vb_set((uint8_t)(p->qmax + bias)), vb_set((uint8_t)bias)};
}

INLINE coder coder_of(const tp_plan *p, vf scale, vf zero) {
    /* The inverse times 2^16 is exact, or infinite; of a scale whose inverse is denormal, it is not 2^16 / s. */
    const vf unit = vf_set(0x1p16f);
    return (coder){p->divide ? vf_div(unit, scale) : vf_mul(vf_div(vf_set(1), scale), unit),
                   vf_add(vf_mul(vf_add(zero, vf_set(bias_of(p) + 0.5f)), unit), vf_set(4))};
}

/* False if the codes must be computed exactly. */
INLINE bool encode64(const encoder *e, vf x0, vf x1, vf x2, vf x3, const coder *k0, const coder *k1, const coder *k2,
                     const coder *k3, vb *codes) {
    const vi a = vi_of(vf_fma(x0, k0->factor, k0->offset)), b = vi_of(vf_fma(x1, k1->factor, k1->offset));
    const vi c = vi_of(vf_fma(x2, k2->factor, k2->offset)), d = vi_of(vf_fma(x3, k3->factor, k3->offset));
    *codes = vb_xor(vb_clamp(vb_of_upper_halves(a, b, c, d), e->low, e->high), e->bias);
    return __builtin_expect(!any_low_half_below_8(a, b, c, d), true);
}

/* 64 values with scale and zero point of each. */
typedef struct exact {
    float x[64], scale[64], zero[64];
} exact;

static __attribute__((noinline, cold)) void encode_exactly(const tp_plan *p, const exact *v, uint8_t *codes) {
    for (int i = 0; i < 64; i += 16) {
        const vf x = vf_load(v->x + i), scale = vf_load(v->scale + i), zero = vf_load(v->zero + i);
        const vf t = vf_nan_to_zero(p->divide ? vf_div(x, scale) : vf_mul(x, vf_div(vf_set(1), scale)));
        const vf low = vf_sub(vf_set(p->qmin), zero), high = vf_sub(vf_set(p->qmax), zero);
        vi_store_bytes(codes + i, vi_add(vi_of(vf_min(vf_max(t, low), high)), vi_of(zero)));
    }
}
