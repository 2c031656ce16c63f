/*
 * Speed of the quantize kernels as ratios to tp_stream_narrow, with the same number of threads, all in one run: every
 * round runs everything once, and the ratio is the median of the rounds' ratios. What is timed is the processor time of
 * the thread that takes most, so that other work on the machine counts little. Not a test. With HUGE_PAGES set, memory
 * has large pages.
 *
 *     bench_quantize [size [threads [rounds [name]]]]
 */
#define _DEFAULT_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "tensorpress/quantize.h"

typedef struct benchmark {
    const char *name;
    tp_quant q;
    int what; /* 0 stream_narrow, 1 stream_read, 2 quantize, 3 dequantize, 4 error */
} benchmark;

enum { NARROW, READ, QUANTIZE, DEQUANTIZE, ERROR };

static int64_t size = 8192;
static int threads = 1;
static float *in, *out;
static uint16_t *half;
static uint8_t *codes, *zeros;
static float *scales;
static tp_error *errors;
static void *scratch[64];

static void *memory(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) abort();
    if (getenv("HUGE_PAGES")) madvise(p, bytes, MADV_HUGEPAGE);
    memset(p, 1, bytes);
    return p;
}

typedef struct job {
    const benchmark *b;
    int index;
    double seconds;
} job;

static double processor_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *work(void *argument) {
    job *j = argument;
    const benchmark *b = j->b;
    const double start = processor_time();
    const int64_t from = size * j->index / threads / 64 * 64, to = size * (j->index + 1) / threads / 64 * 64;
    const void *x = b->q.in_type == TP_F32 ? (void *)in : half;
    tp_status status = TP_OK;
    uint64_t sum;
    switch (b->what) {
    case NARROW: status = tp_stream_narrow(in + from * size, (to - from) * size, codes + from * size); break;
    case READ: status = tp_stream_read(in + from * size, (to - from) * size * 4, &sum); break;
    case QUANTIZE: status = tp_quantize(&b->q, from, to, x, codes, scales, zeros, scratch[j->index]); break;
    case DEQUANTIZE: status = tp_dequantize(&b->q, from, to, codes, scales, zeros, out); break;
    case ERROR: status = tp_quantize_error(&b->q, from, to, x, codes, scales, zeros, errors + from); break;
    }
    if (status) {
        printf("%s: %s\n", b->name, tp_status_name(status));
        exit(1);
    }
    j->seconds = processor_time() - start;
    return NULL;
}

static double run(const benchmark *b) {
    pthread_t thread[64];
    job jobs[64];
    double longest = 0;
    for (int i = 0; i < threads; i++) {
        jobs[i] = (job){b, i, 0};
        if (i + 1 < threads)
            pthread_create(&thread[i], NULL, work, &jobs[i]);
        else
            work(&jobs[i]);
    }
    for (int i = 0; i + 1 < threads; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < threads; i++) longest = jobs[i].seconds > longest ? jobs[i].seconds : longest;
    return longest;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static tp_quant spec(int64_t group_rows, int64_t group_cols, tp_dtype out_type, int range, int layout, int clip) {
    const int bits = out_type == TP_I8 || out_type == TP_U8 ? 8 : 4;
    const bool is_signed = out_type == TP_I8 || out_type == TP_I4;
    const int low = is_signed ? -(1 << (bits - 1)) : 0;
    return (tp_quant){.rows = size, .cols = size, .in_stride = size, .out_stride = size, .group_rows = group_rows,
                      .group_cols = group_cols, .in_type = TP_F32, .out_type = out_type, .scale_type = TP_F32,
                      .qmin = low + (is_signed && range == TP_RANGE_ABSMAX), .qmax = low + (1 << bits) - 1,
                      .range = range, .rounding = TP_ROUND_DIVIDE, .layout = layout, .clip_steps = clip,
                      .clip_min = 0.5f};
}

int main(int argc, char **argv) {
    if (argc > 1) size = atoll(argv[1]);
    if (argc > 2) threads = atoi(argv[2]);
    const int rounds = argc > 3 ? atoi(argv[3]) : 15;
    const char *only = argc > 4 ? argv[4] : "";
    if (size < 64 || size % 64 || threads < 1 || threads > 64 || rounds < 1 || rounds > 100) return 2;
    const int64_t n = size;

    benchmark all[] = {
        {"stream_narrow", {.in_type = TP_F32}, NARROW},
        {"stream_read", {.in_type = TP_F32}, READ},
        {"i8 per row", spec(1, n, TP_I8, TP_RANGE_ABSMAX, 0, 0), QUANTIZE},
        {"i8 per row, multiply", spec(1, n, TP_I8, TP_RANGE_ABSMAX, 0, 0), QUANTIZE},
        {"u8 per row, minmax", spec(1, n, TP_U8, TP_RANGE_MINMAX, 0, 0), QUANTIZE},
        {"i8 per row from f16", spec(1, n, TP_I8, TP_RANGE_ABSMAX, 0, 0), QUANTIZE},
        {"i8 per column", spec(n, 1, TP_I8, TP_RANGE_ABSMAX, 0, 0), QUANTIZE},
        {"u8 per column, minmax", spec(n, 1, TP_U8, TP_RANGE_MINMAX, 0, 0), QUANTIZE},
        {"i8 per column, given", spec(n, 1, TP_I8, TP_SCALES_GIVEN, 0, 0), QUANTIZE},
        {"u4 blocks of row", spec(1, 32, TP_U4, TP_RANGE_MINMAX, 0, 0), QUANTIZE},
        {"u4 blocks of row, clip 20", spec(1, 32, TP_U4, TP_RANGE_MINMAX, 0, 20), QUANTIZE},
        {"u4 blocks of row, clip 20 by importance", spec(1, 32, TP_U4, TP_RANGE_MINMAX, 0, 20), QUANTIZE},
        {"u4 blocks of row, clip 16", spec(1, 32, TP_U4, TP_RANGE_MINMAX, 0, 16), QUANTIZE},
        {"u4 blocks of column", spec(32, 1, TP_U4, TP_RANGE_MINMAX, 0, 0), QUANTIZE},
        {"u4 blocks transposed", spec(32, 1, TP_U4, TP_RANGE_MINMAX, 1, 0), QUANTIZE},
        {"u4 blocks transposed, clip 20", spec(32, 1, TP_U4, TP_RANGE_MINMAX, 1, 20), QUANTIZE},
        {"u4 blocks transposed, clip 20 by importance", spec(32, 1, TP_U4, TP_RANGE_MINMAX, 1, 20), QUANTIZE},
        {"i8 per column transposed", spec(n, 1, TP_I8, TP_RANGE_ABSMAX, 1, 0), QUANTIZE},
        {"dequantize i8 per row", spec(1, n, TP_I8, TP_RANGE_ABSMAX, 0, 0), DEQUANTIZE},
        {"dequantize u4 transposed", spec(32, 1, TP_U4, TP_RANGE_MINMAX, 1, 0), DEQUANTIZE},
        {"error i8 per row", spec(1, n, TP_I8, TP_RANGE_ABSMAX, 0, 0), ERROR},
        {"error i8 per column", spec(n, 1, TP_I8, TP_RANGE_ABSMAX, 0, 0), ERROR},
        {"error u4 transposed", spec(32, 1, TP_U4, TP_RANGE_MINMAX, 1, 0), ERROR},
    };
    enum { COUNT = sizeof all / sizeof *all };
    all[3].q.rounding = TP_ROUND_MULTIPLY;
    all[5].q.in_type = TP_F16;
    float *importance = memory((size_t)n * 4);
    for (int64_t i = 0; i < n; i++) importance[i] = 1 + (float)(i % 7);
    for (int i = 0; i < COUNT; i++) {
        if (!strstr(all[i].name, "by importance")) continue;
        all[i].q.importance = importance;
        all[i].q.importance_parts = all[i].q.group_rows == 1;
    }

    in = memory((size_t)(n * n) * 4);
    out = memory((size_t)(n * n) * 4);
    half = memory((size_t)(n * n) * 2);
    codes = memory((size_t)(n * n));
    scales = memory((size_t)(n * n) / 4);
    zeros = memory((size_t)(n * n) / 16);
    errors = memory((size_t)n * sizeof *errors);
    uint64_t state = 1;
    for (int64_t i = 0; i < n * n; i++) {
        float sum = 0;
        for (int k = 0; k < 3; k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            sum += (float)(state >> 40) * 0x1p-24f - 0.5f;
        }
        in[i] = sum;
    }
    for (int64_t i = 0; i < n * n / 16; i++) scales[i] = 0.01f, zeros[i] = 0;
    tp_convert(TP_F32, in, n * n, TP_F16, half);
    for (int i = 0; i < threads; i++) scratch[i] = memory((size_t)n * 4096);

    tp_tier tier = -1;
    tp_active_tier(&tier);
    static double times[COUNT][100];
    for (int r = -1; r < rounds; r++) {
        for (int i = 0; i < COUNT; i++) {
            if (i && !strstr(all[i].name, only)) continue;
            const double t = run(&all[i]);
            if (r >= 0) times[i][r] = t;
        }
    }
    printf("tier %s, %lld x %lld, %d threads, medians of %d\n", tp_tier_name(tier), (long long)n, (long long)n, threads,
           rounds);
    for (int i = COUNT - 1; i >= 0; i--) {
        double ratios[100];
        if (times[i][0] == 0) continue;
        for (int r = 0; r < rounds; r++) ratios[r] = times[0][r] / times[i][r];
        qsort(ratios, (size_t)rounds, sizeof(double), ascending);
        qsort(times[i], (size_t)rounds, sizeof(double), ascending);
        printf("%-44s %8.2f ms   speed / stream_narrow %.3f   (best %.2f ms)\n", all[i].name,
               1e3 * times[i][rounds / 2], ratios[rounds / 2], 1e3 * times[i][0]);
    }
    return 0;
}
