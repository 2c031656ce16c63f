/*
 * The statistics family against loops written from statistics.h, bit for bit on every tier and on a CUDA device. Every array ends or
 * starts at a page that cannot be touched, and ranges are cut at random.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_arrays.h"
#include "support.h"
#include "tensorpress/cuda/statistics.h"

enum { BINS = TP_STATISTICS_BINS, MOST = 1 << 18 };
static guarded in_memory, out_memory, min_memory, max_memory, sum_memory, square_memory;

/* ---- the same calls on the device ---- */

#define CUDA_CALL(call)                                                                                               \
    tp_status status;                                                                                                 \
    do status = call;                                                                                                 \
    while (short_of_memory(status));                                                                                  \
    return end_call(status)

static void *lent(const void *x, int64_t rows, int64_t cols, int64_t stride, int size, bool written) {
    return placed(x, !all_on_host && rows > 0 && cols > 0 ? (size_t)(((rows - 1) * stride + cols) * size) : 0, size, written);
}

static tp_status cuda_channels(int64_t rows, int64_t channels, int64_t stride, int64_t begin, int64_t end, const void *x, float *min, float *max,
                               double *sum, double *squares, int64_t *nonfinite) {
    start_call();
    x = lent(x, rows, channels, stride, 4, false);
    min = lent(min, 1, channels, 0, 4, true);
    max = lent(max, 1, channels, 0, 4, true);
    sum = lent(sum, 1, channels, 0, 8, true);
    squares = lent(squares, 1, channels, 0, 8, true);
    nonfinite = lent(nonfinite, 1, 1, 0, 8, true);
    CUDA_CALL(tp_cuda_observe_channels(test_cuda, rows, channels, stride, begin, end, x, min, max, sum, squares, nonfinite));
}

static tp_status cuda_histogram(int64_t rows, int64_t channels, int64_t stride, int64_t begin, int64_t end, const void *x, float width,
                                int64_t *counts) {
    start_call();
    x = lent(x, rows, channels, stride, 4, false);
    counts = lent(counts, 1, BINS, 0, 8, true);
    CUDA_CALL(tp_cuda_observe_histogram(test_cuda, rows, channels, stride, begin, end, x, width, counts));
}

static tp_status cuda_accumulate(int64_t rows, int64_t cols, int64_t in_stride, int64_t out_stride, int64_t begin, int64_t end, const float *in,
                                 double *out) {
    start_call();
    in = lent(in, rows, cols, in_stride, 4, false);
    out = lent(out, rows, cols, out_stride, 8, true);
    CUDA_CALL(tp_cuda_accumulate(test_cuda, rows, cols, in_stride, out_stride, begin, end, in, out));
}

static tp_status cuda_patches(const tp_window *w, int64_t begin, int64_t end, const void *image, float *out) {
    start_call();
    image = lent(image, w->channels * w->height, w->width, w->width, 4, false);
    out = lent(out, end - begin, w->channels * w->kernel_height * w->kernel_width, w->channels * w->kernel_height * w->kernel_width, 4, true);
    CUDA_CALL(tp_cuda_patches(test_cuda, w, begin, end, image, out));
}

/* From here on these names mean the tier at hand. */
#define tp_observe_channels(...) (on_cuda ? cuda_channels(__VA_ARGS__) : tp_observe_channels(__VA_ARGS__))
#define tp_observe_histogram(...) (on_cuda ? cuda_histogram(__VA_ARGS__) : tp_observe_histogram(__VA_ARGS__))
#define tp_accumulate(...) (on_cuda ? cuda_accumulate(__VA_ARGS__) : tp_accumulate(__VA_ARGS__))
#define tp_patches(...) (on_cuda ? cuda_patches(__VA_ARGS__) : tp_patches(__VA_ARGS__))

static float value(void) {
    const int64_t kind = random_below(30);
    if (kind < 2) return kind ? 0.0f : -0.0f;
    return (float)((random_unit() - 0.5) * ldexp(1, (int)random_below(12)));
}

/* [rows, cols] at any byte. */
static float *values(int64_t rows, int64_t cols, int64_t stride, bool at_end) {
    char *p = guarded_input(&in_memory, rows > 0 && cols > 0 ? (size_t)((rows - 1) * stride + cols) * 4 : 0, at_end, (int)random_below(4));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            const float x = value();
            memcpy(p + 4 * (r * stride + c), &x, 4);
        }
    return (float *)(void *)p;
}

static float get(const void *x, int64_t i) {
    float e;
    memcpy(&e, (const char *)x + 4 * i, 4);
    return e;
}

static void check_channels(int64_t rows, int64_t channels, bool finite) {
    const bool at_end = random_below(2);
    const int64_t stride = channels + random_below(3);
    void *x = values(rows, channels, stride, at_end);
    int64_t wrong = -1;
    if (!finite && rows > 0 && channels > 0) {
        wrong = random_below(rows * channels);
        for (int64_t i = wrong; i < rows * channels; i += 1 + random_below(50)) {
            const float e = random_below(2) ? NAN : random_below(2) ? INFINITY : -INFINITY;
            memcpy((char *)x + 4 * (i / channels * stride + i % channels), &e, 4);
        }
    }
    const size_t n = (size_t)channels;
    float *least = malloc(n * 4 + 1), *most = malloc(n * 4 + 1);
    double *sums = malloc(n * 8 + 1), *squares = malloc(n * 8 + 1);
    for (int64_t c = 0; c < channels; c++) {
        least[c] = random_below(2) ? INFINITY : value();
        most[c] = random_below(2) ? -INFINITY : value();
        sums[c] = value();
        squares[c] = value();
    }
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        float *min = guarded_take(&min_memory, n * 4, at_end), *max = guarded_take(&max_memory, n * 4, at_end);
        double *sum = guarded_take(&sum_memory, n * 8, at_end), *square = guarded_take(&square_memory, n * 8, at_end);
        memcpy(min, least, n * 4);
        memcpy(max, most, n * 4);
        memcpy(sum, sums, n * 8);
        memcpy(square, squares, n * 8);
        const int64_t cut = random_below(channels + 1);
        int64_t at[2] = {7, 7};
        CHECK(!tp_observe_channels(rows, channels, stride, cut, channels, x, min, max, sum, square, at + 1), "status");
        CHECK(!tp_observe_channels(rows, channels, stride, 0, cut, x, min, max, sum, square, at), "status");
        const int64_t first = at[0] < 0 || (at[1] >= 0 && at[1] < at[0]) ? at[1] : at[0];
        CHECK(first == wrong, "tier %d: %lld is not finite, not %lld", tier, (long long)first, (long long)wrong);
        if (wrong >= 0) continue;
        for (int64_t c = 0; c < channels; c++) {
            float low = least[c], high = most[c];
            double s = sums[c], q = squares[c];
            for (int64_t r = 0; r < rows; r++) {
                const float e = get(x, r * stride + c);
                if (e < low) low = e;
                if (e > high) high = e;
                s += e;
                q += (double)e * e;
            }
            CHECK(!memcmp(&low, min + c, 4) && !memcmp(&high, max + c, 4) && !memcmp(&s, sum + c, 8) && !memcmp(&q, square + c, 8),
                  "tier %d, channel %lld of %lld: %g %g %g %g", tier, (long long)c, (long long)channels, min[c], max[c], sum[c], square[c]);
        }
    }
    free(least);
    free(most);
    free(sums);
    free(squares);
}

static void check_histogram(int64_t rows, int64_t channels) {
    const bool at_end = random_below(2);
    const int64_t stride = channels + random_below(3);
    void *x = values(rows, channels, stride, at_end);
    static const float special[] = {NAN, INFINITY, -INFINITY, 1e-40f, -1e-40f, 3e38f};
    for (int64_t i = 0; rows > 0 && i < channels; i += 17)
        memcpy((char *)x + 4 * i, special + random_below(6), 4);
    const float width = ldexpf(1, random_below(4) ? (int)random_below(12) - 8 : random_below(2) ? -126 : 126);
    static int64_t want[BINS], counts[BINS];
    memset(want, 0, sizeof want);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < channels; c++) {
            const float e = get(x, r * stride + c);
            const double bin = floor((double)(float)((double)e / width)) + BINS / 2;
            want[!(bin > 0) ? 0 : bin < BINS ? (int)bin : BINS - 1]++;
        }
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        memset(counts, 0, sizeof counts);
        const int64_t cut = random_below(rows + 1);
        CHECK(!tp_observe_histogram(rows, channels, stride, 0, cut, x, width, counts), "status");
        CHECK(!tp_observe_histogram(rows, channels, stride, cut, rows, x, width, counts), "status");
        for (int b = 0; b < BINS; b++)
            CHECK(counts[b] == want[b], "tier %d, bin %d of width %g: %lld, not %lld", tier, b, width, (long long)counts[b], (long long)want[b]);
    }
}

static void check_accumulate(int64_t rows, int64_t cols) {
    const bool at_end = random_below(2);
    const int64_t in_stride = cols + random_below(3), stride = cols + random_below(3);
    const size_t n = rows > 0 && cols > 0 ? (size_t)((rows - 1) * stride + cols) : 0;
    float *in = guarded_take(&min_memory, rows > 0 && cols > 0 ? (size_t)((rows - 1) * in_stride + cols) * 4 : 0, at_end);
    double *start = malloc(n * 8 + 1);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) in[r * in_stride + c] = value();
    for (size_t i = 0; i < n; i++) start[i] = value();
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        double *out = guarded_take(&sum_memory, n * 8, at_end);
        memcpy(out, start, n * 8);
        const int64_t cut = random_below(rows + 1);
        CHECK(!tp_accumulate(rows, cols, in_stride, stride, 0, cut, in, out), "status");
        CHECK(!tp_accumulate(rows, cols, in_stride, stride, cut, rows, in, out), "status");
        for (size_t i = 0; i < n; i++) {
            const int64_t r = (int64_t)i / stride, c = (int64_t)i % stride;
            const double sum = c < cols ? start[i] + in[r * in_stride + c] : start[i];
            CHECK(!memcmp(out + i, &sum, 8), "tier %d, row %lld, column %lld: %g, not %g", tier, (long long)r, (long long)c, out[i], sum);
        }
    }
    free(start);
}

/* By scattering: each element of the image goes to the patches that see it. */
static void check_patches(void) {
    const bool at_end = random_below(2);
    const tp_window w = {.channels = random_below(4), .height = random_below(9), .width = random_below(40),
                         .kernel_height = 1 + (int32_t)random_below(4), .kernel_width = 1 + (int32_t)random_below(4),
                         .stride_height = 1 + (int32_t)random_below(3), .stride_width = 1 + (int32_t)random_below(3),
                         .dilation_height = 1 + (int32_t)random_below(2), .dilation_width = 1 + (int32_t)random_below(2),
                         .before_height = (int32_t)random_below(3), .before_width = (int32_t)random_below(3),
                         .after_height = (int32_t)random_below(3), .after_width = (int32_t)random_below(3)};
    const void *image = values(w.channels * w.height, w.width, w.width, at_end);
    int64_t down = 0, across = 0, positions = -1;
    while ((down * w.stride_height) + (w.kernel_height - 1) * w.dilation_height < w.height + w.before_height + w.after_height) down++;
    while ((across * w.stride_width) + (w.kernel_width - 1) * w.dilation_width < w.width + w.before_width + w.after_width) across++;
    CHECK(!tp_patches_count(&w, &positions) && positions == down * across, "%lld positions, not %lld by %lld", (long long)positions,
          (long long)down, (long long)across);
    const int64_t length = w.channels * w.kernel_height * w.kernel_width;
    float *want = calloc((size_t)(positions * length) + 1, 4);
    for (int64_t c = 0; c < w.channels; c++)
        for (int64_t y = 0; y < w.height; y++)
            for (int64_t x = 0; x < w.width; x++)
                for (int64_t p = 0; p < positions; p++)
                    for (int i = 0; i < w.kernel_height; i++)
                        for (int j = 0; j < w.kernel_width; j++)
                            if (p / across * w.stride_height + i * w.dilation_height == y + w.before_height
                                && p % across * w.stride_width + j * w.dilation_width == x + w.before_width)
                                want[p * length + (c * w.kernel_height + i) * w.kernel_width + j] = get(image, (c * w.height + y) * w.width + x);
    const int64_t begin = random_below(positions + 1), end = begin + random_below(positions - begin + 1);
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        float *out = guarded_take(&out_memory, (size_t)((end - begin) * length) * 4, at_end);
        CHECK(!tp_patches(&w, begin, end, image, out), "status");
        CHECK(!memcmp(out, want + begin * length, (size_t)((end - begin) * length) * 4), "tier %d: patches [%lld, %lld) of %lld", tier,
              (long long)begin, (long long)end, (long long)positions);
    }
    free(want);
}

static void check_arguments(int tier) {
    use_tier(tier);
    all_on_host = true;
    float x = 1, min = 0, max = 0;
    double sum = 0, squares = 0;
    int64_t at = 0, counts[BINS] = {0};
#define OBSERVE(rows, channels, stride, begin, end, x) \
    tp_observe_channels(rows, channels, stride, begin, end, x, &min, &max, &sum, &squares, &at)
    CHECK(OBSERVE(1, 1, 1, 0, 1, &x) == TP_OK && at == -1, "good");
    CHECK(OBSERVE(0, 1, 1, 0, 1, NULL) == TP_OK && OBSERVE(1, 1, 1, 1, 1, NULL) == TP_OK, "empty");
    CHECK(OBSERVE(1, 1, 1, 0, 1, NULL) == TP_ERR_ARGUMENT, "null");
    CHECK(OBSERVE(1, 2, 1, 0, 1, &x) == TP_ERR_SHAPE && OBSERVE(-1, 1, 1, 0, 1, &x) == TP_ERR_SHAPE, "shape");
    CHECK(OBSERVE(1, 1, 1, 0, 2, &x) == TP_ERR_RANGE, "range");
    CHECK(tp_observe_channels(1, 1, 1, 0, 1, &x, &min, &max, &sum, &squares, NULL) == TP_ERR_ARGUMENT, "null");
    static const float widths[] = {0, -1, 3, NAN, INFINITY, 0x1p127f, 0x1p-127f};
    for (int i = 0; i < 7; i++) CHECK(tp_observe_histogram(1, 1, 1, 0, 1, &x, widths[i], counts) == TP_ERR_ARGUMENT, "width %g", widths[i]);
    CHECK(tp_observe_histogram(1, 1, 1, 0, 2, &x, 1, counts) == TP_ERR_RANGE, "range");
    CHECK(tp_observe_histogram(1, 1, 1, 0, 1, &x, 1, NULL) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_accumulate(1, 2, 2, 1, 0, 1, &x, &sum) == TP_ERR_SHAPE && tp_accumulate(1, 2, 1, 2, 0, 1, &x, &sum) == TP_ERR_SHAPE, "shape");
    CHECK(tp_accumulate(1, 1, 1, 1, 0, 2, &x, &sum) == TP_ERR_RANGE && tp_accumulate(1, 1, 1, 1, 0, 1, NULL, &sum) == TP_ERR_ARGUMENT, "range, null");
    const tp_window good = {1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0};
    CHECK(tp_patches(&good, 0, 1, &x, &min) == TP_OK && min == 1, "good");
    CHECK(tp_patches(&good, 0, 2, &x, &min) == TP_ERR_RANGE && tp_patches(&good, 0, 1, NULL, &min) == TP_ERR_ARGUMENT, "range, null");
    CHECK(tp_patches_count(&good, NULL) == TP_ERR_ARGUMENT && tp_patches_count(NULL, &at) == TP_ERR_ARGUMENT, "null");
    tp_window w = good;
    w.stride_width = 0;
    CHECK(tp_patches_count(&w, &at) == TP_ERR_SHAPE, "stride");
    w = good;
    w.after_height = -1;
    CHECK(tp_patches_count(&w, &at) == TP_ERR_SHAPE, "pad");
    w = good;
    w.before_height = w.before_width = w.after_height = w.after_width = INT32_MAX;
    CHECK(tp_patches_count(&w, &at) == TP_ERR_SHAPE, "positions");
    w = good;
    w.kernel_height = w.kernel_width = INT32_MAX;
    CHECK(tp_patches_count(&w, &at) == TP_ERR_SHAPE, "kernel");
    w = good;
    w.kernel_width = 2;
    CHECK(tp_patches_count(&w, &at) == TP_OK && at == 0, "a window larger than its image");
    if (on_cuda) CHECK(tp_cuda_observe_channels(NULL, 1, 1, 1, 0, 1, &x, &min, &max, &sum, &squares, &at) == TP_ERR_ARGUMENT
                           && tp_cuda_observe_histogram(NULL, 1, 1, 1, 0, 1, &x, 1, counts) == TP_ERR_ARGUMENT
                           && tp_cuda_accumulate(NULL, 1, 1, 1, 1, 0, 1, &x, &sum) == TP_ERR_ARGUMENT
                           && tp_cuda_patches(NULL, &good, 0, 1, &x, &min) == TP_ERR_ARGUMENT, "no device");
    all_on_host = false;
}

int main(void) {
    test_start("statistics");
    guarded *const all[] = {&in_memory, &out_memory, &min_memory, &max_memory, &sum_memory, &square_memory};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) *all[i] = guarded_new(MOST * 8);
    while (test_round()) {
        check_arguments(0);
        check_arguments(test_tiers);
        static const int64_t some[] = {0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 130};
        for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
            for (int finite = 0; finite < 2; finite++) {
                check_channels(random_below(70), some[i], finite);
                check_channels(some[i], 1 + random_below(200), finite);
            }
            check_histogram(random_below(20), some[i]);
            check_accumulate(random_below(20), some[i]);
            /* Long enough for pieces of a device that is short of memory. */
            check_channels(random_below(20), 300 + random_below(700), true);
            check_accumulate(random_below(40), 200 + random_below(200));
        }
        for (int i = 0; i < 300; i++) check_patches();
    }
    check_calls();
    return test_end();
}
