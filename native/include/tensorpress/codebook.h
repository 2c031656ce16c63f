/*
 * Kernel family "codebook": weights as indices ("codes") into small tables of values, found by k-means.
 *
 * Example:
 *
 *     const float x[6] = {1, 5, 1.5f, 0, 5, 9};
 *     const tp_codebook spec = {.rows = 2, .cols = 3, .stride = 3, .group_rows = 2, .group_cols = 3, .dimension = 1, .bits = 2, .zero = 1,
 *                               .type = TP_F32};
 *     static char scratch[1 << 25] __attribute__((aligned(64)));
 *     int64_t bytes;
 *     float table[4];
 *     uint8_t codes[6];
 *     assert(tp_codebook_scratch(&spec, &bytes) == TP_OK && bytes <= (int64_t)sizeof scratch);
 *     assert(tp_codebook_train(&spec, 0, 100, 0, 1, x, NULL, NULL, scratch, table) == TP_OK);
 *     assert(table[0] == 0 && table[1] == 1.25f && table[2] == 5 && table[3] == 9);
 *     assert(tp_codebook_assign(&spec, 0, 2, x, table, codes) == TP_OK);
 *     assert(codes[0] == 1 && codes[1] == 2 && codes[2] == 1 && codes[3] == 0 && codes[4] == 2 && codes[5] == 3);
 *
 * A matrix [rows, cols] is cut into groups of group_rows x group_cols elements, the last ones of a line perhaps smaller; each group has a
 * table of 2^bits entries, the groups in row-major order. An entry is one number, or a vector that stands for 2, 4 or 8 elements next to
 * each other in a row (product quantization). What is minimized is the sum of w (x - entry)^2, w being the weight of the element.
 *
 * Tables are found for a group at a time, by one thread. Bits of all results are the same for every tier, range and number of threads.
 *
 *   Numbers (dimension 1). Elements are counted, those together that differ only in the last of their bits, as few of these as leave 2^20
 *   counts: all f16 and bf16 are told from each other, and f32 on both sides of 0 if they differ by more than 2^-11 of themselves. Sums within
 *   a count are exact. Over at most 2048 ranges of such counts, of which those where elements are dense are the narrowest, dynamic
 *   programming finds the best clusters there are; then Lloyd's steps move what lies between them, over all counts. So the start is no matter
 *   of luck, and up to 2048 different elements the result is the optimum.
 *
 *   Vectors. k-means++ (Arthur & Vassilvitskii, 2007) by Philox 4x32-10 with `seed` as the key and the group's number as the stream, then
 *   Lloyd's steps, in which sums are f64 and in order of the vectors. They end when the loss falls by less than 2^-16 of itself. Of more
 *   than 2^20 vectors in a group, so many are taken, evenly spaced.
 */
#ifndef TENSORPRESS_CODEBOOK_H
#define TENSORPRESS_CODEBOOK_H

#include "tensorpress/core.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TP_CODEBOOK_MOST_BITS = 12 };

/* How a matrix is cut. Fill every field. */
typedef struct tp_codebook {
    int64_t rows, cols;             /* of the matrix; cols is a multiple of dimension */
    int64_t stride;                 /* elements from row to row: at least cols */
    int64_t group_rows, group_cols; /* 1 or more; group_cols is a multiple of dimension */
    int32_t dimension;              /* 1, 2, 4 or 8 elements to an entry */
    int32_t bits;                   /* of a code: 1 .. 8, of vectors 1 .. TP_CODEBOOK_MOST_BITS */
    int32_t zero;                   /* 1: entry 0 is 0, for elements that are 0 and no others; of dimension 1 alone. 0: no entry is special */
    tp_dtype type;                  /* of the elements: f32, f16 or bf16 */
} tp_codebook;

/* Bytes of scratch that tp_codebook_train needs. Works whatever TENSORPRESS_ISA. */
TP_API tp_status tp_codebook_scratch(const tp_codebook *spec, int64_t *bytes);

/*
 * Finds the tables of groups [begin, end).
 *
 *   seed         of vectors
 *   iterations   Lloyd's steps at most; 0 or more
 *   in           the matrix, at any byte
 *   row_weights, col_weights
 *                f32, 0 to 1, for each row, or for each column; null for 1. Not both (TP_ERR_ARGUMENT). They count in steps of 2^-16, at
 *                least one step if above 0; a vector has the mean of its elements. Where all of a group are 0, all elements count alike
 *   scratch      tp_codebook_scratch() bytes, 64-byte aligned, one per concurrent call
 *   tables       f32 [groups, 2^bits, dimension], out: those of the range. Numbers ascend, but for entry 0 if it is reserved. Where there are
 *                fewer different elements than entries, the last ones repeat another one; without any elements all are 0
 *
 * TP_ERR_NONFINITE if an element is NaN or infinite; weights are not checked.
 */
TP_API tp_status tp_codebook_train(const tp_codebook *spec, uint64_t seed, int32_t iterations, int64_t begin, int64_t end, const void *in,
                                   const float *row_weights, const float *col_weights, void *scratch, float *tables);

/*
 * The codes of rows [begin, end): the nearest entry, of several the first. Numbers of a table have to ascend (see above), and are
 * compared exactly; distances of vectors are f32, by fused multiply-add in order of their elements.
 *
 *   tables  f32 [groups, 2^bits, dimension]
 *   codes   [rows, cols / dimension], u8, or if there are more than 8 bits u16; out: those of the range
 *
 * NaN gets any code.
 */
TP_API tp_status tp_codebook_assign(const tp_codebook *spec, int64_t begin, int64_t end, const void *in, const float *tables, void *codes);

/*
 * What the codes of rows [begin, end) stand for. `type` of the spec plays no part.
 *
 *   codes   as above; TP_ERR_FORMAT if one is 2^bits or more, with rows before it written
 *   out     f32, the matrix with the spec's stride
 */
TP_API tp_status tp_codebook_decode(const tp_codebook *spec, int64_t begin, int64_t end, const void *codes, const float *tables, float *out);

/*
 * The gradients of the entries of groups [begin, end), for tables that are trained: the sum of those of the elements that an entry stands for,
 * in row-major order, f64.
 *
 *   codes      as above, those of the groups' rows; TP_ERR_FORMAT as well
 *   gradients  f32, the matrix with the spec's stride
 *   sums       f64 [groups, 2^bits, dimension], out: those of the range
 */
TP_API tp_status tp_codebook_gradients(const tp_codebook *spec, int64_t begin, int64_t end, const void *codes, const float *gradients,
                                       double *sums);

#ifdef __cplusplus
}
#endif
#endif
