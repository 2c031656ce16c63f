#include <string.h>

#include "spmm/kernels.h"

enum { PANEL = 64 }; /* columns of out that are summed together; no sum depends on it */

/* The column of unit u, after `column`, that of the unit before it. For BSR that of the block's first element. */
static int64_t next_column(const tp_product *p, const void *indices, int64_t u, int64_t column) {
    switch (p->a.layout) {
    case TP_SPARSE_CSR16: return column + ((const uint16_t *)indices)[u];
    case TP_SPARSE_CSR32: return ((const uint32_t *)indices)[u];
    case TP_SPARSE_BSR: return ((const uint32_t *)indices)[u] * p->a.block_cols;
    default: break;
    }
    const int64_t units = tp_nm24_units(p), line = u / units, group = u % units / 2;
    const int nibble = ((const uint8_t *)indices)[line * ((units / 2 + 1) / 2) + group / 2] >> group % 2 * 4;
    return 4 * group + (u % 2 ? nibble >> 2 & 3 : nibble & 3);
}

static void add_f32(const float *value, const float *b, int64_t n, float *sums) {
    for (int64_t j = 0; j < n; j++) sums[j] += *value * b[j];
}

/* Unsigned, for sums that wrap around. */
static void add_i8(const int8_t *value, const int8_t *b, int64_t n, uint32_t *sums) {
    for (int64_t j = 0; j < n; j++) sums[j] += (uint32_t)(*value * b[j]);
}

/* Adds value [at] times n elements of B, from row `column` and column j on. */
static void add_product(const tp_product *p, const void *values, int64_t at, const void *b, int64_t column, int64_t j,
                        int64_t n, void *sums) {
    const int64_t from = column * p->b_stride + j;
    if (p->a.type == TP_F32)
        add_f32((const float *)values + at, (const float *)b + from, n, sums);
    else
        add_i8((const int8_t *)values + at, (const int8_t *)b + from, n, sums);
}

/* The sum of units [from, to) of a line, for row `row` of the line and columns [j, j + n) of out. */
static void sum_units(const tp_product *p, int64_t row, int64_t from, int64_t to, int64_t *column, const void *indices,
                      const void *values, const void *b, int64_t j, int64_t n, void *sums) {
    const tp_sparse *a = &p->a;
    memset(sums, 0, (size_t)n * 4);
    for (int64_t u = from; u < to; u++) {
        *column = next_column(p, indices, u, *column);
        if (a->layout == TP_SPARSE_BSR) {
            for (int64_t c = 0; c < a->block_cols && *column + c < a->cols; c++)
                add_product(p, values, (u * a->block_rows + row) * a->block_cols + c, b, *column + c, j, n, sums);
        } else if (*column < a->cols) { /* NM24 may fill up its last group beyond the edge */
            add_product(p, values, u, b, *column, j, n, sums);
        }
    }
}

static void add_sums(const tp_product *p, const uint32_t *sums, int64_t n, bool first, void *out) {
    const float *floats = (const void *)sums;
    if (first)
        memcpy(out, sums, (size_t)n * 4);
    else if (p->a.type == TP_F32)
        for (int64_t j = 0; j < n; j++) ((float *)out)[j] += floats[j];
    else
        for (int64_t j = 0; j < n; j++) ((uint32_t *)out)[j] += sums[j];
}

tp_status tp_spmm__ref(const tp_product *p, int64_t begin, int64_t end, const int64_t *offsets, const void *indices,
                       const void *values, const void *b, void *out) {
    union {
        float f[PANEL];
        uint32_t i[PANEL];
    } sums;
    const bool nm24 = p->a.layout == TP_SPARSE_NM24;
    for (int64_t line = begin; line < end; line++) {
        const int64_t from = nm24 ? line * tp_nm24_units(p) : offsets[line];
        const int64_t to = nm24 ? from + tp_nm24_units(p) : offsets[line + 1];
        const int64_t segment = nm24 ? tp_nm24_units(p) : TP_SPMM_SEGMENT;
        for (int64_t row = 0; row < tp_rows_of(p, line); row++) {
            char *out_row = (char *)out + 4 * (line * tp_line_rows(p) + row) * p->out_stride;
            memset(out_row, 0, (size_t)p->n * 4);
            for (int64_t j = 0; j < p->n; j += PANEL) {
                const int64_t n = p->n - j < PANEL ? p->n - j : PANEL;
                int64_t column = 0;
                for (int64_t u = from; u < to; u += segment) {
                    const int64_t until = to - u < segment ? to : u + segment;
                    sum_units(p, row, u, until, &column, indices, values, b, j, n, &sums);
                    add_sums(p, sums.i, n, u == from, out_row + 4 * j);
                }
            }
        }
    }
    return TP_OK;
}

tp_status tp_spmm_segment__ref(const tp_product *p, int64_t line, int64_t segment, int64_t column,
                               const int64_t *offsets, const void *indices, const void *values, const void *b,
                               void *partial) {
    const int64_t from = offsets[line] + segment * TP_SPMM_SEGMENT, left = offsets[line + 1] - from;
    const int64_t to = from + (left < TP_SPMM_SEGMENT ? left : TP_SPMM_SEGMENT);
    for (int64_t row = 0; row < tp_rows_of(p, line); row++) {
        int64_t at = column;
        sum_units(p, row, from, to, &at, indices, values, b, 0, p->n, (char *)partial + 4 * row * p->n);
    }
    return TP_OK;
}

tp_status tp_spmm_column__ref(const uint16_t *distances, int64_t count, int64_t *column) {
    int64_t sum = 0;
    for (int64_t i = 0; i < count; i++) sum += distances[i];
    *column = sum;
    return TP_OK;
}

tp_status tp_spmm_add__ref(const tp_product *p, int64_t line, int64_t segments, const void *partials, void *out) {
    for (int64_t row = 0; row < tp_rows_of(p, line); row++) {
        char *out_row = (char *)out + 4 * (line * tp_line_rows(p) + row) * p->out_stride;
        if (segments == 0) memset(out_row, 0, (size_t)p->n * 4);
        for (int64_t s = 0; s < segments; s++) {
            const int64_t from = (s * tp_line_rows(p) + row) * p->n;
            add_sums(p, (const void *)((const char *)partials + 4 * from), p->n, s == 0, out_row);
        }
    }
    return TP_OK;
}

tp_status tp_spmm_transposed__ref(const tp_product *p, int64_t begin, int64_t end, int64_t first, int64_t last,
                                  const int64_t *offsets, const void *indices, const void *values, const void *b,
                                  void *out) {
    for (int64_t row = begin; row < end; row++) {
        int64_t column = 0;
        for (int64_t u = offsets[row]; u < offsets[row + 1]; u++) {
            column = next_column(p, indices, u, column);
            void *sums = (char *)out + 4 * (column * p->out_stride + first);
            add_product(p, values, u, b, row, first, last - first, sums);
        }
    }
    return TP_OK;
}
