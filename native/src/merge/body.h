/* The kernels in vectors, for files that define LANES doubles. What is left at the end of a range, and what turns out not to be finite, is done one by one. */

/* Elements whose noise is made at once, in whole blocks of it. */
enum { PIECE = 128, BLOCKS = PIECE / 4 };

INLINE const char *element(tp_dtype type, const void *p, int64_t i) { return (const char *)p + i * tp_size_of(type); }

INLINE bool combine_vectors(tp_dtype type, int32_t sources, int vectors, int64_t i, const void *const *in, const double *weights, void *out) {
    vd sum[4];
    for (int v = 0; v < vectors; v++) sum[v] = vd_mul(vd_set(weights[0]), vd_load(type, element(type, in[0], i + v * LANES)));
    for (int32_t j = 1; j < sources; j++) {
        const vd weight = vd_set(weights[j]);
        const char *const from = element(type, in[j], i);
        for (int v = 0; v < vectors; v++) sum[v] = vd_add(sum[v], vd_mul(weight, vd_load(type, element(type, from, v * LANES))));
    }
    bool finite = true;
    for (int v = 0; v < vectors; v++) finite &= vd_fits(type, sum[v]);
    for (int v = 0; finite && v < vectors; v++) vd_store(type, (char *)element(type, out, i + v * LANES), sum[v]);
    return finite;
}

INLINE tp_status combine(tp_dtype type, const tp_models *s, int64_t begin, int64_t end, const void *const *in, const double *weights, void *out) {
    for (int64_t i = begin, n; i < end; i += n) {
        n = end - i >= 4 * LANES ? 4 * LANES : end - i < LANES ? end - i : LANES;
        const bool done = n == 4 * LANES ? combine_vectors(type, s->sources, 4, i, in, weights, out)
                                         : n == LANES && combine_vectors(type, s->sources, 1, i, in, weights, out);
        const tp_status status = done ? TP_OK : tp_combine_range(s, i, i + n, in, weights, out);
        if (status) return status;
    }
    return TP_OK;
}

tp_status TP_VARIANT(models_combine)(const tp_models *s, int64_t begin, int64_t end, const void *const *in, const double *weights, void *out) {
    return s->type == TP_F32   ? combine(TP_F32, s, begin, end, in, weights, out)
           : s->type == TP_F16 ? combine(TP_F16, s, begin, end, in, weights, out)
                               : combine(TP_BF16, s, begin, end, in, weights, out);
}

INLINE void inner(tp_dtype type, const void *a, const void *b, int64_t from, int64_t to, double partial[3][16]) {
    vd sums[3][16 / LANES];
    for (int k = 0; k < 3; k++)
        for (int v = 0; v < 16 / LANES; v++) sums[k][v] = vd_set(0);
    int64_t i = from;
    for (; to - i >= 16; i += 16)
        for (int v = 0; v < 16 / LANES; v++) {
            const vd x = vd_load(type, element(type, a, i + v * LANES)), y = vd_load(type, element(type, b, i + v * LANES));
            sums[0][v] = vd_add(sums[0][v], vd_mul(x, y));
            sums[1][v] = vd_add(sums[1][v], vd_mul(x, x));
            sums[2][v] = vd_add(sums[2][v], vd_mul(y, y));
        }
    for (int k = 0; k < 3; k++)
        for (int v = 0; v < 16 / LANES; v++) vd_put(partial[k] + v * LANES, sums[k][v]);
    for (int l = 0; i < to; i++, l++) tp_inner_term(type, a, b, i, l, partial);
}

tp_status TP_VARIANT(models_inner)(const tp_models *s, int64_t begin, int64_t end, const void *const *in, double *sums) {
    for (int64_t b = begin; b < end; b++) {
        double partial[3][16];
        const int64_t from = b * TP_MERGE_BLOCK, to = s->elements - from < TP_MERGE_BLOCK ? s->elements : from + TP_MERGE_BLOCK;
        if (s->type == TP_F32) inner(TP_F32, in[0], in[1], from, to, partial);
        else if (s->type == TP_F16) inner(TP_F16, in[0], in[1], from, to, partial);
        else inner(TP_BF16, in[0], in[1], from, to, partial);
        const tp_status status = tp_inner_finish(partial, sums + 3 * b);
        if (status) return status;
    }
    return TP_OK;
}

INLINE tp_status delta(tp_dtype type, const tp_models *s, int64_t begin, int64_t end, const void *const *in, float *out) {
    for (int64_t i = begin, n; i < end; i += n) {
        n = end - i < LANES ? end - i : LANES;
        const bool whole = n == LANES;
        const vd d = whole ? vd_sub(vd_load(type, element(type, in[0], i)), vd_load(type, element(type, in[1], i))) : vd_set(NAN);
        if (vd_all(vd_less(vd_abs(d), vd_set(INFINITY)))) {
            vd_store(TP_F32, (char *)(out + i), d);
            continue;
        }
        const tp_status status = tp_delta_range(s, i, i + n, in, out);
        if (status) return status;
    }
    return TP_OK;
}

tp_status TP_VARIANT(models_delta)(const tp_models *s, int64_t begin, int64_t end, const void *const *in, float *out) {
    return s->type == TP_F32   ? delta(TP_F32, s, begin, end, in, out)
           : s->type == TP_F16 ? delta(TP_F16, s, begin, end, in, out)
                               : delta(TP_BF16, s, begin, end, in, out);
}

/* Words of the noise, from a block on. */
static void noise(const tp_tasks *s, int32_t task, int64_t block, uint32_t *words) {
    uint32_t w0[BLOCKS], w1[BLOCKS], w2[BLOCKS], w3[BLOCKS];
    for (int b = 0; b < BLOCKS; b++)
        tp_philox(s->seed, s->stream + (uint64_t)task, (uint64_t)(block + b), w0 + b, w1 + b, w2 + b, w3 + b);
    for (int b = 0; b < BLOCKS; b++) {
        words[4 * b] = w0[b];
        words[4 * b + 1] = w1[b];
        words[4 * b + 2] = w2[b];
        words[4 * b + 3] = w3[b];
    }
}

/* A vector of results; false if something about it is not finite. */
INLINE bool tasks_vector(tp_dtype type, const tp_tasks *s, int64_t i, const void *const *in, const double *weights, const float *thresholds,
                         const uint32_t (*words)[PIECE], int at, void *out) {
    const vd base = vd_load(type, element(type, in[s->sources], i)), zero = vd_set(0), infinite = vd_set(INFINITY);
    vd parts[TP_MERGE_MOST], sum = zero;
    bool finite = true;
    for (int32_t j = 0; j < s->sources; j++) {
        vd d = vd_sub(vd_load(type, element(type, in[j], i)), base);
        finite &= vd_all(vd_less(vd_abs(d), infinite));
        if (s->drop == TP_DROP_SMALL) d = vd_select(vd_less(vd_abs(vd_round(d)), vd_set((double)thresholds[j])), zero, d);
        if (s->drop == TP_DROP_RANDOM)
            d = vd_div(vd_select(vd_less(vd_of_words(words[j] + at), vd_set(s->keep * 0x1p32)), d, zero), vd_set(s->keep));
        parts[j] = vd_mul(vd_set(weights[j]), d);
        sum = vd_add(sum, parts[j]);
    }
    if (!finite) return false;
    if (s->elect) {
        const vm negative = vd_less(sum, zero);
        vd of = sum = zero;
        for (int32_t j = 0; j < s->sources; j++) {
            /* Turned round where the sum is negative, so that all that are elected are positive. */
            const vm elected = vd_less(zero, vd_select(negative, vd_sub(zero, parts[j]), parts[j]));
            sum = vd_add(sum, vd_select(elected, parts[j], zero));
            of = vd_add(of, vd_select(elected, vd_set(weights[j]), zero));
        }
        sum = vd_select(vd_less(zero, of), vd_div(sum, of), zero);
    }
    const vd result = vd_select(vd_equal(sum, zero), base, vd_add(base, vd_mul(vd_set(s->scale), sum)));
    if (!vd_fits(type, result)) return false;
    vd_store(type, (char *)element(type, out, i), result);
    return true;
}

INLINE tp_status tasks(tp_dtype type, const tp_tasks *s, int64_t begin, int64_t end, const void *const *in, const double *weights,
                       const float *thresholds, void *out) {
    uint32_t words[TP_MERGE_MOST][PIECE];
    for (int64_t i = begin, stop; i < end; i = stop) {
        /* Pieces begin with a block of noise, but for the first. */
        const int before = (int)((s->first + i) % 4);
        stop = end - i < PIECE - before ? end : i + PIECE - before;
        for (int32_t j = 0; s->drop == TP_DROP_RANDOM && j < s->sources; j++) noise(s, j, (s->first + i) / 4, words[j]);
        for (int64_t k = i, n; k < stop; k += n) {
            n = stop - k < LANES ? stop - k : LANES;
            if (n == LANES && tasks_vector(type, s, k, in, weights, thresholds, (const uint32_t(*)[PIECE])words, (int)(k - i) + before, out)) continue;
            const tp_status status = tp_tasks_range(s, k, k + n, in, weights, thresholds, out);
            if (status) return status;
        }
    }
    return TP_OK;
}

tp_status TP_VARIANT(models_tasks)(const tp_tasks *s, int64_t begin, int64_t end, const void *const *in, const double *weights,
                                   const float *thresholds, void *out) {
    return s->type == TP_F32   ? tasks(TP_F32, s, begin, end, in, weights, thresholds, out)
           : s->type == TP_F16 ? tasks(TP_F16, s, begin, end, in, weights, thresholds, out)
                               : tasks(TP_BF16, s, begin, end, in, weights, thresholds, out);
}
