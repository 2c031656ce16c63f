#include <immintrin.h>

#include "statistics/kernels.h"
#include "statistics/scalar.h"

#define TP_VARIANT(name) tp_##name##__avx512
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16, VECTORS = 4 };
typedef __m512 vf;
typedef struct vd { __m512d a, b; } vd; /* of the lanes of one vf */

INLINE vf v_set(float x) { return _mm512_set1_ps(x); }
INLINE vf v_load(const void *p) { return _mm512_loadu_ps(p); }
INLINE vf v_load_some(const void *p, int64_t n) { return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p); }
INLINE void v_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
INLINE vf v_mul(vf x, vf y) { return _mm512_mul_ps(x, y); }
INLINE vf v_floor(vf x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
/* y where they are equal, or one is NaN. */
INLINE vf v_min(vf x, vf y) { return _mm512_min_ps(x, y); }
INLINE vf v_max(vf x, vf y) { return _mm512_max_ps(x, y); }
INLINE void v_store_i32(int32_t *p, vf x) { _mm512_storeu_si512(p, _mm512_cvttps_epi32(x)); }

INLINE vd vd_of(vf x) {
    return (vd){_mm512_cvtps_pd(_mm512_castps512_ps256(x)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1))};
}
INLINE vd vd_load(const double *p) { return (vd){_mm512_loadu_pd(p), _mm512_loadu_pd(p + 8)}; }
INLINE void vd_store(double *p, vd x) {
    _mm512_storeu_pd(p, x.a);
    _mm512_storeu_pd(p + 8, x.b);
}
INLINE vd vd_add(vd x, vd y) { return (vd){_mm512_add_pd(x.a, y.a), _mm512_add_pd(x.b, y.b)}; }
INLINE vd vd_fma(vd x, vd y, vd z) { return (vd){_mm512_fmadd_pd(x.a, y.a, z.a), _mm512_fmadd_pd(x.b, y.b, z.b)}; }

#include "statistics/vector.h"
