/* What all tiers of the family share: the cosines, the numbers of the lifting steps, and one element at a time. */
#ifndef TP_TRANSFORM_SCALAR_H
#define TP_TRANSFORM_SCALAR_H

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/scalar.h"
#include "tensorpress/transform.h"

/* Floats from one row of a table to the next, so that vectors of any tier can be read from a row. */
enum { TP_DCT_STRIDE = TP_DCT_MOST };

/* The four steps of CDF 9/7, and what scales low coefficients, and high ones. */
static const float tp_cdf97_steps[4] = {-1.586134342059924f, -0.052980118572961f, 0.882911075530934f, 0.443506852043971f};
static const float tp_cdf97_low = 1.149604398860241f, tp_cdf97_high = 0.8698644516247808f;
static const float tp_haar_root = 0.70710678118654752f;

/* cos(pi m / (2 n)) for 0 <= m <= n, by series: the C library's may differ from one version to the next. */
static inline double tp_quarter_cosine(int m, int n) {
    const bool near = 2 * m <= n;
    const double x = 3.14159265358979323846 * (near ? m : n - m) / (2 * n), y = x * x;
    double sum = 1;
    for (int i = 18; i > 0; i -= 2) sum = 1 - sum * y / (near ? (i - 1) * i : i * (i + 1));
    return near ? sum : sum * x;
}

/* table[a TP_DCT_STRIDE + b] = T[k, j] for the size n: with (a, b) = (j, k) if `turned`, else (k, j). What is behind n columns is 0. */
static inline void tp_dct_table(int n, bool turned, float *table) {
    float circle[4 * TP_DCT_MOST]; /* sqrt(2 / n) cos(pi m / (2 n)) */
    const double root = sqrt(2.0 / n);
    for (int m = 0; m <= n; m++) circle[m] = (float)(root * tp_quarter_cosine(m, n));
    for (int m = n + 1; m <= 2 * n; m++) circle[m] = -circle[2 * n - m];
    for (int m = 2 * n + 1; m < 4 * n; m++) circle[m] = circle[4 * n - m];
    memset(table, 0, sizeof(float) * (size_t)(n * TP_DCT_STRIDE));
    for (int k = 0; k < n; k++)
        for (int j = 0, m = k; j < n; j++, m += m + 2 * k < 4 * n ? 2 * k : 2 * k - 4 * n)
            table[turned ? j * TP_DCT_STRIDE + k : k * TP_DCT_STRIDE + j] = k ? circle[m] : (float)sqrt(1.0 / n);
}

/* The tables of a call: of rows and of columns, for whole blocks and for what is left; and rows of a piece of blocks. */
typedef struct tp_dct_plan {
    float across[2][TP_DCT_MOST * TP_DCT_STRIDE], down[2][TP_DCT_MOST * TP_DCT_STRIDE];
    float piece[TP_DCT_MOST * TP_DCT_STRIDE];
} tp_dct_plan;
_Static_assert(sizeof(tp_dct_plan) <= TP_DCT_SCRATCH, "scratch");

static inline const tp_dct_plan *tp_dct_prepare(const tp_dct *s, void *scratch) {
    tp_dct_plan *const plan = scratch;
    const int right = (int)(s->cols % s->block), low = (int)(s->rows % s->block);
    if (s->cols >= s->block) tp_dct_table(s->block, !s->inverse, plan->across[0]);
    if (right) tp_dct_table(right, !s->inverse, plan->across[1]);
    if (s->dimensions == 1) return plan;
    if (s->rows >= s->block) tp_dct_table(s->block, s->inverse, plan->down[0]);
    if (low) tp_dct_table(low, s->inverse, plan->down[1]);
    return plan;
}

/* The whole part of this is the magnitude of the code of a finite x. */
static inline float tp_zone_depth(const tp_zone *s, float x) { return fabsf(x) / s->step + (1 - s->zone); }

static inline float tp_zone_value(const tp_zone *s, int32_t code) {
    if (code == 0) return 0;
    const float x = (fabsf((float)code) + s->offset) * s->step;
    return code < 0 ? -x : x;
}

/* Adds sixteen sums by halves. */
static inline double tp_sum_halves(double *sums) {
    for (int half = 8; half > 0; half /= 2)
        for (int l = 0; l < half; l++) sums[l] += sums[l + half];
    return sums[0];
}

static inline tp_status tp_count_each(int32_t limit, int64_t begin, int64_t end, const int32_t *codes, int64_t *counts) {
    const uint32_t most = 2 * (uint32_t)limit;
    for (int64_t i = begin; i < end; i++) {
        const uint32_t at = (uint32_t)codes[i] + (uint32_t)limit;
        if (at > most) return TP_ERR_MAGNITUDE;
        counts[at]++;
    }
    return TP_OK;
}

#endif
