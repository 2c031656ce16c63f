/* What the functions of this family ask of their arguments. */
#ifndef TP_CODING_CHECKS_H
#define TP_CODING_CHECKS_H

#include "core/checks.h"
#include "tensorpress/coding.h"

/* Symbols that any call may have, so that counts and offsets do not overflow. */
#define TP_MOST_SYMBOLS (INT64_C(1) << 40)

static inline int32_t tp_alphabet(int32_t width) { return width == 1 ? 256 : TP_CODING_ALPHABET; }

/* Bytes of an element, or 0 for what is none. */
static inline int32_t tp_element_bytes(tp_elements e) {
    switch (e) {
        case TP_CODE_BYTES:
        case TP_CODE_NIBBLES:
        case TP_CODE_F8_E4M3:
        case TP_CODE_F8_E5M2: return 1;
        case TP_CODE_SYMBOLS:
        case TP_CODE_F16:
        case TP_CODE_BF16: return 2;
        case TP_CODE_F32: return 4;
        default: return 0;
    }
}

static inline tp_status tp_check_symbols(int32_t width, int64_t n, const void *in) {
    if (width != 1 && width != 2) return TP_ERR_ARGUMENT;
    if (n < 0 || n > TP_MOST_SYMBOLS) return TP_ERR_SHAPE;
    return n == 0 || in ? TP_OK : TP_ERR_ARGUMENT;
}

static inline tp_status tp_check_frequencies(int32_t width, int32_t log_total, const uint16_t *frequencies) {
    if (log_total < 11 || log_total > 15 || !frequencies) return TP_ERR_ARGUMENT;
    uint32_t sum = 0;
    for (int32_t s = 0; s < tp_alphabet(width); s++) {
        if (frequencies[s] >> log_total) return TP_ERR_ARGUMENT;
        sum += frequencies[s];
    }
    return sum == UINT32_C(1) << log_total ? TP_OK : TP_ERR_ARGUMENT;
}

static inline tp_status tp_check_lengths(const uint8_t *lengths) {
    if (!lengths) return TP_ERR_ARGUMENT;
    uint32_t sum = 0;
    for (int s = 0; s < 256; s++) {
        if (lengths[s] > TP_HUFFMAN_LONGEST) return TP_ERR_ARGUMENT;
        if (lengths[s]) sum += UINT32_C(1) << (TP_HUFFMAN_LONGEST - lengths[s]);
    }
    return sum == 1 << TP_HUFFMAN_LONGEST ? TP_OK : TP_ERR_ARGUMENT;
}

static inline tp_status tp_check_block(tp_elements elements, int64_t bytes) {
    const int32_t size = tp_element_bytes(elements);
    if (!size) return TP_ERR_ARGUMENT;
    return bytes < 0 || bytes > TP_BLOCK_MOST || bytes % size ? TP_ERR_SHAPE : TP_OK;
}

#endif
