/*
 * Speed of the spmm kernels on random matrices, lines cut into as many ranges of about equal units as there are threads.
 * For n = 1 also the ratio to tp_stream_read over the bytes of the matrix, in alternation. Medians. A single
 * thread is timed by the processor time it takes, several by the clock. Results are compared with the reference first.
 * Not a test. With HUGE_PAGES set, memory has large pages.
 *
 *     bench_spmm [size [threads [rounds [part of a name, such as "f32 csr16 90% n=128 "]]]]
 */
#define _DEFAULT_SOURCE
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "spmm/kernels.h"

typedef struct layout {
    const char *name;
    int32_t layout;
    int64_t block;
} layout;

static const layout layouts[] = {{"csr16", TP_SPARSE_CSR16, 0}, {"csr32", TP_SPARSE_CSR32, 0}, {"bsr4x4", TP_SPARSE_BSR, 4},
                                 {"bsr8x8", TP_SPARSE_BSR, 8}, {"nm24", TP_SPARSE_NM24, 0}};
static const int zeros[] = {50, 60, 70, 80, 90, 95, 99};
static const int64_t widths[] = {1, 16, 128, 1024};

static int64_t size = 4096;
static int threads = 2, rounds = 7;
static tp_product p;
static int64_t *offsets, units, entries, bounds[65];
static uint16_t *distances;
static uint32_t *columns;
static uint8_t *nibbles;
static void *values, *b, *out;
static uint64_t state = 1;

static uint32_t random_bits(void) { return (uint32_t)((state = state * 6364136223846793005u + 1442695040888963407u) >> 32); }

static void *memory(int64_t bytes) {
    void *m = mmap(NULL, (size_t)bytes + 64, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED) abort();
    if (getenv("HUGE_PAGES")) madvise(m, (size_t)bytes, MADV_HUGEPAGE);
    memset(m, 1, (size_t)bytes);
    return m;
}

static void fill(tp_dtype type, void *to, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = random_bits();
        if (type == TP_F32)
            ((float *)to)[i] = (float)(int32_t)bits * 0x1p-31f;
        else
            ((int8_t *)to)[i] = (int8_t)(bits >> 24);
    }
}

static const void *indices(void) {
    return p.a.layout == TP_SPARSE_CSR16 ? (void *)distances : p.a.layout == TP_SPARSE_NM24 ? (void *)nibbles : columns;
}

/* Every unit is there or not by chance; those there have no zeros. */
static int64_t make(const layout *l, tp_dtype type, int percent) {
    p.a = (tp_sparse){.rows = size, .cols = size, .stride = size, .block_rows = l->block, .block_cols = l->block, .type = type,
                      .layout = l->layout};
    const int64_t step = l->block ? l->block : 1, lines = size / step;
    const uint32_t limit = (uint32_t)((100 - percent) * 42949672.96);
    units = 0;
    for (int64_t r = 0; r < lines; r++) {
        int64_t before = 0;
        offsets[r] = units;
        for (int64_t c = 0; c < lines && l->layout != TP_SPARSE_NM24; c++) {
            if (random_bits() >= limit) continue;
            columns[units] = (uint32_t)c;
            distances[units++] = (uint16_t)(c - before);
            before = c;
        }
    }
    offsets[lines] = units;
    entries = units * step * step;
    if (l->layout == TP_SPARSE_NM24) {
        static const uint8_t pairs[6] = {4, 8, 12, 9, 13, 14};
        units = entries = size * size / 2;
        for (int64_t i = 0; i < size * size / 8; i++) nibbles[i] = pairs[random_bits() % 6] | (uint8_t)(pairs[random_bits() % 6] << 4);
    }
    fill(type, values, entries);
    for (int t = 0; t <= threads; t++) {
        int64_t line = lines * t / threads;
        if (l->layout != TP_SPARSE_NM24)
            for (line = 0; line < lines && offsets[line] < units * t / threads; line++) {}
        bounds[t] = line;
    }
    const int64_t index_bytes = l->layout == TP_SPARSE_CSR16 ? 2 * units : l->layout == TP_SPARSE_NM24 ? size * size / 8 : 4 * units;
    return 8 * (lines + 1) * (l->layout != TP_SPARSE_NM24) + index_bytes + entries * (type == TP_F32 ? 4 : 1);
}

typedef struct job {
    int index, repeat;
    int64_t stream; /* bytes to read instead */
} job;

static void *work(void *argument) {
    const job *j = argument;
    tp_status status = TP_OK;
    uint64_t sum;
    for (int i = 0; i < j->repeat && !status; i++) {
        if (j->stream) {
            const int64_t part = j->stream / threads;
            status = tp_stream_read((const char *)values + j->index * part, part, &sum);
        } else {
            status = tp_spmm(&p, bounds[j->index], bounds[j->index + 1], offsets, indices(), values, b, out);
        }
    }
    if (status) {
        printf("%s\n", tp_status_name(status));
        exit(1);
    }
    return NULL;
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double run(int repeat, int64_t stream) {
    pthread_t thread[64];
    job jobs[64];
    const double from = seconds();
    for (int i = 0; i < threads; i++) {
        jobs[i] = (job){i, repeat, stream};
        if (i + 1 < threads)
            pthread_create(&thread[i], NULL, work, &jobs[i]);
        else
            work(&jobs[i]);
    }
    for (int i = 0; i + 1 < threads; i++) pthread_join(thread[i], NULL);
    return (seconds() - from) / repeat;
}

static int ascending(const void *x, const void *y) {
    const double u = *(const double *)x, v = *(const double *)y;
    return (u > v) - (u < v);
}

static double median(double *x) {
    qsort(x, (size_t)rounds, sizeof *x, ascending);
    return x[rounds / 2];
}

/* The first and the last line, as the reference has them. */
static void check(void) {
    const int64_t rows = tp_line_rows(&p), lines = size / rows, size_out = size * p.n;
    static float *wanted;
    if (!wanted) wanted = memory(size * 1024 * 4);
    for (int64_t line = 0; line < lines; line += lines - 1) {
        tp_spmm__ref(&p, line, line + 1, offsets, indices(), values, b, wanted);
        for (int64_t i = line * rows * p.n; i < (line + 1) * rows * p.n && i < size_out; i++) {
            const bool same = p.a.type == TP_F32 ? fabsf(wanted[i] - ((float *)out)[i]) < 1e-3f
                                                 : ((int32_t *)wanted)[i] == ((int32_t *)out)[i];
            if (same) continue;
            printf("wrong at %lld\n", (long long)i);
            exit(1);
        }
    }
}

int main(int argc, char **argv) {
    if (argc > 1) size = atoll(argv[1]);
    if (argc > 2) threads = atoi(argv[2]);
    if (argc > 3) rounds = atoi(argv[3]);
    const char *only = argc > 4 ? argv[4] : "";
    if (size < 64 || size % 64 || size > 65536 || threads < 1 || threads > 64 || rounds < 1 || rounds > 100) return 2;
    offsets = memory(8 * (size + 1));
    distances = memory(2 * size * size);
    columns = memory(4 * size * size);
    nibbles = memory(size * size / 8);
    values = memory(4 * size * size);
    b = memory(4 * size * 1024);
    out = memory(4 * size * 1024);
    tp_tier tier = -1;
    tp_active_tier(&tier);
    printf("tier %s, %lld x %lld, %d threads, medians of %d\n", tp_tier_name(tier), (long long)size, (long long)size, threads,
           rounds);
    for (int t = 0; t < 2; t++) {
        for (int l = 0; l < 5; l++) {
            for (int z = 0; z < 7 && (z == 0 || layouts[l].layout != TP_SPARSE_NM24); z++) {
                bool made = false;
                int64_t bytes = 0;
                for (int w = 0; w < 4; w++) {
                    char name[64];
                    double times[100], reads[100], ratios[100];
                    const tp_dtype type = t ? TP_I8 : TP_F32;
                    snprintf(name, sizeof name, "%s %s %d%% n=%lld ", t ? "i8" : "f32", layouts[l].name, zeros[z], (long long)widths[w]);
                    if (!strstr(name, only)) continue;
                    if (!made) bytes = make(&layouts[l], type, zeros[z]);
                    made = true;
                    p.n = p.b_stride = p.out_stride = widths[w];
                    fill(type, b, size * p.n);
                    const int repeat = p.n == 1 ? 10 : 1;
                    run(1, 0);
                    check();
                    for (int r = 0; r < rounds; r++) {
                        times[r] = run(repeat, 0);
                        reads[r] = p.n == 1 ? run(repeat, bytes) : 0;
                        ratios[r] = reads[r] / times[r];
                    }
                    const double ms = 1e3 * median(times);
                    printf("%-26s %9.3f ms (best %9.3f) %8.1f GFLOP/s", name, ms, 1e3 * times[0],
                           2e-6 * (double)(entries * p.n) / ms);
                    if (p.n == 1) printf("   speed / stream_read %.2f (%.1f GB/s)", median(ratios), 1e-6 * (double)bytes / (1e3 * median(reads)));
                    printf("\n");
                }
            }
        }
    }
    return 0;
}
