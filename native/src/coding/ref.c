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

tp_status tp_huffman_encode__ref(int64_t n, const uint8_t *in, const uint8_t *lengths, uint8_t *out, int64_t capacity, int64_t *bytes,
                                 void *scratch) {
    (void)scratch;
    return huffman_encode_all(n, in, lengths, out, capacity, bytes);
}

tp_status tp_huffman_decode__ref(int64_t n, const uint8_t *lengths, const uint8_t *in, int64_t bytes, uint8_t *out, void *scratch) {
    return huffman_decode_all(n, lengths, in, bytes, out, scratch);
}

tp_status tp_planes_split__ref(tp_elements elements, int64_t n, const void *in, const void *base, uint8_t *planes) {
    split_some(elements, 0, n, in, base, planes);
    return TP_OK;
}

tp_status tp_planes_merge__ref(tp_elements elements, int64_t n, const uint8_t *const *planes, const void *base, void *out) {
    merge_some(elements, 0, n, planes, base, out);
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
