#include <immintrin.h>
#include <stdbool.h>

#include "codebook/kernels.h"
#include "core/convert.h"

#define TP_VARIANT(name) tp_##name##__avx2
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8 };
typedef __m256 vf;
typedef __m256i vi;

INLINE vf v_set(float x) { return _mm256_set1_ps(x); }
INLINE vf v_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void v_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
INLINE vf v_load_as(tp_dtype type, const char *p) {
    if (type == TP_F32) return _mm256_loadu_ps((const float *)p);
    const __m128i half = _mm_loadu_si128((const __m128i *)p);
    return type == TP_F16 ? tp_f32x8_of_f16(half) : tp_f32x8_of_bf16(half);
}
INLINE vf v_sub(vf x, vf y) { return _mm256_sub_ps(x, y); }
INLINE vf v_fma(vf x, vf y, vf z) { return _mm256_fmadd_ps(x, y, z); }
INLINE vf v_min(vf x, vf y) { return _mm256_min_ps(x, y); }
INLINE void v_closer(vf distance, int32_t entry, vf *best, vi *index) {
    const vf closer = _mm256_cmp_ps(distance, *best, _CMP_LT_OQ);
    *best = _mm256_blendv_ps(*best, distance, closer);
    *index = _mm256_blendv_epi8(*index, _mm256_set1_epi32(entry), _mm256_castps_si256(closer));
}

/* The three levels at the root lie in one vector. */
INLINE vi v_search(const float *tree, int32_t bits, vf x) {
    const vf root = _mm256_loadu_ps(tree);
    vi node = _mm256_set1_epi32(1);
    for (int32_t level = 0; level < bits; level++) {
        const vf t = level < 3 ? _mm256_permutevar8x32_ps(root, node) : _mm256_i32gather_ps(tree, node, 4);
        /* -1 where larger */
        node = _mm256_sub_epi32(_mm256_add_epi32(node, node), _mm256_castps_si256(_mm256_cmp_ps(x, t, _CMP_GT_OQ)));
    }
    return _mm256_sub_epi32(node, _mm256_set1_epi32(1 << bits));
}
INLINE vi v_behind_zero(vf x, vi code) {
    const vi zero = _mm256_castps_si256(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_EQ_OQ));
    return _mm256_andnot_si256(zero, _mm256_add_epi32(code, _mm256_set1_epi32(1)));
}
INLINE vf v_lookup(const float *table, int32_t bits, vi code) {
    if (bits < 3 || bits > 4) return _mm256_i32gather_ps(table, code, 4);
    const vf low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), code);
    if (bits == 3) return low;
    const vf high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), code);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(code, 28)));
}

INLINE vi vi_set(int32_t x) { return _mm256_set1_epi32(x); }
INLINE void vi_store(int32_t *p, vi x) { _mm256_storeu_si256((__m256i *)p, x); }
INLINE vi vi_load_bytes(const uint8_t *p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)); }
INLINE void vi_store_bytes(uint8_t *p, vi x) {
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(words, words));
}

#include "codebook/body.h"
