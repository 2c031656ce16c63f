#include <immintrin.h>
#include <string.h>

#include "spmm/kernels.h"

#define TIER(name) name##__avx2

/* ---- lanes of f32 ---- */

typedef __m256 vf;
typedef __m256i vmask;
enum { LANES = 8, BLOCK_VECTORS = 2, BLOCK_PANEL = 128 };

static inline vmask mask_first(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vf zero_f32(void) { return _mm256_setzero_ps(); }
static inline vf load_f32(const float *p) { return _mm256_loadu_ps(p); }
static inline vf load_mask(const float *p, vmask m) { return _mm256_maskload_ps(p, m); }
static inline void store_f32(float *p, vf x) { _mm256_storeu_ps(p, x); }
static inline void store_mask(float *p, vmask m, vf x) { _mm256_maskstore_ps(p, m, x); }
static inline vf all_f32(float x) { return _mm256_set1_ps(x); }
static inline vf fma_f32(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf add_f32(vf a, vf b) { return _mm256_add_ps(a, b); }

/* ---- int8: a group of columns is two vectors of int32 ---- */

typedef __m256i vi;
typedef __m128i bytes;
typedef int64_t part;
enum { GROUP = 16, BLOCK_GROUPS = 1 };

static inline vi zero_i32(void) { return _mm256_setzero_si256(); }
static inline vi load_i32(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline void store_i32(void *p, vi x) { _mm256_storeu_si256((__m256i *)p, x); }
static inline vi all_i32(int32_t x) { return _mm256_set1_epi32(x); }
static inline vi add_i32(vi a, vi b) { return _mm256_add_epi32(a, b); }
static inline vi mul_i32(vi a, vi b) { return _mm256_mullo_epi32(a, b); }
static inline vi add_pairs(vi sum, vi a, vi b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
static inline vi widen_i8(const int8_t *p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)); }
static inline bytes load_group(const int8_t *p) { return _mm_loadu_si128((const __m128i *)p); }

/* Fewer bytes than a group: there are no masks for bytes. */
static inline bytes load_part(const int8_t *p, part n) {
    if (n == GROUP) return load_group(p);
    int8_t x[GROUP] = {0};
    memcpy(x, p, (size_t)n);
    return load_group(x);
}

/* Words of both, column by column: columns 0..7, and the others. */
static inline void pair_bytes(bytes x, bytes y, vi *low, vi *high) {
    *low = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(x, y));
    *high = _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(x, y));
}

static inline void store_group(uint32_t *p, vi low, vi high) {
    store_i32(p, low);
    store_i32(p + 8, high);
}

/* The next columns of a panel: `groups` groups from `start` on, of which `width` columns from j on are new. The last
   group reaches back over columns that are done already, if there are enough. */
static inline void plan_groups(int64_t n, int64_t j, int64_t most, int64_t *start, int64_t *width, int64_t *groups,
                               part *last) {
    const int64_t left = n - j;
    *last = GROUP;
    *start = j;
    if (left >= GROUP) {
        *groups = left / GROUP < most ? left / GROUP : most;
        *width = *groups * GROUP;
        return;
    }
    *groups = 1;
    *width = left;
    if (n >= GROUP)
        *start = n - GROUP;
    else
        *last = n;
}

/* ---- columns ---- */

static inline vi load_mask_i32(const void *p, vmask m) { return _mm256_maskload_epi32(p, m); }
static inline int64_t count_below(vi columns, uint32_t limit) {
    const vi below = _mm256_cmpeq_epi32(_mm256_min_epu32(columns, _mm256_set1_epi32((int32_t)(limit - 1))), columns);
    return __builtin_popcount((uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(below)));
}

static inline vi sum_lanes(vi x) {
    x = _mm256_add_epi32(x, _mm256_slli_epi64(x, 32));
    x = _mm256_add_epi32(x, _mm256_blend_epi32(_mm256_setzero_si256(), _mm256_shuffle_epi32(x, 0x50), 0xcc));
    const vi low = _mm256_permutevar8x32_epi32(x, _mm256_set1_epi32(3));
    return _mm256_add_epi32(x, _mm256_blend_epi32(_mm256_setzero_si256(), low, 0xf0));
}

/* The columns of the next `left` units, two vectors of them at most, from their distances and the column before the first, in all
   lanes, which moves on. Lanes beyond have the last one. Sums of pairs need one sum over lanes, not two. */
static inline void next_pair(const uint16_t *distances, int64_t left, vi *before, vi *columns) {
    uint16_t rest[16] = {0};
    if (left < 16) {
        memcpy(rest, distances, (size_t)left * sizeof *rest);
        distances = rest;
    }
    const vi x = load_i32(distances);
    const vi odd = _mm256_srli_epi32(x, 16), even = _mm256_and_si256(x, _mm256_set1_epi32(0xffff));
    const vi to = _mm256_add_epi32(sum_lanes(_mm256_add_epi32(odd, even)), *before), from = _mm256_sub_epi32(to, odd);
    const vi low = _mm256_unpacklo_epi32(from, to), high = _mm256_unpackhi_epi32(from, to);
    columns[0] = _mm256_permute2x128_si256(low, high, 0x20);
    columns[1] = _mm256_permute2x128_si256(low, high, 0x31);
    *before = _mm256_permutevar8x32_epi32(to, _mm256_set1_epi32(7));
}

/* Of 4 groups of four columns: the columns of the 8 values, from their positions. */
static inline __m256i positions(uint32_t nibbles) {
    const __m256i x = _mm256_srlv_epi32(_mm256_set1_epi32((int32_t)nibbles), _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
    return _mm256_or_si256(_mm256_and_si256(x, _mm256_set1_epi32(3)), _mm256_setr_epi32(0, 0, 4, 4, 8, 8, 12, 12));
}

enum { POSITION_GROUPS = 4 };
static inline void store_positions(uint32_t *columns, uint32_t nibbles, uint32_t first) {
    store_i32(columns, _mm256_add_epi32(positions(nibbles), _mm256_set1_epi32((int32_t)first)));
}

/* ---- n = 1 ---- */

/* Values at positions() of 4 groups, which begin at x. */
static inline vf pick_f32(const float *x, uint32_t nibbles) {
    const __m256i at = positions(nibbles); /* of which the permutations take the lower three bits */
    const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(x), at);
    return _mm256_blend_ps(low, _mm256_permutevar8x32_ps(_mm256_loadu_ps(x + 8), at), 0xf0);
}

static inline vf gather_f32(const float *x, vi columns, vmask m) {
    return _mm256_mask_i32gather_ps(_mm256_setzero_ps(), x, columns, _mm256_castsi256_ps(m), 4);
}
static inline vf keep_f32(vf x, vmask m) { return _mm256_and_ps(x, _mm256_castsi256_ps(m)); }

static inline vf join_f32(const __m128 *x) { return _mm256_insertf128_ps(_mm256_castps128_ps256(x[0]), x[1], 1); }

/* 4 or 8 values, over and over. */
static inline vf repeat_f32(int n, const float *x) {
    return n == 4 ? _mm256_broadcast_ps((const __m128 *)x) : _mm256_loadu_ps(x);
}

static inline float reduce_half(__m256 x) {
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}
static inline float reduce_f32(vf x) { return reduce_half(x); }

#include "spmm/vector.h"
