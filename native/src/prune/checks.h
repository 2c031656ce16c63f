/*
 * What the functions of the prune family ask of their arguments, on the processor and on CUDA devices. *any says whether there is
 * anything to do.
 */
#ifndef TP_PRUNE_CHECKS_H
#define TP_PRUNE_CHECKS_H

#include "core/checks.h"
#include "prune/scalar.h"

/* All but the order. */
static inline tp_status tp_check_prune_matrix(const tp_scores *spec) {
    if (!spec) return TP_ERR_ARGUMENT;
    if (!tp_is_float(spec->type)) return TP_ERR_TYPE;
    return tp_check_matrix(spec->rows, spec->cols, spec->stride);
}

static inline tp_status tp_check_scores(const tp_scores *spec) {
    TRY(tp_check_prune_matrix(spec));
    return spec->order == TP_ORDER_MAGNITUDE || spec->order == TP_ORDER_VALUE ? TP_OK : TP_ERR_ARGUMENT;
}

static inline tp_status tp_check_score_rows(const tp_scores *spec, int64_t begin, int64_t end, bool *any) {
    TRY(tp_check_scores(spec));
    TRY(tp_check_range(begin, end, spec->rows));
    *any = begin < end && spec->cols > 0;
    return TP_OK;
}

static inline tp_status tp_check_prune_histogram(const tp_scores *spec, int64_t begin, int64_t end, const void *in, int32_t digit,
                                                 const int64_t *counts, bool *any) {
    TRY(tp_check_score_rows(spec, begin, end, any));
    return digit < 0 || digit >= TP_PRUNE_DIGITS || !counts || (*any && !in) ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_prune_count(const tp_scores *spec, int64_t begin, int64_t end, const void *in, const int64_t *larger,
                                             const int64_t *equal, bool *any) {
    TRY(tp_check_score_rows(spec, begin, end, any));
    return !larger || !equal || (*any && !in) ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_prune_find(const tp_scores *spec, int64_t begin, int64_t end, const void *in, int64_t skip,
                                            const int64_t *row, const int64_t *col, bool *any) {
    TRY(tp_check_score_rows(spec, begin, end, any));
    return skip < 0 || !row || !col || (*any && !in) ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_prune_mask(const tp_scores *spec, int64_t begin, int64_t end, const void *in, const uint8_t *mask,
                                            bool *any) {
    TRY(tp_check_score_rows(spec, begin, end, any));
    return *any && (!in || !mask) ? TP_ERR_ARGUMENT : TP_OK;
}

/* How many lines there are along an axis, and how long they are. */
static inline tp_status tp_check_prune_axis(const tp_scores *spec, int32_t axis, int64_t *lines, int64_t *length) {
    TRY(tp_check_scores(spec));
    if (axis != 0 && axis != 1) return TP_ERR_ARGUMENT;
    *lines = axis == 1 ? spec->rows : spec->cols;
    *length = axis == 1 ? spec->cols : spec->rows;
    return TP_OK;
}

static inline tp_status tp_check_prune_lines(const tp_scores *spec, int32_t axis, int64_t begin, int64_t end, const void *in, int64_t k,
                                             const uint8_t *mask, bool *any) {
    int64_t lines, length;
    TRY(tp_check_prune_axis(spec, axis, &lines, &length));
    if (k < 0) return TP_ERR_SHAPE;
    TRY(tp_check_range(begin, end, lines));
    if (axis == 0 && ((begin % 8 && begin != lines) || (end % 8 && end != lines))) return TP_ERR_RANGE;
    *any = begin < end && length > 0;
    return *any && (!in || !mask) ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_prune_nm(const tp_scores *spec, int32_t axis, int64_t begin, int64_t end, const void *in, int32_t n,
                                          int32_t m, const uint8_t *mask, bool *any) {
    int64_t lines, length;
    TRY(tp_check_prune_axis(spec, axis, &lines, &length));
    if (n < 1 || n > m || m > 16) return TP_ERR_SHAPE;
    TRY(tp_check_range(begin, end, axis == 1 ? spec->rows : tp_groups(spec->rows, m)));
    *any = begin < end && spec->cols > 0;
    return *any && (!in || !mask) ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_block_rows(const tp_scores *spec, int64_t block_rows, int64_t block_cols, int64_t begin, int64_t end,
                                            bool *any) {
    const int64_t limit = INT64_C(1) << 31;
    if (block_rows < 1 || block_rows > limit || block_cols < 1 || block_cols > limit) return TP_ERR_SHAPE;
    *any = begin < end && spec->cols > 0;
    return tp_check_range(begin, end, tp_groups(spec->rows, block_rows));
}

static inline tp_status tp_check_prune_blocks(const tp_scores *spec, int64_t block_rows, int64_t block_cols, int64_t begin, int64_t end,
                                              const void *in, const float *scores, bool *any) {
    TRY(tp_check_scores(spec));
    TRY(tp_check_block_rows(spec, block_rows, block_cols, begin, end, any));
    return *any && (!in || !scores) ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_prune_expand(const tp_scores *spec, int64_t block_rows, int64_t block_cols, int64_t begin, int64_t end,
                                              const uint8_t *block_mask, const uint8_t *mask, bool *any) {
    if (!spec) return TP_ERR_ARGUMENT;
    TRY(tp_check_matrix(spec->rows, spec->cols, spec->cols));
    TRY(tp_check_block_rows(spec, block_rows, block_cols, begin, end, any));
    return *any && (!block_mask || !mask) ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_prune_apply(const tp_scores *spec, int64_t begin, int64_t end, const void *in, const uint8_t *mask,
                                             const void *out, bool *any) {
    TRY(tp_check_prune_matrix(spec));
    TRY(tp_check_range(begin, end, spec->rows));
    *any = begin < end && spec->cols > 0;
    return *any && (!in || !mask || !out) ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_prune_error(const tp_scores *spec, int64_t begin, int64_t end, const void *in, const void *out,
                                             const tp_error *errors, bool *any) {
    TRY(tp_check_prune_matrix(spec));
    TRY(tp_check_range(begin, end, spec->rows));
    *any = begin < end;
    return *any && (!errors || (spec->cols && (!in || !out))) ? TP_ERR_ARGUMENT : TP_OK;
}

#endif
