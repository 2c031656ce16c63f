/* Formulas of the svd family that the processor and CUDA devices share: random numbers, powers of two, one rotation. */
#ifndef TP_SVD_SCALAR_H
#define TP_SVD_SCALAR_H

#include <math.h>

#include "core/random.h"
#include "core/scalar.h"

#define U 0x1p-53

/* ---- random numbers ---- */

/* ln(x) for x in (0, 1), normal. */
TP_SCALAR double tp_natural_log(double x) {
    uint64_t bits;
    memcpy(&bits, &x, 8);
    /* x = 2^e m, m in [sqrt(1/2), sqrt(2)) */
    const uint64_t shifted = bits + (UINT64_C(0x3ff0000000000000) - UINT64_C(0x3fe6a09e667f3bcd));
    const int64_t e = (int64_t)(shifted >> 52) - 1023;
    bits = (shifted & UINT64_C(0xfffffffffffff)) + UINT64_C(0x3fe6a09e667f3bcd);
    double m;
    memcpy(&m, &bits, 8);
    const double t = (m - 1) / (m + 1), t2 = t * t;
    double p = 1.0 / 21;
    p = p * t2 + 1.0 / 19;
    p = p * t2 + 1.0 / 17;
    p = p * t2 + 1.0 / 15;
    p = p * t2 + 1.0 / 13;
    p = p * t2 + 1.0 / 11;
    p = p * t2 + 1.0 / 9;
    p = p * t2 + 1.0 / 7;
    p = p * t2 + 1.0 / 5;
    p = p * t2 + 1.0 / 3;
    p = p * t2 + 1.0;
    return (double)(int32_t)e * 0.693147180559945309417 + 2 * t * p;
}

/* sin and cos of 2 pi w / 2^32. */
TP_SCALAR void tp_sine_cosine(uint32_t w, double *sine, double *cosine) {
    const uint32_t quarter = (w + 0x20000000u) >> 30; /* the nearest multiple of pi / 2 */
    const double x = (double)(int32_t)(w - (quarter << 30)) * (6.283185307179586476925 * 0x1p-32), x2 = x * x;
    double s = -1.0 / 1307674368000.0;
    s = s * x2 + 1.0 / 6227020800.0;
    s = s * x2 - 1.0 / 39916800.0;
    s = s * x2 + 1.0 / 362880.0;
    s = s * x2 - 1.0 / 5040.0;
    s = s * x2 + 1.0 / 120.0;
    s = s * x2 - 1.0 / 6.0;
    s = s * x2 * x + x;
    double c = 1.0 / 20922789888000.0;
    c = c * x2 - 1.0 / 87178291200.0;
    c = c * x2 + 1.0 / 479001600.0;
    c = c * x2 - 1.0 / 3628800.0;
    c = c * x2 + 1.0 / 40320.0;
    c = c * x2 - 1.0 / 720.0;
    c = c * x2 + 1.0 / 24.0;
    c = c * x2 - 0.5;
    c = c * x2 + 1.0;
    const double a = quarter & 1 ? c : s, b = quarter & 1 ? s : c;
    *sine = quarter & 2 ? -a : a;
    *cosine = (quarter + 1) & 2 ? -b : b;
}

/* The two numbers that the words w and v make. */
TP_SCALAR void tp_box_muller(uint32_t w, uint32_t v, double *x, double *y) {
    const double radius = sqrt(-2 * tp_natural_log(((double)w + 0.5) * 0x1p-32));
    double s, c;
    tp_sine_cosine(v, &s, &c);
    *x = radius * c;
    *y = radius * s;
}

/* ---- powers of two ---- */

TP_SCALAR double tp_power_of_two(int64_t e) {
    const uint64_t bits = (uint64_t)(e + 1023) << 52;
    double x;
    memcpy(&x, &bits, 8);
    return x;
}

/* e with 2^e <= x < 2^(e+1), within -1022 .. 1022; 0 for 0. */
TP_SCALAR int64_t tp_binary_exponent(double x) {
    uint64_t bits;
    memcpy(&bits, &x, 8);
    const int64_t e = (int64_t)(bits >> 52 & 2047) - 1023;
    return x == 0 ? 0 : e < -1022 ? -1022 : e > 1022 ? 1022 : e;
}

/* ---- Jacobi ---- */

/* The rotation of rows p and q that makes them orthogonal, the larger one first; false if they are already. */
TP_SCALAR bool tp_rotation(double gp, double gq, double gpq, double tolerance, double negligible, double *c, double *s, double *change) {
    if (gp <= negligible || gq <= negligible || !(fabs(gpq) > tolerance * (sqrt(gp) * sqrt(gq)))) return false;
    const double zeta = (gq - gp) / (2 * gpq);
    const double t = copysign(1 / (fabs(zeta) + sqrt(1 + zeta * zeta)), zeta);
    *c = 1 / sqrt(1 + t * t);
    *s = *c * t;
    *change = t * gpq;
    if (gp - *change < gq + *change) {
        const double old = *c;
        *c = *s;
        *s = -old;
        *change = gp - gq - *change; /* gp becomes gq + change of old, and the other way round */
    }
    return true;
}

#endif
