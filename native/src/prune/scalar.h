/* One element at a time, in portable C: what ref.c is made of, and what the other tiers and CUDA use where it fits. */
#ifndef TP_PRUNE_SCALAR_H
#define TP_PRUNE_SCALAR_H

#include "core/scalar.h"
#include "tensorpress/prune.h"

enum { TP_SIGN_SHIFT = 31 };

/* The bits of element i, moved to the top. */
TP_SCALAR uint32_t tp_score_bits(tp_dtype type, const void *in, int64_t i) {
    uint32_t bits;
    uint16_t half;
    if (type == TP_F32) {
        memcpy(&bits, (const char *)in + 4 * i, sizeof bits);
        return bits;
    }
    memcpy(&half, (const char *)in + 2 * i, sizeof half);
    return (uint32_t)half << 16;
}

/* Keys larger than this, in TP_ORDER_MAGNITUDE, are those of NaN. */
TP_SCALAR uint32_t tp_infinity_key(tp_dtype type) { return type == TP_F16 ? 0xf8000000 : 0xff000000; }

TP_SCALAR bool tp_bits_are_nan(tp_dtype type, uint32_t bits) { return bits << 1 > tp_infinity_key(type); }

TP_SCALAR uint32_t tp_key_of_bits(tp_dtype type, int32_t order, uint32_t bits) {
    const uint32_t sign = UINT32_C(1) << TP_SIGN_SHIFT, used = type == TP_F32 ? UINT32_MAX : 0xffff0000;
    if (order == TP_ORDER_MAGNITUDE) return bits << 1;
    if (bits == sign) bits = 0;
    return bits & sign ? ~bits & used : bits | sign;
}

/* The lowest bit of a digit of the key. */
TP_SCALAR int tp_digit_shift(int32_t digit) { return digit == 0 ? 21 : digit == 1 ? 10 : 0; }

TP_SCALAR int64_t tp_mask_stride(int64_t cols) { return (cols + 7) / 8; }

TP_SCALAR bool tp_bit(const uint8_t *mask, int64_t i) { return mask[i / 8] >> i % 8 & 1; }
TP_SCALAR void tp_set_bit(uint8_t *mask, int64_t i) { mask[i / 8] = (uint8_t)(mask[i / 8] | 1 << i % 8); }

/* Groups of `size` in n, the last one of which may be smaller. */
TP_SCALAR int64_t tp_groups(int64_t n, int64_t size) { return n / size + (n % size != 0); }

#endif
