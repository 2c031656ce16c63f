/* The normative variants: every result of this family is what these functions compute. */
#include <math.h>

#include "quantize/kernels.h"
#include "quantize/scalar.h"
#include "quantize/shared_nibble.h"

/* The elements of one group: [i0, i1) of lines [line0, line1). Only per tensor has more than one line. */
typedef struct group {
    const tp_plan *plan;
    const void *in;
    int64_t line0, line1, i0, i1;
} group;

static float element(const group *g, int64_t line, int64_t i) {
    return tp_load(g->plan->in_type, g->in, tp_in_index(g->plan, line, i));
}

static bool group_range(const group *g, float *min, float *max) {
    bool finite = true;
    *min = *max = 0;
    for (int64_t line = g->line0; line < g->line1; line++) {
        for (int64_t i = g->i0; i < g->i1; i++) {
            const float x = element(g, line, i);
            finite &= tp_is_finite(x);
            *min = x < *min ? x : *min;
            *max = x > *max ? x : *max;
        }
    }
    return finite;
}

/*
 * Sum of the squared errors of a group with this scale. In units of the scale the terms neither overflow nor
 * underflow, so f32 is enough for runs of 256; a run does not go on from one line to the next.
 */
static double squared_error(const group *g, float scale, float zero) {
    const float inverse = 1.0f / scale, low = g->plan->qmin - zero, high = g->plan->qmax - zero;
    const tp_plan *p = g->plan;
    const bool by_line = p->part == 0 && !p->by_column;
    double sum = 0;
    if (isinf(scale)) return INFINITY;
    for (int64_t line = g->line0; line < g->line1; line++) {
        const float *importance = !p->importance ? NULL : by_line ? p->importance + line : tp_importance_of(p, line);
        for (int64_t start = g->i0; start < g->i1; start += 256) {
            float run = 0;
            for (int64_t i = start; i < g->i1 && i < start + 256; i++) {
                const float t = element(g, line, i) * inverse;
                const float e = t - tp_round(tp_clamp(t, low, high));
                run += importance ? e * e * importance[by_line ? 0 : i] : e * e;
            }
            sum += run;
        }
    }
    return sum * ((double)scale * scale);
}

static void search(const group *g, float min, float max, float *scale, float *zero) {
    double best = squared_error(g, *scale, *zero);
    for (int step = 1; step < g->plan->clip_steps; step++) {
        float s, z;
        tp_scale(g->plan, min, max, tp_ratio(g->plan, step), &s, &z);
        const double error = squared_error(g, s, z);
        if (error < best) {
            best = error;
            *scale = s;
            *zero = z;
        }
    }
}

static uint8_t encode(const tp_plan *p, float x, float scale, float zero) {
    const float t = p->divide ? x / scale : x * (1.0f / scale);
    if (t != t) return tp_zero_byte(zero);
    return tp_zero_byte(tp_round(tp_clamp(t, p->qmin - zero, p->qmax - zero)) + zero);
}

tp_status tp_quantize__ref(const tp_plan *p, int64_t begin, int64_t end, const void *in, void *codes, float *scales,
                           uint8_t *zeros, void *scratch) {
    (void)scratch;
    bool finite = true, fits = true;
    const int64_t lines_at_once = p->per_tensor && p->range != TP_SCALES_GIVEN ? p->lines : 1;
    int64_t line = begin;
    do {
        for (int64_t n = 0; n < p->groups; n++) {
            const int64_t at = tp_scale_index(p, line, n);
            const bool last = n == p->groups - 1;
            const group g = {p, in, line, line + lines_at_once, n * p->group, last ? p->length : (n + 1) * p->group};
            if (g.line1 > end) break;
            float scale, zero;
            if (p->range == TP_SCALES_GIVEN) {
                scale = scales[at];
                zero = tp_zero_at(p, zeros, at);
            } else {
                float min, max;
                finite &= group_range(&g, &min, &max);
                tp_scale(p, min, max, 1, &scale, &zero);
                if (p->clip_steps) search(&g, min, max, &scale, &zero);
                fits &= !isinf(scale);
                scales[at] = scale;
                if (zeros) zeros[at] = tp_zero_byte(zero);
            }
            for (int64_t l = g.line0; l < g.line1; l++) {
                const bool shared = !p->code_lines && (l == begin || l == end - 1);
                for (int64_t i = g.i0; i < (last ? p->padded : g.i1); i++) {
                    const uint8_t code = i < g.i1 ? encode(p, element(&g, l, i), scale, zero) : tp_zero_byte(zero);
                    const int64_t to = tp_code_index(p, l, i);
                    if (!p->four_bits)
                        ((uint8_t *)codes)[to] = code;
                    else if (shared)
                        tp_put_shared_nibble(codes, to, code);
                    else
                        tp_put_nibble(codes, to, code);
                }
            }
        }
        line += lines_at_once;
    } while (line < end);
    tp_end_nibbles(p, end, codes);
    return !finite ? TP_ERR_NONFINITE : !fits ? TP_ERR_SCALE : TP_OK;
}

tp_status tp_minmax__ref(const tp_plan *p, int64_t begin, int64_t end, const void *in, float *min, float *max) {
    bool finite = true;
    float low = INFINITY, high = -INFINITY;
    for (int64_t r = begin; r < end; r++) {
        for (int64_t c = 0; c < p->cols; c++) {
            const float x = tp_load(p->in_type, in, r * p->in_stride + c);
            finite &= tp_is_finite(x);
            low = x < low ? x : low;
            high = x > high ? x : high;
        }
    }
    /* Adding zero turns -0 into +0, so that the order of comparisons does not show. */
    *min = low + 0.0f;
    *max = high + 0.0f;
    return finite ? TP_OK : TP_ERR_NONFINITE;
}

static float decode(const tp_plan *p, const void *codes, const float *scales, const uint8_t *zeros, int64_t line,
                    int64_t i) {
    const int64_t at = tp_scale_index(p, line, i / (p->group ? p->group : 1));
    const int32_t code = tp_code_value(p->out_type, tp_code_at(p, codes, tp_code_index(p, line, i)));
    return ((float)code - tp_zero_at(p, zeros, at)) * scales[at];
}

tp_status tp_dequantize__ref(const tp_plan *p, int64_t begin, int64_t end, const void *codes, const float *scales,
                             const uint8_t *zeros, float *out) {
    for (int64_t line = begin; line < end; line++)
        for (int64_t i = 0; i < p->length; i++)
            out[tp_in_index(p, line, i)] = decode(p, codes, scales, zeros, line, i);
    return TP_OK;
}

/*
 * Lines that are rows add element i to partial sum i % 16, and then the sums 8, 4, 2 and 1 apart. Lines that are
 * columns add their elements in order: there, vectors hold neighbouring columns.
 */
tp_status tp_quantize_error__ref(const tp_plan *p, int64_t begin, int64_t end, const void *in, const void *codes,
                                 const float *scales, const uint8_t *zeros, tp_error *errors) {
    for (int64_t line = begin; line < end; line++) {
        double error[16] = {0}, square[16] = {0}, max = 0;
        for (int64_t i = 0; i < p->length; i++) {
            const double x = tp_load(p->in_type, in, tp_in_index(p, line, i));
            const double d = x - decode(p, codes, scales, zeros, line, i);
            const int64_t lane = p->by_column ? 0 : i % 16;
            error[lane] += d * d;
            square[lane] += x * x;
            max = fabs(d) > max ? fabs(d) : max;
        }
        for (int apart = 8; apart; apart /= 2) {
            for (int lane = 0; lane < apart; lane++) {
                error[lane] += error[lane + apart];
                square[lane] += square[lane + apart];
            }
        }
        errors[line - begin] = tp_error_of(error[0], square[0], max);
    }
    return TP_OK;
}

tp_status tp_pack4__ref(const uint8_t *codes, int64_t n, uint8_t *packed) {
    for (int64_t i = 0; i < n; i += 2) packed[i / 2] = (uint8_t)((codes[i] & 15) | (i + 1 < n ? codes[i + 1] << 4 : 0));
    return TP_OK;
}

tp_status tp_unpack4__ref(tp_dtype type, const uint8_t *packed, int64_t n, uint8_t *codes) {
    for (int64_t i = 0; i < n; i++) codes[i] = tp_nibble(type, packed, i);
    return TP_OK;
}

tp_status tp_convert__ref(tp_dtype from, const void *in, int64_t n, tp_dtype to, void *out) {
    for (int64_t i = 0; i < n; i++) {
        const float x = tp_load(from, in, i);
        if (to == TP_F32)
            memcpy((float *)out + i, &x, sizeof x);
        else
            ((uint16_t *)out)[i] = to == TP_F16 ? tp_f16_of_f32(x) : tp_bf16_of_f32(x);
    }
    return TP_OK;
}

tp_status tp_find_nonfinite__ref(const tp_plan *p, const void *in, int64_t *row, int64_t *col) {
    for (int64_t r = 0; r < p->rows; r++) {
        for (int64_t c = 0; c < p->cols; c++) {
            if (!tp_is_finite(tp_load(p->in_type, in, r * p->in_stride + c))) {
                *row = r;
                *col = c;
                return TP_OK;
            }
        }
    }
    return TP_OK;
}
