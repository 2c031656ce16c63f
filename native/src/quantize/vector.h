/*
 * The quantize kernels for vector tiers. A tier's file defines 16 lanes of f32 (vf), i32 (vi) and f64 (vd), the few
 * operations on them that are used here, INLINE and TP_VARIANT, and then includes this file. Every tier thus does the
 * same operations on the same lanes, and results differ from ref.c in nothing.
 *
 * Lines that are rows go through sixteen groups at a time: ranges, scales, codes. Lines that are columns go in panels
 * of TP_PANEL columns, one group high, which are copied to scratch: the rows of a panel lie far apart, often by a
 * power of two, and would push each other out of the caches between the pass for the range and the one for the codes.
 */

/* Distance of software prefetches: the hardware's stop at page boundaries, and do not see the next row of a panel. */
enum { AHEAD_BYTES = 1024, AHEAD_ROWS = 24 };

/* Groups of a row that are taken together, and rows of a panel. */
enum { BATCH = 16, TILE = 64 };

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Addresses past the end are harmless: a prefetch reads nothing that the program could notice. */
INLINE void prefetch(const void *p, int64_t bytes) {
    _mm_prefetch((const char *)((uintptr_t)p + (uintptr_t)bytes), _MM_HINT_T0);
}

/* To L2, for what would push current data out of L1, or would be pushed out itself: rows of a panel share few sets. */
INLINE void prefetch_far(const void *p, int64_t bytes) {
    _mm_prefetch((const char *)((uintptr_t)p + (uintptr_t)bytes), _MM_HINT_T1);
}

INLINE const void *at(const void *p, tp_dtype type, int64_t i) { return (const char *)p + i * tp_size_of(type); }

INLINE vf load(tp_dtype type, const void *p) {
    return type == TP_F32 ? vf_load(p) : type == TP_F16 ? vf_load_f16(p) : vf_load_bf16(p);
}

/* The first n elements, and zeros. */
INLINE vf load_part(tp_dtype type, const void *p, int64_t n) {
    if (n >= 16) return load(type, p);
    if (n <= 0) return vf_set(0);
    return type == TP_F32 ? vf_load_part(p, n) : type == TP_F16 ? vf_load_f16_part(p, n) : vf_load_bf16_part(p, n);
}

INLINE vf decode(bool is_signed, const uint8_t *code, vf scale, vf zero) {
    return vf_mul(vf_sub(is_signed ? vf_of_i8(code) : vf_of_u8(code), zero), scale);
}

static bool is_signed(const tp_plan *p) { return p->out_type == TP_I8 || p->out_type == TP_I4; }

/* Calls f with type as a constant, so that a loop is compiled once per type. */
#define FOR_TYPE(type, f, ...)                                                                                        \
    do {                                                                                                              \
        if ((type) == TP_F32)                                                                                         \
            f(TP_F32, __VA_ARGS__);                                                                                   \
        else if ((type) == TP_F16)                                                                                    \
            f(TP_F16, __VA_ARGS__);                                                                                   \
        else                                                                                                          \
            f(TP_BF16, __VA_ARGS__);                                                                                  \
    } while (0)

/* ---- packed codes ---- */

/* 32 codes to 16 bytes. */
INLINE __m128i pack32(const uint8_t *codes) {
    const __m256i x = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)codes), _mm256_set1_epi8(15));
    /* first + 16 * second in each pair */
    const __m256i pairs = _mm256_maddubs_epi16(x, _mm256_set1_epi16(0x1001));
    const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packus_epi16(pairs, pairs), 0xd8);
    return _mm256_castsi256_si128(bytes);
}

INLINE void pack_pairs(const uint8_t *codes, int64_t n, uint8_t *packed) {
    int64_t i = 0;
    for (; i + 32 <= n; i += 32) _mm_storeu_si128((__m128i *)(packed + i / 2), pack32(codes + i));
    for (; i + 2 <= n; i += 2) packed[i / 2] = (uint8_t)((codes[i] & 15) | codes[i + 1] << 4);
}

INLINE void unpack32(bool sign, const uint8_t *packed, uint8_t *codes) {
    const __m128i x = _mm_loadu_si128((const __m128i *)packed), mask = _mm_set1_epi8(15);
    __m128i low = _mm_and_si128(x, mask), high = _mm_and_si128(_mm_srli_epi16(x, 4), mask);
    if (sign) {
        const __m128i eight = _mm_set1_epi8(8);
        low = _mm_sub_epi8(_mm_xor_si128(low, eight), eight);
        high = _mm_sub_epi8(_mm_xor_si128(high, eight), eight);
    }
    _mm_storeu_si128((__m128i *)codes, _mm_unpacklo_epi8(low, high));
    _mm_storeu_si128((__m128i *)(codes + 16), _mm_unpackhi_epi8(low, high));
}

/* Codes i .. i + n of a tensor, one to a byte. */
static void get_codes(tp_dtype type, const uint8_t *codes, int64_t i, int64_t n, uint8_t *to) {
    if (n == 0) return;
    if (type == TP_I8 || type == TP_U8) {
        memcpy(to, codes + i, (size_t)n);
        return;
    }
    int64_t k = 0;
    if (i % 2) to[k++] = tp_nibble(type, codes, i);
    for (; k + 32 <= n; k += 32) unpack32(type == TP_I4, codes + (i + k) / 2, to + k);
    for (; k < n; k++) to[k] = tp_nibble(type, codes, i + k);
}

/* Writes n codes to places i .. i + n of a tensor. */
static void put_codes(bool four_bits, uint8_t *codes, int64_t i, int64_t n, const uint8_t *from) {
    if (n == 0) return;
    if (!four_bits) {
        if (n == 64 && (uintptr_t)(codes + i) % 64 == 0)
            vb_stream(codes + i, vb_load(from));
        else
            memcpy(codes + i, from, (size_t)n);
        return;
    }
    int64_t k = 0;
    if (i % 2) tp_put_shared_nibble(codes, i, from[k++]);
    pack_pairs(from + k, n - k, codes + (i + k) / 2);
    if ((n - k) % 2) tp_put_shared_nibble(codes, i + n - 1, from[n - 1]);
}

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

/* ---- scales ---- */

/* As tp_scale, for 16 groups with min <= 0 <= max. */
INLINE void scales_of(const tp_plan *p, vf min, vf max, vf ratio, vf *scale, vf *zero) {
    const vf divisor = vf_set(p->divisor), amax = vf_max(vf_sub(vf_set(0), min), max);
    const bool signs = p->range == TP_RANGE_MINMAX;
    vf s = signs ? vf_sub(vf_div(vf_mul(max, ratio), divisor), vf_div(vf_mul(min, ratio), divisor))
                 : vf_div(vf_mul(amax, ratio), divisor);
    s = vf_if_zero(amax, vf_set(1), vf_max(s, vf_set(FLT_MIN)));
    if (p->scale_type == TP_F16)
        s = vf_max(vf_of_f16_bits(f16_bits_of(s)), vf_set(0x1p-24f));
    else if (p->scale_type == TP_BF16)
        s = vf_of_bf16_bits(bf16_bits_of(s));
    *scale = s;
    *zero = vf_set(p->zero);
    if (signs) {
        const vf z = vf_sub(vf_set(p->qmin), vf_div(vf_mul(min, ratio), s));
        *zero = vf_round(vf_min(vf_max(z, vf_set(p->qmin)), vf_set(p->qmax)));
    }
}

/* What a squared error in units of the scale is worth. A scale that is not representable loses against any other. */
INLINE double weighted(double sum, float scale) {
    return tp_is_finite(scale) ? sum * ((double)scale * scale) : (double)tp_float(TP_INF_BITS);
}

/* Adds to a run the squares of 16 errors. */
INLINE vf add_squares(vf run, vf x, vf inverse, vf low, vf high) {
    const vf t = vf_mul(x, inverse);
    const vf e = vf_sub(t, vf_round(vf_min(vf_max(t, low), high)));
    return vf_add(run, vf_mul(e, e));
}

/* Clip search for one group. The lanes are the steps: elements come one after another, as in ref.c. */
typedef struct search {
    int steps;
    float ratio[64], scale[64], zero[64], inverse[64], low[64], high[64];
    double sum[64];
} search;

static void search_init(const tp_plan *p, search *s) {
    s->steps = p->clip_steps;
    for (int i = 0; i < 64; i++) s->ratio[i] = tp_ratio(p, i < s->steps ? i : 0);
}

INLINE void search_start(const tp_plan *p, search *s, float min, float max) {
    for (int i = 0; i < s->steps; i += 16) {
        vf scale, zero;
        scales_of(p, vf_set(min), vf_set(max), vf_load(s->ratio + i), &scale, &zero);
        vf_store(s->scale + i, scale);
        vf_store(s->zero + i, zero);
        vf_store(s->inverse + i, vf_div(vf_set(1), scale));
        vf_store(s->low + i, vf_sub(vf_set(p->qmin), zero));
        vf_store(s->high + i, vf_sub(vf_set(p->qmax), zero));
        vd_store(s->sum + i, vd_zero());
    }
    /* Lanes past the last step never win. */
    for (int i = s->steps; i % 16; i++) s->sum[i] = (double)tp_float(TP_INF_BITS);
}

/* Adds a run of elements to 16 steps from i. */
INLINE void search_run16(search *s, int i, const void *x, int64_t n) {
    const vf inverse = vf_load(s->inverse + i), low = vf_load(s->low + i), high = vf_load(s->high + i);
    vf run = vf_set(0);
    for (int64_t k = 0; k < n; k++) run = add_squares(run, vf_set(tp_load(TP_F32, x, k)), inverse, low, high);
    vd_store(s->sum + i, vd_add(vd_load(s->sum + i), vd_of(run)));
}

/* Adds to the squares of 8 steps. */
INLINE __m256 add_squares8(__m256 run, __m256 x, __m256 inverse, __m256 low, __m256 high) {
    const __m256 t = _mm256_mul_ps(x, inverse);
    const __m256 e = _mm256_sub_ps(t, _mm256_round_ps(_mm256_min_ps(_mm256_max_ps(t, low), high), _MM_FROUND_TO_NEAREST_INT));
    return _mm256_add_ps(run, _mm256_mul_ps(e, e));
}

/*
 * The same for 8 steps, or for 24 in one loop, which waits less for sums: with 20 steps, say, a second full vector would
 * mostly go to waste.
 */
INLINE void search_run8(bool and16, search *s, int i, const void *x, int64_t n) {
    const int j = and16 ? i + 16 : i;
    const __m256 inverse = _mm256_loadu_ps(s->inverse + j);
    const __m256 low = _mm256_loadu_ps(s->low + j), high = _mm256_loadu_ps(s->high + j);
    const vf inverse16 = vf_load(s->inverse + i), low16 = vf_load(s->low + i), high16 = vf_load(s->high + i);
    __m256 run = _mm256_setzero_ps();
    vf run16 = vf_set(0);
    for (int64_t k = 0; k < n; k++) {
        const float v = tp_load(TP_F32, x, k);
        if (and16) run16 = add_squares(run16, vf_set(v), inverse16, low16, high16);
        run = add_squares8(run, _mm256_set1_ps(v), inverse, low, high);
    }
    float runs[8];
    _mm256_storeu_ps(runs, run);
    for (int k = 0; k < 8; k++) s->sum[j + k] += runs[k];
    if (and16) vd_store(s->sum + i, vd_add(vd_load(s->sum + i), vd_of(run16)));
}

/* n elements of one line. */
static void search_add(const tp_plan *p, search *s, const void *in, int64_t n) {
    float copy[256];
    for (int64_t start = 0; start < n; start += 256) {
        const int64_t run = smaller(256, n - start);
        const void *x = at(in, TP_F32, start);
        if (p->in_type != TP_F32) {
            for (int64_t k = 0; k < run; k += 16)
                vf_store(copy + k, load_part(p->in_type, at(in, p->in_type, start + k), run - k));
            x = copy;
        }
        int i = 0;
        for (; i + 24 < s->steps || (i + 8 < s->steps && i + 16 >= s->steps); i += 16) search_run16(s, i, x, run);
        if (i + 16 < s->steps)
            search_run8(true, s, i, x, run);
        else if (i < s->steps)
            search_run8(false, s, i, x, run);
    }
}

/* The first of the smallest. An infinite scale gives infinity or NaN here, which no other error loses to. */
static void search_end(const search *s, float *scale, float *zero) {
    double error[64];
    vd best = vd_infinite();
    for (int i = 0; i < s->steps; i += 16) {
        const vd unit = vd_of(vf_load(s->scale + i)), e = vd_mul(vd_load(s->sum + i), vd_mul(unit, unit));
        vd_store(error + i, e);
        best = vd_min(e, best);
    }
    const double smallest = vd_hmin(best);
    /* No loop that ends at the first: it would be mispredicted nearly always. */
    uint64_t equal = UINT64_C(1) << 63;
    for (int i = 0; i < s->steps; i += 16) equal |= (uint64_t)vd_equal(vd_load(error + i), smallest) << i;
    int first = __builtin_ctzll(equal);
    first = first < s->steps && error[first] == smallest ? first : 0;
    *scale = s->scale[first];
    *zero = s->zero[first];
}

/* ---- codes ---- */

/*
 * A code is the upper half of the fixed-point number  u = rint(x * (2^16 / s) + (z + bias + 1/2) * 2^16 + 4),  the
 * multiplication and addition rounded once; bias makes codes of signed types unsigned. That is round(t) + z + bias,
 * where t is what encode_exactly() computes, unless t is nearly a tie. Take |t| < 256, beyond which codes are clamped with
 * certainty. Then u is below 2^24, where floats are spaced by 1 at most, so the two roundings add up to less than 1.
 * x * (2^16 / s) and t * 2^16 each have a relative error of 2^-24 (or none) against the quotient, so they differ by
 * less than 2^8 * 2^-23 * 2^16 = 2. Hence u - 4 is within 3 of the true number; if the lower half of u is 8 or more,
 * both have the same upper half, and t is no tie. Else, once in 8000 times, the 64 codes are computed exactly.
 * Infinities, NaN and numbers that do not fit become INT32_MIN, whose lower half is 0, and so are sent there as well.
 */
typedef struct coder {
    vf factor, offset;
} coder;

typedef struct encoder {
    const tp_plan *plan;
    vb low, high, bias;
} encoder;

INLINE float bias_of(const tp_plan *p) { return is_signed(p) ? 128 : 0; }

INLINE encoder encoder_of(const tp_plan *p) {
    const float bias = bias_of(p);
    return (encoder){p, vb_set((uint8_t)(p->qmin + bias)), vb_set((uint8_t)(p->qmax + bias)), vb_set((uint8_t)bias)};
}

INLINE coder coder_of(const tp_plan *p, vf scale, vf zero) {
    /* The inverse times 2^16 is exact, or infinite; of a scale whose inverse is denormal, it is not 2^16 / s. */
    const vf unit = vf_set(0x1p16f);
    return (coder){p->divide ? vf_div(unit, scale) : vf_mul(vf_div(vf_set(1), scale), unit),
                   vf_add(vf_mul(vf_add(zero, vf_set(bias_of(p) + 0.5f)), unit), vf_set(4))};
}

/* False if the codes must be computed exactly. */
INLINE bool encode64(const encoder *e, vf x0, vf x1, vf x2, vf x3, const coder *k0, const coder *k1, const coder *k2,
                     const coder *k3, vb *codes) {
    const vi a = vi_of(vf_fma(x0, k0->factor, k0->offset)), b = vi_of(vf_fma(x1, k1->factor, k1->offset));
    const vi c = vi_of(vf_fma(x2, k2->factor, k2->offset)), d = vi_of(vf_fma(x3, k3->factor, k3->offset));
    *codes = vb_xor(vb_clamp(vb_of_upper_halves(a, b, c, d), e->low, e->high), e->bias);
    return __builtin_expect(!any_low_half_below_8(a, b, c, d), true);
}

/* 64 values with scale and zero point of each. */
typedef struct exact {
    float x[64], scale[64], zero[64];
} exact;

static __attribute__((noinline, cold)) void encode_exactly(const tp_plan *p, const exact *v, uint8_t *codes) {
    for (int i = 0; i < 64; i += 16) {
        const vf x = vf_load(v->x + i), scale = vf_load(v->scale + i), zero = vf_load(v->zero + i);
        const vf t = vf_nan_to_zero(p->divide ? vf_div(x, scale) : vf_mul(x, vf_div(vf_set(1), scale)));
        const vf low = vf_sub(vf_set(p->qmin), zero), high = vf_sub(vf_set(p->qmax), zero);
        vi_store_bytes(codes + i, vi_add(vi_of(vf_min(vf_max(t, low), high)), vi_of(zero)));
    }
}

/* ---- lines that are rows ---- */

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
            for (int64_t b = 0; b < 32 * tp_size_of(type); b += 64) prefetch_far(next, i / 2 * tp_size_of(type) + b);
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
                for (int64_t b = 0; b < 32 * tp_size_of(type); b += 64)
                    prefetch_far(next, (n + first + i) / 2 * tp_size_of(type) + b);
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
            search_add(p, &s, at(in, p->in_type, line * p->in_stride), p->length);
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
                    search_add(p, &clip, at(x, p->in_type, k * p->group), smaller(p->group, n - k * p->group));
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

/* ---- lines that are columns ---- */

/*
 * A panel: one group of up to 64 columns, with the range, scale and zero point of each. Columns that it does not have
 * count as zero.
 */
typedef struct panel {
    int64_t column, width, group;
    int64_t start, height; /* its first row and number of rows */
    int64_t padded;        /* rows of codes */
    float min[TP_PANEL], max[TP_PANEL], scale[TP_PANEL], zero[TP_PANEL];
} panel;

/* Transposes 16 x 16 bytes. */
INLINE void transpose16(const uint8_t *from, int64_t from_stride, uint8_t *to, int64_t to_stride) {
    __m128i a[16], b[16];
    for (int i = 0; i < 16; i++) a[i] = _mm_loadu_si128((const __m128i *)(from + i * from_stride));
    /* Four perfect shuffles of the rows, each interleaving a half with the other, exchange row and column numbers. */
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 8; i++) {
            b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + 8]);
            b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + 8]);
        }
        for (int i = 0; i < 16; i++) a[i] = b[i];
    }
    for (int i = 0; i < 16; i++) _mm_storeu_si128((__m128i *)(to + i * to_stride), a[i]);
}

/* Clip search for 16 columns of a tile. The lanes are the columns. */
static void search_columns(const tp_plan *p, const float *tile, int64_t n, const float *min, const float *max,
                           float *scale, float *zero) {
    double best[16] = {0};
    for (int step = 0; step < p->clip_steps; step++) {
        vf s, z;
        scales_of(p, vf_load(min), vf_load(max), vf_set(tp_ratio(p, step)), &s, &z);
        const vf inverse = vf_div(vf_set(1), s), low = vf_sub(vf_set(p->qmin), z), high = vf_sub(vf_set(p->qmax), z);
        vd sum = vd_zero();
        for (int64_t start = 0; start < n; start += 256) {
            vf run = vf_set(0);
            for (int64_t r = start; r < smaller(start + 256, n); r++)
                run = add_squares(run, vf_load(tile + r * TP_PANEL), inverse, low, high);
            sum = vd_add(sum, vd_of(run));
        }
        float scales[16], zeros[16];
        double sums[16];
        vf_store(scales, s);
        vf_store(zeros, z);
        vd_store(sums, sum);
        for (int k = 0; k < 16; k++) {
            const double error = weighted(sums[k], scales[k]);
            if (step == 0 || error < best[k]) {
                best[k] = error;
                scale[k] = scales[k];
                zero[k] = zeros[k];
            }
        }
    }
}

INLINE coder column_coder(const tp_plan *p, const panel *q, int v) {
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

/* Writes elements r .. r + n of each column. */
static void write_codes(const tp_plan *p, const panel *q, const uint8_t *codes, int64_t r, int64_t n, uint8_t *out) {
    if (!p->code_lines) {
        for (int64_t i = 0; i < n; i++)
            put_codes(p->four_bits, out, tp_code_index(p, q->column, q->start + r + i), q->width,
                      codes + i * TP_PANEL);
        return;
    }
    uint8_t lines[TP_PANEL * TILE] __attribute__((aligned(64)));
    for (int64_t i = 0; i < n; i += 16)
        for (int64_t k = 0; k < q->width; k += 16)
            transpose16(codes + i * TP_PANEL + k, TP_PANEL, lines + k * TILE + i, TILE);
    for (int64_t k = 0; k < q->width; k++)
        put_codes(p->four_bits, out, tp_code_index(p, q->column + k, q->start + r), n, lines + k * TILE);
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
    if (written > 0 && !s.direct) write_codes(p, before, codes, r, written, out);
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
        if (p->clip_steps) search_columns(p, tile + v, q->height, q->min + v, q->max + v, q->scale + v, q->zero + v);
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

static void set_panel(const tp_plan *p, panel *q, int64_t column, int64_t group, int64_t end) {
    q->column = column;
    q->width = smaller(TP_PANEL, end - column);
    q->group = group;
    q->start = group * p->group;
    q->height = smaller(p->group, p->length - q->start);
    q->padded = group == p->groups - 1 ? p->padded - q->start : q->height;
    for (int k = 0; k < TP_PANEL; k++) {
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
    if (more) set_panel(p, next, column, group, end);
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
    if (more) set_panel(p, now, begin, 0, end);
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

tp_status TP_VARIANT(quantize)(const tp_plan *p, int64_t begin, int64_t end, const void *in, void *codes,
                               float *scales, uint8_t *zeros, void *scratch) {
    const tp_status status = p->by_column ? quantize_columns(p, begin, end, in, codes, scales, zeros, scratch)
                                          : quantize_rows(p, begin, end, in, codes, scales, zeros);
    _mm_sfence();
    tp_end_nibbles(p, end, codes);
    return status;
}

/* ---- decoding ---- */

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

/* ---- errors ---- */

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

/* ---- whole matrices ---- */

INLINE void minmax_of(tp_dtype type, const tp_plan *p, int64_t begin, int64_t end, const void *in, vf *min, vf *max,
                      vi *bits) {
    vf low = *min, high = *max;
    vi abs = *bits;
    for (int64_t r = begin; r < end; r++) {
        const void *x = at(in, type, r * p->in_stride);
        int64_t i = 0;
        for (; i + 16 <= p->cols; i += 16) {
            const vf v = load(type, at(x, type, i));
            prefetch(at(x, type, i), AHEAD_BYTES);
            abs = vi_max_abs(abs, v);
            low = vf_min(v, low);
            high = vf_max(v, high);
        }
        for (; i < p->cols; i++) {
            const vf v = vf_set(tp_load(type, x, i));
            abs = vi_max_abs(abs, v);
            low = vf_min(v, low);
            high = vf_max(v, high);
        }
    }
    *min = low;
    *max = high;
    *bits = abs;
}

tp_status TP_VARIANT(minmax)(const tp_plan *p, int64_t begin, int64_t end, const void *in, float *min, float *max) {
    vf low = vf_set(tp_float(TP_INF_BITS)), high = vf_set(-tp_float(TP_INF_BITS));
    vi bits = vi_zero();
    FOR_TYPE(p->in_type, minmax_of, p, begin, end, in, &low, &high, &bits);
    *min = vf_hmin(low) + 0.0f;
    *max = vf_hmax(high) + 0.0f;
    return vi_hmax(bits) >= TP_INF_BITS ? TP_ERR_NONFINITE : TP_OK;
}

/* Whether n elements hold NaN or infinity. */
INLINE void find_nonfinite_of(tp_dtype type, const void *in, int64_t n, bool *found) {
    vi abs = vi_zero();
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        prefetch(at(in, type, i), AHEAD_BYTES);
        abs = vi_max_abs(abs, load(type, at(in, type, i)));
    }
    if (i < n) abs = vi_max_abs(abs, load_part(type, at(in, type, i), n - i));
    *found = vi_hmax(abs) >= TP_INF_BITS;
}

tp_status TP_VARIANT(find_nonfinite)(const tp_plan *p, const void *in, int64_t *row, int64_t *col) {
    for (int64_t r = 0; r < p->rows; r++) {
        const void *x = at(in, p->in_type, r * p->in_stride);
        bool found;
        FOR_TYPE(p->in_type, find_nonfinite_of, x, p->cols, &found);
        if (!found) continue;
        int64_t c = 0;
        while (tp_is_finite(tp_load(p->in_type, x, c))) c++;
        *row = r;
        *col = c;
        break;
    }
    return TP_OK;
}

/* ---- element by element ---- */

tp_status TP_VARIANT(pack4)(const uint8_t *codes, int64_t n, uint8_t *packed) {
    pack_pairs(codes, n, packed);
    if (n % 2) packed[n / 2] = codes[n - 1] & 15;
    return TP_OK;
}

tp_status TP_VARIANT(unpack4)(tp_dtype type, const uint8_t *packed, int64_t n, uint8_t *codes) {
    get_codes(type, packed, 0, n, codes);
    return TP_OK;
}

INLINE void convert_to(tp_dtype to, vf x, void *out) {
    if (to == TP_F32)
        vf_store(out, x);
    else
        _mm256_storeu_si256(out, to == TP_F16 ? f16_bits_of(x) : bf16_bits_of(x));
}

INLINE void convert_of(tp_dtype from, tp_dtype to, const void *in, int64_t n, void *out) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) convert_to(to, load(from, at(in, from, i)), (char *)out + i * tp_size_of(to));
    if (i < n) {
        uint32_t last[16];
        convert_to(to, load_part(from, at(in, from, i), n - i), last);
        memcpy((char *)out + i * tp_size_of(to), last, (size_t)((n - i) * tp_size_of(to)));
    }
}

INLINE void convert_from(tp_dtype from, const void *in, int64_t n, tp_dtype to, void *out) {
    if (to == TP_F32)
        convert_of(from, TP_F32, in, n, out);
    else if (to == TP_F16)
        convert_of(from, TP_F16, in, n, out);
    else
        convert_of(from, TP_BF16, in, n, out);
}

tp_status TP_VARIANT(convert)(tp_dtype from, const void *in, int64_t n, tp_dtype to, void *out) {
    FOR_TYPE(from, convert_from, in, n, to, out);
    return TP_OK;
}
