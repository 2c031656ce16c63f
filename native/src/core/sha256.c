#include "core/sha256.h"

#include <string.h>

#include "core/dispatch.h"

const uint32_t tp_sha256_rounds[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static inline uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void put_big_endian(uint64_t value, int bytes, uint8_t *out) {
    for (int i = 0; i < bytes; i++) out[i] = (uint8_t)(value >> 8 * (bytes - 1 - i));
}

static void compress(uint32_t *state, const uint8_t *in) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)in[4 * i] << 24 | (uint32_t)in[4 * i + 1] << 16 | (uint32_t)in[4 * i + 2] << 8 | in[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        const uint32_t early = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        const uint32_t late = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + early + w[i - 7] + late;
    }
    memcpy(s, state, sizeof s);
    for (int i = 0; i < 64; i += 8) {
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
#define WORD(k) s[(k - j) & 7] /* the words move on by one each round */
            const uint32_t e = rotate(WORD(4), 6) ^ rotate(WORD(4), 11) ^ rotate(WORD(4), 25);
            const uint32_t choice = (WORD(4) & WORD(5)) ^ (~WORD(4) & WORD(6));
            const uint32_t t = WORD(7) + e + choice + tp_sha256_rounds[i + j] + w[i + j];
            const uint32_t a = rotate(WORD(0), 2) ^ rotate(WORD(0), 13) ^ rotate(WORD(0), 22);
            const uint32_t majority = (WORD(0) & WORD(1)) ^ (WORD(0) & WORD(2)) ^ (WORD(1) & WORD(2));
            WORD(3) += t;
            WORD(7) = t + a + majority;
#undef WORD
        }
    }
    for (int i = 0; i < 8; i++) state[i] += s[i];
}

void tp_sha256_blocks__ref(uint32_t *state, uint32_t *other, const uint8_t *in, const uint8_t *other_in, int64_t blocks) {
    for (int64_t i = 0; i < blocks; i++) {
        compress(state, in + TP_SHA256_BLOCK * i);
        if (other) compress(other, other_in + TP_SHA256_BLOCK * i);
    }
}

static void blocks(tp_tier tier, uint32_t *state, uint32_t *other, const uint8_t *in, const uint8_t *other_in, int64_t n) {
#ifdef TP_TIERS_X86
    if (tp_use_sha(tier)) {
        tp_sha256_blocks__ni(state, other, in, other_in, n);
        return;
    }
#endif
    (void)tier;
    tp_sha256_blocks__ref(state, other, in, other_in, n);
}

tp_status tp_sha256_start(tp_sha256 *hash) {
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    if (!hash) return TP_ERR_ARGUMENT;
    memset(hash, 0, sizeof *hash);
    memcpy(hash->state, start, sizeof start);
    return TP_OK;
}

/* Fills the block that waits, and hashes it if it gets full. The number of bytes taken. */
static int64_t fill(tp_tier tier, tp_sha256 *hash, const uint8_t *in, int64_t n) {
    const int64_t waiting = (int64_t)(hash->n_bytes % TP_SHA256_BLOCK), room = TP_SHA256_BLOCK - waiting;
    if (waiting == 0) return 0;
    const int64_t taken = n < room ? n : room;
    memcpy(hash->block + waiting, in, (size_t)taken);
    if (taken == room) blocks(tier, hash->state, NULL, hash->block, NULL, 1);
    return taken;
}

/* Whole blocks are hashed where they are, of both messages side by side, and the rest waits. */
tp_status tp_sha256_update(tp_sha256 *hash, tp_sha256 *other, const void *in, int64_t n_bytes) {
    tp_tier tier;
    const tp_status status = tp_active_tier(&tier);
    if (status) return status;
    if (n_bytes < 0) return TP_ERR_SHAPE;
    if (!hash || hash == other || (!in && n_bytes)) return TP_ERR_ARGUMENT;
    if (n_bytes == 0) return TP_OK;
    tp_sha256 *const hashes[2] = {hash, other};
    const uint8_t *at[2] = {in, in};
    int64_t full[2] = {0, 0};
    for (int i = 0; i < 2 && hashes[i]; i++) {
        const int64_t taken = fill(tier, hashes[i], in, n_bytes);
        at[i] += taken;
        full[i] = (n_bytes - taken) / TP_SHA256_BLOCK;
    }
    if (other) {
        const int64_t both = full[0] < full[1] ? full[0] : full[1];
        blocks(tier, hash->state, other->state, at[0], at[1], both);
        for (int i = 0; i < 2; i++) {
            at[i] += TP_SHA256_BLOCK * both;
            full[i] -= both;
        }
    }
    for (int i = 0; i < 2 && hashes[i]; i++) {
        blocks(tier, hashes[i]->state, NULL, at[i], NULL, full[i]);
        at[i] += TP_SHA256_BLOCK * full[i];
        memcpy(hashes[i]->block, at[i], (size_t)((const uint8_t *)in + n_bytes - at[i]));
        hashes[i]->n_bytes += (uint64_t)n_bytes;
    }
    return TP_OK;
}

tp_status tp_sha256_finish(tp_sha256 *hash, uint8_t *digest) {
    tp_tier tier;
    const tp_status status = tp_active_tier(&tier);
    if (status) return status;
    if (!hash || !digest) return TP_ERR_ARGUMENT;
    uint8_t end[2 * TP_SHA256_BLOCK] = {0};
    const int64_t waiting = (int64_t)(hash->n_bytes % TP_SHA256_BLOCK);
    const int64_t n = waiting + 9 > TP_SHA256_BLOCK ? 2 : 1; /* a bit that is set, and the length in bits */
    memcpy(end, hash->block, (size_t)waiting);
    end[waiting] = 0x80;
    put_big_endian(hash->n_bytes * 8, 8, end + TP_SHA256_BLOCK * n - 8);
    blocks(tier, hash->state, NULL, end, NULL, n);
    for (int i = 0; i < 8; i++) put_big_endian(hash->state[i], 4, digest + 4 * i);
    return TP_OK;
}
