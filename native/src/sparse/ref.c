/* The normative variants: every result of this family is what these functions compute. */
#include <string.h>

#include "sparse/kernels.h"

static bool stored(const tp_sparse_plan *p, const void *in, int64_t row, int64_t col) {
    const uint8_t *bytes = (const uint8_t *)in + (row * p->stride + col) * p->size;
    for (int64_t i = 0; i < p->size; i++)
        if (bytes[i]) return true;
    return false;
}

static void move(const tp_sparse_plan *p, void *to, int64_t i, const void *from, int64_t k) {
    memcpy((char *)to + i * p->size, (const char *)from + k * p->size, (size_t)p->size);
}

static void clear(const tp_sparse_plan *p, void *to, int64_t i, int64_t n) {
    memset((char *)to + i * p->size, 0, (size_t)(n * p->size));
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Whether the block from (row, col) on, of which parts may lie beyond the edges, has an element that is stored. */
static bool block_stored(const tp_sparse_plan *p, const void *in, int64_t row, int64_t col, int64_t rows,
                         int64_t cols) {
    for (int64_t r = row; r < least(row + rows, p->rows); r++)
        for (int64_t c = col; c < least(col + cols, p->cols); c++)
            if (stored(p, in, r, c)) return true;
    return false;
}

static int64_t group_count(const tp_sparse_plan *p, const void *in, int64_t row, int64_t group) {
    int64_t count = 0;
    for (int64_t c = group * 4; c < least(group * 4 + 4, p->cols); c++) count += stored(p, in, row, c);
    return count;
}

static int64_t blocks(const tp_sparse_plan *p, int64_t begin, int64_t end, const void *in, int64_t side) {
    int64_t count = 0;
    for (int64_t r = begin; r < end; r += side)
        for (int64_t c = 0; c < p->cols; c += side) count += block_stored(p, in, r, c, side, side);
    return count;
}

tp_status tp_sparse_survey__ref(const tp_sparse_plan *p, int64_t begin, int64_t end, const void *in,
                                tp_survey *survey) {
    tp_survey s = {0};
    for (int64_t r = begin; r < end; r++) {
        int64_t before = 0;
        for (int64_t c = 0; c < p->cols; c++) {
            if (!stored(p, in, r, c)) continue;
            s.entries++;
            if (c - before > s.widest) s.widest = c - before;
            before = c;
        }
        for (int64_t g = 0; g < p->groups; g++) s.overfull += group_count(p, in, r, g) > 2;
    }
    s.blocks4x4 = blocks(p, begin, end, in, 4);
    s.blocks8x8 = blocks(p, begin, end, in, 8);
    *survey = s;
    return TP_OK;
}

tp_status tp_sparse_count__ref(const tp_sparse_plan *p, int64_t begin, int64_t end, const void *in, int64_t *counts) {
    for (int64_t line = begin; line < end; line++) {
        int64_t count = 0, before = 0;
        if (p->layout == TP_SPARSE_BSR) {
            for (int64_t c = 0; c < p->cols; c += p->block_cols)
                count += block_stored(p, in, line * p->block_rows, c, p->block_rows, p->block_cols);
        } else if (p->layout == TP_SPARSE_NM24) {
            for (int64_t g = 0; g < p->groups; g++)
                if (group_count(p, in, line, g) > 2) return TP_ERR_LAYOUT;
            count = p->groups * 2;
        } else {
            for (int64_t c = 0; c < p->cols; c++) {
                if (!stored(p, in, line, c)) continue;
                if (p->layout == TP_SPARSE_CSR16 && c - before > TP_SPARSE_GAP) return TP_ERR_LAYOUT;
                count++;
                before = c;
            }
        }
        counts[line - begin] = count;
    }
    return TP_OK;
}

static bool bit(const tp_sparse_plan *p, const uint8_t *indices, int64_t row, int64_t col) {
    return indices[row * p->index_row + col / 8] >> col % 8 & 1;
}

tp_status tp_sparse_count_mask__ref(const tp_sparse_plan *p, int64_t begin, int64_t end, const uint8_t *indices,
                                    int64_t *counts) {
    for (int64_t r = begin; r < end; r++) {
        int64_t count = 0;
        for (int64_t c = 0; c < p->cols; c++) count += bit(p, indices, r, c);
        counts[r - begin] = count;
    }
    return TP_OK;
}

static tp_status pack_csr(const tp_sparse_plan *p, int64_t row, const void *in, int64_t at, void *indices,
                          void *values) {
    int64_t before = 0;
    for (int64_t c = 0; c < p->cols; c++) {
        if (!stored(p, in, row, c)) continue;
        if (p->layout == TP_SPARSE_CSR32) {
            ((uint32_t *)indices)[at] = (uint32_t)c;
        } else {
            if (c - before > TP_SPARSE_GAP) return TP_ERR_LAYOUT;
            ((uint16_t *)indices)[at] = (uint16_t)(c - before);
        }
        move(p, values, at++, in, row * p->stride + c);
        before = c;
    }
    return TP_OK;
}

static void pack_bsr(const tp_sparse_plan *p, int64_t line, const void *in, int64_t at, uint32_t *indices,
                     void *values) {
    const int64_t row = line * p->block_rows, area = p->block_rows * p->block_cols;
    for (int64_t col = 0; col < p->cols; col += p->block_cols) {
        if (!block_stored(p, in, row, col, p->block_rows, p->block_cols)) continue;
        indices[at] = (uint32_t)(col / p->block_cols);
        clear(p, values, at * area, area);
        for (int64_t r = 0; r < least(p->block_rows, p->rows - row); r++)
            for (int64_t c = 0; c < least(p->block_cols, p->cols - col); c++)
                move(p, values, at * area + r * p->block_cols + c, in, (row + r) * p->stride + col + c);
        at++;
    }
}

static void pack_bitmask(const tp_sparse_plan *p, int64_t row, const void *in, int64_t at, uint8_t *indices,
                         void *values) {
    memset(indices + row * p->index_row, 0, (size_t)p->index_row);
    for (int64_t c = 0; c < p->cols; c++) {
        if (!stored(p, in, row, c)) continue;
        indices[row * p->index_row + c / 8] |= (uint8_t)(1 << c % 8);
        move(p, values, at++, in, row * p->stride + c);
    }
}

static tp_status pack_nm24(const tp_sparse_plan *p, int64_t row, const void *in, uint8_t *indices, void *values) {
    memset(indices + row * p->index_row, 0, (size_t)p->index_row);
    for (int64_t g = 0; g < p->groups; g++) {
        bool taken[4] = {false};
        int64_t count = 0;
        for (int64_t i = 0; i < least(4, p->cols - g * 4); i++) count += taken[i] = stored(p, in, row, g * 4 + i);
        if (count > 2) return TP_ERR_LAYOUT;
        for (int64_t i = 0; count < 2; i++) {
            if (taken[i]) continue;
            taken[i] = true;
            count++;
        }
        int nibble = 0, k = 0;
        for (int i = 0; i < 4; i++) {
            if (!taken[i]) continue;
            const int64_t at = (row * p->groups + g) * 2 + k;
            clear(p, values, at, 1);
            if (g * 4 + i < p->cols) move(p, values, at, in, row * p->stride + g * 4 + i);
            nibble |= i << 2 * k++;
        }
        indices[row * p->index_row + g / 2] |= (uint8_t)(nibble << g % 2 * 4);
    }
    return TP_OK;
}

tp_status tp_sparse_pack__ref(const tp_sparse_plan *p, int64_t begin, int64_t end, const void *in,
                              const int64_t *offsets, void *indices, void *values) {
    for (int64_t line = begin; line < end; line++) {
        tp_status status = TP_OK;
        switch (p->layout) {
        case TP_SPARSE_BSR: pack_bsr(p, line, in, offsets[line], indices, values); break;
        case TP_SPARSE_BITMASK: pack_bitmask(p, line, in, offsets[line], indices, values); break;
        case TP_SPARSE_NM24: status = pack_nm24(p, line, in, indices, values); break;
        default: status = pack_csr(p, line, in, offsets[line], indices, values); break;
        }
        if (status) return status;
    }
    return TP_OK;
}

/* ---- */

static bool columns_valid(const tp_sparse_plan *p, const void *indices, int64_t from, int64_t to) {
    const int64_t limit = p->layout == TP_SPARSE_BSR ? tp_divide_up(p->cols, p->block_cols) : p->cols;
    int64_t before = -1;
    for (int64_t i = from; i < to; i++) {
        int64_t col;
        if (p->layout != TP_SPARSE_CSR16)
            col = ((const uint32_t *)indices)[i];
        else
            col = ((const uint16_t *)indices)[i] + (i == from ? 0 : before);
        if (col <= before || col >= limit) return false;
        before = col;
    }
    return true;
}

static bool mask_valid(const tp_sparse_plan *p, const uint8_t *indices, int64_t row, int64_t units) {
    int64_t count = 0;
    for (int64_t c = 0; c < p->index_row * 8; c++) {
        if (!bit(p, indices, row, c)) continue;
        if (c >= p->cols) return false;
        count++;
    }
    return count == units;
}

static bool nibbles_valid(const tp_sparse_plan *p, const uint8_t *indices, int64_t row) {
    for (int64_t g = 0; g < p->index_row * 2; g++) {
        const int nibble = indices[row * p->index_row + g / 2] >> g % 2 * 4 & 15;
        const int first = nibble & 3, second = nibble >> 2;
        if (g == p->groups) return nibble == 0;
        if (first >= second) return false;
        /* Of a last group of one column the second value is a filler, next to it. */
        if (g * 4 + second >= p->cols && nibble != 4) return false;
    }
    return true;
}

tp_status tp_sparse_check__ref(const tp_sparse_plan *p, int64_t begin, int64_t end, int64_t units,
                               const int64_t *offsets, const void *indices, int64_t *bad_line) {
    for (int64_t line = begin; line < end; line++) {
        bool valid;
        if (p->layout == TP_SPARSE_NM24) {
            valid = nibbles_valid(p, indices, line);
        } else {
            const int64_t from = offsets[line], to = offsets[line + 1];
            valid = from >= 0 && from <= to && to <= units && (line > 0 || from == 0) &&
                    (line < p->lines - 1 || to == units) &&
                    (p->layout == TP_SPARSE_BITMASK ? mask_valid(p, indices, line, to - from)
                                                    : columns_valid(p, indices, from, to));
        }
        if (!valid) {
            *bad_line = line;
            return TP_ERR_FORMAT;
        }
    }
    return TP_OK;
}

/* ---- */

static void unpack_csr(const tp_sparse_plan *p, int64_t row, const int64_t *offsets, const void *indices,
                       const void *values, void *out) {
    int64_t col = 0;
    for (int64_t i = offsets[row]; i < offsets[row + 1]; i++) {
        col = p->layout == TP_SPARSE_CSR32 ? ((const uint32_t *)indices)[i] : col + ((const uint16_t *)indices)[i];
        move(p, out, row * p->stride + col, values, i);
    }
}

static void unpack_bsr(const tp_sparse_plan *p, int64_t line, const int64_t *offsets, const uint32_t *indices,
                       const void *values, void *out) {
    const int64_t row = line * p->block_rows, area = p->block_rows * p->block_cols;
    for (int64_t i = offsets[line]; i < offsets[line + 1]; i++) {
        const int64_t col = indices[i] * p->block_cols;
        for (int64_t r = 0; r < least(p->block_rows, p->rows - row); r++)
            for (int64_t c = 0; c < least(p->block_cols, p->cols - col); c++)
                move(p, out, (row + r) * p->stride + col + c, values, i * area + r * p->block_cols + c);
    }
}

static void unpack_bitmask(const tp_sparse_plan *p, int64_t row, int64_t at, const uint8_t *indices,
                           const void *values, void *out) {
    for (int64_t c = 0; c < p->cols; c++)
        if (bit(p, indices, row, c)) move(p, out, row * p->stride + c, values, at++);
}

static void unpack_nm24(const tp_sparse_plan *p, int64_t row, const uint8_t *indices, const void *values, void *out) {
    for (int64_t g = 0; g < p->groups; g++) {
        const int nibble = indices[row * p->index_row + g / 2] >> g % 2 * 4 & 15;
        for (int k = 0; k < 2; k++) {
            const int64_t col = g * 4 + (nibble >> 2 * k & 3);
            if (col < p->cols) move(p, out, row * p->stride + col, values, (row * p->groups + g) * 2 + k);
        }
    }
}

tp_status tp_sparse_unpack__ref(const tp_sparse_plan *p, int64_t begin, int64_t end, const int64_t *offsets,
                                const void *indices, const void *values, void *out) {
    const int64_t high = p->layout == TP_SPARSE_BSR ? p->block_rows : 1;
    for (int64_t line = begin; line < end; line++) {
        for (int64_t r = line * high; r < least((line + 1) * high, p->rows); r++) clear(p, out, r * p->stride, p->cols);
        switch (p->layout) {
        case TP_SPARSE_BSR: unpack_bsr(p, line, offsets, indices, values, out); break;
        case TP_SPARSE_BITMASK: unpack_bitmask(p, line, offsets[line], indices, values, out); break;
        case TP_SPARSE_NM24: unpack_nm24(p, line, indices, values, out); break;
        default: unpack_csr(p, line, offsets, indices, values, out); break;
        }
    }
    return TP_OK;
}
