#include "coding/rans.h"

#include "coding/scalar.h"

static int64_t first_of(int64_t n) { return n / (2 * LANES_ALL) * LANES_ALL; }

tp_status tp_rans_write(const tp_coding_kernels *kernels, int32_t width, int64_t n, const void *in, int32_t log_total,
                        const uint16_t *frequencies, uint8_t *out, int64_t capacity, int64_t *bytes, void *scratch) {
    if (n < TP_RANS_HALVED) return kernels->rans_encode(width, n, in, log_total, frequencies, out, capacity, bytes, scratch);
    const int64_t first = first_of(n);
    int64_t one, two;
    *bytes = -1;
    if (capacity < 4) return TP_OK;
    TRY(kernels->rans_encode(width, first, in, log_total, frequencies, out + 4, capacity - 4, &one, scratch));
    if (one < 0 || one > UINT32_MAX) return TP_OK;
    put32(out, (uint32_t)one);
    TRY(kernels->rans_encode(width, n - first, (const uint8_t *)in + first * width, log_total, frequencies, out + 4 + one, capacity - 4 - one, &two,
                             scratch));
    if (two >= 0) *bytes = 4 + one + two;
    return TP_OK;
}

tp_status tp_rans_read(const tp_coding_kernels *kernels, int32_t width, int64_t n, int32_t log_total, const uint16_t *frequencies,
                       const uint8_t *in, int64_t bytes, void *out, void *scratch) {
    tp_sequence one = {.n = n, .bytes = bytes, .in = in, .out = out};
    if (n < TP_RANS_HALVED) return kernels->rans_decode(width, log_total, frequencies, &one, NULL, scratch);
    if (bytes < 4 || get32(in) > bytes - 4) return TP_ERR_FORMAT;
    one.n = first_of(n);
    one.bytes = get32(in);
    one.in = in + 4;
    const tp_sequence two = {.n = n - one.n, .bytes = bytes - 4 - one.bytes, .in = one.in + one.bytes, .out = (uint8_t *)out + one.n * width};
    return kernels->rans_decode(width, log_total, frequencies, &one, &two, scratch);
}
