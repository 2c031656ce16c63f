#include <immintrin.h>

#include "core/convert.h"
#include "merge/kernels.h"
#include "merge/scalar.h"

#define TP_VARIANT(name) tp_##name##__avx2
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 4 };
typedef __m256d vd;
typedef __m256d vm;

INLINE vd vd_set(double x) { return _mm256_set1_pd(x); }
INLINE vd vd_add(vd x, vd y) { return _mm256_add_pd(x, y); }
INLINE vd vd_sub(vd x, vd y) { return _mm256_sub_pd(x, y); }
INLINE vd vd_mul(vd x, vd y) { return _mm256_mul_pd(x, y); }
INLINE vd vd_div(vd x, vd y) { return _mm256_div_pd(x, y); }
INLINE vd vd_abs(vd x) { return _mm256_andnot_pd(_mm256_set1_pd(-0.0), x); }
INLINE vd vd_round(vd x) { return _mm256_cvtps_pd(_mm256_cvtpd_ps(x)); } /* to f32 */
INLINE vm vd_less(vd x, vd y) { return _mm256_cmp_pd(x, y, _CMP_LT_OQ); }
INLINE vm vd_equal(vd x, vd y) { return _mm256_cmp_pd(x, y, _CMP_EQ_OQ); }
INLINE bool vd_all(vm m) { return _mm256_movemask_pd(m) == 15; }
INLINE vd vd_select(vm m, vd x, vd y) { return _mm256_blendv_pd(y, x, m); }
INLINE void vd_put(double *p, vd x) { _mm256_storeu_pd(p, x); }
/* Unsigned numbers: with the highest bit turned they are 2^31 less. */
INLINE vd vd_of_words(const uint32_t *p) {
    const __m128i turned = _mm_xor_si128(_mm_loadu_si128((const __m128i *)p), _mm_set1_epi32(INT32_MIN));
    return _mm256_add_pd(_mm256_cvtepi32_pd(turned), _mm256_set1_pd(0x1p31));
}
INLINE vd vd_load(tp_dtype type, const char *p) {
    return _mm256_cvtps_pd(type == TP_F32   ? _mm_loadu_ps((const float *)p)
                           : type == TP_F16 ? tp_f32x4_of_f16(_mm_loadl_epi64((const __m128i *)p))
                                            : tp_f32x4_of_bf16(_mm_loadl_epi64((const __m128i *)p)));
}
/* Whether all are finite in the type. */
INLINE bool vd_fits(tp_dtype type, vd x) {
    const __m128i bits = _mm_and_si128(_mm_castps_si128(_mm256_cvtpd_ps(x)), _mm_set1_epi32(TP_ABS_BITS));
    return _mm_movemask_epi8(_mm_cmplt_epi32(bits, _mm_set1_epi32((int)tp_merge_limit(type)))) == 0xffff;
}
INLINE void vd_store(tp_dtype type, char *p, vd x) {
    const __m128 narrow = _mm256_cvtpd_ps(x);
    if (type == TP_F32) {
        _mm_storeu_ps((float *)p, narrow);
    } else if (type == TP_F16) {
        _mm_storel_epi64((__m128i *)p, _mm_cvtps_ph(narrow, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    } else {
        const __m128i wide = _mm256_castsi256_si128(tp_wide_bf16_of_f32x8(_mm256_castps128_ps256(narrow)));
        _mm_storel_epi64((__m128i *)p, _mm_packus_epi32(wide, wide));
    }
}

#include "merge/body.h"
