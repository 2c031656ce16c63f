/* AVX-512 F, BW, DQ, VL: 16 elements at a time, those of 8 and 16 bits widened, since the tier has no VBMI2. */
#include <immintrin.h>

#include "sparse/kernels.h"

#define TP_VARIANT(name) tp_##name##__avx512
#define INLINE static inline __attribute__((always_inline))

enum { AHEAD = 4096 };

INLINE uint64_t mask_64(const char *p, const int size) {
    __m512i x[4];
    for (int i = 0; i < size; i++) x[i] = _mm512_loadu_si512(p + 64 * i);
    if (size == 1) return _mm512_test_epi8_mask(x[0], x[0]);
    if (size == 2)
        return _mm512_kunpackd(_mm512_test_epi16_mask(x[1], x[1]), _mm512_test_epi16_mask(x[0], x[0]));
    const __mmask32 low = _mm512_kunpackw(_mm512_test_epi32_mask(x[1], x[1]), _mm512_test_epi32_mask(x[0], x[0]));
    const __mmask32 high = _mm512_kunpackw(_mm512_test_epi32_mask(x[3], x[3]), _mm512_test_epi32_mask(x[2], x[2]));
    return _mm512_kunpackd(high, low);
}

INLINE __m512i load_16(const char *p, const int size) {
    if (size == 1) return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
    if (size == 2) return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_loadu_si512(p);
}

INLINE void store_16(char *p, const int size, __m512i x) {
    if (size == 1)
        _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(x));
    else if (size == 2)
        _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(x));
    else
        _mm512_storeu_si512(p, x);
}

INLINE __mmask16 part(uint64_t m, int i) { return (__mmask16)(m >> 16 * i); }
INLINE int count(uint64_t m, int i) { return __builtin_popcountll(m >> 16 * i & 0xffff); }
INLINE __m512i positions_from(int from) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_add_epi32(lanes, _mm512_set1_epi32(from));
}

/* To a register and from there to memory: compressing to memory itself is slow on some processors. */
INLINE void compress_64(const char *p, const int size, uint64_t m, char *to, uint16_t base, uint16_t *positions) {
    for (int i = 0; i < 4; i++) {
        store_16(to, size, _mm512_maskz_compress_epi32(part(m, i), load_16(p + 16 * i * size, size)));
        to += count(m, i) * size;
        if (!positions) continue;
        const __m512i all = _mm512_add_epi32(positions_from(16 * i), _mm512_set1_epi32(base));
        store_16((char *)positions, 2, _mm512_maskz_compress_epi32(part(m, i), all));
        positions += count(m, i);
    }
}

INLINE void expand_64(const char *from, const int size, uint64_t m, char *to) {
    for (int i = 0; i < 4; i++) {
        store_16(to + 16 * i * size, size, _mm512_maskz_expand_epi32(part(m, i), load_16(from, size)));
        from += count(m, i) * size;
    }
}

INLINE void stream_64(const char *from, char *to) { _mm512_stream_si512((void *)to, _mm512_loadu_si512(from)); }
INLINE void clear_64(char *p) { _mm512_storeu_si512(p, _mm512_setzero_si512()); }

#include "sparse/vector.h"
