/* AVX2 and FMA: 6 rows by 2 registers, which with 2 of B and 1 of A is all 16 registers but one. */
#include <immintrin.h>
#include <stdbool.h>

#include "gemm/kernels.h"

#define TP_VARIANT(name) tp_##name##__avx2
#define INLINE static inline __attribute__((always_inline))

#define ROWS 6
#define UNIT_K 2
#define FLOATS
enum { LANES32 = 8, LANES64 = 4 };

typedef __m256 vf;
typedef __m256d vd;
typedef __m256i vi;

/* Lanes below n, which may exceed their number. */
INLINE __m256i first32(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE __m256i first64(int64_t n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}

INLINE vf vf_zero(void) { return _mm256_setzero_ps(); }
INLINE vf vf_set(float x) { return _mm256_set1_ps(x); }
INLINE vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void vf_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
INLINE vf vf_load_first(const float *p, int64_t n) { return _mm256_maskload_ps(p, first32(n)); }
INLINE void vf_store_first(float *p, vf x, int64_t n) { _mm256_maskstore_ps(p, first32(n), x); }
INLINE vf vf_add(vf x, vf y) { return _mm256_add_ps(x, y); }
INLINE vf vf_mul(vf x, vf y) { return _mm256_mul_ps(x, y); }
INLINE vf vf_fma(vf x, vf y, vf z) { return _mm256_fmadd_ps(x, y, z); }

INLINE vd vd_zero(void) { return _mm256_setzero_pd(); }
INLINE vd vd_set(double x) { return _mm256_set1_pd(x); }
INLINE vd vd_load(const double *p) { return _mm256_loadu_pd(p); }
INLINE void vd_store(double *p, vd x) { _mm256_storeu_pd(p, x); }
INLINE vd vd_load_first(const double *p, int64_t n) { return _mm256_maskload_pd(p, first64(n)); }
INLINE void vd_store_first(double *p, vd x, int64_t n) { _mm256_maskstore_pd(p, first64(n), x); }
INLINE vd vd_add(vd x, vd y) { return _mm256_add_pd(x, y); }
INLINE vd vd_fma(vd x, vd y, vd z) { return _mm256_fmadd_pd(x, y, z); }

INLINE vi vi_zero(void) { return _mm256_setzero_si256(); }
INLINE vi vi_set(int32_t x) { return _mm256_set1_epi32(x); }
INLINE vi vi_load(const int32_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE void vi_store(int32_t *p, vi x) { _mm256_storeu_si256((__m256i *)p, x); }
INLINE vi vi_load_first(const int32_t *p, int64_t n) { return _mm256_maskload_epi32(p, first32(n)); }
INLINE void vi_store_first(int32_t *p, vi x, int64_t n) { _mm256_maskstore_epi32(p, first32(n), x); }
INLINE vi vi_add(vi x, vi y) { return _mm256_add_epi32(x, y); }
INLINE vi vi_sub(vi x, vi y) { return _mm256_sub_epi32(x, y); }
INLINE vi vi_mul(vi x, vi y) { return _mm256_mullo_epi32(x, y); }
INLINE vi vi_dot(vi sum, vi x, vi y) { return _mm256_add_epi32(sum, _mm256_madd_epi16(x, y)); }
INLINE vf vf_of_vi(vi x) { return _mm256_cvtepi32_ps(x); }

#include "gemm/vector.h"
