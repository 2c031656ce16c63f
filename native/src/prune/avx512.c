/* AVX-512 F, BW, DQ, VL: one register holds the 16 lanes of vector.h. */
#include "core/convert.h"
#include "prune/kernels.h"
#include "prune/scalar.h"

#define TP_VARIANT(name) tp_##name##__avx512
#define INLINE static inline __attribute__((always_inline))

typedef __m512i vk;   /* 16 keys */
typedef __mmask16 vm; /* and what is true of them */

/* Loads are from any address. */
INLINE vk vk_set(uint32_t x) { return _mm512_set1_epi32((int)x); }
INLINE vk vk_load(const void *p) { return _mm512_loadu_si512(p); }
INLINE vk vk_load_part(const void *p, int64_t n) { return _mm512_maskz_loadu_epi32((__mmask16)((1u << n) - 1), p); }
INLINE vk upper_halves(__m256i x) { return _mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16); }
INLINE vk vk_load_half(const void *p) { return upper_halves(_mm256_loadu_si256((const __m256i *)p)); }
INLINE vk vk_load_half_part(const void *p, int64_t n) {
    return upper_halves(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p));
}
INLINE void vk_store(uint32_t *p, vk x) { _mm512_storeu_si512(p, x); }
INLINE vk vk_and(vk x, vk y) { return _mm512_and_si512(x, y); }
INLINE vk vk_or(vk x, vk y) { return _mm512_or_si512(x, y); }
INLINE vk vk_xor(vk x, vk y) { return _mm512_xor_si512(x, y); }
INLINE vk vk_add(vk x, vk y) { return _mm512_add_epi32(x, y); }
INLINE vk vk_max(vk x, vk y) { return _mm512_max_epu32(x, y); }
INLINE vk vk_left(vk x, int n) { return _mm512_slli_epi32(x, (unsigned)n); }
INLINE vk vk_right(vk x, int n) { return _mm512_srli_epi32(x, (unsigned)n); }
INLINE vk vk_signs(vk x) { return _mm512_srai_epi32(x, 31); }
INLINE vm vk_equal(vk x, vk y) { return _mm512_cmpeq_epi32_mask(x, y); }
INLINE vm vk_at_least(vk x, vk y) { return _mm512_cmpge_epu32_mask(x, y); }
INLINE vk vk_clear(vk x, vm m) { return _mm512_mask_mov_epi32(x, m, _mm512_setzero_si512()); }
/* Counters, one up or down where the mask is set. */
INLINE vk vk_up(vk x, vm m) { return _mm512_mask_add_epi32(x, m, x, _mm512_set1_epi32(1)); }
INLINE vk vk_down(vk x, vm m) { return _mm512_mask_sub_epi32(x, m, x, _mm512_set1_epi32(1)); }
/* Lanes i, i ^ 1, and the lane `by` further on in each four. */
INLINE vk vk_swap2(vk x) { return _mm512_shuffle_epi32(x, 0xb1); }
INLINE vk vk_turn4_1(vk x) { return _mm512_shuffle_epi32(x, 0x39); }
INLINE vk vk_turn4_2(vk x) { return _mm512_shuffle_epi32(x, 0x4e); }
INLINE vk vk_turn4_3(vk x) { return _mm512_shuffle_epi32(x, 0x93); }
INLINE vk vk_every4(int a, int b, int c, int d) { return _mm512_set4_epi32(d, c, b, a); }

INLINE vm vm_first(int64_t n) { return (vm)(n >= 16 ? 0xffff : (1u << n) - 1); }
INLINE vm vm_and(vm x, vm y) { return x & y; }
INLINE vm vm_or(vm x, vm y) { return x | y; }
INLINE vm vm_not(vm x) { return (vm)~x; }
INLINE bool vm_any(vm x) { return x != 0; }
INLINE uint32_t vm_bits(vm x) { return x; }
INLINE uint64_t vm_join(vm a, vm b, vm c, vm d) {
    return _cvtmask64_u64(_mm512_kunpackd(_mm512_kunpackw(d, c), _mm512_kunpackw(b, a)));
}

/* The lanes of the mask one after the other, then garbage up to 16; returns how many. */
INLINE int64_t vk_keep(uint32_t *to, vk x, vm m) {
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(m, x)); /* compressing to memory is slow on some processors */
    return __builtin_popcount(m);
}

/* Lane c of row r goes to to[c * stride + r]. */
INLINE void vk_transpose(const vk r[16], uint32_t *to, int64_t stride) {
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    /* b[4 * i + j] has column j of each 128-bit lane, rows 4 * i .. 4 * i + 3. */
    for (int j = 0; j < 4; j++) {
        const __m512i even = _mm512_shuffle_i32x4(b[j], b[4 + j], 0x88), odd = _mm512_shuffle_i32x4(b[j], b[4 + j], 0xdd);
        const __m512i even2 = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0x88), odd2 = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0xdd);
        vk_store(to + j * stride, _mm512_shuffle_i32x4(even, even2, 0x88));
        vk_store(to + (8 + j) * stride, _mm512_shuffle_i32x4(even, even2, 0xdd));
        vk_store(to + (4 + j) * stride, _mm512_shuffle_i32x4(odd, odd2, 0x88));
        vk_store(to + (12 + j) * stride, _mm512_shuffle_i32x4(odd, odd2, 0xdd));
    }
}

/* 64 bytes: elements where the mask is set, else 0. */
INLINE void copy_words(char *to, const char *from, uint64_t bits) {
    _mm512_storeu_si512(to, _mm512_maskz_loadu_epi32((__mmask16)bits, from));
}
INLINE void copy_halves(char *to, const char *from, uint64_t bits) {
    _mm512_storeu_si512(to, _mm512_maskz_loadu_epi16((__mmask32)bits, from));
}

#include "prune/vector.h"
