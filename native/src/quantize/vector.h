/*
 * The quantize kernels for vector tiers. A tier's file defines 16 lanes of f32 (vf), i32 (vi) and f64 (vd), the few
 * operations on them that are used here, INLINE and TP_VARIANT, and then includes this file. Every tier thus does the
 * same operations on the same lanes, and results differ from ref.c in nothing.
 *
 * What follows the few things of use to all is in parts, one for each job, which only this file includes.
 */

/* Distance of software prefetches: the hardware's stop at page boundaries, and do not see the next row of a panel. */
enum { AHEAD_BYTES = 1024, AHEAD_ROWS = 24 };

/* Groups of a row that are taken together, and rows of a panel. */
enum { BATCH = 16, TILE = 64 };

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Addresses past the end are harmless: a prefetch reads nothing that the program could notice. */
INLINE void prefetch(const void *p, int64_t bytes) {
    _mm_prefetch((const char *)((uintptr_t)p + (uintptr_t)bytes), _MM_HINT_T0);
}

/* To L2, for what would push current data out of L1, or would be pushed out itself: rows of a panel share few sets. */
INLINE void prefetch_far(const void *p, int64_t bytes) {
    _mm_prefetch((const char *)((uintptr_t)p + (uintptr_t)bytes), _MM_HINT_T1);
}

INLINE const void *at(const void *p, tp_dtype type, int64_t i) { return (const char *)p + i * tp_size_of(type); }

INLINE vf load(tp_dtype type, const void *p) {
    return type == TP_F32 ? vf_load(p) : type == TP_F16 ? vf_load_f16(p) : vf_load_bf16(p);
}

/* The first n elements, and zeros. */
INLINE vf load_part(tp_dtype type, const void *p, int64_t n) {
    if (n >= 16) return load(type, p);
    if (n <= 0) return vf_set(0);
    return type == TP_F32 ? vf_load_part(p, n) : type == TP_F16 ? vf_load_f16_part(p, n) : vf_load_bf16_part(p, n);
}

static bool is_signed(const tp_plan *p) { return p->out_type == TP_I8 || p->out_type == TP_I4; }

/* Calls f with type as a constant, so that a loop is compiled once per type. */
#define FOR_TYPE(type, f, ...)                                                                                        \
    do {                                                                                                              \
        if ((type) == TP_F32)                                                                                         \
            f(TP_F32, __VA_ARGS__);                                                                                   \
        else if ((type) == TP_F16)                                                                                    \
            f(TP_F16, __VA_ARGS__);                                                                                   \
        else                                                                                                          \
            f(TP_BF16, __VA_ARGS__);                                                                                  \
    } while (0)

#include "quantize/packed.h"
#include "quantize/scales.h"
#include "quantize/encode.h"
#include "quantize/rows.h"
#include "quantize/columns.h"
#include "quantize/whole.h"
#include "quantize/decode.h"
#include "quantize/elements.h"

tp_status TP_VARIANT(quantize)(const tp_plan *p, int64_t begin, int64_t end, const void *in, void *codes,
                               float *scales, uint8_t *zeros, void *scratch) {
    tp_status status;
    if (!p->by_column)
        status = quantize_rows(p, begin, end, in, codes, scales, zeros);
    else if (has_whole_columns(p))
        status = quantize_whole_columns(p, begin, end, in, codes, scales, zeros);
    else
        status = quantize_columns(p, begin, end, in, codes, scales, zeros, scratch);
    _mm_sfence();
    tp_end_nibbles(p, end, codes);
    return status;
}
