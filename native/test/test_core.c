/* Names, tiers, and the yardsticks. */
#include <string.h>

#include "core/dispatch.h"
#include "core/kernels.h"
#include "support.h"

static guarded in_memory, out_memory;

static void check_names(void) {
    const char *names[] = {"TP_OK",        "TP_ERR_ARGUMENT",  "TP_ERR_TYPE",  "TP_ERR_SHAPE",
                           "TP_ERR_RANGE", "TP_ERR_NONFINITE", "TP_ERR_SCALE", "TP_ERR_ISA",
                           "TP_ERR_FORMAT", "TP_ERR_LAYOUT", "TP_ERR_INDEFINITE", "TP_ERR_CONVERGENCE"};
    for (int i = 0; i < 12; i++) CHECK(strcmp(tp_status_name(i), names[i]) == 0, "status %d", i);
    CHECK(strcmp(tp_status_name(12), "TP_ERR_UNKNOWN") == 0 && strcmp(tp_status_name(-1), "TP_ERR_UNKNOWN") == 0,
          "unknown status");
    CHECK(strcmp(tp_tier_name(TP_TIER_AVX2), "avx2") == 0 && strcmp(tp_tier_name(3), "unknown") == 0, "tier names");
    CHECK(tp_tier_by_name("avx512") == TP_TIER_AVX512 && tp_tier_by_name("avx") < 0 && tp_tier_by_name("") < 0,
          "tiers by name");
    CHECK(tp_abi_version() == TP_ABI_VERSION && strlen(tp_version()) >= 5, "version");
    CHECK(tp_best_tier() < TP_TIERS_BUILT, "best tier is one that was built");
    CHECK(tp_active_tier(NULL) == TP_ERR_ARGUMENT, "null result");
}

/* Sizes around the widths that the variants work in, and misaligned starts. */
static void check_stream_narrow(void) {
    for (int64_t n = 0; n < 400; n++) {
        char *in = guarded_input(&in_memory, (size_t)n * 4, n % 3 != 0, (int)random_below(4));
        for (int64_t i = 0; i < n; i++) {
            const uint32_t bits = (uint32_t)random_bits();
            memcpy(in + 4 * i, &bits, 4);
        }
        for (int tier = 0; tier < test_tiers; tier++) {
            test_use_tier(tier);
            uint8_t *out = guarded_take(&out_memory, (size_t)n, n % 2);
            CHECK(tp_stream_narrow((const void *)in, n, out) == TP_OK, "status");
            for (int64_t i = 0; i < n; i++)
                CHECK(out[i] == ((uint8_t *)in)[4 * i], "%s: byte %lld of %lld", tp_tier_name(tier), (long long)i,
                      (long long)n);
        }
    }
    float x;
    uint8_t y;
    CHECK(tp_stream_narrow(NULL, 1, &y) == TP_ERR_ARGUMENT, "null input");
    CHECK(tp_stream_narrow(&x, 1, NULL) == TP_ERR_ARGUMENT, "null output");
    CHECK(tp_stream_narrow(&x, -1, &y) == TP_ERR_SHAPE, "negative size");
    CHECK(tp_stream_narrow(NULL, 0, NULL) == TP_OK, "nothing");
}

static void check_stream_read(void) {
    for (int64_t n = 0; n < 1200; n++) {
        uint8_t *in = guarded_input(&in_memory, (size_t)n, n % 3 != 0, (int)random_below(8));
        uint64_t want = 0;
        for (int64_t i = 0; i < n; i++) {
            in[i] = (uint8_t)random_bits();
            want ^= (uint64_t)in[i] << i % 8 * 8;
        }
        for (int tier = 0; tier < test_tiers; tier++) {
            uint64_t sum = 0;
            test_use_tier(tier);
            CHECK(tp_stream_read(in, n, &sum) == TP_OK && sum == want, "%s: %lld bytes", tp_tier_name(tier),
                  (long long)n);
        }
    }
    uint64_t sum = 1;
    CHECK(tp_stream_read(NULL, 8, &sum) == TP_ERR_ARGUMENT, "null input");
    CHECK(tp_stream_read(&sum, 8, NULL) == TP_ERR_ARGUMENT, "null output");
    CHECK(tp_stream_read(&sum, -1, &sum) == TP_ERR_SHAPE, "negative size");
    CHECK(tp_stream_read(NULL, 0, &sum) == TP_OK && sum == 0, "nothing");
}

int main(void) {
    test_start("test_core");
    in_memory = guarded_new(1 << 16);
    out_memory = guarded_new(1 << 16);
    check_names();
#define VARIANTS(name, params)                                                                                        \
    for (int tier = 0; tier < TP_TIERS_BUILT; tier++)                                                                 \
        CHECK(tp_core_tables[tier].name && (tier == 0 || tp_core_tables[tier].name != tp_core_tables[0].name),        \
              "%s of tier %s", #name, tp_tier_name(tier));                                                            \
    check_##name();
    TP_CORE_KERNELS(VARIANTS)
    return test_end();
}
