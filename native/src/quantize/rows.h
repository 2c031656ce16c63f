/* Part of vector.h: quantizes lines that are rows, sixteen groups at a time: ranges, scales, codes. */

/*
 * Codes of rows on their way to memory. They gather here, so that whatever the lengths of groups and rows, memory is
 * written in whole cache lines past the caches; rows that follow one another without a gap are one run.
 */
typedef struct sink {
    uint8_t *codes;
    bool four_bits;
    int64_t index; /* place of the first code that is held */
    int64_t held;
    uint8_t buffer[8192] __attribute__((aligned(64)));
} sink;

/* A caller of sink_room may write this many codes, and garbage up to a multiple of 64. */
enum { SINK_ROOM = 4096, SINK_FULL = 8192 - SINK_ROOM - 64 };

/* Writes all codes, or (last == false) all but those that start a cache line which is not complete yet. */
static void sink_flush(sink *s, bool last) {
    const int64_t per_byte = s->four_bits ? 2 : 1, per_line = 64 * per_byte;
    int64_t done = 0;
    if (s->four_bits && s->index % 2 && s->held) {
        tp_put_shared_nibble(s->codes, s->index, s->buffer[0]);
        done = 1;
    }
    uint8_t *to = s->codes + (s->index + done) / per_byte;
    const int64_t head = smaller((int64_t)(-(uintptr_t)to % 64) * per_byte, s->held - done);
    put_codes(s->four_bits, s->codes, s->index + done, head, s->buffer + done);
    done += head;
    to = s->codes + (s->index + done) / per_byte;
    for (; done + per_line <= s->held; done += per_line, to += 64) {
        if (s->four_bits) {
            uint8_t line[64] __attribute__((aligned(64)));
            pack_pairs(s->buffer + done, 128, line);
            vb_stream(to, vb_load(line));
        } else {
            vb_stream(to, vb_load(s->buffer + done));
        }
    }
    const int64_t rest = s->held - done;
    if (last) {
        put_codes(s->four_bits, s->codes, s->index + done, rest, s->buffer + done);
        s->held = 0;
    } else {
        memmove(s->buffer, s->buffer + done, (size_t)rest);
        s->index += done;
        s->held = rest;
    }
}

/* The next code goes to this place. */
static void sink_seek(sink *s, int64_t index) {
    if (s->index + s->held == index) return;
    if (s->held) sink_flush(s, true);
    s->index = index;
}

/* Where the next codes go if they start a cache line of the output, so that whole lines need not be held; or null. The
   caller adds their number to s->index. */
INLINE uint8_t *sink_line(const sink *s) {
    uint8_t *line = s->codes + s->index;
    return s->held || s->four_bits || (uintptr_t)line % 64 ? NULL : line;
}

/* Where to put the next codes; the caller adds their number to s->held. */
INLINE uint8_t *sink_room(sink *s) {
    if (s->held > SINK_FULL) sink_flush(s, false);
    return s->buffer + s->held;
}

/* Range of the values of a line, zero included; without signs, only the largest magnitude. */
typedef struct extent {
    vf low, high;
    vi abs; /* as integers, where NaN and infinity are largest */
} extent;

INLINE extent extent_empty(void) { return (extent){vf_set(0), vf_set(0), vi_zero()}; }

INLINE void extent_add(bool signs, extent *e, vf x) {
    e->abs = vi_max_abs(e->abs, x);
    if (signs) {
        e->low = vf_min(x, e->low);
        e->high = vf_max(x, e->high);
    }
}

INLINE void extent_end(bool signs, const extent *e, float *min, float *max, vi *bits) {
    *bits = vi_max(*bits, e->abs);
    *min = signs ? vf_hmin(e->low) : 0;
    *max = signs ? vf_hmax(e->high) : tp_float((uint32_t)vi_hmax(e->abs));
}

/*
 * What 64 elements on their way leave time to fetch of the next row, n elements long: a line of each of two stretches
 * (of halves, there is one). i goes from 0 to n, over half of the row, which starts at half. Of two places at once the
 * hardware reads ahead faster than of one.
 */
INLINE void prefetch_half(tp_dtype type, const char *half, int64_t n, int64_t i) {
    for (int64_t k = 0; k < tp_size_of(type) / 2; k++) prefetch_far(half, k * n + i);
}

/*
 * Smallest and largest value of each group in n elements. The first half of the next row is fetched meanwhile, if there
 * is one, the second while this one is encoded: memory is never idle then, and the fetches are far enough apart not to
 * be in the way of what is read from the caches.
 */
INLINE void ranges_of(tp_dtype type, bool signs, const void *in, int64_t n, int64_t group, const char *next, float *min,
                      float *max, vi *bits) {
    for (int64_t start = 0, k = 0; start < n; start += group, k++) {
        const int64_t length = smaller(group, n - start);
        const void *x = at(in, type, start);
        extent e = extent_empty();
        int64_t i = 0;
        for (; next && i + 64 <= length; i += 64) {
            prefetch_half(type, next, length, i);
            for (int v = 0; v < 64; v += 16) extent_add(signs, &e, load(type, at(x, type, i + v)));
        }
        for (; i < length; i += 16) {
            if (!next) prefetch(at(x, type, i), AHEAD_BYTES);
            extent_add(signs, &e, load_part(type, at(x, type, i), length - i));
        }
        extent_end(signs, &e, &min[k], &max[k], bits);
    }
}

INLINE void ranges_by_sign(tp_dtype type, const tp_plan *p, const void *in, int64_t n, int64_t group, const char *next,
                           float *min, float *max, vi *bits) {
    if (p->range == TP_RANGE_MINMAX)
        ranges_of(type, true, in, n, group, next, min, max, bits);
    else
        ranges_of(type, false, in, n, group, next, min, max, bits);
}

static void ranges(const tp_plan *p, const void *in, int64_t n, int64_t group, const char *next, float *min, float *max,
                   vi *bits) {
    FOR_TYPE(p->in_type, ranges_by_sign, p, in, n, group, next, min, max, bits);
}

/* Encodes 64 elements, of which n exist, each 16 with a coder of their own; direct: to a cache line of the output. */
INLINE void emit64(tp_dtype type, bool full, const encoder *e, const coder *k0, const coder *k1, const coder *k2,
                   const coder *k3, const void *x, int64_t n, const float *const scale[4], const float *const zero[4],
                   bool direct, uint8_t *to) {
#define EACH(v) const vf x##v = full ? load(type, at(x, type, 16 * v)) : load_part(type, at(x, type, 16 * v), n - 16 * v);
    EACH(0) EACH(1) EACH(2) EACH(3)
#undef EACH
    vb codes;
    if (encode64(e, x0, x1, x2, x3, k0, k1, k2, k3, &codes)) {
        if (direct)
            vb_stream(to, codes);
        else
            vb_store(to, codes);
        return;
    }
    exact v;
#define EACH(k)                                                                                                       \
    vf_store(v.x + 16 * k, x##k);                                                                                     \
    vf_store(v.scale + 16 * k, vf_set(*scale[k]));                                                                    \
    vf_store(v.zero + 16 * k, vf_set(*zero[k]));
    EACH(0) EACH(1) EACH(2) EACH(3)
#undef EACH
    encode_exactly(e->plan, &v, to);
}

/* Encodes one group. The second half of the next row is fetched meanwhile, or what follows. */
INLINE void emit_line(tp_dtype type, const tp_plan *p, sink *to, const void *in, int64_t n, const char *next,
                      float scale, float zero) {
    const encoder e = encoder_of(p);
    const coder k = coder_of(p, vf_set(scale), vf_set(zero));
    const float *const scales[4] = {&scale, &scale, &scale, &scale}, *const zeros[4] = {&zero, &zero, &zero, &zero};
    for (int64_t first = 0; first < n; first += SINK_ROOM) {
        const int64_t length = smaller(SINK_ROOM, n - first);
        const void *x = at(in, type, first);
        uint8_t *const line = sink_line(to), *const code = line ? line : sink_room(to);
        int64_t i = 0;
        for (; i + 64 <= length; i += 64) {
            if (next)
                prefetch_half(type, next + n / 2 * tp_size_of(type), n, first + i);
            else
                for (int64_t b = 0; b < 64 * tp_size_of(type); b += 64) prefetch(at(x, type, i), AHEAD_BYTES + b);
            emit64(type, true, &e, &k, &k, &k, &k, at(x, type, i), 64, scales, zeros, line, code + i);
        }
        if (line) to->index += i;
        uint8_t *const rest = line ? sink_room(to) : code + i;
        if (i < length) emit64(type, false, &e, &k, &k, &k, &k, at(x, type, i), length - i, scales, zeros, false, rest);
        to->held += line ? length - i : length;
    }
}

/* Encodes the up to 16 groups of n elements. */
INLINE void emit_groups(tp_dtype type, const tp_plan *p, sink *to, const void *in, int64_t n, int64_t group,
                        const float *scale, const float *zero) {
    const encoder e = encoder_of(p);
    const coder all = coder_of(p, vf_load(scale), vf_load(zero));
    float factor[BATCH], offset[BATCH];
    uint8_t *code = sink_room(to);
    vf_store(factor, all.factor);
    vf_store(offset, all.offset);
    int64_t g = 0, left = group; /* the group of the next 16 elements, and how much of it is left */
    for (int64_t i = 0; i < n; i += 64) {
        const float *scales[4], *zeros[4];
        coder k[4];
        for (int v = 0; v < 4; v++) {
            k[v] = (coder){vf_set(factor[g]), vf_set(offset[g])};
            scales[v] = scale + g;
            zeros[v] = zero + g;
            left -= 16;
            /* Past the end, any group will do. */
            if (left <= 0 && g + 1 < BATCH) g++, left = group;
        }
        const void *x = at(in, type, i);
        if (i + 64 <= n)
            emit64(type, true, &e, &k[0], &k[1], &k[2], &k[3], x, 64, scales, zeros, false, code + i);
        else
            emit64(type, false, &e, &k[0], &k[1], &k[2], &k[3], x, n - i, scales, zeros, false, code + i);
    }
    to->held += n;
}

/* Encodes groups that have been read, or whose scales were given. */
static void emit(const tp_plan *p, sink *to, const void *in, int64_t n, int64_t group, const char *next,
                 const float *scale, const float *zero) {
    if (group >= n)
        FOR_TYPE(p->in_type, emit_line, p, to, in, n, next, *scale, *zero);
    else
        FOR_TYPE(p->in_type, emit_groups, p, to, in, n, group, scale, zero);
}

/* Adds a line of a whole tensor to a search. */
static void search_line(const tp_plan *p, search *s, int64_t line, const void *in) {
    float alike[256];
    if (!p->importance || p->part) {
        search_add(p, s, in, p->importance ? tp_importance_of(p, line) : NULL, p->length);
        return;
    }
    for (int i = 0; i < 256; i++) alike[i] = p->importance[line];
    for (int64_t i = 0; i < p->length; i += 256) search_add(p, s, at(in, p->in_type, i), alike, smaller(256, p->length - i));
}

/* Scale and zero point of a whole tensor. */
static void scale_tensor(const tp_plan *p, const void *in, float *scale, float *zero, vi *bits) {
    float min = 0, max = 0;
    for (int64_t line = 0; line < p->lines; line++) {
        float low = 0, high = 0;
        ranges(p, at(in, p->in_type, line * p->in_stride), p->length, p->length, NULL, &low, &high, bits);
        min = low < min ? low : min;
        max = high > max ? high : max;
    }
    tp_scale(p, min, max, 1, scale, zero);
    if (p->clip_steps) {
        search s;
        search_init(p, &s);
        search_start(p, &s, min, max);
        for (int64_t line = 0; line < p->lines; line++)
            search_line(p, &s, line, at(in, p->in_type, line * p->in_stride));
        search_end(&s, scale, zero);
    }
}

static tp_status quantize_rows(const tp_plan *p, int64_t begin, int64_t end, const void *in, void *codes,
                               float *scales, uint8_t *zeros) {
    const bool given = p->range == TP_SCALES_GIVEN;
    sink to = {.codes = codes, .four_bits = p->four_bits};
    float scale[BATCH] = {0}, zero[BATCH] = {0};
    bool fits = true;
    vi bits = vi_zero();
    search clip;
    if (p->clip_steps) search_init(p, &clip);
    if (p->per_tensor && !given) {
        scale_tensor(p, in, scale, zero, &bits);
        fits = tp_is_finite(scale[0]);
        scales[0] = scale[0];
        if (zeros) zeros[0] = tp_zero_byte(zero[0]);
    }
    for (int64_t line = begin; line < end; line++) {
        const void *row = at(in, p->in_type, line * p->in_stride);
        const bool fetches = p->groups == 1 && !p->per_tensor && !given && line + 1 < end;
        const char *next = fetches ? at(row, p->in_type, p->in_stride) : NULL;
        sink_seek(&to, line * p->out_stride);
        for (int64_t g = 0; g < p->groups; g += BATCH) {
            const int64_t start = g * p->group, n = smaller(BATCH * p->group, p->length - start);
            const int64_t count = smaller(BATCH, p->groups - g), first = tp_scale_index(p, line, g);
            const void *x = at(row, p->in_type, start);
            if (given) {
                for (int64_t k = 0; k < count; k++) {
                    scale[k] = scales[first + k];
                    zero[k] = tp_zero_at(p, zeros, first + k);
                }
            } else if (!p->per_tensor) {
                float min[BATCH] = {0}, max[BATCH] = {0};
                ranges(p, x, n, p->group, next, min, max, &bits);
                vf s, z;
                scales_of(p, vf_load(min), vf_load(max), vf_set(1), &s, &z);
                vf_store(scale, s);
                vf_store(zero, z);
                for (int64_t k = 0; k < count && p->clip_steps; k++) {
                    search_start(p, &clip, min[k], max[k]);
                    search_add(p, &clip, at(x, p->in_type, k * p->group),
                               p->importance ? tp_importance_of(p, line) + start + k * p->group : NULL,
                               smaller(p->group, n - k * p->group));
                    search_end(&clip, &scale[k], &zero[k]);
                }
                for (int64_t k = 0; k < count; k++) {
                    fits &= tp_is_finite(scale[k]);
                    scales[first + k] = scale[k];
                    if (zeros) zeros[first + k] = tp_zero_byte(zero[k]);
                }
            }
            emit(p, &to, x, n, p->group, next, scale, zero);
            if (g + count == p->groups && p->padded > p->length) {
                memset(sink_room(&to), tp_zero_byte(zero[count - 1]), (size_t)(p->padded - p->length));
                to.held += p->padded - p->length;
            }
        }
    }
    sink_flush(&to, true);
    return vi_hmax(bits) >= TP_INF_BITS ? TP_ERR_NONFINITE : fits ? TP_OK : TP_ERR_SCALE;
}
