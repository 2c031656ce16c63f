/*
 * The kernels of the prune family. Arguments are those of the public functions after the checks of api.c: ranges lie
 * inside the matrix and are not empty, and neither are its rows and columns, except where it says so.
 */
#ifndef TP_PRUNE_KERNELS_H
#define TP_PRUNE_KERNELS_H

#include "core/family.h"
#include "tensorpress/prune.h"

/* prune_error: cols may be 0. */
#define TP_PRUNE_KERNELS(X)                                                                                           \
    X(prune_histogram, (const tp_scores *spec, int64_t begin, int64_t end, const void *in, int32_t digit,             \
                        uint32_t prefix, int64_t *counts))                                                            \
    X(prune_count, (const tp_scores *spec, int64_t begin, int64_t end, const void *in, uint32_t key, int64_t *larger, \
                    int64_t *equal))                                                                                  \
    X(prune_find, (const tp_scores *spec, int64_t begin, int64_t end, const void *in, uint32_t key, int64_t skip,     \
                   int64_t *row, int64_t *col))                                                                       \
    X(prune_mask, (const tp_scores *spec, int64_t begin, int64_t end, const void *in, uint32_t key, int64_t tie_row,  \
                   int64_t tie_col, uint8_t *mask))                                                                   \
    X(prune_lines, (const tp_scores *spec, int32_t axis, int64_t begin, int64_t end, const void *in, int64_t k,       \
                    uint8_t *mask, void *scratch))                                                                    \
    X(prune_nm, (const tp_scores *spec, int32_t axis, int64_t begin, int64_t end, const void *in, int32_t n,          \
                 int32_t m, uint8_t *mask))                                                                           \
    X(prune_blocks, (const tp_scores *spec, int64_t block_rows, int64_t block_cols, int64_t begin, int64_t end,       \
                     const void *in, float *scores))                                                                  \
    X(prune_expand, (const tp_scores *spec, int64_t block_rows, int64_t block_cols, int64_t begin, int64_t end,       \
                     const uint8_t *block_mask, uint8_t *mask))                                                       \
    X(prune_apply, (const tp_scores *spec, int64_t begin, int64_t end, const void *in, const uint8_t *mask,           \
                    void *out))                                                                                       \
    X(prune_error, (const tp_scores *spec, int64_t begin, int64_t end, const void *in, const void *out,               \
                    tp_error *errors))

typedef struct tp_prune_kernels {
    TP_PRUNE_KERNELS(TP_KERNEL_FIELD)
} tp_prune_kernels;
TP_PRUNE_KERNELS(TP_KERNEL_DECLARE)
extern const tp_prune_kernels tp_prune_tables[TP_TIERS_BUILT];

/* Scratch of prune_lines: with axis 1 the keys of a row and those still in question, with axis 0 the keys of a panel of
   columns, one column after the other, and the same. */
enum { TP_PRUNE_PANEL = 32 };

/* Keys from one line to the next: whole vectors, and one more so that columns do not all meet in the same cache sets. */
static inline int64_t tp_prune_line_stride(int64_t length) { return (length + 15) / 16 * 16 + 16; }

#endif
