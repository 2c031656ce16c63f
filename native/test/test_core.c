/* Names, tiers, and the yardsticks. */
#include <string.h>

#include "core/dispatch.h"
#include "core/kernels.h"
#include "core/sha256.h"
#include "support.h"

static guarded in_memory, out_memory;

static void check_names(void) {
    const char *names[] = {"TP_OK",        "TP_ERR_ARGUMENT",  "TP_ERR_TYPE",  "TP_ERR_SHAPE",
                           "TP_ERR_RANGE", "TP_ERR_NONFINITE", "TP_ERR_SCALE", "TP_ERR_ISA",
                           "TP_ERR_FORMAT", "TP_ERR_LAYOUT", "TP_ERR_INDEFINITE", "TP_ERR_CONVERGENCE",
                           "TP_ERR_MAGNITUDE", "TP_ERR_DEVICE", "TP_ERR_DEVICE_LOST", "TP_ERR_MEMORY"};
    for (int i = 0; i < 16; i++) CHECK(strcmp(tp_status_name(i), names[i]) == 0, "status %d", i);
    CHECK(strcmp(tp_status_name(16), "TP_ERR_UNKNOWN") == 0 && strcmp(tp_status_name(-1), "TP_ERR_UNKNOWN") == 0,
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
    CHECK(tp_stream_narrow(&x, INT64_C(1) << 62, &y) == TP_ERR_SHAPE, "a size in bytes that overflows");
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

/* Messages of FIPS 180-4's examples, and one of a million bytes. */
static void check_sha256_examples(void) {
    static char million[1000000];
    memset(million, 'a', sizeof million);
    const struct {
        const char *text;
        int64_t n;
        const char *digest;
    } cases[] = {
        {"", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {million, sizeof million, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"}};
    for (int c = 0; c < 4; c++) {
        tp_sha256 hash;
        uint8_t digest[32];
        char hex[65];
        CHECK(tp_sha256_start(&hash) == TP_OK && tp_sha256_update(&hash, NULL, cases[c].text, cases[c].n) == TP_OK
                  && tp_sha256_finish(&hash, digest) == TP_OK, "status of example %d", c);
        for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
        CHECK(strcmp(hex, cases[c].digest) == 0, "example %d: %s", c, hex);
    }
}

/* However a message is cut, beside whatever other message, with or without the processor's instructions. */
static void check_sha256(void) {
    const int found = tp_use_sha(TP_TIER_AVX2);
    printf("test_core: instructions for SHA-256 %s\n", found ? "run" : "SKIPPED: not on this machine");
    for (int64_t n = 0; n < 400; n++) {
        uint8_t *in = guarded_input(&in_memory, (size_t)n, n % 3 != 0, (int)random_below(8));
        for (int64_t i = 0; i < n; i++) in[i] = (uint8_t)random_bits();
        const int64_t cut = random_below(n + 1);
        uint8_t want[2][32], digest[2][32];
        for (int run = 0; run < 3; run++) { /* the plain variant in one piece is what the others are compared with */
            tp_sha_state = run == 2 ? found : 0;
            test_use_tier(run == 2 ? test_tiers - 1 : TP_TIER_REF);
            tp_sha256 whole, tail;
            tp_sha256_start(&whole);
            tp_sha256_start(&tail);
            if (run == 0) {
                tp_sha256_update(&whole, NULL, in, n);
                tp_sha256_update(&tail, NULL, in + cut, n - cut);
                tp_sha256_finish(&whole, want[0]);
                tp_sha256_finish(&tail, want[1]);
                continue;
            }
            tp_sha256_update(&whole, NULL, in, cut);
            for (int64_t at = cut, step; at < n; at += step) {
                step = 1 + random_below(n - at);
                CHECK(tp_sha256_update(&whole, &tail, in + at, step) == TP_OK, "status");
            }
            tp_sha256_finish(&whole, digest[0]);
            tp_sha256_finish(&tail, digest[1]);
            CHECK(memcmp(want, digest, sizeof want) == 0, "run %d: %lld bytes, cut at %lld", run, (long long)n,
                  (long long)cut);
        }
    }
    tp_sha_state = 0;
    check_sha256_examples();
    tp_sha_state = found;
    check_sha256_examples();
    tp_sha256 hash;
    uint8_t digest[32];
    CHECK(tp_sha256_start(NULL) == TP_ERR_ARGUMENT && tp_sha256_start(&hash) == TP_OK, "null hash");
    CHECK(tp_sha256_update(NULL, NULL, digest, 1) == TP_ERR_ARGUMENT, "null hash");
    CHECK(tp_sha256_update(&hash, NULL, NULL, 1) == TP_ERR_ARGUMENT, "null input");
    CHECK(tp_sha256_update(&hash, NULL, digest, -1) == TP_ERR_SHAPE, "negative size");
    CHECK(tp_sha256_update(&hash, NULL, NULL, 0) == TP_OK, "nothing");
    CHECK(tp_sha256_update(&hash, &hash, digest, 1) == TP_ERR_ARGUMENT, "one message twice");
    CHECK(tp_sha256_finish(&hash, NULL) == TP_ERR_ARGUMENT && tp_sha256_finish(NULL, digest) == TP_ERR_ARGUMENT, "null");
}

int main(void) {
    test_start("test_core");
    in_memory = guarded_new(1 << 16);
    out_memory = guarded_new(1 << 16);
#define VARIANTS(name, params)                                                                                        \
    for (int tier = 0; tier < TP_TIERS_BUILT; tier++)                                                                 \
        CHECK(tp_core_tables[tier].name && (tier == 0 || tp_core_tables[tier].name != tp_core_tables[0].name),        \
              "%s of tier %s", #name, tp_tier_name(tier));                                                            \
    check_##name();
    while (test_round()) {
        check_names();
        TP_CORE_KERNELS(VARIANTS)
        check_sha256();
    }
    return test_end();
}
