/*
 * The feedback family against a loop written from feedback.h alone, on every tier and on a CUDA device. Every array ends or starts at a page that
 * cannot be touched, and ranges are cut at random. Whole matrices, a block at a time: GPTQ's loss is no more than that of rounding, and descent's never rises.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_arrays.h"
#include "support.h"
#include "tensorpress/cuda/feedback.h"

static guarded m_memory, w_memory, outside_memory, scale_memory, zero_memory, error_memory, change_memory;

/* ---- the same calls on the device ---- */

#define CUDA_CALL(call)                                                                                               \
    tp_status status;                                                                                                 \
    do status = call;                                                                                                 \
    while (short_of_memory(status));                                                                                  \
    return end_call(status)

static size_t bytes_of(int64_t rows, int64_t cols, int64_t stride, size_t size) {
    return rows > 0 && cols > 0 ? (size_t)((rows - 1) * stride + cols) * size : 0;
}
static float *lent(const float *x, int64_t rows, int64_t cols, int64_t stride, bool written) {
    return placed(x, all_on_host ? 0 : bytes_of(rows, cols, stride, 4), 4, written);
}

static tp_status cuda_round(const tp_feedback *s, int64_t begin, int64_t end, const float *m, const float *w, const float *outside,
                            const int32_t *groups, const float *scales, const float *zeros, float *e, float *change, int32_t *moved) {
    start_call();
    if (!all_on_host) {
        int64_t rows = 0;
        for (int64_t i = 0; i < s->inputs; i++) rows = groups[i] < rows ? rows : groups[i] + 1;
        m = lent(m, s->inputs, s->inputs, s->m_stride, false);
        w = lent(w, s->inputs, s->outputs, s->stride, false);
        outside = lent(outside, s->inputs, s->outputs, s->stride, false);
        scales = lent(scales, rows, s->outputs, s->scale_stride, false);
        zeros = lent(zeros, rows, s->outputs, s->scale_stride, false);
        e = lent(e, s->inputs, s->outputs, s->stride, true);
        change = lent(change, s->inputs, s->outputs, s->stride, true);
        moved = placed(moved, (size_t)s->outputs * 4, 4, true);
    }
    CUDA_CALL(tp_cuda_feedback_round(test_cuda, s, begin, end, m, w, outside, groups, scales, zeros, e, change, moved));
}

static tp_status cuda_refit(const tp_refit *s, int64_t begin, int64_t end, const float *m, const float *w, const float *outside,
                            const uint8_t *mask, float *e, float *change) {
    start_call();
    if (!all_on_host) {
        m = lent(m, s->inputs, s->inputs, s->m_stride, false);
        w = lent(w, s->inputs, s->outputs, s->stride, false);
        outside = lent(outside, s->inputs, s->outputs, s->stride, false);
        mask = placed(mask, bytes_of(s->inputs, (s->outputs + 7) / 8, s->mask_stride, 1), 1, false);
        e = lent(e, s->inputs, s->outputs, s->stride, true);
        change = lent(change, s->inputs, s->outputs, s->stride, true);
    }
    CUDA_CALL(tp_cuda_feedback_refit(test_cuda, s, begin, end, m, w, outside, mask, e, change));
}

/* From here on these names mean the tier at hand. */
#define tp_feedback_round(...) (on_cuda ? cuda_round(__VA_ARGS__) : tp_feedback_round(__VA_ARGS__))
#define tp_feedback_refit(...) (on_cuda ? cuda_refit(__VA_ARGS__) : tp_feedback_refit(__VA_ARGS__))

static float normal(void) { return (float)(random_unit() + random_unit() + random_unit() - 1.5); }

static float *floats(const guarded *g, int64_t rows, int64_t cols, int64_t stride, bool at_end) {
    float *p = guarded_take(g, rows > 0 && cols > 0 ? (size_t)((rows - 1) * stride + cols) * 4 : 0, at_end);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) p[i * stride + j] = normal();
    return p;
}

static void check_round(int64_t inputs, int64_t outputs) {
    const bool at_end = random_below(2);
    const tp_feedback s = {.inputs = inputs, .outputs = outputs, .m_stride = inputs + random_below(3), .stride = outputs + random_below(3),
                           .scale_stride = outputs + random_below(2), .qmin = (int32_t)-random_below(9), .qmax = 1 + (int32_t)random_below(15),
                           .keep_zeros = (int32_t)random_below(2)};
    const int64_t rows = 1 + random_below(4);
    const float *m = floats(&m_memory, inputs, inputs, s.m_stride, at_end);
    float *w = floats(&w_memory, inputs, outputs, s.stride, at_end);
    float *outside = floats(&outside_memory, inputs, outputs, s.stride, at_end);
    float *scales = floats(&scale_memory, rows, outputs, s.scale_stride, at_end);
    float *zeros = random_below(2) ? floats(&zero_memory, rows, outputs, s.scale_stride, at_end) : NULL;
    int32_t groups[TP_FEEDBACK_BLOCK];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < outputs; j++) {
            scales[r * s.scale_stride + j] = 0.05f + fabsf(scales[r * s.scale_stride + j]);
            if (zeros) zeros[r * s.scale_stride + j] = (float)(s.qmin + random_below(s.qmax - s.qmin + 1));
        }
    for (int64_t i = 0; i < inputs; i++) {
        groups[i] = (int32_t)random_below(rows);
        for (int64_t j = 0; j < outputs; j++) {
            const int64_t kind = random_below(40), at = i * s.stride + j;
            if (kind < 6) w[at] = kind % 2 ? 0.0f : -0.0f;
            if (kind == 7) outside[at] = NAN;
            if (kind == 8) outside[at] = 1e30f;
            if (kind == 9) outside[at] = -INFINITY;
        }
    }
    const size_t size = inputs > 0 && outputs > 0 ? (size_t)((inputs - 1) * s.stride + outputs) : 0;
    float *start = malloc(size * 4 + 1), *want = malloc(size * 4 + 1), *wanted = malloc(size * 4 + 1);
    for (size_t i = 0; i < size; i++) start[i] = random_below(2) ? 0 : normal();
    memcpy(want, start, size * 4);
    int32_t *moving = calloc((size_t)outputs + 1, 4), *moved = malloc((size_t)outputs * 4 + 4);
    for (int64_t j = 0; j < outputs; j++)
        for (int64_t i = 0; i < inputs; i++) {
            const int64_t at = i * s.stride + j, g = groups[i] * s.scale_stride + j;
            float sum = 0;
            for (int64_t l = 0; l < i; l++) sum = fmaf(m[i * s.m_stride + l], wanted[l * s.stride + j], sum);
            const float inner = outside[at] + sum, t = s.keep_zeros && w[at] == 0 ? 0 : w[at] + inner, z = zeros ? zeros[g] : 0;
            const float code = nearbyintf(t / scales[g]) + z;
            const float q = !(code > (float)s.qmin) ? (float)s.qmin : code < (float)s.qmax ? code : (float)s.qmax;
            const float meant = (q - z) * scales[g], error = w[at] - meant;
            wanted[at] = error - start[at];
            moving[j] += memcmp(&error, &start[at], 4) != 0 && error != start[at];
            want[at] = error;
        }
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        float *e = guarded_take(&error_memory, size * 4, at_end), *change = guarded_take(&change_memory, size * 4, at_end);
        memcpy(e, start, size * 4);
        memset(change, 0xff, size * 4);
        const int64_t cut = random_below(outputs + 1);
        for (int64_t j = 0; j < outputs; j++) moved[j] = 5;
        CHECK(tp_feedback_round(&s, 0, cut, m, w, outside, groups, scales, zeros, e, change, moved) == TP_OK, "status");
        CHECK(tp_feedback_round(&s, cut, outputs, m, w, outside, groups, scales, zeros, e, change, moved) == TP_OK, "status");
        for (int64_t j = 0; j < outputs; j++)
            CHECK(moved[j] == 5 + moving[j], "tier %d, output %lld: %d moved, not %d", tier, (long long)j, moved[j] - 5, moving[j]);
        for (int64_t i = 0; i < inputs; i++)
            for (int64_t j = 0; j < outputs; j++) {
                const int64_t at = i * s.stride + j;
                CHECK(!memcmp(e + at, want + at, 4) && !memcmp(change + at, wanted + at, 4),
                      "tier %d, input %lld of %lld, output %lld of %lld: %g changed by %g, not %g by %g", tier, (long long)i, (long long)inputs,
                      (long long)j, (long long)outputs, e[at], change[at], want[at], wanted[at]);
            }
        for (int64_t i = 0; outputs > 0 && i + 1 < inputs; i++)
            for (int64_t j = outputs; j < s.stride; j++)
                CHECK(!memcmp(e + i * s.stride + j, start + i * s.stride + j, 4), "tier %d writes between rows", tier);
    }
    free(start);
    free(moving);
    free(moved);
    free(want);
    free(wanted);
}

static void check_refit(int64_t inputs, int64_t outputs) {
    const bool at_end = random_below(2);
    const tp_refit s = {.inputs = inputs, .outputs = outputs, .m_stride = inputs + random_below(3), .stride = outputs + random_below(3),
                        .mask_stride = (outputs + 7) / 8 + random_below(2)};
    const float *m = floats(&m_memory, inputs, inputs, s.m_stride, at_end), *w = floats(&w_memory, inputs, outputs, s.stride, at_end);
    float *outside = floats(&outside_memory, inputs, outputs, s.stride, at_end);
    uint8_t *mask = guarded_take(&scale_memory, inputs > 0 ? (size_t)((inputs - 1) * s.mask_stride + (outputs + 7) / 8) : 0, at_end);
    const size_t size = inputs > 0 && outputs > 0 ? (size_t)((inputs - 1) * s.stride + outputs) : 0;
    float *start = malloc(size * 4 + 1), *want = malloc(size * 4 + 1), *wanted = malloc(size * 4 + 1);
    for (size_t i = 0; i < size; i++) start[i] = normal();
    for (int64_t i = 0; i < inputs; i++)
        for (int64_t j = 0; j < outputs; j++) {
            const int64_t at = i * s.stride + j, kind = random_below(40);
            if (kind < 2) outside[at] = kind ? NAN : -0.0f;
            uint8_t *const byte = &mask[i * s.mask_stride + j / 8];
            *byte = (uint8_t)((j % 8 ? *byte & ~(1 << j % 8) : 0) | (int)random_below(2) << j % 8);
            float sum = 0;
            for (int64_t l = 0; l < i; l++) sum = fmaf(m[i * s.m_stride + l], wanted[l * s.stride + j], sum);
            const float inner = outside[at] + sum;
            want[at] = *byte >> j % 8 & 1 ? 0 - inner : w[at];
            wanted[at] = want[at] - start[at];
        }
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        float *e = guarded_take(&error_memory, size * 4, at_end), *change = guarded_take(&change_memory, size * 4, at_end);
        memcpy(e, start, size * 4);
        memset(change, 0xff, size * 4);
        const int64_t cut = random_below(outputs + 1) / 8 * 8;
        CHECK(tp_feedback_refit(&s, 0, cut, m, w, outside, mask, e, change) == TP_OK, "status");
        CHECK(tp_feedback_refit(&s, cut, outputs, m, w, outside, mask, e, change) == TP_OK, "status");
        for (int64_t i = 0; i < inputs; i++)
            for (int64_t j = 0; j < outputs; j++) {
                const int64_t at = i * s.stride + j;
                const bool nan = want[at] != want[at] || wanted[at] != wanted[at];
                CHECK(nan ? (e[at] != e[at]) == (want[at] != want[at]) && change[at] != change[at]
                          : !memcmp(e + at, want + at, 4) && !memcmp(change + at, wanted + at, 4),
                      "tier %d, input %lld of %lld, output %lld of %lld: %g changed by %g, not %g by %g", tier, (long long)i, (long long)inputs,
                      (long long)j, (long long)outputs, e[at], change[at], want[at], wanted[at]);
            }
        for (int64_t i = 0; outputs > 0 && i + 1 < inputs; i++)
            for (int64_t j = outputs; j < s.stride; j++)
                CHECK(!memcmp(e + i * s.stride + j, start + i * s.stride + j, 4), "tier %d writes between rows", tier);
    }
    free(start);
    free(want);
    free(wanted);
}

enum { K = 24, N = 5 };

static double loss(double h[K][K], float e[K][N]) {
    double sum = 0;
    for (int j = 0; j < N; j++)
        for (int i = 0; i < K; i++)
            for (int l = 0; l < K; l++) sum += (double)e[i][j] * h[i][l] * (double)e[l][j];
    return sum;
}

/* What the header says of the two methods, on inputs that are much alike. */
static void check_methods(void) {
    double h[K][K] = {{0}}, u[K][K] = {{0}};
    float x[64][K], w[K][N], m[K][K] = {{0}}, e[K][N] = {{0}}, change[K][N], outside[K][N] = {{0}}, scales[N], plain[K][N];
    int32_t groups[K] = {0};
    for (int r = 0; r < 64; r++) {
        const float common = 2 * normal();
        for (int i = 0; i < K; i++) x[r][i] = normal() + common;
    }
    for (int i = 0; i < K; i++)
        for (int l = 0; l < K; l++)
            for (int r = 0; r < 64; r++) h[i][l] += (double)x[r][i] * (double)x[r][l];
    for (int j = 0; j < N; j++) {
        scales[j] = 0.3f;
        for (int i = 0; i < K; i++) {
            w[i][j] = normal();
            plain[i][j] = w[i][j] - 0.3f * fmaxf(-7, fminf(7, rintf(w[i][j] / 0.3f)));
        }
    }
    for (int i = K - 1; i >= 0; i--) { /* U from its last column on */
        double d = h[i][i];
        for (int r = i + 1; r < K; r++) d -= u[i][r] * u[i][r];
        u[i][i] = sqrt(d);
        for (int l = 0; l < i; l++) {
            double sum = h[l][i];
            for (int r = i + 1; r < K; r++) sum -= u[l][r] * u[i][r];
            u[l][i] = sum / u[i][i];
        }
    }
    for (int i = 0; i < K; i++)
        for (int l = 0; l < i; l++) m[i][l] = (float)(u[l][i] / u[i][i]);
    const tp_feedback s = {.inputs = K, .outputs = N, .m_stride = K, .stride = N, .scale_stride = N, .qmin = -7, .qmax = 7};
    int32_t moved[N] = {0};
    CHECK(!tp_feedback_round(&s, 0, N, m[0], w[0], outside[0], groups, scales, NULL, e[0], change[0], moved), "status");
    double last = loss(h, e);
    CHECK(last < 0.8 * loss(h, plain), "GPTQ loses %g, rounding %g", last, loss(h, plain));
    for (int i = 0; i < K; i++)
        for (int l = 0; l < K; l++) m[i][l] = i == l ? 0 : (float)(h[i][l] / h[i][i]);
    for (int sweep = 0; sweep < 50; sweep++) {
        for (int i = 0; i < K; i++)
            for (int j = 0; j < N; j++) {
                outside[i][j] = 0;
                for (int l = 0; l < K; l++) outside[i][j] += m[i][l] * e[l][j];
            }
        memset(moved, 0, sizeof moved);
        CHECK(!tp_feedback_round(&s, 0, N, m[0], w[0], outside[0], groups, scales, NULL, e[0], change[0], moved), "status");
        int32_t all = 0;
        for (int j = 0; j < N; j++) all += moved[j];
        const double now = loss(h, e);
        CHECK(now <= last * (1 + 1e-5), "descent from %g to %g", last, now);
        CHECK(all == 0 || sweep < 49, "%d still move", all);
        last = now;
        if (all == 0) break;
    }
}

/* Half of the elements kept: descent ends where none of these alone can be better, and loses far less than zeros alone. */
static void check_pruning(void) {
    double h[K][K] = {{0}};
    float x[64][K], w[K][N], m[K][K], e[K][N], change[K][N], outside[K][N];
    uint8_t mask[K];
    for (int r = 0; r < 64; r++) {
        const float common = 2 * normal();
        for (int i = 0; i < K; i++) x[r][i] = normal() + common;
    }
    for (int i = 0; i < K; i++) {
        mask[i] = i % 2 ? 0x0b : 0x14;
        for (int l = 0; l < K; l++)
            for (int r = 0; r < 64; r++) h[i][l] += (double)x[r][i] * (double)x[r][l];
        for (int j = 0; j < N; j++) {
            w[i][j] = normal();
            e[i][j] = mask[i] >> j & 1 ? 0 : w[i][j];
        }
    }
    for (int i = 0; i < K; i++)
        for (int l = 0; l < K; l++) m[i][l] = i == l ? 0 : (float)(h[i][l] / h[i][i]);
    const tp_refit s = {.inputs = K, .outputs = N, .m_stride = K, .stride = N, .mask_stride = 1};
    const double zeros = loss(h, e);
    double last = zeros;
    for (int sweep = 0; sweep < 300; sweep++) {
        for (int i = 0; i < K; i++)
            for (int j = 0; j < N; j++) {
                outside[i][j] = 0;
                for (int l = 0; l < K; l++) outside[i][j] += m[i][l] * e[l][j];
            }
        CHECK(!tp_feedback_refit(&s, 0, N, m[0], w[0], outside[0], mask, e[0], change[0]), "status");
        const double now = loss(h, e);
        CHECK(now <= last * (1 + 1e-5), "descent from %g to %g", last, now);
        last = now;
    }
    CHECK(last < 0.5 * zeros, "%g of %g left", last, zeros);
    for (int i = 0; i < K; i++)
        for (int j = 0; j < N; j++) {
            double gradient = 0, size = 0;
            for (int l = 0; l < K; l++) {
                gradient += h[i][l] * (double)e[l][j];
                size += fabs(h[i][l] * (double)e[l][j]);
            }
            if (mask[i] >> j & 1) CHECK(fabs(gradient) < 1e-3 * size, "input %d of output %d: %g of %g", i, j, gradient, size);
            else CHECK(e[i][j] == w[i][j], "input %d of output %d is not 0", i, j);
        }
}

static void check_arguments(int tier) {
    use_tier(tier);
    all_on_host = true;
    const tp_feedback good = {.inputs = 1, .outputs = 1, .m_stride = 1, .stride = 1, .scale_stride = 1, .qmin = 0, .qmax = 15};
    float x = 0, y = 0, one = 1;
    int32_t group = 0;
    int32_t moved = 0;
#define ROUND(s, begin, end) tp_feedback_round(s, begin, end, &x, &x, &x, &group, &one, NULL, &x, &y, &moved)
    tp_feedback s = good;
    CHECK(ROUND(&s, 0, 1) == TP_OK, "good");
    CHECK(ROUND(NULL, 0, 1) == TP_ERR_ARGUMENT, "null");
    CHECK(ROUND(&s, 0, 2) == TP_ERR_RANGE && ROUND(&s, -1, 1) == TP_ERR_RANGE, "range");
    CHECK(tp_feedback_round(&s, 0, 1, &x, &x, NULL, &group, &one, NULL, &x, &y, &moved) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_feedback_round(&s, 1, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, &moved) == TP_OK && moved == 0, "empty");
    group = -1;
    CHECK(ROUND(&s, 0, 1) == TP_ERR_ARGUMENT, "group");
    group = 0;
    s.inputs = s.m_stride = TP_FEEDBACK_BLOCK + 1;
    CHECK(ROUND(&s, 0, 1) == TP_ERR_SHAPE, "block");
    s = good;
    s.stride = 0;
    CHECK(ROUND(&s, 0, 1) == TP_ERR_SHAPE, "stride");
    s = good;
    s.qmin = 15;
    CHECK(ROUND(&s, 0, 1) == TP_ERR_ARGUMENT, "codes");
    s = good;
    s.keep_zeros = 2;
    CHECK(ROUND(&s, 0, 1) == TP_ERR_ARGUMENT, "flag");
    const tp_refit fine = {.inputs = 1, .outputs = 9, .m_stride = 1, .stride = 9, .mask_stride = 2};
    float row[9] = {0}, out[9];
    uint8_t mask[2] = {0xff, 1};
#define REFIT(s, begin, end) tp_feedback_refit(s, begin, end, &x, row, row, mask, row, out)
    tp_refit r = fine;
    CHECK(REFIT(&r, 0, 9) == TP_OK && REFIT(&r, 8, 9) == TP_OK && REFIT(&r, 8, 8) == TP_OK, "good");
    CHECK(REFIT(NULL, 0, 9) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_feedback_refit(&r, 0, 9, &x, row, row, NULL, row, out) == TP_ERR_ARGUMENT, "null");
    if (on_cuda) CHECK(tp_cuda_feedback_round(NULL, &good, 0, 1, &x, &x, &x, &group, &one, NULL, &x, &y, &moved) == TP_ERR_ARGUMENT
                           && tp_cuda_feedback_refit(NULL, &r, 0, 9, &x, row, row, mask, row, out) == TP_ERR_ARGUMENT, "no device");
    CHECK(REFIT(&r, 1, 9) == TP_ERR_RANGE && REFIT(&r, 0, 10) == TP_ERR_RANGE, "range");
    r.inputs = r.m_stride = TP_FEEDBACK_BLOCK + 1;
    CHECK(REFIT(&r, 0, 9) == TP_ERR_SHAPE, "block");
    r = fine;
    r.inputs = 2;
    r.m_stride = 2;
    r.mask_stride = 1;
    CHECK(REFIT(&r, 0, 9) == TP_ERR_SHAPE, "stride of the mask");
    all_on_host = false;
}

int main(void) {
    test_start("feedback");
    guarded *const all[] = {&m_memory, &w_memory, &outside_memory, &scale_memory, &zero_memory, &error_memory, &change_memory};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) *all[i] = guarded_new(1 << 18);
    while (test_round()) {
        check_arguments(0);
        check_arguments(test_tiers);
        for (int tier = 0; tier < test_tiers; tier++) {
            use_tier(tier);
            check_methods();
            check_pruning();
        }
        static const int64_t some[] = {0, 1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 127, 128, 129, 200, 300};
        for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
            check_round(some[i] < 64 ? some[i] : 64, 1 + random_below(300));
            check_round(random_below(65), some[i]);
            check_refit(some[i] < 64 ? some[i] : 64, 1 + random_below(300));
            check_refit(random_below(65), some[i]);
            /* Long enough for pieces of a device that is short of memory. */
            check_round(1 + random_below(8), 300 + random_below(1000));
            check_refit(1 + random_below(8), 300 + random_below(1000));
        }
    }
    check_calls();
    return test_end();
}
