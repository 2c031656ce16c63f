#include <immintrin.h>
#include <stdbool.h>

#include "transform/kernels.h"

#define TP_VARIANT(name) tp_##name##__avx2
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8, REGISTERS = 16 };
#define TP_DCT_VECTORS 8
typedef __m256 vf;
typedef __m256i vi;
typedef __m256i vm;
typedef __m256d vd;

/* Lanes below n. */
INLINE vm v_first(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < LANES ? (int)n : LANES), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE vf v_set(float x) { return _mm256_set1_ps(x); }
INLINE vf v_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void v_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
INLINE vf v_load_some(const float *p, vm lanes) { return _mm256_maskload_ps(p, lanes); }
INLINE void v_store_some(float *p, vm lanes, vf x) { _mm256_maskstore_ps(p, lanes, x); }
INLINE vf v_add(vf x, vf y) { return _mm256_add_ps(x, y); }
INLINE vf v_sub(vf x, vf y) { return _mm256_sub_ps(x, y); }
INLINE vf v_mul(vf x, vf y) { return _mm256_mul_ps(x, y); }
INLINE vf v_div(vf x, vf y) { return _mm256_div_ps(x, y); }
INLINE vf v_fma(vf x, vf y, vf z) { return _mm256_fmadd_ps(x, y, z); }
INLINE vf v_abs(vf x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
/* Whether no lane has x >= y, or NaN. */
INLINE bool v_below(vf x, vf y) { return _mm256_movemask_ps(_mm256_cmp_ps(x, y, _CMP_LT_OQ)) == 0xff; }
/* y where x is NaN. */
INLINE vf v_max(vf x, vf y) { return _mm256_max_ps(x, y); }
INLINE vf v_or(vf x, vf y) { return _mm256_or_ps(x, y); }
INLINE bool v_all_zero(vf x) { return _mm256_movemask_ps(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_EQ_OQ)) == 0xff; }

INLINE vi vi_set(int32_t x) { return _mm256_set1_epi32(x); }
INLINE vi vi_load(const int32_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE void vi_store(int32_t *p, vi x) { _mm256_storeu_si256((__m256i *)p, x); }
INLINE vi vi_load_some(const int32_t *p, vm lanes) { return _mm256_maskload_epi32(p, lanes); }
INLINE void vi_store_some(int32_t *p, vm lanes, vi x) { _mm256_maskstore_epi32(p, lanes, x); }
INLINE vi vi_add(vi x, vi y) { return _mm256_add_epi32(x, y); }
INLINE vi vi_sub(vi x, vi y) { return _mm256_sub_epi32(x, y); }
INLINE vi vi_min(vi x, vi y) { return _mm256_min_epi32(x, y); }
INLINE vi vi_max(vi x, vi y) { return _mm256_max_epi32(x, y); }
INLINE bool vi_any_above(vi x, vi y) { return _mm256_movemask_epi8(_mm256_cmpgt_epi32(x, y)) != 0; }
/* Rounds down. */
INLINE vi vi_shift(vi x, int n) { return _mm256_srai_epi32(x, n); }
INLINE vi vi_whole(vf x) { return _mm256_cvttps_epi32(x); }
INLINE vf v_of(vi x) { return _mm256_cvtepi32_ps(x); }
/* Turns the sign of x where y is less than 0, or -0. */
INLINE vi vi_turn(vi x, vf y) {
    const vi sign = _mm256_srai_epi32(_mm256_castps_si256(y), 31);
    return _mm256_sub_epi32(_mm256_xor_si256(x, sign), sign);
}
/* x, with the sign of the code; 0 where that is 0. */
INLINE vf v_signed(vf x, vi code) {
    const vi sign = _mm256_and_si256(code, _mm256_set1_epi32(INT32_MIN)), zero = _mm256_cmpeq_epi32(code, _mm256_setzero_si256());
    return _mm256_andnot_ps(_mm256_castsi256_ps(zero), _mm256_xor_ps(x, _mm256_castsi256_ps(sign)));
}

INLINE vd vd_zero(void) { return _mm256_setzero_pd(); }
INLINE vd vd_half(vf x, int half) { return _mm256_cvtps_pd(half ? _mm256_extractf128_ps(x, 1) : _mm256_castps256_ps128(x)); }
INLINE vd vd_add_square(vd sum, vd x, vd y) {
    const vd error = _mm256_sub_pd(x, y);
    return _mm256_add_pd(sum, _mm256_mul_pd(error, error));
}
INLINE void vd_store(double *p, vd x) { _mm256_storeu_pd(p, x); }

/* Words at even places of two vectors, and those at odd places; and back. */
INLINE void v_part(vf x, vf y, vf *even, vf *odd) {
    const __m256d e = _mm256_castps_pd(_mm256_shuffle_ps(x, y, 0x88)), o = _mm256_castps_pd(_mm256_shuffle_ps(x, y, 0xdd));
    *even = _mm256_castpd_ps(_mm256_permute4x64_pd(e, 0xd8));
    *odd = _mm256_castpd_ps(_mm256_permute4x64_pd(o, 0xd8));
}
INLINE void v_join(vf even, vf odd, vf *x, vf *y) {
    const vf low = _mm256_unpacklo_ps(even, odd), high = _mm256_unpackhi_ps(even, odd);
    *x = _mm256_permute2f128_ps(low, high, 0x20);
    *y = _mm256_permute2f128_ps(low, high, 0x31);
}

INLINE vi vi_widen(tp_dtype type, const char *p) {
    if (type == TP_I16) return _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)p));
    const __m128i bytes = _mm_loadl_epi64((const __m128i *)p);
    return type == TP_I8 ? _mm256_cvtepi8_epi32(bytes) : _mm256_cvtepu8_epi32(bytes);
}
INLINE void vi_narrow(tp_dtype type, vi x, char *p) {
    if (type == TP_I16) {
        const vi packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(x, x), 0x08);
        _mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(packed));
        return;
    }
    const vi bytes = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1,
                                      -1, -1, -1, -1);
    const vi packed = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(x, bytes), _mm256_setr_epi32(0, 4, 1, 1, 1, 1, 1, 1));
    _mm_storel_epi64((__m128i *)p, _mm256_castsi256_si128(packed));
}

#include "transform/body.h"
