/* A tp_sparse that has been checked, with what follows from it. Kernels know the size of an element, not its type. */
#ifndef TP_SPARSE_PLAN_H
#define TP_SPARSE_PLAN_H

#include <stdbool.h>

#include "tensorpress/sparse.h"

typedef struct tp_sparse_plan {
    int64_t rows, cols, stride;
    int64_t block_rows, block_cols; /* 0 unless TP_SPARSE_BSR */
    int64_t lines, size;            /* bytes of an element */
    int64_t index_row;              /* bytes of a row of indices: TP_SPARSE_BITMASK and TP_SPARSE_NM24, else 0 */
    int64_t groups;                 /* of four columns, in a row */
    int layout;
} tp_sparse_plan;

enum { TP_SPARSE_GAP = 65535 }; /* the largest distance of TP_SPARSE_CSR16 */

static inline int64_t tp_divide_up(int64_t a, int64_t b) { return a / b + (a % b != 0); }

#endif
