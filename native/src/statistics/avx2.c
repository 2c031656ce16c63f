#include <immintrin.h>

#include "statistics/kernels.h"
#include "statistics/scalar.h"

#define TP_VARIANT(name) tp_##name##__avx2
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8, VECTORS = 2 };
typedef __m256 vf;
typedef struct vd { __m256d a, b; } vd; /* of the lanes of one vf */

INLINE vf v_set(float x) { return _mm256_set1_ps(x); }
INLINE vf v_load(const void *p) { return _mm256_loadu_ps((const float *)p); }
INLINE vf v_load_some(const void *p, int64_t n) {
    const __m256i first = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    return _mm256_maskload_ps((const float *)p, first);
}
INLINE void v_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
INLINE vf v_mul(vf x, vf y) { return _mm256_mul_ps(x, y); }
INLINE vf v_floor(vf x) { return _mm256_floor_ps(x); }
/* y where they are equal, or one is NaN. */
INLINE vf v_min(vf x, vf y) { return _mm256_min_ps(x, y); }
INLINE vf v_max(vf x, vf y) { return _mm256_max_ps(x, y); }
INLINE void v_store_i32(int32_t *p, vf x) { _mm256_storeu_si256((__m256i *)p, _mm256_cvttps_epi32(x)); }

INLINE vd vd_of(vf x) { return (vd){_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))}; }
INLINE vd vd_load(const double *p) { return (vd){_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)}; }
INLINE void vd_store(double *p, vd x) {
    _mm256_storeu_pd(p, x.a);
    _mm256_storeu_pd(p + 4, x.b);
}
INLINE vd vd_add(vd x, vd y) { return (vd){_mm256_add_pd(x.a, y.a), _mm256_add_pd(x.b, y.b)}; }
INLINE vd vd_fma(vd x, vd y, vd z) { return (vd){_mm256_fmadd_pd(x.a, y.a, z.a), _mm256_fmadd_pd(x.b, y.b, z.b)}; }

#include "statistics/vector.h"
