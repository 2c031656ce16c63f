#include <immintrin.h>
#include <stdbool.h>

#include "feedback/kernels.h"

#define TP_VARIANT(name) tp_##name##__avx512
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16 };
typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;

/* Lanes below n, at most all but one. */
INLINE vm v_first(int64_t n) { return (vm)((1u << n) - 1); }
INLINE vf v_set(float x) { return _mm512_set1_ps(x); }
INLINE vf v_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void v_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
INLINE vf v_load_some(const float *p, vm lanes) { return _mm512_maskz_loadu_ps(lanes, p); }
INLINE void v_store_some(float *p, vm lanes, vf x) { _mm512_mask_storeu_ps(p, lanes, x); }
INLINE vf v_or_one(vf x, vm lanes) { return _mm512_mask_blend_ps(lanes, _mm512_set1_ps(1), x); }
INLINE vf v_add(vf x, vf y) { return _mm512_add_ps(x, y); }
INLINE vf v_sub(vf x, vf y) { return _mm512_sub_ps(x, y); }
INLINE vf v_mul(vf x, vf y) { return _mm512_mul_ps(x, y); }
INLINE vf v_div(vf x, vf y) { return _mm512_div_ps(x, y); }
INLINE vf v_fma(vf x, vf y, vf z) { return _mm512_fmadd_ps(x, y, z); }
/* y where x is NaN. */
INLINE vf v_max(vf x, vf y) { return _mm512_max_ps(x, y); }
INLINE vf v_min(vf x, vf y) { return _mm512_min_ps(x, y); }
INLINE vf v_round(vf x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE vf v_zero_where_zero(vf x, vf y) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NEQ_UQ), y);
}

/* Bit l of p is lane l, below n. */
INLINE vm v_bits(const uint8_t *p, int64_t n) { return (vm)(p[0] | (n > 8 ? p[1] << 8 : 0)); }
INLINE vf v_choose(vm lanes, vf x, vf y) { return _mm512_mask_blend_ps(lanes, y, x); }

INLINE vi vi_zero(void) { return _mm512_setzero_si512(); }
INLINE vi vi_load(const int32_t *p) { return _mm512_loadu_si512(p); }
INLINE void vi_store(int32_t *p, vi x) { _mm512_storeu_si512(p, x); }
INLINE vi vi_add(vi x, vi y) { return _mm512_add_epi32(x, y); }
/* One more where x and y differ. */
INLINE vi vi_count(vi count, vf x, vf y) {
    return _mm512_mask_add_epi32(count, _mm512_cmp_ps_mask(x, y, _CMP_NEQ_UQ), count, _mm512_set1_epi32(1));
}

#include "feedback/body.h"
