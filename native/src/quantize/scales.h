/* Part of vector.h: scales and zero points of groups, and the clip search. */

/* As tp_scale, for 16 groups with min <= 0 <= max. */
INLINE void scales_of(const tp_plan *p, vf min, vf max, vf ratio, vf *scale, vf *zero) {
    const vf divisor = vf_set(p->divisor), amax = vf_max(vf_sub(vf_set(0), min), max);
    const bool signs = p->range == TP_RANGE_MINMAX;
    vf s = signs ? vf_sub(vf_div(vf_mul(max, ratio), divisor), vf_div(vf_mul(min, ratio), divisor))
                 : vf_div(vf_mul(amax, ratio), divisor);
    s = vf_max(s, vf_set(FLT_MIN));
    if (p->power_of_two) s = vf_of_bits(vi_and(vi_add(vi_of_bits(s), vi_set(0x7fffff)), vi_set(TP_INF_BITS)));
    s = vf_if_zero(amax, vf_set(1), s);
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

/* Adds to a run the squares of 16 errors, each times its importance where that is asked for. */
INLINE vf add_squares(bool counts, vf run, vf x, vf importance, vf inverse, vf low, vf high) {
    const vf t = vf_mul(x, inverse);
    const vf e = vf_sub(t, vf_round(vf_min(vf_max(t, low), high)));
    return vf_add(run, counts ? vf_mul(vf_mul(e, e), importance) : vf_mul(e, e));
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
INLINE void search_run16(bool counts, search *s, int i, const void *x, const float *importance, int64_t n) {
    const vf inverse = vf_load(s->inverse + i), low = vf_load(s->low + i), high = vf_load(s->high + i);
    vf run = vf_set(0);
    for (int64_t k = 0; k < n; k++)
        run = add_squares(counts, run, vf_set(tp_load(TP_F32, x, k)), vf_set(counts ? importance[k] : 0), inverse, low, high);
    vd_store(s->sum + i, vd_add(vd_load(s->sum + i), vd_of(run)));
}

/* Adds to the squares of 8 steps. */
INLINE __m256 add_squares8(bool counts, __m256 run, __m256 x, __m256 importance, __m256 inverse, __m256 low, __m256 high) {
    const __m256 t = _mm256_mul_ps(x, inverse);
    const __m256 e = _mm256_sub_ps(t, _mm256_round_ps(_mm256_min_ps(_mm256_max_ps(t, low), high), _MM_FROUND_TO_NEAREST_INT));
    const __m256 square = _mm256_mul_ps(e, e);
    return _mm256_add_ps(run, counts ? _mm256_mul_ps(square, importance) : square);
}

/*
 * The same for 8 steps, or for 24 in one loop, which waits less for sums: with 20 steps, say, a second full vector would
 * mostly go to waste.
 */
INLINE void search_run8(bool counts, bool and16, search *s, int i, const void *x, const float *importance, int64_t n) {
    const int j = and16 ? i + 16 : i;
    const __m256 inverse = _mm256_loadu_ps(s->inverse + j);
    const __m256 low = _mm256_loadu_ps(s->low + j), high = _mm256_loadu_ps(s->high + j);
    const vf inverse16 = vf_load(s->inverse + i), low16 = vf_load(s->low + i), high16 = vf_load(s->high + i);
    __m256 run = _mm256_setzero_ps();
    vf run16 = vf_set(0);
    for (int64_t k = 0; k < n; k++) {
        const float v = tp_load(TP_F32, x, k), m = counts ? importance[k] : 0;
        if (and16) run16 = add_squares(counts, run16, vf_set(v), vf_set(m), inverse16, low16, high16);
        run = add_squares8(counts, run, _mm256_set1_ps(v), _mm256_set1_ps(m), inverse, low, high);
    }
    float runs[8];
    _mm256_storeu_ps(runs, run);
    for (int k = 0; k < 8; k++) s->sum[j + k] += runs[k];
    if (and16) vd_store(s->sum + i, vd_add(vd_load(s->sum + i), vd_of(run16)));
}

/* Adds a run of elements to all steps. */
INLINE void search_run(bool counts, search *s, const void *x, const float *importance, int64_t n) {
    int i = 0;
    for (; i + 24 < s->steps || (i + 8 < s->steps && i + 16 >= s->steps); i += 16) search_run16(counts, s, i, x, importance, n);
    if (i + 16 < s->steps)
        search_run8(counts, true, s, i, x, importance, n);
    else if (i < s->steps)
        search_run8(counts, false, s, i, x, importance, n);
}

/* n elements of one line, and their importance or null. */
static void search_add(const tp_plan *p, search *s, const void *in, const float *importance, int64_t n) {
    float copy[256];
    for (int64_t start = 0; start < n; start += 256) {
        const int64_t run = smaller(256, n - start);
        const void *x = at(in, TP_F32, start);
        if (p->in_type != TP_F32) {
            for (int64_t k = 0; k < run; k += 16)
                vf_store(copy + k, load_part(p->in_type, at(in, p->in_type, start + k), run - k));
            x = copy;
        }
        if (importance)
            search_run(true, s, x, importance + start, run);
        else
            search_run(false, s, x, NULL, run);
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

/* Clip search for 16 columns of a tile, whose rows count by importance if there is any. The lanes are the columns. */
INLINE void search_columns_of(bool counts, const tp_plan *p, const float *tile, const float *importance, int64_t n, const float *min,
                              const float *max, float *scale, float *zero) {
    double best[16] = {0};
    for (int step = 0; step < p->clip_steps; step++) {
        vf s, z;
        scales_of(p, vf_load(min), vf_load(max), vf_set(tp_ratio(p, step)), &s, &z);
        const vf inverse = vf_div(vf_set(1), s), low = vf_sub(vf_set(p->qmin), z), high = vf_sub(vf_set(p->qmax), z);
        vd sum = vd_zero();
        for (int64_t start = 0; start < n; start += 256) {
            vf run = vf_set(0);
            for (int64_t r = start; r < smaller(start + 256, n); r++)
                run = add_squares(counts, run, vf_load(tile + r * TP_PANEL), vf_set(counts ? importance[r] : 0), inverse, low, high);
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

static void search_columns(const tp_plan *p, const float *tile, const float *importance, int64_t n, const float *min, const float *max,
                           float *scale, float *zero) {
    if (importance)
        search_columns_of(true, p, tile, importance, n, min, max, scale, zero);
    else
        search_columns_of(false, p, tile, NULL, n, min, max, scale, zero);
}
