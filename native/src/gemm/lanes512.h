/* The lanes of vector.h in 512 bits. */
#include <immintrin.h>
#include <stdbool.h>

#include "gemm/kernels.h"

#define INLINE static inline __attribute__((always_inline))

enum { LANES32 = 16, LANES64 = 8 };

typedef __m512 vf;
typedef __m512d vd;
typedef __m512i vi;

/* Lanes below n, which is positive and may exceed their number. */
INLINE __mmask16 first32(int64_t n) { return n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1); }
INLINE __mmask8 first64(int64_t n) { return n >= 8 ? 0xff : (__mmask8)((1u << n) - 1); }

INLINE vf vf_zero(void) { return _mm512_setzero_ps(); }
INLINE vf vf_set(float x) { return _mm512_set1_ps(x); }
INLINE vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void vf_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
INLINE vf vf_load_first(const float *p, int64_t n) { return _mm512_maskz_loadu_ps(first32(n), p); }
INLINE void vf_store_first(float *p, vf x, int64_t n) { _mm512_mask_storeu_ps(p, first32(n), x); }
INLINE vf vf_add(vf x, vf y) { return _mm512_add_ps(x, y); }
INLINE vf vf_mul(vf x, vf y) { return _mm512_mul_ps(x, y); }
INLINE vf vf_fma(vf x, vf y, vf z) { return _mm512_fmadd_ps(x, y, z); }

INLINE vd vd_zero(void) { return _mm512_setzero_pd(); }
INLINE vd vd_set(double x) { return _mm512_set1_pd(x); }
INLINE vd vd_load(const double *p) { return _mm512_loadu_pd(p); }
INLINE void vd_store(double *p, vd x) { _mm512_storeu_pd(p, x); }
INLINE vd vd_load_first(const double *p, int64_t n) { return _mm512_maskz_loadu_pd(first64(n), p); }
INLINE void vd_store_first(double *p, vd x, int64_t n) { _mm512_mask_storeu_pd(p, first64(n), x); }
INLINE vd vd_add(vd x, vd y) { return _mm512_add_pd(x, y); }
INLINE vd vd_fma(vd x, vd y, vd z) { return _mm512_fmadd_pd(x, y, z); }

INLINE vi vi_zero(void) { return _mm512_setzero_si512(); }
INLINE vi vi_set(int32_t x) { return _mm512_set1_epi32(x); }
INLINE vi vi_load(const int32_t *p) { return _mm512_loadu_si512(p); }
INLINE void vi_store(int32_t *p, vi x) { _mm512_storeu_si512(p, x); }
INLINE vi vi_load_first(const int32_t *p, int64_t n) { return _mm512_maskz_loadu_epi32(first32(n), p); }
INLINE void vi_store_first(int32_t *p, vi x, int64_t n) { _mm512_mask_storeu_epi32(p, first32(n), x); }
INLINE vi vi_add(vi x, vi y) { return _mm512_add_epi32(x, y); }
INLINE vi vi_sub(vi x, vi y) { return _mm512_sub_epi32(x, y); }
INLINE vi vi_mul(vi x, vi y) { return _mm512_mullo_epi32(x, y); }
INLINE vf vf_of_vi(vi x) { return _mm512_cvtepi32_ps(x); }
