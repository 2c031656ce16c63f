/* AVX2, FMA, F16C: two registers hold the 16 lanes of vector.h. */
#include "core/convert.h"
#include "quantize/kernels.h"
#include "quantize/scalar.h"
#include "quantize/shared_nibble.h"

#define TP_VARIANT(name) tp_##name##__avx2
#define INLINE static inline __attribute__((always_inline))

typedef struct vf { __m256 a, b; } vf;
typedef struct vi { __m256i a, b; } vi;
typedef struct vd { __m256d a, b, c, d; } vd;
typedef struct vb { __m256i a, b; } vb; /* 64 bytes */

/* Lanes below n of a register; n may lie outside 0..8. */
INLINE __m256i first_lanes(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* Loads are from any address. */
INLINE vf vf_set(float x) { return (vf){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
INLINE vf vf_load(const void *p) {
    const char *from = p;
    return (vf){_mm256_loadu_ps((const float *)from), _mm256_loadu_ps((const float *)(from + 32))};
}
INLINE void vf_store(float *p, vf x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
INLINE void vf_store_part(float *p, vf x, int64_t n) {
    _mm256_maskstore_ps(p, first_lanes(n), x.a);
    if (n > 8) _mm256_maskstore_ps(p + 8, first_lanes(n - 8), x.b);
}
INLINE vf vf_add(vf x, vf y) { return (vf){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
INLINE vf vf_sub(vf x, vf y) { return (vf){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
INLINE vf vf_mul(vf x, vf y) { return (vf){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
INLINE vf vf_fma(vf x, vf y, vf z) {
    return (vf){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
INLINE vf vf_div(vf x, vf y) { return (vf){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
INLINE vf vf_min(vf x, vf y) { return (vf){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
INLINE vf vf_max(vf x, vf y) { return (vf){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
INLINE __m256 round8(__m256 x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE vf vf_round(vf x) { return (vf){round8(x.a), round8(x.b)}; }
INLINE __m256 ordered8(__m256 x) { return _mm256_and_ps(x, _mm256_cmp_ps(x, x, _CMP_ORD_Q)); }
INLINE vf vf_nan_to_zero(vf x) { return (vf){ordered8(x.a), ordered8(x.b)}; }
INLINE __m256 if_zero8(__m256 x, __m256 y, __m256 z) {
    return _mm256_blendv_ps(z, y, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_EQ_OQ));
}
/* y where x == 0, else z. */
INLINE vf vf_if_zero(vf x, vf y, vf z) { return (vf){if_zero8(x.a, y.a, z.a), if_zero8(x.b, y.b, z.b)}; }
INLINE float vf_hmin(vf x) {
    const __m256 x8 = _mm256_min_ps(x.a, x.b);
    const __m128 x4 = _mm_min_ps(_mm256_castps256_ps128(x8), _mm256_extractf128_ps(x8, 1));
    const __m128 x2 = _mm_min_ps(x4, _mm_movehl_ps(x4, x4));
    return _mm_cvtss_f32(_mm_min_ss(x2, _mm_movehdup_ps(x2)));
}
INLINE float vf_hmax(vf x) {
    const __m256 x8 = _mm256_max_ps(x.a, x.b);
    const __m128 x4 = _mm_max_ps(_mm256_castps256_ps128(x8), _mm256_extractf128_ps(x8, 1));
    const __m128 x2 = _mm_max_ps(x4, _mm_movehl_ps(x4, x4));
    return _mm_cvtss_f32(_mm_max_ss(x2, _mm_movehdup_ps(x2)));
}

INLINE vi vi_zero(void) { return (vi){_mm256_setzero_si256(), _mm256_setzero_si256()}; }
INLINE vi vi_of(vf x) { return (vi){_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
INLINE vi vi_of_bits(vf x) { return (vi){_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
INLINE vi vi_set(int32_t x) { return (vi){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
INLINE vi vi_and(vi x, vi y) { return (vi){_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)}; }
INLINE vi vi_add(vi x, vi y) { return (vi){_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
INLINE vi vi_max(vi x, vi y) { return (vi){_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)}; }
INLINE __m256i abs8(__m256 x) { return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(TP_ABS_BITS)); }
/* The larger of acc and the bits of |x|; as integers, so that NaN and infinity come out largest. */
INLINE vi vi_max_abs(vi acc, vf x) {
    return (vi){_mm256_max_epi32(acc.a, abs8(x.a)), _mm256_max_epi32(acc.b, abs8(x.b))};
}
INLINE int32_t vi_hmax(vi x) {
    const __m256i x8 = _mm256_max_epi32(x.a, x.b);
    const __m128i x4 = _mm_max_epi32(_mm256_castsi256_si128(x8), _mm256_extracti128_si256(x8, 1));
    const __m128i x2 = _mm_max_epi32(x4, _mm_shuffle_epi32(x4, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(x2, _mm_shuffle_epi32(x2, 0xb1)));
}
INLINE vf vf_of_bits(vi x) { return (vf){_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }
INLINE __m128i bytes_of(vi x) {
    const __m256i low = _mm256_set1_epi32(0xff);
    const __m256i words = _mm256_packus_epi32(_mm256_and_si256(x.a, low), _mm256_and_si256(x.b, low));
    const __m256i ordered = _mm256_permute4x64_epi64(words, 0xd8);
    return _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
}
INLINE void vi_store_bytes(uint8_t *p, vi x) { _mm_storeu_si128((__m128i *)p, bytes_of(x)); }
INLINE __m256i min_words(vi x, vi y) { return _mm256_min_epu16(_mm256_min_epu16(x.a, x.b), _mm256_min_epu16(y.a, y.b)); }
/* Whether the lower half of any lane is below 8. */
INLINE bool any_low_half_below_8(vi a, vi b, vi c, vi d) {
    const __m256i smallest = _mm256_min_epu16(min_words(a, b), min_words(c, d));
    const __m256i below = _mm256_cmpeq_epi32(_mm256_and_si256(smallest, _mm256_set1_epi32(0xfff8)), _mm256_setzero_si256());
    return _mm256_movemask_epi8(below) != 0;
}
INLINE __m256i upper_halves(vi x) { return _mm256_packs_epi32(_mm256_srai_epi32(x.a, 16), _mm256_srai_epi32(x.b, 16)); }
INLINE __m256i bytes_of_upper_halves(vi x, vi y) {
    const __m256i bytes = _mm256_packus_epi16(upper_halves(x), upper_halves(y));
    return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
/* The upper halves of the lanes, in order, saturated to unsigned bytes. */
INLINE vb vb_of_upper_halves(vi a, vi b, vi c, vi d) {
    return (vb){bytes_of_upper_halves(a, b), bytes_of_upper_halves(c, d)};
}
INLINE vb vb_set(uint8_t x) { return (vb){_mm256_set1_epi8((char)x), _mm256_set1_epi8((char)x)}; }
INLINE vb vb_clamp(vb x, vb low, vb high) {
    return (vb){_mm256_min_epu8(_mm256_max_epu8(x.a, low.a), high.a), _mm256_min_epu8(_mm256_max_epu8(x.b, low.b), high.b)};
}
INLINE vb vb_xor(vb x, vb y) { return (vb){_mm256_xor_si256(x.a, y.a), _mm256_xor_si256(x.b, y.b)}; }
INLINE void vb_store(uint8_t *p, vb x) {
    _mm256_storeu_si256((__m256i *)p, x.a);
    _mm256_storeu_si256((__m256i *)p + 1, x.b);
}
/* To a 64-byte boundary, past the caches. */
INLINE void vb_stream(uint8_t *p, vb x) {
    _mm256_stream_si256((__m256i *)p, x.a);
    _mm256_stream_si256((__m256i *)p + 1, x.b);
}
INLINE vb vb_load(const uint8_t *p) {
    return (vb){_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)p + 1)};
}
INLINE vf vf_of_i8(const uint8_t *p) {
    return (vf){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p))),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8))))};
}
INLINE vf vf_of_u8(const uint8_t *p) {
    return (vf){_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p))),
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8))))};
}

INLINE vf vf_of_f16_bits(__m256i h) {
    return (vf){tp_f32x8_of_f16(_mm256_castsi256_si128(h)), tp_f32x8_of_f16(_mm256_extracti128_si256(h, 1))};
}
INLINE vf vf_of_bf16_bits(__m256i h) {
    return (vf){tp_f32x8_of_bf16(_mm256_castsi256_si128(h)), tp_f32x8_of_bf16(_mm256_extracti128_si256(h, 1))};
}
INLINE vf vf_load_f16(const void *p) { return vf_of_f16_bits(_mm256_loadu_si256((const __m256i *)p)); }
INLINE vf vf_load_bf16(const void *p) { return vf_of_bf16_bits(_mm256_loadu_si256((const __m256i *)p)); }
INLINE vf vf_load_part(const void *p, int64_t n) {
    const float *second = (const float *)((const char *)p + 32);
    const __m256 high = n > 8 ? _mm256_maskload_ps(second, first_lanes(n - 8)) : _mm256_setzero_ps();
    return (vf){_mm256_maskload_ps(p, first_lanes(n)), high};
}
INLINE __m256i load_words_part(const void *p, int64_t n) {
    uint16_t copy[16] = {0};
    memcpy(copy, p, (size_t)n * 2);
    return _mm256_loadu_si256((const __m256i *)copy);
}
INLINE vf vf_load_f16_part(const void *p, int64_t n) { return vf_of_f16_bits(load_words_part(p, n)); }
INLINE vf vf_load_bf16_part(const void *p, int64_t n) { return vf_of_bf16_bits(load_words_part(p, n)); }
INLINE __m256i f16_bits_of(vf x) { return _mm256_set_m128i(tp_f16_of_f32x8(x.b), tp_f16_of_f32x8(x.a)); }
INLINE __m256i bf16_bits_of(vf x) {
    const __m256i pairs = _mm256_packus_epi32(tp_wide_bf16_of_f32x8(x.a), tp_wide_bf16_of_f32x8(x.b));
    return _mm256_permute4x64_epi64(pairs, 0xd8);
}

INLINE vd vd_zero(void) {
    const __m256d zero = _mm256_setzero_pd();
    return (vd){zero, zero, zero, zero};
}
INLINE vd vd_of(vf x) {
    return (vd){_mm256_cvtps_pd(_mm256_castps256_ps128(x.a)), _mm256_cvtps_pd(_mm256_extractf128_ps(x.a, 1)),
                _mm256_cvtps_pd(_mm256_castps256_ps128(x.b)), _mm256_cvtps_pd(_mm256_extractf128_ps(x.b, 1))};
}
INLINE vd vd_load(const double *p) {
    return (vd){_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4), _mm256_loadu_pd(p + 8), _mm256_loadu_pd(p + 12)};
}
INLINE void vd_store(double *p, vd x) {
    _mm256_storeu_pd(p, x.a);
    _mm256_storeu_pd(p + 4, x.b);
    _mm256_storeu_pd(p + 8, x.c);
    _mm256_storeu_pd(p + 12, x.d);
}
#define VD_EACH(op, x, y) ((vd){op(x.a, y.a), op(x.b, y.b), op(x.c, y.c), op(x.d, y.d)})
INLINE vd vd_add(vd x, vd y) { return VD_EACH(_mm256_add_pd, x, y); }
INLINE vd vd_sub(vd x, vd y) { return VD_EACH(_mm256_sub_pd, x, y); }
INLINE vd vd_mul(vd x, vd y) { return VD_EACH(_mm256_mul_pd, x, y); }
INLINE vd vd_infinite(void) {
    const __m256d x = _mm256_set1_pd((double)tp_float(TP_INF_BITS));
    return (vd){x, x, x, x};
}
/* The smaller one; acc where x is NaN. */
INLINE vd vd_min(vd x, vd acc) { return VD_EACH(_mm256_min_pd, x, acc); }
INLINE double vd_hmin(vd x) {
    const __m256d x4 = _mm256_min_pd(_mm256_min_pd(x.a, x.c), _mm256_min_pd(x.b, x.d));
    const __m128d x2 = _mm_min_pd(_mm256_castpd256_pd128(x4), _mm256_extractf128_pd(x4, 1));
    return _mm_cvtsd_f64(_mm_min_sd(x2, _mm_unpackhi_pd(x2, x2)));
}
INLINE uint32_t equal4(__m256d x, double y) {
    return (uint32_t)_mm256_movemask_pd(_mm256_cmp_pd(x, _mm256_set1_pd(y), _CMP_EQ_OQ));
}
/* Bit i is set where lane i equals y. */
INLINE uint32_t vd_equal(vd x, double y) {
    return equal4(x.d, y) << 12 | equal4(x.c, y) << 8 | equal4(x.b, y) << 4 | equal4(x.a, y);
}
INLINE __m256d max_abs4(__m256d acc, __m256d x) {
    return _mm256_max_pd(_mm256_andnot_pd(_mm256_set1_pd(-0.0), x), acc);
}
/* The larger of acc and |x|; acc where x is NaN. */
INLINE vd vd_max_abs(vd acc, vd x) { return VD_EACH(max_abs4, acc, x); }
/* Sums lanes 8, 4, 2 and 1 apart: the order of tp_quantize_error__ref. */
INLINE double vd_sum(vd x) {
    const __m256d x4 = _mm256_add_pd(_mm256_add_pd(x.a, x.c), _mm256_add_pd(x.b, x.d));
    const __m128d x2 = _mm_add_pd(_mm256_castpd256_pd128(x4), _mm256_extractf128_pd(x4, 1));
    return _mm_cvtsd_f64(_mm_add_sd(x2, _mm_unpackhi_pd(x2, x2)));
}
INLINE double vd_hmax(vd x) {
    const __m256d x4 = _mm256_max_pd(_mm256_max_pd(x.a, x.c), _mm256_max_pd(x.b, x.d));
    const __m128d x2 = _mm_max_pd(_mm256_castpd256_pd128(x4), _mm256_extractf128_pd(x4, 1));
    return _mm_cvtsd_f64(_mm_max_sd(x2, _mm_unpackhi_pd(x2, x2)));
}

#include "quantize/vector.h"
