/*
 * SHA-256 with the instructions for it. Their latency is twice what their throughput allows, so that rounds of two messages fit
 * between each other.
 */
#include <immintrin.h>

#include "core/sha256.h"

#define INLINE static inline __attribute__((always_inline))

/* The state as the instructions want it: {a, b, e, f} and {c, d, g, h}, the first in the high bits. */
typedef struct words {
    __m128i abef, cdgh;
} words;

INLINE words load_state(const uint32_t *state) {
    const __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0xb1);
    const __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(state + 4)), 0x1b);
    return (words){_mm_alignr_epi8(badc, hgfe, 8), _mm_blend_epi16(hgfe, badc, 0xf0)};
}

INLINE void store_state(words w, uint32_t *state) {
    const __m128i feba = _mm_shuffle_epi32(w.abef, 0x1b), dchg = _mm_shuffle_epi32(w.cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

/* `lanes` is a constant wherever this is inlined. */
INLINE void hash_blocks(int lanes, uint32_t *const *states, const uint8_t *const *in, int64_t blocks) {
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    words w[2];
    for (int l = 0; l < lanes; l++) w[l] = load_state(states[l]);
    for (int64_t at = 0; at < blocks; at++) {
        __m128i m[2][4];
        words before[2];
        for (int l = 0; l < lanes; l++) {
            before[l] = w[l];
            for (int k = 0; k < 4; k++) {
                const __m128i bytes = _mm_loadu_si128((const __m128i *)(in[l] + TP_SHA256_BLOCK * at + 16 * k));
                m[l][k] = _mm_shuffle_epi8(bytes, big_endian);
            }
        }
#pragma GCC unroll 16
        for (int g = 0; g < 16; g++) {
            const __m128i constants = _mm_loadu_si128((const __m128i *)(tp_sha256_rounds + 4 * g));
            for (int l = 0; l < lanes; l++) {
                if (g >= 4) {
                    /* In the order of age, m holds the words 16, 12, 8 and 4 back. */
                    __m128i *oldest = &m[l][g % 4];
                    const __m128i last = m[l][(g + 3) % 4], seven = _mm_alignr_epi8(last, m[l][(g + 2) % 4], 4);
                    const __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(*oldest, m[l][(g + 1) % 4]), seven);
                    *oldest = _mm_sha256msg2_epu32(sum, last);
                }
                const __m128i x = _mm_add_epi32(m[l][g % 4], constants);
                w[l].cdgh = _mm_sha256rnds2_epu32(w[l].cdgh, w[l].abef, x);
                w[l].abef = _mm_sha256rnds2_epu32(w[l].abef, w[l].cdgh, _mm_shuffle_epi32(x, 0x0e));
            }
        }
        for (int l = 0; l < lanes; l++) {
            w[l].abef = _mm_add_epi32(w[l].abef, before[l].abef);
            w[l].cdgh = _mm_add_epi32(w[l].cdgh, before[l].cdgh);
        }
    }
    for (int l = 0; l < lanes; l++) store_state(w[l], states[l]);
}

void tp_sha256_blocks__ni(uint32_t *state, uint32_t *other, const uint8_t *in, const uint8_t *other_in, int64_t blocks) {
    uint32_t *const states[2] = {state, other};
    const uint8_t *const ins[2] = {in, other_in};
    if (other) hash_blocks(2, states, ins, blocks);
    else hash_blocks(1, states, ins, blocks);
}
