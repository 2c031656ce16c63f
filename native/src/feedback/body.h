/*
 * The loops of the vector tiers. A tier's file defines vectors of LANES floats, `vf`, and masks of them, `vm`. Columns are taken some
 * vectors at a time, so that what their elements have changed by stays in the nearest cache while the block is gone through.
 */
enum { VECTORS = 8 };

#define UNROLL _Pragma("GCC unroll 8")

/* The sums over l < i of row[l] change[l], of vectors whole ones, or of one of which some lanes count. */
INLINE void sums(vf *sum, const int vectors, const bool some, vm lanes, int64_t i, const float *row, const float *change, int64_t stride) {
    UNROLL for (int v = 0; v < vectors; v++) sum[v] = v_set(0);
    for (int64_t l = 0; l < i; l++) {
        const vf factor = v_set(row[l]);
        const float *const from = change + l * stride;
        UNROLL for (int v = 0; v < vectors; v++) sum[v] = v_fma(factor, some ? v_load_some(from, lanes) : v_load(from + v * LANES), sum[v]);
    }
}

/* vectors whole ones, or one of which the first n lanes count. */
INLINE void columns(const tp_feedback *spec, const int vectors, const bool some, int64_t n, int64_t j, const float *m, const float *w,
                    const float *outside, const int32_t *groups, const float *scales, const float *zeros, float *e, float *change,
                    int32_t *moved) {
    const vm lanes = v_first(some ? n : 0);
    const vf qmin = v_set((float)spec->qmin), qmax = v_set((float)spec->qmax), none = v_set(0);
    vi count[VECTORS];
    UNROLL for (int v = 0; v < vectors; v++) count[v] = vi_zero();
    for (int64_t i = 0; i < spec->inputs; i++) {
        const float *const row = m + i * spec->m_stride;
        const int64_t at = i * spec->stride + j, group = groups[i] * spec->scale_stride + j;
        vf sum[VECTORS];
        sums(sum, vectors, some, lanes, i, row, change + j, spec->stride);
        UNROLL for (int v = 0; v < vectors; v++) {
            const int64_t o = at + v * LANES, g = group + v * LANES;
#define LOAD(p) (some ? v_load_some(p, lanes) : v_load(p))
            const vf x = LOAD(w + o), before = LOAD(e + o), z = zeros ? LOAD(zeros + g) : none;
            const vf s = some ? v_or_one(LOAD(scales + g), lanes) : v_load(scales + g);
            vf t = v_add(x, v_add(LOAD(outside + o), sum[v]));
            if (spec->keep_zeros) t = v_zero_where_zero(x, t);
            vf q = v_add(v_round(v_div(t, s)), z);
            q = v_min(v_max(q, qmin), qmax);
            const vf after = v_sub(x, v_mul(v_sub(q, z), s));
            count[v] = vi_count(count[v], before, after);
            if (some) {
                v_store_some(e + o, lanes, after);
                v_store_some(change + o, lanes, v_sub(after, before));
            } else {
                v_store(e + o, after);
                v_store(change + o, v_sub(after, before));
            }
#undef LOAD
        }
    }
    if (some) {
        int32_t counts[LANES];
        vi_store(counts, count[0]);
        for (int64_t l = 0; l < n; l++) moved[j + l] += counts[l];
        return;
    }
    UNROLL for (int v = 0; v < vectors; v++) vi_store(moved + j + v * LANES, vi_add(vi_load(moved + j + v * LANES), count[v]));
}

tp_status TP_VARIANT(feedback_round)(const tp_feedback *spec, int64_t begin, int64_t end, const float *m, const float *w,
                                     const float *outside, const int32_t *groups, const float *scales, const float *zeros, float *e,
                                     float *change, int32_t *moved) {
    int64_t j = begin;
    for (; end - j >= VECTORS * LANES; j += VECTORS * LANES)
        columns(spec, VECTORS, false, LANES, j, m, w, outside, groups, scales, zeros, e, change, moved);
    for (; end - j >= LANES; j += LANES)
        columns(spec, 1, false, LANES, j, m, w, outside, groups, scales, zeros, e, change, moved);
    if (j < end) columns(spec, 1, true, end - j, j, m, w, outside, groups, scales, zeros, e, change, moved);
    return TP_OK;
}

INLINE void refit_columns(const tp_refit *spec, const int vectors, const bool some, int64_t n, int64_t j, const float *m, const float *w,
                          const float *outside, const uint8_t *mask, float *e, float *change) {
    const vm lanes = v_first(some ? n : 0);
    for (int64_t i = 0; i < spec->inputs; i++) {
        const int64_t at = i * spec->stride + j;
        const uint8_t *const bits = mask + i * spec->mask_stride + j / 8;
        vf sum[VECTORS];
        sums(sum, vectors, some, lanes, i, m + i * spec->m_stride, change + j, spec->stride);
        UNROLL for (int v = 0; v < vectors; v++) {
            const int64_t o = at + v * LANES;
#define LOAD(p) (some ? v_load_some(p, lanes) : v_load(p))
            const vf best = v_sub(v_set(0), v_add(LOAD(outside + o), sum[v]));
            const vf after = v_choose(v_bits(bits + v * LANES / 8, n), best, LOAD(w + o)), moved = v_sub(after, LOAD(e + o));
#undef LOAD
            if (some) {
                v_store_some(e + o, lanes, after);
                v_store_some(change + o, lanes, moved);
            } else {
                v_store(e + o, after);
                v_store(change + o, moved);
            }
        }
    }
}

tp_status TP_VARIANT(feedback_refit)(const tp_refit *spec, int64_t begin, int64_t end, const float *m, const float *w,
                                     const float *outside, const uint8_t *mask, float *e, float *change) {
    int64_t j = begin;
    for (; end - j >= VECTORS * LANES; j += VECTORS * LANES)
        refit_columns(spec, VECTORS, false, LANES, j, m, w, outside, mask, e, change);
    for (; end - j >= LANES; j += LANES) refit_columns(spec, 1, false, LANES, j, m, w, outside, mask, e, change);
    if (j < end) refit_columns(spec, 1, true, end - j, j, m, w, outside, mask, e, change);
    return TP_OK;
}
