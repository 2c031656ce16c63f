/*
 * The prune family against an oracle written from prune.h alone: values compared in f64, choices made by sorting, one
 * element at a time, on every tier and on a CUDA device. Every buffer ends or starts at a page that cannot be touched, and ranges are
 * cut at random.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_arrays.h"
#include "prune/kernels.h"
#include "support.h"
#include "tensorpress/cuda/prune.h"

static guarded in_memory, out_memory, mask_memory, scratch_memory, score_memory;

/* ---- the same calls on the device ---- */

static size_t element_bytes(const tp_scores *s) { return s->type == TP_F32 ? 4 : 2; }
static size_t row_bytes_of(int64_t rows, int64_t stride, int64_t cols, size_t size) {
    return rows > 0 && cols > 0 ? (size_t)((rows - 1) * stride + cols) * size : 0;
}
static const void *placed_in(const tp_scores *s, const void *in) {
    return all_on_host ? in : placed(in, row_bytes_of(s->rows, s->stride, s->cols, element_bytes(s)), (int)element_bytes(s), false);
}
static uint8_t *placed_mask(const tp_scores *s, const uint8_t *mask, bool written) {
    return placed(mask, all_on_host ? 0 : (size_t)(s->rows * ((s->cols + 7) / 8)), 1, written);
}

#define CUDA_CALL(call)                                                                                               \
    do status = call;                                                                                                 \
    while (short_of_memory(status));                                                                                  \
    return end_call(status)

static tp_status cuda_histogram(const tp_scores *s, int64_t begin, int64_t end, const void *in, int32_t digit, uint32_t prefix,
                                int64_t *counts) {
    tp_status status;
    start_call();
    in = placed_in(s, in);
    counts = placed(counts, TP_PRUNE_COUNTS * sizeof *counts, 8, true);
    CUDA_CALL(tp_cuda_prune_histogram(test_cuda, s, begin, end, in, digit, prefix, counts));
}

static tp_status cuda_count(const tp_scores *s, int64_t begin, int64_t end, const void *in, uint32_t key, int64_t *larger, int64_t *equal) {
    tp_status status;
    start_call();
    in = placed_in(s, in);
    larger = placed(larger, sizeof *larger, 8, true);
    equal = placed(equal, sizeof *equal, 8, true);
    CUDA_CALL(tp_cuda_prune_count(test_cuda, s, begin, end, in, key, larger, equal));
}

static tp_status cuda_find(const tp_scores *s, int64_t begin, int64_t end, const void *in, uint32_t key, int64_t skip, int64_t *row,
                           int64_t *col) {
    tp_status status;
    start_call();
    in = placed_in(s, in);
    row = placed(row, sizeof *row, 8, true);
    col = placed(col, sizeof *col, 8, true);
    CUDA_CALL(tp_cuda_prune_find(test_cuda, s, begin, end, in, key, skip, row, col));
}

static tp_status cuda_mask(const tp_scores *s, int64_t begin, int64_t end, const void *in, uint32_t key, int64_t tie_row, int64_t tie_col,
                           uint8_t *mask) {
    tp_status status;
    start_call();
    in = placed_in(s, in);
    mask = placed_mask(s, mask, true);
    CUDA_CALL(tp_cuda_prune_mask(test_cuda, s, begin, end, in, key, tie_row, tie_col, mask));
}

static tp_status cuda_lines(const tp_scores *s, int32_t axis, int64_t begin, int64_t end, const void *in, int64_t k, uint8_t *mask) {
    tp_status status;
    start_call();
    in = placed_in(s, in);
    mask = placed_mask(s, mask, true);
    CUDA_CALL(tp_cuda_prune_lines(test_cuda, s, axis, begin, end, in, k, mask));
}

static tp_status cuda_nm(const tp_scores *s, int32_t axis, int64_t begin, int64_t end, const void *in, int32_t n, int32_t m, uint8_t *mask) {
    tp_status status;
    start_call();
    in = placed_in(s, in);
    mask = placed_mask(s, mask, true);
    CUDA_CALL(tp_cuda_prune_nm(test_cuda, s, axis, begin, end, in, n, m, mask));
}

static size_t block_count(const tp_scores *s, int64_t block_rows, int64_t block_cols) {
    return (size_t)(((s->rows + block_rows - 1) / block_rows) * ((s->cols + block_cols - 1) / block_cols));
}

static tp_status cuda_blocks(const tp_scores *s, int64_t block_rows, int64_t block_cols, int64_t begin, int64_t end, const void *in,
                             float *scores) {
    tp_status status;
    start_call();
    in = placed_in(s, in);
    scores = placed(scores, all_on_host ? 0 : block_count(s, block_rows, block_cols) * sizeof *scores, 4, true);
    CUDA_CALL(tp_cuda_prune_blocks(test_cuda, s, block_rows, block_cols, begin, end, in, scores));
}

static tp_status cuda_expand(const tp_scores *s, int64_t block_rows, int64_t block_cols, int64_t begin, int64_t end, const uint8_t *blocks,
                             uint8_t *mask) {
    tp_status status;
    start_call();
    if (!all_on_host) {
        const tp_scores one = {.rows = (s->rows + block_rows - 1) / block_rows, .cols = (s->cols + block_cols - 1) / block_cols};
        blocks = placed_mask(&one, blocks, false);
        mask = placed_mask(s, mask, true);
    }
    CUDA_CALL(tp_cuda_prune_expand(test_cuda, s, block_rows, block_cols, begin, end, blocks, mask));
}

static tp_status cuda_apply(const tp_scores *s, int64_t begin, int64_t end, const void *in, const uint8_t *mask, void *out) {
    tp_status status;
    start_call();
    const size_t bytes = all_on_host ? 0 : row_bytes_of(s->rows, s->cols, s->cols, element_bytes(s));
    void *const to = placed(out, bytes, (int)element_bytes(s), true);
    const void *const from = in == out ? to : placed_in(s, in);
    mask = placed_mask(s, mask, false);
    CUDA_CALL(tp_cuda_prune_apply(test_cuda, s, begin, end, from, mask, to));
}

static tp_status cuda_error(const tp_scores *s, int64_t begin, int64_t end, const void *in, const void *out, tp_error *errors) {
    tp_status status;
    start_call();
    in = placed_in(s, in);
    out = placed(out, all_on_host ? 0 : row_bytes_of(s->rows, s->cols, s->cols, element_bytes(s)), (int)element_bytes(s), false);
    errors = placed(errors, (size_t)(end - begin) * sizeof *errors, 8, true);
    CUDA_CALL(tp_cuda_prune_error(test_cuda, s, begin, end, in, out, errors));
}

#define tp_prune_histogram(...) (on_cuda ? cuda_histogram(__VA_ARGS__) : tp_prune_histogram(__VA_ARGS__))
#define tp_prune_count(...) (on_cuda ? cuda_count(__VA_ARGS__) : tp_prune_count(__VA_ARGS__))
#define tp_prune_find(...) (on_cuda ? cuda_find(__VA_ARGS__) : tp_prune_find(__VA_ARGS__))
#define tp_prune_mask(...) (on_cuda ? cuda_mask(__VA_ARGS__) : tp_prune_mask(__VA_ARGS__))
#define tp_prune_lines(s, axis, begin, end, in, k, mask, scratch)                                                     \
    (on_cuda ? cuda_lines(s, axis, begin, end, in, k, mask) : tp_prune_lines(s, axis, begin, end, in, k, mask, scratch))
#define tp_prune_nm(...) (on_cuda ? cuda_nm(__VA_ARGS__) : tp_prune_nm(__VA_ARGS__))
#define tp_prune_blocks(...) (on_cuda ? cuda_blocks(__VA_ARGS__) : tp_prune_blocks(__VA_ARGS__))
#define tp_prune_expand(...) (on_cuda ? cuda_expand(__VA_ARGS__) : tp_prune_expand(__VA_ARGS__))
#define tp_prune_apply(...) (on_cuda ? cuda_apply(__VA_ARGS__) : tp_prune_apply(__VA_ARGS__))
#define tp_prune_error(...) (on_cuda ? cuda_error(__VA_ARGS__) : tp_prune_error(__VA_ARGS__))

/* ---- cases ---- */

typedef struct test_case {
    tp_scores s;
    char *in;
    double *x; /* rows * cols values */
    bool nan;
} test_case;

static int64_t size_of(tp_dtype type) { return type == TP_F32 ? 4 : 2; }

static uint64_t raw_bits(const test_case *t, int64_t r, int64_t c) {
    uint32_t word;
    uint16_t half;
    const char *p = t->in + (r * t->s.stride + c) * size_of(t->s.type);
    if (t->s.type == TP_F32) {
        memcpy(&word, p, 4);
        return word;
    }
    memcpy(&half, p, 2);
    return half;
}

static void store_bits(const test_case *t, int64_t r, int64_t c, uint64_t bits) {
    const uint32_t word = (uint32_t)bits;
    const uint16_t half = (uint16_t)bits;
    char *p = t->in + (r * t->s.stride + c) * size_of(t->s.type);
    if (t->s.type == TP_F32)
        memcpy(p, &word, 4);
    else
        memcpy(p, &half, 2);
}

/* The key by the words of the header. */
static uint32_t oracle_key(const test_case *t, int64_t r, int64_t c) {
    const int width = t->s.type == TP_F32 ? 32 : 16;
    const uint64_t all = (UINT64_C(1) << width) - 1, sign = UINT64_C(1) << (width - 1);
    uint64_t bits = raw_bits(t, r, c);
    if (t->s.order == TP_ORDER_MAGNITUDE) return (uint32_t)((bits & (sign - 1)) << (33 - width));
    if (bits == sign) bits = 0;
    bits = bits & sign ? ~bits & all : bits | sign;
    return (uint32_t)(bits << (32 - width));
}

static double score_at(const test_case *t, int64_t r, int64_t c) {
    const double x = t->x[r * t->s.cols + c];
    return t->s.order == TP_ORDER_MAGNITUDE ? fabs(x) : x;
}

enum { GAUSSIAN, UNIFORM, BITS, FEW, EQUAL, ZEROS, SMALL, FILLS };

static double gaussian(void) {
    double sum = 0;
    for (int i = 0; i < 6; i++) sum += random_unit() - 0.5;
    return sum;
}

static void fill(test_case *t, int kind) {
    const double constant = gaussian();
    const int f = t->s.type == TP_F32 ? 23 : t->s.type == TP_F16 ? 10 : 7, width = t->s.type == TP_F32 ? 32 : 16;
    const uint64_t infinity = ((UINT64_C(1) << (width - 1 - f)) - 1) << f, sign = UINT64_C(1) << (width - 1);
    t->nan = false;
    for (int64_t r = 0; r < t->s.rows; r++) {
        for (int64_t c = 0; c < t->s.cols; c++) {
            double x = 0;
            uint64_t bits = 0;
            switch (kind) {
            case GAUSSIAN: x = gaussian() * 0.05; break;
            case UNIFORM: x = random_unit() * 2 - 1; break;
            case FEW: x = (double)(random_below(5) - 2) * constant; break;
            case EQUAL: x = constant; break;
            default: bits = random_bits() & (sign * 2 - 1);
            }
            if (kind == ZEROS) bits = random_below(3) ? bits & sign : bits % (infinity + 1) | (bits & sign);
            if (kind == SMALL) bits &= sign | ((UINT64_C(1) << f) - 1);
            if (kind == BITS && (bits & (sign - 1)) > infinity) bits = infinity | (bits & sign);
            if (kind >= BITS && kind != FEW && kind != EQUAL)
                store_bits(t, r, c, bits);
            else
                oracle_store(t->s.type, t->in, r * t->s.stride + c, x);
        }
    }
}

static void read_values(test_case *t) {
    t->x = realloc(t->x, (size_t)(t->s.rows * t->s.cols + 1) * sizeof *t->x);
    t->nan = false;
    for (int64_t r = 0; r < t->s.rows; r++) {
        for (int64_t c = 0; c < t->s.cols; c++) {
            const double x = oracle_value(t->s.type, t->in, r * t->s.stride + c);
            t->x[r * t->s.cols + c] = x;
            t->nan |= isnan(x);
        }
    }
}

static int64_t some_size(int64_t limit) {
    switch (random_below(4)) {
    case 0: return random_below(4);
    case 1: return random_below(limit / 4);
    default: return random_below(limit);
    }
}

static void case_of(test_case *t, int64_t rows, int64_t cols, tp_dtype type, int32_t order, int kind) {
    t->s = (tp_scores){.rows = rows, .cols = cols, .stride = cols + (random_below(2) ? 0 : random_below(20)), .type = type,
                       .order = order};
    const int64_t elements = rows && cols ? (rows - 1) * t->s.stride + cols : 0;
    t->in = guarded_input(&in_memory, (size_t)(elements * size_of(type)), random_below(2), (int)random_below(9));
    fill(t, kind);
    read_values(t);
}

static void some_case(test_case *t) {
    const bool wide = random_below(8) == 0, tall = !wide && random_below(8) == 0;
    /* Lines that are longer than the memory in which a GPU sorts them, or about as long. */
    const bool very = random_below(100) == 0;
    const int64_t rows = wide ? some_size(4) : some_size(tall ? 700 : 60), cols = wide ? some_size(6000) : some_size(tall ? 60 : 300);
    const bool across = random_below(2);
    case_of(t, !very ? rows : across ? 1 + random_below(2) : 2500 + random_below(600),
            !very ? cols : across ? 24800 + random_below(2) * 25000 + random_below(600) : 1 + random_below(20),
            (tp_dtype)(TP_F32 + random_below(3)), (int32_t)(1 + random_below(2)), (int)random_below(FILLS));
}

static void put_nan(test_case *t) {
    store_bits(t, random_below(t->s.rows), random_below(t->s.cols),
               t->s.type == TP_F32 ? 0x7f800000 | (uint64_t)random_below(2) << 31 | (uint64_t)(1 + random_below(0x7fffff))
               : t->s.type == TP_F16 ? 0x7c00 | (uint64_t)random_below(2) << 15 | (uint64_t)(1 + random_below(0x3ff))
                                     : 0x7f80 | (uint64_t)random_below(2) << 15 | (uint64_t)(1 + random_below(0x7f)));
    read_values(t);
}

enum { CASES = 400 };

#define FOR_CASES(t)                                                                                                  \
    for (int i_case = 0; i_case < CASES; i_case++)                                                                    \
        if (some_case(&(t)), true)

static const char *shown(const test_case *t, int tier) {
    static char text[160];
    snprintf(text, sizeof text, "%s: %lld x %lld stride %lld type %d order %d", tier_name(tier), (long long)t->s.rows,
             (long long)t->s.cols, (long long)t->s.stride, t->s.type, t->s.order);
    return text;
}

/* Three ranges that cover all lines; the one in the middle comes first. */
typedef struct cuts { int64_t at[4]; } cuts;
static const int turn[3] = {1, 0, 2};

static cuts some_cuts(int64_t lines, int64_t unit) {
    int64_t a = random_below(lines / unit + 1) * unit, b = random_below(lines / unit + 1) * unit;
    if (random_below(3) == 0) b = lines;
    return a < b ? (cuts){{0, a, b, lines}} : (cuts){{0, b, a, lines}};
}

static int64_t mask_stride(int64_t cols) { return (cols + 7) / 8; }
static bool bit_at(const uint8_t *mask, int64_t stride, int64_t r, int64_t c) { return mask[r * stride + c / 8] >> c % 8 & 1; }
static void set_bit(uint8_t *mask, int64_t stride, int64_t r, int64_t c) { mask[r * stride + c / 8] |= (uint8_t)(1 << c % 8); }

static uint8_t *take_mask(int64_t rows, int64_t cols) {
    return guarded_take(&mask_memory, (size_t)(rows * mask_stride(cols)), random_below(2));
}

/* Whether all bytes from row a to row b still have the pattern of memory that was never written. */
static bool untouched(const void *p, int64_t a, int64_t b, int64_t row_bytes) {
    for (int64_t i = a * row_bytes; i < b * row_bytes; i++)
        if (((const uint8_t *)p)[i] != GUARD_FILL) return false;
    return true;
}

/* ---- order ---- */

typedef struct ranked { double score; int64_t position; } ranked;

/* Larger scores first, and of equal ones the one that comes first. */
static int by_rank(const void *a, const void *b) {
    const ranked *p = a, *q = b;
    if (p->score != q->score) return p->score > q->score ? -1 : 1;
    return (p->position > q->position) - (p->position < q->position);
}

static ranked *rank_all(const test_case *t) {
    const int64_t n = t->s.rows * t->s.cols;
    ranked *all = malloc((size_t)(n + 1) * sizeof *all);
    for (int64_t i = 0; i < n; i++) all[i] = (ranked){score_at(t, i / t->s.cols, i % t->s.cols), i};
    qsort(all, (size_t)n, sizeof *all, by_rank);
    return all;
}

static tp_status histogram(const test_case *t, int32_t digit, uint32_t prefix, int64_t *counts) {
    memset(counts, 0, TP_PRUNE_COUNTS * sizeof *counts);
    const cuts k = some_cuts(t->s.rows, 1);
    tp_status status = TP_OK;
    for (int i = 0; i < 3; i++) {
        const tp_status one = tp_prune_histogram(&t->s, k.at[turn[i]], k.at[turn[i] + 1], t->in, digit, prefix, counts);
        if (one) status = one;
    }
    return status;
}

/* The histograms element by element, and the selection that they are made for. */
static void check_histogram_case(const test_case *t, int tier) {
    static int64_t counts[TP_PRUNE_COUNTS], expected[TP_PRUNE_COUNTS];
    const int64_t n = t->s.rows * t->s.cols;
    const int shift[3] = {21, 10, 0};
    for (int32_t digit = 0; digit < 3; digit++) {
        const uint32_t low = (uint32_t)random_bits();
        const uint32_t prefix = n && random_below(4) ? oracle_key(t, random_below(t->s.rows), random_below(t->s.cols)) : low;
        memset(expected, 0, sizeof expected);
        for (int64_t i = 0; i < n; i++) {
            const uint32_t key = oracle_key(t, i / t->s.cols, i % t->s.cols);
            const uint32_t higher = digit == 0 ? 0 : UINT32_MAX << shift[digit - 1];
            if ((key & higher) == (prefix & higher)) expected[(key & ~higher) >> shift[digit]]++;
        }
        const uint32_t ignored = digit == 0 ? low : digit == 1 ? low >> 11 : low >> 22;
        const tp_status status = histogram(t, digit, prefix ^ ignored, counts);
        CHECK(status == (digit == 0 && t->nan ? TP_ERR_NONFINITE : TP_OK), "%s digit %d: status %d", shown(t, tier), digit, status);
        if (status == TP_OK) CHECK(!memcmp(counts, expected, sizeof counts), "%s: digit %d", shown(t, tier), digit);
    }
    if (t->nan || n == 0) return;
    ranked *all = rank_all(t);
    int64_t k = 1 + random_below(n);
    const int64_t kth = all[k - 1].position;
    uint32_t key = 0;
    for (int32_t digit = 0; digit < 3; digit++) {
        histogram(t, digit, key, counts);
        int d = TP_PRUNE_COUNTS - 1;
        for (; d > 0 && counts[d] < k; d--) k -= counts[d];
        key |= (uint32_t)d << shift[digit];
    }
    CHECK(key == oracle_key(t, kth / t->s.cols, kth % t->s.cols), "%s: k-th key %08x", shown(t, tier), key);
    free(all);
}

static void check_prune_histogram(void) {
    static test_case t;
    FOR_CASES(t) {
        if (t.s.rows > 0 && t.s.cols > 0 && random_below(8) == 0) put_nan(&t);
        for (int tier = 0; tier <= test_tiers; tier++) {
            use_tier(tier);
            check_histogram_case(&t, tier);
        }
    }
    /* More equal elements than a narrow counter holds. */
    for (int order = 1; order <= 2; order++) {
        for (int type = TP_F32; type <= TP_BF16; type++) {
            case_of(&t, 1, 600000 + random_below(1000), type, order, EQUAL);
            for (int tier = 0; tier <= test_tiers; tier++) {
                use_tier(tier);
                check_histogram_case(&t, tier);
            }
        }
    }
}

static uint32_t some_key(const test_case *t) {
    static const uint32_t ends[] = {0, UINT32_MAX, 0x80000000, 0x7fffffff, 1};
    if (t->s.rows * t->s.cols == 0 || random_below(8) == 0) return ends[random_below(5)];
    return oracle_key(t, random_below(t->s.rows), random_below(t->s.cols)) + (uint32_t)(random_below(6) ? 0 : random_below(3) - 1);
}

static void check_prune_count(void) {
    static test_case t;
    FOR_CASES(t) {
        if (t.s.rows > 0 && t.s.cols > 0 && random_below(4) == 0) put_nan(&t);
        const uint32_t key = some_key(&t);
        const int64_t begin = random_below(t.s.rows + 1), end = begin + random_below(t.s.rows - begin + 1);
        int64_t larger = 0, equal = 0;
        for (int64_t r = begin; r < end; r++) {
            for (int64_t c = 0; c < t.s.cols; c++) {
                larger += oracle_key(&t, r, c) > key;
                equal += oracle_key(&t, r, c) == key;
            }
        }
        for (int tier = 0; tier <= test_tiers; tier++) {
            use_tier(tier);
            int64_t got_larger = -1, got_equal = -1;
            const tp_status status = tp_prune_count(&t.s, begin, end, t.in, key, &got_larger, &got_equal);
            CHECK(status == TP_OK && got_larger == larger && got_equal == equal, "%s: %lld and %lld, not %lld and %lld",
                  shown(&t, tier), (long long)got_larger, (long long)got_equal, (long long)larger, (long long)equal);
        }
    }
}

static void check_prune_find(void) {
    static test_case t;
    FOR_CASES(t) {
        if (t.s.rows > 0 && t.s.cols > 0 && random_below(4) == 0) put_nan(&t);
        const uint32_t key = some_key(&t);
        const int64_t begin = random_below(t.s.rows + 1), end = begin + random_below(t.s.rows - begin + 1);
        int64_t total = 0, row = -1, col = -1;
        for (int64_t i = begin * t.s.cols; i < end * t.s.cols; i++) total += oracle_key(&t, i / t.s.cols, i % t.s.cols) == key;
        int64_t skip = random_below(total + 2);
        if (random_below(2)) { /* the first one of a row, or behind the last one */
            skip = 0;
            for (int64_t i = begin * t.s.cols, n = (begin + random_below(end - begin + 1)) * t.s.cols; i < n; i++)
                skip += oracle_key(&t, i / t.s.cols, i % t.s.cols) == key;
        }
        int64_t left = skip;
        for (int64_t i = begin * t.s.cols; i < end * t.s.cols && row < 0; i++) {
            if (oracle_key(&t, i / t.s.cols, i % t.s.cols) == key && left-- == 0) row = i / t.s.cols, col = i % t.s.cols;
        }
        for (int tier = 0; tier <= test_tiers; tier++) {
            use_tier(tier);
            int64_t got_row = -2, got_col = -2;
            const tp_status status = tp_prune_find(&t.s, begin, end, t.in, key, skip, &got_row, &got_col);
            CHECK(status == TP_OK && got_row == row && (row < 0 || got_col == col), "%s: (%lld, %lld), not (%lld, %lld)",
                  shown(&t, tier), (long long)got_row, (long long)got_col, (long long)row, (long long)col);
        }
    }
}

/* ---- masks ---- */

static void check_same_mask(const test_case *t, int tier, const char *what, const uint8_t *mask, const uint8_t *expected) {
    const int64_t stride = mask_stride(t->s.cols);
    for (int64_t i = 0; i < t->s.rows * stride; i++) {
        if (mask[i] == expected[i]) continue;
        test_fail(__FILE__, __LINE__, "%s, %s: byte %lld of row %lld is %02x, not %02x", shown(t, tier), what,
                  (long long)(i % stride), (long long)(i / stride), mask[i], expected[i]);
        return;
    }
}

static void check_prune_mask(void) {
    static test_case t;
    FOR_CASES(t) {
        if (t.s.rows > 0 && t.s.cols > 0 && random_below(4) == 0) put_nan(&t);
        const uint32_t key = some_key(&t);
        const int64_t stride = mask_stride(t.s.cols);
        int64_t tie_row = random_below(t.s.rows + 1), tie_col = random_below(t.s.cols + 1);
        if (random_below(3) == 0) tie_row = t.s.rows, tie_col = 0;
        if (random_below(3) == 0) tie_row = tie_col = 0;
        if (random_below(4) == 0) tie_row += random_below(2) ? -1 - random_below(3) : t.s.rows;
        if (random_below(4) == 0) tie_col += random_below(2) ? -1 - random_below(3) : t.s.cols;
        uint8_t *expected = calloc((size_t)(t.s.rows * stride + 1), 1);
        for (int64_t r = 0; r < t.s.rows; r++) {
            for (int64_t c = 0; c < t.s.cols; c++) {
                const uint32_t x = oracle_key(&t, r, c);
                if (x > key || (x == key && (r < tie_row || (r == tie_row && c < tie_col)))) set_bit(expected, stride, r, c);
            }
        }
        const cuts k = some_cuts(t.s.rows, 1);
        for (int tier = 0; tier <= test_tiers; tier++) {
            use_tier(tier);
            uint8_t *mask = take_mask(t.s.rows, t.s.cols);
            for (int i = 0; i < 3; i++) {
                const tp_status status = tp_prune_mask(&t.s, k.at[turn[i]], k.at[turn[i] + 1], t.in, key, tie_row, tie_col, mask);
                CHECK(status == TP_OK, "%s: status %d", shown(&t, tier), status);
                if (i == 0)
                    CHECK(untouched(mask, 0, k.at[1], stride) && untouched(mask, k.at[2], t.s.rows, stride), "%s: wrote elsewhere", shown(&t, tier));
            }
            check_same_mask(&t, tier, "mask", mask, expected);
        }
        free(expected);
    }
}

/* The `n` of the elements with first position, step and length that rank highest. */
static void choose(const test_case *t, int64_t r, int64_t c, int32_t axis, int64_t length, int64_t n, uint8_t *mask) {
    ranked *line = malloc((size_t)(length + 1) * sizeof *line);
    for (int64_t i = 0; i < length; i++) line[i] = (ranked){axis == 1 ? score_at(t, r, c + i) : score_at(t, r + i, c), i};
    qsort(line, (size_t)length, sizeof *line, by_rank);
    for (int64_t i = 0; i < length && i < n; i++) {
        const int64_t at = line[i].position;
        set_bit(mask, mask_stride(t->s.cols), axis == 1 ? r : r + at, axis == 1 ? c + at : c);
    }
    free(line);
}

static void check_lines_case(const test_case *t, int32_t axis, int64_t k) {
    const int64_t stride = mask_stride(t->s.cols), lines = axis == 1 ? t->s.rows : t->s.cols;
    const int64_t length = axis == 1 ? t->s.cols : t->s.rows;
    uint8_t *expected = calloc((size_t)(t->s.rows * stride + 1), 1);
    if (!t->nan)
        for (int64_t l = 0; l < lines; l++) choose(t, axis == 1 ? l : 0, axis == 1 ? 0 : l, axis, length, k, expected);
    const cuts u = some_cuts(lines, axis == 1 ? 1 : 8);
    int64_t bytes = -1;
    CHECK(tp_prune_lines_scratch(&t->s, axis, &bytes) == TP_OK && bytes >= 0, "scratch");
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        uint8_t *mask = take_mask(t->s.rows, t->s.cols);
        tp_status status = TP_OK;
        for (int i = 0; i < 3; i++) {
            char *scratch = guarded_take(&scratch_memory, (size_t)bytes, random_below(2));
            if ((uintptr_t)scratch % 64) scratch = guarded_take(&scratch_memory, (size_t)bytes, false);
            const tp_status one = tp_prune_lines(&t->s, axis, u.at[turn[i]], u.at[turn[i] + 1], t->in, k, mask, bytes ? scratch : NULL);
            if (one) status = one;
            if (i == 0 && axis == 1)
                CHECK(untouched(mask, 0, u.at[1], stride) && untouched(mask, u.at[2], lines, stride), "%s: wrote elsewhere", shown(t, tier));
            for (int64_t r = 0; i == 0 && axis == 0 && r < t->s.rows; r++)
                CHECK(untouched(mask + r * stride, 0, u.at[1] / 8, 1) && untouched(mask + r * stride, mask_stride(u.at[2]), stride, 1),
                      "%s: wrote elsewhere", shown(t, tier));
        }
        CHECK(status == (t->nan ? TP_ERR_NONFINITE : TP_OK), "%s axis %d: status %d", shown(t, tier), axis, status);
        if (!status) check_same_mask(t, tier, axis ? "rows" : "columns", mask, expected);
    }
    free(expected);
}

static void check_prune_lines(void) {
    static test_case t;
    FOR_CASES(t) {
        const int32_t axis = (int32_t)random_below(2);
        const int64_t length = axis == 1 ? t.s.cols : t.s.rows;
        if (t.s.rows > 0 && t.s.cols > 0 && random_below(8) == 0) put_nan(&t);
        const int64_t ks[] = {0, 1, length, length + 3, length / 2, random_below(length + 1), random_below(length + 1)};
        check_lines_case(&t, axis, ks[random_below(7)]);
    }
}

static void check_nm_case(const test_case *t, int32_t axis, int32_t n, int32_t m) {
    const int64_t stride = mask_stride(t->s.cols), groups = (t->s.rows + m - 1) / m;
    uint8_t *expected = calloc((size_t)(t->s.rows * stride + 1), 1);
    if (!t->nan) {
        for (int64_t r = 0; r < t->s.rows; r += axis == 1 ? 1 : m) {
            for (int64_t c = 0; c < t->s.cols; c += axis == 1 ? m : 1) {
                const int64_t left = axis == 1 ? t->s.cols - c : t->s.rows - r;
                choose(t, r, c, axis, left < m ? left : m, n, expected);
            }
        }
    }
    const cuts k = some_cuts(axis == 1 ? t->s.rows : groups, 1);
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        uint8_t *mask = take_mask(t->s.rows, t->s.cols);
        tp_status status = TP_OK;
        for (int i = 0; i < 3; i++) {
            const tp_status one = tp_prune_nm(&t->s, axis, k.at[turn[i]], k.at[turn[i] + 1], t->in, n, m, mask);
            if (one) status = one;
            const int64_t unit = axis == 1 ? 1 : m, low = k.at[1] * unit, high = k.at[2] * unit;
            if (i == 0)
                CHECK(untouched(mask, 0, low < t->s.rows ? low : t->s.rows, stride) && untouched(mask, high, t->s.rows, stride),
                      "%s: wrote elsewhere", shown(t, tier));
        }
        CHECK(status == (t->nan ? TP_ERR_NONFINITE : TP_OK), "%s %d:%d: status %d", shown(t, tier), n, m, status);
        if (!status) check_same_mask(t, tier, axis ? "n:m of rows" : "n:m of columns", mask, expected);
    }
    free(expected);
}

static void check_prune_nm(void) {
    static test_case t;
    FOR_CASES(t) {
        if (t.s.rows > 0 && t.s.cols > 0 && random_below(8) == 0) put_nan(&t);
        const int32_t some_m = (int32_t)(1 + random_below(16)), m = random_below(2) ? some_m : random_below(2) ? 4 : 8;
        check_nm_case(&t, (int32_t)random_below(2), (int32_t)(1 + random_below(m)), m);
    }
    for (int32_t m = 1; m <= 16; m++) {
        for (int32_t n = 1; n <= m; n++) {
            case_of(&t, 1 + random_below(40), 1 + random_below(200), (tp_dtype)(TP_F32 + random_below(3)),
                    (int32_t)(1 + random_below(2)), (int)random_below(FILLS));
            check_nm_case(&t, (n + m) % 2, n, m);
        }
    }
}

/* ---- thresholds ---- */

static void check_prune_key(void) {
    static test_case t;
    for (int i = 0; i < 50 * CASES; i++) {
        case_of(&t, 1, 2, (tp_dtype)(TP_F32 + random_below(3)), (int32_t)(1 + random_below(2)), BITS);
        const double values[] = {t.x[0], 0, -0.0, INFINITY, -INFINITY, 1e300, -1e300, 1e-320, -1e-320, 65504, 65505, -65505,
                                 t.x[0] * (1 + ldexp(1, -40)), t.x[0] * (1 - ldexp(1, -40))};
        const double score = values[random_below(14)];
        uint32_t key = 0;
        CHECK(tp_prune_key(&t.s, score, &key) == TP_OK, "status");
        /* Two elements: one at random, and the nearest to the threshold. */
        for (int64_t c = 0; c < 2; c++) {
            if (c == 1) {
                oracle_store(t.s.type, t.in, 1, fabs(score) > 1e38 ? t.x[0] : score);
                store_bits(&t, 0, 1, raw_bits(&t, 0, 1) + (uint64_t)random_below(3) - 1);
                read_values(&t);
                if (t.nan) continue;
            }
            const bool kept = score_at(&t, 0, c) >= (t.s.order == TP_ORDER_MAGNITUDE ? fmax(score, 0) : score);
            CHECK((oracle_key(&t, 0, c) >= key) == kept, "type %d order %d: %.20g >= %.20g", t.s.type, t.s.order,
                  t.x[c], score);
        }
    }
    /* Over all values of 16 bits: the key is that of an element, and the smallest. */
    for (int type = TP_F16; type <= TP_BF16; type++) {
        for (int order = 1; order <= 2; order++) {
            case_of(&t, 256, 256, type, order, EQUAL);
            for (int i = 0; i < 65536; i++) store_bits(&t, i / 256, i % 256, (uint64_t)i);
            read_values(&t);
            for (int i = 0; i < 20; i++) {
                const double some = t.x[random_below(65536)] * (1 + 0.001 * gaussian()), score = isnan(some) || i == 0 ? 0 : some;
                uint32_t key = 0, smallest = UINT32_MAX;
                for (int k = 0; k < 65536; k++) {
                    const uint32_t one = oracle_key(&t, k / 256, k % 256);
                    if (score_at(&t, k / 256, k % 256) >= score && one < smallest) smallest = one;
                }
                CHECK(tp_prune_key(&t.s, score, &key) == TP_OK && key == smallest, "type %d order %d: key %08x of %g, not %08x",
                      type, order, key, score, smallest);
            }
        }
    }
    uint32_t key;
    CHECK(tp_prune_key(&t.s, NAN, &key) == TP_ERR_NONFINITE, "NaN");
}

/* ---- blocks ---- */

static int64_t some_block(int64_t n) {
    static const int64_t common[] = {1, 2, 4, 8, 16, 32, 64};
    return random_below(8) == 0 ? INT64_C(1) << 31 : random_below(2) ? common[random_below(7)] : 1 + random_below(n + 5);
}

static void check_prune_blocks(void) {
    static test_case t;
    FOR_CASES(t) {
        if (t.s.rows > 0 && t.s.cols > 0 && random_below(8) == 0) put_nan(&t);
        const int64_t br = some_block(t.s.rows), bc = some_block(t.s.cols);
        const int64_t down = (t.s.rows + br - 1) / br, across = (t.s.cols + bc - 1) / bc;
        const size_t bytes = (size_t)(down * across) * 4;
        float *expected = malloc(bytes + 4);
        bool nan = false;
        for (int64_t b = 0; b < down * across; b++) {
            double sum = 0;
            for (int64_t r = b / across * br; r < t.s.rows && r < b / across * br + br; r++) {
                for (int64_t c = b % across * bc; c < t.s.cols && c < b % across * bc + bc; c++) {
                    const double x = t.x[r * t.s.cols + c];
                    sum += t.s.order == TP_ORDER_MAGNITUDE ? x * x : x;
                }
            }
            expected[b] = (float)(t.s.order == TP_ORDER_MAGNITUDE ? sqrt(sum) : sum);
            nan |= isnan(sum);
        }
        const cuts k = some_cuts(down, 1);
        for (int tier = 0; tier <= test_tiers; tier++) {
            use_tier(tier);
            float *scores = guarded_take(&score_memory, bytes, random_below(2));
            tp_status status = TP_OK;
            for (int i = 0; i < 3; i++) {
                const tp_status one = tp_prune_blocks(&t.s, br, bc, k.at[turn[i]], k.at[turn[i] + 1], t.in, scores);
                if (one) status = one;
                if (i == 0)
                    CHECK(untouched(scores, 0, k.at[1], across * 4) && untouched(scores, k.at[2], down, across * 4),
                          "%s: wrote elsewhere", shown(&t, tier));
            }
            CHECK(status == (nan ? TP_ERR_NONFINITE : TP_OK), "%s: status %d", shown(&t, tier), status);
            if (!status) CHECK(!memcmp(scores, expected, bytes), "%s: blocks of %lld x %lld", shown(&t, tier), (long long)br, (long long)bc);
        }
        free(expected);
    }
}

static void check_prune_expand(void) {
    static test_case t;
    FOR_CASES(t) {
        const int64_t br = some_block(t.s.rows), bc = some_block(t.s.cols), stride = mask_stride(t.s.cols);
        const int64_t down = (t.s.rows + br - 1) / br, across = (t.s.cols + bc - 1) / bc, block_stride = mask_stride(across);
        uint8_t *blocks = guarded_take(&score_memory, (size_t)(down * block_stride), random_below(2));
        uint8_t *expected = calloc((size_t)(t.s.rows * stride + 1), 1);
        memset(blocks, 0, (size_t)(down * block_stride));
        for (int64_t b = 0; b < down * across; b++)
            if (random_below(2)) set_bit(blocks, block_stride, b / across, b % across);
        for (int64_t r = 0; r < t.s.rows; r++)
            for (int64_t c = 0; c < t.s.cols; c++)
                if (bit_at(blocks, block_stride, r / br, c / bc)) set_bit(expected, stride, r, c);
        const cuts k = some_cuts(down, 1);
        const tp_scores only = {.rows = t.s.rows, .cols = t.s.cols};
        for (int tier = 0; tier <= test_tiers; tier++) {
            use_tier(tier);
            uint8_t *mask = take_mask(t.s.rows, t.s.cols);
            for (int i = 0; i < 3; i++) {
                const tp_status status = tp_prune_expand(&only, br, bc, k.at[turn[i]], k.at[turn[i] + 1], blocks, mask);
                CHECK(status == TP_OK, "%s: status %d", shown(&t, tier), status);
                if (i == 0)
                    CHECK(untouched(mask, 0, k.at[1] * br < t.s.rows ? k.at[1] * br : t.s.rows, stride) &&
                              untouched(mask, k.at[2] * br, t.s.rows, stride), "%s: wrote elsewhere", shown(&t, tier));
            }
            check_same_mask(&t, tier, "expand", mask, expected);
        }
        free(expected);
    }
}

/* ---- what follows from a mask ---- */

static uint8_t *some_mask(const test_case *t) {
    const int64_t stride = mask_stride(t->s.cols);
    uint8_t *mask = take_mask(t->s.rows, t->s.cols);
    memset(mask, 0, (size_t)(t->s.rows * stride));
    for (int64_t i = 0; i < t->s.rows * t->s.cols; i++)
        if (random_below(2)) set_bit(mask, stride, i / t->s.cols, i % t->s.cols);
    return mask;
}

static void check_prune_apply(void) {
    static test_case t;
    FOR_CASES(t) {
        if (t.s.rows > 0 && t.s.cols > 0 && random_below(4) == 0) put_nan(&t);
        const int64_t size = size_of(t.s.type), stride = mask_stride(t.s.cols), row_bytes = t.s.cols * size;
        const uint8_t *mask = some_mask(&t);
        char *expected = calloc((size_t)(t.s.rows * row_bytes + 1), 1);
        for (int64_t i = 0; i < t.s.rows * t.s.cols; i++) {
            const int64_t r = i / t.s.cols, c = i % t.s.cols;
            if (bit_at(mask, stride, r, c)) memcpy(expected + i * size, t.in + (r * t.s.stride + c) * size, (size_t)size);
        }
        const cuts k = some_cuts(t.s.rows, 1);
        tp_scores s = t.s;
        s.order = 0;
        for (int tier = 0; tier <= test_tiers; tier++) {
            use_tier(tier);
            char *out = guarded_take(&out_memory, (size_t)(t.s.rows * row_bytes), random_below(2));
            for (int i = 0; i < 3; i++) {
                const tp_status status = tp_prune_apply(&s, k.at[turn[i]], k.at[turn[i] + 1], t.in, mask, out);
                CHECK(status == TP_OK, "%s: status %d", shown(&t, tier), status);
                if (i == 0)
                    CHECK(untouched(out, 0, k.at[1], row_bytes) && untouched(out, k.at[2], t.s.rows, row_bytes),
                          "%s: wrote elsewhere", shown(&t, tier));
            }
            CHECK(!memcmp(out, expected, (size_t)(t.s.rows * row_bytes)), "%s", shown(&t, tier));
            if (t.s.stride == t.s.cols) {
                memcpy(out, t.in, (size_t)(t.s.rows * row_bytes));
                CHECK(tp_prune_apply(&s, 0, t.s.rows, out, mask, out) == TP_OK, "in place");
                CHECK(!memcmp(out, expected, (size_t)(t.s.rows * row_bytes)), "%s: in place", shown(&t, tier));
            }
        }
        free(expected);
    }
}

static void check_prune_error(void) {
    static test_case t;
    FOR_CASES(t) {
        if (t.s.rows > 0 && t.s.cols > 0 && random_below(4) == 0) put_nan(&t);
        const int64_t size = size_of(t.s.type), n = t.s.rows * t.s.cols;
        char *out = guarded_take(&out_memory, (size_t)(n * size), random_below(2));
        for (int64_t i = 0; i < n; i++) {
            const char *from = t.in + (i / t.s.cols * t.s.stride + i % t.s.cols) * size;
            if (random_below(2))
                memset(out + i * size, 0, (size_t)size);
            else if (random_below(2))
                memcpy(out + i * size, from, (size_t)size);
            else
                oracle_store(t.s.type, out, i, gaussian());
        }
        tp_error *expected = calloc((size_t)t.s.rows + 1, sizeof *expected);
        for (int64_t r = 0; r < t.s.rows; r++) {
            double errors[16] = {0}, squares[16] = {0}, max = 0;
            for (int64_t c = 0; c < t.s.cols; c++) {
                const double x = t.x[r * t.s.cols + c], d = x - oracle_value(t.s.type, out, r * t.s.cols + c);
                errors[c % 16] += d * d;
                squares[c % 16] += x * x;
                max = isnan(d) || isnan(max) ? NAN : fmax(max, fabs(d));
            }
            for (int i = 0; i < 8; i++) errors[i] += errors[i + 8], squares[i] += squares[i + 8];
            for (int i = 0; i < 4; i++) errors[i] += errors[i + 4], squares[i] += squares[i + 4];
            for (int i = 0; i < 2; i++) errors[i] += errors[i + 2], squares[i] += squares[i + 2];
            expected[r] = (tp_error){errors[0] + errors[1], squares[0] + squares[1], max};
        }
        const cuts k = some_cuts(t.s.rows, 1);
        tp_scores s = t.s;
        s.order = 0;
        tp_error *first = calloc((size_t)t.s.rows + 1, sizeof *first);
        for (int tier = 0; tier <= test_tiers; tier++) {
            use_tier(tier);
            tp_error *errors = guarded_take(&score_memory, (size_t)t.s.rows * sizeof *errors, true);
            for (int i = 0; i < 3; i++) {
                const int64_t from = k.at[turn[i]];
                const tp_status status = tp_prune_error(&s, from, k.at[turn[i] + 1], t.in, out, errors + from);
                CHECK(status == TP_OK, "%s: status %d", shown(&t, tier), status);
            }
            if (tier == 0) memcpy(first, errors, (size_t)t.s.rows * sizeof *first);
            CHECK(!memcmp(errors, first, (size_t)t.s.rows * sizeof *first), "%s differs from ref", shown(&t, tier));
            for (int64_t r = 0; r < t.s.rows; r++) {
                const double got[3] = {errors[r].sum_squared_error, errors[r].sum_squares, errors[r].max_error};
                const double want[3] = {expected[r].sum_squared_error, expected[r].sum_squares, expected[r].max_error};
                for (int i = 0; i < 3; i++)
                    CHECK(got[i] == want[i] || (isnan(got[i]) && isnan(want[i])), "%s row %lld: %d is %.17g, not %.17g",
                          shown(&t, tier), (long long)r, i, got[i], want[i]);
            }
        }
        free(expected);
        free(first);
    }
}

/* ---- arguments ---- */

static void check_arguments(int tier) {
    use_tier(tier);
    all_on_host = true;
    static const float in[64];
    static int64_t counts[TP_PRUNE_COUNTS];
    uint8_t mask[8] = {0};
    char scratch[16384] __attribute__((aligned(64)));
    float out[64];
    tp_error errors[8];
    int64_t a, b;
    uint32_t key;
    const tp_scores good = {.rows = 8, .cols = 8, .stride = 8, .type = TP_F32, .order = TP_ORDER_VALUE};
    const struct { tp_scores s; tp_status status; } specs[] = {
        {{-1, 8, 8, TP_F32, 1}, TP_ERR_SHAPE}, {{8, -1, 8, TP_F32, 1}, TP_ERR_SHAPE}, {{8, 8, 7, TP_F32, 1}, TP_ERR_SHAPE},
        {{INT64_C(1) << 30, 8, INT64_C(1) << 30, TP_F32, 1}, TP_ERR_SHAPE}, {{INT64_MAX, 8, 8, TP_F32, 1}, TP_ERR_SHAPE},
        {{3, 8, INT64_MAX, TP_F32, 1}, TP_ERR_SHAPE}, {{8, 8, 8, TP_I8, 1}, TP_ERR_TYPE}, {{8, 8, 8, 0, 1}, TP_ERR_TYPE},
        {{8, 8, 8, TP_F32, 0}, TP_ERR_ARGUMENT}, {{8, 8, 8, TP_F32, 3}, TP_ERR_ARGUMENT}};
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        const tp_scores *s = &specs[i].s;
        const tp_status status = specs[i].status;
        CHECK(tp_prune_histogram(s, 0, 0, in, 0, 0, counts) == status, "spec %zu", i);
        CHECK(tp_prune_count(s, 0, 0, in, 0, &a, &b) == status, "spec %zu", i);
        CHECK(tp_prune_find(s, 0, 0, in, 0, 0, &a, &b) == status, "spec %zu", i);
        CHECK(tp_prune_mask(s, 0, 0, in, 0, 0, 0, mask) == status, "spec %zu", i);
        CHECK(tp_prune_key(s, 0, &key) == status, "spec %zu", i);
        CHECK(tp_prune_lines(s, 1, 0, 0, in, 1, mask, scratch) == status, "spec %zu", i);
        CHECK(tp_prune_lines_scratch(s, 1, &a) == status, "spec %zu", i);
        CHECK(tp_prune_nm(s, 1, 0, 0, in, 2, 4, mask) == status, "spec %zu", i);
        CHECK(tp_prune_blocks(s, 1, 1, 0, 0, in, out) == status, "spec %zu", i);
        if (status == TP_ERR_ARGUMENT) continue;
        CHECK(tp_prune_apply(s, 0, 0, in, mask, out) == status, "spec %zu", i);
        CHECK(tp_prune_error(s, 0, 0, in, out, errors) == status, "spec %zu", i);
    }
    CHECK(tp_prune_histogram(NULL, 0, 8, in, 0, 0, counts) == TP_ERR_ARGUMENT, "null spec");
    CHECK(tp_prune_expand(NULL, 1, 1, 0, 8, mask, mask) == TP_ERR_ARGUMENT, "null spec");

    const int64_t ranges[][2] = {{-1, 4}, {5, 4}, {0, 9}};
    for (int i = 0; i < 3; i++) {
        const int64_t from = ranges[i][0], to = ranges[i][1];
        CHECK(tp_prune_histogram(&good, from, to, in, 0, 0, counts) == TP_ERR_RANGE, "range %d", i);
        CHECK(tp_prune_count(&good, from, to, in, 0, &a, &b) == TP_ERR_RANGE, "range %d", i);
        CHECK(tp_prune_find(&good, from, to, in, 0, 0, &a, &b) == TP_ERR_RANGE, "range %d", i);
        CHECK(tp_prune_mask(&good, from, to, in, 0, 0, 0, mask) == TP_ERR_RANGE, "range %d", i);
        CHECK(tp_prune_lines(&good, 1, from, to, in, 1, mask, scratch) == TP_ERR_RANGE, "range %d", i);
        CHECK(tp_prune_lines(&good, 0, from, to, in, 1, mask, scratch) == TP_ERR_RANGE, "range %d", i);
        CHECK(tp_prune_nm(&good, 1, from, to, in, 2, 4, mask) == TP_ERR_RANGE, "range %d", i);
        CHECK(tp_prune_blocks(&good, 1, 1, from, to, in, out) == TP_ERR_RANGE, "range %d", i);
        CHECK(tp_prune_expand(&good, 1, 1, from, to, mask, mask) == TP_ERR_RANGE, "range %d", i);
        CHECK(tp_prune_apply(&good, from, to, in, mask, out) == TP_ERR_RANGE, "range %d", i);
        CHECK(tp_prune_error(&good, from, to, in, out, errors) == TP_ERR_RANGE, "range %d", i);
    }
    CHECK(tp_prune_nm(&good, 0, 0, 3, in, 2, 4, mask) == TP_ERR_RANGE, "groups of rows");
    CHECK(tp_prune_blocks(&good, 3, 1, 0, 4, in, out) == TP_ERR_RANGE, "rows of blocks");
    tp_scores wide = good;
    wide.cols = wide.stride = 20;
    wide.rows = 3;
    CHECK(tp_prune_lines(&wide, 0, 4, 8, in, 1, mask, scratch) == TP_ERR_RANGE, "columns cut within a byte");
    CHECK(tp_prune_lines(&wide, 0, 0, 12, in, 1, mask, scratch) == TP_ERR_RANGE, "columns cut within a byte");
    CHECK(tp_prune_lines(&wide, 0, 16, 20, in, 1, (uint8_t[9]){0}, scratch) == TP_OK, "columns to the last");

    CHECK(tp_prune_histogram(&good, 0, 8, in, 3, 0, counts) == TP_ERR_ARGUMENT, "digit");
    CHECK(tp_prune_histogram(&good, 0, 8, in, -1, 0, counts) == TP_ERR_ARGUMENT, "digit");
    CHECK(tp_prune_histogram(&good, 0, 8, in, 0, 0, NULL) == TP_ERR_ARGUMENT, "null counts");
    CHECK(tp_prune_histogram(&good, 0, 8, NULL, 0, 0, counts) == TP_ERR_ARGUMENT, "null input");
    CHECK(tp_prune_histogram(&good, 3, 3, NULL, 0, 0, counts) == TP_OK, "nothing to do");
    CHECK(tp_prune_count(&good, 0, 8, in, 0, NULL, &b) == TP_ERR_ARGUMENT, "null result");
    CHECK(tp_prune_count(&good, 0, 8, in, 0, &a, NULL) == TP_ERR_ARGUMENT, "null result");
    CHECK(tp_prune_count(&good, 0, 8, NULL, 0, &a, &b) == TP_ERR_ARGUMENT, "null input");
    CHECK(tp_prune_find(&good, 0, 8, in, 0, -1, &a, &b) == TP_ERR_ARGUMENT, "negative skip");
    CHECK(tp_prune_find(&good, 0, 8, in, 0, 0, NULL, &b) == TP_ERR_ARGUMENT, "null result");
    CHECK(tp_prune_find(&good, 0, 8, NULL, 0, 0, &a, &b) == TP_ERR_ARGUMENT, "null input");
    CHECK(tp_prune_mask(&good, 0, 8, in, 0, 0, 0, NULL) == TP_ERR_ARGUMENT, "null mask");
    CHECK(tp_prune_mask(&good, 0, 8, NULL, 0, 0, 0, mask) == TP_ERR_ARGUMENT, "null input");
    CHECK(tp_prune_key(&good, 0, NULL) == TP_ERR_ARGUMENT, "null result");
    CHECK(tp_prune_lines(&good, 2, 0, 8, in, 1, mask, scratch) == TP_ERR_ARGUMENT, "axis");
    CHECK(tp_prune_lines(&good, 1, 0, 8, in, -1, mask, scratch) == TP_ERR_SHAPE, "negative k");
    if (!on_cuda) {
        CHECK(tp_prune_lines(&good, 1, 0, 8, in, 1, mask, NULL) == TP_ERR_ARGUMENT, "null scratch");
        CHECK(tp_prune_lines(&good, 1, 0, 8, in, 1, mask, scratch + 4) == TP_ERR_ARGUMENT, "misaligned scratch");
    }
    CHECK(tp_prune_lines(&good, 1, 0, 8, in, 1, NULL, scratch) == TP_ERR_ARGUMENT, "null mask");
    CHECK(tp_prune_lines_scratch(&good, -1, &a) == TP_ERR_ARGUMENT, "axis");
    CHECK(tp_prune_lines_scratch(&good, 1, NULL) == TP_ERR_ARGUMENT, "null result");
    CHECK(tp_prune_lines_scratch(&good, 0, &a) == TP_OK && a <= (int64_t)sizeof scratch, "scratch");
    tp_scores huge = {.rows = INT64_C(1) << 50, .cols = 1, .stride = 1, .type = TP_F32, .order = 1};
    CHECK(tp_prune_lines_scratch(&huge, 0, &a) == TP_ERR_SHAPE, "scratch that cannot be");
    CHECK(tp_prune_nm(&good, 1, 0, 8, in, 0, 4, mask) == TP_ERR_SHAPE, "0:4");
    CHECK(tp_prune_nm(&good, 1, 0, 8, in, 5, 4, mask) == TP_ERR_SHAPE, "5:4");
    CHECK(tp_prune_nm(&good, 1, 0, 8, in, 2, 17, mask) == TP_ERR_SHAPE, "2:17");
    CHECK(tp_prune_nm(&good, 2, 0, 8, in, 2, 4, mask) == TP_ERR_ARGUMENT, "axis");
    CHECK(tp_prune_blocks(&good, 0, 1, 0, 8, in, out) == TP_ERR_SHAPE, "empty blocks");
    CHECK(tp_prune_blocks(&good, 1, (INT64_C(1) << 31) + 1, 0, 8, in, out) == TP_ERR_SHAPE, "huge blocks");
    CHECK(tp_prune_blocks(&good, 1, 1, 0, 8, in, NULL) == TP_ERR_ARGUMENT, "null scores");
    CHECK(tp_prune_expand(&good, 1, 0, 0, 8, mask, mask) == TP_ERR_SHAPE, "empty blocks");
    CHECK(tp_prune_expand(&good, 1, 1, 0, 8, NULL, mask) == TP_ERR_ARGUMENT, "null mask");
    CHECK(tp_prune_expand(&(tp_scores){INT64_C(1) << 40, INT64_C(1) << 20, 0, 0, 0}, 1, 1, 0, 0, mask, mask) == TP_ERR_SHAPE, "extent");
    CHECK(tp_prune_apply(&good, 0, 8, in, NULL, out) == TP_ERR_ARGUMENT, "null mask");
    CHECK(tp_prune_apply(&good, 0, 8, in, mask, NULL) == TP_ERR_ARGUMENT, "null output");
    CHECK(tp_prune_error(&good, 0, 8, in, NULL, errors) == TP_ERR_ARGUMENT, "null output");
    CHECK(tp_prune_error(&good, 0, 8, in, in, NULL) == TP_ERR_ARGUMENT, "null errors");
    /* No rows or no columns, however many of the others. */
    const tp_scores flat = {.rows = INT64_MAX, .cols = 0, .stride = 0, .type = TP_F32, .order = 1};
    CHECK(tp_prune_mask(&flat, 0, INT64_MAX, NULL, 0, 0, 0, NULL) == TP_OK, "no columns");
    CHECK(tp_prune_blocks(&flat, 2, 2, 0, INT64_MAX / 2 + 1, NULL, NULL) == TP_OK, "no columns");
    const tp_scores thin = {.rows = 0, .cols = INT64_MAX, .stride = INT64_MAX, .type = TP_F32, .order = 1};
    CHECK(tp_prune_lines(&thin, 0, 0, INT64_MAX, NULL, 1, NULL, NULL) == TP_OK, "no rows");
    all_on_host = false;
}

/* Every kernel of the list has a check above and a variant of its own in every tier of this build. */
static void check_list(void) {
#define VARIANTS(name, params)                                                                                        \
    for (int tier = 0; tier < TP_TIERS_BUILT; tier++)                                                                 \
        CHECK(tp_prune_tables[tier].name && (tier == 0 || tp_prune_tables[tier].name != tp_prune_tables[0].name),     \
              "%s of tier %s", #name, tp_tier_name(tier));                                                            \
    printf("%-16s", #name);                                                                                           \
    for (int tier = 0; tier < TP_TIERS_BUILT; tier++) printf(" %s%s", tp_tier_name(tier), tier < test_tiers ? "" : "(skipped)"); \
    printf(" cuda\n");                                                                                                     \
    check_##name();
    TP_PRUNE_KERNELS(VARIANTS)
}

int main(void) {
    test_start("test_prune");
    in_memory = guarded_new(4u << 20);
    out_memory = guarded_new(4u << 20);
    mask_memory = guarded_new(1u << 20);
    scratch_memory = guarded_new(4u << 20);
    score_memory = guarded_new(4u << 20);
    while (test_round()) {
        check_arguments(0);
        check_arguments(test_tiers);
        check_prune_key();
        check_list();
    }
    check_calls();
    return test_end();
}
