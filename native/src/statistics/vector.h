/*
 * The loops of the vector tiers. A tier's file defines vectors of LANES floats, `vf`, the same lanes in f64, `vd`, and how many VECTORS
 * of channels have room in the registers.
 */
#define UNROLL _Pragma("GCC unroll 4")

/* So many vectors of channels, or one of which the first n count. What is known has room for all lanes. */
INLINE void observe(const int vectors, const int64_t n, int64_t rows, int64_t stride, const char *x, float *min, float *max, double *sum,
                    double *squares) {
    vf least[VECTORS], most[VECTORS];
    vd s[VECTORS], q[VECTORS];
    UNROLL for (int v = 0; v < vectors; v++) {
        least[v] = v_load(min + v * LANES);
        most[v] = v_load(max + v * LANES);
        s[v] = vd_load(sum + v * LANES);
        q[v] = vd_load(squares + v * LANES);
    }
    for (int64_t r = 0; r < rows; r++, x += stride * 4) {
        UNROLL for (int v = 0; v < vectors; v++) {
            const vf e = n < LANES ? v_load_some(x, n) : v_load(x + v * LANES * 4);
            const vd d = vd_of(e);
            least[v] = v_min(e, least[v]);
            most[v] = v_max(e, most[v]);
            s[v] = vd_add(s[v], d);
            q[v] = vd_fma(d, d, q[v]);
        }
    }
    UNROLL for (int v = 0; v < vectors; v++) {
        v_store(min + v * LANES, least[v]);
        v_store(max + v * LANES, most[v]);
        vd_store(sum + v * LANES, s[v]);
        vd_store(squares + v * LANES, q[v]);
    }
}

/* Fewer channels than lanes. */
static void observe_some(int64_t n, int64_t rows, int64_t stride, const char *x, float *min, float *max, double *sum, double *squares) {
    float least[LANES] = {0}, most[LANES] = {0};
    double s[LANES] = {0}, q[LANES] = {0};
    const size_t floats = (size_t)n * sizeof *min, doubles = (size_t)n * sizeof *sum;
    memcpy(least, min, floats);
    memcpy(most, max, floats);
    memcpy(s, sum, doubles);
    memcpy(q, squares, doubles);
    observe(1, n, rows, stride, x, least, most, s, q);
    memcpy(min, least, floats);
    memcpy(max, most, floats);
    memcpy(sum, s, doubles);
    memcpy(squares, q, doubles);
}

tp_status TP_VARIANT(observe_channels)(int64_t rows, int64_t channels, int64_t stride, int64_t begin, int64_t end, const void *x, float *min,
                                       float *max, double *sum, double *squares, int64_t *nonfinite) {
    const char *from = x;
    int64_t c = begin;
    for (; end - c >= VECTORS * LANES; c += VECTORS * LANES)
        observe(VECTORS, LANES, rows, stride, from + 4 * c, min + c, max + c, sum + c, squares + c);
    for (; end - c >= LANES; c += LANES) observe(1, LANES, rows, stride, from + 4 * c, min + c, max + c, sum + c, squares + c);
    if (c < end) observe_some(end - c, rows, stride, from + 4 * c, min + c, max + c, sum + c, squares + c);
    /* A sum of f32 in f64 stays finite for as long as its terms are. */
    bool finite = true;
    for (c = begin; c < end; c++) finite &= fabs(sum[c]) < (double)INFINITY;
    if (!finite) *nonfinite = tp_first_nonfinite(rows, channels, stride, begin, end, x);
    return TP_OK;
}

/* Elements that follow each other are often in the same bin, and are counted apart, lest one waits for the other. */
enum { APART = 4, COUNTED = 1 << 30 };

static void add_counts(uint32_t (*part)[TP_STATISTICS_BINS], int64_t *counts) {
    for (int b = 0; b < TP_STATISTICS_BINS; b++)
        for (int p = 0; p < APART; p++) counts[b] += part[p][b];
    memset(part, 0, APART * sizeof *part);
}

tp_status TP_VARIANT(observe_histogram)(int64_t rows, int64_t channels, int64_t stride, int64_t begin, int64_t end, const void *x, float width,
                                        int64_t *counts) {
    (void)rows;
    uint32_t part[APART][TP_STATISTICS_BINS] = {{0}};
    const vf per_width = v_set(1 / width), low = v_set(-TP_STATISTICS_BINS / 2), high = v_set(TP_STATISTICS_BINS / 2 - 1);
    int64_t counted = 0;
    for (int64_t r = begin; r < end; r++) {
        const char *row = (const char *)x + r * stride * 4;
        int64_t c = 0;
        for (; channels - c >= LANES; c += LANES) {
            int32_t bins[LANES];
            v_store_i32(bins, v_min(v_max(v_floor(v_mul(v_load(row + 4 * c), per_width)), low), high));
            for (int l = 0; l < LANES; l++) part[l % APART][bins[l] + TP_STATISTICS_BINS / 2]++;
            counted += LANES;
            if (counted >= COUNTED) {
                add_counts(part, counts);
                counted = 0;
            }
        }
        for (; c < channels; c++) counts[tp_bin_of(tp_load(TP_F32, row, c), 1 / width)]++;
    }
    add_counts(part, counts);
    return TP_OK;
}

tp_status TP_VARIANT(accumulate)(int64_t rows, int64_t cols, int64_t in_stride, int64_t out_stride, int64_t begin, int64_t end, const float *in,
                                 double *out) {
    (void)rows;
    for (int64_t r = begin; r < end; r++) {
        const float *from = in + r * in_stride;
        double *to = out + r * out_stride;
        int64_t c = 0;
        for (; cols - c >= LANES; c += LANES) vd_store(to + c, vd_add(vd_load(to + c), vd_of(v_load(from + c))));
        for (; c < cols; c++) to[c] += (double)from[c];
    }
    return TP_OK;
}

/* Positions that are gone through together: for one element of the window they are neighbours in the image, most often. */
enum { TOGETHER = 16 };

tp_status TP_VARIANT(patches)(const tp_window *w, int64_t begin, int64_t end, const void *image, float *out) {
    const int64_t columns = tp_window_columns(w), length = w->channels * w->kernel_height * w->kernel_width;
    for (int64_t first = begin; first < end; first += TOGETHER) {
        const int64_t n = end - first < TOGETHER ? end - first : TOGETHER;
        int64_t top[TOGETHER], left[TOGETHER], lowest = INT64_MAX, highest = INT64_MIN, leftmost = INT64_MAX, rightmost = INT64_MIN;
        for (int64_t p = 0; p < n; p++) {
            top[p] = (first + p) / columns * w->stride_height - w->before_height;
            left[p] = (first + p) % columns * w->stride_width - w->before_width;
            lowest = top[p] < lowest ? top[p] : lowest;
            highest = top[p] > highest ? top[p] : highest;
            leftmost = left[p] < leftmost ? left[p] : leftmost;
            rightmost = left[p] > rightmost ? left[p] : rightmost;
        }
        float *to = out + (first - begin) * length;
        for (int64_t c = 0; c < w->channels; c++) {
            for (int64_t i = 0; i < w->kernel_height; i++) {
                const int64_t down = i * w->dilation_height;
                for (int64_t j = 0; j < w->kernel_width; j++, to++) {
                    const int64_t across = j * w->dilation_width, at = (c * w->height + down) * w->width + across;
                    if (lowest + down >= 0 && highest + down < w->height && leftmost + across >= 0 && rightmost + across < w->width) {
                        for (int64_t p = 0; p < n; p++)
                            memcpy(to + p * length, (const char *)image + 4 * (at + top[p] * w->width + left[p]), 4);
                        continue;
                    }
                    for (int64_t p = 0; p < n; p++) {
                        const int64_t y = top[p] + down, x = left[p] + across;
                        const bool inside = y >= 0 && y < w->height && x >= 0 && x < w->width;
                        to[p * length] = inside ? tp_load(TP_F32, image, at + top[p] * w->width + left[p]) : 0;
                    }
                }
            }
        }
    }
    return TP_OK;
}
