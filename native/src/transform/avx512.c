#include <immintrin.h>
#include <stdbool.h>

#include "transform/kernels.h"

#define TP_VARIANT(name) tp_##name##__avx512
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16, REGISTERS = 32 };
#define TP_DCT_VECTORS 4
typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;
typedef __m512d vd;

/* Lanes below n. */
INLINE vm v_first(int64_t n) { return (vm)(n < LANES ? (1u << n) - 1 : 0xffff); }
INLINE vf v_set(float x) { return _mm512_set1_ps(x); }
INLINE vf v_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void v_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
INLINE vf v_load_some(const float *p, vm lanes) { return _mm512_maskz_loadu_ps(lanes, p); }
INLINE void v_store_some(float *p, vm lanes, vf x) { _mm512_mask_storeu_ps(p, lanes, x); }
INLINE vf v_add(vf x, vf y) { return _mm512_add_ps(x, y); }
INLINE vf v_sub(vf x, vf y) { return _mm512_sub_ps(x, y); }
INLINE vf v_mul(vf x, vf y) { return _mm512_mul_ps(x, y); }
INLINE vf v_div(vf x, vf y) { return _mm512_div_ps(x, y); }
INLINE vf v_fma(vf x, vf y, vf z) { return _mm512_fmadd_ps(x, y, z); }
INLINE vf v_abs(vf x) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), x); }
/* Whether no lane has x >= y, or NaN. */
INLINE bool v_below(vf x, vf y) { return _mm512_cmp_ps_mask(x, y, _CMP_LT_OQ) == 0xffff; }
/* y where x is NaN. */
INLINE vf v_max(vf x, vf y) { return _mm512_max_ps(x, y); }
INLINE vf v_or(vf x, vf y) { return _mm512_or_ps(x, y); }
INLINE bool v_all_zero(vf x) { return _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_EQ_OQ) == 0xffff; }

INLINE vi vi_set(int32_t x) { return _mm512_set1_epi32(x); }
INLINE vi vi_load(const int32_t *p) { return _mm512_loadu_si512(p); }
INLINE void vi_store(int32_t *p, vi x) { _mm512_storeu_si512(p, x); }
INLINE vi vi_load_some(const int32_t *p, vm lanes) { return _mm512_maskz_loadu_epi32(lanes, p); }
INLINE void vi_store_some(int32_t *p, vm lanes, vi x) { _mm512_mask_storeu_epi32(p, lanes, x); }
INLINE vi vi_add(vi x, vi y) { return _mm512_add_epi32(x, y); }
INLINE vi vi_sub(vi x, vi y) { return _mm512_sub_epi32(x, y); }
INLINE vi vi_min(vi x, vi y) { return _mm512_min_epi32(x, y); }
INLINE vi vi_max(vi x, vi y) { return _mm512_max_epi32(x, y); }
INLINE bool vi_any_above(vi x, vi y) { return _mm512_cmpgt_epi32_mask(x, y) != 0; }
/* Rounds down. */
INLINE vi vi_shift(vi x, int n) { return _mm512_srai_epi32(x, (unsigned)n); }
INLINE vi vi_whole(vf x) { return _mm512_cvttps_epi32(x); }
INLINE vf v_of(vi x) { return _mm512_cvtepi32_ps(x); }
/* Turns the sign of x where y is less than 0, or -0. */
INLINE vi vi_turn(vi x, vf y) {
    return _mm512_mask_sub_epi32(x, _mm512_movepi32_mask(_mm512_castps_si512(y)), _mm512_setzero_si512(), x);
}
/* x, with the sign of the code; 0 where that is 0. */
INLINE vf v_signed(vf x, vi code) {
    const vi sign = _mm512_and_si512(code, _mm512_set1_epi32(INT32_MIN));
    return _mm512_maskz_mov_ps(_mm512_test_epi32_mask(code, code), _mm512_xor_ps(x, _mm512_castsi512_ps(sign)));
}

INLINE vd vd_zero(void) { return _mm512_setzero_pd(); }
INLINE vd vd_half(vf x, int half) { return _mm512_cvtps_pd(half ? _mm512_extractf32x8_ps(x, 1) : _mm512_castps512_ps256(x)); }
INLINE vd vd_add_square(vd sum, vd x, vd y) {
    const vd error = _mm512_sub_pd(x, y);
    return _mm512_add_pd(sum, _mm512_mul_pd(error, error));
}
INLINE void vd_store(double *p, vd x) { _mm512_storeu_pd(p, x); }

/* Words at even places of two vectors, and those at odd places; and back. */
INLINE void v_part(vf x, vf y, vf *even, vf *odd) {
    const vi places = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    *even = _mm512_permutex2var_ps(x, places, y);
    *odd = _mm512_permutex2var_ps(x, _mm512_add_epi32(places, _mm512_set1_epi32(1)), y);
}
INLINE void v_join(vf even, vf odd, vf *x, vf *y) {
    const vi places = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    *x = _mm512_permutex2var_ps(even, places, odd);
    *y = _mm512_permutex2var_ps(even, _mm512_add_epi32(places, _mm512_set1_epi32(8)), odd);
}

INLINE vi vi_widen(tp_dtype type, const char *p) {
    if (type == TP_I16) return _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)p));
    const __m128i bytes = _mm_loadu_si128((const __m128i *)p);
    return type == TP_I8 ? _mm512_cvtepi8_epi32(bytes) : _mm512_cvtepu8_epi32(bytes);
}
INLINE void vi_narrow(tp_dtype type, vi x, char *p) {
    if (type == TP_I16) _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(x));
    else _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(x));
}

#include "transform/body.h"
