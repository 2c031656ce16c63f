/*
 * The hashing family against loops written from hashing.h alone, on every tier; the hash against published values of xxHash32. Every array ends or
 * starts at a page that cannot be touched.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "hashing/scalar.h"
#include "support.h"

static guarded in_memory, out_memory, sum_memory, count_memory, value_memory;

/* xxHash32 of up to 15 bytes. */
static uint32_t hash_of(const uint8_t *p, size_t n, uint32_t seed) {
    const uint32_t prime[6] = {0, 2654435761u, 2246822519u, 3266489917u, 668265263u, 374761393u};
    uint32_t h = seed + prime[5] + (uint32_t)n;
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const uint32_t k = (uint32_t)p[i] | (uint32_t)p[i + 1] << 8 | (uint32_t)p[i + 2] << 16 | (uint32_t)p[i + 3] << 24;
        h += k * prime[3];
        h = (h << 17 | h >> 15) * prime[4];
    }
    for (; i < n; i++) {
        h += p[i] * prime[5];
        h = (h << 11 | h >> 21) * prime[1];
    }
    h = (h ^ h >> 15) * prime[2];
    h = (h ^ h >> 13) * prime[3];
    return h ^ h >> 16;
}

static uint32_t position(uint32_t i, uint32_t j, uint32_t seed) {
    const uint8_t bytes[8] = {(uint8_t)i, (uint8_t)(i >> 8), (uint8_t)(i >> 16), (uint8_t)(i >> 24),
                              (uint8_t)j, (uint8_t)(j >> 8), (uint8_t)(j >> 16), (uint8_t)(j >> 24)};
    return hash_of(bytes, 8, seed);
}

static void check_hash(void) {
    CHECK(hash_of(NULL, 0, 0) == 0x02cc5d05, "of nothing");
    CHECK(hash_of((const uint8_t *)"abc", 3, 0) == 0x32d153ff, "of abc");
    for (int i = 0; i < 1000; i++) {
        const uint32_t row = (uint32_t)random_bits(), col = (uint32_t)random_bits(), seed = (uint32_t)random_bits();
        CHECK(tp_hash_end(tp_hash_word(tp_hash_row(seed, row), col)) == position(row, col, seed), "of a position");
    }
}

static void check(int64_t rows, int64_t cols, int64_t buckets) {
    const bool at_end = random_below(2);
    const tp_hashing s = {.rows = rows, .cols = cols, .stride = cols + random_below(3), .buckets = buckets, .seed = (uint32_t)random_bits()};
    const size_t size = rows > 0 && cols > 0 ? (size_t)((rows - 1) * s.stride + cols) : 0;
    float *in = guarded_take(&in_memory, size * 4, at_end);
    for (size_t i = 0; i < size; i++) in[i] = (float)(random_unit() - 0.4);
    const int64_t parts = 3, cut[4] = {0, random_below(rows + 1) / 2, rows / 2 + random_below(rows - rows / 2 + 1), rows};
    double *want = calloc((size_t)(parts * buckets), 8);
    int32_t *many = calloc((size_t)(parts * buckets), 4);
    float *mean = malloc((size_t)buckets * 4);
    for (int part = 0; part < parts; part++)
        for (int64_t i = cut[part]; i < cut[part + 1]; i++)
            for (int64_t j = 0; j < cols; j++) {
                const int64_t at = part * buckets + (int64_t)((double)position((uint32_t)i, (uint32_t)j, s.seed) / 0x1p32 * (double)buckets);
                const double x = in[i * s.stride + j];
                want[at] += position((uint32_t)i, (uint32_t)j, s.seed + 1) >> 31 ? -x : x;
                many[at]++;
            }
    for (int64_t b = 0; b < buckets; b++) {
        const double sum = want[b] + want[buckets + b] + want[2 * buckets + b], count = many[b] + many[buckets + b] + many[2 * buckets + b];
        mean[b] = count > 0 ? (float)(sum / count) : 0;
    }
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        double *sums = guarded_take(&sum_memory, (size_t)(parts * buckets) * 8, at_end);
        int32_t *counts = guarded_take(&count_memory, (size_t)(parts * buckets) * 4, at_end);
        float *values = guarded_take(&value_memory, (size_t)buckets * 4, at_end), *out = guarded_take(&out_memory, size * 4, at_end);
        memset(sums, 0, (size_t)(parts * buckets) * 8);
        memset(counts, 0, (size_t)(parts * buckets) * 4);
        for (int part = 0; part < parts; part++)
            CHECK(tp_hash_add(&s, cut[part], cut[part + 1], in, sums + part * buckets, counts + part * buckets) == TP_OK, "status");
        CHECK(!memcmp(counts, many, (size_t)(parts * buckets) * 4), "tier %d counts otherwise", tier);
        CHECK(!memcmp(sums, want, (size_t)(parts * buckets) * 8), "tier %d adds otherwise", tier);
        const int64_t half = random_below(buckets + 1);
        CHECK(!tp_hash_mean(parts, buckets, 0, half, sums, counts, values) && !tp_hash_mean(parts, buckets, half, buckets, sums, counts, values),
              "status");
        CHECK(!memcmp(values, mean, (size_t)buckets * 4), "tier %d divides otherwise", tier);
        const int64_t row = random_below(rows + 1);
        CHECK(!tp_hash_decode(&s, 0, row, values, out) && !tp_hash_decode(&s, row, rows, values, out), "status");
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < s.stride && (size_t)(i * s.stride + j) < size; j++) {
                uint32_t bits = 0x01010101u * GUARD_FILL;
                if (j < cols) {
                    const int64_t b = (int64_t)((double)position((uint32_t)i, (uint32_t)j, s.seed) / 0x1p32 * (double)buckets);
                    memcpy(&bits, mean + b, 4);
                    bits ^= position((uint32_t)i, (uint32_t)j, s.seed + 1) & 0x80000000u;
                }
                CHECK(!memcmp(out + i * s.stride + j, &bits, 4), "tier %d: [%lld, %lld] is %g", tier, (long long)i, (long long)j,
                      out[i * s.stride + j]);
            }
        if (rows == 0 || cols == 0) continue;
        const int64_t at = random_below(rows) * s.stride + random_below(cols);
        const float kept = in[at];
        in[at] = random_below(2) ? NAN : INFINITY;
        CHECK(tp_hash_add(&s, 0, rows, in, sums, counts) == TP_ERR_NONFINITE, "tier %d takes what is not finite", tier);
        in[at] = kept;
    }
    free(want);
    free(many);
    free(mean);
}

static void check_arguments(void) {
    const tp_hashing good = {1, 1, 1, 1, 0};
    tp_hashing s = good;
    float x = 1;
    double sum = 0;
    int32_t count = 0;
    CHECK(tp_hash_add(&s, 0, 1, &x, &sum, &count) == TP_OK, "good");
    CHECK(tp_hash_add(NULL, 0, 1, &x, &sum, &count) == TP_ERR_ARGUMENT && tp_hash_add(&s, 0, 1, NULL, &sum, &count) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_hash_decode(&s, 0, 1, &x, NULL) == TP_ERR_ARGUMENT && tp_hash_decode(&s, 1, 1, NULL, NULL) == TP_OK, "null");
    CHECK(tp_hash_add(&s, 0, 2, &x, &sum, &count) == TP_ERR_RANGE && tp_hash_decode(&s, -1, 1, &x, &x) == TP_ERR_RANGE, "range");
    CHECK(tp_hash_mean(1, 1, 0, 2, &sum, &count, &x) == TP_ERR_RANGE && tp_hash_mean(1, 1, 0, 1, NULL, &count, &x) == TP_ERR_ARGUMENT, "mean");
    CHECK(tp_hash_mean(-1, 1, 0, 1, &sum, &count, &x) == TP_ERR_SHAPE, "parts");
    const int64_t wrong[3] = {0, -1, INT64_C(1) << 31};
    for (int i = 0; i < 3; i++) {
        s.buckets = wrong[i];
        CHECK(tp_hash_decode(&s, 0, 1, &x, &x) == TP_ERR_SHAPE, "buckets");
    }
    s = good;
    s.cols = s.stride = INT64_C(1) << 32;
    CHECK(tp_hash_decode(&s, 0, 1, &x, &x) == TP_ERR_SHAPE, "columns");
    s = good;
    s.stride = 0;
    CHECK(tp_hash_decode(&s, 0, 1, &x, &x) == TP_ERR_SHAPE, "stride");
}

int main(void) {
    test_start("test_hashing");
    in_memory = guarded_new(1 << 18);
    out_memory = guarded_new(1 << 18);
    value_memory = guarded_new(1 << 18);
    sum_memory = guarded_new(1 << 18);
    count_memory = guarded_new(1 << 18);
    check_hash();
    check_arguments();
    while (test_round())
        for (int i = 0; i < 60; i++) check(random_below(i < 30 ? 8 : 60), random_below(i < 30 ? 40 : 300), 1 + random_below(i % 2 ? 9 : 3000));
    return test_end();
}
