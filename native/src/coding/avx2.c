#include <immintrin.h>

#include "coding/scalar.h"

#define TP_VARIANT(name) tp_##name##__avx2
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8 };
typedef __m256i v;
typedef __m256i v_mask;

INLINE v v_set(uint32_t x) { return _mm256_set1_epi32((int)x); }
INLINE v v_load(const uint32_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE v v_load_bytes(const void *p) { return _mm256_loadu_si256(p); }
INLINE void v_store(uint32_t *p, v x) { _mm256_storeu_si256((__m256i *)p, x); }
INLINE v v_add(v x, v y) { return _mm256_add_epi32(x, y); }
INLINE v v_sub(v x, v y) { return _mm256_sub_epi32(x, y); }
INLINE v v_and(v x, v y) { return _mm256_and_si256(x, y); }
INLINE v v_product(v x, v y) { return _mm256_mullo_epi32(x, y); }
#define v_right(x, n) _mm256_srli_epi32(x, n)
INLINE v v_shift_right(v x, v n) { return _mm256_srlv_epi32(x, n); }
INLINE v v_shift_left(v x, v n) { return _mm256_sllv_epi32(x, n); }
INLINE v v_gather(const uint32_t *p, v i) { return _mm256_i32gather_epi32((const int *)p, i, 4); }
/* And what is behind, above. */
INLINE v v_gather16(const uint16_t *p, v i) { return _mm256_i32gather_epi32((const int *)(const void *)p, i, 2); }
/* Of u64, of which a vector has those of even lanes and another one those of odd lanes: their upper halves, and those of x times lower halves. */
INLINE v v_upper(v even, v odd) { return _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa); }
INLINE v v_quotient(v x, v even, v odd) { return v_upper(_mm256_mul_epu32(x, even), _mm256_mul_epu32(_mm256_srli_epi64(x, 32), odd)); }
/* Of y below 2^16, the lower 16 bits, and others above. */
INLINE v v_low_product(v x, v y) { return _mm256_mullo_epi16(x, y); }
/* As signed numbers. */
INLINE v_mask v_above(v x, v y) { return _mm256_cmpgt_epi32(x, y); }
INLINE v v_add_unless(v x, v_mask m, v y) { return _mm256_add_epi32(x, _mm256_andnot_si256(m, y)); }
INLINE v v_right_unless(v x, v_mask m) { return _mm256_srlv_epi32(x, _mm256_andnot_si256(m, v_set(16))); }
INLINE v v_least(v x, v y) { return _mm256_min_epu32(x, y); }
INLINE bool v_none(v x) { return _mm256_movemask_epi8(_mm256_cmpeq_epi32(x, _mm256_setzero_si256())) != 0; }

/* Bytes of sum, 1 more where x and y are the same. */
INLINE v v_count_bytes(v sum, v x, v y) { return _mm256_sub_epi8(sum, _mm256_cmpeq_epi8(x, y)); }
INLINE uint32_t v_sum_bytes(v x) {
    const v sums = _mm256_sad_epu8(x, _mm256_setzero_si256());
    const __m128i both = _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    return (uint32_t)(_mm_cvtsi128_si64(both) + _mm_extract_epi64(both, 1));
}
/* Whether all bytes are first .. first + width - 1. */
INLINE bool v_in_band(v x, int first, int width) {
    const v above = _mm256_subs_epu8(_mm256_sub_epi8(x, _mm256_set1_epi8((char)first)), _mm256_set1_epi8((char)(width - 1)));
    return _mm256_testz_si256(above, above);
}

INLINE void v_put_symbols(int32_t width, uint8_t *out, const v *s) {
    const v a = _mm256_packus_epi32(s[0], s[1]), b = _mm256_packus_epi32(s[2], s[3]);
    if (width == 1) {
        const v all = _mm256_packus_epi16(a, b);
        _mm256_storeu_si256((__m256i *)out, _mm256_permutevar8x32_epi32(all, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
    } else {
        _mm256_storeu_si256((__m256i *)out, _mm256_permute4x64_epi64(a, 0xd8));
        _mm256_storeu_si256((__m256i *)(out + 32), _mm256_permute4x64_epi64(b, 0xd8));
    }
}

/* For each mask of eight, bytes or lanes that something comes from. */
typedef struct v_tables {
    _Alignas(32) uint8_t from[256][32];
} v_tables;

/* Words of the mask take the first ones, others are 0. */
static void v_begin_take(v_tables *t) {
    for (uint32_t m = 0; m < 256; m++)
        for (uint32_t l = 0; l < 8; l++) {
            const uint32_t from = 2 * (uint32_t)__builtin_popcount(m & ((1u << l) - 1));
            t->from[m][2 * l] = m >> l & 1 ? (uint8_t)from : 128;
            t->from[m][2 * l + 1] = m >> l & 1 ? (uint8_t)(from + 1) : 128;
        }
}

/* States below 2^16 take the next words. */
INLINE const uint8_t *v_take(const v_tables *t, v *x, const uint8_t *p) {
    const v low = _mm256_cmpeq_epi32(_mm256_srli_epi32(*x, 16), _mm256_setzero_si256());
    const uint32_t m = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(low));
    const __m128i words = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)p), _mm_load_si128((const __m128i *)t->from[m]));
    *x = _mm256_or_si256(_mm256_sllv_epi32(*x, _mm256_and_si256(low, v_set(16))), _mm256_cvtepu16_epi32(words));
    return p + 2 * (size_t)(unsigned)__builtin_popcount(m);
}

/* The last lanes are those of the mask. */
static void v_begin_give(v_tables *t) {
    for (uint32_t m = 0; m < 256; m++) {
        uint32_t at = (uint32_t)__builtin_popcount(m);
        memset(t->from[m], 0, 32);
        for (uint32_t l = 0; l < 8; l++)
            if (!(m >> l & 1)) put32(t->from[m] + 4 * at++, l);
    }
}

/* Writes the lower halves of lanes of the mask, so that they end at p. */
INLINE uint8_t *v_give(const v_tables *t, v x, v_mask lanes, uint8_t *p) {
    const uint32_t m = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(lanes));
    const v last = _mm256_permutevar8x32_epi32(x, _mm256_load_si256((const __m256i *)t->from[m]));
    const v words = _mm256_shuffle_epi8(last, _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1,
                                                               0, 1, 4, 5, 8, 9, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1));
    _mm_storeu_si128((__m128i *)(p - 16), _mm256_castsi256_si128(_mm256_permute4x64_epi64(words, 0x08)));
    return p - 16 + 2 * (size_t)(unsigned)__builtin_popcount(m);
}

/* Bytes of the mask come first. */
static void v_begin_cut(v_tables *t) {
    for (uint32_t m = 0; m < 256; m++) {
        uint8_t from[8] = {0};
        int at = 0;
        for (uint8_t l = 0; l < 8; l++)
            if (m >> l & 1) from[at++] = l;
        memcpy(t->from[m], from, 8);
    }
}

INLINE int64_t v_cut(const v_tables *t, const uint8_t *in, uint8_t *mask, uint8_t *rest) {
    const __m128i x = _mm_loadl_epi64((const __m128i *)in);
    const uint32_t m = ~(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, _mm_setzero_si128())) & 255;
    *mask = (uint8_t)m;
    _mm_storel_epi64((__m128i *)rest, _mm_shuffle_epi8(x, _mm_loadl_epi64((const __m128i *)t->from[m])));
    return __builtin_popcount(m);
}

/* Bytes of the mask take the first ones, others 0. */
static void v_begin_put(v_tables *t) {
    for (uint32_t m = 0; m < 256; m++) {
        uint8_t from[8];
        for (uint32_t l = 0; l < 8; l++) from[l] = m >> l & 1 ? (uint8_t)__builtin_popcount(m & ((1u << l) - 1)) : 128;
        memcpy(t->from[m], from, 8);
    }
}

INLINE int64_t v_put(const v_tables *t, const uint8_t *mask, const uint8_t *rest, uint8_t *out) {
    const __m128i x = _mm_loadl_epi64((const __m128i *)rest);
    _mm_storel_epi64((__m128i *)out, _mm_shuffle_epi8(x, _mm_loadl_epi64((const __m128i *)t->from[*mask])));
    return __builtin_popcount(*mask);
}

#include "coding/vector.h"
