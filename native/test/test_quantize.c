/*
 * The quantize family against an oracle written from quantize.h alone, one element at a time, and the tiers against
 * each other bit for bit. Every buffer ends or starts at a page that cannot be touched.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_arrays.h"
#include "quantize/kernels.h"
#include "support.h"
#include "tensorpress/cuda/quantize.h"

typedef enum kind { PER_TENSOR, PER_ROW, PER_COLUMN, BLOCKS_OF_ROW, BLOCKS_OF_COLUMN, KINDS } kind;

static guarded importance_memory, in_memory, code_memory[2], scale_memory[2], zero_memory[2], scratch_memory, float_memory, error_memory;

/* ---- the same calls on the device ---- */

static size_t matrix_bytes(const tp_quant *q, size_t size) {
    return !all_on_host && q->rows > 0 && q->cols > 0 ? (size_t)((q->rows - 1) * q->in_stride + q->cols) * size : 0;
}
static size_t importance_count(const tp_quant *q) { return (size_t)(q->importance_parts ? q->importance_parts * q->cols : q->rows); }
static const void *placed_in(const tp_quant *q, const void *in) {
    const size_t size = q->in_type == TP_F32 ? 4 : 2;
    return placed(in, matrix_bytes(q, size), (int)size, false);
}

/* Codes, scales and zeros, whose sizes follow from the spec. */
static void place_codes(const tp_quant *q, const void **codes, const float **scales, const uint8_t **zeros, bool codes_written,
                        bool scales_written) {
    int64_t lines, groups = 0, bytes = 0;
    if (all_on_host) return;
    CHECK(tp_quantize_sizes(q, &lines, &groups, &bytes) == TP_OK, "sizes");
    *codes = placed(*codes, (size_t)bytes, 1, codes_written);
    *scales = placed(*scales, (size_t)groups * 4, 4, scales_written);
    *zeros = placed(*zeros, (size_t)groups, 1, scales_written);
}

#define CUDA_CALL(call)                                                                                               \
    do status = call;                                                                                                 \
    while (short_of_memory(status));                                                                                  \
    return end_call(status)

static tp_status cuda_quantize(const tp_quant *q, int64_t begin, int64_t end, const void *in, const void *codes, const float *scales,
                               const uint8_t *zeros) {
    tp_status status;
    tp_quant with_importance;
    start_call();
    if (q && !all_on_host) {
        in = placed_in(q, in);
        with_importance = *q;
        with_importance.importance = placed(q->importance, q->importance ? importance_count(q) * 4 : 0, 4, false);
        q = &with_importance;
        place_codes(q, &codes, &scales, &zeros, true, q->range != TP_SCALES_GIVEN);
    }
    CUDA_CALL(tp_cuda_quantize(test_cuda, q, begin, end, in, (void *)(uintptr_t)codes, (float *)(uintptr_t)scales, (uint8_t *)(uintptr_t)zeros));
}

static tp_status cuda_minmax(const tp_quant *q, int64_t begin, int64_t end, const void *in, float *min, float *max) {
    tp_status status;
    start_call();
    in = placed_in(q, in);
    min = placed(min, sizeof *min, 4, true);
    max = placed(max, sizeof *max, 4, true);
    CUDA_CALL(tp_cuda_minmax(test_cuda, q, begin, end, in, min, max));
}

static tp_status cuda_dequantize(const tp_quant *q, int64_t begin, int64_t end, const void *codes, const float *scales, const uint8_t *zeros,
                                 float *out) {
    tp_status status;
    start_call();
    place_codes(q, &codes, &scales, &zeros, false, false);
    out = placed(out, matrix_bytes(q, sizeof *out), 4, true);
    CUDA_CALL(tp_cuda_dequantize(test_cuda, q, begin, end, codes, scales, zeros, out));
}

static tp_status cuda_error(const tp_quant *q, int64_t begin, int64_t end, const void *in, const void *codes, const float *scales,
                            const uint8_t *zeros, tp_error *errors) {
    tp_status status;
    start_call();
    in = placed_in(q, in);
    place_codes(q, &codes, &scales, &zeros, false, false);
    errors = placed(errors, begin < end ? (size_t)(end - begin) * sizeof *errors : 0, 8, true);
    CUDA_CALL(tp_cuda_quantize_error(test_cuda, q, begin, end, in, codes, scales, zeros, errors));
}

static tp_status cuda_pack4(const uint8_t *codes, int64_t n, uint8_t *packed) {
    tp_status status;
    start_call();
    codes = placed(codes, n > 0 ? (size_t)n : 0, 1, false);
    packed = placed(packed, n > 0 ? (size_t)(n + 1) / 2 : 0, 1, true);
    CUDA_CALL(tp_cuda_pack4(test_cuda, codes, n, packed));
}

static tp_status cuda_unpack4(tp_dtype type, const uint8_t *packed, int64_t n, uint8_t *codes) {
    tp_status status;
    start_call();
    packed = placed(packed, n > 0 ? (size_t)(n + 1) / 2 : 0, 1, false);
    codes = placed(codes, n > 0 ? (size_t)n : 0, 1, true);
    CUDA_CALL(tp_cuda_unpack4(test_cuda, type, packed, n, codes));
}

static tp_status cuda_convert(tp_dtype from, const void *in, int64_t n, tp_dtype to, void *out) {
    tp_status status;
    const size_t in_size = from == TP_F32 ? 4 : 2, out_size = to == TP_F32 ? 4 : 2;
    start_call();
    in = placed(in, n > 0 ? (size_t)n * in_size : 0, (int)in_size, false);
    out = placed(out, n > 0 ? (size_t)n * out_size : 0, (int)out_size, true);
    CUDA_CALL(tp_cuda_convert(test_cuda, from, in, n, to, out));
}

static tp_status cuda_find_nonfinite(const tp_quant *q, const void *in, int64_t *row, int64_t *col) {
    tp_status status;
    start_call();
    in = placed_in(q, in);
    row = placed(row, sizeof *row, 8, true);
    col = placed(col, sizeof *col, 8, true);
    CUDA_CALL(tp_cuda_find_nonfinite(test_cuda, q, in, row, col));
}

#define tp_quantize(q, begin, end, in, codes, scales, zeros, scratch)                                                 \
    (on_cuda ? cuda_quantize(q, begin, end, in, codes, scales, zeros) : tp_quantize(q, begin, end, in, codes, scales, zeros, scratch))
#define tp_minmax(...) (on_cuda ? cuda_minmax(__VA_ARGS__) : tp_minmax(__VA_ARGS__))
#define tp_dequantize(...) (on_cuda ? cuda_dequantize(__VA_ARGS__) : tp_dequantize(__VA_ARGS__))
#define tp_quantize_error(...) (on_cuda ? cuda_error(__VA_ARGS__) : tp_quantize_error(__VA_ARGS__))
#define tp_pack4(...) (on_cuda ? cuda_pack4(__VA_ARGS__) : tp_pack4(__VA_ARGS__))
#define tp_unpack4(...) (on_cuda ? cuda_unpack4(__VA_ARGS__) : tp_unpack4(__VA_ARGS__))
#define tp_convert(...) (on_cuda ? cuda_convert(__VA_ARGS__) : tp_convert(__VA_ARGS__))
#define tp_find_nonfinite(...) (on_cuda ? cuda_find_nonfinite(__VA_ARGS__) : tp_find_nonfinite(__VA_ARGS__))

/* ---- the oracle ---- */

typedef struct oracle {
    tp_quant q;
    kind kind;
    int64_t block, lines, length, groups, code_count, scale_count, padded;
} oracle;

static bool by_column(const oracle *o) { return o->kind == PER_COLUMN || o->kind == BLOCKS_OF_COLUMN; }
static bool is_4bit(const oracle *o) { return o->q.out_type == TP_I4 || o->q.out_type == TP_U4; }
static bool is_signed(const oracle *o) { return o->q.out_type == TP_I8 || o->q.out_type == TP_I4; }
static int symmetric_zero(const oracle *o) { return is_signed(o) ? 0 : is_4bit(o) ? 8 : 128; }

static int64_t in_at(const oracle *o, int64_t line, int64_t i) {
    return by_column(o) ? i * o->q.in_stride + line : line * o->q.in_stride + i;
}

static int64_t code_at(const oracle *o, int64_t line, int64_t i) {
    if (by_column(o) && o->q.layout == TP_LAYOUT_SAME) return i * o->q.out_stride + line;
    return line * o->q.out_stride + i;
}

static int64_t scale_at(const oracle *o, int64_t line, int64_t i) {
    switch (o->kind) {
    case PER_TENSOR: return 0;
    case PER_ROW: return line;
    case PER_COLUMN: return line;
    case BLOCKS_OF_ROW: return line * o->groups + i / o->block;
    default: return o->q.layout == TP_LAYOUT_SAME ? i / o->block * o->q.cols + line : line * o->groups + i / o->block;
    }
}

static void set_code(const oracle *o, uint8_t *codes, int64_t at, int code) {
    if (!is_4bit(o)) {
        codes[at] = (uint8_t)code;
    } else if (at % 2) {
        codes[at / 2] = (uint8_t)((codes[at / 2] & 0x0f) | (code & 15) << 4);
    } else {
        codes[at / 2] = (uint8_t)((codes[at / 2] & 0xf0) | (code & 15));
    }
}

static int get_code(const oracle *o, const uint8_t *codes, int64_t at) {
    if (!is_4bit(o)) return is_signed(o) ? (int8_t)codes[at] : codes[at];
    const int nibble = at % 2 ? codes[at / 2] >> 4 : codes[at / 2] & 15;
    return is_signed(o) && nibble > 7 ? nibble - 16 : nibble;
}

static float value_at(const oracle *o, const void *in, int64_t line, int64_t i) {
    return (float)oracle_value(o->q.in_type, in, in_at(o, line, i));
}

static float round_even(float x) { return rintf(x); }

static void scale_and_zero(const oracle *o, float min, float max, float ratio, float *scale, int *zero) {
    const tp_quant *q = &o->q;
    const float levels = (float)(q->qmax - q->qmin), largest = fmaxf(-min, max) * ratio;
    const int z = symmetric_zero(o), side = q->qmax - z < z - q->qmin ? q->qmax - z : z - q->qmin;
    float s;
    if (q->range == TP_RANGE_MINMAX)
        s = max * ratio / levels - min * ratio / levels;
    else if (q->range == TP_RANGE_ABSMAX)
        s = largest / (float)side;
    else
        s = largest / (levels / 2);
    if (s < FLT_MIN) s = FLT_MIN;
    if (q->power_of_two && isfinite(s)) {
        int exponent;
        s = frexpf(s, &exponent) == 0.5f ? s : (float)ldexp(1, exponent);
    }
    if (min == 0 && max == 0) s = 1;
    s = oracle_round_f32(q->scale_type, s);
    if (s == 0) s = (float)ldexp(1, -24);
    *scale = s;
    *zero = z;
    if (q->range == TP_RANGE_MINMAX)
        *zero = (int)fmaxf((float)q->qmin, fminf((float)q->qmax, round_even((float)q->qmin - min * ratio / s)));
}

static float importance_at(const oracle *o, int64_t line, int64_t i) {
    const tp_quant *q = &o->q;
    const int64_t row = by_column(o) ? i : line, col = by_column(o) ? line : i;
    if (!q->importance) return 1;
    return q->importance_parts ? q->importance[row / (q->rows / q->importance_parts) * q->cols + col] : q->importance[row];
}

/* A group is all elements of lines [a, b) from i to j. */
static void oracle_scale(const oracle *o, const void *in, int64_t a, int64_t b, int64_t i, int64_t j, float *scale,
                         int *zero) {
    float min = 0, max = 0;
    for (int64_t l = a; l < b; l++) {
        for (int64_t k = i; k < j; k++) {
            min = fminf(min, value_at(o, in, l, k));
            max = fmaxf(max, value_at(o, in, l, k));
        }
    }
    scale_and_zero(o, min, max, 1, scale, zero);
    double best = INFINITY;
    for (int step = 0; step < o->q.clip_steps && o->q.clip_steps > 1; step++) {
        const float ratio = o->q.power_of_two ? (float)ldexp(1, -step) : 1.0f - (float)step * (1.0f - o->q.clip_min) / (float)(o->q.clip_steps - 1);
        float s;
        int z;
        scale_and_zero(o, min, max, ratio, &s, &z);
        const float inverse = 1.0f / s;
        double sum = 0;
        for (int64_t l = a; l < b; l++) {
            float run = 0;
            for (int64_t k = i; k < j; k++) {
                const float t = value_at(o, in, l, k) * inverse;
                const float code = fminf(fmaxf(round_even(t), (float)(o->q.qmin - z)), (float)(o->q.qmax - z));
                const float square = (t - code) * (t - code);
                run += o->q.importance ? square * importance_at(o, l, k) : square;
                if ((k - i) % 256 == 255) {
                    sum += run;
                    run = 0;
                }
            }
            sum += run;
        }
        const double error = isinf(s) ? INFINITY : sum * ((double)s * (double)s);
        if (step == 0 || error < best) {
            best = error;
            *scale = s;
            *zero = z;
        }
    }
}

static int oracle_code(const oracle *o, float x, float scale, int zero) {
    const float t = o->q.rounding == TP_ROUND_DIVIDE ? x / scale : x * (1.0f / scale);
    if (isnan(t)) return zero;
    const double code = (double)round_even(t) + zero;
    return code < o->q.qmin ? o->q.qmin : code > o->q.qmax ? o->q.qmax : (int)code;
}

static tp_status oracle_quantize(const oracle *o, const void *in, uint8_t *codes, float *scales, uint8_t *zeros,
                                 bool have_zeros) {
    const bool given = o->q.range == TP_SCALES_GIVEN;
    bool finite = true, fits = true;
    const int64_t step = o->kind == PER_TENSOR ? o->lines : 1;
    for (int64_t line = 0; line < o->lines || line == 0; line += step) {
        for (int64_t g = 0; g < o->groups; g++) {
            const int64_t i = g * o->block, j = o->block && i + o->block < o->length ? i + o->block : o->length;
            if (o->kind != PER_TENSOR && o->lines == 0) break;
            float scale;
            int zero;
            const int64_t at = scale_at(o, line, i);
            if (given) {
                scale = scales[at];
                zero = !have_zeros ? symmetric_zero(o) : is_signed(o) ? (int8_t)zeros[at] : zeros[at];
            } else {
                oracle_scale(o, in, line, line + step, i, j, &scale, &zero);
                scales[at] = scale;
                if (have_zeros) zeros[at] = (uint8_t)zero;
                fits &= isfinite(scale);
            }
            const int64_t end = g == o->groups - 1 ? o->padded : j;
            for (int64_t l = line; l < line + step; l++) {
                for (int64_t k = i; k < end; k++) {
                    if (k < j) finite &= given || isfinite(value_at(o, in, l, k));
                    const int code = k < j ? oracle_code(o, value_at(o, in, l, k), scale, zero) : zero;
                    set_code(o, codes, code_at(o, l, k), code);
                }
            }
        }
        if (step == 0) break;
    }
    if (is_4bit(o) && o->code_count % 2) codes[o->code_count / 2] &= 15;
    return !finite ? TP_ERR_NONFINITE : fits ? TP_OK : TP_ERR_SCALE;
}

static float oracle_decode(const oracle *o, const uint8_t *codes, const float *scales, const uint8_t *zeros,
                           bool have_zeros, int64_t line, int64_t i) {
    const int64_t at = scale_at(o, line, i);
    const int zero = !have_zeros ? symmetric_zero(o) : is_signed(o) ? (int8_t)zeros[at] : zeros[at];
    return (float)(get_code(o, codes, code_at(o, line, i)) - zero) * scales[at];
}

static tp_error oracle_error(const oracle *o, const void *in, const uint8_t *codes, const float *scales,
                             const uint8_t *zeros, bool have_zeros, int64_t line) {
    double sums[2][16] = {{0}}, largest = 0;
    for (int64_t i = 0; i < o->length; i++) {
        const double x = value_at(o, in, line, i);
        const double d = x - oracle_decode(o, codes, scales, zeros, have_zeros, line, i);
        const int64_t lane = by_column(o) ? 0 : i % 16;
        sums[0][lane] += d * d;
        sums[1][lane] += x * x;
        largest = isnan(d) || isnan(largest) ? NAN : fmax(largest, fabs(d));
    }
    for (int width = 16; width > 1; width /= 2)
        for (int s = 0; s < 2; s++)
            for (int lane = 0; lane < width / 2; lane++) sums[s][lane] += sums[s][lane + width / 2];
    return (tp_error){sums[0][0], sums[1][0], largest};
}

/* ---- random cases ---- */

static const int64_t sizes[] = {0,  1,  2,  3,  5,  15, 16,  17,  31,  32,  33,  47,  48,  49,
                                63, 64, 65, 79, 80, 95, 127, 128, 129, 191, 192, 193};

static int64_t random_size(void) { return sizes[random_below(sizeof sizes / sizeof *sizes)]; }

static void finish_case(oracle *o) {
    tp_quant *q = &o->q;
    o->lines = by_column(o) ? q->cols : q->rows;
    o->length = by_column(o) ? q->rows : q->cols;
    const bool blocks = o->kind == BLOCKS_OF_ROW || o->kind == BLOCKS_OF_COLUMN;
    if (!blocks) o->block = o->length;
    q->group_rows = o->kind == PER_TENSOR || o->kind == PER_COLUMN ? q->rows : by_column(o) ? o->block : 1;
    q->group_cols = o->kind == PER_TENSOR || o->kind == PER_ROW ? q->cols : by_column(o) ? 1 : o->block;
    o->groups = blocks ? (o->length + o->block - 1) / o->block : 1;
    o->padded = q->pad ? o->groups * o->block : o->length;
    const bool code_lines = !by_column(o) || q->layout == TP_LAYOUT_TRANSPOSED;
    const int64_t out_rows = code_lines ? o->lines : o->padded, out_cols = code_lines ? o->padded : o->lines;
    if (q->out_stride < out_cols) q->out_stride = out_cols;
    o->code_count = out_rows && out_cols ? (out_rows - 1) * q->out_stride + out_cols : 0;
    o->scale_count = o->kind == PER_TENSOR ? 1 : o->lines * o->groups;
}

static oracle random_case(void) {
    oracle o = {0};
    tp_quant *q = &o.q;
    do {
        q->rows = random_size();
        q->cols = random_size();
        switch (random_below(40)) {
        case 0: q->rows = 1 + random_below(4), q->cols = 4000 + random_below(5000); break;
        case 1: q->cols = 1 + random_below(20), q->rows = 200 + random_below(800); break;
        case 2: q->rows = 1 + random_below(2), q->cols = 15000 + random_below(5000); break;
        case 3: q->cols = 1 + random_below(12), q->rows = 1000 + random_below(2200); break;
        }
    } while (q->rows * q->cols > 40000);
    o.kind = (kind)random_below(KINDS);
    /* Where a shape can be read in two ways, the kind that the header prefers. */
    if (o.kind == PER_TENSOR && q->cols == 1) o.kind = PER_COLUMN;
    if (o.kind == PER_TENSOR && q->rows == 1) o.kind = PER_ROW;
    if (o.kind == PER_ROW && q->cols == 1 && q->rows == 1) o.kind = PER_COLUMN;
    if (o.kind == PER_COLUMN && q->rows == 1 && q->cols == 1) o.kind = PER_COLUMN;
    const bool blocks = o.kind == BLOCKS_OF_ROW || o.kind == BLOCKS_OF_COLUMN;
    o.block = 16 * (1 + (random_below(2) ? random_below(4) : random_below(16)));
    const bool columns = o.kind == PER_COLUMN || o.kind == BLOCKS_OF_COLUMN;
    q->in_stride = q->cols + (random_below(2) ? random_below(40) : 0);
    q->layout = columns && random_below(2);
    q->pad = blocks && random_below(2);
    q->in_type = TP_F32 + (int)random_below(3);
    if (random_below(2)) q->in_type = TP_F32;
    q->scale_type = TP_F32 + (int)random_below(3);
    q->out_type = TP_I8 + (int)random_below(4);
    q->range = TP_RANGE_ABSMAX + (int)random_below(4);
    q->rounding = TP_ROUND_DIVIDE + (int)random_below(2);
    const int values = is_4bit(&o) ? 16 : 256, lowest = is_signed(&o) ? -values / 2 : 0;
    q->qmin = lowest;
    q->qmax = lowest + values - 1;
    if (random_below(2)) {
        const int zero = symmetric_zero(&o);
        q->qmin = zero - 1 - (int)random_below(zero - lowest);
        q->qmax = zero + 1 + (int)random_below(lowest + values - 1 - zero);
    }
    if (random_below(3) == 0) {
        q->clip_steps = (int)random_below(65);
        q->clip_min = (float)(0.01 + 0.99 * random_unit());
        if (q->rows * q->cols > 5000) q->clip_steps %= 4;
    }
    q->power_of_two = random_below(4) == 0;
    finish_case(&o);
    const int64_t needed = q->out_stride;
    switch (random_below(4)) {
    case 0: break;
    case 1: q->out_stride = needed + random_below(40); break;
    default: q->out_stride = (needed + 63) / 64 * 64; break;
    }
    finish_case(&o);
    return o;
}

static double random_value(int mode, tp_dtype type) {
    const double sign = random_bits() & 1 ? -1 : 1, u = random_unit();
    const double largest = type == TP_F32 ? FLT_MAX : type == TP_F16 ? 65504 : 3.38e38;
    switch (mode) {
    case 0: return sign * u;
    case 1: /* exact halves, signed zeros and a few magnitudes */
        switch (random_below(4)) {
        case 0: return sign * 0.0;
        case 1: return sign * (double)random_below(130) / 2;
        case 2: return sign * ldexp(u, -(int)random_below(20));
        default: return sign * 63.5;
        }
    case 2: return sign * largest * (random_below(3) ? u : 1);
    case 3: return sign * 0.0;
    case 4: return sign * ldexp((double)random_below(1 << 10), type == TP_F16 ? -24 : -149);
    case 5: return u + 0.5; /* one sign only */
    case 6: return sign * ldexp(u, (int)random_below(type == TP_F16 ? 30 : 250) - (type == TP_F16 ? 15 : 125));
    default: return sign * (u + random_unit() + random_unit());
    }
}

static void describe(const oracle *o, char *text, size_t size) {
    const tp_quant *q = &o->q;
    snprintf(text, size,
             "%lld x %lld, strides %lld %lld, group %lld x %lld, types %d %d %d, codes %d..%d, range %d, rounding %d, "
             "layout %d, pad %d, clip %d from %a, power of two %d, importance %d",
             (long long)q->rows, (long long)q->cols, (long long)q->in_stride, (long long)q->out_stride,
             (long long)q->group_rows, (long long)q->group_cols, q->in_type, q->out_type, q->scale_type, q->qmin,
             q->qmax, q->range, q->rounding, q->layout, q->pad, q->clip_steps, (double)q->clip_min, q->power_of_two,
             q->importance ? q->importance_parts : -1);
}

/* A boundary between lines at which work may be cut, at or after the given one. */
static int64_t next_cut(const oracle *o, int64_t line) {
    if (o->kind == PER_TENSOR && o->q.range != TP_SCALES_GIVEN) return o->lines;
    const bool code_lines = !by_column(o) || o->q.layout == TP_LAYOUT_TRANSPOSED;
    const bool odd_allowed = !is_4bit(o) || (code_lines && o->q.out_stride % 2 == 0);
    if (line % 2 && !odd_allowed) line++;
    return line < o->lines ? line : o->lines;
}

static int64_t random_cut(const oracle *o, int64_t begin) {
    if (random_below(2)) return o->lines;
    return next_cut(o, begin + 1 + random_below(o->lines - begin));
}

static bool same_bits(const void *a, const void *b, int64_t n) { return n == 0 || memcmp(a, b, (size_t)n) == 0; }

static bool same_double(double a, double b) { return (isnan(a) && isnan(b)) || same_bits(&a, &b, sizeof a); }

static void run_case(const oracle *given_case, int mode, bool nonfinite, int last_tier) {
    oracle with_importance = *given_case;
    const oracle *o = &with_importance;
    const tp_quant *q = &o->q;
    if (q->clip_steps && random_below(2)) {
        const bool by_row = by_column(o) || (o->kind == PER_TENSOR && random_below(2)), outlier = random_below(4) == 0;
        with_importance.q.importance_parts = by_row ? 0 : q->rows % 3 ? 1 : 3;
        float *importance = guarded_take(&importance_memory, importance_count(q) * 4, true);
        for (size_t i = 0; i < importance_count(q); i++)
            importance[i] = random_below(8) ? (float)ldexp(random_unit(), outlier ? (int)random_below(60) - 30 : 0) : 0;
        with_importance.q.importance = importance;
    }
    char text[400];
    describe(o, text, sizeof text);
    const bool given = q->range == TP_SCALES_GIVEN, at_end = random_below(3) != 0;
    const int64_t in_count = q->rows && q->cols ? (q->rows - 1) * q->in_stride + q->cols : 0;
    const int64_t in_size = q->in_type == TP_F32 ? 4 : 2;
    const int64_t code_bytes = is_4bit(o) ? (o->code_count + 1) / 2 : o->code_count;

    char *in = guarded_input(&in_memory, (size_t)(in_count * in_size), at_end, (int)random_below(4));
    for (int64_t r = 0; r < q->rows; r++) {
        for (int64_t c = 0; c < q->cols; c++) {
            /* In most modes, some lines are quiet: all zero. */
            const bool quiet = mode != 0 && (r * 7 + c / 64 * 3) % 11 == 5;
            oracle_store(q->in_type, in, r * q->in_stride + c, quiet ? -0.0 : random_value(mode, q->in_type));
        }
    }
    int64_t bad_row = -1, bad_col = -1;
    if (nonfinite && q->rows && q->cols) {
        for (int k = 0; k < 3; k++) {
            const int64_t r = random_below(q->rows), c = random_below(q->cols);
            const int what = (int)random_below(3);
            oracle_store(q->in_type, in, r * q->in_stride + c, what == 0 ? NAN : what == 1 ? INFINITY : -INFINITY);
            if (bad_row < 0 || r < bad_row || (r == bad_row && c < bad_col)) bad_row = r, bad_col = c;
        }
    }

    int64_t lines, groups, bytes;
    tp_status status = tp_quantize_sizes(q, &lines, &groups, &bytes);
    CHECK(status == TP_OK && lines == o->lines && groups == o->scale_count && bytes == code_bytes,
          "sizes: %s, %lld lines, %lld groups, %lld bytes: %s", tp_status_name(status), (long long)lines,
          (long long)groups, (long long)bytes, text);

    const bool have_zeros = q->range == TP_RANGE_MINMAX || random_below(2);
    uint8_t *codes0 = guarded_take(&code_memory[0], (size_t)code_bytes, at_end);
    float *scales0 = guarded_take(&scale_memory[0], (size_t)o->scale_count * 4, true);
    uint8_t *zeros0 = guarded_take(&zero_memory[0], (size_t)o->scale_count, true);
    if (given) {
        for (int64_t i = 0; i < o->scale_count; i++) {
            scales0[i] = (float)ldexp(0.5 + random_unit(), (int)random_below(20) - 10);
            if (random_below(20) == 0) scales0[i] = random_below(2) ? 0x1p-140f : 0x1p120f;
            zeros0[i] = (uint8_t)(q->qmin + random_below(q->qmax - q->qmin + 1));
        }
    }
    const tp_status expected = oracle_quantize(o, in, codes0, scales0, zeros0, have_zeros);

    for (int tier = 0; tier <= last_tier; tier++) {
        use_tier(tier);
        uint8_t *codes = guarded_take(&code_memory[1], (size_t)code_bytes, at_end);
        float *scales = guarded_take(&scale_memory[1], (size_t)o->scale_count * 4, true);
        uint8_t *zeros = guarded_take(&zero_memory[1], (size_t)o->scale_count, true);
        if (given) {
            memcpy(scales, scales0, (size_t)o->scale_count * 4);
            memcpy(zeros, zeros0, (size_t)o->scale_count);
        }
        bool seen_expected = false, ok = true;
        int64_t begin = 0;
        do {
            const int64_t end = begin < o->lines ? random_cut(o, begin) : begin;
            int64_t scratch_bytes;
            status = tp_quantize_scratch(q, end - begin, &scratch_bytes);
            CHECK(status == TP_OK, "scratch: %s: %s", tp_status_name(status), text);
            void *scratch = scratch_bytes ? guarded_take(&scratch_memory, (size_t)scratch_bytes, true) : NULL;
            status = tp_quantize(q, begin, end, in, codes, scales, have_zeros ? zeros : NULL, scratch);
            seen_expected |= status == expected;
            ok &= status == TP_OK;
            begin = end;
        } while (begin < o->lines);
        CHECK(seen_expected && (expected != TP_OK || ok), "%s: %s, expected %s: %s", tier_name(tier),
              tp_status_name(status), tp_status_name(expected), text);
        if (expected != TP_OK || !ok) continue;
        for (int64_t i = 0; i < o->scale_count; i++) {
            CHECK(same_bits(scales + i, scales0 + i, 4), "%s: scale %lld is %a, not %a: %s", tier_name(tier),
                  (long long)i, (double)scales[i], (double)scales0[i], text);
            CHECK(zeros[i] == zeros0[i], "%s: zero %lld is %d, not %d: %s", tier_name(tier), (long long)i, zeros[i],
                  zeros0[i], text);
        }
        for (int64_t i = 0; i < code_bytes; i++)
            CHECK(codes[i] == codes0[i], "%s: byte %lld of the codes is %02x, not %02x: %s", tier_name(tier),
                  (long long)i, codes[i], codes0[i], text);
    }
    if (expected == TP_ERR_SCALE) return;

    /* From here on any codes will do. */
    if (expected == TP_ERR_NONFINITE) {
        for (int64_t i = 0; i < o->scale_count; i++) scales0[i] = (float)random_unit(), zeros0[i] = (uint8_t)symmetric_zero(o);
        for (int64_t i = 0; i < code_bytes; i++) codes0[i] = (uint8_t)random_bits();
    }
    for (int tier = 0; tier <= last_tier; tier++) {
        use_tier(tier);
        float *out = guarded_take(&float_memory, (size_t)in_count * 4, at_end);
        tp_error *errors = guarded_take(&error_memory, (size_t)o->lines * sizeof *errors, true);
        int64_t begin = 0;
        do {
            const int64_t end = begin < o->lines ? (o->kind == PER_TENSOR ? o->lines : random_cut(o, begin)) : begin;
            status = tp_dequantize(q, begin, end, codes0, scales0, have_zeros ? zeros0 : NULL, out);
            CHECK(status == TP_OK, "%s: dequantize: %s: %s", tier_name(tier), tp_status_name(status), text);
            status = tp_quantize_error(q, begin, end, in, codes0, scales0, have_zeros ? zeros0 : NULL, errors + begin);
            CHECK(status == TP_OK, "%s: error: %s: %s", tier_name(tier), tp_status_name(status), text);
            begin = end;
        } while (begin < o->lines);
        int64_t untouched = 0;
        for (int64_t line = 0; line < o->lines; line++) {
            for (int64_t i = 0; i < o->length; i++) {
                const float x = oracle_decode(o, codes0, scales0, zeros0, have_zeros, line, i);
                float *y = out + in_at(o, line, i);
                CHECK(same_bits(y, &x, 4), "%s: element %lld of line %lld decodes to %a, not %a: %s", tier_name(tier),
                      (long long)i, (long long)line, (double)*y, (double)x, text);
                memset(y, GUARD_FILL, 4);
            }
            const tp_error e = oracle_error(o, in, codes0, scales0, zeros0, have_zeros, line), *f = errors + line;
            CHECK(same_double(e.sum_squared_error, f->sum_squared_error) && same_double(e.sum_squares, f->sum_squares) &&
                      same_double(e.max_error, f->max_error),
                  "%s: errors of line %lld are %a %a %a, not %a %a %a: %s", tier_name(tier), (long long)line,
                  f->sum_squared_error, f->sum_squares, f->max_error, e.sum_squared_error, e.sum_squares, e.max_error,
                  text);
        }
        for (int64_t i = 0; i < in_count * 4; i++) untouched += ((uint8_t *)out)[i] == GUARD_FILL;
        CHECK(untouched == in_count * 4, "%s: dequantize wrote between rows: %s", tier_name(tier), text);

        int64_t row, col;
        status = tp_find_nonfinite(q, in, &row, &col);
        CHECK(status == TP_OK && row == bad_row && col == bad_col, "%s: found (%lld, %lld), not (%lld, %lld): %s",
              tier_name(tier), (long long)row, (long long)col, (long long)bad_row, (long long)bad_col, text);

        const int64_t first = random_below(q->rows + 1), last = first + random_below(q->rows + 1 - first);
        float min = first < last && q->cols ? INFINITY : 0, max = -min, low, high;
        bool finite = true;
        for (int64_t r = first; r < last; r++) {
            for (int64_t c = 0; c < q->cols; c++) {
                const float x = (float)oracle_value(q->in_type, in, r * q->in_stride + c);
                finite &= isfinite(x);
                min = fminf(min, x);
                max = fmaxf(max, x);
            }
        }
        min = min == 0 ? 0 : min;
        max = max == 0 ? 0 : max;
        status = tp_minmax(q, first, last, in, &low, &high);
        CHECK(status == (finite ? TP_OK : TP_ERR_NONFINITE), "%s: minmax: %s: %s", tier_name(tier),
              tp_status_name(status), text);
        CHECK(!finite || (same_bits(&min, &low, 4) && same_bits(&max, &high, 4)), "%s: %a .. %a, not %a .. %a: %s",
              tier_name(tier), (double)low, (double)high, (double)min, (double)max, text);
    }
}

static void run_cases(int count) {
    for (int i = 0; i < count; i++) {
        const oracle o = random_case();
        /* The emulated device takes as long for one as the others for a hundred. */
        run_case(&o, i % 8, random_below(8) == 0, i % 11 ? test_tiers - 1 : test_tiers);
    }
}

/* ---- ties ---- */

/*
 * Values within a few units in the last place of each tie, under a scale that is given; saturated ones; scales whose
 * inverse is denormal or infinite. Twelve rows or columns, one for each scale.
 */
static void check_ties(void) {
    enum { LINES = 12, LENGTH = 2600 };
    static float in[LINES * LENGTH];
    for (int i = 0; i < 160; i++) {
        oracle o = {0};
        tp_quant *q = &o.q;
        const bool columns = i % 2;
        o.kind = columns ? PER_COLUMN : PER_ROW;
        q->rows = columns ? LENGTH : LINES;
        q->cols = q->in_stride = q->out_stride = columns ? LINES : LENGTH;
        q->in_type = q->scale_type = TP_F32;
        q->out_type = TP_I8 + i / 2 % 4;
        q->range = TP_SCALES_GIVEN;
        q->rounding = i / 8 % 2 ? TP_ROUND_MULTIPLY : TP_ROUND_DIVIDE;
        const int values = is_4bit(&o) ? 16 : 256, lowest = is_signed(&o) ? -values / 2 : 0;
        q->qmin = lowest;
        q->qmax = lowest + values - 1;
        finish_case(&o);
        float scales[LINES];
        uint8_t zeros[LINES];
        for (int line = 0; line < LINES; line++) {
            const float extremes[] = {0x1p-149f, 0x1p-127f, 0x1p-113f, 0x1.5p-112f, 0x1.3p126f, 0x1.fp127f, 0x1p-126f, 0x1.8p100f};
            const bool extreme = random_below(3) == 0;
            const float scale = extreme ? extremes[random_below(8)] : (float)ldexp(1 + random_unit(), (int)random_below(60) - 30);
            const int zero = q->qmin + (int)random_below(values);
            scales[line] = scale;
            zeros[line] = (uint8_t)zero;
            for (int k = 0; k < LENGTH; k++) {
                float x = (float)(scale * (random_below(2 * values) - values + 0.5));
                uint32_t bits;
                memcpy(&bits, &x, 4);
                bits += (uint32_t)random_below(9) - 4;
                /* Most columns of a panel, and most parts of a row, should not be near a tie. */
                if (random_below(2)) bits += (uint32_t)random_bits() >> 12;
                memcpy(&x, &bits, 4);
                if (random_below(400) == 0) x = random_below(2) ? NAN : random_below(2) ? INFINITY : -INFINITY;
                if (random_below(100) == 0) x = (float)random_value(2, TP_F32);
                in[in_at(&o, line, k)] = x;
            }
        }
        uint8_t *want = guarded_take(&code_memory[0], (size_t)(is_4bit(&o) ? (o.code_count + 1) / 2 : o.code_count), true);
        oracle_quantize(&o, in, want, scales, zeros, true);
        for (int tier = 0; tier <= test_tiers; tier++) {
            use_tier(tier);
            const size_t bytes = (size_t)(is_4bit(&o) ? (o.code_count + 1) / 2 : o.code_count);
            uint8_t *codes = guarded_take(&code_memory[1], bytes, true);
            void *scratch = guarded_take(&scratch_memory, LENGTH * 64 * 4, true);
            const tp_status status = tp_quantize(q, 0, o.lines, in, codes, scales, zeros, scratch);
            CHECK(status == TP_OK, "%s: %s", tier_name(tier), tp_status_name(status));
            for (size_t k = 0; k < bytes; k++)
                CHECK(codes[k] == want[k], "%s: byte %lld near ties is %02x, not %02x (case %d)", tier_name(tier),
                      (long long)k, codes[k], want[k], i);
        }
    }
}

/* ---- one function per kernel of the family, called through the list ---- */

static void check_quantize(void) {
    /* Every granularity and size with every type of code, plain; then everything at random. */
    for (int k = 0; k < KINDS; k++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            for (int type = TP_I8; type <= TP_U4; type++) {
                oracle o = random_case();
                o.kind = (kind)k;
                o.q.rows = by_column(&o) ? sizes[i] : 2 + random_below(2);
                o.q.cols = by_column(&o) ? 2 + random_below(80) : sizes[i];
                if (k == PER_TENSOR && o.q.cols == 1) continue;
                if (k == PER_COLUMN && o.q.rows == 1) o.q.layout = TP_LAYOUT_SAME;
                o.q.in_stride = o.q.cols + random_below(3);
                o.q.out_type = type;
                const int values = is_4bit(&o) ? 16 : 256, lowest = is_signed(&o) ? -values / 2 : 0;
                o.q.qmin = lowest;
                o.q.qmax = lowest + values - 1;
                o.q.layout = by_column(&o) && random_below(2);
                o.q.pad = (k == BLOCKS_OF_ROW || k == BLOCKS_OF_COLUMN) && random_below(2);
                o.block = 32;
                o.q.out_stride = 0;
                finish_case(&o);
                run_case(&o, (int)random_below(8), false, type == (int)(TP_I8 + i % 4) ? test_tiers : test_tiers - 1);
            }
        }
    }
    run_cases(4000);
}

static tp_quant small_spec(void) {
    return (tp_quant){.rows = 8, .cols = 64, .in_stride = 64, .out_stride = 64, .group_rows = 1, .group_cols = 64,
                      .in_type = TP_F32, .out_type = TP_I8, .scale_type = TP_F32, .qmin = -127, .qmax = 127,
                      .range = TP_RANGE_ABSMAX, .rounding = TP_ROUND_DIVIDE};
}

static void check_minmax(void) {
    tp_quant q = small_spec();
    float x[8 * 64] = {0}, min, max;
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        CHECK(tp_minmax(&q, 0, 8, NULL, &min, &max) == TP_ERR_ARGUMENT, "null input");
        CHECK(tp_minmax(&q, 0, 8, x, NULL, &max) == TP_ERR_ARGUMENT, "null result");
        CHECK(tp_minmax(&q, 0, 9, x, &min, &max) == TP_ERR_RANGE, "range");
        CHECK(tp_minmax(&q, -1, 8, x, &min, &max) == TP_ERR_RANGE, "range");
        CHECK(tp_minmax(&q, 3, 3, NULL, &min, &max) == TP_OK && min == 0 && max == 0, "empty range");
        q.in_type = TP_I8;
        CHECK(tp_minmax(&q, 0, 8, x, &min, &max) == TP_ERR_TYPE, "type");
        q.in_type = TP_F32;
    }
    /* One scale over ranges is that of the whole tensor. */
    for (int i = 0; i < 8 * 64; i++) x[i] = (float)random_value(7, TP_F32);
    for (int range = TP_RANGE_ABSMAX; range <= TP_RANGE_MINMAX; range++) {
        q.range = range;
        q.group_rows = 8;
        float lowest = INFINITY, highest = -INFINITY, scale, whole;
        uint8_t zero, whole_zero, codes[8 * 64], again[8 * 64];
        for (int64_t r = 0; r < 8; r += 2) {
            CHECK(tp_minmax(&q, r, r + 2, x, &min, &max) == TP_OK, "minmax");
            lowest = fminf(lowest, min);
            highest = fmaxf(highest, max);
        }
        CHECK(tp_scale_of(&q, lowest, highest, &scale, &zero) == TP_OK, "scale");
        CHECK(tp_quantize(&q, 0, 8, x, codes, &whole, &whole_zero, NULL) == TP_OK, "per tensor");
        CHECK(scale == whole && zero == whole_zero, "scale of ranges %a %d, of the whole %a %d", (double)scale, zero,
              (double)whole, whole_zero);
        CHECK(tp_quantize(&q, 0, 4, x, codes, &whole, &whole_zero, NULL) == TP_ERR_RANGE, "part of a tensor");
        q.range = TP_SCALES_GIVEN;
        CHECK(tp_quantize(&q, 0, 3, x, again, &scale, &zero, NULL) == TP_OK, "given");
        CHECK(tp_quantize(&q, 3, 8, x, again, &scale, &zero, NULL) == TP_OK, "given");
        CHECK(same_bits(codes, again, sizeof codes), "codes in two ranges");
    }
    CHECK(tp_scale_of(&q, 0, 1, &max, NULL) == TP_ERR_ARGUMENT, "no scale follows when scales are given");
    q.range = TP_RANGE_MINMAX;
    uint8_t zero;
    CHECK(tp_scale_of(&q, 1, 0, &max, &zero) == TP_ERR_ARGUMENT, "minimum above maximum");
    CHECK(tp_scale_of(&q, NAN, 0, &max, &zero) == TP_ERR_NONFINITE, "NaN");
    CHECK(tp_scale_of(&q, 0, INFINITY, &max, &zero) == TP_ERR_NONFINITE, "infinity");
    CHECK(tp_scale_of(&q, 0, 1, &max, NULL) == TP_ERR_ARGUMENT, "null zero point of an asymmetric range");
    q.scale_type = TP_F16;
    CHECK(tp_scale_of(&q, 0, 1e8f, &max, &zero) == TP_ERR_SCALE, "scale beyond f16");
    CHECK(tp_scale_of(&q, 0, 1e-8f, &max, &zero) == TP_OK && max == 0x1p-24f, "scale below f16");
    CHECK(tp_scale_of(&q, 0, 0, &max, &zero) == TP_OK && max == 1 && (int8_t)zero == -127, "all zero");
    CHECK(tp_scale_of(&q, -FLT_MAX, FLT_MAX, &max, &zero) == TP_ERR_SCALE, "widest range");
    q.scale_type = TP_F32;
    CHECK(tp_scale_of(&q, -FLT_MAX, FLT_MAX, &max, &zero) == TP_OK && isfinite(max), "widest range");
    CHECK(tp_scale_of(&q, 0, 0x1p-149f, &max, &zero) == TP_OK && max == FLT_MIN, "smallest scale");
}

static void check_dequantize(void) {
    tp_quant q = small_spec();
    uint8_t codes[8 * 64] = {0};
    float scales[8] = {0}, out[8 * 64];
    q.in_type = q.scale_type = q.range = q.rounding = q.clip_steps = -1; /* not used */
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        CHECK(tp_dequantize(&q, 0, 8, codes, scales, NULL, out) == TP_OK, "unused fields");
        CHECK(tp_dequantize(&q, 0, 9, codes, scales, NULL, out) == TP_ERR_RANGE, "range");
        CHECK(tp_dequantize(&q, 0, 8, NULL, scales, NULL, out) == TP_ERR_ARGUMENT, "null codes");
        CHECK(tp_dequantize(&q, 0, 8, codes, NULL, NULL, out) == TP_ERR_ARGUMENT, "null scales");
        CHECK(tp_dequantize(&q, 0, 8, codes, scales, NULL, NULL) == TP_ERR_ARGUMENT, "null output");
        CHECK(tp_dequantize(&q, 2, 2, NULL, NULL, NULL, NULL) == TP_OK, "empty range");
    }
}

static void check_quantize_error(void) {
    tp_quant q = small_spec();
    uint8_t codes[8 * 64] = {0};
    float scales[8] = {0}, in[8 * 64] = {0};
    tp_error errors[8];
    q.scale_type = q.range = q.rounding = q.clip_steps = -1; /* not used */
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        CHECK(tp_quantize_error(&q, 0, 8, in, codes, scales, NULL, errors) == TP_OK, "unused fields");
        CHECK(tp_quantize_error(&q, 5, 4, in, codes, scales, NULL, errors) == TP_ERR_RANGE, "range");
        CHECK(tp_quantize_error(&q, 0, 8, NULL, codes, scales, NULL, errors) == TP_ERR_ARGUMENT, "null input");
        CHECK(tp_quantize_error(&q, 0, 8, in, codes, scales, NULL, NULL) == TP_ERR_ARGUMENT, "null result");
        in[64] = NAN;
        in[128] = -INFINITY;
        CHECK(tp_quantize_error(&q, 0, 8, in, codes, scales, NULL, errors) == TP_OK, "not finite");
        CHECK(isnan(errors[1].max_error) && isnan(errors[1].sum_squared_error) && isnan(errors[1].sum_squares), "NaN");
        CHECK(isinf(errors[2].max_error) && isinf(errors[2].sum_squares) && errors[0].max_error == 0, "infinity");
        in[64] = in[128] = 0;
    }
}

/* Sizes around the widths that the variants work in. */
static int64_t some_count(int i) { return i < 200 ? i : i - 200 + 1000; }
enum { COUNTS = 240 };

static void check_pack4(void) {
    for (int i = 0; i < COUNTS; i++) {
        const int64_t n = some_count(i);
        uint8_t *codes = guarded_take(&in_memory, (size_t)n, true);
        for (int64_t k = 0; k < n; k++) codes[k] = (uint8_t)random_bits();
        for (int tier = 0; tier <= test_tiers; tier++) {
            use_tier(tier);
            uint8_t *packed = guarded_take(&code_memory[0], (size_t)(n + 1) / 2, i % 2);
            CHECK(tp_pack4(codes, n, packed) == TP_OK, "pack4");
            for (int64_t k = 0; k < n + n % 2; k++) {
                const int nibble = packed[k / 2] >> k % 2 * 4 & 15, want = k < n ? codes[k] & 15 : 0;
                CHECK(nibble == want, "%s: nibble %lld of %lld", tier_name(tier), (long long)k, (long long)n);
            }
        }
    }
    uint8_t byte = 0;
    CHECK(tp_pack4(NULL, 1, &byte) == TP_ERR_ARGUMENT, "null codes");
    CHECK(tp_pack4(&byte, 1, NULL) == TP_ERR_ARGUMENT, "null output");
    CHECK(tp_pack4(&byte, -1, &byte) == TP_ERR_SHAPE, "negative size");
    CHECK(tp_pack4(NULL, 0, NULL) == TP_OK, "nothing");
}

static void check_unpack4(void) {
    for (int i = 0; i < COUNTS; i++) {
        const int64_t n = some_count(i);
        uint8_t *packed = guarded_take(&in_memory, (size_t)(n + 1) / 2, true);
        for (int64_t k = 0; k < (n + 1) / 2; k++) packed[k] = (uint8_t)random_bits();
        for (int tier = 0; tier <= test_tiers; tier++) {
            use_tier(tier);
            for (tp_dtype type = TP_I4; type <= TP_U4; type++) {
                uint8_t *codes = guarded_take(&code_memory[0], (size_t)n, i % 2);
                CHECK(tp_unpack4(type, packed, n, codes) == TP_OK, "unpack4");
                for (int64_t k = 0; k < n; k++) {
                    int want = packed[k / 2] >> k % 2 * 4 & 15;
                    if (type == TP_I4 && want > 7) want -= 16;
                    CHECK(codes[k] == (uint8_t)want, "%s: code %lld of %lld", tier_name(tier), (long long)k,
                          (long long)n);
                }
            }
        }
    }
    uint8_t byte = 0;
    CHECK(tp_unpack4(TP_I8, &byte, 1, &byte) == TP_ERR_TYPE, "type");
    CHECK(tp_unpack4(TP_I4, NULL, 1, &byte) == TP_ERR_ARGUMENT, "null input");
    CHECK(tp_unpack4(TP_I4, &byte, -1, &byte) == TP_ERR_SHAPE, "negative size");
}

static void check_conversion(tp_dtype from, tp_dtype to, const void *in, int64_t n) {
    const int64_t size = to == TP_F32 ? 4 : 2;
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        char *out = guarded_take(&float_memory, (size_t)(n * size), true);
        CHECK(tp_convert(from, in, n, to, out) == TP_OK, "convert");
        for (int64_t i = 0; i < n; i++) {
            const double x = oracle_value(from, in, i);
            bool same;
            if (isnan(x)) {
                /* Quiet, with the upper bits of its payload. */
                uint32_t a, b, quiet = 0x400000;
                memcpy(&a, (const char *)in + 4 * i, from == TP_F32 ? 4 : 0);
                if (from != TP_F32) {
                    uint16_t h;
                    memcpy(&h, (const char *)in + 2 * i, 2);
                    a = (h & 0x8000u) << 16 | 0x7f800000 | (from == TP_F16 ? (h & 0x3ff) << 13 : (h & 0x7f) << 16);
                }
                a |= from == to ? 0 : quiet;
                if (to == TP_F32) {
                    memcpy(&b, out + 4 * i, 4);
                } else {
                    const uint32_t h = ((const uint16_t *)out)[i], kept = to == TP_F16 ? 13 : 16;
                    b = (h & 0x8000) << 16 | 0x7f800000 | (h & ((1u << (23 - kept)) - 1)) << kept;
                    a = a >> kept << kept;
                }
                same = a == b;
            } else if (to == TP_F32) {
                const float y = (float)x;
                same = same_bits(&y, out + 4 * i, 4);
            } else {
                same = ((const uint16_t *)out)[i] == oracle_round(to, x);
            }
            CHECK(same, "%s: %a of type %d converted to type %d (element %lld of %lld)", tier_name(tier), x, from,
                  to, (long long)i, (long long)n);
        }
    }
}

static void check_convert(void) {
    /* Every value of the small types. */
    uint16_t all[1 << 16];
    for (int i = 0; i < 1 << 16; i++) all[i] = (uint16_t)i;
    for (tp_dtype from = TP_F16; from <= TP_BF16; from++)
        for (tp_dtype to = TP_F32; to <= TP_BF16; to++) check_conversion(from, to, all, 1 << 16);
    /* f32 near every boundary between values of the small types, and at random. */
    for (int i = 0; i < COUNTS; i++) {
        const int64_t n = some_count(i);
        char *x = guarded_input(&in_memory, (size_t)n * 4, true, i % 4);
        for (int64_t k = 0; k < n; k++) {
            uint32_t bits = (uint32_t)random_bits();
            if (random_below(2)) bits = (bits & 0xffffe000) + (uint32_t)random_below(3) - 1 + (bits & 0x1000);
            if (random_below(2)) bits = (bits & 0x8fffffff) | 0x30000000 | (bits & 0x0f000000);
            if (random_below(16) == 0) bits = (bits & 0x80000000) | 0x7f800000 | (uint32_t)random_below(3) << random_below(22);
            memcpy(x + 4 * k, &bits, 4);
        }
        for (tp_dtype to = TP_F32; to <= TP_BF16; to++) check_conversion(TP_F32, to, x, n);
        const int64_t half = n;
        for (tp_dtype from = TP_F16; from <= TP_BF16; from++) {
            uint8_t *h = guarded_input(&in_memory, (size_t)half * 2, true, i % 4);
            for (int64_t k = 0; k < half * 2; k++) h[k] = (uint8_t)random_bits();
            for (tp_dtype to = TP_F32; to <= TP_BF16; to++) check_conversion(from, to, h, half);
        }
    }
    float x = 0, y;
    CHECK(tp_convert(TP_I8, &x, 1, TP_F32, &y) == TP_ERR_TYPE, "type");
    CHECK(tp_convert(TP_F32, &x, 1, TP_U4, &y) == TP_ERR_TYPE, "type");
    CHECK(tp_convert(TP_F32, NULL, 1, TP_F16, &y) == TP_ERR_ARGUMENT, "null input");
    CHECK(tp_convert(TP_F32, &x, -1, TP_F16, &y) == TP_ERR_SHAPE, "negative size");
    CHECK(tp_convert(TP_F32, NULL, 0, TP_F16, NULL) == TP_OK, "nothing");
}

static void check_find_nonfinite(void) {
    tp_quant q = small_spec();
    int64_t row, col;
    use_tier(0);
    CHECK(tp_find_nonfinite(&q, NULL, &row, &col) == TP_ERR_ARGUMENT, "null input");
    CHECK(tp_find_nonfinite(&q, &row, NULL, &col) == TP_ERR_ARGUMENT, "null result");
    q.in_type = TP_U8;
    CHECK(tp_find_nonfinite(&q, &row, &row, &col) == TP_ERR_TYPE, "type");
    /* A value that is not finite between the rows is none of the matrix. */
    q = small_spec();
    q.cols = 63;
    float x[8 * 64];
    for (int i = 0; i < 8 * 64; i++) x[i] = i % 64 == 63 ? NAN : 1;
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        CHECK(tp_find_nonfinite(&q, x, &row, &col) == TP_OK && row == -1 && col == -1, "between rows");
    }
}

/* ---- arguments of tp_quantize ---- */

static void expect(tp_status expected, const char *what, const tp_quant *q, int64_t begin, int64_t end) {
    static float in[64 * 64];
    static uint8_t codes[64 * 64], zeros[64 * 64];
    static float scales[64 * 64];
    static char scratch[64 * 64 * 4] __attribute__((aligned(64)));
    const tp_status status = tp_quantize(q, begin, end, in, codes, scales, zeros, scratch);
    CHECK(status == expected, "%s: %s, expected %s", what, tp_status_name(status), tp_status_name(expected));
}

#define EXPECT(expected, ...)                                                                                         \
    do {                                                                                                              \
        tp_quant q = small_spec();                                                                                    \
        __VA_ARGS__;                                                                                                  \
        expect(expected, #__VA_ARGS__, &q, 0, q.rows);                                                                \
    } while (0)

static void check_arguments(int tier) {
    use_tier(tier);
    all_on_host = true;
    EXPECT(TP_OK, (void)q);
    EXPECT(TP_ERR_TYPE, q.in_type = TP_I8);
    EXPECT(TP_ERR_TYPE, q.in_type = 0);
    EXPECT(TP_ERR_TYPE, q.out_type = TP_F32);
    EXPECT(TP_ERR_TYPE, q.out_type = 8);
    EXPECT(TP_ERR_TYPE, q.scale_type = TP_U8);
    EXPECT(TP_ERR_ARGUMENT, q.range = 0);
    EXPECT(TP_ERR_ARGUMENT, q.range = 5);
    EXPECT(TP_ERR_ARGUMENT, q.rounding = 0);
    EXPECT(TP_ERR_ARGUMENT, q.rounding = 3);
    EXPECT(TP_ERR_ARGUMENT, q.layout = 2);
    EXPECT(TP_ERR_ARGUMENT, q.pad = -1);
    EXPECT(TP_ERR_ARGUMENT, q.clip_steps = -1);
    EXPECT(TP_ERR_ARGUMENT, q.clip_steps = 65);
    EXPECT(TP_ERR_ARGUMENT, q.clip_steps = 2, q.clip_min = 0);
    EXPECT(TP_ERR_ARGUMENT, q.clip_steps = 2, q.clip_min = 1.5f);
    EXPECT(TP_ERR_ARGUMENT, q.clip_steps = 2, q.clip_min = NAN);
    EXPECT(TP_OK, q.clip_steps = 1, q.clip_min = NAN);
    EXPECT(TP_ERR_ARGUMENT, q.power_of_two = 2);
    static const float importance[8 * 64];
    EXPECT(TP_OK, q.importance = importance, q.importance_parts = 1, q.clip_steps = 2, q.clip_min = 1);
    EXPECT(TP_OK, q.importance = importance, q.importance_parts = 4);
    EXPECT(TP_ERR_ARGUMENT, q.importance = importance, q.importance_parts = -1);
    EXPECT(TP_ERR_SHAPE, q.importance = importance, q.importance_parts = 3);
    EXPECT(TP_ERR_SHAPE, q.importance = importance);
    EXPECT(TP_ERR_SHAPE, q.importance = importance, q.importance_parts = 1, q.group_rows = 8, q.group_cols = 1);
    EXPECT(TP_OK, q.importance = importance, q.group_rows = 8);
    EXPECT(TP_ERR_ARGUMENT, q.qmin = -129);
    EXPECT(TP_ERR_ARGUMENT, q.qmax = 128);
    EXPECT(TP_ERR_ARGUMENT, q.qmin = 5, q.qmax = 5);
    EXPECT(TP_ERR_ARGUMENT, q.qmin = 0, q.qmax = 127);
    EXPECT(TP_OK, q.qmin = 0, q.qmax = 127, q.range = TP_RANGE_ABSMAX_FULL);
    EXPECT(TP_ERR_ARGUMENT, q.qmin = 1, q.qmax = 127, q.range = TP_RANGE_ABSMAX_FULL);
    EXPECT(TP_OK, q.qmin = 1, q.qmax = 127, q.range = TP_RANGE_MINMAX);
    EXPECT(TP_ERR_ARGUMENT, q.out_type = TP_U4, q.qmin = 0, q.qmax = 16);
    EXPECT(TP_ERR_SHAPE, q.rows = -1);
    EXPECT(TP_ERR_SHAPE, q.cols = -1);
    EXPECT(TP_ERR_SHAPE, q.in_stride = 63);
    EXPECT(TP_ERR_SHAPE, q.out_stride = 63);
    EXPECT(TP_ERR_SHAPE, q.group_cols = 24);
    EXPECT(TP_ERR_SHAPE, q.group_cols = 0);
    EXPECT(TP_ERR_SHAPE, q.group_cols = 272);
    EXPECT(TP_ERR_SHAPE, q.group_rows = 2);
    EXPECT(TP_ERR_SHAPE, q.group_rows = 2, q.group_cols = 32);
    EXPECT(TP_ERR_SHAPE, q.layout = TP_LAYOUT_TRANSPOSED);
    EXPECT(TP_ERR_SHAPE, q.cols = 40, q.group_cols = 40, q.pad = 1);
    EXPECT(TP_ERR_SHAPE, q.group_rows = 8, q.pad = 1);
    EXPECT(TP_OK, q.cols = 40, q.group_cols = 32, q.pad = 1);
    EXPECT(TP_ERR_SHAPE, q.cols = 40, q.out_stride = 63, q.group_cols = 32, q.pad = 1);
    EXPECT(TP_ERR_SHAPE, q.rows = INT64_MAX, q.group_cols = 32);
    EXPECT(TP_ERR_SHAPE, q.rows = INT64_C(1) << 58, q.group_cols = 32);
    EXPECT(TP_ERR_SHAPE, q.in_stride = INT64_MAX, q.group_cols = 32);
    EXPECT(TP_ERR_SHAPE, q.out_stride = INT64_MAX, q.group_cols = 32);

    tp_quant q = small_spec();
    expect(TP_ERR_RANGE, "begin below 0", &q, -1, 4);
    expect(TP_ERR_RANGE, "end beyond the lines", &q, 0, 9);
    expect(TP_ERR_RANGE, "begin above end", &q, 5, 4);
    q.out_type = TP_I4;
    q.qmin = -7;
    q.qmax = 7;
    q.cols = q.group_cols = 63;
    q.out_stride = 63;
    expect(TP_ERR_RANGE, "4-bit rows cut within a byte", &q, 0, 1);
    expect(TP_ERR_RANGE, "4-bit rows cut within a byte", &q, 1, 8);
    expect(TP_OK, "4-bit rows cut between bytes", &q, 2, 4);
    q.group_rows = 8;
    q.group_cols = 1;
    expect(TP_ERR_RANGE, "4-bit columns cut within a byte", &q, 1, 4);
    expect(TP_ERR_RANGE, "4-bit columns cut within a byte", &q, 0, 5);
    expect(TP_OK, "4-bit columns to the last", &q, 2, 63);
    q.layout = TP_LAYOUT_TRANSPOSED;
    expect(TP_ERR_RANGE, "4-bit transposed columns cut within a byte", &q, 1, 4);

    q = small_spec();
    float in[8 * 64] = {0}, scales[64];
    uint8_t codes[8 * 64], zeros[64] = {0};
    char scratch[8 * 64 * 4 + 64] __attribute__((aligned(64)));
    CHECK(tp_quantize(NULL, 0, 8, in, codes, scales, zeros, NULL) == TP_ERR_ARGUMENT, "null spec");
    CHECK(tp_quantize(&q, 0, 8, NULL, codes, scales, zeros, NULL) == TP_ERR_ARGUMENT, "null input");
    CHECK(tp_quantize(&q, 0, 8, in, NULL, scales, zeros, NULL) == TP_ERR_ARGUMENT, "null codes");
    CHECK(tp_quantize(&q, 0, 8, in, codes, NULL, zeros, NULL) == TP_ERR_ARGUMENT, "null scales");
    CHECK(tp_quantize(&q, 0, 8, in, codes, scales, NULL, NULL) == TP_OK, "null zeros, symmetric");
    CHECK(tp_quantize(&q, 4, 4, NULL, NULL, NULL, NULL, NULL) == TP_OK, "nothing to do");
    q.range = TP_RANGE_MINMAX;
    CHECK(tp_quantize(&q, 0, 8, in, codes, scales, NULL, NULL) == TP_ERR_ARGUMENT, "null zeros, asymmetric");
    q.range = TP_SCALES_GIVEN;
    const float bad[] = {0, -1, INFINITY, NAN};
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 8; k++) scales[k] = 1;
        scales[5] = bad[i];
        CHECK(tp_quantize(&q, 0, 8, in, codes, scales, zeros, NULL) == TP_ERR_SCALE, "given scale %g", (double)bad[i]);
        CHECK(tp_quantize(&q, 0, 5, in, codes, scales, zeros, NULL) == TP_OK, "scales of the range only");
    }
    scales[5] = 1;
    zeros[5] = (uint8_t)-128;
    CHECK(tp_quantize(&q, 0, 8, in, codes, scales, zeros, NULL) == TP_ERR_SCALE, "given zero point below qmin");
    q.range = TP_RANGE_ABSMAX;
    q.group_rows = 8;
    q.group_cols = 1;
    if (!on_cuda) {
        CHECK(tp_quantize(&q, 0, 64, in, codes, scales, zeros, NULL) == TP_ERR_ARGUMENT, "null scratch");
        CHECK(tp_quantize(&q, 0, 64, in, codes, scales, zeros, scratch + 4) == TP_ERR_ARGUMENT, "misaligned scratch");
    }

    int64_t a, b, c;
    CHECK(tp_quantize_sizes(NULL, &a, &b, &c) == TP_ERR_ARGUMENT, "null spec");
    CHECK(tp_quantize_sizes(&q, &a, NULL, &c) == TP_ERR_ARGUMENT, "null result");
    CHECK(tp_quantize_scratch(&q, 65, &a) == TP_ERR_RANGE, "more lines than there are");
    CHECK(tp_quantize_scratch(&q, 64, NULL) == TP_ERR_ARGUMENT, "null result");
    all_on_host = false;
}

/* Every kernel of the list has a check above and a variant of its own in every tier of this build. */
static void check_list(void) {
#define VARIANTS(name, params)                                                                                        \
    for (int tier = 0; tier < TP_TIERS_BUILT; tier++)                                                                 \
        CHECK(tp_quantize_tables[tier].name && (tier == 0 || tp_quantize_tables[tier].name != tp_quantize_tables[0].name), \
              "%s of tier %s", #name, tp_tier_name(tier));                                                            \
    printf("%-16s", #name);                                                                                           \
    for (int tier = 0; tier < TP_TIERS_BUILT; tier++) printf(" %s%s", tp_tier_name(tier), tier < test_tiers ? "" : "(skipped)"); \
    printf(" cuda\n");                                                                                                \
    check_##name();
    TP_QUANTIZE_KERNELS(VARIANTS)
}

int main(void) {
    test_start("test_quantize");
    const size_t large = 8u << 20;
    in_memory = guarded_new(large);
    importance_memory = guarded_new(large);
    for (int i = 0; i < 2; i++) {
        code_memory[i] = guarded_new(large);
        scale_memory[i] = guarded_new(large);
        zero_memory[i] = guarded_new(large);
    }
    scratch_memory = guarded_new(large);
    float_memory = guarded_new(large);
    error_memory = guarded_new(large);
    while (test_round()) {
        check_arguments(test_tiers - 1);
        check_arguments(test_tiers);
        check_ties();
        check_list();
    }
    check_calls();
    return test_end();
}
