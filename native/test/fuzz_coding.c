/*
 * Any bytes as a block: each tier says the same of them, and no sanitizer anything. With clang, libFuzzer chooses the bytes. Other compilers get
 * a small driver of its kind: it keeps what reaches code that nothing did before (-fsanitize-coverage=trace-pc), and mutates that; its argument
 * is how many seconds it goes on. The first four bytes say to how many bytes the block is decoded, and whether with a base.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/dispatch.h"
#include "tensorpress/coding.h"

enum { PREFIX = 4, MOST = 1 << 17 };

static void must(int condition, const char *what) {
    if (condition) return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static void *copy(const void *p, size_t n) {
    void *q = malloc(n); /* exactly, so that a byte more is seen */
    if (n) memcpy(q, p, n);
    return q;
}

static void *scratch_for(tp_elements e, int64_t bytes) {
    int64_t size;
    must(tp_block_scratch(e, bytes, &size) == TP_OK, "scratch");
    return aligned_alloc(64, (size_t)(size + 63) / 64 * 64);
}

/* What goes in comes out. */
static void round_trip(tp_elements e, const uint8_t *data, int64_t bytes, int delta) {
    bytes -= bytes % 4;
    uint8_t *in = copy(data, (size_t)bytes), *base = delta ? malloc((size_t)bytes) : NULL, *out = malloc((size_t)bytes + TP_BLOCK_SLACK);
    uint8_t *first = NULL;
    for (int64_t i = 0; i < bytes; i++) {
        if (e == TP_CODE_SYMBOLS && i % 2) in[i] &= 15;
        if (base) base[i] = (uint8_t)(in[i] ^ (i % 3 == 0 && !(e == TP_CODE_SYMBOLS && i % 2)));
    }
    char *scratch = scratch_for(e, bytes);
    tp_coded coded;
    for (int tier = 0; tier <= (int)tp_best_tier(); tier++) {
        atomic_store(&tp_tier_state, tier);
        must(tp_block_encode(e, bytes, in, base, out, bytes + TP_BLOCK_SLACK, scratch, &coded) == TP_OK, "encode");
        uint8_t *block = copy(out, (size_t)coded.bytes), *again = malloc((size_t)bytes);
        must(tp_block_decode(block, coded.bytes, base, again, bytes, scratch) == TP_OK && !memcmp(again, in, (size_t)bytes), "round trip");
        if (first) must(!memcmp(first, out, (size_t)coded.bytes), "tiers write different blocks");
        else first = copy(out, (size_t)coded.bytes);
        free(block);
        free(again);
    }
    free(first);
    free(scratch);
    free(in);
    free(base);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < PREFIX) return 0;
    tp_block header;
    const int64_t length = (int64_t)size - PREFIX;
    uint8_t *block = copy(data + PREFIX, (size_t)length);
    int64_t bytes = (data[0] | data[1] << 8 | data[2] << 16) % (MOST + 1);
    if (data[3] & 64) round_trip(1 + data[3] % 8, data + PREFIX, length, data[3] >> 7);
    const tp_status known = tp_block_header(block, length, &header);
    if (!known && header.bytes <= MOST && !(data[3] & 32)) bytes = header.bytes;
    char *scratch = known || header.bytes > MOST ? scratch_for(TP_CODE_NIBBLES, MOST) : scratch_for(header.elements, header.bytes);
    uint8_t *base = (known ? data[3] & 128 : header.delta) ? calloc(1, (size_t)bytes + 1) : NULL, *first = NULL;
    tp_status said = TP_OK;
    for (int tier = 0; tier <= (int)tp_best_tier(); tier++) {
        atomic_store(&tp_tier_state, tier);
        uint8_t *out = malloc((size_t)bytes);
        const tp_status status = tp_block_decode(block, length, base, out, bytes, scratch);
        must(status == TP_OK || status == TP_ERR_FORMAT || status == TP_ERR_ARGUMENT, "another status");
        if (tier == 0) {
            said = status;
            first = out;
            continue;
        }
        must(status == said && (status || !bytes || !memcmp(first, out, (size_t)bytes)), "tiers differ");
        free(out);
    }
    free(first);
    free(base);
    free(scratch);
    free(block);
    return 0;
}

#ifndef TP_LIBFUZZER
enum { EDGES = 1 << 16, KEPT = 1 << 14 };
static uint8_t reached[EDGES];
static int found;

void __sanitizer_cov_trace_pc(void);
__attribute__((no_sanitize_coverage)) void __sanitizer_cov_trace_pc(void) {
    static uintptr_t last;
    const uintptr_t here = (uintptr_t)__builtin_return_address(0), edge = (here ^ last << 1) * 0x9e3779b97f4a7c15u >> 48;
    last = here;
    if (!reached[edge]) {
        reached[edge] = 1;
        found = 1;
    }
}

static struct {
    uint8_t *data;
    size_t size;
} kept[KEPT];
static size_t count;

static uint64_t state = 1;
static uint64_t below(uint64_t n) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 11) % n;
}

static void keep(const uint8_t *data, size_t size) {
    const size_t at = count < KEPT ? count++ : below(KEPT);
    free(kept[at].data);
    kept[at].data = copy(data, size);
    kept[at].size = size;
}

/* Blocks of each kind of elements, whose planes are coded in each way. */
static void seeds(void) {
    static uint8_t in[MOST], out[PREFIX + MOST + TP_BLOCK_SLACK];
    for (int kind = 0; kind < 320; kind++) {
        const tp_elements e = 1 + kind % 8;
        const int64_t sizes[] = {64, 400, 3000, 20000, MOST}, bytes = sizes[kind / 8 % 5];
        for (int64_t i = 0; i < bytes; i++) {
            const uint64_t r = below(16) * below(16) * below(2 + (uint64_t)(kind % 3)) >> (kind / 8 % 3);
            in[i] = (uint8_t)(kind / 40 == 0 ? r : kind / 40 == 1 ? (i / 200 % 2 ? 0 : r) : kind / 40 == 2 ? below(256) : kind / 40 == 3 ? 7
                              : kind / 40 == 4 ? (i % 4 < 2 ? 0 : r) : kind / 40 == 5 ? (below(9) ? 0 : below(256)) : below(12) | below(12) << 4);
            if (e == TP_CODE_SYMBOLS && i % 2) in[i] &= 15;
        }
        char *scratch = scratch_for(e, bytes);
        tp_coded coded;
        atomic_store(&tp_tier_state, TP_TIER_REF);
        const uint8_t *base = kind % 7 == 0 ? in : NULL;
        must(tp_block_encode(e, bytes, in, base, out + PREFIX, bytes + TP_BLOCK_SLACK, scratch, &coded) == TP_OK, "seed");
        memset(out, 0, PREFIX);
        keep(out, PREFIX + (size_t)coded.bytes);
        free(scratch);
    }
}

static size_t mutate(uint8_t *data, size_t size) {
    for (uint64_t times = 1 + below(1 + below(8)); times > 0; times--) {
        const size_t near = size < 96 || below(2) ? size : 96, at = below(near);
        switch (below(9)) {
            case 0: data[at] ^= (uint8_t)(1 << below(8)); break;
            case 1: data[at] = (uint8_t)below(256); break;
            case 2: data[at] = below(2) ? 255 : 0; break;
            case 3: size = PREFIX + below(size - PREFIX + 1); break;
            case 4: data[below(PREFIX)] = (uint8_t)below(256); break;
            case 5: {
                const size_t length = below(size - at + 1), from = below(size - length + 1);
                memmove(data + at, data + from, length);
                break;
            }
            case 6: {
                const size_t other = below(count), from = below(kept[other].size), length = below(kept[other].size - from + 1);
                memcpy(data + at, kept[other].data + from, length < size - at ? length : size - at);
                break;
            }
            case 7: {
                if (size > PREFIX + 20) data[PREFIX + 16] = (uint8_t)below(8);
                break;
            }
            default: {
                uint32_t x;
                if (at + 4 > size) break;
                memcpy(&x, data + at, 4);
                x += (uint32_t)below(33) - 16;
                memcpy(data + at, &x, 4);
            }
        }
        if (size <= PREFIX) break;
    }
    /* Few blocks would be looked at otherwise. */
    const uint32_t length = (uint32_t)(size - PREFIX);
    if (length >= 12 && below(16)) memcpy(data + PREFIX + 8, &length, 4);
    if (length >= 16 && below(16)) memset(data + PREFIX + 13, 0, 3);
    return size;
}

int main(int argc, char **argv) {
    const time_t end = time(NULL) + (argc > 1 ? atol(argv[1]) : 10);
    static uint8_t data[PREFIX + MOST + TP_BLOCK_SLACK];
    seeds();
    const size_t planted = count;
    for (size_t i = 0; i < planted; i++) LLVMFuzzerTestOneInput(kept[i].data, kept[i].size);
    uint64_t runs = 0;
    for (; time(NULL) < end; runs++) {
        /* Small ones more often: they take less time. */
        const size_t one = below(count), two = below(count), from = kept[one].size < kept[two].size || !below(4) ? one : two;
        memcpy(data, kept[from].data, kept[from].size);
        const size_t size = mutate(data, kept[from].size);
        found = 0;
        LLVMFuzzerTestOneInput(data, size);
        if (found) keep(data, size);
    }
    int edges = 0;
    for (int i = 0; i < EDGES; i++) edges += reached[i];
    printf("%llu runs, %d edges, %zu inputs kept beside %zu seeds\n", (unsigned long long)runs, edges, count - planted, planted);
    for (size_t i = 0; i < count; i++) free(kept[i].data);
    return 0;
}
#endif
