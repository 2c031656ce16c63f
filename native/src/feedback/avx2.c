#include <immintrin.h>
#include <stdbool.h>

#include "feedback/kernels.h"

#define TP_VARIANT(name) tp_##name##__avx2
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8 };
typedef __m256 vf;
typedef __m256i vi;
typedef __m256i vm;

/* Lanes below n. */
INLINE vm v_first(int64_t n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
INLINE vf v_set(float x) { return _mm256_set1_ps(x); }
INLINE vf v_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void v_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
INLINE vf v_load_some(const float *p, vm lanes) { return _mm256_maskload_ps(p, lanes); }
INLINE void v_store_some(float *p, vm lanes, vf x) { _mm256_maskstore_ps(p, lanes, x); }
INLINE vf v_or_one(vf x, vm lanes) { return _mm256_blendv_ps(_mm256_set1_ps(1), x, _mm256_castsi256_ps(lanes)); }
INLINE vf v_add(vf x, vf y) { return _mm256_add_ps(x, y); }
INLINE vf v_sub(vf x, vf y) { return _mm256_sub_ps(x, y); }
INLINE vf v_mul(vf x, vf y) { return _mm256_mul_ps(x, y); }
INLINE vf v_div(vf x, vf y) { return _mm256_div_ps(x, y); }
INLINE vf v_fma(vf x, vf y, vf z) { return _mm256_fmadd_ps(x, y, z); }
/* y where x is NaN. */
INLINE vf v_max(vf x, vf y) { return _mm256_max_ps(x, y); }
INLINE vf v_min(vf x, vf y) { return _mm256_min_ps(x, y); }
INLINE vf v_round(vf x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE vf v_zero_where_zero(vf x, vf y) { return _mm256_and_ps(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_NEQ_UQ), y); }

/* Bit l of p is lane l, below n. */
INLINE vm v_bits(const uint8_t *p, int64_t n) {
    const vi bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    (void)n;
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(*p), bits), bits);
}
INLINE vf v_choose(vm lanes, vf x, vf y) { return _mm256_blendv_ps(y, x, _mm256_castsi256_ps(lanes)); }

INLINE vi vi_zero(void) { return _mm256_setzero_si256(); }
INLINE vi vi_load(const int32_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE void vi_store(int32_t *p, vi x) { _mm256_storeu_si256((__m256i *)p, x); }
INLINE vi vi_add(vi x, vi y) { return _mm256_add_epi32(x, y); }
/* One more where x and y differ. */
INLINE vi vi_count(vi count, vf x, vf y) { return _mm256_sub_epi32(count, _mm256_castps_si256(_mm256_cmp_ps(x, y, _CMP_NEQ_UQ))); }

#include "feedback/body.h"
