/* The public functions: checks up front, so that kernels have none. */
#include "core/dispatch.h"
#include "spmm/checks.h"
#include "spmm/kernels.h"

const tp_spmm_kernels tp_spmm_tables[TP_TIERS_BUILT] = TP_KERNEL_TABLES(TP_SPMM_KERNELS);

TP_FIND_KERNELS(spmm)

static tp_status check_pointers(const tp_product *p, int64_t begin, int64_t end, const int64_t *offsets,
                                const void *indices, const void *values, const void *b, const void *out) {
    TRY(tp_spmm_check_offsets(p, offsets, out));
    const bool nm24 = p->a.layout == TP_SPARSE_NM24;
    return tp_spmm_check_units(nm24 ? tp_nm24_units(p) : offsets[end] - offsets[begin], indices, values, b);
}

tp_status tp_spmm(const tp_product *spec, int64_t begin, int64_t end, const int64_t *offsets, const void *indices,
                  const void *values, const void *b, void *out) {
    const tp_spmm_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(tp_spmm_check_product(spec, false));
    TRY(tp_check_range(begin, end, tp_spmm_lines(spec)));
    if (begin == end || spec->n == 0) return TP_OK;
    TRY(check_pointers(spec, begin, end, offsets, indices, values, b, out));
    return kernels->spmm(spec, begin, end, offsets, indices, values, b, out);
}

/* Whether the line has this segment. */
static tp_status check_segment(const tp_product *p, int64_t line, int64_t segment, const int64_t *offsets) {
    if (p->a.layout == TP_SPARSE_NM24) return TP_ERR_ARGUMENT;
    if (line < 0 || line >= tp_spmm_lines(p) || segment < 0) return TP_ERR_RANGE;
    if (!offsets) return TP_ERR_ARGUMENT;
    const int64_t units = offsets[line + 1] - offsets[line];
    return segment >= units / TP_SPMM_SEGMENT + (units % TP_SPMM_SEGMENT != 0) ? TP_ERR_RANGE : TP_OK;
}

tp_status tp_spmm_segment(const tp_product *spec, int64_t line, int64_t segment, int64_t column,
                          const int64_t *offsets, const void *indices, const void *values, const void *b,
                          void *partial) {
    const tp_spmm_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(tp_spmm_check_product(spec, false));
    TRY(check_segment(spec, line, segment, offsets));
    if (spec->a.layout == TP_SPARSE_CSR16 && (column < 0 || column >= spec->a.cols)) return TP_ERR_RANGE;
    if (spec->n == 0) return TP_OK;
    if (!indices || !values || !b || !partial) return TP_ERR_ARGUMENT;
    return kernels->spmm_segment(spec, line, segment, column, offsets, indices, values, b, partial);
}

tp_status tp_spmm_column(const tp_product *spec, int64_t line, int64_t segment, const int64_t *offsets,
                         const void *indices, int64_t *column) {
    const tp_spmm_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(tp_spmm_check_product(spec, false));
    TRY(check_segment(spec, line, segment, offsets));
    if (!indices || !column) return TP_ERR_ARGUMENT;
    *column = 0;
    if (spec->a.layout != TP_SPARSE_CSR16) return TP_OK;
    return kernels->spmm_column((const uint16_t *)indices + offsets[line], segment * TP_SPMM_SEGMENT, column);
}

tp_status tp_spmm_add(const tp_product *spec, int64_t line, int64_t segments, const void *partials, void *out) {
    const tp_spmm_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(tp_spmm_check_product(spec, false));
    if (spec->a.layout == TP_SPARSE_NM24) return TP_ERR_ARGUMENT;
    if (line < 0 || line >= tp_spmm_lines(spec) || segments < 0) return TP_ERR_RANGE;
    if (spec->n == 0) return TP_OK;
    TRY(tp_check_matrix(segments, tp_line_rows(spec) * spec->n, tp_line_rows(spec) * spec->n));
    if (!out || (segments && !partials)) return TP_ERR_ARGUMENT;
    return kernels->spmm_add(spec, line, segments, partials, out);
}

tp_status tp_spmm_transposed(const tp_product *spec, int64_t begin, int64_t end, int64_t first, int64_t last,
                             const int64_t *offsets, const void *indices, const void *values, const void *b,
                             void *out) {
    const tp_spmm_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(tp_spmm_check_product(spec, true));
    TRY(tp_check_range(begin, end, spec->a.rows));
    TRY(tp_check_range(first, last, spec->n));
    if (begin == end || first == last || spec->a.cols == 0) return TP_OK;
    TRY(check_pointers(spec, begin, end, offsets, indices, values, b, out));
    return kernels->spmm_transposed(spec, begin, end, first, last, offsets, indices, values, b, out);
}
