/* What the functions of this family ask of their arguments, on the processor and on CUDA devices, and how a product is cut into lines. */
#ifndef TP_SPMM_CHECKS_H
#define TP_SPMM_CHECKS_H

#include "core/checks.h"
#include "tensorpress/spmm.h"

/* Rows of A in a line. */
static inline int64_t tp_line_rows(const tp_product *p) { return p->a.layout == TP_SPARSE_BSR ? p->a.block_rows : 1; }

/* Rows of A in this line: the last line of blocks may reach beyond the edge. */
static inline int64_t tp_rows_of(const tp_product *p, int64_t line) {
    const int64_t rows = tp_line_rows(p), left = p->a.rows - line * rows;
    return left < rows ? left : rows;
}

/* The values of a line of TP_SPARSE_NM24. */
static inline int64_t tp_nm24_units(const tp_product *p) { return (p->a.cols + 3) / 4 * 2; }

static inline int64_t tp_spmm_lines(const tp_product *p) {
    const int64_t rows = tp_line_rows(p);
    return p->a.rows / rows + (p->a.rows % rows != 0);
}

/* The rows of B and of out differ between A and its transpose. */
static inline tp_status tp_spmm_check_product(const tp_product *p, bool transposed) {
    if (!p) return TP_ERR_ARGUMENT;
    const tp_sparse *a = &p->a;
    switch (a->layout) {
    case TP_SPARSE_CSR16:
    case TP_SPARSE_CSR32: break;
    case TP_SPARSE_BSR:
    case TP_SPARSE_NM24:
        if (!transposed) break;
        return TP_ERR_ARGUMENT;
    default: return TP_ERR_ARGUMENT;
    }
    if (a->type != TP_F32 && a->type != TP_I8) return TP_ERR_TYPE;
    TRY(tp_check_matrix(a->rows, a->cols, a->cols));
    if (a->cols >= INT64_C(1) << 32) return TP_ERR_SHAPE;
    if (a->layout == TP_SPARSE_BSR) {
        if (a->block_rows < 1 || a->block_rows > 64 || a->block_cols < 1 || a->block_cols > 64) return TP_ERR_SHAPE;
    } else if (a->block_rows || a->block_cols) {
        return TP_ERR_SHAPE;
    }
    TRY(tp_check_matrix(transposed ? a->rows : a->cols, p->n, p->b_stride));
    return tp_check_matrix(transposed ? a->cols : a->rows, p->n, p->out_stride);
}

/* Before offsets are read. */
static inline tp_status tp_spmm_check_offsets(const tp_product *p, const int64_t *offsets, const void *out) {
    return !out || (!offsets && p->a.layout != TP_SPARSE_NM24) ? TP_ERR_ARGUMENT : TP_OK;
}

/* Pointers to nothing may be null. */
static inline tp_status tp_spmm_check_units(int64_t units, const void *indices, const void *values, const void *b) {
    return units && (!indices || !values || !b) ? TP_ERR_ARGUMENT : TP_OK;
}

#endif
