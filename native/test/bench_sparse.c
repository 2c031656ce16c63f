/*
 * Speed of the sparse kernels on a square f32 matrix with zeros at random places, by share of zeros, layout and kernel.
 * Every round runs everything once, with tp_stream_read of the dense matrix as the yardstick; ratios are medians of the
 * rounds' ratios. "dense to CSR" is count, the sums and pack, one after the other. A single thread is timed by the
 * processor time it takes, several by the clock. Not a test. With HUGE_PAGES set, memory has large pages.
 *
 *     bench_sparse [size [threads [rounds [name]]]]
 */
#define _DEFAULT_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "tensorpress/sparse.h"

typedef enum what { READ, WRITE, SURVEY, COUNT, PACK, STORE, CHECK, UNPACK } what;

typedef struct benchmark {
    const char *name;
    what what;
    int layout;
} benchmark;

static const benchmark all[] = {
    {"stream_read", READ, 0},
    {"memset", WRITE, 0},
    {"survey", SURVEY, TP_SPARSE_CSR32},
    {"csr16 count", COUNT, TP_SPARSE_CSR16},
    {"csr16 pack", PACK, TP_SPARSE_CSR16},
    {"dense to csr16", STORE, TP_SPARSE_CSR16},
    {"csr16 check", CHECK, TP_SPARSE_CSR16},
    {"csr16 unpack", UNPACK, TP_SPARSE_CSR16},
    {"csr32 pack", PACK, TP_SPARSE_CSR32},
    {"dense to csr32", STORE, TP_SPARSE_CSR32},
    {"csr32 check", CHECK, TP_SPARSE_CSR32},
    {"csr32 unpack", UNPACK, TP_SPARSE_CSR32},
    {"bsr count", COUNT, TP_SPARSE_BSR},
    {"bsr pack", PACK, TP_SPARSE_BSR},
    {"dense to bsr", STORE, TP_SPARSE_BSR},
    {"bsr unpack", UNPACK, TP_SPARSE_BSR},
    {"bitmask pack", PACK, TP_SPARSE_BITMASK},
    {"dense to bitmask", STORE, TP_SPARSE_BITMASK},
    {"bitmask check", CHECK, TP_SPARSE_BITMASK},
    {"bitmask unpack", UNPACK, TP_SPARSE_BITMASK},
    {"nm24 count", COUNT, TP_SPARSE_NM24},
    {"nm24 pack", PACK, TP_SPARSE_NM24},
    {"nm24 unpack", UNPACK, TP_SPARSE_NM24},
};
enum { BENCHMARKS = sizeof all / sizeof *all, ROUNDS = 100, THREADS = 64 };

/* A layout of the matrix that it fits: whole blocks of zeros, and at most two in four columns, for those layouts. */
typedef struct stored {
    tp_sparse s;
    int64_t lines, units;
    float *dense;
    int64_t *counts, *offsets;
    void *indices, *values;
} stored;

static int64_t size = 4096;
static int threads = 2;
static float *out;
static stored by_layout[TP_SPARSE_NM24 + 1];

static void *memory(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) abort();
    if (getenv("HUGE_PAGES")) madvise(p, bytes, MADV_HUGEPAGE);
    memset(p, 1, bytes);
    return p;
}

typedef struct job {
    const benchmark *b;
    what what;
    int index;
} job;

static void *work(void *argument) {
    const job *j = argument;
    const stored *x = &by_layout[j->b->layout ? j->b->layout : TP_SPARSE_CSR32];
    const int64_t step = j->what == SURVEY ? 8 : 1;
    const int64_t from = x->lines * j->index / threads / step * step, to = x->lines * (j->index + 1) / threads / step * step;
    tp_status status = TP_OK;
    tp_survey survey;
    uint64_t sum;
    int64_t bad;
    switch (j->what) {
    case READ: status = tp_stream_read(x->dense + from * size, (to - from) * size * 4, &sum); break;
    case WRITE: memset(out + from * size, 0, (size_t)((to - from) * size * 4)); break;
    case SURVEY: status = tp_sparse_survey(&x->s, from, to, x->dense, &survey); break;
    case COUNT: status = tp_sparse_count(&x->s, from, to, x->dense, x->counts + from); break;
    case CHECK: status = tp_sparse_check(&x->s, from, to, x->units, x->offsets, x->indices, &bad); break;
    case UNPACK: status = tp_sparse_unpack(&x->s, from, to, x->offsets, x->indices, x->values, out); break;
    default: status = tp_sparse_pack(&x->s, from, to, x->dense, x->offsets, x->indices, x->values); break;
    }
    if (status) {
        printf("%s: %s\n", j->b->name, tp_status_name(status));
        exit(1);
    }
    return NULL;
}

static void spread(const benchmark *b, what what) {
    pthread_t thread[THREADS];
    job jobs[THREADS];
    for (int i = 0; i < threads; i++) {
        jobs[i] = (job){b, what, i};
        if (i + 1 < threads)
            pthread_create(&thread[i], NULL, work, &jobs[i]);
        else
            work(&jobs[i]);
    }
    for (int i = 0; i + 1 < threads; i++) pthread_join(thread[i], NULL);
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void add_up(stored *x) {
    x->offsets[0] = 0;
    for (int64_t l = 0; l < x->lines; l++) x->offsets[l + 1] = x->offsets[l] + x->counts[l];
}

static double run(const benchmark *b) {
    const double start = seconds();
    if (b->what == STORE) {
        spread(b, COUNT);
        add_up(&by_layout[b->layout]);
    }
    spread(b, b->what);
    return seconds() - start;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static uint64_t state = 1;
static double uniform(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) * 0x1p-53;
}

static void fill(stored *x, double zeros) {
    for (int64_t r = 0; r < size; r++) {
        for (int64_t c = 0; c < size; c++) {
            float *to = x->dense + r * size + c;
            if (x->s.layout == TP_SPARSE_BSR) {
                const int64_t row = r / x->s.block_rows * x->s.block_rows, col = c / x->s.block_cols * x->s.block_cols;
                *to = row == r && col == c ? uniform() >= zeros : x->dense[row * size + col];
            } else {
                const bool full = x->s.layout == TP_SPARSE_NM24 && c % 4 > 1 && to[-1] != 0 && to[-(c % 4)] != 0;
                *to = full ? 0 : uniform() >= zeros;
            }
        }
        for (int64_t c = 0; x->s.layout == TP_SPARSE_NM24 && c < size; c += 4)
            for (int i = 0, n = 0; i < 4; i++)
                if (x->dense[r * size + c + i] != 0 && ++n > 2) x->dense[r * size + c + i] = 0;
    }
}

int main(int argc, char **argv) {
    if (argc > 1) size = atoll(argv[1]);
    if (argc > 2) threads = atoi(argv[2]);
    const int rounds = argc > 3 ? atoi(argv[3]) : 7;
    const char *only = argc > 4 ? argv[4] : "";
    if (size < 64 || size % 64 || threads < 1 || threads > THREADS || rounds < 1 || rounds > ROUNDS) return 2;
    const size_t elements = (size_t)(size * size);
    const int side = getenv("BLOCK") ? atoi(getenv("BLOCK")) : 4;

    tp_tier tier = -1;
    if (tp_active_tier(&tier)) return 2;
    printf("tier %s, %lld x %lld f32, %d threads, medians of %d\n", tp_tier_name(tier), (long long)size, (long long)size,
           threads, rounds);
    out = memory(elements * 4);
    float *random = memory(elements * 4);
    for (int layout = TP_SPARSE_CSR16; layout <= TP_SPARSE_NM24; layout++) {
        stored *x = &by_layout[layout];
        x->s = (tp_sparse){.rows = size, .cols = size, .stride = size, .type = TP_F32, .layout = layout};
        if (layout == TP_SPARSE_BSR) x->s.block_rows = x->s.block_cols = side;
        const bool own = layout == TP_SPARSE_BSR || layout == TP_SPARSE_NM24;
        x->lines = layout == TP_SPARSE_BSR ? (size + side - 1) / side : size;
        x->dense = own ? memory(elements * 4) : random;
        x->counts = memory((size_t)size * 8);
        x->offsets = memory((size_t)size * 8 + 8);
        x->indices = memory(elements * 4);
        x->values = memory(elements * 4);
    }
    static const double shares[] = {0.5, 0.7, 0.9, 0.95, 0.99};
    for (int d = 0; d < 5; d++) {
        static double times[BENCHMARKS][ROUNDS];
        for (int layout = TP_SPARSE_CSR16; layout <= TP_SPARSE_NM24; layout++) {
            stored *x = &by_layout[layout];
            if (x->dense != random || layout == TP_SPARSE_CSR16) fill(x, shares[d]);
            const benchmark b = {"preparation", PACK, layout};
            spread(&b, COUNT);
            add_up(x);
            x->units = x->offsets[x->lines];
            spread(&b, PACK);
        }
        for (int r = -1; r < rounds; r++) {
            for (int i = 0; i < BENCHMARKS; i++) {
                if (i && !strstr(all[i].name, only)) continue;
                const double t = run(&all[i]);
                if (r >= 0) times[i][r] = t;
            }
        }
        printf("\n%g %% zeros\n", 100 * shares[d]);
        for (int i = BENCHMARKS - 1; i >= 0; i--) {
            double ratios[ROUNDS];
            if (times[i][0] == 0) continue;
            for (int r = 0; r < rounds; r++) ratios[r] = times[0][r] / times[i][r];
            qsort(ratios, (size_t)rounds, sizeof(double), ascending);
            qsort(times[i], (size_t)rounds, sizeof(double), ascending);
            printf("%-20s %8.2f ms   speed / stream_read %.3f   (best %.2f ms)\n", all[i].name,
                   1e3 * times[i][rounds / 2], ratios[rounds / 2], 1e3 * times[i][0]);
        }
    }
    return 0;
}
