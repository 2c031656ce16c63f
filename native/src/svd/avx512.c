/* AVX-512 F: eight lanes. */
#include <immintrin.h>

#include "svd/kernels.h"

#define TP_VARIANT(name) tp_##name##__avx512
#define INLINE static inline __attribute__((always_inline))

typedef __m512d vd;
enum { LANES = 8, MR = 8, NV = 3 };

INLINE vd v_zero(void) { return _mm512_setzero_pd(); }
INLINE vd v_set(double x) { return _mm512_set1_pd(x); }
INLINE vd v_load(const double *p) { return _mm512_loadu_pd(p); }
INLINE void v_store(double *p, vd x) { _mm512_storeu_pd(p, x); }
/* The first n lanes, at most all; the others are 0, or not stored. */
INLINE __mmask8 v_some(int64_t n) { return n <= 0 ? 0 : (__mmask8)(0xff >> (n < 8 ? 8 - n : 0)); }
INLINE vd v_load_some(const double *p, int64_t n) { return _mm512_maskz_loadu_pd(v_some(n), p); }
INLINE void v_store_some(double *p, int64_t n, vd x) { _mm512_mask_storeu_pd(p, v_some(n), x); }
INLINE vd v_add(vd x, vd y) { return _mm512_add_pd(x, y); }
INLINE vd v_sub(vd x, vd y) { return _mm512_sub_pd(x, y); }
INLINE vd v_mul(vd x, vd y) { return _mm512_mul_pd(x, y); }
INLINE vd v_div(vd x, vd y) { return _mm512_div_pd(x, y); }
INLINE vd v_fma(vd x, vd y, vd z) { return _mm512_fmadd_pd(x, y, z); }
INLINE double v_sum(vd x) {
    const __m256d x4 = _mm256_add_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd(x, 1));
    const __m128d x2 = _mm_add_pd(_mm256_castpd256_pd128(x4), _mm256_extractf128_pd(x4, 1));
    return _mm_cvtsd_f64(_mm_add_sd(x2, _mm_unpackhi_pd(x2, x2)));
}

#include "svd/body.h"
