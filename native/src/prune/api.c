/* The public functions: checks up front, in checks.h, so that kernels have none. */
#include "core/dispatch.h"
#include "prune/checks.h"
#include "prune/kernels.h"
#include "prune/scalar.h"

const tp_prune_kernels tp_prune_tables[TP_TIERS_BUILT] = TP_KERNEL_TABLES(TP_PRUNE_KERNELS);

TP_FIND_KERNELS(prune)

tp_status tp_prune_histogram(const tp_scores *spec, int64_t begin, int64_t end, const void *in, int32_t digit,
                             uint32_t prefix, int64_t *counts) {
    const tp_prune_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_prune_histogram(spec, begin, end, in, digit, counts, &any));
    return any ? kernels->prune_histogram(spec, begin, end, in, digit, prefix, counts) : TP_OK;
}

tp_status tp_prune_count(const tp_scores *spec, int64_t begin, int64_t end, const void *in, uint32_t key,
                         int64_t *larger, int64_t *equal) {
    const tp_prune_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_prune_count(spec, begin, end, in, larger, equal, &any));
    *larger = *equal = 0;
    return any ? kernels->prune_count(spec, begin, end, in, key, larger, equal) : TP_OK;
}

tp_status tp_prune_find(const tp_scores *spec, int64_t begin, int64_t end, const void *in, uint32_t key, int64_t skip,
                        int64_t *row, int64_t *col) {
    const tp_prune_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_prune_find(spec, begin, end, in, skip, row, col, &any));
    *row = *col = -1;
    return any ? kernels->prune_find(spec, begin, end, in, key, skip, row, col) : TP_OK;
}

tp_status tp_prune_mask(const tp_scores *spec, int64_t begin, int64_t end, const void *in, uint32_t key,
                        int64_t tie_row, int64_t tie_col, uint8_t *mask) {
    const tp_prune_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_prune_mask(spec, begin, end, in, mask, &any));
    return any ? kernels->prune_mask(spec, begin, end, in, key, tie_row, tie_col, mask) : TP_OK;
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
    TRY(tp_check_scores(spec));
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

tp_status tp_prune_lines_scratch(const tp_scores *spec, int32_t axis, int64_t *bytes) {
    int64_t lines, length;
    TRY(tp_check_prune_axis(spec, axis, &lines, &length));
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
    int64_t bytes;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_prune_lines(spec, axis, begin, end, in, k, mask, &any));
    TRY(tp_prune_lines_scratch(spec, axis, &bytes));
    if (!any) return TP_OK;
    if (!tp_aligned(scratch)) return TP_ERR_ARGUMENT;
    return kernels->prune_lines(spec, axis, begin, end, in, k, mask, scratch);
}

tp_status tp_prune_nm(const tp_scores *spec, int32_t axis, int64_t begin, int64_t end, const void *in, int32_t n,
                      int32_t m, uint8_t *mask) {
    const tp_prune_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_prune_nm(spec, axis, begin, end, in, n, m, mask, &any));
    return any ? kernels->prune_nm(spec, axis, begin, end, in, n, m, mask) : TP_OK;
}

tp_status tp_prune_blocks(const tp_scores *spec, int64_t block_rows, int64_t block_cols, int64_t begin, int64_t end,
                          const void *in, float *scores) {
    const tp_prune_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_prune_blocks(spec, block_rows, block_cols, begin, end, in, scores, &any));
    return any ? kernels->prune_blocks(spec, block_rows, block_cols, begin, end, in, scores) : TP_OK;
}

tp_status tp_prune_expand(const tp_scores *spec, int64_t block_rows, int64_t block_cols, int64_t begin, int64_t end,
                          const uint8_t *block_mask, uint8_t *mask) {
    const tp_prune_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_prune_expand(spec, block_rows, block_cols, begin, end, block_mask, mask, &any));
    return any ? kernels->prune_expand(spec, block_rows, block_cols, begin, end, block_mask, mask) : TP_OK;
}

tp_status tp_prune_apply(const tp_scores *spec, int64_t begin, int64_t end, const void *in, const uint8_t *mask,
                         void *out) {
    const tp_prune_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_prune_apply(spec, begin, end, in, mask, out, &any));
    return any ? kernels->prune_apply(spec, begin, end, in, mask, out) : TP_OK;
}

tp_status tp_prune_error(const tp_scores *spec, int64_t begin, int64_t end, const void *in, const void *out,
                         tp_error *errors) {
    const tp_prune_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_prune_error(spec, begin, end, in, out, errors, &any));
    return any ? kernels->prune_error(spec, begin, end, in, out, errors) : TP_OK;
}
