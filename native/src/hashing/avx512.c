#include <immintrin.h>

#include "hashing/kernels.h"

#define TP_VARIANT(name) tp_##name##__avx512
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16 };
typedef __m512i vi;

INLINE vi vi_set(uint32_t x) { return _mm512_set1_epi32((int)x); }
INLINE vi vi_count(void) { return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }
INLINE void vi_store(uint32_t *p, vi x) { _mm512_storeu_si512(p, x); }
INLINE vi vi_add(vi x, vi y) { return _mm512_add_epi32(x, y); }
INLINE vi vi_xor(vi x, vi y) { return _mm512_xor_si512(x, y); }
INLINE vi vi_and(vi x, vi y) { return _mm512_and_si512(x, y); }
INLINE vi vi_mul(vi x, vi y) { return _mm512_mullo_epi32(x, y); }
INLINE vi vi_right(vi x, unsigned n) { return _mm512_srli_epi32(x, n); }
INLINE vi vi_turn17(vi x) { return _mm512_rol_epi32(x, 17); }
/* The upper halves of products. */
INLINE vi vi_mul_high(vi x, vi y) {
    const vi even = _mm512_srli_epi64(_mm512_mul_epu32(x, y), 32), odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), y);
    return _mm512_mask_blend_epi32(0xaaaa, even, odd);
}
INLINE vi vi_gather(const float *p, vi at) { return _mm512_castps_si512(_mm512_i32gather_ps(at, p, 4)); }
INLINE void vi_store_float(float *p, vi x) { _mm512_storeu_si512(p, x); }

#include "hashing/body.h"
