#include <string.h>

#include "core/kernels.h"

tp_status tp_stream_narrow__ref(const float *in, int64_t n, uint8_t *out) {
    const char *from = (const char *)in;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, from + 4 * i, sizeof bits);
        out[i] = (uint8_t)bits;
    }
    return TP_OK;
}

tp_status tp_stream_read__ref(const void *in, int64_t n_bytes, uint64_t *out) {
    const char *p = in;
    uint64_t sum = 0;
    for (; n_bytes >= 8; n_bytes -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        sum ^= word;
    }
    if (n_bytes) {
        uint64_t word = 0;
        memcpy(&word, p, (size_t)n_bytes);
        sum ^= word;
    }
    *out = sum;
    return TP_OK;
}
