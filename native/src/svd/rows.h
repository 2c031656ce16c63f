/* Norms and copies of rows. */

enum { PARTS = 16 };

typedef float floats8 __attribute__((vector_size(32)));
typedef int32_t ints8 __attribute__((vector_size(32)));
typedef double doubles8 __attribute__((vector_size(64)));

INLINE bool row_norm(tp_dtype type, int64_t n, const void *row, double *sum, double *largest) {
    double sums[PARTS] = {0}, most[PARTS] = {0}, odd[PARTS] = {0};
    int64_t i = 0;
    if (type == TP_F32) {
        /* Squares of f32 cannot overflow: NaN and infinity end up in the sums. Magnitudes are in the order of their bits. */
        doubles8 sum[2] = {{0}, {0}};
        ints8 top[2] = {{0}, {0}};
        for (; i + PARTS <= n; i += PARTS) {
            for (int k = 0; k < 2; k++) {
                floats8 x;
                memcpy(&x, (const char *)row + 4 * (i + 8 * k), sizeof x);
                const ints8 a = (ints8)x & 0x7fffffff, more = a > top[k];
                top[k] = (a & more) | (top[k] & ~more);
                const doubles8 wide = __builtin_convertvector(x, doubles8);
                sum[k] += wide * wide;
            }
        }
        for (int k = 0; k < PARTS; k++) {
            sums[k] = sum[k / 8][k % 8];
            odd[k] = sums[k] - sums[k];
            most[k] = ((floats8)top[k / 8])[k % 8];
        }
    }
    for (; i + PARTS <= n; i += PARTS) {
        for (int k = 0; k < PARTS; k++) {
            const double x = at(type, row, i + k), a = fabs(x);
            sums[k] += x * x;
            most[k] = a > most[k] ? a : most[k];
            odd[k] += x - x; /* NaN if x is not finite */
        }
    }
    for (; i < n; i++) {
        const double x = at(type, row, i), a = fabs(x);
        sums[i % PARTS] += x * x;
        most[i % PARTS] = a > most[i % PARTS] ? a : most[i % PARTS];
        odd[i % PARTS] += x - x;
    }
    for (int step = PARTS / 2; step; step /= 2) {
        for (int k = 0; k < step; k++) {
            sums[k] += sums[k + step];
            most[k] = most[k] > most[k + step] ? most[k] : most[k + step];
            odd[k] += odd[k + step];
        }
    }
    *sum = sums[0];
    *largest = most[0];
    return odd[0] == 0;
}

tp_status TP_VARIANT(row_norms)(tp_dtype type, int64_t cols, int64_t stride, int64_t begin, int64_t end,
                                const void *in, double *sums, double *largest) {
    bool finite = true;
    for (int64_t i = begin; i < end; i++) {
        const void *row = element(type, in, i * stride);
        if (type == TP_F64)
            finite &= row_norm(TP_F64, cols, row, sums + i, largest + i);
        else
            finite &= row_norm(TP_F32, cols, row, sums + i, largest + i);
    }
    return finite ? TP_OK : TP_ERR_NONFINITE;
}

tp_status TP_VARIANT(row_peaks)(int64_t cols, int64_t stride, int64_t begin, int64_t end, const double *in, double *peaks) {
    for (int64_t i = begin; i < end; i++) {
        const double *row = in + i * stride;
        double sum, largest;
        row_norm(TP_F64, cols, row, &sum, &largest);
        int64_t j = 0;
        while (j < cols && fabs(row[j]) != largest) j++;
        peaks[i] = j < cols ? row[j] : 0;
    }
    return TP_OK;
}

INLINE void copy_typed(const tp_copying *s, tp_dtype from, tp_dtype to, int64_t begin, int64_t end,
                       const int64_t *order, const double *factors, const void *in, void *out) {
    enum { BLOCK = 16 };
    const double factor = s->factor;
    for (int64_t i = begin; i < end; i += BLOCK) {
        const int64_t n = min64(BLOCK, end - i);
        const void *rows[BLOCK];
        double own[BLOCK];
        for (int64_t k = 0; k < n; k++) {
            const int64_t row = order ? order[i + k] : i + k;
            rows[k] = element(from, in, row * s->in_stride);
            own[k] = factors ? factors[row] : 1;
        }
        if (!s->transposed) {
            for (int64_t k = 0; k < n; k++) {
                void *target = (void *)element(to, out, (i + k) * s->out_stride);
                for (int64_t c = 0; c < s->cols; c++) put(to, target, c, at(from, rows[k], c) * own[k] * factor);
            }
        } else {
            for (int64_t c = 0; c < s->cols; c++)
                for (int64_t k = 0; k < n; k++)
                    put(to, out, c * s->out_stride + i + k, at(from, rows[k], c) * own[k] * factor);
        }
    }
}

tp_status TP_VARIANT(copy_rows)(const tp_copying *s, int64_t begin, int64_t end, const int64_t *order,
                                const double *factors, const void *in, void *out) {
    if (s->in_type == TP_F64 && s->out_type == TP_F64)
        copy_typed(s, TP_F64, TP_F64, begin, end, order, factors, in, out);
    else if (s->in_type == TP_F64)
        copy_typed(s, TP_F64, TP_F32, begin, end, order, factors, in, out);
    else if (s->out_type == TP_F64)
        copy_typed(s, TP_F32, TP_F64, begin, end, order, factors, in, out);
    else
        copy_typed(s, TP_F32, TP_F32, begin, end, order, factors, in, out);
    return TP_OK;
}
