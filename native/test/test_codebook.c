/*
 * The codebook family against what codebook.h says, on every tier. Tables: the best there are for few elements, by trying all cuts; for
 * many no worse than Lloyd's from random starts, and no step improves them; the same bits on all tiers and in ranges. Codes, decoding and
 * gradients: a loop from the header; all on a CUDA device too. Arrays end or start at a page that cannot be touched.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_arrays.h"
#include "support.h"
#include "tensorpress/cuda/codebook.h"

static guarded in_memory, weight_memory, table_memory, code_memory, out_memory, scratch_memory;

/* ---- the same calls on the device ---- */

#define CUDA_CALL(call)                                                                                               \
    tp_status status;                                                                                                 \
    do status = call;                                                                                                 \
    while (short_of_memory(status));                                                                                  \
    return end_call(status)

static int64_t groups_of(const tp_codebook *s);

static void *lent(const tp_codebook *s, const void *x, int size, bool written) {
    return placed(x, all_on_host ? 0 : (size_t)(((s->rows - 1) * s->stride + s->cols) * size), size, written);
}
static void *lent_codes(const tp_codebook *s, const void *codes, bool written) {
    const int size = s && s->bits > 8 ? 2 : 1;
    return placed(codes, all_on_host ? 0 : (size_t)(s->rows * (s->cols / s->dimension) * size), size, written);
}
static const float *lent_tables(const tp_codebook *s, const float *tables) {
    return placed(tables, all_on_host ? 0 : (size_t)(groups_of(s) * s->dimension * 4) << s->bits, 4, false);
}

static tp_status cuda_assign(const tp_codebook *s, int64_t begin, int64_t end, const void *in, const float *tables, void *codes) {
    start_call();
    in = lent(s, in, s->type == TP_F32 ? 4 : 2, false);
    tables = lent_tables(s, tables);
    codes = lent_codes(s, codes, true);
    CUDA_CALL(tp_cuda_codebook_assign(test_cuda, s, begin, end, in, tables, codes));
}

static tp_status cuda_decode(const tp_codebook *s, int64_t begin, int64_t end, const void *codes, const float *tables, float *out) {
    start_call();
    codes = lent_codes(s, codes, false);
    tables = lent_tables(s, tables);
    out = lent(s, out, 4, true);
    CUDA_CALL(tp_cuda_codebook_decode(test_cuda, s, begin, end, codes, tables, out));
}

static tp_status cuda_train(const tp_codebook *s, uint64_t seed, int32_t iterations, int64_t begin, int64_t end, const void *in, const float *row_weights,
                            const float *col_weights, void *scratch, float *tables) {
    (void)scratch;
    start_call();
    in = lent(s, in, s->type == TP_F32 ? 4 : 2, false);
    row_weights = placed(row_weights, all_on_host ? 0 : (size_t)s->rows * 4, 4, false);
    col_weights = placed(col_weights, all_on_host ? 0 : (size_t)s->cols * 4, 4, false);
    tables = placed(tables, all_on_host ? 0 : (size_t)(groups_of(s) * s->dimension * 4) << s->bits, 4, true);
    CUDA_CALL(tp_cuda_codebook_train(test_cuda, s, seed, iterations, begin, end, in, row_weights, col_weights, tables));
}

static tp_status cuda_gradients(const tp_codebook *s, int64_t begin, int64_t end, const void *codes, const float *gradients, double *sums) {
    start_call();
    codes = lent_codes(s, codes, false);
    gradients = lent(s, gradients, 4, false);
    sums = placed(sums, all_on_host ? 0 : (size_t)(groups_of(s) * s->dimension * 8) << s->bits, 8, true);
    CUDA_CALL(tp_cuda_codebook_gradients(test_cuda, s, begin, end, codes, gradients, sums));
}

/* From here on these names mean the tier at hand. */
#define tp_codebook_train(...) (on_cuda ? cuda_train(__VA_ARGS__) : tp_codebook_train(__VA_ARGS__))
#define tp_codebook_gradients(...) (on_cuda ? cuda_gradients(__VA_ARGS__) : tp_codebook_gradients(__VA_ARGS__))
#define tp_codebook_assign(...) (on_cuda ? cuda_assign(__VA_ARGS__) : tp_codebook_assign(__VA_ARGS__))
#define tp_codebook_decode(...) (on_cuda ? cuda_decode(__VA_ARGS__) : tp_codebook_decode(__VA_ARGS__))

static double normal(void) { return random_unit() + random_unit() + random_unit() + random_unit() - 2; }

static int64_t code_of(const tp_codebook *s, const void *codes, int64_t at) {
    return s->bits <= 8 ? ((const uint8_t *)codes)[at] : ((const uint16_t *)codes)[at];
}

static int64_t group_of(const tp_codebook *s, int64_t row, int64_t col) {
    return row / s->group_rows * ((s->cols + s->group_cols - 1) / s->group_cols) + col / s->group_cols;
}

static int64_t groups_of(const tp_codebook *s) { return s->rows && s->cols ? group_of(s, s->rows - 1, s->cols - 1) + 1 : 0; }

static void *scratch_for(const tp_codebook *s) {
    int64_t bytes;
    CHECK(tp_codebook_scratch(s, &bytes) == TP_OK, "status");
    if ((size_t)bytes + 64 > scratch_memory.size) scratch_memory = guarded_new((size_t)bytes + 64);
    /* Ends at the guard page, as far as alignment lets it. */
    return guarded_take(&scratch_memory, ((size_t)bytes + 63) / 64 * 64, true);
}

static float distance_of(const tp_codebook *s, const void *x, int64_t at, const float *entry) {
    float sum = 0;
    for (int c = 0; c < s->dimension; c++) {
        const float off = (float)oracle_value(s->type, x, at + c) - entry[c];
        sum = fmaf(off, off, sum);
    }
    return sum;
}

/* The first of the nearest. */
static int64_t nearest_of(const tp_codebook *s, const void *x, int64_t at, const float *table) {
    const int64_t entries = INT64_C(1) << s->bits;
    const double value = oracle_value(s->type, x, at);
    if (s->zero && value == 0) return 0;
    int64_t best = s->zero;
    for (int64_t e = best + 1; e < entries; e++) {
        const bool closer = s->dimension == 1 ? fabs(value - (double)table[e]) < fabs(value - (double)table[best])
                                              : distance_of(s, x, at, table + e * s->dimension) < distance_of(s, x, at, table + best * s->dimension);
        if (closer) best = e;
    }
    return best;
}

static double loss_of(const tp_codebook *s, int64_t group, const void *x, const float *tables, const float *row_weights, const float *col_weights) {
    double sum = 0;
    for (int64_t i = 0; i < s->rows; i++)
        for (int64_t j = 0; j < s->cols; j += s->dimension) {
            if (group_of(s, i, j) != group) continue;
            const float *table = tables + group * s->dimension * (INT64_C(1) << s->bits);
            const int64_t at = i * s->stride + j, code = nearest_of(s, x, at, table);
            for (int c = 0; c < s->dimension; c++) {
                const double off = oracle_value(s->type, x, at + c) - (double)table[code * s->dimension + c];
                sum += off * off * (row_weights ? (double)row_weights[i] : col_weights ? (double)col_weights[j + c] : 1);
            }
        }
    return sum;
}

static void check_all(int dimension, int bits) {
    const bool at_end = random_below(2);
    tp_codebook s = {.rows = 1 + random_below(12), .cols = (1 + random_below(40)) * dimension, .dimension = dimension, .bits = bits};
    s.stride = s.cols + random_below(3);
    s.group_rows = 1 + random_below(s.rows + 2);
    s.group_cols = (1 + random_below(s.cols / dimension + 2)) * dimension;
    s.zero = dimension == 1 && random_below(2);
    s.type = (tp_dtype[]){TP_F32, TP_F16, TP_BF16}[random_below(3)];
    const int64_t groups = groups_of(&s), entries = INT64_C(1) << bits, size = (s.rows - 1) * s.stride + s.cols, line = s.cols / dimension;
    void *x = guarded_input(&in_memory, (size_t)(size * (s.type == TP_F32 ? 4 : 2)), at_end, 0);
    const int kind = (int)random_below(4);
    for (int64_t i = 0; i < size; i++) oracle_store(s.type, x, i, kind == 0 ? (double)random_below(5) - 2 : random_below(9) == 0 ? 0 : normal());
    float *weights = guarded_take(&weight_memory, (size_t)(s.rows > s.cols ? s.rows : s.cols) * 4, at_end);
    for (int64_t i = 0; i < (s.rows > s.cols ? s.rows : s.cols); i++) weights[i] = random_below(4) ? (float)random_unit() : 0;
    const int by = (int)random_below(3);
    const float *row_weights = by == 1 ? weights : NULL, *col_weights = by == 2 ? weights : NULL;
    float *first = malloc((size_t)(groups * entries * dimension) * 4 + 1);
    const size_t code_bytes = (size_t)(s.rows * line * (bits > 8 ? 2 : 1));
    void *wanted = malloc(code_bytes);
    float *gradient = malloc((size_t)size * 4);
    for (int64_t i = 0; i < size; i++) gradient[i] = (float)normal();
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        void *scratch = scratch_for(&s);
        float *tables = guarded_take(&table_memory, (size_t)(groups * entries * dimension) * 4, at_end);
        const int64_t cut = random_below(groups + 1), row_cut = random_below(s.rows + 1);
        CHECK(tp_codebook_train(&s, 7, 100, cut, groups, x, row_weights, col_weights, scratch, tables) == TP_OK, "status");
        CHECK(tp_codebook_train(&s, 7, 100, 0, cut, x, row_weights, col_weights, scratch, tables) == TP_OK, "status");
        if (tier == 0) memcpy(first, tables, (size_t)(groups * entries * dimension) * 4);
        CHECK(!memcmp(first, tables, (size_t)(groups * entries * dimension) * 4), "tier %d: other tables", tier);
        for (int64_t g = 0; dimension == 1 && g < groups; g++)
            for (int64_t e = s.zero; e < entries; e++) {
                const float *t = tables + g * entries + e;
                CHECK((e == s.zero || t[-1] <= t[0]) && isfinite(t[0]), "entry %lld", (long long)e);
            }
        for (int64_t g = 0; s.zero && g < groups; g++) CHECK(tables[g * entries] == 0, "entry 0 is %g", tables[g * entries]);
        void *codes = guarded_take(&code_memory, code_bytes, at_end);
        CHECK(tp_codebook_assign(&s, 0, row_cut, x, tables, codes) == TP_OK, "status");
        CHECK(tp_codebook_assign(&s, row_cut, s.rows, x, tables, codes) == TP_OK, "status");
        for (int64_t i = 0; tier == 0 && i < s.rows; i++)
            for (int64_t j = 0; j < line; j++) {
                const int64_t want = nearest_of(&s, x, i * s.stride + j * dimension, tables + group_of(&s, i, j * dimension) * entries * dimension);
                const int64_t is = code_of(&s, codes, i * line + j);
                CHECK(is == want, "code %lld, not %lld", (long long)is, (long long)want);
            }
        if (tier == 0) memcpy(wanted, codes, code_bytes);
        CHECK(!memcmp(wanted, codes, code_bytes), "tier %d: other codes", tier);
        float *out = guarded_take(&out_memory, (size_t)size * 4, at_end);
        CHECK(tp_codebook_decode(&s, row_cut, s.rows, codes, tables, out) == TP_OK, "status");
        CHECK(tp_codebook_decode(&s, 0, row_cut, codes, tables, out) == TP_OK, "status");
        double *sums = calloc((size_t)(groups * entries * dimension), 8), *want = calloc((size_t)(groups * entries * dimension), 8);
        CHECK(tp_codebook_gradients(&s, 0, cut, codes, gradient, sums) == TP_OK, "status");
        CHECK(tp_codebook_gradients(&s, cut, groups, codes, gradient, sums) == TP_OK, "status");
        for (int64_t i = 0; i < s.rows; i++)
            for (int64_t j = 0; j < s.cols; j++) {
                const int64_t entry = (group_of(&s, i, j) * entries + code_of(&s, codes, i * line + j / dimension)) * dimension + j % dimension;
                CHECK(out[i * s.stride + j] == tables[entry], "tier %d decodes %g, not %g", tier, out[i * s.stride + j], tables[entry]);
                want[entry] += (double)gradient[i * s.stride + j];
            }
        CHECK(!memcmp(sums, want, (size_t)(groups * entries * dimension) * 8), "tier %d: other gradients", tier);
        if (bits < 8 && s.rows > 0) {
            ((uint8_t *)codes)[random_below((int64_t)code_bytes)] = (uint8_t)entries;
            CHECK(tp_codebook_decode(&s, 0, s.rows, codes, tables, out) == TP_ERR_FORMAT, "status");
            CHECK(tp_codebook_gradients(&s, 0, groups, codes, gradient, sums) == TP_ERR_FORMAT, "status");
        }
        free(sums);
        free(want);
    }
    /* Few different elements are all there. */
    if (kind == 0 && dimension == 1 && bits >= 3 && by == 0)
        for (int64_t g = 0; g < groups; g++) CHECK(loss_of(&s, g, x, first, NULL, NULL) == 0, "loses %g", loss_of(&s, g, x, first, NULL, NULL));
    free(first);
    free(wanted);
    free(gradient);
}

static int compare(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }

/* The least that k clusters of sorted numbers cost, by all cuts. */
static double optimum(const double *x, int64_t n, int64_t k) {
    double *before = malloc((size_t)(n + 1) * 8), *now = malloc((size_t)(n + 1) * 8);
    for (int64_t c = 0; c < k; c++) {
        for (int64_t e = 0; e <= n; e++) {
            double best = e == 0 ? 0 : INFINITY, mean = 0, square = 0;
            for (int64_t i = e - 1; i >= 0; i--) { /* Welford's, from the last on */
                const double off = x[i] - mean;
                mean += off / (double)(e - i);
                square += off * (x[i] - mean);
                const double cost = square + (c == 0 ? i == 0 ? 0 : INFINITY : before[i]);
                if (cost < best) best = cost;
            }
            now[e] = best;
        }
        double *const other = before;
        before = now;
        now = other;
    }
    const double cost = before[n];
    free(before);
    free(now);
    return cost;
}

static void check_optimum(void) {
    enum { N = 300 };
    float x[N];
    double sorted[N];
    const int shape = (int)random_below(3);
    for (int i = 0; i < N; i++) {
        const double z = normal();
        x[i] = (float)(shape == 0 ? z : shape == 1 ? z * z * z : 1000 + z + 3 * (double)random_below(4));
        sorted[i] = (double)x[i];
    }
    qsort(sorted, N, 8, compare);
    const int bits = 1 + (int)random_below(5);
    const tp_codebook s = {.rows = 3, .cols = N / 3, .stride = N / 3, .group_rows = 3, .group_cols = N, .dimension = 1, .bits = bits, .type = TP_F32};
    float table[32];
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        CHECK(tp_codebook_train(&s, 0, 100, 0, 1, x, NULL, NULL, scratch_for(&s), table) == TP_OK, "status");
        const double is = loss_of(&s, 0, x, table, NULL, NULL), least = optimum(sorted, N, 1 << bits);
        CHECK(is <= least * 1.0001 + 1e-9, "loses %g, the best %g (%d bits, shape %d)", is, least, bits, shape);
    }
}

/* More different numbers than there are ranges, outliers among them: no worse than Lloyd's steps from many starts. */
static void check_many(void) {
    enum { ROWS = 40, COLS = 500, K = 8 };
    static float x[ROWS * COLS], weights[ROWS];
    for (int i = 0; i < ROWS; i++) weights[i] = (float)random_unit();
    for (int i = 0; i < ROWS * COLS; i++) x[i] = (float)(0.05 * normal() * (random_below(1000) ? 1 : 100));
    const bool weighted = random_below(2);
    const tp_codebook s = {.rows = ROWS, .cols = COLS, .stride = COLS, .group_rows = ROWS, .group_cols = COLS, .dimension = 1, .bits = 3, .type = TP_F32};
    float table[K];
    test_use_tier(test_tiers - 1);
    CHECK(tp_codebook_train(&s, 0, 1000, 0, 1, x, weighted ? weights : NULL, NULL, scratch_for(&s), table) == TP_OK, "status");
    const double is = loss_of(&s, 0, x, table, weighted ? weights : NULL, NULL);
    for (int start = 0; start < 5; start++) {
        float other[K];
        for (int e = 0; e < K; e++) other[e] = x[random_below(ROWS * COLS)];
        for (int step = 0; step < 50; step++) {
            double sums[K] = {0}, counts[K] = {0};
            for (int i = 0; i < ROWS * COLS; i++) {
                const int64_t e = nearest_of(&s, x, i, other);
                const double w = weighted ? (double)weights[i / COLS] : 1;
                sums[e] += w * (double)x[i];
                counts[e] += w;
            }
            for (int e = 0; e < K; e++)
                if (counts[e] > 0) other[e] = (float)(sums[e] / counts[e]);
        }
        const double than = loss_of(&s, 0, x, other, weighted ? weights : NULL, NULL);
        CHECK(is <= than * 1.001, "loses %g, Lloyd's %g", is, than);
    }
}

/* Rows that go through a device in pieces, and its tiles, which end where groups and pieces do. */
static void check_rows(void) {
    const int dimension = 1 << random_below(3);
    const tp_codebook s = {.rows = 30 + random_below(50), .cols = 32, .stride = 32 + random_below(3), .group_rows = 1 + random_below(90),
                           .group_cols = 8 * (1 + random_below(5)), .dimension = dimension, .bits = 2, .type = TP_F32};
    const int64_t size = (s.rows - 1) * s.stride + s.cols, floats = groups_of(&s) * 4 * dimension, code_count = s.rows * s.cols / dimension;
    float *x = guarded_take(&in_memory, (size_t)size * 4, true), *tables = guarded_take(&table_memory, (size_t)floats * 4, true);
    for (int64_t i = 0; i < size; i++) x[i] = (float)normal();
    for (int64_t i = 0; i < floats; i++) tables[i] = (float)(dimension > 1 ? normal() : (double)(i % 4) - 1.5 + random_unit());
    uint8_t *first = malloc((size_t)code_count);
    float *decoded = malloc((size_t)size * 4);
    for (int tier = test_tiers - 1; tier <= test_tiers; tier++) {
        use_tier(tier);
        uint8_t *codes = guarded_take(&code_memory, (size_t)code_count, true);
        float *out = guarded_take(&out_memory, (size_t)size * 4, true);
        const int64_t cut = random_below(s.rows + 1);
        CHECK(!tp_codebook_assign(&s, 0, cut, x, tables, codes) && !tp_codebook_assign(&s, cut, s.rows, x, tables, codes), "status");
        CHECK(!tp_codebook_decode(&s, 0, cut, codes, tables, out) && !tp_codebook_decode(&s, cut, s.rows, codes, tables, out), "status");
        if (tier < test_tiers) memcpy(first, codes, (size_t)code_count), memcpy(decoded, out, (size_t)size * 4);
        CHECK(!memcmp(first, codes, (size_t)code_count) && !memcmp(decoded, out, (size_t)size * 4), "the device has other codes, or decodes others");
    }
    free(first);
    free(decoded);
}

/* Vectors in several blocks of sums, and more entries than a warp has lanes: on the device as on the processor. */
static void check_blocks(void) {
    const int dimension = 2 << random_below(3);
    const tp_codebook s = {.rows = 40, .cols = 64 * dimension, .stride = 64 * dimension, .group_rows = 40, .group_cols = 64 * dimension,
                           .dimension = dimension, .bits = 6, .type = TP_F32};
    static float x[40 * 64 * 8], first[64 * 8], tables[64 * 8], weights[40];
    for (int64_t i = 0; i < s.rows * s.cols; i++) x[i] = (float)normal();
    for (int i = 0; i < 40; i++) weights[i] = (float)random_unit();
    for (int tier = test_tiers - 1; tier <= test_tiers; tier++) {
        use_tier(tier);
        CHECK(tp_codebook_train(&s, 3, 6, 0, 1, x, weights, NULL, scratch_for(&s), tables) == TP_OK, "status");
        if (tier < test_tiers) memcpy(first, tables, sizeof tables);
        CHECK(!memcmp(first, tables, (size_t)dimension * 64 * 4), "the device has other tables");
    }
}

/* Vectors around 16 places are found, whatever the seed. */
static void check_places(int dimension) {
    enum { N = 800, K = 16 };
    static float x[N * 8];
    float places[K][8], tables[K * 8];
    for (int k = 0; k < K; k++)
        for (int c = 0; c < dimension; c++) places[k][c] = (float)(10 * normal() + (c == 0 ? 40 * k : 0));
    for (int i = 0; i < N; i++)
        for (int c = 0; c < dimension; c++) x[i * dimension + c] = places[i % K][c] + 0.01f * (float)normal();
    const tp_codebook s = {.rows = N / 8, .cols = 8 * dimension, .stride = 8 * dimension, .group_rows = N, .group_cols = 8 * dimension,
                           .dimension = dimension, .bits = 5, .type = TP_F32};
    float table[32 * 8];
    test_use_tier(test_tiers - 1);
    CHECK(tp_codebook_train(&s, random_bits(), 50, 0, 1, x, NULL, NULL, scratch_for(&s), table) == TP_OK, "status");
    memcpy(tables, table, sizeof tables);
    const double loss = loss_of(&s, 0, x, table, NULL, NULL);
    CHECK(loss < N * dimension * 0.0001, "loses %g", loss);
}

static void check_arguments(int tier) {
    use_tier(tier);
    all_on_host = true;
    const tp_codebook good = {.rows = 2, .cols = 4, .stride = 4, .group_rows = 2, .group_cols = 4, .dimension = 2, .bits = 1, .type = TP_F32};
    float x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, table[64], out[8];
    uint8_t codes[4] = {0};
    double sums[64];
    int64_t bytes;
    const struct {
        tp_codebook spec;
        tp_status status;
    } bad[] = {
        {{2, 4, 4, 2, 4, 3, 1, 0, TP_F32}, TP_ERR_ARGUMENT}, {{2, 4, 4, 2, 4, 2, 0, 0, TP_F32}, TP_ERR_ARGUMENT},
        {{2, 4, 4, 2, 4, 1, 9, 0, TP_F32}, TP_ERR_ARGUMENT}, {{2, 4, 4, 2, 4, 2, 13, 0, TP_F32}, TP_ERR_ARGUMENT},
        {{2, 4, 4, 2, 4, 2, 1, 1, TP_F32}, TP_ERR_ARGUMENT}, {{2, 4, 4, 2, 4, 1, 1, 2, TP_F32}, TP_ERR_ARGUMENT},
        {{2, 4, 4, 2, 4, 2, 1, 0, TP_I8}, TP_ERR_TYPE},      {{2, 4, 3, 2, 4, 2, 1, 0, TP_F32}, TP_ERR_SHAPE},
        {{2, 3, 4, 2, 4, 2, 1, 0, TP_F32}, TP_ERR_SHAPE},    {{2, 4, 4, 0, 4, 2, 1, 0, TP_F32}, TP_ERR_SHAPE},
        {{2, 4, 4, 2, 3, 2, 1, 0, TP_F32}, TP_ERR_SHAPE},    {{-1, 4, 4, 2, 4, 2, 1, 0, TP_F32}, TP_ERR_SHAPE},
        {{INT64_C(1) << 50, 1, 1, 1, 1, 1, 8, 0, TP_F32}, TP_OK}, {{INT64_C(1) << 53, 1, 1, 1, 1, 1, 8, 0, TP_F32}, TP_ERR_SHAPE},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const tp_status status = tp_codebook_scratch(&bad[i].spec, &bytes);
        CHECK(status == bad[i].status, "spec %zu: %d", i, status);
    }
    CHECK(tp_codebook_scratch(NULL, &bytes) == TP_ERR_ARGUMENT && tp_codebook_scratch(&good, NULL) == TP_ERR_ARGUMENT, "null");
    void *scratch = scratch_for(&good);
    CHECK(tp_codebook_train(&good, 0, 1, 0, 2, x, NULL, NULL, scratch, table) == TP_ERR_RANGE, "range");
    CHECK(tp_codebook_train(&good, 0, -1, 0, 1, x, NULL, NULL, scratch, table) == TP_ERR_ARGUMENT, "iterations");
    CHECK(tp_codebook_train(&good, 0, 1, 0, 1, x, x, x, scratch, table) == TP_ERR_ARGUMENT, "weights");
    CHECK(on_cuda || tp_codebook_train(&good, 0, 1, 0, 1, x, NULL, NULL, (char *)scratch + 4, table) == TP_ERR_ARGUMENT, "alignment");
    CHECK(tp_codebook_train(&good, 0, 1, 0, 1, NULL, NULL, NULL, scratch, table) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_codebook_assign(&good, 0, 3, x, table, codes) == TP_ERR_RANGE && tp_codebook_assign(&good, 0, 2, x, NULL, codes) == TP_ERR_ARGUMENT, "assign");
    CHECK(tp_codebook_decode(&good, 2, 1, codes, table, out) == TP_ERR_RANGE && tp_codebook_decode(&good, 0, 2, codes, table, NULL) == TP_ERR_ARGUMENT, "decode");
    CHECK(tp_codebook_gradients(&good, 0, 2, codes, x, sums) == TP_ERR_RANGE && tp_codebook_gradients(&good, 0, 1, NULL, x, sums) == TP_ERR_ARGUMENT, "gradients");
    for (int d = 1; d <= 2; d++)
        for (int i = 0; i < 2; i++) {
            tp_codebook s = good;
            s.dimension = d;
            x[5] = i ? NAN : -INFINITY;
            CHECK(tp_codebook_train(&s, 0, 1, 0, 1, x, NULL, NULL, scratch_for(&s), table) == TP_ERR_NONFINITE, "NaN");
        }
    tp_codebook none = good;
    none.rows = 0;
    CHECK(tp_codebook_train(&none, 0, 1, 0, 0, NULL, NULL, NULL, NULL, NULL) == TP_OK, "nothing");
    CHECK(tp_codebook_assign(&none, 0, 0, NULL, NULL, NULL) == TP_OK && tp_codebook_decode(&none, 0, 0, NULL, NULL, NULL) == TP_OK, "nothing");
    if (on_cuda) CHECK(tp_cuda_codebook_assign(NULL, &good, 0, 2, x, table, codes) == TP_ERR_ARGUMENT
                           && tp_cuda_codebook_decode(NULL, &good, 0, 2, codes, table, out) == TP_ERR_ARGUMENT, "no device");
    all_on_host = false;
}

int main(void) {
    test_start("codebook");
    in_memory = guarded_new(1 << 14);
    weight_memory = guarded_new(1 << 14);
    table_memory = guarded_new(1 << 24);
    code_memory = guarded_new(1 << 14);
    out_memory = guarded_new(1 << 14);
    scratch_memory = guarded_new(1 << 20);
    while (test_round()) {
        check_arguments(0);
        check_arguments(test_tiers);
        for (int bits = 1; bits <= 8; bits++) check_all(1, bits);
        for (int d = 2; d <= 8; d *= 2) {
            check_all(d, 1 + (int)random_below(8));
            check_all(d, 9 + (int)random_below(4));
            check_places(d);
        }
        for (int i = 0; i < 3; i++) check_optimum();
        check_many();
        check_blocks();
        for (int i = 0; i < 40; i++) check_rows();
    }
    check_calls();
    return test_end();
}
