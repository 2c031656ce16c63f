/* The kernels in vectors, for files that define the lanes. */
#include <float.h>
#include <string.h>

#include "transform/scalar.h"

#define UNROLL _Pragma("GCC unroll 16")

/* `count` blocks of n elements each, one after the other; n is at most vectors * LANES. */
INLINE void blocks(const int vectors, const int count, int n, const float *table, const float *in, float *out) {
    vf sums[REGISTERS / 2];
    UNROLL for (int x = 0; x < count * vectors; x++) sums[x] = v_set(0);
    for (int a = 0; a < n; a++) {
        vf t[TP_DCT_MOST / LANES];
        UNROLL for (int v = 0; v < vectors; v++) t[v] = v_load(table + a * TP_DCT_STRIDE + v * LANES);
        UNROLL for (int c = 0; c < count; c++) {
            const vf x = v_set(in[c * n + a]);
            UNROLL for (int v = 0; v < vectors; v++) sums[c * vectors + v] = v_fma(t[v], x, sums[c * vectors + v]);
        }
    }
    const vm last = v_first(n - (vectors - 1) * LANES);
    UNROLL for (int c = 0; c < count; c++) {
        UNROLL for (int v = 0; v < vectors - 1; v++) v_store(out + c * n + v * LANES, sums[c * vectors + v]);
        v_store_some(out + c * n + (vectors - 1) * LANES, last, sums[c * vectors + vectors - 1]);
    }
}

INLINE void row_of(const int vectors, int n, const float *table, int64_t count, const float *in, float *out) {
    const int many = REGISTERS / 2 / vectors;
    for (; count >= many; count -= many, in += many * n, out += many * n) blocks(vectors, many, n, table, in, out);
    for (; count > 0; count--, in += n, out += n) blocks(vectors, 1, n, table, in, out);
}

static void row(int n, const float *table, int64_t count, const float *in, float *out) {
    switch ((n + LANES - 1) / LANES) {
    case 1: row_of(1, n, table, count, in, out); break;
    case 2: row_of(2, n, table, count, in, out); break;
    case 3: row_of(3, n, table, count, in, out); break;
    case 4: row_of(4, n, table, count, in, out); break;
#if TP_DCT_VECTORS > 4
    case 5: row_of(5, n, table, count, in, out); break;
    case 6: row_of(6, n, table, count, in, out); break;
    case 7: row_of(7, n, table, count, in, out); break;
    case 8: row_of(8, n, table, count, in, out); break;
#endif
    default: break;
    }
}

/* Rows [b, b + count) of what n rows of a piece become, LANES * vectors columns of it. */
INLINE void sums_down(const int count, const int vectors, const bool some, vm lanes, int n, const float *table, const float *piece, float *out,
                      int64_t stride) {
    vf sums[8];
    UNROLL for (int x = 0; x < count * vectors; x++) sums[x] = v_set(0);
    for (int a = 0; a < n; a++) {
        vf x[2];
        UNROLL for (int v = 0; v < vectors; v++) x[v] = v_load(piece + a * TP_DCT_MOST + v * LANES);
        UNROLL for (int c = 0; c < count; c++) {
            const vf t = v_set(table[c * TP_DCT_STRIDE + a]);
            UNROLL for (int v = 0; v < vectors; v++) sums[c * vectors + v] = v_fma(t, x[v], sums[c * vectors + v]);
        }
    }
    UNROLL for (int c = 0; c < count; c++)
        UNROLL for (int v = 0; v < vectors; v++) {
            if (some) v_store_some(out + c * stride, lanes, sums[c * vectors + v]);
            else v_store(out + c * stride + v * LANES, sums[c * vectors + v]);
        }
}

INLINE void strip_down(const int vectors, const bool some, vm lanes, int n, const float *table, const float *piece, float *out, int64_t stride) {
    int b = 0;
    for (; n - b >= 4; b += 4) sums_down(4, vectors, some, lanes, n, table + b * TP_DCT_STRIDE, piece, out + b * stride, stride);
    for (; b < n; b++) sums_down(1, vectors, some, lanes, n, table + b * TP_DCT_STRIDE, piece, out + b * stride, stride);
}

static void down(int n, const float *table, int64_t wide, const float *piece, float *out, int64_t stride) {
    int64_t j = 0;
    for (; wide - j >= 2 * LANES; j += 2 * LANES) strip_down(2, false, v_first(0), n, table, piece + j, out + j, stride);
    for (; wide - j >= LANES; j += LANES) strip_down(1, false, v_first(0), n, table, piece + j, out + j, stride);
    if (j < wide) strip_down(1, true, v_first(wide - j), n, table, piece + j, out + j, stride);
}

/* So many columns from a block's first one on; those that are no whole block are the last of the matrix. */
static void dct_row(const tp_dct *s, const tp_dct_plan *plan, int64_t cols, const float *in, float *out) {
    const int n = s->block, right = (int)(cols % n);
    row(n, plan->across[0], cols / n, in, out);
    if (right) row(right, plan->across[1], 1, in + cols - right, out + cols - right);
}

tp_status TP_VARIANT(dct_blocks)(const tp_dct *s, int64_t begin, int64_t end, const float *in, float *out, void *scratch) {
    const tp_dct_plan *plan = tp_dct_prepare(s, scratch);
    const int n = s->block;
    for (int64_t i = begin; s->dimensions == 1 && i < end; i++) dct_row(s, plan, s->cols, in + i * s->in_stride, out + i * s->out_stride);
    if (s->dimensions == 1) return TP_OK;
    /* Rows at a length that memory is read well in, and that the cache then still has. */
    enum { WIDE = 1024 };
    float *const piece = ((tp_dct_plan *)scratch)->piece;
    for (int64_t i = begin; i < end; i += n) {
        const int high = s->rows - i < n ? (int)(s->rows - i) : n;
        for (int64_t j = 0; j < s->cols;) {
            const int64_t left = s->cols - j, wide = left <= WIDE ? left : WIDE - WIDE % n;
            float *const y = out + i * s->out_stride + j;
            for (int r = 0; r < high; r++) dct_row(s, plan, wide, in + (i + r) * s->in_stride + j, y + r * s->out_stride);
            for (int64_t c = 0; c < wide; c += TP_DCT_MOST) {
                const int64_t some = wide - c < TP_DCT_MOST ? wide - c : TP_DCT_MOST;
                for (int r = 0; r < high; r++) memcpy(piece + r * TP_DCT_MOST, y + r * s->out_stride + c, (size_t)some * 4);
                down(high, plan->down[high < n], some, piece, y + c, s->out_stride);
            }
            j += wide;
        }
    }
    return TP_OK;
}

/* A step of lifting: x + factor (a + b) of floats, or if shift is not 0, x + ((a + b + bias) >> shift), or x less that. */
typedef struct lifting {
    float factor;
    int32_t bias, shift;
    bool minus;
} lifting;

/* Those of a wavelet in the order in which they are made; in pairs of one for high coefficients and one for low ones. Returns the pairs. */
static int steps_of(const tp_wavelet *s, lifting *steps) {
    const int pairs = s->kind == TP_CDF53 ? 1 : 2;
    for (int k = 0; k < 2 * pairs; k++) {
        if (pairs == 1) steps[k] = (lifting){0, k ? 2 : 0, k ? 2 : 1, (k == 0) != s->inverse};
        else steps[k] = (lifting){s->inverse ? -tp_cdf97_steps[k] : tp_cdf97_steps[k], 0, 0, false};
    }
    return pairs;
}

INLINE vi lift_integers(const lifting *l, vi x, vi a, vi b) {
    const vi change = vi_shift(vi_add(vi_add(a, b), vi_set(l->bias)), l->shift);
    return l->minus ? vi_sub(x, change) : vi_add(x, change);
}

/* n elements: out may be x, and neither a nor b. */
static void lift(const lifting *l, void *out, const void *x, const void *a, const void *b, int64_t n) {
    const int64_t whole = n - n % LANES;
    const vm last = v_first(n - whole);
    if (l->shift) {
        const int32_t *const p = x, *const q = a, *const r = b;
        int32_t *const o = out;
        for (int64_t i = 0; i < whole; i += LANES) vi_store(o + i, lift_integers(l, vi_load(p + i), vi_load(q + i), vi_load(r + i)));
        if (whole == n) return;
        vi_store_some(o + whole, last, lift_integers(l, vi_load_some(p + whole, last), vi_load_some(q + whole, last), vi_load_some(r + whole, last)));
        return;
    }
    const float *const p = x, *const q = a, *const r = b;
    float *const o = out;
    const vf factor = v_set(l->factor);
    for (int64_t i = 0; i < whole; i += LANES) v_store(o + i, v_fma(factor, v_add(v_load(q + i), v_load(r + i)), v_load(p + i)));
    if (whole == n) return;
    v_store_some(o + whole, last,
                 v_fma(factor, v_add(v_load_some(q + whole, last), v_load_some(r + whole, last)), v_load_some(p + whole, last)));
}

static void scale(float *out, const float *in, float factor, int64_t n) {
    const int64_t whole = n - n % LANES;
    const vm last = v_first(n - whole);
    for (int64_t i = 0; i < whole; i += LANES) v_store(out + i, v_mul(v_load(in + i), v_set(factor)));
    if (whole < n) v_store_some(out + whole, last, v_mul(v_load_some(in + whole, last), v_set(factor)));
}

/* Sums and differences of a and b, which may be the outputs. */
static void haar(float *low, float *high, const float *a, const float *b, int64_t n) {
    const vf root = v_set(tp_haar_root);
    const int64_t whole = n - n % LANES;
    for (int64_t i = 0; i < whole; i += LANES) {
        const vf x = v_load(a + i), y = v_load(b + i);
        v_store(low + i, v_mul(v_add(x, y), root));
        v_store(high + i, v_mul(v_sub(x, y), root));
    }
    if (whole == n) return;
    const vm last = v_first(n - whole);
    const vf x = v_load_some(a + whole, last), y = v_load_some(b + whole, last);
    v_store_some(low + whole, last, v_mul(v_add(x, y), root));
    v_store_some(high + whole, last, v_mul(v_sub(x, y), root));
}

/* Words of n, apart into those at even places and those at odd ones. */
static void part(const float *in, int64_t n, float *even, float *odd) {
    int64_t i = 0;
    for (; n / 2 - i >= LANES; i += LANES) {
        vf e, o;
        v_part(v_load(in + 2 * i), v_load(in + 2 * i + LANES), &e, &o);
        v_store(even + i, e);
        v_store(odd + i, o);
    }
    for (; i < n / 2; i++) {
        memcpy(even + i, in + 2 * i, 4);
        memcpy(odd + i, in + 2 * i + 1, 4);
    }
    if (n % 2) memcpy(even + i, in + 2 * i, 4);
}

static void join(const float *even, const float *odd, int64_t n, float *out) {
    int64_t i = 0;
    for (; n / 2 - i >= LANES; i += LANES) {
        vf x, y;
        v_join(v_load(even + i), v_load(odd + i), &x, &y);
        v_store(out + 2 * i, x);
        v_store(out + 2 * i + LANES, y);
    }
    for (; i < n / 2; i++) {
        memcpy(out + 2 * i, even + i, 4);
        memcpy(out + 2 * i + 1, odd + i, 4);
    }
    if (n % 2) memcpy(out + 2 * i, even + i, 4);
}

/* High coefficients by their neighbours among low ones, of a row of n elements. */
static void lift_high(const lifting *l, float *high, const float *low, int64_t n) {
    const int64_t highs = n / 2, within = n % 2 ? highs : highs - 1;
    lift(l, high, high, low, low + 1, within);
    if (within < highs) lift(l, high + within, high + within, low + within, low + within, 1);
}

static void lift_low(const lifting *l, float *low, const float *high, int64_t n) {
    const int64_t highs = n / 2;
    lift(l, low, low, high, high, 1);
    lift(l, low + 1, low + 1, high, high + 1, highs - 1);
    if (n % 2) lift(l, low + highs, low + highs, high + highs - 1, high + highs - 1, 1);
}

tp_status TP_VARIANT(wavelet_rows)(const tp_wavelet *s, int64_t begin, int64_t end, const void *in, void *out, void *scratch) {
    const int64_t n = s->cols, lows = (n + 1) / 2, highs = n / 2;
    float *const low = scratch, *const high = low + lows;
    lifting steps[4];
    const int pairs = steps_of(s, steps);
    for (int64_t i = begin; i < end; i++) {
        const float *const x = (const float *)in + i * s->in_stride;
        float *const y = (float *)out + i * s->out_stride;
        if (n == 1) {
            memmove(y, x, 4);
            continue;
        }
        if (s->inverse) memcpy(low, x, (size_t)n * 4);
        else part(x, n, low, high);
        if (s->kind == TP_HAAR) {
            haar(low, high, low, high, highs);
        } else if (s->inverse) {
            if (pairs == 2) {
                scale(low, low, tp_cdf97_high, lows);
                scale(high, high, tp_cdf97_low, highs);
            }
            for (int p = pairs - 1; p >= 0; p--) {
                lift_low(&steps[2 * p + 1], low, high, n);
                lift_high(&steps[2 * p], high, low, n);
            }
        } else {
            for (int p = 0; p < pairs; p++) {
                lift_high(&steps[2 * p], high, low, n);
                lift_low(&steps[2 * p + 1], low, high, n);
            }
            if (pairs == 2) {
                scale(low, low, tp_cdf97_low, lows);
                scale(high, high, tp_cdf97_high, highs);
            }
        }
        if (s->inverse) join(low, high, n, y);
        else memcpy(y, low, (size_t)n * 4);
    }
    return TP_OK;
}

/* Rows as they come, each as soon as the ones are there that it needs, so that few are in use at a time. */
static void columns_forward(const tp_wavelet *s, int64_t wide, const float *in, float *out) {
    const int64_t n = s->rows, lows = (n + 1) / 2, highs = n / 2;
    lifting steps[4];
    const int pairs = steps_of(s, steps);
#define X(i) (in + (i) * s->in_stride)
#define LOW(i) (out + (i) * s->out_stride)
#define HIGH(i) (out + (lows + (i)) * s->out_stride)
    for (int64_t t = 0; t < lows + pairs; t++) {
        for (int p = 0; p < pairs; p++) {
            const int64_t i = t - p, next = i + 1 < lows ? i + 1 : lows - 1;
            if (i >= 0 && i < highs)
                lift(&steps[2 * p], HIGH(i), p ? HIGH(i) : X(2 * i + 1), p ? LOW(i) : X(2 * i), p ? LOW(next) : X(2 * next), wide);
            if (i >= 0 && i < lows)
                lift(&steps[2 * p + 1], LOW(i), p ? LOW(i) : X(2 * i), HIGH(i > 0 ? i - 1 : 0), HIGH(i < highs ? i : highs - 1), wide);
        }
        if (pairs == 1) continue;
        if (t >= 1 && t - 1 < lows) scale(LOW(t - 1), LOW(t - 1), tp_cdf97_low, wide);
        if (t >= 2 && t - 2 < highs) scale(HIGH(t - 2), HIGH(t - 2), tp_cdf97_high, wide);
    }
#undef X
#undef LOW
#undef HIGH
}

static void columns_inverse(const tp_wavelet *s, int64_t wide, const float *in, float *out) {
    const int64_t n = s->rows, lows = (n + 1) / 2, highs = n / 2;
    lifting steps[4];
    const int pairs = steps_of(s, steps);
#define LOW(i) (out + 2 * (i) * s->out_stride)
#define HIGH(i) (out + (2 * (i) + 1) * s->out_stride)
    for (int64_t t = 0; t < lows + pairs; t++) {
        const float *const low = in + t * s->in_stride, *const high = in + (lows + t) * s->in_stride;
        if (pairs == 1) {
            if (t < lows) memcpy(LOW(t), low, (size_t)wide * 4);
            if (t < highs) memcpy(HIGH(t), high, (size_t)wide * 4);
        } else {
            if (t < lows) scale(LOW(t), low, tp_cdf97_high, wide);
            if (t < highs) scale(HIGH(t), high, tp_cdf97_low, wide);
        }
        for (int p = pairs - 1; p >= 0; p--) {
            const int64_t i = t - (pairs - 1 - p);
            if (i >= 0 && i < lows) lift(&steps[2 * p + 1], LOW(i), LOW(i), HIGH(i > 0 ? i - 1 : 0), HIGH(i < highs ? i : highs - 1), wide);
            if (i >= 1 && i - 1 < highs) lift(&steps[2 * p], HIGH(i - 1), HIGH(i - 1), LOW(i - 1), LOW(i < lows ? i : lows - 1), wide);
        }
    }
#undef LOW
#undef HIGH
}

tp_status TP_VARIANT(wavelet_columns)(const tp_wavelet *s, int64_t begin, int64_t end, const void *in, void *out) {
    enum { WIDE = 1024 }; /* columns of which the rows in use stay in the cache */
    const int64_t n = s->rows, lows = (n + 1) / 2, highs = n / 2;
    for (int64_t j = begin; j < end; j += WIDE) {
        const int64_t wide = end - j < WIDE ? end - j : WIDE;
        const float *const x = (const float *)in + j;
        float *const y = (float *)out + j;
        if (s->kind != TP_HAAR && n > 1) {
            if (s->inverse) columns_inverse(s, wide, x, y);
            else columns_forward(s, wide, x, y);
            continue;
        }
        for (int64_t i = 0; i < highs; i++) {
            const int64_t a = s->inverse ? i : 2 * i, b = s->inverse ? lows + i : 2 * i + 1;
            const int64_t low = s->inverse ? 2 * i : i, high = s->inverse ? 2 * i + 1 : lows + i;
            haar(y + low * s->out_stride, y + high * s->out_stride, x + a * s->in_stride, x + b * s->in_stride, wide);
        }
        if (n % 2) {
            const int64_t from = s->inverse ? lows - 1 : n - 1, to = s->inverse ? n - 1 : lows - 1;
            memcpy(y + to * s->out_stride, x + from * s->in_stride, (size_t)wide * 4);
        }
    }
    return TP_OK;
}

INLINE int64_t elements_of(const tp_zone *s, int64_t line) {
    return s->elements - line * TP_CODE_LINE < TP_CODE_LINE ? s->elements - line * TP_CODE_LINE : TP_CODE_LINE;
}

INLINE vf values_of(const tp_zone *s, vi codes) {
    return v_signed(v_mul(v_add(v_abs(v_of(codes)), v_set(s->offset)), v_set(s->step)), codes);
}

tp_status TP_VARIANT(zone_quantize)(const tp_zone *s, int64_t begin, int64_t end, const float *in, int32_t *codes, double *errors) {
    enum { VECTORS = 16 / LANES };
    const vf step = v_set(s->step), inner = v_set(1 - s->zone), limit = v_set((float)(s->limit + 1));
    for (int64_t line = begin; line < end; line++) {
        const float *const x = in + line * TP_CODE_LINE;
        int32_t *const q = codes + line * TP_CODE_LINE;
        const int64_t n = elements_of(s, line);
        vd sums[2 * VECTORS];
        vf deepest = v_set(0), none = v_set(0);
        UNROLL for (int v = 0; v < 2 * VECTORS; v++) sums[v] = vd_zero();
        for (int64_t i = 0; i < n; i += 16)
            UNROLL for (int v = 0; v < VECTORS; v++) {
                const int64_t at = i + v * LANES, left = n - at;
                if (left <= 0) break;
                const vm lanes = v_first(left);
                const vf w = left < LANES ? v_load_some(x + at, lanes) : v_load(x + at);
                const vf depth = v_add(v_div(v_abs(w), step), inner);
                deepest = v_max(depth, deepest);
                none = v_or(none, v_sub(w, w));
                const vi code = vi_turn(vi_whole(depth), w);
                if (left < LANES) vi_store_some(q + at, lanes, code);
                else vi_store(q + at, code);
                if (!errors) continue;
                const vf value = values_of(s, code);
                UNROLL for (int h = 0; h < 2; h++) sums[2 * v + h] = vd_add_square(sums[2 * v + h], vd_half(w, h), vd_half(value, h));
            }
        if (!v_all_zero(none)) return TP_ERR_NONFINITE;
        if (!v_below(deepest, limit)) return TP_ERR_MAGNITUDE;
        if (!errors) continue;
        double each[16];
        UNROLL for (int v = 0; v < 2 * VECTORS; v++) vd_store(each + v * LANES / 2, sums[v]);
        errors[line] = tp_sum_halves(each);
    }
    return TP_OK;
}

tp_status TP_VARIANT(zone_decode)(const tp_zone *s, int64_t begin, int64_t end, const int32_t *codes, float *out) {
    const int64_t from = begin * TP_CODE_LINE, to = (end - 1) * TP_CODE_LINE + elements_of(s, end - 1);
    int64_t i = from;
    for (; to - i >= LANES; i += LANES) v_store(out + i, values_of(s, vi_load(codes + i)));
    if (i == to) return TP_OK;
    const vm last = v_first(to - i);
    v_store_some(out + i, last, values_of(s, vi_load_some(codes + i, last)));
    return TP_OK;
}

INLINE void widen(tp_dtype type, int64_t n, const char *in, int32_t *out) {
    const int size = type == TP_I16 ? 2 : 1;
    int64_t i = 0;
    for (; n - i >= LANES; i += LANES) vi_store(out + i, vi_widen(type, in + i * size));
    if (i == n) return;
    char rest[2 * LANES] = {0};
    memcpy(rest, in + i * size, (size_t)(n - i) * (size_t)size);
    vi_store_some(out + i, v_first(n - i), vi_widen(type, rest));
}

tp_status TP_VARIANT(widen_codes)(tp_dtype type, int64_t begin, int64_t end, const void *in, int32_t *out) {
    const char *const from = (const char *)in + begin * (type == TP_I16 ? 2 : 1);
    if (type == TP_I8) widen(TP_I8, end - begin, from, out + begin);
    else if (type == TP_U8) widen(TP_U8, end - begin, from, out + begin);
    else widen(TP_I16, end - begin, from, out + begin);
    return TP_OK;
}

INLINE tp_status narrow(tp_dtype type, int32_t lowest, int32_t highest, int64_t n, const int32_t *in, char *out) {
    const int size = type == TP_I16 ? 2 : 1;
    vi least = vi_set(0), most = vi_set(0);
    int64_t i = 0;
    for (; n - i >= LANES; i += LANES) {
        const vi x = vi_load(in + i);
        least = vi_min(least, x);
        most = vi_max(most, x);
        vi_narrow(type, x, out + i * size);
    }
    if (i < n) {
        char rest[2 * LANES];
        const vi x = vi_load_some(in + i, v_first(n - i));
        least = vi_min(least, x);
        most = vi_max(most, x);
        vi_narrow(type, x, rest);
        memcpy(out + i * size, rest, (size_t)(n - i) * (size_t)size);
    }
    return vi_any_above(vi_set(lowest), least) || vi_any_above(most, vi_set(highest)) ? TP_ERR_MAGNITUDE : TP_OK;
}

tp_status TP_VARIANT(narrow_codes)(tp_dtype type, int64_t begin, int64_t end, const int32_t *in, void *out) {
    char *const to = (char *)out + begin * (type == TP_I16 ? 2 : 1);
    if (type == TP_I8) return narrow(TP_I8, INT8_MIN, INT8_MAX, end - begin, in + begin, to);
    if (type == TP_U8) return narrow(TP_U8, 0, UINT8_MAX, end - begin, in + begin, to);
    return narrow(TP_I16, INT16_MIN, INT16_MAX, end - begin, in + begin, to);
}

tp_status TP_VARIANT(count_codes)(int32_t limit, int64_t begin, int64_t end, const int32_t *codes, int64_t *counts) {
    return tp_count_each(limit, begin, end, codes, counts);
}
