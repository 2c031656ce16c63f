/* What the processor and CUDA have in common. */
#ifndef TP_CODEBOOK_SCALAR_H
#define TP_CODEBOOK_SCALAR_H

#include <math.h>

#include "core/random.h"
#include "core/scalar.h"

/* The largest float that is nearer to a than to b, or as near; a <= b. */
TP_SCALAR float tp_threshold(float a, float b) {
    const double middle = (double)a + ((double)b - (double)a) / 2;
    const float x = (float)middle;
    return (double)x > middle ? nextafterf(x, -INFINITY) : x;
}

/* Points are summed in blocks, each always by the same four sums, and so is the whole. */
enum { POINT_BLOCK = 1024 };

/* Bits that order floats. */
TP_SCALAR uint32_t tp_order_of(float x) {
    const uint32_t bits = tp_bits(x);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

/* What a weight counts. */
TP_SCALAR uint32_t tp_steps_of(float weight) {
    if (!(weight > 0)) return 0;
    const uint32_t steps = weight < 1 ? (uint32_t)(weight * 65536.0f + 0.5f) : 65536;
    return steps ? steps : 1;
}

TP_SCALAR double tp_unit_random(uint64_t seed, uint64_t stream, uint64_t counter) {
    uint32_t w[4];
    tp_philox(seed, stream, counter, &w[0], &w[1], &w[2], &w[3]);
    return (double)(((uint64_t)w[0] << 32 | w[1]) >> 11) * 0x1p-53;
}

/* A point, by its weight times its distance, of which there are the sums of blocks; the last that counts where rounding leaves none. -1 if none counts. */
TP_SCALAR int64_t tp_draw(const float *weight, const float *distance, const double *blocks, int64_t points, double unit) {
    double whole = 0;
    for (int64_t b = 0; b < points / POINT_BLOCK; b++) whole += blocks[b];
    if (!(whole > 0)) return -1;
    const double wanted = unit * whole;
    double sum = 0;
    int64_t last = -1;
    for (int64_t b = 0; b < points / POINT_BLOCK; b++) {
        if (!(blocks[b] > 0)) continue;
        last = b;
        if (sum + blocks[b] > wanted) break;
        sum += blocks[b];
    }
    int64_t point = -1;
    for (int64_t i = last * POINT_BLOCK; i < (last + 1) * POINT_BLOCK; i++) {
        const double share = (double)weight[i] * (double)distance[i];
        if (!(share > 0)) continue;
        point = i;
        sum += share;
        if (sum > wanted) break;
    }
    return point;
}

#endif
