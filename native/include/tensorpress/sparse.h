/*
 * Kernel family "sparse": storing what is left of a pruned matrix, and restoring it bit for bit.
 *
 * Example:
 *
 *     const float x[4] = {0, 3, 0, 5};
 *     const tp_sparse spec = {.rows = 1, .cols = 4, .stride = 4, .type = TP_F32, .layout = TP_SPARSE_CSR32};
 *     int64_t offsets[2] = {0};
 *     uint32_t columns[2];
 *     float values[2];
 *     assert(tp_sparse_count(&spec, 0, 1, x, offsets + 1) == TP_OK && offsets[1] == 2);
 *     assert(tp_sparse_pack(&spec, 0, 1, x, offsets, columns, values) == TP_OK && columns[1] == 3 && values[1] == 5);
 *
 * An element is stored if any of its bits is set: -0 and NaN are, +0 and the integer 0 are not. So every round trip is
 * exact, whatever the values. A layout is three arrays; a "line" is a row, or for TP_SPARSE_BSR a row of blocks, and a
 * "unit" an element, or for TP_SPARSE_BSR a block:
 *
 *     layout              offsets              indices                                values
 *     TP_SPARSE_CSR16     int64 [lines + 1]    uint16 [units]: distance to the unit   [units]
 *                                              before it in the row, the first one's
 *                                              from column 0
 *     TP_SPARSE_CSR32     int64 [lines + 1]    uint32 [units]: column                 [units]
 *     TP_SPARSE_BSR       int64 [lines + 1]    uint32 [units]: column of the block,   [units, block_rows, block_cols],
 *                                              counted in blocks                      zeros beyond the edges
 *     TP_SPARSE_BITMASK   int64 [lines + 1]    [rows, ceil(cols / 8)] bytes, a bit    [units]
 *                                              per element, lowest first, 0 beyond
 *                                              the last column
 *     TP_SPARSE_NM24      none                 [rows, ceil(groups / 2)] bytes, four   [rows, groups, 2]
 *                                              bits per group of four columns, the
 *                                              even group in the low nibble
 *
 * offsets[l] is the number of units in the lines before l. Units of a line are in ascending order of columns.
 * CSR16 holds rows in which no distance exceeds 65535. NM24 holds matrices with at most two elements that are not zero in
 * each group of four columns, the last group being filled up with zeros; its nibble has the position (0..3) of the first
 * value in the lower two bits, of the second in the upper two, first < second. If fewer than two elements are stored, the
 * lowest positions not taken fill up, with value 0; so the nibble of a last group of one column has position 1, which is
 * outside the matrix. A second unused nibble of a row is 0.
 */
#ifndef TENSORPRESS_SPARSE_H
#define TENSORPRESS_SPARSE_H

#include "tensorpress/core.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Layouts. The values are pinned. */
enum {
    TP_SPARSE_CSR16 = 1,
    TP_SPARSE_CSR32 = 2,
    TP_SPARSE_BSR = 3,
    TP_SPARSE_BITMASK = 4,
    TP_SPARSE_NM24 = 5
};

/*
 * A sparse matrix. Fill every field. TP_ERR_SHAPE: negative sizes, cols of 2^32 or more, stride below cols, rows * stride
 * of 2^60 or more; blocks outside 1..64 for TP_SPARSE_BSR, not 0 for the others. TP_ERR_ARGUMENT: no such layout.
 */
typedef struct tp_sparse {
    int64_t rows, cols;
    int64_t stride;                   /* of the dense matrix */
    int64_t block_rows, block_cols;   /* TP_SPARSE_BSR only, else 0 */
    tp_dtype type;                    /* TP_F32, TP_F16, TP_BF16, TP_I8, TP_U8; else TP_ERR_TYPE */
    int32_t layout;                   /* TP_SPARSE_* */
} tp_sparse;

/* What decides which layouts a matrix fits and how large they are. */
typedef struct tp_survey {
    int64_t entries;      /* elements with a bit set */
    int64_t widest;       /* largest distance between such elements of a row, the first one's from column 0; 0 if none */
    int64_t overfull;     /* groups of four columns with more than two */
    int64_t blocks4x4;    /* blocks of 4 x 4 and of 8 x 8 with at least one */
    int64_t blocks8x8;
} tp_survey;

/* Rows [begin, end), which begin and end (unless at the last row) at multiples of 8, else TP_ERR_RANGE. Sums of the
   ranges' figures (for `widest` the maximum) are those of the matrix. block_rows, block_cols and layout of spec are not
   used. */
TP_API tp_status tp_sparse_survey(const tp_sparse *spec, int64_t begin, int64_t end, const void *in, tp_survey *survey);

/*
 * Bytes of the three arrays for a matrix with this many units (blocks for TP_SPARSE_BSR; not used for TP_SPARSE_NM24).
 * TP_ERR_SHAPE if a size passes 2^62.
 */
TP_API tp_status tp_sparse_bytes(const tp_sparse *spec, int64_t units, int64_t *offsets, int64_t *indices,
                                 int64_t *values);

/*
 * counts[i] = units of line begin + i. From it the caller makes offsets. For TP_SPARSE_NM24 the count of a row is the
 * number of groups times 2. TP_ERR_LAYOUT if a line does not fit the layout.
 */
TP_API tp_status tp_sparse_count(const tp_sparse *spec, int64_t begin, int64_t end, const void *in, int64_t *counts);

/* The same from the indices of a stored TP_SPARSE_BITMASK, which may be kept in files without offsets. Bits beyond the
   last column are not counted: tp_sparse_check finds them. */
TP_API tp_status tp_sparse_count_mask(const tp_sparse *spec, int64_t begin, int64_t end, const uint8_t *indices,
                                      int64_t *counts);

/*
 * Stores lines [begin, end). All pointers are those of the whole matrix. offsets must hold the counts of tp_sparse_count,
 * added up; it may be null for TP_SPARSE_NM24. Nothing outside the lines' units is written. TP_ERR_LAYOUT as above.
 */
TP_API tp_status tp_sparse_pack(const tp_sparse *spec, int64_t begin, int64_t end, const void *in,
                                const int64_t *offsets, void *indices, void *values);

/*
 * Whether lines [begin, end) are well formed: offsets start at 0 (line 0), do not fall, and end at `units` (last line);
 * columns are inside the matrix and ascend, bits and nibbles are as above. TP_ERR_FORMAT if not, with the line in
 * *bad_line, else -1 is. Without lines, offsets[0] and units must be 0, else line 0 is bad. TP_SPARSE_NM24 uses neither
 * units nor offsets. What comes from outside goes through this once: unpacking and multiplying trust it.
 */
TP_API tp_status tp_sparse_check(const tp_sparse *spec, int64_t begin, int64_t end, int64_t units,
                                 const int64_t *offsets, const void *indices, int64_t *bad_line);

/* Restores lines [begin, end) into out, [rows, cols] with `stride`: every element of them is written, gaps between rows
   are not. */
TP_API tp_status tp_sparse_unpack(const tp_sparse *spec, int64_t begin, int64_t end, const int64_t *offsets,
                                  const void *indices, const void *values, void *out);

#ifdef __cplusplus
}
#endif
#endif
