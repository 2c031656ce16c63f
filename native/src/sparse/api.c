/* The public functions: checks up front, in checks.h, so that kernels have none. */
#include "core/dispatch.h"
#include "sparse/checks.h"
#include "sparse/kernels.h"

const tp_sparse_kernels tp_sparse_tables[TP_TIERS_BUILT] = TP_KERNEL_TABLES(TP_SPARSE_KERNELS);

TP_FIND_KERNELS(sparse)

tp_status tp_sparse_survey(const tp_sparse *spec, int64_t begin, int64_t end, const void *in, tp_survey *survey) {
    const tp_sparse_kernels *kernels;
    tp_sparse_plan plan;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_sparse_survey(spec, begin, end, in, survey, &plan, &any));
    *survey = (tp_survey){0};
    return any ? kernels->sparse_survey(&plan, begin, end, in, survey) : TP_OK;
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
    TRY(tp_plan_sparse(spec, &plan));
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
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_sparse_count(spec, begin, end, in, counts, &plan, &any));
    if (plan.cols == 0) {
        for (int64_t i = 0; i < end - begin; i++) counts[i] = 0;
        return TP_OK;
    }
    return any ? kernels->sparse_count(&plan, begin, end, in, counts) : TP_OK;
}

tp_status tp_sparse_count_mask(const tp_sparse *spec, int64_t begin, int64_t end, const uint8_t *indices,
                               int64_t *counts) {
    const tp_sparse_kernels *kernels;
    tp_sparse_plan plan;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_sparse_count_mask(spec, begin, end, indices, counts, &plan, &any));
    return any ? kernels->sparse_count_mask(&plan, begin, end, indices, counts) : TP_OK;
}

tp_status tp_sparse_pack(const tp_sparse *spec, int64_t begin, int64_t end, const void *in, const int64_t *offsets,
                         void *indices, void *values) {
    const tp_sparse_kernels *kernels;
    tp_sparse_plan plan;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_sparse_lines(spec, begin, end, in, offsets, &plan, &any));
    if (!any) return TP_OK;
    TRY(tp_check_sparse_arrays(&plan, plan.layout != TP_SPARSE_NM24 && offsets[end] > offsets[begin], indices, values));
    return kernels->sparse_pack(&plan, begin, end, in, offsets, indices, values);
}

tp_status tp_sparse_check(const tp_sparse *spec, int64_t begin, int64_t end, int64_t units, const int64_t *offsets,
                          const void *indices, int64_t *bad_line) {
    const tp_sparse_kernels *kernels;
    tp_sparse_plan plan;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_sparse_check(spec, begin, end, units, offsets, indices, bad_line, &plan, &any));
    *bad_line = -1;
    if (plan.layout != TP_SPARSE_NM24 && plan.lines == 0 && (units || offsets[0])) {
        *bad_line = 0;
        return TP_ERR_FORMAT;
    }
    return any ? kernels->sparse_check(&plan, begin, end, units, offsets, indices, bad_line) : TP_OK;
}

tp_status tp_sparse_unpack(const tp_sparse *spec, int64_t begin, int64_t end, const int64_t *offsets,
                           const void *indices, const void *values, void *out) {
    const tp_sparse_kernels *kernels;
    tp_sparse_plan plan;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_sparse_lines(spec, begin, end, out, offsets, &plan, &any));
    if (!any) return TP_OK;
    TRY(tp_check_sparse_arrays(&plan, plan.layout != TP_SPARSE_NM24 && offsets[end] > offsets[begin], indices, values));
    return kernels->sparse_unpack(&plan, begin, end, offsets, indices, values, out);
}
