#include <immintrin.h>

#include "core/kernels.h"

enum { AHEAD = 4096 };

static inline void prefetch(const void *p) { _mm_prefetch((const char *)((uintptr_t)p + AHEAD), _MM_HINT_T0); }

tp_status tp_stream_narrow__avx512(const float *in, int64_t n, uint8_t *out) {
    const int64_t aligned = (int64_t)(-(uintptr_t)out % 64), head = aligned < n ? aligned : n;
    tp_stream_narrow__ref(in, head, out);
    const __m512i mask = _mm512_set1_epi32(0xff);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const char *p = (const char *)in + 4 * head; /* at any address */
    int64_t i = head;
    for (; i + 64 <= n; i += 64, p += 256) {
        __m512i x[4];
        for (int k = 0; k < 4; k++) {
            prefetch(p + 64 * k);
            x[k] = _mm512_and_si512(_mm512_loadu_si512(p + 64 * k), mask);
        }
        const __m512i bytes = _mm512_packus_epi16(_mm512_packus_epi32(x[0], x[1]), _mm512_packus_epi32(x[2], x[3]));
        _mm512_stream_si512((void *)(out + i), _mm512_permutexvar_epi32(order, bytes));
    }
    _mm_sfence();
    return tp_stream_narrow__ref((const void *)p, n - i, out + i);
}

tp_status tp_stream_read__avx512(const void *in, int64_t n_bytes, uint64_t *out) {
    const char *p = in;
    __m512i sum[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    for (; n_bytes >= 256; n_bytes -= 256, p += 256) {
        for (int k = 0; k < 4; k++) {
            prefetch(p + 64 * k);
            sum[k] = _mm512_xor_si512(sum[k], _mm512_loadu_si512(p + 64 * k));
        }
    }
    uint64_t words[8], rest;
    _mm512_storeu_si512(words, _mm512_xor_si512(_mm512_xor_si512(sum[0], sum[1]), _mm512_xor_si512(sum[2], sum[3])));
    tp_stream_read__ref(p, n_bytes, &rest);
    for (int k = 0; k < 8; k++) rest ^= words[k];
    *out = rest;
    return TP_OK;
}
