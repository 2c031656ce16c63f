/* The public functions: checks up front, so that kernels have none. */
#include "core/dispatch.h"
#include "sparse/kernels.h"

const tp_sparse_kernels tp_sparse_tables[TP_TIERS_BUILT] = TP_KERNEL_TABLES(TP_SPARSE_KERNELS);

TP_FIND_KERNELS(sparse)

static tp_status plan_matrix(const tp_sparse *s, tp_sparse_plan *p) {
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

static tp_status plan_layout(const tp_sparse *s, tp_sparse_plan *p) {
    TRY(plan_matrix(s, p));
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

tp_status tp_sparse_survey(const tp_sparse *spec, int64_t begin, int64_t end, const void *in, tp_survey *survey) {
    const tp_sparse_kernels *kernels;
    tp_sparse_plan plan;
    TRY(find_kernels(&kernels));
    TRY(plan_matrix(spec, &plan));
    TRY(tp_check_range(begin, end, plan.rows));
    if (begin % 8 || (end % 8 && end != plan.rows)) return TP_ERR_RANGE;
    if (!survey) return TP_ERR_ARGUMENT;
    *survey = (tp_survey){0};
    if (begin == end || plan.cols == 0) return TP_OK;
    if (!in) return TP_ERR_ARGUMENT;
    return kernels->sparse_survey(&plan, begin, end, in, survey);
}

/* a * b * c, TP_ERR_SHAPE above 2^62; none of them is negative. */
static tp_status multiply(int64_t a, int64_t b, int64_t c, int64_t *product) {
    const int64_t limit = INT64_C(1) << 62;
    if ((b && a > limit / b) || (c && a * b > limit / c)) return TP_ERR_SHAPE;
    *product = a * b * c;
    return TP_OK;
}

tp_status tp_sparse_bytes(const tp_sparse *spec, int64_t units, int64_t *offsets, int64_t *indices, int64_t *values) {
    tp_sparse_plan plan;
    TRY(plan_layout(spec, &plan));
    if (!offsets || !indices || !values) return TP_ERR_ARGUMENT;
    if (plan.layout == TP_SPARSE_NM24) {
        *offsets = 0;
        TRY(multiply(plan.rows, plan.index_row, 1, indices));
        return multiply(plan.rows, plan.groups * 2, plan.size, values);
    }
    if (units < 0 || plan.lines == INT64_MAX) return TP_ERR_SHAPE;
    TRY(multiply(plan.lines + 1, sizeof(int64_t), 1, offsets));
    if (plan.layout == TP_SPARSE_BITMASK)
        TRY(multiply(plan.rows, plan.index_row, 1, indices));
    else
        TRY(multiply(units, plan.layout == TP_SPARSE_CSR16 ? 2 : 4, 1, indices));
    return multiply(units, plan.layout == TP_SPARSE_BSR ? plan.block_rows * plan.block_cols : 1, plan.size, values);
}

tp_status tp_sparse_count(const tp_sparse *spec, int64_t begin, int64_t end, const void *in, int64_t *counts) {
    const tp_sparse_kernels *kernels;
    tp_sparse_plan plan;
    TRY(find_kernels(&kernels));
    TRY(plan_layout(spec, &plan));
    TRY(tp_check_range(begin, end, plan.lines));
    if (begin == end) return TP_OK;
    if (!counts) return TP_ERR_ARGUMENT;
    if (plan.cols == 0) {
        for (int64_t i = 0; i < end - begin; i++) counts[i] = 0;
        return TP_OK;
    }
    if (!in) return TP_ERR_ARGUMENT;
    return kernels->sparse_count(&plan, begin, end, in, counts);
}

tp_status tp_sparse_count_mask(const tp_sparse *spec, int64_t begin, int64_t end, const uint8_t *indices,
                               int64_t *counts) {
    const tp_sparse_kernels *kernels;
    tp_sparse_plan plan;
    TRY(find_kernels(&kernels));
    TRY(plan_layout(spec, &plan));
    if (plan.layout != TP_SPARSE_BITMASK) return TP_ERR_ARGUMENT;
    TRY(tp_check_range(begin, end, plan.lines));
    if (begin == end) return TP_OK;
    if (!counts || (!indices && plan.cols)) return TP_ERR_ARGUMENT;
    return kernels->sparse_count_mask(&plan, begin, end, indices, counts);
}

/* Pointers to nothing may be null. */
static tp_status check_pointers(const tp_sparse_plan *p, int64_t begin, int64_t end, const void *dense,
                                const int64_t *offsets, const void *indices, const void *values) {
    bool any = true;
    if (!dense) return TP_ERR_ARGUMENT;
    if (p->layout != TP_SPARSE_NM24) {
        if (!offsets) return TP_ERR_ARGUMENT;
        any = offsets[end] > offsets[begin];
    }
    return (!indices && (any || p->index_row)) || (!values && any) ? TP_ERR_ARGUMENT : TP_OK;
}

tp_status tp_sparse_pack(const tp_sparse *spec, int64_t begin, int64_t end, const void *in, const int64_t *offsets,
                         void *indices, void *values) {
    const tp_sparse_kernels *kernels;
    tp_sparse_plan plan;
    TRY(find_kernels(&kernels));
    TRY(plan_layout(spec, &plan));
    TRY(tp_check_range(begin, end, plan.lines));
    if (begin == end || plan.cols == 0) return TP_OK;
    TRY(check_pointers(&plan, begin, end, in, offsets, indices, values));
    return kernels->sparse_pack(&plan, begin, end, in, offsets, indices, values);
}

tp_status tp_sparse_check(const tp_sparse *spec, int64_t begin, int64_t end, int64_t units, const int64_t *offsets,
                          const void *indices, int64_t *bad_line) {
    const tp_sparse_kernels *kernels;
    tp_sparse_plan plan;
    TRY(find_kernels(&kernels));
    TRY(plan_layout(spec, &plan));
    TRY(tp_check_range(begin, end, plan.lines));
    if (!bad_line) return TP_ERR_ARGUMENT;
    *bad_line = -1;
    if (plan.layout != TP_SPARSE_NM24) {
        if (units < 0) return TP_ERR_SHAPE;
        if (!offsets && (begin < end || plan.lines == 0)) return TP_ERR_ARGUMENT;
        if (plan.lines == 0 && (units || offsets[0])) {
            *bad_line = 0;
            return TP_ERR_FORMAT;
        }
    }
    if (begin == end) return TP_OK;
    const bool any = plan.layout == TP_SPARSE_NM24 || plan.layout == TP_SPARSE_BITMASK ? plan.index_row > 0 : units > 0;
    if (any && !indices) return TP_ERR_ARGUMENT;
    return kernels->sparse_check(&plan, begin, end, units, offsets, indices, bad_line);
}

tp_status tp_sparse_unpack(const tp_sparse *spec, int64_t begin, int64_t end, const int64_t *offsets,
                           const void *indices, const void *values, void *out) {
    const tp_sparse_kernels *kernels;
    tp_sparse_plan plan;
    TRY(find_kernels(&kernels));
    TRY(plan_layout(spec, &plan));
    TRY(tp_check_range(begin, end, plan.lines));
    if (begin == end || plan.cols == 0) return TP_OK;
    TRY(check_pointers(&plan, begin, end, out, offsets, indices, values));
    return kernels->sparse_unpack(&plan, begin, end, offsets, indices, values, out);
}
