/* Gaussian numbers. */

enum { WORDS = 64 }; /* blocks of the generator that are computed side by side */

/* ln(x) for x in (0, 1), normal. */
INLINE double natural_log(double x) {
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
INLINE void sine_cosine(uint32_t w, double *sine, double *cosine) {
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

/* Blocks first .. first + WORDS - 1 of the generator as 4 * WORDS numbers. */
static void gaussian_blocks(uint64_t seed, uint64_t stream, uint64_t first, double *out) {
    uint32_t w0[WORDS], w1[WORDS], w2[WORDS], w3[WORDS];
    for (int i = 0; i < WORDS; i++) {
        uint32_t c0 = (uint32_t)(first + (uint64_t)i), c1 = (uint32_t)((first + (uint64_t)i) >> 32);
        uint32_t c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
        uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
#pragma GCC unroll 10
        for (int round = 0; round < 10; round++) {
            const uint64_t p = (uint64_t)c0 * 0xD2511F53u, q = (uint64_t)c2 * 0xCD9E8D57u;
            const uint32_t n0 = (uint32_t)(q >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p >> 32) ^ c3 ^ k1;
            c1 = (uint32_t)q;
            c3 = (uint32_t)p;
            c0 = n0;
            c2 = n2;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        w0[i] = c0, w1[i] = c1, w2[i] = c2, w3[i] = c3;
    }
    for (int half = 0; half < 2; half++) {
        const uint32_t *a = half ? w2 : w0, *b = half ? w3 : w1;
        double x[WORDS], y[WORDS];
        for (int i = 0; i < WORDS; i++) {
            const double radius = sqrt(-2 * natural_log(((double)a[i] + 0.5) * 0x1p-32));
            double s, c;
            sine_cosine(b[i], &s, &c);
            x[i] = radius * c;
            y[i] = radius * s;
        }
        for (int i = 0; i < WORDS; i++) {
            out[4 * i + 2 * half] = x[i];
            out[4 * i + 2 * half + 1] = y[i];
        }
    }
}

tp_status TP_VARIANT(gaussian)(uint64_t seed, uint64_t stream, int64_t begin, int64_t end, tp_dtype type, void *out) {
    double numbers[4 * WORDS];
    for (int64_t i = begin; i < end;) {
        const int64_t first = i / 4 * 4, stop = first + min64(4 * WORDS, end - first);
        gaussian_blocks(seed, stream, (uint64_t)first / 4, numbers);
        for (; i < stop; i++) put(type, out, i - begin, numbers[i - first]);
    }
    return TP_OK;
}
