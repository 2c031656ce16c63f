/* Speeds of the coding family on one thread, in GB/s of what is coded, beside a copy. With a file: on its bytes, as bf16 and as bytes. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/dispatch.h"
#include "tensorpress/coding.h"

enum { BLOCK = 1 << 20, ROUNDS = 41 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }

static double normal(void) {
    double sum = 0;
    for (int i = 0; i < 12; i++) sum += rand() / (double)RAND_MAX;
    return sum - 6;
}

static uint8_t in[BLOCK], out[BLOCK + TP_BLOCK_SLACK], again[BLOCK];
static char *scratch;

static void time_block(const char *name, tp_elements e) {
    static double coding[ROUNDS], decoding[ROUNDS], copying[ROUNDS];
    tp_coded coded;
    for (int i = 0; i < ROUNDS; i++) {
        const double a = now();
        memcpy(again, in, BLOCK);
        const double b = now();
        if (tp_block_encode(e, BLOCK, in, NULL, out, sizeof out, scratch, &coded)) exit(1);
        const double c = now();
        if (tp_block_decode(out, coded.bytes, NULL, again, BLOCK, scratch)) exit(1);
        const double d = now();
        copying[i] = b - a;
        coding[i] = c - b;
        decoding[i] = d - c;
    }
    if (memcmp(in, again, BLOCK)) exit(1);
    qsort(coding, ROUNDS, sizeof *coding, by_size);
    qsort(decoding, ROUNDS, sizeof *decoding, by_size);
    qsort(copying, ROUNDS, sizeof *copying, by_size);
    static const char *const names[] = {"stored", "constant", "rans", "huffman", "masked", "runs", "codes"};
    printf("%-22s %6.2f %%  encode %5.2f  decode %5.2f  copy %5.2f ", name, 100. * (double)coded.bytes / BLOCK, BLOCK / coding[ROUNDS / 10] / 1e9,
           BLOCK / decoding[ROUNDS / 10] / 1e9, BLOCK / copying[ROUNDS / 10] / 1e9);
    for (int p = 0; p < coded.planes; p++) printf(" %s", names[coded.plane[p].coding]);
    printf("\n");
}

/* Each coder alone, on bytes. */
static void time_coders(void) {
    static double times[4][ROUNDS];
    uint32_t counts[256] = {0};
    uint16_t f[256];
    uint8_t lengths[256];
    int32_t k;
    int64_t bits, bytes = 0;
    if (tp_coding_histogram(1, BLOCK, in, counts) || tp_coding_frequencies(256, counts, 0, f, &k, &bits)) exit(1);
    if (tp_huffman_lengths(counts, lengths, &bits)) exit(1);
    for (int i = 0; i < ROUNDS; i++) {
        double t = now();
        if (tp_rans_encode(1, BLOCK, in, k, f, out, BLOCK, &bytes, scratch)) exit(1);
        times[0][i] = now() - t;
        t = now();
        if (tp_rans_decode(1, BLOCK, k, f, out, bytes, again, scratch)) exit(1);
        times[1][i] = now() - t;
        t = now();
        if (tp_huffman_encode(BLOCK, in, lengths, out, BLOCK, &bytes)) exit(1);
        times[2][i] = now() - t;
        t = now();
        if (tp_huffman_decode(BLOCK, lengths, out, bytes, again, scratch)) exit(1);
        times[3][i] = now() - t;
    }
    for (int j = 0; j < 4; j++) qsort(times[j], ROUNDS, sizeof *times[j], by_size);
    printf("  k %d: rans encode %5.2f decode %5.2f, huffman encode %5.2f decode %5.2f\n", k, BLOCK / times[0][ROUNDS / 10] / 1e9,
           BLOCK / times[1][ROUNDS / 10] / 1e9, BLOCK / times[2][ROUNDS / 10] / 1e9, BLOCK / times[3][ROUNDS / 10] / 1e9);
}

int main(int argc, char **argv) {
    int64_t needed;
    if (tp_block_scratch(TP_CODE_NIBBLES, BLOCK, &needed)) return 1;
    scratch = aligned_alloc(64, (size_t)(needed + 63) / 64 * 64);
    for (int tier = 0; tier <= (int)tp_best_tier(); tier++) {
        atomic_store(&tp_tier_state, tier);
        printf("%s\n", tp_tier_name((tp_tier)tier));
        srand(1);
        for (int i = 0; i < BLOCK; i++) in[i] = (uint8_t)(int8_t)fmax(-127, fmin(127, rint(33 * normal())));
        time_block("int8", TP_CODE_BYTES);
        time_coders();
        for (int i = 0; i < BLOCK; i++) in[i] = rand() % 10 ? 0 : in[i];
        time_block("int8, 90 % zeros", TP_CODE_BYTES);
        time_coders();
        for (int i = 0; i < BLOCK / 2; i++) {
            const float x = 0.03f * (float)normal();
            uint32_t bits;
            memcpy(&bits, &x, 4);
            memcpy(in + 2 * i, (char *)&bits + 2, 2);
        }
        time_block("bf16", TP_CODE_BF16);
        for (int i = 0; i < BLOCK / 4; i++) {
            const float x = 0.03f * (float)normal();
            memcpy(in + 4 * i, &x, 4);
        }
        time_block("f32", TP_CODE_F32);
        for (int i = 0; i < BLOCK / 2; i++) {
            const uint16_t s = (uint16_t)(2048 + (int)(300 * normal()));
            memcpy(in + 2 * i, &s, 2);
        }
        time_block("symbols", TP_CODE_SYMBOLS);
        FILE *file = argc > 1 ? fopen(argv[1], "rb") : NULL;
        if (file && fread(in, 1, BLOCK, file) == BLOCK) {
            time_block("file as bf16", TP_CODE_BF16);
            time_block("file as bytes", TP_CODE_BYTES);
        }
        if (file) fclose(file);
    }
    free(scratch);
    return 0;
}
