/* AVX-512 F, BW, DQ, VL: one register holds the 16 lanes of vector.h. */
#include "core/convert.h"
#include "quantize/kernels.h"
#include "quantize/scalar.h"
#include "quantize/shared_nibble.h"

#define TP_VARIANT(name) tp_##name##__avx512
#define INLINE static inline __attribute__((always_inline))

typedef __m512 vf;
typedef __m512i vi;
typedef struct vd { __m512d a, b; } vd;
typedef __m512i vb; /* 64 bytes */

/* Loads are from any address. */
INLINE vf vf_set(float x) { return _mm512_set1_ps(x); }
INLINE vf vf_load(const void *p) { return _mm512_loadu_ps(p); }
INLINE void vf_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
INLINE void vf_store_part(float *p, vf x, int64_t n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), x); }
INLINE vf vf_add(vf x, vf y) { return _mm512_add_ps(x, y); }
INLINE vf vf_sub(vf x, vf y) { return _mm512_sub_ps(x, y); }
INLINE vf vf_mul(vf x, vf y) { return _mm512_mul_ps(x, y); }
INLINE vf vf_fma(vf x, vf y, vf z) { return _mm512_fmadd_ps(x, y, z); }
INLINE vf vf_div(vf x, vf y) { return _mm512_div_ps(x, y); }
INLINE vf vf_min(vf x, vf y) { return _mm512_min_ps(x, y); }
INLINE vf vf_max(vf x, vf y) { return _mm512_max_ps(x, y); }
INLINE vf vf_round(vf x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE vf vf_nan_to_zero(vf x) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, x, _CMP_ORD_Q), x); }
/* y where x == 0, else z. */
INLINE vf vf_if_zero(vf x, vf y, vf z) {
    return _mm512_mask_mov_ps(z, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_EQ_OQ), y);
}
INLINE float vf_hmin(vf x) { return _mm512_reduce_min_ps(x); }
INLINE float vf_hmax(vf x) { return _mm512_reduce_max_ps(x); }

INLINE vi vi_zero(void) { return _mm512_setzero_si512(); }
INLINE vi vi_of(vf x) { return _mm512_cvtps_epi32(x); }
INLINE vi vi_of_bits(vf x) { return _mm512_castps_si512(x); }
INLINE vi vi_set(int32_t x) { return _mm512_set1_epi32(x); }
INLINE vi vi_and(vi x, vi y) { return _mm512_and_si512(x, y); }
INLINE vi vi_add(vi x, vi y) { return _mm512_add_epi32(x, y); }
INLINE vi vi_max(vi x, vi y) { return _mm512_max_epi32(x, y); }
/* The larger of acc and the bits of |x|; as integers, so that NaN and infinity come out largest. */
INLINE vi vi_max_abs(vi acc, vf x) {
    return _mm512_max_epi32(acc, _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(TP_ABS_BITS)));
}
INLINE int32_t vi_hmax(vi x) { return _mm512_reduce_max_epi32(x); }
INLINE vf vf_of_bits(vi x) { return _mm512_castsi512_ps(x); }
INLINE void vi_store_bytes(uint8_t *p, vi x) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(x)); }
/* Whether the lower half of any lane is below 8. */
INLINE bool any_low_half_below_8(vi a, vi b, vi c, vi d) {
    const __m512i smallest = _mm512_min_epu16(_mm512_min_epu16(a, b), _mm512_min_epu16(c, d));
    return _mm512_testn_epi32_mask(smallest, _mm512_set1_epi32(0xfff8)) != 0;
}
/* The upper halves of the lanes, in order, saturated to unsigned bytes. */
INLINE vb vb_of_upper_halves(vi a, vi b, vi c, vi d) {
    const __m512i odd = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27, 25,
                                         23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    const __m512i bytes = _mm512_packus_epi16(_mm512_permutex2var_epi16(a, odd, b), _mm512_permutex2var_epi16(c, odd, d));
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), bytes);
}
INLINE vb vb_set(uint8_t x) { return _mm512_set1_epi8((char)x); }
INLINE vb vb_clamp(vb x, vb low, vb high) { return _mm512_min_epu8(_mm512_max_epu8(x, low), high); }
INLINE vb vb_xor(vb x, vb y) { return _mm512_xor_si512(x, y); }
INLINE void vb_store(uint8_t *p, vb x) { _mm512_storeu_si512(p, x); }
/* To a 64-byte boundary, past the caches. */
INLINE void vb_stream(uint8_t *p, vb x) { _mm512_stream_si512((void *)p, x); }
INLINE vb vb_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
INLINE vf vf_of_i8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
INLINE vf vf_of_u8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

INLINE vf vf_of_f16_bits(__m256i h) { return tp_f32x16_of_f16(h); }
INLINE vf vf_of_bf16_bits(__m256i h) { return tp_f32x16_of_bf16(h); }
INLINE vf vf_load_f16(const void *p) { return vf_of_f16_bits(_mm256_loadu_si256((const __m256i *)p)); }
INLINE vf vf_load_bf16(const void *p) { return vf_of_bf16_bits(_mm256_loadu_si256((const __m256i *)p)); }
INLINE vf vf_load_part(const void *p, int64_t n) { return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p); }
INLINE vf vf_load_f16_part(const void *p, int64_t n) {
    return vf_of_f16_bits(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p));
}
INLINE vf vf_load_bf16_part(const void *p, int64_t n) {
    return vf_of_bf16_bits(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p));
}
INLINE __m256i f16_bits_of(vf x) { return tp_f16_of_f32x16(x); }
INLINE __m256i bf16_bits_of(vf x) { return tp_bf16_of_f32x16(x); }

INLINE vd vd_zero(void) { return (vd){_mm512_setzero_pd(), _mm512_setzero_pd()}; }
INLINE vd vd_of(vf x) {
    return (vd){_mm512_cvtps_pd(_mm512_castps512_ps256(x)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1))};
}
INLINE vd vd_load(const double *p) { return (vd){_mm512_loadu_pd(p), _mm512_loadu_pd(p + 8)}; }
INLINE void vd_store(double *p, vd x) {
    _mm512_storeu_pd(p, x.a);
    _mm512_storeu_pd(p + 8, x.b);
}
INLINE vd vd_add(vd x, vd y) { return (vd){_mm512_add_pd(x.a, y.a), _mm512_add_pd(x.b, y.b)}; }
INLINE vd vd_sub(vd x, vd y) { return (vd){_mm512_sub_pd(x.a, y.a), _mm512_sub_pd(x.b, y.b)}; }
INLINE vd vd_mul(vd x, vd y) { return (vd){_mm512_mul_pd(x.a, y.a), _mm512_mul_pd(x.b, y.b)}; }
INLINE vd vd_infinite(void) {
    const __m512d x = _mm512_set1_pd((double)tp_float(TP_INF_BITS));
    return (vd){x, x};
}
/* The smaller one; acc where x is NaN. */
INLINE vd vd_min(vd x, vd acc) { return (vd){_mm512_min_pd(x.a, acc.a), _mm512_min_pd(x.b, acc.b)}; }
INLINE double vd_hmin(vd x) { return _mm512_reduce_min_pd(_mm512_min_pd(x.a, x.b)); }
/* Bit i is set where lane i equals y. */
INLINE uint32_t vd_equal(vd x, double y) {
    const __m512d z = _mm512_set1_pd(y);
    return (uint32_t)_mm512_cmp_pd_mask(x.b, z, _CMP_EQ_OQ) << 8 | _mm512_cmp_pd_mask(x.a, z, _CMP_EQ_OQ);
}
/* The larger of acc and |x|; acc where x is NaN. */
INLINE vd vd_max_abs(vd acc, vd x) {
    return (vd){_mm512_max_pd(_mm512_abs_pd(x.a), acc.a), _mm512_max_pd(_mm512_abs_pd(x.b), acc.b)};
}
/* Sums lanes 8, 4, 2 and 1 apart: the order of tp_quantize_error__ref. */
INLINE double vd_sum(vd x) {
    const __m512d x8 = _mm512_add_pd(x.a, x.b);
    const __m256d x4 = _mm256_add_pd(_mm512_castpd512_pd256(x8), _mm512_extractf64x4_pd(x8, 1));
    const __m128d x2 = _mm_add_pd(_mm256_castpd256_pd128(x4), _mm256_extractf128_pd(x4, 1));
    return _mm_cvtsd_f64(_mm_add_sd(x2, _mm_unpackhi_pd(x2, x2)));
}
INLINE double vd_hmax(vd x) { return _mm512_reduce_max_pd(_mm512_max_pd(x.a, x.b)); }

#include "quantize/vector.h"
