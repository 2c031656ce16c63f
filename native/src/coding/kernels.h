/* The kernels of the coding family. Arguments are those of the public functions after the checks of api.c. */
#ifndef TP_CODING_KERNELS_H
#define TP_CODING_KERNELS_H

#include "core/family.h"
#include "tensorpress/coding.h"

/* What is decoded as one: n symbols, of all these bytes. */
typedef struct tp_sequence {
    int64_t n, bytes;
    const uint8_t *in;
    void *out;
} tp_sequence;

/* rans_encode makes one sequence; rans_decode reads one, or two at once where `two` is not null. */
#define TP_CODING_KERNELS(X)                                                                                          \
    X(coding_histogram, (int32_t width, int64_t n, const void *in, uint32_t *counts))                                 \
    X(rans_encode, (int32_t width, int64_t n, const void *in, int32_t log_total, const uint16_t *frequencies,         \
                    uint8_t *out, int64_t capacity, int64_t *bytes, void *scratch))                                   \
    X(rans_decode, (int32_t width, int32_t log_total, const uint16_t *frequencies, const tp_sequence *one,            \
                    const tp_sequence *two, void *scratch))                                                           \
    X(huffman_encode, (int64_t n, const uint8_t *in, const uint8_t *lengths, uint8_t *out, int64_t capacity,          \
                       int64_t *bytes))                                                                               \
    X(huffman_decode, (int64_t n, const uint8_t *lengths, const uint8_t *in, int64_t bytes, uint8_t *out,             \
                       void *scratch))                                                                                \
    X(planes_split, (tp_elements elements, int64_t n, const void *in, const void *base, uint8_t *planes))             \
    X(planes_merge, (tp_elements elements, int64_t n, const uint8_t *const *planes, const void *base, void *out))     \
    X(xor, (int64_t n, const uint8_t *a, const uint8_t *b, uint8_t *out))                                             \
    X(zeros_cut, (int64_t n, const uint8_t *in, uint8_t *mask, uint8_t *rest, int64_t *count))                        \
    X(zeros_put, (int64_t n, const uint8_t *mask, const uint8_t *rest, int64_t count, uint8_t *out))

typedef struct tp_coding_kernels {
    TP_CODING_KERNELS(TP_KERNEL_FIELD)
} tp_coding_kernels;
TP_CODING_KERNELS(TP_KERNEL_DECLARE)
extern const tp_coding_kernels tp_coding_tables[TP_TIERS_BUILT];

#endif
