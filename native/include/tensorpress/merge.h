/*
 * Kernel family "merge": one weight made of those of several models with the same names and shapes.
 *
 * Example:
 *
 *     const float a[3] = {1, 2, 3}, b[3] = {3, 2, 5}, base[3] = {1, 2, 1};
 *     const void *both[2] = {a, b}, *all[3] = {a, b, base};
 *     const double halves[2] = {0.5, 0.5}, ones[2] = {1, 1};
 *     const tp_models models = {.elements = 3, .sources = 2, .type = TP_F32};
 *     float out[3];
 *     assert(tp_models_combine(&models, 0, 3, both, halves, out) == TP_OK && out[0] == 2 && out[2] == 4);
 *     const tp_tasks tasks = {.elements = 3, .sources = 2, .type = TP_F32, .drop = TP_DROP_NONE, .scale = 1, .keep = 1};
 *     assert(tp_models_tasks(&tasks, 0, 3, all, ones, NULL, out) == TP_OK && out[0] == 3 && out[2] == 7); // 1 + 2 + 4
 *
 * Weights are f32, f16 or bf16, all of one type (else TP_ERR_TYPE), at any address, and are read and written as vectors of
 * elements without gaps. Sums, products and quotients are in f64, one after the other in the order of the models; what comes of them is
 * rounded to f32, and then to the type. Elements do not depend on each other, so that the bits are the same for every tier, and however
 * ranges are cut.
 *
 * TP_ERR_NONFINITE where an element is NaN, or what is written would not be finite; what lies behind it in the range may be written or
 * not. An infinity that all models have in the same place stays, though.
 */
#ifndef TENSORPRESS_MERGE_H
#define TENSORPRESS_MERGE_H

#include "tensorpress/core.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Models at most, beside a base. */
enum { TP_MERGE_MOST = 64 };

/* Elements of a block of inner products. */
enum { TP_MERGE_BLOCK = 4096 };

/* What of the differences to a base is dropped. The values are pinned. */
enum {
    TP_DROP_NONE = 0,
    TP_DROP_SMALL = 1,
    TP_DROP_RANDOM = 2
};

/* Fill every field. */
typedef struct tp_models {
    int64_t elements; /* below 2^60, else TP_ERR_SHAPE */
    int32_t sources;  /* 1 .. TP_MERGE_MOST, else TP_ERR_SHAPE */
    tp_dtype type;
} tp_models;

/* Fill every field. */
typedef struct tp_tasks {
    int64_t elements; /* below 2^60, else TP_ERR_SHAPE */
    int32_t sources;  /* without the base: 1 .. TP_MERGE_MOST, else TP_ERR_SHAPE */
    tp_dtype type;
    int32_t drop;     /* TP_DROP_*; else TP_ERR_ARGUMENT */
    int32_t elect;    /* 0 or 1; else TP_ERR_ARGUMENT */
    double scale;     /* finite, else TP_ERR_ARGUMENT */
    double keep;      /* probability with TP_DROP_RANDOM: above 0, at most 1, else TP_ERR_ARGUMENT */
    uint64_t seed, stream; /* of the noise of source 0; that of source j has stream + j */
    int64_t first;    /* position of element 0 in the noise: not negative, and with `elements` below 2^60, else TP_ERR_SHAPE */
} tp_tasks;

/*
 * Elements [begin, end) of the sum of weights[j] times source j.
 *
 *   in       [sources] pointers to elements
 *   weights  f64 [sources]
 *   out      elements; may be one of the sources, but must not overlap one otherwise
 */
TP_API tp_status tp_models_combine(const tp_models *spec, int64_t begin, int64_t end, const void *const *in, const double *weights,
                                   void *out);

/*
 * Inner products of two models (sources is 2, else TP_ERR_SHAPE), by blocks [begin, end) of TP_MERGE_BLOCK elements, of which the last may
 * have fewer: sums[3 b] is that of both, sums[3 b + 1] of the first with itself, sums[3 b + 2] of the second with itself. Term c of
 * a block goes to partial sum c % 16, and these are added 8, 4, 2 and 1 apart. TP_ERR_NONFINITE if an element is not finite.
 *
 *   sums  f64 [3 blocks]
 */
TP_API tp_status tp_models_inner(const tp_models *spec, int64_t begin, int64_t end, const void *const *in, double *sums);

/*
 * Elements [begin, end) of the difference of the first of two models (sources is 2, else TP_ERR_SHAPE) to the second, rounded to f32, in which
 * it may be infinite. 0 where both are infinite alike.
 */
TP_API tp_status tp_models_delta(const tp_models *spec, int64_t begin, int64_t end, const void *const *in, float *out);

/*
 * Elements [begin, end) of base + scale * m, and of the base itself where m is 0. With d_j = source j - base, 0 where both are infinite alike:
 *     TP_DROP_NONE    k_j = d_j
 *     TP_DROP_SMALL   k_j = d_j where |d_j| rounded to f32 is at least thresholds[j], else 0
 *     TP_DROP_RANDOM  k_j = d_j / keep where word (first + i) % 4 of block (first + i) / 4 of Philox 4x32-10, key seed, stream (counter words
 *                     2 and 3) stream + j, is below keep * 2^32, else 0
 * m is the sum of the weights[j] * k_j. With elect, only those with the sign of this sum, where 0 counts as positive, are added,
 * and the sum is divided by that of their weights (TIES: a disjoint mean); m is 0 if there are none.
 *
 *   in          [sources + 1] pointers to elements; the last is the base
 *   weights     f64 [sources], finite; with elect not negative (TP_ERR_ARGUMENT)
 *   thresholds  f32 [sources], of TP_DROP_SMALL alone
 *   out         elements; may be one of the inputs, but must not overlap one otherwise
 */
TP_API tp_status tp_models_tasks(const tp_tasks *spec, int64_t begin, int64_t end, const void *const *in, const double *weights,
                                 const float *thresholds, void *out);

#ifdef __cplusplus
}
#endif
#endif
