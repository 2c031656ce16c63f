/* The normative variants: every result of this family is what these functions compute. */
#include <math.h>

#include "prune/kernels.h"
#include "prune/scalar.h"

static uint32_t key_at(const tp_scores *s, const void *in, int64_t row, int64_t col) {
    return tp_key_of_bits(s->type, s->order, tp_score_bits(s->type, in, row * s->stride + col));
}

static bool nan_at(const tp_scores *s, const void *in, int64_t row, int64_t col) {
    return tp_bits_are_nan(s->type, tp_score_bits(s->type, in, row * s->stride + col));
}

tp_status tp_prune_histogram__ref(const tp_scores *s, int64_t begin, int64_t end, const void *in, int32_t digit,
                                  uint32_t prefix, int64_t *counts) {
    const int shift = tp_digit_shift(digit);
    bool nan = false;
    for (int64_t r = begin; r < end; r++) {
        for (int64_t c = 0; c < s->cols; c++) {
            const uint32_t key = key_at(s, in, r, c);
            if (digit == 0) nan |= nan_at(s, in, r, c);
            if (digit == 0 || key >> tp_digit_shift(digit - 1) == prefix >> tp_digit_shift(digit - 1))
                counts[key >> shift & (digit == 2 ? 0x3ff : 0x7ff)]++;
        }
    }
    return nan ? TP_ERR_NONFINITE : TP_OK;
}

tp_status tp_prune_count__ref(const tp_scores *s, int64_t begin, int64_t end, const void *in, uint32_t key,
                              int64_t *larger, int64_t *equal) {
    *larger = *equal = 0;
    for (int64_t r = begin; r < end; r++) {
        for (int64_t c = 0; c < s->cols; c++) {
            *larger += key_at(s, in, r, c) > key;
            *equal += key_at(s, in, r, c) == key;
        }
    }
    return TP_OK;
}

tp_status tp_prune_find__ref(const tp_scores *s, int64_t begin, int64_t end, const void *in, uint32_t key, int64_t skip,
                             int64_t *row, int64_t *col) {
    *row = *col = -1;
    for (int64_t r = begin; r < end; r++) {
        for (int64_t c = 0; c < s->cols; c++) {
            if (key_at(s, in, r, c) == key && skip-- == 0) {
                *row = r;
                *col = c;
                return TP_OK;
            }
        }
    }
    return TP_OK;
}

tp_status tp_prune_mask__ref(const tp_scores *s, int64_t begin, int64_t end, const void *in, uint32_t key,
                             int64_t tie_row, int64_t tie_col, uint8_t *mask) {
    const int64_t stride = tp_mask_stride(s->cols);
    for (int64_t r = begin; r < end; r++) {
        uint8_t *bits = mask + r * stride;
        memset(bits, 0, (size_t)stride);
        for (int64_t c = 0; c < s->cols; c++) {
            const uint32_t x = key_at(s, in, r, c);
            const bool tie_kept = r < tie_row || (r == tie_row && c < tie_col);
            if (x > key || (x == key && tie_kept)) tp_set_bit(bits, c);
        }
    }
    return TP_OK;
}

/* A row or a column. */
typedef struct line {
    const tp_scores *s;
    const void *in;
    int32_t axis;
    int64_t index, length;
} line;

static int64_t line_row(const line *l, int64_t i) { return l->axis == 1 ? l->index : i; }
static int64_t line_col(const line *l, int64_t i) { return l->axis == 1 ? i : l->index; }
static uint32_t line_key(const line *l, int64_t i) { return key_at(l->s, l->in, line_row(l, i), line_col(l, i)); }

/* The key of the k-th largest element, 1 <= k <= length, and how many elements with that key are among the k. */
static uint32_t select_key(const line *l, int64_t k, int64_t *ties) {
    uint32_t prefix = 0;
    for (int32_t digit = 0; digit < TP_PRUNE_DIGITS; digit++) {
        const int shift = tp_digit_shift(digit);
        int64_t counts[TP_PRUNE_COUNTS] = {0};
        for (int64_t i = 0; i < l->length; i++) {
            const uint32_t key = line_key(l, i);
            if (digit == 0 || key >> tp_digit_shift(digit - 1) == prefix >> tp_digit_shift(digit - 1))
                counts[key >> shift & (digit == 2 ? 0x3ff : 0x7ff)]++;
        }
        int32_t d = TP_PRUNE_COUNTS - 1;
        for (; counts[d] < k; d--) k -= counts[d];
        prefix |= (uint32_t)d << shift;
    }
    *ties = k;
    return prefix;
}

tp_status tp_prune_lines__ref(const tp_scores *s, int32_t axis, int64_t begin, int64_t end, const void *in, int64_t k,
                              uint8_t *mask, void *scratch) {
    (void)scratch;
    const int64_t stride = tp_mask_stride(s->cols), length = axis == 1 ? s->cols : s->rows;
    bool nan = false;
    for (int64_t r = axis == 1 ? begin : 0; r < (axis == 1 ? end : s->rows); r++) {
        const int64_t first = axis == 1 ? 0 : begin / 8, last = axis == 1 ? stride : tp_mask_stride(end);
        memset(mask + r * stride + first, 0, (size_t)(last - first));
    }
    for (int64_t i = begin; i < end; i++) {
        const line l = {s, in, axis, i, length};
        for (int64_t j = 0; j < length; j++) nan |= nan_at(s, in, line_row(&l, j), line_col(&l, j));
        if (k == 0) continue;
        int64_t ties;
        const uint32_t key = select_key(&l, k < length ? k : length, &ties);
        for (int64_t j = 0; j < length; j++) {
            const uint32_t x = line_key(&l, j);
            if (x > key || (x == key && ties-- > 0)) tp_set_bit(mask + line_row(&l, j) * stride, line_col(&l, j));
        }
    }
    return nan ? TP_ERR_NONFINITE : TP_OK;
}

tp_status tp_prune_nm__ref(const tp_scores *s, int32_t axis, int64_t begin, int64_t end, const void *in, int32_t n,
                           int32_t m, uint8_t *mask) {
    const int64_t stride = tp_mask_stride(s->cols), length = axis == 1 ? s->cols : s->rows;
    const int64_t row0 = axis == 1 ? begin : begin * m;
    const int64_t row1 = axis == 1 ? end : end * m < s->rows ? end * m : s->rows;
    bool nan = false;
    for (int64_t r = row0; r < row1; r++) {
        memset(mask + r * stride, 0, (size_t)stride);
        for (int64_t c = 0; c < s->cols; c++) {
            const line l = {s, in, axis, axis == 1 ? r : c, length};
            const int64_t i = axis == 1 ? c : r, first = i / m * m;
            const uint32_t key = line_key(&l, i);
            int32_t before = 0; /* elements of the group that go first */
            for (int64_t j = first; j < first + m && j < length; j++)
                before += line_key(&l, j) > key || (line_key(&l, j) == key && j < i);
            if (before < n) tp_set_bit(mask + r * stride, c);
            nan |= nan_at(s, in, r, c);
        }
    }
    return nan ? TP_ERR_NONFINITE : TP_OK;
}

tp_status tp_prune_blocks__ref(const tp_scores *s, int64_t block_rows, int64_t block_cols, int64_t begin, int64_t end,
                               const void *in, float *scores) {
    const int64_t across = tp_groups(s->cols, block_cols);
    bool nan = false;
    for (int64_t b = begin; b < end; b++) {
        for (int64_t a = 0; a < across; a++) {
            double sum = 0;
            for (int64_t r = b * block_rows; r < (b + 1) * block_rows && r < s->rows; r++) {
                for (int64_t c = a * block_cols; c < (a + 1) * block_cols && c < s->cols; c++) {
                    const double x = tp_load(s->type, in, r * s->stride + c);
                    sum += s->order == TP_ORDER_MAGNITUDE ? x * x : x;
                }
            }
            if (s->order == TP_ORDER_MAGNITUDE) sum = sqrt(sum);
            scores[b * across + a] = (float)sum;
            nan |= sum != sum;
        }
    }
    return nan ? TP_ERR_NONFINITE : TP_OK;
}

tp_status tp_prune_expand__ref(const tp_scores *s, int64_t block_rows, int64_t block_cols, int64_t begin, int64_t end,
                               const uint8_t *block_mask, uint8_t *mask) {
    const int64_t stride = tp_mask_stride(s->cols), block_stride = tp_mask_stride(tp_groups(s->cols, block_cols));
    for (int64_t b = begin; b < end; b++) {
        for (int64_t r = b * block_rows; r < (b + 1) * block_rows && r < s->rows; r++) {
            memset(mask + r * stride, 0, (size_t)stride);
            for (int64_t c = 0; c < s->cols; c++)
                if (tp_bit(block_mask + b * block_stride, c / block_cols)) tp_set_bit(mask + r * stride, c);
        }
    }
    return TP_OK;
}

tp_status tp_prune_apply__ref(const tp_scores *s, int64_t begin, int64_t end, const void *in, const uint8_t *mask,
                              void *out) {
    const int64_t size = tp_size_of(s->type), stride = tp_mask_stride(s->cols);
    for (int64_t r = begin; r < end; r++) {
        for (int64_t c = 0; c < s->cols; c++) {
            char *to = (char *)out + (r * s->cols + c) * size;
            if (tp_bit(mask + r * stride, c))
                memmove(to, (const char *)in + (r * s->stride + c) * size, (size_t)size);
            else
                memset(to, 0, (size_t)size);
        }
    }
    return TP_OK;
}

tp_status tp_prune_error__ref(const tp_scores *s, int64_t begin, int64_t end, const void *in, const void *out,
                              tp_error *errors) {
    for (int64_t r = begin; r < end; r++) {
        double error[16] = {0}, square[16] = {0}, max = 0;
        for (int64_t c = 0; c < s->cols; c++) {
            const double x = tp_load(s->type, in, r * s->stride + c), d = x - tp_load(s->type, out, r * s->cols + c);
            error[c % 16] += d * d;
            square[c % 16] += x * x;
            max = fabs(d) > max ? fabs(d) : max;
        }
        for (int apart = 8; apart; apart /= 2) {
            for (int lane = 0; lane < apart; lane++) {
                error[lane] += error[lane + apart];
                square[lane] += square[lane + apart];
            }
        }
        errors[r - begin] = tp_error_of(error[0], square[0], max);
    }
    return TP_OK;
}
