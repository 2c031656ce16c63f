/* Part of vector.h: what looks at elements without groups. */

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
