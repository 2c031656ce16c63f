/*
 * Conversions of several floats at once, with the bits of those in scalar.h: a signalling NaN becomes quiet. Only files of
 * the tiers avx2 and avx512 include this one.
 */
#ifndef TP_CORE_CONVERT_H
#define TP_CORE_CONVERT_H

#include <immintrin.h>

#include "core/scalar.h"

#define TP_CONVERSION static inline __attribute__((always_inline))

TP_CONVERSION __m128 tp_f32x4_of_f16(__m128i h) { return _mm_cvtph_ps(h); }
TP_CONVERSION __m256 tp_f32x8_of_f16(__m128i h) { return _mm256_cvtph_ps(h); }
TP_CONVERSION __m128i tp_f16_of_f32x8(__m256 x) { return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

/* A signalling NaN stays one: for sums, which make it quiet. */
TP_CONVERSION __m128 tp_f32x4_of_bf16(__m128i h) { return _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), h)); }

TP_CONVERSION __m256 tp_f32x8_of_bf16(__m128i h) {
    const __m256i x = _mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16);
    const __m256i nan = _mm256_cmpgt_epi32(_mm256_and_si256(x, _mm256_set1_epi32(TP_ABS_BITS)),
                                           _mm256_set1_epi32(TP_INF_BITS));
    return _mm256_castsi256_ps(_mm256_or_si256(x, _mm256_and_si256(nan, _mm256_set1_epi32(0x400000))));
}

/* Each in the lower half of 32 bits. */
TP_CONVERSION __m256i tp_wide_bf16_of_f32x8(__m256 x) {
    const __m256i bits = _mm256_castps_si256(x), high = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(_mm256_srli_epi32(up, 16), _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
}

#ifdef __AVX512BW__
TP_CONVERSION __m512 tp_f32x16_of_f16(__m256i h) { return _mm512_cvtph_ps(h); }
TP_CONVERSION __m256i tp_f16_of_f32x16(__m512 x) { return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

TP_CONVERSION __m512 tp_f32x16_of_bf16(__m256i h) {
    const __m512i x = _mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16);
    const __mmask16 nan = _mm512_cmpgt_epi32_mask(_mm512_and_si512(x, _mm512_set1_epi32(TP_ABS_BITS)),
                                                  _mm512_set1_epi32(TP_INF_BITS));
    return _mm512_castsi512_ps(_mm512_mask_or_epi32(x, nan, x, _mm512_set1_epi32(0x400000)));
}

TP_CONVERSION __m256i tp_bf16_of_f32x16(__m512 x) {
    const __m512i bits = _mm512_castps_si512(x), high = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const __m512i rounded = _mm512_srli_epi32(up, 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(rounded, nan, high, _mm512_set1_epi32(0x40)));
}
#endif

#endif
