/*
 * What the functions of the sparse family ask of their arguments, on the processor and on CUDA devices, and the plan that goes with them.
 * *any says whether there is anything to do.
 */
#ifndef TP_SPARSE_CHECKS_H
#define TP_SPARSE_CHECKS_H

#include "core/checks.h"
#include "sparse/plan.h"

static inline tp_status tp_plan_sparse_matrix(const tp_sparse *s, tp_sparse_plan *p) {
    if (!s) return TP_ERR_ARGUMENT;
    switch (s->type) {
    case TP_F32: p->size = 4; break;
    case TP_F16: case TP_BF16: p->size = 2; break;
    case TP_I8: case TP_U8: p->size = 1; break;
    default: return TP_ERR_TYPE;
    }
    TRY(tp_check_matrix(s->rows, s->cols, s->stride));
    if (s->cols >= INT64_C(1) << 32) return TP_ERR_SHAPE;
    p->rows = p->lines = s->rows;
    p->cols = s->cols;
    p->stride = s->stride;
    p->groups = tp_divide_up(s->cols, 4);
    p->block_rows = p->block_cols = p->index_row = 0;
    p->layout = 0;
    return TP_OK;
}

static inline tp_status tp_plan_sparse(const tp_sparse *s, tp_sparse_plan *p) {
    TRY(tp_plan_sparse_matrix(s, p));
    p->layout = s->layout;
    if (p->layout < TP_SPARSE_CSR16 || p->layout > TP_SPARSE_NM24) return TP_ERR_ARGUMENT;
    if (p->layout == TP_SPARSE_BSR) {
        if (s->block_rows < 1 || s->block_rows > 64 || s->block_cols < 1 || s->block_cols > 64) return TP_ERR_SHAPE;
        p->block_rows = s->block_rows;
        p->block_cols = s->block_cols;
        p->lines = tp_divide_up(s->rows, s->block_rows);
    } else if (s->block_rows || s->block_cols) {
        return TP_ERR_SHAPE;
    }
    if (p->layout == TP_SPARSE_BITMASK) p->index_row = tp_divide_up(s->cols, 8);
    if (p->layout == TP_SPARSE_NM24) p->index_row = tp_divide_up(p->groups, 2);
    return TP_OK;
}

static inline tp_status tp_check_sparse_survey(const tp_sparse *spec, int64_t begin, int64_t end, const void *in, const tp_survey *survey,
                                               tp_sparse_plan *plan, bool *any) {
    TRY(tp_plan_sparse_matrix(spec, plan));
    TRY(tp_check_range(begin, end, plan->rows));
    if (begin % 8 || (end % 8 && end != plan->rows)) return TP_ERR_RANGE;
    *any = begin < end && plan->cols > 0;
    return !survey || (*any && !in) ? TP_ERR_ARGUMENT : TP_OK;
}

/* Without columns there are counts all the same. */
static inline tp_status tp_check_sparse_count(const tp_sparse *spec, int64_t begin, int64_t end, const void *in, const int64_t *counts,
                                              tp_sparse_plan *plan, bool *any) {
    TRY(tp_plan_sparse(spec, plan));
    TRY(tp_check_range(begin, end, plan->lines));
    *any = begin < end;
    return *any && (!counts || (plan->cols && !in)) ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_sparse_count_mask(const tp_sparse *spec, int64_t begin, int64_t end, const uint8_t *indices,
                                                   const int64_t *counts, tp_sparse_plan *plan, bool *any) {
    TRY(tp_plan_sparse(spec, plan));
    if (plan->layout != TP_SPARSE_BITMASK) return TP_ERR_ARGUMENT;
    TRY(tp_check_range(begin, end, plan->lines));
    *any = begin < end;
    return *any && (!counts || (!indices && plan->cols)) ? TP_ERR_ARGUMENT : TP_OK;
}

/* What packing and unpacking ask before offsets are read, ... */
static inline tp_status tp_check_sparse_lines(const tp_sparse *spec, int64_t begin, int64_t end, const void *dense, const int64_t *offsets,
                                              tp_sparse_plan *plan, bool *any) {
    TRY(tp_plan_sparse(spec, plan));
    TRY(tp_check_range(begin, end, plan->lines));
    *any = begin < end && plan->cols > 0;
    return *any && (!dense || (plan->layout != TP_SPARSE_NM24 && !offsets)) ? TP_ERR_ARGUMENT : TP_OK;
}

/* ... and when it is known whether there are units: pointers to nothing may be null. */
static inline tp_status tp_check_sparse_arrays(const tp_sparse_plan *p, bool units, const void *indices, const void *values) {
    units |= p->layout == TP_SPARSE_NM24;
    return (!indices && (units || p->index_row)) || (!values && units) ? TP_ERR_ARGUMENT : TP_OK;
}

/* Without lines, which is for the caller to see, offsets[0] and units have to be 0. */
static inline tp_status tp_check_sparse_check(const tp_sparse *spec, int64_t begin, int64_t end, int64_t units, const int64_t *offsets,
                                              const void *indices, const int64_t *bad_line, tp_sparse_plan *plan, bool *any) {
    TRY(tp_plan_sparse(spec, plan));
    TRY(tp_check_range(begin, end, plan->lines));
    if (!bad_line) return TP_ERR_ARGUMENT;
    *any = begin < end;
    if (plan->layout != TP_SPARSE_NM24) {
        if (units < 0) return TP_ERR_SHAPE;
        if (!offsets && (*any || plan->lines == 0)) return TP_ERR_ARGUMENT;
    }
    const bool touched = plan->layout == TP_SPARSE_NM24 || plan->layout == TP_SPARSE_BITMASK ? plan->index_row > 0 : units > 0;
    return *any && touched && !indices ? TP_ERR_ARGUMENT : TP_OK;
}

#endif
