/* AVX2 and FMA: four lanes. */
#include <immintrin.h>

#include "svd/kernels.h"

#define TP_VARIANT(name) tp_##name##__avx2
#define INLINE static inline __attribute__((always_inline))

typedef __m256d vd;
enum { LANES = 4, MR = 4, NV = 3 };

INLINE vd v_zero(void) { return _mm256_setzero_pd(); }
INLINE vd v_set(double x) { return _mm256_set1_pd(x); }
INLINE vd v_load(const double *p) { return _mm256_loadu_pd(p); }
INLINE void v_store(double *p, vd x) { _mm256_storeu_pd(p, x); }
/* The first n lanes, at most all; the others are 0, or not stored. */
INLINE __m256i v_some(int64_t n) { return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3)); }
INLINE vd v_load_some(const double *p, int64_t n) { return _mm256_maskload_pd(p, v_some(n)); }
INLINE void v_store_some(double *p, int64_t n, vd x) { _mm256_maskstore_pd(p, v_some(n), x); }
INLINE vd v_add(vd x, vd y) { return _mm256_add_pd(x, y); }
INLINE vd v_sub(vd x, vd y) { return _mm256_sub_pd(x, y); }
INLINE vd v_mul(vd x, vd y) { return _mm256_mul_pd(x, y); }
INLINE vd v_div(vd x, vd y) { return _mm256_div_pd(x, y); }
INLINE vd v_fma(vd x, vd y, vd z) { return _mm256_fmadd_pd(x, y, z); }
INLINE double v_sum(vd x) {
    const __m128d x2 = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
    return _mm_cvtsd_f64(_mm_add_sd(x2, _mm_unpackhi_pd(x2, x2)));
}

#include "svd/body.h"
