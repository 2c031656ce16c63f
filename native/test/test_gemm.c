/*
 * The gemm family against an oracle written from gemm.h alone, bit for bit on every tier, with and without VNNI, and on a CUDA device.
 * Every buffer ends or starts at a page that cannot be touched; what lies between the rows of C must stay as it was.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/scalar.h"
#include "gemm/kernels.h"
#include "on_cuda.h"
#include "support.h"
#include "tensorpress/cuda/gemm.h"

static guarded a_memory, b_memory, c_memory, packed_memory, scratch_memory;
static char *expected, *before;
enum { C_BYTES = 1 << 25 };

static int size_of(tp_dtype type) { return type == TP_F64 ? 8 : type == TP_F32 ? 4 : 1; }
static int c_size_of(tp_dtype type) { return type == TP_F64 ? 8 : 4; }

static size_t bytes_of(int64_t rows, int64_t cols, int64_t stride, int size) {
    return rows && cols ? (size_t)((rows - 1) * stride + cols) * (size_t)size : 0;
}
static size_t a_bytes(const tp_gemm_spec *s) {
    return s->form == TP_GEMM_ATB ? bytes_of(s->k, s->m, s->a_stride, size_of(s->type))
                                  : bytes_of(s->m, s->k, s->a_stride, size_of(s->type));
}
static size_t b_bytes(const tp_gemm_spec *s) {
    return s->form == TP_GEMM_ABT ? bytes_of(s->n, s->k, s->b_stride, size_of(s->type))
                                  : bytes_of(s->k, s->n, s->b_stride, size_of(s->type));
}
static size_t c_bytes(const tp_gemm_spec *s) { return bytes_of(s->m, s->n, s->c_stride, c_size_of(s->type)); }

/* ---- the oracle ---- */

static int64_t a_index(const tp_gemm_spec *s, int64_t i, int64_t k) {
    return s->form == TP_GEMM_ATB ? k * s->a_stride + i : i * s->a_stride + k;
}
static int64_t b_index(const tp_gemm_spec *s, int64_t k, int64_t j) {
    return s->form == TP_GEMM_ABT ? j * s->b_stride + k : k * s->b_stride + j;
}
static float f32_at(const void *p, int64_t i) {
    float x;
    memcpy(&x, (const char *)p + 4 * i, 4);
    return x;
}
static double f64_at(const void *p, int64_t i) {
    double x;
    memcpy(&x, (const char *)p + 8 * i, 8);
    return x;
}

static void oracle_element(const tp_gemm_spec *s, const tp_gemm_affine *f, const void *a, const void *b, void *c,
                           int64_t i, int64_t j) {
    const int64_t at = i * s->c_stride + j;
    if (s->type == TP_I8) {
        const int za = f->a_zero ? f->a_zero[f->a_zero_step ? i : 0] : 0;
        const int zb = f->b_zero ? f->b_zero[f->b_zero_step ? j : 0] : 0;
        int64_t sum = s->accumulate ? ((int32_t *)c)[at] : 0;
        for (int64_t k = 0; k < s->k; k++)
            sum += (((const int8_t *)a)[a_index(s, i, k)] - za) * (((const int8_t *)b)[b_index(s, k, j)] - zb);
        const int32_t wrapped = (int32_t)(uint32_t)(uint64_t)sum;
        if (f->scaled) {
            const float x = f->a_scale ? f->a_scale[f->a_scale_step ? i : 0] : 1;
            const float y = f->b_scale ? f->b_scale[f->b_scale_step ? j : 0] : 1;
            ((float *)c)[at] = ((float)wrapped * x) * y;
        } else {
            ((int32_t *)c)[at] = wrapped;
        }
        return;
    }
    for (int64_t k0 = 0, first = !s->accumulate; k0 < s->k || first; k0 += 256, first = 0) {
        const int64_t k1 = k0 + 256 < s->k ? k0 + 256 : s->k;
        if (s->type == TP_F32) {
            float sum = 0;
            for (int64_t k = k0; k < k1; k++) sum = fmaf(f32_at(a, a_index(s, i, k)), f32_at(b, b_index(s, k, j)), sum);
            ((float *)c)[at] = first ? sum : ((float *)c)[at] + sum;
        } else {
            double sum = 0;
            for (int64_t k = k0; k < k1; k++) sum = fma(f64_at(a, a_index(s, i, k)), f64_at(b, b_index(s, k, j)), sum);
            ((double *)c)[at] = first ? sum : ((double *)c)[at] + sum;
        }
    }
}

static bool same_float(float x, float y) { return (isnan(x) && isnan(y)) || memcmp(&x, &y, 4) == 0; }
static bool same_double(double x, double y) { return (isnan(x) && isnan(y)) || memcmp(&x, &y, 8) == 0; }

/* ---- random cases ---- */

static float random_float(int mood) {
    if (mood == 1 && random_below(40) == 0)
        return (float[]){NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 3e38f, 1e-42f}[random_below(7)];
    const float x = (float)(random_unit() * 2 - 1);
    return mood == 2 ? ldexpf(x, (int)random_below(60) - 30) : x;
}

static void fill(tp_dtype type, void *p, size_t bytes, int mood) {
    char *to = p;
    const size_t n = bytes / (size_t)size_of(type);
    for (size_t i = 0; i < n; i++) {
        if (type == TP_I8) {
            to[i] = (char)(mood == 1 ? (random_bits() & 1 ? -128 : 127) : mood == 2 ? -128 : (int)random_below(256) - 128);
        } else if (type == TP_F32) {
            const float x = random_float(mood);
            memcpy(to + 4 * i, &x, 4);
        } else {
            const double x = random_float(mood) * (1 + random_unit());
            memcpy(to + 8 * i, &x, 8);
        }
    }
}

static int64_t random_size(int64_t most) {
    static const int64_t notable[] = {0, 1, 2, 3, 6, 7, 8, 14, 16, 31, 32, 33, 63, 64, 84, 96, 97, 101, 127, 191};
    const int64_t x = random_below(3) ? random_below(18) : notable[random_below(20)];
    return x < most ? x : most;
}

static int64_t random_depth(void) {
    static const int64_t notable[] = {31, 32, 33, 255, 256, 257, 509, 512, 513, 1023, 1024, 1025, 2049};
    return random_below(3) ? random_below(18) : notable[random_below(13)];
}

enum { MOST_LINES = 4096 };
typedef struct addends {
    int8_t a_zero[MOST_LINES], b_zero[MOST_LINES];
    float a_scale[MOST_LINES], b_scale[MOST_LINES];
} addends;

static void random_affine(tp_gemm_spec *s, tp_gemm_affine *f, addends *x) {
    *f = (tp_gemm_affine){0};
    if (s->type != TP_I8) return;
    for (int i = 0; i < MOST_LINES; i++) {
        x->a_zero[i] = (int8_t)random_below(256);
        x->b_zero[i] = (int8_t)random_below(256);
        x->a_scale[i] = random_float(0);
        x->b_scale[i] = random_float(0);
    }
    const uint64_t bits = random_bits();
    f->a_zero_step = bits & 1;
    f->b_zero_step = bits >> 1 & 1;
    f->a_scale_step = bits >> 2 & 1;
    f->b_scale_step = bits >> 3 & 1;
    if (bits >> 4 & 1) f->a_zero = x->a_zero;
    if (bits >> 5 & 1) f->b_zero = x->b_zero;
    if (bits >> 6 & 1) f->a_scale = x->a_scale;
    if (bits >> 7 & 1) f->b_scale = x->b_scale;
    f->scaled = bits >> 8 & 1;
    if (f->scaled) s->accumulate = 0;
}

static bool is_plain(const tp_gemm_spec *s, const tp_gemm_affine *f) {
    return s->type != TP_I8 || (!f->a_zero && !f->b_zero && !f->scaled);
}

/*
 * On the device: all rows or random ranges of them. A, B and C are each on the host or on the device; or all on the host, and the device has
 * hardly any memory, so that there are many pieces. `product` is tp_cuda_gemm, or another function of its kind.
 */
typedef tp_status product(const tp_gemm_spec *s, const tp_gemm_affine *f, int64_t begin, int64_t end, const void *a, const void *b, void *c);
static long with_pieces;

static void open_timed(int64_t budget) {
    open_cuda(budget);
    CHECK(tp_cuda_timing(test_cuda, 1) == TP_OK, "timing");
}

static tp_status exact_product(const tp_gemm_spec *s, const tp_gemm_affine *f, int64_t begin, int64_t end, const void *a, const void *b,
                               void *c) {
    return is_plain(s, f) ? tp_cuda_gemm(test_cuda, s, begin, end, a, b, c) : tp_cuda_gemm_int8(test_cuda, s, f, begin, end, a, b, c);
}

static void run_on_cuda(const tp_gemm_spec *s, const tp_gemm_affine *f, product *multiply, const void *a, const void *b, void *c,
                        const char *label) {
    const bool short_of_memory = random_below(4) == 0;
    const uint64_t where = short_of_memory ? 0 : random_bits();
    void *memory[3] = {NULL};
    const void *at = where & 1 ? on_device(&memory[0], a, a_bytes(s), size_of(s->type)) : a;
    const void *bt = where & 2 ? on_device(&memory[1], b, b_bytes(s), size_of(s->type)) : b;
    void *ct = where & 4 ? on_device(&memory[2], c, c_bytes(s), c_size_of(s->type)) : c;
    int64_t budget = 4096;
    if (short_of_memory) open_timed(budget);
    for (int64_t begin = 0; begin < s->m;) {
        const int64_t end = random_below(2) ? s->m : begin + 1 + random_below(s->m - begin);
        tp_status status;
        while ((status = multiply(s, f, begin, end, at, bt, ct)) == TP_ERR_MEMORY && short_of_memory) open_timed(budget += budget / 2);
        CHECK(status == TP_OK, "%s: %s: %s", label, tp_status_name(status), tp_cuda_message(test_cuda));
        tp_cuda_times times;
        CHECK(tp_cuda_last(test_cuda, &times) == TP_OK, "%s: times", label);
        with_pieces += times.pieces > 1;
        begin = end;
    }
    if (ct != c) CHECK(tp_cuda_copy(test_cuda, c, ct, (int64_t)c_bytes(s)) == TP_OK, "%s: copy", label);
    for (int i = 0; i < 3; i++) CHECK(tp_cuda_free(test_cuda, memory[i]) == TP_OK, "%s: free", label);
    if (short_of_memory) open_timed(0);
}

/* Everything at once, or cut into random rectangles. */
static void run(const tp_gemm_spec *s, const tp_gemm_affine *f, const void *a, const void *b, void *c, bool at_end,
                const char *label) {
    tp_gemm_layout layout;
    if (on_cuda) {
        run_on_cuda(s, f, exact_product, a, b, c, label);
        return;
    }
    CHECK(tp_gemm_layout_of(s, &layout) == TP_OK, "%s: layout", label);
    /* Their alignment is 64, so at the end they may leave a gap to the guard page. */
    char *packed = guarded_take(&packed_memory, ((size_t)layout.packed_bytes + 63) / 64 * 64, at_end);
    char *scratch = guarded_take(&scratch_memory, ((size_t)layout.scratch_bytes + 63) / 64 * 64, at_end);
    for (int64_t first = 0; first < layout.panels;) {
        const int64_t last = random_below(2) ? layout.panels : first + 1 + random_below(layout.panels - first);
        CHECK(tp_gemm_pack(s, first, last, b, packed) == TP_OK, "%s: pack", label);
        first = last;
    }
    for (int64_t first = 0; first < layout.panels;) {
        const int64_t last = random_below(2) ? layout.panels : first + 1 + random_below(layout.panels - first);
        for (int64_t begin = 0; begin < s->m;) {
            const int64_t end = random_below(2) ? s->m : begin + 1 + random_below(s->m - begin);
            memset(scratch, GUARD_FILL, (size_t)layout.scratch_bytes);
            const tp_status status = is_plain(s, f) ? tp_gemm(s, begin, end, first, last, a, packed, c, scratch)
                                                    : tp_gemm_int8(s, f, begin, end, first, last, a, packed, c, scratch);
            CHECK(status == TP_OK, "%s: %s", label, tp_status_name(status));
            begin = end;
        }
        first = last;
    }
}

static void check_case(tp_gemm_spec s, int mood) {
    static addends numbers;
    tp_gemm_affine f;
    random_affine(&s, &f, &numbers);
    const bool at_end = random_below(2);
    const int offset = (int)random_below(4);
    char *a = guarded_input(&a_memory, a_bytes(&s), at_end, offset);
    char *b = guarded_input(&b_memory, b_bytes(&s), at_end, offset);
    fill(s.type, a, a_bytes(&s), mood);
    fill(s.type, b, b_bytes(&s), s.type == TP_I8 ? mood : mood ? 2 : 0);
    if (s.k == 0 && random_below(2)) a = b = NULL;
    const size_t bytes = c_bytes(&s);
    char *c = guarded_take(&c_memory, bytes, at_end);
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
        const float x = (float)(int)random_below(1000);
        memcpy(before + i, &x, 4);
    }
    memcpy(expected, before, bytes);
    for (int64_t i = 0; i < s.m; i++)
        for (int64_t j = 0; j < s.n; j++) oracle_element(&s, &f, a, b, expected, i, j);
    for (int variant = 0; variant <= test_tiers + 1; variant++) {
        /* One more for the highest tier without VNNI. */
        const int tier = variant <= test_tiers ? variant : test_tiers - 1;
        use_tier(tier);
        atomic_store(&tp_vnni_state, variant < test_tiers && tp_detect_vnni());
        char label[200];
        snprintf(label, sizeof label, "%s%s type %d form %d: %lld x %lld x %lld strides %lld %lld %lld%s",
                 on_cuda ? "cuda" : tp_tier_name(tier), variant <= test_tiers ? "" : " without VNNI", s.type, s.form, (long long)s.m,
                 (long long)s.n, (long long)s.k, (long long)s.a_stride, (long long)s.b_stride, (long long)s.c_stride,
                 s.accumulate ? " accumulate" : "");
        memcpy(c, before, bytes);
        run(&s, &f, a, b, c, at_end, label);
        for (int64_t i = 0; i < s.m; i++) {
            for (int64_t j = 0; j < s.n; j++) {
                const int64_t at = i * s.c_stride + j;
                bool same;
                if (s.type == TP_I8 && !f.scaled)
                    same = ((int32_t *)c)[at] == ((int32_t *)expected)[at];
                else if (s.type == TP_F64)
                    same = same_double(((double *)c)[at], ((double *)expected)[at]);
                else
                    same = same_float(((float *)c)[at], ((float *)expected)[at]);
                CHECK(same, "%s: element %lld, %lld", label, (long long)i, (long long)j);
            }
        }
        for (int64_t i = 0; i + 1 < s.m && s.n; i++) {
            const int size = c_size_of(s.type);
            const int64_t at = (i * s.c_stride + s.n) * size;
            CHECK(memcmp(c + at, before + at, (size_t)((s.c_stride - s.n) * size)) == 0, "%s: gap after row %lld",
                  label, (long long)i);
        }
    }
    atomic_store(&tp_vnni_state, TP_VNNI_UNDECIDED);
}

static tp_gemm_spec spec_of(tp_dtype type, int form, int64_t m, int64_t n, int64_t k) {
    return (tp_gemm_spec){.m = m, .n = n, .k = k, .a_stride = form == TP_GEMM_ATB ? m : k,
                          .b_stride = form == TP_GEMM_ABT ? k : n, .c_stride = n, .type = type, .form = form};
}

static void check_random(void) {
    static const tp_dtype types[] = {TP_F32, TP_F64, TP_I8};
    for (int i = 0; i < 1500; i++) {
        const int64_t k = random_depth();
        tp_gemm_spec s = spec_of(types[random_below(3)], (int)random_below(3), random_size(k > 300 ? 40 : 200),
                                 random_size(k > 300 ? 70 : 200), k);
        s.a_stride += random_below(2) * random_below(20);
        s.b_stride += random_below(2) * random_below(20);
        s.c_stride += random_below(2) * random_below(20);
        s.accumulate = (int)random_below(2);
        check_case(s, (int)random_below(3));
    }
}

/* Every size up to 17 in each direction, on a diagonal of the others. */
static void check_small(void) {
    static const tp_dtype types[] = {TP_F32, TP_F64, TP_I8};
    for (int64_t m = 0; m <= 17; m++)
        for (int64_t n = 0; n <= 17; n++)
            for (int form = 0; form < 3; form++)
                check_case(spec_of(types[(m + n) % 3], form, m, n, (5 * m + 7 * n + form) % 18), 0);
}

/* The longest sums that the header says do not wrap, from the largest products, and one that does. */
static void check_longest(void) {
    check_case(spec_of(TP_I8, TP_GEMM_AB, 3, 3, 131071), 2);
    check_case(spec_of(TP_I8, TP_GEMM_ABT, 3, 3, 131073), 2);
    enum { K = 33025 };
    tp_gemm_spec s = spec_of(TP_I8, TP_GEMM_ABT, 2, 2, K);
    int8_t *a = guarded_take(&a_memory, 2 * K, true), *b = guarded_take(&b_memory, 2 * K, true);
    const int8_t zero = 127;
    const tp_gemm_affine f = {.a_zero = &zero, .b_zero = &zero};
    memset(a, -128, 2 * K);
    memset(b, -128, 2 * K);
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        int32_t c[4];
        run(&s, &f, a, b, c, true, "longest");
        for (int i = 0; i < 4; i++) CHECK(c[i] == 255 * 255 * K, "%s: longest with zero points", tp_tier_name(tier));
    }
}

/* The documented bound, against sums in f64, which are exact enough here. */
static void check_bound(void) {
    enum { N = 24, K = 1000 };
    const tp_gemm_spec s = spec_of(TP_F32, TP_GEMM_AB, N, N, K);
    float *a = guarded_take(&a_memory, sizeof(float) * N * K, true), *b = guarded_take(&b_memory, sizeof(float) * N * K, true);
    const tp_gemm_affine none = {0};
    fill(TP_F32, a, sizeof(float) * N * K, 0);
    fill(TP_F32, b, sizeof(float) * N * K, 2);
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        static float c[N * N];
        run(&s, &none, a, b, c, true, "bound");
        for (int i = 0; i < N * N; i++) {
            double sum = 0, magnitude = 0;
            for (int64_t k = 0; k < K; k++) {
                const double x = (double)a[i / N * K + k] * b[k * N + i % N];
                sum += x;
                magnitude += fabs(x);
            }
            const double t = (256 + 4) * 0x1p-24;
            CHECK(fabs(c[i] - sum) <= t / (1 - t) * magnitude, "%s: error %g", tp_tier_name(tier), fabs(c[i] - sum));
        }
    }
}

/* Enough tiles for all multiprocessors of the device, which then takes larger ones. */
static void check_large(void) {
    static const tp_dtype types[] = {TP_F32, TP_F64, TP_I8};
    tp_cuda_device device;
    CHECK(tp_cuda_describe(0, &device) == TP_OK, "describe");
    const int64_t lines = 128 * (int64_t)ceil(sqrt(device.multiprocessors));
    for (int i = 0; i < 18; i++) {
        const bool round = i >= 9;
        const int64_t k = 16 + random_below(60) + (i % 3 < 2 && round ? TP_GEMM_BLOCK : 0);
        tp_gemm_spec s = spec_of(types[i % 3], i / 3 % 3, lines - random_below(9), lines - random_below(9), k);
        s.a_stride = round ? (s.a_stride + 15) / 16 * 16 : s.a_stride + random_below(3);
        s.b_stride = round ? (s.b_stride + 15) / 16 * 16 : s.b_stride + random_below(3);
        s.c_stride = round ? (s.c_stride + 15) / 16 * 16 : s.c_stride + random_below(3);
        s.accumulate = (int)random_below(2);
        check_case(s, 0);
    }
}

/* ---- tf32x3 ---- */

static tp_status tf32x3_product(const tp_gemm_spec *s, const tp_gemm_affine *f, int64_t begin, int64_t end, const void *a, const void *b,
                                void *c) {
    (void)f;
    return tp_cuda_gemm_tf32x3(test_cuda, s, begin, end, a, b, c);
}

/* The documented bound, against sums in f64. What meets a number that is not finite is not finite. Ranges give the same bits. */
static void check_tf32x3_case(tp_gemm_spec s, int mood) {
    const size_t bytes = c_bytes(&s);
    float *a = guarded_take(&a_memory, a_bytes(&s), true), *b = guarded_take(&b_memory, b_bytes(&s), true);
    float *c = guarded_take(&c_memory, bytes, true), *whole = (float *)expected;
    fill(TP_F32, a, a_bytes(&s), mood == 1 ? 0 : mood);
    fill(TP_F32, b, b_bytes(&s), mood == 1 ? 0 : mood);
    for (size_t i = 0; mood == 1 && i < a_bytes(&s) / 4; i += 1 + (size_t)random_below(500))
        a[i] = (float[]){NAN, INFINITY, -INFINITY, tp_float(0x7fffffff), tp_float(0xff800001)}[random_below(5)];
    fill(TP_F32, before, bytes, 0);
    memcpy(whole, before, bytes);
    CHECK(tp_cuda_gemm_tf32x3(test_cuda, &s, 0, s.m, a, b, whole) == TP_OK, "tf32x3");
    memcpy(c, before, bytes);
    run_on_cuda(&s, NULL, tf32x3_product, a, b, c, "tf32x3");
    CHECK(memcmp(c, whole, bytes) == 0, "tf32x3: ranges, form %d: %lld x %lld x %lld", s.form, (long long)s.m, (long long)s.n, (long long)s.k);
    for (int64_t i = 0; i < s.m; i++) {
        for (int64_t j = 0; j < s.n; j++) {
            const int64_t at = i * s.c_stride + j;
            double sum = s.accumulate ? ((float *)before)[at] : 0, magnitude = fabs(sum);
            for (int64_t k = 0; k < s.k; k++) {
                const double x = (double)a[a_index(&s, i, k)] * b[b_index(&s, k, j)];
                sum += x;
                magnitude += fabs(x);
            }
            const double t = ((double)(s.k + 7) / 8 + 1) * 0x1p-24, bound = (0x1p-19 + t / (1 - t)) * magnitude;
            CHECK(isfinite(sum) ? fabs(c[at] - sum) <= bound : !isfinite(c[at]),
                  "tf32x3 form %d: %lld x %lld x %lld: %g for %g at %lld, %lld", s.form, (long long)s.m, (long long)s.n, (long long)s.k,
                  (double)c[at], sum, (long long)i, (long long)j);
        }
    }
}

static void check_tf32x3(void) {
    use_tier(test_tiers);
    for (int i = 0; i < 60; i++) {
        const int64_t k = random_depth();
        tp_gemm_spec s = spec_of(TP_F32, i % 3, random_size(k > 300 ? 40 : 200), random_size(k > 300 ? 40 : 200), k);
        s.a_stride += random_below(2) * random_below(20);
        s.b_stride += random_below(2) * random_below(20);
        s.c_stride += random_below(2) * random_below(20);
        s.accumulate = (int)random_below(2);
        check_tf32x3_case(s, i / 3 % 3);
    }
    tp_cuda_device device;
    CHECK(tp_cuda_describe(0, &device) == TP_OK, "describe");
    const int64_t lines = 128 * (int64_t)ceil(sqrt(device.multiprocessors));
    for (int form = 0; form < 3; form++) check_tf32x3_case(spec_of(TP_F32, form, lines - 5, lines - random_below(9), 70 + random_below(9)), 0);
}

static void check_errors(void) {
    const tp_gemm_spec good = spec_of(TP_F32, TP_GEMM_AB, 4, 5, 6);
    const tp_gemm_affine none = {0};
    static float a[64], b[64], c[64];
    static char packed[1 << 16] __attribute__((aligned(64))), scratch[1 << 18] __attribute__((aligned(64)));
    tp_gemm_layout layout;
    CHECK(tp_gemm_layout_of(&good, &layout) == TP_OK && layout.panels > 0 && layout.panel_columns > 0
          && layout.row_granule > 0 && layout.packed_bytes >= 120, "layout");
    CHECK(tp_gemm_layout_of(NULL, &layout) == TP_ERR_ARGUMENT && tp_gemm_layout_of(&good, NULL) == TP_ERR_ARGUMENT, "null");
#define WRONG(field, value, status)                                                                                   \
    do {                                                                                                              \
        tp_gemm_spec s = good;                                                                                        \
        s.field = value;                                                                                              \
        CHECK(tp_gemm_layout_of(&s, &layout) == status, "%s = %s", #field, #value);                                   \
        CHECK(tp_gemm_pack(&s, 0, 0, b, packed) == status, "pack, %s = %s", #field, #value);                          \
        CHECK(tp_gemm(&s, 0, 0, 0, 0, a, packed, c, scratch) == status, "%s = %s", #field, #value);                   \
        CHECK(tp_cuda_gemm(test_cuda, &s, 0, 0, a, b, c) == status, "cuda, %s = %s", #field, #value);                 \
        CHECK(tp_cuda_gemm_tf32x3(test_cuda, &s, 0, 0, a, b, c) == status, "cuda, %s = %s", #field, #value);          \
    } while (0)
    WRONG(m, -1, TP_ERR_SHAPE);
    WRONG(n, -1, TP_ERR_SHAPE);
    WRONG(k, -1, TP_ERR_SHAPE);
    WRONG(a_stride, 5, TP_ERR_SHAPE);
    WRONG(b_stride, 4, TP_ERR_SHAPE);
    WRONG(c_stride, 4, TP_ERR_SHAPE);
    WRONG(c_stride, INT64_C(1) << 60, TP_ERR_SHAPE);
    WRONG(c_stride, INT64_C(1) << 59, TP_ERR_SHAPE);
    WRONG(type, TP_F16, TP_ERR_TYPE);
    WRONG(type, 0, TP_ERR_TYPE);
    WRONG(form, 3, TP_ERR_ARGUMENT);
    WRONG(form, -1, TP_ERR_ARGUMENT);
    WRONG(accumulate, 2, TP_ERR_ARGUMENT);
    CHECK(tp_gemm_pack(&good, 0, layout.panels + 1, b, packed) == TP_ERR_RANGE, "pack range");
    CHECK(tp_gemm_pack(&good, 0, layout.panels, NULL, packed) == TP_ERR_ARGUMENT, "pack null");
    CHECK(tp_gemm_pack(&good, 0, layout.panels, b, (char *)packed + 8) == TP_ERR_ARGUMENT, "packed not aligned");
    CHECK(tp_gemm(&good, 0, 1, 0, 1, a, packed, c, (char *)scratch + 8) == TP_ERR_ARGUMENT, "scratch not aligned");
    CHECK(tp_gemm(&good, 0, 1, 0, 1, a, (char *)packed + 8, c, scratch) == TP_ERR_ARGUMENT, "packed not aligned");
    CHECK(tp_gemm_pack(&good, 0, layout.panels, b, NULL) == TP_ERR_ARGUMENT, "pack null");
    CHECK(tp_gemm(&good, 0, 5, 0, 1, a, packed, c, scratch) == TP_ERR_RANGE, "rows");
    CHECK(tp_gemm(&good, 2, 1, 0, 1, a, packed, c, scratch) == TP_ERR_RANGE, "rows");
    CHECK(tp_gemm(&good, -1, 1, 0, 1, a, packed, c, scratch) == TP_ERR_RANGE, "rows");
    CHECK(tp_gemm(&good, 0, 1, 0, layout.panels + 1, a, packed, c, scratch) == TP_ERR_RANGE, "panels");
    CHECK(tp_gemm(&good, 0, 1, 0, 1, NULL, packed, c, scratch) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_gemm(&good, 0, 1, 0, 1, a, NULL, c, scratch) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_gemm(&good, 0, 1, 0, 1, a, packed, NULL, scratch) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_gemm(&good, 0, 1, 0, 1, a, packed, c, NULL) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_gemm(&good, 0, 0, 0, 1, NULL, NULL, NULL, NULL) == TP_OK, "nothing to do");
    CHECK(tp_cuda_gemm(NULL, &good, 0, 0, a, b, c) == TP_ERR_ARGUMENT, "no device");
    CHECK(tp_cuda_gemm(test_cuda, NULL, 0, 0, a, b, c) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_cuda_gemm(test_cuda, &good, 0, 5, a, b, c) == TP_ERR_RANGE, "rows");
    CHECK(tp_cuda_gemm(test_cuda, &good, 2, 1, a, b, c) == TP_ERR_RANGE, "rows");
    CHECK(tp_cuda_gemm(test_cuda, &good, -1, 1, a, b, c) == TP_ERR_RANGE, "rows");
    CHECK(tp_cuda_gemm(test_cuda, &good, 0, 1, NULL, b, c) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_cuda_gemm(test_cuda, &good, 0, 1, a, NULL, c) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_cuda_gemm(test_cuda, &good, 0, 1, a, b, NULL) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_cuda_gemm(test_cuda, &good, 0, 0, NULL, NULL, NULL) == TP_OK, "nothing to do");
    CHECK(tp_gemm_int8(&good, &none, 0, 1, 0, 1, a, packed, c, scratch) == TP_ERR_TYPE, "type");
    CHECK(tp_cuda_gemm_int8(test_cuda, &good, &none, 0, 1, a, b, c) == TP_ERR_TYPE, "type");
    tp_gemm_spec bytes = good;
    bytes.type = TP_I8;
    CHECK(tp_gemm_int8(&bytes, NULL, 0, 1, 0, 1, a, packed, c, scratch) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_cuda_gemm_int8(test_cuda, &bytes, NULL, 0, 1, a, b, c) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_cuda_gemm_int8(NULL, &bytes, &none, 0, 1, a, b, c) == TP_ERR_ARGUMENT, "no device");
    CHECK(tp_cuda_gemm_tf32x3(test_cuda, &bytes, 0, 1, a, b, c) == TP_ERR_TYPE, "type");
    const tp_gemm_affine wrong[] = {{.a_zero_step = 2}, {.b_zero_step = 2}, {.a_scale_step = -1}, {.b_scale_step = 2}, {.scaled = 2}};
    for (int i = 0; i < 5; i++) {
        CHECK(tp_gemm_int8(&bytes, &wrong[i], 0, 1, 0, 1, a, packed, c, scratch) == TP_ERR_ARGUMENT, "flag %d", i);
        CHECK(tp_cuda_gemm_int8(test_cuda, &bytes, &wrong[i], 0, 1, a, b, c) == TP_ERR_ARGUMENT, "flag %d", i);
    }
    bytes.accumulate = 1;
    const tp_gemm_affine scaled = {.scaled = 1};
    CHECK(tp_gemm_int8(&bytes, &scaled, 0, 1, 0, 1, a, packed, c, scratch) == TP_ERR_ARGUMENT, "scaled and accumulate");
    CHECK(tp_cuda_gemm_int8(test_cuda, &bytes, &scaled, 0, 1, a, b, c) == TP_ERR_ARGUMENT, "scaled and accumulate");
}

int main(void) {
    test_start("test_gemm");
    printf("test_gemm: VNNI %s\n", tp_detect_vnni() ? "runs" : "SKIPPED: not on this machine");
    a_memory = guarded_new(1 << 23);
    b_memory = guarded_new(1 << 23);
    c_memory = guarded_new(C_BYTES);
    packed_memory = guarded_new(1 << 24);
    scratch_memory = guarded_new(1 << 22);
    expected = malloc(C_BYTES);
    before = malloc(C_BYTES);
    open_timed(0);
    while (test_round()) {
        check_errors();
        check_small();
        check_random();
        check_longest();
        check_bound();
        check_large();
        check_tf32x3();
    }
    CHECK(with_pieces > 0, "no product went through the device in pieces");
    tp_cuda_close(test_cuda);
    free(expected);
    free(before);
    return test_end();
}
