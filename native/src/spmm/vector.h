/*
 * The loops of the vector tiers, over the lanes that the including file defines.
 *
 * CSR16, CSR32 and NM24 share all kernels: a chunk of a line becomes an array of columns, and rows of B, scaled, are
 * added up in registers for a panel of columns of out. Panels are the outermost loop, so that what is read of B stays in
 * the cache. No float's order of summation depends on chunks or panels.
 */
#include <string.h>

#include "core/dispatch.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

enum {
    CHUNK = 512,        /* units; a multiple of STEP */
    SUMS = 2,           /* vectors of sums for n = 1 */
    STEP = SUMS * LANES,
    VECTORS = 8,        /* of f32 in a panel */
    GROUPS = 4,         /* of int8 columns in a panel */
    BLOCK_ROWS = 4,     /* rows of a block that are summed together, over BLOCK_VECTORS or BLOCK_GROUPS */
    ROWS_AHEAD = 8,     /* how far rows of B are fetched before they are used */
    BLOCKS_AHEAD = 2
};

/* Arrays of a matrix, whether what is in work of B is in the second-level cache, and whether vectors may be gathered from it. */
typedef struct arrays {
    const tp_product *p;
    const int64_t *offsets;
    const void *indices, *values, *b;
    void *out;
    bool near, gathers;
} arrays;

static arrays arrays_of(const tp_product *p, const int64_t *offsets, const void *indices, const void *values, const void *b,
                        void *out) {
    /* A gather takes columns as signed. */
    const bool gathers = p->n == 1 && p->b_stride == 1 && p->a.cols <= INT32_MAX && tp_use_gathers();
    return (arrays){p, offsets, indices, values, b, out, false, gathers};
}

/* What becomes of a span's sum: out is it, it is added to out, or what is in out is where it starts. */
typedef enum mode { FRESH, ADD, RESUME } mode;

/* The units of a line that have columns below the limit, and the column before the first. */
typedef struct span {
    int64_t from, to, column, limit, line;
} span;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static span line_span(const arrays *a, int64_t line) {
    const int64_t cols = a->p->a.cols;
    if (a->p->a.layout == TP_SPARSE_NM24) {
        const int64_t units = tp_nm24_units(a->p);
        return (span){line * units, (line + 1) * units, 0, cols, line};
    }
    return (span){a->offsets[line], a->offsets[line + 1], 0, cols, line};
}

/* Its first segment. */
static span first_segment(const arrays *a, span s) {
    if (a->p->a.layout != TP_SPARSE_NM24) s.to = s.from + least(s.to - s.from, TP_SPMM_SEGMENT);
    return s;
}

/* How many of the ascending columns are below the limit, which is not 0. */
static int64_t columns_below(const uint32_t *columns, int64_t count, int64_t limit) {
    int64_t i = 0;
    while (i + LANES <= count && columns[i + LANES - 1] < limit) i += LANES;
    if (i == count) return count;
    const int64_t left = least(count - i, LANES); /* masked lanes are 0 */
    return i + count_below(load_mask_i32(columns + i, mask_first(left)), (uint32_t)limit) - (LANES - left);
}

/* The columns of the next `most` units, or those below the limit, and how many these are. *column is the one before, and moves
   on. */
static int64_t columns_csr16(const uint16_t *distances, int64_t most, int64_t limit, int64_t *column, uint32_t *columns) {
    vi before = all_i32((int32_t)*column), next[2];
    int64_t count = 0;
    while (count < most) {
        next_pair(distances + count, most - count, &before, next);
        store_i32(columns + count, next[0]);
        store_i32(columns + count + LANES, next[1]);
        if (columns[count + STEP - 1] >= limit) {
            count += count_below(next[0], (uint32_t)limit) + count_below(next[1], (uint32_t)limit);
            break;
        }
        count += STEP;
    }
    count = least(count, most);
    if (count) *column = columns[count - 1];
    return count;
}

/* The columns of the next units of a span, CHUNK at most, which is moved on, and ends where the limit is reached; `buffer`
   has room for CHUNK. Units beyond the last column, which NM24 may have, are left out. */
static int64_t next_columns(const arrays *a, span *s, uint32_t *buffer, const uint32_t **columns) {
    const int64_t from = s->from, most = least(s->to - from, CHUNK);
    int64_t count = most;
    *columns = buffer;
    if (a->p->a.layout != TP_SPARSE_NM24) {
        if (a->p->a.layout == TP_SPARSE_CSR32) {
            *columns = (const uint32_t *)a->indices + from;
            if (s->limit < a->p->a.cols) count = columns_below(*columns, most, s->limit);
        } else {
            count = columns_csr16((const uint16_t *)a->indices + from, most, s->limit, &s->column, buffer);
        }
        s->from += count;
        if (count < most) s->to = s->from;
        return count;
    }
    s->from += count;
    const int64_t units = tp_nm24_units(a->p), row_bytes = (units / 2 + 1) / 2, first = (from - s->line * units) / 2;
    const uint8_t *nibbles = (const uint8_t *)a->indices + s->line * row_bytes;
    for (int64_t i = 0; i < count; i += 2 * POSITION_GROUPS) {
        const int64_t group = first + i / 2;
        uint32_t word = 0;
        if (row_bytes - group / 2 >= POSITION_GROUPS / 2)
            memcpy(&word, nibbles + group / 2, POSITION_GROUPS / 2);
        else
            for (int64_t k = 0; k < row_bytes - group / 2; k++) word |= (uint32_t)nibbles[group / 2 + k] << 8 * k;
        store_positions(buffer + i, word, (uint32_t)(4 * group));
    }
    while (count && buffer[count - 1] >= a->p->a.cols) count--;
    return count;
}

/* ---- f32: entries ---- */

/* Vectors of a panel, and accumulators per vector: enough for the latency of the FMA. Unit i goes to set i % sets. */
INLINE int sets_of(int vectors) { return vectors <= 2 ? 4 : vectors <= 4 ? 2 : 1; }

INLINE void add_row(int vectors, bool masked, float value, const float *row, vmask mask, vf *sums) {
    const vf v = all_f32(value);
    UNROLL for (int k = 0; k < vectors; k++) {
        const vf x = masked && k == vectors - 1 ? load_mask(row + k * LANES, mask) : load_f32(row + k * LANES);
        sums[k] = fma_f32(v, x, sums[k]);
    }
}

INLINE void sum_rows(int vectors, bool masked, bool fetch, const uint32_t *columns, const float *values, int64_t count,
                     const float *b, int64_t stride, vmask mask, float *state) {
    const int sets = sets_of(vectors);
    vf sums[8];
    UNROLL for (int k = 0; k < sets * vectors; k++) sums[k] = load_f32(state + k * LANES);
    int64_t i = 0;
    for (; i + sets <= count; i += sets) {
        if (fetch) {
            const float *ahead = b + columns[least(i + ROWS_AHEAD, count - 1)] * stride;
            UNROLL for (int k = 0; k < vectors; k++) _mm_prefetch((const char *)(ahead + k * LANES), _MM_HINT_T0);
        }
        UNROLL for (int s = 0; s < sets; s++)
            add_row(vectors, masked, values[i + s], b + columns[i + s] * stride, mask, sums + s * vectors);
    }
    UNROLL for (int s = 0; s < sets - 1; s++)
        if (i + s < count) add_row(vectors, masked, values[i + s], b + columns[i + s] * stride, mask, sums + s * vectors);
    UNROLL for (int k = 0; k < sets * vectors; k++) store_f32(state + k * LANES, sums[k]);
}

typedef void rows_f32(const uint32_t *columns, const float *values, int64_t count, const float *b, int64_t stride,
                      vmask mask, float *state);
#define ROWS_F32(name, vectors, masked, fetch)                                                                        \
    static void name(const uint32_t *columns, const float *values, int64_t count, const float *b, int64_t stride,     \
                     vmask mask, float *state) {                                                                      \
        sum_rows(vectors, masked, fetch, columns, values, count, b, stride, mask, state);                             \
    }
ROWS_F32(rows_far, 8, false, true)
ROWS_F32(rows_near, 8, false, false)
ROWS_F32(rows_1, 1, true, false)
ROWS_F32(rows_2, 2, true, false)
ROWS_F32(rows_3, 3, true, false)
ROWS_F32(rows_4, 4, true, false)
ROWS_F32(rows_5, 5, true, false)
ROWS_F32(rows_6, 6, true, false)
ROWS_F32(rows_7, 7, true, false)
ROWS_F32(rows_8, 8, true, false)
static rows_f32 *const rows_f32_of[VECTORS + 1] = {0, rows_1, rows_2, rows_3, rows_4, rows_5, rows_6, rows_7, rows_8};

/* Columns [j, j + width) of a row's sum over a span of one segment, which is moved on. With RESUME there is one set only. */
static void span_f32(const arrays *a, span *s, int64_t j, int64_t width, mode mode, float *out) {
    const int vectors = (int)((width + LANES - 1) / LANES), sets = sets_of(vectors);
    const vmask mask = mask_first(width - (vectors - 1) * LANES);
    rows_f32 *const rows = width < VECTORS * LANES ? rows_f32_of[vectors] : a->near ? rows_near : rows_far;
    uint32_t buffer[CHUNK];
    float sums[8 * LANES], *state = mode != ADD && width == VECTORS * LANES ? out : sums;
    if (mode != RESUME)
        for (int k = 0; k < sets * vectors; k++) store_f32(state + k * LANES, zero_f32());
    else if (state != out)
        memcpy(state, out, (size_t)width * sizeof *out);
    while (s->from < s->to) {
        const float *values = (const float *)a->values + s->from;
        const uint32_t *columns;
        const int64_t count = next_columns(a, s, buffer, &columns);
        rows(columns, values, count, (const float *)a->b + j, a->p->b_stride, mask, state);
    }
    if (state == out) return;
    for (int k = 0; k < vectors; k++) {
        const int step = vectors * LANES;
        const float *from = state + k * LANES;
        vf sum = load_f32(from);
        if (sets > 1) sum = add_f32(sum, load_f32(from + step));
        if (sets > 2) sum = add_f32(sum, add_f32(load_f32(from + 2 * step), load_f32(from + 3 * step)));
        if (k == vectors - 1) {
            if (mode == ADD) sum = add_f32(load_mask(out + k * LANES, mask), sum);
            store_mask(out + k * LANES, mask, sum);
        } else {
            if (mode == ADD) sum = add_f32(load_f32(out + k * LANES), sum);
            store_f32(out + k * LANES, sum);
        }
    }
}

/* ---- int8: entries ---- */

INLINE void add_row_pair(int groups, int32_t pair, const int8_t *row, const int8_t *next, part last, vi *sums) {
    const vi v = all_i32(pair);
    UNROLL for (int k = 0; k < groups; k++) {
        const bool is_last = k == groups - 1;
        const bytes x = is_last ? load_part(row + k * GROUP, last) : load_group(row + k * GROUP);
        const bytes y = is_last ? load_part(next + k * GROUP, last) : load_group(next + k * GROUP);
        vi low, high;
        pair_bytes(x, y, &low, &high);
        sums[2 * k] = add_pairs(sums[2 * k], low, v);
        sums[2 * k + 1] = add_pairs(sums[2 * k + 1], high, v);
    }
}

INLINE int32_t pair_at(const int16_t *words) {
    int32_t pair;
    memcpy(&pair, words, sizeof pair);
    return pair;
}

/* Two units at a time: words has an even number of values, of which the last may be 0. */
INLINE void sum_row_pairs(int groups, const uint32_t *columns, const int16_t *words, int64_t count, const int8_t *b,
                          int64_t stride, part last, vi *state) {
    vi sums[8];
    UNROLL for (int k = 0; k < 2 * groups; k++) sums[k] = state[k];
    int64_t i = 0;
    for (; i + 2 <= count; i += 2)
        add_row_pair(groups, pair_at(words + i), b + columns[i] * stride, b + columns[i + 1] * stride, last, sums);
    if (i < count)
        add_row_pair(groups, pair_at(words + i), b + columns[i] * stride, b + columns[i] * stride, last, sums);
    UNROLL for (int k = 0; k < 2 * groups; k++) state[k] = sums[k];
}

typedef void rows_i8(const uint32_t *columns, const int16_t *words, int64_t count, const int8_t *b, int64_t stride,
                     part last, vi *state);
#define ROWS_I8(groups)                                                                                               \
    static void rows_i8_##groups(const uint32_t *columns, const int16_t *words, int64_t count, const int8_t *b,       \
                                 int64_t stride, part last, vi *state) {                                              \
        sum_row_pairs(groups, columns, words, count, b, stride, last, state);                                         \
    }
ROWS_I8(1)
ROWS_I8(2)
ROWS_I8(3)
ROWS_I8(4)
static rows_i8 *const rows_i8_of[GROUPS + 1] = {0, rows_i8_1, rows_i8_2, rows_i8_3, rows_i8_4};

/* `width` sums, of which the first `skip` are known already. */
static void put_i32(const uint32_t *sums, int64_t skip, int64_t width, bool add, uint32_t *out) {
    if (add)
        for (int64_t j = 0; j < width; j++) out[j] += sums[skip + j];
    else
        memcpy(out, sums + skip, (size_t)width * sizeof *out);
}

static void widen_values(const int8_t *values, int64_t count, int16_t *words) {
    int64_t i = 0;
    for (; i + 16 <= count; i += 16)
        _mm256_storeu_si256((__m256i *)(words + i), _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(values + i))));
    for (; i < count; i++) words[i] = values[i];
    words[i] = 0;
}

static void span_i8(const arrays *a, span s, int64_t start, int64_t groups, part last, int64_t skip, int64_t width, bool add,
                    uint32_t *out) {
    uint32_t buffer[CHUNK], sums[GROUPS * GROUP];
    int16_t words[CHUNK + 1];
    vi state[2 * GROUPS];
    for (int k = 0; k < 2 * groups; k++) state[k] = zero_i32();
    while (s.from < s.to) {
        const int8_t *values = (const int8_t *)a->values + s.from;
        const uint32_t *columns;
        const int64_t count = next_columns(a, &s, buffer, &columns);
        widen_values(values, count, words);
        rows_i8_of[groups](columns, words, count, (const int8_t *)a->b + start, a->p->b_stride, last, state);
    }
    for (int k = 0; k < groups; k++) store_group(sums + k * GROUP, state[2 * k], state[2 * k + 1]);
    put_i32(sums, skip, width, add, out);
}

/* ---- f32: blocks ---- */

/* Rows of a block share what is read of B. */
INLINE void sum_blocks(int rows, int vectors, const arrays *a, int64_t row, span s, int64_t j, vmask mask, float *state) {
    const tp_sparse *m = &a->p->a;
    const int64_t stride = a->p->b_stride, size = m->block_rows * m->block_cols;
    vf sums[BLOCK_ROWS * BLOCK_VECTORS];
    UNROLL for (int k = 0; k < rows * vectors; k++) sums[k] = load_f32(state + k * LANES);
    for (int64_t u = s.from; u < s.to; u++) {
        const int64_t column = ((const uint32_t *)a->indices)[u] * m->block_cols;
        const int64_t cols = least(m->block_cols, m->cols - column);
        const float *values = (const float *)a->values + u * size + row * m->block_cols;
        const float *b = (const float *)a->b + column * stride + j;
        const int64_t soon = ((const uint32_t *)a->indices)[least(u + BLOCKS_AHEAD, s.to - 1)] * m->block_cols;
        uintptr_t ahead = (uintptr_t)a->b + (uintptr_t)(soon * stride + j) * 4;
        for (int64_t c = 0; c < cols; c++, b += stride, ahead += (uintptr_t)stride * 4) {
            UNROLL for (int k = 0; k < vectors; k++) _mm_prefetch((const char *)(ahead + k * LANES * 4), _MM_HINT_T0);
            vf x[BLOCK_VECTORS];
            UNROLL for (int k = 0; k < vectors; k++)
                x[k] = k == vectors - 1 ? load_mask(b + k * LANES, mask) : load_f32(b + k * LANES);
            UNROLL for (int r = 0; r < rows; r++) {
                const vf v = all_f32(values[r * m->block_cols + c]);
                UNROLL for (int k = 0; k < vectors; k++) sums[r * vectors + k] = fma_f32(v, x[k], sums[r * vectors + k]);
            }
        }
    }
    UNROLL for (int k = 0; k < rows * vectors; k++) store_f32(state + k * LANES, sums[k]);
}

typedef void blocks_f32(const arrays *a, int64_t row, span s, int64_t j, vmask mask, float *state);
#define BLOCKS_F32(rows, vectors)                                                                                     \
    static void blocks_f32_##rows##_##vectors(const arrays *a, int64_t row, span s, int64_t j, vmask mask,            \
                                              float *state) {                                                         \
        sum_blocks(rows, vectors, a, row, s, j, mask, state);                                                         \
    }
#define BLOCKS_F32_OF(vectors) BLOCKS_F32(1, vectors) BLOCKS_F32(2, vectors) BLOCKS_F32(3, vectors) BLOCKS_F32(4, vectors)
#define BLOCKS_F32_ROW(vectors)                                                                                       \
    {0, blocks_f32_1_##vectors, blocks_f32_2_##vectors, blocks_f32_3_##vectors, blocks_f32_4_##vectors}
BLOCKS_F32_OF(1)
BLOCKS_F32_OF(2)
#ifdef __AVX512F__
BLOCKS_F32_OF(3)
BLOCKS_F32_OF(4)
#endif
static blocks_f32 *const blocks_f32_of[BLOCK_VECTORS + 1][BLOCK_ROWS + 1] = {
    {0}, BLOCKS_F32_ROW(1), BLOCKS_F32_ROW(2),
#ifdef __AVX512F__
    BLOCKS_F32_ROW(3), BLOCKS_F32_ROW(4),
#endif
};

/* Rows [row, row + rows) of a line of blocks, columns [j, j + width); out is the first of these elements. */
static void block_span_f32(const arrays *a, int64_t row, int64_t rows, span s, int64_t j, int64_t width, mode mode,
                           float *out, int64_t out_stride) {
    const int64_t vectors = (width + LANES - 1) / LANES, step = vectors * LANES;
    const vmask mask = mask_first(width - (vectors - 1) * LANES);
    float state[BLOCK_ROWS * BLOCK_VECTORS * LANES];
    for (int64_t r = 0; r < rows; r++) {
        if (mode == RESUME)
            memcpy(state + r * step, out + r * out_stride, (size_t)width * sizeof *out);
        else
            for (int64_t k = 0; k < step; k += LANES) store_f32(state + r * step + k, zero_f32());
    }
    blocks_f32_of[vectors][rows](a, row, s, j, mask, state);
    for (int64_t r = 0; r < rows; r++) {
        const float *sums = state + r * step;
        if (mode == ADD)
            for (int64_t i = 0; i < width; i++) out[r * out_stride + i] += sums[i];
        else
            memcpy(out + r * out_stride, sums, (size_t)width * sizeof *out);
    }
}

/* ---- int8: blocks ---- */

/* Values [rows, cols] of a block as words, an even number of them per row, of which the last may be 0. */
INLINE void block_words(int rows, const int8_t *values, int64_t cols, int16_t *words) {
    const int64_t even = (cols + 1) / 2 * 2;
    if (cols == even) {
        widen_values(values, rows * cols, words);
        return;
    }
    UNROLL for (int r = 0; r < rows; r++) widen_values(values + r * cols, cols, words + r * even);
}

INLINE void sum_block_pairs(int rows, int groups, const arrays *a, int64_t row, span s, int64_t start, part last, vi *state) {
    const tp_sparse *m = &a->p->a;
    const int64_t stride = a->p->b_stride, size = m->block_rows * m->block_cols, even = (m->block_cols + 1) / 2 * 2;
    int16_t words[BLOCK_ROWS * 64 + 1];
    vi sums[BLOCK_ROWS * BLOCK_GROUPS * 2];
    UNROLL for (int k = 0; k < rows * groups * 2; k++) sums[k] = zero_i32();
    for (int64_t u = s.from; u < s.to; u++) {
        const int64_t column = ((const uint32_t *)a->indices)[u] * m->block_cols;
        const int64_t cols = least(m->block_cols, m->cols - column);
        const int8_t *b = (const int8_t *)a->b + column * stride + start;
        block_words(rows, (const int8_t *)a->values + u * size + row * m->block_cols, m->block_cols, words);
        for (int64_t c = 0; c < cols; c += 2, b += 2 * stride) {
            /* The last column may have no partner; the word there is 0. */
            const int8_t *next = c + 1 < cols ? b + stride : b;
            vi x[BLOCK_GROUPS * 2];
            UNROLL for (int k = 0; k < groups; k++) {
                const bool is_last = k == groups - 1;
                pair_bytes(is_last ? load_part(b + k * GROUP, last) : load_group(b + k * GROUP),
                           is_last ? load_part(next + k * GROUP, last) : load_group(next + k * GROUP), &x[2 * k],
                           &x[2 * k + 1]);
            }
            UNROLL for (int r = 0; r < rows; r++) {
                const vi v = all_i32(pair_at(words + r * even + c));
                UNROLL for (int k = 0; k < groups * 2; k++)
                    sums[r * groups * 2 + k] = add_pairs(sums[r * groups * 2 + k], x[k], v);
            }
        }
    }
    UNROLL for (int k = 0; k < rows * groups * 2; k++) state[k] = sums[k];
}

typedef void blocks_i8(const arrays *a, int64_t row, span s, int64_t start, part last, vi *state);
#define BLOCKS_I8(rows, groups)                                                                                       \
    static void blocks_i8_##rows##_##groups(const arrays *a, int64_t row, span s, int64_t start, part last,           \
                                            vi *state) {                                                              \
        sum_block_pairs(rows, groups, a, row, s, start, last, state);                                                 \
    }
#define BLOCKS_I8_OF(groups) BLOCKS_I8(1, groups) BLOCKS_I8(2, groups) BLOCKS_I8(3, groups) BLOCKS_I8(4, groups)
#define BLOCKS_I8_ROW(groups)                                                                                         \
    {0, blocks_i8_1_##groups, blocks_i8_2_##groups, blocks_i8_3_##groups, blocks_i8_4_##groups}
BLOCKS_I8_OF(1)
#ifdef __AVX512F__
BLOCKS_I8_OF(2)
#endif
static blocks_i8 *const blocks_i8_of[BLOCK_GROUPS + 1][BLOCK_ROWS + 1] = {
    {0}, BLOCKS_I8_ROW(1),
#ifdef __AVX512F__
    BLOCKS_I8_ROW(2),
#endif
};

static void block_span_i8(const arrays *a, int64_t row, int64_t rows, span s, int64_t start, int64_t groups, part last,
                          int64_t skip, int64_t width, bool add, uint32_t *out, int64_t out_stride) {
    vi state[BLOCK_ROWS * BLOCK_GROUPS * 2];
    blocks_i8_of[groups][rows](a, row, s, start, last, state);
    for (int64_t r = 0; r < rows; r++) {
        uint32_t sums[BLOCK_GROUPS * GROUP];
        for (int64_t k = 0; k < groups; k++) {
            const vi *at = state + (r * groups + k) * 2;
            store_group(sums + k * GROUP, at[0], at[1]);
        }
        put_i32(sums, skip, width, add, out + r * out_stride);
    }
}

/* ---- n = 1 ---- */

/* Unit i of a line goes to lane i % LANES of sum i / LANES % SUMS, whatever the stride. */

enum { BYTES_AHEAD = 1024 }; /* how far indices and values are fetched: the hardware alone does not keep up */

INLINE void fetch(const void *p, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64) _mm_prefetch((const char *)((uintptr_t)p + BYTES_AHEAD + (uintptr_t)i), _MM_HINT_T0);
}

/* Two columns with one load. */
INLINE uint64_t two_columns(const uint32_t *columns) {
    uint64_t two;
    memcpy(&two, columns, sizeof two);
    return two;
}
INLINE int64_t low_column(uint64_t two) { return (uint32_t)two; }
INLINE int64_t high_column(uint64_t two) { return (int64_t)(two >> 32); }

INLINE __m128 load_four(const float *x, const uint32_t *columns, int64_t stride) {
    const uint64_t c = two_columns(columns), d = two_columns(columns + 2);
    __m128 y = _mm_load_ss(x + low_column(c) * stride);
    y = _mm_insert_ps(y, _mm_load_ss(x + high_column(c) * stride), 0x10);
    y = _mm_insert_ps(y, _mm_load_ss(x + low_column(d) * stride), 0x20);
    return _mm_insert_ps(y, _mm_load_ss(x + high_column(d) * stride), 0x30);
}

/* Which lanes of vector k have one of `left` units. */
INLINE vmask mask_units(int64_t left, int k) {
    const int64_t units = left - k * LANES;
    return mask_first(units < 0 ? 0 : least(units, LANES));
}

/* Elements of x, and 0 where there is no unit. Many processors gather more slowly than they load and insert. */
INLINE vf pick_columns(bool gathers, const float *x, vi columns, int64_t stride, vmask units) {
    if (gathers) return gather_f32(x, columns, units);
    uint32_t c[LANES] __attribute__((aligned(64)));
    store_i32(c, columns);
    __m128 y[LANES / 4];
    UNROLL for (int q = 0; q < LANES / 4; q++) y[q] = load_four(x, c + 4 * q, stride);
    return keep_f32(join_f32(y), units);
}

/* Of `left` units, STEP at most. Lanes beyond have some column of x. */
INLINE void dot_step(bool gathers, const vi *columns, const float *values, int64_t left, const float *x, int64_t stride,
                     vf *sums) {
    UNROLL for (int k = 0; k < SUMS; k++) {
        if (left <= k * LANES) break;
        const vmask m = mask_units(left, k);
        sums[k] = fma_f32(load_mask(values + k * LANES, m), pick_columns(gathers, x, columns[k], stride, m), sums[k]);
    }
}

INLINE void dot_columns(bool gathers, const uint32_t *columns, const float *values, int64_t count, const float *x, int64_t stride,
                        vf *sums) {
    vi next[SUMS];
    int64_t i = 0;
    for (; i + STEP <= count; i += STEP) {
        fetch(columns + i, STEP * 4);
        fetch(values + i, STEP * 4);
        UNROLL for (int k = 0; k < SUMS; k++) next[k] = load_i32(columns + i + k * LANES);
        dot_step(gathers, next, values + i, STEP, x, stride, sums);
    }
    if (i == count) return;
    UNROLL for (int k = 0; k < SUMS; k++) next[k] = load_mask_i32(columns + i + k * LANES, mask_units(count - i, k));
    dot_step(gathers, next, values + i, count - i, x, stride, sums);
}

INLINE void dot_distances(bool gathers, const uint16_t *distances, int64_t column, const float *values, int64_t count,
                          const float *x, int64_t stride, vf *sums) {
    if (count == 0) return;
    vi before = all_i32((int32_t)column), now[SUMS], next[SUMS];
    next_pair(distances, count, &before, next);
    int64_t i = 0;
    for (; i + STEP <= count; i += STEP) {
        fetch(distances + i, STEP * 2);
        fetch(values + i, STEP * 4);
        UNROLL for (int k = 0; k < SUMS; k++) now[k] = next[k];
        /* A step ahead, in the time that gathers leave. */
        next_pair(distances + i + STEP, count - i - STEP, &before, next);
        dot_step(gathers, now, values + i, STEP, x, stride, sums);
    }
    if (i < count) dot_step(gathers, next, values + i, count - i, x, stride, sums);
}

/* Whole vectors of NM24 units, without columns: returns how many units are done. */
INLINE int64_t dot_nm24_f32(const arrays *a, const span *s, vf *state) {
    const int64_t units = s->to - s->from, whole = a->p->a.cols / (4 * POSITION_GROUPS * SUMS) * SUMS;
    const uint8_t *nibbles = (const uint8_t *)a->indices + s->line * ((units / 2 + 1) / 2);
    const float *values = (const float *)a->values + s->from, *x = a->b;
    vf sums[SUMS];
    UNROLL for (int k = 0; k < SUMS; k++) sums[k] = zero_f32();
    for (int64_t i = 0; i < whole; i += SUMS) {
        UNROLL for (int k = 0; k < SUMS; k++) {
            uint32_t word = 0;
            memcpy(&word, nibbles + (i + k) * (POSITION_GROUPS / 2), POSITION_GROUPS / 2);
            const vf y = pick_f32(x + (i + k) * 4 * POSITION_GROUPS, word);
            sums[k] = fma_f32(load_f32(values + (i + k) * LANES), y, sums[k]);
        }
    }
    UNROLL for (int k = 0; k < SUMS; k++) state[k] = sums[k];
    return whole * LANES;
}

INLINE float dot_f32(const arrays *a, const span *s, bool gathers, int64_t stride) {
    const float *values = (const float *)a->values + s->from, *x = a->b;
    const int64_t count = s->to - s->from;
    vf sums[SUMS] = {zero_f32(), zero_f32()};
    if (a->p->a.layout == TP_SPARSE_CSR16) {
        dot_distances(gathers, (const uint16_t *)a->indices + s->from, s->column, values, count, x, stride, sums);
    } else if (a->p->a.layout == TP_SPARSE_CSR32) {
        dot_columns(gathers, (const uint32_t *)a->indices + s->from, values, count, x, stride, sums);
    } else {
        span rest = *s;
        uint32_t buffer[CHUNK];
        const uint32_t *columns;
        if (stride == 1) rest.from += dot_nm24_f32(a, s, sums);
        while (rest.from < rest.to) {
            values = (const float *)a->values + rest.from;
            const int64_t units = next_columns(a, &rest, buffer, &columns);
            dot_columns(gathers, columns, values, units, x, stride, sums);
        }
    }
    return reduce_f32(add_f32(sums[0], sums[1]));
}

static float line_dot_f32(const arrays *a, const span *s) {
    const int64_t stride = a->p->b_stride;
    return a->gathers ? dot_f32(a, s, true, 1) : stride == 1 ? dot_f32(a, s, false, 1) : dot_f32(a, s, false, stride);
}

INLINE __m128i gather_i8(const int8_t *x, const uint32_t *columns, int64_t stride) {
    const uint64_t c = two_columns(columns), d = two_columns(columns + 2), e = two_columns(columns + 4),
                   f = two_columns(columns + 6);
    __m128i y = _mm_cvtsi32_si128((uint8_t)x[low_column(c) * stride]);
    y = _mm_insert_epi8(y, x[high_column(c) * stride], 1);
    y = _mm_insert_epi8(y, x[low_column(d) * stride], 2);
    y = _mm_insert_epi8(y, x[high_column(d) * stride], 3);
    y = _mm_insert_epi8(y, x[low_column(e) * stride], 4);
    y = _mm_insert_epi8(y, x[high_column(e) * stride], 5);
    y = _mm_insert_epi8(y, x[low_column(f) * stride], 6);
    return _mm_insert_epi8(y, x[high_column(f) * stride], 7);
}

INLINE __m256i add_products_i8(__m256i sum, const int8_t *values, __m128i y) {
    const __m256i v = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)values));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(v, _mm256_cvtepi8_epi16(y)));
}

static uint32_t total_i32(__m256i x) {
    __m128i y = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    y = _mm_add_epi32(y, _mm_shuffle_epi32(y, 0x4e));
    y = _mm_add_epi32(y, _mm_shuffle_epi32(y, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(y);
}

INLINE uint32_t dot_i8(const uint32_t *columns, const int8_t *values, int64_t count, const int8_t *x, int64_t stride) {
    __m256i sums = _mm256_setzero_si256();
    int64_t i = 0;
    for (; i + 16 <= count; i += 16)
        sums = add_products_i8(sums, values + i, _mm_unpacklo_epi64(gather_i8(x, columns + i, stride),
                                                                    gather_i8(x, columns + i + 8, stride)));
    uint32_t sum = total_i32(sums);
    for (; i < count; i++) sum += (uint32_t)(values[i] * x[columns[i] * stride]);
    return sum;
}

/* The same for NM24: 8 groups of four columns at a time, four of them in each half. */
static int64_t dot_nm24_i8(const arrays *a, const span *s, uint32_t *sum) {
    const int64_t units = s->to - s->from, whole = a->p->a.cols / 32;
    const uint8_t *nibbles = (const uint8_t *)a->indices + s->line * ((units / 2 + 1) / 2);
    const int8_t *values = (const int8_t *)a->values + s->from, *x = a->b;
    const __m256i pieces = _mm256_setr_epi8(0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3,
                                            2, 3, 2, 3);
    const __m256i up = _mm256_setr_epi16(1 << 14, 1 << 12, 1 << 10, 1 << 8, 1 << 6, 1 << 4, 1 << 2, 1, 1 << 14, 1 << 12, 1 << 10,
                                         1 << 8, 1 << 6, 1 << 4, 1 << 2, 1);
    /* The byte goes to the upper half of its word, from which it is shifted down with its sign. */
    const __m256i base = _mm256_setr_epi16(0x0080, 0x0080, 0x0480, 0x0480, 0x0880, 0x0880, 0x0c80, 0x0c80, 0x0080, 0x0080, 0x0480,
                                           0x0480, 0x0880, 0x0880, 0x0c80, 0x0c80);
    __m256i sums = _mm256_setzero_si256();
    for (int64_t i = 0; i < whole; i++) {
        int32_t word;
        memcpy(&word, nibbles + 4 * i, sizeof word);
        __m256i at = _mm256_shuffle_epi8(_mm256_set1_epi32(word), pieces);
        at = _mm256_srli_epi16(_mm256_mullo_epi16(at, up), 14);
        at = _mm256_or_si256(_mm256_slli_epi16(at, 8), base);
        const __m256i y = _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)(x + 32 * i)), at);
        const __m256i v = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(values + 16 * i)));
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(v, _mm256_srai_epi16(y, 8)));
    }
    *sum = total_i32(sums);
    return whole * 16;
}

static uint32_t line_dot_i8(const arrays *a, span s) {
    const int64_t stride = a->p->b_stride;
    uint32_t buffer[CHUNK], sum = 0;
    if (a->p->a.layout == TP_SPARSE_NM24 && stride == 1) s.from += dot_nm24_i8(a, &s, &sum);
    while (s.from < s.to) {
        const int8_t *values = (const int8_t *)a->values + s.from;
        const uint32_t *columns;
        const int64_t count = next_columns(a, &s, buffer, &columns);
        sum += stride == 1 ? dot_i8(columns, values, count, a->b, 1) : dot_i8(columns, values, count, a->b, stride);
    }
    return sum;
}

/* The piece of x under a block, in `pad` if it is not whole or has gaps. */
INLINE const char *block_piece(const arrays *a, int64_t column, int64_t cols, int64_t size, char *pad) {
    const int64_t stride = a->p->b_stride, inside = least(cols, a->p->a.cols - column);
    const char *x = (const char *)a->b + column * stride * size;
    if (stride == 1 && inside == cols) return x;
    memset(pad, 0, (size_t)(cols * size));
    for (int64_t c = 0; c < inside; c++) memcpy(pad + c * size, x + c * stride * size, (size_t)size);
    return pad;
}

/* Four rows of blocks with 4 or 8 columns, whose values are contiguous: lane r * cols + c has the products of an element. */
INLINE void four_rows_f32(int cols, const arrays *a, int64_t row, span s, float *rows) {
    enum { MOST = 4 * 8 / LANES };
    const int vectors = 4 * cols / LANES, sets = cols == 4 ? 4 : 2;
    const int64_t size = a->p->a.block_rows * cols;
    vf sums[4 * MOST];
    UNROLL for (int k = 0; k < sets * vectors; k++) sums[k] = zero_f32();
    int64_t u = s.from;
    for (; u < s.to; u += sets) {
        UNROLL for (int i = 0; i < sets; i++) {
            if (u + i >= s.to) break;
            float pad[8];
            const float *values = (const float *)a->values + (u + i) * size + row * cols;
            const int64_t column = (int64_t)((const uint32_t *)a->indices)[u + i] * cols;
            const vf x = repeat_f32(cols, (const void *)block_piece(a, column, cols, 4, (void *)pad));
            UNROLL for (int k = 0; k < vectors; k++)
                sums[i * vectors + k] = fma_f32(load_f32(values + k * LANES), x, sums[i * vectors + k]);
        }
    }
    float lanes[4 * 8];
    UNROLL for (int k = 0; k < vectors; k++) {
        for (int i = 1; i < sets; i++) sums[k] = add_f32(sums[k], sums[i * vectors + k]);
        store_f32(lanes + k * LANES, sums[k]);
    }
    for (int r = 0; r < 4; r++) {
        rows[r] = lanes[r * cols];
        for (int c = 1; c < cols; c++) rows[r] += lanes[r * cols + c];
    }
}

INLINE void four_rows_i8(int cols, const arrays *a, int64_t row, span s, uint32_t *rows) {
    const int64_t size = a->p->a.block_rows * cols;
    __m256i sums[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (int64_t u = s.from; u < s.to; u++) {
        char pad[8];
        const int8_t *values = (const int8_t *)a->values + u * size + row * cols;
        const int64_t column = (int64_t)((const uint32_t *)a->indices)[u] * cols;
        const char *x = block_piece(a, column, cols, 1, pad);
        int64_t piece = 0;
        memcpy(&piece, x, (size_t)cols);
        const __m128i y = cols == 4 ? _mm_set1_epi32((int32_t)piece) : _mm_set1_epi64x(piece);
        for (int k = 0; k < cols / 4; k++) sums[k] = add_products_i8(sums[k], values + 16 * k, y);
    }
    uint32_t lanes[16];
    _mm256_storeu_si256((__m256i *)lanes, sums[0]);
    _mm256_storeu_si256((__m256i *)(lanes + 8), sums[1]);
    for (int r = 0; r < 4; r++) {
        rows[r] = 0;
        for (int c = 0; c < cols / 2; c++) rows[r] += lanes[r * cols / 2 + c];
    }
}

/* ---- lines ---- */

/* n = 1: the sum of a span of one segment, in one row or in four rows of blocks. */
static void dot_span(const arrays *a, int64_t row, int64_t rows, span s, bool add, void *out, int64_t out_stride) {
    const bool f32 = a->p->a.type == TP_F32;
    float floats[4];
    uint32_t words[4];
    if (a->p->a.layout != TP_SPARSE_BSR) {
        if (f32)
            floats[0] = line_dot_f32(a, &s);
        else
            words[0] = line_dot_i8(a, s);
    } else if (a->p->a.block_cols == 4) {
        if (f32)
            four_rows_f32(4, a, row, s, floats);
        else
            four_rows_i8(4, a, row, s, words);
    } else {
        if (f32)
            four_rows_f32(8, a, row, s, floats);
        else
            four_rows_i8(8, a, row, s, words);
    }
    for (int64_t r = 0; r < rows; r++) {
        float *to = (float *)out + r * out_stride;
        uint32_t *to_words = (uint32_t *)out + r * out_stride;
        if (f32)
            *to = add ? *to + floats[r] : floats[r];
        else
            *to_words = add ? *to_words + words[r] : words[r];
    }
}

/* A panel of columns of out. */
typedef struct panel {
    int64_t j, width;
    int64_t start, groups; /* int8 */
    part last;
} panel;

static panel next_panel(const tp_product *p, int64_t j) {
    const bool blocks = p->a.layout == TP_SPARSE_BSR;
    panel at = {.j = j};
    if (p->a.type == TP_I8)
        plan_groups(p->n, j, blocks ? BLOCK_GROUPS : GROUPS, &at.start, &at.width, &at.groups, &at.last);
    else
        at.width = least(p->n - j, blocks ? BLOCK_PANEL : VECTORS * LANES);
    return at;
}

/* The sum of a span of one segment in one panel; out is the first element of the line's first row. s ends where the limit is. */
static void multiply_span(const arrays *a, span *s, const panel *at, mode mode, void *out, int64_t out_stride) {
    const tp_product *p = a->p;
    const bool f32 = p->a.type == TP_F32, add = mode != FRESH; /* integers may be added in any order */
    float *floats = (float *)out + at->j;
    uint32_t *words = (uint32_t *)out + at->j;
    const int64_t skip = at->j - at->start;
    if (p->a.layout != TP_SPARSE_BSR) {
        if (p->n == 1)
            dot_span(a, 0, 1, *s, add, out, out_stride);
        else if (f32)
            span_f32(a, s, at->j, at->width, mode, floats);
        else
            span_i8(a, *s, at->start, at->groups, at->last, skip, at->width, add, words);
        return;
    }
    const int64_t rows = tp_rows_of(p, s->line);
    for (int64_t r = 0; r < rows; r += BLOCK_ROWS) {
        const int64_t count = least(rows - r, BLOCK_ROWS), to = r * out_stride;
        if (p->n == 1 && count == 4 && (p->a.block_cols == 4 || p->a.block_cols == 8))
            dot_span(a, r, 4, *s, add, floats + to, out_stride);
        else if (f32)
            for (int64_t c = 0; c < at->width; c += BLOCK_VECTORS * LANES)
                block_span_f32(a, r, count, *s, at->j + c, least(at->width - c, BLOCK_VECTORS * LANES), mode,
                               floats + to + c, out_stride);
        else
            block_span_i8(a, r, count, *s, at->start, at->groups, at->last, skip, at->width, add, words + to, out_stride);
    }
}

static void *line_of_out(const arrays *a, int64_t line) {
    return (char *)a->out + 4 * line * tp_line_rows(a->p) * a->p->out_stride;
}

static void multiply_line(const arrays *a, int64_t line, const panel *at) {
    const span all = line_span(a, line);
    span s = first_segment(a, all);
    mode mode = FRESH;
    for (;;) {
        const int64_t column = s.column, from = s.from, to = s.to;
        multiply_span(a, &s, at, mode, line_of_out(a, line), a->p->out_stride);
        if (to == all.to) return;
        s = (span){to, to + least(all.to - to, TP_SPMM_SEGMENT), column, all.limit, line};
        if (a->p->a.layout == TP_SPARSE_CSR16) {
            int64_t distance;
            TIER(tp_spmm_column)((const uint16_t *)a->indices + from, to - from, &distance);
            s.column += distance;
        }
        mode = ADD;
    }
}

/* ---- slabs ---- */

/*
 * All of a panel of B seldom fits the second-level cache. So many lines, one after the other, take the units that meet some rows of
 * it, a slab, before all of them go on to the next.
 * Rows that are far apart share few sets of the caches, and each is on a page of its own. Of these as many as the stack of a small
 * thread holds easily are copied together. Four times as many were no faster.
 */
enum {
    SLAB_BYTES = 256 << 10,
    COPY_BYTES = 32 << 10,
    SLAB_LINES = 256,
    LINES_AHEAD = 2, /* how far units are fetched, and how much of them */
    FETCH_BYTES = 256
};

static bool far_apart(const tp_product *p, const panel *at) { return p->b_stride >= 4 * at->width; }

/* Rows of B in a slab, or 0 if slabs do not pay: no sum depends on it. Integers are bound by arithmetic, not by caches. */
static int64_t slab_rows(const arrays *a, int64_t begin, int64_t end, const panel *at) {
    const tp_product *p = a->p;
    const bool blocks = p->a.layout == TP_SPARSE_BSR, nm24 = p->a.layout == TP_SPARSE_NM24, copy = far_apart(p, at);
    const int64_t bytes = copy ? COPY_BYTES : SLAB_BYTES;
    if (p->a.type != TP_F32 || p->a.cols * at->width * 4 <= 2 * bytes) return 0;
    /* A sum is resumed with one accumulator. Rows of a block share what they read of B, and gain by copies only. */
    if (blocks ? p->n == 1 || !copy : at->width <= 4 * LANES) return 0;
    const int64_t step = blocks ? p->a.block_cols : nm24 ? 8 : 1; /* no block is cut, and no byte of NM24 indices */
    const int64_t rows = bytes / 4 / at->width / step * step, lines = end - begin;
    const double units = (double)(nm24 ? tp_nm24_units(p) * lines : a->offsets[end] - a->offsets[begin]);
    const double used = units * (double)(blocks ? step : 1), cols = (double)p->a.cols;
    /* Each visit of a line has its price, and so has the copy. */
    const bool pays = used >= (copy ? 3 : 12) * cols / (double)rows * (double)lines;
    return pays && (!copy || used >= 16 * cols * ((double)lines / SLAB_LINES + 1)) ? rows : 0;
}

/* Copies `rows` rows of B from row k on; where B would begin if all its rows lay as these do. */
static const void *copy_rows(const arrays *a, int64_t k, int64_t rows, const panel *at, float *slab) {
    const float *from = (const float *)a->b + k * a->p->b_stride + at->j;
    for (int64_t r = 0; r < rows; r++, from += a->p->b_stride) memcpy(slab + r * at->width, from, (size_t)at->width * 4);
    return (const void *)((uintptr_t)slab - 4 * (uintptr_t)(k * at->width + at->j));
}

/* The next units of a line. Lines are far from each other, so nothing else foresees where work goes on. */
static void fetch_units(const arrays *a, int64_t unit) {
    const char *values = (const char *)a->values + 4 * unit;
    const char *indices = (const char *)a->indices + (a->p->a.layout == TP_SPARSE_CSR16 ? 2 : 4) * unit;
    for (int64_t at = 0; at < FETCH_BYTES; at += 64) {
        _mm_prefetch(values + at, _MM_HINT_T0);
        _mm_prefetch(indices + at, _MM_HINT_T0);
    }
}

static void multiply_slabs(const arrays *a, int64_t begin, int64_t end, const panel *at, int64_t rows) {
    const tp_product *p = a->p;
    const bool copy = far_apart(p, at), entries = p->a.layout == TP_SPARSE_CSR16 || p->a.layout == TP_SPARSE_CSR32;
    float slab[COPY_BYTES / 4] __attribute__((aligned(64)));
    span spans[SLAB_LINES];
    const int64_t lines = end - begin, cols = p->a.cols;
    for (int64_t i = 0; i < lines; i++) {
        spans[i] = line_span(a, begin + i);
        if (first_segment(a, spans[i]).to == spans[i].to) continue;
        multiply_line(a, begin + i, at);
        spans[i].line = -1;
    }
    tp_product moved = *p;
    arrays view = *a;
    if (copy) moved.b_stride = at->width;
    view.p = &moved;
    view.near = true;
    for (int64_t k = 0; k < cols; k += rows) {
        const int64_t limit = least(cols, k + rows);
        if (copy) view.b = copy_rows(a, k, limit - k, at, slab);
        for (int64_t i = 0; i < lines; i++) {
            span s = spans[i];
            if (s.line < 0) continue;
            if (entries) fetch_units(a, spans[least(i + LINES_AHEAD, lines - 1)].from);
            s.limit = limit;
            if (p->a.layout == TP_SPARSE_NM24 && limit < cols)
                s.to = s.line * tp_nm24_units(p) + limit / 4 * 2;
            else if (p->a.layout == TP_SPARSE_BSR && limit < cols)
                s.to = s.from + columns_below((const uint32_t *)a->indices + s.from, s.to - s.from, limit / p->a.block_cols);
            if (k && s.from == s.to) continue;
            multiply_span(&view, &s, at, k ? RESUME : FRESH, line_of_out(a, s.line), p->out_stride);
            spans[i].from = s.to;
            spans[i].column = s.column;
        }
    }
}

/* A single column: what is common to all panels and layouts would take longer than a short line. */
static void dot_lines(const arrays *a, int64_t begin, int64_t end) {
    const panel only = next_panel(a->p, 0);
    float *out = a->out;
    for (int64_t line = begin; line < end; line++) {
        const span s = line_span(a, line);
        if (s.to - s.from > TP_SPMM_SEGMENT && a->p->a.layout != TP_SPARSE_NM24)
            multiply_line(a, line, &only);
        else
            out[line * a->p->out_stride] = line_dot_f32(a, &s);
    }
}

tp_status TIER(tp_spmm)(const tp_product *p, int64_t begin, int64_t end, const int64_t *offsets, const void *indices,
                        const void *values, const void *b, void *out) {
    const arrays a = arrays_of(p, offsets, indices, values, b, out);
    if (p->n == 1 && p->a.type == TP_F32 && p->a.layout != TP_SPARSE_BSR) {
        dot_lines(&a, begin, end);
        return TP_OK;
    }
    panel at;
    for (int64_t j = 0; j < p->n; j += at.width) {
        at = next_panel(p, j);
        const int64_t rows = slab_rows(&a, begin, end, &at);
        if (rows)
            for (int64_t line = begin; line < end; line += SLAB_LINES)
                multiply_slabs(&a, line, least(end, line + SLAB_LINES), &at, rows);
        else
            for (int64_t line = begin; line < end; line++) multiply_line(&a, line, &at);
    }
    return TP_OK;
}

tp_status TIER(tp_spmm_segment)(const tp_product *p, int64_t line, int64_t segment, int64_t column,
                                const int64_t *offsets, const void *indices, const void *values, const void *b,
                                void *partial) {
    const arrays a = arrays_of(p, offsets, indices, values, b, partial);
    const int64_t from = offsets[line] + segment * TP_SPMM_SEGMENT;
    const span all = {from, from + least(offsets[line + 1] - from, TP_SPMM_SEGMENT), column, p->a.cols, line};
    panel at;
    for (int64_t j = 0; j < p->n; j += at.width) {
        at = next_panel(p, j);
        span s = all;
        multiply_span(&a, &s, &at, FRESH, partial, p->n);
    }
    return TP_OK;
}

tp_status TIER(tp_spmm_column)(const uint16_t *distances, int64_t count, int64_t *column) {
    uint32_t sum = 0; /* a column is below 2^32 */
    for (int64_t i = 0; i < count; i++) sum += distances[i];
    *column = sum;
    return TP_OK;
}

tp_status TIER(tp_spmm_add)(const tp_product *p, int64_t line, int64_t segments, const void *partials, void *out) {
    const int64_t size = tp_line_rows(p) * p->n;
    for (int64_t row = 0; row < tp_rows_of(p, line); row++) {
        const int64_t to = (line * tp_line_rows(p) + row) * p->out_stride;
        float *floats = (float *)out + to;
        uint32_t *words = (uint32_t *)out + to;
        if (segments == 0) memset(words, 0, (size_t)p->n * 4);
        for (int64_t s = 0; s < segments; s++) {
            const int64_t from = s * size + row * p->n;
            if (s == 0)
                memcpy(words, (const uint32_t *)partials + from, (size_t)p->n * 4);
            else if (p->a.type == TP_F32)
                for (int64_t j = 0; j < p->n; j++) floats[j] += ((const float *)partials)[from + j];
            else
                for (int64_t j = 0; j < p->n; j++) words[j] += ((const uint32_t *)partials)[from + j];
        }
    }
    return TP_OK;
}

/* ---- transposed ---- */

INLINE void axpy_f32(float value, const float *b, int64_t n, float *out) {
    const vf v = all_f32(value);
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) store_f32(out + j, fma_f32(v, load_f32(b + j), load_f32(out + j)));
    if (j < n) {
        const vmask mask = mask_first(n - j);
        store_mask(out + j, mask, fma_f32(v, load_mask(b + j, mask), load_mask(out + j, mask)));
    }
}

INLINE void axpy_i8(int8_t value, const int8_t *b, int64_t n, uint32_t *out) {
    const vi v = all_i32(value);
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) store_i32(out + j, add_i32(load_i32(out + j), mul_i32(v, widen_i8(b + j))));
    for (; j < n; j++) out[j] += (uint32_t)(value * b[j]);
}

tp_status TIER(tp_spmm_transposed)(const tp_product *p, int64_t begin, int64_t end, int64_t first, int64_t last,
                                   const int64_t *offsets, const void *indices, const void *values, const void *b,
                                   void *out) {
    const arrays a = arrays_of(p, offsets, indices, values, b, out);
    const int64_t stride = p->out_stride, n = last - first;
    uint32_t buffer[CHUNK];
    for (int64_t row = begin; row < end; row++) {
        span s = line_span(&a, row);
        const int64_t from = row * p->b_stride + first;
        while (s.from < s.to) {
            const int64_t at = s.from;
            const uint32_t *columns;
            const int64_t count = next_columns(&a, &s, buffer, &columns);
            if (p->a.type == TP_F32) {
                const float *v = (const float *)values + at, *x = (const float *)b + from;
                float *sums = (float *)out + first;
                if (n == 1) /* fused as in vectors, so that no column depends on where the cut is */
                    for (int64_t i = 0; i < count; i++)
                        sums[columns[i] * stride] = __builtin_fmaf(v[i], *x, sums[columns[i] * stride]);
                else
                    for (int64_t i = 0; i < count; i++) axpy_f32(v[i], x, n, sums + columns[i] * stride);
            } else {
                const int8_t *v = (const int8_t *)values + at, *x = (const int8_t *)b + from;
                uint32_t *sums = (uint32_t *)out + first;
                if (n == 1)
                    for (int64_t i = 0; i < count; i++) sums[columns[i] * stride] += (uint32_t)(v[i] * *x);
                else
                    for (int64_t i = 0; i < count; i++) axpy_i8(v[i], x, n, sums + columns[i] * stride);
            }
        }
    }
    return TP_OK;
}
