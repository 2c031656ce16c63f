#include <immintrin.h>

#include "core/kernels.h"

enum { AHEAD = 4096 };

static inline void prefetch(const void *p) { _mm_prefetch((const char *)((uintptr_t)p + AHEAD), _MM_HINT_T0); }

/* The low bytes of 32 floats. */
static inline __m256i narrow32(const char *in) {
    const __m256i mask = _mm256_set1_epi32(0xff);
    __m256i x[4];
    for (int k = 0; k < 4; k++) x[k] = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(in + 32 * k)), mask);
    const __m256i bytes = _mm256_packus_epi16(_mm256_packus_epi32(x[0], x[1]), _mm256_packus_epi32(x[2], x[3]));
    return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

tp_status tp_stream_narrow__avx2(const float *in, int64_t n, uint8_t *out) {
    const int64_t aligned = (int64_t)(-(uintptr_t)out % 64), head = aligned < n ? aligned : n;
    tp_stream_narrow__ref(in, head, out);
    const char *p = (const char *)in + 4 * head; /* at any address */
    int64_t i = head;
    for (; i + 64 <= n; i += 64, p += 256) {
        for (int k = 0; k < 4; k++) prefetch(p + 64 * k);
        const __m256i low = narrow32(p), high = narrow32(p + 128);
        _mm256_stream_si256((__m256i *)(out + i), low);
        _mm256_stream_si256((__m256i *)(out + i + 32), high);
    }
    _mm_sfence();
    return tp_stream_narrow__ref((const void *)p, n - i, out + i);
}

tp_status tp_stream_read__avx2(const void *in, int64_t n_bytes, uint64_t *out) {
    const char *p = in;
    __m256i sum[8];
    for (int k = 0; k < 8; k++) sum[k] = _mm256_setzero_si256();
    for (; n_bytes >= 256; n_bytes -= 256, p += 256) {
        for (int k = 0; k < 8; k++) {
            if (k % 2 == 0) prefetch(p + 32 * k);
            sum[k] = _mm256_xor_si256(sum[k], _mm256_loadu_si256((const __m256i *)(p + 32 * k)));
        }
    }
    uint64_t words[4], rest;
    for (int k = 1; k < 8; k++) sum[0] = _mm256_xor_si256(sum[0], sum[k]);
    _mm256_storeu_si256((__m256i *)words, sum[0]);
    tp_stream_read__ref(p, n_bytes, &rest);
    for (int k = 0; k < 4; k++) rest ^= words[k];
    *out = rest;
    return TP_OK;
}
