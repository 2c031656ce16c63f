/*
 * Kernel family "feedback": codes of a weight, or zeros in it, such that what a product makes of its inputs changes least, not the weight
 * itself. The error of each element is made up for by others.
 *
 * Example:
 *
 *     const float m[4] = {0, 0, 0.5f, 0}, w[2] = {1.4f, 2}, scale = 1, outside[2] = {0, 0};
 *     const int32_t groups[2] = {0, 0};
 *     const tp_feedback spec = {.inputs = 2, .outputs = 1, .m_stride = 2, .stride = 1, .scale_stride = 1, .qmin = -7, .qmax = 7};
 *     float e[2] = {0, 0}, change[2];
 *     int32_t moved = 0;
 *     assert(tp_feedback_round(&spec, 0, 1, m, w, outside, groups, &scale, NULL, e, change, &moved) == TP_OK);
 *     assert(e[0] == 1.4f - 1 && e[1] == 0); // 2 + 0.5 * 0.4 is rounded to 2
 *
 * A weight W is [k, n]: k inputs, n outputs. H = X^T X [k, k] is the Gram matrix of inputs X [samples, k]. With D what the codes mean
 * and E = W - D, the loss is the sum over the outputs of e^T H e. One function serves two methods:
 *
 *   Coordinate descent (Behdin et al., "QuantEase", 2023). The best value of element i, all others left as they are, is
 *   w[i] + sum over l != i of H[i, l] e[l] / H[i, i]. M is H with each row divided by its element on the diagonal, and that then set
 *   to 0; `outside` = M E, for the E of before. Repeated until nothing moves.
 *
 *   GPTQ (Frantar et al., 2022). H = U U^T, U upper triangular; M[i, l] = U[l, i] / U[i, i] for l < i, else 0; E = 0 and `outside` = 0
 *   at first. Element i becomes the best one for the errors of those before it, those behind it being free. (So nothing has to be
 *   inverted: U is Cholesky's factor of H with rows and columns in reverse order, in reverse order. It is Babai's nearest plane: Chen et
 *   al., "The Geometry of LLM Quantization", 2025.)
 *
 * The function takes one block of inputs at a time, of which m is the part of M [block, block], and returns in `change` what it added
 * to E. The caller then adds M[others, block] change to `outside` of the others. In which order inputs come ("act-order") is the
 * caller's affair as well; `groups` says which scales an input has.
 *
 * With i ascending, and everything f32:
 *     t[i, j] = w[i, j] + (outside[i, j] + sum over l < i of m[i, l] change[l, j])
 *     q[i, j] = clamp(round_half_even(t[i, j] / s) + z, qmin, qmax);  0 / s + z where w[i, j] is 0 and keep_zeros is set
 *     e'[i, j] = w[i, j] - (q[i, j] - z) * s;  change[i, j] = e'[i, j] - e[i, j]
 * The sum runs over ascending l, by fused multiply-add from +0; all other operations are rounded one by one. So bits are the same for
 * every tier, range and number of threads. Where t is NaN, q is qmin.
 *
 * Of a pruned weight, some elements of D are 0, and the others any number. tp_feedback_refit is coordinate descent for these, with M,
 * `outside` and `change` as above: a kept element becomes the best one beside all others as they are,
 *     e'[i, j] = kept ? 0 - (outside[i, j] + sum over l < i of m[i, l] change[l, j]) : w[i, j];  change[i, j] = e'[i, j] - e[i, j]
 * What an element that is 0 would best be is w[i, j] + (M E)[i, j], and with the root of H[i, i] that says what its being 0 costs: by
 * that the caller may choose anew what is kept, from one sweep to the next.
 */
#ifndef TENSORPRESS_FEEDBACK_H
#define TENSORPRESS_FEEDBACK_H

#include "tensorpress/core.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TP_FEEDBACK_BLOCK = 64 };

/* One block of inputs. Fill every field. */
typedef struct tp_feedback {
    int64_t inputs;       /* 0 .. TP_FEEDBACK_BLOCK, else TP_ERR_SHAPE */
    int64_t outputs;      /* 0 or more */
    int64_t m_stride;     /* at least inputs */
    int64_t stride;       /* of w, outside, e and change: at least outputs */
    int64_t scale_stride; /* of scales and zeros: at least outputs */
    int32_t qmin, qmax;   /* -128 .. 255, qmin < qmax */
    int32_t keep_zeros;   /* 1: elements of w that are 0 stay 0, as those of a pruned weight should; 0: they are as others */
} tp_feedback;

/*
 * Rounds outputs [begin, end). Arrays are those of all outputs.
 *
 *   m        [inputs, inputs]; read below the diagonal only
 *   w        [inputs, outputs]
 *   outside  [inputs, outputs]
 *   groups   for each input the row of scales and zeros that it has; not negative, and not checked against their number
 *   scales   f32 [groups, outputs], not 0 and finite, which is not checked
 *   zeros    f32 [groups, outputs], whole numbers; null for 0
 *   e        [inputs, outputs], in and out
 *   change   [inputs, outputs], out; overlaps nothing
 *   moved    for each output, in and out: raised by how many of its elements have changed. Outputs do not depend on each other: in
 *            descent, one that a sweep leaves as it was has come to its end
 *
 * Arrays of floats are aligned to 4 bytes. TP_ERR_RANGE for a range outside of the outputs, TP_ERR_SHAPE for strides, TP_ERR_ARGUMENT
 * for other fields, null arrays, and groups that are negative.
 */
TP_API tp_status tp_feedback_round(const tp_feedback *spec, int64_t begin, int64_t end, const float *m, const float *w,
                                   const float *outside, const int32_t *groups, const float *scales, const float *zeros, float *e,
                                   float *change, int32_t *moved);

/* One block of inputs of a pruned weight. Fill every field. */
typedef struct tp_refit {
    int64_t inputs;      /* 0 .. TP_FEEDBACK_BLOCK, else TP_ERR_SHAPE */
    int64_t outputs;     /* 0 or more */
    int64_t m_stride;    /* at least inputs */
    int64_t stride;      /* of w, outside, e and change: at least outputs */
    int64_t mask_stride; /* bytes: at least outputs / 8, rounded up */
} tp_refit;

/*
 * One step of descent for the kept elements of outputs [begin, end); begin is a multiple of 8, else TP_ERR_RANGE. Arrays are those of all
 * outputs, and aligned to 4 bytes.
 *
 *   m        [inputs, inputs]; read below the diagonal only
 *   w        [inputs, outputs]
 *   outside  [inputs, outputs]
 *   mask     bit j % 8 of byte j / 8 of a row: whether the element is kept; as of tensorpress/prune.h
 *   e        [inputs, outputs], in and out
 *   change   [inputs, outputs], out; overlaps nothing
 *
 * TP_ERR_SHAPE for strides, TP_ERR_ARGUMENT for null arrays.
 */
TP_API tp_status tp_feedback_refit(const tp_refit *spec, int64_t begin, int64_t end, const float *m, const float *w,
                                   const float *outside, const uint8_t *mask, float *e, float *change);

#ifdef __cplusplus
}
#endif
#endif
