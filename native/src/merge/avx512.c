#include <immintrin.h>

#include "core/convert.h"
#include "merge/kernels.h"
#include "merge/scalar.h"

#define TP_VARIANT(name) tp_##name##__avx512
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8 };
typedef __m512d vd;
typedef __mmask8 vm;

INLINE vd vd_set(double x) { return _mm512_set1_pd(x); }
INLINE vd vd_add(vd x, vd y) { return _mm512_add_pd(x, y); }
INLINE vd vd_sub(vd x, vd y) { return _mm512_sub_pd(x, y); }
INLINE vd vd_mul(vd x, vd y) { return _mm512_mul_pd(x, y); }
INLINE vd vd_div(vd x, vd y) { return _mm512_div_pd(x, y); }
INLINE vd vd_abs(vd x) { return _mm512_abs_pd(x); }
INLINE vd vd_round(vd x) { return _mm512_cvtps_pd(_mm512_cvtpd_ps(x)); } /* to f32 */
INLINE vm vd_less(vd x, vd y) { return _mm512_cmp_pd_mask(x, y, _CMP_LT_OQ); }
INLINE vm vd_equal(vd x, vd y) { return _mm512_cmp_pd_mask(x, y, _CMP_EQ_OQ); }
INLINE bool vd_all(vm m) { return m == 0xff; }
INLINE vd vd_select(vm m, vd x, vd y) { return _mm512_mask_blend_pd(m, y, x); }
INLINE void vd_put(double *p, vd x) { _mm512_storeu_pd(p, x); }
INLINE vd vd_of_words(const uint32_t *p) { return _mm512_cvtepu32_pd(_mm256_loadu_si256((const __m256i *)p)); }
INLINE vd vd_load(tp_dtype type, const char *p) {
    return _mm512_cvtps_pd(type == TP_F32   ? _mm256_loadu_ps((const float *)p)
                           : type == TP_F16 ? tp_f32x8_of_f16(_mm_loadu_si128((const __m128i *)p))
                                            : tp_f32x8_of_bf16(_mm_loadu_si128((const __m128i *)p)));
}
/* Whether all are finite in the type. */
INLINE bool vd_fits(tp_dtype type, vd x) {
    const __m256i bits = _mm256_and_si256(_mm256_castps_si256(_mm512_cvtpd_ps(x)), _mm256_set1_epi32(TP_ABS_BITS));
    return _mm256_cmplt_epi32_mask(bits, _mm256_set1_epi32((int)tp_merge_limit(type))) == 0xff;
}
INLINE void vd_store(tp_dtype type, char *p, vd x) {
    const __m256 narrow = _mm512_cvtpd_ps(x);
    if (type == TP_F32) _mm256_storeu_ps((float *)p, narrow);
    else _mm_storeu_si128((__m128i *)p, type == TP_F16 ? tp_f16_of_f32x8(narrow) : _mm256_cvtepi32_epi16(tp_wide_bf16_of_f32x8(narrow)));
}

#include "merge/body.h"
