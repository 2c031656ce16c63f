/*
 * Part of vector.h: quantizes lines that are columns, in panels of TP_PANEL columns, one group high, which are copied to
 * scratch: the rows of a panel lie far apart, often by a power of two, and would push each other out of the caches between
 * the pass for the range and the one for the codes.
 */

/* A page of f32. */
enum { WIDE = 1024 };

/*
 * A panel: one group of up to TP_PANEL columns, or WIDE where no scratch is needed, with the range, scale and zero point
 * of each. Columns that it does not have count as zero, up to a multiple of TP_PANEL.
 */
typedef struct panel {
    int64_t column, width, group;
    int64_t start, height; /* its first row and number of rows */
    int64_t padded;        /* rows of codes */
    float min[WIDE], max[WIDE], scale[WIDE], zero[WIDE];
} panel;

INLINE coder column_coder(const tp_plan *p, const panel *q, int64_t v) {
    return coder_of(p, vf_load(q->scale + 16 * v), vf_load(q->zero + 16 * v));
}

static __attribute__((noinline, cold)) void encode_row_exactly(const tp_plan *p, const panel *q, const float *x, uint8_t *codes) {
    exact v;
    memcpy(v.x, x, sizeof v.x);
    memcpy(v.scale, q->scale, sizeof v.scale);
    memcpy(v.zero, q->zero, sizeof v.zero);
    encode_exactly(p, &v, codes);
}

/* Codes of a row of a panel. */
INLINE vb encode_row(const encoder *e, const panel *q, const coder *k0, const coder *k1, const coder *k2,
                     const coder *k3, const float *x) {
    vb codes;
    if (encode64(e, vf_load(x), vf_load(x + 16), vf_load(x + 32), vf_load(x + 48), k0, k1, k2, k3, &codes)) return codes;
    uint8_t bytes[64];
    encode_row_exactly(e->plan, q, x, bytes);
    return vb_load(bytes);
}

/* n rows on their way: from the tile of one panel to codes, from the input of the next panel to the tile. */
typedef struct step {
    const tp_plan *plan;
    const panel *before;
    panel *now;
    const void *in;
    int64_t n;
    float *tile;
    uint8_t *codes;
    int64_t code_stride;
    bool direct; /* codes are whole cache lines of the output */
    const void *far[TILE]; /* rows to prefetch */
    vi bits;
} step;

/* Encodes the tile, if asked, and in the same loop reads the next panel into it: memory never waits for arithmetic. */
INLINE void step_of(tp_dtype type, bool signs, bool encodes, bool full, step *s) {
    panel *q = s->now;
    const int64_t stride = s->plan->in_stride;
    const encoder e = encoder_of(s->plan);
#define EACH(v)                                                                                                       \
    vf low##v = vf_load(q->min + 16 * v), high##v = vf_load(q->max + 16 * v);                                         \
    vi abs##v = vi_of_bits(high##v);                                                                                  \
    const coder coder##v = column_coder(s->plan, s->before, v);
    EACH(0) EACH(1) EACH(2) EACH(3)
#undef EACH
    for (int64_t r = 0; r < s->n; r++) {
        const void *x = at(s->in, type, r * stride);
        float *tile = s->tile + r * TP_PANEL;
        for (int64_t b = 0; b < TP_PANEL * tp_size_of(type); b += 64) prefetch_far(s->far[r], b);
        if (encodes) {
            uint8_t *to = s->codes + r * s->code_stride;
            const vb codes = encode_row(&e, s->before, &coder0, &coder1, &coder2, &coder3, tile);
            if (s->direct)
                vb_stream(to, codes);
            else
                vb_store(to, codes);
        }
#define EACH(v)                                                                                                       \
    {                                                                                                                 \
        const void *xv = at(x, type, 16 * v);                                                                         \
        const vf value = full ? load(type, xv) : load_part(type, xv, q->width - 16 * v);                              \
        vf_store(tile + 16 * v, value);                                                                               \
        abs##v = vi_max_abs(abs##v, value);                                                                           \
        if (signs) {                                                                                                  \
            low##v = vf_min(value, low##v);                                                                           \
            high##v = vf_max(value, high##v);                                                                         \
        }                                                                                                             \
    }
        EACH(0) EACH(1) EACH(2) EACH(3)
#undef EACH
    }
    s->bits = vi_max(s->bits, vi_max(vi_max(abs0, abs1), vi_max(abs2, abs3)));
#define EACH(v)                                                                                                       \
    vf_store(q->min + 16 * v, low##v);                                                                                \
    vf_store(q->max + 16 * v, signs ? high##v : vf_of_bits(abs##v));
    EACH(0) EACH(1) EACH(2) EACH(3)
#undef EACH
}

static void encode_step(const step *s) {
    const encoder e = encoder_of(s->plan);
#define EACH(v) const coder coder##v = column_coder(s->plan, s->before, v);
    EACH(0) EACH(1) EACH(2) EACH(3)
#undef EACH
    for (int64_t r = 0; r < s->n; r++)
        vb_store(s->codes + r * TP_PANEL,
                 encode_row(&e, s->before, &coder0, &coder1, &coder2, &coder3, s->tile + r * TP_PANEL));
}

INLINE void read_step_of(tp_dtype type, step *s) {
    if (s->now->width < TP_PANEL)
        step_of(type, true, false, false, s);
    else if (s->plan->range == TP_RANGE_MINMAX)
        step_of(type, true, false, true, s);
    else
        step_of(type, false, false, true, s);
}

INLINE void both_step_of(tp_dtype type, step *s) {
    if (s->plan->range == TP_RANGE_MINMAX)
        step_of(type, true, true, true, s);
    else
        step_of(type, false, true, true, s);
}

/* Writes elements r .. r + n of each of up to TP_PANEL columns. */
static void write_codes(const tp_plan *p, int64_t column, int64_t width, int64_t r, const uint8_t *codes, int64_t n,
                        uint8_t *out) {
    if (!p->code_lines) {
        for (int64_t i = 0; i < n; i++)
            put_codes(p->four_bits, out, tp_code_index(p, column, r + i), width, codes + i * TP_PANEL);
        return;
    }
    uint8_t lines[TP_PANEL * TILE] __attribute__((aligned(64)));
    for (int64_t i = 0; i < n; i += 16)
        for (int64_t k = 0; k < width; k += 16)
            transpose16(codes + i * TP_PANEL + k, TP_PANEL, lines + k * TILE + i, TILE);
    for (int64_t k = 0; k < width; k++)
        put_codes(p->four_bits, out, tp_code_index(p, column + k, r), n, lines + k * TILE);
}

/*
 * Rows r .. r + TILE of one panel, which has been read, and of the next one, which is to be read into the same place.
 * The panel after that is next.
 */
static void step_panels(const tp_plan *p, panel *before, panel *now, const panel *next, bool up, int64_t r, int64_t n,
                        const void *in, float *scratch, uint8_t *out, vi *bits) {
    uint8_t codes[TILE * TP_PANEL] __attribute__((aligned(64)));
    step s = {.plan = p, .before = before, .now = now, .tile = scratch + r * TP_PANEL, .codes = codes,
              .code_stride = TP_PANEL, .bits = *bits};
    const int64_t written = smaller(n, before->padded - r), encoded = smaller(n, before->height - r);
    const int64_t read = smaller(n, now->height - r);
    /* Panels go down and up by turns, so the next tile is the one above or below, or at this end of the next panel. */
    const int64_t beyond = up ? r - n : r + n;
    const panel *const other = beyond < 0 || beyond >= now->height ? next : now;
    const int64_t first = other == now ? beyond : up ? 0 : (next->height - 1) / n * n;
    if (read > 0) s.in = at(in, p->in_type, tp_in_index(p, now->column, now->start + r));
    for (int64_t i = 0; i < read; i++) {
        const int64_t ahead = i + AHEAD_ROWS;
        const int64_t index = ahead < read ? tp_in_index(p, now->column, now->start + r + ahead)
                                           : tp_in_index(p, other->column, other->start +
                                                             smaller(first + ahead - read, other->height - 1));
        s.far[i] = at(in, p->in_type, index);
    }
    if (encoded == read && now->width == TP_PANEL) {
        uint8_t *to = out + tp_code_index(p, before->column, before->start + r);
        s.direct = !p->four_bits && !p->code_lines && written == encoded && before->width == TP_PANEL &&
                   p->out_stride % 64 == 0 && (uintptr_t)to % 64 == 0;
        if (s.direct) {
            s.codes = to;
            s.code_stride = p->out_stride;
        }
        s.n = read;
        FOR_TYPE(p->in_type, both_step_of, &s);
    } else {
        s.n = encoded;
        encode_step(&s);
        s.n = read;
        FOR_TYPE(p->in_type, read_step_of, &s);
    }
    for (int64_t i = encoded > 0 ? encoded : 0; i < written; i++)
        for (int64_t k = 0; k < before->width; k++) codes[i * TP_PANEL + k] = tp_zero_byte(before->zero[k]);
    if (written > 0 && !s.direct) write_codes(p, before->column, before->width, before->start + r, codes, written, out);
    *bits = s.bits;
}

/* Scales and zero points of a panel that has been read. */
static bool scale_panel(const tp_plan *p, panel *q, const float *tile, float *scales, uint8_t *zeros) {
    bool fits = true;
    for (int64_t v = 0; v < q->width && p->range != TP_SCALES_GIVEN; v += 16) {
        vf s, z;
        scales_of(p, vf_load(q->min + v), vf_load(q->max + v), vf_set(1), &s, &z);
        vf_store(q->scale + v, s);
        vf_store(q->zero + v, z);
        if (p->clip_steps) search_columns(p, tile + v, p->importance ? p->importance + q->start : NULL, q->height, q->min + v, q->max + v, q->scale + v, q->zero + v);
    }
    for (int64_t k = 0; k < q->width; k++) {
        const int64_t i = tp_scale_index(p, q->column + k, q->group);
        if (p->range == TP_SCALES_GIVEN) {
            q->scale[k] = scales[i];
            q->zero[k] = tp_zero_at(p, zeros, i);
        } else {
            fits &= tp_is_finite(q->scale[k]);
            scales[i] = q->scale[k];
            if (zeros) zeros[i] = tp_zero_byte(q->zero[k]);
        }
    }
    return fits;
}

static void set_panel(const tp_plan *p, panel *q, int64_t column, int64_t group, int64_t end, int64_t widest) {
    q->column = column;
    q->width = smaller(widest, end - column);
    q->group = group;
    q->start = group * p->group;
    q->height = smaller(p->group, p->length - q->start);
    q->padded = group == p->groups - 1 ? p->padded - q->start : q->height;
    for (int64_t k = 0; k < (q->width + TP_PANEL - 1) / TP_PANEL * TP_PANEL; k++) {
        q->min[k] = q->max[k] = q->zero[k] = 0;
        q->scale[k] = 1;
    }
}

/* Along the rows where codes lie along rows, so that cache lines of codes are completed; else down the columns. */
static bool next_panel(const tp_plan *p, panel *next, const panel *q, int64_t begin, int64_t end) {
    int64_t column = q->column, group = q->group;
    if (p->code_lines) {
        if (++group == p->groups) group = 0, column += TP_PANEL;
    } else {
        if ((column += TP_PANEL) >= end) column = begin, group++;
    }
    const bool more = column < end && group < p->groups;
    if (more) set_panel(p, next, column, group, end, TP_PANEL);
    return more;
}

/*
 * While a panel is read, the one before it is encoded from the same scratch: so memory is read and written at the same
 * time. Going down and up by turns finds the end of the scratch still in cache, and the pages of these rows in the TLB.
 */
static tp_status quantize_columns(const tp_plan *p, int64_t begin, int64_t end, const void *in, void *codes,
                                  float *scales, uint8_t *zeros, float *scratch) {
    bool fits = true, more = begin < end && p->groups > 0;
    vi bits = vi_zero();
    bool up = false;
    panel panels[3] = {{.padded = 0}}, *before = &panels[0], *now = &panels[1], *next = &panels[2];
    if (more) set_panel(p, now, begin, 0, end, TP_PANEL);
    while (more || before->padded) {
        const bool reading = more;
        if (!reading) now->height = now->padded = 0;
        const int64_t rows = before->padded > now->height ? before->padded : now->height;
        more = reading && next_panel(p, next, now, begin, end);
        for (int64_t k = 0; k < rows; k += TILE)
            step_panels(p, before, now, more ? next : now, up, up ? (rows - 1) / TILE * TILE - k : k, TILE, in, scratch,
                        codes, &bits);
        up = !up;
        if (reading) fits &= scale_panel(p, now, scratch, scales, zeros);
        panel *const written = before;
        before = now;
        now = next;
        next = written;
    }
    const bool finite = p->range == TP_SCALES_GIVEN || vi_hmax(bits) < TP_INF_BITS;
    return !finite ? TP_ERR_NONFINITE : fits ? TP_OK : TP_ERR_SCALE;
}
