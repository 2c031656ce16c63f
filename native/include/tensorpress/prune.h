/*
 * Kernel family "prune": choosing which elements of a weight to keep.
 *
 * Example:
 *
 *     const float x[8] = {1, -5, 2, 0, 7, 3, -4, 6};
 *     const tp_scores spec = {.rows = 1, .cols = 8, .stride = 8, .type = TP_F32, .order = TP_ORDER_MAGNITUDE};
 *     uint8_t mask[1];
 *     assert(tp_prune_nm(&spec, 1, 0, 1, x, 2, 4, mask) == TP_OK); // two of each four
 *     assert(mask[0] == 0x96);                                     // -5, 2, 7, 6
 *
 * Elements are compared by key, an unsigned 32-bit integer in which a larger score has a larger value, so that every
 * choice is exact and the same on every tier:
 *     TP_ORDER_MAGNITUDE  the bits of |x|, moved to the top: f32 bits << 1, f16 and bf16 bits << 17
 *     TP_ORDER_VALUE      x as it is, -0 taken for +0: all bits inverted if negative, else the sign bit set; f16 and bf16
 *                         keys lie in the upper 16 bits
 * The weight itself with TP_ORDER_MAGNITUDE is magnitude pruning; calibrated methods give scores of their own in a
 * second array of the weight's shape. Infinity is larger than every number. NaN has no place in an order: wherever
 * elements are compared it is TP_ERR_NONFINITE, even if all of them are kept.
 *
 * The k largest of any number of tensors together are found by a radix selection over the digits of the key (11, 11 and
 * 10 bits, the highest first): tp_prune_histogram counts the first digit of all tensors, the caller adds the counts and
 * walks down from the top to the digit that holds the k-th largest, and so on. What the digits spell is the key of the
 * k-th largest element. Larger keys are all kept; of the equal ones as many as are missing, in the order of their position.
 * See Alabi et al., "Fast k-selection algorithms for graphics processing units", 2012.
 *
 * Masks. A mask is [rows, ceil(cols / 8)] bytes; bit c % 8 of byte c / 8 of a row is set if element c is kept, the lowest
 * bit first. Bits behind the last column are clear.
 *
 * Ties always go to the element that comes first in its row-major order, or in its group.
 */
#ifndef TENSORPRESS_PRUNE_H
#define TENSORPRESS_PRUNE_H

#include "tensorpress/core.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How elements are ordered. The values are pinned. */
enum {
    TP_ORDER_MAGNITUDE = 1,
    TP_ORDER_VALUE = 2
};

/* Number of values of a digit of the key. The last digit has 10 bits and uses the first half of the counts. */
enum { TP_PRUNE_DIGITS = 3, TP_PRUNE_COUNTS = 2048 };

/* A matrix of scores. Fill every field. TP_ERR_SHAPE: negative sizes, stride below cols, rows * stride of 2^60 or more. */
typedef struct tp_scores {
    int64_t rows, cols;
    int64_t stride;
    tp_dtype type;   /* TP_F32, TP_F16, TP_BF16; else TP_ERR_TYPE */
    int32_t order;   /* TP_ORDER_*; else TP_ERR_ARGUMENT */
} tp_scores;

/*
 * Adds to counts[d] the number of elements in rows [begin, end) whose digit number `digit` is d, among those whose
 * higher digits are those of `prefix` (its lower ones are ignored; for digit 0 it is). Digit 0 is bits 31..21 of the key,
 * 1 is bits 20..10, 2 is bits 9..0. counts has TP_PRUNE_COUNTS entries whatever the digit.
 * TP_ERR_NONFINITE on NaN, for digit 0 only: the others look at few elements. TP_ERR_ARGUMENT: digit not 0..2.
 */
TP_API tp_status tp_prune_histogram(const tp_scores *spec, int64_t begin, int64_t end, const void *in, int32_t digit,
                                    uint32_t prefix, int64_t *counts);

/* The number of elements in rows [begin, end) with a larger key, and with this very key. NaN as its bits compare. */
TP_API tp_status tp_prune_count(const tp_scores *spec, int64_t begin, int64_t end, const void *in, uint32_t key,
                                int64_t *larger, int64_t *equal);

/*
 * Position of the element with this key that has `skip` (0 or more) such elements before it in rows [begin, end);
 * *row = -1 if there are not so many.
 */
TP_API tp_status tp_prune_find(const tp_scores *spec, int64_t begin, int64_t end, const void *in, uint32_t key,
                               int64_t skip, int64_t *row, int64_t *col);

/*
 * Mask rows [begin, end): kept are elements with a larger key, and those with this key that lie before (tie_row,
 * tie_col) in row-major order. (rows, 0) keeps all ties, (0, 0) none; any other position outside the matrix is
 * compared like one in it. The smallest key of a score s or above, with all ties, is a threshold: tp_prune_key. NaN as its bits compare.
 */
TP_API tp_status tp_prune_mask(const tp_scores *spec, int64_t begin, int64_t end, const void *in, uint32_t key,
                               int64_t tie_row, int64_t tie_col, uint8_t *mask);

/*
 * The smallest key of this spec's type and order among scores of at least `score`: tp_prune_mask with it and all ties
 * keeps exactly those. There is always one, since infinity is. For magnitudes a negative score counts as 0.
 * TP_ERR_NONFINITE if score is NaN.
 */
TP_API tp_status tp_prune_key(const tp_scores *spec, double score, uint32_t *key);

/*
 * Line by line: of each row (axis 1) or column (axis 0) the k largest elements are kept; all if k is the length or more.
 * [begin, end) counts lines. With axis 0 each of the two must be a multiple of 8, or cols (TP_ERR_RANGE): other lines
 * share their mask bytes. TP_ERR_SHAPE: k negative.
 *   scratch  tp_prune_lines_scratch() bytes, 64-byte aligned, one per concurrent call; may be null if 0
 */
TP_API tp_status tp_prune_lines(const tp_scores *spec, int32_t axis, int64_t begin, int64_t end, const void *in,
                                int64_t k, uint8_t *mask, void *scratch);
TP_API tp_status tp_prune_lines_scratch(const tp_scores *spec, int32_t axis, int64_t *bytes);

/*
 * N:M: of each group of m elements, one after the other along a row (axis 1) or down a column (axis 0), the n largest are
 * kept. The last group of a line may have fewer than m; n of those are kept as well, or all. 1 <= n <= m <= 16, else
 * TP_ERR_SHAPE. [begin, end) counts rows with axis 1, groups of m rows with axis 0.
 */
TP_API tp_status tp_prune_nm(const tp_scores *spec, int32_t axis, int64_t begin, int64_t end, const void *in, int32_t n,
                             int32_t m, uint8_t *mask);

/*
 * One score for each block of block_rows x block_cols elements: [ceil(rows / block_rows), ceil(cols / block_cols)] f32 in
 * `scores`; [begin, end) counts rows of blocks. Blocks at the lower and right edge have the elements that are there.
 *     TP_ORDER_MAGNITUDE  the Euclidean norm: squares and their sum in f64, row by row within the block, one element
 *                         after the other; the square root in f64, rounded to f32 (infinity above its range)
 *     TP_ORDER_VALUE      the sum in f64 in that order, rounded to f32
 * TP_ERR_NONFINITE on NaN, and where infinities cancel to it. TP_ERR_SHAPE: blocks smaller than 1 x 1, or larger than
 * 2^31 on a side. Any size within that is good: what is larger than the matrix is one block.
 */
TP_API tp_status tp_prune_blocks(const tp_scores *spec, int64_t block_rows, int64_t block_cols, int64_t begin,
                                 int64_t end, const void *in, float *scores);

/* From a mask of blocks to that of their elements; [begin, end) counts rows of blocks. type, order and stride of spec are
   not used. */
TP_API tp_status tp_prune_expand(const tp_scores *spec, int64_t block_rows, int64_t block_cols, int64_t begin,
                                 int64_t end, const uint8_t *block_mask, uint8_t *mask);

/* Rows [begin, end) of out, [rows, cols] without gaps: the element where the mask is set, else +0. Bits are copied as they
   are. Order is not used. out may be in if stride == cols. */
TP_API tp_status tp_prune_apply(const tp_scores *spec, int64_t begin, int64_t end, const void *in, const uint8_t *mask,
                                void *out);

/*
 * Error of rows [begin, end) of `out`, a changed copy without gaps of the same type, against `in`: errors[i] is that of
 * row begin + i, in f64 and in the order that tp_quantize_error uses for rows, and bit-identical on every tier: term c
 * goes to partial sum c % 16, and these are added 8, 4, 2 and 1 apart. Order is not used.
 */
TP_API tp_status tp_prune_error(const tp_scores *spec, int64_t begin, int64_t end, const void *in, const void *out,
                                tp_error *errors);

#ifdef __cplusplus
}
#endif
#endif
