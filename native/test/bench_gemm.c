/*
 * Speed of the gemm kernels on one thread, in GFLOP/s or GOP/s of processor time, every tier of this machine and, if
 * ONEDNN_LIBRARY names a libdnnl.so.3, oneDNN's matmul with B in its own packed format ("packed") and as it is ("plain").
 * "scaled" is int8 with zero points and scales for each row and column, on the best tier. Each round runs everything once;
 * figures are medians over rounds, without the packing of B. Not a test.
 *
 *     OMP_NUM_THREADS=1 [ONEDNN_MAX_CPU_ISA=AVX2] bench_gemm [rounds [milliseconds per sample [m n k]]]
 */
#define _DEFAULT_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/dispatch.h"
#include "tensorpress/gemm.h"

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *memory(size_t bytes) {
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
    if (!p) abort();
    memset(p, 0, bytes);
    return p;
}

static int c_size(tp_dtype type) { return type == TP_F64 ? 8 : 4; }
static int size_of(tp_dtype type) { return type == TP_F64 ? 8 : type == TP_F32 ? 4 : 1; }

/* ---- oneDNN, as much of its C interface as this needs ---- */

typedef struct {
    int arg;
    void *memory;
} dnnl_argument;

enum { DNNL_F32 = 3, DNNL_S32 = 4, DNNL_S8 = 5, DNNL_U8 = 6, DNNL_WEIGHTS_MD = 131, DNNL_SRC = 1, DNNL_DST = 17, DNNL_WEIGHTS = 33 };

static void *dnnl, *engine, *stream;

#define CALL(name, ...)                                                                                               \
    do {                                                                                                              \
        int (*const f)() = (int (*)())dlsym(dnnl, #name);                                                             \
        const int status = f ? f(__VA_ARGS__) : -1;                                                                   \
        if (status) {                                                                                                 \
            printf("%s: %d\n", #name, status);                                                                        \
            exit(1);                                                                                                  \
        }                                                                                                             \
    } while (0)

typedef struct peer {
    void *primitive;
    dnnl_argument arguments[3];
} peer;

static void *description(int64_t rows, int64_t cols, int type, bool transposed, bool any) {
    void *md;
    const int64_t dims[] = {rows, cols}, strides[] = {transposed ? 1 : cols, transposed ? rows : 1};
    if (any)
        CALL(dnnl_memory_desc_create_with_tag, &md, 2, dims, type, 1);
    else
        CALL(dnnl_memory_desc_create_with_strides, &md, 2, dims, type, strides);
    return md;
}

static peer prepare(const tp_gemm_spec *s, bool any, int a_type, void *a, void *b, void *c) {
    peer p;
    const int b_type = s->type == TP_F32 ? DNNL_F32 : DNNL_S8, c_type = s->type == TP_F32 ? DNNL_F32 : DNNL_S32;
    void *src = description(s->m, s->k, a_type, s->form == TP_GEMM_ATB, false);
    void *weights = description(s->k, s->n, b_type, s->form == TP_GEMM_ABT, any);
    void *plain = description(s->k, s->n, b_type, s->form == TP_GEMM_ABT, false);
    void *dst = description(s->m, s->n, c_type, false, false), *pd, *from, *to, *reorder;
    CALL(dnnl_matmul_primitive_desc_create, &pd, engine, src, weights, NULL, dst, NULL);
    CALL(dnnl_primitive_create, &p.primitive, pd);
    const void *(*query)(const void *, int, int) = (const void *(*)(const void *, int, int))dlsym(dnnl, "dnnl_primitive_desc_query_md");
    const void *chosen = query(pd, DNNL_WEIGHTS_MD, 0);
    p.arguments[0].arg = DNNL_SRC;
    p.arguments[1].arg = DNNL_WEIGHTS;
    p.arguments[2].arg = DNNL_DST;
    CALL(dnnl_memory_create, &p.arguments[0].memory, src, engine, a);
    CALL(dnnl_memory_create, &p.arguments[2].memory, dst, engine, c);
    if (!any) {
        CALL(dnnl_memory_create, &p.arguments[1].memory, weights, engine, b);
        return p;
    }
    CALL(dnnl_memory_create, &from, plain, engine, b);
    CALL(dnnl_memory_create, &to, chosen, engine, (void *)UINTPTR_MAX); /* oneDNN allocates */
    CALL(dnnl_reorder_primitive_desc_create, &pd, plain, engine, chosen, engine, NULL);
    CALL(dnnl_primitive_create, &reorder, pd);
    const dnnl_argument arguments[] = {{DNNL_SRC, from}, {DNNL_DST, to}};
    CALL(dnnl_primitive_execute, reorder, stream, 2, arguments);
    CALL(dnnl_stream_wait, stream);
    p.arguments[1].memory = to;
    return p;
}

/* ---- cases ---- */

enum { ENTRIES = 10 };
typedef struct entry {
    const char *name;
    tp_tier tier;
    int vnni;
    tp_gemm_layout layout;
    void *packed;
    bool is_peer, scaled; /* scaled: with zero points and scales per row and column */
    peer peer;
    double rates[100];
} entry;

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void bench(tp_dtype type, int form, int64_t m, int64_t n, int64_t k, int rounds, double sample) {
    const tp_gemm_spec s = {.m = m, .n = n, .k = k, .a_stride = form == TP_GEMM_ATB ? m : k,
                            .b_stride = form == TP_GEMM_ABT ? k : n, .c_stride = n, .type = type, .form = form};
    char *a = memory((size_t)(m * k * size_of(type))), *b = memory((size_t)(k * n * size_of(type)));
    void *c = memory((size_t)(m * n * c_size(type)));
    for (int64_t i = 0; i < m * k; i++) {
        if (type == TP_I8) a[i] = (char)(i * 7);
        if (type == TP_F32) ((float *)a)[i] = (float)(i % 17) - 8;
        if (type == TP_F64) ((double *)a)[i] = (double)(i % 17) - 8;
    }
    for (int64_t i = 0; i < k * n; i++) {
        if (type == TP_I8) b[i] = (char)(i * 5);
        if (type == TP_F32) ((float *)b)[i] = (float)(i % 13) - 6;
        if (type == TP_F64) ((double *)b)[i] = (double)(i % 13) - 6;
    }
    static entry all[ENTRIES];
    int count = 0;
    memset(all, 0, sizeof all);
    all[count++] = (entry){.name = "avx2", .tier = TP_TIER_AVX2};
    if (tp_best_tier() == TP_TIER_AVX512) {
        all[count++] = (entry){.name = "avx512", .tier = TP_TIER_AVX512};
        if (type == TP_I8 && tp_detect_vnni()) all[count++] = (entry){.name = "vnni", .tier = TP_TIER_AVX512, .vnni = 1};
    }
    if (type == TP_I8) {
        all[count] = all[count - 1];
        all[count].scaled = true;
        all[count++].name = "scaled";
    }
    if (dnnl && type != TP_F64) {
        all[count++] = (entry){.name = "dnnl packed", .is_peer = true, .peer = prepare(&s, true, type == TP_F32 ? DNNL_F32 : DNNL_S8, a, b, c)};
        all[count++] = (entry){.name = "dnnl plain", .is_peer = true, .peer = prepare(&s, false, type == TP_F32 ? DNNL_F32 : DNNL_S8, a, b, c)};
        if (type == TP_I8)
            all[count++] = (entry){.name = "dnnl u8 packed", .is_peer = true, .peer = prepare(&s, true, DNNL_U8, a, b, c)};
    }
    void *scratch = NULL, *ones = memory((size_t)(m > n ? m : n) * 4);
    const tp_gemm_affine affine = {.a_zero = ones, .b_zero = ones, .a_scale = ones, .b_scale = ones, .a_zero_step = 1,
                                   .b_zero_step = 1, .a_scale_step = 1, .b_scale_step = 1, .scaled = 1};
    memset(ones, 1, (size_t)(m > n ? m : n) * 4);
    for (int i = 0; i < count; i++) {
        entry *e = &all[i];
        if (e->is_peer) continue;
        atomic_store(&tp_tier_state, e->tier);
        atomic_store(&tp_vnni_state, e->vnni);
        if (tp_gemm_layout_of(&s, &e->layout)) abort();
        e->packed = memory((size_t)e->layout.packed_bytes);
        if (tp_gemm_pack(&s, 0, e->layout.panels, b, e->packed)) abort();
        scratch = scratch ? scratch : memory(1 << 20);
        if (e->layout.scratch_bytes > 1 << 20) abort();
    }
    for (int round = -1; round < rounds; round++) {
        for (int i = 0; i < count; i++) {
            entry *e = &all[i];
            int64_t runs = 0;
            const double start = seconds();
            double took;
            do {
                if (e->is_peer) {
                    CALL(dnnl_primitive_execute, e->peer.primitive, stream, 3, e->peer.arguments);
                    CALL(dnnl_stream_wait, stream);
                } else {
                    atomic_store(&tp_tier_state, e->tier);
                    atomic_store(&tp_vnni_state, e->vnni);
                    if (e->scaled ? tp_gemm_int8(&s, &affine, 0, m, 0, e->layout.panels, a, e->packed, c, scratch)
                                  : tp_gemm(&s, 0, m, 0, e->layout.panels, a, e->packed, c, scratch)) abort();
                }
                runs++;
                took = seconds() - start;
            } while (took < sample);
            if (round >= 0) e->rates[round] = 2e-9 * (double)m * (double)n * (double)k * (double)runs / took;
        }
    }
    printf("%-4s %s %4lld x %4lld x %4lld ", type == TP_F32 ? "f32" : type == TP_F64 ? "f64" : "int8",
           form == TP_GEMM_AB ? "A B  " : form == TP_GEMM_ATB ? "A'B  " : "A B' ", (long long)m, (long long)n, (long long)k);
    for (int i = 0; i < count; i++) {
        qsort(all[i].rates, (size_t)rounds, sizeof(double), ascending);
        printf(" | %s %6.1f", all[i].name, all[i].rates[rounds / 2]);
        free(all[i].packed);
    }
    printf("\n");
    fflush(stdout);
    free(a);
    free(b);
    free(c);
    free(scratch);
    free(ones);
}

int main(int argc, char **argv) {
    const int rounds = argc > 1 ? atoi(argv[1]) : 5;
    const double sample = argc > 2 ? atof(argv[2]) * 1e-3 : 0.02;
    if (rounds < 1 || rounds > 100 || tp_best_tier() < TP_TIER_AVX2) return 2;
    const char *library = getenv("ONEDNN_LIBRARY");
    if (library) {
        dnnl = dlopen(library, RTLD_NOW);
        if (!dnnl) {
            printf("%s\n", dlerror());
            return 1;
        }
        CALL(dnnl_engine_create, &engine, 1, (size_t)0);
        CALL(dnnl_stream_create, &stream, engine, 1);
    }
    static const tp_dtype types[] = {TP_F32, TP_F64, TP_I8};
    if (argc > 5) {
        for (int t = 0; t < 3; t++)
            for (int form = 0; form < 3; form++) bench(types[t], form, atoll(argv[3]), atoll(argv[4]), atoll(argv[5]), rounds, sample);
        return 0;
    }
    for (int t = 0; t < 3; t++)
        for (int form = 0; form < 3; form++) bench(types[t], form, 1024, 1024, 1024, rounds, sample);
    static const int64_t layers[][2] = {{384, 384}, {1536, 384}, {384, 1536}, {768, 768}, {3072, 768}, {768, 3072}};
    for (int t = 0; t < 3; t += 2)
        for (int64_t m = 32; m <= 512; m *= 4)
            for (int l = 0; l < 6; l++) bench(types[t], TP_GEMM_AB, m, layers[l][0], layers[l][1], rounds, sample);
    bench(TP_F32, TP_GEMM_AB, 4096, 256, 4096, rounds, sample);
    bench(TP_F32, TP_GEMM_ATB, 4096, 256, 4096, rounds, sample);
    return 0;
}
