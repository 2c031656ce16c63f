/*
 * The merge family against loops written from merge.h alone, on every tier and in every type. Every array ends or starts at a page that cannot be
 * touched.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"
#include "tensorpress/merge.h"

enum { MOST = 900, SOURCES = 5 };

static guarded in_memory[SOURCES + 1], out_memory, sum_memory;

static const tp_dtype types[3] = {TP_F32, TP_F16, TP_BF16};

static int size_of(tp_dtype type) { return type == TP_F32 ? 4 : 2; }

/* A double rounded to f32 and then to the type, as a value. */
static double rounded(tp_dtype type, double x) { return type == TP_F32 ? (double)(float)x : (double)oracle_round_f32(type, (float)x); }

/* Philox 4x32-10, from its paper. */
static uint32_t noise(uint64_t seed, uint64_t stream, uint64_t element) {
    uint32_t c[4] = {(uint32_t)(element / 4), (uint32_t)(element / 4 >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)};
    uint32_t k[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int round = 0; round < 10; round++) {
        const uint64_t a = UINT64_C(0xD2511F53) * c[0], b = UINT64_C(0xCD9E8D57) * c[2];
        const uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k[0], (uint32_t)b, (uint32_t)(a >> 32) ^ c[3] ^ k[1], (uint32_t)a};
        memcpy(c, next, sizeof c);
        k[0] += UINT32_C(0x9E3779B9);
        k[1] += UINT32_C(0xBB67AE85);
    }
    return c[element % 4];
}

typedef struct models {
    tp_dtype type;
    int64_t n;
    int sources;
    const void *in[SOURCES + 1];
    double weights[SOURCES];
} models;

/* Sources and a base; some elements are the base's, some 0, some are far larger. */
static models make(bool at_end) {
    models m = {.type = types[random_below(3)], .n = random_below(2) ? random_below(40) : random_below(MOST), .sources = 1 + (int)random_below(SOURCES)};
    for (int j = m.sources; j >= 0; j--) {
        char *const p = guarded_input(&in_memory[j], (size_t)(m.n * size_of(m.type)), at_end, (int)random_below(3));
        for (int64_t i = 0; i < m.n; i++) {
            const double base = j == m.sources ? 0 : oracle_value(m.type, m.in[m.sources], i);
            const int64_t kind = random_below(10);
            oracle_store(m.type, p, i, kind < 2 ? base : kind == 2 ? -0.0 : kind == 3 ? 300 * (random_unit() - 0.5) : base + random_unit() - 0.5);
        }
        m.in[j] = p;
        if (j < m.sources) m.weights[j] = random_below(4) ? random_unit() : (double)random_below(2);
    }
    return m;
}

static void check_out(const models *m, int tier, const char *what, const double *want, const void *out) {
    char *const expected = calloc(1, (size_t)(m->n * size_of(m->type)) + 1);
    for (int64_t i = 0; i < m->n; i++) oracle_store(m->type, expected, i, want[i]);
    for (int64_t i = 0; i < m->n; i++)
        CHECK(!memcmp(expected + i * size_of(m->type), (const char *)out + i * size_of(m->type), (size_t)size_of(m->type)),
              "%s, tier %d, type %d: element %lld is %g, not %g", what, tier, m->type, (long long)i, oracle_value(m->type, out, i), want[i]);
    free(expected);
}

static void check_combine(void) {
    const bool at_end = random_below(2);
    models m = make(at_end);
    const tp_models s = {.elements = m.n, .sources = m.sources, .type = m.type};
    double want[MOST];
    for (int64_t i = 0; i < m.n; i++) {
        double sum = m.weights[0] * oracle_value(m.type, m.in[0], i);
        for (int j = 1; j < m.sources; j++) sum = sum + m.weights[j] * oracle_value(m.type, m.in[j], i);
        want[i] = rounded(m.type, sum);
    }
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        char *const out = guarded_take(&out_memory, (size_t)(m.n * size_of(m.type)), at_end);
        const int64_t cut = random_below(m.n + 1);
        CHECK(!tp_models_combine(&s, 0, cut, m.in, m.weights, out) && !tp_models_combine(&s, cut, m.n, m.in, m.weights, out), "status");
        check_out(&m, tier, "combine", want, out);
        /* In the place of a source. */
        const int own = (int)random_below(m.sources);
        const void *in[SOURCES];
        memcpy(in, m.in, sizeof in);
        memcpy(out, m.in[own], (size_t)(m.n * size_of(m.type)));
        in[own] = out;
        CHECK(!tp_models_combine(&s, 0, m.n, in, m.weights, out), "status");
        check_out(&m, tier, "combine in place", want, out);
    }
}

static void check_inner(void) {
    const int64_t n = random_below(3 * TP_MERGE_BLOCK), blocks = (n + TP_MERGE_BLOCK - 1) / TP_MERGE_BLOCK;
    const tp_dtype type = types[random_below(3)];
    const bool at_end = random_below(2);
    char *const a = guarded_input(&in_memory[0], (size_t)(n * size_of(type)), at_end, 1), *const b = guarded_input(&in_memory[1], (size_t)(n * size_of(type)), at_end, 0);
    double want[9];
    for (int64_t k = 0; k < blocks; k++) {
        double p[3][16] = {{0}};
        for (int64_t i = k * TP_MERGE_BLOCK, c = 0; i < n && c < TP_MERGE_BLOCK; i++, c++) {
            oracle_store(type, a, i, random_unit() - 0.5);
            oracle_store(type, b, i, random_unit() - 0.5);
            const double x = oracle_value(type, a, i), y = oracle_value(type, b, i);
            p[0][c % 16] += x * y;
            p[1][c % 16] += x * x;
            p[2][c % 16] += y * y;
        }
        for (int q = 0; q < 3; q++) {
            for (int l = 0; l < 8; l++) p[q][l] += p[q][l + 8];
            for (int l = 0; l < 4; l++) p[q][l] += p[q][l + 4];
            want[3 * k + q] = (p[q][0] + p[q][2]) + (p[q][1] + p[q][3]);
        }
    }
    const tp_models s = {.elements = n, .sources = 2, .type = type};
    const void *const in[2] = {a, b};
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        double *const sums = guarded_take(&sum_memory, (size_t)(3 * blocks) * 8, at_end);
        const int64_t cut = random_below(blocks + 1);
        CHECK(!tp_models_inner(&s, 0, cut, in, sums) && !tp_models_inner(&s, cut, blocks, in, sums), "status");
        CHECK(!memcmp(sums, want, (size_t)(3 * blocks) * 8), "tier %d adds products otherwise", tier);
        if (n == 0) continue;
        const int64_t at = random_below(n);
        const double kept = oracle_value(type, b, at);
        oracle_store(type, b, at, random_below(2) ? NAN : -INFINITY);
        CHECK(tp_models_inner(&s, 0, blocks, in, sums) == TP_ERR_NONFINITE, "tier %d multiplies what is not finite", tier);
        oracle_store(type, b, at, kept);
    }
}

static void check_delta(void) {
    const bool at_end = random_below(2);
    models m = make(at_end);
    const tp_models s = {.elements = m.n, .sources = 2, .type = m.type};
    const void *const in[2] = {m.in[0], m.in[m.sources]};
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        float *const out = guarded_take(&out_memory, (size_t)m.n * 4, at_end);
        const int64_t cut = random_below(m.n + 1);
        CHECK(!tp_models_delta(&s, 0, cut, in, out) && !tp_models_delta(&s, cut, m.n, in, out), "status");
        for (int64_t i = 0; i < m.n; i++)
            CHECK(out[i] == (float)(oracle_value(m.type, in[0], i) - oracle_value(m.type, in[1], i)), "tier %d: difference %lld", tier, (long long)i);
    }
}

static void check_tasks(void) {
    const bool at_end = random_below(2);
    models m = make(at_end);
    const tp_tasks s = {.elements = m.n, .sources = m.sources, .type = m.type, .drop = (int32_t)random_below(3), .elect = (int32_t)random_below(2),
                        .scale = random_below(2) ? 1 : random_unit() * 2, .keep = random_below(4) ? random_unit() * 0.9 + 0.1 : 1, .seed = random_bits(),
                        .stream = random_bits(), .first = random_below(2) ? random_below(1000) : random_below(INT64_C(1) << 40)};
    float thresholds[SOURCES];
    double want[MOST];
    for (int j = 0; j < m.sources; j++) thresholds[j] = random_below(3) ? (float)random_unit() / 2 : 0;
    for (int64_t i = 0; i < m.n; i++) {
        const double base = oracle_value(m.type, m.in[m.sources], i);
        double part[SOURCES], sum = 0, of = 0;
        for (int j = 0; j < m.sources; j++) {
            double d = oracle_value(m.type, m.in[j], i) - base;
            if (s.drop == TP_DROP_SMALL && fabsf((float)d) < thresholds[j]) d = 0;
            if (s.drop == TP_DROP_RANDOM)
                d = noise(s.seed, s.stream + (uint64_t)j, (uint64_t)(s.first + i)) < s.keep * 4294967296.0 ? d / s.keep : 0;
            part[j] = m.weights[j] * d;
            sum += part[j];
        }
        if (s.elect) {
            const bool positive = sum >= 0;
            sum = 0;
            for (int j = 0; j < m.sources; j++)
                if (positive ? part[j] > 0 : part[j] < 0) {
                    sum += part[j];
                    of += m.weights[j];
                }
            if (of > 0) sum /= of;
        }
        want[i] = sum == 0 ? base : rounded(m.type, base + s.scale * sum);
    }
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        char *const out = guarded_take(&out_memory, (size_t)(m.n * size_of(m.type)), at_end);
        const int64_t cut = random_below(m.n + 1);
        CHECK(!tp_models_tasks(&s, 0, cut, m.in, m.weights, thresholds, out) && !tp_models_tasks(&s, cut, m.n, m.in, m.weights, thresholds, out), "status");
        check_out(&m, tier, "tasks", want, out);
    }
}

/* NaN, infinities of one model, results that are too large; and infinities that all have. */
static void check_nonfinite(void) {
    models m = make(false);
    if (m.n == 0) return;
    void *writable[SOURCES + 1];
    for (int j = 0; j <= m.sources; j++) writable[j] = (char *)in_memory[j].start + ((const char *)m.in[j] - in_memory[j].start);
    const tp_models s = {.elements = m.n, .sources = m.sources, .type = m.type};
    tp_tasks t = {.elements = m.n, .sources = m.sources, .type = m.type, .drop = TP_DROP_SMALL, .scale = 1, .keep = 1};
    const float thresholds[SOURCES] = {INFINITY, INFINITY, INFINITY, INFINITY, INFINITY};
    const int64_t at = random_below(m.n);
    double ones[SOURCES] = {1, 1, 1, 1, 1};
    char *const out = guarded_take(&out_memory, (size_t)m.n * 4, false);
    const void *const both[2] = {m.in[0], m.in[m.sources]};
    const tp_models two = {.elements = m.n, .sources = 2, .type = m.type};
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        const double infinity = random_below(2) ? INFINITY : -INFINITY;
        for (int j = 0; j <= m.sources; j++) oracle_store(m.type, writable[j], at, infinity);
        CHECK(!tp_models_combine(&s, 0, m.n, m.in, ones, out) && oracle_value(m.type, out, at) == infinity, "tier %d: an infinity of all", tier);
        CHECK(!tp_models_tasks(&t, 0, m.n, m.in, ones, thresholds, out) && oracle_value(m.type, out, at) == infinity, "tier %d: an infinity of all", tier);
        CHECK(!tp_models_delta(&two, 0, m.n, both, (float *)out) && ((float *)out)[at] == 0, "tier %d: infinities alike differ", tier);
        oracle_store(m.type, writable[random_below(m.sources)], at, random_below(2) ? NAN : 1);
        CHECK(m.sources == 1 || tp_models_combine(&s, 0, m.n, m.in, ones, out) == TP_ERR_NONFINITE, "tier %d: not finite", tier);
        CHECK(tp_models_tasks(&t, 0, m.n, m.in, ones, thresholds, out) == TP_ERR_NONFINITE, "tier %d: dropped, and not finite", tier);
        for (int j = 0; j <= m.sources; j++) oracle_store(m.type, writable[j], at, NAN);
        CHECK(tp_models_combine(&s, 0, m.n, m.in, ones, out) == TP_ERR_NONFINITE, "tier %d: NaN of all", tier);
        CHECK(tp_models_delta(&two, 0, m.n, both, (float *)out) == TP_ERR_NONFINITE, "tier %d: difference of NaN", tier);
        /* The largest number of the type, and the least that rounds to more. */
        const double largest = m.type == TP_F32 ? 0x1.fffffep127 : m.type == TP_F16 ? 65504 : 0x1.fep127, beyond = m.type == TP_F16 ? 65520 : m.type == TP_F32 ? 0x1.ffffffp127 : 0x1.ffp127;
        const tp_models one = {.elements = m.n, .sources = 1, .type = m.type};
        double factor = 1;
        oracle_store(m.type, writable[0], at, largest);
        CHECK(!tp_models_combine(&one, 0, m.n, m.in, &factor, out) && oracle_value(m.type, out, at) == largest, "tier %d: the largest number", tier);
        factor = nextafter(beyond / largest, 2);
        CHECK(tp_models_combine(&one, at, at + 1, m.in, &factor, out) == TP_ERR_NONFINITE, "tier %d: beyond the largest number", tier);
    }
}

static void check_arguments(void) {
    const float x = 1;
    const void *const in[3] = {&x, &x, &x}, *const missing[2] = {&x, NULL};
    double weights[2] = {1, 1}, sums[3];
    float out, thresholds[2] = {0, 0};
    tp_models s = {.elements = 1, .sources = 2, .type = TP_F32};
    CHECK(!tp_models_combine(&s, 0, 1, in, weights, &out) && !tp_models_inner(&s, 0, 1, in, sums) && !tp_models_delta(&s, 0, 1, in, &out), "good");
    CHECK(tp_models_combine(NULL, 0, 1, in, weights, &out) == TP_ERR_ARGUMENT && tp_models_combine(&s, 0, 1, missing, weights, &out) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_models_combine(&s, 0, 1, in, NULL, &out) == TP_ERR_ARGUMENT && tp_models_combine(&s, 0, 1, in, weights, NULL) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_models_inner(&s, 0, 1, in, NULL) == TP_ERR_ARGUMENT && tp_models_delta(&s, 0, 1, NULL, &out) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_models_combine(&s, 0, 2, in, weights, &out) == TP_ERR_RANGE && tp_models_inner(&s, 0, 2, in, sums) == TP_ERR_RANGE
              && tp_models_delta(&s, -1, 1, in, &out) == TP_ERR_RANGE, "range");
    weights[1] = NAN;
    CHECK(tp_models_combine(&s, 0, 1, in, weights, &out) == TP_ERR_ARGUMENT, "weight");
    weights[1] = 1;
    s.type = TP_F64;
    CHECK(tp_models_combine(&s, 0, 1, in, weights, &out) == TP_ERR_TYPE && tp_models_inner(&s, 0, 1, in, sums) == TP_ERR_TYPE, "type");
    s = (tp_models){.elements = 1, .sources = 3, .type = TP_F32};
    CHECK(tp_models_inner(&s, 0, 1, in, sums) == TP_ERR_SHAPE && tp_models_delta(&s, 0, 1, in, &out) == TP_ERR_SHAPE, "sources");
    s.sources = TP_MERGE_MOST + 1;
    CHECK(tp_models_combine(&s, 0, 1, in, weights, &out) == TP_ERR_SHAPE, "sources");
    s = (tp_models){.elements = INT64_C(1) << 60, .sources = 2, .type = TP_F32};
    CHECK(tp_models_combine(&s, 0, 1, in, weights, &out) == TP_ERR_SHAPE, "elements");
    const tp_tasks good = {.elements = 1, .sources = 2, .type = TP_F32, .drop = TP_DROP_SMALL, .elect = 1, .scale = 1, .keep = 1};
    tp_tasks t = good;
    CHECK(!tp_models_tasks(&t, 0, 1, in, weights, thresholds, &out), "good");
    CHECK(tp_models_tasks(&t, 0, 1, in, weights, NULL, &out) == TP_ERR_ARGUMENT && tp_models_tasks(NULL, 0, 1, in, weights, thresholds, &out) == TP_ERR_ARGUMENT, "null");
    weights[1] = -1;
    CHECK(tp_models_tasks(&t, 0, 1, in, weights, thresholds, &out) == TP_ERR_ARGUMENT, "negative");
    t.elect = 0;
    CHECK(!tp_models_tasks(&t, 0, 1, in, weights, thresholds, &out), "negative");
    for (int i = 0; i < 6; i++) {
        t = good;
        if (i == 0) t.drop = 3;
        if (i == 1) t.elect = 2;
        if (i == 2) t.scale = INFINITY;
        if (i == 3) t.drop = TP_DROP_RANDOM, t.keep = 0;
        if (i == 4) t.drop = TP_DROP_RANDOM, t.keep = NAN;
        if (i == 5) t.drop = TP_DROP_RANDOM, t.keep = 1.5;
        weights[1] = 1;
        CHECK(tp_models_tasks(&t, 0, 1, in, weights, thresholds, &out) == TP_ERR_ARGUMENT, "argument %d", i);
    }
    t = good;
    t.first = (INT64_C(1) << 60) - 1;
    CHECK(tp_models_tasks(&t, 0, 1, in, weights, thresholds, &out) == TP_ERR_SHAPE, "first");
}

int main(void) {
    test_start("test_merge");
    for (int j = 0; j <= SOURCES; j++) in_memory[j] = guarded_new(1 << 18);
    out_memory = guarded_new(1 << 18);
    sum_memory = guarded_new(1 << 12);
    check_arguments();
    while (test_round())
        for (int i = 0; i < 300; i++) {
            check_combine();
            if (i % 10 == 0) check_inner();
            check_delta();
            check_tasks();
            check_nonfinite();
        }
    return test_end();
}
