/*
 * Speed of the prune kernels beside tp_stream_read of the same f32 matrix, with the same number of threads, all in one
 * run: every round runs everything once, and the ratio is the median of the rounds' ratios. The k-th largest magnitude is
 * checked by counting before anything is timed. Not a test. With HUGE_PAGES set, memory has large pages.
 *
 *     bench_prune [size [threads [rounds [name]]]]
 */
#define _DEFAULT_SOURCE
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "tensorpress/prune.h"
#include "tensorpress/quantize.h"

enum { READ, SELECT, DIGIT, COUNT, MASK, LINES, NM, BLOCKS, APPLY, ERROR };
enum { GAUSSIAN, EQUAL, BITS, FEW, FILLS };

typedef struct benchmark {
    const char *name;
    int what, fill;
    tp_dtype type;
    int32_t order;
    int64_t a, b; /* digit; axis and k; axis, n * 100 + m; block sizes */
} benchmark;

static int64_t size = 4096;
static int threads = 2;
static void *in[FILLS][4]; /* by fill and type */
static float *out;
static uint8_t *mask;
static tp_error *errors;
static void *scratch[64];
static uint32_t threshold;

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
    int32_t digit;
    uint32_t prefix;
    int64_t counts[TP_PRUNE_COUNTS];
} job;

static void *work(void *argument) {
    job *j = argument;
    const benchmark *b = j->b;
    int64_t from = size * j->index / threads, to = size * (j->index + 1) / threads;
    const void *x = in[b->fill][b->type];
    const tp_scores s = {size, size, size, b->type, b->order};
    tp_status status = TP_OK;
    uint64_t sum;
    int64_t larger, equal;
    switch (b->what) {
    case READ: status = tp_stream_read((const float *)x + from * size, (to - from) * size * 4, &sum); break;
    case SELECT:
    case DIGIT:
        memset(j->counts, 0, sizeof j->counts);
        status = tp_prune_histogram(&s, from, to, x, j->digit, j->prefix, j->counts);
        break;
    case COUNT: status = tp_prune_count(&s, from, to, x, threshold, &larger, &equal); break;
    case MASK: status = tp_prune_mask(&s, from, to, x, threshold, size / 2, 5, mask); break;
    case LINES: status = tp_prune_lines(&s, (int32_t)b->a, from, to, x, b->b, mask, scratch[j->index]); break;
    case NM: {
        const int32_t m = (int32_t)(b->b % 100);
        const int64_t groups = (size + m - 1) / m;
        if (b->a == 0) from = groups * j->index / threads, to = groups * (j->index + 1) / threads;
        status = tp_prune_nm(&s, (int32_t)b->a, from, to, x, (int32_t)(b->b / 100), m, mask);
        break;
    }
    case BLOCKS: {
        const int64_t blocks = (size + b->a - 1) / b->a;
        status = tp_prune_blocks(&s, b->a, b->b, blocks * j->index / threads, blocks * (j->index + 1) / threads, x, out);
        break;
    }
    case APPLY: status = tp_prune_apply(&s, from, to, x, mask, out); break;
    case ERROR: status = tp_prune_error(&s, from, to, x, in[FEW][b->type], errors + from); break;
    }
    if (status) {
        printf("%s: %s\n", b->name, tp_status_name(status));
        exit(1);
    }
    return NULL;
}

static job jobs[64];

static void run_all(const benchmark *b, int32_t digit, uint32_t prefix) {
    pthread_t thread[64];
    for (int i = 0; i < threads; i++) {
        jobs[i].b = b;
        jobs[i].index = i;
        jobs[i].digit = digit;
        jobs[i].prefix = prefix;
        if (i + 1 < threads)
            pthread_create(&thread[i], NULL, work, &jobs[i]);
        else
            work(&jobs[i]);
    }
    for (int i = 0; i + 1 < threads; i++) pthread_join(thread[i], NULL);
}

/* The key of the k-th largest element, as a caller finds it. */
static uint32_t select_key(const benchmark *b, int64_t k) {
    uint32_t key = 0;
    for (int32_t digit = 0; digit < TP_PRUNE_DIGITS; digit++) {
        run_all(b, digit, key);
        int d = TP_PRUNE_COUNTS;
        int64_t count;
        do {
            d--;
            count = 0;
            for (int i = 0; i < threads; i++) count += jobs[i].counts[d];
            if (count < k) k -= count;
            else break;
        } while (d > 0);
        key |= (uint32_t)d << (digit == 0 ? 21 : digit == 1 ? 10 : 0);
    }
    return key;
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double run(const benchmark *b) {
    const double start = seconds();
    if (b->what == SELECT)
        select_key(b, size * size / 2);
    else
        run_all(b, (int32_t)b->a, threshold);
    return seconds() - start;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void fill_all(void) {
    const int64_t n = size * size;
    uint64_t state = 1;
    for (int f = 0; f < FILLS; f++) {
        float *x = in[f][TP_F32] = memory((size_t)n * 4);
        for (int64_t i = 0; i < n; i++) {
            float sum = 0;
            for (int k = 0; k < 6; k++) {
                state = state * 6364136223846793005u + 1442695040888963407u;
                sum += (float)(state >> 40) * 0x1p-24f - 0.5f;
            }
            x[i] = f == EQUAL ? 0.25f : f == FEW ? (float)(int)(3 * sum) : 0.05f * sum;
            if (f == BITS) {
                const uint32_t bits = (uint32_t)(state >> 32);
                memcpy(&x[i], &bits, 4);
                if (!isfinite(x[i])) x[i] = 1;
            }
        }
        for (tp_dtype type = TP_F16; type <= TP_BF16; type++) {
            in[f][type] = memory((size_t)n * 2);
            tp_convert(TP_F32, x, n, type, in[f][type]);
        }
    }
}

int main(int argc, char **argv) {
    if (argc > 1) size = atoll(argv[1]);
    if (argc > 2) threads = atoi(argv[2]);
    const int rounds = argc > 3 ? atoi(argv[3]) : 11;
    const char *only = argc > 4 ? argv[4] : "";
    if (size < 512 || size % 512 || threads < 1 || threads > 32 || rounds < 1 || rounds > 100) return 2;
    const int64_t n = size * size;
    const int32_t magnitude = TP_ORDER_MAGNITUDE, value = TP_ORDER_VALUE;
    const benchmark all[] = {
        {"stream_read", READ, GAUSSIAN, TP_F32, magnitude, 0, 0},
        {"select", SELECT, GAUSSIAN, TP_F32, magnitude, 0, 0},
        {"select by value", SELECT, GAUSSIAN, TP_F32, value, 0, 0},
        {"select, all equal", SELECT, EQUAL, TP_F32, magnitude, 0, 0},
        {"select, few values", SELECT, FEW, TP_F32, magnitude, 0, 0},
        {"select, random bits", SELECT, BITS, TP_F32, magnitude, 0, 0},
        {"select f16", SELECT, GAUSSIAN, TP_F16, magnitude, 0, 0},
        {"select bf16", SELECT, GAUSSIAN, TP_BF16, magnitude, 0, 0},
        {"digit 0", DIGIT, GAUSSIAN, TP_F32, magnitude, 0, 0},
        {"digit 1", DIGIT, GAUSSIAN, TP_F32, magnitude, 1, 0},
        {"digit 2", DIGIT, GAUSSIAN, TP_F32, magnitude, 2, 0},
        {"count", COUNT, GAUSSIAN, TP_F32, magnitude, 0, 0},
        {"mask", MASK, GAUSSIAN, TP_F32, magnitude, 0, 0},
        {"mask f16", MASK, GAUSSIAN, TP_F16, magnitude, 0, 0},
        {"2:4 of rows", NM, GAUSSIAN, TP_F32, magnitude, 1, 204},
        {"2:4 of columns", NM, GAUSSIAN, TP_F32, magnitude, 0, 204},
        {"4:8 of rows", NM, GAUSSIAN, TP_F32, magnitude, 1, 408},
        {"4:8 of columns", NM, GAUSSIAN, TP_F32, magnitude, 0, 408},
        {"4:16 of rows", NM, GAUSSIAN, TP_F32, magnitude, 1, 416},
        {"rows, half", LINES, GAUSSIAN, TP_F32, magnitude, 1, size / 2},
        {"rows, 1/16", LINES, GAUSSIAN, TP_F32, magnitude, 1, size / 16},
        {"rows, few values", LINES, FEW, TP_F32, magnitude, 1, size / 2},
        {"columns, half", LINES, GAUSSIAN, TP_F32, magnitude, 0, size / 2},
        {"blocks 1 x 4", BLOCKS, GAUSSIAN, TP_F32, magnitude, 1, 4},
        {"blocks 4 x 4", BLOCKS, GAUSSIAN, TP_F32, magnitude, 4, 4},
        {"blocks 32 x 32", BLOCKS, GAUSSIAN, TP_F32, magnitude, 32, 32},
        {"blocks 1 x cols", BLOCKS, GAUSSIAN, TP_F32, magnitude, 1, size},
        {"blocks 16 x 16 f16", BLOCKS, GAUSSIAN, TP_F16, magnitude, 16, 16},
        {"apply", APPLY, GAUSSIAN, TP_F32, magnitude, 0, 0},
        {"apply f16", APPLY, GAUSSIAN, TP_F16, magnitude, 0, 0},
        {"error", ERROR, GAUSSIAN, TP_F32, magnitude, 0, 0},
    };
    enum { COUNT_ALL = sizeof all / sizeof *all };

    fill_all();
    out = memory((size_t)n * 4);
    mask = memory((size_t)n / 8);
    errors = memory((size_t)size * sizeof *errors);
    for (int i = 0; i < threads; i++) {
        const tp_scores s = {size, size, size, TP_F32, magnitude};
        int64_t bytes;
        tp_prune_lines_scratch(&s, 0, &bytes);
        scratch[i] = memory((size_t)bytes);
    }
    uint32_t *keys = memory((size_t)n * 4);
    for (int f = 0; f < FILLS; f++) {
        const benchmark b = {"check", SELECT, f, TP_F32, magnitude, 0, 0};
        memcpy(keys, in[f][TP_F32], (size_t)n * 4);
        for (int64_t i = 0; i < n; i++) keys[i] <<= 1;
        const uint32_t found = select_key(&b, n / 2);
        int64_t larger = 0, equal = 0;
        for (int64_t i = 0; i < n; i++) larger += keys[i] > found, equal += keys[i] == found;
        if (larger >= n / 2 || larger + equal < n / 2) return printf("fill %d: %08x is not the k-th key\n", f, found), 1;
        if (f == GAUSSIAN) threshold = found;
    }

    tp_tier tier = -1;
    tp_active_tier(&tier);
    static double times[COUNT_ALL][100];
    for (int r = -1; r < rounds; r++) {
        for (int i = 0; i < COUNT_ALL; i++) {
            if (i && !strstr(all[i].name, only)) continue;
            const double t = run(&all[i]);
            if (r >= 0) times[i][r] = t;
        }
    }
    printf("tier %s, %lld x %lld, %d threads, medians of %d\n", tp_tier_name(tier), (long long)size, (long long)size,
           threads, rounds);
    for (int i = 0; i < COUNT_ALL; i++) {
        double ratios[100];
        if (times[i][0] == 0) continue;
        for (int r = 0; r < rounds; r++) ratios[r] = times[i][r] / times[0][r];
        qsort(ratios, (size_t)rounds, sizeof(double), ascending);
        qsort(times[i], (size_t)rounds, sizeof(double), ascending);
        const double bytes = (double)n * (all[i].type == TP_F32 ? 4 : 2);
        printf("%-22s %8.2f ms %7.1f GB/s   time / stream_read %6.2f   (best %.2f ms)\n", all[i].name,
               1e3 * times[i][rounds / 2], 1e-9 * bytes / times[i][rounds / 2], ratios[rounds / 2], 1e3 * times[i][0]);
    }
    return 0;
}
