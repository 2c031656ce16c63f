/* Part of vector.h: from codes back to values, and how far these are from the original ones. */

INLINE vf decode(bool is_signed, const uint8_t *code, vf scale, vf zero) {
    return vf_mul(vf_sub(is_signed ? vf_of_i8(code) : vf_of_u8(code), zero), scale);
}

/* Codes of a row that are looked at together: whole groups where they are small. */
static int64_t chunk_of(const tp_plan *p) {
    return p->groups > 1 ? 1024 / p->group * p->group : 1024;
}

/* Codes i .. i + n of columns c .. c + width, as rows of TP_PANEL; n <= TILE. */
static void read_codes(const tp_plan *p, const void *codes, int64_t c, int64_t width, int64_t i, int64_t n,
                       uint8_t *tile) {
    if (!p->code_lines) {
        for (int64_t r = 0; r < n; r++) get_codes(p->out_type, codes, tp_code_index(p, c, i + r), width, tile + r * TP_PANEL);
        return;
    }
    uint8_t lines[TP_PANEL * TILE] __attribute__((aligned(64)));
    for (int64_t k = 0; k < width; k++) get_codes(p->out_type, codes, tp_code_index(p, c + k, i), n, lines + k * TILE);
    for (int64_t r = 0; r < n; r += 16)
        for (int64_t k = 0; k < width; k += 16) transpose16(lines + k * TILE + r, TILE, tile + r * TP_PANEL + k, TP_PANEL);
}

/* Scales and zero points of a group in the columns c .. c + width. */
static void read_scales(const tp_plan *p, const float *scales, const uint8_t *zeros, int64_t c, int64_t width,
                        int64_t g, float *scale, float *zero) {
    for (int64_t k = 0; k < TP_PANEL; k++) {
        scale[k] = k < width ? scales[tp_scale_index(p, c + k, g)] : 0;
        zero[k] = k < width ? tp_zero_at(p, zeros, tp_scale_index(p, c + k, g)) : 0;
    }
}

INLINE void decode_run(bool sign, const uint8_t *code, int64_t n, float scale, float zero, float *out) {
    const vf s = vf_set(scale), z = vf_set(zero);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) vf_store(out + i, decode(sign, code + i, s, z));
    if (i < n) vf_store_part(out + i, decode(sign, code + i, s, z), n - i);
}

static void dequantize_rows(const tp_plan *p, int64_t begin, int64_t end, const void *codes, const float *scales,
                            const uint8_t *zeros, float *out) {
    const int64_t chunk = chunk_of(p);
    uint8_t code[1024 + 16] = {0};
    for (int64_t line = begin; line < end; line++) {
        for (int64_t start = 0; start < p->length; start += chunk) {
            const int64_t n = smaller(chunk, p->length - start), group = smaller(p->group, chunk);
            get_codes(p->out_type, codes, tp_code_index(p, line, start), n, code);
            for (int64_t i = 0; i < n; i += group) {
                const int64_t from = tp_scale_index(p, line, (start + i) / p->group), length = smaller(group, n - i);
                float *to = out + tp_in_index(p, line, start + i);
                if (is_signed(p))
                    decode_run(true, code + i, length, scales[from], tp_zero_at(p, zeros, from), to);
                else
                    decode_run(false, code + i, length, scales[from], tp_zero_at(p, zeros, from), to);
            }
        }
    }
}

INLINE void decode_panel(bool sign, const uint8_t *tile, int64_t width, int64_t n, const float *scale,
                         const float *zero, float *out, int64_t stride) {
    for (int64_t v = 0; v < width; v += 16) {
        const vf s = vf_load(scale + v), z = vf_load(zero + v);
        for (int64_t r = 0; r < n; r++) {
            const vf x = decode(sign, tile + r * TP_PANEL + v, s, z);
            if (v + 16 <= width)
                vf_store(out + r * stride + v, x);
            else
                vf_store_part(out + r * stride + v, x, width - v);
        }
    }
}

static void dequantize_columns(const tp_plan *p, int64_t begin, int64_t end, const void *codes, const float *scales,
                               const uint8_t *zeros, float *out) {
    uint8_t tile[TILE * TP_PANEL] __attribute__((aligned(64))) = {0};
    float scale[TP_PANEL], zero[TP_PANEL];
    for (int64_t c = begin; c < end; c += TP_PANEL) {
        const int64_t width = smaller(TP_PANEL, end - c);
        for (int64_t g = 0; g < p->groups; g++) {
            const int64_t stop = smaller((g + 1) * p->group, p->length);
            read_scales(p, scales, zeros, c, width, g, scale, zero);
            for (int64_t i = g * p->group; i < stop; i += TILE) {
                const int64_t n = smaller(TILE, stop - i);
                read_codes(p, codes, c, width, i, n, tile);
                decode_panel(is_signed(p), tile, width, n, scale, zero, out + i * p->in_stride + c, p->in_stride);
            }
        }
    }
}

tp_status TP_VARIANT(dequantize)(const tp_plan *p, int64_t begin, int64_t end, const void *codes, const float *scales,
                                 const uint8_t *zeros, float *out) {
    if (p->by_column)
        dequantize_columns(p, begin, end, codes, scales, zeros, out);
    else
        dequantize_rows(p, begin, end, codes, scales, zeros, out);
    return TP_OK;
}

typedef struct totals {
    vd error, square, max;
} totals;

INLINE void add_error(totals *t, vf x, vf y) {
    const vd x64 = vd_of(x), d = vd_sub(x64, vd_of(y));
    t->error = vd_add(t->error, vd_mul(d, d));
    t->square = vd_add(t->square, vd_mul(x64, x64));
    t->max = vd_max_abs(t->max, d);
}

INLINE void error_run(tp_dtype type, bool sign, totals *t, const void *in, const uint8_t *code, int64_t n, float scale,
                      float zero) {
    const vf s = vf_set(scale), z = vf_set(zero);
    totals sum = *t;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) add_error(&sum, load(type, at(in, type, i)), decode(sign, code + i, s, z));
    if (i < n) {
        /* Both sides of the lanes past the end are made zero. */
        float y[16] = {0};
        vf_store_part(y, decode(sign, code + i, s, z), n - i);
        add_error(&sum, load_part(type, at(in, type, i), n - i), vf_load(y));
    }
    *t = sum;
}

INLINE void error_run_typed(tp_dtype type, const tp_plan *p, totals *t, const void *in, const uint8_t *code,
                            int64_t n, float scale, float zero) {
    if (is_signed(p))
        error_run(type, true, t, in, code, n, scale, zero);
    else
        error_run(type, false, t, in, code, n, scale, zero);
}

static void error_rows(const tp_plan *p, int64_t begin, int64_t end, const void *in, const void *codes,
                       const float *scales, const uint8_t *zeros, tp_error *errors) {
    const int64_t chunk = chunk_of(p);
    uint8_t code[1024 + 16] = {0};
    for (int64_t line = begin; line < end; line++) {
        totals t = {vd_zero(), vd_zero(), vd_zero()};
        for (int64_t start = 0; start < p->length; start += chunk) {
            const int64_t n = smaller(chunk, p->length - start), group = smaller(p->group, chunk);
            get_codes(p->out_type, codes, tp_code_index(p, line, start), n, code);
            for (int64_t i = 0; i < n; i += group) {
                const int64_t from = tp_scale_index(p, line, (start + i) / p->group);
                const void *x = at(in, p->in_type, tp_in_index(p, line, start + i));
                FOR_TYPE(p->in_type, error_run_typed, p, &t, x, code + i, smaller(group, n - i), scales[from],
                         tp_zero_at(p, zeros, from));
            }
        }
        errors[line - begin] = tp_error_of(vd_sum(t.error), vd_sum(t.square), vd_hmax(t.max));
    }
}

INLINE void error_panel(tp_dtype type, const tp_plan *p, totals *t, const void *in, const uint8_t *tile,
                        int64_t width, int64_t n, const float *scale, const float *zero) {
    for (int64_t v = 0; v < width; v += 16) {
        const vf s = vf_load(scale + v), z = vf_load(zero + v);
        totals sum = t[v / 16];
        for (int64_t r = 0; r < n; r++) {
            const vf x = load_part(type, at(in, type, r * p->in_stride + v), width - v);
            /* The first quarter of the panel brings the rest, and the rows below. */
            for (int64_t b = 0; v == 0 && b < TP_PANEL * tp_size_of(type); b += 64)
                prefetch_far(at(in, type, r * p->in_stride), AHEAD_ROWS * p->in_stride * tp_size_of(type) + b);
            const uint8_t *code = tile + r * TP_PANEL + v;
            add_error(&sum, x, is_signed(p) ? decode(true, code, s, z) : decode(false, code, s, z));
        }
        t[v / 16] = sum;
    }
}

static void error_columns(const tp_plan *p, int64_t begin, int64_t end, const void *in, const void *codes,
                          const float *scales, const uint8_t *zeros, tp_error *errors) {
    uint8_t tile[TILE * TP_PANEL] __attribute__((aligned(64))) = {0};
    float scale[TP_PANEL], zero[TP_PANEL];
    for (int64_t c = begin; c < end; c += TP_PANEL) {
        const int64_t width = smaller(TP_PANEL, end - c);
        totals t[TP_PANEL / 16];
        for (int v = 0; v < TP_PANEL / 16; v++) t[v] = (totals){vd_zero(), vd_zero(), vd_zero()};
        for (int64_t g = 0; g < p->groups; g++) {
            const int64_t stop = smaller((g + 1) * p->group, p->length);
            read_scales(p, scales, zeros, c, width, g, scale, zero);
            for (int64_t i = g * p->group; i < stop; i += TILE) {
                const int64_t n = smaller(TILE, stop - i);
                read_codes(p, codes, c, width, i, n, tile);
                FOR_TYPE(p->in_type, error_panel, p, t, at(in, p->in_type, tp_in_index(p, c, i)), tile, width, n, scale, zero);
            }
        }
        for (int64_t v = 0; v < width; v += 16) {
            double error[16], square[16], max[16];
            vd_store(error, t[v / 16].error);
            vd_store(square, t[v / 16].square);
            vd_store(max, t[v / 16].max);
            for (int64_t k = 0; k < smaller(16, width - v); k++)
                errors[c + v + k - begin] = tp_error_of(error[k], square[k], max[k]);
        }
    }
}

tp_status TP_VARIANT(quantize_error)(const tp_plan *p, int64_t begin, int64_t end, const void *in, const void *codes,
                                     const float *scales, const uint8_t *zeros, tp_error *errors) {
    if (p->by_column)
        error_columns(p, begin, end, in, codes, scales, zeros, errors);
    else
        error_rows(p, begin, end, in, codes, scales, zeros, errors);
    return TP_OK;
}
