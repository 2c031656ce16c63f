/*
 * The transform family against what transform.h says, in f64, on every tier; all tiers give the same bits. Every array ends or starts at a page that
 * cannot be touched, and ranges are cut at random.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"
#include "tensorpress/transform.h"

static guarded in_memory, out_memory, scratch_memory, back_memory;
static const double unit = 0x1p-24;

static float normal(void) { return (float)(random_unit() + random_unit() + random_unit() - 1.5); }

static size_t extent(int64_t rows, int64_t cols, int64_t stride) { return rows > 0 && cols > 0 ? (size_t)((rows - 1) * stride + cols) : 0; }

static void check_gaps(const char *what, int tier, const float *out, int64_t rows, int64_t cols, int64_t stride) {
    const uint32_t fill = 0x01010101u * GUARD_FILL;
    for (int64_t i = 0; cols > 0 && i + 1 < rows; i++)
        for (int64_t j = cols; j < stride; j++) CHECK(!memcmp(out + i * stride + j, &fill, 4), "%s: tier %d writes between rows", what, tier);
}

static void dct_line(int n, bool inverse, const double *x, int64_t step, double *y, int64_t out_step) {
    for (int b = 0; b < n; b++) {
        double sum = 0;
        for (int a = 0; a < n; a++) {
            const int k = inverse ? a : b, j = inverse ? b : a;
            sum += sqrt((k ? 2.0 : 1.0) / n) * cos(acos(-1) * (2 * j + 1) * k / (2.0 * n)) * x[a * step];
        }
        y[b * out_step] = sum;
    }
}

static void check_dct_blocks(int64_t rows, int64_t cols, int block) {
    const bool at_end = random_below(2);
    const tp_dct s = {.rows = rows, .cols = cols, .in_stride = cols + random_below(3), .out_stride = cols + random_below(3), .block = block,
                      .dimensions = 1 + (int32_t)random_below(2), .inverse = (int32_t)random_below(2)};
    float *in = guarded_take(&in_memory, extent(rows, cols, s.in_stride) * 4, at_end);
    for (size_t i = 0; i < extent(rows, cols, s.in_stride); i++) in[i] = random_below(8) ? normal() : normal() * 1e4f;
    float *first = malloc(extent(rows, cols, s.out_stride) * 4 + 4);
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        float *out = guarded_take(&out_memory, extent(rows, cols, s.out_stride) * 4, at_end);
        void *scratch = guarded_take(&scratch_memory, TP_DCT_SCRATCH, true);
        int64_t cut = random_below(rows + 1);
        if (s.dimensions == 2 && cut < rows) cut -= cut % block;
        CHECK(tp_dct_blocks(&s, 0, cut, in, out, scratch) == TP_OK, "status");
        CHECK(tp_dct_blocks(&s, cut, rows, in, out, scratch) == TP_OK, "status");
        check_gaps("dct", tier, out, rows, cols, s.out_stride);
        if (tier == 0) {
            memcpy(first, out, extent(rows, cols, s.out_stride) * 4);
            continue;
        }
        for (int64_t i = 0; i < rows; i++)
            CHECK(cols == 0 || !memcmp(first + i * s.out_stride, out + i * s.out_stride, (size_t)cols * 4), "tier %d has other bits", tier);
    }
    static double x[64 * 64], y[64 * 64];
    for (int64_t i = 0; i < rows; i += s.dimensions == 2 ? block : 1)
        for (int64_t j = 0; j < cols; j += block) {
            const int high = s.dimensions == 1 ? 1 : (int)(rows - i < block ? rows - i : block);
            const int wide = (int)(cols - j < block ? cols - j : block);
            double squares = 0;
            for (int r = 0; r < high; r++)
                for (int c = 0; c < wide; c++) {
                    x[r * 64 + c] = in[(i + r) * s.in_stride + j + c];
                    squares += x[r * 64 + c] * x[r * 64 + c];
                }
            for (int r = 0; r < high; r++) dct_line(wide, s.inverse, x + r * 64, 1, y + r * 64, 1);
            for (int c = 0; c < wide && s.dimensions == 2; c++) dct_line(high, s.inverse, y + c, 64, x + c, 64);
            const double *want = s.dimensions == 2 ? x : y, bound = s.dimensions * (block + 2) * unit * sqrt(squares);
            for (int r = 0; r < high; r++)
                for (int c = 0; c < wide; c++) {
                    const double got = first[(i + r) * s.out_stride + j + c];
                    CHECK(fabs(got - want[r * 64 + c]) <= bound, "dct %d of %d x %d: %g is not %g", block, high, wide, got, want[r * 64 + c]);
                }
        }
    free(first);
}

/* x[i] of n, mirrored beyond its ends. */
static int64_t mirrored(int64_t i, int64_t n) { return i < 0 ? -i : i >= n ? 2 * (n - 1) - i : i; }

/* By the header's formulas: coefficients stay at the elements' places, and are then taken apart. */
static void wavelet_line(tp_wavelet_kind kind, bool inverse, int64_t n, double *x) {
    const double steps[4] = {-1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971}, grows = 1.149604398860241;
    if (n == 1) return;
    double *y = malloc((size_t)n * 8);
    const int64_t lows = (n + 1) / 2;
    for (int64_t i = 0; i < n; i++) y[i] = inverse ? x[i % 2 ? lows + i / 2 : i / 2] : x[i];
    const int count = kind == TP_CDF53 ? 2 : kind == TP_CDF97 ? 4 : 0;
    if (kind == TP_CDF97 && inverse)
        for (int64_t i = 0; i < n; i++) y[i] *= i % 2 ? grows : 1 / grows;
    for (int step = 0; step < count; step++) {
        const int which = inverse ? count - 1 - step : step;
        for (int64_t i = which % 2 ? 0 : 1; i < n; i += 2) {
            const double sum = y[mirrored(i - 1, n)] + y[mirrored(i + 1, n)];
            const double change = kind == TP_CDF97 ? steps[which] * sum : which ? floor((sum + 2) / 4) : -floor(sum / 2);
            y[i] += inverse ? -change : change;
        }
    }
    if (kind == TP_CDF97 && !inverse)
        for (int64_t i = 0; i < n; i++) y[i] *= i % 2 ? 1 / grows : grows;
    for (int64_t i = 0; kind == TP_HAAR && i + 1 < n; i += 2) {
        const double a = y[i], b = y[i + 1];
        y[i] = (a + b) * sqrt(0.5);
        y[i + 1] = (a - b) * sqrt(0.5);
    }
    for (int64_t i = 0; i < n; i++) x[inverse ? i : i % 2 ? lows + i / 2 : i / 2] = y[i];
    free(y);
}

static tp_status rows_or_columns(const tp_wavelet *s, bool columns, int64_t begin, int64_t end, const void *in, void *out, void *scratch) {
    return columns ? tp_wavelet_columns(s, begin, end, in, out) : tp_wavelet_rows(s, begin, end, in, out, scratch);
}

static void check_wavelet(tp_wavelet_kind kind, bool columns, int64_t rows, int64_t cols) {
    const bool at_end = random_below(2), integers = kind == TP_CDF53;
    const tp_wavelet s = {.rows = rows, .cols = cols, .in_stride = cols + random_below(3), .out_stride = cols + random_below(3), .kind = kind,
                          .inverse = (int32_t)random_below(2)};
    const size_t size = extent(rows, cols, s.out_stride) * 4;
    float *in = guarded_take(&in_memory, extent(rows, cols, s.in_stride) * 4, at_end);
    double most = 0;
    for (size_t i = 0; i < extent(rows, cols, s.in_stride); i++) {
        const int32_t number = (int32_t)random_below(1 << 20) - (1 << 19);
        in[i] = normal();
        if (integers) memcpy(in + i, &number, 4);
        else if (fabs(in[i]) > most) most = fabs(in[i]);
    }
    float *first = malloc(size + 4);
    const int64_t lines = columns ? cols : rows, scratch_bytes = (cols * 4 + 63) / 64 * 64;
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        float *out = guarded_take(&out_memory, size, at_end);
        void *scratch = guarded_take(&scratch_memory, (size_t)scratch_bytes, true);
        const int64_t cut = random_below(lines + 1);
        CHECK(rows_or_columns(&s, columns, 0, cut, in, out, scratch) == TP_OK, "status");
        CHECK(rows_or_columns(&s, columns, cut, lines, in, out, scratch) == TP_OK, "status");
        check_gaps("wavelet", tier, out, rows, cols, s.out_stride);
        if (tier == 0) memcpy(first, out, size);
        for (int64_t i = 0; i < rows; i++)
            CHECK(cols == 0 || !memcmp(first + i * s.out_stride, out + i * s.out_stride, (size_t)cols * 4),
                  "kind %d, %s, %lld x %lld, inverse %d: tier %d has other bits in row %lld", kind, columns ? "columns" : "rows", (long long)rows,
                  (long long)cols, s.inverse, tier, (long long)i);
        if (columns) continue;
        float *same = guarded_take(&back_memory, size, at_end);
        for (int64_t i = 0; i < rows && cols > 0; i++) memcpy(same + i * s.out_stride, in + i * s.in_stride, (size_t)cols * 4);
        const tp_wavelet within = {rows, cols, s.out_stride, s.out_stride, kind, s.inverse};
        CHECK(tp_wavelet_rows(&within, 0, rows, same, same, scratch) == TP_OK, "status");
        for (int64_t i = 0; i < rows; i++)
            CHECK(cols == 0 || !memcmp(first + i * s.out_stride, same + i * s.out_stride, (size_t)cols * 4), "tier %d in place", tier);
    }
    const int64_t n = columns ? rows : cols;
    double *x = malloc((size_t)n * 8 + 8);
    for (int64_t l = 0; l < lines; l++) {
        for (int64_t e = 0; e < n; e++) {
            const float *from = in + (columns ? e * s.in_stride + l : l * s.in_stride + e);
            int32_t number;
            memcpy(&number, from, 4);
            x[e] = integers ? number : *from;
        }
        wavelet_line(kind, s.inverse, n, x);
        for (int64_t e = 0; e < n; e++) {
            const float *to = first + (columns ? e * s.out_stride + l : l * s.out_stride + e);
            int32_t number;
            memcpy(&number, to, 4);
            const double got = integers ? number : *to, bound = integers ? 0 : kind == TP_HAAR ? 0x1p-22 * most : 0x1p-20 * most;
            CHECK(fabs(got - x[e]) <= bound, "kind %d, element %lld of %lld, inverse %d: %.9g is not %.9g", kind, (long long)e, (long long)n,
                  s.inverse, got, x[e]);
        }
    }
    free(x);
    free(first);
}

/* Any integers come back, and so do floats, nearly; Haar keeps the sum of squares. */
static void check_there_and_back(tp_wavelet_kind kind, int64_t rows, int64_t cols) {
    const size_t size = (size_t)(rows * cols);
    float *x = malloc(size * 4 + 4), *y = malloc(size * 4 + 4), *z = malloc(size * 4 + 4);
    double before = 0, after = 0;
    for (size_t i = 0; i < size; i++) {
        const uint32_t bits = (uint32_t)random_bits();
        x[i] = normal();
        before += (double)x[i] * x[i];
        if (kind == TP_CDF53) memcpy(x + i, &bits, 4);
    }
    void *scratch = guarded_take(&scratch_memory, (size_t)((cols * 4 + 63) / 64 * 64), true);
    tp_wavelet s = {rows, cols, cols, cols, kind, 0};
    CHECK(!tp_wavelet_rows(&s, 0, rows, x, z, scratch) && !tp_wavelet_columns(&s, 0, cols, z, y), "status");
    for (size_t i = 0; i < size && kind != TP_CDF53; i++) after += (double)y[i] * y[i];
    s.inverse = 1;
    CHECK(!tp_wavelet_columns(&s, 0, cols, y, z) && !tp_wavelet_rows(&s, 0, rows, z, z, scratch), "status");
    if (kind == TP_CDF53) CHECK(size == 0 || !memcmp(x, z, size * 4), "integers do not come back");
    for (size_t i = 0; i < size && kind != TP_CDF53; i++) CHECK(fabs(x[i] - z[i]) < 8e-6, "%g comes back as %g", x[i], z[i]);
    if (kind == TP_HAAR) CHECK(fabs(after - before) <= 1e-5 * before, "squares of %g, not %g", after, before);
    free(x);
    free(y);
    free(z);
}

/* The low filter of CDF 9/7 as it is published, scaled so that a constant grows by sqrt(2). */
static void check_filter(void) {
    const double taps[5] = {0.852698679009, 0.377402855613, -0.110624404418, -0.023849465020, 0.037828455507};
    for (int at = 12; at < 20; at++) {
        float x[32] = {0}, y[32], scratch[32] __attribute__((aligned(64)));
        x[at] = 1;
        const tp_wavelet s = {1, 32, 32, 32, TP_CDF97, 0};
        CHECK(tp_wavelet_rows(&s, 0, 1, x, y, scratch) == TP_OK, "status");
        for (int i = 0; i < 16; i++) {
            const int away = abs(2 * i - at);
            CHECK(fabs(y[i] - (away < 5 ? taps[away] : 0)) < 1e-6, "tap %d is %g", away, y[i]);
        }
    }
}

static void check_zone(int64_t elements) {
    const bool at_end = random_below(2);
    const int64_t lines = (elements + TP_CODE_LINE - 1) / TP_CODE_LINE;
    const tp_zone s = {.elements = elements, .step = (float)(0.01 + random_unit()), .zone = random_below(2) ? 0.5f : (float)(0.5 + random_unit() / 2),
                       .offset = (float)(random_unit() - 0.5), .limit = 1000};
    float *in = guarded_take(&in_memory, (size_t)elements * 4, at_end);
    for (int64_t i = 0; i < elements; i++) {
        in[i] = random_below(5) ? normal() : (float)(int)random_below(9) * s.step / 2;
        if (random_below(50) == 0) in[i] = -0.0f;
    }
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        int32_t *codes = guarded_take(&out_memory, (size_t)elements * 4, at_end);
        float *values = guarded_take(&back_memory, (size_t)elements * 4, at_end);
        double *errors = guarded_take(&scratch_memory, (size_t)lines * 8, at_end);
        const int64_t cut = random_below(lines + 1);
        CHECK(tp_zone_quantize(&s, 0, cut, in, codes, errors) == TP_OK && tp_zone_quantize(&s, cut, lines, in, codes, errors) == TP_OK, "status");
        CHECK(tp_zone_decode(&s, 0, cut, codes, values) == TP_OK && tp_zone_decode(&s, cut, lines, codes, values) == TP_OK, "status");
        for (int64_t line = 0; line < lines; line++) {
            double sums[16] = {0};
            for (int64_t i = line * TP_CODE_LINE; i < elements && i < (line + 1) * TP_CODE_LINE; i++) {
                const float depth = fabsf(in[i]) / s.step + (1 - s.zone);
                const int32_t code = (int32_t)floorf(depth) * (in[i] < 0 ? -1 : 1);
                const float value = code ? copysignf(((float)abs(code) + s.offset) * s.step, in[i]) : 0;
                CHECK(codes[i] == code, "tier %d: %g by %g is %d, not %d", tier, in[i], s.step, codes[i], code);
                CHECK(!memcmp(values + i, &value, 4), "tier %d: %d is %g, not %g", tier, code, values[i], value);
                const double error = (double)in[i] - (double)value;
                sums[i % 16] += error * error;
            }
            for (int half = 8; half; half /= 2)
                for (int l = 0; l < half; l++) sums[l] += sums[l + half];
            CHECK(!memcmp(errors + line, sums, 8), "tier %d: line %lld has %g, not %g", tier, (long long)line, errors[line], sums[0]);
        }
        if (elements == 0) continue;
        const int64_t at = random_below(elements), line = at / TP_CODE_LINE;
        const float kept = in[at];
        in[at] = random_below(2) ? NAN : -INFINITY;
        CHECK(tp_zone_quantize(&s, line, line + 1, in, codes, NULL) == TP_ERR_NONFINITE, "tier %d takes what is not finite", tier);
        in[at] = -1001 * s.step;
        CHECK(tp_zone_quantize(&s, line, line + 1, in, codes, NULL) == TP_ERR_MAGNITUDE, "tier %d takes what has no code", tier);
        in[at] = kept;
    }
}

static void check_codes(tp_dtype type, int64_t n) {
    const bool at_end = random_below(2);
    const int32_t least = type == TP_I8 ? -128 : type == TP_U8 ? 0 : -32768, most = type == TP_I8 ? 127 : type == TP_U8 ? 255 : 32767;
    const size_t size = type == TP_I16 ? 2 : 1;
    int32_t *in = guarded_take(&in_memory, (size_t)n * 4, at_end);
    for (int64_t i = 0; i < n; i++) in[i] = random_below(5) ? least + (int32_t)random_below(most - least + 1) : random_below(2) ? least : most;
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        void *narrow = guarded_take(&out_memory, (size_t)n * size, at_end);
        int32_t *wide = guarded_take(&back_memory, (size_t)n * 4, at_end);
        int64_t counts[2 * 200 + 1] = {0};
        const int64_t cut = random_below(n + 1);
        CHECK(!tp_narrow_codes(type, 0, cut, in, narrow) && !tp_narrow_codes(type, cut, n, in, narrow), "status");
        CHECK(!tp_widen_codes(type, 0, cut, narrow, wide) && !tp_widen_codes(type, cut, n, narrow, wide), "status");
        CHECK(!memcmp(in, wide, (size_t)n * 4), "tier %d: codes of type %d do not come back", tier, type);
        if (type == TP_I8) {
            CHECK(!tp_count_codes(200, 0, cut, in, counts) && !tp_count_codes(200, cut, n, in, counts), "status");
            int64_t sum = 0;
            for (int c = -200; c <= 200; c++) {
                int64_t there = 0;
                for (int64_t i = 0; i < n; i++) there += in[i] == c;
                CHECK(counts[200 + c] == there, "%lld of %d", (long long)counts[200 + c], c);
                sum += there;
            }
            CHECK(sum == n, "all are counted");
        }
        if (n == 0) continue;
        const int64_t at = random_below(n);
        const int32_t kept = in[at];
        in[at] = random_below(2) ? least - 1 : most + 1;
        CHECK(tp_narrow_codes(type, 0, n, in, narrow) == TP_ERR_MAGNITUDE, "tier %d narrows %d", tier, in[at]);
        in[at] = random_below(2) ? 201 : INT32_MIN;
        CHECK(tp_count_codes(200, at, at + 1, in, counts) == TP_ERR_MAGNITUDE, "counts %d", in[at]);
        in[at] = kept;
    }
}

static void check_arguments(void) {
    float x[4] = {0}, y[4];
    int32_t codes[4] = {0};
    char *scratch = guarded_take(&scratch_memory, TP_DCT_SCRATCH, true);
    const tp_dct good = {2, 2, 2, 2, 2, 2, 0};
    tp_dct d = good;
    CHECK(tp_dct_blocks(&d, 0, 2, x, y, scratch) == TP_OK, "good");
    CHECK(tp_dct_blocks(NULL, 0, 2, x, y, scratch) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_dct_blocks(&d, 0, 2, x, y, scratch + 4) == TP_ERR_ARGUMENT, "scratch");
    CHECK(tp_dct_blocks(&d, 0, 2, x, NULL, scratch) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_dct_blocks(&d, 0, 1, x, y, scratch) == TP_ERR_RANGE && tp_dct_blocks(&d, 0, 3, x, y, scratch) == TP_ERR_RANGE, "range");
    CHECK(tp_dct_blocks(&d, 2, 2, NULL, NULL, NULL) == TP_OK, "empty");
    d.block = 65;
    CHECK(tp_dct_blocks(&d, 0, 2, x, y, scratch) == TP_ERR_SHAPE, "block");
    d.block = 1;
    CHECK(tp_dct_blocks(&d, 0, 2, x, y, scratch) == TP_ERR_SHAPE, "block");
    d = good;
    d.out_stride = 1;
    CHECK(tp_dct_blocks(&d, 0, 2, x, y, scratch) == TP_ERR_SHAPE, "stride");
    d = good;
    d.dimensions = 3;
    CHECK(tp_dct_blocks(&d, 0, 2, x, y, scratch) == TP_ERR_ARGUMENT, "dimensions");
    const tp_wavelet fine = {2, 2, 2, 2, TP_HAAR, 0};
    tp_wavelet w = fine;
    CHECK(tp_wavelet_rows(&w, 0, 2, x, y, scratch) == TP_OK && tp_wavelet_columns(&w, 0, 2, x, y) == TP_OK, "good");
    CHECK(tp_wavelet_columns(&w, 0, 2, x, x) == TP_ERR_ARGUMENT, "in place");
    CHECK(tp_wavelet_rows(&w, 0, 2, x, y, NULL) == TP_ERR_ARGUMENT && tp_wavelet_rows(&w, 0, 2, NULL, y, scratch) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_wavelet_rows(&w, 1, 3, x, y, scratch) == TP_ERR_RANGE && tp_wavelet_columns(&w, -1, 2, x, y) == TP_ERR_RANGE, "range");
    w.kind = 4;
    CHECK(tp_wavelet_columns(&w, 0, 2, x, y) == TP_ERR_ARGUMENT, "kind");
    w = fine;
    w.in_stride = 1;
    CHECK(tp_wavelet_columns(&w, 0, 2, x, y) == TP_ERR_SHAPE, "stride");
    const tp_zone right = {4, 1, 0.5f, 0, 127};
    tp_zone z = right;
    CHECK(tp_zone_quantize(&z, 0, 1, x, codes, NULL) == TP_OK && tp_zone_decode(&z, 0, 1, codes, x) == TP_OK, "good");
    CHECK(tp_zone_quantize(&z, 0, 2, x, codes, NULL) == TP_ERR_RANGE && tp_zone_decode(&z, 0, 1, NULL, x) == TP_ERR_ARGUMENT, "range, null");
    const float wrong[4] = {0, -1, NAN, INFINITY};
    for (int i = 0; i < 4; i++) {
        z.step = wrong[i];
        CHECK(tp_zone_quantize(&z, 0, 1, x, codes, NULL) == TP_ERR_ARGUMENT, "step %g", wrong[i]);
        z = right;
    }
    z.zone = 0.4f;
    CHECK(tp_zone_quantize(&z, 0, 1, x, codes, NULL) == TP_ERR_ARGUMENT, "zone");
    z = right;
    z.limit = 1 << 23;
    CHECK(tp_zone_quantize(&z, 0, 1, x, codes, NULL) == TP_ERR_ARGUMENT, "limit");
    z = right;
    z.offset = 1;
    CHECK(tp_zone_decode(&z, 0, 1, codes, x) == TP_ERR_ARGUMENT, "offset");
    z = right;
    z.elements = -1;
    CHECK(tp_zone_decode(&z, 0, 0, codes, x) == TP_ERR_SHAPE, "elements");
    CHECK(tp_widen_codes(TP_F32, 0, 1, x, codes) == TP_ERR_TYPE && tp_narrow_codes(TP_U4, 0, 1, codes, x) == TP_ERR_TYPE, "type");
    CHECK(tp_widen_codes(TP_I8, 1, 0, x, codes) == TP_ERR_RANGE && tp_narrow_codes(TP_I8, 0, 1, NULL, x) == TP_ERR_ARGUMENT, "range, null");
    int64_t counts[3];
    CHECK(tp_count_codes(0, 0, 1, codes, counts) == TP_ERR_ARGUMENT && tp_count_codes(1, 0, 1, codes, NULL) == TP_ERR_ARGUMENT, "count");
}

int main(void) {
    test_start("test_transform");
    in_memory = guarded_new(1 << 19);
    out_memory = guarded_new(1 << 19);
    back_memory = guarded_new(1 << 19);
    scratch_memory = guarded_new(1 << 19);
    const int64_t sizes[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 32, 33, 64, 65, 127, 200};
    const int64_t blocks[] = {2, 3, 4, 5, 8, 12, 16, 24, 31, 32, 40, 48, 57, 64};
    enum { SIZES = sizeof sizes / sizeof *sizes, BLOCKS = sizeof blocks / sizeof *blocks };
    check_arguments();
    while (test_round()) {
        check_filter();
        for (int b = 0; b < BLOCKS; b++)
            for (int i = 0; i < 12; i++)
                check_dct_blocks(random_below(4) ? sizes[random_below(SIZES)] : 2 * blocks[b], sizes[random_below(SIZES)], (int)blocks[b]);
        for (tp_wavelet_kind kind = TP_HAAR; kind <= TP_CDF97; kind++) {
            for (int i = 0; i < SIZES; i++) {
                check_wavelet(kind, false, random_below(4), sizes[i]);
                check_wavelet(kind, true, sizes[i], sizes[random_below(SIZES)]);
                check_there_and_back(kind, sizes[random_below(SIZES)], sizes[i]);
            }
            check_wavelet(kind, true, 5, 2100);
        }
        for (int i = 0; i < SIZES; i++) check_zone(sizes[i] + TP_CODE_LINE * random_below(3));
        for (int i = 0; i < SIZES; i++) {
            check_codes(TP_I8, sizes[i]);
            check_codes(TP_U8, sizes[i]);
            check_codes(TP_I16, sizes[i]);
        }
    }
    return test_end();
}
