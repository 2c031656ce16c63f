/*
 * Kernel family "quantize": floats to 8- and 4-bit integers with shared scales, and back.
 *
 * Example:
 *
 *     const float x[4] = {1, -2, 0.5f, 0.25f};
 *     const tp_quant spec = {.rows = 2, .cols = 2, .in_stride = 2, .out_stride = 2, .group_rows = 1, .group_cols = 2,
 *                            .in_type = TP_F32, .out_type = TP_I8, .scale_type = TP_F32, .qmin = -127, .qmax = 127,
 *                            .range = TP_RANGE_ABSMAX, .rounding = TP_ROUND_DIVIDE};
 *     int8_t codes[4];
 *     float scales[2];
 *     assert(tp_quantize(&spec, 0, 2, x, codes, scales, NULL, NULL) == TP_OK); // a scale per row, which takes no scratch
 *     assert(codes[1] == -127 && codes[2] == 127 && codes[3] == 64);
 *
 * A matrix of rows x cols is cut into groups of group_rows x group_cols elements (the last group of a row or column
 * may be smaller); each group has one scale s and one zero point z, and element x is stored as the code
 *
 *     q = clamp(round_half_even(x / s) + z, qmin, qmax)          and means          (q - z) * s.
 *
 * The usual granularities, as group_rows x group_cols:
 *     per tensor              rows x cols         per row (output channel of [out, in])    1 x cols
 *     per column              rows x 1            blocks of B along a row (axis 1)         1 x B
 *                                                 blocks of B along a column (axis 0)      B x 1
 * No other combination is accepted. B is a multiple of 16 from 16 to 256. Where two readings fit, the first of these
 * holds: rows x 1 is per column, 1 x cols per row, rows x cols per tensor. Per tensor, row and column, a line (or the
 * tensor) has one group even if it has no elements.
 *
 * Lines. Work is cut along lines: rows where a group lies within one row (1 x cols, 1 x B), columns where it lies
 * within one column (rows x 1, B x 1), rows for per tensor. [begin, end) counts lines. Pointers are always those of
 * the whole matrix, so that ranges of several threads share them.
 *     - Per tensor: the range must be all rows, unless scales are given (TP_SCALES_GIVEN).
 *     - 4-bit codes that are not transposed, lines being columns: begin and end must be even (end may be cols).
 *       With an odd out_stride such ranges still share bytes; those are updated atomically, so threads may run.
 *     - 4-bit codes, lines being rows or the layout transposed: begin * out_stride must be even, and so must
 *       end * out_stride unless end is the last line, so that no two ranges share a byte. An even out_stride always
 *       satisfies this.
 *     The rules for 4-bit codes hold for functions that only read codes as well, and for empty ranges: TP_ERR_RANGE.
 *     Column kernels are fastest when begin is a multiple of 64, and for whole columns when ranges have 1024 or more.
 *
 * Layout of the results
 *     codes   TP_LAYOUT_SAME: [rows, cols] with out_stride elements from row to row.
 *             TP_LAYOUT_TRANSPOSED (groups within a column only): [cols, rows], so that each column of the input
 *             becomes a line with its blocks one after another, out_stride elements from line to line. No
 *             transposed copy of the input is made.
 *             4-bit codes are addressed by nibble: element (r, c) is nibble r * out_stride + c of the output, low
 *             nibble first; an odd total ends with a zero nibble, written by the range that has the last line. out_stride == cols gives ONNX's flat packing.
 *     scales  f32, one per group, [group of rows, group of columns] row-major for TP_LAYOUT_SAME, and
 *             [cols, groups of rows] for TP_LAYOUT_TRANSPOSED. They are already rounded to scale_type.
 *     zeros   one byte per group in the order of the scales, holding z as uint8_t or int8_t (not packed for 4 bits;
 *             tp_pack4 packs them). May be null when symmetric.
 *     padding With pad != 0 (groups of B only, else TP_ERR_SHAPE) every line of codes is lengthened to a multiple of
 *             B, the extra codes holding the z of its last group; out_stride must leave room for them (for columns
 *             with TP_LAYOUT_SAME they are further rows). With pad == 0 nothing outside the codes is written.
 *     limits  (rows - 1) * in_stride + cols and its counterpart for the codes must be below 2^60, else TP_ERR_SHAPE.
 *     A pointer to data of which the call touches nothing may be null.
 */
#ifndef TENSORPRESS_QUANTIZE_H
#define TENSORPRESS_QUANTIZE_H

#include "tensorpress/core.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How scale and zero point follow from the values of a group. The values are pinned. */
enum {
    /* z = 0 for signed codes, 2^(bits-1) for unsigned ones; s = max|x| / min(qmax - z, z - qmin).
       TP_ERR_ARGUMENT unless qmin < z < qmax. */
    TP_RANGE_ABSMAX = 1,
    /* As above with s = max|x| / ((qmax - qmin) / 2), which uses the lowest code too (compressed-tensors).
       TP_ERR_ARGUMENT unless qmin <= z <= qmax. */
    TP_RANGE_ABSMAX_FULL = 2,
    /* s = (max(x, 0) - min(x, 0)) / (qmax - qmin), z = clamp(round_half_even(qmin - min(x, 0) / s), qmin, qmax):
       asymmetric; zero has an exact code. The difference is taken after each part is divided, so it cannot overflow.
       z follows from the final s, rounded to scale_type. All of it in f32, one operation after the other. */
    TP_RANGE_MINMAX = 3,
    /* Scales and zeros are inputs. Scales are used as they are, whether scale_type could hold them or not. Those of the
       range must be finite and positive, and codes between qmin and qmax (also the zero point that null zeros mean): TP_ERR_SCALE. Clip fields are checked, but not used. */
    TP_SCALES_GIVEN = 4
};

/* How x is brought to code units. The values are pinned. */
enum {
    TP_ROUND_DIVIDE = 1,   /* round(x / s): QuantizeLinear of ONNX, compressed-tensors */
    TP_ROUND_MULTIPLY = 2  /* round(x * (1 / s)), the inverse rounded to f32. Not GGUF's: those formats multiply too, but
                              round half away from zero (Q8_0), or floor x * (1 / s) + 8.5 (Q4_0) */
};

enum {
    TP_LAYOUT_SAME = 0,
    TP_LAYOUT_TRANSPOSED = 1
};

/*
 * One quantization, shared by all functions of this family. Fill every field.
 *
 * A group whose values are all zero gets s = 1 (and z as for symmetric codes, or by the formula qmin for min/max).
 * A scale below the smallest normal f32 is raised to it; then rounded to scale_type, upwards if it would become zero.
 * TP_ERR_SCALE if it does not fit scale_type (TP_ERR_NONFINITE if the range calls for both).
 *
 * Clip search. With clip_steps > 1 the range (max|x|, or minimum and maximum together) is multiplied by each of the
 * ratios  1 - i * (1 - clip_min) / (clip_steps - 1),  i = 0 .. clip_steps - 1,  in f32, and the one with the smallest
 * squared error of the group is kept, the first among equals. The search brings x to code units by multiplication
 * with 1 / s in f32 whatever `rounding` says, t = x * (1 / s), and adds up the squares of t minus its clamped code
 * (without z), one element after the other: in f32 over runs of 256 elements, which begin anew with each line and each
 * group, run by run in f64. No two operations are fused. The sum
 * times s * s in f64 is the squared error. Ratios whose scale does not fit scale_type lose against any other. The
 * ratio is 1 - (i * (1 - clip_min)) / (clip_steps - 1), operation by operation. This is the "MSE" observer of
 * quantization toolkits (see Nagel et al., "A White Paper on Neural Network Quantization", 2021, section 2.2).
 *
 * Importance. Where the errors of some inputs matter more than those of others, each square of the search is multiplied by a
 * number for its row or column, in f32, before it is added up. Of a group whose numbers are all 0 the first ratio is kept.
 * The numbers must be finite and not negative; those of which sums of 256 squares, in units of the scale, overflow, lose.
 *
 * Powers of two. With power_of_two != 0 a scale is rounded up to one before it is rounded to scale_type. The ratios of the search
 * are 1, 1/2, 1/4 .. then, and clip_min is not used: two steps try the powers of two above and below what the range calls for.
 */
typedef struct tp_quant {
    int64_t rows, cols;             /* 0 or more each; rows * cols < 2^62 */
    int64_t in_stride;              /* at least cols */
    int64_t out_stride;             /* at least the length of a line of codes with its padding */
    int64_t group_rows, group_cols; /* see the table above */
    tp_dtype in_type;               /* TP_F32, TP_F16, TP_BF16 */
    tp_dtype out_type;              /* TP_I8, TP_U8, TP_I4, TP_U4 */
    tp_dtype scale_type;            /* TP_F32, TP_F16, TP_BF16: what the file will store */
    int32_t qmin, qmax;             /* within out_type; qmin < qmax; narrower ones give e.g. 7-bit codes */
    int32_t range;                  /* TP_RANGE_* */
    int32_t rounding;               /* TP_ROUND_* */
    int32_t layout;                 /* TP_LAYOUT_* */
    int32_t pad;                    /* 0 or 1 */
    int32_t clip_steps;             /* 0 or 1: no search; at most 64 */
    float clip_min;                 /* smallest ratio of the search, in (0, 1] */
    int32_t power_of_two;           /* 0 or 1 */
    int32_t importance_parts;       /* 0: importance has one number for each row; n: for each column, [n, cols], rows being cut into
                                       n equal parts. Rows or columns, whichever groups lie along; per tensor either. TP_ERR_SHAPE if
                                       they do not, or rows are no multiple of n. Only looked at if there is importance */
    const float *importance;        /* null: all squares count alike; 0 or more and finite, which is not checked: of others the search
                                       takes any of its ratios */
} tp_quant;

/* The number of lines of this quantization, of groups, and of bytes that the codes take from the first to the last.
   Needs only the shape, out_type, layout and pad, as does tp_quantize_scratch. Both work whatever TENSORPRESS_ISA. */
TP_API tp_status tp_quantize_sizes(const tp_quant *spec, int64_t *lines, int64_t *groups, int64_t *code_bytes);

/* Bytes of scratch that tp_quantize needs for a range of this many lines; 0 is possible. Scratch is 64-byte aligned. */
TP_API tp_status tp_quantize_scratch(const tp_quant *spec, int64_t lines, int64_t *bytes);

/*
 * Quantizes lines [begin, end). Each input byte is read from memory once as long as a line (a panel of 64 columns for
 * column lines) fits in cache; f32 in whole columns, not transposed and without clip search, twice unless the range fits.
 *
 *   in       matrix of in_type; in may have any alignment: tensors in mapped files have none
 *   codes    see "Layout of the results"
 *   scales   see there                zeros    see there; may be null for TP_RANGE_ABSMAX and TP_RANGE_ABSMAX_FULL
 *                                              (and with TP_SCALES_GIVEN, meaning the zero point of symmetric codes)
 *   scratch  tp_quantize_scratch() bytes, 64-byte aligned, one per concurrent call; may be null if 0
 *
 * TP_ERR_NONFINITE if the range holds NaN or infinity (with TP_SCALES_GIVEN: NaN becomes z, infinities saturate).
 */
TP_API tp_status tp_quantize(const tp_quant *spec, int64_t begin, int64_t end, const void *in, void *codes,
                             float *scales, uint8_t *zeros, void *scratch);

/* Smallest and largest value of rows [begin, end), for scales over a whole tensor cut into ranges. An empty range
   gives 0 and 0. Zeros come out as +0. TP_ERR_NONFINITE as above. Only rows, cols, in_stride and in_type of spec are used. */
TP_API tp_status tp_minmax(const tp_quant *spec, int64_t begin, int64_t end, const void *in, float *min, float *max);

/* Scale and zero point that a group with this minimum and maximum gets under spec->range (not TP_SCALES_GIVEN),
   without clip search. Reads out_type, scale_type, range, qmin and qmax of spec; rounding and clip fields are checked, nothing
   else is looked at. zero may be null for symmetric ranges. TP_ERR_NONFINITE if min or max is, TP_ERR_ARGUMENT if
   min > max. */
TP_API tp_status tp_scale_of(const tp_quant *spec, float min, float max, float *scale, uint8_t *zero);

/*
 * Decodes lines [begin, end) into f32: out is [rows, cols] with in_stride elements from row to row, in the input's own
 * orientation whatever the layout of the codes. The product (q - z) * s is one f32 multiplication.
 * in_type, scale_type, range, rounding, qmin, qmax and clip fields are not used. Null zeros as in tp_quantize.
 */
TP_API tp_status tp_dequantize(const tp_quant *spec, int64_t begin, int64_t end, const void *codes,
                               const float *scales, const uint8_t *zeros, float *out);

/*
 * Error of the codes against the matrix they came from, in one pass over both; nothing is written but errors[i], the
 * error of line begin + i. x - x' and its square are f64. Results are bit-identical for every tier: of a line that is
 * a column, terms are added in order; of a row, term i goes to partial sum i % 16, and these are added 8, 4, 2 and 1
 * apart. Add the lines in order for a total that does not depend on threads either. Uses in_type, but neither
 * scale_type nor range, rounding and clip fields.
 * NaN and infinity in the input propagate into the result.
 */
TP_API tp_status tp_quantize_error(const tp_quant *spec, int64_t begin, int64_t end, const void *in, const void *codes,
                                   const float *scales, const uint8_t *zeros, tp_error *errors);

/* Packs n codes, one to a byte (the upper nibble of each is ignored), two to a byte; an odd n ends with a zero nibble. */
TP_API tp_status tp_pack4(const uint8_t *codes, int64_t n, uint8_t *packed);

/* Reverses tp_pack4: n codes, sign-extended if type is TP_I4, zero-extended if TP_U4. */
TP_API tp_status tp_unpack4(tp_dtype type, const uint8_t *packed, int64_t n, uint8_t *codes);

/*
 * Converts n elements between TP_F32, TP_F16 and TP_BF16, to nearest, ties to even. Overflow gives infinity, denormals
 * are kept, NaN stays NaN (quiet, upper payload bits kept). From a type to itself it copies.
 */
TP_API tp_status tp_convert(tp_dtype from, const void *in, int64_t n, tp_dtype to, void *out);

/* Position of the first NaN or infinity in a matrix of in_type, row by row: *row = -1 if there is none. Only rows,
   cols, in_stride and in_type of spec are used. */
TP_API tp_status tp_find_nonfinite(const tp_quant *spec, const void *in, int64_t *row, int64_t *col);

#ifdef __cplusplus
}
#endif
#endif
