/*
 * The algorithms of the svd family, written once over vectors of LANES doubles. The including file defines `vd`, its
 * operations, and the tile of MR x NV vectors that a product keeps in registers.
 */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { NR = NV * LANES };
_Static_assert((int)MR <= (int)TP_TILE_ROWS && (int)NR <= (int)TP_TILE_COLS && TP_BLOCK_ROWS % MR == 0 && TP_BLOCK_COLS % NR == 0, "tiles");

#define U 0x1p-53

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

INLINE double power_of_two(int64_t e) {
    const uint64_t bits = (uint64_t)(e + 1023) << 52;
    double x;
    memcpy(&x, &bits, 8);
    return x;
}

/* e with 2^e <= x < 2^(e+1), within -1022 .. 1022; 0 for 0. */
INLINE int64_t binary_exponent(double x) {
    uint64_t bits;
    memcpy(&bits, &x, 8);
    const int64_t e = (int64_t)(bits >> 52 & 2047) - 1023;
    return x == 0 ? 0 : e < -1022 ? -1022 : e > 1022 ? 1022 : e;
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

/* ---- random numbers ---- */

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

/* ---- norms, copies ---- */

enum { PARTS = 16 };

typedef float floats8 __attribute__((vector_size(32)));
typedef int32_t ints8 __attribute__((vector_size(32)));
typedef double doubles8 __attribute__((vector_size(64)));

INLINE bool row_norm(tp_dtype type, int64_t n, const void *row, double *sum, double *largest) {
    double sums[PARTS] = {0}, most[PARTS] = {0}, odd[PARTS] = {0};
    int64_t i = 0;
    if (type == TP_F32) {
        /* Squares of f32 cannot overflow: NaN and infinity end up in the sums. Magnitudes are in the order of their bits. */
        doubles8 sum[2] = {{0}, {0}};
        ints8 top[2] = {{0}, {0}};
        for (; i + PARTS <= n; i += PARTS) {
            for (int k = 0; k < 2; k++) {
                floats8 x;
                memcpy(&x, (const char *)row + 4 * (i + 8 * k), sizeof x);
                const ints8 a = (ints8)x & 0x7fffffff, more = a > top[k];
                top[k] = (a & more) | (top[k] & ~more);
                const doubles8 wide = __builtin_convertvector(x, doubles8);
                sum[k] += wide * wide;
            }
        }
        for (int k = 0; k < PARTS; k++) {
            sums[k] = sum[k / 8][k % 8];
            odd[k] = sums[k] - sums[k];
            most[k] = ((floats8)top[k / 8])[k % 8];
        }
    }
    for (; i + PARTS <= n; i += PARTS) {
        for (int k = 0; k < PARTS; k++) {
            const double x = at(type, row, i + k), a = fabs(x);
            sums[k] += x * x;
            most[k] = a > most[k] ? a : most[k];
            odd[k] += x - x; /* NaN if x is not finite */
        }
    }
    for (; i < n; i++) {
        const double x = at(type, row, i), a = fabs(x);
        sums[i % PARTS] += x * x;
        most[i % PARTS] = a > most[i % PARTS] ? a : most[i % PARTS];
        odd[i % PARTS] += x - x;
    }
    for (int step = PARTS / 2; step; step /= 2) {
        for (int k = 0; k < step; k++) {
            sums[k] += sums[k + step];
            most[k] = most[k] > most[k + step] ? most[k] : most[k + step];
            odd[k] += odd[k + step];
        }
    }
    *sum = sums[0];
    *largest = most[0];
    return odd[0] == 0;
}

tp_status TP_VARIANT(row_norms)(tp_dtype type, int64_t cols, int64_t stride, int64_t begin, int64_t end,
                                const void *in, double *sums, double *largest) {
    bool finite = true;
    for (int64_t i = begin; i < end; i++) {
        const void *row = element(type, in, i * stride);
        if (type == TP_F64)
            finite &= row_norm(TP_F64, cols, row, sums + i, largest + i);
        else
            finite &= row_norm(TP_F32, cols, row, sums + i, largest + i);
    }
    return finite ? TP_OK : TP_ERR_NONFINITE;
}

tp_status TP_VARIANT(row_peaks)(int64_t cols, int64_t stride, int64_t begin, int64_t end, const double *in, double *peaks) {
    for (int64_t i = begin; i < end; i++) {
        const double *row = in + i * stride;
        double sum, largest;
        row_norm(TP_F64, cols, row, &sum, &largest);
        int64_t j = 0;
        while (j < cols && fabs(row[j]) != largest) j++;
        peaks[i] = j < cols ? row[j] : 0;
    }
    return TP_OK;
}

INLINE void copy_typed(const tp_copying *s, tp_dtype from, tp_dtype to, int64_t begin, int64_t end,
                       const int64_t *order, const double *factors, const void *in, void *out) {
    enum { BLOCK = 16 };
    const double factor = s->factor;
    for (int64_t i = begin; i < end; i += BLOCK) {
        const int64_t n = min64(BLOCK, end - i);
        const void *rows[BLOCK];
        double own[BLOCK];
        for (int64_t k = 0; k < n; k++) {
            const int64_t row = order ? order[i + k] : i + k;
            rows[k] = element(from, in, row * s->in_stride);
            own[k] = factors ? factors[row] : 1;
        }
        if (!s->transposed) {
            for (int64_t k = 0; k < n; k++) {
                void *target = (void *)element(to, out, (i + k) * s->out_stride);
                for (int64_t c = 0; c < s->cols; c++) put(to, target, c, at(from, rows[k], c) * own[k] * factor);
            }
        } else {
            for (int64_t c = 0; c < s->cols; c++)
                for (int64_t k = 0; k < n; k++)
                    put(to, out, c * s->out_stride + i + k, at(from, rows[k], c) * own[k] * factor);
        }
    }
}

tp_status TP_VARIANT(copy_rows)(const tp_copying *s, int64_t begin, int64_t end, const int64_t *order,
                                const double *factors, const void *in, void *out) {
    if (s->in_type == TP_F64 && s->out_type == TP_F64)
        copy_typed(s, TP_F64, TP_F64, begin, end, order, factors, in, out);
    else if (s->in_type == TP_F64)
        copy_typed(s, TP_F64, TP_F32, begin, end, order, factors, in, out);
    else if (s->out_type == TP_F64)
        copy_typed(s, TP_F32, TP_F64, begin, end, order, factors, in, out);
    else
        copy_typed(s, TP_F32, TP_F32, begin, end, order, factors, in, out);
    return TP_OK;
}

/* ---- products ---- */

/* tile [MR, NR] = A^T B of packed panels A [k, MR] and B [k, NR]. */
INLINE void tile_product(int64_t k, const double *restrict a, const double *restrict b, double *restrict tile) {
    vd sum[MR][NV];
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
        for (int v = 0; v < NV; v++) sum[r][v] = v_zero();
    for (int64_t p = 0; p < k; p++, a += MR, b += NR) {
        vd row[NV];
#pragma GCC unroll 4
        for (int v = 0; v < NV; v++) row[v] = v_load(b + v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < MR; r++) {
            const vd x = v_set(a[r]);
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++) sum[r][v] = v_fma(x, row[v], sum[r][v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
        for (int v = 0; v < NV; v++) v_store(tile + r * NR + v * LANES, sum[r][v]);
}

/* Packs `count` lines of k elements into panels of `width` lines, [k, width] each, the last one filled up with zeros. Element p of
   line i is in[i * line + p * step]. */
INLINE void pack_typed(tp_dtype type, int64_t width, int64_t count, int64_t k, const void *in, int64_t line,
                       int64_t step, double *out) {
    for (int64_t i = 0; i < count; i += width, out += k * width) {
        const int64_t n = min64(width, count - i);
        if (n < width) memset(out, 0, (size_t)(k * width) * sizeof *out);
        const void *from = element(type, in, i * line);
        if (line == 1 && n == width) {
            for (int64_t p = 0; p < k; p++)
                for (int64_t j = 0; j < width; j++) out[p * width + j] = at(type, from, p * step + j);
        } else {
            /* Some elements of each line at a time, so that what is written stays in the first cache. */
            for (int64_t p0 = 0; p0 < k; p0 += 32)
                for (int64_t j = 0; j < n; j++)
                    for (int64_t p = p0; p < min64(p0 + 32, k); p++) out[p * width + j] = at(type, from, j * line + p * step);
        }
    }
}

INLINE void pack(tp_dtype type, int64_t width, int64_t count, int64_t k, const void *in, int64_t line, int64_t step,
                 double *out) {
    if (type == TP_F64)
        pack_typed(TP_F64, width, count, k, in, line, step, out);
    else
        pack_typed(TP_F32, width, count, k, in, line, step, out);
}

/* C = alpha tile + beta C. No fused operations, so that a tile's position does not matter. */
INLINE void store_tile(int64_t rows, int64_t cols, double alpha, double beta, const double *tile, int64_t stride,
                       double *c) {
    for (int64_t r = 0; r < rows; r++, c += stride, tile += NR) {
        if (beta == 0)
            for (int64_t j = 0; j < cols; j++) c[j] = alpha * tile[j];
        else if (beta == 1)
            for (int64_t j = 0; j < cols; j++) c[j] += alpha * tile[j];
        else
            for (int64_t j = 0; j < cols; j++) c[j] = beta * c[j] + alpha * tile[j];
    }
}

tp_status TP_VARIANT(multiply)(const tp_multiplication *s, int64_t begin, int64_t end, const void *a, const void *b,
                               double *c, double *scratch) {
    double *packed_a = scratch, *packed_b = scratch + TP_BLOCK_ROWS * TP_BLOCK_K;
    double tile[TP_TILE_ROWS * TP_TILE_COLS] __attribute__((aligned(64)));
    const int64_t a_line = s->a_transposed ? 1 : s->a_stride, a_step = s->a_transposed ? s->a_stride : 1;
    const int64_t b_line = s->b_transposed ? s->b_stride : 1, b_step = s->b_transposed ? 1 : s->b_stride;
    if (s->k == 0) {
        for (int64_t i = begin; i < end; i++)
            for (int64_t j = 0; j < s->n; j++) c[i * s->c_stride + j] = s->beta == 0 ? 0 : s->beta * c[i * s->c_stride + j];
        return TP_OK;
    }
    /* A lower triangle needs no column beyond the last row. */
    const int64_t columns = s->lower ? min64(s->n, end) : s->n;
    for (int64_t j0 = 0; j0 < columns; j0 += TP_BLOCK_COLS) {
        const int64_t width = min64(TP_BLOCK_COLS, columns - j0);
        for (int64_t p0 = 0; p0 < s->k; p0 += TP_BLOCK_K) {
            const int64_t k = min64(TP_BLOCK_K, s->k - p0);
            const double beta = p0 == 0 ? s->beta : 1;
            pack(s->b_type, NR, width, k, element(s->b_type, b, j0 * b_line + p0 * b_step), b_line, b_step, packed_b);
            for (int64_t i0 = begin; i0 < end; i0 += TP_BLOCK_ROWS) {
                const int64_t height = min64(TP_BLOCK_ROWS, end - i0);
                if (s->lower && j0 >= i0 + height) continue;
                pack(s->a_type, MR, height, k, element(s->a_type, a, i0 * a_line + p0 * a_step), a_line, a_step,
                     packed_a);
                for (int64_t j = 0; j < width; j += NR) {
                    for (int64_t i = 0; i < height; i += MR) {
                        if (s->lower && j0 + j >= i0 + i + MR) continue;
                        tile_product(k, packed_a + i * k, packed_b + j * k, tile);
                        double *to = c + (i0 + i) * s->c_stride + j0 + j;
                        if (height - i >= MR && width - j >= NR)
                            store_tile(MR, NR, s->alpha, beta, tile, s->c_stride, to);
                        else
                            store_tile(min64(MR, height - i), min64(NR, width - j), s->alpha, beta, tile, s->c_stride, to);
                    }
                }
            }
        }
    }
    return TP_OK;
}

/* ---- triangular ---- */

tp_status TP_VARIANT(cholesky)(int64_t n, int64_t stride, double *g) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = larger(largest, g[i * stride + i]);
    const double limit = (double)n * U * largest;
    for (int64_t i = 0; i < n; i++) {
        double *row = g + i * stride;
        for (int64_t j = 0; j < i; j++) row[j] = (row[j] - dot(j, row, g + j * stride)) / g[j * stride + j];
        const double pivot = row[i] - dot(i, row, row);
        if (!(pivot > limit)) return TP_ERR_INDEFINITE;
        row[i] = sqrt(pivot);
    }
    return TP_OK;
}

tp_status TP_VARIANT(triangular_solve)(int64_t n, int64_t l_stride, const double *l, int32_t transposed,
                                       int64_t x_stride, int64_t begin, int64_t end, double *x) {
    for (int64_t i = begin; i < end; i++) {
        double *row = x + i * x_stride;
        if (transposed) { /* X L = B: from the last column */
            for (int64_t j = n - 1; j >= 0; j--) {
                row[j] /= l[j * l_stride + j];
                axpy(j, -row[j], l + j * l_stride, row);
            }
        } else {
            for (int64_t j = 0; j < n; j++)
                row[j] = (row[j] - dot(j, row, l + j * l_stride)) / l[j * l_stride + j];
        }
    }
    return TP_OK;
}

/* ---- Householder reflections ---- */

/*
 * The reflection that maps x to beta times its element `pivot`: x becomes v with v[pivot] = 1. Returns tau. A row whose sum of
 * squares leaves the range where f64 is accurate is scaled by a power of two first.
 */
static double reflection(int64_t n, int64_t pivot, double *x, double *beta) {
    double alpha = x[pivot];
    x[pivot] = 0;
    double rest = dot(n, x, x), tau = 0;
    int64_t e = 0;
    if (!(alpha * alpha + rest >= 0x1p-900 && alpha * alpha + rest <= 0x1p1000)) {
        double largest = fabs(alpha);
        for (int64_t i = 0; i < n; i++) largest = larger(largest, fabs(x[i]));
        e = binary_exponent(largest);
        const double down = power_of_two(-e);
        alpha *= down;
        scale(n, down, x);
        rest = dot(n, x, x);
    }
    *beta = alpha;
    if (rest > 0) {
        *beta = -copysign(sqrt(alpha * alpha + rest), alpha);
        tau = (*beta - alpha) / *beta;
        scale(n, 1 / (alpha - *beta), x);
    }
    *beta *= power_of_two(e);
    x[pivot] = 1;
    return tau;
}

/* Column i of T, from the earlier ones and the products v_j . v_i in t[j, i]. */
static void factor_column(int64_t count, int64_t i, double tau, double *t) {
    for (int64_t j = 0; j < i; j++) {
        double sum = 0;
        for (int64_t p = j; p < i; p++) sum += t[j * count + p] * t[p * count + i];
        t[j * count + i] = -tau * sum;
    }
    t[i * count + i] = tau;
    for (int64_t j = i + 1; j < count; j++) t[j * count + i] = 0;
}

tp_status TP_VARIANT(reflect_panel)(int64_t cols, int64_t a_stride, int64_t first, int64_t count, double *a,
                                    int64_t v_stride, double *v, double *t) {
    for (int64_t i = 0; i < count; i++) {
        const int64_t c = first + i, n = cols - c;
        double *row = a + (first + i) * a_stride, *x = v + i * v_stride;
        memset(x, 0, (size_t)c * sizeof *x);
        memcpy(x + c, row + c, (size_t)n * sizeof *x);
        double beta;
        const double tau = reflection(n, 0, x + c, &beta);
        memset(row + c, 0, (size_t)n * sizeof *row);
        row[c] = beta;
        for (int64_t r = i + 1; r < count; r++) {
            double *other = a + (first + r) * a_stride + c;
            axpy(n, -tau * dot(n, other, x + c), x + c, other);
        }
        for (int64_t j = 0; j < i; j++) t[j * count + i] = dot(n, v + j * v_stride + c, x + c);
        factor_column(count, i, tau, t);
    }
    return TP_OK;
}

tp_status TP_VARIANT(reflect_factor)(int64_t count, int64_t n, int64_t v_stride, const double *v, const double *tau,
                                     double *t) {
    for (int64_t i = 0; i < count; i++) {
        for (int64_t j = 0; j < i; j++) t[j * count + i] = dot(n, v + j * v_stride, v + i * v_stride);
        factor_column(count, i, tau[i], t);
    }
    return TP_OK;
}

/* ---- symmetric eigenproblem ---- */

/* y = A x for the symmetric A [n, n] of which the lower triangle is given. Four rows at a time, so that y is touched rarely. */
static void symmetric_times_vector(int64_t n, int64_t stride, const double *a, const double *x, double *y) {
    enum { ROWS = 4 };
    int64_t i = 0;
    for (int64_t j = 0; j < n; j++) y[j] = 0;
    for (; i + ROWS <= n; i += ROWS) {
        const double *r0 = a + i * stride, *r1 = r0 + stride, *r2 = r1 + stride, *r3 = r2 + stride;
        const vd x0 = v_set(x[i]), x1 = v_set(x[i + 1]), x2 = v_set(x[i + 2]), x3 = v_set(x[i + 3]);
        vd s0 = v_zero(), s1 = v_zero(), s2 = v_zero(), s3 = v_zero();
        int64_t j = 0;
        for (; j + LANES <= i; j += LANES) {
            const vd a0 = v_load(r0 + j), a1 = v_load(r1 + j), a2 = v_load(r2 + j), a3 = v_load(r3 + j);
            const vd xj = v_load(x + j);
            vd yj = v_fma(a0, x0, v_load(y + j)), more = v_mul(a1, x1);
            yj = v_fma(a2, x2, yj);
            more = v_fma(a3, x3, more);
            v_store(y + j, v_add(yj, more));
            s0 = v_fma(a0, xj, s0);
            s1 = v_fma(a1, xj, s1);
            s2 = v_fma(a2, xj, s2);
            s3 = v_fma(a3, xj, s3);
        }
        /* Up to the diagonal; row i + k has i + k - j elements left. */
        for (; j < i + ROWS - 1; j += LANES) {
            const int64_t left = i - j, width = min64(LANES, left + ROWS - 1);
            const vd xj = v_load_some(x + j, width);
            const vd a0 = v_load_some(r0 + j, left), a1 = v_load_some(r1 + j, left + 1);
            const vd a2 = v_load_some(r2 + j, left + 2), a3 = v_load_some(r3 + j, left + 3);
            const vd yj = v_fma(a2, x2, v_fma(a0, x0, v_load_some(y + j, width)));
            v_store_some(y + j, width, v_add(yj, v_fma(a3, x3, v_mul(a1, x1))));
            s0 = v_fma(a0, xj, s0);
            s1 = v_fma(a1, xj, s1);
            s2 = v_fma(a2, xj, s2);
            s3 = v_fma(a3, xj, s3);
        }
        const double sums[ROWS] = {v_sum(s0), v_sum(s1), v_sum(s2), v_sum(s3)};
        for (int64_t k = 0; k < ROWS; k++) y[i + k] += sums[k] + r0[k * stride + i + k] * x[i + k];
    }
    for (; i < n; i++) {
        const double *row = a + i * stride;
        y[i] += dot(i + 1, row, x);
        axpy(i, x[i], row, y);
    }
}

tp_status TP_VARIANT(tridiagonal_panel)(int64_t n, int64_t a_stride, int64_t last, int64_t count, double *a, double *d,
                                        double *e, int64_t q_stride, double *q, double *tau, double *vw, double *wv,
                                        double *scratch) {
    double *y = scratch;
    for (int64_t s = 0; s < count; s++) {
        const int64_t i = last - 1 - s;
        double *row = a + i * a_stride, *x = q + i * q_stride;
        /* The reflections of this panel have not reached A yet. */
        for (int64_t p = 0; p < s; p++) {
            const double *v = vw + p * n, *w = wv + p * n;
            axpy(i + 1, -v[i], w, row);
            axpy(i + 1, -w[i], v, row);
        }
        d[i] = row[i];
        memcpy(x, row, (size_t)i * sizeof *x);
        memset(x + i, 0, (size_t)(n - i) * sizeof *x);
        tau[i] = reflection(i, i - 1, x, &e[i - 1]);
        symmetric_times_vector(i, a_stride, a, x, y);
        for (int64_t p = 0; p < s; p++) {
            const double *v = vw + p * n, *w = wv + p * n;
            const double vx = dot(i, v, x), wx = dot(i, w, x);
            axpy(i, -vx, w, y);
            axpy(i, -wx, v, y);
        }
        scale(i, tau[i], y);
        axpy(i, -0.5 * tau[i] * dot(i, y, x), x, y);
        memcpy(vw + s * n, x, (size_t)i * sizeof *x);
        memcpy(wv + s * n, y, (size_t)i * sizeof *x);
        memcpy(vw + (count + s) * n, y, (size_t)i * sizeof *x);
        memcpy(wv + (count + s) * n, x, (size_t)i * sizeof *x);
    }
    return TP_OK;
}

static double length(double x, double y) {
    const double a = fabs(x), b = fabs(y), most = a > b ? a : b;
    if (most == 0 || (most > 0x1p-400 && most < 0x1p400)) return sqrt(x * x + y * y);
    const double p = x / most, r = y / most;
    return most * sqrt(p * p + r * r);
}

/* Divides a tridiagonal matrix by the power of two that brings its largest element to [1, 2), and returns that power: what
   compares with u, or squares, needs a norm of about 1. */
static double take_magnitude(int64_t n, double *d, double *e) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = larger(largest, larger(fabs(d[i]), i + 1 < n ? fabs(e[i]) : 0));
    const int64_t exponent = binary_exponent(largest);
    scale(n, power_of_two(-exponent), d);
    if (n > 1) scale(n - 1, power_of_two(-exponent), e);
    return power_of_two(exponent);
}

tp_status TP_VARIANT(tridiagonal_ql)(int64_t n, double *d, double *e, int64_t cols, int64_t z_stride, double *z) {
    const double magnitude = take_magnitude(n, d, e);
    double norm = 0;
    for (int64_t i = 0; i < n; i++)
        norm = larger(norm, larger(fabs(d[i]), i + 1 < n ? fabs(e[i]) : 0));
    const double small = U * norm;
    for (int64_t l = 0; l < n; l++) {
        for (int iteration = 0;; iteration++) {
            int64_t m = l;
            while (m + 1 < n && fabs(e[m]) > small) m++;
            if (m == l) break;
            if (iteration == 50) return TP_ERR_CONVERGENCE;
            double g = (d[l + 1] - d[l]) / (2 * e[l]);
            g = d[m] - d[l] + e[l] / (g + copysign(length(g, 1), g));
            double s = 1, c = 1, p = 0;
            int64_t i = m - 1;
            for (; i >= l; i--) {
                const double f = s * e[i], b = c * e[i], r = length(f, g);
                if (i + 1 < m) e[i + 1] = r;
                if (r == 0) {
                    d[i + 1] -= p;
                    break;
                }
                s = f / r;
                c = g / r;
                g = d[i + 1] - p;
                const double t = (d[i] - g) * s + 2 * c * b;
                p = s * t;
                d[i + 1] = g + p;
                g = c * t - b;
                rotate(cols, c, s, z + i * z_stride, z + (i + 1) * z_stride);
            }
            if (i >= l) continue;
            d[l] -= p;
            e[l] = g;
        }
    }
    for (int64_t i = 0; i + 1 < n; i++) {
        int64_t least = i;
        for (int64_t j = i + 1; j < n; j++) least = d[j] < d[least] ? j : least;
        if (least == i) continue;
        const double t = d[i];
        d[i] = d[least];
        d[least] = t;
        swap_rows(cols, z + i * z_stride, z + least * z_stride);
    }
    scale(n, magnitude, d);
    return TP_OK;
}

/* Positions of d in ascending order, from two ascending halves. */
static void merge_order(int64_t n, int64_t split, const double *d, int64_t *order) {
    int64_t i = 0, j = split;
    for (int64_t k = 0; k < n; k++) order[k] = j == n || (i < split && d[i] <= d[j]) ? i++ : j++;
}

enum { IN_FIRST, IN_BOTH, IN_SECOND };

tp_status TP_VARIANT(merge_deflate)(int64_t n, int64_t split, double rho, double *d, double *z, int64_t q_stride,
                                    double *q, double *kept_d, double *kept_z, int64_t *order, int64_t *slots,
                                    int64_t *scratch, int64_t *count, int64_t *first, int64_t *second) {
    int64_t *sorted = scratch, *kind = scratch + n, kept = 0, done = n, previous = -1;
    double largest = rho;
    for (int64_t i = 0; i < n; i++) {
        kind[i] = i < split ? IN_FIRST : IN_SECOND;
        largest = larger(largest, fabs(d[i]));
    }
    /* Poles and their squares are divided by what is left. */
    if (!(largest >= 0x1p-460 && largest <= 0x1p460)) return TP_ERR_MAGNITUDE;
    const double tolerance = 8 * U * largest;
    merge_order(n, split, d, sorted);
    for (int64_t k = 0; k < n; k++) {
        const int64_t i = sorted[k];
        if (rho * fabs(z[i]) <= tolerance) {
            order[--done] = i;
            continue;
        }
        if (previous >= 0) {
            const double r = length(z[previous], z[i]), c = z[i] / r, s = z[previous] / r;
            if (fabs((d[i] - d[previous]) * c * s) <= tolerance) {
                /* Rotated so that all of z is with i, and `previous` is an eigenpair of the whole. */
                rotate(n, c, s, q + previous * q_stride, q + i * q_stride);
                const double p = d[previous], o = d[i];
                d[previous] = p * c * c + o * s * s;
                d[i] = p * s * s + o * c * c;
                z[i] = r;
                z[previous] = 0;
                if (kind[i] != kind[previous]) kind[i] = kind[previous] = IN_BOTH;
                order[--done] = previous;
            } else {
                order[kept++] = previous;
            }
        }
        previous = i;
    }
    if (previous >= 0) order[kept++] = previous;
    int64_t base[3] = {0};
    for (int64_t i = 0; i < kept; i++) base[kind[order[i]]]++;
    *count = kept;
    *first = base[IN_FIRST];
    *second = base[IN_FIRST] + base[IN_BOTH];
    base[IN_FIRST] = 0;
    base[IN_BOTH] = *first;
    base[IN_SECOND] = *second;
    for (int64_t i = 0; i < n; i++) {
        kept_d[i] = d[order[i]];
        kept_z[i] = i < kept ? z[order[i]] : 0;
        slots[i] = i < kept ? base[kind[order[i]]]++ : i;
    }
    return TP_OK;
}

/* sum and sum of derivatives of z_j^2 / (d_j - origin - x), j in [from, to). */
static void poles(int64_t from, int64_t to, const double *d, const double *z, double origin, double x, double *sum,
                  double *slope) {
    const vd o = v_set(origin), vx = v_set(x);
    vd s0 = v_zero(), s1 = v_zero(), t0 = v_zero(), t1 = v_zero();
    int64_t j = from;
    for (; j + 2 * LANES <= to; j += 2 * LANES) {
        const vd z0 = v_load(z + j), z1 = v_load(z + j + LANES);
        const vd r0 = v_div(z0, v_sub(v_sub(v_load(d + j), o), vx));
        const vd r1 = v_div(z1, v_sub(v_sub(v_load(d + j + LANES), o), vx));
        s0 = v_fma(z0, r0, s0);
        s1 = v_fma(z1, r1, s1);
        t0 = v_fma(r0, r0, t0);
        t1 = v_fma(r1, r1, t1);
    }
    *sum = v_sum(v_add(s0, s1));
    *slope = v_sum(v_add(t0, t1));
    for (; j < to; j++) {
        const double r = z[j] / (d[j] - origin - x);
        *sum += z[j] * r;
        *slope += r * r;
    }
}

static tp_status secular_root(int64_t n, int64_t k, double rho, const double *d, const double *z, double *lambda,
                              double *delta) {
    const double inverse = 1 / rho;
    const bool last = k == n - 1;
    double sum = 0, slope = 0, more = 0, more_slope = 0, origin = d[k], low, high, x;
    if (last) {
        double squares = 0;
        for (int64_t j = 0; j < n; j++) squares += z[j] * z[j];
        low = 0;
        high = rho * squares * (1 + 4 * (double)n * U);
        x = n == 1 ? rho * squares : 0.5 * high;
    } else {
        /* The nearer pole is the origin, so that the distance to it is accurate. */
        const double gap = d[k + 1] - d[k];
        poles(0, k + 1, d, z, origin, 0.5 * gap, &sum, &slope);
        poles(k + 1, n, d, z, origin, 0.5 * gap, &more, &more_slope);
        low = 0;
        high = 0.5 * gap;
        x = high;
        if (inverse + sum + more < 0) {
            origin = d[k + 1];
            low = -high;
            high = 0;
            x = low;
        }
    }
    const int64_t left = last ? (n > 1 ? n - 2 : 0) : k, right = last ? n - 1 : k + 1;
    double width = high - low;
    int step = 0;
    for (; n > 1; step++) {
        if (step == 200) return TP_ERR_CONVERGENCE;
        if (step > 0 || last) { /* the first x is the middle, where both sums are known already */
            poles(0, left + 1, d, z, origin, x, &sum, &slope);
            poles(left + 1, n, d, z, origin, x, &more, &more_slope);
        }
        const double f = inverse + sum + more;
        if (fabs(f) <= U * (8 + 0.125 * (double)n) * (inverse + fabs(sum) + fabs(more))) break;
        if (f < 0)
            low = x;
        else
            high = x;
        if (high - low <= 2 * U * larger(fabs(low), fabs(high))) break;
        /* Both sums as a constant and one pole each, of equal value and slope at x; the root of that is a quadratic's. */
        const double p = d[left] - origin - x, r = d[right] - origin - x;
        double c = f - p * slope - r * more_slope;
        if (last && c < 0) c = -c;
        const double a = (p + r) * f - p * r * (slope + more_slope), b = p * r * f;
        const double root = sqrt(fabs(a * a - 4 * b * c));
        double eta;
        if (last)
            eta = a >= 0 ? (a + root) / (2 * c) : 2 * b / (a - root);
        else
            eta = a <= 0 ? (a - root) / (2 * c) : 2 * b / (a + root);
        double next = x + eta;
        if (f * eta >= 0) next = x - f / (slope + more_slope);
        /* Bisection where the model leads out of the bracket, or shrinks it too slowly. In magnitude if one end is zero: the
           root may be far smaller than the gap. */
        if (!(next > low && next < high) || (step % 2 && high - low > 0.5 * width && step > 6)) {
            if (low == 0)
                next = high * 0x1p-8;
            else if (high == 0)
                next = low * 0x1p-8;
            else
                next = 0.5 * (low + high);
        }
        if (step % 2) width = high - low;
        if (next == x) break;
        x = next;
    }
    for (int64_t j = 0; j < n; j++) delta[j] = d[j] - origin - x;
    *lambda = origin + x;
    return TP_OK;
}

tp_status TP_VARIANT(merge_roots)(int64_t count, double rho, const double *d, const double *z, int64_t begin,
                                  int64_t end, double *lambda, double *delta) {
    for (int64_t k = begin; k < end; k++) {
        const tp_status status = secular_root(count, k, rho, d, z, lambda + k, delta + k * count);
        if (status) return status;
    }
    return TP_OK;
}

tp_status TP_VARIANT(merge_weights)(int64_t count, const double *d, const double *z, const double *delta, int64_t begin,
                                    int64_t end, double *weights) {
    for (int64_t j = begin; j < end; j++) weights[j] = delta[j * count + j];
    for (int64_t i = 0; i < count; i++) {
        const double *row = delta + i * count;
        const int64_t stop = i < begin ? begin : i > end ? end : i;
        for (int64_t j = begin; j < stop; j++) weights[j] *= row[j] / (d[j] - d[i]);
        for (int64_t j = i >= begin && i < end ? i + 1 : stop; j < end; j++) weights[j] *= row[j] / (d[j] - d[i]);
    }
    for (int64_t j = begin; j < end; j++) weights[j] = copysign(sqrt(fabs(weights[j])), z[j]);
    return TP_OK;
}

tp_status TP_VARIANT(merge_vectors)(int64_t count, const double *weights, const double *delta, const int64_t *slots,
                                    int64_t begin, int64_t end, double *s) {
    for (int64_t i = begin; i < end; i++) {
        const double *from = delta + i * count;
        double *row = s + i * count, sum = 0;
        for (int64_t j = 0; j < count; j++) {
            const double x = weights[j] / from[j];
            row[slots[j]] = x;
            sum += x * x;
        }
        scale(count, 1 / sqrt(sum), row);
    }
    return TP_OK;
}

/* One part of divide and conquer, by one thread: arrays for merges of up to n. */
typedef struct parts {
    double *product, *delta, *s, *rows, *z, *kept_d, *kept_z, *lambda, *weights;
    int64_t *order, *slots, *sorted;
} parts;

/* Merges the eigenpairs of two halves; `coupling` is what was torn between them. */
static tp_status merge(int64_t n, int64_t split, double coupling, double *d, int64_t stride, double *q, const parts *p) {
    const double rho = 2 * fabs(coupling), half = sqrt(0.5);
    int64_t count = 0, first = 0, second = 0;
    /* The norm of the whole is about 1: far less couples nothing. */
    if (rho > 0x1p-400) {
        for (int64_t i = 0; i < n; i++)
            p->z[i] = i < split ? half * q[i * stride + split - 1] : copysign(half, coupling) * q[i * stride + split];
        const tp_status status = TP_VARIANT(merge_deflate)(n, split, rho, d, p->z, stride, q, p->kept_d, p->kept_z, p->order,
                                                           p->slots, p->sorted, &count, &first, &second);
        if (status) return status;
    } else {
        for (int64_t i = 0; i < n; i++) {
            p->order[i] = p->slots[i] = i;
            p->kept_d[i] = d[i];
        }
    }
    const tp_status status = TP_VARIANT(merge_roots)(count, rho, p->kept_d, p->kept_z, 0, count, p->lambda, p->delta);
    if (status) return status;
    TP_VARIANT(merge_weights)(count, p->kept_d, p->kept_z, p->delta, 0, count, p->weights);
    TP_VARIANT(merge_vectors)(count, p->weights, p->delta, p->slots, 0, count, p->s);
    for (int64_t i = 0; i < n; i++) memcpy(p->rows + p->slots[i] * n, q + p->order[i] * stride, (size_t)n * sizeof *q);
    /* Rows by slot, those that are zero in one half not multiplied there; delta is not needed any more. */
    tp_multiplication left = {.m = count, .n = split, .k = second, .a_stride = count, .b_stride = n, .c_stride = n,
                              .a_type = TP_F64, .b_type = TP_F64, .alpha = 1};
    TP_VARIANT(multiply)(&left, 0, count, p->s, p->rows, p->delta, p->product);
    left.n = n - split;
    left.k = count - first;
    TP_VARIANT(multiply)(&left, 0, count, p->s + first, p->rows + first * n + split, p->delta + split, p->product);
    /* The finished pairs are sorted by insertion, then among the roots. */
    for (int64_t i = count; i < n; i++) {
        int64_t k = i;
        for (; k > count && p->kept_d[p->sorted[k - 1]] > p->kept_d[i]; k--) p->sorted[k] = p->sorted[k - 1];
        p->sorted[k] = i;
    }
    for (int64_t i = 0, root = 0, done = count; i < n; i++) {
        const bool is_root = done == n || (root < count && p->lambda[root] <= p->kept_d[p->sorted[done]]);
        const int64_t from = is_root ? root++ : p->sorted[done++];
        d[i] = is_root ? p->lambda[from] : p->kept_d[from];
        memcpy(q + i * stride, (is_root ? p->delta : p->rows) + from * n, (size_t)n * sizeof *q);
    }
    return TP_OK;
}

static tp_status conquer(int64_t n, double *d, double *e, int64_t stride, double *q, const parts *p) {
    enum { LEAF = 32 };
    for (int64_t i = 0; i < n; i++) memset(q + i * stride, 0, (size_t)n * sizeof *q);
    if (n <= LEAF) {
        for (int64_t i = 0; i < n; i++) q[i * stride + i] = 1;
        return TP_VARIANT(tridiagonal_ql)(n, d, e, n, stride, q);
    }
    const int64_t split = n / 2;
    const double coupling = e[split - 1];
    d[split - 1] -= fabs(coupling);
    d[split] -= fabs(coupling);
    tp_status status = conquer(split, d, e, stride, q, p);
    if (!status) status = conquer(n - split, d + split, e + split, stride, q + split * stride + split, p);
    return status ? status : merge(n, split, coupling, d, stride, q, p);
}

tp_status TP_VARIANT(tridiagonal_conquer)(int64_t n, double *d, double *e, int64_t z_stride, double *z, double *scratch,
                                          int64_t product) {
    parts p = {.product = scratch, .delta = scratch + product};
    p.s = p.delta + n * n;
    p.rows = p.s + n * n;
    p.z = p.rows + n * n;
    p.kept_d = p.z + n;
    p.kept_z = p.kept_d + n;
    p.lambda = p.kept_z + n;
    p.weights = p.lambda + n;
    p.order = (int64_t *)(p.weights + n);
    p.slots = p.order + n;
    p.sorted = p.slots + n;
    const double magnitude = take_magnitude(n, d, e);
    const tp_status status = conquer(n, d, e, z_stride, z, &p);
    scale(n, magnitude, d);
    return status;
}

/* ---- one-sided Jacobi ---- */

/* Of the rows of the block that begins with row `first`; 0 for negligible ones. */
static void inverse_norms(const tp_jacobi *spec, int64_t first, int64_t g_stride, const double *g, double *inverse) {
    for (int64_t i = 0; i < min64(spec->block, spec->n - first); i++) {
        const double square = g[(first + i) * (g_stride + 1)];
        inverse[i] = square > spec->negligible ? 1 / sqrt(square) : 0;
    }
}

tp_status TP_VARIANT(gram_blocks)(const tp_jacobi *spec, int64_t g_stride, const double *g, int64_t begin, int64_t end,
                                  double *cosines) {
    const int64_t b = spec->block, blocks = (spec->n + b - 1) / b;
    for (int64_t i = begin; i < end; i++) {
        double p_inverse[TP_PANEL_ROWS], r_inverse[TP_PANEL_ROWS];
        inverse_norms(spec, i * b, g_stride, g, p_inverse);
        for (int64_t j = 0; j <= i; j++) {
            double most[TP_PANEL_ROWS] = {0};
            inverse_norms(spec, j * b, g_stride, g, r_inverse);
            for (int64_t p = i * b; p < min64(spec->n, (i + 1) * b); p++) {
                const double *row = g + p * g_stride + j * b, inverse = p_inverse[p - i * b];
                const int64_t count = min64(p - j * b, b);
                for (int64_t r = 0; r < count; r++) {
                    const double x = fabs(row[r]) * r_inverse[r] * inverse;
                    most[r] = x > most[r] ? x : most[r];
                }
            }
            for (int64_t r = 1; r < b; r++) most[0] = larger(most[0], most[r]);
            cosines[i * blocks + j] = most[0];
        }
    }
    return TP_OK;
}

enum { PAIR = 2 * TP_PANEL_ROWS, GRAM_ROWS = LANES == 8 ? 4 : 2, GRAM_COLS = 4, GRAM_CHUNK = 32 * LANES };

/* G[i .. i + rows) [j .. j + cols) += the products of these rows, over n elements. */
INLINE void gram_tile(int rows, int cols, int64_t n, double *const *x, double *const *y, double *g) {
    vd sums[4][4];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < cols; c++) sums[r][c] = v_zero();
    int64_t k = 0;
    for (; k + LANES <= n; k += LANES) {
        vd row[4];
#pragma GCC unroll 4
        for (int c = 0; c < cols; c++) row[c] = v_load(y[c] + k);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            const vd a = v_load(x[r] + k);
#pragma GCC unroll 4
            for (int c = 0; c < cols; c++) sums[r][c] = v_fma(a, row[c], sums[r][c]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
        for (int c = 0; c < cols; c++) {
            double sum = v_sum(sums[r][c]);
            for (int64_t i = k; i < n; i++) sum += x[r][i] * y[c][i];
            g[r * PAIR + c] += sum;
        }
    }
}

/* The Gram matrix of n rows, both triangles. */
static void gram_of_rows(int64_t n, int64_t cols, double *const *rows, double *g) {
    for (int64_t i = 0; i < n; i++) memset(g + i * PAIR, 0, (size_t)n * sizeof *g);
    double *x[PAIR];
    for (int64_t k = 0; k < cols; k += GRAM_CHUNK) {
        const int64_t width = min64(GRAM_CHUNK, cols - k);
        for (int64_t i = 0; i < n; i++) x[i] = rows[i] + k;
        int64_t i = 0;
        for (; i + GRAM_ROWS <= n; i += GRAM_ROWS) {
            int64_t j = 0;
            for (; j + GRAM_COLS <= n && j < i + GRAM_ROWS; j += GRAM_COLS)
                gram_tile(GRAM_ROWS, GRAM_COLS, width, x + i, x + j, g + i * PAIR + j);
            for (; j < i + GRAM_ROWS; j++) gram_tile(GRAM_ROWS, 1, width, x + i, x + j, g + i * PAIR + j);
        }
        for (; i < n; i++)
            for (int64_t j = 0; j <= i; j++) gram_tile(1, 1, width, x + i, x + j, g + i * PAIR + j);
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++) g[j * PAIR + i] = g[i * PAIR + j];
}

/* The rotation of rows p and q that makes them orthogonal, the larger one first; false if they are already. */
INLINE bool rotation(double gp, double gq, double gpq, double tolerance, double negligible, double *c, double *s,
                     double *change) {
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

/* Rotates K so that K G K^T has no pair above the tolerance, as far as `sweeps` go. Returns whether anything was rotated. */
static bool diagonalize(int64_t n, double tolerance, double negligible, int sweeps, double *g, double *k) {
    for (int64_t i = 0; i < n; i++) {
        memset(k + i * PAIR, 0, (size_t)n * sizeof *k);
        k[i * PAIR + i] = 1;
    }
    bool any = false;
    for (int sweep = 0; sweep < sweeps; sweep++) {
        bool more = false;
        for (int64_t p = 0; p < n; p++) {
            for (int64_t r = p + 1; r < n; r++) {
                double c, s, change, *gp = g + p * PAIR, *gr = g + r * PAIR;
                if (!rotation(gp[p], gr[r], gp[r], tolerance, negligible, &c, &s, &change)) continue;
                const double new_p = gp[p] - change, new_r = gr[r] + change;
                more = true;
                rotate(n, c, s, gp, gr);
                for (int64_t i = 0; i < n; i++) {
                    g[i * PAIR + p] = gp[i];
                    g[i * PAIR + r] = gr[i];
                }
                gp[p] = new_p;
                gr[r] = new_r;
                gp[r] = gr[p] = 0;
                rotate(n, c, s, k + p * PAIR, k + r * PAIR);
            }
        }
        if (!more) break;
        any = true;
    }
    return any;
}

/* rows = K rows, a strip of columns at a time. `packed_k` holds panels of MR rows of K. */
static void rotate_rows(int64_t n, int64_t cols, double *const *rows, const double *packed_k, double *strip) {
    double tile[TP_TILE_ROWS * TP_TILE_COLS] __attribute__((aligned(64)));
    for (int64_t j = 0; j < cols; j += NR) {
        const int64_t width = min64(NR, cols - j);
        for (int64_t i = 0; i < n; i++) {
            if (width == NR) {
                for (int v = 0; v < NV; v++) v_store(strip + i * NR + v * LANES, v_load(rows[i] + j + v * LANES));
            } else {
                memset(strip + i * NR, 0, NR * sizeof *strip);
                memcpy(strip + i * NR, rows[i] + j, (size_t)width * sizeof *strip);
            }
        }
        for (int64_t i = 0; i < n; i += MR) {
            tile_product(n, packed_k + i * n, strip, tile);
            for (int64_t r = 0; r < min64(MR, n - i); r++) {
                if (width == NR)
                    for (int v = 0; v < NV; v++) v_store(rows[i + r] + j + v * LANES, v_load(tile + r * NR + v * LANES));
                else
                    memcpy(rows[i + r] + j, tile + r * NR, (size_t)width * sizeof *tile);
            }
        }
    }
}

/* Of the largest element, as binary_exponent. */
static int64_t exponent_of_rows(int64_t n, int64_t cols, double *const *rows) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < cols; j++) largest = larger(largest, fabs(rows[i][j]));
    return binary_exponent(largest);
}

static void scale_rows(int64_t n, int64_t cols, double factor, double *const *rows) {
    for (int64_t i = 0; i < n; i++) scale(cols, factor, rows[i]);
}

tp_status TP_VARIANT(jacobi_pairs)(const tp_jacobi *spec, const int32_t *pairs, int64_t begin, int64_t end, double *w,
                                   double *z, double *scratch, int64_t *rotated) {
    enum { SWEEPS = 3 };
    double *g = scratch, *k = g + PAIR * PAIR, *packed = k + PAIR * PAIR, *strip = packed + PAIR * PAIR;
    *rotated = 0;
    for (int64_t at = begin; at < end; at++) {
        double *w_rows[PAIR], *z_rows[PAIR];
        int64_t n = 0;
        for (int side = 0; side < 2; side++) {
            const int64_t block = pairs[2 * at + side];
            if (side && block == pairs[2 * at]) break;
            for (int64_t i = block * spec->block; i < min64(spec->n, (block + 1) * spec->block); i++, n++) {
                w_rows[n] = w + i * spec->w_stride;
                z_rows[n] = spec->z_cols ? z + i * spec->z_stride : NULL;
            }
        }
        gram_of_rows(n, spec->w_cols, w_rows, g);
        double most = 0, negligible = spec->negligible;
        for (int64_t i = 0; i < n; i++) most = larger(most, g[i * (PAIR + 1)]);
        int64_t e = 0;
        if (!(most >= 0x1p-200 && most <= 0x1p800)) {
            /* Squares leave the range where f64 is accurate: the same with rows of norm about 1. */
            e = exponent_of_rows(n, spec->w_cols, w_rows);
            scale_rows(n, spec->w_cols, power_of_two(-e), w_rows);
            gram_of_rows(n, spec->w_cols, w_rows, g);
            negligible = negligible * power_of_two(-e) * power_of_two(-e);
        }
        const bool any = diagonalize(n, spec->tolerance, larger(negligible, 0x1p-960), SWEEPS, g, k);
        if (any) {
            ++*rotated;
            pack(TP_F64, MR, n, n, k, PAIR, 1, packed);
            rotate_rows(n, spec->w_cols, w_rows, packed, strip);
            rotate_rows(n, spec->z_cols, z_rows, packed, strip);
        }
        if (e) scale_rows(n, spec->w_cols, power_of_two(e), w_rows);
    }
    return TP_OK;
}

/* ---- many small decompositions ---- */

enum { SIDE = TP_PANEL_ROWS };

/* Rows of x [n, cols] become orthogonal and descend in norm; j [n, n] is rotated along. */
static bool small_jacobi(int64_t n, int64_t cols, double tolerance, int sweeps, double *x, double *j, double *norms) {
    const double negligible = 0x1p-930;
    for (int sweep = 0;; sweep++) {
        bool more = false;
        for (int64_t p = 0; p < n; p++) norms[p] = dot(cols, x + p * SIDE, x + p * SIDE);
        for (int64_t p = 0; p < n; p++) {
            for (int64_t r = p + 1; r < n; r++) {
                double c, s, change, *xp = x + p * SIDE, *xr = x + r * SIDE;
                if (norms[p] <= negligible || norms[r] <= negligible) continue;
                const double product = dot(cols, xp, xr);
                if (!rotation(norms[p], norms[r], product, tolerance, negligible, &c, &s, &change)) continue;
                if (sweep == sweeps) return false;
                more = true;
                rotate(cols, c, s, xp, xr);
                rotate(n, c, s, j + p * SIDE, j + r * SIDE);
                norms[p] -= change;
                norms[r] += change;
                /* The difference of a large and a small change may be all wrong. */
                if (!(norms[r] > 0x1p-20 * norms[p])) norms[r] = dot(cols, xr, xr);
            }
        }
        if (!more) break;
    }
    for (int64_t p = 0; p < n; p++) {
        int64_t largest = p;
        for (int64_t r = p + 1; r < n; r++) largest = norms[r] > norms[largest] ? r : largest;
        const double t = norms[p];
        norms[p] = norms[largest];
        norms[largest] = t;
        if (largest == p) continue;
        swap_rows(cols, x + p * SIDE, x + largest * SIDE);
        swap_rows(n, j + p * SIDE, j + largest * SIDE);
    }
    for (int64_t p = 0; p < n; p++) {
        if (norms[p] <= negligible) {
            norms[p] = 0;
        } else {
            norms[p] = sqrt(norms[p]);
            scale(cols, 1 / norms[p], x + p * SIDE);
        }
    }
    return true;
}

/* Rows from `known` on become unit vectors orthogonal to all before. */
static void complete(int64_t known, int64_t n, int64_t cols, double *x) {
    for (int64_t p = known; p < n; p++) {
        double *row = x + p * SIDE, most = -1;
        int64_t best = 0;
        for (int64_t c = 0; c < cols; c++) {
            double rest = 1;
            for (int64_t r = 0; r < p; r++) rest -= x[r * SIDE + c] * x[r * SIDE + c];
            if (rest > most) {
                most = rest;
                best = c;
            }
        }
        memset(row, 0, (size_t)cols * sizeof *row);
        row[best] = 1;
        for (int pass = 0; pass < 2; pass++)
            for (int64_t r = 0; r < p; r++) axpy(cols, -dot(cols, x + r * SIDE, row), x + r * SIDE, row);
        scale(cols, 1 / sqrt(dot(cols, row, row)), row);
    }
}

tp_status TP_VARIANT(svd_small)(const tp_small *spec, int64_t begin, int64_t end, const void *in, void *u, void *s,
                                void *vt) {
    const int64_t rows = spec->rows, cols = spec->cols, n = min64(rows, cols), m = rows + cols - n;
    const bool tall = rows >= cols;
    const tp_dtype type = spec->type;
    double x[SIDE * SIDE], j[SIDE * SIDE], norms[SIDE];
    for (int64_t item = begin; item < end; item++) {
        const void *a = element(type, in, item * spec->in_step);
        double largest = 0, odd = 0;
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t c = 0; c < cols; c++) {
                const double v = at(type, a, r * spec->in_stride + c);
                x[tall ? c * SIDE + r : r * SIDE + c] = v;
                largest = larger(largest, fabs(v));
                odd += v - v;
            }
        }
        if (!(odd == 0)) return TP_ERR_NONFINITE;
        const int64_t e = binary_exponent(largest);
        const double down = power_of_two(-e), up = power_of_two(e);
        for (int64_t r = 0; r < n; r++) {
            for (int64_t c = 0; c < m; c++) x[r * SIDE + c] *= down;
            for (int64_t c = 0; c < n; c++) j[r * SIDE + c] = r == c;
        }
        const double tolerance = type == TP_F32 ? 1e-9 : 4 * U * sqrt((double)m);
        if (!small_jacobi(n, m, tolerance, spec->sweeps, x, j, norms)) return TP_ERR_CONVERGENCE;
        int64_t rank = 0;
        while (rank < n && norms[rank] > 0) rank++;
        complete(rank, n, m, x);
        double *left = tall ? x : j, *right = tall ? j : x;
        for (int64_t r = 0; r < n; r++) {
            int64_t peak = 0;
            for (int64_t c = 1; c < rows; c++) peak = fabs(left[r * SIDE + c]) > fabs(left[r * SIDE + peak]) ? c : peak;
            const double sign = left[r * SIDE + peak] < 0 ? -1 : 1;
            for (int64_t c = 0; c < rows; c++) put(type, u, (item * rows + c) * n + r, sign * left[r * SIDE + c]);
            for (int64_t c = 0; c < cols; c++) put(type, vt, (item * n + r) * cols + c, sign * right[r * SIDE + c]);
            put(type, s, item * n + r, norms[r] * up);
        }
    }
    return TP_OK;
}
