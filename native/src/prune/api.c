/* The public functions: checks up front, so that kernels have none. */
#include "core/dispatch.h"
#include "prune/kernels.h"
#include "prune/scalar.h"

const tp_prune_kernels tp_prune_tables[TP_TIERS_BUILT] = TP_KERNEL_TABLES(TP_PRUNE_KERNELS);

TP_FIND_KERNELS(prune)

/* All but the order. */
static tp_status check_matrix(const tp_scores *spec) {
    if (!spec) return TP_ERR_ARGUMENT;
    if (!tp_is_float(spec->type)) return TP_ERR_TYPE;
    return tp_check_matrix(spec->rows, spec->cols, spec->stride);
}

static tp_status check_order(const tp_scores *spec) {
    return spec->order == TP_ORDER_MAGNITUDE || spec->order == TP_ORDER_VALUE ? TP_OK : TP_ERR_ARGUMENT;
}

static tp_status check_scores(const tp_scores *spec, int64_t begin, int64_t end) {
    TRY(check_matrix(spec));
    TRY(check_order(spec));
    return tp_check_range(begin, end, spec->rows);
}

tp_status tp_prune_histogram(const tp_scores *spec, int64_t begin, int64_t end, const void *in, int32_t digit,
                             uint32_t prefix, int64_t *counts) {
    const tp_prune_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(check_scores(spec, begin, end));
    if (digit < 0 || digit >= TP_PRUNE_DIGITS || !counts) return TP_ERR_ARGUMENT;
    if (begin == end || spec->cols == 0) return TP_OK;
    if (!in) return TP_ERR_ARGUMENT;
    return kernels->prune_histogram(spec, begin, end, in, digit, prefix, counts);
}

tp_status tp_prune_count(const tp_scores *spec, int64_t begin, int64_t end, const void *in, uint32_t key,
                         int64_t *larger, int64_t *equal) {
    const tp_prune_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(check_scores(spec, begin, end));
    if (!larger || !equal) return TP_ERR_ARGUMENT;
    *larger = *equal = 0;
    if (begin == end || spec->cols == 0) return TP_OK;
    if (!in) return TP_ERR_ARGUMENT;
    return kernels->prune_count(spec, begin, end, in, key, larger, equal);
}

tp_status tp_prune_find(const tp_scores *spec, int64_t begin, int64_t end, const void *in, uint32_t key, int64_t skip,
                        int64_t *row, int64_t *col) {
    const tp_prune_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(check_scores(spec, begin, end));
    if (skip < 0 || !row || !col) return TP_ERR_ARGUMENT;
    *row = *col = -1;
    if (begin == end || spec->cols == 0) return TP_OK;
    if (!in) return TP_ERR_ARGUMENT;
    return kernels->prune_find(spec, begin, end, in, key, skip, row, col);
}

tp_status tp_prune_mask(const tp_scores *spec, int64_t begin, int64_t end, const void *in, uint32_t key,
                        int64_t tie_row, int64_t tie_col, uint8_t *mask) {
    const tp_prune_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(check_scores(spec, begin, end));
    if (begin == end || spec->cols == 0) return TP_OK;
    if (!in || !mask) return TP_ERR_ARGUMENT;
    return kernels->prune_mask(spec, begin, end, in, key, tie_row, tie_col, mask);
}

/* The score that a key stands for; its lower half is 0 if the type has 16 bits. */
static double score_of(const tp_scores *spec, uint32_t key) {
    uint32_t bits = key >> 1;
    if (spec->order == TP_ORDER_VALUE) bits = key >> TP_SIGN_SHIFT ? key ^ UINT32_C(1) << TP_SIGN_SHIFT : ~key;
    const uint16_t half = (uint16_t)(bits >> 16);
    return spec->type == TP_F32 ? tp_float(bits) : spec->type == TP_F16 ? tp_f32_of_f16(half) : tp_f32_of_bf16(half);
}

tp_status tp_prune_key(const tp_scores *spec, double score, uint32_t *key) {
    const tp_prune_kernels *kernels;
    TRY(find_kernels(&kernels)); /* for TP_ERR_ISA only: there is nothing here that vectors could speed up */
    TRY(check_matrix(spec));
    TRY(check_order(spec));
    if (!key) return TP_ERR_ARGUMENT;
    if (score != score) return TP_ERR_NONFINITE;
    const bool magnitude = spec->order == TP_ORDER_MAGNITUDE;
    const uint32_t zero = magnitude ? 0 : UINT32_C(1) << TP_SIGN_SHIFT, infinity = tp_infinity_key(spec->type);
    /* Keys grow with their scores, so halving the range between the infinities finds the first; in units of the last
       place of the type. */
    const int shift = (spec->type == TP_F32 ? 0 : 16) + magnitude;
    uint32_t low = magnitude ? 0 : ~(infinity >> 1 | zero) >> shift;
    uint32_t high = (magnitude ? infinity : infinity >> 1 | zero) >> shift;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (score_of(spec, middle << shift) >= score)
            high = middle;
        else
            low = middle + 1;
    }
    *key = low << shift;
    /* The place of -0 in the order of values, which is taken for +0. */
    if (!magnitude && low + 1 == zero >> shift) *key = zero;
    return TP_OK;
}

static tp_status lines_of(const tp_scores *spec, int32_t axis, int64_t *lines, int64_t *length) {
    TRY(check_matrix(spec));
    TRY(check_order(spec));
    if (axis != 0 && axis != 1) return TP_ERR_ARGUMENT;
    *lines = axis == 1 ? spec->rows : spec->cols;
    *length = axis == 1 ? spec->cols : spec->rows;
    return TP_OK;
}

tp_status tp_prune_lines_scratch(const tp_scores *spec, int32_t axis, int64_t *bytes) {
    int64_t lines, length;
    TRY(lines_of(spec, axis, &lines, &length));
    if (!bytes) return TP_ERR_ARGUMENT;
    *bytes = 0;
    if (lines == 0 || length == 0) return TP_OK;
    if (length >= INT64_C(1) << 48) return TP_ERR_SHAPE;
    *bytes = ((axis == 1 ? 1 : TP_PRUNE_PANEL) + 1) * tp_prune_line_stride(length) * (int64_t)sizeof(uint32_t);
    return TP_OK;
}

tp_status tp_prune_lines(const tp_scores *spec, int32_t axis, int64_t begin, int64_t end, const void *in, int64_t k,
                         uint8_t *mask, void *scratch) {
    const tp_prune_kernels *kernels;
    int64_t lines, length, bytes;
    TRY(find_kernels(&kernels));
    TRY(lines_of(spec, axis, &lines, &length));
    TRY(tp_prune_lines_scratch(spec, axis, &bytes));
    if (k < 0) return TP_ERR_SHAPE;
    TRY(tp_check_range(begin, end, lines));
    if (axis == 0 && ((begin % 8 && begin != lines) || (end % 8 && end != lines))) return TP_ERR_RANGE;
    if (begin == end || length == 0) return TP_OK;
    if (!in || !mask || !tp_aligned(scratch)) return TP_ERR_ARGUMENT;
    return kernels->prune_lines(spec, axis, begin, end, in, k, mask, scratch);
}

tp_status tp_prune_nm(const tp_scores *spec, int32_t axis, int64_t begin, int64_t end, const void *in, int32_t n,
                      int32_t m, uint8_t *mask) {
    const tp_prune_kernels *kernels;
    int64_t lines, length;
    TRY(find_kernels(&kernels));
    TRY(lines_of(spec, axis, &lines, &length));
    if (n < 1 || n > m || m > 16) return TP_ERR_SHAPE;
    TRY(tp_check_range(begin, end, axis == 1 ? spec->rows : tp_groups(spec->rows, m)));
    if (begin == end || spec->cols == 0) return TP_OK;
    if (!in || !mask) return TP_ERR_ARGUMENT;
    return kernels->prune_nm(spec, axis, begin, end, in, n, m, mask);
}

static tp_status check_blocks(int64_t rows, int64_t block_rows, int64_t block_cols, int64_t begin, int64_t end) {
    const int64_t limit = INT64_C(1) << 31;
    if (block_rows < 1 || block_rows > limit || block_cols < 1 || block_cols > limit) return TP_ERR_SHAPE;
    return tp_check_range(begin, end, tp_groups(rows, block_rows));
}

tp_status tp_prune_blocks(const tp_scores *spec, int64_t block_rows, int64_t block_cols, int64_t begin, int64_t end,
                          const void *in, float *scores) {
    const tp_prune_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(check_matrix(spec));
    TRY(check_order(spec));
    TRY(check_blocks(spec->rows, block_rows, block_cols, begin, end));
    if (begin == end || spec->cols == 0) return TP_OK;
    if (!in || !scores) return TP_ERR_ARGUMENT;
    return kernels->prune_blocks(spec, block_rows, block_cols, begin, end, in, scores);
}

tp_status tp_prune_expand(const tp_scores *spec, int64_t block_rows, int64_t block_cols, int64_t begin, int64_t end,
                          const uint8_t *block_mask, uint8_t *mask) {
    const tp_prune_kernels *kernels;
    TRY(find_kernels(&kernels));
    if (!spec) return TP_ERR_ARGUMENT;
    TRY(tp_check_matrix(spec->rows, spec->cols, spec->cols));
    TRY(check_blocks(spec->rows, block_rows, block_cols, begin, end));
    if (begin == end || spec->cols == 0) return TP_OK;
    if (!block_mask || !mask) return TP_ERR_ARGUMENT;
    return kernels->prune_expand(spec, block_rows, block_cols, begin, end, block_mask, mask);
}

tp_status tp_prune_apply(const tp_scores *spec, int64_t begin, int64_t end, const void *in, const uint8_t *mask,
                         void *out) {
    const tp_prune_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(check_matrix(spec));
    TRY(tp_check_range(begin, end, spec->rows));
    if (begin == end || spec->cols == 0) return TP_OK;
    if (!in || !mask || !out) return TP_ERR_ARGUMENT;
    return kernels->prune_apply(spec, begin, end, in, mask, out);
}

tp_status tp_prune_error(const tp_scores *spec, int64_t begin, int64_t end, const void *in, const void *out,
                         tp_error *errors) {
    const tp_prune_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(check_matrix(spec));
    TRY(tp_check_range(begin, end, spec->rows));
    if (begin == end) return TP_OK;
    if (!errors || (spec->cols && (!in || !out))) return TP_ERR_ARGUMENT;
    return kernels->prune_error(spec, begin, end, in, out, errors);
}
