#include <immintrin.h>

#include "coding/scalar.h"

#define TP_VARIANT(name) tp_##name##__avx512
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16 };
typedef __m512i v;
typedef __mmask16 v_mask;

INLINE v v_set(uint32_t x) { return _mm512_set1_epi32((int)x); }
INLINE v v_load(const uint32_t *p) { return _mm512_loadu_si512(p); }
INLINE v v_load_bytes(const void *p) { return _mm512_loadu_si512(p); }
INLINE void v_store(uint32_t *p, v x) { _mm512_storeu_si512(p, x); }
INLINE v v_add(v x, v y) { return _mm512_add_epi32(x, y); }
INLINE v v_sub(v x, v y) { return _mm512_sub_epi32(x, y); }
INLINE v v_and(v x, v y) { return _mm512_and_si512(x, y); }
INLINE v v_product(v x, v y) { return _mm512_mullo_epi32(x, y); }
#define v_right(x, n) _mm512_srli_epi32(x, n)
INLINE v v_shift_right(v x, v n) { return _mm512_srlv_epi32(x, n); }
INLINE v v_shift_left(v x, v n) { return _mm512_sllv_epi32(x, n); }
INLINE v v_gather(const uint32_t *p, v i) { return _mm512_i32gather_epi32(i, p, 4); }
/* And what is behind, above. */
INLINE v v_gather16(const uint16_t *p, v i) { return _mm512_i32gather_epi32(i, p, 2); }
/* Of u64, of which a vector has those of even lanes and another one those of odd lanes: their upper halves, and those of x times lower halves. */
INLINE v v_upper(v even, v odd) { return _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd); }
INLINE v v_quotient(v x, v even, v odd) { return v_upper(_mm512_mul_epu32(x, even), _mm512_mul_epu32(_mm512_srli_epi64(x, 32), odd)); }
/* Of y below 2^16, the lower 16 bits, and others above. */
INLINE v v_low_product(v x, v y) { return _mm512_mullo_epi16(x, y); }
/* As signed numbers. */
INLINE v_mask v_above(v x, v y) { return _mm512_cmpgt_epi32_mask(x, y); }
INLINE v v_add_unless(v x, v_mask m, v y) { return _mm512_mask_add_epi32(x, (v_mask)~m, x, y); }
INLINE v v_right_unless(v x, v_mask m) { return _mm512_mask_srli_epi32(x, (v_mask)~m, x, 16); }
INLINE v v_least(v x, v y) { return _mm512_min_epu32(x, y); }
INLINE bool v_none(v x) { return _mm512_testn_epi32_mask(x, x) != 0; }

/* Bytes of sum, 1 more where x and y are the same. */
INLINE v v_count_bytes(v sum, v x, v y) { return _mm512_mask_add_epi8(sum, _mm512_cmpeq_epi8_mask(x, y), sum, _mm512_set1_epi8(1)); }
INLINE uint32_t v_sum_bytes(v x) { return (uint32_t)_mm512_reduce_add_epi64(_mm512_sad_epu8(x, _mm512_setzero_si512())); }
/* Whether all bytes are first .. first + width - 1. */
INLINE bool v_in_band(v x, int first, int width) {
    return !_mm512_cmpge_epu8_mask(_mm512_sub_epi8(x, _mm512_set1_epi8((char)first)), _mm512_set1_epi8((char)width));
}

INLINE void v_put_symbols(int32_t width, uint8_t *out, const v *s) {
    for (int j = 0; j < 2; j++) {
        if (width == 1) _mm_storeu_si128((__m128i *)(out + 16 * j), _mm512_cvtepi32_epi8(s[j]));
        else _mm256_storeu_si256((__m256i *)(out + 32 * j), _mm512_cvtepi32_epi16(s[j]));
    }
}

/* None: this tier compresses and expands by masks. */
typedef int v_tables;
static void v_begin_take(v_tables *t) { *t = 0; }
static void v_begin_give(v_tables *t) { *t = 0; }
static void v_begin_cut(v_tables *t) { *t = 0; }
static void v_begin_put(v_tables *t) { *t = 0; }

/* States below 2^16 take the next words. */
INLINE const uint8_t *v_take(const v_tables *t, v *x, const uint8_t *p) {
    (void)t;
    const v_mask low = _mm512_cmplt_epu32_mask(*x, _mm512_set1_epi32(1 << 16));
    const v words = _mm512_maskz_expand_epi32(low, _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)));
    *x = _mm512_or_si512(_mm512_mask_slli_epi32(*x, low, *x, 16), words);
    return p + 2 * (size_t)(unsigned)__builtin_popcount(low);
}

/* Writes the lower halves of lanes of the mask, so that they end at p. */
INLINE uint8_t *v_give(const v_tables *t, v x, v_mask lanes, uint8_t *p) {
    (void)t;
    lanes = (v_mask)~lanes;
    const int count = __builtin_popcount(lanes);
    p -= 2 * count;
    _mm256_mask_storeu_epi16(p, (__mmask16)((1u << count) - 1), _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(lanes, x)));
    return p;
}

INLINE int64_t v_cut(const v_tables *t, const uint8_t *in, uint8_t *mask, uint8_t *rest) {
    (void)t;
    const __m128i x = _mm_loadu_si128((const __m128i *)in);
    const __mmask16 m = _mm_test_epi8_mask(x, x);
    put16(mask, m);
    _mm_storeu_si128((__m128i *)rest, _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(m, _mm512_cvtepu8_epi32(x))));
    return __builtin_popcount(m);
}

INLINE int64_t v_put(const v_tables *t, const uint8_t *mask, const uint8_t *rest, uint8_t *out) {
    (void)t;
    const __mmask16 m = get16(mask);
    const v x = _mm512_maskz_expand_epi32(m, _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)rest)));
    _mm_storeu_si128((__m128i *)out, _mm512_cvtepi32_epi8(x));
    return __builtin_popcount(m);
}

#include "coding/vector.h"
