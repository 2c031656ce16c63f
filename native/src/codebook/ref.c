#include <stdbool.h>

#include "codebook/kernels.h"
#include "core/scalar.h"

#define TP_VARIANT(name) tp_##name##__ref
#define INLINE static inline

/* One lane. */
enum { LANES = 1 };
typedef float vf;
typedef int32_t vi;

static vf v_set(float x) { return x; }
static vf v_load(const float *p) { return *p; }
static void v_store(float *p, vf x) { *p = x; }
static vf v_load_as(tp_dtype type, const char *p) { return tp_load(type, p, 0); }
static vf v_sub(vf x, vf y) { return x - y; }
static vf v_fma(vf x, vf y, vf z) { return __builtin_fmaf(x, y, z); }
static vf v_min(vf x, vf y) { return x < y ? x : y; }
static void v_closer(vf distance, int32_t entry, vf *best, vi *index) {
    if (distance < *best) {
        *best = distance;
        *index = entry;
    }
}
static vi v_search(const float *tree, int32_t bits, vf x) {
    int32_t node = 1;
    for (int32_t level = 0; level < bits; level++) node = 2 * node + (x > tree[node]);
    return node - (1 << bits);
}
static vi v_behind_zero(vf x, vi code) { return x == 0 ? 0 : code + 1; }
static vf v_lookup(const float *table, int32_t bits, vi code) {
    (void)bits;
    return table[code];
}

static vi vi_set(int32_t x) { return x; }
static void vi_store(int32_t *p, vi x) { *p = x; }
static vi vi_load_bytes(const uint8_t *p) { return *p; }
static void vi_store_bytes(uint8_t *p, vi x) { *p = (uint8_t)x; }

#include "codebook/body.h"
