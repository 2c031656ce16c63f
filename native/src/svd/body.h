/*
 * The algorithms of the svd family, written once over vectors of LANES doubles. The including file defines `vd`, its
 * operations, and the tile of MR x NV vectors that a product keeps in registers.
 */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "svd/scalar.h"

enum { NR = NV * LANES };
_Static_assert((int)MR <= (int)TP_TILE_ROWS && (int)NR <= (int)TP_TILE_COLS && TP_BLOCK_ROWS % MR == 0 && TP_BLOCK_COLS % NR == 0, "tiles");

/* The library of mathematical functions is not linked. */
INLINE double larger(double x, double y) { return x > y ? x : y; }

INLINE int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* Element i of an array that may lie at any address. */
INLINE double at(tp_dtype type, const void *p, int64_t i) {
    if (type == TP_F64) {
        double x;
        memcpy(&x, (const char *)p + 8 * i, 8);
        return x;
    }
    float x;
    memcpy(&x, (const char *)p + 4 * i, 4);
    return x;
}

INLINE void put(tp_dtype type, void *p, int64_t i, double x) {
    if (type == TP_F64)
        ((double *)p)[i] = x;
    else
        ((float *)p)[i] = (float)x;
}

INLINE const void *element(tp_dtype type, const void *p, int64_t i) {
    return (const char *)p + (type == TP_F64 ? 8 : 4) * i;
}

/* ---- vectors ---- */

static double dot(int64_t n, const double *x, const double *y) {
    vd s0 = v_zero(), s1 = v_zero(), s2 = v_zero(), s3 = v_zero();
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        s0 = v_fma(v_load(x + i), v_load(y + i), s0);
        s1 = v_fma(v_load(x + i + LANES), v_load(y + i + LANES), s1);
        s2 = v_fma(v_load(x + i + 2 * LANES), v_load(y + i + 2 * LANES), s2);
        s3 = v_fma(v_load(x + i + 3 * LANES), v_load(y + i + 3 * LANES), s3);
    }
    for (; i + LANES <= n; i += LANES) s0 = v_fma(v_load(x + i), v_load(y + i), s0);
    double sum = v_sum(v_add(v_add(s0, s1), v_add(s2, s3)));
    for (; i < n; i++) sum += x[i] * y[i];
    return sum;
}

/* y += a x */
static void axpy(int64_t n, double a, const double *x, double *y) {
    const vd va = v_set(a);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) v_store(y + i, v_fma(va, v_load(x + i), v_load(y + i)));
    for (; i < n; i++) y[i] += a * x[i];
}

/* x' = c x - s y, y' = s x + c y */
static void rotate(int64_t n, double c, double s, double *x, double *y) {
    const vd vc = v_set(c), vs = v_set(s);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vd p = v_load(x + i), q = v_load(y + i);
        v_store(x + i, v_sub(v_mul(vc, p), v_mul(vs, q)));
        v_store(y + i, v_fma(vc, q, v_mul(vs, p)));
    }
    for (; i < n; i++) {
        const double p = x[i], q = y[i];
        x[i] = c * p - s * q;
        y[i] = s * p + c * q;
    }
}

static void scale(int64_t n, double a, double *x) {
    for (int64_t i = 0; i < n; i++) x[i] *= a;
}

static void swap_rows(int64_t n, double *x, double *y) {
    for (int64_t i = 0; i < n; i++) {
        const double t = x[i];
        x[i] = y[i];
        y[i] = t;
    }
}

#include "svd/random.h"
#include "svd/rows.h"
#include "svd/product.h"
#include "svd/householder.h"
#include "svd/tridiagonal.h"
#include "svd/conquer.h"
#include "svd/jacobi.h"
#include "svd/small.h"
