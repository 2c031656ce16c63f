/* AVX2, FMA, F16C: two registers hold the 16 lanes of vector.h. */
#include "core/convert.h"
#include "prune/kernels.h"
#include "prune/scalar.h"

#define TP_VARIANT(name) tp_##name##__avx2
#define INLINE static inline __attribute__((always_inline))

typedef struct vk { __m256i a, b; } vk; /* 16 keys */
typedef struct vm { __m256i a, b; } vm; /* and what is true of them: all bits of a lane, or none */

#define EACH(f, x, y) {f((x).a, (y).a), f((x).b, (y).b)}

/* Loads are from any address. */
INLINE vk vk_set(uint32_t x) { return (vk){_mm256_set1_epi32((int)x), _mm256_set1_epi32((int)x)}; }
INLINE vk vk_load(const void *p) {
    return (vk){_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)p + 1)};
}
INLINE vk vk_load_part(const void *p, int64_t n) {
    uint32_t words[16] = {0};
    memcpy(words, p, (size_t)n * 4);
    return vk_load(words);
}
INLINE vk vk_load_half(const void *p) {
    const __m256i x = _mm256_permute4x64_epi64(_mm256_loadu_si256((const __m256i *)p), 0xd8), zero = _mm256_setzero_si256();
    return (vk){_mm256_unpacklo_epi16(zero, x), _mm256_unpackhi_epi16(zero, x)};
}
INLINE vk vk_load_half_part(const void *p, int64_t n) {
    uint16_t halves[16] = {0};
    memcpy(halves, p, (size_t)n * 2);
    return vk_load_half(halves);
}
INLINE void vk_store(uint32_t *p, vk x) {
    _mm256_storeu_si256((__m256i *)p, x.a);
    _mm256_storeu_si256((__m256i *)p + 1, x.b);
}
INLINE vk vk_and(vk x, vk y) { return (vk)EACH(_mm256_and_si256, x, y); }
INLINE vk vk_or(vk x, vk y) { return (vk)EACH(_mm256_or_si256, x, y); }
INLINE vk vk_xor(vk x, vk y) { return (vk)EACH(_mm256_xor_si256, x, y); }
INLINE vk vk_add(vk x, vk y) { return (vk)EACH(_mm256_add_epi32, x, y); }
INLINE vk vk_max(vk x, vk y) { return (vk)EACH(_mm256_max_epu32, x, y); }
INLINE vk vk_left(vk x, int n) { return (vk){_mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n)}; }
INLINE vk vk_right(vk x, int n) { return (vk){_mm256_srli_epi32(x.a, n), _mm256_srli_epi32(x.b, n)}; }
INLINE vk vk_signs(vk x) { return (vk){_mm256_srai_epi32(x.a, 31), _mm256_srai_epi32(x.b, 31)}; }
INLINE vm vk_equal(vk x, vk y) { return (vm)EACH(_mm256_cmpeq_epi32, x, y); }
/* There is no unsigned comparison. */
INLINE __m256i at_least8(__m256i x, __m256i y) { return _mm256_cmpeq_epi32(_mm256_max_epu32(x, y), x); }
INLINE vm vk_at_least(vk x, vk y) { return (vm)EACH(at_least8, x, y); }
INLINE vk vk_clear(vk x, vm m) { return (vk)EACH(_mm256_andnot_si256, m, x); }
/* Counters, one up or down where the mask is set. */
INLINE vk vk_up(vk x, vm m) { return (vk)EACH(_mm256_sub_epi32, x, m); }
INLINE vk vk_down(vk x, vm m) { return (vk)EACH(_mm256_add_epi32, x, m); }
/* Lanes i, i ^ 1, and the lane `by` further on in each four. */
#define SHUFFLE(x, order) {_mm256_shuffle_epi32((x).a, order), _mm256_shuffle_epi32((x).b, order)}
INLINE vk vk_swap2(vk x) { return (vk)SHUFFLE(x, 0xb1); }
INLINE vk vk_turn4_1(vk x) { return (vk)SHUFFLE(x, 0x39); }
INLINE vk vk_turn4_2(vk x) { return (vk)SHUFFLE(x, 0x4e); }
INLINE vk vk_turn4_3(vk x) { return (vk)SHUFFLE(x, 0x93); }
INLINE vk vk_every4(int a, int b, int c, int d) {
    const __m256i x = _mm256_setr_epi32(a, b, c, d, a, b, c, d);
    return (vk){x, x};
}

INLINE __m256i first8(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE vm vm_first(int64_t n) { return n >= 16 ? (vm){first8(8), first8(8)} : (vm){first8(n), first8(n - 8)}; }
INLINE vm vm_and(vm x, vm y) { return (vm)EACH(_mm256_and_si256, x, y); }
INLINE vm vm_or(vm x, vm y) { return (vm)EACH(_mm256_or_si256, x, y); }
INLINE vm vm_not(vm x) {
    const __m256i all = _mm256_set1_epi32(-1);
    return (vm){_mm256_xor_si256(x.a, all), _mm256_xor_si256(x.b, all)};
}
INLINE bool vm_any(vm x) {
    const __m256i any = _mm256_or_si256(x.a, x.b);
    return !_mm256_testz_si256(any, any);
}
INLINE uint32_t bits8(__m256i x) { return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(x)); }
INLINE uint32_t vm_bits(vm x) { return bits8(x.a) | bits8(x.b) << 8; }
INLINE uint32_t join2(vm x, vm y) {
    const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(x.a, x.b), _mm256_packs_epi32(y.a, y.b));
    return (uint32_t)_mm256_movemask_epi8(_mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
}
INLINE uint64_t vm_join(vm a, vm b, vm c, vm d) { return (uint64_t)join2(c, d) << 32 | join2(a, b); }

/* For each mask of eight lanes the indices of those that are set, one in each byte from the lowest up. */
#define BIT(m, i) ((m) >> (i) & 1)
#define BELOW(m, i) (BIT((m) & ((1 << (i)) - 1), 0) + BIT((m) & ((1 << (i)) - 1), 1) + BIT((m) & ((1 << (i)) - 1), 2) + \
                     BIT((m) & ((1 << (i)) - 1), 3) + BIT((m) & ((1 << (i)) - 1), 4) + BIT((m) & ((1 << (i)) - 1), 5) + \
                     BIT((m) & ((1 << (i)) - 1), 6))
#define INDEX(m, i) ((uint64_t)(BIT(m, i) * (i)) << 8 * BELOW(m, i))
#define INDICES(m) (INDEX(m, 1) | INDEX(m, 2) | INDEX(m, 3) | INDEX(m, 4) | INDEX(m, 5) | INDEX(m, 6) | INDEX(m, 7))
#define INDICES4(m) INDICES(m), INDICES(m + 1), INDICES(m + 2), INDICES(m + 3)
#define INDICES16(m) INDICES4(m), INDICES4(m + 4), INDICES4(m + 8), INDICES4(m + 12)
#define INDICES64(m) INDICES16(m), INDICES16(m + 16), INDICES16(m + 32), INDICES16(m + 48)
static const uint64_t indices_of[256] = {INDICES64(0), INDICES64(64), INDICES64(128), INDICES64(192)};

INLINE int64_t keep8(uint32_t *to, __m256i x, uint32_t bits) {
    const __m128i bytes = _mm_loadl_epi64((const __m128i *)&indices_of[bits]);
    _mm256_storeu_si256((__m256i *)to, _mm256_permutevar8x32_epi32(x, _mm256_cvtepu8_epi32(bytes)));
    return __builtin_popcount(bits);
}

/* The lanes of the mask one after the other, then garbage up to 16; returns how many. */
INLINE int64_t vk_keep(uint32_t *to, vk x, vm m) {
    const int64_t n = keep8(to, x.a, bits8(m.a));
    return n + keep8(to + n, x.b, bits8(m.b));
}

/* Lane c of eight rows r goes to to[c * stride + r]. */
INLINE void transpose8(const __m256i r[8], uint32_t *to, int64_t stride) {
    __m256i a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        a[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        b[i] = _mm256_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm256_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm256_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm256_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    for (int j = 0; j < 4; j++) {
        _mm256_storeu_si256((__m256i *)(to + j * stride), _mm256_permute2x128_si256(b[j], b[4 + j], 0x20));
        _mm256_storeu_si256((__m256i *)(to + (4 + j) * stride), _mm256_permute2x128_si256(b[j], b[4 + j], 0x31));
    }
}

/* Lane c of row r goes to to[c * stride + r]. */
INLINE void vk_transpose(const vk r[16], uint32_t *to, int64_t stride) {
    for (int half = 0; half < 16; half += 8) {
        __m256i a[8], b[8];
        for (int i = 0; i < 8; i++) a[i] = r[half + i].a, b[i] = r[half + i].b;
        transpose8(a, to + half, stride);
        transpose8(b, to + 8 * stride + half, stride);
    }
}

/* 64 bytes: elements where the mask is set, else 0. */
INLINE void copy_words(char *to, const char *from, uint64_t bits) {
    const __m256i lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    for (int i = 0; i < 2; i++) {
        const __m256i set = _mm256_and_si256(_mm256_set1_epi32((int)(bits >> 8 * i)), lanes);
        const __m256i x = _mm256_loadu_si256((const __m256i *)from + i);
        _mm256_storeu_si256((__m256i *)to + i, _mm256_and_si256(x, _mm256_cmpeq_epi32(set, lanes)));
    }
}
INLINE void copy_halves(char *to, const char *from, uint64_t bits) {
    const __m256i lanes = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, -32768);
    for (int i = 0; i < 2; i++) {
        const __m256i set = _mm256_and_si256(_mm256_set1_epi16((short)(bits >> 16 * i)), lanes);
        const __m256i x = _mm256_loadu_si256((const __m256i *)from + i);
        _mm256_storeu_si256((__m256i *)to + i, _mm256_and_si256(x, _mm256_cmpeq_epi16(set, lanes)));
    }
}

#include "prune/vector.h"
