#define _DEFAULT_SOURCE
#include "support.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/dispatch.h"

int test_failures, test_tiers;
static const char *test_name;
static long rounds;
static uint64_t random_state;

void test_start(const char *name) {
    const char *seed = getenv("TENSORPRESS_SEED"), *effort = getenv("TENSORPRESS_EFFORT"), *require = getenv("TENSORPRESS_REQUIRE");
    test_name = name;
    random_state = seed ? strtoull(seed, NULL, 0) : 1;
    rounds = effort ? strtol(effort, NULL, 10) : 1;
    if (rounds < 1) {
        printf("%s: TENSORPRESS_EFFORT=%s, but at least one round has to run\n", name, effort);
        exit(1);
    }
    test_tiers = tp_best_tier() + 1;
    for (tp_tier tier = TP_TIER_REF; tier <= TP_TIER_AVX512; tier++)
        printf("%s: tier %s %s\n", name, tp_tier_name(tier), tier < test_tiers ? "runs" : "SKIPPED: not on this machine");
    /* A list, since the Java tests read the same one: what is theirs is no tier. */
    for (const char *at = require ? require : ""; *at; at += *at == ',') {
        char item[32] = "";
        const size_t length = strcspn(at, ",");
        if (length < sizeof item) memcpy(item, at, length);
        at += length;
        const tp_tier tier = tp_tier_by_name(item);
        if (!strcmp(item, "onnx-testdata") || (tier >= 0 && tier < test_tiers)) continue;
        printf("%s: TENSORPRESS_REQUIRE=%s, but this machine does not have it\n", name, require);
        exit(1);
    }
}

bool test_round(void) {
    if (rounds-- == 0) return false;
    printf("%s: TENSORPRESS_SEED=%llu\n", test_name, (unsigned long long)random_state);
    return true;
}

int test_end(void) {
    printf("%d failed checks\n", test_failures);
    return test_failures != 0;
}

void test_fail(const char *file, int line, const char *format, ...) {
    if (test_failures++ < 20) {
        va_list args;
        va_start(args, format);
        const char *slash = strrchr(file, '/');
        printf("FAILED %s:%d: ", slash ? slash + 1 : file, line);
        vprintf(format, args);
        printf("\n");
        va_end(args);
    }
}

void test_use_tier(tp_tier tier) { atomic_store(&tp_tier_state, tier); }

/* splitmix64 */
uint64_t random_bits(void) {
    uint64_t x = random_state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

int64_t random_below(int64_t n) { return (int64_t)(random_bits() % (uint64_t)n); }
double random_unit(void) { return (double)(random_bits() >> 11) * 0x1p-53; }

guarded guarded_new(size_t size) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size = (size + page - 1) / page * page;
    char *p = mmap(NULL, size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p + page, size, PROT_READ | PROT_WRITE)) abort();
    return (guarded){p + page, size};
}

void *guarded_take(const guarded *g, size_t bytes, bool at_end) {
    if (bytes > g->size) abort();
    char *p = at_end ? g->start + g->size - bytes : g->start;
    memset(p, GUARD_FILL, bytes);
    return p;
}

void *guarded_input(const guarded *g, size_t bytes, bool at_end, int offset) {
    char *p = guarded_take(g, bytes + (size_t)offset, at_end);
    return at_end ? p : p + offset;
}

/* Fraction bits, largest exponent and smallest normal exponent of the types. */
static int fraction_bits(tp_dtype type) { return type == TP_F32 ? 23 : type == TP_F16 ? 10 : 7; }
static int lowest_exponent(tp_dtype type) { return type == TP_F16 ? -14 : -126; }

double oracle_value(tp_dtype type, const void *p, int64_t i) {
    float f32;
    uint16_t h;
    if (type == TP_F32) {
        memcpy(&f32, (const char *)p + 4 * i, 4);
        return f32;
    }
    memcpy(&h, (const char *)p + 2 * i, 2);
    const int f = fraction_bits(type), bias = 1 - lowest_exponent(type);
    const int exponent = (h & 0x7fff) >> f, fraction = h & ((1 << f) - 1);
    double x;
    if (exponent == 2 * bias + 1)
        x = fraction ? NAN : INFINITY;
    else
        x = ldexp(exponent ? fraction + (1 << f) : fraction, (exponent ? exponent : 1) - bias - f);
    return h & 0x8000 ? -x : x;
}

uint16_t oracle_round(tp_dtype type, double x) {
    const int f = fraction_bits(type), bias = 1 - lowest_exponent(type);
    const uint16_t sign = signbit(x) ? 0x8000 : 0, inf = (uint16_t)((2 * bias + 1) << f);
    if (isnan(x)) return (uint16_t)(sign | inf | 1 << (f - 1));
    x = fabs(x);
    if (isinf(x)) return sign | inf;
    if (x == 0) return sign;
    int e = ilogb(x);
    if (e < lowest_exponent(type)) e = lowest_exponent(type);
    /* In units of the last place; a carry goes into the exponent by itself. */
    const double units = nearbyint(ldexp(x, f - e));
    const double bits = units + ldexp(e - lowest_exponent(type), f);
    return bits >= inf ? sign | inf : (uint16_t)(sign | (uint16_t)bits);
}

void oracle_store(tp_dtype type, void *p, int64_t i, double x) {
    const float f32 = (float)x;
    if (type == TP_F32) {
        memcpy((char *)p + 4 * i, &f32, 4);
    } else {
        const uint16_t h = oracle_round(type, x);
        memcpy((char *)p + 2 * i, &h, 2);
    }
}

float oracle_round_f32(tp_dtype type, float x) {
    if (type == TP_F32) return x;
    const uint16_t h = oracle_round(type, x);
    return (float)oracle_value(type, &h, 0);
}
