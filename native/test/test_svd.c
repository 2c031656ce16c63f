/*
 * The svd family: each kernel of each tier against what svd.h says, mostly by properties (residuals, orthogonality), which
 * need no second implementation, and results of different cuts against each other bit for bit. What CUDA devices have of it
 * goes through the same checks, as one more tier.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "on_cuda.h"
#include "support.h"
#include "svd/checks.h"
#include "svd/kernels.h"
#include "svd_on_cuda.h"

#define U 0x1p-53

enum { BYTES = 1 << 22 };
static guarded in_memory, other_memory, out_memory[2], scratch_memory;

static double normal(void) { return sqrt(-2 * log(random_unit() + 1e-300)) * cos(6.283185307179586 * random_unit()); }

/* A matrix whose last byte is followed by a page that cannot be touched; rows are `stride` apart, gaps hold NaN. */
static double *matrix(const guarded *g, int64_t rows, int64_t cols, int64_t stride) {
    const int64_t n = rows ? (rows - 1) * stride + cols : 0;
    double *a = guarded_take(g, (size_t)n * sizeof *a, true);
    for (int64_t i = 0; i < n; i++) a[i] = i % stride < cols ? normal() : NAN;
    return a;
}

static double *allocate(int64_t n) {
    double *p = aligned_alloc(64, (size_t)(n + 8) / 8 * 64);
    if (!p) abort();
    for (int64_t i = 0; i < n; i++) p[i] = NAN;
    return p;
}

static double *identity(int64_t n) {
    double *p = allocate(n * n);
    for (int64_t i = 0; i < n * n; i++) p[i] = i % (n + 1) == 0;
    return p;
}

/* max |X Y^T - want| for rows of X [m, k] and Y [n, k]; want null: the unit matrix. */
static double product_error(int64_t m, int64_t n, int64_t k, const double *x, const double *y, const double *want) {
    double most = 0;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            long double sum = want ? -want[i * n + j] : -(double)(i == j);
            for (int64_t p = 0; p < k; p++) sum += (long double)x[i * k + p] * y[j * k + p];
            const double error = fabs((double)sum);
            most = error <= most ? most : error;
        }
    }
    return most;
}

/* Norms that matrices may have: powers of two, so that what a test compares scales exactly. */
static const double magnitudes[] = {1, 0x1p-996, 0x1p996, 0x1p-560, 0x1p531, 0x1p-53, 0x1p53};
enum { MAGNITUDES = sizeof magnitudes / sizeof *magnitudes };

static const char *active_name(void) {
    tp_tier tier;
    if (on_cuda) return "cuda";
    return tp_active_tier(&tier) ? "?" : tp_tier_name(tier);
}

/* ---- random numbers, norms, copies ---- */

static void philox(uint64_t counter, uint64_t stream, uint64_t key, uint32_t c[4]) {
    uint32_t k[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
    c[0] = (uint32_t)counter, c[1] = (uint32_t)(counter >> 32), c[2] = (uint32_t)stream, c[3] = (uint32_t)(stream >> 32);
    for (int i = 0; i < 10; i++) {
        const uint64_t a = 0xD2511F53ull * c[0], b = 0xCD9E8D57ull * c[2];
        const uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k[0], (uint32_t)b, (uint32_t)(a >> 32) ^ c[3] ^ k[1],
                                  (uint32_t)a};
        memcpy(c, next, sizeof next);
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
}

static void check_gaussian(void) {
    uint32_t words[4];
    philox(0, 0, 0, words); /* the known answers of the paper's library */
    CHECK(words[0] == 0x6627e8d5 && words[1] == 0xe169c58d && words[2] == 0xbc57ac4c && words[3] == 0x9b00dbd8, "philox 0");
    philox(UINT64_MAX, UINT64_MAX, UINT64_MAX, words);
    CHECK(words[0] == 0x408f276d && words[1] == 0x41c83b0e && words[2] == 0xa20bc7c6 && words[3] == 0x6d5451fd, "philox 1");
    enum { N = 20000 };
    static double first[N], all[N];
    static float narrow[N];
    const uint64_t seeds[] = {0, 1, UINT64_MAX, 0x123456789abcdef0u};
    const int64_t starts[] = {0, 3, 4096, (INT64_C(1) << 34) - 7777, INT64_MAX - N};
    for (int i = 0; i < 20; i++) {
        const uint64_t seed = seeds[i % 4], stream = i % 3 ? random_bits() : 0;
        const int64_t start = starts[i % 5];
        for (int tier = 0; tier <= test_tiers; tier++) {
            use_tier(tier);
            double *out = guarded_take(&out_memory[0], sizeof all, true);
            CHECK(tp_gaussian(seed, stream, start, start + N, TP_F64, out) == TP_OK, "status");
            if (tier == 0)
                memcpy(first, out, sizeof first);
            else
                CHECK(memcmp(first, out, sizeof first) == 0, "%s: other numbers", active_name());
            CHECK(tp_gaussian(seed, stream, start, start + N, TP_F32, narrow) == TP_OK, "status");
            for (int k = 0; k < N; k++) CHECK(narrow[k] == (float)out[k], "f32 is f64 rounded");
            for (int64_t at = 0, n; at < N; at += n) {
                n = 1 + random_below(700);
                if (n > N - at) n = N - at;
                tp_gaussian(seed, stream, start + at, start + at + n, TP_F64, all + at);
            }
            CHECK(memcmp(first, all, sizeof all) == 0, "%s: cuts", active_name());
        }
        double mean = 0, square = 0, fourth = 0;
        for (int k = 0; k < N; k++) {
            const int64_t element = start + k;
            philox((uint64_t)(element / 4), stream, seed, words);
            const uint32_t a = words[element % 4 / 2 * 2], b = words[element % 4 / 2 * 2 + 1];
            const double radius = sqrt(-2 * log((a + 0.5) / 4294967296.0)), angle = 6.283185307179586476925 * (b / 4294967296.0);
            const double want = radius * (element % 2 ? sin(angle) : cos(angle));
            CHECK(fabs(first[k] - want) <= 1e-14 * radius, "element %lld: %.17g, not %.17g", (long long)element, first[k], want);
            mean += first[k] / N;
            square += first[k] * first[k] / N;
            fourth += first[k] * first[k] * first[k] * first[k] / N;
        }
        CHECK(fabs(mean) < 0.05 && fabs(square - 1) < 0.08 && fabs(fourth - 3) < 0.6, "moments %g %g %g", mean, square, fourth);
    }
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        CHECK(tp_gaussian(0, 0, 2, 1, TP_F32, narrow) == TP_ERR_RANGE, "range");
        CHECK(tp_gaussian(0, 0, 0, 1, TP_I8, narrow) == TP_ERR_TYPE, "type");
        CHECK(tp_gaussian(0, 0, 0, 1, TP_F32, NULL) == TP_ERR_ARGUMENT, "null");
    }
}

static void store(tp_dtype type, void *p, int64_t i, double x) {
    const float f = (float)x;
    if (type == TP_F64)
        memcpy((char *)p + 8 * i, &x, 8);
    else
        memcpy((char *)p + 4 * i, &f, 4);
}

static double value(tp_dtype type, const void *p, int64_t i) {
    double x;
    float f;
    memcpy(&x, (const char *)p + 8 * i * (type == TP_F64), 8 * (type == TP_F64));
    memcpy(&f, (const char *)p + 4 * i * (type != TP_F64), 4);
    return type == TP_F64 ? x : f;
}

/* An input of random numbers at any address. */
static void *floats(const guarded *g, tp_dtype type, int64_t rows, int64_t cols, int64_t stride) {
    const int64_t n = rows ? (rows - 1) * stride + cols : 0, size = type == TP_F64 ? 8 : 4;
    void *p = guarded_input(g, (size_t)(n * size), true, (int)random_below(2) * 3);
    for (int64_t i = 0; i < n; i++) store(type, p, i, i % stride < cols ? normal() : NAN);
    return p;
}

static void check_row_norms(void) {
    for (int n = 0; n < 300; n++) {
        const tp_dtype type = n % 2 ? TP_F32 : TP_F64;
        const int64_t rows = 1 + random_below(6), cols = n % 71, stride = cols + 1 + random_below(3);
        void *in = floats(&in_memory, type, rows, cols, stride);
        const int64_t begin = random_below(rows), end = begin + random_below(rows - begin) + 1;
        double own[8]; /* of the processor */
        for (int tier = 0; tier <= test_tiers; tier++) {
            use_tier(tier);
            double sums[8], largest[8];
            CHECK(tp_row_norms(type, rows, cols, stride, begin, end, in, sums, largest) == TP_OK, "status");
            for (int64_t i = begin; i < end; i++) {
                long double sum = 0;
                double most = 0;
                for (int64_t j = 0; j < cols; j++) {
                    const double x = value(type, in, i * stride + j);
                    sum += (long double)x * x;
                    most = fmax(most, fabs(x));
                }
                CHECK(fabsl(sums[i] - sum) <= (cols + 4) * U * sum && largest[i] == most, "%s: row %lld", active_name(), (long long)i);
                if (!on_cuda) own[i] = sums[i];
                CHECK(memcmp(own + i, sums + i, 8) == 0, "other bits than the processor's");
            }
        }
        if (cols == 0) continue;
        const int64_t row = random_below(rows), col = random_below(cols);
        store(type, in, row * stride + col, n % 3 == 0 ? NAN : n % 3 == 1 ? INFINITY : -INFINITY);
        for (int tier = 0; tier <= test_tiers; tier++) {
            use_tier(tier);
            double sums[8], largest[8];
            CHECK(tp_row_norms(type, rows, cols, stride, row, row + 1, in, sums, largest) == TP_ERR_NONFINITE, "%s: not finite", active_name());
            CHECK(tp_row_norms(type, rows, cols, stride, 0, row, in, sums, largest) == TP_OK, "rows before it");
        }
    }
    double x = 0;
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        CHECK(tp_row_norms(TP_F16, 1, 1, 1, 0, 1, &x, &x, &x) == TP_ERR_TYPE, "type");
        CHECK(tp_row_norms(TP_F32, 1, 2, 1, 0, 1, &x, &x, &x) == TP_ERR_SHAPE, "stride");
        CHECK(tp_row_norms(TP_F32, 1, 1, 1, 0, 2, &x, &x, &x) == TP_ERR_RANGE, "range");
        CHECK(tp_row_norms(TP_F32, 1, 1, 1, 0, 1, NULL, &x, &x) == TP_ERR_ARGUMENT, "null");
    }
}

static void check_row_peaks(void) {
    for (int n = 0; n < 200; n++) {
        const int64_t rows = 1 + random_below(6), cols = n % 53, stride = cols + 1 + random_below(3);
        double *in = matrix(&in_memory, rows, cols, stride);
        /* Some magnitudes more than once, with either sign. */
        for (int64_t i = 0; n % 3 && i < rows; i++)
            for (int64_t j = 0; j < cols; j++) in[i * stride + j] = (double)(random_below(n % 3 == 1 ? 4 : 1000) - n % 3 * 2) * 1e-200;
        for (int tier = 0; tier < test_tiers; tier++) {
            test_use_tier(tier);
            double *peaks = guarded_take(&out_memory[0], (size_t)rows * 8, true);
            const int64_t cut = random_below(rows + 1);
            CHECK(!tp_row_peaks(rows, cols, stride, 0, cut, in, peaks) && !tp_row_peaks(rows, cols, stride, cut, rows, in, peaks), "status");
            for (int64_t i = 0; i < rows; i++) {
                double peak = 0;
                for (int64_t j = cols - 1; j >= 0; j--)
                    if (fabs(in[i * stride + j]) >= fabs(peak)) peak = in[i * stride + j];
                CHECK(memcmp(&peak, peaks + i, 8) == 0, "%s: peak %g, not %g", active_name(), peaks[i], peak);
            }
        }
    }
    double x = 0;
    CHECK(tp_row_peaks(1, 2, 1, 0, 1, &x, &x) == TP_ERR_SHAPE, "stride");
    CHECK(tp_row_peaks(1, 1, 1, 0, 2, &x, &x) == TP_ERR_RANGE, "range");
    CHECK(tp_row_peaks(1, 1, 1, 0, 1, NULL, &x) == TP_ERR_ARGUMENT, "null");
}

static void check_copy_rows(void) {
    for (int n = 0; n < 300; n++) {
        tp_copying s = {.rows = 1 + random_below(40), .cols = 1 + random_below(40), .in_type = n % 2 ? TP_F32 : TP_F64,
                        .out_type = n % 4 < 2 ? TP_F32 : TP_F64, .transposed = n % 3 == 0, .factor = n % 5 ? normal() : 1};
        s.in_stride = s.cols + random_below(3);
        s.out_stride = (s.transposed ? s.rows : s.cols) + random_below(3);
        const int64_t out_rows = s.transposed ? s.cols : s.rows, out_cols = s.transposed ? s.rows : s.cols;
        void *in = floats(&in_memory, s.in_type, s.rows, s.cols, s.in_stride);
        int64_t order[40];
        double factors[40];
        for (int64_t i = 0; i < s.rows; i++) {
            order[i] = random_below(s.rows);
            factors[i] = normal();
        }
        const bool ordered = n % 7 < 3, scaled = n % 11 < 5;
        for (int tier = 0; tier <= test_tiers; tier++) {
            use_tier(tier);
            void *out = guarded_take(&out_memory[0], (size_t)((out_rows - 1) * s.out_stride + out_cols) * (s.out_type == TP_F64 ? 8 : 4), true);
            const int64_t cut = random_below(s.rows + 1);
            CHECK(!tp_copy_rows(&s, 0, cut, ordered ? order : NULL, scaled ? factors : NULL, in, out) &&
                      !tp_copy_rows(&s, cut, s.rows, ordered ? order : NULL, scaled ? factors : NULL, in, out), "status");
            for (int64_t i = 0; i < s.rows; i++) {
                for (int64_t j = 0; j < s.cols; j++) {
                    const int64_t from = ordered ? order[i] : i;
                    const double want = value(s.in_type, in, from * s.in_stride + j) * (scaled ? factors[from] : 1) * s.factor;
                    const double got = value(s.out_type, out, s.transposed ? j * s.out_stride + i : i * s.out_stride + j);
                    CHECK(got == (s.out_type == TP_F64 ? want : (float)want), "%s: element %lld %lld", active_name(), (long long)i, (long long)j);
                }
            }
        }
    }
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        double x[4] = {0};
        const int64_t bad = 1;
        tp_copying s = {1, 1, 1, 1, TP_F64, TP_F64, 0, 1};
        const double small = 1e-300, large = 1e200;
        s.factor = large;
        x[0] = small;
        CHECK(tp_copy_rows(&s, 0, 1, NULL, &large, x, x + 1) == TP_OK && x[1] == small * large * large, "factor by factor");
        CHECK(tp_copy_rows(&s, 0, 1, &bad, NULL, x, x + 1) == TP_ERR_RANGE, "order");
        CHECK(tp_copy_rows(NULL, 0, 1, NULL, NULL, x, x + 1) == TP_ERR_ARGUMENT, "null");
        s.transposed = 2;
        CHECK(tp_copy_rows(&s, 0, 1, NULL, NULL, x, x + 1) == TP_ERR_ARGUMENT, "transposed");
        s.transposed = 0;
        s.out_type = TP_F16;
        CHECK(tp_copy_rows(&s, 0, 1, NULL, NULL, x, x + 1) == TP_ERR_TYPE, "type");
    }
}

/* ---- products ---- */

static void *scratch_for(const tp_multiplication *s) {
    int64_t bytes = -1;
    CHECK(tp_multiply_scratch(s, &bytes) == TP_OK && bytes > 0, "scratch");
    return guarded_take(&scratch_memory, (size_t)(bytes + 63) / 64 * 64, true);
}

static void multiply_case(tp_multiplication s) {
    void *a = floats(&in_memory, s.a_type, s.a_transposed ? s.k : s.m, s.a_transposed ? s.m : s.k, s.a_stride);
    void *b = floats(&other_memory, s.b_type, s.b_transposed ? s.n : s.k, s.b_transposed ? s.k : s.n, s.b_stride);
    double *old = allocate(s.m * s.n);
    for (int64_t i = 0; i < s.m * s.n; i++) old[i] = s.beta == 0 ? NAN : normal();
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        double *whole = matrix(&out_memory[0], s.m, s.n, s.c_stride), *cut = matrix(&out_memory[1], s.m, s.n, s.c_stride);
        for (int64_t i = 0; i < s.m; i++)
            for (int64_t j = 0; j < s.n; j++) whole[i * s.c_stride + j] = cut[i * s.c_stride + j] = old[i * s.n + j];
        CHECK(tp_multiply(&s, 0, s.m, a, b, whole, scratch_for(&s)) == TP_OK, "status");
        for (int64_t at = 0, n; at < s.m; at += n) {
            n = 1 + random_below(s.m - at);
            CHECK(tp_multiply(&s, at, at + n, a, b, cut, scratch_for(&s)) == TP_OK, "status");
        }
        for (int64_t i = 0; i < s.m; i++) {
            for (int64_t j = 0; j < (s.lower && i + 1 < s.n ? i + 1 : s.n); j++) {
                if (s.lower && j > i) break;
                long double sum = 0, size = 0;
                for (int64_t p = 0; p < s.k; p++) {
                    const double x = value(s.a_type, a, s.a_transposed ? p * s.a_stride + i : i * s.a_stride + p);
                    const double y = value(s.b_type, b, s.b_transposed ? j * s.b_stride + p : p * s.b_stride + j);
                    sum += (long double)x * y;
                    size += fabsl((long double)x * y);
                }
                const double before = s.beta == 0 ? 0 : s.beta * old[i * s.n + j], got = whole[i * s.c_stride + j];
                const double error = fabs((double)(got - (s.alpha * sum + before)));
                CHECK(error <= (double)((s.k + 3) * U * (fabs(s.alpha) * size + fabs(before))), "%s: %lld %lld off by %g", active_name(),
                      (long long)i, (long long)j, error);
                CHECK(memcmp(&got, &cut[i * s.c_stride + j], 8) == 0, "%s: cuts differ", active_name());
            }
            for (int64_t j = s.n; i + 1 < s.m && j < s.c_stride; j++) CHECK(isnan(whole[i * s.c_stride + j]), "gap written");
        }
    }
    free(old);
}

static void check_multiply(void) {
    const double alphas[] = {1, -1, 0.3}, betas[] = {0, 1, -0.7};
    for (int n = 0; n < 120; n++) {
        tp_multiplication s = {.m = 1 + random_below(60), .n = 1 + random_below(60), .k = random_below(n % 8 ? 60 : 600)};
        s.a_type = n % 2 ? TP_F32 : TP_F64;
        s.b_type = n % 4 < 2 ? TP_F32 : TP_F64;
        s.a_transposed = n % 3 == 0;
        s.b_transposed = n % 5 < 2;
        s.lower = n % 7 < 2;
        s.a_stride = (s.a_transposed ? s.m : s.k) + random_below(3) + 1;
        s.b_stride = (s.b_transposed ? s.k : s.n) + random_below(3) + 1;
        s.c_stride = s.n + random_below(3);
        s.alpha = alphas[n % 3];
        s.beta = betas[random_below(3)];
        multiply_case(s);
    }
    /* More terms than a sum takes at once on a device, in one block and in blocks of their own; and more rows and columns than a block has. */
    multiply_case((tp_multiplication){5, 9, 2500, 2500, 2501, 9, TP_F32, TP_F64, 0, 1, 0, -0.5, 0.25});
    multiply_case((tp_multiplication){9, 9, 1025, 9, 9, 10, TP_F64, TP_F64, 1, 0, 1, 1, 1});
    multiply_case((tp_multiplication){150, 200, 1030, 150, 201, 200, TP_F64, TP_F32, 1, 0, 0, 1, 0.5});
    multiply_case((tp_multiplication){131, 1600, 7, 7, 1600, 1600, TP_F64, TP_F64, 0, 0, 0, 1, 0});
    multiply_case((tp_multiplication){230, 230, 3, 3, 3, 230, TP_F32, TP_F32, 0, 1, 1, 1, 0});
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        tp_multiplication s = {1, 1, 1, 1, 1, 1, TP_F64, TP_F64, 0, 0, 0, 1, 0};
        double x = 2, y = 3, z, *scratch = scratch_for(&s);
        CHECK(tp_multiply(&s, 0, 2, &x, &y, &z, scratch) == TP_ERR_RANGE, "range");
        if (!on_cuda)
            CHECK(tp_multiply(&s, 0, 1, &x, &y, &z, NULL) == TP_ERR_ARGUMENT && tp_multiply(&s, 0, 1, &x, &y, &z, (char *)scratch + 8) == TP_ERR_ARGUMENT, "scratch");
        CHECK(tp_multiply(&s, 0, 1, NULL, &y, &z, scratch) == TP_ERR_ARGUMENT, "null");
        CHECK(tp_multiply(NULL, 0, 1, &x, &y, &z, scratch) == TP_ERR_ARGUMENT, "null spec");
        CHECK(tp_multiply_scratch(&s, NULL) == TP_ERR_ARGUMENT, "null bytes");
        s.c_stride = 0;
        CHECK(tp_multiply(&s, 0, 1, &x, &y, &z, scratch) == TP_ERR_SHAPE, "stride");
        s.c_stride = 1;
        s.a_type = TP_BF16;
        CHECK(tp_multiply(&s, 0, 1, &x, &y, &z, scratch) == TP_ERR_TYPE, "type");
    }
}

/* ---- triangular ---- */

static void check_cholesky(void) {
    for (int64_t n = 1; n < 80; n += 1 + n / 6) {
        double *x = allocate(n * n), *g = allocate(n * n);
        for (int64_t i = 0; i < n * n; i++) x[i] = normal() + (i % (n + 1) == 0) * 4;
        for (int tier = 0; tier <= test_tiers; tier++) {
            use_tier(tier);
            const int64_t stride = n + random_below(3);
            double *l = matrix(&out_memory[0], n, n, stride);
            for (int64_t i = 0; i < n; i++) {
                for (int64_t j = 0; j < n; j++) {
                    long double sum = 0;
                    for (int64_t k = 0; k < n; k++) sum += (long double)x[i * n + k] * x[j * n + k];
                    g[i * n + j] = (double)sum;
                    l[i * stride + j] = j <= i ? (double)sum : NAN;
                }
            }
            CHECK(tp_cholesky(n, stride, l) == TP_OK, "%s: status, n = %lld", active_name(), (long long)n);
            for (int64_t i = 0; i < n; i++) {
                for (int64_t j = 0; j <= i; j++) {
                    long double sum = 0;
                    for (int64_t k = 0; k <= j; k++) sum += (long double)l[i * stride + k] * l[j * stride + k];
                    CHECK(fabsl(sum - g[i * n + j]) <= (n + 2) * U * sqrt(g[i * n + i] * g[j * n + j]), "%s: L L^T", active_name());
                }
                for (int64_t j = i + 1; j < n; j++) CHECK(isnan(l[i * stride + j]), "upper triangle written");
            }
        }
        free(x);
        free(g);
    }
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        double singular[] = {1, 0, 1, 1}, negative[] = {-1}, odd[] = {NAN};
        /* The limit of pivots, n u times the largest diagonal element, and the next number; as an element, and as a difference. */
        for (int64_t n = 2; n < 40; n += 1 + n / 3) {
            for (int above = 0; above < 2; above++) {
                const double largest = pow(4, (double)random_below(20) - 10), limit = (double)n * U * largest;
                const tp_status want = above ? TP_OK : TP_ERR_INDEFINITE;
                const int64_t row = 1 + random_below(n - 1), other = random_below(row);
                double *l = identity(n), *x = identity(n);
                for (int64_t i = 0; i < n; i++) l[i * n + i] = x[i * n + i] = largest;
                l[row * n + row] = above ? nextafter(limit, largest) : limit;
                CHECK(tp_cholesky(n, n, l) == want, "%s: pivot, n = %lld", active_name(), (long long)n);
                x[row * n + other] = largest;
                x[row * n + row] = largest * (1 + (double)(above ? n : n / 2) * DBL_EPSILON);
                CHECK(tp_cholesky(n, n, x) == want, "%s: difference, n = %lld", active_name(), (long long)n);
                free(l);
                free(x);
            }
        }
        CHECK(tp_cholesky(2, 2, singular) == TP_ERR_INDEFINITE, "singular");
        CHECK(tp_cholesky(1, 1, negative) == TP_ERR_INDEFINITE && tp_cholesky(1, 1, odd) == TP_ERR_INDEFINITE, "negative, NaN");
        CHECK(tp_cholesky(0, 0, NULL) == TP_OK && tp_cholesky(1, 1, NULL) == TP_ERR_ARGUMENT && tp_cholesky(2, 1, odd) == TP_ERR_SHAPE,
              "arguments");
    }
}

static void check_triangular_solve(void) {
    for (int n = 0; n < 60; n++) {
        const int64_t size = 1 + random_below(70), rows = 1 + random_below(6), stride = size + random_below(3);
        double *l = matrix(&in_memory, size, size, size);
        for (int64_t i = 0; i < size; i++) {
            for (int64_t j = 0; j < size; j++) l[i * size + j] = j > i ? NAN : j == i ? 3 + fabs(l[i * size + j]) : 0.2 * l[i * size + j];
        }
        double *b = matrix(&other_memory, rows, size, stride);
        const int transposed = n % 2;
        for (int tier = 0; tier <= test_tiers; tier++) {
            use_tier(tier);
            double *x = guarded_take(&out_memory[0], (size_t)((rows - 1) * stride + size) * 8, true);
            memcpy(x, b, (size_t)((rows - 1) * stride + size) * 8);
            const int64_t cut = random_below(rows + 1);
            CHECK(!tp_triangular_solve(size, size, l, transposed, stride, 0, cut, x) &&
                      !tp_triangular_solve(size, size, l, transposed, stride, cut, rows, x), "status");
            for (int64_t i = 0; i < rows; i++) {
                for (int64_t j = 0; j < size; j++) {
                    long double sum = 0, most = 0;
                    for (int64_t k = transposed ? j : 0; k < (transposed ? size : j + 1); k++) {
                        const long double term = (long double)x[i * stride + k] * l[transposed ? k * size + j : j * size + k];
                        sum += term;
                        most += fabsl(term);
                    }
                    CHECK(fabsl(sum - b[i * stride + j]) <= (size + 2) * U * (most + fabs(b[i * stride + j])), "%s: residual", active_name());
                }
            }
        }
    }
    double x = 1;
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        CHECK(tp_triangular_solve(1, 1, &x, 2, 1, 0, 1, &x) == TP_ERR_ARGUMENT, "transposed");
        CHECK(tp_triangular_solve(1, 1, &x, 0, 1, 1, 0, &x) == TP_ERR_RANGE, "range");
    }
}

/* ---- Householder reflections ---- */

/* X -= ((X V^T) T) V for rows of X, or with T^T. */
static void apply(int64_t rows, int64_t n, int64_t count, const double *v, const double *t, bool transposed, int64_t stride, double *x) {
    double *p = allocate(count);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < count; j++) {
            p[j] = 0;
            for (int64_t k = 0; k < n; k++) p[j] += x[i * stride + k] * v[j * n + k];
        }
        for (int64_t j = 0; j < count; j++) {
            double y = 0;
            for (int64_t k = 0; k < count; k++) y += p[k] * (transposed ? t[j * count + k] : t[k * count + j]);
            for (int64_t k = 0; k < n; k++) x[i * stride + k] -= y * v[j * n + k];
        }
    }
    free(p);
}

static void check_reflect_panel(void) {
    for (int n = 0; n < 40; n++) {
        const int64_t rows = 1 + random_below(40), cols = 1 + random_below(70), stride = cols + random_below(3);
        const int64_t least = rows < cols ? rows : cols, width = 1 + random_below(12);
        double *a0 = matrix(&in_memory, rows, cols, stride);
        const double unit = magnitudes[n % MAGNITUDES];
        for (int64_t i = 0; i < (rows - 1) * stride + cols; i++) a0[i] *= unit;
        if (n % 4 == 1) memset(a0 + rows / 2 * stride, 0, (size_t)cols * 8); /* a zero row */
        if (n % 4 == 2) memcpy(a0 + (rows - 1) * stride, a0, (size_t)cols * 8);
        for (int tier = 0; tier < test_tiers; tier++) {
            test_use_tier(tier);
            double *a = guarded_take(&out_memory[0], (size_t)((rows - 1) * stride + cols) * 8, true), *q = identity(cols);
            memcpy(a, a0, (size_t)((rows - 1) * stride + cols) * 8);
            for (int64_t first = 0, count; first < least; first += count) {
                count = width < least - first ? width : least - first;
                double *v = allocate(count * cols), *t = allocate(count * count);
                CHECK(tp_reflect_panel(rows, cols, stride, first, count, a, cols, v, t) == TP_OK, "status");
                for (int64_t i = 0; i < count; i++) {
                    CHECK(v[i * cols + first + i] == 1, "v has a one");
                    for (int64_t j = 0; j < first + i; j++) CHECK(v[i * cols + j] == 0, "v begins with zeros");
                    for (int64_t j = 0; j < i; j++) CHECK(t[i * count + j] == 0, "T is upper");
                }
                apply(rows - first - count, cols, count, v, t, false, stride, a + (first + count) * stride);
                apply(cols, cols, count, v, t, false, cols, q); /* Q = H_0 H_1 .. */
                free(v);
                free(t);
            }
            CHECK(product_error(cols, cols, cols, q, q, NULL) <= 1e-14 * sqrt((double)cols), "%s: Q is not orthogonal", active_name());
            /* L Q^T = A, L lower triangular. */
            for (int64_t i = 0; i < rows; i++) {
                for (int64_t j = 0; j < cols; j++) {
                    if (j > i && i < least) CHECK(a[i * stride + j] == 0, "%s: L is not lower", active_name());
                    long double sum = -a0[i * stride + j];
                    for (int64_t k = 0; k < cols; k++) sum += (long double)a[i * stride + k] * q[j * cols + k];
                    CHECK(fabsl(sum) < 1e-14 * (double)cols * unit, "%s: L Q^T off by %Lg", active_name(), sum);
                }
            }
            free(q);
        }
    }
    double x[4] = {0};
    CHECK(tp_reflect_panel(1, 1, 1, 1, 1, x, 1, x + 1, x + 2) == TP_ERR_RANGE, "first");
    CHECK(tp_reflect_panel(100, 100, 100, 0, 65, x, 100, x, x) == TP_ERR_RANGE, "count");
    CHECK(tp_reflect_panel(1, 1, 1, 0, 1, NULL, 1, x + 1, x + 2) == TP_ERR_ARGUMENT, "null");
}

static void check_reflect_factor(void) {
    for (int64_t count = 1; count <= 64; count += 7) {
        const int64_t n = count + 9;
        double *v = matrix(&in_memory, count, n, n), tau[64];
        for (int64_t i = 0; i < count; i++) {
            double square = 0;
            for (int64_t j = 0; j < n; j++) square += v[i * n + j] * v[i * n + j];
            tau[i] = i % 5 == 4 ? 0 : 2 / square;
        }
        for (int tier = 0; tier < test_tiers; tier++) {
            test_use_tier(tier);
            double *t = guarded_take(&out_memory[0], (size_t)(count * count) * 8, true), *x = identity(n), *y = identity(n);
            CHECK(tp_reflect_factor(count, n, n, v, tau, t) == TP_OK, "status");
            apply(n, n, count, v, t, false, n, x);
            for (int64_t i = 0; i < count; i++) {
                double single = tau[i];
                apply(n, n, 1, v + i * n, &single, false, n, y);
            }
            for (int64_t i = 0; i < n * n; i++) CHECK(fabs(x[i] - y[i]) < 1e-13, "%s: block of reflections", active_name());
            free(x);
            free(y);
        }
    }
    CHECK(tp_reflect_factor(65, 1, 1, NULL, NULL, NULL) == TP_ERR_RANGE, "count");
    CHECK(tp_reflect_factor(1, 1, 1, NULL, NULL, NULL) == TP_ERR_ARGUMENT, "null");
}

/* ---- symmetric eigenproblem ---- */

static void check_tridiagonal_panel(void) {
    for (int64_t n = 2, at = 0; n < 70; n += at++ % 2 ? 1 + n / 8 : 0) {
        const double unit = at % 2 ? 1 : magnitudes[at / 2 % MAGNITUDES];
        double *x = allocate(n * n), *a = allocate(n * n), *q = allocate(n * n), *vw = allocate(128 * n), *wv = allocate(128 * n);
        double *d = allocate(n), *e = allocate(n), *tau = allocate(n), *rows = NULL, *scratch = allocate(2 * n);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j <= i; j++) x[i * n + j] = x[j * n + i] = n % 3 == 0 && i != j && j != 1 ? 0 : unit * normal();
        for (int tier = 0; tier < test_tiers; tier++) {
            test_use_tier(tier);
            for (int64_t i = 0; i < n * n; i++) a[i] = i % n <= i / n ? x[i] : NAN; /* the upper triangle is not read */
            for (int64_t last = n, count; last > 1; last -= count) {
                count = 1 + random_below(last - 1 < 20 ? last - 1 : 20);
                CHECK(!tp_tridiagonal_panel(n, n, last, count, a, d, e, n, q, tau, vw, wv, scratch), "status");
                for (int64_t i = 0; i < last - count; i++)
                    for (int64_t j = 0; j <= i; j++)
                        for (int64_t p = 0; p < 2 * count; p++) a[i * n + j] -= vw[p * n + i] * wv[p * n + j];
            }
            d[0] = a[0];
            /* Rows of I H_1 H_2 .. are those of Q^T: T = Q^T A Q. */
            rows = identity(n);
            for (int64_t i = 1; i < n; i++) apply(n, n, 1, q + i * n, tau + i, false, n, rows);
            CHECK(product_error(n, n, n, rows, rows, NULL) < 1e-14 * (double)n, "%s: Q is not orthogonal", active_name());
            for (int64_t i = 0; i < n; i++) {
                for (int64_t j = 0; j < n; j++) {
                    long double sum = 0;
                    for (int64_t k = 0; k < n; k++)
                        for (int64_t l = 0; l < n; l++) sum += (long double)rows[i * n + k] * x[k * n + l] * rows[j * n + l];
                    const double want = i == j ? d[i] : i == j + 1 ? e[j] : j == i + 1 ? e[i] : 0;
                    CHECK(fabs((double)sum - want) < 2e-14 * (double)n * unit, "%s: T[%lld, %lld]", active_name(), (long long)i, (long long)j);
                }
            }
            free(rows);
        }
        free(x), free(a), free(q), free(vw), free(wv), free(d), free(e), free(tau), free(scratch);
    }
    double x = 0;
    CHECK(tp_tridiagonal_panel(2, 2, 1, 1, &x, &x, &x, 2, &x, &x, &x, &x, &x) == TP_ERR_RANGE, "count");
    CHECK(tp_tridiagonal_panel(2, 2, 2, 1, NULL, &x, &x, 2, &x, &x, &x, &x, &x) == TP_ERR_ARGUMENT, "null");
}

/* Rows of z are eigenvectors of the matrix (d0, e0) with eigenvalues d, ascending. */
static void check_eigenpairs(const char *what, int64_t n, const double *d0, const double *e0, const double *d, const double *z) {
    double norm = 0;
    for (int64_t i = 0; i < n; i++) norm = fmax(norm, fabs(d0[i]) + (i + 1 < n ? fabs(e0[i]) : 0) + (i ? fabs(e0[i - 1]) : 0));
    const double limit = 4e-16 * (double)(n + 10);
    CHECK(product_error(n, n, n, z, z, NULL) <= limit, "%s %s n = %lld: orthogonality %g", what, active_name(), (long long)n,
          product_error(n, n, n, z, z, NULL));
    double most = 0;
    for (int64_t i = 0; i < n; i++) {
        CHECK(i == 0 || d[i - 1] <= d[i], "%s: not ascending", what);
        for (int64_t j = 0; j < n; j++) {
            const double *v = z + i * n;
            double r = (d0[j] - d[i]) * v[j] + (j ? e0[j - 1] * v[j - 1] : 0) + (j + 1 < n ? e0[j] * v[j + 1] : 0);
            most = fmax(most, fabs(r));
        }
    }
    CHECK(most <= limit * norm, "%s %s n = %lld: residual %g of %g", what, active_name(), (long long)n, most, norm);
}

/* Matrices that are hard in one way or another. */
enum { TRIDIAGONALS = 8 };
static void tridiagonal(int kind, int64_t n, double unit, double *d, double *e) {
    for (int64_t i = 0; i < n; i++) {
        d[i] = normal();
        e[i] = normal();
        switch (kind) {
        case 1: d[i] = 2, e[i] = -1; break;
        case 2: d[i] = fabs((double)(n - 1) / 2 - (double)i), e[i] = 1; break; /* Wilkinson: pairs all but equal */
        case 3: d[i] = 1, e[i] = 0; break;
        case 4: d[i] = 0, e[i] = i % 3 ? 1e-9 : 1; break;
        case 5: d[i] = pow(10, -12.0 * (double)i / (double)n), e[i] = 0.1 * d[i]; break;
        case 6: if (i % 3) d[i] *= 1e-200, e[i] *= 1e-200; break;
        case 7: d[i] = i % 7 == 0, e[i] = 1e-17 * (double)(i % 5); break;
        default: break;
        }
        d[i] *= unit;
        e[i] *= unit;
    }
}

static void check_tridiagonal_ql(void) {
    for (int n = 0; n < TRIDIAGONALS * MAGNITUDES; n++) {
        const int64_t size = 1 + random_below(50);
        const double unit = magnitudes[n / TRIDIAGONALS];
        double d0[64], e0[64], d[64], e[64];
        tridiagonal(n % TRIDIAGONALS, size, unit, d0, e0);
        for (int tier = 0; tier < test_tiers; tier++) {
            test_use_tier(tier);
            double *z = identity(size);
            memcpy(d, d0, sizeof d);
            memcpy(e, e0, sizeof e);
            CHECK(tp_tridiagonal_ql(size, d, e, size, size, z) == TP_OK, "status");
            check_eigenpairs("ql", size, d0, e0, d, z);
            for (int64_t i = 0; n % TRIDIAGONALS == 1 && i < size; i++)
                CHECK(fabs(d[i] - (2 - 2 * cos((double)(i + 1) * 3.14159265358979323846 / (double)(size + 1))) * unit) < 1e-14 * unit, "known eigenvalue");
            free(z);
        }
    }
    double x = 1;
    CHECK(tp_tridiagonal_ql(1, &x, NULL, 0, 0, NULL) == TP_OK && x == 1, "one");
    CHECK(tp_tridiagonal_ql(1, NULL, NULL, 0, 0, NULL) == TP_ERR_ARGUMENT, "null");
}

static void check_tridiagonal_conquer(void) {
    for (int n = 0; n < (MAGNITUDES + 1) * TRIDIAGONALS; n++) {
        const int64_t size = n < TRIDIAGONALS ? 1 + random_below(40) : 30 + random_below(170), stride = size + random_below(4);
        const double unit = magnitudes[n / TRIDIAGONALS % MAGNITUDES];
        double d0[200], e0[200], d[200], e[200];
        tridiagonal(n % TRIDIAGONALS, size, unit, d0, e0);
        for (int tier = 0; tier < test_tiers; tier++) {
            test_use_tier(tier);
            int64_t bytes = -1;
            CHECK(tp_tridiagonal_scratch(size, &bytes) == TP_OK && bytes > 0, "scratch");
            void *scratch = guarded_take(&scratch_memory, (size_t)(bytes + 63) / 64 * 64, true);
            double *z = matrix(&out_memory[0], size, size, stride), *rows = allocate(size * size);
            for (int64_t i = 0; i < size; i++)
                for (int64_t j = 0; j < size; j++) z[i * stride + j] = NAN;
            memcpy(d, d0, sizeof d);
            memcpy(e, e0, sizeof e);
            CHECK(tp_tridiagonal_conquer(size, d, e, stride, z, scratch) == TP_OK, "status");
            for (int64_t i = 0; i < size; i++) {
                memcpy(rows + i * size, z + i * stride, (size_t)size * 8);
                for (int64_t j = size; i + 1 < size && j < stride; j++) CHECK(isnan(z[i * stride + j]), "gap written");
            }
            check_eigenpairs("conquer", size, d0, e0, d, rows);
            for (int64_t i = 0; n % TRIDIAGONALS == 1 && i < size; i++)
                CHECK(fabs(d[i] - (2 - 2 * cos((double)(i + 1) * 3.14159265358979323846 / (double)(size + 1))) * unit) < 1e-14 * unit, "known eigenvalue");
            free(rows);
        }
    }
    double x[2] = {1, NAN}, *scratch = guarded_take(&scratch_memory, 1 << 20, true);
    CHECK(tp_tridiagonal_conquer(1, x, NULL, 1, x + 1, scratch) == TP_OK && x[0] == 1 && x[1] == 1, "one");
    CHECK(tp_tridiagonal_conquer(1, x, NULL, 1, x + 1, (char *)scratch + 8) == TP_ERR_ARGUMENT, "scratch not aligned");
    CHECK(tp_tridiagonal_conquer(1, x, NULL, 1, NULL, scratch) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_tridiagonal_conquer(2, x, x, 1, x, scratch) == TP_ERR_SHAPE, "stride");
}

/* Divide and conquer, with cuts. */
static void divide(int64_t n, double *d, double *e, int64_t stride, double *q) {
    if (n <= 6) {
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) q[i * stride + j] = i == j;
        CHECK(tp_tridiagonal_ql(n, d, e, n, stride, q) == TP_OK, "leaf");
        return;
    }
    const int64_t half = n / 2;
    const double coupling = e[half - 1], rho = 2 * fabs(coupling);
    d[half - 1] -= fabs(coupling);
    d[half] -= fabs(coupling);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) q[i * stride + j] = 0;
    divide(half, d, e, stride, q);
    divide(n - half, d + half, e + half, stride, q + half * stride + half);
    double *z = allocate(n), *kept_d = allocate(n), *kept_z = allocate(n), *weights = allocate(n), *lambda = allocate(n);
    double *values = allocate(n), *next = allocate(n * n);
    int64_t order[300], slots[300], scratch[600], count = 0, first = -1, second = -1;
    for (int64_t i = 0; i < n; i++)
        z[i] = sqrt(0.5) * (i < half ? q[i * stride + half - 1] : copysign(1, coupling) * q[i * stride + half]);
    if (rho > 0) {
        CHECK(tp_merge_deflate(n, half, rho, d, z, stride, q, kept_d, kept_z, order, slots, scratch, &count, &first, &second) == TP_OK, "deflate");
    } else {
        for (int64_t i = 0; i < n; i++) order[i] = i, kept_d[i] = d[i];
    }
    const int64_t k = count;
    double *delta = allocate(k * k + 1), *s = allocate(k * k + 1);
    for (int64_t at = 0, w; at < k; at += w) {
        w = 1 + random_below(k - at);
        CHECK(tp_merge_roots(k, rho, kept_d, kept_z, at, at + w, lambda, delta) == TP_OK, "roots");
    }
    for (int64_t at = 0, w; at < k; at += w) {
        w = 1 + random_below(k - at);
        CHECK(tp_merge_weights(k, kept_d, kept_z, delta, at, at + w, weights) == TP_OK, "weights");
    }
    for (int64_t at = 0, w; at < k; at += w) {
        w = 1 + random_below(k - at);
        CHECK(tp_merge_vectors(k, weights, delta, slots, at, at + w, s) == TP_OK, "vectors");
    }
    for (int64_t i = 0; i < k; i++) {
        CHECK(kept_d[i] <= lambda[i] && (i + 1 == k || lambda[i] <= kept_d[i + 1]), "interlacing");
        const double *row = q + order[i] * stride;
        for (int64_t j = 0; j < half && slots[i] >= second; j++) CHECK(row[j] == 0, "slot of the second half");
        for (int64_t j = half; j < n && slots[i] < first; j++) CHECK(row[j] == 0, "slot of the first half");
    }
    for (int64_t i = 0; i < n; i++) {
        values[i] = i < k ? lambda[i] : kept_d[i];
        for (int64_t j = 0; j < n; j++) {
            double sum = i < k ? 0 : q[order[i] * stride + j];
            for (int64_t p = 0; i < k && p < k; p++) sum += s[i * k + slots[p]] * q[order[p] * stride + j];
            next[i * n + j] = sum;
        }
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t least = 0;
        for (int64_t j = 0; j < n; j++) least = values[j] < values[least] ? j : least;
        d[i] = values[least];
        values[least] = INFINITY;
        memcpy(q + i * stride, next + least * n, (size_t)n * 8);
    }
    free(z), free(kept_d), free(kept_z), free(weights), free(lambda), free(values), free(next), free(delta), free(s);
}

/* Rows of Q, from two halves, as products of reflections. */
static void random_halves(int64_t n, int64_t split, double *q) {
    for (int64_t i = 0; i < n * n; i++) q[i] = i % (n + 1) == 0;
    for (int half = 0; half < 2; half++) {
        const int64_t from = half ? split : 0, to = half ? n : split;
        for (int k = 0; k < 3; k++) {
            double v[32] = {0}, square = 1e-300;
            for (int64_t i = from; i < to; i++) v[i] = normal(), square += v[i] * v[i];
            const double tau = 2 / square;
            apply(to - from, n, 1, v, &tau, false, n, q + from * n);
        }
    }
}

/* M = sum of d_i q_i q_i^T + rho w w^T, w = sum of z_i q_i. */
static void coupled(int64_t n, double rho, const double *d, const double *z, const int64_t *order, const double *q, double *m) {
    for (int64_t a = 0; a < n; a++) {
        for (int64_t b = 0; b < n; b++) {
            long double sum = 0, wa = 0, wb = 0;
            for (int64_t i = 0; i < n; i++) {
                const double *row = q + (order ? order[i] : i) * n;
                sum += (long double)d[i] * row[a] * row[b];
                wa += (long double)z[i] * row[a];
                wb += (long double)z[i] * row[b];
            }
            m[a * n + b] = (double)(sum + rho * wa * wb);
        }
    }
}

/* What is kept and what is finished make up the same matrix, and nothing is kept that the header calls finished. */
static void check_deflation(void) {
    for (int n = 0; n < 60; n++) {
        const int64_t size = 1 + random_below(24), split = random_below(size + 1);
        const double rho = pow(10, 4 * random_unit() - 2);
        double d0[32], z0[32], d[32], z[32], kept_d[32], kept_z[32], largest = 0, norm = 0, before[24 * 24], after[24 * 24];
        double *q0 = allocate(size * size), *q = allocate(size * size);
        random_halves(size, split, q0);
        for (int64_t i = 0; i < size; i++) {
            /* Equal and all but equal eigenvalues, in one half and across; couplings of zero and next to it. */
            const double step = n % 3 == 0 ? random_unit() : (double)random_below(2) + (n % 3 == 2 ? 1e-16 * normal() : 0);
            d0[i] = (i == 0 || i == split ? 0 : d0[i - 1]) + fabs(step);
            z0[i] = random_below(4) ? normal() : random_below(2) ? 1e-17 * normal() : 0;
            norm += z0[i] * z0[i];
        }
        for (int64_t i = 0; i < size; i++) {
            z0[i] /= sqrt(norm > 0 ? norm : 1);
            largest = fmax(largest, fmax(fabs(d0[i]), fabs(z0[i])));
        }
        coupled(size, rho, d0, z0, NULL, q0, before);
        for (int tier = 0; tier < test_tiers; tier++) {
            test_use_tier(tier);
            int64_t order[32], slots[32], scratch[64], count = -1, first = -1, second = -1, seen[32] = {0}, taken[32] = {0};
            memcpy(d, d0, sizeof d);
            memcpy(z, z0, sizeof z);
            memcpy(q, q0, (size_t)(size * size) * 8);
            CHECK(tp_merge_deflate(size, split, rho, d, z, size, q, kept_d, kept_z, order, slots, scratch, &count, &first, &second) == TP_OK, "status");
            CHECK(0 <= first && first <= second && second <= count && count <= size, "counts");
            const double tolerance = 8 * U * largest;
            for (int64_t i = 0; i < size; i++) {
                seen[order[i]]++;
                if (i >= count) kept_z[i] = 0;
                if (i >= count) continue;
                taken[slots[i]]++;
                CHECK(rho * fabs(kept_z[i]) > tolerance, "%s: no coupling left at %lld", active_name(), (long long)i);
                if (i == 0) continue;
                const double square = kept_z[i] * kept_z[i] + kept_z[i - 1] * kept_z[i - 1];
                CHECK(kept_d[i] >= kept_d[i - 1] && (kept_d[i] - kept_d[i - 1]) * fabs(kept_z[i] * kept_z[i - 1]) / square > 0.99 * tolerance,
                      "%s: %lld and the one before are one", active_name(), (long long)i);
            }
            for (int64_t i = 0; i < size; i++) CHECK(seen[i] == 1 && taken[i] == (i < count), "%s: order and slots", active_name());
            coupled(size, rho, kept_d, kept_z, order, q, after);
            for (int64_t i = 0; i < size * size; i++)
                CHECK(fabs(after[i] - before[i]) <= (double)(size + 4) * 2 * (tolerance + 4 * U * rho), "%s: matrix changed by %g", active_name(),
                      after[i] - before[i]);
        }
        free(q0);
        free(q);
    }
}

static void check_merge_deflate(void) {
    check_deflation();
    for (int n = 0; n < 48; n++) {
        const int64_t size = 2 + random_below(n < 40 ? 40 : 180);
        /* Merges refuse what is far from 1; conquer scales before. */
        const double unit = n % 3 ? 1 : n % 2 ? 0x1p-300 : 0x1p300;
        double d0[256], e0[256], d[256], e[256];
        tridiagonal(n % TRIDIAGONALS == 6 ? 0 : n % TRIDIAGONALS, size, unit, d0, e0);
        for (int tier = 0; tier < test_tiers; tier++) {
            test_use_tier(tier);
            double *q = allocate(size * size);
            memcpy(d, d0, sizeof d);
            memcpy(e, e0, sizeof e);
            divide(size, d, e, size, q);
            check_eigenpairs("divide and conquer", size, d0, e0, d, q);
            free(q);
        }
    }
    int64_t count, first, second;
    double d[1] = {0};
    CHECK(tp_merge_deflate(1, 2, 1, d, d, 1, d, d, d, &count, &count, &count, &count, &first, &second) == TP_ERR_RANGE, "split");
    CHECK(tp_merge_deflate(1, 0, 0, d, d, 1, d, d, d, &count, &count, &count, &count, &first, &second) == TP_ERR_ARGUMENT, "rho");
    for (int i = 0; i < 2; i++) {
        int64_t order[2], slots[2], scratch[4];
        double far[2] = {0, i ? 1e150 : 0}, z[2] = {0.6, 0.8}, q[4] = {1, 0, 0, 1}, kept_d[2], kept_z[2];
        CHECK(tp_merge_deflate(2, 1, 1e-150, far, z, 2, q, kept_d, kept_z, order, slots, scratch, &count, &first, &second) ==
                  TP_ERR_MAGNITUDE, "magnitude");
    }
}

/* Roots of a case that can be solved by hand: two poles at 0 and 1 with equal weights. */
static void check_merge_roots(void) {
    const double d[] = {0, 1}, z[] = {sqrt(0.5), sqrt(0.5)};
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        for (double rho = 1e-12; rho < 1e13; rho *= 10) {
            /* x^2 - (1 + rho) x + rho / 2 = 0 */
            double lambda[2], delta[4];
            CHECK(tp_merge_roots(2, rho, d, z, 0, 2, lambda, delta) == TP_OK, "status");
            const double high = 0.5 * (1 + rho + sqrt(1 + rho * rho)), low = 0.5 * rho / high;
            CHECK(fabs(lambda[0] - low) < 1e-14 * low && fabs(lambda[1] - high) < 1e-14 * high, "%s: rho %g", active_name(), rho);
            CHECK(fabs(delta[0] + low) < 1e-14 * low && fabs(delta[3] - (1 - high)) <= 4e-15 * fabs(1 - high) + 4 * U, "differences");
        }
    }
    /* The secular equation itself, in more digits: poles close together and far apart, weights over ten decades, where interpolation
       leads out of the bracket. */
    for (int n = 0; n < 300; n++) {
        const int64_t size = 2 + random_below(n % 10 ? 14 : 90);
        const double rho = pow(10, 6 * random_unit() - 3);
        double poles[96], weights[96], norm = 0;
        for (int64_t i = 0; i < size; i++) {
            poles[i] = i == 0 ? normal() : poles[i - 1] + (n % 3 ? random_unit() + 1e-9 : pow(10, -9 * random_unit()));
            weights[i] = n % 4 == 3 ? normal() : pow(10, -10 * random_unit());
            norm += weights[i] * weights[i];
        }
        for (int64_t i = 0; i < size; i++) weights[i] /= sqrt(norm);
        for (int tier = 0; tier < test_tiers; tier++) {
            test_use_tier(tier);
            double *delta = guarded_take(&out_memory[0], (size_t)(size * size) * 8, true), lambda[96];
            const int64_t cut = random_below(size + 1);
            CHECK(!tp_merge_roots(size, rho, poles, weights, 0, cut, lambda, delta) && !tp_merge_roots(size, rho, poles, weights, cut, size, lambda, delta),
                  "%s: status", active_name());
            for (int64_t i = 0; i < size; i++) {
                const double *row = delta + i * size;
                long double sum = 1 / (long double)rho, most = sum;
                for (int64_t j = 0; j < size; j++) {
                    const long double term = (long double)weights[j] * weights[j] / row[j];
                    sum += term;
                    most += fabsl(term);
                    CHECK(j <= i ? row[j] < 0 : row[j] > 0, "%s: root %lld of %lld is not between its poles", active_name(), (long long)i, (long long)size);
                    CHECK(fabs(poles[j] - lambda[i] - row[j]) <= 4 * U * (fabs(poles[j]) + fabs(lambda[i])), "%s: difference", active_name());
                }
                CHECK(fabsl(sum) <= (long double)(64 + size) * U * most, "%s: root %lld of %lld leaves %Lg of %Lg", active_name(), (long long)i,
                      (long long)size, sum, most);
            }
        }
    }
    double x[4] = {0};
    CHECK(tp_merge_roots(1, 1, x, x, 0, 2, x, x) == TP_ERR_RANGE && tp_merge_roots(1, 0, x, x, 0, 1, x, x) == TP_ERR_ARGUMENT, "arguments");
}

/* Any numbers that interlace the poles are the roots for some weights; with those the vectors are orthogonal, however far the roots
   are from the ones asked for. */
static void check_merge_weights(void) {
    for (int64_t n = 1; n < 60; n += 1 + n / 5) {
        double d[64], z[64], lambda[64], weights[64], sum = 0;
        int64_t slots[64];
        double *delta = allocate(n * n), *s = allocate(n * n);
        for (int64_t i = 0; i < n; i++) {
            d[i] = i ? d[i - 1] + pow(10, -4 * random_unit()) : normal();
            z[i] = normal();
            slots[i] = n - 1 - i;
        }
        for (int64_t i = 0; i < n; i++) {
            const double gap = i + 1 < n ? d[i + 1] - d[i] : 1, part = 0.1 + 0.8 * random_unit();
            lambda[i] = d[i] + part * gap;
            sum += lambda[i] - d[i];
            for (int64_t j = 0; j < n; j++) delta[i * n + j] = d[j] - lambda[i];
        }
        for (int tier = 0; tier < test_tiers; tier++) {
            test_use_tier(tier);
            const int64_t cut = random_below(n + 1);
            CHECK(!tp_merge_weights(n, d, z, delta, 0, cut, weights) && !tp_merge_weights(n, d, z, delta, cut, n, weights), "status");
            CHECK(!tp_merge_vectors(n, weights, delta, slots, 0, cut, s) && !tp_merge_vectors(n, weights, delta, slots, cut, n, s), "status");
            double squares = 0;
            for (int64_t j = 0; j < n; j++) {
                squares += weights[j] * weights[j];
                CHECK(signbit(weights[j]) == signbit(z[j]), "sign");
                /* The residue at pole j of the rational function with these poles and roots (Loewner). */
                long double residue = -(long double)delta[j * n + j];
                for (int64_t i = 0; i < n; i++)
                    if (i != j) residue *= (long double)delta[i * n + j] / ((long double)d[j] - d[i]);
                CHECK(fabsl(weights[j] - copysignl(sqrtl(residue), z[j])) <= 4 * n * U * sqrtl(residue), "%s: weight %g, not %Lg", active_name(),
                      weights[j], sqrtl(residue));
            }
            for (int64_t i = 0; i < n; i++) {
                long double square = 0;
                for (int64_t j = 0; j < n; j++) square += powl(weights[j] / (long double)delta[i * n + j], 2);
                for (int64_t j = 0; j < n; j++) {
                    const long double want = weights[j] / (long double)delta[i * n + j] / sqrtl(square);
                    CHECK(fabsl(s[i * n + slots[j]] - want) <= (n + 8) * U * fabsl(want), "%s: vector %lld", active_name(), (long long)i);
                }
            }
            CHECK(fabs(squares - sum) < 1e-12 * sum, "%s: trace %g, not %g", active_name(), squares, sum);
            CHECK(product_error(n, n, n, s, s, NULL) < 1e-11, "%s: orthogonality %g", active_name(), product_error(n, n, n, s, s, NULL));
        }
        free(delta);
        free(s);
    }
    double x[4] = {0};
    CHECK(tp_merge_weights(1, x, x, x, 0, 2, x) == TP_ERR_RANGE && tp_merge_weights(1, x, x, NULL, 0, 1, x) == TP_ERR_ARGUMENT, "arguments");
}

static void check_merge_vectors(void) {
    double x[4] = {1, 1, 1, 1};
    const int64_t slots[2] = {0, 2};
    CHECK(tp_merge_vectors(2, x, x, slots, 0, 1, x) == TP_ERR_RANGE, "slot");
    CHECK(tp_merge_vectors(2, x, x, NULL, 0, 1, x) == TP_ERR_ARGUMENT, "null");
}

/* ---- one-sided Jacobi ---- */

static void check_gram_blocks(void) {
    for (int n = 0; n < 40; n++) {
        tp_jacobi s = {.n = 1 + random_below(40), .block = 1 + random_below(9), .tolerance = 1e-15, .negligible = 1e-3};
        const int64_t blocks = (s.n + s.block - 1) / s.block, stride = s.n + random_below(3);
        double *g = matrix(&in_memory, s.n, s.n, stride), want[1600] = {0};
        for (int64_t i = 0; i < s.n; i++) g[i * stride + i] = random_below(6) ? 4 + normal() : 1e-4;
        for (int64_t i = 0; i < s.n; i++) {
            for (int64_t j = 0; j < i; j++) {
                const double p = g[i * stride + i], r = g[j * stride + j];
                double *most = want + i / s.block * blocks + j / s.block;
                if (p > s.negligible && r > s.negligible) *most = fmax(*most, fabs(g[i * stride + j]) / sqrt(p * r));
            }
        }
        for (int tier = 0; tier < test_tiers; tier++) {
            test_use_tier(tier);
            double *cosines = guarded_take(&out_memory[0], (size_t)(blocks * blocks) * 8, true);
            const int64_t cut = random_below(blocks + 1);
            CHECK(!tp_gram_blocks(&s, stride, g, 0, cut, cosines) && !tp_gram_blocks(&s, stride, g, cut, blocks, cosines), "status");
            for (int64_t i = 0; i < blocks; i++)
                for (int64_t j = 0; j <= i; j++)
                    CHECK(fabs(cosines[i * blocks + j] - want[i * blocks + j]) <= 1e-15 * want[i * blocks + j], "%s: cosine", active_name());
        }
    }
    tp_jacobi s = {.n = 1, .block = 65, .tolerance = 1e-15};
    double x = 1;
    CHECK(tp_gram_blocks(&s, 1, &x, 0, 1, &x) == TP_ERR_SHAPE, "block");
    s.block = 1;
    CHECK(tp_gram_blocks(&s, 1, &x, 0, 2, &x) == TP_ERR_RANGE, "range");
    s.tolerance = 0;
    CHECK(tp_gram_blocks(&s, 1, &x, 0, 1, &x) == TP_ERR_ARGUMENT, "tolerance");
}

static void check_jacobi_pairs(void) {
    for (int n = 0; n < 24 + MAGNITUDES; n++) {
        const double unit = n < 24 ? 1 : magnitudes[n - 24];
        tp_jacobi s = {.n = 1 + random_below(n < 20 ? 30 : 150), .block = 1 + random_below(n < 20 ? 12 : 64), .tolerance = 1e-14, .negligible = unit == 1 ? 1e-300 : 0};
        s.w_cols = s.n + random_below(60);
        s.w_stride = s.w_cols + random_below(3);
        s.z_cols = s.z_stride = s.n;
        const int64_t blocks = (s.n + s.block - 1) / s.block, bytes = ((s.n - 1) * s.w_stride + s.w_cols) * 8;
        double *w0 = matrix(&in_memory, s.n, s.w_cols, s.w_stride);
        /* Graded rows, and a zero one. */
        for (int64_t i = 0; i < s.n; i++)
            for (int64_t j = 0; j < s.w_cols; j++) w0[i * s.w_stride + j] *= (n % 3 == 0 ? pow(10, -12.0 * (double)i / (double)s.n) : 1) * unit;
        if (n % 4 == 1)
            for (int64_t j = 0; j < s.w_cols; j++) w0[s.n / 2 * s.w_stride + j] = 0;
        for (int tier = 0; tier < test_tiers; tier++) {
            test_use_tier(tier);
            double *w = guarded_take(&out_memory[0], (size_t)bytes, true), *z = identity(s.n);
            memcpy(w, w0, (size_t)bytes);
            int64_t scratch_bytes, rotated = 1;
            CHECK(tp_jacobi_scratch(&s, &scratch_bytes) == TP_OK, "scratch");
            void *scratch = guarded_take(&scratch_memory, (size_t)scratch_bytes, true);
            int sweep = 0;
            for (; sweep < 40 && rotated; sweep++) {
                rotated = 0;
                for (int32_t i = 0; i < blocks; i++) {
                    for (int32_t j = i; j < blocks; j++) {
                        const int32_t pair[2] = {i, j};
                        int64_t some;
                        CHECK(tp_jacobi_pairs(&s, pair, 0, 1, w, z, scratch, &some) == TP_OK, "status");
                        rotated += some;
                    }
                }
            }
            CHECK(rotated == 0, "%s: no end after %d sweeps", active_name(), sweep);
            CHECK(product_error(s.n, s.n, s.n, z, z, NULL) < 1e-14 * (double)(s.n + 10), "%s: not a rotation", active_name());
            for (int64_t i = 0; i < s.n; i++) {
                for (int64_t j = 0; j < i; j++) {
                    long double sum = 0, p = 0, r = 0;
                    for (int64_t k = 0; k < s.w_cols; k++) {
                        sum += (long double)w[i * s.w_stride + k] * w[j * s.w_stride + k];
                        p += (long double)w[i * s.w_stride + k] * w[i * s.w_stride + k];
                        r += (long double)w[j * s.w_stride + k] * w[j * s.w_stride + k];
                    }
                    CHECK(fabsl(sum) <= 1.1e-14 * sqrtl(p * r), "%s: rows %lld %lld", active_name(), (long long)i, (long long)j);
                }
                for (int64_t k = 0; k < s.w_cols; k++) {
                    long double sum = -w[i * s.w_stride + k];
                    for (int64_t j = 0; j < s.n; j++) sum += (long double)z[i * s.n + j] * w0[j * s.w_stride + k];
                    CHECK(fabsl(sum) < 1e-13 * (double)(s.n + 10) * unit, "%s: W and Z differ by %Lg", active_name(), sum);
                }
            }
            free(z);
        }
    }
    tp_jacobi s = {.n = 2, .block = 1, .w_cols = 1, .w_stride = 1, .tolerance = 1e-15};
    int32_t pair[2] = {0, 2};
    double x[2] = {1, 1};
    int64_t rotated;
    void *scratch = guarded_take(&scratch_memory, 1 << 20, true);
    CHECK(tp_jacobi_pairs(&s, pair, 0, 1, x, NULL, scratch, &rotated) == TP_ERR_RANGE, "block");
    pair[1] = 1;
    CHECK(tp_jacobi_pairs(&s, pair, 0, 1, x, NULL, NULL, &rotated) == TP_ERR_ARGUMENT, "scratch");
    CHECK(tp_jacobi_pairs(&s, pair, 0, 1, x, NULL, scratch, &rotated) == TP_OK && rotated == 1 && fabs(x[0] * x[0] + x[1] * x[1] - 2) < 1e-14 &&
              fabs(x[0] * x[1]) < 1e-14, "two numbers");
}

/* ---- many small decompositions ---- */

enum { SMALL_KINDS = 10 };

static void check_svd_small(void) {
    for (int n = 0; n < 200; n++) {
        const int kind = n % SMALL_KINDS;
        tp_small s = {.count = 3, .rows = 1 + random_below(n % 9 ? 20 : 64), .cols = 1 + random_below(n % 9 ? 20 : 64),
                      .type = n / SMALL_KINDS % 2 ? TP_F32 : TP_F64, .sweeps = 30};
        s.in_stride = s.cols + random_below(3);
        s.in_step = s.rows * s.in_stride + random_below(5);
        const int64_t r = s.rows < s.cols ? s.rows : s.cols, size = s.type == TP_F64 ? 8 : 4;
        const int64_t elements = 2 * s.in_step + (s.rows - 1) * s.in_stride + s.cols;
        void *in = guarded_input(&in_memory, (size_t)(elements * size), true, n % 5 == 0);
        double scale = 1, known[3][64];
        for (int64_t i = 0; i < elements; i++) store(s.type, in, i, NAN);
        for (int64_t k = 0; k < 3; k++) {
            for (int64_t i = 0; i < s.rows; i++) {
                for (int64_t j = 0; j < s.cols; j++) {
                    double x = normal();
                    switch (kind) {
                    case 1: x = 0; break;
                    case 2: x = (double)(i + 1) * (double)(j + 2); break;              /* rank 1 */
                    case 3: x *= pow(10, -12.0 * (double)(s.rows >= s.cols ? j : i) / (double)r); break;
                    case 4: scale = 1e-30, x *= scale; break;
                    case 5: scale = 1e30, x *= scale; break;
                    case 6: x = i == j; break;
                    case 7: x = i == j ? (double)(1 + i % 4) * (i % 2 ? -1 : 1) : 0; break;
                    case 8: scale = s.type == TP_F64 ? 1e-310 : 1e-42, x *= scale; break; /* denormals */
                    case 9: x = j % 3 == 0 ? 0 : x; break;
                    default: break;
                    }
                    store(s.type, in, k * s.in_step + i * s.in_stride + j, x);
                }
            }
        }
        for (int tier = 0; tier <= test_tiers; tier++) {
            use_tier(tier);
            void *u = guarded_take(&out_memory[0], (size_t)(3 * s.rows * r * size), true);
            void *vt = guarded_take(&out_memory[1], (size_t)(3 * s.cols * r * size), true);
            void *values = guarded_take(&other_memory, (size_t)(3 * r * size), true);
            CHECK(tp_svd_small(&s, 0, 1, in, u, values, vt) == TP_OK && tp_svd_small(&s, 1, 3, in, u, values, vt) == TP_OK, "status");
            const double eps = s.type == TP_F64 ? 1e-15 : 1.2e-7, limit = eps * (double)(r + 10);
            for (int64_t k = 0; k < 3; k++) {
                double norm = 0, error = 0, uu = 0, vv = 0;
                for (int64_t i = 0; i < s.rows; i++) {
                    for (int64_t j = 0; j < s.cols; j++) {
                        const double x = value(s.type, in, k * s.in_step + i * s.in_stride + j) / scale;
                        long double sum = -(long double)x;
                        for (int64_t p = 0; p < r; p++)
                            sum += (long double)value(s.type, u, (k * s.rows + i) * r + p) * (value(s.type, values, k * r + p) / scale) *
                                   value(s.type, vt, (k * r + p) * s.cols + j);
                        error += (double)(sum * sum);
                        norm += x * x;
                    }
                }
                /* A denormal singular value has no more digits than a denormal entry. */
                const double floor = kind == 8 ? 5e-324 / scale * (size == 8 ? 1 : 1e279) * (double)(s.rows + s.cols) : 0;
                CHECK(sqrt(error) <= limit * sqrt(norm) + floor, "%s kind %d: residual %g of %g", active_name(), kind, sqrt(error), sqrt(norm));
                for (int64_t p = 0; p < r; p++) {
                    for (int64_t q = 0; q <= p; q++) {
                        double a = -(double)(p == q), b = a;
                        for (int64_t i = 0; i < s.rows; i++)
                            a += value(s.type, u, (k * s.rows + i) * r + p) * value(s.type, u, (k * s.rows + i) * r + q);
                        for (int64_t j = 0; j < s.cols; j++)
                            b += value(s.type, vt, (k * r + p) * s.cols + j) * value(s.type, vt, (k * r + q) * s.cols + j);
                        uu = fmax(uu, fabs(a));
                        vv = fmax(vv, fabs(b));
                    }
                    const double sigma = value(s.type, values, k * r + p);
                    CHECK(sigma >= 0 && (p == 0 || sigma <= value(s.type, values, k * r + p - 1)), "order");
                    double most = 0, peak = 0;
                    for (int64_t i = 0; i < s.rows; i++) {
                        const double x = value(s.type, u, (k * s.rows + i) * r + p);
                        if (fabs(x) > most) most = fabs(x), peak = x;
                    }
                    CHECK(peak > 0 || most - fabs(peak) < eps, "sign");
                    if (tier == 0) known[k][p] = sigma;
                    CHECK(fabs(sigma - known[k][p]) <= 100 * limit * (kind == 3 ? known[k][p] : known[k][0]) + floor * scale, "%s: tiers differ: %g %g",
                          active_name(), sigma, known[k][p]);
                    if (kind == 1) CHECK(sigma == 0, "zero matrix");
                    if (kind == 2 && p) CHECK(sigma <= limit * known[k][0], "rank one");
                    if (kind == 6) CHECK(sigma == 1, "unit matrix");
                }
                CHECK(uu <= limit && vv <= limit, "%s kind %d: orthogonality %g %g", active_name(), kind, uu, vv);
            }
        }
    }
    tp_small s = {.count = 1, .rows = 2, .cols = 2, .in_stride = 2, .in_step = 4, .type = TP_F64, .sweeps = 30};
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        double a[4] = {1, 2, NAN, 4}, b[4] = {1, 2, 3, INFINITY}, c[4] = {1, 2, 3, 4}, u[4], v[4], w[2];
        CHECK(tp_svd_small(&s, 0, 1, a, u, w, v) == TP_ERR_NONFINITE && tp_svd_small(&s, 0, 1, b, u, w, v) == TP_ERR_NONFINITE, "not finite");
        const double trace = 30, root = sqrt(trace * trace - 4 * 4);
        CHECK(tp_svd_small(&s, 0, 1, c, u, w, v) == TP_OK && fabs(w[0] - sqrt((trace + root) / 2)) < 1e-14 && fabs(w[0] * w[1] - 2) < 1e-14, "2 x 2");
    }
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        double a[65 * 2] = {0};
        s = (tp_small){.count = 1, .rows = 65, .cols = 2, .in_stride = 2, .in_step = 4, .type = TP_F64, .sweeps = 30};
        CHECK(tp_svd_small(&s, 0, 1, a, a, a, a) == TP_ERR_SHAPE, "65 rows");
        s.rows = 0;
        CHECK(tp_svd_small(&s, 0, 1, a, a, a, a) == TP_ERR_SHAPE, "no rows");
        s.rows = 2;
        CHECK(tp_svd_small(&s, 0, 2, a, a, a, a) == TP_ERR_RANGE, "range");
        CHECK(tp_svd_small(&s, 0, 1, NULL, a, a, a) == TP_ERR_ARGUMENT, "null");
        s.type = TP_F16;
        CHECK(tp_svd_small(&s, 0, 1, a, a, a, a) == TP_ERR_TYPE, "type");
        /* One sweep is not enough, and that is said. */
        tp_small one = {.count = 1, .rows = 20, .cols = 20, .in_stride = 20, .in_step = 400, .type = TP_F64, .sweeps = 1};
        double *x = matrix(&in_memory, 20, 20, 20), u[400], w[20], v[400];
        CHECK(tp_svd_small(&one, 0, 1, x, u, w, v) == TP_ERR_CONVERGENCE, "sweeps");
    }
}

/* ---- the range finder, which devices alone have ---- */

/* What Q and B leave of A, squared, and whether Q and B are what they should be. */
static long double check_factors(const tp_qb *s, const void *a, const void *q, const void *b) {
    const long double unit = s->out_type == TP_F64 ? 1e-15L : 1.2e-7L;
    long double rest = 0;
    for (int64_t i = 0; i < s->rank; i++) {
        for (int64_t j = 0; j <= i; j++) {
            long double sum = -(long double)(i == j);
            for (int64_t p = 0; p < s->m; p++) sum += (long double)value(s->out_type, q, p * s->rank + i) * value(s->out_type, q, p * s->rank + j);
            CHECK(fabsl(sum) <= 20 * unit, "columns %lld %lld of Q: %Lg", (long long)i, (long long)j, sum);
        }
        for (int64_t j = 0; j < s->n; j++) {
            const long double got = value(s->out_type, b, i * s->n + j);
            long double sum = 0, size = 0;
            for (int64_t p = 0; p < s->m; p++) {
                const long double term = (long double)value(s->out_type, q, p * s->rank + i) * value(s->type, a, p * s->stride + j);
                sum += term;
                size += fabsl(term);
            }
            CHECK(fabsl(got - sum) <= (s->m + 3) * U * size + (s->out_type == TP_F64 ? 0 : fabsl(sum) * 0x1p-24L), "B[%lld, %lld]", (long long)i, (long long)j);
        }
    }
    for (int64_t i = 0; i < s->m; i++) {
        for (int64_t j = 0; j < s->n; j++) {
            long double sum = value(s->type, a, i * s->stride + j);
            for (int64_t p = 0; p < s->rank; p++) sum -= (long double)value(s->out_type, q, i * s->rank + p) * value(s->out_type, b, p * s->n + j);
            rest += sum * sum;
        }
    }
    return rest;
}

enum { QB_KINDS = 7 };

/* So much that blocks of a device have more than one part each: copies, norms, systems and small decompositions against the processor's. */
static void check_many_parts(void) {
    enum { SIDE = 420, ROWS = 4400, COUNT = 140 };
    double *in = matrix(&in_memory, SIDE, SIDE, SIDE), *out = guarded_take(&out_memory[0], SIDE * SIDE * 8, true);
    const tp_copying turning = {SIDE, SIDE, SIDE, SIDE, TP_F64, TP_F64, 1, 1};
    on_cuda = true;
    CHECK(tp_copy_rows(&turning, 0, SIDE, NULL, NULL, in, out) == TP_OK, "status");
    for (int64_t i = 0; i < SIDE * SIDE; i++) CHECK(out[i] == in[i % SIDE * SIDE + i / SIDE], "element %lld", (long long)i);
    double *sums = allocate(2 * ROWS), *largest = allocate(2 * ROWS);
    for (int cuda = 0; cuda < 2; cuda++) {
        on_cuda = cuda;
        CHECK(tp_row_norms(TP_F64, ROWS, 3, 3, 0, ROWS, in, sums + cuda * ROWS, largest + cuda * ROWS) == TP_OK, "status");
    }
    CHECK(!memcmp(sums, sums + ROWS, ROWS * 8) && !memcmp(largest, largest + ROWS, ROWS * 8), "norms");
    const double l[4] = {2, NAN, 0.5, 4};
    double *x = guarded_take(&out_memory[1], ROWS * 2 * 8, true);
    memcpy(x, in, ROWS * 2 * 8);
    CHECK(tp_triangular_solve(2, 2, l, 0, 2, 0, ROWS, x) == TP_OK, "status");
    for (int64_t i = 0; i < ROWS; i++)
        CHECK(x[2 * i] == in[2 * i] / 2 && fabs(x[2 * i + 1] - (in[2 * i + 1] - in[2 * i] / 4) / 4) < 1e-15, "row %lld", (long long)i);
    const tp_small small = {.count = COUNT, .rows = 3, .cols = 2, .in_stride = 2, .in_step = 6, .type = TP_F64, .sweeps = 30};
    double u[2][COUNT * 6], s[2][COUNT * 2], v[2][COUNT * 4];
    for (int cuda = 0; cuda < 2; cuda++) {
        on_cuda = cuda;
        CHECK(tp_svd_small(&small, 0, COUNT, in, u[cuda], s[cuda], v[cuda]) == TP_OK, "status");
    }
    for (int i = 0; i < COUNT * 2; i++) CHECK(fabs(s[0][i] - s[1][i]) < 1e-14, "value %d", i);
    for (int i = 0; i < COUNT * 6; i++) CHECK(fabs(u[0][i] - u[1][i]) < 1e-10, "left %d", i);
    on_cuda = false;
    free(sums), free(largest);
}

static void check_qb(void) {
    on_cuda = true;
    open_with(0);
    int in_pieces = 0;
    for (int n = 0; n < 3 * QB_KINDS; n++) {
        const int kind = n % QB_KINDS, turn = n / QB_KINDS;
        tp_qb s = {.m = 20 + random_below(80), .n = 20 + random_below(80), .type = turn == 1 ? TP_F32 : TP_F64, .out_type = turn ? TP_F32 : TP_F64,
                   .powers = n % 3, .seed = random_bits()};
        if (n == 4) s.m = 1100, s.n = 20; /* more terms than a sum takes at once */
        if (n == 5) s.m = 20, s.n = 1100;
        const int64_t least = s.m < s.n ? s.m : s.n, wanted = 1 + random_below(6);
        s.rank = kind == 6 ? least : 10 + wanted;
        s.stride = s.n + random_below(3);
        /* A = U S V^T, with orthonormal U and V of `least` columns. */
        double *u = allocate(s.m * least), *v = allocate(s.n * least), *sigma = allocate(least);
        long double tail = 0;
        for (int64_t k = 0; k < least; k++) {
            const double decays[QB_KINDS] = {1 / (double)((k + 1) * (k + 1)), pow(10, -(double)k), k < 3, 0, 1, pow(10, -0.3 * (double)k), 1 / (double)(k + 1)};
            sigma[k] = (kind == 1 && turn == 2 ? 1e20 : 1) * decays[kind];
            if (k >= wanted) tail += (long double)sigma[k] * sigma[k];
        }
        for (int side = 0; side < 2; side++) {
            const int64_t rows = side ? s.n : s.m;
            double *x = side ? v : u;
            for (int64_t k = 0; k < least; k++) {
                for (int64_t i = 0; i < rows; i++) x[i * least + k] = normal();
                for (int64_t other = 0; other < 2 * k; other++) {
                    double along = 0;
                    for (int64_t i = 0; i < rows; i++) along += x[i * least + k] * x[i * least + other % k];
                    for (int64_t i = 0; i < rows; i++) x[i * least + k] -= along * x[i * least + other % k];
                }
                double square = 0;
                for (int64_t i = 0; i < rows; i++) square += x[i * least + k] * x[i * least + k];
                for (int64_t i = 0; i < rows; i++) x[i * least + k] /= sqrt(square);
            }
        }
        void *a = guarded_input(&in_memory, (size_t)(((s.m - 1) * s.stride + s.n) * (s.type == TP_F64 ? 8 : 4)), true, n % 2 * 3);
        long double norm = 0;
        for (int64_t i = 0; i < s.m; i++) {
            for (int64_t j = 0; j < s.stride && (i + 1 < s.m || j < s.n); j++) {
                double x = j < s.n ? 0 : NAN;
                for (int64_t k = 0; k < least && j < s.n; k++) x += sigma[k] * u[i * least + k] * v[j * least + k];
                store(s.type, a, i * s.stride + j, x);
                if (j < s.n) norm += (long double)value(s.type, a, i * s.stride + j) * value(s.type, a, i * s.stride + j);
            }
        }
        const size_t size = s.out_type == TP_F64 ? 8 : 4, q_bytes = (size_t)(s.m * s.rank) * size, b_bytes = (size_t)(s.rank * s.n) * size;
        void *q = guarded_take(&out_memory[0], q_bytes, true), *b = guarded_take(&out_memory[1], b_bytes, true);
        double residual[4], again[4];
        tp_cuda_times times;
        const int64_t bytes = s.m * s.n * (s.type == TP_F64 ? 8 : 4);
        CHECK(cuda_qb(0, false, &s, a, q, b, residual) == TP_OK && tp_cuda_last(test_cuda, &times) == TP_OK, "kind %d: status", kind);
        CHECK(times.in_bytes >= bytes && times.in_bytes < 2 * bytes, "%lld bytes copied", (long long)times.in_bytes);
        const long double rest = check_factors(&s, a, q, b);
        CHECK(fabsl(residual[1] - norm) <= 1e-13L * norm, "norm");
        CHECK(residual[0] >= rest && residual[0] <= rest + 2 * residual[3], "kind %d: bound %g of %Lg, rounding %g", kind, residual[0], rest, residual[3]);
        CHECK(residual[3] <= 1e-10 * residual[1], "kind %d: rounding %g of %g", kind, residual[3], residual[1]);
        /* Expected is 1 + wanted / 9 (theorem 10.5 of Halko, Martinsson and Tropp), before A was rounded. */
        const long double rounding = norm * (s.type == TP_F64 && s.out_type == TP_F64 ? 1e-28L : s.type == TP_F64 ? 1e-12L : 1e-10L);
        CHECK(rest <= 4 * (1 + (long double)wanted / 9) * tail + rounding, "kind %d: %Lg, best %Lg", kind, rest, tail);
        if (kind == 3) CHECK(residual[0] == 0 && residual[2] == 0, "zero matrix");
        if (s.powers == 0 && s.out_type == TP_F64 && kind != 3) {
            /* The space is that of A times these numbers. */
            double *omega = allocate(s.rank * s.n);
            on_cuda = false;
            CHECK(tp_gaussian(s.seed, 0, 0, s.rank * s.n, TP_F64, omega) == TP_OK, "status");
            on_cuda = true;
            long double y[1200], square = 0, left = 0;
            for (int64_t i = 0; i < s.m; i++) {
                y[i] = 0;
                for (int64_t j = 0; j < s.n; j++) y[i] += (long double)value(s.type, a, i * s.stride + j) * omega[j];
                square += y[i] * y[i];
            }
            for (int64_t p = 0; p < s.rank; p++) {
                long double along = 0;
                for (int64_t i = 0; i < s.m; i++) along += y[i] * value(s.out_type, q, i * s.rank + p);
                for (int64_t i = 0; i < s.m; i++) y[i] -= along * value(s.out_type, q, i * s.rank + p);
            }
            for (int64_t i = 0; i < s.m; i++) left += y[i] * y[i];
            CHECK(left <= 1e-24L * square, "another space: %Lg of %Lg", left, square);
            free(omega);
        }
        /* The same bits wherever A lies, and if it goes through in pieces. */
        void *first_q = allocate(s.m * s.rank), *first_b = allocate(s.rank * s.n);
        memcpy(first_q, q, q_bytes);
        memcpy(first_b, b, b_bytes);
        for (int other = 0; other < 2; other++) {
            CHECK(cuda_qb(other ? 0 : 1 << 14, other, &s, a, q, b, again) == TP_OK && tp_cuda_last(test_cuda, &times) == TP_OK, "kind %d: status", kind);
            in_pieces += !other && times.in_bytes >= (2 * s.powers + 3) * bytes;
            CHECK(!memcmp(q, first_q, q_bytes) && !memcmp(b, first_b, b_bytes) && !memcmp(residual, again, sizeof again), "kind %d: other bits", kind);
        }
        free(first_q), free(first_b), free(u), free(v), free(sigma);
    }
    CHECK(in_pieces > 0, "A never went through in pieces");
    open_with(0);
    double a[4] = {1, 2, 3, 4}, q[4], b[4], r[4];
    tp_qb s = {.m = 2, .n = 2, .rank = 2, .stride = 2, .type = TP_F64, .out_type = TP_F64};
    CHECK(tp_cuda_qb(test_cuda, &s, a, q, b, r) == TP_OK && r[0] <= 2 * r[3] && fabs(r[1] - 30) < 1e-13 && fabs(r[2] - 30) < 1e-13, "2 x 2");
    CHECK(tp_cuda_qb(NULL, &s, a, q, b, r) == TP_ERR_ARGUMENT && tp_cuda_qb(test_cuda, NULL, a, q, b, r) == TP_ERR_ARGUMENT &&
              tp_cuda_qb(test_cuda, &s, a, q, b, NULL) == TP_ERR_ARGUMENT, "null");
    for (int bad = 0; bad < 7; bad++) {
        tp_qb t = s;
        double x[4] = {1, 2, 3, 4};
        tp_status want = TP_ERR_SHAPE;
        switch (bad) {
        case 0: t.rank = 0; break;
        case 1: t.rank = 3; break;
        case 2: t.stride = 1; break;
        case 3: t.powers = -1, want = TP_ERR_ARGUMENT; break;
        case 4: t.out_type = TP_F16, want = TP_ERR_TYPE; break;
        case 5: x[3] = INFINITY, want = TP_ERR_NONFINITE; break;
        default: x[3] = 1e150, want = TP_ERR_MAGNITUDE; break;
        }
        CHECK(tp_cuda_qb(test_cuda, &t, x, q, b, r) == want, "bad %d", bad);
    }
    int64_t now, most;
    CHECK(tp_cuda_memory(test_cuda, &now, &most) == TP_OK, "memory");
    CHECK(tp_cuda_qb(test_cuda, &s, a, q, b, r) == TP_OK && tp_cuda_memory(test_cuda, &most, &(int64_t){0}) == TP_OK && most == now, "memory is given back");
    on_cuda = false;
}

int main(void) {
    test_start("test_svd");
    in_memory = guarded_new(BYTES);
    other_memory = guarded_new(BYTES);
    out_memory[0] = guarded_new(BYTES);
    out_memory[1] = guarded_new(BYTES);
    scratch_memory = guarded_new(BYTES);
#define VARIANTS(name, params)                                                                                        \
    for (int tier = 0; tier < TP_TIERS_BUILT; tier++)                                                                 \
        CHECK(tp_svd_tables[tier].name && (tier == 0 || tp_svd_tables[tier].name != tp_svd_tables[0].name),           \
              "%s of tier %s", #name, tp_tier_name(tier));                                                            \
    check_##name();
    while (test_round()) {
        TP_SVD_KERNELS(VARIANTS)
        check_many_parts();
        check_qb();
    }
    check_calls();
    tp_cuda_close(test_cuda);
    return test_end();
}
