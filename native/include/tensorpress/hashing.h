/*
 * Kernel family "hashing": a matrix whose elements share few values, which of them by a hash of the position, so that only these values are
 * stored (Chen et al., "Compressing Neural Networks with the Hashing Trick", 2015).
 *
 * Example:
 *
 *     const float w[2] = {3, -1};
 *     const tp_hashing spec = {.rows = 1, .cols = 2, .stride = 2, .buckets = 1, .seed = 7};
 *     double sum = 0;
 *     int32_t count = 0;
 *     float value, decoded[2];
 *     assert(tp_hash_add(&spec, 0, 1, w, &sum, &count) == TP_OK && count == 2);
 *     assert(tp_hash_mean(1, 1, 0, 1, &sum, &count, &value) == TP_OK);
 *     assert(tp_hash_decode(&spec, 0, 1, &value, decoded) == TP_OK && decoded[0] * decoded[0] == value * value);
 *
 * With h(i, j, seed) = xxHash32 of the eight bytes of i and j, two little-endian numbers of 32 bits, element [i, j] has the value number
 * h(i, j, seed) buckets / 2^32, rounded down, and its negative if the highest bit of h(i, j, seed + 1) is set. Each element has one value, so that
 * the values nearest to a given matrix by least squares are means of its elements, with their signs turned where the hash says so.
 *
 * Arrays are aligned to their elements. Bits are the same for every tier.
 */
#ifndef TENSORPRESS_HASHING_H
#define TENSORPRESS_HASHING_H

#include "tensorpress/core.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Fill every field. */
typedef struct tp_hashing {
    int64_t rows, cols; /* below 2^32, else TP_ERR_SHAPE */
    int64_t stride;     /* of the matrix: at least cols */
    int64_t buckets;    /* values: 1 .. 2^31 - 1, else TP_ERR_SHAPE */
    uint32_t seed;
} tp_hashing;

/*
 * Adds elements of rows [begin, end), their signs turned, to the sums of their values, one after the other, and counts them. The order decides
 * about the last bits, so a matrix should be cut in the same way whatever threads there are, each part with sums of its own.
 *
 *   in      f32 [rows, cols]
 *   sums    f64 [buckets]
 *   counts  int32 [buckets]
 *
 * TP_ERR_NONFINITE where an element is not finite.
 */
TP_API tp_status tp_hash_add(const tp_hashing *spec, int64_t begin, int64_t end, const float *in, double *sums, int32_t *counts);

/*
 * Values [begin, end): the sums of all parts, added in their order from the first one on, by their counts; 0 where these are 0.
 *
 *   sums    f64 [parts, buckets]
 *   counts  int32 [parts, buckets]
 *   values  f32 [buckets]
 */
TP_API tp_status tp_hash_mean(int64_t parts, int64_t buckets, int64_t begin, int64_t end, const double *sums, const int32_t *counts,
                              float *values);

/* Elements of rows [begin, end): out is f32 [rows, cols], values f32 [buckets]. */
TP_API tp_status tp_hash_decode(const tp_hashing *spec, int64_t begin, int64_t end, const float *values, float *out);

#ifdef __cplusplus
}
#endif
#endif
