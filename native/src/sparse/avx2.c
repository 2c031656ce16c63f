/* AVX2: eight elements at a time, moved by permutations from tables. */
#include <immintrin.h>

#include "sparse/kernels.h"

#define TP_VARIANT(name) tp_##name##__avx2
#define INLINE static inline __attribute__((always_inline))

enum { AHEAD = 4096 };

/*
 * For each byte of a mask eight bytes. `chosen`: the positions of the bits that are set, in order, then 0. `ranks`: for
 * each position the number of bits set below it, or 0x80 where the bit is clear.
 */
#define RANK(m, i) ((uint64_t)__builtin_popcount((m) & ((1 << (i)) - 1)))
#define CHOOSE(m, i) ((uint64_t)((m) >> (i) & 1) * (i) << 8 * RANK(m, i))
#define PLACE(m, i) (((m) >> (i) & 1 ? RANK(m, i) : UINT64_C(0x80)) << 8 * (i))
#define CHOSEN(m)                                                                                                     \
    (CHOOSE(m, 1) | CHOOSE(m, 2) | CHOOSE(m, 3) | CHOOSE(m, 4) | CHOOSE(m, 5) | CHOOSE(m, 6) | CHOOSE(m, 7))
#define RANKS(m)                                                                                                      \
    (PLACE(m, 0) | PLACE(m, 1) | PLACE(m, 2) | PLACE(m, 3) | PLACE(m, 4) | PLACE(m, 5) | PLACE(m, 6) | PLACE(m, 7))
#define TIMES_4(X, m) X(m), X((m) + 1), X((m) + 2), X((m) + 3)
#define TIMES_16(X, m) TIMES_4(X, m), TIMES_4(X, (m) + 4), TIMES_4(X, (m) + 8), TIMES_4(X, (m) + 12)
#define TIMES_64(X, m) TIMES_16(X, m), TIMES_16(X, (m) + 16), TIMES_16(X, (m) + 32), TIMES_16(X, (m) + 48)
#define TIMES_256(X) TIMES_64(X, 0), TIMES_64(X, 64), TIMES_64(X, 128), TIMES_64(X, 192)
static const uint64_t chosen[256] = {TIMES_256(CHOSEN)}, ranks[256] = {TIMES_256(RANKS)};

INLINE __m256i load(const char *p) { return _mm256_loadu_si256((const __m256i *)p); }
/* All bits of the elements that are zero. */
INLINE __m256i zeros(const char *p, const int size) {
    const __m256i zero = _mm256_setzero_si256();
    return size == 1   ? _mm256_cmpeq_epi8(load(p), zero)
           : size == 2 ? _mm256_cmpeq_epi16(load(p), zero)
                       : _mm256_cmpeq_epi32(load(p), zero);
}

/* The bits of 32 elements that are zero. */
INLINE uint32_t zeros_32(const char *p, const int size) {
    __m256i x = zeros(p, size);
    if (size == 2)
        x = _mm256_permute4x64_epi64(_mm256_packs_epi16(x, zeros(p + 32, 2)), 0xd8);
    if (size == 4) {
        const __m256i low = _mm256_packs_epi32(x, zeros(p + 32, 4));
        const __m256i high = _mm256_packs_epi32(zeros(p + 64, 4), zeros(p + 96, 4));
        x = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    }
    return (uint32_t)_mm256_movemask_epi8(x);
}

INLINE uint64_t mask_64(const char *p, const int size) {
    return ~((uint64_t)zeros_32(p + 32 * size, size) << 32 | zeros_32(p, size));
}

INLINE int part(uint64_t m, int i) { return (int)(m >> 8 * i & 0xff); }
INLINE __m128i table(const uint64_t *bytes, int m) { return _mm_loadl_epi64((const __m128i *)(bytes + m)); }
/* Positions of 16-bit elements as those of their bytes; negative ones stay negative. */
INLINE __m128i pairs(__m128i x) {
    const __m128i twice = _mm_adds_epi8(x, x);
    return _mm_unpacklo_epi8(twice, _mm_add_epi8(twice, _mm_set1_epi8(1)));
}

/* Eight elements of `from` in the order of a table; 0 where it is negative, if there are `gaps`. */
INLINE void permute_8(const char *from, const int size, __m128i order, const bool gaps, char *to) {
    if (size == 1) {
        _mm_storel_epi64((__m128i *)to, _mm_shuffle_epi8(_mm_loadl_epi64((const __m128i *)from), order));
    } else if (size == 2) {
        _mm_storeu_si128((__m128i *)to, _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)from), pairs(order)));
    } else {
        const __m256i wide = _mm256_cvtepi8_epi32(order), x = _mm256_permutevar8x32_epi32(load(from), wide);
        _mm256_storeu_si256((__m256i *)to, gaps ? _mm256_andnot_si256(_mm256_srai_epi32(wide, 31), x) : x);
    }
}

INLINE void compress_64(const char *p, const int size, uint64_t m, char *to, uint16_t base, uint16_t *positions) {
    for (int i = 0; i < 8; i++) {
        const __m128i order = table(chosen, part(m, i));
        const int count = __builtin_popcount((unsigned)part(m, i));
        permute_8(p + 8 * i * size, size, order, false, to);
        to += count * size;
        if (!positions) continue;
        const __m128i all = _mm_add_epi16(_mm_cvtepu8_epi16(order), _mm_set1_epi16((short)(base + 8 * i)));
        _mm_storeu_si128((__m128i *)positions, all);
        positions += count;
    }
}

INLINE void expand_64(const char *from, const int size, uint64_t m, char *to) {
    for (int i = 0; i < 8; i++) {
        permute_8(from, size, table(ranks, part(m, i)), true, to + 8 * i * size);
        from += __builtin_popcount((unsigned)part(m, i)) * size;
    }
}

INLINE void stream_64(const char *from, char *to) {
    _mm256_stream_si256((__m256i *)to, load(from));
    _mm256_stream_si256((__m256i *)(to + 32), load(from + 32));
}

INLINE void clear_64(char *p) {
    _mm256_storeu_si256((__m256i *)p, _mm256_setzero_si256());
    _mm256_storeu_si256((__m256i *)(p + 32), _mm256_setzero_si256());
}

#include "sparse/vector.h"
