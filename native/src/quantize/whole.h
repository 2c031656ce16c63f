/*
 * Part of vector.h: quantizes whole columns of f32, neither transposed nor with clip search, in two passes over wide
 * panels: ranges, then codes. Memory is mostly read twice, but a page of each of several rows at a time: the hardware reads
 * ahead in several pages at once, never in vain, and that is faster than panels so narrow that a cache holds them. Halves
 * are left to columns.h: to decode them twice takes longer.
 */

/* Rows that are read together, and how many rows below the next ones the prefetches are. */
enum { ABREAST = 16, BELOW = 4 };

/* Rows r .. r + n of the 64 columns from c of a panel, as far as it has them. */
typedef struct patch {
    const tp_plan *plan;
    panel *panel;
    const void *in;
    int64_t c, r, n;
} patch;

INLINE const void *patch_row(const patch *t, int64_t r) {
    return at(t->in, TP_F32, tp_in_index(t->plan, t->panel->column + t->c, t->r + r));
}

INLINE void prefetch_below(const patch *t, const void *row) {
    for (int64_t b = 0; b < 64 * 4; b += 64) prefetch(row, BELOW * t->plan->in_stride * 4 + b);
}

INLINE vf patch_load(bool full, const patch *t, const void *row, int64_t v) {
    return full ? vf_load(at(row, TP_F32, v)) : load_part(TP_F32, at(row, TP_F32, v), t->panel->width - t->c - v);
}

INLINE void magnitudes_of(bool full, const patch *t) {
    float *max = t->panel->max + t->c;
#define EACH(v) vi abs##v = vi_of_bits(vf_load(max + 16 * v));
    EACH(0) EACH(1) EACH(2) EACH(3)
#undef EACH
    for (int64_t r = 0; r < t->n; r++) {
        const void *x = patch_row(t, r);
        prefetch_below(t, x);
#define EACH(v) abs##v = vi_max_abs(abs##v, patch_load(full, t, x, 16 * v));
        EACH(0) EACH(1) EACH(2) EACH(3)
#undef EACH
    }
#define EACH(v) vf_store(max + 16 * v, vf_of_bits(abs##v));
    EACH(0) EACH(1) EACH(2) EACH(3)
#undef EACH
}

/* With signs, half as many columns at once: AVX2 has no registers for more. */
INLINE void extremes_of(bool full, const patch *t, vi *bits) {
    for (int64_t c = 0; c < 64; c += 32) {
        float *min = t->panel->min + t->c + c, *max = t->panel->max + t->c + c;
        vf low0 = vf_load(min), low1 = vf_load(min + 16), high0 = vf_load(max), high1 = vf_load(max + 16);
        vi abs = *bits;
        for (int64_t r = 0; r < t->n; r++) {
            const void *x = patch_row(t, r);
            if (c == 0) prefetch_below(t, x);
#define EACH(v)                                                                                                       \
    const vf x##v = patch_load(full, t, x, c + 16 * v);                                                               \
    abs = vi_max_abs(abs, x##v);                                                                                      \
    low##v = vf_min(x##v, low##v);                                                                                    \
    high##v = vf_max(x##v, high##v);
            EACH(0) EACH(1)
#undef EACH
        }
        *bits = abs;
        vf_store(min, low0);
        vf_store(min + 16, low1);
        vf_store(max, high0);
        vf_store(max + 16, high1);
    }
}

static void read_patch(const patch *t, vi *bits) {
    const bool full = t->c + 64 <= t->panel->width;
    if (t->plan->range == TP_RANGE_MINMAX) {
        if (full)
            extremes_of(true, t, bits);
        else
            extremes_of(false, t, bits);
    } else {
        if (full)
            magnitudes_of(true, t);
        else
            magnitudes_of(false, t);
    }
}

static __attribute__((noinline, cold)) void encode_patch_row_exactly(const patch *t, int64_t r, uint8_t *codes) {
    exact v;
    for (int i = 0; i < 64; i += 16) vf_store(v.x + i, patch_load(false, t, patch_row(t, r), i));
    memcpy(v.scale, t->panel->scale + t->c, sizeof v.scale);
    memcpy(v.zero, t->panel->zero + t->c, sizeof v.zero);
    encode_exactly(t->plan, &v, codes);
}

/* direct: codes are whole cache lines of the output. */
INLINE void encode_patch_to(bool full, bool direct, const patch *t, uint8_t *to, int64_t stride) {
    const encoder e = encoder_of(t->plan);
#define EACH(v) const coder coder##v = column_coder(t->plan, t->panel, t->c / 16 + v);
    EACH(0) EACH(1) EACH(2) EACH(3)
#undef EACH
    for (int64_t r = 0; r < t->n; r++, to += stride) {
        const void *x = patch_row(t, r);
        prefetch_below(t, x);
#define EACH(v) const vf x##v = patch_load(full, t, x, 16 * v);
        EACH(0) EACH(1) EACH(2) EACH(3)
#undef EACH
        vb codes;
        if (!encode64(&e, x0, x1, x2, x3, &coder0, &coder1, &coder2, &coder3, &codes)) {
            uint8_t bytes[64];
            encode_patch_row_exactly(t, r, bytes);
            codes = vb_load(bytes);
        }
        if (direct)
            vb_stream(to, codes);
        else
            vb_store(to, codes);
    }
}

static void encode_patch(const patch *t, uint8_t *out) {
    const tp_plan *p = t->plan;
    const int64_t column = t->panel->column + t->c, width = smaller(64, t->panel->width - t->c);
    uint8_t *to = out + tp_code_index(p, column, t->r);
    if (!p->four_bits && width == 64 && p->out_stride % 64 == 0 && (uintptr_t)to % 64 == 0) {
        encode_patch_to(true, true, t, to, p->out_stride);
        return;
    }
    uint8_t codes[ABREAST * TP_PANEL] __attribute__((aligned(64)));
    if (width == 64)
        encode_patch_to(true, false, t, codes, TP_PANEL);
    else
        encode_patch_to(false, false, t, codes, TP_PANEL);
    write_codes(p, column, width, t->r, codes, t->n, out);
}

static bool has_whole_columns(const tp_plan *p) {
    return p->in_type == TP_F32 && p->groups == 1 && p->padded == p->length && !p->code_lines && !p->clip_steps;
}

static tp_status quantize_whole_columns(const tp_plan *p, int64_t begin, int64_t end, const void *in, void *codes,
                                        float *scales, uint8_t *zeros) {
    bool fits = true;
    vi bits = vi_zero();
    panel q;
    patch t = {.plan = p, .panel = &q, .in = in};
    for (int64_t column = begin; column < end; column += WIDE) {
        set_panel(p, &q, column, 0, end, WIDE);
        for (t.r = 0; t.r < q.height && p->range != TP_SCALES_GIVEN; t.r += ABREAST) {
            t.n = smaller(ABREAST, q.height - t.r);
            for (t.c = 0; t.c < q.width; t.c += 64) read_patch(&t, &bits);
        }
        for (int64_t v = 0; v < q.width; v += 16) bits = vi_max(bits, vi_of_bits(vf_load(q.max + v)));
        fits &= scale_panel(p, &q, NULL, scales, zeros);
        /* From the last rows up: those may still be in a cache. */
        for (int64_t left = q.height; left > 0; left = t.r) {
            t.r = (left - 1) / ABREAST * ABREAST;
            t.n = left - t.r;
            for (t.c = 0; t.c < q.width; t.c += 64) encode_patch(&t, codes);
        }
    }
    return vi_hmax(bits) >= TP_INF_BITS ? TP_ERR_NONFINITE : fits ? TP_OK : TP_ERR_SCALE;
}
