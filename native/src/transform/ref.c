#include <float.h>
#include <string.h>

#include "transform/kernels.h"
#include "transform/scalar.h"

/* One block of n elements `step` apart; table[a][b], a of the input and b of the output if `turned`, else the other way round. */
static void block(const float *table, int n, bool turned, const float *in, int64_t in_step, float *out, int64_t out_step) {
    for (int b = 0; b < n; b++) {
        float sum = 0;
        for (int a = 0; a < n; a++)
            sum = fmaf(turned ? table[a * TP_DCT_STRIDE + b] : table[b * TP_DCT_STRIDE + a], in[a * in_step], sum);
        out[b * out_step] = sum;
    }
}

tp_status tp_dct_blocks__ref(const tp_dct *s, int64_t begin, int64_t end, const float *in, float *out, void *scratch) {
    const tp_dct_plan *plan = tp_dct_prepare(s, scratch);
    float *piece = ((tp_dct_plan *)scratch)->piece;
    const int side = s->block;
    for (int64_t i = begin; i < end; i += s->dimensions == 1 ? 1 : side) {
        const int high = s->dimensions == 1 ? 1 : s->rows - i < side ? (int)(s->rows - i) : side;
        for (int64_t j = 0; j < s->cols; j += side) {
            const int wide = s->cols - j < side ? (int)(s->cols - j) : side;
            for (int r = 0; r < high; r++)
                block(plan->across[wide < side], wide, true, in + (i + r) * s->in_stride + j, 1,
                      s->dimensions == 1 ? out + i * s->out_stride + j : piece + r * TP_DCT_MOST, 1);
            for (int c = 0; s->dimensions == 2 && c < wide; c++)
                block(plan->down[high < side], high, false, piece + c, TP_DCT_MOST, out + i * s->out_stride + j + c, s->out_stride);
        }
    }
    return TP_OK;
}

/* Elements of a line as they lie in memory: low coefficients, then high ones; or each after the other. */
typedef struct line {
    char *low, *high;
    int64_t low_step, high_step; /* bytes */
    int64_t n;
} line;

static float *low_at(const line *l, int64_t i) { return (float *)(l->low + i * l->low_step); }
static float *high_at(const line *l, int64_t i) { return (float *)(l->high + i * l->high_step); }

static int64_t floor_half(uint32_t x, int shift) { return (int32_t)x >> shift; }

/* Step 0, 1, .. of the lifting: high coefficients by low ones, or low ones by high ones. */
static void lift(const line *l, tp_wavelet_kind kind, int step, bool undo) {
    const int64_t lows = (l->n + 1) / 2, highs = l->n / 2;
    for (int64_t i = 0; i < (step % 2 ? lows : highs); i++) {
        float *x = step % 2 ? low_at(l, i) : high_at(l, i);
        const float *a = step % 2 ? high_at(l, i > 0 ? i - 1 : 0) : low_at(l, i);
        const float *b = step % 2 ? high_at(l, i < highs ? i : highs - 1) : low_at(l, i + 1 < lows ? i + 1 : i);
        if (kind == TP_CDF97) {
            *x = fmaf(undo ? -tp_cdf97_steps[step] : tp_cdf97_steps[step], *a + *b, *x);
            continue;
        }
        uint32_t y, p, q;
        memcpy(&y, x, 4);
        memcpy(&p, a, 4);
        memcpy(&q, b, 4);
        const uint32_t change = (uint32_t)(step ? floor_half(p + q + 2, 2) : -floor_half(p + q, 1));
        y = undo ? y - change : y + change;
        memcpy(x, &y, 4);
    }
}

static void wavelet(const line *l, tp_wavelet_kind kind, bool inverse) {
    const int64_t lows = (l->n + 1) / 2, highs = l->n / 2;
    if (l->n == 1) return;
    if (kind == TP_HAAR) {
        for (int64_t i = 0; i < highs; i++) {
            const float a = *low_at(l, i), b = *high_at(l, i);
            *low_at(l, i) = (a + b) * tp_haar_root;
            *high_at(l, i) = (a - b) * tp_haar_root;
        }
        return;
    }
    const int steps = kind == TP_CDF53 ? 2 : 4;
    for (int step = 0; !inverse && step < steps; step++) lift(l, kind, step, false);
    if (kind == TP_CDF97) {
        for (int64_t i = 0; i < lows; i++) *low_at(l, i) *= inverse ? tp_cdf97_high : tp_cdf97_low;
        for (int64_t i = 0; i < highs; i++) *high_at(l, i) *= inverse ? tp_cdf97_low : tp_cdf97_high;
    }
    for (int step = steps - 1; inverse && step >= 0; step--) lift(l, kind, step, true);
}

/* One line, from elements `from` bytes apart to those `to` bytes apart. */
static void transform(const tp_wavelet *s, int64_t n, const char *in, int64_t from, char *out, int64_t to) {
    const int64_t lows = (n + 1) / 2;
    for (int64_t i = 0; i < n; i++) {
        const int64_t apart = s->inverse ? i < lows ? 2 * i : 2 * (i - lows) + 1 : i % 2 ? lows + i / 2 : i / 2;
        memcpy(out + apart * to, in + i * from, 4);
    }
    const line l = s->inverse ? (line){out, out + to, 2 * to, 2 * to, n} : (line){out, out + lows * to, to, to, n};
    wavelet(&l, s->kind, s->inverse);
}

tp_status tp_wavelet_rows__ref(const tp_wavelet *s, int64_t begin, int64_t end, const void *in, void *out, void *scratch) {
    for (int64_t i = begin; i < end; i++) {
        transform(s, s->cols, (const char *)in + i * s->in_stride * 4, 4, scratch, 4);
        memcpy((char *)out + i * s->out_stride * 4, scratch, (size_t)s->cols * 4);
    }
    return TP_OK;
}

tp_status tp_wavelet_columns__ref(const tp_wavelet *s, int64_t begin, int64_t end, const void *in, void *out) {
    for (int64_t j = begin; j < end; j++)
        transform(s, s->rows, (const char *)in + j * 4, s->in_stride * 4, (char *)out + j * 4, s->out_stride * 4);
    return TP_OK;
}

static int64_t line_end(const tp_zone *s, int64_t line) {
    return (line + 1) * TP_CODE_LINE < s->elements ? (line + 1) * TP_CODE_LINE : s->elements;
}

tp_status tp_zone_quantize__ref(const tp_zone *s, int64_t begin, int64_t end, const float *in, int32_t *codes, double *errors) {
    for (int64_t line = begin; line < end; line++) {
        double sums[16] = {0};
        bool finite = true, fits = true;
        for (int64_t i = line * TP_CODE_LINE; i < line_end(s, line); i++) {
            const float depth = tp_zone_depth(s, in[i]);
            finite = finite && tp_is_finite(in[i]);
            fits = fits && depth < (float)(s->limit + 1);
            if (!finite || !fits) continue;
            const int32_t magnitude = (int32_t)depth;
            codes[i] = in[i] < 0 ? -magnitude : magnitude;
            const double error = (double)in[i] - (double)tp_zone_value(s, codes[i]);
            sums[i % 16] += error * error;
        }
        if (!finite) return TP_ERR_NONFINITE;
        if (!fits) return TP_ERR_MAGNITUDE;
        if (errors) errors[line] = tp_sum_halves(sums);
    }
    return TP_OK;
}

tp_status tp_zone_decode__ref(const tp_zone *s, int64_t begin, int64_t end, const int32_t *codes, float *out) {
    for (int64_t i = begin * TP_CODE_LINE; i < line_end(s, end - 1); i++) out[i] = tp_zone_value(s, codes[i]);
    return TP_OK;
}

tp_status tp_widen_codes__ref(tp_dtype type, int64_t begin, int64_t end, const void *in, int32_t *out) {
    for (int64_t i = begin; i < end; i++) {
        int16_t x = 0;
        if (type == TP_I16) memcpy(&x, (const char *)in + 2 * i, 2);
        out[i] = type == TP_I8 ? ((const int8_t *)in)[i] : type == TP_U8 ? ((const uint8_t *)in)[i] : x;
    }
    return TP_OK;
}

tp_status tp_narrow_codes__ref(tp_dtype type, int64_t begin, int64_t end, const int32_t *in, void *out) {
    const int32_t least = type == TP_I8 ? INT8_MIN : type == TP_U8 ? 0 : INT16_MIN;
    const int32_t most = type == TP_I8 ? INT8_MAX : type == TP_U8 ? UINT8_MAX : INT16_MAX;
    for (int64_t i = begin; i < end; i++) {
        if (in[i] < least || in[i] > most) return TP_ERR_MAGNITUDE;
        if (type == TP_I16) ((int16_t *)out)[i] = (int16_t)in[i];
        else ((uint8_t *)out)[i] = (uint8_t)in[i];
    }
    return TP_OK;
}

tp_status tp_count_codes__ref(int32_t limit, int64_t begin, int64_t end, const int32_t *codes, int64_t *counts) {
    return tp_count_each(limit, begin, end, codes, counts);
}
