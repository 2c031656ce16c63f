#include <immintrin.h>

#include "spmm/kernels.h"

#define TIER(name) name##__avx512

/* ---- lanes of f32 ---- */

typedef __m512 vf;
typedef __mmask16 vmask;
enum { LANES = 16, BLOCK_VECTORS = 4, BLOCK_PANEL = 64 };

static inline vmask mask_first(int64_t n) { return (vmask)((1u << n) - 1); }
static inline vf zero_f32(void) { return _mm512_setzero_ps(); }
static inline vf load_f32(const float *p) { return _mm512_loadu_ps(p); }
static inline vf load_mask(const float *p, vmask m) { return _mm512_maskz_loadu_ps(m, p); }
static inline void store_f32(float *p, vf x) { _mm512_storeu_ps(p, x); }
static inline void store_mask(float *p, vmask m, vf x) { _mm512_mask_storeu_ps(p, m, x); }
static inline vf all_f32(float x) { return _mm512_set1_ps(x); }
static inline vf fma_f32(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf add_f32(vf a, vf b) { return _mm512_add_ps(a, b); }

/* ---- int8: a group of columns is two vectors of int32 ---- */

typedef __m512i vi;
typedef __m256i bytes;
typedef __mmask32 part;
enum { GROUP = 32, BLOCK_GROUPS = 2 };

static inline vi zero_i32(void) { return _mm512_setzero_si512(); }
static inline vi load_i32(const void *p) { return _mm512_loadu_si512(p); }
static inline void store_i32(void *p, vi x) { _mm512_storeu_si512(p, x); }
static inline vi all_i32(int32_t x) { return _mm512_set1_epi32(x); }
static inline vi add_i32(vi a, vi b) { return _mm512_add_epi32(a, b); }
static inline vi mul_i32(vi a, vi b) { return _mm512_mullo_epi32(a, b); }
static inline vi add_pairs(vi sum, vi a, vi b) { return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b)); }
static inline vi widen_i8(const int8_t *p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)); }
static inline bytes load_group(const int8_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline bytes load_part(const int8_t *p, part m) { return _mm256_maskz_loadu_epi8(m, p); }

/* Words of both, column by column: columns 0..7 and 16..23, and the others. */
static inline void pair_bytes(bytes x, bytes y, vi *low, vi *high) {
    *low = _mm512_cvtepi8_epi16(_mm256_unpacklo_epi8(x, y));
    *high = _mm512_cvtepi8_epi16(_mm256_unpackhi_epi8(x, y));
}

/* Columns 0..15 are in the lower halves, 16..31 in the upper ones. */
static inline void store_group(uint32_t *p, vi low, vi high) {
    _mm512_storeu_si512(p, _mm512_shuffle_i64x2(low, high, 0x44));
    _mm512_storeu_si512(p + 16, _mm512_shuffle_i64x2(low, high, 0xee));
}

/* The next columns of a panel: `groups` groups from `start` on, of which `width` columns from j on are new. */
static inline void plan_groups(int64_t n, int64_t j, int64_t most, int64_t *start, int64_t *width, int64_t *groups,
                               part *last) {
    const int64_t left = n - j < most * GROUP ? n - j : most * GROUP;
    *start = j;
    *width = left;
    *groups = (left + GROUP - 1) / GROUP;
    const int64_t rest = left - (*groups - 1) * GROUP;
    *last = (part)((UINT64_C(1) << rest) - 1);
}

/* ---- columns ---- */

static inline vi load_mask_i32(const void *p, vmask m) { return _mm512_maskz_loadu_epi32(m, p); }
static inline int64_t count_below(vi columns, uint32_t limit) {
    return __builtin_popcount(_mm512_cmplt_epu32_mask(columns, _mm512_set1_epi32((int32_t)limit)));
}

static inline vi sum_lanes(vi x) {
    const vi quads = _mm512_setr_epi32(0, 0, 0, 0, 3, 3, 3, 3, 0, 0, 0, 0, 11, 11, 11, 11);
    x = _mm512_add_epi32(x, _mm512_slli_epi64(x, 32));
    x = _mm512_add_epi32(x, _mm512_maskz_shuffle_epi32(0xcccc, x, 0x50));
    x = _mm512_add_epi32(x, _mm512_maskz_permutexvar_epi32(0xf0f0, quads, x));
    return _mm512_add_epi32(x, _mm512_maskz_permutexvar_epi32(0xff00, _mm512_set1_epi32(7), x));
}

/* The columns of the next `left` units, two vectors of them at most, from their distances and the column before the first, in all
   lanes, which moves on. Lanes beyond have the last one. Sums of pairs need one sum over lanes, not two. */
static inline void next_pair(const uint16_t *distances, int64_t left, vi *before, vi *columns) {
    const vi low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __mmask32 m = left < 32 ? (1u << left) - 1 : 0xffffffff;
    const vi x = _mm512_maskz_loadu_epi16(m, distances);
    const vi odd = _mm512_srli_epi32(x, 16), even = _mm512_and_si512(x, _mm512_set1_epi32(0xffff));
    const vi to = _mm512_add_epi32(sum_lanes(_mm512_add_epi32(odd, even)), *before), from = _mm512_sub_epi32(to, odd);
    columns[0] = _mm512_permutex2var_epi32(from, low, to);
    columns[1] = _mm512_permutex2var_epi32(from, _mm512_add_epi32(low, _mm512_set1_epi32(8)), to);
    *before = _mm512_permutexvar_epi32(_mm512_set1_epi32(15), to);
}

/* Of 8 groups of four columns: the columns of the 16 values, from their positions. */
static inline __m512i positions(uint32_t nibbles) {
    const __m512i shifts = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i base = _mm512_setr_epi32(0, 0, 4, 4, 8, 8, 12, 12, 16, 16, 20, 20, 24, 24, 28, 28);
    const __m512i x = _mm512_srlv_epi32(_mm512_set1_epi32((int32_t)nibbles), shifts);
    return _mm512_or_si512(_mm512_and_si512(x, _mm512_set1_epi32(3)), base);
}

enum { POSITION_GROUPS = 8 };
static inline void store_positions(uint32_t *columns, uint32_t nibbles, uint32_t first) {
    _mm512_storeu_si512(columns, _mm512_add_epi32(positions(nibbles), _mm512_set1_epi32((int32_t)first)));
}

/* ---- n = 1 ---- */

/* Values at positions() of 8 groups, which begin at x. */
static inline vf pick_f32(const float *x, uint32_t nibbles) {
    return _mm512_permutex2var_ps(_mm512_loadu_ps(x), positions(nibbles), _mm512_loadu_ps(x + 16));
}

static inline vf gather_f32(const float *x, vi columns, vmask m) {
    return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), m, columns, x, 4);
}
static inline vf keep_f32(vf x, vmask m) { return _mm512_maskz_mov_ps(m, x); }

static inline vf join_f32(const __m128 *x) {
    const __m256 low = _mm256_insertf128_ps(_mm256_castps128_ps256(x[0]), x[1], 1);
    const __m256 high = _mm256_insertf128_ps(_mm256_castps128_ps256(x[2]), x[3], 1);
    return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}

/* 4 or 8 values, over and over. */
static inline vf repeat_f32(int n, const float *x) {
    return n == 4 ? _mm512_broadcast_f32x4(_mm_loadu_ps(x)) : _mm512_broadcast_f32x8(_mm256_loadu_ps(x));
}

static inline float reduce_half(__m256 x) {
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}
static inline float reduce_f32(vf x) {
    return reduce_half(_mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1)));
}

#include "spmm/vector.h"
