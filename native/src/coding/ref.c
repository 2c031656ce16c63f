#include "coding/kernels.h"
#include "coding/scalar.h"

tp_status tp_coding_histogram__ref(int32_t width, int64_t n, const void *in, uint32_t *counts) {
    for (int64_t i = 0; i < n; i++) {
        const uint32_t s = symbol_at(width, in, i);
        if (s >= TP_CODING_ALPHABET) return TP_ERR_MAGNITUDE;
        counts[s]++;
    }
    return TP_OK;
}

tp_status tp_rans_encode__ref(int32_t width, int64_t n, const void *in, int32_t log_total, const uint16_t *frequencies, uint8_t *out,
                              int64_t capacity, int64_t *bytes, void *scratch) {
    uint32_t states[LANES_ALL], *const ranges = scratch;
    uint8_t *end = out + capacity;
    bool missing = false;
    for (int l = 0; l < LANES_ALL; l++) states[l] = LOWEST_STATE;
    rans_ranges(width, frequencies, ranges);
    const bool fits = rans_encode_some(width, n, 0, in, log_total, ranges, states, out, &end, &missing);
    *bytes = fits ? rans_finish(states, out, capacity, end) : -1;
    return missing ? TP_ERR_MAGNITUDE : TP_OK;
}

tp_status tp_rans_decode__ref(int32_t width, int32_t log_total, const uint16_t *frequencies, const tp_sequence *one, const tp_sequence *two,
                              void *scratch) {
    uint32_t states[LANES_ALL];
    rans_slots *const slots = scratch;
    if (!rans_begin(one, states)) return TP_ERR_FORMAT;
    rans_find_slots(width, frequencies, slots);
    TRY(rans_decode_rest(width, one, 0, log_total, slots, states, one->in + STATE_BYTES));
    return two ? tp_rans_decode__ref(width, log_total, frequencies, two, NULL, scratch) : TP_OK;
}

tp_status tp_huffman_encode__ref(int64_t n, const uint8_t *in, const uint8_t *lengths, uint8_t *out, int64_t capacity, int64_t *bytes) {
    return huffman_encode_all(n, in, lengths, out, capacity, bytes);
}

tp_status tp_huffman_decode__ref(int64_t n, const uint8_t *lengths, const uint8_t *in, int64_t bytes, uint8_t *out, void *scratch) {
    return huffman_decode_all(n, lengths, in, bytes, out, scratch);
}

/* Elements of up to 4 bytes as numbers. */
static inline uint32_t element_at(int size, const void *p, int64_t i) {
    const uint8_t *const at = (const uint8_t *)p + i * size;
    return size == 2 ? get16(at) : get32(at);
}

tp_status tp_planes_split__ref(tp_elements e, int64_t n, const void *in, const void *base, uint8_t *planes) {
    const int size = tp_element_bytes(e);
    for (int64_t i = 0; i < n; i++) {
        const uint32_t x = element_at(size, in, i) ^ (base ? element_at(size, base, i) : 0);
        uint8_t *const p = planes + i;
        if (e == TP_CODE_F16) {
            p[0] = (uint8_t)(x >> 8);
            p[n] = (uint8_t)x;
        } else if (e == TP_CODE_BF16) {
            p[0] = (uint8_t)(x >> 7);
            p[n] = (uint8_t)((x & 127) | (x >> 8 & 128));
        } else {
            p[0] = (uint8_t)(x >> 23);
            p[n] = (uint8_t)((x >> 16 & 127) | (x >> 24 & 128));
            p[2 * n] = (uint8_t)(x >> 8);
            p[3 * n] = (uint8_t)x;
        }
    }
    return TP_OK;
}

tp_status tp_planes_merge__ref(tp_elements e, int64_t n, const uint8_t *const *p, const void *base, void *out) {
    const int size = tp_element_bytes(e);
    for (int64_t i = 0; i < n; i++) {
        const uint32_t a = p[0][i], b = p[1][i];
        uint32_t x;
        if (e == TP_CODE_F16) x = a << 8 | b;
        else if (e == TP_CODE_BF16) x = (b & 128) << 8 | a << 7 | (b & 127);
        else x = (b & 128) << 24 | a << 23 | (b & 127) << 16 | (uint32_t)p[2][i] << 8 | p[3][i];
        if (base) x ^= element_at(size, base, i);
        if (size == 2) put16((uint8_t *)out + 2 * i, x);
        else put32((uint8_t *)out + 4 * i, x);
    }
    return TP_OK;
}

tp_status tp_xor__ref(int64_t n, const uint8_t *a, const uint8_t *b, uint8_t *out) {
    for (int64_t i = 0; i < n; i++) out[i] = a[i] ^ b[i];
    return TP_OK;
}

tp_status tp_zeros_cut__ref(int64_t n, const uint8_t *in, uint8_t *mask, uint8_t *rest, int64_t *count) {
    *count = cut_some(0, n, in, mask, rest, 0);
    return TP_OK;
}

tp_status tp_zeros_put__ref(int64_t n, const uint8_t *mask, const uint8_t *rest, int64_t count, uint8_t *out) {
    (void)count;
    put_some(0, n, mask, rest, out);
    return TP_OK;
}
