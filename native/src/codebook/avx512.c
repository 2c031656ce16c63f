#include <immintrin.h>
#include <stdbool.h>

#include "codebook/kernels.h"
#include "core/convert.h"

#define TP_VARIANT(name) tp_##name##__avx512
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16 };
typedef __m512 vf;
typedef __m512i vi;

INLINE vf v_set(float x) { return _mm512_set1_ps(x); }
INLINE vf v_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void v_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
INLINE vf v_load_as(tp_dtype type, const char *p) {
    if (type == TP_F32) return _mm512_loadu_ps(p);
    const __m256i half = _mm256_loadu_si256((const __m256i *)p);
    return type == TP_F16 ? tp_f32x16_of_f16(half) : tp_f32x16_of_bf16(half);
}
INLINE vf v_sub(vf x, vf y) { return _mm512_sub_ps(x, y); }
INLINE vf v_fma(vf x, vf y, vf z) { return _mm512_fmadd_ps(x, y, z); }
INLINE vf v_min(vf x, vf y) { return _mm512_min_ps(x, y); }
INLINE void v_closer(vf distance, int32_t entry, vf *best, vi *index) {
    const __mmask16 closer = _mm512_cmp_ps_mask(distance, *best, _CMP_LT_OQ);
    *best = _mm512_mask_mov_ps(*best, closer, distance);
    *index = _mm512_mask_mov_epi32(*index, closer, _mm512_set1_epi32(entry));
}

/* The first 2^bits numbers, by index. More than 128 are gathered. */
INLINE vf v_select(const float *table, int32_t bits, vi index) {
    if (bits > 7) return _mm512_i32gather_ps(index, table, 4);
    if (bits < 4) return _mm512_permutexvar_ps(index, _mm512_maskz_loadu_ps((__mmask16)((1u << (1 << bits)) - 1), table));
    if (bits == 4) return _mm512_permutexvar_ps(index, _mm512_loadu_ps(table));
    vf found = _mm512_permutex2var_ps(_mm512_loadu_ps(table), index, _mm512_loadu_ps(table + 16));
    for (int32_t part = 1; part < 1 << (bits - 5); part++) {
        const __mmask16 here = _mm512_cmpeq_epi32_mask(_mm512_srli_epi32(index, 5), _mm512_set1_epi32(part));
        found = _mm512_mask_mov_ps(found, here,
                                   _mm512_permutex2var_ps(_mm512_loadu_ps(table + 32 * part), index, _mm512_loadu_ps(table + 32 * part + 16)));
    }
    return found;
}

/* Nodes of level l are among the first 2^(l + 1). */
INLINE vi v_search(const float *tree, int32_t bits, vf x) {
    vi node = _mm512_set1_epi32(1);
    for (int32_t level = 0; level < bits; level++) {
        const vf t = level < 4   ? _mm512_permutexvar_ps(node, _mm512_loadu_ps(tree))
                     : level < 6 ? v_select(tree, level + 1, node)
                                 : _mm512_i32gather_ps(node, tree, 4);
        const vi twice = _mm512_add_epi32(node, node);
        node = _mm512_mask_add_epi32(twice, _mm512_cmp_ps_mask(x, t, _CMP_GT_OQ), twice, _mm512_set1_epi32(1));
    }
    return _mm512_sub_epi32(node, _mm512_set1_epi32(1 << bits));
}
INLINE vi v_behind_zero(vf x, vi code) {
    return _mm512_maskz_add_epi32(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NEQ_UQ), code, _mm512_set1_epi32(1));
}
INLINE vf v_lookup(const float *table, int32_t bits, vi code) { return v_select(table, bits, code); }

INLINE vi vi_set(int32_t x) { return _mm512_set1_epi32(x); }
INLINE void vi_store(int32_t *p, vi x) { _mm512_storeu_si512(p, x); }
INLINE vi vi_load_bytes(const uint8_t *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)); }
INLINE void vi_store_bytes(uint8_t *p, vi x) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(x)); }

#include "codebook/body.h"
