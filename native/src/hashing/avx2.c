#include <immintrin.h>

#include "hashing/kernels.h"

#define TP_VARIANT(name) tp_##name##__avx2
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8 };
typedef __m256i vi;

INLINE vi vi_set(uint32_t x) { return _mm256_set1_epi32((int)x); }
INLINE vi vi_count(void) { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
INLINE void vi_store(uint32_t *p, vi x) { _mm256_storeu_si256((__m256i *)p, x); }
INLINE vi vi_add(vi x, vi y) { return _mm256_add_epi32(x, y); }
INLINE vi vi_xor(vi x, vi y) { return _mm256_xor_si256(x, y); }
INLINE vi vi_and(vi x, vi y) { return _mm256_and_si256(x, y); }
INLINE vi vi_mul(vi x, vi y) { return _mm256_mullo_epi32(x, y); }
INLINE vi vi_right(vi x, int n) { return _mm256_srli_epi32(x, n); }
INLINE vi vi_turn17(vi x) { return _mm256_or_si256(_mm256_slli_epi32(x, 17), _mm256_srli_epi32(x, 15)); }
/* The upper halves of products. */
INLINE vi vi_mul_high(vi x, vi y) {
    const vi even = _mm256_srli_epi64(_mm256_mul_epu32(x, y), 32), odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), y);
    return _mm256_blend_epi32(even, odd, 0xaa);
}
INLINE vi vi_gather(const float *p, vi at) { return _mm256_castps_si256(_mm256_i32gather_ps(p, at, 4)); }
INLINE void vi_store_float(float *p, vi x) { _mm256_storeu_si256((__m256i *)p, x); }

#include "hashing/body.h"
