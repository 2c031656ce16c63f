/* Codebooks over the vectors that the file of a tier defines: LANES, vf of floats, vi of 32-bit integers. */
#include <math.h>
#include <string.h>

#include "codebook/checks.h"
#include "codebook/clusters.h"
#include "codebook/scalar.h"
#include "core/scalar.h"

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* The part of a matrix that shares a table. */
typedef struct group {
    int64_t row, col, rows, cols;
} group;

static group group_at(const tp_codebook *s, int64_t index) {
    const int64_t across = tp_codebook_across(s), row = index / across * s->group_rows, col = index % across * s->group_cols;
    return (group){row, col, least(s->group_rows, s->rows - row), least(s->group_cols, s->cols - col)};
}

static const char *element_at(const tp_codebook *s, const void *in, int64_t row, int64_t col) {
    return (const char *)in + (row * s->stride + col) * tp_size_of(s->type);
}

/* ---- weights ---- */

/* Whether anything counts in a group by its weights. */
static bool any_weight(const group *g, const float *row_weights, const float *col_weights) {
    for (int64_t i = 0; row_weights && i < g->rows; i++)
        if (row_weights[g->row + i] > 0) return true;
    for (int64_t j = 0; col_weights && j < g->cols; j++)
        if (col_weights[g->col + j] > 0) return true;
    return false;
}

/* ---- numbers ---- */

INLINE bool bound_row(tp_dtype type, const char *p, int64_t n, bool zero, uint32_t *low, uint32_t *high) {
    bool finite = true;
    for (int64_t j = 0; j < n; j++) {
        const float x = tp_load(type, p, j);
        finite &= tp_is_finite(x);
        const uint32_t order = tp_order_of(x == 0 ? 0 : x), above = zero && x == 0 ? UINT32_MAX : order, below = zero && x == 0 ? 0 : order;
        *low = above < *low ? above : *low;
        *high = below > *high ? below : *high;
    }
    return finite;
}

INLINE void count_row(tp_dtype type, const char *p, int64_t n, uint32_t weight, const uint32_t *weights, bool zero, const tp_cells *c) {
    const int shift = c->shift;
    const uint32_t mask = (1u << shift) - 1;
    for (int64_t j = 0; j < n; j++) {
        const float x = tp_load(type, p, j);
        const uint32_t w = weights ? weights[j] : weight;
        if (w == 0 || (zero && x == 0)) continue;
        const uint32_t order = tp_order_of(x == 0 ? 0 : x), at = (order >> shift) - c->base;
        if (c->of[at].weight == 0) c->used[at / 64] |= UINT64_C(1) << at % 64;
        c->of[at].weight += w;
        c->of[at].low += (uint64_t)w * (order & mask);
    }
}

static bool count(const tp_codebook *s, const group *g, const void *in, const float *row_weights, const uint32_t *col_steps, tp_cells *c) {
    uint32_t low = UINT32_MAX, high = 0;
    bool finite = true;
    for (int64_t i = 0; i < g->rows; i++) {
        const char *p = element_at(s, in, g->row + i, g->col);
        finite &= s->type == TP_F32   ? bound_row(TP_F32, p, g->cols, s->zero, &low, &high)
                  : s->type == TP_F16 ? bound_row(TP_F16, p, g->cols, s->zero, &low, &high)
                                      : bound_row(TP_BF16, p, g->cols, s->zero, &low, &high);
    }
    if (!finite) return false;
    if (low > high) return true;
    c->shift = 0;
    while ((high >> c->shift) - (low >> c->shift) >= CELLS) c->shift++;
    c->base = low >> c->shift;
    for (int64_t i = 0; i < g->rows; i++) {
        const char *p = element_at(s, in, g->row + i, g->col);
        const uint32_t w = row_weights ? tp_steps_of(row_weights[g->row + i]) : 1;
        if (s->type == TP_F32) count_row(TP_F32, p, g->cols, w, col_steps, s->zero, c);
        else if (s->type == TP_F16) count_row(TP_F16, p, g->cols, w, col_steps, s->zero, c);
        else count_row(TP_BF16, p, g->cols, w, col_steps, s->zero, c);
    }
    return true;
}

static tp_status train_numbers(const tp_codebook *s, int32_t iterations, int64_t begin, int64_t end, const void *in,
                               const float *row_weights, const float *col_weights, char *scratch, float *tables) {
    uint32_t *const steps = tp_take(&scratch, least(s->cols, s->group_cols) * 4);
    tp_cells counts = {.of = tp_take(&scratch, CELLS * 16), .used = tp_take(&scratch, CELLS / 8)};
    memset(counts.of, 0, CELLS * 16);
    memset(counts.used, 0, CELLS / 8);
    for (int64_t index = begin; index < end; index++) {
        const group g = group_at(s, index);
        const bool weighted = any_weight(&g, row_weights, col_weights);
        for (int64_t j = 0; weighted && col_weights && j < g.cols; j++) steps[j] = tp_steps_of(col_weights[g.col + j]);
        if (!count(s, &g, in, weighted ? row_weights : NULL, weighted && col_weights ? steps : NULL, &counts)) return TP_ERR_NONFINITE;
        tp_cluster(s, iterations, &counts, scratch, tables + index * tp_codebook_entries(s));
    }
    return TP_OK;
}

/* ---- vectors ---- */

/* Vectors of a group, coordinate by coordinate, with their weights; padded with weight 0 to whole blocks. */
typedef struct points {
    int64_t n, padded;
    float *x, *weight, *distance;
    uint16_t *nearest;
    double *blocks;
} points;

static bool gather(const tp_codebook *s, const group *g, const void *in, const float *row_weights, const float *col_weights, points *p) {
    const int32_t d = s->dimension;
    const int64_t cols = g->cols / d, there = g->rows * cols;
    p->n = least(there, MOST_POINTS);
    p->padded = (p->n + POINT_BLOCK - 1) / POINT_BLOCK * POINT_BLOCK;
    const bool weighted = any_weight(g, row_weights, col_weights);
    /* Those that are left out may be NaN as well, and codes are wanted of them too. */
    for (int64_t i = 0; i < g->rows; i++) {
        const char *row = element_at(s, in, g->row + i, g->col);
        bool finite = true;
        for (int64_t j = 0; j < g->cols; j++) finite &= tp_is_finite(tp_load(s->type, row, j));
        if (!finite) return false;
    }
    for (int64_t i = 0; i < p->padded; i++) {
        if (i >= p->n) {
            for (int32_t c = 0; c < d; c++) p->x[c * p->padded + i] = 0;
            p->weight[i] = 0;
            continue;
        }
        /* i there / n without overflow: n is at most 2^20. */
        const int64_t at = there / p->n * i + there % p->n * i / p->n, row = at / cols, col = at % cols * d;
        const char *from = element_at(s, in, g->row + row, g->col + col);
        float w = 0;
        for (int32_t c = 0; c < d; c++) {
            p->x[c * p->padded + i] = tp_load(s->type, from, c);
            w += !weighted ? 1 : row_weights ? row_weights[g->row + row] : col_weights[g->col + col + c];
        }
        p->weight[i] = w / (float)d;
    }
    return true;
}

INLINE vf distance(int32_t d, const vf *x, const float *entry) {
    vf sum = v_set(0);
    for (int32_t c = 0; c < d; c++) {
        const vf off = v_sub(x[c], v_set(entry[c]));
        sum = v_fma(off, off, sum);
    }
    return sum;
}

INLINE vi nearest(int32_t d, const vf *x, const float *table, int64_t entries, vf *best) {
    *best = v_set(INFINITY);
    vi index = vi_set(0);
    for (int64_t e = 0; e < entries; e++) v_closer(distance(d, x, table + e * d), (int32_t)e, best, &index);
    return index;
}

/* The weighted sum of what is stored for points [begin, end), always by the same four sums. */
static double weighted_sum(const points *p, int64_t begin, int64_t end) {
    double sums[4] = {0};
    for (int64_t i = begin; i < end; i += 4)
        for (int l = 0; l < 4; l++) sums[l] += (double)p->weight[i + l] * (double)p->distance[i + l];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

INLINE void measure_from(int32_t d, points *p, const float *entry, bool first) {
    for (int64_t block = 0; block < p->padded / POINT_BLOCK; block++) {
        for (int64_t i = block * POINT_BLOCK; i < (block + 1) * POINT_BLOCK; i += LANES) {
            vf x[8];
            for (int32_t c = 0; c < d; c++) x[c] = v_load(p->x + c * p->padded + i);
            const vf now = distance(d, x, entry);
            v_store(p->distance + i, first ? now : v_min(now, v_load(p->distance + i)));
        }
        p->blocks[block] = weighted_sum(p, block * POINT_BLOCK, (block + 1) * POINT_BLOCK);
    }
}

INLINE void spread(int32_t d, points *p, uint64_t seed, uint64_t stream, int64_t entries, float *table) {
    for (int64_t i = 0; i < p->padded; i++) p->distance[i] = 1;
    for (int64_t b = 0; b < p->padded / POINT_BLOCK; b++) p->blocks[b] = weighted_sum(p, b * POINT_BLOCK, (b + 1) * POINT_BLOCK);
    for (int64_t e = 0; e < entries; e++) {
        const int64_t at = tp_draw(p->weight, p->distance, p->blocks, p->padded, tp_unit_random(seed, stream, (uint64_t)e));
        for (int32_t c = 0; c < d; c++) table[e * d + c] = at < 0 ? table[c] : p->x[c * p->padded + at];
        if (at >= 0) measure_from(d, p, table + e * d, e == 0);
    }
}

INLINE void improve(int32_t d, points *p, int64_t entries, int32_t iterations, double *sums, float *table) {
    double before = INFINITY;
    for (int32_t step = 0; step < iterations; step++) {
        for (int64_t i = 0; i < p->padded; i += LANES) {
            vf x[8], best;
            int32_t index[LANES];
            for (int32_t c = 0; c < d; c++) x[c] = v_load(p->x + c * p->padded + i);
            vi_store(index, nearest(d, x, table, entries, &best));
            v_store(p->distance + i, best);
            for (int l = 0; l < LANES; l++) p->nearest[i + l] = (uint16_t)index[l];
        }
        const double loss = weighted_sum(p, 0, p->padded);
        if (step > 0 && !(before - loss > before * 0x1p-16)) return;
        before = loss;
        memset(sums, 0, (size_t)(entries * (d + 1)) * 8);
        for (int64_t i = 0; i < p->n; i++) {
            double *const of = sums + p->nearest[i] * (d + 1);
            const double w = (double)p->weight[i];
            for (int32_t c = 0; c < d; c++) of[c] += w * (double)p->x[c * p->padded + i];
            of[d] += w;
        }
        for (int64_t e = 0; e < entries; e++) {
            const double *const of = sums + e * (d + 1);
            for (int32_t c = 0; of[d] > 0 && c < d; c++) table[e * d + c] = (float)(of[c] / of[d]);
        }
    }
}

INLINE tp_status train_vectors(int32_t d, const tp_codebook *s, uint64_t seed, int32_t iterations, int64_t begin, int64_t end,
                               const void *in, const float *row_weights, const float *col_weights, char *scratch, float *tables) {
    const int64_t entries = tp_codebook_entries(s), most = tp_codebook_points(s);
    points p = {.x = tp_take(&scratch, most * d * 4), .weight = tp_take(&scratch, most * 4), .distance = tp_take(&scratch, most * 4),
                .nearest = tp_take(&scratch, most * 2), .blocks = tp_take(&scratch, most / POINT_BLOCK * 8)};
    double *const sums = tp_take(&scratch, entries * (d + 1) * 8);
    for (int64_t index = begin; index < end; index++) {
        const group g = group_at(s, index);
        if (!gather(s, &g, in, row_weights, col_weights, &p)) return TP_ERR_NONFINITE;
        float *const table = tables + index * entries * d;
        memset(table, 0, (size_t)(entries * d) * 4);
        spread(d, &p, seed, (uint64_t)index, entries, table);
        improve(d, &p, entries, iterations, sums, table);
    }
    return TP_OK;
}

tp_status TP_VARIANT(codebook_train)(const tp_codebook *s, uint64_t seed, int32_t iterations, int64_t begin, int64_t end, const void *in,
                                     const float *row_weights, const float *col_weights, void *scratch, float *tables) {
    switch (s->dimension) {
        case 1: return train_numbers(s, iterations, begin, end, in, row_weights, col_weights, scratch, tables);
        case 2: return train_vectors(2, s, seed, iterations, begin, end, in, row_weights, col_weights, scratch, tables);
        case 4: return train_vectors(4, s, seed, iterations, begin, end, in, row_weights, col_weights, scratch, tables);
        default: return train_vectors(8, s, seed, iterations, begin, end, in, row_weights, col_weights, scratch, tables);
    }
}

/* ---- codes ---- */

/*
 * Thresholds between ascending entries as a tree: behind node i are 2 i and, for what is larger, 2 i + 1; the root is 1. Of entries that are
 * the same, all but the first are passed over.
 */
static void plant(const float *entries, int64_t n, int32_t bits, float *tree) {
    float thresholds[256];
    for (int64_t i = (INT64_C(1) << bits) - 1; i >= 0; i--)
        thresholds[i] = i + 1 >= n ? INFINITY : entries[i] < entries[i + 1] ? tp_threshold(entries[i], entries[i + 1]) : thresholds[i + 1];
    for (int32_t level = 0; level < bits; level++)
        for (int64_t p = 0; p < INT64_C(1) << level; p++)
            tree[(INT64_C(1) << level) + p] = thresholds[((2 * p + 1) << (bits - 1 - level)) - 1];
}

INLINE void assign_row(tp_dtype type, const char *p, int64_t n, const float *tree, int32_t bits, bool zero, uint8_t *codes) {
    for (int64_t j = 0; j < n; j += LANES) {
        const int64_t m = n - j;
        const char *from = p + j * tp_size_of(type);
        char some[LANES * 4] = {0};
        if (m < LANES) {
            memcpy(some, from, (size_t)(m * tp_size_of(type)));
            from = some;
        }
        const vf x = v_load_as(type, from);
        const vi found = v_search(tree, bits, x), code = zero ? v_behind_zero(x, found) : found;
        if (m < LANES) {
            uint8_t last[LANES];
            vi_store_bytes(last, code);
            memcpy(codes + j, last, (size_t)m);
        } else {
            vi_store_bytes(codes + j, code);
        }
    }
}

static void assign_numbers(const tp_codebook *s, int64_t begin, int64_t end, const void *in, const float *tables, uint8_t *codes) {
    const int64_t across = tp_codebook_across(s), entries = tp_codebook_entries(s);
    float tree[256] = {0};
    for (int64_t first = begin; first < end;) {
        const int64_t down = first / s->group_rows, stop = least(end, down * s->group_rows + least(s->group_rows, s->rows - down * s->group_rows));
        for (int64_t a = 0; a < across; a++) {
            const int64_t col = a * s->group_cols, cols = least(s->group_cols, s->cols - col);
            plant(tables + (down * across + a) * entries + s->zero, entries - s->zero, s->bits, tree);
            for (int64_t i = first; i < stop; i++) {
                const char *p = element_at(s, in, i, col);
                uint8_t *const to = codes + i * s->cols + col;
                if (s->type == TP_F32) assign_row(TP_F32, p, cols, tree, s->bits, s->zero, to);
                else if (s->type == TP_F16) assign_row(TP_F16, p, cols, tree, s->bits, s->zero, to);
                else assign_row(TP_BF16, p, cols, tree, s->bits, s->zero, to);
            }
        }
        first = stop;
    }
}

INLINE void put_code(void *codes, int32_t bits, int64_t at, int32_t code) {
    if (bits <= 8) ((uint8_t *)codes)[at] = (uint8_t)code;
    else ((uint16_t *)codes)[at] = (uint16_t)code;
}

INLINE void assign_vectors(int32_t d, const tp_codebook *s, int64_t begin, int64_t end, const void *in, const float *tables, void *codes) {
    const int64_t across = tp_codebook_across(s), entries = tp_codebook_entries(s), line = s->cols / d;
    for (int64_t i = begin; i < end; i++)
        for (int64_t a = 0; a < across; a++) {
            const int64_t col = a * s->group_cols, n = least(s->group_cols, s->cols - col) / d;
            const char *row = element_at(s, in, i, col);
            const float *const table = tables + (i / s->group_rows * across + a) * entries * d;
            for (int64_t j = 0; j < n; j += LANES) {
                const int64_t m = least(LANES, n - j);
                float turned[8][LANES] = {{0}};
                for (int64_t l = 0; l < m; l++)
                    for (int32_t c = 0; c < d; c++) turned[c][l] = tp_load(s->type, row, (j + l) * d + c);
                vf x[8], best;
                int32_t index[LANES];
                for (int32_t c = 0; c < d; c++) x[c] = v_load(turned[c]);
                vi_store(index, nearest(d, x, table, entries, &best));
                for (int64_t l = 0; l < m; l++) put_code(codes, s->bits, i * line + col / d + j + l, index[l]);
            }
        }
}

tp_status TP_VARIANT(codebook_assign)(const tp_codebook *s, int64_t begin, int64_t end, const void *in, const float *tables, void *codes) {
    switch (s->dimension) {
        case 1: assign_numbers(s, begin, end, in, tables, codes); break;
        case 2: assign_vectors(2, s, begin, end, in, tables, codes); break;
        case 4: assign_vectors(4, s, begin, end, in, tables, codes); break;
        default: assign_vectors(8, s, begin, end, in, tables, codes);
    }
    return TP_OK;
}

/* Whether all codes have an entry, whose number is a power of two. */
static bool known(const void *codes, int32_t bits, int64_t at, int64_t n) {
    uint32_t all = 0;
    if (bits <= 8) {
        for (int64_t i = 0; i < n; i++) all |= ((const uint8_t *)codes)[at + i];
    } else {
        for (int64_t i = 0; i < n; i++) all |= ((const uint16_t *)codes)[at + i];
    }
    return all >> bits == 0;
}

INLINE int64_t code_at(const void *codes, int32_t bits, int64_t at) {
    return bits <= 8 ? ((const uint8_t *)codes)[at] : ((const uint16_t *)codes)[at];
}

INLINE void decode_numbers(const uint8_t *codes, int64_t n, const float *table, int32_t bits, float *out) {
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) v_store(out + j, v_lookup(table, bits, vi_load_bytes(codes + j)));
    for (; j < n; j++) out[j] = table[codes[j]];
}

INLINE void decode_vectors(int32_t d, const void *codes, int32_t bits, int64_t at, int64_t n, const float *table, float *out) {
    for (int64_t j = 0; j < n; j++) memcpy(out + j * d, table + code_at(codes, bits, at + j) * d, (size_t)d * 4);
}

tp_status TP_VARIANT(codebook_decode)(const tp_codebook *s, int64_t begin, int64_t end, const void *codes, const float *tables, float *out) {
    const int32_t d = s->dimension;
    const int64_t across = tp_codebook_across(s), entries = tp_codebook_entries(s), line = s->cols / d;
    for (int64_t i = begin; i < end; i++) {
        if (!known(codes, s->bits, i * line, line)) return TP_ERR_FORMAT;
        for (int64_t a = 0; a < across; a++) {
            const int64_t col = a * s->group_cols, n = least(s->group_cols, s->cols - col) / d, at = i * line + col / d;
            const float *const table = tables + (i / s->group_rows * across + a) * entries * d;
            float *const to = out + i * s->stride + col;
            switch (d) {
                case 1: decode_numbers((const uint8_t *)codes + at, n, table, s->bits, to); break;
                case 2: decode_vectors(2, codes, s->bits, at, n, table, to); break;
                case 4: decode_vectors(4, codes, s->bits, at, n, table, to); break;
                default: decode_vectors(8, codes, s->bits, at, n, table, to);
            }
        }
    }
    return TP_OK;
}

tp_status TP_VARIANT(codebook_gradients)(const tp_codebook *s, int64_t begin, int64_t end, const void *codes, const float *gradients,
                                         double *sums) {
    const int32_t d = s->dimension;
    const int64_t entries = tp_codebook_entries(s), line = s->cols / d;
    for (int64_t index = begin; index < end; index++) {
        const group g = group_at(s, index);
        double *const of = sums + index * entries * d;
        memset(of, 0, (size_t)(entries * d) * 8);
        for (int64_t i = g.row; i < g.row + g.rows; i++) {
            const int64_t at = i * line + g.col / d;
            if (!known(codes, s->bits, at, g.cols / d)) return TP_ERR_FORMAT;
            const float *const from = gradients + i * s->stride + g.col;
            for (int64_t j = 0; j < g.cols / d; j++) {
                double *const sum = of + code_at(codes, s->bits, at + j) * d;
                for (int32_t c = 0; c < d; c++) sum[c] += (double)from[j * d + c];
            }
        }
    }
    return TP_OK;
}
